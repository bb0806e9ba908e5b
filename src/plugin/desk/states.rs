//! What a guest stores under its keys, and the way back for a call that comes to nothing.
//!
//! Before such a call a [`Savepoint`] is made. From then on the old value of each key that is written goes into its log, the
//! first time, whoever writes: the guest may do so from any thread. [`Savepoint::put_back`] writes the log back, at once for
//! all who look on, and then what is stored is what was stored when the savepoint was made. So a call costs what it writes,
//! and not what is stored. Savepoints know nothing of each other: what one puts back is in the logs of the others like all
//! that is written.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex};

use crate::data::Value;

use super::lock;

/// What a guest stored; it lives as long as the rule that the guest is used in. Clones are the same, not copies.
#[derive(Clone, Default)]
pub struct States(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    values: HashMap<String, Kept>,
    /// Of savepoints: seldom more than two.
    logs: Vec<Log>,
    /// How many times a savepoint was made, or put back.
    now: u64,
    /// The number of the last savepoint.
    last: u64,
}

struct Kept {
    value: Value,
    /// When it was written. What was written since a savepoint was made is in its log.
    at: u64,
}

/// What a savepoint puts back, last things first.
struct Log {
    number: u64,
    since: u64,
    /// What was stored under keys before they were written; nothing where nothing was.
    old: Vec<(String, Option<Value>)>,
}

impl Stored {
    /// Writes, or removes; whoever does not know the old value yet is told.
    fn write(&mut self, key: String, value: Option<Value>) {
        let at = self.now;
        match (self.values.get_mut(&key), value) {
            (Some(kept), Some(value)) => {
                let written = mem::replace(&mut kept.at, at);
                let old = mem::replace(&mut kept.value, value);
                self.note(key, Some(old), written);
            }
            (Some(_), None) => {
                if let Some(old) = self.values.remove(&key) {
                    self.note(key, Some(old.value), old.at);
                }
            }
            (None, Some(value)) => {
                if !self.logs.is_empty() {
                    // Nobody knows when it was removed, and to be told twice does no harm.
                    self.note(key.clone(), None, 0);
                }
                self.values.insert(key, Kept { value, at });
            }
            (None, None) => {}
        }
    }

    fn note(&mut self, key: String, old: Option<Value>, written: u64) {
        let mut lacking = self.logs.iter_mut().filter(|log| log.since > written);
        let Some(first) = lacking.next() else { return };
        lacking.for_each(|log| log.old.push((key.clone(), old.clone())));
        first.old.push((key, old));
    }
}

impl States {
    pub fn get(&self, key: &str) -> Option<Value> {
        lock(&self.0).values.get(key).map(|kept| kept.value.clone())
    }

    /// Stores a value, or removes what is stored under the key.
    pub fn put(&self, key: String, value: Option<Value>) {
        lock(&self.0).write(key, value);
    }

    /// Adds to a counter, and gives what it then is.
    pub fn count(&self, key: String, by: i64) -> i64 {
        let mut stored = lock(&self.0);
        let counted = stored.values.get(&key).and_then(|kept| kept.value.as_i64());
        let now = counted.unwrap_or(0).saturating_add(by);
        if by != 0 {
            stored.write(key, Some(Value::Int(now)));
        }
        now
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.0).values.is_empty()
    }

    /// Looks at all that is stored, while nobody writes.
    pub fn read<T>(&self, look: impl FnOnce(&mut dyn Iterator<Item = (&str, &Value)>) -> T) -> T {
        look(&mut lock(&self.0).values.iter().map(|(key, kept)| (key.as_str(), &kept.value)))
    }

    /// Puts all this in the place of what is stored.
    pub fn replace(&self, values: HashMap<String, Value>) {
        let mut stored = lock(&self.0);
        let gone: Vec<String> = stored.values.keys().filter(|key| !values.contains_key(*key)).cloned().collect();
        gone.into_iter().for_each(|key| stored.write(key, None));
        values.into_iter().for_each(|(key, value)| stored.write(key, Some(value)));
    }

    pub fn is_same(&self, other: &States) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Remembers what is stored now.
    pub fn savepoint(&self) -> Savepoint {
        let mut stored = lock(&self.0);
        stored.now += 1;
        stored.last += 1;
        let (since, number) = (stored.now, stored.last);
        stored.logs.push(Log { number, since, old: Vec::new() });
        Savepoint { states: self.clone(), number }
    }
}

