use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};
use tokio::sync::watch;

use super::identities::Identities;
use super::left::Leftovers;
use super::offered::Offered;
use super::props::Sections;
use super::retained::Logs;
use super::{advice, props, run};
use crate::catalog::{self, Catalog, Command, Definition, Properties, What};
use crate::clock::{Clock, Time};
use crate::config::{Layers, Secrets, Settings};
use crate::data::{Object, Text, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::flow::shape::Facts;
use crate::flow::{CacheOptions, Queues, Surroundings};
use crate::func::{Catalogue, RuleInfo};
use crate::io::{self, Bus, Connector, Env, LookupSpec, LookupTable, SinkPlan, SinkSpec, SourcePlan, SourceSpec};
use crate::plugin::{self, Kind, Part, Plugins, Policy};
use crate::store::{Bucket, Store};

/// What a server is set up with.
pub struct Setup {
    /// The data folder; `None` for a temporary one that goes with the host.
    pub data: Option<PathBuf>,
    /// Where plugins are taken from when it is not the data folder.
    pub plugins: Option<PathBuf>,
    /// Which plugins may be installed, and how.
    pub policy: Policy,
    /// Plugins that run in processes of their own.
    pub isolation: plugin::Isolation,
    /// Options of rules that do not write them themselves.
    pub rule: Map<String, Json>,
    /// Properties of sinks that do not write them themselves.
    pub sink: Map<String, Json>,
    /// A name of the time zone database, or `Local`.
    pub timezone: String,
    /// `basic.ignoreCase`
    pub ignore_case: bool,
    /// Static properties.
    pub props: BTreeMap<String, String>,
    /// What plugins may ask for by name.
    pub secrets: Secrets,
    /// Configuration of connectors.
    pub layers: Layers,
    /// How long nobody looks at schedules and failed rules at most.
    pub patrol: Duration,
    /// Folder that relative paths of connectors start from.
    pub root: PathBuf,
    /// `basic.enablePrivateNet`
    pub private_net: bool,
    /// Connectors of this process alone, beside the built-in ones.
    pub connectors: Vec<Connector>,
}

/// What the settings say of the processes of plugins.
pub fn isolation(settings: &Settings) -> plugin::Isolation {
    let said = settings.isolation.clone();
    plugin::Isolation {
        all: said.all,
        plugins: said.plugins,
        memory: said.memory,
        files: said.files,
        file_size: said.file_size,
        call: said.call_timeout,
        log_lines: said.log_lines,
        environment: said.environment,
        ..plugin::Isolation::default()
    }
}

/// A lookup table that is there.
pub struct Shelf {
    pub table: Arc<dyn LookupTable>,
    pub cache: CacheOptions,
    /// By which it was made.
    statement: String,
}

/// What a server has once and every rule may use.
pub struct Host {
    pub clock: Clock,
    pub store: Arc<Store>,
    pub catalog: Catalog,
    pub plugins: Plugins,
    pub(super) layers: Layers,
    /// `basic.ignoreCase`
    pub ignore_case: bool,
    /// Options of rules that do not write them themselves.
    pub defaults: Map<String, Json>,
    /// Properties of sinks that do not write them themselves.
    pub sink_defaults: Map<String, Json>,
    /// The disk queues of sinks.
    pub queues: Arc<Queues>,
    pub(super) bus: Bus,
    /// As whom the rules that run appear at the other side.
    pub(super) identities: Identities,
    /// What rules that are gone have left outside.
    pub(super) left: Leftovers,
    /// The logs of streams that retain what is published.
    pub(super) retained: Mutex<Logs>,
    /// What was read of the configuration of built-in sources, by name.
    configured: Mutex<BTreeMap<String, Sections>>,
    root: PathBuf,
    /// Requests may go to this machine and to private networks.
    pub private_net: bool,
    pub(super) zone: TimeZone,
    pub(super) patrol: Duration,
    props: Arc<Object>,
    facts: Facts,
    connectors: Vec<Connector>,
    /// What plugins may ask for.
    pub(super) offered: Arc<Offered>,
    /// The lookup tables that are there, by name.
    lookups: Mutex<HashMap<String, Arc<Shelf>>>,
    started: Time,
    instance: OnceLock<String>,
    /// False while the stored rules are started: nothing is read until all are there.
    pub(super) reading: watch::Sender<bool>,
}

impl Host {
    /// Opens the definitions and loads the plugins. What could not be loaded is told beside the host.
    pub fn open(setup: Setup) -> Result<(Host, Vec<String>)> {
        Host::with_clock(setup, Clock::real())
    }

    pub(super) fn with_clock(setup: Setup, clock: Clock) -> Result<(Host, Vec<String>)> {
        let zone = match setup.timezone.as_str() {
            "" | "Local" => TimeZone::system(),
            name => TimeZone::get(name).map_err(|_| {
                Fault::setup(format!(
                    "`basic.timezone` is `{name}`, which is no time zone; write it as `Europe/Berlin`, or `Local`"
                ))
            })?,
        };
        let store = match &setup.data {
            Some(folder) => Store::open(folder)?,
            None => Store::temporary()?,
        };
        let store = Arc::new(store);
        let (catalog, mut told) = Catalog::open(store.clone())?;
        let settings = setup.policy.settings(setup.plugins, store.folder());
        let (plugins, failed) = Plugins::open(plugin::Settings { isolation: setup.isolation, ..settings });
        told.extend(failed);
        let mut props = Object::with_capacity(setup.props.len());
        for (name, value) in setup.props {
            props.insert(Text::from(name), Value::from(value));
        }
        let props = Arc::new(props);
        let facts = Facts::new(clock.clone(), zone.clone(), props.clone());
        let offered = Arc::new(Offered::new(facts.clone(), setup.secrets));
        plugins.serve(offered.clone());
        let host = Host {
            offered,
            started: clock.now(),
            clock,
            catalog,
            plugins,
            layers: setup.layers,
            defaults: setup.rule,
            sink_defaults: setup.sink,
            queues: Arc::new(Queues::new(store.clone())),
            left: Leftovers::open(store.clone())?,
            store,
            ignore_case: setup.ignore_case,
            bus: Bus::default(),
            identities: Identities::default(),
            retained: Mutex::default(),
            configured: Mutex::default(),
            root: setup.root,
            private_net: setup.private_net,
            patrol: setup.patrol,
            zone,
            facts,
            props,
            connectors: setup.connectors,
            lookups: Mutex::default(),
            instance: OnceLock::new(),
            reading: watch::Sender::new(true),
        };
        for table in host.catalog.all(What::Table).into_iter().filter(|table| table.is_lookup()) {
            if let Err(found) = host.prepare(&table) {
                told.push(format!("the lookup table `{}` cannot be made: {found}", table.name));
            }
        }
        told.extend(host.open_logs());
        Ok((host, told))
    }

    /// How long the server has been up.
    pub fn uptime(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    /// The functions that a rule made now can call.
    pub fn functions(&self) -> Catalogue {
        self.plugins.catalogue()
    }

    /// What functions may know of a rule that is started now.
    pub fn rule_info(&self, id: &str) -> RuleInfo {
        RuleInfo {
            id: id.into(),
            started: self.clock.now(),
            zone: self.zone.clone(),
            props: self.props.clone(),
            around: Arc::new(Surroundings::new(self.clock.clone(), Some(self.store.clone()))),
        }
    }

    /// Where relative paths of connectors begin.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What templates of sinks may know.
    pub fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// What a connector may use; `owner` is the rule, or the stream when it is shared.
    pub fn env(&self, owner: &str) -> Env {
        Env {
            clock: self.clock.clone(),
            root: self.root.clone(),
            owner: owner.to_owned(),
            instance: self.instance().to_owned(),
            bus: self.bus.clone(),
            private_net: self.private_net,
        }
    }

    /// The name of this server among all others: made by chance when it is first asked for, and kept.
    fn instance(&self) -> &str {
        self.instance.get_or_init(|| {
            if let Ok(Some(kept)) = self.store.get(Bucket::SERVER, "instance") {
                return kept;
            }
            let new = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
            if let Err(fault) = self.store.put(Bucket::SERVER, "instance", &new) {
                tracing::warn!("the name of this server cannot be kept: {fault}");
            }
            new
        })
    }

    /// The built-in connectors, and those of this process alone.
    pub fn connectors(&self) -> impl Iterator<Item = &Connector> {
        io::CONNECTORS.iter().chain(&self.connectors)
    }

    /// What a source has by default, by files and by environment.
    pub(super) fn configured(&self, connector: &str) -> Result<Sections, Diagnostic> {
        let read = |defaults: &str| self.layers.sections(connector, defaults, &self.schema(Kind::Sources, connector));
        let Some(own) = self.connectors().find(|one| one.name == connector) else {
            return read(self.plugins.source_yaml(connector).as_deref().unwrap_or(""));
        };
        // A plugin may change; with a built-in one all of it was there at the start.
        let mut known = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(own.name) {
            Some(sections) => Ok(sections.clone()),
            None => Ok(known.entry(own.name.to_owned()).or_insert(read(own.defaults)?).clone()),
        }
    }

    /// All properties of a stream's source: defaults, files, environment, stored keys, then section `default`, the one
    /// that CONF_KEY names, EXTRA, and the options of the statement. Warnings beside them.
    pub fn source_props(&self, stream: &Definition) -> Result<(Properties, Vec<Diagnostic>), Diagnostic> {
        props::of_source(self, stream)
    }

    /// All sections of a source's configuration, stored keys laid over.
    pub fn source_sections(&self, connector: &str) -> Result<BTreeMap<String, Properties>, Diagnostic> {
        props::sections(self, connector)
    }

    /// What to tell the author of a stream or table though it can be created.
    pub fn advice(&self, definition: &Definition) -> Vec<Diagnostic> {
        advice::of_definition(self, definition)
    }

    /// Checks properties that are to be stored as a configuration key of a source. Gives warnings.
    pub fn check_conf_key(
        &self,
        connector: &str,
        key: &str,
        properties: &Properties,
    ) -> Result<Vec<Diagnostic>, Diagnostic> {
        props::check_key(self, connector, key, properties)
    }

    /// Checks the properties of a source and says how to open it. Built-in ones come first.
    pub fn source(&self, name: &str, spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
        match self.connectors().find(|one| one.name == name).and_then(|one| one.source) {
            Some(plan) => plan(spec),
            None => self.plugins.source(name, spec).unwrap_or_else(|| Err(self.unknown("source", name))),
        }
    }

    /// The same for a sink.
    pub fn sink(&self, name: &str, spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
        match self.connectors().find(|one| one.name == name).and_then(|one| one.sink) {
            Some(plan) => plan(spec),
            None => self.plugins.sink(name, spec).unwrap_or_else(|| Err(self.unknown("sink", name))),
        }
    }

    /// A lookup table as it is defined, and its warnings: the one that is there, or a new one.
    pub fn lookup(&self, table: &Definition) -> Result<(Arc<Shelf>, Vec<Diagnostic>), Diagnostic> {
        let shelves = || self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = shelves().get(table.name.as_str()).filter(|shelf| shelf.statement == table.statement) {
            return Ok((there.clone(), Vec::new()));
        }
        let (shelf, warnings) = self.shelf(table)?;
        let shelf = Arc::new(shelf);
        shelves().insert(table.name.to_string(), shelf.clone());
        Ok((shelf, warnings))
    }

    /// A lookup table that nobody has yet, and its warnings.
    fn shelf(&self, table: &Definition) -> Result<(Shelf, Vec<Diagnostic>), Diagnostic> {
        let (mut props, mut warnings) = self.source_props(table)?;
        let cache = CacheOptions::take(&mut props)?;
        let format = run::format_options(table, &props);
        let spec = LookupSpec { props, format, env: self.env(&table.name) };
        let plan = self.connectors().find(|one| one.name == table.connector()).and_then(|one| one.lookup);
        let made = match plan {
            Some(plan) => Some(plan(spec)),
            None => self.plugins.lookup(table.connector(), spec),
        };
        let made = made.unwrap_or_else(|| {
            let mut names: Vec<String> =
                self.connectors().filter(|one| one.lookup.is_some()).map(|one| one.name.to_owned()).collect();
            names.extend(self.plugins.list(Kind::Sources).into_iter().filter(|name| self.plugins.has_lookup(name)));
            let text = format!("a table of type `{}` cannot be asked for rows", table.connector());
            Err(Diagnostic::error("K0910", text).help(format!("types of lookup tables: {}", names.join(", "))))
        })?;
        warnings.extend(made.warnings);
        Ok((Shelf { table: made.table, cache, statement: table.statement.clone() }, warnings))
    }

    /// Follows a statement about streams and tables. A lookup table is there at once, and the log of a stream that retains,
    /// or it is not defined at all.
    pub fn run(&self, command: Command) -> Result<String, catalog::Refused> {
        if let Command::Drop(_, name) = &command {
            let name = name.clone();
            let answer = self.catalog.run(command)?;
            self.release(&name);
            return Ok(answer);
        }
        let Command::Create(definition) = command else { return self.catalog.run(command) };
        let (what, name) = (definition.what, definition.name.clone());
        let made = Definition::clone(&definition);
        let answer = self.catalog.run(Command::Create(definition))?;
        if let Err(found) = self.prepare(&made) {
            self.catalog.drop(what, &name)?;
            return Err(catalog::Refused::Conflict(format!("Create {} fails: {found}", catalog::word(what))));
        }
        Ok(answer)
    }

    /// Checks whether [`Host::prepare`] would work, without changing what is there.
    pub fn check(&self, definition: &Definition) -> Result<(), Diagnostic> {
        if definition.is_lookup() { self.shelf(definition).map(drop) } else { Ok(()) }
    }

    /// Makes a stream or table that was defined ready: a lookup table takes rows up from now on, and a stream that retains
    /// does so.
    ///
    /// # Errors
    /// What the connector has against its properties, or the disk against a log.
    pub fn prepare(&self, definition: &Definition) -> Result<(), Diagnostic> {
        if definition.is_lookup() {
            return self.lookup(definition).map(drop);
        }
        let refused = |fault: Fault| Diagnostic::error("K0923", format!("nothing can be retained: {fault}"));
        self.retain(definition).map_err(refused)
    }

    /// Lets go of a lookup table, or of the log of a stream, that was dropped.
    pub fn release(&self, name: &str) {
        if let Err(fault) = self.forget_log(name) {
            tracing::warn!("what `{name}` retained cannot be forgotten: {fault}");
        }
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Names of all sources or sinks, sorted, with whether each came as a plugin.
    pub fn connector_names(&self, kind: Kind) -> Vec<(String, bool)> {
        let has = |one: &&Connector| match kind {
            Kind::Sources => one.source.is_some(),
            Kind::Sinks => one.sink.is_some(),
            Kind::Functions => false,
        };
        let mut names: Vec<(String, bool)> =
            self.connectors().filter(has).map(|one| (one.name.to_owned(), false)).collect();
        let guests = self.plugins.list(kind);
        names.extend(
            guests.into_iter().filter(|name| !self.connectors().any(|one| one.name == name)).map(|n| (n, true)),
        );
        names.sort();
        names
    }

    /// JSON Schema of the properties of a source or sink; null where it has none.
    pub fn schema(&self, kind: Kind, name: &str) -> Arc<Json> {
        let own = self.connectors().find(|one| one.name == name);
        let own = own.and_then(|one| if kind == Kind::Sources { one.source_schema } else { one.sink_schema });
        if let Some(schema) = own {
            return schema();
        }
        let guest = match kind {
            // A plugin may have the one or the other, or both.
            Kind::Sources => {
                self.plugins.schema(Part::Source, name).or_else(|| self.plugins.schema(Part::Lookup, name))
            }
            Kind::Sinks => self.plugins.schema(Part::Sink, name),
            Kind::Functions => None,
        };
        Arc::new(guest.unwrap_or(Json::Null))
    }

    /// Whether there are lookup tables of that type.
    pub fn has_lookup(&self, name: &str) -> bool {
        match self.connectors().find(|one| one.name == name) {
            Some(own) => own.lookup.is_some(),
            None => self.plugins.has_lookup(name),
        }
    }

    /// Whether there are streams of that type.
    pub fn has_source(&self, name: &str) -> bool {
        match self.connectors().find(|one| one.name == name) {
            Some(own) => own.source.is_some(),
            // One that cannot be loaded says so itself.
            None => self.plugins.has_source(name) || !self.plugins.has_lookup(name),
        }
    }

    fn unknown(&self, what: &str, name: &str) -> Diagnostic {
        let kind = if what == "source" { Kind::Sources } else { Kind::Sinks };
        let names = self.connector_names(kind);
        let words = match kind {
            Kind::Sources => format!("source type {name} not found"),
            _ => format!("sink {name} is not defined"),
        };
        let error = Diagnostic::error("K0906", format!("there is no {what} of type `{name}`")).known_as(words);
        let found = error.suggest(name, names.iter().map(|(name, _)| name.as_str()));
        match found.help {
            Some(_) => found,
            None => found.help(format!("install a plugin that has it: kuiper plugin deploy --{what} {name}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// A host with nothing in it.
    pub(in crate::rule) fn host() -> (tempfile::TempDir, Arc<Host>) {
        let home = tempfile::tempdir().unwrap();
        let host = Arc::new(reopen(&home, Clock::stopped_at(Time(1000))));
        (home, host)
    }

    pub(in crate::rule) fn reopen(home: &tempfile::TempDir, clock: Clock) -> Host {
        let setup = Setup {
            data: Some(home.path().into()),
            plugins: None,
            policy: Default::default(),
            isolation: plugin::Isolation::default(),
            rule: Map::new(),
            sink: Map::new(),
            timezone: "UTC".into(),
            ignore_case: false,
            props: BTreeMap::new(),
            secrets: Default::default(),
            layers: Layers::default(),
            patrol: Duration::from_secs(10),
            root: home.path().into(),
            private_net: true,
            connectors: Vec::new(),
        };
        Host::with_clock(setup, clock).unwrap().0
    }

    #[test]
    fn functions_read_the_keyed_state_from_the_store() {
        use crate::data::Value;
        use crate::func::{Body, Ctx};

        let (_home, host) = host();
        let info = host.rule_info("r");
        let func = Catalogue::default().find("get_keyed_state").unwrap();
        let Body::Scalar(call) = func.body else { unreachable!() };
        let get = |key: &str, kind: &str| {
            let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
            call(&[Value::text(key), Value::text(kind), Value::Int(7)], &ctx)
        };
        assert_eq!(get("limit", "bigint"), Ok(Value::Int(7)));
        host.store.put(Bucket::KEYED_STATE, "limit", "42").unwrap();
        assert_eq!(get("limit", "bigint"), Ok(Value::Int(42)));
        assert_eq!(get("limit", "float"), Ok(Value::Float(42.0)));
        assert_eq!(get("limit", "string"), Ok(Value::text("42")));
        host.store.put(Bucket::KEYED_STATE, "limit", "many").unwrap();
        assert!(get("limit", "bigint").is_err());
        host.store.remove(Bucket::KEYED_STATE, "limit").unwrap();
        assert_eq!(get("limit", "bigint"), Ok(Value::Int(7)));
    }

    #[test]
    fn an_unknown_connector_is_answered_with_a_remedy() {
        let (_home, host) = host();
        let text = host.unknown("sink", "mysql").to_string();
        assert!(text.contains("`mysql`") && text.contains("kuiper plugin deploy --sink mysql"), "{text}");
    }
}
