//! kuiper: a SQL stream processor for the edge. The guide to these modules is `src/README.md`.

pub mod api;
pub mod case;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod data;
pub mod diag;
pub mod expr;
pub mod flow;
pub mod func;
pub mod io;
pub mod lint;
pub mod meter;
pub mod op;
pub mod options;
pub mod plan;
pub mod plugin;
pub mod rule;
pub mod sql;
pub mod store;
