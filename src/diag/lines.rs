//! Where the lines of a text are, found once, so that the line and the column of any place in it cost the same however long
//! the text is and however many places are asked for.
//!
//! Lines and columns begin at 1; a column counts characters, a place bytes. The index is as good for one line of a megabyte
//! as for a million lines: it remembers how many characters stand before every few hundred bytes.

use std::ops::Range;

/// Bytes between two places whose characters are counted beforehand.
const STRIDE: usize = 256;

/// A text and the places of its lines.
#[derive(Debug)]
pub struct LineIndex<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
    /// The characters that begin before each multiple of [`STRIDE`].
    counts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut counts = Vec::with_capacity(text.len() / STRIDE + 1);
        let mut count = 0;
        for chunk in text.as_bytes().chunks(STRIDE) {
            counts.push(count);
            count += letters(chunk);
        }
        counts.push(count);
        LineIndex { text, starts, counts }
    }

    /// The line and the column of a byte of the text; of its end, where it is shorter.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let at = self.place(at);
        let line = self.line_of(at);
        (line + 1, self.count(self.starts[line]..at) + 1)
    }

    /// The bytes of the line that a byte of the text is in, without its end.
    pub fn line(&self, at: usize) -> Range<usize> {
        let line = self.line_of(self.place(at));
        let end = self.starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let start = self.starts[line];
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }

    /// How many characters stand in a part of the text.
    pub fn count(&self, part: Range<usize>) -> usize {
        self.before(part.end) - self.before(part.start)
    }

    pub fn slice(&self, part: Range<usize>) -> &'a str {
        &self.text[part]
    }

    /// The byte itself, or the nearest before it at which a character begins.
    pub fn place(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn line_of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }

    fn before(&self, at: usize) -> usize {
        let chunk = at / STRIDE;
        self.counts[chunk] + letters(&self.text.as_bytes()[chunk * STRIDE..at])
    }
}

/// The characters that begin in these bytes.
fn letters(bytes: &[u8]) -> usize {
    #[cfg(test)]
    tests::LOOKED_AT.with(|bytes_so_far| bytes_so_far.set(bytes_so_far.get() + bytes.len()));
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::diag::{Diagnostic, Span, render_all};

    thread_local! {
        /// Bytes that this thread has counted the characters of.
        pub(super) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn places_are_those_that_counting_from_the_start_gives() {
        for text in ["", "a", "ä\n\nöü\r\n", &"aß€😀\n\r".repeat(200), &"é".repeat(2_000), &"x".repeat(STRIDE * 2)]
        {
            let index = LineIndex::new(text);
            for at in (0..=text.len() + 1).filter(|at| text.is_char_boundary((*at).min(text.len()))) {
                let before = &text[..at.min(text.len())];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                assert_eq!(index.position(at), (line, column), "{at} in {text:?}");
                let shown = text.split('\n').nth(line - 1).unwrap_or_default();
                assert_eq!(index.slice(index.line(at)), shown.trim_end_matches('\r'), "{at} in {text:?}");
            }
        }
        assert_eq!(LineIndex::new("ä\nöb").position(4), (2, 1), "in the middle of a character it is the character");
    }

    /// What is looked at for one more finding does not grow with the text.
    #[test]
    fn many_findings_in_a_long_text_cost_no_more_each() {
        let work = |findings: usize, end: char| {
            let text: String = (0..findings).map(|_| format!("SELECT ä / 0 FROM s;{end}")).collect();
            let length = text.len() / findings;
            let at = |n: usize| Span::new(n * length, n * length + 6);
            let found: Vec<_> = (0..findings).map(|n| Diagnostic::warning("K0303", "zero").at(at(n))).collect();
            LOOKED_AT.set(0);
            assert_eq!(render_all(&found, "a.sql", &text).matches("--> a.sql:").count(), findings);
            LOOKED_AT.get() / findings
        };
        for end in ['\n', ' '] {
            let (few, many) = (work(100, end), work(10_000, end));
            assert!(many <= few + STRIDE, "{few} bytes a finding of 100, {many} of 10,000");
        }
    }
}
