//! One sink: shape, encode, deliver, retry.
//!
//! An outlet takes batches that leave a rule, makes parcels of their emissions, and delivers them in order: the `courier`
//! does, who waits out an outage with growing pauses; meanwhile the channel in front fills and the rule waits. A parcel
//! that the other side can never take is counted dead, logged, and left behind. A receipt is settled when the sink has
//! confirmed the parcel, not before; what is given up, at a stop or at a panic, is given back to the source.

mod courier;
mod forward;
mod packer;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::{Clock, Time, pass, within};
use crate::data::{Batch, Emissions, Fate, Layout, Receipt};
use crate::diag::{Fault, Result};
use crate::io::{LinkStatus, Report, Sink, SinkPlan};
use crate::meter::{NodeMeter, SinkAccount, SinkView};

use super::caught::{caught, ended};
use super::dead::Route;
use super::journal::Anchor;
use super::lane::{self, Giver, Overflow, Taker, lane};
use super::load::Load;
use super::queue::{Place, Queues};
use super::shape::{Gather, Keeping, Shape};
use super::task::{Ended, ErrorLog};

use courier::{Courier, Delivered};
use forward::{GRACE, Store, Work};
use packer::Packer;

pub use courier::Retrying;

/// Parcels that are given to a sink in one call, about.
const PARCELS: usize = 512;
/// How long a sink that was told to stop may take to close.
const FAREWELL: Duration = Duration::from_secs(1);

/// What leaves a rule, for one of its sinks: the rows are shared, the receipts are its own.
pub struct Outgoing {
    pub batch: Arc<Batch>,
    /// One a selected row, in order.
    pub receipts: Vec<Receipt>,
    /// When they left the rule.
    pub at: Time,
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
    pub retrying: Retrying,
    /// Its disk queue, if it has one.
    pub keep: Option<Keep>,
    pub shape: Shape,
    pub layout: Arc<Layout>,
    pub send_error: bool,
    pub clock: Clock,
    pub overflow: Overflow,
    /// Of a rule with a journal.
    pub anchor: Option<Arc<Anchor>>,
    pub log: ErrorLog,
    /// Where rows go that the sink will never have, if they are told of.
    pub dead: Option<Route>,
    /// Told when the sink can never work, for then the rule cannot go on.
    pub ended: watch::Sender<Option<Ended>>,
    /// How long the sink may be without progress before it is opened again; `None`: for ever.
    pub stall: Option<Duration>,
    /// What its account goes on from.
    pub carried: SinkView,
}

/// The disk queue of a sink.
pub struct Keep {
    pub queues: Arc<Queues>,
    pub place: Place,
    pub keeping: Keeping,
    /// The sink that sends what lies there, where it is another one.
    pub second: Option<SinkPlan>,
}

