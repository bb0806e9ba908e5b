//! The file sink: appends messages to files, one for each value of `path`, and rolls them by count, size and age.
//!
//! A durable one cuts off what a crash left of a message, and a delivery is on the disk when it is confirmed.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::clock::{Time, within};
use crate::codec::{self, FormatOptions, Rows};
use crate::data::{Layout as Columns, Text, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::props::{self, Period};
use crate::io::{Content, Env, Identity, Link, Parcel, Report, RowSet, Sink, SinkPlan, SinkSpec, Stopped, Takes};

use super::blocking;
use super::claim::Claim;
use super::place::{self, Place};
use super::roll::{How, Layout, Limits, Naming, Open};
use super::words;

/// How long the sink of an earlier version of a rule may take to close, and how often it is looked.
const HANDOVER: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

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
    let quoted = format.format == "delimited";
    let how = How { layout, naming, durable: spec.durable, quoted };
    let identity = (!options.path.contains("{{")).then(|| Identity {
        key: format!("file {}", env.root.join(&options.path).display()),
        name: format!("path `{}`", options.path),
        property: "path",
        rivalry: "one alone writes to a file, and the other waits until it is gone",
        lasts: false,
    });
    let open = move || {
        Ok(Box::new(FileSink {
            path: options.path.clone(),
            how,
            limits,
            check,
            csv: csv.then(|| Csv { format: format.clone(), columns: Vec::new() }),
            env: env.clone(),
            claims: HashMap::new(),
            open: HashMap::new(),
            aside: None,
            marks: HashMap::new(),
            stamp: None,
        }) as Box<dyn Sink>)
    };
    Ok(SinkPlan { open: Box::new(open), takes: if csv { Takes::Rows } else { Takes::Bytes }, warnings, identity })
}

struct FileSink {
    path: String,
    how: How,
    limits: Limits,
    /// How often the age of files is looked at.
    check: Duration,
    csv: Option<Csv>,
    env: Env,
    /// The right to write to each path, by the path as the parcels say it.
    claims: HashMap<String, Claim>,
    /// The files that are being written, by the path as the parcels say it.
    open: HashMap<String, Open>,
    /// Files that are being laid aside for their age.
    aside: Option<JoinHandle<io::Result<()>>>,
    /// How far the files of the delivery reached before it.
    marks: HashMap<String, (u64, u64)>,
    /// The latest time in the name of a file, once someone asked for the position: from then on each has a later one.
    stamp: Option<Time>,
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
        // One that goes with an earlier version of its rule may be about to close.
        let path = self.path.clone();
        let waits = async {
            while self.claim(&path).is_err() {
                tokio::time::sleep(STEP).await;
            }
        };
        if within(HANDOVER, waits).await.is_none() {
            self.claim(&path)?;
        }
        report.set(Link::Connected);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        self.settle().await;
        self.marks.clear();
        let mut delivered = 0;
        let result = self.put(parcels, &mut delivered).await;
        if self.how.durable
            && delivered > 0
            && let Err(fault) = self.sync().await
        {
            return Err(Stopped { delivered: 0, fault });
        }
        result.map_err(|fault| Stopped { delivered, fault })
    }

    async fn position(&mut self) -> Result<Option<Value>> {
        // With a path that depends on the row no one knows which files there will be.
        if self.path.contains("{{") {
            return Ok(None);
        }
        self.settle().await;
        let path = self.env.root.join(&self.path);
        let (how, now, stamp) = (self.how, self.env.clock.now(), self.stamp);
        let open = self.open.remove(&self.path);
        let work = move || {
            let mut open = open;
            let stamp = match stamp {
                Some(stamp) => stamp,
                None => place::latest(&path, how.naming)?.unwrap_or(now).max(now),
            };
            if open.is_none() && how.naming == Naming::Plain && path.is_file() {
                open = Some(Open::at(&path, how, now)?);
            }
            let place = Place::of(open.as_ref(), &path, stamp)?;
            Ok((open, place))
        };
        let found: io::Result<(Option<Open>, Place)> = blocking(work).await?;
        let (open, place) = found.map_err(|error| cannot("look at", &self.env.root.join(&self.path), &error))?;
        self.open.extend(open.map(|open| (self.path.clone(), open)));
        self.stamp = Some(place.stamp());
        Ok(Some(place.value()))
    }

    async fn resume(&mut self, position: &Value) -> Result<()> {
        let none = || Fault::setup("the position that was kept is none of the `file` sink");
        let place = Place::read(position).ok_or_else(none)?;
        self.settle().await;
        self.open.clear();
        self.stamp = Some(place.stamp());
        let path = self.env.root.join(&self.path);
        let (how, now, target) = (self.how, self.env.clock.now(), path.clone());
        let open = blocking(move || place.resume(&target, how, now)).await?;
        let open = open.map_err(|error| cannot("go back in", &path, &error))?;
        self.open.extend(open.map(|open| (self.path.clone(), open)));
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
            let at = later(&mut self.stamp, now);
            self.settle().await;
            let work = move || old.into_iter().try_for_each(|open| open.lay_aside(at));
            self.aside = Some(tokio::task::spawn_blocking(work));
            self.settle().await;
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.settle().await;
        let mut open: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        let path = self.env.root.join(&self.path);
        let sync = move || open.iter_mut().try_for_each(Open::sync);
        let synced = blocking(sync).await;
        self.claims.clear();
        synced?.map_err(|error| cannot("close", &path, &error))
    }
}

