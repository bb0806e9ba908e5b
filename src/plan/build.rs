use std::collections::{HashMap, HashSet};

use crate::codec::Wanted;
use crate::data::{Column, Layout, Text};
use crate::diag::Diagnostic;
use crate::expr::{Bound, Bounds, Path, bind, nameless};
use crate::func::{Catalogue, aggregate};
use crate::sql::{self, Expr, ExprNode, Field, Select};

use super::event_time;
use super::findings::{Findings, dedup};
use super::guests::Hoist;
use super::join::{self, Joins, before_window, join_steps, of_several, push_down};
use super::node::{Clause, Grouping, Node, OutputColumn, Plan, Source, Stamps};
use super::scope::{AliasState, Names, OfWhere, Stage, counted, mentioned};
use super::sources::{Asked, at_the_source, find_all, source_names, written};
use super::special::{analytic_steps, counted_step, dedup_call, is_columns, is_rows, rows_step};
use super::star;
use super::window::{self, Window, Windowed};
use super::{EventTime, Options, Stream};

/// What stands before the text of an error in a field.
const SELECT: &str = "run Select error: ";

pub fn plan(
    select: &Select,
    find: &dyn Fn(&str) -> Option<Stream>,
    funcs: &Catalogue,
    options: &Options,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut found = Findings(Vec::new());
    let streams = find_all(select, find, options, &mut found.0);
    if streams.len() < written(select).count() {
        return Err(dedup(found.0));
    }
    let alias = |source: &sql::Source| source.alias.as_ref().map(|alias| alias.name.clone());
    let sources =
        streams.iter().zip(written(select).map(alias)).map(|(stream, alias)| Asked::new(stream, alias)).collect();
    check_aliases(select, &mut found);
    let windowed = options.sets || !select.windows.is_empty();
    let mut names = Names::new(sources, funcs, &select.fields, windowed, options.ignore_case);
    names.aliases_in_order = options.aliases_in_order;
    if names.sources.len() > 1 {
        names.source_slot = Some(names.fresh());
        names.order_sources(select);
        join::check(select, &names, &mut found.0);
    }
    let stamps = options.event_time.and_then(|_| event_time::stamps(&mut names, written(select), &mut found.0));
    let clauses = bind_clauses(select, &mut names, options, &mut found);
    if names.is_join() {
        join::check_analytics(select, &names, &mut found.0);
    }
    if options.disabled.pruning {
        names.decode_all(&mut found.0);
    }
    if !found.0.is_empty() {
        return Err(dedup(found.0));
    }
    assemble(select, names, clauses, stamps, options)
}

fn check_aliases(select: &Select, found: &mut Findings) {
    let mut seen: HashMap<String, &Text> = HashMap::new();
    for alias in select.fields.iter().filter_map(|field| field.alias.as_ref()) {
        let first = *seen.entry(alias.name.to_lowercase().to_string()).or_insert(&alias.name);
        if !std::ptr::eq(first, &alias.name) {
            let message = format!("duplicate alias `{}`: `{first}` is there already", alias.name);
            found.add(
                Diagnostic::error("K0206", message).at(alias.span).help("names that differ by case only are the same"),
            );
        }
    }
}

/// The clauses of a statement over slots.
struct Clauses {
    filter: Option<Bound>,
    window: Option<Window>,
    window_filter: Option<Bound>,
    keys: Vec<Bound>,
    having: Option<Bound>,
    order: Vec<(Bound, bool)>,
    fields: Vec<OutputColumn>,
    aggregated: bool,
    joins: Joins,
}

