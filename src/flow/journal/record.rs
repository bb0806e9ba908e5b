//! What stands in the log of a journal: one record for each call that the chain was given, in their order, and what is
//! known of the sinks. Any bytes can be read: what is no record is a fault.

use std::sync::Arc;

use crate::clock::Time;
use crate::data::{Account, Batch, Fate, Meta, Object, Receipt, Undecoded, Value, pack};
use crate::diag::{Fault, Result};
use crate::meter::{SinkView, reason};

/// A record that was read.
#[allow(clippy::large_enum_variant, reason = "it lives for one turn of a replay")]
pub enum Record {
    /// Rows of a source were pushed; others before them were gone, by reason.
    Push { source: usize, now: Time, batch: Batch, missed: Reasons },
    /// The chain was told the time.
    Tick(Time),
    /// A lookup table answered, or failed.
    Answer { now: Time, rows: Result<Vec<Vec<Object>>> },
    /// A source has ended, and others went on.
    Ended { source: usize, now: Time },
    /// The input has come to its end.
    Finish(Time),
    /// No call of the chain; a [`Glance`] says what.
    Remark,
}

/// What one sink has confirmed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkCount {
    pub name: String,
    /// Result rows that need not be given again, counted since the journal began.
    pub confirmed: u64,
    /// Where it stands behind them, if it can take back what comes after.
    pub position: Option<Value>,
    /// Its account.
    pub view: SinkView,
}

const BEGIN: u8 = 1;
const PUSH: u8 = 2;
const TICK: u8 = 3;
const ANSWER: u8 = 4;
const ENDED: u8 = 5;
const FINISH: u8 = 6;
const COUNTS: u8 = 7;
const SKIP: u8 = 8;
const BROKE: u8 = 9;

/// Flags of a push.
const METAS: u64 = 1;
const UNDECODED: u64 = 2;

fn broken() -> Fault {
    Fault::bug("a record of the input log cannot be read")
}

fn put_fault(into: &mut Vec<u8>, fault: &Fault) {
    let (kind, text) = match fault {
        Fault::Decode(text) => (0, text),
        Fault::Eval(text) => (1, text),
        Fault::Encode(text) => (2, text),
        Fault::Refused(text) => (3, text),
        Fault::Unreachable(text) => (4, text),
        Fault::Setup(text) => (5, text),
        Fault::Bug(text) => (6, text),
    };
    into.push(kind);
    pack::put_bytes(into, text.as_bytes());
}

/// Bytes that are read from their front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(broken)?;
        self.0 = rest;
        Ok(*first)
    }

    fn count(&mut self) -> Result<u64> {
        pack::take_number(&mut self.0).map_err(|_| broken())
    }

    fn size(&mut self) -> Result<usize> {
        usize::try_from(self.count()?).map_err(|_| broken())
    }

    fn signed(&mut self) -> Result<i64> {
        pack::take_signed(&mut self.0).map_err(|_| broken())
    }

    fn time(&mut self) -> Result<Time> {
        self.signed().map(Time)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        Ok(front)
    }

    fn text(&mut self) -> Result<&'a str> {
        pack::take_text(&mut self.0).map_err(|_| broken())
    }

    fn value(&mut self) -> Result<Value> {
        pack::take(&mut self.0).map_err(|_| broken())
    }

    fn position(&mut self) -> Result<Option<Value>> {
        self.value().map(|position| Some(position).filter(|position| !matches!(position, Value::Absent)))
    }

    fn object(&mut self) -> Result<Arc<Object>> {
        match self.value()? {
            Value::Object(object) => Ok(object),
            _ => Err(broken()),
        }
    }

    fn fault(&mut self) -> Result<Fault> {
        let kind = self.byte()?;
        let text: Box<str> = self.text()?.into();
        Ok(match kind {
            0 => Fault::Decode(text),
            1 => Fault::Eval(text),
            2 => Fault::Encode(text),
            3 => Fault::Refused(text),
            4 => Fault::Unreachable(text),
            5 => Fault::Setup(text),
            6 => Fault::Bug(text),
            _ => return Err(broken()),
        })
    }

    fn reasons(&mut self) -> Result<Reasons> {
        let count = self.size()?;
        (0..count).map(|_| Ok((reason(self.text()?), self.count()?))).collect()
    }
}

