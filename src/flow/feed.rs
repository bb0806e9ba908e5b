//! One source, decoded once, for the rules that subscribe to it.
//!
//! A private feed has one subscriber, a shared one several; it reads while it has any, and closes its source when the
//! last has left. The source and the decoding run in one task: while a rule makes the feed wait, the connector goes on
//! being polled, so that it can answer its broker, and stops reading when its own bounded inlet is full; and who wants
//! to join or leave is heard. Nothing that was decoded is dropped by a change of subscribers or by the end of the
//! source. Before the channel of a rule ends, the rule is told why.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::{Clock, pass, within};
use crate::codec::{FormatOptions, Wanted};
use crate::data::{Account, Batch, Fate, Kind, Text, Value};
use crate::diag::{Fault, Result, Retry};
use crate::io::{Chunk, End, Inlet, Link, LinkStatus, Report, Source, SourcePlan};
use crate::meter::NodeMeter;

use super::book::Book;
use super::caught::{caught, ended};
use super::decoding::Decoding;
use super::lane::{Giver, Load, Refused};
use super::seat::{Readers, Seat};
use super::task::Ended;

/// Chunks of messages that wait between a connector and the decoder.
const INLET_CHUNKS: usize = 4;
/// How long a source may take to end by itself once its inlet is closed.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long one who holds a feed waits for what is being given.
const HOLDING: Duration = Duration::from_secs(2);
/// The first and the longest pause between two openings of a source.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Why a rule is no longer fed.
#[derive(Clone, Debug, PartialEq)]
pub enum Close {
    /// It wished so.
    Left,
    /// The source has given all that it had.
    Finished,
    /// The source cannot go on.
    Failed(Fault),
}

/// How to make a feed.
pub struct FeedSpec {
    pub stream: Text,
    pub source: SourcePlan,
    /// Where a source that can seek is to go on; nothing: where it begins.
    pub seek: Option<Value>,
    pub format: FormatOptions,
    /// Declared types, for a shared feed that decodes for several rules.
    pub kinds: Vec<(Text, Kind)>,
    pub clock: Clock,
}

/// Rows of one of the sources of a rule, on their way to it.
pub struct Fed {
    /// Its place among the sources.
    pub source: usize,
    pub batch: Batch,
    /// Where the source stands after it, if that can seek.
    pub position: Option<Value>,
    /// Rows before it that are gone, by reason; counted by whoever logs it.
    pub missed: BTreeMap<&'static str, u64>,
}

/// A rule that is fed, by one of its sources.
pub struct Subscriber {
    /// Its place among the sources of the rule.
    pub source: usize,
    pub wanted: Wanted,
    /// The rule logs its input, and wants to know by what a message is known when it is given again.
    pub logs: bool,
    pub book: Arc<Book>,
    pub meter: Arc<NodeMeter>,
    pub to: Giver<Box<Fed>>,
    /// Told before `to` is dropped.
    pub close: oneshot::Sender<Close>,
}

enum Command {
    Join(u64, Subscriber),
    Leave(u64),
    Hold(Gate),
}

/// Nothing is given to anyone until it is open, or gone.
struct Gate {
    open: watch::Receiver<bool>,
    /// To be told when nothing is being given any more.
    shut: Option<oneshot::Sender<()>>,
}

/// A running feed. It ends when all handles are gone.
pub struct Feed {
    commands: mpsc::Sender<Command>,
    readers: Arc<Readers>,
    link: watch::Receiver<LinkStatus>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts the task; the source is opened once there is a subscriber.
    pub fn start(spec: FeedSpec) -> Feed {
        Feed::start_behind(spec, None)
    }

