use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Object, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Bounds, Predicate};

use super::super::{Counters, Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::{Kept, load_rows, save_rows};
use super::{Span, emission, send_triggered};

/// How far a sliding window reaches.
#[derive(Clone, Copy, Debug)]
pub struct SlidingTimes {
    pub length: Duration,
    /// How long after the row that triggers it the window is given out; it reaches up to there.
    pub delay: Duration,
    /// A row that is exactly the length older is not in the window (`windowVersion` `v2`).
    pub open: bool,
    /// `enableSendSlidingWindowTwice`: where there is a delay, what came up to the row that triggers is given out with it,
    /// and what came behind it after the delay.
    pub twice: bool,
    /// Event time: windows are given out when the watermark has passed their ends.
    pub event: bool,
}

/// SLIDINGWINDOW: each row, or each for which a condition holds, gives out the rows of the length before it, and of the
/// delay behind it.
pub struct Sliding {
    times: SlidingTimes,
    /// OVER (WHEN …): which rows trigger, and what counts them.
    when: Option<(Predicate, Counters)>,
    bounds: Bounds,
    width: usize,
    rows: VecDeque<Kept>,
    /// Rows whose windows wait for their delay.
    waiting: VecDeque<Time>,
}

impl Sliding {
    pub fn new(times: SlidingTimes, when: Option<(Predicate, Counters)>, bounds: Bounds, width: usize) -> Self {
        Sliding { times, when, bounds, width, rows: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Gives out the window of the row of that time.
    fn emit(&mut self, trigger: Time, out: &mut Out) {
        let SlidingTimes { length, delay, open, .. } = self.times;
        let span = Span { start: trigger - length, end: trigger + delay };
        self.give(span, open, delay.is_zero() || open, span.end, out);
    }

    /// The part of the window up to the row that triggers it.
    fn emit_before(&mut self, trigger: Time, out: &mut Out) {
        let span = Span { start: trigger - self.times.length, end: trigger };
        self.give(span, true, true, trigger, out);
    }

    /// The part of the window behind the row that triggered it.
    fn emit_behind(&mut self, trigger: Time, out: &mut Out) {
        let span = Span { start: trigger, end: trigger + self.times.delay };
        self.give(span, true, true, trigger, out);
    }

    /// Gives out what lies between two times; `open` without the left one, `closed` with the right one.
    fn give(&mut self, span: Span, open: bool, closed: bool, trigger: Time, out: &mut Out) {
        let inside = |time: Time| {
            let behind_start = if open { time > span.start } else { time >= span.start };
            let before_end = if closed { time <= span.end } else { time < span.end };
            behind_start && before_end
        };
        let mut batch = emission(self.width, self.rows.len());
        self.rows.iter_mut().filter(|kept| inside(kept.time)).for_each(|kept| kept.copy_to(&mut batch));
        if !batch.is_empty() {
            send_triggered(batch, &self.bounds, span, trigger, out);
        }
    }

    /// Gives out the window of a row that has waited for its delay.
    fn emit_waiting(&mut self, trigger: Time, out: &mut Out) {
        if self.times.twice { self.emit_behind(trigger, out) } else { self.emit(trigger, out) }
    }

    /// The first instant at which a row of that time is in no window of a row that comes then.
    fn expiry(&self, time: Time) -> Time {
        time + self.times.length + Duration::from_millis(u64::from(!self.times.open))
    }

    /// Lets go of rows that no window to come has a part in.
    fn evict(&mut self, now: Time) {
        let oldest = self.waiting.front().map_or(now, |trigger| now.min(*trigger));
        let gone = self.rows.iter().take_while(|kept| self.expiry(kept.time) <= oldest).count();
        self.rows.drain(..gone).for_each(|kept| kept.held.settle(Fate::Filtered));
    }

    fn fire(&mut self, now: Time, out: &mut Out) {
        while let Some(trigger) = self.waiting.front().copied()
            && trigger + self.times.delay <= now
        {
            self.emit_waiting(trigger, out);
            self.waiting.pop_front();
            self.evict(trigger);
        }
    }
}

impl Sliding {
    fn take(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>, out: &mut Out) {
        let time = batch.time(row);
        if !self.times.event {
            self.fire(time, out);
        }
        // A condition that fails does not hold; the row is in the windows of others all the same.
        let triggers = self.when.as_mut().is_none_or(|(when, counters)| {
            counters.fill(batch.row_mut(row));
            let holds = when.holds(&cx.frame(batch, row)).unwrap_or_default();
            if holds {
                counters.hit(time);
            }
            holds
        });
        self.rows.push_back(Kept::take(batch, row));
        self.evict(time);
        // `v2` does not wait for rows of the same time.
        let at_once = self.times.delay.is_zero() && (self.times.open || !self.times.event);
        if triggers && at_once {
            self.emit(time, out);
        } else if triggers {
            if self.times.twice {
                self.emit_before(time, out);
            }
            self.waiting.push_back(time);
        }
    }
}

impl Operator for Sliding {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::of(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => self.take(&mut batch, row, cx, out),
                Event::Mark(watermark) => {
                    self.fire(watermark, out);
                    self.evict(watermark);
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if !self.times.event {
            // A row from behind now says that the clock was set back.
            let back = self.rows.back().map_or(Duration::ZERO, |last| last.time.since(cx.now));
            if !back.is_zero() {
                self.rows.iter_mut().for_each(|kept| kept.time = kept.time - back);
                self.waiting.iter_mut().for_each(|trigger| *trigger = *trigger - back);
            }
            self.fire(cx.now, out);
            self.evict(cx.now);
        }
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        if self.times.event {
            return None;
        }
        match self.waiting.front() {
            Some(trigger) => Some(*trigger + self.times.delay),
            None => self.rows.front().map(|kept| self.expiry(kept.time)),
        }
    }

    /// Windows that wait for their delay are given out with what has come.
    fn finish(&mut self, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        while let Some(trigger) = self.waiting.pop_front() {
            self.emit_waiting(trigger, out);
        }
        self.rows.drain(..).for_each(|kept| kept.held.settle(Fate::Filtered));
        Ok(())
    }

    fn discard(&mut self) {
        self.waiting.clear();
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
            ("rows", save_rows(self.rows.iter())),
            ("waiting", Value::array(self.waiting.iter().map(|trigger| Value::Int(trigger.0)).collect())),
            (
                "when",
                self.when.as_ref().map_or(Value::Null, |(when, hits)| Value::array(vec![when.save(), hits.save()])),
            ),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a sliding window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let part = |name: &str| saved.get(name).ok_or_else(broken);
        self.rows = load_rows(part("rows")?, account).ok_or_else(broken)?;
        let Value::Array(waiting) = part("waiting")? else { return Err(broken()) };
        for trigger in waiting.iter() {
            let Value::Int(trigger) = trigger else { return Err(broken()) };
            self.waiting.push_back(Time(*trigger));
        }
        if let Some((when, counters)) = &mut self.when {
            let Value::Array(saved) = part("when")? else { return Err(broken()) };
            let [condition, hits] = saved.as_slice() else { return Err(broken()) };
            when.load(condition.clone())?;
            counters.load(hits)?;
        }
        Ok(())
    }
}
