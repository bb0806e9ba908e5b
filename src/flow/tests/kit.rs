//! Sources, sinks and rules in the hands of a test.

mod acks;
mod fake;
mod numbers;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};
use tokio::sync::mpsc;

use crate::clock::{Clock, Patience};
use crate::codec::FormatOptions;
use crate::data::{Object, Value};
use crate::diag::{Fault, Result};
use crate::flow::shape::{Common, Facts, Shape};
use crate::flow::{
    Desk, Ended, Feed, FeedSpec, Flow, FlowSpec, JournalSpec, Keep, NodeStatus, Opened, Overflow, Place, Queues,
    SinkSpec, Surroundings, dead_columns,
};
use crate::func::{Catalogue, RuleInfo};
use crate::io::{End, Inlet, Link, Message, Report, Sink, SinkPlan, Source, SourcePlan, Takes};
use crate::meter::{Accounts, LedgerView, SinkView};
use crate::plan::{self, SourceKind, Stream};
use crate::sql;
use crate::store::Store;

pub use acks::{Acks, texts};
pub use fake::*;
pub use numbers::numbers;
pub use waiting::{settle, soon, switch, until, until_by};

/// How long a rule may take to deliver what is on its way when it is stopped; none that can takes so long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The same where a sink may take nothing any more, so that it is waited for in vain.
const BREATH: Duration = Duration::from_secs(2);

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// What a source does from one opening to its end.
pub type Life = Box<dyn FnOnce(Inlet, Report) -> Doing<Result<End>> + Send>;

pub fn life<F>(does: impl FnOnce(Inlet, Report) -> F + Send + 'static) -> Life
where
    F: Future<Output = Result<End>> + Send + 'static,
{
    Box::new(|inlet, report| Box::pin(does(inlet, report)))
}

/// Gives these chunks and ends in this way.
pub fn gives(chunks: Vec<Vec<Message>>, end: Result<End>) -> Life {
    life(|inlet, report| async move {
        report.set(Link::Connected);
        for chunk in chunks {
            if inlet.send(chunk).await.is_err() {
                return Ok(End::Closed);
            }
        }
        end
    })
}

/// A source in the hands of a test.
pub struct Tap {
    from: mpsc::Receiver<Inlet>,
    inlet: Option<Inlet>,
    pub opened: Arc<AtomicUsize>,
}

impl Tap {
    /// Gives a chunk once the source runs; waits while the pipeline is full.
    pub async fn give(&mut self, chunk: Vec<Message>) {
        if self.inlet.is_none() {
            self.inlet = self.from.recv().await;
        }
        let inlet = self.inlet.clone().unwrap();
        assert!(inlet.send(chunk).await.is_ok(), "the inlet is closed");
    }

    /// The inlet of the next opening.
    pub async fn next(&mut self) -> Inlet {
        self.from.recv().await.unwrap()
    }

    /// The inlet that is in use.
    pub async fn next_or_last(&mut self) -> Inlet {
        match self.inlet.take() {
            Some(inlet) => inlet,
            None => self.next().await,
        }
    }

    /// Lets go of the inlet.
    pub fn release(&mut self) {
        self.inlet = None;
    }
}

/// A source that is opened again and again, runs until its inlet is closed, and gives what the test gives.
pub fn tap() -> (Tap, SourcePlan) {
    let (to, from) = mpsc::channel(8);
    let opened = Arc::<AtomicUsize>::default();
    let count = opened.clone();
    let plan = source_of(move || {
        let to = to.clone();
        count.fetch_add(1, Ordering::SeqCst);
        Ok(life(|inlet, report| async move {
            report.set(Link::Connected);
            to.send(inlet.clone()).await.unwrap();
            inlet.closed().await;
            Ok(End::Closed)
        }))
    });
    (Tap { from, inlet: None, opened }, plan)
}

/// A source that lives these lives, one an opening; then it waits to be closed.
pub fn lives(all: Vec<Result<Life>>) -> SourcePlan {
    let all = Mutex::new(VecDeque::from(all));
    source_of(move || match all.lock().unwrap().pop_front() {
        Some(next) => next,
        None => Ok(life(|inlet, _| async move {
            inlet.closed().await;
            Ok(End::Closed)
        })),
    })
}

fn source_of(open: impl Fn() -> Result<Life> + Send + Sync + 'static) -> SourcePlan {
    let open = move || open().map(|life| Box::new(FakeSource(Some(life))) as Box<dyn Source>);
    SourcePlan { open: Box::new(open), gives_rows: false, seeks: false, warnings: Vec::new(), identity: None }
}

struct FakeSource(Option<Life>);

#[async_trait::async_trait]
impl Source for FakeSource {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        self.0.take().unwrap()(inlet, report).await
    }
}

