//! Values of ours to values of `gtmpl_ng`, and back.

use std::collections::HashMap;

use gtmpl_ng::{Number, NumberKind, Value as Go};

use crate::data::{Object, Value};

/// Bytes become base64 text and datetimes RFC 3339 text, as in JSON.
pub(super) fn into(value: &Value) -> Go {
    match value {
        Value::Absent | Value::Null => Go::Nil,
        Value::Bool(yes) => Go::Bool(*yes),
        Value::Int(n) => Go::Number(Number::signed(*n)),
        Value::Float(x) => Go::Number(Number::float(*x)),
        Value::Text(text) => Go::String(text.as_str().into()),
        Value::Bytes(bytes) => Go::String(super::codes::base64(bytes)),
        Value::Time(time) => Go::String(time.rfc3339()),
        Value::Array(items) => Go::Array(items.iter().map(into).collect()),
        Value::Object(object) => Go::Map(map(object)),
    }
}

fn map(object: &Object) -> HashMap<String, Go> {
    object.iter().map(|(name, value)| (name.as_str().into(), into(value))).collect()
}

/// A function of the template is nothing; a number beyond the integers is a float.
pub(super) fn from(value: &Go) -> Value {
    match value {
        Go::NoValue | Go::Nil | Go::Function(_) => Value::Null,
        Go::Bool(yes) => Value::Bool(*yes),
        Go::String(text) => Value::text(text),
        Go::Number(number) => match number.kind() {
            NumberKind::Float(x) => Value::Float(x),
            NumberKind::Signed(n) => Value::Int(n),
            NumberKind::Unsigned(n) => i64::try_from(n).map_or(Value::Float(n as f64), Value::Int),
        },
        Go::Array(items) => Value::array(items.iter().map(from).collect()),
        Go::Map(entries) | Go::Object(entries) => {
            Value::object(entries.iter().map(|(name, value)| (name, from(value))).collect())
        }
    }
}
