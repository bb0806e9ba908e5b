//! What a statement may mean otherwise than its author does: it can be run, and still is most likely wrong.
//!
//! Findings are warnings with codes `K03xx`. Each rule looks at the tree and at what is known of the streams: the columns
//! that they declare, and rows that a case or a sample file brings. What is not known is not warned of.

mod effects;
mod groups;
mod names;
mod values;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json};

use crate::data::Text;
use crate::diag::{Diagnostic, Span};
use crate::plan::Stream;
use crate::sql::{Call, Expr, ExprNode, Field, Select};

/// Rows that streams are known to have.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    by_stream: BTreeMap<String, Vec<Map<String, Json>>>,
    of_any: Vec<Map<String, Json>>,
}

impl Samples {
    /// A row of the stream; of any, where there is no name.
    pub fn add(&mut self, stream: Option<&str>, row: Map<String, Json>) {
        match stream {
            Some(stream) => self.by_stream.entry(stream.to_owned()).or_default().push(row),
            None => self.of_any.push(row),
        }
    }

    fn of(&self, stream: &str) -> Vec<&Map<String, Json>> {
        self.by_stream.get(stream).into_iter().flatten().chain(&self.of_any).collect()
    }
}

/// Everything that is suspicious in a statement over these streams, in the order of the text.
pub fn lint(select: &Select, streams: &[Stream], samples: &Samples) -> Vec<Diagnostic> {
    let scope = Scope::new(select, streams, samples);
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
    rows: Vec<&'a Map<String, Json>>,
}

impl Source<'_> {
    fn is(&self, name: &str) -> bool {
        self.alias == Some(name) || self.name == name
    }
}

struct Scope<'a> {
    select: &'a Select,
    sources: Vec<Source<'a>>,
    /// All streams that are known, of the statement or not.
    known: &'a [Stream],
    /// The first field of each alias, by its name, and by its name in lower case.
    aliases: HashMap<&'a str, &'a Field>,
    folded: HashMap<String, &'a Field>,
}

impl<'a> Scope<'a> {
    fn new(select: &'a Select, streams: &'a [Stream], samples: &'a Samples) -> Self {
        let written = std::iter::once(&select.from).chain(select.joins.iter().map(|join| &join.source));
        let sources = written.map(|source| Source {
            name: &source.name.name,
            span: source.name.span,
            alias: source.alias.as_ref().map(|alias| alias.name.as_str()),
            stream: streams.iter().find(|stream| stream.name == source.name.name),
            rows: samples.of(&source.name.name),
        });
        let (mut aliases, mut folded) = (HashMap::new(), HashMap::new());
        for field in &select.fields {
            let Some(alias) = &field.alias else { continue };
            aliases.entry(alias.name.as_str()).or_insert(field);
            folded.entry(alias.name.as_str().to_ascii_lowercase()).or_insert(field);
        }
        Scope { select, sources: sources.collect(), known: streams, aliases, folded }
    }

    /// The field that an alias stands for.
    fn alias(&self, name: &str) -> Option<&'a Field> {
        self.aliases.get(name).or_else(|| self.folded.get(&name.to_ascii_lowercase())).copied()
    }

    fn source(&self, name: &str) -> Option<&Source<'a>> {
        self.sources.iter().find(|source| source.is(name))
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
