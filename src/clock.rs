//! Time, real or virtual, behind one type. No other module asks the system what time it is.
//!
//! [`Time`] is what rows, windows and timers carry. [`Clock`] tells it and sleeps until it; a virtual clock stands
//! still until it is set, so that a test can cover a day in a millisecond.

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    pub const MAX: Time = Time(i64::MAX);

    /// The span from `earlier` to here; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Tells the time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real,
    Virtual(Arc<Stand>),
}

#[derive(Debug)]
struct Stand {
    now: AtomicI64,
    moved: watch::Sender<i64>,
}

impl Clock {
    pub fn real() -> Self {
        Clock(Kind::Real)
    }

    /// A clock that stands at `now` until [`Clock::set`].
    pub fn stopped_at(now: Time) -> Self {
        Clock(Kind::Virtual(Arc::new(Stand { now: AtomicI64::new(now.0), moved: watch::Sender::new(now.0) })))
    }

    pub fn now(&self) -> Time {
        match &self.0 {
            Kind::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Time(since.as_millis() as i64)
            }
            Kind::Virtual(stand) => Time(stand.now.load(Ordering::Acquire)),
        }
    }

    /// Moves a virtual clock and wakes who waited for that time. A real clock cannot be set.
    pub fn set(&self, now: Time) {
        if let Kind::Virtual(stand) = &self.0 {
            stand.now.store(now.0, Ordering::Release);
            stand.moved.send_replace(now.0);
        }
    }

    /// Returns when the clock shows `at` or later. Where a real clock is set back meanwhile, it returns when as much time
    /// has passed as was missing in the beginning.
    pub async fn sleep_until(&self, at: Time) {
        match &self.0 {
            // The wall clock may be stepped while we sleep, so look again at least once a second.
            Kind::Real => {
                let (watch, span) = (Stopwatch::start(), at.since(self.now()));
                loop {
                    let left = at.since(self.now()).min(span.saturating_sub(watch.elapsed()));
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left.min(Duration::from_secs(1))).await;
                }
            }
            Kind::Virtual(stand) => {
                let mut moved = stand.moved.subscribe();
                // The sender lives in `stand`, so this can only end by reaching the time.
                let _ = moved.wait_for(|now| *now >= at.0).await;
            }
        }
    }

    /// Blocks the thread for this span, or until it is `over` before. A worker of the runtime gives its other tasks away
    /// first. On a virtual clock nothing is waited for, since who calls is who would move it.
    pub fn block(&self, span: Duration, over: impl Fn() -> bool) {
        let Kind::Real = self.0 else { return };
        let wait = || {
            let watch = Stopwatch::start();
            while !over() {
                match span.saturating_sub(watch.elapsed()) {
                    Duration::ZERO => return,
                    left => std::thread::sleep(left.min(Duration::from_millis(20))),
                }
            }
        };
        let flavor = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
        match flavor {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }

    /// Returns after this span, also when a real clock is stepped meanwhile.
    pub async fn sleep(&self, span: Duration) {
        match &self.0 {
            Kind::Real => tokio::time::sleep(span).await,
            Kind::Virtual(_) => self.sleep_until(self.now() + span).await,
        }
    }
}

/// A span as users write it: `10s`, `1h30m`, `1.5s`, `300ms`, `0`; the units are h, m, s, ms, us, ns. No sign.
pub fn parse_span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| number + at);
        let scale = match &rest[number..unit] {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanos += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[unit..];
    }
    (!text.is_empty() && nanos < u64::MAX as f64).then(|| Duration::from_nanos(nanos.round() as u64))
}

/// A stopwatch for latencies and time limits; it never runs backwards and has no date.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_users_write_them() {
        for (text, millis) in [("10s", 10_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("300ms", 300), ("0", 0)] {
            assert_eq!(parse_span(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1x", "1 s", "1.2.3s", "10sm"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn to_block_takes_real_time_only_by_a_real_clock_and_can_be_cut_short() {
        let long = Duration::from_secs(3600);
        let watch = Stopwatch::start();
        Clock::stopped_at(Time(0)).block(long, || false);
        Clock::real().block(long, || watch.elapsed() > Duration::from_millis(5));
        assert!(watch.elapsed() < Duration::from_secs(60));
        let watch = Stopwatch::start();
        Clock::real().block(Duration::from_millis(30), || false);
        assert!(watch.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_virtual_sleep_ends_when_the_clock_is_set() {
        let clock = Clock::stopped_at(Time(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(Time(5_000)).await;
                clock.now()
            }
        });
        clock.set(Time(4_999));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.set(Time(5_000));
        assert_eq!(sleeper.await.ok(), Some(Time(5_000)));
    }
}
