//! Aggregates that go along with the rows: what is kept of a group does not grow with it, except where the result
//! itself holds all rows.
//!
//! Nulls are skipped, integers and floats mix in any order. A sum of integers is exact and becomes a float when 64
//! bits are not enough. A group without a row has no result but null.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use crate::data::cast::printed;
use crate::data::{Object, Text, Value};
use crate::diag::{Fault, Result};

use super::args::{arg, boolean, check_condition, finite, numbers, order, wrong};
use super::{Accumulator, Ctx, Func, Special};

const fn row(name: &'static str, signature: &'static str, start: fn() -> Box<dyn Accumulator>) -> Func {
    Func::aggregate(name, signature, start).family("aggregate")
}

pub const FUNCS: &[Func] = &[
    row("count", "(any) -> bigint", || Box::<Count>::default())
        .about("The number of values that are not null; `count(*)` counts rows. Null for a group without a row.")
        .examples(&[("count(*)", "1"), ("count(no_such_column)", "0")]),
    row("sum", "(number) -> number", || Box::<Sum>::default())
        .check(numbers)
        .about("The sum: of integers an integer, or a float when it does not fit 64 bits.")
        .examples(&[("sum(3)", "3"), ("sum(2.5)", "2.5")]),
    row("avg", "(number) -> number", || Box::new(Average(Sum::default())))
        .check(numbers)
        .about("The mean; an integer when all values are integers and the mean is whole.")
        .examples(&[("avg(4)", "4"), ("avg(2.5)", "2.5")]),
    row("min", "(number|text) -> any", || Box::new(Extreme { best: Value::Null, wanted: Ordering::Less }))
        .check(numbers)
        .about("The smallest number, or the text that comes first.")
        .examples(&[("min(3)", "3"), ("min(2.5)", "2.5")]),
    row("max", "(number|text) -> any", || Box::new(Extreme { best: Value::Null, wanted: Ordering::Greater }))
        .check(numbers)
        .about("The greatest number, or the text that comes last.")
        .examples(&[("max(3)", "3"), ("max(2.5)", "2.5")]),
    row("collect", "(any) -> array", || Box::<Collect>::default())
        .about("All values in the order of the rows, nulls too; `collect(*)` collects rows.")
        .examples(&[("collect(\"a\")", "[\"a\"]"), ("collect(7)", "[7]")]),
    row("merge_agg", "(any) -> object", || Box::<Merge>::default())
        .about("All objects in one; of a repeated name the last value counts. What is no object is skipped.")
        .examples(&[
            ("merge_agg(object_construct(\"a\", 1))", "{\"a\":1}"),
            ("isnull(merge_agg(7))", "true"),
        ]),
    row("last_value", "(any, boolean) -> any", || Box::<Last>::default())
        .check(|args| check_condition(args, 1))
        .about("The value of the last row, or with true as second argument the last that is not null.")
        .examples(&[("last_value(7, true)", "7"), ("last_value(\"x\", false)", "\"x\"")]),
    row("deduplicate", "(any, boolean) -> any", || Box::<Deduplicate>::default())
        .check(|args| check_condition(args, 1))
        .about("With true as second argument the first row of each value of the first; with false the last row if its value is new in the group, else null.")
        .examples(&[("cardinality(deduplicate(1, true))", "1"), ("isnull(deduplicate(1, false))", "false")]),
    Func::special("last_agg_hit_count", "() -> bigint", Special::Hit)
        .family("aggregate")
        .about("How often this place was reached before; in HAVING how often the condition was met.")
        .examples(&[("last_agg_hit_count()", "0"), ("last_agg_hit_count() + 1", "1")]),
    Func::special("last_agg_hit_time", "() -> bigint", Special::Hit)
        .family("aggregate")
        .about("The time at which this place was last reached, in milliseconds since 1970; in HAVING when the condition was last met. 0 before that.")
        .examples(&[("last_agg_hit_time()", "0"), ("last_agg_hit_time() + 1", "1")]),
];

/// The aggregate gets the whole row, as an object, in front of the arguments written in the rule.
pub fn wants_row(func: &Func) -> bool {
    func.name == "deduplicate"
}

/// A float as saved state: bit for bit, whatever the store makes of floats.
pub(super) fn save_float(x: f64) -> Value {
    Value::Int(x.to_bits().cast_signed())
}

pub(super) fn load_float(saved: &Value) -> Result<f64> {
    load_int(saved).map(|bits| f64::from_bits(bits.cast_unsigned()))
}

pub(super) fn load_int(saved: &Value) -> Result<i64> {
    match saved {
        Value::Int(n) => Ok(*n),
        _ => Err(foreign()),
    }
}

/// The parts of a saved state that has exactly so many.
pub(super) fn parts<const N: usize>(saved: &Value) -> Result<&[Value; N]> {
    match saved {
        Value::Array(items) => items.as_slice().try_into().map_err(|_| foreign()),
        _ => Err(foreign()),
    }
}

