//! Functions that look back at earlier rows: `lag`, `latest`, what changed, and what ran up so far.
//!
//! An operator owns one [`Analytic`] a call and partition and steps it once for each row, in order, with the outcome
//! of the call's `OVER (WHEN …)`. The value of a step that fails is not taken in.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::data::pack::{Pack, Packer};
use crate::data::{Object, Text, Value};
use crate::diag::Result;

use super::acc::{Acc, What};
use super::aggregate::{foreign, parts};
use super::args::{arg, boolean, check_int, int, is_bool, is_text, literal, wrong};
use super::{Arg, Ctx, Func, Special};

const fn row(name: &'static str, signature: &'static str) -> Func {
    Func::special(name, signature, Special::Analytic).family("analytic")
}

pub const FUNCS: &[Func] = &[
    row("lag", "(any [, int [, any [, boolean]]]) -> any")
        .check(check_lag)
        .about("The value so many rows back, by default 1; the third argument before there are so many rows. Nulls are passed over unless the fourth argument is false.")
        .examples(&[("lag(7, 1, \"first\")", "\"first\""), ("lag(7, 0)", "7")]),
    row("latest", "(any [, any]) -> any")
        .about("The last value that was not null; the second argument before there is one.")
        .examples(&[("latest(7)", "7"), ("latest(no_such_column, 0)", "0")]),
    row("changed_col", "(boolean, any) -> any")
        .check(check_ignore_null)
        .about("The value when it is not the same as in the last row, else null. With true as first argument nulls are passed over.")
        .examples(&[("changed_col(true, 7)", "7"), ("isnull(changed_col(true, no_such_column))", "true")]),
    row("had_changed", "(boolean, any, ...) -> boolean")
        .check(check_ignore_null)
        .about("Whether any of the values is not the same as in the last row. With true as first argument nulls are passed over.")
        .examples(&[("had_changed(true, 7)", "true"), ("had_changed(true, no_such_column)", "false")]),
    row("acc_sum", "(number [, boolean, boolean]) -> number")
        .about("The sum of all values so far. With three arguments: from the first row where the second is true to the row where the third is, and 0 outside.")
        .examples(&[("acc_sum(3)", "3"), ("acc_sum(3, false, false)", "0")]),
    row("acc_count", "(any [, boolean, boolean]) -> bigint")
        .about("The number of values so far that are not null; with three arguments from and to a row, as `acc_sum`.")
        .examples(&[("acc_count(\"x\")", "1"), ("acc_count(\"x\", false, false)", "0")]),
    row("acc_avg", "(number [, boolean, boolean]) -> float")
        .about("The mean of all values so far, 0 before any; with three arguments from and to a row, as `acc_sum`.")
        .examples(&[("acc_avg(3)", "3"), ("acc_avg(3, true, false)", "3")]),
    row("acc_max", "(number [, boolean, boolean]) -> number")
        .about("The greatest value so far, 0 before any; with three arguments from and to a row, as `acc_sum`.")
        .examples(&[("acc_max(3)", "3"), ("acc_max(-5)", "-5")]),
    row("acc_min", "(number [, boolean, boolean]) -> number")
        .about("The smallest value so far, 0 before any; with three arguments from and to a row, as `acc_sum`.")
        .examples(&[("acc_min(3)", "3"), ("acc_min(3, false, false)", "0")]),
    Func::special("changed_cols", "(text, boolean, any, ...) -> columns", Special::Columns)
        .family("analytic")
        .check(check_changed_cols)
        .about("A column for each value that is not the same as when this was last shown, named by the first argument and the column. With true as second argument nulls are passed over.")
        .examples(&[("changed_cols(\"c_\", true, length(\"ab\")) AS c", "{\"c_length\":2}"), ("changed_cols(\"\", true, no_such_column) AS c", "null")]),
];

/// The state of one call in one partition.
pub trait Analytic: Send {
    /// The result for the next row. Where `when` is not true the state stays as it is.
    fn step(&mut self, args: &[Value], when: bool, ctx: &Ctx<'_>) -> Result<Value>;
    fn save(&self) -> Value;
    fn load(&mut self, saved: Value) -> Result<()>;

    /// Writes what [`Analytic::save`] gives; fails as [`Pack::pack`] does. There may be a million states.
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        to.value(&self.save())
    }

    /// As [`Pack::touch`].
    fn touch(&self) -> usize {
        0
    }
}

