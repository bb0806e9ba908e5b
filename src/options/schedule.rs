//! When a rule is to run: its options `cron`, `duration` and `cronDatetimeRange`.
//!
//! A [`Schedule`] is data; it is asked what holds at an instant, and when that may change. It knows no task and no
//! clock. With ranges, or with a cron and a duration, a rule waits for its times; with a duration alone it runs once
//! for so long.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value as Json;

use super::cron::Cron;
use crate::clock::Time;

/// How `begin` and `end` of a range are written.
const LAYOUT: &str = "%Y-%m-%d %H:%M:%S";

/// When a rule is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// When it begins, time and again; it counts with a length.
    pub cron: Option<Cron>,
    /// How long it runs then, or, without a cron, at all.
    pub length: Option<Duration>,
    /// It runs within one of them only.
    pub ranges: Vec<Range>,
}

/// A range of dates. The end is no part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    begin: Bound,
    end: Bound,
}

#[derive(Clone, Debug, PartialEq)]
enum Bound {
    At(Time),
    /// By the clocks of the server's zone.
    Civil(DateTime),
}

impl Bound {
    fn time(&self, zone: &TimeZone) -> Time {
        match self {
            Bound::At(time) => *time,
            Bound::Civil(civil) => {
                let at = zone.to_ambiguous_timestamp(*civil).compatible();
                at.map_or(Time::MAX, |at| Time(at.as_millisecond()))
            }
        }
    }
}

impl Range {
    /// Reads `{"begin", "end"}` or `{"beginTimestamp", "endTimestamp"}`.
    pub fn read(value: &Json) -> Result<Range, String> {
        let Some(members) = value.as_object() else { return Err(format!("found `{value}`, {EXPECTED}")) };
        const KEYS: [&str; 4] = ["begin", "end", "beginTimestamp", "endTimestamp"];
        if let Some(unknown) = members.keys().find(|key| !KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))) {
            return Err(format!("a range has no `{unknown}`, {EXPECTED}"));
        }
        let member =
            |name: &str| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let stamp = |name: &str| match member(name) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(at) => Ok(Some(Time(at)).filter(|at| at.0 > 0)),
                None => Err(format!("`{name}` is `{value}`, expected milliseconds since 1970")),
            },
        };
        let civil = |name: &str| {
            let text = member(name).unwrap_or(&Json::Null);
            let found = text.as_str().and_then(|text| DateTime::strptime(LAYOUT, text).ok());
            found.map(Bound::Civil).ok_or_else(|| match text {
                Json::Null => format!("`{name}` is missing, {EXPECTED}"),
                _ => format!("`{name}` is `{text}`, expected `YYYY-MM-DD hh:mm:ss`"),
            })
        };
        let range = match (stamp("beginTimestamp")?, stamp("endTimestamp")?) {
            (Some(begin), Some(end)) => Range { begin: Bound::At(begin), end: Bound::At(end) },
            _ => Range { begin: civil("begin")?, end: civil("end")? },
        };
        // Whether one is behind the other does not hang on the zone, save within the hour of a change.
        if range.begin.time(&TimeZone::UTC) > range.end.time(&TimeZone::UTC) {
            return Err("begin time shouldn't after end time".to_owned());
        }
        Ok(range)
    }
}

const EXPECTED: &str = "expected `begin` and `end` as `YYYY-MM-DD hh:mm:ss`, or `beginTimestamp` and `endTimestamp`";

impl Schedule {
    /// The rule waits for its times.
    pub fn waits(&self) -> bool {
        !self.ranges.is_empty() || self.repeats().is_some()
    }

    /// How long the rule may run once it is started.
    pub fn limit(&self) -> Option<Duration> {
        if self.repeats().is_some() { None } else { self.length }
    }

    /// Begin and length of what comes again and again.
    fn repeats(&self) -> Option<(&Cron, Duration)> {
        self.cron.as_ref().zip(self.length)
    }

