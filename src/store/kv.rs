use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::diag::{Fault, Result};

/// Definitions are small and few; this much memory holds those that are read again and again.
const CACHE: usize = 1 << 20;

/// One kind of definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket(&'static str);

impl Bucket {
    pub const STREAMS: Bucket = Bucket("streams");
    pub const TABLES: Bucket = Bucket("tables");
    pub const RULES: Bucket = Bucket("rules");
    /// Key `sources.<type>.<key>`.
    pub const CONF_KEYS: Bucket = Bucket("confkeys");
    /// Key `<kind>/<name>`.
    pub const PLUGINS: Bucket = Bucket("plugins");
    /// Texts that other programs write and functions read.
    pub const KEYED_STATE: Bucket = Bucket("keyed_state");
    /// Accounts of rules, by rule.
    pub const LEDGERS: Bucket = Bucket("ledgers");
    /// What is known of the logs of streams that retain, by stream.
    pub const RETAINED: Bucket = Bucket("retained");
    /// What rules that are gone have left at other programs, by whom these take the rule for.
    pub const LEFT: Bucket = Bucket("left");
    /// What the server knows of itself: `instance` is its name.
    pub const SERVER: Bucket = Bucket("server");

    const fn table(self) -> TableDefinition<'static, &'static str, &'static str> {
        TableDefinition::new(self.0)
    }
}

type Opening = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Keys to texts, in one file.
pub(super) struct Kv {
    /// None where it could not be opened again.
    db: RwLock<Option<Database>>,
    opening: Opening,
    file: String,
}

impl Kv {
    pub(super) fn open(folder: &Path) -> Result<Kv> {
        let file = folder.join("kuiper.redb");
        let path = file.clone();
        if fs::metadata(&path).is_ok_and(|about| about.len() == 0) {
            tracing::warn!(
                "`{}` is empty: there are no streams and no rules; if there were, a backup has them",
                file.display()
            );
        }
        let opening = Box::new(move || Database::builder().set_cache_size(CACHE).create(&path));
        let db = guarded(|| opening().map_err(redb::Error::from)).map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => Fault::setup(format!(
                "the data folder `{}` is in use by another kuiper; stop that one, or choose another folder with `--data`",
                folder.display()
            )),
            other => Fault::setup(format!(
                "cannot open `{}`: {other}; bring it back from a backup, or move it away to start with no definitions",
                file.display()
            )),
        })?;
        Ok(Kv { db: RwLock::new(Some(db)), opening, file: file.display().to_string() })
    }

    /// Works on the file. After an error of the disk, such as one that is full, the database takes nothing any more until
    /// it is opened anew.
    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let done = match &*self.db.read().unwrap_or_else(PoisonError::into_inner) {
            Some(db) => guarded(|| work(db)),
            None => Err(redb::Error::PreviousIo),
        };
        let Err(redb::Error::PreviousIo) = done else { return done };
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // It holds the file as long as it is there.
        let before = db.take();
        close(before)?;
        let db = db.insert((self.opening)()?);
        guarded(|| work(db))
    }

    pub(super) fn get(&self, bucket: Bucket, key: &str) -> Result<Option<String>> {
        let read = |db: &Database| -> Result<Option<String>, redb::Error> {
            let table = match db.begin_read()?.open_table(bucket.table()) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(key)?.map(|text| text.value().to_owned()))
        };
        self.with(read).map_err(|error| self.fault("read", &error))
    }

    pub(super) fn all(&self, bucket: Bucket) -> Result<Vec<(String, String)>> {
        let read = |db: &Database| -> Result<Vec<(String, String)>, redb::Error> {
            let table = match db.begin_read()?.open_table(bucket.table()) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (key, text) = entry?;
                found.push((key.value().to_owned(), text.value().to_owned()));
            }
            Ok(found)
        };
        self.with(read).map_err(|error| self.fault("read", &error))
    }

    pub(super) fn put(&self, bucket: Bucket, key: &str, text: &str) -> Result<()> {
        let write = |db: &Database| -> Result<(), redb::Error> {
            let change = db.begin_write()?;
            change.open_table(bucket.table())?.insert(key, text)?;
            Ok(change.commit()?)
        };
        self.with(write).map_err(|error| self.fault("write", &error))
    }

    /// Many keys at once: all are written, or none.
    pub(super) fn put_all(&self, bucket: Bucket, all: &[(String, String)]) -> Result<()> {
        let write = |db: &Database| -> Result<(), redb::Error> {
            let change = db.begin_write()?;
            let mut table = change.open_table(bucket.table())?;
            for (key, text) in all {
                table.insert(key.as_str(), text.as_str())?;
            }
            drop(table);
            Ok(change.commit()?)
        };
        self.with(write).map_err(|error| self.fault("write", &error))
    }

    pub(super) fn remove(&self, bucket: Bucket, key: &str) -> Result<bool> {
        let write = |db: &Database| -> Result<bool, redb::Error> {
            let change = db.begin_write()?;
            let was_there = change.open_table(bucket.table())?.remove(key)?.is_some();
            change.commit()?;
            Ok(was_there)
        };
        self.with(write).map_err(|error| self.fault("write", &error))
    }

    fn fault(&self, what: &str, error: &redb::Error) -> Fault {
        Fault::unreachable(format!("cannot {what} `{}`: {error}", self.file))
    }
}

