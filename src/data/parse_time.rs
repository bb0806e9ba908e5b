//! Reading datetimes from text.
//!
//! It goes by the pattern if there is one and it fits, else by the layouts that eKuiper knows, in its order. What the
//! text leaves out comes from the day that `now` falls on in the zone: the year if it is missing, the whole date if
//! there are only hours.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime as Civil, Time as CivilTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::time_pattern::{DAYS, Item, MONTHS, compile};
use super::{DateTime, Time};

/// The zones that mail headers name, in hours from UTC.
const MAIL_ZONES: [(&str, i32); 8] =
    [("EST", -5), ("EDT", -4), ("CST", -6), ("CDT", -5), ("MST", -7), ("MDT", -6), ("PST", -8), ("PDT", -7)];

/// Reads a datetime; `zone` is meant where the text names none. Nothing when no layout fits, or when the pattern is no
/// pattern.
pub fn parse_datetime(text: &str, pattern: Option<&str>, zone: &TimeZone, now: Time) -> Option<DateTime> {
    if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) {
        let items = compile(pattern).ok()?;
        if let Some(found) = read(text, &items).and_then(|parts| parts.datetime(zone, now)) {
            return Some(found);
        }
    }
    let text = without_bare_dot(text);
    let iso = matches!(text.as_bytes(), [_, _, _, _, b'-', _, _, b'-', _, _, b'T', ..]);
    let layouts = if iso { &LAYOUTS.iso } else { &LAYOUTS.other };
    layouts.iter().find_map(|items| read(&text, items)?.datetime(zone, now))
}

/// A dot with no digits behind it is as good as none.
fn without_bare_dot(text: &str) -> std::borrow::Cow<'_, str> {
    match text.split_once('.') {
        Some((before, after)) if !after.contains('.') && !after.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{before}{after}").into()
        }
        _ => text.into(),
    }
}

struct Layouts {
    /// Those with a `T` between date and time.
    iso: Vec<Vec<Item>>,
    other: Vec<Vec<Item>>,
}

static LAYOUTS: LazyLock<Layouts> = LazyLock::new(|| {
    let compiled = |pattern: &str| compile(pattern).unwrap_or_default();
    let second = "yyyy-MM-ddTHH:mm:ss";
    let iso = [(true, true), (true, false), (false, false)].map(|(minutes, colon)| {
        let mut items = compiled(second);
        items.push(Item::Offset { minutes, colon, utc: true });
        items
    });
    let other = [
        "yyyy",
        "yyyy-M",
        "yyyy-M-d",
        "yyyy-M-d HH",
        "yyyy-M-d HH:m",
        "yyyy-M-d HH:m:s",
        "M-d",
        "HH:m:s",
        "HH:m",
        "HH",
        "HH:m:s MMM d, yyyy z",
        "yyyy-MM-dd HH:mm:ss Z z",
        "yyyy.M.d",
        "yyyy.M.d HH:mm:ss",
        "M/d/yyyy",
        "M/d/yyyy HH:m:s",
        "yyyy/MM/dd",
        "yyyyMMdd",
        "yyyy/MM/dd HH:mm:ss",
        "EEE MMM d HH:mm:ss yyyy",
        "EEE MMM d HH:mm:ss z yyyy",
        "EEE MMM dd HH:mm:ss Z yyyy",
        "dd MMM yy HH:mm z",
        "dd MMM yy HH:mm Z",
        "EEEE, dd-MMM-yy HH:mm:ss z",
        "EEE, dd MMM yyyy HH:mm:ss z",
        "EEE, dd MMM yyyy HH:mm:ss Z",
        "h:mma",
        "MMM d HH:mm:ss",
    ];
    Layouts { iso: iso.into_iter().chain([compiled(second)]).collect(), other: other.map(compiled).to_vec() }
});

/// What a text said.
#[derive(Default)]
struct Parts {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    afternoon: Option<bool>,
    offset: Option<Offset>,
    utc: bool,
    zone: Option<String>,
}

