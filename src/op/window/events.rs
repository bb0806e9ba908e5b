use std::iter::Peekable;
use std::vec::IntoIter;

use crate::data::{Batch, Time};
use crate::diag::Fault;

use super::super::Out;

/// What comes to a window.
pub enum Event {
    /// An error; it does not wait.
    Fault(Fault),
    Row(usize),
    /// The watermark has come so far.
    Mark(Time),
}

/// Rows, errors and watermarks of a batch in the order in which they came.
pub struct Events {
    rows: Peekable<IntoIter<u32>>,
    faults: Peekable<IntoIter<(u32, Fault)>>,
    marks: Peekable<IntoIter<(u32, Time)>>,
}

impl Events {
    pub fn of(batch: &mut Batch) -> Events {
        Events {
            rows: batch.selected().to_vec().into_iter().peekable(),
            faults: batch.take_faults().into_iter().peekable(),
            marks: batch.take_marks().into_iter().peekable(),
        }
    }

    /// The same for a window that gives out what it has at a watermark: errors of the rows before it come first.
    pub fn by_marks(batch: &mut Batch) -> Events {
        let mut events = Events::of(batch);
        if events.faults.len() == 0 {
            return events;
        }
        let starts: Vec<u32> = events.marks.clone().map(|(at, _)| at).collect();
        let first = |at: u32| starts.iter().rev().find(|start| **start <= at).copied().unwrap_or_default();
        let faults: Vec<(u32, Fault)> = events.faults.map(|(at, fault)| (first(at), fault)).collect();
        events.faults = faults.into_iter().peekable();
        events
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let row = self.rows.peek().copied().unwrap_or(u32::MAX);
        let fault = self.faults.peek().map_or(u32::MAX, |(at, _)| *at);
        if let Some((_, watermark)) = self.marks.next_if(|(at, _)| *at <= row && *at <= fault) {
            return Some(Event::Mark(watermark));
        }
        if let Some((_, fault)) = self.faults.next_if(|(at, _)| *at <= row) {
            return Some(Event::Fault(fault));
        }
        self.rows.next().map(|row| Event::Row(row as usize))
    }
}

/// Tells an error at once.
pub fn tell(fault: Fault, width: usize, out: &mut Out) {
    let mut errors = Batch::new(width);
    errors.note(0, fault);
    out.send(errors);
}
