//! What can be said of the calls in a statement by looking at its text alone: unknown functions, arguments that cannot be
//! right, and functions that stand where they cannot. No stream is asked for.

use crate::diag::{Diagnostic, Span, nearest};
use crate::expr::argument;
use crate::func::{Body, Catalogue, Func, Special, check_call};
use crate::sql::{Call, Expr, ExprNode, Literal, Select, Wildcard, WindowKind};

use super::special::DEDUP;

/// Everything that is wrong with the calls of a statement, in the order of the text.
pub fn check(select: &Select, funcs: &Catalogue) -> Vec<Diagnostic> {
    let mut checks = Checks { funcs, rows: None, found: Vec::new() };
    for field in &select.fields {
        checks.expr(&field.expr, Place::Field);
    }
    for (clause, expr) in clauses(select) {
        checks.expr(expr, Place::Clause(clause));
    }
    checks.found.sort_by_key(|found| found.span.map_or(0, |span| span.start));
    checks.found
}

/// Whether a key of GROUP BY is a call that no function has the name of, and a window nearly has.
pub(super) fn misspelt_window(select: &Select, funcs: &Catalogue) -> bool {
    select.group.iter().any(|key| match &key.bare().node {
        ExprNode::Call(call) => {
            let near = nearest_call(&call.name.name, funcs);
            funcs.find(&call.name.name).is_none() && near.is_some_and(|near| WindowKind::find(near).is_some())
        }
        _ => false,
    })
}

/// What can be called that is nearest to a name.
fn nearest_call<'a>(name: &str, funcs: &'a Catalogue) -> Option<&'a str> {
    let windows = WindowKind::ALL.iter().map(|kind| kind.name());
    nearest(name, funcs.names().chain(windows).chain([DEDUP]))
}

/// The expressions of all clauses but SELECT, with the words for their clauses.
fn clauses(select: &Select) -> Vec<(&'static str, &Expr)> {
    let mut all: Vec<(&'static str, &Expr)> = Vec::new();
    all.extend(select.joins.iter().filter_map(|join| Some(("ON", join.on.as_ref()?))));
    all.extend(select.filter.iter().map(|expr| ("WHERE", expr)));
    all.extend(select.group.iter().map(|expr| ("GROUP BY", expr)));
    for window in &select.windows {
        all.extend(window.args.iter().map(|expr| ("a window", expr)));
        all.extend(window.filter.iter().map(|expr| ("FILTER", expr)));
        all.extend(window.when.iter().chain(&window.partition).map(|expr| ("OVER", expr)));
    }
    all.extend(select.having.iter().map(|expr| ("HAVING", expr)));
    all.extend(select.order.iter().map(|sort| ("ORDER BY", &sort.expr)));
    all
}

/// Where an expression stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// It is a field of SELECT.
    Field,
    /// Somewhere within a field.
    Inside,
    Clause(&'static str),
}

impl Place {
    fn inside(self) -> Place {
        if self == Place::Field { Place::Inside } else { self }
    }

    fn word(self) -> &'static str {
        match self {
            Place::Field | Place::Inside => "SELECT",
            Place::Clause(word) => word,
        }
    }
}

struct Checks<'a> {
    funcs: &'a Catalogue,
    /// The first set-returning function.
    rows: Option<&'static str>,
    found: Vec<Diagnostic>,
}

