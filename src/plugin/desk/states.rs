//! What a guest stores under its keys, and the way back for a call that comes to nothing.
//!
//! Before such a call a [`Savepoint`] is made. From then on the old value of each key that is written goes into its log, the
//! first time, whoever writes: the guest may do so from any thread. [`Savepoint::put_back`] writes the log back, at once for
//! all who look on, and then what is stored is what was stored when the savepoint was made. So a call costs what it writes,
//! and not what is stored. Savepoints know nothing of each other: what one puts back is in the logs of the others like all
//! that is written.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::data::Value;

use super::lock;

/// What a guest stored; it lives as long as the rule that the guest is used in. Clones are the same, not copies.
#[derive(Clone, Default)]
pub struct States(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    values: HashMap<String, Kept>,
    /// By when their savepoints were made: one of the call, and one of each group of an aggregate in a process of its own.
    logs: BTreeMap<u64, Log>,
    /// How many times a savepoint was made, or put back.
    now: u64,
    /// Keys that were removed while there was a savepoint, each once.
    removed: Vec<String>,
}

struct Kept {
    /// Nothing where it was removed since: a savepoint is to know that it knows.
    value: Option<Value>,
    /// When it was written. What was written since a savepoint was made is in its log.
    at: u64,
    /// It is among the removed.
    listed: bool,
}

/// What was stored under keys before they were written; nothing where nothing was. Each key is there once.
type Log = Vec<(String, Option<Value>)>;

impl Stored {
    /// Writes, or removes; whoever does not know the old value yet is told.
    fn write(&mut self, key: String, value: Option<Value>) {
        let (at, gone) = (self.now, value.is_none());
        let Some(kept) = self.values.get_mut(&key) else {
            if !gone {
                if !self.logs.is_empty() {
                    self.note(key.clone(), None, 0);
                }
                self.values.insert(key, Kept { value, at, listed: false });
            }
            return;
        };
        if gone && kept.value.is_none() {
            return;
        }
        let written = mem::replace(&mut kept.at, at);
        let old = mem::replace(&mut kept.value, value);
        if gone && self.logs.is_empty() {
            self.values.remove(&key);
            return;
        }
        if gone && !mem::replace(&mut kept.listed, true) {
            self.removed.push(key.clone());
        }
        self.note(key, old, written);
    }

    fn note(&mut self, key: String, old: Option<Value>, written: u64) {
        let mut lacking = self.logs.range_mut(written + 1..).map(|(_, log)| log);
        let Some(first) = lacking.next() else { return };
        lacking.for_each(|log| log.push((key.clone(), old.clone())));
        first.push((key, old));
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)?.value.as_ref()
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().filter_map(|(key, kept)| Some((key.as_str(), kept.value.as_ref()?)))
    }

    /// A savepoint is gone; after the last one nobody asks when something was removed.
    fn end(&mut self, since: u64) -> Option<Log> {
        let log = self.logs.remove(&since);
        if self.logs.is_empty() {
            for key in self.removed.drain(..) {
                match self.values.get_mut(&key) {
                    Some(kept) if kept.value.is_some() => kept.listed = false,
                    _ => drop(self.values.remove(&key)),
                }
            }
        }
        log
    }
}

impl States {
    pub fn get(&self, key: &str) -> Option<Value> {
        lock(&self.0).value(key).cloned()
    }

    /// Stores a value, or removes what is stored under the key.
    pub fn put(&self, key: String, value: Option<Value>) {
        lock(&self.0).write(key, value);
    }

    /// Adds to a counter, and gives what it then is.
    pub fn count(&self, key: String, by: i64) -> i64 {
        let mut stored = lock(&self.0);
        let counted = stored.value(&key).and_then(Value::as_i64);
        let now = counted.unwrap_or(0).saturating_add(by);
        if by != 0 {
            stored.write(key, Some(Value::Int(now)));
        }
        now
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.0).all().next().is_none()
    }

    /// Looks at all that is stored, while nobody writes.
    pub fn read<T>(&self, look: impl FnOnce(&mut dyn Iterator<Item = (&str, &Value)>) -> T) -> T {
        look(&mut lock(&self.0).all())
    }

    /// Puts all this in the place of what is stored.
    pub fn replace(&self, values: HashMap<String, Value>) {
        let mut stored = lock(&self.0);
        let gone: Vec<String> =
            stored.all().filter(|(key, _)| !values.contains_key(*key)).map(|(key, _)| key.to_owned()).collect();
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
        let since = stored.now;
        stored.logs.insert(since, Log::new());
        Savepoint { states: self.clone(), since: since.into() }
    }
}

/// What was stored when it was made, as long as it is held.
pub struct Savepoint {
    states: States,
    /// When it was made, or put back last. Written while the states are locked.
    since: AtomicU64,
}

impl Savepoint {
    /// Nothing of what was stored since is. It can be put back again.
    pub fn put_back(&self) {
        let mut stored = lock(&self.states.0);
        let Some(log) = stored.logs.remove(&self.since.load(Ordering::Relaxed)) else { return };
        log.into_iter().for_each(|(key, old)| stored.write(key, old));
        // As if it were made now.
        stored.now += 1;
        let since = stored.now;
        stored.logs.insert(since, Log::new());
        self.since.store(since, Ordering::Relaxed);
    }
}

impl Drop for Savepoint {
    fn drop(&mut self) {
        let log = lock(&self.states.0).end(self.since.load(Ordering::Relaxed));
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
            for key in ["k4", "new"] {
                states.put(key.to_owned(), None);
                states.put(key.to_owned(), Some(Value::Int(n)));
            }
        }
        states.put("new".to_owned(), None);
        states.count("k3".to_owned(), 0);
        let noted = |states: &States| lock(&states.0).logs.values().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(noted(&states), [4]);
        point.put_back();
        assert_eq!(noted(&states), [0]);
        states.put("k5".to_owned(), None);
        drop(point);
        assert_eq!(noted(&states), [0; 0]);
        let stored = lock(&states.0);
        assert_eq!((stored.values.len(), stored.removed.len()), (999, 0), "nothing is left of what was removed");
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
