//! kuiper: a SQL stream processor for the edge. The guide to these modules is `src/README.md`.

pub mod clock;
pub mod codec;
pub mod data;
pub mod diag;
pub mod func;
pub mod io;
pub mod plugin;
pub mod sql;
