//! What planning finds wrong, collected: one mistake does not hide the next.

use std::collections::HashSet;

use crate::diag::{Diagnostic, Span};

/// Collects findings and goes on, so that all are told at once.
pub struct Findings(pub Vec<Diagnostic>);

impl Findings {
    pub fn take<T>(&mut self, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
        result.map_err(|found| self.0.extend(found)).ok()
    }

    pub fn add(&mut self, found: Diagnostic) {
        self.0.push(found);
    }
}

/// One finding a place and text, in the order of the places.
pub fn dedup(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut told = HashSet::new();
    let place = |span: Option<Span>| span.map(|span| (span.start, span.end));
    let first = |problem: &Diagnostic| told.insert((problem.code, place(problem.span), problem.message.clone()));
    let mut kept: Vec<Diagnostic> = found.into_iter().filter(first).collect();
    kept.sort_by_key(|problem| problem.span.map_or(0, |span| span.start));
    kept
}
