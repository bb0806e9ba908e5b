//! The engine with real tasks and a connector of its own.

mod breaking;
mod draining;

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::catalog::Command;
use crate::clock::Clock;
use crate::config::Layers;
use crate::diag::Result;
use crate::io::{Connector, End, Inlet, Link, Message, Payload, Report, Source, SourcePlan, SourceSpec};
use crate::rule::{Rules, Setup};

/// Owners of the sources that were told to forget. A connector is a constant, so what it does is seen here; each test
/// has owners of its own.
static FORGOTTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

const TRICKLE: Connector = Connector {
    name: "trickle",
    about: "Gives a row, and then waits.",
    defaults: "",
    source: Some(trickle),
    sink: None,
    lookup: None,
    source_schema: None,
    sink_schema: None,
};

fn trickle(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let (owner, clock) = (spec.env.owner, spec.env.clock);
    let open = move || Ok(Box::new(Trickle { owner: owner.clone(), clock: clock.clone() }) as Box<dyn Source>);
    Ok(SourcePlan { open: Box::new(open), gives_rows: true, seeks: false, warnings: Vec::new(), identity: None })
}

struct Trickle {
    owner: String,
    clock: Clock,
}

#[async_trait::async_trait]
impl Source for Trickle {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        report.set(Link::Connected);
        let row = [("a", crate::data::Value::Int(1))].into_iter().collect();
        let message =
            Message { payload: Payload::Row(row), time: self.clock.now(), meta: None, ack: None, delivery: None };
        let _ = inlet.send(vec![message]).await;
        inlet.closed().await;
        report.set(Link::Disconnected("no one listens".into()));
        Ok(End::Closed)
    }

    async fn forget(&mut self) -> Result<()> {
        FORGOTTEN.lock().unwrap().push(self.owner.clone());
        match self.owner.as_str() {
            "clings" => Err(crate::diag::Fault::unreachable("the session `clings` could not be ended")),
            _ => Ok(()),
        }
    }
}

fn forgotten(owners: &[&str]) -> Vec<String> {
    FORGOTTEN.lock().unwrap().iter().filter(|owner| owners.contains(&owner.as_str())).cloned().collect()
}

fn rules() -> Arc<Rules> {
    let setup = Setup {
        data: None,
        plugins: None,
        policy: Default::default(),
        isolation: crate::plugin::Isolation::default(),
        rule: Map::new(),
        sink: Map::new(),
        timezone: "UTC".into(),
        props: BTreeMap::new(),
        secrets: Default::default(),
        layers: Layers::default(),
        patrol: Duration::from_secs(10),
        root: ".".into(),
        private_net: true,
        ignore_case: false,
        connectors: vec![TRICKLE, breaking::BOMB, draining::GATED],
    };
    let (host, told) = Host::open(setup).unwrap();
    assert!(told.is_empty(), "{told:?}");
    Rules::open(Arc::new(host), engine()).unwrap()
}

