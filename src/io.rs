//! Connectors: how messages come in and how results go out.
//!
//! A [`Connector`] is a row of [`CONNECTORS`] with an options struct and functions that open a [`Source`] or a [`Sink`].
//! A connector sees options and bytes (or rows). It does no retry, no batching beyond what its wire asks for, no
//! encoding and no counting: `flow` does that once for all. Waiting is the only answer to a full pipeline.

mod file;
mod gate;
mod link;
mod log;
mod lookup;
mod memory;
mod mqtt;
mod nop;
pub mod props;
mod reach;
mod rest;
mod simulator;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value as Json};
use tokio::sync::mpsc;

use crate::clock::{Clock, Time};
use crate::codec::FormatOptions;
use crate::data::{Delivery, Layout, Meta, Object, SourceAck, Value};
use crate::diag::{Diagnostic, Fault, Result};

pub use gate::Gate;
pub use link::{Link, LinkStatus, Report};
pub use lookup::{Lookup, LookupPlan, LookupSpec, LookupTable};
pub use memory::{Bus, Change, MemoryTable, Retained, RetainedReader, Stretch, retention};
pub use reach::refusal;
pub use rest::is_of_login;

/// What a message of a source holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// To be decoded by the stream's format.
    Bytes(Bytes),
    /// A row that needs no decoding.
    Row(Object),
    /// What came instead of a message. [`Fault::Decode`] is a record that the source could not read, and so one dead
    /// row; any other fault is an error of the source itself, and no row.
    Error(Fault),
}

/// One message of a source.
#[derive(Clone)]
pub struct Message {
    pub payload: Payload,
    /// When it arrived.
    pub time: Time,
    /// Only when the source was opened with `wants_meta`.
    pub meta: Option<Meta>,
    /// Told when every rule is done with it; `None` where the source has no one to tell.
    pub ack: Option<SourceAck>,
    /// By what it is known when it is given again, without the digest; only of messages that may be.
    pub delivery: Option<Delivery>,
}

/// Messages that a source gave together.
#[derive(Clone, Default)]
pub struct Chunk {
    pub messages: Vec<Message>,
    /// Where the source stands after the last of them, if it can seek: [`Source::seek`] with it goes on behind them.
    pub position: Option<Value>,
    /// Rows before them that are gone and were never given, by the reason under which a rule counts them as dropped.
    pub missed: BTreeMap<&'static str, u64>,
}

impl std::ops::Deref for Chunk {
    type Target = Vec<Message>;
    fn deref(&self) -> &Vec<Message> {
        &self.messages
    }
}

impl std::ops::DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }
}

impl IntoIterator for Chunk {
    type Item = Message;
    type IntoIter = std::vec::IntoIter<Message>;
    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}

/// Where a source puts its messages: a bounded channel, counted in chunks. A full one makes the source wait.
#[derive(Clone)]
pub struct Inlet {
    to: mpsc::Sender<Chunk>,
    /// What stands before it.
    gate: Option<Gate>,
}

/// The rule or feed behind the inlet is gone; the source ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Inlet {
    /// An inlet that holds at most `chunks` chunks, and its other end.
    pub fn bounded(chunks: usize) -> (Inlet, mpsc::Receiver<Chunk>) {
        let (to, from) = mpsc::channel(chunks.max(1));
        (Inlet { to, gate: None }, from)
    }

    /// Gives a chunk of messages and waits while the pipeline is full. An empty chunk is nothing.
    pub async fn send(&self, chunk: Vec<Message>) -> std::result::Result<(), Closed> {
        self.send_at(chunk, None).await
    }

    /// The same, with where the source stands after it.
    pub async fn send_at(&self, messages: Vec<Message>, position: Option<Value>) -> std::result::Result<(), Closed> {
        if messages.is_empty() {
            return Ok(());
        }
        self.send_chunk(Chunk { messages, position, ..Chunk::default() }).await
    }

    /// The same, also without a message: to say where the source begins, or what is gone.
    pub async fn send_chunk(&self, chunk: Chunk) -> std::result::Result<(), Closed> {
        match &self.gate {
            Some(gate) => gate.pass(&self.to, chunk).await,
            None => self.to.send(chunk).await.map_err(|_| Closed),
        }
    }

    /// Waits until the pipeline is gone, or its gate is shut.
    pub async fn closed(&self) {
        match &self.gate {
            Some(gate) => tokio::select! {
                () = self.to.closed() => {}
                () = gate.closed() => {}
            },
            None => self.to.closed().await,
        }
    }
}

