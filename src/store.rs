//! The data folder: definitions in one file, uploads and plugins in folders beside it.
//!
//! - [`Store`] is the folder, held by one process at a time; the lock on `kuiper.redb` says so.
//! - A [`Bucket`] of it maps keys to texts. Each write is on the disk when the call returns.
//! - [`Uploads`] is the folder of files that a user sent; no name leads out of it.
//! - A [`Log`] is a folder of what happened, in order: the journal of a rule, the queue of a sink, what a stream retains.
//! - [`Snapshots`] are the states of a rule, each written whole or not at all.
//!
//! What a name of a user becomes in the name of a file is said in one place, and never leads out of its folder.
//! No other module names a file below the data folder.

mod kv;
mod log;
mod names;
mod snapshots;
mod uploads;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::diag::{Fault, Result, words};

pub use kv::Bucket;
pub use log::{Damage, LONGEST, Log, LogOptions, Reader, Recovered, Sync, View};
pub use snapshots::{Snapshots, SnapshotsFound, Unreadable};
pub use uploads::{Upload, Uploads};

/// The data folder of this process.
pub struct Store {
    folder: PathBuf,
    kv: kv::Kv,
    temporary: bool,
}

impl Store {
    /// Opens the folder, and makes it when it is missing. Fails with `Setup` when another process holds it.
    pub fn open(folder: &Path) -> Result<Store> {
        let refused = |error: std::io::Error| {
            let why = if folder.is_file() { "it is a file".to_owned() } else { words(&error) };
            Fault::setup(format!(
                "cannot use the data folder `{}`: {why}; choose another with `--data`",
                folder.display()
            ))
        };
        fs::create_dir_all(folder).map_err(refused)?;
        // Absolute from here on, so that a rule finds its files wherever the process goes.
        let folder = folder.canonicalize().map_err(refused)?;
        let kv = kv::Kv::open(&folder)?;
        let store = Store { folder, kv, temporary: false };
        store.uploads().sweep();
        Ok(store)
    }

    /// A new folder in the system's place for temporary ones; it is gone when the store is dropped.
    pub fn temporary() -> Result<Store> {
        let base = std::env::temp_dir();
        for number in 0..1000 {
            let folder = base.join(format!("kuiper-{}-{number}", std::process::id()));
            match fs::create_dir(&folder) {
                Ok(()) => {
                    let mut store = Store::open(&folder)?;
                    store.temporary = true;
                    return Ok(store);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Fault::setup(format!("cannot make a folder in `{}`: {error}", base.display())));
                }
            }
        }
        Err(Fault::setup(format!("`{}` holds too many folders of earlier runs; remove them", base.display())))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where plugins are installed: `<kind>/` below it.
    pub fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    pub fn uploads(&self) -> Uploads {
        Uploads::new(self.folder.join("uploads"))
    }

    /// The folder of a rule's state: its journal and its snapshots. May not be there yet.
    pub fn state(&self, rule: &str) -> PathBuf {
        self.folder.join("state").join(names::encode(rule))
    }

    /// Removes all that is kept of a rule's state. Says nothing when there is none.
    pub fn forget_state(&self, rule: &str) -> Result<()> {
        remove(&self.state(rule))
    }

    /// The folder of the queue of one sink of a rule. May not be there yet.
    pub fn queues(&self, rule: &str, sink: &str) -> PathBuf {
        self.folder.join("queues").join(names::encode(rule)).join(names::encode(sink))
    }

    /// Removes the queues of all sinks of a rule. Says nothing when there are none.
    pub fn forget_queues(&self, rule: &str) -> Result<()> {
        remove(&self.folder.join("queues").join(names::encode(rule)))
    }

    /// Removes the queue of one sink. Says nothing when there is none.
    pub fn forget_queue(&self, rule: &str, sink: &str) -> Result<()> {
        remove(&self.queues(rule, sink))
    }

    /// The rule and sink of each queue that is there, sorted by their names.
    pub fn all_queues(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for rule in names::below(&self.folder.join("queues"))? {
            for sink in names::below(&self.folder.join("queues").join(names::encode(&rule)))? {
                found.push((rule.clone(), sink));
            }
        }
        Ok(found)
    }

    /// The folder of a log of what is published to a stream. May not be there yet.
    pub fn retained(&self, stream: &str, log: &str) -> PathBuf {
        self.folder.join("retained").join(names::encode(stream)).join(names::encode(log))
    }

