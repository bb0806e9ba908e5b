use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::clock::{Stopwatch, Time};
use crate::codec::Wanted;
use crate::data::{Account, Batch, Meta, Object, Receipt, Text, Value};
use crate::diag::{Fault, Result};
use crate::expr::{Bound, Predicate, Program};
use crate::func::{Body, RuleInfo};
use crate::meter::NodeMeter;
use crate::op::{
    Aggregate, AggregateCall, Checked, Compute, Computed, Cx, Filter, Gauge, Group, Groups, GuestCall, Guests, Having,
    Limit, Named, Operator, Order, OrderKey, Out, OutColumn, Pace, Project, Resolve, Share, Start, Take, Validate,
    Watermark,
};
use crate::plan::{Clause, Grouping, Node, OutputColumn, Plan, Resolved, SourceKind, StreamColumn};

use super::carry::Carry;
use super::paths::Paths;

/// The operators of one rule, called in order, as plain functions. The case runner drives this very object.
pub struct Chain {
    /// Those of each source by itself, source by source, and then the common ones.
    links: Vec<Link>,
    /// Where the rows of each source come in.
    entries: Vec<usize>,
    /// Slot that says of which source a row is.
    source_slot: Option<usize>,
    /// The names of the sources, under which the metadata of a joined row stands; none where no one reads it.
    names: Vec<Option<Text>>,
    rule: Arc<RuleInfo>,
    account: Arc<dyn Account>,
    /// In event time: how far it has come.
    gauge: Option<Arc<Gauge>>,
    /// The steps that ask lookup tables.
    lookups: Vec<Asking>,
    /// The step whose call is under way, or was the last.
    at: usize,
    /// A step that broke the rule before.
    spared: Option<Spared>,
    /// Rows that broke the rule.
    buried: u64,
}

/// What is done to a step for one call, since the call broke the rule before.
#[derive(Clone, Copy)]
struct Spared {
    step: usize,
    /// It is not called at all; else it is called, and what it gives is dead.
    whole: bool,
}

/// Why rows are dead that broke a rule before.
const BROKE: &str = "the rule failed over it";

/// A step that asks a lookup table.
struct Asking {
    link: usize,
    /// The table, by its place among the sources.
    source: usize,
    wanted: Wanted,
}

/// What a step asks of a lookup table.
pub struct Ask {
    /// The table, by its place among the sources of the plan.
    pub source: usize,
    link: usize,
    /// Lists of values, in the order of the columns that the plan asks by.
    pub questions: Vec<Vec<Value>>,
}

struct Link {
    op: Box<dyn Operator>,
    name: String,
    /// The link that it hands its rows to; behind the last one they leave the chain.
    next: usize,
    meter: Arc<NodeMeter>,
}

/// The operators of a plan by name, and which hands its rows to which.
pub struct Steps {
    /// Each operator, and the place of the one that it hands its rows to; behind the last one they leave.
    pub ops: Vec<(String, usize)>,
    /// For each source the place of the operator that its rows come to.
    pub entries: Vec<usize>,
    /// For each source the name of its decoder.
    pub decoders: Vec<String>,
}

impl Steps {
    /// The sources, and from each node those that it hands its rows to: a source to its decoder, where messages of the
    /// stream are decoded, the last operator to all sinks. A lookup table is no node.
    pub fn edges(
        &self,
        plan: &Plan,
        decodes: &dyn Fn(&str) -> bool,
        sinks: &[String],
    ) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
        let below = |at: usize| self.ops.get(at).map_or_else(|| sinks.to_vec(), |(name, _)| vec![name.clone()]);
        let mut sources = Vec::new();
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((source, decoder), entry) in plan.sources.iter().zip(&self.decoders).zip(&self.entries) {
            if source.kind == SourceKind::Lookup {
                continue;
            }
            let name = format!("source_{}", source.name);
            if decodes(&source.stream) {
                edges.insert(name.clone(), vec![decoder.clone()]);
                edges.insert(decoder.clone(), below(*entry));
            } else {
                edges.insert(name.clone(), below(*entry));
            }
            sources.push(name);
        }
        edges.extend(self.ops.iter().map(|(name, next)| (name.clone(), below(*next))));
        edges.retain(|_, next| !next.is_empty());
        (sources, edges)
    }
}