impl FileSink {
    /// No other sink writes to the path from now on; one that depends on the row is claimed once a row names it.
    fn claim(&mut self, path: &str) -> Result<()> {
        if path.contains("{{") || self.claims.contains_key(path) {
            return Ok(());
        }
        let claim = Claim::of(&self.env.root.join(path)).ok_or_else(|| {
            Fault::unreachable(format!("another sink of this server writes to `{path}`; give each a file of its own"))
        })?;
        self.claims.insert(path.to_owned(), claim);
        Ok(())
    }

    /// Writes the parcels, and counts those that were written as a whole.
    async fn put(&mut self, parcels: &[Parcel], delivered: &mut usize) -> Result<()> {
        while *delivered < parcels.len() {
            let (run, fault) = self.gather(&parcels[*delivered..]);
            if !run.ends.is_empty() {
                self.claim(&run.path)?;
                let (written, result) = self.write(run).await;
                *delivered += written;
                result?;
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Brings the files of the delivery to the disk. After an error none of it is confirmed, and what of it still can
    /// be is taken away, since it comes again.
    async fn sync(&mut self) -> Result<()> {
        let marks = self.marks.drain();
        let mut files: Vec<(String, Open, (u64, u64))> =
            marks.filter_map(|(name, mark)| self.open.remove(&name).map(|open| (name, open, mark))).collect();
        let work = move || {
            let failed = files.iter_mut().find_map(|(_, open, _)| {
                let error = open.sync().err()?;
                Some((open.path().to_owned(), error))
            });
            if failed.is_some() {
                files.retain_mut(|(_, open, (length, messages))| open.cut(*length, *messages).is_ok());
            }
            (files, failed)
        };
        let (files, failed) = blocking(work).await?;
        self.open.extend(files.into_iter().map(|(name, open, _)| (name, open)));
        match failed {
            Some((path, error)) => Err(cannot("write to", &path, &error)),
            None => Ok(()),
        }
    }

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
        let file = self.open.remove(&run.path);
        let mark = self.marks.get(&run.path).copied();
        let (how, limits, now, stamp) = (self.how, self.limits, self.env.clock.now(), self.stamp);
        let name = run.path.clone();
        let work = move || {
            let mut work = Work { path: &path, file, mark, stamp, how, limits, now };
            let mut written = 0;
            let result = work.write(&run, &mut written);
            let parcels = run.ends.partition_point(|end| *end <= written);
            (work.file, work.mark, work.stamp, parcels, result.map_err(|error| cannot("write to", &path, &error)))
        };
        match blocking(work).await {
            Ok((file, mark, stamp, parcels, result)) => {
                self.stamp = stamp;
                self.marks.extend(mark.map(|mark| (name.clone(), mark)));
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

/// Writing to the files of one path.
struct Work<'a> {
    path: &'a Path,
    file: Option<Open>,
    /// How far the file reached before the delivery.
    mark: Option<(u64, u64)>,
    stamp: Option<Time>,
    how: How,
    limits: Limits,
    now: Time,
}

impl Work<'_> {
    fn write(&mut self, run: &Run, written: &mut usize) -> io::Result<()> {
        let (limits, now) = (self.limits, self.now);
        while *written < run.messages.len() {
            let old = self.file.take_if(|open| {
                open.is_gone() || open.room(&limits) == 0 || open.due(&limits).is_some_and(|due| due <= now)
            });
            if let Some(old) = old {
                self.mark = None;
                if !old.is_gone() {
                    old.lay_aside(later(&mut self.stamp, now))?;
                }
            }
            let open = match &mut self.file {
                Some(open) => open,
                None => {
                    // A file that was full when we were stopped is full now.
                    let mut open = Open::at(self.path, self.how, later(&mut self.stamp, now))?;
                    if open.room(&limits) == 0 {
                        open.lay_aside(later(&mut self.stamp, now))?;
                        open = Open::at(self.path, self.how, later(&mut self.stamp, now))?;
                    }
                    self.file.insert(open)
                }
            };
            self.mark.get_or_insert(open.mark());
            if open.is_new()
                && let Some(header) = &run.header
            {
                open.head(header)?;
            }
            let left = &run.messages[*written..];
            let fit = fitting(left, open, &limits);
            open.append(left[..fit].iter().map(|message| &message[..]))?;
            *written += fit;
        }
        Ok(())
    }
}

/// The time for the name of the next file: now, and later than those before it where they count.
fn later(stamp: &mut Option<Time>, now: Time) -> Time {
    let Some(last) = stamp else { return now };
    *last = now.max(*last + Duration::from_millis(1));
    *last
}

/// How many of the messages go into the file before it is full: at least one.
fn fitting(messages: &[Bytes], open: &Open, limits: &Limits) -> usize {
    // One goes in even where a file of the same name is full already.
    let most = messages.len().min(open.room(limits).max(1));
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
mod tests;
