//! Windows: rows that are kept until a time comes, and then leave together.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Time as Clock;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit as Part};

use crate::data::{Account, Batch, Emissions, Fate, Held, Meta, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Bounds;
use crate::sql::Unit;

use super::aggregate::{Groups, load_row, save_row};
use super::{Cx, Operator, Out, Saved};

/// Writes the bounds of a window into the slots of a row that ask for them.
fn write_bounds(bounds: &Bounds, row: &mut [Value], start: Time, end: Time) {
    for (slot, time) in [(bounds.start, start), (bounds.end, end), (bounds.trigger, end)] {
        if let Some(slot) = slot {
            row[slot] = Value::Int(time.0);
        }
    }
}

/// Where the first boundary of a window lies: windows are aligned to the unit above theirs, in a time zone.
#[derive(Clone, Debug)]
pub struct Alignment {
    pub unit: Unit,
    /// Length (or interval) in units.
    pub count: i64,
    pub zone: TimeZone,
}

impl Alignment {
    pub fn length(&self) -> Duration {
        let millis: i64 = match self.unit {
            Unit::Day => 86_400_000,
            Unit::Hour => 3_600_000,
            Unit::Minute => 60_000,
            Unit::Second => 1_000,
            Unit::Millisecond => 1,
        };
        Duration::from_millis(millis.saturating_mul(self.count).max(1) as u64)
    }

    /// The first boundary after `now`.
    pub fn first(&self, now: Time) -> Time {
        let boundary = self.aligned(now).unwrap_or(now + self.length());
        if boundary > now { boundary } else { boundary + self.length() }
    }

    /// The natural boundary; it can lie at `now` itself.
    fn aligned(&self, now: Time) -> Option<Time> {
        let here = Timestamp::from_millisecond(now.0).ok()?.to_zoned(self.zone.clone());
        let (base, passed) = match self.unit {
            Unit::Day => {
                let midnight = here.start_of_day().ok()?;
                let day = midnight.checked_add(Span::new().try_days(self.count).ok()?).ok()?;
                return Some(Time(day.timestamp().as_millisecond()));
            }
            Unit::Hour => (here.with().time(Clock::midnight()).build().ok()?, i64::from(here.hour())),
            Unit::Minute => (
                here.round(jiff::ZonedRound::new().smallest(Part::Hour).mode(jiff::RoundMode::Trunc)).ok()?,
                i64::from(here.minute()),
            ),
            Unit::Second => (
                here.round(jiff::ZonedRound::new().smallest(Part::Minute).mode(jiff::RoundMode::Trunc)).ok()?,
                i64::from(here.second()),
            ),
            Unit::Millisecond => (
                here.round(jiff::ZonedRound::new().smallest(Part::Second).mode(jiff::RoundMode::Trunc)).ok()?,
                i64::from(here.millisecond()),
            ),
        };
        let steps = if passed > self.count { passed / self.count + 1 } else { 1 };
        let length = i64::try_from(self.length().as_millis()).ok()?;
        Some(Time(base.timestamp().as_millisecond().checked_add(length.checked_mul(steps)?)?))
    }
}

/// What a window keeps of its rows.
pub enum Content {
    /// All of them, for a statement that gives out rows.
    Rows(Vec<Kept>),
    /// Accumulators, for a statement that aggregates.
    Groups(Box<Groups>),
}

/// A row that a window keeps.
pub struct Kept {
    values: Vec<Value>,
    time: Time,
    meta: Option<Meta>,
    held: Held,
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
        let mut batch = match &mut self.content {
            // Without rows there are no groups, and so nothing to give out.
            Content::Groups(groups) if groups.is_empty() && groups.has_keys() => return,
            Content::Groups(groups) => groups.close(end),
            Content::Rows(rows) => {
                let mut batch = Batch::with_capacity(self.width, rows.len());
                batch.emissions = Emissions::Whole;
                for kept in rows.drain(..) {
                    let row = batch.rows();
                    let slots = batch.push(kept.time, kept.held.release());
                    slots.iter_mut().zip(kept.values).for_each(|(slot, value)| *slot = value);
                    if let Some(meta) = &kept.meta {
                        batch.set_meta(row, meta);
                    }
                }
                batch
            }
        };
        // A window without groups has nothing to say; one without keys always has its one row.
        if batch.is_empty() && matches!(self.content, Content::Groups(_)) {
            return;
        }
        for row in 0..batch.rows() {
            write_bounds(&self.bounds, batch.row_mut(row), self.start, end);
        }
        out.send(batch);
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
            let time = batch.time(row);
            while time >= self.next {
                self.close(out);
            }
            let held = batch.take_receipt(row).hold();
            match &mut self.content {
                Content::Groups(groups) => {
                    // Keys and arguments may ask for them.
                    write_bounds(&self.bounds, batch.row_mut(row), self.start, self.next);
                    groups.add(&batch, row, held, cx);
                }
                Content::Rows(rows) => {
                    let meta = batch.meta(row).cloned();
                    rows.push(Kept { values: batch.take_row(row), time, meta, held });
                }
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
            Content::Rows(rows) => rows.drain(..).for_each(|kept| kept.held.settle(Fate::DroppedStop)),
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
            Content::Rows(rows) => Value::array(rows.iter().map(save_kept).collect()),
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
        match (&mut self.content, content) {
            (Content::Groups(groups), content) => groups.load(content, account),
            (Content::Rows(rows), Value::Array(saved)) => {
                *rows = saved.iter().map(|kept| load_kept(kept, account)).collect::<Option<_>>().ok_or_else(broken)?;
                Ok(())
            }
            _ => Err(broken()),
        }
    }
}

fn save_kept(kept: &Kept) -> Value {
    Value::object(Object::from_iter([
        ("row", save_row(&kept.values)),
        ("time", Value::Int(kept.time.0)),
        ("meta", kept.meta.clone().map_or(Value::Null, Value::Object)),
        ("held", Value::Int(kept.held.rows() as i64)),
    ]))
}

fn load_kept(saved: &Value, account: &Arc<dyn Account>) -> Option<Kept> {
    let Value::Object(saved) = saved else { return None };
    let (Value::Int(time), Value::Int(held)) = (saved.get("time")?, saved.get("held")?) else { return None };
    Some(Kept {
        values: load_row(saved.get("row")?)?,
        time: Time(*time),
        meta: if let Value::Object(meta) = saved.get("meta")? { Some(meta.clone()) } else { None },
        held: Held::restored(account.clone(), *held as u64),
    })
}

/// Errors do not wait for a window: they go on at once, in their order.
pub(super) fn forward_faults(batch: &mut Batch, out: &mut Out) {
    let faults = batch.take_faults();
    if !faults.is_empty() {
        let mut errors = Batch::new(batch.width());
        faults.into_iter().for_each(|(row, fault)| errors.note(row as usize, fault));
        out.send(errors);
    }
}

/// Fails an emission as a whole: all its rows share the fault, which is told once.
pub(super) fn fail_all(batch: &mut Batch, fault: Fault) {
    let fate = Fate::dead(&fault);
    for row in batch.selected().to_vec() {
        batch.take_receipt(row as usize).settle(fate);
    }
    batch.select(Vec::new());
    batch.note(0, fault);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn first(unit: Unit, count: i64, now: &str) -> String {
        let now: Timestamp = now.parse().unwrap();
        let alignment = Alignment { unit, count, zone: TimeZone::UTC };
        Timestamp::from_millisecond(alignment.first(Time(now.as_millisecond())).0).unwrap().to_string()
    }

    #[test]
    fn boundaries_are_aligned_to_the_unit_above() {
        let now = "2023-11-14T22:13:20.5Z";
        assert_eq!(first(Unit::Second, 10, now), "2023-11-14T22:13:30Z");
        assert_eq!(first(Unit::Second, 15, now), "2023-11-14T22:13:30Z");
        assert_eq!(first(Unit::Second, 7, now), "2023-11-14T22:13:21Z");
        assert_eq!(first(Unit::Second, 45, now), "2023-11-14T22:13:45Z");
        assert_eq!(first(Unit::Second, 90, now), "2023-11-14T22:14:30Z");
        assert_eq!(first(Unit::Minute, 5, now), "2023-11-14T22:15:00Z");
        assert_eq!(first(Unit::Hour, 6, now), "2023-11-15T00:00:00Z");
        assert_eq!(first(Unit::Day, 1, now), "2023-11-15T00:00:00Z");
        assert_eq!(first(Unit::Millisecond, 200, now), "2023-11-14T22:13:20.6Z");
        assert_eq!(first(Unit::Second, 20, "2023-11-14T22:13:20Z"), "2023-11-14T22:13:40Z");
    }
}