/// A fresh state for the analytic function of this name, in lower case. `rows` are the places of the arguments that are
/// `*`: each is the row as an object, and `had_changed` compares its columns one by one.
pub fn start_analytic(name: &str, rows: &[usize]) -> Option<Box<dyn Analytic>> {
    Some(match name {
        "lag" => Box::<Lag>::default(),
        "latest" => Box::<Latest>::default(),
        "changed_col" => Box::<ChangedCol>::default(),
        "had_changed" => Box::new(HadChanged { kept: Vec::new(), rows: rows.to_vec() }),
        "acc_sum" => Box::new(Acc::new(What::Sum)),
        "acc_count" => Box::new(Acc::new(What::Count)),
        "acc_avg" => Box::new(Acc::new(What::Mean)),
        "acc_max" => Box::new(Acc::new(What::Max)),
        "acc_min" => Box::new(Acc::new(What::Min)),
        _ => return None,
    })
}

fn check_lag(args: &[Arg]) -> std::result::Result<(), String> {
    check_int(args, 1)?;
    literal(args, 1, "an integer that is not negative", |value| matches!(value, Value::Int(0..)))?;
    if let Some(Arg::Column(name)) = args.get(1) {
        return Err(format!("argument 2 must be an integer, found column `{name}`"));
    }
    literal(args, 3, "a boolean", is_bool)
}

fn check_ignore_null(args: &[Arg]) -> std::result::Result<(), String> {
    literal(args, 0, "a boolean", is_bool)
}

fn check_changed_cols(args: &[Arg]) -> std::result::Result<(), String> {
    literal(args, 0, "a string", is_text)?;
    literal(args, 1, "a boolean", is_bool)
}

/// The last values. There is no result from them before there are as many as the offset.
#[derive(Default)]
struct Lag {
    /// By itself, for most keep no more than this one, and there may be a million of them.
    oldest: Option<Value>,
    later: VecDeque<Value>,
    /// The default that the first call gave.
    default: Option<Value>,
}

impl Lag {
    fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.later.len()
    }

    fn push(&mut self, value: Value) {
        match &self.oldest {
            Some(_) => self.later.push_back(value),
            None => self.oldest = Some(value),
        }
    }

    fn pop(&mut self) -> Option<Value> {
        std::mem::replace(&mut self.oldest, self.later.pop_front())
    }
}

impl Analytic for Lag {
    fn step(&mut self, args: &[Value], when: bool, _: &Ctx<'_>) -> Result<Value> {
        let offset = match args.get(1) {
            Some(_) => int(args, 1)?,
            None => 1,
        };
        let offset = usize::try_from(offset).map_err(|_| wrong(args, 1, "an integer that is not negative"))?;
        let ignore_null = if args.len() > 3 { boolean(args, 3)? } else { true };
        let default = self.default.get_or_insert_with(|| arg(args, 2).or_null()).clone();
        let value = arg(args, 0);
        let taken = when && !(ignore_null && value.is_null());
        if offset == 0 {
            // The current value; kept for rows that do not count.
            if taken {
                (self.oldest, self.later) = (Some(value.clone()), VecDeque::new());
            }
            return Ok(self.later.back().or(self.oldest.as_ref()).unwrap_or(&default).clone());
        }
        let oldest = if self.len() < offset { None } else { self.oldest.as_ref() };
        if !taken {
            return Ok(oldest.unwrap_or(&default).clone());
        }
        let result = if oldest.is_some() { self.pop().unwrap_or_default() } else { default };
        self.push(value.or_null());
        Ok(result.or_null())
    }

    fn save(&self) -> Value {
        let default = self.default.iter().cloned().collect();
        let kept = self.oldest.iter().chain(&self.later).cloned().collect();
        Value::array(vec![Value::array(default), Value::array(kept)])
    }

    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        let mut both = to.array(2)?;
        let mut default = both.array(usize::from(self.default.is_some()))?;
        self.default.iter().try_for_each(|value| default.value(value))?;
        let mut kept = both.array(self.len())?;
        self.oldest.iter().chain(&self.later).try_for_each(|value| kept.value(value))
    }

    fn touch(&self) -> usize {
        self.oldest.as_ref().map_or(0, Pack::touch)
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        let [default, kept] = parts(&saved)?;
        let (Value::Array(default), Value::Array(kept)) = (default, kept) else { return Err(foreign()) };
        let mut kept = kept.iter().cloned();
        *self = Lag { oldest: kept.next(), later: kept.collect(), default: default.first().cloned() };
        Ok(())
    }
}

#[derive(Default)]
struct Latest(Value);

impl Analytic for Latest {
    fn step(&mut self, args: &[Value], when: bool, _: &Ctx<'_>) -> Result<Value> {
        if when && !arg(args, 0).is_null() {
            self.0 = arg(args, 0).clone();
        }
        Ok(if self.0.is_null() { arg(args, 1).or_null() } else { self.0.clone() })
    }

