use std::time::Duration;

use crate::codec::Wanted;
use crate::data::{Layout, Text};
use crate::expr::{Bound, Bounds};
use crate::func::Func;

use super::window::Windowed;

use super::StreamColumn;
use super::graph::Paths;
use super::join::{Joined, LookupJoin};

/// A statement, planned.
///
/// The rows of all sources have one width. Each source has slots of its own in them, and those of the others are absent
/// until rows are joined.
#[derive(Clone, Debug)]
pub struct Plan {
    /// FROM first, then the joins in their order. One at least is a stream.
    pub sources: Vec<Source>,
    /// Where there are several sources: the slot that says of which one a row is, by its place in `sources`.
    pub source_slot: Option<usize>,
    /// Slots of a row on its way through the nodes before the projection.
    pub width: usize,
    /// What is done with the rows of all sources, up to the projection, which is the last.
    pub nodes: Vec<Node>,
    /// What leaves the rule.
    pub layout: Layout,
    /// Each row that leaves is an emission of its own.
    pub windowless: bool,
}

impl Plan {
    /// The rule reads metadata.
    pub fn reads_meta(&self) -> bool {
        self.sources.iter().any(|source| source.meta)
    }

    /// The lookup tables, in the order of the sources, and the columns that each is asked by.
    pub fn lookups(&self) -> impl Iterator<Item = (&Source, Vec<Text>)> {
        self.sources.iter().enumerate().filter(|(_, source)| source.kind == SourceKind::Lookup).map(
            |(place, source)| {
                let asks = self.nodes.iter().find_map(|node| match node {
                    Node::Lookup(lookup) if lookup.source == place => Some(&lookup.keys),
                    _ => None,
                });
                (source, asks.into_iter().flatten().map(|(column, _)| column.clone()).collect())
            },
        )
    }
}

/// One source of a plan.
#[derive(Clone, Debug)]
pub struct Source {
    /// The stream or table.
    pub stream: Text,
    /// What the status calls it: the stream, or its alias where the stream is there twice.
    pub name: Text,
    /// What the statement calls it, and the metadata of rows where there are several sources.
    pub called: Text,
    pub kind: SourceKind,
    /// What the decoder fills.
    pub wanted: Wanted,
    /// Metadata is read of it.
    pub meta: bool,
    /// What is done with its rows alone, before they come to those of other sources.
    pub nodes: Vec<Node>,
    /// The first of the common nodes that its rows come to.
    pub entry: usize,
}

impl Source {
    /// The columns that the rule reads; none where it may read any.
    pub fn reads(&self) -> Vec<Text> {
        match self.wanted.rest {
            Some(_) => Vec::new(),
            None => self.wanted.columns.iter().map(|column| column.name.clone()).collect(),
        }
    }
}

