//! From a statement to a plan: names bound to slots, clauses turned into nodes, every finding collected.
//!
//! A [`Plan`] is pure data: what the decoder is to fill, the nodes from source to projection, and the layout of what
//! leaves. Planning touches no network, no disk and no clock; `flow` turns nodes into operators. The order of the nodes
//! is that of the reference: source, watermark, analytic functions, WHERE, FILTER, window, HAVING, row numbers, ORDER BY,
//! LIMIT, changed columns, SELECT, rows made of a column. Where a statement joins, its sources have a branch of nodes each,
//! which come together before the window, or at the join behind it; lookup tables are asked last, and then comes WHERE, of
//! which what concerns one source may have moved to that source.

mod aliases;
mod build;
mod calls;
mod event_time;
mod explain;
mod findings;
mod graph;
mod guests;
mod join;
mod keeping;
mod node;
mod scope;
mod sources;
mod special;
mod star;
#[cfg(test)]
mod tests;
mod window;

use std::collections::HashMap;
use std::time::Duration;

use crate::data::{Kind, Text, Value};
use crate::diag::Diagnostic;
use crate::expr::constant;
use crate::func::Catalogue;
use crate::sql::{ColumnDef, Create, Select, What};

pub use calls::check as check_calls;
pub use explain::{explain, steps};
pub use graph::{Graph, GraphSink, GraphSource, HIDDEN, Input, Path, Paths, Stage, plan_graph};
pub use join::{Join, Joined, LookupJoin};
pub use node::{
    Aggregated, AnalyticCall, AnalyticStep, Clause, ColumnsCall, Grouping, GuestCall, HitCall, Node, NumberCall,
    OutputColumn, Plan, Resolved, Shared, Source, SourceKind, Stamp, Stamps,
};
pub use window::{Window, Windowed};

/// What planning needs to know of a stream or table.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    pub name: Text,
    pub what: What,
    /// Empty: schemaless.
    pub columns: Vec<StreamColumn>,
    /// `FORMAT="binary"`: the one column is `self`, unless another is declared.
    pub binary: bool,
    /// `STRICT_VALIDATION`: declared columns are converted to their types, or the row fails.
    pub strict: bool,
    /// `TEMP`: for temporary rules alone.
    pub temporary: bool,
    /// `TIMESTAMP_FORMAT`: how datetimes are written; empty: in any of the known ways.
    pub timestamp_format: Text,
    /// `TIMESTAMP`: the column that says when a row happened; empty: none does.
    pub timestamp: Text,
    /// How its rows take part in a rule.
    pub kind: SourceKind,
}

/// A declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamColumn {
    pub name: Text,
    pub kind: Kind,
    /// Stands in for a column that is not there, under strict validation.
    pub default: Option<Value>,
}

impl Stream {
    /// A stream that declares nothing.
    pub fn schemaless(name: &str) -> Self {
        Stream {
            name: name.into(),
            what: What::Stream,
            columns: Vec::new(),
            binary: false,
            strict: false,
            temporary: false,
            timestamp_format: Text::default(),
            timestamp: Text::default(),
            kind: SourceKind::Stream,
        }
    }

    pub fn is_table(&self) -> bool {
        self.what == What::Table
    }

    pub fn of(create: &Create) -> Self {
        let option = |key: &str| create.options.iter().rfind(|option| option.key == key).map(|option| &option.value);
        Stream {
            name: create.name.name.clone(),
            what: create.what,
            columns: create.columns.iter().map(StreamColumn::of).collect(),
            binary: option("FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("binary")),
            strict: option("STRICT_VALIDATION").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            temporary: option("TEMP").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            timestamp_format: option("TIMESTAMP_FORMAT").cloned().unwrap_or_default(),
            timestamp: option("TIMESTAMP").cloned().unwrap_or_default(),
            kind: match create.what {
                What::Stream => SourceKind::Stream,
                What::Table if option("KIND").is_some_and(|kind| kind.eq_ignore_ascii_case("lookup")) => {
                    SourceKind::Lookup
                }
                What::Table => {
                    let written = option("RETAIN_SIZE").and_then(|rows| rows.parse().ok());
                    SourceKind::Scan { retain: retained(written, option("TYPE").map(Text::as_str)) }
                }
            },
        }
    }
}

/// The rows that a scan table keeps: as many as are written, else one, or many where they are read from a file.
pub fn retained(written: Option<usize>, connector: Option<&str>) -> usize {
    let usual = if matches!(connector, None | Some("" | "file")) { 9999 } else { 1 };
    written.filter(|rows| *rows > 0).unwrap_or(usual)
}

impl StreamColumn {
    pub fn of(column: &ColumnDef) -> Self {
        let default = column.default.as_ref().map(constant);
        StreamColumn { name: column.name.name.clone(), kind: column.kind.clone(), default }
    }
}

/// Options of a rule that change the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `sendNilField`
    pub send_nil: bool,
    /// `sendMetaToSink`
    pub send_meta: bool,
    /// `planOptimizeStrategy.windowOption.windowVersion` is `v2`: a row that is exactly the length of a sliding window
    /// older than its trigger is outside.
    pub windows_v2: bool,
    /// `planOptimizeStrategy.windowOption.enableSendSlidingWindowTwice`: a sliding window with a delay is given out in two
    /// parts, up to the row that triggers it and behind that.
    pub sliding_twice: bool,
    /// `basic.ignoreCase`: a name that no column, entry or metadata key has exactly fits one that differs by case.
    pub ignore_case: bool,
    /// `planOptimizeStrategy.disableAliasRefCal`: a name means an alias only behind the place where the alias stands.
    pub aliases_in_order: bool,
    pub disabled: Disabled,
    /// The rows come in sets, as a window gives them, though no window stands in the statement.
    pub sets: bool,
    /// `temp`: the rule is gone with the process, and may read streams that are.
    pub temporary: bool,
    /// `isEventTime`: rows count by the time at which they happened.
    pub event_time: Option<EventTime>,
}

