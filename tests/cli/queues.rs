//! `kuiper queue`: the session of the guide, text for text, against a server and against its data folder.

use std::fs;
use std::path::Path;

use regex::Regex;
use tempfile::TempDir;

use super::{Said, Server, run, wait_for};

const PUMP: &str = r#"CREATE STREAM pump (id STRING, celsius FLOAT) WITH (TYPE="simulator", FORMAT="json",
    EXTRA="{\"data\":[{\"id\":\"p1\",\"celsius\":81.5},{\"id\":\"p2\",\"celsius\":82.5},{\"id\":\"p3\",\"celsius\":83.5}],\"interval\":0,\"loop\":false}")"#;

/// The part of the guide, its rule, and its session: commands and what they print.
fn guide() -> (String, Vec<(String, String)>) {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/README.md")).unwrap();
    let part = guide.split("\n## Store and forward\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let block =
        |kind: &str| part.split(&format!("```{kind}\n")).nth(1).unwrap().split("```").next().unwrap().to_owned();
    let session = block("console");
    let steps = session.split("$ ").skip(1).map(|step| step.split_once('\n').unwrap());
    (block("json"), steps.map(|(command, said)| (command.to_owned(), said.to_owned())).collect())
}

/// Times differ from run to run, and take as much room.
fn masked(text: &str) -> String {
    Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").unwrap().replace_all(text, "TIME").into_owned()
}

/// Has the rule of the guide store its three rows.
fn stored(server: &Server) -> Vec<(String, String)> {
    let (rule, session) = guide();
    server.done(&["stream", "create", PUMP]);
    server.write("rule.json", &rule);
    server.done(&["rule", "create", "-f", "rule.json"]);
    wait_for("the rows in the queue", || server.json(&["rule", "status", "alarms"])["sinks"]["mqtt_0"]["queued"] == 3);
    session
}

fn check(session: &[(String, String)], ask: impl Fn(&[&str]) -> Said) {
    assert_eq!(session.len(), 4);
    for (command, expected) in session {
        let args: Vec<&str> = command.split(' ').skip(1).collect();
        let said = ask(&args);
        assert_eq!((said.status, masked(&said.out)), (0, masked(expected)), "{command}: {}", said.err);
    }
}

#[test]
fn the_session_of_the_guide_against_a_server() {
    let server = Server::start();
    let session = stored(&server);
    let status = server.done(&["rule", "status", "alarms"]);
    assert!(status.contains("mqtt_0   3 results = 3 queued"), "{status}");
    check(&session, |args| server.ask(args));
    let exported = fs::read_to_string(server.folder.path().join("late.jsonl")).unwrap();
    let first = exported.lines().next().unwrap();
    assert!(
        first.starts_with(r#"{"sequence":1,"time":"#) && first.contains(r#""size":26,"text":"{\"celsius\""#),
        "{first}"
    );
    assert_eq!(server.json(&["queue", "list", "alarms"])[0]["messages"], 0);
    for (args, told) in [
        (&["queue", "show", "alarms", "mqtt_1"][..], "rule `alarms` has no queue `mqtt_1`; it has `mqtt_0`"),
        (&["queue", "drop", "none", "mqtt_0"], "rule `none` has no queue `mqtt_0`; it has none"),
        (&["queue", "list", "none"], "Rule none is not found"),
    ] {
        let said = server.ask(args);
        assert_eq!((said.status, said.err), (1, format!("kuiper: {told}\n")), "{args:?}");
    }
}

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--data", "data"]].concat()
}

#[test]
fn the_session_of_the_guide_without_a_server() {
    let mut server = Server::start();
    let session = stored(&server);
    let busy = server.ask(&with(&["queue", "list"]));
    assert!(busy.status == 2 && busy.err.contains("or ask its server, without `--data`"), "{}", busy.err);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    check(&session, |args| run(server.folder.path(), &with(args)));
    let list = run(server.folder.path(), &with(&["queue", "list"]));
    // It is empty, and there still: the next start finds in it what was dropped, and counts it.
    let row: Vec<&str> = list.out.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((list.status, &row[..4.min(row.len())]), (0, &["alarms", "mqtt_0", "0", "0"][..]), "{}", list.out);
    let empty = TempDir::new().unwrap();
    let said = run(empty.path(), &["queue", "list", "--data", "data"]);
    assert_eq!((said.status, said.err.as_str()), (2, "kuiper: there is no data folder `data`\n"));
}

#[test]
fn a_rule_that_is_dropped_says_what_went_with_it() {
    let server = Server::start();
    stored(&server);
    let (rule, _) = guide();
    // A sink of another place leaves the queue behind, and says so.
    server.write("rule.json", &rule.replace(r#""enableCache": true"#, r#""enableCache": false"#));
    let updated = server.ask(&["rule", "update", "-f", "rule.json"]);
    assert_eq!(updated.status, 0, "{}", updated.err);
    let told = "3 rows in the queue of sink `mqtt_0` of rule `alarms` are not sent";
    assert!(updated.err.contains(told), "{}", updated.err);
    // The changed rule has read them once more, and waits for its sink.
    let waiting = || server.done(&["rule", "status", "alarms"]).contains("6 in = 3 out");
    wait_for("the changed rule has its rows", waiting);
    let dropped = server.done(&["rule", "drop", "alarms"]);
    let told = "3 rows that it held went undelivered. 3 rows of sink mqtt_0 went undelivered.";
    assert_eq!(dropped, format!("Rule alarms is dropped. {told}\n"));
    assert_eq!(server.done(&["queue", "list"]), "No queues are found.\n");
}
