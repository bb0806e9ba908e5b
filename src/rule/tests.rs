#![allow(clippy::unwrap_used, clippy::panic)]

mod living;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::host::tests::reopen;
use super::*;
use crate::clock::{Clock, Time};
use crate::diag::Diagnostic;
use crate::lint::Known;
use crate::meter::Accounts;

/// An engine whose rules do what their SQL says, and end when the test says so.
#[derive(Default)]
struct Script {
    starts: AtomicUsize,
    stops: Arc<AtomicUsize>,
    forgotten: Arc<AtomicUsize>,
    ends: Mutex<Vec<watch::Sender<Option<Ended>>>>,
    carried: Arc<Mutex<Vec<Accounts>>>,
}

impl Script {
    fn end_last(&self, ended: Ended) {
        self.ends.lock().unwrap().last().unwrap().send_replace(Some(ended));
    }
}

struct ScriptPlan {
    sql: String,
    end: watch::Receiver<Option<Ended>>,
    stops: Arc<AtomicUsize>,
    forgotten: Arc<AtomicUsize>,
    carried: Arc<Mutex<Vec<Accounts>>>,
}

struct ScriptRun {
    end: watch::Receiver<Option<Ended>>,
    stops: Arc<AtomicUsize>,
}

impl Engine for Script {
    fn plan(&self, def: &Def, _: &Arc<Host>) -> Result<Box<dyn Planned>, Vec<Diagnostic>> {
        if let Some(at) = def.sql.find("wrong") {
            let found = Diagnostic::error("K0000", "this is wrong").at(crate::diag::Span::new(at, at + 5));
            return Err(vec![found]);
        }
        assert!(!def.sql.contains("unplanned"), "as asked");
        self.starts.fetch_add(1, Ordering::SeqCst);
        let (to, end) = watch::channel(None);
        self.ends.lock().unwrap().push(to);
        let (stops, forgotten, carried) = (self.stops.clone(), self.forgotten.clone(), self.carried.clone());
        Ok(Box::new(ScriptPlan { sql: def.sql.clone(), end, stops, forgotten, carried }))
    }
}

#[async_trait::async_trait]
impl Planned for ScriptPlan {
    fn sources(&self) -> Vec<String> {
        vec!["demo".into()]
    }
    fn explain(&self) -> String {
        format!("plan of {}", self.sql)
    }
    fn topo(&self) -> Topo {
        Topo { sources: vec!["source_demo".into()], edges: Default::default() }
    }
    fn carry(&mut self, accounts: Accounts) {
        self.carried.lock().unwrap().push(accounts);
    }
    async fn start(self: Box<Self>) -> Result<Arc<dyn Running>, Fault> {
        if self.sql.contains("nostart") {
            return Err(Fault::setup("no such door"));
        }
        assert!(!self.sql.contains("explode"), "as asked");
        if self.sql.contains("slow") {
            std::future::pending::<()>().await;
        }
        Ok(Arc::new(ScriptRun { end: self.end, stops: self.stops }))
    }
    async fn forget(self: Box<Self>) -> Vec<Fault> {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        Vec::new()
    }
}

#[async_trait::async_trait]
impl Running for ScriptRun {
    async fn ended(&self) -> Ended {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await.unwrap();
        ended.clone().unwrap()
    }
    async fn stop(&self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }
    fn status(&self) -> RunStatus {
        let mut status = RunStatus::default();
        status.ledger.came = 7;
        status
    }
}

struct World {
    home: tempfile::TempDir,
    clock: Clock,
    script: Arc<Script>,
    rules: Arc<Rules>,
}

fn world() -> World {
    let (home, clock) = (tempfile::tempdir().unwrap(), Clock::stopped_at(Time(1000)));
    let script = Arc::new(Script::default());
    let rules = Rules::open(Arc::new(reopen(&home, clock.clone())), script.clone()).unwrap();
    World { home, clock, script, rules }
}

impl World {
    /// The same data folder, after the end of the process.
    async fn restarted(self) -> World {
        self.ended(&[]).await
    }

    /// The same data folder, after the process was killed: the accounts are what was stored last.
    async fn killed(self) -> World {
        let stored = self.rules.host().store.all(crate::store::Bucket::LEDGERS).unwrap();
        self.ended(&stored).await
    }

    async fn ended(self, accounts: &[(String, String)]) -> World {
        self.rules.shutdown(Duration::from_secs(5)).await;
        let World { home, clock, script, rules } = self;
        drop(rules);
        // Watchers and transitions hold the host; they end soon after.
        while crate::store::Store::open(home.path()).is_err() {
            tokio::task::yield_now().await;
        }
        let host = Arc::new(reopen(&home, clock.clone()));
        host.store.put_all(crate::store::Bucket::LEDGERS, accounts).unwrap();
        let rules = Rules::open(host, script.clone()).unwrap();
        World { home, clock, script, rules }
    }

    fn state(&self, id: &str) -> (&'static str, String) {
        let status = self.rules.status(id).unwrap();
        (status.state.name(), status.message)
    }

