use crate::data::{Time, Value};

use super::super::{Cx, Stamps};
use super::Alignment;

/// Where the first boundary of a window lies: in processing time behind the start of the rule, in event time at the
/// natural boundary of the first row, in the zone that its time is written in.
pub struct Grid {
    pub alignment: Alignment,
    /// In event time, how to read the time of a row.
    pub event: Option<Stamps>,
}

impl Grid {
    /// The first boundary, where it is known before a row has come.
    pub fn at_start(&self, now: Time) -> Option<Time> {
        self.event.is_none().then(|| self.alignment.first(now))
    }

    /// The first boundary for a first row.
    pub fn at_row(&self, row: &[Value], time: Time, cx: &Cx<'_>) -> Time {
        match &self.event {
            Some(stamps) => self.alignment.natural(time, &stamps.zone(row, cx)),
            None => self.alignment.first(time),
        }
    }

    pub fn is_event(&self) -> bool {
        self.event.is_some()
    }
}
