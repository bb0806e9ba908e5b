use crate::data::Batch;
use crate::diag::Result;

use super::{Cx, Operator, Out};

/// Copies columns of one source to slots that stand for the columns of several: from, to.
pub struct Share {
    slots: Vec<(usize, usize)>,
}

impl Share {
    pub fn new(slots: Vec<(usize, usize)>) -> Self {
        Share { slots }
    }
}

impl Operator for Share {
    fn push(&mut self, mut batch: Batch, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        for row in 0..batch.rows() {
            let row = batch.row_mut(row);
            for (from, to) in &self.slots {
                row[*to] = row[*from].clone();
            }
        }
        out.send(batch);
        Ok(())
    }
}
