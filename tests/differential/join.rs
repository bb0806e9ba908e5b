//! Joins, by comparing all pairs: chapter 7 of the reference.

use std::rc::Rc;

use kuiper::sql::{Expr, JoinKind};

use super::expr::{condition, eval};
use super::query::{Got, Query, Row, Scope, Tuple, fails};

/// RETAIN_SIZE of the tables that are generated.
pub const RETAINED: usize = 3;

/// The name of every table that is generated begins so.
pub fn is_table(name: &str) -> bool {
    name.starts_with("table")
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
    for join in &select.joins {
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
