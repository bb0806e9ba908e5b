//! The task of one rule: it waits for the next batch or the next timer, and calls the chain.
//!
//! However it ends, each receipt that it holds is settled: what an operator keeps as dropped, what is on its way as
//! given back. A panic in an operator ends this rule, with its text, and no other.

mod logged;

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Clock, Time};
use crate::data::{Batch, Fate, Receipt};
use crate::diag::{Fault, Result};
use crate::meter::SinkAccount;

use super::caught::{caught, caught_now};
use super::chain::Chain;
use super::dead::Route;
use super::desk::Desk;
use super::feed::{Close, Fed, settle_all};
use super::journal::{Journal, record};
use super::lane::{Giver, Refused, Taker};
use super::outlet::Outgoing;

/// Why a rule ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// Its sources have given everything, and the sinks have it.
    Finished,
    /// It cannot go on.
    Failed(Fault),
}

/// Where the task puts what leaves the chain, for one sink.
pub(super) struct SinkInlet {
    pub to: Giver<Outgoing>,
    pub account: Arc<SinkAccount>,
    /// By which ways results leave that it takes; `None`: all.
    pub ports: Option<Vec<usize>>,
}

impl SinkInlet {
    /// Whether it takes what leaves by that way.
    fn takes(&self, port: Option<usize>) -> bool {
        port.zip(self.ports.as_ref()).is_none_or(|(port, ports)| ports.contains(&port))
    }
}

/// Says of each source why no more batches come of it.
pub(super) struct Closings {
    waiting: FuturesUnordered<BoxFuture<'static, (usize, Close)>>,
    /// For each source: rows of it drive the rule, and more may come.
    drives: Vec<bool>,
    /// The rule wished that a source ends.
    left: bool,
    /// What ended while a lookup table was asked.
    told: Vec<(usize, Close)>,
}

impl Closings {
    /// `drives` says of each source whether its rows drive the rule, as those of a stream do; the rule is done when all
    /// such sources are.
    pub fn new(all: Vec<(usize, oneshot::Receiver<Close>)>, drives: Vec<bool>) -> Closings {
        let gone = |_| Close::Failed(Fault::bug("the task of the source has ended"));
        let wait = |(source, close): (usize, oneshot::Receiver<Close>)| -> BoxFuture<'static, (usize, Close)> {
            Box::pin(async move { (source, close.await.unwrap_or_else(gone)) })
        };
        Closings { waiting: all.into_iter().map(wait).collect(), drives, left: false, told: Vec::new() }
    }

    /// The next source that ends; never when none is left. Cancelled, it has taken nothing.
    async fn next(&mut self) -> (usize, Close) {
        if let Some(told) = self.told.pop() {
            return told;
        }
        match self.waiting.next().await {
            Some(next) => next,
            None => std::future::pending().await,
        }
    }

    /// Notes that a source has ended, and says whether the rule ends with it: at once where it failed, and where it was
    /// the last whose rows drive the rule. Where a source ended because the rule wished so, rows may be on their way to
    /// the rule still, and it ends when no more can come.
    fn end(&mut self, source: usize, close: Close) -> Option<Close> {
        match close {
            Close::Failed(_) => return Some(close),
            Close::Left => self.left = true,
            Close::Finished => {}
        }
        if let Some(drives) = self.drives.get_mut(source) {
            *drives = false;
        }
        (!self.left && !self.drives.contains(&true)).then_some(Close::Finished)
    }

    /// Returns when the rule is being left. What else ends meanwhile is told later.
    async fn leaving(&mut self) {
        while !self.left {
            match self.waiting.next().await {
                Some((source, Close::Left)) => drop(self.end(source, Close::Left)),
                Some(other) => self.told.push(other),
                None => std::future::pending().await,
            }
        }
    }

    /// No more rows can come of any source; what that means for the rule.
    async fn all(&mut self) -> Close {
        while !self.told.is_empty() || !self.waiting.is_empty() {
            let (source, close) = self.next().await;
            if let Some(close) = self.end(source, close) {
                return close;
            }
        }
        if self.left { Close::Left } else { Close::Finished }
    }
}

/// A clock that goes back by less is not worth a word.
const BACK: Duration = Duration::from_secs(1);

