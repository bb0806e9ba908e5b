//! Guests: libraries that add sources, sinks and functions while the engine runs.
//!
//! [`Plugins`] is the registry. It installs a plugin from a zip, loads what the data folder holds at start, and wraps what a
//! library offers in the types that our own connectors and functions have, so that nobody above sees a difference.
//! A library is checked by reading its file before anything of it is executed, mapped under a name that its content
//! decides (a mapped file is never overwritten), and never unmapped: a plugin that is removed or replaced serves the
//! rules that hold it, and no new one.
//!
//! This is the only module with `unsafe`; what crosses the line to a guest is told in `plugins/sdk/src/abi.rs`.

#![allow(unsafe_code)]

mod asked;
mod cross;
mod deaths;
mod desk;
mod elf;
mod function;
mod home;
mod install;
mod isolated;
mod library;
mod lookup;
mod name;
mod package;
mod place;
mod policy;
mod probe;
mod put;
mod regular;
mod script;
mod shelf;
mod sign;
mod sink;
mod source;
mod state;
mod swap;
mod tap;
mod trial;
mod uses;
mod worker;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kuiper_plugin::abi::kind;
use serde_json::Value as Json;

use crate::diag::Diagnostic;
use crate::func::{Catalogue, Func};
use crate::io::{SinkPlan, SinkSpec, SourcePlan, SourceSpec};

use home::Offered;
use library::Symbol;
use shelf::Shelf;
use state::{Loaded, State, built_in};
use uses::Edition;

pub use asked::Part;
pub use deaths::{Deaths, Died};
pub use home::Services;
pub use isolated::{Isolation, Standing, main as host};
pub use name::Kind;
pub use package::is_zip;
pub use place::place_at;
pub use policy::Policy;
pub use probe::{Probe, Signed, Tried, Unpacked, check_library, unpack as unpack_zip};
pub use regular::{check_regular, read_regular, whole_path};
pub use sign::{ENTRY as SIGNATURE, PublicKey, SecretKey};
pub use swap::{Judge, Moved};
pub use tap::Line;
pub use trial::{Trial, TrialSettings, Verdict};
pub use uses::Mapped;

/// Version of the contract with guests, as `kuiper --version` prints it: `1.0`.
pub fn abi_version() -> String {
    format!("{}.{}", kuiper_plugin::abi::MAJOR, kuiper_plugin::abi::MINOR)
}

/// Checks the name of a plugin: letters, digits, hyphens and underscores.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    name::checked(name).map(|_| ())
}

/// Whether a plugin is meant by a name: the first letter may be in either case.
pub fn is_named(plugin: &str, name: &str) -> bool {
    name::canonical(plugin) == name::canonical(name)
}

/// The file name of a library in a project or zip: `Mysql@v1.0.0.so` for `mysql` and `1.0.0`.
pub fn library_name(plugin: &str, version: &str) -> String {
    format!("{}@v{version}.so", name::symbol(plugin))
}

/// Plugin and version that the file name of a library tells; `None` where it is none.
pub fn read_library_name(file: &str) -> Option<(String, String)> {
    name::FileName::read(file).map(|file| (file.plugin, file.version))
}

/// Checks a version, with or without the leading `v`, and returns it without; the error is a sentence.
pub fn check_version(version: &str) -> Result<&str, String> {
    name::checked_version(version.strip_prefix('v').unwrap_or(version))
}

/// Orders versions: numbers as numbers, a pre-release before its release.
pub fn compare_versions(one: &str, two: &str) -> std::cmp::Ordering {
    name::compare_versions(one, two)
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
    /// Functions to offer; all that the library exports where none is named.
    pub functions: Vec<String>,
    /// Whether it is to run in a process of its own; where nothing is said, as was said before, and then as the settings say.
    pub isolated: Option<bool>,
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
    /// What its `install.sh` has printed.
    pub install_output: String,
    /// Its process, where it has one of its own.
    pub process: Option<Standing>,
    /// Versions that were there before, and who still runs on them.
    pub mapped: Vec<Mapped>,
}

/// One symbol of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    pub name: String,
    /// `source`, `lookup`, `sink` or `function`.
    pub what: &'static str,
    pub about: String,
    pub signature: String,
    /// JSON Schema of the properties of a source, lookup or sink.
    pub schema: Json,
    /// It can read state that was written by versions from the first to the second, which it writes itself; zeros: nothing
    /// is said of it.
    pub state: (u32, u32),
}

