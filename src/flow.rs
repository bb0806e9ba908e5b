//! What runs: the chain of operators, and the three kinds of task around it.
//!
//! A *feed* drives one source and decodes for the rules that subscribe to it; a *rule task* drives one [`Chain`]; an
//! *outlet* drives one sink. All channels between them are bounded, so a slow sink makes its rule wait, the rule makes
//! the feed wait, and the source stops reading. A receipt travels with each row from the source's message to the
//! confirmation by the last sink. Whoever spawns a task joins it; stopping goes down by closing channels and comes up
//! by their end, and a task whose owner is gone ends by itself. A panic ends one rule, with its text, and no other.

mod book;
mod carry;
mod caught;
mod chain;
mod dead;
mod decoding;
mod desk;
mod feed;
mod joins;
mod journal;
mod lane;
mod load;
mod outlet;
mod paths;
mod queue;
mod retained;
mod seat;
pub mod shape;
mod special;
mod surroundings;
mod task;
mod template;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod windows;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::{Clock, Patience, Time, within};
use crate::data::Layout;
use crate::diag::{Fault, Result};
use crate::func::RuleInfo;
use crate::io::{LinkStatus, Report, SinkPlan};
use crate::meter::{Accounts, LedgerView, NodeMeter, NodeView, SinkAccount, SinkView};
use crate::op::Gauge;
use crate::plan::{Plan, SourceKind};

pub use book::Book;
pub use carry::{Carry, carried, missing};
pub use chain::{Ask, Chain, Steps};
pub use dead::columns as dead_columns;
pub use desk::{CacheOptions, Desk};
pub use feed::{Feed, FeedSpec, Hold};
pub use journal::record::{self, Record};
pub use journal::{JournalSpec, JournalView, Opened};
pub use lane::Overflow;
pub use outlet::{Keep, Retrying, emissions};
pub use queue::{Limits, Place, Queues, Removed, Seen, Standing, Sum};
pub use retained::RetainedLog;
pub use surroundings::Surroundings;
pub use task::Ended;
pub use template::render;

pub use crate::op::Tide;

use caught::{FORCED, ended};
use dead::{Cemetery, Route};
use feed::Subscriber;
use journal::{Anchor, Glass};
use lane::{Givers, lane};
use outlet::{Outlet, OutletSpec};
use shape::Shape;
use task::{Closings, ErrorLog, RuleTask, SinkInlet};

/// How long a task may take to end once nothing holds it up.
const FAREWELL: Duration = Duration::from_millis(1500);
/// The same for one that has a snapshot to write.
const SAVING: Duration = Duration::from_secs(60);
/// How long a rule's task may take to answer.
const ASKING: Duration = Duration::from_secs(2);

/// Everything that a rule needs to run.
pub struct FlowSpec {
    pub plan: Plan,
    pub rule: Arc<RuleInfo>,
    /// The zone that windows of processing time are aligned in.
    pub local: TimeZone,
    pub clock: Clock,
    /// For each source of the plan but the lookup tables the feed of its stream: the rule's own, or one that it shares
    /// with others. A stream that is there twice has one feed.
    pub feeds: Vec<Arc<Feed>>,
    /// For each lookup table of the plan where it is asked.
    pub desks: Vec<Desk>,
    pub sinks: Vec<SinkSpec>,
    /// The sink of its dead letters.
    pub dead: Option<SinkSpec>,
    /// `sendError`
    pub send_error: bool,
    /// What happens to rows that find the rule full.
    pub overflow: Overflow,
    /// What its accounts go on from; `held` is what a journal has.
    pub carried: Accounts,
    /// How long a sink may be without progress before it is opened again; `None`: for ever.
    pub stall: Option<Duration>,
    /// For a rule that keeps what it has across a crash.
    pub journal: Option<Opened>,
}

