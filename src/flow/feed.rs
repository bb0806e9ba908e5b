//! One source, decoded once, for the rules that subscribe to it.
//!
//! A private feed has one subscriber and decodes straight into the slots of its rule. A shared feed decodes the union of
//! what its rules ask and copies to each what it wants. The source and the decoding run in one task: while a rule makes
//! the feed wait, the connector goes on being polled, so that it can answer its broker, and stops reading when its own
//! bounded inlet is full.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Time};
use crate::codec::{self, Decoder, FormatOptions, Wanted, WantedColumn};
use crate::data::{Batch, Fate, Kind, Object, Receipt, Text, Value};
use crate::diag::{Fault, Result, Retry};
use crate::io::{End, Inlet, Link, Message, Payload, Report, SourcePlan};
use crate::meter::NodeMeter;

use super::book::Book;

/// Chunks of messages that wait between a connector and the decoder.
const INLET_CHUNKS: usize = 4;
/// How long a source may take to end by itself once its inlet is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a rule task is given.
pub enum Input {
    Batch(Batch),
    /// The source has given all that it had.
    Finished,
    /// The source cannot go on.
    Failed(Fault),
}

/// How to make a feed.
pub struct FeedSpec {
    pub stream: Text,
    pub source: SourcePlan,
    pub format: FormatOptions,
    /// Declared types, for a shared feed that decodes for several rules.
    pub kinds: Vec<(Text, Kind)>,
    pub clock: Clock,
}

/// A rule that is fed.
pub struct Subscriber {
    pub wanted: Wanted,
    pub book: Arc<Book>,
    pub meter: Arc<NodeMeter>,
    pub to: mpsc::Sender<Input>,
    /// A full channel loses rows, counted, in place of making the source wait.
    pub drop_on_overflow: bool,
}

/// A running feed. The last handle that goes ends it.
pub struct Feed {
    subscribe: mpsc::Sender<(u64, Option<Subscriber>)>,
    link: watch::Receiver<Link>,
}

impl Feed {
    /// Starts the source; it reads once there is a subscriber.
    pub fn start(spec: FeedSpec) -> Feed {
        let (subscribe, commands) = mpsc::channel(16);
        let (report, link) = Report::new();
        // It ends with its last subscriber, whose rule waits for the end of its channel.
        tokio::spawn(Driver::new(spec, commands, report).run());
        Feed { subscribe, link }
    }

    /// Adds a subscriber under an id of the caller's.
    pub async fn subscribe(&self, id: u64, subscriber: Subscriber) -> Result<()> {
        let gone = |_| Fault::unreachable("the source has ended");
        self.subscribe.send((id, Some(subscriber))).await.map_err(gone)
    }

    /// Takes a subscriber off; its channel ends when what was on its way has arrived.
    pub async fn unsubscribe(&self, id: u64) {
        // A feed that has ended has no subscribers left.
        let _ = self.subscribe.send((id, None)).await;
    }

    /// Whether it can take another subscriber.
    pub fn is_open(&self) -> bool {
        !self.subscribe.is_closed()
    }

    /// The state of the source's connection.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }
}

struct Driver {
    spec: FeedSpec,
    commands: mpsc::Receiver<(u64, Option<Subscriber>)>,
    report: Report,
    subscribers: Vec<(u64, Subscriber)>,
    /// Made anew whenever the subscribers change.
    decoding: Option<Decoding>,
    /// The last subscriber wants to go.
    leaving: bool,
}

/// How messages become rows for the present subscribers.
struct Decoding {
    decoder: Option<Box<dyn Decoder>>,
    wanted: Wanted,
    /// Several subscribers: for each, where its slots come from.
    copies: Vec<Copy>,
}

struct Copy {
    /// (from slot of the feed, to slot of the rule)
    slots: Vec<(usize, usize)>,
    /// Slot of the rule for all other columns, and the feed's columns that belong into it.
    rest: Option<(usize, Vec<(Text, usize)>)>,
}

