use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::diag::Fault;

use super::{DeadRow, Value};

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
    /// The source gave it again after a crash, and the input log of the rule has it.
    DroppedDuplicate,
    DeadDecode,
    DeadEval,
    DeadEncode,
    DeadRefused,
    DeadSetup,
    /// The sink was away for as many tries as the user allows.
    DeadRetries,
    /// Still on its way when the rule was stopped: the source may give it again, unless others read on.
    Abandoned,
    /// A receipt was dropped without a word: a bug of ours.
    Lost,
}

impl Fate {
    const ALL: [Fate; 14] = [
        Fate::Filtered,
        Fate::Out,
        Fate::Late,
        Fate::DroppedOverflow,
        Fate::DroppedStop,
        Fate::DroppedDuplicate,
        Fate::DeadDecode,
        Fate::DeadEval,
        Fate::DeadEncode,
        Fate::DeadRefused,
        Fate::DeadSetup,
        Fate::DeadRetries,
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
            Fate::DroppedDuplicate => "duplicate",
            Fate::DeadDecode => "decode",
            Fate::DeadEval => "eval",
            Fate::DeadEncode => "encode",
            Fate::DeadRefused => "refused",
            Fate::DeadSetup => "setup",
            Fate::DeadRetries => "retries",
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

    /// Whether the source is to give again what was not brought to its end.
    fn gives_back(&self) -> bool {
        true
    }

    /// Whether rows that fail are told of, by `bury`.
    fn buries(&self) -> bool {
        false
    }

    /// Tells of a row that failed, and keeps its promise then.
    fn bury(&self, row: DeadRow) {
        row.receipt.settle(Fate::dead(&row.fault));
    }

    /// Whether an input log answers for what operators keep: given up at a stop, it stays held and goes on with the next
    /// start.
    fn logs(&self) -> bool {
        false
    }
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
    /// The rows were saved and are accounted for elsewhere; what is said of them here is too late.
    moved: AtomicBool,
    /// The rule's input log has the row: what is not brought to its end is kept there, and goes on with the next start.
    logged: bool,
}

impl Entry {
    fn held(account: Option<Arc<dyn Account>>, rows: u64, fate: u8, parts: Vec<Receipt>) -> Entry {
        let (fate, moved) = (AtomicU8::new(fate), AtomicBool::new(false));
        Entry { account, ack: None, rows, held: true, fate, parts, moved, logged: false }
    }

    fn rows(&self) -> u64 {
        self.rows + self.parts.iter().map(Receipt::rows).sum::<u64>()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let fate = match *self.fate.get_mut() {
            0 if *self.moved.get_mut() => Fate::Abandoned,
            rank => Fate::from_rank(rank),
        };
        self.parts.drain(..).for_each(|part| part.settle(fate));
        let Some(account) = self.account.take().filter(|_| !*self.moved.get_mut()) else { return };
        if let Some(ack) = &self.ack
            && !fate.acknowledges()
            && account.gives_back()
        {
            ack.refuse();
        }
        // What an operator kept is in the log, if there is one.
        if fate == Fate::Abandoned && (self.logged || self.held && account.logs()) {
            if !self.held {
                account.hold(self.rows);
            }
            return;
        }
        account.settle(fate, self.rows, self.held);
    }
}

impl Receipt {
    pub fn new(account: Arc<dyn Account>, ack: Option<SourceAck>) -> Self {
        if let Some(ack) = &ack {
            ack.0.taken.store(true, Ordering::Release);
        }
        let mut entry = Entry::held(Some(account), 1, 0, Vec::new());
        (entry.ack, entry.held) = (ack, false);
        Receipt(Some(Arc::new(entry)))
    }

    /// A receipt that promises nothing, for rows that no one accounts for.
    pub fn none() -> Self {
        Receipt(None)
    }