pub(super) struct RuleTask {
    pub chain: Chain,
    /// The time that the chain was told last.
    pub told: Time,
    /// The lookup tables among the sources, by their places.
    pub desks: Vec<(usize, Desk)>,
    pub from: Taker<Box<Fed>>,
    pub closings: Closings,
    pub sinks: Vec<SinkInlet>,
    pub clock: Clock,
    pub ended: watch::Sender<Option<Ended>>,
    /// Turns true, or ends, when a sink has everything.
    pub done: Vec<watch::Receiver<bool>>,
    /// What has left the chain and is not given to the sinks yet.
    pub out: Vec<Batch>,
    pub log: ErrorLog,
    /// Since when it is at one batch; 0 while it waits for the next.
    pub busy: Arc<AtomicI64>,
    /// The ways that dead letters go, first the one of the rule itself.
    pub dead: Vec<Route>,
    /// Of a rule that keeps what it has across a crash.
    pub journal: Option<Journal>,
    /// Who wants to know how many rows each operator holds.
    pub asked: mpsc::Receiver<oneshot::Sender<Vec<u64>>>,
    /// What is on its way into the journal.
    pub waiting: VecDeque<Box<Fed>>,
    /// While the task waits: when its next timer goes off, for tests that move the clock.
    #[cfg(test)]
    pub rests: Arc<std::sync::atomic::AtomicI64>,
}

impl RuleTask {
    /// Boxed, since a task keeps room for what it is given and for what it makes of it.
    pub async fn run(mut self: Box<Self>) {
        let ended = match caught("the rule", self.drive()).await {
            Ok(Ok(close)) => close,
            Ok(Err(fault)) | Err(fault) => Close::Failed(fault),
        };
        if ended != Close::Finished && self.journal.is_none() {
            // An operator that has panicked may do so again.
            if let Err(fault) = caught_now("the rule", || self.chain.discard()) {
                self.log.tell(fault, self.clock.now());
            }
        }
        // Told before the rows go, so that no other rule takes this one for a reader any more.
        if let Close::Failed(fault) = &ended {
            self.end(Ended::Failed(fault.clone()));
        }
        // What has not been given to the sinks is given back to the source.
        self.out.drain(..).for_each(|batch| settle_all(batch, Fate::Abandoned));
        self.waiting.drain(..).for_each(|fed| settle_all(fed.batch, Fate::Abandoned));
        self.from.drain(|fed| settle_all(fed.batch, Fate::Abandoned)).await;
        Box::pin(self.part(&ended)).await;
        self.sinks.clear();
        if ended == Close::Finished {
            self.delivered().await;
            self.end(Ended::Finished);
        }
    }

    /// Waits until all sinks have everything, and those of dead letters too.
    async fn delivered(&mut self) {
        for done in &mut self.done {
            // An outlet that is gone has nothing left either.
            let _ = done.wait_for(|done| *done).await;
        }
        for route in &self.dead {
            route.close();
            route.empty().await;
        }
    }

