use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::diag::Result;

use super::{cannot, sync_folder};

/// At the start of each file; the number is that of the form.
const MAGIC: &[u8; 8] = b"kuiperS1";

/// Magic, sequence, length and check.
const HEAD: usize = 28;

/// So many are kept.
const KEPT: usize = 3;

/// The states of a rule, each in a file named by a sequence: what the state stands for.
///
/// A file is written under another name, brought to the disk, and then renamed, so that it is there whole or not at
/// all. The last three are kept: one that is damaged later falls back to the one before.
pub struct Snapshots;

/// A snapshot that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub file: PathBuf,
    pub sequence: u64,
    pub why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the snapshot `{}` cannot be used: {}", self.file.display(), self.why)
    }
}

/// What [`Snapshots::load`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotsFound {
    /// The newest that can be read: its sequence and what was written.
    pub newest: Option<(u64, Vec<u8>)>,
    /// Newer ones that cannot, newest first.
    pub unreadable: Vec<Unreadable>,
}

impl Snapshots {
    /// Writes a snapshot, which may come in pieces, over one of the same sequence. It is on the disk when the call returns. Older ones beyond
    /// the third go; returns the sequence of the oldest that is kept. Fails with `Unreachable` when the disk does;
    /// those from before are there still.
    pub fn write<P: AsRef<[u8]>>(folder: &Path, sequence: u64, pieces: &[P]) -> Result<u64> {
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        let part = folder.join("snapshot.part");
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(&head(sequence, pieces))?;
            pieces.iter().try_for_each(|piece| file.write_all(piece.as_ref()))?;
            file.sync_all()
        };
        if let Err(error) = write() {
            // What is left of it takes space, and is written over the next time if it cannot be removed.
            let _ = fs::remove_file(&part);
            return Err(cannot("write", &part, &error));
        }
        let path = path(folder, sequence);
        fs::rename(&part, &path).map_err(|error| cannot("write", &path, &error))?;
        sync_folder(folder)?;
        let mut kept = list(folder)?;
        let old = kept.len().saturating_sub(KEPT);
        for sequence in kept.drain(..old) {
            let path = self::path(folder, sequence);
            fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
        }
        if old > 0 {
            remove_damaged(folder)?;
        }
        Ok(kept.first().copied().unwrap_or(sequence))
    }

    /// The newest snapshot that can be read. Those that cannot are laid aside as `*.damaged`, so that they stand in the
    /// way of no later one. Fails with `Unreachable` when the disk does.
    pub fn load(folder: &Path) -> Result<SnapshotsFound> {
        let mut found = SnapshotsFound::default();
        for sequence in list(folder)?.into_iter().rev() {
            let file = path(folder, sequence);
            match read(&file, sequence)? {
                Ok(bytes) => {
                    found.newest = Some((sequence, bytes));
                    break;
                }
                Err(why) => {
                    let aside = file.with_extension("snapshot.damaged");
                    fs::rename(&file, aside).map_err(|error| cannot("rename", &file, &error))?;
                    found.unreadable.push(Unreadable { file, sequence, why: why.into() });
                }
            }
        }
        Ok(found)
    }

    /// The sequences of all that are kept, oldest first.
    pub fn sequences(folder: &Path) -> Result<Vec<u64>> {
        list(folder)
    }

    /// Removes all snapshots.
    pub fn clear(folder: &Path) -> Result<()> {
        for sequence in list(folder)? {
            let path = path(folder, sequence);
            fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
        }
        remove_damaged(folder)
    }
}

fn path(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:020}.snapshot"))
}

fn head<P: AsRef<[u8]>>(sequence: u64, pieces: &[P]) -> [u8; HEAD] {
    let length: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..24].copy_from_slice(&(length as u64).to_le_bytes());
    let mut check = crc32fast::Hasher::new();
    check.update(&head[..24]);
    pieces.iter().for_each(|piece| check.update(piece.as_ref()));
    head[24..].copy_from_slice(&check.finalize().to_le_bytes());
    head
}

