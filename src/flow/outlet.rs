//! One sink: shape, encode, deliver, retry.
//!
//! An outlet takes batches that leave a rule, makes parcels of their emissions, and delivers them in order. An outage is
//! waited out, for ever and with growing pauses; meanwhile the channel in front fills and the rule waits. A parcel that
//! the other side can never take is counted dead, logged, and left behind. A receipt is settled when the sink has
//! confirmed the parcel, not before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::{Clock, Stopwatch};
use crate::data::{Batch, Emissions, Fate, Layout, Receipt, Value};
use crate::diag::{Fault, Retry};
use crate::io::{Link, Parcel, RefusedRow, Report, Sink, SinkPlan};
use crate::meter::{NodeMeter, SinkAccount};

use super::shape::Shape;
use super::task::Ended;

/// Parcels that are given to a sink in one call, at most.
const PARCELS: usize = 512;
/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What leaves a rule, for one of its sinks: the rows are shared, the receipts are its own.
pub struct Outgoing {
    pub batch: Arc<Batch>,
    /// One a selected row, in order.
    pub receipts: Vec<Receipt>,
}

/// How to make an outlet.
pub struct OutletSpec {
    /// For example `mqtt_0`.
    pub name: String,
    pub sink: SinkPlan,
    pub shape: Shape,
    pub layout: Arc<Layout>,
    pub send_error: bool,
    pub clock: Clock,
    /// Batches that wait in front of the sink.
    pub capacity: usize,
    /// Told when the sink can never work, for then the rule cannot go on.
    pub ended: watch::Sender<Option<Ended>>,
}

/// A running outlet.
pub struct Outlet {
    pub name: String,
    pub meter: Arc<NodeMeter>,
    pub account: Arc<SinkAccount>,
    link: watch::Receiver<Link>,
    stop: watch::Sender<bool>,
    /// Turns true when the task has delivered, or given up, everything.
    done: watch::Receiver<bool>,
    task: JoinHandle<Option<Fault>>,
}

impl Outlet {
    /// Starts the task; the sender is where the rule puts what leaves its chain. The outlet ends when it is dropped.
    pub fn start(spec: OutletSpec) -> (Outlet, mpsc::Sender<Outgoing>) {
        let (to, from) = mpsc::channel(spec.capacity.max(1));
        let (report, link) = Report::new();
        let (stop, stopped) = watch::channel(false);
        let (meter, account) = (Arc::<NodeMeter>::default(), Arc::<SinkAccount>::default());
        let name = spec.name.clone();
        let (ends, done) = watch::channel(false);
        let driver = Driver { spec, from, report, stopped, meter: meter.clone(), account: account.clone() };
        let task = tokio::spawn(async move {
            let ended = driver.run().await;
            ends.send_replace(true);
            ended
        });
        (Outlet { name, meter, account, link, stop, done, task }, to)
    }

    /// Turns true, or ends, when the task has delivered or given up everything.
    pub fn done(&self) -> watch::Receiver<bool> {
        self.done.clone()
    }

    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Waits until everything is delivered, at most `patience`; then what is left is given up and not acknowledged.
    /// Returns the fault that ended the outlet before its time, if one did.
    pub async fn stop(self, patience: Duration) -> Option<Fault> {
        let mut task = self.task;
        if let Ok(ended) = tokio::time::timeout(patience, &mut task).await {
            return ended.unwrap_or_else(|_| Some(Fault::bug("a sink panicked")));
        }
        self.stop.send_replace(true);
        match tokio::time::timeout(Duration::from_secs(2), &mut task).await {
            Ok(ended) => ended.unwrap_or_else(|_| Some(Fault::bug("a sink panicked"))),
            Err(_) => {
                task.abort();
                None
            }
        }
    }
}

struct Driver {
    spec: OutletSpec,
    from: mpsc::Receiver<Outgoing>,
    report: Report,
    stopped: watch::Receiver<bool>,
    meter: Arc<NodeMeter>,
    account: Arc<SinkAccount>,
}

