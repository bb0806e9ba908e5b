//! Sinks that remember what they are given, shaped as any sink of a rule is.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::clock::Clock;
use crate::data::{Batch, Fate, Held, Layout, Object, Receipt, Time, Value};
use crate::diag::Fault;
use crate::flow::emissions;
use crate::flow::shape::{Common, Facts, Gather, Shape};
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
    gather: Option<Gather>,
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
            let gather = shape.gather(case.start);
            all.push(Sink { name: name.clone(), shape, gather, given: Vec::new() });
        }
        Ok(Sinks { layout, send_error, clock, all })
    }

    pub fn set_clock(&mut self, now: Time) {
        self.clock.set(now);
    }

    /// Takes what left the chain.
    pub fn take(&mut self, mut batch: Batch) {
        let rows = batch.selected().to_vec();
        let mut receipts: Vec<Receipt> = rows.iter().map(|row| batch.take_receipt(*row as usize)).collect();
        // What waits in a sink is counted as held.
        let waits = self.all.iter().any(|sink| sink.gather.is_some());
        let mut keepers: Vec<Held> = Vec::new();
        if waits {
            let mut left = receipts.drain(..);
            for emission in emissions(&batch) {
                let mut keeper = Held::default();
                left.by_ref().take(emission.len()).for_each(|receipt| keeper.merge(receipt.hold()));
                keepers.push(keeper);
            }
        }
        for sink in &mut self.all {
            let mut faults = batch.faults().iter().peekable();
            let mut at = 0;
            for (n, emission) in emissions(&batch).into_iter().enumerate() {
                if let Some(first) = emission.first() {
                    while let Some((_, fault)) = faults.next_if(|(row, _)| row <= first) {
                        sink.error(fault, self.send_error, self.clock.now());
                    }
                }
                let values: Vec<&[Value]> = emission.iter().map(|row| batch.row(*row as usize)).collect();
                let promises: Vec<Receipt> = match keepers.get_mut(n) {
                    Some(keeper) => vec![keeper.part()],
                    None => receipts.iter().skip(at).take(values.len()).cloned().collect(),
                };
                at += values.len();
                let mut parcels = Vec::new();
                let fate = match sink.shape.parcels(&self.layout, &values, &mut parcels) {
                    Ok(()) if sink.gather.is_some() && !parcels.is_empty() => {
                        sink.wait(parcels, promises, self.clock.now());
                        continue;
                    }
                    Ok(()) => {
                        sink.given.extend(parcels.into_iter().map(|parcel| received(parcel, self.clock.now())));
                        Fate::Out
                    }
                    Err(fault) => {
                        sink.error(&fault, self.send_error, self.clock.now());
                        Fate::dead(&fault)
                    }
                };
                promises.into_iter().for_each(|promise| promise.settle(fate));
            }
            faults.for_each(|(_, fault)| sink.error(fault, self.send_error, self.clock.now()));
        }
        // The sinks have spoken; the least of all fates adds nothing to theirs.
        receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Filtered));
        keepers.into_iter().for_each(|keeper| keeper.settle(Fate::Filtered));
    }

    /// When something is sent by itself.
    pub fn due(&self) -> Option<Time> {
        self.all.iter().filter_map(|sink| sink.gather.as_ref().and_then(Gather::due)).min()
    }

    /// Sends what has waited long enough.
    pub fn tick(&mut self) {
        let now = self.clock.now();
        let due = |sink: &&mut Sink| sink.gather.as_ref().and_then(Gather::due).is_some_and(|due| due <= now);
        self.all.iter_mut().filter(due).for_each(|sink| sink.flush(now));
    }

    /// The source has come to its end: what waits is sent.
    pub fn finish(&mut self) {
        let now = self.clock.now();
        self.all.iter_mut().for_each(|sink| sink.flush(now));
    }

    /// The rule is stopped: what waits is thrown away.
    pub fn discard(&mut self) {
        let waiting = self.all.iter_mut().filter_map(|sink| sink.gather.as_mut().and_then(Gather::take));
        waiting.flat_map(|gathered| gathered.receipts).for_each(|receipt| receipt.settle(Fate::DroppedStop));
    }

    /// Everything that the sinks were given.
    pub fn take_all(&mut self) -> Got {
        self.all.iter_mut().map(|sink| (sink.name.clone(), std::mem::take(&mut sink.given))).collect()
    }
}

impl Sink {
    /// What became of an emission waits for more.
    fn wait(&mut self, parcels: Vec<Parcel>, promises: Vec<Receipt>, now: Time) {
        let full = self.gather.as_mut().is_some_and(|gather| {
            let rows = promises.len() as u32;
            gather.add(parcels.into_iter(), promises.into_iter(), rows, now)
        });
        if full {
            self.flush(now);
        }
    }

    fn flush(&mut self, now: Time) {
        let Some(gathered) = self.gather.as_mut().and_then(Gather::take) else { return };
        let fate = match self.shape.packed(gathered.parcel) {
            Ok(parcel) => {
                self.given.push(received(parcel, now));
                Fate::Out
            }
            Err(fault) => Fate::dead(&fault),
        };
        gathered.receipts.into_iter().for_each(|receipt| receipt.settle(fate));
    }

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
