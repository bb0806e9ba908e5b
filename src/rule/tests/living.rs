//! Schedules, restarts after errors, and accounts that are kept, on a clock that stands until it is set.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::store::Bucket;

/// How long what must come is waited for, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn ms(text: &str) -> Time {
    Time(text.parse::<Timestamp>().unwrap().as_millisecond())
}

/// A world that is looked after, at that time.
async fn world_at(text: &str) -> World {
    let w = world();
    w.clock.set(ms(text));
    w.rules.resume().await;
    w
}

fn with(id: &str, sql: &str, options: serde_json::Value) -> String {
    json!({"id": id, "sql": sql, "actions": [{"log": {}}], "options": options}).to_string()
}

impl World {
    async fn create(&self, id: &str, options: serde_json::Value) {
        self.rules.create(with(id, "SELECT", options)).await.unwrap();
    }

    fn status(&self, id: &str) -> serde_json::Value {
        self.rules.status(id).unwrap().to_json().into()
    }

    /// Sets the clock, and waits until the rule is in that state with that message.
    async fn at(&self, time: &str, id: &str, state: &str, message: &str) {
        self.clock.set(ms(time));
        self.settled().await;
        let wanted = (state_of(state), message.to_owned());
        let watch = crate::clock::Stopwatch::start();
        while self.state(id) != wanted && watch.elapsed() < PATIENCE {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.state(id), wanted, "{time}");
    }

    /// Lets all tasks do what they can without anything happening outside.
    async fn settled(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// The run that was planned last ends so.
    async fn ends(&self, ended: Ended) {
        self.script.end_last(ended);
        self.settled().await;
    }

    fn starts(&self) -> usize {
        self.script.carried.lock().unwrap().len()
    }
}

fn state_of(name: &str) -> &'static str {
    let all = [State::Stopped, State::Running, State::ScheduledStop, State::StoppedByError];
    all.iter().map(|state| state.name()).find(|one| *one == name || one.starts_with(&format!("{name}: "))).unwrap()
}

const WAITING: &str = "stopped: waiting for next schedule.";

