//! Conversions between kinds of values, for casts, declared columns, strict validation and function arguments.
//!
//! A [`Strictness`] says how far a conversion may go: `Strict` stays within the kind (a float without a fraction is an
//! integer), `SameKind` also turns integers into floats and cuts floats to integers, `All` also reads text, booleans
//! and null. A conversion that would lose the value, such as a float beyond 64 bits, is an error and never a wrong
//! number. Errors are evaluation faults that say what was found.

pub mod json;

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use jiff::tz::TimeZone;

use crate::diag::{Fault, Result};

use super::{DateTime, Kind, Object, Text, Time, Value, parse_datetime, push_general_float, push_json_float};

/// How far a conversion may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strictness {
    Strict,
    SameKind,
    All,
}

use Strictness::{All, SameKind, Strict};

/// Standard base64 with padding; stray bits in the last digit are let pass.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// How a text is read as a datetime.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// A pattern such as `yyyy-MM-dd`, tried before the known layouts.
    pub format: Option<&'a str>,
    /// Meant where the text names none.
    pub zone: &'a TimeZone,
    /// Gives the parts of the date that the text leaves out.
    pub now: Time,
}

/// The kind that `cast(x, "name")` names; the words are lower case.
pub fn kind_of_name(name: &str) -> Option<Kind> {
    Some(match name {
        "bigint" => Kind::Bigint,
        "float" => Kind::Float,
        "string" => Kind::String,
        "boolean" => Kind::Boolean,
        "datetime" => Kind::Datetime,
        "bytea" => Kind::Bytea,
        _ => return None,
    })
}

/// The value as a scalar kind, by every rule there is; null stays null.
pub fn cast(value: &Value, kind: &Kind, reading: &Reading<'_>) -> Result<Value> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match kind {
        Kind::Bigint => to_bigint(value, All).map(Value::Int),
        Kind::Float => to_float(value, All).map(Value::Float),
        Kind::String => to_text(value, All).map(Value::Text),
        Kind::Boolean => to_boolean(value, All).map(Value::Bool),
        Kind::Datetime => to_datetime(value, reading).map(Value::Time),
        Kind::Bytea => to_bytea(value).map(Value::Bytes),
        Kind::Array(_) | Kind::Struct(_) => Err(cannot(value, kind.name())),
    }
}

/// The value as a declared column takes it under strict validation: numbers change between integer and float, text is
/// read as a datetime, arrays and structs are checked to their leaves. Null is an error for a scalar.
pub fn conform(value: &Value, kind: &Kind, reading: &Reading<'_>) -> Result<Value> {
    match kind {
        Kind::Bigint => to_bigint(value, SameKind).map(Value::Int),
        Kind::Float => to_float(value, SameKind).map(Value::Float),
        Kind::String => to_text(value, SameKind).map(Value::Text),
        Kind::Boolean => to_boolean(value, SameKind).map(Value::Bool),
        Kind::Datetime => to_datetime(value, reading).map(Value::Time),
        Kind::Bytea => to_bytea(value).map(Value::Bytes),
        Kind::Array(_) | Kind::Struct(_) if value.is_null() => Ok(Value::Null),
        Kind::Array(item) => match value {
            Value::Array(items) => {
                Ok(Value::array(items.iter().map(|value| conform(value, item, reading)).collect::<Result<Vec<_>>>()?))
            }
            _ => Err(cannot(value, kind.name())),
        },
        Kind::Struct(members) => match value {
            Value::Object(object) => conform_struct(object, members, reading),
            Value::Text(text) => match json::parse(text.as_bytes()) {
                Ok(Value::Object(object)) => conform_struct(&object, members, reading),
                _ => Err(cannot(value, kind.name())),
            },
            _ => Err(cannot(value, kind.name())),
        },
    }
}

fn conform_struct(object: &Object, members: &[(Text, Kind)], reading: &Reading<'_>) -> Result<Value> {
    let mut out = Object::with_capacity(members.len());
    for (name, kind) in members {
        let Some(value) = object.get(name) else {
            return Err(Fault::eval(format!("member `{name}` is not there, expected a {}", kind.name())));
        };
        let value = conform(value, kind, reading).map_err(|fault| fault.context(format_args!("member `{name}`: ")))?;
        out.insert(name.clone(), value);
    }
    Ok(Value::object(out))
}

/// A 64-bit integer. `SameKind` cuts the fraction of a float; `All` reads text with a sign and the prefixes `0x`, `0o`
/// and `0b`, takes true as 1, and null as 0.
pub fn to_bigint(value: &Value, strictness: Strictness) -> Result<i64> {
    let found = match value {
        Value::Int(n) => Some(*n),
        Value::Float(x) if strictness == Strict => value.as_i64().filter(|_| x.fract() == 0.0),
        Value::Float(x) => Value::Float(x.trunc()).as_i64(),
        Value::Text(text) if strictness == All => parse_int(text),
        Value::Bool(yes) if strictness == All => Some(i64::from(*yes)),
        Value::Absent | Value::Null if strictness == All => Some(0),
        _ => None,
    };
    found.ok_or_else(|| cannot(value, "bigint"))
}