    /// Whether the rule is to run at that time.
    pub fn runs(&self, now: Time, zone: &TimeZone) -> bool {
        self.in_range(now, zone) && self.repeats().is_none_or(|(cron, length)| begun(cron, length, now, zone).is_some())
    }

    fn in_range(&self, now: Time, zone: &TimeZone) -> bool {
        let within = |range: &Range| range.begin.time(zone) <= now && now < range.end.time(zone);
        self.ranges.is_empty() || self.ranges.iter().any(within)
    }

    /// When a cron begins the next time; `None` without one, or out of range.
    pub fn next_start(&self, now: Time, zone: &TimeZone) -> Option<Time> {
        let (cron, _) = self.repeats()?;
        if self.in_range(now, zone) { cron.after(now, zone) } else { None }
    }

    /// The first instant behind this one at which [`Schedule::runs`] may have another answer.
    pub fn next_change(&self, now: Time, zone: &TimeZone) -> Option<Time> {
        let bounds = self.ranges.iter().flat_map(|range| [range.begin.time(zone), range.end.time(zone)]);
        let mut next = bounds.filter(|at| *at > now).min();
        if let Some((cron, length)) = self.repeats() {
            let end = begun(cron, length, now, zone).map(|begin| begin + length);
            let all = [next, cron.after(now, zone), end.filter(|end| *end > now)];
            next = all.into_iter().flatten().min();
        }
        next
    }
}

