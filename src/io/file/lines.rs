//! Lines of a file, as slices of large blocks: no copy and no allocation for a line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;

const BLOCK: usize = 1 << 20;

/// Reads a file in blocks that end with a line.
pub(super) struct Lines {
    file: File,
    /// The start of a line whose end is not read yet.
    rest: Bytes,
    /// Where in the file that is.
    at: u64,
    block: usize,
}

/// A line without its end.
pub(super) struct Line {
    pub(super) text: Bytes,
    /// Where the next one begins.
    pub(super) end: u64,
}

impl Lines {
    /// Opens the file where a line begins.
    pub(super) fn open(path: &Path, at: u64) -> io::Result<Lines> {
        Lines::with_block(path, at, BLOCK)
    }

    fn with_block(path: &Path, at: u64, block: usize) -> io::Result<Lines> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Lines { file, rest: Bytes::new(), at, block })
    }

    /// The next complete lines, at least one, and where they begin; the last of the file may lack its newline. `None`
    /// at the end.
    pub(super) fn next_block(&mut self) -> io::Result<Option<(Bytes, u64)>> {
        let at = self.at;
        let block = self.block()?;
        self.at += block.as_ref().map_or(0, |block| block.len() as u64);
        Ok(block.map(|block| (block, at)))
    }

    fn block(&mut self) -> io::Result<Option<Bytes>> {
        let mut filled = self.rest.len();
        let mut block = vec![0; self.block.max(2 * filled)];
        block[..filled].copy_from_slice(&self.rest);
        loop {
            let read = match self.file.read(&mut block[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                self.rest = Bytes::new();
                block.truncate(filled);
                return Ok((filled > 0).then(|| Bytes::from(block)));
            }
            let newline = memchr::memrchr(b'\n', &block[filled..filled + read]);
            let at = filled;
            filled += read;
            if let Some(newline) = newline {
                let block = Bytes::from(block);
                self.rest = block.slice(at + newline + 1..filled);
                return Ok(Some(block.slice(..at + newline + 1)));
            }
            if filled == block.len() {
                block.resize(2 * filled, 0);
            }
        }
    }
}

/// The lines of a block that begins there.
pub(super) fn split(block: &Bytes, at: u64) -> impl Iterator<Item = Line> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= block.len() {
            return None;
        }
        let end = memchr::memchr(b'\n', &block[start..]).map_or(block.len(), |at| start + at);
        let stop = if end > start && block[end - 1] == b'\r' { end - 1 } else { end };
        let text = block.slice(start..stop);
        start = end + 1;
        Some(Line { text, end: at + start.min(block.len()) as u64 })
    })
}

/// Leaves out lines at the start and at the end. Blank ones do not count.
pub(super) struct Trim {
    start: usize,
    end: usize,
    /// The lines that may turn out to be among the last, and how many of them are not blank.
    kept: VecDeque<Line>,
    full: usize,
}

impl Trim {
    pub(super) fn new(start: usize, end: usize) -> Trim {
        Trim { start, end, kept: VecDeque::new(), full: 0 }
    }

    /// Takes a line and gives each one that is now known to be wanted to `out`.
    pub(super) fn push(&mut self, line: Line, mut out: impl FnMut(Line)) {
        let blank = is_blank(&line.text);
        if self.start > 0 {
            self.start -= usize::from(!blank);
            return;
        }
        if self.end == 0 {
            return out(line);
        }
        self.full += usize::from(!blank);
        self.kept.push_back(line);
        while self.full > self.end
            && let Some(line) = self.kept.pop_front()
        {
            self.full -= usize::from(!is_blank(&line.text));
            out(line);
        }
    }
}

pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str, block: usize) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, text).unwrap();
        let mut all = Vec::new();
        let mut ends = vec![0];
        let mut lines = Lines::with_block(&path, 0, block).unwrap();
        let show = |line: &Line| String::from_utf8(line.text.to_vec()).unwrap();
        while let Some((block, at)) = lines.next_block().unwrap() {
            for line in split(&block, at) {
                ends.push(line.end);
                all.push(show(&line));
            }
        }
        for (n, end) in ends.into_iter().enumerate() {
            let mut lines = Lines::with_block(&path, end, block).unwrap();
            let next = lines.next_block().unwrap();
            let next = next.and_then(|(block, at)| split(&block, at).next().map(|line| show(&line)));
            assert_eq!(next.as_ref(), all.get(n), "the line at {end}");
        }
        all
    }

    #[test]
    fn lines_are_the_same_at_every_block_size() {
        let text = "one\r\n\ntwo two\n\u{e4}\u{f6}\nlast";
        for block in 1..=text.len() + 1 {
            assert_eq!(read(text, block), ["one", "", "two two", "\u{e4}\u{f6}", "last"], "{block}");
        }
        assert_eq!(read("a\nb\n", 3), ["a", "b"]);
        assert!(read("", 3).is_empty());
    }

    #[test]
    fn trimming_leaves_out_blank_lines_of_the_count() {
        let trimmed = |start, end| {
            let mut trim = Trim::new(start, end);
            let mut out = Vec::new();
            for line in ["", "h", "", "1", "2", "", "3", "f", ""] {
                let line = Line { text: Bytes::from_static(line.as_bytes()), end: 0 };
                trim.push(line, |line| out.push(String::from_utf8(line.text.to_vec()).unwrap()));
            }
            out.retain(|line| !line.is_empty());
            out
        };
        assert_eq!(trimmed(0, 0), ["h", "1", "2", "3", "f"]);
        assert_eq!(trimmed(1, 1), ["1", "2", "3"]);
        assert_eq!(trimmed(2, 2), ["2"]);
        assert!(trimmed(9, 0).is_empty() && trimmed(0, 9).is_empty());
    }
}
