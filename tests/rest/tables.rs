//! Joins and tables on a server: streams and tables of the connectors that come with it.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::world::{PATIENCE, World, eventually};

pub fn sql(text: &str) -> String {
    json!({ "sql": text }).to_string()
}

/// A rule that writes each row as a line of a file.
pub fn to_file(w: &World, id: &str, sql: &str) -> String {
    let path = w.home.path().join(id);
    json!({"id": id, "sql": sql, "actions": [{"file": {"path": path, "fileType": "lines", "sendSingle": true}}]})
        .to_string()
}

pub fn lines(w: &World, id: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(w.home.path().join(id)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub async fn made(w: &World, path: &str, body: &str) {
    let reply = w.ask("POST", path, body).await;
    assert_eq!(reply.status, 201, "{body}: {}", reply.body);
}

/// A stream or table whose rows stand in a file, one a line.
fn file(w: &World, name: &str, rows: &[Json]) -> String {
    let path = w.home.path().join(format!("{name}.lines"));
    let text: Vec<String> = rows.iter().map(Json::to_string).collect();
    std::fs::write(&path, text.join("\n") + "\n").unwrap();
    format!(r#"WITH (TYPE="file", FORMAT="json", DATASOURCE="{}", CONF_KEY="lines")"#, path.display())
}

pub async fn with_lines(w: &World) {
    let reply = w.ask("PUT", "/metadata/sources/file/confKeys/lines", r#"{"fileType": "lines", "path": ""}"#).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

pub async fn status(w: &World, id: &str) -> Json {
    w.json(&format!("/rules/{id}/status")).await
}

pub async fn until(w: &World, id: &str, what: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let begun = Instant::now();
    loop {
        let status = status(w, id).await;
        if holds(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "not so: {what}: {status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Rows that one rule gives to a topic, for others to read.
pub async fn fill(w: &World, id: &str, topic: &str, more: Json, rows: &[Json]) {
    made(w, "/streams", &sql(&format!("CREATE STREAM {id}_rows () {}", file(w, &format!("{id}_rows"), rows)))).await;
    let mut memory = json!({"topic": topic, "sendSingle": true});
    memory.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let rule = json!({"id": id, "sql": format!("SELECT * FROM {id}_rows"), "actions": [{"memory": memory}]});
    made(w, "/rules", &rule.to_string()).await;
    until(w, id, "its input has ended", |status| status["status"] == "stopped").await;
}

#[tokio::test]
async fn a_lookup_table_is_there_from_its_definition_on() {
    let w = World::new().await;
    with_lines(&w).await;
    let table = r#"CREATE TABLE halls () WITH (TYPE="memory", DATASOURCE="halls", KIND="lookup", KEY="id")"#;
    made(&w, "/tables", &sql(table)).await;
    assert_eq!(w.ask("GET", "/tables?kind=lookup", "").await.body, "[\"halls\"]\n");
    assert_eq!(w.ask("GET", "/tables?kind=scan", "").await.body, "[]\n");
    // No rule asks yet.
    let rows = [
        json!({"id": 1, "hall": "north", "does": "insert"}),
        json!({"id": 2, "hall": "south", "does": "upsert"}),
        json!({"id": 3, "hall": "west"}),
        json!({"id": 2, "does": "delete"}),
        json!({"id": 1, "hall": "east", "does": "update"}),
        json!({"id": 3, "hall": "nowhere", "does": "explode"}),
        json!({"hall": "nowhere"}),
    ];
    fill(&w, "fill", "halls", json!({"rowkindField": "does", "keyField": "id"}), &rows).await;
    let filled = status(&w, "fill").await;
    assert_eq!((&filled["ledger"]["out"], &filled["ledger"]["dead"]["refused"]), (&json!(5), &json!(2)), "{filled}");
    let stream = file(&w, "asks", &[json!({"id": 1, "v": 1}), json!({"id": 2, "v": 2}), json!({"id": 3, "v": 3})]);
    made(&w, "/streams", &sql(&format!("CREATE STREAM asks (id BIGINT, v BIGINT) {stream}"))).await;
    let rule =
        to_file(&w, "ask", "SELECT asks.v AS v, halls.hall AS hall FROM asks LEFT JOIN halls ON asks.id = halls.id");
    made(&w, "/rules", &rule).await;
    let done = until(&w, "ask", "its input has ended", |status| status["status"] == "stopped").await;
    assert_eq!(lines(&w, "ask"), [json!({"v": 1, "hall": "east"}), json!({"v": 2}), json!({"v": 3, "hall": "west"})]);
    assert_eq!(done["ledger"]["out"], 3, "{done}");
    assert_eq!(done["source_asks_0_records_out_total"], 3, "{done}");
    assert!(done["source_halls_0_records_in_total"].is_null(), "a lookup table is no source: {done}");
    let topo = w.json("/rules/ask/topo").await;
    assert_eq!(topo["sources"], json!(["source_asks"]), "{topo}");
    assert_eq!(topo["edges"]["source_asks"], json!(["op_2_decoder"]), "{topo}");
    assert_eq!(topo["edges"]["op_2_decoder"], json!(["op_3_lookup"]), "{topo}");
}

#[tokio::test]
async fn a_table_that_a_rule_reads_is_not_dropped() {
    let w = World::new().await;
    made(&w, "/streams", &sql(r#"CREATE STREAM s () WITH (TYPE="memory", DATASOURCE="s")"#)).await;
    let refused = w
        .ask("POST", "/tables", &sql(r#"CREATE TABLE t () WITH (TYPE="memory", DATASOURCE="t", KIND="lookup")"#))
        .await;
    assert!(refused.status == 400 && refused.body.contains("KEY"), "{}", refused.body);
    let refused = w
        .ask("POST", "/tables", &sql(r#"CREATE TABLE t () WITH (TYPE="mqtt", DATASOURCE="t", KIND="lookup", KEY="a")"#))
        .await;
    assert!(refused.status == 400 && refused.body.contains("cannot be asked for rows"), "{}", refused.body);
    assert_eq!(w.ask("GET", "/tables", "").await.body, "[]\n");
    for (name, more) in [("asked", r#", KIND="lookup", KEY="id""#), ("kept", "")] {
        made(
            &w,
            "/tables",
            &sql(&format!(r#"CREATE TABLE {name} () WITH (TYPE="memory", DATASOURCE="{name}"{more})"#)),
        )
        .await;
        let rule = json!({"id": name, "sql": format!("SELECT * FROM s INNER JOIN {name} ON s.id = {name}.id"), "actions": [{"nop": {}}]});
        made(&w, "/rules", &rule.to_string()).await;
        let reply = w.ask("DELETE", &format!("/tables/{name}"), "").await;
        assert!(reply.status == 400 && reply.body.contains("has been referenced by other rules"), "{}", reply.body);
        assert_eq!(w.ask("POST", &format!("/rules/{name}/stop"), "").await.status, 200);
        assert_eq!(w.ask("DELETE", &format!("/tables/{name}"), "").await.status, 200);
        let reply = w.ask("POST", &format!("/rules/{name}/start"), "").await;
        assert!(reply.status == 400, "{}", reply.body);
    }
}

#[tokio::test]
async fn a_scan_table_keeps_the_rows_of_its_connector() {
    let w = World::new().await;
    with_lines(&w).await;
    let table = file(&w, "kept", &[json!({"id": 1, "hall": "north"}), json!({"id": 2, "hall": "south"})]);
    made(&w, "/tables", &sql(&format!("CREATE TABLE kept (id BIGINT, hall STRING) {table}"))).await;
    made(&w, "/streams", &sql(r#"CREATE STREAM live () WITH (TYPE="memory", DATASOURCE="live")"#)).await;
    made(
        &w,
        "/rules",
        &to_file(&w, "scan", "SELECT live.v AS v, kept.hall AS hall FROM live INNER JOIN kept ON live.id = kept.id"),
    )
    .await;
    until(&w, "scan", "the table is read", |status| status["ledger"]["held"] == 2).await;
    let rows = [json!({"id": 2, "v": 1}), json!({"id": 1, "v": 2}), json!({"id": 9, "v": 3})];
    fill(&w, "fill", "live", json!({}), &rows).await;
    let running = until(&w, "scan", "the rows came through", |status| status["ledger"]["in"] == 5).await;
    eventually("the results are written", || lines(&w, "scan").len() == 2).await;
    assert_eq!(lines(&w, "scan"), [json!({"v": 1, "hall": "south"}), json!({"v": 2, "hall": "north"})]);
    assert_eq!(running["status"], "running", "a table that has ended ends no rule: {running}");
    assert_eq!(running["source_kept_0_records_out_total"], 2, "{running}");
    assert_eq!(running["source_live_0_records_out_total"], 3, "{running}");
    let topo = w.json("/rules/scan/topo").await;
    assert_eq!(topo["sources"], json!(["source_live", "source_kept"]), "{topo}");
    assert_eq!(topo["edges"]["source_live"], json!(["op_5_join"]), "{topo}");
    assert_eq!(topo["edges"]["source_kept"], json!(["op_4_decoder"]), "{topo}");
    assert_eq!(topo["edges"]["op_4_decoder"], json!(["op_5_join"]), "{topo}");
    assert_eq!(w.ask("POST", "/rules/scan/stop", "").await.status, 200);
    let ledger = &status(&w, "scan").await["ledger"];
    let stopped = ledger["dropped"]["stop"].as_u64().unwrap_or_default();
    let sum = ledger["out"].as_u64().unwrap() + ledger["filtered"].as_u64().unwrap() + stopped;
    assert_eq!((ledger["in"].as_u64(), ledger["held"].as_u64()), (Some(sum), Some(0)), "{ledger}");
}

#[tokio::test]
async fn streams_are_joined_and_one_stream_with_itself() {
    let w = World::new().await;
    with_lines(&w).await;
    let a = file(&w, "a", &[json!({"id": 1, "boss": 2}), json!({"id": 2, "boss": 3}), json!({"id": 3})]);
    let b = file(&w, "b", &[json!({"id": 3, "w": 30}), json!({"id": 1, "w": 10})]);
    made(&w, "/streams", &sql(&format!("CREATE STREAM a () {a}"))).await;
    made(&w, "/streams", &sql(&format!("CREATE STREAM b () {b}"))).await;
    let both = "SELECT a.id AS id, w FROM a LEFT JOIN b ON a.id = b.id GROUP BY TUMBLINGWINDOW(dd, 1)";
    let itself = "SELECT one.id AS id, two.id AS boss FROM a AS one INNER JOIN a AS two ON one.boss = two.id \
        GROUP BY TUMBLINGWINDOW(dd, 1)";
    for (id, sql, rows, wanted) in [
        ("both", both, 5, vec![json!({"id": 1, "w": 10}), json!({"id": 2}), json!({"id": 3, "w": 30})]),
        ("itself", itself, 6, vec![json!({"id": 1, "boss": 2}), json!({"id": 2, "boss": 3})]),
    ] {
        made(&w, "/rules", &to_file(&w, id, sql)).await;
        let done = until(&w, id, "both inputs have ended", |status| status["status"] == "stopped").await;
        assert_eq!(lines(&w, id), wanted, "{id}");
        assert_eq!(done["ledger"]["in"], rows, "{done}");
    }
    let done = status(&w, "itself").await;
    assert_eq!(done["source_a_0_records_out_total"], 3, "{done}");
    assert_eq!(done["source_two_0_records_out_total"], 3, "{done}");
}

#[tokio::test]
async fn a_lookup_table_is_made_again_at_the_start_of_the_server() {
    let w = World::new().await;
    let table = r#"CREATE TABLE halls () WITH (TYPE="memory", DATASOURCE="halls", KIND="lookup", KEY="id")"#;
    made(&w, "/tables", &sql(table)).await;
    let w = w.restarted().await;
    with_lines(&w).await;
    fill(&w, "fill", "halls", json!({}), &[json!({"id": 1, "hall": "north"})]).await;
    let stream = file(&w, "asks", &[json!({"id": 1})]);
    made(&w, "/streams", &sql(&format!("CREATE STREAM asks () {stream}"))).await;
    made(&w, "/rules", &to_file(&w, "ask", "SELECT hall FROM asks INNER JOIN halls ON asks.id = halls.id")).await;
    until(&w, "ask", "its input has ended", |status| status["status"] == "stopped").await;
    assert_eq!(lines(&w, "ask"), [json!({"hall": "north"})]);
}
