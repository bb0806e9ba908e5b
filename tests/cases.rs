//! Runs all case files of `tests/cases` and `rules`, and the examples of the guides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kuiper::case::{Report, Settings, run};
use serde_json::Value as Json;

/// Rule cases with several rows at one instant, without which "all in one batch" would test nothing.
const BATCHED: usize = 40;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn all_pass(paths: &[PathBuf]) -> Report {
    let report = run(paths, &Settings::default()).unwrap();
    assert!(report.failed() == 0, "\n{report}");
    assert!(report.passed() > 0, "no case was found");
    report
}

#[test]
fn all_cases_pass() {
    let report = all_pass(&[root().join("tests/cases"), root().join("rules")]);
    println!("{report}");
    assert!(report.batched >= BATCHED, "only {} cases have a batch of more than one row", report.batched);
}

#[test]
fn the_examples_of_the_guides_are_true() {
    let folder = tempfile::tempdir().unwrap();
    for guide in ["tests/README.md", "rules/README.md"] {
        let text = fs::read_to_string(root().join(guide)).unwrap();
        let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!blocks.is_empty(), "{guide} shows no case");
        fs::write(folder.path().join(guide.replace(['/', '.'], "_") + ".yaml"), blocks.join("")).unwrap();
    }
    all_pass(&[folder.path().to_path_buf()]);
}

/// What is refused is refused for the reason that stands in the case, and not for another.
#[test]
fn static_errors_have_their_texts() {
    let settings = Settings { error_text: true, ..Settings::default() };
    let report = run(&[root().join("tests/cases/static_errors")], &settings).unwrap();
    assert!(report.failed() == 0, "\n{report}");
    assert!(report.passed() >= 100);
}

#[test]
fn topologies_are_as_the_endpoint_shows_them() {
    let settings = Settings { topo: true, ..Settings::default() };
    let report = run(&[root().join("tests/cases/topo")], &settings).unwrap();
    assert!(report.failed() == 0, "\n{report}");
}

/// Every case that the list of differences names is there.
#[test]
fn the_differences_name_cases_that_exist() {
    let report = all_pass(&[root().join("tests/cases")]);
    let known: BTreeSet<&str> = report.findings.iter().map(|finding| finding.name.as_str()).collect();
    let guide = fs::read_to_string(root().join("rules/README.md")).unwrap();
    let rows = guide.split("## Where it differs").nth(1).unwrap().lines().filter(|line| line.starts_with("| "));
    let mut named = 0;
    for row in rows.skip(1) {
        let cell = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        for name in cell.split('`').filter(|part| part.contains('/')) {
            assert!(known.contains(name), "`{name}` is no case: {row}");
            named += 1;
        }
    }
    assert!(named > 0);
    let shown = report.findings.iter().filter(|finding| finding.name.starts_with("differences/"));
    for finding in shown {
        assert!(guide.contains(&format!("`{}`", finding.name)), "{} is not in the list", finding.name);
    }
}

/// The guide knows every function, and no other.
#[test]
fn the_guide_lists_the_functions() {
    let guide = fs::read_to_string(root().join("rules/README.md")).unwrap();
    let part = guide.split("## Functions").nth(1).unwrap().split("## Rules").next().unwrap();
    let listed: BTreeSet<&str> = part.split('`').skip(1).step_by(2).collect();
    // Aliases that eKuiper uses inside; no one calls them.
    let all: BTreeSet<&str> =
        kuiper::func::all().map(|func| func.name).filter(|name| !name.starts_with("inc_")).collect();
    assert_eq!(listed, all);
}

/// A rule that is shown must be the rule that is tested.
#[test]
fn every_example_rule_has_its_case() {
    let mut rules = 0;
    for entry in fs::read_dir(root().join("rules")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        rules += 1;
        let rule: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(rule["id"].as_str(), path.file_stem().and_then(|name| name.to_str()), "{}", path.display());
        let case = case_beside(&path);
        assert_eq!(rule["sql"], case["sql"], "{}", path.display());
        let send_error = |of: &Json| of["options"]["sendError"].as_bool().unwrap_or_default();
        assert_eq!(send_error(&rule), send_error(&case), "{}", path.display());
    }
    assert!(rules > 0);
}

fn case_beside(rule: &Path) -> Json {
    let text = fs::read_to_string(rule.with_extension("case.yaml")).unwrap();
    let document = text.split("---\n").nth(1).unwrap();
    serde_yaml::from_str(document).unwrap()
}