/// What was stored when it was made, as long as it is held.
pub struct Savepoint {
    states: States,
    number: u64,
}

impl Savepoint {
    /// Nothing of what was stored since is. It can be put back again.
    pub fn put_back(&self) {
        let mut stored = lock(&self.states.0);
        let Some(at) = stored.logs.iter().position(|log| log.number == self.number) else { return };
        let mut log = stored.logs.swap_remove(at);
        log.old.drain(..).rev().for_each(|(key, old)| stored.write(key, old));
        // As if it were made now.
        stored.now += 1;
        log.since = stored.now;
        stored.logs.push(log);
    }
}

impl Drop for Savepoint {
    fn drop(&mut self) {
        let mut stored = lock(&self.states.0);
        let at = stored.logs.iter().position(|log| log.number == self.number);
        let log = at.map(|at| stored.logs.swap_remove(at));
        drop(stored);
        // Values may be large: they go when others can store again.
        drop(log);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(states: &States) -> HashMap<String, Value> {
        states.read(|all| all.map(|(key, value)| (key.to_owned(), value.clone())).collect())
    }

    #[test]
    fn what_is_put_back_is_what_was_stored_whatever_happened_and_whichever_savepoints_there_are() {
        let mut state: u64 = 38;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let states = States::default();
        let mut expected = HashMap::new();
        // Each with what was stored when it was made.
        let mut points: Vec<(Savepoint, HashMap<String, Value>)> = Vec::new();
        let (mut put_back, mut beside) = (0, 0);
        for _ in 0..20_000 {
            let (key, number) = (format!("k{}", random(6)), random(100) as i64);
            match random(20) {
                0..6 => {
                    states.put(key.clone(), Some(Value::Int(number)));
                    expected.insert(key, Value::Int(number));
                }
                6..10 => {
                    states.put(key.clone(), None);
                    expected.remove(&key);
                }
                10..15 => {
                    let now = expected.get(&key).and_then(Value::as_i64).unwrap_or(0) + number;
                    assert_eq!(states.count(key.clone(), number), now);
                    if number != 0 {
                        expected.insert(key, Value::Int(now));
                    }
                }
                15 => {
                    expected = HashMap::from([(key, Value::Int(number)), ("other".into(), Value::Null)]);
                    states.replace(expected.clone());
                }
                16 => points.push((states.savepoint(), expected.clone())),
                which if !points.is_empty() => {
                    let at = random(points.len() as u64) as usize;
                    if which < 19 {
                        points[at].0.put_back();
                        expected.clone_from(&points[at].1);
                        (put_back, beside) = (put_back + 1, beside + usize::from(points.len() > 1));
                    }
                    if which > 17 || points.len() > 4 {
                        drop(points.swap_remove(at));
                    }
                }
                _ => {}
            }
            assert_eq!(all(&states), expected);
        }
        assert!(put_back > 800 && beside > 400, "{put_back}, {beside} of them with others there");
    }

    #[test]
    fn a_savepoint_notes_what_is_written_and_nothing_else_and_leaves_nothing_behind() {
        let states = States::default();
        (0..1000).for_each(|n| states.put(format!("k{n}"), Some(Value::Int(n))));
        let point = states.savepoint();
        for n in 1..4 {
            states.count("k1".to_owned(), n);
            states.put("k2".to_owned(), None);
        }
        states.count("k3".to_owned(), 0);
        let noted = |states: &States| lock(&states.0).logs.iter().map(|log| log.old.len()).collect::<Vec<_>>();
        assert_eq!(noted(&states), [2]);
        point.put_back();
        assert_eq!(noted(&states), [0]);
        drop(point);
        assert_eq!(noted(&states), [0; 0]);
    }

    #[test]
    fn nobody_sees_a_part_of_what_is_put_back() {
        let states = States::default();
        let pair = |states: &States| {
            let both = all(states);
            (both.get("a").cloned(), both.get("b").cloned())
        };
        let point = states.savepoint();
        let write = |n| states.replace(["a", "b"].map(|key| (key.to_owned(), Value::Int(n))).into());
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while pair(&states).0 != Some(Value::Int(-1)) {
                    let (a, b) = pair(&states);
                    assert_eq!(a, b);
                }
            });
            for n in 0..2000 {
                write(n);
                point.put_back();
            }
            write(-1);
            looking.join().unwrap();
        });
    }
}
