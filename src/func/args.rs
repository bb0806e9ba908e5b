//! How functions read their arguments, and the checks of literals that many of them share.
//!
//! Positions in messages count from 1. An argument that was left out reads as null, so that no function can run off
//! the end of its arguments.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::data::cast::{Strictness, cannot, printed, shown, to_bigint, to_float};
use crate::data::{Text, Value};
use crate::diag::{Fault, Result};

use super::Arg;

/// What a text result of one call may hold at most, in bytes.
pub const MAX_TEXT: usize = 16 << 20;
/// What an array made from nothing may hold at most, in elements.
pub const MAX_ITEMS: usize = 4 << 20;

/// The argument at the place, null when it was left out.
pub fn arg(args: &[Value], at: usize) -> &Value {
    args.get(at).unwrap_or(&Value::Null)
}

/// The fault of an argument of the wrong kind.
pub fn wrong(args: &[Value], at: usize, wanted: &str) -> Fault {
    Fault::eval(format!("argument {} must be {wanted}, found {}", at + 1, shown(arg(args, at))))
}

/// An integer or a float, as a float.
pub fn float(args: &[Value], at: usize) -> Result<f64> {
    to_float(arg(args, at), Strictness::SameKind).map_err(|_| wrong(args, at, "a number"))
}

/// An integer, or a float without a fraction.
pub fn int(args: &[Value], at: usize) -> Result<i64> {
    to_bigint(arg(args, at), Strictness::Strict).map_err(|_| wrong(args, at, "an integer"))
}

/// Text and nothing else.
pub fn text(args: &[Value], at: usize) -> Result<&Text> {
    match arg(args, at) {
        Value::Text(text) => Ok(text),
        _ => Err(wrong(args, at, "a string")),
    }
}

/// True or false.
pub fn boolean(args: &[Value], at: usize) -> Result<bool> {
    arg(args, at).as_bool().ok_or_else(|| wrong(args, at, "a boolean"))
}

/// Any value as text, the way text functions print it.
pub fn as_text(args: &[Value], at: usize) -> Cow<'_, str> {
    match arg(args, at) {
        Value::Text(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(printed(other).into()),
    }
}

/// Any value as bytes: bytes as they are, the rest as it prints.
pub fn as_bytes(args: &[Value], at: usize) -> Cow<'_, [u8]> {
    match arg(args, at) {
        Value::Bytes(bytes) => Cow::Borrowed(bytes),
        Value::Text(text) => Cow::Borrowed(text.as_bytes()),
        other => Cow::Owned(printed(other).as_bytes().to_vec()),
    }
}

/// An array.
pub fn array(args: &[Value], at: usize) -> Result<&Vec<Value>> {
    match arg(args, at) {
        Value::Array(items) => Ok(items),
        _ => Err(wrong(args, at, "an array")),
    }
}

/// Null in place of a result that is not a finite number, which nothing outside could read.
pub fn finite(x: f64) -> Value {
    if x.is_finite() { Value::Float(x) } else { Value::Null }
}

/// An integer as the float that a function promises, unless a float cannot hold it.
pub fn float_of_int(n: i64) -> Value {
    let x = n as f64;
    if x as i128 == i128::from(n) { Value::Float(x) } else { Value::Int(n) }
}

/// Which of two values is greater: numbers by value whatever their type, text by code points. Other pairs, and what is
/// not a number, have no order.
pub fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => order_mixed(*a, *b),
        (Value::Float(a), Value::Int(b)) => order_mixed(*b, *a).map(Ordering::reverse),
        (Value::Text(a), Value::Text(b)) => Some(a.as_str().cmp(b)),
        _ => None,
    }
}

/// Exact, where turning the integer into a float would lose digits.
fn order_mixed(n: i64, x: f64) -> Option<Ordering> {
    if x.is_nan() {
        None
    } else if x >= 9_223_372_036_854_775_808.0 {
        Some(Ordering::Less)
    } else if x < -9_223_372_036_854_775_808.0 {
        Some(Ordering::Greater)
    } else {
        Some(n.cmp(&(x as i64)).then(0.0_f64.total_cmp(&(x.fract() + 0.0))))
    }
}

