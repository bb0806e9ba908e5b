//! Dead letters, from the rule that asks for them to the files that hold them.

use serde_json::{Value as Json, json};

use super::http::{Reply, Server};
use super::world::{World, eventually};

fn lines(path: &std::path::Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_death_is_told_where_the_rule_wants_it() {
    let server = Server::start(|request| match request.text().as_str() {
        "{\"b\":5}" => Reply::status(422).body("five is too much"),
        _ => Reply::status(200),
    })
    .await;
    let w = World::new().await;
    let path = |name: &str| w.home.path().join(name);
    std::fs::write(path("in"), "{\"a\":1}\nnonsense\n{\"a\":0}\n{\"a\":2}\n{\"a\":5}\n").unwrap();
    let extra = Json::from(json!({"fileType": "lines"}).to_string());
    let sql = format!(
        "CREATE STREAM demo (a BIGINT) WITH (TYPE=\"file\", DATASOURCE=\"{}\", FORMAT=\"json\", EXTRA={extra})",
        path("in").display()
    );
    let rule = json!({
        "id": "r",
        "sql": "SELECT 10 / a AS b FROM demo",
        "actions": [{"rest": {"url": server.url("/"), "method": "POST", "sendSingle": true,
            "deadLetter": {"file": {"path": path("refused")}}}}],
        "options": {"qos": 1, "deadLetter": {"file": {"path": path("dead")}}},
    });
    w.follow(&[
        ("POST /streams", &json!({"sql": sql}).to_string(), 201, "Stream demo is created."),
        ("POST /rules", &rule.to_string(), 201, "Rule r was created successfully."),
    ])
    .await;
    eventually("all letters", || lines(&path("dead")).len() == 2 && lines(&path("refused")).len() == 1).await;
    assert_eq!(server.until(3).await.len(), 3);
    assert_eq!(server.bodies(), ["{\"b\":10}", "{\"b\":5}", "{\"b\":2}"]);
    let (dead, refused) = (lines(&path("dead")), lines(&path("refused")));
    assert_eq!(
        (&dead[0]["payload"], &dead[0]["rule"], &dead[0]["sink"]),
        (&json!("nonsense"), &json!("r"), &Json::Null)
    );
    assert_eq!((&dead[1]["payload"], &dead[1]["position"]["stream"]), (&json!({"a": 0}), &json!("demo")));
    assert_eq!((&refused[0]["payload"], &refused[0]["sink"]), (&json!("{\"b\":5}"), &json!("rest_0")));
    assert!(
        refused[0]["error"].as_str().unwrap().ends_with("422 Unprocessable Entity: five is too much"),
        "{refused:?}"
    );
    eventually("the ledger", || w.server.rules.status("r").unwrap().run.ledger.dead.len() == 3).await;
    let status = w.json("/rules/r/status").await;
    assert_eq!(status["ledger"]["dead"], json!({"decode": 1, "eval": 1, "refused": 1}), "{status:#}");
    assert_eq!(
        (&status["sinks"]["dead"]["delivered"], &status["sinks"]["dead_rest_0"]["delivered"]),
        (&2.into(), &1.into())
    );
    assert_eq!(status["sink_dead_0_records_in_total"], 2, "{status:#}");
    let stays = |name: &str| format!("Its dead letters stay in `{}`.", path(name).display());
    let told = format!("Rule r is dropped. {} {}", stays("dead"), stays("refused"));
    w.follow(&[("DELETE /rules/r", "", 200, &told)]).await;
    assert_eq!((lines(&path("dead")).len(), lines(&path("refused")).len()), (2, 1));
}

#[tokio::test]
async fn the_rule_of_the_guide_is_one() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/README.md")).unwrap();
    let part = guide.split("## Dead letters").nth(1).unwrap();
    let rule = part.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let w = World::new().await;
    let pump = r#"{"sql": "CREATE STREAM pump (id STRING, celsius FLOAT, load FLOAT) WITH (TYPE=\"memory\", DATASOURCE=\"t\")"}"#;
    w.follow(&[("POST /streams", pump, 201, "Stream pump is created.")]).await;
    let reply = w.ask("POST", "/rules/validate", rule).await;
    assert_eq!((reply.status, reply.header("kuiper-warning")), (200, ""), "{}", reply.body);
}

#[tokio::test]
async fn a_sink_for_the_dead_that_cannot_be_is_refused_in_a_sentence() {
    let w = World::new().await;
    let sim = r#"{"sql": "CREATE STREAM sim (a BIGINT) WITH (TYPE=\"memory\", DATASOURCE=\"t\")"}"#;
    w.follow(&[("POST /streams", sim, 201, "Stream sim is created.")]).await;
    let rule = |options: Json, props: Json| {
        json!({"id": "r", "sql": "SELECT a FROM sim", "actions": [{"nop": props}], "options": options}).to_string()
    };
    let expected = "an object of one sink and its properties";
    for (options, props, told) in [
        (json!({"deadLetter": "file"}), json!({}), expected),
        (json!({"deadLetter": {}}), json!({}), expected),
        (json!({"deadLetter": {"file": {}, "log": {}}}), json!({}), expected),
        (json!({"deadLetter": {"file": {"path": "a", "deadLetter": {"log": {}}}}}), json!({}), expected),
        (json!({"deadLetter": {"fiel": {"path": "a"}}}), json!({}), "did you mean `file`?"),
        (
            json!({"deadLetter": {"mqtt": {"topic": "t"}}}),
            json!({}),
            "in `deadLetter`: the `mqtt` sink needs the property `server`",
        ),
        (json!({}), json!({"deadLetter": [1]}), expected),
        (
            json!({}),
            json!({"deadletter": {"file": {"pathh": "a"}}}),
            "in `deadLetter`: the `file` sink has no property `pathh`",
        ),
    ] {
        let reply = w.ask("POST", "/rules", &rule(options.clone(), props.clone())).await;
        assert_eq!(reply.status, 400, "{options} {props}: {}", reply.body);
        let refused: Json = serde_json::from_str(&reply.body).unwrap();
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(told), "{options} {props}: {message}");
    }
}
