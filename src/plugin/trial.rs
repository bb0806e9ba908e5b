//! The trial of a library: what the contract asks of every plugin, tried on one, without a server.
//!
//! [`Trial`] loads the library as the engine does and has a list of checks for each symbol: its properties, every order of
//! its life, rows and values of every kind, many rows, many threads, memory. A [`desk`](self::desk) of its own watches what
//! the plugin hands over, down to the bytes of a text. A check that ends the process, or hangs, is for the caller to
//! notice: it runs the checks in a process of its own.

mod desk;
mod function;
mod life;
mod lookup;
mod memory;
mod sample;
mod sink;
mod source;
mod subject;

use std::path::Path;
use std::sync::Arc;

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use serde_json::{Map, Value as Json};

use crate::data::Value;

use super::cross::properties;
use super::elf;
use super::library::{Library, Symbol};
use super::regular::{read_regular, whole_path};

/// What a library is tried with.
#[derive(Clone, Debug, Default)]
pub struct TrialSettings {
    /// Only this symbol; all of them where none is named.
    pub symbol: Option<String>,
    /// Properties for sources, sinks and lookups.
    pub props: Map<String, Json>,
    /// A row that a sink can take, or the keys of a lookup; made up where there is none.
    pub row: Map<String, Json>,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// With what is worth knowing, or nothing.
    Passed(String),
    Failed(String),
    /// It could not be tried, and why.
    Skipped(String),
}

/// Why a check ends early.
enum Stop {
    Failed(String),
    Skipped(String),
}

/// How a check went, with what is worth knowing.
type Checked = Result<String, Stop>;

fn failed<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(why.into()))
}

fn skipped<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skipped(why.into()))
}

/// One symbol, and what it is tried with.
#[derive(Clone)]
struct Bench {
    symbol: Symbol,
    props: Value,
    row: Map<String, Json>,
    entry: abi::Entry,
    /// Of a function: arguments that fit its signature.
    arguments: Vec<Value>,
}

type Check = fn(&Bench) -> Checked;

/// A library, and the checks for it.
pub struct Trial {
    checks: Vec<(String, Bench, Check)>,
}

impl Trial {
    /// Loads a library; the error is a sentence.
    pub fn open(path: &Path, settings: &TrialSettings) -> Result<Trial, String> {
        let path = &whole_path(path)?;
        let bytes = read_regular(path)?;
        elf::check(&bytes, path)?;
        // What is mapped must not change, and whoever tries a library builds it anew soon.
        let library = Arc::new(Library::load(path)?);
        elf::check_listed(&bytes, library.symbols.iter().map(|symbol| (symbol.what(), symbol.name)))?;
        let entry = entry(path)?;
        let wanted = |symbol: &&Symbol| settings.symbol.as_deref().is_none_or(|name| name == symbol.name);
        let mut checks: Vec<(String, Bench, Check)> = Vec::new();
        for symbol in library.symbols.iter().filter(wanted) {
            let arguments =
                if symbol.kind == kind::FUNCTION { function::fitting(&library, *symbol) } else { Vec::new() };
            let props = properties(&settings.props);
            let bench = Bench { symbol: *symbol, props, row: settings.row.clone(), entry, arguments };
            let (what, list): (&str, Vec<(&str, Check)>) = match symbol.kind {
                kind::SOURCE => ("source", [life::CHECKS, source::CHECKS, life::LAST].concat()),
                kind::SINK => ("sink", [life::CHECKS, sink::CHECKS, life::LAST].concat()),
                kind::LOOKUP => ("lookup", [life::CHECKS, lookup::CHECKS, life::LAST].concat()),
                kind::FUNCTION if symbol.flags & kind::AGGREGATE != 0 => ("function", function::AGGREGATE.to_vec()),
                kind::FUNCTION => ("function", function::SCALAR.to_vec()),
                _ => continue,
            };
            checks.extend(
                list.into_iter().map(|(name, check)| (format!("{what} {}: {name}", symbol.name), bench.clone(), check)),
            );
        }
        if checks.is_empty() {
            let known: Vec<&str> = library.symbols.iter().map(|symbol| symbol.name).collect();
            return Err(match &settings.symbol {
                Some(name) => format!("it has no `{name}`; it has `{}`", known.join("`, `")),
                None => "it exports nothing that can be tried".to_owned(),
            });
        }
        Ok(Trial { checks })
    }

    /// Names of the checks, in the order in which they are to be run.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().map(|(name, _, _)| name.as_str())
    }

    /// Runs a check, by its place.
    pub fn run(&self, place: usize) -> Verdict {
        let Some((_, bench, check)) = self.checks.get(place) else {
            return Verdict::Skipped("there is no such check".to_owned());
        };
        match check(bench) {
            Ok(note) => Verdict::Passed(note),
            Err(Stop::Failed(why)) => Verdict::Failed(why),
            Err(Stop::Skipped(why)) => Verdict::Skipped(why),
        }
    }
}

/// The function that gives the table; the library is mapped already.
fn entry(path: &Path) -> Result<abi::Entry, String> {
    // SAFETY: it has been mapped before, so nothing of it is executed.
    let handle = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    // SAFETY: the name belongs to a function of this type, as the marker says.
    let entry = unsafe { handle.get::<abi::Entry>(abi::ENTRY_SYMBOL.as_bytes()).map(|symbol| *symbol) };
    std::mem::forget(handle);
    entry.map_err(|error| error.to_string())
}
