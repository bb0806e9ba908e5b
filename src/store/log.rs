//! A log on the disk: bodies in order, each with a sequence number, in files that are deleted when no one needs them.
//!
//! - [`Log`] is the writer. [`Log::append`] buffers, [`Log::sync`] writes and brings to the disk; what it confirmed
//!   survives a crash at any byte. After an error of the disk the same call tries again; nothing is lost or doubled.
//! - A *segment* is a file of it, named by the sequence of its first frame. A *frame* is
//!   `[length u32][check u32][sequence u64][body]`; the check covers the frame and the place at which it stands, so that
//!   a body that holds a copy of a log is never taken for frames.
//! - [`Reader`] gives what was written, in order, and follows the writer. [`View`] opens a log and changes nothing.
//! - [`Recovered`] says what opening found damaged. A torn tail is cut off. What is damaged before intact frames stays
//!   in its file and is skipped; sequence numbers of it are missing, and nothing wrong is ever read.

mod reader;
mod scan;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::diag::{Fault, Result};

use super::{cannot, sync_folder};

pub use reader::Reader;
use scan::{Scan, frame};

/// The first sequence of a new log.
const FIRST: u64 = 1;

/// No body is longer than this, in bytes.
pub const LONGEST: usize = 1 << 30;

/// When what was written is brought to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Whenever [`Log::sync`] is called: what it confirmed survives a loss of power.
    Always,
    /// When that long has passed since the last time: a loss of power may take what is younger, a crash of the process nothing.
    Interval(Duration),
    /// When the system likes: a loss of power may take anything, a crash of the process nothing.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Length in bytes at which a segment is full. The frame that fills it belongs to it still.
    pub segment_bytes: u64,
    pub sync: Sync,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes: 8 << 20, sync: Sync::Always }
    }
}

/// A place in a log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is; 0 where frames are missing that no byte is left of.
    pub bytes: u64,
    /// The sequences that are gone with it. Empty for a torn tail, of which no one knows how many there were.
    pub lost: Range<u64>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.bytes {
            0 => write!(f, "frames are missing after byte {} of `{file}`", self.offset)?,
            bytes => write!(f, "{bytes} bytes at byte {} of `{file}` are damaged", self.offset)?,
        }
        match self.lost.end.saturating_sub(self.lost.start) {
            0 => Ok(()),
            1 => write!(f, "; sequence {} is lost", self.lost.start),
            _ => write!(f, "; the sequences {} to {} are lost", self.lost.start, self.lost.end - 1),
        }
    }
}

/// What opening a log found that was not as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The end of the last segment, which a crash left half-written, or which was damaged later. Cut off by
    /// [`Log::open`], left alone by [`View::open`].
    pub torn: Option<Damage>,
    /// Places before intact frames. They stay until their segment is dropped and are told at every opening.
    pub damaged: Vec<Damage>,
}

impl Recovered {
    /// Whether all was as it was written.
    pub fn is_clean(&self) -> bool {
        self.torn.is_none() && self.damaged.is_empty()
    }

    /// How many bytes of a torn tail there were.
    pub fn cut(&self) -> u64 {
        self.torn.as_ref().map_or(0, |torn| torn.bytes)
    }

    /// How many sequences are gone before intact ones.
    pub fn lost(&self) -> u64 {
        self.damaged.iter().map(|damage| damage.lost.end.saturating_sub(damage.lost.start)).sum()
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(torn) = &self.torn {
            let (bytes, file) = (torn.bytes, torn.file.display());
            write!(f, "the last {bytes} bytes of `{file}` were not written whole and are left out")?;
        }
        for (n, damage) in self.damaged.iter().enumerate() {
            let comma = if n > 0 || self.torn.is_some() { "; " } else { "" };
            write!(f, "{comma}{damage}")?;
        }
        Ok(())
    }
}

/// A segment, as far as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// The sequence that it is named by; that of its first frame, if that is intact.
    first: u64,
    length: u64,
}

/// What the writer tells its readers.
#[derive(Debug, Default)]
struct Written {
    segments: Vec<Segment>,
    /// The sequence after the last that was written.
    next: u64,
}

/// A log on the disk, for readers and writer.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    written: Mutex<Written>,
}

