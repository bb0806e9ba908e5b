//! One sink: shape, encode, deliver, retry.
//!
//! An outlet takes batches that leave a rule, makes parcels of their emissions, and delivers them in order. An outage is
//! waited out, for ever and with growing pauses; meanwhile the channel in front fills and the rule waits. A parcel that
//! the other side can never take is counted dead, logged, and left behind. A receipt is settled when the sink has
//! confirmed the parcel, not before; what is given up, at a stop or at a panic, is given back to the source.

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::{Clock, Stopwatch, Time};
use crate::data::{Batch, Emissions, Fate, Layout, Receipt, Value};
use crate::diag::{Fault, Retry, Whose};
use crate::io::{Link, LinkStatus, Parcel, Report, Sink, SinkPlan};
use crate::meter::{NodeMeter, SinkAccount};

use super::caught::caught;
use super::lane::{self, Giver, Overflow, Taker, lane};
use super::load::Load;
use super::shape::{Gather, Gathered, Shape};
use super::task::{Ended, ErrorLog};

/// Parcels that are given to a sink in one call, about.
const PARCELS: usize = 512;
/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a sink that was told to stop may take to close.
const FAREWELL: Duration = Duration::from_secs(1);

/// What leaves a rule, for one of its sinks: the rows are shared, the receipts are its own.
pub struct Outgoing {
    pub batch: Arc<Batch>,
    /// One a selected row, in order.
    pub receipts: Vec<Receipt>,
}

impl Outgoing {
    /// The sink will never have it.
    pub fn settle(self, account: &SinkAccount, fate: Fate) {
        account.came(self.receipts.len() as u64);
        account.dropped(fate.reason(), self.receipts.len() as u64);
        self.receipts.into_iter().for_each(|receipt| receipt.settle(fate));
    }
}

impl lane::Load for Outgoing {
    fn weight(&self) -> usize {
        self.receipts.len()
    }
}

/// How to make an outlet.
pub struct OutletSpec {
    /// The rule that it belongs to.
    pub rule: String,
    /// For example `mqtt_0`.
    pub name: String,
    pub sink: SinkPlan,
    pub shape: Shape,
    pub layout: Arc<Layout>,
    pub send_error: bool,
    pub clock: Clock,
    pub overflow: Overflow,
    pub log: ErrorLog,
    /// Told when the sink can never work, for then the rule cannot go on.
    pub ended: watch::Sender<Option<Ended>>,
}

/// A running outlet. It ends when it is dropped, when it is stopped, or when the rule gives no more.
pub struct Outlet {
    rule: String,
    pub name: String,
    pub meter: Arc<NodeMeter>,
    pub account: Arc<SinkAccount>,
    link: watch::Receiver<LinkStatus>,
    stop: watch::Sender<bool>,
    /// Turns true when the task has delivered, or given up, everything.
    done: watch::Receiver<bool>,
    task: JoinHandle<Option<Fault>>,
}

impl Outlet {
    /// Starts the task; the giver is where the rule puts what leaves its chain.
    pub fn start(spec: OutletSpec) -> (Outlet, Giver<Outgoing>) {
        let (to, from) = lane(spec.overflow);
        let (report, link) = Report::timed(spec.clock.clone());
        let (stop, stopped) = watch::channel(false);
        let (meter, account) = (Arc::<NodeMeter>::default(), Arc::<SinkAccount>::default());
        let (rule, name) = (spec.rule.clone(), spec.name.clone());
        let (ends, done) = watch::channel(false);
        let load = Load::new(account.clone(), meter.clone());
        let gather = spec.shape.gather(spec.clock.now());
        let driver =
            Driver { spec, from, gather, load, report, stopped, meter: meter.clone(), account: account.clone() };
        let task = tokio::spawn(async move {
            let fault = driver.run().await;
            ends.send_replace(true);
            fault
        });
        (Outlet { rule, name, meter, account, link, stop, done, task }, to)
    }

    /// Turns true, or ends, when the task has delivered or given up everything.
    pub fn done(&self) -> watch::Receiver<bool> {
        self.done.clone()
    }