/// Digits with an optional sign and base prefix, within 64 bits. A leading zero does not change the base.
fn parse_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (base, digits) = match prefix.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(digits, base).ok()?);
    i64::try_from(if negative { -size } else { size }).ok()
}

/// A float. `SameKind` takes integers; `All` reads decimal text, `NaN` and `Inf`, takes true as 1, and null as 0.
pub fn to_float(value: &Value, strictness: Strictness) -> Result<f64> {
    let found = match value {
        Value::Float(x) => Some(*x),
        Value::Int(n) if strictness != Strict => Some(*n as f64),
        Value::Text(text) if strictness == All => parse_float(text),
        Value::Bool(yes) if strictness == All => Some(f64::from(u8::from(*yes))),
        Value::Absent | Value::Null if strictness == All => Some(0.0),
        _ => None,
    };
    found.ok_or_else(|| cannot(value, "float"))
}

/// Infinity only when the text says so: a number too large for a float is not one.
fn parse_float(text: &str) -> Option<f64> {
    let x: f64 = text.parse().ok()?;
    (x.is_finite() || text.bytes().any(|letter| letter.eq_ignore_ascii_case(&b'n'))).then_some(x)
}

/// Text. Below `All` only text and bytes are; `All` writes numbers in plain decimals, datetimes in RFC 3339, arrays
/// and objects as JSON, and null as the empty text.
pub fn to_text(value: &Value, strictness: Strictness) -> Result<Text> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bytes(bytes) => Ok(Text::from_utf8_lossy(bytes)),
        Value::Float(x) if strictness == All => Ok(plain_float(*x)),
        _ if strictness == All => Ok(printed(value)),
        _ => Err(cannot(value, "string")),
    }
}

/// A float in plain decimals, never with an exponent.
pub fn plain_float(x: f64) -> Text {
    if x.is_nan() {
        Text::const_new("NaN")
    } else if x.is_infinite() {
        Text::const_new(if x > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        Text::from(format!("{x}"))
    }
}

/// The value as text functions and digests see it. Floats keep an exponent below 1e-4 and from 1e21 (`1e-05`); arrays
/// and objects are JSON text, bytes are the text that they hold, null is empty.
pub fn printed(value: &Value) -> Text {
    match value {
        Value::Absent | Value::Null => Text::default(),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => Text::from_utf8_lossy(bytes),
        Value::Bool(yes) => Text::const_new(if *yes { "true" } else { "false" }),
        Value::Int(n) => Text::new(itoa::Buffer::new().format(*n)),
        Value::Float(x) => {
            let mut out = Vec::with_capacity(24);
            if (1e6..1e21).contains(&x.abs()) {
                push_json_float(&mut out, *x);
            } else {
                push_general_float(&mut out, *x);
            }
            Text::from_utf8_lossy(&out)
        }
        Value::Time(time) => Text::from(time.rfc3339()),
        Value::Array(_) | Value::Object(_) => Text::from(json::text_lossy(value)),
    }
}

/// A boolean. `All` takes numbers other than 0 as true, the words 1, t, true, 0, f, false in their usual spellings,
/// and null as false.
pub fn to_boolean(value: &Value, strictness: Strictness) -> Result<bool> {
    let found = match value {
        Value::Bool(yes) => Some(*yes),
        Value::Int(n) if strictness == All => Some(*n != 0),
        Value::Float(x) if strictness == All => Some(*x != 0.0),
        Value::Text(text) if strictness == All => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        },
        Value::Absent | Value::Null if strictness == All => Some(false),
        _ => None,
    };
    found.ok_or_else(|| cannot(value, "boolean"))
}

/// Bytes: text is read as base64, or taken as it is when it is none.
pub fn to_bytea(value: &Value) -> Result<Arc<[u8]>> {
    match value {
        Value::Bytes(bytes) => Ok(bytes.clone()),
        Value::Text(text) => Ok(from_base64(text).unwrap_or_else(|| text.as_bytes().to_vec()).into()),
        _ => Err(cannot(value, "bytea")),
    }
}

/// The bytes of padded base64; line breaks inside are let pass.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains(['\r', '\n']) {
        return BASE64.decode(text.replace(['\r', '\n'], "")).ok();
    }
    BASE64.decode(text).ok()
}

/// Padded base64.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// An instant. Numbers are epoch milliseconds in the zone of the reading; text keeps the zone that it names.
pub fn to_datetime(value: &Value, reading: &Reading<'_>) -> Result<DateTime> {
    let found = match value {
        Value::Time(time) => Some(time.clone()),
        Value::Int(millis) => Some(DateTime::from_millis(*millis, reading.zone.clone())),
        Value::Float(millis) => {
            Value::Float(millis.trunc()).as_i64().map(|millis| DateTime::from_millis(millis, reading.zone.clone()))
        }
        Value::Text(text) => parse_datetime(text, reading.format, reading.zone, reading.now),
        _ => None,
    };
    found.ok_or_else(|| cannot(value, "datetime"))
}

