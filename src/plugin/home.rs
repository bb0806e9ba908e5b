//! Where the things of a library belong: the plugin that it was installed as, its folder, and what the server offers to
//! guests beyond what this module knows itself.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::data::Value;
use crate::diag::Result;

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
pub struct Home(OnceLock<(PathBuf, Offered)>);

impl Home {
    /// The library serves a plugin from now on; `folder` is the plugin's own. The first word counts.
    pub fn settle(&self, folder: PathBuf, services: Offered) {
        self.0.get_or_init(|| (folder, services));
    }

    /// The folder of the plugin, which may not be there yet.
    pub fn folder(&self) -> Option<&PathBuf> {
        self.0.get().map(|(folder, _)| folder)
    }

    pub fn services(&self) -> Option<&Arc<dyn Services>> {
        self.0.get().and_then(|(_, services)| services.get())
    }
}
