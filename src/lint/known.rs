//! What is known of the streams that statements read: their definitions, and rows that they are known to have.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json};

use crate::data::Text;
use crate::plan::Stream;

/// The stream name of rows that may be of any stream.
const ANY: &str = "*";

/// Streams, and rows of them.
#[derive(Clone, Debug, Default)]
pub struct Known {
    streams: BTreeMap<Text, Stream>,
    /// By the names of their streams.
    rows: BTreeMap<String, Rows>,
}

/// Rows, and the names of all their columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub all: Vec<Map<String, Json>>,
    pub columns: HashSet<String>,
}

impl Known {
    /// Adds a stream, unless there is one of that name.
    pub fn add_stream(&mut self, stream: Stream) {
        self.streams.entry(stream.name.clone()).or_insert(stream);
    }

    /// Adds a row, or a list of rows, of the stream, or of any where there is no name. What is no row is left out.
    pub fn add_rows(&mut self, stream: Option<&str>, rows: Json) {
        match rows {
            Json::Object(row) => {
                let known = self.rows.entry(stream.unwrap_or(ANY).to_owned()).or_default();
                let new = row.keys().filter(|name| !known.columns.contains(*name)).cloned().collect::<Vec<_>>();
                known.columns.extend(new);
                known.all.push(row);
            }
            Json::Array(rows) => rows.into_iter().for_each(|row| self.add_rows(stream, row)),
            _ => {}
        }
    }

    /// Adds all that another knows; of two streams of one name ours counts.
    pub fn extend(&mut self, other: &Known) {
        other.streams.values().for_each(|stream| self.add_stream(stream.clone()));
        for (stream, rows) in &other.rows {
            let known = self.rows.entry(stream.clone()).or_default();
            known.all.extend(rows.all.iter().cloned());
            known.columns.extend(rows.columns.iter().cloned());
        }
    }

    /// The rows by the names of their streams; of those that may be of any it is `*`.
    pub fn to_json(&self) -> Json {
        let of = |rows: &Rows| rows.all.iter().cloned().map(Json::Object).collect();
        Json::Object(self.rows.iter().map(|(stream, rows)| (stream.clone(), of(rows))).collect())
    }

    /// The same read again.
    ///
    /// # Errors
    /// A sentence that says what is no list of rows.
    pub fn from_json(rows: Json) -> Result<Known, String> {
        let Json::Object(streams) = rows else {
            return Err("`samples` must be an object with a list of rows for each stream".into());
        };
        let mut known = Known::default();
        for (stream, rows) in streams {
            match rows {
                Json::Array(rows) if rows.iter().all(Json::is_object) => {
                    let of = Some(stream.as_str()).filter(|stream| *stream != ANY);
                    known.add_rows(of, Json::Array(rows));
                }
                _ => return Err(format!("`samples` of `{stream}` must be a list of rows, which are objects")),
            }
        }
        Ok(known)
    }

    /// The definition of a stream.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().map(Text::as_str)
    }

    pub(super) fn rows_of(&self, stream: &str) -> Vec<&Rows> {
        [stream, ANY].into_iter().filter_map(|name| self.rows.get(name)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_go_over_the_wire_as_they_are() {
        let rows = json!({"*": [{"a": 1}], "s": [{"b": null}, {"c": "x"}]});
        let known = Known::from_json(rows.clone()).unwrap();
        assert_eq!(known.to_json(), rows);
        let count = |stream: &str| known.rows_of(stream).iter().map(|rows| rows.all.len()).sum::<usize>();
        assert_eq!((count("s"), count("t")), (3, 1));
        for wrong in [json!([]), json!({"s": {"a": 1}}), json!({"s": [1]})] {
            assert!(Known::from_json(wrong.clone()).unwrap_err().contains("`samples`"), "{wrong}");
        }
    }

    #[test]
    fn of_two_streams_of_one_name_the_first_counts() {
        let mut known = Known::default();
        known.add_stream(Stream::schemaless("s"));
        let mut other = Known::default();
        other.add_stream(Stream { binary: true, ..Stream::schemaless("s") });
        other.add_stream(Stream { binary: true, ..Stream::schemaless("t") });
        known.extend(&other);
        assert_eq!(["s", "t"].map(|name| known.stream(name).unwrap().binary), [false, true]);
    }
}
