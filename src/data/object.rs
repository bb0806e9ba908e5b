use indexmap::IndexMap;

use super::{Text, Value};

/// A map from names to values that keeps the order in which the names came. Two objects are equal when they have the
/// same names with equal values, whatever their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(IndexMap<Text, Value>);

impl Object {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(names: usize) -> Self {
        Object(IndexMap::with_capacity(names))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value under the name, or else under the first name that differs by case only.
    pub fn get_ignoring_case(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let wanted = name.to_lowercase();
            self.0.iter().find(|(other, _)| other.to_lowercase() == wanted).map(|(_, value)| value)
        })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The entry at a place in the order.
    pub fn at(&self, number: usize) -> Option<(&Text, &Value)> {
        self.0.get_index(number)
    }

    /// Sets a value; a name that is there keeps its place.
    pub fn insert(&mut self, name: impl Into<Text>, value: Value) -> Option<Value> {
        self.0.insert(name.into(), value)
    }

    /// Takes a name out; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Value)> {
        self.0.iter()
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.0.keys()
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.0.values()
    }

    /// The entries in the order of their names, as JSON is written.
    pub fn sorted(&self) -> Vec<(&Text, &Value)> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_unstable_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        all
    }
}

impl<N: Into<Text>> FromIterator<(N, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(entries: I) -> Self {
        Object(entries.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl IntoIterator for Object {
    type Item = (Text, Value);
    type IntoIter = indexmap::map::IntoIter<Text, Value>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
