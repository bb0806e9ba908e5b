//! Joins: rows of several sources made one.
//!
//! What is joined is an emission: the rows of a window, or, without one, each row of a stream alone. Streams have their
//! rows in it, and of scan tables all rows count that are kept at that moment. The joins are done in their order, each
//! between what was joined so far and one source. A joined row has the slots of all its parts; where two fill the same
//! slot, the source counts that stands first. Every part shares the fate of its results.

mod index;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Fate, Meta, Object, Receipt, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Bounds, Predicate, Program};
use crate::sql::JoinKind;

use super::window::{emission, fail_all, forward_faults};
use super::{Cx, Operator, Out, Saved};
use index::Index;
use table::Table;

/// So many pairs are compared sooner than an index is made of their rows.
const FEW: usize = 32;
/// In place of a row: the source has no part in the joined one.
const NONE: u32 = u32::MAX;

/// One join.
pub struct JoinStep {
    pub kind: JoinKind,
    /// The source on the right side.
    pub source: usize,
    /// None: all belongs to all.
    pub on: Option<Predicate>,
    /// Slots that the condition reads.
    pub reads: Vec<usize>,
    /// The condition reads metadata.
    pub meta: bool,
    /// The condition begins with equalities between these and `right`.
    pub left: Vec<Program>,
    pub right: Vec<Program>,
}

/// Joins the rows of emissions, and keeps those of scan tables.
pub struct Join {
    steps: Vec<JoinStep>,
    /// By source; those of streams are none.
    tables: Vec<Option<Table>>,
    /// All sources, those first whose values count.
    precedence: Vec<usize>,
    /// Slot that says of which source a row is.
    source_slot: usize,
    bounds: Bounds,
    width: usize,
}

/// Joined rows: for each the places of its parts, source by source.
struct Found {
    sources: usize,
    parts: Vec<u32>,
}

impl Found {
    fn push(&mut self, parts: &[u32]) {
        self.parts.extend_from_slice(parts);
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, u32> {
        self.parts.chunks_exact(self.sources)
    }

    fn len(&self) -> usize {
        self.parts.len() / self.sources
    }

    fn row(&self, n: usize) -> &[u32] {
        &self.parts[n * self.sources..(n + 1) * self.sources]
    }
}

/// The rows that take part in one emission, source by source.
struct Sides<'a> {
    batch: &'a Batch,
    tables: &'a [Option<Table>],
    /// Rows of the batch.
    streams: Vec<Vec<u32>>,
    precedence: &'a [usize],
    time: Time,
}

impl Sides<'_> {
    fn len(&self, source: usize) -> usize {
        self.tables[source].as_ref().map_or_else(|| self.streams[source].len(), |table| table.rows().len())
    }

    fn row(&self, source: usize, at: u32) -> (&[Value], Option<&Meta>) {
        match &self.tables[source] {
            Some(table) => {
                let kept = &table.rows()[at as usize];
                (&kept.values, kept.meta.as_ref())
            }
            None => {
                let row = self.streams[source][at as usize] as usize;
                (self.batch.row(row), self.batch.meta(row))
            }
        }
    }

    /// The parts of a joined row, those first whose values count.
    fn parts<'s>(&'s self, parts: &'s [u32]) -> impl Iterator<Item = (&'s [Value], Option<&'s Meta>)> {
        let there = self.precedence.iter().filter(|source| parts[**source] != NONE);
        there.map(|source| self.row(*source, parts[*source]))
    }

    fn meta(&self, parts: &[u32]) -> Option<Meta> {
        let metas: Vec<&Meta> = self.parts(parts).filter_map(|(_, meta)| meta).collect();
        merged_meta(&metas)
    }
}

/// The metadata of a joined row has that of each part under the name of its source.
pub(super) fn merged_meta(metas: &[&Meta]) -> Option<Meta> {
    match metas {
        [] => None,
        [only] => Some(Meta::clone(only)),
        several => {
            let entries = several.iter().flat_map(|meta| meta.iter());
            Some(Meta::new(Object::from_iter(entries.map(|(name, value)| (name.clone(), value.clone())))))
        }
    }
}

/// Fills the slots of a row that no part before has filled.
pub(super) fn merge(into: &mut [Value], part: &[Value]) {
    for (into, value) in into.iter_mut().zip(part) {
        if matches!(into, Value::Absent) {
            into.clone_from(value);
        }
    }
}

