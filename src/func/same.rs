//! When two values are the same inside arrays: as `=` has it, and deeply.

use std::cmp::Ordering;

use crate::data::Value;

use super::args::order;

/// Numbers by value, arrays and objects by content, null like null.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => order(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// Bytes that are equal when the values are the same, so that sets of values can be made.
pub fn key(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, value);
    out
}

fn push(out: &mut Vec<u8>, value: &Value) {
    let framed = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Absent | Value::Null => out.push(0),
        Value::Bool(yes) => out.extend_from_slice(&[1, u8::from(*yes)]),
        Value::Int(_) | Value::Float(_) => match (value.as_i64(), value) {
            (Some(n), _) => framed(out, 2, &n.to_le_bytes()),
            (None, Value::Float(x)) => framed(out, 3, &x.to_le_bytes()),
            _ => {}
        },
        Value::Text(text) => framed(out, 4, text.as_bytes()),
        Value::Bytes(bytes) => framed(out, 5, bytes),
        Value::Time(time) => framed(out, 6, &time.nanos().to_le_bytes()),
        Value::Array(items) => {
            framed(out, 7, &(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| push(out, item));
        }
        Value::Object(object) => {
            framed(out, 8, &(object.len() as u64).to_le_bytes());
            for (name, value) in object.sorted() {
                framed(out, 9, name.as_bytes());
                push(out, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_agree_with_same() {
        let list = |items: &[Value]| Value::array(items.to_vec());
        let values = [
            Value::Null,
            Value::Int(1),
            Value::Float(1.0),
            Value::Float(1.5),
            Value::Int((1 << 53) + 1),
            Value::Float((1_u64 << 53) as f64),
            Value::text("1"),
            Value::bytes(b"1"),
            list(&[Value::Int(1)]),
            list(&[Value::Float(1.0)]),
            list(&[list(&[Value::Int(1)])]),
            list(&[]),
        ];
        for a in &values {
            for b in &values {
                assert_eq!(same(a, b), key(a) == key(b), "{a:?} {b:?}");
            }
        }
    }
}
