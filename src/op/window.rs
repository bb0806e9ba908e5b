//! Windows: rows that are kept until a time, a number or a condition comes, and then leave together.
//!
//! One file a kind. All of them are driven by the times of rows, by `tick`, and in event time by the watermarks that come
//! with the rows; none looks at a clock. The rows that a watermark has released come before it, in order of time, so a
//! window may close as soon as it sees a row that lies behind its end. What a window
//! gives out is one emission, with the bounds of the window in the slots that ask for them. A row that several windows
//! have a part in (hopping, sliding and count windows may overlap) is kept until the last of them is done and meets its
//! fate then; one that no window gave out is `filtered`. What no later window can have a part in is not kept.

mod align;
mod count;
mod event_session;
mod events;
mod grid;
mod hopping;
pub(super) mod kept;
mod session;
mod sliding;
mod state;
mod tumbling;

use std::time::Duration;

use crate::data::{Batch, Emissions, Receipt, Time, Value};
use crate::diag::Fault;
use crate::expr::Bounds;

use super::Out;

use align::within;
pub use align::{Alignment, length_of};
pub use count::Count;
pub use event_session::EventSession;
pub use grid::Grid;
pub use hopping::Hopping;
pub(super) use kept::{Kept, load_rows, save_rows};
pub use session::Session;
pub use sliding::{Sliding, SlidingTimes};
pub use state::State;
pub use tumbling::Tumbling;

/// From when to when a window goes.
#[derive(Clone, Copy)]
struct Span {
    start: Time,
    end: Time,
}

/// As many empty windows are given out for a gap between rows. A clock that was set wrong would else give out windows
/// for years.
const GAP: i64 = 10_000;

/// The last boundary by `now` where there are more of them than a gap may give out windows for.
fn behind_gap(next: Time, now: Time, every: Duration) -> Option<Time> {
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let boundaries = now.0.saturating_sub(next.0) / every;
    (boundaries > GAP).then(|| Time(next.0 + boundaries * every))
}

/// Writes the bounds of a window into a row.
fn write_bounds(bounds: &Bounds, row: &mut [Value], span: Span) {
    write_triggered(bounds, row, span, span.end);
}

/// The same for a window that something else than its end has triggered.
fn write_triggered(bounds: &Bounds, row: &mut [Value], span: Span, trigger: Time) {
    for (slot, time) in [(bounds.start, span.start), (bounds.end, span.end), (bounds.trigger, trigger)] {
        if let Some(slot) = slot {
            row[slot] = Value::Int(time.0);
        }
    }
}

/// A batch for the rows of one window.
pub(super) fn emission(width: usize, rows: usize) -> Batch {
    let mut batch = Batch::with_capacity(width, rows);
    batch.emissions = Emissions::Whole;
    batch
}

/// Sends the rows of one window on.
fn send(batch: Batch, bounds: &Bounds, span: Span, out: &mut Out) {
    send_triggered(batch, bounds, span, span.end, out);
}

fn send_triggered(mut batch: Batch, bounds: &Bounds, span: Span, trigger: Time, out: &mut Out) {
    // A window without rows has one that is not selected, for its bounds, which a row of all its groups shows.
    if batch.rows() == 0 && *bounds != Bounds::default() {
        batch.push(trigger, Receipt::none());
        batch.select(Vec::new());
    }
    for row in 0..batch.rows() {
        write_triggered(bounds, batch.row_mut(row), span, trigger);
    }
    batch.trigger = Some(trigger);
    out.send(batch);
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
    for row in batch.selected().to_vec() {
        batch.bury(row as usize, &fault);
    }
    batch.select(Vec::new());
    batch.note(0, fault);
}
