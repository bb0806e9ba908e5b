//! What every source and every sink promises, whatever it connects to; and the helpers that drive one.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use kuiper::clock::Clock;
use kuiper::codec::FormatOptions;
use kuiper::data::{Layout, Value};
use kuiper::diag::{Fault, Result};
use kuiper::io::{
    Bus, CONNECTORS, Chunk, Content, End, Env, Inlet, Link, LinkStatus, Message, Parcel, Payload, Report, RowSet, Sink,
    SinkSpec, Source, SourceSpec, Takes, connector,
};

use super::broker::{Broker, PATIENCE};
use super::http::{Reply, Server};

pub fn env(owner: &str, root: impl Into<PathBuf>) -> Env {
    let (root, owner, instance) = (root.into(), owner.into(), "test".into());
    Env { clock: Clock::real(), root, owner, instance, bus: Bus::default(), private_net: true }
}

pub fn source(kind: &str, props: Json, env: &Env, wants_acks: bool) -> Box<dyn Source> {
    let (props, stream) = (props.as_object().unwrap().clone(), String::new());
    let spec = SourceSpec { props, wants_meta: true, wants_acks, stream, env: env.clone() };
    let plan = connector(kind).unwrap().source.unwrap()(spec).map_err(|error| error.to_string()).unwrap();
    (plan.open)().unwrap()
}

pub fn sink(kind: &str, props: Json, env: &Env) -> Box<dyn Sink> {
    let props = props.as_object().unwrap().clone();
    let spec = SinkSpec { props, format: FormatOptions::default(), durable: false, env: env.clone() };
    let plan = connector(kind).unwrap().sink.unwrap()(spec).map_err(|error| error.to_string()).unwrap();
    (plan.open)().unwrap()
}

pub fn parcel(text: impl Into<String>) -> Parcel {
    Parcel { content: Content::Bytes(Bytes::from(text.into())), props: Vec::new() }
}

pub fn numbers(range: std::ops::Range<usize>) -> Vec<Parcel> {
    range.map(|n| parcel(n.to_string())).collect()
}

/// A source that runs, with what it gives and what it reports.
pub struct Running {
    pub from: mpsc::Receiver<Chunk>,
    pub link: watch::Receiver<LinkStatus>,
    pub task: JoinHandle<(Box<dyn Source>, Result<End>)>,
    rest: std::collections::VecDeque<Message>,
}

impl Running {
    pub fn start(mut source: Box<dyn Source>) -> Running {
        let (inlet, from) = Inlet::bounded(1);
        let (report, link) = Report::new();
        let task = tokio::spawn(async move {
            let ended = source.run(inlet, report).await;
            (source, ended)
        });
        Running { from, link, task, rest: Default::default() }
    }

    /// Starts it and waits until it is connected.
    pub async fn connected(source: Box<dyn Source>) -> Running {
        let mut running = Running::start(source);
        running.link(|link| *link == Link::Connected).await;
        running
    }

    pub async fn link(&mut self, mut wanted: impl FnMut(&Link) -> bool) -> Link {
        let reached = self.link.wait_for(|status| wanted(&status.link));
        timeout(PATIENCE, reached).await.expect("the state does not come").unwrap().link.clone()
    }

    /// Waits until it says that it is disconnected, and why.
    pub async fn trouble(&mut self) -> String {
        match self.link(|link| matches!(link, Link::Disconnected(_))).await {
            Link::Disconnected(why) => why,
            other => panic!("{other:?}"),
        }
    }

    pub async fn next(&mut self) -> Message {
        while self.rest.is_empty() {
            let chunk = timeout(PATIENCE, self.from.recv()).await.expect("no message comes").expect("the source ended");
            self.rest.extend(chunk);
        }
        self.rest.pop_front().unwrap()
    }

    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let message = self.next().await;
            all.push(text(&message));
            if let Some(ack) = message.ack {
                ack.settle();
            }
        }
        all
    }

    /// Stops it in order and gives it back.
    pub async fn stop(self) -> Box<dyn Source> {
        drop(self.from);
        drop(self.rest);
        let (source, ended) = timeout(PATIENCE, self.task).await.expect("the source does not stop").unwrap();
        assert_eq!(ended, Ok(End::Closed));
        source
    }

    /// Ends it as a crash would.
    pub async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub fn text(message: &Message) -> String {
    match &message.payload {
        Payload::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Payload::Row(row) => format!("{:?}", row.values().collect::<Vec<_>>()),
        Payload::Error(fault) => format!("error: {fault}"),
    }
}

