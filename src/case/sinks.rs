//! Sinks that remember what they are given, shaped as any sink of a rule is.

use std::sync::Arc;

use crate::data::{Batch, Fate, Layout, Time, Value};
use crate::flow::emissions;
use crate::io::RowSet;
use crate::plan::Plan;

use super::compare::Emission;
use super::engine::Refusal;
use super::rule::RuleCase;
use super::update::Got;

/// All sinks of one rule.
pub(super) struct Sinks {
    layout: Arc<Layout>,
    send_error: bool,
    all: Vec<Sink>,
}

struct Sink {
    name: String,
    given: Vec<Emission>,
}

impl Sinks {
    pub fn new(case: &RuleCase, plan: &Plan, send_error: bool) -> Result<Sinks, Refusal> {
        if case.sinks.is_some() {
            return Err(Refusal::Unknown("named sinks are not supported".to_string()));
        }
        let all = vec![Sink { name: String::new(), given: Vec::new() }];
        Ok(Sinks { layout: Arc::new(plan.layout.clone()), send_error, all })
    }

    /// When a sink hands over by itself.
    pub fn due(&self) -> Option<Time> {
        None
    }

    pub fn tick(&mut self, _now: Time) {}

    pub fn stop(&mut self) {}

    /// Takes what left the chain.
    pub fn take(&mut self, mut batch: Batch, now: Time) {
        for sink in &mut self.all {
            let mut faults = batch.faults().iter().peekable();
            let fault = |given: &mut Vec<Emission>, text: String| {
                if self.send_error {
                    given.push(Emission { at: now, error: Some(text), ..Emission::default() });
                }
            };
            for emission in emissions(&batch) {
                if let Some(first) = emission.first() {
                    while let Some((_, found)) = faults.next_if(|(at, _)| at <= first) {
                        fault(&mut sink.given, found.to_string());
                    }
                }
                let rows: Vec<Vec<Value>> = emission.iter().map(|row| batch.row(*row as usize).to_vec()).collect();
                let rows = RowSet { layout: self.layout.clone(), rows, single: false };
                sink.given.push(Emission { at: now, rows: Some(rows.objects()), ..Emission::default() });
            }
            faults.for_each(|(_, found)| fault(&mut sink.given, found.to_string()));
        }
        for row in batch.selected().to_vec() {
            batch.take_receipt(row as usize).settle(Fate::Out);
        }
    }

    /// Everything that the sinks were given.
    pub fn take_all(&mut self) -> Got {
        self.all.iter_mut().map(|sink| (sink.name.clone(), std::mem::take(&mut sink.given))).collect()
    }
}