impl JoinStep {
    /// Fills the slots that the condition reads.
    fn fill(&self, scratch: &mut [Value], parts: &[u32], sides: &Sides<'_>) {
        for slot in &self.reads {
            let filled = |(row, _): (&[Value], Option<&Meta>)| {
                let value = &row[*slot];
                if matches!(value, Value::Absent) { None } else { Some(value.clone()) }
            };
            scratch[*slot] = sides.parts(parts).find_map(filled).unwrap_or_default();
        }
    }

    fn holds(&self, scratch: &mut [Value], parts: &[u32], sides: &Sides<'_>, cx: &Cx<'_>) -> Result<bool> {
        let Some(on) = &self.on else { return Ok(true) };
        self.fill(scratch, parts, sides);
        let meta = if self.meta { sides.meta(parts) } else { None };
        on.decides(&cx.over(scratch, meta.as_ref(), sides.time))
    }

    /// The values of what is compared of the left side.
    fn left_keys(&self, scratch: &mut [Value], parts: &[u32], sides: &Sides<'_>, cx: &Cx<'_>) -> Option<Vec<Value>> {
        self.fill(scratch, parts, sides);
        let frame = cx.over(scratch, None, sides.time);
        self.left.iter().map(|key| key.eval(&frame).ok()).collect()
    }

    fn right_keys(&self, at: u32, sides: &Sides<'_>, cx: &Cx<'_>) -> Option<Vec<Value>> {
        let frame = cx.over(sides.row(self.source, at).0, None, sides.time);
        self.right.iter().map(|key| key.eval(&frame).ok()).collect()
    }

    fn join(&self, left: &Found, sides: &Sides<'_>, scratch: &mut [Value], cx: &Cx<'_>) -> Result<Found> {
        match self.kind {
            JoinKind::Right => self.by_right(left, sides, scratch, cx),
            _ => self.by_left(left, sides, scratch, cx),
        }
    }

    fn wants_index(&self, left: usize, right: usize) -> bool {
        !self.left.is_empty() && left.saturating_mul(right) > FEW
    }

    /// For each row of the left side its matches, in the order of the right one.
    fn by_left(&self, left: &Found, sides: &Sides<'_>, scratch: &mut [Value], cx: &Cx<'_>) -> Result<Found> {
        let count = sides.len(self.source) as u32;
        let table = sides.tables[self.source].as_ref();
        let indexed = self.wants_index(left.len(), count as usize);
        let mut index = None;
        if indexed && table.is_none() {
            let mut rows = Index::default();
            (0..count).for_each(|at| rows.add(u64::from(at), self.right_keys(at, sides, cx).as_deref()));
            index = Some(rows);
        }
        let mut found = Found { sources: left.sources, parts: Vec::new() };
        let mut matched = vec![false; if self.kind == JoinKind::Full { count as usize } else { 0 }];
        let mut parts = vec![NONE; left.sources];
        for row in left.rows() {
            let near = if indexed { self.left_keys(scratch, row, sides, cx) } else { None };
            let near: Option<Vec<u32>> = near.and_then(|keys| match (table, &index) {
                (Some(table), _) => table.find(&keys),
                (None, Some(index)) => Some(index.find(&keys)?.map(|at| at as u32).collect()),
                (None, None) => None,
            });
            parts.copy_from_slice(row);
            let mut any = false;
            let mut look = |at: u32| -> Result<()> {
                parts[self.source] = at;
                if self.holds(scratch, &parts, sides, cx)? {
                    any = true;
                    if let Some(matched) = matched.get_mut(at as usize) {
                        *matched = true;
                    }
                    found.push(&parts);
                }
                Ok(())
            };
            match near {
                Some(near) => near.into_iter().try_for_each(&mut look)?,
                None => (0..count).try_for_each(&mut look)?,
            }
            if !any && matches!(self.kind, JoinKind::Left | JoinKind::Full) {
                found.push(row);
            }
        }
        parts.fill(NONE);
        for at in (0u32..).zip(&matched).filter(|(_, matched)| !**matched).map(|(at, _)| at) {
            parts[self.source] = at;
            found.push(&parts);
        }
        Ok(found)
    }

