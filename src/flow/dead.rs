//! Dead letters: what becomes of rows that fail, where the user asks for more than a count.
//!
//! A [`Route`] leads to a sink of any kind. It makes a *letter* of a row that failed, wherever that was: a message that
//! cannot be decoded, a row that an expression cannot be put through, a result that a sink cannot be given or will never
//! take. Letters are rows of [`columns`], shaped and delivered by an outlet of their own, in the order of the deaths.
//!
//! Invariant: the receipts of a row are settled when its letter is confirmed, so the source forgets no message whose letter
//! could be lost. A letter that its sink refuses is counted there and logged, and goes nowhere else. Who makes letters
//! waits for room between two batches, so that a sink that is away holds the rule up and nothing is given up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::{Clock, Time};
use crate::data::{Account, Batch, DeadRow, Fate, Layout, Meta, Object, Receipt, Text, Value};
use crate::diag::Fault;
use crate::io::{Content, Message, Parcel, Payload};
use crate::plan::Plan;

use super::caught::ended;
use super::lane::Giver;
use super::outlet::{Outgoing, Outlet};

/// Letters that may wait for their sink before the rule does.
const ROOM: usize = 1024;
/// Letters that are given to the outlet together.
const TOGETHER: usize = 64;
/// How long the last letters may take to be given to an outlet that is gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// The columns of a letter.
pub fn columns() -> Layout {
    Layout::from_iter(["payload", "error", "rule", "sink", "time", "position"])
}

/// The way to one sink for dead letters.
#[derive(Clone)]
pub struct Route(Arc<Inner>);

struct Inner {
    rule: Text,
    /// Where the rule has one source, that is where rows come from.
    stream: Option<Text>,
    /// Columns of rows on their way through the rule: name, slot, and whether it is an object of columns.
    names: Vec<(Text, usize, bool)>,
    clock: Clock,
    /// None once the rule is over.
    to: Mutex<Option<mpsc::UnboundedSender<Letter>>>,
    /// Letters that were made and have not come to an end.
    waiting: watch::Sender<usize>,
    made: AtomicU64,
    told: AtomicU64,
}

struct Letter {
    values: [Value; 6],
    receipt: Receipt,
    time: Time,
}

/// What was promised for a row, until its letter has come to an end.
struct Grave {
    route: Route,
    fate: Fate,
    receipts: Mutex<Vec<Receipt>>,
}

impl Account for Grave {
    fn settle(&self, fate: Fate, _: u64, _: bool) {
        // A letter that its sink refused was counted there; the row is as dead as it was.
        let fate = if fate.acknowledges() { self.fate } else { Fate::Abandoned };
        let receipts = std::mem::take(&mut *self.receipts.lock().unwrap_or_else(PoisonError::into_inner));
        receipts.into_iter().for_each(|receipt| receipt.settle(fate));
        if fate != Fate::Abandoned {
            self.route.0.told.fetch_add(1, Ordering::AcqRel);
        }
        self.route.0.waiting.send_modify(|waiting| *waiting -= 1);
    }

    fn hold(&self, _: u64) {}

    fn unhold(&self, _: u64) {}
}

impl Route {
    fn new(rule: Text, plan: &Plan, clock: Clock) -> (Route, mpsc::UnboundedReceiver<Letter>) {
        let stream = match plan.sources.as_slice() {
            [one] => Some(one.stream.clone()),
            _ => None,
        };
        let mut names = Vec::new();
        for wanted in plan.sources.iter().map(|source| &source.wanted) {
            names.extend(wanted.columns.iter().map(|column| (column.name.clone(), column.slot, false)));
            names.extend(wanted.rest.map(|slot| ("*".into(), slot, true)));
        }
        let (to, from) = mpsc::unbounded_channel();
        let (waiting, to) = (watch::Sender::new(0), Mutex::new(Some(to)));
        let (made, told) = (AtomicU64::new(0), AtomicU64::new(0));
        (Route(Arc::new(Inner { rule, stream, names, clock, to, waiting, made, told })), from)
    }

