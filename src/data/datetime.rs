//! Instants, and the calendar by which they are shown.
//!
//! A [`DateTime`] counts nanoseconds in 128 bits, so whatever epoch milliseconds can say is exact, and years have no end
//! that rows could meet. [`Civil`] is the same instant as a calendar and a clock on the wall show it; it follows the
//! Gregorian calendar in both directions, as Go does. The rules of time zones are asked of `jiff`, which knows the years
//! up to 9999; later ones have the rules of the same year of an earlier cycle of 400 years, after which all dates and
//! weekdays repeat.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime as JiffCivil};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::{Text, Time};

const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;
/// The days and the seconds of 400 years.
const CYCLE_DAYS: i64 = 146_097;
const CYCLE: i64 = CYCLE_DAYS * DAY;

/// An instant together with the zone that it is shown in. Two are equal when they are the same instant.
#[derive(Clone, Debug)]
pub struct DateTime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    nanos: i128,
    zone: TimeZone,
}

/// An instant as calendar and clock show it in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Astronomical: the year before 1 is 0.
    pub year: i64,
    /// 1 to 12.
    pub month: i8,
    /// 1 to 31.
    pub day: i8,
    /// 0 for Sunday to 6.
    pub weekday: i8,
    /// 1 to 366.
    pub day_of_year: i16,
    pub hour: i8,
    pub minute: i8,
    pub second: i8,
    /// The part of the second in nanoseconds.
    pub nanos: u32,
    /// How far the zone is ahead of UTC, in seconds.
    pub offset: i32,
}

impl DateTime {
    /// From nanoseconds since 1970-01-01 UTC.
    pub fn new(nanos: impl Into<i128>, zone: TimeZone) -> Self {
        DateTime(Arc::new(Inner { nanos: nanos.into(), zone }))
    }

    /// From epoch milliseconds.
    pub fn from_millis(millis: i64, zone: TimeZone) -> Self {
        DateTime::new(i128::from(millis) * 1_000_000, zone)
    }

    /// From what a calendar and a clock in the zone show. Where clocks are put forward or back over it, the offset
    /// before the change counts.
    pub fn from_civil(civil: JiffCivil, zone: TimeZone) -> Self {
        let offset = match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        DateTime::from_offset(civil, offset, zone)
    }