impl Checks<'_> {
    fn add(&mut self, code: &'static str, message: impl Into<String>, span: Span) -> &mut Diagnostic {
        self.found.push(Diagnostic::error(code, message).at(span));
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    fn expr(&mut self, expr: &Expr, place: Place) {
        let inner = match &expr.node {
            // Parentheses around a whole field change nothing.
            ExprNode::Paren(_) => place,
            _ => place.inside(),
        };
        if let ExprNode::Call(call) = &expr.node {
            self.call(call, expr.span, place);
            let meta =
                self.funcs.find(&call.name.name).is_some_and(|func| matches!(func.body, Body::Special(Special::Meta)));
            if meta {
                return;
            }
        }
        expr.parts(&mut |part| self.expr(part, inner));
    }

    fn call(&mut self, call: &Call, span: Span, place: Place) {
        let name = &call.name.name;
        if WindowKind::find(name).is_some() {
            // Its shape is the parser's business, its place the planner's.
            return;
        }
        if name.eq_ignore_ascii_case(DEDUP) {
            return self.dedup(call, span, place);
        }
        let Some(func) = self.funcs.find(name) else {
            let help = nearest_call(name, self.funcs).map(|near| format!("did you mean `{near}`?"));
            self.add("K0210", format!("there is no function `{name}`"), call.name.span).help = help;
            return;
        };
        let args: Vec<_> = call.args.iter().map(argument).collect();
        if let Err(message) = check_call(func, &args) {
            self.add("K0211", message, span);
            if matches!(func.body, Body::Special(Special::Meta)) {
                return;
            }
        }
        let aggregate = matches!(func.body, Body::Aggregate(_) | Body::GuestAggregate(_));
        if call.distinct && !aggregate {
            self.add("K0212", format!("DISTINCT has no meaning in `{}`", func.name), span);
        }
        self.over(call, func);
        self.place(call, func, span, place);
    }

    fn over(&mut self, call: &Call, func: &'static Func) {
        let Some(over) = &call.over else { return };
        match func.body {
            Body::Special(Special::Analytic) if over.order.is_empty() => {}
            Body::Special(Special::Analytic) => {
                let message = format!("`{}` takes PARTITION BY and WHEN in OVER, and no ORDER BY", func.name);
                self.add("K0241", message, over.span).help = Some("it sees the rows as they come".into());
            }
            Body::Special(Special::RowNumber) => {
                if let Some(when) = &over.when {
                    let message = format!("`{}` takes PARTITION BY and ORDER BY in OVER, and no WHEN", func.name);
                    self.add("K0241", message, when.span);
                }
            }
            _ => {
                let found = self.add("K0215", format!("`{}` takes no OVER", func.name), over.span);
                found.help = Some("OVER belongs to analytic functions, `row_number` and windows".into());
            }
        }
    }

    fn place(&mut self, call: &Call, func: &'static Func, span: Span, place: Place) {
        let in_clause = matches!(place, Place::Clause(_));
        match func.body {
            Body::Aggregate(_) | Body::GuestAggregate(_) if place == Place::Clause("GROUP BY") => {
                let message = format!("`{}` is an aggregate and cannot stand in GROUP BY", func.name);
                self.add("K0216", message, span).help = Some("conditions on aggregates stand in HAVING".into());
            }
            Body::Special(Special::Meta) if !matches!(call.args.as_slice(), [only] if is_meta_path(only)) => {
                let found = self.add("K0213", format!("`{}` takes the name of a metadata key", func.name), span);
                found.help = Some("write `meta(topic)`, `meta(stream.topic)`, `meta(key->sub)` or `meta(*)`".into());
            }
            Body::Special(Special::RowNumber) if in_clause => {
                self.add("K0244", format!("`{}` stands in SELECT only, and not in {}", func.name, place.word()), span);
            }
            Body::Special(Special::Columns) if in_clause => {
                self.add("K0243", format!("`{}` gives columns, so it stands in SELECT only", func.name), span);
            }
            Body::Special(Special::Rows) if place != Place::Field => {
                let message = format!("`{}` gives rows, so it stands alone as a field of SELECT", func.name);
                let help = match in_clause {
                    true => "it can stand in SELECT only",
                    false => "what is computed of its rows belongs into a second rule",
                };
                self.add("K0242", message, span).help = Some(help.into());
            }
            Body::Special(Special::Rows) => {
                if let Some(first) = self.rows.replace(func.name) {
                    let message = format!("`{}` is a second function that gives rows, after `{first}`", func.name);
                    self.add("K0242", message, span).help = Some("a statement has one at most".into());
                }
            }
            _ => {}
        }
    }

    fn dedup(&mut self, call: &Call, span: Span, place: Place) {
        if place != Place::Field {
            self.add("K0247", format!("`{DEDUP}` stands alone as a field of SELECT"), span);
            return;
        }
        let column = |arg: &Expr| matches!(arg.node, ExprNode::Name(_) | ExprNode::Dotted(..));
        let fits = match call.args.as_slice() {
            [start, end, now, expire] => {
                [start, end, now].into_iter().all(column)
                    && matches!(expire.node, ExprNode::Literal(Literal::Int(_)))
                    && call.over.is_none()
                    && !call.distinct
            }
            _ => false,
        };
        if !fits {
            let found = self.add("K0247", format!("`{DEDUP}` takes three columns and an integer"), span);
            found.help = Some("start, end, now, milliseconds".into());
        }
    }
}