/// Takes the whole text apart by the items, or nothing.
fn read(text: &str, items: &[Item]) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut rest = text;
    let mut after_dot = false;
    for (at, item) in items.iter().enumerate() {
        let dot = std::mem::take(&mut after_dot);
        match item {
            Item::Text(literal) => {
                rest = skip(rest, literal)?;
                after_dot = literal.ends_with('.');
            }
            Item::Era => rest = rest.strip_prefix("AD")?,
            Item::Year => {
                let digits = rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
                parts.year = Some(digits.parse().ok()?);
                rest = &rest[4..];
            }
            Item::YearOfCentury => {
                let year = i16::from(number(&mut rest, true)?);
                parts.year = Some(if year >= 69 { 1900 + year } else { 2000 + year });
            }
            Item::Month { padded } => parts.month = Some(number(&mut rest, *padded)?),
            Item::MonthName { long } => parts.month = Some(name(&mut rest, &MONTHS, *long)? + 1),
            Item::Day { padded } => {
                // A day that is filled up with a space.
                rest = rest.strip_prefix(' ').unwrap_or(rest);
                parts.day = Some(number(&mut rest, *padded)?);
            }
            Item::Weekday { long } => {
                name(&mut rest, &DAYS, *long)?;
            }
            Item::Hour => parts.hour = number(&mut rest, false).filter(|hour| *hour < 24)?,
            Item::HalfHour { padded } => parts.hour = number(&mut rest, *padded).filter(|hour| *hour <= 12)?,
            Item::AmPm => {
                parts.afternoon = Some(rest.starts_with("PM"));
                rest = rest.strip_prefix("AM").or_else(|| rest.strip_prefix("PM"))?;
            }
            Item::Minute { padded } => parts.minute = number(&mut rest, *padded).filter(|minute| *minute < 60)?,
            Item::Second { padded } => {
                parts.second = number(&mut rest, *padded).filter(|second| *second < 60)?;
                // Digits behind a dot belong to the seconds even if the pattern has none.
                let mine = match (items.get(at + 1), items.get(at + 2)) {
                    (Some(Item::Fraction(_)), _) => false,
                    (Some(Item::Text(text)), Some(Item::Fraction(_))) => !text.starts_with('.'),
                    _ => true,
                };
                if mine && rest.starts_with(['.', ',']) && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
                    rest = &rest[1..];
                    parts.nanos = fraction(&mut rest)?;
                }
            }
            Item::Fraction(_) => {
                if !dot {
                    rest = rest.strip_prefix(['.', ','])?;
                }
                parts.nanos = fraction(&mut rest)?;
            }
            Item::Offset { utc: true, .. } if rest.starts_with('Z') => {
                parts.utc = true;
                rest = &rest[1..];
            }
            Item::Offset { minutes, colon, .. } => parts.offset = Some(offset(&mut rest, *minutes, *colon)?),
            Item::ZoneName => {
                let length = rest.bytes().take_while(u8::is_ascii_uppercase).count();
                let signed = rest[length..].starts_with(['+', '-']) && &rest[..length] == "GMT";
                let digits = rest[length..].bytes().skip(1).take_while(u8::is_ascii_digit).count();
                let length = if signed { length + 1 + digits } else { length };
                parts.zone = rest.get(..length).filter(|name| (3..=6).contains(&name.len())).map(str::to_string);
                parts.zone.as_ref()?;
                rest = &rest[length..];
            }
        }
    }
    rest.is_empty().then_some(parts)
}

/// Passes a literal; a space in it stands for any number of spaces, but at least one unless the text ends.
fn skip<'a>(mut text: &'a str, literal: &str) -> Option<&'a str> {
    let mut letters = literal.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ' ' {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            while letters.next_if_eq(&' ').is_some() {}
            text = text.trim_start_matches(' ');
        } else {
            text = text.strip_prefix(letter)?;
        }
    }
    Some(text)
}

/// Two digits, or one if that is allowed and there is no second.
fn number(text: &mut &str, two: bool) -> Option<i8> {
    let digits = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    if digits == 0 || (two && digits == 1) {
        return None;
    }
    let (number, rest) = text.split_at(digits);
    *text = rest;
    number.parse().ok()
}

/// All digits that stand there, as nanoseconds; what is finer is cut.
fn fraction(text: &mut &str) -> Option<i32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (found, rest) = text.split_at(digits);
    *text = rest;
    if found.is_empty() {
        return None;
    }
    format!("{:0<9}", &found[..digits.min(9)]).parse().ok()
}

/// The place of the name in the list; case does not matter.
fn name(text: &mut &str, names: &[&str], long: bool) -> Option<i8> {
    for (at, name) in names.iter().enumerate() {
        let name = if long { name } else { &name[..3] };
        if text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            *text = &text[name.len()..];
            return i8::try_from(at).ok();
        }
    }
    None
}

fn offset(text: &mut &str, minutes: bool, colon: bool) -> Option<Offset> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *text = &text[1..];
    let hours = number(text, true)?;
    let mut seconds = i32::from(hours) * 3600;
    if minutes {
        if colon {
            *text = text.strip_prefix(':')?;
        }
        seconds += i32::from(number(text, true).filter(|minutes| *minutes < 60)?) * 60;
    }
    Offset::from_seconds(sign * seconds).ok().filter(|_| hours <= 24)
}

