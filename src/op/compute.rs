use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;

use super::window::fail_all;
use super::{Cx, Operator, Out, Saved};

/// An expression whose value is put into a slot, where others read it.
pub struct Computed {
    pub slot: usize,
    pub program: Program,
    /// Where it fails the slot stays absent, and who reads it meets the error.
    pub lazy: bool,
}

impl Computed {
    /// Fills the slot of a row, if that has not been done.
    pub(super) fn fill(&self, batch: &mut Batch, row: usize, cx: &Cx<'_>) -> Result<()> {
        if !matches!(batch.row(row)[self.slot], Value::Absent) {
            return Ok(());
        }
        match self.program.eval(&cx.frame(batch, row)) {
            Ok(value) => batch.row_mut(row)[self.slot] = value,
            Err(_) if self.lazy => {}
            Err(fault) => return Err(fault),
        }
        Ok(())
    }
}

/// Fills slots with the values of expressions, in order: aliases that something behind it reads.
pub struct Compute {
    computed: Vec<Computed>,
    stage: &'static str,
}

impl Compute {
    pub fn new(computed: Vec<Computed>, stage: &'static str) -> Self {
        Compute { computed, stage }
    }
}

impl Operator for Compute {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let rows = batch.selected().to_vec();
        let mut failed = Vec::new();
        for row in &rows {
            let filled = self.computed.iter().try_for_each(|one| one.fill(&mut batch, *row as usize, cx));
            failed.extend(filled.err().map(|fault| (*row, fault.context(self.stage))));
        }
        fail_rows(&mut batch, failed);
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        save_all(self.computed.iter().map(|one| &one.program))
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        load_all(self.computed.iter_mut().map(|one| &mut one.program), saved)
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
