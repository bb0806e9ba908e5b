//! The rules of the house that no lint knows: who may import whom, where `unsafe` and the time may stand, and what a
//! file may look like. `src/README.md` explains the table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and all that it may use. Read from the bottom up. A wish to add a name is a question of design; the reason
/// goes into `src/README.md`.
const FLOORS: &[(&str, &[&str])] = &[
    ("diag", &[]),
    ("clock", &[]),
    ("data", &["diag", "clock"]),
    ("config", &["diag", "clock"]),
    ("meter", &["clock"]),
    ("sql", &["diag", "data"]),
    ("codec", &["diag", "data"]),
    ("func", &["diag", "data"]),
    ("store", &["diag", "data", "clock", "meter"]),
    ("io", &["diag", "data", "clock", "codec"]),
    ("expr", &["diag", "data", "sql", "func"]),
    ("catalog", &["diag", "data", "sql", "codec", "store"]),
    ("op", &["diag", "data", "sql", "func", "expr"]),
    ("plan", &["diag", "data", "sql", "codec", "func", "expr", "catalog"]),
    ("options", &["diag", "clock", "plan"]),
    ("lint", &["diag", "data", "sql", "plan"]),
    ("plugin", &["diag", "clock", "data", "func", "codec", "io"]),
    ("flow", &["diag", "data", "clock", "codec", "func", "expr", "store", "plan", "op", "io", "meter"]),
    (
        "rule",
        &[
            "diag", "clock", "codec", "config", "data", "sql", "func", "io", "catalog", "plan", "lint", "plugin",
            "store", "flow", "meter", "options",
        ],
    ),
    (
        "case",
        &[
            "diag", "data", "clock", "sql", "codec", "func", "expr", "io", "store", "meter", "catalog", "plan",
            "options", "flow",
        ],
    ),
    ("api", &["diag", "config", "io", "catalog", "plan", "lint", "plugin", "rule", "store", "meter"]),
    ("cli", &["diag", "config", "data", "sql", "func", "catalog", "plan", "lint", "plugin", "case", "rule", "api"]),
    ("main", &["cli"]),
];

/// All that may stand at the top of the repository; the last three are made by tools and not tracked.
const TOP: &[&str] = &[
    ".ci",
    ".gitignore",
    ".rustfmt.toml",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "config",
    "plugins",
    "rules",
    "src",
    "tests",
    ".git",
    "target",
    "data",
];

const LONGEST: usize = 600;