pub(super) fn foreign() -> Fault {
    Fault::bug("a saved state is not one of this function")
}

#[derive(Default)]
pub(super) struct Count {
    rows: i64,
    values: i64,
}

impl Accumulator for Count {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        self.rows += 1;
        self.values += i64::from(!arg(args, 0).is_null());
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        Ok(if self.rows == 0 { Value::Null } else { Value::Int(self.values) })
    }

    fn save(&self) -> Value {
        Value::array(vec![Value::Int(self.rows), Value::Int(self.values)])
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let [rows, values] = parts(&saved)?;
        *self = Count { rows: load_int(rows)?, values: load_int(values)? };
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        let [rows, values] = parts(&later)?;
        self.rows += load_int(rows)?;
        self.values += load_int(values)?;
        Ok(())
    }
}

/// Integers and floats are summed apart, so that integers stay exact. The floats are also summed at a scale at which
/// they cannot overflow, for means.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    count: i64,
    ints: i128,
    floats: f64,
    scaled: f64,
    mixed: bool,
}

/// 2 to the power of -64.
const SCALE: f64 = 1.0 / 18_446_744_073_709_551_616.0;

impl Sum {
    pub(super) fn put_int(&mut self, n: i64) {
        self.count += 1;
        self.ints += i128::from(n);
    }

    pub(super) fn put_float(&mut self, x: f64) {
        self.count += 1;
        self.floats += x;
        self.scaled += x * SCALE;
        self.mixed = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn total(&self) -> Value {
        if self.count == 0 {
            Value::Null
        } else if self.mixed {
            finite(self.floats + self.ints as f64)
        } else {
            i64::try_from(self.ints).map_or(Value::Float(self.ints as f64), Value::Int)
        }
    }

    pub(super) fn mean(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        let count = i128::from(self.count);
        if !self.mixed && self.ints % count == 0 {
            return i64::try_from(self.ints / count).map_or(Value::Null, Value::Int);
        }
        let total = self.floats + self.ints as f64;
        if total.is_finite() {
            return Value::Float(total / count as f64);
        }
        finite((self.scaled + self.ints as f64 * SCALE) / count as f64 / SCALE)
    }

    pub(super) fn save_state(&self) -> Value {
        Value::array(vec![
            Value::Int(self.count),
            Value::from(self.ints.to_string()),
            save_float(self.floats),
            save_float(self.scaled),
            Value::Bool(self.mixed),
        ])
    }

    pub(super) fn load_state(saved: &Value) -> Result<Sum> {
        let [count, ints, floats, scaled, mixed] = parts(saved)?;
        Ok(Sum {
            count: load_int(count)?,
            ints: ints.as_str().and_then(|text| text.parse().ok()).ok_or_else(foreign)?,
            floats: load_float(floats)?,
            scaled: load_float(scaled)?,
            mixed: mixed.as_bool().ok_or_else(foreign)?,
        })
    }
}

impl Accumulator for Sum {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        match arg(args, 0) {
            Value::Absent | Value::Null => {}
            Value::Int(n) => self.put_int(*n),
            Value::Float(x) => self.put_float(*x),
            _ => return Err(wrong(args, 0, "a number")),
        }
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        Ok(self.total())
    }

    fn save(&self) -> Value {
        self.save_state()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        *self = Sum::load_state(&saved)?;
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        let later = Sum::load_state(&later)?;
        self.count += later.count;
        self.ints += later.ints;
        self.floats += later.floats;
        self.scaled += later.scaled;
        self.mixed |= later.mixed;
        Ok(())
    }
}

struct Average(Sum);

impl Accumulator for Average {
    fn add(&mut self, args: &[Value], ctx: &Ctx<'_>) -> Result<()> {
        self.0.add(args, ctx)
    }

    fn give(&self) -> Result<Value> {
        Ok(self.0.mean())
    }

    fn save(&self) -> Value {
        self.0.save()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.0.load(saved)
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        self.0.take(later)?;
        Ok(())
    }
}

/// The smallest or greatest value so far.
pub(super) struct Extreme {
    pub(super) best: Value,
    pub(super) wanted: Ordering,
}

impl Extreme {
    /// Null, and what is not a number, is passed over.
    pub(super) fn put(&mut self, value: &Value) -> std::result::Result<(), &'static str> {
        match value {
            Value::Absent | Value::Null => return Ok(()),
            Value::Float(x) if x.is_nan() => return Ok(()),
            Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
            _ => return Err("a number or a string"),
        }
        if self.best.is_null() {
            self.best = value.clone();
            return Ok(());
        }
        match order(value, &self.best) {
            Some(found) if found == self.wanted => self.best = value.clone(),
            Some(_) => {}
            None if matches!(self.best, Value::Text(_)) => return Err("a string like the values before"),
            None => return Err("a number like the values before"),
        }
        Ok(())
    }

    pub(super) fn get(&self) -> Value {
        match &self.best {
            Value::Float(x) => finite(*x),
            other => other.clone(),
        }
    }
}

