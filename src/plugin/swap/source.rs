//! Sources move after their last emission: what the old instance gives from then on is refused, and it is told so.
//!
//! Where the old one said where it stood, the new one goes on from there. A new instance that cannot connect while the
//! old one is there (a port, a session) is connected after that was closed; where this fails too the old one is taken up
//! again.

use std::mem;
use std::pin::pin;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kuiper_plugin::abi::kind;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};

use crate::clock::within;
use crate::data::Value;
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::{End, Gate, Inlet, LinkStatus, Message, Payload, Report, Source, SourcePlan, SourceSpec};
use crate::plugin::desk::States;
use crate::plugin::library::{Library, Symbol};
use crate::plugin::place;
use crate::plugin::source::{Fitted, Guest, fit, rewinds};
use crate::plugin::tap::shown;
use crate::plugin::uses::{Carry, Edition, Place, Ready, Use, lock};

use super::{FAREWELL, plan};

/// How long rules may take to be done with what the old version gave and waits to hear of.
const SETTLES: Duration = Duration::from_secs(5);

/// Checks the properties against what stands in the place, and says how to open.
pub fn plan(
    name: &str,
    place: &Arc<Place>,
    edition: &Arc<Edition>,
    symbol: Symbol,
    spec: SourceSpec,
) -> Result<SourcePlan, Diagnostic> {
    let plan = Plan::new(name, place, edition, symbol, spec)?;
    let (gives_rows, seeks) = {
        let fit = lock(&plan.fit);
        (fit.fitted.gives_rows(), fit.fitted.seeks())
    };
    let open = move || plan.opened();
    Ok(SourcePlan { open: Box::new(open), gives_rows, seeks, warnings: Vec::new(), identity: None })
}

/// The source of a rule or stream.
struct Sources;

impl plan::Planned for Sources {
    type Spec = SourceSpec;
    type Fitted = Fitted;
    type Seat = Seat;
    /// What it stores.
    type Own = Mutex<States>;

    const KIND: u32 = kind::SOURCE;
    const WHAT: &'static str = "source";

    fn owner(spec: &SourceSpec) -> &str {
        &spec.env.owner
    }

    fn fit(name: &str, library: &Arc<Library>, symbol: Symbol, spec: &SourceSpec) -> Result<Fitted, Diagnostic> {
        fit(name, library, symbol, spec)
    }
}

type Fit = plan::Fit<Fitted>;
type Plan = plan::Plan<Sources>;

/// What a source that runs shares with those who move it.
struct Seat {
    place: Arc<Place>,
    inlet: Inlet,
    runtime: Handle,
    phase: Mutex<Phase>,
    /// Rung when there is something for the one that runs.
    bell: Notify,
}

/// How far it has come.
struct Phase {
    /// The edition that it runs on.
    runs: Fit,
    ready: Option<Next>,
    wish: Wish,
}

/// What the one that runs is to do.
enum Wish {
    GoOn,
    /// Take what is ready.
    Move,
    /// Connect a new instance after the old one has ended, say how that went, and wait for the next wish.
    Try(Box<Fit>, oneshot::Sender<Result<(), String>>),
    /// That was done.
    Tried,
    /// Take the old one up again.
    Back,
}

/// A new instance that is connected, behind a gate that waits.
struct Next {
    fit: Fit,
    guest: Guest,
    states: States,
    inlet: Inlet,
    gate: Gate,
    link: watch::Receiver<LinkStatus>,
}

impl Seat {
    /// Returns when something else is to run.
    async fn wished(&self) {
        while matches!(lock(&self.phase).wish, Wish::GoOn) {
            self.bell.notified().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Who waits for it to move need not any more.
        self.place.tell();
    }
}

impl Plan {
    fn opened(self: &Arc<Self>) -> Result<Box<dyn Source>> {
        let fit = self.fit()?;
        let guest = fit.fitted.open(lock(&self.own).clone());
        Ok(Box::new(Seated { plan: self.clone(), first: Some((fit, guest)), position: None, pace: None, cut: false }))
    }