    fn end(&self, ended: Ended) {
        self.ended.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(ended);
            first
        });
    }

    /// Runs until the input ends, or a sink.
    async fn drive(&mut self) -> Result<Close> {
        if self.journal.is_some()
            && let Some(close) = Box::pin(self.replay()).await?
        {
            return Ok(close);
        }
        // What it knows from before a restart may be of a clock that has been set back.
        if self.chain.due().is_some() {
            self.tell_time().await?;
        }
        loop {
            let due = self.chain.due();
            #[cfg(test)]
            self.rests.store(due.map_or(i64::MAX, |due| due.0), std::sync::atomic::Ordering::SeqCst);
            // Each can be given up without a loss.
            let step = tokio::select! {
                biased;
                _ = sleep(&self.clock, due) => Step::Time,
                fed = self.from.take() => fed.map_or(Step::Dry, Step::Rows),
                (source, close) = self.closings.next() => Step::Closed(source, close),
                () = RuleTask::wake(self.journal.as_ref()) => Step::Keep,
                Some(to) = self.asked.recv() => Step::Asked(to),
            };
            self.busy.store(self.clock.now().0, Ordering::Relaxed);
            #[cfg(test)]
            self.rests.store(i64::MIN, std::sync::atomic::Ordering::SeqCst);
            match step {
                Step::Time => self.tell_time().await?,
                Step::Rows(fed) => self.take(fed).await?,
                Step::Closed(source, close) => {
                    // What it gave before is among what waits here.
                    for _ in 0..self.from.loads() {
                        if let Some(fed) = self.from.take_now() {
                            self.take(fed).await?;
                        }
                    }
                    if let Some(close) = self.source_ended(source, close).await? {
                        return Ok(close);
                    }
                }
                Step::Keep => self.keep().await?,
                // Who asked may be gone.
                Step::Asked(to) => drop(to.send(self.chain.held())),
                Step::Dry => {
                    let close = self.closings.all().await;
                    return self.finish(close).await;
                }
            }
            if self.journal.as_ref().is_some_and(Journal::is_due) {
                self.keep().await?;
            }
            self.busy.store(0, Ordering::Relaxed);
            // An outlet that has ended will never take anything again; why it did, it has told by itself.
            if self.has_closed_sink() {
                return Ok(Close::Left);
            }
        }
    }

    fn has_closed_sink(&self) -> bool {
        self.sinks.iter().any(|sink| sink.to.is_closed())
    }

    /// Tells the chain the time, if a timer is due, or the clock was set back.
    async fn tick(&mut self) -> Result<()> {
        let now = self.clock.now();
        match self.chain.due() {
            Some(due) if due <= now || now + BACK < self.told => self.tell_time().await,
            _ => Ok(()),
        }
    }

    /// Tells the chain the time. Its timers may lie further ahead than they should, if the clock was set back.
    async fn tell_time(&mut self) -> Result<()> {
        let now = self.clock.now();
        self.told = now;
        let number = self.journal.as_mut().map(|journal| journal.tick(now)).transpose()?;
        self.doing(number);
        self.chain.tick(now, &mut self.out)?;
        self.go_on().await?;
        self.doing(None);
        Ok(())
    }

    async fn take(&mut self, fed: Box<Fed>) -> Result<()> {
        if self.journal.is_some() {
            return self.take_logged(fed).await;
        }
        // A timer that is due goes first, so that a late batch does not slip into a window that is over.
        if let Err(fault) = self.tick().await {
            settle_all(fed.batch, Fate::Abandoned);
            return Err(fault);
        }
        self.chain.push(fed.source, fed.batch, self.clock.now(), &mut self.out)?;
        self.go_on().await
    }

    /// Has lookup tables asked until no step waits for an answer, and gives away what has left the chain.
    async fn go_on(&mut self) -> Result<()> {
        while let Some(ask) = self.chain.asks() {
            let desk = self.desks.iter_mut().find(|(source, _)| *source == ask.source);
            let rows = match desk {
                None => Err(Fault::bug("a lookup table has no desk")),
                Some((_, desk)) => tokio::select! {
                    biased;
                    rows = desk.find(&ask.questions) => rows,
                    // What waits for an answer is given back.
                    () = self.closings.leaving() => {
                        match &mut self.journal {
                            // They are in the log.
                            Some(journal) => journal.is_partial = true,
                            None => self.chain.discard(),
                        }
                        return Ok(());
                    }
                },
            };
            let now = self.clock.now();
            let (mut rows, mut before) = (rows, None);
            if let Some(journal) = &mut self.journal {
                let body = match record::answer(now, &rows) {
                    Ok(body) => body,
                    Err(fault) => {
                        rows = Err(fault);
                        record::answer(now, &rows)?
                    }
                };
                let number = journal.note(&body)?;
                before = journal.doing.replace(number);
            }
            self.chain.answer(&ask, rows, now, &mut self.out)?;
            self.doing(before);
        }
        self.send().await;
        Ok(())
    }

    /// A source has ended; gives what that means for the rule, if it ends too.
    async fn source_ended(&mut self, source: usize, close: Close) -> Result<Option<Close>> {
        let finished = close == Close::Finished;
        match self.closings.end(source, close) {
            Some(close) => self.finish(close).await.map(Some),
            None => {
                if finished {
                    let now = self.clock.now();
                    let note = |journal: &mut Journal| journal.note(&record::ended(source, now));
                    let number = self.journal.as_mut().map(note).transpose()?;
                    self.doing(number);
                    self.chain.ended(source, now, &mut self.out)?;
                    self.go_on().await?;
                    self.doing(None);
                }
                Ok(None)
            }
        }
    }

    async fn finish(&mut self, close: Close) -> Result<Close> {
        if close == Close::Finished {
            let now = self.clock.now();
            let number = self.journal.as_mut().map(|journal| journal.note(&record::finish(now))).transpose()?;
            self.doing(number);
            self.chain.finish(now, &mut self.out)?;
            self.go_on().await?;
            self.doing(None);
        }
        Ok(close)
    }

    /// Gives all that has left the chain to each sink, once there is room for the dead.
    async fn send(&mut self) {
        if let Some(route) = self.dead.first() {
            route.room().await;
        }
        let at = self.clock.now();
        let mut logged = Vec::new();
        for mut batch in self.out.drain(..) {
            for (_, fault) in batch.faults() {
                self.log.tell(fault, self.clock.now());
            }
            let rows = batch.selected().to_vec();
            let receipts: Vec<Receipt> = rows.iter().map(|row| batch.take_receipt(*row as usize)).collect();
            let batch = Arc::new(batch);
            if self.journal.is_some() {
                logged.push(Outgoing { batch, receipts, at });
                continue;
            }
            let port = batch.port;
            let Some(last) = self.sinks.iter().rposition(|sink| sink.takes(port)) else {
                receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Out));
                continue;
            };
            for sink in &self.sinks[..last] {
                if sink.takes(port) {
                    give(sink, Outgoing { batch: batch.clone(), receipts: receipts.clone(), at }).await;
                }
            }
            give(&self.sinks[last], Outgoing { batch, receipts, at }).await;
        }
        for Outgoing { batch, receipts, at } in logged {
            for sink in 0..self.sinks.len() {
                if !self.sinks[sink].takes(batch.port) {
                    continue;
                }
                self.give_logged(sink, Outgoing { batch: batch.clone(), receipts: receipts.clone(), at }).await;
            }
            // The sinks have spoken; the least of all fates adds nothing to theirs.
            let fate = if self.sinks.is_empty() { Fate::Out } else { Fate::Filtered };
            receipts.into_iter().for_each(|receipt| receipt.settle(fate));
        }
    }
}

