//! Rows found by the values that they are joined by.

use std::collections::{HashMap, VecDeque};

use crate::data::{Value, key};

/// Up to here a float tells one integer from the next.
const EXACT: i64 = 1 << 53;

/// What kind of value a key is. Two kinds that `=` cannot compare, or compares otherwise than a key does, keep rows from
/// being found by their keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Null,
    Int,
    /// An integer that floats cannot tell from its neighbours.
    BigInt,
    Float,
    Text,
    Bool,
    Other,
}

impl KeyKind {
    const COUNT: usize = 7;

    fn of(value: &Value) -> KeyKind {
        match value {
            Value::Absent | Value::Null => KeyKind::Null,
            Value::Int(n) if n.unsigned_abs() > EXACT.unsigned_abs() => KeyKind::BigInt,
            Value::Int(_) => KeyKind::Int,
            Value::Float(x) if x.is_nan() => KeyKind::Other,
            Value::Float(_) => KeyKind::Float,
            Value::Text(_) => KeyKind::Text,
            Value::Bool(_) => KeyKind::Bool,
            Value::Bytes(_) | Value::Time(_) | Value::Array(_) | Value::Object(_) => KeyKind::Other,
        }
    }

    fn fits(self, other: KeyKind) -> bool {
        use KeyKind::{BigInt, Bool, Float, Int, Null, Text};
        match self {
            Null => true,
            Int => matches!(other, Null | Int | BigInt | Float),
            BigInt => matches!(other, Null | Int | BigInt),
            Float => matches!(other, Null | Int | Float),
            Text => matches!(other, Null | Text),
            Bool => matches!(other, Null | Bool),
            KeyKind::Other => false,
        }
    }
}

/// Rows, by number, under the values of their keys. It answers only where that is what comparing row by row would give,
/// errors included.
#[derive(Default)]
pub struct Index {
    rows: HashMap<Vec<u8>, VecDeque<u64>>,
    /// For each key how many values of each kind there are.
    kinds: Vec<[usize; KeyKind::COUNT]>,
    /// Rows whose keys could not be computed.
    failed: usize,
}

impl Index {
    /// Takes a row in. `None`: its keys could not be computed.
    pub fn add(&mut self, number: u64, keys: Option<&[Value]>) {
        let Some(keys) = keys else {
            self.failed += 1;
            return;
        };
        self.kinds.resize(keys.len(), [0; KeyKind::COUNT]);
        keys.iter().zip(&mut self.kinds).for_each(|(value, kinds)| kinds[KeyKind::of(value) as usize] += 1);
        if let Some(key) = key_of(keys) {
            self.rows.entry(key).or_default().push_back(number);
        }
    }

    /// Takes the oldest row of these keys out.
    pub fn remove(&mut self, keys: Option<&[Value]>) {
        let Some(keys) = keys else {
            self.failed = self.failed.saturating_sub(1);
            return;
        };
        for (value, kinds) in keys.iter().zip(&mut self.kinds) {
            let count = &mut kinds[KeyKind::of(value) as usize];
            *count = count.saturating_sub(1);
        }
        if let Some(key) = key_of(keys)
            && let Some(rows) = self.rows.get_mut(&key)
        {
            rows.pop_front();
            if rows.is_empty() {
                self.rows.remove(&key);
            }
        }
    }

    /// The numbers of the rows with these keys, in their order; `None` where the rows have to be compared one by one.
    pub fn find(&self, keys: &[Value]) -> Option<impl Iterator<Item = u64> + '_> {
        const KINDS: [KeyKind; KeyKind::COUNT] = [
            KeyKind::Null,
            KeyKind::Int,
            KeyKind::BigInt,
            KeyKind::Float,
            KeyKind::Text,
            KeyKind::Bool,
            KeyKind::Other,
        ];
        if self.failed > 0 {
            return None;
        }
        let mut key = Some(Vec::new());
        for (value, kinds) in keys.iter().zip(&self.kinds) {
            let kind = KeyKind::of(value);
            if KINDS.iter().zip(kinds).any(|(other, count)| *count > 0 && !kind.fits(*other)) {
                return None;
            }
            match (&mut key, kind) {
                (_, KeyKind::Null) => key = None,
                (Some(key), _) => key::add(key, value),
                (None, _) => {}
            }
        }
        Some(key.and_then(|key| self.rows.get(&key)).into_iter().flatten().copied())
    }
}

/// The key under which a row is found; none where a value is null, which is equal to nothing.
fn key_of(values: &[Value]) -> Option<Vec<u8>> {
    if values.iter().any(Value::is_null) {
        return None;
    }
    let mut key = Vec::new();
    values.iter().for_each(|value| key::add(&mut key, value));
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: &[Value]) -> Index {
        let mut index = Index::default();
        for (number, key) in (0..).zip(keys) {
            index.add(number, Some(std::slice::from_ref(key)));
        }
        index
    }

    fn find(index: &Index, key: Value) -> Option<Vec<u64>> {
        index.find(&[key]).map(Iterator::collect)
    }

    #[test]
    fn numbers_are_found_whatever_their_kind_and_null_never() {
        let index = index(&[Value::Int(1), Value::Float(1.0), Value::Null, Value::Float(1.5)]);
        assert_eq!(find(&index, Value::Int(1)), Some(vec![0, 1]));
        assert_eq!(find(&index, Value::Float(1.5)), Some(vec![3]));
        assert_eq!(find(&index, Value::Int(7)), Some(Vec::new()));
        assert_eq!(find(&index, Value::Null), Some(Vec::new()));
        assert_eq!(find(&index, Value::Absent), Some(Vec::new()));
    }

    #[test]
    fn what_the_operator_would_refuse_or_see_otherwise_is_left_to_it() {
        let texts = index(&[Value::text("a"), Value::Null]);
        assert_eq!(find(&texts, Value::text("a")), Some(vec![0]));
        assert_eq!(find(&texts, Value::Int(1)), None);
        let big = index(&[Value::Int(EXACT + 1)]);
        assert_eq!(find(&big, Value::Int(EXACT + 1)), Some(vec![0]));
        assert_eq!(find(&big, Value::Float(1.0)), None);
        assert_eq!(find(&index(&[Value::array(vec![])]), Value::Int(1)), None);
        let mut failed = index(&[Value::Int(1)]);
        failed.add(1, None);
        assert_eq!(find(&failed, Value::Int(1)), None);
        failed.remove(None);
        assert_eq!(find(&failed, Value::Int(1)), Some(vec![0]));
    }

    #[test]
    fn rows_leave_in_the_order_in_which_they_came() {
        let mut index = index(&[Value::Int(1), Value::text("x"), Value::Int(1)]);
        assert_eq!(find(&index, Value::Int(1)), None);
        index.remove(Some(&[Value::Int(1)]));
        index.remove(Some(&[Value::text("x")]));
        assert_eq!(find(&index, Value::Int(1)), Some(vec![2]));
    }
}
