use std::collections::HashMap;
use std::sync::Arc;

use crate::data::{Account, Batch, Emissions, Value, key};
use crate::diag::{Fault, Result};
use crate::expr::Program;

use super::compute::{load_all, save_all};
use super::order::{Order, OrderKey};
use super::{Cx, Operator, Out, Saved};

/// One call of `row_number`.
pub struct NumberCall {
    slot: usize,
    partition: Vec<Program>,
    order: Order,
}

impl NumberCall {
    pub fn new(slot: usize, partition: Vec<Program>, order: Vec<OrderKey>) -> Self {
        NumberCall { slot, partition, order: Order::new(order) }
    }

    fn fill(&self, batch: &mut Batch, cx: &Cx<'_>) -> Result<()> {
        let mut counts: HashMap<Vec<u8>, i64> = HashMap::new();
        for row in self.order.sorted(batch, cx)? {
            let row = row as usize;
            let mut partition = Vec::new();
            for part in &self.partition {
                key::add(&mut partition, &part.eval(&cx.frame(batch, row))?);
            }
            let count = counts.entry(partition).or_default();
            *count += 1;
            batch.row_mut(row)[self.slot] = Value::Int(*count);
        }
        Ok(())
    }
}

/// Numbers the rows, or groups, of an emission from 1; a row that is an emission of its own has number 1.
pub struct Number {
    calls: Vec<NumberCall>,
}

impl Number {
    pub fn new(calls: Vec<NumberCall>) -> Self {
        Number { calls }
    }
}

impl Operator for Number {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if batch.emissions == Emissions::Single {
            for row in batch.selected().to_vec() {
                let row = batch.row_mut(row as usize);
                self.calls.iter().for_each(|call| row[call.slot] = Value::Int(1));
            }
        } else if let Err(fault) = self.calls.iter().try_for_each(|call| call.fill(&mut batch, cx)) {
            super::window::fail_all(&mut batch, fault.context("run Select error: "));
        }
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        Value::array(
            self.calls
                .iter()
                .map(|call| Value::array(vec![save_all(call.partition.iter()), call.order.save()]))
                .collect(),
        )
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of row numbers cannot be read");
        let Value::Array(saved) = saved else { return Err(broken()) };
        if saved.len() != self.calls.len() {
            return Err(broken());
        }
        for (call, saved) in self.calls.iter_mut().zip(saved.iter()) {
            let Value::Array(saved) = saved else { return Err(broken()) };
            let [partition, order] = saved.as_slice() else { return Err(broken()) };
            load_all(call.partition.iter_mut(), partition.clone())?;
            call.order.load(order.clone(), account)?;
        }
        Ok(())
    }
}