/// `key`, `stream.key`, `key.sub`, `key->sub`, `*`.
fn is_meta_path(expr: &Expr) -> bool {
    match &expr.node {
        ExprNode::Name(_) | ExprNode::Dotted(..) => true,
        ExprNode::Member(of, _) => is_meta_path(of) && !matches!(of.node, ExprNode::Wildcard(_)),
        ExprNode::Wildcard(wildcard) => **wildcard == Wildcard::default(),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::{Options, Stream, plan};
    use crate::sql::{Statement, parse, parse_select};

    /// The codes of all findings, in the order of the text, and the places of two of them.
    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = "SELECT uper(a), volts, unnest(b), upper(unnest(c)), count(*) AS n, lag(id) OVER (ORDER BY id), meta(1 + 1) \
                    FROM pump WHERE row_number() > 1 AND list[3:2] = id GROUP BY sum(id), TUMBLINGWINDOW(ss, 0) \
                    HAVING id > abs(1, 2)";
        let stream =
            "CREATE STREAM pump (id BIGINT, a STRING, b ARRAY(BIGINT), c ARRAY(BIGINT), list ARRAY(BIGINT)) WITH ()";
        let Ok(Statement::Create(create)) = parse(stream) else { unreachable!() };
        let find = |name: &str| (name == "pump").then(|| Stream::of(&create));
        let found = plan(&parse_select(text).unwrap(), &find, &Catalogue::default(), &Options::default()).unwrap_err();
        let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
        let expected = ["K0210", "K0214", "K0242", "K0241", "K0213", "K0244", "K0207", "K0216", "K0209", "K0211"];
        assert_eq!(codes, expected, "{found:?}");
        assert!(found.iter().all(|one| one.span.is_some()));
        // Nor does what is wrong with the sources, or a second window.
        let text = "SELECT volts FROM pump CROSS JOIN pump AS other WHERE pump.amps > 1";
        let found = plan(&parse_select(text).unwrap(), &find, &Catalogue::default(), &Options::default()).unwrap_err();
        let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
        assert_eq!(codes, ["K0214", "K0252", "K0214"], "{found:?}");
        let text = "SELECT volts FROM pump GROUP BY COUNTWINDOW(2), COUNTWINDOW(3)";
        let found = plan(&parse_select(text).unwrap(), &find, &Catalogue::default(), &Options::default()).unwrap_err();
        let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
        assert_eq!(codes, ["K0214"], "{found:?}");
        // A stream that is not there hides nothing.
        let text = "SELECT uper(a) AS x, b AS X FROM nowhere GROUP BY sum(a) > list[3:2]";
        let found = plan(&parse_select(text).unwrap(), &find, &Catalogue::default(), &Options::default()).unwrap_err();
        let codes: Vec<&str> = found.iter().map(|one| one.code).collect();
        assert_eq!(codes, ["K0210", "K0206", "K0201", "K0208", "K0216", "K0207"], "{found:?}");
    }
}