impl Accumulator for Extreme {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        self.put(arg(args, 0)).map_err(|wanted| wrong(args, 0, wanted))
    }

    fn give(&self) -> Result<Value> {
        Ok(self.get())
    }

    fn save(&self) -> Value {
        self.best.clone()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.best = saved;
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        self.put(&later).map_err(|wanted| wrong(std::slice::from_ref(&later), 0, wanted))?;
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Collect(Arc<Vec<Value>>);

impl Accumulator for Collect {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        Arc::make_mut(&mut self.0).push(arg(args, 0).or_null());
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        Ok(if self.0.is_empty() { Value::Null } else { Value::Array(self.0.clone()) })
    }

    fn save(&self) -> Value {
        Value::Array(self.0.clone())
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        match saved {
            Value::Array(items) => self.0 = items,
            _ => return Err(foreign()),
        }
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        let Value::Array(later) = later else { return Err(foreign()) };
        if self.0.is_empty() {
            self.0 = later;
        } else {
            Arc::make_mut(&mut self.0).extend(later.iter().cloned());
        }
        Ok(())
    }
}

/// None until an object has come.
#[derive(Default)]
pub(super) struct Merge(Option<Arc<Object>>);

impl Merge {
    fn merge(&mut self, object: Arc<Object>) {
        match &mut self.0 {
            None => self.0 = Some(object),
            Some(merged) => {
                let merged = Arc::make_mut(merged);
                for (name, value) in object.iter() {
                    merged.insert(name.clone(), value.clone());
                }
            }
        }
    }
}

impl Accumulator for Merge {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        if let Value::Object(object) = arg(args, 0) {
            self.merge(object.clone());
        }
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        Ok(self.0.clone().map_or(Value::Null, Value::Object))
    }

    fn save(&self) -> Value {
        self.0.clone().map_or(Value::Null, Value::Object)
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.0 = match saved {
            Value::Null => None,
            Value::Object(object) => Some(object),
            _ => return Err(foreign()),
        };
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        match later {
            Value::Null => {}
            Value::Object(later) => self.merge(later),
            _ => return Err(foreign()),
        }
        Ok(())
    }
}

/// None until a value has come that counts.
#[derive(Default)]
pub(super) struct Last(Option<Value>);

impl Accumulator for Last {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        let ignore_null = boolean(args, 1)?;
        if !(ignore_null && arg(args, 0).is_null()) {
            self.0 = Some(arg(args, 0).or_null());
        }
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        Ok(self.0.clone().unwrap_or(Value::Null))
    }

    fn save(&self) -> Value {
        Value::array(self.0.iter().cloned().collect())
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let Value::Array(saved) = saved else { return Err(foreign()) };
        self.0 = saved.first().cloned();
        Ok(())
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&mut self, later: Value) -> Result<()> {
        let Value::Array(later) = later else { return Err(foreign()) };
        if let Some(value) = later.first() {
            self.0 = Some(value.clone());
        }
        Ok(())
    }
}

/// Arguments: the row, the key, whether all rows are wanted. Keys are the same when they print the same.
#[derive(Default)]
struct Deduplicate {
    seen: HashSet<Text>,
    /// The first row of each key, kept when all are wanted.
    firsts: Vec<Value>,
    /// The last row, if its key was new.
    last: Value,
    all: bool,
}

impl Accumulator for Deduplicate {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        let (row, key) = match args {
            [row, key, _] => (row, key),
            _ => (arg(args, 0), arg(args, 0)),
        };
        self.all = boolean(args, args.len().saturating_sub(1))?;
        let new = self.seen.insert(printed(key));
        self.last = if new { row.or_null() } else { Value::Null };
        if new && self.all {
            self.firsts.push(row.or_null());
        }
        Ok(())
    }

    fn give(&self) -> Result<Value> {
        Ok(if self.seen.is_empty() || !self.all { self.last.or_null() } else { Value::array(self.firsts.clone()) })
    }

    fn save(&self) -> Value {
        let seen = self.seen.iter().cloned().map(Value::Text).collect();
        Value::array(vec![
            Value::array(seen),
            Value::array(self.firsts.clone()),
            self.last.or_null(),
            Value::Bool(self.all),
        ])
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let [seen, firsts, last, all] = parts(&saved)?;
        let (Value::Array(seen), Value::Array(firsts)) = (seen, firsts) else { return Err(foreign()) };
        *self = Deduplicate {
            seen: seen.iter().filter_map(Value::as_str).map(Text::new).collect(),
            firsts: firsts.to_vec(),
            last: last.clone(),
            all: all.as_bool().ok_or_else(foreign)?,
        };
        Ok(())
    }
}