    fn save(&self) -> Value {
        self.0.or_null()
    }

    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        to.value_or_null(&self.0)
    }

    fn touch(&self) -> usize {
        self.0.touch()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.0 = saved;
        Ok(())
    }
}

/// Whether a value counts as new against the one kept, and keeps it if so. Values of different types are different.
fn changes(kept: &mut Value, value: &Value, ignore_null: bool) -> bool {
    if (ignore_null && value.is_null()) || kept == value {
        return false;
    }
    *kept = value.or_null();
    true
}

#[derive(Default)]
struct ChangedCol(Value);

impl Analytic for ChangedCol {
    fn step(&mut self, args: &[Value], when: bool, _: &Ctx<'_>) -> Result<Value> {
        let ignore_null = boolean(args, 0)?;
        let changed = when && changes(&mut self.0, arg(args, 1), ignore_null);
        Ok(if changed { arg(args, 1).or_null() } else { Value::Null })
    }

    fn save(&self) -> Value {
        self.0.or_null()
    }

    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        to.value_or_null(&self.0)
    }

    fn touch(&self) -> usize {
        self.0.touch()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.0 = saved;
        Ok(())
    }
}

/// One kept value a place; for `*` an object of the columns that were there so far.
struct HadChanged {
    kept: Vec<Value>,
    rows: Vec<usize>,
}

impl Analytic for HadChanged {
    fn step(&mut self, args: &[Value], when: bool, _: &Ctx<'_>) -> Result<Value> {
        let ignore_null = boolean(args, 0)?;
        if !when {
            return Ok(Value::Bool(false));
        }
        if self.kept.len() < args.len() {
            self.kept.resize(args.len(), Value::Null);
        }
        let mut changed = false;
        for (place, (kept, value)) in self.kept.iter_mut().zip(args).enumerate().skip(1) {
            changed |= match value {
                Value::Object(row) if self.rows.contains(&place) => columns_change(kept, row, ignore_null),
                value => changes(kept, value, ignore_null),
            };
        }
        Ok(Value::Bool(changed))
    }

    fn save(&self) -> Value {
        Value::array(self.kept.clone())
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        match saved {
            Value::Array(kept) => self.kept = kept.to_vec(),
            _ => return Err(foreign()),
        }
        Ok(())
    }
}

/// Whether any column of the row counts as new. One that was there before and is not now is null.
fn columns_change(kept: &mut Value, row: &Object, ignore_null: bool) -> bool {
    if !matches!(kept, Value::Object(_)) {
        *kept = Value::object(Object::new());
    }
    let Value::Object(kept) = kept else { return false };
    let gone = |(name, value): (&Text, &Value)| !ignore_null && !value.is_null() && !row.contains(name);
    let gone: Vec<Text> = kept.iter().filter(|entry| gone(*entry)).map(|(name, _)| name.clone()).collect();
    let is_new = |(name, value): (&Text, &Value)| {
        kept.get(name).unwrap_or(&Value::Null) != value && !(ignore_null && value.is_null())
    };
    let new: Vec<(Text, Value)> =
        row.iter().filter(|entry| is_new(*entry)).map(|(name, value)| (name.clone(), value.or_null())).collect();
    if gone.is_empty() && new.is_empty() {
        return false;
    }
    let kept = Arc::make_mut(kept);
    gone.into_iter().for_each(|name| drop(kept.insert(name, Value::Null)));
    new.into_iter().for_each(|(name, value)| drop(kept.insert(name, value)));
    true
}

/// The state of one call of `changed_cols`: the values shown last, by the name of the column.
#[derive(Default)]
pub struct ChangedCols(Object);

impl ChangedCols {
    /// The columns that changed, under the prefix and their name.
    pub fn step(&mut self, prefix: &Value, ignore_null: &Value, columns: &[(Text, Value)]) -> Result<Object> {
        let head = [prefix.clone(), ignore_null.clone()];
        let (prefix, ignore_null) = (super::args::text(&head, 0)?, boolean(&head, 1)?);
        let mut out = Object::new();
        for (name, value) in columns {
            let mut kept = self.0.get(name).cloned().unwrap_or(Value::Null);
            if changes(&mut kept, value, ignore_null) {
                self.0.insert(name.clone(), kept);
                out.insert(Text::from(format!("{prefix}{name}")), value.or_null());
            }
        }
        Ok(out)
    }

    pub fn save(&self) -> Value {
        Value::object(self.0.clone())
    }

    pub fn load(&mut self, saved: Value) -> Result<()> {
        match saved {
            Value::Object(kept) => self.0 = Object::clone(&kept),
            _ => return Err(foreign()),
        }
        Ok(())
    }
}
