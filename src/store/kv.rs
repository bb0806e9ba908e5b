use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

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

/// Keys to texts, in one file.
pub(super) struct Kv {
    db: Database,
    file: String,
}

impl Kv {
    pub(super) fn open(folder: &Path) -> Result<Kv> {
        let file = folder.join("kuiper.redb");
        let db = Database::builder().set_cache_size(CACHE).create(&file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Fault::setup(format!(
                "the data folder `{}` is in use by another kuiper; stop that one, or choose another folder with `--data`",
                folder.display()
            )),
            other => Fault::setup(format!(
                "cannot open `{}`: {other}; move the file away to start with no definitions",
                file.display()
            )),
        })?;
        Ok(Kv { db, file: file.display().to_string() })
    }

    pub(super) fn get(&self, bucket: Bucket, key: &str) -> Result<Option<String>> {
        let read = || -> Result<Option<String>, redb::Error> {
            let table = match self.db.begin_read()?.open_table(bucket.table()) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(key)?.map(|text| text.value().to_owned()))
        };
        read().map_err(|error| self.fault("read", &error))
    }

    pub(super) fn all(&self, bucket: Bucket) -> Result<Vec<(String, String)>> {
        let read = || -> Result<Vec<(String, String)>, redb::Error> {
            let table = match self.db.begin_read()?.open_table(bucket.table()) {
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
        read().map_err(|error| self.fault("read", &error))
    }

    pub(super) fn put(&self, bucket: Bucket, key: &str, text: &str) -> Result<()> {
        let write = || -> Result<(), redb::Error> {
            let change = self.db.begin_write()?;
            change.open_table(bucket.table())?.insert(key, text)?;
            Ok(change.commit()?)
        };
        write().map_err(|error| self.fault("write", &error))
    }

    /// Many keys at once: all are written, or none.
    pub(super) fn put_all(&self, bucket: Bucket, all: &[(String, String)]) -> Result<()> {
        let write = || -> Result<(), redb::Error> {
            let change = self.db.begin_write()?;
            let mut table = change.open_table(bucket.table())?;
            for (key, text) in all {
                table.insert(key.as_str(), text.as_str())?;
            }
            drop(table);
            Ok(change.commit()?)
        };
        write().map_err(|error| self.fault("write", &error))
    }

    pub(super) fn remove(&self, bucket: Bucket, key: &str) -> Result<bool> {
        let write = || -> Result<bool, redb::Error> {
            let change = self.db.begin_write()?;
            let was_there = change.open_table(bucket.table())?.remove(key)?.is_some();
            change.commit()?;
            Ok(was_there)
        };
        write().map_err(|error| self.fault("write", &error))
    }

    fn fault(&self, what: &str, error: &redb::Error) -> Fault {
        Fault::unreachable(format!("cannot {what} `{}`: {error}", self.file))
    }
}
