//! The file source: one file once or again and again, or a folder whose new files are given as they are complete.
//!
//! Each chunk says where the source stands after it, so that another run goes on there.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::data::{Acknowledge, Meta, SourceAck, Text, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::props::{self, Period};
use crate::io::{Closed, End, Env, Inlet, Link, Message, Payload, Report, Source, SourcePlan, SourceSpec};

use super::blocking;
use super::csv::Csv;
use super::folder::Folder;
use super::lines::{Lines, Trim, is_blank, split};
use super::position::{self, Position};
use super::roll::number;

/// Messages of a chunk.
const CHUNK: usize = 512;

/// How often a folder is looked at when no `interval` is set.
const LOOK: Duration = Duration::from_millis(500);

const NAMES: props::Names = props::Names::source("the `file` source", &["bufferLength", "parallel"]);

/// Options of the `file` source.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Options {
    /// Name of the file or folder, under `path`.
    datasource: String,
    /// Folder; a relative one starts at the folder of the installation.
    path: String,
    /// `json`: a file is one message. `lines`: each line is one. `csv`: each record is a row of texts.
    file_type: String,
    /// 0: read once, and watch a folder for new files. Else: read again after each such time.
    interval: Period,
    /// Pause between two messages.
    send_interval: Period,
    /// What to do with a file that was read: 0 keep it, 1 delete it, 2 move it to `moveTo`.
    action_after_read: u8,
    /// Folder for files that were read; made when missing.
    move_to: String,
    /// `csv`: the first line holds the names of the columns.
    has_header: bool,
    /// `csv`: names of the columns where there is no header.
    columns: Vec<String>,
    /// `csv`: what stands between two values.
    delimiter: String,
    /// `lines` and `csv`: lines to leave out at the start; empty ones do not count.
    ignore_start_lines: u32,
    /// `lines` and `csv`: lines to leave out at the end; empty ones do not count.
    ignore_end_lines: u32,
    /// `json`: how files are compressed: `gzip`, `zlib` or `flate`.
    decompression: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Whole,
    Lines,
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    No,
    Gzip,
    Zlib,
    Flate,
}

pub(super) fn plan(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let (options, warnings) = props::read::<Options>(&spec.props, &NAMES)?;
    if options.datasource.is_empty() {
        return Err(props::missing(&NAMES, "datasource", "`DATASOURCE=\"events.jsonl\"`"));
    }
    let quoted = |text: &str| format!("`{text}`");
    let shape = match options.file_type.as_str() {
        "" | "json" => Shape::Whole,
        "lines" => Shape::Lines,
        "csv" => Shape::Csv,
        other => {
            let found = props::wrong(&NAMES, "fileType", quoted(other), "`json`, `lines` or `csv`");
            return Err(found.suggest(other, ["json", "lines", "csv"]));
        }
    };
    let packed = match options.decompression.as_str() {
        "" => Packed::No,
        "gzip" => Packed::Gzip,
        "zlib" => Packed::Zlib,
        "flate" => Packed::Flate,
        other => return Err(props::wrong(&NAMES, "decompression", quoted(other), "`gzip`, `zlib` or `flate`")),
    };
    if packed != Packed::No && shape != Shape::Whole {
        let text = format!("the `file` source cannot decompress files of type `{}`", options.file_type);
        return Err(Diagnostic::error("K0624", text).help("only files of type `json` may be compressed"));
    }
    match options.action_after_read {
        0 | 1 => {}
        2 if options.move_to.is_empty() => return Err(props::missing(&NAMES, "moveTo", "`moveTo: /data/done`")),
        2 => {}
        other => return Err(props::wrong(&NAMES, "actionAfterRead", other, "0 (keep), 1 (delete) or 2 (move)")),
    }
    let (wants_meta, wants_acks, env) = (spec.wants_meta, spec.wants_acks, spec.env);
    let options = Arc::new(options);
    let open = move || {
        let wants_acks = wants_acks && options.action_after_read != 0;
        let (options, env) = (options.clone(), env.clone());
        Ok(Box::new(FileSource { options, shape, packed, wants_meta, wants_acks, env, from: None }) as Box<dyn Source>)
    };
    Ok(SourcePlan { open: Box::new(open), gives_rows: shape == Shape::Csv, seeks: true, warnings, identity: None })
}

