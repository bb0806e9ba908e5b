//! The sources of a statement while its names are bound: which of them a name means, and the slots of their columns.
//!
//! Rows of all sources have the one width of the plan. Each source has slots of its own in it, and those of the others
//! stay absent. A name that is asked of several sources has one more slot, into which each source copies its column;
//! in a joined row the part that stands first has its say there.

use std::collections::{HashMap, HashSet};

use crate::codec::{Wanted, WantedColumn};
use crate::data::{Kind, Text};
use crate::diag::{Diagnostic, Span};
use crate::expr::{Bound, Path, RowShape};
use crate::sql::{self, JoinKind, Select, Wildcard};

use super::node::{Node, Resolved, Shared, SourceKind};
use super::scope::Names;
use super::{Options, Stream, StreamColumn};

/// One source, and what was asked of it so far.
pub struct Asked<'a> {
    pub stream: &'a Stream,
    /// The name after AS.
    pub alias: Option<Text>,
    pub wanted: Wanted,
    pub resolved: Vec<Resolved>,
    pub shared: Vec<Shared>,
    /// Metadata is read of it.
    pub meta: bool,
    /// The declared columns by name.
    declared: HashMap<&'a str, &'a StreamColumn>,
    /// The slots of the columns in `wanted`, in `resolved` by their exact slots, and in `shared`.
    slots: HashMap<Text, usize>,
    resolved_slots: HashMap<usize, usize>,
    shared_slots: HashMap<Text, usize>,
}

impl<'a> Asked<'a> {
    pub fn new(stream: &'a Stream, alias: Option<Text>) -> Self {
        // Of two declarations of one name the first counts.
        let declared = stream.columns.iter().rev().map(|column| (column.name.as_str(), column)).collect();
        Asked {
            stream,
            alias,
            wanted: Wanted::default(),
            resolved: Vec::new(),
            shared: Vec::new(),
            meta: false,
            declared,
            slots: HashMap::new(),
            resolved_slots: HashMap::new(),
            shared_slots: HashMap::new(),
        }
    }

    /// The slot of a column that is decoded.
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.slots.get(name).copied()
    }

    /// Whether it declares a column of that name.
    pub fn declares(&self, name: &str) -> bool {
        self.declared.contains_key(name)
    }

    /// How the statement calls it.
    pub fn name(&self) -> &Text {
        self.alias.as_ref().unwrap_or(&self.stream.name)
    }

    /// Whether messages can have columns that no one declared.
    pub fn is_open(&self) -> bool {
        self.stream.columns.is_empty() && !self.stream.binary
    }

    /// Whether rows can have a column of that name.
    fn may_have(&self, name: &str) -> bool {
        match self.stream.columns.as_slice() {
            [] => !self.stream.binary || name == "self",
            _ => self.declares(name),
        }
    }

    /// The names of all columns that are known beforehand.
    fn known(&self) -> Vec<Text> {
        match self.stream.columns.as_slice() {
            [] if self.stream.binary => vec![Text::const_new("self")],
            [] => self.wanted.columns.iter().map(|column| column.name.clone()).collect(),
            columns => columns.iter().map(|column| column.name.clone()).collect(),
        }
    }
}

/// What is looked for among the sources by a name or a slot, however many there are.
#[derive(Default)]
pub struct Lookups {
    /// The first source of each alias, else of each name.
    called: HashMap<Text, usize>,
    /// The columns that any source declares.
    declared: HashSet<Text>,
    /// A source declares no columns.
    schemaless: bool,
    /// The slots for what several sources have under one name.
    shared: HashMap<Text, usize>,
    /// The sources that fill a slot.
    filled: HashMap<usize, Vec<usize>>,
    /// The aliases that have slots.
    pub aliases: HashMap<usize, usize>,
}

impl Lookups {
    pub fn new(sources: &[Asked<'_>]) -> Self {
        let mut lookups = Lookups::default();
        for (n, source) in sources.iter().enumerate() {
            source.alias.iter().for_each(|alias| {
                lookups.called.entry(alias.clone()).or_insert(n);
            });
            lookups.declared.extend(source.stream.columns.iter().map(|column| column.name.clone()));
            lookups.schemaless |= source.stream.columns.is_empty();
        }
        for (n, source) in sources.iter().enumerate() {
            lookups.called.entry(source.stream.name.clone()).or_insert(n);
        }
        lookups
    }

    /// Notes that a source fills a slot.
    fn fills(&mut self, source: usize, slot: usize) {
        let sources = self.filled.entry(slot).or_default();
        if sources.last() != Some(&source) {
            sources.push(source);
        }
    }

    /// The sources that fill a slot.
    pub fn sources_of(&self, slot: usize) -> &[usize] {
        self.filled.get(&slot).map_or(&[], Vec::as_slice)
    }
}

impl Names<'_> {
    /// A slot for something that is computed.
    pub fn fresh(&mut self) -> usize {
        self.width += 1;
        self.width - 1
    }