/// Parcels on their way, and the receipts that each of them settles.
#[derive(Default)]
struct Load {
    parcels: Vec<Parcel>,
    /// Receipts and rows of each parcel.
    promises: Vec<(u32, u32)>,
    receipts: std::collections::VecDeque<Receipt>,
}

impl Load {
    fn add(&mut self, parcel: Parcel, receipts: impl Iterator<Item = Receipt>, rows: u32) {
        let before = self.receipts.len();
        self.receipts.extend(receipts);
        self.promises.push(((self.receipts.len() - before) as u32, rows));
        self.parcels.push(parcel);
    }
}

impl Driver {
    async fn run(mut self) -> Option<Fault> {
        let mut sink = match (self.spec.sink.open)() {
            Ok(sink) => sink,
            Err(fault) => return Some(self.give_up(fault)),
        };
        let mut ended = self.connect(sink.as_mut()).await;
        let mut load = Load::default();
        while ended.is_none() {
            let Some(outgoing) = self.next(sink.as_mut()).await else { break };
            self.take(outgoing, &mut load);
            // More may have come meanwhile; a sink is cheaper by the dozen.
            while load.parcels.len() < PARCELS {
                match self.from.try_recv() {
                    Ok(outgoing) => self.take(outgoing, &mut load),
                    Err(_) => break,
                }
            }
            self.meter.waiting(self.from.len() as u64);
            ended = self.deliver(sink.as_mut(), &mut load).await;
        }
        if let Err(fault) = sink.close().await {
            self.meter.failed(fault.to_string(), self.spec.clock.now());
            tracing::warn!(sink = %self.spec.name, "closing failed: {fault}");
        }
        match ended {
            Some(fault) => Some(self.give_up(fault)),
            None => {
                self.abandon();
                None
            }
        }
    }

    /// Waits for work; meanwhile the sink may keep its connection alive.
    async fn next(&mut self, sink: &mut dyn Sink) -> Option<Outgoing> {
        tokio::select! {
            biased;
            outgoing = self.from.recv() => outgoing,
            _ = sink.idle() => None,
            _ = self.stopped.wait_for(|stop| *stop) => None,
        }
    }