/// How a source takes part in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Each row drives the rule.
    Stream,
    /// Rows are kept, the newest so many, for those of streams to be joined with.
    Scan { retain: usize },
    /// It is asked for the rows that a row of a stream is to be joined with.
    Lookup,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Node {
    /// `STRICT_VALIDATION`: the declared columns that the rule reads, with their slots.
    Validate {
        columns: Vec<(usize, StreamColumn)>,
        /// `TIMESTAMP_FORMAT`
        format: Option<Text>,
    },
    /// `basic.ignoreCase`: columns that are looked for whatever their case, in those that the decoder filled and in
    /// `rest`.
    Resolve {
        columns: Vec<Resolved>,
        rest: usize,
    },
    /// Event time: rows are put into the order in which they happened, and late ones are counted and left out.
    Watermark {
        stamps: Stamps,
        /// `lateTolerance`
        tolerance: Duration,
        /// `idleTimeout`
        patience: Option<Duration>,
        /// A window behind it wants to hear of the watermark.
        marks: bool,
    },
    /// Columns whose name several sources have, copied to the slots that stand for any of them.
    Share {
        columns: Vec<Shared>,
    },
    /// Aliases that a later node reads: slot, name, expression.
    Compute {
        aliases: Vec<(usize, Text, Bound)>,
        clause: Clause,
    },
    Filter {
        predicate: Bound,
        clause: Clause,
    },
    /// Functions of plugins, called for a batch at once.
    Guests {
        calls: Vec<GuestCall>,
        stage: &'static str,
    },
    Window(Box<Windowed>),
    /// Rows of several sources, made one.
    Join(Box<Joined>),
    /// A lookup table, asked for the rows that belong to each row.
    Lookup(Box<LookupJoin>),
    /// The rows of an emission brought together.
    Group {
        grouping: Grouping,
    },
    /// Aggregates over each row alone, or, within a window that gives out its rows, over each emission.
    Aggregate {
        grouping: Grouping,
        each_row: bool,
        /// What stands before the text of an error.
        stage: &'static str,
    },
    /// Keys, and whether each is descending.
    Order {
        keys: Vec<(Bound, bool)>,
    },
    Limit {
        rows: usize,
    },
    /// Functions that look back at earlier rows, and the aliases that they read.
    Analytic {
        steps: Vec<AnalyticStep>,
        /// Of several sources the rows of this one alone: the source, and the slot that says of which one a row is.
        only: Option<(usize, usize)>,
    },
    /// A condition with functions that count how often it was met, and the aliases that it reads.
    Counted {
        hits: Vec<HitCall>,
        aliases: Vec<(usize, Text, Bound)>,
        predicate: Bound,
        clause: Clause,
        /// It counts emissions, of which anything was left, and not rows.
        sets: bool,
        /// The slot of the time at which the window was emitted.
        trigger: Option<usize>,
    },
    /// Numbers of rows within an emission.
    Number {
        calls: Vec<NumberCall>,
    },
    /// Columns that are given where they changed.
    Columns {
        calls: Vec<ColumnsCall>,
    },
    /// `dedup_trigger`: start, end and time of the request, and how far back it may reach, in milliseconds.
    Dedup {
        slot: usize,
        columns: [Bound; 3],
        expire: i64,
    },
    /// Rows made of the parts of an output column.
    Rows {
        func: &'static str,
        column: usize,
        /// The output columns that an entry of an object can replace.
        named: Vec<(Text, usize)>,
        /// The output column for all other entries.
        rest: usize,
        /// Rows an emission, at most.
        limit: Option<usize>,
    },
    Project {
        aliases: Vec<(usize, Text, Bound)>,
        columns: Vec<OutputColumn>,
    },
    /// Of a rule made of a graph: all that its nodes do.
    Paths(Box<Paths>),
}

/// When the rows of a rule happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamps {
    /// One a stream; tables have none.
    pub of: Vec<Stamp>,
    /// The slot that says which stream a row is of; `None` where there is one.
    pub source: Option<usize>,
}

/// The column that says when the rows of a stream happened (`TIMESTAMP`).
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// Its place among the sources of the plan.
    pub source: usize,
    /// What the statement calls it.
    pub stream: Text,
    pub column: Text,
    pub slot: usize,
    /// `TIMESTAMP_FORMAT`
    pub format: Option<Text>,
}

/// A column that is found whatever its case.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub name: Text,
    /// Slot of the column of exactly that name.
    pub exact: usize,
    /// Slot that the statement reads.
    pub slot: usize,
}

/// A column that is read without the name of its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    pub name: Text,
    /// Slot of the column of the source.
    pub from: usize,
    /// Slot for the column of any source.
    pub slot: usize,
}

/// The clause that a condition or an alias is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    Where,
    Filter,
    Group,
    Having,
    Order,
}

impl Clause {
    /// What stands before the text of an error that arises there.
    pub fn stage(self) -> &'static str {
        match self {
            Clause::Where => "run Where error: ",
            Clause::Filter => "run Filter error: ",
            Clause::Group => "run Group By error: ",
            Clause::Having => "run Having error: ",
            Clause::Order => "run Order By error: ",
        }
    }
}

/// Rows brought together, and what is computed of each group.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    pub keys: Vec<Bound>,
    pub calls: Vec<Aggregated>,
    /// WHERE of a window that brings its rows together itself although WHERE comes behind it.
    pub filter: Option<Bound>,
}

impl Grouping {
    /// Whether it reads the bounds of the window.
    pub fn reads(&self, bounds: &Bounds) -> bool {
        let of_calls = self.calls.iter().flat_map(|call| call.args.iter().chain(&call.filter));
        let slots: Vec<usize> = self.keys.iter().chain(&self.filter).chain(of_calls).flat_map(Bound::slots).collect();
        [bounds.start, bounds.end, bounds.trigger].into_iter().flatten().any(|slot| slots.contains(&slot))
    }
}

/// One call of a plugin's function.
#[derive(Clone)]
pub struct GuestCall {
    pub func: &'static Func,
    pub args: Vec<Bound>,
    pub slot: usize,
    /// Of the call in the statement.
    pub number: u64,
}

