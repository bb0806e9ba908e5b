use crate::codec::Wanted;
use crate::data::{Layout, Text};
use crate::expr::{Bound, Bounds};
use crate::func::Func;

use super::window::Windowed;

use super::StreamColumn;

/// A statement, planned.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stream: Text,
    /// What the decoder fills.
    pub wanted: Wanted,
    /// The rule reads metadata.
    pub meta: bool,
    /// Slots of a row on its way through the nodes before the projection.
    pub width: usize,
    /// From the source to the projection, which is the last.
    pub nodes: Vec<Node>,
    /// What leaves the rule.
    pub layout: Layout,
    /// Each row that leaves is an emission of its own.
    pub windowless: bool,
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
    /// The rows of an emission brought together.
    Group {
        grouping: Grouping,
    },
    /// Aggregates over each row alone, or, within a window that gives out its rows, over each emission.
    Aggregate {
        grouping: Grouping,
        each_row: bool,
    },
    /// Keys, and whether each is descending.
    Order {
        keys: Vec<(Bound, bool)>,
    },
    Limit {
        rows: usize,
    },
    Project {
        aliases: Vec<(usize, Text, Bound)>,
        columns: Vec<OutputColumn>,
    },
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

/// The clause that a condition or an alias is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    Where,
    Filter,
    Group,
    Having,
}

impl Clause {
    /// What stands before the text of an error that arises there.
    pub fn stage(self) -> &'static str {
        match self {
            Clause::Where => "run Where error: ",
            Clause::Filter => "run Filter error: ",
            Clause::Group => "run Group By error: ",
            Clause::Having => "run Having error: ",
        }
    }
}

/// Rows brought together, and what is computed of each group.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    pub keys: Vec<Bound>,
    pub calls: Vec<Aggregated>,
}

impl Grouping {
    /// Whether it reads the bounds of the window.
    pub fn reads(&self, bounds: &Bounds) -> bool {
        let of_calls = self.calls.iter().flat_map(|call| call.args.iter().chain(&call.filter));
        let slots: Vec<usize> = self.keys.iter().chain(of_calls).flat_map(Bound::slots).collect();
        [bounds.start, bounds.end, bounds.trigger].into_iter().flatten().any(|slot| slots.contains(&slot))
    }
}

/// One call of a plugin's function.
#[derive(Clone)]
pub struct GuestCall {
    pub func: &'static Func,
    pub args: Vec<Bound>,
    pub slot: usize,
}

impl std::fmt::Debug for GuestCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Bound::Call(self.func, self.args.clone()))
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
}
