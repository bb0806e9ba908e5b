use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::data::Text;
use crate::diag::{Diagnostic, Span};
use crate::expr::{Bound, bind};
use crate::func::{Body, Catalogue, Func, Special};
use crate::sql::{Call, Expr, ExprNode, Field, Literal, Sort};

use super::node::{
    AnalyticCall, AnalyticStep, Clause, ColumnsCall, HitCall, Node, NumberCall, OutputColumn, SourceKind,
};
use super::scope::{AliasState, Names, Stage};

type Found = Vec<Diagnostic>;

/// The word for the arguments of `changed_cols` in messages.
const COLUMNS: &str = "the arguments of `changed_cols`";

/// Calls that have a step of their own, as they are met.
#[derive(Default)]
pub struct Specials {
    pub analytics: Vec<AnalyticCall>,
    pub numbers: Vec<NumberCall>,
    pub columns: Vec<ColumnsCall>,
    /// The set-returning call, and the place of its field among the output columns.
    pub rows: Option<(&'static Func, usize)>,
    pub dedup: Option<Node>,
}

/// The function that a field is a call of, and nothing else.
fn called(expr: &Expr, funcs: &Catalogue) -> Option<&'static Func> {
    match &expr.bare().node {
        ExprNode::Call(call) => funcs.find(&call.name.name),
        _ => None,
    }
}

/// Whether the field stands for several rows.
pub fn is_rows(field: &Field, funcs: &Catalogue) -> bool {
    called(&field.expr, funcs).is_some_and(|func| matches!(func.body, Body::Special(Special::Rows)))
}

/// Whether the field stands for several columns.
pub fn is_columns(field: &Field, funcs: &Catalogue) -> bool {
    let columns = |func: &Func| matches!(func.body, Body::Special(Special::Columns));
    field.alias.is_none() && called(&field.expr, funcs).is_some_and(columns)
}

/// The name of the one function that the catalogue does not have: it is an operator.
pub const DEDUP: &str = "dedup_trigger";

/// The call that the field is, if it is one of `dedup_trigger`.
pub fn dedup_call(field: &Field) -> Option<&Call> {
    match &field.expr.bare().node {
        ExprNode::Call(call) if call.name.name.eq_ignore_ascii_case(DEDUP) => Some(call),
        _ => None,
    }
}