/// A number of the result's elements or bytes that is within the limit.
pub fn within(wanted: i128, limit: usize, what: &str) -> Result<usize> {
    match usize::try_from(wanted) {
        Ok(count) if count <= limit => Ok(count),
        _ => Err(Fault::eval(format!("the result would have {wanted} {what}, more than the {limit} that are allowed"))),
    }
}

/// Why a conversion did not work, with the place of the argument.
pub fn converted<T>(args: &[Value], at: usize, result: Result<T>, kind: &str) -> Result<T> {
    result.map_err(|_| cannot(arg(args, at), kind).context(format_args!("argument {}: ", at + 1)))
}

type Checked = std::result::Result<(), String>;

/// What a literal argument is in a message.
fn found(arg: &Arg) -> String {
    match arg {
        Arg::Literal(value) => shown(value),
        Arg::Unit => "a time unit".into(),
        Arg::Wildcard => "`*`".into(),
        Arg::Column(name) => format!("column `{name}`"),
        Arg::Other => "an expression".into(),
    }
}

fn refuse(args: &[Arg], at: usize, wanted: &str) -> Checked {
    match args.get(at) {
        Some(arg) => Err(format!("argument {} must be {wanted}, found {}", at + 1, found(arg))),
        None => Ok(()),
    }
}

/// Literals, if that is what they are, must satisfy `good`; null literals always do.
pub fn literal(args: &[Arg], at: usize, wanted: &str, good: fn(&Value) -> bool) -> Checked {
    match args.get(at) {
        Some(Arg::Literal(value)) if !value.is_null() && !good(value) => refuse(args, at, wanted),
        Some(Arg::Unit) => refuse(args, at, wanted),
        _ => Ok(()),
    }
}

/// The argument must be a literal, and satisfy `good`.
pub fn only_literal(args: &[Arg], at: usize, wanted: &str, good: fn(&Value) -> bool) -> Checked {
    match args.get(at) {
        Some(Arg::Literal(value)) if good(value) => Ok(()),
        _ => refuse(args, at, wanted),
    }
}

/// No literal may stand there.
pub fn no_literal(args: &[Arg], at: usize, wanted: &str) -> Checked {
    literal(args, at, wanted, |_| false)
}

pub fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

pub fn is_int(value: &Value) -> bool {
    matches!(value, Value::Int(_))
}

pub fn is_text(value: &Value) -> bool {
    matches!(value, Value::Text(_))
}

pub fn is_bool(value: &Value) -> bool {
    matches!(value, Value::Bool(_))
}

pub fn check_number(args: &[Arg], at: usize) -> Checked {
    match args.get(at) {
        Some(Arg::Wildcard) => refuse(args, at, "a number"),
        _ => literal(args, at, "a number", is_number),
    }
}

pub fn check_int(args: &[Arg], at: usize) -> Checked {
    literal(args, at, "an integer", is_int)
}

pub fn check_text(args: &[Arg], at: usize) -> Checked {
    literal(args, at, "a string", is_text)
}

/// All arguments are numbers.
pub fn numbers(args: &[Arg]) -> Checked {
    (0..args.len()).try_for_each(|at| check_number(args, at))
}

/// All arguments are integers.
pub fn ints(args: &[Arg]) -> Checked {
    (0..args.len()).try_for_each(|at| check_int(args, at))
}

/// All arguments are text.
pub fn texts(args: &[Arg]) -> Checked {
    (0..args.len()).try_for_each(|at| check_text(args, at))
}

/// Text, then integers.
pub fn text_then_ints(args: &[Arg]) -> Checked {
    check_text(args, 0)?;
    (1..args.len()).try_for_each(|at| check_int(args, at))
}

/// Something that is true or false: a boolean literal or an expression, not a bare column.
pub fn check_condition(args: &[Arg], at: usize) -> Checked {
    match args.get(at) {
        Some(Arg::Literal(Value::Bool(_)) | Arg::Other) => Ok(()),
        _ => refuse(args, at, "true, false or a condition"),
    }
}
