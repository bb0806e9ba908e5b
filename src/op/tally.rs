use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::data::pack::{self, Pack, Packer};
use crate::data::{Account, Fate, Held, Meta, Object, Text, Time, Value};
use crate::diag::{Fault, Result};
use crate::func::Accumulator;

use super::Saved;

/// The first slots as names.
const SLOTS: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

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
        Value::object(Object::from_iter([
            ("groups", pack::bundle(self.groups.iter())),
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

impl Pack for Group {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        let mut group = to.object(7)?;
        group.name("key").text(&self.key);
        pack_row(group.name("first"), &self.first)?;
        group.name("time").int(self.time.0);
        pack_meta(group.name("meta"), self.meta.as_ref())?;
        let mut states = group.name("state").array(self.accumulators.len())?;
        self.accumulators.iter().try_for_each(|one| states.value(&one.save()))?;
        let mut seen = group.name("seen").array(self.seen.len())?;
        self.seen.iter().try_for_each(|one| seen.value(&save_seen(one)))?;
        group.name("held").value(&self.held.save())
    }

    fn touch(&self) -> usize {
        self.first.first().map_or(0, Pack::touch) + self.meta.as_ref().map_or(0, |meta| meta.len())
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

/// As [`save_row`] gives it.
pub(super) fn pack_row(to: &mut Packer<'_>, row: &[Value]) -> Result<()> {
    let is_there = |value: &Value| !matches!(value, Value::Absent);
    let mut members = to.object(row.iter().filter(|value| is_there(value)).count() + 1)?;
    for (slot, value) in row.iter().enumerate().filter(|(_, value)| is_there(value)) {
        match SLOTS.get(slot) {
            Some(name) => members.name(name),
            None => members.name(&slot.to_string()),
        }
        .value(value)?;
    }
    members.name("width").int(row.len() as i64);
    Ok(())
}

pub(super) fn pack_meta(to: &mut Packer<'_>, meta: Option<&Meta>) -> Result<()> {
    match meta {
        Some(meta) => to.value(&Value::Object(meta.clone())),
        None => {
            to.null();
            Ok(())
        }
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Row(Vec<Value>);

    impl Pack for Row {
        fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
            pack_row(to, &self.0)
        }
    }

    #[test]
    fn a_row_is_packed_as_it_is_saved() {
        let slot = |n: i64| if n % 5 == 3 { Value::Absent } else { Value::Int(n) };
        for width in [0, 1, 4, SLOTS.len() as i64 + 5] {
            let row: Vec<Value> = (0..width).map(slot).collect();
            let saved = save_row(&row);
            let packed = pack::bundle(std::iter::once(Row(row.clone())));
            let packed: Vec<Value> = pack::unbundle(&packed).map(Result::unwrap).collect();
            assert_eq!(format!("{packed:?}"), format!("[{saved:?}]"));
            assert_eq!(format!("{:?}", load_row(&packed[0]).unwrap()), format!("{row:?}"));
        }
    }
}
