use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::data::{Object, Text, Value, key};
use crate::diag::Result;
use crate::io::{Lookup, LookupTable};

/// What a row does to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It takes the place of the row with the same key, or is added.
    Put,
    /// The row with the same key goes.
    Delete,
}

/// A lookup table in memory: one row a key, in the order in which the keys came. Rows are equal where `=` says so, so
/// that an integer finds a float of the same number.
pub struct MemoryTable {
    /// The column that holds the key; without one every row is added, and none replaced.
    key: Option<Text>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    next: u64,
    all: BTreeMap<u64, Object>,
    by_key: HashMap<Vec<u8>, u64>,
}

impl MemoryTable {
    pub fn new(key: Option<Text>) -> Arc<MemoryTable> {
        Arc::new(MemoryTable { key, rows: Mutex::default() })
    }

    /// Takes a row up. One without the key column has the key null.
    pub fn apply(&self, row: Object, change: Change) {
        let rows = &mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(column) = &self.key else {
            match change {
                Change::Put => {
                    rows.all.insert(rows.next, row);
                    rows.next += 1;
                }
                Change::Delete => rows.all.retain(|_, other| *other != row),
            }
            return;
        };
        let key = bytes(row.get(column).unwrap_or(&Value::Null));
        match change {
            Change::Put => {
                let next = &mut rows.next;
                let place = *rows.by_key.entry(key).or_insert_with(|| {
                    *next += 1;
                    *next
                });
                rows.all.insert(place, row);
            }
            Change::Delete => {
                if let Some(place) = rows.by_key.remove(&key) {
                    rows.all.remove(&place);
                }
            }
        }
    }

    fn find(&self, columns: &[Text], values: &[Value]) -> Vec<Object> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<(&Text, Vec<u8>)> = columns.iter().zip(values.iter().map(bytes)).collect();
        let fits = |row: &&Object| {
            wanted
                .iter()
                .all(|(column, value)| row.get(column).is_some_and(|own| !own.is_null() && bytes(own) == *value))
        };
        let by_key = wanted.iter().find(|(column, _)| self.key.as_ref() == Some(*column));
        match by_key {
            Some((_, key)) => {
                rows.by_key.get(key).and_then(|place| rows.all.get(place)).filter(fits).into_iter().cloned().collect()
            }
            None => rows.all.values().filter(fits).cloned().collect(),
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::add(&mut bytes, value);
    bytes
}

/// The table, as one rule asks it.
struct Asked {
    table: Arc<MemoryTable>,
    columns: Vec<Text>,
}

/// A table on its shelf, from which rules open it.
pub(super) struct Shelved(pub Arc<MemoryTable>);

impl LookupTable for Shelved {
    fn open(&self, columns: &[Text]) -> Result<Box<dyn Lookup>> {
        Ok(MemoryTable::open(&self.0, columns))
    }
}

impl MemoryTable {
    /// Opens the table for questions by these columns.
    pub fn open(table: &Arc<MemoryTable>, columns: &[Text]) -> Box<dyn Lookup> {
        Box::new(Asked { table: table.clone(), columns: columns.to_vec() })
    }
}

#[async_trait::async_trait]
impl Lookup for Asked {
    async fn find(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>> {
        Ok(questions.iter().map(|values| self.table.find(&self.columns, values)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: impl Into<Value>, hall: &str) -> Object {
        Object::from_iter([("id", id.into()), ("hall", Value::text(hall))])
    }

    fn find(table: &MemoryTable, columns: &[&str], values: &[Value]) -> Vec<String> {
        let columns: Vec<Text> = columns.iter().map(|name| Text::new(*name)).collect();
        let rows = table.find(&columns, values);
        rows.iter().map(|row| row.get("hall").map(|hall| hall.print().to_string()).unwrap_or_default()).collect()
    }

    #[test]
    fn a_row_takes_the_place_of_the_one_with_its_key() {
        let table = MemoryTable::new(Some("id".into()));
        for (id, hall) in [(1, "north"), (2, "south"), (1, "west"), (3, "south")] {
            table.apply(row(Value::Int(id), hall), Change::Put);
        }
        assert_eq!(find(&table, &["id"], &[Value::Int(1)]), ["west"]);
        assert_eq!(find(&table, &["id"], &[Value::Float(2.0)]), ["south"]);
        assert_eq!(find(&table, &["id"], &[Value::text("1")]), [""; 0]);
        assert_eq!(find(&table, &["hall"], &[Value::text("south")]), ["south", "south"]);
        assert_eq!(find(&table, &["hall", "id"], &[Value::text("south"), Value::Int(1)]), [""; 0]);
        table.apply(row(Value::Int(2), "whatever"), Change::Delete);
        assert_eq!(find(&table, &["hall"], &[Value::text("south")]), ["south"]);
        assert_eq!(find(&table, &["none"], &[Value::Int(1)]), [""; 0]);
    }

    #[test]
    fn without_a_key_rows_are_added() {
        let table = MemoryTable::new(None);
        table.apply(row(Value::Int(1), "north"), Change::Put);
        table.apply(row(Value::Int(1), "south"), Change::Put);
        assert_eq!(find(&table, &["id"], &[Value::Int(1)]), ["north", "south"]);
        table.apply(row(Value::Int(1), "north"), Change::Delete);
        assert_eq!(find(&table, &["id"], &[Value::Int(1)]), ["south"]);
    }
}
