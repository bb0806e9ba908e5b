use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

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

    /// The page of the account that is written now; each snapshot of the rule begins a new one.
    fn page(&self) -> u32 {
        0
    }

    /// [`Account::settle`] for rows of a page: those of pages before have no part in what is done again after a crash.
    fn settle_on(&self, _page: u32, fate: Fate, rows: u64, held: bool) {
        self.settle(fate, rows, held);
    }

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
    /// Of the account: that on which the call of the chain stands which decides the fate.
    page: AtomicU32,
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
        let page = account.as_ref().map_or(0, |account| account.page()).into();
        let (fate, moved) = (AtomicU8::new(fate), AtomicBool::new(false));
        Entry { account, ack: None, rows, held: true, page, fate, parts, moved, logged: false }
    }

    fn rows(&self) -> u64 {
        self.rows + self.parts.iter().map(Receipt::rows).sum::<u64>()
    }

    /// A snapshot is being taken of who keeps the rows: what becomes of them stands on the next page.
    fn turn(&self) {
        if let Some(account) = &self.account {
            self.page.store(account.page().wrapping_add(1), Ordering::Release);
        }
        self.parts.iter().filter_map(|part| part.0.as_ref()).for_each(|part| part.turn());
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
        account.settle_on(*self.page.get_mut(), fate, self.rows, self.held);
    }
}

impl Receipt {
    pub fn new(account: Arc<dyn Account>, ack: Option<SourceAck>) -> Self {
        if let Some(ack) = &ack {
            ack.0.taken.store(true, Ordering::Release);
        }
        let mut entry = Entry::held(None, 1, 0, Vec::new());
        (entry.account, entry.ack, entry.held) = (Some(account), ack, false);
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
        self.turn();
    }

    /// The row counts on the page of the account that is written now. To be called before the receipt is cloned.
    pub fn turn(&mut self) {
        if let Some(entry) = self.0.as_mut().and_then(Arc::get_mut) {
            *entry.page.get_mut() = entry.account.as_ref().map_or(0, |account| account.page());
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
            entry.turn();
            // A result that is on its way will be confirmed: only then is what is saved here believed.
            let fate = match entry.fate.load(Ordering::Acquire) {
                0 => Fate::Out as u8,
                known => known,
            };
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
mod tests;
