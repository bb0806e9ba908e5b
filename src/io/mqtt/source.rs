//! The mqtt source: one task that reads, keeps the connection alive, and acknowledges what has come home.
//!
//! A full pipeline stops the reading and nothing else: pings and acknowledgements go on. Acknowledgements are written in
//! the order in which the messages came, as the standard asks, whatever order they come home in. Each connection is a
//! generation; those of an older one are dropped, for the broker gives its messages again, and by then the same packet id
//! may stand for another message. When the broker has sent more than is good without an acknowledgement, reading
//! stops too, since not every broker keeps to its own limit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::clock::{Clock, Stopwatch, within};
use crate::data::{Acknowledge, Delivery, Meta, Object, SourceAck, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::{End, Inlet, Link, Message, Payload, Report, Source, SourcePlan, SourceSpec};

use super::dial::{Backoff, Dialer, KEEP_ALIVE, closed, lost, taken_over};
use super::options::{RECEIVE_MAXIMUM, read_source};
use super::wire::{Ack, Packet, Publish, Version, Wire};

/// Messages of a chunk.
const CHUNK: usize = 512;

/// So many messages, or bytes of them, may be without acknowledgement before reading stops.
const HELD: usize = 2 * RECEIVE_MAXIMUM as usize;
const HELD_BYTES: u64 = 64 << 20;

/// A burst that comes sooner after the last is followed by a pause of this length: one wake-up for many messages.
const PACE: Duration = Duration::from_millis(1);

/// How long a stopped source waits for acknowledgements.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long its good-bye to the broker may take.
const GOODBYE: Duration = Duration::from_millis(500);

pub(super) fn plan(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let (options, mut warnings) = read_source(&spec.props)?;
    let subscription = options.check(&spec.env, &spec.stream, spec.wants_acks, &mut warnings)?;
    let subscription = Arc::new(subscription);
    let identity = subscription.dialer.identity();
    let (wants_meta, clock, owner) = (spec.wants_meta, spec.env.clock, spec.env.owner);
    let wants_acks = spec.wants_acks && subscription.qos > 0;
    let open = move || {
        Ok(Box::new(MqttSource {
            filters: subscription.filters.clone(),
            qos: subscription.qos,
            end: subscription.end.clone(),
            dialer: subscription.dialer.clone(),
            wants_meta,
            wants_acks,
            clock: clock.clone(),
            owner: owner.clone(),
            home: Arc::default(),
            held: Held::default(),
            generation: 0,
            resumed: false,
            subscribed: false,
            cut_short: 0,
            backoff: Backoff::default(),
        }) as Box<dyn Source>)
    };
    Ok(SourcePlan { open: Box::new(open), gives_rows: false, seeks: false, warnings, identity })
}

struct MqttSource {
    filters: Vec<String>,
    qos: u8,
    /// The message that ends the stream.
    end: Option<Bytes>,
    dialer: Dialer,
    wants_meta: bool,
    wants_acks: bool,
    clock: Clock,
    owner: String,
    home: Arc<Home>,
    held: Held,
    /// Of the connection.
    generation: u16,
    /// The broker has the session of the connection before.
    resumed: bool,
    /// The broker has confirmed the subscription since this process began: a session that it knows may have none.
    subscribed: bool,
    /// Connections in a row that were closed right after they were made.
    cut_short: u32,
    backoff: Backoff,
}

/// What was given and is not acknowledged, in this generation.
#[derive(Default)]
struct Held {
    /// In the order in which it came.
    all: VecDeque<Waiting>,
    /// The number of the first of them.
    first: u64,
    bytes: u64,
    /// The most at once, which tells how large the broker's window is.
    most: usize,
    /// Given up by the pipeline: the broker has to send them again.
    refused: usize,
}

/// A message that is not acknowledged.
struct Waiting {
    id: u16,
    qos: u8,
    kib: u16,
    /// It has come home, and may be acknowledged.
    home: Option<bool>,
}

impl Held {
    /// Takes note of a message, and gives its number.
    fn add(&mut self, id: u16, qos: u8, length: usize) -> u64 {
        let kib = (length >> 10).min(u16::MAX.into()) as u16;
        self.bytes += u64::from(kib) << 10;
        self.all.push_back(Waiting { id, qos, kib, home: None });
        self.most = self.most.max(self.all.len());
        self.first + self.all.len() as u64 - 1
    }

    /// The message of that number has come home.
    fn done(&mut self, number: u64, good: bool) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(waiting) = place.and_then(|place| self.all.get_mut(place)) {
            waiting.home = Some(good);
        }
    }

    /// The next message to be acknowledged: none has come before it that is still on its way. Those that were given up
    /// have no acknowledgement.
    fn next(&mut self) -> Option<(u16, u8)> {
        while let Some(Waiting { id, qos, kib, home: Some(good) }) = self.all.front() {
            let (id, qos, kib, good) = (*id, *qos, *kib, *good);
            self.all.pop_front();
            self.first += 1;
            self.bytes -= u64::from(kib) << 10;
            if good {
                return Some((id, qos));
            }
            self.refused += 1;
        }
        None
    }
}