impl Chain {
    /// What a step has to be told before it can go on; to be asked after each call until there is nothing more, and
    /// answered before the next.
    pub fn asks(&mut self) -> Option<Ask> {
        // What is nearer to the end goes first.
        let links = &mut self.links;
        self.lookups.iter().rev().find_map(|lookup| {
            let questions = links[lookup.link].op.asks()?;
            Some(Ask { source: lookup.source, link: lookup.link, questions })
        })
    }

    /// Tells a step what it asked for: the rows for each question.
    pub fn answer(&mut self, ask: &Ask, rows: Result<Vec<Vec<Object>>>, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        let rule = self.rule.clone();
        let cx = Cx { now, rule: &rule };
        let mut given = Out::default();
        let answers = match rows {
            Err(fault) => Err(fault),
            Ok(rows) => {
                let Some(lookup) = self.lookups.iter().find(|lookup| lookup.link == ask.link) else {
                    return Err(Fault::bug("a step was answered that asks for nothing"));
                };
                let mut batch = Batch::new(lookup.wanted.width);
                let mut ends = Vec::with_capacity(rows.len());
                for rows in rows {
                    rows.into_iter().for_each(|row| lookup.wanted.fill(row, batch.push(now, Receipt::none())));
                    ends.push(batch.rows() as u32);
                }
                Ok((batch, ends))
            }
        };
        let (batch, ends) = match answers {
            Ok((batch, ends)) => (Some(batch), Ok(ends)),
            Err(fault) => (None, Err(fault)),
        };
        self.links[ask.link].op.answered(ends, &cx, &mut given)?;
        self.pass(ask.link, given.take(), 0, now, out)?;
        match batch {
            Some(batch) => self.push(ask.source, batch, now, out),
            None => Ok(()),
        }
    }

    /// Turns the nodes of a plan into operators. `local` is the zone that windows of processing time are aligned in.
    pub fn build(
        plan: &Plan,
        rule: Arc<RuleInfo>,
        local: &TimeZone,
        now: Time,
        account: Arc<dyn Account>,
    ) -> Result<Chain> {
        let steps = Chain::steps(plan);
        let nodes = plan.sources.iter().flat_map(|source| &source.nodes).chain(&plan.nodes);
        let mut links = Vec::with_capacity(steps.ops.len());
        let gauge = Arc::<Gauge>::default();
        for (node, (name, next)) in nodes.zip(steps.ops) {
            let op = match node {
                Node::Paths(paths) => Box::new(Paths::build(paths, plan, &rule, local, now, &account)?),
                node => operator(node, plan, &rule.id, local, now, &gauge)?,
            };
            links.push(Link { op, name, next, meter: Arc::default() });
        }
        let names = plan.sources.iter().map(|source| source.meta.then(|| source.called.clone())).collect();
        let is_event = plan.nodes.iter().any(|node| matches!(node, Node::Watermark { .. }));
        let gauge = is_event.then_some(gauge);
        let common = links.len() - plan.nodes.len();
        let asking = |(n, node): (usize, &Node)| match node {
            Node::Lookup(lookup) => {
                let wanted = plan.sources[lookup.source].wanted.clone();
                Some(Asking { link: common + n, source: lookup.source, wanted })
            }
            _ => None,
        };
        let lookups = plan.nodes.iter().enumerate().filter_map(asking).collect();
        let (entries, source_slot) = (steps.entries, plan.source_slot);
        let (at, spared, buried) = (0, None, 0);
        Ok(Chain { links, entries, source_slot, names, rule, account, gauge, lookups, at, spared, buried })
    }

