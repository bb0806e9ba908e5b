//! The PUB socket: a thread that accepts, and for each subscriber one that reads its wishes and one that writes to it.
//!
//! A subscriber has a line of [`LINE`] messages; one that is full is passed over, so that a slow subscriber holds up nobody.
//! What a subscriber did not get is counted, whether its line was full or it went before it had all.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kuiper_plugin::{Error, Result};

use crate::endpoint::{Endpoint, Listener, Stream};
use crate::wire::{message, Frame, Peer, Role};

/// Messages that may wait for a subscriber; ZeroMQ's own default.
const LINE: usize = 1_000;
/// For a greeting, and for a subscriber to take some bytes.
const LIMIT: Duration = Duration::from_secs(5);

/// A bound socket; it is closed with the value, after what waits is written.
pub struct Publisher {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    accepts: Option<JoinHandle<()>>,
}

/// Who got a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Subscribers that wish it.
    pub wished: usize,
    /// Those in whose lines it stands.
    pub taken: usize,
}

#[derive(Default)]
struct Shared {
    subscribers: Mutex<Vec<Subscriber>>,
    closed: AtomicBool,
    missed: AtomicU64,
}

struct Subscriber {
    number: u64,
    wishes: Vec<Vec<u8>>,
    line: SyncSender<Arc<[u8]>>,
    stream: Stream,
    writes: Option<JoinHandle<()>>,
}

impl Shared {
    fn subscribers(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Binds.
    pub fn bind(endpoint: &Endpoint) -> Result<Publisher> {
        let listener = endpoint.bind().map_err(|error| Error::from(error).at(endpoint.shown()))?;
        let (listener, shared) = (Arc::new(listener), Arc::new(Shared::default()));
        let accepts = thread::spawn({
            let (listener, shared) = (listener.clone(), shared.clone());
            move || accept(&listener, &shared)
        });
        Ok(Publisher { shared, listener, accepts: Some(accepts) })
    }

    /// Gives a message to all whose wishes it meets. Without a topic the message itself is what they choose by.
    pub fn publish(&self, topic: &[u8], payload: &[u8]) -> Given {
        let (first, bytes): (&[u8], Vec<u8>) = match topic {
            b"" => (payload, message(&[payload])),
            topic => (topic, message(&[topic, payload])),
        };
        let bytes: Arc<[u8]> = bytes.into();
        let mut given = Given { wished: 0, taken: 0 };
        for subscriber in self.shared.subscribers().iter() {
            if !subscriber.wishes.iter().any(|wish| first.starts_with(wish)) {
                continue;
            }
            match subscriber.line.try_send(bytes.clone()) {
                Ok(()) => {
                    given.wished += 1;
                    given.taken += 1;
                }
                Err(TrySendError::Full(_)) => {
                    given.wished += 1;
                    self.shared.missed.fetch_add(1, Ordering::Relaxed);
                }
                // It is gone, and is taken off the list by whoever reads from it.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        given
    }

    /// Messages that subscribers did not get.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    /// Closes it, and says how many messages subscribers did not get in all its life.
    pub fn close(self) -> u64 {
        let shared = self.shared.clone();
        drop(self);
        shared.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.listener.wake();
        // A thread that panicked has said so.
        let _ = self.accepts.take().map(JoinHandle::join);
        let all = std::mem::take(&mut *self.shared.subscribers());
        for Subscriber { line, stream, writes, .. } in all {
            drop(line);
            let _ = writes.map(JoinHandle::join);
            stream.shut();
        }
    }
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    let mut number = 0;
    while !shared.closed.load(Ordering::SeqCst) {
        let Ok(stream) = listener.accept() else {
            // Too many files are open: some will be closed.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        number += 1;
        let (shared, number) = (shared.clone(), number);
        if !shared.closed.load(Ordering::SeqCst) {
            thread::spawn(move || serve(stream, number, &shared));
        }
    }
}

/// Greets a subscriber, and then reads its wishes until it is gone.
fn serve(stream: Stream, number: u64, shared: &Arc<Shared>) {
    // What does not greet, or is no subscriber, is let go.
    let greeted = stream.limit(Some(LIMIT), Some(LIMIT)).and_then(|()| Peer::greet(stream, Role::Publisher));
    let Ok(mut peer) = greeted else { return };
    let handles =
        peer.stream().limit(None, Some(LIMIT)).and_then(|()| Ok((peer.stream().twin()?, peer.stream().twin()?)));
    let Ok((writer, handle)) = handles else { return };
    let (line, waiting) = sync_channel(LINE);
    let writes = thread::spawn({
        let shared = shared.clone();
        move || write(writer, &waiting, &shared)
    });
    let subscriber = Subscriber { number, wishes: Vec::new(), line, stream: handle, writes: Some(writes) };
    {
        let mut all = shared.subscribers();
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        all.push(subscriber);
    }
    while let Ok(frame) = peer.frame() {
        if let Some(subscriber) = shared.subscribers().iter_mut().find(|one| one.number == number) {
            wish(&mut subscriber.wishes, frame);
        }
    }
    shared.subscribers().retain(|one| one.number != number);
}

/// Subscriptions are messages of one frame, or commands.
fn wish(wishes: &mut Vec<Vec<u8>>, frame: Frame) {
    let (wanted, topic) = match (frame.command, frame.body.split_first()) {
        (false, Some((1, topic))) => (true, topic),
        (false, Some((0, topic))) => (false, topic),
        (true, _) if frame.body.starts_with(b"\x09SUBSCRIBE") => (true, &frame.body[10..]),
        (true, _) if frame.body.starts_with(b"\x06CANCEL") => (false, &frame.body[7..]),
        _ => return,
    };
    if wanted {
        wishes.push(topic.to_vec());
    } else if let Some(at) = wishes.iter().position(|one| one == topic) {
        wishes.remove(at);
    }
}

fn write(mut stream: Stream, waiting: &Receiver<Arc<[u8]>>, shared: &Shared) {
    while let Ok(bytes) = waiting.recv() {
        if stream.write_all(&bytes).is_err() {
            // Whoever reads from it hears of it.
            stream.shut();
            let lost = 1 + waiting.try_iter().count();
            shared.missed.fetch_add(lost as u64, Ordering::Relaxed);
            return;
        }
    }
}
