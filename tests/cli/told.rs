//! What the commands tell on standard error: refusals, warnings, what was lost.

use std::fs;

use tempfile::TempDir;

use super::{STREAM, Server, free_address, run, run_with, wait_for};

#[test]
fn run_says_at_the_end_what_was_lost_and_names_what_failed() {
    let folder = TempDir::new().unwrap();
    let good = "{\"v\":1,\"w\":\"x\"}\n{\"v\":2,\"w\":3}\n";
    let told = |query: &str, input: &str| {
        let said = run_with(folder.path(), &["run", query], input);
        assert_eq!(said.status, 0, "{}", said.err);
        said.err
    };
    let all = told("SELECT v + w AS sum FROM stdin", &format!("{good}{{\"v\":\n"));
    assert_eq!(all.lines().last(), Some("kuiper: rows: 3 in = 1 out + 2 dead (1 decode, 1 eval)"), "{all}");
    let all = told("SELECT v + w AS sum FROM stdin", good);
    assert!(all.contains("run Select error: alias: sum expr: (v + w): invalid operation"), "{all}");
    let all = told("SELECT v FROM stdin WHERE w > 1 AND v > 0", good);
    assert!(all.contains("run Where error: expr: ((w > 1) AND (v > 0)): invalid operation"), "{all}");
    let all = told("SELECT sum(w) AS s FROM stdin GROUP BY TUMBLINGWINDOW(dd, 1)", good);
    assert!(all.contains("run Select error: expr: sum(w): argument 1 must be a number"), "{all}");
    assert_eq!(all.lines().last(), Some("kuiper: rows: 2 in = 2 dead (2 eval)"), "{all}");
    let clean = run_with(folder.path(), &["run", "SELECT v FROM stdin WHERE v > 1"], "{\"v\":1}\n{\"v\":2}\n");
    assert_eq!((clean.out.as_str(), clean.err.as_str()), ("{\"v\":2}\n", ""), "nothing is said where nothing is lost");
}

#[test]
fn what_cannot_be_read_or_reached_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("words.json", b"no rule");
    write("list.json", b"[1]");
    write("bytes.json", b"\xff");
    write("nameless.json", b"{}");
    fs::create_dir(folder.path().join("below")).unwrap();
    let away = free_address();
    for (args, status, told) in [
        (&["rule", "create", "-f", "none.json"][..], 2, "cannot read `none.json`: no such file or directory"),
        (&["rule", "create", "-f", "below"], 2, "cannot read `below`: it is a folder"),
        (&["rule", "create", "-f", "bytes.json"], 2, "cannot read `bytes.json`: it is no text in UTF-8"),
        (
            &["rule", "create", "-f", "words.json"],
            1,
            "`words.json` is no JSON: expected ident at line 1 column 2; a rule is one JSON object",
        ),
        (&["rule", "create", "-f", "list.json"], 1, "`list.json` is no rule, which is one JSON object"),
        (
            &["rule", "create", "-f", "nameless.json"],
            2,
            "the rule in `nameless.json` has no `id`; write one, or name the rule on the command line",
        ),
        (&["stream", "create", "-f", "none.sql"], 2, "cannot read `none.sql`: no such file or directory"),
        (&["run", "below"], 2, "cannot read `below`: it is a folder; give a SELECT, or a file with a rule as JSON"),
        (
            &["run", "rules.jsn"],
            2,
            "cannot read `rules.jsn`: no such file or directory; give a SELECT, or a file with a rule as JSON",
        ),
        (&["run", ""], 2, "there is nothing to run; give a SELECT, or a file with a rule as JSON"),
        (
            &["rule", "list", "--server", "ftp://here"],
            2,
            "`ftp://here` is no address of a server; write it as http://127.0.0.1:9081",
        ),
        (
            &["rule", "list", "--server", &away],
            2,
            &format!(
                "cannot reach the server at http://{away}: connection refused; start one with `kuiper serve`, or name it with `--server`"
            ),
        ),
        (
            &["serve", "--listen", "127.0.0.1:0", "--data", "list.json"],
            2,
            "cannot use the data folder `list.json`: it is a file; choose another with `--data`",
        ),
        (&["serve", "--config", "below"], 2, "cannot read `below`: is a directory"),
    ] {
        let said = run(folder.path(), args);
        assert_eq!(
            (said.status, said.out.as_str(), said.err.as_str()),
            (status, "", format!("kuiper: {told}\n").as_str()),
            "{args:?}"
        );
    }
    let said = run(folder.path(), &["run", "SELECT v FROM demo"]);
    assert!(said.status == 1 && said.err.contains("^^^^ define it with `--stream 'CREATE STREAM …'`"), "{}", said.err);
    let said = run(folder.path(), &["run", "SELECT v FROM stdim"]);
    assert!(said.status == 1 && said.err.contains("^^^^^ did you mean `stdin`?"), "{}", said.err);
}

