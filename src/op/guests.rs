use std::sync::Arc;

use crate::data::{Account, Batch, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;
use crate::func::{Ctx, Func, Guest};

use super::compute::{fail_rows, load_all, save_all};
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
        let rows = batch.selected().to_vec();
        // The rows that the plugin is asked for, and those that failed, each with its place in the selection.
        let (mut asked, mut failed) = (Vec::with_capacity(rows.len()), Vec::new());
        // What had to be computed; what a column holds is lent as it stands there.
        let mut computed = Vec::new();
        for (place, row) in rows.into_iter().enumerate() {
            let before = computed.len();
            let frame = cx.frame(batch, row as usize);
            let mut programs = call.args.iter().filter(|arg| arg.slot().is_none());
            match programs.try_for_each(|program| program.eval(&frame).map(|value| computed.push(value))) {
                Ok(()) => asked.push((place, row)),
                Err(fault) => {
                    computed.truncate(before);
                    failed.push((place, row, fault));
                }
            }
        }
        if let Some((_, first)) = asked.first() {
            let context = Ctx { now: cx.now, row_time: Some(batch.time(*first as usize)), rule: cx.rule };
            let (mut args, mut made) = (Vec::with_capacity(asked.len() * call.args.len()), computed.iter());
            for (_, row) in &asked {
                let row = batch.row(*row as usize);
                args.extend(call.args.iter().filter_map(|arg| match arg.slot() {
                    Some(slot) if matches!(row[slot], Value::Absent) => Some(&Value::Null),
                    Some(slot) => Some(&row[slot]),
                    None => made.next(),
                }));
            }
            let mut results = call.guest.call(&args, asked.len(), &context).into_iter();
            for (place, row) in asked {
                match results.next() {
                    Some(Ok(value)) => batch.row_mut(row as usize)[call.slot] = value,
                    Some(Err(fault)) => {
                        let fault = fault.context(format_args!("call func {} error: ", call.func.name));
                        failed.push((place, row, fault));
                    }
                    None => failed.push((place, row, Fault::bug("the plugin gave too few results"))),
                }
            }
        }
        failed.sort_by_key(|(place, ..)| *place);
        fail_rows(batch, failed.into_iter().map(|(_, row, fault)| (row, fault.context(self.stage))).collect());
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
        let Value::Array(programs) = save_all(self.calls.iter().flat_map(|call| &call.args)) else {
            return Value::Null;
        };
        Value::array(programs.iter().cloned().chain(self.calls.iter().map(|call| call.guest.save())).collect())
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let programs: usize = self.calls.iter().map(|call| call.args.len()).sum();
        if let Value::Array(saved) = &saved {
            let stored = saved.iter().skip(programs);
            self.calls.iter().zip(stored).try_for_each(|(call, stored)| call.guest.load(stored))?;
        }
        load_all(self.calls.iter_mut().flat_map(|call| &mut call.args), saved)
    }
}
