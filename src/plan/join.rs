//! The joins of a statement: which rows of its sources belong together.

use std::collections::HashSet;
use std::sync::Arc;

use crate::data::Text;
use crate::diag::{Diagnostic, Span};
use crate::expr::{Bound, Bounds, bind};
use crate::func::Body;
use crate::sql::{self, BinaryOp, JoinKind, Select};

use super::build::ordered_aliases;
use super::node::{AnalyticCall, Clause, Node, SourceKind};
use super::scope::{AliasState, Names, Stage};
use super::sources::written;
use super::window::Window;

/// The step that brings the rows of streams and scan tables together.
#[derive(Clone, Debug)]
pub struct Joined {
    /// In the order in which they are done.
    pub joins: Vec<Join>,
    /// The scan tables among the sources, and how many rows each keeps.
    pub tables: Vec<(usize, usize)>,
    /// Of two parts that fill the same slot, that of the source which stands first here counts.
    pub precedence: Vec<usize>,
    /// Slot that says of which source a row is.
    pub source_slot: usize,
    /// A row that is of tables alone gets the bounds of the window too.
    pub bounds: Bounds,
}

/// One join: what is joined so far on the left, a source on the right.
#[derive(Clone, Debug)]
pub struct Join {
    pub kind: JoinKind,
    pub source: usize,
    /// Without a condition all belongs to all.
    pub on: Option<Bound>,
    /// Equalities that the condition begins with: what is compared of the left side, and of the right one.
    pub keys: Vec<(Bound, Bound)>,
}

/// The step that asks a lookup table.
#[derive(Clone, Debug)]
pub struct LookupJoin {
    /// Rows without an answer go on by themselves.
    pub outer: bool,
    pub source: usize,
    /// Columns of the table, and what each must be equal to.
    pub keys: Vec<(Text, Bound)>,
    /// What an answer must fulfil besides.
    pub on: Option<Bound>,
    pub precedence: Vec<usize>,
}

/// The joins as they are written, with their conditions bound.
pub struct Joins {
    pub joined: Vec<Join>,
    pub lookups: Vec<LookupJoin>,
}

/// Refuses sources that cannot be read together.
pub fn check(select: &Select, names: &Names<'_>, found: &mut Vec<Diagnostic>) {
    let sources: Vec<&sql::Source> = written(select).collect();
    let mut taken = HashSet::new();
    for (n, source) in names.sources.iter().enumerate() {
        let (name, span) = (source.name(), sources[n].alias.as_ref().map_or(sources[n].name.span, |alias| alias.span));
        if !taken.insert(name) {
            let message = format!("two sources are called `{name}`");
            let help = format!("give one of them a name of its own: `{name} AS other`");
            found.push(Diagnostic::error("K0251", message).at(span).help(help));
        }
    }
    if names.sources[0].stream.kind == SourceKind::Lookup {
        let name = &select.from.name;
        let message = format!("`{}` is a lookup table, which is asked for rows and gives none by itself", name.name);
        let help = "name the stream in FROM and join the table: `FROM stream INNER JOIN table ON …`";
        found.push(Diagnostic::error("K0253", message).at(name.span).help(help));
    }
    let streams = names.sources.iter().filter(|source| source.stream.kind == SourceKind::Stream).count();
    if streams == 0 {
        let message = if names.windowed {
            "a window over tables alone never ends, since tables do not drive a rule"
        } else {
            "all sources are tables, and a rule needs a stream to be driven by"
        };
        let problem = Diagnostic::error("K0202", message).at(select.from.name.span);
        let words = "cannot run window for TABLE sources";
        found.push(if names.windowed { problem.known_as(words) } else { problem });
    }
    if streams > 1 && !names.windowed {
        let span = select.joins.first().map_or(select.span, |join| join.span);
        let message = "a join of streams needs a window, since a stream never ends";
        let help = "add one, for example `GROUP BY TUMBLINGWINDOW(ss, 10)`";
        let words = "a time window or count window is required to join multiple streams";
        found.push(Diagnostic::error("K0252", message).at(span).help(help).known_as(words));
    }
}