fn bind_clauses(select: &Select, names: &mut Names<'_>, options: &Options, found: &mut Findings) -> Clauses {
    let funcs = names.funcs;
    reserve_for_wildcard(select, names, found);
    let clause = |names: &mut Names<'_>, stage: Stage, word: &'static str, expr: &Expr, found: &mut Findings| {
        (names.stage, names.clause) = (stage, word);
        let bound = bind(expr, names, funcs);
        found.take(bound)
    };
    // Fields first: they decide what the aliases are.
    let mut aggregated = !select.group.is_empty();
    let mut fields = Vec::new();
    let mut unnamed = 0;
    let mut taken: HashSet<Text> = HashSet::new();
    // Before the others, which may read its alias.
    let mut dedup = None;
    for (field, call) in select.fields.iter().filter_map(|field| Some((field, dedup_call(field)?))) {
        let bound = names.dedup_field(field, call);
        dedup = found.take(bound);
    }
    names.bind_chains(found);
    for field in &select.fields {
        names.met_aggregate = false;
        (names.stage, names.clause) = (Stage::Select, "SELECT");
        if let ExprNode::Wildcard(wildcard) = &field.expr.node {
            match names.all_columns(wildcard, field.span) {
                Ok(shape) => {
                    fields.push(OutputColumn::spread(Bound::Row(Box::new(shape))));
                }
                Err(problem) => found.add(problem),
            }
            for replaced in &wildcard.replace {
                let Some(alias) = &replaced.alias else {
                    found.add(nameless(replaced));
                    continue;
                };
                names.met_aggregate = false;
                if let Some(expr) = clause(names, Stage::Select, "SELECT", &replaced.expr, found) {
                    aggregated |= names.met_aggregate;
                    let column = OutputColumn::new(alias.name.clone(), expr);
                    fields.push(OutputColumn { keep_null: options.send_nil, ..column });
                }
            }
            continue;
        }
        if is_rows(field, funcs) {
            let column = names.rows_field(field, fields.len());
            let Some(column) = found.take(column) else { continue };
            aggregated |= names.met_aggregate;
            check_output(&column.name, field, &mut taken, found);
            fields.push(column);
            continue;
        }
        let bound = match dedup_call(field) {
            Some(_) => dedup.take(),
            None => bind_field(field, names, found),
        };
        let Some(expr) = bound else { continue };
        aggregated |= names.met_aggregate;
        // A field without a name takes a number even where it is not shown.
        let name = output_name(field, names, &mut unnamed);
        if field.invisible {
            continue;
        }
        check_output(&name, field, &mut taken, found);
        let plain = field.alias.is_none() && is_column(&field.expr, names);
        let collects =
            matches!(&field.expr.bare().node, ExprNode::Call(call) if call.name.name.eq_ignore_ascii_case("collect"));
        let keep_null = collects || (options.send_nil && (plain || field.alias.is_some()));
        let spread = is_columns(field, funcs);
        let column = OutputColumn::new(name, expr);
        fields.push(OutputColumn { plain, keep_null: keep_null && !spread, spread, ..column });
    }
    let joins = join::bind_joins(select, names, &mut found.0);
    let filter = select.filter.as_ref().and_then(|expr| clause(names, Stage::Where, "WHERE", expr, found));
    let window_filter = select.windows.first().and_then(|window| window.filter.as_ref());
    let window_filter = window_filter.and_then(|expr| clause(names, Stage::Group, "FILTER", expr, found));
    let window = select.windows.first().and_then(|written| {
        let mut bind = |names: &mut Names<'_>, word, expr: &Expr| clause(names, Stage::Group, word, expr, found);
        let window = window::bind(written, names, options, &mut bind);
        window.unwrap_or_else(|problem| {
            found.add(problem);
            None
        })
    });
    if let (Some(key), false) = (select.group.first(), names.windowed) {
        let problem = Diagnostic::error("K0208", "GROUP BY needs a window, since a stream never ends").at(key.span);
        found.add(problem.help("add a window, for example `TUMBLINGWINDOW(ss, 10)`"));
    }
    let keys: Vec<Bound> =
        select.group.iter().filter_map(|key| clause(names, Stage::Group, "GROUP BY", key, found)).collect();
    let having = select.having.as_ref().and_then(|expr| {
        let bound = clause(names, Stage::Having, "HAVING", expr, found)?;
        if let Some(name) = ungrouped(&bound, &names.of_rows(), &keys) {
            let message = format!("`{name}` in HAVING is neither an aggregate nor a key of GROUP BY");
            found.add(Diagnostic::error("K0217", message).at(expr.span).help("conditions on rows stand in WHERE"));
        }
        Some(bound)
    });
    let order = select
        .order
        .iter()
        .filter_map(|sort| Some((clause(names, Stage::Order, "ORDER BY", &sort.expr, found)?, sort.descending)))
        .collect();
    // Reading an alias in a clause may have given it a slot after its own field was bound.
    let mut columns = fields.iter_mut();
    for field in select.fields.iter().filter(|field| !field.invisible) {
        let replaced = if let ExprNode::Wildcard(wildcard) = &field.expr.node { wildcard.replace.len() } else { 0 };
        let column = columns.next();
        for _ in 0..replaced {
            columns.next();
        }
        if let (Some(column), Some(alias)) = (column, &field.alias)
            && let Some(known) = names.index.named(&alias.name).first().map(|n| &names.aliases[*n])
            && let Some(slot) = known.slot
        {
            column.expr = known.read_at(slot);
        }
    }
    Clauses { filter, window, window_filter, keys, having, order, fields, aggregated, joins }
}

