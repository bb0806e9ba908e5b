use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::diag::Result;

use super::scan::Scan;
use super::{Segment, Shared, cannot};

/// Gives what was written to a log, in order.
pub struct Reader {
    shared: Arc<Shared>,
    /// The sequence that is wanted next.
    from: u64,
    /// The segment that is being read.
    current: Option<(u64, File, Scan)>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: u64) -> Reader {
        Reader { shared, from, current: None }
    }

    /// The next body and its sequence, or nothing as long as no more is written. Sequences that are missing were lost
    /// to damage, or dropped before they were read. Fails with `Unreachable` when the disk does; then the next call
    /// goes on where it stood.
    #[expect(clippy::should_implement_trait, reason = "an iterator would be done at the first `None`")]
    pub fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            let Some((segment, until)) = self.segment() else { return Ok(None) };
            let path = self.shared.path(segment.first);
            if self.current.as_ref().is_none_or(|(first, ..)| *first != segment.first) {
                match File::open(&path) {
                    Ok(file) => {
                        let scan = Scan::new(segment.first, segment.length, until.unwrap_or(u64::MAX));
                        self.current = Some((segment.first, file, scan));
                    }
                    // It was dropped just now.
                    Err(error) if error.kind() == ErrorKind::NotFound => match until {
                        Some(until) => self.from = self.from.max(until),
                        None => return Ok(None),
                    },
                    Err(error) => return Err(cannot("read", &path, &error)),
                }
            }
            let Some((_, file, scan)) = &mut self.current else { continue };
            scan.extend(segment.length, until.unwrap_or(u64::MAX));
            match scan.next(file).map_err(|error| cannot("read", &path, &error))? {
                Some(found) if found.sequence < self.from => {}
                Some(found) => {
                    self.from = found.sequence + 1;
                    return Ok(Some((found.sequence, scan.body().to_vec())));
                }
                None => {
                    let Some(until) = until else { return Ok(None) };
                    self.from = self.from.max(until);
                    self.current = None;
                }
            }
        }
    }

    /// The segment in which the wanted sequence stands, and the first sequence of the one after it.
    fn segment(&self) -> Option<(Segment, Option<u64>)> {
        let written = self.shared.written();
        let after = written.segments.partition_point(|segment| segment.first <= self.from);
        let at = after.saturating_sub(1);
        let after = written.segments.get(at + 1).map(|segment| segment.first);
        written.segments.get(at).map(|segment| (*segment, after))
    }
}
