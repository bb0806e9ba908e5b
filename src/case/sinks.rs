//! Sinks that remember what they are given, shaped as any sink of a rule is.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::clock::Clock;
use crate::data::{Batch, Fate, Held, Layout, Object, Receipt, Time, Value};
use crate::diag::Fault;
use crate::flow::emissions;
use crate::flow::shape::{Common, Facts, Gather, Shape};
use crate::func::RuleInfo;
use crate::io::props::Names;
use crate::io::{self, Content, Parcel, Takes};
use crate::plan::{GraphSink, Plan};

use super::compare::Emission;
use super::engine::Refusal;
use super::rule::{Expected, RuleCase, WantBody};
use super::update::Got;

/// What the properties of the connector are.
const SINK: Names = Names::sink("the sink of a case", &[]);

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct NoOptions {}

/// All sinks of one rule.
pub(super) struct Sinks {
    layout: Arc<Layout>,
    send_error: bool,
    clock: Clock,
    all: Vec<Sink>,
}

struct Sink {
    name: String,
    /// By which ways results leave that it takes; `None`: all.
    ports: Option<Vec<usize>>,
    shape: Shape,
    gather: Option<Gather>,
    given: Vec<Emission>,
    /// What waits for the sink to come back, while it is away.
    away: Option<Vec<(Emission, Vec<Receipt>)>>,
    /// Results that were given to it or left out, errors among them.
    given_up_to: u64,
    /// Of these, what waits for its batch, and what for the sink.
    gathered: u64,
    kept: u64,
    /// What it has already, of results that come again.
    has: u64,
}

