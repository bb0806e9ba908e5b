use std::sync::Arc;

use crate::data::{Account, Batch, Emissions};
use crate::diag::{Fault, Result};
use crate::expr::Predicate;

use super::window::fail_all;
use super::{Cx, Operator, Out, Saved};

/// Keeps the rows for which a condition holds: WHERE, and FILTER of a window. A row whose condition fails leaves by
/// itself, or takes the emission with it that it belongs to.
pub struct Filter {
    predicate: Predicate,
    /// What stands before the text of an error, for example `run Where error: `.
    stage: &'static str,
}

impl Filter {
    pub fn new(predicate: Predicate, stage: &'static str) -> Self {
        Filter { predicate, stage }
    }
}

impl Operator for Filter {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let holds = |batch: &Batch, row: usize| {
            self.predicate.holds(&cx.frame(batch, row)).map_err(|fault| fault.context(self.stage))
        };
        if batch.emissions == Emissions::Single {
            batch.keep(holds);
        } else {
            match batch.selected().iter().map(|row| holds(&batch, *row as usize)).collect::<Result<Vec<bool>>>() {
                Ok(kept) => {
                    let mut kept = kept.into_iter();
                    batch.keep(|_, _| Ok(kept.next().unwrap_or_default()));
                }
                Err(fault) => fail_all(&mut batch, fault),
            }
        }
        if !batch.is_empty() {
            out.send(batch);
        }
        Ok(())
    }

    fn save(&self) -> Saved {
        self.predicate.save()
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        self.predicate.load(saved)
    }
}

/// Keeps the groups of an emission for which a condition holds. It must be true or false for each, else the emission
/// fails as a whole; one of which nothing is left does not go on. Without a window each row fails.
pub struct Having {
    predicate: Predicate,
}

impl Having {
    pub fn new(predicate: Predicate) -> Self {
        Having { predicate }
    }

    fn holds(&self, batch: &Batch, row: usize, cx: &Cx<'_>) -> Result<bool> {
        self.predicate.decides(&cx.frame(batch, row)).map_err(|fault| fault.context("run Having error: "))
    }
}

impl Operator for Having {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if batch.emissions == Emissions::Single {
            let fault = Fault::eval("run Having error: HAVING looks at the rows of a window, and the rule has none");
            batch.keep(|_, _| Err(fault.clone()));
        } else {
            let kept: Result<Vec<bool>> =
                batch.selected().iter().map(|row| self.holds(&batch, *row as usize, cx)).collect();
            match kept.map(Vec::into_iter) {
                Ok(mut kept) => batch.keep(|_, _| Ok(kept.next().unwrap_or_default())),
                Err(fault) => fail_all(&mut batch, fault),
            }
        }
        if !batch.is_empty() {
            out.send(batch);
        }
        Ok(())
    }

    fn save(&self) -> Saved {
        self.predicate.save()
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        self.predicate.load(saved)
    }
}
