use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::data::pack::{self, Pack, Packer};
use crate::data::{Account, Batch, Fate, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;

use super::super::aggregate::Groups;
use super::super::tally::Tally;
use super::super::{Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::Kept;
use super::{Grid, Span, behind_gap, emission, send, within, write_bounds};

/// What a window keeps of its rows.
enum Content {
    /// All of them, in order of arrival, for a statement that gives out rows or whose aggregates need them; each with
    /// the time by which it belongs to windows.
    Rows { rows: VecDeque<(Time, Kept)>, groups: Option<Box<Groups>> },
    /// Accumulators, for a statement that aggregates: those of the running pane, and the finished panes with their
    /// starts. A window is made of whole panes.
    Panes { groups: Box<Groups>, panes: VecDeque<(Time, Tally)> },
}

/// HOPPINGWINDOW: at each boundary it gives out the rows of the length before it, also when there are none. Where the
/// interval is longer than the window, rows fall between. In event time the first row decides where the boundaries lie.
pub struct Hopping {
    grid: Grid,
    length: Duration,
    interval: Duration,
    /// The next boundary; none before the first row in event time.
    next: Option<Time>,
    /// Where the running pane starts.
    pane: Time,
    bounds: Bounds,
    content: Content,
    width: usize,
}

impl Hopping {
    /// The grid is that of the interval. The windows keep accumulators in place of rows where all aggregates can be
    /// put together from panes and nothing in `groups` reads the bounds of the window.
    pub fn new(
        grid: Grid,
        length: Duration,
        now: Time,
        bounds: Bounds,
        width: usize,
        groups: Option<Groups>,
        by_panes: bool,
    ) -> Self {
        let content = match groups {
            Some(groups) if by_panes && groups.can_join() => {
                Content::Panes { groups: Box::new(groups), panes: VecDeque::new() }
            }
            groups => Content::Rows { rows: VecDeque::new(), groups: groups.map(Box::new) },
        };
        let (interval, next) = (grid.alignment.length(), grid.at_start(now));
        Hopping { grid, length, interval, next, pane: now, bounds, content, width }
    }

    /// Gives out the windows that end by then.
    fn advance(&mut self, now: Time, cx: &Cx<'_>, out: &mut Out) {
        while let Some(end) = self.next.filter(|end| *end <= now) {
            match behind_gap(end, now, self.interval).filter(|_| self.is_empty()) {
                Some(next) => (self.next, self.pane) = (Some(next), next - self.interval),
                None => self.close(end, cx, out),
            }
        }
    }

    fn close(&mut self, end: Time, cx: &Cx<'_>, out: &mut Out) {
        self.end_pane(end);
        self.emit(end, cx, out);
        self.step(end);
    }

    /// Goes on to the boundary behind one, and lets go of what no later window has a part in.
    fn step(&mut self, from: Time) {
        let next = from + self.interval;
        self.next = Some(next);
        let first = next - self.length;
        match &mut self.content {
            Content::Rows { rows, .. } => {
                let gone = rows.iter().take_while(|(time, _)| *time < first).count();
                rows.drain(..gone).for_each(|(_, kept)| kept.held.settle(Fate::Filtered));
            }
            Content::Panes { panes, .. } => {
                let gone = panes.iter().take_while(|(start, _)| *start < first).count();
                panes.drain(..gone).for_each(|(_, pane)| pane.settle(Fate::Filtered));
            }
        }
    }

    fn end_pane(&mut self, at: Time) {
        if let Content::Panes { groups, panes } = &mut self.content
            && !groups.is_empty()
        {
            panes.push_back((self.pane, groups.swap()));
        }
        self.pane = at;
    }

    fn emit(&mut self, end: Time, cx: &Cx<'_>, out: &mut Out) {
        let span = Span { start: end - self.length, end };
        let batch = match &mut self.content {
            Content::Panes { groups, panes } => groups.join(panes.iter_mut().map(|(_, pane)| pane), end),
            Content::Rows { rows, groups } => {
                let mut batch = emission(self.width, rows.len());
                rows.iter_mut().for_each(|(_, kept)| kept.copy_to(&mut batch));
                match groups {
                    None => batch,
                    Some(groups) => {
                        for row in 0..batch.rows() {
                            let held = batch.take_receipt(row).hold();
                            // Keys and arguments may ask for them.
                            write_bounds(&self.bounds, batch.row_mut(row), span);
                            groups.add(&batch, row, held, cx);
                        }
                        groups.close(end)
                    }
                }
            }
        };
        let grouped = !matches!(self.content, Content::Rows { groups: None, .. });
        if !(batch.is_empty() && grouped) {
            send(batch, &self.bounds, span, out);
        }
    }

    /// Follows a clock that was set back.
    fn set_back(&mut self, by: Duration) {
        if by.is_zero() {
            return;
        }
        (self.next, self.pane) = (self.next.map(|next| next - by), self.pane - by);
        match &mut self.content {
            Content::Rows { rows, .. } => rows.iter_mut().for_each(|(time, _)| *time = *time - by),
            Content::Panes { panes, .. } => panes.iter_mut().for_each(|(start, _)| *start = *start - by),
        }
    }

    fn is_empty(&self) -> bool {
        match &self.content {
            Content::Rows { rows, .. } => rows.is_empty(),
            Content::Panes { groups, panes } => groups.is_empty() && panes.is_empty(),
        }
    }
}

impl Hopping {
    fn take(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>, out: &mut Out) {
        let time = batch.time(row);
        if self.next.is_none() {
            let first = self.grid.at_row(batch.row(row), time, cx);
            (self.next, self.pane) = (Some(first), first - self.interval);
        }
        self.advance(time, cx, out);
        let Some(next) = self.next else { return };
        // A row that comes after a boundary belongs behind it, even if it was on its way when the boundary passed.
        let time = time.max(next - self.interval);
        if time < next - self.length && self.length < self.interval {
            batch.take_receipt(row).settle(Fate::Filtered);
            return;
        }
        if let Content::Rows { rows, .. } = &mut self.content {
            rows.push_back((time, Kept::take(batch, row)));
            return;
        }
        let edge = next - odd_part(self.length, self.interval);
        if time >= edge && self.pane < edge {
            self.end_pane(edge);
        }
        if let Content::Panes { groups, .. } = &mut self.content {
            let held = batch.take_receipt(row).hold();
            groups.add(batch, row, held, cx);
        }
    }
}

impl Operator for Hopping {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::by_marks(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => self.take(&mut batch, row, cx, out),
                Event::Mark(watermark) => self.advance(watermark, cx, out),
            }
        }
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if let Some(next) = self.next.filter(|_| !self.grid.is_event()) {
            let then = within(next, cx.now, self.interval);
            self.set_back(next.since(then));
        }
        let Some(end) = self.next.filter(|end| *end <= cx.now && !self.grid.is_event()) else { return Ok(()) };
        self.close(end, cx, out);
        // After a pause of the machine only those of the passed windows are given out that have rows.
        while let Some(end) = self.next.filter(|end| *end <= cx.now) {
            if self.is_empty() {
                self.pane = end;
                self.step(end);
            } else {
                self.close(end, cx, out);
            }
        }
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        self.next.filter(|_| !self.grid.is_event())
    }

    /// In processing time the window ends now; in event time each that has rows ends where it would have ended.
    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        while let Some(next) = self.next.filter(|_| !self.is_empty()) {
            if self.grid.is_event() {
                self.close(next, cx, out);
                continue;
            }
            let end = next.min(cx.now.max(next - self.interval));
            self.end_pane(end);
            self.emit(end, cx, out);
            break;
        }
        self.let_go(Fate::Filtered);
        Ok(())
    }

    fn discard(&mut self) {
        self.let_go(Fate::DroppedStop);
    }

    fn forget(&mut self) {
        match &mut self.content {
            Content::Rows { rows, .. } => rows.drain(..).for_each(|(_, kept)| kept.held.forget()),
            Content::Panes { groups, panes } => {
                groups.forget();
                panes.drain(..).for_each(|(_, pane)| pane.forget());
            }
        }
    }

    fn held(&self) -> u64 {
        match &self.content {
            Content::Rows { rows, .. } => rows.iter().map(|(_, kept)| kept.held.rows()).sum(),
            Content::Panes { groups, panes } => groups.held() + panes.iter().map(|(_, pane)| pane.held()).sum::<u64>(),
        }
    }

    fn save(&self) -> Saved {
        let (kept, groups) = match &self.content {
            Content::Rows { rows, groups } => {
                let rows = rows.iter().map(|(time, kept)| Timed { time: *time, kept });
                (pack::bundle(rows), groups.as_ref().map_or(Value::Null, |groups| groups.save()))
            }
            Content::Panes { groups, panes } => {
                let panes = panes.iter().map(|(start, pane)| Value::array(vec![Value::Int(start.0), pane.save()]));
                (pack::bundle(panes), groups.save())
            }
        };
        Value::object(Object::from_iter([
            ("next", self.next.map_or(Value::Null, |next| Value::Int(next.0))),
            ("pane", Value::Int(self.pane.0)),
            ("kept", kept),
            ("groups", groups),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a hopping window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let part = |name: &str| saved.get(name).ok_or_else(broken);
        let (next, Value::Int(pane)) = (part("next")?, part("pane")?) else { return Err(broken()) };
        self.next = if let Value::Int(next) = next { Some(Time(*next)) } else { None };
        self.pane = Time(*pane);
        let kept = pack::unbundle(part("kept")?).map(|pair| match pair? {
            Value::Array(pair) => match pair.as_slice() {
                [Value::Int(time), kept] => Ok((Time(*time), kept.clone())),
                _ => Err(broken()),
            },
            _ => Err(broken()),
        });
        match &mut self.content {
            Content::Rows { rows, groups } => {
                for one in kept {
                    let (time, kept) = one?;
                    rows.push_back((time, Kept::load(&kept, account).ok_or_else(broken)?));
                }
                groups.as_mut().map_or(Ok(()), |groups| groups.load(part("groups")?, account))
            }
            Content::Panes { groups, panes } => {
                for one in kept {
                    let (start, pane) = one?;
                    panes.push_back((start, groups.load_tally(&pane, account)?));
                }
                groups.load(part("groups")?, account)
            }
        }
    }
}

/// A row as it is saved.
struct Timed<'a> {
    time: Time,
    kept: &'a Kept,
}

impl Pack for Timed<'_> {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        let mut pair = to.array(2)?;
        pair.int(self.time.0);
        self.kept.pack(&mut pair)
    }

    fn touch(&self) -> usize {
        self.kept.touch()
    }
}

impl Hopping {
    fn let_go(&mut self, fate: Fate) {
        match &mut self.content {
            Content::Rows { rows, .. } => rows.drain(..).for_each(|(_, kept)| kept.held.discard(fate)),
            Content::Panes { groups, panes } => {
                groups.settle(fate);
                panes.drain(..).for_each(|(_, pane)| pane.settle(fate));
            }
        }
    }
}

/// How much of an interval before a boundary belongs to a window that ends later than the rest of the interval does.
fn odd_part(length: Duration, interval: Duration) -> Duration {
    let (length, interval) = (length.as_millis(), interval.as_millis().max(1));
    Duration::from_millis(u64::try_from(length % interval).unwrap_or_default())
}
