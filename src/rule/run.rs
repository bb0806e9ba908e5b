//! The engine of this program: definitions are planned by `plan` and run by `flow`.

mod running;
mod statement;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use super::engine::{Engine, Planned, Running, Step, Topo};
use super::graph::own_streams;
use super::identities::{Appearance, Part};
use super::{Def, Host, advice};
use crate::catalog::{Definition, What};
use crate::data::Layout;
use crate::diag::{self, Diagnostic, Fault};
use crate::flow::shape::{self, Common, Keeping, Shape};
use crate::flow::{self, Chain, Desk, Feed, FeedSpec, Flow, FlowSpec, JournalSpec, Keep, Opened, Place, SinkSpec};
use crate::func::Catalogue;
use crate::io;
use crate::meter::Accounts;
use crate::options::{Action, Overflow};
use crate::plan::{self, Plan};
use crate::plugin;
use crate::sql;

use running::{Read, RunningFlow};
use statement::{defined, read};

/// How often, and after what pause, it is tried to take over the journal of the run before.
const LEASE_TRIES: u32 = 600;
const LEASE_PAUSE: Duration = Duration::from_millis(50);

/// The engine of this program.
pub fn engine() -> Arc<dyn Engine> {
    Arc::new(FlowEngine::default())
}

/// Plans and runs rules. Feeds of shared streams are kept here as long as a rule uses them.
#[derive(Default)]
struct FlowEngine {
    shared: Arc<Shared>,
    leases: Arc<Leases>,
}

/// The rules whose journals are open.
type Leases = Mutex<HashSet<String>>;

/// Lives as long as the journal of a rule is open.
struct Lease {
    rule: String,
    leases: Arc<Leases>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.rule);
    }
}

type Shared = Mutex<HashMap<String, Weak<Feed>>>;

struct PlannedFlow {
    host: Arc<Host>,
    def: Def,
    plan: Plan,
    /// Each stream and table of the plan, once.
    streams: Vec<(Arc<Definition>, FeedSpec)>,
    sinks: Vec<SinkSpec>,
    dead: Option<SinkSpec>,
    warnings: Vec<Diagnostic>,
    shared: Arc<Shared>,
    leases: Arc<Leases>,
    topo: Topo,
    carried: Accounts,
    /// Rows that only an earlier plan could go on with may go.
    may_drop: bool,
}

impl Engine for FlowEngine {
    fn read(&self, sql: &str) -> Result<(), String> {
        let Err(found) = sql::parse_select(sql) else { return Ok(()) };
        Err(match sql::parse(sql) {
            Ok(_) => format!("SQL {sql} is not a select statement."),
            Err(_) => format!("Parse SQL {sql} error: {}", diag::render_all(&found, "sql", sql)),
        })
    }

    fn fits(&self, def: &Def, host: &Arc<Host>, functions: &Catalogue) -> Result<(), Vec<Diagnostic>> {
        read(def, host, &own_streams(def, host)?, functions).map(drop)
    }