impl Sinks {
    /// Those of a graph are its nodes, which a case may give further properties; without `sinks` one takes what all get.
    pub fn new(
        case: &RuleCase,
        plan: &Plan,
        of_graph: &[GraphSink],
        rule: &RuleInfo,
        send_error: bool,
    ) -> Result<Sinks, Refusal> {
        let layout = Arc::new(plan.layout.clone());
        let clock = Clock::stopped_at(case.start);
        let facts = Facts::new(clock.clone(), rule.zone.clone(), rule.props.clone());
        let unnamed = [(String::new(), Map::new())];
        let mut all = Vec::new();
        for (name, props) in case.sinks.as_deref().unwrap_or(&unnamed) {
            let node = of_graph.iter().find(|sink| sink.node == *name);
            if node.is_none() && !of_graph.is_empty() && !name.is_empty() {
                return Err(Refusal::Unknown(format!("the graph has no sink `{name}`")));
            }
            let mut left = node.map(|node| node.props.clone()).unwrap_or_default();
            let mut of_connector = left.clone();
            let refused = |found: crate::diag::Diagnostic| Refusal::Refused(format!("sink `{name}`: {found}"));
            // Where the sink of a node sends its rows is nothing to a case.
            Common::take(&mut of_connector).map_err(refused)?;
            left.retain(|name, _| !of_connector.contains_key(name));
            left.extend(props.clone());
            let common = Common::take(&mut left).map_err(refused)?;
            // What is left is for a connector, and this sink has none with properties of its own.
            io::props::read::<NoOptions>(&left, &SINK).map_err(refused)?;
            let takes = if wants_messages(case, name, props) { Takes::Bytes } else { Takes::Rows };
            let shape = Shape::new(&common, layout.clone(), takes, facts.clone()).map_err(refused)?;
            let gather = shape.gather(case.start);
            all.push(Sink {
                name: name.clone(),
                ports: node.map(|node| node.paths.clone()),
                shape,
                gather,
                given: Vec::new(),
                away: None,
                given_up_to: 0,
                gathered: 0,
                kept: 0,
                has: 0,
            });
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

    /// Whether results wait in a sink, for its batch or for itself to come back.
    pub fn waits(&self) -> bool {
        self.all.iter().any(|sink| sink.gathered + sink.kept > 0)
    }

    /// Takes what left the chain.
    pub fn take(&mut self, mut batch: Batch) {
        let rows = batch.selected().to_vec();
        let mut receipts: Vec<Receipt> = rows.iter().map(|row| batch.take_receipt(*row as usize)).collect();
        // What waits in a sink is counted as held.
        let takes = |sink: &Sink| batch.port.zip(sink.ports.as_ref()).is_none_or(|(port, ports)| ports.contains(&port));
        let waits = self.all.iter().any(|sink| takes(sink) && (sink.gather.is_some() || sink.away.is_some()));
        let mut keepers: Vec<Held> = Vec::new();
        if waits {
            let mut left = receipts.drain(..);
            for emission in emissions(&batch) {
                let mut keeper = Held::default();
                left.by_ref().take(emission.len()).for_each(|receipt| keeper.merge(receipt.hold()));
                keepers.push(keeper);
            }
        }
        for sink in self.all.iter_mut().filter(|sink| takes(sink)) {
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
                if !sink.wants() {
                    promises.into_iter().for_each(|promise| promise.settle(Fate::Out));
                    continue;
                }
                let mut parcels = Vec::new();
                match sink.shape.parcels(&self.layout, &values, &mut parcels) {
                    Ok(()) if sink.gather.is_some() && !parcels.is_empty() => {
                        sink.wait(parcels, promises, self.clock.now());
                    }
                    Ok(()) => sink.give(parcels, promises, self.clock.now()),
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
        for sink in &mut self.all {
            let gathered = sink.gather.as_mut().and_then(Gather::take).map(|gathered| gathered.receipts);
            let away = sink.away.as_mut().map(std::mem::take).unwrap_or_default();
            let waiting = gathered.into_iter().chain(away.into_iter().map(|(_, receipts)| receipts)).flatten();
            waiting.for_each(|receipt| receipt.settle(Fate::DroppedStop));
        }
    }

    /// How many results each sink has been given.
    pub fn counts(&self) -> Vec<u64> {
        self.all.iter().map(|sink| sink.given_up_to).collect()
    }

    /// The rule comes back: what waited is gone, and results come again from those numbers on.
    pub fn come_back(&mut self, from: &[u64]) {
        self.discard();
        for (n, sink) in self.all.iter_mut().enumerate() {
            sink.has = sink.has.max(sink.given_up_to - sink.gathered - sink.kept);
            (sink.given_up_to, sink.gathered, sink.kept) = (from.get(n).copied().unwrap_or_default(), 0, 0);
        }
        self.restart();
    }

    /// The rule starts anew: batches count from now.
    pub fn restart(&mut self) {
        let now = self.clock.now();
        self.all.iter_mut().for_each(|sink| sink.gather = sink.shape.gather(now));
    }

    /// The sink of that name goes away, or comes back and is given what waited; the only one needs no name.
    pub fn set_away(&mut self, name: Option<&str>, away: bool) -> Result<(), String> {
        let now = self.clock.now();
        let mut found = self.all.iter_mut().filter(|sink| name.is_none_or(|name| sink.name == name));
        let (Some(sink), None) = (found.next(), found.next()) else {
            return Err(format!("the event names no sink of the case: `{}`", name.unwrap_or_default()));
        };
        if away {
            sink.away.get_or_insert_default();
            return Ok(());
        }
        sink.kept = 0;
        for (emission, receipts) in sink.away.take().unwrap_or_default() {
            sink.given.push(Emission { at: now, ..emission });
            receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Out));
        }
        Ok(())
    }

    /// Everything that the sinks were given.
    pub fn take_all(&mut self) -> Got {
        self.all.iter_mut().map(|sink| (sink.name.clone(), std::mem::take(&mut sink.given))).collect()
    }
}

impl Sink {
    /// A result comes; false where the sink has it.
    fn wants(&mut self) -> bool {
        self.given_up_to += 1;
        self.given_up_to > self.has
    }

    /// What became of an emission waits for more.
    fn wait(&mut self, parcels: Vec<Parcel>, promises: Vec<Receipt>, now: Time) {
        self.gathered += 1;
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
        // All but one of its results are counted where they wait, if they do.
        let results = std::mem::take(&mut self.gathered);
        self.kept += if self.away.is_some() { results.saturating_sub(1) } else { 0 };
        match self.shape.packed(gathered.parcel) {
            Ok(parcel) => self.give(vec![parcel], gathered.receipts, now),
            Err(fault) => gathered.receipts.into_iter().for_each(|receipt| receipt.settle(Fate::dead(&fault))),
        }
    }

    /// The sink is given parcels, or will be when it comes back.
    fn give(&mut self, parcels: Vec<Parcel>, promises: Vec<Receipt>, now: Time) {
        let emissions = parcels.into_iter().map(|parcel| received(parcel, now));
        match &mut self.away {
            Some(waiting) => {
                self.kept += 1;
                waiting.extend(emissions.map(|emission| (emission, Vec::new())));
                match waiting.last_mut() {
                    Some((_, receipts)) => receipts.extend(promises),
                    None => promises.into_iter().for_each(|promise| promise.settle(Fate::Out)),
                }
            }
            None => {
                self.given.extend(emissions);
                promises.into_iter().for_each(|promise| promise.settle(Fate::Out));
            }
        }
    }

    /// With `sendError` an error goes to the sink too.
    fn error(&mut self, fault: &Fault, send: bool, now: Time) {
        if send && self.wants() {
            let emission = Emission { at: now, error: Some(fault.to_string()), ..Emission::default() };
            match &mut self.away {
                Some(waiting) => {
                    self.kept += 1;
                    waiting.push((emission, Vec::new()));
                }
                None => self.given.push(emission),
            }
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
