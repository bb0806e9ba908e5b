use crate::data::{Batch, Fate};
use crate::diag::Result;

use super::{Cx, Operator, Out};

/// At most so many rows an emission.
pub struct Limit {
    rows: usize,
}

impl Limit {
    pub fn new(rows: usize) -> Self {
        Limit { rows }
    }
}

impl Operator for Limit {
    fn push(&mut self, mut batch: Batch, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut rows = batch.selected().to_vec();
        let cut = rows.split_off(self.rows.min(rows.len()));
        for row in &cut {
            batch.take_receipt(*row as usize).settle(Fate::Filtered);
        }
        batch.select(rows);
        // LIMIT 0 means that nothing goes out, not that empty lists do.
        if self.rows > 0 || !batch.faults().is_empty() {
            out.send(batch);
        }
        Ok(())
    }
}
