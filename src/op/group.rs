use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Value};
use crate::diag::Result;

use super::window::forward_faults;
use super::{Cx, Groups, Operator, Out, Saved};

/// Brings the rows of an emission together: one row a group leaves, or one for all.
pub struct Group {
    groups: Groups,
}

impl Group {
    pub fn new(groups: Groups) -> Self {
        Group { groups }
    }
}

impl Operator for Group {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let failed = !batch.faults().is_empty();
        forward_faults(&mut batch, out);
        let rows = batch.selected().to_vec();
        // What failed as a whole, and errors that came along by themselves, are no windows.
        if batch.emissions == Emissions::Single || (failed && rows.is_empty()) {
            return Ok(());
        }
        for row in rows {
            let held = batch.take_receipt(row as usize).hold();
            self.groups.add(&batch, row as usize, held, cx);
        }
        let mut groups = self.groups.close(batch.trigger.unwrap_or(cx.now));
        if batch.selected().is_empty() && batch.rows() == 1 && groups.rows() == 1 {
            let bounds = batch.take_row(0).into_iter().zip(groups.row_mut(0));
            bounds.filter(|(value, _)| !matches!(value, Value::Absent)).for_each(|(value, slot)| *slot = value);
        }
        if !groups.is_empty() {
            out.send(groups);
        }
        Ok(())
    }

    /// Between two emissions there is no group.
    fn save(&self) -> Saved {
        self.groups.save()
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        self.groups.load(&saved, account)
    }
}
