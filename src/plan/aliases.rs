//! Which alias a name is: found by its hash, however many there are.

use std::collections::HashMap;

use crate::data::Text;
use crate::sql::Field;

/// The aliases of a statement by name; they are numbered in the order of their fields.
#[derive(Default)]
pub struct Index {
    exact: HashMap<Text, Vec<usize>>,
    /// By their names in lower case.
    folded: HashMap<Text, Vec<usize>>,
    fields: HashMap<*const Field, usize>,
}

impl Index {
    pub fn new<'a>(aliases: impl Iterator<Item = (&'a Text, &'a Field)>) -> Self {
        let mut index = Index::default();
        for (n, (name, field)) in aliases.enumerate() {
            index.exact.entry(name.clone()).or_default().push(n);
            index.folded.entry(name.to_ascii_lowercase()).or_default().push(n);
            index.fields.insert(field, n);
        }
        index
    }

    /// The aliases of exactly that name, in order.
    pub fn named(&self, name: &str) -> &[usize] {
        self.exact.get(name).map_or(&[], Vec::as_slice)
    }

    /// The aliases of that name in any case, in order.
    pub fn in_any_case(&self, name: &str) -> &[usize] {
        if self.folded.is_empty() {
            return &[];
        }
        self.folded.get(name.to_ascii_lowercase().as_str()).map_or(&[], Vec::as_slice)
    }

    /// The alias of a field.
    pub fn of(&self, field: &Field) -> Option<usize> {
        self.fields.get(&(field as *const Field)).copied()
    }
}
