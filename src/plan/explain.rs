use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::data::Text;
use crate::expr::Bound;
use crate::sql::JoinKind;

use super::graph::Path;
use super::join::{Join, Joined, LookupJoin};
use super::keeping::keeping;
use super::node::{AnalyticStep, Clause, Grouping, Node, NumberCall, OutputColumn, Plan, Source, SourceKind};

/// The plan as text: one JSON object a line, the projection first, each node below what it feeds. Where rows of several
/// sources come together the sources stand below one after the other.
pub fn explain(plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |level: usize, (op, info): (&str, String)| {
        if !out.is_empty() {
            out.push('\n');
        }
        if level > 0 {
            out.extend(std::iter::repeat_n('\t', 2 * level - 1));
        }
        let op = Json::from(format!("{op}_{level}"));
        let _ = write!(out, "{{\"op\":{op},\"info\":{}}}", Json::from(info));
    };
    // Below a node stand the sources whose rows come to it, and then the node before it.
    for (at, node) in plan.nodes.iter().enumerate().rev() {
        let level = plan.nodes.len() - 1 - at;
        line(level, step_at(plan, at, node));
        if let Node::Paths(paths) = node {
            for stage in paths.paths.iter().flat_map(|path| path.stages.iter().rev()) {
                line(level + 1, ("StagePlan", stage.sql.clone()));
                inner(&mut line, level + 2, &stage.plan);
            }
        }
        for source in plan.sources.iter().filter(|source| source.entry == at) {
            let steps = source.nodes.iter().rev().map(step).chain([source_step(plan, source)]);
            steps.enumerate().for_each(|(below, step)| line(level + 1 + below, step));
        }
    }
    out
}

/// The steps of a stage of a graph.
fn inner(line: &mut dyn FnMut(usize, (&str, String)), level: usize, plan: &Plan) {
    let of_sources = plan.sources.iter().flat_map(|source| source.nodes.iter().rev());
    let steps = plan.nodes.iter().rev().chain(of_sources).map(step);
    steps.enumerate().for_each(|(below, step)| line(level + below, step));
}

/// What each operator does, in the order in which a chain has them: the nodes of each source, then the common ones. Equal
/// texts mean that one can go on with the state of the other; those that keep whole rows say in a second line what stands
/// where in them, as JSON: `{"width": 3, "slots": [[0, "0.a"], [1, "0.b"]]}`.
pub fn steps(plan: &Plan) -> Vec<String> {
    let text = |at: usize, node: &Node, (op, info): (&str, String)| match node {
        Node::Window(_) | Node::Join(_) | Node::Watermark { .. } => format!("{op} {info}\n{}", rows(plan, at)),
        // Its stages keep rows of their own, so it goes on only where all is the same.
        Node::Paths(paths) => {
            let stages = paths.paths.iter().flat_map(|path| &path.stages);
            let all: Vec<String> =
                stages.map(|stage| format!("{} {:?}", stage.sql, self::steps(&stage.plan))).collect();
            format!("{op} {info}, {}, {}", all.join(", "), rows(plan, at))
        }
        _ => format!("{op} {info}"),
    };
    let of_sources = plan.sources.iter().flat_map(|source| &source.nodes).map(|node| text(0, node, step(node)));
    let common = plan.nodes.iter().enumerate().map(|(at, node)| text(at, node, step_at(plan, at, node)));
    of_sources.chain(common).collect()
}

/// What stands in each slot of the rows that come to the common node of that place.
fn rows(plan: &Plan, at: usize) -> Json {
    let add = |aliases: &[(usize, Text, Bound)], made: &mut Vec<(usize, String)>| {
        made.extend(aliases.iter().map(|(slot, name, bound)| (*slot, format!("{name}={bound}"))));
    };
    let mut made: Vec<(usize, String)> = plan.source_slot.iter().map(|slot| (*slot, "source".to_owned())).collect();
    let here = |source: &&(usize, &Source)| source.1.entry <= at;
    let sources: Vec<(usize, &Source)> = plan.sources.iter().enumerate().collect();
    for (n, source) in sources.iter().filter(here) {
        let columns = &source.wanted.columns;
        made.extend(columns.iter().map(|column| (column.slot, format!("{n}.{}", column.name))));
        // All others: which they are depends on those that are named.
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        made.extend(source.wanted.rest.map(|slot| (slot, format!("{n}.* but {}", names.join(", ")))));
        // Not in a slot, but in the row all the same.
        made.extend(source.meta.then(|| (usize::MAX >> 1, format!("{n}.meta()"))));
    }
    let of_sources = sources.iter().filter(here).flat_map(|(_, source)| &source.nodes);
    for node in of_sources.chain(&plan.nodes[..at]) {
        match node {
            Node::Compute { aliases, .. } | Node::Counted { aliases, .. } => add(aliases, &mut made),
            Node::Share { columns } => made.extend(columns.iter().map(|column| (column.slot, column.name.to_string()))),
            Node::Resolve { columns, .. } => {
                made.extend(columns.iter().map(|column| (column.slot, column.name.to_string())));
            }
            Node::Analytic { steps, .. } => steps.iter().for_each(|step| match step {
                AnalyticStep::Aliases(aliases) => add(aliases, &mut made),
                AnalyticStep::Call(call) => made.push((call.slot, format!("{call:?}"))),
            }),
            Node::Guests { calls, .. } => made.extend(calls.iter().map(|call| (call.slot, format!("{call:?}")))),
            _ => {}
        }
    }
    made.sort();
    serde_json::json!({"width": plan.width, "slots": made})
}

