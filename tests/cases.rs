//! Runs all case files of `tests/cases` and `rules`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use kuiper::case::{Settings, run};

/// Rule cases with several rows at one instant, without which "all in one batch" would test nothing.
const BATCHED: usize = 20;

#[test]
fn all_cases_pass() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let report = run(&[root.join("tests/cases"), root.join("rules")], &Settings::default()).unwrap();
    println!("{report}");
    assert!(report.failed() == 0, "{report}");
    assert!(report.passed() > 0, "no case was found");
    assert!(report.batched >= BATCHED, "only {} cases have a batch of more than one row", report.batched);
}
