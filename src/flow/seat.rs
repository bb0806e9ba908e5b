//! Who reads a feed, and what a rule that goes owes to those who stay.
//!
//! A message that a rule has not brought to its end goes back to the source when that rule was the last to read it: the
//! source gives it again to whoever reads next. While others read on it does not, for it would be theirs again too, and
//! until it comes they would wait. It then counts in the ledger of the rule that went, and is acknowledged once the
//! others are done with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::data::{Account, DeadRow, Fate};

use super::book::Book;
use super::task::Ended;

/// The rules that read a feed, from the moment they ask to until they stop or end by themselves.
#[derive(Default)]
pub struct Readers(Mutex<Vec<(u64, watch::Receiver<Option<Ended>>)>>);

impl Readers {
    fn all(&self) -> MutexGuard<'_, Vec<(u64, watch::Receiver<Option<Ended>>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn join(&self, id: u64, ended: watch::Receiver<Option<Ended>>) {
        self.all().push((id, ended));
    }

    pub fn leave(&self, id: u64) {
        self.all().retain(|(other, _)| *other != id);
    }

    /// Whether a rule reads beside that one.
    fn beside(&self, id: u64) -> bool {
        // A rule that is gone without a word can tell no end any more.
        let reads = |ended: &watch::Receiver<Option<Ended>>| ended.borrow().is_none() && ended.has_changed().is_ok();
        self.all().iter().any(|(other, ended)| *other != id && reads(ended))
    }
}

/// The ledger of a rule, for the rows that it has of one life of a source.
pub struct Seat {
    pub id: u64,
    pub book: Arc<Book>,
    pub readers: Arc<Readers>,
    /// The last rule has left this life of the source; who comes now reads the next one.
    pub over: Arc<AtomicBool>,
}

impl Account for Seat {
    fn settle(&self, fate: Fate, rows: u64, held: bool) {
        self.book.settle(fate, rows, held);
    }

    fn hold(&self, rows: u64) {
        self.book.hold(rows);
    }

    fn unhold(&self, rows: u64) {
        self.book.unhold(rows);
    }

    fn gives_back(&self) -> bool {
        self.over.load(Ordering::Acquire) || !self.readers.beside(self.id)
    }

    fn buries(&self) -> bool {
        self.book.buries()
    }

    fn bury(&self, row: DeadRow) {
        self.book.bury(row);
    }

    fn logs(&self) -> bool {
        self.book.logs()
    }
}