impl Drop for Kv {
    fn drop(&mut self) {
        let db = self.db.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if close(db).is_err() {
            tracing::error!("`{}` is damaged", self.file);
        }
    }
}

/// The database panics at some kinds of damage, also when it is closed.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(redb::Error::Corrupted("it is damaged".into())))
}

fn close(db: Option<Database>) -> Result<(), redb::Error> {
    guarded(|| {
        drop(db);
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::{Error, ErrorKind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use super::*;

    /// A file on a disk that takes nothing while it is full.
    #[derive(Debug)]
    struct Disk(FileBackend, Arc<AtomicBool>);

    impl Disk {
        fn room(&self) -> Result<(), Error> {
            if self.1.load(Ordering::SeqCst) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, Error> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), Error> {
            self.room().and_then(|()| self.0.set_len(len))
        }

        fn sync_data(&self) -> Result<(), Error> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
            self.room().and_then(|()| self.0.write(offset, data))
        }

        fn close(&self) -> Result<(), Error> {
            self.0.close()
        }
    }

    #[test]
    fn after_a_full_disk_it_takes_what_comes_again() {
        let (home, full) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
        let (path, switch) = (home.path().join("kv"), full.clone());
        let opening: Opening = Box::new(move || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
            Database::builder().create_with_backend(Disk(FileBackend::new(file)?, switch.clone()))
        });
        let kv = Kv { db: RwLock::new(Some(opening().unwrap())), opening, file: "kv".into() };
        kv.put(Bucket::RULES, "a", "1").unwrap();
        full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            kv.put(Bucket::RULES, "b", "2").unwrap_err();
        }
        full.store(false, Ordering::SeqCst);
        assert_eq!(kv.get(Bucket::RULES, "a").unwrap().as_deref(), Some("1"));
        kv.put(Bucket::RULES, "c", "3").unwrap();
        assert_eq!(kv.all(Bucket::RULES).unwrap().last().unwrap().0, "c");
    }

    #[test]
    fn a_damaged_file_is_no_panic() {
        let home = tempfile::tempdir().unwrap();
        let kv = Kv::open(home.path()).unwrap();
        (0..5).for_each(|n| kv.put(Bucket::RULES, &format!("rule {n}"), &"x".repeat(300)).unwrap());
        drop(kv);
        let path = home.path().join("kuiper.redb");
        let whole = fs::read(&path).unwrap();
        let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        let (mut refused, mut read) = (0, 0);
        for (n, at) in used.iter().enumerate().filter(|(n, _)| *n < 200 || n % 23 == 0) {
            let mut bytes = whole.clone();
            bytes[*at] ^= 1 << (n % 8);
            fs::write(&path, &bytes).unwrap();
            match Kv::open(home.path()).and_then(|kv| kv.all(Bucket::RULES)) {
                Ok(all) => read += all.len(),
                Err(fault) => refused += usize::from(fault.to_string().contains("kuiper.redb")),
            }
        }
        assert!(refused > 0 && read > 0, "{refused} {read}");
        for (bytes, opens) in [(&b""[..], true), (b"hello", false), (&whole[..whole.len() / 2], false)] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(Kv::open(home.path()).is_ok(), opens);
        }
    }
}