fn stream(rules: &Rules, name: &str, shared: bool) {
    let sql = format!(r#"CREATE STREAM {name} () WITH (TYPE="trickle", FORMAT="json", SHARED="{shared}")"#);
    rules.host().catalog.run(Command::parse(&sql).unwrap()).unwrap();
}

fn rule(id: &str, stream: &str) -> String {
    json!({"id": id, "sql": format!("SELECT a FROM {stream}"), "actions": [{"nop": {}}]}).to_string()
}

#[tokio::test]
async fn a_rule_that_is_deleted_takes_back_what_its_source_left_outside() {
    let rules = rules();
    stream(&rules, "own", false);
    for id in ["gone", "stopped", "changed", "kept"] {
        rules.create(rule(id, "own")).await.unwrap();
    }
    rules.stop("stopped".into()).await.unwrap();
    rules.restart("kept".into()).await.unwrap();
    rules.update("kept".into(), rule("kept", "own"), false).await.unwrap();
    let owners = ["gone", "stopped", "changed", "kept", "other"];
    assert!(forgotten(&owners).is_empty());
    rules.remove("gone".into()).await.unwrap();
    rules.remove("stopped".into()).await.unwrap();
    assert_eq!(forgotten(&owners), ["gone", "stopped"]);
    stream(&rules, "other", false);
    rules.update("changed".into(), rule("changed", "other"), false).await.unwrap();
    assert_eq!(forgotten(&owners), ["gone", "stopped", "changed"]);
}

#[tokio::test]
async fn the_answer_says_what_could_not_be_taken_back() {
    let rules = rules();
    stream(&rules, "sticky", false);
    stream(&rules, "free", false);
    rules.create(rule("clings", "sticky")).await.unwrap();
    let told = rules.update("clings".into(), rule("clings", "free"), false).await.unwrap();
    assert!(told.warnings.iter().any(|found| found.message == "the session `clings` could not be ended"), "{told:?}");
    let told = rules.remove("clings".into()).await.unwrap();
    assert_eq!(told, "Rule clings is dropped. The session `clings` could not be ended.");
}

#[tokio::test]
async fn what_a_shared_stream_left_outside_is_taken_back_with_its_last_rule() {
    let rules = rules();
    stream(&rules, "common", true);
    for id in ["one", "two", "three"] {
        rules.create(rule(id, "common")).await.unwrap();
    }
    rules.stop("three".into()).await.unwrap();
    rules.remove("one".into()).await.unwrap();
    rules.remove("two".into()).await.unwrap();
    assert!(forgotten(&["common"]).is_empty(), "a stopped rule may be started again");
    rules.remove("three".into()).await.unwrap();
    assert_eq!(forgotten(&["common", "one", "two", "three"]), ["common"]);
}

#[tokio::test]
async fn a_stream_that_is_dropped_takes_back_what_its_stopped_rules_left_outside() {
    let rules = rules();
    stream(&rules, "dropped", false);
    rules.create(rule("idle", "dropped")).await.unwrap();
    rules.stop("idle".into()).await.unwrap();
    rules.let_go("dropped").await;
    assert_eq!(forgotten(&["idle"]), ["idle"]);
}

#[tokio::test]
async fn what_a_window_held_is_dropped_as_changed_when_the_changed_rule_has_none() {
    let rules = rules();
    stream(&rules, "held", false);
    let text = |sql: &str| json!({"id": "w", "sql": sql, "actions": [{"nop": {}}], "options": {"qos": 1}}).to_string();
    let ledger = || Json::Object(rules.status("w").unwrap().to_json())["ledger"].clone();
    let until = async |term: &str| {
        let deadline = Clock::real();
        tokio::select! {
            () = async { while ledger()[term] != 1 { tokio::task::yield_now().await } } => {}
            () = deadline.sleep(Duration::from_secs(5)) => panic!("{}", ledger()),
        }
    };
    rules.create(text("SELECT collect(a) AS all FROM held GROUP BY COUNTWINDOW(9)")).await.unwrap();
    until("held").await;
    rules.update("w".into(), text("SELECT a FROM held"), false).await.unwrap();
    until("out").await;
    assert_eq!(
        (&ledger()["in"], &ledger()["held"], &ledger()["dropped"]),
        (&json!(2), &json!(0), &json!({"changed": 1}))
    );
    rules.remove("w".into()).await.unwrap();
}

#[tokio::test]
async fn the_status_tells_of_connections_and_rows() {
    let rules = rules();
    stream(&rules, "seen", false);
    rules.create(rule("shown", "seen")).await.unwrap();
    let status = || Json::Object(rules.status("shown").unwrap().to_json());
    let deadline = Clock::real();
    tokio::select! {
        () = async { while status()["ledger"]["out"] != 1 { tokio::task::yield_now().await } } => {}
        () = deadline.sleep(Duration::from_secs(5)) => panic!("{}", status()),
    }
    let running = status();
    for node in ["source_seen", "sink_nop_0"] {
        assert_eq!(running[format!("{node}_0_connection_status")], 1);
        assert!(running[format!("{node}_0_connection_last_connected_time")].as_i64().unwrap() > 0);
        assert!(running[format!("{node}_0_connection_last_try_time")].as_i64().unwrap() > 0);
        assert_eq!(running[format!("{node}_0_connection_last_disconnected_time")], 0);
    }
    rules.stop("shown".into()).await.unwrap();
    let stopped = status();
    assert_eq!(stopped["source_seen_0_connection_status"], -1);
    assert!(stopped["source_seen_0_connection_last_disconnected_time"].as_i64().unwrap() > 0);
    assert_eq!(stopped["source_seen_0_connection_last_disconnected_message"], "no one listens");
    assert_eq!(stopped["source_seen_0_records_out_total"], 1);
    assert_eq!(stopped["sink_nop_0_0_records_out_total"], 1);
}

#[tokio::test]
async fn after_a_restart_a_shared_stream_is_read_when_all_its_rules_are_there() {
    let first = rules();
    stream(&first, "once", true);
    let ids: Vec<String> = (0..20).map(|n| format!("reader{n}")).collect();
    for id in &ids {
        first.create(rule(id, "once")).await.unwrap();
    }
    let host = first.host().clone();
    first.shutdown(Duration::from_secs(5)).await;
    drop(first);
    let rules = Rules::open(host, engine()).unwrap();
    rules.resume().await;
    let deadline = Clock::real();
    // The source gives one row in all; the ledger goes on from the first life.
    let came =
        |id: &String| Json::Object(rules.status(id).unwrap().to_json())["source_once_0_records_in_total"].clone();
    tokio::select! {
        () = async { while !ids.iter().all(|id| came(id) == 1) { tokio::task::yield_now().await } } => {}
        () = deadline.sleep(Duration::from_secs(5)) => panic!("{:?}", ids.iter().map(came).collect::<Vec<_>>()),
    }
}
