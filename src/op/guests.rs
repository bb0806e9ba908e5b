use std::sync::Arc;

use crate::data::{Account, Batch, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;
use crate::func::{Ctx, Func, Guest, guarded};

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
        let mut columns: Vec<Vec<Value>> = call.args.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        let mut asked = 0;
        // What is known of each row before the call: its answer, its fault, or nothing yet.
        let mut answers: Vec<Result<Option<Value>>> = Vec::with_capacity(rows.len());
        for row in &rows {
            let frame = cx.frame(batch, *row as usize);
            let args = call.args.iter().map(|arg| arg.eval(&frame)).collect::<Result<Vec<Value>>>();
            answers.push(args.map(|args| {
                let answer = guarded(call.func, &args);
                if answer.is_none() {
                    asked += 1;
                    columns.iter_mut().zip(args).for_each(|(column, arg)| column.push(arg));
                }
                answer
            }));
        }
        let row_time = rows.first().map(|row| batch.time(*row as usize));
        let context = Ctx { now: cx.now, row_time, rule: cx.rule };
        let results = if asked == 0 { Vec::new() } else { call.guest.call(&columns, asked, &context) };
        let mut results = results
            .into_iter()
            .map(|result| result.map_err(|fault| fault.context(format_args!("call func {} error: ", call.func.name))));
        let mut failed = Vec::new();
        for (row, answer) in rows.into_iter().zip(answers) {
            let value = match answer {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => results.next().unwrap_or_else(|| Err(Fault::bug("the plugin gave too few results"))),
                Err(fault) => Err(fault),
            };
            match value {
                Ok(value) => batch.row_mut(row as usize)[call.slot] = value,
                Err(fault) => failed.push((row, fault.context(self.stage))),
            }
        }
        fail_rows(batch, failed);
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