    /// One promise for a result that several rows have a part in: all of them meet its fate.
    pub fn together(mut parts: Vec<Receipt>) -> Self {
        parts.retain(|part| !part.is_none());
        match parts.len() {
            0 | 1 => parts.pop().unwrap_or_default(),
            _ => Receipt(Some(Arc::new(Entry::held(None, 0, 0, parts)))),
        }
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    fn rows(&self) -> u64 {
        self.0.as_ref().map_or(0, |entry| entry.rows())
    }

    /// Says what became of the row here. The row's own fate is known when all clones have spoken.
    pub fn settle(mut self, fate: Fate) {
        if let Some(entry) = self.0.take() {
            entry.fate.fetch_max(fate as u8, Ordering::AcqRel);
        }
    }

    /// The account that tells of rows which failed, if there is one.
    pub(super) fn undertaker(&self) -> Option<Arc<dyn Account>> {
        let entry = self.0.as_ref()?;
        match &entry.account {
            Some(account) => Some(account.clone()).filter(|account| account.buries()),
            None => entry.parts.iter().find_map(Receipt::undertaker),
        }
    }

    /// The same promise, whose fate is told to that account too, as the fate of one row.
    pub fn told_to(self, account: Arc<dyn Account>) -> Receipt {
        let mut entry = Entry::held(Some(account), 1, 0, if self.is_none() { Vec::new() } else { vec![self] });
        entry.held = false;
        Receipt(Some(Arc::new(entry)))
    }

    /// The rule's input log answers for the row from here on: the source may forget it, and the account goes on. To be
    /// called before the receipt is cloned.
    pub fn log(&mut self) {
        if let Some(entry) = self.0.as_mut().and_then(Arc::get_mut) {
            entry.ack = None;
            entry.logged = true;
        }
    }

    /// An operator keeps the row: the source may forget it, and the account counts it as held until the returned
    /// promise is released.
    pub fn hold(mut self) -> Held {
        let mut held = Held::default();
        match self.0.take().map(Arc::try_unwrap) {
            None => {}
            // Another result has had its say about the row, so it cannot be turned into a mere count.
            Some(Ok(entry)) if entry.fate.load(Ordering::Acquire) != 0 => {
                held.shared.push(Receipt(Some(Arc::new(entry))))
            }
            Some(Ok(mut entry)) => {
                if let Some(account) = entry.account.take() {
                    if !entry.held {
                        account.hold(entry.rows);
                    }
                    held.rows = entry.rows;
                    held.account = Some(account);
                }
                held.shared.append(&mut entry.parts);
            }
            // Another result has a part in the row.
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
    /// Rows that some result has a part in besides.
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
        self.rows + self.shared.iter().map(Receipt::rows).sum::<u64>()
    }

    /// The rows go on, as parts of one result that decides their fate. They stay counted as held until then.
    pub fn release(mut self) -> Receipt {
        let parts = std::mem::take(&mut self.shared);
        let account = self.account.take();
        if account.is_none() && parts.is_empty() {
            return Receipt::none();
        }
        Receipt(Some(Arc::new(Entry::held(account, self.rows, 0, parts))))
    }

    /// Lets one result have a part in the rows, which are kept for others. Their fate is known when all parts have
    /// spoken and the keeper too.
    pub fn part(&mut self) -> Receipt {
        if self.account.is_some() || self.shared.len() > 1 {
            let all = std::mem::take(self).release();
            self.shared.push(all);
        }
        self.shared.first().cloned().unwrap_or_default()
    }

    /// The state that holds the rows was saved and is taken up elsewhere, where they are held again. What the results
    /// that have a part in them come to after that no longer counts.
    pub fn forget(mut self) {
        if let Some(account) = self.account.take() {
            account.unhold(self.rows);
        }
        for mut receipt in self.shared.drain(..) {
            match receipt.0.take() {
                Some(entry) if entry.held => {
                    if let Some(account) = &entry.account
                        && !entry.moved.swap(true, Ordering::AcqRel)
                    {
                        account.unhold(entry.rows);
                    }
                }
                entry => Receipt(entry).settle(Fate::Abandoned),
            }
        }
    }

    /// All rows meet the same fate here.
    pub fn settle(self, fate: Fate) {
        self.release().settle(fate);
    }

    /// The rows are kept no longer. Those that no result had a part in meet this fate; the others that which their
    /// results say.
    pub fn discard(mut self, fate: Fate) {
        for receipt in std::mem::take(&mut self.shared) {
            let kept = receipt.0.as_ref().is_some_and(|entry| entry.held);
            receipt.settle(if kept { Fate::Filtered } else { fate });
        }
        self.settle(fate);
    }

    /// A promise for rows that a snapshot says were held; they are counted as held again.
    pub fn restored(account: Arc<dyn Account>, rows: u64) -> Held {
        account.hold(rows);
        Held { account: Some(account), rows, shared: Vec::new() }
    }

    /// How many rows there are, and what is known of those that results had a part in.
    pub fn save(&self) -> Value {
        if self.shared.is_empty() {
            return Value::Int(self.rows.cast_signed());
        }
        let mut all = vec![Value::Int(self.rows.cast_signed())];
        for entry in self.shared.iter().filter_map(|receipt| receipt.0.as_ref()) {
            let fate = entry.fate.load(Ordering::Acquire).max(Fate::Filtered as u8);
            all.extend([Value::Int(entry.rows().cast_signed()), Value::Int(i64::from(fate))]);
        }
        Value::array(all)
    }

    /// The promise that was saved; its rows are counted as held again. `None` when it is no saved promise.
    pub fn load(saved: &Value, account: &Arc<dyn Account>) -> Option<Held> {
        let count = |value: &Value| if let Value::Int(n) = value { u64::try_from(*n).ok() } else { None };
        let Value::Array(all) = saved else { return Some(Held::restored(account.clone(), count(saved)?)) };
        let (rows, shared) = all.split_first()?;
        let mut held = Held::default();
        match count(rows)? {
            0 => {}
            rows => held = Held::restored(account.clone(), rows),
        }
        for pair in shared.chunks(2) {
            let [rows, fate] = pair else { return None };
            let (rows, fate) = (count(rows)?, u8::try_from(count(fate)?).ok()?);
            account.hold(rows);
            let entry = Entry::held(Some(account.clone()), rows, fate, Vec::new());
            held.shared.push(Receipt(Some(Arc::new(entry))));
        }
        Some(held)
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

    #[test]
    fn rows_in_several_results_meet_the_greatest_fate_when_the_last_is_done() {
        let book = Arc::new(Book::default());
        let mut held = Receipt::new(book.clone(), None).hold();
        held.merge(Receipt::new(book.clone(), None).hold());
        let (first, second) = (held.part(), held.part());
        first.settle(Fate::Out);
        second.settle(Fate::Filtered);
        assert!(book.0.lock().unwrap().is_empty());
        held.discard(Fate::DroppedStop);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 2, true)]);
    }

