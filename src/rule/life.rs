use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::tz::TimeZone;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::guests;
use super::identities::Appearance;
use super::kept::Kept;
use super::{Def, Ended, Health, Host, Planned, Retries, RunStatus, Running, Status, Topo};
use crate::clock::Time;
use crate::diag::Fault;
use crate::flow::Hold;
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
    /// Its time has not come, or is over until the next.
    ScheduledStop,
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
            State::ScheduledStop => "stopped: waiting for next schedule.",
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
    /// Rung when there may be something new to do for the rule.
    bell: Arc<Notify>,
    /// Someone is on the way to do what is due.
    pub tended: AtomicBool,
    /// The account as it was stored the last time.
    stored: Mutex<Kept>,
}

/// What is to be done with a rule without anyone asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Its time has come.
    Start,
    /// Its time is over until the next.
    Pause,
    /// It has run for as long as it may.
    End,
    /// It ended with an error, and its pause is over.
    Again,
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
    /// Has the sources that the run shares with others wait until what is returned is released.
    pub async fn hold(&self) -> Vec<Hold> {
        match &self.run {
            Some(run) => run.running.hold().await,
            None => Vec::new(),
        }
    }

    /// See [`Running::drain`].
    pub async fn drain(&self) -> u64 {
        match &self.run {
            Some(run) => run.running.drain().await,
            None => 0,
        }
    }

    /// How many rows each operator of the run holds.
    pub async fn held(&self) -> Option<Vec<u64>> {
        match &self.run {
            Some(run) => run.running.held().await,
            None => None,
        }
    }

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
    /// As whom the run appears at the other side.
    identities: Vec<Appearance>,
    running: Option<Arc<dyn Running>>,
    /// The counters of the last run, after its end.
    last: RunStatus,
    retries: Retries,
}

