//! `memory`: topics in the process. A memory sink gives rows to a topic; every memory source whose filter matches the
//! topic gets them, without encoding.
//!
//! The [`Bus`] holds a bounded queue for each subscriber. A full one makes the publisher wait; nothing is dropped. With
//! no subscriber a row is gone, as with any broker. Filters are MQTT's: `+` is one level, `#` the rest.

mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::data::{Meta, Object, Value};
use crate::diag::{Diagnostic, Fault, Result};

use super::{
    Connector, Content, End, Inlet, Link, LookupPlan, LookupSpec, Message, Parcel, Payload, RefusedRow, Report, Sink,
    SinkPlan, SinkSpec, Source, SourcePlan, SourceSpec, Stopped, Takes, props,
};
use table::Shelved;

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
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions { datasource: String::new(), buffer_length: 1024 }
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

    /// Gives rows to all who subscribe to the topic, and waits for those whose queue is full. `changes` says what each
    /// row does to lookup tables.
    async fn publish(&self, topic: &str, rows: Vec<Object>, changes: &[Change]) {
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

fn plan_source(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let (options, warnings) = props::read::<SourceOptions>(&spec.props, &SOURCE)?;
    if options.datasource.is_empty() {
        return Err(props::missing(&SOURCE, "datasource", "`DATASOURCE=\"topic/of/a/sink\"`"));
    }
    if !valid_filter(&options.datasource) {
        let expected = "a topic in which `+` and `#` stand alone between slashes, `#` at the end";
        return Err(props::wrong(&SOURCE, "datasource", format_args!("`{}`", options.datasource), expected));
    }
    let (bus, clock, wants_meta) = (spec.env.bus, spec.env.clock, spec.wants_meta);
    let open = move || {
        // From here on, not only once it runs: so that nothing is missed that is published after the rule is started.
        let from = bus.subscribe(&options.datasource, options.buffer_length as usize);
        Ok(Box::new(MemorySource { from, clock: clock.clone(), wants_meta }) as Box<dyn Source>)
    };
    Ok(SourcePlan { open: Box::new(open), gives_rows: true, seeks: false, warnings })
}

fn plan_lookup(spec: LookupSpec) -> Result<LookupPlan, Diagnostic> {
    const NAMES: props::Names = props::Names::source("a lookup table of type `memory`", &["bufferLength"]);
    let (options, warnings) = props::read::<TableOptions>(&spec.props, &NAMES)?;
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
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Rows, warnings })
}

struct MemorySink {
    bus: Bus,
    options: SinkOptions,
    /// Rows of the last delivery that say what no table can do.
    refused: Vec<RefusedRow>,
}

impl MemorySink {
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
        for (delivered, parcel) in parcels.iter().enumerate() {
            let topic = parcel.prop("topic", &self.options.topic);
            let stopped = |fault| Stopped { delivered, fault };
            if topic.is_empty() || topic.contains(['+', '#']) {
                let text = format!("cannot publish to the topic `{topic}`: a topic has no wildcards and is not empty");
                return Err(stopped(Fault::refused(text)));
            }
            match &parcel.content {
                Content::Rows(rows) => {
                    let (mut taken, mut changes) = (Vec::with_capacity(rows.rows.len()), Vec::new());
                    for (row, object) in rows.objects().into_iter().enumerate() {
                        match self.change(&object) {
                            Ok(change) => {
                                taken.push(object);
                                changes.push(change);
                            }
                            Err(fault) => self.refused.push(RefusedRow { parcel: delivered, row, fault }),
                        }
                    }
                    self.bus.publish(topic, taken, &changes).await;
                }
                Content::Bytes(_) => return Err(stopped(Fault::bug("the memory sink was given bytes"))),
            }
        }
        Ok(())
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
mod tests {
    use serde_json::json;
    use tokio::task::yield_now;

    use crate::data::Layout;
    use crate::io::tests::{env, sink_spec, spec};
    use crate::io::{Env, RowSet};

    use super::*;

