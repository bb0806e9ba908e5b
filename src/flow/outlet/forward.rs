//! Store and forward: what a sink cannot take now goes to its disk queue and is sent later, in order.
//!
//! Two sides work at one time. The front makes parcels and puts them into the [`Store`]: into memory while the sink keeps
//! up, else on the disk, where their receipts are settled. The back gives them to the sink. Once something lies on the
//! disk all that comes goes behind it, so that the order stays; what was in memory is put there first. Parcels go to the
//! disk when the sink is away, when it has not confirmed them within [`HELD`], and when memory holds as many as it may.
//!
//! With a *side queue* (`resendAlterQueue`) live parcels go past the disk, and a second sink sends what lies there. While
//! the disk cannot be written the front waits, and so do the rule and its source.

mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};

use crate::clock::{Clock, Time, pass};
use crate::data::Fate;
use crate::diag::{Fault, Result, Retry, Whose};
use crate::flow::load::{Load, Promises};
use crate::flow::queue::{Kept, Queue, Thrown, frame_of};
use crate::flow::shape::{Keeping, Priority};
use crate::io::{Parcel, Sink};
use crate::meter::{NodeMeter, SinkAccount};

use super::courier::{Attempt, Courier};
use super::{idle, stop};

/// Parcels that a sink has not confirmed after so long go to the disk, so that no source waits for them.
const HELD: Duration = Duration::from_secs(1);
/// How long a delivery may go on after a stop.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How often a disk that cannot be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What one back gives to its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// What is in memory, then what lies on the disk.
    All,
    /// What is in memory.
    Live,
    /// What lies on the disk.
    Stored,
}

impl Work {
    /// Where its flight is.
    fn slot(self) -> usize {
        usize::from(self == Work::Stored)
    }
}

/// Parcels in the hands of a sink.
struct Flight {
    parcels: Arc<Vec<Parcel>>,
    promises: Promises,
}

struct State {
    memory: Load,
    /// Of the back that empties the memory, and of the one of a side queue.
    flights: [Option<Flight>; 2],
    /// The sinks take what comes, as far as one knows.
    up: [bool; 2],
    /// The front gives no more.
    ended: bool,
    /// Before this nothing is taken from the disk.
    paced: Time,
}

/// What the sides of an outlet share.
pub(super) struct Store {
    kept: Arc<Kept>,
    keeping: Keeping,
    /// Parcels of the disk have a sink of their own.
    pub aside: bool,
    state: Mutex<State>,
    /// Something may be there for the back of the memory.
    live: Notify,
    /// There may be room for the front.
    room: Notify,
    stopped: watch::Receiver<bool>,
    clock: Clock,
    account: Arc<SinkAccount>,
    meter: Arc<NodeMeter>,
    name: String,
}

impl Store {
    pub fn new(kept: Arc<Kept>, keeping: Keeping, aside: bool, courier: &Courier) -> Store {
        let (account, meter) = (courier.account.clone(), courier.meter.clone());
        let memory = Load::new(account.clone(), meter.clone());
        let state = State { memory, flights: [None, None], up: [true; 2], ended: false, paced: Time(0) };
        Store {
            kept,
            keeping,
            aside,
            state: Mutex::new(state),
            live: Notify::new(),
            room: Notify::new(),
            stopped: courier.stopped.clone(),
            clock: courier.clock.clone(),
            account,
            meter,
            name: courier.name.clone(),
        }
    }

