use std::sync::Arc;
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;

use super::super::{Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::{Kept, load_rows, save_rows};
use super::{Alignment, Span, emission, send, within};

/// SESSIONWINDOW in processing time: rows of which none is further from the next than a timeout. A session that has
/// grown to the longest duration is cut at the next boundary, so it can be nearly twice as long.
pub struct Session {
    longest: Duration,
    timeout: Duration,
    /// The next boundary of the longest duration.
    next: Time,
    /// Where the session starts: its first row, or the boundary that cut the one before.
    start: Option<Time>,
    rows: Vec<Kept>,
    bounds: Bounds,
    width: usize,
}

impl Session {
    /// `alignment` is that of the longest duration.
    pub fn new(alignment: &Alignment, timeout: Duration, now: Time, bounds: Bounds, width: usize) -> Self {
        let (longest, next) = (alignment.length(), alignment.first(now));
        Session { longest, timeout, next, start: None, rows: Vec::new(), bounds, width }
    }

    fn emit(&mut self, end: Time, out: &mut Out) {
        let Some(first) = self.rows.first() else { return };
        let span = Span { start: self.start.unwrap_or(first.time), end };
        let mut batch = emission(self.width, self.rows.len());
        self.rows.drain(..).for_each(|kept| kept.move_to(&mut batch));
        send(batch, &self.bounds, span, out);
    }

    fn quiet_at(&self) -> Option<Time> {
        self.rows.last().map(|kept| kept.time + self.timeout)
    }

    /// Lets the time go on up to `now`.
    fn advance(&mut self, now: Time, out: &mut Out) {
        loop {
            match self.quiet_at() {
                Some(quiet) if quiet <= now && quiet <= self.next => {
                    self.emit(quiet, out);
                    self.start = None;
                }
                _ if self.next <= now => {
                    let boundary = self.next;
                    self.next = boundary + self.longest;
                    if self.rows.first().is_some_and(|first| boundary.since(first.time) >= self.longest) {
                        self.emit(boundary, out);
                        self.start = Some(boundary);
                    }
                }
                _ => return,
            }
        }
    }
}

impl Operator for Session {
    fn push(&mut self, mut batch: Batch, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::of(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => {
                    let time = batch.time(row);
                    self.advance(time, out);
                    self.start.get_or_insert(time);
                    self.rows.push(Kept::take(&mut batch, row));
                }
                Event::Mark(_) => {}
            }
        }
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        self.next = within(self.next, cx.now, self.longest);
        // A row from behind now says that the clock was set back.
        let back = self.rows.last().map_or(Duration::ZERO, |last| last.time.since(cx.now));
        if !back.is_zero() {
            self.rows.iter_mut().for_each(|kept| kept.time = kept.time - back);
            self.start = self.start.map(|start| start - back);
        }
        self.advance(cx.now, out);
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        self.quiet_at().map(|quiet| quiet.min(self.next))
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        self.emit(self.quiet_at().map_or(cx.now, |quiet| quiet.min(cx.now)), out);
        self.start = None;
        Ok(())
    }

    fn discard(&mut self) {
        self.rows.drain(..).for_each(|kept| kept.held.discard(Fate::DroppedStop));
    }

    fn forget(&mut self) {
        self.rows.drain(..).for_each(|kept| kept.held.forget());
    }

    fn held(&self) -> u64 {
        self.rows.iter().map(|kept| kept.held.rows()).sum()
    }

    fn save(&self) -> Saved {
        Value::object(Object::from_iter([
            ("next", Value::Int(self.next.0)),
            ("start", self.start.map_or(Value::Null, |start| Value::Int(start.0))),
            ("rows", save_rows(self.rows.iter())),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a session window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let part = |name: &str| saved.get(name).ok_or_else(broken);
        let Value::Int(next) = part("next")? else { return Err(broken()) };
        self.next = Time(*next);
        self.start = if let Value::Int(start) = part("start")? { Some(Time(*start)) } else { None };
        self.rows = load_rows(part("rows")?, account).ok_or_else(broken)?;
        Ok(())
    }
}
