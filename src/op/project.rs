use std::sync::Arc;

use crate::data::{Account, Batch, Value};
use crate::diag::Result;
use crate::expr::Program;

use super::compute::{Computed, load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// Where an output column comes from.
pub enum Take {
    /// A column of the input: absent stays absent, unless nulls are asked for. With `last` nothing behind it reads the
    /// slot, so the value is moved.
    Column { slot: usize, last: bool },
    /// An expression: null is left out, unless nulls are asked for.
    Program(Program),
}

/// One column of the output.
pub struct OutColumn {
    pub take: Take,
    /// A null is written, and a missing column becomes one.
    pub keep_null: bool,
    /// The slot that shows where the value is null.
    pub or: Option<usize>,
}

/// Makes the rows that leave the rule: SELECT.
pub struct Project {
    /// Aliases that other columns read, in the order of their dependence, and their slots.
    aliases: Vec<Computed>,
    columns: Vec<OutColumn>,
}

impl Project {
    pub fn new(aliases: Vec<Computed>, columns: Vec<OutColumn>) -> Self {
        Project { aliases, columns }
    }

    fn fill(&self, batch: &mut Batch, row: usize, cx: &Cx<'_>, into: &mut [Value]) -> Result<()> {
        for alias in &self.aliases {
            alias.fill(batch, row, cx)?;
        }
        for (column, into) in self.columns.iter().zip(into) {
            *into = match &column.take {
                Take::Column { slot, last: true } => std::mem::take(&mut batch.row_mut(row)[*slot]),
                Take::Column { slot, last: false } => batch.row(row)[*slot].clone(),
                Take::Program(program) => match program.eval(&cx.frame(batch, row))? {
                    value if value.is_null() => column.or.map_or(Value::Absent, |or| batch.row(row)[or].clone()),
                    value => value,
                },
            };
            if column.keep_null && matches!(into, Value::Absent) {
                *into = Value::Null;
            }
        }
        Ok(())
    }

    /// Puts values back that were moved out of a row which then failed.
    fn give_back(&self, from: &mut [Value], row: &mut [Value]) {
        for (column, value) in self.columns.iter().zip(from) {
            if let Take::Column { slot, last: true } = column.take
                && matches!(row[slot], Value::Absent)
            {
                row[slot] = std::mem::take(value);
            }
        }
    }
}

impl Operator for Project {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let rows = batch.selected().to_vec();
        let mut result = Batch::with_capacity(self.columns.len(), rows.len());
        result.emissions = std::mem::take(&mut batch.emissions);
        let mut faults = batch.take_faults().into_iter().peekable();
        let mut failed = 0;
        for row in rows {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= row) {
                result.note(result.rows(), fault);
            }
            let row = row as usize;
            let made = result.rows();
            let slots = result.push(batch.time(row), crate::data::Receipt::none());
            match self.fill(&mut batch, row, cx, slots) {
                Ok(()) => {
                    let receipt = batch.take_receipt(row);
                    result.stamp(made, batch.time(row), None, receipt);
                }
                Err(fault) => {
                    self.give_back(result.row_mut(made), batch.row_mut(row));
                    result.truncate(made);
                    let fault = fault.context("run Select error: ");
                    batch.bury(row, &fault);
                    result.note(made, fault);
                    failed += 1;
                }
            }
        }
        faults.for_each(|(_, fault)| result.note(result.rows(), fault));
        // A window fails as a whole: what its other rows came to is not given out.
        if failed > 0 && result.emissions != crate::data::Emissions::Single {
            let first = result.take_faults().into_iter().next().map(|(_, fault)| fault);
            if let Some(fault) = first {
                super::window::fail_all(&mut result, fault);
            }
        }
        out.send(result);
        Ok(())
    }

    fn save(&self) -> Saved {
        save_all(self.programs())
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let columns = self.columns.iter_mut().filter_map(|column| match &mut column.take {
            Take::Program(program) => Some(program),
            Take::Column { .. } => None,
        });
        load_all(self.aliases.iter_mut().map(|alias| &mut alias.program).chain(columns), saved)
    }
}

impl Project {
    fn programs(&self) -> impl Iterator<Item = &Program> {
        let columns = self.columns.iter().filter_map(|column| match &column.take {
            Take::Program(program) => Some(program),
            Take::Column { .. } => None,
        });
        self.aliases.iter().map(|alias| &alias.program).chain(columns)
    }
}
