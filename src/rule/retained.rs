//! The logs of streams that retain what is published to their topics: there from the definition of the stream to its end,
//! whoever reads.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Host;
use crate::catalog::{Definition, What};
use crate::diag::{Diagnostic, Fault, Result};
use crate::flow::RetainedLog;
use crate::io::{self, Retained};
use crate::store::Bucket;

/// The logs that are open, by stream.
pub(super) type Logs = HashMap<String, Arc<RetainedLog>>;

impl Host {
    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topics of which a stream or table retains rows, and how many.
    fn retains(&self, definition: &Definition) -> Result<Option<(String, u64)>, Diagnostic> {
        if definition.connector() != "memory" || definition.is_lookup() {
            return Ok(None);
        }
        io::retention(&self.source_props(definition)?.0)
    }

    /// Has a stream retain what its definition, and its configuration key, say now. One that no rule could read as it is
    /// keeps what it has. Blocks.
    ///
    /// # Errors
    /// What the disk has against it.
    pub(super) fn retain(&self, definition: &Definition) -> Result<()> {
        let Ok(wanted) = self.retains(definition) else { return Ok(()) };
        let name = definition.name.as_str();
        let mut logs = self.logs();
        let Some((topics, rows)) = wanted else {
            let had = logs.contains_key(name);
            drop(logs);
            return if had { self.forget_log(name) } else { Ok(()) };
        };
        if let Some(log) = logs.get(name).filter(|log| log.datasource() == topics) {
            log.limit(rows);
            return Ok(());
        }
        let log = RetainedLog::open(&self.store, name, &topics, rows)?;
        let shared: Arc<dyn Retained> = log.clone();
        self.bus.retain(name, &topics, &shared);
        if let Some(old) = logs.insert(name.to_owned(), log) {
            // Rules that run read it until they are started again.
            old.end();
        }
        Ok(())
    }

    /// The same for a stream of the catalog, by its name. For any other there is nothing to do.
    pub(super) fn retain_as_defined(&self, name: &str) -> Result<()> {
        self.catalog.find(name).map_or(Ok(()), |definition| self.retain(&definition))
    }

    /// The name by which a stream is known to all; empty for one that a rule defines for itself, which has nothing that
    /// would outlive the rule.
    pub(super) fn name_of(&self, stream: &Definition) -> String {
        let known = self.catalog.find(&stream.name).filter(|known| known.statement == stream.statement);
        known.map(|known| known.name.to_string()).unwrap_or_default()
    }

    /// A stream retains nothing any more.
    pub(super) fn forget_log(&self, name: &str) -> Result<()> {
        let log = self.logs().remove(name);
        log.iter().for_each(|log| log.end());
        match RetainedLog::of(&self.store, name)? {
            Some(_) => self.store.remove(Bucket::RETAINED, name).map(drop),
            None => Ok(()),
        }
    }

    /// Opens the logs of all streams, and removes those that are of none. Gives what went wrong.
    pub(super) fn open_logs(&self) -> Vec<String> {
        let mut told = Vec::new();
        for definition in [What::Stream, What::Table].into_iter().flat_map(|what| self.catalog.all(what)) {
            if let Err(fault) = self.retain(&definition) {
                told.push(format!("what `{}` retains cannot be read: {fault}", definition.name));
            }
        }
        if let Err(fault) = self.sweep_logs() {
            told.push(format!("what streams do not retain any more cannot be removed: {fault}"));
        }
        told
    }

    fn sweep_logs(&self) -> Result<(), Fault> {
        for (stream, _) in self.store.all(Bucket::RETAINED)? {
            // A definition that cannot be read as it is may be mended.
            let gone = self.catalog.find(&stream).is_none_or(|found| matches!(self.retains(&found), Ok(None)));
            if gone {
                self.forget_log(&stream)?;
            }
        }
        for (stream, log) in self.store.all_retained()? {
            if RetainedLog::of(&self.store, &stream)?.is_none_or(|known| known != log) {
                self.store.forget_retained(&stream, &log)?;
            }
        }
        Ok(())
    }
}