fn check_output(name: &Text, field: &Field, taken: &mut HashSet<Text>, found: &mut Findings) {
    if !taken.insert(name.clone()) {
        let message = format!("duplicate field definition `{name}`: two output columns have that name");
        found.add(Diagnostic::error("K0221", message).at(field.span).help("give one of them another name with AS"));
    }
}

fn bind_field(field: &Field, names: &mut Names<'_>, found: &mut Findings) -> Option<Bound> {
    let Some(alias) = &field.alias else {
        let funcs = names.funcs;
        let bound = bind(&field.expr, names, funcs);
        return found.take(bound);
    };
    let n = names.index.of(field)?;
    let done = names.bind_alias(n, alias.span);
    found.take(done)?;
    names.met_aggregate |= names.aliases[n].aggregated;
    match &names.aliases[n].state {
        AliasState::Bound(bound) => Some(Bound::clone(bound)),
        _ => None,
    }
}

/// `*` leaves out what stands in slots of its own, so every name that could be a column gets its slot before.
fn reserve_for_wildcard(select: &Select, names: &mut Names<'_>, found: &mut Findings) {
    let mut all: Vec<&Expr> = select.fields.iter().map(|field| &field.expr).collect();
    all.extend(&select.filter);
    all.extend(select.joins.iter().filter_map(|join| join.on.as_ref()));
    all.extend(&select.group);
    all.extend(&select.having);
    all.extend(select.order.iter().map(|sort| &sort.expr));
    let windows = select.windows.iter();
    all.extend(windows.flat_map(|of| of.filter.iter().chain(&of.when).chain(&of.partition).chain(&of.args)));
    fn has_wildcard(expr: &Expr, names: &Names<'_>) -> bool {
        let func = match &expr.node {
            ExprNode::Wildcard(_) => return true,
            ExprNode::Call(call) => names.funcs.find(&call.name.name),
            _ => None,
        };
        let mut has = func.is_some_and(aggregate::wants_row);
        expr.parts(&mut |part| has |= !func.is_some_and(|func| counted(func, part)) && has_wildcard(part, names));
        has
    }
    if !names.is_schemaless() || !all.iter().any(|expr| has_wildcard(expr, names)) {
        return;
    }
    let mut wanted = Vec::new();
    let is_source = |name: &str| names.source(name).is_some();
    all.iter().for_each(|expr| mentioned(expr, &mut wanted, &is_source));
    let declared = names.sources.iter().flat_map(|source| &source.stream.columns);
    wanted.extend(declared.map(|column| column.name.clone()));
    for name in wanted {
        if let Err(problem) = names.reserve(&name, select.span) {
            found.add(problem);
        }
    }
}

fn is_column(expr: &Expr, names: &Names<'_>) -> bool {
    match &expr.node {
        ExprNode::Name(name) => names.index.named(name).is_empty(),
        ExprNode::Dotted(qualifier, _) => names.source(qualifier).is_some(),
        _ => false,
    }
}