/// Binds the conditions of all joins.
pub fn bind_joins(select: &Select, names: &mut Names<'_>, found: &mut Vec<Diagnostic>) -> Joins {
    let mut joins = Joins { joined: Vec::new(), lookups: Vec::new() };
    for (n, join) in select.joins.iter().enumerate() {
        let source = n + 1;
        let on = match &join.on {
            None => None,
            Some(on) => {
                (names.stage, names.clause) = (Stage::Where, "ON");
                let funcs = names.funcs;
                match bind(on, names, funcs) {
                    Ok(on) => Some((on, on_span(join))),
                    Err(more) => {
                        found.extend(more);
                        continue;
                    }
                }
            }
        };
        if let Some((on, span)) = &on
            && let Some(name) = remembers(on, names)
        {
            let message = format!("`{name}` in ON is not computed before the rows are joined");
            let help = "ON reads columns, and aliases whose functions remember nothing";
            found.push(Diagnostic::error("K0254", message).at(*span).help(help));
        }
        if names.sources[source].stream.kind == SourceKind::Lookup {
            match lookup(join, source, on.map(|(on, _)| on), names) {
                Ok(made) => joins.lookups.push(made),
                Err(problem) => found.push(problem),
            }
            continue;
        }
        // Lookup tables are asked when all else is joined.
        if let Some((on, span)) = &on {
            let asked = |n: &usize| names.sources[*n].stream.kind == SourceKind::Lookup;
            if let Some(table) = names.owners_of(on).into_iter().find(asked) {
                let name = names.sources[table].name();
                let message =
                    format!("ON reads `{name}`, a lookup table that is asked only when all streams are joined");
                let help = "put the condition into WHERE";
                found.push(Diagnostic::error("K0255", message).at(*span).help(help));
            }
        }
        let on = on.map(|(on, _)| on);
        let keys = on.as_ref().map_or_else(Vec::new, |on| equalities(on, source, names));
        joins.joined.push(Join { kind: join.kind, source, on, keys });
    }
    joins
}

/// Refuses functions that look back at rows of a lookup table, which do not come by themselves.
pub fn check_analytics(select: &Select, names: &Names<'_>, found: &mut Vec<Diagnostic>) {
    for call in &names.special.analytics {
        let asked = |source: &usize| names.sources[*source].stream.kind == SourceKind::Lookup;
        if let Some(table) = names.of_call(call).into_iter().find(asked) {
            let (func, name) = (call.func.name, names.sources[table].name());
            let message =
                format!("`{func}` looks back at rows as they come, and those of lookup table `{name}` do not come");
            found.push(Diagnostic::error("K0258", message).at(select.span).help("put it into a second rule"));
        }
    }
}

fn on_span(join: &sql::Join) -> Span {
    join.on.as_ref().map_or(join.span, |on| on.span)
}

/// An alias that is read from its slot only, since it cannot be computed twice.
fn remembers(on: &Bound, names: &Names<'_>) -> Option<Text> {
    let mut name = None;
    let mut look = |part: &Bound| {
        if let Bound::Slot(slot, _) = part {
            let alias = names.lookups.aliases.get(slot);
            name = name.take().or_else(|| alias.map(|n| names.aliases[*n].name.clone()));
        }
    };
    walk(on, &mut HashSet::new(), &mut look);
    name
}

/// Calls `visit` with an expression, its parts, and those of the aliases that it reads; of each alias once, since long
/// chains of them share their expressions.
fn walk(bound: &Bound, seen: &mut HashSet<*const Bound>, visit: &mut dyn FnMut(&Bound)) {
    visit(bound);
    bound.parts(&mut |part| walk(part, seen, visit));
    if let Bound::Alias(_, _, of) = bound
        && seen.insert(Arc::as_ptr(of))
    {
        walk(of, seen, visit);
    }
}

/// The parts of a condition that AND holds together, in their order.
pub fn conjuncts(on: &Bound) -> Vec<&Bound> {
    match on {
        Bound::Binary(BinaryOp::And, a, b) => {
            let mut all = conjuncts(a);
            all.extend(conjuncts(b));
            all
        }
        other => vec![other],
    }
}

/// Puts conditions together again.
pub fn together(parts: impl IntoIterator<Item = Bound>) -> Option<Bound> {
    parts.into_iter().reduce(|a, b| Bound::Binary(BinaryOp::And, Box::new(a), Box::new(b)))
}

/// The equalities that a condition begins with, between what stands left of a source and the source itself. Where they
/// do not hold nothing behind them is looked at, so rows can be found by them.
fn equalities(on: &Bound, source: usize, names: &Names<'_>) -> Vec<(Bound, Bound)> {
    let side = |bound: &Bound| match names.owners(bound)?.as_slice() {
        [] => None,
        [only] if *only == source => Some(true),
        several if several.contains(&source) => None,
        _ => Some(false),
    };
    let pair = |part: &Bound| match part {
        Bound::Binary(BinaryOp::Eq, a, b) => match (side(a)?, side(b)?) {
            (false, true) => Some((Bound::clone(a), Bound::clone(b))),
            (true, false) => Some((Bound::clone(b), Bound::clone(a))),
            _ => None,
        },
        _ => None,
    };
    conjuncts(on).into_iter().map_while(pair).collect()
}

