//! Patterns of datetimes such as `yyyy-MM-dd HH:mm:ssSSS`, and writing by them.
//!
//! A pattern is compiled to a row of [`Item`]s; reading by the same items is the business of `parse_time`.

use std::fmt::Write as _;

use super::DateTime;
use super::datetime::{Civil, year_text};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A piece of a pattern. `padded`: two digits; without it reading takes one or two.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Era,
    Year,
    YearOfCentury,
    Month {
        padded: bool,
    },
    MonthName {
        long: bool,
    },
    Day {
        padded: bool,
    },
    Weekday {
        long: bool,
    },
    /// 00 to 23.
    Hour,
    /// 1 to 12.
    HalfHour {
        padded: bool,
    },
    AmPm,
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    /// A dot and that many digits.
    Fraction(usize),
    ZoneName,
    /// `utc`: `Z` stands for zero.
    Offset {
        minutes: bool,
        colon: bool,
        utc: bool,
    },
    Text(String),
}

/// The name of the month, 1 to 12, in English.
pub fn month_name(month: i8) -> &'static str {
    MONTHS.get((month - 1) as usize).copied().unwrap_or_default()
}

/// The name of the weekday, 0 for Sunday, in English.
pub fn day_name(day: i8) -> &'static str {
    DAYS.get(day as usize).copied().unwrap_or_default()
}

/// The datetime as the pattern says.
///
/// # Errors
/// What is wrong with the pattern.
pub fn format_datetime(time: &DateTime, pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let civil = time.civil();
    for item in compile(pattern)? {
        // Writing to a text cannot fail.
        let _ = write_item(&mut out, &item, time, &civil);
    }
    Ok(out)
}

/// Letters to items. Other letters stand for themselves, as does what is in quotes or behind a backslash.
pub(super) fn compile(pattern: &str) -> Result<Vec<Item>, String> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut items: Vec<Item> = vec![];
    let mut at = 0;
    while at < letters.len() {
        let letter = letters[at];
        let run = letters[at..].iter().take_while(|other| **other == letter).count();
        let wrong = |allowed: &str| {
            let found = String::from(letter).repeat(run);
            format!("`{found}` cannot stand in the pattern `{pattern}`, {allowed} can")
        };
        let mut length = run;
        let item = match (letter, run) {
            ('y' | 'Y', 4) => Item::Year,
            ('y' | 'Y', 2) => Item::YearOfCentury,
            ('y' | 'Y', _) => return Err(wrong("`yyyy` and `yy`")),
            ('M', 1 | 2) => Item::Month { padded: run == 2 },
            ('M', 3 | 4) => Item::MonthName { long: run == 4 },
            ('M', _) => return Err(wrong("`M` to `MMMM`")),
            ('d', 1 | 2) => Item::Day { padded: run == 2 },
            ('d', _) => return Err(wrong("`d` and `dd`")),
            ('E', 3 | 4) => Item::Weekday { long: run == 4 },
            ('E', _) => return Err(wrong("`EEE` and `EEEE`")),
            ('H', 2) => Item::Hour,
            ('H', _) => return Err(wrong("only `HH`")),
            ('h', 1 | 2) => Item::HalfHour { padded: run == 2 },
            ('h', _) => return Err(wrong("`h` and `hh`")),
            ('m', 1 | 2) => Item::Minute { padded: run == 2 },
            ('m', _) => return Err(wrong("`m` and `mm`")),
            ('s', 1 | 2) => Item::Second { padded: run == 2 },
            ('s', _) => return Err(wrong("`s` and `ss`")),
            ('S', 1..=9) => Item::Fraction(run),
            ('S', _) => return Err(wrong("`S` to `SSSSSSSSS`")),
            ('X', 1..=3) => Item::Offset { minutes: run > 1, colon: run == 3, utc: false },
            ('X', _) => return Err(wrong("`X`, `XX` and `XXX`")),
            _ => {
                length = 1;
                match letter {
                    'G' => Item::Era,
                    'a' => Item::AmPm,
                    'z' => Item::ZoneName,
                    'Z' => Item::Offset { minutes: true, colon: false, utc: false },
                    '\\' => {
                        length = 2;
                        let next = letters.get(at + 1);
                        let next = next.ok_or_else(|| format!("the pattern `{pattern}` ends with a backslash"))?;
                        Item::Text(next.to_string())
                    }
                    '\'' if run > 1 => {
                        length = 2;
                        Item::Text("'".into())
                    }
                    '\'' => {
                        let inside: String = letters[at + 1..].iter().take_while(|other| **other != '\'').collect();
                        if at + 1 == letters.len() {
                            return Err(format!("the pattern `{pattern}` ends with an open quote"));
                        }
                        length = inside.chars().count() + 2;
                        Item::Text(inside)
                    }
                    other => Item::Text(other.to_string()),
                }
            }
        };
        at += length;
        match (items.last_mut(), item) {
            (Some(Item::Text(before)), Item::Text(more)) => before.push_str(&more),
            (_, item) => items.push(item),
        }
    }
    Ok(items)
}

