//! Paths: from each place where rows reach sinks back to the sources, and the statements on the way.

use serde_json::Value as Json;

use super::super::{Options, Plan, SourceKind, Stream, plan};
use super::text::{BOUNDS, Field, Past, Words, behind, side_column, sides_named};
use super::{Graph, GraphNode, HIDDEN, Input, Path, Role, Stage, intake, paced};
use crate::diag::Diagnostic;
use crate::func::Catalogue;
use crate::sql::parse_select;

/// A graph that splits into more paths than this is refused.
const MOST: usize = 256;

/// A source of the rule.
pub(super) struct Intake {
    pub plan: Plan,
    pub kind: SourceKind,
    stream: Stream,
}

pub(super) struct Maker<'a> {
    graph: &'a Graph,
    find: &'a dyn Fn(&str) -> Option<Stream>,
    funcs: &'a Catalogue,
    options: &'a Options,
    pub intakes: Vec<Intake>,
    /// Of the path that is being made.
    stages: Vec<Stage>,
    /// A window stands on it.
    windowed: bool,
    /// All texts of operators, which may name sides of joins.
    texts: Vec<String>,
}

/// Rows on their way, under a name.
#[derive(Clone)]
struct Feed {
    from: Input,
    stream: Stream,
}

/// What the rows are that come to a node.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// One by one.
    Rows,
    /// Together, as a window gives them.
    Sets,
    /// Together by groups, in a statement that is not done.
    Groups,
}

/// What comes to a node.
struct Flow {
    /// One, or several before a window or a join.
    feeds: Vec<Feed>,
    shape: Shape,
    /// A window that waits for a join, or for the end of the statement.
    window: Option<String>,
    /// The statement of groups.
    open: Option<Words>,
    past: Past,
}

/// A node whose rows reach sinks, of a `switch` those of one case, and the sinks.
type End<'g> = ((&'g GraphNode, Option<usize>), Vec<String>);

type Made<T> = Result<T, Vec<Diagnostic>>;

fn one<T>(result: Result<T, Diagnostic>) -> Made<T> {
    result.map_err(|found| vec![found])
}

impl<'a> Maker<'a> {
    pub fn new(
        graph: &'a Graph,
        find: &'a dyn Fn(&str) -> Option<Stream>,
        funcs: &'a Catalogue,
        options: &'a Options,
    ) -> Self {
        fn texts(json: &Json, out: &mut Vec<String>) {
            match json {
                Json::String(text) => out.push(text.clone()),
                Json::Array(items) => items.iter().for_each(|item| texts(item, out)),
                Json::Object(members) => members.values().for_each(|value| texts(value, out)),
                _ => {}
            }
        }
        let mut all = Vec::new();
        let operators = graph.nodes.iter().filter(|node| node.role == Role::Operator);
        operators.for_each(|node| node.props.values().for_each(|value| texts(value, &mut all)));
        Maker { graph, find, funcs, options, intakes: Vec::new(), stages: Vec::new(), windowed: false, texts: all }
    }

    /// All paths, and the sinks at the end of each.
    pub fn paths(&mut self) -> Made<(Vec<Path>, Vec<Vec<String>>)> {
        let mut ends: Vec<End<'_>> = Vec::new();
        for sink in self.graph.nodes.iter().filter(|node| node.role == Role::Sink) {
            for (before, case) in self.graph.before(&sink.name) {
                match ends.iter_mut().find(|((node, of), _)| node.name == before.name && *of == case) {
                    Some((_, to)) if to.contains(&sink.name) => {}
                    Some((_, to)) => to.push(sink.name.clone()),
                    None => ends.push(((before, case), vec![sink.name.clone()])),
                }
            }
        }
        if ends.len() > MOST {
            let text = format!("the graph has {} ways to its sinks, and may have {MOST}", ends.len());
            return Err(vec![Diagnostic::error("K0922", text)]);
        }
        let (mut paths, mut found) = (Vec::new(), Vec::new());
        for ((node, case), to) in &ends {
            match self.path(node, *case, to) {
                Ok(path) => paths.push(path),
                // What several paths have in common is told once.
                Err(more) => more.into_iter().for_each(|one| {
                    if !found.contains(&one) {
                        found.push(one);
                    }
                }),
            }
        }
        let ends = ends.into_iter().map(|(_, to)| to).collect();
        if found.is_empty() { Ok((paths, ends)) } else { Err(found) }
    }

