//! `memory`: topics in the process. A memory sink gives rows to a topic; every memory source whose filter matches the
//! topic gets them, without encoding.
//!
//! The [`Bus`] holds a bounded queue for each subscriber. A full one makes the publisher wait; nothing is dropped. With
//! no subscriber a row is gone, as with any broker, but for streams that retain what is published: it is in their logs
//! before the publisher goes on. Filters are MQTT's: `+` is one level, `#` the rest.

mod retained;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::data::{Meta, Object, Value, pack};
use crate::diag::{Diagnostic, Fault, Result};

use super::{
    Connector, Content, End, Inlet, Link, LookupPlan, LookupSpec, Message, Parcel, Payload, RefusedRow, Report, Sink,
    SinkPlan, SinkSpec, Source, SourcePlan, SourceSpec, Stopped, Takes, props,
};
use retained::RetainedSource;
use table::Shelved;

pub use retained::{Retained, RetainedReader, Stretch};
pub use table::{Change, MemoryTable};

pub(super) const CONNECTOR: Connector = Connector {
    name: "memory",
    about: "Pass rows from rule to rule inside the process, by topic.",
    defaults: include_str!("../../config/sources/memory.yaml"),
    source: Some(plan_source),
    sink: Some(plan_sink),
    lookup: Some(plan_lookup),
    source_schema: Some(props::schema::<SourceOptions>),
    sink_schema: Some(props::schema::<SinkOptions>),
};

const SOURCE: props::Names = props::Names::source("the `memory` source", &[]);
const SINK: props::Names = props::Names::sink("the `memory` sink", &[]);

/// Options of the `memory` source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct SourceOptions {
    /// Topic filter: `+` stands for one level, `#` for all levels from there on.
    datasource: String,
    /// Publications that wait for the stream before their publisher has to.
    buffer_length: u32,
    /// Rows that are kept on the disk, about: the newest, for rules that are not there when they come. 0: none.
    retention: u32,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions { datasource: String::new(), buffer_length: 1024, retention: 0 }
    }
}

/// Options of the `memory` sink.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct SinkOptions {
    /// Topic; may hold a template, no wildcards.
    topic: String,
    /// Column that says what a lookup table does with the row: `insert`, `update`, `upsert` or `delete`.
    rowkind_field: String,
    /// Column that identifies the row in a lookup table.
    key_field: String,
}

/// Options of a lookup table of type `memory`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct TableOptions {
    /// Topic filter: `+` stands for one level, `#` for all levels from there on.
    datasource: String,
    /// Column that identifies a row.
    key: String,
    /// Has no meaning for a table, which takes each row at once.
    buffer_length: u32,
    /// Has no meaning for a table, whose rows are there as long as it is.
    retention: u32,
}

/// Topics in memory, by which memory sinks feed memory sources. Cheap to clone; one a server.
#[derive(Clone, Default)]
pub struct Bus(Arc<Mutex<Topics>>);

#[derive(Default)]
struct Topics {
    last: u64,
    exact: HashMap<String, Vec<Subscriber>>,
    wild: Vec<(String, Subscriber)>,
    /// Lookup tables, with the topics that they take up.
    tables: Vec<(String, Weak<MemoryTable>)>,
    /// Streams that retain what is published, the newest last.
    logs: Vec<Keeper>,
}

/// The log of a stream, until no one holds it any more.
struct Keeper {
    stream: String,
    filter: String,
    log: Weak<dyn Retained>,
}

#[derive(Clone)]
struct Subscriber {
    id: u64,
    to: mpsc::Sender<Publication>,
}

/// Rows given to a topic at once.
#[derive(Clone)]
struct Publication {
    topic: Arc<str>,
    rows: Arc<Vec<Object>>,
}

/// Rows on their way to a topic, and what each does to lookup tables.
struct Outgoing {
    topic: String,
    rows: Vec<Object>,
    changes: Vec<Change>,
}

/// A place on the bus; dropping it unsubscribes.
struct Subscription {
    bus: Bus,
    filter: String,
    id: u64,
    from: mpsc::Receiver<Publication>,
}

impl Bus {
    fn subscribe(&self, filter: &str, capacity: usize) -> Subscription {
        let (to, from) = mpsc::channel(capacity.max(1));
        let mut topics = self.lock();
        topics.last += 1;
        let subscriber = Subscriber { id: topics.last, to };
        let id = topics.last;
        if is_wild(filter) {
            topics.wild.push((filter.to_owned(), subscriber));
        } else {
            topics.exact.entry(filter.to_owned()).or_default().push(subscriber);
        }
        Subscription { bus: self.clone(), filter: filter.to_owned(), id, from }
    }

