//! Rules made of a graph: nodes and edges in place of a statement.
//!
//! A [`Graph`] is what the author wrote, checked for its shape. [`plan`] makes a [`Plan`] of it whose sources give whole
//! rows and whose one node, [`Paths`], has a path for each place at which rows reach sinks. A path is a list of
//! [`Stage`]s, each a statement of its own over the rows of a source or of a stage before it, so that a node means what
//! the same words mean in SQL. What the stages of a path give leaves the rule by the path's number, and each sink takes
//! what leaves by those that lead to it.
//!
//! Rows go from stage to stage by name. What later nodes may still ask of a window or of the sides of a join (its bounds,
//! `pump.id`) goes along in columns whose names begin with `$$`, which never leave the rule.

mod path;
mod read;
mod text;

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::{Disabled, EventTime, Node, Options, Plan, Source, Stream};
use crate::codec::Wanted;
use crate::data::{Column, Layout, Text};
use crate::diag::Diagnostic;
use crate::func::Catalogue;
use crate::sql::parse_select;

pub use read::GraphSource;

/// What columns that go along and never leave begin with.
pub const HIDDEN: &str = "$$";

/// A graph as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// By name, in the order written.
    nodes: Vec<GraphNode>,
    /// From a node to the nodes behind it; of a `switch` a list for each case, of others one list.
    edges: HashMap<String, Vec<Vec<String>>>,
}

#[derive(Clone, Debug, PartialEq)]
struct GraphNode {
    name: String,
    role: Role,
    /// `nodeType`: what the source, operator or sink is.
    kind: String,
    props: Map<String, Json>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Source,
    Operator,
    Sink,
}

/// A sink of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphSink {
    /// The name of its node.
    pub node: String,
    /// The type of sink.
    pub sink: String,
    pub props: Map<String, Json>,
    /// The numbers of the paths that lead to it.
    pub paths: Vec<usize>,
}

/// All paths of a graph.
#[derive(Clone, Debug)]
pub struct Paths {
    pub paths: Vec<Path>,
    /// For each source of the plan how its rows are read by name.
    pub intakes: Vec<Wanted>,
}

/// The stages from sources to a place where rows leave.
#[derive(Clone, Debug)]
pub struct Path {
    /// Each behind those that it takes rows of. What the last one gives leaves the rule.
    pub stages: Vec<Stage>,
    /// The sinks at its end, for people.
    pub to: Vec<String>,
}

/// One statement of a path.
#[derive(Clone, Debug)]
pub struct Stage {
    pub sql: String,
    pub plan: Plan,
    /// Where the rows of each source of its plan come from.
    pub inputs: Vec<Input>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A source of the rule.
    Source(usize),
    /// A stage of the same path.
    Stage(usize),
}

impl Graph {
    /// The sinks, in the order written, with the numbers of the paths that lead to them.
    fn sinks(&self, ends: &[Vec<String>]) -> Vec<GraphSink> {
        let sinks = self.nodes.iter().filter(|node| node.role == Role::Sink);
        let one = |node: &GraphNode| {
            let leads = |(_, to): &(usize, &Vec<String>)| to.contains(&node.name);
            let paths = ends.iter().enumerate().filter(leads).map(|(path, _)| path).collect();
            GraphSink { node: node.name.clone(), sink: node.kind.clone(), props: node.props.clone(), paths }
        };
        sinks.map(one).collect()
    }

    fn node(&self, name: &str) -> Option<&GraphNode> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The nodes whose rows come to a node, each with the case of it if it is a `switch`.
    fn before(&self, name: &str) -> Vec<(&GraphNode, Option<usize>)> {
        let mut all = Vec::new();
        for node in &self.nodes {
            for (case, to) in self.edges.get(&node.name).into_iter().flatten().enumerate() {
                let case = node.is("switch").then_some(case);
                all.extend(to.iter().filter(|to| *to == name).map(|_| (node, case)));
            }
        }
        all
    }
}

impl GraphNode {
    /// Whether it is an operator of that type.
    fn is(&self, kind: &str) -> bool {
        self.role == Role::Operator && self.kind.eq_ignore_ascii_case(kind)
    }

    /// An error about the node.
    fn wrong(&self, text: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::error("K0922", format!("node `{}` ({}): {text}", self.name, self.kind))
    }

    fn prop(&self, name: &str) -> Option<&Json> {
        let found = self.props.get(name);
        let folded = || self.props.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        found.or_else(folded).filter(|value| !value.is_null())
    }
}

/// Plans a graph over the streams that it names; `find` gives their definitions. The sinks stand beside the plan.
pub fn plan_graph(
    graph: &Graph,
    find: &dyn Fn(&str) -> Option<Stream>,
    funcs: &Catalogue,
    options: &Options,
) -> Result<(Plan, Vec<GraphSink>), Vec<Diagnostic>> {
    if options.send_meta {
        let text = "`sendMetaToSink` cannot be applied to a graph, which mixes the metadata of many messages";
        let words = "Invalid option sendMetaToSink, it can not be applied to a graph";
        return Err(vec![Diagnostic::error("K0227", text).known_as(words)]);
    }
    let mut made = path::Maker::new(graph, find, funcs, options);
    let (paths, ends) = made.paths()?;
    let intakes = made.intakes;
    let width = intakes.iter().map(|intake| intake.plan.width).max().unwrap_or_default();
    let several = intakes.len() > 1;
    let width = width + usize::from(several);
    let meta = |source: usize| {
        let stages = paths.iter().flat_map(|path| &path.stages);
        let mut inputs = stages.flat_map(|stage| stage.inputs.iter().zip(&stage.plan.sources));
        inputs.any(|(input, of)| *input == Input::Source(source) && of.meta)
    };
    let (mut sources, mut wanted) = (Vec::new(), Vec::new());
    for (n, intake) in intakes.into_iter().enumerate() {
        let Plan { sources: of, nodes, .. } = intake.plan;
        let Some(of) = of.into_iter().next() else { continue };
        // All but the projection.
        let common = nodes.into_iter().filter(|node| !matches!(node, Node::Project { .. }));
        let nodes = of.nodes.into_iter().chain(common).collect();
        wanted.push(Wanted { width, ..of.wanted.clone() });
        let of_wanted = Wanted { width, ..of.wanted };
        sources.push(Source { wanted: of_wanted, nodes, meta: meta(n), entry: 0, kind: intake.kind, ..of });
    }
    let layout = Layout::new(vec![Column { name: Text::const_new("*"), spread: true }]);
    let nodes = vec![Node::Paths(Box::new(Paths { paths, intakes: wanted }))];
    let source_slot = several.then(|| width - 1);
    let plan = Plan { sources, source_slot, width, nodes, layout, windowless: false };
    Ok((plan, graph.sinks(&ends)))
}

/// The plan that gives all columns of a stream, of which only what is done before the projection counts.
fn intake(stream: &Stream, funcs: &Catalogue, options: &Options) -> Result<Plan, Vec<Diagnostic>> {
    let select = parse_select(&format!("SELECT * FROM `{}`", stream.name))?;
    let of = Stream { kind: super::SourceKind::Stream, what: crate::sql::What::Stream, ..stream.clone() };
    let options = Options {
        event_time: None,
        disabled: Disabled { pruning: false, ..options.disabled },
        temporary: options.temporary,
        ..Options::default()
    };
    super::plan(&select, &|_| Some(of.clone()), funcs, &options)
}

/// How event time goes in a stage, if it is kept there.
fn paced(options: &Options, here: bool) -> Option<EventTime> {
    options.event_time.filter(|_| here)
}