#[test]
fn no_import_runs_upward() {
    let mut wrong = vec![];
    for (floor, (module, allowed)) in FLOORS.iter().enumerate() {
        let below: Vec<&str> = FLOORS[..floor].iter().map(|(module, _)| *module).collect();
        for (file, text) in sources(module) {
            // What a test is made of may come from every floor below.
            let allowed = if in_tests(Path::new(&file)) { &below } else { *allowed };
            // The binary sees the library from outside, by its own name.
            let root = if *module == "main" { "kuiper::" } else { "crate::" };
            for name in text.split(root).skip(1).map(first_word) {
                if name != *module && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{file}: `{module}` must not know `{name}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_import_climbs_out_of_its_module() {
    let tops: BTreeSet<&str> = FLOORS.iter().map(|(module, _)| *module).collect();
    let mut wrong = vec![];
    for (module, _) in FLOORS {
        for (file, text) in sources(module) {
            // `super` from the front file of a module is the crate.
            let depth = Path::new(&file).components().count() - 2;
            let mut rest = text.as_str();
            while let Some(at) = rest.find("super::") {
                rest = &rest[at..];
                let mut climbed = 0;
                while let Some(after) = rest.strip_prefix("super::") {
                    rest = after;
                    climbed += 1;
                }
                let name = first_word(rest);
                if climbed > depth && name != *module && tops.contains(name.as_str()) {
                    wrong.push(format!("{file}: say `crate::{name}`, so that the import is seen"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_and_the_tree_name_the_same_modules() {
    let lib = code(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let named: Vec<&str> = lib.lines().filter_map(|line| line.trim().strip_suffix(';')?.split("mod ").nth(1)).collect();
    let known: Vec<&str> = FLOORS.iter().map(|(module, _)| *module).collect();
    for module in &named {
        assert!(known.contains(module), "`{module}` has no row in the table");
    }
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        let fits = named.contains(&module) || ["lib", "main", "README.md"].contains(&module);
        assert!(fits, "src/{name} belongs to no module");
    }
}

#[test]
fn the_guide_shows_the_table() {
    let guide = fs::read_to_string(root().join("src/README.md")).unwrap();
    let part = guide.split("## Who may know whom").nth(1).unwrap();
    let mut shown = BTreeSet::new();
    for row in part.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [modules, _, allowed] = cells[..] else { continue };
        let allowed: BTreeSet<&str> = allowed.split_whitespace().filter(|name| *name != "–").collect();
        shown.extend(modules.split('`').skip(1).step_by(2).map(|module| (module, allowed.clone())));
    }
    for (module, allowed) in FLOORS.iter().filter(|(module, _)| *module != "main") {
        let row = (*module, allowed.iter().copied().collect());
        assert!(shown.contains(&row), "src/README.md does not say that `{module}` may use {}", allowed.join(" "));
    }
}

#[test]
fn only_known_entries_stand_at_the_top() {
    let mut wrong = vec![];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !TOP.contains(&name.as_str()) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "not in the list of what may stand at the top: {}", wrong.join(", "));
}

#[test]
fn files_are_short_and_stand_beside_their_folders() {
    let mut wrong = vec![];
    for file in rust_files(&[root().join("src"), root().join("plugins"), root().join("tests")]) {
        let shown = show(&file);
        if file.file_name().is_some_and(|name| name == "mod.rs") {
            wrong.push(format!("{shown}: the front file stands beside its folder"));
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        let reason =
            text.lines().take(30).any(|line| line.starts_with("//!") && line.contains("longer than 600 lines"));
        if lines > LONGEST && !reason {
            wrong.push(format!("{shown}: {lines} lines, and its head does not say why it is longer than 600 lines"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut wrong = vec![];
    for file in rust_files(&[root().join("src"), root().join("plugins")]) {
        if in_tests(&file) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for line in without_tests(&code(&text)).lines() {
            if line.contains(".unwrap()") || line.contains(".expect(\"") {
                wrong.push(format!("{}: {}", show(&file), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_plugin_only() {
    let mut wrong = vec![];
    for file in rust_files(&[root().join("src"), root().join("tests")]) {
        let shown = show(&file);
        // The last is what plugins were written against once.
        if shown.starts_with("src/plugin") || shown == "tests/house.rs" || shown.starts_with("tests/plugins/sdk-") {
            continue;
        }
        let text = code(&fs::read_to_string(&file).unwrap());
        if words(&text).any(|word| word == "unsafe") {
            wrong.push(shown);
        }
    }
    assert!(wrong.is_empty(), "`unsafe` in {}", wrong.join(", "));
}

#[test]
fn only_clock_asks_the_system_for_the_time() {
    let mut wrong = vec![];
    for file in rust_files(&[root().join("src")]) {
        let shown = show(&file);
        let text = without_tests(&code(&fs::read_to_string(&file).unwrap()));
        for asked in ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"] {
            if shown != "src/clock.rs" && text.contains(asked) {
                wrong.push(format!("{shown}: {asked}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_rules_of_this_file_can_fail() {
    let text = code("use crate::op::X; // crate::api\n/* crate::cli */ let s = \"a // b\"; crate::plan::y()");
    let found: Vec<String> = text.split("crate::").skip(1).map(first_word).collect();
    assert_eq!(found, ["op", "plan"]);
    assert_eq!(first_word("{a, b}"), "", "grouped imports have no name and so fail");
    assert!(!without_tests("a();\n#[cfg(test)]\nmod tests { x.unwrap() }").contains("unwrap"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn show(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// The files of a module, as paths from the top, and their code without comments.
fn sources(module: &str) -> Vec<(String, String)> {
    let src = root().join("src");
    let front = src.join(format!("{module}.rs"));
    let mut files = rust_files(&[src.join(module)]);
    if front.is_file() {
        files.insert(0, front);
    }
    files.iter().map(|file| (show(file), code(&fs::read_to_string(file).unwrap()))).collect()
}

fn rust_files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut left: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = left.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" {
                left.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn in_tests(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The text without its comments; what stands in quotes stays.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(_)) if quoted => {
                out.push(c);
                out.extend(chars.next());
            }
            // A quote that is a character, as '"', opens nothing.
            ('\'', Some('"')) if !quoted => {
                out.push(c);
                out.extend(chars.next());
            }
            ('"', _) => {
                quoted = !quoted;
                out.push(c);
            }
            ('/', Some('/')) if !quoted => {
                for c in chars.by_ref() {
                    if c == '\n' {
                        break;
                    }
                }
                out.push('\n');
            }
            ('/', Some('*')) if !quoted => {
                let mut last = ' ';
                for c in chars.by_ref().skip(1) {
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// The text up to its tests, which stand at the foot of a file.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]").next().unwrap_or_default().to_string()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}
