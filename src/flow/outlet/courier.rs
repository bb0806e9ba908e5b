//! The side of an outlet that faces the sink: it opens it, connects, delivers, and waits out what waiting can mend.
//!
//! What the other side can never take is dead at once. An outage is waited out with growing pauses, for ever or as
//! often as the user allows. A fault that is of no single row and that no waiting can mend ends the rule.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};

use crate::clock::{Clock, Stopwatch};
use crate::data::{Fate, Receipt};
use crate::diag::{Fault, Result, Retry, Whose};
use crate::flow::dead::Route;
use crate::flow::journal::Anchor;
use crate::flow::load::Load;
use crate::flow::queue::Kept;
use crate::flow::task::ErrorLog;
use crate::io::{Link, Parcel, RefusedRow, Report, Sink, SinkPlan};
use crate::meter::{NodeMeter, SinkAccount};

use super::watched::Watched;
use super::{Keep, dead, stop};

/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(30);

/// How often, and after which pauses, a sink that is away is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retrying {
    /// After so many a message is dead; 0: it is tried for ever.
    pub count: u32,
    /// The first pause; the others are twice the one before, up to 30 s.
    pub interval: Duration,
    /// All pauses are as long as the first.
    pub steady: bool,
}

impl Default for Retrying {
    fn default() -> Self {
        Retrying { count: 0, interval: Duration::from_millis(100), steady: false }
    }
}

impl Retrying {
    /// The pause before the next try, after that many. A little of it is chance, so that not all who wait for one
    /// server come back at one moment.
    pub fn pause(&self, tries: u32) -> Duration {
        if self.steady {
            return self.interval;
        }
        let chance = RandomState::new().build_hasher().finish() as u32;
        let full = self.interval.saturating_mul(1u32.checked_shl(tries).unwrap_or(u32::MAX));
        let part = 1.0 + 0.2 * f64::from(chance) / f64::from(u32::MAX);
        full.min(LONGEST.max(self.interval).div_f64(1.2)).max(self.interval).mul_f64(part)
    }

    /// Whether a message that was tried again so often is given up.
    pub fn is_over(&self, tries: u32) -> bool {
        self.count > 0 && tries >= self.count
    }
}

/// What became of one delivery: the first `delivered` parcels are confirmed, but for the rows that were refused, and
/// the next one met the fault.
pub struct Attempt {
    pub delivered: usize,
    pub refused: Vec<RefusedRow>,
    pub fault: Option<Fault>,
}

/// How the delivery of a load ended.
#[derive(Debug, PartialEq)]
pub enum Delivered {
    All,
    /// The sink is not connected; what is left waits for it, or the outlet was stopped.
    Away,
    /// A fault that no waiting can mend and that is of no single parcel.
    Failed(Fault),
}

/// Carries parcels to one sink.
pub struct Courier {
    pub rule: String,
    /// Of the sink, for example `mqtt_0`.
    pub name: String,
    pub plan: Arc<SinkPlan>,
    /// How long the sink may be without progress.
    pub stall: Option<Duration>,
    pub retrying: Retrying,
    pub clock: Clock,
    pub report: Report,
    pub stopped: watch::Receiver<bool>,
    pub meter: Arc<NodeMeter>,
    pub account: Arc<SinkAccount>,
    pub log: ErrorLog,
    /// Where parcels go that the sink will never take.
    pub dead: Option<Route>,
    /// Where a rule with a journal hears how far the sink has come.
    pub anchor: Option<Arc<Anchor>>,
}

impl Courier {
    /// A new sink, which is watched.
    pub fn make(&self) -> Result<Box<dyn Sink>> {
        let (clock, report) = (self.clock.clone(), self.report.clone());
        let sink = (self.plan.open)()?;
        Ok(Box::new(Watched::new(self.plan.clone(), sink, clock, report, self.stall)))
    }

    /// Opens the sink, however long it takes; without a fault it was stopped meanwhile.
    pub async fn open(&mut self) -> Result<Box<dyn Sink>, Option<Fault>> {
        let mut tries = 0;
        loop {
            match self.make() {
                Ok(sink) => return Ok(sink),
                Err(fault) if fault.retry() == Retry::Never => return Err(Some(fault)),
                Err(fault) => self.away(&fault),
            }
            if self.pause(tries).await {
                return Err(None);
            }
            tries += 1;
        }
    }

    /// Tries once to connect; `None` when the outlet was stopped meanwhile.
    pub async fn dial(&mut self, sink: &mut dyn Sink) -> Option<Result<(), Fault>> {
        self.report.trying();
        let connect = async {
            sink.connect(self.report.clone()).await?;
            match &self.anchor {
                Some(anchor) => anchor.connected(sink, &self.account).await,
                None => Ok(()),
            }
        };
        let result = tokio::select! {
            result = connect => result,
            _ = stop(&mut self.stopped) => return None,
        };
        if result.is_ok() {
            // Not every connector says so.
            self.report.set(Link::Connected);
        }
        Some(result)
    }

