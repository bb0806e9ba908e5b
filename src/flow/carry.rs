//! What of a rule's state fits when the rule is changed: which operators go on with what which one knew, and how the rows
//! that it kept come into the slots of the new plan.
//!
//! Operators that do the same go on. Those that keep whole rows need rows with all columns that the new plan reads of
//! them; what is more is left out, and where a column stands does not matter. A column that the old plan did not read was
//! never decoded, so its rows cannot have it.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use crate::data::{Object, Text, Value, pack};
use crate::diag::Result;

/// An operator of the new plan that goes on with the state of one of the old.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    pub to: usize,
    pub from: usize,
    /// Where values of kept rows go; none where they stay.
    slots: Option<Slots>,
}

/// Where the values of a row go.
#[derive(Clone, Debug, PartialEq)]
struct Slots {
    width: i64,
    /// Old slot, new slot.
    moves: HashMap<Text, Text>,
}

/// Which operators go on with the state of which, in their order; both as [`crate::plan::steps`] says what they do.
pub fn carried(new: &[String], old: &[String]) -> Vec<Carry> {
    let mut taken = HashSet::new();
    let mut pairs: Vec<Carry> = Vec::new();
    for (to, does) in new.iter().enumerate() {
        let alike = |(from, theirs): &(usize, &String)| *theirs == does && !taken.contains(from);
        if let Some((from, _)) = old.iter().enumerate().find(alike) {
            taken.insert(from);
            pairs.push(Carry { to, from, slots: None });
        }
    }
    for (to, does) in new.iter().enumerate() {
        if pairs.iter().any(|pair| pair.to == to) {
            continue;
        }
        let fits = |(from, theirs): (usize, &String)| {
            let slots = moved(does, theirs).ok().flatten().filter(|_| !taken.contains(&from))?;
            Some((from, slots))
        };
        if let Some((from, slots)) = old.iter().enumerate().find_map(fits) {
            taken.insert(from);
            pairs.push(Carry { to, from, slots: Some(slots) });
        }
    }
    pairs.sort_by_key(|pair| pair.to);
    pairs
}

/// The columns that rows kept by an operator of the old plan lack for the one of the new plan which does the same.
pub fn missing(new: &str, old: &[String]) -> Vec<String> {
    old.iter().find_map(|theirs| moved(new, theirs).err()).unwrap_or_default()
}

/// Where the values of rows go from one operator to another; nothing where they do not do the same, and an error with
/// the columns that are not there.
fn moved(new: &str, old: &str) -> Result<Option<Slots>, Vec<String>> {
    let (Some((new, into)), Some((old, from))) = (new.split_once('\n'), old.split_once('\n')) else { return Ok(None) };
    let (Some(into), Some(from)) = (Rows::read(into), Rows::read(from)) else { return Ok(None) };
    if new != old {
        return Ok(None);
    }
    let mut there: HashMap<&str, Vec<i64>> = HashMap::new();
    from.slots.iter().rev().for_each(|(slot, name)| there.entry(name).or_default().push(*slot));
    let (mut moves, mut lacks) = (HashMap::new(), Vec::new());
    for (slot, name) in &into.slots {
        match there.get_mut(name.as_str()).and_then(Vec::pop) {
            Some(old) => drop(moves.insert(Text::new(old.to_string()), Text::new(slot.to_string()))),
            None => lacks.push(column(name)),
        }
    }
    if lacks.is_empty() { Ok(Some(Slots { width: into.width, moves })) } else { Err(lacks) }
}

/// The name of a column as the statement has it.
fn column(name: &str) -> String {
    let (place, column) = name.split_once('.').unwrap_or(("", name));
    let column = column.split_once(" but ").map_or(column, |(column, _)| column);
    if place.chars().all(|digit| digit.is_ascii_digit()) { column.to_owned() } else { name.to_owned() }
}

/// What stands in the rows that an operator keeps.
struct Rows {
    width: i64,
    slots: Vec<(i64, String)>,
}

impl Rows {
    fn read(text: &str) -> Option<Rows> {
        let json: Json = serde_json::from_str(text).ok()?;
        let slot = |pair: &Json| Some((pair.get(0)?.as_i64()?, pair.get(1)?.as_str()?.to_owned()));
        let slots = json.get("slots")?.as_array()?.iter().map(slot).collect::<Option<_>>()?;
        Some(Rows { width: json.get("width")?.as_i64()?, slots })
    }
}

