//! The guide `plugins/README.md`, block for block, as its reader types it; the server is one of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kuiper::Kuiper;

/// Building for release takes longest.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

fn guide() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/README.md")).unwrap()
}

/// The commands below a heading.
fn commands(heading: &str) -> String {
    let guide = guide();
    let part = guide.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let blocks: Vec<&str> = part.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "`{heading}` has no commands");
    blocks.concat()
}

/// Types them, and gives what is printed; the first that fails ends it.
fn typed(heading: &str, server: &Kuiper) -> String {
    let folder = tempfile::tempdir().unwrap();
    let commands = commands(heading).replace("/tmp/lines", &folder.path().join("rows").display().to_string());
    let (script, log) = (folder.path().join("script"), folder.path().join("log"));
    fs::write(&script, format!("set -e\n{commands}")).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_kuiper")).parent().unwrap();
    let output = fs::File::create(&log).unwrap();
    let mut shell = Command::new("bash")
        .arg(&script)
        .current_dir(folder.path())
        .env("PATH", format!("{}:{}", binary.display(), std::env::var("PATH").unwrap()))
        .env("KUIPER_SERVER", server.url())
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let told = || fs::read_to_string(&log).unwrap() + &server.log();
    let status = loop {
        if let Some(status) = shell.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            shell.kill().unwrap();
            panic!("`{heading}` takes too long: {}", told());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "`{heading}`: {}", told());
    fs::read_to_string(&log).unwrap()
}

#[test]
fn from_nothing_to_a_second_version() {
    let server = Kuiper::start(|_| ());
    let told = typed("From nothing to a second version", &server);
    for expected in [
        "test result: ok. 2 passed",
        "built sinks/lines/Lines@v1.0.0.so (",
        "15 passed, 0 failed, 0 skipped",
        "deployed sink lines 1.0.0: ",
        "sink plugin lines 1.0.0",
        "built sinks/lines/Lines@v1.1.0.so (",
        "deployed sink lines 1.1.0: ",
    ] {
        assert!(told.contains(expected), "`{expected}` is missing in: {told}");
    }
    assert!(told.lines().any(|line| line.split_whitespace().eq(["sink", "lines", "1.1.0"])), "{told}");
    assert_eq!(server.ask("GET", "/plugins/sinks", "").trim(), "[]");
}

#[test]
fn by_request() {
    let server = Kuiper::start(|_| ());
    let told = typed("By request, as in eKuiper", &server);
    for expected in [
        "functions plugin words is created",
        "plugin words is updated",
        r#"{"name":"words","plugin":"words"}"#,
        "functions plugin words is deleted",
    ] {
        assert!(told.contains(expected), "`{expected}` is missing in: {told}");
    }
}

#[test]
fn any_language() {
    let server = Kuiper::start(|_| ());
    let told = typed("Any language", &server);
    assert!(told.contains("8 passed, 0 failed, 0 skipped"), "{told}");
    assert!(told.contains("built functions/vowels/Vowels@v1.0.0.so ("), "{told}");
}

#[test]
fn in_a_process_of_its_own() {
    let server = Kuiper::start(|_| ());
    let told = typed("In a process of its own", &server);
    assert_eq!(told.matches("deployed function vowels 1.0.0: ").count(), 2, "{told}");
    assert!(told.contains("runs in process "), "{told}");
    let described = server.ask("GET", "/plugins/functions/vowels", "");
    assert!(described.contains(r#""isolation":"none""#), "{described}");
}

#[test]
fn what_is_installed() {
    let server = Kuiper::start(|_| ());
    let told = typed("What is installed", &server);
    for expected in [
        "bin/aarch64-unknown-linux-gnu/Vowels@v1.0.0.so (",
        "`Vowels@v1.0.0.so` can be loaded here",
        "`Vowels@v1.0.0.so` can be loaded on aarch64-unknown-linux-gnu",
        "kuiper.key is secret",
    ] {
        assert!(told.contains(expected), "`{expected}` is missing in: {told}");
    }
}

#[test]
fn no_other_heading_has_commands() {
    let guide = guide();
    let parts = guide.split("\n## ").filter(|part| part.contains("```sh"));
    let headings: Vec<&str> = parts.filter_map(|part| part.lines().next()).collect();
    let typed = [
        "From nothing to a second version",
        "Any language",
        "In a process of its own",
        "By request, as in eKuiper",
        "What is installed",
    ];
    assert_eq!(headings, typed);
}
