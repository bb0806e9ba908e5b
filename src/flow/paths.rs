//! The paths of a graph: chains behind chains, and which of them each row goes through.
//!
//! [`Paths`] is the one operator of a rule made of a graph. It gives each row of a source to every path that takes it, by
//! name, and what the last stage of a path gives leaves by the number of that path.
//!
//! A row is accounted for once. Where no path remembers anything, its fate is that of all its results; else that of what
//! the first path makes of it which takes rows of its source, for what several windows keep would be counted by each.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::clock::Time;
use crate::codec::Wanted;
use crate::data::{Account, Batch, Emissions, Fate, Layout, Meta, Object, Receipt, Text, Value};
use crate::diag::{Fault, Result};
use crate::func::RuleInfo;
use crate::op::{Cx, Operator, Out, Saved};
use crate::plan;
use crate::plan::{Input, Plan};

use super::chain::Chain;
use super::emissions;

pub struct Paths {
    paths: Vec<Path>,
    intakes: Vec<Wanted>,
    source_slot: Option<usize>,
    /// Under what the metadata of a row stands, where there are several sources.
    names: Vec<Text>,
    /// Some path remembers something.
    keeps: bool,
}

struct Path {
    stages: Vec<Stage>,
}

struct Stage {
    chain: Chain,
    inputs: Vec<Input>,
    wanted: Vec<Wanted>,
    width: usize,
    layout: Layout,
    /// The inputs that have come to their end.
    over: Vec<bool>,
}

impl Paths {
    pub fn build(
        of: &plan::Paths,
        whole: &Plan,
        rule: &Arc<RuleInfo>,
        local: &TimeZone,
        now: Time,
        account: &Arc<dyn Account>,
    ) -> Result<Paths> {
        let stage = |stage: &plan::Stage| -> Result<Stage> {
            let chain = Chain::build(&stage.plan, rule.clone(), local, now, account.clone())?;
            Ok(Stage {
                chain,
                inputs: stage.inputs.clone(),
                wanted: stage.plan.sources.iter().map(|source| source.wanted.clone()).collect(),
                width: stage.plan.width,
                layout: stage.plan.layout.clone(),
                over: vec![false; stage.inputs.len()],
            })
        };
        let path = |path: &plan::Path| -> Result<Path> {
            Ok(Path { stages: path.stages.iter().map(stage).collect::<Result<_>>()? })
        };
        let paths: Vec<Path> = of.paths.iter().map(path).collect::<Result<_>>()?;
        let keeps = paths.iter().flat_map(|path| &path.stages).any(|stage| stage.chain.memories().contains(&true));
        let names = whole.sources.iter().map(|source| source.called.clone()).collect();
        Ok(Paths { paths, intakes: of.intakes.clone(), source_slot: whole.source_slot, names, keeps })
    }

