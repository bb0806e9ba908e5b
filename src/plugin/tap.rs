//! What goes through a plugin, for its author to see: the last rows as lines, from every rule that uses it.
//!
//! Nobody pays for it while nobody looks: it is on from the first look, and off again when the next one does not come.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::codec::json;
use crate::data::Value;

use super::uses::lock;

/// Lines that are kept.
const LINES: usize = 1000;
/// Letters of a line.
const LETTERS: usize = 2000;
/// How long it stays on after a look.
const LINGER: Duration = Duration::from_secs(10);

/// A row, or what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Of all lines since it was switched on, from 1.
    pub number: u64,
    /// The rule, or the stream that rules share.
    pub user: String,
    /// Version of the plugin that it went through.
    pub version: String,
    pub text: String,
}

/// The last lines.
#[derive(Default)]
pub struct Tap {
    on: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Line>,
    last: u64,
    looked: Option<Stopwatch>,
}

impl Tap {
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Keeps lines; to be called where it is on.
    pub fn note(&self, user: &str, version: &str, texts: impl Iterator<Item = String>) {
        let mut kept = lock(&self.kept);
        if kept.looked.as_ref().is_none_or(|looked| looked.elapsed() > LINGER) {
            self.on.store(false, Ordering::Relaxed);
            kept.lines.clear();
            return;
        }
        for mut text in texts.take(LINES) {
            if let Some((end, _)) = text.char_indices().nth(LETTERS) {
                text.truncate(end);
                text.push('…');
            }
            kept.last += 1;
            let number = kept.last;
            if kept.lines.len() == LINES {
                kept.lines.pop_front();
            }
            kept.lines.push_back(Line { number, user: user.to_owned(), version: version.to_owned(), text });
        }
    }

    /// The lines after that number, as far as they are kept, and the number of the last one; switches it on.
    pub fn look(&self, after: u64) -> (u64, Vec<Line>) {
        let mut kept = lock(&self.kept);
        kept.looked = Some(Stopwatch::start());
        self.on.store(true, Ordering::Relaxed);
        (kept.last, kept.lines.iter().filter(|line| line.number > after).cloned().collect())
    }
}

/// A value as JSON.
pub fn shown(value: &Value) -> String {
    let mut out = Vec::new();
    json::print(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_while_someone_looks() {
        let tap = Tap::default();
        tap.note("r", "1", ["unseen".to_owned()].into_iter());
        assert_eq!(tap.look(0), (0, Vec::new()));
        assert!(tap.is_on());
        tap.note("r", "1", (0..LINES + 5).map(|n| n.to_string()).take(LINES));
        tap.note("r", "2", ["é".repeat(LETTERS + 1)].into_iter());
        let (last, lines) = tap.look(LINES as u64 - 1);
        assert_eq!(last, LINES as u64 + 1);
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, [(LINES - 1).to_string(), "é".repeat(LETTERS) + "…"]);
        assert_eq!((lines[1].version.as_str(), lines[1].user.as_str()), ("2", "r"));
    }
}
