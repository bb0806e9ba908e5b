use std::collections::BTreeMap;
use std::sync::Arc;

use crate::data::{Account, Batch, Fate, Object, Text, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Bounds, Predicate, Program};

use super::super::aggregate::key_of;
use super::super::compute::{load_all, save_all};
use super::super::{Cx, Operator, Out, Saved};
use super::events::{Event, Events, tell};
use super::kept::{Kept, load_rows, save_rows};
use super::{Span, emission, send};

/// STATEWINDOW, for each partition by itself. With one condition a row that meets it opens a window and closes the one
/// before, which it is no part of. With two the first opens a window, and the second, asked from the next row on,
/// closes it with the row that meets it. A condition that is null or fails is not met.
pub struct State {
    begin: Predicate,
    end: Option<Predicate>,
    partition: Vec<Program>,
    open: BTreeMap<Text, Open>,
    /// Rows have the time at which they happened.
    event: bool,
    bounds: Bounds,
    width: usize,
}

struct Open {
    start: Time,
    rows: Vec<Kept>,
}

impl State {
    pub fn new(
        begin: Predicate,
        end: Option<Predicate>,
        partition: Vec<Program>,
        event: bool,
        bounds: Bounds,
        width: usize,
    ) -> Self {
        State { begin, end, partition, open: BTreeMap::new(), event, bounds, width }
    }

    fn emit(&self, open: Open, end: Time, out: &mut Out) {
        let mut batch = emission(self.width, open.rows.len());
        open.rows.into_iter().for_each(|kept| kept.move_to(&mut batch));
        send(batch, &self.bounds, Span { start: open.start, end }, out);
    }

    fn take(&mut self, key: Text, batch: &mut Batch, row: usize, cx: &Cx<'_>, out: &mut Out) {
        let time = batch.time(row);
        let frame = cx.frame(batch, row);
        let opened = self.open.get_mut(&key);
        let met = match (&opened, &self.end) {
            (Some(_), Some(end)) => end.holds(&frame).unwrap_or_default(),
            _ => self.begin.holds(&frame).unwrap_or_default(),
        };
        let kept = Kept::take(batch, row);
        match opened {
            None if met => drop(self.open.insert(key, Open { start: time, rows: vec![kept] })),
            None => kept.held.settle(Fate::Filtered),
            Some(open) if !met => open.rows.push(kept),
            Some(open) if self.end.is_none() => {
                let before = std::mem::replace(open, Open { start: time, rows: vec![kept] });
                self.emit(before, time, out);
            }
            Some(open) => {
                open.rows.push(kept);
                if let Some(open) = self.open.remove(&key) {
                    self.emit(open, time, out);
                }
            }
        }
    }
}

impl Operator for State {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        for event in Events::of(&mut batch) {
            match event {
                Event::Fault(fault) => tell(fault, self.width, out),
                Event::Row(row) => match key_of(&self.partition, &cx.frame(&batch, row)) {
                    Ok(key) => self.take(key, &mut batch, row, cx, out),
                    Err(fault) => {
                        let fault = fault.context("run Window error: ");
                        batch.bury(row, &fault);
                        tell(fault, self.width, out);
                    }
                },
                Event::Mark(_) => {}
            }
        }
        Ok(())
    }

    /// What is open is given out, in the order in which it was opened.
    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut open: Vec<Open> = std::mem::take(&mut self.open).into_values().collect();
        open.sort_by_key(|open| open.start);
        for one in open {
            let last = one.rows.last().map(|last| last.time).filter(|_| self.event);
            self.emit(one, last.unwrap_or(cx.now), out);
        }
        Ok(())
    }

    fn discard(&mut self) {
        let rows = std::mem::take(&mut self.open).into_values().flat_map(|open| open.rows);
        rows.for_each(|kept| kept.held.discard(Fate::DroppedStop));
    }

    fn forget(&mut self) {
        std::mem::take(&mut self.open).into_values().flat_map(|open| open.rows).for_each(|kept| kept.held.forget());
    }

    fn held(&self) -> u64 {
        self.open.values().flat_map(|open| &open.rows).map(|kept| kept.held.rows()).sum()
    }

    fn save(&self) -> Saved {
        let open = self.open.iter().map(|(key, open)| {
            Value::array(vec![Value::Text(key.clone()), Value::Int(open.start.0), save_rows(open.rows.iter())])
        });
        Value::object(Object::from_iter([
            ("open", Value::array(open.collect())),
            ("begin", self.begin.save()),
            ("end", self.end.as_ref().map_or(Value::Null, Predicate::save)),
            ("partition", save_all(self.partition.iter())),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a state window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let part = |name: &str| saved.get(name).cloned().ok_or_else(broken);
        self.begin.load(part("begin")?)?;
        self.end.as_mut().map_or(Ok(()), |end| end.load(part("end")?))?;
        load_all(self.partition.iter_mut(), part("partition")?)?;
        let Value::Array(saved) = part("open")? else { return Err(broken()) };
        for open in saved.iter() {
            let Value::Array(open) = open else { return Err(broken()) };
            let [Value::Text(key), Value::Int(start), rows] = open.as_slice() else { return Err(broken()) };
            let rows = load_rows(rows, account).ok_or_else(broken)?;
            self.open.insert(key.clone(), Open { start: Time(*start), rows });
        }
        Ok(())
    }
}
