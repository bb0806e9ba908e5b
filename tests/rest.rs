//! The REST interface as clients see it: requests, and the answers byte for byte. The server runs in this process, on a
//! port of its own, and the requests are written by hand, so that nothing between hides what is sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuiper::api::{self, Server};
use kuiper::config::Settings;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

struct World {
    home: tempfile::TempDir,
    server: Arc<Server>,
    address: String,
    task: JoinHandle<()>,
}

struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or("")
    }

    /// Every line of a header.
    fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

impl World {
    async fn new() -> World {
        World::over(tempfile::tempdir().unwrap()).await
    }

    async fn over(home: tempfile::TempDir) -> World {
        let mut settings = Settings::built_in().unwrap();
        settings.data = home.path().join("data");
        let (server, told) = Server::open(&settings, false).unwrap();
        assert!(told.is_empty(), "{told:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = api::serve(listener, server.clone(), std::future::pending());
        let task = tokio::spawn(async move { answering.await.unwrap() });
        server.rules.resume().await;
        World { home, server, address, task }
    }

    /// The same data folder, after the end of the process.
    async fn restarted(self) -> World {
        self.server.rules.shutdown(Duration::from_secs(5)).await;
        self.task.abort();
        let _ = self.task.await;
        let home = self.home;
        let server = Arc::downgrade(&self.server);
        drop(self.server);
        eventually("the old server is gone", || server.strong_count() == 0).await;
        let limit = Instant::now() + Duration::from_secs(5);
        // Tasks of the old server that are on their way out may hold the folder for a moment.
        while kuiper::store::Store::open(&home.path().join("data")).is_err() {
            assert!(Instant::now() < limit, "the data folder is still in use");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        World::over(home).await
    }

    async fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // The server closes each connection; without that this would wait for ever.
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection is closed").unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, headers: headers.to_owned(), body: body.to_owned() }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: kuiper\r\ncontent-length: {length}\r\n\r\n{body}");
        self.raw(request.as_bytes()).await
    }

    async fn json(&self, path: &str) -> Json {
        let reply = self.ask("GET", path, "").await;
        serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{path}: {}", reply.body))
    }

