//! A folder of files: which of them are new, complete, and next.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Time;

/// So long must a file have stood still to count as complete.
const STILL: Duration = Duration::from_secs(2);

/// What is known of a file by looking at it: when it was written last, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    pub(super) written: Time,
    pub(super) length: u64,
}

impl Look {
    fn of(about: &Metadata) -> io::Result<Look> {
        let since = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Look { written: Time(since.as_millis() as i64), length: about.len() })
    }
}

/// The files of a folder that were seen so far.
#[derive(Default)]
pub(super) struct Folder {
    /// How they looked when they were given.
    pub(super) given: HashMap<PathBuf, Look>,
    /// How those that are not complete looked, and since when.
    growing: HashMap<PathBuf, (Look, Time)>,
}

impl Folder {
    /// Whether the file was given, and has not changed since.
    pub(super) fn is_as_given(&self, path: &Path) -> bool {
        let look = std::fs::metadata(path).ok().and_then(|about| Look::of(&about).ok());
        look.is_some() && look.as_ref() == self.given.get(path)
    }

    /// Looks at the folder and takes the files that are new or changed and complete, in the order in which they were
    /// written. Also says whether there are some that are not complete yet.
    pub(super) fn look(&mut self, folder: &Path, now: Time) -> io::Result<(Vec<PathBuf>, bool)> {
        let mut there: Vec<(Look, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            // A file may go while we look.
            let Ok(about) = std::fs::metadata(&path) else { continue };
            if about.is_file() && about.len() > 0 {
                there.push((Look::of(&about)?, path));
            }
        }
        there.sort_by(|a, b| (a.0.written, &a.1).cmp(&(b.0.written, &b.1)));
        self.given.retain(|path, _| there.iter().any(|(_, other)| other == path));
        let mut growing = HashMap::new();
        let mut ready = Vec::new();
        for (look, path) in there {
            if self.given.get(&path) == Some(&look) {
                continue;
            }
            let since = match self.growing.get(&path) {
                Some((before, since)) if *before == look => *since,
                _ => now,
            };
            if now.since(since.min(look.written.max(Time(0)))) >= STILL {
                self.given.insert(path.clone(), look);
                ready.push(path);
            } else {
                growing.insert(path, (look, since));
            }
        }
        self.growing = growing;
        Ok((ready, !self.growing.is_empty()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};

    use crate::clock::Clock;

    use super::*;

    fn write(path: &Path, text: &str, written: Time) {
        fs::write(path, text).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_millis(written.0 as u64)).unwrap();
    }

    #[test]
    fn complete_files_are_given_once_in_the_order_of_writing() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let now = Clock::real().now();
        let old = now - Duration::from_secs(60);
        write(&at("b"), "1", old);
        write(&at("a"), "2", old + Duration::from_secs(1));
        write(&at("empty"), "", old);
        fs::create_dir(at("sub")).unwrap();
        write(&at("new"), "3", now);
        let mut folder = Folder::default();
        assert_eq!(folder.look(temp.path(), now).unwrap(), (vec![at("b"), at("a")], true));
        assert_eq!(folder.look(temp.path(), now + Duration::from_secs(1)).unwrap(), (vec![], true));
        write(&at("new"), "34", now + Duration::from_secs(1));
        assert_eq!(folder.look(temp.path(), now + Duration::from_secs(2)).unwrap(), (vec![], true));
        assert_eq!(folder.look(temp.path(), now + Duration::from_secs(4)).unwrap(), (vec![at("new")], false));
        assert_eq!(folder.look(temp.path(), now + Duration::from_secs(9)).unwrap(), (vec![], false));
        write(&at("b"), "4", now);
        assert_eq!(folder.look(temp.path(), now + Duration::from_secs(9)).unwrap(), (vec![at("b")], false));
    }
}
