use std::sync::Arc;

use crate::data::pack::{self, Pack, Packer};
use crate::data::{Account, Batch, Held, Meta, Time, Value};
use crate::diag::Result;

use super::super::tally::{load_row, pack_meta, pack_row};

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

impl Pack for Kept {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        let mut kept = to.object(4)?;
        pack_row(kept.name("row"), &self.values)?;
        kept.name("time").int(self.time.0);
        pack_meta(kept.name("meta"), self.meta.as_ref())?;
        kept.name("held").value(&self.held.save())
    }

    fn touch(&self) -> usize {
        self.values.first().map_or(0, Pack::touch) + self.meta.as_ref().map_or(0, |meta| meta.len())
    }
}

/// Rows as saved state.
pub fn save_rows<'a>(rows: impl Iterator<Item = &'a Kept>) -> Value {
    pack::bundle(rows)
}

pub fn load_rows<C: FromIterator<Kept>>(saved: &Value, account: &Arc<dyn Account>) -> Option<C> {
    pack::unbundle(saved).map(|kept| Kept::load(&kept.ok()?, account)).collect()
}
