//! Generated rules against a naive evaluator, which has nothing of `expr`, `plan`, `op` or `flow`: all rows stand in a
//! list, a window is the set of those that a predicate on their times picks, a clause is applied to one row after the
//! other. The product's side is what `kuiper rule test` runs, three ways each.
//!
//! `DIFFERENTIAL_RULES` says how many rules (5,000), `DIFFERENTIAL_SEED` which (1), `DIFFERENTIAL_FIRST` from which
//! number on (0). A rule that differs is made as small as it goes and printed as a case file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "differential/aggregate.rs"]
mod aggregate;
#[path = "differential/analytic.rs"]
mod analytic;
#[path = "differential/case.rs"]
mod case;
#[path = "differential/changed.rs"]
mod changed;
#[path = "differential/evaluate.rs"]
mod evaluate;
#[path = "differential/event.rs"]
mod event;
#[path = "differential/expr.rs"]
mod expr;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/join.rs"]
mod join;
#[path = "differential/query.rs"]
mod query;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/rank.rs"]
mod rank;
#[path = "differential/rows.rs"]
mod rows;
#[path = "differential/shrink.rs"]
mod shrink;
#[path = "differential/window.rs"]
mod window;
#[path = "differential/words.rs"]
mod words;

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use case::product;
use evaluate::evaluate;
use shrink::{Found, shrink};

/// Rules that go to the runner in one file.
const TOGETHER: u64 = 50;

/// So many differences are shown; then the run ends.
const SHOWN: usize = 5;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn generated_rules_give_what_the_naive_evaluator_gives() {
    let (rules, seed) = (number("DIFFERENTIAL_RULES", 5_000), number("DIFFERENTIAL_SEED", 1));
    let first = number("DIFFERENTIAL_FIRST", 0);
    let shown = number("DIFFERENTIAL_SHOWN", SHOWN as u64) as usize;
    let next = AtomicU64::new(first);
    let (found, run) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let (emissions, errors, rows) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while found.lock().unwrap().len() < shown {
            let from = next.fetch_add(TOGETHER, Ordering::Relaxed);
            let until = (from + TOGETHER).min(first + rules);
            if from >= until {
                return;
            }
            let mut cases = Vec::new();
            for number in from..until {
                let case = generate::case(seed, number);
                if let Ok(expected) = evaluate(&case) {
                    emissions.fetch_add(expected.emissions.len(), Ordering::Relaxed);
                    let bodies = || expected.emissions.iter().map(|emission| &emission.body);
                    errors.fetch_add(bodies().filter(|body| body.is_err()).count(), Ordering::Relaxed);
                    rows.fetch_add(bodies().flatten().map(Vec::len).sum(), Ordering::Relaxed);
                    cases.push((number, case, expected));
                }
            }
            run.fetch_add(cases.len(), Ordering::Relaxed);
            let pairs: Vec<_> = cases.iter().map(|(_, case, expected)| (case, expected)).collect();
            let differences = product(&pairs);
            for ((number, case, expected), why) in cases.into_iter().zip(differences) {
                let Some(why) = why else { continue };
                found.lock().unwrap().push((number, Found { case, expected, why }));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (mut found, run) = (found.into_inner().unwrap(), run.into_inner());
    let (emissions, errors, rows) = (emissions.into_inner(), errors.into_inner(), rows.into_inner());
    println!("{run} rules of seed {seed} from {first} on: {emissions} emissions, {errors} of them errors, {rows} rows");
    if found.is_empty() {
        assert!(run as u64 * 10 >= rules * 8, "only {run} of {rules} generated rules are tests");
        return;
    }
    found.sort_by_key(|(number, _)| *number);
    println!("{} rules differ, the first is number {}", found.len(), found[0].0);
    for (_, found) in found.into_iter().take(shown) {
        let sql = found.case.sql.clone();
        let small = shrink(found, number("DIFFERENTIAL_STEPS", 1_500) as usize);
        println!("\n# {sql}\n{}# {}", small.case.yaml(&small.expected), small.why.replace('\n', "\n# "));
    }
    panic!("rules differ from the naive evaluator");
}