#[tokio::test]
async fn a_cron_starts_and_stops_its_rule_at_the_instant() {
    let w = world_at("2024-01-01T05:00:00Z").await;
    w.create("r", json!({"cron": "0 6 * * *", "duration": "30m"})).await;
    assert_eq!(w.state("r"), (WAITING, String::new()), "eKuiper would run it until the next patrol");
    assert_eq!(w.status("r")["nextStartTimestamp"], ms("2024-01-01T06:00:00Z").0);
    w.at("2024-01-01T05:59:59.999Z", "r", WAITING, "").await;
    w.at("2024-01-01T06:00:00Z", "r", "running", "").await;
    assert_eq!(w.status("r")["lastStartTimestamp"], ms("2024-01-01T06:00:00Z").0);
    assert_eq!(w.status("r")["nextStartTimestamp"], ms("2024-01-02T06:00:00Z").0);
    w.at("2024-01-01T06:29:59.999Z", "r", "running", "").await;
    w.at("2024-01-01T06:30:00Z", "r", WAITING, "schedule terminated").await;
    assert_eq!(w.status("r")["lastStopTimestamp"], ms("2024-01-01T06:30:00Z").0);
    assert!(w.rules.text("r").unwrap().contains("cron") && !w.rules.text("r").unwrap().contains("triggered"));
    // The clock of the server goes on by days at once.
    w.at("2024-01-04T06:10:00Z", "r", "running", "").await;
    assert_eq!((w.starts(), w.script.stops.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn a_rule_that_is_made_within_its_window_runs_at_once() {
    let w = world_at("2024-01-01T06:10:00Z").await;
    w.create("r", json!({"cron": "0 6 * * *", "duration": "30m"})).await;
    assert_eq!(w.state("r").0, "running");
    // It is started anew, and waits when its time is over then.
    w.rules.restart("r".into()).await.unwrap();
    w.at("2024-01-01T06:30:00Z", "r", WAITING, "schedule terminated").await;
    w.rules.start("r".into()).await.unwrap();
    assert_eq!(w.state("r"), (WAITING, String::new()));
    let now = with("r", "SELECT", json!({"cron": "30 6 * * *", "duration": "5m"}));
    w.rules.update("r".into(), now, false).await.unwrap();
    assert_eq!(w.state("r").0, "running");
    w.rules.update("r".into(), with("r", "SELECT", json!({})), false).await.unwrap();
    w.at("2024-01-02T00:00:00Z", "r", "running", "").await;
}

#[tokio::test]
async fn a_rule_that_was_stopped_by_hand_is_not_started_by_its_schedule() {
    let w = world_at("2024-01-01T05:00:00Z").await;
    for id in ["waits", "runs"] {
        w.create(id, json!({"cron": "0 6 * * *", "duration": "30m"})).await;
    }
    w.rules.stop("waits".into()).await.unwrap();
    assert_eq!(w.state("waits"), ("stopped", "canceled manually".into()));
    assert_eq!(w.status("waits")["nextStartTimestamp"], 0);
    w.at("2024-01-01T06:00:00Z", "runs", "running", "").await;
    w.rules.stop("runs".into()).await.unwrap();
    w.at("2024-01-01T06:20:00Z", "runs", "stopped", "canceled manually").await;
    w.at("2024-01-02T06:20:00Z", "waits", "stopped", "canceled manually").await;
    w.rules.start("waits".into()).await.unwrap();
    assert_eq!(w.state("waits").0, "running");
}

#[tokio::test]
async fn ranges_of_dates_bound_a_rule() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    let range = json!([{"begin": "2024-01-01 06:00:00", "end": "2024-01-01 07:00:00"}]);
    w.create("alone", json!({"cronDatetimeRange": range})).await;
    w.create("cron", json!({"cronDatetimeRange": range, "cron": "*/20 * * * *", "duration": "5m"})).await;
    w.create("once", json!({"cronDatetimeRange": range, "duration": "10m"})).await;
    for id in ["alone", "cron", "once"] {
        assert_eq!(w.state(id), (WAITING, String::new()));
        assert_eq!(w.status(id)["nextStartTimestamp"], 0, "{id}: outside of the range");
    }
    w.at("2024-01-01T06:00:00Z", "alone", "running", "").await;
    w.at("2024-01-01T06:00:00Z", "cron", "running", "").await;
    w.at("2024-01-01T06:05:00Z", "cron", WAITING, "schedule terminated").await;
    assert_eq!(w.status("cron")["nextStartTimestamp"], ms("2024-01-01T06:20:00Z").0);
    w.at("2024-01-01T06:05:00Z", "once", "running", "").await;
    w.at("2024-01-01T06:10:00Z", "once", "stopped", "duration terminated").await;
    w.at("2024-01-01T06:59:59.999Z", "alone", "running", "").await;
    w.at("2024-01-01T07:00:00Z", "alone", WAITING, "schedule terminated").await;
    w.at("2024-01-02T06:00:00Z", "alone", WAITING, "schedule terminated").await;
    w.at("2024-01-02T06:00:00Z", "cron", WAITING, "schedule terminated").await;
}

#[tokio::test]
async fn a_duration_alone_lets_a_rule_run_once() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    w.create("r", json!({"duration": "90s"})).await;
    w.at("2024-01-01T00:01:29.999Z", "r", "running", "").await;
    w.at("2024-01-01T00:01:30Z", "r", "stopped", "duration terminated").await;
    w.at("2024-01-01T00:10:00Z", "r", "stopped", "duration terminated").await;
    w.rules.start("r".into()).await.unwrap();
    w.at("2024-01-01T00:11:29Z", "r", "running", "").await;
    w.at("2024-01-01T00:11:30Z", "r", "stopped", "duration terminated").await;
    // It is still to run, and does so after a start of the server.
    let w = w.restarted().await;
    w.rules.resume().await;
    assert_eq!(w.state("r").0, "running");
    w.at("2024-01-01T00:13:00Z", "r", "stopped", "duration terminated").await;
}

#[tokio::test]
async fn scheduled_rules_wait_again_after_a_start_of_the_server() {
    let w = world_at("2024-01-01T06:10:00Z").await;
    w.create("r", json!({"cron": "0 6 * * *", "duration": "30m"})).await;
    w.rules
        .create(with("t", "SELECT", json!({"duration": "10s"})).replace("\"id\"", "\"temp\": true, \"id\""))
        .await
        .unwrap();
    w.at("2024-01-01T06:10:10Z", "t", "stopped", "duration terminated").await;
    let w = w.restarted().await;
    w.clock.set(ms("2024-01-01T06:40:00Z"));
    w.rules.resume().await;
    assert_eq!(w.state("r"), (WAITING, String::new()));
    w.at("2024-01-02T06:00:00Z", "r", "running", "").await;
}

#[tokio::test]
async fn a_rule_that_an_error_has_stopped_is_started_again_with_growing_pauses() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    w.create("left", json!({})).await;
    w.ends(Ended::Failed(Fault::setup("gone"))).await;
    w.create("r", json!({"restartStrategy": {"attempts": 2, "jitterFactor": 0}})).await;
    w.ends(Ended::Failed(Fault::setup("broken"))).await;
    w.at("2024-01-01T00:00:00Z", "r", "stopped by error", "broken").await;
    let status = w.status("r");
    assert_eq!(status["restarts"], json!({"total": 0, "panics": 0, "nextTimestamp": ms("2024-01-01T00:00:01Z").0}));
    assert_eq!(status["health"]["state"], "failed");
    assert_eq!(status["health"]["reason"], "broken");
    w.at("2024-01-01T00:00:00.999Z", "r", "stopped by error", "broken").await;
    w.at("2024-01-01T00:00:01Z", "r", "running", "").await;
    assert_eq!(w.status("r")["restarts"], json!({"total": 1, "panics": 0, "nextTimestamp": 0}));
    let panicked = "the rule panicked: oh; this is a bug, please report it";
    let mut seconds = 1;
    for pause in [2, 4, 8, 16, 30, 30] {
        w.ends(Ended::Failed(Fault::bug("the rule panicked: oh"))).await;
        assert_eq!(w.state("r"), ("stopped by error", panicked.into()));
        w.clock.set(ms("2024-01-01T00:00:00Z") + Duration::from_millis((seconds + pause) * 1000 - 1));
        w.settled().await;
        assert_eq!(w.state("r").0, "stopped by error", "before {pause} s are over");
        seconds += pause;
        w.clock.set(ms("2024-01-01T00:00:00Z") + Duration::from_secs(seconds));
        w.settled().await;
        assert_eq!(w.state("r").0, "running", "after {pause} s");
    }
    assert_eq!(w.status("r")["restarts"], json!({"total": 7, "panics": 6, "nextTimestamp": 0}));
    assert_eq!(w.state("left"), ("stopped by error", "gone".into()), "without `attempts` it is left alone");
    // What has run for longer than the longest pause is all right.
    w.at("2024-01-01T01:00:00Z", "r", "running", "").await;
    w.ends(Ended::Failed(Fault::bug("the rule panicked: oh"))).await;
    w.at("2024-01-01T01:00:01Z", "r", "running", "").await;
}

