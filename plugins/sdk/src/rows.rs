//! Rows: [`Rows`] and [`Row`] are lent by the engine, a [`Batch`] is what a source makes.
//!
//! A row knows the difference between a column that is NULL and one that it does not have: the second does not appear.

use std::marker::PhantomData;

use crate::abi;
use crate::abi::tag;
use crate::value::{lent_text, Arena, Owned, Record, Time, Value};

/// Rows lent for the call.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    columns: &'a [abi::Str],
    values: &'a [abi::Value],
    times: &'a [i64],
    metas: &'a [abi::Value],
    properties: Option<&'a abi::Value>,
    width: usize,
    height: usize,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// `batch` keeps the contract, and all that it leads to lives for `'a`.
    pub(crate) unsafe fn lent(batch: *const abi::Batch) -> Rows<'a> {
        // An older engine's is shorter, so that no reference to the whole may be made.
        let (width, height) = ((*batch).width, (*batch).height);
        let properties: *const abi::Value = since!(batch, properties, std::ptr::null());
        Rows {
            columns: array((*batch).columns, width),
            values: array((*batch).values, width * height),
            times: array((*batch).times, height),
            metas: array((*batch).metas, height),
            properties: properties.as_ref(),
            width,
            height,
        }
    }

    /// Number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.height
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.height == 0
    }

    /// Names of the columns; a row may have fewer. None for the arguments of a function.
    pub fn columns(&self) -> impl Iterator<Item = &'a str> {
        self.columns.iter().map(|name| lent_text(*name))
    }

    /// What the template in a property of the sink comes to for these rows; `None` where the property holds no template.
    /// Only properties declared `#[dynamic]` may hold one.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        property(self.properties, name)
    }

    /// The row of that number; it must be less than `len`.
    #[inline]
    pub fn row(&self, number: usize) -> Row<'a> {
        Row {
            columns: self.columns,
            values: &self.values[number * self.width..(number + 1) * self.width],
            time: self.times.get(number).copied().filter(|time| *time != abi::NO_TIME),
            meta: self.metas.get(number),
            properties: self.properties,
        }
    }

    /// All rows, in order.
    #[inline]
    pub fn iter(&self) -> RowsIter<'a> {
        RowsIter { rows: *self, next: 0 }
    }
}

impl<'a> IntoIterator for Rows<'a> {
    type Item = Row<'a>;
    type IntoIter = RowsIter<'a>;

    fn into_iter(self) -> RowsIter<'a> {
        self.iter()
    }
}

/// Iterator over [`Rows`].
pub struct RowsIter<'a> {
    rows: Rows<'a>,
    next: usize,
}

impl<'a> Iterator for RowsIter<'a> {
    type Item = Row<'a>;

    #[inline]
    fn next(&mut self) -> Option<Row<'a>> {
        if self.next >= self.rows.len() {
            return None;
        }
        self.next += 1;
        Some(self.rows.row(self.next - 1))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rows.len() - self.next;
        (left, Some(left))
    }
}

/// One row, lent for the call.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [abi::Str],
    values: &'a [abi::Value],
    time: Option<i64>,
    meta: Option<&'a abi::Value>,
    properties: Option<&'a abi::Value>,
}

impl<'a> Row<'a> {
    /// The value of a column; `None` where this row does not have it.
    pub fn get(&self, column: &str) -> Option<Value<'a>> {
        self.iter().find(|(name, _)| *name == column).map(|(_, value)| value)
    }

    /// Names and values of the columns that this row has.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.columns
            .iter()
            .zip(self.values)
            .filter(|(_, value)| value.tag != tag::MISSING)
            .map(|(name, value)| (lent_text(*name), Value::lent(value)))
    }

    /// The values by position: the arguments of a function.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> {
        self.values.iter().map(Value::lent)
    }

    /// Argument number `n`; NULL where there is none.
    #[inline]
    pub fn arg(&self, n: usize) -> Value<'a> {
        self.values.get(n).map_or(Value::Null, Value::lent)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// When it happened, where that is known.
    pub fn time(&self) -> Option<Time> {
        self.time.map(Time::utc)
    }

    /// What the source said about it.
    pub fn meta(&self, key: &str) -> Option<Value<'a>> {
        match Value::lent(self.meta?) {
            Value::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// What the template in a property of the sink comes to for this row; see [`Rows::property`].
    pub fn property(&self, name: &str) -> Option<&'a str> {
        property(self.properties, name)
    }

    /// A copy that outlives the call.
    pub fn to_record(&self) -> Record {
        self.iter().map(|(name, value)| (name, value.to_owned())).collect()
    }
}

fn property<'a>(all: Option<&'a abi::Value>, name: &str) -> Option<&'a str> {
    match Value::lent(all?) {
        Value::Object(members) => match members.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

unsafe fn array<'a, T>(pointer: *const T, len: usize) -> &'a [T] {
    if pointer.is_null() {
        return &[];
    }
    std::slice::from_raw_parts(pointer, len)
}

/// Rows that a plugin makes; those of a batch may have different columns.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    rows: Vec<Record>,
    times: Vec<Option<i64>>,
    metas: Vec<Owned>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a row.
    pub fn push(&mut self, row: Record) {
        self.push_with(row, None, Record::new());
    }

    /// Adds a row with the time at which it happened (else it is the time of its arrival), and with metadata.
    pub fn push_with(&mut self, row: Record, time: Option<Time>, meta: Record) {
        self.rows.push(row);
        self.times.push(time.map(|time| time.nanos));
        self.metas.push(if meta.is_empty() { Owned::Null } else { Owned::Object(meta) });
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.times.clear();
        self.metas.clear();
    }
}

