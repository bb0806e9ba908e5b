//! Where a file sink stands, and going back there: what was written after it is taken away, also where files were laid
//! aside and begun meanwhile.
//!
//! A [`Place`] names the file by what the system knows it by, so that it is found under its new name; and the latest
//! time in the names of its files, so that later ones are known for what they are.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::clock::Time;
use crate::data::{Object, Text, Value};

use super::roll::{How, Naming, Open, number, stamp, sync_folder};

/// Where the confirmed messages of a sink with one path end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file that is being written.
    path: PathBuf,
    /// 0 when there is none.
    number: u64,
    length: u64,
    messages: u64,
    /// The latest in the name of a file so far.
    stamp: Time,
}

impl Place {
    pub(super) fn of(open: Option<&Open>, path: &Path, stamp: Time) -> io::Result<Place> {
        let Some(open) = open else {
            return Ok(Place { path: path.to_owned(), number: 0, length: 0, messages: 0, stamp });
        };
        let (length, messages) = open.mark();
        Ok(Place { path: open.path().to_owned(), number: open.number()?, length, messages, stamp })
    }

    pub(super) fn stamp(&self) -> Time {
        self.stamp
    }

    pub(super) fn value(&self) -> Value {
        let numbers = [self.number as i64, self.length as i64, self.messages as i64, self.stamp.0].map(Value::Int);
        let names = ["number", "length", "messages", "stamp"].map(Text::const_new);
        let path = (Text::const_new("path"), Value::text(self.path.to_string_lossy()));
        Value::object(std::iter::once(path).chain(names.into_iter().zip(numbers)).collect::<Object>())
    }

    pub(super) fn read(value: &Value) -> Option<Place> {
        let Value::Object(object) = value else { return None };
        let number = |name| object.get(name)?.as_i64();
        Some(Place {
            path: object.get("path")?.as_str()?.into(),
            number: number("number")? as u64,
            length: u64::try_from(number("length")?).ok()?,
            messages: u64::try_from(number("messages")?).ok()?,
            stamp: Time(number("stamp")?),
        })
    }

    /// Takes away what was written to the files of that path since, and opens the file that was being written.
    pub(super) fn resume(&self, path: &Path, how: How, now: Time) -> io::Result<Option<Open>> {
        let mut newer = stamps(path, how.naming)?;
        newer.retain(|(at, _)| *at > self.stamp);
        let same = |path: &Path| fs::metadata(path).is_ok_and(|about| about.is_file() && number(&about) == self.number);
        let mut open = None;
        if self.number == 0 {
            // There was none, so what has the plain name was begun since.
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            let aside = newer.iter().position(|(_, path)| same(path));
            if let Some(at) = aside.filter(|_| !same(&self.path)) {
                fs::rename(newer.swap_remove(at).1, &self.path)?;
            }
            if same(&self.path) {
                open = Some(Open::cut_to(&self.path, how, self.length, self.messages, now)?);
            } else {
                let path = self.path.display();
                tracing::warn!("`{path}` was taken away, so what was delivered last may stand twice in its files");
            }
        }
        for (_, path) in newer.iter().filter(|(_, path)| *path != self.path) {
            fs::remove_file(path)?;
        }
        match sync_folder(path) {
            // Nothing was ever written.
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(open),
        }
    }
}

/// The latest time in the name of a file of that path.
pub(super) fn latest(path: &Path, naming: Naming) -> io::Result<Option<Time>> {
    Ok(stamps(path, naming)?.into_iter().map(|(at, _)| at).max())
}

