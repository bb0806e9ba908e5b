//! A rule that runs, as the engine sees it: it is watched, held, drained and stopped.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Patience;
use crate::diag::Fault;
use crate::flow::{self, Feed, Flow, Hold};
use crate::meter::Accounts;
use crate::rule::engine::{Ended, NodeKind, NodeStatus, RunStatus, Running};

/// How long a rule that is stopped may take to deliver what is on its way.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a change waits for sinks that confirm row after row, and for one that confirms none.
const DRAINING: Duration = Duration::from_secs(30);
const STUCK: Duration = Duration::from_secs(5);

/// A feed that other rules may read too.
pub struct Read {
    pub stream: String,
    pub feed: Weak<Feed>,
    /// How many of the rule's sources read it.
    pub times: usize,
}

/// A rule that runs.
pub struct RunningFlow {
    common: Vec<Read>,
    /// What its sinks have not confirmed when it stops is lost: other rules read on, so that the source gives nothing again,
    /// and neither a journal nor a queue has it.
    drains: bool,
    /// Taken out when it is stopped.
    flow: Mutex<Option<Flow>>,
    last: Mutex<RunStatus>,
    ended: watch::Receiver<Option<flow::Ended>>,
}

impl RunningFlow {
    pub fn new(common: Vec<Read>, drains: bool, flow: Flow) -> Self {
        let ended = flow.ended();
        RunningFlow { common, drains, flow: Mutex::new(Some(flow)), last: Mutex::default(), ended }
    }
}

#[async_trait::async_trait]
impl Running for RunningFlow {
    async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let result = ended.wait_for(Option::is_some).await.map(|ended| ended.clone());
        match result {
            Ok(Some(flow::Ended::Finished)) => Ended::Finished,
            Ok(Some(flow::Ended::Failed(fault))) => Ended::Failed(fault),
            // Its task is gone without a word: it was stopped by hand, or it panicked.
            Ok(None) | Err(_) if self.flow.lock().unwrap_or_else(PoisonError::into_inner).is_none() => {
                std::future::pending().await
            }
            Ok(None) | Err(_) => Ended::Failed(Fault::bug("the task of the rule ended without a word")),
        }
    }

    async fn hold(&self) -> Vec<Hold> {
        let hold = |read: &Read| {
            let (feed, stream) = (read.feed.upgrade()?, read.stream.clone());
            // One that nobody else reads ends with the run: the next one opens the source as it is defined then.
            let keeps = Arc::strong_count(&feed) > read.times + 1;
            Some(async move { feed.hold(stream, keeps).await })
        };
        futures_util::future::join_all(self.common.iter().filter_map(hold)).await
    }

    async fn drain(&self) -> u64 {
        let (mut whole, mut pause, mut last) = (Patience::new(DRAINING), Patience::new(STUCK), 0);
        loop {
            let rows = match &*self.flow.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(flow) if self.drains => flow.ledger().under_way(),
                _ => 0,
            };
            if rows != last {
                (pause, last) = (Patience::new(STUCK), rows);
            }
            if rows == 0 || pause.left().is_zero() || whole.left().is_zero() {
                return rows;
            }
            whole.spend(pause.spend(tokio::time::sleep(Duration::from_millis(5)))).await;
        }
    }

    async fn held(&self) -> Option<Vec<u64>> {
        let held = self.flow.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Flow::held)?;
        held.await
    }

    async fn stop(&self) {
        let flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(flow) = flow {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = status(flow.nodes(), flow.ledger());
            let (nodes, ledger, _) = flow.stop(PATIENCE).await;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = status(nodes, ledger);
        }
    }

    fn accounts(&self) -> Accounts {
        match &*self.flow.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(flow) => flow.accounts(),
            None => self.last.lock().unwrap_or_else(PoisonError::into_inner).accounts(),
        }
    }

    fn status(&self) -> RunStatus {
        match &*self.flow.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(flow) => {
                let (tide, busy, journal) = (flow.tide(), flow.busy(), flow.journal());
                RunStatus { tide, busy, journal, ..status(flow.nodes(), flow.ledger()) }
            }
            None => self.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn status(nodes: Vec<flow::NodeStatus>, ledger: crate::meter::LedgerView) -> RunStatus {
    let mut run = RunStatus { ledger, ..RunStatus::default() };
    for node in nodes {
        let (kind, prefix) = match node.kind {
            flow::NodeKind::Source => (NodeKind::Source, "source_"),
            flow::NodeKind::Op => (NodeKind::Op, "op_"),
            flow::NodeKind::Sink => (NodeKind::Sink, "sink_"),
        };
        let name = node.name.strip_prefix(prefix).unwrap_or(&node.name).to_owned();
        run.sinks.extend(node.account.map(|account| (name.clone(), account)));
        run.nodes.push(NodeStatus { kind, name, view: node.view, link: node.link });
    }
    run
}
