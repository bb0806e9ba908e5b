//! Expressions: from the tree of SQL to programs over slots.
//!
//! [`bind`] turns a tree with names into a [`Bound`] tree over slots, with the help of a [`Scope`] that knows what the
//! names mean, and collects every finding on the way. A bound tree is plain data: the planner moves it about, explain
//! prints it. [`Program`] and [`Predicate`] are compiled from it, once, into closures; common shapes (a column compared
//! or combined with a constant) are fused, so that the path of a filter clones and allocates nothing.
//!
//! What `=`, `+`, LIKE or `a[1:2]` mean stands in `ops` and `access`, and nowhere else.

mod access;
mod bind;
mod bound;
mod call;
mod compile;
mod condition;
mod ops;
#[cfg(test)]
mod tests;

pub use bind::{Scope, argument, bind, constant, nameless};
pub use bound::{Bound, Bounds, Key, Path, RowShape};
pub use compile::{Frame, Predicate, Program};
pub use ops::compare;