    /// Works on the queue where that may block. What is thrown away by it is counted by the caller.
    async fn queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Queue) -> T + Send + 'static,
    ) -> Result<(T, Thrown)> {
        let kept = self.kept.clone();
        let done = tokio::task::spawn_blocking(move || {
            let result = kept.with(work);
            (result, kept.thrown())
        });
        done.await.map_err(|_| Fault::bug("the work on a queue did not end"))
    }

    /// Counts what was thrown away.
    fn threw(&self, thrown: Thrown) {
        for (rows, reason) in thrown.reasons().into_iter().filter(|(rows, _)| *rows > 0) {
            self.account.unqueued(rows);
            self.account.dropped(reason, rows);
            tracing::warn!(sink = self.name, "{rows} rows have left the queue undelivered: {reason}");
        }
    }

    /// The front gives no more.
    pub async fn end(&self) {
        self.state.lock().await.ended = true;
        self.wake();
    }

    fn wake(&self) {
        self.live.notify_one();
        self.kept.work.notify_one();
        self.room.notify_one();
    }

    /// Puts parcels into memory or on the disk; waits while neither has room. False when it was stopped meanwhile.
    pub async fn put(&self, load: &mut Load) -> bool {
        let mut stopped = self.stopped.clone();
        let mut told = false;
        while !load.parcels().is_empty() {
            let mut state = self.state.lock().await;
            let waiting = state.memory.parcels().len();
            let fits = waiting == 0 || waiting + load.parcels().len() <= self.keeping.memory;
            // Who gives may have found nothing a moment ago.
            self.meter.owes(self.clock.now());
            if fits && state.up[0] && (self.aside || self.kept.is_empty()) {
                state.memory.append(load);
                self.wake();
                return true;
            }
            let State { memory, flights, .. } = &mut *state;
            let written = match self.aside {
                // Their order does not matter.
                true => self.write(None, false, &mut [load]).await,
                // What flies came first.
                false => self.write(flights[0].as_mut(), true, &mut [memory, load]).await,
            };
            drop(state);
            self.wake();
            let Err(fault) = written else { return true };
            self.full(&fault, &mut told);
            if *stopped.borrow() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.room.notified() => tokio::time::sleep(AGAIN / 20).await,
                () = stop(&mut stopped) => {}
            }
        }
        true
    }

    /// The disk cannot be written.
    fn full(&self, fault: &Fault, told: &mut bool) {
        let text = format!("the queue of the sink `{}` cannot be written, and the rule waits: {fault}", self.name);
        if !*told {
            tracing::error!("{text}");
        }
        *told = true;
        self.meter.failed(text, self.clock.now());
    }

    /// Brings parcels to the disk: those of a flight, if they are not there, and those of loads. After a fault nothing has
    /// changed.
    async fn write(&self, flight: Option<&mut Flight>, flies: bool, loads: &mut [&mut Load]) -> Result<()> {
        let now = self.clock.now();
        let flight = flight.filter(|flight| !flight.promises.are_on_disk());
        let mut bodies: Vec<(Vec<u8>, bool)> = Vec::new();
        let mut put = |parcel: &Parcel, rows: u32, flies: bool| {
            let mut body = Vec::new();
            bodies.push(frame_of(&mut body, &self.keeping.marked(parcel), rows, now).map(|()| (body, flies))?);
            Ok(())
        };
        if let Some(flight) = &flight {
            let mut left = flight.parcels[flight.promises.at()..].iter().zip(flight.promises.each());
            left.try_for_each(|(parcel, rows)| put(parcel, rows, flies))?;
        }
        loads.iter().flat_map(|load| load.each()).try_for_each(|(parcel, rows)| put(parcel, rows, false))?;
        if bodies.is_empty() {
            return Ok(());
        }
        let written = self.queue(move |queue| {
            for (body, flies) in &bodies {
                queue.append(body, *flies).inspect_err(|_| queue.discard())?;
            }
            queue.commit(now)
        });
        let (written, thrown) = written.await?;
        if written.is_ok() {
            if let Some(flight) = flight {
                flight.promises.stored();
            }
            loads.iter_mut().for_each(|load| load.stored());
        }
        self.threw(thrown);
        written
    }

    /// Gives parcels to the sink until none can come any more, or it is stopped; a fault is one that the rule cannot go on
    /// with.
    pub async fn give(&self, courier: &mut Courier, work: Work) -> Option<Fault> {
        let mut sink: Option<Box<dyn Sink>> = None;
        let fault = self.serve(courier, &mut sink, work).await;
        if let Some(sink) = sink {
            courier.close(sink).await;
        }
        fault
    }

    async fn serve(&self, courier: &mut Courier, sink: &mut Option<Box<dyn Sink>>, work: Work) -> Option<Fault> {
        let mut tries = 0;
        loop {
            let fault = loop {
                let result = match sink {
                    None => courier.make().map(|opened| *sink = Some(opened)),
                    Some(sink) => match self.dial(courier, sink.as_mut(), work).await? {
                        Ok(()) => break self.deliver(courier, sink.as_mut(), work, &mut tries).await?,
                        fault => fault,
                    },
                };
                if let Err(fault) = result {
                    break fault;
                }
            };
            if fault.retry() == Retry::Never {
                return Some(fault);
            }
            self.wait(courier, work, &fault, &mut tries).await?;
        }
    }

    /// Tries once to connect; `None` when it was stopped meanwhile.
    async fn dial(&self, courier: &mut Courier, sink: &mut dyn Sink, work: Work) -> Option<Result<()>> {
        let dial = self.unless_stopped(courier.dial(sink));
        tokio::pin!(dial);
        let dialled = loop {
            tokio::select! {
                biased;
                done = &mut dial => break done??,
                () = self.clock.sleep(HELD), if work != Work::Stored => self.slow(work).await,
            }
        };
        self.state.lock().await.up[work.slot()] |= dialled.is_ok();
        self.wake();
        Some(dialled)
    }

    /// Delivers until a fault that is of no single row; `None` when no more can come.
    async fn deliver(&self, courier: &mut Courier, sink: &mut dyn Sink, work: Work, tries: &mut u32) -> Option<Fault> {
        loop {
            let (parcels, at) = self.next(sink, work).await?;
            let Attempt { delivered, refused, fault } = self.fly(courier, sink, work, &parcels[at..]).await?;
            let row = fault.as_ref().filter(|fault| fault.whose() == Whose::Row);
            if delivered > 0 || row.is_some() {
                *tries = 0;
            }
            self.landed(courier, work, delivered, &refused, row).await;
            if let Some(fault) = fault.filter(|fault| fault.whose() != Whose::Row) {
                courier.report.doubt();
                return Some(fault);
            }
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            () = stop(&mut stopped) => None,
            done = work => Some(done),
        }
    }

    /// Nothing comes that is in the hands of the other back.
    fn rests(&self, state: &State, work: Work) -> bool {
        match work {
            // What a live sink cannot take goes to the disk up to the end.
            Work::Stored => state.memory.parcels().is_empty() && state.flights[0].is_none(),
            Work::All | Work::Live => state.flights[0].is_none(),
        }
    }

    /// The sink is away: what is in memory goes to the disk, and then one waits. `None` when it was stopped meanwhile.
    async fn wait(&self, courier: &mut Courier, work: Work, fault: &Fault, tries: &mut u32) -> Option<()> {
        courier.away(fault);
        self.down(work).await;
        if courier.retrying.is_over(*tries) && work != Work::Live {
            *tries = 0;
            self.give_up(courier, work, fault).await;
        } else {
            self.unless_stopped(courier.pause(*tries)).await?;
            *tries = tries.saturating_add(1);
        }
        // What waits grows old meanwhile.
        let now = self.clock.now();
        if let Ok(((), thrown)) = self.queue(move |queue| queue.bound(now)).await {
            self.threw(thrown);
        }
        (!*self.stopped.borrow()).then_some(())
    }

    /// What the sink did not take goes to the disk, or waits there again, and what is in memory goes behind it.
    async fn down(&self, work: Work) {
        let mut state = self.state.lock().await;
        let State { memory, flights, up, .. } = &mut *state;
        up[work.slot()] = false;
        let flight = &mut flights[work.slot()];
        if flight.as_ref().is_some_and(|flight| flight.promises.are_on_disk()) {
            *flight = None;
            if let Err(fault) = self.queue(Queue::rewind).await {
                self.full(&fault, &mut false);
            }
        }
        if work != Work::Stored {
            match self.write(flight.as_mut(), false, &mut [memory]).await {
                Ok(()) => *flight = None,
                // It is given to the sink again from memory.
                Err(fault) => self.full(&fault, &mut false),
            }
        }
        drop(state);
        self.wake();
    }

    /// The first parcel has been tried as often as the user allows.
    async fn give_up(&self, courier: &mut Courier, work: Work, fault: &Fault) {
        let slot = work.slot();
        if self.state.lock().await.flights[slot].is_none() && self.take(work, 1).await.is_none() {
            return;
        }
        let mut state = self.state.lock().await;
        let Some(flight) = &mut state.flights[slot] else { return };
        let (parcel, rows) = (flight.parcels[flight.promises.at()].clone(), flight.promises.rows());
        courier.bury(fault, Fate::DeadRetries, rows, &parcel, None, flight.promises.take());
        let stored = flight.promises.are_on_disk();
        drop(state);
        if !stored || self.told(courier).await {
            self.finish(&mut *self.state.lock().await, work, 1).await;
        }
    }

    /// The parcels that are next, and the first of them that is not settled; waits for them, and the sink may keep its
    /// connection alive meanwhile. `None` when no more can come, or only after a pause.
    async fn next(&self, sink: &mut dyn Sink, work: Work) -> Option<(Arc<Vec<Parcel>>, usize)> {
        let mut stopped = self.stopped.clone();
        loop {
            let stopping = *stopped.borrow();
            let mut paced = None;
            {
                let mut state = self.state.lock().await;
                if let Some(flight) = &state.flights[work.slot()] {
                    return Some((flight.parcels.clone(), flight.promises.at()));
                }
                let behind = self.keeping.priority == Priority::Stored && state.up[1] && self.kept.waits();
                if work != Work::Stored && !state.memory.parcels().is_empty() && !(work == Work::Live && behind) {
                    let (parcels, promises) = state.memory.split();
                    let parcels = Arc::new(parcels);
                    state.flights[0] = Some(Flight { parcels: parcels.clone(), promises });
                    return Some((parcels, 0));
                }
                let live_first = work == Work::Stored && self.keeping.priority == Priority::Live && state.up[0];
                let behind = live_first && !(state.memory.parcels().is_empty() && state.flights[0].is_none());
                if work != Work::Live && self.kept.waits() && !stopping && !behind {
                    if state.paced <= self.clock.now() {
                        drop(state);
                        let most = if self.keeping.resend_interval.is_zero() { self.keeping.limits.page } else { 1 };
                        match self.take(work, most).await {
                            Some(taken) => return Some(taken),
                            None => continue,
                        }
                    }
                    paced = Some(state.paced);
                }
                if self.kept.is_empty()
                    && state.memory.parcels().is_empty()
                    && state.flights.iter().all(Option::is_none)
                {
                    self.meter.owes_nothing();
                }
                let empty = work == Work::Live || self.kept.is_empty();
                if state.ended && (stopping || empty && self.rests(&state, work)) {
                    return None;
                }
            }
            let paced = async {
                match paced {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.live.notified(), if work != Work::Stored => {}
                () = self.kept.work.notified(), if work != Work::Live => self.threw(self.kept.thrown()),
                () = paced => {}
                () = stop(&mut stopped), if !stopping => {}
                () = pass(GRACE), if stopping => return None,
                () = idle(sink) => {}
            }
        }
    }

    /// Takes parcels from the disk into flight.
    async fn take(&self, work: Work, most: usize) -> Option<(Arc<Vec<Parcel>>, usize)> {
        let now = self.clock.now();
        let mut state = self.state.lock().await;
        let taken = self.queue(move |queue| queue.take(most, now)).await;
        let taken = taken.and_then(|(taken, thrown)| {
            self.threw(thrown);
            taken
        });
        let taken = match taken {
            Ok(taken) if taken.is_empty() => return None,
            Ok(taken) => taken,
            Err(fault) => {
                let text = format!("the queue of the sink `{}` cannot be read: {fault}", self.name);
                tracing::error!("{text}");
                self.meter.failed(text, self.clock.now());
                drop(state);
                tokio::time::sleep(AGAIN).await;
                return None;
            }
        };
        let (parcels, rows): (Vec<Parcel>, Vec<u32>) = taken.into_iter().unzip();
        let promises = Promises::on_disk(rows.into_iter(), self.account.clone(), self.meter.clone());
        let parcels = Arc::new(parcels);
        state.flights[work.slot()] = Some(Flight { parcels: parcels.clone(), promises });
        Some((parcels, 0))
    }

    /// Gives parcels to the sink once. When that takes long, what waits for it goes to the disk meanwhile.
    async fn fly(&self, courier: &mut Courier, sink: &mut dyn Sink, work: Work, parcels: &[Parcel]) -> Option<Attempt> {
        let attempt = courier.attempt(sink, parcels);
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                biased;
                done = &mut attempt => return done,
                () = self.clock.sleep(HELD), if work != Work::Stored => self.slow(work).await,
            }
        }
    }

    /// The sink has not confirmed for long.
    async fn slow(&self, work: Work) {
        let mut state = self.state.lock().await;
        let State { memory, flights, up, .. } = &mut *state;
        let written = match work {
            Work::All => self.write(flights[0].as_mut(), true, &mut [memory]).await,
            // What flies may be confirmed still, and would be sent twice.
            _ => {
                up[0] = false;
                self.write(None, false, &mut [memory]).await
            }
        };
        if let Err(fault) = written {
            self.full(&fault, &mut false);
        }
        drop(state);
        self.wake();
    }

    /// The sink has confirmed parcels; the next one met the fault, which is of a row.
    async fn landed(
        &self,
        courier: &mut Courier,
        work: Work,
        delivered: usize,
        refused: &[crate::io::RefusedRow],
        fault: Option<&Fault>,
    ) {
        let mut state = self.state.lock().await;
        state.up[work.slot()] = true;
        let Some(flight) = &mut state.flights[work.slot()] else { return };
        let (parcels, at) = (flight.parcels.clone(), flight.promises.at());
        flight.promises.delivered(delivered, refused, |one, receipts| {
            let parcel = &parcels[at + one.parcel];
            courier.bury(&one.fault, Fate::dead(&one.fault), 1, parcel, Some(one.row), receipts);
        });
        if let Some(fault) = fault {
            let (parcel, rows) = (&parcels[flight.promises.at()], flight.promises.rows());
            courier.bury(fault, Fate::dead(fault), rows, parcel, None, flight.promises.take());
        }
        if flight.promises.are_on_disk() && (fault.is_some() || !refused.is_empty()) {
            drop(state);
            if !self.told(courier).await {
                return;
            }
            state = self.state.lock().await;
        }
        self.finish(&mut state, work, delivered + usize::from(fault.is_some())).await;
    }

    /// Waits until dead letters are where they go, since the disk lets go of their rows then. False when it was stopped
    /// meanwhile: they stay on the disk, and are tried again.
    async fn told(&self, courier: &Courier) -> bool {
        match &courier.dead {
            Some(route) => self.unless_stopped(route.empty()).await.is_some(),
            None => true,
        }
    }

    /// So many parcels of a flight are settled.
    async fn finish(&self, state: &mut State, work: Work, count: usize) {
        let Some(flight) = &state.flights[work.slot()] else { return };
        if flight.promises.are_on_disk() && count > 0 {
            match self.queue(move |queue| queue.finish(count)).await {
                Ok(((), thrown)) => self.threw(thrown),
                Err(fault) => self.full(&fault, &mut false),
            }
            state.paced = self.clock.now() + self.keeping.resend_interval;
        }
        if flight.promises.left() == 0 {
            state.flights[work.slot()] = None;
        }
        self.wake();
    }
}