    /// Connects, however long it takes. A fault that no waiting can mend ends the outlet. As long as it takes, parcels of
    /// the load are given up as the user allows, and when none is left it is not gone on with; `tries` counts those of the
    /// first one. True when the sink is connected.
    pub async fn connect(&mut self, sink: &mut dyn Sink, load: &mut Load, tries: &mut u32) -> Result<bool, Fault> {
        loop {
            let Some(Err(fault)) = self.dial(sink).await else { return Ok(!*self.stopped.borrow()) };
            if fault.retry() == Retry::Never {
                return Err(fault);
            }
            self.away(&fault);
            if self.again(&fault, load, tries).await || (self.retrying.count > 0 && load.parcels().is_empty()) {
                return Ok(false);
            }
        }
    }

    /// The other side is away.
    pub fn away(&self, fault: &Fault) {
        self.meter.failed(fault.to_string(), self.clock.now());
        self.report.set(Link::Disconnected(fault.to_string()));
        tracing::warn!(rule = self.rule, sink = self.name, "{fault}; trying again");
    }

    /// Waits before the next try, or gives the first parcel up; true when the outlet was stopped meanwhile.
    async fn again(&mut self, fault: &Fault, load: &mut Load, tries: &mut u32) -> bool {
        if self.retrying.is_over(*tries) && !load.parcels().is_empty() {
            let (parcel, rows) = (load.parcels()[0].clone(), load.rows());
            self.bury(fault, Fate::DeadRetries, rows, &parcel, None, load.take());
            *tries = 0;
            return *self.stopped.borrow();
        }
        let stopped = self.pause(*tries).await;
        *tries = tries.saturating_add(1);
        stopped
    }

    /// Waits; true when the outlet was stopped meanwhile.
    pub async fn pause(&mut self, tries: u32) -> bool {
        tokio::select! {
            _ = self.clock.sleep(self.retrying.pause(tries)) => false,
            _ = stop(&mut self.stopped) => true,
        }
    }

    /// The disk queue, and the seat of who fills and empties it; `None` when the outlet was stopped meanwhile.
    pub async fn queue(&mut self, keep: &Keep) -> Option<(Arc<Kept>, OwnedMutexGuard<()>)> {
        let mut tries = 0;
        loop {
            let (queues, place, limits) = (keep.queues.clone(), keep.place.clone(), keep.keeping.limits);
            // It is never closed; without a permit it would only be slower.
            let turn = keep.queues.gate.acquire().await;
            let opened = tokio::task::spawn_blocking(move || queues.open(&place, Some(limits))).await;
            drop(turn);
            match opened.map_err(|_| Fault::bug("the queue was not opened")).flatten() {
                Ok(kept) => {
                    // An outlet of an earlier run may be on its way out. Where the seat is free it is taken also after a
                    // stop, for what came until then is to go to the disk.
                    let seat = tokio::select! {
                        biased;
                        seat = kept.seat.clone().lock_owned() => seat,
                        () = stop(&mut self.stopped) => return None,
                    };
                    return Some((kept, seat));
                }
                Err(fault) => {
                    let text = format!("the queue of the sink `{}` cannot be opened: {fault}", self.name);
                    tracing::error!(rule = self.rule, "{text}");
                    self.meter.failed(text, self.clock.now());
                }
            }
            if self.pause(tries).await {
                return None;
            }
            tries += 1;
        }
    }

    /// Who carries the parcels of the queue to a sink of their own. Its connection is not shown.
    pub fn second(&self, plan: SinkPlan) -> Courier {
        Courier {
            rule: self.rule.clone(),
            name: self.name.clone(),
            plan: Arc::new(plan),
            stall: self.stall,
            retrying: self.retrying,
            clock: self.clock.clone(),
            report: Report::timed(self.clock.clone()).0,
            stopped: self.stopped.clone(),
            meter: self.meter.clone(),
            account: self.account.clone(),
            log: self.log.again(),
            dead: self.dead.clone(),
            anchor: None,
        }
    }

    /// The sink can never work.
    pub fn failed(&self, fault: &Fault) {
        self.meter.failed(fault.to_string(), self.clock.now());
        self.report.set(Link::Disconnected(fault.to_string()));
    }

    pub async fn close(&self, mut sink: Box<dyn Sink>) {
        if let Err(fault) = sink.close().await {
            self.meter.failed(fault.to_string(), self.clock.now());
            tracing::warn!(rule = self.rule, sink = self.name, "closing failed: {fault}");
        }
    }