    /// Asks row by row: method and path, body, status, answer. An answer that ends in `…` need only begin so.
    async fn follow(&self, rows: &[(&str, &str, u16, &str)]) {
        for (request, body, status, expected) in rows {
            let (method, path) = request.split_once(' ').unwrap();
            let reply = self.ask(method, path, body).await;
            let place = format!("{request} {body}\n  gave {} {}", reply.status, reply.body);
            assert_eq!(reply.status, *status, "{place}");
            match expected.strip_suffix('…') {
                Some(start) => assert!(reply.body.starts_with(start), "{place}\n  not   {expected}"),
                None => assert_eq!(reply.body, *expected, "{place}"),
            }
        }
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < limit, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn paths_and_methods() {
    let w = World::new().await;
    w.follow(&[
        ("GET /ping", "", 200, ""),
        ("POST /ping", "", 405, ""),
        ("HEAD /ping", "", 405, ""),
        ("GET /nowhere", "", 404, "404 page not found\n"),
        ("GET /streams/", "", 404, "404 page not found\n"),
        ("PUT /plugins/sources", "", 405, ""),
        ("GET /plugins/portables", "", 404, "404 page not found\n"),
        ("GET /streams//demo?x=1", "", 301, ""),
    ])
    .await;
    assert_eq!(w.ask("GET", "/streams//demo?x=1", "").await.header("location"), "/streams/demo?x=1");
    let info: Json = serde_json::from_str(&w.ask("POST", "/", "").await.body).unwrap();
    for name in ["version", "os", "arch", "upTimeSeconds", "memoryTotal"] {
        assert!(!info[name].is_null(), "{name} is not in {info}");
    }
    assert!(info["memoryUsed"].as_str().unwrap().parse::<u64>().unwrap() > 1_000_000);
}

#[tokio::test]
async fn headers() {
    let w = World::new().await;
    for (path, kind) in [
        ("/", "text/plain; charset=utf-8"),
        ("/streams", "application/json"),
        ("/rules", "application/json"),
        ("/streams/none", "text/plain; charset=utf-8"),
        ("/nowhere", "text/plain; charset=utf-8"),
    ] {
        let reply = w.ask("GET", path, "").await;
        assert_eq!(reply.header("content-type"), kind, "{path}");
        assert_eq!(reply.header("connection"), "close", "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "*", "{path}");
    }
    assert_eq!(w.ask("GET", "/streams/none", "").await.header("x-content-type-options"), "nosniff");
    let preflight = "OPTIONS /rules HTTP/1.1\r\nhost: k\r\norigin: http://ui\r\naccess-control-request-method: PUT\r\n\
        access-control-request-headers: content-type\r\n\r\n";
    let reply = w.raw(preflight.as_bytes()).await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("access-control-allow-methods").contains("PUT"), "{}", reply.headers);
    assert!(reply.header("access-control-allow-headers").contains("content-type"), "{}", reply.headers);
}

#[tokio::test]
async fn streams_and_tables() {
    let w = World::new().await;
    let demo = r#"{"sql": "CREATE STREAM demo (id BIGINT, name STRING) WITH (DATASOURCE=\"t\", FORMAT=\"JSON\", TYPE=\"memory\")"}"#;
    w.follow(&[
        ("GET /streams", "", 200, "[]\n"),
        ("POST /streams", demo, 201, "Stream demo is created."),
        ("POST /streams", demo, 400, "{\"error\":3000,\"message\":\"Stream command error: Create stream fails: Item demo already exists.\"}\n"),
        ("POST /Stream", r#"{"SQL": "create stream b () with (FORMAT=\"json\")", "more": 1} ignored"#, 201, "Stream b is created."),
        ("GET /stream", "", 200, "[\"b\",\"demo\"]\n"),
        ("GET /streamdetails", "", 200, "[{\"name\":\"b\",\"type\":\"mqtt\",\"format\":\"json\"},{\"name\":\"demo\",\"type\":\"memory\",\"format\":\"json\"}]\n"),
        ("GET /streams/demo", "", 200, "{\"Name\":\"demo\",\"StreamFields\":[{\"FieldType\":\"bigint\",\"Name\":\"id\"},{\"FieldType\":\"string\",\"Name\":\"name\"}],\"Options\":{\"datasource\":\"t\",\"format\":\"json\",\"type\":\"memory\"},\"StreamType\":0,\"Statement\":null}\n"),
        ("GET /streams/demo/schema", "", 200, "{\"id\":{\"type\":\"bigint\",\"index\":0},\"name\":{\"type\":\"string\",\"index\":0}}\n"),
        ("GET /streams/b/schema", "", 200, "null\n"),
        ("GET /streams/none", "", 400, "{\"error\":3000,\"message\":\"describe stream error: Describe stream fails, none is not found.\"}\n"),
        ("GET /tables/demo", "", 400, "{\"error\":3000,\"message\":\"describe table error: Describe table fails, demo is not found.\"}\n"),
        ("GET /streams/a%20b", "", 400, "{\"error\":1000,\"message\":\"id 'a b' contains invalid characters: only alphanumeric, hyphens and underscores are allowed\"}\n"),
        ("POST /streams", r#"{"sql": "SHOW STREAMS"}"#, 201, "b\ndemo"),
        ("POST /streams", r#"{"sql": "SHOW TABLES"}"#, 201, "No table definitions are found."),
        ("POST /streams", r#"{"sql": "EXPLAIN STREAM demo"}"#, 201, "TO BE SUPPORTED"),
        ("POST /streams", r#"{"sql": "DESCRIBE STREAM demo"}"#, 201, "Fields\n--------------------------------------------------------------------------------\nid\tbigint\nname\tstring\n\nDATASOURCE: t\nFORMAT: json\nTYPE: memory\n"),
        ("PUT /streams/demo", r#"{"sql": "CREATE STREAM demo () WITH (VERSION=\"1\", DATASOURCE=\"<t>\", TYPE=\"memory\")"}"#, 200, "Stream demo is replaced."),
        ("POST /streams", r#"{"sql": "DESCRIBE STREAM demo"}"#, 201, "Fields\n--------------------------------------------------------------------------------\n\nDATASOURCE: &lt;t&gt;\nTYPE: memory\nVERSION: 1\n"),
        ("PUT /streams/demo", demo, 400, "{\"error\":3000,\"message\":\"Stream command error: source demo already exists with version (1), new version () is lower\"}\n"),
        ("PUT /streams/demo", r#"{"sql": "CREATE STREAM x () WITH ()"}"#, 400, "{\"error\":3000,\"message\":\"Stream command error: Replace demo fails: the sql statement must update the demo source.\"}\n"),
        ("PUT /streams/demo", r#"{"sql": "CREATE TABLE demo () WITH ()"}"#, 404, "{\"error\":1002,\"message\":\"Stream command error: stream demo is not found\"}\n"),
        ("POST /tables", r#"{"sql": "CREATE TABLE t () WITH (DATASOURCE=\"t.json\", TYPE=\"file\")"}"#, 201, "Table t is created."),
        ("GET /tables?kind=scan", "", 200, "[\"t\"]\n"),
        ("GET /table?kind=lookup", "", 200, "[]\n"),
        ("GET /tabledetails", "", 200, "[{\"name\":\"t\",\"type\":\"file\",\"format\":\"json\"}]\n"),
        ("DELETE /tables/t", "", 200, "Table t is dropped."),
        ("DELETE /streams/t", "", 404, "{\"error\":1002,\"message\":\"delete stream error: stream t is not found\"}\n"),
        ("POST /streams", r#"{"sql": "DROP STREAM b"}"#, 201, "Stream b is dropped."),
        ("POST /tables", r#"{"sql": "DROP TABLE b"}"#, 400, "{\"error\":3000,\"message\":\"Table command error: Drop table fails: b is not found.\"}\n"),
        ("POST /streams", r#"{"sql": "}"#, 400, "{\"error\":1000,\"message\":\"Invalid body: Error decoding the statement descriptor: …"),
        ("POST /streams", "", 400, "{\"error\":1000,\"message\":\"Invalid body: Error decoding the statement descriptor: …"),
        ("POST /streams", r#"{"sql": 3}"#, 400, "{\"error\":1000,\"message\":\"Invalid body: Error decoding the statement descriptor: …"),
    ])
    .await;
    let reply = w.ask("POST", "/streams", r#"{"sql": "CREATE STREAM s () WITH (FORMT=\"json\")"}"#).await;
    let refused: Json = serde_json::from_str(&reply.body).unwrap();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("^^^^^") && message.contains("did you mean `FORMAT`?"), "{message}");
}

const SOURCE: &str = r#"{"data": [{"a": 1}, {"a": 2}, {"a": 3}], "interval": 0, "loop": false}"#;
const STREAM: &str =
    r#"{"sql": "CREATE STREAM sim (a BIGINT) WITH (TYPE=\"simulator\", CONF_KEY=\"three\", FORMAT=\"json\")"}"#;

#[tokio::test]
async fn a_rule_from_its_creation_to_its_end() {
    let w = World::new().await;
    let rule = r#"{"id": "r", "sql": "SELECT a FROM sim WHERE a > 1", "actions": [{"nop": {}}], "triggered": false}"#;
    let edge = r#"{"id":"r","sql":"SELECT a FROM sim WHERE a > 1 AND a < 9","actions":[{"nop":{}}],"triggered":false}"#;
    w.follow(&[
        ("PUT /metadata/sources/simulator/confKeys/three", SOURCE, 200, ""),
        ("POST /streams", STREAM, 201, "Stream sim is created."),
        ("GET /rules", "", 200, "[]\n"),
        ("POST /rules/validate", rule, 200, "{\"sources\":[\"sim\"],\"valid\":true}\n"),
        ("POST /rules/validate", r#"{"id": "r", "sql": "SELECT a FROM sim"}"#, 422, "invalid rule json: Missing rule actions."),
        ("POST /rules/validate", "{", 422, "invalid rule json: Parse rule { error : …"),
        ("POST /rules", rule, 201, "Rule r was created successfully."),
        ("POST /rules", rule, 400, "{\"error\":1000,\"message\":\"rule r already exists\"}\n"),
        ("POST /rules", r#"{"sql": "SELECT 1", "actions": [{"nop": {}}]}"#, 400, "{\"error\":1000,\"message\":\"invalid rule json: Missing rule id.\"}\n"),
        ("GET /rules", "", 200, "[{\"id\":\"r\",\"name\":\"r\",\"status\":\"stopped\",\"tags\":null,\"trace\":false,\"version\":\"\"}]\n"),
        ("GET /rules/r", "", 200, rule),
        ("GET /rules/none", "", 404, "{\"error\":1002,\"message\":\"Describe rule error: Rule none is not found.\"}\n"),
        ("GET /rules/validate", "", 404, "{\"error\":1002,\"message\":\"Describe rule error: Rule validate is not found.\"}\n"),
        ("GET /rules/r/topo", "", 400, "{\"error\":1001,\"message\":\"get rule topo error: Fail to get rule r's topo, make sure the rule has been started before\"}\n"),
        ("GET /rules/none/topo", "", 404, "{\"error\":1002,\"message\":\"get rule topo error: …"),
        ("GET /rules/r/explain", "", 200, "{\"op\":\"ProjectPlan_0\",…"),
        ("GET /rules/none/explain", "", 404, "{\"error\":1002,\"message\":\"explain rules error: Rule none is not found.\"}\n"),
        ("GET /rules/none/status", "", 404, "{\"error\":1002,\"message\":\"get rule status error: Rule none is not found\"}\n"),
        ("POST /rules/none/start", "", 404, "{\"error\":1002,\"message\":\"start rule error: Rule none is not found in registry, please check if it is created\"}\n"),
        ("POST /rules/none/stop", "", 404, "{\"error\":1002,\"message\":\"stop rule error: …"),
        ("POST /rules/none/restart", "", 404, "{\"error\":1002,\"message\":\"restart rule error: …"),
        ("PUT /rules/r", r#"{"id": "other", "sql": "SELECT 1"}"#, 400, "{\"error\":1000,\"message\":\"Update rule error: Invalid rule json: RuleId is not consistent with rule id.\"}\n"),
        ("PUT /rules/r", edge, 200, "Rule r was updated successfully."),
        ("POST /rules/r/start", "", 200, "Rule r was started"),
    ])
    .await;
    let status = loop {
        let status = w.json("/rules/r/status").await;
        if status["status"] == "stopped" {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status["message"], "done", "{status:#}");
    assert!(status["lastStartTimestamp"].as_i64() > Some(0) && status["lastStopTimestamp"].as_i64() > Some(0));
    assert_eq!(status["source_sim_0_records_in_total"], 3, "{status:#}");
    assert_eq!(status["sink_nop_0_0_records_in_total"], 2, "{status:#}");
    let ledger = json!({"in": 3, "out": 2, "filtered": 1, "held": 0, "late": 0, "dropped": {}, "dead": {}});
    assert_eq!(status["ledger"], ledger, "{status:#}");
    let text = w.ask("GET", "/rules/r/status", "").await;
    assert!(
        text.body.starts_with("{\n  \"status\": \"stopped\",\n  \"message\": \"done\",\n  \"lastStartTimestamp\": ")
    );
    assert_eq!(text.header("content-type"), "application/json");
    let compact = w.ask("GET", "/v2/rules/r/status", "").await;
    assert!(compact.body.starts_with("{\"lastStartTimestamp\":"), "{}", compact.body);
    let stored = w.json("/rules/r").await;
    assert_eq!(stored["triggered"], false);
    w.follow(&[
        (
            "GET /rules/status/all",
            "",
            200,
            "{\"r\":{\"status\":\"stopped\",\"last_exception\":\"\",\"exceptions_total\":0}}\n",
        ),
        ("GET /rules/r/topo", "", 200, "{\"sources\":[\"source_sim\"],\"edges\":{…"),
        ("POST /rules/r/restart", "", 200, "Rule r was restarted"),
        ("POST /rules/r/stop", "", 200, "Rule r was stopped."),
        ("DELETE /rules/r", "", 200, "Rule r is dropped."),
        ("DELETE /rules/r", "", 400, "{\"error\":1000,\"message\":\"Delete rule error: rule r not found\"}\n"),
    ])
    .await;
}

#[tokio::test]
async fn a_mistake_in_the_sql_of_a_rule_is_shown_at_its_place() {
    let w = World::new().await;
    w.follow(&[("POST /streams", STREAM, 201, "Stream sim is created.")]).await;
    for (sql, place, remedy) in [
        ("SELECT b FROM sim", "^", "`b`"),
        ("SELECT a FROM sin", "^^^", "`sin`"),
        ("SELECT lenght(a) FROM sim", "^^^^^^", "`length`"),
        ("SELECT a FRM sim", "^^^", ""),
    ] {
        let rule = json!({"id": "r", "sql": sql, "actions": [{"nop": {}}]});
        let reply = w.ask("POST", "/rules", &rule.to_string()).await;
        let refused: Json = serde_json::from_str(&reply.body).unwrap();
        let message = refused["message"].as_str().unwrap();
        assert_eq!(reply.status, 400);
        assert!(message.contains(place) && message.contains(remedy) && message.contains(" --> sql:1:"), "{message}");
    }
    let rule = r#"{"id": "r", "sql": "SELECT a FROM sim", "actions": [{"mysqll": {}}]}"#;
    let reply = w.ask("POST", "/rules", rule).await;
    assert!(reply.body.contains("`mysqll`") && reply.body.contains("kuiper plugin deploy"), "{}", reply.body);
    let rule = r#"{"id": "r", "sql": "SELECT a FROM sim", "actions": [{"nop": {"lgo": true}}]}"#;
    let reply = w.ask("POST", "/rules", rule).await;
    assert!(reply.body.contains("`lgo`") && reply.body.contains("did you mean `log`?"), "{}", reply.body);
}

const FOREVER: &str = r#"{"sql": "CREATE STREAM mem () WITH (TYPE=\"memory\", DATASOURCE=\"a/b\", FORMAT=\"json\")"}"#;

#[tokio::test]
async fn what_has_no_effect_is_told_beside_the_answer() {
    let w = World::new().await;
    let stream =
        r#"{"sql": "CREATE STREAM mem () WITH (TYPE=\"memory\", DATASOURCE=\"a/b\", RETAIN_SIZE=\"5\", KEY=\"id\")"}"#;
    let reply = w.ask("POST", "/streams", stream).await;
    assert_eq!((reply.status, reply.body.as_str()), (201, "Stream mem is created."));
    assert_eq!(
        reply.all("kuiper-warning"),
        [
            "option `KEY` of stream `mem` has no effect: only a table has a key (leave it out)",
            "option `RETAIN_SIZE` of stream `mem` has no effect: only a table retains rows (leave it out)",
        ]
    );
    let replaced = w.ask("PUT", "/streams/mem", &stream.replace(", KEY=\\\"id\\\"", "")).await;
    assert_eq!((replaced.status, replaced.all("kuiper-warning").len()), (200, 1), "{}", replaced.body);

    let rule = r#"{"id": "r", "sql": "SELECT a FROM mem", "actions": [{"nop": {"resendPriority": 1}}], "options": {"concurrency": 4}, "überflüssig": 1, "triggered": false}"#;
    let told = [
        "a rule has no member `überflüssig`",
        "option `concurrency` has no effect: one task carries a rule and keeps its rows in order",
        "property `resendPriority` of a sink has no effect (leave it out)",
    ];
    let checked: Json = serde_json::from_str(&w.ask("POST", "/rules/validate", rule).await.body).unwrap();
    assert_eq!(checked, json!({"sources": ["mem"], "valid": true, "warnings": told}));
    let in_header = told.map(|line| line.replace('ü', "%C3%BC"));
    let created = w.ask("POST", "/rules", rule).await;
    assert_eq!((created.status, created.body.as_str()), (201, "Rule r was created successfully."));
    assert_eq!(created.all("kuiper-warning"), in_header);
    let updated = w.ask("PUT", "/rules/r", rule).await;
    assert_eq!((updated.status, updated.body.as_str()), (200, "Rule r was updated successfully."));
    assert_eq!(updated.all("kuiper-warning"), in_header);
    let refused = rule.replace("concurrency\": 4", "concurrencu\": 4");
    let refused = w.ask("POST", "/rules/validate", &refused).await;
    let expected = "invalid rule json: Rule r has invalid options: there is no option `concurrencu` (did you mean `concurrency`?).";
    assert_eq!((refused.status, refused.body.as_str()), (422, expected));
}

#[tokio::test]
async fn definitions_and_running_rules_survive_a_restart() {
    let w = World::new().await;
    w.follow(&[
        ("POST /streams", FOREVER, 201, "Stream mem is created."),
        ("POST /tables", r#"{"sql": "CREATE TABLE t () WITH (DATASOURCE=\"t.json\")"}"#, 201, "Table t is created."),
        ("PUT /metadata/sources/memory/confKeys/k", r#"{"bufferLength": 5}"#, 200, ""),
        (
            "POST /rules",
            r#"{"id": "go", "sql": "SELECT a FROM mem", "actions": [{"nop": {}}]}"#,
            201,
            "Rule go was created successfully.",
        ),
        (
            "POST /rules",
            r#"{"id": "no", "sql": "SELECT a FROM mem", "actions": [{"nop": {}}]}"#,
            201,
            "Rule no was created successfully.",
        ),
        ("POST /rules/no/stop", "", 200, "Rule no was stopped."),
        (
            "DELETE /streams/mem",
            "",
            400,
            "{\"error\":1000,\"message\":\"stream mem has been referenced by other rules\"}\n",
        ),
        (
            "POST /streams",
            r#"{"sql": "DROP STREAM mem"}"#,
            400,
            "{\"error\":3000,\"message\":\"Stream command error: stream mem has been referenced by other rules\"}\n",
        ),
    ])
    .await;
    let w = w.restarted().await;
    let states = w.json("/rules").await;
    assert_eq!((&states[0]["status"], &states[1]["status"]), (&json!("running"), &json!("stopped")), "{states}");
    w.follow(&[
        ("GET /streams", "", 200, "[\"mem\"]\n"),
        ("GET /tables", "", 200, "[\"t\"]\n"),
        ("DELETE /streams/mem?force=true", "", 200, "Stream mem is dropped."),
        ("DELETE /rules/go", "", 200, "Rule go is dropped."),
        ("DELETE /metadata/sources/memory/confKeys/k", "", 200, ""),
    ])
    .await;
}

#[tokio::test]
async fn configuration_keys_and_metadata() {
    let w = World::new().await;
    w.follow(&[
        ("PUT /metadata/sources/mqtt/confKeys/north", r#"{"server": "tcp://north:1883", "qos": 1.0}"#, 200, ""),
        ("PUT /metadata/sources/simulator/confKeys/slow", r#"{"data": [{"a": 1}], "interval": 10}"#, 200, ""),
        ("PUT /metadata/sources/mqtt/confKeys/a.b", "{}", 400, "{\"error\":1000,\"message\":\"Invalid confKey: id 'a.b' contains invalid characters: …"),
        ("PUT /metadata/sources/mqtt/confKeys/x", "[]", 400, "{\"error\":5000,\"message\":\"Type conversion failed:mqtt.expected a JSON object\"}\n"),
        ("DELETE /metadata/sources/mqtt/confKeys/none", "", 400, "{\"error\":5000,\"message\":\"`mqtt` has no configuration key `none`\"}\n"),
        ("DELETE /metadata/sources/mqqt/confKeys/none", "", 400, "{\"error\":5000,\"message\":\"This plugin was not found:sources.mqqt (did you mean `mqtt`?)\"}\n"),
        ("GET /metadata/sources/yaml/none", "", 400, "{\"error\":5000,\"message\":\"This plugin was not found:sources.none\"}\n"),
        ("GET /metadata/sources/none", "", 400, "{\"error\":5000,\"message\":\"This plugin was not found:none\"}\n"),
        ("DELETE /metadata/sources/simulator/confKeys/default", "", 400, "{\"error\":5000,\"message\":\"the configuration key `default` of `simulator` stands in a file or variable; take it out there\"}\n"),
    ])
    .await;
    let yaml = w.json("/metadata/sources/yaml/mqtt").await;
    assert_eq!(yaml["north"], json!({"server": "tcp://north:1883", "qos": 1}));
    assert_eq!(w.json("/metadata/sources/yaml/simulator").await["slow"]["interval"], "10ms");
    w.follow(&[("DELETE /metadata/sources/mqtt/confKeys/north", "", 200, "")]).await;
    for (path, name) in [("/metadata/sources", "simulator"), ("/metadata/sinks", "nop")] {
        let list = w.json(path).await;
        let found = list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(found["type"], "internal");
    }
    let fields = w.json("/metadata/sources/simulator").await;
    let fields = fields["properties"]["default"].as_array().unwrap().clone();
    let again = fields.iter().find(|field| field["name"] == "loop").unwrap();
    assert_eq!((&again["type"], &again["control"]), (&json!("bool"), &json!("radio")), "{again}");
    let functions = w.json("/metadata/functions").await;
    let all: Vec<&Json> = functions.as_array().unwrap().iter().flat_map(|one| one["fds"].as_array().unwrap()).collect();
    assert!(all.len() >= 60 && all.iter().any(|one| one["name"] == "avg"), "{}", all.len());
}

#[tokio::test]
async fn a_configuration_key_that_cannot_be_is_not_stored() {
    let w = World::new().await;
    let steps = [("PUT /metadata/sources/mqtt/confKeys/k", r#"{"server": "tcp://a:1883", "qos": 1}"#, 200, "")];
    w.follow(&steps).await;
    let before = w.json("/metadata/sources/yaml/mqtt").await;
    for (path, body, message) in [
        ("mqtt", r#"{"sever": "tcp://a:1883"}"#, "the `mqtt` source has no property `sever` (did you mean `server`?)"),
        ("mqtt", r#"{"qos": "1"}"#, "property `qos` of the `mqtt` source must be a whole number, found the text `1`"),
        ("mqtt", r#"{"qos": 3}"#, "property `qos` of the `mqtt` source must be 0, 1 or 2, found 3"),
        (
            "mqtt",
            r#"{"interval": 10}"#,
            "the `mqtt` source cannot do what property `interval` asks for (leave the property out)",
        ),
        (
            "mqtt",
            r#"{"useInt64ForWholeNumber": "yes"}"#,
            "property `useInt64ForWholeNumber` of the `mqtt` source must be true or false, found the text `yes`",
        ),
        (
            "file",
            r#"{"fileType": "jsn"}"#,
            "property `fileType` of the `file` source must be `json`, `lines` or `csv`, found `jsn` (did you mean `json`?)",
        ),
        (
            "simulator",
            r#"{"data": "a"}"#,
            "property `data` of the `simulator` source must be a list, found the text `a`",
        ),
        ("mqqt", "{}", "This plugin was not found:sources.mqqt (did you mean `mqtt`?)"),
        ("log", "{}", "This plugin was not found:sources.log"),
    ] {
        let reply = w.ask("PUT", &format!("/metadata/sources/{path}/confKeys/k"), body).await;
        let refused: Json = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((reply.status, &refused["error"]), (400, &json!(5000)), "{path} {body}: {}", reply.body);
        assert_eq!(refused["message"], message, "{path} {body}");
    }
    assert_eq!(w.json("/metadata/sources/yaml/mqtt").await, before);
    // What is missing may stand in the stream, and what has no effect is told beside the answer.
    let moved = w.ask("PUT", "/metadata/sources/file/confKeys/k", r#"{"actionAfterRead": 2, "parallel": true}"#).await;
    assert_eq!((moved.status, moved.body.as_str()), (200, ""));
    let reply = w.ask("PUT", "/metadata/sources/file/confKeys/k", r#"{"parallel": true, "fileType": "lines"}"#).await;
    assert_eq!(reply.header("kuiper-warning"), "property `parallel` of the `file` source has no effect (leave it out)");
    let w = w.restarted().await;
    assert_eq!(w.json("/metadata/sources/yaml/mqtt").await, before, "what was refused is not in the store");
}

#[tokio::test]
async fn uploads() {
    let w = World::new().await;
    let folder = w.home.path().canonicalize().unwrap().join("data/uploads");
    let path = folder.join("a.txt");
    let as_json = |body: &str| {
        format!(
            "POST /config/uploads HTTP/1.1\r\nhost: k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let reply = w.raw(as_json(r#"{"name": "a.txt", "content": "hello"}"#).as_bytes()).await;
    assert_eq!((reply.status, reply.body), (201, path.display().to_string()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello");
    let copy = json!({"name": "b.txt", "file": format!("file://{}", path.display())}).to_string();
    assert_eq!(w.raw(as_json(&copy).as_bytes()).await.status, 201);
    assert_eq!(std::fs::read_to_string(folder.join("b.txt")).unwrap(), "hello");

    let form = "--X\r\nContent-Disposition: form-data; name=\"uploadFile\"; filename=\"c.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\nbytes\r\n--X--\r\n";
    let request = format!(
        "POST /config/uploads HTTP/1.1\r\nhost: k\r\ncontent-type: multipart/form-data; boundary=X\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    let reply = w.raw(request.as_bytes()).await;
    assert_eq!((reply.status, reply.body), (201, folder.join("c.bin").display().to_string()));
    assert_eq!(w.json("/config/uploads").await.as_array().unwrap().len(), 3);

    for (body, part) in [
        (json!({"name": "../x", "content": "x"}), "leads out of the folder"),
        (json!({"name": "x"}), "Invalid body: missing necessary field"),
        (json!({"content": "x"}), "Invalid body: missing necessary field"),
        (json!({"name": "x", "file": "file:///etc/passwd"}), "file access denied: path must be under"),
        (json!({"name": "x", "file": format!("file://{}/../kuiper.redb", folder.display())}), "file access denied"),
        (json!({"name": "x", "file": "http://169.254.169.254/latest"}), "link-local"),
        (json!({"name": "x", "file": "gopher://x/y"}), "invalid uri"),
    ] {
        let reply = w.raw(as_json(&body.to_string()).as_bytes()).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains(part), "{body}: {}", reply.body);
    }
    assert_eq!(w.json("/config/uploads").await.as_array().unwrap().len(), 3, "what is refused leaves nothing");
    w.follow(&[
        ("DELETE /config/uploads/a.txt", "", 200, "ok"),
        (
            "DELETE /config/uploads/a.txt",
            "",
            400,
            "{\"error\":1000,\"message\":\"Error deleting the file: there is no uploaded file `a.txt`\"}\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn plugins_that_are_not_there_or_cannot_be() {
    let w = World::new().await;
    w.follow(&[
        ("GET /plugins/sources", "", 200, "[]\n"),
        ("GET /plugins/udfs", "", 200, "[]\n"),
        ("GET /plugins/sinks/none", "", 404, "{\"error\":1002,\"message\":\"describe sinks plugin none error: not found\"}\n"),
        ("DELETE /plugins/sinks/none", "", 404, "{\"error\":1002,\"message\":\"delete sinks plugin none error: …"),
        ("PUT /plugins/sinks/none", "{}", 404, "{\"error\":1002,\"message\":\"…"),
        ("GET /plugins/udfs/none", "", 404, "{\"error\":1002,\"message\":\"describe function none error: not found\"}\n"),
        ("POST /plugins/functions/none/register", r#"{"functions": ["f"]}"#, 404, "{\"error\":1002,\"message\":\"register functions plugin none error: …"),
        ("POST /plugins/functions/none/register", "{}", 400, "{\"error\":1000,\"message\":\"property 'functions' must not be empty\"}\n"),
        ("POST /plugins/sinks", r#"{"file": "http://127.0.0.1/x.zip"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: `name` of the plugin is missing\"}\n"),
        ("POST /plugins/sinks", r#"{"name": "mqtt", "file": "http://127.0.0.1:1/x.zip"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: fail to install plugin: `mqtt` is a sink of kuiper itself; give the plugin another name\"}\n"),
        ("POST /plugins/sinks", r#"{"name": "x", "file": "http://127.0.0.1/x.tar"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: invalid uri …"),
        ("POST /plugins/sinks", r#"{"name": "x", "file": "http://127.0.0.1:1/x.zip"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: fail to download file http://127.0.0.1:1/x.zip: …"),
        ("POST /plugins/sinks", r#"{"name": "x", "file": "file:///etc/x.zip"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: file access denied: …"),
    ])
    .await;
    assert!(w.json("/config/uploads").await.as_array().unwrap().is_empty());
}
