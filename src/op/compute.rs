use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;

use super::window::fail_all;
use super::{Cx, Operator, Out, Saved};

/// Fills slots with the values of expressions, in order: aliases that something behind it reads.
pub struct Compute {
    programs: Vec<(usize, Program)>,
    stage: &'static str,
}

impl Compute {
    pub fn new(programs: Vec<(usize, Program)>, stage: &'static str) -> Self {
        Compute { programs, stage }
    }
}

impl Operator for Compute {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let rows = batch.selected().to_vec();
        let mut left = Vec::with_capacity(rows.len());
        'rows: for row in rows {
            for (slot, program) in &self.programs {
                match program.eval(&cx.frame(&batch, row as usize)) {
                    Ok(value) => batch.row_mut(row as usize)[*slot] = value,
                    Err(fault) => {
                        batch.fail(row as usize, fault.context(self.stage));
                        continue 'rows;
                    }
                }
            }
            left.push(row);
        }
        batch.select(left);
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        save_all(self.programs.iter().map(|(_, program)| program))
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        load_all(self.programs.iter_mut().map(|(_, program)| program), saved)
    }
}

/// Settles what failed, given in the order of the selection: each row by itself, or, where rows belong together, the
/// emission as a whole with the first of the faults.
pub(super) fn fail_rows(batch: &mut Batch, failed: Vec<(u32, Fault)>) {
    if failed.is_empty() {
        return;
    }
    if batch.emissions != Emissions::Single {
        failed.into_iter().take(1).for_each(|(_, fault)| fail_all(batch, fault));
        return;
    }
    let mut rows = batch.selected().to_vec();
    let mut gone = failed.iter().map(|(row, _)| *row).peekable();
    rows.retain(|row| gone.next_if_eq(row).is_none());
    batch.select(rows);
    failed.into_iter().for_each(|(row, fault)| batch.fail(row as usize, fault));
}

/// What the functions of several programs remember, as one list.
pub(super) fn save_all<'a>(programs: impl Iterator<Item = &'a Program>) -> Saved {
    Value::array(programs.map(Program::save).collect())
}

pub(super) fn load_all<'a>(programs: impl Iterator<Item = &'a mut Program>, saved: Saved) -> Result<()> {
    let Value::Array(saved) = saved else { return Err(Fault::bug("saved programs are no list")) };
    programs.zip(saved.iter()).try_for_each(|(program, saved)| program.load(saved.clone()))
}