impl Driver {
    fn new(spec: FeedSpec, commands: mpsc::Receiver<(u64, Option<Subscriber>)>, report: Report) -> Self {
        Driver { spec, commands, report, subscribers: Vec::new(), decoding: None, leaving: false }
    }

    async fn run(mut self) {
        // Without a subscriber nothing is read, so that nothing is read for no one.
        while self.subscribers.is_empty() {
            match self.commands.recv().await {
                Some(command) => self.command(command),
                None => return,
            }
        }
        let mut pause = Duration::from_millis(100);
        loop {
            let mut source = match (self.spec.source.open)() {
                Ok(source) => source,
                Err(fault) => return self.fail(fault).await,
            };
            let (inlet, mut chunks) = Inlet::bounded(INLET_CHUNKS);
            let report = self.report.clone();
            let ended = {
                let mut running = std::pin::pin!(source.run(inlet, report));
                tokio::select! {
                    ended = &mut running => Some(ended),
                    _ = self.pump(&mut chunks, true) => {
                        // Closing the inlet tells the connector to end; it may say goodbye to its broker first.
                        chunks.close();
                        let farewell = async {
                            tokio::join!(async { drop((&mut running).await) }, self.pump(&mut chunks, false))
                        };
                        let _ = tokio::time::timeout(FAREWELL, farewell).await;
                        None
                    }
                }
            };
            // What the connector gave before it ended is still on its way.
            self.pump(&mut chunks, false).await;
            match ended {
                None | Some(Ok(End::Closed)) => return,
                Some(Ok(End::Finished)) => return self.tell_all(|| Input::Finished).await,
                Some(Err(fault)) if fault.retry() == Retry::Later => {
                    let now = self.spec.clock.now();
                    self.subscribers.iter().for_each(|(_, one)| one.meter.failed(fault.to_string(), now));
                    self.report.set(Link::Disconnected(fault.to_string()));
                    tokio::select! {
                        _ = tokio::time::sleep(pause) => {}
                        _ = self.idle() => return,
                    }
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                Some(Err(fault)) => return self.fail(fault).await,
            }
        }
    }

    async fn fail(&mut self, fault: Fault) {
        self.report.set(Link::Disconnected(fault.to_string()));
        self.tell_all(|| Input::Failed(fault.clone())).await;
    }

    async fn tell_all(&mut self, input: impl Fn() -> Input) {
        for (_, subscriber) in &self.subscribers {
            // A rule that is gone needs no word.
            let _ = subscriber.to.send(input()).await;
        }
    }

    /// Waits until the feed is dropped, while commands go on being heard.
    async fn idle(&mut self) {
        while let Some(command) = self.commands.recv().await {
            self.command(command);
            if self.leaving {
                return;
            }
        }
    }

    /// The last subscriber stays until what is on its way has arrived; the feed ends with it.
    fn command(&mut self, (id, subscriber): (u64, Option<Subscriber>)) {
        match subscriber {
            Some(subscriber) => self.subscribers.push((id, subscriber)),
            None if matches!(&self.subscribers[..], [(only, _)] if *only == id) => {
                self.leaving = true;
                return;
            }
            None => self.subscribers.retain(|(other, _)| *other != id),
        }
        self.leaving = false;
        self.decoding = None;
    }

    /// Decodes and distributes until the feed is dropped (when it listens to commands) or the inlet has ended.
    async fn pump(&mut self, chunks: &mut mpsc::Receiver<Vec<Message>>, listen: bool) {
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv(), if listen => match command {
                    Some(command) => {
                        self.command(command);
                        if self.leaving {
                            return;
                        }
                    }
                    None => return,
                },
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => self.distribute(chunk).await,
                    None if listen => std::future::pending().await,
                    None => return,
                },
            }
        }
    }

    async fn distribute(&mut self, chunk: Vec<Message>) {
        if self.decoding.is_none() {
            match Decoding::new(&self.spec, &self.subscribers) {
                Ok(decoding) => self.decoding = Some(decoding),
                Err(fault) => return self.fail(fault).await,
            }
        }
        let Some(decoding) = &mut self.decoding else { return };
        let now = self.spec.clock.now();
        let batches = decoding.decode(&chunk, &self.subscribers, now);
        drop(chunk);
        for ((_, subscriber), batch) in self.subscribers.iter().zip(batches) {
            if !batch.is_empty() {
                subscriber.give(batch).await;
            }
        }
    }
}