impl Shared {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.log"))
    }

    /// Reads what is there. Also says what is damaged, and how much of the last segment is intact.
    fn scan(folder: &Path) -> Result<(Shared, Recovered)> {
        let mut recovered = Recovered::default();
        let mut segments = segments(folder)?;
        let shared = Shared { folder: folder.to_owned(), written: Mutex::default() };
        let firsts: Vec<u64> = segments.iter().map(|segment| segment.first).collect();
        let mut next = firsts.first().copied().unwrap_or(FIRST);
        let mut gone = Vec::new();
        for (n, segment) in segments.iter_mut().enumerate() {
            let path = shared.path(segment.first);
            let until = firsts.get(n + 1).copied();
            let mut file = match File::open(&path) {
                // Its writer dropped it since the folder was looked at.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    gone.push(segment.first);
                    next = until.unwrap_or(next);
                    continue;
                }
                file => file.map_err(|error| cannot("read", &path, &error))?,
            };
            let mut scan = Scan::new(segment.first, segment.length, until.unwrap_or(u64::MAX));
            let gap = |offset: u64, bytes: u64, lost: Range<u64>| Damage { file: path.clone(), offset, bytes, lost };
            while let Some(found) = scan.next(&mut file).map_err(|error| cannot("read", &path, &error))? {
                if found.skipped > 0 {
                    let lost = next.max(segment.first)..found.sequence;
                    recovered.damaged.push(gap(found.offset - found.skipped, found.skipped, lost));
                }
                next = found.sequence + 1;
            }
            let (end, rest) = (scan.offset(), segment.length - scan.offset());
            next = next.max(segment.first);
            match until {
                // Frames follow in the next segment, so these are not a tail.
                Some(until) if rest > 0 || next < until => {
                    recovered.damaged.push(gap(end, rest, next..until));
                    next = until;
                }
                None if rest > 0 => {
                    recovered.torn = Some(gap(end, rest, next..next));
                    segment.length = end;
                }
                _ => {}
            }
        }
        segments.retain(|segment| !gone.contains(&segment.first));
        *shared.written() = Written { segments, next };
        Ok((shared, recovered))
    }
}