    fn plan(&self, def: &Def, host: &Arc<Host>) -> Result<Box<dyn Planned>, Vec<Diagnostic>> {
        let own = own_streams(def, host)?;
        let definition = |name: &str| defined(name, &own, host);
        let (plan, of_graph) = read(def, host, &own, &host.functions())?;
        let one = |found: Diagnostic| vec![found];
        let mut warnings = Vec::new();
        let mut streams: Vec<(Arc<Definition>, FeedSpec)> = Vec::new();
        for source in &plan.sources {
            let name = &source.stream;
            if streams.iter().any(|(known, _)| known.name == *name) {
                continue;
            }
            let words = format!("fail to get stream {name}, please check if stream is created");
            let gone =
                || one(Diagnostic::error("K0201", format!("there is no stream `{name}`")).known_as(words.as_str()));
            let stream = definition(name).ok_or_else(gone)?;
            if source.kind == plan::SourceKind::Lookup {
                warnings.extend(host.lookup(&stream).map_err(one)?.1);
                continue;
            }
            // A shared feed decodes once for rules that may come later, and one of them may read metadata.
            let reads = plan.sources.iter().any(|other| other.stream == source.stream && other.meta);
            let meta = reads || stream.options.shared || def.tells_of_the_dead();
            let feed = feed_spec(host, def, &stream, meta, &mut warnings).map_err(one)?;
            streams.push((stream, feed));
        }
        let layout = Arc::new(plan.layout.clone());
        let mut sinks = Vec::with_capacity(def.actions.len());
        for action in &def.actions {
            let name = format!("{}_{}", action.sink, action.index);
            let mut sink = sink_spec(host, def, action, name, &layout, &mut warnings).map_err(one)?;
            warnings.extend(advice::of_sink(def, action));
            if let Some(dead) = &action.dead {
                let name = format!("dead_{}", sink.name);
                sink.dead = Some(Box::new(dead_sink(host, def, dead, name, &mut warnings).map_err(one)?));
            }
            sinks.push(sink);
        }
        for (index, sink) in of_graph.into_iter().enumerate() {
            let name = format!("{}_{index}", sink.sink);
            let action = Action { sink: sink.sink, index, props: sink.props, dead: None };
            let spec = sink_spec(host, def, &action, name, &layout, &mut warnings).map_err(one)?;
            sinks.push(SinkSpec { ports: Some(sink.paths), ..spec });
        }
        let mut dead = None;
        if let Some(action) = &def.options.dead_letter {
            dead = Some(dead_sink(host, def, action, "dead".to_owned(), &mut warnings).map_err(one)?);
        }
        let decodes = |name: &str| streams.iter().any(|(stream, feed)| stream.name == name && !feed.source.gives_rows);
        let topo = topo(&plan, &decodes, &sinks);
        let (host, def) = (host.clone(), def.clone());
        let (shared, leases, carried) = (self.shared.clone(), self.leases.clone(), Accounts::default());
        let planned = PlannedFlow {
            host,
            def,
            plan,
            streams,
            sinks,
            dead,
            warnings,
            shared,
            leases,
            topo,
            carried,
            may_drop: false,
        };
        Ok(Box::new(planned))
    }
}

/// What planning needs to know of a stream.
pub(super) fn plan_stream(definition: &Definition) -> plan::Stream {
    plan::Stream {
        name: definition.name.clone(),
        what: definition.what,
        columns: definition.columns.iter().map(plan::StreamColumn::of).collect(),
        binary: definition.format() == "binary",
        strict: definition.options.strict_validation,
        temporary: definition.options.temp,
        timestamp_format: definition.options.timestamp_format.as_str().into(),
        timestamp: definition.options.timestamp.as_str().into(),
        kind: match definition.what {
            What::Stream => plan::SourceKind::Stream,
            What::Table if definition.is_lookup() => plan::SourceKind::Lookup,
            What::Table => {
                let connector = Some(definition.options.connector.as_str());
                plan::SourceKind::Scan { retain: plan::retained(definition.options.retain_size, connector) }
            }
        },
    }
}

/// Who has the connection.
fn owner<'a>(def: &'a Def, stream: &'a Definition) -> &'a str {
    if stream.options.shared { stream.name.as_str() } else { def.id.as_str() }
}

fn feed_spec(
    host: &Arc<Host>,
    def: &Def,
    stream: &Definition,
    wants_meta: bool,
    warnings: &mut Vec<Diagnostic>,
) -> Result<FeedSpec, Diagnostic> {
    let (props, found) = host.source_props(stream)?;
    warnings.extend(found);
    let owner = owner(def, stream);
    let format = format_options(stream, &props);
    let given = props.clone();
    let (name, env) = (host.name_of(stream), host.env(owner));
    let spec = io::SourceSpec { props, wants_meta, wants_acks: true, stream: name, env };
    let source = host.source(stream.connector(), spec)?;
    warnings.extend(source.warnings.iter().cloned());
    warnings.extend(advice::of_promise(def, stream, &source, &given));
    let kinds = stream.columns.iter().map(|column| (column.name.name.clone(), column.kind.clone())).collect();
    Ok(FeedSpec { stream: stream.name.clone(), source, seek: None, format, kinds, clock: host.clock.clone() })
}

