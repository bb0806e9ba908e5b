//! Where the things of a library belong: the plugin that it was installed as, its folder, and what the server offers to
//! guests beyond what this module knows itself.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::data::Value;
use crate::diag::Result;

use super::deaths::Mark;

/// What the server offers to guests.
pub trait Services: Send + Sync {
    /// What a template comes to for a row (an object) or for several (an array of objects).
    fn template(&self, text: &str, data: &Value) -> Result<String>;

    /// The secret of that name, from the configuration.
    fn secret(&self, name: &str) -> Option<String>;

    /// How often a rule was started since the server was; 0 for what is no rule.
    fn run(&self, rule: &str) -> u64;

    /// Whether what a rule has counted is to outlive a restart: its `qos` is 1 or 2.
    fn keeps(&self, rule: &str) -> bool;
}

/// Empty until the server is set up, which is before any rule is made.
pub type Offered = Arc<OnceLock<Arc<dyn Services>>>;

/// Of one library. It is never freed, as the library is never unmapped; empty for one that belongs to no plugin.
#[derive(Default)]
pub struct Home {
    settled: OnceLock<(PathBuf, Offered)>,
    /// What the deaths call it, where it is mapped into this process.
    library: String,
}

impl Home {
    /// Of a library that is mapped into this process.
    pub fn here(library: String) -> Home {
        Home { settled: OnceLock::new(), library }
    }

    /// What a thread is to say that calls the library for a rule, or for a stream or table that rules share.
    pub fn mark(&self, owner: &str) -> Mark {
        if self.library.is_empty() { Mark::default() } else { Mark::new(&self.library, owner) }
    }

    /// The library serves a plugin from now on; `folder` is the plugin's own. The first word counts.
    pub fn settle(&self, folder: PathBuf, services: Offered) {
        self.settled.get_or_init(|| (folder, services));
    }

    /// The folder of the plugin, which may not be there yet.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.settled.get().map(|(folder, _)| folder)
    }

    pub fn services(&self) -> Option<&Arc<dyn Services>> {
        self.settled.get().and_then(|(_, services)| services.get())
    }
}