/// What a rule waits for.
#[allow(clippy::large_enum_variant, reason = "it lives for one turn of the loop; a box would be an allocation a batch")]
enum Step {
    Time,
    Rows(Box<Fed>),
    /// A source has ended.
    Closed(usize, Close),
    /// No more rows can come.
    Dry,
    /// The journal has something to do.
    Keep,
    /// Someone wants to know what the operators hold.
    Asked(oneshot::Sender<Vec<u64>>),
}

async fn give(sink: &SinkInlet, outgoing: Outgoing) {
    let (refused, fate) = match sink.to.offer(outgoing) {
        Ok(()) => return,
        Err(Refused::Dropped(outgoing)) => (outgoing, Fate::DroppedOverflow),
        Err(Refused::Closed(outgoing)) => (outgoing, Fate::Abandoned),
        Err(Refused::Full(outgoing)) => match sink.to.send(outgoing).await {
            Ok(()) => return,
            Err(outgoing) => (outgoing, Fate::Abandoned),
        },
    };
    refused.settle(&sink.account, fate);
}

async fn sleep(clock: &Clock, due: Option<Time>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Logs errors of rows, but not a flood of them: the first of a second is told, the others are counted.
pub struct ErrorLog {
    who: String,
    second: i64,
    untold: u64,
}

impl ErrorLog {
    /// `who` is the rule, or one of its sinks.
    pub fn new(who: impl Into<String>) -> Self {
        ErrorLog { who: who.into(), second: i64::MIN, untold: 0 }
    }

    /// A log of the same name.
    pub fn again(&self) -> Self {
        ErrorLog::new(self.who.clone())
    }

    pub fn who(&self) -> &str {
        &self.who
    }

    pub fn tell(&mut self, error: impl Display, now: Time) {
        let second = now.0.div_euclid(1000);
        if second == self.second {
            self.untold += 1;
            return;
        }
        self.second = second;
        match std::mem::take(&mut self.untold) {
            0 => tracing::warn!("{}: a row failed: {error}", self.who),
            untold => tracing::warn!("{}: a row failed: {error} ({untold} more since the last line)", self.who),
        }
    }
}

/// What was counted and not told is told at the end.
impl Drop for ErrorLog {
    fn drop(&mut self) {
        if self.untold > 0 {
            tracing::warn!("{}: {} more rows failed", self.who, self.untold);
        }
    }
}
