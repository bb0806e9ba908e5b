use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Predicate, Program};
use crate::func::hit::Hits;

use super::compute::{load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// What the calls that count hits in one condition remember.
pub struct Counters(Vec<Counter>);

struct Counter {
    func: &'static str,
    slot: usize,
    hits: Hits,
}

impl Counters {
    /// One a call: the function, and the slot that its value is put into.
    pub fn new(calls: impl IntoIterator<Item = (&'static str, usize)>) -> Self {
        Counters(calls.into_iter().map(|(func, slot)| Counter { func, slot, hits: Hits::default() }).collect())
    }

    /// Shows a row what was counted before it.
    pub fn fill(&self, row: &mut [Value]) {
        self.0.iter().for_each(|counter| row[counter.slot] = counter.hits.read(counter.func));
    }

    /// The condition was met.
    pub fn hit(&mut self, at: Time) {
        self.0.iter_mut().for_each(|counter| counter.hits.hit(at));
    }

    pub fn save(&self) -> Saved {
        Value::array(self.0.iter().map(|counter| counter.hits.save()).collect())
    }

    pub fn load(&mut self, saved: &Saved) -> Result<()> {
        let Value::Array(saved) = saved else { return Err(Fault::bug("saved counters are no list")) };
        for (counter, saved) in self.0.iter_mut().zip(saved.iter()) {
            counter.hits = Hits::load(saved)?;
        }
        Ok(())
    }
}

/// A condition that asks how often it was met. Each row sees what was counted before it; of an emission that stays
/// together, all rows see the same, and it counts once when any row is left.
pub struct Counted {
    counters: Counters,
    /// Aliases that the condition reads, and their slots.
    aliases: Vec<(usize, Program)>,
    predicate: Predicate,
    stage: &'static str,
    /// The slot of the time of an emission that stays together.
    trigger: Option<usize>,
}

impl Counted {
    pub fn new(
        counters: Counters,
        aliases: Vec<(usize, Program)>,
        predicate: Predicate,
        stage: &'static str,
        trigger: Option<usize>,
    ) -> Self {
        Counted { counters, aliases, predicate, stage, trigger }
    }

    fn holds(&self, batch: &mut Batch, row: usize, cx: &Cx<'_>) -> Result<bool> {
        self.counters.fill(batch.row_mut(row));
        for (slot, program) in &self.aliases {
            let value = program.eval(&cx.frame(batch, row))?;
            batch.row_mut(row)[*slot] = value;
        }
        self.predicate.holds(&cx.frame(batch, row))
    }
}

impl Operator for Counted {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let single = batch.emissions == Emissions::Single;
        let mut verdicts = Vec::with_capacity(batch.selected().len());
        let mut met = None;
        for row in batch.selected().to_vec() {
            let row = row as usize;
            let verdict = self.holds(&mut batch, row, cx).map_err(|fault| fault.context(self.stage));
            if let Ok(true) = verdict {
                let at = match self.trigger.map(|slot| &batch.row(row)[slot]) {
                    Some(Value::Int(at)) => Time(*at),
                    _ => batch.time(row),
                };
                if single {
                    self.counters.hit(at);
                }
                met.get_or_insert(at);
            }
            verdicts.push(verdict);
        }
        if let Some(at) = met.filter(|_| !single) {
            self.counters.hit(at);
        }
        let mut verdicts = verdicts.into_iter();
        batch.keep(|_, _| verdicts.next().unwrap_or(Ok(false)));
        if !batch.is_empty() {
            out.send(batch);
        }
        Ok(())
    }

    fn save(&self) -> Saved {
        let aliases = save_all(self.aliases.iter().map(|(_, program)| program));
        Value::array(vec![self.counters.save(), aliases, self.predicate.save()])
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a condition cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        let [counters, aliases, predicate] = saved.as_slice() else { return Err(broken()) };
        self.counters.load(counters)?;
        load_all(self.aliases.iter_mut().map(|(_, program)| program), aliases.clone())?;
        self.predicate.load(predicate.clone())
    }
}
