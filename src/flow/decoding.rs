//! Messages become rows: decoded once, into the slots of the one rule that is fed, or into the union of what several
//! rules ask and copied to each.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use crate::clock::Time;
use crate::codec::{self, Decoder, Wanted, WantedColumn};
use crate::data::{Account, Batch, Delivery, Fate, Kind, Object, Receipt, SourceAck, Text, Undecoded, Value};
use crate::diag::{Fault, Result};
use crate::io::{Message, Payload};

use super::dead::told_of;
use super::feed::{FeedSpec, Subscriber};

/// How messages become rows for the present subscribers.
pub struct Decoding {
    decoder: Option<Box<dyn Decoder>>,
    wanted: Wanted,
    /// Several subscribers: for each, where its slots come from.
    copies: Vec<Copy>,
    /// For each subscriber, where its rows are counted.
    accounts: Vec<Arc<dyn Account>>,
    /// Where the messages come from.
    stream: Text,
}

/// What one of several subscribers takes out of what was decoded for all.
struct Copy {
    /// (from slot of the feed, to slot of the rule)
    slots: Vec<(usize, usize)>,
    /// Slot of the rule for all other columns, and the feed's columns that belong into it.
    rest: Option<(usize, Vec<(Text, usize)>)>,
    /// Reads by itself what could not be read for all: the fault may be of a declared column that only others ask for.
    own: Option<Box<dyn Decoder>>,
}

/// What became of a message for several subscribers.
enum Step {
    /// So many rows for all.
    Rows(usize),
    /// One dead row for all.
    Broken(Fault),
    /// Each reads it by itself.
    Apart,
    /// No row, but an error of the source.
    Told(Fault),
}

/// What became of a payload.
enum Decoded {
    Rows(usize),
    /// It is no record of the format: one dead row.
    Broken(Fault),
    /// No message at all, but an error of the source: told and counted as an exception, and no row.
    Told(Fault),
}

/// The rows that came for a subscriber. They are counted also when a decoder panics between them.
struct Tally<'a> {
    of: &'a Subscriber,
    now: Time,
    rows: u64,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.of.book.ledger.came(self.rows);
        self.of.meter.took(self.rows, self.now);
    }
}

impl Decoding {
    pub fn new(
        spec: &FeedSpec,
        subscribers: &[(u64, Subscriber)],
        accounts: Vec<Arc<dyn Account>>,
    ) -> Result<Decoding> {
        let decoder = |wanted: &Wanted| -> Result<Option<Box<dyn Decoder>>> {
            if spec.source.gives_rows {
                return Ok(None);
            }
            let format = codec::format(&spec.format.format).map_err(|found| Fault::setup(found.to_string()))?;
            (format.decoder)(&spec.format, wanted).map(Some).map_err(|found| Fault::setup(found.to_string()))
        };
        let (wanted, copies) = match subscribers {
            [(_, only)] => (only.wanted.clone(), Vec::new()),
            several => {
                let union = union(several.iter().map(|(_, one)| &one.wanted), &spec.kinds);
                let typed = union.columns.iter().any(|column| column.kind.is_some());
                let copy = |one: &Subscriber| -> Result<Copy> {
                    let own = if typed { decoder(&one.wanted)? } else { None };
                    Ok(Copy { own, ..Copy::new(&union, &one.wanted) })
                };
                let copies = several.iter().map(|(_, one)| copy(one)).collect::<Result<_>>()?;
                (union, copies)
            }
        };
        let decoder = decoder(&wanted)?;
        Ok(Decoding { decoder, wanted, copies, accounts, stream: spec.stream.clone() })
    }

    /// The rows of a chunk, for each subscriber in order.
    pub fn decode(&mut self, chunk: Vec<Message>, subscribers: &[(u64, Subscriber)], now: Time) -> Vec<Batch> {
        match subscribers {
            [(_, only)] if self.copies.is_empty() => vec![self.for_one(chunk, only, now)],
            several => self.for_several(chunk, several, now),
        }
    }