/// Where plugins live, and how long they may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder; `plugins/<kind>` and `<kind>` below it are ours.
    pub data: PathBuf,
    /// Whether `install.sh` may run at all.
    pub scripts: bool,
    /// How long it may take.
    pub install_limit: Duration,
    /// Where there are any, only what one of these has signed is installed.
    pub trusted: Vec<PublicKey>,
    /// Whether the folder is ours to tidy up and complete: not so for one that a server may be using.
    pub owner: bool,
    /// Whether the deaths of this process are noted, and those of earlier ones heeded.
    pub deaths: bool,
    /// Plugins that run in processes of their own.
    pub isolation: Isolation,
}

impl Settings {
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Settings {
            data: data.into(),
            scripts: true,
            install_limit: Duration::from_secs(300),
            trusted: Vec::new(),
            owner: true,
            deaths: false,
            isolation: Isolation::default(),
        }
    }
}

/// All plugins of a server. Cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    /// None where there is no data folder: then there are no plugins.
    home: Option<(Shelf, Settings)>,
    state: Mutex<State>,
    /// Held while files change.
    changing: Mutex<()>,
}

impl Plugins {
    /// No plugins, and none can be installed: for a rule that runs without a server.
    pub fn none() -> Plugins {
        Plugins(Arc::new(Inner { home: None, state: Mutex::default(), changing: Mutex::default() }))
    }

    /// Loads what is installed. What cannot be loaded is told, and stops nothing.
    pub fn open(settings: Settings) -> (Plugins, Vec<String>) {
        let mut shelf = Shelf::isolating(&settings.data, &settings.isolation);
        let (mut told, mut outside) = (Vec::new(), None);
        if settings.owner {
            if let Err(error) = shelf.prepare() {
                told.push(format!("cannot use the folder of plugins below `{}`: {error}", settings.data.display()));
            }
            told.extend(shelf.recover());
            if settings.deaths {
                let (wrong, signal) = shelf.note_deaths();
                told.extend(wrong);
                outside = signal;
            }
        }
        let mut state = State { around: (Some(shelf.clone()), Offered::default()), ..State::default() };
        for kind in Kind::ALL {
            for book in shelf.books(kind) {
                let key = (kind, book.file.plugin.clone());
                // The highest version comes first; a lower one is taken only where that is broken.
                if state.loaded.contains_key(&key) {
                    continue;
                }
                let declared = shelf.read_declared(&book.file.plugin).unwrap_or_default();
                let loaded = shelf
                    .load(kind, &book)
                    .and_then(|library| state.fitted(&key, &book.file.version, library, &declared, &mut told));
                match loaded {
                    Ok(loaded) => {
                        state.places.of(&key).put(Some(loaded.edition.clone()));
                        state.loaded.insert(key, loaded);
                    }
                    Err(wrong) => {
                        told.push(format!("cannot load `{}`: {wrong}", book.path.display()));
                        state.broken.entry(key).or_insert(wrong);
                    }
                }
            }
        }
        shelf.forget_deaths_of_others();
        told.extend(shelf.deaths.all().iter().map(Died::told));
        if let Some(signal) = outside {
            let here = state.loaded.iter().filter(|(_, one)| one.edition.library.isolated.is_none());
            told.push(deaths::outside(&signal, here.map(|(key, _)| key.1.as_str()).collect()));
        }
        let inner = Inner { home: Some((shelf, settings)), state: Mutex::new(state), changing: Mutex::default() };
        (Plugins(Arc::new(inner)), told)
    }

    /// How often the server died in a plugin of this process.
    pub fn deaths(&self) -> Deaths {
        self.0.home.as_ref().map(|(shelf, _)| shelf.deaths.clone()).unwrap_or_default()
    }

    /// Names of the plugins of a kind, in alphabetical order.
    pub fn list(&self, kind: Kind) -> Vec<String> {
        let state = self.state();
        let names: BTreeSet<&String> =
            state.loaded.keys().chain(state.broken.keys()).filter(|key| key.0 == kind).map(|key| &key.1).collect();
        names.into_iter().cloned().collect()
    }

