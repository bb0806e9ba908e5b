use crate::data::Batch;
use crate::diag::Result;
use crate::expr::Predicate;

use super::{Cx, Operator, Out, Saved};

/// Keeps the rows for which a condition holds: WHERE, FILTER of a window, HAVING.
pub struct Filter {
    predicate: Predicate,
    /// What stands before the text of an error, for example `run Where error: `.
    stage: &'static str,
    /// A batch that is an emission of its own is not sent when nothing is left of it.
    drop_empty: bool,
}

impl Filter {
    /// `drop_empty`: an emission of which nothing is left does not go on (HAVING).
    pub fn new(predicate: Predicate, stage: &'static str, drop_empty: bool) -> Self {
        Filter { predicate, stage, drop_empty }
    }
}

impl Operator for Filter {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        batch.keep(|batch, row| self.predicate.holds(&cx.frame(batch, row)).map_err(|fault| fault.context(self.stage)));
        if !(batch.is_empty() && (self.drop_empty || batch.rows() > 0)) {
            out.send(batch);
        }
        Ok(())
    }

    fn save(&self) -> Saved {
        self.predicate.save()
    }

    fn load(&mut self, saved: Saved, _: &std::sync::Arc<dyn crate::data::Account>) -> Result<()> {
        self.predicate.load(saved)
    }
}
