//! Text to tree and back: tokens, our own grammar, the tree with a span at every node, and the printer.
//!
//! sqlparser gives the tokens and their places; the grammar, the reserved words, the escapes and the tree are ours,
//! because eKuiper's SQL has topics in FROM, `->`, windows with FILTER and OVER, and a reserved list of its own. Parsing
//! knows no streams, no columns and no functions beyond the windows; what a name means is decided in `plan`.
//!
//! Findings of this module have codes `K01xx`; all that one look at the text can show are given at once.

mod ast;
mod call;
mod ddl;
mod expr;
mod format;
mod forms;
mod layout;
mod lexer;
mod parser;
mod printer;
mod quote;
mod select;
mod token;

#[cfg(test)]
mod tests;

use crate::diag::Diagnostic;

pub use ast::*;
pub use format::{Formatted, Lines, format, parse_all};
pub use forms::{FORMS, Form};
pub use layout::print_statement;
pub use printer::print_expr;

/// Reads one statement; a semicolon may end it.
///
/// # Errors
/// Everything that is wrong with the text, each with its place.
pub fn parse(text: &str) -> Result<Statement, Vec<Diagnostic>> {
    parser::Parser::run(text, |parser| parser.statement())
}

/// Reads the SELECT of a rule.
///
/// # Errors
/// As [`parse`]; also when the text is another statement.
pub fn parse_select(text: &str) -> Result<Select, Vec<Diagnostic>> {
    parser::Parser::run(text, |parser| parser.select())
}

/// Reads an expression that stands alone.
///
/// # Errors
/// As [`parse`].
pub fn parse_expr(text: &str) -> Result<Expr, Vec<Diagnostic>> {
    parser::Parser::run(text, |parser| {
        let expr = parser.expr()?;
        parser.finish("of the expression")?;
        Ok(expr)
    })
}
