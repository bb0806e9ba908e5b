use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Fate, Held, Meta, Object, Text, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Frame, Predicate, Program};
use crate::func::{Accumulator, Ctx};

use super::compute::{load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// Makes what an aggregate keeps of one group.
pub type Start = Arc<dyn Fn() -> Box<dyn Accumulator> + Send + Sync>;

/// One aggregate of the statement.
pub struct AggregateCall {
    /// Slot of the result in the row of the group.
    pub slot: usize,
    pub start: Start,
    pub args: Vec<Program>,
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
    width: usize,
    index: HashMap<Text, usize>,
    groups: Vec<Group>,
    /// The first thing that went wrong; then the window fails as a whole.
    failed: Option<Fault>,
    failed_rows: Held,
    /// Room for the arguments of one call.
    args: Vec<Value>,
}

struct Group {
    key: Text,
    first: Vec<Value>,
    time: Time,
    meta: Option<Meta>,
    accumulators: Vec<Box<dyn Accumulator>>,
    seen: Vec<HashSet<Text>>,
    held: Held,
}

/// The words before an error of an aggregate.
fn select(fault: Fault) -> Fault {
    fault.context("run Select error: ")
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
        into.add(args, &context)
    }
}

impl Groups {
    pub fn new(width: usize, keys: Vec<Program>, calls: Vec<AggregateCall>) -> Self {
        let (index, groups) = (HashMap::new(), Vec::new());
        Groups { keys, calls, width, index, groups, failed: None, failed_rows: Held::default(), args: Vec::new() }
    }

    /// Takes a row into its group and keeps the promise for it.
    pub fn add(&mut self, batch: &Batch, row: usize, held: Held, cx: &Cx<'_>) {
        match self.group(batch, row, cx) {
            Ok(group) => self.groups[group].held.merge(held),
            Err(fault) => {
                self.failed.get_or_insert(fault);
                self.failed_rows.merge(held);
            }
        }
    }

