//! A rule over a shared stream is changed while a sink takes its time: other rules read on, so the source gives nothing again.

use tokio::sync::Semaphore;

use super::*;
use crate::io::{Parcel, Sink, SinkPlan, SinkSpec, Stopped, Takes};
use crate::rule::run::running::PATIENCE;

/// Confirms nothing until its gate is open.
pub const GATED: Connector = Connector {
    name: "gated",
    about: "Waits for its gate.",
    defaults: "",
    source: None,
    sink: Some(sink),
    lookup: None,
    source_schema: None,
    sink_schema: None,
};

/// A connector is a constant, so each test has a gate here, by the owner of its sink.
static SLOW: Semaphore = Semaphore::const_new(0);
static AWAY: Semaphore = Semaphore::const_new(0);

struct Gated(&'static Semaphore);

fn sink(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let gate = if spec.env.owner == "slow" { &SLOW } else { &AWAY };
    let open = move || Ok(Box::new(Gated(gate)) as Box<dyn Sink>);
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings: Vec::new(), identity: None })
}

#[async_trait::async_trait]
impl Sink for Gated {
    async fn connect(&mut self, _: Report) -> Result<()> {
        Ok(())
    }

    async fn deliver(&mut self, _: &[Parcel]) -> Result<(), Stopped> {
        self.0.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn text(id: &str, what: &str) -> String {
    let sql = format!("SELECT {what} FROM {id}_rows");
    json!({"id": id, "sql": sql, "actions": [{"gated": {}}], "options": {"qos": 1}}).to_string()
}

/// Makes the rule, and waits until its row is on its way to the sink.
async fn begun(id: &str) -> Arc<Rules> {
    let rules = rules();
    stream(&rules, &format!("{id}_rows"), true);
    rules.create(text(id, "a")).await.unwrap();
    reached(&rules, id, "in", 1).await;
    rules
}

async fn reached(rules: &Rules, id: &str, term: &str, rows: u64) {
    let now = || Json::Object(rules.status(id).unwrap().to_json())["ledger"].clone();
    let reached = async {
        while now()[term] != rows {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok(), "{term}: {}", now());
}

#[tokio::test]
async fn a_change_waits_for_a_sink_that_is_slow() {
    let rules = begun("slow").await;
    let update = rules.update("slow".into(), text("slow", "a + 1 AS b"), false);
    let opened = async {
        // Longer than a stop would wait.
        tokio::time::sleep(PATIENCE + Duration::from_millis(300)).await;
        SLOW.add_permits(1);
    };
    let (updated, ()) = tokio::join!(update, opened);
    assert!(updated.is_ok(), "{updated:?}");
    let ledger = Json::Object(rules.status("slow").unwrap().to_json())["ledger"].clone();
    assert_eq!((ledger["out"].as_u64(), ledger["dropped"].clone()), (Some(1), json!({})));
}

#[tokio::test]
async fn a_change_is_refused_while_a_sink_takes_nothing() {
    let rules = begun("away").await;
    let refused = rules.update("away".into(), text("away", "a + 1 AS b"), false).await.unwrap_err();
    let told = "rule away has 1 rows on their way which its sinks have not confirmed, and its shared stream would not give them \
                again; wait until the sinks take them, or drop them with `force=true`";
    assert_eq!(refused.to_string(), told);
    // It runs on as it was.
    AWAY.add_permits(1);
    reached(&rules, "away", "out", 1).await;
}
