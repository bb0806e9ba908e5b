//! A gate before an inlet: through it one source after another can give to the same feed, and each message comes from one
//! of them. A source behind a gate that waits is held up, behind one that is shut it is told that its inlet is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::{Chunk, Closed, Inlet, Message};
use crate::data::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Waits,
    Open,
    Shut,
}

/// Who lets a source through.
#[derive(Clone)]
pub struct Gate(Arc<Hinge>);

struct Hinge {
    passage: watch::Sender<Passage>,
    /// Where the source stood after what went through last, if it said so. Held while something goes through.
    last: Mutex<Option<Value>>,
    /// Looks at all that goes through.
    watcher: Box<Watcher>,
}

type Watcher = dyn Fn(&[Message]) + Send + Sync;

impl Gate {
    /// Another way into an inlet; nothing goes through before it is opened, and the watcher sees all that does.
    pub fn before(inlet: &Inlet, watcher: impl Fn(&[Message]) + Send + Sync + 'static) -> (Inlet, Gate) {
        let (passage, _) = watch::channel(Passage::Waits);
        let gate = Gate(Arc::new(Hinge { passage, last: Mutex::default(), watcher: Box::new(watcher) }));
        (Inlet { to: inlet.to.clone(), gate: Some(gate.clone()) }, gate)
    }

    pub fn open(&self) {
        self.0.passage.send_if_modified(|passage| {
            let waits = *passage == Passage::Waits;
            if waits {
                *passage = Passage::Open;
            }
            waits
        });
    }

    /// What comes is held up until it is opened again, or shut.
    pub fn hold(&self) {
        let _held = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.passage.send_if_modified(|passage| {
            let open = *passage == Passage::Open;
            if open {
                *passage = Passage::Waits;
            }
            open
        });
    }

    /// Nothing goes through any more; what is held up has not gone through. Gives where the source stood then.
    pub fn shut(&self) -> Option<Value> {
        // What is on its way through arrives before.
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.passage.send_replace(Passage::Shut);
        last.clone()
    }

    pub fn is_shut(&self) -> bool {
        *self.0.passage.borrow() == Passage::Shut
    }

    /// Returns when it is shut.
    pub async fn closed(&self) {
        // The sender is in here.
        let _ = self.0.passage.subscribe().wait_for(|passage| *passage == Passage::Shut).await;
    }

    pub(super) async fn pass(&self, to: &mpsc::Sender<Chunk>, chunk: Chunk) -> Result<(), Closed> {
        let mut passage = self.0.passage.subscribe();
        loop {
            if passage.wait_for(|passage| *passage != Passage::Waits).await.is_err() {
                return Err(Closed);
            }
            let room = tokio::select! {
                biased;
                room = to.reserve() => room.map_err(|_| Closed)?,
                _ = passage.wait_for(|passage| *passage == Passage::Shut) => return Err(Closed),
            };
            let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = *self.0.passage.borrow();
            match now {
                Passage::Shut => return Err(Closed),
                Passage::Open => {
                    self.give(last, chunk, room);
                    return Ok(());
                }
                Passage::Waits => {}
            }
        }
    }

    fn give(&self, mut last: MutexGuard<'_, Option<Value>>, chunk: Chunk, room: mpsc::Permit<'_, Chunk>) {
        if chunk.position.is_some() {
            last.clone_from(&chunk.position);
        }
        (self.0.watcher)(&chunk.messages);
        room.send(chunk);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::io::Payload;

    fn message(text: &'static str) -> Vec<Message> {
        let payload = Payload::Bytes(text.into());
        vec![Message { payload, time: Time(0), meta: None, ack: None, delivery: None }]
    }

    #[tokio::test]
    async fn what_a_shut_gate_refused_has_not_arrived() {
        let (inlet, mut chunks) = Inlet::bounded(1);
        let (first, gate) = Gate::before(&inlet, |_| ());
        gate.open();
        assert_eq!(first.send_at(message("a"), Some(Value::Int(1))).await, Ok(()));
        // There is no room for the next.
        let held = tokio::spawn({
            let first = first.clone();
            async move { first.send_at(message("b"), Some(Value::Int(2))).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.shut(), Some(Value::Int(1)));
        assert_eq!(held.await.unwrap(), Err(Closed));
        first.closed().await;
        let (second, gate) = Gate::before(&inlet, |_| ());
        gate.open();
        gate.hold();
        let waits = tokio::spawn(async move { second.send(message("c")).await });
        assert_eq!(chunks.recv().await.unwrap()[0].payload, Payload::Bytes("a".into()));
        tokio::task::yield_now().await;
        assert!(chunks.try_recv().is_err());
        gate.open();
        assert_eq!(waits.await.unwrap(), Ok(()));
        assert_eq!(chunks.recv().await.unwrap()[0].payload, Payload::Bytes("c".into()));
        assert_eq!(gate.shut(), None);
    }

    #[tokio::test]
    async fn an_inlet_that_is_gone_closes_every_way_into_it() {
        let (inlet, chunks) = Inlet::bounded(1);
        let (through, gate) = Gate::before(&inlet, |_| ());
        gate.open();
        drop(chunks);
        through.closed().await;
        assert_eq!(through.send(message("a")).await, Err(Closed));
        assert!(!gate.is_shut());
    }
}
