//! What is loaded, and what of it is on offer. A library is what its name and kind promise, or it is not taken; a function
//! belongs to one plugin.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuiper_plugin::abi::kind;

use crate::func::{Catalogue, Func};
use crate::io;

use super::function;
use super::home::Offered;
use super::library::Library;
use super::name::{self, Kind};
use super::shelf::Shelf;
use super::uses::{Edition, Places};

#[derive(Default)]
pub struct State {
    /// The folder that the folders of plugins stand in, and what the server offers them.
    pub around: (Option<Shelf>, Offered),
    pub places: Places,
    pub loaded: BTreeMap<(Kind, String), Loaded>,
    /// Why what lies in the folder could not be loaded.
    pub broken: BTreeMap<(Kind, String), String>,
}

/// A plugin that can be used.
#[derive(Clone)]
pub struct Loaded {
    pub edition: Arc<Edition>,
    /// Functions on offer.
    pub functions: BTreeMap<String, &'static Func>,
}

/// What says that kuiper itself has a source or sink of that name, which would hide the plugin's.
pub fn built_in(kind: Kind, plugin: &str) -> Option<String> {
    let has = |one: &&io::Connector| match kind {
        Kind::Sources => one.source.is_some(),
        Kind::Sinks => one.sink.is_some(),
        Kind::Functions => false,
    };
    let one = io::CONNECTORS.iter().filter(has).find(|one| one.name.eq_ignore_ascii_case(plugin))?;
    Some(format!("`{}` is a {} of kuiper itself; give the plugin another name", one.name, kind.one()))
}

impl State {
    /// All functions, with what is loaded or with something else in its place.
    pub fn catalogue(&self, instead: Option<(&(Kind, String), &Loaded)>) -> Catalogue {
        let mut all = Catalogue::default();
        let others = self.loaded.iter().filter(|(key, _)| instead.is_none_or(|(replaced, _)| replaced != *key));
        let loaded = others.map(|(_, one)| one).chain(instead.map(|(_, one)| one));
        loaded.flat_map(|one| one.functions.values()).for_each(|func| all.add(func));
        all
    }

    /// Whether a library is what its name and kind promise, and what of it is on offer.
    pub fn fitted(
        &self,
        key: &(Kind, String),
        version: &str,
        library: Library,
        declared: &[String],
        told: &mut Vec<String>,
    ) -> Result<Loaded, String> {
        let (kind, plugin) = key;
        if let Some(clash) = built_in(*kind, plugin) {
            return Err(clash);
        }
        if let Some(shelf) = &self.around.0 {
            library.home.settle(shelf.own(*kind, plugin), self.around.1.clone());
        }
        let library = Arc::new(library);
        let wanted = name::symbol(plugin);
        let lookup = name::lookup_symbol(&wanted);
        let functions = match kind {
            Kind::Sources if library.symbol(kind::SOURCE, &wanted).is_some() => BTreeMap::new(),
            Kind::Sources if library.symbol(kind::LOOKUP, &lookup).is_some() => BTreeMap::new(),
            Kind::Sinks if library.symbol(kind::SINK, &wanted).is_some() => BTreeMap::new(),
            Kind::Functions if library.functions().next().is_none() => {
                return Err(format!("it exports no function; it exports {}", library.listed()));
            }
            Kind::Functions if declared.is_empty() => self.all_offered(plugin, &library, told)?,
            Kind::Functions => self.offered(plugin, &library, declared)?,
            _ => return Err(format!("it exports no {} `{wanted}`; it exports {}", kind.one(), library.listed())),
        };
        Ok(Loaded { edition: Edition::new(version, library), functions })
    }

    /// The declared functions; each must be there, and be nobody else's.
    pub fn offered(
        &self,
        plugin: &str,
        library: &Arc<Library>,
        declared: &[String],
    ) -> Result<BTreeMap<String, &'static Func>, String> {
        let (mut offered, place) = (BTreeMap::new(), self.places.of(&(Kind::Functions, plugin.to_owned())));
        for name in declared {
            let symbol = library.function(name).ok_or_else(|| {
                let known: Vec<&str> = library.functions().map(|symbol| symbol.name).collect();
                format!("it has no function `{}`; it has `{}`", name.escape_debug(), known.join("`, `"))
            })?;
            if let Some(clash) = self.clash(plugin, symbol.name) {
                return Err(clash);
            }
            offered.insert(symbol.name.to_owned(), function::row(&place, library, symbol));
        }
        Ok(offered)
    }

    /// All functions of the library but those that are somebody else's; at least one must be left.
    fn all_offered(
        &self,
        plugin: &str,
        library: &Arc<Library>,
        told: &mut Vec<String>,
    ) -> Result<BTreeMap<String, &'static Func>, String> {
        let (mut offered, place) = (BTreeMap::new(), self.places.of(&(Kind::Functions, plugin.to_owned())));
        let mut last = String::new();
        for symbol in library.functions() {
            match self.clash(plugin, symbol.name) {
                Some(clash) => {
                    told.push(format!("function plugin `{plugin}`: {clash}"));
                    last = clash;
                }
                None => drop(offered.insert(symbol.name.to_owned(), function::row(&place, library, symbol))),
            }
        }
        if offered.is_empty() { Err(last) } else { Ok(offered) }
    }

    pub fn clash(&self, plugin: &str, function: &str) -> Option<String> {
        if Catalogue::default().find(function).is_some() {
            return Some(format!("`{function}` is a function of kuiper itself"));
        }
        let mut others = self.loaded.iter().filter(|(key, _)| key.1 != plugin);
        let (key, _) = others.find(|(_, one)| one.functions.contains_key(function))?;
        Some(format!("`{function}` is a function of the plugin `{}` already", key.1))
    }
}