/// How event time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// `lateTolerance`: how far the watermark stays behind the newest row.
    pub tolerance: Duration,
    /// `idleTimeout`: a stream without rows for so long holds nothing up.
    pub patience: Option<Duration>,
}

impl Default for EventTime {
    fn default() -> Self {
        EventTime { tolerance: Duration::from_secs(1), patience: None }
    }
}

/// What is done to a plan to make it cheaper, and a rule can switch off
/// (`planOptimizeStrategy.optimizeControl.disableOptimizeRules`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disabled {
    /// `predicatePushDown`: WHERE looks at the rows of finished windows, so that a row that it takes out counts there.
    pub push_down: bool,
    /// `columnPruner`: all declared columns are decoded, so that a wrong value in any of them fails the message.
    pub pruning: bool,
    /// `incrementalWindow`: windows keep rows, never accumulators in their place.
    pub incremental: bool,
}

impl Disabled {
    /// The names that can be switched off; what `push_alias` is in eKuiper is never done here.
    pub const NAMES: [&str; 4] = ["columnPruner", "predicatePushDown", "push_alias", "incrementalWindow"];

    /// Switches one off; false where there is none of that name.
    pub fn add(&mut self, name: &str) -> bool {
        match name {
            "columnPruner" => self.pruning = true,
            "predicatePushDown" => self.push_down = true,
            "incrementalWindow" => self.incremental = true,
            "push_alias" => {}
            _ => return false,
        }
        true
    }
}

/// What is told of a statement that has no window and needs one: for keys of GROUP BY, and for a join of streams.
const NEEDS_WINDOW: [&str; 2] = ["K0208", "K0252"];

/// Plans a statement over the streams that it names; `find` gives their definitions.
pub fn plan(
    select: &Select,
    find: &dyn Fn(&str) -> Option<Stream>,
    funcs: &Catalogue,
    options: &Options,
) -> Result<Plan, Vec<Diagnostic>> {
    let calls = check_calls(select, funcs);
    match build::plan(select, find, funcs, options) {
        Ok(plan) if calls.is_empty() => Ok(plan),
        Ok(_) => Err(calls),
        Err(mut found) => {
            if found.iter().any(|one| one.code == "K0201") {
                // What else is wrong is told too; of a stream that is not there nothing is known.
                let any = |name: &str| find(name).or_else(|| Some(Stream::schemaless(name)));
                merge(&mut found, build::plan(select, &any, funcs, options).err().unwrap_or_default());
            }
            merge(&mut found, calls);
            if calls::misspelt_window(select, funcs) {
                // The window that is missed is the one that is misspelt.
                found.retain(|one| !NEEDS_WINDOW.contains(&one.code));
            }
            found.sort_by_key(|one| one.span.map_or(0, |span| span.start));
            Err(found)
        }
    }
}

/// Adds what is not told already, of the same place or a part of it.
fn merge(found: &mut Vec<Diagnostic>, more: Vec<Diagnostic>) {
    // Of each code the places in their order, each with the furthest end of those up to it.
    let mut told: HashMap<&str, Vec<(u32, u32)>> = HashMap::new();
    for one in &*found {
        told.entry(one.code).or_default().extend(one.span.map(|span| (span.start, span.end)));
    }
    for places in told.values_mut() {
        places.sort_unstable();
        let mut furthest = 0;
        for (_, end) in places {
            furthest = furthest.max(*end);
            *end = furthest;
        }
    }
    let is_told = |one: &Diagnostic| {
        let Some(span) = one.span else {
            return found.iter().any(|other| other.code == one.code && other.span.is_none());
        };
        let Some(places) = told.get(one.code) else { return false };
        let before = places.partition_point(|(start, _)| *start < span.end);
        before.checked_sub(1).is_some_and(|last| places[last].1 > span.start)
    };
    let new: Vec<Diagnostic> = more.into_iter().filter(|one| !is_told(one)).collect();
    found.extend(new);
}