    /// A way into the feed for that instance; the author of the plugin may see what goes through.
    fn gate(&self, inlet: &Inlet, fit: &Fit, guest: &Guest) -> (Inlet, Gate) {
        let (place, owner, version) = (self.place.clone(), self.owner().to_owned(), fit.version.clone());
        let tokens = guest.tokens();
        Gate::before(inlet, move |messages| {
            // Here and not where it is given: what is held up before the gate is nobody's to be done with.
            if messages.iter().any(|message| message.ack.is_some()) {
                tokens.gave();
            }
            if place.tap.is_on() {
                let text = |message: &Message| match &message.payload {
                    Payload::Row(row) => format!("gave {}", shown(&Value::object(row.clone()))),
                    Payload::Bytes(bytes) => format!("gave {}", String::from_utf8_lossy(bytes)),
                    Payload::Error(fault) => format!("gave an error: {fault}"),
                };
                place.tap.note(&owner, &version, messages.iter().map(text));
            }
        })
    }

    /// A new instance, connected; its state is a copy until it is the one that runs.
    async fn connected(&self, seat: &Seat, fit: &Fit) -> Result<Next, String> {
        let states = States::default();
        let before = lock(&seat.phase).runs.fitted.symbol;
        Carry::between(&before, &fit.fitted.symbol).carry(&lock(&self.own), &states);
        let mut guest = fit.fitted.open(states.clone());
        let (inlet, gate) = self.gate(&seat.inlet, fit, &guest);
        // Its connection is not the one that is shown.
        let (report, link) = Report::timed(self.spec.env.clock.clone());
        match guest.connect(&inlet, &report, &seat.runtime).await {
            Ok(()) => Ok(Next { fit: fit.clone(), guest, states, inlet, gate, link }),
            Err(fault) => Err(format!("the new version cannot connect: {fault}")),
        }
    }
}

#[async_trait::async_trait]
impl Use for Plan {
    fn owner(&self) -> String {
        Plan::owner(self).to_owned()
    }

    fn open(&self) -> Vec<(String, u64)> {
        self.seats().iter().map(|seat| (self.spec.env.owner.clone(), lock(&seat.phase).runs.number)).collect()
    }

    async fn prepare(&self, next: &Arc<Edition>) -> Result<Ready, String> {
        let fit = self.fitted(next)?;
        let before = lock(&self.fit).fitted.clone();
        let gives_rows = before.gives_rows();
        let reads = fit.fitted.symbol.reads(before.symbol.state_version.into());
        if before.seeks() && rewinds(before.symbol) && !(fit.fitted.seeks() && reads) {
            let text =
                format!("the new version of `{}` cannot go on where the old one stood; stop the rule first", self.name);
            return Err(text);
        }
        if gives_rows != fit.fitted.gives_rows() {
            let (before, now) = if gives_rows { ("rows", "messages") } else { ("messages", "rows") };
            return Err(format!(
                "the new version of `{}` gives {now}, the old one {before}; stop the rule first",
                self.name
            ));
        }
        *lock(&self.next) = Some(fit.clone());
        for seat in self.seats() {
            match self.connected(&seat, &fit).await {
                Ok(next) => lock(&seat.phase).ready = Some(next),
                Err(why) => return Ok(Ready::InTurn(why)),
            }
        }
        Ok(Ready::Beside)
    }

