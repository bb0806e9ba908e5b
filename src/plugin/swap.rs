//! A new version of a plugin takes the place of the one that runs, while rules use it.
//!
//! First every use has instances of the new version made ready beside the old ones: provisioned and connected, and
//! waiting. Where one cannot be, nothing has happened, and the answer says whose it was. Then the new edition is put into
//! its place, and each use moves at its own barrier: a sink between two deliveries, a source after its last emission, a
//! function between two batches, a lookup between two questions. The old instance is closed before the new one is given
//! anything, so that the order of rows stays. State goes along where the new version says that it can read it.

mod function;
mod lookup;
mod plan;
mod sink;
mod source;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::func::Catalogue;

use super::name::{self, Kind};
use super::tap::Line;
use super::uses::{Edition, Place, Ready, Use, names};
use super::{Description, Install, Plugins, Refusal};

pub use function::{Call, Groups};
pub use lookup::plan as plan_lookup;
pub use sink::plan as plan_sink;
pub use source::plan as plan_source;

/// Says what rules have against the functions that there will be.
pub type Judge<'a> = dyn Fn(&Catalogue) -> Result<(), String> + 'a;

/// How long instances of a new version may take to be made ready.
const PREPARE: Duration = Duration::from_secs(30);
/// How long an answer waits for uses to move.
const MOVE: Duration = Duration::from_secs(10);
/// How long an old instance may take to end before the new one goes on without it.
const FAREWELL: Duration = Duration::from_secs(5);

impl Plugins {
    /// Replaces a plugin that is there, while rules use it: see `swap`. The judge is asked what rules have against the
    /// functions that there will be. Blocks, until the rules have moved, but not for ever.
    ///
    /// # Errors
    /// Why it cannot be, and then nothing has changed.
    pub fn swap(
        &self,
        kind: Kind,
        wish: &Install,
        zip: &Path,
        judge: &Judge<'_>,
    ) -> Result<(Description, Moved), Refusal> {
        let _changing = self.changing();
        self.present(kind, &wish.name)?;
        self.put(kind, wish, zip, judge)
    }

    /// Rules, and streams and tables that rules share, which have something of a plugin open.
    pub fn users(&self, kind: Kind, name: &str) -> Vec<String> {
        self.place(kind, name).users()
    }

    /// The last rows that went through a plugin, after the one of that number, and the number of the last one. They are
    /// kept from the first look on, as long as looks follow.
    pub fn rows(&self, kind: Kind, name: &str, after: u64) -> Result<(u64, Vec<Line>), Refusal> {
        self.present(kind, name)?;
        Ok(self.place(kind, name).tap.look(after))
    }

    pub(super) fn place(&self, kind: Kind, name: &str) -> Arc<Place> {
        self.state().places.of(&(kind, name::canonical(name)))
    }
}

/// What became of a swap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moved {
    /// Rules, and streams and tables that rules share, which run on the new version now.
    pub moved: Vec<String>,
    /// Those which finish something first, and move then.
    pub late: Vec<String>,
    /// Those which came meanwhile and cannot move, and why.
    pub stayed: Vec<String>,
    /// Those whose state the new version does not say that it can read; it begins without.
    pub forgot: Vec<String>,
}

/// A swap whose instances are ready. Dropped, it has not happened.
pub struct Swap {
    place: Arc<Place>,
    next: Arc<Edition>,
    uses: Vec<Arc<dyn Use>>,
}

impl Swap {
    /// Makes instances of the next edition ready. Blocks. The error names who it is for that it fails.
    pub fn prepare(place: &Arc<Place>, next: &Arc<Edition>) -> Result<Swap, String> {
        let mut swap = Swap { place: place.clone(), next: next.clone(), uses: Vec::new() };
        let wrong = swap.make_ready(place.uses());
        if wrong.is_empty() { Ok(swap) } else { Err(wrong.join("; ")) }
    }

    /// Makes ready what these uses need, and keeps those that are; gives why others are not.
    fn make_ready(&mut self, uses: Vec<Arc<dyn Use>>) -> Vec<String> {
        let next = &self.next;
        let ready = all(uses.iter().map(|one| one.prepare(next)).collect(), PREPARE);
        let mut wrong = Vec::new();
        let mut in_turn = Vec::new();
        for (one, ready) in uses.into_iter().zip(ready) {
            match ready {
                Some(Ok(Ready::Beside)) => self.uses.push(one),
                Some(Ok(Ready::InTurn(why))) => in_turn.push((one, why)),
                Some(Err(why)) => wrong.push((one, why)),
                None => wrong.push((one, format!("it was not ready within {} s", PREPARE.as_secs()))),
            }
        }
        // Nobody is stopped for a version that cannot be taken anyway.
        for (one, why) in in_turn {
            let ready = wrong.is_empty().then(|| all(vec![one.prepare_in_turn(next)], PREPARE).pop().flatten());
            match ready {
                Some(Some(Ok(()))) => self.uses.push(one),
                Some(Some(Err(again))) => wrong.push((one, again)),
                Some(None) => wrong.push((one, format!("it was not ready within {} s", PREPARE.as_secs()))),
                None => wrong.push((one, why)),
            }
        }
        wrong.iter().for_each(|(one, _)| one.abandon());
        wrong.into_iter().map(|(one, why)| named(&one.owner(), &why)).collect()
    }

    /// Puts the edition into its place, and waits for the uses to move, but not for ever.
    pub fn commit(mut self) -> Moved {
        self.place.put(Some(self.next.clone()));
        self.uses.iter().for_each(|one| one.commit(&self.next));
        let (next, place) = (self.next.number, self.place.clone());
        let rests = move |one: &Arc<dyn Use>| one.open().iter().all(|(_, number)| *number == next);
        // Rules that were started meanwhile opened the old one.
        let known = self.uses.len();
        let is_known = |one: &Arc<dyn Use>| self.uses.iter().any(|two| Arc::ptr_eq(one, two));
        let strays = place.uses().into_iter().filter(|one| one.is_awaited() && !rests(one) && !is_known(one));
        let stayed = self.make_ready(strays.collect());
        self.uses[known..].iter().for_each(|one| one.commit(&self.next));
        let uses = std::mem::take(&mut self.uses);
        place.wait(MOVE, || uses.iter().all(|one| !one.is_awaited() || rests(one)));
        let open = |of_next: bool| {
            let all = uses.iter().flat_map(|one| one.open());
            names(all.filter(|(_, number)| (*number == next) == of_next).map(|(owner, _)| owner))
        };
        let forgot = names(uses.iter().filter(|one| one.forgot()).map(|one| one.owner()));
        Moved { moved: open(true), late: open(false), stayed, forgot }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.uses.iter().for_each(|one| one.abandon());
    }
}

fn named(owner: &str, why: &str) -> String {
    if owner.is_empty() { why.to_owned() } else { format!("`{owner}`: {why}") }
}

/// Wakes the thread that waits.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs all of them on this thread, at most so long; nothing in the place of those that were not done by then.
fn all<T>(mut work: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>, limit: Duration) -> Vec<Option<T>> {
    let watch = Stopwatch::start();
    let waker = Waker::from(Arc::new(Bell(thread::current())));
    let mut done: Vec<Option<T>> = work.iter().map(|_| None).collect();
    loop {
        let waiting = work.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none());
        for (work, done) in waiting {
            if let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                *done = Some(result);
            }
        }
        let left = limit.saturating_sub(watch.elapsed());
        if left.is_zero() || done.iter().all(Option::is_some) {
            return done;
        }
        thread::park_timeout(left);
    }
}
