//! The journal of a rule whose operators keep state: an input log and snapshots, so that a crash loses nothing.
//!
//! Each call of the chain is a [`record`] in the log, in order; rows are on the disk before they are pushed, and their
//! source is acknowledged then. A chain is deterministic: the newest snapshot, and the calls since, give the same state
//! and the same results again. The log also says how many result rows each sink has confirmed, and a replay does not
//! give it those. A snapshot counts only when all results that came before it are confirmed; until then the one before
//! stands, with the log. Where the state is large and the log since the last snapshot is the smaller of the two, the log
//! is the increment, and no new snapshot is written.
//!
//! Invariant: what the log has is acknowledged or given again; what a snapshot says is confirmed is confirmed.

mod anchor;
mod known;
mod open;
pub mod record;
mod state;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::{Clock, Time};
use crate::data::{Account, Batch, Receipt, Value, pack};
use crate::diag::{Fault, Result};
use crate::meter::{LedgerView, SinkAccount, SinkView};
use crate::store::{Log, Reader, Snapshots};

use super::book::Book;
use super::dead::Route;
use super::feed::Fed;
use known::Known;
use record::SinkCount;
use state::State;

pub use anchor::Anchor;
pub use open::{JournalSpec, Opened};

/// A state that is larger than this is not written again as long as the log since is smaller than it.
const LARGE: u64 = 4 << 20;
/// With more of a log than this since the last snapshot the next one is not waited for.
const LONG: u64 = 32 << 20;
/// Records of one turn of a replay, in bytes, about.
const TURN: usize = 1 << 20;
/// How soon a snapshot that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(10);
const NO_LOG: &str = "the input log cannot be written: ";
/// How soon what sinks have confirmed is noted when nothing else is written.
pub const SOON: Duration = Duration::from_millis(100);

/// What the status of a rule shows of its journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalView {
    /// What the log takes on the disk, in bytes.
    pub log_bytes: u64,
    /// When the last snapshot was taken; `Time(0)`: not in this run.
    pub snapshot: Time,
    /// How large it is, in bytes.
    pub snapshot_bytes: u64,
    /// How long the rule took for saving the last state; it is written while the rule goes on.
    pub snapshot_pause: Duration,
    /// Why nothing can be written just now; the rule waits meanwhile.
    pub trouble: String,
    /// What could not be taken up at the start.
    pub warnings: Vec<String>,
}

/// The view, shared with whoever asks.
pub type Glass = Arc<Mutex<JournalView>>;

/// What is known of one sink.
struct Port {
    name: String,
    anchor: Arc<Anchor>,
    account: Option<Arc<SinkAccount>>,
    /// The account before this run.
    restored: SinkView,
    /// Result rows that it had confirmed before this run, counted since the journal began.
    before: u64,
    /// Result rows that were given to it or left out, counted since the journal began.
    given: u64,
    /// Result rows of a replay that it has.
    skip: u64,
}

impl Port {
    fn confirmed(&self) -> u64 {
        self.before + self.anchor.rows()
    }
}

/// A snapshot whose results are not all confirmed yet.
struct Pending {
    sequence: u64,
    /// What each sink has to confirm, in rows since the journal began.
    given: Vec<u64>,
    /// Dead letters that had been made.
    letters: u64,
    state: State,
}