    /// For each row of the right side its matches, in the order of the left one.
    fn by_right(&self, left: &Found, sides: &Sides<'_>, scratch: &mut [Value], cx: &Cx<'_>) -> Result<Found> {
        let count = sides.len(self.source) as u32;
        let mut index = None;
        if self.wants_index(left.len(), count as usize) {
            let mut rows = Index::default();
            for (number, row) in (0..).zip(left.rows()) {
                rows.add(number, self.left_keys(scratch, row, sides, cx).as_deref());
            }
            index = Some(rows);
        }
        let mut found = Found { sources: left.sources, parts: Vec::new() };
        let mut parts = vec![NONE; left.sources];
        for at in 0..count {
            let near = index.as_ref().and_then(|index| {
                let keys = self.right_keys(at, sides, cx)?;
                Some(index.find(&keys)?.map(|number| number as usize).collect::<Vec<usize>>())
            });
            let mut any = false;
            let mut look = |number: usize| -> Result<()> {
                parts.copy_from_slice(left.row(number));
                parts[self.source] = at;
                if self.holds(scratch, &parts, sides, cx)? {
                    any = true;
                    found.push(&parts);
                }
                Ok(())
            };
            match near {
                Some(near) => near.into_iter().try_for_each(&mut look)?,
                None => (0..left.len()).try_for_each(&mut look)?,
            }
            if !any {
                parts.fill(NONE);
                parts[self.source] = at;
                found.push(&parts);
            }
        }
        Ok(found)
    }
}

impl Join {
    /// `tables` are scan tables, and how many rows each keeps.
    pub fn new(
        steps: Vec<JoinStep>,
        tables: &[(usize, usize)],
        precedence: Vec<usize>,
        source_slot: usize,
        bounds: Bounds,
        width: usize,
    ) -> Self {
        let retain = |source: usize| tables.iter().find(|(table, _)| *table == source).map(|(_, retain)| *retain);
        let tables = (0..precedence.len()).map(|source| retain(source).map(Table::new)).collect();
        Join { steps, tables, precedence, source_slot, bounds, width }
    }

    fn source(&self, batch: &Batch, row: u32) -> usize {
        match batch.row(row as usize)[self.source_slot] {
            Value::Int(source) => usize::try_from(source).unwrap_or_default(),
            _ => 0,
        }
    }

    /// Joins some rows of a batch, and settles what they promised.
    fn emit(&mut self, batch: &mut Batch, rows: &[u32], cx: &Cx<'_>, out: &mut Out) {
        for (source, table) in self.tables.iter_mut().enumerate() {
            if let Some(table) = table {
                table.ready(right_of(&self.steps, source), cx);
            }
        }
        let mut streams = vec![Vec::new(); self.precedence.len()];
        for row in rows {
            let source = self.source(batch, *row);
            streams[source].push(*row);
        }
        // Without a window the row has its own time still.
        let own = rows.first().map_or(cx.now, |row| batch.time(*row as usize));
        let time = batch.trigger.unwrap_or(own);
        let sides = Sides { batch, tables: &self.tables, streams, precedence: &self.precedence, time };
        let mut scratch = vec![Value::Absent; self.width];
        let found = self.find(&sides, &mut scratch, cx);
        let made = found.map(|found| {
            let mut result = emission(self.width, found.len());
            for parts in found.rows() {
                let at = result.rows();
                let slots = result.push(time, Receipt::none());
                sides.parts(parts).for_each(|(row, _)| merge(slots, row));
                self.write_bounds(batch, rows, slots);
                if let Some(meta) = sides.meta(parts) {
                    result.set_meta(at, &meta);
                }
            }
            (found, result)
        });
        let streams = sides.streams;
        match made {
            Ok((found, mut result)) => {
                result.trigger = batch.trigger.or(Some(time));
                for (at, parts) in found.rows().enumerate() {
                    let receipt = self.receipt(batch, &streams, parts);
                    result.stamp(at, time, None, receipt);
                }
                for row in rows {
                    batch.take_receipt(*row as usize).settle(Fate::Filtered);
                }
                if !result.is_empty() {
                    out.send(result);
                }
            }
            Err(fault) => {
                let mut failed = emission(self.width, rows.len());
                for row in rows {
                    failed.push(time, batch.take_receipt(*row as usize));
                }
                fail_all(&mut failed, fault.context("run Join error: "));
                out.send(failed);
            }
        }
    }

