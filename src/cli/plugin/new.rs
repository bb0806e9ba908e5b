//! `kuiper plugin new`: a project that compiles without anything but cargo, or a C compiler and make.
//!
//! Projects stand side by side, `sinks/mysql` beside `sources/random`, and share the SDK in `sdk`.

use std::env;
use std::fs;
use std::path::Path;

use super::super::client::Failure;
use super::super::print::say;
use super::cannot;
use super::sources::{Files, LOCK, MAKEFILE, OURS, Ours, SDK, in_c, sdk_version, template};
use crate::plugin::{Kind, abi_version, check_name};

/// The folder of the SDK, beside those of the kinds.
const SDK_FOLDER: &str = "sdk";

pub(super) fn run(kind: Kind, name: &str, from: Option<&str>, c: bool) -> Result<(), Failure> {
    check_name(name).map_err(|refused| Failure::Usage(refused.to_string()))?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(Failure::Usage(format!("`{name}` must begin with a letter, for the crate is named after it")));
    }
    let ours = match from {
        Some(from) => Some(ours(kind, from)?),
        None => None,
    };
    let here = env::current_dir().map_err(|error| cannot("use", Path::new("."), &error))?;
    let place = format!("{}/{name}", kind.many());
    let folder = here.join(&place);
    if folder.exists() {
        return Err(Failure::Refused(format!("`{place}` is there already; choose another name, or remove it")));
    }
    lay_sdk(&here.join(SDK_FOLDER))?;
    match ours {
        Some(ours) => {
            lay(&folder, ours.files, |path, text| {
                (renamed(path, ours.name, name), adapted(path, text, ours.name, name))
            })?;
            // The versions that are tested together; what is not needed here goes with the first build.
            if ours.files.iter().any(|(path, text)| *path == "Cargo.toml" && text.contains("features = [")) {
                put(&folder.join("Cargo.lock"), LOCK)?;
            }
        }
        None if c => lay_c(&folder, kind, name)?,
        None => lay(&folder, template(kind), |path, text| (path.replace("NAME", name), filled(text, kind, name)))?,
    }
    put(&folder.join("README.md"), &readme(kind, name, c))?;
    put(&folder.join(".gitignore"), "/target\n/bin\n/*.so\n/*.zip\n*.key\n")?;
    // It is at the top of a repository that the service looks for them.
    put(&here.join(".github/workflows").join(format!("{}-{name}.yml", kind.many())), &workflow(kind, name, c))?;
    say(format!("made {place}, with the SDK beside it in {SDK_FOLDER}"));
    say(format!("next: kuiper plugin build --{} {name}", kind.one()));
    Ok(())
}

fn ours(kind: Kind, from: &str) -> Result<&'static Ours, Failure> {
    let found = OURS.iter().find(|ours| ours.name == from);
    let found = found.ok_or_else(|| Failure::Usage(format!("there is no plugin `{from}` to begin with")))?;
    if !found.kinds.contains(&kind) {
        let (is, asked) = (found.kinds.first().map_or("", |kind| kind.many()), kind.many());
        return Err(Failure::Usage(format!(
            "`{from}` is one of the {is}, not of the {asked}; write `plugin new {is} …`"
        )));
    }
    Ok(found)
}

/// Lays the SDK down, over an older one; what stands there and is not the SDK is left alone.
fn lay_sdk(folder: &Path) -> Result<(), Failure> {
    let manifest = folder.join("Cargo.toml");
    if folder.exists() {
        let there = fs::read_to_string(&manifest).unwrap_or_default();
        if !there.contains("name = \"kuiper-plugin\"") {
            return Err(Failure::Refused(format!(
                "`{SDK_FOLDER}` is the place of the SDK, and something else is there; use another folder"
            )));
        }
    }
    lay(folder, SDK, |path, text| {
        let text = match path {
            // Its tests and examples stay behind.
            "Cargo.toml" => format!("{}\n\n[workspace]\n", text.split("[[").next().unwrap_or_default().trim_end()),
            _ => text.to_owned(),
        };
        (path.to_owned(), text)
    })
}

/// A project in C: the example of its kind under another name, and what builds it.
fn lay_c(folder: &Path, kind: Kind, name: &str) -> Result<(), Failure> {
    let ours = in_c(kind);
    put(&folder.join(format!("{name}.c")), &adapted_c(ours.text, ours.name, name))?;
    if kind == Kind::Sources {
        let yaml = format!(
            "# Defaults of the source `{name}`; each section below `default` is a CONF_KEY.\ndefault:\n  every: 1000\n"
        );
        put(&folder.join(format!("{name}.yaml")), &yaml)?;
    }
    put(&folder.join("Makefile"), &filled(MAKEFILE, kind, name).replace("{{props}}", ours.props))
}

/// An example in C, as it reads under another name.
fn adapted_c(text: &str, ours: &str, name: &str) -> String {
    text.replace(&format!("`{ours}`"), &format!("`{name}`"))
        .replace(&format!("\"{}\"", symbol(ours)), &format!("\"{}\"", symbol(name)))
        .replace(&format!("\"{ours}\""), &format!("\"{}\"", name.replace('-', "_")))
        .replace(&format!(" {}\")", symbol(ours)), &format!(" {}\")", symbol(name)))
        .replace(&format!(" {ours}\")"), &format!(" {}\")", name.replace('-', "_")))
        .replace(&format!("\"{ours}("), &format!("\"{}(", name.replace('-', "_")))
}

fn lay(folder: &Path, files: Files, each: impl Fn(&str, &str) -> (String, String)) -> Result<(), Failure> {
    files.iter().map(|(path, text)| each(path, text)).try_for_each(|(path, text)| put(&folder.join(path), &text))
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text)).map_err(|error| cannot("write", path, &error))
}

