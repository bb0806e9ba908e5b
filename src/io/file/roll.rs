//! One file that is being written: opening it at its end, and laying it aside when it is full or old.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Time;

use super::mend;

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

/// How files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    pub(super) layout: Layout,
    pub(super) naming: Naming,
    /// What a crash cut off is cut away, and the names of new files are brought to the disk with them.
    pub(super) durable: bool,
    /// A newline between quotes ends no message.
    pub(super) quoted: bool,
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
    how: How,
    length: u64,
    messages: u64,
    since: Time,
    /// Its name may not be on the disk yet.
    fresh: bool,
}

impl Open {
    /// Opens the file at its end, and makes it and its folder when they are missing. A line that a crash cut off stays
    /// alone; an array that was cut off is laid aside. A durable one loses what is not whole.
    pub(super) fn at(path: &Path, how: How, now: Time) -> io::Result<Open> {
        let path = match how.naming {
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
        let fresh = length == 0;
        if how.durable && length > 0 {
            let whole = match how.layout {
                Layout::Lines => Some(mend::whole_lines(&mut file, how.quoted)?),
                Layout::Array => mend::whole_elements(&mut file)?,
            };
            if let Some(whole) = whole {
                let mut open = Open { path, file, how, length, messages, since: now, fresh };
                open.cut(whole, u64::from(how.layout == Layout::Array && whole > 0))?;
                return Ok(open);
            }
        }
        if length > 0 {
            let from = length.saturating_sub(4096);
            file.seek(SeekFrom::Start(from))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            match how.layout {
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
                        Open { path: path.clone(), file, how, length, messages, since: now, fresh }.lay_aside(now)?;
                        file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
                        length = 0;
                    }
                },
            }
        }
        Ok(Open { path, file, how, length, messages, since: now, fresh })
    }

    /// Opens a file of which it is known how much is to stay of it.
    pub(super) fn cut_to(path: &Path, how: How, length: u64, messages: u64, now: Time) -> io::Result<Open> {
        let file = File::options().read(true).write(true).open(path)?;
        let there = file.metadata()?.len();
        let mut open = Open { path: path.to_owned(), file, how, length: there, messages, since: now, fresh: true };
        open.cut(length.min(there), messages)?;
        open.sync()?;
        Ok(open)
    }

    /// Cuts off what stands behind that length.
    pub(super) fn cut(&mut self, length: u64, messages: u64) -> io::Result<()> {
        let end: &[u8] = if self.how.layout == Layout::Array && length > 0 { b"]\n" } else { b"" };
        let there = self.file.metadata()?.len();
        let lost = there.saturating_sub(length + end.len() as u64);
        if lost > 0 {
            tracing::warn!("the last {lost} bytes of `{}` are cut off", self.path.display());
        }
        // The last bytes of an array may be others, as many as they are.
        if there != length + end.len() as u64 || !end.is_empty() {
            self.file.set_len(length)?;
            self.file.seek(SeekFrom::Start(length))?;
            self.file.write_all(end)?;
        }
        (self.length, self.messages) = (length, messages);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes and messages, as [`Open::cut`] takes them.
    pub(super) fn mark(&self) -> (u64, u64) {
        (self.length, self.messages)
    }

    /// What the system knows the file by, whatever its name.
    pub(super) fn number(&self) -> io::Result<u64> {
        self.file.metadata().map(|about| number(&about))
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
            match self.how.layout {
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
        let end: &[u8] = if self.how.layout == Layout::Array { b"]\n" } else { b"" };
        let written = self
            .file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(text))
            .and_then(|()| self.file.write_all(end));
        if let Err(error) = written {
            // What was written of it must not stay: the same messages come again.
            let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            if self.how.layout == Layout::Array && self.length > 0 {
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
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.how.durable && self.fresh {
            sync_folder(&self.path)?;
        }
        self.fresh = false;
        Ok(())
    }

    /// Closes a full one; a plain name is made free for the next.
    pub(super) fn lay_aside(mut self, now: Time) -> io::Result<()> {
        self.sync()?;
        if self.how.naming != Naming::Plain {
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

/// Brings to the disk which files stand beside that one.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Elsewhere a folder is no file that could be opened.
        Some(folder) if cfg!(unix) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
pub(super) fn number(about: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(about)
}

/// All the same where the system tells none: then a file is known by its name.
#[cfg(not(unix))]
pub(super) fn number(_: &fs::Metadata) -> u64 {
    1
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The time in the name of a file that was named after that path, or made free from it.
pub(super) fn stamp(path: &Path, naming: Naming, found: &str) -> Option<Time> {
    let name = name(path);
    let number = match naming {
        Naming::Prefix => found.strip_suffix(&name)?.strip_suffix('-')?,
        Naming::Plain | Naming::Suffix => {
            let (stem, extension) = parts(&name);
            found.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?
        }
    };
    let digits = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse().ok().filter(|_| digits).map(Time)
}

fn parts(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    }
}

fn stamped(path: &Path, now: Time) -> PathBuf {
    let name = name(path);
    let (stem, extension) = parts(&name);
    path.with_file_name(format!("{stem}-{}{extension}", now.0))
}