/// The contract of a source that always has more to give: it waits while no one takes it, and ends soon after the inlet
/// is closed, both when it waits for room and when it waits for input.
async fn source_complies(open: impl Fn() -> Box<dyn Source>) {
    let mut running = Running::connected(open()).await;
    let first = running.next().await;
    assert!(!matches!(first.payload, Payload::Error(_)), "{}", text(&first));
    if let Some(ack) = first.ack {
        ack.settle();
    }
    timeout(PATIENCE, running.stop()).await.expect("a source that has nowhere to put things must end");
    let running = Running::connected(open()).await;
    timeout(PATIENCE, running.stop()).await.expect("a source that is stopped at once must end");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_wait_and_end() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("lines"), "{\"a\":1}\n".repeat(10_000)).unwrap();
    let here = env("contract", temp.path());
    let rows = json!({"data": [{"a": 1}], "loop": true, "interval": 1});
    source_complies(|| source("simulator", rows.clone(), &here, false)).await;
    for kind in ["lines", "json", "csv"] {
        let props = json!({"datasource": "lines", "fileType": kind, "interval": 1});
        source_complies(|| source("file", props.clone(), &here, true)).await;
    }

    let feeder = tokio::spawn({
        let mut sink = sink("memory", json!({"topic": "t"}), &here);
        async move {
            let rows =
                RowSet { layout: Layout::from_iter(["a"]).into(), rows: vec![vec![Value::Int(1)]], single: true };
            loop {
                sink.deliver(&[Parcel { content: Content::Rows(rows.clone()), props: vec![] }]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    source_complies(|| source("memory", json!({"datasource": "t", "bufferLength": 2}), &here, false)).await;
    feeder.abort();

    let broker = Broker::start("");
    let mut feed = sink("mqtt", json!({"server": broker.url(), "topic": "t", "retained": true, "qos": 1}), &here);
    feed.connect(Report::new().0).await.unwrap();
    feed.deliver(&numbers(0..1)).await.unwrap();
    for qos in 0..=2 {
        let props = json!({"server": broker.url(), "datasource": "t", "qos": qos});
        source_complies(|| source("mqtt", props.clone(), &here, true)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_take_nothing_and_close_in_every_state() {
    let temp = tempfile::tempdir().unwrap();
    let here = env("contract", temp.path());
    let (broker, server) = (Broker::start(""), Server::start(|_| Reply::status(200)).await);
    for (kind, props) in [
        ("file", json!({"path": "out"})),
        ("log", json!({})),
        ("memory", json!({"topic": "t"})),
        ("mqtt", json!({"topic": "t", "server": broker.url(), "qos": 1})),
        ("nop", json!({"log": true})),
        ("rest", json!({"url": server.url("/"), "method": "POST"})),
    ] {
        sink(kind, props.clone(), &here).close().await.unwrap();
        let mut sink = sink(kind, props, &here);
        let (report, link) = Report::new();
        sink.connect(report).await.unwrap();
        assert_eq!(link.borrow().link, Link::Connected, "{kind}");
        sink.deliver(&[]).await.unwrap();
        assert!(timeout(Duration::from_millis(20), sink.idle()).await.is_err(), "{kind}: idling does not end");
        sink.deliver(&[]).await.unwrap();
        sink.close().await.unwrap();
    }
}

/// From a file to a file, with a crash after each chunk that takes what was delivered and not noted: each message is
/// there once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_seek_and_go_back_gives_each_message_once() {
    let temp = tempfile::tempdir().unwrap();
    let lines: String = (0..5_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(temp.path().join("in"), &lines).unwrap();
    let here = env("contract", temp.path());
    let props = json!({"datasource": "in", "fileType": "lines"});
    let mut noted: (Option<Value>, Option<Value>) = (None, None);
    let mut crashes = 0;
    loop {
        let mut source = source("file", props.clone(), &here, true);
        let spec = SinkSpec {
            props: json!({"path": "out"}).as_object().unwrap().clone(),
            format: FormatOptions::default(),
            durable: true,
            env: here.clone(),
        };
        let plan = connector("file").unwrap().sink.unwrap()(spec).map_err(|error| error.to_string()).unwrap();
        let mut sink = (plan.open)().unwrap();
        sink.connect(Report::new().0).await.unwrap();
        if let Some(from) = &noted.0 {
            source.seek(from).await.unwrap();
        }
        match &noted.1 {
            Some(to) => sink.resume(to).await.unwrap(),
            None => noted.1 = Some(sink.position().await.unwrap().expect("the file sink knows where it stands")),
        }
        let mut running = Running::start(source);
        let mut noting = crashes % 3;
        while let Some(chunk) = timeout(PATIENCE, running.from.recv()).await.expect("no chunk comes") {
            let from = chunk.position.clone().expect("the file source says where it stands");
            sink.deliver(&chunk.iter().map(|message| parcel(text(message))).collect::<Vec<_>>()).await.unwrap();
            if noting == 0 {
                break;
            }
            noting -= 1;
            noted = (Some(from), sink.position().await.unwrap());
        }
        let ended = running.from.is_closed() && running.from.is_empty();
        running.crash().await;
        crashes += 1;
        if ended && noting > 0 {
            break;
        }
        // What was written last, and half a line.
        let torn = std::fs::File::options().append(true).open(temp.path().join("out")).unwrap();
        std::io::Write::write_all(&mut { torn }, b"12 half a li").unwrap();
    }
    assert!(crashes > 5, "{crashes}");
    assert!(std::fs::read_to_string(temp.path().join("out")).unwrap() == lines);
}

#[test]
fn every_connector_is_under_contract() {
    let tested = ["file", "log", "memory", "mqtt", "nop", "rest", "simulator"];
    let names: Vec<_> = CONNECTORS.iter().map(|connector| connector.name).collect();
    assert_eq!(names, tested);
    for connector in CONNECTORS {
        assert_eq!(connector.source.is_some(), connector.source_schema.is_some(), "{}", connector.name);
        assert_eq!(connector.sink.is_some(), connector.sink_schema.is_some(), "{}", connector.name);
    }
}

#[test]
fn sinks_say_what_they_take() {
    for (kind, takes) in [("memory", Takes::Rows), ("nop", Takes::Bytes)] {
        let props = json!({"topic": "t"}).as_object().unwrap().clone();
        let props = if kind == "nop" { Default::default() } else { props };
        let spec = SinkSpec { props, format: FormatOptions::default(), durable: false, env: env("contract", ".") };
        let plan = connector(kind).unwrap().sink.unwrap()(spec).map_err(|error| error.to_string()).unwrap();
        assert_eq!(plan.takes, takes);
    }
}

pub fn is_later(fault: &Fault) -> bool {
    fault.retry() == kuiper::diag::Retry::Later
}
