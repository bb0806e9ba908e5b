//! Who writes to which path: one sink of this server alone, since each knows how long its files are, cuts off what a crash
//! left of them, and takes back what it wrote. Two would write over one another.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The paths that sinks write to.
static TAKEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The right to write to a path, until it is dropped.
pub(super) struct Claim(PathBuf);

impl Claim {
    /// None while another sink has it. Blocks shortly.
    pub(super) fn of(path: &Path) -> Option<Claim> {
        let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
        let path = match (folder, path.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => path.to_owned(),
        };
        let is_free = taken().insert(path.clone());
        is_free.then(|| Claim(path))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        taken().remove(&self.0);
    }
}

fn taken() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}
