use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::Time;
use crate::diag::Result;
use crate::expr::{Predicate, Program};
use crate::op::{Alignment, Count, Hopping, Operator, Session, Sliding, SlidingTimes, State, Tumbling, length_of};
use crate::plan::{Window, Windowed};

use super::chain::groups;

/// Turns the window of a plan into its operator. `local` is the zone that windows of processing time are aligned in.
pub(super) fn operator(windowed: &Windowed, width: usize, local: &TimeZone, now: Time) -> Result<Box<dyn Operator>> {
    let Windowed { window, bounds, grouping, boundless } = windowed;
    let zone = local.clone();
    let groups = grouping.as_ref().map(|grouping| groups(grouping, width)).transpose()?;
    Ok(match window {
        Window::Tumbling { unit, count } => {
            let alignment = Alignment { unit: *unit, count: *count, zone };
            Box::new(Tumbling::new(&alignment, now, *bounds, width, groups))
        }
        Window::Hopping { unit, count, interval } => {
            let (alignment, length) = (Alignment { unit: *unit, count: *interval, zone }, length_of(*unit, *count));
            Box::new(Hopping::new(&alignment, length, now, *bounds, width, groups, *boundless))
        }
        Window::Sliding { unit, count, delay, open, when } => {
            let delay = if *delay == 0 { Duration::ZERO } else { length_of(*unit, *delay) };
            let times = SlidingTimes { length: length_of(*unit, *count), delay, open: *open };
            Box::new(Sliding::new(times, when.as_ref().map(Predicate::new), *bounds, width))
        }
        Window::Session { unit, longest, timeout } => {
            let alignment = Alignment { unit: *unit, count: *longest, zone };
            Box::new(Session::new(&alignment, length_of(*unit, *timeout), now, *bounds, width))
        }
        Window::Count { length, interval } => Box::new(Count::new(*length, *interval, *bounds, width)),
        Window::State { begin, end, partition } => {
            let keys = partition.iter().map(Program::new).collect();
            Box::new(State::new(Predicate::new(begin), end.as_ref().map(Predicate::new), keys, *bounds, width))
        }
    })
}