#[tokio::test]
async fn a_rule_that_cannot_begin_is_tried_again_too() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    let options = json!({"restartStrategy": {"attempts": 1, "delay": "5s", "multiplier": 1, "jitterFactor": 0}});
    w.rules.create(with("r", "SELECT nostart", options.clone())).await.unwrap();
    assert_eq!(w.state("r"), ("stopped by error", "no such door".into()));
    w.at("2024-01-01T00:00:05Z", "r", "stopped by error", "no such door").await;
    w.at("2024-01-01T00:00:10Z", "r", "stopped by error", "no such door").await;
    assert_eq!(w.status("r")["restarts"]["total"], 2);
    // By hand it is stopped for good, though it does not run.
    w.rules.stop("r".into()).await.unwrap();
    assert_eq!(w.status("r")["restarts"]["nextTimestamp"], 0);
    w.at("2024-01-01T01:00:00Z", "r", "stopped by error", "no such door").await;
    assert_eq!(w.starts(), 3);
    w.rules.update("r".into(), with("r", "SELECT", options), false).await.unwrap();
    assert_eq!(w.state("r").0, "running");
}

#[tokio::test]
async fn a_stored_rule_that_cannot_be_planned_at_the_start_is_tried_again() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    w.create("r", json!({"restartStrategy": {"attempts": 1, "jitterFactor": 0}})).await;
    let text = with("r", "SELECT wrong", json!({"restartStrategy": {"attempts": 1, "jitterFactor": 0}}));
    w.rules.host().store.put(Bucket::RULES, "r", &text).unwrap();
    let w = w.restarted().await;
    w.rules.resume().await;
    assert_eq!(w.state("r").0, "stopped by error");
    w.clock.set(ms("2024-01-01T00:00:01Z"));
    w.settled().await;
    assert_eq!(w.state("r").0, "stopped by error");
    assert_eq!(w.status("r")["restarts"]["total"], 1);
}

