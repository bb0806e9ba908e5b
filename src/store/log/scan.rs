//! Frames of one segment: writing them into memory, and finding the intact ones in a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Length, check and sequence of a frame, in bytes.
pub(super) const HEAD: u64 = 16;

/// So much is read of a file at a time, or one frame if that is longer.
const WINDOW: u64 = 64 << 10;

/// The check of a frame that stands there.
fn check(segment: u64, offset: u64, sequence: u64, body: &[u8]) -> u32 {
    let mut check = crc32fast::Hasher::new();
    check.update(&segment.to_le_bytes());
    check.update(&offset.to_le_bytes());
    check.update(&(body.len() as u32).to_le_bytes());
    check.update(&sequence.to_le_bytes());
    check.update(body);
    check.finalize()
}

/// Adds the frame that is to stand at that offset of the segment.
pub(super) fn frame(out: &mut Vec<u8>, segment: u64, offset: u64, sequence: u64, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&check(segment, offset, sequence, body).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(body);
}

/// An intact frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) sequence: u64,
    /// Damaged bytes between it and the one before.
    pub(super) skipped: u64,
}

/// A walk over the frames of a segment.
pub(super) struct Scan {
    segment: u64,
    /// The sequence that comes next, if none is lost.
    expected: u64,
    /// The first that stands in the next segment.
    until: u64,
    /// The end of the last intact frame.
    offset: u64,
    /// The end of what may be read.
    length: u64,
    /// A part of the file, and where it begins there.
    window: Vec<u8>,
    start: u64,
    body: Range<usize>,
}

impl Scan {
    pub(super) fn new(segment: u64, length: u64, until: u64) -> Scan {
        Scan { segment, expected: segment, until, offset: 0, length, window: Vec::new(), start: 0, body: 0..0 }
    }

    /// The end of the last intact frame.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What may be read has changed.
    pub(super) fn extend(&mut self, length: u64, until: u64) {
        (self.length, self.until) = (length, until);
    }

    /// The body of the frame that was found last.
    pub(super) fn body(&self) -> &[u8] {
        self.window.get(self.body.clone()).unwrap_or_default()
    }

    /// The next intact frame. What is damaged before it is skipped; `None` when there is none any more.
    pub(super) fn next(&mut self, file: &mut File) -> io::Result<Option<Found>> {
        for at in self.offset.. {
            if at.saturating_add(HEAD) > self.length {
                break;
            }
            let Some(sequence) = self.intact(file, at)? else { continue };
            let found = Found { offset: at, sequence, skipped: at - self.offset };
            self.offset = at + HEAD + self.body.len() as u64;
            self.expected = sequence + 1;
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// The sequence of the frame there, if one stands there and is intact.
    fn intact(&mut self, file: &mut File, at: u64) -> io::Result<Option<u64>> {
        let Some(head) = self.load(file, at, HEAD)? else { return Ok(None) };
        let Some([a, b, c, d, e, f, g, h, sequence @ ..]) = self.window[head].first_chunk::<16>().copied() else {
            return Ok(None);
        };
        let (length, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let sequence = u64::from_le_bytes(sequence);
        // Those that are lost before it took at least their heads.
        let most = self.expected.saturating_add((at - self.offset) / HEAD);
        if u64::from(length) > self.length - at - HEAD || !(self.expected..=most).contains(&sequence) {
            return Ok(None);
        }
        if sequence >= self.until {
            return Ok(None);
        }
        let Some(frame) = self.load(file, at, HEAD + u64::from(length))? else { return Ok(None) };
        let body = frame.start + HEAD as usize..frame.end;
        if check(self.segment, at, sequence, &self.window[body.clone()]) != sum {
            return Ok(None);
        }
        self.body = body;
        Ok(Some(sequence))
    }

    /// Where in the window that part of the file stands; `None` when the file ends before.
    fn load(&mut self, file: &mut File, at: u64, length: u64) -> io::Result<Option<Range<usize>>> {
        let held = self.start..self.start + self.window.len() as u64;
        if at < held.start || at + length > held.end {
            // The longest body is far below what a window can be.
            let wanted = length.max(WINDOW).min(self.length - at);
            self.window.clear();
            self.start = at;
            file.seek(SeekFrom::Start(at))?;
            file.take(wanted).read_to_end(&mut self.window)?;
        }
        let from = (at - self.start) as usize;
        let part = from..from + length as usize;
        Ok((part.end <= self.window.len()).then_some(part))
    }
}