fn source_step(plan: &Plan, source: &Source) -> (&'static str, String) {
    let wanted = &source.wanted;
    let names: Vec<&str> = wanted.columns.iter().map(|column| column.name.as_str()).collect();
    let fields = if wanted.rest.is_some() { "*".into() } else { names.join(", ") };
    let mut info = format!("StreamName: {}, StreamFields:[ {fields} ]", source.stream);
    // What is decoded, and where it stands in a row.
    let slots = wanted.columns.iter().map(|column| {
        let kind = column.kind.as_ref().map_or(String::new(), |kind| format!(" {}", kind.name()));
        format!("{}: {}{kind}", column.slot, column.name)
    });
    let slots: Vec<String> = slots.chain(wanted.rest.map(|slot| format!("{slot}: all others"))).collect();
    let _ = write!(info, ", Slots:[ {} ]", slots.join(", "));
    let pushed = pushed(plan, source);
    if !pushed.is_empty() {
        let _ = write!(info, ", PushedDown:[ {} ]", pushed.join(", "));
    }
    match source.kind {
        SourceKind::Lookup => ("LookupSourcePlan", info),
        SourceKind::Stream | SourceKind::Scan { .. } => ("DataSourcePlan", info),
    }
}

/// The conditions that rows of the source meet as they come: before they are kept, joined or looked back at.
fn pushed(plan: &Plan, source: &Source) -> Vec<String> {
    let common: &[Node] = if plan.sources.len() == 1 { &plan.nodes } else { &[] };
    let early = source.nodes.iter().chain(common).take_while(|node| {
        !matches!(node, Node::Window(_) | Node::Watermark { .. } | Node::Analytic { .. } | Node::Project { .. })
    });
    let condition = |node: &Node| match node {
        Node::Filter { predicate, clause: Clause::Where | Clause::Filter } => Some(predicate.to_string()),
        _ => None,
    };
    early.filter_map(condition).collect()
}

/// A step with what the plan around it says.
fn step_at(plan: &Plan, at: usize, node: &Node) -> (&'static str, String) {
    let (op, info) = step(node);
    match node {
        Node::Window(windowed) => (op, format!("{info}, Keeps:{}", keeping(windowed, &plan.nodes[at + 1..]))),
        _ => (op, info),
    }
}

fn step(node: &Node) -> (&'static str, String) {
    match node {
        Node::Paths(paths) => {
            let path = |path: &Path| format!("{} stages to {}", path.stages.len(), path.to.join(", "));
            let shown: Vec<String> = paths.paths.iter().map(path).collect();
            ("GraphPlan", format!("Paths:[ {} ]", shown.join("; ")))
        }
        Node::Validate { columns, .. } => {
            let shown: Vec<String> =
                columns.iter().map(|(_, column)| format!("{}: {}", column.name, column.kind.name())).collect();
            ("ValidatePlan", format!("Columns:[ {} ]", shown.join(", ")))
        }
        Node::Resolve { columns, .. } => {
            let shown: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            ("ResolvePlan", format!("IgnoreCase:[ {} ]", shown.join(", ")))
        }
        Node::Watermark { stamps, tolerance, marks, .. } => {
            let streams: Vec<&str> = stamps.of.iter().map(|stamp| stamp.stream.as_str()).collect();
            let late = tolerance.as_millis();
            (
                "WatermarkPlan",
                format!("Emitters:[ {} ], SendWatermark:{marks}, LateTolerance:{late}ms", streams.join(", ")),
            )
        }
        Node::Share { columns } => {
            let shown: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            ("SharePlan", format!("Columns:[ {} ]", shown.join(", ")))
        }
        Node::Compute { aliases, .. } => ("AliasPlan", format!("Aliases:[ {} ]", named(aliases))),
        Node::Filter { predicate, clause } => match clause {
            Clause::Having => ("HavingPlan", format!("Condition:{{ {predicate} }}")),
            _ => ("FilterPlan", format!("Condition:{{ {predicate} }}")),
        },
        Node::Window(windowed) => {
            let aggregates = windowed.grouping.as_ref().map_or(String::new(), |rows| format!(", {}", groups(rows)));
            ("WindowPlan", format!("{{ {}{aggregates} }}", windowed.window))
        }
        Node::Join(joined) => ("JoinPlan", joins(joined)),
        Node::Lookup(lookup) => ("LookupPlan", asks(lookup)),
        Node::Group { grouping } => ("AggregatePlan", groups(grouping)),
        Node::Guests { calls, .. } => ("PluginPlan", format!("Calls:{calls:?}")),
        Node::Aggregate { grouping, .. } => ("AggregatePlan", groups(grouping)),
        Node::Order { keys } => ("OrderPlan", format!("SortFields:[ {} ]", sorts(keys))),
        Node::Analytic { steps, .. } => {
            let shown: Vec<String> = steps.iter().map(analytic).collect();
            ("AnalyticFuncsPlan", format!("Funcs:[ {} ]", shown.join(", ")))
        }
        Node::Counted { predicate, clause, .. } => match clause {
            Clause::Having => ("HavingPlan", format!("Condition:{{ {predicate} }}")),
            _ => ("FilterPlan", format!("Condition:{{ {predicate} }}")),
        },
        Node::Number { calls } => {
            let shown: Vec<String> = calls.iter().map(number).collect();
            ("WindowFuncPlan", format!("Funcs:[ {} ]", shown.join(", ")))
        }
        Node::Columns { calls } => ("ColumnsPlan", format!("Funcs:{calls:?}")),
        Node::Dedup { columns: [start, end, now], expire, .. } => {
            ("DedupTriggerPlan", format!("StartField:{start}, EndField:{end}, NowField:{now}, Expire:{expire}"))
        }
        Node::Rows { func, limit, .. } => {
            let limit = limit.map_or(String::new(), |limit| format!(", Limit:{limit}"));
            ("ProjectSetPlan", format!("Func:{func}{limit}"))
        }
        Node::Limit { rows } => ("LimitPlan", format!("Limit:{rows}")),
        Node::Project { columns, .. } => {
            let shown = columns.iter().filter(|column| column.star.as_ref().is_none_or(|star| !star.is_empty()));
            ("ProjectPlan", format!("Fields:[ {} ]", shown.map(column).collect::<Vec<_>>().join(", ")))
        }
    }
}

