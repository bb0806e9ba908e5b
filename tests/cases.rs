//! Runs all case files of `tests/cases` and `rules`, and the examples of the guides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kuiper::case::{Report, Settings, run};
use serde_json::{Value as Json, json};

/// Rule cases with several rows at one instant, without which "all in one batch" would test nothing.
const BATCHED: usize = 40;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn all_pass(paths: &[PathBuf]) -> Report {
    let report = run(paths, &Settings::default()).unwrap();
    assert!(report.failed() == 0, "\n{report}");
    assert!(report.passed() > 0, "no case was found");
    report
}

#[test]
fn all_cases_pass() {
    let report = all_pass(&[root().join("tests/cases"), root().join("rules")]);
    println!("{report}");
    assert!(report.batched >= BATCHED, "only {} cases have a batch of more than one row", report.batched);
}

/// At `qos` 2 nothing that a rule knows is lost: a crash between any two instants changes nothing of what any case says.
#[test]
fn all_cases_survive_crashes() {
    let settings = Settings { crashes: true, ..Settings::default() };
    let report = run(&[root().join("tests/cases"), root().join("rules")], &settings).unwrap();
    assert!(report.failed() == 0, "\n{report}");
}

#[test]
fn the_examples_of_the_guides_are_true() {
    let folder = tempfile::tempdir().unwrap();
    for guide in ["tests/README.md", "rules/README.md"] {
        let text = fs::read_to_string(root().join(guide)).unwrap();
        let mut cases = fenced(&text, "yaml").concat();
        assert!(!cases.is_empty(), "{guide} shows no case");
        // A block without a result is there to be read only.
        let shows = |block: &&str| block.contains("\n-- out ") || block.contains("\n-- refused");
        for (n, block) in fenced(&text, "sql").into_iter().filter(shows).enumerate() {
            cases += &format!("---\n{}\n", example(block, &format!("{guide}/{}", n + 1)));
        }
        fs::write(folder.path().join(guide.replace(['/', '.'], "_") + ".yaml"), cases).unwrap();
    }
    all_pass(&[folder.path().to_path_buf()]);
}

/// What is refused is refused for the reason that stands in the case, and not for another.
#[test]
fn static_errors_have_their_texts() {
    let settings = Settings { error_text: true, ..Settings::default() };
    let folders = ["tests/cases/static_errors", "tests/cases/graph/refused.yaml"].map(|path| root().join(path));
    let report = run(&folders, &settings).unwrap();
    assert!(report.failed() == 0, "\n{report}");
    assert!(report.passed() >= 160);
}

#[test]
fn topologies_are_as_the_endpoint_shows_them() {
    let settings = Settings { topo: true, ..Settings::default() };
    let report = run(&[root().join("tests/cases/topo")], &settings).unwrap();
    assert!(report.failed() == 0, "\n{report}");
}

/// What stands in the fenced blocks of a language.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A case out of an example of the guide: a SELECT, perhaps behind CREATE statements, and below it what arrives and what
/// comes out. `-- in [STREAM] [1.5s] ROW, …`, `-- until 20s`, `-- options MAP`, `-- out ROW, …`, `-- out none`, `-- out error`,
/// `-- refused`.
fn example(block: &str, name: &str) -> Json {
    let (mut streams, mut sql, mut input, mut output) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut options, mut refused, mut now) = (json!({}), false, 0.0);
    let list = |text: &str| -> Json {
        serde_json::from_str(&format!("[{text}]")).unwrap_or_else(|found| panic!("{name}: `{text}`: {found}"))
    };
    for line in block.lines() {
        let (what, rest) = match line.strip_prefix("-- ") {
            Some(told) => told.split_once(' ').unwrap_or((told, "")),
            None => (if line.starts_with("CREATE ") { "CREATE" } else { "SQL" }, line),
        };
        match what {
            "CREATE" => streams.push(rest),
            "SQL" => sql.push(rest),
            "options" => options = list(rest)[0].clone(),
            "until" => now = rest.trim_end_matches('s').parse().unwrap(),
            "in" => {
                let (words, rows) = rest.split_at(rest.find('{').unwrap());
                let time = words.split_whitespace().find_map(|word| word.strip_suffix('s')?.parse::<f64>().ok());
                let stream =
                    words.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_alphabetic()));
                now = time.unwrap_or(now + 0.1);
                for row in list(rows).as_array().unwrap() {
                    let at = format!("+{:.0}", now * 1000.0);
                    input.push(json!({"stream": stream.unwrap_or("pump"), "at": at, "data": row}));
                }
            }
            "out" if rest == "error" => output.push(json!({"error": ""})),
            "out" if rest == "none" => output.push(json!({"rows": []})),
            "out" => output.push(json!({"rows": list(rest)})),
            "refused" => refused = true,
            other => panic!("{name}: an example cannot say `{other}`"),
        }
    }
    if streams.is_empty() {
        streams.push("CREATE STREAM pump () WITH (DATASOURCE=\"pump\", FORMAT=\"json\")");
    }
    let mut case = json!({
        "name": name, "streams": streams, "sql": sql.join("\n"), "options": options, "start": 1_700_000_000_000_i64,
        "input": input, "advance": format!("+{:.0}", now * 1000.0 + 10.0),
    });
    match refused {
        true => case["create_error"] = json!("refused"),
        false => case["output"] = json!(output),
    }
    case
}

