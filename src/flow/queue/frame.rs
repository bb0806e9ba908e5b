//! What stands in a queue's log: a parcel with when it came and how many rows it counts for, or the note that all before
//! some sequence is done, and what became of it. Bytes that are none of these give a fault, never a panic.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Time;
use crate::data::{Column, Layout, Text, pack};
use crate::diag::{Fault, Result};
use crate::io::{Content, Parcel, RowSet};

use super::Thrown;

/// First byte of a frame.
const DONE: u8 = 0;
const BYTES: u8 = 1;
const ROWS: u8 = 2;

/// One frame of a queue.
pub enum Frame {
    Parcel(Stored),
    /// A note of what is done.
    Done,
}

/// A parcel on the disk.
pub struct Stored {
    /// When it was put there.
    pub time: Time,
    /// The result rows that it counts for.
    pub rows: u32,
    pub parcel: Parcel,
}

/// What has left a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// All before this sequence is delivered or dropped.
    pub done: u64,
    /// Sequences behind it that were dropped while parcels before them were in the hands of the sink.
    pub gaps: Vec<Range<u64>>,
    /// Rows that were dropped since the queue is there, or, when not `whole`, since an account of them was lost.
    pub thrown: Thrown,
    pub whole: bool,
}

/// What a frame is, as far as counting it goes.
pub enum Glance {
    Parcel { time: Time, rows: u32 },
    Done(Note),
}

/// Adds the frame of a parcel. Fails with `Encode` where its values are nested too deeply.
pub fn put(out: &mut Vec<u8>, parcel: &Parcel, rows: u32, now: Time) -> Result<()> {
    out.push(match parcel.content {
        Content::Bytes(_) => BYTES,
        Content::Rows(_) => ROWS,
    });
    out.extend(now.0.to_le_bytes());
    out.extend(rows.to_le_bytes());
    count(out, parcel.props.len());
    for (name, value) in &parcel.props {
        text(out, name);
        text(out, value);
    }
    match &parcel.content {
        Content::Bytes(bytes) => out.extend_from_slice(bytes),
        Content::Rows(set) => {
            out.push(u8::from(set.single));
            count(out, set.layout.width());
            for column in set.layout.columns() {
                out.push(u8::from(column.spread));
                text(out, &column.name);
            }
            count(out, set.rows.len());
            set.rows.iter().flatten().try_for_each(|value| pack::put(out, value))?;
        }
    }
    Ok(())
}