/// One sink of a rule.
pub struct SinkSpec {
    /// For example `mqtt_0`: the type and the place among the actions.
    pub name: String,
    pub plan: SinkPlan,
    pub retrying: Retrying,
    /// Its disk queue, if it has one.
    pub keep: Option<Keep>,
    pub shape: Shape,
    /// What happens to results that find it full.
    pub overflow: Overflow,
    /// By which ways of the rule results leave that it takes; `None`: all.
    pub ports: Option<Vec<usize>>,
    /// The sink of its dead letters, where it is not that of the rule.
    pub dead: Option<Box<SinkSpec>>,
}

/// A running rule.
pub struct Flow {
    sources: Vec<Inflow>,
    book: Arc<Book>,
    ops: Vec<(String, Arc<NodeMeter>)>,
    /// In event time: how far it has come.
    gauge: Option<Arc<Gauge>>,
    /// Since when the task is at one batch; 0 when it waits for the next.
    busy: Arc<AtomicI64>,
    journal: Option<Glass>,
    outlets: Vec<Outlet>,
    /// The sinks of dead letters.
    dead: Vec<Cemetery>,
    ended: watch::Receiver<Option<Ended>>,
    asks: mpsc::Sender<oneshot::Sender<Vec<u64>>>,
    rule: Arc<RuleInfo>,
    task: JoinHandle<()>,
    /// The feeds, as long as they may give it rows.
    givers: Givers,
    #[cfg(test)]
    rests: Arc<std::sync::atomic::AtomicI64>,
}

/// A source of a running rule.
struct Inflow {
    name: String,
    feed: Arc<Feed>,
    /// The rule's subscription to the feed.
    id: u64,
    meter: Arc<NodeMeter>,
}

/// What kind of node a status is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    Source,
    Op,
    Sink,
}

/// The status of one node of a running rule.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub kind: NodeKind,
    /// As in the keys of the status: `source_demo`, `op_3_filter`, `sink_mqtt_0`.
    pub name: String,
    pub view: NodeView,
    /// Of sources and sinks.
    pub link: Option<LinkStatus>,
    /// Of sinks.
    pub account: Option<SinkView>,
}

/// Whether the operators of a plan remember anything from one row to the next.
pub fn keeps_state(plan: &Plan, rule: &Arc<RuleInfo>, local: &TimeZone) -> Result<bool> {
    Ok(memories(plan, rule, local)?.contains(&true))
}