    /// Counts and logs rows that the sink will never have, and sends them to where the dead go: those of a parcel, or that
    /// one of them.
    pub fn bury(
        &mut self,
        fault: &Fault,
        fate: Fate,
        rows: u64,
        parcel: &Parcel,
        row: Option<usize>,
        receipts: Vec<Receipt>,
    ) {
        let now = self.clock.now();
        let reason = if fate == Fate::DeadRetries { fate.reason() } else { fault.reason() };
        dead(&self.account, &self.meter, fault, reason, rows, now);
        self.log.tell(fault, now);
        match &self.dead {
            // An error that `sendError` sends is no row.
            Some(route) if rows > 0 => route.parcel(&self.name, parcel, row, fault, fate, receipts),
            _ => receipts.into_iter().for_each(|receipt| receipt.settle(fate)),
        }
    }

    /// Waits for room for more dead letters, or for the stop.
    pub async fn room(&mut self) {
        if let Some(route) = &self.dead {
            tokio::select! {
                () = route.room() => {}
                () = stop(&mut self.stopped) => {}
            }
        }
    }

    /// Gives parcels to the sink, once; `None` when the outlet was stopped meanwhile: what the sink has taken and not
    /// confirmed counts as not delivered.
    pub async fn attempt(&mut self, sink: &mut dyn Sink, parcels: &[Parcel]) -> Option<Attempt> {
        let watch = Stopwatch::start();
        let result = tokio::select! {
            biased;
            result = sink.deliver(parcels) => result,
            _ = stop(&mut self.stopped) => return None,
        };
        self.meter.spent(watch.elapsed());
        let (delivered, fault) = match result {
            Ok(()) => (parcels.len(), None),
            Err(stopped) => (stopped.delivered.min(parcels.len()), Some(stopped.fault)),
        };
        if delivered > 0 {
            self.meter.confirmed(self.clock.now());
        }
        if delivered > 0 || fault.as_ref().is_none_or(|fault| fault.whose() == Whose::Row) {
            self.report.proven();
        }
        Some(Attempt { delivered, refused: sink.refused(), fault })
    }

    /// Delivers everything in the load, or until the outlet is stopped.
    pub async fn deliver(&mut self, sink: &mut dyn Sink, load: &mut Load) -> Delivered {
        let mut tries = 0;
        while !load.parcels().is_empty() {
            let Some(attempt) = self.attempt(sink, load.parcels()).await else { return Delivered::Away };
            let Attempt { delivered, refused, fault } = attempt;
            let parcels = if refused.is_empty() { Vec::new() } else { load.parcels().to_vec() };
            load.delivered(delivered, &refused, |one, receipts| {
                let fate = Fate::dead(&one.fault);
                self.bury(&one.fault, fate, 1, &parcels[one.parcel], Some(one.row), receipts);
            });
            if let Some(anchor) = &self.anchor
                && let Err(fault) = anchor.delivered(sink, &self.account).await
            {
                // What it does not say counts as not confirmed.
                self.log.tell(&fault, self.clock.now());
            }
            let Some(fault) = fault else { continue };
            if delivered > 0 {
                tries = 0;
            }
            if fault.whose() == Whose::Row {
                let (parcel, rows) = (load.parcels()[0].clone(), load.rows());
                self.bury(&fault, Fate::dead(&fault), rows, &parcel, None, load.take());
                self.room().await;
                continue;
            }
            if fault.retry() == Retry::Never {
                return Delivered::Failed(fault);
            }
            self.report.doubt();
            self.away(&fault);
            if self.again(&fault, load, &mut tries).await {
                return Delivered::Away;
            }
            match self.connect(sink, load, &mut tries).await {
                Ok(true) => {}
                Ok(false) => return Delivered::Away,
                Err(fault) => return Delivered::Failed(fault),
            }
        }
        Delivered::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_thirty_seconds_and_a_fifth_of_them_is_chance() {
        let retrying = Retrying::default();
        let mut last = Duration::ZERO;
        for tries in 0..8 {
            let pause = retrying.pause(tries);
            let least = Duration::from_millis(100 << tries);
            assert!((least..=least.mul_f64(1.21)).contains(&pause), "{tries}: {pause:?}");
            assert!(pause > last);
            last = pause;
        }
        for tries in [9, 20, 31, 32, 1000, u32::MAX] {
            let pause = retrying.pause(tries);
            assert!((Duration::from_secs(24)..=Duration::from_secs(31)).contains(&pause), "{tries}: {pause:?}");
        }
        assert!((0..64).any(|_| retrying.pause(3) != retrying.pause(3)), "there is no chance in it");
        let steady = Retrying { steady: true, interval: Duration::from_secs(1), count: 2 };
        assert_eq!([steady.pause(0), steady.pause(9)], [Duration::from_secs(1); 2]);
        assert_eq!([steady.is_over(1), steady.is_over(2), retrying.is_over(u32::MAX)], [false, true, false]);
    }
}
