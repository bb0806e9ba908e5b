//! Text to tree and back: tokens, our own grammar, the tree with a span at every node, and the printer.
//!
//! sqlparser gives the tokens and their places; the grammar, the reserved words, the escapes and the tree are ours,
//! because eKuiper's SQL has topics in FROM, `->`, windows with FILTER and OVER, and a reserved list of its own. Parsing
//! knows no streams, no columns and no functions beyond the windows; what a name means is decided in `plan`.

mod ast;

pub use ast::*;
