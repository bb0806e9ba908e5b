//! Who looks after the rules of a server: starts those whose time has come, ends those whose time is over, starts again
//! those that an error has stopped, and keeps the accounts.
//!
//! The patrol wakes at the instants at which something is due, when a rule says that it has changed, and at least once
//! in the interval of the settings. What it decides is decided again under the control of the rule, since a user may
//! have been faster. Rules do not wait for each other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::life::{Control, Duty, Rule};
use super::{Planned, Rules, State, kept, left};
use crate::clock::{Clock, Time};

/// How long accounts may be changed and not stored: what a crash may set back. All that have changed share one write, and
/// where none has there is none.
const KEEPING: Duration = Duration::from_secs(1);

impl Rules {
    /// Begins to look after the rules, once.
    pub(super) fn begin_patrol(self: &Arc<Self>) {
        if !self.patrolled.swap(true, Ordering::AcqRel) {
            tokio::spawn(patrol(Arc::downgrade(self), self.host().clock.clone(), self.bell.clone()));
            tokio::spawn(left::mend(Arc::downgrade(self), self.host().clock.clone()));
            tokio::spawn(keeper(Arc::downgrade(self), self.host().clock.clone()));
        }
    }

    /// Looks at all rules; gives when to look again.
    fn round(self: &Arc<Self>) -> Time {
        let (now, zone) = (self.host().clock.now(), &self.host().zone);
        let mut next = now + self.host().patrol;
        for rule in self.all() {
            let (duty, again) = rule.duty(now, zone);
            if duty.is_some() && !rule.tended.swap(true, Ordering::AcqRel) {
                tokio::spawn(self.clone().tend(rule));
            }
            next = again.map_or(next, |again| next.min(again));
        }
        next
    }

    /// Does what is due.
    async fn tend(self: Arc<Self>, rule: Arc<Rule>) {
        let mut control = rule.control.lock().await;
        // From here on, what changes is looked at again.
        rule.tended.store(false, Ordering::Release);
        if control.gone {
            return;
        }
        let (duty, _) = rule.duty(self.host().clock.now(), &self.host().zone);
        match duty {
            None => {}
            Some(Duty::Start) => self.start_anew(&rule, &mut control).await,
            Some(Duty::Again) => {
                rule.again();
                tracing::info!(rule = rule.id, "starting the rule again after its error");
                self.start_anew(&rule, &mut control).await;
            }
            Some(Duty::Pause) => rule.halt(&mut control, State::ScheduledStop, "schedule terminated").await,
            Some(Duty::End) => rule.halt(&mut control, State::Stopped, "duration terminated").await,
        }
        rule.keep();
    }

    /// Plans the rule by its definition as it stands, and starts it.
    async fn start_anew(&self, rule: &Arc<Rule>, control: &mut Control) {
        match self.plan_anew(rule) {
            Ok(planned) => self.launch(rule, control, planned).await,
            Err(error) => rule.fail(&error, false, None),
        }
    }

    /// Runs a rule that is to run, or has it wait for its time.
    pub(super) async fn launch(&self, rule: &Arc<Rule>, control: &mut Control, planned: Box<dyn Planned>) {
        match rule.is_early(self.host().clock.now(), &self.host().zone) {
            true => rule.wait(),
            false => rule.run(control, planned).await,
        }
    }

    /// Stores the accounts that have changed.
    pub(super) async fn keep(&self) {
        let changed = self.all().iter().filter_map(|rule| rule.changed()).collect();
        kept::store(self.host().store.clone(), changed).await;
    }
}

/// Looks after the rules as long as they are there.
async fn patrol(rules: Weak<Rules>, clock: Clock, bell: Arc<Notify>) {
    while let Some(rules) = rules.upgrade().filter(|rules| !rules.over.load(Ordering::Acquire)) {
        let next = rules.round();
        drop(rules);
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = bell.notified() => {}
        }
    }
}

/// Keeps the accounts of the rules as long as they are there. A disk that is slow holds up no one else.
async fn keeper(rules: Weak<Rules>, clock: Clock) {
    while let Some(rules) = rules.upgrade().filter(|rules| !rules.over.load(Ordering::Acquire)) {
        rules.keep().await;
        drop(rules);
        clock.sleep(KEEPING).await;
    }
}