    #[test]
    fn the_rows_of_a_joined_result_share_its_fate() {
        let book = Arc::new(Book::default());
        let (left, right) = (Receipt::new(book.clone(), None), Receipt::new(book.clone(), None));
        let alone = Receipt::new(book.clone(), None);
        let first = Receipt::together(vec![left.clone(), right.clone(), Receipt::none()]);
        let second = Receipt::together(vec![left.clone(), alone.clone()]);
        [left, right, alone].into_iter().for_each(|receipt| receipt.settle(Fate::Filtered));
        assert!(book.0.lock().unwrap().is_empty());
        first.settle(Fate::Out);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, false)]);
        second.settle(Fate::Filtered);
        let mut fates = book.0.lock().unwrap().clone();
        fates.sort();
        assert_eq!(fates, [(Fate::Filtered, 1, false), (Fate::Out, 1, false), (Fate::Out, 1, false)]);
    }

    #[test]
    fn rows_that_no_result_had_a_part_in_meet_the_fate_of_the_keeper() {
        let book = Arc::new(Book::default());
        Receipt::new(book.clone(), None).hold().discard(Fate::DroppedStop);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::DroppedStop, 1, true)]);
    }

    #[test]
    fn a_row_that_was_logged_is_acknowledged_and_held_when_it_is_given_up() {
        let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
        let mut receipt = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 3)));
        receipt.log();
        assert_eq!(*acks.0.lock().unwrap(), [(3, true)]);
        receipt.settle(Fate::Abandoned);
        assert_eq!((book.0.lock().unwrap().len(), *book.1.lock().unwrap()), (0, 1));
        let mut other = Receipt::new(book.clone(), None);
        other.log();
        other.settle(Fate::Out);
        assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, false)]);
    }

    #[test]
    fn what_is_known_of_rows_survives_a_save() {
        let book = Arc::new(Book::default());
        let account: Arc<dyn Account> = book.clone();
        let mut held = Receipt::new(account.clone(), None).hold();
        held.part().settle(Fate::Out);
        let late = held.part();
        held.merge(Receipt::new(account.clone(), None).hold());
        let saved = held.save();
        held.forget();
        assert_eq!(*book.1.lock().unwrap(), 0);
        // It is on its way still, but the rows are accounted for by whoever took them up.
        late.settle(Fate::DeadEval);
        assert!(book.0.lock().unwrap().is_empty());
        let held = Held::load(&saved, &account).unwrap();
        assert_eq!((held.rows(), *book.1.lock().unwrap()), (2, 2));
        held.discard(Fate::DroppedStop);
        let mut fates = book.0.lock().unwrap().clone();
        fates.sort();
        assert_eq!(fates, [(Fate::Out, 1, true), (Fate::DroppedStop, 1, true)]);
    }
}