    fn give_up(&mut self, fault: Fault) -> Fault {
        self.meter.failed(fault.to_string(), self.spec.clock.now());
        self.report.set(Link::Disconnected(fault.to_string()));
        self.spec.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| Ended::Failed(fault.clone()));
            first
        });
        self.abandon();
        fault
    }

    /// What is still in the channel goes back to the source, unacknowledged.
    fn abandon(&mut self) {
        self.from.close();
        while let Ok(outgoing) = self.from.try_recv() {
            let rows = outgoing.batch.selected().len() as u64;
            self.account.came(rows);
            self.account.dropped("stop", rows);
            outgoing.receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Abandoned));
        }
    }

    /// Connects, however long it takes. A fault that no waiting can mend ends the outlet.
    async fn connect(&mut self, sink: &mut dyn Sink) -> Option<Fault> {
        let mut pause = PAUSES.0;
        loop {
            let result = tokio::select! {
                result = sink.connect(self.report.clone()) => result,
                _ = stop(&mut self.stopped) => return None,
            };
            let Err(fault) = result else { return None };
            let now = self.spec.clock.now();
            self.meter.failed(fault.to_string(), now);
            self.report.set(Link::Disconnected(fault.to_string()));
            if fault.retry() == Retry::Never {
                return Some(fault);
            }
            tracing::warn!(sink = %self.spec.name, "cannot connect: {fault}; trying again");
            if self.pause(&mut pause).await {
                return None;
            }
        }
    }

    /// Waits; true when the outlet was stopped meanwhile.
    async fn pause(&mut self, pause: &mut Duration) -> bool {
        let stopped = tokio::select! {
            _ = self.spec.clock.sleep(*pause) => false,
            _ = stop(&mut self.stopped) => true,
        };
        *pause = (*pause * 2).min(PAUSES.1);
        stopped
    }

    /// Makes parcels of the emissions of a batch.
    fn take(&mut self, outgoing: Outgoing, load: &mut Load) {
        let Outgoing { batch, receipts } = outgoing;
        let rows = batch.selected().len() as u64;
        self.account.came(rows);
        self.meter.took(rows, self.spec.clock.now());
        let mut receipts = receipts.into_iter();
        let mut faults = batch.faults().iter().peekable();
        let mut made = Vec::new();
        for emission in emissions(&batch) {
            if let Some(first) = emission.first() {
                while let Some((_, fault)) = faults.next_if(|(at, _)| at <= first) {
                    self.error(fault, load);
                }
            }
            // Most emissions are one row; those need no list of their own.
            let (one, many): ([&[Value]; 1], Vec<&[Value]>);
            let rows: &[&[Value]] = if let [row] = emission {
                one = [batch.row(*row as usize)];
                &one
            } else {
                many = emission.iter().map(|row| batch.row(*row as usize)).collect();
                &many
            };
            let mut promises = receipts.by_ref().take(rows.len());
            match self.spec.shape.parcels(&self.spec.layout, rows, &mut made) {
                Ok(()) if made.len() == 1 => {
                    made.drain(..).for_each(|parcel| load.add(parcel, promises.by_ref(), rows.len() as u32))
                }
                Ok(()) if made.len() == rows.len() => {
                    made.drain(..)
                        .zip(promises)
                        .for_each(|(parcel, promise)| load.add(parcel, std::iter::once(promise), 1));
                }
                // Left out by the user's own word (`omitIfEmpty`): there is nothing to confirm.
                Ok(()) if made.is_empty() => {
                    self.account.delivered(rows.len() as u64);
                    promises.for_each(|promise| promise.settle(Fate::Out));
                }
                Ok(()) => {
                    // Each parcel has a part in all rows.
                    let promises: Vec<Receipt> = promises.collect();
                    let last = made.len() - 1;
                    for (n, parcel) in made.drain(..).enumerate() {
                        let counted = if n == last { rows.len() as u32 } else { 0 };
                        load.add(parcel, promises.iter().cloned(), counted);
                    }
                    promises.into_iter().for_each(|promise| promise.settle(Fate::Filtered));
                }
                Err(fault) => {
                    made.clear();
                    self.dead(&fault, rows.len() as u64);
                    promises.for_each(|promise| promise.settle(Fate::dead(&fault)));
                    self.error(&fault, load);
                }
            }
        }
        faults.for_each(|(_, fault)| self.error(fault, load));
    }

    /// With `sendError` an error goes to the sink too.
    fn error(&mut self, fault: &Fault, load: &mut Load) {
        if !self.spec.send_error {
            return;
        }
        match self.spec.shape.error_parcel(&fault.to_string()) {
            Ok(parcel) => load.add(parcel, std::iter::empty(), 0),
            Err(fault) => self.meter.failed(fault.to_string(), self.spec.clock.now()),
        }
    }

    fn dead(&self, fault: &Fault, rows: u64) {
        self.account.dead(fault.reason(), rows);
        self.meter.failed(fault.to_string(), self.spec.clock.now());
        tracing::warn!(sink = %self.spec.name, "{rows} row(s) cannot be delivered and are given up: {fault}");
    }

    /// Delivers everything in the load; returns a fault that no waiting can mend and that is not of a single parcel.
    async fn deliver(&mut self, sink: &mut dyn Sink, load: &mut Load) -> Option<Fault> {
        let mut pause = PAUSES.0;
        let mut at = 0;
        let mut ended = None;
        while at < load.parcels.len() {
            let watch = Stopwatch::start();
            let result = tokio::select! {
                result = sink.deliver(&load.parcels[at..]) => result,
                _ = stop(&mut self.stopped) => break,
            };
            self.meter.spent(watch.elapsed());
            let refused = sink.refused();
            let Err(stopped) = result else {
                let rest = load.parcels.len() - at;
                self.delivered(load, at, rest, &refused);
                at = load.parcels.len();
                break;
            };
            self.delivered(load, at, stopped.delivered, &refused);
            at += stopped.delivered;
            if stopped.delivered > 0 {
                pause = PAUSES.0;
            }
            if stopped.fault.retry() == Retry::Never {
                let rows = load.promises.get(at).map_or(0, |(_, rows)| *rows);
                self.dead(&stopped.fault, u64::from(rows));
                self.settle(load, at, 1, Fate::dead(&stopped.fault));
                at += 1;
                continue;
            }
            self.meter.failed(stopped.fault.to_string(), self.spec.clock.now());
            tracing::warn!(sink = %self.spec.name, "delivery stopped: {}; trying again in {pause:?}", stopped.fault);
            if self.pause(&mut pause).await {
                break;
            }
            ended = self.connect(sink).await;
            if ended.is_some() || *self.stopped.borrow() {
                break;
            }
        }
        let rest = load.parcels.len() - at.min(load.parcels.len());
        self.settle(load, at, rest, Fate::Abandoned);
        load.parcels.clear();
        load.promises.clear();
        ended
    }

    /// The parcels from `at` on, `count` of them, were taken, but for the rows that were refused.
    fn delivered(&self, load: &mut Load, at: usize, count: usize, refused: &[RefusedRow]) {
        if refused.is_empty() {
            return self.settle(load, at, count, Fate::Out);
        }
        for n in 0..count {
            let bad: Vec<&RefusedRow> = refused.iter().filter(|one| one.parcel == n).collect();
            let (promises, rows) = load.promises[at + n];
            if bad.is_empty() {
                self.settle(load, at + n, 1, Fate::Out);
                continue;
            }
            bad.iter().for_each(|one| self.dead(&one.fault, 1));
            let good = u64::from(rows).saturating_sub(bad.len() as u64);
            self.account.delivered(good);
            self.meter.gave(good);
            for (row, receipt) in load.receipts.drain(..promises as usize).enumerate() {
                // Where receipts do not stand for rows one by one, all of them had a part in the refused one.
                let fault = bad.iter().find(|one| promises != rows || one.row == row);
                receipt.settle(fault.map_or(Fate::Out, |one| Fate::dead(&one.fault)));
            }
        }
    }

    /// The parcels from `at` on, `count` of them, met that fate.
    fn settle(&self, load: &mut Load, at: usize, count: usize, fate: Fate) {
        for (promises, rows) in load.promises.iter().skip(at).take(count) {
            let rows = u64::from(*rows);
            match fate {
                Fate::Out => {
                    self.account.delivered(rows);
                    self.meter.gave(rows);
                }
                Fate::Abandoned => self.account.dropped("stop", rows),
                // Counted where the fault is known.
                _ => {}
            }
            load.receipts.drain(..*promises as usize).for_each(|receipt| receipt.settle(fate));
        }
    }
}

/// Returns when the outlet is told to give up.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        // The handle was dropped without a word: the runtime is going down.
        std::future::pending::<()>().await;
    }
}

/// The selected rows of a batch, emission by emission.
pub fn emissions(batch: &Batch) -> Vec<&[u32]> {
    let rows = batch.selected();
    match &batch.emissions {
        Emissions::Single => rows.chunks(1).collect(),
        // An error that bypasses a window is no emission of rows.
        Emissions::Whole if rows.is_empty() && !batch.faults().is_empty() => Vec::new(),
        Emissions::Whole => vec![rows],
        Emissions::Ends(ends) => {
            let mut start = 0;
            ends.iter()
                .map(|end| {
                    let part = &rows[start..*end as usize];
                    start = *end as usize;
                    part
                })
                .collect()
        }
    }
}