pub type Reasons = std::collections::BTreeMap<&'static str, u64>;

fn put_reasons(into: &mut Vec<u8>, reasons: &Reasons) {
    pack::put_number(into, reasons.len() as u64);
    for (reason, rows) in reasons {
        pack::put_bytes(into, reason.as_bytes());
        pack::put_number(into, *rows);
    }
}

pub fn begin(now: Time, plan: &str) -> Vec<u8> {
    let mut body = vec![BEGIN];
    pack::put_signed(&mut body, now.0);
    pack::put_bytes(&mut body, plan.as_bytes());
    body
}

/// The selected rows of a batch, its faults, and where the source stands behind it. Fails with `Encode` where a value is
/// nested too deeply.
pub fn push(source: usize, now: Time, batch: &Batch, position: Option<&Value>) -> Result<Vec<u8>> {
    let rows = batch.selected();
    let mut body = Vec::with_capacity(32 + rows.len() * (8 + batch.width() * 8));
    body.push(PUSH);
    pack::put_number(&mut body, source as u64);
    pack::put_signed(&mut body, now.0);
    let deliveries = batch.deliveries();
    pack::put_number(&mut body, deliveries.len() as u64);
    for delivery in deliveries {
        body.extend_from_slice(&delivery.id.to_le_bytes());
        body.extend_from_slice(&delivery.digest.to_le_bytes());
    }
    pack::put(&mut body, position.unwrap_or(&Value::Absent))?;
    let metas = rows.iter().any(|row| batch.meta(*row as usize).is_some());
    let broken = batch.undecoded();
    pack::put_number(&mut body, if metas { METAS } else { 0 } | if broken.is_empty() { 0 } else { UNDECODED });
    pack::put_number(&mut body, batch.width() as u64);
    pack::put_number(&mut body, rows.len() as u64);
    for row in rows {
        let row = *row as usize;
        pack::put_signed(&mut body, now.0.wrapping_sub(batch.time(row).0));
        batch.row(row).iter().try_for_each(|value| pack::put(&mut body, value))?;
        if metas {
            pack::put(&mut body, &batch.meta(row).cloned().map_or(Value::Null, Value::Object))?;
        }
    }
    pack::put_number(&mut body, batch.faults().len() as u64);
    for (at, fault) in batch.faults() {
        pack::put_number(&mut body, rows.partition_point(|row| row < at) as u64);
        put_fault(&mut body, fault);
    }
    if !broken.is_empty() {
        pack::put_number(&mut body, broken.len() as u64);
        for Undecoded { row, fault, letter, .. } in broken {
            pack::put_number(&mut body, rows.partition_point(|other| other < row) as u64);
            put_fault(&mut body, fault);
            body.push(u8::from(letter.is_some()));
            for value in letter.iter().flat_map(|(payload, position)| [payload, position]) {
                pack::put(&mut body, if pack::fits(value) { value } else { &Value::Null })?;
            }
        }
    }
    Ok(body)
}

/// Adds to a push what was gone before its rows.
pub fn put_missed(push: &mut Vec<u8>, missed: &Reasons) {
    if !missed.is_empty() {
        put_reasons(push, missed);
    }
}

pub fn tick(now: Time) -> Vec<u8> {
    let mut body = vec![TICK];
    pack::put_signed(&mut body, now.0);
    body
}

/// Fails with `Encode` where a value is nested too deeply.
pub fn answer(now: Time, rows: &Result<Vec<Vec<Object>>>) -> Result<Vec<u8>> {
    let mut body = vec![ANSWER];
    pack::put_signed(&mut body, now.0);
    match rows {
        Ok(lists) => {
            body.push(1);
            pack::put_number(&mut body, lists.len() as u64);
            for rows in lists {
                pack::put_number(&mut body, rows.len() as u64);
                rows.iter().try_for_each(|row| pack::put(&mut body, &Value::object(row.clone())))?;
            }
        }
        Err(fault) => {
            body.push(0);
            put_fault(&mut body, fault);
        }
    }
    Ok(body)
}

