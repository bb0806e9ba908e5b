//! A library by itself, without a server: loaded, looked at, and tried a little.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kuiper_plugin::abi::kind;
use serde_json::Map;

use crate::func::Func;

use super::cross::properties;
use super::elf::{self, Place};
use super::library::{Library, Symbol};
use super::name::{FileName, lookup_symbol, symbol};
use super::package::Package;
use super::sign::{Asking, PublicKey};
use super::{Exported, function, sink, uses};

/// A library that was loaded.
pub struct Probe {
    library: Arc<Library>,
}

/// What became of making a source or sink with its default properties.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    Provisioned,
    /// It has no default for these.
    Needs(Vec<&'static str>),
    Failed(String),
}

/// A target as compilers name it, or this machine.
fn place(target: Option<&str>) -> Result<Place, String> {
    match target {
        None => Ok(Place::here()),
        Some(target) => Place::target(target)
            .ok_or_else(|| format!("`{target}` is no target with Linux; write it as `aarch64-unknown-linux-gnu`")),
    }
}

/// Checks by reading it whether a library can be loaded here, or on the target that is named; the error is a sentence.
pub fn check_library(bytes: &[u8], path: &Path, target: Option<&str>) -> Result<(), String> {
    elf::check_for(bytes, path, &place(target)?)
}

/// What is known of the signature of a zip. Keys are told by their numbers, as minisign shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// One of the keys that were given has signed it.
    By(String),
    /// It says that this key has; no key was given to verify it.
    Unverified(String),
    Not,
}

/// A zip that was unpacked.
pub struct Unpacked {
    /// Where the library is that this machine, or the target, would take.
    pub library: PathBuf,
    pub signed: Signed,
    package: Package,
}

impl Unpacked {
    /// What is wrong with the library: where it stands in the zip, and for which other machines that has it.
    pub fn refused(&self, wrong: String) -> String {
        format!("`{}`: {}", self.package.library.0.display(), self.package.with_targets(wrong))
    }
}

/// Unpacks a zip into an empty folder. With keys, one of them must have signed it.
pub fn unpack(zip: &Path, target: Option<&str>, keys: &[PublicKey], folder: &Path) -> Result<Unpacked, String> {
    let mut package = Package::open_any(zip, &place(target)?)?;
    let signed = if keys.is_empty() {
        package.claimed()?.map_or(Signed::Not, Signed::Unverified)
    } else {
        Signed::By(package.check_signature(keys, Asking::Command)?)
    };
    fs::create_dir_all(folder).map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
    package.unpack(folder)?;
    Ok(Unpacked { library: folder.join(&package.library.0), signed, package })
}

impl Probe {
    /// Loads a library that was checked.
    pub fn open(path: &Path) -> Result<Probe, String> {
        Ok(Probe { library: Arc::new(Library::load(path)?) })
    }

    pub fn symbols(&self) -> Vec<Exported> {
        self.library.symbols.iter().map(Symbol::exported).collect()
    }

    /// The functions, as rows of a catalogue; each has its examples.
    pub fn functions(&self) -> Vec<&'static Func> {
        // In no place, where nothing takes its place.
        let nowhere = uses::Place::nowhere();
        let row = |symbol| function::row(&nowhere, &self.library, symbol);
        self.library.functions().map(row).collect()
    }

    /// Checks that the library exports what its file name promises, where that names a version.
    pub fn named(&self, path: &Path) -> Result<(), String> {
        let file = path.file_name().and_then(|name| name.to_str()).and_then(FileName::read);
        let Some(file) = file.filter(|file| !file.version.is_empty()) else { return Ok(()) };
        let wanted = symbol(&file.plugin);
        let lookup = lookup_symbol(&wanted);
        let fits = |one: &Symbol| match one.kind {
            kind::FUNCTION => true,
            kind::LOOKUP => one.name == lookup,
            _ => one.name == wanted,
        };
        if self.library.symbols.iter().any(fits) {
            return Ok(());
        }
        Err(format!(
            "its name asks for a source or sink `{wanted}`, or for functions; it exports {}",
            self.library.listed()
        ))
    }

    /// Checks that the library's list of what it exports, which is read from its file, is right.
    pub fn listed(&self, bytes: &[u8]) -> Result<(), String> {
        elf::check_listed(bytes, self.library.symbols.iter().map(|symbol| (symbol.what(), symbol.name)))
    }

    /// Makes what a symbol stands for, with its default properties, and gives it up again.
    pub fn provision(&self, name: &str, what: &str) -> Tried {
        let found = self.library.symbols.iter().find(|one| one.name == name && one.what() == what);
        let Some(found) = found else { return Tried::Failed(format!("there is no {what} `{name}`")) };
        let needs: Vec<&str> = found.properties.iter().filter(|one| one.required).map(|one| one.name).collect();
        if !needs.is_empty() {
            return Tried::Needs(needs);
        }
        match sink::check(name, *found, &properties(&Map::new()), "check") {
            Ok(()) => Tried::Provisioned,
            Err(found) => Tried::Failed(found.message),
        }
    }
}
