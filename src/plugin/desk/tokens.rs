//! Emissions that all rules are done with, by their tokens, until the guest asks for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::data::Acknowledge;

use super::lock;

#[derive(Default)]
pub struct Tokens {
    state: Mutex<State>,
    news: Condvar,
    /// Emissions that rules are not done with.
    open: watch::Sender<usize>,
    /// There was one.
    used: AtomicBool,
}

#[derive(Default)]
struct State {
    done: VecDeque<u64>,
    stopped: bool,
}

impl Tokens {
    /// An emission is on its way whose end will be told; said before anybody can be done with it.
    pub fn gave(&self) {
        self.used.store(true, Ordering::Release);
        self.open.send_modify(|open| *open += 1);
    }

    /// Whether there was ever an emission whose end is told.
    pub fn are_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Returns when the rules are done with all of them.
    pub async fn settled(&self) {
        // The sender is in here.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub fn push(&self, token: u64) {
        lock(&self.state).done.push_back(token);
        self.news.notify_one();
    }

    /// Nobody is to wait any more.
    pub fn stop(&self) {
        lock(&self.state).stopped = true;
        self.news.notify_all();
    }

    /// All that are there; waits at most so long for the first. `None`: there is none, and the rule is being stopped.
    pub fn take(&self, limit: Duration) -> Option<Vec<u64>> {
        let idle = |state: &mut State| state.done.is_empty() && !state.stopped;
        let waited = self.news.wait_timeout_while(lock(&self.state), limit, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.done.is_empty() && state.stopped { None } else { Some(state.done.drain(..).collect()) }
    }
}

impl Acknowledge for Tokens {
    /// What was not brought to its end is not told: the guest gives it again when it is opened the next time.
    fn done(&self, id: u64, good: bool) {
        if good {
            self.push(id);
        }
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::SourceAck;

    #[test]
    fn tokens_come_in_order_and_what_is_left_comes_after_the_stop() {
        let tokens = Arc::new(Tokens::default());
        assert_eq!(tokens.take(Duration::ZERO), Some(vec![]));
        for (token, good) in [(7, true), (8, false), (9, true)] {
            let ack = SourceAck::new(tokens.clone(), token);
            if !good {
                ack.refuse();
            }
            ack.settle();
        }
        let waiting = tokens.clone();
        assert_eq!(tokens.take(Duration::from_secs(60)), Some(vec![7, 9]));
        let waiter = std::thread::spawn(move || waiting.take(Duration::from_secs(60)));
        tokens.stop();
        assert_eq!(waiter.join().unwrap(), None);
        tokens.push(10);
        assert_eq!(tokens.take(Duration::ZERO), Some(vec![10]));
        assert_eq!(tokens.take(Duration::from_secs(60)), None);
    }
}
