//! What is refused, and what is told of: words, places and remedies.

use serde_json::{Value as Json, json};

use super::world::{STREAM, World};

#[tokio::test]
async fn a_mistake_in_the_sql_of_a_rule_is_shown_at_its_place() {
    let w = World::new().await;
    w.follow(&[("POST /streams", STREAM, 201, "Stream sim is created.")]).await;
    for (sql, place, remedy) in [
        ("SELECT b FROM sim", "^", "`b`"),
        ("SELECT a FROM sin", "^^^", "`sim`"),
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
    let refusals = |sql: &str, action: &str| {
        let rule = json!({"id": "r", "sql": sql, "actions": [{action: {}}]});
        rule.to_string()
    };
    let wide = r#"{"sql": "CREATE STREAM odd () WITH (TYPE=\"mqqt\", DATASOURCE=\"a\")"}"#;
    let brief = r#"{"sql": "CREATE STREAM brief () WITH (TYPE=\"memory\", DATASOURCE=\"a\", TEMP=\"true\")"}"#;
    w.follow(&[("POST /streams", wide, 201, "…"), ("POST /streams", brief, 201, "…")]).await;
    let group = "SELECT count(*) FROM sim GROUP BY TUMBLINGWINDOW(ss, 1)";
    let meta = json!({"id": "r", "sql": group, "actions": [{"nop": {}}], "options": {"sendMetaToSink": true}});
    for (rule, words, remedy) in [
        (
            refusals("SELECT a FROM sin", "nop"),
            "fail to get stream sin, please check if stream is created",
            "did you mean `sim`?",
        ),
        (
            refusals("SELECT a FROM `sin`", "nop"),
            "fail to get stream sin, please check if stream is created",
            "did you mean `sim`?",
        ),
        (
            refusals("SELECT x(1) FROM far", "nop"),
            "fail to get stream far, please check if stream is created",
            "CREATE STREAM first",
        ),
        (refusals("SELECT a FROM sim", "mqqt"), "sink mqqt is not defined", "did you mean `mqtt`?"),
        (refusals("SELECT a FROM sim", "mysql"), "sink mysql is not defined", "kuiper plugin deploy --sink mysql"),
        (refusals("SELECT a FROM odd", "nop"), "source type mqqt not found", "did you mean `mqtt`?"),
        (refusals("SELECT a FROM brief", "nop"), "temp stream brief can only be used by temp rules", ""),
        (meta.to_string(), "Invalid option sendMetaToSink, it can not be applied to window", " --> sql:1:1"),
        (refusals("SELECT a FRM sim", "nop"), "invalid rule json: Parse SQL SELECT a FRM sim error: ", " --> sql:1:"),
        (refusals("SHOW STREAMS", "nop"), "invalid rule json: SQL SHOW STREAMS is not a select statement.", ""),
    ] {
        for (method, path, before) in
            [("POST", "/rules", ""), ("PUT", "/rules/r", "Update rule error: "), ("POST", "/rules/validate", "")]
        {
            let reply = w.ask(method, path, &rule).await;
            let message = match reply.status {
                422 => reply.body.clone(),
                status => {
                    let refused: Json = serde_json::from_str(&reply.body).unwrap();
                    assert_eq!((status, &refused["error"]), (400, &json!(1000)), "{}", reply.body);
                    refused["message"].as_str().unwrap().to_owned()
                }
            };
            // PUT writes its first word large.
            let words =
                if path == "/rules/r" { words.replace("invalid rule", "Invalid rule") } else { words.to_owned() };
            assert!(message.starts_with(&format!("{before}{words}")), "{method} {path}: {message}");
            assert!(message.contains(remedy), "{method} {path}: {message}");
        }
    }
    let rule = r#"{"id": "r", "sql": "SELECT a FROM sim", "actions": [{"mysqll": {}}]}"#;
    let reply = w.ask("POST", "/rules", rule).await;
    assert!(reply.body.contains("sink mysqll is") && reply.body.contains("kuiper plugin deploy"), "{}", reply.body);
    let rule = r#"{"id": "r", "sql": "SELECT a FROM sim", "actions": [{"nop": {"lgo": true}}]}"#;
    let reply = w.ask("POST", "/rules", rule).await;
    assert!(reply.body.contains("`lgo`") && reply.body.contains("did you mean `log`?"), "{}", reply.body);
}

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

    let rule = r#"{"id": "r", "sql": "SELECT a FROM mem", "actions": [{"nop": {"resendPriority": 1, "bufferLength": 5}}], "options": {"concurrency": 4}, "überflüssig": 1, "triggered": false}"#;
    let told = [
        "a rule has no member `überflüssig`",
        "option `concurrency` has no effect: one task carries a rule and keeps its rows in order",
        "property `resendPriority` of a sink has no effect without `enableCache` (leave it out)",
        "property `bufferLength` of a sink has no effect: the rule waits for its sinks (it counts with `overflow: drop`)",
    ];
    let mut checked: Json = serde_json::from_str(&w.ask("POST", "/rules/validate", rule).await.body).unwrap();
    let findings = checked.as_object_mut().unwrap().remove("findings").unwrap();
    assert_eq!(findings.as_array().unwrap().len(), told.len());
    assert_eq!(checked, json!({"sources": ["mem"], "valid": true, "warnings": told}));
    let sampled =
        r#"{"id": "r", "sql": "SELECT a FROM mem", "actions": [{"nop": {}}], "samples": {"mem": [{"b": 1}]}}"#;
    let checked: Json = serde_json::from_str(&w.ask("POST", "/rules/validate", sampled).await.body).unwrap();
    let found = &checked["findings"][0];
    assert_eq!(
        (&found["code"], &found["line"], &found["column"], &found["severity"], &checked["valid"]),
        (&json!("K0302"), &json!(1), &json!(8), &json!("warning"), &json!(true))
    );
    let refused = w.ask("POST", "/rules/validate", &sampled.replace("[{\"b\": 1}]", "1")).await;
    let expected = "invalid rule json: `samples` of `mem` must be a list of rows, which are objects";
    assert_eq!((refused.status, refused.body.as_str()), (422, expected));
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
async fn a_lookup_table_in_use_stays_as_it_is() {
    let w = World::new().await;
    let table = |with: &str| {
        json!({"sql": format!("CREATE TABLE lk (id BIGINT) WITH (KIND=\"lookup\", KEY=\"id\", DATASOURCE=\"l\", {with})")}).to_string()
    };
    let stream = r#"{"sql": "CREATE STREAM mem (id BIGINT) WITH (TYPE=\"memory\", DATASOURCE=\"a\")"}"#;
    let rule =
        r#"{"id": "r", "sql": "SELECT mem.id FROM mem INNER JOIN lk ON mem.id = lk.id", "actions": [{"nop": {}}]}"#;
    w.follow(&[
        ("POST /tables", &table("TYPE=\"memory\""), 201, "Table lk is created."),
        ("POST /streams", stream, 201, "Stream mem is created."),
        ("POST /rules", rule, 201, "Rule r was created successfully."),
        ("POST /tables", r#"{"sql": "DROP TABLE lk"}"#, 400, "{\"error\":3000,\"message\":\"Table command error: Drop table fails: lookup table lk is still in use, stop all using rules before dropping it.\"}\n"),
        ("DELETE /tables/lk", "", 400, "{\"error\":1000,\"message\":\"table lk has been referenced by other rules\"}\n"),
        ("DELETE /streams/lk", "", 404, "{\"error\":1002,\"message\":\"delete stream error: stream lk is not found\"}\n"),
        ("PUT /tables/lk", &table("TYPE=\"mqtt\""), 400, "{\"error\":3000,\"message\":\"Table command error: Replace lk fails: a table of type `mqtt` cannot be asked for rows (types of lookup tables: memory).\"}\n"),
        ("GET /tables?kind=lookup", "", 200, "[\"lk\"]\n"),
    ])
    .await;
    assert_eq!(w.json("/tables/lk").await["Options"]["type"], "memory");
}
