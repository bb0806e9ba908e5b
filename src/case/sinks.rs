//! Sinks that remember what they are given, shaped as any sink of a rule is.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::clock::Clock;
use crate::data::{Batch, Fate, Layout, Object, Receipt, Time, Value};
use crate::diag::Fault;
use crate::flow::emissions;
use crate::flow::shape::{Common, Facts, Shape};
use crate::func::RuleInfo;
use crate::io::{Content, Parcel, Takes};
use crate::plan::Plan;

use super::compare::Emission;
use super::engine::Refusal;
use super::rule::{Expected, RuleCase, WantBody};
use super::update::Got;

/// All sinks of one rule.
pub(super) struct Sinks {
    layout: Arc<Layout>,
    send_error: bool,
    clock: Clock,
    all: Vec<Sink>,
}

struct Sink {
    name: String,
    shape: Shape,
    given: Vec<Emission>,
}

impl Sinks {
    pub fn new(case: &RuleCase, plan: &Plan, rule: &RuleInfo, send_error: bool) -> Result<Sinks, Refusal> {
        let layout = Arc::new(plan.layout.clone());
        let clock = Clock::stopped_at(case.start);
        let facts = Facts::new(clock.clone(), rule.zone.clone(), rule.props.clone());
        let unnamed = [(String::new(), Map::new())];
        let mut all = Vec::new();
        for (name, props) in case.sinks.as_deref().unwrap_or(&unnamed) {
            let mut left = props.clone();
            let refused = |found: crate::diag::Diagnostic| Refusal::Refused(format!("sink `{name}`: {found}"));
            let common = Common::take(&mut left).map_err(refused)?;
            if let Some(unknown) = left.keys().next() {
                return Err(Refusal::Unknown(format!("the property `{unknown}` of sink `{name}` is not known")));
            }
            let takes = if wants_messages(case, name, props) { Takes::Bytes } else { Takes::Rows };
            let shape = Shape::new(&common, layout.clone(), takes, facts.clone()).map_err(refused)?;
            all.push(Sink { name: name.clone(), shape, given: Vec::new() });
        }
        Ok(Sinks { layout, send_error, clock, all })
    }

    pub fn set_clock(&mut self, now: Time) {
        self.clock.set(now);
    }

    /// Takes what left the chain.
    pub fn take(&mut self, mut batch: Batch) {
        let rows = batch.selected().to_vec();
        let receipts: Vec<Receipt> = rows.iter().map(|row| batch.take_receipt(*row as usize)).collect();
        for sink in &mut self.all {
            let mut faults = batch.faults().iter().peekable();
            let mut at = 0;
            for emission in emissions(&batch) {
                if let Some(first) = emission.first() {
                    while let Some((_, fault)) = faults.next_if(|(row, _)| row <= first) {
                        sink.error(fault, self.send_error, self.clock.now());
                    }
                }
                let values: Vec<&[Value]> = emission.iter().map(|row| batch.row(*row as usize)).collect();
                let promises = receipts.iter().skip(at).take(values.len());
                at += values.len();
                let mut parcels = Vec::new();
                let fate = match sink.shape.parcels(&self.layout, &values, &mut parcels) {
                    Ok(()) => {
                        sink.given.extend(parcels.into_iter().map(|parcel| received(parcel, self.clock.now())));
                        Fate::Out
                    }
                    Err(fault) => {
                        sink.error(&fault, self.send_error, self.clock.now());
                        Fate::dead(&fault)
                    }
                };
                promises.cloned().for_each(|promise| promise.settle(fate));
            }
            faults.for_each(|(_, fault)| sink.error(fault, self.send_error, self.clock.now()));
        }
        // The sinks have spoken; the least of all fates adds nothing to theirs.
        receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Filtered));
    }

    /// Everything that the sinks were given.
    pub fn take_all(&mut self) -> Got {
        self.all.iter_mut().map(|sink| (sink.name.clone(), std::mem::take(&mut sink.given))).collect()
    }
}

impl Sink {
    /// With `sendError` an error goes to the sink too.
    fn error(&mut self, fault: &Fault, send: bool, now: Time) {
        if send {
            self.given.push(Emission { at: now, error: Some(fault.to_string()), ..Emission::default() });
        }
    }
}

/// Whether the sink is compared by the messages that it sends, and not by rows.
fn wants_messages(case: &RuleCase, name: &str, props: &Map<String, Json>) -> bool {
    let Expected::Output(expected) = &case.expected else { return false };
    let wants = expected.iter().find(|(sink, _)| sink == name).map_or(&[][..], |(_, wants)| wants);
    let mut kinds = wants.iter().filter_map(|want| match want.body {
        WantBody::Text(_) | WantBody::Bytes(_) => Some(true),
        WantBody::Rows(_) => Some(false),
        WantBody::Error(_) => None,
    });
    kinds.next().unwrap_or_else(|| ["dataTemplate", "format", "delimiter"].iter().any(|key| props.contains_key(*key)))
}

fn received(parcel: Parcel, now: Time) -> Emission {
    match parcel.content {
        Content::Rows(set) => {
            let rows: Vec<Object> = set.rows.iter().map(|row| set.layout.object(row)).collect();
            Emission { at: now, rows: Some(rows), ..Emission::default() }
        }
        Content::Bytes(bytes) => Emission { at: now, sent: Some(bytes.to_vec()), ..Emission::default() },
    }
}