fn output_name(field: &Field, names: &Names<'_>, unnamed: &mut usize) -> Text {
    if let Some(alias) = &field.alias {
        return alias.name.clone();
    }
    match &field.expr.node {
        ExprNode::Name(name) | ExprNode::Dotted(_, name) => name.clone(),
        ExprNode::Call(call) => {
            names.funcs.find(&call.name.name).map_or(call.name.name.clone(), |func| Text::new(func.name))
        }
        _ => {
            *unnamed += 1;
            Text::new(format!("kuiper_field_{}", *unnamed - 1))
        }
    }
}

/// HAVING looks at groups: a column in it must be a key, or stand in an aggregate. Gives one that does neither.
fn ungrouped(bound: &Bound, of_rows: &HashSet<usize>, keys: &[Bound]) -> Option<Text> {
    if keys.contains(bound) {
        return None;
    }
    match bound {
        Bound::Slot(slot, name) | Bound::Alias(slot, name, _) => return of_rows.contains(slot).then(|| name.clone()),
        Bound::Row(_) => return Some(Text::const_new("*")),
        _ => {}
    }
    let mut wrong = None;
    bound.parts(&mut |part| {
        if wrong.is_none() {
            wrong = ungrouped(part, of_rows, keys);
        }
    });
    wrong
}