/// The journal of a rule that runs.
pub struct Journal {
    folder: PathBuf,
    /// None while a call that blocks has it.
    log: Option<Log>,
    clock: Clock,
    interval: Duration,
    plan: String,
    does: Vec<String>,
    book: Arc<Book>,
    ports: Vec<Port>,
    /// What the log says last of the sinks.
    noted: Vec<SinkCount>,
    /// For each source.
    known: Vec<Known>,
    /// For each source where it stands, if it can seek.
    positions: Vec<Option<Value>>,
    /// Where sources stand behind what is not on the disk yet.
    ahead: Vec<(usize, Value)>,
    /// Something was appended that is not on the disk.
    dirty: bool,
    pending: Option<Pending>,
    writing: Option<JoinHandle<Result<Written>>>,
    /// The sequence of the last snapshot, and its length.
    last: (u64, u64),
    /// Bytes of the log since.
    since: u64,
    /// Calls of the chain since.
    calls: u64,
    /// So many of the bytes came before the snapshot that is pending or being written.
    cut: u64,
    /// When the next snapshot is to be taken.
    due: Time,
    /// What is to be replayed, and the pushes that are not.
    replay: Option<(Reader, HashSet<u64>)>,
    /// Where the log says last what the sinks have confirmed: results without rows before it are not given again.
    quiet: u64,
    /// What is being replayed.
    at: u64,
    /// Calls that broke the rule: how often, and the last time in which step.
    broke: HashMap<u64, (u32, usize)>,
    /// The call that is under way.
    pub doing: Option<u64>,
    /// A push was given up half-way, so that the state of the chain is none to be saved.
    pub is_partial: bool,
    pub glass: Glass,
    /// As long as it lives no one else opens the journal.
    lease: Arc<dyn Any + Send + Sync>,
}

/// Fails the rows of a batch with values that are nested more deeply than the log can keep.
fn fail_deep(batch: &mut Batch) {
    let mut left = Vec::new();
    for row in batch.selected().to_vec() {
        let at = row as usize;
        let meta = batch.meta(at).cloned().map_or(Value::Null, Value::Object);
        if batch.row(at).iter().all(pack::fits) && pack::fits(&meta) {
            left.push(row);
        } else {
            // It counts with the record, which says it too.
            batch.receipt_mut(at).turn();
            batch.fail(at, pack::too_deep());
        }
    }
    batch.select(left);
}

/// A snapshot that was written.
struct Written {
    sequence: u64,
    bytes: u64,
    /// The oldest that is kept.
    oldest: u64,
}

impl Journal {
    fn append(&mut self, body: &[u8]) -> Result<u64> {
        let log = self.log.as_mut().ok_or_else(|| Fault::bug("the input log is in use"))?;
        self.dirty = true;
        self.since += body.len() as u64;
        log.append(body)
    }

