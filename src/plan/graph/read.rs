//! A graph from JSON: the shape of its nodes and edges, and the sources that it defines by itself.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

use super::{Graph, GraphNode, Role};
use crate::diag::Diagnostic;

/// All types of operators; `script` is known, and refused when it is planned.
const OPERATORS: [&str; 11] =
    ["function", "aggfunc", "filter", "pick", "window", "watermark", "join", "groupby", "orderby", "switch", "script"];

/// What a source may be defined by in its node, and the option of the WITH clause that says the same.
const DEFINES: [(&str, &str); 12] = [
    ("datasource", "DATASOURCE"),
    ("format", "FORMAT"),
    ("confKey", "CONF_KEY"),
    ("schemaId", "SCHEMAID"),
    ("timestamp", "TIMESTAMP"),
    ("timestampFormat", "TIMESTAMP_FORMAT"),
    ("delimiter", "DELIMITER"),
    ("strictValidation", "STRICT_VALIDATION"),
    ("shared", "SHARED"),
    ("key", "KEY"),
    ("retainSize", "RETAIN_SIZE"),
    ("extra", "EXTRA"),
];

/// A source of a graph.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphSource {
    /// An existing stream or table, and the type that it must have.
    Existing { stream: String, connector: String },
    /// It is defined by its node: the statement that says the same.
    Own { stream: String, statement: String },
}

fn wrong(text: impl Into<String>) -> Diagnostic {
    Diagnostic::error("K0920", text)
}

impl Graph {
    /// Reads a graph.
    ///
    /// # Errors
    /// Everything that is wrong with the shape of it.
    pub fn read(json: &Json) -> Result<Graph, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let Json::Object(members) = json else { return Err(vec![wrong("`graph` must be an object")]) };
        for name in members.keys().filter(|name| !["nodes", "topo"].contains(&name.as_str())) {
            found.push(wrong(format!("a graph has no `{name}`")).suggest(name, ["nodes", "topo"]));
        }
        let mut nodes = Vec::new();
        match members.get("nodes") {
            Some(Json::Object(all)) => {
                for (name, node) in all {
                    match read_node(name, node) {
                        Ok(node) => nodes.push(node),
                        Err(problem) => found.push(problem),
                    }
                }
            }
            _ => found.push(wrong("`graph.nodes` must be an object of nodes by name")),
        }
        let topo = members.get("topo").and_then(Json::as_object);
        let (mut edges, mut sources) = (HashMap::new(), Vec::new());
        match topo {
            Some(topo) => {
                let all = topo.get("sources").and_then(Json::as_array).into_iter().flatten();
                sources.extend(all.filter_map(Json::as_str).map(str::to_owned));
                for (from, to) in topo.get("edges").and_then(Json::as_object).into_iter().flatten() {
                    let switch = nodes.iter().any(|node: &GraphNode| node.name == *from && node.is("switch"));
                    match targets(from, to, switch) {
                        Ok(to) => drop(edges.insert(from.clone(), to)),
                        Err(problem) => found.push(problem),
                    }
                }
            }
            None => found.push(wrong("`graph.topo` must be an object with `sources` and `edges`")),
        }
        let graph = Graph { nodes, edges };
        graph.check(&sources, &mut found);
        if found.is_empty() { Ok(graph) } else { Err(found) }
    }

    fn check(&self, sources: &[String], found: &mut Vec<Diagnostic>) {
        let names = || self.nodes.iter().map(|node| node.name.as_str());
        for source in sources {
            match self.node(source) {
                Some(node) if node.role == Role::Source => {}
                Some(_) => found.push(wrong(format!("`topo.sources` names `{source}`, which is no source"))),
                None => {
                    let text = format!("`topo.sources` names `{source}`, which is no node");
                    found.push(wrong(text).suggest(source, names()));
                }
            }
        }
        for (from, cases) in &self.edges {
            match self.node(from) {
                None => {
                    let text = format!("`topo.edges` begins at `{from}`, which is no node");
                    found.push(wrong(text).suggest(from, names()));
                }
                Some(node) if node.role == Role::Sink => {
                    found.push(wrong(format!("an edge begins at the sink `{from}`, behind which there is nothing")));
                }
                Some(_) => {}
            }
            for to in cases.iter().flatten() {
                match self.node(to) {
                    None => {
                        let text = format!("an edge of `{from}` leads to `{to}`, which is no node");
                        found.push(wrong(text).suggest(to, names()));
                    }
                    Some(node) if node.role == Role::Source => {
                        found.push(wrong(format!("an edge of `{from}` leads to the source `{to}`")));
                    }
                    Some(_) => {}
                }
            }
        }
        for node in &self.nodes {
            let leads = self.edges.get(&node.name).is_some_and(|cases| cases.iter().any(|to| !to.is_empty()));
            match node.role {
                Role::Source if !sources.contains(&node.name) => {
                    found.push(wrong(format!("the source `{}` does not stand in `topo.sources`", node.name)));
                }
                Role::Source | Role::Operator if !leads => {
                    let text = format!("no edge leads from `{}`, and only a sink may be an end", node.name);
                    found.push(wrong(text));
                }
                Role::Operator | Role::Sink if self.before(&node.name).is_empty() => {
                    found.push(wrong(format!("no edge leads to `{}`", node.name)));
                }
                _ => {}
            }
        }
        if !self.nodes.iter().any(|node| node.role == Role::Sink) {
            found.push(wrong("a graph needs a sink"));
        }
        if found.is_empty()
            && let Some(name) = self.circle()
        {
            found.push(wrong(format!("the edges lead from `{name}` back to it")));
        }
    }

    /// A node on a circle.
    fn circle(&self) -> Option<&str> {
        fn visit<'g>(
            graph: &'g Graph,
            name: &'g str,
            on: &mut Vec<&'g str>,
            done: &mut HashSet<&'g str>,
        ) -> Option<&'g str> {
            if on.contains(&name) {
                return Some(name);
            }
            if !done.insert(name) {
                return None;
            }
            on.push(name);
            let mut next = graph.edges.get(name).into_iter().flatten().flatten();
            let found = next.find_map(|next| visit(graph, next, on, done));
            on.pop();
            found
        }
        let mut done = HashSet::new();
        self.nodes.iter().find_map(|node| visit(self, &node.name, &mut Vec::new(), &mut done))
    }

    /// The sources, in the order written.
    ///
    /// # Errors
    /// A source is neither defined by its node nor anywhere else.
    pub fn sources(&self) -> Result<Vec<GraphSource>, Diagnostic> {
        self.nodes.iter().filter(|node| node.role == Role::Source).map(source).collect()
    }
}