#[test]
fn what_has_no_effect_is_told_on_standard_error() {
    let server = Server::start();
    let created =
        server.ask(&["stream", "create", r#"CREATE STREAM mem () WITH (TYPE="memory", DATASOURCE="a", KEY="é")"#]);
    assert_eq!((created.status, created.out.as_str()), (0, "Stream mem is created.\n"));
    let told = "kuiper: warning: option `KEY` of stream `mem` has no effect: only a table has a key (leave it out)\n";
    assert_eq!(created.err, told);
    let rule = r#"{"sql": "SELECT v FROM mem", "actions": [{"nop": {}}], "options": {"concurrency": 2}, "é": 1}"#;
    server.write("rule.json", rule);
    let told = "kuiper: warning: a rule has no member `é`\nkuiper: warning: option `concurrency` has no effect: \
        one task carries a rule and keeps its rows in order\n";
    let valid = server.ask(&["rule", "validate", "r", "-f", "rule.json"]);
    let found = "warning[K0905]: a rule has no member `é`\nwarning[K0903]: option `concurrency` has no effect: one task \
        carries a rule and keeps its rows in order\n";
    assert_eq!((valid.status, valid.err.as_str()), (0, found));
    assert_eq!(valid.out, "The rule has been successfully validated and is confirmed to be correct.\n");
    let created = server.ask(&["rule", "create", "r", "-f", "rule.json"]);
    assert_eq!((created.status, created.out.as_str()), (0, "Rule r was created successfully.\n"));
    assert_eq!(created.err, told);
}

#[test]
fn an_outage_of_a_sink_names_rule_and_sink() {
    let server = Server::start();
    server.done(&["stream", "create", STREAM]);
    let sink = format!("tcp://{}", free_address());
    let rule = format!(
        r#"{{"id": "far", "sql": "SELECT v FROM sim", "actions": [{{"mqtt": {{"server": "{sink}", "topic": "t"}}}}]}}"#
    );
    server.write("rule.json", &rule);
    server.done(&["rule", "create", "-f", "rule.json"]);
    let log = server.folder.path().join("log");
    let told = |line: &str| line.contains("trying again") && line.contains("far") && line.contains("mqtt_0");
    wait_for("the outage in the log", || fs::read_to_string(&log).is_ok_and(|text| text.lines().any(told)));
}

#[test]
fn the_account_of_a_rule_is_shown_term_by_term() {
    let server = Server::start();
    let rows = r#"{\"data\": [{\"v\": 1}, {\"v\": 2}, {\"v\": 0}], \"interval\": 0, \"loop\": false}"#;
    let stream = format!(r#"CREATE STREAM three () WITH (TYPE="simulator", FORMAT="json", EXTRA="{rows}")"#);
    server.done(&["stream", "create", &stream]);
    let rule = r#"{"id": "r", "sql": "SELECT 4 / v AS q FROM three WHERE v != 2", "actions": [{"nop": {}}]}"#;
    server.write("rule.json", rule);
    server.done(&["rule", "create", "-f", "rule.json"]);
    wait_for("the end of the input", || server.json(&["rule", "status", "r"])["message"] == "done");
    let shown = "TERM      ROWS  REASONS\n\
                 in        3\n\
                 out       1\n\
                 filtered  1\n\
                 held      0\n\
                 late      0\n\
                 dropped   0\n\
                 dead      1     1 eval\n\
                 balances  yes\n\
                 \n\
                 SINK   RESULTS  DELIVERED  QUEUED  DROPPED  DEAD  BALANCES\n\
                 nop_0  1        1          0       0        0     yes\n";
    assert_eq!(server.done(&["rule", "status", "r", "--ledger"]), shown);
    let sums = server.json(&["rule", "status", "r", "--ledger"]);
    assert_eq!(
        (&sums["ledger"]["in"], &sums["sinks"]["nop_0"]["delivered"]),
        (&serde_json::json!(3), &serde_json::json!(1))
    );
    // It is still there when the server is another one, and goes on when the rule runs again.
    let (folder, _) = server.stop("TERM");
    let server = Server::start_in(folder);
    assert_eq!(server.done(&["rule", "status", "r", "--ledger"]), shown);
    server.done(&["rule", "start", "r"]);
    wait_for("the second run", || server.json(&["rule", "status", "r"])["ledger"]["in"] == 6);
}
