//! The REST interface as clients see it: requests, and the answers byte for byte. The server runs in this process, on a
//! port of its own, and the requests are written by hand, so that nothing between hides what is sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "rest/changing.rs"]
mod changing;
#[path = "rest/dead.rs"]
mod dead;
#[path = "rest/graphs.rs"]
mod graphs;
#[path = "connectors/http.rs"]
// Other tests use the rest of it.
#[allow(dead_code)]
mod http;
#[path = "rest/living.rs"]
mod living;
#[path = "rest/metrics.rs"]
mod metrics;
#[path = "served/port.rs"]
mod port;
#[path = "rest/queues.rs"]
mod queues;
#[path = "rest/refusals.rs"]
mod refusals;
#[path = "rest/retaining.rs"]
mod retaining;
#[path = "rest/tables.rs"]
mod tables;
#[path = "rest/world.rs"]
mod world;

use std::time::Duration;

use serde_json::{Value as Json, json};

use world::{SOURCE, STREAM, World};

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
        ("POST /rules/bulkstart", "{}", 404, "404 page not found\n"),
        ("PUT /rules/r/tags", "{}", 404, "404 page not found\n"),
        ("POST /batch/req", "[]", 404, "404 page not found\n"),
        ("PUT /rules/r/start", "", 405, ""),
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
        ("GET /streams/demo", "", 200, "{\"Name\":\"demo\",\"StreamFields\":[{\"FieldType\":\"bigint\",\"Name\":\"id\"},{\"FieldType\":\"string\",\"Name\":\"name\"}],\"Options\":{\"datasource\":\"t\",\"format\":\"JSON\",\"type\":\"memory\"},\"StreamType\":0,\"Statement\":null}\n"),
        ("GET /streams/demo/schema", "", 200, "{\"id\":{\"type\":\"bigint\",\"index\":0},\"name\":{\"type\":\"string\",\"index\":0}}\n"),
        ("GET /streams/b/schema", "", 200, "null\n"),
        ("GET /streams/none", "", 400, "{\"error\":3000,\"message\":\"describe stream error: Describe stream fails, none is not found.\"}\n"),
        ("GET /tables/demo", "", 400, "{\"error\":3000,\"message\":\"describe table error: Describe table fails, demo is not found.\"}\n"),
        ("GET /streams/a%20b", "", 400, "{\"error\":1000,\"message\":\"id 'a b' contains invalid characters: only alphanumeric, hyphens and underscores are allowed\"}\n"),
        ("POST /streams", r#"{"sql": "SHOW STREAMS"}"#, 201, "b\ndemo"),
        ("POST /streams", r#"{"sql": "SHOW TABLES"}"#, 201, "No table definitions are found."),
        ("POST /streams", r#"{"sql": "EXPLAIN STREAM demo"}"#, 201, "TO BE SUPPORTED"),
        ("POST /streams", r#"{"sql": "DESCRIBE STREAM demo"}"#, 201, "Fields\n--------------------------------------------------------------------------------\nid\tbigint\nname\tstring\n\nDATASOURCE: t\nFORMAT: JSON\nTYPE: memory\n"),
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
        ("POST /streams", r#"{"sql": "}"#, 400, "{\"error\":1000,\"message\":\"Invalid body: Error decoding the statement descriptor: the body is no JSON: EOF while parsing a string at line 1 column 10\"}\n"),
        ("POST /streams", "", 400, "{\"error\":1000,\"message\":\"Invalid body: Error decoding the statement descriptor: …"),
        ("POST /streams", r#"{"sql": 3}"#, 400, "{\"error\":1000,\"message\":\"Invalid body: Error decoding the statement descriptor: …"),
    ])
    .await;
    let reply = w.ask("POST", "/streams", r#"{"sql": "CREATE STREAM s () WITH (FORMT=\"json\")"}"#).await;
    let refused: Json = serde_json::from_str(&reply.body).unwrap();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("^^^^^") && message.contains("did you mean `FORMAT`?"), "{message}");
}

#[tokio::test]
async fn keyed_state() {
    let w = World::new().await;
    w.follow(&[
        ("GET /keyedstate", "", 200, "{}\n"),
        ("GET /keyedstate/limit%20a", "", 404, "{\"error\":1002,\"message\":\"there is no keyed state `limit a`\"}\n"),
        ("PUT /keyedstate/limit%20a", "12", 200, "keyed state limit a is set"),
        ("PUT /keyedstate/limit%20a", "17.5", 200, "keyed state limit a is set"),
        ("GET /keyedstate/limit%20a", "", 200, "17.5"),
        ("GET /keyedstate", "", 200, "{\"limit a\":\"17.5\"}\n"),
        ("DELETE /keyedstate/limit%20a", "", 200, "keyed state limit a is deleted"),
        (
            "DELETE /keyedstate/limit%20a",
            "",
            404,
            "{\"error\":1002,\"message\":\"there is no keyed state `limit a`\"}\n",
        ),
    ])
    .await;
}

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
    assert!(compact.body.starts_with("{\"health\":{\"state\":\"stopped\""), "{}", compact.body);
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

const FOREVER: &str = r#"{"sql": "CREATE STREAM mem () WITH (TYPE=\"memory\", DATASOURCE=\"a/b\", FORMAT=\"json\")"}"#;

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
            "DELETE /tables/mem",
            "",
            404,
            "{\"error\":1002,\"message\":\"delete table error: table mem is not found\"}\n",
        ),
        (
            "POST /tables",
            r#"{"sql": "DROP TABLE mem"}"#,
            400,
            "{\"error\":3000,\"message\":\"Table command error: Drop table fails: mem is not found.\"}\n",
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
    let form = w.json("/metadata/sources/simulator").await;
    let fields = form["properties"]["default"].as_array().unwrap();
    let again = fields.iter().find(|field| field["name"] == "loop").unwrap();
    let members: Vec<&str> = again.as_object().unwrap().keys().map(String::as_str).collect();
    let known = "exist name default type control connection_related optional values hint label";
    assert_eq!(members.join(" "), known);
    assert_eq!((&again["type"], &again["control"]), (&json!("bool"), &json!("radio")), "{again}");
    assert!(!again["hint"]["en"].as_str().unwrap().is_empty() && again["hint"]["en"] == again["hint"]["zh"], "{again}");
    let form = w.json("/metadata/sources/mqtt").await;
    let members: Vec<&str> = form.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["about", "libs", "node", "dataSource", "properties", "type"]);
    assert_eq!((&form["dataSource"]["name"], &form["type"]), (&json!("datasource"), &json!("internal")));
    let about: Vec<&str> = form["about"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(about, ["trial", "installed", "author", "helpUrl", "description"]);
    let form = w.json("/metadata/sinks/mqtt").await;
    assert!(form["properties"].as_array().unwrap().iter().any(|field| field["name"] == "topic"), "{form}");
    let lookups = w.json("/metadata/sources?kind=lookup").await;
    assert_eq!(lookups.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>(), ["memory"]);
    let functions = w.json("/metadata/functions").await;
    let all: Vec<&Json> = functions.as_array().unwrap().iter().flat_map(|one| one["fds"].as_array().unwrap()).collect();
    assert!(all.len() >= 60 && all.iter().any(|one| one["name"] == "avg"), "{}", all.len());
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
        (
            json!({"name": "x", "file": "http://127.0.0.1:1/y"}),
            "fail to download file http://127.0.0.1:1/y: connection refused\"}\n",
        ),
        (
            json!({"name": "x", "file": "http://nobody.invalid/y"}),
            "http://nobody.invalid/y: nobody knows the host `nobody.invalid`",
        ),
        (json!({"name": "x", "file": format!("file://{}", folder.display())}), "`: it is a folder"),
    ] {
        let reply = w.raw(as_json(&body.to_string()).as_bytes()).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains(part), "{body}: {}", reply.body);
    }
    assert_eq!(w.json("/config/uploads").await.as_array().unwrap().len(), 3, "what is refused leaves nothing");
    let bare =
        "{\"error\":1000,\"message\":\"Error Retrieving the File: request Content-Type isn't multipart/form-data; …";
    w.follow(&[("POST /config/uploads", "bytes", 400, bare)]).await;
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
        ("POST /plugins/sinks", r#"{"name": "x", "file": "http://127.0.0.1:1/x.zip"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: fail to download file http://127.0.0.1:1/x.zip: connection refused\"}\n"),
        ("POST /plugins/sinks", r#"{"name": "x", "file": "file:///etc/x.zip"}"#, 400, "{\"error\":1000,\"message\":\"sinks plugins create command error: file access denied: …"),
    ])
    .await;
    assert!(w.json("/config/uploads").await.as_array().unwrap().is_empty());
}