pub(super) fn format_options(stream: &Definition, props: &Map<String, Json>) -> crate::codec::FormatOptions {
    let find = |name: &str| props.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let names = find("fields").and_then(Json::as_array);
    crate::codec::FormatOptions {
        format: stream.format().into(),
        delimiter: stream.options.delimiter.as_str().into(),
        fields: names.into_iter().flatten().filter_map(Json::as_str).map(Into::into).collect(),
        has_header: find("hasHeader").and_then(Json::as_bool).unwrap_or(false),
        whole_numbers_as_int: find("useInt64ForWholeNumber").and_then(Json::as_bool).unwrap_or(false),
        schema_id: stream.options.schema_id.as_str().into(),
    }
}

fn sink_spec(
    host: &Arc<Host>,
    def: &Def,
    action: &Action,
    name: String,
    layout: &Arc<Layout>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<SinkSpec, Diagnostic> {
    let mut props = action.props.clone();
    let mut common = Common::take_over(&mut props, &host.sink_defaults)?;
    warnings.extend(common.warnings.iter().cloned());
    // A file is compressed as a whole, which its sink has to do.
    if action.sink == "file"
        && let Some(method) = common.compression.take()
    {
        props.insert("compression".to_owned(), method.as_str().into());
    }
    if action.sink == "rest" {
        // Packed here, and told to the server there.
        if let Some(method) = &common.compression {
            props.insert("compression".to_owned(), method.as_str().into());
        }
        common.dynamic.retain(|(path, _)| !io::is_of_login(&action.props, path));
    }
    // A sink that chooses columns itself may need others to know what to do with a row.
    if host.plugins.sink_declares(&action.sink, "fields")
        && let Some(fields) = common.taken.get("fields")
    {
        props.insert("fields".to_owned(), fields.clone());
        common.fields.clear();
        common.format.fields.clear();
    }
    let keep = match common.keeping.take() {
        None => None,
        Some(keeping) => {
            let second = match keeping.aside {
                true => Some(second_sink(host, def, &action.sink, &props, &keeping, &common)?),
                false => None,
            };
            let place = Place { rule: def.id.clone(), sink: name.clone() };
            Some(Keep { queues: host.queues.clone(), place, keeping, second })
        }
    };
    let durable = def.options.qos > 0;
    let spec = io::SinkSpec { props, format: common.format.clone(), durable, env: host.env(&def.id) };
    let sink = host.sink(&action.sink, spec)?;
    warnings.extend(sink.warnings.iter().cloned());
    let mut shape = Shape::new(&common, layout.clone(), sink.takes, host.facts())?;
    if action.sink == "log" {
        shape = shape.errors_as_rows();
    }
    let drops = common.overflow == shape::Overflow::Drop || def.options.overflow == Overflow::Drop;
    if !drops && common.buffer_length != Common::default().buffer_length {
        let text = "property `bufferLength` of a sink has no effect: the rule waits for its sinks";
        warnings.push(Diagnostic::warning("K0632", text).help("it counts with `overflow: drop`"));
    }
    let overflow = if drops { flow::Overflow::Drop(common.buffer_length) } else { flow::Overflow::Wait };
    Ok(SinkSpec { name, plan: sink, retrying: common.retrying, keep, shape, overflow, ports: None, dead: None })
}

/// A sink for dead letters: each is a message of its own, unless the user wants it otherwise, and none is dropped.
fn dead_sink(
    host: &Arc<Host>,
    def: &Def,
    action: &Action,
    name: String,
    warnings: &mut Vec<Diagnostic>,
) -> Result<SinkSpec, Diagnostic> {
    let mut action = action.clone();
    // The last letters of a batch that is never full would keep their messages from being acknowledged.
    for (name, usual) in [("sendSingle", Json::from(true)), ("lingerInterval", Json::from("1s"))] {
        let has = |wanted: &str| action.props.keys().any(|name| name.eq_ignore_ascii_case(wanted));
        if !has(name) && (name == "sendSingle" || has("batchSize")) {
            action.props.insert(name.to_owned(), usual);
        }
    }
    let layout = Arc::new(flow::dead_columns());
    let sink = sink_spec(host, def, &action, name, &layout, warnings).map_err(|mut found| {
        found.message = format!("in `deadLetter`: {}", found.message);
        found
    })?;
    Ok(SinkSpec { overflow: flow::Overflow::Wait, ..sink })
}

/// The sink that sends what lies in the queue, with its own topic and its own name at the broker.
fn second_sink(
    host: &Arc<Host>,
    def: &Def,
    sink: &str,
    props: &Map<String, Json>,
    keeping: &Keeping,
    common: &Common,
) -> Result<io::SinkPlan, Diagnostic> {
    let mut props = props.clone();
    if let Some(destination) = &keeping.destination {
        props.retain(|name, _| !name.eq_ignore_ascii_case("topic"));
        props.insert("topic".to_owned(), destination.as_str().into());
    }
    let named = |(name, _): &(&String, &mut Json)| name.eq_ignore_ascii_case("clientid");
    if let Some((_, Json::String(id))) = props.iter_mut().find(named)
        && !id.is_empty()
    {
        id.push_str("-resend");
    }
    let durable = def.options.qos > 0;
    let mut env = host.env(&def.id);
    if sink == "mqtt" {
        // Without a name of its own it would take the connection of the first from it, where the broker is to know both again.
        env.owner.push_str("-resend");
    }
    let spec = io::SinkSpec { props, format: common.format.clone(), durable, env };
    host.sink(sink, spec)
}

/// Each node feeds the next; the last operator feeds every sink. `decodes` says of which streams messages are decoded.
fn topo(plan: &Plan, decodes: &dyn Fn(&str) -> bool, sinks: &[SinkSpec]) -> Topo {
    let sinks: Vec<String> = sinks.iter().map(|sink| format!("sink_{}", sink.name)).collect();
    let (sources, edges) = Chain::steps(plan).edges(plan, decodes, &sinks);
    Topo { sources, edges }
}

impl PlannedFlow {
    /// Whether the rule has a journal.
    fn keeps(&self) -> Result<bool, Fault> {
        Ok(match self.def.options.qos {
            0 => false,
            // A source that can seek goes on where the journal says that it stood.
            1 => {
                let seeks = |(stream, feed): &(Arc<Definition>, FeedSpec)| feed.source.seeks && !stream.options.shared;
                let rule = Arc::new(self.host.rule_info(&self.def.id));
                self.streams.iter().any(seeks)
                    || self.def.actions.iter().any(|action| self.host.plugins.sink_keeps(&action.sink))
                    || flow::keeps_state(&self.plan, &rule, &TimeZone::system())?
            }
            _ => true,
        })
    }
}

#[async_trait::async_trait]
impl Planned for PlannedFlow {
    fn sources(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for source in &self.plan.sources {
            if !names.iter().any(|name| *name == source.stream.as_str()) {
                names.push(source.stream.to_string());
            }
        }
        names
    }

    fn explain(&self) -> String {
        plan::explain(&self.plan)
    }

    fn topo(&self) -> Topo {
        self.topo.clone()
    }

    fn queues(&self) -> Vec<String> {
        self.sinks.iter().filter(|sink| sink.keep.is_some()).map(|sink| sink.name.clone()).collect()
    }

    fn warnings(&self) -> Vec<Diagnostic> {
        self.warnings.clone()
    }

    fn identities(&self) -> Vec<Appearance> {
        let source = |(stream, feed): &(Arc<Definition>, FeedSpec)| {
            let name = stream.name.to_string();
            let part = if stream.options.shared { Part::Shared(name) } else { Part::Source(name) };
            Some(Appearance { identity: feed.source.identity.clone()?, part })
        };
        let sinks = self.sinks.iter().flat_map(|sink| [Some(sink), sink.dead.as_deref()]).chain([self.dead.as_ref()]);
        let sink = |sink: &SinkSpec| {
            let second = sink.keep.as_ref().and_then(|keep| keep.second.as_ref());
            let both = [Some(&sink.plan), second].into_iter().flatten().filter_map(|plan| plan.identity.clone());
            let part = Part::Sink(sink.name.clone());
            both.map(|identity| Appearance { identity, part: part.clone() }).collect::<Vec<_>>()
        };
        self.streams.iter().filter_map(source).chain(sinks.flatten().flat_map(sink)).collect()
    }

    fn carry(&mut self, accounts: Accounts) {
        self.carried = accounts;
    }

    fn steps(&self) -> Vec<Step> {
        let rule = Arc::new(self.host.rule_info(&self.def.id));
        let keeps = flow::memories(&self.plan, &rule, &TimeZone::system()).unwrap_or_default();
        let names = Chain::steps(&self.plan).ops.into_iter().map(|(name, _)| name);
        let all = names.zip(plan::steps(&self.plan)).zip(keeps);
        all.map(|((name, does), keeps)| Step { name, does, keeps }).collect()
    }

    async fn stranded(&mut self) -> Result<Option<u64>, Fault> {
        if !self.keeps()? {
            return Ok(None);
        }
        let journal = journal(&self.host, &self.def, true, &self.leases).await?;
        Ok(journal.and_then(|journal| journal.stranded(&self.plan)))
    }

    fn drop_stranded(&mut self) {
        self.may_drop = true;
    }

    async fn held(&mut self) -> Result<Vec<u64>, Fault> {
        if !self.keeps()? {
            return Ok(Vec::new());
        }
        let rule = Arc::new(self.host.rule_info(&self.def.id));
        match journal(&self.host, &self.def, true, &self.leases).await? {
            Some(journal) => journal.held(&self.plan, &rule),
            None => Ok(Vec::new()),
        }
    }

    async fn start(self: Box<Self>) -> Result<Arc<dyn Running>, Fault> {
        self.host.offered.starts(&self.def.id, self.def.options.qos);
        let rule = Arc::new(self.host.rule_info(&self.def.id));
        let keeps = self.keeps()?;
        let journal = journal(&self.host, &self.def, keeps, &self.leases).await?;
        // Its streams may have been changed since, which nobody was asked about.
        if let Some(rows) = journal.as_ref().and_then(|journal| journal.stranded(&self.plan)).filter(|_| !self.may_drop)
        {
            return Err(Fault::setup(format!(
                "the input log of the rule has {rows} rows that it can go on with only as it was planned before; put its \
                 streams back as they were, or drop these rows by an update of the rule with `force=true`"
            )));
        }
        let mut feeds: HashMap<String, Arc<Feed>> = HashMap::new();
        let positions = journal.as_ref().map_or_else(Vec::new, |journal| journal.positions(&self.plan));
        for (stream, mut spec) in self.streams {
            self.host.retain_as_defined(&stream.name)?;
            // Where a stream is there twice, what the second source has the first one has too.
            let last = self.plan.sources.iter().rposition(|source| source.stream == stream.name);
            spec.seek =
                last.and_then(|place| positions.get(place).cloned().flatten()).filter(|_| !stream.options.shared);
            if let Some(position) = self.host.offered.take_position(&self.def.id, &stream.name) {
                spec.seek = Some(plugin::place_at(spec.seek.as_ref(), &position));
            }
            // Memory has no past: whoever is not there when it is written to misses it.
            let gate = (stream.connector() != "memory").then(|| self.host.reading.subscribe());
            let feed = if stream.options.shared {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                match shared.get(stream.name.as_str()).and_then(Weak::upgrade) {
                    Some(feed) => feed,
                    None => {
                        let feed = Arc::new(Feed::start_behind(spec, gate));
                        shared.insert(stream.name.to_string(), Arc::downgrade(&feed));
                        feed
                    }
                }
            } else {
                Arc::new(Feed::start_behind(spec, gate))
            };
            feeds.insert(stream.name.to_string(), feed);
        }
        let shared = |name: &String| self.host.catalog.find(name).is_some_and(|stream| stream.options.shared);
        let read = |(name, feed): (&String, &Arc<Feed>)| {
            let times = self.plan.sources.iter().filter(|source| source.stream == name.as_str()).count();
            Read { stream: name.clone(), feed: Arc::downgrade(feed), times }
        };
        let common: Vec<Read> = feeds.iter().filter(|(name, _)| shared(name)).map(read).collect();
        let of_sources = self.plan.sources.iter().filter_map(|source| feeds.get(source.stream.as_str()).cloned());
        let of_sources = of_sources.collect();
        let mut desks = Vec::new();
        for (source, columns) in self.plan.lookups() {
            let gone = || Fault::setup(format!("there is no table `{}`", source.stream));
            let table = self.host.catalog.find(&source.stream).ok_or_else(gone)?;
            let (shelf, _) = self.host.lookup(&table).map_err(|found| Fault::setup(found.to_string()))?;
            let desk = Desk::new(shelf.table.clone(), columns, shelf.cache, self.host.clock.clone());
            desks.push(desk.reading(source.reads()));
        }
        let queued = self.sinks.iter().all(|sink| sink.keep.is_some());
        let drains = !common.is_empty() && self.def.options.qos > 0 && journal.is_none() && !queued;
        // The rule alone holds them from here on, so that the last one to let go ends them.
        drop(feeds);
        let spec = FlowSpec {
            rule,
            local: TimeZone::system(),
            clock: self.host.clock.clone(),
            feeds: of_sources,
            desks,
            send_error: self.def.options.send_error,
            overflow: match self.def.options.overflow {
                Overflow::Drop => flow::Overflow::Drop(self.def.options.buffer),
                Overflow::Wait => flow::Overflow::Wait,
            },
            sinks: self.sinks,
            carried: self.carried,
            stall: self.def.options.stall,
            dead: self.dead,
            journal,
            plan: self.plan,
        };
        let flow = Flow::start(spec).await?;
        Ok(Arc::new(RunningFlow::new(common, drains, flow)))
    }

    async fn forget(self: Box<Self>) -> Vec<Fault> {
        let PlannedFlow { host, def, streams, .. } = *self;
        let each = streams.into_iter().map(|(stream, feed)| {
            let (host, owner) = (&host, owner(&def, &stream).to_owned());
            async move { host.forget(&owner, &stream, feed.source).await }
        });
        join_all(each).await.into_iter().flatten().collect()
    }
}

/// Opens the journal of a rule, if it is to have one.
async fn journal(host: &Host, def: &Def, keeps: bool, leases: &Arc<Leases>) -> Result<Option<Opened>, Fault> {
    let (store, id, interval) = (host.store.clone(), def.id.clone(), def.options.checkpoint);
    let lease = lease(host, &id, leases).await?;
    let folder = store.state(&id);
    let opened = tokio::task::spawn_blocking(move || {
        if keeps {
            return Opened::open(JournalSpec { folder, interval, lease }).map(Some);
        }
        let has_anything =
            || Opened::open(JournalSpec { folder: folder.clone(), interval, lease }).map(|of| of.has_anything());
        // What cannot be read is lost too.
        if folder.is_dir() && has_anything().unwrap_or(true) {
            tracing::warn!(rule = id, "the rule keeps no state any more; what it had kept is dropped");
        }
        store.forget_state(&id).map(|()| None)
    });
    opened.await.map_err(|_| Fault::bug("opening the journal panicked"))?
}

/// What says that the journal of a rule is open; waits until no run of before has it.
async fn lease(host: &Host, id: &str, leases: &Arc<Leases>) -> Result<Arc<Lease>, Fault> {
    for _ in 0..LEASE_TRIES {
        if leases.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned()) {
            return Ok(Arc::new(Lease { rule: id.to_owned(), leases: leases.clone() }));
        }
        host.clock.sleep(LEASE_PAUSE).await;
    }
    Err(Fault::setup("the run of before still writes its state; start the rule again in a moment"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