/// Why a source ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Its input is finite and was given whole.
    Finished,
    /// Its inlet was closed.
    Closed,
}

/// A source of messages. `run` is called once, by the task of the feed, and cancelled by dropping it after the inlet
/// was closed and `stop` had its time.
#[async_trait::async_trait]
pub trait Source: Send {
    /// Gives messages until the input ends or the inlet closes. Reconnects by itself, with back-off, and reports it;
    /// an `Err` is final: `Retry::Later` makes the feed open the source again, with back-off.
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End>;

    /// Called before `run`, at most once, on a source whose plan says that it `seeks`: what stood before the position,
    /// which came with a [`Chunk`] of an earlier run, is not given again, and all that comes after it is. `Setup` for a
    /// position that is none of this source's.
    async fn seek(&mut self, _position: &Value) -> Result<()> {
        Err(Fault::bug("a source that cannot seek was asked to"))
    }

    /// Called when the rule or stream is deleted for good, on a source that is not running: takes back what it left
    /// outside, such as a session that a broker keeps for it.
    async fn forget(&mut self) -> Result<()> {
        Ok(())
    }
}

/// One emission for a sink that takes rows.
#[derive(Clone, Debug)]
pub struct RowSet {
    pub layout: Arc<Layout>,
    pub rows: Vec<Vec<Value>>,
    /// With `sendSingle`: one row that stands alone.
    pub single: bool,
}

impl RowSet {
    /// The rows as objects, spread columns resolved: a named column wins over a spread one.
    pub fn objects(&self) -> Vec<Object> {
        self.rows.iter().map(|row| self.layout.object(row)).collect()
    }
}

/// What a sink is given.
#[derive(Clone, Debug)]
pub enum Content {
    /// One encoded message.
    Bytes(Bytes),
    /// One emission of rows, for sinks that say so.
    Rows(RowSet),
}

/// One delivery: content, and the values of the sink's dynamic properties for it.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub content: Content,
    /// Property name to value, for properties that hold a template; fixed ones are not listed. A property inside an
    /// object has its path for a name: `properties.unit`.
    pub props: Vec<(String, String)>,
}

impl Parcel {
    /// The value of a dynamic property for this parcel, or else the fixed one.
    pub fn prop<'a>(&'a self, name: &str, fixed: &'a str) -> &'a str {
        self.props.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or(fixed, |(_, value)| value)
    }
}

/// A delivery that stopped: the first `delivered` parcels are confirmed, the next one met the fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    pub delivered: usize,
    pub fault: Fault,
}

/// A row of a parcel that the other side will never take, while it took the others.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedRow {
    /// Its parcel, counted from the first of the delivery.
    pub parcel: usize,
    pub row: usize,
    pub fault: Fault,
}

/// A sink. All calls come from one task, one at a time.
#[async_trait::async_trait]
pub trait Sink: Send {
    /// Connects, or fails with `Retry::Later` when that is worth another try.
    async fn connect(&mut self, report: Report) -> Result<()>;

