use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::identities::Appearance;
use super::{Def, Host};
use crate::clock::Time;
use crate::diag::{Diagnostic, Fault};
use crate::flow::{Hold, JournalView, Tide};
use crate::func::Catalogue;
use crate::io::LinkStatus;
use crate::meter::{Accounts, LedgerView, NodeView, SinkView};

/// Turns definitions into what runs.
pub trait Engine: Send + Sync {
    /// Reads the SQL of a rule before anything else is known. The error is in eKuiper's words.
    fn read(&self, _sql: &str) -> Result<(), String> {
        Ok(())
    }

    /// Plans a rule; touches no network and no disk. The findings of an error stand in the rule's SQL.
    fn plan(&self, def: &Def, host: &Arc<Host>) -> Result<Box<dyn Planned>, Vec<Diagnostic>>;

    /// Whether the statement of a rule can be planned with other functions than there are now.
    fn fits(&self, _def: &Def, _host: &Arc<Host>, _functions: &Catalogue) -> Result<(), Vec<Diagnostic>> {
        Ok(())
    }
}

/// A rule that can be started.
#[async_trait::async_trait]
pub trait Planned: Send {
    /// The streams and tables that it reads, in the order of the statement.
    fn sources(&self) -> Vec<String>;

    /// The plan as text, one JSON object a line.
    fn explain(&self) -> String;

    fn topo(&self) -> Topo;

    /// The sinks that have a disk queue, as `mqtt_0`.
    fn queues(&self) -> Vec<String> {
        Vec::new()
    }

    /// What to tell the author though the rule is fine.
    fn warnings(&self) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// As whom its connectors appear at the other side, where that is for one at a time.
    fn identities(&self) -> Vec<Appearance> {
        Vec::new()
    }

    /// The operators, in order.
    fn steps(&self) -> Vec<Step> {
        Vec::new()
    }

    /// How many rows an earlier plan of the rule has left on the disk which only that one can go on with.
    async fn stranded(&mut self) -> Result<Option<u64>, Fault> {
        Ok(None)
    }

    /// Has the start drop those rows, which it would refuse otherwise.
    fn drop_stranded(&mut self) {}

    /// How many rows each operator holds by what an earlier run has left on the disk, in order.
    async fn held(&mut self) -> Result<Vec<u64>, Fault> {
        Ok(Vec::new())
    }

    /// What the accounts of the run go on from, with what the run before left held; called before it is started.
    fn carry(&mut self, _accounts: Accounts) {}

    /// Starts its tasks. Connections are made in the background, so this waits for no one outside.
    async fn start(self: Box<Self>) -> Result<Arc<dyn Running>, Fault>;

    /// Called instead of a start when the rule was deleted for good: takes back what it left outside, and says what
    /// could not be taken back.
    async fn forget(self: Box<Self>) -> Vec<Fault> {
        Vec::new()
    }
}

/// One operator of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// As in the status: `op_3_window`.
    pub name: String,
    /// Equal texts mean that one can go on with the state of the other.
    pub does: String,
    /// It remembers something from one row to the next.
    pub keeps: bool,
}

/// A rule that runs.
#[async_trait::async_trait]
pub trait Running: Send + Sync {
    /// Returns when the rule has ended by itself; at once when it has before. May be dropped and called again.
    async fn ended(&self) -> Ended;

    /// Has the sources that it shares with other rules wait until what is returned is released: the rule can stop and start
    /// again meanwhile, and misses nothing.
    async fn hold(&self) -> Vec<Hold> {
        Vec::new()
    }

    /// While the sources wait: waits for the sinks to confirm what would be lost with the run, as long as they go on doing
    /// so, and says how many rows they have not confirmed.
    async fn drain(&self) -> u64 {
        0
    }

    /// How many rows each operator holds, in order; nothing where that is not known.
    async fn held(&self) -> Option<Vec<u64>> {
        None
    }

    /// Stops and joins all tasks. May be called after the end.
    async fn stop(&self);

    fn status(&self) -> RunStatus;

    /// The accounts of the status.
    fn accounts(&self) -> Accounts {
        self.status().accounts()
    }
}

/// How a rule ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The input of all its sources was finite and is processed.
    Finished,
    /// It cannot go on.
    Failed(Fault),
}

/// The counters of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunStatus {
    /// Sources, operators, sinks, in this order.
    pub nodes: Vec<NodeStatus>,
    pub ledger: LedgerView,
    /// Account of each sink by the name of its node.
    pub sinks: Vec<(String, SinkView)>,
    /// How far the event time of a running rule has come; nothing in processing time.
    pub tide: Option<Tide>,
    /// Since when a running rule is at one batch of rows; nothing while it waits for the next.
    pub busy: Option<Time>,
    /// How the journal of a running rule is doing; nothing where it has none.
    pub journal: Option<JournalView>,
}

impl RunStatus {
    /// The accounts alone.
    pub fn accounts(&self) -> Accounts {
        Accounts { ledger: self.ledger.clone(), sinks: self.sinks.iter().cloned().collect() }
    }
}

/// One node of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    pub kind: NodeKind,
    /// Without its kind: `demo`, `2_decoder`, `mqtt_0`.
    pub name: String,
    pub view: NodeView,
    /// Of sources and sinks.
    pub link: Option<LinkStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    Source,
    Op,
    Sink,
}

/// Which node feeds which.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Topo {
    pub sources: Vec<String>,
    pub edges: BTreeMap<String, Vec<String>>,
}
