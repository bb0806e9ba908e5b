//! Divisions by a constant zero, comparisons that can never be true, and units of time where a value is meant.

use super::{Scope, walk};
use crate::diag::Diagnostic;
use crate::sql::{BinaryOp, Expr, ExprNode, Literal, UnaryOp, Unit, print_expr};

pub(super) fn check(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    // A call with a unit in front is meant as a window, whatever it is called; no value is.
    let mut units = Vec::new();
    for key in &scope.select.group {
        if let ExprNode::Call(call) = &key.bare().node
            && let Some(unit) = call.args.first().filter(|arg| matches!(arg.node, ExprNode::Unit(_)))
        {
            units.push(unit.span);
        }
    }
    for (_, root) in scope.roots() {
        walk(root, &mut |expr| {
            if !matches!(expr.node, ExprNode::Unit(_)) || !units.contains(&expr.span) {
                one(scope, expr, found);
            }
        });
    }
}

fn one(scope: &Scope<'_>, expr: &Expr, found: &mut Vec<Diagnostic>) {
    let null = |expr: &Expr| is_null(scope, expr, 0);
    match &expr.node {
        ExprNode::Binary(BinaryOp::Div | BinaryOp::Rem, _, by) if constant(scope, by, 0) == Some(0.0) => {
            found.push(zero(by));
        }
        ExprNode::Call(call) if call.name.name.eq_ignore_ascii_case("mod") => {
            if let [_, by] = call.args.as_slice()
                && constant(scope, by, 0) == Some(0.0)
            {
                found.push(zero(by));
            }
        }
        ExprNode::Binary(op, a, b) if null(a) || null(b) => {
            let (other, text) = (if null(a) { b } else { a }, print_expr(expr));
            match op {
                BinaryOp::Eq | BinaryOp::NotEq => {
                    let not = if *op == BinaryOp::NotEq { "NOT " } else { "" };
                    let help = format!("write `{} IS {not}NULL`", print_expr(other));
                    found.push(never(expr, &text, &help));
                }
                BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq => {
                    found.push(never(expr, &text, "leave it out, or compare with a value"));
                }
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => {
                    let message = format!("`{text}` is always NULL, since one side of it is");
                    found.push(Diagnostic::warning("K0304", message).at(expr.span).help("give `coalesce` a default"));
                }
                _ => {}
            }
        }
        ExprNode::Between { expr: of, low, high, .. } if null(of) || null(low) || null(high) => {
            found.push(never(expr, &print_expr(expr), "leave it out, or compare with values"));
        }
        ExprNode::InList { expr: of, list, .. } if null(of) || list.iter().all(null) => {
            found.push(never(expr, &print_expr(expr), "NULL equals nothing, not even NULL; write `IS NULL`"));
        }
        ExprNode::Like { expr: of, pattern, .. } if null(of) || null(pattern) => {
            found.push(never(expr, &print_expr(expr), "write `IS NULL`"));
        }
        ExprNode::Case { subject: Some(_), branches, .. } => {
            for (when, _) in branches.iter().filter(|(when, _)| null(when)) {
                let message = "`WHEN NULL` is never chosen, since NULL equals nothing";
                let found_here = Diagnostic::warning("K0304", message).at(when.span);
                found.push(found_here.help("write `CASE WHEN … IS NULL THEN …`"));
            }
        }
        ExprNode::Unit(unit) => {
            let word = word(*unit);
            let message = format!("`{word}` is a unit of time, and as a value it is always NULL");
            let help = format!("a column of that name needs backticks: `{word}`");
            found.push(Diagnostic::warning("K0306", message).at(expr.span).help(help));
        }
        _ => {}
    }
}

fn word(unit: Unit) -> &'static str {
    match unit {
        Unit::Day => "dd",
        Unit::Hour => "hh",
        Unit::Minute => "mi",
        Unit::Second => "ss",
        Unit::Millisecond => "ms",
    }
}

fn zero(by: &Expr) -> Diagnostic {
    let message = format!("the divisor `{}` is always zero, and every row fails with it", print_expr(by));
    Diagnostic::warning("K0303", message).at(by.span).help("a zero divisor is an error, of floats too")
}

fn never(expr: &Expr, text: &str, help: &str) -> Diagnostic {
    let message = format!("`{text}` is never true: a comparison with NULL is not");
    Diagnostic::warning("K0304", message).at(expr.span).help(help)
}

/// How many aliases are looked through.
const FAR: u32 = 16;

/// Whether the expression is NULL whatever the row.
fn is_null(scope: &Scope<'_>, expr: &Expr, far: u32) -> bool {
    match &expr.bare().node {
        ExprNode::Literal(Literal::Null) | ExprNode::Unit(_) => true,
        ExprNode::Name(name) if far < FAR => {
            scope.alias(name).is_some_and(|field| !mentions(&field.expr, name) && is_null(scope, &field.expr, far + 1))
        }
        _ => false,
    }
}

/// The value of an expression that is the same for every row, as far as arithmetic tells.
fn constant(scope: &Scope<'_>, expr: &Expr, far: u32) -> Option<f64> {
    if far > FAR {
        return None;
    }
    match &expr.bare().node {
        ExprNode::Literal(Literal::Int(number)) => Some(*number as f64),
        ExprNode::Literal(Literal::Float(number)) => Some(*number),
        ExprNode::Unary(UnaryOp::Neg, of) => constant(scope, of, far + 1).map(|number| -number),
        ExprNode::Binary(op, a, b) => {
            let (a, b) = (constant(scope, a, far + 1)?, constant(scope, b, far + 1)?);
            match op {
                BinaryOp::Add => Some(a + b),
                BinaryOp::Sub => Some(a - b),
                BinaryOp::Mul => Some(a * b),
                _ => None,
            }
        }
        ExprNode::Name(name) => {
            let field = scope.alias(name).filter(|field| !mentions(&field.expr, name))?;
            constant(scope, &field.expr, far + 1)
        }
        _ => None,
    }
}

/// Whether a name stands in the expression; in its own expression an alias means the column.
fn mentions(expr: &Expr, name: &str) -> bool {
    let mut found = false;
    walk(expr, &mut |part| found |= matches!(&part.node, ExprNode::Name(other) if other.eq_ignore_ascii_case(name)));
    found
}