impl Rule {
    pub fn new(host: Arc<Host>, bell: Arc<Notify>, def: Def, state: State, message: String, kept: Kept) -> Arc<Rule> {
        let sinks = kept.accounts.sinks.clone().into_iter().collect();
        let last = RunStatus { ledger: kept.accounts.ledger.clone(), sinks, ..RunStatus::default() };
        let retries = Retries { restarts: kept.restarts, panics: kept.panics, ..Retries::default() };
        let view = View {
            def: Arc::new(def),
            state,
            message,
            started: Time(0),
            stopped: Time(0),
            sources: Vec::new(),
            topo: None,
            identities: Vec::new(),
            running: None,
            last,
            retries,
        };
        let (id, view, stored) = (view.def.id.clone(), Mutex::new(view), Mutex::new(kept));
        Arc::new(Rule { id, host, control: tokio::sync::Mutex::default(), view, bell, tended: false.into(), stored })
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

    /// When its run began, while there is one.
    pub fn runs_since(&self) -> Option<Time> {
        let view = self.view();
        (view.state == State::Running).then_some(view.started)
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
        let died = guests::died(&self.host, &self.def());
        let view = self.view();
        let run = view.running.as_ref().map_or_else(|| view.last.clone(), |running| running.status());
        let now = self.host.clock.now();
        let next_start =
            view.def.triggered.then(|| view.def.options.schedule.next_start(now, &self.host.zone)).flatten();
        let mut health = Health::of(view.state, &view.message, &run, view.started, now);
        health.rivals(&run, &self.host.identities.clashes(&self.id, &view.identities));
        if let Some(died) = died {
            health.note(&died);
        }
        Status {
            state: view.state,
            message: view.message.clone(),
            started: view.started,
            stopped: view.stopped,
            next_start: next_start.unwrap_or_default(),
            health,
            retries: view.retries,
            run,
        }
    }

    /// What is to be done now, and when that may change.
    pub fn duty(&self, now: Time, zone: &TimeZone) -> (Option<Duty>, Option<Time>) {
        let view = self.view();
        let schedule = &view.def.options.schedule;
        if !view.def.triggered {
            return (None, None);
        }
        let early = schedule.waits() && !schedule.runs(now, zone);
        let change = || if schedule.waits() { schedule.next_change(now, zone) } else { None };
        let due = |duty, at: Option<Time>| match at {
            Some(at) if at <= now => (Some(duty), None),
            at => (None, at.into_iter().chain(change()).min()),
        };
        match view.state {
            State::Running if early => (Some(Duty::Pause), None),
            State::Running => due(Duty::End, schedule.limit().map(|limit| view.started + limit)),
            State::ScheduledStop if early => (None, change()),
            State::ScheduledStop => (Some(Duty::Start), None),
            // As in eKuiper the patrol starts a rule in its time whatever has stopped it.
            State::StoppedByError if schedule.waits() && !early && view.retries.next.is_none() => {
                due(Duty::Start, Some(view.stopped + self.host.patrol))
            }
            State::StoppedByError => due(Duty::Again, view.retries.next),
            State::Stopped | State::Starting | State::Stopping => (None, None),
        }
    }

    /// Whether the rule has to wait for its time.
    pub fn is_early(&self, now: Time, zone: &TimeZone) -> bool {
        let view = self.view();
        view.def.options.schedule.waits() && !view.def.options.schedule.runs(now, zone)
    }

    /// Has the rule, which does not run, wait for its time.
    pub fn wait(&self) {
        self.set_state(State::ScheduledStop, "");
        self.ring();
    }

    /// Has the rule looked at, if there can be anything to do for it.
    fn ring(&self) {
        let options = &self.view().def.options;
        if options.schedule.waits() || options.schedule.limit().is_some() || options.restart.is_on() {
            self.bell.notify_one();
        }
    }

    /// The rule, which does not run, has ended with an error or could not begin. `started` is when the run began.
    pub fn fail(&self, message: &str, panicked: bool, started: Option<Time>) {
        tracing::error!(rule = self.id, "rule stopped by error: {message}");
        let now = self.host.clock.now();
        let mut view = self.view();
        (view.state, view.stopped) = (State::StoppedByError, now);
        message.clone_into(&mut view.message);
        view.retries.panics += u64::from(panicked);
        let restart = view.def.options.restart.clone();
        view.retries.failed(&restart, started, now);
        drop(view);
        self.ring();
    }

    /// The rule is started again after an error.
    pub fn again(&self) {
        self.view().retries.again();
    }

    /// Someone starts, stops or changes the rule by hand: its failures are forgiven.
    pub fn taken_in_hand(&self) {
        self.view().retries.over();
    }

    /// The account, if it is not what is stored, as a key and a text to store. It then counts as stored.
    pub fn changed(&self) -> Option<(String, String)> {
        let kept = {
            let view = self.view();
            if view.def.temp {
                return None;
            }
            let running = view.running.as_ref().map(|running| running.accounts());
            let runs = running.is_some();
            Kept::of(running.unwrap_or_else(|| view.last.accounts()), &view.retries, runs)
        };
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if *stored == kept {
            return None;
        }
        let text = kept.text().ok()?;
        *stored = kept;
        Some((self.id.clone(), text))
    }

    /// Stores the account now.
    pub fn keep(&self) {
        if let Some((id, text)) = self.changed()
            && let Err(fault) = self.host.store.put(Bucket::LEDGERS, &id, &text)
        {
            tracing::error!(rule = id, "the account of the rule cannot be stored: {fault}");
        }
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
    pub async fn run(self: &Arc<Self>, control: &mut Control, mut planned: Box<dyn Planned>) {
        let identities = planned.identities();
        {
            let mut view = self.view();
            let mut carried = view.last.accounts();
            // What was held is held still if it is in a journal; whoever opens that knows.
            carried.close("stop", true);
            view.state = State::Starting;
            view.message.clear();
            view.started = self.host.clock.now();
            view.sources = planned.sources();
            view.topo = Some(planned.topo());
            view.identities.clone_from(&identities);
            self.host.identities.enter(&self.id, &identities);
            let sinks = carried.sinks.clone().into_iter().collect();
            view.last = RunStatus { ledger: carried.ledger.clone(), sinks, ..RunStatus::default() };
            planned.carry(carried);
        }
        self.host.left.take_over(&identities).await;
        let clashes = self.host.identities.clashes(&self.id, &identities);
        for warning in planned.warnings().into_iter().chain(clashes) {
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
                self.ring();
            }
            Err(fault) => {
                self.leave();
                self.fail(&fault.to_string(), matches!(fault, Fault::Bug(_)), None);
            }
        }
    }

    /// No connection of the rule is left.
    fn leave(&self) {
        let left = std::mem::take(&mut self.view().identities);
        self.host.identities.leave(&self.id, &left);
    }

    /// Ends the run, if there is one.
    pub async fn halt(&self, control: &mut Control, state: State, message: &str) {
        if let Some(run) = control.run.take() {
            // It waits for the end of the run or for its turn; neither will come any more.
            run.watcher.abort();
            self.settle(&run.running, state, message).await;
            tracing::info!(rule = self.id, "rule stopped");
            self.ring();
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
                let (started, message) = (self.view().started, fault.to_string());
                self.settle(&running, State::Stopping, &message).await;
                self.fail(&message, matches!(fault, Fault::Bug(_)), Some(started));
            }
        }
        self.keep();
    }

    async fn settle(&self, running: &Arc<dyn Running>, state: State, message: &str) {
        self.set_state(State::Stopping, "");
        let mut lost = false;
        if self.host.clock.within(PATIENCE, running.stop()).await.is_none() {
            // What it holds is in no journal.
            lost = self.def().options.qos == 0;
            tracing::error!(rule = self.id, "rule did not stop within {} s and is left to itself", PATIENCE.as_secs());
        }
        let mut last = running.status();
        if lost && last.ledger.held > 0 {
            let held = std::mem::take(&mut last.ledger.held);
            *last.ledger.dropped.entry("stop").or_default() += u64::try_from(held).unwrap_or_default();
        }
        self.leave();
        let mut view = self.view();
        view.last = last;
        view.running = None;
        view.state = state;
        view.message = message.to_owned();
        view.stopped = self.host.clock.now();
    }
}
