use std::collections::HashMap;

use crate::data::{Batch, Emissions, Fate, Object, Text, Value};
use crate::diag::Result;
use crate::func::rows::expand;

use super::{Cx, Operator, Out};

/// Makes rows of the parts of a column, behind the projection: `unnest`, `extract`. The entries of an object become
/// columns and win over those that are there; another part stands in the column of the call.
pub struct Unnest {
    func: &'static str,
    column: usize,
    /// Columns that an entry of an object can replace.
    named: HashMap<Text, usize>,
    /// Where all other entries go.
    rest: usize,
    /// Rows an emission, at most.
    limit: usize,
}

impl Unnest {
    pub fn new(
        func: &'static str,
        column: usize,
        named: Vec<(Text, usize)>,
        rest: usize,
        limit: Option<usize>,
    ) -> Self {
        Unnest { func, column, named: named.into_iter().collect(), rest, limit: limit.unwrap_or(usize::MAX) }
    }

    /// Puts one part into a row.
    fn put(&self, part: Value, row: &mut [Value]) {
        let Value::Object(object) = part else {
            row[self.column] = part;
            return;
        };
        row[self.column] = Value::Absent;
        let slot = |name: &Text| self.named.get(name).copied();
        let mut replaced = false;
        for (name, value) in object.iter() {
            if let Some(slot) = slot(name) {
                row[slot] = value.clone();
                replaced = true;
            }
        }
        row[self.rest] = if replaced {
            let others = object.iter().filter(|(name, _)| slot(name).is_none());
            Value::object(Object::from_iter(others.map(|(name, value)| (name.clone(), value.clone()))))
        } else {
            Value::Object(object)
        };
    }

    /// Adds the rows of one row of the input, at most `room`.
    fn rows(&self, batch: &mut Batch, row: usize, room: usize, result: &mut Batch) -> Result<usize> {
        let parts = expand(self.func, &batch.row(row)[self.column])
            .map_err(|fault| fault.context(format_args!("run Select error: call func {} error: ", self.func)))?;
        let receipt = batch.take_receipt(row);
        let (time, count) = (batch.time(row), parts.len().min(room));
        if count == 0 {
            receipt.settle(Fate::Filtered);
            return Ok(0);
        }
        let receipts = std::iter::repeat_n(receipt, count);
        let base = batch.take_row(row);
        for (part, receipt) in parts.into_iter().zip(receipts) {
            let made = result.push(time, receipt);
            made.clone_from_slice(&base);
            self.put(part, made);
        }
        Ok(count)
    }
}

impl Operator for Unnest {
    fn push(&mut self, mut batch: Batch, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        let rows = batch.selected().to_vec();
        let mut result = Batch::with_capacity(batch.width(), rows.len());
        let single = batch.emissions == Emissions::Single;
        result.emissions = std::mem::take(&mut batch.emissions);
        let mut faults = batch.take_faults().into_iter().peekable();
        let (mut room, mut failed) = (self.limit, None);
        for row in rows {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= row) {
                result.note(result.rows(), fault);
            }
            match self.rows(&mut batch, row as usize, room, &mut result) {
                Ok(count) if !single => room -= count,
                Ok(_) => {}
                Err(fault) => {
                    batch.bury(row as usize, &fault);
                    match single {
                        true => result.note(result.rows(), fault),
                        false => drop(failed.get_or_insert(fault)),
                    }
                }
            }
        }
        faults.for_each(|(_, fault)| result.note(result.rows(), fault));
        if let Some(fault) = failed {
            super::window::fail_all(&mut result, fault);
        }
        out.send(result);
        Ok(())
    }
}
