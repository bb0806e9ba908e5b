use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;
use crate::func::{Ctx, Func, Guest, guarded};

use super::compute::{load_all, save_all};
use super::window::fail_all;
use super::{Cx, Operator, Out, Saved};

/// One call of a plugin's function, for all rows of a batch at once.
pub struct GuestCall {
    pub slot: usize,
    pub func: &'static Func,
    pub guest: Box<dyn Guest>,
    pub args: Vec<Program>,
}

/// Fills slots with the results of plugin functions: a batch crosses the line to the plugin, not a row.
pub struct Guests {
    calls: Vec<GuestCall>,
    stage: &'static str,
}

impl Guests {
    pub fn new(calls: Vec<GuestCall>, stage: &'static str) -> Self {
        Guests { calls, stage }
    }

    fn call(&self, call: &GuestCall, batch: &mut Batch, cx: &Cx<'_>) {
        let mut columns: Vec<Vec<Value>> =
            call.args.iter().map(|_| Vec::with_capacity(batch.selected().len())).collect();
        let (mut asked, mut left, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for row in batch.selected() {
            let frame = cx.frame(batch, *row as usize);
            match call.args.iter().map(|arg| arg.eval(&frame)).collect::<Result<Vec<Value>>>() {
                Err(fault) => failed.push((*row, fault)),
                Ok(args) => {
                    left.push(*row);
                    match guarded(call.func, &args) {
                        Some(answer) => asked.push((*row, Some(answer))),
                        None => {
                            asked.push((*row, None));
                            columns.iter_mut().zip(args).for_each(|(column, arg)| column.push(arg));
                        }
                    }
                }
            }
        }
        let wanted = asked.iter().filter(|(_, answer)| answer.is_none()).count();
        let context =
            Ctx { now: cx.now, row_time: batch.selected().first().map(|row| batch.time(*row as usize)), rule: cx.rule };
        let mut results =
            if wanted == 0 { Vec::new() } else { call.guest.call(&columns, wanted, &context) }.into_iter();
        for (row, answer) in asked {
            let value = match answer {
                Some(answer) => Ok(answer),
                None => results.next().unwrap_or_else(|| Err(Fault::bug("the plugin gave too few results"))),
            };
            match value {
                Ok(value) => batch.row_mut(row as usize)[call.slot] = value,
                Err(fault) => {
                    left.retain(|other| *other != row);
                    failed.push((row, fault.context(format_args!("call func {} error: ", call.func.name))));
                }
            }
        }
        self.fail(batch, left, failed);
    }

    fn fail(&self, batch: &mut Batch, left: Vec<u32>, failed: Vec<(u32, Fault)>) {
        if batch.emissions != Emissions::Single {
            if let Some((_, fault)) = failed.into_iter().next() {
                fail_all(batch, fault.context(self.stage));
            }
            return;
        }
        failed.into_iter().for_each(|(row, fault)| batch.fail(row as usize, fault.context(self.stage)));
        batch.select(left);
    }
}

impl Operator for Guests {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for call in &self.calls {
            self.call(call, &mut batch, cx);
        }
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        save_all(self.calls.iter().flat_map(|call| &call.args))
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        load_all(self.calls.iter_mut().flat_map(|call| &mut call.args), saved)
    }
}