/// The fault of a value that has no form of that kind.
pub fn cannot(value: &Value, kind: &str) -> Fault {
    Fault::eval(format!("cannot convert {} to {kind}", shown(value)))
}

/// A value in a message: its type and, cut to a line, its text.
pub fn shown(value: &Value) -> String {
    if value.is_null() {
        return "null".into();
    }
    let text = printed(value);
    let cut: String = text.chars().take(40).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{} `{cut}{dots}`", value.type_name())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn int(text: &str) -> Option<i64> {
        to_bigint(&Value::text(text), All).ok()
    }

    #[test]
    fn text_becomes_an_integer_without_octal_surprises() {
        assert_eq!(int("0b101"), Some(5));
        assert_eq!(int("-0x10"), Some(-16));
        assert_eq!(int("+7"), Some(7));
        assert_eq!(int("010"), Some(10));
        assert_eq!(int("-9223372036854775808"), Some(i64::MIN));
        for wrong in ["1_000", "9223372036854775808", "", "+", "--1", "0x-1", "1.5", "é", "0é"] {
            assert_eq!(int(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn floats_are_cut_within_64_bits_only() {
        assert_eq!(to_bigint(&Value::Float(-3.99), SameKind).unwrap(), -3);
        assert!(to_bigint(&Value::Float(3.5), Strict).is_err());
        assert_eq!(to_bigint(&Value::Float(3.0), Strict).unwrap(), 3);
        for wrong in [1e19, f64::NAN, f64::INFINITY] {
            assert!(to_bigint(&Value::Float(wrong), All).is_err());
        }
        assert_eq!(parse_float("1e3"), Some(1000.0));
        assert_eq!(parse_float("1e400"), None);
        assert_eq!(parse_float("-Inf"), Some(f64::NEG_INFINITY));
    }

    #[test]
    fn text_forms() {
        let cast_to_text = |value: Value| to_text(&value, All).unwrap().to_string();
        assert_eq!(cast_to_text(Value::Float(1e22)), "10000000000000000000000");
        assert_eq!(cast_to_text(Value::Float(1e-7)), "0.0000001");
        assert_eq!(printed(&Value::Float(1e22)), "1e+22");
        assert_eq!(printed(&Value::Float(1e6)), "1000000");
        assert_eq!(printed(&Value::Float(1e-5)), "1e-05");
        assert_eq!(printed(&Value::bytes(b"hi")), "hi");
        assert_eq!(printed(&Value::array(vec![Value::Null, Value::text("x")])), r#"[null,"x"]"#);
        assert!(to_text(&Value::Int(1), SameKind).is_err());
    }

    const READING: Reading<'_> = Reading { format: None, zone: &TimeZone::UTC, now: Time(0) };

    #[test]
    fn strict_validation_reaches_into_structs() {
        let kind = Kind::Struct(vec![("a".into(), Kind::Bigint), ("b".into(), Kind::Array(Box::new(Kind::Float)))]);
        let wanted = Object::from_iter([("a", Value::Int(3)), ("b", Value::array(vec![Value::Float(1.0)]))]);
        let got = conform(&Value::text(r#"{"a":3.9,"b":[1],"c":0}"#), &kind, &READING).unwrap();
        assert_eq!(got, Value::object(wanted));
        let wrong = Value::object(Object::from_iter([("a", Value::Null)]));
        let fault = conform(&wrong, &kind, &READING).unwrap_err();
        assert_eq!(fault, Fault::eval("member `a`: cannot convert null to bigint"));
        assert_eq!(conform(&Value::Null, &kind, &READING).unwrap(), Value::Null);
    }

    #[test]
    fn datetimes_from_numbers_and_text() {
        let read =
            |value: Value, format| to_datetime(&value, &Reading { format, ..READING }).map(|time| time.rfc3339());
        assert_eq!(read(Value::Float(1_700_000_000_123.9), None).unwrap(), "2023-11-14T22:13:20.123Z");
        assert_eq!(read(Value::text("2024-03-09T10:11:12+08:00"), None).unwrap(), "2024-03-09T10:11:12+08:00");
        assert_eq!(read(Value::text("09/03/2024"), Some("dd/MM/yyyy")).unwrap(), "2024-03-09T00:00:00Z");
        assert!(read(Value::text("2024-02-30"), None).is_err());
        assert!(read(Value::Bool(true), None).is_err());
    }

    #[test]
    fn bytes_are_base64_or_the_text_itself() {
        assert_eq!(&*to_bytea(&Value::text("aGk=")).unwrap(), b"hi");
        assert_eq!(&*to_bytea(&Value::text("hello!")).unwrap(), b"hello!");
        assert_eq!(from_base64("YQ"), None);
        assert_eq!(from_base64("YW\r\nJj").unwrap(), b"abc");
        assert!(to_bytea(&Value::Bool(true)).is_err());
    }
}
