use std::collections::VecDeque;
use std::sync::Arc;

use crate::data::{Account, Batch, Fate, Object, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;

use super::super::{Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::{Kept, load_rows, save_rows};
use super::{Span, emission, send};

/// COUNTWINDOW: every so many rows it gives out the latest rows, as soon as there are enough of them.
pub struct Count {
    length: usize,
    interval: usize,
    /// Rows since the last look.
    since: usize,
    rows: VecDeque<Kept>,
    bounds: Bounds,
    width: usize,
}

impl Count {
    /// `interval` is not greater than `length`, and neither is 0.
    pub fn new(length: usize, interval: usize, bounds: Bounds, width: usize) -> Self {
        Count { length, interval, since: 0, rows: VecDeque::new(), bounds, width }
    }

    fn take(&mut self, kept: Kept, cx: &Cx<'_>, out: &mut Out) {
        self.rows.push_back(kept);
        self.since += 1;
        if self.since == self.interval {
            self.since = 0;
            if self.rows.len() >= self.length {
                let mut batch = emission(self.width, self.length);
                let skipped = self.rows.len() - self.length;
                self.rows.iter_mut().skip(skipped).for_each(|kept| kept.copy_to(&mut batch));
                send(batch, &self.bounds, Span { start: cx.now, end: cx.now }, out);
            }
        }
        // What the next window can reach back to, given the rows that are to come before it.
        let wanted = self.length - (self.interval - self.since).min(self.length);
        let gone = self.rows.len().saturating_sub(wanted);
        if self.rows.len() + self.interval - self.since > self.length {
            self.rows.drain(..gone).for_each(|kept| kept.held.settle(Fate::Filtered));
        }
    }
}

impl Operator for Count {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::of(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => self.take(Kept::take(&mut batch, row), cx, out),
                Event::Mark(_) => {}
            }
        }
        Ok(())
    }

    /// There is no window of fewer rows.
    fn finish(&mut self, _: &Cx<'_>, _: &mut Out) -> Result<()> {
        self.rows.drain(..).for_each(|kept| kept.held.settle(Fate::Filtered));
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
            ("since", Value::Int(self.since as i64)),
            ("rows", save_rows(self.rows.iter())),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a count window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let (Some(Value::Int(since)), Some(rows)) = (saved.get("since"), saved.get("rows")) else {
            return Err(broken());
        };
        self.since = usize::try_from(*since).map_err(|_| broken())?;
        self.rows = load_rows(rows, account).ok_or_else(broken)?;
        Ok(())
    }
}
