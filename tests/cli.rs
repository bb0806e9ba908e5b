//! The real binary in empty folders: what it prints, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["KUIPER_SERVER", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs with lines on standard input.
    fn feed(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A server on a port of its own.
    fn serve(&self, more: &[&str]) -> Server {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "info"];
        args.extend(more);
        let mut child = self.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(" answers on ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server ended before it answered");
        }
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        // The log is read to its end, or the server would wait for a reader one day.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server { child, url }
    }
}

struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Sends SIGTERM, and gives the exit status and how long it took.
    fn stop(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        (status.code(), begun.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Refused in one sentence: the exit status, one line on standard error, nothing on standard output.
fn sentence(output: &Output, status: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(status), "{}", err(output));
    assert_eq!(err(output).lines().count(), 1, "{}", err(output));
    assert!(out(output).is_empty(), "{}", out(output));
    for part in parts {
        assert!(err(output).contains(part), "`{part}` is not in {}", err(output));
    }
}

#[test]
fn version_and_usage() {
    let home = Home::new();
    let version = home.run(&["--version"]);
    assert!(out(&version).starts_with("kuiper ") && out(&version).contains("plugin ABI"), "{}", out(&version));
    for args in [&["serv"][..], &["rule", "create"], &["rule"], &[]] {
        assert_eq!(home.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(fs::read_dir(home.folder.path()).unwrap().next().is_none(), "asking leaves nothing behind");
}

#[test]
fn run_reads_lines_and_writes_lines() {
    let home = Home::new();
    let lines = "{\"a\":1,\"b\":\"x\"}\n{\"a\":-1}\nbroken\n\n{\"a\":5}";
    let output = home.feed(&["run", "SELECT a, a * 2 AS b FROM stdin WHERE a > 0"], lines);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "{\"a\":1,\"b\":2}\n{\"a\":5,\"b\":10}\n");
    assert!(err(&output).contains("malformed"), "the bad record is told: {}", err(&output));
    assert!(fs::read_dir(home.folder.path()).unwrap().next().is_none(), "nothing is left behind");
}

#[test]
fn run_emits_the_open_window_at_the_end_of_the_input() {
    let home = Home::new();
    let sql = "SELECT count(*) AS n, sum(a) AS s FROM stdin GROUP BY TUMBLINGWINDOW(hh, 10)";
    let output = home.feed(&["run", sql], "{\"a\":1}\n{\"a\":2}\n");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let row: serde_json::Value = serde_json::from_str(out(&output).trim()).unwrap();
    assert_eq!(row, serde_json::json!({"n": 2, "s": 3}));
}

#[test]
fn run_executes_a_files_own_actions_over_streams_of_its_own() {
    let home = Home::new();
    home.write("in/rows.json", r#"[{"a": 1}, {"a": 2}]"#);
    home.write(
        "rule.json",
        r#"{"sql": "SELECT a FROM rows WHERE a > 1", "actions": [{"file": {"path": "out.jsonl", "fileType": "lines", "sendSingle": true}}]}"#,
    );
    let stream = r#"CREATE STREAM rows () WITH (TYPE="file", DATASOURCE="rows.json", FORMAT="json", EXTRA="{\"path\": \"in\", \"fileType\": \"json\"}")"#;
    let output = home.run(&["run", "rule.json", "--stream", stream]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(fs::read_to_string(home.folder.path().join("out.jsonl")).unwrap(), "{\"a\":2}\n");
    assert_eq!(out(&output), "");
}

#[test]
fn run_ends_when_nobody_reads_any_more() {
    let home = Home::new();
    let mut command = home.command(&["run", "SELECT a FROM stdin"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || while input.write_all(b"{\"a\":1}\n").is_ok() {});
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"a\":1}\n");
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), err(&output)), (Some(0), ""));
    writer.join().unwrap();
}

#[test]
fn run_shows_a_mistake_at_its_place() {
    let home = Home::new();
    let output = home.run(&["run", "SELECT a FROM stdn"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("SELECT a FROM stdn\n") && err(&output).contains("^^^^"), "{}", err(&output));
    sentence(&home.run(&["run", "none.json"]), 2, &["`none.json`", "no such file"]);
}

#[test]
fn a_server_out_of_reach_is_one_sentence() {
    let home = Home::new();
    let output = home.run(&["rule", "list", "--server", "http://127.0.0.1:1"]);
    sentence(&output, 2, &["http://127.0.0.1:1", "refused", "kuiper serve"]);
    sentence(&home.run(&["rule", "list", "--server", "http://"]), 2, &["`http://`"]);
}

#[test]
fn a_setting_that_is_wrong_is_one_sentence() {
    let home = Home::new();
    sentence(&home.run(&["serve", "--config", "no.yaml"]), 2, &["`no.yaml`"]);
    home.write("config/kuiper.yaml", "basic:\n  restPrt: 1\n");
    sentence(&home.run(&["serve"]), 2, &["`basic.restPrt`", "config/kuiper.yaml", "`basic.restPort`"]);
    let mut command = home.command(&["serve", "--config", "config/kuiper.yaml"]);
    home.write("config/kuiper.yaml", "");
    sentence(
        &command.env("KUIPER__BASIC__RESTPORT", "many").output().unwrap(),
        2,
        &["KUIPER__BASIC__RESTPORT", "`many`"],
    );
}

#[test]
fn a_session_of_commands() {
    let home = Home::new();
    let server = home.serve(&[]);
    let ask = |args: &[&str]| home.command(args).env("KUIPER_SERVER", &server.url).output().unwrap();
    let done = |args: &[&str], expected: &str| {
        let output = ask(args);
        assert_eq!((output.status.code(), out(&output), err(&output)), (Some(0), expected, ""), "{args:?}");
    };
    done(&["stream", "list"], "No stream definitions are found.\n");
    done(&["rule", "list"], "No rule definitions are found.\n");
    let create = r#"CREATE STREAM demo (a BIGINT DEFAULT 1) WITH (TYPE="memory", DATASOURCE="<x>")"#;
    done(&["stream", "create", create], "Stream demo is created.\n");
    home.write("t.sql", r#"CREATE TABLE t () WITH (DATASOURCE="t.json")"#);
    done(&["table", "create", "-f", "t.sql"], "Table t is created.\n");
    done(&["table", "list", "--json"], "[{\"name\":\"t\",\"type\":\"file\",\"format\":\"json\"}]\n");
    done(&["stream", "list"], "NAME  TYPE    FORMAT\ndemo  memory  json\n");
    done(
        &["stream", "describe", "demo"],
        "COLUMN  TYPE    DEFAULT\na       bigint  1\n\nOPTION      VALUE\ndatasource  <x>\ntype        memory\n",
    );
    home.write("rule.json", r#"{"sql": "SELECT a FROM demo", "actions": [{"nop": {}}]}"#);
    sentence(&ask(&["rule", "create", "-f", "rule.json"]), 2, &["`rule.json`", "`id`"]);
    sentence(&ask(&["rule", "create", "-f", "no.json"]), 2, &["`no.json`"]);
    done(
        &["rule", "validate", "r", "-f", "rule.json"],
        "The rule has been successfully validated and is confirmed to be correct.\n",
    );
    done(&["rule", "create", "r", "-f", "rule.json"], "Rule r was created successfully.\n");
    sentence(&ask(&["rule", "create", "r", "-f", "rule.json"]), 1, &["rule r already exists"]);
    done(&["rule", "update", "r", "-f", "rule.json"], "Rule r was updated successfully.\n");
    done(&["rule", "list"], "RULE  STATUS\nr     running\n");
    let status = ask(&["rule", "status", "r"]);
    assert!(
        out(&status).starts_with("running\n\nNODE") && out(&status).contains("\nrows     0 in\n"),
        "{}",
        out(&status)
    );
    let status: serde_json::Value = serde_json::from_slice(&ask(&["rule", "status", "r", "--json"]).stdout).unwrap();
    assert_eq!(status["status"], "running");
    assert!(out(&ask(&["rule", "explain", "r"])).contains("\"ProjectPlan_0\""));
    done(&["rule", "stop", "r"], "Rule r was stopped.\n");
    done(&["rule", "start", "r"], "Rule r was started\n");
    done(&["rule", "restart", "r"], "Rule r was restarted\n");
    sentence(&ask(&["stream", "drop", "demo"]), 1, &["stream demo has been referenced by other rules"]);

    sentence(&home.run(&["serve", "--listen", "127.0.0.1:0"]), 2, &["the data folder `", "in use", "--data"]);
    let address = server.url.trim_start_matches("http://");
    sentence(&home.run(&["serve", "--data", "other", "--listen", address]), 2, &[address, "in use", "--listen"]);

    let (status, took) = server.stop();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");

    let server = home.serve(&[]);
    let ask = |args: &[&str]| home.command(args).env("KUIPER_SERVER", &server.url).output().unwrap();
    let limit = Instant::now() + Duration::from_secs(10);
    while out(&ask(&["rule", "list"])) != "RULE  STATUS\nr     running\n" {
        assert!(Instant::now() < limit, "the rule does not run again: {}", out(&ask(&["rule", "list"])));
    }
    assert_eq!(out(&ask(&["rule", "drop", "r"])), "Rule r is dropped.\n");
    assert_eq!(out(&ask(&["stream", "drop", "demo"])), "Stream demo is dropped.\n");
    assert_eq!(out(&ask(&["table", "drop", "t"])), "Table t is dropped.\n");
}

#[test]
fn the_demo_shows_rows_of_both_rules_and_commands_that_work() {
    let home = Home::new();
    let mut command = home.command(&["serve", "--demo", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut commands, mut hot, mut average) = (Vec::new(), false, false);
    let begun = Instant::now();
    for line in lines {
        if line.trim_start().starts_with(env!("CARGO_BIN_EXE_kuiper")) {
            commands.push(line.trim().to_owned());
        }
        hot |= line.starts_with("hot ") && line.contains("\"temperature\":28.3");
        average |= line.starts_with("average ") && line.contains("\"readings\":");
        if hot && average {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no rows of {}", if hot { "average" } else { "hot" });
    }
    assert!(hot && average, "the demo ended before its rows were seen");
    assert_eq!(commands.len(), 3);
    for line in commands {
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", err(&output));
    }
    let mut server = Server { child, url: String::new() };
    let folder = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let name = format!("kuiper-{}-0", server.child.id());
    assert!(folder.into_iter().any(|entry| entry.file_name() == name.as_str()), "{name} is the demo's folder");
    server.child.stdout.take();
    let pid = server.child.id();
    let (status, took) = server.stop();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!std::env::temp_dir().join(format!("kuiper-{pid}-0")).exists(), "the demo leaves nothing behind");
    assert!(fs::read_dir(home.folder.path()).unwrap().next().is_none());
}