    async fn prepare_in_turn(&self, _: &Arc<Edition>) -> Result<(), String> {
        let Some(fit) = lock(&self.next).clone() else { return Ok(()) };
        for seat in self.seats() {
            let (told, hears) = oneshot::channel();
            {
                let mut phase = lock(&seat.phase);
                if phase.ready.is_some() {
                    continue;
                }
                phase.wish = Wish::Try(Box::new(fit.clone()), told);
            }
            seat.bell.notify_one();
            // One that ends by itself meanwhile is opened with the new version.
            hears.await.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    fn commit(&self, _: &Arc<Edition>) {
        self.take_next();
        for seat in self.seats() {
            let mut phase = lock(&seat.phase);
            if phase.ready.is_some() {
                phase.wish = Wish::Move;
                seat.bell.notify_one();
            }
        }
    }

    fn abandon(&self) {
        *lock(&self.next) = None;
        for seat in self.seats() {
            let mut phase = lock(&seat.phase);
            // An instance that is dropped is closed.
            let ready = phase.ready.take();
            if matches!(phase.wish, Wish::Try(..) | Wish::Tried) {
                phase.wish = Wish::Back;
                seat.bell.notify_one();
            }
            drop(phase);
            drop(ready);
        }
    }

    fn forgot(&self) -> bool {
        Plan::forgot(self)
    }
}

/// An open source.
struct Seated {
    plan: Arc<Plan>,
    /// What it was opened with, until it runs.
    first: Option<(Fit, Guest)>,
    /// Where it is to go on, or stood.
    position: Option<Value>,
    /// When it was asked the last time.
    pace: Option<Arc<AtomicI64>>,
    /// The last one gave something at its end that was not taken.
    cut: bool,
}

/// One instance, and its way into the feed.
struct Running {
    guest: Guest,
    inlet: Inlet,
    gate: Gate,
}

#[async_trait::async_trait]
impl Source for Seated {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        let Some((fit, guest)) = self.first.take() else {
            return Err(Fault::bug("a source was run twice"));
        };
        let (way, gate) = self.plan.gate(&inlet, &fit, &guest);
        gate.open();
        let phase = Phase { runs: fit, ready: None, wish: Wish::GoOn };
        let (place, runtime) = (self.plan.place.clone(), Handle::current());
        let seat = Arc::new(Seat { place, inlet, runtime, phase: Mutex::new(phase), bell: Notify::new() });
        self.plan.sit(&seat);
        let mut running = Running { guest, inlet: way, gate };
        loop {
            if let Some(end) = self.until_wished(&seat, running, &report).await {
                return end;
            }
            running = match self.turn(&seat, &report).await {
                Some(next) => next?,
                None => return Ok(End::Closed),
            };
        }
    }

    async fn seek(&mut self, position: &Value) -> Result<()> {
        self.position = Some(position.clone());
        match &mut self.first {
            Some((fit, guest)) if fit.fitted.seeks() => guest.seek(position).await,
            _ => Ok(()),
        }
    }
}

impl Seated {
    /// Runs an instance to its end; nothing when that is because something else is to run.
    async fn until_wished(&mut self, seat: &Seat, running: Running, report: &Report) -> Option<Result<End>> {
        let Running { mut guest, inlet, gate } = running;
        let (rests, pace, tokens) = (guest.rests(), guest.pace(), guest.tokens());
        let end = {
            let mut run = pin!(guest.run(inlet, report.clone()));
            tokio::select! {
                biased;
                end = &mut run => return Some(end),
                () = seat.wished() => {}
            }
            // What it waits to hear of would be given again: that is done with first, and nothing new comes in between.
            gate.hold();
            if tokens.are_used() {
                tokio::select! {
                    biased;
                    end = &mut run => return Some(end),
                    _ = within(SETTLES, tokens.settled()) => {}
                }
                gate.shut();
            } else {
                gate.open();
            }
            rests.notify_one();
            within(FAREWELL, run).await
        };
        let rule = self.plan.owner();
        match end {
            // It has given all that there is.
            Some(Ok(End::Finished)) => return Some(Ok(End::Finished)),
            Some(Ok(End::Closed)) => {}
            Some(Err(fault)) => {
                tracing::warn!(rule, plugin = self.plan.name, "the old version failed at its end: {fault}")
            }
            None => {
                let limit = FAREWELL.as_secs();
                tracing::warn!(
                    rule,
                    plugin = self.plan.name,
                    "the old version did not end within {limit} s, and is left to itself"
                );
            }
        }
        self.position = gate.shut().or(self.position.take());
        self.cut = guest.cut;
        self.pace = Some(pace);
        None
    }