impl GraphNode {
    /// What the statements of a path call a source.
    pub(super) fn emitter(&self) -> &str {
        self.prop("sourceName").and_then(Json::as_str).unwrap_or(&self.name)
    }
}

fn source(node: &GraphNode) -> Result<GraphSource, Diagnostic> {
    let stream = node.emitter().to_owned();
    if node.prop("sourceType").is_some() || node.prop("sourceName").is_some() {
        let kind = node.prop("sourceType").and_then(Json::as_str).unwrap_or("stream");
        if !["stream", "table"].contains(&kind) {
            return Err(node.wrong(format!("`sourceType` is `{kind}`, expected `stream` or `table`")));
        }
        if node.prop("sourceName").is_none() {
            return Err(node.wrong(format!("a `sourceType` needs a `sourceName`, the name of the {kind}")));
        }
        return Ok(GraphSource::Existing { stream, connector: node.kind.clone() });
    }
    let mut options = vec![format!("TYPE={}", Json::from(node.kind.as_str()))];
    for (name, value) in &node.props {
        let Some((_, option)) = DEFINES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let known = DEFINES.iter().map(|(known, _)| *known).chain(["sourceName", "sourceType"]);
            return Err(node.wrong(format!("a source has no property `{name}`")).suggest(name, known));
        };
        let text = match value {
            Json::Null => continue,
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !text.is_empty() {
            options.push(format!("{option}={}", Json::from(text)));
        }
    }
    let statement = format!("CREATE STREAM `{stream}` () WITH ({})", options.join(", "));
    Ok(GraphSource::Own { stream, statement })
}

fn read_node(name: &str, json: &Json) -> Result<GraphNode, Diagnostic> {
    let Json::Object(members) = json else { return Err(wrong(format!("node `{name}` must be an object"))) };
    const MEMBERS: [&str; 4] = ["type", "nodeType", "props", "ui"];
    if name.contains('`') {
        return Err(wrong(format!("`{name}` cannot be the name of a node")));
    }
    if let Some(other) = members.keys().find(|member| !MEMBERS.contains(&member.as_str())) {
        return Err(wrong(format!("node `{name}` has no `{other}`")).suggest(other, MEMBERS));
    }
    let text = |member: &str| members.get(member).and_then(Json::as_str).unwrap_or_default();
    let role = match text("type") {
        "source" => Role::Source,
        "operator" => Role::Operator,
        "sink" => Role::Sink,
        other => {
            let expected = "expected `source`, `operator` or `sink`";
            let error = wrong(format!("`type` of node `{name}` is `{other}`, {expected}"));
            return Err(error.suggest(other, ["source", "operator", "sink"]));
        }
    };
    let kind = text("nodeType").to_owned();
    if kind.is_empty() {
        return Err(wrong(format!("node `{name}` needs a `nodeType`")));
    }
    if role == Role::Operator && !OPERATORS.iter().any(|known| known.eq_ignore_ascii_case(&kind)) {
        return Err(wrong(format!("node `{name}`: there is no operator `{kind}`")).suggest(&kind, OPERATORS));
    }
    let props = match members.get("props") {
        None | Some(Json::Null) => Map::new(),
        Some(Json::Object(props)) => props.clone(),
        Some(_) => return Err(wrong(format!("`props` of node `{name}` must be an object"))),
    };
    Ok(GraphNode { name: name.to_owned(), role, kind, props })
}

/// Where edges lead: a list of names, of a `switch` one for each case.
fn targets(from: &str, to: &Json, switch: bool) -> Result<Vec<Vec<String>>, Diagnostic> {
    let names = |list: &Json| -> Option<Vec<String>> {
        list.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let nested = to.as_array().is_some_and(|list| list.first().is_some_and(Json::is_array));
    let found = match nested {
        true if switch => to.as_array().and_then(|cases| cases.iter().map(names).collect()),
        false => names(to).map(|list| vec![list]),
        true => None,
    };
    let expected = if switch { "a list of names for each case" } else { "a list of names" };
    found.ok_or_else(|| wrong(format!("`topo.edges` of `{from}` must be {expected}, found `{to}`")))
}
