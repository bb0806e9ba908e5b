//! Keys that make a group of nearly every row. A window then gives as many groups as rows, and what is kept for each key of
//! an analytic function or a state window stays for the life of the rule, so that it grows without end.

use std::collections::HashSet;

use super::{Scope, Source, path, walk};
use crate::data::Kind;
use crate::diag::Diagnostic;
use crate::sql::{Expr, ExprNode, print_expr};

/// Functions that give another value for nearly every row.
const FRESH: &[&str] = &[
    "newuuid",
    "rand",
    "now",
    "current_timestamp",
    "local_time",
    "local_timestamp",
    "cur_time",
    "current_time",
    "tstamp",
    "event_time",
    "last_hit_count",
    "last_hit_time",
];

/// So many rows with a value of its own each are no accident.
const ENOUGH: usize = 20;

pub(super) fn check(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    for key in &scope.select.group {
        judge(scope, key, "a window gives as many groups as rows", found);
    }
    let kept = "what is kept for each key grows as long as the rule runs";
    for key in scope.select.windows.iter().flat_map(|window| &window.partition) {
        judge(scope, key, kept, found);
    }
    for (_, root) in scope.roots() {
        walk(root, &mut |expr| {
            if let ExprNode::Call(call) = &expr.node
                && let Some(over) = &call.over
            {
                over.partition.iter().for_each(|key| judge(scope, key, kept, found));
            }
        });
    }
}

fn judge(scope: &Scope<'_>, key: &Expr, effect: &str, found: &mut Vec<Diagnostic>) {
    let Some(why) = unbounded(scope, key, 0) else { return };
    let message = format!("the groups by `{}` have no bound: {why}, so {effect}", print_expr(key));
    let help = "group by something of which there are few: a device, a state, a time cut to hours";
    found.push(Diagnostic::warning("K0301", message).at(key.span).help(help));
}

fn unbounded(scope: &Scope<'_>, key: &Expr, far: u32) -> Option<String> {
    match &key.bare().node {
        ExprNode::Call(call) => {
            let name = call.name.name.to_ascii_lowercase();
            FRESH.contains(&name.as_str()).then(|| format!("`{name}` gives another value for each row"))
        }
        ExprNode::Name(name) if far < 16 => match scope.alias(name) {
            Some(field) if path(&field.expr).is_none_or(|names| names[0] != name) => {
                unbounded(scope, &field.expr, far + 1)
            }
            _ => column(scope.sources.iter(), name),
        },
        ExprNode::Dotted(source, name) => match scope.source(source) {
            Some(source) => column(std::iter::once(source), name),
            None => None,
        },
        _ => None,
    }
}

fn column<'s, 'a: 's>(sources: impl Iterator<Item = &'s Source<'a>> + Clone, name: &str) -> Option<String> {
    let declared = |source: &Source<'_>| {
        let column = source.stream?.columns.iter().find(|column| column.name == name)?;
        (column.kind == Kind::Datetime).then(|| "it is a point in time".to_string())
    };
    let known = |source: &Source<'_>| {
        let mut values = HashSet::new();
        let all = source.rows().filter_map(|row| row.get(name)).all(|value| values.insert(value.to_string()));
        (all && values.len() >= ENOUGH).then(|| format!("each of {} known rows has a value of its own", values.len()))
    };
    sources.clone().find_map(declared).or_else(|| sources.clone().find_map(known))
}