/// Where acknowledgements come home, from any thread.
#[derive(Default)]
struct Home {
    done: Mutex<Vec<(u64, bool)>>,
    bell: Notify,
}

impl Acknowledge for Home {
    fn done(&self, id: u64, good: bool) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((id, good));
        // The first of a batch wakes the source, which then takes all.
        if done.len() == 1 {
            self.bell.notify_one();
        }
    }
}

impl Home {
    fn take(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A message to be acknowledged, as a number: generation, and number in it.
#[derive(Clone, Copy)]
struct Ticket {
    generation: u16,
    number: u64,
}

impl Ticket {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 48 | self.number & (u64::MAX >> 16)
    }

    fn of(packed: u64) -> Ticket {
        Ticket { generation: (packed >> 48) as u16, number: packed & (u64::MAX >> 16) }
    }
}

/// Why a connection ended, in a sentence.
type Trouble = String;

#[async_trait::async_trait]
impl Source for MqttSource {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        loop {
            let alive = match self.connect(&inlet, &report).await {
                Ok(None) => return Ok(End::Closed),
                Ok(Some(mut line)) => {
                    let alive = Stopwatch::start();
                    match line.serve(self, &inlet, &report).await {
                        Ok(end) => {
                            self.leave(line, &inlet).await;
                            return Ok(end);
                        }
                        Err(trouble) => {
                            let trouble = self.ended(trouble, alive.elapsed());
                            report.set(Link::Disconnected(trouble));
                        }
                    }
                    alive.elapsed()
                }
                Err(trouble) => {
                    report.set(Link::Disconnected(trouble));
                    Duration::ZERO
                }
            };
            if alive > Duration::from_secs(5) {
                self.backoff.reset();
            }
            let pause = self.backoff.next();
            tokio::select! {
                _ = sleep(pause) => {}
                _ = inlet.closed() => return Ok(End::Closed),
            }
        }
    }

    async fn forget(&mut self) -> Result<()> {
        if !self.dialer.keeps_session {
            return Ok(());
        }
        self.dialer.forget().await.map_err(Fault::unreachable)
    }
}

