//! The order of rows and their numbers in it, by comparing them with one another: sections 11.5 and 13.3 of the reference.

use std::cmp::Ordering;

use kuiper::data::Value;
use kuiper::func::{Body, Special};
use kuiper::sql::{BinaryOp, Expr, ExprNode, Over};

use super::analytic::printed;
use super::expr::{compared, eval, order};
use super::query::{Got, Query, Scope, fails};

/// The calls of `row_number` in the statement with what stands behind OVER.
pub fn numbered(query: &Query) -> Vec<(u32, Option<&Over>)> {
    fn find<'a>(query: &Query, expr: &'a Expr, found: &mut Vec<(u32, Option<&'a Over>)>) {
        if let ExprNode::Call(call) = &expr.node
            && matches!(query.func(call).body, Body::Special(Special::RowNumber))
        {
            found.push((expr.span.start, call.over.as_ref()));
        }
        expr.parts(&mut |part| find(query, part, found));
    }
    let mut found = Vec::new();
    query.select.fields.iter().for_each(|field| find(query, &field.expr, &mut found));
    found
}

/// The number of each row, or group, among those of its part that stand before it in the order.
pub fn places(over: Option<&Over>, scopes: &[Scope<'_>]) -> Got<Vec<i64>> {
    let none = (&[][..], &[][..]);
    let (partition, order) = over.map_or(none, |over| (&over.partition[..], &over.order[..]));
    let mut rows = Vec::new();
    for (n, scope) in scopes.iter().enumerate() {
        let keys: Vec<Value> = order.iter().map(|sort| eval(&sort.expr, scope)).collect::<Got<_>>()?;
        let part: Vec<Value> = partition.iter().map(|key| eval(key, scope)).collect::<Got<_>>()?;
        rows.push((keys, (n, part)));
    }
    sort(&mut rows, &order.iter().map(|sort| sort.descending).collect::<Vec<_>>())?;
    let mut numbers = vec![0; scopes.len()];
    for (place, (_, (n, part))) in rows.iter().enumerate() {
        let before = rows[..place].iter().filter(|(_, (_, other))| other.iter().zip(part).all(|(a, b)| is_same(a, b)));
        numbers[*n] = before.count() as i64 + 1;
    }
    Ok(numbers)
}

/// Whether two rows are of one part by this key: equal numbers are, whatever their signs of zero, and NULL and NULL.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a.is_null(), b.is_null()) {
        (false, false) => compared(BinaryOp::Eq, a, b).unwrap_or_else(|_| printed(a) == printed(b)),
        (a, b) => a == b,
    }
}

/// ORDER BY: NULL is last in both directions, equal rows stay as they are; the kinds of a key must fit.
pub fn sort<T>(rows: &mut [(Vec<Value>, T)], descending: &[bool]) -> Got<()> {
    for n in 0..descending.len() {
        let keys: Vec<&Value> = rows.iter().map(|(keys, _)| &keys[n]).filter(|key| !key.is_null()).collect();
        for key in &keys {
            match key {
                Value::Bool(_) if matches!(keys[0], Value::Bool(_)) => {}
                Value::Array(_) | Value::Object(_) => return fails("ORDER BY an array or object"),
                _ => drop(order(keys[0], key)?),
            }
        }
    }
    rows.sort_by(|(a, _), (b, _)| {
        let mut keys = descending.iter().zip(a.iter().zip(b));
        keys.find_map(|(descending, (a, b))| {
            let found = match (a, b) {
                (Value::Null, Value::Null) => return None,
                (Value::Null, _) => return Some(Ordering::Greater),
                (_, Value::Null) => return Some(Ordering::Less),
                (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
                (a, b) => order(a, b).unwrap_or(Ordering::Equal),
            };
            Some(if *descending { found.reverse() } else { found }).filter(|found| found.is_ne())
        })
        .unwrap_or(Ordering::Equal)
    });
    Ok(())
}
