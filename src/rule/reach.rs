//! Whether the outside of a connector can be reached, asked without a rule.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::Host;
use crate::codec::FormatOptions;
use crate::diag::Fault;
use crate::flow::shape::Common;
use crate::io::{self, Inlet, Link, LookupSpec, Report};
use crate::plugin::Part;

/// Connectors of ours that reach out; of the others only the properties are checked, for a file is made by the first try.
const DIAL: &[&str] = &["mqtt", "rest"];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Host {
    /// Tries to reach the outside with these properties: a sink is connected, a source begins, a plugin is asked whether it
    /// can. Nothing is delivered, and what a source gives is not taken.
    ///
    /// # Errors
    /// What to tell the user.
    pub async fn reach(&self, part: Part, name: &str, mut props: Map<String, Json>) -> Result<(), String> {
        let text = |fault: Fault| fault.to_string();
        let reached = async {
            if part == Part::Sink {
                Common::take_over(&mut props, &self.sink_defaults).map_err(|found| found.to_string())?;
            }
            if !self.connectors().any(|one| one.name == name)
                && let Some(reached) = self.plugins.ping(part, name, props.clone()).await
            {
                return reached.map_err(text);
            }
            let env = self.env("");
            match part {
                Part::Sink => {
                    let format = FormatOptions { format: "json".into(), ..FormatOptions::default() };
                    let spec = io::SinkSpec { props, format, durable: false, env };
                    let plan = self.sink(name, spec).map_err(|found| found.to_string())?;
                    if !DIAL.contains(&name) {
                        return Ok(());
                    }
                    let mut sink = (plan.open)().map_err(text)?;
                    let reached = sink.connect(Report::timed(self.clock.clone()).0).await;
                    let closed = sink.close().await;
                    reached.and(closed).map_err(text)
                }
                Part::Source => {
                    let stream = String::new();
                    let spec = io::SourceSpec { props, wants_meta: false, wants_acks: true, stream, env };
                    let plan = self.source(name, spec).map_err(|found| found.to_string())?;
                    if !DIAL.contains(&name) {
                        return Ok(());
                    }
                    let mut source = (plan.open)().map_err(text)?;
                    let (report, mut link) = Report::timed(self.clock.clone());
                    let (inlet, from) = Inlet::bounded(1);
                    let told = async {
                        let decided = |status: &io::LinkStatus| status.link != Link::Connecting;
                        match link.wait_for(decided).await.map(|status| status.link.clone()) {
                            Ok(Link::Disconnected(why)) => Err(why),
                            _ => Ok(()),
                        }
                    };
                    let reached = tokio::select! {
                        told = told => told,
                        end = source.run(inlet, report) => end.map(drop).map_err(text),
                    };
                    drop(from);
                    reached
                }
                Part::Lookup => {
                    let own = self.connectors().find(|one| one.name == name).and_then(|one| one.lookup);
                    let Some(plan) = own else {
                        return Err(format!("there is no lookup table of type `{name}`"));
                    };
                    let spec = LookupSpec { props, format: FormatOptions::default(), env };
                    plan(spec).map(drop).map_err(|found| found.to_string())
                }
            }
        };
        let late = || Err(format!("there was no answer within {PATIENCE:?}"));
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| late())
    }
}