/// How a test wants a rule.
pub struct Rule {
    pub sql: &'static str,
    pub clock: Clock,
    pub send_error: bool,
    pub drop_on_overflow: bool,
    pub funcs: Catalogue,
    /// The stream, where it declares columns.
    pub stream: Option<&'static str>,
    pub options: plan::Options,
    pub carried: Accounts,
    pub stall: Option<Duration>,
    /// The folder of the journal, and how often a snapshot is taken.
    pub journal: Option<(PathBuf, Duration)>,
    sinks: Vec<(Fake, Json, bool)>,
    /// What its sinks take.
    pub takes: Takes,
    /// Where its queues lie.
    queues: Option<Arc<Queues>>,
    /// Takes what lies in the queues, with `resendAlterQueue`.
    second: Option<Fake>,
    /// Where dead letters go.
    pub dead: Option<(Fake, Json)>,
}

/// A sink for dead letters.
fn letters(fake: &Fake, props: &Json, facts: &Facts) -> SinkSpec {
    let mut props: Map<String, Json> = props.as_object().unwrap().clone();
    let common = Common::take(&mut props).unwrap();
    let shape = Shape::new(&common, Arc::new(dead_columns()), Takes::Bytes, facts.clone()).unwrap();
    let (name, plan, overflow) = ("dead".into(), plan_of(fake), Overflow::Wait);
    SinkSpec { name, plan, retrying: common.retrying, keep: None, shape, overflow, ports: None, dead: None }
}

/// A rule on a real clock, whose results are single objects.
pub fn rule(sql: &'static str) -> Rule {
    Rule {
        sql,
        clock: Clock::real(),
        send_error: false,
        drop_on_overflow: false,
        funcs: Catalogue::default(),
        stream: None,
        options: plan::Options::default(),
        carried: Accounts::default(),
        stall: None,
        journal: None,
        sinks: Vec::new(),
        dead: None,
        takes: Takes::Bytes,
        queues: None,
        second: None,
    }
}

/// The queues of a data folder.
pub fn queues(home: &tempfile::TempDir) -> Arc<Queues> {
    Arc::new(Queues::new(Arc::new(Store::open(home.path()).unwrap())))
}

fn plan_of(fake: &Fake) -> SinkPlan {
    let fake = fake.clone();
    let open = move || Ok(Box::new(FakeSink(fake.clone())) as Box<dyn Sink>);
    SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings: Vec::new(), identity: None }
}

impl Rule {
    pub fn to(self, sink: &Fake) -> Rule {
        self.with(sink, serde_json::json!({"sendSingle": true}), false)
    }

    pub fn with(mut self, sink: &Fake, props: Json, drop_on_overflow: bool) -> Rule {
        self.sinks.push((sink.clone(), props, drop_on_overflow));
        self
    }

    /// Its sinks have these queues, and the second sink what lies there.
    pub fn keeping(mut self, queues: &Arc<Queues>, second: Option<&Fake>) -> Rule {
        self.queues = Some(queues.clone());
        self.second = second.cloned();
        self
    }

    pub fn at(mut self, clock: &Clock) -> Rule {
        self.clock = clock.clone();
        self
    }

    pub async fn start(self, feed: &Arc<Feed>) -> Result<Running> {
        self.start_over(std::slice::from_ref(feed), Vec::new()).await
    }

