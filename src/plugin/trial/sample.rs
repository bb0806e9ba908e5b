//! Values and rows of every kind, and how they go over the line.

use jiff::tz::{TimeZone, offset};
use kuiper_plugin::abi;
use serde_json::{Map, Value as Json};

use crate::data::{DateTime, Object, Value};
use crate::plugin::cross::{Arena, properties};

/// Rows of a big batch.
pub const MANY: usize = 10_000;

/// A value of each kind, and those at the ends, with what to call it.
pub fn kinds() -> Vec<(&'static str, Value)> {
    let time = |nanos: i64, hours: i8| Value::Time(DateTime::new(nanos, TimeZone::fixed(offset(hours))));
    let deep = (0..100).fold(Value::Int(1), |value, n| match n % 2 {
        0 => Value::array(vec![value]),
        _ => Value::object(Object::from_iter([("k", value)])),
    });
    vec![
        ("null", Value::Null),
        ("true", Value::Bool(true)),
        ("false", Value::Bool(false)),
        ("zero", Value::Int(0)),
        ("the least integer", Value::Int(i64::MIN)),
        ("the greatest integer", Value::Int(i64::MAX)),
        ("a float", Value::Float(0.1)),
        ("minus zero", Value::Float(-0.0)),
        ("no number", Value::Float(f64::NAN)),
        ("infinity", Value::Float(f64::INFINITY)),
        ("no text", Value::text("")),
        ("a text", Value::text("naïve 温度 😀 \"quoted\" \\ \0 end")),
        ("a long text", Value::text("x".repeat(1 << 20))),
        ("no bytes", Value::bytes(b"")),
        ("bytes", Value::bytes(b"\x00\xff\xfe")),
        ("a datetime", time(1_700_000_000_123_456_789, 0)),
        ("a datetime in a zone", time(-1, -7)),
        ("no list", Value::array(Vec::new())),
        ("a list", Value::array(vec![Value::Null, Value::Int(1), Value::text("two"), Value::array(Vec::new())])),
        ("no object", Value::object(Object::new())),
        ("an object", Value::object(Object::from_iter([("k", Value::Null), ("", Value::Int(1))]))),
        ("a deep value", deep),
    ]
}

/// A value of another type than a property expects, in the words of its schema; none where any will do.
pub fn of_another_type(expects: &str) -> Option<Value> {
    let object = || Value::object(Object::from_iter([("wrong", Value::Bool(true))]));
    match expects {
        "" => None,
        any if any.starts_with("any") => None,
        words if words.contains("object") => Some(Value::Bool(true)),
        _ => Some(object()),
    }
}

/// Rows with the same columns.
pub struct Rows {
    names: Vec<String>,
    pub cells: Vec<Vec<Value>>,
}

impl Rows {
    /// Rows like the one that was given, or made up, with these changes of their cells.
    pub fn new(row: &Map<String, Json>, height: usize, change: impl Fn(usize, &str, Value) -> Value) -> Rows {
        let made_up = Value::object(Object::from_iter([
            ("id", Value::Int(1)),
            ("name", Value::text("attic")),
            ("value", Value::Float(36.5)),
            ("ok", Value::Bool(true)),
        ]));
        let row = if row.is_empty() { made_up } else { properties(row) };
        let cells: Vec<(String, Value)> = match row {
            Value::Object(object) => object.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            _ => Vec::new(),
        };
        let row = |n: usize| cells.iter().map(|(name, value)| change(n, name, value.clone())).collect();
        Rows { cells: (0..height).map(row).collect(), names: cells.iter().map(|(name, _)| name.clone()).collect() }
    }

    pub fn height(&self) -> usize {
        self.cells.len()
    }

    /// Lends the rows from one on.
    pub fn lend<T>(&self, from: usize, with: impl FnOnce(&abi::Batch) -> T) -> T {
        lend(&self.names, &self.cells[from.min(self.cells.len())..], with)
    }
}

/// Lends rows; without names they are the arguments of a function.
pub fn lend<T>(names: &[String], cells: &[Vec<Value>], with: impl FnOnce(&abi::Batch) -> T) -> T {
    let mut arena = Arena::default();
    let columns: Vec<abi::Str> = names.iter().map(|name| abi::Str::new(name)).collect();
    let values: Vec<abi::Value> = cells.iter().flatten().map(|value| arena.lend(value)).collect();
    with(&abi::Batch {
        size: std::mem::size_of::<abi::Batch>() as u32,
        flags: 0,
        columns: if names.is_empty() { std::ptr::null() } else { columns.as_ptr() },
        width: cells.first().map_or(0, Vec::len),
        height: cells.len(),
        values: values.as_ptr(),
        times: std::ptr::null(),
        metas: std::ptr::null(),
        properties: std::ptr::null(),
    })
}
