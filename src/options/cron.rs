//! When a schedule begins, as crontab writes it: minute, hour, day of month, month, day of week.
//!
//! A [`Cron`] is what a text means; [`Cron::after`] gives the first instant behind another. The words are those of
//! robfig's parser, which eKuiper uses: `*`, `?`, lists, ranges, steps, names, `@daily` and its like, `@every 1h30m`,
//! and `TZ=Zone` in front. It is written here and not taken from a crate: croner has neither `@every` nor `TZ=`, takes
//! words that robfig refuses (`L`, `#`, seconds), and means another day by `*/10` beside a day of the week.
//!
//! An instant that the clocks leave out is left out, one that they go through twice comes twice.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

use crate::clock::{Time, parse_span};

/// How far ahead the next instant is looked for; `0 0 30 2 *` has none.
const YEARS: i16 = 5;

/// The fields, in their order, with their bounds and names.
const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of the month", low: 1, high: 31, words: &[] },
    Field {
        name: "month",
        low: 1,
        high: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { name: "day of the week", low: 0, high: 6, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// Short forms, and what they are short for.
const SHORT: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Names of the values, from the lowest on.
    words: &'static [&'static str],
}

/// A schedule of instants.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// In the zone that was written, or else in that of the server.
    Calendar(Calendar, Option<TimeZone>),
    /// At whole multiples of the span since 1970.
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq)]
struct Calendar {
    /// One bit a value.
    bits: [u64; 5],
    /// The day of the month, and that of the week, are left open.
    open: (bool, bool),
}

impl Cron {
    /// Reads a schedule. The error says what was found, and what was expected.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let text = text.trim();
        let (zone, rest) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            None => (None, text),
            Some(zoned) => {
                let (name, rest) = zoned.split_once(char::is_whitespace).unwrap_or((zoned, ""));
                let zone = TimeZone::get(name).map_err(|_| format!("`{name}` is no time zone, as `Europe/Berlin`"))?;
                (Some(zone), rest.trim())
            }
        };
        if let Some(span) = rest.strip_prefix("@every ") {
            let found = parse_span(span.trim()).filter(|span| !span.is_zero());
            let span = found.ok_or_else(|| format!("`{}` is no span, as `1h30m`", span.trim()))?;
            return Ok(Cron(Kind::Every(Duration::from_secs(span.as_secs().max(1)))));
        }
        let fields = if rest.starts_with('@') {
            let long = SHORT.iter().find(|(short, _)| *short == rest).map(|(_, long)| *long);
            long.ok_or_else(|| {
                let all: Vec<&str> = SHORT.iter().map(|(short, _)| *short).collect();
                format!("`{rest}` is none of {}, @every", all.join(", "))
            })?
        } else {
            rest
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let found = fields.len();
        let Ok(fields) = <[&str; 5]>::try_from(fields) else {
            return Err(format!(
                "expected 5 fields (minute, hour, day of the month, month, day of the week), found {found}"
            ));
        };
        let mut bits = [0; 5];
        let mut open = [false; 5];
        for (at, (field, text)) in FIELDS.iter().zip(fields).enumerate() {
            for part in text.split(',') {
                let (some, star) = field.read(part)?;
                bits[at] |= some;
                open[at] |= star;
            }
        }
        Ok(Cron(Kind::Calendar(Calendar { bits, open: (open[2], open[4]) }, zone)))
    }

    /// The first instant after that one; `None` where there is none in the next years.
    pub fn after(&self, time: Time, local: &TimeZone) -> Option<Time> {
        match &self.0 {
            Kind::Every(span) => {
                let span = i64::try_from(span.as_millis()).ok()?;
                Some(Time(time.0.div_euclid(span).checked_add(1)?.checked_mul(span)?))
            }
            Kind::Calendar(calendar, zone) => {
                let at = Timestamp::from_millisecond(time.0).ok()?;
                let found = calendar.after(&at.to_zoned(zone.as_ref().unwrap_or(local).clone()))?;
                Some(Time(found.timestamp().as_millisecond()))
            }
        }
    }
}

