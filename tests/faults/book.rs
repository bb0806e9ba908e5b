//! What has come out of a rule so far, read on from where the last look ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

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
}

impl Book {
    pub fn read(&self) -> usize {
        self.read
    }

    pub fn take(&mut self, rule: &Rule, rows: &[String]) {
        self.read += rows.len();
        rows.iter().for_each(|row| self.note(rule, row));
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