/// Every line of the list of differences names a case, a table of functions or a test that is there. Every case that
/// shows a difference, and every function of the tables of ours, is in the list.
#[test]
fn the_differences_name_cases_that_exist() {
    let report = all_pass(&[root().join("tests/cases")]);
    let known: BTreeSet<&str> = report.findings.iter().map(|finding| finding.name.as_str()).collect();
    let tables: BTreeSet<&str> = known.iter().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
    let guide = fs::read_to_string(root().join("rules/README.md")).unwrap();
    let list = guide.split("## Where it differs").nth(1).unwrap();
    // A row of the table, or a point with the lines that belong to it.
    let mut lines: Vec<String> = Vec::new();
    for line in list.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with("  ") => *last += line,
            _ => lines.push(line.to_owned()),
        }
    }
    let quoted = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    for line in lines.iter().filter(|line| line.starts_with("- ") || line.starts_with("| ") && line.contains('`')) {
        let is_there = |name: &str| {
            known.contains(name)
                || name.starts_with("functions/") && tables.contains(name)
                || [".rs", ".txt"].iter().any(|end| name.ends_with(end)) && root().join(name).exists()
        };
        let names: Vec<String> = quoted(line).into_iter().filter(|name| is_there(name)).collect();
        assert!(!names.is_empty(), "no case is named: {line}");
        // Where the names stand, all of them must be there.
        let cell = line.trim_end_matches(" |").rsplit("| ").next().unwrap();
        let named = if line.starts_with("| ") { quoted(cell) } else { Vec::new() };
        named.iter().for_each(|name| assert!(is_there(name), "`{name}` is no case: {line}"));
    }
    let bare = |word: String| word.split('(').next().unwrap_or_default().to_owned();
    let words: BTreeSet<String> = lines.iter().flat_map(|line| quoted(line)).map(bare).collect();
    for finding in &report.findings {
        if finding.name.starts_with("differences/") {
            assert!(words.contains(&finding.name), "{} is not in the list", finding.name);
        }
        if let Some((table, function)) =
            finding.name.strip_prefix("functions/right_").and_then(|rest| rest.split_once(' '))
        {
            let is_statement = table.contains("validate");
            assert!(is_statement || words.contains(function), "{function} is not in the list");
        }
    }
}

/// The guide knows every function, and no other.
#[test]
fn the_guide_lists_the_functions() {
    let guide = fs::read_to_string(root().join("rules/README.md")).unwrap();
    let part = guide.split("## Functions").nth(1).unwrap().split("## Rules").next().unwrap();
    let listed: BTreeSet<&str> = part.split('`').skip(1).step_by(2).collect();
    // Aliases that eKuiper uses inside; no one calls them.
    let all: BTreeSet<&str> =
        kuiper::func::all().map(|func| func.name).filter(|name| !name.starts_with("inc_")).collect();
    assert_eq!(listed, all);
}

/// A rule that is shown must be the rule that is tested.
#[test]
fn every_example_rule_has_its_case() {
    let mut rules = 0;
    for entry in fs::read_dir(root().join("rules")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        rules += 1;
        let rule: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(rule["id"].as_str(), path.file_stem().and_then(|name| name.to_str()), "{}", path.display());
        let case = case_beside(&path);
        assert_eq!(rule["sql"], case["sql"], "{}", path.display());
        let send_error = |of: &Json| of["options"]["sendError"].as_bool().unwrap_or_default();
        assert_eq!(send_error(&rule), send_error(&case), "{}", path.display());
    }
    assert!(rules > 0);
}

fn case_beside(rule: &Path) -> Json {
    let text = fs::read_to_string(rule.with_extension("case.yaml")).unwrap();
    let document = text.split("---\n").nth(1).unwrap();
    serde_yaml::from_str(document).unwrap()
}