/// The segments in a folder, by their first sequence. Other files there are none of ours.
fn segments(folder: &Path) -> Result<Vec<Segment>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot("read", folder, &error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| cannot("read", folder, &error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|name| name.len() == 20);
        let number = number.filter(|name| name.bytes().all(|digit| digit.is_ascii_digit()));
        if let Some(first) = number.and_then(|name| name.parse().ok()) {
            let length = entry.metadata().map_err(|error| cannot("read", &entry.path(), &error))?.len();
            segments.push(Segment { first, length });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Frames on their way into one segment.
struct Pending {
    /// The segment that they belong to.
    segment: u64,
    /// Where the first of them will stand.
    offset: u64,
    bytes: Vec<u8>,
}

/// The writer of a log. There is one at a time; the lock on the data folder sees to it.
pub struct Log {
    shared: Arc<Shared>,
    options: LogOptions,
    /// The last segment; none before the first write, or after an error.
    file: Option<File>,
    /// What was appended and is not confirmed by the disk yet, oldest first.
    pending: Vec<Pending>,
    /// The sequence that the next body gets.
    next: u64,
    /// Bytes may stand behind the end of the last segment that are not to be there.
    torn: bool,
    /// Written, and not brought to the disk.
    dirty: bool,
    /// A segment was begun, and its name is not brought to the disk.
    unnamed: bool,
    synced: Stopwatch,
}

impl Log {
    /// Opens the log, and makes its folder when it is missing. A torn tail is cut off. Fails with `Unreachable` when
    /// the disk does.
    pub fn open(folder: &Path, options: LogOptions) -> Result<(Log, Recovered)> {
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        let (shared, recovered) = Shared::scan(folder)?;
        let next = shared.written().next;
        let mut log = Log {
            shared: Arc::new(shared),
            options,
            file: None,
            pending: Vec::new(),
            next,
            torn: recovered.torn.is_some(),
            // What a killed process wrote is there, and may not be on the disk yet.
            dirty: true,
            unnamed: false,
            synced: Stopwatch::start(),
        };
        if log.torn {
            log.current()?;
        }
        Ok((log, recovered))
    }

    /// The first sequence that is still there; [`Log::next`] when the log is empty.
    pub fn first(&self) -> u64 {
        let written = self.shared.written().segments.first().map(|segment| segment.first);
        written.or(self.pending.first().map(|pending| pending.segment)).unwrap_or(self.next)
    }

    /// The sequence that the next body will get.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn is_empty(&self) -> bool {
        self.first() == self.next
    }

    /// What the log takes, in bytes, with what is not written yet.
    pub fn bytes(&self) -> u64 {
        let written: u64 = self.shared.written().segments.iter().map(|segment| segment.length).sum();
        written + self.pending.iter().map(|pending| pending.bytes.len() as u64).sum::<u64>()
    }

    /// Takes a body for the next [`Log::sync`] and returns its sequence. `Refused` when it is longer than [`LONGEST`].
    pub fn append(&mut self, body: &[u8]) -> Result<u64> {
        if body.len() > LONGEST {
            let text = format!("a record of {} bytes is too long for `{}`", body.len(), self.shared.folder.display());
            return Err(Fault::refused(format!("{text}; {LONGEST} fit")));
        }
        let (segment, offset) = match (self.pending.last(), self.shared.written().segments.last()) {
            (Some(last), _) => (last.segment, last.offset + last.bytes.len() as u64),
            (None, Some(last)) => (last.first, last.length),
            (None, None) => (self.next, 0),
        };
        // An empty segment is named by the sequence that comes first in it.
        let full = offset >= self.options.segment_bytes && offset > 0;
        let (segment, offset) = if full { (self.next, 0) } else { (segment, offset) };
        if self.pending.last().is_none_or(|last| last.segment != segment) {
            self.pending.push(Pending { segment, offset, bytes: Vec::new() });
        }
        let sequence = self.next;
        if let Some(last) = self.pending.last_mut() {
            frame(&mut last.bytes, segment, offset, sequence, body);
        }
        self.next += 1;
        Ok(sequence)
    }

    /// Writes what was appended, and brings it to the disk as [`Sync`] says. Fails with `Unreachable`: then nothing is
    /// confirmed, and the next call tries all of it again.
    pub fn sync(&mut self) -> Result<()> {
        let due = match self.options.sync {
            Sync::Always => true,
            Sync::Interval(span) => self.synced.elapsed() >= span,
            Sync::Never => false,
        };
        self.write(due)
    }

    /// Writes what was appended, and brings it to the disk whatever [`Sync`] says: before an orderly end.
    pub fn sync_now(&mut self) -> Result<()> {
        self.write(true)
    }

    fn write(&mut self, durable: bool) -> Result<()> {
        if self.pending.is_empty() && !(durable && self.dirty) {
            return Ok(());
        }
        let result = self.try_write(durable);
        if result.is_err() {
            // An error of `fdatasync` leaves open what is on the disk, so all that was not confirmed is written again.
            self.take_back();
        }
        result
    }

    fn try_write(&mut self, durable: bool) -> Result<()> {
        for n in 0..self.pending.len() {
            let (segment, length) = (self.pending[n].segment, self.pending[n].bytes.len() as u64);
            if self.last() != Some(segment) {
                self.roll(segment, durable || self.options.sync != Sync::Never)?;
            }
            self.current()?;
            let (Some(file), path) = (&mut self.file, self.shared.path(segment)) else { continue };
            file.write_all(&self.pending[n].bytes).map_err(|error| cannot("write", &path, &error))?;
            self.dirty = true;
            if let Some(last) = self.shared.written().segments.last_mut() {
                last.length += length;
            }
        }
        if durable {
            self.sync_file()?;
            self.synced = Stopwatch::start();
        }
        self.shared.written().next = self.next;
        self.pending.clear();
        Ok(())
    }

    fn last(&self) -> Option<u64> {
        self.shared.written().segments.last().map(|segment| segment.first)
    }

    /// Brings the last segment to the disk.
    fn sync_file(&mut self) -> Result<()> {
        self.sync_names()?;
        if self.dirty
            && let Some(last) = self.last()
        {
            self.current()?;
            if let Some(file) = &self.file {
                file.sync_data().map_err(|error| cannot("write", &self.shared.path(last), &error))?;
            }
        }
        self.dirty = false;
        Ok(())
    }

    fn sync_names(&mut self) -> Result<()> {
        if self.unnamed {
            sync_folder(&self.shared.folder)?;
        }
        self.unnamed = false;
        Ok(())
    }

    /// Begins a segment, after the last one is on the disk.
    fn roll(&mut self, first: u64, durable: bool) -> Result<()> {
        if durable {
            self.sync_file()?;
        }
        let path = self.shared.path(first);
        let file = File::options().write(true).create(true).truncate(true).open(&path);
        self.file = Some(file.map_err(|error| cannot("make", &path, &error))?);
        (self.torn, self.unnamed) = (false, true);
        self.shared.written().segments.push(Segment { first, length: 0 });
        Ok(())
    }

    /// Opens the last segment at its end, and cuts off what is not to be there.
    fn current(&mut self) -> Result<()> {
        if self.file.is_some() && !self.torn {
            return Ok(());
        }
        let Some(last) = self.shared.written().segments.last().copied() else { return Ok(()) };
        let path = self.shared.path(last.first);
        let open = || {
            let mut file = File::options().write(true).open(&path)?;
            file.set_len(last.length)?;
            file.seek(SeekFrom::Start(last.length))?;
            Ok(file)
        };
        self.file = Some(open().map_err(|error| cannot("write", &path, &error))?);
        self.torn = false;
        Ok(())
    }

    /// Makes the segments what they were before the first pending frame.
    fn take_back(&mut self) {
        let Some(pending) = self.pending.first() else { return };
        let mut written = self.shared.written();
        while let Some(last) = written.segments.last_mut() {
            if last.first == pending.segment && pending.offset > 0 {
                last.length = pending.offset;
                break;
            }
            if last.first < pending.segment {
                break;
            }
            // One that was begun for them; it is begun again, and what is in it is cut off then.
            written.segments.pop();
        }
        drop(written);
        self.file = None;
        self.torn = true;
        self.dirty = true;
    }

    /// Takes back what was appended and not confirmed since: its sequences are given anew. After a crash some of it may
    /// be there all the same.
    pub fn discard(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.take_back();
        for pending in std::mem::take(&mut self.pending) {
            let path = self.shared.path(pending.segment);
            // A segment that was begun for it and is no part of the log any more.
            let known = self.shared.written().segments.iter().any(|segment| segment.first == pending.segment);
            if !known
                && let Err(error) = fs::remove_file(&path)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!("{}", cannot("remove", &path, &error));
            }
        }
        self.next = self.shared.written().next;
    }

    /// What was written, from that sequence on, or from the first that is there. Follows the writer: after `None` it
    /// goes on when there is more.
    pub fn read(&self, from: u64) -> Result<Reader> {
        Ok(Reader::new(self.shared.clone(), from))
    }

    /// Says that no one needs what stands before that sequence. Whole segments are deleted; returns the bytes freed.
    /// Sequences go on as before also when nothing is left.
    pub fn drop_before(&mut self, sequence: u64) -> Result<u64> {
        let next = self.shared.written().next;
        // What is not written is not dropped, and the last segment goes when another can take its place.
        let all = sequence >= next && self.pending.is_empty();
        if all && self.shared.written().segments.last().is_some_and(|last| last.length > 0) {
            self.roll(next, false)?;
            self.dirty = false;
        }
        // The number goes on by the name of the last segment, which must be there before the others go.
        self.sync_names()?;
        let mut freed = 0;
        loop {
            let old = match self.shared.written().segments[..] {
                [old, after, ..] if after.first <= sequence => old,
                _ => return Ok(freed),
            };
            let path = self.shared.path(old.first);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("remove", &path, &error)),
                _ => self.shared.written().segments.remove(0),
            };
            freed += old.length;
        }
    }

    /// Makes the next sequence at least this one: for whoever knows from elsewhere that the ones before were used, and
    /// lost with a torn tail.
    pub fn advance(&mut self, next: u64) -> Result<()> {
        if next <= self.next {
            return Ok(());
        }
        self.sync_now()?;
        self.roll(next, true)?;
        self.shared.written().next = next;
        self.next = next;
        Ok(())
    }
}

/// A log that is looked at, also while another process writes it.
pub struct View {
    shared: Arc<Shared>,
}

impl View {
    /// Reads the log and changes nothing. A folder that is not there is an empty log.
    pub fn open(folder: &Path) -> Result<(View, Recovered)> {
        let (shared, recovered) = Shared::scan(folder)?;
        Ok((View { shared: Arc::new(shared) }, recovered))
    }

    /// The first sequence that is still there; [`View::next`] when the log is empty.
    pub fn first(&self) -> u64 {
        let written = self.shared.written();
        written.segments.first().map_or(written.next, |segment| segment.first)
    }

    /// The sequence after the last.
    pub fn next(&self) -> u64 {
        self.shared.written().next
    }

    pub fn is_empty(&self) -> bool {
        self.first() == self.next()
    }

    /// What the log takes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.written().segments.iter().map(|segment| segment.length).sum()
    }

    /// What is there, from that sequence on, or from the first that is there.
    pub fn read(&self, from: u64) -> Result<Reader> {
        Ok(Reader::new(self.shared.clone(), from))
    }
}
