use std::time::Duration;

use jiff::civil::Time as Clock;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit as Part};

use crate::data::Time;
use crate::sql::Unit;

/// So many units, at least a millisecond.
pub fn length_of(unit: Unit, count: i64) -> Duration {
    let millis: i64 = match unit {
        Unit::Day => 86_400_000,
        Unit::Hour => 3_600_000,
        Unit::Minute => 60_000,
        Unit::Second => 1_000,
        Unit::Millisecond => 1,
    };
    Duration::from_millis(millis.saturating_mul(count).max(1) as u64)
}

/// The next boundary of windows of a length. It lies within a length from now, unless the clock was set back; then as many
/// lengths are taken off as bring it there, so that nothing that is held waits until the clock has caught up.
pub fn within(next: Time, now: Time, length: Duration) -> Time {
    const DAY: Duration = Duration::from_secs(86_400);
    // A day may have an hour more.
    let spare = if length < DAY { Duration::ZERO } else { Duration::from_secs(3600) };
    let over = next.since(now + length + spare);
    match over.is_zero() {
        true => next,
        false => {
            let length = length.as_millis() as u64;
            let over = next.since(now).as_millis() as u64 - 1;
            next - Duration::from_millis(over / length * length)
        }
    }
}

/// Where the first boundary of a window lies: windows are aligned to the unit above theirs, in a time zone.
#[derive(Clone, Debug)]
pub struct Alignment {
    pub unit: Unit,
    /// Length (or interval) in units.
    pub count: i64,
    pub zone: TimeZone,
}

impl Alignment {
    pub fn length(&self) -> Duration {
        length_of(self.unit, self.count)
    }

    /// The first boundary after `now`.
    pub fn first(&self, now: Time) -> Time {
        let boundary = self.natural(now, &self.zone);
        if boundary > now { boundary } else { boundary + self.length() }
    }

    /// The natural boundary of a time in a zone. Where the time is as many units into the unit above as the length, it
    /// is not behind the time.
    pub fn natural(&self, time: Time, zone: &TimeZone) -> Time {
        self.aligned(time, zone).unwrap_or(time + self.length())
    }

    fn aligned(&self, now: Time, zone: &TimeZone) -> Option<Time> {
        let here = Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone());
        let (base, passed) = match self.unit {
            Unit::Day => {
                let midnight = here.start_of_day().ok()?;
                let day = midnight.checked_add(Span::new().try_days(self.count).ok()?).ok()?;
                return Some(Time(day.timestamp().as_millisecond()));
            }
            Unit::Hour => (here.with().time(Clock::midnight()).build().ok()?, i64::from(here.hour())),
            Unit::Minute => (
                here.round(jiff::ZonedRound::new().smallest(Part::Hour).mode(jiff::RoundMode::Trunc)).ok()?,
                i64::from(here.minute()),
            ),
            Unit::Second => (
                here.round(jiff::ZonedRound::new().smallest(Part::Minute).mode(jiff::RoundMode::Trunc)).ok()?,
                i64::from(here.second()),
            ),
            Unit::Millisecond => (
                here.round(jiff::ZonedRound::new().smallest(Part::Second).mode(jiff::RoundMode::Trunc)).ok()?,
                i64::from(here.millisecond()),
            ),
        };
        let steps = if passed > self.count { passed / self.count + 1 } else { 1 };
        let length = i64::try_from(self.length().as_millis()).ok()?;
        Some(Time(base.timestamp().as_millisecond().checked_add(length.checked_mul(steps)?)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn first(unit: Unit, count: i64, now: &str) -> String {
        let now: Timestamp = now.parse().unwrap();
        let alignment = Alignment { unit, count, zone: TimeZone::UTC };
        Timestamp::from_millisecond(alignment.first(Time(now.as_millisecond())).0).unwrap().to_string()
    }

    #[test]
    fn a_boundary_comes_back_with_the_clock() {
        let (now, length) = (Time(100_000), Duration::from_secs(10));
        for (next, then) in [
            (90_000, 90_000),
            (100_001, 100_001),
            (110_000, 110_000),
            (110_001, 100_001),
            (120_000, 110_000),
            (124_000, 104_000),
            (86_500_000, 110_000),
        ] {
            assert_eq!(within(Time(next), now, length), Time(then), "{next}");
        }
        let day = Duration::from_secs(86_400);
        assert_eq!(within(Time(100_000 + 90_000_000), now, day), Time(100_000 + 90_000_000));
    }

    #[test]
    fn boundaries_are_aligned_to_the_unit_above() {
        let now = "2023-11-14T22:13:20.5Z";
        assert_eq!(first(Unit::Second, 10, now), "2023-11-14T22:13:30Z");
        assert_eq!(first(Unit::Second, 15, now), "2023-11-14T22:13:30Z");
        assert_eq!(first(Unit::Second, 7, now), "2023-11-14T22:13:21Z");
        assert_eq!(first(Unit::Second, 45, now), "2023-11-14T22:13:45Z");
        assert_eq!(first(Unit::Second, 90, now), "2023-11-14T22:14:30Z");
        assert_eq!(first(Unit::Minute, 5, now), "2023-11-14T22:15:00Z");
        assert_eq!(first(Unit::Hour, 6, now), "2023-11-15T00:00:00Z");
        assert_eq!(first(Unit::Day, 1, now), "2023-11-15T00:00:00Z");
        assert_eq!(first(Unit::Millisecond, 200, now), "2023-11-14T22:13:20.6Z");
        assert_eq!(first(Unit::Second, 20, "2023-11-14T22:13:20Z"), "2023-11-14T22:13:40Z");
    }
}
