//! Statements without a rule that runs: lists of what parses, plans that can or cannot be made, definitions.

use super::suite::Settings;
use super::table::{PlanCase, Statement};

/// The statement must parse, and its function calls must be right.
pub(super) fn accepted(_text: &str) -> Result<(), String> {
    Err("not supported".to_string())
}

pub(super) fn refused(_text: &str, _message: &str, _settings: &Settings) -> Result<(), String> {
    Err("not supported".to_string())
}

pub(super) fn plan(_case: &PlanCase, _settings: &Settings) -> Result<(), String> {
    Err("not supported".to_string())
}

pub(super) fn steps(steps: &[Statement], _settings: &Settings) -> Vec<Result<(), String>> {
    steps.iter().map(|_| Err("not supported".to_string())).collect()
}