    fn unsubscribe(&self, filter: &str, id: u64) {
        let mut topics = self.lock();
        topics.wild.retain(|(_, other)| other.id != id);
        if let Some(all) = topics.exact.get_mut(filter) {
            all.retain(|other| other.id != id);
            if all.is_empty() {
                topics.exact.remove(filter);
            }
        }
    }

    /// Makes a lookup table that takes up what is published to the topics, until no one holds it any more.
    fn add_table(&self, filter: &str, key: &str) -> Arc<MemoryTable> {
        let table = MemoryTable::new(Some(key.into()));
        let mut topics = self.lock();
        topics.tables.retain(|(_, table)| table.strong_count() > 0);
        topics.tables.push((filter.to_owned(), Arc::downgrade(&table)));
        table
    }

    /// Enters the log of a stream: what is published to the topics is in it from now on, until no one holds it any more.
    pub fn retain(&self, stream: &str, filter: &str, log: &Arc<dyn Retained>) {
        let keeper = Keeper { stream: stream.to_owned(), filter: filter.to_owned(), log: Arc::downgrade(log) };
        let mut topics = self.lock();
        topics.logs.retain(|other| other.log.strong_count() > 0);
        topics.logs.push(keeper);
    }

    /// The log that the stream has now.
    fn log(&self, stream: &str, filter: &str) -> Option<Arc<dyn Retained>> {
        let topics = self.lock();
        let of_it = topics.logs.iter().rev().find(|one| one.stream == stream && one.filter == filter);
        of_it.and_then(|keeper| keeper.log.upgrade())
    }

    /// Whether a stream retains what is published to the topic.
    fn retains(&self, topic: &str) -> bool {
        self.lock().logs.iter().any(|one| matches(&one.filter, topic))
    }

    /// Brings rows into the logs of all streams that retain them.
    async fn keep(&self, publications: &[Outgoing]) -> Result<()> {
        let logs: Vec<(String, Arc<dyn Retained>)> = {
            let topics = self.lock();
            let alive = |one: &Keeper| Some((one.filter.clone(), one.log.upgrade()?));
            topics.logs.iter().filter_map(alive).collect()
        };
        for (filter, log) in logs {
            let mut records = Vec::new();
            for one in publications.iter().filter(|one| matches(&filter, &one.topic)) {
                for row in &one.rows {
                    records.push(retained::record(&one.topic, row)?);
                }
            }
            if !records.is_empty() {
                log.keep(records).await?;
            }
        }
        Ok(())
    }