    /// Does something with the log that blocks.
    async fn on_log<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Log) -> T + Send + 'static) -> Result<T> {
        let mut log = self.log.take().ok_or_else(|| Fault::bug("the input log is in use"))?;
        // It goes on when the task is given up, and the log is in use until it has ended.
        let lease = self.lease.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut log);
            drop(lease);
            (log, done)
        });
        let (log, done) = done.await.map_err(|_| Fault::bug("writing the input log panicked"))?;
        self.log = Some(log);
        Ok(done)
    }

    /// Takes out the rows that the log has already, and appends the rest; nothing where nothing is left.
    pub fn push(&mut self, fed: &mut Fed, now: Time) -> Result<Option<u64>> {
        if fed.source >= self.known.len() {
            self.known.resize_with(fed.source + 1, Known::default);
        }
        self.known[fed.source].take_out(&mut fed.batch);
        if fed.batch.is_empty() && fed.position.is_none() && fed.missed.is_empty() {
            return Ok(None);
        }
        let mut body = match record::push(fed.source, now, &fed.batch, fed.position.as_ref()) {
            Ok(body) => body,
            Err(_) => {
                fail_deep(&mut fed.batch);
                record::push(fed.source, now, &fed.batch, fed.position.as_ref())?
            }
        };
        record::put_missed(&mut body, &fed.missed);
        self.ahead.extend(fed.position.take().map(|position| (fed.source, position)));
        self.calls += 1;
        self.append(&body).map(Some)
    }

    /// What was pushed since the last time is on the disk.
    pub fn kept(&mut self) {
        self.known.iter_mut().for_each(Known::keep);
        for (source, position) in self.ahead.drain(..) {
            if source >= self.positions.len() {
                self.positions.resize(source + 1, None);
            }
            self.positions[source] = Some(position);
        }
    }

    /// What was pushed since the last time goes back to the sources: should the disk have it after all, it is not to be
    /// done again.
    pub fn give_back(&mut self, numbers: impl Iterator<Item = u64>) -> Result<()> {
        self.known.iter_mut().for_each(Known::give_back);
        self.ahead.clear();
        for number in numbers {
            self.note(&record::skip(number))?;
        }
        Ok(())
    }

    /// The call that is under way broke the rule, in that step or behind it: it is not done again as it was.
    pub fn broke(&mut self, step: usize) -> Result<()> {
        match self.doing.take() {
            Some(number) => self.note(&record::broke(number, step)).map(drop),
            None => Ok(()),
        }
    }

    /// How often the call that is being replayed has broken the rule, and the last time in which step.
    pub fn broken(&self) -> Option<(u32, usize)> {
        self.broke.get(&self.at).copied()
    }

    /// Something is not as it was before the start.
    pub fn warn(&self, text: String) {
        self.glass.lock().unwrap_or_else(PoisonError::into_inner).warnings.push(text);
    }

    pub fn tick(&mut self, now: Time) -> Result<u64> {
        self.calls += 1;
        self.append(&record::tick(now))
    }

    /// A call of another kind.
    pub fn note(&mut self, body: &[u8]) -> Result<u64> {
        self.calls += 1;
        self.append(body)
    }

    /// Brings everything to the disk, with what the sinks have confirmed by now. To be called again after a fault.
    pub async fn sync(&mut self) -> Result<()> {
        let counts = self.counts();
        if counts != self.noted {
            self.append(&record::counts(&counts)?)?;
            self.noted = counts;
        }
        if !self.dirty {
            return Ok(());
        }
        let (done, bytes) = self.on_log(|log| (log.sync(), log.bytes())).await?;
        let mut glass = self.glass.lock().unwrap_or_else(PoisonError::into_inner);
        glass.log_bytes = bytes;
        match done {
            Ok(()) => {
                self.dirty = false;
                if glass.trouble.starts_with(NO_LOG) {
                    glass.trouble.clear();
                }
                Ok(())
            }
            Err(fault) => {
                glass.trouble = format!("{NO_LOG}{fault}");
                Err(fault)
            }
        }
    }

    fn counts(&self) -> Vec<SinkCount> {
        let count = |port: &Port| {
            let (confirmed, position, at) = port.anchor.confirmed();
            let view = at.or_else(|| port.account.as_ref().map(|account| account.view())).unwrap_or_default();
            SinkCount { name: port.name.clone(), confirmed: port.before + confirmed, position, view }
        };
        // What changes with each result and says nothing of what is settled is left out.
        let settled = |mut count: SinkCount| {
            count.view.results = 0;
            count.view.queued = 0;
            count
        };
        self.ports.iter().map(count).map(settled).collect()
    }

    /// What the accounts of the sinks go on from.
    pub fn carried(&self) -> BTreeMap<String, SinkView> {
        self.ports.iter().map(|port| (port.name.clone(), port.restored.settled())).collect()
    }

    /// Where the task gives what leaves the chain: each sink, in order.
    pub fn set_sinks(&mut self, accounts: impl Iterator<Item = Arc<SinkAccount>>) {
        for (port, account) in self.ports.iter_mut().zip(accounts) {
            port.account = Some(account);
        }
        self.noted = self.counts();
    }

    /// So many result rows go to a sink; gives how many of them it has already, and whether it is to have anything.
    pub fn give(&mut self, sink: usize, rows: u64) -> (u64, bool) {
        let before_quiet = self.replay.is_some() && self.at <= self.quiet;
        let Some(port) = self.ports.get_mut(sink) else { return (0, true) };
        port.given += rows;
        let skipped = port.skip.min(rows);
        port.skip -= skipped;
        let wanted = if rows == 0 { !before_quiet } else { skipped < rows };
        (skipped, wanted)
    }

    /// Where the outlet of a sink says how far it has come.
    pub fn anchor(&self, sink: usize) -> Option<Arc<Anchor>> {
        self.ports.get(sink).map(|port| port.anchor.clone())
    }

    /// Lets the journal hear what becomes of a result row at a sink.
    pub fn told(&self, sink: usize, receipt: Receipt) -> Receipt {
        match self.ports.get(sink) {
            Some(port) => receipt.told_to(port.anchor.clone()),
            None => receipt,
        }
    }

    /// What is to be replayed next; nothing when all was.
    pub async fn next(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        let Some((mut reader, skipped)) = self.replay.take() else { return Ok(Vec::new()) };
        let read = tokio::task::spawn_blocking(move || {
            let (mut records, mut bytes) = (Vec::new(), 0);
            let result = loop {
                match reader.next() {
                    Ok(Some((sequence, body))) => {
                        bytes += body.len();
                        if !skipped.contains(&sequence) {
                            records.push((sequence, body));
                        }
                        if bytes > TURN {
                            break Ok(());
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(fault) => break Err(fault),
                }
            };
            (reader, skipped, result.map(|()| (records, bytes > 0)))
        });
        let (reader, skipped, records) = read.await.map_err(|_| Fault::bug("reading the input log panicked"))?;
        let (records, more) = records?;
        if more {
            self.replay = Some((reader, skipped));
            // All of this turn were not to be done again.
            if records.is_empty() {
                return Box::pin(self.next()).await;
            }
        }
        Ok(records)
    }

    /// The record of that number is replayed now.
    pub fn replaying(&mut self, sequence: u64) {
        (self.at, self.doing) = (sequence, Some(sequence));
    }

    /// Whether all that the log had was replayed.
    pub fn is_live(&self) -> bool {
        self.replay.is_none()
    }

    /// All is replayed; gives how many result rows sinks had that did not come again.
    pub fn live(&mut self) -> u64 {
        self.replay = None;
        self.ports.iter_mut().map(|port| std::mem::take(&mut port.skip)).sum()
    }

    pub fn account(&self) -> Arc<dyn Account> {
        self.book.account()
    }

    pub fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Returns when there is something to keep: a snapshot that is due or written, results that were confirmed.
    /// Cancelled, it has done nothing.
    pub async fn wake(&self) {
        let waits =
            self.writing.is_some() || self.pending.is_some() || self.unconfirmed() || self.counts() != self.noted;
        let due = async {
            if self.interval.is_zero() || self.pending.is_some() || self.writing.is_some() {
                std::future::pending::<()>().await;
            }
            self.clock.sleep_until(self.due).await;
        };
        tokio::select! {
            () = due => {}
            () = tokio::time::sleep(SOON), if waits => {}
        }
    }

    fn unconfirmed(&self) -> bool {
        self.ports.iter().zip(&self.noted).any(|(port, noted)| port.given > noted.confirmed)
    }

    /// Whether there is something to do that does not wait for a pause.
    pub fn is_due(&self) -> bool {
        let written = self.writing.as_ref().is_some_and(JoinHandle::is_finished);
        written || self.wants_snapshot() || (self.pending.is_some() && self.is_confirmed())
    }

    /// Whether a snapshot is to be taken now: it is time, or the log is long.
    pub fn wants_snapshot(&self) -> bool {
        if self.pending.is_some() || self.writing.is_some() {
            return false;
        }
        let due = !self.interval.is_zero() && self.clock.now() >= self.due;
        due || self.since > LONG.max(self.last.1)
    }

    /// Whether nothing has happened since the journal was opened or saved.
    pub fn is_untouched(&self) -> bool {
        self.calls == 0 && self.pending.is_none() && self.writing.is_none() && self.counts() == self.noted
    }

    /// Whether the log is the smaller increment, or nothing has happened; then the next time for a snapshot is set too.
    pub fn is_increment(&mut self) -> bool {
        self.due = self.clock.now() + self.interval;
        self.calls == 0 || (self.last.1 > LARGE && self.since < self.last.1)
    }

    /// Takes note of a state that the chain saved just now.
    pub fn set_state(&mut self, ops: Vec<(String, Value)>) {
        let sequence = self.log.as_ref().map_or(0, Log::next);
        (self.calls, self.cut) = (0, self.since);
        let kept = |((name, state), does): ((String, _), &String)| state::Kept { name, does: does.clone(), state };
        self.book.turn();
        let state = State {
            plan: self.plan.clone(),
            ops: ops.into_iter().zip(&self.does).map(kept).collect(),
            sinks: Vec::new(),
            positions: self.positions.clone(),
            ledger: LedgerView::default(),
            known: self.known.iter().map(Known::all).collect(),
        };
        let given = self.ports.iter().map(|port| port.given).collect();
        let letters = self.book.dead.as_ref().map_or(0, Route::made);
        self.pending = Some(Pending { sequence, given, letters, state });
    }

    /// Takes note of how long saving the last state held the rule up.
    pub fn held_up(&self, span: Duration) {
        self.glass.lock().unwrap_or_else(PoisonError::into_inner).snapshot_pause = span;
    }

    /// Whether all results that came before the pending snapshot are confirmed; also when there is none.
    pub fn is_confirmed(&self) -> bool {
        let Some(pending) = &self.pending else { return true };
        let told = self.book.dead.as_ref().is_none_or(|route| route.told() >= pending.letters);
        told && self.ports.iter().zip(&pending.given).all(|(port, given)| port.confirmed() >= *given)
    }

    /// Begins to write the pending snapshot if it counts by now. The log must be on the disk.
    pub fn begin_writing(&mut self) {
        let Some(pending) = &self.pending else { return };
        // What the sinks have confirmed must be noted, for the snapshot says no more than that.
        let is_noted = self.noted.iter().zip(&pending.given).all(|(noted, given)| noted.confirmed >= *given);
        if self.dirty || self.writing.is_some() || !is_noted || !self.is_confirmed() {
            return;
        }
        let Some(Pending { sequence, given, mut state, .. }) = self.pending.take() else { return };
        state.sinks = self.noted.iter().cloned().zip(given).collect();
        // Rows that were on their way have come to their ends.
        state.ledger = self.book.at_snapshot();
        let (folder, lease) = (self.folder.clone(), self.lease.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let pieces = state.pieces()?;
            let oldest = Snapshots::write(&folder, sequence, &pieces)?;
            drop(lease);
            let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
            Ok(Written { sequence, bytes, oldest })
        }));
    }

    /// Takes note of a snapshot that was written, and lets go of the log before the oldest that is kept. `wait` for it
    /// if it is not there yet.
    pub async fn end_writing(&mut self, wait: bool) -> Result<()> {
        if !self.writing.as_ref().is_some_and(|writing| wait || writing.is_finished()) {
            return Ok(());
        }
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let written = match writing.await {
            Ok(written) => written,
            Err(_) => Err(Fault::bug("writing a snapshot panicked")),
        };
        let written = written.inspect_err(|fault| {
            let mut glass = self.glass.lock().unwrap_or_else(PoisonError::into_inner);
            glass.trouble = format!("a snapshot cannot be written: {fault}");
            // It is tried again with the next state.
            (self.calls, self.due) = (self.calls + 1, self.clock.now() + AGAIN.min(self.interval));
        })?;
        self.last = (written.sequence, written.bytes);
        self.since = self.since.saturating_sub(self.cut);
        let bytes = self.on_log(move |log| log.drop_before(written.oldest).map(|_| log.bytes())).await??;
        let mut glass = self.glass.lock().unwrap_or_else(PoisonError::into_inner);
        (glass.snapshot, glass.snapshot_bytes, glass.log_bytes) = (self.clock.now(), written.bytes, bytes);
        glass.trouble.clear();
        Ok(())
    }

    /// The input has come to its end and every sink has its results: nothing is kept.
    pub async fn remove(self) -> Result<()> {
        let Journal { folder, log, writing, lease, .. } = self;
        if let Some(writing) = writing {
            let _ = writing.await;
        }
        let removed = tokio::task::spawn_blocking(move || {
            let removed = log.map_or(Ok(()), |mut log| open::clear(&mut log, &folder));
            drop(lease);
            removed
        });
        removed.await.map_err(|_| Fault::bug("removing the journal panicked"))?
    }
}
