use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::diag::Fault;

/// What became of an input row. Where a row had a part in several results, the greatest of their fates is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fate {
    /// WHERE, FILTER, HAVING or LIMIT took it out of every result that it had a part in.
    Filtered = 1,
    /// All results derived from it are confirmed by all sinks.
    Out,
    /// It came after the watermark.
    Late,
    /// The user asked for `overflow: drop`, and it happened.
    DroppedOverflow,
    /// The rule was stopped by hand and what it held was thrown away.
    DroppedStop,
    DeadDecode,
    DeadEval,
    DeadEncode,
    DeadRefused,
    DeadSetup,
    /// Still on its way when the rule was stopped: the source may give it again.
    Abandoned,
    /// A receipt was dropped without a word: a bug of ours.
    Lost,
}

impl Fate {
    const ALL: [Fate; 12] = [
        Fate::Filtered,
        Fate::Out,
        Fate::Late,
        Fate::DroppedOverflow,
        Fate::DroppedStop,
        Fate::DeadDecode,
        Fate::DeadEval,
        Fate::DeadEncode,
        Fate::DeadRefused,
        Fate::DeadSetup,
        Fate::Abandoned,
        Fate::Lost,
    ];

    fn from_rank(rank: u8) -> Fate {
        Fate::ALL.get(usize::from(rank).wrapping_sub(1)).copied().unwrap_or(Fate::Lost)
    }

    /// The fate of a row that met this fault for good.
    pub fn dead(fault: &Fault) -> Fate {
        match fault {
            Fault::Decode(_) => Fate::DeadDecode,
            Fault::Encode(_) => Fate::DeadEncode,
            Fault::Refused(_) => Fate::DeadRefused,
            Fault::Setup(_) | Fault::Unreachable(_) => Fate::DeadSetup,
            Fault::Eval(_) | Fault::Bug(_) => Fate::DeadEval,
        }
    }

    /// The reason under which the ledger counts it, for the fates that need one.
    pub fn reason(self) -> &'static str {
        match self {
            Fate::Filtered | Fate::Out | Fate::Late => "",
            Fate::DroppedOverflow => "overflow",
            Fate::DroppedStop | Fate::Abandoned => "stop",
            Fate::DeadDecode => "decode",
            Fate::DeadEval => "eval",
            Fate::DeadEncode => "encode",
            Fate::DeadRefused => "refused",
            Fate::DeadSetup => "setup",
            Fate::Lost => "lost",
        }
    }

    /// Whether the source may forget the row.
    pub fn acknowledges(self) -> bool {
        !matches!(self, Fate::Abandoned | Fate::Lost)
    }
}

/// Where fates are counted: the ledger of a rule.
pub trait Account: Send + Sync {
    /// So many rows have met their fate; `held` when they were counted as held before.
    fn settle(&self, fate: Fate, rows: u64, held: bool);

    /// So many rows are now kept by an operator.
    fn hold(&self, rows: u64);

    /// So many rows are no longer kept here: their state was saved, and whoever loads it holds them again.
    fn unhold(&self, rows: u64);
}

/// What a source hears of one of its messages.
pub trait Acknowledge: Send + Sync {
    /// Called once, when the last row made of the message has met its fate in every rule. With `good` the source may
    /// forget the message; without, it should give it again when it can.
    fn done(&self, id: u64, good: bool);
}

/// The promise to tell a source about one message; one clone a rule and row. The source hears when the last is gone. A
/// message that no one took is not acknowledged.
#[derive(Clone)]
pub struct SourceAck(Arc<Ack>);

struct Ack {
    to: Arc<dyn Acknowledge>,
    id: u64,
    taken: AtomicBool,
    bad: AtomicBool,
}

impl SourceAck {
    pub fn new(to: Arc<dyn Acknowledge>, id: u64) -> Self {
        SourceAck(Arc::new(Ack { to, id, taken: AtomicBool::new(false), bad: AtomicBool::new(false) }))
    }