struct FileSource {
    options: Arc<Options>,
    shape: Shape,
    packed: Packed,
    wants_meta: bool,
    /// The file is deleted or moved when its last message is done with.
    wants_acks: bool,
    env: Env,
    /// Where to go on.
    from: Option<Position>,
}

#[async_trait::async_trait]
impl Source for FileSource {
    async fn seek(&mut self, position: &Value) -> Result<()> {
        let none = || Fault::setup("the position that was kept is none of the `file` source");
        self.from = Some(Position::read(position).ok_or_else(none)?);
        Ok(())
    }

    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        let path = self.path();
        let about = {
            let path = path.clone();
            blocking(move || fs::metadata(path)).await?
        };
        let from = self.from.take();
        let ended = match about {
            Ok(about) if about.is_dir() => self.folder(&path, from, &inlet, &report).await?,
            Ok(_) => self.file(&path, from, &inlet, &report).await?,
            Err(error) => return Err(cannot("open", &path, &error)),
        };
        Ok(if ended.is_ok() { End::Finished } else { End::Closed })
    }
}

impl FileSource {
    fn path(&self) -> PathBuf {
        let name = Path::new(&self.options.datasource);
        // As with eKuiper, a leading slash does not leave the folder; yet a full path that exists is meant as it stands.
        let joined = self.env.root.join(&self.options.path).join(name.strip_prefix("/").unwrap_or(name));
        if name.is_absolute() && !joined.exists() { name.to_owned() } else { joined }
    }

    async fn folder(
        &self,
        path: &Path,
        from: Option<Position>,
        inlet: &Inlet,
        report: &Report,
    ) -> Result<Result<(), Closed>> {
        let mut folder = Folder::default();
        let pause = self.options.interval.some().unwrap_or(LOOK);
        if let Some(from) = from.filter(|from| !from.given.is_null()) {
            folder.given = position::listed(&from.given, path);
            let file = PathBuf::from(from.file.as_str());
            // One that has changed since is given again as a whole, as it would have been without a stop.
            if folder.is_as_given(&file) {
                match self.give(&file, Some(from.clone()), from.given, inlet).await {
                    Ok(Err(Closed)) => return Ok(Err(Closed)),
                    Ok(Ok(())) => {}
                    Err(fault) => report.set(Link::Disconnected(fault.to_string())),
                }
            }
        }
        loop {
            let now = self.env.clock.now();
            let place = path.to_owned();
            let (back, found) = blocking(move || {
                let found = folder.look(&place, now);
                (folder, found)
            })
            .await?;
            folder = back;
            let (ready, growing) = found.map_err(|error| cannot("read", path, &error))?;
            report.set(Link::Connected);
            let mut given = match ready.is_empty() {
                true => Arc::default(),
                false => position::given(&folder.given, &ready),
            };
            for file in &ready {
                let look = folder.given.get(file);
                Arc::make_mut(&mut given).extend(look.and_then(|look| position::entry(file, look)));
                match self.give(file, None, Value::Array(given.clone()), inlet).await {
                    Ok(Ok(())) => {}
                    Ok(Err(Closed)) => return Ok(Err(Closed)),
                    // The other files are as good as before.
                    Err(fault) => report.set(Link::Disconnected(fault.to_string())),
                }
            }
            if self.wait(if growing { LOOK.min(pause) } else { pause }, inlet).await.is_err() {
                return Ok(Err(Closed));
            }
        }
    }

    async fn file(
        &self,
        path: &Path,
        mut from: Option<Position>,
        inlet: &Inlet,
        report: &Report,
    ) -> Result<Result<(), Closed>> {
        report.set(Link::Connected);
        let Some(interval) = self.options.interval.some() else {
            return self.give(path, from, Value::Null, inlet).await;
        };
        loop {
            match self.give(path, from.take(), Value::Null, inlet).await {
                Ok(Ok(())) => report.set(Link::Connected),
                Ok(Err(Closed)) => return Ok(Err(Closed)),
                Err(fault) => report.set(Link::Disconnected(fault.to_string())),
            }
            if self.wait(interval, inlet).await.is_err() {
                return Ok(Err(Closed));
            }
        }
    }

