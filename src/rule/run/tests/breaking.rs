//! Connectors that panic, and those whose other side is away: what becomes of the rule, and what its status says.

use serde_json::json;

use super::*;
use crate::io::{Parcel, Sink, SinkPlan, SinkSpec, Stopped, Takes};

/// Panics where it is used.
pub const BOMB: Connector = Connector {
    name: "bomb",
    about: "Panics.",
    defaults: "",
    source: Some(source),
    sink: Some(sink),
    lookup: None,
    source_schema: None,
    sink_schema: None,
};

fn source(_: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let open = || Ok(Box::new(Bomb) as Box<dyn Source>);
    Ok(SourcePlan { open: Box::new(open), gives_rows: true, seeks: false, warnings: Vec::new(), identity: None })
}

fn sink(_: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let open = || Ok(Box::new(Bomb) as Box<dyn Sink>);
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings: Vec::new(), identity: None })
}

struct Bomb;

#[async_trait::async_trait]
impl Source for Bomb {
    async fn run(&mut self, _: Inlet, _: Report) -> Result<End> {
        panic!("the source went off")
    }
}

#[async_trait::async_trait]
impl Sink for Bomb {
    async fn connect(&mut self, _: Report) -> Result<()> {
        Ok(())
    }

    async fn deliver(&mut self, _: &[Parcel]) -> Result<(), Stopped> {
        panic!("the sink went off")
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn status(rules: &Rules, id: &str) -> Json {
    Json::Object(rules.status(id).unwrap().to_json())
}

/// Waits until the status of a rule is as wanted.
async fn until(rules: &Rules, id: &str, what: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let work = async {
        while !holds(&status(rules, id)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), work).await.is_err() {
        panic!("not so: {what}: {:#}", status(rules, id));
    }
    status(rules, id)
}

#[tokio::test]
async fn a_connector_that_panics_stops_its_rule_and_no_other() {
    let rules = rules();
    let bomb = r#"CREATE STREAM bomb () WITH (TYPE="bomb", FORMAT="json")"#;
    rules.host().catalog.run(Command::parse(bomb).unwrap()).unwrap();
    stream(&rules, "calm", false);
    rules.create(rule("neighbour", "calm")).await.unwrap();
    rules.create(rule("in", "bomb")).await.unwrap();
    let out = json!({"id": "out", "sql": "SELECT a FROM calm", "actions": [{"nop": {}}, {"bomb": {}}]});
    rules.create(out.to_string()).await.unwrap();
    let bug = "this is a bug, please report it";
    for (id, text) in [
        ("in", format!("the source of `bomb` panicked: the source went off; {bug}")),
        ("out", format!("the sink `bomb_1` panicked: the sink went off; {bug}")),
    ] {
        let found = until(&rules, id, "it has stopped", |status| status["status"] == "stopped by error").await;
        assert_eq!((&found["message"], &found["health"]["reason"]), (&json!(text), &json!(text)));
        assert_eq!(found["health"]["state"], "failed");
        assert_eq!(found["restarts"], json!({"total": 0, "panics": 1, "nextTimestamp": 0}));
        assert!(rules.status(id).unwrap().run.ledger.balances(), "{found:#}");
    }
    let found = until(&rules, "neighbour", "its row", |status| status["ledger"]["out"] == 1).await;
    assert_eq!((&found["status"], &found["health"]["state"]), (&json!("running"), &json!("healthy")));
    rules.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_rule_that_panics_is_started_again_where_it_asks_for_it() {
    let rules = rules();
    rules.resume().await;
    let bomb = r#"CREATE STREAM bomb () WITH (TYPE="bomb", FORMAT="json")"#;
    rules.host().catalog.run(Command::parse(bomb).unwrap()).unwrap();
    let options = json!({"restartStrategy": {"attempts": 3, "delay": 5, "maxDelay": "20ms"}});
    let text = json!({"id": "r", "sql": "SELECT a FROM bomb", "actions": [{"nop": {}}], "options": options});
    rules.create(text.to_string()).await.unwrap();
    let found = until(&rules, "r", "restarts", |status| status["restarts"]["total"].as_i64() > Some(3)).await;
    assert!(found["restarts"]["panics"].as_i64() > Some(3), "{found:#}");
    rules.stop("r".into()).await.unwrap();
    let total = status(&rules, "r")["restarts"]["total"].clone();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(status(&rules, "r")["restarts"]["total"], total, "it was stopped by hand");
    rules.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_does_not_fail_a_rule() {
    let rules = rules();
    // Bound, and nobody listens.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = nobody.local_addr().unwrap();
    let extra = format!(r#"{{\"server\": \"tcp://{address}\"}}"#);
    let statement =
        format!(r#"CREATE STREAM away () WITH (TYPE="mqtt", DATASOURCE="t", FORMAT="json", EXTRA="{extra}")"#);
    rules.host().catalog.run(Command::parse(&statement).unwrap()).unwrap();
    stream(&rules, "here", false);
    let sink = json!({"mqtt": {"server": format!("tcp://{address}"), "topic": "t"}});
    for (id, from, sink) in [("reads", "away", json!({"nop": {}})), ("writes", "here", sink)] {
        let text = json!({"id": id, "sql": format!("SELECT a FROM {from}"), "actions": [sink]});
        rules.create(text.to_string()).await.unwrap();
        let found = until(&rules, id, "its health", |status| status["health"]["state"] == "degraded").await;
        assert_eq!((&found["status"], &found["message"]), (&json!("running"), &json!("")));
        let reason = found["health"]["reason"].as_str().unwrap();
        let who = if id == "reads" { "the source `away`" } else { "the sink `mqtt_0`" };
        assert!(reason.starts_with(who) && reason.contains("has had no connection for"), "{reason}");
        assert!(reason.contains(&address.to_string()), "{reason}");
    }
    let found = status(&rules, "writes");
    assert!(found["health"]["lastInputTimestamp"].as_i64() > Some(0) && found["ledger"]["in"] == 1, "{found:#}");
    assert_eq!(found["health"]["lastConfirmationTimestamp"], 0);
    rules.shutdown(Duration::from_secs(8)).await;
}
