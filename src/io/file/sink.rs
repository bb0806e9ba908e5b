//! The file sink: appends messages to files, one for each value of `path`, and rolls them by count, size and age.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::clock::Time;
use crate::codec::{self, FormatOptions, Rows};
use crate::data::{Layout as Columns, Text, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::props::{self, Period};
use crate::io::{Content, Env, Link, Parcel, Report, RowSet, Sink, SinkPlan, SinkSpec, Stopped, Takes};

use super::blocking;
use super::roll::{Layout, Limits, Naming, Open};
use super::words;

const NAMES: props::Names = props::Names {
    of: "the `file` sink",
    passed: &["format", "delimiter", "hasHeader", "fields"],
    ignored: &[],
    refused: &[
        "compression",
        "compressionProps",
        "connectionSelector",
        "encryption",
        "encProps",
        "rollingHook",
        "rollingHookProps",
    ],
    elsewhere: props::OF_EVERY_SINK,
};

/// Options of the `file` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Options {
    /// The file; may hold a template. A relative one starts at the folder of the installation; missing folders are made.
    path: String,
    /// `lines`: one message a line. `json`: an array of messages. `csv`: records; needs `format: delimited`.
    file_type: String,
    /// Age at which a file is laid aside; 0: never.
    rolling_interval: Period,
    /// Messages after which a file is laid aside; 0: never.
    rolling_count: u64,
    /// Bytes after which a file is laid aside; 0: never.
    rolling_size: u64,
    /// How often the age is looked at.
    check_interval: Period,
    /// ``: the file has the name of the path, and a full one gets its time as suffix. `prefix`: each is named
    /// `<milliseconds>-name`. `suffix`: `name-<milliseconds>.ext`.
    rolling_name_pattern: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            path: "cache".into(),
            file_type: "lines".into(),
            rolling_interval: Period::default(),
            rolling_count: 1_000_000,
            rolling_size: 0,
            check_interval: Period::secs(300),
            rolling_name_pattern: String::new(),
        }
    }
}

pub(super) fn plan(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (options, warnings) = props::read::<Options>(&spec.props, &NAMES)?;
    let quoted = |text: &str| format!("`{text}`");
    let (layout, csv) = match options.file_type.as_str() {
        "lines" | "" => (Layout::Lines, false),
        "json" => (Layout::Array, false),
        "csv" => (Layout::Lines, true),
        other => {
            let found = props::wrong(&NAMES, "fileType", quoted(other), "`lines`, `json` or `csv`");
            return Err(found.suggest(other, ["lines", "json", "csv"]));
        }
    };
    if csv && spec.format.format != "delimited" {
        let text = "the `file` sink can write `fileType` csv in the format `delimited` only";
        return Err(Diagnostic::error("K0624", text).help("set `\"format\": \"delimited\"`"));
    }
    let naming = match options.rolling_name_pattern.as_str() {
        "" | "none" => Naming::Plain,
        "prefix" => Naming::Prefix,
        "suffix" => Naming::Suffix,
        other => return Err(props::wrong(&NAMES, "rollingNamePattern", quoted(other), "`none`, `prefix` or `suffix`")),
    };
    let limits =
        Limits { messages: options.rolling_count, bytes: options.rolling_size, age: options.rolling_interval.0 };
    if limits == Limits::default() {
        let text = "the `file` sink needs `rollingInterval`, `rollingCount` or `rollingSize` above 0";
        return Err(Diagnostic::error("K0622", text).help("for example `\"rollingCount\": 1000000`"));
    }
    let check = options.check_interval.some().unwrap_or(limits.age).min(limits.age).max(Duration::from_millis(1));
    let (env, format) = (spec.env, spec.format);
    let open = move || {
        Ok(Box::new(FileSink {
            path: options.path.clone(),
            layout,
            naming,
            limits,
            check,
            csv: csv.then(|| Csv { format: format.clone(), columns: Vec::new() }),
            env: env.clone(),
            open: HashMap::new(),
            aside: None,
        }) as Box<dyn Sink>)
    };
    Ok(SinkPlan { open: Box::new(open), takes: if csv { Takes::Rows } else { Takes::Bytes }, warnings })
}