impl Carry {
    /// The state of the old operator as the new one reads it.
    pub fn state(&self, old: &Value) -> Value {
        match &self.slots {
            None => old.clone(),
            Some(slots) => slots.state(old),
        }
    }
}

/// What conditions, accumulators and messages know of values lies under these names; it has no rows in it.
const OF_VALUES: [&str; 6] = ["begin", "end", "partition", "state", "seen", "when"];

impl Slots {
    /// Looks for rows, which stand under `row` or `first` beside what is promised for them.
    fn state(&self, state: &Value) -> Value {
        match state {
            bundle if pack::is_bundle(bundle) => {
                // One that cannot be read is no state: whoever loads it says so.
                let all: Result<Vec<Value>> = pack::unbundle(bundle).collect();
                all.map_or_else(|_| bundle.clone(), |all| Value::array(all.iter().map(|one| self.state(one)).collect()))
            }
            Value::Array(all) => Value::array(all.iter().map(|one| self.state(one)).collect()),
            Value::Object(object) => {
                let keeps = object.get("held").is_some();
                let part = |(name, value): (&Text, &Value)| match name.as_str() {
                    "row" | "first" if keeps => (name.clone(), self.row(value)),
                    _ if keeps || OF_VALUES.contains(&name.as_str()) => (name.clone(), value.clone()),
                    _ => (name.clone(), self.state(value)),
                };
                Value::object(object.iter().map(part).collect())
            }
            other => other.clone(),
        }
    }

    fn row(&self, row: &Value) -> Value {
        let Value::Object(row) = row else { return row.clone() };
        let moved = row.iter().filter_map(|(slot, value)| Some((self.moves.get(slot)?.clone(), value.clone())));
        let mut moved: Object = moved.collect();
        moved.insert("width", Value::Int(self.width));
        Value::object(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn does(head: &str, slots: &[(i64, &str)], width: i64) -> String {
        format!("{head}\n{}", serde_json::json!({"width": width, "slots": slots}))
    }

    #[test]
    fn rows_are_carried_where_they_have_all_columns() {
        let old = [does("window", &[(0, "0.a"), (1, "0.b"), (2, "0.c")], 5)];
        for (slots, fits) in [
            (&[(0, "0.c"), (1, "0.a")][..], true),
            (&[][..], true),
            (&[(0, "0.a"), (1, "0.b"), (2, "0.c")][..], true),
            (&[(0, "0.a"), (1, "0.d")][..], false),
            (&[(0, "0.a"), (1, "0.a")][..], false),
        ] {
            let new = does("window", slots, 3);
            assert_eq!(carried(&[new], &old).len(), usize::from(fits), "{slots:?}");
        }
        assert!(carried(&[does("another", &[], 3)], &old).is_empty());
        assert!(carried(&["window".into()], &old).is_empty());
        assert_eq!(missing(&does("window", &[(0, "0.d"), (1, "0.a"), (2, "x=y")], 3), &old), ["d", "x=y"]);
        assert!(missing(&does("another", &[(0, "0.d")], 3), &old).is_empty());
    }

    #[test]
    fn the_values_of_rows_come_to_their_new_slots_and_all_else_stays() {
        let old = [does("window", &[(0, "0.a"), (1, "0.b")], 2)];
        let pairs = carried(&[does("window", &[(2, "0.b")], 4)], &old);
        let row = |pairs: &[(&str, i64)]| {
            let values = pairs.iter().map(|(name, n)| (Text::new(name), Value::Int(*n)));
            Value::object(values.collect())
        };
        let kept = |row: Value| Value::object(Object::from_iter([("row", row), ("held", Value::Int(1))]));
        let user = kept(row(&[("0", 1), ("width", 2)]));
        let state = |kept: Value, user: Value| {
            Value::object(Object::from_iter([("rows", Value::array(vec![kept])), ("state", user)]))
        };
        let before = state(kept(row(&[("0", 7), ("1", 8), ("width", 2)])), user.clone());
        let after = state(kept(row(&[("2", 8), ("width", 4)])), user);
        assert_eq!(pairs[0].state(&before), after);
    }
}
