//! The disk queue of one sink: parcels that are to be delivered later, in order.
//!
//! - A [`Queue`] is a [`Log`] and the count of what is in it. Parcels come in by [`Queue::append`] and are there for good
//!   after [`Queue::commit`]; they are given out by [`Queue::take`], *fly*, and leave by [`Queue::finish`].
//! - What has left is noted in the log itself, every page, and by who owns the queue within [`NOTING`]: after a crash what
//!   had left since comes once more, and nothing is missing. The note says too how many rows were thrown away since the
//!   queue is there, so that they count once, whenever the account was stored.
//! - *Pages* count what waits, a few hundred parcels each, so that the memory it takes does not grow with the queue. What
//!   goes beyond its [`Limits`] is thrown away page by page, the oldest first; what flies is not touched.
//! - [`Queues`] knows all queues of a data folder; who opens one that is open already shares it.

mod frame;
mod kept;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::clock::{Stopwatch, Time};
use crate::diag::Result;
use crate::io::Parcel;
use crate::store::{Log, LogOptions, Reader, Recovered, Sync};

use frame::{Frame, Glance, Note, Stored};

pub use frame::put as frame_of;

pub use kept::{Kept, Place, Queues, Removed, Standing, Thrown};

/// Bytes of a frame beside its body, about.
const HEAD: u64 = 16;
/// How long it may be that what has left is not noted.
pub const NOTING: Duration = Duration::from_millis(500);
/// A page is no larger than this.
const PAGE_BYTES: u64 = 1 << 20;

/// How much a queue may hold, and how safe it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Parcels.
    pub messages: u64,
    /// Bytes of what waits; 0: no bound.
    pub bytes: u64,
    /// Zero: no bound.
    pub age: Duration,
    /// Parcels that are thrown away, or given out, together.
    pub page: usize,
    pub sync: Sync,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { messages: 1_024_000, bytes: 0, age: Duration::ZERO, page: 256, sync: Sync::Always }
    }
}

/// Parcels that wait, one after the other.
#[derive(Debug)]
struct Page {
    /// The sequence after the last.
    end: u64,
    messages: u64,
    rows: u64,
    bytes: u64,
    oldest: Time,
    newest: Time,
}

/// A parcel that was given out.
struct Flying {
    sequence: u64,
    time: Time,
    rows: u32,
    bytes: u64,
}

/// How much is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub messages: u64,
    pub rows: u64,
    pub bytes: u64,
    /// When the oldest of it was put there; `Time(0)` where there is nothing.
    pub oldest: Time,
    pub newest: Time,
}

/// A parcel in a queue, as one looks at it.
pub struct Seen {
    pub sequence: u64,
    pub time: Time,
    pub rows: u32,
    pub parcel: Parcel,
}

pub struct Queue {
    log: Log,
    limits: Limits,
    pages: VecDeque<Page>,
    flying: VecDeque<Flying>,
    /// The first parcel that waits has this sequence, or a greater one.
    head: u64,
    reader: Option<Reader>,
    /// Appended and not committed.
    fresh: Vec<Flying>,
    fresh_fly: usize,
    /// Sequences behind something that flies which were thrown away.
    gaps: Vec<Range<u64>>,
    /// The last note.
    noted: Note,
    /// One that goes to the disk with what was appended.
    noting: Option<Note>,
    since: Stopwatch,
    /// Rows that were thrown away before those of `thrown`; `None` where only an account can know that.
    told: Option<Thrown>,
    /// Rows that are gone against the user's wish, and were not told yet.
    pub(super) thrown: Thrown,
}

