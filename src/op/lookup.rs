use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Fate, Meta, Receipt, Value, key};
use crate::diag::{Fault, Result};
use crate::expr::{Predicate, Program};

use super::compute::{load_all, save_all};
use super::join::{merge, merged_meta, tell_faults};
use super::window::{emission, fail_all};
use super::{Cx, Operator, Out, Saved};

/// Joins each row with the rows that a table gives for it when it is asked. Without a window each row is an emission.
///
/// What is pushed waits until the answer is there; one question is asked for all rows of a batch.
pub struct Lookup {
    /// Rows without an answer go on by themselves.
    outer: bool,
    /// What the columns of the table must be equal to.
    keys: Vec<Program>,
    /// What an answer must fulfil besides.
    on: Option<Predicate>,
    width: usize,
    waiting: VecDeque<Waiting>,
    /// The answer that comes next: where the answers to each question end.
    ends: Option<Vec<u32>>,
}

/// Rows that wait for an answer.
struct Waiting {
    batch: Batch,
    /// For each selected row the question that stands for it, or why there is none.
    questions: Vec<Result<Option<usize>>>,
    /// What is asked; taken out when it is.
    ask: Option<Vec<Vec<Value>>>,
}

impl Lookup {
    pub fn new(outer: bool, keys: Vec<Program>, on: Option<Predicate>, width: usize) -> Self {
        Lookup { outer, keys, on, width, waiting: VecDeque::new(), ends: None }
    }

    /// The values that a row asks for; none where one of them is null, which is equal to nothing.
    fn question(&self, batch: &Batch, row: usize, cx: &Cx<'_>) -> Result<Option<Vec<Value>>> {
        let frame = cx.frame(batch, row);
        let values = self.keys.iter().map(|key| key.eval(&frame)).collect::<Result<Vec<Value>>>()?;
        Ok(if values.iter().any(Value::is_null) { None } else { Some(values) })
    }

    fn wait(&mut self, batch: Batch, cx: &Cx<'_>) {
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut asked: Vec<Vec<Value>> = Vec::new();
        let mut questions = Vec::with_capacity(batch.selected().len());
        for row in batch.selected() {
            questions.push(self.question(&batch, *row as usize, cx).map(|values| {
                let values = values?;
                let mut same = Vec::new();
                values.iter().for_each(|value| key::add(&mut same, value));
                Some(*known.entry(same).or_insert_with(|| {
                    asked.push(values);
                    asked.len() - 1
                }))
            }));
        }
        self.waiting.push_back(Waiting { batch, questions, ask: Some(asked) });
    }

    /// Sends on the batches at the front that wait for nothing.
    fn send_on(&mut self, cx: &Cx<'_>, out: &mut Out) {
        while self.waiting.front().is_some_and(|front| front.ask.as_ref().is_some_and(Vec::is_empty)) {
            if let Some(front) = self.waiting.pop_front() {
                self.join(front, Ok((&Batch::new(self.width), &[])), cx, out);
            }
        }
    }

    fn join(&self, waiting: Waiting, answers: Result<(&Batch, &[u32])>, cx: &Cx<'_>, out: &mut Out) {
        let Waiting { mut batch, questions, .. } = waiting;
        let rows = batch.selected().to_vec();
        let mut faults = batch.take_faults().into_iter().peekable();
        let single = batch.emissions == Emissions::Single;
        let mut made = emission(self.width, rows.len());
        made.trigger = batch.trigger;
        if !single {
            tell_faults(&mut faults, self.width, out);
        }
        for (row, question) in rows.into_iter().zip(questions) {
            if single {
                tell_faults(&mut std::iter::from_fn(|| faults.next_if(|(at, _)| *at <= row)), self.width, out);
                made.trigger = Some(batch.time(row as usize));
            }
            let row = row as usize;
            let joined = question.and_then(|question| {
                let (answers, ends) = answers.clone()?;
                self.add(&mut made, &batch, row, answers, range(question, ends), cx)
            });
            match joined {
                Ok(()) => batch.take_receipt(row).settle(Fate::Filtered),
                Err(fault) => {
                    // A window fails as a whole; without one the row does.
                    made.push(batch.time(row), batch.take_receipt(row));
                    fail_all(&mut made, fault.context("run Join error: "));
                    if !single {
                        batch.selected().to_vec().into_iter().for_each(|row| {
                            made.push(batch.time(row as usize), batch.take_receipt(row as usize));
                        });
                        let fault = made.take_faults().pop().map(|(_, fault)| fault);
                        fault.into_iter().for_each(|fault| fail_all(&mut made, fault));
                        break;
                    }
                }
            }
            if single {
                let next = emission(self.width, 1);
                send(std::mem::replace(&mut made, next), out);
            }
        }
        if single {
            tell_faults(&mut faults, self.width, out);
        } else {
            send(made, out);
        }
    }