impl MqttSource {
    /// Makes a new connection and subscribes where that is needed. `None` when the inlet was closed.
    async fn connect(&mut self, inlet: &Inlet, report: &Report) -> Result<Option<Line>, Trouble> {
        let dialed = tokio::select! {
            dialed = self.dialer.dial(self.wants_meta) => dialed,
            _ = inlet.closed() => return Ok(None),
        };
        let (mut wire, greeting) = dialed?;
        self.generation = self.generation.wrapping_add(1);
        self.held = Held::default();
        self.resumed = greeting.session;
        // What the broker kept comes first, and may fill the pipeline before the broker answers to SUBSCRIBE.
        if greeting.session {
            report.set(Link::Connected);
        }
        if !(greeting.session && self.subscribed) {
            if self.subscribed && self.dialer.keeps_session {
                tracing::warn!("`{}`: the broker has lost the session, and what it stored in it", self.owner);
            }
            self.subscribed = false;
            wire.put_subscribe(&self.filters, self.qos);
            wire.flush().await.map_err(|error| lost(&error))?;
        }
        let keep_alive = greeting.keep_alive.unwrap_or(KEEP_ALIVE).clamp(2, KEEP_ALIVE);
        let mut ticks = interval(Duration::from_secs(keep_alive.into()) / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Ok(Some(Line { wire, ticks, quiet: 0, chunk: Vec::new(), last: Stopwatch::start() }))
    }

    /// What to say of a connection that ended, and to make of it.
    fn ended(&mut self, trouble: Trouble, alive: Duration) -> Trouble {
        // Whatever comes home of it now is of no use any more.
        self.generation = self.generation.wrapping_add(1);
        self.cut_short = if alive < Duration::from_secs(2) { self.cut_short + 1 } else { 0 };
        if self.cut_short >= 3 { format!("{trouble}; {}", taken_over(&self.dialer.client_id)) } else { trouble }
    }

    /// Writes the acknowledgements that have come home; they leave with the next flush.
    fn acknowledge(&mut self, wire: &mut Wire) {
        for (packed, good) in self.home.take() {
            let ticket = Ticket::of(packed);
            if ticket.generation == self.generation {
                self.held.done(ticket.number, good);
            }
        }
        while let Some((id, qos)) = self.held.next() {
            wire.put_ack(if qos == 2 { Ack::Pubrec } else { Ack::Puback }, id);
        }
    }

    fn is_full(&self) -> bool {
        self.held.all.len() >= HELD || self.held.bytes >= HELD_BYTES
    }

    /// Waits for the acknowledgements of what was given, and says good-bye. What has not come home by then is given again
    /// to the next who asks.
    async fn leave(&mut self, mut line: Line, inlet: &Inlet) {
        // After the end of the stream the pipeline has all the time that it needs; when it is gone, it has a little.
        tokio::select! {
            _ = line.settle(self) => {}
            _ = inlet.closed() => {
                let _ = within(FAREWELL, line.settle(self)).await;
            }
        }
        line.wire.put_disconnect();
        let goodbye = async { line.wire.flush().await.is_ok() && line.wire.shutdown().await.is_ok() };
        let _ = within(GOODBYE, goodbye).await;
    }

    fn message(&mut self, publish: Publish) -> Message {
        let Publish { qos, again, id, topic, properties, payload } = publish;
        let meta = topic.map(|topic| {
            let mut meta = Object::with_capacity(4);
            meta.insert("topic", Value::Text(topic));
            meta.insert("qos", Value::Int(qos.into()));
            meta.insert("messageId", Value::Int(id.into()));
            if let Some(properties) = properties {
                meta.insert("properties", Value::object(properties));
            }
            Meta::new(meta)
        });
        let ack = (self.wants_acks && qos > 0).then(|| {
            let number = self.held.add(id, qos, payload.len());
            let ticket = Ticket { generation: self.generation, number };
            SourceAck::new(self.home.clone(), ticket.pack())
        });
        // Without the session the broker has no numbers from before.
        let again = again && self.resumed;
        let delivery = (qos > 0).then_some(Delivery { id, again, digest: 0, line: self.generation });
        // The time is that of the chunk, set there once for all.
        Message { payload: Payload::Bytes(payload), time: Default::default(), meta, ack, delivery }
    }
}

/// A connection that is being served.
struct Line {
    wire: Wire,
    /// Twice in the time after which the broker must have heard of us.
    ticks: Interval,
    /// Ticks since the broker was heard.
    quiet: u32,
    chunk: Vec<Message>,
    /// Since the last burst.
    last: Stopwatch,
}

impl Line {
    /// Serves the connection until it breaks, the stream ends, or no one wants it any more.
    async fn serve(&mut self, source: &mut MqttSource, inlet: &Inlet, report: &Report) -> Result<End, Trouble> {
        let home = source.home.clone();
        // What came together with the greeting.
        if let Some(end) = self.burst(source, inlet, report).await? {
            return Ok(end);
        }
        loop {
            source.acknowledge(&mut self.wire);
            self.wire.flush().await.map_err(|error| lost(&error))?;
            tokio::select! {
                biased;
                _ = inlet.closed() => return Ok(End::Closed),
                _ = home.bell.notified() => {}
                _ = self.ticks.tick() => self.tick(source)?,
                filled = self.wire.fill(), if !source.is_full() => {
                    filled.map_err(|error| lost(&error))?;
                    self.quiet = 0;
                    if let Some(end) = self.burst(source, inlet, report).await? {
                        return Ok(end);
                    }
                }
            }
            let busy = self.last.elapsed() < PACE;
            self.last = Stopwatch::start();
            if busy && self.may_pause(source) {
                sleep(PACE).await;
            }
        }
    }

    /// Whether a pause costs no throughput: at QoS 1 and 2 a broker with a small window waits for us.
    fn may_pause(&self, source: &MqttSource) -> bool {
        source.qos == 0 || source.dialer.version == Version::V5 || source.held.most > 20
    }

    /// Takes all packets that were read, and gives their messages.
    async fn burst(&mut self, source: &mut MqttSource, inlet: &Inlet, report: &Report) -> Result<Option<End>, Trouble> {
        let mut given = Vec::new();
        loop {
            let packet = self.wire.next()?;
            let full = self.chunk.len() >= CHUNK;
            if (packet.is_none() || full) && !self.chunk.is_empty() {
                if let Some(end) = self.give(source, inlet).await? {
                    return Ok(Some(end));
                }
                for (qos, id) in given.drain(..) {
                    self.wire.put_ack(if qos == 2 { Ack::Pubrec } else { Ack::Puback }, id);
                }
            }
            match packet {
                None => return Ok(None),
                Some(Packet::Publish(publish)) => {
                    let (qos, id) = (publish.qos, publish.id);
                    if source.end.as_ref() == Some(&publish.payload) {
                        if qos > 0 {
                            self.wire.put_ack(if qos == 2 { Ack::Pubrec } else { Ack::Puback }, id);
                        }
                        return Ok(Some(self.give(source, inlet).await?.unwrap_or(End::Finished)));
                    }
                    if qos > 0 && !source.wants_acks {
                        given.push((qos, id));
                    }
                    if self.chunk.capacity() == 0 {
                        self.chunk.reserve(64);
                    }
                    let message = source.message(publish);
                    self.chunk.push(message);
                }
                Some(Packet::Ack(Ack::Pubrel, id, _)) => self.wire.put_ack(Ack::Pubcomp, id),
                Some(Packet::Subscribed(answers)) => {
                    for (filter, answer) in source.filters.iter().zip(answers) {
                        match answer {
                            Ok(qos) if qos < source.qos => {
                                tracing::warn!("`{}`: the broker grants `{filter}` at QoS {qos} only", source.owner)
                            }
                            Ok(_) => {}
                            Err(why) => {
                                return Err(format!("the broker refuses the subscription to `{filter}`: {why}"));
                            }
                        }
                    }
                    source.subscribed = true;
                    report.set(Link::Connected);
                }
                Some(Packet::Closed(reason)) => return Err(closed(reason, &source.dialer.client_id)),
                Some(Packet::Ack(..) | Packet::Pong | Packet::Connected(_)) => {}
            }
        }
    }

