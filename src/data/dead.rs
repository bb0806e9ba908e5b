use crate::diag::Fault;

use super::{Fate, Meta, Receipt, Value};

/// A row that failed for good, with what is told of it. Its promise is kept when that is told.
pub struct DeadRow {
    /// As it was when it failed; empty where it is no longer known.
    pub values: Vec<Value>,
    pub meta: Option<Meta>,
    pub fault: Fault,
    pub receipt: Receipt,
}

impl Receipt {
    /// The row failed here for good. Where the rule tells of such rows, the promise is kept when it has; else at once.
    pub fn fail(self, fault: &Fault, row: impl FnOnce() -> (Vec<Value>, Option<Meta>)) {
        let Some(account) = self.undertaker() else { return self.settle(Fate::dead(fault)) };
        let (values, meta) = row();
        account.bury(DeadRow { values, meta, fault: fault.clone(), receipt: self });
    }
}