/// When the window began that is open now.
fn begun(cron: &Cron, length: Duration, now: Time, zone: &TimeZone) -> Option<Time> {
    cron.after(now - length, zone).filter(|begin| *begin <= now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn ms(text: &str) -> Time {
        Time(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn schedule(cron: &str, length: u64, ranges: Json) -> Schedule {
        let cron = Some(cron).filter(|cron| !cron.is_empty()).map(|cron| Cron::parse(cron).unwrap());
        let length = Some(length).filter(|length| *length > 0).map(Duration::from_secs);
        let ranges = ranges.as_array().unwrap().iter().map(|range| Range::read(range).unwrap()).collect();
        Schedule { cron, length, ranges }
    }

    /// Whether it runs, and the next change, from one change to the next.
    fn course(schedule: &Schedule, zone: &TimeZone, from: &str, steps: usize) -> Vec<(bool, String)> {
        let mut now = ms(from);
        let mut course = Vec::new();
        for _ in 0..steps {
            let next = schedule.next_change(now, zone);
            let shown = next.map_or("never".into(), |at| Timestamp::from_millisecond(at.0).unwrap().to_string());
            course.push((schedule.runs(now, zone), shown));
            let Some(next) = next else { break };
            assert_eq!(schedule.runs(next - Duration::from_millis(1), zone), schedule.runs(now, zone), "{course:?}");
            now = next;
        }
        course
    }

    fn steps(all: &[(bool, &str)]) -> Vec<(bool, String)> {
        all.iter().map(|(runs, next)| (*runs, (*next).to_owned())).collect()
    }

    #[test]
    fn a_cron_opens_a_window_of_the_duration() {
        let utc = TimeZone::UTC;
        let daily = schedule("0 6 * * *", 1800, json!([]));
        assert!(daily.waits() && daily.limit().is_none());
        assert_eq!(
            course(&daily, &utc, "2024-01-01T05:00:00Z", 3),
            steps(&[(false, "2024-01-01T06:00:00Z"), (true, "2024-01-01T06:30:00Z"), (false, "2024-01-02T06:00:00Z"),])
        );
        assert!(daily.runs(ms("2024-01-01T06:29:59.999Z"), &utc));
        assert_eq!(daily.next_start(ms("2024-01-01T06:10:00Z"), &utc), Some(ms("2024-01-02T06:00:00Z")));
        // Windows that overlap are one.
        let always = schedule("*/10 * * * *", 900, json!([]));
        assert!((0..100).all(|n| always.runs(ms("2024-01-01T05:00:00Z") + Duration::from_secs(n * 61), &utc)));
        let every = schedule("@every 1h", 600, json!([]));
        assert!(every.runs(ms("2024-01-01T05:09:59Z"), &utc) && !every.runs(ms("2024-01-01T05:10:00Z"), &utc));
    }

    #[test]
    fn ranges_stand_alone_and_bound_a_cron() {
        let utc = TimeZone::UTC;
        let range = json!([
            {"begin": "2024-01-01 06:10:00", "end": "2024-01-02 06:20:00"},
            {"beginTimestamp": 1704348000000_i64, "endTimestamp": 1704351600000_i64},
        ]);
        let alone = schedule("", 0, range.clone());
        assert!(alone.waits() && alone.next_start(ms("2024-01-01T07:00:00Z"), &utc).is_none());
        assert_eq!(
            course(&alone, &utc, "2024-01-01T00:00:00Z", 9),
            steps(&[
                (false, "2024-01-01T06:10:00Z"),
                (true, "2024-01-02T06:20:00Z"),
                (false, "2024-01-04T06:00:00Z"),
                (true, "2024-01-04T07:00:00Z"),
                (false, "never"),
            ])
        );
        let both = schedule("0 6 * * *", 1800, range);
        let runs = |text: &str| both.runs(ms(text), &utc);
        assert!(!runs("2024-01-01T06:05:00Z") && runs("2024-01-01T06:10:00Z") && !runs("2024-01-01T06:30:00Z"));
        assert!(runs("2024-01-02T06:19:59Z") && !runs("2024-01-02T06:20:00Z") && !runs("2024-01-03T06:10:00Z"));
        assert_eq!(both.next_start(ms("2024-01-01T00:00:00Z"), &utc), None);
        assert_eq!(both.next_start(ms("2024-01-01T07:00:00Z"), &utc), Some(ms("2024-01-02T06:00:00Z")));
    }

    #[test]
    fn dates_are_those_of_the_servers_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let range = json!([{"begin": "2024-07-01 00:00:00", "end": "2024-07-02 00:00:00"}]);
        let alone = schedule("", 0, range);
        assert_eq!(
            course(&alone, &berlin, "2024-01-01T00:00:00Z", 2),
            steps(&[(false, "2024-06-30T22:00:00Z"), (true, "2024-07-01T22:00:00Z")])
        );
    }

    #[test]
    fn a_duration_alone_is_a_limit_and_a_cron_alone_nothing() {
        let once = schedule("", 60, json!([]));
        assert!(!once.waits() && once.limit() == Some(Duration::from_secs(60)));
        assert!(once.runs(Time(0), &TimeZone::UTC) && once.next_change(Time(0), &TimeZone::UTC).is_none());
        let cron = schedule("0 6 * * *", 0, json!([]));
        assert!(!cron.waits() && cron.limit().is_none() && cron.runs(Time(0), &TimeZone::UTC));
    }

    #[test]
    fn a_range_that_cannot_be_is_refused() {
        for (range, expected) in [
            (
                json!({"begin": "2024-01-02 00:00:00", "end": "2024-01-01 00:00:00"}),
                "begin time shouldn't after end time",
            ),
            (json!({"beginTimestamp": 2, "endTimestamp": 1}), "begin time shouldn't after end time"),
            (
                json!({"begin": "2024-01-02", "end": "2024-01-01 00:00:00"}),
                "`begin` is `\"2024-01-02\"`, expected `YYYY",
            ),
            (json!({"begin": "2024-01-02 00:00:00"}), "`end` is missing, expected `begin` and `end`"),
            (json!({"beginTimestamp": "x", "endTimestamp": 1}), "`beginTimestamp` is `\"x\"`, expected milliseconds"),
            (json!({"from": 1}), "a range has no `from`, expected `begin`"),
            (json!(3), "found `3`, expected `begin`"),
        ] {
            let error = Range::read(&range).unwrap_err();
            assert!(error.contains(expected), "{range}: {error}");
        }
    }
}