    /// A rule of several sources: `kept` is a scan table, `asked` a lookup table, and all else are streams.
    pub async fn start_over(self, feeds: &[Arc<Feed>], desks: Vec<Desk>) -> Result<Running> {
        let stream = |name: &str| {
            let kind = match name {
                "kept" => SourceKind::Scan { retain: 100 },
                "asked" => SourceKind::Lookup,
                _ => {
                    let stream = self.stream.map_or_else(|| Stream::schemaless(name), declared);
                    return Some(Stream { name: name.into(), ..stream });
                }
            };
            Some(Stream { what: sql::What::Table, kind, ..Stream::schemaless(name) })
        };
        let select = sql::parse_select(self.sql).unwrap();
        let plan = plan::plan(&select, &stream, &self.funcs, &self.options).unwrap();
        let facts = Facts::new(self.clock.clone(), TimeZone::UTC, Arc::new(Object::new()));
        let layout = Arc::new(plan.layout.clone());
        let sinks = self.sinks.into_iter().enumerate().map(|(n, (fake, props, drop_on_overflow))| {
            let mut props: Map<String, Json> = props.as_object().unwrap().clone();
            let mut common = Common::take(&mut props).unwrap();
            let shape = Shape::new(&common, layout.clone(), self.takes, facts.clone()).unwrap();
            let (name, retrying) = (format!("fake_{n}"), common.retrying);
            let place = Place { rule: "r".into(), sink: name.clone() };
            let keep = common.keeping.take().map(|keeping| Keep {
                queues: self.queues.clone().unwrap(),
                place,
                second: self.second.as_ref().filter(|_| keeping.aside).map(plan_of),
                keeping,
            });
            SinkSpec {
                name,
                plan: plan_of(&fake),
                retrying,
                keep,
                shape,
                overflow: overflow(drop_on_overflow),
                ports: None,
                dead: None,
            }
        });
        let lease = Arc::new(());
        let leased = Arc::downgrade(&lease);
        let open = |(folder, interval)| Opened::open(JournalSpec { folder, interval, lease }).unwrap();
        let journal = self.journal.map(open);
        let spec = FlowSpec {
            rule: Arc::new(RuleInfo {
                around: Arc::new(Surroundings::new(self.clock.clone(), None)),
                ..RuleInfo::nowhere()
            }),
            local: TimeZone::UTC,
            clock: self.clock.clone(),
            feeds: feeds.to_vec(),
            desks,
            journal,
            sinks: sinks.collect(),
            dead: self.dead.map(|(fake, props)| letters(&fake, &props, &facts)),
            send_error: self.send_error,
            overflow: overflow(self.drop_on_overflow),
            carried: self.carried,
            stall: self.stall,
            plan,
        };
        Ok(Running { flow: Flow::start(spec).await?, leased })
    }
}

/// The buffers of these tests hold 1024 rows, as they do when nobody says otherwise.
fn overflow(drops: bool) -> Overflow {
    if drops { Overflow::Drop(1024) } else { Overflow::Wait }
}

/// The stream that a CREATE statement makes.
fn declared(statement: &str) -> Stream {
    match sql::parse(statement).unwrap() {
        sql::Statement::Create(create) => Stream::of(&create),
        _ => panic!("{statement}"),
    }
}

pub fn feed(source: SourcePlan, clock: &Clock) -> Arc<Feed> {
    feed_of(Stream::schemaless("demo"), source, None, clock)
}

/// A feed whose source goes on where it stood.
pub fn feed_from(source: SourcePlan, seek: Option<Value>, clock: &Clock) -> Arc<Feed> {
    feed_of(Stream::schemaless("demo"), source, seek, clock)
}

/// A feed that enforces the types that the statement declares.
pub fn typed_feed(statement: &str, source: SourcePlan, clock: &Clock) -> Arc<Feed> {
    feed_of(declared(statement), source, None, clock)
}