struct FileSink {
    path: String,
    layout: Layout,
    naming: Naming,
    limits: Limits,
    /// How often the age of files is looked at.
    check: Duration,
    csv: Option<Csv>,
    env: Env,
    /// The files that are being written, by the path as the parcels say it.
    open: HashMap<String, Open>,
    /// Files that are being laid aside for their age.
    aside: Option<JoinHandle<io::Result<()>>>,
}

/// Parcels in a row that go to one file, as messages.
struct Run {
    path: String,
    /// To be written at the head of a new file.
    header: Option<Bytes>,
    messages: Vec<Bytes>,
    /// Of each parcel, how many messages there are up to its end.
    ends: Vec<usize>,
}

#[async_trait::async_trait]
impl Sink for FileSink {
    async fn connect(&mut self, report: Report) -> Result<()> {
        report.set(Link::Connected);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        self.settle().await;
        let mut delivered = 0;
        while delivered < parcels.len() {
            let (run, fault) = self.gather(&parcels[delivered..]);
            let count = run.ends.len();
            if count > 0 {
                let (written, result) = self.write(run).await;
                delivered += written;
                result.map_err(|fault| Stopped { delivered, fault })?;
            }
            if let Some(fault) = fault {
                return Err(Stopped { delivered, fault });
            }
        }
        Ok(())
    }

    async fn idle(&mut self) {
        loop {
            if self.limits.age.is_zero() || self.open.is_empty() {
                return std::future::pending().await;
            }
            self.env.clock.sleep(self.check).await;
            let now = self.env.clock.now();
            let due = |open: &Open| open.due(&self.limits).is_some_and(|due| due <= now);
            let old: Vec<Open> = self.open.extract_if(|_, open| due(open)).map(|(_, open)| open).collect();
            let naming = self.naming;
            self.settle().await;
            let work = move || old.into_iter().try_for_each(|open| open.lay_aside(naming, now));
            self.aside = Some(tokio::task::spawn_blocking(work));
            self.settle().await;
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.settle().await;
        let open: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        let path = self.env.root.join(&self.path);
        let sync = move || open.iter().try_for_each(Open::sync);
        blocking(sync).await?.map_err(|error| cannot("close", &path, &error))
    }
}

impl FileSink {
    /// The first parcels that go to the same file, and why there are no more, if that is a fault.
    fn gather(&mut self, parcels: &[Parcel]) -> (Run, Option<Fault>) {
        let mut run = Run { path: String::new(), header: None, messages: Vec::new(), ends: Vec::new() };
        for parcel in parcels {
            let path = parcel.prop("path", &self.path);
            if run.ends.is_empty() {
                run.path = path.to_owned();
            } else if run.path != path {
                break;
            }
            let dynamic = parcel.props.iter().any(|(name, _)| name == "path");
            if path.is_empty() || path.contains('\0') || (dynamic && climbs(path)) {
                let text = format!("cannot write to `{path}`: a path from a row must not be empty or go up by `..`");
                return (run, Some(Fault::refused(text)));
            }
            match (&parcel.content, &mut self.csv) {
                (Content::Bytes(bytes), None) => run.messages.push(bytes.clone()),
                (Content::Rows(rows), Some(csv)) => match csv.lines(rows) {
                    Ok(lines) => run.messages.extend(lines),
                    Err(fault) => return (run, Some(fault)),
                },
                _ => return (run, Some(Fault::bug("the file sink was given the wrong kind of content"))),
            }
            run.ends.push(run.messages.len());
        }
        run.header = self.csv.as_ref().and_then(Csv::header);
        (run, None)
    }

