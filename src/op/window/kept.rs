use std::sync::Arc;

use crate::data::{Account, Batch, Held, Meta, Object, Time, Value, pack};

use super::super::tally::{load_row, save_row};

/// A row that a window keeps.
pub struct Kept {
    pub values: Vec<Value>,
    pub time: Time,
    pub meta: Option<Meta>,
    pub held: Held,
}

impl Kept {
    /// Takes a row out of a batch.
    pub fn take(batch: &mut Batch, row: usize) -> Kept {
        Kept {
            time: batch.time(row),
            meta: batch.meta(row).cloned(),
            held: batch.take_receipt(row).hold(),
            values: batch.take_row(row),
        }
    }

    /// Puts the row into an emission, and keeps it for others.
    pub fn copy_to(&mut self, batch: &mut Batch) {
        let row = batch.rows();
        batch.push(self.time, self.held.part()).clone_from_slice(&self.values);
        if let Some(meta) = &self.meta {
            batch.set_meta(row, meta);
        }
    }

    /// Puts the row into the last emission that it has a part in.
    pub fn move_to(self, batch: &mut Batch) {
        let row = batch.rows();
        let slots = batch.push(self.time, self.held.release());
        slots.iter_mut().zip(self.values).for_each(|(slot, value)| *slot = value);
        if let Some(meta) = &self.meta {
            batch.set_meta(row, meta);
        }
    }

    pub fn save(&self) -> Value {
        Value::object(Object::from_iter([
            ("row", save_row(&self.values)),
            ("time", Value::Int(self.time.0)),
            ("meta", self.meta.clone().map_or(Value::Null, Value::Object)),
            ("held", self.held.save()),
        ]))
    }

    pub fn load(saved: &Value, account: &Arc<dyn Account>) -> Option<Kept> {
        let Value::Object(saved) = saved else { return None };
        let Value::Int(time) = saved.get("time")? else { return None };
        Some(Kept {
            values: load_row(saved.get("row")?)?,
            time: Time(*time),
            meta: if let Value::Object(meta) = saved.get("meta")? { Some(meta.clone()) } else { None },
            held: Held::load(saved.get("held")?, account)?,
        })
    }
}

/// Rows as saved state.
pub fn save_rows<'a>(rows: impl Iterator<Item = &'a Kept>) -> Value {
    pack::bundle(rows.map(Kept::save))
}

pub fn load_rows<C: FromIterator<Kept>>(saved: &Value, account: &Arc<dyn Account>) -> Option<C> {
    pack::unbundle(saved).map(|kept| Kept::load(&kept.ok()?, account)).collect()
}
