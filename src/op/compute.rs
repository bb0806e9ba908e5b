use std::sync::Arc;

use crate::data::{Account, Batch, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;

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

/// What the functions of several programs remember, as one list.
pub(super) fn save_all<'a>(programs: impl Iterator<Item = &'a Program>) -> Saved {
    Value::array(programs.map(Program::save).collect())
}

pub(super) fn load_all<'a>(programs: impl Iterator<Item = &'a mut Program>, saved: Saved) -> Result<()> {
    let Value::Array(saved) = saved else { return Err(Fault::bug("saved programs are no list")) };
    programs.zip(saved.iter()).try_for_each(|(program, saved)| program.load(saved.clone()))
}
