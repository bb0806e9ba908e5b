//! The bounded channel between two tasks of a rule. It counts the rows that wait in it, since a batch may be one row or
//! some hundred. A lane that waits holds few batches, so that a slow end is felt at the other one soon; a lane that
//! drops holds as many rows as its user asked for, so that a burst gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, watch};

/// Batches that wait in a lane which makes its giver wait.
const BATCHES: usize = 4;

/// What a full lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Who gives waits.
    Wait,
    /// What is given is dropped when more rows than this would wait.
    Drop(usize),
}

/// What goes through a lane.
pub trait Load {
    /// How many rows it is.
    fn weight(&self) -> usize;
}

/// A lane has room for many loads from its beginning, so that large ones are better boxed.
impl<T: Load> Load for Box<T> {
    fn weight(&self) -> usize {
        T::weight(self)
    }
}

/// Why a lane did not take a load.
pub enum Refused<T> {
    /// There is no room yet; to be given again with [`Giver::send`].
    Full(T),
    /// There is no room, and the user wants it dropped then.
    Dropped(T),
    /// No one is at the other end any more.
    Closed(T),
}

/// A lane and its two ends.
pub fn lane<T: Load>(overflow: Overflow) -> (Giver<T>, Taker<T>) {
    let room = match overflow {
        Overflow::Wait => BATCHES,
        Overflow::Drop(rows) => rows.clamp(1, 1 << 20),
    };
    let (to, from) = mpsc::channel(room);
    let waiting = Arc::<AtomicUsize>::default();
    let (gone, here) = watch::channel(());
    (Giver { to, waiting: waiting.clone(), overflow, here }, Taker { from, waiting, gone: Arc::new(gone) })
}

pub struct Giver<T> {
    to: mpsc::Sender<T>,
    waiting: Arc<AtomicUsize>,
    overflow: Overflow,
    /// Says by being there that something may be given still.
    here: watch::Receiver<()>,
}

impl<T> Clone for Giver<T> {
    fn clone(&self) -> Self {
        Giver { to: self.to.clone(), waiting: self.waiting.clone(), overflow: self.overflow, here: self.here.clone() }
    }
}

impl<T: Load> Giver<T> {
    /// Gives without waiting.
    pub fn offer(&self, load: T) -> Result<(), Refused<T>> {
        let rows = load.weight();
        let before = self.waiting.fetch_add(rows, Ordering::Relaxed);
        let refused = match self.overflow {
            Overflow::Drop(most) if before > 0 && before + rows > most => {
                if self.to.is_closed() {
                    Refused::Closed(load)
                } else {
                    Refused::Dropped(load)
                }
            }
            overflow => match self.to.try_send(load) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Closed(load)) => Refused::Closed(load),
                Err(mpsc::error::TrySendError::Full(load)) if overflow == Overflow::Wait => Refused::Full(load),
                Err(mpsc::error::TrySendError::Full(load)) => Refused::Dropped(load),
            },
        };
        self.waiting.fetch_sub(rows, Ordering::Relaxed);
        Err(refused)
    }

    /// Gives, and waits for room; gives the load back when no one is at the other end any more. Dropped before it
    /// returns, the load is gone.
    pub async fn send(&self, load: T) -> Result<(), T> {
        let rows = load.weight();
        match self.to.reserve().await {
            Ok(room) => {
                self.waiting.fetch_add(rows, Ordering::Relaxed);
                room.send(load);
                Ok(())
            }
            Err(_) => Err(load),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }
}

pub struct Taker<T> {
    from: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
    gone: Arc<watch::Sender<()>>,
}

/// Tells when all who give into a lane are gone, and with them what they had in their hands for it.
pub struct Givers(Arc<watch::Sender<()>>);

impl Givers {
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

impl<T: Load> Taker<T> {
    /// The next load; `None` when no more can come. Cancelled, it has taken nothing.
    pub async fn take(&mut self) -> Option<T> {
        let load = self.from.recv().await;
        self.count(&load);
        load
    }

    /// The next load if one is there.
    pub fn take_now(&mut self) -> Option<T> {
        let load = self.from.try_recv().ok();
        self.count(&load);
        load
    }

    fn count(&self, load: &Option<T>) {
        if let Some(load) = load {
            self.waiting.fetch_sub(load.weight(), Ordering::Relaxed);
        }
    }

    /// Who gives; it outlives the lane.
    pub fn givers(&self) -> Givers {
        Givers(self.gone.clone())
    }

    /// The loads that wait.
    pub fn loads(&self) -> usize {
        self.from.len()
    }

    /// The rows that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes no more from outside, and gives what is inside, to the last load.
    pub async fn drain(&mut self, mut with: impl FnMut(T)) {
        self.from.close();
        // A load that is being given at this moment still comes; `try_recv` would miss it.
        while let Some(load) = self.take().await {
            with(load);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    impl Load for u8 {
        fn weight(&self) -> usize {
            usize::from(*self)
        }
    }

    #[tokio::test]
    async fn a_lane_that_waits_takes_few_batches_and_gives_the_rest_back() {
        let (to, mut from) = lane::<u8>(Overflow::Wait);
        let taken = (0..20).take_while(|_| to.offer(100).is_ok()).count();
        assert_eq!((taken, from.waiting()), (BATCHES, BATCHES * 100));
        assert!(matches!(to.offer(7), Err(Refused::Full(7))));
        assert_eq!((from.take().await, from.waiting()), (Some(100), (BATCHES - 1) * 100));
        assert!(to.offer(7).is_ok());
    }

    #[tokio::test]
    async fn a_lane_that_drops_counts_rows_and_takes_at_least_one_load() {
        let (to, mut from) = lane::<u8>(Overflow::Drop(10));
        assert!(to.offer(200).is_ok());
        assert!(matches!(to.offer(1), Err(Refused::Dropped(1))));
        from.take().await;
        assert_eq!((0..20).filter(|_| to.offer(1).is_ok()).count(), 10);
        assert_eq!(from.waiting(), 10);
    }

    #[tokio::test]
    async fn givers_are_gone_when_the_last_is_though_the_lane_has_ended_before() {
        let (to, from) = lane::<u8>(Overflow::Wait);
        let (other, givers) = (to.clone(), from.givers());
        drop(from);
        let mut gone = std::pin::pin!(givers.gone());
        drop(to);
        assert!((&mut gone).now_or_never().is_none());
        drop(other);
        gone.await;
    }

    #[tokio::test]
    async fn a_load_that_was_being_given_at_the_end_is_not_lost() {
        let (to, mut from) = lane::<u8>(Overflow::Wait);
        let room = to.to.reserve().await.unwrap();
        let mut drained = Vec::new();
        let draining = from.drain(|load| drained.push(load));
        let giving = async {
            tokio::task::yield_now().await;
            room.send(3);
        };
        tokio::join!(draining, giving);
        assert_eq!(drained, [3]);
        assert!(matches!(to.offer(1), Err(Refused::Closed(1))));
        assert_eq!(to.send(1).await, Err(1));
    }
}