    pub fn describe(&self, kind: Kind, name: &str) -> Result<Description, Refusal> {
        let key = (kind, name::canonical(name));
        // A process may have ended since; who installs something does it afterwards.
        if let Ok(_changing) = self.0.changing.try_lock() {
            self.sweep(&key);
        }
        let state = self.state();
        let Some(loaded) = state.loaded.get(&key) else {
            return Err(match state.broken.get(&key) {
                Some(wrong) => Refusal::Invalid(format!("{} plugin `{name}` cannot be loaded: {wrong}", kind.one())),
                None => not_installed(kind, name),
            });
        };
        Ok(Description {
            version: loaded.edition.version.clone(),
            functions: loaded.functions.keys().cloned().collect(),
            symbols: loaded.edition.library.symbols.iter().map(Symbol::exported).collect(),
            install_output: self.install_output(kind, &key.1),
            process: loaded.edition.library.isolated.as_ref().map(|kept| kept.0.standing()),
            mapped: state.places.of(&key).mapped(),
            name: key.1,
        })
    }

    /// Whether a plugin of that name, with those functions, may be installed; asked before its zip is fetched.
    pub fn admit(&self, kind: Kind, wish: &Install) -> Result<(), Refusal> {
        name::checked(&wish.name)?;
        let (state, plugin) = (self.state(), name::canonical(&wish.name));
        if let Some(clash) = built_in(kind, &plugin) {
            return Err(Refusal::Invalid(clash));
        }
        let clash = wish.functions.iter().find_map(|function| state.clash(&plugin, function));
        if let Some(clash) = clash.filter(|_| kind == Kind::Functions) {
            return Err(Refusal::Invalid(clash));
        }
        if state.loaded.contains_key(&(kind, plugin)) {
            let text = format!("{} plugin `{}` is installed already; replace it with PUT", kind.one(), wish.name);
            return Err(Refusal::Invalid(text));
        }
        Ok(())
    }

    /// Installs a plugin that is not there yet, from a zip on this machine. Blocks: `install.sh` may take its time.
    pub fn install(&self, kind: Kind, wish: &Install, zip: &Path) -> Result<Description, Refusal> {
        let _changing = self.changing();
        self.admit(kind, wish)?;
        self.put(kind, wish, zip, &|_| Ok(())).map(|(found, _)| found)
    }

    /// Replaces a plugin that is there.
    pub fn update(&self, kind: Kind, wish: &Install, zip: &Path) -> Result<Description, Refusal> {
        self.swap(kind, wish, zip, &|_| Ok(())).map(|(found, _)| found)
    }

    /// Removes a plugin and its files. What is open of it goes on until it ends.
    pub fn remove(&self, kind: Kind, name: &str) -> Result<(), Refusal> {
        let _changing = self.changing();
        self.present(kind, name)?;
        let (shelf, _) = self.home()?;
        let key = (kind, name::canonical(name));
        shelf.deaths.forget_plugin(kind, &key.1);
        let removed = shelf.remove(kind, &key.1);
        removed.map_err(|error| Refusal::Invalid(format!("cannot remove {} plugin `{name}`: {error}", kind.one())))?;
        let mut state = self.state();
        state.places.of(&key).put(None);
        state.loaded.remove(&key);
        state.broken.remove(&key);
        Ok(())
    }

    /// Replaces the list of functions that a plugin offers.
    pub fn register(&self, name: &str, functions: &[String]) -> Result<(), Refusal> {
        let _changing = self.changing();
        let (shelf, _) = self.home()?;
        let key = (Kind::Functions, name::canonical(name));
        let mut state = self.state();
        let loaded = state.loaded.get(&key).cloned().ok_or_else(|| not_installed(Kind::Functions, name))?;
        let offered = state.offered(&key.1, &loaded.edition.library, functions).map_err(Refusal::Invalid)?;
        let written = shelf.write_declared(&key.1, functions);
        written.map_err(|error| Refusal::Invalid(format!("cannot store the list of functions: {error}")))?;
        state.loaded.insert(key, Loaded { functions: offered, ..loaded });
        Ok(())
    }

    /// Functions of all plugins, in alphabetical order.
    pub fn udfs(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.state().loaded.values().flat_map(|one| one.functions.keys().cloned()).collect();
        names.sort();
        names
    }

    /// The plugin that a function comes from.
    pub fn plugin_of(&self, function: &str) -> Option<String> {
        let state = self.state();
        state.loaded.iter().find(|(_, one)| one.functions.contains_key(function)).map(|(key, _)| key.1.clone())
    }