    async fn until(&self, id: &str, state: &str) {
        let wait = async {
            while self.state(id).0 != state {
                tokio::task::yield_now().await;
            }
        };
        let limit = Clock::real();
        tokio::select! {
            () = wait => {}
            () = limit.sleep(Duration::from_secs(5)) => panic!("rule {id} is {:?}, not {state}", self.state(id)),
        }
    }
}

fn rule(id: &str, sql: &str) -> String {
    format!(r#"{{"id": "{id}", "sql": "{sql}", "actions": [{{"log": {{}}}}]}}"#)
}

fn err<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_rule_is_created_stopped_started_and_dropped() {
    let w = world();
    assert_eq!(w.rules.create(rule("r", "SELECT")).await.unwrap().text, "Rule r was created successfully.");
    assert_eq!(w.state("r"), ("running", String::new()));
    assert_eq!(err(w.rules.create(rule("r", "SELECT")).await), "rule r already exists");
    assert_eq!(w.rules.text("r").unwrap(), rule("r", "SELECT"));
    assert_eq!(w.rules.stop("r".into()).await.unwrap(), "Rule r was stopped.");
    assert_eq!(w.state("r"), ("stopped", "canceled manually".into()));
    assert_eq!(w.rules.status("r").unwrap().run.ledger.came, 7, "the last counters stay");
    assert!(w.rules.text("r").unwrap().contains(r#""triggered":false"#));
    assert_eq!(w.rules.start("r".into()).await.unwrap().text, "Rule r was started");
    assert_eq!(w.state("r"), ("running", String::new()));
    assert_eq!(w.rules.restart("r".into()).await.unwrap().text, "Rule r was restarted");
    assert_eq!(w.script.stops.load(Ordering::SeqCst), 2);
    assert_eq!(w.rules.remove("r".into()).await.unwrap(), "Rule r is dropped.");
    assert_eq!(w.script.stops.load(Ordering::SeqCst), 3);
    assert_eq!(w.script.forgotten.load(Ordering::SeqCst), 1);
    assert!(w.rules.list().is_empty());
    assert_eq!(err(w.rules.remove("r".into()).await), "rule r not found");
    assert_eq!(err(w.rules.text("r")), "Rule r is not found.");
    assert_eq!(err(w.rules.stop("r".into()).await), "Rule r is not found in registry, please check if it is created");
}

#[tokio::test]
async fn what_cannot_be_planned_is_not_created_and_does_not_stop_the_old_one() {
    let w = world();
    let refused = err(w.rules.create(rule("r", "SELECT wrong")).await);
    assert!(refused.starts_with("error[K0000]: this is wrong\n --> sql:1:8"), "{refused}");
    assert!(w.rules.list().is_empty());
    w.rules.create(rule("r", "SELECT")).await.unwrap();
    assert!(err(w.rules.update("r".into(), rule("r", "SELECT wrong"), false).await).contains("this is wrong"));
    assert_eq!(w.state("r").0, "running");
    assert_eq!(w.script.stops.load(Ordering::SeqCst), 0);
    assert_eq!(w.rules.text("r").unwrap(), rule("r", "SELECT"));
    let refused = err(w.rules.update("r".into(), rule("s", "SELECT"), false).await);
    assert_eq!(refused, "Invalid rule json: RuleId is not consistent with rule id.");
}

#[tokio::test]
async fn a_run_that_cannot_begin_does_not_undo_the_rule() {
    let w = world();
    w.rules.create(rule("r", "SELECT nostart")).await.unwrap();
    assert_eq!(w.state("r"), ("stopped by error", "no such door".into()));
    w.rules.create(rule("x", "SELECT explode")).await.unwrap();
    let (state, message) = w.state("x");
    assert_eq!(state, "stopped by error");
    assert!(message.contains("this is a bug"), "{message}");
}

#[tokio::test]
async fn the_end_of_the_input_is_kept_and_an_error_is_told() {
    let w = world();
    w.rules.create(rule("r", "SELECT")).await.unwrap();
    w.script.end_last(Ended::Finished);
    w.until("r", "stopped").await;
    assert_eq!(w.state("r").1, "done");
    assert!(w.rules.text("r").unwrap().contains(r#""triggered":false"#));
    w.rules.create(rule("s", "SELECT")).await.unwrap();
    w.script.end_last(Ended::Failed(Fault::setup("the disk is gone")));
    w.until("s", "stopped by error").await;
    assert_eq!(w.state("s").1, "the disk is gone");
    assert_eq!(w.rules.text("s").unwrap(), rule("s", "SELECT"), "it is still to run");
    w.rules.start("s".into()).await.unwrap();
    assert_eq!(w.state("s"), ("running", String::new()));
}

#[tokio::test]
async fn running_rules_run_again_after_a_restart() {
    let w = world();
    w.rules.create(rule("a", "SELECT")).await.unwrap();
    w.rules.create(rule("b", "SELECT")).await.unwrap();
    w.rules.create(rule("c", "SELECT").replace("}]}", "}], \"temp\": true}")).await.unwrap();
    w.rules.create(rule("d", "SELECT").replace("}]}", "}], \"triggered\": false}")).await.unwrap();
    w.rules.stop("b".into()).await.unwrap();
    assert_eq!(w.rules.list().len(), 4);
    let w = w.restarted().await;
    let states: Vec<(String, &str)> = w.rules.list().into_iter().map(|one| (one.id, one.status)).collect();
    assert_eq!(states, [("a".into(), "starting"), ("b".into(), "stopped"), ("d".into(), "stopped")]);
    w.rules.resume().await;
    assert_eq!(w.state("a").0, "running");
    assert_eq!(w.state("b").0, "stopped");
}

#[tokio::test]
async fn a_stored_rule_that_cannot_be_planned_without_a_panic_keeps_no_other_from_its_start() {
    let w = world();
    for n in 0..40 {
        w.rules.create(rule(&format!("r{n}"), "SELECT")).await.unwrap();
    }
    w.rules.host().store.put(crate::store::Bucket::RULES, "r1", &rule("r1", "unplanned")).unwrap();
    let w = w.restarted().await;
    w.rules.resume().await;
    let running = w.rules.list().into_iter().filter(|one| one.status == "running").count();
    assert_eq!(running, 39);
    assert_eq!(
        w.state("r1"),
        ("stopped by error", "planning the rule panicked, which is a mistake of the program".into())
    );
}

#[tokio::test]
async fn a_start_that_the_end_of_the_program_cuts_off_lets_no_source_be_read() {
    let w = world();
    w.rules.host().store.put(crate::store::Bucket::RULES, "a", &rule("a", "slow")).unwrap();
    let w = w.restarted().await;
    let rules = w.rules.clone();
    let resuming = tokio::spawn(async move { rules.resume().await });
    let mut reading = w.rules.host().reading.subscribe();
    reading.wait_for(|reading| !reading).await.unwrap();
    resuming.abort();
    w.rules.shutdown(Duration::from_secs(5)).await;
    assert!(resuming.await.unwrap_err().is_cancelled());
    assert!(!*reading.borrow());
}

#[tokio::test]
async fn a_rule_that_waits_to_be_resumed_can_be_stopped() {
    let w = world();
    w.rules.create(rule("a", "SELECT")).await.unwrap();
    let w = w.restarted().await;
    w.rules.stop("a".into()).await.unwrap();
    w.rules.resume().await;
    assert_eq!(w.state("a"), ("stopped", "canceled manually".into()));
}

#[tokio::test]
async fn a_stored_rule_that_cannot_be_read_is_shown_and_can_be_replaced() {
    let w = world();
    w.rules.host().store.put(crate::store::Bucket::RULES, "old", r#"{"id": "old", "sql": "SELECT"}"#).unwrap();
    let w = w.restarted().await;
    assert_eq!(w.state("old"), ("stopped by error", "Missing rule actions.".into()));
    assert_eq!(err(w.rules.start("old".into()).await), "Missing rule actions.");
    w.rules.update("old".into(), rule("old", "SELECT"), false).await.unwrap();
    assert_eq!(w.state("old").0, "running");
}

#[tokio::test]
async fn update_heeds_versions_and_whether_the_rule_is_to_run() {
    let w = world();
    let version = |version: &str, more: &str| {
        rule("r", "SELECT").replace("}]}", &format!("}}], \"version\": \"{version}\"{more}}}"))
    };
    assert_eq!(
        w.rules.update("r".into(), version("2", ""), false).await.unwrap().text,
        "Rule r was updated successfully."
    );
    assert_eq!(w.state("r").0, "running");
    assert_eq!(
        err(w.rules.update("r".into(), version("2", ""), false).await),
        "rule r already exists with version (2), new version (2) is lower"
    );
    w.rules.update("r".into(), version("3", ", \"triggered\": false"), false).await.unwrap();
    assert_eq!(w.state("r"), ("stopped", "stopped by update".into()));
}

#[tokio::test]
async fn a_running_rule_needs_its_stream() {
    let w = world();
    assert!(!w.rules.is_read("demo"));
    w.rules.create(rule("r", "SELECT")).await.unwrap();
    assert!(w.rules.is_read("demo") && !w.rules.is_read("other"));
    w.rules.stop("r".into()).await.unwrap();
    assert!(!w.rules.is_read("demo"));
}

#[tokio::test]
async fn a_plan_is_shown_before_and_a_topology_after_the_first_start() {
    let w = world();
    w.rules.create(rule("r", "SELECT").replace("}]}", "}], \"triggered\": false}")).await.unwrap();
    assert_eq!(w.rules.explain("r").unwrap(), "plan of SELECT");
    assert!(matches!(w.rules.topo("r"), Err(Refused::NeverRan(_))));
    w.rules.start("r".into()).await.unwrap();
    assert_eq!(w.rules.topo("r").unwrap().sources, ["source_demo"]);
    assert_eq!(w.rules.validate(&rule("v", "SELECT"), Known::default()).unwrap().sources, ["demo"]);
    assert_eq!(
        w.rules.validate("{\"id\": \"v\", \"sql\": \"SELECT\"}", Known::default()).unwrap_err(),
        "invalid rule json: Missing rule actions."
    );
}
