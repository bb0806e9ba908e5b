//! `*` as the columns that it stands for, so that no object is made of a row.

use std::collections::{HashMap, HashSet};

use crate::data::Text;
use crate::expr::{Bound, RowShape};

use super::node::OutputColumn;

/// Puts the columns of the row in the place of each `*`, and behind them the object of those that no one named. A named
/// column of the same name wins, unless it is null.
///
/// Where objects of several sources, or of functions that give columns, stand side by side it stays as it is: which of
/// them wins is known only when the row is there.
pub fn expand(columns: &mut Vec<OutputColumn>) {
    if !columns.iter().filter(|column| column.spread).all(|column| shape(column).is_some_and(is_plain)) {
        return;
    }
    let named: HashMap<Text, usize> = columns
        .iter()
        .filter(|column| !column.spread)
        .enumerate()
        .map(|(place, column)| (column.name.clone(), place))
        .collect();
    let mut stars = HashMap::new();
    let mut shown: HashSet<usize> = HashSet::new();
    let mut made: Vec<OutputColumn> = Vec::with_capacity(columns.len());
    for column in std::mem::take(columns) {
        let Some(shape) = shape(&column) else {
            made.push(column);
            continue;
        };
        // What explain shows of it stands at its first column.
        let mut star = Some(Text::new(column.expr.to_string()));
        let except: HashSet<&Text> = shape.except.iter().collect();
        for (name, slot) in shape.columns.iter().filter(|(name, _)| !except.contains(name)) {
            if named.contains_key(name) {
                stars.insert(name.clone(), *slot);
            } else if shown.insert(*slot) {
                made.push(one(name.clone(), *slot, false, &mut star));
            }
        }
        for rest in shape.rest.iter().filter(|rest| shown.insert(**rest)) {
            made.push(one(Text::const_new("*"), *rest, true, &mut star));
        }
    }
    for column in made.iter_mut().filter(|column| column.star.is_none() && !column.plain && !column.keep_null) {
        column.or = stars.get(&column.name).copied();
    }
    *columns = made;
}

fn one(name: Text, slot: usize, spread: bool, star: &mut Option<Text>) -> OutputColumn {
    let star = Some(star.take().unwrap_or_default());
    OutputColumn { expr: Bound::Slot(slot, name.clone()), name, plain: true, keep_null: false, spread, or: None, star }
}

fn shape(column: &OutputColumn) -> Option<&RowShape> {
    match &column.expr {
        Bound::Row(shape) if column.spread => Some(shape),
        _ => None,
    }
}

/// One object at most, of which nothing is to be left out.
fn is_plain(shape: &RowShape) -> bool {
    let columns: HashSet<&Text> = shape.columns.iter().map(|(name, _)| name).collect();
    shape.rest.is_empty() || (shape.rest.len() == 1 && shape.except.iter().all(|name| columns.contains(name)))
}
