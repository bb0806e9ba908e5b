//! Sinks move between two deliveries, and while there is nothing to deliver. A new instance that cannot connect while the
//! old one is there (a port) is connected after that was closed; where this fails too the old one is taken up again.

use std::mem;
use std::sync::{Arc, Mutex};

use kuiper_plugin::abi::kind;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::within;
use crate::data::Value;
use crate::diag::{Diagnostic, Fault, Result, Retry};
use crate::io::{Content, LinkStatus, Parcel, RefusedRow, Report, Sink, SinkPlan, SinkSpec, Stopped};
use crate::plugin::desk::States;
use crate::plugin::library::{Library, Symbol};
use crate::plugin::sink::{Fitted, Guest, fit, keeps};
use crate::plugin::tap::shown;
use crate::plugin::uses::{Carry, Edition, Place, Ready, Use, lock};

use super::{FAREWELL, plan};

/// What a sink takes over from the engine where it declares a property of that name.
const TAKEN_OVER: &[&str] = &["fields"];

/// Checks the properties against what stands in the place, and says how to open.
pub fn plan(
    name: &str,
    place: &Arc<Place>,
    edition: &Arc<Edition>,
    symbol: Symbol,
    spec: SinkSpec,
) -> Result<SinkPlan, Diagnostic> {
    let plan = Plan::new(name, place, edition, symbol, spec)?;
    let takes = lock(&plan.fit).fitted.takes();
    let open = move || plan.opened();
    Ok(SinkPlan { open: Box::new(open), takes, warnings: Vec::new(), identity: None })
}

/// The sink of a rule.
struct Sinks;

impl plan::Planned for Sinks {
    type Spec = SinkSpec;
    type Fitted = Fitted;
    type Seat = Seat;
    /// Of those that are connected in the place of the old ones: where to say that they are taken.
    type Own = Mutex<Vec<oneshot::Sender<()>>>;

    const KIND: u32 = kind::SINK;
    const WHAT: &'static str = "sink";

    fn owner(spec: &SinkSpec) -> &str {
        &spec.env.owner
    }

    fn fit(name: &str, library: &Arc<Library>, symbol: Symbol, spec: &SinkSpec) -> Result<Fitted, Diagnostic> {
        fit(name, library, symbol, spec)
    }
}

type Fit = plan::Fit<Fitted>;
type Plan = plan::Plan<Sinks>;

/// What an open sink shares with those who move it.
struct Seat {
    place: Arc<Place>,
    /// The edition that it runs on.
    runs: Mutex<Fit>,
    states: Mutex<States>,
    ready: Mutex<Option<Next>>,
    /// Ready, and to be taken.
    next: Mutex<Option<Next>>,
    /// To be connected in the place of the old one.
    attempt: Mutex<Option<Attempt>>,
    /// Rung when there is something to be taken, or tried.
    bell: Notify,
}

/// A version that is to be connected after the old one was closed.
struct Attempt {
    fit: Fit,
    /// Hears how that went.
    told: oneshot::Sender<Result<(), String>>,
    /// Says whether it is taken; where nobody says so any more it is not.
    verdict: oneshot::Receiver<()>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Who waits for it to move need not any more.
        self.place.tell();
    }
}

/// A new instance that is connected.
struct Next {
    fit: Fit,
    guest: Guest,
    states: States,
    link: watch::Receiver<LinkStatus>,
}

impl Plan {
    /// A new instance, connected; its state is a copy until it is the one that runs.
    async fn connected(&self, seat: &Seat, fit: &Fit) -> Result<Next> {
        let states = States::default();
        let before = lock(&seat.runs).fitted.symbol;
        Carry::between(&before, &fit.fitted.symbol).carry(&lock(&seat.states), &states);
        let mut guest = fit.fitted.open(states.clone());
        // Its connection is not the one that is shown.
        let (report, link) = Report::timed(self.spec.env.clock.clone());
        guest.connect(report).await?;
        Ok(Next { fit: fit.clone(), guest, states, link })
    }