pub fn ended(source: usize, now: Time) -> Vec<u8> {
    let mut body = vec![ENDED];
    pack::put_number(&mut body, source as u64);
    pack::put_signed(&mut body, now.0);
    body
}

pub fn finish(now: Time) -> Vec<u8> {
    let mut body = vec![FINISH];
    pack::put_signed(&mut body, now.0);
    body
}

/// Fails with `Encode` where a position is nested too deeply.
pub fn counts(all: &[SinkCount]) -> Result<Vec<u8>> {
    let mut body = vec![COUNTS];
    put_counts(&mut body, all)?;
    Ok(body)
}

/// The rows of the push of that number went back to their source.
pub fn skip(sequence: u64) -> Vec<u8> {
    let mut body = vec![SKIP];
    pack::put_number(&mut body, sequence);
    body
}

/// The call of that number broke the rule, in that step of the chain or behind it.
pub fn broke(sequence: u64, step: usize) -> Vec<u8> {
    let mut body = vec![BROKE];
    pack::put_number(&mut body, sequence);
    pack::put_number(&mut body, step as u64);
    body
}

fn put_counts(into: &mut Vec<u8>, all: &[SinkCount]) -> Result<()> {
    pack::put_number(into, all.len() as u64);
    for SinkCount { name, confirmed, position, view } in all {
        pack::put_bytes(into, name.as_bytes());
        pack::put_number(into, *confirmed);
        pack::put(into, position.as_ref().unwrap_or(&Value::Absent))?;
        pack::put_number(into, view.delivered);
        put_reasons(into, &view.dropped);
        put_reasons(into, &view.dead);
    }
    Ok(())
}

/// How many rows came with a push that was read. Accounts once more for those of them that were dead when it was
/// written: rows nested too deeply, and messages that could not be decoded in logs that do not keep those.
pub fn recount(batch: &Batch, account: &Arc<dyn Account>) -> u64 {
    let failed = batch.faults().iter().filter(|(_, fault)| matches!(fault, Fault::Decode(_) | Fault::Encode(_)));
    let dead = |(_, fault): &(u32, Fault)| {
        let mut receipt = Receipt::new(account.clone(), None);
        receipt.log();
        receipt.settle(Fate::dead(fault));
    };
    (batch.selected().len() + batch.undecoded().len() + failed.map(dead).count()) as u64
}

/// Reads a record; rows that were pushed are accounted for in that account.
pub fn read(body: &[u8], account: &Arc<dyn Account>) -> Result<Record> {
    let mut bytes = Bytes(body);
    let record = match bytes.byte()? {
        BEGIN | COUNTS | SKIP | BROKE => return Ok(Record::Remark),
        PUSH => {
            let (source, now) = (bytes.size()?, bytes.time()?);
            read_deliveries(&mut bytes)?;
            bytes.value()?;
            let batch = read_rows(&mut bytes, now, account)?;
            let missed = if bytes.0.is_empty() { Reasons::new() } else { bytes.reasons()? };
            Record::Push { source, now, batch, missed }
        }
        TICK => Record::Tick(bytes.time()?),
        ANSWER => Record::Answer { now: bytes.time()?, rows: read_answer(&mut bytes)? },
        ENDED => Record::Ended { source: bytes.size()?, now: bytes.time()? },
        FINISH => Record::Finish(bytes.time()?),
        _ => return Err(broken()),
    };
    if bytes.0.is_empty() { Ok(record) } else { Err(broken()) }
}

/// What is to be known of a record before the replay.
pub enum Glance {
    /// The journal begins: the chain was made at that time, by a plan that reads so.
    Begin { now: Time, plan: String },
    /// How many rows, the messages that they came with, and where the source stands behind them.
    Push { source: usize, rows: u64, deliveries: Vec<(u16, u64)>, position: Option<Value> },
    /// What each sink has confirmed.
    Counts(Vec<SinkCount>),
    /// The rows of the push of that number went back to their source: it is not to be done again.
    Skip(u64),
    /// The call of that number broke the rule, in that step of the chain or behind it.
    Broke { sequence: u64, step: usize },
    /// A call that replay alone needs.
    Other,
}

