//! Times: `now`, and dates in Go's layouts (`2006-01-02 15:04:05`).

use std::fmt::Write as _;

use gtmpl_ng::{FuncError, Value};
use jiff::{Timestamp, Zoned};

use super::funcs::{Outcome, exactly, facts, fail, int};

/// The time as RFC 3339 text, in the zone of the process.
pub(super) fn now(args: &[Value]) -> Outcome {
    let [] = exactly("now", args)?;
    let facts = facts()?;
    let now = Timestamp::from_millisecond(facts.clock.now().0).map_err(|error| fail(error.to_string()))?;
    Ok(Value::String(now.to_zoned(facts.zone).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()))
}

/// RFC 3339 text, or seconds since 1970.
fn time(value: &Value) -> Result<Zoned, FuncError> {
    let facts = facts()?;
    let at: Timestamp = match value {
        Value::String(text) => text.parse().map_err(|_| fail(format!("`{text}` is not a time as RFC 3339 writes it"))),
        other => Timestamp::from_second(int(other)).map_err(|error| fail(error.to_string())),
    }?;
    Ok(at.to_zoned(facts.zone))
}

/// Seconds since 1970, as text.
pub(super) fn unix_epoch(args: &[Value]) -> Outcome {
    let [value] = exactly("unixEpoch", args)?;
    Ok(Value::String(time(value)?.timestamp().as_second().to_string()))
}

/// `date layout time`
pub(super) fn date(args: &[Value]) -> Outcome {
    let [layout, value] = exactly("date", args)?;
    let (Value::String(layout), time) = (layout, time(value)?) else {
        return Err(fail(format!("`date` takes a layout first, found `{layout}`")));
    };
    Ok(Value::String(formatted(layout, &time)))
}

/// What may stand in a layout, and how `strftime` calls it. Where two begin alike the longer one is first.
const ELEMENTS: &[(&str, &str)] = &[
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

fn formatted(layout: &str, time: &Zoned) -> String {
    let mut out = String::new();
    let mut left = layout;
    while let Some(c) = left.chars().next() {
        if let Some((digits, taken)) = fraction(left, time) {
            out.push_str(&digits);
            left = &left[taken..];
        } else if let Some((element, written)) = zulu(left) {
            let text = if time.offset().seconds() == 0 { "Z".into() } else { time.strftime(written).to_string() };
            out.push_str(&text);
            left = &left[element..];
        } else if let Some((element, written)) = ELEMENTS.iter().find(|(element, _)| left.starts_with(element)) {
            let _ = write!(out, "{}", time.strftime(written));
            left = &left[element.len()..];
        } else {
            out.push(c);
            left = &left[c.len_utf8()..];
        }
    }
    out
}

/// `Z07:00` and `Z0700`: a Z for UTC.
fn zulu(layout: &str) -> Option<(usize, &'static str)> {
    [("Z07:00", "%:z"), ("Z0700", "%z")]
        .into_iter()
        .find(|(element, _)| layout.starts_with(element))
        .map(|(element, written)| (element.len(), written))
}

/// `.000` with all digits, `.999` without zeros at the end; also after a comma.
fn fraction(layout: &str, time: &Zoned) -> Option<(String, usize)> {
    let point = layout.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = layout.chars().nth(1).filter(|c| matches!(c, '0' | '9'))?;
    let count = layout[1..].chars().take_while(|c| *c == digit).count();
    if count > 9 || layout[1 + count..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let all = format!("{:09}", time.timestamp().subsec_nanosecond().rem_euclid(1_000_000_000));
    let digits = if digit == '9' { all[..count].trim_end_matches('0') } else { &all[..count] };
    Some((if digits.is_empty() { String::new() } else { format!("{point}{digits}") }, 1 + count))
}
