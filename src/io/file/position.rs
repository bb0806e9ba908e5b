//! Where a file source stands: in which file, how far, and which files of a folder it has given.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Time;
use crate::data::{Object, Text, Value};

use super::folder::Look;
use super::roll::number;

/// The end of the last message that was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Position {
    /// The path of the file.
    pub(super) file: Text,
    /// What the system knows the file by: one that took its place is another.
    pub(super) number: u64,
    /// Bytes of it that were given.
    pub(super) offset: u64,
    /// `csv`: the names of the columns, which stood before.
    pub(super) names: Vec<Text>,
    /// `csv`: records so far.
    pub(super) record: u64,
    /// The files of the folder that were given, this one among them, as [`given`] lists them. Null for a single file.
    pub(super) given: Value,
}

impl Position {
    pub(super) fn value(&self) -> Value {
        let names = self.names.iter().cloned().map(Value::Text).collect();
        let entries = [
            ("file", Value::Text(self.file.clone())),
            ("number", Value::Int(self.number as i64)),
            ("offset", Value::Int(self.offset as i64)),
            ("names", Value::array(names)),
            ("record", Value::Int(self.record as i64)),
            ("given", self.given.clone()),
        ];
        Value::object(entries.into_iter().map(|(name, value)| (Text::const_new(name), value)).collect::<Object>())
    }

    pub(super) fn read(value: &Value) -> Option<Position> {
        let Value::Object(object) = value else { return None };
        let number = |name| object.get(name)?.as_i64();
        let Value::Array(names) = object.get("names")? else { return None };
        Some(Position {
            file: object.get("file")?.as_str()?.into(),
            number: number("number")? as u64,
            offset: u64::try_from(number("offset")?).ok()?,
            names: names.iter().map(|name| name.as_str().map(Text::new)).collect::<Option<_>>()?,
            record: u64::try_from(number("record")?).ok()?,
            given: object.get("given")?.clone(),
        })
    }

    /// Whether the file there is the one that was read, and holds what was read of it.
    pub(super) fn fits(&self, path: &Path) -> bool {
        self.file == path.to_string_lossy()
            && fs::metadata(path).is_ok_and(|about| number(&about) == self.number && about.len() >= self.offset)
    }
}

/// The files that were given, but for those in `left`, whose turn has not come.
pub(super) fn given(files: &HashMap<PathBuf, Look>, left: &[PathBuf]) -> Arc<Vec<Value>> {
    let left: HashSet<&PathBuf> = left.iter().collect();
    let done = files.iter().filter(|(path, _)| !left.contains(path));
    Arc::new(done.filter_map(|(path, look)| entry(path, look)).collect())
}

/// A file in the list: its name, when it was written, and its length.
pub(super) fn entry(path: &Path, look: &Look) -> Option<Value> {
    let name = path.file_name()?.to_str()?;
    Some(Value::array(vec![Value::text(name), Value::Int(look.written.0), Value::Int(look.length as i64)]))
}

/// What [`given`] listed.
pub(super) fn listed(list: &Value, folder: &Path) -> HashMap<PathBuf, Look> {
    let Value::Array(list) = list else { return HashMap::new() };
    let one = |entry: &Value| {
        let Value::Array(entry) = entry else { return None };
        let [name, written, length] = &entry[..] else { return None };
        let look = Look { written: Time(written.as_i64()?), length: length.as_i64()? as u64 };
        Some((folder.join(name.as_str()?), look))
    };
    list.iter().filter_map(one).collect()
}
