use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::data::{Account, Fate, Held, Meta, Object, Text, Time, Value, pack};
use crate::diag::{Fault, Result};
use crate::func::Accumulator;

use super::Saved;

/// What rows came to that were brought together by their keys.
#[derive(Default)]
pub struct Tally {
    index: HashMap<Text, usize>,
    pub groups: Vec<Group>,
    /// The first thing that went wrong; then the window fails as a whole.
    pub failed: Option<Fault>,
    pub failed_rows: Held,
}

/// The rows of one key.
pub struct Group {
    pub key: Text,
    pub first: Vec<Value>,
    pub time: Time,
    pub meta: Option<Meta>,
    pub accumulators: Vec<Box<dyn Accumulator>>,
    /// For each aggregate with DISTINCT what it has had.
    pub seen: Vec<HashSet<Text>>,
    pub held: Held,
}

impl Tally {
    /// Where the group of the key is; a new one is made where there is none.
    pub fn find(&mut self, key: Text, make: impl FnOnce(Text) -> Group) -> usize {
        match self.index.get(&key) {
            Some(at) => *at,
            None => {
                self.index.insert(key.clone(), self.groups.len());
                self.groups.push(make(key));
                self.groups.len() - 1
            }
        }
    }

    /// Some rows could not be taken in.
    pub fn fail(&mut self, fault: Fault, rows: Held) {
        self.failed.get_or_insert(fault);
        self.failed_rows.merge(rows);
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.failed.is_none()
    }

    /// The rows are kept no longer; those that had a part in no result meet this fate.
    pub fn settle(self, fate: Fate) {
        self.groups.into_iter().for_each(|group| group.held.discard(fate));
        self.failed_rows.discard(fate);
    }

    /// The saved state is taken up elsewhere.
    pub fn forget(self) {
        self.groups.into_iter().for_each(|group| group.held.forget());
        self.failed_rows.forget();
    }

    /// How many rows are held here.
    pub fn held(&self) -> u64 {
        self.groups.iter().map(|group| group.held.rows()).sum::<u64>() + self.failed_rows.rows()
    }

    pub fn save(&self) -> Saved {
        let groups = self.groups.iter().map(|group| {
            Value::object(Object::from_iter([
                ("key", Value::Text(group.key.clone())),
                ("first", save_row(&group.first)),
                ("time", Value::Int(group.time.0)),
                ("meta", group.meta.clone().map_or(Value::Null, Value::Object)),
                ("state", Value::array(group.accumulators.iter().map(|one| one.save()).collect())),
                ("seen", Value::array(group.seen.iter().map(save_seen).collect())),
                ("held", group.held.save()),
            ]))
        });
        Value::object(Object::from_iter([
            ("groups", pack::bundle(groups)),
            ("failed", self.failed.as_ref().map_or(Value::Null, |fault| Value::text(fault.to_string()))),
            ("failed_rows", self.failed_rows.save()),
        ]))
    }

    /// `start` makes the accumulators of a group.
    pub fn load(
        saved: &Saved,
        account: &Arc<dyn Account>,
        start: &dyn Fn() -> Vec<Box<dyn Accumulator>>,
    ) -> Result<Tally> {
        let broken = || Fault::bug("the saved state of a window cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let mut tally = Tally::default();
        if let Some(Value::Text(text)) = saved.get("failed") {
            tally.failed = Some(Fault::eval(text.as_str()));
            let rows = saved.get("failed_rows").and_then(|held| Held::load(held, account));
            tally.failed_rows = rows.ok_or_else(broken)?;
        }
        for group in pack::unbundle(saved.get("groups").ok_or_else(broken)?) {
            let Value::Object(group) = group? else { return Err(broken()) };
            let part = |name: &str| group.get(name).cloned().ok_or_else(broken);
            let (Value::Text(key), Value::Array(states), Value::Array(seen), Value::Int(time)) =
                (part("key")?, part("state")?, part("seen")?, part("time")?)
            else {
                return Err(broken());
            };
            let mut accumulators = start();
            accumulators.iter_mut().zip(states.iter()).try_for_each(|(one, state)| one.load(state.clone()))?;
            let group = Group {
                key: key.clone(),
                first: load_row(&part("first")?).ok_or_else(broken)?,
                time: Time(time),
                meta: if let Value::Object(meta) = part("meta")? { Some(meta) } else { None },
                accumulators,
                seen: seen.iter().map(load_seen).collect(),
                held: Held::load(&part("held")?, account).ok_or_else(broken)?,
            };
            tally.find(key, |_| group);
        }
        Ok(tally)
    }
}

fn save_seen(seen: &HashSet<Text>) -> Value {
    let mut all: Vec<Value> = seen.iter().cloned().map(Value::Text).collect();
    all.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    Value::array(all)
}

fn load_seen(saved: &Value) -> HashSet<Text> {
    match saved {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(Text::new).collect(),
        _ => HashSet::new(),
    }
}

/// The values of a row by slot; an absent one is left out.
pub(super) fn save_row(row: &[Value]) -> Value {
    let present: Vec<(Text, Value)> = row
        .iter()
        .enumerate()
        .filter(|(_, value)| !matches!(value, Value::Absent))
        .map(|(slot, value)| (Text::new(slot.to_string()), value.clone()))
        .collect();
    let mut object = Object::from_iter(present);
    object.insert("width", Value::Int(row.len() as i64));
    Value::object(object)
}

pub(super) fn load_row(saved: &Value) -> Option<Vec<Value>> {
    let Value::Object(saved) = saved else { return None };
    let Some(Value::Int(width)) = saved.get("width") else { return None };
    let mut row = vec![Value::Absent; usize::try_from(*width).ok()?];
    for (name, value) in saved.iter() {
        if let Ok(slot) = name.parse::<usize>() {
            *row.get_mut(slot)? = value.clone();
        }
    }
    Some(row)
}
