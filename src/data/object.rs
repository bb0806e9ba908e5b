use std::sync::{Arc, LazyLock};

use indexmap::IndexSet;

use super::{Text, Value};

/// The names of an object, in order. Objects of one kind share them, so that making, copying and writing one of many
/// rows touches no name.
#[derive(Clone, Debug)]
pub struct Shape(Arc<IndexSet<Text>>);

/// A map from names to values that keeps the order in which the names came. Two objects are equal when they have the
/// same names with equal values, whatever their order.
#[derive(Clone, Debug)]
pub struct Object {
    names: Shape,
    /// As many as there are names, in their order.
    values: Vec<Value>,
}

static NO_NAMES: LazyLock<Shape> = LazyLock::new(|| Shape(Arc::default()));

impl Shape {
    /// Without repetitions, or nothing.
    pub fn of(names: impl IntoIterator<Item = Text>) -> Option<Shape> {
        let mut set = IndexSet::new();
        names.into_iter().all(|name| set.insert(name)).then(|| Shape(Arc::new(set)))
    }

    /// Whether both are the very same; others may have the same names, too.
    pub fn is(&self, other: &Shape) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.0.iter()
    }
}

impl Default for Object {
    fn default() -> Self {
        Object { names: NO_NAMES.clone(), values: Vec::new() }
    }
}

impl Object {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(names: usize) -> Self {
        match names {
            0 => Self::default(),
            _ => Object { names: Shape(Arc::new(IndexSet::with_capacity(names))), values: Vec::with_capacity(names) },
        }
    }

    /// An object of that shape; a value that is missing is null, and one too many is left out.
    pub fn shaped(shape: &Shape, mut values: Vec<Value>) -> Self {
        values.resize(shape.len(), Value::Null);
        Object { names: shape.clone(), values }
    }

    pub fn shape(&self) -> &Shape {
        &self.names
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.names.0.get_index_of(name).map(|at| &self.values[at])
    }

    /// The value under the name, or else under the first name that differs by case only.
    pub fn get_ignoring_case(&self, name: &str) -> Option<&Value> {
        self.get(name).or_else(|| {
            let wanted = name.to_lowercase();
            self.iter().find(|(other, _)| other.to_lowercase() == wanted).map(|(_, value)| value)
        })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names.0.contains(name)
    }

    /// The entry at a place in the order.
    pub fn at(&self, number: usize) -> Option<(&Text, &Value)> {
        Some((self.names.0.get_index(number)?, self.values.get(number)?))
    }

    /// The value at a place in the order; none is there behind the last.
    pub fn value_at(&self, number: usize) -> &Value {
        self.values.get(number).unwrap_or(&Value::Absent)
    }

    /// Sets a value; a name that is there keeps its place.
    pub fn insert(&mut self, name: impl Into<Text>, value: Value) -> Option<Value> {
        let name = name.into();
        if let Some(at) = self.names.0.get_index_of(&name) {
            return Some(std::mem::replace(&mut self.values[at], value));
        }
        Arc::make_mut(&mut self.names.0).insert(name);
        self.values.push(value);
        None
    }

    /// Takes a name out; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.names.0.get_index_of(name)?;
        Arc::make_mut(&mut self.names.0).shift_remove_index(at);
        Some(self.values.remove(at))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Value)> {
        self.names.0.iter().zip(&self.values)
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.names.0.iter()
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.values.iter()
    }

    /// The entries in the order of their names, as JSON is written.
    pub fn sorted(&self) -> Vec<(&Text, &Value)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        all
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        if self.names.is(&other.names) {
            return self.values == other.values;
        }
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl<N: Into<Text>> FromIterator<(N, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let mut object = Object::with_capacity(entries.size_hint().0);
        entries.for_each(|(name, value)| drop(object.insert(name, value)));
        object
    }
}

impl IntoIterator for Object {
    type Item = (Text, Value);
    type IntoIter = std::iter::Zip<indexmap::set::IntoIter<Text>, std::vec::IntoIter<Value>>;
    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.names.0).into_iter().zip(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(entries: &[(&str, i64)]) -> Object {
        entries.iter().map(|(name, n)| (*name, Value::Int(*n))).collect()
    }

    fn shown(object: &Object) -> Vec<(&str, &Value)> {
        object.iter().map(|(name, value)| (name.as_str(), value)).collect()
    }

    #[test]
    fn changing_one_object_leaves_others_of_its_shape_alone() {
        let first = object(&[("a", 1), ("b", 2)]);
        let mut second = Object::shaped(first.shape(), vec![Value::Int(3)]);
        assert!(first.shape().is(second.shape()));
        assert_eq!(shown(&second), [("a", &Value::Int(3)), ("b", &Value::Null)]);
        second.insert("c", Value::Int(5));
        assert_eq!(second.remove("a"), Some(Value::Int(3)));
        assert_eq!(shown(&second), [("b", &Value::Null), ("c", &Value::Int(5))]);
        assert_eq!(first, object(&[("b", 2), ("a", 1)]));
        assert_eq!(second.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(first.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), [Value::Int(1), Value::Int(2)]);
    }

    #[test]
    fn a_repeated_name_keeps_its_place_and_is_no_shape() {
        assert_eq!(shown(&object(&[("a", 1), ("b", 2), ("a", 3)])), [("a", &Value::Int(3)), ("b", &Value::Int(2))]);
        assert!(Shape::of(["a", "b", "a"].map(Text::from)).is_none());
        assert_ne!(object(&[("a", 1)]), object(&[("a", 2)]));
        assert_ne!(object(&[("a", 1)]), object(&[("b", 1)]));
    }
}