    /// No row came of the message; as far as it goes by this clone, the source may forget it.
    pub fn settle(self) {
        self.0.taken.store(true, Ordering::Release);
    }

    /// The source must not forget this message.
    pub fn refuse(&self) {
        self.0.bad.store(true, Ordering::Release);
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let good = *self.taken.get_mut() && !*self.bad.get_mut();
        self.to.done(self.id, good);
    }
}

/// The promise to account for one input row of one rule, or for a group of rows that share a fate. It is cloned for
/// each result that the row has a part in, and for each sink. A clone that is dropped without a word counts as lost.
#[derive(Clone, Default)]
pub struct Receipt(Option<Arc<Entry>>);

struct Entry {
    /// Taken out when the rows become held; then this entry has nothing more to say.
    account: Option<Arc<dyn Account>>,
    ack: Option<SourceAck>,
    rows: u64,
    held: bool,
    fate: AtomicU8,
    /// Receipts of other results that share this fate.
    parts: Vec<Receipt>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let fate = Fate::from_rank(*self.fate.get_mut());
        self.parts.drain(..).for_each(|part| part.settle(fate));
        let Some(account) = self.account.take() else { return };
        if let Some(ack) = &self.ack
            && !fate.acknowledges()
        {
            ack.refuse();
        }
        account.settle(fate, self.rows, self.held);
    }
}

impl Receipt {
    pub fn new(account: Arc<dyn Account>, ack: Option<SourceAck>) -> Self {
        let fate = AtomicU8::new(0);
        if let Some(ack) = &ack {
            ack.0.taken.store(true, Ordering::Release);
        }
        let entry = Entry { account: Some(account), ack, rows: 1, held: false, fate, parts: Vec::new() };
        Receipt(Some(Arc::new(entry)))
    }

    /// A receipt that promises nothing, for rows that no one accounts for.
    pub fn none() -> Self {
        Receipt(None)
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Says what became of the row here. The row's own fate is known when all clones have spoken.
    pub fn settle(mut self, fate: Fate) {
        if let Some(entry) = self.0.take() {
            entry.fate.fetch_max(fate as u8, Ordering::AcqRel);
        }
    }

    /// An operator keeps the row: the source may forget it, and the account counts it as held until the returned
    /// promise is released.
    pub fn hold(mut self) -> Held {
        let mut held = Held::default();
        match self.0.take().map(Arc::try_unwrap) {
            None => {}
            Some(Ok(mut entry)) => {
                held.shared = std::mem::take(&mut entry.parts);
                if let Some(account) = entry.account.take() {
                    if !entry.held {
                        account.hold(entry.rows);
                    }
                    held.rows = entry.rows;
                    held.account = Some(account);
                }
            }
            // Another result has a part in the row, so it cannot be turned into a mere count.
            Some(Err(entry)) => held.shared.push(Receipt(Some(entry))),
        }
        held
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(entry) = self.0.take() {
            entry.fate.fetch_max(Fate::Lost as u8, Ordering::AcqRel);
        }
    }
}

/// The promise to account for rows that an operator keeps. However many they are, it is a count.
#[derive(Default)]
pub struct Held {
    account: Option<Arc<dyn Account>>,
    rows: u64,
    shared: Vec<Receipt>,
}

impl Held {
    /// Takes over the rows of another promise of the same rule.
    pub fn merge(&mut self, mut other: Held) {
        self.rows += std::mem::take(&mut other.rows);
        if let Some(account) = other.account.take() {
            self.account.get_or_insert(account);
        }
        self.shared.append(&mut other.shared);
    }

    pub fn rows(&self) -> u64 {
        self.rows + self.shared.len() as u64
    }