    /// The same, but while `gate` is false the source is not opened: not all who are to read it may have subscribed.
    pub fn start_behind(spec: FeedSpec, gate: Option<watch::Receiver<bool>>) -> Feed {
        let (commands, heard) = mpsc::channel(16);
        let (report, link) = Report::timed(spec.clock.clone());
        let readers = Arc::new(Readers::new(gate.clone()));
        let gates = gate.into_iter().map(|open| Gate { open, shut: None }).collect();
        let driver = Driver { gates, ..Driver::new(spec, heard, report, readers.clone()) };
        let task = tokio::spawn(driver.run());
        Feed { commands, readers, link, task }
    }

    /// Adds a subscriber under an id of the caller's; `ended` tells when it ends by itself.
    pub async fn subscribe(
        &self,
        id: u64,
        subscriber: Subscriber,
        ended: watch::Receiver<Option<Ended>>,
    ) -> Result<()> {
        self.readers.join(id, ended);
        let gone = |_| Fault::bug("the task of the source has ended");
        self.commands.send(Command::Join(id, subscriber)).await.map_err(gone)
    }

    /// Gives nothing to anyone until what is returned is dropped: a rule that leaves and comes back meanwhile misses
    /// nothing. The source waits, as for a rule that is full. Returns when all has been given that was being given; where
    /// a rule takes it that slowly, some seconds later.
    /// With `keeps` the feed, and so its source, outlives all its rules as long as it is held.
    pub async fn hold(self: Arc<Self>, stream: String, keeps: bool) -> Hold {
        let (held, open) = watch::channel(false);
        let (shut, is_shut) = oneshot::channel();
        // A feed that has ended has nothing to give.
        if self.commands.send(Command::Hold(Gate { open, shut: Some(shut) })).await.is_ok() {
            let _ = within(HOLDING, is_shut).await;
        }
        Hold { stream, _held: held, feed: keeps.then_some(self) }
    }

    /// Takes a subscriber off; its channel ends when what was on its way has arrived.
    pub async fn unsubscribe(&self, id: u64) {
        self.readers.leave(id);
        // A feed that has ended has no subscribers left.
        let _ = self.commands.send(Command::Leave(id)).await;
    }

    /// The connection of the source.
    pub fn link(&self) -> LinkStatus {
        self.link.borrow().clone()
    }

    /// Ends the feed and waits for its task, at most so long.
    pub async fn close(self, patience: Duration) {
        drop(self.commands);
        let _ = ended(self.task, patience).await;
    }
}

/// A feed that gives nothing to anyone, until this is released or dropped.
pub struct Hold {
    pub stream: String,
    _held: watch::Sender<bool>,
    feed: Option<Arc<Feed>>,
}

impl Hold {
    /// Has the feed go on. Where no rule reads it any more it ends, and this waits for that.
    pub async fn release(self) {
        let Hold { feed, _held: held, .. } = self;
        drop(held);
        if let Some(feed) = feed.and_then(Arc::into_inner) {
            feed.close(FAREWELL).await;
        }
    }
}

struct Driver {
    spec: FeedSpec,
    commands: mpsc::Receiver<Command>,
    /// Those that are not open yet: all have to be.
    gates: Vec<Gate>,
    report: Report,
    readers: Arc<Readers>,
    subscribers: Vec<(u64, Subscriber)>,
    /// Made anew whenever the subscribers change.
    decoding: Option<Decoding>,
    /// The last subscriber, which wants to go: it stays until what is on its way has arrived.
    leaver: Option<u64>,
    /// The last subscriber has left this life of the source.
    over: Arc<AtomicBool>,
    /// All handles are gone.
    deserted: bool,
    /// Chunks that came, of all openings.
    chunks: u64,
    /// Where the source stood after the last of them, if it can seek.
    position: Option<Value>,
}

/// The time that a source has left to end by itself.
type Farewell = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source that runs.
struct Run<'s> {
    who: &'s str,
    /// None once it has ended.
    work: Option<Pin<Box<dyn Future<Output = Result<End>> + Send + 's>>>,
    end: Result<End>,
}

