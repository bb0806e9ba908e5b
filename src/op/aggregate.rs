use std::collections::HashSet;
use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Fate, Held, Text, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Frame, Predicate, Program};
use crate::func::{Accumulator, Ctx};

use super::compute::{load_all, save_all};
use super::tally::{Group, Tally};
use super::{Cx, Operator, Out, Saved};

/// Makes what an aggregate keeps of one group.
pub type Start = Arc<dyn Fn() -> Box<dyn Accumulator> + Send + Sync>;

/// One aggregate of the statement.
pub struct AggregateCall {
    /// Slot of the result in the row of the group.
    pub slot: usize,
    pub start: Start,
    pub args: Vec<Program>,
    /// What an error of the aggregate begins with.
    pub label: Box<str>,
    /// Equal arguments count once.
    pub distinct: bool,
    /// Rows for which it does not hold are left out of this aggregate.
    pub filter: Option<Predicate>,
}

/// Rows brought together by their keys: one accumulator an aggregate and group, and the first row of each. Groups come
/// out in the order in which their first rows came.
pub struct Groups {
    keys: Vec<Program>,
    calls: Vec<AggregateCall>,
    /// WHERE: rows for which it does not hold are left out, and a window of which nothing is left gives nothing.
    filter: Option<Predicate>,
    width: usize,
    tally: Tally,
    /// Room for the arguments of one call.
    args: Vec<Value>,
    /// The words before an error of an aggregate.
    stage: &'static str,
}

impl AggregateCall {
    fn add(
        &self,
        frame: &Frame<'_>,
        into: &mut Box<dyn Accumulator>,
        seen: &mut HashSet<Text>,
        args: &mut Vec<Value>,
        cx: &Cx<'_>,
    ) -> Result<()> {
        if let Some(filter) = &self.filter
            && !filter.holds(frame)?
        {
            return Ok(());
        }
        args.clear();
        for arg in &self.args {
            args.push(arg.eval(frame)?);
        }
        if self.distinct && !seen.insert(distinct_key(args)) {
            return Ok(());
        }
        let context = Ctx { now: cx.now, row_time: Some(frame.time), rule: cx.rule };
        into.add(args, &context).map_err(|fault| fault.context(&self.label))
    }
}

impl Groups {
    pub fn new(width: usize, keys: Vec<Program>, calls: Vec<AggregateCall>) -> Self {
        Groups {
            keys,
            calls,
            filter: None,
            width,
            tally: Tally::default(),
            args: Vec::new(),
            stage: "run Select error: ",
        }
    }

    /// The same for a clause other than SELECT: its words before an error.
    pub fn at(self, stage: &'static str) -> Self {
        Groups { stage, ..self }
    }

    /// Only rows for which the condition holds, which remembers nothing and fails a window with the row that it fails for.
    pub fn only(mut self, filter: Option<Predicate>) -> Self {
        self.filter = filter;
        self
    }

    /// Takes a row into its group and keeps the promise for it.
    pub fn add(&mut self, batch: &Batch, row: usize, held: Held, cx: &Cx<'_>) {
        if let Some(filter) = &self.filter {
            match filter.holds(&cx.frame(batch, row)) {
                Ok(true) => {}
                Ok(false) => return held.settle(Fate::Filtered),
                Err(fault) => return self.tally.fail(fault.context("run Where error: "), held),
            }
        }
        match self.group(batch, row, cx) {
            Ok(group) => self.tally.groups[group].held.merge(held),
            Err(fault) => self.tally.fail(fault, held),
        }
    }

    fn group(&mut self, batch: &Batch, row: usize, cx: &Cx<'_>) -> Result<usize> {
        let frame = cx.frame(batch, row);
        let key = key_of(&self.keys, &frame).map_err(|fault| fault.context("run Group By error: "))?;
        let calls = &self.calls;
        let at = self.tally.find(key, |key| Group {
            key,
            first: batch.row(row).to_vec(),
            time: batch.time(row),
            meta: batch.meta(row).cloned(),
            accumulators: calls.iter().map(|call| (call.start)()).collect(),
            seen: calls.iter().map(|_| HashSet::new()).collect(),
            held: Held::default(),
        });
        let group = &mut self.tally.groups[at];
        let args = &mut self.args;
        let mut parts = self.calls.iter().zip(&mut group.accumulators).zip(&mut group.seen);
        parts
            .try_for_each(|((call, into), seen)| call.add(&frame, into, seen, args, cx))
            .map_err(|fault| fault.context(self.stage))?;
        Ok(at)
    }

