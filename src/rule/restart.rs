//! What has happened so far to a rule that ended with an error, and when it is started again by its option
//! `restartStrategy`. A little chance keeps rules that fell together from rising together.

use std::hash::{BuildHasher as _, RandomState};

use crate::clock::Time;
use crate::options::Restart;

/// The failures of a rule, and what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// How often it was started again after an error.
    pub restarts: u64,
    /// How often it was stopped by a panic.
    pub panics: u64,
    /// When it is started again.
    pub next: Option<Time>,
    /// Failures in a row.
    pub(super) failures: u32,
}

impl Retries {
    /// A run that began at `started`, if it came so far, has ended with an error.
    pub fn failed(&mut self, restart: &Restart, started: Option<Time>, now: Time) {
        // What has worked for longer than the longest pause was all right.
        if started.is_some_and(|started| now.since(started) > restart.longest) {
            self.failures = 0;
        }
        self.next = restart.is_on().then(|| now + restart.pause(self.failures, chance()));
        self.failures = self.failures.saturating_add(1);
    }

    /// The rule is started again after an error.
    pub fn again(&mut self) {
        self.restarts += 1;
        self.next = None;
    }

    /// Someone has started, stopped or changed the rule.
    pub fn over(&mut self) {
        (self.next, self.failures) = (None, 0);
    }
}

/// A number from -1 to 1.
fn chance() -> f64 {
    let bits = RandomState::new().hash_one(0) >> 11;
    bits as f64 / (1_u64 << 52) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_from_minus_one_to_one() {
        let many: Vec<f64> = (0..1_000).map(|_| chance()).collect();
        assert!(many.iter().all(|one| (-1.0..=1.0).contains(one)));
        assert!(many.iter().any(|one| *one < -0.5) && many.iter().any(|one| *one > 0.5));
    }

    #[test]
    fn a_run_that_lasted_is_no_failure_in_a_row() {
        let restart = Restart { attempts: 1, jitter: 0.0, ..Restart::default() };
        let mut retries = Retries::default();
        let mut fail = |started, now| {
            retries.failed(&restart, Some(Time(started)), Time(now));
            retries.next
        };
        assert_eq!(fail(0, 0), Some(Time(1_000)));
        assert_eq!(fail(1_000, 1_000), Some(Time(3_000)));
        assert_eq!(fail(3_000, 33_001), Some(Time(34_001)));
        assert_eq!(fail(34_001, 34_001), Some(Time(36_001)));
        retries.failed(&Restart::default(), None, Time(5));
        assert_eq!(retries.next, None);
    }
}
