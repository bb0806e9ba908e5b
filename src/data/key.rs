//! Values as bytes, by which rows are found.

use super::Value;

/// Adds a value to a key, so that lists of values have the same key only when they are the same, value by value. As in
/// `=`, an integer and a float of the same number are the same; text and number never are, and null is the same as null.
pub fn add(key: &mut Vec<u8>, value: &Value) {
    let mut put = |tag: u8, bytes: &[u8]| {
        key.push(tag);
        key.extend_from_slice(bytes);
    };
    match value {
        Value::Absent | Value::Null => put(0, &[]),
        Value::Bool(yes) => put(1, &[u8::from(*yes)]),
        Value::Int(n) => put(2, &n.to_be_bytes()),
        Value::Float(x) => match value.as_i64() {
            Some(n) => put(2, &n.to_be_bytes()),
            None if x.is_nan() => put(3, &f64::NAN.to_bits().to_be_bytes()),
            None => put(3, &x.to_bits().to_be_bytes()),
        },
        Value::Text(text) => {
            put(4, &(text.len() as u64).to_be_bytes());
            key.extend_from_slice(text.as_bytes());
        }
        Value::Bytes(bytes) => {
            put(5, &(bytes.len() as u64).to_be_bytes());
            key.extend_from_slice(bytes);
        }
        Value::Time(time) => put(6, &time.nanos().to_be_bytes()),
        Value::Array(items) => {
            put(7, &(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| add(key, item));
        }
        Value::Object(object) => {
            put(8, &(object.len() as u64).to_be_bytes());
            for (name, value) in object.sorted() {
                key.extend_from_slice(&(name.len() as u64).to_be_bytes());
                key.extend_from_slice(name.as_bytes());
                add(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[Value]) -> Vec<u8> {
        let mut key = Vec::new();
        values.iter().for_each(|value| add(&mut key, value));
        key
    }

    #[test]
    fn only_the_same_values_have_the_same_key() {
        let text = Value::text;
        let object = |n: i64| Value::object([("a", Value::Int(n)), ("b", Value::Null)].into_iter().collect());
        let turned = Value::object([("b", Value::Null), ("a", Value::Int(1))].into_iter().collect());
        assert_eq!(key(&[Value::Int(1), Value::Null]), key(&[Value::Float(1.0), Value::Absent]));
        assert_eq!(key(&[Value::Float(0.0)]), key(&[Value::Float(-0.0)]));
        assert_eq!(key(&[object(1)]), key(&[turned]));
        let all = [
            vec![text("a"), text("bc")],
            vec![text("ab"), text("c")],
            vec![text("abc")],
            vec![Value::Int(1)],
            vec![text("1")],
            vec![Value::bytes(b"1")],
            vec![Value::Bool(true)],
            vec![Value::Float(1.5)],
            vec![Value::Null],
            vec![Value::array(vec![])],
            vec![Value::array(vec![Value::Int(1)])],
            vec![Value::array(vec![]), Value::Int(1)],
            vec![Value::Int(9_007_199_254_740_993)],
            vec![Value::Float(9_007_199_254_740_992.0)],
            vec![object(1)],
            vec![object(2)],
        ];
        for (n, one) in all.iter().enumerate() {
            for other in &all[..n] {
                assert_ne!(key(one), key(other), "{one:?} and {other:?}");
            }
        }
    }
}