/// The frame of a note.
pub fn done(note: &Note) -> Vec<u8> {
    let mut out = vec![DONE];
    out.extend(note.done.to_le_bytes());
    out.push(u8::from(note.whole));
    let Thrown { full, old, damaged, removed } = note.thrown;
    [full, old, damaged, removed].into_iter().for_each(|rows| out.extend(rows.to_le_bytes()));
    count(&mut out, note.gaps.len());
    note.gaps.iter().flat_map(|gap| [gap.start, gap.end]).for_each(|end| out.extend(end.to_le_bytes()));
    out
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend((number as u32).to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Reads no more than has to be counted.
pub fn glance(body: &[u8]) -> Result<Glance> {
    let mut from = Cursor(body);
    match from.byte()? {
        DONE => Ok(Glance::Done(from.note()?)),
        BYTES | ROWS => Ok(Glance::Parcel { time: Time(from.u64()? as i64), rows: from.u32()? }),
        _ => Err(damaged()),
    }
}

/// Reads a frame.
pub fn read(body: Vec<u8>) -> Result<Frame> {
    let body = Bytes::from(body);
    let mut from = Cursor(&body);
    let kind = from.byte()?;
    if kind == DONE {
        return from.u64().map(|_| Frame::Done);
    }
    let (time, rows) = (Time(from.u64()? as i64), from.u32()?);
    let mut props = Vec::new();
    for _ in 0..from.u32()? {
        props.push((from.text()?.to_owned(), from.text()?.to_owned()));
    }
    let content = match kind {
        BYTES => Content::Bytes(body.slice_ref(from.0)),
        ROWS => Content::Rows(from.rows()?),
        _ => return Err(damaged()),
    };
    Ok(Frame::Parcel(Stored { time, rows, parcel: Parcel { content, props } }))
}

fn damaged() -> Fault {
    Fault::decode("a message in the queue cannot be read")
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        self.take(4)?.try_into().map(u32::from_le_bytes).map_err(|_| damaged())
    }

    fn u64(&mut self) -> Result<u64> {
        self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| damaged())
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(|_| damaged())
    }

    fn note(&mut self) -> Result<Note> {
        let mut note = Note { done: self.u64()?, ..Note::default() };
        // Earlier versions noted no more.
        if self.0.is_empty() {
            return Ok(note);
        }
        note.whole = self.byte()? != 0;
        note.thrown = Thrown { full: self.u64()?, old: self.u64()?, damaged: self.u64()?, removed: self.u64()? };
        for _ in 0..self.u32()? {
            note.gaps.push(self.u64()?..self.u64()?);
        }
        Ok(note)
    }

    fn rows(&mut self) -> Result<RowSet> {
        let single = self.byte()? != 0;
        let mut columns = Vec::new();
        for _ in 0..self.u32()? {
            let spread = self.byte()? != 0;
            columns.push(Column { name: Text::from(self.text()?), spread });
        }
        let (width, count) = (columns.len(), self.u32()? as usize);
        // A row without columns takes no bytes, so that nothing but the count says how many there are.
        if width == 0 && count > 1 << 24 {
            return Err(damaged());
        }
        let mut rows = Vec::new();
        for _ in 0..count {
            let row = (0..width).map(|_| pack::take(&mut self.0).map_err(|_| damaged()));
            rows.push(row.collect::<Result<_>>()?);
        }
        Ok(RowSet { layout: Arc::new(Layout::new(columns)), rows, single })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use crate::data::Value;

    use super::*;

    fn samples() -> Vec<Parcel> {
        let props = vec![("topic".to_owned(), "t/é".to_owned()), ("headers.x".to_owned(), String::new())];
        let columns = vec![Column { name: "a".into(), spread: false }, Column { name: "*".into(), spread: true }];
        let layout = Arc::new(Layout::new(columns));
        let rows = vec![vec![Value::Int(i64::MAX), Value::Absent], vec![Value::text("x"), Value::Null]];
        let set = |layout, rows| Content::Rows(RowSet { layout, rows, single: true });
        vec![
            Parcel { content: Content::Bytes(Bytes::from_static(b"{\"a\":1}")), props },
            Parcel { content: Content::Bytes(Bytes::new()), props: Vec::new() },
            Parcel { content: set(layout, rows), props: Vec::new() },
            Parcel { content: set(Arc::new(Layout::new(Vec::new())), vec![Vec::new(); 3]), props: Vec::new() },
        ]
    }

    #[test]
    fn what_is_put_is_read() {
        for parcel in samples() {
            let mut body = Vec::new();
            put(&mut body, &parcel, 7, Time(-5)).unwrap();
            assert!(matches!(glance(&body).unwrap(), Glance::Parcel { time: Time(-5), rows: 7 }));
            let Frame::Parcel(stored) = read(body).unwrap() else { panic!("a note") };
            assert_eq!((stored.time, stored.rows), (Time(-5), 7));
            assert_eq!(format!("{:?}", stored.parcel), format!("{parcel:?}"));
        }
        let thrown = Thrown { full: 1, old: 2, damaged: 3, removed: 4 };
        let note = Note { done: 9, gaps: vec![10..12, 15..16], thrown, whole: true };
        assert!(matches!(glance(&done(&note)).unwrap(), Glance::Done(read) if read == note));
        assert!(matches!(read(done(&note)).unwrap(), Frame::Done));
        let short = [&[DONE][..], &9u64.to_le_bytes()].concat();
        assert!(matches!(glance(&short).unwrap(), Glance::Done(read) if read == Note { done: 9, ..Note::default() }));
    }

    #[test]
    fn any_bytes_give_a_frame_or_a_fault() {
        for parcel in samples() {
            let mut body = Vec::new();
            put(&mut body, &parcel, 1, Time(1)).unwrap();
            for end in 0..body.len() {
                let _ = (glance(&body[..end]), read(body[..end].to_vec()));
            }
            for at in 0..body.len() {
                for flip in [1, 0x80, 0xff] {
                    let mut broken = body.clone();
                    broken[at] ^= flip;
                    let _ = (glance(&broken), read(broken));
                }
            }
        }
        assert!(read(vec![]).is_err() && read(vec![9]).is_err() && read(vec![DONE, 1]).is_err());
    }
}