    /// Where the rows of a source go: path, stage and input.
    fn takers(&self, source: usize) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        for (p, path) in self.paths.iter().enumerate() {
            for (s, stage) in path.stages.iter().enumerate() {
                let inputs = stage.inputs.iter().enumerate();
                all.extend(inputs.filter(|(_, of)| **of == Input::Source(source)).map(|(i, _)| (p, s, i)));
            }
        }
        all
    }

    /// Gives rows of one source to all who take them.
    fn spread(&mut self, source: usize, batch: &mut Batch, rows: &[u32], cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut receipts: Vec<Receipt> = rows.iter().map(|row| batch.take_receipt(*row as usize)).collect();
        let objects: Vec<Object> = rows.iter().map(|row| self.object(source, batch.row(*row as usize))).collect();
        let takers = self.takers(source);
        let last = if self.keeps { 0 } else { takers.len().saturating_sub(1) };
        for (n, (path, stage, input)) in takers.iter().copied().enumerate() {
            let of = &self.paths[path].stages[stage];
            let mut given = Batch::with_capacity(of.width, rows.len());
            for (place, row) in rows.iter().enumerate() {
                let row = *row as usize;
                let receipt = match n {
                    n if n == last => std::mem::take(&mut receipts[place]),
                    n if n < last => receipts[place].clone(),
                    _ => Receipt::none(),
                };
                let meta = batch.meta(row).and_then(|meta| self.meta(source, meta));
                let at = given.rows();
                of.wanted[input].fill(objects[place].clone(), given.push(batch.time(row), Receipt::none()));
                given.stamp(at, batch.time(row), meta.as_ref(), receipt);
            }
            self.give(path, stage, input, given, cx.now, out)?;
        }
        receipts.into_iter().for_each(|receipt| receipt.settle(Fate::Filtered));
        Ok(())
    }

    /// A row of a source by name.
    fn object(&self, source: usize, row: &[Value]) -> Object {
        let Some(wanted) = self.intakes.get(source) else { return Object::new() };
        let mut object = match wanted.rest.map(|slot| &row[slot]) {
            Some(Value::Object(rest)) => Object::clone(rest),
            _ => Object::with_capacity(wanted.columns.len()),
        };
        for column in &wanted.columns {
            if !matches!(row[column.slot], Value::Absent) {
                object.insert(column.name.clone(), row[column.slot].clone());
            }
        }
        object
    }

    fn meta(&self, source: usize, meta: &Meta) -> Option<Meta> {
        match (self.source_slot, meta.get(self.names.get(source)?)) {
            (None, _) => Some(meta.clone()),
            (Some(_), Some(Value::Object(own))) => Some(own.clone()),
            _ => None,
        }
    }

    fn give(&mut self, path: usize, stage: usize, input: usize, batch: Batch, now: Time, out: &mut Out) -> Result<()> {
        let mut given = Vec::new();
        self.paths[path].stages[stage].chain.push(input, batch, now, &mut given)?;
        self.pass(path, stage, given, now, out)
    }

    /// What a stage gave goes to the stage behind it, or leaves.
    fn pass(&mut self, path: usize, stage: usize, given: Vec<Batch>, now: Time, out: &mut Out) -> Result<()> {
        let next = self.paths[path].stages.iter().enumerate().find_map(|(n, other)| {
            other.inputs.iter().position(|input| *input == Input::Stage(stage)).map(|input| (n, input))
        });
        for mut batch in given {
            let Some((to, input)) = next else {
                out.send(leaving(&self.paths[path].stages[stage].layout, batch, path));
                continue;
            };
            // An error goes past all that is behind.
            let faults: Vec<Fault> = batch.take_faults().into_iter().map(|(_, fault)| fault).collect();
            let failed = !faults.is_empty();
            tell(faults, Some(path), out);
            if failed && batch.selected().is_empty() {
                continue;
            }
            let single = batch.emissions == Emissions::Single;
            let sets: Vec<Vec<u32>> = match single {
                true => vec![batch.selected().to_vec()],
                false => emissions(&batch).into_iter().map(<[u32]>::to_vec).collect(),
            };
            for rows in sets {
                let (from, of) = (&self.paths[path].stages[stage], &self.paths[path].stages[to]);
                let mut set = Batch::with_capacity(of.width, rows.len());
                set.emissions = if single { Emissions::Single } else { Emissions::Whole };
                set.trigger = batch.trigger;
                for row in rows {
                    let row = row as usize;
                    let (object, at) = (from.layout.object(batch.row(row)), set.rows());
                    of.wanted[input].fill(object, set.push(batch.time(row), Receipt::none()));
                    let receipt = batch.take_receipt(row);
                    set.stamp(at, batch.time(row), None, receipt);
                }
                self.give(path, to, input, set, now, out)?;
            }
        }
        Ok(())
    }

    /// Calls all stages, each before those that take its rows.
    fn each(
        &mut self,
        now: Time,
        out: &mut Out,
        mut call: impl FnMut(&mut Stage, &mut Vec<Batch>) -> Result<()>,
    ) -> Result<()> {
        for path in 0..self.paths.len() {
            for stage in 0..self.paths[path].stages.len() {
                let mut given = Vec::new();
                call(&mut self.paths[path].stages[stage], &mut given)?;
                self.pass(path, stage, given, now, out)?;
            }
        }
        Ok(())
    }

    fn stages(&mut self) -> impl Iterator<Item = &mut Stage> {
        self.paths.iter_mut().flat_map(|path| &mut path.stages)
    }
}

/// Errors leave by themselves.
fn tell(faults: Vec<Fault>, port: Option<usize>, out: &mut Out) {
    if faults.is_empty() {
        return;
    }
    let mut told = Batch::new(1);
    (told.port, told.emissions) = (port, Emissions::Whole);
    faults.into_iter().for_each(|fault| told.note(0, fault));
    out.send(told);
}

