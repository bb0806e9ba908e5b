//! What a window keeps of its rows, and why: for explain.

use crate::data::Text;
use crate::func::Body;

use super::node::{Aggregated, Clause, Node};
use super::window::{Window, Windowed};

/// For example `accumulators`, or `rows, since they are joined`. `behind` are the nodes that the window feeds.
pub fn keeping(windowed: &Windowed, behind: &[Node]) -> String {
    let Some(grouping) = &windowed.grouping else {
        return format!("rows, since {}", reason(windowed, behind));
    };
    let Window::Hopping { .. } = windowed.window else { return "accumulators".into() };
    if !windowed.boundless {
        return "rows, since what is computed reads the bounds of the window".into();
    }
    match grouping.calls.iter().find(|call| !joins(call)) {
        Some(call) => format!("rows, since `{call:?}` of two parts of a window cannot be put together"),
        None => "accumulators, one for each part that its windows share".into(),
    }
}

fn reason(windowed: &Windowed, behind: &[Node]) -> &'static str {
    let grouped = behind.iter().any(|node| matches!(node, Node::Group { .. }));
    let upto = behind.iter().take_while(|node| !matches!(node, Node::Group { .. }));
    let mut joined = false;
    for node in upto {
        match node {
            Node::Join(_) | Node::Lookup(_) => joined = true,
            Node::Filter { clause: Clause::Where, .. } | Node::Counted { clause: Clause::Where, .. }
                if !joined && windowed.window.is_incremental() =>
            {
                return "WHERE looks at those of the finished window";
            }
            _ => {}
        }
    }
    match (joined, grouped, windowed.window.is_incremental()) {
        (true, ..) => "they are joined",
        (_, false, _) => "they are given out",
        (_, _, true) => "`incrementalWindow` is switched off",
        (_, _, false) => "windows of this kind share them",
    }
}

/// Whether what came of some rows and what came of later ones can be put together.
fn joins(call: &Aggregated) -> bool {
    let takes = match call.func.body {
        Body::Aggregate(start) => start().takes(),
        Body::GuestAggregate(start) => start(&Text::default(), 0).takes(),
        _ => false,
    };
    takes && !call.distinct
}
