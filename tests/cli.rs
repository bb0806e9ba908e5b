//! The real binary in empty folders: what it prints, where, and with which exit status.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "cli/changing.rs"]
mod changing;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "served/port.rs"]
mod port;
#[path = "cli/queues.rs"]
mod queues;
#[path = "cli/told.rs"]
mod told;
#[path = "cli/tools.rs"]
mod tools;

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A command of the binary, in a folder, untouched by the settings of whoever runs the tests.
fn kuiper(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.contains("KUIPER") || name.contains("__")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args).stdin(Stdio::null());
    command
}

struct Said {
    status: i32,
    out: String,
    err: String,
}

fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what is printed is UTF-8");
    let said = Said { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

fn run(folder: &Path, args: &[&str]) -> Said {
    said(kuiper(folder, args).output().unwrap())
}

fn run_with(folder: &Path, args: &[&str], input: &str) -> Said {
    let mut command = kuiper(folder, args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments does not wait for its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    said(child.wait_with_output().unwrap())
}

/// A server of its own, in a folder, on a free port; gone at the end of the test.
struct Server {
    child: Child,
    url: String,
    folder: TempDir,
}

impl Server {
    fn start() -> Server {
        Server::start_in(TempDir::new().unwrap())
    }

    fn start_in(folder: TempDir) -> Server {
        let address = free_address();
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let child = kuiper(folder.path(), &["serve", "--listen", &address]).stderr(log).spawn().unwrap();
        wait_for("the server to answer", || TcpStream::connect(&address).is_ok());
        Server { child, url: format!("http://{address}"), folder }
    }

    /// Runs a command against this server.
    fn ask(&self, args: &[&str]) -> Said {
        said(kuiper(self.folder.path(), args).env("KUIPER_SERVER", &self.url).output().unwrap())
    }

    fn done(&self, args: &[&str]) -> String {
        let said = self.ask(args);
        assert_eq!(said.status, 0, "{args:?}: {}{}", said.out, said.err);
        said.out
    }

    fn json(&self, args: &[&str]) -> Json {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.done(&args)).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.folder.path().join(name), text).unwrap();
        name.to_string()
    }

    /// Ends it as a user would, and says how long that took.
    fn stop(mut self, signal: &str) -> (TempDir, Duration) {
        let begun = Instant::now();
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let mut status = None;
        wait_for("the server to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0));
        let folder = std::mem::replace(&mut self.folder, TempDir::new().unwrap());
        (folder, begun.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", port::free_port())
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A simulated stream whose rows go into a file.
const STREAM: &str = r#"CREATE STREAM sim (v BIGINT) WITH (TYPE="simulator", FORMAT="json", EXTRA="{\"data\":[{\"v\":1},{\"v\":2},{\"v\":3}],\"interval\":\"5ms\",\"loop\":true}")"#;
const RULE: &str = r#"{
  "id": "big",
  "sql": "SELECT v, v * 10 AS ten FROM sim WHERE v > 1",
  "actions": [{"file": {"path": "out.jsonl", "fileType": "lines", "sendSingle": true}}]
}"#;

#[test]
fn run_reads_lines_and_writes_lines() {
    let folder = TempDir::new().unwrap();
    let said = run_with(
        folder.path(),
        &["run", "SELECT id, v * 2 AS w FROM stdin WHERE v > 1"],
        "{\"id\":\"a\",\"v\":1}\n{\"id\":\"b\",\"v\":2.5}\n{\"id\":\"c\",\"v\":3}\n",
    );
    assert_eq!(
        (said.status, said.out.as_str()),
        (0, "{\"id\":\"b\",\"w\":5}\n{\"id\":\"c\",\"w\":6}\n"),
        "{}",
        said.err
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn the_filter_of_the_readme_works_as_pasted() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let script: String = blocks.filter(|block| block.contains("kuiper run")).collect();
    let folder = TempDir::new().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_kuiper")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let said = said(shell.args(["-ec", &script]).env("PATH", path).current_dir(folder.path()).output().unwrap());
    assert_eq!((said.status, said.out.as_str()), (0, "{\"id\":\"b\",\"w\":10}\n"), "{}", said.err);
}

#[test]
fn run_goes_on_after_a_broken_line() {
    let folder = TempDir::new().unwrap();
    let said = run_with(folder.path(), &["run", "SELECT v FROM stdin"], "{\"v\":1}\n{\"v\":\n[{\"v\":2},{\"v\":3}]\n");
    assert_eq!((said.status, said.out.as_str()), (0, "{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n"), "{}", said.err);
    assert!(said.err.contains("json"), "{}", said.err);
}

#[test]
fn run_gives_out_open_windows_at_the_end() {
    let folder = TempDir::new().unwrap();
    let said = run_with(
        folder.path(),
        &["run", "SELECT id, count(*) AS n, sum(v) AS t FROM stdin GROUP BY id, TUMBLINGWINDOW(dd, 1) ORDER BY id"],
        "{\"id\":\"b\",\"v\":1}\n{\"id\":\"a\",\"v\":2}\n{\"id\":\"b\",\"v\":3}\n",
    );
    let expected = "{\"id\":\"a\",\"n\":1,\"t\":2}\n{\"id\":\"b\",\"n\":2,\"t\":4}\n";
    assert_eq!((said.status, said.out.as_str()), (0, expected), "{}", said.err);
}

#[test]
fn run_executes_the_actions_of_a_rule_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("in.jsonl"), "{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n").unwrap();
    fs::write(folder.path().join("rule.json"), RULE.replace("FROM sim", "FROM lines")).unwrap();
    let stream = r#"CREATE STREAM lines (v BIGINT) WITH (TYPE="file", FORMAT="json", DATASOURCE="in.jsonl", EXTRA="{\"path\":\".\",\"fileType\":\"lines\"}")"#;
    let said = run(folder.path(), &["run", "rule.json", "--stream", stream]);
    assert_eq!((said.status, said.out.as_str()), (0, ""), "{}", said.err);
    let written = fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    assert_eq!(written.trim_end(), "{\"ten\":20,\"v\":2}\n{\"ten\":30,\"v\":3}");
}

#[test]
fn errors_show_the_place_and_a_remedy() {
    let folder = TempDir::new().unwrap();
    let said = run(folder.path(), &["run", "SELECT uper(v) FROM stdin"]);
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    assert!(
        said.err.contains("there is no function `uper`") && said.err.contains("^^^^ did you mean `upper`?"),
        "{}",
        said.err
    );
    let said = run(folder.path(), &["run", "no-such-rule.json"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("cannot read `no-such-rule.json`"), "{}", said.err);
}

#[test]
fn usage_is_status_2() {
    let folder = TempDir::new().unwrap();
    for args in
        [&["frobnicate"][..], &["rule"], &["rule", "create"], &["stream", "create"], &["run"], &["serve", "--listen"]]
    {
        let said = run(folder.path(), args);
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
        assert!(!said.err.is_empty());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_version_names_the_abi() {
    let said = run(TempDir::new().unwrap().path(), &["--version"]);
    assert_eq!(said.status, 0);
    assert!(
        said.out.starts_with(concat!("kuiper ", env!("CARGO_PKG_VERSION"))) && said.out.contains("ABI"),
        "{}",
        said.out
    );
}

#[test]
fn without_a_server_there_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let url = format!("http://{}", free_address());
    let said = run(folder.path(), &["rule", "list", "--server", &url]);
    assert_eq!((said.status, said.out.as_str()), (2, ""));
    assert!(said.err.contains(&url) && said.err.lines().count() == 1, "{}", said.err);
}

#[test]
fn streams_are_created_listed_described_and_dropped() {
    let server = Server::start();
    assert_eq!(server.done(&["stream", "create", STREAM]).trim(), "Stream sim is created.");
    server.write("demo.sql", r#"CREATE STREAM demo () WITH (DATASOURCE="demo", TYPE="memory")"#);
    server.done(&["stream", "create", "-f", "demo.sql"]);
    let again = server.ask(&["stream", "create", STREAM]);
    assert_eq!((again.status, again.out.as_str()), (1, ""));
    assert!(again.err.contains("sim") && again.err.contains("exists"), "{}", again.err);
    let wrong = server.ask(&["stream", "create", r#"CREATE STREAM x (a BIGNT) WITH (DATASOURCE="x")"#]);
    assert_eq!(wrong.status, 1);
    assert!(wrong.err.contains("BIGNT") && wrong.err.to_lowercase().contains("bigint"), "{}", wrong.err);
    let list = server.json(&["stream", "list"]);
    assert_eq!(list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>(), ["demo", "sim"]);
    assert!(server.done(&["stream", "list"]).contains("simulator"));
    assert!(server.done(&["stream", "describe", "sim"]).contains("bigint"));
    server.done(&["stream", "drop", "demo"]);
    assert_eq!(server.ask(&["stream", "describe", "demo"]).status, 1);
    assert_eq!(server.json(&["table", "list"]), Json::Array(vec![]));
}

#[test]
fn rules_live_from_create_to_drop() {
    let server = Server::start();
    server.done(&["stream", "create", STREAM]);
    server.write("rule.json", RULE);
    server.done(&["rule", "create", "-f", "rule.json"]);
    let twice = server.ask(&["rule", "create", "-f", "rule.json"]);
    assert_eq!(twice.status, 1, "{}", twice.out);
    assert!(twice.err.contains("big already exists"), "{}", twice.err);
    let file = server.folder.path().join("out.jsonl");
    wait_for("rows in the file", || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() >= 20));
    server.done(&["rule", "stop", "big"]);
    let status = server.json(&["rule", "status", "big"]);
    assert!(status["status"].as_str().unwrap().starts_with("stopped"), "{status}");
    let ledger = &status["ledger"];
    let count = |name: &str| ledger[name].as_u64().unwrap();
    let sum = |name: &str| ledger[name].as_object().unwrap().values().filter_map(Json::as_u64).sum::<u64>();
    assert_eq!(
        count("in"),
        count("out") + count("filtered") + count("held") + count("late") + sum("dropped") + sum("dead")
    );
    let lines = fs::read_to_string(&file).unwrap().lines().count() as u64;
    assert_eq!(count("out"), lines, "{ledger}");
    assert!(count("filtered") > 0 && sum("dead") == 0, "{ledger}");
    assert!(server.done(&["rule", "status", "big"]).contains("filtered"));
    server.done(&["rule", "start", "big"]);
    wait_for("more rows", || fs::read_to_string(&file).unwrap().lines().count() as u64 > lines);
    server.done(&["rule", "restart", "big"]);
    assert!(server.done(&["rule", "describe", "big"]).contains("SELECT v, v * 10"));
    assert_eq!(server.json(&["rule", "list"])[0]["status"], "running");
    let held = server.ask(&["stream", "drop", "sim"]);
    assert_eq!(held.status, 1, "a stream that a rule reads: {}", held.out);
    server.done(&["rule", "drop", "big"]);
    assert_eq!(server.ask(&["rule", "status", "big"]).status, 1);
    assert_eq!(server.json(&["rule", "list"]), Json::Array(vec![]));
}

#[test]
fn a_rule_may_be_named_on_the_command_line_updated_and_validated() {
    let server = Server::start();
    server.done(&["stream", "create", STREAM]);
    server.write("rule.json", r#"{"sql": "SELECT v FROM sim", "actions": [{"log": {}, "nop": {}}]}"#);
    server.done(&["rule", "create", "named", "-f", "rule.json"]);
    assert_eq!(server.json(&["rule", "list"])[0]["id"], "named");
    server.write("rule.json", r#"{"sql": "SELECT v + 1 AS w FROM sim", "actions": [{"nop": {}}]}"#);
    server.done(&["rule", "update", "named", "-f", "rule.json"]);
    assert!(server.done(&["rule", "describe", "named"]).contains("v + 1"));
    server.done(&["rule", "validate", "named", "-f", "rule.json"]);
    server.write("wrong.json", r#"{"id": "x", "sql": "SELECT vv FROM sim", "actions": [{"nop": {}}]}"#);
    let wrong = server.ask(&["rule", "validate", "-f", "wrong.json"]);
    assert_eq!((wrong.status, wrong.out.as_str()), (1, ""));
    assert!(wrong.err.contains("no column `vv`") && wrong.err.contains("^^"), "{}", wrong.err);
    let sink = r#"{"id": "x", "sql": "SELECT v FROM sim", "actions": [{"mqqt": {}}]}"#;
    server.write("wrong.json", sink);
    let wrong = server.ask(&["rule", "create", "-f", "wrong.json"]);
    assert_eq!(wrong.status, 1);
    assert!(wrong.err.contains("mqqt"), "{}", wrong.err);
}

#[test]
fn everything_is_there_after_a_restart_and_both_signals_end_it() {
    let server = Server::start();
    server.done(&["stream", "create", STREAM]);
    server.write("rule.json", RULE);
    server.done(&["rule", "create", "-f", "rule.json"]);
    let (folder, took) = server.stop("INT");
    assert!(took < Duration::from_secs(5), "stopping took {took:?}");
    let lines =
        |folder: &TempDir| fs::read_to_string(folder.path().join("out.jsonl")).unwrap_or_default().lines().count();
    let before = lines(&folder);
    let server = Server::start_in(folder);
    wait_for("the rule to run again", || lines(&server.folder) > before);
    let (folder, took) = server.stop("TERM");
    assert!(took < Duration::from_secs(5), "stopping took {took:?}");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_port_and_a_folder_in_use_are_one_sentence_each() {
    let server = Server::start();
    let address = server.url.trim_start_matches("http://").to_string();
    let elsewhere = TempDir::new().unwrap();
    let port = run(elsewhere.path(), &["serve", "--listen", &address]);
    assert_eq!((port.status, port.err.lines().count()), (2, 1), "{}", port.err);
    assert!(port.err.contains(&address) && port.err.contains("in use"), "{}", port.err);
    let data = run(server.folder.path(), &["serve", "--listen", &free_address()]);
    assert_eq!((data.status, data.err.lines().count()), (2, 1), "{}", data.err);
    assert!(data.err.contains("data") && data.err.contains("use"), "{}", data.err);
}

#[test]
fn the_demo_shows_rows_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let address = free_address();
    let mut child = kuiper(folder.path(), &["serve", "--demo", "--listen", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (to, from) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| to.send(line)));
    let (mut rows, mut windows, mut commands) = (0, 0, 0);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && (rows == 0 || windows == 0 || commands < 3) {
        let Ok(line) = from.recv_timeout(PATIENCE) else { break };
        rows += usize::from(line.starts_with("hot ") && line.contains('{'));
        windows += usize::from(line.starts_with("average ") && line.contains("\"readings\""));
        commands += usize::from(line.contains("kuiper rule ") || line.contains("kuiper stream "));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(rows > 0 && windows > 0 && commands == 3, "{rows} rows, {windows} windows, {commands} commands");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

const CASE: &str = r#"
name: CASE
streams: ['CREATE STREAM s () WITH (DATASOURCE="s")']
sql: SELECT v FROM s WHERE v > 1
start: 1700000000000
input:
  - {stream: s, at: "+100", data: {v: 1}}
  - {stream: s, at: "+100", data: {v: 2}}
advance: "+1000"
output:
  - rows: [{v: 2}]
"#;

#[test]
fn rule_test_counts_and_tells() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("good.yaml", CASE.replace("CASE", "good"));
    write("other.txt", "left alone".to_string());
    let good = run(folder.path(), &["rule", "test", "."]);
    assert_eq!(good.status, 0, "{}", good.out);
    assert_eq!(good.out, "1 case had a batch of more than one row\n1 passed, 0 failed, 0 skipped\n");

    write("wrong.yaml", CASE.replace("CASE", "wrong").replace("- rows: [{v: 2}]", "- {at: '+100', rows: [{v: 3}]}"));
    write("twice.yaml", CASE.replace("CASE", "good"));
    write("broken.yaml", CASE.replace("CASE", "broken").replace("advance", "advanc"));
    write("graph.yaml", CASE.replace("CASE", "graph").replace("sql: ", "graph: {nodes: {}} # "));
    write("later.yaml", "kind: session\nname: whole/server\n".to_string());
    let bad = run(folder.path(), &["rule", "test", ".", "--json", "report.json"]);
    assert_eq!(bad.status, 1);
    assert_eq!(bad.out.lines().last(), Some("1 passed, 4 failed, 1 skipped"), "{}", bad.out);
    for told in [
        "FAILED wrong (./wrong.yaml:1)",
        "row by row: emission 1 differs: row 1: `v`: 3 expected, 2 came out; the clock stood at 1700000000100 (+100)",
        "- {v: 3}",
        "+ {v: 2}",
        "field `advance` is missing, found `advanc`",
        "the name is used twice, first at ./good.yaml:1",
        "a graph needs a sink",
        "skipped whole/server",
    ] {
        assert!(bad.out.contains(told), "{told} in\n{}", bad.out);
    }
    let report: Json = serde_json::from_str(&fs::read_to_string(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!((report["passed"].clone(), report["failed"].clone()), (1.into(), 4.into()));

    let named = run(folder.path(), &["rule", "test", "wrong.yaml", "--name", "w*", "--update"]);
    assert_eq!(named.status, 0, "{}", named.out);
    assert_eq!(run(folder.path(), &["rule", "test", "wrong.yaml"]).status, 0, "the file was rewritten");
    assert_eq!(run(folder.path(), &["rule", "test", "nowhere"]).status, 2);
}

#[test]
fn run_ends_when_nobody_reads_any_more() {
    let folder = TempDir::new().unwrap();
    let mut command = kuiper(folder.path(), &["run", "SELECT a FROM stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while input.write_all(b"{\"a\":1}\n").is_ok() {});
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"a\":1}\n");
    drop(lines);
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    writer.join().unwrap();
}

#[test]
fn a_setting_that_is_wrong_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let refused = |said: Said, parts: &[&str]| {
        assert_eq!((said.status, said.err.lines().count()), (2, 1), "{}", said.err);
        assert!(parts.iter().all(|part| said.err.contains(part)), "{}", said.err);
    };
    refused(run(folder.path(), &["serve", "--config", "no.yaml"]), &["`no.yaml`"]);
    refused(run(folder.path(), &["serve", "--listen", "there"]), &["`--listen there`"]);
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(folder.path().join("config/kuiper.yaml"), "basic:\n  restPrt: 1\n").unwrap();
    refused(run(folder.path(), &["serve"]), &["`basic.restPrt`", "config/kuiper.yaml", "`basic.restPort`"]);
    fs::write(folder.path().join("config/kuiper.yaml"), "").unwrap();
    let mut command = kuiper(folder.path(), &["serve"]);
    let output = command.env("KUIPER__BASIC__RESTPORT", "many").output().unwrap();
    refused(said(output), &["KUIPER__BASIC__RESTPORT", "`many`"]);
}