    fn path(&mut self, node: &GraphNode, case: Option<usize>, to: &[String]) -> Made<Path> {
        self.stages.clear();
        self.windowed = self.has_window(node);
        let flow = self.flow(node, case)?;
        let flow = self.close(node, flow)?;
        if self.stages.is_empty() {
            let sql = Words::all().sql(&flow.feeds[0].stream.name);
            self.stage(node, sql, &flow.feeds, false, false)?;
        }
        Ok(Path { stages: std::mem::take(&mut self.stages), to: to.to_vec() })
    }

    fn has_window(&self, node: &GraphNode) -> bool {
        node.is("window") || self.graph.before(&node.name).into_iter().any(|(before, _)| self.has_window(before))
    }

    /// What a node gives, of a `switch` in one case.
    fn flow(&mut self, node: &GraphNode, case: Option<usize>) -> Made<Flow> {
        if node.role == Role::Source {
            return self.source(node);
        }
        let kind = node.kind.to_ascii_lowercase();
        if kind == "script" {
            return Err(vec![node.wrong("this version runs no scripts; use `function` with a function of a plugin")]);
        }
        let mut before = self.graph.before(&node.name).into_iter();
        let several = ["window", "watermark", "join"].contains(&kind.as_str());
        if before.len() > 1 && !several {
            let text = format!("{} edges lead to it; only a window, a watermark and a join take several", before.len());
            return Err(vec![node.wrong(text)]);
        }
        let Some((first, of)) = before.next() else { return Err(vec![node.wrong("no edge leads to it")]) };
        let mut flow = self.flow(first, of)?;
        for (other, of) in before {
            flow = self.close(first, flow)?;
            let other = self.flow(other, of)?;
            let other = self.close(node, other)?;
            if flow.shape != Shape::Rows || other.shape != Shape::Rows {
                return Err(vec![node.wrong("rows of a window cannot be brought together with others")]);
            }
            flow.feeds.extend(other.feeds);
        }
        match kind.as_str() {
            "watermark" => Ok(flow),
            "window" => self.window(node, flow),
            "join" => self.join(node, flow),
            "filter" => self.filter(node, flow),
            "function" => self.function(node, flow),
            "aggfunc" => self.aggregate(node, flow),
            "groupby" => self.group(node, flow),
            "orderby" => self.order(node, flow),
            "pick" => self.pick(node, flow),
            _ => self.switch(node, flow, case),
        }
    }

    fn source(&mut self, node: &GraphNode) -> Made<Flow> {
        let name = node.emitter();
        let Some(stream) = (self.find)(name) else {
            let text = format!("there is no stream `{name}`");
            let words = format!("fail to get stream {name}, please check if stream is created");
            return Err(vec![Diagnostic::error("K0201", text).known_as(words)]);
        };
        if stream.kind == SourceKind::Lookup {
            let text = format!("the lookup table `{name}` cannot be joined in a graph; write the rule as `sql`");
            return Err(vec![node.wrong(text)]);
        }
        let known = self.intakes.iter().position(|intake| intake.stream.name == stream.name);
        let place = match known {
            Some(place) => place,
            None => {
                let plan = intake(&stream, self.funcs, self.options)?;
                self.intakes.push(Intake { plan, kind: stream.kind, stream: stream.clone() });
                self.intakes.len() - 1
            }
        };
        // What is done with declared columns is done where they come in.
        let stream = Stream { strict: false, temporary: false, ..stream };
        let feeds = vec![Feed { from: Input::Source(place), stream }];
        Ok(Flow { feeds, shape: Shape::Rows, window: None, open: None, past: Past::default() })
    }