    fn opened(self: &Arc<Self>) -> Result<Box<dyn Sink>> {
        let fit = self.fit()?;
        let states = States::default();
        let guest = fit.fitted.open(states.clone());
        let seat = Arc::new(Seat {
            place: self.place.clone(),
            runs: Mutex::new(fit),
            states: Mutex::new(states),
            ready: Mutex::default(),
            next: Mutex::default(),
            attempt: Mutex::default(),
            bell: Notify::new(),
        });
        self.sit(&seat);
        Ok(Box::new(Seated { plan: self.clone(), seat, hand: Hand::Here(Box::new(guest)), report: None }))
    }
}

#[async_trait::async_trait]
impl Use for Plan {
    fn owner(&self) -> String {
        Plan::owner(self).to_owned()
    }

    fn open(&self) -> Vec<(String, u64)> {
        self.seats().iter().map(|seat| (self.spec.env.owner.clone(), lock(&seat.runs).number)).collect()
    }

    async fn prepare(&self, next: &Arc<Edition>) -> Result<Ready, String> {
        let fit = self.fitted(next)?;
        let before = lock(&self.fit).fitted.clone();
        if before.takes() != fit.fitted.takes() {
            return Err(format!(
                "the new version of `{}` wants rows in another form, encoded or not; stop the rule first",
                self.name
            ));
        }
        if let Some(name) =
            TAKEN_OVER.iter().find(|name| before.symbol.declares(name) != fit.fitted.symbol.declares(name))
        {
            return Err(format!(
                "the new version of `{}` takes `{name}` in another way; stop the rule first",
                self.name
            ));
        }
        *lock(&self.next) = Some(fit.clone());
        for seat in self.seats() {
            match self.connected(&seat, &fit).await {
                Ok(next) => *lock(&seat.ready) = Some(next),
                Err(fault) if fault.retry() == Retry::Never => return Err(unconnected(&fault)),
                // The old one may be in its way.
                Err(fault) => return Ok(Ready::InTurn(unconnected(&fault))),
            }
        }
        Ok(Ready::Beside)
    }

    async fn prepare_in_turn(&self, _: &Arc<Edition>) -> Result<(), String> {
        let Some(fit) = lock(&self.next).clone() else { return Ok(()) };
        for seat in self.seats() {
            if lock(&seat.ready).is_some() {
                continue;
            }
            let (told, hears) = oneshot::channel();
            let (judge, verdict) = oneshot::channel();
            *lock(&seat.attempt) = Some(Attempt { fit: fit.clone(), told, verdict });
            seat.bell.notify_one();
            // One that is closed meanwhile is opened with the new version.
            hears.await.unwrap_or(Ok(()))?;
            lock(&self.own).push(judge);
        }
        Ok(())
    }

    fn commit(&self, _: &Arc<Edition>) {
        self.take_next();
        for verdict in lock(&self.own).drain(..) {
            // One that was closed meanwhile is not there to hear it.
            let _ = verdict.send(());
        }
        for seat in self.seats() {
            if let Some(ready) = lock(&seat.ready).take() {
                *lock(&seat.next) = Some(ready);
                seat.bell.notify_one();
            }
        }
    }

    fn abandon(&self) {
        *lock(&self.next) = None;
        lock(&self.own).clear();
        for seat in self.seats() {
            // An instance that is dropped is closed.
            let (ready, attempt) = (lock(&seat.ready).take(), lock(&seat.attempt).take());
            drop((ready, attempt));
        }
    }

    fn forgot(&self) -> bool {
        Plan::forgot(self)
    }
}

/// An open sink.
struct Seated {
    plan: Arc<Plan>,
    seat: Arc<Seat>,
    hand: Hand,
    report: Option<Report>,
}