    /// Whether rows of several sources are joined.
    pub fn is_join(&self) -> bool {
        self.sources.len() > 1
    }

    /// Sets whose columns win over others of the same name: what stands left, or, in a RIGHT JOIN, right.
    pub fn order_sources(&mut self, select: &Select) {
        self.precedence = vec![0];
        for (n, join) in select.joins.iter().enumerate() {
            let right = join.kind == JoinKind::Right && self.sources[n + 1].stream.kind != SourceKind::Lookup;
            self.precedence.insert(if right { 0 } else { n + 1 }, n + 1);
        }
    }

    /// The source that a qualifier means.
    pub fn source(&self, name: &str) -> Option<usize> {
        self.lookups.called.get(name).copied()
    }

    /// Whether a source declares a column of that name.
    pub fn declares(&self, name: &str) -> bool {
        self.lookups.declared.contains(name)
    }

    /// Whether a name that nothing declares can be a column all the same.
    pub fn is_schemaless(&self) -> bool {
        self.lookups.schemaless
    }

    /// The slots of what is of a single row: columns, what is computed of each row that comes, and aliases of these.
    pub fn of_rows(&self) -> HashSet<usize> {
        let mut slots: HashSet<usize> = self.special.analytics.iter().map(|call| call.slot).collect();
        slots.extend(self.aliases.iter().filter(|alias| !alias.aggregated).filter_map(|alias| alias.slot));
        for source in &self.sources {
            slots.extend(
                source.slots.values().chain(source.resolved_slots.values()).chain(source.shared_slots.values()),
            );
        }
        slots
    }

    /// A column that is named without its source.
    pub fn column(&mut self, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        let having: Vec<usize> = match self.sources.as_slice() {
            [_] => vec![0],
            several => (0..several.len()).filter(|n| several[*n].may_have(name)).collect(),
        };
        match having.as_slice() {
            [] => Err(self.unknown(name, span)),
            [only] => self.column_of(*only, name, span),
            several if self.is_schemaless() => self.shared(name, several, span),
            several => {
                let all: Vec<String> = several.iter().map(|n| format!("`{}`", self.sources[*n].name())).collect();
                let message = format!("ambiguous field `{name}`: {} have a column of that name", all.join(" and "));
                let first = self.sources[several[0]].name();
                Err(Diagnostic::error("K0250", message).at(span).help(format!("write `{first}.{name}`")))
            }
        }
    }

    fn unknown(&self, name: &Text, span: Span) -> Diagnostic {
        let all: Vec<String> = self.sources.iter().map(|source| format!("`{}`", source.name())).collect();
        let columns = self.sources.iter().flat_map(|source| &source.stream.columns);
        let columns = columns.map(|column| column.name.as_str());
        let aliases = self.aliases.iter().map(|alias| alias.name.as_str());
        let message = format!("none of {} has a column `{name}`", all.join(", "));
        self.hinted(Diagnostic::error("K0214", message).at(span), name, columns.chain(aliases))
    }

    /// The slot of a column of one source; it is decoded from now on.
    pub fn column_of(&mut self, source: usize, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        let exact = match self.sources[source].slot(name) {
            Some(known) => known,
            None => {
                // Beside a source without declared columns every name is one; what is not declared is never there.
                let kind = match self.declared(source, name, span) {
                    Err(_) if self.is_schemaless() => None,
                    declared => Some(declared?),
                };
                let slot = self.fresh();
                let asked = &mut self.sources[source];
                asked.slots.insert(name.clone(), slot);
                if let Some(kind) = kind {
                    asked.wanted.columns.push(WantedColumn { name: name.clone(), slot, kind });
                    self.lookups.fills(source, slot);
                }
                slot
            }
        };
        // Declared columns are decoded by their exact names, and there is nothing else to look in.
        if !self.ignore_case || !self.sources[source].is_open() {
            return Ok(Bound::Slot(exact, self.shown(source, name)));
        }
        let slot = match self.sources[source].resolved_slots.get(&exact) {
            Some(known) => *known,
            None => {
                self.rest(source);
                let slot = self.fresh();
                self.sources[source].resolved_slots.insert(exact, slot);
                self.sources[source].resolved.push(Resolved { name: name.clone(), exact, slot });
                self.lookups.fills(source, slot);
                slot
            }
        };
        Ok(Bound::Slot(slot, self.shown(source, name)))
    }