    /// Makes a stage of a statement over rows.
    fn stage(&mut self, node: &GraphNode, sql: String, feeds: &[Feed], sets: bool, window: bool) -> Made<Feed> {
        let of_sources = feeds.iter().any(|feed| matches!(feed.from, Input::Source(_)));
        let event_time = paced(self.options, window || (!self.windowed && of_sources));
        let options = Options { sets, event_time, ..self.options.clone() };
        let in_node = |found: Vec<Diagnostic>| -> Vec<Diagnostic> {
            let one = |found: Diagnostic| Diagnostic {
                message: format!("node `{}` ({}): {}", node.name, node.kind, found.message),
                span: None,
                ..found
            };
            found.into_iter().map(one).collect()
        };
        let select = parse_select(&sql).map_err(in_node)?;
        let find = |name: &str| feeds.iter().find(|feed| feed.stream.name == name).map(|feed| feed.stream.clone());
        let made = plan(&select, &find, self.funcs, &options).map_err(in_node)?;
        let from = |stream: &str| feeds.iter().find(|feed| feed.stream.name == stream).map(|feed| feed.from);
        let inputs = made.sources.iter().filter_map(|source| from(&source.stream)).collect();
        let mut stream = behind(&feeds[0].stream, self.options);
        // All columns as they came: what is declared of them is known.
        if feeds.len() == 1 && sql.starts_with("SELECT * FROM ") {
            stream.columns.clone_from(&feeds[0].stream.columns);
        }
        self.stages.push(Stage { sql, plan: made, inputs });
        Ok(Feed { from: Input::Stage(self.stages.len() - 1), stream })
    }

    /// Makes a stage of what is open, so that there is one feed.
    fn close(&mut self, node: &GraphNode, mut flow: Flow) -> Made<Flow> {
        if let Some(window) = flow.window.take() {
            if let [_, second, ..] = flow.feeds.as_slice() {
                let text =
                    format!("rows of `{}` meet others in a window, so a join must follow it", second.stream.name);
                return Err(vec![node.wrong(text)]);
            }
            let words = Words { group: vec![window], ..self.with_bounds(Words::all()) };
            let sql = words.sql(&flow.feeds[0].stream.name);
            let feed = self.stage(node, sql, &flow.feeds, false, true)?;
            flow = Flow { feeds: vec![feed], shape: Shape::Sets, ..flow };
        }
        if let Some(words) = flow.open.take() {
            let sql = words.sql(&flow.feeds[0].stream.name);
            let feed = self.stage(node, sql, &flow.feeds, true, false)?;
            flow = Flow { feeds: vec![feed], shape: Shape::Sets, ..flow };
        }
        Ok(flow)
    }

    /// One feed, and no statement that is not done.
    fn single(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        let flow = self.close(node, flow)?;
        match flow.feeds.as_slice() {
            [_] => Ok(flow),
            _ => Err(vec![node.wrong("rows of several sources come to it; a join must stand before")]),
        }
    }

    /// A statement over rows as they are, each by itself.
    fn simple(&mut self, node: &GraphNode, flow: Flow, words: Words) -> Made<Flow> {
        let sql = words.sql(&flow.feeds[0].stream.name);
        let feed = self.stage(node, sql, &flow.feeds, flow.shape != Shape::Rows, false)?;
        Ok(Flow { feeds: vec![feed], ..flow })
    }

    /// The bounds of a window go along where a node asks for them.
    fn with_bounds(&self, mut words: Words) -> Words {
        for bound in BOUNDS {
            if self.texts.iter().any(|text| text.to_ascii_lowercase().contains(bound)) {
                words.fields.push(Field::of(format!("{bound}()"), Some(format!("{HIDDEN}{bound}"))));
            }
        }
        words
    }