    /// The names of the operators, numbered behind the sources and their decoders as the status of a rule counts them.
    pub fn steps(plan: &Plan) -> Steps {
        let of_sources: usize = plan.sources.iter().map(|source| source.nodes.len()).sum();
        let (mut ops, mut entries, mut decoders, mut number) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let name = |node: &Node, number: &mut usize| {
            *number += 1;
            format!("op_{number}_{}", node_name(node))
        };
        for source in &plan.sources {
            // A lookup table is no node of its own; it has no decoder either.
            number += if source.kind == SourceKind::Lookup { 0 } else { 2 };
            decoders.push(format!("op_{number}_decoder"));
            let common = of_sources + source.entry;
            entries.push(if source.nodes.is_empty() { common } else { ops.len() });
            for (n, node) in source.nodes.iter().enumerate() {
                let next = if n + 1 < source.nodes.len() { ops.len() + 1 } else { common };
                ops.push((name(node, &mut number), next));
            }
        }
        for node in &plan.nodes {
            let next = ops.len() + 1;
            ops.push((name(node, &mut number), next));
        }
        Steps { ops, entries, decoders }
    }

    /// Puts a batch of a source through; what leaves the last operator is added to `out`, in order.
    pub fn push(&mut self, source: usize, mut batch: Batch, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        let Some(entry) = self.entries.get(source).copied() else {
            return Err(Fault::bug(format!("the rule has no source {source}")));
        };
        if let Some(slot) = self.source_slot {
            let name = self.names[source].as_ref();
            if name.is_none() {
                batch.clear_meta();
            }
            for row in 0..batch.rows() {
                batch.row_mut(row)[slot] = Value::Int(source as i64);
                if let (Some(name), Some(meta)) = (name, batch.meta(row).cloned()) {
                    batch.set_meta(row, &Meta::new(Object::from_iter([(name.clone(), Value::Object(meta))])));
                }
            }
        }
        // The clock may have been set back since they came.
        batch.not_after(now);
        self.run(entry, batch, now, out)
    }

