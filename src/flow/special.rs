use crate::data::Text;
use crate::diag::{Fault, Result};
use crate::expr::{Bound, Predicate, Program};
use crate::op::{
    Analytic, AnalyticCall, AnalyticStep, Column, Columns, ColumnsCall, Counted, CountedSets, Counters, Dedup, Filter,
    Having, Number, NumberCall, Operator, Unnest,
};
use crate::plan::{self, Clause, Node};

use super::chain::{computed, order_keys};

fn programs(bounds: &[Bound]) -> Vec<Program> {
    bounds.iter().map(Program::new).collect()
}

fn is_row(bound: &Bound) -> bool {
    matches!(bound, Bound::Row(_) | Bound::Replaced(..))
}

/// The operators of functions that have a step of their own.
pub(super) fn operator(node: &Node) -> Result<Box<dyn Operator>> {
    Ok(match node {
        Node::Analytic { steps, only } => Box::new(Analytic::new(steps.iter().flat_map(analytic).collect(), *only)),
        Node::Counted { hits, aliases, predicate, clause, sets, trigger } => {
            let counters = Counters::new(hits.iter().map(|call| (call.func, call.slot)));
            let (aliases, predicate) = (computed(aliases), Predicate::new(predicate));
            let stage = clause.stage();
            match (clause, sets) {
                (_, false) => Box::new(Counted::new(counters, aliases, predicate, stage)),
                (Clause::Having, true) => {
                    Box::new(CountedSets::new(counters, aliases, Having::new(predicate), stage, *trigger))
                }
                (_, true) => {
                    Box::new(CountedSets::new(counters, aliases, Filter::new(predicate, stage), stage, *trigger))
                }
            }
        }
        Node::Number { calls } => {
            let call = |call: &plan::NumberCall| {
                NumberCall::new(call.slot, programs(&call.partition), order_keys(&call.order))
            };
            Box::new(Number::new(calls.iter().map(call).collect()))
        }
        Node::Columns { calls } => Box::new(Columns::new(calls.iter().map(columns).collect())),
        Node::Dedup { slot, columns, expire } => {
            Box::new(Dedup::new(*slot, columns.each_ref().map(Program::new), *expire))
        }
        Node::Rows { func, column, named, rest, limit } => {
            Box::new(Unnest::new(func, *column, named.clone(), *rest, *limit))
        }
        other => return Err(Fault::bug(format!("{other:?} is no step of a special function"))),
    })
}

fn analytic(step: &plan::AnalyticStep) -> Vec<AnalyticStep> {
    match step {
        plan::AnalyticStep::Aliases(aliases) => computed(aliases).into_iter().map(AnalyticStep::Alias).collect(),
        plan::AnalyticStep::Call(call) => {
            let rows = call.args.iter().enumerate().filter(|(_, arg)| is_row(arg)).map(|(place, _)| place).collect();
            let when = call.when.as_ref().map(Predicate::new);
            let (args, partition) = (programs(&call.args), programs(&call.partition));
            vec![AnalyticStep::Call(AnalyticCall::new(call.slot, call.func, args, rows, partition, when))]
        }
    }
}

fn columns(call: &plan::ColumnsCall) -> ColumnsCall {
    let column = |(name, bound): &(Text, Bound)| match is_row(bound) {
        true => Column::All(Program::new(bound)),
        false => Column::Named(name.clone(), Program::new(bound)),
    };
    let (prefix, ignore_null) = (Program::new(&call.prefix), Program::new(&call.ignore_null));
    ColumnsCall::new(call.slot, prefix, ignore_null, call.columns.iter().map(column).collect())
}
