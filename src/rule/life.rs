use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use super::{Def, Ended, Host, Planned, RunStatus, Running, Status, Topo};
use crate::clock::Time;
use crate::diag::Fault;
use crate::store::Bucket;

/// How long a rule may take to stop before it is left to itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a rule is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Stopped,
    Starting,
    Running,
    Stopping,
    StoppedByError,
}

impl State {
    /// As clients read it.
    pub fn name(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::StoppedByError => "stopped by error",
        }
    }
}

/// One rule of a server, whether it runs or not.
pub(super) struct Rule {
    pub id: String,
    host: Arc<Host>,
    /// Held for the length of a transition, so that transitions of a rule come one after the other.
    pub control: tokio::sync::Mutex<Control>,
    view: Mutex<View>,
}

/// What a transition may change, beside the view.
#[derive(Default)]
pub(super) struct Control {
    run: Option<Run>,
    /// The rule was deleted while the transition waited for its turn.
    pub gone: bool,
}

struct Run {
    running: Arc<dyn Running>,
    watcher: JoinHandle<()>,
}

impl Control {
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }
}

/// What anyone may look at, at any time.
struct View {
    def: Arc<Def>,
    state: State,
    message: String,
    started: Time,
    stopped: Time,
    sources: Vec<String>,
    topo: Option<Topo>,
    running: Option<Arc<dyn Running>>,
    /// The counters of the last run, after its end.
    last: RunStatus,
}

impl Rule {
    pub fn new(host: Arc<Host>, def: Def, state: State, message: String) -> Arc<Rule> {
        let view = View {
            def: Arc::new(def),
            state,
            message,
            started: Time(0),
            stopped: Time(0),
            sources: Vec::new(),
            topo: None,
            running: None,
            last: RunStatus::default(),
        };
        let id = view.def.id.clone();
        Arc::new(Rule { id, host, control: tokio::sync::Mutex::default(), view: Mutex::new(view) })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn def(&self) -> Arc<Def> {
        self.view().def.clone()
    }

    pub fn set_def(&self, def: Def) {
        self.view().def = Arc::new(def);
    }

    pub fn state(&self) -> State {
        self.view().state
    }

    pub fn set_state(&self, state: State, message: impl Into<String>) {
        let mut view = self.view();
        view.state = state;
        view.message = message.into();
    }

    /// The streams and tables of the run, while there is one.
    pub fn reads(&self, name: &str) -> bool {
        let view = self.view();
        view.running.is_some() && view.sources.iter().any(|source| source == name)
    }

    pub fn topo(&self) -> Option<Topo> {
        self.view().topo.clone()
    }

    pub fn status(&self) -> Status {
        let view = self.view();
        let run = view.running.as_ref().map_or_else(|| view.last.clone(), |running| running.status());
        Status { state: view.state, message: view.message.clone(), started: view.started, stopped: view.stopped, run }
    }

    /// Writes the definition to the store, unless the rule is temporary.
    pub fn save(&self, def: &Def) -> Result<(), Fault> {
        if def.temp { Ok(()) } else { self.host.store.put(Bucket::RULES, &self.id, &def.text) }
    }

    /// Sets whether the rule is to run, in the store too.
    pub fn trigger(&self, triggered: bool) -> Result<(), Fault> {
        let mut def = Def::clone(&self.def());
        if def.trigger(triggered) {
            self.save(&def)?;
            self.set_def(def);
        }
        Ok(())
    }

    /// Starts a run. The rule must not run.
    pub async fn run(self: &Arc<Self>, control: &mut Control, planned: Box<dyn Planned>) {
        {
            let mut view = self.view();
            view.state = State::Starting;
            view.message.clear();
            view.started = self.host.clock.now();
            view.sources = planned.sources();
            view.topo = Some(planned.topo());
            view.last = RunStatus::default();
        }
        for warning in planned.warnings() {
            tracing::warn!(rule = self.id, "{warning}");
        }
        let started = AssertUnwindSafe(planned.start()).catch_unwind().await;
        let started = started.unwrap_or_else(|_| Err(Fault::bug("starting the rule failed")));
        match started {
            Ok(running) => {
                {
                    let mut view = self.view();
                    view.state = State::Running;
                    view.running = Some(running.clone());
                }
                let watcher = tokio::spawn(self.clone().watch(running.clone()));
                control.run = Some(Run { running, watcher });
                tracing::info!(rule = self.id, "rule started");
            }
            Err(fault) => {
                tracing::error!(rule = self.id, "rule could not start: {fault}");
                self.set_state(State::StoppedByError, fault.to_string());
            }
        }
    }

    /// Ends the run, if there is one.
    pub async fn halt(&self, control: &mut Control, message: &str) {
        if let Some(run) = control.run.take() {
            // It waits for the end of the run or for its turn; neither will come any more.
            run.watcher.abort();
            self.settle(&run.running, State::Stopped, message).await;
            tracing::info!(rule = self.id, "rule stopped");
        }
    }

    /// Waits for the run to end by itself.
    async fn watch(self: Arc<Self>, running: Arc<dyn Running>) {
        let ended = running.ended().await;
        let mut control = self.control.lock().await;
        // Who held the control may have ended this run, and begun another.
        if !control.run.as_ref().is_some_and(|run| Arc::ptr_eq(&run.running, &running)) {
            return;
        }
        control.run = None;
        match ended {
            Ended::Finished => {
                if let Err(fault) = self.trigger(false) {
                    tracing::error!(rule = self.id, "cannot note that the rule is done: {fault}");
                }
                self.settle(&running, State::Stopped, "done").await;
                tracing::info!(rule = self.id, "rule done, its input has ended");
            }
            Ended::Failed(fault) => {
                tracing::error!(rule = self.id, "rule stopped by error: {fault}");
                self.settle(&running, State::StoppedByError, &fault.to_string()).await;
            }
        }
    }

    async fn settle(&self, running: &Arc<dyn Running>, state: State, message: &str) {
        self.set_state(State::Stopping, "");
        tokio::select! {
            () = running.stop() => {}
            () = self.host.clock.sleep(PATIENCE) => {
                tracing::error!(rule = self.id, "rule did not stop within {} s and is left to itself", PATIENCE.as_secs());
            }
        }
        let last = running.status();
        let mut view = self.view();
        view.last = last;
        view.running = None;
        view.state = state;
        view.message = message.to_owned();
        view.stopped = self.host.clock.now();
    }
}