    /// The functions that a rule made now can call: ours, and those of plugins.
    pub fn catalogue(&self) -> Catalogue {
        self.state().catalogue(None)
    }

    /// A function of a plugin.
    pub fn function(&self, name: &str) -> Option<&'static Func> {
        self.state().loaded.values().find_map(|one| one.functions.get(name).copied())
    }

    /// Whether a plugin offers a source of that name.
    pub fn has_source(&self, name: &str) -> bool {
        self.symbol(Kind::Sources, name).is_some()
    }

    /// Whether a plugin offers a sink of that name.
    pub fn has_sink(&self, name: &str) -> bool {
        self.symbol(Kind::Sinks, name).is_some()
    }

    /// Whether a plugin's sink declares a property, and so takes it away from the engine.
    pub fn sink_declares(&self, name: &str, property: &str) -> bool {
        self.symbol(Kind::Sinks, name).is_some_and(|(_, symbol)| symbol.declares(property))
    }

    /// Checks the properties of a plugin's source; `None` where no plugin offers it. Does no I/O.
    pub fn source(&self, name: &str, spec: SourceSpec) -> Option<Result<SourcePlan, Diagnostic>> {
        match self.symbol(Kind::Sources, name) {
            Some((edition, symbol)) => {
                Some(swap::plan_source(name, &self.place(Kind::Sources, name), &edition, symbol, spec))
            }
            None => self.broken(Kind::Sources, name).map(Err),
        }
    }

    /// Checks the properties of a plugin's sink; `None` where no plugin offers it. Does no I/O.
    pub fn sink(&self, name: &str, spec: SinkSpec) -> Option<Result<SinkPlan, Diagnostic>> {
        match self.symbol(Kind::Sinks, name) {
            Some((edition, symbol)) => {
                Some(swap::plan_sink(name, &self.place(Kind::Sinks, name), &edition, symbol, spec))
            }
            None => self.broken(Kind::Sinks, name).map(Err),
        }
    }

    /// The yaml file that came with a source: its default properties, as a file of `config/sources`.
    pub fn source_yaml(&self, name: &str) -> Option<String> {
        let (shelf, _) = self.0.home.as_ref()?;
        self.symbol(Kind::Sources, name)?;
        fs::read_to_string(shelf.yaml(Kind::Sources, &name::canonical(name))).ok()
    }

    /// The json file that came with a plugin: what forms are made of.
    pub fn metadata(&self, kind: Kind, name: &str) -> Option<String> {
        let (shelf, _) = self.0.home.as_ref()?;
        fs::read_to_string(shelf.json(kind, &name::canonical(name))).ok()
    }

    fn symbol(&self, kind: Kind, name: &str) -> Option<(Arc<Edition>, Symbol)> {
        let state = self.state();
        let plugin = name::canonical(name);
        let wanted = if kind == Kind::Sources { kind::SOURCE } else { kind::SINK };
        let edition = &state.loaded.get(&(kind, plugin.clone()))?.edition;
        edition.library.symbol(wanted, &name::symbol(&plugin)).map(|symbol| (edition.clone(), symbol))
    }

    fn broken(&self, kind: Kind, name: &str) -> Option<Diagnostic> {
        let state = self.state();
        let wrong = state.broken.get(&(kind, name::canonical(name)))?;
        Some(Diagnostic::error("K1002", format!("the {} plugin `{name}` cannot be loaded: {wrong}", kind.one())))
    }

    /// Whether there is such a plugin, which may be broken.
    pub fn present(&self, kind: Kind, name: &str) -> Result<(), Refusal> {
        let state = self.state();
        let key = (kind, name::canonical(name));
        let known = state.loaded.contains_key(&key) || state.broken.contains_key(&key);
        if known { Ok(()) } else { Err(not_installed(kind, name)) }
    }

    fn home(&self) -> Result<&(Shelf, Settings), Refusal> {
        self.0.home.as_ref().ok_or_else(|| Refusal::Invalid("there is no data folder to install plugins in".into()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_installed(kind: Kind, name: &str) -> Refusal {
    let name: String = name.chars().take(100).collect();
    Refusal::NotFound(format!("{} plugin `{}` is not installed", kind.one(), name.escape_debug()))
}