fn assemble(
    select: &Select,
    mut names: Names<'_>,
    clauses: Clauses,
    stamps: Option<Stamps>,
    options: &Options,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut found = Findings(Vec::new());
    let mut nodes = Vec::new();
    let windowed = options.sets || !select.windows.is_empty();
    let is_join = names.sources.len() > 1;
    // What is given out are sets of rows.
    let sets = windowed || is_join;
    let compute = |nodes: &mut Vec<Node>, names: &mut Names<'_>, stage: Stage, clause: Clause| {
        let mut aliases = ordered_aliases(names, stage);
        nodes.extend(hoisted(&mut aliases, &mut [], names, clause.stage()));
        if !aliases.is_empty() {
            nodes.push(Node::Compute { aliases, clause });
        }
    };
    let mut branches: Vec<Vec<Node>> = names.sources.iter().map(at_the_source).collect();
    let is_event = stamps.is_some();
    if let (Some(stamps), Some(pace)) = (&stamps, options.event_time) {
        let EventTime { tolerance, patience } = pace;
        nodes.push(Node::Watermark { stamps: stamps.clone(), tolerance, patience, marks: windowed });
    }
    let analytic = ordered_aliases(&names, Stage::Analytic);
    let looks_back = analytic_steps(&names, analytic, &mut nodes, &mut branches);
    let (mut condition, mut having) = (clauses.filter, clauses.having);
    let aliases = ordered_aliases(&names, Stage::Having);
    let counted_having = counted_step(&mut having, aliases, Clause::Having, true, &mut names);
    let OfWhere { calls, aliases: of_where, hits, .. } = std::mem::take(&mut names.of_where);
    let whole = !calls.is_empty();
    // A condition on all rows of a window needs them.
    let late = |window: &Window| options.disabled.push_down || window.is_before_where(is_event);
    let above = sets && (whole || hits || clauses.window.as_ref().is_some_and(late));
    if is_join {
        if !above && !looks_back && !is_event {
            condition = push_down(condition, &clauses.joins, &names, &mut branches);
        }
        // What FILTER and the window read has to be there before the rows are joined; all else is computed behind.
        let aliases = before_window(&names, &clauses.window_filter, &clauses.window);
        nodes.extend((!aliases.is_empty()).then_some(Node::Compute { aliases, clause: Clause::Filter }));
    }
    let sums = whole.then(|| Grouping { calls, ..Grouping::default() });
    let sums = sums.map(|grouping| Node::Aggregate { grouping, each_row: !sets, stage: Clause::Where.stage() });
    // What WHERE reads of each row, and WHERE itself.
    let (mut before, mut filter) = (Vec::new(), Vec::new());
    if is_join {
        let aliases = of_several(&names);
        before.extend((!aliases.is_empty()).then_some(Node::Compute { aliases, clause: Clause::Where }));
    }
    let mut aliases = ordered_aliases(&names, Stage::Where);
    aliases.extend(of_where.iter().cloned());
    match counted_step(&mut condition, aliases, Clause::Where, sets, &mut names) {
        Some(node) => filter.extend(sums.into_iter().chain([node])),
        None => {
            compute(&mut before, &mut names, Stage::Where, Clause::Where);
            let aliases = (!of_where.is_empty()).then_some(Node::Compute { aliases: of_where, clause: Clause::Where });
            filter.extend(sums.into_iter().chain(aliases));
            filter.extend(condition.into_iter().flat_map(|predicate| self::filter(predicate, &mut names)));
        }
    }
    if !is_join {
        nodes.append(&mut before);
        if !above {
            nodes.append(&mut filter);
        }
        compute(&mut nodes, &mut names, Stage::Group, Clause::Group);
    }
    nodes.extend(clauses.window_filter.map(|predicate| Node::Filter { predicate, clause: Clause::Filter }));
    let has_keys = !clauses.keys.is_empty();
    let calls = std::mem::take(&mut names.calls);
    let mut grouping = Some(Grouping { keys: clauses.keys, calls, filter: None });
    if let Some(window) = clauses.window {
        let bounds = names.bounds;
        let early = asked_early(&filter, &bounds);
        // What looks at the rows of the finished window needs them.
        let inside = clauses.aggregated
            && window.is_incremental()
            && (filter.is_empty() || early.is_some())
            && !is_join
            && !options.disabled.incremental;
        let mut grouping = if inside { grouping.take() } else { None };
        if let Some(grouping) = &mut grouping {
            filter.clear();
            grouping.filter = early;
        }
        let boundless = grouping.as_ref().is_some_and(|grouping| !grouping.reads(&bounds));
        nodes.push(Node::Window(Box::new(Windowed { window, bounds, grouping, boundless, event: stamps })));
    }
    let mut entries = vec![0; names.sources.len()];
    join_steps(clauses.joins, &names, &mut nodes, &mut entries);
    nodes.append(&mut before);
    nodes.append(&mut filter);
    if is_join {
        compute(&mut nodes, &mut names, Stage::Group, Clause::Group);
    }
    match grouping {
        Some(grouping) if clauses.aggregated && sets => nodes.push(Node::Group { grouping }),
        Some(grouping) if !grouping.calls.is_empty() => {
            nodes.push(Node::Aggregate { grouping, each_row: !sets, stage: SELECT })
        }
        _ => {}
    }
    if windowed && !is_join && clauses.aggregated && !has_keys {
        // A window without rows gives a row all the same, in which nothing was computed before.
        let before = [Stage::Where, Stage::Group].into_iter().flat_map(|stage| ordered_aliases(&names, stage));
        let aliases: Vec<_> = before.collect();
        if !aliases.is_empty() {
            nodes.push(Node::Compute { aliases, clause: Clause::Having });
        }
    }
    match counted_having {
        Some(node) => nodes.push(node),
        None => compute(&mut nodes, &mut names, Stage::Having, Clause::Having),
    }
    nodes.extend(having.map(|predicate| Node::Filter { predicate, clause: Clause::Having }));
    let numbers = std::mem::take(&mut names.special.numbers);
    nodes.extend((!numbers.is_empty()).then_some(Node::Number { calls: numbers }));
    compute(&mut nodes, &mut names, Stage::Order, Clause::Order);
    if !clauses.order.is_empty() && sets {
        nodes.push(Node::Order { keys: clauses.order });
    }
    let limit = select.limit.as_ref().and_then(|limit| usize::try_from(limit.rows).ok());
    if let Some(rows) = limit
        && (rows == 0 || (sets && names.special.rows.is_none()))
    {
        nodes.push(Node::Limit { rows });
    }
    nodes.extend(names.special.dedup.take());
    let changed = std::mem::take(&mut names.special.columns);
    nodes.extend((!changed.is_empty()).then_some(Node::Columns { calls: changed }));
    let mut columns = clauses.fields;
    if options.send_meta {
        if sets {
            let of = if is_join { "a join" } else { "a window" };
            let message =
                format!("`sendMetaToSink` cannot be applied to {of}, which mixes the metadata of many messages");
            let problem = Diagnostic::error("K0227", message);
            let words = "Invalid option sendMetaToSink, it can not be applied to window";
            found.add(problem.at(select.span).known_as(words));
        }
        let name = Text::const_new("__meta");
        columns.push(OutputColumn::new(name, Bound::Meta(Path::default())));
    }
    if !found.0.is_empty() {
        return Err(found.0);
    }
    let mut aliases = ordered_aliases(&names, Stage::Select);
    nodes.extend(hoisted(&mut aliases, &mut columns, &mut names, SELECT));
    let rows = rows_step(&names, &mut columns, limit);
    if rows.is_none() {
        star::expand(&mut columns);
    }
    let layout =
        Layout::new(columns.iter().map(|column| Column { name: column.name.clone(), spread: column.spread }).collect());
    nodes.push(Node::Project { aliases, columns });
    nodes.extend(rows);
    let width = names.width;
    let called = source_names(&names);
    let parts = names.sources.into_iter().zip(called).zip(branches).zip(entries);
    let sources = parts.map(|(((asked, name), nodes), entry)| {
        let (stream, kind, meta) = (asked.stream.name.clone(), asked.stream.kind, asked.meta || options.send_meta);
        let called = asked.name().clone();
        let wanted = Wanted { width, ..asked.wanted };
        Source { stream, name, called, kind, wanted, meta, nodes, entry }
    });
    let sources = sources.collect();
    Ok(Plan { sources, source_slot: names.source_slot, width, nodes, layout, windowless: !sets })
}