    /// The connection of the sink; outlives the outlet.
    pub fn link(&self) -> watch::Receiver<LinkStatus> {
        self.link.clone()
    }

    #[cfg(test)]
    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }

    /// Waits until everything is delivered, at most `patience`; then what is left is given up and not acknowledged.
    /// Returns the fault that ended the outlet before its time, if one did.
    pub async fn stop(self, patience: Duration) -> Option<Fault> {
        let mut task = self.task;
        if let Ok(ended) = tokio::time::timeout(patience, &mut task).await {
            return ended.ok().flatten();
        }
        self.stop.send_replace(true);
        match tokio::time::timeout(FAREWELL, &mut task).await {
            Ok(ended) => ended.ok().flatten(),
            Err(_) => {
                let limit = FAREWELL.as_secs();
                tracing::warn!(rule = self.rule, sink = self.name, "the sink did not close within {limit} s");
                task.abort();
                None
            }
        }
    }
}

/// What an outlet does next.
enum Next {
    Rows(Outgoing),
    /// What waits to be sent together has waited long enough.
    Due,
    /// The rule gives no more.
    End,
    Stop,
}

struct Driver {
    spec: OutletSpec,
    from: Taker<Outgoing>,
    /// What waits to be sent together.
    gather: Option<Gather>,
    load: Load,
    report: Report,
    stopped: watch::Receiver<bool>,
    meter: Arc<NodeMeter>,
    account: Arc<SinkAccount>,
}

impl Driver {
    /// Runs to the end; the fault is one that the rule cannot go on with.
    async fn run(mut self) -> Option<Fault> {
        let who = format!("the sink `{}`", self.spec.name);
        match caught(&who, self.work()).await {
            Ok(fault) => fault,
            Err(fault) => {
                self.end(Some(&fault)).await;
                Some(fault)
            }
        }
    }

    async fn work(&mut self) -> Option<Fault> {
        let mut sink = match self.open().await {
            Ok(sink) => sink,
            Err(fault) => {
                self.end(fault.as_ref()).await;
                return fault;
            }
        };
        let fault = self.serve(sink.as_mut()).await;
        // Nothing waits for a sink that is slow to close.
        self.end(fault.as_ref()).await;
        if let Err(fault) = sink.close().await {
            self.meter.failed(fault.to_string(), self.spec.clock.now());
            tracing::warn!(rule = self.spec.rule, sink = self.spec.name, "closing failed: {fault}");
        }
        fault
    }

    /// Opens the sink, however long it takes; without a fault it was stopped meanwhile.
    async fn open(&mut self) -> Result<Box<dyn Sink>, Option<Fault>> {
        let mut pause = PAUSES.0;
        loop {
            match (self.spec.sink.open)() {
                Ok(sink) => return Ok(sink),
                Err(fault) if fault.retry() == Retry::Never => return Err(Some(fault)),
                Err(fault) => self.away(&fault),
            }
            if self.pause(&mut pause).await {
                return Err(None);
            }
        }
    }

    /// Delivers until the rule gives no more, the outlet is stopped, or the sink can never work.
    async fn serve(&mut self, sink: &mut dyn Sink) -> Option<Fault> {
        let mut fault = self.connect(sink).await;
        while fault.is_none() {
            let next = self.next(sink).await;
            let last = matches!(next, Next::End);
            match next {
                Next::Rows(outgoing) => self.take(outgoing),
                Next::Due | Next::End => self.flush(),
                Next::Stop => return None,
            }
            // More may have come meanwhile; a sink is cheaper by the dozen.
            while self.load.parcels().len() < PARCELS
                && let Some(outgoing) = self.from.take_now()
            {
                self.take(outgoing);
            }
            self.meter.waiting(self.from.waiting() as u64);
            fault = self.deliver(sink).await;
            if last {
                break;
            }
        }
        fault
    }

    /// Waits for work; meanwhile the sink may keep its connection alive.
    async fn next(&mut self, sink: &mut dyn Sink) -> Next {
        let due = self.gather.as_ref().and_then(Gather::due);
        // All of them can be given up without a loss; after the stop nothing is begun.
        tokio::select! {
            biased;
            _ = stop(&mut self.stopped) => Next::Stop,
            outgoing = self.from.take() => outgoing.map_or(Next::End, Next::Rows),
            _ = until(&self.spec.clock, due) => Next::Due,
            _ = idle(sink) => Next::Stop,
        }
    }