    /// Delivers in order and returns when all are confirmed by the other side. With `Retry::Later` the same parcels
    /// from the stopped one on are given again after a pause, and after `connect` if the sink asks for it in its fault.
    async fn deliver(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped>;

    /// Rows of the parcels that the last `deliver` confirmed which are not part of that: they are dead.
    fn refused(&mut self) -> Vec<RefusedRow> {
        Vec::new()
    }

    /// Keeps the connection alive, and mends it, while there is nothing to deliver. The caller waits on it and on its
    /// queue at the same time and drops the future when a parcel is there, so it may be cancelled at every `await`.
    /// It never returns.
    async fn idle(&mut self) {
        std::future::pending().await
    }

    /// Where what was confirmed so far ends, for a sink that can take back what was delivered after it. Asked after
    /// `connect` and after each delivery. `None`: the sink cannot, and what is delivered again is there twice.
    async fn position(&mut self) -> Result<Option<Value>> {
        Ok(None)
    }

    /// Takes back all that this sink, or one opened before it with the same properties, delivered after that position.
    /// Called after `connect` and before the first delivery.
    async fn resume(&mut self, _position: &Value) -> Result<()> {
        Ok(())
    }

    /// Flushes and closes; called once, also after a failed connect.
    async fn close(&mut self) -> Result<()>;
}

/// What a connector may use of the engine when it is opened.
#[derive(Clone)]
pub struct Env {
    pub clock: Clock,
    /// Folder that relative paths of files start from.
    pub root: PathBuf,
    /// Rule (or stream, when shared), for client ids and logs.
    pub owner: String,
    /// The name of this server, which it keeps and shares with no other: for client ids.
    pub instance: String,
    pub bus: Bus,
    /// `basic.enablePrivateNet`: requests may go to this machine and to private networks.
    pub private_net: bool,
}

/// How to open a source.
pub struct SourceSpec {
    /// All properties, merged: defaults < CONF_KEY < EXTRA < WITH. `datasource` among them.
    pub props: Map<String, Json>,
    /// A rule reads metadata of this stream.
    pub wants_meta: bool,
    /// A rule wants the source to hold acknowledgements until its sinks have confirmed.
    pub wants_acks: bool,
    /// The stream or table that it is of; empty where that is none of the catalog.
    pub stream: String,
    pub env: Env,
}

/// How to open a sink.
pub struct SinkSpec {
    /// The action's own properties; those of 7.2 of the reference (sendSingle, format, …) are taken out before.
    pub props: Map<String, Json>,
    /// How its messages are encoded, for a sink that lays out a header or a table by it.
    pub format: FormatOptions,
    /// A confirmed delivery must survive a loss of power: the rule has `qos` 1 or 2.
    pub durable: bool,
    pub env: Env,
}

/// What a sink wants to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Bytes,
    Rows,
}

/// As whom a connector appears at the other side, where there is room for one that appears so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Equal keys are one and the same.
    pub key: String,
    /// For people: client id `x` at `tcp://host:1883`.
    pub name: String,
    /// The property that makes it another.
    pub property: &'static str,
    /// For people: what becomes of two.
    pub rivalry: &'static str,
    /// The other side keeps something for it while it is away, until [`Source::forget`].
    pub lasts: bool,
}

/// A source that was checked and can be opened again and again.
pub struct SourcePlan {
    pub open: Box<dyn Fn() -> Result<Box<dyn Source>> + Send + Sync>,
    /// Messages are rows, so the stream's format does not apply.
    pub gives_rows: bool,
    /// Its chunks carry positions, and [`Source::seek`] goes on from one.
    pub seeks: bool,
    /// What to tell the user, for example of a property that is ignored.
    pub warnings: Vec<Diagnostic>,
    pub identity: Option<Identity>,
}

/// A sink that was checked and can be opened again and again.
pub struct SinkPlan {
    pub open: Box<dyn Fn() -> Result<Box<dyn Sink>> + Send + Sync>,
    pub takes: Takes,
    pub warnings: Vec<Diagnostic>,
    pub identity: Option<Identity>,
}