    /// Whether groups of some rows and groups of later ones can be put together.
    pub fn can_join(&self) -> bool {
        self.calls.iter().all(|call| !call.distinct && (call.start)().takes())
    }

    /// Takes out what was brought together, and starts anew.
    pub fn swap(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Gives what several tallies come to together, the earliest first, as one emission. They stay as they are, for
    /// others.
    pub fn join<'a>(&mut self, tallies: impl Iterator<Item = &'a mut Tally>, trigger: Time) -> Batch {
        for tally in tallies {
            if let Some(fault) = &tally.failed {
                self.tally.fail(fault.clone(), tally.failed_rows.part().hold());
            }
            for group in &mut tally.groups {
                let calls = &self.calls;
                let at = self.tally.find(group.key.clone(), |key| Group {
                    key,
                    first: group.first.clone(),
                    time: group.time,
                    meta: group.meta.clone(),
                    accumulators: calls.iter().map(|call| (call.start)()).collect(),
                    seen: calls.iter().map(|_| HashSet::new()).collect(),
                    held: Held::default(),
                });
                let into = &mut self.tally.groups[at];
                let held = group.held.part().hold();
                let mut pairs = into.accumulators.iter_mut().zip(&group.accumulators);
                match pairs.try_for_each(|(into, later)| into.take(later.save())) {
                    Ok(()) => into.held.merge(held),
                    Err(fault) => self.tally.fail(fault.context(self.stage), held),
                }
            }
        }
        self.close(trigger)
    }

    /// Gives the groups as one emission and starts anew. Without keys and without rows there is still one row, with
    /// nothing in it.
    pub fn close(&mut self, trigger: Time) -> Batch {
        let Tally { groups, failed, failed_rows, .. } = self.swap();
        let mut batch = Batch::with_capacity(self.width, groups.len().max(1));
        batch.emissions = Emissions::Whole;
        batch.trigger = Some(trigger);
        if let Some(fault) = failed {
            groups.into_iter().for_each(|group| group.held.release().fail(&fault, || (group.first, group.meta)));
            failed_rows.release().fail(&fault, Default::default);
            batch.note(0, fault);
            return batch;
        }
        if groups.is_empty() && self.keys.is_empty() && self.filter.is_none() {
            let row = batch.push(trigger, crate::data::Receipt::none());
            self.calls.iter().for_each(|call| row[call.slot] = Value::Null);
        }
        let mut failed = None;
        for group in groups {
            let row = batch.rows();
            let slots = batch.push(trigger, group.held.release());
            slots.iter_mut().zip(group.first).for_each(|(slot, value)| *slot = value);
            for (call, accumulator) in self.calls.iter().zip(&group.accumulators) {
                match accumulator.give() {
                    Ok(value) => slots[call.slot] = value,
                    Err(fault) => drop(failed.get_or_insert(fault.context(&call.label).context(self.stage))),
                }
            }
            if let Some(meta) = &group.meta {
                batch.set_meta(row, meta);
            }
        }
        if let Some(fault) = failed {
            super::window::fail_all(&mut batch, fault);
        }
        batch
    }

    pub fn is_empty(&self) -> bool {
        self.tally.is_empty()
    }

    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Throws away what was brought together.
    pub fn settle(&mut self, fate: Fate) {
        self.swap().settle(fate);
    }

    pub fn forget(&mut self) {
        self.swap().forget();
    }

    /// How many rows are held here.
    pub fn held(&self) -> u64 {
        self.tally.held()
    }

    pub fn save(&self) -> Saved {
        Value::array(vec![self.tally.save(), self.save_programs()])
    }