    /// Writes a run, rolling as it goes; says how many parcels were written as a whole.
    async fn write(&mut self, run: Run) -> (usize, Result<()>) {
        let path = self.env.root.join(&run.path);
        let (naming, layout, limits, now) = (self.naming, self.layout, self.limits, self.env.clock.now());
        let file = self.open.remove(&run.path);
        let name = run.path.clone();
        let work = move || {
            let mut file = file;
            let mut written = 0;
            let result = write(&mut file, &path, &run, &mut written, (naming, layout, limits, now));
            let parcels = run.ends.partition_point(|end| *end <= written);
            (file, parcels, result.map_err(|error| cannot("write to", &path, &error)))
        };
        match blocking(work).await {
            Ok((file, parcels, result)) => {
                self.open.extend(file.map(|file| (name, file)));
                (parcels, result)
            }
            Err(fault) => (0, Err(fault)),
        }
    }

    /// Waits until old files are laid aside. May be cancelled; then the next call waits on.
    async fn settle(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        if let Ok(Err(error)) = aside.await {
            tracing::warn!("the file sink of `{}` cannot lay a file aside: {}", self.env.owner, words(&error));
        }
        self.aside = None;
    }
}

fn write(
    file: &mut Option<Open>,
    path: &Path,
    run: &Run,
    written: &mut usize,
    (naming, layout, limits, now): (Naming, Layout, Limits, Time),
) -> io::Result<()> {
    while *written < run.messages.len() {
        let old = file.take_if(|open| {
            open.is_gone() || open.room(&limits) == 0 || open.due(&limits).is_some_and(|due| due <= now)
        });
        if let Some(old) = old
            && !old.is_gone()
        {
            old.lay_aside(naming, now)?;
        }
        let open = match file {
            Some(open) => open,
            None => {
                // A file that was full when we were stopped is full now.
                let mut open = Open::at(path, naming, layout, now)?;
                if open.room(&limits) == 0 {
                    open.lay_aside(naming, now)?;
                    open = Open::at(path, naming, layout, now)?;
                }
                if open.is_new()
                    && let Some(header) = &run.header
                {
                    open.head(header)?;
                }
                file.insert(open)
            }
        };
        let left = &run.messages[*written..];
        let fit = fitting(left, open, &limits);
        open.append(left[..fit].iter().map(|message| &message[..]))?;
        *written += fit;
    }
    Ok(())
}

/// How many of the messages go into the file before it is full: at least one.
fn fitting(messages: &[Bytes], open: &Open, limits: &Limits) -> usize {
    let most = messages.len().min(open.room(limits));
    if limits.bytes == 0 {
        return most;
    }
    let mut left = open.left(limits);
    let mut fit = 0;
    while fit < most && left > 0 {
        left = left.saturating_sub(messages[fit].len() as u64 + 1);
        fit += 1;
    }
    fit.max(1)
}

/// Writes rows as CSV. The columns are those of the options, or else of the first row.
struct Csv {
    format: FormatOptions,
    columns: Vec<Text>,
}

impl Csv {
    fn header(&self) -> Option<Bytes> {
        let delimiter = if self.format.delimiter.is_empty() { "," } else { &self.format.delimiter };
        let names: Vec<&str> = self.columns.iter().map(Text::as_str).collect();
        self.format.has_header.then(|| Bytes::from(names.join(delimiter) + "\n"))
    }