    /// Tells the operators that it is `now`.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        self.each(now, out, |op, cx, given| op.tick(cx, given))
    }

    /// The step whose call is under way, or was the last.
    pub fn at(&self) -> usize {
        self.at
    }

    /// In the next call what this step gives is dead, since the rest of the chain broke over it; `whole`: it broke itself,
    /// so that it is not called, and what it kept is thrown away.
    pub fn spare(&mut self, step: usize, whole: bool) {
        self.spared = Some(Spared { step, whole });
        if let Some(link) = self.links.get_mut(step).filter(|_| whole) {
            link.op.discard();
        }
    }

    /// The call has come through; gives how many rows were buried since the last time.
    pub fn spare_none(&mut self) -> u64 {
        self.spared = None;
        std::mem::take(&mut self.buried)
    }

    /// The rows of a batch broke the rule.
    pub fn bury(&mut self, batch: &mut Batch) {
        let fault = Fault::bug(BROKE);
        for row in batch.selected().to_vec() {
            batch.bury(row as usize, &fault);
            self.buried += 1;
        }
        batch.select(Vec::new());
    }

    /// When `tick` is to be called next.
    pub fn due(&self) -> Option<Time> {
        self.links.iter().filter_map(|link| link.op.due()).min()
    }

    /// One of several sources has come to its end, and others go on.
    pub fn ended(&mut self, source: usize, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        self.each(now, out, |op, cx, given| op.ended(source, cx, given))
    }

    /// The input has come to its end: what is open is given out.
    pub fn finish(&mut self, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        self.each(now, out, |op, cx, given| op.finish(cx, given))
    }

    /// The rule is stopped by hand: what is held is thrown away and counted.
    pub fn discard(&mut self) {
        self.links.iter_mut().for_each(|link| link.op.discard());
    }

    /// The saved state was taken up elsewhere.
    pub fn forget(&mut self) {
        self.links.iter_mut().for_each(|link| link.op.forget());
    }

    /// The state of all operators.
    pub fn save(&self) -> Value {
        Value::array(self.links.iter().map(|link| link.op.save()).collect())
    }

    /// The state of each operator, by name.
    pub fn states(&self) -> Vec<(String, Value)> {
        self.links.iter().map(|link| (link.name.clone(), link.op.save())).collect()
    }

    /// How many rows each operator holds.
    pub fn held(&self) -> Vec<u64> {
        self.links.iter().map(|link| link.op.held()).collect()
    }

    /// Takes up a state that a chain of the same plan saved.
    pub fn load(&mut self, saved: Value) -> Result<()> {
        let Value::Array(states) = saved else { return Err(Fault::bug("the saved state of a chain is no list")) };
        if states.len() != self.links.len() {
            return Err(Fault::bug("the saved state of a chain is of another plan"));
        }
        let account = &self.account;
        self.links.iter_mut().zip(states.iter()).try_for_each(|(link, state)| match state {
            Value::Null => Ok(()),
            state => link.op.load(state.clone(), account),
        })
    }

    /// Loads states of another plan: each pair is an operator here, and one there.
    pub fn take_up(&mut self, pairs: &[Carry], states: &[Value]) -> Result<()> {
        let account = &self.account;
        pairs.iter().try_for_each(|pair| match (self.links.get_mut(pair.to), states.get(pair.from)) {
            (Some(link), Some(state)) if !matches!(state, Value::Null) => link.op.load(pair.state(state), account),
            _ => Ok(()),
        })
    }

    /// For each operator whether it remembers something from one row to the next.
    pub fn memories(&self) -> Vec<bool> {
        self.links.iter().map(|link| !is_blank(&link.op.save())).collect()
    }

    /// How far the event time has come, for who asks from another task.
    pub fn gauge(&self) -> Option<Arc<Gauge>> {
        self.gauge.clone()
    }

    /// The meters of the operators, with their names, in order.
    pub fn meters(&self) -> Vec<(String, Arc<NodeMeter>)> {
        self.links.iter().map(|link| (link.name.clone(), link.meter.clone())).collect()
    }

    fn each(
        &mut self,
        now: Time,
        out: &mut Vec<Batch>,
        mut call: impl FnMut(&mut dyn Operator, &Cx<'_>, &mut Out) -> Result<()>,
    ) -> Result<()> {
        let rule = self.rule.clone();
        let cx = Cx { now, rule: &rule };
        for at in 0..self.links.len() {
            self.at = at;
            let mut given = Out::default();
            let spared = self.spared.filter(|spared| spared.step == at).map(|spared| spared.whole);
            if spared == Some(true) {
                continue;
            }
            call(self.links[at].op.as_mut(), &cx, &mut given)?;
            let mut given = given.take();
            if spared == Some(false) {
                given.iter_mut().for_each(|batch| self.bury(batch));
                continue;
            }
            self.pass(at, given, 0, now, out)?;
        }
        Ok(())
    }

    fn run(&mut self, at: usize, batch: Batch, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        let Some(link) = self.links.get_mut(at) else {
            out.push(batch);
            return Ok(());
        };
        let before = batch.faults().len();
        link.meter.took(batch.selected().len() as u64, now);
        let watch = Stopwatch::start();
        let mut given = Out::default();
        link.op.push(batch, &Cx { now, rule: &self.rule }, &mut given)?;
        link.meter.spent(watch.elapsed());
        self.pass(at, given.take(), before, now, out)
    }

    /// Counts what an operator gave, of which so many faults were there before, and hands it to the next.
    fn pass(&mut self, at: usize, batches: Vec<Batch>, before: usize, now: Time, out: &mut Vec<Batch>) -> Result<()> {
        let meter = &self.links[at].meter;
        let faults: usize = batches.iter().map(|batch| batch.faults().len()).sum();
        if faults > before
            && let Some((_, fault)) = batches.iter().rev().find_map(|batch| batch.faults().last())
        {
            (before..faults).for_each(|_| meter.failed(fault.to_string(), now));
        }
        batches.iter().for_each(|batch| meter.gave(batch.selected().len() as u64));
        let next = self.links[at].next;
        batches.into_iter().try_for_each(|batch| self.run(next, batch, now, out))
    }
}

