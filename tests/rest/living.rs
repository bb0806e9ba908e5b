//! Schedules, restarts, health and accounts, as clients see them.

use serde_json::{Value as Json, json};

use super::port::free_port;
use super::world::{PATIENCE, STREAM, World};

fn rule(id: &str, options: Json) -> String {
    json!({"id": id, "sql": "SELECT a FROM sim", "actions": [{"nop": {}}], "options": options}).to_string()
}

const WAITING: &str = "stopped: waiting for next schedule.";

#[tokio::test]
async fn a_rule_with_a_schedule_waits_for_its_time() {
    let w = World::new().await;
    w.follow(&[("POST /streams", STREAM, 201, "Stream sim is created.")]).await;
    // The minute of the day that is farthest away.
    let cron = json!({"cron": "TZ=UTC 0 0 29 2 *", "duration": "1m"});
    w.follow(&[
        ("POST /rules", &rule("r", cron), 201, "Rule r was created successfully."),
        ("POST /rules/r/start", "", 200, "Rule r was started"),
    ])
    .await;
    let status = w.json("/rules/r/status").await;
    assert_eq!((&status["status"], &status["message"]), (&json!(WAITING), &json!("")));
    assert!(status["nextStartTimestamp"].as_i64() > Some(1_700_000_000_000), "{status:#}");
    assert_eq!(status["health"]["state"], "stopped");
    assert_eq!(w.json("/rules").await[0]["status"], WAITING);
    assert_eq!(w.json("/rules/status/all").await["r"]["status"], WAITING);
    let w = w.restarted().await;
    assert_eq!(w.json("/rules/r/status").await["status"], WAITING);
    w.follow(&[("POST /rules/r/stop", "", 200, "Rule r was stopped.")]).await;
    let status = w.json("/rules/r/status").await;
    assert_eq!((&status["status"], &status["message"]), (&json!("stopped"), &json!("canceled manually")));
    assert_eq!(status["nextStartTimestamp"], 0);
    let always = json!({"cronDatetimeRange": [{"beginTimestamp": 1, "endTimestamp": 9_000_000_000_000_i64}]});
    w.follow(&[("PUT /rules/r", &rule("r", always), 200, "Rule r was updated successfully.")]).await;
    // Its input has an end, so that it runs, and is done.
    super::world::eventually("the end of the input", || {
        let status = w.server.rules.status("r").unwrap();
        status.message == "done"
    })
    .await;
}

#[tokio::test]
async fn options_of_schedules_and_restarts_are_checked() {
    let w = World::new().await;
    w.follow(&[("POST /streams", STREAM, 201, "Stream sim is created.")]).await;
    let refused = |why: &str| {
        let text = json!(format!("invalid rule json: Rule r has invalid options: {why}."));
        format!("{{\"error\":1000,\"message\":{text}}}\n")
    };
    for (options, why) in [
        (
            json!({"cronDatetimeRange": [{"begin": "2024-01-02 00:00:00", "end": "2024-01-01 00:00:00"}]}),
            "validate cronDatetimeRange failed, err:begin time shouldn't after end time",
        ),
        (
            json!({"cron": "@every soon", "duration": "1m"}),
            "option `cron` is `\"@every soon\"`, which is no schedule: `soon` is no span, as `1h30m`",
        ),
        (
            json!({"restartStrategy": {"attempts": -1}}),
            "invalidRestartAttempts:option `restartStrategy.attempts` is `-1`, expected a whole number, 0 or above",
        ),
    ] {
        w.follow(&[("POST /rules", &rule("r", options), 400, &refused(why))]).await;
    }
    let idle = w.ask("POST", "/rules", &rule("r", json!({"cron": "@daily"}))).await;
    assert_eq!(idle.status, 201);
    let told = "option `cron` has no effect: it says when the rule begins, but not for how long it runs";
    assert!(idle.header("kuiper-warning").starts_with(told), "{}", idle.headers);
}

