//! Changes of rules, and what is told of them before.

use super::*;

#[test]
fn a_dry_run_tells_what_an_update_would_keep_and_changes_nothing() {
    let server = Server::start();
    server.done(&["stream", "create", r#"CREATE STREAM quiet () WITH (TYPE="memory", DATASOURCE="q", FORMAT="json")"#]);
    let write = |sql: &str| {
        let rule = serde_json::json!({"sql": sql, "actions": [{"nop": {}}], "options": {"qos": 1}});
        server.write("rule.json", &rule.to_string());
    };
    let old = "SELECT a, lag(a) AS before FROM quiet";
    write(old);
    server.done(&["rule", "create", "r", "-f", "rule.json"]);
    wait_for("the rule to run", || server.json(&["rule", "status", "r"])["status"] == "running");
    let dry = ["rule", "update", "r", "-f", "rule.json", "--dry-run"];

    write("SELECT a, lag(a) AS before FROM quiet LIMIT 3");
    let told = server.done(&dry);
    assert!(
        told.lines().count() == 1 && told.ends_with(" of the new rule goes on with what the old one knows\n"),
        "{told}"
    );
    let change = server.json(&dry);
    assert_eq!((change["carried"].as_array().unwrap().len(), &change["lost"]), (1, &Json::Array(vec![])), "{change}");

    write("SELECT a, lag(b) AS before FROM quiet");
    let told = server.done(&dry);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with(" of the new rule begins anew"), "{told}");
    assert!(lines[1].ends_with(" of the old rule is dropped with what it knows"), "{told}");

    write("SELECT a FROM quiet WHERE");
    let wrong = server.ask(&dry);
    assert_eq!((wrong.status, wrong.out.as_str()), (1, ""), "{}", wrong.err);
    write(old);
    let nobody = server.ask(&["rule", "update", "nobody", "-f", "rule.json", "--dry-run"]);
    assert!(nobody.status == 1 && nobody.err.contains("nobody"), "{}", nobody.err);
    assert_eq!(server.json(&["rule", "list"]).as_array().unwrap().len(), 1, "a dry run makes no rule either");
    assert_eq!(server.json(&["rule", "describe", "r"])["sql"], old);

    // One that holds rows says how many go.
    let rule = |size: u8| {
        let sql = format!("SELECT a FROM quiet GROUP BY COUNTWINDOW({size})");
        serde_json::json!({"sql": sql, "actions": [{"nop": {}}], "options": {"qos": 1}}).to_string()
    };
    server.write("window.json", &rule(9));
    server.done(&["rule", "create", "w", "-f", "window.json"]);
    wait_for("the window to run", || server.json(&["rule", "status", "w"])["status"] == "running");
    server.write("two.jsonl", "{\"a\":1}\n{\"a\":2}\n");
    let options =
        r#"TYPE="file", DATASOURCE="two.jsonl", FORMAT="json", EXTRA="{\"path\":\"\",\"fileType\":\"lines\"}""#;
    server.done(&["stream", "create", &format!("CREATE STREAM two () WITH ({options})")]);
    server.write("two.json", r#"{"sql": "SELECT a FROM two", "actions": [{"memory": {"topic": "q"}}]}"#);
    server.done(&["rule", "create", "two", "-f", "two.json"]);
    wait_for("the rows", || server.json(&["rule", "status", "w"])["ledger"]["held"] == 2);
    server.write("window.json", &rule(8));
    let told = server.done(&["rule", "update", "w", "-f", "window.json", "--dry-run"]);
    assert!(told.ends_with("of the old rule is dropped with what it knows: 2 rows held are lost\n"), "{told}");

    // A rule that keeps nothing says so.
    server.write("plain.json", r#"{"sql": "SELECT a FROM quiet", "actions": [{"nop": {}}]}"#);
    server.done(&["rule", "create", "plain", "-f", "plain.json"]);
    let told = server.done(&["rule", "update", "plain", "-f", "plain.json", "--dry-run"]);
    assert_eq!(told, "The rule keeps nothing that a change could drop.\n");
}