impl Field {
    /// One part of a list: its values as bits, and whether it leaves the field open.
    fn read(&self, text: &str) -> Result<(u64, bool), String> {
        let wrong = |why: &str| format!("`{text}` is no {}: {why}", self.name);
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let star = matches!(range, "*" | "?");
        let (low, high) = match range.split_once('-') {
            _ if star => (self.low, self.high),
            Some((low, high)) => {
                (self.value(low).map_err(|why| wrong(&why))?, self.value(high).map_err(|why| wrong(&why))?)
            }
            None => {
                let low = self.value(range).map_err(|why| wrong(&why))?;
                // `5/10` goes on to the end.
                (low, if step.is_some() { self.high } else { low })
            }
        };
        let step = match step {
            None => 1,
            Some(step) => {
                step.parse().ok().filter(|step| *step > 0).ok_or_else(|| wrong("the step must be above 0"))?
            }
        };
        if low > high {
            return Err(wrong(&format!("{low} is behind {high}")));
        }
        let bits = (low..=high).step_by(step as usize).fold(0, |bits, value| bits | 1 << value);
        Ok((bits, star && step == 1))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let value = match word {
            Some(place) => Some(place as u32 + self.low),
            None => text.parse().ok().filter(|value| (self.low..=self.high).contains(value)),
        };
        value.ok_or_else(|| {
            let words = if self.words.is_empty() { "" } else { ", or a name as " };
            let example = self.words.first().copied().unwrap_or_default();
            format!("expected {} to {}{words}{example}", self.low, self.high)
        })
    }
}

impl Calendar {
    fn has(&self, field: usize, value: i8) -> bool {
        self.bits[field] >> value & 1 == 1
    }

    /// Where both days are given, one of them is enough.
    fn day(&self, at: &Zoned) -> bool {
        let of_month = self.has(2, at.day());
        let of_week = self.has(4, at.weekday().to_sunday_zero_offset());
        if self.open.0 || self.open.1 { of_month && of_week } else { of_month || of_week }
    }

