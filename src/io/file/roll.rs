//! One file that is being written: opening it at its end, and laying it aside when it is full or old.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Time;

/// How the messages of a file stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each ends with a newline.
    Lines,
    /// A JSON array. The file is a whole array after each write.
    Array,
}

/// How a file is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// As the path says; a full one is renamed like `Suffix`, so that the next does not write over it.
    Plain,
    /// `<milliseconds>-name`
    Prefix,
    /// `name-<milliseconds>.ext`
    Suffix,
}

/// When a file is full. Zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

/// A file that is being written.
pub(super) struct Open {
    path: PathBuf,
    file: File,
    layout: Layout,
    length: u64,
    messages: u64,
    since: Time,
}

impl Open {
    /// Opens the file at its end, and makes it and its folder when they are missing. A line that a crash cut off stays
    /// alone; an array that was cut off is laid aside.
    pub(super) fn at(path: &Path, naming: Naming, layout: Layout, now: Time) -> io::Result<Open> {
        let path = match naming {
            Naming::Plain => path.to_owned(),
            Naming::Prefix => path.with_file_name(format!("{}-{}", now.0, name(path))),
            Naming::Suffix => stamped(path, now),
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut length = file.seek(SeekFrom::End(0))?;
        // Messages that stand there from before are not counted: it would take reading the file.
        let mut messages = 0;
        if length > 0 {
            let from = length.saturating_sub(4096);
            file.seek(SeekFrom::Start(from))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            match layout {
                Layout::Lines if tail.last() != Some(&b'\n') => {
                    file.write_all(b"\n")?;
                    length += 1;
                }
                Layout::Lines => {}
                Layout::Array => match tail.trim_ascii_end().strip_suffix(b"]") {
                    Some(text) => {
                        let text = text.trim_ascii_end();
                        // The bracket alone is an array without messages.
                        messages = u64::from(text != b"[" || from > 0);
                        length = if messages == 0 { 0 } else { from + text.len() as u64 };
                    }
                    // A crash cut it off, so nothing can be added to it.
                    None => {
                        Open { path: path.clone(), file, layout, length, messages, since: now }
                            .lay_aside(naming, now)?;
                        file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
                        length = 0;
                    }
                },
            }
        }
        Ok(Open { path, file, layout, length, messages, since: now })
    }

    pub(super) fn is_new(&self) -> bool {
        self.length == 0
    }

    /// Appends text that is no message, such as a header.
    pub(super) fn head(&mut self, text: &[u8]) -> io::Result<()> {
        self.put(text, 0)
    }

    /// Appends messages; all of them or, after an error, none.
    pub(super) fn append<'a>(&mut self, messages: impl ExactSizeIterator<Item = &'a [u8]>) -> io::Result<()> {
        let count = messages.len() as u64;
        let mut text = Vec::new();
        for (n, message) in messages.enumerate() {
            match self.layout {
                Layout::Lines => {
                    text.extend_from_slice(message);
                    text.push(b'\n');
                }
                Layout::Array => {
                    text.push(if self.messages + n as u64 == 0 { b'[' } else { b',' });
                    text.extend_from_slice(message);
                }
            }
        }
        self.put(&text, count)
    }

    fn put(&mut self, text: &[u8], messages: u64) -> io::Result<()> {
        // An array is closed after each write, and the bracket is written over by the next.
        let end: &[u8] = if self.layout == Layout::Array { b"]\n" } else { b"" };
        let written = self
            .file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(text))
            .and_then(|()| self.file.write_all(end));
        if let Err(error) = written {
            // What was written of it must not stay: the same messages come again.
            let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            if self.layout == Layout::Array && self.length > 0 {
                let _ = self.file.write_all(end);
            }
            return Err(error);
        }
        self.length += text.len() as u64;
        self.messages += messages;
        Ok(())
    }

    /// How many more messages fit.
    pub(super) fn room(&self, limits: &Limits) -> usize {
        if self.left(limits) == 0 {
            return 0;
        }
        match limits.messages {
            0 => usize::MAX,
            most => most.saturating_sub(self.messages) as usize,
        }
    }

    /// How many more bytes fit.
    pub(super) fn left(&self, limits: &Limits) -> u64 {
        if limits.bytes == 0 { u64::MAX } else { limits.bytes.saturating_sub(self.length) }
    }

    /// Whether someone else has taken it away.
    pub(super) fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// When it is too old.
    pub(super) fn due(&self, limits: &Limits) -> Option<Time> {
        (!limits.age.is_zero()).then(|| self.since + limits.age)
    }

    /// Brings it to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Closes a full one; a plain name is made free for the next.
    pub(super) fn lay_aside(self, naming: Naming, now: Time) -> io::Result<()> {
        self.sync()?;
        if naming != Naming::Plain {
            return Ok(());
        }
        let mut at = now;
        let mut aside = stamped(&self.path, at);
        while aside.exists() {
            at = at + Duration::from_millis(1);
            aside = stamped(&self.path, at);
        }
        fs::rename(&self.path, aside)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stamped(path: &Path, now: Time) -> PathBuf {
    let name = name(path);
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name.as_str(), ""),
    };
    path.with_file_name(format!("{stem}-{}{extension}", now.0))
}
