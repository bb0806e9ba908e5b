//! Rules that are changed, and what a dry run says of it before.

use serde_json::{Value as Json, json};

use super::port::free_port;
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

/// Each of several sources goes on where it stood, wherever the new statement names it.
#[tokio::test(flavor = "multi_thread")]
async fn every_source_of_a_join_goes_on_where_it_stood_when_the_rule_is_changed() {
    const LINES: i64 = 600;
    let w = World::new().await;
    let home = w.home.path().to_owned();
    // A folder has no end, and each source stands somewhere else when the rule is changed.
    for (name, first, pause) in [("one", 0, "1ms"), ("two", LINES, "3ms")] {
        let folder = home.join(name);
        std::fs::create_dir(&folder).unwrap();
        let lines: String = (first..first + LINES).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        std::fs::write(folder.join("rows.jsonl"), lines).unwrap();
        let extra = json!({"path": home, "fileType": "lines", "sendInterval": pause}).to_string().replace('"', "\\\"");
        let statement = format!(
            "CREATE STREAM {name} (id BIGINT) WITH (TYPE=\"file\", FORMAT=\"json\", DATASOURCE=\"{name}\", EXTRA=\"{extra}\")"
        );
        let reply = w.ask("POST", "/streams", &json!({"sql": statement}).to_string()).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    let out = home.join("out.jsonl");
    let rule = |select: &str, from: &str| {
        let sql = format!("SELECT {select} FROM {from} ON one.id = two.id GROUP BY TUMBLINGWINDOW(ms, 50)");
        let sink = json!({"file": {"path": out, "fileType": "lines", "sendSingle": true}});
        json!({"id": "r", "sql": sql, "actions": [sink], "options": {"qos": 2}}).to_string()
    };
    let ledger = |w: &World| w.server.rules.status("r").unwrap().run.ledger;
    let reply = w.ask("POST", "/rules", &rule("one.id AS a, two.id AS b", "one FULL JOIN two")).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    // The second change puts the sources in the other order, so that their places say nothing of them.
    for (enough, select, from) in [
        (100, "one.id AS a, two.id AS b, 1 AS c", "one FULL JOIN two"),
        (300, "two.id AS b, one.id AS a", "two FULL JOIN one"),
        (500, "one.id AS a, two.id AS b", "one FULL JOIN two"),
    ] {
        eventually("so many rows came", || ledger(&w).came >= enough).await;
        let reply = w.ask("PUT", "/rules/r?force=true", &rule(select, from)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let all = 2 * LINES as u64;
    eventually("all has come, and met its end", || ledger(&w).came >= all && ledger(&w).ended() >= all).await;
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    let ledger = ledger(&w);
    assert!(ledger.came == all && ledger.balances(), "{ledger:?}");
    let written = std::fs::read_to_string(&out).unwrap();
    let mut ids: Vec<i64> = Vec::new();
    for line in written.lines() {
        let row: Json = serde_json::from_str(line).unwrap();
        ids.extend(["a", "b"].iter().filter_map(|side| row[side].as_i64()));
    }
    ids.sort_unstable();
    let count = ids.len() as u64;
    ids.dedup();
    assert_eq!(ids.len() as u64, count, "some came twice");
    // Rows of a window that has no place in the new statement are told, and no others are missing.
    let changed = ledger.dropped.get("changed").copied().unwrap_or_default();
    assert_eq!((count + changed, ledger.dropped.values().sum::<u64>()), (all, changed), "{ledger:?}");
}

#[tokio::test]
async fn a_dry_run_counts_the_rows_that_a_change_loses() {
    const OLD: &str = "SELECT a FROM quiet GROUP BY COUNTWINDOW(9)";
    const NEW: &str = "SELECT a FROM quiet GROUP BY COUNTWINDOW(8)";
    let w = World::new().await;
    w.follow(&[
        ("POST /streams", STREAM, 201, "Stream quiet is created."),
        ("POST /rules", &rule(OLD), 201, "Rule r was created successfully."),
    ])
    .await;
    let preview = async || -> Json {
        let reply = w.ask("PUT", "/rules/r?dryRun=true", &rule(NEW)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    };
    assert_eq!(preview().await["lostRows"], json!({}));
    // Another rule writes what the window keeps.
    let five = r#"{"data": [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}, {"a": 5}], "interval": 0, "loop": false}"#;
    let writer =
        json!({"id": "w", "sql": "SELECT a FROM sim", "actions": [{"memory": {"topic": "quiet"}}]}).to_string();
    w.follow(&[
        ("PUT /metadata/sources/simulator/confKeys/three", five, 200, ""),
        ("POST /streams", super::STREAM, 201, "Stream sim is created."),
        ("POST /rules", &writer, 201, "Rule w was created successfully."),
    ])
    .await;
    eventually("the window has them", || w.server.rules.status("r").unwrap().run.ledger.held == 5).await;
    let running = preview().await;
    let name = running["lost"][0].as_str().unwrap();
    assert_eq!(running["lostRows"], json!({name: 5}));
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    let stopped = preview().await;
    assert_eq!((&stopped["lostRows"], &stopped["unconfirmed"]), (&json!({name: 5}), &json!(0)));
    w.follow(&[("PUT /rules/r", &rule(NEW), 200, "Rule r was updated successfully.")]).await;
    let status = w.server.rules.status("r").unwrap();
    assert_eq!(status.run.ledger.dropped.get("changed"), Some(&5));
    let warnings = &w.json("/rules/r/status").await["journal"]["warnings"];
    assert_eq!(warnings, &json!(["5 rows that the rule held are dropped"]));
}

#[tokio::test]
async fn a_change_that_loses_nothing_warns_of_nothing() {
    let w = World::new().await;
    w.follow(&[
        ("POST /streams", STREAM, 201, "Stream quiet is created."),
        ("POST /rules", &rule("SELECT a FROM quiet GROUP BY COUNTWINDOW(9)"), 201, "Rule r was created successfully."),
    ])
    .await;
    eventually("the rule runs", || w.server.rules.status("r").unwrap().state.name() == "running").await;
    w.follow(&[(
        "PUT /rules/r",
        &rule("SELECT a FROM quiet GROUP BY COUNTWINDOW(8)"),
        200,
        "Rule r was updated successfully.",
    )])
    .await;
    assert_eq!(w.json("/rules/r/status").await["journal"]["warnings"], json!([]));
}

#[tokio::test]
async fn a_rule_whose_stream_was_changed_does_not_drop_what_its_log_has() {
    let w = World::new().await;
    let home = w.home.path().to_owned();
    let folder = home.join("rows");
    std::fs::create_dir(&folder).unwrap();
    let lines: String = (0..23).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    std::fs::write(folder.join("rows.jsonl"), lines).unwrap();
    let url = format!("http://127.0.0.1:{}", free_port());
    let stream = |kind: &str| {
        let extra = json!({"path": home, "fileType": "lines"}).to_string().replace('"', "\\\"");
        let options = format!("TYPE=\"file\", FORMAT=\"json\", DATASOURCE=\"rows\", EXTRA=\"{extra}\"");
        json!({"sql": format!("CREATE STREAM s (id {kind}) WITH ({options})")}).to_string()
    };
    let define = async |way: &str, path: &str, kind: &str| {
        let reply = w.ask(way, path, &stream(kind)).await;
        assert!(reply.status < 300, "{}", reply.body);
    };
    let sql = "SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(5)";
    let rule = json!({"id": "r", "sql": sql, "actions": [{"rest": {"url": url}}], "options": {"qos": 1}}).to_string();
    let ledger = || w.server.rules.status("r").unwrap().run.ledger;
    define("POST", "/streams", "BIGINT").await;
    assert_eq!(w.ask("POST", "/rules", &rule).await.status, 201);
    eventually("all rows came", || ledger().came == 23).await;
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    define("PUT", "/streams/s", "STRING").await;
    for again in ["/rules/r/start", "/rules/r/start"] {
        w.ask("POST", again, "").await;
        let status = w.server.rules.status("r").unwrap();
        assert!(status.message.contains("has 23 rows that it can go on with only as it was planned"), "{status:?}");
        assert_eq!(w.json("/rules/r/status").await["health"]["state"], "failed");
    }
    // As it was, it goes on.
    define("PUT", "/streams/s", "BIGINT").await;
    w.follow(&[("POST /rules/r/start", "", 200, "Rule r was started")]).await;
    eventually("it goes on", || w.server.rules.status("r").unwrap().message.is_empty() && ledger().came == 23).await;
    assert!(ledger().dropped.is_empty(), "{:?}", ledger());
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    define("PUT", "/streams/s", "STRING").await;
    let reply = w.ask("PUT", "/rules/r?force=true", &rule).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    eventually("what it had is dropped", || ledger().dropped.get("changed") == Some(&23)).await;
}