    fn window(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        let flow = if flow.feeds.len() == 1 { self.close(node, flow)? } else { flow };
        if flow.shape != Shape::Rows {
            return Err(vec![node.wrong("a window takes rows, and not what another window gave")]);
        }
        let window = one(window_text(node))?;
        let past = Past { windowed: true, ..flow.past };
        Ok(Flow { window: Some(window), shape: Shape::Sets, past, ..flow })
    }

    fn join(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        let from = one(node.text("from"))?;
        let joins = node.prop("joins").and_then(Json::as_array).filter(|joins| !joins.is_empty());
        let Some(joins) = joins else { return Err(vec![node.wrong("`joins` must be a list of {name, type, on}")]) };
        let called = |name: &str| -> Option<String> {
            // By the name of the stream, or of the node.
            let alias = self.graph.node(name).filter(|node| node.role == Role::Source).map(GraphNode::emitter);
            let known = |name: &str| flow.feeds.iter().any(|feed| feed.stream.name == name);
            [Some(name), alias].into_iter().flatten().find(|name| known(name)).map(str::to_owned)
        };
        let missing = |name: &str| {
            let known = flow.feeds.iter().map(|feed| feed.stream.name.as_str());
            vec![node.wrong(format!("no rows of `{name}` come to it")).suggest(name, known)]
        };
        let from = called(&from).ok_or_else(|| missing(&from))?;
        let mut sides = vec![from.clone()];
        let mut text = String::new();
        for join in joins {
            let of = |name: &str| join.get(name).and_then(Json::as_str).map(str::trim).unwrap_or_default();
            let name = called(of("name")).ok_or_else(|| missing(of("name")))?;
            let kind = of("type").to_ascii_uppercase();
            if !["INNER", "LEFT", "RIGHT", "FULL", "CROSS"].contains(&kind.as_str()) {
                let expected = "expected `inner`, `left`, `right`, `full` or `cross`";
                return Err(vec![node.wrong(format!("`type` of a join is `{}`, {expected}", of("type")))]);
            }
            let on = of("on");
            let on = if on.is_empty() {
                String::new()
            } else {
                format!(" ON {}", one(node.expression(on, &Past::default()))?)
            };
            text += &format!(" {kind} JOIN `{name}`{on}");
            sides.push(name);
        }
        let mut words = Words { joins: text, ..Words::all() };
        for (side, column) in sides_named(&self.texts, &sides) {
            let alias = side_column(&side, &column);
            words.fields.push(Field::of(format!("`{side}`.`{column}`"), Some(alias)));
        }
        let windowed = flow.window.is_some();
        if let Some(window) = &flow.window {
            words = self.with_bounds(words);
            words.group.push(window.clone());
        }
        let sql = words.sql(&from);
        let feed = self.stage(node, sql, &flow.feeds, false, windowed)?;
        let past = Past { sides, windowed };
        Ok(Flow { feeds: vec![feed], shape: Shape::Sets, window: None, open: None, past })
    }

    fn filter(&mut self, node: &GraphNode, mut flow: Flow) -> Made<Flow> {
        let text = one(node.text("expr"))?;
        if let Some(words) = &mut flow.open {
            words.having.push(one(node.expression(&text, &flow.past))?);
            return Ok(flow);
        }
        let flow = self.single(node, flow)?;
        let filter = Some(one(node.expression(&text, &flow.past))?);
        self.simple(node, flow, Words { filter, ..Words::all() })
    }

    fn function(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        if flow.shape == Shape::Groups {
            return Err(vec![node.wrong("a function takes rows; behind groups use `pick`")]);
        }
        let flow = self.single(node, flow)?;
        let field = one(node.field(&one(node.text("expr"))?, &flow.past, true))?;
        let mut words = Words::all();
        words.fields.push(field);
        self.simple(node, flow, words)
    }

