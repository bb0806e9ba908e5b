//! Values on their way into a column.
//!
//! Instants are written in UTC, which is also what the connection's time zone is set to. A text that is an RFC 3339 time, and a whole number
//! (milliseconds since 1970), become instants where the column holds instants, for JSON has no other way to carry them.

use kuiper_plugin::{Time, Value};
use mysql_async::Value as Sql;

use crate::table::{Column, Type};

/// From here on a number in a column of instants is left to the server, which reads it as `YYYYMMDDhhmmss`.
const LATEST_MILLIS: i64 = 10_000_000_000_000;

/// What is bound for a value; the error says why the column cannot hold it.
pub fn bound(value: Value<'_>, column: &Column) -> Result<Sql, String> {
    Ok(match value {
        Value::Null => Sql::NULL,
        _ if column.kind == Type::Json && !matches!(value, Value::Text(_)) => text(&value.to_string()),
        Value::Bool(value) => Sql::Int(value.into()),
        Value::Int(millis) if is_instant(column.kind) && millis.abs() < LATEST_MILLIS => {
            instant(Time::utc(millis * 1_000_000), column.kind)
        }
        Value::Int(value) => Sql::Int(value),
        Value::Float(value) if !value.is_finite() => {
            return Err(format!("column `{}` cannot hold the number {value}", column.name));
        }
        Value::Float(value) => Sql::Double(value),
        Value::Text(value) => match rfc3339(value).filter(|_| is_instant(column.kind)) {
            Some(time) => instant(time, column.kind),
            None => text(value),
        },
        Value::Bytes(value) => Sql::Bytes(value.to_vec()),
        Value::Time(time) if is_instant(column.kind) => instant(time, column.kind),
        Value::Time(time) if column.kind == Type::Integer => Sql::Int(time.nanos.div_euclid(1_000_000)),
        Value::Time(time) => text(&time.to_string()),
        Value::Array(_) | Value::Object(_) => text(&value.to_string()),
    })
}

/// Bytes that a bound value takes in a packet, rather too many than too few.
pub fn size(value: &Sql) -> usize {
    match value {
        Sql::Bytes(bytes) => bytes.len() + 12,
        _ => 16,
    }
}

fn is_instant(kind: Type) -> bool {
    matches!(kind, Type::Instant | Type::Date)
}

fn text(text: &str) -> Sql {
    Sql::Bytes(text.as_bytes().to_vec())
}

fn instant(time: Time, kind: Type) -> Sql {
    let at = Time::utc(time.nanos).civil();
    let year = u16::try_from(at.year).unwrap_or(0);
    match kind {
        Type::Date => Sql::Date(year, at.month, at.day, 0, 0, 0, 0),
        _ => Sql::Date(year, at.month, at.day, at.hour, at.minute, at.second, at.nano / 1_000),
    }
}

/// Reads `2024-03-09T10:11:12.5+01:00`: only what says its zone is an instant.
fn rfc3339(text: &str) -> Option<Time> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            digits.parse().ok()
        } else {
            None
        }
    };
    let sign = |at: usize, known: &str| text.get(at..=at).filter(|sign| known.contains(*sign));
    sign(4, "-").and(sign(7, "-")).and(sign(10, "Tt ")).and(sign(13, ":")).and(sign(16, ":"))?;
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit())?;
            let digits: String = fraction[..end].chars().chain("000000000".chars()).take(9).collect();
            (digits.parse::<i64>().ok().filter(|_| end > 0)?, &fraction[end..])
        }
        None => (0, rest),
    };
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60;
            match &zone[..1] {
                "+" => seconds,
                "-" => -seconds,
                _ => return None,
            }
        }
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Time::utc)
}

/// Days from 1970-01-01.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Type) -> Column {
        Column { name: "c".to_owned(), kind }
    }

    #[test]
    fn instants_are_written_in_utc() {
        let written = Sql::Date(2024, 3, 9, 9, 11, 12, 500_000);
        for text in ["2024-03-09T10:11:12.5+01:00", "2024-03-09T09:11:12.500Z"] {
            assert_eq!(bound(Value::Text(text), &column(Type::Instant)), Ok(written.clone()));
        }
        let time = Time { nanos: 1_709_975_472_500_000_000, offset: 3600 };
        assert_eq!(bound(Value::Time(time), &column(Type::Instant)), Ok(written.clone()));
        assert_eq!(bound(Value::Int(1_709_975_472_500), &column(Type::Instant)), Ok(written));
        assert_eq!(bound(Value::Time(time), &column(Type::Date)), Ok(Sql::Date(2024, 3, 9, 0, 0, 0, 0)));
        assert_eq!(bound(Value::Time(time), &column(Type::Integer)), Ok(Sql::Int(1_709_975_472_500)));
        assert_eq!(bound(Value::Time(time), &column(Type::Other)), Ok(text("2024-03-09T10:11:12.500+01:00")));
    }

    #[test]
    fn other_text_is_left_to_the_server() {
        for given in [
            "2024-03-09 10:11:12",
            "2024-13-01T00:00:00Z",
            "yesterday",
            "2024-03-09T10:11:12.Z",
            "2024-03-09T1é:11:12Z",
        ] {
            assert_eq!(bound(Value::Text(given), &column(Type::Instant)), Ok(text(given)));
        }
        assert_eq!(bound(Value::Int(20_240_309_101_112), &column(Type::Instant)), Ok(Sql::Int(20_240_309_101_112)));
    }

    #[test]
    fn booleans_floats_and_json() {
        assert_eq!(bound(Value::Bool(true), &column(Type::Integer)), Ok(Sql::Int(1)));
        assert_eq!(bound(Value::Bool(true), &column(Type::Json)), Ok(text("true")));
        assert_eq!(bound(Value::Text("{}"), &column(Type::Json)), Ok(text("{}")));
        assert_eq!(
            bound(Value::Float(f64::NAN), &column(Type::Other)),
            Err("column `c` cannot hold the number NaN".to_owned())
        );
    }
}