    /// The rows go on, as parts of one result that decides their fate. They stay counted as held until then.
    pub fn release(mut self) -> Receipt {
        let parts = std::mem::take(&mut self.shared);
        let account = self.account.take();
        if account.is_none() && parts.is_empty() {
            return Receipt::none();
        }
        Receipt(Some(Arc::new(Entry {
            account,
            ack: None,
            rows: self.rows,
            held: true,
            fate: AtomicU8::new(0),
            parts,
        })))
    }

    /// The state that holds the rows was saved and is taken up elsewhere, where they are held again.
    pub fn forget(mut self) {
        if let Some(account) = self.account.take() {
            account.unhold(self.rows);
        }
        self.shared.drain(..).for_each(|receipt| receipt.settle(Fate::Abandoned));
    }

    /// All rows meet the same fate here.
    pub fn settle(self, fate: Fate) {
        self.release().settle(fate);
    }

    /// A promise for rows that a snapshot says were held; they are counted as held again.
    pub fn restored(account: Arc<dyn Account>, rows: u64) -> Held {
        account.hold(rows);
        Held { account: Some(account), rows, shared: Vec::new() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            account.settle(Fate::Lost, self.rows, true);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Book(Mutex<Vec<(Fate, u64, bool)>>, Mutex<u64>);

    impl Account for Book {
        fn settle(&self, fate: Fate, rows: u64, held: bool) {
            self.0.lock().unwrap().push((fate, rows, held));
        }
        fn hold(&self, rows: u64) {
            *self.1.lock().unwrap() += rows;
        }
        fn unhold(&self, rows: u64) {
            *self.1.lock().unwrap() -= rows;
        }
    }

    #[derive(Default)]
    struct Acks(Mutex<Vec<(u64, bool)>>);

    impl Acknowledge for Acks {
        fn done(&self, id: u64, good: bool) {
            self.0.lock().unwrap().push((id, good));
        }
    }

    #[test]
    fn the_greatest_fate_of_all_clones_counts_once() {
        let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
        let first = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 7)));
        let second = first.clone();
        first.settle(Fate::Out);
        assert!(book.0.lock().unwrap().is_empty() && acks.0.lock().unwrap().is_empty());
        second.settle(Fate::Filtered);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, false)]);
        assert_eq!(*acks.0.lock().unwrap(), [(7, true)]);
    }

    #[test]
    fn a_receipt_dropped_by_mistake_is_lost_and_not_acknowledged() {
        let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
        let receipt = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 1)));
        receipt.clone().settle(Fate::Out);
        drop(receipt);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Lost, 1, false)]);
        assert_eq!(*acks.0.lock().unwrap(), [(1, false)]);
    }

    #[test]
    fn a_message_that_made_no_row_is_acknowledged_only_when_someone_says_so() {
        let acks = Arc::new(Acks::default());
        SourceAck::new(acks.clone(), 1).settle();
        drop(SourceAck::new(acks.clone(), 2));
        assert_eq!(*acks.0.lock().unwrap(), [(1, true), (2, false)]);
    }

    #[test]
    fn rows_that_are_kept_a_second_time_stay_held_until_they_go() {
        let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
        let shared = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 1)));
        let other = shared.clone();
        let mut held = shared.hold();
        held.merge(Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 2))).hold());
        let again = held.release().hold();
        assert_eq!((again.rows(), *book.1.lock().unwrap()), (2, 1));
        again.release().settle(Fate::Out);
        other.settle(Fate::Filtered);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, true), (Fate::Out, 1, false)]);
        assert_eq!(*acks.0.lock().unwrap(), [(2, true), (1, true)]);
    }

    #[test]
    fn held_rows_are_acknowledged_at_once_and_settled_later() {
        let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
        let mut held = Held::default();
        for id in 0..3 {
            held.merge(Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), id))).hold());
        }
        assert_eq!((held.rows(), *book.1.lock().unwrap()), (3, 3));
        assert_eq!(*acks.0.lock().unwrap(), [(0, true), (1, true), (2, true)]);
        held.release().settle(Fate::Out);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 3, true)]);
    }
}