impl Subscriber {
    async fn give(&self, batch: Batch) {
        self.meter.gave(batch.selected().len() as u64);
        let full = if self.drop_on_overflow {
            match self.to.try_send(Input::Batch(batch)) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(input)) => (input, Fate::DroppedOverflow),
                Err(mpsc::error::TrySendError::Closed(input)) => (input, Fate::Abandoned),
            }
        } else {
            match self.to.send(Input::Batch(batch)).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(input)) => (input, Fate::Abandoned),
            }
        };
        if let (Input::Batch(batch), fate) = full {
            settle_all(batch, fate);
        }
    }
}

/// All selected rows of a batch meet the same fate.
pub fn settle_all(mut batch: Batch, fate: Fate) {
    for row in 0..batch.rows() {
        batch.take_receipt(row).settle(fate);
    }
}

impl Decoding {
    fn new(spec: &FeedSpec, subscribers: &[(u64, Subscriber)]) -> Result<Decoding> {
        let (wanted, copies) = match subscribers {
            [(_, only)] => (only.wanted.clone(), Vec::new()),
            several => {
                let union = union(several.iter().map(|(_, one)| &one.wanted), &spec.kinds);
                let copies = several.iter().map(|(_, one)| Copy::new(&union, &one.wanted)).collect();
                (union, copies)
            }
        };
        let decoder = if spec.source.gives_rows {
            None
        } else {
            let format = codec::format(&spec.format.format).map_err(|found| Fault::setup(found.to_string()))?;
            Some((format.decoder)(&spec.format, &wanted).map_err(|found| Fault::setup(found.to_string()))?)
        };
        Ok(Decoding { decoder, wanted, copies })
    }

    /// The rows of a chunk, for each subscriber in order.
    fn decode(&mut self, chunk: &[Message], subscribers: &[(u64, Subscriber)], now: Time) -> Vec<Batch> {
        let private = self.copies.is_empty();
        let mut decoded = Batch::with_capacity(self.wanted.width, chunk.len());
        // For a shared feed: the message of each row, and of each fault.
        let mut rows_of: Vec<usize> = Vec::new();
        let mut faults_of: Vec<(usize, usize)> = Vec::new();
        for (n, message) in chunk.iter().enumerate() {
            let before = decoded.rows();
            let result = match &message.payload {
                Payload::Bytes(bytes) => match &mut self.decoder {
                    Some(decoder) => decoder.decode(bytes, &mut decoded),
                    None => Err(Fault::bug("a source of rows gave bytes")),
                },
                Payload::Row(object) => {
                    let row = decoded.push(message.time, Receipt::none());
                    self.wanted.fill(object.clone(), row);
                    Ok(1)
                }
                Payload::Error(fault) => {
                    // No row is behind it, so it is told and counted as an exception, and not in the ledger.
                    subscribers.iter().for_each(|(_, one)| one.meter.failed(fault.to_string(), now));
                    decoded.note(before, fault.clone());
                    faults_of.push((before, usize::MAX));
                    continue;
                }
            };
            match result {
                Ok(rows) => {
                    // An empty list is a message like others; no row of it will speak for it.
                    if let (0, Some(ack)) = (rows, &message.ack) {
                        ack.clone().settle();
                    }
                    for row in before..before + rows {
                        rows_of.push(n);
                        let receipt = match subscribers {
                            [(_, only)] if private => Receipt::new(only.book.account(), message.ack.clone()),
                            _ => Receipt::none(),
                        };
                        decoded.stamp(row, message.time, message.meta.as_ref(), receipt);
                    }
                }
                Err(fault) => {
                    subscribers.iter().for_each(|(_, one)| one.meter.failed(fault.to_string(), now));
                    decoded.note(before, fault);
                    faults_of.push((before, n));
                }
            }
        }
        let broken = faults_of.iter().filter(|(_, n)| *n != usize::MAX);
        for (_, one) in subscribers {
            for (_, n) in broken.clone() {
                one.book.ledger.came(1);
                Receipt::new(one.book.account(), chunk[*n].ack.clone()).settle(Fate::DeadDecode);
            }
            one.book.ledger.came(decoded.rows() as u64);
            one.meter.took((decoded.rows() + broken.clone().count()) as u64, now);
        }
        if private {
            return vec![decoded];
        }
        let each = subscribers.iter().zip(&self.copies);
        each.map(|((_, one), copy)| copy.apply(&decoded, chunk, &rows_of, one)).collect()
    }
}

