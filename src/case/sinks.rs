//! Sinks that remember what they are given, shaped as any sink of a rule is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::clock::Clock;
use crate::data::{Batch, Fate, Layout, Object, Receipt, Time, Value};
use crate::diag::Fault;
use crate::flow::shape::{Common, Facts, Shape};
use crate::flow::{RETRY_PAUSES, emissions};
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
    away: bool,
    /// What it is to be given when it is there again, oldest first, and the promises that wait for that.
    waiting: Vec<(Vec<Emission>, Vec<Receipt>, Fate)>,
    /// When it is tried again, and how long is waited after that, as the outlet of a sink does.
    retry: Option<(Time, Duration)>,
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
            let (given, waiting) = (Vec::new(), Vec::new());
            all.push(Sink { name: name.clone(), shape, given, away: false, waiting, retry: None });
        }
        Ok(Sinks { layout, send_error, clock, all })
    }

    pub fn set_clock(&mut self, now: Time) {
        self.clock.set(now);
    }

    /// The names of the sinks of the case, as nodes of a topology.
    pub fn nodes(&self) -> Vec<String> {
        let named = self.all.iter().filter(|sink| !sink.name.is_empty());
        named.map(|sink| format!("sink_{}", sink.name)).collect()
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
                let promises: Vec<Receipt> = receipts.iter().skip(at).take(values.len()).cloned().collect();
                at += values.len();
                let mut parcels = Vec::new();
                match sink.shape.parcels(&self.layout, &values, &mut parcels) {
                    Ok(()) => {
                        let parcels = parcels.into_iter().map(|parcel| received(parcel, self.clock.now()));
                        sink.give(parcels.collect(), promises, Fate::Out, self.clock.now());
                    }
                    Err(fault) => {
                        sink.error(&fault, self.send_error, self.clock.now());
                        promises.into_iter().for_each(|promise| promise.settle(Fate::dead(&fault)));
                    }
                }
            }
            faults.for_each(|(_, fault)| sink.error(fault, self.send_error, self.clock.now()));
        }
        // The sinks have spoken; the least of all fates adds nothing to theirs.
        receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Filtered));
    }

    /// The sinks of that name, or all, are away, or there again.
    pub fn set_away(&mut self, name: Option<&str>, away: bool) {
        for sink in self.all.iter_mut().filter(|sink| name.is_none_or(|name| sink.name == name)) {
            sink.away = away;
        }
    }

    /// When a sink that was away is tried next.
    pub fn due(&self) -> Option<Time> {
        self.all.iter().filter_map(|sink| sink.retry.map(|(at, _)| at)).min()
    }

    /// Tries the sinks whose pause is over.
    pub fn tick(&mut self) {
        let now = self.clock.now();
        self.all.iter_mut().for_each(|sink| sink.try_again(now));
    }

    /// The rule stops: what waits is given up.
    pub fn abandon(&mut self) {
        for sink in &mut self.all {
            sink.retry = None;
            let promises = sink.waiting.drain(..).flat_map(|(_, promises, _)| promises);
            promises.for_each(|promise| promise.settle(Fate::Abandoned));
        }
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
            let error = Emission { at: now, error: Some(fault.to_string()), ..Emission::default() };
            self.give(vec![error], Vec::new(), Fate::Out, now);
        }
    }

    /// Hands over what leaves together, or lets it wait behind what waits already.
    fn give(&mut self, emissions: Vec<Emission>, promises: Vec<Receipt>, fate: Fate, now: Time) {
        if self.away || !self.waiting.is_empty() {
            let (first, _) = RETRY_PAUSES;
            self.retry.get_or_insert((later(now, first), first));
            return self.waiting.push((emissions, promises, fate));
        }
        self.given.extend(emissions);
        promises.into_iter().for_each(|promise| promise.settle(fate));
    }

    fn try_again(&mut self, now: Time) {
        let Some((_, pause)) = self.retry.filter(|(at, _)| *at <= now) else { return };
        if self.away {
            let pause = (pause * 2).min(RETRY_PAUSES.1);
            self.retry = Some((later(now, pause), pause));
            return;
        }
        self.retry = None;
        for (emissions, promises, fate) in std::mem::take(&mut self.waiting) {
            self.given.extend(emissions.into_iter().map(|emission| Emission { at: now, ..emission }));
            promises.into_iter().for_each(|promise| promise.settle(fate));
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

fn later(now: Time, pause: Duration) -> Time {
    Time(now.0.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)))
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