/// What stands in the file, or why that is not what was written.
fn read(path: &Path, sequence: u64) -> Result<std::result::Result<Vec<u8>, &'static str>> {
    let read = || -> std::io::Result<std::result::Result<Vec<u8>, &'static str>> {
        let mut file = File::open(path)?;
        // As long as the file is, whatever its head says.
        let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        if bytes.len() < HEAD {
            return Ok(Err("it is cut off"));
        }
        let body = bytes.split_off(HEAD);
        if !bytes.starts_with(MAGIC) {
            return Ok(Err("it is none that this version can read"));
        }
        if bytes[..] == head(sequence, &[&body]) {
            return Ok(Ok(body));
        }
        let cut = bytes[16..24] != (body.len() as u64).to_le_bytes();
        Ok(Err(if cut { "its length is not the one that was written" } else { "its content is damaged" }))
    };
    read().map_err(|error| cannot("read", path, &error))
}

/// The sequences of the snapshots in a folder, oldest first.
fn list(folder: &Path) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for name in names(folder)? {
        let number = name.strip_suffix(".snapshot").filter(|number| number.len() == 20);
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn remove_damaged(folder: &Path) -> Result<()> {
    for name in names(folder)?.iter().filter(|name| name.ends_with(".snapshot.damaged")) {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot("read", folder, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| cannot("read", folder, &error))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_three_are_kept_and_the_newest_is_loaded() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/er");
        assert_eq!(Snapshots::load(&folder).unwrap(), SnapshotsFound::default());
        let oldest: Vec<u64> =
            (1..=5).map(|n| Snapshots::write(&folder, n * 10, &[[n as u8; 50], [n as u8; 50]]).unwrap()).collect();
        assert_eq!(oldest, [10, 10, 10, 20, 30]);
        assert_eq!(Snapshots::sequences(&folder).unwrap(), [30, 40, 50]);
        Snapshots::write(&folder, 50, &[b"again"]).unwrap();
        assert_eq!(Snapshots::load(&folder).unwrap().newest, Some((50, b"again".to_vec())));
        Snapshots::clear(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn one_that_is_cut_or_damaged_falls_back_to_the_one_before() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        Snapshots::write(folder, 1, &[b"first"]).unwrap();
        Snapshots::write(folder, 2, &[b"second"]).unwrap();
        let file = path(folder, 2);
        let whole = fs::read(&file).unwrap();
        let cuts = (0..whole.len()).map(|length| whole[..length].to_vec());
        let longer = std::iter::once([&whole[..], b"x"].concat());
        let flips = (0..whole.len() * 8).map(|bit| {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        let mut tried = 0;
        for bytes in cuts.chain(longer).chain(flips) {
            fs::write(&file, bytes).unwrap();
            let found = Snapshots::load(folder).unwrap();
            assert_eq!(found.newest, Some((1, b"first".to_vec())));
            let [unreadable] = &found.unreadable[..] else { unreachable!("{found:?}") };
            assert_eq!((&unreadable.file, unreadable.sequence), (&file, 2));
            let text = unreadable.to_string();
            assert!(text.contains("2.snapshot` cannot be used: it"), "{text}");
            assert!(!file.exists() && folder.join(format!("{:020}.snapshot.damaged", 2)).exists());
            tried += 1;
        }
        assert_eq!(tried, whole.len() * 9 + 1);
        // A state of an older sequence under a newer name is none.
        fs::copy(path(folder, 1), &file).unwrap();
        assert_eq!(Snapshots::load(folder).unwrap().newest.unwrap().0, 1);
        for n in 3..=6 {
            Snapshots::write(folder, n, &[b"x"]).unwrap();
        }
        assert_eq!(fs::read_dir(folder).unwrap().count(), 3, "what was laid aside goes in the end");
    }

    #[test]
    fn a_snapshot_that_cannot_be_written_leaves_those_from_before() {
        let home = tempfile::tempdir().unwrap();
        Snapshots::write(home.path(), 1, &[b"first"]).unwrap();
        fs::create_dir(home.path().join("snapshot.part")).unwrap();
        let fault = Snapshots::write(home.path(), 2, &[b"second"]).unwrap_err();
        assert_eq!(fault.retry(), crate::diag::Retry::Later);
        assert!(fault.to_string().contains("snapshot.part`"), "{fault}");
        assert_eq!(Snapshots::load(home.path()).unwrap().newest, Some((1, b"first".to_vec())));
    }
}