/// Whether there is nothing in a saved state. Expressions without memory save a list of nothing.
pub fn is_blank(state: &Value) -> bool {
    match state {
        Value::Null => true,
        Value::Array(parts) => parts.iter().all(|part| matches!(part, Value::Array(_)) && is_blank(part)),
        _ => false,
    }
}

fn node_name(node: &Node) -> &'static str {
    match node {
        Node::Validate { .. } => "preprocessor",
        Node::Resolve { .. } => "columns",
        Node::Watermark { .. } => "watermark",
        Node::Share { .. } => "share",
        Node::Compute { .. } => "alias",
        Node::Filter { clause: Clause::Having, .. } => "having",
        Node::Filter { .. } => "filter",
        Node::Guests { .. } => "plugin",
        Node::Window(_) => "window",
        Node::Join(_) => "join",
        Node::Lookup(_) => "lookup",
        // The name that eKuiper gives it.
        Node::Group { .. } | Node::Aggregate { .. } => "aggregate",
        Node::Order { .. } => "order",
        Node::Limit { .. } => "limit",
        Node::Analytic { .. } => "analytic",
        Node::Counted { clause: Clause::Having, .. } => "having",
        Node::Counted { .. } => "filter",
        Node::Number { .. } => "number",
        Node::Columns { .. } => "columns",
        Node::Dedup { .. } => "dedup_trigger",
        Node::Rows { .. } => "rows",
        Node::Project { .. } => "project",
        Node::Paths(_) => "graph",
    }
}

fn operator(
    node: &Node,
    plan: &Plan,
    rule: &Text,
    local: &TimeZone,
    now: Time,
    gauge: &Arc<Gauge>,
) -> Result<Box<dyn Operator>> {
    Ok(match node {
        Node::Validate { columns, format } => {
            let checked = |(slot, column): &(usize, StreamColumn)| {
                let StreamColumn { name, kind, default } = column.clone();
                Checked { slot: *slot, name, kind, default }
            };
            Box::new(Validate::new(columns.iter().map(checked).collect(), format.clone()))
        }
        Node::Resolve { columns, rest } => Box::new(Resolve::new(named(columns), *rest)),
        Node::Share { columns } => {
            Box::new(Share::new(columns.iter().map(|column| (column.from, column.slot)).collect()))
        }
        Node::Watermark { stamps, tolerance, patience, marks } => {
            let pace = Pace { tolerance: *tolerance, patience: *patience, marks: *marks };
            Box::new(Watermark::new(super::windows::stamps(stamps), pace, plan.width, now, gauge.clone()))
        }
        Node::Compute { aliases, clause } => Box::new(Compute::new(computed(aliases), clause.stage())),
        Node::Filter { predicate, clause: Clause::Having } => Box::new(Having::new(Predicate::new(predicate))),
        Node::Filter { predicate, clause } => Box::new(Filter::new(Predicate::new(predicate), clause.stage())),
        Node::Window(windowed) => super::windows::operator(windowed, plan.width, rule, local, now)?,
        Node::Join(_) | Node::Lookup(_) => super::joins::operator(node, plan)?,
        Node::Group { grouping } => Box::new(Group::new(groups(grouping, plan.width, rule)?)),
        Node::Guests { calls, stage } => {
            let mut made = Vec::with_capacity(calls.len());
            for call in calls {
                let Body::Guest(guest) = call.func.body else {
                    return Err(Fault::bug(format!("`{}` was planned as a plugin's function", call.func.name)));
                };
                let args = call.args.iter().map(Program::new).collect();
                made.push(GuestCall { slot: call.slot, func: call.func, guest: guest(call.number), args });
            }
            Box::new(Guests::new(made, stage))
        }
        Node::Aggregate { grouping, each_row, stage } => {
            Box::new(Aggregate::new(groups(grouping, plan.width, rule)?.at(stage), *each_row))
        }
        Node::Order { keys } => Box::new(Order::new(order_keys(keys))),
        Node::Analytic { .. }
        | Node::Counted { .. }
        | Node::Number { .. }
        | Node::Columns { .. }
        | Node::Dedup { .. }
        | Node::Rows { .. } => super::special::operator(node)?,
        Node::Limit { rows } => Box::new(Limit::new(*rows)),
        Node::Project { aliases, columns } => Box::new(Project::new(computed(aliases), out_columns(columns))),
        Node::Paths(_) => return Err(Fault::bug("a graph was planned within another")),
    })
}