    /// The statement of groups, begun if need be.
    fn grouped(&mut self, node: &GraphNode, flow: Flow) -> Made<(Words, Flow)> {
        let mut flow = if flow.open.is_some() { flow } else { self.single(node, flow)? };
        if flow.shape == Shape::Rows {
            return Err(vec![node.wrong("it needs a window before it, since a stream never ends")]);
        }
        let words = flow.open.take().unwrap_or_else(Words::all);
        Ok((words, Flow { shape: Shape::Groups, ..flow }))
    }

    fn aggregate(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        let (mut words, flow) = self.grouped(node, flow)?;
        words.fields.push(one(node.field(&one(node.text("expr"))?, &flow.past, true))?);
        Ok(Flow { open: Some(words), ..flow })
    }

    fn group(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        if flow.shape == Shape::Groups {
            return Err(vec![node.wrong("the rows are grouped already")]);
        }
        let (mut words, flow) = self.grouped(node, flow)?;
        for text in one(node.texts("dimensions"))? {
            words.group.push(one(node.expression(&text, &flow.past))?);
        }
        Ok(Flow { open: Some(words), ..flow })
    }

    fn order(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        if flow.shape == Shape::Rows && flow.window.is_none() {
            return Err(vec![
                node.wrong("it needs a window before it, since there is an order among several rows only"),
            ]);
        }
        let sorts = node.prop("sorts").and_then(Json::as_array).filter(|sorts| !sorts.is_empty());
        let Some(sorts) = sorts else { return Err(vec![node.wrong("`sorts` must be a list of {field, desc}")]) };
        let mut order = Vec::new();
        for sort in sorts {
            let field = sort.get("field").and_then(Json::as_str).unwrap_or_default();
            let text = one(node.expression(field, &flow.past))?;
            order.push(format!("{text}{}", if sort.get("desc") == Some(&Json::Bool(true)) { " DESC" } else { "" }));
        }
        if let Some(words) = flow.open {
            return Ok(Flow { open: Some(Words { order, ..words }), ..flow });
        }
        let flow = self.single(node, flow)?;
        self.simple(node, flow, Words { order, ..Words::all() })
    }

    fn pick(&mut self, node: &GraphNode, flow: Flow) -> Made<Flow> {
        let texts = one(node.texts("fields"))?;
        let grouped = one(node.flag("isAgg"))? || flow.shape == Shape::Groups;
        if !grouped {
            let flow = self.single(node, flow)?;
            let fields: Result<_, Diagnostic> = texts.iter().map(|text| node.field(text, &flow.past, false)).collect();
            return self.simple(node, flow, Words { fields: one(fields)?, ..Words::default() });
        }
        let (mut words, flow) = self.grouped(node, flow)?;
        // What was computed of the groups is there to be picked.
        words.fields.retain(|field| field.alias.is_some());
        words.fields.iter_mut().for_each(|field| field.invisible = true);
        for text in &texts {
            let field = one(node.field(text, &flow.past, false))?;
            let again = |known: &Field| known.alias.is_some() && known.alias.as_deref() == Some(text.trim());
            match words.fields.iter_mut().find(|known| again(known)) {
                Some(known) => known.invisible = false,
                None => words.fields.push(field),
            }
        }
        let sql = words.sql(&flow.feeds[0].stream.name);
        let feed = self.stage(node, sql, &flow.feeds, true, false)?;
        Ok(Flow { feeds: vec![feed], shape: Shape::Sets, ..flow })
    }

