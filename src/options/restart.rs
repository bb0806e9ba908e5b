//! Whether and when a rule that ended with an error is started again: its option `restartStrategy`. The pause grows with
//! each failure in a row, so that a rule that cannot work costs little.

use std::time::Duration;

/// What becomes of a rule after an error.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// As in eKuiper the rule is started again without end when this is above 0, and never when it is 0.
    pub attempts: u32,
    /// The first pause.
    pub delay: Duration,
    /// What each pause is more than the one before.
    pub multiplier: f64,
    /// The longest pause.
    pub longest: Duration,
    /// How much of a pause is chance.
    pub jitter: f64,
}

impl Default for Restart {
    fn default() -> Self {
        let (delay, longest) = (Duration::from_secs(1), Duration::from_secs(30));
        Restart { attempts: 0, delay, multiplier: 2.0, longest, jitter: 0.1 }
    }
}

impl Restart {
    pub fn is_on(&self) -> bool {
        self.attempts > 0
    }

    /// The pause after so many failures in a row; `chance` is from -1 to 1.
    pub fn pause(&self, failures: u32, chance: f64) -> Duration {
        let grown = self.delay.as_secs_f64() * self.multiplier.powi(failures.min(1_000).cast_signed());
        Duration::from_secs_f64(grown.min(self.longest.as_secs_f64()) * (1.0 + self.jitter * chance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest() {
        let restart = Restart { attempts: 1, ..Restart::default() };
        let pauses: Vec<u128> = (0..7).map(|failures| restart.pause(failures, 0.0).as_millis()).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(restart.pause(u32::MAX, 1.0), Duration::from_secs(33));
        assert_eq!(restart.pause(0, -1.0), Duration::from_millis(900));
        let flat = Restart { multiplier: 1.0, jitter: 0.0, ..restart };
        assert_eq!(flat.pause(9, 1.0), Duration::from_secs(1));
    }
}
