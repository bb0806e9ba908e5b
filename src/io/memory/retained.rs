//! Streams that retain what is published to their topics: a source that reads a log, and can go on where it stood.
//!
//! A [`Retained`] log is made where the data folder is known, and is entered on the [`super::Bus`] under the name of its
//! stream. What is published is in it before the publisher goes on; its readers come and go. A record is one row with
//! its topic, so that the number of a record is a position that counts rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::clock::Clock;
use crate::data::{Meta, Object, SourceAck, Text, Value, pack};
use crate::diag::{Fault, Result};
use crate::io::{Chunk, End, Inlet, Link, Message, Payload, Report, Source};

/// Rows of a chunk.
const CHUNK: usize = 512;

/// A log of records that outlives the process. Numbers of records go on for ever, the oldest are thrown away.
#[async_trait::async_trait]
pub trait Retained: Send + Sync {
    /// What tells it from every other log, also from one that has its place later.
    fn id(&self) -> &str;

    /// Adds records, in order; they are safe when this returns. Waits for readers that are too far behind. Fails with
    /// `Unreachable` when the disk does: then none of them is there. Cancelled, some may be.
    async fn keep(self: Arc<Self>, records: Vec<Vec<u8>>) -> Result<()>;

    /// A reader that begins behind the last record. As long as it lives, nothing is thrown away that it has not read,
    /// or that those whom it gave it to are not done with.
    fn reader(self: Arc<Self>) -> Box<dyn RetainedReader>;
}

/// Reads a log, and follows it.
#[async_trait::async_trait]
pub trait RetainedReader: Send {
    /// The oldest record that is there, and the number that the next one will get.
    fn bounds(&self) -> Range<u64>;

    /// The number of the record that it gives next.
    fn at(&self) -> u64;

    /// Goes on at that record.
    fn go_to(&mut self, number: u64);

    /// Waits for records and gives some, at most so many, or only says what is gone. Not to be called again when it was
    /// cancelled.
    async fn next(&mut self, most: usize) -> Result<Stretch>;
}

/// Records that were read together.
#[derive(Default)]
pub struct Stretch {
    pub records: Vec<Vec<u8>>,
    /// Records before them, or among them, that are gone: how many for which reason.
    pub missed: BTreeMap<&'static str, u64>,
    /// To be told when all who have them are done; none where there are none.
    pub ack: Option<SourceAck>,
}

/// A row and its topic as a record. Fails with `Encode` where the row is nested too deeply.
pub(super) fn record(topic: &str, row: &Object) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(32 + topic.len() + 16 * row.len());
    pack::put_bytes(&mut out, topic.as_bytes());
    pack::put_number(&mut out, row.len() as u64);
    for (name, value) in row.iter() {
        pack::put_bytes(&mut out, name.as_bytes());
        pack::put(&mut out, value)?;
    }
    Ok(out)
}

/// What [`record`] wrote. Any bytes give a row or a fault.
fn read(mut record: &[u8]) -> Result<(&str, Object)> {
    let from = &mut record;
    let topic = pack::take_text(from)?;
    let mut row = Object::new();
    for _ in 0..pack::take_number(from)? {
        let name = Text::from(pack::take_text(from)?);
        row.insert(name, pack::take(from)?);
    }
    match from.is_empty() {
        true => Ok((topic, row)),
        false => Err(Fault::decode("a retained row has bytes behind its end")),
    }
}

/// Whether a row can be kept.
pub(super) fn fits(row: &Object) -> bool {
    row.values().all(pack::fits)
}

/// Where a source stands: in which log, and at which row.
struct Position {
    log: Text,
    row: u64,
}

impl Position {
    fn value(&self) -> Value {
        let row = Value::Int(self.row as i64);
        Value::object([("log", Value::Text(self.log.clone())), ("row", row)].into_iter().collect())
    }

    fn read(value: &Value) -> Option<Position> {
        let Value::Object(object) = value else { return None };
        let row = u64::try_from(object.get("row")?.as_i64()?).ok()?;
        Some(Position { log: object.get("log")?.as_str()?.into(), row })
    }
}

/// A memory source of a stream that retains.
pub(super) struct RetainedSource {
    stream: String,
    log: Text,
    reader: Box<dyn RetainedReader>,
    clock: Clock,
    wants_meta: bool,
    /// Why it does not go on where it stood.
    told: Option<String>,
}

