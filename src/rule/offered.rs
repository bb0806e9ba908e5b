//! What the server offers to plugins.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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
    runs: Mutex<HashMap<String, u64>>,
}

impl Offered {
    pub fn new(facts: Facts, secrets: Secrets) -> Offered {
        Offered { facts, secrets, runs: Mutex::default() }
    }

    /// A rule starts.
    pub fn starts(&self, rule: &str) {
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner).entry(rule.to_owned()).or_default() += 1;
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
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(rule).copied().unwrap_or(0)
    }
}
