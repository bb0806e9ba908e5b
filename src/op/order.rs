use std::cmp::Ordering;
use std::sync::Arc;

use crate::data::{Account, Batch, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Program, compare};

use super::compute::{load_all, save_all};
use super::{Cx, Operator, Out, Saved};

/// One key of ORDER BY.
pub struct OrderKey {
    pub program: Program,
    pub descending: bool,
}

/// Sorts the rows of an emission; rows that are equal in all keys keep their order. Nulls come last either way.
pub struct Order {
    keys: Vec<OrderKey>,
}

impl Order {
    pub fn new(keys: Vec<OrderKey>) -> Self {
        Order { keys }
    }

    /// The selected rows in order.
    pub(super) fn sorted(&self, batch: &Batch, cx: &Cx<'_>) -> Result<Vec<u32>> {
        let mut rows = Vec::with_capacity(batch.selected().len());
        let mut kinds = vec![None; self.keys.len()];
        for row in batch.selected() {
            let frame = cx.frame(batch, *row as usize);
            let keys = self.keys.iter().map(|key| key.program.eval(&frame)).collect::<Result<Vec<Value>>>()?;
            keys.iter().zip(&mut kinds).try_for_each(|(key, kind)| comparable(key, kind))?;
            rows.push((keys, *row));
        }
        rows.sort_by(|(a, _), (b, _)| {
            for ((a, b), key) in a.iter().zip(b).zip(&self.keys) {
                let found = match order(a, b) {
                    Ok(order) if key.descending => order.reverse(),
                    Ok(order) | Err(order) => order,
                };
                if found != Ordering::Equal {
                    return found;
                }
            }
            Ordering::Equal
        });
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// The first value of a key that is not null fixes what the others must be.
fn comparable(key: &Value, kind: &mut Option<&'static str>) -> Result<()> {
    let found = match key {
        Value::Absent | Value::Null => return Ok(()),
        Value::Int(_) | Value::Float(_) => "number",
        Value::Bool(_) | Value::Text(_) | Value::Time(_) => key.type_name(),
        Value::Bytes(_) | Value::Array(_) | Value::Object(_) => {
            return Err(Fault::eval(format!("rows cannot be ordered by a value of type {}", key.type_name())));
        }
    };
    match kind.get_or_insert(found) {
        first if *first == found => Ok(()),
        first => Err(Fault::eval(format!("rows cannot be ordered by a {found} where another row has a {first}"))),
    }
}

/// The order of two values of one kind. `Err` is one that holds whatever the direction: nulls, and numbers that are
/// none, come last.
fn order(a: &Value, b: &Value) -> Result<Ordering, Ordering> {
    let last = |value: &Value| value.is_null() || matches!(value, Value::Float(x) if x.is_nan());
    match (last(a), last(b)) {
        (false, false) => {}
        (a, b) => return Err(a.cmp(&b)),
    }
    Ok(match (a, b) {
        // Beyond 53 bits an integer is compared with a float digit by digit, or the order would not be one.
        (Value::Int(x), Value::Float(y)) => whole(*x, *y),
        (Value::Float(x), Value::Int(y)) => whole(*y, *x).reverse(),
        _ => compare(a, b).flatten().unwrap_or(Ordering::Equal),
    })
}

fn whole(x: i64, y: f64) -> Ordering {
    if y >= 9_223_372_036_854_775_808.0 {
        Ordering::Less
    } else if y < -9_223_372_036_854_775_808.0 {
        Ordering::Greater
    } else {
        x.cmp(&(y.trunc() as i64)).then(0.0.partial_cmp(&y.fract()).unwrap_or(Ordering::Equal))
    }
}

impl Operator for Order {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        match self.sorted(&batch, cx) {
            Ok(rows) => batch.select(rows),
            // The emission cannot be put in order, so all of it fails as one.
            Err(fault) => super::window::fail_all(&mut batch, fault.context("run Order By error: ")),
        }
        out.send(batch);
        Ok(())
    }

    fn save(&self) -> Saved {
        save_all(self.keys.iter().map(|key| &key.program))
    }

    fn load(&mut self, saved: Saved, _: &Arc<dyn Account>) -> Result<()> {
        load_all(self.keys.iter_mut().map(|key| &mut key.program), saved)
    }
}