fn lookup(join: &sql::Join, source: usize, on: Option<Bound>, names: &Names<'_>) -> Result<LookupJoin, Diagnostic> {
    let name = names.sources[source].name();
    let mut keys: Vec<(Text, Bound)> = Vec::new();
    let mut others = Vec::new();
    let of_table = |bound: &Bound| names.owners_of(bound).contains(&source);
    let column = |bound: &Bound| match bound {
        Bound::Slot(slot, _) => names.column_in(source, *slot),
        _ => None,
    };
    for part in on.iter().flat_map(conjuncts) {
        let key = match part {
            Bound::Binary(BinaryOp::Eq, a, b) => match (column(a), column(b)) {
                (Some(column), _) if !of_table(b) => Some((column, Bound::clone(b))),
                (_, Some(column)) if !of_table(a) => Some((column, Bound::clone(a))),
                _ => None,
            },
            _ => None,
        };
        match key {
            Some((column, _)) if keys.iter().any(|(known, _)| *known == column) => {
                let message = format!("column `{column}` of lookup table `{name}` is compared twice in ON");
                let help = "compare it once, and put the other condition into WHERE";
                return Err(Diagnostic::error("K0256", message).at(on_span(join)).help(help));
            }
            Some(key) => keys.push(key),
            None => others.push(part.clone()),
        }
    }
    if keys.is_empty() {
        let message = format!("the join with lookup table `{name}` needs an equality to ask by");
        let help = format!("write `ON {name}.column = expression`, alone or with AND");
        let words = "join condition is invalid, at least one equi-join predicate is required";
        return Err(Diagnostic::error("K0257", message).at(on_span(join)).help(help).known_as(words));
    }
    let outer = join.kind == JoinKind::Left;
    let precedence = names.precedence.clone();
    Ok(LookupJoin { outer, source, keys, on: together(others), precedence })
}

impl Names<'_> {
    /// The sources that an expression reads; `None` where that is not known beforehand, or where it gives another value
    /// when it is evaluated again.
    pub fn owners(&self, bound: &Bound) -> Option<Vec<usize>> {
        let (owners, sure) = self.read_by(bound);
        sure.then_some(owners)
    }

    /// The sources that an expression is known to read.
    pub fn owners_of(&self, bound: &Bound) -> Vec<usize> {
        self.read_by(bound).0
    }

    fn read_by(&self, bound: &Bound) -> (Vec<usize>, bool) {
        let (mut owners, mut sure) = (Vec::new(), true);
        let mut slots: Vec<usize> = Vec::new();
        walk(bound, &mut HashSet::new(), &mut |part| match part {
            Bound::Slot(slot, _) => slots.push(*slot),
            Bound::Row(shape) => slots.extend(shape.columns.iter().map(|(_, slot)| slot).chain(&shape.rest)),
            Bound::Meta(_) | Bound::RowTime => sure = false,
            Bound::Call(func, ..) => sure &= func.pure && matches!(func.body, Body::Scalar(_)),
            _ => {}
        });
        for slot in slots {
            sure &= self.add_owners(slot, &mut owners);
        }
        owners.sort_unstable();
        owners.dedup();
        (owners, sure)
    }

    /// Adds the sources that fill a slot. False where it is filled by something else.
    fn add_owners(&self, slot: usize, owners: &mut Vec<usize>) -> bool {
        let fill = self.lookups.sources_of(slot);
        owners.extend(fill);
        if !fill.is_empty() {
            return true;
        }
        if let Some(call) = self.special.analytics.iter().find(|call| call.slot == slot) {
            // What a call reads that sees all rows is of no one source.
            let of = self.of_call(call);
            owners.extend(&of);
            return of.len() == 1;
        }
        // An alias that cannot be computed twice.
        if let Some(AliasState::Bound(of)) = self.lookups.aliases.get(&slot).map(|n| &self.aliases[*n].state) {
            owners.extend(self.read_by(of).0);
        }
        false
    }

    /// The sources that an analytic call reads.
    pub fn of_call(&self, call: &AnalyticCall) -> Vec<usize> {
        let mut of: Vec<usize> = call.parts().flat_map(|part| self.read_by(part).0).collect();
        of.sort_unstable();
        of.dedup();
        of
    }

    /// The name of the column of a source that a slot holds.
    fn column_in(&self, source: usize, slot: usize) -> Option<Text> {
        let source = &self.sources[source];
        let exact = source.resolved.iter().find(|column| column.slot == slot).map_or(slot, |column| column.exact);
        source.wanted.columns.iter().find(|column| column.slot == exact).map(|column| column.name.clone())
    }

    /// Whether rows of a source can be left out before they are joined, for a condition on the joined rows that reads
    /// nothing else: no join may let a row of another source go on without one of this source.
    pub fn is_kept(&self, source: usize, joins: &[Join], lookups: &[LookupJoin]) -> bool {
        if self.sources[source].stream.kind != SourceKind::Stream || lookups.iter().any(|join| join.source == source) {
            return false;
        }
        let own = joins.iter().position(|join| join.source == source);
        let mut later = joins.iter().skip(own.map_or(0, |own| own + 1));
        own.is_none_or(|own| !matches!(joins[own].kind, JoinKind::Left | JoinKind::Full))
            && !later.any(|join| matches!(join.kind, JoinKind::Right | JoinKind::Full))
    }
}