    /// Gives rows to all who subscribe to the topic, and waits for those whose queue is full.
    async fn publish(&self, outgoing: Outgoing) {
        let Outgoing { topic, rows, changes } = outgoing;
        let topic = topic.as_str();
        let tables: Vec<Arc<MemoryTable>> = {
            let topics = self.lock();
            let fits = |(filter, _): &&(String, Weak<MemoryTable>)| matches(filter, topic);
            topics.tables.iter().filter(fits).filter_map(|(_, table)| table.upgrade()).collect()
        };
        for table in tables {
            for (n, row) in rows.iter().enumerate() {
                table.apply(row.clone(), changes.get(n).copied().unwrap_or(Change::Put));
            }
        }
        let subscribers: Vec<Subscriber> = {
            let topics = self.lock();
            let wild = topics.wild.iter().filter(|(filter, _)| matches(filter, topic)).map(|(_, to)| to);
            topics.exact.get(topic).into_iter().flatten().chain(wild).cloned().collect()
        };
        if subscribers.is_empty() {
            return;
        }
        let publication = Publication { topic: topic.into(), rows: Arc::new(rows) };
        for subscriber in subscribers {
            // One that has left in the meantime wants nothing any more.
            let _ = subscriber.to.send(publication.clone()).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Topics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.bus.unsubscribe(&self.filter, self.id);
    }
}

fn is_wild(filter: &str) -> bool {
    filter.split('/').any(|level| level == "+" || level == "#")
}

/// Whether a topic filter covers a topic: level by level, from the first to the last.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match level {
            "#" => return true,
            "+" if topic.next().is_some() => {}
            exact if topic.next() == Some(exact) => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Checks that wildcards stand alone in their level and `#` in the last.
pub(super) fn valid_filter(filter: &str) -> bool {
    let count = filter.split('/').count();
    !filter.is_empty()
        && filter.split('/').enumerate().all(|(n, level)| match level {
            "#" => n + 1 == count,
            "+" => true,
            _ => !level.contains(['+', '#']),
        })
}

/// Reads the options of a source, and checks them.
fn options(props: &Map<String, Json>) -> Result<(SourceOptions, Vec<Diagnostic>), Diagnostic> {
    let (options, warnings) = props::read::<SourceOptions>(props, &SOURCE)?;
    if options.datasource.is_empty() {
        return Err(props::missing(&SOURCE, "datasource", "`DATASOURCE=\"topic/of/a/sink\"`"));
    }
    if !valid_filter(&options.datasource) {
        let expected = "a topic in which `+` and `#` stand alone between slashes, `#` at the end";
        return Err(props::wrong(&SOURCE, "datasource", format_args!("`{}`", options.datasource), expected));
    }
    Ok((options, warnings))
}

/// What a stream of this type with these properties retains: the topics, and how many rows; `None`: nothing.
///
/// # Errors
/// What is wrong with the properties.
pub fn retention(props: &Map<String, Json>) -> Result<Option<(String, u64)>, Diagnostic> {
    let (SourceOptions { datasource, retention, .. }, _) = options(props)?;
    Ok((retention > 0).then(|| (datasource, retention.into())))
}

fn plan_source(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let (options, mut warnings) = options(&spec.props)?;
    let (bus, clock, wants_meta) = (spec.env.bus, spec.env.clock, spec.wants_meta);
    if options.retention > 0 && !spec.stream.is_empty() {
        let (stream, filter) = (spec.stream, options.datasource);
        let open = move || {
            let missing = || Fault::unreachable(format!("what `{stream}` retains cannot be read: its log is not open"));
            let log = bus.log(&stream, &filter).ok_or_else(missing)?;
            Ok(Box::new(RetainedSource::new(stream.clone(), log, clock.clone(), wants_meta)) as Box<dyn Source>)
        };
        return Ok(SourcePlan { open: Box::new(open), gives_rows: true, seeks: true, warnings, identity: None });
    }
    if options.retention > 0 {
        let text = "property `retention` has no effect here: nothing is kept for a source that has no name of its own";
        let help = "create a stream with it, CREATE STREAM, and name that one";
        warnings.push(Diagnostic::warning("K0638", text).help(help));
    }
    let open = move || {
        // From here on, not only once it runs: so that nothing is missed that is published after the rule is started.
        let from = bus.subscribe(&options.datasource, options.buffer_length as usize);
        Ok(Box::new(MemorySource { from, clock: clock.clone(), wants_meta }) as Box<dyn Source>)
    };
    Ok(SourcePlan { open: Box::new(open), gives_rows: true, seeks: false, warnings, identity: None })
}

fn plan_lookup(spec: LookupSpec) -> Result<LookupPlan, Diagnostic> {
    const NAMES: props::Names = props::Names::source("a lookup table of type `memory`", &["bufferLength"]);
    let (options, mut warnings) = props::read::<TableOptions>(&spec.props, &NAMES)?;
    if options.retention > 0 {
        let text = format!("property `retention` of {} has no effect", NAMES.of);
        warnings.push(Diagnostic::warning("K0621", text).help("leave it out"));
    }
    if options.datasource.is_empty() {
        return Err(props::missing(&NAMES, "datasource", "`DATASOURCE=\"topic/of/a/sink\"`"));
    }
    if !valid_filter(&options.datasource) {
        let expected = "a topic in which `+` and `#` stand alone between slashes, `#` at the end";
        return Err(props::wrong(&NAMES, "datasource", format_args!("`{}`", options.datasource), expected));
    }
    if options.key.is_empty() {
        return Err(props::missing(&NAMES, "key", "`KEY=\"id\"`, the column that identifies a row"));
    }
    let table = spec.env.bus.add_table(&options.datasource, &options.key);
    Ok(LookupPlan { table: Arc::new(Shelved(table)), warnings })
}

struct MemorySource {
    from: Subscription,
    clock: Clock,
    wants_meta: bool,
}

#[async_trait::async_trait]
impl Source for MemorySource {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        report.set(Link::Connected);
        loop {
            let first = tokio::select! {
                publication = self.from.from.recv() => publication,
                _ = inlet.closed() => return Ok(End::Closed),
            };
            let Some(first) = first else { return Ok(End::Closed) };
            let mut chunk = Vec::with_capacity(first.rows.len());
            let mut next = Some(first);
            while let Some(publication) = next {
                self.unpack(publication, &mut chunk);
                next = if chunk.len() < 512 { self.from.from.try_recv().ok() } else { None };
            }
            if inlet.send(chunk).await.is_err() {
                return Ok(End::Closed);
            }
        }
    }
}