/// A running outlet. It ends when it is dropped, when it is stopped, or when the rule gives no more.
pub struct Outlet {
    rule: String,
    pub name: String,
    pub meter: Arc<NodeMeter>,
    pub account: Arc<SinkAccount>,
    link: watch::Receiver<LinkStatus>,
    report: Report,
    stop: watch::Sender<bool>,
    /// What it cannot deliver at a stop stays on the disk.
    keeps: bool,
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
        let (meter, account) = (Arc::<NodeMeter>::default(), Arc::new(SinkAccount::of(&spec.carried)));
        let (rule, name, keeps) = (spec.rule.clone(), spec.name.clone(), spec.keep.is_some());
        let (ends, done) = watch::channel(false);
        let packer = Packer {
            gather: spec.shape.gather(spec.clock.now()),
            shape: spec.shape,
            layout: spec.layout,
            send_error: spec.send_error,
            keeps: spec.keep.is_some(),
            clock: spec.clock.clone(),
            meter: meter.clone(),
            account: account.clone(),
            log: spec.log.again(),
            name: spec.name.clone(),
            dead: spec.dead.clone(),
        };
        let courier = Courier {
            rule: spec.rule,
            name: spec.name,
            plan: Arc::new(spec.sink),
            stall: spec.stall,
            retrying: spec.retrying,
            clock: spec.clock,
            report: report.clone(),
            stopped,
            meter: meter.clone(),
            account: account.clone(),
            log: spec.log,
            dead: spec.dead,
            // What lies in a queue on the disk is confirmed there.
            anchor: spec.anchor.filter(|_| spec.keep.is_none()),
        };
        let load = Load::new(account.clone(), meter.clone());
        let driver = Driver { from, first: None, packer, load, courier, keep: spec.keep, ended: spec.ended, ends };
        let task = tokio::spawn(Box::new(driver).run());
        (Outlet { rule, name, meter, account, link, report, stop, keeps, done, task }, to)
    }

    /// Turns true, or ends, when the task has delivered or given up everything.
    pub fn done(&self) -> watch::Receiver<bool> {
        self.done.clone()
    }

    /// Where the sink reports; outlives the outlet.
    pub fn report(&self) -> Report {
        self.report.clone()
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

    /// Waits until everything is delivered, at most `patience`; then what is left is given up and not acknowledged. With a
    /// disk queue nothing is waited for: what is left stays there.
    /// Returns the fault that ended the outlet before its time, if one did.
    pub async fn stop(self, patience: Duration) -> Option<Fault> {
        let mut task = self.task;
        if self.keeps {
            self.stop.send_replace(true);
        }
        let patience = if self.keeps { patience.max(GRACE + FAREWELL) } else { patience };
        if let Some(ended) = within(patience, &mut task).await {
            return ended.ok().flatten();
        }
        self.stop.send_replace(true);
        match ended(task, FAREWELL).await {
            Some(ended) => ended.ok().flatten(),
            None => {
                let limit = FAREWELL.as_secs();
                tracing::warn!(rule = self.rule, sink = self.name, "the sink did not close within {limit} s");
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
    from: Taker<Outgoing>,
    /// What came first while there was no sink to give it to.
    first: Option<Outgoing>,
    packer: Packer,
    /// What has a parcel and is not confirmed.
    load: Load,
    courier: Courier,
    keep: Option<Keep>,
    ended: watch::Sender<Option<Ended>>,
    /// Told when it has let go of all that it held; so it goes last.
    ends: watch::Sender<bool>,
}

impl Driver {
    /// Runs to the end; the fault is one that the rule cannot go on with.
    async fn run(mut self: Box<Self>) -> Option<Fault> {
        let ends = self.ends.clone();
        let who = format!("the sink `{}`", self.courier.name);
        let fault = match caught(&who, self.work()).await {
            Ok(fault) => fault,
            Err(fault) => {
                self.end(Some(&fault)).await;
                Some(fault)
            }
        };
        drop(self);
        ends.send_replace(true);
        fault
    }

    async fn work(&mut self) -> Option<Fault> {
        if let Some(keep) = self.keep.take() {
            // Few sinks have a queue; the others need not have room for it.
            let fault = Box::pin(self.forward(keep)).await;
            self.end(fault.as_ref()).await;
            return fault;
        }
        let Driver { from, first, courier, .. } = &mut *self;
        let mut sink = match owing(from, first, &courier.meter.clone(), courier.open()).await {
            Ok(sink) => sink,
            Err(fault) => {
                self.end(fault.as_ref()).await;
                return fault;
            }
        };
        let fault = self.serve(sink.as_mut()).await;
        // Nothing waits for a sink that is slow to close.
        self.end(fault.as_ref()).await;
        self.courier.close(sink).await;
        fault
    }

    /// Stores and forwards until the rule gives no more, the outlet is stopped, or a sink can never work.
    async fn forward(&mut self, keep: Keep) -> Option<Fault> {
        let (kept, _seat) = self.courier.queue(&keep).await?;
        // The sides hear of a stop at once, a delivery that has begun a little later.
        let (late, stopped) = watch::channel(false);
        let mut second = keep.second.map(|plan| self.courier.second(plan));
        let store = Store::new(kept, keep.keeping, second.is_some(), &self.courier);
        let mut hears = std::mem::replace(&mut self.courier.stopped, stopped);
        if let Some(second) = &mut second {
            second.stopped = self.courier.stopped.clone();
        }
        if let Err(fault) = store.begin().await {
            return Some(fault);
        }
        let Driver { from, packer, load, courier, .. } = self;
        let hears_too = hears.clone();
        let front = async {
            front(&store, from, packer, load, hears_too).await;
            Ok(())
        };
        let work = if second.is_some() { Work::Live } else { Work::All };
        let given = |fault: Option<Fault>| fault.map_or(Ok(()), Err);
        let live = async { given(store.give(courier, work).await) };
        let stored = async {
            match &mut second {
                Some(second) => given(store.give(second, Work::Stored).await),
                None => Ok(()),
            }
        };
        let warns = async {
            stop(&mut hears).await;
            pass(GRACE).await;
            late.send_replace(true);
            std::future::pending::<Result<(), Fault>>().await
        };
        let done = tokio::select! {
            done = async { tokio::try_join!(front, live, stored).map(drop) } => done,
            done = warns => done,
            fault = store.keep_synced() => Err(fault),
            fault = store.keep_noted() => Err(fault),
        };
        store.rest().await;
        done.err()
    }

    /// Delivers until the rule gives no more, the outlet is stopped, or the sink can never work.
    async fn serve(&mut self, sink: &mut dyn Sink) -> Option<Fault> {
        let Driver { from, first, load, courier, .. } = &mut *self;
        let meter = courier.meter.clone();
        let mut connected = match owing(from, first, &meter, courier.connect(sink, load, &mut 0)).await {
            Ok(connected) => connected,
            Err(fault) => return Some(fault),
        };
        loop {
            let next = match self.first.take() {
                Some(first) => Next::Rows(first),
                None => self.next(sink).await,
            };
            let last = matches!(next, Next::End);
            match next {
                Next::Rows(outgoing) => self.packer.take(outgoing, &mut self.load),
                Next::Due | Next::End => self.packer.flush(&mut self.load),
                Next::Stop => return None,
            }
            // More may have come meanwhile; a sink is cheaper by the dozen.
            while self.load.parcels().len() < PARCELS
                && let Some(outgoing) = self.from.take_now()
            {
                self.packer.take(outgoing, &mut self.load);
            }
            self.courier.meter.waiting(self.from.waiting() as u64);
            if self.load.parcels().is_empty() {
                meter.owes_nothing();
            }
            if !connected {
                match self.courier.connect(sink, &mut self.load, &mut 0).await {
                    Ok(now) => connected = now,
                    Err(fault) => return Some(fault),
                }
            }
            if connected {
                match self.courier.deliver(sink, &mut self.load).await {
                    Delivered::All => {}
                    Delivered::Away => connected = false,
                    Delivered::Failed(fault) => return Some(fault),
                }
            }
            self.courier.room().await;
            if last {
                return None;
            }
        }
    }

    /// Waits for work; meanwhile the sink may keep its connection alive.
    async fn next(&mut self, sink: &mut dyn Sink) -> Next {
        let due = self.packer.gather.as_ref().and_then(Gather::due);
        // All of them can be given up without a loss; after the stop nothing is begun.
        tokio::select! {
            biased;
            _ = stop(&mut self.courier.stopped) => Next::Stop,
            outgoing = self.from.take() => outgoing.map_or(Next::End, Next::Rows),
            _ = until(&self.courier.clock, due) => Next::Due,
            _ = idle(sink) => Next::Stop,
        }
    }

    /// What is left goes back to the source, unacknowledged; a fault ends the rule.
    async fn end(&mut self, fault: Option<&Fault>) {
        if let Some(fault) = fault {
            self.courier.failed(fault);
            self.ended.send_if_modified(|ended| {
                let first = ended.is_none();
                ended.get_or_insert_with(|| Ended::Failed(fault.clone()));
                first
            });
        }
        self.load.settle(usize::MAX, Fate::Abandoned);
        self.packer.abandon();
        if let Some(first) = self.first.take() {
            first.settle(&self.courier.account, Fate::Abandoned);
        }
        self.from.drain(|outgoing| outgoing.settle(&self.courier.account, Fate::Abandoned)).await;
    }
}

/// Makes the sink ready, however long it takes; meanwhile it owes what comes, from the first on.
async fn owing<T>(
    from: &mut Taker<Outgoing>,
    first: &mut Option<Outgoing>,
    meter: &NodeMeter,
    ready: impl Future<Output = T>,
) -> T {
    let mut ready = std::pin::pin!(ready);
    if first.is_none() {
        tokio::select! {
            biased;
            done = &mut ready => return done,
            Some(outgoing) = from.take() => {
                meter.owes(outgoing.at);
                *first = Some(outgoing);
            }
        }
    }
    ready.await
}

/// Makes parcels of what the rule gives and stores them, until it gives no more or the outlet is stopped.
async fn front(
    store: &Store,
    from: &mut Taker<Outgoing>,
    packer: &mut Packer,
    load: &mut Load,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let due = packer.gather.as_ref().and_then(Gather::due);
        let next = tokio::select! {
            biased;
            () = stop(&mut stopped) => Next::Stop,
            outgoing = from.take() => outgoing.map_or(Next::End, Next::Rows),
            () = until(&packer.clock, due) => Next::Due,
        };
        let last = matches!(next, Next::End | Next::Stop);
        match next {
            Next::Rows(outgoing) => packer.take(outgoing, load),
            Next::Due | Next::End => packer.flush(load),
            Next::Stop => {
                from.drain(|outgoing| packer.take(outgoing, load)).await;
                packer.flush(load);
            }
        }
        while !last
            && load.parcels().len() < PARCELS
            && let Some(outgoing) = from.take_now()
        {
            packer.take(outgoing, load);
        }
        packer.meter.waiting(from.waiting() as u64);
        if !store.put(load).await || last {
            break;
        }
    }
    store.end().await;
}

/// Counts rows that a sink will never have.
fn dead(account: &SinkAccount, meter: &NodeMeter, fault: &Fault, reason: &'static str, rows: u64, now: Time) {
    account.dead(reason, rows);
    meter.failed(fault.to_string(), now);
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