    /// Adds what a row comes to: it with each of its answers, or by itself.
    fn add(
        &self,
        made: &mut Batch,
        batch: &Batch,
        row: usize,
        answers: &Batch,
        range: std::ops::Range<u32>,
        cx: &Cx<'_>,
    ) -> Result<()> {
        let time = made.trigger.unwrap_or(batch.time(row));
        let mut any = false;
        // An answer that its table's declaration refuses is not selected.
        for answer in answers.selected().iter().filter(|answer| range.contains(answer)) {
            let answer = *answer as usize;
            let mut values = batch.row(row).to_vec();
            merge(&mut values, answers.row(answer));
            let metas: Vec<&Meta> = [batch.meta(row), answers.meta(answer)].into_iter().flatten().collect();
            let meta = merged_meta(&metas);
            if let Some(on) = &self.on
                && !on.decides(&cx.over(&values, meta.as_ref(), time))?
            {
                continue;
            }
            any = true;
            self.put(made, batch, row, &values, meta);
        }
        if !any && self.outer {
            self.put(made, batch, row, batch.row(row), batch.meta(row).cloned());
        }
        Ok(())
    }

    fn put(&self, made: &mut Batch, batch: &Batch, row: usize, values: &[Value], meta: Option<Meta>) {
        let at = made.rows();
        let time = made.trigger.unwrap_or(batch.time(row));
        made.push(time, Receipt::clone(batch.receipt(row))).clone_from_slice(values);
        if let Some(meta) = meta {
            made.set_meta(at, &meta);
        }
    }
}

/// The answers to a question, by the places where the answers to each end.
fn range(question: Option<usize>, ends: &[u32]) -> std::ops::Range<u32> {
    let Some(question) = question else { return 0..0 };
    let start = if question == 0 { 0 } else { ends.get(question - 1).copied().unwrap_or_default() };
    start..ends.get(question).copied().unwrap_or_default()
}

/// An emission of which nothing is left does not go on.
fn send(made: Batch, out: &mut Out) {
    if !made.is_empty() {
        out.send(made);
    }
}

impl Operator for Lookup {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        match self.ends.take() {
            None => self.wait(batch, cx),
            Some(ends) => {
                tell_faults(&mut batch.take_faults().into_iter(), self.width, out);
                let Some(front) = self.waiting.pop_front() else {
                    return Err(Fault::bug("an answer came that no row waits for"));
                };
                self.join(front, Ok((&batch, &ends)), cx, out);
            }
        }
        self.send_on(cx, out);
        Ok(())
    }

    fn asks(&mut self) -> Option<Vec<Vec<Value>>> {
        self.waiting.front_mut()?.ask.take()
    }

    fn answered(&mut self, ends: Result<Vec<u32>>, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        match ends {
            Ok(ends) => self.ends = Some(ends),
            Err(fault) => {
                if let Some(front) = self.waiting.pop_front() {
                    self.join(front, Err(fault), cx, out);
                }
                self.send_on(cx, out);
            }
        }
        Ok(())
    }

    /// What waits for an answer is given back to its source.
    fn discard(&mut self) {
        for mut waiting in self.waiting.drain(..) {
            for row in 0..waiting.batch.rows() {
                waiting.batch.take_receipt(row).settle(Fate::Abandoned);
            }
        }
    }

    fn forget(&mut self) {
        self.discard();
    }

    /// Between two inputs nothing waits.
    fn save(&self) -> Saved {
        let on = self.on.as_ref().map_or_else(|| Value::array(Vec::new()), Predicate::save);
        Value::array(vec![save_all(self.keys.iter()), on])
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of a lookup cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        let [keys, on] = saved.as_slice() else { return Err(broken()) };
        load_all(self.keys.iter_mut(), keys.clone())?;
        self.on.as_mut().map_or(Ok(()), |predicate| predicate.load(on.clone()))
    }
}
