//! What has come out of a rule so far, read on from where the last look ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use super::rules::{Kind, Rule};

#[derive(Default)]
pub struct Book {
    /// How often each key came.
    pub counts: BTreeMap<i64, u32>,
    /// Windows that came more than once, with all that is in them.
    pub windows_again: u64,
    pub wrong: Vec<String>,
    windows: BTreeSet<String>,
    /// Rows, or bytes of a file, that were read.
    read: usize,
    /// When rows came, where that is known.
    times: Vec<Instant>,
}

/// How soon a receiver has noted what was given to it.
const LATE: Duration = Duration::from_millis(100);

impl Book {
    pub fn read(&self) -> usize {
        self.read
    }

    pub fn take(&mut self, rule: &Rule, rows: &[(Instant, String)]) {
        self.read += rows.len();
        self.times.extend(rows.iter().map(|(at, _)| *at));
        rows.iter().for_each(|(_, row)| self.note(rule, row));
    }

    /// How many rows may come again because of what happened at these times: those that came within the span before, and
    /// so many more, of those that came since the time before.
    pub fn recent(&self, times: &[Instant], span: Duration, more: u64) -> u64 {
        let mut from = None;
        let mut sum = 0;
        for at in times {
            let till = *at + LATE;
            let came = self.times.iter().filter(|time| **time <= till && from.is_none_or(|from| **time > from));
            let (all, last) = came.fold((0, 0), |(all, last), time| (all + 1, last + u64::from(*time + span >= *at)));
            sum += all.min(last + more);
            from = Some(till);
        }
        sum
    }

    /// Reads on in a file, up to the last line that is whole.
    pub fn follow(&mut self, rule: &Rule, path: &Path) {
        let Ok(mut file) = File::open(path) else { return };
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(self.read as u64)).unwrap();
        file.read_to_end(&mut text).unwrap();
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return };
        self.read += end + 1;
        let text = String::from_utf8_lossy(&text[..end]).into_owned();
        text.lines().for_each(|line| self.note(rule, line));
    }

    /// Forgets what it has seen; the next look begins at the first row.
    pub fn anew(&mut self) {
        *self = Book::default();
    }

    fn note(&mut self, rule: &Rule, row: &str) {
        match rule.keys(row) {
            Err(wrong) => self.wrong.push(wrong),
            Ok(keys) => {
                if rule.kind == Kind::Window && !keys.is_empty() && !self.windows.insert(row.to_owned()) {
                    self.windows_again += 1;
                    return;
                }
                keys.into_iter().for_each(|key| *self.counts.entry(key).or_default() += 1);
            }
        }
    }
}
