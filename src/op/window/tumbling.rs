use std::sync::Arc;
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;

use super::super::aggregate::Groups;
use super::super::{Cx, Operator, Out, Saved};
use super::kept::{Kept, load_rows, save_rows};
use super::{Alignment, Span, emission, forward_faults, send, write_bounds};

/// What a window keeps of its rows.
enum Content {
    /// All of them, for a statement that gives out rows.
    Rows(Vec<Kept>),
    /// Accumulators, for a statement that aggregates.
    Groups(Box<Groups>),
}

/// TUMBLINGWINDOW in processing time: it closes at each boundary, also when it is empty.
pub struct Tumbling {
    length: Duration,
    next: Time,
    start: Time,
    bounds: Bounds,
    content: Content,
    width: usize,
}

impl Tumbling {
    /// The first window starts at `now`, the start of the rule.
    pub fn new(alignment: &Alignment, now: Time, bounds: Bounds, width: usize, groups: Option<Groups>) -> Self {
        let content = groups.map_or_else(|| Content::Rows(Vec::new()), |groups| Content::Groups(Box::new(groups)));
        Tumbling { length: alignment.length(), next: alignment.first(now), start: now, bounds, content, width }
    }

    fn close(&mut self, out: &mut Out) {
        let end = self.next;
        self.emit(end, out);
        self.start = end;
        self.next = end + self.length;
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
        forward_faults(&mut batch, out);
        for row in batch.selected().to_vec() {
            let row = row as usize;
            while batch.time(row) >= self.next {
                self.close(out);
            }
            match &mut self.content {
                Content::Groups(groups) => {
                    let held = batch.take_receipt(row).hold();
                    // Keys and arguments may ask for them.
                    write_bounds(&self.bounds, batch.row_mut(row), Span { start: self.start, end: self.next });
                    groups.add(&batch, row, held, cx);
                }
                Content::Rows(rows) => rows.push(Kept::take(&mut batch, row)),
            }
        }
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if cx.now < self.next {
            return Ok(());
        }
        self.close(out);
        // After a pause of the machine the boundaries that passed meanwhile had no rows; only the grid goes on.
        while self.next <= cx.now {
            self.start = self.next;
            self.next = self.next + self.length;
        }
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        Some(self.next)
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if !self.is_empty() {
            let end = self.next.min(cx.now.max(self.start));
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

    fn save(&self) -> Saved {
        let content = match &self.content {
            Content::Rows(rows) => save_rows(rows.iter()),
            Content::Groups(groups) => groups.save(),
        };
        Value::object(Object::from_iter([
            ("next", Value::Int(self.next.0)),
            ("start", Value::Int(self.start.0)),
            ("content", content),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a tumbling window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let (Some(Value::Int(next)), Some(Value::Int(start)), Some(content)) =
            (saved.get("next"), saved.get("start"), saved.get("content"))
        else {
            return Err(broken());
        };
        (self.next, self.start) = (Time(*next), Time(*start));
        match &mut self.content {
            Content::Groups(groups) => groups.load(content, account),
            Content::Rows(rows) => {
                *rows = load_rows(content, account).ok_or_else(broken)?;
                Ok(())
            }
        }
    }
}
