use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::Time;
use crate::data::Text;
use crate::diag::Result;
use crate::expr::{Predicate, Program};
use crate::op::{
    Alignment, Count, Counters, EventSession, Grid, Hopping, Operator, Session, Sliding, SlidingTimes, Stamp, Stamps,
    State, Tumbling, length_of,
};
use crate::plan::{self, Window, Windowed};

use super::chain::groups;

/// Turns the window of a plan into its operator. `rule` is its id, `local` is the zone that windows of processing time are aligned in.
pub(super) fn operator(
    windowed: &Windowed,
    width: usize,
    rule: &Text,
    local: &TimeZone,
    now: Time,
) -> Result<Box<dyn Operator>> {
    let Windowed { window, bounds, grouping, boundless, event } = windowed;
    let zone = local.clone();
    let groups = grouping.as_ref().map(|grouping| groups(grouping, width, rule)).transpose()?;
    let is_event = event.is_some();
    let grid = |unit, count| Grid { alignment: Alignment { unit, count, zone }, event: event.as_ref().map(stamps) };
    Ok(match window {
        Window::Tumbling { unit, count } => Box::new(Tumbling::new(grid(*unit, *count), now, *bounds, width, groups)),
        Window::Hopping { unit, count, interval } => {
            let length = length_of(*unit, *count);
            Box::new(Hopping::new(grid(*unit, *interval), length, now, *bounds, width, groups, *boundless))
        }
        Window::Sliding { unit, count, delay, open, twice, when, hits } => {
            let delay = if *delay == 0 { Duration::ZERO } else { length_of(*unit, *delay) };
            let twice = *twice && !delay.is_zero();
            let times = SlidingTimes { length: length_of(*unit, *count), delay, open: *open, twice, event: is_event };
            let counters = Counters::new(hits.iter().map(|call| (call.func, call.slot)));
            let when = when.as_ref().map(|when| (Predicate::new(when), counters));
            Box::new(Sliding::new(times, when, *bounds, width))
        }
        Window::Session { unit, longest, timeout } => {
            let (grid, timeout) = (grid(*unit, *longest), length_of(*unit, *timeout));
            if is_event {
                return Ok(Box::new(EventSession::new(grid, timeout, *bounds, width)));
            }
            Box::new(Session::new(&grid.alignment, timeout, now, *bounds, width))
        }
        Window::Count { length, interval } => Box::new(Count::new(*length, *interval, *bounds, width)),
        Window::State { begin, end, partition } => {
            let keys = partition.iter().map(Program::new).collect();
            let (begin, end) = (Predicate::new(begin), end.as_ref().map(Predicate::new));
            Box::new(State::new(begin, end, keys, is_event, *bounds, width))
        }
    })
}

/// How an operator reads the times of rows.
pub(super) fn stamps(stamps: &plan::Stamps) -> Stamps {
    let stamp = |stamp: &plan::Stamp| Stamp {
        source: stamp.source,
        stream: stamp.stream.clone(),
        column: stamp.column.clone(),
        slot: stamp.slot,
        format: stamp.format.clone(),
    };
    Stamps::new(stamps.of.iter().map(stamp).collect(), stamps.source)
}
