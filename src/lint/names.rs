//! Columns that no row has, and aliases that hide columns.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

use super::{Scope, Source, path, walk};
use crate::data::Text;
use crate::diag::{Diagnostic, Span, nearest};
use crate::sql::{Expr, ExprNode, Field};

pub(super) fn check(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    unknown(scope, found);
    absent(scope, found);
    hidden(scope, found);
}

/// A stream that is not among those that are known, but nearly one of them.
fn unknown(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    for source in scope.sources.iter().filter(|source| source.stream.is_none()) {
        if let Some(near) = nearest(source.name, scope.known.names()) {
            let message = format!("`{}` is not among the streams that are known", source.name);
            let help = format!("did you mean `{near}`?");
            found.push(Diagnostic::warning("K0308", message).at(source.span).help(help));
        }
    }
}

/// A column that none of the rows has that are known.
fn absent(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    let mut told: HashSet<String> = HashSet::new();
    for (field, root) in scope.roots() {
        columns(root, &mut |names, span| {
            let own = field.and_then(|field| field.alias.as_ref());
            let is_own = own.is_some_and(|own| own.name.eq_ignore_ascii_case(names[0]));
            // An alias hides the column everywhere but in its own expression.
            if scope.alias(names[0]).is_some() && !is_own {
                return;
            }
            let written = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(".");
            if told.contains(&written) {
                return;
            }
            if let Some(problem) = missing(scope, names) {
                told.insert(written);
                found.push(problem.at(span));
            }
        });
    }
}

/// Calls `visit` with each column that the expression reads, with the members on the way into it.
fn columns<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&[&'a Text], Span)) {
    if let Some(names) = path(expr) {
        return visit(&names, expr.span);
    }
    match &expr.node {
        ExprNode::Call(call) if super::is_meta(call) => {}
        ExprNode::Wildcard(wildcard) => {
            for name in &wildcard.except {
                visit(&[&name.name], name.span);
            }
            wildcard.replace.iter().for_each(|field| columns(&field.expr, visit));
        }
        _ => expr.parts(&mut |part| columns(part, visit)),
    }
}

fn missing(scope: &Scope<'_>, names: &[&Text]) -> Option<Diagnostic> {
    let (candidates, names): (Vec<&Source<'_>>, _) = match scope.source(names[0]) {
        Some(source) if names.len() > 1 => (vec![source], &names[1..]),
        _ if !scope.is_sampled => return None,
        _ => (scope.sources.iter().collect(), names),
    };
    if candidates.iter().any(|source| source.rows.is_empty()) {
        return None;
    }
    let has = |source: &&Source<'_>| source.rows.iter().any(|rows| rows.columns.contains(names[0].as_str()));
    if names.len() == 1 && candidates.iter().any(has) {
        return None;
    }
    let mut level: Vec<&Map<String, Json>> = candidates.iter().flat_map(|source| source.rows()).collect();
    for (at, name) in names.iter().enumerate() {
        if level.is_empty() {
            // What is looked into is no object in any row; the engine says so row by row.
            return None;
        }
        let values: Vec<&Json> = level.iter().filter_map(|row| row.get(name.as_str())).collect();
        if values.is_empty() {
            let message = match at {
                0 => format!("none of the {} known rows has a column `{name}`", level.len()),
                _ => format!("`{}` has no member `{name}` in any known row", names[at - 1]),
            };
            let near = nearest(name, level.iter().flat_map(|row| row.keys().map(String::as_str)));
            let found = Diagnostic::warning("K0302", message);
            return Some(match near {
                Some(near) => found.help(format!("did you mean `{near}`?")),
                None => found,
            });
        }
        level = values.into_iter().filter_map(Json::as_object).collect();
    }
    None
}

/// An alias of the name of a column is what the name means everywhere but in its own expression.
fn hidden(scope: &Scope<'_>, found: &mut Vec<Diagnostic>) {
    let star = scope.select.fields.iter().any(|field| matches!(field.expr.node, ExprNode::Wildcard(_)));
    let uses = Uses::of(scope);
    for field in &scope.select.fields {
        let Some(alias) = &field.alias else { continue };
        let name = &alias.name;
        let Some(source) = holder(scope, field, name) else { continue };
        let is_itself = match &field.expr.bare().node {
            ExprNode::Name(own) => own == name,
            ExprNode::Dotted(_, own) => own == name,
            _ => false,
        };
        let used = uses.outside(field, name);
        // `*, a + 1 AS a` is how a column is replaced.
        if is_itself || (star && !used) {
            continue;
        }
        let message = format!("the alias `{name}` hides the column `{name}`");
        let help = match used {
            true => format!("elsewhere `{name}` means the alias; write `{source}.{name}` for the column, or rename it"),
            false => {
                format!("whoever writes `{name}` in another clause gets the alias; `{source}.{name}` is the column")
            }
        };
        found.push(Diagnostic::warning("K0305", message).at(alias.span).help(help));
    }
}

/// The source that has a column of that name, as far as is known: it declares it, a row has it, or the alias's own
/// expression reads it.
fn holder<'a>(scope: &Scope<'a>, field: &Field, name: &str) -> Option<&'a str> {
    let known = scope.holders.get(name).map(|n| &scope.sources[*n]);
    let reads = || {
        let mut reads = false;
        columns(&field.expr, &mut |names, _| {
            reads |= match names {
                [first, second, ..] if scope.source(first).is_some() => *second == name,
                names => names[0] == name,
            };
        });
        // Where columns are declared, a name that is none of them is no column.
        let open = || scope.sources.iter().any(|source| source.stream.is_none_or(|stream| stream.columns.is_empty()));
        (reads && open()).then(|| &scope.sources[0])
    };
    known.or_else(reads).map(Source::called)
}

/// Where names stand by themselves: for each, in lower case, the expressions in their order.
struct Uses<'a> {
    roots: Vec<Option<&'a Field>>,
    of: HashMap<String, Vec<usize>>,
}

impl<'a> Uses<'a> {
    fn of(scope: &Scope<'a>) -> Self {
        let mut uses = Uses { roots: Vec::new(), of: HashMap::new() };
        for (place, (field, root)) in scope.roots().into_iter().enumerate() {
            uses.roots.push(field);
            walk(root, &mut |expr| {
                let ExprNode::Name(name) = &expr.node else { return };
                let places = uses.of.entry(name.as_str().to_ascii_lowercase()).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            });
        }
        uses
    }

    /// Whether an expression other than that of the field reads the name.
    fn outside(&self, field: &Field, name: &str) -> bool {
        let is_other = |place: &usize| self.roots[*place].is_none_or(|of| !std::ptr::eq(of, field));
        self.of.get(&name.to_ascii_lowercase()).is_some_and(|places| places.iter().any(is_other))
    }
}