    /// How a column is shown: with its source where there are several.
    fn shown(&self, source: usize, name: &Text) -> Text {
        match self.sources.as_slice() {
            [_] => name.clone(),
            several => Text::new(format!("{}.{name}", several[source].name())),
        }
    }

    /// The slot for what the first of these sources has under that name.
    fn shared(&mut self, name: &Text, sources: &[usize], span: Span) -> Result<Bound, Diagnostic> {
        let known = self.lookups.shared.get(name).copied();
        let slot = known.unwrap_or_else(|| self.fresh());
        self.lookups.shared.insert(name.clone(), slot);
        for source in sources {
            let Bound::Slot(from, _) = self.column_of(*source, name, span)? else { continue };
            let asked = &mut self.sources[*source];
            if asked.shared_slots.insert(name.clone(), slot).is_none() {
                asked.shared.push(Shared { name: name.clone(), from, slot });
                self.lookups.fills(*source, slot);
            }
        }
        Ok(Bound::Slot(slot, name.clone()))
    }

    /// The slot of the object of all columns of a source that have none of their own.
    fn rest(&mut self, source: usize) -> usize {
        let slot = match self.sources[source].wanted.rest {
            Some(slot) => slot,
            None => self.fresh(),
        };
        self.sources[source].wanted.rest = Some(slot);
        self.lookups.fills(source, slot);
        slot
    }

    fn declared(&self, source: usize, name: &Text, span: Span) -> Result<Option<Kind>, Diagnostic> {
        let stream = self.sources[source].stream;
        if stream.columns.is_empty() {
            return Ok(None);
        }
        match self.sources[source].declared.get(name.as_str()) {
            Some(column) => Ok(Some(column.kind.clone())),
            None => {
                let what = if stream.is_table() { "table" } else { "stream" };
                let message = format!("{what} `{}` has no column `{name}`", stream.name);
                let names = stream.columns.iter().map(|column| column.name.as_str());
                let aliases = self.aliases.iter().map(|alias| alias.name.as_str());
                Err(self.hinted(Diagnostic::error("K0214", message).at(span), name, names.chain(aliases)))
            }
        }
    }

    /// The finding with the nearest name, unless many were looked for already: that takes long among many columns.
    fn hinted<'n>(&self, found: Diagnostic, name: &str, near: impl Iterator<Item = &'n str>) -> Diagnostic {
        let hints = self.hints.get();
        self.hints.set(hints.saturating_sub(1));
        if hints > 0 { found.suggest(name, near) } else { found }
    }

    /// Every column, for `*`; or of one source, for `source.*`.
    pub fn all_columns(&mut self, wildcard: &Wildcard, span: Span) -> Result<RowShape, Diagnostic> {
        let except = wildcard.except.iter().map(|name| name.name.clone()).collect();
        let of: Vec<usize> = match &wildcard.of {
            None => self.precedence.clone(),
            Some(of) => match self.source(of) {
                Some(source) => vec![source],
                None => {
                    let found = Diagnostic::error("K0218", format!("`{of}.*` names no stream of this statement"));
                    let all: Vec<String> = self.sources.iter().map(|source| format!("`{}`", source.name())).collect();
                    let help = match all.as_slice() {
                        [only] => format!("the stream is {only}"),
                        several => format!("the sources are {}", several.join(", ")),
                    };
                    return Err(found.at(span).help(help));
                }
            },
        };
        let mut rest = Vec::new();
        let (mut names, mut listed): (Vec<Text>, HashSet<Text>) = Default::default();
        for source in &of {
            let known = self.sources[*source].known();
            names.extend(known.into_iter().filter(|name| listed.insert(name.clone())));
            if self.sources[*source].is_open() {
                rest.push(self.rest(*source));
            }
        }
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let having: Vec<usize> =
                of.iter().copied().filter(|source| of.len() == 1 || self.sources[*source].may_have(&name)).collect();
            let bound = match having.as_slice() {
                [] => continue,
                // What differs by case only is looked for by who names it, and here nobody does.
                [only] => match self.sources[*only].slot(&name) {
                    Some(known) => Bound::Slot(known, name.clone()),
                    None => self.column_of(*only, &name, span)?,
                },
                several => self.shared(&name, several, span)?,
            };
            if let Bound::Slot(slot, _) = bound {
                columns.push((name, slot));
            }
        }
        Ok(RowShape { columns, rest, except })
    }

    /// Has all declared columns decoded.
    pub fn decode_all(&mut self, found: &mut Vec<Diagnostic>) {
        for source in 0..self.sources.len() {
            for column in &self.sources[source].stream.columns {
                found.extend(self.column_of(source, &column.name, Span::default()).err());
            }
        }
    }

    /// Gives a name its slot in every source that could have it, so that `*` finds it there.
    pub fn reserve(&mut self, name: &Text, span: Span) -> Result<(), Diagnostic> {
        for source in 0..self.sources.len() {
            if self.sources[source].is_open() || (self.sources.len() == 1 && self.sources[0].stream.columns.is_empty())
            {
                self.column_of(source, name, span)?;
            }
        }
        Ok(())
    }

    /// A metadata value. With several sources each row has that of all its parts, by the names of their sources; without
    /// one of these the first part that has the key is meant.
    pub fn metadata(&mut self, of: Option<&Text>, path: Path) -> Bound {
        let of = of.and_then(|name| self.source(name));
        if let [only] = self.sources.as_mut_slice() {
            only.meta = true;
            return Bound::Meta(path);
        }
        let wanted = of.map_or_else(|| self.precedence.clone(), |source| vec![source]);
        let all = of.is_none() && path.names.is_empty();
        let mut one = |source: usize| {
            self.sources[source].meta = true;
            let names = std::iter::once(self.sources[source].name().clone()).chain(path.names.iter().cloned());
            Bound::Meta(Path { names: names.collect(), any_case: path.any_case })
        };
        let mut parts: Vec<Bound> = wanted.into_iter().map(&mut one).collect();
        match (self.funcs.find("coalesce"), parts.len()) {
            _ if all => Bound::Meta(path),
            (Some(coalesce), 2..) => Bound::Call(coalesce, parts, 0),
            _ => parts.swap_remove(0),
        }
    }
}

