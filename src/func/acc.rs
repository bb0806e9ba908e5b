//! The running aggregates `acc_sum`, `acc_count`, `acc_avg`, `acc_max`, `acc_min`.

use std::cmp::Ordering;

use crate::data::Value;
use crate::diag::Result;

use super::Ctx;
use super::aggregate::{Extreme, Sum, foreign, load_int, parts};
use super::analytic::Analytic;
use super::args::{arg, boolean, float_of_int, wrong};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Sum,
    Count,
    Mean,
    Max,
    Min,
}

/// With one argument it runs from the first row on; with three it runs from a row whose second is true to the end of
/// one whose third is, whether or not those rows count themselves.
pub struct Acc {
    what: What,
    count: i64,
    sum: Sum,
    best: Value,
    running: bool,
}

impl Acc {
    pub fn new(what: What) -> Self {
        Acc { what, count: 0, sum: Sum::default(), best: Value::Null, running: false }
    }

    fn put(&mut self, args: &[Value]) -> Result<()> {
        let value = arg(args, 0);
        if value.is_null() {
            return Ok(());
        }
        if self.what == What::Count {
            self.count += 1;
            return Ok(());
        }
        if !matches!(value, Value::Int(_) | Value::Float(_)) {
            return Err(wrong(args, 0, "a number"));
        }
        match (self.what, value) {
            (What::Max | What::Min, _) => {
                let wanted = if self.what == What::Max { Ordering::Greater } else { Ordering::Less };
                let mut extreme = Extreme { best: std::mem::take(&mut self.best), wanted };
                let put = extreme.put(value);
                self.best = extreme.best;
                put.map_err(|wanted| wrong(args, 0, wanted))?;
            }
            (_, Value::Int(n)) => self.sum.put_int(*n),
            (_, Value::Float(x)) => self.sum.put_float(*x),
            _ => {}
        }
        Ok(())
    }

    /// A float, except for a count and for an integer that no float can hold; 0 before any value.
    fn get(&self) -> Value {
        let result = match self.what {
            What::Count => return Value::Int(self.count),
            What::Sum => self.sum.total(),
            What::Mean => self.sum.mean(),
            What::Max | What::Min => self.best.or_null(),
        };
        match result {
            Value::Int(n) => float_of_int(n),
            Value::Null if self.sum.is_empty() => Value::Float(0.0),
            other => other,
        }
    }

    fn reset(&mut self) {
        *self = Acc::new(self.what);
    }
}

impl Analytic for Acc {
    fn step(&mut self, args: &[Value], when: bool, _: &Ctx<'_>) -> Result<Value> {
        if args.len() < 2 {
            if when {
                self.put(args)?;
            }
            return Ok(self.get());
        }
        let (begin, end) = (boolean(args, 1)?, boolean(args, 2)?);
        if !self.running {
            self.reset();
            self.running = begin;
        }
        if self.running && when {
            self.put(args)?;
        }
        self.running &= !end;
        Ok(self.get())
    }

    fn save(&self) -> Value {
        Value::array(vec![
            Value::Int(self.count),
            self.sum.save_state(),
            self.best.or_null(),
            Value::Bool(self.running),
        ])
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let [count, sum, best, running] = parts(&saved)?;
        self.count = load_int(count)?;
        self.sum = Sum::load_state(sum)?;
        self.best = best.clone();
        self.running = running.as_bool().ok_or_else(foreign)?;
        Ok(())
    }
}
