use crate::data::cast::{Reading, conform};
use crate::data::{Batch, Kind, Text, Value};
use crate::diag::{Fault, Result};

use super::{Cx, Operator, Out};

/// One declared column that the rule reads.
pub struct Checked {
    pub slot: usize,
    pub name: Text,
    pub kind: Kind,
    /// Stands in for the column where it is not there; without one that is an error.
    pub default: Option<Value>,
}

/// Holds rows to the declaration of their stream (`STRICT_VALIDATION`): values are converted to the types of their
/// columns, and a row of which one does not fit fails.
pub struct Validate {
    columns: Vec<Checked>,
    /// How datetimes are written, tried before the known layouts.
    format: Option<Text>,
}

impl Validate {
    pub fn new(columns: Vec<Checked>, format: Option<Text>) -> Self {
        Validate { columns, format }
    }

    fn check(&self, row: &mut [Value], cx: &Cx<'_>) -> Result<()> {
        let reading = Reading { format: self.format.as_deref(), zone: &cx.rule.zone, now: cx.now };
        for column in &self.columns {
            let value = &mut row[column.slot];
            let wrong = |cause: &str| Fault::eval(format!("error in preprocessor: column `{}` {cause}", column.name));
            *value = match (&*value, &column.default) {
                (Value::Absent, Some(default)) => default.clone(),
                (Value::Absent, None) => return Err(wrong("is not there, and its declaration has no DEFAULT")),
                // The usual case: the decoder gave what was declared.
                (Value::Int(_), _) if column.kind == Kind::Bigint => continue,
                (Value::Float(_), _) if column.kind == Kind::Float => continue,
                (Value::Text(_), _) if column.kind == Kind::String => continue,
                (Value::Bool(_), _) if column.kind == Kind::Boolean => continue,
                (value, _) => conform(value, &column.kind, &reading)
                    .map_err(|cause| wrong(&format!("does not fit its declaration: {cause}")))?,
            };
        }
        Ok(())
    }
}

impl Operator for Validate {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut rows = batch.selected().to_vec();
        rows.retain(|row| match self.check(batch.row_mut(*row as usize), cx) {
            Ok(()) => true,
            Err(fault) => {
                batch.fail(*row as usize, fault);
                false
            }
        });
        batch.select(rows);
        out.send(batch);
        Ok(())
    }
}
