//! Operators: what is done with rows between a source and the sinks.
//!
//! An [`Operator`] is pure: no task, no channel, no clock, no disk. It is given batches and the time, and puts what
//! leaves it into an [`Out`]. The same input at the same times gives the same output, whatever way the rows were cut
//! into batches; the case runner checks that for every case. Rows that an operator takes out settle their receipts
//! there; rows that it keeps turn theirs into a `Held`.

mod aggregate;
mod analytic;
mod columns;
mod compute;
mod counted;
mod dedup;
mod filter;
mod group;
mod guests;
mod join;
mod limit;
mod lookup;
mod number;
mod order;
mod project;
mod resolve;
mod share;
mod stamps;
mod tally;
#[cfg(test)]
mod tests;
mod unnest;
mod validate;
mod watermark;
mod window;

use std::sync::Arc;

use crate::data::{Account, Batch, Meta, Time, Value};
use crate::diag::Result;
use crate::expr::Frame;
use crate::func::RuleInfo;

pub use aggregate::{Aggregate, AggregateCall, Groups, Start};
pub use analytic::{Analytic, AnalyticCall, AnalyticStep};
pub use columns::{Column, Columns, ColumnsCall};
pub use compute::{Compute, Computed};
pub use counted::{Counted, CountedSets, Counters};
pub use dedup::Dedup;
pub use filter::{Filter, Having};
pub use group::Group;
pub use guests::{GuestCall, Guests};
pub use join::{Join, JoinStep};
pub use limit::Limit;
pub use lookup::Lookup;
pub use number::{Number, NumberCall};
pub use order::{Order, OrderKey};
pub use project::{OutColumn, Project, Take};
pub use resolve::{Named, Resolve};
pub use share::Share;
pub use stamps::{Stamp, Stamps};
pub use unnest::Unnest;
pub use validate::{Checked, Validate};
pub use watermark::{Gauge, Pace, Tide, Watermark};
pub use window::{
    Alignment, Count, EventSession, Grid, Hopping, Session, Sliding, SlidingTimes, State, Tumbling, length_of,
};

/// State of an operator in a form that can be stored.
pub type Saved = Value;

/// What surrounds a call of an operator.
pub struct Cx<'a> {
    pub now: Time,
    pub rule: &'a RuleInfo,
}

impl Cx<'_> {
    /// The frame in which an expression sees a row of a batch.
    pub fn frame<'f>(&'f self, batch: &'f Batch, row: usize) -> Frame<'f> {
        self.over(batch.row(row), batch.meta(row), batch.time(row))
    }

    pub fn over<'f>(&'f self, row: &'f [Value], meta: Option<&'f Meta>, time: Time) -> Frame<'f> {
        Frame { row, meta, time, now: self.now, rule: self.rule }
    }
}

/// What leaves an operator, in order.
#[derive(Default)]
pub struct Out {
    batches: Vec<Batch>,
}

impl Out {
    /// Sends a batch on. A window without rows is an emission too, so empty batches are sent like others.
    pub fn send(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    pub fn take(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.batches)
    }
}

/// One step of a rule. An `Err` is a bug or a broken state and stops the rule; a row that cannot be handled fails in
/// its batch instead.
pub trait Operator: Send {
    fn push(&mut self, batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()>;

    /// Called when the time that `due` gave has come, and perhaps earlier.
    fn tick(&mut self, _cx: &Cx<'_>, _out: &mut Out) -> Result<()> {
        Ok(())
    }

    /// When `tick` is to be called next.
    fn due(&self) -> Option<Time> {
        None
    }

    /// One of several sources has come to its end, and others go on.
    fn ended(&mut self, _source: usize, _cx: &Cx<'_>, _out: &mut Out) -> Result<()> {
        Ok(())
    }

    /// The input has come to its end: what is open is given out.
    fn finish(&mut self, _cx: &Cx<'_>, _out: &mut Out) -> Result<()> {
        Ok(())
    }

    /// The rule is stopped by hand: what is held is thrown away and counted.
    fn discard(&mut self) {}

    /// The saved state is taken up elsewhere; nothing is held here any more.
    fn forget(&mut self) {}

    /// How many rows it keeps that count as held.
    fn held(&self) -> u64 {
        0
    }

    /// What it has to be told before it can go on, as a step does that asks a table for rows: lists of key values. It is
    /// asked after each call until there is nothing more.
    fn asks(&mut self) -> Option<Vec<Vec<Value>>> {
        None
    }

    /// The answer is known. The rows follow in the next `push`, all of them in one batch, and `ends` says for each list of
    /// key values before which row its answers end; or there are none because asking failed.
    fn answered(&mut self, _ends: Result<Vec<u32>>, _cx: &Cx<'_>, _out: &mut Out) -> Result<()> {
        Ok(())
    }

    fn save(&self) -> Saved {
        Saved::Null
    }

    /// Takes up a saved state; rows that were held are held again in the account.
    fn load(&mut self, _saved: Saved, _account: &Arc<dyn Account>) -> Result<()> {
        Ok(())
    }
}