    fn for_one(&mut self, chunk: Vec<Message>, one: &Subscriber, now: Time) -> Batch {
        let mut batch = Batch::with_capacity(self.wanted.width, chunk.len());
        let account = self.accounts[0].clone();
        let mut tally = Tally { of: one, now, rows: 0 };
        for mut message in chunk {
            let before = batch.rows();
            let known = known(one, &message);
            match self.rows_of(&mut message.payload, &mut batch) {
                // An empty list is a message like others; no row of it will speak for it.
                Decoded::Rows(0) => message.ack.into_iter().for_each(|ack| ack.settle()),
                Decoded::Rows(rows) => {
                    tally.rows += rows as u64;
                    let last = before + rows - 1;
                    for row in before..last {
                        let receipt = Receipt::new(account.clone(), message.ack.clone());
                        batch.stamp(row, message.time, message.meta.as_ref(), receipt);
                    }
                    let receipt = Receipt::new(account.clone(), message.ack);
                    batch.stamp(last, message.time, message.meta.as_ref(), receipt);
                    known.into_iter().for_each(|delivery| batch.set_delivery(before, delivery));
                }
                Decoded::Broken(fault) => {
                    tally.rows += 1;
                    one.meter.failed(fault.to_string(), now);
                    let receipt = Receipt::new(account.clone(), message.ack.take());
                    bury(one, &self.stream, &message, fault, receipt, &mut batch);
                }
                Decoded::Told(fault) => {
                    one.meter.failed(fault.to_string(), now);
                    batch.note(before, fault);
                }
            }
        }
        batch
    }

    fn for_several(&mut self, mut chunk: Vec<Message>, several: &[(u64, Subscriber)], now: Time) -> Vec<Batch> {
        let mut union = Batch::with_capacity(self.wanted.width, chunk.len());
        let mut steps = Vec::with_capacity(chunk.len());
        let apart = self.copies.iter().any(|copy| copy.own.is_some());
        for message in &mut chunk {
            steps.push(match self.rows_of(&mut message.payload, &mut union) {
                Decoded::Rows(rows) => Step::Rows(rows),
                Decoded::Broken(_) if apart && matches!(message.payload, Payload::Bytes(_)) => Step::Apart,
                Decoded::Broken(fault) => Step::Broken(fault),
                Decoded::Told(fault) => Step::Told(fault),
            });
        }
        let each = several.iter().zip(&mut self.copies).zip(&self.accounts);
        each.map(|(((_, one), copy), account)| copy.apply(&union, &chunk, &steps, one, account, (&self.stream, now)))
            .collect()
    }

    fn rows_of(&mut self, payload: &mut Payload, into: &mut Batch) -> Decoded {
        match payload {
            Payload::Bytes(bytes) => match &mut self.decoder {
                Some(decoder) => decoder.decode(bytes, into).map_or_else(Decoded::Broken, Decoded::Rows),
                None => Decoded::Broken(Fault::bug("a source of rows gave bytes")),
            },
            Payload::Row(object) => {
                let row = into.push(Time(0), Receipt::none());
                self.wanted.fill(mem::take(object), row);
                Decoded::Rows(1)
            }
            Payload::Error(fault @ Fault::Decode(_)) => Decoded::Broken(fault.clone()),
            Payload::Error(fault) => Decoded::Told(fault.clone()),
        }
    }
}

/// By what the message is known when it is given again, where its rule asks for that.
fn known(to: &Subscriber, message: &Message) -> Option<Delivery> {
    let delivery = message.delivery.filter(|_| to.logs)?;
    match &message.payload {
        Payload::Bytes(bytes) => Some(Delivery { digest: digest(bytes), ..delivery }),
        Payload::Row(_) | Payload::Error(_) => None,
    }
}