impl Parts {
    fn datetime(&self, zone: &TimeZone, now: Time) -> Option<DateTime> {
        let today = Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone()).date();
        let date = match (self.year, self.month, self.day) {
            (None, None, None) => today,
            (year, month, day) => {
                let year = year.filter(|year| *year != 0).unwrap_or(today.year());
                Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?
            }
        };
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let civil = date.to_datetime(CivilTime::new(hour, self.minute, self.second, self.nanos).ok()?);
        if self.utc {
            return Some(DateTime::from_civil(civil, TimeZone::UTC));
        }
        if let Some(offset) = self.offset {
            // The zone of the process is kept where it says the same.
            let here = DateTime::from_offset(civil, offset, zone.clone());
            let same = here.offset() == offset;
            return Some(if same { here } else { DateTime::from_offset(civil, offset, TimeZone::fixed(offset)) });
        }
        match &self.zone {
            Some(name) => named(civil, name, zone),
            None => Some(DateTime::from_civil(civil, zone.clone())),
        }
    }
}

/// The datetime in a zone that is given by its abbreviation. One that nobody knows counts as UTC.
fn named(civil: Civil, name: &str, zone: &TimeZone) -> Option<DateTime> {
    if matches!(name, "UTC" | "GMT") {
        return Some(DateTime::from_civil(civil, TimeZone::UTC));
    }
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let offsets = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset, offset],
        AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => [before, after],
    };
    for offset in offsets {
        let here = DateTime::from_offset(civil, offset, zone.clone());
        if here.abbreviation() == name {
            return Some(here);
        }
    }
    let hours = MAIL_ZONES.iter().find(|(zone, _)| *zone == name).map(|(_, hours)| *hours);
    let hours = hours.or_else(|| name.strip_prefix("GMT")?.parse().ok()).unwrap_or(0);
    let offset = Offset::from_seconds(hours.checked_mul(3600)?).ok()?;
    Some(DateTime::from_offset(civil, offset, TimeZone::fixed(offset)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// 2024-03-09 10:11:12.5 UTC.
    const NOW: Time = Time(1_709_979_072_500);

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn read_in(text: &str, pattern: Option<&str>, zone: &TimeZone) -> Option<String> {
        parse_datetime(text, pattern, zone, NOW).map(|time| time.rfc3339())
    }

    #[test]
    fn known_layouts_are_read() {
        for (text, expected) in [
            ("2023", "2023-01-01T00:00:00Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
            ("9999-12-31 23:59:59.999999999", "9999-12-31T23:59:59.999999999Z"),
            ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
            ("2023-7", "2023-07-01T00:00:00Z"),
            ("2023-7-5", "2023-07-05T00:00:00Z"),
            ("2023-07-05 6", "2023-07-05T06:00:00Z"),
            ("2023-07-05 06:07", "2023-07-05T06:07:00Z"),
            ("2023-07-05 6:7:8", "2023-07-05T06:07:08Z"),
            ("2023-07-05 06:07:08.000250", "2023-07-05T06:07:08.00025Z"),
            ("2023-07-05 06:07:08,5", "2023-07-05T06:07:08.5Z"),
            ("7-5", "2024-07-05T00:00:00Z"),
            ("06:07:08.123456789123", "2024-03-09T06:07:08.123456789Z"),
            ("6:07", "2024-03-09T06:07:00Z"),
            ("6", "2024-03-09T06:00:00Z"),
            ("3:04PM", "2024-03-09T15:04:00Z"),
            ("12:04AM", "2024-03-09T00:04:00Z"),
            ("15:04:05 Jan 2, 2006 UTC", "2006-01-02T15:04:05Z"),
            ("2006-01-02 15:04:05.25 +0800 CST", "2006-01-02T15:04:05.25+08:00"),
            ("2023.7.5", "2023-07-05T00:00:00Z"),
            ("2023.07.05 06:07:08", "2023-07-05T06:07:08Z"),
            ("7/5/2023", "2023-07-05T00:00:00Z"),
            ("7/5/2023 6:07:08", "2023-07-05T06:07:08Z"),
            ("2023/07/05", "2023-07-05T00:00:00Z"),
            ("20230705", "2023-07-05T00:00:00Z"),
            ("2023/07/05 06:07:08", "2023-07-05T06:07:08Z"),
            ("Mon Jan  2 15:04:05 2006", "2006-01-02T15:04:05Z"),
            ("Mon Jan 2 15:04:05 EST 2006", "2006-01-02T15:04:05-05:00"),
            ("Mon Jan 02 15:04:05 -0700 2006", "2006-01-02T15:04:05-07:00"),
            ("02 Jan 06 15:04 GMT", "2006-01-02T15:04:00Z"),
            ("02 Jan 69 15:04 +0100", "1969-01-02T15:04:00+01:00"),
            ("Monday, 02-Jan-06 15:04:05 PDT", "2006-01-02T15:04:05-07:00"),
            ("mon, 02 jan 2006 15:04:05 GMT+3", "2006-01-02T15:04:05+03:00"),
            ("Mon, 02 Jan 2006 15:04:05 -0700", "2006-01-02T15:04:05-07:00"),
            ("Jan  2 15:04:05.5", "2024-01-02T15:04:05.5Z"),
            ("2023-07-05T06:07:08", "2023-07-05T06:07:08Z"),
            ("2023-07-05T06:07:08.", "2023-07-05T06:07:08Z"),
            ("2023-07-05T06:07:08.5Z", "2023-07-05T06:07:08.5Z"),
            ("2023-07-05T06:07:08+08:00", "2023-07-05T06:07:08+08:00"),
            ("2023-07-05T06:07:08+0530", "2023-07-05T06:07:08+05:30"),
            ("2023-07-05T06:07:08-03", "2023-07-05T06:07:08-03:00"),
        ] {
            assert_eq!(read_in(text, None, &TimeZone::UTC).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not() {
        for text in [
            "",
            "noon",
            "25",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-03-09 24:00:00",
            "2024-03-09 10:60:00",
            "2024-03-09 10:00:60",
            "09.03.2024",
            "2024/3/9",
            "2024-03-09T10:11",
            "2024-03-09T10:11:12Zx",
            "2024-03-09T10:11:12+8",
            "2024-03-09 10:11:12 ",
            " 2024-03-09",
            "13:04PM",
            "Mon Foo 2 15:04:05 2006",
            "１２:00",
        ] {
            assert_eq!(read_in(text, None, &TimeZone::UTC), None, "{text}");
        }
    }

    #[test]
    fn patterns_are_read_and_layouts_stand_in() {
        for (text, pattern, expected) in [
            ("2020-01-16 02:14:24.913", "YYYY-MM-dd HH:mm:ssSSS", "2020-01-16T02:14:24.913+08:00"),
            ("2020-01-16 02:14:24.9", "yyyy-MM-dd HH:mm:ss.SSS", "2020-01-16T02:14:24.9+08:00"),
            ("2022-04-13 6:22:32.2", "YYYY-MM-dd h:m:sS", "2022-04-13T06:22:32.2+08:00"),
            ("2022-04-13 Wednesday 06:22:32", "YYYY-MM-dd EEEE HH:m:ss", "2022-04-13T06:22:32+08:00"),
            ("16/Jan/20 2 PM", "dd/MMM/yy h a", "2020-01-16T14:00:00+08:00"),
            ("16.1.2020 at 02:03 +09", "d.M.yyyy 'at' HH:mm X", "2020-01-16T02:03:00+09:00"),
            ("2020-01-16T02:03:04+0200", "yyyy-MM-dd\\THH:mm:ssXX", "2020-01-16T02:03:04+02:00"),
            ("AD 2020 July 4 +01:30", "G yyyy MMMM d XXX", "2020-07-04T00:00:00+01:30"),
            ("07:08", "HH:mm", "2024-03-09T07:08:00+08:00"),
            ("2023-07-05", "dd/MM/yyyy", "2023-07-05T00:00:00+08:00"),
            ("2020-01-16 02:14:24 CST", "yyyy-MM-dd HH:mm:ss z", "2020-01-16T02:14:24+08:00"),
        ] {
            assert_eq!(read_in(text, Some(pattern), &zone("Asia/Shanghai")).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(read_in("2020", Some("YYY"), &TimeZone::UTC), None);
        let kept = parse_datetime("2020-01-16T02:14:24+08:00", None, &zone("Asia/Shanghai"), NOW).unwrap();
        assert_eq!(kept.zone().iana_name(), Some("Asia/Shanghai"));
    }

    #[test]
    fn today_is_that_of_the_zone() {
        let late = Time(1_709_999_999_000);
        let read = parse_datetime("01:00", None, &zone("Asia/Tokyo"), late).unwrap();
        assert_eq!(read.rfc3339(), "2024-03-10T01:00:00+09:00");
    }
}
