//! Rows put into the order in which they happened. Invariant: what has left is in order of time, and no row leaves whose
//! time lies before the watermark.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Text, Time, Value};
use crate::diag::{Fault, Result};

use super::window::{Kept, load_rows, save_rows};
use super::{Cx, Operator, Out, Saved, Stamps};

/// How far the event time of a rule has come, for its status; the operator writes it, others read.
#[derive(Default)]
pub struct Gauge(Mutex<Tide>);

/// How far the event time of a rule has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tide {
    /// Nothing before all streams have given a row.
    pub watermark: Option<Time>,
    /// Rows that wait for it.
    pub waiting: usize,
    /// The streams that the others wait for; empty where none does.
    pub held_by: Vec<Text>,
}

impl Gauge {
    pub fn read(&self) -> Tide {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, tide: Tide) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tide;
    }
}

/// What is known of one stream.
struct Seen {
    largest: Option<Time>,
    /// When its last row came, by the clock.
    came: Time,
    /// Without rows for so long that it does not count until one comes.
    idle: bool,
    /// It has come to its end.
    ended: bool,
}

/// Orders rows by the time at which they happened. The watermark is the smallest of the largest times of all streams,
/// less a tolerance; a row before it is late, the others are kept until it has passed them.
pub struct Watermark {
    stamps: Stamps,
    pace: Pace,
    seen: Vec<Seen>,
    at: Option<Time>,
    /// In order of time; equal ones in order of arrival.
    kept: VecDeque<Kept>,
    width: usize,
    gauge: Arc<Gauge>,
}

/// How a watermark goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub tolerance: Duration,
    /// A stream without rows for so long holds nothing up (`idleTimeout`).
    pub patience: Option<Duration>,
    /// Windows behind it want to hear of the watermark.
    pub marks: bool,
}

impl Watermark {
    pub fn new(stamps: Stamps, pace: Pace, width: usize, now: Time, gauge: Arc<Gauge>) -> Self {
        let seen = |_| Seen { largest: None, came: now, idle: false, ended: false };
        let seen = stamps.streams().map(seen).collect();
        Watermark { stamps, pace, seen, at: None, kept: VecDeque::new(), width, gauge }
    }

    /// Where the watermark would stand by what has been seen.
    fn computed(&self) -> Option<Time> {
        let mut least = None;
        for seen in self.seen.iter().filter(|seen| !seen.idle && !seen.ended) {
            let largest = seen.largest?;
            least = Some(least.map_or(largest, |least: Time| least.min(largest)));
        }
        // When all streams are idle none of them holds the newest up.
        let newest = || self.seen.iter().filter_map(|seen| seen.largest).max();
        least.or_else(newest).map(|time| time - self.pace.tolerance)
    }

    /// Lets the watermark go on, if it does: what it has passed goes into the batch, in order.
    fn advance(&mut self, into: &mut Batch) {
        let Some(watermark) = self.computed().filter(|next| self.at.is_none_or(|at| *next > at)) else { return };
        self.advance_to(watermark, into);
    }

    fn advance_to(&mut self, watermark: Time, into: &mut Batch) {
        self.at = Some(watermark);
        let passed = self.kept.partition_point(|kept| kept.time <= watermark);
        self.kept.drain(..passed).for_each(|kept| kept.move_to(into));
        if self.pace.marks {
            into.mark(watermark);
        }
    }

    fn take(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>, into: &mut Batch) {
        let time = batch.time(row);
        let stream = self.stamps.stream_of(batch.row(row));
        if let Some(seen) = self.seen.get_mut(stream) {
            (seen.came, seen.idle) = (cx.now, false);
            seen.largest = Some(seen.largest.map_or(time, |largest| largest.max(time)));
        }
        if self.at.is_some_and(|at| time < at) {
            batch.take_receipt(row).settle(Fate::Late);
            return;
        }
        // The usual case of a stream in order without a tolerance: it goes on at once.
        if let Some(watermark) = self.computed().filter(|next| self.at.is_none_or(|at| *next > at))
            && time <= watermark
            && self.kept.back().is_none_or(|last| last.time <= time)
        {
            self.kept.drain(..).for_each(|kept| kept.move_to(into));
            move_row(batch, row, into);
            self.advance_to(watermark, into);
            return;
        }
        let at = self.kept.partition_point(|kept| kept.time <= time);
        self.kept.insert(at, Kept::take(batch, row));
        self.advance(into);
    }

    fn tell(&self) {
        let counting = || self.seen.iter().zip(self.stamps.streams()).filter(|(seen, _)| !seen.idle && !seen.ended);
        let least = counting().map(|(seen, _)| seen.largest).min().flatten();
        let ahead = self.seen.iter().any(|seen| seen.largest > least);
        let holds = |(seen, _): &(&Seen, &Text)| seen.largest == least && ahead;
        let held_by = counting().filter(holds).map(|(_, name)| name.clone()).collect();
        self.gauge.set(Tide { watermark: self.at, waiting: self.kept.len(), held_by });
    }
}