enum Hand {
    Here(Box<Guest>),
    /// The old one is on its way out.
    Moving(JoinHandle<Box<Guest>>),
    Lost,
}

impl Seated {
    /// Begins to move, if there is something to move to. True where it is on its way.
    fn turn(&mut self) -> bool {
        if !matches!(self.hand, Hand::Here(_)) {
            return matches!(self.hand, Hand::Moving(_));
        }
        let next = lock(&self.seat.next).take();
        let attempt = lock(&self.seat.attempt).take();
        if next.is_none() && attempt.is_none() {
            return false;
        }
        if let Hand::Here(old) = mem::replace(&mut self.hand, Hand::Lost) {
            let (plan, seat, report) = (self.plan.clone(), self.seat.clone(), self.report.clone());
            self.hand = Hand::Moving(match (next, attempt) {
                (Some(next), _) => tokio::spawn(change(plan, seat, old, next, report)),
                (None, Some(attempt)) => tokio::spawn(attempted(plan, seat, old, attempt, report)),
                (None, None) => tokio::spawn(async { old }),
            });
        }
        true
    }

    /// The instance to use now. May be cancelled.
    async fn here(&mut self) -> Result<&mut Guest> {
        self.turn();
        if let Hand::Moving(change) = &mut self.hand {
            self.hand = change.await.map_or(Hand::Lost, Hand::Here);
        }
        match &mut self.hand {
            Hand::Here(guest) => Ok(guest),
            _ => Err(Fault::bug("the sink was lost while it moved to another version of its plugin")),
        }
    }

    /// For the author of the plugin to see.
    fn show(&self, parcels: &[Parcel], taken: usize, fault: Option<&Fault>) {
        let text = |parcel: &Parcel| match &parcel.content {
            Content::Rows(set) => {
                let mut rows: Vec<Value> = set.objects().into_iter().map(Value::object).collect();
                if set.single && rows.len() == 1 {
                    rows.pop().map_or_else(String::new, |row| shown(&row))
                } else {
                    shown(&Value::array(rows))
                }
            }
            Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        };
        let version = lock(&self.seat.runs).version.clone();
        let taken = parcels[..taken].iter().map(|parcel| format!("took {}", text(parcel)));
        let refused = fault.map(|fault| format!("did not take: {fault}"));
        self.plan.place.tap.note(self.plan.owner(), &version, taken.chain(refused));
    }
}

fn unconnected(fault: &Fault) -> String {
    format!("the new version cannot connect: {fault}")
}

/// The old instance ends, and then the new one is there.
async fn change(
    plan: Arc<Plan>,
    seat: Arc<Seat>,
    mut old: Box<Guest>,
    next: Next,
    report: Option<Report>,
) -> Box<Guest> {
    let position = closed(&plan, &mut old).await;
    moved(&plan, &seat, next, position, report).await
}

/// The old instance ends, and the new one is there if it can be connected and is taken; else one of the old version.
async fn attempted(
    plan: Arc<Plan>,
    seat: Arc<Seat>,
    mut old: Box<Guest>,
    attempt: Attempt,
    report: Option<Report>,
) -> Box<Guest> {
    let Attempt { fit, told, verdict } = attempt;
    let position = closed(&plan, &mut old).await;
    let why = match plan.connected(&seat, &fit).await {
        Ok(next) => {
            // Who asked may have stopped waiting, and then says nothing more.
            if told.send(Ok(())).is_ok() && verdict.await.is_ok() {
                return moved(&plan, &seat, next, position, report).await;
            }
            None
        }
        Err(fault) => Some((told, unconnected(&fault))),
    };
    let (again, states) = (lock(&seat.runs).fitted.clone(), lock(&seat.states).clone());
    let mut guest = again.open(states);
    let (hidden, _) = Report::timed(plan.spec.env.clock.clone());
    let mut back = guest.connect(report.unwrap_or(hidden)).await;
    if back.is_ok()
        && let Some(position) = position.filter(|_| keeps(again.symbol))
    {
        back = guest.resume(&position).await;
    }
    if let Err(fault) = back {
        // Its first delivery says so again, and then it is connected again as after an outage.
        tracing::error!(rule = plan.owner(), plugin = plan.name, "the old version cannot be taken up again: {fault}");
    }
    if let Some((told, why)) = why {
        // As above.
        let _ = told.send(Err(why));
    }
    Box::new(guest)
}