impl From<Record> for Batch {
    fn from(row: Record) -> Batch {
        let mut batch = Batch::new();
        batch.push(row);
        batch
    }
}

impl FromIterator<Record> for Batch {
    fn from_iter<I: IntoIterator<Item = Record>>(rows: I) -> Batch {
        let mut batch = Batch::new();
        rows.into_iter().for_each(|row| batch.push(row));
        batch
    }
}

/// A [`Batch`] as it crosses the line.
pub(crate) struct Lent<'a> {
    columns: Vec<abi::Str>,
    values: Vec<abi::Value>,
    times: Vec<i64>,
    metas: Vec<abi::Value>,
    height: usize,
    _arena: Arena,
    _of: PhantomData<&'a Batch>,
}

impl<'a> Lent<'a> {
    pub(crate) fn new(batch: &'a Batch) -> Lent<'a> {
        let mut arena = Arena::default();
        let mut names: Vec<&str> = Vec::new();
        for row in &batch.rows {
            for (name, _) in row.iter() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut values = Vec::with_capacity(names.len() * batch.rows.len());
        for row in &batch.rows {
            for (position, name) in names.iter().enumerate() {
                // Most rows have all columns, in the order of the first.
                let cell: Option<&Owned> = match row.iter().nth(position) {
                    Some((same, value)) if same == *name => Some(value),
                    _ => row.get(name),
                };
                values.push(cell.map_or(abi::Value::MISSING, |value| arena.lend(value)));
            }
        }
        let times = if batch.times.iter().any(Option::is_some) {
            batch.times.iter().map(|time| time.unwrap_or(abi::NO_TIME)).collect()
        } else {
            Vec::new()
        };
        let metas = if batch.metas.iter().any(|meta| *meta != Owned::Null) {
            batch.metas.iter().map(|meta| arena.lend(meta)).collect()
        } else {
            Vec::new()
        };
        Lent {
            columns: names.into_iter().map(abi::Str::new).collect(),
            values,
            times,
            metas,
            height: batch.rows.len(),
            _arena: arena,
            _of: PhantomData,
        }
    }

    /// Valid as long as `self`.
    pub(crate) fn batch(&self) -> abi::Batch {
        abi::Batch {
            size: std::mem::size_of::<abi::Batch>() as u32,
            flags: 0,
            columns: self.columns.as_ptr(),
            width: self.columns.len(),
            height: self.height,
            values: self.values.as_ptr(),
            times: pointer(&self.times),
            metas: pointer(&self.metas),
            properties: std::ptr::null(),
        }
    }
}

fn pointer<T>(items: &[T]) -> *const T {
    if items.is_empty() {
        std::ptr::null()
    } else {
        items.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_different_columns_keep_theirs() {
        let batch: Batch =
            vec![Record::new().with("a", 1).with("b", 2), Record::new().with("b", 3).with("c", Owned::Null)]
                .into_iter()
                .collect();
        let lent = Lent::new(&batch);
        let crossing = lent.batch();
        let rows = unsafe { Rows::lent(&crossing) };
        assert_eq!(rows.columns().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(rows.row(0).to_record(), batch.rows[0]);
        assert_eq!(rows.row(1).to_record(), batch.rows[1]);
        assert_eq!(rows.row(1).get("a"), None);
        assert_eq!(rows.row(1).get("c"), Some(Value::Null));
    }

    #[test]
    fn properties_cross_and_an_older_engine_has_none() {
        let batch = Batch::from(Record::new().with("a", 1));
        let lent = Lent::new(&batch);
        let given = Owned::Object(Record::new().with("topic", "t/1"));
        let mut arena = Arena::default();
        let value = arena.lend(&given);
        let mut crossing = lent.batch();
        crossing.properties = &value;
        let rows = unsafe { Rows::lent(&crossing) };
        assert_eq!((rows.property("topic"), rows.property("table")), (Some("t/1"), None));
        assert_eq!(rows.row(0).property("topic"), Some("t/1"));
        crossing.size -= std::mem::size_of::<*const abi::Value>() as u32;
        assert_eq!(unsafe { Rows::lent(&crossing) }.property("topic"), None);
    }

    #[test]
    fn time_and_metadata_cross() {
        let mut batch = Batch::new();
        batch.push_with(Record::new(), Some(Time::utc(7)), Record::new().with("topic", "t"));
        let lent = Lent::new(&batch);
        let crossing = lent.batch();
        let row = unsafe { Rows::lent(&crossing) }.row(0);
        assert_eq!(row.time(), Some(Time::utc(7)));
        assert_eq!(row.meta("topic"), Some(Value::Text("t")));
    }
}
