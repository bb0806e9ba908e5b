use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::data::{Account, DeadRow, Fate};
use crate::meter::{Ledger, LedgerView, Term};

use super::dead::Route;

/// The ledger of a rule, as receipts see it.
#[derive(Default)]
pub struct Book {
    pub ledger: Ledger,
    /// The rule has an input log.
    logs: AtomicBool,
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

    /// From here on an input log answers for what operators keep.
    pub fn set_logs(&self) {
        self.logs.store(true, Ordering::Release);
    }
}

impl Account for Book {
    fn settle(&self, fate: Fate, rows: u64, held: bool) {
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
        self.ledger.settle(term, fate.reason(), rows, held);
    }

    fn hold(&self, rows: u64) {
        self.ledger.hold(rows);
    }

    fn unhold(&self, rows: u64) {
        self.ledger.unhold(rows);
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