    fn switch(&mut self, node: &GraphNode, mut flow: Flow, case: Option<usize>) -> Made<Flow> {
        let cases = one(node.texts("cases"))?;
        let leads = self.graph.edges.get(&node.name).map_or(0, Vec::len);
        if leads > cases.len() {
            let text = format!("edges lead away in {leads} cases, and it has {}", cases.len());
            return Err(vec![node.wrong(text)]);
        }
        let case = case.unwrap_or_default();
        let mut said = Vec::new();
        for text in &cases[..=case.min(cases.len() - 1)] {
            said.push(one(node.expression(text, &flow.past))?);
        }
        let condition = match one(node.flag("stopAtFirstMatch"))? && case > 0 {
            true => {
                let branches = said.iter().enumerate().map(|(n, text)| format!("WHEN {text} THEN {n}"));
                format!("CASE {} END = {case}", branches.collect::<Vec<_>>().join(" "))
            }
            false => said.pop().unwrap_or_default(),
        };
        if let Some(words) = &mut flow.open {
            words.having.push(condition);
            return Ok(flow);
        }
        let flow = self.single(node, flow)?;
        let words = match flow.shape {
            Shape::Rows => Words { filter: Some(condition), ..Words::all() },
            // A set goes on as a whole.
            _ => Words { having: vec![condition], ..Words::all() },
        };
        self.simple(node, flow, words)
    }
}

/// The window as a statement writes it.
fn window_text(node: &GraphNode) -> Result<String, Diagnostic> {
    let kind = node.text("type")?.to_ascii_lowercase();
    let size = node.number("size")?.unwrap_or_default();
    let interval = node.number("interval")?;
    if size <= 0 {
        return Err(node.wrong(format!("`size` must be above 0, found {size}")));
    }
    if kind == "countwindow" {
        let every = interval.filter(|every| *every != 0).unwrap_or(size);
        return match every {
            every if every > size || every < 0 => {
                Err(node.wrong(format!("`interval` must be from 1 up to `size`, which is {size}, found {every}")))
            }
            every => Ok(format!("COUNTWINDOW({size}, {every})")),
        };
    }
    let unit = node.text("unit")?.to_ascii_lowercase();
    if !["dd", "hh", "mi", "ss", "ms"].contains(&unit.as_str()) {
        return Err(node.wrong(format!("`unit` is `{unit}`, expected `dd`, `hh`, `mi`, `ss` or `ms`")));
    }
    match (kind.as_str(), interval.filter(|interval| *interval != 0)) {
        ("tumblingwindow", None) => Ok(format!("TUMBLINGWINDOW({unit}, {size})")),
        ("tumblingwindow", Some(every)) if every == size => Ok(format!("TUMBLINGWINDOW({unit}, {size})")),
        ("slidingwindow", None) => Ok(format!("SLIDINGWINDOW({unit}, {size})")),
        ("slidingwindow", Some(every)) if every == size => Ok(format!("SLIDINGWINDOW({unit}, {size})")),
        ("tumblingwindow" | "slidingwindow", Some(every)) => {
            Err(node.wrong(format!("`interval` must be left out, or be `size`, which is {size}, found {every}")))
        }
        ("hoppingwindow", Some(every)) if (1..=size).contains(&every) => {
            Ok(format!("HOPPINGWINDOW({unit}, {size}, {every})"))
        }
        ("hoppingwindow", every) => {
            let found = every.unwrap_or_default();
            Err(node.wrong(format!("`interval` must be from 1 up to `size`, which is {size}, found {found}")))
        }
        ("sessionwindow", Some(timeout)) if timeout > 0 => Ok(format!("SESSIONWINDOW({unit}, {size}, {timeout})")),
        ("sessionwindow", timeout) => {
            let found = timeout.unwrap_or_default();
            Err(node.wrong(format!(
                "`interval`, the time without rows that ends a session, must be above 0, found {found}"
            )))
        }
        _ => {
            const KINDS: [&str; 5] =
                ["tumblingwindow", "hoppingwindow", "slidingwindow", "sessionwindow", "countwindow"];
            Err(node.wrong(format!("there is no window `{kind}`")).suggest(&kind, KINDS))
        }
    }
}