    /// From what a clock shows that is so far ahead of UTC.
    pub fn from_offset(civil: JiffCivil, offset: Offset, zone: TimeZone) -> Self {
        let days = days_of(civil.year().into(), civil.month().into(), civil.day().into());
        let clock = i64::from(civil.hour()) * 3600 + i64::from(civil.minute()) * 60 + i64::from(civil.second());
        let seconds = days * DAY + clock - i64::from(offset.seconds());
        DateTime::new(i128::from(seconds) * SECOND + i128::from(civil.subsec_nanosecond()), zone)
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn nanos(&self) -> i128 {
        self.0.nanos
    }

    pub fn zone(&self) -> &TimeZone {
        &self.0.zone
    }

    /// Epoch milliseconds, rounded down; the first or last that there are beyond 292 million years.
    pub fn millis(&self) -> i64 {
        let millis = self.0.nanos.div_euclid(1_000_000);
        i64::try_from(millis).unwrap_or(if millis < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn time(&self) -> Time {
        Time(self.millis())
    }

    /// The same instant so much later.
    pub fn plus(&self, nanos: i64) -> DateTime {
        DateTime::new(self.0.nanos.saturating_add(nanos.into()), self.0.zone.clone())
    }

    /// Epoch seconds, rounded down.
    pub fn seconds(&self) -> i64 {
        let seconds = self.0.nanos.div_euclid(SECOND);
        i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
    }

    /// An instant with the same rules of the zone that `jiff` knows.
    fn known(&self) -> Timestamp {
        let seconds = self.seconds();
        let last = Timestamp::MAX.as_second();
        let seconds = if seconds > last { last - CYCLE + (seconds - last - 1).rem_euclid(CYCLE) + 1 } else { seconds };
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MIN)
    }

    /// How far the zone is ahead of UTC.
    pub fn offset(&self) -> Offset {
        self.0.zone.to_offset(self.known())
    }

    /// The short name of the zone's time at the instant, such as `CET`.
    pub fn abbreviation(&self) -> Text {
        Text::new(self.0.zone.to_offset_info(self.known()).abbreviation())
    }

    /// What calendar and clock show.
    pub fn civil(&self) -> Civil {
        let offset = self.offset().seconds();
        let local = self.seconds().saturating_add(offset.into());
        let (days, clock) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        Civil {
            year,
            month: month as i8,
            day: day as i8,
            weekday: (days + 4).rem_euclid(7) as i8,
            day_of_year: (days - days_of(year, 1, 1) + 1) as i16,
            hour: (clock / 3600) as i8,
            minute: (clock / 60 % 60) as i8,
            second: (clock % 60) as i8,
            nanos: self.0.nanos.rem_euclid(SECOND) as u32,
            offset,
        }
    }

    /// `2024-03-09T10:11:12.5Z`, with the offset of the zone and no trailing zeros, as JSON carries it. Years beyond 9999
    /// have more digits.
    pub fn rfc3339(&self) -> String {
        let Civil { year, month, day, hour, minute, second, nanos, offset, .. } = self.civil();
        let mut text = format!("{}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", year_text(year));
        if nanos != 0 {
            text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
        }
        match offset {
            0 => text.push('Z'),
            _ => {
                let sign = if offset < 0 { '-' } else { '+' };
                let minutes = offset.abs() / 60;
                text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
            }
        }
        text
    }
}

impl PartialEq for DateTime {
    fn eq(&self, other: &Self) -> bool {
        self.0.nanos == other.0.nanos
    }
}

impl Civil {
    /// The last day of the month.
    pub fn last_of_month(&self) -> i8 {
        // Leap years repeat after 400 years.
        Date::new((2000 + self.year.rem_euclid(400)) as i16, self.month, 1).map_or(31, Date::days_in_month)
    }
}

/// A year with at least four digits.
pub(super) fn year_text(year: i64) -> String {
    if year < 0 { format!("-{:04}", year.unsigned_abs()) } else { format!("{year:04}") }
}

/// The days from 1970-01-01 to a date. A year that begins in March has its leap day at the end, and its months follow a
/// line of 153 days in five.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_cycle = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * CYCLE_DAYS + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468
}

/// The year, month and day so many days from 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, of_cycle) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_drops_trailing_zeros() {
        assert_eq!(DateTime::from_millis(1_709_979_072_500, TimeZone::UTC).rfc3339(), "2024-03-09T10:11:12.5Z");
        let east = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(DateTime::from_millis(0, east).rfc3339(), "1970-01-01T08:00:00+08:00");
    }

    #[test]
    fn the_calendar_is_that_of_jiff_where_both_know_it() {
        for day in (-4_371_000..2_932_800).step_by(97) {
            let stamp = Timestamp::from_second(day * DAY + 3661).unwrap();
            let zoned = stamp.to_zoned(TimeZone::UTC);
            let civil = DateTime::new(stamp.as_nanosecond(), TimeZone::UTC).civil();
            let parts = (civil.year, civil.month, civil.day, civil.weekday, civil.day_of_year);
            let weekday = zoned.weekday().to_sunday_zero_offset();
            assert_eq!(
                parts,
                (zoned.year().into(), zoned.month(), zoned.day(), weekday, zoned.day_of_year()),
                "day {day}"
            );
            assert_eq!((civil.hour, civil.minute, civil.second), (1, 1, 1));
            assert_eq!(civil.last_of_month(), zoned.days_in_month());
            assert_eq!(days_of(civil.year, civil.month.into(), civil.day.into()), day);
        }
    }

    #[test]
    fn years_go_on_behind_9999() {
        let zone = |name: &str| TimeZone::get(name).unwrap();
        let end: JiffCivil = "9999-12-31T23:59:59.999999999".parse().unwrap();
        let last = DateTime::from_civil(end, TimeZone::UTC);
        assert_eq!(last.rfc3339(), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(last.plus(1).rfc3339(), "10000-01-01T00:00:00Z");
        assert_eq!(
            DateTime::from_civil(end, zone("America/New_York")).rfc3339(),
            "9999-12-31T23:59:59.999999999-05:00"
        );
        // 12000-07-01 is in summer, as 2000-07-01 is.
        let summer = days_of(12_000, 7, 1) * DAY * 1000;
        let text = DateTime::from_millis(summer, zone("America/New_York")).rfc3339();
        assert_eq!(text, "12000-06-30T20:00:00-04:00");
        assert_eq!(DateTime::from_millis(i64::MAX, TimeZone::UTC).rfc3339(), "292278994-08-17T07:12:55.807Z");
        assert_eq!(DateTime::from_millis(i64::MIN, TimeZone::UTC).rfc3339(), "-292275055-05-16T16:47:04.192Z");
        assert_eq!(DateTime::from_millis(i64::MIN, TimeZone::UTC).millis(), i64::MIN);
    }
}