/// WHERE behind a window, if each row can be asked as it comes: the answer is the same then.
fn asked_early(filter: &[Node], bounds: &Bounds) -> Option<Bound> {
    let [Node::Filter { predicate, .. }] = filter else { return None };
    let asks_window = Grouping { filter: Some(predicate.clone()), ..Grouping::default() }.reads(bounds);
    (predicate.is_pure() && !asks_window).then(|| predicate.clone())
}

/// The steps of WHERE.
fn filter(mut predicate: Bound, names: &mut Names<'_>) -> Vec<Node> {
    let mut hoist = Hoist { calls: Vec::new(), later: HashSet::new(), fresh: &mut || names.fresh() };
    hoist.expr(&mut predicate);
    let calls = hoist.calls;
    let guests = (!calls.is_empty()).then(|| Node::Guests { calls, stage: Clause::Where.stage() });
    guests.into_iter().chain([Node::Filter { predicate, clause: Clause::Where }]).collect()
}

/// The calls of plugin functions in aliases and columns, taken out of them so that they are made for a batch at once.
fn hoisted(
    aliases: &mut [(usize, Text, Bound)],
    columns: &mut [OutputColumn],
    names: &mut Names<'_>,
    stage: &'static str,
) -> Option<Node> {
    let later = aliases.iter().map(|(slot, ..)| *slot).collect();
    let mut hoist = Hoist { calls: Vec::new(), later, fresh: &mut || names.fresh() };
    aliases.iter_mut().for_each(|(_, _, bound)| hoist.expr(bound));
    hoist.columns(columns);
    let calls = hoist.calls;
    (!calls.is_empty()).then_some(Node::Guests { calls, stage })
}

/// The aliases of a stage that need a slot, each after those that it reads.
pub(super) fn ordered_aliases(names: &Names<'_>, stage: Stage) -> Vec<(usize, Text, Bound)> {
    fn visit(names: &Names<'_>, n: usize, stage: Stage, done: &mut [bool], out: &mut Vec<(usize, Text, Bound)>) {
        if std::mem::replace(&mut done[n], true) {
            return;
        }
        let alias = &names.aliases[n];
        alias.reads.iter().for_each(|read| visit(names, *read, stage, done, out));
        if alias.stage == stage
            && let (Some(slot), AliasState::Bound(bound)) = (alias.slot, &alias.state)
        {
            out.push((slot, alias.name.clone(), Bound::clone(bound)));
        }
    }
    let (mut done, mut out) = (vec![false; names.aliases.len()], Vec::new());
    (0..names.aliases.len()).for_each(|n| visit(names, n, stage, &mut done, &mut out));
    out
}
