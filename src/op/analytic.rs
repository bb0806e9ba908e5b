//! Functions that look back at earlier rows, computed of every row as it comes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::data::pack::{self, Pack, Packer};
use crate::data::{Account, Batch, Value, key};
use crate::diag::{Fault, Result};
use crate::expr::{Predicate, Program};
use crate::func::analytic::{Analytic as State, start_analytic};
use crate::func::{Ctx, Func};

use super::compute::{Computed, fail_rows, load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// One call: its state is kept apart for each partition, and steps on where the condition holds.
pub struct AnalyticCall {
    slot: usize,
    func: &'static Func,
    args: Vec<Program>,
    /// Places of the arguments that are `*`.
    rows: Vec<usize>,
    partition: Vec<Program>,
    when: Option<Predicate>,
    states: HashMap<Vec<u8>, Box<dyn State>>,
}

/// What is computed of a row, in order.
pub enum AnalyticStep {
    /// An alias that a later step reads.
    Alias(Computed),
    Call(AnalyticCall),
}

/// Fills the slots of analytic calls, before anything takes a row out. A row of which a call fails is dropped.
pub struct Analytic {
    steps: Vec<AnalyticStep>,
    only: Option<(usize, usize)>,
    key: Vec<u8>,
    args: Vec<Value>,
}

impl AnalyticCall {
    pub fn new(
        slot: usize,
        func: &'static Func,
        args: Vec<Program>,
        rows: Vec<usize>,
        partition: Vec<Program>,
        when: Option<Predicate>,
    ) -> Self {
        AnalyticCall { slot, func, args, rows, partition, when, states: HashMap::new() }
    }

    fn start(&self) -> Result<Box<dyn State>> {
        start_analytic(self.func.name, &self.rows)
            .ok_or_else(|| Fault::bug(format!("`{}` was planned as an analytic function", self.func.name)))
    }

    fn step(
        &mut self,
        batch: &Batch,
        row: usize,
        cx: &Cx<'_>,
        key: &mut Vec<u8>,
        args: &mut Vec<Value>,
    ) -> Result<Value> {
        let frame = cx.frame(batch, row);
        args.clear();
        for arg in &self.args {
            args.push(arg.eval(&frame)?);
        }
        let when = match &self.when {
            Some(when) => when.holds(&frame)?,
            None => true,
        };
        key.clear();
        for part in &self.partition {
            key::add(key, &part.eval(&frame)?);
        }
        let context = Ctx { now: cx.now, row_time: Some(batch.time(row)), rule: cx.rule };
        let stepped = match self.states.get_mut(key) {
            Some(state) => state.step(args, when, &context),
            None => {
                let mut fresh = self.start()?;
                let stepped = fresh.step(args, when, &context);
                self.states.insert(key.clone(), fresh);
                stepped
            }
        };
        stepped.map_err(|fault| fault.context(format_args!("call func {} error: ", self.func.name)))
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        self.args.iter().chain(&self.partition)
    }

    fn save(&self) -> Value {
        // Their order means nothing, and the rule waits for this.
        let states = self.states.iter().map(|(key, state)| Entry { key, state: state.as_ref() });
        Value::array(vec![
            save_all(self.programs()),
            self.when.as_ref().map_or(Value::Null, Predicate::save),
            pack::bundle(states),
        ])
    }

    fn load(&mut self, saved: &Value) -> Result<()> {
        let Value::Array(parts) = saved else { return Err(broken()) };
        let [programs, when, states] = parts.as_slice() else { return Err(broken()) };
        load_all(self.args.iter_mut().chain(&mut self.partition), programs.clone())?;
        if let Some(predicate) = &mut self.when {
            predicate.load(when.clone())?;
        }
        self.states.clear();
        for entry in pack::unbundle(states) {
            let Value::Array(entry) = entry? else { return Err(broken()) };
            let [Value::Bytes(key), saved] = entry.as_slice() else { return Err(broken()) };
            let mut state = self.start()?;
            state.load(saved.clone())?;
            self.states.insert(key.to_vec(), state);
        }
        Ok(())
    }
}

/// The state of one partition.
struct Entry<'a> {
    key: &'a [u8],
    state: &'a dyn State,
}

impl Pack for Entry<'_> {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        let mut pair = to.array(2)?;
        pair.bytes(self.key);
        self.state.pack(&mut pair)
    }

    fn touch(&self) -> usize {
        self.state.touch() + self.key.first().map_or(0, |byte| usize::from(*byte))
    }
}

fn broken() -> Fault {
    Fault::bug("the saved state of analytic functions cannot be read")
}

impl Analytic {
    /// `only`: of several sources the rows of this one alone are looked at; the source, and the slot that says of which
    /// one a row is.
    pub fn new(steps: Vec<AnalyticStep>, only: Option<(usize, usize)>) -> Self {
        Analytic { steps, only, key: Vec::new(), args: Vec::new() }
    }

    fn fill(&mut self, batch: &mut Batch, row: usize, cx: &Cx<'_>) -> Result<()> {
        for step in &mut self.steps {
            match step {
                AnalyticStep::Alias(computed) => computed.fill(batch, row, cx)?,
                AnalyticStep::Call(call) => {
                    let value = call.step(batch, row, cx, &mut self.key, &mut self.args)?;
                    batch.row_mut(row)[call.slot] = value;
                }
            }
        }
        Ok(())
    }
}

impl Operator for Analytic {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut failed = Vec::new();
        for row in batch.selected().to_vec() {
            if let Some((source, slot)) = self.only
                && batch.row(row as usize)[slot] != Value::Int(source as i64)
            {
                continue;
            }
            let filled = self.fill(&mut batch, row as usize, cx);
            failed.extend(filled.err().map(|fault| (row, fault.context("run Analytic error: "))));
        }
        fail_rows(&mut batch, failed);
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        let save = |step: &AnalyticStep| match step {
            AnalyticStep::Alias(computed) => computed.program.save(),
            AnalyticStep::Call(call) => call.save(),
        };
        Value::array(self.steps.iter().map(save).collect())
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let Value::Array(saved) = saved else { return Err(broken()) };
        if saved.len() != self.steps.len() {
            return Err(broken());
        }
        self.steps.iter_mut().zip(saved.iter()).try_for_each(|(step, saved)| match step {
            AnalyticStep::Alias(computed) => computed.program.load(saved.clone()),
            AnalyticStep::Call(call) => call.load(saved),
        })
    }
}