    /// What runs next; nothing when the feed is gone.
    async fn turn(&mut self, seat: &Seat, report: &Report) -> Option<Result<Running>> {
        loop {
            let wish = mem::replace(&mut lock(&seat.phase).wish, Wish::Tried);
            match wish {
                Wish::Move => {
                    let next = lock(&seat.phase).ready.take();
                    return Some(match next {
                        Some(next) => self.go_on(seat, next, report).await,
                        None => self.go_back(seat).await,
                    });
                }
                Wish::Back | Wish::GoOn => return Some(self.go_back(seat).await),
                Wish::Try(fit, told) => match self.plan.connected(seat, &fit).await {
                    Ok(next) => {
                        lock(&seat.phase).ready = Some(next);
                        // Who asked may have stopped waiting.
                        if told.send(Ok(())).is_err() {
                            lock(&seat.phase).wish = Wish::Back;
                        }
                    }
                    Err(why) => {
                        let back = self.go_back(seat).await;
                        // As above; it is what it was before.
                        let _ = told.send(Err(why));
                        return Some(back);
                    }
                },
                Wish::Tried => tokio::select! {
                    () = seat.bell.notified() => {}
                    () = seat.inlet.closed() => return None,
                },
            }
        }
    }

    async fn go_on(&mut self, seat: &Seat, next: Next, report: &Report) -> Result<Running> {
        let Next { fit, mut guest, states, inlet, gate, link } = next;
        let plan = &self.plan;
        let (old, new) = (lock(&seat.phase).runs.fitted.symbol, fit.fitted.symbol);
        let was = lock(&plan.own).clone();
        let carried = Carry::between(&old, &new).carry(&was, &states);
        // What it stored may be ahead of the last emission that was taken, where the next one was not.
        let stands = if self.cut { self.position.clone() } else { place::kept(old, told(&self.position), &was) };
        if let Some(stands) = stands.filter(|_| fit.fitted.seeks() && new.reads(old.state_version.into())) {
            guest.seek(&stands).await?;
        }
        if !carried {
            let rule = plan.owner();
            tracing::warn!(
                rule,
                plugin = plan.name,
                "the new version does not say that it can read the state of the old one, and begins without"
            );
            plan.forget();
        }
        *lock(&plan.own) = states;
        if let Some(pace) = self.pace.take() {
            guest.keep_pace(pace);
        }
        let link = link.borrow().link.clone();
        report.set(link);
        {
            let mut phase = lock(&seat.phase);
            phase.runs = fit;
            phase.wish = Wish::GoOn;
        }
        gate.open();
        plan.place.tell();
        Ok(Running { guest, inlet, gate })
    }

    /// Takes the version up again that ran before.
    async fn go_back(&mut self, seat: &Seat) -> Result<Running> {
        let fit = lock(&seat.phase).runs.clone();
        let states = lock(&self.plan.own).clone();
        let stands = if self.cut {
            self.position.clone()
        } else {
            place::kept(fit.fitted.symbol, told(&self.position), &states)
        };
        let mut guest = fit.fitted.open(states);
        if let Some(pace) = self.pace.take() {
            guest.keep_pace(pace);
        }
        if let Some(stands) = stands.filter(|_| fit.fitted.seeks()) {
            guest.seek(&stands).await?;
        }
        let (inlet, gate) = self.plan.gate(&seat.inlet, &fit, &guest);
        gate.open();
        let mut phase = lock(&seat.phase);
        phase.ready = None;
        phase.wish = Wish::GoOn;
        Ok(Running { guest, inlet, gate })
    }
}

/// The position in what is kept of where a source stands.
fn told(kept: &Option<Value>) -> Option<Value> {
    match kept {
        Some(Value::Object(kept)) => kept.get("at").cloned(),
        _ => None,
    }
}
