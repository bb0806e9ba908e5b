//! Time, real or virtual, behind one type. No other module asks the system what time it is.
//!
//! [`Time`] is what rows, windows and timers carry. [`Clock`] tells it and sleeps until it; a virtual clock stands
//! still until it is set, so that a test can cover a day in a millisecond. A limit to how long something may take is a
//! [`Patience`]: it passes only while this process runs, so that after a minute in which the process was stopped nothing is
//! late that had no chance to be in time.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
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

    /// Waits for something, at most so long, as [`within`] does; a virtual clock says itself how long that is.
    pub async fn within<T>(&self, limit: Duration, what: impl Future<Output = T>) -> Option<T> {
        match &self.0 {
            Kind::Real => within(limit, what).await,
            Kind::Virtual(_) => tokio::select! {
                biased;
                done = what => Some(done),
                () = self.sleep(limit) => None,
            },
        }
    }

    /// Returns after this span, of which no time counts in which this process did not run.
    pub async fn pass(&self, span: Duration) {
        // Nothing but the limit ends it.
        let _ = self.within(span, std::future::pending::<()>()).await;
    }
}

/// Waits for something, at most so long. Time in which this process does not run does not count; see [`Patience`].
pub async fn within<T>(limit: Duration, what: impl Future<Output = T>) -> Option<T> {
    Patience::new(limit).wait(what).await
}

/// Returns after this span, of which no time counts in which this process did not run.
pub async fn pass(span: Duration) {
    Clock::real().pass(span).await;
}

/// How often something is looked at while a limit passes.
const LOOKS: u32 = 10;
/// A look is not shorter than that, unless less is left.
const SHORTEST: Duration = Duration::from_millis(5);

/// How long something may take, of the time in which this process runs.
///
/// When a process was stopped for a minute, or had to wait for a processor, its timers are due before its tasks have done
/// anything. So the limit passes in looks, a tenth of it each, and one that took longer counts as one: the tasks and the
/// sockets have had their turns in all the others.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    left: Duration,
    look: Duration,
}

impl Patience {
    pub fn new(limit: Duration) -> Self {
        Patience { left: limit, look: (limit / LOOKS).max(SHORTEST) }
    }

    /// The same, where there are looks of so long at most, which may be more than a tenth of the limit.
    pub fn of_looks(limit: Duration, look: Duration) -> Self {
        let patience = Patience::new(limit);
        Patience { look: patience.look.max(look), ..patience }
    }

    /// What is left of the limit.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// How long to wait at most before the next look.
    pub fn look(&self) -> Duration {
        self.left.min(self.look)
    }

    /// Something has waited for so long, which was to be one look.
    pub fn count(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited.min(self.look));
    }

    /// Waits for something as long as the patience lasts; it is looked at once where none is left.
    pub async fn wait<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        loop {
            if let Some(done) = self.turn(what.as_mut()).await {
                return Some(done);
            }
            if self.left.is_zero() {
                return None;
            }
        }
    }

    /// Waits for something however long it takes, and counts that.
    pub async fn spend<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        loop {
            if let Some(done) = self.turn(what.as_mut()).await {
                return done;
            }
            if self.left.is_zero() {
                return what.await;
            }
        }
    }

    /// Blocks the thread as long as that holds and the patience lasts; the bell rings when it may not hold any more.
    pub fn wait_while<'m, T>(
        &mut self,
        bell: &Condvar,
        mut guard: MutexGuard<'m, T>,
        mut holds: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'m, T> {
        while holds(&mut guard) && !self.left.is_zero() {
            let watch = Stopwatch::start();
            guard = bell.wait_timeout(guard, self.look()).unwrap_or_else(PoisonError::into_inner).0;
            self.count(watch.elapsed());
        }
        guard
    }

    async fn turn<T>(&mut self, what: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let begun = Stopwatch::start();
        let done = tokio::time::timeout(self.look(), what).await;
        self.count(begun.elapsed());
        done.ok()
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

    /// Nothing is done in the first look but that the process stands still for longer than the limit.
    fn answers_after_a_stop(stop: Duration) -> impl Future<Output = &'static str> {
        let mut looked = 0;
        std::future::poll_fn(move |_| {
            looked += 1;
            if looked == 1 {
                std::thread::sleep(stop);
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready("answered")
        })
    }

    #[tokio::test]
    async fn time_in_which_the_process_was_stopped_does_not_count() {
        let limit = Duration::from_millis(50);
        assert_eq!(within(limit, answers_after_a_stop(limit * 3)).await, Some("answered"));
        assert_eq!(Clock::real().within(limit, answers_after_a_stop(limit * 3)).await, Some("answered"));
        let mut patience = Patience::new(limit);
        assert_eq!(patience.spend(answers_after_a_stop(limit * 3)).await, "answered");
        assert_eq!(patience.left(), limit - limit / LOOKS);
    }

    #[tokio::test]
    async fn a_limit_is_as_long_as_it_says() {
        for millis in [0, 1, 7, 60] {
            let (limit, watch) = (Duration::from_millis(millis), Stopwatch::start());
            assert_eq!(within(limit, std::future::pending::<()>()).await, None);
            assert!(watch.elapsed() >= limit, "{limit:?}");
        }
        assert_eq!(within(Duration::ZERO, async { 7 }).await, Some(7));
        let mut patience = Patience::new(Duration::from_millis(100));
        patience.spend(tokio::time::sleep(Duration::from_millis(25))).await;
        assert!(patience.left() <= Duration::from_millis(90), "{patience:?}");
        patience.spend(tokio::time::sleep(Duration::from_millis(200))).await;
        assert_eq!((patience.left(), patience.look()), (Duration::ZERO, Duration::ZERO));
        let mut patience = Patience::new(Duration::from_secs(10));
        patience.count(Duration::from_millis(700));
        patience.count(Duration::from_secs(60));
        assert_eq!((patience.left(), patience.look()), (Duration::from_millis(8_300), Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn on_a_virtual_clock_a_limit_passes_as_the_clock_does() {
        let clock = Clock::stopped_at(Time(0));
        let moves = async {
            tokio::task::yield_now().await;
            clock.set(Time(3_000));
        };
        let ((), waited) = tokio::join!(moves, clock.within(Duration::from_secs(3), std::future::pending::<()>()));
        assert_eq!(waited, None);
        assert_eq!(clock.within(Duration::from_secs(3), async { 1 }).await, Some(1));
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