impl Names<'_> {
    /// Plans the field that calls `dedup_trigger`, and gives the slot of its result.
    pub fn dedup_field(&mut self, field: &Field, call: &Call) -> Result<Bound, Found> {
        let refused = |message: String, help: &str| {
            Err(vec![Diagnostic::error("K0247", message).at(field.span).help(help.to_string())])
        };
        if self.windowed || self.is_join() {
            return refused(
                format!("`{DEDUP}` looks at single rows, and cannot stand beside a window or a join"),
                "leave it out",
            );
        }
        if self.special.dedup.is_some() {
            return refused(format!("`{DEDUP}` stands in a statement once"), "use a second rule");
        }
        let is_column = |arg: &Expr| matches!(arg.node, ExprNode::Name(_) | ExprNode::Dotted(..));
        let ([start, end, now, expire], None, false) = (call.args.as_slice(), &call.over, call.distinct) else {
            return refused(format!("`{DEDUP}` takes three columns and an integer"), "start, end, now, milliseconds");
        };
        let (true, ExprNode::Literal(Literal::Int(expire))) =
            ([start, end, now].into_iter().all(is_column), &expire.node)
        else {
            return refused(format!("`{DEDUP}` takes three columns and an integer"), "start, end, now, milliseconds");
        };
        let mut found = Vec::new();
        let columns = self.at(Stage::Order, "the arguments of `dedup_trigger`", |names| {
            [start, end, now].map(|arg| names.part(arg, &mut found))
        });
        if !found.is_empty() {
            return Err(found);
        }
        let slot = self.fresh();
        self.special.dedup = Some(Node::Dedup { slot, columns, expire: *expire });
        let name = field.alias.as_ref().map_or(Text::const_new(DEDUP), |alias| alias.name.clone());
        let bound = Bound::Slot(slot, name);
        if let Some(alias) = self.index.of(field).map(|n| &mut self.aliases[n]) {
            (alias.state, alias.earliest) = (AliasState::Bound(Arc::new(bound.clone())), Stage::Select);
        }
        Ok(bound)
    }

    /// Binds what is evaluated at another stage than the expression around it.
    fn at<T>(&mut self, stage: Stage, clause: &'static str, run: impl FnOnce(&mut Self) -> T) -> T {
        let outer = (self.stage, self.clause, self.in_aggregate);
        (self.stage, self.clause, self.in_aggregate) = (stage, clause, false);
        let result = run(self);
        (self.stage, self.clause, self.in_aggregate) = outer;
        result
    }

    fn part(&mut self, expr: &Expr, found: &mut Found) -> Bound {
        let funcs = self.funcs;
        bind(expr, self, funcs).unwrap_or_else(|more| {
            found.extend(more);
            Bound::Const(crate::data::Value::Null)
        })
    }

    fn parts(&mut self, list: &[Expr], found: &mut Found) -> Vec<Bound> {
        list.iter().map(|expr| self.part(expr, found)).collect()
    }

    /// The alias that is being bound has its value from that stage on.
    fn not_before(&mut self, stage: Stage) {
        if let Some(n) = self.binding.last().copied() {
            self.aliases[n].earliest = self.aliases[n].earliest.max(stage);
        }
    }

    /// A call of a function whose meaning needs the plan, other than an aggregate.
    pub fn special(&mut self, what: Special, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Found> {
        match what {
            Special::Analytic => self.analytic(call, func),
            Special::RowNumber => self.number(call, func, span),
            Special::Columns => self.columns(call, func, span),
            Special::Hit => self.hit(call, func, span),
            _ => {
                let message = format!("`{}` gives rows, so it stands alone as a field of SELECT", func.name);
                let help = match self.clause == "SELECT" && !self.in_aggregate {
                    true => "what is computed of its rows belongs into a second rule",
                    false => "it can stand in SELECT only",
                };
                Err(vec![Diagnostic::error("K0242", message).at(span).help(help)])
            }
        }
    }

    fn analytic(&mut self, call: &Call, func: &'static Func) -> Result<Bound, Found> {
        let mut found = Vec::new();
        let over = call.over.clone().unwrap_or_default();
        if !over.order.is_empty() {
            let message = format!("`{}` takes PARTITION BY and WHEN in OVER, and no ORDER BY", func.name);
            found.push(Diagnostic::error("K0241", message).at(over.span).help("it sees the rows as they come"));
        }
        let clause = "the arguments of an analytic function, which sees each row as it comes";
        let (args, partition, when) = self.at(Stage::Analytic, clause, |names| {
            let args = names.parts(&call.args, &mut found);
            let partition = names.parts(&over.partition, &mut found);
            (args, partition, over.when.as_ref().map(|when| names.part(when, &mut found)))
        });
        if !found.is_empty() {
            return Err(found);
        }
        let slot = self.fresh();
        let made = AnalyticCall { func, args, partition, when, slot };
        let bound = Bound::Slot(slot, Text::new(format!("{made:?}")));
        self.special.analytics.push(made);
        Ok(bound)
    }

    fn in_select(&self) -> bool {
        (self.clause == "SELECT" || self.clause == COLUMNS) && !self.in_aggregate
    }

    fn number(&mut self, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Found> {
        if !self.in_select() {
            let place = if self.in_aggregate { "an aggregate" } else { self.clause };
            let message = format!("`{}` stands in SELECT only, and not in {place}", func.name);
            return Err(vec![Diagnostic::error("K0244", message).at(span)]);
        }
        let mut found = Vec::new();
        let over = call.over.clone().unwrap_or_default();
        if let Some(when) = &over.when {
            let message = format!("`{}` takes PARTITION BY and ORDER BY in OVER, and no WHEN", func.name);
            found.push(Diagnostic::error("K0241", message).at(when.span));
        }
        let (partition, order) = self.at(Stage::Having, "OVER", |names| {
            let partition = names.parts(&over.partition, &mut found);
            let key = |sort: &Sort| (names.part(&sort.expr, &mut found), sort.descending);
            (partition, over.order.iter().map(key).collect())
        });
        if !found.is_empty() {
            return Err(found);
        }
        self.not_before(Stage::Order);
        let slot = self.fresh();
        self.special.numbers.push(NumberCall { partition, order, slot });
        Ok(Bound::Slot(slot, Text::const_new("row_number()")))
    }

    fn columns(&mut self, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Found> {
        if self.clause != "SELECT" || self.in_aggregate {
            let message = format!("`{}` gives columns, so it stands in SELECT only", func.name);
            return Err(vec![Diagnostic::error("K0243", message).at(span)]);
        }
        if let Some(over) = &call.over {
            let message = format!("`{}` takes no OVER", func.name);
            let help = "it compares with what it gave last; `changed_col` takes PARTITION BY and WHEN";
            return Err(vec![Diagnostic::error("K0215", message).at(over.span).help(help)]);
        }
        let mut found = Vec::new();
        let mut args = self.at(Stage::Order, COLUMNS, |names| names.parts(&call.args, &mut found)).into_iter();
        let (Some(prefix), Some(ignore_null), true) = (args.next(), args.next(), found.is_empty()) else {
            return Err(found);
        };
        let names = call.args.iter().skip(2).map(|arg| self.column_name(arg));
        let columns = names.zip(args).collect();
        self.not_before(Stage::Select);
        let slot = self.fresh();
        let made = ColumnsCall { prefix, ignore_null, columns, slot };
        let bound = Bound::Slot(slot, Text::new(format!("{made:?}")));
        self.special.columns.push(made);
        Ok(bound)
    }

    /// The name of a column that `changed_cols` compares; an expression other than a column or a call has none.
    fn column_name(&self, arg: &Expr) -> Text {
        match &arg.bare().node {
            ExprNode::Name(name) | ExprNode::Dotted(_, name) => name.clone(),
            ExprNode::Call(call) => {
                self.funcs.find(&call.name.name).map_or_else(|| call.name.name.clone(), |func| Text::new(func.name))
            }
            _ => Text::default(),
        }
    }

    fn hit(&mut self, call: &Call, func: &'static Func, span: Span) -> Result<Bound, Found> {
        if let Some(over) = &call.over {
            return Err(vec![Diagnostic::error("K0215", format!("`{}` takes no OVER", func.name)).at(over.span)]);
        }
        let of_groups = func.name.starts_with("last_agg");
        if of_groups {
            if self.in_where() {
                self.of_where.hits = true;
            } else {
                self.refuse_aggregate(func.name, span)?;
            }
            self.met_aggregate = true;
        } else if (self.windowed || self.is_join()) && self.clause != "OVER" {
            let message = format!("`{}` counts rows, and a statement with GROUP BY gives groups", func.name);
            let help = format!("use `{}`", func.name.replace("last_", "last_agg_"));
            return Err(vec![Diagnostic::error("K0245", message).at(span).help(help)]);
        }
        Ok(Bound::Call(func, Vec::new(), 0))
    }

    /// The column of a set-returning field: the value whose parts become rows.
    pub fn rows_field(&mut self, field: &Field, place: usize) -> Result<OutputColumn, Found> {
        let (ExprNode::Call(call), Some(func)) = (&field.expr.bare().node, called(&field.expr, self.funcs)) else {
            return Err(Vec::new());
        };
        let refused = |message: String, help: &str| {
            Err(vec![Diagnostic::error("K0242", message).at(field.span).help(help.to_string())])
        };
        if let Some((first, _)) = self.special.rows {
            let message = format!("`{}` is a second function that gives rows, after `{}`", func.name, first.name);
            return refused(message, "a statement has one at most");
        }
        if field.invisible {
            return refused(format!("`{}` gives rows and cannot be INVISIBLE", func.name), "leave INVISIBLE out");
        }
        if call.over.is_some() || call.distinct {
            return refused(format!("`{}` takes neither OVER nor DISTINCT", func.name), "leave it out");
        }
        let args: Vec<_> = call.args.iter().map(crate::expr::argument).collect();
        if let Err(message) = crate::func::check_call(func, &args) {
            return Err(vec![Diagnostic::error("K0211", message).at(field.expr.span)]);
        }
        self.special.rows = Some((func, place));
        // Within its own expression the name of the alias means the column.
        let own = self.index.of(field);
        self.binding.extend(own);
        let mut found = Vec::new();
        let expr = call.args.first().map(|arg| self.part(arg, &mut found));
        self.binding.truncate(self.binding.len() - usize::from(own.is_some()));
        let (Some(expr), true) = (expr, found.is_empty()) else { return Err(found) };
        let name = field.alias.as_ref().map_or_else(|| Text::new(func.name), |alias| alias.name.clone());
        Ok(OutputColumn::new(name, expr))
    }
}

/// The steps of analytic calls: the calls in the order in which they were met, each after the aliases that it reads,
/// which are given in the order of their dependence. Where there are several sources, a call that reads one of them sees
/// the rows of that source alone: of a stream among the common nodes, of a table in its branch. Says whether any stands
/// among the common nodes.
pub fn analytic_steps(
    names: &Names<'_>,
    aliases: Vec<(usize, Text, Bound)>,
    nodes: &mut Vec<Node>,
    branches: &mut [Vec<Node>],
) -> bool {
    let mut places: Vec<Option<usize>> = Vec::new();
    for call in &names.special.analytics {
        let of = if names.is_join() { names.of_call(call) } else { Vec::new() };
        places.push(of.first().copied().filter(|_| of.len() == 1));
    }
    let before = nodes.len();
    for source in std::iter::once(None).chain((0..names.sources.len()).map(Some)) {
        let calls = names.special.analytics.iter().zip(&places);
        let calls = calls.filter(|(_, place)| **place == source).map(|(call, _)| call.clone()).collect();
        let Some(steps) = analytic_step(calls, aliases.clone()) else { continue };
        let of_stream = |source: &usize| names.sources[*source].stream.kind == SourceKind::Stream;
        let only = source.filter(of_stream).zip(names.source_slot);
        match source {
            Some(source) if only.is_none() => branches[source].push(Node::Analytic { steps, only }),
            _ => nodes.push(Node::Analytic { steps, only }),
        }
    }
    nodes.len() > before
}

fn analytic_step(calls: Vec<AnalyticCall>, aliases: Vec<(usize, Text, Bound)>) -> Option<Vec<AnalyticStep>> {
    if calls.is_empty() {
        return None;
    }
    let places: HashMap<usize, usize> = aliases.iter().enumerate().map(|(n, (slot, ..))| (*slot, n)).collect();
    let mut waiting: Vec<Option<(usize, Text, Bound)>> = aliases.into_iter().map(Some).collect();
    let mut steps = Vec::new();
    for call in calls {
        let mut needed: Vec<usize> = call.parts().flat_map(Bound::slots).collect();
        let mut taken: Vec<(usize, (usize, Text, Bound))> = Vec::new();
        while let Some(slot) = needed.pop() {
            if let Some(place) = places.get(&slot)
                && let Some(alias) = waiting[*place].take()
            {
                needed.extend(alias.2.slots());
                taken.push((*place, alias));
            }
        }
        taken.sort_unstable_by_key(|(place, _)| *place);
        let taken: Vec<_> = taken.into_iter().map(|(_, alias)| alias).collect();
        steps.extend((!taken.is_empty()).then_some(AnalyticStep::Aliases(taken)));
        steps.push(AnalyticStep::Call(call));
    }
    Some(steps)
}

/// Takes the calls that count hits out of a condition and the aliases that it reads: their value is read before the
/// condition is decided, and the hit is noted after.
pub(super) fn take_hits(bound: &mut Bound, hits: &mut Vec<HitCall>, fresh: &mut dyn FnMut() -> usize) {
    if let Bound::Call(func, ..) = bound
        && matches!(func.body, Body::Special(Special::Hit))
    {
        let slot = fresh();
        hits.push(HitCall { func: func.name, slot });
        *bound = Bound::Slot(slot, Text::new(format!("{}()", func.name)));
        return;
    }
    // Aliases share their expressions, in long chains too, so one is copied only when there is something to take out.
    if let Bound::Alias(_, _, of) = bound
        && has_hits(of, &mut HashSet::new())
    {
        return take_hits(Arc::make_mut(of), hits, fresh);
    }
    bound.parts_mut(&mut |part| take_hits(part, hits, fresh));
}

/// Whether a call that counts hits stands in an expression or in the aliases that it reads; each of these is looked at
/// once.
fn has_hits(bound: &Bound, seen: &mut HashSet<*const Bound>) -> bool {
    match bound {
        Bound::Call(func, ..) if matches!(func.body, Body::Special(Special::Hit)) => true,
        Bound::Alias(_, _, of) => seen.insert(Arc::as_ptr(of)) && has_hits(of, seen),
        _ => {
            let mut found = false;
            bound.parts(&mut |part| found = found || has_hits(part, seen));
            found
        }
    }
}

/// The step of a condition that has functions in it, or in the aliases that it reads, that count how often it is met:
/// by single rows, or by sets of rows.
pub fn counted_step(
    predicate: &mut Option<Bound>,
    mut aliases: Vec<(usize, Text, Bound)>,
    clause: Clause,
    sets: bool,
    names: &mut Names<'_>,
) -> Option<Node> {
    let mut hits = Vec::new();
    let bound = predicate.as_mut()?;
    aliases
        .iter_mut()
        .map(|(_, _, of)| of)
        .chain([bound])
        .for_each(|of| take_hits(of, &mut hits, &mut || names.fresh()));
    if hits.is_empty() {
        return None;
    }
    let trigger = (sets && names.windowed).then(|| {
        let slot = names.bounds.trigger.unwrap_or_else(|| names.fresh());
        *names.bounds.trigger.insert(slot)
    });
    Some(Node::Counted { hits, aliases, predicate: predicate.take()?, clause, sets, trigger })
}

/// The step that makes rows of the parts of a column, and one more column, for the entries of objects.
pub fn rows_step(names: &Names<'_>, columns: &mut Vec<OutputColumn>, limit: Option<usize>) -> Option<Node> {
    let (func, column) = names.special.rows?;
    let named = columns.iter().enumerate().filter(|(_, column)| !column.spread);
    let named = named.map(|(slot, column)| (column.name.clone(), slot)).collect();
    let rest = columns.len();
    columns.push(OutputColumn::spread(Bound::Const(crate::data::Value::Null)));
    Some(Node::Rows { func: func.name, column, named, rest, limit })
}

/// The state of an alias before anything is bound.
pub fn waiting(field: &Field, funcs: &Catalogue) -> AliasState {
    if is_rows(field, funcs) { AliasState::Rows } else { AliasState::Waiting }
}
