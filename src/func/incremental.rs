//! The `inc_*` functions: aggregates as functions of a row, for plans that keep one value a group.
//!
//! Each call takes the row in and gives the aggregate so far, exactly as the aggregate of the same name would; a null
//! leaves it as it was. `inc_sum` and `inc_avg` give floats and also read booleans and text of a number.

use std::cmp::Ordering;

use crate::data::Value;
use crate::data::cast::{Strictness, to_float};
use crate::diag::Result;

use super::aggregate::{Collect, Count, Extreme, Last, Merge, Sum};
use super::args::{arg, check_condition, wrong};
use super::{Accumulator, Ctx, Func, Stateful};

const fn row(name: &'static str, signature: &'static str, start: fn() -> Box<dyn Stateful>) -> Func {
    Func::stateful(name, signature, start).family("incremental")
}

pub const FUNCS: &[Func] = &[
    row("inc_count", "(any) -> bigint", || Box::new(Running(Count::default())))
        .about("`count` so far.")
        .examples(&[("inc_count(7)", "1"), ("inc_count(no_such_column)", "0")]),
    row("inc_avg", "(any) -> float", || Box::new(Numbers { sum: Sum::default(), mean: true }))
        .about("`avg` so far, as a float.")
        .examples(&[("inc_avg(4)", "4"), ("inc_avg(\"6\")", "6")]),
    row("inc_sum", "(any) -> float", || Box::new(Numbers { sum: Sum::default(), mean: false }))
        .about("`sum` so far, as a float.")
        .examples(&[("inc_sum(4)", "4"), ("inc_sum(true)", "1")]),
    row("inc_max", "(number|text) -> any", || {
        Box::new(Running(Extreme { best: Value::Null, wanted: Ordering::Greater }))
    })
    .about("`max` so far.")
    .examples(&[("inc_max(3)", "3"), ("inc_max(\"a\")", "\"a\"")]),
    row("inc_min", "(number|text) -> any", || Box::new(Running(Extreme { best: Value::Null, wanted: Ordering::Less })))
        .about("`min` so far.")
        .examples(&[("inc_min(3)", "3"), ("inc_min(\"a\")", "\"a\"")]),
    row("inc_collect", "(any) -> array", || Box::new(Running(Collect::default())))
        .about("`collect` so far.")
        .examples(&[("inc_collect(1)", "[1]"), ("inc_collect(\"b\")", "[\"b\"]")]),
    row("inc_merge_agg", "(any) -> object", || Box::new(Running(Merge::default())))
        .about("`merge_agg` so far.")
        .examples(&[("inc_merge_agg(object_construct(\"a\", 1))", "{\"a\":1}"), ("isnull(inc_merge_agg(7))", "true")]),
    row("inc_last_value", "(any, boolean) -> any", || Box::new(Running(Last::default())))
        .check(|args| check_condition(args, 1))
        .about("`last_value` so far.")
        .examples(&[("inc_last_value(1, true)", "1"), ("inc_last_value(\"z\", false)", "\"z\"")]),
];

/// An aggregate that shows its result after each row.
struct Running<A>(A);

impl<A: Accumulator> Stateful for Running<A> {
    fn call(&mut self, args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
        self.0.add(args, ctx)?;
        self.0.give()
    }

    fn save(&self) -> Value {
        self.0.save()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.0.load(saved)
    }
}

struct Numbers {
    sum: Sum,
    mean: bool,
}

impl Stateful for Numbers {
    fn call(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<Value> {
        match arg(args, 0) {
            Value::Absent | Value::Null => {}
            Value::Int(n) => self.sum.put_int(*n),
            Value::Array(items) if items.is_empty() => {}
            Value::Object(object) if object.is_empty() => {}
            other => {
                let x = to_float(other, Strictness::All).map_err(|_| wrong(args, 0, "a number"))?;
                self.sum.put_float(x);
            }
        }
        let result = if self.mean { self.sum.mean() } else { self.sum.total() };
        Ok(match result {
            Value::Int(n) => super::args::float_of_int(n),
            other => other,
        })
    }

    fn save(&self) -> Value {
        self.sum.save_state()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.sum = Sum::load_state(&saved)?;
        Ok(())
    }
}
