//! Messages become rows: decoded once, into the slots of the one rule that is fed, or into the union of what several
//! rules ask and copied to each.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use crate::clock::Time;
use crate::codec::{self, Decoder, Wanted, WantedColumn};
use crate::data::{Account, Batch, Fate, Kind, Object, Receipt, Text, Value};
use crate::diag::{Fault, Result};
use crate::io::{Message, Payload};

use super::feed::{FeedSpec, Subscriber};

/// How messages become rows for the present subscribers.
pub struct Decoding {
    decoder: Option<Box<dyn Decoder>>,
    wanted: Wanted,
    /// Several subscribers: for each, where its slots come from.
    copies: Vec<Copy>,
    /// For each subscriber, where its rows are counted.
    accounts: Vec<Arc<dyn Account>>,
}

struct Copy {
    /// (from slot of the feed, to slot of the rule)
    slots: Vec<(usize, usize)>,
    /// Slot of the rule for all other columns, and the feed's columns that belong into it.
    rest: Option<(usize, Vec<(Text, usize)>)>,
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
        Ok(Decoding { decoder, wanted, copies, accounts })
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
                }
                Decoded::Broken(fault) => {
                    tally.rows += 1;
                    one.meter.failed(fault.to_string(), now);
                    batch.note(before, fault);
                    Receipt::new(account.clone(), message.ack).settle(Fate::DeadDecode);
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
        // The message of each row.
        let mut rows_of: Vec<usize> = Vec::with_capacity(chunk.len());
        let mut broken: Vec<usize> = Vec::new();
        for (n, message) in chunk.iter_mut().enumerate() {
            let before = union.rows();
            match self.rows_of(&mut message.payload, &mut union) {
                Decoded::Rows(0) => message.ack.take().into_iter().for_each(|ack| ack.settle()),
                Decoded::Rows(rows) => rows_of.resize(before + rows, n),
                Decoded::Broken(fault) => {
                    several.iter().for_each(|(_, one)| one.meter.failed(fault.to_string(), now));
                    union.note(before, fault);
                    broken.push(n);
                }
                Decoded::Told(fault) => {
                    several.iter().for_each(|(_, one)| one.meter.failed(fault.to_string(), now));
                    union.note(before, fault);
                }
            }
        }
        let each = several.iter().zip(&self.copies).zip(&self.accounts).map(|(((_, one), copy), account)| {
            drop(Tally { of: one, now, rows: (union.rows() + broken.len()) as u64 });
            for n in &broken {
                Receipt::new(account.clone(), chunk[*n].ack.clone()).settle(Fate::DeadDecode);
            }
            copy.apply(&union, &chunk, &rows_of, one, account)
        });
        each.collect()
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
            Payload::Error(fault) => Decoded::Told(fault.clone()),
        }
    }
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
        Copy { slots, rest }
    }

    fn apply(
        &self,
        from: &Batch,
        chunk: &[Message],
        rows_of: &[usize],
        to: &Subscriber,
        account: &Arc<dyn Account>,
    ) -> Batch {
        let mut batch = Batch::with_capacity(to.wanted.width, from.rows());
        let rest_of_feed = from.width().checked_sub(1);
        for (row, message) in rows_of.iter().enumerate() {
            let message = &chunk[*message];
            let source = from.row(row);
            let slots = batch.push(message.time, Receipt::new(account.clone(), message.ack.clone()));
            for (from, to) in &self.slots {
                slots[*to] = source[*from].clone();
            }
            if let (Some((rest, others)), Some(slot)) = (&self.rest, rest_of_feed) {
                slots[*rest] = with_others(&source[slot], others, source);
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
