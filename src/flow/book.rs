use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::data::{Account, DeadRow, Fate};
use crate::meter::{Ledger, LedgerView, Term};

use super::dead::Route;

/// The ledger of a rule, as receipts see it.
#[derive(Default)]
pub struct Book {
    pub ledger: Ledger,
    /// Of a rule with an input log: what the calls of the chain since the last snapshot came to. After a crash they are
    /// done again, and counted then.
    since: Ledger,
    /// How many snapshots were taken.
    page: AtomicU32,
    /// No row is counted while a snapshot is.
    gate: RwLock<()>,
    /// The rule has an input log.
    logs: AtomicBool,
    /// What an operator throws away now is dead: the rule broke over it.
    breaks: AtomicBool,
    /// Where rows go that fail before a sink has them.
    pub dead: Option<Route>,
}

impl Book {
    /// A book that goes on from there, with a way for rows that fail.
    pub fn new(dead: Option<Route>, view: &LedgerView) -> Book {
        Book { dead, ledger: Ledger::of(view), ..Book::default() }
    }

    pub fn account(self: &Arc<Self>) -> Arc<dyn Account> {
        self.clone()
    }

    /// All that was counted.
    pub fn view(&self) -> LedgerView {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let view = self.ledger.view().and(&self.since.view());
        drop(gate);
        view
    }

    /// A snapshot was taken just now: rows that it has are no part of what comes after.
    pub fn turn(&self) {
        let gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.page.fetch_add(1, Ordering::AcqRel);
        self.ledger.take_in(&self.since);
        drop(gate);
    }

    /// The ledger as it was when the last snapshot was taken, but that rows which were on their way then have come to
    /// their ends. To be asked when all have.
    pub fn at_snapshot(&self) -> LedgerView {
        let mut view = self.ledger.view();
        view.came = view.ended() + u64::try_from(view.held).unwrap_or_default();
        view
    }

    fn count(&self, ledger: &Ledger, fate: Fate, rows: u64, held: bool) {
        let breaks = fate == Fate::DroppedStop && self.breaks.load(Ordering::Acquire);
        let fate = if breaks { Fate::DeadEval } else { fate };
        let term = match fate {
            Fate::Filtered => Term::Filtered,
            Fate::Out => Term::Out,
            Fate::Late => Term::Late,
            Fate::DroppedOverflow | Fate::DroppedStop | Fate::DroppedDuplicate | Fate::Abandoned => Term::Dropped,
            Fate::DeadDecode
            | Fate::DeadEval
            | Fate::DeadEncode
            | Fate::DeadRefused
            | Fate::DeadSetup
            | Fate::DeadRetries
            | Fate::Lost => Term::Dead,
        };
        ledger.settle(term, fate.reason(), rows, held);
    }

    /// So many rows came and are dropped for that reason before any operator had them.
    pub fn miss(&self, reason: &'static str, rows: u64) {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.ledger.came(rows);
        let ledger = if self.logs() { &self.since } else { &self.ledger };
        ledger.settle(Term::Dropped, reason, rows, false);
        drop(gate);
    }

    /// Whether what operators throw away counts as dead from here on.
    pub fn set_breaks(&self, breaks: bool) {
        self.breaks.store(breaks, Ordering::Release);
    }

    /// From here on an input log answers for what operators keep.
    pub fn set_logs(&self) {
        self.logs.store(true, Ordering::Release);
    }
}

impl Account for Book {
    fn settle(&self, fate: Fate, rows: u64, held: bool) {
        self.count(&self.ledger, fate, rows, held);
    }

    fn hold(&self, rows: u64) {
        if self.logs() { self.since.hold(rows) } else { self.ledger.hold(rows) }
    }

    fn unhold(&self, rows: u64) {
        if self.logs() { self.since.unhold(rows) } else { self.ledger.unhold(rows) }
    }

    fn page(&self) -> u32 {
        self.page.load(Ordering::Acquire)
    }

    fn settle_on(&self, page: u32, fate: Fate, rows: u64, held: bool) {
        if !self.logs() {
            return self.count(&self.ledger, fate, rows, held);
        }
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let ledger = if page >= self.page.load(Ordering::Acquire) { &self.since } else { &self.ledger };
        self.count(ledger, fate, rows, held);
        drop(gate);
    }

    fn buries(&self) -> bool {
        self.dead.is_some()
    }

    fn bury(&self, row: DeadRow) {
        match &self.dead {
            Some(route) => route.bury(row),
            None => row.receipt.settle(Fate::dead(&row.fault)),
        }
    }

    fn logs(&self) -> bool {
        self.logs.load(Ordering::Acquire)
    }
}
