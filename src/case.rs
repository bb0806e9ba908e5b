//! Case files: tests of rules, written as statements, inputs on a virtual clock, and the emissions expected.
//!
//! `files` finds and splits the files, `rule` and `table` say what may stand in them, `drive` runs a rule case on the
//! very chain that a rule runs on, `calls` and `statements` run the tables, `compare` decides, [`Report`] tells.
//! A case depends on nothing but itself: no broker, no network, no wall clock, no other case.
//!
//! Every rule case runs three ways (row by row; all inputs of one instant in one batch; with a save and load of all
//! state between any two instants) and must come out the same; after each its ledger must balance.

mod calls;
mod compare;
mod drive;
mod engine;
mod example;
mod fields;
mod files;
mod journal;
mod options;
mod report;
mod rule;
mod schedule;
mod select;
mod sinks;
mod statements;
mod suite;
mod table;
mod update;
mod value;

pub use example::example;
pub use report::{Finding, Outcome, Report};
pub use suite::{Settings, run};
