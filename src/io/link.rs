//! What a connector says of its connection, and since when it is so.
//!
//! A [`Report`] is the end that is written to, by the connector and by who carries its parcels; the [`LinkStatus`] is what
//! the status of a rule shows. An outage lasts from its first failure to the first delivery that succeeds, since many a
//! connector connects to no one: what it says between the two changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::clock::{Clock, Time};

/// The state of a connection, as the status of a rule shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Link {
    #[default]
    Connecting,
    Connected,
    /// With the reason.
    Disconnected(String),
}

/// A connection, and what became of it so far. `Time(0)`: never.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkStatus {
    pub link: Link,
    /// When it was made the last time.
    pub connected: Time,
    /// When it was lost, or found missing, the last time.
    pub disconnected: Time,
    /// Why that was.
    pub reason: String,
    /// When someone tried to make it the last time.
    pub tried: Time,
    /// What the connector itself counts, by name: see [`Report::count`].
    pub counts: BTreeMap<String, i64>,
}

/// Names of counts that the status of a connector shows.
const COUNTS: usize = 64;

/// Where a connector reports the state of its connection; the last report counts.
#[derive(Clone, Debug)]
pub struct Report {
    clock: Clock,
    to: Arc<watch::Sender<LinkStatus>>,
    /// Steps that were made within deliveries.
    steps: Arc<AtomicU64>,
    stepped: Arc<AtomicI64>,
    /// A delivery has failed, and none has succeeded since.
    doubted: Arc<AtomicBool>,
}

impl Report {
    /// A report by the real clock.
    pub fn new() -> (Report, watch::Receiver<LinkStatus>) {
        Report::timed(Clock::real())
    }

    pub fn timed(clock: Clock) -> (Report, watch::Receiver<LinkStatus>) {
        let (to, from) = watch::channel(LinkStatus::default());
        let to = Arc::new(to);
        (Report { clock, to, steps: Arc::default(), stepped: Arc::default(), doubted: Arc::default() }, from)
    }

    pub fn set(&self, link: Link) {
        let now = self.clock.now();
        let doubted = self.doubted.load(Ordering::Relaxed);
        self.to.send_if_modified(|status| {
            if doubted && !matches!(link, Link::Disconnected(_)) {
                status.tried = now;
                return false;
            }
            // A connector that dials again by itself says so by its result.
            if matches!(status.link, Link::Disconnected(_)) {
                status.tried = now;
            }
            match &link {
                Link::Connecting => status.tried = now,
                Link::Connected if status.link == Link::Connected => return false,
                Link::Connected => status.connected = now,
                Link::Disconnected(reason) => {
                    if !matches!(status.link, Link::Disconnected(_)) {
                        status.disconnected = now;
                    }
                    status.reason.clone_from(reason);
                }
            }
            status.link = link;
            true
        });
    }

    /// A delivery has failed since the other side is away: what the connector says of its connection is no proof of an
    /// end of the outage, since not every one of them needs the other side to connect.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// A delivery has succeeded: if there was an outage, this is its end.
    pub fn proven(&self) {
        if self.doubted.swap(false, Ordering::Relaxed) {
            self.set(Link::Connected);
        }
    }

    /// A delivery that takes its time goes on: the other side has confirmed a part of it. Without such a word, one that
    /// takes too long is given up.
    pub fn progress(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.stepped.store(self.clock.now().0, Ordering::Relaxed);
    }

    /// When [`Report::progress`] was said the last time; `Time(0)`: never.
    pub fn progressed(&self) -> Time {
        Time(self.stepped.load(Ordering::Relaxed))
    }

    /// How often [`Report::progress`] was said.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Counts something that no account of the engine knows, such as messages that one of several subscribers did not get.
    /// A connector that makes up ever more names is not followed beyond 64 of them.
    pub fn count(&self, name: &str, by: i64) {
        self.to.send_if_modified(|status| {
            let room = status.counts.len() < COUNTS;
            match status.counts.get_mut(name) {
                Some(count) => *count = count.saturating_add(by),
                None if room => drop(status.counts.insert(name.to_owned(), by)),
                None => {}
            }
            // Whoever waits for the connection to change need not wake up.
            false
        });
    }

    /// Someone tries to connect now; until that succeeds the link is what it was.
    pub fn trying(&self) {
        let now = self.clock.now();
        self.to.send_modify(|status| status.tried = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_when_a_link_was_what() {
        let clock = Clock::stopped_at(Time(1));
        let (report, status) = Report::timed(clock.clone());
        let down = |reason: &str| Link::Disconnected(reason.into());
        let steps = [
            (Link::Connecting, (0, 0, "", 2)),
            (down("refused"), (0, 3, "refused", 2)),
            (down("refused again"), (0, 3, "refused again", 4)),
            (Link::Connected, (5, 3, "refused again", 5)),
            (Link::Connected, (5, 3, "refused again", 5)),
            (down("cut"), (5, 7, "cut", 5)),
        ];
        for (n, (link, (connected, disconnected, reason, tried))) in steps.into_iter().enumerate() {
            clock.set(Time(n as i64 + 2));
            report.set(link.clone());
            let (connected, disconnected, tried) = (Time(connected), Time(disconnected), Time(tried));
            let counts = BTreeMap::new();
            let expected = LinkStatus { link, connected, disconnected, reason: reason.into(), tried, counts };
            assert_eq!(*status.borrow(), expected);
        }
        report.trying();
        assert_eq!((status.borrow().tried, &status.borrow().link), (Time(7), &down("cut")));
        // Only a delivery ends an outage that a delivery has told of.
        report.doubt();
        for (at, link) in [(8, Link::Connecting), (9, Link::Connected), (10, down("cut again"))] {
            clock.set(Time(at));
            report.set(link);
            assert_eq!((status.borrow().disconnected, status.borrow().tried), (Time(7), Time(at)));
            assert!(matches!(status.borrow().link, Link::Disconnected(_)));
        }
        report.proven();
        assert_eq!((status.borrow().connected, &status.borrow().link), (Time(10), &Link::Connected));
        for n in 0..2 * COUNTS {
            report.count("missed", 2);
            report.count(&format!("key {n}"), 1);
        }
        let counts = status.borrow().counts.clone();
        assert_eq!((counts.len(), counts["missed"], counts["key 0"]), (COUNTS, 4 * COUNTS as i64, 1));
    }
}