#[tokio::test]
async fn the_account_goes_on_until_the_rule_is_deleted() {
    let w = World::new().await;
    let key = super::SOURCE;
    w.follow(&[
        ("PUT /metadata/sources/simulator/confKeys/three", key, 200, ""),
        ("POST /streams", STREAM, 201, "Stream sim is created."),
        ("POST /rules", &rule("r", json!({})), 201, "Rule r was created successfully."),
    ])
    .await;
    let done = |w: &World, rows: u64| {
        let status = w.server.rules.status("r").unwrap();
        status.message == "done" && status.run.ledger.out == rows
    };
    super::world::eventually("the first run", || done(&w, 3)).await;
    let w = w.restarted().await;
    let status = w.json("/rules/r/status").await;
    assert_eq!((&status["ledger"]["in"], &status["ledger"]["out"]), (&json!(3), &json!(3)));
    assert_eq!(status["sinks"]["nop_0"]["delivered"], 3);
    w.follow(&[("POST /rules/r/start", "", 200, "Rule r was started")]).await;
    super::world::eventually("the second run", || done(&w, 6)).await;
    let status = w.json("/rules/r/status").await;
    assert_eq!(status["source_sim_0_records_in_total"], 3, "eKuiper's counters are of the run");
    assert_eq!(status["sinks"]["nop_0"]["delivered"], 6);
    w.follow(&[
        ("DELETE /rules/r", "", 200, "Rule r is dropped."),
        ("POST /rules", &rule("r", json!({})), 201, "Rule r was created successfully."),
    ])
    .await;
    super::world::eventually("the run of another rule", || done(&w, 3)).await;
}

/// Nobody listens there.
fn nowhere() -> String {
    format!("tcp://127.0.0.1:{}", free_port())
}

