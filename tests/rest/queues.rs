use super::world::{World, eventually};

const PUMP: &str = r#"{"sql": "CREATE STREAM pump (a BIGINT) WITH (TYPE=\"simulator\", FORMAT=\"json\", EXTRA=\"{\\\"data\\\":[{\\\"a\\\":1},{\\\"a\\\":2},{\\\"a\\\":3}],\\\"interval\\\":0,\\\"loop\\\":false}\")"}"#;
const RULE: &str = r#"{"id": "r", "sql": "SELECT a FROM pump",
    "actions": [{"mqtt": {"server": "tcp://127.0.0.1:1", "topic": "t", "sendSingle": true, "enableCache": true}}]}"#;

fn rule(more: &str) -> String {
    RULE.replace(r#""enableCache": true"#, &format!(r#""enableCache": true, {more}"#))
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_shown_and_dropped_and_survive_a_restart() {
    let world = World::new().await;
    world
        .follow(&[
            ("POST /streams", PUMP, 201, "Stream pump is created."),
            ("GET /queues", "", 200, "[]\n"),
            ("POST /rules", RULE, 201, "Rule r was created successfully."),
        ])
        .await;
    let queued = |world: &World| {
        let status = world.server.rules.status("r").unwrap();
        status.run.sinks.first().map_or(0, |(_, sink)| sink.queued)
    };
    eventually("three rows lie in the queue", || queued(&world) == 3).await;
    let world = world.restarted().await;
    // Each start of the rule reads its three rows anew.
    eventually("they are there again, and those that came after", || queued(&world) == 6).await;
    // A sink that is changed keeps its queue.
    world.follow(&[("PUT /rules/r", &RULE.replace("\"t\"", "\"u\""), 200, "Rule r was updated successfully.")]).await;
    eventually("they are still there", || queued(&world) == 9).await;
    let list = world.json("/rules/r/queues").await;
    assert_eq!((&list[0]["sink"], &list[0]["inUse"]), (&"mqtt_0".into(), &true.into()), "{list}");
    let shown = world.json("/rules/r/queues/mqtt_0?from=2&limit=1").await;
    let first = shown[0].as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["sequence", "time", "rows", "size", "text"], "{shown}");
    assert_eq!((shown.as_array().unwrap().len(), first["text"].as_str()), (1, Some(r#"{"a":2}"#)));
    world
        .follow(&[
            ("GET /rules/none/queues", "", 404, r#"{"error":1002,"message":"Rule none is not found"}…"#),
            (
                "GET /rules/r/queues/log_0",
                "",
                404,
                "{\"error\":1002,\"message\":\"rule `r` has no queue `log_0`; it has `mqtt_0`\"}…",
            ),
            (
                "GET /rules/r/queues/mqtt_0?limit=many",
                "",
                400,
                "{\"error\":1000,\"message\":\"`limit` must be a whole number, found `many`\"}…",
            ),
            ("POST /rules/r/queues", "", 405, ""),
            ("DELETE /rules/r/queues/mqtt_0", "", 200, "Queue mqtt_0 of rule r is dropped: …"),
        ])
        .await;
    eventually("the account", || queued(&world) == 0).await;
    world.follow(&[("DELETE /rules/r", "", 200, "Rule r is dropped."), ("GET /queues", "", 200, "[]\n")]).await;
}

#[tokio::test]
async fn properties_of_the_queue_that_cannot_be_are_refused_in_a_sentence() {
    let world = World::new().await;
    world.ask("POST", "/streams", PUMP).await;
    for (props, told) in [
        (
            r#""maxDiskCache": 1000"#,
            "property `maxDiskCache` of a sink must be a multiple of `bufferPageSize`, which is 256, found 1000",
        ),
        (
            r#""memoryCacheThreshold": -1"#,
            "property `memoryCacheThreshold` of a sink must be a whole number from 1 on, found -1",
        ),
        (
            r#""bufferPageSize": 0"#,
            "property `bufferPageSize` of a sink must be a whole number from 1 to 100000, found 0",
        ),
        (
            r#""resendInterval": -5"#,
            "property `resendInterval` of a sink must be a span such as `500ms`, or milliseconds, found -5",
        ),
        (
            r#""resendPriority": 2"#,
            "property `resendPriority` of a sink must be -1 (live messages first), 0 or 1 (the queue first), found 2",
        ),
        (
            r#""queueSync": "often""#,
            "property `queueSync` of a sink must be `always`, `interval` or `never`, found \"often\"",
        ),
        (
            r#""queueMaxBytes": "1GB""#,
            "property `queueMaxBytes` of a sink must be a number of bytes, 0 without a bound, found \"1GB\"",
        ),
        (r#""retryCount": -1"#, "property `retryCount` of a sink must be a whole number, 0 for ever, found -1"),
        (
            r#""retryInterval": 0"#,
            "property `retryInterval` of a sink must be a span above zero such as `100ms`, or milliseconds, found 0",
        ),
        (
            r#""resendIndicatorField": "late", "format": "delimited""#,
            "property `resendIndicatorField` needs the format `json`, found `delimited`",
        ),
    ] {
        let reply = world.ask("POST", "/rules", &rule(props)).await;
        assert_eq!(reply.status, 400, "{props}: {}", reply.body);
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert!(body["message"].as_str().unwrap().contains(told), "{props}: {}", reply.body);
    }
    let reply = world
        .ask("POST", "/rules", &rule(r#""resendDestination": "late", "maxDiskCache": 512, "bufferPageSize": 128"#))
        .await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let told = "property%20`resendDestination`%20of%20a%20sink%20has%20no%20effect%20without%20`resendAlterQueue`";
    let warnings = reply.all("kuiper-warning").join("\n").replace(' ', "%20");
    assert!(warnings.contains(told), "{warnings}");
}