/// `mysql.json` of ours becomes that of the new name.
fn renamed(path: &str, ours: &str, name: &str) -> String {
    path.strip_prefix(ours)
        .filter(|rest| rest.starts_with('.'))
        .map_or_else(|| path.to_owned(), |rest| format!("{name}{rest}"))
}

/// A file of ours, as it reads in a project of that name.
fn adapted(path: &str, text: &str, ours: &str, name: &str) -> String {
    match path {
        "Cargo.toml" => {
            let text = text
                .replace(&format!("name = \"kuiper-{ours}\""), &format!("name = \"{name}\""))
                .replace(&format!("name = \"{ours}\""), &format!("name = \"{name}\""))
                .replace("path = \"../sdk\"", "path = \"../../sdk\"");
            format!("{}\n{OWN_WORKSPACE}", text.trim_end())
        }
        // The symbol is the name of the plugin; a function is named by itself.
        "src/lib.rs" => text.replace(&format!("\"{}\"", symbol(ours)), &format!("\"{}\"", symbol(name))),
        _ => text.to_owned(),
    }
}

const OWN_WORKSPACE: &str = "\n[profile.release]\nstrip = true\n\n[workspace]\n";

/// A template, with the name of the plugin in its places.
fn filled(text: &str, kind: Kind, name: &str) -> String {
    let camel: String = name.split(['-', '_']).map(symbol).collect();
    text.replace("{{kind}}", kind.many())
        .replace("{{Symbol}}", &symbol(name))
        .replace("{{Type}}", &camel)
        .replace("{{function}}", &name.replace('-', "_"))
        .replace("{{sdk}}", sdk_version())
        .replace("{{name}}", name)
}

fn symbol(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

fn readme(kind: Kind, name: &str, c: bool) -> String {
    let one = kind.one();
    let tests = if c { "make test" } else { "cargo test" };
    let commands = [
        (tests.to_owned(), "without a server"),
        (format!("kuiper plugin build --{one} {name}"), "the library"),
        (format!("kuiper plugin test --{one} {name}"), "what the contract asks of every plugin, tried on the library"),
        (format!("kuiper plugin deploy --{one} {name}"), "on the server that `kuiper serve` started"),
    ];
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let session: String = commands.iter().map(|(command, what)| format!("{command:width$}    # {what}\n")).collect();
    let sdk = match c {
        true => format!("The contract is `../../{SDK_FOLDER}/kuiper.h`; `kuiper_easy.h` beside it makes it short."),
        false => format!("`cargo doc --open` shows what the SDK offers; its source is in `../../{SDK_FOLDER}`."),
    };
    format!(
        "# {name}\n\nA {one} plugin of kuiper, made for version {} of the plugin interface.\n\n```sh\n{session}```\n\n{sdk}\n",
        abi_version()
    )
}

/// What a service that builds each change does.
fn workflow(kind: Kind, name: &str, c: bool) -> String {
    let place = format!("{}/{name}", kind.many());
    let steps = if c { "      - run: make\n" } else { "      - run: cargo test\n      - run: cargo build --release\n" };
    format!(
        "name: {place}\non: [push, pull_request]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    defaults:\n      run:\n        \
         working-directory: {place}\n    steps:\n      - uses: actions/checkout@v4\n{steps}"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_places() {
        assert_eq!(renamed("mysql.json", "mysql", "stock"), "stock.json");
        assert_eq!(renamed("src/mysql.rs", "mysql", "stock"), "src/mysql.rs");
        let text = adapted("src/lib.rs", "sink \"Mysql\" => constructor(Mysql::default)", "mysql", "stock");
        assert_eq!(text, "sink \"Stock\" => constructor(Mysql::default)");
        let text = filled("{{name}} {{Symbol}} {{Type}} {{function}} {{kind}}", Kind::Sinks, "my-sink");
        assert_eq!(text, "my-sink My-sink MySink my_sink sinks");
    }

    #[test]
    fn an_example_in_c_has_the_new_name_everywhere() {
        for kind in Kind::ALL {
            let ours = in_c(kind);
            let text = adapted_c(ours.text, ours.name, "my-own");
            for old in [format!("`{}`", ours.name), format!("\"{}", symbol(ours.name)), format!("\"{}", ours.name)] {
                assert!(!text.contains(&old), "{old} in {text}");
            }
            let told = if kind == Kind::Functions { "my_own".to_owned() } else { symbol("my-own") };
            assert!(text.ends_with(&format!("KUIPER_SYMBOLS(\"{} {told}\")\n", kind.one())), "{text}");
        }
        assert!(adapted_c(in_c(Kind::Functions).text, "vowels", "my-own").contains("\"my_own('Temperature')\""));
    }

    #[test]
    fn remarks_stand_below_each_other() {
        for (kind, name) in [(Kind::Sinks, "a"), (Kind::Functions, "a-long-name")] {
            let text = readme(kind, name, false);
            let columns: Vec<usize> = text.lines().filter_map(|line| line.find("   # ")).collect();
            assert!(columns.len() == 4 && columns.iter().all(|column| *column == columns[0]), "{text}");
        }
    }

    #[test]
    fn a_plugin_of_ours_is_of_its_kind() {
        assert!(ours(Kind::Sources, "mysql").is_ok() && ours(Kind::Sinks, "mysql").is_ok());
        let told = match ours(Kind::Sources, "geohash") {
            Err(Failure::Usage(told)) => told,
            _ => panic!("geohash is no source"),
        };
        assert_eq!(told, "`geohash` is one of the functions, not of the sources; write `plugin new functions …`");
    }
}
