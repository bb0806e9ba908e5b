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
pub struct Readers {
    all: Mutex<Vec<(u64, watch::Receiver<Option<Ended>>)>>,
    /// False while the server starts, and from the moment at which it ends.
    gate: Option<watch::Receiver<bool>>,
}

impl Readers {
    pub fn new(gate: Option<watch::Receiver<bool>>) -> Self {
        Readers { all: Mutex::default(), gate }
    }

    /// All rules go, one a little before the other: what one of them has not done it owes to no one who stays.
    pub fn all_go(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| !*gate.borrow())
    }

    fn all(&self) -> MutexGuard<'_, Vec<(u64, watch::Receiver<Option<Ended>>)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn page(&self) -> u32 {
        self.book.page()
    }

    fn settle_on(&self, page: u32, fate: Fate, rows: u64, held: bool) {
        self.book.settle_on(page, fate, rows, held);
    }

    fn gives_back(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.readers.all_go() || !self.readers.beside(self.id)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_with_all_others_gives_back() {
        let (gate, is_open) = watch::channel(true);
        let readers = Arc::new(Readers::new(Some(is_open)));
        let (_one, one) = watch::channel(None);
        let (_two, two) = watch::channel(None);
        readers.join(1, one);
        let seat = Seat { id: 1, book: Arc::default(), readers: readers.clone(), over: Arc::default() };
        assert!(seat.gives_back());
        readers.join(2, two);
        assert!(!seat.gives_back());
        gate.send_replace(false);
        assert!(seat.gives_back());
    }
}