    async fn wait(&self, span: Duration, inlet: &Inlet) -> Result<(), Closed> {
        tokio::select! {
            _ = self.env.clock.sleep(span) => Ok(()),
            _ = inlet.closed() => Err(Closed),
        }
    }

    /// Gives one file, or what stands in it after a position, and does with it what is wanted then. `given` are the
    /// files of the folder that were given, with it.
    async fn give(
        &self,
        path: &Path,
        from: Option<Position>,
        given: Value,
        inlet: &Inlet,
    ) -> Result<Result<(), Closed>> {
        let text = path.to_string_lossy();
        let meta = self.wants_meta.then(|| Meta::new([("file", Value::text(&text))].into_iter().collect()));
        let done = self.wants_acks.then(|| Arc::new(Done::default()));
        let (place, file) = (path.to_owned(), Text::new(&text));
        let look = move || {
            let from = from.filter(|from| from.fits(&place));
            let number = fs::metadata(&place).map(|about| number(&about)).unwrap_or_default();
            from.unwrap_or(Position { file, number, ..Position::default() })
        };
        let position = Position { given, ..blocking(look).await? };
        let mut giver = Giver { source: self, inlet, meta, done: done.clone(), chunk: Vec::new(), position, csv: None };
        let given = match self.shape {
            Shape::Whole => giver.whole(path, self.packed).await?,
            Shape::Lines | Shape::Csv => giver.lines(path, self.shape == Shape::Csv).await?,
        };
        if given.is_err() {
            return Ok(Err(Closed));
        }
        if let Some(done) = done {
            tokio::select! {
                _ = done.wait() => {}
                _ = inlet.closed() => return Ok(Err(Closed)),
            }
            if done.bad.load(Ordering::Acquire) {
                tracing::warn!("file `{}` is kept, since not all of it was delivered", path.display());
                return Ok(Ok(()));
            }
        }
        let (action, from, to) =
            (self.options.action_after_read, path.to_owned(), self.env.root.join(&self.options.move_to));
        blocking(move || put_away(action, &from, &to))
            .await?
            .map_err(|error| cannot(if action == 1 { "delete" } else { "move" }, path, &error))?;
        Ok(Ok(()))
    }
}

/// Gives the messages of one file.
struct Giver<'a> {
    source: &'a FileSource,
    inlet: &'a Inlet,
    meta: Option<Meta>,
    done: Option<Arc<Done>>,
    chunk: Vec<Message>,
    /// The end of the last message of the chunk.
    position: Position,
    csv: Option<Csv>,
}

