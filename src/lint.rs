//! What a statement may mean otherwise than its author does: it can be run, and still is most likely wrong.
//!
//! Findings are warnings with codes `K03xx`. Each rule looks at the tree and at what is known of the streams: the columns
//! that they declare, and rows that a case or a sample file brings. What is not known is not warned of.

mod effects;
mod groups;
mod known;
mod names;
mod values;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::data::Text;
use crate::diag::{Diagnostic, Span};
use crate::plan::Stream;
use crate::sql::{Call, Expr, ExprNode, Field, Select};

pub use known::Known;

/// Everything that is suspicious in a statement, in the order of the text.
pub fn lint(select: &Select, known: &Known) -> Vec<Diagnostic> {
    let scope = Scope::new(select, known);
    let mut found = Vec::new();
    groups::check(&scope, &mut found);
    names::check(&scope, &mut found);
    values::check(&scope, &mut found);
    effects::check(&scope, &mut found);
    found.sort_by_key(|one| one.span.map_or(0, |span| span.start));
    found
}

/// A source of the statement, and what is known of it.
struct Source<'a> {
    name: &'a str,
    alias: Option<&'a str>,
    span: Span,
    /// `None`: its definition is not known.
    stream: Option<&'a Stream>,
    rows: Vec<&'a known::Rows>,
}

impl<'a> Source<'a> {
    /// How the statement calls it.
    fn called(&self) -> &'a str {
        self.alias.unwrap_or(self.name)
    }

    fn rows(&self) -> impl Iterator<Item = &'a Map<String, Json>> + use<'a, '_> {
        self.rows.iter().flat_map(|rows| &rows.all)
    }
}

struct Scope<'a> {
    select: &'a Select,
    sources: Vec<Source<'a>>,
    /// Of every source there are rows.
    is_sampled: bool,
    /// The first source of each name or alias.
    by_name: HashMap<&'a str, usize>,
    /// The first source that is known to have a column.
    holders: HashMap<&'a str, usize>,
    /// What is known of all streams, of the statement or not.
    known: &'a Known,
    /// The first field of each alias, by its name, and by its name in lower case.
    aliases: HashMap<&'a str, &'a Field>,
    folded: HashMap<String, &'a Field>,
}

impl<'a> Scope<'a> {
    fn new(select: &'a Select, known: &'a Known) -> Self {
        let written = std::iter::once(&select.from).chain(select.joins.iter().map(|join| &join.source));
        let sources = written.map(|source| Source {
            name: &source.name.name,
            span: source.name.span,
            alias: source.alias.as_ref().map(|alias| alias.name.as_str()),
            stream: known.stream(&source.name.name),
            rows: known.rows_of(&source.name.name),
        });
        let sources: Vec<Source<'a>> = sources.collect();
        let (mut by_name, mut holders) = (HashMap::new(), HashMap::new());
        for (n, source) in sources.iter().enumerate() {
            by_name.entry(source.name).or_insert(n);
            source.alias.map(|alias| by_name.entry(alias).or_insert(n));
            let declared = source.stream.iter().flat_map(|stream| &stream.columns).map(|column| column.name.as_str());
            let seen = source.rows.iter().flat_map(|rows| &rows.columns).map(String::as_str);
            declared.chain(seen).for_each(|name| {
                holders.entry(name).or_insert(n);
            });
        }
        let (mut aliases, mut folded) = (HashMap::new(), HashMap::new());
        for field in &select.fields {
            let Some(alias) = &field.alias else { continue };
            aliases.entry(alias.name.as_str()).or_insert(field);
            folded.entry(alias.name.as_str().to_ascii_lowercase()).or_insert(field);
        }
        let is_sampled = sources.iter().all(|source| !source.rows.is_empty());
        Scope { select, sources, is_sampled, by_name, holders, known, aliases, folded }
    }

    /// The field that an alias stands for.
    fn alias(&self, name: &str) -> Option<&'a Field> {
        self.aliases.get(name).or_else(|| self.folded.get(&name.to_ascii_lowercase())).copied()
    }

    fn source(&self, name: &str) -> Option<&Source<'a>> {
        self.by_name.get(name).map(|n| &self.sources[*n])
    }

    /// The expressions of all clauses that stand on their own; fields with their fields.
    fn roots(&self) -> Vec<(Option<&'a Field>, &'a Expr)> {
        let select = self.select;
        let mut all: Vec<(Option<&Field>, &Expr)> =
            select.fields.iter().map(|field| (Some(field), &field.expr)).collect();
        let mut add = |exprs: &mut dyn Iterator<Item = &'a Expr>| all.extend(exprs.map(|expr| (None, expr)));
        add(&mut select.joins.iter().filter_map(|join| join.on.as_ref()));
        add(&mut select.filter.iter());
        add(&mut select.group.iter());
        for window in &select.windows {
            // The unit of a window is one, and not the value of anything.
            let unit = matches!(window.args.first().map(|arg| &arg.node), Some(ExprNode::Unit(_)));
            add(&mut window.args.iter().skip(usize::from(unit)));
            add(&mut window.filter.iter().chain(&window.when).chain(&window.partition));
        }
        add(&mut select.having.iter());
        add(&mut select.order.iter().map(|sort| &sort.expr));
        all
    }
}

/// Calls `visit` with the expression and all its parts, but not with what stands in `meta(…)`, where names mean keys.
fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    visit(expr);
    if let ExprNode::Call(call) = &expr.node
        && is_meta(call)
    {
        return;
    }
    expr.parts(&mut |part| walk(part, visit));
}

fn is_meta(call: &Call) -> bool {
    ["meta", "mqtt"].iter().any(|name| call.name.name.eq_ignore_ascii_case(name))
}

/// A column and the members on the way into it: `a`, `s.a`, `a.b->c`.
fn path(expr: &Expr) -> Option<Vec<&Text>> {
    match &expr.node {
        ExprNode::Name(name) => Some(vec![name]),
        ExprNode::Dotted(first, second) => Some(vec![first, second]),
        ExprNode::Member(of, name) => {
            let mut names = path(of)?;
            names.push(&name.name);
            Some(names)
        }
        _ => None,
    }
}