fn write_item(out: &mut String, item: &Item, time: &DateTime, civil: &Civil) -> std::fmt::Result {
    let two = |out: &mut String, padded: bool, number: i8| match padded {
        true => write!(out, "{number:02}"),
        false => write!(out, "{number}"),
    };
    let half = |hour: i8| if hour % 12 == 0 { 12 } else { hour % 12 };
    match item {
        Item::Era => out.write_str("AD"),
        Item::Year => out.write_str(&year_text(civil.year)),
        Item::YearOfCentury => write!(out, "{:02}", civil.year.max(0) % 100),
        Item::Month { padded } => two(out, *padded, civil.month),
        Item::MonthName { long: true } => out.write_str(month_name(civil.month)),
        Item::MonthName { long: false } => out.write_str(&month_name(civil.month)[..3]),
        Item::Day { padded } => two(out, *padded, civil.day),
        Item::Weekday { long } => {
            let name = day_name(civil.weekday);
            out.write_str(if *long { name } else { &name[..3] })
        }
        Item::Hour => two(out, true, civil.hour),
        Item::HalfHour { padded } => two(out, *padded, half(civil.hour)),
        Item::AmPm => out.write_str(if civil.hour < 12 { "AM" } else { "PM" }),
        Item::Minute { padded } => two(out, *padded, civil.minute),
        Item::Second { padded } => two(out, *padded, civil.second),
        Item::Fraction(digits) => {
            let nanos = format!("{:09}", civil.nanos);
            write!(out, ".{}", &nanos[..*digits])
        }
        Item::ZoneName => match time.zone().to_fixed_offset() {
            Ok(offset) if offset.seconds() != 0 => write_offset(out, civil.offset, true, false),
            _ => out.write_str(&time.abbreviation()),
        },
        Item::Offset { minutes, colon, .. } => write_offset(out, civil.offset, *minutes, *colon),
        Item::Text(text) => out.write_str(text),
    }
}

fn write_offset(out: &mut String, seconds: i32, minutes: bool, colon: bool) -> std::fmt::Result {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    write!(out, "{sign}{hours:02}")?;
    match (minutes, colon) {
        (true, true) => write!(out, ":{rest:02}"),
        (true, false) => write!(out, "{rest:02}"),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::data::{Time, parse_datetime};

    #[test]
    fn patterns_are_written() {
        let time = |text: &str| parse_datetime(text, None, &TimeZone::UTC, Time(0)).unwrap();
        let leap = time("2024-02-29T23:59:58.987654321Z");
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-02-29 23:59:58"),
            ("YYYY YY M MM MMM MMMM d dd", "2024 24 2 02 Feb February 29 29"),
            ("EEE EEEE h hh a m s", "Thu Thursday 11 11 PM 59 58"),
            ("ssS ssSSS ssSSSSSSSSS", "58.9 58.987 58.987654321"),
            ("z Z X XX XXX G", "UTC +0000 +00 +0000 +00:00 AD"),
            ("''yy 'yy' \\y\\\\ 'abc", "'24 yy y\\ abc"),
            ("yyyy 15 2006 Jan w D T", "2024 15 2006 JPMn w D T"),
            ("", ""),
        ] {
            assert_eq!(format_datetime(&leap, pattern).as_deref(), Ok(expected), "{pattern}");
        }
        let east = time("2023-12-31T05:06:07+09:30");
        assert_eq!(format_datetime(&east, "HH z Z X XXX").as_deref(), Ok("05 +0930 +0930 +09 +09:30"));
        let winter = DateTime::from_millis(0, TimeZone::get("America/New_York").unwrap());
        assert_eq!(format_datetime(&winter, "HH z").as_deref(), Ok("19 EST"));
        assert_eq!(format_datetime(&time("2024-01-01 00:05"), "h:mm a").as_deref(), Ok("12:05 AM"));
    }

    #[test]
    fn wrong_patterns_say_what_is_right() {
        let time = DateTime::from_millis(0, TimeZone::UTC);
        for pattern in [
            "yyy",
            "y",
            "yyyyy",
            "H",
            "HHH",
            "E",
            "EE",
            "MMMMM",
            "ddd",
            "hhh",
            "mmm",
            "sss",
            "XXXX",
            "'",
            "a\\",
            "SSSSSSSSSS",
        ] {
            assert!(format_datetime(&time, pattern).is_err(), "{pattern}");
        }
        let message = format_datetime(&time, "dd H").unwrap_err();
        assert_eq!(message, "`H` cannot stand in the pattern `dd H`, only `HH` can");
    }
}