/// What leaves a path: rows as they are, without what only went along.
fn leaving(layout: &Layout, mut batch: Batch, path: usize) -> Batch {
    let rows = batch.selected().to_vec();
    let mut left = Batch::with_capacity(1, rows.len());
    (left.port, left.trigger) = (Some(path), batch.trigger);
    left.emissions = std::mem::take(&mut batch.emissions);
    let mut faults = batch.take_faults().into_iter().peekable();
    for row in rows {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= row) {
            left.note(left.rows(), fault);
        }
        let row = row as usize;
        let object = layout.object(batch.row(row));
        let hidden = object.iter().any(|(name, _)| name.starts_with(plan::HIDDEN));
        let object = match hidden {
            true => Object::from_iter(object.into_iter().filter(|(name, _)| !name.starts_with(plan::HIDDEN))),
            false => object,
        };
        let receipt = batch.take_receipt(row);
        left.push(batch.time(row), receipt)[0] = Value::object(object);
    }
    faults.for_each(|(_, fault)| left.note(left.rows(), fault));
    left
}

fn broken() -> Fault {
    Fault::bug("the saved state of a graph is of another one")
}

impl Operator for Paths {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut faults = batch.take_faults().into_iter().peekable();
        let rows = batch.selected().to_vec();
        let source = |batch: &Batch, row: u32| match self.source_slot.map(|slot| &batch.row(row as usize)[slot]) {
            Some(Value::Int(source)) => usize::try_from(*source).unwrap_or_default(),
            _ => 0,
        };
        // Rows of one source with nothing between them go on together; errors keep their places.
        let mut runs: Vec<(Vec<Fault>, usize, Vec<u32>)> = Vec::new();
        for row in rows {
            let mut before = Vec::new();
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= row) {
                before.push(fault);
            }
            let of = source(&batch, row);
            match runs.last_mut() {
                Some((_, last, run)) if *last == of && before.is_empty() => run.push(row),
                _ => runs.push((before, of, vec![row])),
            }
        }
        for (before, source, rows) in runs {
            tell(before, None, out);
            self.spread(source, &mut batch, &rows, cx, out)?;
        }
        tell(faults.map(|(_, fault)| fault).collect(), None, out);
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        self.each(cx.now, out, |stage, given| stage.chain.tick(cx.now, given))
    }

    fn due(&self) -> Option<Time> {
        self.paths.iter().flat_map(|path| &path.stages).filter_map(|stage| stage.chain.due()).min()
    }

    fn ended(&mut self, source: usize, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for path in 0..self.paths.len() {
            let mut over = vec![Input::Source(source)];
            for stage in 0..self.paths[path].stages.len() {
                let of = &mut self.paths[path].stages[stage];
                let mut given = Vec::new();
                for input in 0..of.inputs.len() {
                    if of.over[input] || !over.contains(&of.inputs[input]) {
                        continue;
                    }
                    of.over[input] = true;
                    if of.over.iter().all(|over| *over) {
                        of.chain.finish(cx.now, &mut given)?;
                        over.push(Input::Stage(stage));
                    } else {
                        of.chain.ended(input, cx.now, &mut given)?;
                    }
                }
                self.pass(path, stage, given, cx.now, out)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        self.each(cx.now, out, |stage, given| match stage.over.iter().all(|over| *over) && !stage.over.is_empty() {
            true => Ok(()),
            false => stage.chain.finish(cx.now, given),
        })
    }

    fn discard(&mut self) {
        self.stages().for_each(|stage| stage.chain.discard());
    }

    fn forget(&mut self) {
        self.stages().for_each(|stage| stage.chain.forget());
    }

    fn held(&self) -> u64 {
        self.paths.iter().flat_map(|path| &path.stages).flat_map(|stage| stage.chain.held()).sum()
    }

    /// Nothing where nothing is remembered.
    fn save(&self) -> Saved {
        if !self.keeps {
            return Saved::Null;
        }
        let over = |stage: &Stage| Value::array(stage.over.iter().map(|over| Value::Bool(*over)).collect());
        let path = |path: &Path| {
            let stages = path.stages.iter().map(|stage| Value::array(vec![stage.chain.save(), over(stage)]));
            Value::array(stages.collect())
        };
        Value::array(self.paths.iter().map(path).collect())
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let Value::Array(paths) = saved else { return Err(broken()) };
        let stages: Vec<Value> = paths
            .iter()
            .flat_map(|path| if let Value::Array(stages) = path { stages.to_vec() } else { Vec::new() })
            .collect();
        let count: usize = self.paths.iter().map(|path| path.stages.len()).sum();
        if stages.len() != count {
            return Err(broken());
        }
        for (stage, saved) in self.stages().zip(stages) {
            let Value::Array(saved) = saved else { return Err(broken()) };
            let [state, Value::Array(over)] = saved.as_slice() else { return Err(broken()) };
            stage.over = over.iter().map(|over| *over == Value::Bool(true)).collect();
            stage.chain.load(state.clone())?;
        }
        Ok(())
    }
}
