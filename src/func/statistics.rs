//! Spread and rank of a group of numbers. Spread goes along with the rows; ranks need all values.

use crate::data::Value;
use crate::diag::Result;

use super::aggregate::{foreign, load_float, load_int, parts, save_float};
use super::args::{arg, finite, numbers, order, wrong};
use super::{Accumulator, Ctx, Func};

const fn row(name: &'static str, signature: &'static str, start: fn() -> Box<dyn Accumulator>) -> Func {
    Func::aggregate(name, signature, start).family("aggregate").check(numbers)
}

pub const FUNCS: &[Func] = &[
    row("median", "(number) -> number", || {
        Box::new(Ranked { values: Vec::new(), part: Value::Null, rank: Rank::Median })
    })
    .about("The middle value, or the mean of the two in the middle.")
    .examples(&[("median(3)", "3"), ("median(2.5)", "2.5")]),
    row("stddev", "(number) -> float", || Box::new(Spread::new(false, true)))
        .about("The standard deviation of the whole population.")
        .examples(&[("stddev(3)", "0"), ("isnull(stddev(no_such_column))", "true")]),
    row("stddevs", "(number) -> float", || Box::new(Spread::new(true, true)))
        .about("The standard deviation of a sample; null for a single value.")
        .examples(&[("isnull(stddevs(3))", "true"), ("isnull(stddevs(no_such_column))", "true")]),
    row("var", "(number) -> float", || Box::new(Spread::new(false, false)))
        .about("The variance of the whole population.")
        .examples(&[("var(3)", "0"), ("isnull(var(no_such_column))", "true")]),
    row("vars", "(number) -> float", || Box::new(Spread::new(true, false)))
        .about("The variance of a sample; null for a single value.")
        .examples(&[("isnull(vars(3))", "true"), ("isnull(vars(no_such_column))", "true")]),
    row("percentile_cont", "(number, number) -> float", || {
        Box::new(Ranked { values: Vec::new(), part: Value::Null, rank: Rank::Continuous })
    })
    .about("The value below which a part of the group lies, 0 to 1, interpolated between neighbours.")
    .examples(&[("percentile_cont(3.5, 0.5)", "3.5"), ("percentile_cont(7, 1)", "7")]),
    row("percentile_disc", "(number, number) -> float", || {
        Box::new(Ranked { values: Vec::new(), part: Value::Null, rank: Rank::Discrete })
    })
    .about("The first value of the group, in order, that at least a part of it, 0 to 1, does not exceed.")
    .examples(&[("percentile_disc(3.5, 0.5)", "3.5"), ("percentile_disc(7, 0)", "7")]),
];

/// Welford's running mean and sum of squared distances from it.
struct Spread {
    count: i64,
    mean: f64,
    squares: f64,
    sample: bool,
    root: bool,
}

impl Spread {
    fn new(sample: bool, root: bool) -> Self {
        Spread { count: 0, mean: 0.0, squares: 0.0, sample, root }
    }
}

impl Accumulator for Spread {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        if arg(args, 0).is_null() {
            return Ok(());
        }
        let x = arg(args, 0).as_f64().ok_or_else(|| wrong(args, 0, "a number"))?;
        self.count += 1;
        let distance = x - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (x - self.mean);
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        let over = self.count - i64::from(self.sample);
        if over < 1 {
            return Ok(Value::Null);
        }
        let variance = self.squares / over as f64;
        Ok(finite(if self.root { variance.sqrt() } else { variance }))
    }

    fn save(&self) -> Value {
        Value::array(vec![Value::Int(self.count), save_float(self.mean), save_float(self.squares)])
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let [count, mean, squares] = parts(&saved)?;
        (self.count, self.mean, self.squares) = (load_int(count)?, load_float(mean)?, load_float(squares)?);
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        let [count, mean, squares] = parts(&later)?;
        let (count, mean, squares) = (load_int(count)?, load_float(mean)?, load_float(squares)?);
        if self.count == 0 {
            (self.count, self.mean, self.squares) = (count, mean, squares);
        } else if count > 0 {
            // Chan's way of putting two of Welford's together.
            let (before, all) = (self.count as f64, (self.count + count) as f64);
            let distance = mean - self.mean;
            self.squares += squares + distance * distance * before * count as f64 / all;
            self.mean += distance * count as f64 / all;
            self.count += count;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Rank {
    Median,
    Continuous,
    Discrete,
}

/// All numbers of the group, and which part of it is asked for: the first that was given.
struct Ranked {
    values: Vec<Value>,
    part: Value,
    rank: Rank,
}

impl Ranked {
    /// 0 to 1.
    fn part(&self) -> Result<f64> {
        match self.part.as_f64() {
            Some(part) if (0.0..=1.0).contains(&part) => Ok(part),
            _ => Err(wrong(&[Value::Null, self.part.clone()], 1, "a number from 0 to 1")),
        }
    }
}

impl Accumulator for Ranked {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        if self.part.is_null() {
            self.part = arg(args, 1).or_null();
        }
        match arg(args, 0) {
            Value::Absent | Value::Null => {}
            Value::Float(x) if x.is_nan() => {}
            value @ (Value::Int(_) | Value::Float(_)) => self.values.push(value.clone()),
            _ => return Err(wrong(args, 0, "a number")),
        }
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        let mut sorted = self.values.clone();
        sorted.sort_by(|a, b| order(a, b).unwrap_or(std::cmp::Ordering::Equal));
        let count = sorted.len();
        if count == 0 {
            return Ok(Value::Null);
        }
        match self.rank {
            Rank::Median if count % 2 == 1 => Ok(match &sorted[count / 2] {
                Value::Float(x) => finite(*x),
                other => other.clone(),
            }),
            Rank::Median => Ok(middle(&sorted[count / 2 - 1], &sorted[count / 2])),
            Rank::Discrete => {
                let place = (self.part()? * count as f64).ceil() as usize;
                Ok(finite(float(&sorted[place.clamp(1, count) - 1])))
            }
            Rank::Continuous => {
                let place = self.part()? * (count - 1) as f64;
                let (below, weight) = (place.floor() as usize, place.fract());
                let low = float(&sorted[below.min(count - 1)]);
                let high = float(&sorted[(below + 1).min(count - 1)]);
                Ok(finite(low * (1.0 - weight) + high * weight))
            }
        }
    }

    fn save(&self) -> Value {
        let values = self.values.iter().map(|value| match value {
            Value::Float(x) => Value::array(vec![save_float(*x)]),
            other => other.clone(),
        });
        Value::array(vec![Value::array(values.collect()), self.part.clone()])
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let [values, part] = parts(&saved)?;
        let Value::Array(values) = values else { return Err(foreign()) };
        self.values = values
            .iter()
            .map(|value| match value {
                Value::Array(_) => parts::<1>(value).and_then(|[bits]| load_float(bits)).map(Value::Float),
                other => load_int(other).map(Value::Int),
            })
            .collect::<Result<_>>()?;
        self.part = part.clone();
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        let mut after = Ranked { values: Vec::new(), part: Value::Null, rank: self.rank };
        after.load(later)?;
        self.values.append(&mut after.values);
        if self.part.is_null() {
            self.part = after.part;
        }
        Ok(())
    }
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The mean of two numbers, without overflow.
fn middle(a: &Value, b: &Value) -> Value {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Float((i128::from(*a) + i128::from(*b)) as f64 / 2.0),
        _ => finite(float(a) / 2.0 + float(b) / 2.0),
    }
}
