//! Times in the format of `dateTimeFormat`: `YYYY` year, `MM` month, `dd` day, `HH` hour, `mm` minute, `ss` second, `SSS` thousandths.

use kuiper_plugin::Time;

use crate::cell::days;

/// What stands where no format is given.
pub const FORMAT: &str = "YYYY-MM-dd HH:mm:ss";

const TOKENS: &[(&str, usize)] =
    &[("YYYY", 0), ("yyyy", 0), ("MM", 1), ("dd", 2), ("DD", 2), ("HH", 3), ("mm", 4), ("ss", 5), ("SSS", 6)];

/// Tokens and what stands between them.
fn parts(format: &str) -> Vec<Result<(usize, usize), char>> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        match TOKENS.iter().find(|(token, _)| rest.starts_with(token)) {
            Some((token, field)) => {
                parts.push(Ok((*field, token.len())));
                rest = &rest[token.len()..];
            }
            None => {
                parts.push(Err(letter));
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    parts
}

/// Reads a time in UTC.
pub fn read(text: &str, format: &str) -> Option<Time> {
    let mut fields = [1970, 1, 1, 0, 0, 0, 0];
    let mut rest = text;
    for part in parts(format) {
        match part {
            Ok((field, width)) => {
                let digits = rest.get(..width).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
                fields[field] = digits.parse().ok()?;
                rest = &rest[width..];
            }
            Err(letter) => rest = rest.strip_prefix(letter)?,
        }
    }
    let [year, month, day, hour, minute, second, millis]: [i64; 7] = fields;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !fits || !rest.is_empty() {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(millis * 1_000_000).map(Time::utc)
}

/// Writes it in UTC.
pub fn print(time: Time, format: &str) -> String {
    let at = Time::utc(time.nanos).civil();
    let of = |field: usize| match field {
        0 => i64::from(at.year),
        1 => at.month.into(),
        2 => at.day.into(),
        3 => at.hour.into(),
        4 => at.minute.into(),
        5 => at.second.into(),
        _ => (at.nano / 1_000_000).into(),
    };
    let part = |part| match part {
        Ok((field, width)) => format!("{:0width$}", of(field)),
        Err(letter) => char::to_string(&letter),
    };
    parts(format).into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were() {
        for (text, format) in [
            ("2024-03-09 10:11:12", FORMAT),
            ("09.03.2024", "dd.MM.yyyy"),
            ("20240309T101112.500Z", "YYYYMMddTHHmmss.SSSZ"),
        ] {
            assert_eq!(print(read(text, format).unwrap(), format), text);
        }
        for text in ["2024-13-01 00:00:00", "2024-03-09", "2024-03-09 10:11:12Z"] {
            assert_eq!(read(text, FORMAT), None, "{text}");
        }
    }
}