    /// A row failed in the rule.
    pub fn bury(&self, row: DeadRow) {
        let DeadRow { values, meta, fault, receipt } = row;
        let payload = if values.is_empty() { Value::Null } else { self.payload_of(&values) };
        let position = self.0.stream.as_ref().map_or(Value::Null, |stream| position(stream, None, meta.as_ref(), None));
        self.letter(payload, &fault, Fate::dead(&fault), None, position, vec![receipt]);
    }

    /// A message of a source is no record of its format; see [`told_of`].
    pub fn message(&self, (payload, position): (Value, Value), fault: &Fault, receipt: Receipt) {
        self.letter(payload, fault, Fate::DeadDecode, None, position, vec![receipt]);
    }

    /// An emission cannot be given to a sink.
    pub fn rows(&self, sink: &str, layout: &Layout, rows: &[&[Value]], fault: &Fault, receipts: Vec<Receipt>) {
        let mut objects = rows.iter().map(|row| Value::object(layout.object(row)));
        let payload = match objects.len() {
            1 => objects.next().unwrap_or_default(),
            _ => Value::array(objects.collect()),
        };
        self.letter(payload, fault, Fate::dead(fault), Some(sink), Value::Null, receipts);
    }

    /// A sink will never take a parcel; or of a parcel of rows that one.
    pub fn parcel(
        &self,
        sink: &str,
        parcel: &Parcel,
        row: Option<usize>,
        fault: &Fault,
        fate: Fate,
        receipts: Vec<Receipt>,
    ) {
        let payload = match &parcel.content {
            Content::Bytes(bytes) => text_or_base64(bytes),
            Content::Rows(set) => {
                let of = |row: &Vec<Value>| Value::object(set.layout.object(row));
                match row.and_then(|row| set.rows.get(row)) {
                    Some(row) => of(row),
                    None if set.single && set.rows.len() == 1 => set.rows.first().map(of).unwrap_or_default(),
                    None => Value::array(set.rows.iter().map(of).collect()),
                }
            }
        };
        self.letter(payload, fault, fate, Some(sink), Value::Null, receipts);
    }

    fn letter(
        &self,
        payload: Value,
        fault: &Fault,
        fate: Fate,
        sink: Option<&str>,
        position: Value,
        receipts: Vec<Receipt>,
    ) {
        let inner = &self.0;
        let time = inner.clock.now();
        let values = [
            payload,
            Value::text(fault.to_string()),
            Value::Text(inner.rule.clone()),
            sink.map_or(Value::Null, Value::text),
            Value::Int(time.0),
            position,
        ];
        inner.made.fetch_add(1, Ordering::AcqRel);
        inner.waiting.send_modify(|waiting| *waiting += 1);
        let grave = Grave { route: self.clone(), fate, receipts: Mutex::new(receipts) };
        let letter = Letter { values, receipt: Receipt::new(Arc::new(grave), None), time };
        let to = inner.to.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match &*to {
            Some(to) => to.send(letter).map_err(|unsent| unsent.0).err(),
            None => Some(letter),
        };
        drop(to);
        // The rule is over, so that the row goes back to where it came from.
        left.into_iter().for_each(|letter| letter.receipt.settle(Fate::Abandoned));
    }

    fn payload_of(&self, values: &[Value]) -> Value {
        let mut object = Object::with_capacity(values.len());
        let slots = self.0.names.iter().filter_map(|(name, slot, all)| Some((name, values.get(*slot)?, *all)));
        for (name, value, all) in slots.clone() {
            match value {
                Value::Object(others) if all => {
                    others.iter().for_each(|(name, value)| drop(object.insert(name.clone(), value.clone())));
                }
                Value::Absent => {}
                value if !all => drop(object.insert(name.clone(), value.clone())),
                _ => {}
            }
        }
        Value::object(object)
    }

    /// Waits until there is room for more letters.
    pub async fn room(&self) {
        self.below(ROOM).await;
    }

    /// Waits until no letter is on its way.
    pub async fn empty(&self) {
        self.below(1).await;
    }

    async fn below(&self, limit: usize) {
        let mut waiting = self.0.waiting.subscribe();
        // The sender is ours, so that it does not end.
        let _ = waiting.wait_for(|waiting| *waiting < limit).await;
    }