impl Giver<'_> {
    async fn whole(&mut self, path: &Path, packed: Packed) -> Result<Result<(), Closed>> {
        let place = path.to_owned();
        let bytes = blocking(move || fs::read(place)).await?.map_err(|error| cannot("read", path, &error))?;
        let length = bytes.len() as u64;
        // Nothing, or nothing new.
        if length == self.position.offset {
            return Ok(Ok(()));
        }
        self.position.offset = length;
        let payload = match blocking(move || unpack(bytes, packed)).await? {
            Ok(bytes) => Payload::Bytes(bytes.into()),
            Err(error) => Payload::Error(Fault::decode(format!("file `{}`: {error}", path.display()))),
        };
        self.add(payload);
        Ok(self.send().await)
    }

    async fn lines(&mut self, path: &Path, csv: bool) -> Result<Result<(), Closed>> {
        let options = &self.source.options;
        let start = self.position.offset;
        if csv {
            let csv = self.csv.insert(Csv::new(&options.delimiter, options.has_header, &options.columns));
            if start > 0 {
                csv.go_on(std::mem::take(&mut self.position.names), self.position.record);
            }
        }
        // What is to be left out at the start was, if there was a message.
        let ignored = if start > 0 { 0 } else { options.ignore_start_lines as usize };
        let mut trim = Trim::new(ignored, options.ignore_end_lines as usize);
        let full = if options.send_interval.some().is_some() { 1 } else { CHUNK };
        let fault = |error: io::Error| cannot("read", path, &error);
        let place = path.to_owned();
        let read = |mut lines: Lines| move || lines.next_block().map(|block| (lines, block));
        let mut next = spawn_blocking(move || Lines::open(&place, start).and_then(|lines| read(lines)()));
        let mut wanted = Vec::new();
        while let (lines, Some((block, at))) =
            next.await.map_err(|_| Fault::bug("a file was given up"))?.map_err(fault)?
        {
            // The next block is read while this one goes its way.
            next = spawn_blocking(read(lines));
            for line in split(&block, at) {
                trim.push(line, |line| wanted.push(line));
                for line in wanted.drain(..) {
                    let payload = match &mut self.csv {
                        None if is_blank(&line.text) => None,
                        None => Some(Payload::Bytes(line.text)),
                        Some(csv) => match csv.push(line.text) {
                            None => None,
                            Some(Ok(row)) => Some(Payload::Row(row)),
                            Some(Err(fault)) => Some(at_file(fault, path)),
                        },
                    };
                    if let Some(payload) = payload {
                        self.position.offset = line.end;
                        self.add(payload);
                    }
                    if self.chunk.len() >= full && self.send().await.is_err() {
                        return Ok(Err(Closed));
                    }
                }
            }
        }
        if let Some(fault) = self.csv.as_mut().and_then(Csv::finish) {
            self.add(at_file(fault, path));
        }
        Ok(self.send().await)
    }

    fn add(&mut self, payload: Payload) {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK);
        }
        // An error is told, and nothing of it is delivered that could be waited for.
        let waited = !matches!(payload, Payload::Error(_));
        let ack = self.done.as_ref().filter(|_| waited).map(|done| {
            done.left.fetch_add(1, Ordering::AcqRel);
            SourceAck::new(done.clone(), 0)
        });
        // The time is that of the sending, set there once for all.
        self.chunk.push(Message { payload, time: Default::default(), meta: self.meta.clone(), ack, delivery: None });
    }

    async fn send(&mut self) -> Result<(), Closed> {
        let mut chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return Ok(());
        }
        let now = self.source.env.clock.now();
        chunk.iter_mut().for_each(|message| message.time = now);
        if let Some(csv) = &self.csv {
            let (names, record) = csv.state();
            (self.position.names, self.position.record) = (names.to_vec(), record);
        }
        self.inlet.send_at(chunk, Some(self.position.value())).await?;
        match self.source.options.send_interval.some() {
            Some(pause) => self.source.wait(pause, self.inlet).await,
            None => Ok(()),
        }
    }
}

/// How many messages of a file are still on their way.
#[derive(Default)]
struct Done {
    left: AtomicU64,
    bad: AtomicBool,
    changed: Notify,
}

impl Acknowledge for Done {
    fn done(&self, _: u64, good: bool) {
        if !good {
            self.bad.store(true, Ordering::Release);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_one();
        }
    }
}

impl Done {
    async fn wait(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.changed.notified().await;
        }
    }
}

fn at_file(fault: Fault, path: &Path) -> Payload {
    Payload::Error(fault.context(format_args!("file `{}`: ", path.display())))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::unreachable(format!("cannot {what} `{}`: {}", path.display(), words(error)))
}

/// What an error of the disk says, without its number.
pub(in crate::io) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".into(),
        io::ErrorKind::PermissionDenied => "no permission".into(),
        io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            text.to_lowercase()
        }
    }
}

fn unpack(bytes: Vec<u8>, packed: Packed) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match packed {
        Packed::No => return Ok(bytes),
        Packed::Gzip => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut out)?,
        Packed::Zlib => flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut out)?,
        Packed::Flate => flate2::read::DeflateDecoder::new(&bytes[..]).read_to_end(&mut out)?,
    };
    Ok(out)
}

/// Deletes the file (1) or moves it into the folder (2), also to another disk.
fn put_away(action: u8, from: &Path, folder: &Path) -> io::Result<()> {
    match action {
        1 => fs::remove_file(from),
        2 => {
            fs::create_dir_all(folder)?;
            let to = folder.join(from.file_name().unwrap_or_default());
            match fs::rename(from, &to) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    fs::copy(from, &to)?;
                    fs::remove_file(from)
                }
                other => other,
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
