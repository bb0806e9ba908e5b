//! Values as JSON text, and back. Integers stay 64-bit integers; a number beyond them is a float.

use crate::diag::{Fault, Result};

use super::super::{Object, Text, Value, push_json_float};

/// JSON text with sorted keys; `<`, `>`, `&` and line separators are escaped, bytes are base64, datetimes RFC 3339.
///
/// # Errors
/// A float that is not finite has no JSON form.
pub fn text(value: &Value) -> Result<String> {
    let mut out = Vec::new();
    if push(&mut out, value) {
        Ok(String::from_utf8_lossy(&out).into_owned())
    } else {
        Err(Fault::eval("a float that is not a number or not finite has no JSON form"))
    }
}

/// The same, with null in place of a float that is not finite.
pub fn text_lossy(value: &Value) -> String {
    let mut out = Vec::new();
    push(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends the JSON text of a value; false when a float that is not finite became null.
fn push(out: &mut Vec<u8>, value: &Value) -> bool {
    let mut exact = true;
    match value {
        Value::Absent | Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Value::Float(x) if x.is_finite() => push_json_float(out, *x),
        Value::Float(_) => {
            out.extend_from_slice(b"null");
            exact = false;
        }
        Value::Text(text) => push_text(out, text),
        Value::Bytes(bytes) => push_text(out, &super::base64(bytes)),
        Value::Time(time) => push_text(out, &time.rfc3339()),
        Value::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                exact &= push(out, item);
            }
            out.push(b']');
        }
        Value::Object(object) => {
            out.push(b'{');
            for (n, (name, value)) in object.sorted().into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                push_text(out, name);
                out.push(b':');
                exact &= push(out, value);
            }
            out.push(b'}');
        }
    }
    exact
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' | '\0'..'\u{20}' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", letter as u32).as_bytes());
            }
            _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The value of a JSON text. Of a repeated key the last one counts.
pub fn parse(text: &[u8]) -> Result<Value> {
    let parsed: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| Fault::eval(format!("cannot read JSON: {error}")))?;
    Ok(from_serde(parsed))
}

fn from_serde(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(yes) => Value::Bool(yes),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(n) => Value::Int(n),
            None => number.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => Value::array(items.into_iter().map(from_serde).collect()),
        serde_json::Value::Object(map) => Value::object(
            map.into_iter().map(|(name, value)| (Text::from(name), from_serde(value))).collect::<Object>(),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads() {
        let value = parse(br#"{"b":[1,2.5,null,"a<b"],"a":9007199254740993,"a":-9007199254740993}"#).unwrap();
        assert_eq!(text(&value).unwrap(), r#"{"a":-9007199254740993,"b":[1,2.5,null,"a\u003cb"]}"#);
        assert_eq!(text(&Value::text("\u{2028}\u{1}")).unwrap(), r#""\u2028\u0001""#);
        assert!(text(&Value::array(vec![Value::Float(f64::NAN)])).is_err());
        assert!(parse(b"1 2").is_err());
    }
}