    /// Letters that were made so far.
    pub fn made(&self) -> u64 {
        self.0.made.load(Ordering::Acquire)
    }

    /// Letters that have come to their end so far; those that were given up are none.
    pub fn told(&self) -> u64 {
        self.0.told.load(Ordering::Acquire)
    }

    /// No more letters: the sink gives out what it keeps to be sent together.
    pub fn close(&self) {
        self.0.to.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What is told of a message that is no record of its format: what it said, and where it came from.
pub fn told_of(stream: &Text, message: &Message) -> (Value, Value) {
    let payload = match &message.payload {
        Payload::Bytes(bytes) => text_or_base64(bytes),
        Payload::Row(row) => Value::object(row.clone()),
        Payload::Error(_) => Value::Null,
    };
    let packet = message.delivery.map(|delivery| delivery.id);
    (payload, position(stream, Some(message.time), message.meta.as_ref(), packet))
}

/// Where a row came from.
fn position(stream: &Text, arrived: Option<Time>, meta: Option<&Meta>, packet: Option<u16>) -> Value {
    let mut object = Object::from_iter([("stream", Value::Text(stream.clone()))]);
    let mut put = |name: &str, value: Value| drop(object.insert(name, value));
    if let Some(arrived) = arrived {
        put("arrived", Value::Int(arrived.0));
    }
    if let Some(packet) = packet {
        put("packet", Value::Int(packet.into()));
    }
    if let Some(meta) = meta {
        put("meta", Value::Object(meta.clone()));
    }
    Value::object(object)
}

/// Bytes as text where they are text, and else as `{"base64": "…"}`.
fn text_or_base64(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::text(text),
        Err(_) => Value::object(Object::from_iter([("base64", Value::text(BASE64.encode(bytes)))])),
    }
}

/// A sink for dead letters that runs.
pub struct Cemetery {
    pub route: Route,
    pub outlet: Outlet,
    pump: JoinHandle<()>,
}

impl Cemetery {
    /// `start` makes the outlet.
    pub fn open(rule: Text, plan: &Plan, clock: &Clock, start: impl FnOnce() -> (Outlet, Giver<Outgoing>)) -> Cemetery {
        let (route, from) = Route::new(rule, plan, clock.clone());
        let (outlet, to) = start();
        let pump = tokio::spawn(pump(from, to, outlet.account.clone()));
        Cemetery { route, outlet, pump }
    }

    #[cfg(test)]
    pub async fn kill(self) {
        self.pump.abort();
        self.outlet.kill().await;
    }

    /// Makes no more letters, and delivers the others within `patience`; those that are left are given up, and their rows
    /// with them. Returns the fault that ended the outlet before its time.
    pub async fn close(self, patience: Duration) -> Option<Fault> {
        self.route.close();
        let fault = self.outlet.stop(patience).await;
        // It ends by itself, since nobody gives it any more and the outlet takes nothing.
        let _ = ended(self.pump, FAREWELL).await;
        fault
    }
}

/// Gives letters to the outlet, as many as have come at a time.
async fn pump(mut from: mpsc::UnboundedReceiver<Letter>, to: Giver<Outgoing>, account: Arc<crate::meter::SinkAccount>) {
    let mut letters = Vec::with_capacity(TOGETHER);
    while from.recv_many(&mut letters, TOGETHER).await > 0 {
        let at = letters.first().map_or(Time(0), |letter| letter.time);
        let mut batch = Batch::with_capacity(6, letters.len());
        let mut receipts = Vec::with_capacity(letters.len());
        for Letter { mut values, receipt, time } in letters.drain(..) {
            batch.push(time, Receipt::none()).swap_with_slice(&mut values);
            receipts.push(receipt);
        }
        if let Err(outgoing) = to.send(Outgoing { batch: Arc::new(batch), receipts, at }).await {
            outgoing.settle(&account, Fate::Abandoned);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64() {
        assert_eq!(text_or_base64(b"{\"a\":"), Value::text("{\"a\":"));
        let Value::Object(object) = text_or_base64(b"\xff\x00a") else { unreachable!() };
        assert_eq!(object.get("base64"), Some(&Value::text("/wBh")));
    }
}
