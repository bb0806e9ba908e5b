//! Streams that retain what is published to their topics: over stops, restarts and changes of their definitions.

use serde_json::{Value as Json, json};

use super::tables::{fill, lines, made, sql, to_file, until, with_lines};
use super::world::World;

fn stream(topics: &str, retention: u64) -> String {
    let extra = json!({ "retention": retention }).to_string().replace('"', "\\\"");
    sql(&format!(r#"CREATE STREAM kept () WITH (TYPE="memory", DATASOURCE="{topics}", EXTRA="{extra}")"#))
}

/// A rule with state over the stream, whose sums are lines of a file.
fn rule(w: &World, qos: u8) -> String {
    let mut rule: Json = serde_json::from_str(&to_file(w, "r", "SELECT n, acc_sum(n) AS s FROM kept")).unwrap();
    rule["options"] = json!({ "qos": qos });
    rule.to_string()
}

fn rows(from: u64, to: u64) -> Vec<Json> {
    (from..to).map(|n| json!({"n": n, "text": "x".repeat(200)})).collect()
}

/// The names of the logs of the stream.
fn logs(w: &World) -> Vec<String> {
    let entries = std::fs::read_dir(w.home.path().join("data/retained/kept"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn running(w: &World) {
    until(w, "r", "it runs", |status| status["source_kept_0_connection_status"] == 1).await;
}

#[tokio::test]
async fn a_rule_is_given_what_came_while_it_was_stopped() {
    let w = World::new().await;
    with_lines(&w).await;
    made(&w, "/streams", &stream("t/#", 0)).await;
    let told = w.ask("POST", "/rules", &rule(&w, 2)).await;
    let warning = told.header("kuiper-warning");
    assert!(warning.contains("memory keeps nothing") && warning.contains("`retention`"), "{}", told.headers);
    assert!(logs(&w).is_empty());
    assert_eq!(w.ask("DELETE", "/rules/r", "").await.status, 200);
    assert_eq!(w.ask("PUT", "/streams/kept", &stream("t/#", 1000)).await.status, 200);
    // It is retained before any rule reads, and not for one that is new.
    assert_eq!(logs(&w).len(), 1);
    fill(&w, "first", "t/a", json!({}), &rows(100, 110)).await;
    let told = w.ask("POST", "/rules", &rule(&w, 2)).await;
    assert_eq!((told.status, told.header("kuiper-warning")), (201, ""), "{}", told.body);
    running(&w).await;
    fill(&w, "second", "t/b", json!({}), &rows(0, 5)).await;
    until(&w, "r", "the rows", |status| status["ledger"]["out"] == 5).await;
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    fill(&w, "third", "t", json!({}), &rows(5, 10)).await;
    fill(&w, "elsewhere", "u", json!({}), &rows(200, 210)).await;
    let w = w.restarted().await;
    fill(&w, "fourth", "t/c/d", json!({}), &rows(10, 15)).await;
    w.follow(&[("POST /rules/r/start", "", 200, "Rule r was started")]).await;
    until(&w, "r", "all rows", |status| status["ledger"]["out"] == 15).await;
    let sums: Vec<Json> = (0..15).map(|n| json!({"n": n, "s": n * (n + 1) / 2})).collect();
    assert_eq!(lines(&w, "r"), sums);
    // A rule that promises nothing begins with what comes.
    let other = rule(&w, 0).replace("\"r\"", "\"q\"");
    made(&w, "/rules", &other).await;
    until(&w, "q", "it runs", |status| status["source_kept_0_connection_status"] == 1).await;
    assert_eq!(w.json("/rules/q/status").await["ledger"]["in"], 0);
}

#[tokio::test]
async fn what_is_gone_before_a_rule_comes_back_is_counted() {
    let w = World::new().await;
    with_lines(&w).await;
    made(&w, "/streams", &stream("t", 20)).await;
    made(&w, "/rules", &rule(&w, 1)).await;
    running(&w).await;
    fill(&w, "first", "t", json!({}), &rows(0, 5)).await;
    until(&w, "r", "the rows", |status| status["ledger"]["out"] == 5).await;
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    // One after the other, so that each is a publication.
    fill(&w, "second", "t", json!({"batchSize": 1}), &rows(5, 1005)).await;
    w.follow(&[("POST /rules/r/start", "", 200, "Rule r was started")]).await;
    let status = until(&w, "r", "all rows", |status| status["ledger"]["in"] == 1005).await;
    let dropped = status["ledger"]["dropped"]["retention"].as_u64().unwrap();
    assert!((800..=980).contains(&dropped), "{status:#}");
    let told = status["source_kept_0_last_exception"].as_str().unwrap();
    assert_eq!(told, format!("{dropped} rows of `kept` are gone before they could be read: retention"));
    until(&w, "r", "the rest", |status| status["ledger"]["out"] == 1005 - dropped).await;
    let numbers: Vec<u64> = lines(&w, "r").iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..5).chain(5 + dropped..1005).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_ends_with_its_definition() {
    let w = World::new().await;
    with_lines(&w).await;
    made(&w, "/streams", &stream("t", 100)).await;
    made(&w, "/rules", &rule(&w, 2)).await;
    running(&w).await;
    fill(&w, "first", "t", json!({}), &rows(0, 5)).await;
    until(&w, "r", "the rows", |status| status["ledger"]["out"] == 5).await;
    let before = logs(&w);
    // More of the same topics are kept in the same log.
    assert_eq!(w.ask("PUT", "/streams/kept", &stream("t", 200)).await.status, 200);
    assert_eq!(logs(&w), before);
    // A rule that runs goes on with the topics that it began with, until it is started again.
    assert_eq!(w.ask("PUT", "/streams/kept", &stream("u", 200)).await.status, 200);
    assert_eq!(logs(&w).len(), 2);
    fill(&w, "second", "t", json!({}), &rows(5, 10)).await;
    until(&w, "r", "the rows", |status| status["ledger"]["out"] == 10).await;
    fill(&w, "third", "u", json!({}), &rows(10, 15)).await;
    w.follow(&[("POST /rules/r/restart", "", 200, "Rule r was restarted")]).await;
    let status = until(&w, "r", "the rows", |status| status["ledger"]["out"] == 15).await;
    let told = status["source_kept_0_last_exception"].as_str().unwrap();
    assert!(told.contains("what `kept` retained is another log now"), "{told}");
    let after = logs(&w);
    assert!(after.len() == 1 && after != before, "{after:?}");
    w.follow(&[("DELETE /rules/r", "", 200, "Rule r is dropped.…")]).await;
    let w = w.restarted().await;
    assert_eq!(logs(&w), after);
    assert_eq!(w.ask("PUT", "/streams/kept", &stream("u", 0)).await.status, 200);
    assert!(logs(&w).is_empty());
    assert_eq!(w.ask("PUT", "/streams/kept", &stream("u", 7)).await.status, 200);
    assert_eq!(logs(&w).len(), 1);
    w.follow(&[("DELETE /streams/kept", "", 200, "Stream kept is dropped.")]).await;
    assert_eq!(std::fs::read_dir(w.home.path().join("data/retained")).unwrap().count(), 0);
}

#[tokio::test]
async fn retention_without_an_effect_is_named() {
    let w = World::new().await;
    let conf = w.ask("PUT", "/metadata/sources/memory/confKeys/long", r#"{"retention": 1000}"#).await;
    assert_eq!((conf.status, conf.header("kuiper-warning")), (200, ""), "{}", conf.body);
    // A source that a graph defines for itself is gone with its rule.
    let graph = json!({
        "id": "g",
        "graph": {
            "nodes": {
                "in": {"type": "source", "nodeType": "memory", "props": {"datasource": "a", "confKey": "long"}},
                "out": {"type": "sink", "nodeType": "nop", "props": {}},
            },
            "topo": {"sources": ["in"], "edges": {"in": ["out"]}},
        },
    });
    let told = w.ask("POST", "/rules", &graph.to_string()).await;
    assert_eq!(told.status, 201, "{}", told.body);
    let warning = told.header("kuiper-warning");
    assert!(warning.contains("property `retention` has no effect here"), "{}", told.headers);
    assert!(!w.home.path().join("data/retained").exists());
    // A stream takes the property from the key, too.
    let kept = r#"CREATE STREAM kept () WITH (TYPE="memory", DATASOURCE="a", CONF_KEY="long")"#;
    made(&w, "/streams", &sql(kept)).await;
    assert_eq!(logs(&w).len(), 1);
}

#[tokio::test]
async fn the_stream_of_the_guide_retains() {
    let guide = std::fs::read_to_string(format!("{}/rules/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let statement = guide.lines().find(|line| line.starts_with("CREATE STREAM alarms ")).unwrap();
    let w = World::new().await;
    let told = w.ask("POST", "/streams", &sql(statement)).await;
    assert_eq!((told.status, told.header("kuiper-warning")), (201, ""), "{}", told.body);
    assert_eq!(std::fs::read_dir(w.home.path().join("data/retained/alarms")).unwrap().count(), 1);
}