    fn source(env: &Env, filter: &str, wants_meta: bool) -> Box<dyn Source> {
        let props = json!({"datasource": filter, "bufferLength": 1});
        let spec = SourceSpec { env: env.clone(), wants_meta, ..spec(props, ".") };
        (plan_source(spec).unwrap().open)().unwrap()
    }

    fn sink(env: &Env, topic: &str) -> Box<dyn Sink> {
        let spec = SinkSpec { env: env.clone(), ..sink_spec(json!({"topic": topic}), ".") };
        (plan_sink(spec).unwrap().open)().unwrap()
    }

    fn parcel(topic: Option<&str>, n: i64) -> Parcel {
        let layout = Arc::new(Layout::from_iter(["a"]));
        let rows = RowSet { layout, rows: vec![vec![Value::Int(n)]], single: false };
        let props = topic.map(|topic| ("topic".to_owned(), topic.to_owned())).into_iter().collect();
        Parcel { content: Content::Rows(rows), props }
    }

    #[test]
    fn wildcards_are_anchored() {
        for (filter, topic, yes) in [
            ("a/+", "a/b", true),
            ("a/+", "x/a/b/c", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("+/b", "a/b", true),
            ("a.c", "abc", false),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), yes, "{filter} {topic}");
        }
        assert!(valid_filter("a/+/b/#") && !valid_filter("a/#/b") && !valid_filter("a+") && !valid_filter(""));
    }

    #[tokio::test]
    async fn rows_go_to_all_who_match_with_the_actual_topic() {
        let env = env(".");
        let (mut one, mut all) = (source(&env, "a/b", true), source(&env, "a/+", false));
        let mut sink = sink(&env, "a/{{.x}}");
        sink.deliver(&[parcel(Some("a/b"), 1)]).await.unwrap();
        let (inlet, mut from) = Inlet::bounded(4);
        let (other, mut others) = Inlet::bounded(4);
        tokio::spawn(async move { one.run(inlet, Report::new().0).await });
        tokio::spawn(async move { all.run(other, Report::new().0).await });
        let message = from.recv().await.unwrap().remove(0);
        assert_eq!(message.payload, Payload::Row([("a", Value::Int(1))].into_iter().collect()));
        assert_eq!(message.meta.unwrap().get("topic"), Some(&Value::text("a/b")));
        assert!(others.recv().await.unwrap()[0].meta.is_none());
        let stopped = sink.deliver(&[parcel(Some("a/b"), 2), parcel(Some("a/#"), 3)]).await.unwrap_err();
        assert_eq!((stopped.delivered, stopped.fault.reason()), (1, "refused"));
    }

    #[tokio::test]
    async fn a_full_subscriber_makes_the_publisher_wait_and_loses_nothing() {
        let env = env(".");
        let mut slow = source(&env, "t", false);
        let mut sink = sink(&env, "t");
        let publisher = tokio::spawn(async move {
            for n in 0..100 {
                sink.deliver(&[parcel(None, n)]).await.unwrap();
            }
        });
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert!(!publisher.is_finished());
        let (inlet, mut from) = Inlet::bounded(1);
        tokio::spawn(async move { slow.run(inlet, Report::new().0).await });
        let mut seen = Vec::new();
        while seen.len() < 100 {
            seen.extend(from.recv().await.unwrap().into_iter().map(|message| message.payload));
        }
        let row = |n| Payload::Row([("a", Value::Int(n))].into_iter().collect());
        assert_eq!(seen, (0..100).map(row).collect::<Vec<_>>());
        publisher.await.unwrap();
    }

    #[tokio::test]
    async fn a_subscriber_that_leaves_frees_the_publisher() {
        let env = env(".");
        let gone = source(&env, "t", false);
        let mut sink = sink(&env, "t");
        sink.deliver(&[parcel(None, 1)]).await.unwrap();
        let waiting = tokio::spawn(async move { sink.deliver(&[parcel(None, 2)]).await });
        yield_now().await;
        drop(gone);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert!(env.bus.lock().exact.is_empty());
    }
}
