//! What runs: the chain of operators, and the three kinds of task around it.
//!
//! A *feed* drives one source and decodes for the rules that subscribe to it; a *rule task* drives one [`Chain`]; an
//! *outlet* drives one sink. All channels between them are bounded, so a slow sink makes its rule wait, the rule makes
//! the feed wait, and the source stops reading. A receipt travels with each row from the source's message to the
//! confirmation by the last sink. Whoever spawns a task joins it; stopping goes down by closing channels and comes up
//! by their end.

mod book;
mod chain;
mod feed;
mod outlet;
pub mod shape;
mod special;
mod task;
mod template;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::diag::{Fault, Result};
use crate::func::RuleInfo;
use crate::io::{Link, SinkPlan};
use crate::meter::{LedgerView, NodeMeter, NodeView, SinkView};
use crate::plan::Plan;

pub use book::Book;
pub use chain::Chain;
pub use feed::{Feed, FeedSpec};
pub use outlet::emissions;
pub use task::Ended;

use feed::Subscriber;
use outlet::{Outlet, OutletSpec};
use shape::Shape;
use task::{ErrorLog, RuleTask, SinkInlet};

/// Batches that wait between two tasks; a batch has up to some hundred rows.
const BATCHES: usize = 4;

/// Everything that a rule needs to run.
pub struct FlowSpec {
    pub plan: Plan,
    pub rule: Arc<RuleInfo>,
    /// The zone that windows of processing time are aligned in.
    pub local: TimeZone,
    pub clock: Clock,
    /// The rule's own, or one that it shares with others.
    pub feed: Arc<Feed>,
    pub sinks: Vec<SinkSpec>,
    /// `sendError`
    pub send_error: bool,
    /// `overflow: drop` of the rule: a full rule loses rows, counted, in place of making the source wait.
    pub drop_on_overflow: bool,
}

/// One sink of a rule.
pub struct SinkSpec {
    /// For example `mqtt_0`: the type and the place among the actions.
    pub name: String,
    pub plan: SinkPlan,
    pub shape: Shape,
    /// `overflow: drop`: when it is full, results are lost, counted, in place of making the rule wait.
    pub drop_on_overflow: bool,
}

/// A running rule.
pub struct Flow {
    stream: String,
    feed: Arc<Feed>,
    id: u64,
    book: Arc<Book>,
    source: Arc<NodeMeter>,
    ops: Vec<(String, Arc<NodeMeter>)>,
    outlets: Vec<Outlet>,
    ended: watch::Receiver<Option<Ended>>,
    task: JoinHandle<()>,
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
    pub link: Option<Link>,
    /// Of sinks.
    pub account: Option<SinkView>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Flow {
    /// Starts the tasks of a rule and subscribes to its feed.
    pub async fn start(spec: FlowSpec) -> Result<Flow> {
        let book = Arc::<Book>::default();
        let now = spec.clock.now();
        let chain = Chain::build(&spec.plan, spec.rule.clone(), &spec.local, now, book.account())?;
        let ops = chain.meters();
        let layout = Arc::new(spec.plan.layout.clone());
        let (ended_to, ended) = watch::channel(None);
        let drops: Vec<bool> = spec.sinks.iter().map(|sink| sink.drop_on_overflow).collect();
        let (outlets, inlets): (Vec<Outlet>, Vec<_>) = spec
            .sinks
            .into_iter()
            .map(|sink| {
                Outlet::start(OutletSpec {
                    name: sink.name,
                    sink: sink.plan,
                    shape: sink.shape,
                    layout: layout.clone(),
                    send_error: spec.send_error,
                    clock: spec.clock.clone(),
                    capacity: BATCHES,
                    ended: ended_to.clone(),
                })
            })
            .unzip();
        let (to, from) = mpsc::channel(BATCHES);
        let task = RuleTask {
            chain,
            from,
            sinks: inlets
                .into_iter()
                .zip(&outlets)
                .zip(drops)
                .map(|((to, outlet), drop_on_overflow)| SinkInlet {
                    to,
                    account: outlet.account.clone(),
                    drop_on_overflow,
                })
                .collect(),
            done: outlets.iter().map(Outlet::done).collect(),
            clock: spec.clock.clone(),
            ended: ended_to,
            log: ErrorLog::new(&spec.rule.id),
        };
        let task = tokio::spawn(task.run());
        let (id, source) = (NEXT.fetch_add(1, Ordering::Relaxed), Arc::<NodeMeter>::default());
        let subscriber = Subscriber {
            wanted: spec.plan.wanted.clone(),
            book: book.clone(),
            meter: source.clone(),
            to,
            drop_on_overflow: spec.drop_on_overflow,
        };
        spec.feed.subscribe(id, subscriber).await?;
        let stream = spec.plan.stream.to_string();
        Ok(Flow { stream, feed: spec.feed, id, book, source, ops, outlets, ended, task })
    }

    /// Returns when the rule has ended by itself. Can be awaited again and again.
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }

    /// Stops the rule: its source stops reading, what is on its way is delivered within `patience`, what an operator
    /// holds is thrown away and counted. Returns the fault of a sink that had ended before.
    pub async fn stop(self, patience: Duration) -> (Vec<NodeStatus>, LedgerView, Option<Fault>) {
        self.feed.unsubscribe(self.id).await;
        let mut task = self.task;
        let drained = tokio::time::timeout(patience, &mut task).await.is_ok();
        let left = if drained { patience } else { Duration::ZERO };
        let meters = (self.source, self.ops, self.stream, self.feed.link());
        let (mut sinks, mut fault) = (Vec::new(), None);
        let names: Vec<_> = self
            .outlets
            .iter()
            .map(|one| (one.name.clone(), one.meter.clone(), one.account.clone(), one.link()))
            .collect();
        let ends = futures_util::future::join_all(self.outlets.into_iter().map(|outlet| outlet.stop(left))).await;
        for end in ends {
            fault = fault.or(end);
        }
        if !drained {
            // The outlets have given up, so the task can no longer be held up by them.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
        for (name, meter, account, link) in names {
            sinks.push(NodeStatus {
                kind: NodeKind::Sink,
                name: format!("sink_{name}"),
                view: meter.view(),
                link: Some(link),
                account: Some(account.view()),
            });
        }
        let (source, ops, stream, link) = meters;
        let mut nodes = vec![source_status(&stream, &source, link)];
        nodes.extend(ops.iter().map(|(name, meter)| op_status(name, meter)));
        nodes.extend(sinks);
        (nodes, self.book.ledger.view(), fault)
    }

    /// The status of all nodes: source, operators, sinks.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let mut nodes = vec![source_status(&self.stream, &self.source, self.feed.link())];
        nodes.extend(self.ops.iter().map(|(name, meter)| op_status(name, meter)));
        nodes.extend(self.outlets.iter().map(|outlet| NodeStatus {
            kind: NodeKind::Sink,
            name: format!("sink_{}", outlet.name),
            view: outlet.meter.view(),
            link: Some(outlet.link()),
            account: Some(outlet.account.view()),
        }));
        nodes
    }

    pub fn ledger(&self) -> LedgerView {
        self.book.ledger.view()
    }
}

fn source_status(stream: &str, meter: &NodeMeter, link: Link) -> NodeStatus {
    NodeStatus {
        kind: NodeKind::Source,
        name: format!("source_{stream}"),
        view: meter.view(),
        link: Some(link),
        account: None,
    }
}

fn op_status(name: &str, meter: &NodeMeter) -> NodeStatus {
    NodeStatus { kind: NodeKind::Op, name: name.into(), view: meter.view(), link: None, account: None }
}
