//! What the server offers to plugins.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value as Json;

use crate::config::Secrets;
use crate::data::Value;
use crate::diag::Result;
use crate::flow;
use crate::flow::shape::Facts;
use crate::plugin::Services;

/// Templates, secrets, and how often each rule was started.
pub struct Offered {
    facts: Facts,
    secrets: Secrets,
    runs: Mutex<HashMap<String, Run>>,
    /// Positions that the next start of a rule has its source of a stream go to.
    positions: Mutex<HashMap<(String, String), Json>>,
}

/// What is known of the starts of a rule.
#[derive(Clone, Copy, Default)]
struct Run {
    number: u64,
    /// The last one was with a `qos` above 0.
    keeps: bool,
}

impl Offered {
    pub fn new(facts: Facts, secrets: Secrets) -> Offered {
        Offered { facts, secrets, runs: Mutex::default(), positions: Mutex::default() }
    }

    /// A rule starts.
    pub fn starts(&self, rule: &str, qos: u8) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.entry(rule.to_owned()).or_default();
        *run = Run { number: run.number + 1, keeps: qos > 0 };
    }

    fn run_of(&self, rule: &str) -> Run {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(rule).copied().unwrap_or_default()
    }

    /// The next start of a rule has its source of a stream go to a position.
    pub fn reset(&self, rule: &str, stream: &str, position: Json) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.insert((rule.to_owned(), stream.to_owned()), position);
    }

    /// The position that a user has set for it.
    pub fn take_position(&self, rule: &str, stream: &str) -> Option<Json> {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.remove(&(rule.to_owned(), stream.to_owned()))
    }

    /// A rule is gone for good; one of that name begins to count anew.
    pub fn forget(&self, rule: &str) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(rule);
    }
}

impl Services for Offered {
    fn template(&self, text: &str, data: &Value) -> Result<String> {
        flow::render(text, data, &self.facts)
    }

    fn secret(&self, name: &str) -> Option<String> {
        self.secrets.get(name).map(str::to_owned)
    }

    fn run(&self, rule: &str) -> u64 {
        self.run_of(rule).number
    }

    fn keeps(&self, rule: &str) -> bool {
        self.run_of(rule).keeps
    }
}
