//! Clauses that are read and change nothing.

use super::{Scope, walk};
use crate::diag::{Diagnostic, Span};
use crate::sql::{ExprNode, WindowKind};

pub(super) fn check(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    let select = scope.select;
    if let [first, second, ..] = select.windows.as_slice() {
        let message =
            format!("only the first window counts, `{}`; this one is as if it were not there", first.kind.name());
        found.push(Diagnostic::warning("K0309", message).at(second.span).help("leave it out, or make a rule for each"));
    }
    let mut add = |span: Span, message: &str, help: &str| {
        found.push(Diagnostic::warning("K0307", message.to_owned()).at(span).help(help.to_owned()));
    };
    let mut makes_rows = false;
    for field in &select.fields {
        walk(&field.expr, &mut |expr| {
            makes_rows |= matches!(&expr.node, ExprNode::Call(call)
                if ["unnest", "extract"].iter().any(|name| call.name.name.eq_ignore_ascii_case(name)));
        });
    }
    if select.windows.is_empty() && select.joins.is_empty() && !makes_rows {
        let help = "each row leaves by itself; add a window, for example `TUMBLINGWINDOW(ss, 10)`";
        if let Some(sort) = select.order.first() {
            add(sort.expr.span, "ORDER BY has no effect without a window", help);
        }
        if let Some(limit) = select.limit.as_ref().filter(|limit| limit.rows > 0) {
            add(limit.span, "LIMIT has no effect without a window", help);
        }
    }
    for window in &select.windows {
        if let (Some(when), false) = (&window.when, window.kind == WindowKind::Sliding) {
            let help = "WHEN says which rows trigger a sliding window; FILTER keeps rows out of any window";
            add(when.span, "`OVER (WHEN …)` has no effect on this kind of window", help);
        }
        if let (Some(key), false) = (window.partition.first(), window.kind == WindowKind::State) {
            let help = "PARTITION BY divides state windows; keys of other windows stand in GROUP BY";
            add(key.span, "`OVER (PARTITION BY …)` has no effect on this kind of window", help);
        }
    }
}