/// What several rules want, put together.
fn union<'a>(all: impl Iterator<Item = &'a Wanted>, kinds: &[(Text, Kind)]) -> Wanted {
    let mut union = Wanted::default();
    let mut known: HashMap<Text, usize> = HashMap::new();
    let mut rest = false;
    for wanted in all {
        rest |= wanted.rest.is_some();
        for column in &wanted.columns {
            if !known.contains_key(&column.name) {
                known.insert(column.name.clone(), union.width);
                let kind = kinds.iter().find(|(name, _)| *name == column.name).map(|(_, kind)| kind.clone());
                union.columns.push(WantedColumn { name: column.name.clone(), slot: union.width, kind });
                union.width += 1;
            }
        }
    }
    if rest {
        union.rest = Some(union.width);
        union.width += 1;
    }
    union
}

impl Copy {
    fn new(from: &Wanted, to: &Wanted) -> Copy {
        let slot = |name: &Text| to.columns.iter().find(|column| column.name == *name).map(|column| column.slot);
        let slots = from.columns.iter().filter_map(|column| Some((column.slot, slot(&column.name)?))).collect();
        let rest = to.rest.map(|rest| {
            let others = from.columns.iter().filter(|column| slot(&column.name).is_none());
            (rest, others.map(|column| (column.name.clone(), column.slot)).collect())
        });
        Copy { slots, rest }
    }

    fn apply(&self, from: &Batch, chunk: &[Message], rows_of: &[usize], to: &Subscriber) -> Batch {
        let mut batch = Batch::with_capacity(to.wanted.width, from.rows());
        let rest_of_feed = from.width().checked_sub(1);
        for (row, message) in rows_of.iter().enumerate() {
            let message = &chunk[*message];
            let source = from.row(row);
            let slots = batch.push(message.time, Receipt::new(to.book.account(), message.ack.clone()));
            for (from, to) in &self.slots {
                slots[*to] = source[*from].clone();
            }
            if let (Some((rest, others)), Some(slot)) = (&self.rest, rest_of_feed) {
                let all = match &source[slot] {
                    Value::Object(all) if others.is_empty() => Value::Object(all.clone()),
                    Value::Object(all) => {
                        let mut all: Object = (**all).clone();
                        for (name, slot) in others {
                            if !matches!(source[*slot], Value::Absent) {
                                all.insert(name.clone(), source[*slot].clone());
                            }
                        }
                        Value::object(all)
                    }
                    _ => Value::object(Object::new()),
                };
                slots[*rest] = all;
            }
            if let Some(meta) = &message.meta {
                batch.set_meta(row, meta);
            }
        }
        for (row, fault) in from.faults() {
            batch.note(*row as usize, fault.clone());
        }
        batch
    }
}
