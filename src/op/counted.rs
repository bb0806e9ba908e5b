use std::sync::Arc;

use crate::data::{Account, Batch, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Predicate;
use crate::func::hit::Hits;

use super::compute::{Computed, fail_rows, load_all, save_all};
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
        if saved.len() != self.0.len() {
            return Err(Fault::bug("saved counters are of another condition"));
        }
        for (counter, saved) in self.0.iter_mut().zip(saved.iter()) {
            counter.hits = Hits::load(saved)?;
        }
        Ok(())
    }
}

/// A condition on rows that asks how often it was met. Each row sees what was counted before it.
pub struct Counted {
    counters: Counters,
    /// Aliases that the condition reads.
    aliases: Vec<Computed>,
    predicate: Predicate,
    stage: &'static str,
}

impl Counted {
    pub fn new(counters: Counters, aliases: Vec<Computed>, predicate: Predicate, stage: &'static str) -> Self {
        Counted { counters, aliases, predicate, stage }
    }

    fn holds(&self, batch: &mut Batch, row: usize, cx: &Cx<'_>) -> Result<bool> {
        self.counters.fill(batch.row_mut(row));
        self.aliases.iter().try_for_each(|alias| alias.fill(batch, row, cx))?;
        self.predicate.holds(&cx.frame(batch, row))
    }
}

impl Operator for Counted {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut verdicts = Vec::with_capacity(batch.selected().len());
        for row in batch.selected().to_vec() {
            let verdict = self.holds(&mut batch, row as usize, cx).map_err(|fault| fault.context(self.stage));
            if let Ok(true) = verdict {
                self.counters.hit(batch.time(row as usize));
            }
            verdicts.push(verdict);
        }
        let mut verdicts = verdicts.into_iter();
        batch.keep(|_, _| verdicts.next().unwrap_or(Ok(false)));
        if !batch.is_empty() {
            out.send(batch);
        }
        Ok(())
    }

    fn save(&self) -> Saved {
        save(&self.counters, &self.aliases, self.predicate.save())
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        self.predicate.load(load(saved, &mut self.counters, &mut self.aliases)?)
    }
}

/// HAVING, or a WHERE on whole windows, that asks how often it was met: all rows or groups of an emission see the same,
/// and it counts once when any of them is left.
pub struct CountedSets<C> {
    counters: Counters,
    aliases: Vec<Computed>,
    condition: C,
    stage: &'static str,
    /// The slot of the time of the emission.
    trigger: Option<usize>,
}

impl<C: Operator> CountedSets<C> {
    pub fn new(
        counters: Counters,
        aliases: Vec<Computed>,
        condition: C,
        stage: &'static str,
        trigger: Option<usize>,
    ) -> Self {
        CountedSets { counters, aliases, condition, stage, trigger }
    }
}

impl<C: Operator> Operator for CountedSets<C> {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut failed = Vec::new();
        for row in batch.selected().to_vec() {
            self.counters.fill(batch.row_mut(row as usize));
            let filled = self.aliases.iter().try_for_each(|alias| alias.fill(&mut batch, row as usize, cx));
            failed.extend(filled.err().map(|fault| (row, fault.context(self.stage))));
        }
        fail_rows(&mut batch, failed);
        let mut kept = Out::default();
        self.condition.push(batch, cx, &mut kept)?;
        for batch in kept.take() {
            if let Some(row) = batch.selected().first() {
                let at = match self.trigger.map(|slot| &batch.row(*row as usize)[slot]) {
                    Some(Value::Int(at)) => Time(*at),
                    _ => batch.time(*row as usize),
                };
                self.counters.hit(at);
            }
            out.send(batch);
        }
        Ok(())
    }

    fn save(&self) -> Saved {
        save(&self.counters, &self.aliases, self.condition.save())
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let condition = load(saved, &mut self.counters, &mut self.aliases)?;
        self.condition.load(condition, account)
    }
}

fn save(counters: &Counters, aliases: &[Computed], predicate: Saved) -> Saved {
    Value::array(vec![counters.save(), save_all(aliases.iter().map(|alias| &alias.program)), predicate])
}

/// Loads counters and aliases, and gives what the condition saved.
fn load(saved: Saved, counters: &mut Counters, aliases: &mut [Computed]) -> Result<Saved> {
    let broken = || Fault::bug("the saved state of a condition cannot be read");
    let Value::Array(saved) = saved else { return Err(broken()) };
    let [counted, programs, predicate] = saved.as_slice() else { return Err(broken()) };
    counters.load(counted)?;
    load_all(aliases.iter_mut().map(|alias| &mut alias.program), programs.clone())?;
    Ok(predicate.clone())
}
