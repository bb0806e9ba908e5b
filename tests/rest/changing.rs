//! Rules that are changed, and what a dry run says of it before.

use serde_json::{Value as Json, json};

use super::world::{World, eventually};

/// A stream of memory has what it is given, and no end.
const STREAM: &str =
    r#"{"sql": "CREATE STREAM quiet () WITH (TYPE=\"memory\", DATASOURCE=\"quiet\", FORMAT=\"json\")"}"#;

fn rule(sql: &str) -> String {
    json!({"id": "r", "sql": sql, "actions": [{"nop": {}}], "options": {"qos": 1}}).to_string()
}

#[tokio::test]
async fn a_dry_run_says_what_a_change_keeps_and_changes_nothing() {
    const OLD: &str = "SELECT a, lag(a) AS before FROM quiet";
    let w = World::new().await;
    w.follow(&[
        ("POST /streams", STREAM, 201, "Stream quiet is created."),
        ("POST /rules", &rule(OLD), 201, "Rule r was created successfully."),
    ])
    .await;
    eventually("the rule runs", || w.server.rules.status("r").unwrap().state.name() == "running").await;
    let preview = async |sql: &str| -> Json {
        let reply = w.ask("PUT", "/rules/r?dryRun=true", &rule(sql)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    };
    let same = preview("SELECT a, lag(a) AS before FROM quiet LIMIT 3").await;
    assert_eq!(same["lost"], json!([]), "{same}");
    assert_eq!(
        (same["carried"].as_array().unwrap().len(), &same["anew"], &same["unconfirmed"]),
        (1, &json!([]), &json!(0))
    );
    let other = preview("SELECT a, lag(b) AS before FROM quiet").await;
    assert_eq!((&other["carried"], other["anew"].as_array().unwrap().len()), (&json!([]), 1), "{other}");
    assert_eq!(other["lost"].as_array().unwrap().len(), 1);
    assert_eq!(w.json("/rules/r").await["sql"], OLD);
    let reply = w.ask("PUT", "/rules/nobody?dryRun=true", &rule(OLD).replace("\"r\"", "\"nobody\"")).await;
    assert!(reply.status == 404 && reply.body.contains("nobody"), "{} {}", reply.status, reply.body);
    w.follow(&[(
        "PUT /rules/r",
        &rule("SELECT a, lag(b) AS before FROM quiet"),
        200,
        "Rule r was updated successfully.",
    )])
    .await;
    assert_eq!(w.json("/rules/r").await["sql"], "SELECT a, lag(b) AS before FROM quiet");
}