fn stream(name: &str, server: &str, with: &str, extra: Json) -> String {
    let mut props = json!({"server": server});
    props.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let extra = props.to_string().replace('"', "\\\"");
    json!({"sql": format!(r#"CREATE STREAM {name} () WITH (DATASOURCE="t"{with}, EXTRA="{extra}")"#)}).to_string()
}

fn reader(id: &str, stream: &str, sink: Json) -> String {
    json!({"id": id, "sql": format!("SELECT * FROM {stream}"), "actions": [sink]}).to_string()
}

#[tokio::test]
async fn rules_that_take_the_connection_from_one_another_are_told_so() {
    let (w, server) = (World::new().await, nowhere());
    let told = async |way: &str, path: &str, body: &str| {
        let reply = w.ask(way, path, body).await;
        assert!(reply.status < 300, "{}", reply.body);
        reply.all("kuiper-warning").join("\n").replace("%22", "\"")
    };
    let health = async |rule: &str| w.json(&format!("/rules/{rule}/status")).await["health"]["reason"].clone();
    let (own, common) = (json!({"clientid": "x"}), json!({"clientid": "y"}));
    told("POST", "/streams", &stream("own", &server, "", own.clone())).await;
    let second = told("POST", "/streams", &stream("twin", &server, "", own)).await;
    assert!(second.contains(&format!("stream `twin` has the client id `x` at `{server}`, and so has stream `own`")));
    told("POST", "/streams", &stream("common", &server, r#", SHARED="true""#, common)).await;
    let nop = || json!({"nop": {}});
    assert_eq!(told("POST", "/rules", &reader("one", "own", nop())).await, "");
    assert!(!health("one").await.to_string().contains("client id"));
    // One stream, two rules, two connections.
    let second = told("POST", "/rules", &reader("two", "own", nop())).await;
    let expected =
        format!("the source `own` has the client id `x` at `{server}`, and so has the source `own` of rule `one`");
    assert!(second.starts_with(&expected) && second.contains("SHARED=\"true\""), "{second}");
    for (rule, other) in [("one", "two"), ("two", "one")] {
        let status = w.json(&format!("/rules/{rule}/status")).await;
        assert_eq!((&status["status"], &status["health"]["state"]), (&json!("running"), &json!("degraded")));
        let reason = status["health"]["reason"].to_string();
        assert!(reason.contains(&format!("so has the source `own` of rule `{other}`")), "{reason}");
    }
    told("POST", "/rules/two/stop", "").await;
    assert!(!health("one").await.to_string().contains("client id"));
    assert!(told("POST", "/rules/two/start", "").await.starts_with(&expected));
    // One stream, two rules, one connection; and a sink beside them.
    assert_eq!(told("POST", "/rules", &reader("three", "common", nop())).await, "");
    assert_eq!(told("POST", "/rules", &reader("four", "common", nop())).await, "");
    let sink = json!({"mqtt": {"server": server, "topic": "out", "clientid": "y"}});
    let fifth = told("POST", "/rules", &reader("five", "common", sink)).await;
    assert!(fifth.starts_with("the shared stream `common` has the client id `y`") && !fifth.contains('\n'), "{fifth}");
    assert!(fifth.contains("so has the sink `mqtt_0` of the same rule"), "{fifth}");
    for rule in ["three", "four"] {
        let reason = health(rule).await.to_string();
        assert!(reason.contains("so has the sink `mqtt_0` of rule `five`"), "{reason}");
    }
}

#[tokio::test]
async fn rules_that_write_to_one_file_are_told_so() {
    let w = World::new().await;
    let made =
        w.ask("POST", "/streams", r#"{"sql": "CREATE STREAM rows () WITH (TYPE=\"memory\", DATASOURCE=\"rows\")"}"#);
    assert_eq!(made.await.status, 201);
    let out = || json!({"file": {"path": "out.json"}});
    let make =
        async |rule: &str| w.ask("POST", "/rules", &reader(rule, "rows", out())).await.all("kuiper-warning").join("\n");
    assert_eq!(make("one").await, "");
    let told = make("two").await;
    let expected = "the sink `file_0` has the path `out.json`, and so has the sink `file_0` of rule `one`: one alone writes to \
                    a file, and the other waits until it is gone (give each its own `path`)";
    assert!(told.starts_with(expected), "{told}");
}

#[tokio::test]
async fn a_session_that_is_left_at_a_broker_that_is_away_is_ended_when_it_is_there() {
    let w = World::new().await;
    let server = nowhere();
    let left = |w: &World| w.server.rules.host().store.all(kuiper::store::Bucket::LEFT).unwrap().len();
    let make = async |w: &World, id: &str| {
        let qos = json!({"qos": 1});
        assert_eq!(w.ask("POST", "/streams", &stream(id, &server, "", qos)).await.status, 201);
        assert_eq!(w.ask("POST", "/rules", &reader(id, id, json!({"nop": {}}))).await.status, 201);
    };
    let drop_rule = async |w: &World, id: &str| {
        let answer = w.ask("DELETE", &format!("/rules/{id}"), "").await.body;
        assert!(
            answer.contains("could not be ended") && answer.ends_with("It is tried again in the background."),
            "{answer}"
        );
    };
    // One comes back and takes its session over.
    make(&w, "back").await;
    drop_rule(&w, "back").await;
    assert_eq!(left(&w), 1);
    assert_eq!(w.ask("POST", "/rules", &reader("back", "back", json!({"nop": {}}))).await.status, 201);
    assert_eq!(left(&w), 0);
    drop_rule(&w, "back").await;
    // It is known after a restart too.
    make(&w, "gone").await;
    drop_rule(&w, "gone").await;
    let w = w.restarted().await;
    assert_eq!(left(&w), 2);
    let broker = tokio::net::TcpListener::bind(server.trim_start_matches("tcp://")).await.unwrap();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let (mut line, _) = tokio::time::timeout(PATIENCE, broker.accept()).await.unwrap().unwrap();
        let mut hello = vec![0; 256];
        let read = tokio::io::AsyncReadExt::read(&mut line, &mut hello).await.unwrap();
        assert_eq!((hello[0], hello[9] & 2), (0x10, 2), "a CONNECT with a clean session");
        ended.push(String::from_utf8_lossy(&hello[..read]).into_owned());
        tokio::io::AsyncWriteExt::write_all(&mut line, b"\x20\x02\x00\x00").await.unwrap();
    }
    ended.sort();
    assert!(ended[0].contains("-back-source-") && ended[1].contains("-gone-source-"), "{ended:?}");
    super::world::eventually("the end of all that was left", || left(&w) == 0).await;
}
