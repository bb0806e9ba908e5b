//! What a crash leaves of a rule of a case.
//!
//! Of a rule with state, at `qos` 1 and 2, there are the snapshot and the input log, with the very records that
//! production writes, but in memory: [`Journal`]. Of one without, at `qos` 1, the source gives again what
//! not all sinks have: [`Given`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Time, Value, pack};
use crate::diag::{Fault, Result};
use crate::flow::{Book, Chain, Record, record};
use crate::meter::LedgerView;

use super::rule::Input;

/// The journal of a rule that runs.
pub(super) struct Journal {
    /// When the chain was made that the log begins with.
    pub began: Time,
    pub snapshot: Option<Snapshot>,
    /// The calls of the chain since.
    pub log: Vec<Vec<u8>>,
    /// Zero: snapshots are taken at stops only.
    interval: Duration,
    due: Time,
}

/// All that a rule knew at one moment, when its sinks had everything that came before.
pub(super) struct Snapshot {
    state: Vec<u8>,
    pub ledger: LedgerView,
    /// How many results each sink had been given.
    pub given: Vec<u64>,
}

impl Snapshot {
    /// The state for [`Chain::load`].
    pub fn state(&self) -> Result<Value> {
        pack::take_state(&mut self.state.as_slice())
    }
}

impl Journal {
    pub fn new(now: Time, interval: Duration) -> Self {
        Journal { began: now, snapshot: None, log: Vec::new(), interval, due: now + interval }
    }

    pub fn push(&mut self, source: usize, now: Time, batch: &Batch) -> Result<()> {
        self.log.push(record::push(source, now, batch, None)?);
        Ok(())
    }

    pub fn tick(&mut self, now: Time) {
        self.log.push(record::tick(now));
    }

    pub fn answer(&mut self, now: Time, rows: &Result<Vec<Vec<Object>>>) -> Result<()> {
        self.log.push(record::answer(now, rows)?);
        Ok(())
    }

    pub fn ended(&mut self, source: usize, now: Time) {
        self.log.push(record::ended(source, now));
    }

    pub fn finish(&mut self, now: Time) {
        self.log.push(record::finish(now));
    }

    /// Whether the time for a snapshot has come by now; the next is an interval later.
    pub fn is_due(&mut self, now: Time) -> bool {
        let due = !self.interval.is_zero() && self.due <= now;
        while due && self.due <= now {
            self.due = self.due + self.interval;
        }
        due
    }

    /// Takes a snapshot, which stands in for the log up to here.
    pub fn keep(&mut self, chain: &Chain, ledger: LedgerView, given: Vec<u64>) -> Result<()> {
        let mut state = Vec::new();
        pack::put_state(&mut state, &chain.save())?;
        self.snapshot = Some(Snapshot { state, ledger, given });
        self.log.clear();
        Ok(())
    }

    /// Does one call of the log again.
    pub fn again(&self, record: usize, chain: &mut Chain, book: &Arc<Book>, out: &mut Vec<Batch>) -> Result<()> {
        let body = self.log.get(record).ok_or_else(|| Fault::bug("there is no such record"))?;
        match record::read(body, &book.account())? {
            Record::Push { source, now, batch, .. } => {
                book.ledger.came(record::recount(&batch, &book.account()));
                chain.push(source, batch, now, out)
            }
            Record::Tick(now) => chain.tick(now, out),
            Record::Answer { now, rows } => match chain.asks() {
                Some(ask) => chain.answer(&ask, rows, now, out),
                None => Err(Fault::bug("an answer of the log that nothing asks for")),
            },
            Record::Ended { source, now } => chain.ended(source, now, out),
            Record::Finish(now) => chain.finish(now, out),
            Record::Remark => Ok(()),
        }
    }
}

/// Messages that the source may not forget yet, each with the place of its source.
#[derive(Default)]
pub(super) struct Given(Vec<(usize, Input, Arc<Promise>)>);

/// The account of the rows of one message, which knows when the source may forget it. What a sink keeps while it is away
/// counts as held, and is not confirmed.
struct Promise {
    book: Arc<Book>,
    /// Rows without a fate.
    open: AtomicU64,
}

impl Account for Promise {
    fn settle(&self, fate: Fate, rows: u64, held: bool) {
        if fate.acknowledges() {
            self.open.fetch_sub(rows, Ordering::AcqRel);
        }
        self.book.settle(fate, rows, held);
    }

    fn hold(&self, rows: u64) {
        self.book.hold(rows);
    }

    fn unhold(&self, rows: u64) {
        self.book.unhold(rows);
    }
}

impl Given {
    /// A message is given, of which so many rows came; gives the account for them.
    pub fn give(&mut self, source: usize, input: &Input, rows: u64, book: &Arc<Book>) -> Arc<dyn Account> {
        self.0.retain(|(.., promise)| promise.open.load(Ordering::Acquire) > 0);
        let promise = Arc::new(Promise { book: book.clone(), open: AtomicU64::new(rows) });
        self.0.push((source, input.clone(), promise.clone()));
        promise
    }

    /// What is to be given again, in order.
    pub fn take(&mut self) -> Vec<(usize, Input)> {
        let open = |promise: &Promise| promise.open.load(Ordering::Acquire) > 0;
        let all = std::mem::take(&mut self.0).into_iter().filter(|(.., promise)| open(promise));
        all.map(|(source, input, _)| (source, input)).collect()
    }
}
