use std::sync::Arc;
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;

use super::super::aggregate::Groups;
use super::super::{Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::{Kept, load_rows, save_rows};
use super::{Grid, Span, behind_gap, emission, send, within, write_bounds};

/// What a window keeps of its rows.
enum Content {
    /// All of them, for a statement that gives out rows.
    Rows(Vec<Kept>),
    /// Accumulators, for a statement that aggregates.
    Groups(Box<Groups>),
}

/// TUMBLINGWINDOW: it closes at each boundary, also when it is empty. In event time the first row opens the first window.
pub struct Tumbling {
    grid: Grid,
    length: Duration,
    /// The next boundary; none before the first row in event time.
    next: Option<Time>,
    start: Time,
    bounds: Bounds,
    content: Content,
    width: usize,
}

impl Tumbling {
    /// In processing time the first window starts at `now`, the start of the rule.
    pub fn new(grid: Grid, now: Time, bounds: Bounds, width: usize, groups: Option<Groups>) -> Self {
        let content = groups.map_or_else(|| Content::Rows(Vec::new()), |groups| Content::Groups(Box::new(groups)));
        let (length, next) = (grid.alignment.length(), grid.at_start(now));
        Tumbling { grid, length, next, start: now, bounds, content, width }
    }

    /// Closes the windows that end by then.
    fn advance(&mut self, now: Time, out: &mut Out) {
        while let Some(end) = self.next.filter(|end| *end <= now) {
            if let Some(next) = behind_gap(end, now, self.length).filter(|_| self.is_empty()) {
                (self.start, self.next) = (next - self.length, Some(next));
                continue;
            }
            self.emit(end, out);
            self.start = end;
            self.next = Some(end + self.length);
        }
    }

    fn take(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>, out: &mut Out) {
        let time = batch.time(row);
        if self.next.is_none() {
            (self.start, self.next) = (time, Some(self.grid.at_row(batch.row(row), time, cx)));
        }
        self.advance(time, out);
        match &mut self.content {
            Content::Groups(groups) => {
                let held = batch.take_receipt(row).hold();
                // Keys and arguments may ask for them.
                let span = Span { start: self.start, end: self.next.unwrap_or(time) };
                write_bounds(&self.bounds, batch.row_mut(row), span);
                groups.add(batch, row, held, cx);
            }
            Content::Rows(rows) => rows.push(Kept::take(batch, row)),
        }
    }

    fn emit(&mut self, end: Time, out: &mut Out) {
        let span = Span { start: self.start, end };
        let batch = match &mut self.content {
            // Without rows there are no groups, and so nothing to give out.
            Content::Groups(groups) if groups.is_empty() && groups.has_keys() => return,
            Content::Groups(groups) => groups.close(end),
            Content::Rows(rows) => {
                let mut batch = emission(self.width, rows.len());
                rows.drain(..).for_each(|kept| kept.move_to(&mut batch));
                batch
            }
        };
        // A window without groups has nothing to say; one without keys always has its one row.
        if batch.is_empty() && matches!(self.content, Content::Groups(_)) {
            return;
        }
        send(batch, &self.bounds, span, out);
    }

    fn is_empty(&self) -> bool {
        match &self.content {
            Content::Rows(rows) => rows.is_empty(),
            Content::Groups(groups) => groups.is_empty(),
        }
    }
}

impl Operator for Tumbling {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::by_marks(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => self.take(&mut batch, row, cx, out),
                Event::Mark(watermark) => self.advance(watermark, out),
            }
        }
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if let Some(next) = self.next.filter(|_| !self.grid.is_event()) {
            let then = within(next, cx.now, self.length);
            (self.start, self.next) = (self.start - next.since(then), Some(then));
        }
        let Some(end) = self.next.filter(|end| *end <= cx.now && !self.grid.is_event()) else { return Ok(()) };
        self.advance(end, out);
        // After a pause of the machine the boundaries that passed meanwhile had no rows; only the grid goes on.
        while let Some(end) = self.next.filter(|end| *end <= cx.now) {
            (self.start, self.next) = (end, Some(end + self.length));
        }
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        self.next.filter(|_| !self.grid.is_event())
    }

    /// In processing time the window ends now, in event time where it would have ended.
    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if let Some(next) = self.next.filter(|_| !self.is_empty()) {
            let end = if self.grid.is_event() { next } else { next.min(cx.now.max(self.start)) };
            self.emit(end, out);
            self.start = end;
        }
        Ok(())
    }

    fn discard(&mut self) {
        match &mut self.content {
            Content::Rows(rows) => rows.drain(..).for_each(|kept| kept.held.discard(Fate::DroppedStop)),
            Content::Groups(groups) => groups.settle(Fate::DroppedStop),
        }
    }

    fn forget(&mut self) {
        match &mut self.content {
            Content::Rows(rows) => rows.drain(..).for_each(|kept| kept.held.forget()),
            Content::Groups(groups) => groups.forget(),
        }
    }

    fn held(&self) -> u64 {
        match &self.content {
            Content::Rows(rows) => rows.iter().map(|kept| kept.held.rows()).sum(),
            Content::Groups(groups) => groups.held(),
        }
    }

    fn save(&self) -> Saved {
        let content = match &self.content {
            Content::Rows(rows) => save_rows(rows.iter()),
            Content::Groups(groups) => groups.save(),
        };
        Value::object(Object::from_iter([
            ("next", self.next.map_or(Value::Null, |next| Value::Int(next.0))),
            ("start", Value::Int(self.start.0)),
            ("content", content),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a tumbling window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let (Some(next), Some(Value::Int(start)), Some(content)) =
            (saved.get("next"), saved.get("start"), saved.get("content"))
        else {
            return Err(broken());
        };
        self.next = if let Value::Int(next) = next { Some(Time(*next)) } else { None };
        self.start = Time(*start);
        match &mut self.content {
            Content::Groups(groups) => groups.load(content, account),
            Content::Rows(rows) => {
                *rows = load_rows(content, account).ok_or_else(broken)?;
                Ok(())
            }
        }
    }
}
