//! What runs: the chain of operators, and the three kinds of task around it.
//!
//! A *feed* drives one source and decodes for the rules that subscribe to it; a *rule task* drives one [`Chain`]; an
//! *outlet* drives one sink. All channels between them are bounded, so a slow sink makes its rule wait, the rule makes
//! the feed wait, and the source stops reading. A receipt travels with each row from the source's message to the
//! confirmation by the last sink. Whoever spawns a task joins it; stopping goes down by closing channels and comes up
//! by their end.

mod chain;
mod shape;
mod template;

pub use chain::Chain;
pub use shape::{Common, Overflow, Shape};
pub use template::Facts;