    /// Gives the chunk and waits as long as the pipeline is full, while pings and acknowledgements go on. When the
    /// connection breaks meanwhile, the chunk is still given.
    async fn give(&mut self, source: &mut MqttSource, inlet: &Inlet) -> Result<Option<End>, Trouble> {
        let mut chunk = std::mem::take(&mut self.chunk);
        let now = source.clock.now();
        chunk.iter_mut().for_each(|message| message.time = now);
        let home = source.home.clone();
        let sending = inlet.send(chunk);
        tokio::pin!(sending);
        let mut trouble = None;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    return match (sent, trouble) {
                        (Err(_), _) => Ok(Some(End::Closed)),
                        (Ok(()), Some(trouble)) => Err(trouble),
                        (Ok(()), None) => Ok(None),
                    };
                }
                _ = home.bell.notified(), if trouble.is_none() => source.acknowledge(&mut self.wire),
                _ = self.ticks.tick(), if trouble.is_none() => self.wire.put_ping(),
            }
            if trouble.is_none() {
                trouble = self.wire.flush().await.err().map(|error| lost(&error));
            }
        }
    }

    /// Writes acknowledgements until all have come home.
    async fn settle(&mut self, source: &mut MqttSource) -> std::io::Result<()> {
        let home = source.home.clone();
        loop {
            source.acknowledge(&mut self.wire);
            self.wire.flush().await?;
            if source.held.all.is_empty() {
                return Ok(());
            }
            tokio::select! {
                _ = home.bell.notified() => {}
                _ = self.ticks.tick() => self.wire.put_ping(),
            }
        }
    }

    fn tick(&mut self, source: &mut MqttSource) -> Result<(), Trouble> {
        if source.held.refused > 0 {
            return Err("some messages were not taken; the broker is asked to send them again".into());
        }
        // While we do not read, we cannot hear it either.
        if !source.is_full() {
            self.quiet += 1;
        }
        if self.quiet > 3 {
            return Err(format!("the broker has been silent for {} s", KEEP_ALIVE / 2 * 3));
        }
        self.wire.put_ping();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tickets_survive_the_way_as_numbers() {
        let back = Ticket::of(Ticket { generation: 0xFEDC, number: 0xBA98_7654_3210 }.pack());
        assert_eq!((back.generation, back.number), (0xFEDC, 0xBA98_7654_3210));
    }

    #[test]
    fn acknowledgements_wait_for_those_before_them() {
        let mut held = Held::default();
        let numbers: Vec<u64> = (1..6).map(|id| held.add(id, 1, 2048)).collect();
        held.done(numbers[2], true);
        held.done(numbers[1], false);
        assert_eq!(held.next(), None);
        held.done(numbers[0], true);
        assert_eq!([held.next(), held.next(), held.next()], [Some((1, 1)), Some((3, 1)), None]);
        assert_eq!((held.all.len(), held.bytes, held.most, held.refused), (2, 4096, 5, 1));
        // One of a connection before has no place any more.
        held.done(numbers[0], true);
        held.done(numbers[3], true);
        held.done(numbers[4], true);
        assert_eq!([held.next(), held.next(), held.next()], [Some((4, 1)), Some((5, 1)), None]);
        assert_eq!((held.add(9, 2, 0), held.bytes), (5, 0));
    }

    #[tokio::test]
    async fn one_bell_rings_for_many_acknowledgements() {
        let home = Arc::new(Home::default());
        for id in 0..100 {
            SourceAck::new(home.clone(), id).settle();
        }
        home.bell.notified().await;
        assert_eq!(home.take().len(), 100);
        drop(SourceAck::new(home.clone(), 7));
        home.bell.notified().await;
        assert_eq!(home.take(), [(7, false)]);
    }
}
