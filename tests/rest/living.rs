//! Schedules, restarts, health and accounts, as clients see them.

use serde_json::{Value as Json, json};

use super::world::{STREAM, World};

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