/// Reads as much of a record as is to be known before the replay.
pub fn glance(body: &[u8]) -> Result<Glance> {
    let mut bytes = Bytes(body);
    Ok(match bytes.byte()? {
        BEGIN => Glance::Begin { now: bytes.time()?, plan: bytes.text()?.to_owned() },
        PUSH => {
            let (source, _now) = (bytes.size()?, bytes.time()?);
            let deliveries = read_deliveries(&mut bytes)?;
            let position = bytes.position()?;
            let (_metas, _width) = (bytes.count()?, bytes.count()?);
            Glance::Push { source, rows: bytes.count()?, deliveries, position }
        }
        COUNTS => Glance::Counts(read_counts(&mut bytes)?),
        SKIP => Glance::Skip(bytes.count()?),
        BROKE => Glance::Broke { sequence: bytes.count()?, step: bytes.size()? },
        _ => Glance::Other,
    })
}

fn read_deliveries(bytes: &mut Bytes<'_>) -> Result<Vec<(u16, u64)>> {
    let count = bytes.size()?;
    let mut deliveries = Vec::with_capacity(count.min(1 << 12));
    for _ in 0..count {
        let (id, digest) = (bytes.slice(2)?, bytes.slice(8)?);
        let (id, digest) = (id.try_into().map_err(|_| broken())?, digest.try_into().map_err(|_| broken())?);
        deliveries.push((u16::from_le_bytes(id), u64::from_le_bytes(digest)));
    }
    Ok(deliveries)
}

fn read_rows(bytes: &mut Bytes<'_>, now: Time, account: &Arc<dyn Account>) -> Result<Batch> {
    let (flags, width, rows) = (bytes.count()?, bytes.size()?, bytes.size()?);
    // Each row has a time, a byte at least.
    if rows > bytes.0.len() || width > bytes.0.len().max(1 << 16) {
        return Err(broken());
    }
    let mut batch = Batch::new(width);
    let receipt = || {
        let mut receipt = Receipt::new(account.clone(), None);
        receipt.log();
        receipt
    };
    for row in 0..rows {
        let time = Time(now.0.wrapping_sub(bytes.signed()?));
        let slots = batch.push(time, receipt());
        for slot in slots {
            *slot = bytes.value()?;
        }
        if flags & METAS != 0
            && let Value::Object(meta) = bytes.value()?
        {
            batch.set_meta(row, &Meta::clone(&meta));
        }
    }
    for _ in 0..bytes.size()? {
        let at = bytes.size()?;
        batch.note(at, bytes.fault()?);
    }
    if flags & UNDECODED != 0 {
        for _ in 0..bytes.size()? {
            let (row, fault) = (bytes.size()?, bytes.fault()?);
            let row = u32::try_from(row).map_err(|_| broken())?;
            let letter = if bytes.byte()? == 0 { None } else { Some((bytes.value()?, bytes.value()?)) };
            batch.add_undecoded(Undecoded { row, fault, delivery: None, receipt: receipt(), letter });
        }
    }
    Ok(batch)
}

fn read_answer(bytes: &mut Bytes<'_>) -> Result<Result<Vec<Vec<Object>>>> {
    if bytes.byte()? == 0 {
        return Ok(Err(bytes.fault()?));
    }
    let mut lists = Vec::new();
    for _ in 0..bytes.size()? {
        let mut rows = Vec::new();
        for _ in 0..bytes.size()? {
            rows.push(Object::clone(&*bytes.object()?));
        }
        lists.push(rows);
    }
    Ok(Ok(lists))
}

