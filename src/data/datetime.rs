use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Time;

/// An instant together with the zone that it is shown in. Two are equal when they are the same instant.
#[derive(Clone, Debug)]
pub struct DateTime {
    /// Nanoseconds since 1970-01-01 UTC; the years 1678 to 2261.
    pub nanos: i64,
    pub zone: TimeZone,
}

impl DateTime {
    pub fn new(nanos: i64, zone: TimeZone) -> Self {
        DateTime { nanos, zone }
    }

    /// From epoch milliseconds; saturates beyond the years that nanoseconds can count.
    pub fn from_millis(millis: i64, zone: TimeZone) -> Self {
        DateTime { nanos: millis.saturating_mul(1_000_000), zone }
    }

    pub fn millis(&self) -> i64 {
        self.nanos.div_euclid(1_000_000)
    }

    pub fn time(&self) -> Time {
        Time(self.millis())
    }

    /// The civil date and time in the zone.
    pub fn zoned(&self) -> jiff::Zoned {
        Timestamp::from_nanosecond(self.nanos.into()).unwrap_or_default().to_zoned(self.zone.clone())
    }

    /// `2024-03-09T10:11:12.5Z`, with the offset of the zone and no trailing zeros, as JSON carries it.
    pub fn rfc3339(&self) -> String {
        let zoned = self.zoned();
        let mut text = zoned.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let fraction = self.nanos.rem_euclid(1_000_000_000);
        if fraction != 0 {
            text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
        }
        if zoned.offset().seconds() == 0 {
            text.push('Z');
        } else {
            text.push_str(&zoned.strftime("%:z").to_string());
        }
        text
    }
}

impl PartialEq for DateTime {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_drops_trailing_zeros() {
        assert_eq!(DateTime::from_millis(1_709_979_072_500, TimeZone::UTC).rfc3339(), "2024-03-09T10:11:12.5Z");
        let east = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(DateTime::from_millis(0, east).rfc3339(), "1970-01-01T08:00:00+08:00");
    }
}
