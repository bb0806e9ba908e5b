//! What else is asked of plugins: lookup tables; and by users, without a rule, the schema of properties, and whether the outside
//! can be reached.

use std::sync::Arc;

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use kuiper_plugin::has;
use serde_json::{Map, Value as Json};

use super::cross::properties;
use super::deaths::Died;
use super::desk::{Desk, States};
use super::library::Symbol;
use super::source::is_common;
use super::uses::Edition;
use super::worker::Worker;
use super::{Kind, Plugins, Services, name, sink, swap};
use crate::diag::{Diagnostic, Result};
use crate::io::{LookupPlan, LookupSpec};

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Source,
    Lookup,
    Sink,
}

impl Plugins {
    /// Offers services to guests; the first word counts, and must be said before rules are made.
    pub fn serve(&self, services: Arc<dyn Services>) {
        self.state().around.1.get_or_init(|| services);
    }

    /// Whether a plugin offers a lookup table of that name.
    pub fn has_lookup(&self, name: &str) -> bool {
        self.lookup_symbol(name).is_some()
    }

    /// Whether a plugin's sink says that it stores what must outlive a restart.
    pub fn sink_keeps(&self, name: &str) -> bool {
        self.symbol(Kind::Sinks, name).is_some_and(|(_, symbol)| sink::keeps(symbol))
    }

    /// Checks the properties of a plugin's lookup table, and makes it; `None` where no plugin offers it. Does no I/O.
    pub fn lookup(&self, name: &str, spec: LookupSpec) -> Option<Result<LookupPlan, Diagnostic>> {
        let is_it = |died: &Died| {
            let plugin = died.kind == Some(Kind::Sources) && died.plugin == name::canonical(name);
            plugin && died.owner == spec.env.owner
        };
        if let Some(died) = self.deaths().of(is_it).filter(Died::holds) {
            let text = format!("{}; start a rule that asks it, to try once more", died.told());
            return Some(Err(Diagnostic::error("K1002", text)));
        }
        match self.lookup_symbol(name) {
            Some((edition, _)) => Some(swap::plan_lookup(name, &self.place(Kind::Sources, name), &edition, spec)),
            None => self.broken(Kind::Sources, name).map(Err),
        }
    }

    fn lookup_symbol(&self, name: &str) -> Option<(Arc<Edition>, Symbol)> {
        let (state, plugin) = (self.state(), name::canonical(name));
        let wanted = name::lookup_symbol(&name::symbol(&plugin));
        let edition = &state.loaded.get(&(Kind::Sources, plugin))?.edition;
        edition.library.symbol(kind::LOOKUP, &wanted).map(|symbol| (edition.clone(), symbol))
    }

    fn part(&self, part: Part, name: &str) -> Option<Symbol> {
        let found = match part {
            Part::Source => self.symbol(Kind::Sources, name),
            Part::Lookup => self.lookup_symbol(name),
            Part::Sink => self.symbol(Kind::Sinks, name),
        };
        found.map(|(_, symbol)| symbol)
    }

    /// Whether a plugin's source goes to a position that a user sets.
    pub fn goes_to_positions(&self, name: &str) -> bool {
        // SAFETY: the symbol is a source.
        let resets = |symbol: Symbol| unsafe { has!(symbol.table.cast::<abi::Source>(), reset) }.is_some();
        self.part(Part::Source, name).is_some_and(|symbol| resets(symbol) && !symbol.singleton)
    }

    /// JSON Schema of the properties; `None` where no plugin offers it.
    pub fn schema(&self, part: Part, name: &str) -> Option<Json> {
        self.part(part, name).map(|symbol| symbol.exported().schema)
    }

    /// What a part of a plugin says about itself.
    pub fn about(&self, part: Part, name: &str) -> Option<&'static str> {
        self.part(part, name).map(|symbol| symbol.about)
    }

    /// Whether the outside can be reached with these properties, on an instance that does nothing else; `None` where no
    /// plugin offers it. Those of the engine are taken out of a sink's before.
    pub async fn ping(&self, part: Part, name: &str, mut props: Map<String, Json>) -> Option<Result<()>> {
        let symbol = self.part(part, name)?;
        if part != Part::Sink {
            props.retain(|name, _| symbol.declares(name) || !is_common(name));
        }
        let props = properties(&props);
        let desk = Desk::new(&symbol, "", name, 0, States::default(), None);
        let worker = Worker::start(symbol);
        Some(worker.call(move |slot| slot.ping(&props, &desk)).await)
    }
}