/// Moves the conditions of WHERE that concern one source alone to that source, where no join needs its other rows.
pub fn push_down(
    condition: Option<Bound>,
    joins: &Joins,
    names: &Names<'_>,
    branches: &mut [Vec<Node>],
) -> Option<Bound> {
    let condition = condition?;
    if !condition.is_pure() {
        return Some(condition);
    }
    let mut left = Vec::new();
    let mut moved: Vec<Vec<Bound>> = vec![Vec::new(); branches.len()];
    for part in conjuncts(&condition) {
        match names.owners(part).as_deref() {
            Some([source]) if names.is_kept(*source, &joins.joined, &joins.lookups) => {
                moved[*source].push(part.clone());
            }
            _ => left.push(part.clone()),
        }
    }
    for (branch, moved) in branches.iter_mut().zip(moved) {
        let filter = together(moved);
        branch.extend(filter.map(|predicate| Node::Filter { predicate, clause: Clause::Where }));
    }
    together(left)
}

/// The steps that join, and where the rows of each source come to them.
pub fn join_steps(joins: Joins, names: &Names<'_>, nodes: &mut Vec<Node>, entries: &mut [usize]) {
    let Some(source_slot) = names.source_slot else { return };
    let tables = names.sources.iter().enumerate().filter_map(|(n, source)| match source.stream.kind {
        SourceKind::Scan { retain } => Some((n, retain)),
        _ => None,
    });
    let tables: Vec<(usize, usize)> = tables.collect();
    tables.iter().for_each(|(table, _)| entries[*table] = nodes.len());
    if !joins.joined.is_empty() {
        let (precedence, bounds) = (names.precedence.clone(), names.bounds);
        nodes.push(Node::Join(Box::new(Joined { joins: joins.joined, tables, precedence, source_slot, bounds })));
    }
    for lookup in joins.lookups {
        entries[lookup.source] = nodes.len();
        nodes.push(Node::Lookup(Box::new(lookup)));
    }
}

/// The aliases that FILTER and the conditions of a window before a join read from their slots.
pub fn before_window(names: &Names<'_>, filter: &Option<Bound>, window: &Option<Window>) -> Vec<(usize, Text, Bound)> {
    let mut needed: Vec<usize> = Vec::new();
    let mut slots = |bound: &Bound| bound.walk(&mut |part| needed.extend(is_slot(part)));
    filter.iter().for_each(&mut slots);
    window.iter().flat_map(Window::parts).for_each(&mut slots);
    let all = [Stage::Analytic, Stage::Where, Stage::Group].into_iter().flat_map(|stage| ordered_aliases(names, stage));
    let mut wanted: Vec<(usize, Text, Bound)> = Vec::new();
    for alias in all.collect::<Vec<_>>().into_iter().rev().filter(|(_, _, bound)| !bound.is_pure()) {
        if needed.contains(&alias.0) {
            alias.2.walk(&mut |part| needed.extend(is_slot(part)));
            wanted.push(alias);
        }
    }
    wanted.reverse();
    wanted
}

fn is_slot(bound: &Bound) -> Option<usize> {
    if let Bound::Slot(slot, _) = bound { Some(*slot) } else { None }
}

/// The aliases that analytic functions read and whose value is another one once rows are joined.
pub fn of_several(names: &Names<'_>) -> Vec<(usize, Text, Bound)> {
    let mut aliases = ordered_aliases(names, Stage::Analytic);
    aliases.retain(|(_, _, bound)| names.owners_of(bound).len() != 1);
    aliases
}
