//! The life of a rule: what its author wrote, whether it runs, and what became of its rows.
//!
//! - A [`Def`] is a rule's JSON, checked, its options typed.
//! - The [`Host`] is what a server has once and every rule may use: catalog, connectors, plugins, functions, clock.
//! - [`Rules`] is all rules of a server. A transition of one rule ends before the next of the same rule begins; rules
//!   do not wait for each other. What is stored and triggered runs again after a restart.
//! - The [`Engine`] turns a definition into something that runs; nothing here knows how.
//!
//! A bad rule never stops a neighbour, and an error of a run is told in the rule's `message`.

mod advice;
mod change;
mod console;
mod def;
mod engine;
mod farewell;
mod foreground;
mod graph;
mod guests;
mod health;
mod host;
mod identities;
mod kept;
mod left;
mod life;
mod offered;
mod patrol;
mod positions;
mod props;
pub mod queues;
mod reach;
mod restart;
mod retained;
mod rules;
mod run;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::diag::{Diagnostic, Fault};

pub use change::Change;
pub use console::{STDOUT, reader_gone};
pub use def::{Def, check_id};
pub use engine::{Ended, Engine, NodeKind, NodeStatus, Planned, RunStatus, Running, Step, Topo};
pub use foreground::Foreground;
pub use health::Health;
pub use host::{Host, Setup, isolation};
pub use life::State;
pub use restart::Retries;
pub use rules::{Rules, Summary};
pub use run::engine;
pub use status::Status;

/// What came of a wish that was followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// In eKuiper's words.
    pub text: String,
    /// What the author should know though the rule is fine.
    pub warnings: Vec<Diagnostic>,
}

/// A rule that could be created.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The streams and tables that it reads.
    pub sources: Vec<String>,
    pub warnings: Vec<Diagnostic>,
    /// The statement that places in the warnings are of.
    pub sql: String,
}

/// Why a wish about a rule was not followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// There is no such rule.
    NotFound(String),
    /// The rule cannot be, or cannot be now.
    Invalid(String),
    /// The rule has not run yet, so there is nothing to show.
    NeverRan(String),
    /// The store failed.
    Storage(Fault),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotFound(text) | Refused::Invalid(text) | Refused::NeverRan(text) => f.write_str(text),
            Refused::Storage(fault) => fault.fmt(f),
        }
    }
}