impl RetainedSource {
    pub(super) fn new(stream: String, log: Arc<dyn Retained>, clock: Clock, wants_meta: bool) -> RetainedSource {
        RetainedSource { stream, log: log.id().into(), reader: log.reader(), clock, wants_meta, told: None }
    }

    fn position(&self) -> Option<Value> {
        Some(Position { log: self.log.clone(), row: self.reader.at() }.value())
    }

    fn message(&self, record: &[u8], ack: &Option<SourceAck>) -> Message {
        let (payload, meta) = match read(record) {
            Ok((topic, row)) => {
                let topic = || Meta::new([("topic", Value::text(topic))].into_iter().collect());
                (Payload::Row(row), self.wants_meta.then(topic))
            }
            // Its check was right, so it was written so.
            Err(fault) => (Payload::Error(Fault::decode(format!("a retained row cannot be read: {fault}"))), None),
        };
        Message { payload, time: self.clock.now(), meta, ack: ack.clone(), delivery: None }
    }
}

#[async_trait::async_trait]
impl Source for RetainedSource {
    async fn seek(&mut self, position: &Value) -> Result<()> {
        let none = || Fault::setup("the position that was kept is none of a `memory` source that retains");
        let Position { log, row } = Position::read(position).ok_or_else(none)?;
        let there = self.reader.bounds();
        let stream = &self.stream;
        if log != self.log {
            self.reader.go_to(there.start);
            let text = format!("what `{stream}` retained is another log now; it is read from the oldest row on");
            self.told = Some(text);
        } else if row > there.end {
            // They were read, and are damaged since.
            self.reader.go_to(there.end);
            self.told = Some(format!("the last rows that `{stream}` retained are damaged; they were read before"));
        } else {
            self.reader.go_to(row);
        }
        Ok(())
    }

    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        report.set(Link::Connected);
        if let Some(text) = self.told.take() {
            tracing::warn!("{text}");
            let payload = Payload::Error(Fault::unreachable(text));
            let told = Message { payload, time: self.clock.now(), meta: None, ack: None, delivery: None };
            if inlet.send(vec![told]).await.is_err() {
                return Ok(End::Closed);
            }
        }
        // A rule that is killed before it has the first row goes on here, and not at what is the end by then.
        let mut chunk = Chunk { position: self.position(), ..Chunk::default() };
        loop {
            if inlet.send_chunk(chunk).await.is_err() {
                return Ok(End::Closed);
            }
            let stretch = tokio::select! {
                stretch = self.reader.next(CHUNK) => stretch?,
                () = inlet.closed() => return Ok(End::Closed),
            };
            let messages = stretch.records.iter().map(|record| self.message(record, &stretch.ack)).collect();
            chunk = Chunk { messages, position: self.position(), missed: stretch.missed };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row() -> Object {
        let deep = Value::array(vec![Value::object([("x", Value::Null)].into_iter().collect())]);
        [("a", Value::Int(-1)), ("é", Value::text("ü")), ("deep", deep), ("gone", Value::Absent)].into_iter().collect()
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        for row in [row(), Object::new()] {
            let bytes = record("a/b", &row).unwrap();
            assert_eq!(read(&bytes).unwrap(), ("a/b", row));
        }
        let mut deep = Value::Null;
        for _ in 0..=pack::DEEPEST {
            deep = Value::array(vec![deep]);
        }
        let row: Object = [("a", deep)].into_iter().collect();
        assert!(!fits(&row) && record("t", &row).is_err());
    }

    #[test]
    fn any_bytes_are_a_row_or_a_fault() {
        let bytes = record("a/b", &row()).unwrap();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err());
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[end] ^= 1 << bit;
                drop(read(&flipped));
            }
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_position_comes_back_and_others_are_none() {
        let position = Position { log: "abc".into(), row: 7 }.value();
        let read = Position::read(&position).unwrap();
        assert_eq!((read.log.as_str(), read.row), ("abc", 7));
        for other in [Value::Null, Value::Int(3), Value::object([("row", Value::Int(-1))].into_iter().collect())] {
            assert!(Position::read(&other).is_none());
        }
    }
}