    fn after(&self, time: &Zoned) -> Option<Zoned> {
        let last = time.year().checked_add(YEARS)?;
        // Whole minutes; the offset of no zone of today has seconds.
        let into = i64::from(time.second()) * 1_000 + i64::from(time.millisecond());
        let mut at = time.checked_add((60_000 - into).milliseconds()).ok()?;
        while at.year() <= last {
            if !self.has(3, at.month()) {
                at = at.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?;
            } else if !self.day(&at) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !self.has(1, at.hour()) {
                // By the clock on the wall; an hour of true time later it may show another minute than 0.
                at = at.checked_add(i64::from(60 - at.minute()).minutes()).ok()?;
            } else if !self.has(0, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Time {
        Time(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn shown(time: Option<Time>) -> String {
        time.map_or("never".into(), |time| Timestamp::from_millisecond(time.0).unwrap().to_string())
    }

    /// The next instants after a moment, in a zone.
    fn next(cron: &str, zone: &str, after: &str, expected: &[&str]) {
        let (cron, zone) =
            (Cron::parse(cron).unwrap_or_else(|why| unreachable!("{cron}: {why}")), TimeZone::get(zone).unwrap());
        let mut time = ms(after);
        for wanted in expected {
            let found = cron.after(time, &zone);
            assert_eq!(shown(found), *wanted, "{cron:?} after {}", shown(Some(time)));
            time = found.unwrap_or(time);
        }
    }

    #[test]
    fn the_next_instant_is_the_first_whole_minute_that_fits() {
        let new_year = "2024-01-01T00:00:00Z";
        for (cron, after, expected) in [
            ("* * * * *", "2024-01-01T00:00:59.999Z", "2024-01-01T00:01:00Z"),
            ("* * * * *", new_year, "2024-01-01T00:01:00Z"),
            ("*/15 * * * *", "2024-01-01T00:15:00.001Z", "2024-01-01T00:30:00Z"),
            ("5/20 * * * *", "2024-01-01T00:26:00Z", "2024-01-01T00:45:00Z"),
            ("10-20/5,50 * * * *", "2024-01-01T00:15:00Z", "2024-01-01T00:20:00Z"),
            ("10-20/5,50 * * * *", "2024-01-01T00:20:00Z", "2024-01-01T00:50:00Z"),
            ("0 6 * * *", "2024-01-01T06:00:00Z", "2024-01-02T06:00:00Z"),
            ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 * ?", "2024-01-31T00:00:00Z", "2024-03-31T00:00:00Z"),
            ("0 0 1 JAN,jul *", "2024-01-01T00:00:00Z", "2024-07-01T00:00:00Z"),
            ("0 12 * * mon-fri", "2024-01-05T12:00:00Z", "2024-01-08T12:00:00Z"),
            ("0 0 ? * SUN", new_year, "2024-01-07T00:00:00Z"),
            // Both days: one is enough. A day with a step is not left open.
            ("0 0 13 * 5", new_year, "2024-01-05T00:00:00Z"),
            ("0 0 */10 * 3", new_year, "2024-01-03T00:00:00Z"),
            ("0 0 */10 * *", new_year, "2024-01-11T00:00:00Z"),
            ("@yearly", new_year, "2025-01-01T00:00:00Z"),
            ("@annually", new_year, "2025-01-01T00:00:00Z"),
            ("@monthly", new_year, "2024-02-01T00:00:00Z"),
            ("@weekly", new_year, "2024-01-07T00:00:00Z"),
            ("@daily", new_year, "2024-01-02T00:00:00Z"),
            ("@midnight", new_year, "2024-01-02T00:00:00Z"),
            ("@hourly", new_year, "2024-01-01T01:00:00Z"),
            ("@every 1h30m", "2024-01-01T00:10:00Z", "2024-01-01T01:30:00Z"),
            ("@every 500ms", new_year, "2024-01-01T00:00:01Z"),
            ("TZ=Asia/Tokyo 0 6 * * *", new_year, "2024-01-01T21:00:00Z"),
            ("CRON_TZ=Asia/Kolkata @daily", new_year, "2024-01-01T18:30:00Z"),
            ("0 0 30 2 *", new_year, "never"),
        ] {
            next(cron, "UTC", after, &[expected]);
        }
    }

    #[test]
    fn a_schedule_goes_by_the_clocks_of_the_zone() {
        // In spring 02:30 is left out, in autumn it is there twice.
        next("30 2 * * *", "Europe/Berlin", "2024-03-29T12:00:00Z", &["2024-03-30T01:30:00Z", "2024-04-01T00:30:00Z"]);
        next(
            "30 2 * * *",
            "Europe/Berlin",
            "2024-10-26T12:00:00Z",
            &["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z", "2024-10-28T01:30:00Z"],
        );
        // A day without a midnight.
        next("0 0 * * *", "Africa/Cairo", "2024-04-25T12:00:00Z", &["2024-04-26T21:00:00Z"]);
        next("15 * * * *", "Asia/Kolkata", "2024-01-01T00:00:00Z", &["2024-01-01T00:45:00Z", "2024-01-01T01:45:00Z"]);
        // The clocks go by half an hour.
        next(
            "0 * * * *",
            "Australia/Lord_Howe",
            "2024-10-05T14:10:00Z",
            &["2024-10-05T14:30:00Z", "2024-10-05T16:00:00Z"],
        );
    }

    #[test]
    fn mistakes_are_named_with_what_was_expected() {
        for (text, expected) in [
            ("", "found 0"),
            ("* * * *", "expected 5 fields (minute, hour, day of the month, month, day of the week), found 4"),
            ("0 * * * * *", "found 6"),
            ("60 * * * *", "`60` is no minute: expected 0 to 59"),
            ("* 24 * * *", "`24` is no hour"),
            ("* * 0 * *", "`0` is no day of the month"),
            ("* * * 13 *", "`13` is no month: expected 1 to 12, or a name as jan"),
            ("* * * * 7", "`7` is no day of the week: expected 0 to 6, or a name as sun"),
            ("* * * * mo", "`mo` is no day of the week"),
            ("30-10 * * * *", "`30-10` is no minute: 30 is behind 10"),
            ("*/0 * * * *", "`*/0` is no minute: the step must be above 0"),
            ("*/x * * * *", "the step must be above 0"),
            ("1-2-3 * * * *", "`1-2-3` is no minute"),
            ("1,,2 * * * *", "`` is no minute"),
            ("-5 * * * *", "`-5` is no minute"),
            ("@often", "`@often` is none of @yearly, @annually"),
            ("@every soon", "`soon` is no span"),
            ("@every 0", "`0` is no span"),
            ("TZ=Mars/Olympus * * * * *", "`Mars/Olympus` is no time zone"),
            ("TZ=UTC", "found 0"),
        ] {
            let error = Cron::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    /// Each instant against all fields, minute by minute.
    #[test]
    fn no_instant_is_passed_over() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for text in ["7 */5 * * *", "*/30 2,3 * * *", "0 0 1-7 * mon", "59 23 28-31 * ?"] {
            let cron = Cron::parse(text).unwrap();
            let Kind::Calendar(calendar, _) = &cron.0 else { unreachable!() };
            let begin = ms("2024-03-20T00:00:00Z");
            let mut found = cron.after(begin, &zone).unwrap();
            for minute in 1..60 * 24 * 45 {
                let time = Time(begin.0 + minute * 60_000);
                let at = Timestamp::from_millisecond(time.0).unwrap().to_zoned(zone.clone());
                let fits = calendar.has(0, at.minute())
                    && calendar.has(1, at.hour())
                    && calendar.day(&at)
                    && calendar.has(3, at.month());
                assert_eq!(fits, found == time, "{text} at {at}");
                if fits {
                    found = cron.after(time, &zone).unwrap();
                }
            }
        }
    }
}
