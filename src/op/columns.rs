use std::sync::Arc;

use crate::data::{Account, Batch, Text, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;
use crate::func::analytic::ChangedCols;

use super::compute::{fail_rows, load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// One call of `changed_cols`.
pub struct ColumnsCall {
    slot: usize,
    prefix: Program,
    ignore_null: Program,
    columns: Vec<Column>,
    state: ChangedCols,
}

/// What is compared.
pub enum Column {
    Named(Text, Program),
    /// `*`: the program gives the row as an object, whose entries are the columns.
    All(Program),
}

impl Column {
    fn program(&self) -> &Program {
        match self {
            Column::Named(_, program) | Column::All(program) => program,
        }
    }

    fn program_mut(&mut self) -> &mut Program {
        match self {
            Column::Named(_, program) | Column::All(program) => program,
        }
    }
}

impl ColumnsCall {
    pub fn new(slot: usize, prefix: Program, ignore_null: Program, columns: Vec<Column>) -> Self {
        ColumnsCall { slot, prefix, ignore_null, columns, state: ChangedCols::default() }
    }

    fn give(&mut self, batch: &Batch, row: usize, cx: &Cx<'_>) -> Result<Value> {
        let frame = cx.frame(batch, row);
        let (prefix, ignore_null) = (self.prefix.eval(&frame)?, self.ignore_null.eval(&frame)?);
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            match (column, column.program().eval(&frame)?) {
                (Column::Named(name, _), value) => columns.push((name.clone(), value)),
                (Column::All(_), Value::Object(row)) => {
                    columns.extend(row.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                (Column::All(_), _) => {}
            }
        }
        let changed = self.state.step(&prefix, &ignore_null, &columns);
        let changed = changed.map_err(|fault| fault.context("call func changed_cols error: "))?;
        Ok(if changed.is_empty() { Value::Null } else { Value::object(changed) })
    }
}

/// Fills slots with the columns that are not the same as when the row before was sent, as objects; null where all are.
pub struct Columns {
    calls: Vec<ColumnsCall>,
}

impl Columns {
    pub fn new(calls: Vec<ColumnsCall>) -> Self {
        Columns { calls }
    }

    fn fill(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>) -> Result<()> {
        for call in &mut self.calls {
            let value = call.give(batch, row, cx)?;
            batch.row_mut(row)[call.slot] = value;
        }
        Ok(())
    }
}

impl Operator for Columns {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut failed = Vec::new();
        for row in batch.selected().to_vec() {
            let filled = self.fill(&mut batch, row as usize, cx);
            failed.extend(filled.err().map(|fault| (row, fault.context("run Select error: "))));
        }
        fail_rows(&mut batch, failed);
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        let save = |call: &ColumnsCall| {
            let programs = [&call.prefix, &call.ignore_null].into_iter();
            let programs = programs.chain(call.columns.iter().map(Column::program));
            Value::array(vec![save_all(programs), call.state.save()])
        };
        Value::array(self.calls.iter().map(save).collect())
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of changed columns cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        if saved.len() != self.calls.len() {
            return Err(broken());
        }
        for (call, saved) in self.calls.iter_mut().zip(saved.iter()) {
            let Value::Array(saved) = saved else { return Err(broken()) };
            let [programs, state] = saved.as_slice() else { return Err(broken()) };
            let mine = [&mut call.prefix, &mut call.ignore_null].into_iter();
            load_all(mine.chain(call.columns.iter_mut().map(Column::program_mut)), programs.clone())?;
            call.state.load(state.clone())?;
        }
        Ok(())
    }
}