fn read_counts(bytes: &mut Bytes<'_>) -> Result<Vec<SinkCount>> {
    let mut all = Vec::new();
    for _ in 0..bytes.size()? {
        let (name, confirmed, position) = (bytes.text()?.to_owned(), bytes.count()?, bytes.position()?);
        let (delivered, dropped, dead) = (bytes.count()?, bytes.reasons()?, bytes.reasons()?);
        let view = SinkView { delivered, dropped, dead, ..SinkView::default() };
        all.push(SinkCount { name, confirmed, position, view });
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::data::Delivery;
    use crate::flow::Book;

    /// One record of each kind.
    fn records() -> Vec<Vec<u8>> {
        let mut batch = Batch::new(2);
        for n in 0..3 {
            batch.push(Time(100 + n), Receipt::none())[1] = Value::text(format!("row {n}"));
            batch
                .set_delivery(n as usize, Delivery { id: 7 + n as u16, again: n == 1, digest: 1 << (20 * n), line: 0 });
        }
        batch.set_meta(1, &Meta::new(Object::from_iter([("topic", Value::text("a"))])));
        batch.select(vec![1, 2]);
        batch.note(2, Fault::unreachable("what is that"));
        let delivery = |id| Some(Delivery { id, again: false, digest: 5, line: 0 });
        for (row, id, letter) in [(2, 20, None), (3, 21, Some((Value::text("{"), Value::Int(3))))] {
            let fault = Fault::decode("no record");
            batch.add_undecoded(Undecoded { row, fault, delivery: delivery(id), receipt: Receipt::none(), letter });
        }
        let sinks = [SinkCount {
            name: "mqtt_0".into(),
            confirmed: 300,
            position: Some(Value::Int(9)),
            view: SinkView { delivered: 299, dead: [("refused", 1)].into(), ..SinkView::default() },
        }];
        let found = Ok(vec![vec![Object::from_iter([("id", Value::Int(1))])], Vec::new()]);
        vec![
            begin(Time(-5), "the plan"),
            push(1, Time(105), &batch, Some(&Value::Int(44))).unwrap(),
            tick(Time(106)),
            answer(Time(107), &found).unwrap(),
            answer(Time(108), &Err(Fault::unreachable("away"))).unwrap(),
            ended(1, Time(109)),
            finish(Time(i64::MAX)),
            counts(&sinks).unwrap(),
            skip(12),
            broke(13, 2),
        ]
    }

    #[test]
    fn a_push_comes_back_as_it_was_without_what_was_left_out() {
        let book = Arc::<Book>::default();
        let Record::Push { source: 1, now: Time(105), batch, .. } = read(&records()[1], &book.account()).unwrap()
        else {
            panic!("it is no push");
        };
        assert_eq!((batch.rows(), batch.selected()), (2, &[0, 1][..]));
        assert_eq!([batch.time(0), batch.time(1)], [Time(101), Time(102)]);
        assert!(matches!(batch.row(1), [Value::Absent, Value::Text(text)] if *text == "row 2"));
        assert_eq!((batch.meta(0).map(|meta| meta.len()), batch.meta(1)), (Some(1), None));
        assert_eq!(batch.faults(), [(1, Fault::unreachable("what is that"))]);
        let broken: Vec<_> = batch.undecoded().iter().map(|one| (one.row, one.letter.clone())).collect();
        assert_eq!(broken, [(1, None), (2, Some((Value::text("{"), Value::Int(3))))]);
        assert_eq!(recount(&batch, &book.account()), 4);
        let Glance::Push { source: 1, rows: 2, deliveries, position } = glance(&records()[1]).unwrap() else {
            panic!("it is no push");
        };
        let in_order = vec![(8, 1 << 20), (20, 5), (9, 1 << 40), (21, 5)];
        assert_eq!((deliveries, position.and_then(|at| at.as_i64())), (in_order, Some(44)));
        assert!(
            matches!(read(&records()[3], &book.account()), Ok(Record::Answer { rows: Ok(rows), .. }) if rows.len() == 2)
        );
    }

    #[test]
    fn any_bytes_are_a_record_or_a_fault() {
        let book = Arc::<Book>::default();
        for record in records() {
            assert!(read(&record, &book.account()).is_ok() && glance(&record).is_ok());
            for end in 0..record.len() {
                // A record that ends too soon is none, or says less: it never breaks anything.
                drop((read(&record[..end], &book.account()), glance(&record[..end])));
                for bit in 0..8 {
                    let mut flipped = record.clone();
                    flipped[end] ^= 1 << bit;
                    drop((read(&flipped, &book.account()), glance(&flipped)));
                }
            }
        }
    }
}