/// FNV-1a, by words of eight bytes.
fn digest(bytes: &[u8]) -> u64 {
    let mut digest = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    for word in bytes.chunks(8) {
        let mut whole = [0; 8];
        whole[..word.len()].copy_from_slice(word);
        digest = (digest ^ u64::from_le_bytes(whole)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
    digest
}

/// A message is no record: it is dead, for this subscriber; one that logs its input counts it when the log has it.
fn bury(to: &Subscriber, stream: &Text, message: &Message, fault: Fault, receipt: Receipt, batch: &mut Batch) {
    let row = batch.rows();
    if to.logs {
        let letter = to.book.dead.is_some().then(|| told_of(stream, message));
        let delivery = known(to, message);
        return batch.add_undecoded(Undecoded { row: row as u32, fault, delivery, receipt, letter });
    }
    match &to.book.dead {
        Some(route) => route.message(told_of(stream, message), &fault, receipt),
        None => receipt.settle(Fate::DeadDecode),
    }
    batch.note(row, fault);
}

/// What several rules want, put together.
fn union<'a>(all: impl Iterator<Item = &'a Wanted>, kinds: &[(Text, Kind)]) -> Wanted {
    let mut union = Wanted::default();
    let mut known: HashSet<Text> = HashSet::new();
    let kinds: HashMap<&Text, &Kind> = kinds.iter().rev().map(|(name, kind)| (name, kind)).collect();
    let mut rest = false;
    for wanted in all {
        rest |= wanted.rest.is_some();
        for column in &wanted.columns {
            if known.insert(column.name.clone()) {
                let kind = kinds.get(&column.name).copied().cloned();
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
        let slots: HashMap<&Text, usize> = to.columns.iter().map(|column| (&column.name, column.slot)).collect();
        let slot = |name: &Text| slots.get(name).copied();
        let slots = from.columns.iter().filter_map(|column| Some((column.slot, slot(&column.name)?))).collect();
        let rest = to.rest.map(|rest| {
            let others = from.columns.iter().filter(|column| slot(&column.name).is_none());
            (rest, others.map(|column| (column.name.clone(), column.slot)).collect())
        });
        Copy { slots, rest, own: None }
    }

    fn apply(
        &mut self,
        from: &Batch,
        chunk: &[Message],
        steps: &[Step],
        to: &Subscriber,
        account: &Arc<dyn Account>,
        (stream, now): (&Text, Time),
    ) -> Batch {
        let mut batch = Batch::with_capacity(to.wanted.width, from.rows());
        let mut tally = Tally { of: to, now, rows: 0 };
        let mut next = 0;
        for (message, step) in chunk.iter().zip(steps) {
            let before = batch.rows();
            let broken = match step {
                Step::Rows(rows) => {
                    for row in next..next + rows {
                        let slots = batch.push(message.time, Receipt::none());
                        self.copy(from.row(row), slots);
                    }
                    next += rows;
                    None
                }
                Step::Broken(fault) => Some(fault.clone()),
                Step::Apart => match (&mut self.own, &message.payload) {
                    (Some(own), Payload::Bytes(bytes)) => own.decode(bytes, &mut batch).err(),
                    _ => Some(Fault::bug("a message was to be decoded again, and cannot be")),
                },
                Step::Told(fault) => {
                    to.meter.failed(fault.to_string(), now);
                    batch.note(before, fault.clone());
                    continue;
                }
            };
            if let Some(fault) = broken {
                tally.rows += 1;
                to.meter.failed(fault.to_string(), now);
                let receipt = Receipt::new(account.clone(), message.ack.clone());
                bury(to, stream, message, fault, receipt, &mut batch);
                continue;
            }
            // An empty list is a message like others; no row of it will speak for it.
            if batch.rows() == before {
                message.ack.clone().into_iter().for_each(SourceAck::settle);
            }
            tally.rows += (batch.rows() - before) as u64;
            for row in before..batch.rows() {
                let receipt = Receipt::new(account.clone(), message.ack.clone());
                batch.stamp(row, message.time, message.meta.as_ref(), receipt);
            }
            known(to, message).into_iter().for_each(|delivery| batch.set_delivery(before, delivery));
        }
        batch
    }

    /// Puts what this subscriber asks for into its slots.
    fn copy(&self, source: &[Value], slots: &mut [Value]) {
        for (from, to) in &self.slots {
            slots[*to] = source[*from].clone();
        }
        // The last slot of the feed is for the columns that no rule names.
        if let (Some((rest, others)), Some(left)) = (&self.rest, source.last()) {
            slots[*rest] = with_others(left, others, source);
        }
    }
}

/// The columns that no rule names, and those that only other rules do.
fn with_others(rest: &Value, others: &[(Text, usize)], source: &[Value]) -> Value {
    let present = |(_, slot): &&(Text, usize)| !matches!(source[*slot], Value::Absent);
    let mut all: Object = match rest {
        Value::Object(all) if !others.iter().any(|other| present(&other)) => return Value::Object(all.clone()),
        Value::Object(all) => (**all).clone(),
        _ => Object::new(),
    };
    for (name, slot) in others.iter().filter(present) {
        all.insert(name.clone(), source[*slot].clone());
    }
    Value::object(all)
}
