//! When the rule of a case runs: its options `cron`, `duration` and `cronDatetimeRange`, on the virtual clock.

use jiff::tz::TimeZone;

use crate::data::Time;
use crate::options::Schedule;

/// Where a rule is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    /// Its time has not come, or is over until the next.
    Waits,
    Runs {
        since: Time,
    },
    /// It has run for as long as it may.
    Over,
}

/// What a rule does now that it did not before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    Start,
    Stop,
}

/// Follows a schedule, as the patrol of a server does.
pub(super) struct Timetable {
    schedule: Schedule,
    zone: TimeZone,
    turn: Turn,
}

impl Timetable {
    /// The rule is created, and is to run.
    pub fn new(schedule: Schedule, zone: TimeZone, now: Time) -> Self {
        let early = schedule.waits() && !schedule.runs(now, &zone);
        Timetable { turn: if early { Turn::Waits } else { Turn::Runs { since: now } }, schedule, zone }
    }

    pub fn runs(&self) -> bool {
        matches!(self.turn, Turn::Runs { .. })
    }

    /// When something may change.
    pub fn due(&self, now: Time) -> Option<Time> {
        let change = self.schedule.waits().then(|| self.schedule.next_change(now, &self.zone)).flatten();
        match self.turn {
            Turn::Waits => change,
            Turn::Runs { since } => self.schedule.limit().map(|limit| since + limit).into_iter().chain(change).min(),
            Turn::Over => None,
        }
    }

    /// What is due by now.
    pub fn turn(&mut self, now: Time) -> Option<Next> {
        let in_time = !self.schedule.waits() || self.schedule.runs(now, &self.zone);
        match self.turn {
            Turn::Waits if in_time => {
                self.turn = Turn::Runs { since: now };
                Some(Next::Start)
            }
            Turn::Runs { .. } if !in_time => {
                self.turn = Turn::Waits;
                Some(Next::Stop)
            }
            Turn::Runs { since } if self.schedule.limit().is_some_and(|limit| since + limit <= now) => {
                self.turn = Turn::Over;
                Some(Next::Stop)
            }
            _ => None,
        }
    }
}