/// One kind of connector.
#[derive(Clone, Copy)]
pub struct Connector {
    pub name: &'static str,
    pub about: &'static str,
    /// Default properties of the source, as the `default` section of its file in `config/sources`.
    pub defaults: &'static str,
    /// Checks the properties and says how to open; does no I/O.
    pub source: Option<fn(SourceSpec) -> std::result::Result<SourcePlan, Diagnostic>>,
    pub sink: Option<fn(SinkSpec) -> std::result::Result<SinkPlan, Diagnostic>>,
    /// Checks the properties of a lookup table and makes it.
    pub lookup: Option<fn(LookupSpec) -> std::result::Result<LookupPlan, Diagnostic>>,
    /// JSON Schema of the properties.
    pub source_schema: Option<fn() -> Arc<Json>>,
    pub sink_schema: Option<fn() -> Arc<Json>>,
}

/// All built-in connectors.
pub const CONNECTORS: &[Connector] = &[
    file::CONNECTOR,
    log::CONNECTOR,
    memory::CONNECTOR,
    mqtt::CONNECTOR,
    nop::CONNECTOR,
    rest::CONNECTOR,
    simulator::CONNECTOR,
];

/// The built-in connector of that name.
pub fn connector(name: &str) -> std::result::Result<&'static Connector, Diagnostic> {
    CONNECTORS.iter().find(|connector| connector.name == name).ok_or_else(|| {
        Diagnostic::error("K0625", format!("there is no connector `{name}`"))
            .suggest(name, CONNECTORS.iter().map(|connector| connector.name))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn env(root: impl Into<PathBuf>) -> Env {
        let (owner, instance) = ("me".into(), "here".into());
        Env { clock: Clock::real(), root: root.into(), owner, instance, bus: Bus::default(), private_net: true }
    }

    pub(super) fn spec(props: Json, root: impl Into<PathBuf>) -> SourceSpec {
        let props = props.as_object().unwrap().clone();
        SourceSpec { props, wants_meta: false, wants_acks: false, stream: String::new(), env: env(root) }
    }

    pub(super) fn sink_spec(props: Json, root: impl Into<PathBuf>) -> SinkSpec {
        let props = props.as_object().unwrap().clone();
        SinkSpec { props, format: FormatOptions::default(), durable: false, env: env(root) }
    }

    #[test]
    fn a_connector_is_found_by_name_or_suggested() {
        assert_eq!(connector("file").unwrap().name, "file");
        let error = connector("simulater").err().unwrap().to_string();
        assert_eq!(error, "there is no connector `simulater` (did you mean `simulator`?)");
    }

    #[test]
    fn defaults_are_yaml_that_the_source_takes() {
        for connector in CONNECTORS {
            let Some(plan) = connector.source else { continue };
            let yaml: Json = serde_yaml::from_str(connector.defaults).unwrap();
            let mut spec = spec(yaml["default"].clone(), ".");
            spec.props.insert("datasource".into(), json!("here"));
            let plan = plan(spec).map_err(|error| format!("{}: {error}", connector.name)).unwrap();
            assert!(plan.warnings.is_empty(), "{}: {:?}", connector.name, plan.warnings);
        }
    }

    #[test]
    fn every_property_has_a_description() {
        for connector in CONNECTORS {
            for schema in [connector.source_schema, connector.sink_schema].into_iter().flatten() {
                let schema = schema();
                for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                    assert!(property["description"].is_string(), "{}.{name}", connector.name);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_named_column_wins_over_a_spread_one() {
        use crate::data::Column;
        let layout =
            Layout::new(vec![Column { name: "*".into(), spread: true }, Column { name: "a".into(), spread: false }]);
        let spread = Value::object([("a", Value::Int(1)), ("b", Value::Int(2))].into_iter().collect());
        let rows = RowSet { layout: Arc::new(layout), rows: vec![vec![spread, Value::Int(3)]], single: true };
        let expected: Object = [("b", Value::Int(2)), ("a", Value::Int(3))].into_iter().collect();
        assert_eq!(rows.objects(), [expected]);
    }
}