/// For each operator of a plan whether it remembers anything from one row to the next.
pub fn memories(plan: &Plan, rule: &Arc<RuleInfo>, local: &TimeZone) -> Result<Vec<bool>> {
    let chain = Chain::build(plan, rule.clone(), local, rule.started, Arc::<Book>::default().account())?;
    Ok(chain.memories())
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Flow {
    /// Starts the tasks of a rule and subscribes to its feed.
    pub async fn start(spec: FlowSpec) -> Result<Flow> {
        let (ended_to, ended) = watch::channel(None);
        let mut carried = Accounts::default();
        // A journal says itself what its accounts go on from.
        if spec.journal.is_none() {
            carried = spec.carried.clone();
            // A rule of before held it, in a journal that there is no more.
            carried.close("changed", false);
        }
        let letters = Arc::new(dead::columns());
        let rule = spec.rule.id.clone();
        let outlet = |sink: SinkSpec,
                      layout: &Arc<Layout>,
                      dead: Option<Route>,
                      anchor: Option<Arc<Anchor>>,
                      carried: &Accounts| {
            let is_letters = Arc::ptr_eq(layout, &letters);
            Outlet::start(OutletSpec {
                log: ErrorLog::new(format!("rule `{rule}`, sink `{}`", sink.name)),
                rule: rule.to_string(),
                name: sink.name.clone(),
                sink: sink.plan,
                retrying: sink.retrying,
                keep: sink.keep,
                shape: sink.shape,
                layout: layout.clone(),
                // No letter tells of a letter.
                send_error: spec.send_error && !is_letters,
                clock: spec.clock.clone(),
                overflow: sink.overflow,
                dead,
                anchor,
                ended: ended_to.clone(),
                stall: spec.stall,
                carried: carried.sinks.get(&sink.name).cloned().unwrap_or_default(),
            })
        };
        let cemetery = |sink: SinkSpec| {
            Cemetery::open(rule.clone(), &spec.plan, &spec.clock, || outlet(sink, &letters, None, None, &spec.carried))
        };
        let mut cemeteries: Vec<Cemetery> = spec.dead.map(cemetery).into_iter().collect();
        let common = cemeteries.first().map(|cemetery| cemetery.route.clone());
        let book = Arc::new(Book::new(common.clone(), &carried.ledger));
        let logs = spec.journal.is_some();
        let build = |now| Chain::build(&spec.plan, spec.rule.clone(), &spec.local, now, book.account());
        let (chain, mut journal) = match spec.journal {
            None => (build(spec.clock.now())?, None),
            Some(opened) => {
                let sinks: Vec<String> = spec.sinks.iter().map(|sink| sink.name.clone()).collect();
                let (chain, journal) =
                    opened.begin(&spec.plan, &sinks, &book, &spec.clock, build, &spec.carried).await?;
                (chain, Some(journal))
            }
        };
        if let Some(journal) = &journal {
            carried.sinks = journal.carried();
        }
        let (ops, gauge) = (chain.meters(), chain.gauge());
        let layout = Arc::new(spec.plan.layout.clone());
        let (to, from) = lane(spec.overflow);
        let givers = from.givers();
        let (mut sources, mut closings, mut joining) = (Vec::new(), Vec::new(), Vec::new());
        let asked = |source: &crate::plan::Source| source.kind == SourceKind::Lookup;
        let fed = spec.plan.sources.iter().enumerate().filter(|(_, source)| !asked(source));
        for ((place, source), feed) in fed.zip(spec.feeds) {
            let (close_to, close) = oneshot::channel();
            let (name, id) = (format!("source_{}", source.name), NEXT.fetch_add(1, Ordering::Relaxed));
            let inflow = Inflow { name, feed, id, meter: Arc::default() };
            joining.push(Subscriber {
                source: place,
                wanted: source.wanted.clone(),
                logs,
                book: book.clone(),
                meter: inflow.meter.clone(),
                to: to.clone(),
                close: close_to,
            });
            closings.push((place, close));
            sources.push(inflow);
        }
        // Tables first, so that what they have has the better chance to be there when the first row asks for it.
        let drives: Vec<bool> = spec.plan.sources.iter().map(|source| source.kind == SourceKind::Stream).collect();
        let mut joining: Vec<(usize, Subscriber)> = joining.into_iter().enumerate().collect();
        joining.sort_by_key(|(_, subscriber)| drives[subscriber.source]);
        for (n, subscriber) in joining {
            let inflow: &Inflow = &sources[n];
            // The one step that can fail, before anything runs.
            if let Err(fault) = inflow.feed.subscribe(inflow.id, subscriber, ended.clone()).await {
                unsubscribe(&sources).await;
                for cemetery in cemeteries {
                    cemetery.close(Duration::ZERO).await;
                }
                return Err(fault);
            }
        }
        drop(to);
        let ports: Vec<Option<Vec<usize>>> = spec.sinks.iter().map(|sink| sink.ports.clone()).collect();
        let (outlets, inlets): (Vec<Outlet>, Vec<_>) = spec
            .sinks
            .into_iter()
            .enumerate()
            .map(|(n, mut sink)| {
                let own = sink.dead.take().map(|dead| cemetery(*dead));
                let route = own.as_ref().map(|own| own.route.clone()).or_else(|| common.clone());
                cemeteries.extend(own);
                outlet(sink, &layout, route, journal.as_ref().and_then(|journal| journal.anchor(n)), &carried)
            })
            .unzip();
        let sink = |((to, outlet), ports): ((_, &Outlet), _)| SinkInlet { to, account: outlet.account.clone(), ports };
        let tables = spec.plan.sources.iter().enumerate().filter(|(_, source)| asked(source)).map(|(place, _)| place);
        let busy = Arc::<AtomicI64>::default();
        let glass = journal.as_mut().map(|journal| {
            journal.set_sinks(outlets.iter().map(|outlet| outlet.account.clone()));
            journal.glass.clone()
        });
        #[cfg(test)]
        let rests = Arc::new(std::sync::atomic::AtomicI64::new(i64::MIN));
        let (asks, asked) = mpsc::channel(1);
        let task = RuleTask {
            asked,
            busy: busy.clone(),
            desks: tables.zip(spec.desks).collect(),
            chain,
            told: spec.clock.now(),
            from,
            closings: Closings::new(closings, drives),
            sinks: inlets.into_iter().zip(&outlets).zip(ports).map(sink).collect(),
            done: outlets.iter().map(Outlet::done).collect(),
            clock: spec.clock.clone(),
            ended: ended_to,
            out: Vec::new(),
            log: ErrorLog::new(format!("rule `{}`", spec.rule.id)),
            dead: cemeteries.iter().map(|cemetery| cemetery.route.clone()).collect(),
            journal,
            waiting: VecDeque::new(),
            #[cfg(test)]
            rests: rests.clone(),
        };
        let task = tokio::spawn(Box::new(task).run());
        Ok(Flow {
            asks,
            sources,
            book,
            ops,
            gauge,
            busy,
            journal: glass,
            outlets,
            dead: cemeteries,
            ended,
            rule: spec.rule,
            task,
            givers,
            #[cfg(test)]
            rests,
        })
    }

    /// Returns when the rule has ended by itself. Can be awaited again and again.
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }

    /// Stops the rule: its source stops reading, what is on its way is delivered within `patience` and else given back
    /// to the source, unless other rules read on; what an operator holds is thrown away, or stays in the journal if
    /// there is one. All are counted. Takes some seconds more than `patience` where a connector does not end. Returns the
    /// fault of a sink that had ended before.
    pub async fn stop(self, patience: Duration) -> (Vec<NodeStatus>, LedgerView, Option<Fault>) {
        let mut patience = Patience::new(patience);
        let Flow { sources, book, ops, journal, outlets, dead, rule, task, givers, .. } = self;
        patience.spend(unsubscribe(&sources)).await;
        let mut task = task;
        let drained = patience.wait(&mut task).await.is_some();
        if !drained {
            rule.around.hurry();
        }
        let left = patience.left();
        let sinks: Vec<_> = all(&outlets, &dead).map(Sink::of).collect();
        let mut fault = None;
        let ends = futures_util::future::join_all(outlets.into_iter().map(|outlet| outlet.stop(left)));
        for end in patience.spend(ends).await {
            fault = fault.or(end);
        }
        // What they could not deliver for good is told of.
        let left = patience.left();
        for end in futures_util::future::join_all(dead.into_iter().map(|cemetery| cemetery.close(left))).await {
            fault = fault.or(end);
        }
        // The outlets have given up, so they hold the task up no longer.
        let farewell = if journal.is_some() { SAVING } else { FAREWELL };
        if !drained {
            let _ = ended(task, farewell).await;
        }
        let nodes = statuses(&sources, &ops, sinks.into_iter());
        for source in sources {
            // The last rule of a feed ends it. Its source was closed when the rule left.
            if let Some(feed) = Arc::into_inner(source.feed) {
                feed.close(FAREWELL).await;
            }
        }
        // A feed that others read may be about to give it rows, and finds that it takes none.
        let _ = within(FORCED, givers.gone()).await;
        (nodes, book.view(), fault)
    }

    /// The status of all nodes: sources, operators, sinks.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        statuses(&self.sources, &self.ops, all(&self.outlets, &self.dead).map(Sink::of))
    }

    pub fn ledger(&self) -> LedgerView {
        self.book.view()
    }

    /// Since when its task is at one batch of rows, which may be held up by an operator or by a sink that is full.
    pub fn busy(&self) -> Option<Time> {
        Some(Time(self.busy.load(Ordering::Relaxed))).filter(|since| since.0 != 0)
    }

    /// How many rows each operator holds, in order; nothing where the rule's task has no time to say it.
    pub fn held(&self) -> impl Future<Output = Option<Vec<u64>>> + Send + use<> {
        let asks = self.asks.clone();
        let asking = async move {
            let (to, told) = oneshot::channel();
            asks.send(to).await.ok()?;
            told.await.ok()
        };
        async { within(ASKING, asking).await.flatten() }
    }

    /// How the journal is doing; nothing without one.
    pub fn journal(&self) -> Option<JournalView> {
        let view = |glass: &Glass| glass.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.journal.as_ref().map(view)
    }

    /// When the next timer goes off, while the task waits; nothing while it does something.
    #[cfg(test)]
    pub fn rests(&self) -> Option<i64> {
        Some(self.rests.load(Ordering::SeqCst)).filter(|due| *due > i64::MIN)
    }

    /// Ends all tasks where they are, as a crash does.
    #[cfg(test)]
    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
        for outlet in self.outlets {
            outlet.kill().await;
        }
        for cemetery in self.dead {
            cemetery.kill().await;
        }
    }

    /// The account of the rule and those of its sinks.
    pub fn accounts(&self) -> Accounts {
        let sinks = all(&self.outlets, &self.dead).map(|outlet| (outlet.name.clone(), outlet.account.view())).collect();
        Accounts { ledger: self.ledger(), sinks }
    }

    /// How far the event time has come; nothing in processing time.
    pub fn tide(&self) -> Option<Tide> {
        self.gauge.as_ref().map(|gauge| gauge.read())
    }
}

