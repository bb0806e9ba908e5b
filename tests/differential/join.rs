//! Joins, by comparing all pairs: chapter 7 of the reference.

use std::rc::Rc;

use kuiper::data::Value;
use kuiper::sql::{BinaryOp, Expr, ExprNode, Join, JoinKind};

use super::expr::{condition, eval};
use super::query::{Got, Query, Row, Scope, Tuple, fails};

/// RETAIN_SIZE of the tables that are generated.
pub const RETAINED: usize = 3;

/// The name of every table that is generated begins so.
pub fn is_table(name: &str) -> bool {
    name.starts_with("table")
}

/// The name of every lookup table that is generated begins so.
pub fn is_lookup(name: &str) -> bool {
    name.starts_with("lookup")
}

/// What a lookup table is told.
pub struct Told {
    pub row: Rc<Row>,
    pub delete: bool,
}

/// The rows of a lookup table behind so many changes: one a key, in the order in which the keys came.
pub fn content<'a>(told: impl Iterator<Item = &'a Told>) -> Vec<Rc<Row>> {
    let mut rows: Vec<Rc<Row>> = Vec::new();
    for Told { row, delete } in told {
        let key = |row: &Row| row.data.get("id").cloned().unwrap_or(Value::Null);
        let place = rows.iter().position(|known| same(&key(known), &key(row)));
        match (place, delete) {
            (Some(place), false) => rows[place] = row.clone(),
            (Some(place), true) => drop(rows.remove(place)),
            (None, false) => rows.push(row.clone()),
            (None, true) => {}
        }
    }
    rows
}

/// Numbers are the same whatever their kind.
fn same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Each row with the rows of a lookup table that are equal in all columns that ON compares, and fulfil the rest of it.
fn looked_up(
    query: &Query,
    join: &Join,
    left: Vec<Tuple>,
    table: &[Rc<Row>],
    bounds: Option<(i64, i64)>,
) -> Got<Vec<Tuple>> {
    let name = &join.source.name.name;
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    for part in join.on.iter().flat_map(conjuncts) {
        let column = |of: &Expr| match &of.node {
            ExprNode::Dotted(source, column) if source == name => Some(column.clone()),
            _ => None,
        };
        match &part.node {
            ExprNode::Binary(BinaryOp::Eq, a, b) => match (column(a), column(b)) {
                (Some(column), _) => keys.push((column, &**b)),
                (_, Some(column)) => keys.push((column, &**a)),
                _ => others.push(part),
            },
            _ => others.push(part),
        }
    }
    let mut made = Vec::new();
    for row in left {
        let scope = Scope { query, tuple: &row, group: None, bounds, numbers: None, within: None, aggregated: false };
        let wanted: Got<Vec<Value>> = keys.iter().map(|(_, of)| eval(of, &scope)).collect();
        let wanted = wanted?;
        let before = made.len();
        let fits = |found: &&Rc<Row>| {
            keys.iter().zip(&wanted).all(|((column, _), wanted)| {
                let own = found.data.get(column).cloned().unwrap_or(Value::Null);
                !wanted.is_null() && !own.is_null() && same(&own, wanted)
            })
        };
        for found in table.iter().filter(fits) {
            let both: Tuple = row.iter().chain([found]).cloned().collect();
            let mut all = true;
            for other in &others {
                all = all && holds(query, other, &both, bounds)?;
            }
            if all {
                made.push(both);
            }
        }
        if made.len() == before && join.kind == JoinKind::Left {
            made.push(row);
        }
    }
    Ok(made)
}

/// What must hold together.
pub fn conjuncts(on: &Expr) -> Vec<&Expr> {
    match &on.node {
        ExprNode::Binary(BinaryOp::And, a, b) => [conjuncts(a), conjuncts(b)].concat(),
        _ => vec![on],
    }
}

/// The rows of a window, and of tables, joined as the statement says. The parts of a joined row stand in the order in
/// which their columns count: what a RIGHT JOIN brings first, else as the sources are written.
pub fn joined(query: &Query, rows: &[Tuple], tables: &[Rc<Row>], bounds: Option<(i64, i64)>) -> Got<Vec<Tuple>> {
    let of = |name: &str| -> Vec<Rc<Row>> {
        let streams = rows.iter().map(|tuple| &tuple[0]);
        streams.chain(tables).filter(|row| row.stream == name).cloned().collect()
    };
    let select = &query.select;
    let mut left: Vec<Tuple> = of(&select.from.name.name).into_iter().map(|row| vec![row]).collect();
    for join in select.joins.iter().filter(|join| !is_lookup(&join.source.name.name)) {
        let right = of(&join.source.name.name);
        let both = |left: &Tuple, right: &Rc<Row>| -> Tuple {
            let (left, right) = (left.iter().cloned(), std::iter::once(right.clone()));
            if join.kind == JoinKind::Right { right.chain(left).collect() } else { left.chain(right).collect() }
        };
        let mut pairs = vec![vec![false; right.len()]; left.len()];
        for (l, pairs) in left.iter().zip(&mut pairs) {
            for (r, pair) in right.iter().zip(pairs) {
                *pair = match &join.on {
                    Some(on) => holds(query, on, &both(l, r), bounds)?,
                    None => true,
                };
            }
        }
        let mut made = Vec::new();
        if join.kind == JoinKind::Right {
            for (r, row) in right.iter().enumerate() {
                let matches = (0..left.len()).filter(|l| pairs[*l][r]);
                let before = made.len();
                made.extend(matches.map(|l| both(&left[l], row)));
                if made.len() == before {
                    made.push(vec![row.clone()]);
                }
            }
        } else {
            for (l, row) in left.iter().enumerate() {
                let matches = (0..right.len()).filter(|r| pairs[l][*r]);
                let before = made.len();
                made.extend(matches.map(|r| both(row, &right[r])));
                if made.len() == before && matches!(join.kind, JoinKind::Left | JoinKind::Full) {
                    made.push(row.clone());
                }
            }
            if join.kind == JoinKind::Full {
                let lonely = (0..right.len()).filter(|r| pairs.iter().all(|pairs| !pairs[*r]));
                made.extend(lonely.map(|r| vec![right[r].clone()]));
            }
        }
        left = made;
    }
    // Whatever the order in the text, lookup tables are asked last.
    for join in select.joins.iter().filter(|join| is_lookup(&join.source.name.name)) {
        left = looked_up(query, join, left, &of(&join.source.name.name), bounds)?;
    }
    Ok(left)
}

/// ON must be true or false.
fn holds(query: &Query, on: &Expr, tuple: &Tuple, bounds: Option<(i64, i64)>) -> Got<bool> {
    let scope = Scope { query, tuple, group: None, bounds, numbers: None, within: None, aggregated: false };
    match condition(&eval(on, &scope)?)? {
        Some(yes) => Ok(yes),
        None => fails("ON is NULL"),
    }
}
