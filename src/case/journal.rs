//! What a crash leaves of a rule of a case.
//!
//! Of a rule with state, at `qos` 1 and 2, there are the snapshot and the input log, with the very records that
//! production writes, but in memory: [`Journal`]. Of one without, at `qos` 1, the source gives again what it was not
//! told to forget: [`Given`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::data::{Acknowledge, Batch, Object, SourceAck, Time, Value, pack};
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
        pack::take(&mut self.state.as_slice())
    }
}

impl Journal {
    pub fn new(now: Time, interval: Duration) -> Self {
        Journal { began: now, snapshot: None, log: Vec::new(), interval, due: now + interval }
    }

    pub fn push(&mut self, source: usize, now: Time, batch: &Batch) {
        self.log.push(record::push(source, now, batch, None));
    }

    pub fn tick(&mut self, now: Time) {
        self.log.push(record::tick(now));
    }

    pub fn answer(&mut self, now: Time, rows: &Result<Vec<Vec<Object>>>) {
        self.log.push(record::answer(now, rows));
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
    pub fn keep(&mut self, chain: &Chain, ledger: LedgerView, given: Vec<u64>) {
        let mut state = Vec::new();
        pack::put(&mut state, &chain.save());
        self.snapshot = Some(Snapshot { state, ledger, given });
        self.log.clear();
    }

    /// Does one call of the log again.
    pub fn again(&self, record: usize, chain: &mut Chain, book: &Arc<Book>, out: &mut Vec<Batch>) -> Result<()> {
        let body = self.log.get(record).ok_or_else(|| Fault::bug("there is no such record"))?;
        match record::read(body, &book.account())? {
            Record::Push { source, now, batch } => {
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

/// Messages that the source was not told to forget yet, each with the place of its source.
#[derive(Default)]
pub(super) struct Given(Vec<(usize, Input, Arc<Mark>)>);

#[derive(Default)]
struct Mark(AtomicBool);

impl Acknowledge for Mark {
    fn done(&self, _: u64, good: bool) {
        self.0.store(good, Ordering::Release);
    }
}

impl Given {
    /// A message is given; the source is told through the promise.
    pub fn give(&mut self, source: usize, input: &Input) -> SourceAck {
        self.0.retain(|(.., mark)| !mark.0.load(Ordering::Acquire));
        let mark = Arc::<Mark>::default();
        self.0.push((source, input.clone(), mark.clone()));
        SourceAck::new(mark, 0)
    }

    /// What is to be given again, in order.
    pub fn take(&mut self) -> Vec<(usize, Input)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.filter(|(.., mark)| !mark.0.load(Ordering::Acquire)).map(|(source, input, _)| (source, input)).collect()
    }
}