impl Run<'_> {
    /// Returns when the source has ended; never when it had before. Cancelled, it can be called again.
    async fn ended(&mut self) {
        let Some(work) = &mut self.work else { return std::future::pending().await };
        let end = caught(self.who, work.as_mut()).await;
        self.end = end.unwrap_or_else(Err);
        self.work = None;
    }

    fn is_over(&self) -> bool {
        self.work.is_none()
    }
}

impl Driver {
    fn new(mut spec: FeedSpec, commands: mpsc::Receiver<Command>, report: Report, readers: Arc<Readers>) -> Self {
        let position = spec.seek.take();
        Driver {
            spec,
            commands,
            gates: Vec::new(),
            report,
            readers,
            subscribers: Vec::new(),
            decoding: None,
            leaver: None,
            over: Arc::default(),
            deserted: false,
            chunks: 0,
            position,
        }
    }

    async fn run(mut self) {
        loop {
            // Without a subscriber nothing is read, so that nothing is read for no one.
            while self.subscribers.is_empty() || (self.is_held() && !self.is_left()) {
                if self.deserted {
                    return;
                }
                let mut gate = self.next_gate();
                tokio::select! {
                    biased;
                    _ = self.hear() => {}
                    _ = opened(&mut gate) => drop(self.gates.remove(0)),
                }
            }
            if self.is_left() {
                self.close(&Close::Left);
                continue;
            }
            let who = format!("the source of `{}`", self.spec.stream);
            let close = caught(&who, self.feed(&who)).await.unwrap_or_else(Close::Failed);
            self.close(&close);
        }
    }

