//! How many lines a plugin may write to the log: within any second so many, and one that tells how many there were besides.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Stopwatch;

use super::process::lock;

const SECOND: Duration = Duration::from_secs(1);

pub struct Gate {
    plugin: Box<str>,
    /// Lines a second.
    rate: u64,
    watch: Stopwatch,
    state: Mutex<State>,
}

/// All times are spans since the gate was made.
#[derive(Default)]
struct State {
    /// When the lines of the last second passed.
    passed: VecDeque<Duration>,
    /// Lines that were not told of yet.
    dropped: u64,
    /// When the first of them came.
    since: Duration,
}

impl State {
    fn passes(&mut self, now: Duration, rate: u64) -> bool {
        while self.passed.front().is_some_and(|then| *then + SECOND <= now) {
            self.passed.pop_front();
        }
        if (self.passed.len() as u64) < rate {
            self.passed.push_back(now);
            return true;
        }
        if self.dropped == 0 {
            self.since = now;
        }
        self.dropped += 1;
        false
    }

    /// What is to be told now: a second's worth, so that a flood of lines is no flood of warnings.
    fn due(&mut self, now: Duration) -> u64 {
        if self.dropped > 0 && self.since + SECOND <= now { std::mem::take(&mut self.dropped) } else { 0 }
    }
}

impl Gate {
    pub fn new(plugin: &str, rate: u64) -> Gate {
        Gate { plugin: plugin.into(), rate, watch: Stopwatch::start(), state: Mutex::default() }
    }

    /// Whether the next line may be written.
    pub fn passes(&self) -> bool {
        let (passes, dropped) = {
            let mut state = lock(&self.state);
            // Read under the lock, so that times rise.
            let now = self.watch.elapsed();
            let dropped = state.due(now);
            (state.passes(now, self.rate), dropped)
        };
        self.tell(dropped);
        passes
    }

    /// Tells what was dropped, when no more lines come.
    pub fn settle(&self) {
        let dropped = lock(&self.state).due(self.watch.elapsed());
        self.tell(dropped);
    }

    /// Tells what is left to tell, for there will be no more.
    pub fn close(&self) {
        let dropped = std::mem::take(&mut lock(&self.state).dropped);
        self.tell(dropped);
    }

    fn tell(&self, dropped: u64) {
        if dropped > 0 {
            let (plugin, rate) = (&*self.plugin, self.rate);
            tracing::warn!(plugin, "{dropped} lines of its log were dropped: it may write {rate} a second");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of a line each 5 µs: how many passed until then, and when how many were told of.
    fn flood(state: &mut State, from: Duration, to: Duration) -> (Vec<Duration>, Vec<(Duration, u64)>) {
        let (mut passed, mut told) = (Vec::new(), Vec::new());
        let mut now = from;
        while now < to {
            match state.due(now) {
                0 => {}
                dropped => told.push((now, dropped)),
            }
            if state.passes(now, 50) {
                passed.push(now);
            }
            now += Duration::from_micros(5);
        }
        (passed, told)
    }

    #[test]
    fn within_any_second_so_many_pass_and_one_warning_is_given() {
        let mut state = State::default();
        let (from, to) = (Duration::from_millis(300), Duration::from_millis(3800));
        let (passed, told) = flood(&mut state, from, to);
        assert_eq!(passed.len(), 200, "{passed:?}");
        assert!(passed.windows(51).all(|lines| lines[50] - lines[0] >= SECOND), "{passed:?}");
        assert!(told.len() == 3 && told.windows(2).all(|two| two[1].0 - two[0].0 >= SECOND), "{told:?}");
        let counted: u64 = told.iter().map(|(_, dropped)| dropped).sum();
        assert_eq!(counted + state.dropped + passed.len() as u64, 700_000);
    }

    #[test]
    fn what_was_dropped_last_is_told_when_no_more_lines_come() {
        let mut state = State::default();
        let (passed, told) = flood(&mut state, Duration::ZERO, Duration::from_millis(10));
        assert_eq!((passed.len(), told.len()), (50, 0));
        assert_eq!(state.due(Duration::from_millis(900)), 0);
        assert_eq!(state.due(Duration::from_millis(1001)), 2000 - 50);
        assert_eq!(state.due(Duration::from_secs(9)), 0);
        assert!(state.passes(Duration::from_secs(9), 50), "it is quiet again");
    }
}