/// The sources as they are written: FROM, then the joins.
pub fn written(select: &Select) -> impl Iterator<Item = &sql::Source> {
    std::iter::once(&select.from).chain(select.joins.iter().map(|join| &join.source))
}

/// The definitions of all sources; what is missing is told.
pub fn find_all(
    select: &Select,
    find: &dyn Fn(&str) -> Option<Stream>,
    options: &Options,
    found: &mut Vec<Diagnostic>,
) -> Vec<Stream> {
    let mut streams = Vec::new();
    for source in written(select) {
        let name = &source.name;
        match find(&name.name) {
            Some(stream) => {
                if stream.temporary && !options.temporary {
                    let text = format!("temp stream {} can only be used by temp rules", stream.name);
                    found.push(Diagnostic::error("K0908", text.as_str()).at(name.span).known_as(text));
                }
                streams.push(stream);
            }
            None => found.push(
                Diagnostic::error("K0201", format!("there is no stream `{}`", name.name))
                    .at(name.span)
                    .help("create it with CREATE STREAM first")
                    .known_as(format!("fail to get stream {}, please check if stream is created", name.name)),
            ),
        }
    }
    if let [only] = streams.as_slice()
        && only.is_table()
        && select.joins.is_empty()
    {
        let message = format!("`{}` is a table, and a rule needs a stream to be driven by", only.name);
        found.push(Diagnostic::error("K0202", message).at(select.from.name.span));
    }
    streams
}

/// What the sources are called in the status: by their streams, and, where one is there twice, by their aliases.
pub fn source_names(names: &Names<'_>) -> Vec<Text> {
    let mut taken: HashSet<&Text> = HashSet::new();
    let called = names.sources.iter().map(|source| {
        let stream = &source.stream.name;
        let name = if taken.contains(stream) { source.name() } else { stream };
        taken.insert(name);
        name.clone()
    });
    called.collect()
}

/// What is done with the rows of a source before anything looks at them.
pub fn at_the_source(asked: &Asked<'_>) -> Vec<Node> {
    let mut nodes = Vec::new();
    if let (Some(rest), false) = (asked.wanted.rest, asked.resolved.is_empty()) {
        nodes.push(Node::Resolve { columns: asked.resolved.clone(), rest });
    }
    let stream = asked.stream;
    if stream.strict {
        // In the order of the declaration, so that of several errors the same is always told.
        let columns = stream.columns.iter().filter_map(|column| Some((asked.slot(&column.name)?, column.clone())));
        let columns: Vec<_> = columns.collect();
        let format = Some(stream.timestamp_format.clone()).filter(|format| !format.is_empty());
        nodes.extend((!columns.is_empty()).then_some(Node::Validate { columns, format }));
    }
    if !asked.shared.is_empty() {
        nodes.push(Node::Share { columns: asked.shared.clone() });
    }
    nodes
}