impl MemorySource {
    fn unpack(&self, publication: Publication, chunk: &mut Vec<Message>) {
        let time = self.clock.now();
        let meta = self.wants_meta.then(|| {
            let topic = Value::text(&publication.topic);
            Meta::new([("topic", topic)].into_iter().collect())
        });
        let rows = Arc::try_unwrap(publication.rows).unwrap_or_else(|shared| (*shared).clone());
        let message = |row| Message { payload: Payload::Row(row), time, meta: meta.clone(), ack: None, delivery: None };
        chunk.extend(rows.into_iter().map(message));
    }
}

fn plan_sink(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (options, warnings) = props::read::<SinkOptions>(&spec.props, &SINK)?;
    if options.topic.is_empty() {
        return Err(props::missing(&SINK, "topic", "`\"topic\": \"alerts\"`"));
    }
    if !options.topic.contains("{{") && options.topic.contains(['+', '#']) {
        return Err(props::wrong(&SINK, "topic", format_args!("`{}`", options.topic), "a topic without wildcards"));
    }
    if !options.rowkind_field.is_empty() && options.key_field.is_empty() {
        return Err(props::missing(&SINK, "keyField", "`\"keyField\": \"id\"`, as `rowkindField` is given"));
    }
    let bus = spec.env.bus;
    let open = move || {
        let (bus, options) = (bus.clone(), options.clone());
        Ok(Box::new(MemorySink { bus, options, refused: Vec::new() }) as Box<dyn Sink>)
    };
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Rows, warnings, identity: None })
}

struct MemorySink {
    bus: Bus,
    options: SinkOptions,
    /// Rows of the last delivery that say what no table can do.
    refused: Vec<RefusedRow>,
}

impl MemorySink {
    /// What a parcel publishes, but for rows that are refused.
    fn read(&mut self, number: usize, parcel: &Parcel) -> Result<Outgoing> {
        let topic = parcel.prop("topic", &self.options.topic);
        if topic.is_empty() || topic.contains(['+', '#']) {
            let text = format!("cannot publish to the topic `{topic}`: a topic has no wildcards and is not empty");
            return Err(Fault::refused(text));
        }
        let Content::Rows(set) = &parcel.content else {
            return Err(Fault::bug("the memory sink was given bytes"));
        };
        let is_kept = self.bus.retains(topic);
        let (mut rows, mut changes) = (Vec::with_capacity(set.rows.len()), Vec::new());
        for (row, object) in set.objects().into_iter().enumerate() {
            let change = match self.change(&object) {
                Ok(_) if is_kept && !retained::fits(&object) => Err(pack::too_deep()),
                change => change,
            };
            match change {
                Ok(change) => {
                    rows.push(object);
                    changes.push(change);
                }
                Err(fault) => self.refused.push(RefusedRow { parcel: number, row, fault }),
            }
        }
        Ok(Outgoing { topic: topic.to_owned(), rows, changes })
    }

    /// What a row does to lookup tables, by its own word: without one it is put.
    fn change(&self, row: &Object) -> Result<Change> {
        let SinkOptions { rowkind_field: field, key_field: key, .. } = &self.options;
        if field.is_empty() {
            return Ok(Change::Put);
        }
        if row.get(key).is_none_or(Value::is_null) {
            return Err(Fault::refused(format!("the row has no `{key}`, which `keyField` names")));
        }
        match row.get(field) {
            None | Some(Value::Absent | Value::Null) => Ok(Change::Put),
            Some(word) => match word.as_str() {
                Some("insert" | "update" | "upsert") => Ok(Change::Put),
                Some("delete") => Ok(Change::Delete),
                _ => Err(Fault::refused(format!(
                    "`{field}` is `{}`, expected `insert`, `update`, `upsert` or `delete`",
                    word.print()
                ))),
            },
        }
    }
}

#[async_trait::async_trait]
impl Sink for MemorySink {
    async fn connect(&mut self, report: Report) -> Result<()> {
        report.set(Link::Connected);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        self.refused.clear();
        let (mut publications, mut stopped) = (Vec::with_capacity(parcels.len()), None);
        for (number, parcel) in parcels.iter().enumerate() {
            match self.read(number, parcel) {
                Ok(publication) => publications.push(publication),
                Err(fault) => {
                    stopped = Some(Stopped { delivered: number, fault });
                    break;
                }
            }
        }
        // All of them with one write, and before anyone else has them: what the disk does not take is nowhere.
        if let Err(fault) = self.bus.keep(&publications).await {
            self.refused.clear();
            return Err(Stopped { delivered: 0, fault });
        }
        for publication in publications {
            self.bus.publish(publication).await;
        }
        stopped.map_or(Ok(()), Err)
    }

    fn refused(&mut self) -> Vec<RefusedRow> {
        std::mem::take(&mut self.refused)
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