    pub fn load(&mut self, saved: &Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a window cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        let [tally, programs] = saved.as_slice() else { return Err(broken()) };
        self.load_programs(programs.clone())?;
        self.tally = self.load_tally(tally, account)?;
        Ok(())
    }

    pub fn load_tally(&self, saved: &Saved, account: &Arc<dyn Account>) -> Result<Tally> {
        Tally::load(saved, account, &|| self.calls.iter().map(|call| (call.start)()).collect())
    }
}

impl Groups {
    /// What the functions in keys, arguments and conditions remember.
    fn save_programs(&self) -> Saved {
        let args = self.calls.iter().flat_map(|call| &call.args);
        let filters = self.calls.iter().filter_map(|call| call.filter.as_ref()).map(Predicate::save);
        Value::array(vec![save_all(self.keys.iter().chain(args)), Value::array(filters.collect())])
    }

    fn load_programs(&mut self, saved: Saved) -> Result<()> {
        let broken = || Fault::bug("the saved programs of an aggregate cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        let [programs, Value::Array(filters)] = saved.as_slice() else { return Err(broken()) };
        let args = self.calls.iter_mut().flat_map(|call| &mut call.args);
        load_all(self.keys.iter_mut().chain(args), programs.clone())?;
        let mine = self.calls.iter_mut().filter_map(|call| call.filter.as_mut());
        mine.zip(filters.iter()).try_for_each(|(filter, saved)| filter.load(saved.clone()))
    }
}

/// The printed values of some expressions, which rows that belong together have alike.
pub(super) fn key_of(keys: &[Program], frame: &Frame<'_>) -> Result<Text> {
    let mut key = Text::default();
    for (n, program) in keys.iter().enumerate() {
        let value = program.eval(frame)?;
        let printed = if value.is_null() { Text::const_new("<nil>") } else { value.print() };
        if n == 0 {
            key = printed;
        } else {
            key.push('\u{1f}');
            key.push_str(&printed);
        }
    }
    Ok(key)
}

/// Alike for values that are equal: an integer and a float are, when their values are.
fn distinct_key(args: &[Value]) -> Text {
    let mut key = Text::default();
    for arg in args {
        let (kind, printed) = match arg.as_i64() {
            Some(whole) => ("number", Value::Int(whole).print()),
            None => (arg.type_name(), arg.print()),
        };
        key.push_str(kind);
        key.push('\u{1f}');
        key.push_str(&printed);
        key.push('\u{1f}');
    }
    key
}

/// Aggregates of rows that are given out themselves: over each row alone in a rule without a window, else over all
/// rows of an emission. The results are written into every row that had a part in them.
pub struct Aggregate {
    groups: Groups,
    each_row: bool,
}

impl Aggregate {
    pub fn new(groups: Groups, each_row: bool) -> Self {
        Aggregate { groups, each_row }
    }

    fn over(&mut self, batch: &mut Batch, rows: &[u32], cx: &Cx<'_>) -> Option<Fault> {
        for row in rows {
            self.groups.add(batch, *row as usize, Held::default(), cx);
        }
        let slots: Vec<usize> = self.groups.calls.iter().map(|call| call.slot).collect();
        let mut result = self.groups.close(cx.now);
        if let Some((_, fault)) = result.take_faults().pop() {
            return Some(fault);
        }
        let values = result.take_row(0);
        for row in rows {
            let row = batch.row_mut(*row as usize);
            slots.iter().for_each(|slot| row[*slot] = values[*slot].clone());
        }
        None
    }
}

impl Operator for Aggregate {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let rows = batch.selected().to_vec();
        if !self.each_row {
            if let Some(fault) = self.over(&mut batch, &rows, cx) {
                super::window::fail_all(&mut batch, fault);
            }
            out.send(batch);
            return Ok(());
        }
        let mut left = Vec::with_capacity(rows.len());
        for row in rows {
            match self.over(&mut batch, &[row], cx) {
                None => left.push(row),
                Some(fault) => batch.fail(row as usize, fault),
            }
        }
        batch.select(left);
        out.send(batch);
        Ok(())
    }

    /// Between two emissions there is no group.
    fn save(&self) -> Saved {
        self.groups.save_programs()
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        self.groups.load_programs(saved)
    }
}
