//! How many lines a plugin may write to the log: so many a second, with some in advance. What is over is counted and told.

use std::sync::{Mutex, PoisonError};

use crate::clock::Stopwatch;

/// Lines that may come at once, in seconds of what may come.
const ADVANCE: f64 = 4.0;

pub struct Gate {
    plugin: Box<str>,
    /// Lines a second.
    rate: f64,
    state: Mutex<State>,
}

struct State {
    watch: Stopwatch,
    /// Lines that may come now.
    left: f64,
    dropped: u64,
}

impl Gate {
    pub fn new(plugin: &str, rate: u64) -> Gate {
        let rate = rate as f64;
        Gate {
            plugin: plugin.into(),
            rate,
            state: Mutex::new(State { watch: Stopwatch::start(), left: rate * ADVANCE, dropped: 0 }),
        }
    }

    /// Whether the next line may be written.
    pub fn passes(&self) -> bool {
        let (passes, dropped) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let earned = state.watch.elapsed().as_secs_f64() * self.rate;
            state.watch = Stopwatch::start();
            state.left = (state.left + earned).min(self.rate * ADVANCE);
            if state.left < 1.0 {
                state.dropped += 1;
                (false, 0)
            } else {
                state.left -= 1.0;
                (true, std::mem::take(&mut state.dropped))
            }
        };
        self.tell(dropped);
        passes
    }

    /// Tells what was dropped, when no more lines come.
    pub fn settle(&self) {
        let dropped = std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).dropped);
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

    #[test]
    fn a_flood_is_cut_and_time_lets_more_through() {
        let gate = Gate::new("x", 50);
        let passed = (0..10_000).filter(|_| gate.passes()).count();
        assert!((200..1000).contains(&passed), "{passed}");
        let watch = Stopwatch::start();
        while !gate.passes() {
            assert!(watch.elapsed().as_secs() < 60);
        }
    }
}