fn joins(joined: &Joined) -> String {
    let join = |join: &Join| {
        let on = join.on.as_ref().map_or(String::new(), |on| format!(", expr:{on}"));
        let by: Vec<String> = join.keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
        let by = if by.is_empty() { String::new() } else { format!(", by:[ {} ]", by.join(", ")) };
        format!("{{ joinType:{}{on}{by} }}", kind(join.kind))
    };
    format!("Joins:[ {} ]", joined.joins.iter().map(join).collect::<Vec<_>>().join(", "))
}

fn kind(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "INNER_JOIN",
        JoinKind::Left => "LEFT_JOIN",
        JoinKind::Right => "RIGHT_JOIN",
        JoinKind::Full => "FULL_JOIN",
        JoinKind::Cross => "CROSS_JOIN",
    }
}

fn asks(lookup: &LookupJoin) -> String {
    let keys: Vec<String> = lookup.keys.iter().map(|(column, bound)| format!("{column}: {bound}")).collect();
    let on = lookup.on.as_ref().map_or(String::new(), |on| format!(", expr:{on}"));
    let kind = if lookup.outer { "LEFT_JOIN" } else { "INNER_JOIN" };
    format!("joinType:{kind}, Keys:[ {} ]{on}", keys.join(", "))
}

fn named(aliases: &[(usize, Text, Bound)]) -> String {
    aliases.iter().map(|(_, name, bound)| format!("{name}: {bound}")).collect::<Vec<_>>().join(", ")
}

fn analytic(step: &AnalyticStep) -> String {
    match step {
        AnalyticStep::Aliases(aliases) => named(aliases),
        AnalyticStep::Call(call) => format!("{call:?}"),
    }
}

fn sorts(keys: &[(Bound, bool)]) -> String {
    let sort = |(bound, descending): &(Bound, bool)| format!("{bound} {}", if *descending { "DESC" } else { "ASC" });
    keys.iter().map(sort).collect::<Vec<_>>().join(", ")
}

fn number(call: &NumberCall) -> String {
    let keys: Vec<String> = call.partition.iter().map(ToString::to_string).collect();
    let mut over = Vec::new();
    over.extend((!keys.is_empty()).then(|| format!("PARTITION BY {}", keys.join(", "))));
    over.extend((!call.order.is_empty()).then(|| format!("ORDER BY {}", sorts(&call.order))));
    if over.is_empty() { "row_number()".into() } else { format!("row_number() OVER ({})", over.join(" ")) }
}

fn column(column: &OutputColumn) -> String {
    if let Some(star) = &column.star {
        return star.to_string();
    }
    let shown = column.expr.to_string();
    if column.spread || shown == column.name { shown } else { format!("{}: {shown}", column.name) }
}

fn groups(grouping: &Grouping) -> String {
    let keys: Vec<String> = grouping.keys.iter().map(ToString::to_string).collect();
    let filter = grouping.filter.as_ref().map_or(String::new(), |filter| format!("Condition:{{ {filter} }}, "));
    format!("{filter}Groups:[ {} ], Aggregates:{:?}", keys.join(", "), grouping.calls)
}
