use std::cmp::Ordering;
use std::sync::Arc;

use crate::data::{Account, Batch, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Program, compare};

use super::compute::{load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// One key of ORDER BY.
pub struct OrderKey {
    pub program: Program,
    pub descending: bool,
}

/// Sorts the rows of an emission; rows that are equal in all keys keep their order. Nulls come last either way.
pub struct Order {
    keys: Vec<OrderKey>,
}

impl Order {
    pub fn new(keys: Vec<OrderKey>) -> Self {
        Order { keys }
    }

    /// The selected rows in order.
    pub(super) fn sorted(&self, batch: &Batch, cx: &Cx<'_>) -> Result<Vec<u32>> {
        let mut rows = Vec::with_capacity(batch.selected().len());
        for row in batch.selected() {
            let frame = cx.frame(batch, *row as usize);
            let keys = self.keys.iter().map(|key| key.program.eval(&frame)).collect::<Result<Vec<Value>>>()?;
            rows.push((keys, *row));
        }
        let mut wrong = None;
        rows.sort_by(|(a, _), (b, _)| {
            for ((a, b), key) in a.iter().zip(b).zip(&self.keys) {
                let order = match (a.is_null(), b.is_null()) {
                    (true, true) => Ordering::Equal,
                    (true, false) => return Ordering::Greater,
                    (false, true) => return Ordering::Less,
                    (false, false) => match compare(a, b) {
                        Some(order) => order.unwrap_or(Ordering::Equal),
                        None => {
                            wrong.get_or_insert_with(|| {
                                Fault::eval(format!("ORDER BY cannot compare {} with {}", a.type_name(), b.type_name()))
                            });
                            Ordering::Equal
                        }
                    },
                };
                let order = if key.descending { order.reverse() } else { order };
                if order != Ordering::Equal {
                    return order;
                }
            }
            Ordering::Equal
        });
        match wrong {
            Some(fault) => Err(fault),
            None => Ok(rows.into_iter().map(|(_, row)| row).collect()),
        }
    }
}

impl Operator for Order {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        match self.sorted(&batch, cx) {
            Ok(rows) => batch.select(rows),
            // The emission cannot be put in order, so all of it fails as one.
            Err(fault) => super::window::fail_all(&mut batch, fault.context("run Order By error: ")),
        }
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        save_all(self.keys.iter().map(|key| &key.program))
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        load_all(self.keys.iter_mut().map(|key| &mut key.program), saved)
    }
}
