//! `kuiper plugin new`, `build` and `pack`, with the real binary in an empty folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "served/port.rs"]
mod port;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use kuiper::plugin::{Install, Kind, Plugins, Settings};

fn kuiper(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
    command.args(arguments.split_whitespace()).current_dir(folder);
    // A project of its own knows nothing of the build that runs this test.
    command.env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_TARGET_DIR");
    command.output().unwrap()
}

/// Standard output of a command that succeeds.
fn done(folder: &Path, arguments: &str) -> String {
    let output = kuiper(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit status and standard error of one that does not.
fn refused(folder: &Path, arguments: &str) -> (i32, String) {
    let output = kuiper(folder, arguments);
    assert!(!output.status.success(), "{arguments}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn passes_its_tests(project: &Path) {
    let tested = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet"])
        .current_dir(project)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&tested.stdout).into_owned() + &String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success() && told.contains("test result: ok"), "{told}");
}

#[test]
fn a_new_project_is_tested_built_packed_and_installed() {
    for (kind, option, from, name) in [
        (Kind::Sinks, "--sink", "", "my-sink"),
        (Kind::Sources, "--source", "", "ticks"),
        (Kind::Functions, "--function", "", "turn_round"),
        (Kind::Sources, "--source", "--from random", "dice"),
        (Kind::Functions, "--function", "--from geohash", "places"),
        (Kind::Functions, "--function", "--from echo", "echoes"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let place = format!("{}/{name}", kind.many());
        let said = done(folder, &format!("plugin new {} {name} {from}", kind.many()));
        assert_eq!(
            said,
            format!("made {place}, with the SDK beside it in sdk\nnext: kuiper plugin build {option} {name}\n")
        );
        let project = folder.join(&place);
        passes_its_tests(&project);

        let library = kuiper::plugin::library_name(name, "1.0.0");
        let said = done(folder, &format!("plugin build --debug {option} {name}"));
        assert!(said.starts_with(&format!("built {place}/{library} (")), "{said}");
        // In the project itself nothing need be named.
        done(&project, "plugin build --debug --version v1.1.0 --out elsewhere");
        assert!(project.join("elsewhere").join(kuiper::plugin::library_name(name, "1.1.0")).is_file());

        let zip = format!("{name}{}.zip", ["Source", "Sink", "Function"][kind as usize]);
        assert!(done(folder, &format!("plugin pack {option} {name}")).starts_with(&format!("packed {place}/{zip} (")));
        let packed = fs::read(project.join(&zip)).unwrap();
        done(&project, "plugin pack");
        assert_eq!(fs::read(project.join(&zip)).unwrap(), packed);

        let (plugins, _) = Plugins::open(Settings::new(folder.join("data")));
        let wish = Install { name: name.to_owned(), ..Install::default() };
        let installed = plugins.install(kind, &wish, &project.join(&zip)).unwrap();
        assert_eq!((installed.name.as_str(), installed.version.as_str()), (name, "1.0.0"));
        assert_eq!(plugins.source_yaml(name).is_some(), kind == Kind::Sources);
    }
}

/// Runs a program in a project, and gives what it prints.
fn program(project: &Path, name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).current_dir(project).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {told}");
    told
}

#[test]
fn a_new_project_in_c_is_tested_built_packed_and_installed() {
    let binary = format!("KUIPER={}", env!("CARGO_BIN_EXE_kuiper"));
    for (kind, option, name) in [
        (Kind::Sinks, "--sink", "my-sink"),
        (Kind::Sources, "--source", "pulses"),
        (Kind::Functions, "--function", "count-them"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let place = format!("{}/{name}", kind.many());
        done(folder, &format!("plugin new {} {name} --lang c", kind.many()));
        let project = folder.join(&place);
        let told = program(&project, "make", &["test", &binary]);
        assert!(told.contains(" passed, 0 failed, "), "{told}");

        let library = kuiper::plugin::library_name(name, "1.0.0");
        assert!(
            done(folder, &format!("plugin build {option} {name}")).starts_with(&format!("built {place}/{library} ("))
        );
        // In the project itself nothing need be named.
        done(&project, "plugin build --debug --version v1.1.0 --out elsewhere");
        assert!(project.join("elsewhere").join(kuiper::plugin::library_name(name, "1.1.0")).is_file());
        let props = if kind == Kind::Sinks { " --props {\"path\":\"/dev/null\"}" } else { "" };
        let told = done(&project, &format!("plugin test{props}"));
        assert!(told.contains(" passed, 0 failed, "), "{told}");
        done(folder, &format!("plugin pack {option} {name}"));

        let zip = format!("{name}{}.zip", ["Source", "Sink", "Function"][kind as usize]);
        let (plugins, _) = Plugins::open(Settings::new(folder.join("data")));
        let wish = Install { name: name.to_owned(), ..Install::default() };
        plugins.install(kind, &wish, &project.join(&zip)).unwrap();
        assert_eq!(plugins.source_yaml(name).is_some(), kind == Kind::Sources);
        assert_eq!(plugins.udfs(), if kind == Kind::Functions { vec!["count_them"] } else { Vec::new() });

        // What is wrong is told as the compiler tells it.
        let source = project.join(format!("{name}.c"));
        let text = fs::read_to_string(&source).unwrap().replace("static void destroy", "statik void destroy");
        fs::write(&source, text + "int half(\n").unwrap();
        let (status, told) = refused(&project, "plugin build");
        assert!(status == 1 && told.contains(&format!("{name}.c:")), "{told}");
        assert!(told.trim_end().ends_with(&format!("kuiper: make could not build `{name}`")), "{told}");
        let (status, told) = refused(&project, "plugin build --target riscv32-unknown-elf");
        assert_eq!((status, told.contains("no compiler is known for `riscv32-unknown-elf`")), (2, true), "{told}");
    }
}

#[test]
fn a_new_project_has_a_guide_a_workflow_and_a_version_of_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    done(folder, "plugin new sinks lines");
    done(folder, "plugin new functions vowels --lang c");
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    for place in ["sinks/lines", "functions/vowels"] {
        let workflow = read(&format!(".github/workflows/{}.yml", place.replace('/', "-")));
        let steps: serde_yaml::Value = serde_yaml::from_str(&workflow).unwrap();
        assert_eq!(steps["jobs"]["test"]["defaults"]["run"]["working-directory"], place);
        let last = steps["jobs"]["test"]["steps"].as_sequence().unwrap().last().unwrap()["run"].as_str().unwrap();
        assert_eq!(last, if place.starts_with("sinks") { "cargo build --release" } else { "make" });
        let guide = read(&format!("{place}/README.md"));
        assert!(guide.contains(&format!("made for version {} of", kuiper::plugin::abi_version())), "{guide}");
        assert!(guide.contains("kuiper plugin test --"), "{guide}");
        assert!(
            read(&format!("{place}/.gitignore")).lines().any(|line| line == "*.key"),
            "a secret key is not published"
        );
    }
    assert!(read("sdk/kuiper_easy.h").contains("#if KUIPER_ABI_MAJOR != 1"));
    // An SDK that is too old, or of another contract, is no match.
    let manifest = folder.join("sdk/Cargo.toml");
    let changed = fs::read_to_string(&manifest).unwrap().replace("\nversion = \"1", "\nversion = \"2");
    fs::write(&manifest, changed).unwrap();
    let (_, told) = refused(&folder.join("sinks/lines"), "plugin build --debug");
    assert!(told.contains("kuiper-plugin"), "{told}");
    let (status, _) = refused(folder, "plugin new sinks other --lang c --from mysql");
    assert_eq!(status, 2);
}

#[test]
fn what_is_wrong_in_the_export_is_told_at_its_line() {
    let home = tempfile::tempdir().unwrap();
    done(home.path(), "plugin new sinks lines");
    let project = home.path().join("sinks/lines");
    let source = project.join("src/lib.rs");
    let whole = fs::read_to_string(&source).unwrap();
    let text = &whole[..whole.find("kuiper_plugin::export!").unwrap()];
    // Each stands in the third line of the macro.
    for (wrong, told) in [
        ("sink \"B\" => constructor(Missing::default),", "Missing"),
        ("sink \"B\" => constructor(String::new),", "Sink` is not"),
        ("sink \"B\" => constructor(7),", "MakesSink"),
        ("function \"b\" => row(Lines::default),", "expected"),
        ("pump \"B\" => constructor(Lines::default),", "pump"),
        ("sink \"B\" => sometimes(Lines::default),", "sometimes"),
        ("sink \"B\" => constructor(Lines::default) { about: 7 },", "mismatched types"),
        ("sink \"B\" => constructor(Lines::default) { colour: \"red\" },", "colour"),
        ("sink Lines => constructor(Lines::default),", "no rules expected"),
    ] {
        let export = "kuiper_plugin::export! {\n    sink \"Lines\" => constructor(Lines::default),\n";
        let line = text.lines().count() + 3;
        fs::write(&source, format!("{text}{export}    {wrong}\n}}\n")).unwrap();
        let output = Command::new(env!("CARGO"))
            .args(["check", "--offline", "--quiet", "--message-format=json"])
            .current_dir(&project)
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let errors: Vec<serde_json::Value> =
            found.filter(|one| one["message"]["level"] == "error" && one["message"]["spans"][0].is_object()).collect();
        let first = errors.first().unwrap_or_else(|| panic!("`{wrong}` compiles: {text}"));
        let rendered = first["message"]["rendered"].as_str().unwrap();
        assert!(rendered.contains(told), "{wrong}: {rendered}");
        let spans = first["message"]["spans"].as_array().unwrap();
        let primary = spans.iter().find(|span| span["is_primary"] == true).unwrap();
        let at = |span: &serde_json::Value| {
            (span["file_name"].as_str().unwrap_or_default().to_owned(), span["line_start"].as_u64().unwrap_or_default())
        };
        assert_eq!(at(primary), ("src/lib.rs".to_owned(), line as u64), "{wrong}: {rendered}");
    }
}

#[test]
fn several_projects_stand_side_by_side() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    done(folder, "plugin new sinks mysql --from mysql");
    done(folder, "plugin new sources random --from random");
    // One library, two kinds: the names tell which is meant.
    done(folder, "plugin new sources wire --from zmq");
    assert!(folder.join("sources/wire/wire.yaml").is_file());
    fs::remove_dir_all(folder.join("sources/wire")).unwrap();
    assert!(folder.join("sinks/mysql/Cargo.lock").is_file() && folder.join("sinks/mysql/mysql.json").is_file());
    let manifest = fs::read_to_string(folder.join("sinks/mysql/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"mysql\"") && manifest.contains("path = \"../../sdk\""), "{manifest}");

    let (status, told) = refused(folder, "plugin new sinks mysql");
    assert_eq!((status, told.contains("`sinks/mysql` is there already")), (1, true), "{told}");
    let (status, told) = refused(folder, "plugin build");
    assert_eq!(status, 2);
    assert!(told.contains("name one of those below it: `--sink mysql`, `--source random`"), "{told}");
    let (status, told) = refused(folder, "plugin build --sink other");
    assert_eq!(status, 2);
    assert!(
        told.contains("none in sinks/other or plugins/other; make one with `kuiper plugin new sinks other`"),
        "{told}"
    );
    let (status, told) = refused(folder, "plugin pack --source random");
    assert_eq!(status, 1);
    assert!(told.contains("there is no build of `random`"), "{told}");
    let (status, told) = refused(folder, "plugin new functions db --from mysql");
    assert_eq!((status, told.contains("`mysql` is one of the sinks")), (2, true), "{told}");
    assert_eq!(refused(folder, "plugin new sinks ../up").0, 2);
    assert_eq!(refused(folder, "plugin new lookups x").0, 2);
}

#[test]
fn what_the_compiler_says_is_passed_on() {
    let home = tempfile::tempdir().unwrap();
    done(home.path(), "plugin new functions turn");
    let project = home.path().join("functions/turn");
    let source = project.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap().replace("text.chars()", "text.charts()");
    fs::write(&source, text).unwrap();
    let (status, told) = refused(&project, "plugin build --debug");
    assert_eq!(status, 1);
    assert!(told.contains("no method named `charts`") && told.contains("src/lib.rs:"), "{told}");
    assert!(told.trim_end().ends_with("kuiper: cargo could not build `turn`"), "{told}");
    assert!(
        fs::read_dir(&project).unwrap().all(|entry| entry.unwrap().path().extension().is_none_or(|end| end != "so"))
    );
}

#[test]
fn deploying_needs_a_server() {
    let home = tempfile::tempdir().unwrap();
    done(home.path(), "plugin new functions turn");
    let free = port::free_port();
    let (status, told) =
        refused(home.path(), &format!("plugin deploy --function turn --server http://127.0.0.1:{free}"));
    assert_eq!(status, 2);
    assert!(told.contains("cannot reach the server at"), "{told}");
    assert!(!home.path().join("functions/turn/target").exists(), "nothing is built for a server that is away");
}
