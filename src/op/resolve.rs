use crate::data::{Batch, Text, Value};
use crate::diag::Result;

use super::{Cx, Operator, Out};

/// One column that the statement names.
pub struct Named {
    pub name: Text,
    /// Where the decoder puts the column of exactly that name.
    pub exact: usize,
    /// Where the decoder puts columns that the statement names too, and whose names differ by case only.
    pub twins: Vec<usize>,
    /// Where the statement reads it.
    pub slot: usize,
}

impl Named {
    fn find(&self, row: &[Value], rest: usize) -> Value {
        let there = |slot: &&usize| !matches!(row[**slot], Value::Absent);
        if let Some(slot) = std::iter::once(&self.exact).chain(&self.twins).find(there) {
            return row[*slot].clone();
        }
        match &row[rest] {
            Value::Object(rest) => rest.get_ignoring_case(&self.name).cloned().unwrap_or_default(),
            _ => Value::Absent,
        }
    }
}

/// Finds columns whatever their case (`basic.ignoreCase`): where a message has none of exactly the name that stands in
/// the statement, one that differs by case only is taken.
pub struct Resolve {
    columns: Vec<Named>,
    /// Slot of the object of all other columns.
    rest: usize,
}

impl Resolve {
    pub fn new(columns: Vec<Named>, rest: usize) -> Self {
        Resolve { columns, rest }
    }
}

impl Operator for Resolve {
    fn push(&mut self, mut batch: Batch, _: &Cx<'_>, out: &mut Out) -> Result<()> {
        for row in 0..batch.rows() {
            let row = batch.row_mut(row);
            for column in &self.columns {
                row[column.slot] = column.find(row, self.rest);
            }
        }
        out.send(batch);
        Ok(())
    }
}