/// What the status of a sink is made of; it outlives the outlet.
struct Sink {
    name: String,
    meter: Arc<NodeMeter>,
    account: Arc<SinkAccount>,
    link: watch::Receiver<LinkStatus>,
    report: Report,
}

impl Sink {
    fn of(outlet: &Outlet) -> Sink {
        Sink {
            name: format!("sink_{}", outlet.name),
            meter: outlet.meter.clone(),
            account: outlet.account.clone(),
            link: outlet.link(),
            report: outlet.report(),
        }
    }
}

/// The sinks of a rule, and behind them those of its dead letters.
fn all<'a>(outlets: &'a [Outlet], dead: &'a [Cemetery]) -> impl Iterator<Item = &'a Outlet> {
    outlets.iter().chain(dead.iter().map(|cemetery| &cemetery.outlet))
}

async fn unsubscribe(sources: &[Inflow]) {
    for source in sources {
        source.feed.unsubscribe(source.id).await;
    }
}

fn statuses(
    sources: &[Inflow],
    ops: &[(String, Arc<NodeMeter>)],
    sinks: impl Iterator<Item = Sink>,
) -> Vec<NodeStatus> {
    let node = |kind, name, meter: &NodeMeter| NodeStatus { kind, name, view: meter.view(), link: None, account: None };
    let source = |source: &Inflow| NodeStatus {
        link: Some(source.feed.link()),
        ..node(NodeKind::Source, source.name.clone(), &source.meter)
    };
    let mut nodes: Vec<NodeStatus> = sources.iter().map(source).collect();
    nodes.extend(ops.iter().map(|(name, meter)| node(NodeKind::Op, name.clone(), meter)));
    nodes.extend(sinks.map(|sink| {
        let mut status = node(NodeKind::Sink, sink.name, &sink.meter);
        status.view.confirmed = status.view.confirmed.max(sink.report.progressed().0);
        NodeStatus { link: Some(sink.link.borrow().clone()), account: Some(sink.account.view()), ..status }
    }));
    nodes
}
