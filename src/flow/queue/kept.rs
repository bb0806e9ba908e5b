use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, Semaphore};

use super::{Limits, Queue, Seen, Sum};
use crate::diag::Result;
use crate::store::Store;

/// Rows that left a queue without being delivered, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thrown {
    /// The queue was full.
    pub full: u64,
    /// They had waited too long.
    pub old: u64,
    /// They could not be read any more.
    pub damaged: u64,
    /// A user removed them.
    pub removed: u64,
}

impl Thrown {
    /// Rows and the reason under which a sink counts them as dropped.
    pub fn reasons(&self) -> [(u64, &'static str); 4] {
        [
            (self.full, "queue full"),
            (self.old, "queue age"),
            (self.damaged, "queue damaged"),
            (self.removed, "queue drop"),
        ]
    }

    /// What an account has, by reason, of them.
    pub fn of(dropped: impl Fn(&str) -> u64) -> Thrown {
        let [full, old, damaged, removed] = Thrown::default().reasons().map(|(_, reason)| dropped(reason));
        Thrown { full, old, damaged, removed }
    }

    pub(super) fn plus(self, more: Thrown) -> Thrown {
        Thrown {
            full: self.full + more.full,
            old: self.old + more.old,
            damaged: self.damaged + more.damaged,
            removed: self.removed + more.removed,
        }
    }
}

/// Whose queue it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub rule: String,
    /// Type and place among the actions, as `mqtt_0`.
    pub sink: String,
}

/// An open queue, for all who have to do with it.
pub struct Kept {
    queue: Mutex<Queue>,
    /// As it was after the last work on it, for who must not wait for the disk.
    empty: AtomicBool,
    waits: AtomicBool,
    threw: AtomicBool,
    /// Held by the outlet that fills and empties it; there is one at a time.
    pub seat: Arc<tokio::sync::Mutex<()>>,
    /// Something has changed that the outlet should look at.
    pub work: Notify,
    /// Something has left that is not noted yet.
    pub owes: Notify,
}

impl Kept {
    fn new(queue: Queue) -> Kept {
        let kept = Kept {
            queue: Mutex::new(queue),
            empty: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            threw: AtomicBool::new(false),
            seat: Arc::default(),
            work: Notify::new(),
            owes: Notify::new(),
        };
        kept.with(|_| ());
        kept
    }

    /// Works on the queue. Blocks.
    pub fn with<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut queue);
        self.empty.store(queue.is_empty(), Ordering::Release);
        self.waits.store(queue.waits(), Ordering::Release);
        self.threw.store(queue.thrown != Thrown::default(), Ordering::Release);
        if queue.owes_note() {
            self.owes.notify_one();
        }
        result
    }

    /// Nothing lies in it, and nothing of it is in the hands of a sink.
    pub fn is_empty(&self) -> bool {
        self.empty.load(Ordering::Acquire)
    }

    /// Something lies in it that can be taken.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Takes what was thrown away since the last time. Blocks only where something was.
    pub fn thrown(&self) -> Thrown {
        match self.threw.load(Ordering::Acquire) {
            true => self.with(Queue::tell),
            false => Thrown::default(),
        }
    }
}

/// A queue as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub place: Place,
    pub sum: Sum,
    /// A rule that runs fills or empties it.
    pub in_use: bool,
}

/// What was in a queue that is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Removed {
    pub place: Place,
    pub sum: Sum,
}

/// All queues of a data folder. All calls block.
pub struct Queues {
    store: Arc<Store>,
    open: Mutex<HashMap<Place, Weak<Kept>>>,
    /// So many are opened at one time, however many rules begin.
    pub gate: Semaphore,
}

impl Queues {
    pub fn new(store: Arc<Store>) -> Self {
        Queues { store, open: Mutex::default(), gate: Semaphore::new(4) }
    }

    /// Opens a queue, and makes it when it is not there. One that is open already is shared, and takes the new limits.
    pub fn open(&self, place: &Place, limits: Option<Limits>) -> Result<Arc<Kept>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, kept| kept.strong_count() > 0);
        if let Some(kept) = open.get(place).and_then(Weak::upgrade) {
            if let Some(limits) = limits {
                kept.with(|queue| queue.limit(limits));
            }
            return Ok(kept);
        }
        let folder = self.store.queues(&place.rule, &place.sink);
        let (queue, recovered) = Queue::open(&folder, limits.unwrap_or_default())?;
        if !recovered.is_clean() {
            tracing::warn!(rule = place.rule, sink = place.sink, "the queue was damaged: {recovered}");
        }
        let kept = Arc::new(Kept::new(queue));
        open.insert(place.clone(), Arc::downgrade(&kept));
        Ok(kept)
    }

    fn opened(&self, place: &Place) -> Option<Arc<Kept>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(place).and_then(Weak::upgrade)
    }

    fn places(&self, rule: Option<&str>) -> Result<Vec<Place>> {
        let all = self.store.all_queues()?.into_iter().map(|(rule, sink)| Place { rule, sink });
        Ok(all.filter(|place| rule.is_none_or(|rule| place.rule == rule)).collect())
    }

    /// The queues of a rule, or all.
    pub fn list(&self, rule: Option<&str>) -> Result<Vec<Standing>> {
        let places = self.places(rule)?;
        let standing = |place: Place| {
            let kept = self.open(&place, None)?;
            let (in_use, sum) = (kept.seat.try_lock().is_err(), kept.with(|queue| queue.sum()));
            Ok(Standing { place, sum, in_use })
        };
        places.into_iter().map(standing).collect()
    }

    /// Parcels of a queue from that sequence on, at most so many; `None` where there is no such queue.
    pub fn look(&self, place: &Place, from: u64, most: usize) -> Result<Option<Vec<Seen>>> {
        if !self.places(Some(&place.rule))?.contains(place) {
            return Ok(None);
        }
        let kept = self.open(place, None)?;
        kept.with(|queue| queue.look(from, most)).map(Some)
    }

    /// Throws away what waits in a queue, whether its rule runs or not; `None` where there is no such queue.
    pub fn clear(&self, place: &Place) -> Result<Option<Removed>> {
        if !self.places(Some(&place.rule))?.contains(place) {
            return Ok(None);
        }
        let kept = self.open(place, None)?;
        // Where no sink runs, the next one finds in the queue how much it was.
        let sum = kept.with(Queue::remove);
        kept.work.notify_one();
        Ok(Some(Removed { place: place.clone(), sum }))
    }

    /// Deletes all queues of a rule that does not run any more. Says what was in those that were not empty.
    pub fn remove(&self, rule: &str) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        for place in self.places(Some(rule))? {
            let kept = self.open(&place, None)?;
            let sum = kept.with(|queue| queue.sum());
            self.delete(&place, kept)?;
            if sum.messages > 0 {
                removed.push(Removed { place, sum });
            }
        }
        self.store.forget_queues(rule)?;
        Ok(removed)
    }

    fn delete(&self, place: &Place, kept: Arc<Kept>) -> Result<()> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
        drop(kept);
        self.store.forget_queue(&place.rule, &place.sink)
    }

    /// Whether an outlet has that queue.
    pub fn in_use(&self, place: &Place) -> bool {
        self.opened(place).is_some_and(|kept| kept.seat.try_lock().is_err())
    }
}