fn out_columns(columns: &[OutputColumn]) -> Vec<OutColumn> {
    let mut read_later: HashSet<usize> = HashSet::new();
    let made = columns.iter().rev().map(|column| {
        let program = Program::named(&column.expr, &column.name);
        let take = match program.slot() {
            Some(slot) if column.plain => Take::Column { slot, last: !read_later.contains(&slot) },
            _ => Take::Program(program),
        };
        read_later.extend(column.expr.slots().into_iter().chain(column.or));
        OutColumn { take, keep_null: column.keep_null, or: column.or }
    });
    let mut made: Vec<OutColumn> = made.collect();
    made.reverse();
    made
}

pub(super) fn computed(aliases: &[(usize, Text, Bound)]) -> Vec<Computed> {
    let one = |(slot, name, bound): &(usize, Text, Bound)| Computed {
        slot: *slot,
        program: Program::named(bound, name),
        lazy: bound.is_pure(),
    };
    aliases.iter().map(one).collect()
}

pub(super) fn order_keys(keys: &[(Bound, bool)]) -> Vec<OrderKey> {
    keys.iter().map(|(bound, descending)| OrderKey { program: Program::new(bound), descending: *descending }).collect()
}

fn named(columns: &[Resolved]) -> Vec<Named> {
    let mut alike: HashMap<_, Vec<usize>> = HashMap::new();
    for column in columns {
        alike.entry(column.name.to_lowercase()).or_default().push(column.exact);
    }
    let one = |column: &Resolved| {
        let twins = alike.get(&column.name.to_lowercase()).into_iter().flatten();
        let twins = twins.copied().filter(|exact| *exact != column.exact).collect();
        Named { name: column.name.clone(), exact: column.exact, twins, slot: column.slot }
    };
    columns.iter().map(one).collect()
}

/// `rule` is its id.
pub(super) fn groups(grouping: &Grouping, width: usize, rule: &Text) -> Result<Groups> {
    let mut calls = Vec::with_capacity(grouping.calls.len());
    for call in &grouping.calls {
        let start: Start = match call.func.body {
            Body::Aggregate(start) => Arc::new(start),
            Body::GuestAggregate(start) => {
                let (rule, number) = (rule.clone(), call.number);
                Arc::new(move || start(&rule, number))
            }
            _ => return Err(Fault::bug(format!("`{}` was planned as an aggregate", call.func.name))),
        };
        calls.push(AggregateCall {
            label: format!("expr: {call:?}: ").into(),
            slot: call.slot,
            start,
            args: call.args.iter().map(Program::new).collect(),
            distinct: call.distinct,
            filter: call.filter.as_ref().map(Predicate::new),
        });
    }
    let groups = Groups::new(width, grouping.keys.iter().map(Program::new).collect(), calls);
    Ok(groups.only(grouping.filter.as_ref().map(Predicate::new)))
}
