//! Values of case files: YAML's own kinds, and bytes, instants and errors as a map of one key.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;
use serde_yaml::{Mapping, Value as Yaml};

use crate::data::{DateTime, Object, Value};

use super::fields::{Read, kind};

/// Reads a value; `place` is for messages.
pub(super) fn value(place: &str, yaml: &Yaml) -> Read<Value> {
    match yaml {
        Yaml::Null => Ok(Value::Null),
        Yaml::Bool(yes) => Ok(Value::Bool(*yes)),
        Yaml::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(Value::Int(whole)),
            (None, Some(float)) if number.is_f64() => Ok(Value::Float(float)),
            _ => Err(format!("`{place}`: {number} does not fit a 64-bit integer")),
        },
        Yaml::String(text) => Ok(Value::text(text)),
        Yaml::Sequence(items) => Ok(Value::array(values(place, items)?)),
        Yaml::Mapping(map) => match special(place, map)? {
            Some(value) => Ok(value),
            None => Ok(Value::object(object(place, yaml)?)),
        },
        Yaml::Tagged(_) => Err(format!("`{place}`: tags are not used in case files")),
    }
}

/// Reads a list of values.
pub(super) fn values(place: &str, items: &[Yaml]) -> Read<Vec<Value>> {
    items.iter().enumerate().map(|(n, item)| value(&format!("{place}[{n}]"), item)).collect()
}

/// Reads a map of values, as a row is.
pub(super) fn object(place: &str, yaml: &Yaml) -> Read<Object> {
    let Yaml::Mapping(map) = yaml else {
        return Err(format!("`{place}` must be a map, found {}", kind(yaml)));
    };
    map.iter()
        .map(|(key, item)| match key {
            Yaml::String(name) => Ok((name.as_str(), value(&format!("{place}.{name}"), item)?)),
            other => Err(format!("`{place}`: a name must be a text (put it in quotes), found {}", kind(other))),
        })
        .collect()
}

fn special(place: &str, map: &Mapping) -> Read<Option<Value>> {
    let (1, Some((Yaml::String(key), inner))) = (map.len(), map.iter().next()) else { return Ok(None) };
    match (key.as_str(), inner) {
        ("$bytes", Yaml::String(text)) => match BASE64.decode(text) {
            Ok(bytes) => Ok(Some(Value::bytes(&bytes))),
            Err(_) => Err(format!("`{place}`: `$bytes` must be base64, found `{text}`")),
        },
        ("$datetime", Yaml::String(text)) => match instant(text) {
            Some(at) => Ok(Some(Value::Time(at))),
            None => Err(format!("`{place}`: `$datetime` must be a time in RFC 3339, found `{text}`")),
        },
        // No value of the engine is an error, so it can only stand where it is compared with itself.
        ("$error", Yaml::String(_)) => Ok(None),
        ("$bytes" | "$datetime" | "$error", other) => {
            Err(format!("`{place}`: `{key}` must be a text, found {}", kind(other)))
        }
        _ => Ok(None),
    }
}

fn instant(text: &str) -> Option<DateTime> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    Some(DateTime::from_offset(pieces.date().to_datetime(pieces.time()?), offset, jiff::tz::TimeZone::fixed(offset)))
}

/// YAML as JSON, for options, properties and settings.
pub(super) fn json(place: &str, yaml: &Yaml) -> Read<Json> {
    serde_json::to_value(yaml).map_err(|error| format!("`{place}` cannot be read: {error}"))
}

/// A JSON text as a value, numbers without a point or exponent as integers.
pub(super) fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::array(items.iter().map(of_json).collect()),
        Json::Object(map) => Value::object(map.iter().map(|(name, item)| (name.as_str(), of_json(item))).collect()),
    }
}

/// A value as it is written in a case file, on one line.
pub(super) fn show(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

/// A row as it is written in a case file, names in order.
pub(super) fn show_object(object: &Object) -> String {
    let mut out = String::new();
    push_object(&mut out, object);
    out
}

fn push(out: &mut String, value: &Value) {
    match value {
        Value::Absent | Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(whole) => {
            let _ = write!(out, "{whole}");
        }
        Value::Float(float) if float.is_nan() => out.push_str(".nan"),
        Value::Float(float) if float.is_infinite() => out.push_str(if *float > 0.0 { ".inf" } else { "-.inf" }),
        Value::Float(float) => {
            // Debug prints the shortest digits and always a point or an exponent.
            let _ = write!(out, "{float:?}");
        }
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::Bytes(bytes) => {
            let _ = write!(out, "{{$bytes: \"{}\"}}", BASE64.encode(bytes));
        }
        Value::Time(at) => {
            let _ = write!(out, "{{$datetime: \"{}\"}}", at.rfc3339());
        }
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { ", " });
                push(out, item);
            }
            out.push(']');
        }
        Value::Object(object) => push_object(out, object),
    }
}

fn push_object(out: &mut String, object: &Object) {
    out.push('{');
    for (n, (name, value)) in object.sorted().into_iter().enumerate() {
        out.push_str(if n == 0 { "" } else { ", " });
        if is_plain(name) {
            out.push_str(name);
        } else {
            out.push_str(&quoted(name));
        }
        out.push_str(": ");
        push(out, value);
    }
    out.push('}');
}

/// A text in double quotes, which YAML and JSON read alike.
pub(super) fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// Whether a name needs no quotes as a key.
fn is_plain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
        && !matches!(name.to_ascii_lowercase().as_str(), "null" | "true" | "false")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Read<Value> {
        value("v", &serde_yaml::from_str(text).unwrap())
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for text in [
            "null",
            "[1, 1.0, -3, 1e300, .nan, -.inf]",
            r#"{a: "x\ny", "null": true, "": {$bytes: "aGk="}, t: {$datetime: "2024-03-09T10:11:12.5Z"}}"#,
            r#"[{$datetime: "9999-12-31T23:59:59.999999999Z"}, {$datetime: "0001-01-01T00:00:00+01:00"}]"#,
            "9223372036854775807",
            "1000000.0",
        ] {
            let first = read(text).unwrap();
            assert_eq!(read(&show(&first)).unwrap(), first, "{text}");
        }
    }

    #[test]
    fn a_number_with_a_point_is_a_float() {
        assert_eq!(read("3").unwrap(), Value::Int(3));
        assert_eq!(read("3.0").unwrap(), Value::Float(3.0));
        assert_eq!(read("3e0").unwrap(), Value::Float(3.0));
        assert!(read("18446744073709551615").unwrap_err().contains("64-bit"));
    }

    #[test]
    fn special_maps_are_checked() {
        assert!(read("{$bytes: '?'}").unwrap_err().contains("base64"));
        assert!(read("{$datetime: 5}").unwrap_err().contains("must be a text"));
        assert_eq!(
            read("{$datetime: '1970-01-01T08:00:00+08:00'}").unwrap(),
            read("{$datetime: '1970-01-01T00:00:00Z'}").unwrap()
        );
    }
}