    /// What waits to be sent together is sent.
    fn flush(&mut self) {
        let Some(Gathered { parcel, receipts, rows }) = self.gather.as_mut().and_then(Gather::take) else { return };
        match self.spec.shape.packed(parcel) {
            Ok(parcel) => self.load.add(parcel, receipts.into_iter(), rows),
            Err(fault) => {
                receipts.into_iter().for_each(|receipt| receipt.settle(Fate::dead(&fault)));
                self.dead(&fault, rows.into());
            }
        }
    }

    /// Keeps what became of an emission until more has come; `made` is left empty.
    fn gather(&mut self, made: &mut Vec<Parcel>, receipts: impl Iterator<Item = Receipt>, rows: usize) {
        let now = self.spec.clock.now();
        if self.gather.as_ref().and_then(Gather::due).is_some_and(|due| due <= now) {
            self.flush();
        }
        let full = self.gather.as_mut().is_some_and(|gather| gather.add(made.drain(..), receipts, rows as u32, now));
        if full {
            self.flush();
        }
    }

    /// What is left goes back to the source, unacknowledged; a fault ends the rule.
    async fn end(&mut self, fault: Option<&Fault>) {
        if let Some(fault) = fault {
            self.meter.failed(fault.to_string(), self.spec.clock.now());
            self.report.set(Link::Disconnected(fault.to_string()));
            self.spec.ended.send_if_modified(|ended| {
                let first = ended.is_none();
                ended.get_or_insert_with(|| Ended::Failed(fault.clone()));
                first
            });
        }
        self.load.settle(usize::MAX, Fate::Abandoned);
        if let Some(gathered) = self.gather.as_mut().and_then(Gather::take) {
            self.account.dropped(Fate::Abandoned.reason(), gathered.rows.into());
            gathered.receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Abandoned));
        }
        self.from.drain(|outgoing| outgoing.settle(&self.account, Fate::Abandoned)).await;
    }

    /// Connects, however long it takes. A fault that no waiting can mend ends the outlet.
    async fn connect(&mut self, sink: &mut dyn Sink) -> Option<Fault> {
        let mut pause = PAUSES.0;
        loop {
            self.report.trying();
            let result = tokio::select! {
                result = sink.connect(self.report.clone()) => result,
                _ = stop(&mut self.stopped) => return None,
            };
            let Err(fault) = result else {
                // Not every connector says so.
                self.report.set(Link::Connected);
                return None;
            };
            if fault.retry() == Retry::Never {
                return Some(fault);
            }
            self.away(&fault);
            if self.pause(&mut pause).await {
                return None;
            }
        }
    }

    /// The other side is away.
    fn away(&self, fault: &Fault) {
        self.meter.failed(fault.to_string(), self.spec.clock.now());
        self.report.set(Link::Disconnected(fault.to_string()));
        tracing::warn!(rule = self.spec.rule, sink = self.spec.name, "{fault}; trying again");
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
    fn take(&mut self, outgoing: Outgoing) {
        let Outgoing { batch, receipts } = outgoing;
        let rows = batch.selected().len() as u64;
        self.account.came(rows);
        self.meter.took(rows, self.spec.clock.now());
        let mut receipts = Rest { receipts: receipts.into_iter(), account: self.account.clone() };
        let mut faults = batch.faults().iter().peekable();
        let mut made = Vec::new();
        for emission in emissions(&batch) {
            if let Some(first) = emission.first() {
                while let Some((_, fault)) = faults.next_if(|(at, _)| at <= first) {
                    self.error(fault);
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
            let shaped = self.spec.shape.parcels(&self.spec.layout, rows, &mut made);
            let mut promises = receipts.receipts.by_ref().take(rows.len());
            match shaped {
                Ok(()) if self.gather.is_some() && !made.is_empty() => self.gather(&mut made, promises, rows.len()),
                Ok(()) if made.len() == 1 => {
                    made.drain(..).for_each(|parcel| self.load.add(parcel, promises.by_ref(), rows.len() as u32))
                }
                Ok(()) if made.len() == rows.len() => {
                    made.drain(..)
                        .zip(promises)
                        .for_each(|(parcel, promise)| self.load.add(parcel, std::iter::once(promise), 1));
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
                        self.load.add(parcel, promises.iter().cloned(), counted);
                    }
                    promises.into_iter().for_each(|promise| promise.settle(Fate::Filtered));
                }
                Err(fault) => {
                    made.clear();
                    promises.for_each(|promise| promise.settle(Fate::dead(&fault)));
                    self.dead(&fault, rows.len() as u64);
                    self.error(&fault);
                }
            }
        }
        faults.for_each(|(_, fault)| self.error(fault));
    }

    /// With `sendError` an error goes to the sink too.
    fn error(&mut self, fault: &Fault) {
        if !self.spec.send_error {
            return;
        }
        match self.spec.shape.error_parcel(&fault.to_string()) {
            Ok(parcel) => self.load.add(parcel, std::iter::empty(), 0),
            Err(fault) => self.meter.failed(fault.to_string(), self.spec.clock.now()),
        }
    }

    fn dead(&mut self, fault: &Fault, rows: u64) {
        let now = self.spec.clock.now();
        dead(&self.account, &self.meter, fault, rows, now);
        self.spec.log.tell(fault, now);
    }

    /// Delivers everything in the load, or until the outlet is stopped; returns a fault that no waiting can mend and
    /// that is not of a single parcel.
    async fn deliver(&mut self, sink: &mut dyn Sink) -> Option<Fault> {
        let mut pause = PAUSES.0;
        while !self.load.parcels().is_empty() {
            let watch = Stopwatch::start();
            let result = tokio::select! {
                biased;
                result = sink.deliver(self.load.parcels()) => result,
                // What the sink has taken and not confirmed counts as not delivered.
                _ = stop(&mut self.stopped) => return None,
            };
            self.meter.spent(watch.elapsed());
            let (delivered, fault) = match result {
                Ok(()) => (usize::MAX, None),
                Err(stopped) => (stopped.delivered, Some(stopped.fault)),
            };
            let (account, meter, log, now) = (&self.account, &self.meter, &mut self.spec.log, self.spec.clock.now());
            self.load.delivered(delivered, &sink.refused(), |fault| {
                dead(account, meter, fault, 1, now);
                log.tell(fault, now);
            });
            let Some(fault) = fault else { continue };
            if delivered > 0 {
                pause = PAUSES.0;
            }
            if fault.whose() == Whose::Row {
                self.dead(&fault, self.load.rows());
                self.load.settle(1, Fate::dead(&fault));
                continue;
            }
            if fault.retry() == Retry::Never {
                return Some(fault);
            }
            self.away(&fault);
            if self.pause(&mut pause).await {
                return None;
            }
            if let Some(fault) = self.connect(sink).await {
                return Some(fault);
            }
        }
        None
    }
}

/// Counts rows that a sink can never take.
fn dead(account: &SinkAccount, meter: &NodeMeter, fault: &Fault, rows: u64, now: Time) {
    account.dead(fault.reason(), rows);
    meter.failed(fault.to_string(), now);
}

/// The receipts of an outgoing batch that have no parcel yet. When shaping panics, they are given back.
struct Rest {
    receipts: vec::IntoIter<Receipt>,
    account: Arc<SinkAccount>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        let left = self.receipts.len() as u64;
        if left > 0 {
            self.account.dropped(Fate::Abandoned.reason(), left);
            self.receipts.by_ref().for_each(|receipt| receipt.settle(Fate::Abandoned));
        }
    }
}

/// Returns when the outlet is told to give up, or when no one is left to tell it.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Returns at that time, if there is one.
async fn until(clock: &Clock, due: Option<Time>) {
    match due {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Never returns, whatever the connector does.
async fn idle(sink: &mut dyn Sink) {
    sink.idle().await;
    std::future::pending().await
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