/// Closes an instance, and gives where it stood.
async fn closed(plan: &Plan, old: &mut Guest) -> Option<Value> {
    let rule = plan.owner();
    let position = old.position().await.unwrap_or_default();
    match within(FAREWELL, old.close()).await {
        Some(Ok(())) => {}
        Some(Err(fault)) => tracing::error!(rule, plugin = plan.name, "closing the old version failed: {fault}"),
        None => {
            tracing::error!(rule, plugin = plan.name, "the old version did not close within {} s", FAREWELL.as_secs())
        }
    }
    position
}

/// The new instance takes over.
async fn moved(plan: &Plan, seat: &Seat, next: Next, position: Option<Value>, report: Option<Report>) -> Box<Guest> {
    let Next { fit, mut guest, states, link } = next;
    let rule = plan.owner();
    let (before, now) = (lock(&seat.runs).fitted.symbol, fit.fitted.symbol);
    let carried = Carry::between(&before, &fit.fitted.symbol).carry(&lock(&seat.states), &states);
    if !carried {
        tracing::warn!(
            rule,
            plugin = plan.name,
            "the new version does not say that it can read the state of the old one, and begins without"
        );
        plan.forget();
    }
    if let Some(position) = position.filter(|_| keeps(now) && now.reads(before.state_version.into()))
        && let Err(fault) = guest.resume(&position).await
    {
        tracing::error!(rule, plugin = plan.name, "the new version cannot go on where the old one stood: {fault}");
    }
    if let Some(report) = report {
        guest.report_to(report.clone());
        let link = link.borrow().link.clone();
        report.set(link);
    }
    *lock(&seat.states) = states;
    *lock(&seat.runs) = fit;
    plan.place.tell();
    Box::new(guest)
}

#[async_trait::async_trait]
impl Sink for Seated {
    async fn connect(&mut self, report: Report) -> Result<()> {
        self.report = Some(report.clone());
        // What was made ready is connected.
        let moves = self.turn();
        let guest = self.here().await?;
        if moves { Ok(()) } else { guest.connect(report).await }
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped> {
        let guest = self.here().await.map_err(|fault| Stopped { delivered: 0, fault })?;
        let result = guest.deliver(parcels).await;
        if self.plan.place.tap.is_on() {
            match &result {
                Ok(()) => self.show(parcels, parcels.len(), None),
                Err(stopped) => self.show(parcels, stopped.delivered, Some(&stopped.fault)),
            }
        }
        result
    }

    fn refused(&mut self) -> Vec<RefusedRow> {
        match &mut self.hand {
            Hand::Here(guest) => guest.refused(),
            _ => Vec::new(),
        }
    }

    async fn idle(&mut self) {
        loop {
            if self.here().await.is_err() {
                return std::future::pending().await;
            }
            let Hand::Here(guest) = &mut self.hand else { continue };
            tokio::select! {
                () = guest.idle() => return std::future::pending().await,
                () = self.seat.bell.notified() => {}
            }
        }
    }

    async fn position(&mut self) -> Result<Option<Value>> {
        self.here().await?.position().await
    }

    async fn resume(&mut self, position: &Value) -> Result<()> {
        self.here().await?.resume(position).await
    }

    async fn close(&mut self) -> Result<()> {
        // What waits to be taken, or tried, is not.
        let (next, attempt) = (lock(&self.seat.next).take(), lock(&self.seat.attempt).take());
        drop((next, attempt));
        self.here().await?.close().await
    }
}