impl Queue {
    /// Opens the queue in a folder, and counts what is in it. Blocks for as long as reading all of it takes.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Queue, Recovered)> {
        let segment_bytes = match limits.bytes {
            0 => 4 << 20,
            bytes => (bytes / 8).clamp(64 << 10, 4 << 20),
        };
        let (log, recovered) = Log::open(folder, LogOptions { segment_bytes, sync: limits.sync })?;
        let mut noted = Note { done: log.first(), ..Note::default() };
        let mut reader = log.read(log.first())?;
        while let Some((_, body)) = reader.next()? {
            if let Ok(Glance::Done(note)) = frame::glance(&body) {
                noted = Note { done: note.done.max(noted.done), ..note };
            }
        }
        let from = noted.done;
        let mut queue = Queue {
            limits,
            pages: VecDeque::new(),
            flying: VecDeque::new(),
            head: from,
            reader: None,
            fresh: Vec::new(),
            fresh_fly: 0,
            gaps: noted.gaps.clone(),
            told: noted.whole.then_some(noted.thrown),
            thrown: if noted.whole { Thrown::default() } else { noted.thrown },
            noted,
            noting: None,
            since: Stopwatch::start(),
            log,
        };
        let mut reader = queue.log.read(from)?;
        while let Some((sequence, body)) = reader.next()? {
            if let Ok(Glance::Parcel { time, rows }) = frame::glance(&body)
                && sequence >= from
                && !queue.is_gap(sequence)
            {
                queue.count(Flying { sequence, time, rows, bytes: body.len() as u64 + HEAD });
            }
        }
        if queue.is_empty() {
            (queue.head, queue.noted.done) = (queue.log.next(), queue.log.next());
        }
        Ok((queue, recovered))
    }

    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Nothing waits, and nothing flies.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.flying.is_empty()
    }

    /// Whether something waits that can be taken.
    pub fn waits(&self) -> bool {
        !self.pages.is_empty()
    }

    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        let mut add = |messages, rows, bytes, oldest, newest: Time| {
            if sum.messages == 0 {
                sum.oldest = oldest;
            }
            sum.messages += messages;
            sum.rows += rows;
            sum.bytes += bytes;
            sum.newest = newest;
        };
        self.flying.iter().for_each(|one| add(1, u64::from(one.rows), one.bytes, one.time, one.time));
        self.pages.iter().for_each(|page| add(page.messages, page.rows, page.bytes, page.oldest, page.newest));
        sum
    }

    /// Takes the frame of a parcel for the next commit. With `flies` it is in the hands of the sink already, and only
    /// what flies is before it.
    pub fn append(&mut self, body: &[u8], flies: bool) -> Result<()> {
        let sequence = self.log.append(body)?;
        if let Ok(Glance::Parcel { time, rows }) = frame::glance(body) {
            self.fresh.push(Flying { sequence, time, rows, bytes: body.len() as u64 + HEAD });
            self.fresh_fly += usize::from(flies);
        }
        Ok(())
    }

    /// Has a note go with the first parcels of a queue that has none. Without one the account would be believed, and it may
    /// have been stored after something was thrown away that is there again after a crash.
    fn bring_note(&mut self) -> Result<()> {
        if self.noted.whole || self.told.is_none() || self.fresh.is_empty() {
            return Ok(());
        }
        let note = Note { done: self.done(), gaps: self.gaps.clone(), thrown: self.total(), whole: true };
        self.log.append(&frame::done(&note))?;
        self.noting = Some(note);
        Ok(())
    }

    /// Brings what was appended to the disk. After a fault none of it is there.
    pub fn commit(&mut self, now: Time) -> Result<()> {
        if let Err(fault) = self.bring_note().and_then(|()| self.log.sync()) {
            self.discard();
            return Err(fault);
        }
        if let Some(note) = self.noting.take() {
            self.noted = note;
        }
        let flies = std::mem::take(&mut self.fresh_fly);
        for (n, one) in std::mem::take(&mut self.fresh).into_iter().enumerate() {
            if n < flies {
                self.head = one.sequence + 1;
                self.flying.push_back(one);
            } else {
                self.count(one);
            }
        }
        self.bound(now);
        Ok(())
    }

    /// Takes back what was appended and not committed.
    pub fn discard(&mut self) {
        self.log.discard();
        self.fresh.clear();
        self.fresh_fly = 0;
        self.noting = None;
    }

    fn count(&mut self, one: Flying) {
        let (most, bytes) = (self.limits.page as u64, self.page_bytes());
        let page = match self.pages.back_mut() {
            Some(page) if page.messages < most && page.bytes + one.bytes <= bytes => page,
            _ => {
                let page = Page { end: 0, messages: 0, rows: 0, bytes: 0, oldest: one.time, newest: one.time };
                self.pages.push_back(page);
                let last = self.pages.len() - 1;
                &mut self.pages[last]
            }
        };
        page.end = one.sequence + 1;
        page.messages += 1;
        page.rows += u64::from(one.rows);
        page.bytes += one.bytes;
        page.newest = page.newest.max(one.time);
    }

    fn page_bytes(&self) -> u64 {
        match self.limits.bytes {
            0 => PAGE_BYTES,
            bytes => (bytes / 8).clamp(1, PAGE_BYTES),
        }
    }

    /// Throws away what goes beyond the limits, the oldest first.
    pub fn bound(&mut self, now: Time) {
        let Limits { messages, bytes, .. } = self.limits;
        let mut sum = self.sum();
        // Of what cannot be divided the last page stays.
        while self.pages.len() > 1 && (sum.messages > messages || bytes > 0 && sum.bytes > bytes) {
            let Some(page) = self.drop_page() else { break };
            sum.messages -= page.messages;
            sum.bytes -= page.bytes;
            self.thrown.full += page.rows;
        }
        while self.pages.front().is_some_and(|page| self.is_old(page.newest, now)) {
            let Some(page) = self.drop_page() else { break };
            self.thrown.old += page.rows;
        }
    }

    fn is_old(&self, time: Time, now: Time) -> bool {
        !self.limits.age.is_zero() && now.since(time) > self.limits.age
    }

    fn drop_page(&mut self) -> Option<Page> {
        let page = self.pages.pop_front()?;
        self.leave(self.head..page.end);
        (self.head, self.reader) = (page.end, None);
        Some(page)
    }

    /// What is thrown away behind something that flies is not given out again when that comes back.
    fn leave(&mut self, gap: Range<u64>) {
        let Some(flies) = self.flying.back() else { return };
        match self.gaps.last_mut() {
            Some(last) if last.start > flies.sequence => *last = last.start.min(gap.start)..last.end.max(gap.end),
            _ => self.gaps.push(gap),
        }
    }

    fn is_gap(&self, sequence: u64) -> bool {
        self.gaps.iter().any(|gap| gap.contains(&sequence))
    }

    /// Gives out the oldest parcels that wait, at most so many, and the rows that each counts for. What has grown too old is
    /// thrown away.
    pub fn take(&mut self, most: usize, now: Time) -> Result<Vec<(Parcel, u32)>> {
        let mut taken = Vec::new();
        self.bound(now);
        let mut bytes = 0;
        while taken.len() < most && bytes < PAGE_BYTES && !self.pages.is_empty() {
            if self.reader.is_none() {
                self.reader = Some(self.log.read(self.head)?);
            }
            let Some(reader) = &mut self.reader else { break };
            let Some((sequence, body)) = reader.next()? else {
                // What was counted cannot be read any more.
                self.reader = None;
                self.pages.drain(..).for_each(|page| self.thrown.damaged += page.rows);
                break;
            };
            self.head = sequence + 1;
            if self.is_gap(sequence) {
                continue;
            }
            let length = body.len() as u64 + HEAD;
            let stored = match frame::read(body) {
                Ok(Frame::Done) => continue,
                Ok(Frame::Parcel(stored)) => Ok(stored),
                Err(fault) => Err(fault),
            };
            let rows = self.uncount(sequence, length, stored.as_ref().ok());
            let Ok(Stored { time, rows: _, parcel }) = stored else {
                self.thrown.damaged += u64::from(rows);
                self.leave(sequence..self.head);
                continue;
            };
            if self.is_old(time, now) {
                self.thrown.old += u64::from(rows);
                self.leave(sequence..self.head);
                continue;
            }
            bytes += length;
            self.flying.push_back(Flying { sequence, time, rows, bytes: length });
            taken.push((parcel, rows));
        }
        Ok(taken)
    }

    /// Takes a parcel out of the count of what waits, and gives its rows.
    fn uncount(&mut self, sequence: u64, bytes: u64, stored: Option<&Stored>) -> u32 {
        while let Some(page) = self.pages.front_mut() {
            if sequence >= page.end {
                // The rest of the page cannot be read.
                self.thrown.damaged += page.rows;
                self.pages.pop_front();
                continue;
            }
            let rows = stored.map_or(0, |stored| stored.rows);
            page.messages = page.messages.saturating_sub(1);
            page.rows = page.rows.saturating_sub(rows.into());
            page.bytes = page.bytes.saturating_sub(bytes);
            page.oldest = stored.map_or(page.oldest, |stored| stored.time);
            if page.messages == 0 || sequence + 1 == page.end {
                self.thrown.damaged += page.rows;
                self.pages.pop_front();
            }
            return rows;
        }
        0
    }

    /// The first of what flies have arrived, or are given up.
    pub fn finish(&mut self, count: usize) {
        self.flying.drain(..count.min(self.flying.len()));
        if self.is_empty() || self.done() - self.noted.done >= self.limits.page as u64 || self.since.elapsed() >= NOTING
        {
            self.note();
        }
    }

    /// What flies waits again.
    pub fn rewind(&mut self) {
        let Some(first) = self.flying.front() else { return };
        let head = self.head;
        (self.head, self.reader) = (first.sequence, None);
        let waiting = std::mem::take(&mut self.pages);
        for one in std::mem::take(&mut self.flying) {
            self.count(one);
        }
        if let Some(page) = self.pages.back_mut() {
            page.end = page.end.max(head);
        }
        self.pages.extend(waiting);
    }

    fn done(&self) -> u64 {
        self.flying.front().map_or(self.head, |one| one.sequence)
    }

    /// All before this has left.
    fn end(&self) -> u64 {
        if self.is_empty() { self.log.next() } else { self.done() }
    }

    /// Something has left and is not noted yet.
    pub fn owes_note(&self) -> bool {
        self.end() != self.noted.done || self.total() != self.noted.thrown
    }

    /// Notes what has left, and gives the space back.
    pub fn note(&mut self) {
        self.since = Stopwatch::start();
        if !self.owes_note() || !self.fresh.is_empty() {
            return;
        }
        let done = self.end();
        self.gaps.retain(|gap| gap.end > done);
        // A disk that is full has no room for a note; what is deleted below may make some.
        self.write_note(done);
        let end = if self.is_empty() { self.log.next() } else { done };
        if let Err(fault) = self.log.drop_before(end) {
            tracing::warn!("the space of a queue cannot be given back: {fault}");
        }
        if self.is_empty() {
            // The note has gone with all else, and what it counts must not.
            (self.noted.thrown, self.noted.whole) = (Thrown::default(), false);
            if self.total() != Thrown::default() {
                self.write_note(self.log.next());
            }
            (self.head, self.noted.done, self.reader) = (self.log.next(), self.log.next(), None);
        }
    }

    fn write_note(&mut self, done: u64) {
        let note = Note { done, gaps: self.gaps.clone(), thrown: self.total(), whole: self.told.is_some() };
        match self.log.append(&frame::done(&note)).and_then(|_| self.log.sync()) {
            Ok(()) => self.noted = note,
            Err(_) => self.log.discard(),
        }
    }

    /// Rows that were thrown away since the queue is there, as far as it knows.
    fn total(&self) -> Thrown {
        self.told.unwrap_or_default().plus(self.thrown)
    }

    /// What was thrown away since the last time.
    pub(super) fn tell(&mut self) -> Thrown {
        let thrown = std::mem::take(&mut self.thrown);
        self.told = Some(self.told.unwrap_or_default().plus(thrown));
        thrown
    }

    /// Compares the account of who takes the queue over, which may be older or younger than the last note, and gives how
    /// many rows were thrown away in all: what the queue knows is what fits to what lies in it.
    pub fn settle(&mut self, account: Thrown) -> Thrown {
        let total = self.told.unwrap_or(account).plus(std::mem::take(&mut self.thrown));
        self.told = Some(total);
        total
    }

    /// Throws away all that waits; what flies is left. Says how much it was.
    pub fn clear(&mut self) -> Sum {
        let gone = self.empty();
        self.note();
        gone
    }

    /// A user throws away all that waits.
    pub fn remove(&mut self) -> Sum {
        let gone = self.empty();
        self.thrown.removed += gone.rows;
        self.note();
        gone
    }

    fn empty(&mut self) -> Sum {
        let before = self.sum();
        while self.drop_page().is_some() {}
        let left = self.sum();
        Sum {
            messages: before.messages - left.messages,
            rows: before.rows - left.rows,
            bytes: before.bytes - left.bytes,
            ..before
        }
    }

    /// Brings what was written to the disk if that is due, also when nothing more is written.
    pub fn sync(&mut self) -> Result<()> {
        if self.fresh.is_empty() { self.log.sync() } else { Ok(()) }
    }

    /// Everything is on the disk when this returns.
    pub fn rest(&mut self) -> Result<()> {
        self.note();
        self.log.sync_now()
    }

    /// Parcels from that sequence on, at most so many: what flies, and what waits.
    pub fn look(&self, from: u64, most: usize) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        let mut reader = self.log.read(from.max(self.done()))?;
        while seen.len() < most
            && let Some((sequence, body)) = reader.next()?
        {
            let there = sequence >= self.head && !self.is_gap(sequence)
                || self.flying.iter().any(|one| one.sequence == sequence);
            if there && let Ok(Frame::Parcel(Stored { time, rows, parcel })) = frame::read(body) {
                seen.push(Seen { sequence, time, rows, parcel });
            }
        }
        Ok(seen)
    }
}
