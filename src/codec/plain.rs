//! What the formats without types have in common: where a named text goes, and how a value is written as text.

use std::collections::HashMap;
use std::io::Write as _;

use crate::data::{Object, Text, Value, push_json_float};

use super::{Wanted, json};

/// Where the value of a name goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Skip,
    Slot(usize),
    /// Into the rest, under this name.
    Rest(Text),
}

/// The wanted columns by name.
pub(super) struct Places {
    slots: HashMap<Text, usize>,
    rest: Option<usize>,
}

impl Places {
    pub fn new(wanted: &Wanted) -> Self {
        Places {
            slots: wanted.columns.iter().map(|column| (column.name.clone(), column.slot)).collect(),
            rest: wanted.rest,
        }
    }

    pub fn of(&self, name: &str) -> Place {
        match (self.slots.get(name), self.rest) {
            (Some(&slot), _) => Place::Slot(slot),
            (None, Some(_)) => Place::Rest(name.into()),
            (None, None) => Place::Skip,
        }
    }

    /// Puts the rest into its slot, where one is wanted.
    pub fn finish(&self, row: &mut [Value], others: Object) {
        if let Some(rest) = self.rest {
            row[rest] = Value::object(others);
        }
    }
}

/// Appends a value as plain text: numbers in decimals without exponent, bytes as they are, null as nothing, arrays and
/// objects as JSON.
pub(super) fn push_plain(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Absent | Value::Null => {}
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Time(time) => out.extend_from_slice(time.rfc3339().as_bytes()),
        Value::Float(x) if x.is_nan() => out.extend_from_slice(b"NaN"),
        Value::Float(x) if x.is_infinite() => out.extend_from_slice(if *x > 0.0 { b"+Inf" } else { b"-Inf" }),
        Value::Float(x) if *x == 0.0 || (1e-6..1e21).contains(&x.abs()) => push_json_float(out, *x),
        // The standard library never writes an exponent. Writing to memory cannot fail.
        Value::Float(x) => drop(write!(out, "{x}")),
        Value::Bool(_) | Value::Int(_) | Value::Array(_) | Value::Object(_) => json::print(out, value),
    }
}