    fn group(&mut self, batch: &Batch, row: usize, cx: &Cx<'_>) -> Result<usize> {
        let frame = cx.frame(batch, row);
        let key = self.key(&frame).map_err(|fault| fault.context("run Group By error: "))?;
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None => {
                let group = Group {
                    key: key.clone(),
                    first: batch.row(row).to_vec(),
                    time: batch.time(row),
                    meta: batch.meta(row).cloned(),
                    accumulators: self.calls.iter().map(|call| (call.start)()).collect(),
                    seen: self.calls.iter().map(|_| HashSet::new()).collect(),
                    held: Held::default(),
                };
                self.groups.push(group);
                self.index.insert(key, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[at];
        let args = &mut self.args;
        let mut parts = self.calls.iter().zip(&mut group.accumulators).zip(&mut group.seen);
        parts.try_for_each(|((call, into), seen)| call.add(&frame, into, seen, args, cx)).map_err(select)?;
        Ok(at)
    }

    fn key(&self, frame: &Frame<'_>) -> Result<Text> {
        let mut key = Text::default();
        for (n, program) in self.keys.iter().enumerate() {
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

    /// Gives the groups as one emission and starts anew. Without keys and without rows there is still one row, with
    /// nothing in it.
    pub fn close(&mut self, trigger: Time) -> Batch {
        let mut batch = Batch::with_capacity(self.width, self.groups.len().max(1));
        batch.emissions = Emissions::Whole;
        self.index.clear();
        let groups = std::mem::take(&mut self.groups);
        if let Some(fault) = self.failed.take() {
            let fate = Fate::dead(&fault);
            groups.into_iter().for_each(|group| group.held.settle(fate));
            std::mem::take(&mut self.failed_rows).settle(fate);
            batch.note(0, fault);
            return batch;
        }
        if groups.is_empty() && self.keys.is_empty() {
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
                    Err(fault) => drop(failed.get_or_insert(select(fault))),
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
        self.groups.is_empty() && self.failed.is_none()
    }

    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    pub fn settle(&mut self, fate: Fate) {
        self.index.clear();
        self.failed = None;
        self.groups.drain(..).for_each(|group| group.held.settle(fate));
        std::mem::take(&mut self.failed_rows).settle(fate);
    }

    pub fn forget(&mut self) {
        self.index.clear();
        self.groups.drain(..).for_each(|group| group.held.forget());
        std::mem::take(&mut self.failed_rows).forget();
    }

    pub fn save(&self) -> Saved {
        let groups = self.groups.iter().map(|group| {
            Value::object(Object::from_iter([
                ("key", Value::Text(group.key.clone())),
                ("first", save_row(&group.first)),
                ("time", Value::Int(group.time.0)),
                ("meta", group.meta.clone().map_or(Value::Null, Value::Object)),
                ("state", Value::array(group.accumulators.iter().map(|one| one.save()).collect())),
                ("seen", Value::array(group.seen.iter().map(save_seen).collect())),
                ("held", Value::Int(group.held.rows() as i64)),
            ]))
        });
        Value::object(Object::from_iter([
            ("groups", Value::array(groups.collect())),
            ("failed", self.failed.as_ref().map_or(Value::Null, |fault| Value::text(fault.to_string()))),
            ("failed_rows", Value::Int(self.failed_rows.rows() as i64)),
            ("programs", self.save_programs()),
        ]))
    }

    pub fn load(&mut self, saved: &Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        if let Some(Value::Text(text)) = saved.get("failed") {
            self.failed = Some(Fault::eval(text.as_str()));
        }
        if let Some(Value::Int(rows)) = saved.get("failed_rows")
            && *rows > 0
        {
            self.failed_rows = Held::restored(account.clone(), *rows as u64);
        }
        self.load_programs(saved.get("programs").cloned().ok_or_else(broken)?)?;
        let Some(Value::Array(groups)) = saved.get("groups") else { return Err(broken()) };
        for group in groups.iter() {
            let Value::Object(group) = group else { return Err(broken()) };
            let part = |name: &str| group.get(name).cloned().ok_or_else(broken);
            let (Value::Text(key), Value::Array(states), Value::Array(seen), Value::Int(time), Value::Int(held)) =
                (part("key")?, part("state")?, part("seen")?, part("time")?, part("held")?)
            else {
                return Err(broken());
            };
            let mut accumulators: Vec<_> = self.calls.iter().map(|call| (call.start)()).collect();
            accumulators.iter_mut().zip(states.iter()).try_for_each(|(one, state)| one.load(state.clone()))?;
            self.index.insert(key.clone(), self.groups.len());
            self.groups.push(Group {
                key,
                first: load_row(&part("first")?).ok_or_else(broken)?,
                time: Time(time),
                meta: if let Value::Object(meta) = part("meta")? { Some(meta) } else { None },
                accumulators,
                seen: seen.iter().map(load_seen).collect(),
                held: Held::restored(account.clone(), held as u64),
            });
        }
        Ok(())
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

fn distinct_key(args: &[Value]) -> Text {
    let mut key = Text::default();
    for arg in args {
        key.push_str(arg.type_name());
        key.push('\u{1f}');
        key.push_str(&arg.print());
        key.push('\u{1f}');
    }
    key
}

fn save_seen(seen: &HashSet<Text>) -> Value {
    let mut all: Vec<Value> = seen.iter().cloned().map(Value::Text).collect();
    all.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    Value::array(all)
}

fn load_seen(saved: &Value) -> HashSet<Text> {
    match saved {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(Text::new).collect(),
        _ => HashSet::new(),
    }
}

/// The values of a row by slot; an absent one is left out.
pub(super) fn save_row(row: &[Value]) -> Value {
    let present: Vec<(Text, Value)> = row
        .iter()
        .enumerate()
        .filter(|(_, value)| !matches!(value, Value::Absent))
        .map(|(slot, value)| (Text::new(slot.to_string()), value.clone()))
        .collect();
    let mut object = Object::from_iter(present);
    object.insert("width", Value::Int(row.len() as i64));
    Value::object(object)
}

pub(super) fn load_row(saved: &Value) -> Option<Vec<Value>> {
    let Value::Object(saved) = saved else { return None };
    let Some(Value::Int(width)) = saved.get("width") else { return None };
    let mut row = vec![Value::Absent; usize::try_from(*width).ok()?];
    for (name, value) in saved.iter() {
        if let Ok(slot) = name.parse::<usize>() {
            *row.get_mut(slot)? = value.clone();
        }
    }
    Some(row)
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
