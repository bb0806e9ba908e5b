use super::{Object, Text, Value};

/// One column of what leaves a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Text,
    /// The value is an object whose entries are columns of their own, as `*` makes them. A named column of the same
    /// name is the stronger one.
    pub spread: bool,
}

/// Names of the slots of a batch that leaves a rule, slot by slot. A slot that holds `Absent` is no column of the row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    columns: Vec<Column>,
    /// The slots of named columns in the order of their names, and of their slots where these are the same.
    by_name: Box<[u32]>,
}

impl Layout {
    pub fn new(columns: Vec<Column>) -> Self {
        let named = columns.iter().zip(0..).filter(|(column, _)| !column.spread).map(|(_, slot)| slot);
        let mut by_name: Vec<u32> = named.collect();
        by_name.sort_by(|a, b| columns[*a as usize].name.cmp(&columns[*b as usize].name));
        Layout { columns, by_name: by_name.into() }
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Whether a row can have columns that are not known before it is there.
    pub fn is_open(&self) -> bool {
        self.columns.iter().any(|column| column.spread)
    }

    /// The columns of a row by name, spread ones resolved. An absent value is no column; a named column wins over a
    /// spread one, and a later spread one over an earlier.
    pub fn object(&self, row: &[Value]) -> Object {
        let mut object = Object::with_capacity(row.len());
        for (column, value) in self.columns.iter().zip(row) {
            match value {
                Value::Absent => {}
                Value::Object(spread) if column.spread => {
                    for (name, value) in spread.iter() {
                        if self.slot(name).is_none_or(|slot| matches!(row[slot], Value::Absent)) {
                            object.insert(name.clone(), value.clone());
                        }
                    }
                }
                value => {
                    object.insert(column.name.clone(), value.clone());
                }
            }
        }
        object
    }

    /// The value that a column of a row has, as `object` gives it.
    pub fn value<'a>(&self, row: &'a [Value], name: &str) -> Option<&'a Value> {
        let named = self.slot(name).map(|slot| &row[slot]).filter(|value| !matches!(value, Value::Absent));
        named.or_else(|| {
            self.columns.iter().zip(row).rev().find_map(|(column, value)| match value {
                Value::Object(spread) if column.spread => spread.get(name),
                _ => None,
            })
        })
    }

    /// The slot of a named column.
    pub fn slot(&self, name: &str) -> Option<usize> {
        let place = self.by_name.partition_point(|slot| self.columns[*slot as usize].name.as_str() < name);
        let slot = *self.by_name.get(place)? as usize;
        (self.columns[slot].name == name).then_some(slot)
    }
}

impl<N: Into<Text>> FromIterator<N> for Layout {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        Layout::new(names.into_iter().map(|name| Column { name: name.into(), spread: false }).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn named_columns_win_over_spread_ones() {
        let column = |name: &str, spread| Column { name: name.into(), spread };
        let layout = Layout::new(vec![column("*", true), column("a", false), column("*", true), column("b", false)]);
        let spread =
            |entries: &[(&str, i64)]| Value::object(entries.iter().map(|(name, n)| (*name, Value::Int(*n))).collect());
        let row =
            [spread(&[("a", 1), ("b", 2), ("c", 3)]), Value::Int(10), spread(&[("c", 30), ("d", 40)]), Value::Absent];
        let expected = [("b", 2), ("c", 30), ("a", 10), ("d", 40)].map(|(name, n)| (name, Value::Int(n)));
        assert_eq!(layout.object(&row), Object::from_iter(expected.clone()));
        for (name, value) in expected {
            assert_eq!(layout.value(&row, name), Some(&value));
        }
        assert_eq!(layout.value(&row, "e"), None);
    }
}
