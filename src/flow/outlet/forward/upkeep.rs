//! What is done for a disk queue beside filling and emptying it: taking it over at the start, noting what has left it and
//! bringing it to the disk meanwhile, and leaving it in order at the end.

use crate::data::Fate;
use crate::diag::{Fault, Result};
use crate::flow::queue::{NOTING, Queue, Thrown};
use crate::store::Sync;

use super::{State, Store};

impl Store {
    /// Takes the queue over: what lies there is part of the account from now on.
    pub async fn begin(&self) -> Result<()> {
        let clear = self.keeping.clear_at_stop;
        let before = self.account.view().dropped;
        let account = Thrown::of(|reason| before.get(reason).copied().unwrap_or_default());
        let ((rows, cleared, thrown), _) = self
            .queue(move |queue| {
                queue.rewind();
                let thrown = queue.settle(account);
                (queue.sum().rows, if clear { queue.clear().rows } else { 0 }, thrown)
            })
            .await?;
        // The account was stored at another moment than the queue noted what it has thrown away.
        thrown.reasons().into_iter().for_each(|(rows, reason)| self.account.recount(reason, rows));
        self.account.came(rows);
        self.account.queued(rows - cleared);
        self.account.dropped("stop", cleared);
        if rows > cleared {
            self.meter.owes(self.clock.now());
        }
        Ok(())
    }

    /// Brings what lies in the queue to the disk now and then, where that is what the user wants. Never ends.
    pub async fn keep_synced(&self) -> Fault {
        let Sync::Interval(span) = self.keeping.limits.sync else { return std::future::pending().await };
        loop {
            tokio::time::sleep(span).await;
            if self.kept.is_empty() {
                continue;
            }
            if let Err(fault) = self.queue(Queue::sync).await.and_then(|(synced, _)| synced) {
                self.full(&fault, &mut false);
            }
        }
    }

    /// Notes what has left the queue soon after it has, also when nothing more leaves. Never ends.
    pub async fn keep_noted(&self) -> Fault {
        loop {
            self.kept.owes.notified().await;
            tokio::time::sleep(NOTING).await;
            let kept = self.kept.clone();
            // What was thrown away is told to who does it, for nothing waits for this at an end.
            if tokio::task::spawn_blocking(move || kept.with(Queue::note)).await.is_err() {
                return Fault::bug("the work on a queue did not end");
            }
        }
    }

    /// Brings to the disk what is in memory when all has ended, or throws away what lies there if the user wants that.
    pub async fn rest(&self) {
        let mut state = self.state.lock().await;
        let State { memory, flights, .. } = &mut *state;
        let clear = self.keeping.clear_at_stop && *self.stopped.borrow();
        let written = match clear {
            true => Ok(()),
            false => self.write(flights[0].as_mut(), !self.aside, &mut [memory]).await,
        };
        let rested = self.queue(move |queue| {
            queue.rewind();
            let cleared = if clear { queue.clear().rows } else { 0 };
            queue.rest().map(|()| cleared)
        });
        match rested.await.and_then(|(rested, thrown)| {
            self.threw(thrown);
            rested
        }) {
            Ok(cleared) => {
                self.account.unqueued(cleared);
                self.account.dropped("stop", cleared);
            }
            Err(fault) => self.full(&fault, &mut false),
        }
        if let Err(fault) = written {
            self.full(&fault, &mut false);
        }
        // What could not be written goes back to the source.
        flights.iter_mut().for_each(|flight| *flight = None);
        memory.settle(usize::MAX, Fate::Abandoned);
    }
}