impl std::fmt::Debug for GuestCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Bound::Call(self.func, self.args.clone(), 0))
    }
}

/// A part of the step of analytic calls.
#[derive(Clone, Debug)]
pub enum AnalyticStep {
    /// Aliases that a later part reads: slot, name, expression.
    Aliases(Vec<(usize, Text, Bound)>),
    Call(AnalyticCall),
}

/// One call of an analytic function.
#[derive(Clone)]
pub struct AnalyticCall {
    pub func: &'static Func,
    pub args: Vec<Bound>,
    pub partition: Vec<Bound>,
    pub when: Option<Bound>,
    pub slot: usize,
}

impl AnalyticCall {
    /// All its expressions.
    pub fn parts(&self) -> impl Iterator<Item = &Bound> {
        self.args.iter().chain(&self.partition).chain(&self.when)
    }
}

impl std::fmt::Debug for AnalyticCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Bound::Call(self.func, self.args.clone(), 0))?;
        let mut over: Vec<String> = Vec::new();
        if !self.partition.is_empty() {
            let keys: Vec<String> = self.partition.iter().map(ToString::to_string).collect();
            over.push(format!("PARTITION BY {}", keys.join(", ")));
        }
        over.extend(self.when.as_ref().map(|when| format!("WHEN {when}")));
        if over.is_empty() { Ok(()) } else { write!(f, " OVER ({})", over.join(" ")) }
    }
}

/// One call of a function that counts hits.
#[derive(Clone, Debug)]
pub struct HitCall {
    pub func: &'static str,
    pub slot: usize,
}

/// One call of `row_number`.
#[derive(Clone, Debug)]
pub struct NumberCall {
    pub partition: Vec<Bound>,
    /// Keys, and whether each is descending.
    pub order: Vec<(Bound, bool)>,
    pub slot: usize,
}

/// One call of `changed_cols`.
#[derive(Clone)]
pub struct ColumnsCall {
    pub prefix: Bound,
    pub ignore_null: Bound,
    /// Names without the prefix; `*` stands for all columns of the row.
    pub columns: Vec<(Text, Bound)>,
    pub slot: usize,
}

impl std::fmt::Debug for ColumnsCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns: Vec<String> = self.columns.iter().map(|(_, bound)| bound.to_string()).collect();
        write!(f, "changed_cols({}, {}, {})", self.prefix, self.ignore_null, columns.join(", "))
    }
}

/// One aggregate call.
#[derive(Clone)]
pub struct Aggregated {
    pub func: &'static Func,
    pub args: Vec<Bound>,
    pub distinct: bool,
    pub filter: Option<Bound>,
    pub slot: usize,
    /// Of the call in the statement, where it is of a plugin's function.
    pub number: u64,
}

impl Aggregated {
    /// Whether both give the same, whatever slots they write to.
    pub fn is_same(&self, other: &Aggregated) -> bool {
        std::ptr::eq(self.func, other.func)
            && self.distinct == other.distinct
            && self.args == other.args
            && self.filter == other.filter
    }
}

impl std::fmt::Debug for Aggregated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let args: Vec<String> = self.args.iter().map(ToString::to_string).collect();
        write!(f, "{}({distinct}{})", self.func.name, args.join(", "))
    }
}

/// One column of the output.
#[derive(Clone, Debug)]
pub struct OutputColumn {
    pub name: Text,
    pub expr: Bound,
    /// A column of the stream as it is: an absent one stays absent, a null stays null.
    pub plain: bool,
    /// A null is written, and a missing column becomes one.
    pub keep_null: bool,
    /// `*`: the entries are columns of their own.
    pub spread: bool,
    /// The slot of the column of that name that `*` stands for, which shows where the expression gives null.
    pub or: Option<usize>,
    /// It came of a `*`: its text, and nothing for the further columns of the same one.
    pub star: Option<Text>,
}

impl OutputColumn {
    /// An expression under a name; null is left out.
    pub fn new(name: Text, expr: Bound) -> Self {
        OutputColumn { name, expr, plain: false, keep_null: false, spread: false, or: None, star: None }
    }

    /// The entries of an object are columns of their own.
    pub fn spread(expr: Bound) -> Self {
        OutputColumn { spread: true, ..OutputColumn::new(Text::const_new("*"), expr) }
    }
}
