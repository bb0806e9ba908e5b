//! How values read as text, as eKuiper's users see it: in JSON, in text functions and in group keys.

use std::fmt::Write as _;

use super::{Object, Text, Value};

/// Appends a finite float as JSON writes it: shortest digits that read back the same, no fraction when whole, an
/// exponent below 1e-6 and from 1e21.
pub fn push_json_float(out: &mut Vec<u8>, x: f64) {
    if x.fract() == 0.0 && x.abs() < 1e15 {
        if x == 0.0 && x.is_sign_negative() {
            out.extend_from_slice(b"-0");
        } else {
            out.extend_from_slice(itoa::Buffer::new().format(x as i64).as_bytes());
        }
        return;
    }
    let size = x.abs();
    let scientific = !(1e-6..1e21).contains(&size);
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(x);
    // Most floats are short, and stand there as they shall.
    if !scientific && !text.contains('e') {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    }
    push_float(out, x, scientific, 1);
}

/// Appends a float as text functions and group keys print it: shortest digits, and an exponent of at least two digits
/// when the decimal exponent is below -4 or from 6 on (`1e+06`).
pub fn push_general_float(out: &mut Vec<u8>, x: f64) {
    if x.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if x.is_infinite() {
        out.extend_from_slice(if x > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        let exponent = decimal_exponent(x);
        push_float(out, x, x != 0.0 && !(-4..6).contains(&exponent), 2);
    }
}

fn decimal_exponent(x: f64) -> i32 {
    let mut buffer = zmij::Buffer::new();
    let (_, exponent) = digits(buffer.format_finite(x.abs()));
    exponent
}

/// The significant digits of a printed float, and the decimal exponent of the first of them.
fn digits(text: &str) -> (String, i32) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.trim_start_matches('+').parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let zeros = all.len() - all.trim_start_matches('0').len();
    let significant = all.trim_matches('0');
    if significant.is_empty() {
        return ("0".into(), 0);
    }
    (significant.into(), exponent + whole.len() as i32 - 1 - zeros as i32)
}

fn push_float(out: &mut Vec<u8>, x: f64, scientific: bool, exponent_digits: usize) {
    let mut buffer = zmij::Buffer::new();
    let (digits, exponent) = digits(buffer.format_finite(x.abs()));
    if x.is_sign_negative() {
        out.push(b'-');
    }
    if scientific {
        out.extend_from_slice(&digits.as_bytes()[..1]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits.as_bytes()[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let text = exponent.unsigned_abs().to_string();
        out.extend(std::iter::repeat_n(b'0', exponent_digits.saturating_sub(text.len())));
        out.extend_from_slice(text.as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits.as_bytes());
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.extend_from_slice(digits.as_bytes());
            out.extend(std::iter::repeat_n(b'0', whole - digits.len()));
        } else {
            out.extend_from_slice(&digits.as_bytes()[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits.as_bytes()[whole..]);
        }
    }
}

impl Value {
    /// The generic printed form, used by text functions, group keys and digests: `1e+06`, `[1 2]`, `map[k:v]` with
    /// sorted keys; null is the empty text at the top and `<nil>` inside.
    pub fn print(&self) -> Text {
        match self {
            Value::Text(text) => text.clone(),
            Value::Absent | Value::Null => Text::default(),
            other => {
                let mut out = String::new();
                push_printed(&mut out, other);
                out.into()
            }
        }
    }
}

fn push_printed(out: &mut String, value: &Value) {
    match value {
        Value::Absent | Value::Null => out.push_str("<nil>"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(n) => out.push_str(itoa::Buffer::new().format(*n)),
        Value::Float(x) => {
            let mut digits = Vec::with_capacity(24);
            push_general_float(&mut digits, *x);
            out.push_str(&String::from_utf8_lossy(&digits));
        }
        Value::Text(text) => out.push_str(text),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Time(time) => out.push_str(&time.rfc3339()),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(' ');
                }
                push_printed(out, item);
            }
            out.push(']');
        }
        Value::Object(object) => push_printed_object(out, object),
    }
}

fn push_printed_object(out: &mut String, object: &Object) {
    out.push_str("map[");
    for (n, (name, value)) in object.sorted().into_iter().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        let _ = write!(out, "{name}:");
        push_printed(out, value);
    }
    out.push(']');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(push: fn(&mut Vec<u8>, f64), x: f64) -> String {
        let mut out = Vec::new();
        push(&mut out, x);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_floats_follow_the_exponent_rule() {
        let shown: Vec<_> = [3.0, 1e20, 1e21, 0.000001, 1e-7, 2.5, -0.1, 123456789.125, 1.5e300]
            .into_iter()
            .map(|x| text(push_json_float, x))
            .collect();
        let wanted =
            ["3", "100000000000000000000", "1e+21", "0.000001", "1e-7", "2.5", "-0.1", "123456789.125", "1.5e+300"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn printed_floats_follow_the_other_rule() {
        let shown: Vec<_> = [100000.0, 1000000.0, 123456789.0, 0.00001, 5.0, 0.0001, -2.5]
            .into_iter()
            .map(|x| text(push_general_float, x))
            .collect();
        assert_eq!(shown, ["100000", "1e+06", "1.23456789e+08", "1e-05", "5", "0.0001", "-2.5"]);
    }

    #[test]
    fn nested_values_print_as_in_go() {
        let object = Object::from_iter([("b", Value::Int(2)), ("a", Value::array(vec![Value::Int(1), Value::Null]))]);
        assert_eq!(Value::object(object).print(), "map[a:[1 <nil>] b:2]");
    }
}
