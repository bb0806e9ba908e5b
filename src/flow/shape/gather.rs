//! Emissions of a rule that are sent together: `batchSize` and `lingerInterval`.
//!
//! A [`Gather`] keeps parcels, with what was promised for them, until so many emissions have come or the time is up, and
//! then makes one parcel of them. Ticks stand at whole multiples of the interval from the start of the sink; a batch
//! that was full before does not move them. Rows become one list; JSON messages an array of messages; lines follow one
//! another under one header; other messages are put end to end.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::data::{Receipt, Time};
use crate::io::{Content, Parcel};

/// How messages are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    Json,
    /// With `header` each message begins with a line of names.
    Lines {
        header: bool,
    },
    Plain,
}

/// Parcels of one sink that wait to be sent together.
pub struct Gather {
    /// Emissions of a full batch; 0: no batch is ever full.
    size: usize,
    /// Zero: time sends no batch.
    linger: Duration,
    joined: Joined,
    started: Time,
    due: Option<Time>,
    emissions: usize,
    parcels: Vec<Parcel>,
    receipts: Vec<Receipt>,
    rows: u32,
}

/// What is sent together, and what was promised for it: the receipts, and the rows that it counts for.
pub struct Gathered {
    pub parcel: Parcel,
    pub receipts: Vec<Receipt>,
    pub rows: u32,
}

impl Gather {
    pub(super) fn new(size: usize, linger: Duration, joined: Joined, started: Time) -> Gather {
        let (parcels, receipts) = (Vec::new(), Vec::new());
        Gather { size, linger, joined, started, due: None, emissions: 0, parcels, receipts, rows: 0 }
    }

    /// Keeps what became of one emission. True when the batch is full.
    pub fn add(
        &mut self,
        parcels: impl Iterator<Item = Parcel>,
        receipts: impl Iterator<Item = Receipt>,
        rows: u32,
        now: Time,
    ) -> bool {
        self.emissions += 1;
        self.parcels.extend(parcels);
        self.receipts.extend(receipts);
        self.rows += rows;
        let linger = i64::try_from(self.linger.as_millis()).unwrap_or(i64::MAX);
        if self.due.is_none() && linger > 0 {
            let past = (now.0 - self.started.0).max(0);
            self.due = Some(Time(now.0.saturating_add(linger - past % linger)));
        }
        self.size > 0 && self.emissions >= self.size
    }

    /// When the batch is sent, full or not.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Everything that is kept, as one parcel.
    pub fn take(&mut self) -> Option<Gathered> {
        (self.emissions, self.due) = (0, None);
        let parcel = joined(self.joined, std::mem::take(&mut self.parcels))?;
        Some(Gathered { parcel, receipts: std::mem::take(&mut self.receipts), rows: std::mem::take(&mut self.rows) })
    }
}

/// One parcel of many; the values of dynamic properties are those of the last.
fn joined(how: Joined, parcels: Vec<Parcel>) -> Option<Parcel> {
    let mut parcels = parcels.into_iter();
    let mut all = parcels.next()?;
    if let Content::Rows(set) = &mut all.content {
        set.single = false;
    }
    let mut out = BytesMut::new();
    if let Content::Bytes(first) = &all.content {
        if how == Joined::Json {
            out.put_u8(b'[');
        }
        out.put_slice(first);
    }
    let header = match (&all.content, how) {
        (Content::Bytes(first), Joined::Lines { header: true }) => {
            first.split(|byte| *byte == b'\n').next().map(<[u8]>::to_vec)
        }
        _ => None,
    };
    for parcel in parcels {
        all.props = parcel.props;
        match (&mut all.content, parcel.content) {
            (Content::Rows(set), Content::Rows(more)) => set.rows.extend(more.rows),
            (_, Content::Bytes(bytes)) => {
                let rest = match &header {
                    Some(header) => bytes.strip_prefix(&header[..]).map_or(&bytes[..], |rest| rest.trim_ascii_start()),
                    None => &bytes[..],
                };
                match how {
                    Joined::Json => out.put_u8(b','),
                    Joined::Lines { .. } if !out.ends_with(b"\n") => out.put_u8(b'\n'),
                    _ => {}
                }
                out.put_slice(rest);
            }
            (Content::Bytes(_), Content::Rows(_)) => {}
        }
    }
    if let Content::Bytes(bytes) = &mut all.content {
        if how == Joined::Json {
            out.put_u8(b']');
        }
        *bytes = out.freeze();
    }
    Some(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(text: &'static str) -> Parcel {
        Parcel { content: Content::Bytes(Bytes::from_static(text.as_bytes())), props: Vec::new() }
    }

    fn text(how: Joined, parcels: &[&'static str]) -> String {
        match joined(how, parcels.iter().map(|text| message(text)).collect()).unwrap().content {
            Content::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Content::Rows(_) => panic!("rows"),
        }
    }

    #[test]
    fn messages_are_put_together_by_format() {
        assert_eq!(text(Joined::Json, &["{\"a\":1}", "{\"a\":2}"]), "[{\"a\":1},{\"a\":2}]");
        assert_eq!(text(Joined::Json, &["7"]), "[7]");
        assert_eq!(text(Joined::Lines { header: false }, &["1,2", "3,4"]), "1,2\n3,4");
        assert_eq!(text(Joined::Lines { header: true }, &["a,b\n1,2", "a,b\n3,4"]), "a,b\n1,2\n3,4");
        assert_eq!(text(Joined::Plain, &["a=1", "a=2"]), "a=1a=2");
        assert!(joined(Joined::Json, Vec::new()).is_none());
    }

    #[test]
    fn ticks_stand_at_multiples_of_the_interval() {
        let mut gather = Gather::new(2, Duration::from_secs(3), Joined::Plain, Time(1_000));
        let add =
            |gather: &mut Gather, now| gather.add(std::iter::once(message("x")), std::iter::empty(), 1, Time(now));
        assert_eq!(gather.due(), None);
        assert!(!add(&mut gather, 1_100));
        assert_eq!(gather.due(), Some(Time(4_000)));
        assert!(add(&mut gather, 3_900));
        assert_eq!(gather.take().unwrap().rows, 2);
        assert!(gather.due().is_none() && gather.take().is_none());
        assert!(!add(&mut gather, 4_000));
        assert_eq!(gather.due(), Some(Time(7_000)));
    }
}
