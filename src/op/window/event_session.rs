use std::sync::Arc;
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;

use super::super::{Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::{Kept, load_rows, save_rows};
use super::{Grid, Span, emission, send};

/// SESSIONWINDOW in event time: rows of which none is further from the next than a timeout. Boundaries of the longest
/// duration are counted from the first row of each session; one that lies further behind it than that duration cuts the
/// session as soon as there is a row behind the boundary.
pub struct EventSession {
    /// Its alignment is that of the longest duration.
    grid: Grid,
    timeout: Duration,
    /// The next boundary of the running session.
    next: Option<Time>,
    /// The boundary that cut the session before: where this one starts.
    cut: Option<Time>,
    rows: Vec<Kept>,
    bounds: Bounds,
    width: usize,
}

impl EventSession {
    pub fn new(grid: Grid, timeout: Duration, bounds: Bounds, width: usize) -> Self {
        EventSession { grid, timeout, next: None, cut: None, rows: Vec::new(), bounds, width }
    }

    /// Gives out the rows before `end`. Those at a boundary that cuts are the first of the next session.
    fn close(&mut self, end: Time, is_cut: bool, cx: &Cx<'_>, out: &mut Out) {
        let Some(first) = self.rows.first() else { return };
        let span = Span { start: self.cut.unwrap_or(first.time), end };
        let later = self.rows.partition_point(|kept| kept.time < end);
        let rest = self.rows.split_off(later);
        let mut batch = emission(self.width, later);
        std::mem::replace(&mut self.rows, rest).into_iter().for_each(|kept| kept.move_to(&mut batch));
        send(batch, &self.bounds, span, out);
        self.cut = is_cut.then_some(end);
        self.next = self.rows.first().map(|first| self.grid.at_row(&first.values, first.time, cx));
    }

    fn quiet_at(&self) -> Option<Time> {
        self.rows.last().map(|last| last.time + self.timeout)
    }

    /// Closes what a row of that time is no part of.
    fn step(&mut self, time: Time, cx: &Cx<'_>, out: &mut Out) {
        let longest = self.grid.alignment.length();
        while let (Some(quiet), Some(first), Some(boundary)) = (self.quiet_at(), self.rows.first(), self.next) {
            let is_over = time > quiet;
            if time > boundary && (!is_over || boundary < quiet) {
                if boundary - longest > first.time {
                    self.close(boundary, true, cx, out);
                } else {
                    self.next = Some(boundary + longest);
                }
            } else if is_over {
                self.close(quiet, false, cx, out);
            } else {
                return;
            }
        }
    }

    fn take(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>, out: &mut Out) {
        let time = batch.time(row);
        self.step(time, cx, out);
        if self.rows.is_empty() {
            self.next = Some(self.grid.at_row(batch.row(row), time, cx));
        }
        self.rows.push(Kept::take(batch, row));
    }
}

impl Operator for EventSession {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::by_marks(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => self.take(&mut batch, row, cx, out),
                Event::Mark(watermark) => {
                    if let Some(quiet) = self.quiet_at().filter(|quiet| *quiet < watermark) {
                        self.close(quiet, false, cx, out);
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if let Some(quiet) = self.quiet_at() {
            self.close(quiet, false, cx, out);
        }
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
        let time = |time: Option<Time>| time.map_or(Value::Null, |time| Value::Int(time.0));
        Value::object(Object::from_iter([
            ("next", time(self.next)),
            ("cut", time(self.cut)),
            ("rows", save_rows(self.rows.iter())),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a session window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let time = |name: &str| match saved.get(name) {
            Some(Value::Int(time)) => Ok(Some(Time(*time))),
            Some(Value::Null) => Ok(None),
            _ => Err(broken()),
        };
        (self.next, self.cut) = (time("next")?, time("cut")?);
        let rows = saved.get("rows").and_then(|rows| load_rows(rows, account));
        self.rows = rows.ok_or_else(broken)?;
        Ok(())
    }
}