#[tokio::test]
async fn in_its_window_a_scheduled_rule_is_started_again_by_the_patrol() {
    let w = world_at("2024-01-01T06:10:00Z").await;
    w.create("r", json!({"cron": "0 6 * * *", "duration": "30m"})).await;
    w.ends(Ended::Failed(Fault::setup("gone"))).await;
    w.at("2024-01-01T06:10:09.999Z", "r", "stopped by error", "gone").await;
    w.at("2024-01-01T06:10:10Z", "r", "running", "").await;
    w.ends(Ended::Failed(Fault::setup("gone"))).await;
    w.at("2024-01-01T06:10:11Z", "r", "stopped by error", "gone").await;
    w.at("2024-01-01T06:40:00Z", "r", "stopped by error", "gone").await;
    w.at("2024-01-02T06:00:00Z", "r", "running", "").await;
}

#[tokio::test]
async fn the_account_of_a_rule_goes_on_after_a_start_of_the_server() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    w.create("r", json!({})).await;
    w.rules.stop("r".into()).await.unwrap();
    w.create("dropped", json!({})).await;
    w.rules.remove("dropped".into()).await.unwrap();
    let w = w.restarted().await;
    let status = w.status("r");
    assert_eq!(status["status"], "stopped");
    // The script says that seven came, and nothing of where they went: at a stop by hand they are dropped.
    assert_eq!(status["ledger"]["in"], 7);
    assert_eq!(status["ledger"]["dropped"], json!({"stop": 7}));
    w.rules.start("r".into()).await.unwrap();
    let carried = w.script.carried.lock().unwrap().last().cloned().unwrap();
    assert_eq!((carried.ledger.came, carried.ledger.dropped["stop"]), (7, 7));
    w.create("dropped", json!({})).await;
    assert_eq!(w.script.carried.lock().unwrap().last().cloned().unwrap(), Accounts::default(), "it is another rule");
}

#[tokio::test]
async fn after_a_crash_what_was_on_its_way_is_counted_as_dropped() {
    let w = world_at("2024-01-01T00:00:00Z").await;
    w.create("r", json!({"restartStrategy": {"attempts": 1, "jitterFactor": 0}})).await;
    w.ends(Ended::Failed(Fault::bug("the rule panicked: oh"))).await;
    w.at("2024-01-01T00:00:01Z", "r", "running", "").await;
    w.clock.set(ms("2024-01-01T00:00:10Z"));
    let stored = || w.rules.host().store.get(Bucket::LEDGERS, "r").unwrap().unwrap_or_default();
    let deadline = Clock::real();
    tokio::select! {
        () = async { while !stored().contains(r#""running":true"#) { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
        () = deadline.sleep(PATIENCE) => panic!("{}", stored()),
    }
    let w = w.killed().await;
    let status = w.status("r");
    assert_eq!((&status["ledger"]["in"], &status["ledger"]["dropped"]), (&json!(7), &json!({"crash": 7})));
    assert_eq!(status["restarts"], json!({"total": 1, "panics": 1, "nextTimestamp": 0}));
}