/// The files beside that path which have a time in their names, as the sink names them.
fn stamps(path: &Path, naming: Naming) -> io::Result<Vec<(Time, PathBuf)>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(at) = entry.file_name().to_str().and_then(|name| stamp(path, naming, name)) {
            found.push((at, path.with_file_name(entry.file_name())));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::{Value as Json, json};

    use crate::clock::Clock;
    use crate::codec::FormatOptions;
    use crate::data::Layout;
    use crate::io::tests::sink_spec;
    use crate::io::{Content, Parcel, RowSet, Sink};

    use super::super::sink::plan;

    use super::*;

    struct Fixture {
        temp: tempfile::TempDir,
        props: Json,
        clock: Clock,
    }

    impl Fixture {
        fn new(props: Json) -> Fixture {
            let (temp, clock) = (tempfile::tempdir().unwrap(), Clock::stopped_at(Time(1_000)));
            Fixture { temp, props, clock }
        }

        fn is_csv(&self) -> bool {
            self.props["fileType"] == "csv"
        }

        fn sink(&self) -> Box<dyn Sink> {
            let mut spec = sink_spec(self.props.clone(), self.temp.path());
            (spec.durable, spec.env.clock) = (true, self.clock.clone());
            if self.is_csv() {
                spec.format = FormatOptions { format: "delimited".into(), has_header: true, ..Default::default() };
            }
            (plan(spec).map_err(|error| error.to_string()).unwrap().open)().unwrap()
        }

        async fn deliver(&self, sink: &mut dyn Sink, numbers: std::ops::Range<i64>) {
            let parcel = |n: i64| {
                let content = match self.is_csv() {
                    false => Content::Bytes(Bytes::from(format!("{{\"n\":\"{n}]\"}}"))),
                    true => {
                        let rows = vec![vec![Value::Int(n), Value::text("two\nlines")]];
                        Content::Rows(RowSet { layout: Arc::new(Layout::from_iter(["a", "b"])), rows, single: true })
                    }
                };
                Parcel { content, props: vec![] }
            };
            sink.deliver(&numbers.map(parcel).collect::<Vec<_>>()).await.unwrap();
        }

        /// All files with what stands in them.
        fn files(&self) -> BTreeMap<String, String> {
            let entries = fs::read_dir(self.temp.path()).unwrap().map(|entry| entry.unwrap());
            let text = |path: PathBuf| fs::read_to_string(path).unwrap();
            entries.map(|entry| (entry.file_name().into_string().unwrap(), text(entry.path()))).collect()
        }
    }

    fn kinds() -> Vec<Json> {
        let mut all = Vec::new();
        for kind in ["lines", "json", "csv"] {
            for pattern in ["", "prefix", "suffix"] {
                for count in if kind == "json" { vec![1, 1_000] } else { vec![3] } {
                    all.push(json!({
                        "path": "out.x", "fileType": kind, "rollingNamePattern": pattern, "rollingCount": count
                    }));
                }
            }
        }
        all
    }

    #[tokio::test]
    async fn what_came_after_a_position_is_taken_back() {
        for props in kinds() {
            for before in [0, 2] {
                let fixture = Fixture::new(props.clone());
                let mut sink = fixture.sink();
                // Files of another run stay, whatever the clock said then.
                fs::write(fixture.temp.path().join("out-5000.x"), "old\n").unwrap();
                fs::write(fixture.temp.path().join("5000-out.x"), "old\n").unwrap();
                fixture.deliver(sink.as_mut(), 0..before).await;
                let position = sink.position().await.unwrap().unwrap();
                let expected = fixture.files();
                fixture.deliver(sink.as_mut(), 10..12).await;
                fixture.clock.set(Time(1_003));
                fixture.deliver(sink.as_mut(), 12..15).await;
                drop(sink);
                assert_ne!(fixture.files(), expected);
                let mut sink = fixture.sink();
                sink.resume(&position).await.unwrap();
                assert_eq!(fixture.files(), expected, "{props} {before}");
                // Again, as after a crash in the midst of it; and then it goes on as if nothing had been.
                sink.resume(&position).await.unwrap();
                fixture.deliver(sink.as_mut(), before..9).await;
                let all: String = fixture.files().into_values().filter(|text| text != "old\n").collect();
                let mut digits: Vec<char> = all.chars().filter(char::is_ascii_digit).collect();
                digits.sort_unstable();
                assert_eq!(String::from_iter(digits), "012345678", "{props} {before}: {:?}", fixture.files());
            }
        }
    }

    #[tokio::test]
    async fn a_file_cut_at_any_byte_keeps_what_is_whole_and_goes_on() {
        for kind in ["lines", "json", "csv"] {
            let fixture = Fixture::new(json!({"path": "out", "fileType": kind}));
            let path = fixture.temp.path().join("out");
            let mut wholes = vec![String::new()];
            let mut sink = fixture.sink();
            for n in 0..3 {
                fixture.deliver(sink.as_mut(), n..n + 1).await;
                wholes.push(fs::read_to_string(&path).unwrap());
            }
            drop(sink);
            let whole = wholes[3].clone();
            let mut kept_all = 0;
            for length in 0..=whole.len() {
                fs::write(&path, &whole[..length]).unwrap();
                let mut sink = fixture.sink();
                sink.position().await.unwrap();
                let found = fs::read_to_string(&path).unwrap();
                // The header of a table alone is as good as nothing.
                let kept = wholes.iter().position(|one| *one == found).or((found == "a,b\n").then_some(0));
                let kept = kept.unwrap_or_else(|| unreachable!("{kind} cut at {length}: {found:?}"));
                let least = wholes.iter().rposition(|one| one.len() <= length).unwrap_or_default();
                assert!(kept >= least, "{kind} cut at {length}: {found:?}");
                fixture.deliver(sink.as_mut(), kept as i64..3).await;
                assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{kind} cut at {length}");
                kept_all += kept;
            }
            assert!(kept_all > 0);
        }
    }

    #[tokio::test]
    async fn a_path_that_depends_on_the_row_has_no_position() {
        let fixture = Fixture::new(json!({"path": "{{.a}}/out"}));
        assert_eq!(fixture.sink().position().await, Ok(None));
        let fixture = Fixture::new(json!({"path": "out"}));
        let fault = fixture.sink().resume(&Value::Null).await.unwrap_err();
        assert_eq!(fault.reason(), "setup");
    }
}
