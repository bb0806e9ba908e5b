use crate::diag::{Fault, Result};
use crate::expr::{Bound, Predicate, Program};
use crate::op::{Join, JoinStep, Lookup, Operator};
use crate::plan::{self, Node, Plan};

/// The operators that join.
pub(super) fn operator(node: &Node, plan: &Plan) -> Result<Box<dyn Operator>> {
    Ok(match node {
        Node::Join(joined) => {
            let steps = joined.joins.iter().map(|join| step(join, plan.reads_meta())).collect();
            let (precedence, bounds) = (joined.precedence.clone(), joined.bounds);
            Box::new(Join::new(steps, &joined.tables, precedence, joined.source_slot, bounds, plan.width))
        }
        Node::Lookup(lookup) => {
            let keys = lookup.keys.iter().map(|(_, key)| Program::new(key)).collect();
            Box::new(Lookup::new(lookup.outer, keys, lookup.on.as_ref().map(Predicate::new), plan.width))
        }
        other => return Err(Fault::bug(format!("{other:?} joins nothing"))),
    })
}

fn step(join: &plan::Join, reads_meta: bool) -> JoinStep {
    let programs =
        |side: fn(&(Bound, Bound)) -> &Bound| join.keys.iter().map(|pair| Program::new(side(pair))).collect();
    let mut reads = join.on.as_ref().map_or_else(Vec::new, Bound::slots);
    reads.sort_unstable();
    reads.dedup();
    JoinStep {
        kind: join.kind,
        source: join.source,
        on: join.on.as_ref().map(Predicate::new),
        reads,
        meta: reads_meta && join.on.as_ref().is_some_and(|on| on.any(&may_read_meta)),
        left: programs(|pair| &pair.0),
        right: programs(|pair| &pair.1),
    }
}

/// An alias may read it in its own expression.
fn may_read_meta(bound: &Bound) -> bool {
    matches!(bound, Bound::Meta(_) | Bound::Alias(..))
}