    fn find(&self, sides: &Sides<'_>, scratch: &mut [Value], cx: &Cx<'_>) -> Result<Found> {
        let sources = self.precedence.len();
        let mut found = Found { sources, parts: Vec::new() };
        let mut parts = vec![NONE; sources];
        for at in 0..sides.len(0) as u32 {
            parts[0] = at;
            found.push(&parts);
        }
        for step in &self.steps {
            found = step.join(&found, sides, scratch, cx)?;
        }
        Ok(found)
    }

    /// Rows of tables alone have the bounds of the window too. Its rows have them, and a window without rows has one that
    /// is not selected.
    fn write_bounds(&self, batch: &Batch, rows: &[u32], slots: &mut [Value]) {
        let row = rows.first().copied().unwrap_or(0) as usize;
        if row >= batch.rows() {
            return;
        }
        let bounds = [self.bounds.start, self.bounds.end, self.bounds.trigger].into_iter().flatten();
        for slot in bounds.filter(|slot| matches!(slots[*slot], Value::Absent)).collect::<Vec<_>>() {
            slots[slot] = batch.row(row)[slot].clone();
        }
    }

    fn receipt(&mut self, batch: &Batch, streams: &[Vec<u32>], parts: &[u32]) -> Receipt {
        let mut all = Vec::with_capacity(parts.len());
        for (source, at) in parts.iter().enumerate().filter(|(_, at)| **at != NONE) {
            all.push(match &mut self.tables[source] {
                Some(table) => table.row_mut(*at as usize).map_or_else(Receipt::none, |kept| kept.held.part()),
                None => batch.receipt(streams[source][*at as usize] as usize).clone(),
            });
        }
        Receipt::together(all)
    }
}

/// What is compared of a source.
fn right_of(steps: &[JoinStep], source: usize) -> &[Program] {
    let step = steps.iter().find(|step| step.source == source && step.kind != JoinKind::Right);
    step.map_or(&[], |step| &step.right)
}

impl Operator for Join {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let rows = batch.selected().to_vec();
        if batch.emissions != Emissions::Single {
            let failed = !batch.faults().is_empty();
            forward_faults(&mut batch, out);
            if !failed || !rows.is_empty() {
                self.emit(&mut batch, &rows, cx, out);
            }
            return Ok(());
        }
        let mut faults = batch.take_faults().into_iter().peekable();
        for row in &rows {
            let mut before = std::iter::from_fn(|| faults.next_if(|(at, _)| at <= row));
            tell_faults(&mut before, self.width, out);
            let source = self.source(&batch, *row);
            match &mut self.tables[source] {
                Some(table) => table.keep(&mut batch, *row as usize, right_of(&self.steps, source), cx),
                None => self.emit(&mut batch, &[*row], cx, out),
            }
        }
        tell_faults(&mut faults, self.width, out);
        Ok(())
    }

    /// What is kept can have a part in no more results.
    fn finish(&mut self, _: &Cx<'_>, _: &mut Out) -> Result<()> {
        self.tables.iter_mut().flatten().for_each(Table::finish);
        Ok(())
    }

    fn discard(&mut self) {
        self.tables.iter_mut().flatten().for_each(Table::discard);
    }

    fn forget(&mut self) {
        self.tables.iter_mut().flatten().for_each(Table::forget);
    }

    fn held(&self) -> u64 {
        self.tables.iter().flatten().map(Table::held).sum()
    }

    fn save(&self) -> Saved {
        let tables = self.tables.iter().map(|table| table.as_ref().map_or(Value::Null, Table::save)).collect();
        let ons = self.steps.iter().map(|step| step.on.as_ref().map_or(Value::Null, Predicate::save)).collect();
        Value::array(vec![Value::array(tables), Value::array(ons)])
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a join cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        let [Value::Array(tables), Value::Array(ons)] = saved.as_slice() else { return Err(broken()) };
        for (table, saved) in self.tables.iter_mut().zip(tables.iter()) {
            if let Some(table) = table
                && !table.load(saved, account)
            {
                return Err(broken());
            }
        }
        for (step, saved) in self.steps.iter_mut().zip(ons.iter()) {
            if let Some(on) = &mut step.on {
                on.load(saved.clone())?;
            }
        }
        Ok(())
    }
}

/// Sends faults on by themselves, at their place between emissions.
pub(super) fn tell_faults(faults: &mut dyn Iterator<Item = (u32, Fault)>, width: usize, out: &mut Out) {
    let mut errors = Batch::new(width);
    faults.for_each(|(row, fault)| errors.note(row as usize, fault));
    if !errors.is_empty() {
        out.send(errors);
    }
}