    /// Removes such a log. Says nothing when there is none.
    pub fn forget_retained(&self, stream: &str, log: &str) -> Result<()> {
        let folder = self.retained(stream, log);
        remove(&folder)?;
        match folder.parent().map(fs::remove_dir) {
            // Another log of the stream is there.
            Some(Err(error)) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(cannot("remove", &folder, &error)),
            _ => Ok(()),
        }
    }

    /// The stream and the name of each such log that is there, sorted.
    pub fn all_retained(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for stream in names::below(&self.folder.join("retained"))? {
            for log in names::below(&self.folder.join("retained").join(names::encode(&stream)))? {
                found.push((stream.clone(), log));
            }
        }
        Ok(found)
    }

    /// The names of rules of which state is kept, sorted.
    pub fn all_states(&self) -> Result<Vec<String>> {
        names::below(&self.folder.join("state"))
    }

    /// The text under the key.
    pub fn get(&self, bucket: Bucket, key: &str) -> Result<Option<String>> {
        self.kv.get(bucket, key)
    }

    /// Writes the text under the key, over what was there.
    pub fn put(&self, bucket: Bucket, key: &str, text: &str) -> Result<()> {
        self.kv.put(bucket, key, text)
    }

    /// Writes many texts under their keys; all of them are there, or none.
    pub fn put_all(&self, bucket: Bucket, all: &[(String, String)]) -> Result<()> {
        self.kv.put_all(bucket, all)
    }

    /// Takes the key out; false when it was not there.
    pub fn remove(&self, bucket: Bucket, key: &str) -> Result<bool> {
        self.kv.remove(bucket, key)
    }

    /// All keys and texts, sorted by key.
    pub fn all(&self, bucket: Bucket) -> Result<Vec<(String, String)>> {
        self.kv.all(bucket)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(cannot("remove", folder, &error)),
        _ => Ok(()),
    }
}

/// Brings to the disk which files a folder holds.
fn sync_folder(folder: &Path) -> Result<()> {
    // Elsewhere a folder is no file that could be opened, and its names are on the disk with its files.
    if cfg!(unix) {
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| cannot("write", folder, &error))?;
    }
    Ok(())
}

/// What the disk refused; it may do it later.
fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Fault {
    let why = match error.kind() {
        ErrorKind::StorageFull => "the disk is full".to_owned(),
        _ => words(error),
    };
    Fault::unreachable(format!("cannot {what} `{}`: {why}", path.display()))
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.temporary {
            // The system clears its temporary folders anyway; there is no one left to tell.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.put(Bucket::STREAMS, "demo", "old").unwrap();
        store.put(Bucket::STREAMS, "demo", "new").unwrap();
        store.put(Bucket::STREAMS, "a", "first").unwrap();
        store.put_all(Bucket::RULES, &[("demo".into(), "rule".into()), ("other".into(), "too".into())]).unwrap();
        drop(store);
        let store = Store::open(home.path()).unwrap();
        assert_eq!(store.get(Bucket::STREAMS, "demo").unwrap().as_deref(), Some("new"));
        assert_eq!(
            store.all(Bucket::STREAMS).unwrap(),
            [("a".to_owned(), "first".to_owned()), ("demo".to_owned(), "new".to_owned())]
        );
        assert!(store.remove(Bucket::STREAMS, "demo").unwrap());
        assert!(!store.remove(Bucket::STREAMS, "demo").unwrap());
        assert_eq!(store.get(Bucket::STREAMS, "demo").unwrap(), None);
        assert_eq!(store.get(Bucket::RULES, "demo").unwrap().as_deref(), Some("rule"));
        assert_eq!(store.get(Bucket::RULES, "other").unwrap().as_deref(), Some("too"));
        assert!(store.all(Bucket::TABLES).unwrap().is_empty());
    }

    #[test]
    fn a_folder_in_use_is_refused_in_one_sentence() {
        let home = tempfile::tempdir().unwrap();
        let _first = Store::open(home.path()).unwrap();
        let second = Store::open(home.path()).err().unwrap().to_string();
        assert!(second.starts_with("the data folder `") && second.contains("in use"), "{second}");
        assert!(second.contains("--data") && !second.contains('\n'), "{second}");
    }

    #[test]
    fn a_temporary_folder_goes_with_its_store() {
        let store = Store::temporary().unwrap();
        let folder = store.folder().to_owned();
        store.put(Bucket::RULES, "r", "{}").unwrap();
        assert!(folder.exists());
        drop(store);
        assert!(!folder.exists());
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("kuiper.redb"), b"this is not a database at all").unwrap();
        let error = Store::open(home.path()).err().unwrap().to_string();
        assert!(error.contains("kuiper.redb"), "{error}");
    }
}
