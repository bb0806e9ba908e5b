//! The log of a stream that retains what is published to its topics.
//!
//! - A [`RetainedLog`] is a [`Log`] of records, each under a number of its own. Publishers that come at the same time
//!   share one write to the disk, and go on when it is done.
//! - It holds about so many records as its user wants, the newest; older ones go, a segment at a time.
//! - Its readers are known as long as they live: a publisher waits for one that is a whole log behind, and nothing goes
//!   that one has given out and that is not done with. Who was away longer than the log reaches back is told how many
//!   records are gone.
//! - It has an id, made by chance, which names its folder: after a change of the topics a stream has another log.
//!
//! Invariant: a reader that lives is given each record once, in order, and none that the disk has not confirmed.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Turns, oneshot, watch};

use crate::data::{Acknowledge, SourceAck};
use crate::diag::{Fault, Result};
use crate::io::{Retained, RetainedReader, Stretch};
use crate::store::{Bucket, LONGEST, Log, LogOptions, Reader, Store, Sync};

/// Records that are read in one turn, in bytes, about.
const TURN: usize = 1 << 20;

/// What is known of the log of a stream, beside the log.
#[derive(Serialize, Deserialize)]
struct About {
    id: String,
    datasource: String,
}

impl About {
    fn read(store: &Store, stream: &str) -> Result<Option<About>> {
        let text = store.get(Bucket::RETAINED, stream)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

/// The log of one stream.
pub struct RetainedLog {
    store: Arc<Store>,
    stream: String,
    datasource: String,
    id: String,
    /// One writes at a time, in the order in which they came.
    log: Arc<Turns<Log>>,
    state: Mutex<State>,
    /// The number after the last record that the disk has confirmed.
    end: watch::Sender<u64>,
    /// A reader has moved on, or gone.
    moved: watch::Sender<()>,
    /// No one needs it any more once its readers have gone.
    over: AtomicBool,
}

struct State {
    /// How many records it is to hold.
    rows: u64,
    /// The oldest record that is there.
    first: u64,
    /// Those that the next write takes along, in order.
    waiting: Vec<Waiting>,
    readers: HashMap<u64, Place>,
    last_reader: u64,
    /// How often something was written and taken back: what a reader had read ahead is none of the log.
    taken_back: u64,
}

/// Records of one publisher.
struct Waiting {
    records: Vec<Vec<u8>>,
    told: oneshot::Sender<Result<()>>,
}

/// How far a reader is.
struct Place {
    /// The number that it reads next.
    at: u64,
    /// The first numbers of what it gave out and who has it is not done with.
    given: BTreeSet<u64>,
}

impl Place {
    /// What comes before is not needed.
    fn floor(&self) -> u64 {
        self.given.first().copied().unwrap_or(self.at).min(self.at)
    }
}

impl RetainedLog {
    /// Opens the log of a stream, or begins one: where there is none, and where it is that of other topics. Blocks.
    pub fn open(store: &Arc<Store>, stream: &str, datasource: &str, rows: u64) -> Result<Arc<RetainedLog>> {
        let known = About::read(store, stream)?;
        let fits = |about: &About| about.datasource == datasource && store.retained(stream, &about.id).is_dir();
        let id = match known.filter(fits) {
            Some(about) => about.id,
            None => {
                let id = uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
                let about = About { id: id.clone(), datasource: datasource.to_owned() };
                let text = serde_json::to_string(&about).map_err(|error| Fault::bug(error.to_string()))?;
                store.put(Bucket::RETAINED, stream, &text)?;
                id
            }
        };
        let segment_bytes = rows.saturating_mul(64).clamp(16 << 10, 4 << 20);
        let options = LogOptions { segment_bytes, sync: Sync::Always };
        let (mut log, recovered) = Log::open(&store.retained(stream, &id), options)?;
        if !recovered.is_clean() {
            tracing::warn!(stream, "{recovered}");
        }
        // A reader is to be given only what a loss of power cannot take back.
        log.sync_now()?;
        let (readers, waiting) = (HashMap::new(), Vec::new());
        let state = State { rows: rows.max(1), first: log.first(), waiting, readers, last_reader: 0, taken_back: 0 };
        Ok(Arc::new(RetainedLog {
            store: store.clone(),
            stream: stream.to_owned(),
            datasource: datasource.to_owned(),
            id,
            end: watch::Sender::new(log.next()),
            log: Arc::new(Turns::new(log)),
            state: Mutex::new(state),
            moved: watch::Sender::new(()),
            over: AtomicBool::new(false),
        }))
    }

    /// The name of the log that a stream has.
    pub fn of(store: &Store, stream: &str) -> Result<Option<String>> {
        Ok(About::read(store, stream)?.map(|about| about.id))
    }

    /// The filter of the topics.
    pub fn datasource(&self) -> &str {
        &self.datasource
    }

    /// It is to hold so many records from now on.
    pub fn limit(&self, rows: u64) {
        self.state().rows = rows.max(1);
        self.moved.send_replace(());
    }

    /// The stream has no such log any more: the files go when the last reader has.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no reader is a whole log behind.
    fn has_room(&self) -> bool {
        let (end, state) = (*self.end.borrow(), self.state());
        state.readers.values().all(|place| end.saturating_sub(place.at) < state.rows)
    }

    /// Writes what waits. Blocks.
    fn write(&self, log: &mut Log) {
        let mut waiting = std::mem::take(&mut self.state().waiting);
        // Who has gone away meanwhile brings them again.
        waiting.retain(|one| !one.told.is_closed());
        if waiting.is_empty() {
            return;
        }
        let mut records = waiting.iter().flat_map(|one| &one.records);
        let written = records.try_for_each(|record| log.append(record).map(drop)).and_then(|()| log.sync());
        match &written {
            Ok(()) => drop(self.end.send_replace(log.next())),
            Err(_) => {
                log.discard();
                self.state().taken_back += 1;
            }
        }
        for one in waiting {
            // One that has gone in this moment brings them again, and they are there twice.
            let _ = one.told.send(written.clone());
        }
        self.shorten(log);
    }

    /// Throws away what is too old.
    fn shorten(&self, log: &mut Log) {
        let mut state = self.state();
        let needed = state.readers.values().map(Place::floor).min().unwrap_or(u64::MAX);
        let oldest = log.next().saturating_sub(state.rows).min(needed);
        if oldest <= state.first {
            return;
        }
        if let Err(fault) = log.drop_before(oldest) {
            tracing::warn!(stream = self.stream, "the space of a log cannot be given back: {fault}");
        }
        state.first = log.first();
    }
}

impl Drop for RetainedLog {
    fn drop(&mut self) {
        if *self.over.get_mut()
            && let Err(fault) = self.store.forget_retained(&self.stream, &self.id)
        {
            tracing::warn!(stream = self.stream, "{fault}");
        }
    }
}

#[async_trait::async_trait]
impl Retained for RetainedLog {
    fn id(&self) -> &str {
        &self.id
    }

    async fn keep(self: Arc<Self>, records: Vec<Vec<u8>>) -> Result<()> {
        if records.iter().any(|record| record.len() > LONGEST) {
            return Err(Fault::refused(format!("a row is longer than {LONGEST} bytes, and cannot be retained")));
        }
        let mut moved = self.moved.subscribe();
        while !self.has_room() {
            // The sender is in here.
            let _ = moved.changed().await;
        }
        let gone = |_| Fault::bug("the write to a log was given up");
        let (told, mut hears) = oneshot::channel();
        self.state().waiting.push(Waiting { records, told });
        let mut log = tokio::select! {
            biased;
            done = &mut hears => return done.map_err(gone)?,
            log = self.log.clone().lock_owned() => log,
        };
        match hears.try_recv() {
            Ok(done) => return done,
            Err(oneshot::error::TryRecvError::Closed) => return Err(Fault::bug("the write to a log was given up")),
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        let me = self.clone();
        // It goes on to its end also when this publisher is gone, for the others.
        let written = tokio::task::spawn_blocking(move || me.write(&mut log)).await;
        written.map_err(|_| Fault::bug("writing a log panicked"))?;
        hears.await.map_err(gone)?
    }

    fn reader(self: Arc<Self>) -> Box<dyn RetainedReader> {
        let end = self.end.subscribe();
        let (at, key) = {
            let mut state = self.state();
            let at = *end.borrow();
            state.last_reader += 1;
            let key = state.last_reader;
            state.readers.insert(key, Place { at, given: BTreeSet::new() });
            (at, key)
        };
        let hand = Arc::new(Hand { of: self, key });
        Box::new(LogReader { hand, at, from: None, taken_back: 0, end })
    }
}

/// What a reader holds in the log, as long as it lives.
struct Hand {
    of: Arc<RetainedLog>,
    key: u64,
}

impl Acknowledge for Hand {
    fn done(&self, first: u64, good: bool) {
        // What is given back is read again after the next start.
        if good && let Some(place) = self.of.state().readers.get_mut(&self.key) {
            place.given.remove(&first);
        }
    }
}

/// Reads a log from some record on.
struct LogReader {
    hand: Arc<Hand>,
    at: u64,
    from: Option<Reader>,
    /// As it was when that was opened.
    taken_back: u64,
    end: watch::Receiver<u64>,
}

impl LogReader {
    /// Reads what the disk has confirmed, at most so many records.
    async fn read(&mut self, end: u64, most: usize) -> Result<Stretch> {
        let of = self.hand.of.clone();
        let (oldest, taken_back) = {
            let state = of.state();
            (state.first, state.taken_back)
        };
        let first = self.at.max(oldest).min(end);
        let open = self.from.take().filter(|_| first == self.at && taken_back == self.taken_back);
        let reader = match open {
            Some(reader) => reader,
            None => of.log.lock().await.read(first)?,
        };
        self.taken_back = taken_back;
        let turn = tokio::task::spawn_blocking(move || turn(reader, first, end, most));
        let Turn { reader, records, at, damaged } = turn.await.map_err(|_| Fault::bug("reading a log panicked"))??;
        let missed = [("retention", first - self.at), ("damaged", damaged)].into_iter().filter(|(_, rows)| *rows > 0);
        let missed: BTreeMap<_, _> = missed.collect();
        (self.from, self.at) = (reader, at);
        let is_given = !records.is_empty();
        if let Some(place) = of.state().readers.get_mut(&self.hand.key) {
            place.at = at;
            if is_given {
                place.given.insert(first);
            }
        }
        of.moved.send_replace(());
        let ack = is_given.then(|| SourceAck::new(self.hand.clone(), first));
        Ok(Stretch { records, missed, ack })
    }
}

#[async_trait::async_trait]
impl RetainedReader for LogReader {
    fn bounds(&self) -> Range<u64> {
        self.hand.of.state().first..*self.end.borrow()
    }

    fn at(&self) -> u64 {
        self.at
    }

    fn go_to(&mut self, number: u64) {
        (self.at, self.from) = (number, None);
        if let Some(place) = self.hand.of.state().readers.get_mut(&self.hand.key) {
            place.at = number;
        }
        self.hand.of.moved.send_replace(());
    }

    async fn next(&mut self, most: usize) -> Result<Stretch> {
        loop {
            let end = *self.end.borrow_and_update();
            if self.at < end {
                return self.read(end, most).await;
            }
            // The sender is in the log, which is held here.
            let _ = self.end.changed().await;
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.hand.of.state().readers.remove(&self.hand.key);
        self.hand.of.moved.send_replace(());
    }
}

/// What one turn has read.
struct Turn {
    /// None where it has to be opened anew.
    reader: Option<Reader>,
    records: Vec<Vec<u8>>,
    at: u64,
    /// Records that cannot be read.
    damaged: u64,
}

/// Reads from one number to another, at most so many records. Blocks.
fn turn(reader: Reader, first: u64, end: u64, most: usize) -> Result<Turn> {
    let mut turn = Turn { reader: None, records: Vec::new(), at: first, damaged: 0 };
    let (mut reader, mut bytes) = (reader, 0);
    while turn.at < end && turn.records.len() < most && bytes < TURN {
        match reader.next() {
            Ok(Some((number, record))) if number < end => {
                turn.damaged += number - turn.at;
                turn.at = number + 1;
                bytes += record.len();
                turn.records.push(record);
            }
            Ok(_) => {
                turn.damaged += end - turn.at;
                turn.at = end;
                return Ok(turn);
            }
            Err(fault) if turn.records.is_empty() => return Err(fault),
            // It is met again by who reads on.
            Err(_) => return Ok(turn),
        }
    }
    turn.reader = Some(reader);
    Ok(turn)
}
