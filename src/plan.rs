//! From a statement to a plan: names bound to slots, clauses turned into nodes, every finding collected.
//!
//! A [`Plan`] is pure data: what the decoder is to fill, the nodes from source to projection, and the layout of what
//! leaves. Planning touches no network, no disk and no clock; `flow` turns nodes into operators. The order of the nodes
//! is that of the reference: source, WHERE, FILTER, window, HAVING, ORDER BY, LIMIT, SELECT.

mod build;
mod explain;
mod guests;
mod node;
mod scope;
mod window;

use crate::data::{Kind, Text};
use crate::diag::Diagnostic;
use crate::func::Catalogue;
use crate::sql::{Create, Select, What};

pub use explain::explain;
pub use node::{Aggregated, Clause, Grouping, GuestCall, Node, OutputColumn, Plan};
pub use window::{Window, Windowed};

/// What planning needs to know of a stream or table.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    pub name: Text,
    pub what: What,
    /// Empty: schemaless.
    pub columns: Vec<(Text, Kind)>,
    /// `FORMAT="binary"`: the one column is `self`, unless another is declared.
    pub binary: bool,
}

impl Stream {
    pub fn of(create: &Create) -> Self {
        let columns: Vec<_> =
            create.columns.iter().map(|column| (column.name.name.clone(), column.kind.clone())).collect();
        let format = create.options.iter().rfind(|option| option.key == "FORMAT");
        let binary = format.is_some_and(|option| option.value.eq_ignore_ascii_case("binary"));
        Stream { name: create.name.name.clone(), what: create.what, columns, binary }
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
    /// `basic.ignoreCase`: a name that no column, entry or metadata key has exactly fits one that differs by case.
    pub ignore_case: bool,
}

/// Plans a statement over the streams that it names; `find` gives their definitions.
pub fn plan(
    select: &Select,
    find: &dyn Fn(&str) -> Option<Stream>,
    funcs: &Catalogue,
    options: &Options,
) -> Result<Plan, Vec<Diagnostic>> {
    build::plan(select, find, funcs, options)
}