    fn lines(&mut self, rows: &RowSet) -> Result<Vec<Bytes>> {
        let mut lines = Vec::with_capacity(rows.rows.len());
        for row in rows.objects() {
            if self.columns.is_empty() {
                self.columns = match self.format.fields.is_empty() {
                    true => row.keys().cloned().collect(),
                    false => self.format.fields.clone(),
                };
            }
            let layout = Columns::from_iter(self.columns.iter().cloned());
            let values: Vec<Value> =
                self.columns.iter().map(|name| row.get(name).cloned().unwrap_or(Value::Null)).collect();
            let options = FormatOptions { fields: self.columns.clone(), has_header: false, ..self.format.clone() };
            let setup = |found: Diagnostic| Fault::setup(found.to_string());
            let format = codec::format("delimited").map_err(setup)?;
            let mut line = Vec::new();
            let rows = Rows { layout: &layout, rows: &[&values], single: true };
            (format.encoder)(&options, &layout).map_err(setup)?.encode(&rows, &mut line)?;
            lines.push(Bytes::from(line));
        }
        Ok(lines)
    }
}

/// Whether a path leads out of the folder that it starts in.
fn climbs(path: &str) -> bool {
    PathBuf::from(path).components().any(|part| part == Component::ParentDir)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::unreachable(format!("cannot {what} `{}`: {}", path.display(), words(error)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use serde_json::{Value as Json, json};

    use crate::clock::Clock;
    use crate::io::tests::sink_spec;

    use super::*;

    struct Fixture {
        temp: tempfile::TempDir,
        clock: Clock,
        props: Json,
    }

    impl Fixture {
        fn new(props: Json) -> Fixture {
            let temp = tempfile::tempdir().unwrap();
            Fixture { temp, clock: Clock::stopped_at(Time(1_000)), props }
        }

        fn sink(&self) -> Box<dyn Sink> {
            let mut spec = sink_spec(self.props.clone(), self.temp.path());
            spec.env.clock = self.clock.clone();
            (plan(spec).map_err(|error| error.to_string()).unwrap().open)().unwrap()
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.temp.path().join(name)).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(self.temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn parcels(texts: &[&str]) -> Vec<Parcel> {
        let parcel =
            |text: &&str| Parcel { content: Content::Bytes(Bytes::copy_from_slice(text.as_bytes())), props: vec![] };
        texts.iter().map(parcel).collect()
    }

    #[tokio::test]
    async fn lines_are_on_disk_when_deliver_returns_and_a_restart_appends() {
        let fixture = Fixture::new(json!({"path": "sub/out"}));
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["1", "2"])).await.unwrap();
        assert_eq!(fixture.text("sub/out"), "1\n2\n");
        drop(sink);
        fs::write(fixture.temp.path().join("sub/out"), "1\n2\n3 cut o").unwrap();
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["3"])).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(fixture.text("sub/out"), "1\n2\n3 cut o\n3\n");
    }

    #[tokio::test]
    async fn an_array_is_whole_after_each_delivery() {
        let fixture = Fixture::new(json!({"path": "out.json", "fileType": "json"}));
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["1", "[2]"])).await.unwrap();
        assert_eq!(fixture.text("out.json"), "[1,[2]]\n");
        sink.deliver(&parcels(&["3"])).await.unwrap();
        drop(sink);
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["4"])).await.unwrap();
        assert_eq!(fixture.text("out.json"), "[1,[2],3,4]\n");
        drop(sink);
        fs::write(fixture.temp.path().join("out.json"), "[1,{\"a").unwrap();
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["5"])).await.unwrap();
        assert_eq!(fixture.names(), ["out-1000.json", "out.json"]);
        assert_eq!(fixture.text("out.json"), "[5]\n");
    }

    #[tokio::test]
    async fn rolling_by_count_keeps_all_messages() {
        for (pattern, names) in [
            ("", ["out-1000.txt", "out-1001.txt", "out.txt"]),
            ("suffix", ["out-1000.txt", "out-2000.txt", "out-3000.txt"]),
            ("prefix", ["1000-out.txt", "2000-out.txt", "3000-out.txt"]),
        ] {
            let fixture = Fixture::new(json!({"path": "out.txt", "rollingCount": 2, "rollingNamePattern": pattern}));
            let mut sink = fixture.sink();
            if pattern.is_empty() {
                sink.deliver(&parcels(&["1", "2", "3", "4", "5"])).await.unwrap();
            } else {
                for (at, texts) in [(1_000, vec!["1", "2"]), (2_000, vec!["3", "4"]), (3_000, vec!["5"])] {
                    fixture.clock.set(Time(at));
                    sink.deliver(&parcels(&texts)).await.unwrap();
                }
            }
            assert_eq!(fixture.names(), names);
            let all: String = fixture.names().iter().map(|name| fixture.text(name)).collect();
            assert_eq!(all, "1\n2\n3\n4\n5\n");
        }
    }

    #[tokio::test]
    async fn rolling_by_size_and_by_age() {
        let fixture = Fixture::new(json!({"path": "out", "rollingSize": 6, "rollingCount": 0}));
        fixture.sink().deliver(&parcels(&["11", "22", "33"])).await.unwrap();
        assert_eq!((fixture.text("out-1000"), fixture.text("out")), ("11\n22\n".into(), "33\n".into()));

        let fixture = Fixture::new(json!({"path": "out", "rollingInterval": "10s", "rollingCount": 0}));
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["1"])).await.unwrap();
        let aside = async {
            while fixture.names() == ["out"] {
                fixture.clock.set(fixture.clock.now() + Duration::from_secs(1));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = sink.idle() => unreachable!(),
            _ = aside => {}
        }
        let [aside] = &fixture.names()[..] else { unreachable!() };
        sink.deliver(&parcels(&["2"])).await.unwrap();
        assert_eq!((fixture.text(aside), fixture.text("out")), ("1\n".into(), "2\n".into()));
    }

    #[tokio::test]
    async fn each_path_has_its_file_and_rows_cannot_climb_out() {
        let fixture = Fixture::new(json!({"path": "{{.dir}}/out"}));
        let mut sink = fixture.sink();
        let mut all = parcels(&["1", "2", "3", "4"]);
        for (parcel, path) in all.iter_mut().zip(["a/out", "b/out", "a/out", "../out"]) {
            parcel.props = vec![("path".into(), path.into())];
        }
        let stopped = sink.deliver(&all).await.unwrap_err();
        assert_eq!((stopped.delivered, stopped.fault.reason()), (3, "refused"));
        assert_eq!((fixture.text("a/out"), fixture.text("b/out")), ("1\n3\n".into(), "2\n".into()));
    }

    #[tokio::test]
    async fn a_file_that_was_taken_away_is_made_anew() {
        let fixture = Fixture::new(json!({"path": "out"}));
        let mut sink = fixture.sink();
        sink.deliver(&parcels(&["1"])).await.unwrap();
        fs::remove_file(fixture.temp.path().join("out")).unwrap();
        sink.deliver(&parcels(&["2"])).await.unwrap();
        assert_eq!(fixture.text("out"), "2\n");
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_worth_another_try() {
        let fixture = Fixture::new(json!({"path": "out"}));
        fs::create_dir(fixture.temp.path().join("out")).unwrap();
        let stopped = fixture.sink().deliver(&parcels(&["1"])).await.unwrap_err();
        assert_eq!((stopped.delivered, stopped.fault.retry()), (0, crate::diag::Retry::Later));
    }

    #[tokio::test]
    async fn csv_has_a_header_in_each_file() {
        let fixture = Fixture::new(json!({"path": "out.csv", "fileType": "csv", "rollingCount": 2}));
        let mut spec = sink_spec(fixture.props.clone(), fixture.temp.path());
        spec.format = FormatOptions { format: "delimited".into(), has_header: true, ..Default::default() };
        let mut sink = (plan(spec).unwrap().open)().unwrap();
        let layout = Arc::new(Columns::from_iter(["a", "b"]));
        let row = |n: i64| vec![Value::Int(n), Value::text("x,y")];
        let rows = RowSet { layout, rows: vec![row(1), row(2), row(3)], single: false };
        sink.deliver(&[Parcel { content: Content::Rows(rows), props: vec![] }]).await.unwrap();
        let files: Vec<_> = fixture.names().iter().map(|name| fixture.text(name).lines().count()).collect();
        assert_eq!(files, [3, 2]);
        assert!(fixture.text("out.csv").starts_with("a,b\n3,"));
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (props, text) in [
            (json!({"fileType": "csv"}), "csv in the format `delimited` only"),
            (json!({"rollingCount": 0}), "needs `rollingInterval`, `rollingCount` or `rollingSize` above 0"),
            (json!({"rollingNamePattern": "date"}), "must be `none`, `prefix` or `suffix`, found `date`"),
            (json!({"compression": "gzip"}), "cannot do what property `compression` asks for"),
        ] {
            let error = plan(sink_spec(props, ".")).err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