    /// Feeds until there is nothing left to do for the subscribers.
    async fn feed(&mut self, who: &str) -> Close {
        let mut pause = PAUSES.0;
        loop {
            let before = self.chunks;
            self.report.trying();
            let end = match (self.spec.source.open)() {
                Ok(mut source) => match self.seek(source.as_mut()).await {
                    Ok(()) => self.read(who, source.as_mut()).await,
                    Err(fault) => Err(fault),
                },
                Err(fault) => Err(fault),
            };
            if self.is_left() {
                return Close::Left;
            }
            let fault = match end {
                Ok(End::Finished) => return Close::Finished,
                Ok(End::Closed) => Fault::unreachable("the source has closed by itself"),
                Err(fault) if fault.retry() == Retry::Never => return Close::Failed(fault),
                Err(fault) => fault,
            };
            if self.chunks > before {
                pause = PAUSES.0;
            }
            tracing::warn!(stream = %self.spec.stream, "the source stopped: {fault}; opening it again in {pause:?}");
            self.failed(&fault);
            let clock = self.spec.clock.clone();
            let mut pausing = pin!(clock.sleep(pause));
            loop {
                tokio::select! {
                    _ = &mut pausing => break,
                    _ = self.hear() => {
                        self.next_gate();
                        if self.is_left() {
                            return Close::Left;
                        }
                    }
                }
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Has a source that can seek go on where the one before it stood.
    async fn seek(&mut self, source: &mut dyn Source) -> Result<()> {
        match &self.position {
            Some(position) if self.spec.source.seeks => source.seek(position).await,
            _ => Ok(()),
        }
    }

    /// Runs the source to its end, and gives on all that it gives.
    async fn read(&mut self, who: &str, source: &mut dyn Source) -> Result<End> {
        let (inlet, mut chunks) = Inlet::bounded(INLET_CHUNKS);
        let work = source.run(inlet, self.report.clone());
        let mut run = Run { who, work: Some(work), end: Ok(End::Closed) };
        let mut farewell: Option<Farewell> = None;
        let mut dry = false;
        while !(dry && run.is_over()) {
            if self.is_left() && farewell.is_none() {
                farewell = Some(Box::pin(pass(FAREWELL)));
            }
            if farewell.is_some() || run.is_over() {
                // It tells the connector to end, which may say goodbye to its broker first. What it gave before still
                // comes.
                chunks.close();
            }
            let mut gate = self.next_gate();
            tokio::select! {
                biased;
                _ = self.hear(), if !self.deserted => {}
                _ = run.ended() => {}
                _ = over(&mut farewell), if !run.is_over() => run.work = None,
                _ = opened(&mut gate), if !self.is_left() => drop(self.gates.remove(0)),
                chunk = chunks.recv(), if !dry && (!self.is_held() || self.is_left()) => match chunk {
                    Some(chunk) => self.distribute(chunk, &mut run).await?,
                    None => dry = true,
                },
            }
        }
        run.end
    }

    /// Waits for the next wish, and follows it. Cancelled, it has heard nothing.
    async fn hear(&mut self) {
        match self.commands.recv().await {
            Some(Command::Join(id, subscriber)) => {
                self.subscribers.push((id, subscriber));
                self.decoding = None;
            }
            Some(Command::Hold(gate)) => self.gates.push(gate),
            Some(Command::Leave(id)) => self.leave(id),
            None => self.deserted = true,
        }
    }

    fn is_held(&self) -> bool {
        !self.gates.is_empty()
    }

    /// The first gate that is not open yet. To be called while nothing is being given, which those who shut one are told.
    fn next_gate(&mut self) -> Option<watch::Receiver<bool>> {
        for shut in self.gates.iter_mut().filter_map(|gate| gate.shut.take()) {
            // Who does not wait any more needs no word.
            let _ = shut.send(());
        }
        self.gates.first().map(|gate| gate.open.clone())
    }

    fn leave(&mut self, id: u64) {
        let Some(at) = self.subscribers.iter().position(|(other, _)| *other == id) else { return };
        // While it is held the source runs on for who comes back, and what it has given is for that one too.
        if self.subscribers.len() == 1 && !self.is_held() {
            self.leaver = Some(id);
            self.over.store(true, Ordering::Release);
            return;
        }
        let (_, subscriber) = self.subscribers.remove(at);
        let _ = subscriber.close.send(Close::Left);
        self.decoding = None;
    }

    /// No one wants the source as it runs now.
    fn is_left(&self) -> bool {
        self.leaver.is_some() || self.deserted || (self.subscribers.is_empty() && !self.is_held())
    }

    /// Tells why, and lets go: of the one who wanted to leave, or of all.
    fn close(&mut self, close: &Close) {
        self.over = Arc::default();
        // Who comes next begins at the beginning.
        self.position = None;
        if let Close::Failed(fault) = close {
            self.failed(fault);
        }
        let leaver = self.leaver.take().filter(|_| *close == Close::Left && !self.deserted);
        let goes = |(id, _): &mut (u64, Subscriber)| leaver.is_none_or(|leaver| leaver == *id);
        for (_, subscriber) in self.subscribers.extract_if(.., goes) {
            // A rule that is gone needs no word.
            let _ = subscriber.close.send(close.clone());
        }
        self.decoding = None;
    }

    fn failed(&self, fault: &Fault) {
        let now = self.spec.clock.now();
        self.subscribers.iter().for_each(|(_, one)| one.meter.failed(fault.to_string(), now));
        self.report.set(Link::Disconnected(fault.to_string()));
    }

    fn account(&self, id: u64, subscriber: &Subscriber) -> Arc<dyn Account> {
        let (book, readers, over) = (subscriber.book.clone(), self.readers.clone(), self.over.clone());
        Arc::new(Seat { id, book, readers, over })
    }

    async fn distribute(&mut self, chunk: Chunk, run: &mut Run<'_>) -> Result<()> {
        // Some have left already, and are to get it too: the source gives it again after the next start. So it does where
        // nobody is there any more.
        if self.readers.all_go() || self.subscribers.is_empty() {
            return Ok(());
        }
        let Chunk { messages, position, missed } = chunk;
        // Without a message it says where the source begins, or what is gone.
        let bare = messages.is_empty();
        self.chunks += u64::from(!bare);
        self.tell_missed(&missed);
        if self.decoding.is_none() {
            let accounts = self.subscribers.iter().map(|(id, one)| self.account(*id, one)).collect();
            self.decoding = Some(Decoding::new(&self.spec, &self.subscribers, accounts)?);
        }
        let Some(decoding) = &mut self.decoding else { return Ok(()) };
        let batches = decoding.decode(messages, &self.subscribers, self.spec.clock.now());
        // Who has room is served first, so that one who has none holds the others up as little as can be.
        let (mut late, mut gone) = (Vec::new(), Vec::new());
        for ((id, subscriber), batch) in self.subscribers.iter().zip(batches) {
            if batch.is_empty() && !(subscriber.logs && (bare || !missed.is_empty())) {
                continue;
            }
            let missed = if subscriber.logs { missed.clone() } else { BTreeMap::new() };
            let fed = Box::new(Fed { source: subscriber.source, batch, position: position.clone(), missed });
            subscriber.meter.gave(fed.weight() as u64);
            match subscriber.to.offer(fed) {
                Ok(()) => {}
                Err(Refused::Full(fed)) => late.push((subscriber.to.clone(), fed)),
                Err(Refused::Dropped(fed)) => settle_all(fed.batch, Fate::DroppedOverflow),
                Err(Refused::Closed(fed)) => {
                    settle_all(fed.batch, Fate::Abandoned);
                    gone.push(*id);
                }
            }
        }
        if position.is_some() {
            self.position = position;
        }
        self.give(late, run).await;
        gone.into_iter().for_each(|id| self.leave(id));
        Ok(())
    }

    /// Rows are gone that the source never gave: each rule counts them, one with a log when they are in it.
    fn tell_missed(&self, missed: &BTreeMap<&'static str, u64>) {
        for (reason, rows) in missed {
            let text = format!("{rows} rows of `{}` are gone before they could be read: {reason}", self.spec.stream);
            tracing::warn!("{text}");
            for (_, subscriber) in &self.subscribers {
                subscriber.meter.failed(text.clone(), self.spec.clock.now());
                if !subscriber.logs {
                    subscriber.book.miss(reason, *rows);
                }
            }
        }
    }

    /// Gives batches to rules that make the feed wait, to each as soon as it has room. Meanwhile the source runs on and
    /// wishes are heard; a rule that leaves now still gets its own, and one that has ended gives it back at once, whoever
    /// else is waited for.
    async fn give(&mut self, late: Vec<(Giver<Box<Fed>>, Box<Fed>)>, run: &mut Run<'_>) {
        let send = |(to, fed): (Giver<Box<Fed>>, Box<Fed>)| async move {
            if let Err(fed) = to.send(fed).await {
                settle_all(fed.batch, Fate::Abandoned);
            }
        };
        let mut sending: FuturesUnordered<_> = late.into_iter().map(send).collect();
        while !sending.is_empty() {
            tokio::select! {
                biased;
                _ = sending.next() => {}
                _ = self.hear(), if !self.deserted => {}
                _ = run.ended() => {}
            }
        }
    }
}

/// Returns when the gate is open, or gone; never where there is none.
async fn opened(gate: &mut Option<watch::Receiver<bool>>) {
    match gate {
        // Without anyone to open it, it stands open.
        Some(gate) => drop(gate.wait_for(|open| *open).await),
        None => std::future::pending().await,
    }
}

/// Returns when the time is up; never while it has not begun.
async fn over(farewell: &mut Option<Farewell>) {
    match farewell {
        Some(passes) => passes.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Load for Fed {
    fn weight(&self) -> usize {
        self.batch.selected().len()
    }
}

/// All rows of a batch that are left meet the same fate.
pub fn settle_all(mut batch: Batch, fate: Fate) {
    for row in 0..batch.rows() {
        batch.take_receipt(row).settle(fate);
    }
    batch.take_undecoded().into_iter().for_each(|message| message.receipt.settle(fate));
}