fn feed_of(stream: Stream, source: SourcePlan, seek: Option<Value>, clock: &Clock) -> Arc<Feed> {
    let format = FormatOptions { format: "json".into(), ..FormatOptions::default() };
    let kinds = stream.columns.iter().map(|column| (column.name.clone(), column.kind.clone())).collect();
    Arc::new(Feed::start(FeedSpec { stream: "demo".into(), source, seek, format, kinds, clock: clock.clone() }))
}

pub struct Running {
    pub flow: Flow,
    /// Dead when nothing of it writes to the journal any more.
    leased: Weak<()>,
}

/// What is left of a rule.
pub struct Left {
    pub nodes: Vec<NodeStatus>,
    pub ledger: LedgerView,
}

impl Running {
    /// Waits for the end that a rule comes to by itself.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.flow.ended();
        let ended = soon("the end of the rule", ended.wait_for(Option::is_some)).await.unwrap().clone();
        ended.unwrap()
    }

    pub async fn failed(&self) -> Fault {
        match self.ended().await {
            Ended::Failed(fault) => fault,
            Ended::Finished => panic!("the rule has finished"),
        }
    }

    pub fn ledger(&self) -> LedgerView {
        self.flow.ledger()
    }

    /// Stops it, and sees to it that every row is accounted for.
    pub async fn stop(self) -> Left {
        self.stop_within(PATIENCE, PATIENCE).await
    }

    /// Results that the first sink was given, in rows.
    pub fn sink_results(&self) -> u64 {
        let account = self.flow.nodes().into_iter().find_map(|node| node.account);
        account.unwrap().results
    }

    /// Ends it as a crash does.
    pub async fn kill(self) {
        soon("the end of the tasks", self.flow.kill()).await;
        // What it had begun to write goes on, unlike in a crash.
        until("the end of its writing", || self.leased.strong_count() == 0).await;
    }

    /// Stops it; what its operators hold stays in the journal. Gives how many rows that are.
    pub async fn lay_down(self) -> i64 {
        let (nodes, ledger, _) = soon("the stop of the rule", self.flow.stop(BREATH)).await;
        assert!(ledger.balances(), "{ledger:?}");
        assert!(ledger.dropped.is_empty() && !ledger.dead.contains_key("lost"), "{ledger:?}");
        for node in nodes.iter().filter_map(|node| node.account.as_ref()) {
            assert!(node.balances(), "{node:?}");
        }
        ledger.held
    }

    /// Stops what is left of it after it broke.
    pub async fn lay_down_broken(self) {
        let (_, ledger, _) = soon("the stop of the rule", self.flow.stop(BREATH)).await;
        assert!(ledger.balances(), "{ledger:?}");
    }

    /// Stops it though it cannot deliver what is on its way.
    pub async fn give_up(self) -> Left {
        self.stop_within(Duration::from_millis(20), Duration::from_secs(5)).await
    }

    /// `limit` is how long it may take, of the time in which the test runs.
    async fn stop_within(self, patience: Duration, limit: Duration) -> Left {
        let mut passes = Patience::new(limit);
        let (nodes, ledger, _) = soon("the stop of the rule", passes.spend(self.flow.stop(patience))).await;
        assert!(!passes.left().is_zero(), "it was not done within {limit:?}");
        assert!(ledger.balances() && ledger.held == 0, "{ledger:?}");
        for node in &nodes {
            if let Some(account) = &node.account {
                assert!(account.balances(), "{}: {account:?}", node.name);
            }
        }
        Left { nodes, ledger }
    }
}

impl Left {
    /// The account of a sink, by its place among the actions.
    pub fn sink(&self, n: usize) -> &SinkView {
        let name = format!("sink_fake_{n}");
        self.nodes.iter().find(|node| node.name == name).and_then(|node| node.account.as_ref()).unwrap()
    }

    /// Where each row went: out, filtered, dropped, dead.
    pub fn terms(&self) -> [u64; 4] {
        let all = |reasons: &BTreeMap<&'static str, u64>| reasons.values().sum::<u64>();
        [self.ledger.out, self.ledger.filtered, all(&self.ledger.dropped), all(&self.ledger.dead)]
    }
}