/// Moves a row from one batch to the end of another of the same width.
fn move_row(from: &mut Batch, row: usize, to: &mut Batch) {
    let (time, receipt, at) = (from.time(row), from.take_receipt(row), to.rows());
    let slots = to.push(time, receipt);
    slots.iter_mut().zip(from.row_mut(row)).for_each(|(slot, value)| *slot = std::mem::take(value));
    if let Some(meta) = from.meta(row).cloned() {
        to.set_meta(at, &meta);
    }
}

fn send(batch: &mut Batch, out: &mut Out) {
    if !batch.is_empty() {
        let width = batch.width();
        out.send(std::mem::replace(batch, Batch::new(width)));
    }
}

impl Operator for Watermark {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut into = Batch::with_capacity(batch.width(), batch.selected().len());
        // Each error leaves in a batch of its own, so that its place among rows and watermarks is known.
        let told = |fault: Fault, into: &mut Batch, out: &mut Out| {
            send(into, out);
            into.note(0, fault);
            send(into, out);
        };
        let mut faults = batch.take_faults().into_iter().peekable();
        for row in batch.selected().to_vec() {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= row) {
                told(fault, &mut into, out);
            }
            match self.stamps.time(batch.row(row as usize), cx) {
                Ok(time) => {
                    batch.set_time(row as usize, time);
                    self.take(&mut batch, row as usize, cx, &mut into);
                }
                Err(fault) => {
                    batch.bury(row as usize, &fault);
                    told(fault, &mut into, out);
                }
            }
        }
        faults.for_each(|(_, fault)| told(fault, &mut into, out));
        send(&mut into, out);
        self.tell();
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let Some(patience) = self.pace.patience else { return Ok(()) };
        self.seen.iter_mut().for_each(|seen| seen.idle |= seen.came + patience <= cx.now);
        let mut into = Batch::new(self.width);
        self.advance(&mut into);
        send(&mut into, out);
        self.tell();
        Ok(())
    }

    /// Only one of several streams can be waited for in vain.
    fn due(&self) -> Option<Time> {
        let patience = self.pace.patience.filter(|_| self.seen.len() > 1)?;
        self.seen.iter().filter(|seen| !seen.idle && !seen.ended).map(|seen| seen.came + patience).min()
    }

    /// What is left of the stream holds nothing up.
    fn ended(&mut self, source: usize, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        if let Some(seen) = self.stamps.of_source(source).and_then(|stream| self.seen.get_mut(stream)) {
            seen.ended = true;
        }
        let mut into = Batch::new(self.width);
        self.advance(&mut into);
        send(&mut into, out);
        self.tell();
        Ok(())
    }

    /// Nothing that could be older comes any more: all is given out, and the time goes on to the last row.
    fn finish(&mut self, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        let last = self.seen.iter().filter_map(|seen| seen.largest).max();
        let mut into = Batch::new(self.width);
        match last {
            Some(last) if self.at.is_none_or(|at| last > at) => self.advance_to(last, &mut into),
            _ => self.kept.drain(..).for_each(|kept| kept.move_to(&mut into)),
        }
        send(&mut into, out);
        self.tell();
        Ok(())
    }

    fn discard(&mut self) {
        self.kept.drain(..).for_each(|kept| kept.held.discard(Fate::DroppedStop));
    }

    fn forget(&mut self) {
        self.kept.drain(..).for_each(|kept| kept.held.forget());
    }

    fn held(&self) -> u64 {
        self.kept.iter().map(|kept| kept.held.rows()).sum()
    }

    fn save(&self) -> Saved {
        let time = |time: Option<Time>| time.map_or(Value::Null, |time| Value::Int(time.0));
        let seen = self.seen.iter().map(|seen| {
            let Seen { largest, came, idle, ended } = seen;
            Value::array(vec![time(*largest), Value::Int(came.0), Value::Bool(*idle), Value::Bool(*ended)])
        });
        Value::object(Object::from_iter([
            ("at", time(self.at)),
            ("seen", Value::array(seen.collect())),
            ("kept", save_rows(self.kept.iter())),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a watermark cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let part = |name: &str| saved.get(name).ok_or_else(broken);
        let time = |value: &Value| if let Value::Int(time) = value { Some(Time(*time)) } else { None };
        let Value::Array(seen) = part("seen")? else { return Err(broken()) };
        if seen.len() != self.seen.len() {
            return Err(broken());
        }
        for (mine, saved) in self.seen.iter_mut().zip(seen.iter()) {
            let Value::Array(saved) = saved else { return Err(broken()) };
            let [largest, came, Value::Bool(idle), Value::Bool(ended)] = saved.as_slice() else { return Err(broken()) };
            *mine = Seen { largest: time(largest), came: time(came).ok_or_else(broken)?, idle: *idle, ended: *ended };
        }
        self.at = time(part("at")?);
        self.kept = load_rows(part("kept")?, account).ok_or_else(broken)?;
        self.tell();
        Ok(())
    }
}
