//! The file source: one file once or again and again, or a folder whose new files are given as they are complete.

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

use crate::data::{Acknowledge, Meta, SourceAck, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::props::{self, Period};
use crate::io::{Closed, End, Env, Inlet, Link, Message, Payload, Report, Source, SourcePlan, SourceSpec};

use super::blocking;
use super::csv::Csv;
use super::folder::Folder;
use super::lines::{Lines, Trim, is_blank, split};

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
        Ok(Box::new(FileSource { options, shape, packed, wants_meta, wants_acks, env }) as Box<dyn Source>)
    };
    Ok(SourcePlan { open: Box::new(open), gives_rows: shape == Shape::Csv, seeks: false, warnings })
}

struct FileSource {
    options: Arc<Options>,
    shape: Shape,
    packed: Packed,
    wants_meta: bool,
    /// The file is deleted or moved when its last message is done with.
    wants_acks: bool,
    env: Env,
}

#[async_trait::async_trait]
impl Source for FileSource {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        let path = self.path();
        let about = {
            let path = path.clone();
            blocking(move || fs::metadata(path)).await?
        };
        let ended = match about {
            Ok(about) if about.is_dir() => self.folder(&path, &inlet, &report).await?,
            Ok(_) => self.file(&path, &inlet, &report).await?,
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

    async fn folder(&self, path: &Path, inlet: &Inlet, report: &Report) -> Result<Result<(), Closed>> {
        let mut folder = Folder::default();
        let pause = self.options.interval.some().unwrap_or(LOOK);
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
            for file in ready {
                match self.give(&file, inlet).await {
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

    async fn file(&self, path: &Path, inlet: &Inlet, report: &Report) -> Result<Result<(), Closed>> {
        report.set(Link::Connected);
        let Some(interval) = self.options.interval.some() else { return self.give(path, inlet).await };
        loop {
            match self.give(path, inlet).await {
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

    /// Gives one file and does with it what is wanted then.
    async fn give(&self, path: &Path, inlet: &Inlet) -> Result<Result<(), Closed>> {
        let text = path.to_string_lossy();
        let meta = self.wants_meta.then(|| Meta::new([("file", Value::text(&text))].into_iter().collect()));
        let done = self.wants_acks.then(|| Arc::new(Done::default()));
        let mut giver = Giver { source: self, inlet, meta, done: done.clone(), chunk: Vec::new() };
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
}

impl Giver<'_> {
    async fn whole(&mut self, path: &Path, packed: Packed) -> Result<Result<(), Closed>> {
        let place = path.to_owned();
        let bytes = blocking(move || fs::read(place)).await?.map_err(|error| cannot("read", path, &error))?;
        if bytes.is_empty() {
            return Ok(Ok(()));
        }
        let payload = match blocking(move || unpack(bytes, packed)).await? {
            Ok(bytes) => Payload::Bytes(bytes.into()),
            Err(error) => Payload::Error(Fault::decode(format!("file `{}`: {error}", path.display()))),
        };
        self.add(payload);
        Ok(self.send().await)
    }

    async fn lines(&mut self, path: &Path, csv: bool) -> Result<Result<(), Closed>> {
        let options = &self.source.options;
        let mut csv = csv.then(|| Csv::new(&options.delimiter, options.has_header, &options.columns));
        let mut trim = Trim::new(options.ignore_start_lines as usize, options.ignore_end_lines as usize);
        let full = if options.send_interval.some().is_some() { 1 } else { CHUNK };
        let fault = |error: io::Error| cannot("read", path, &error);
        let place = path.to_owned();
        let read = |mut lines: Lines| move || lines.next_block().map(|block| (lines, block));
        let mut next = spawn_blocking(move || Lines::open(&place).and_then(|lines| read(lines)()));
        let mut wanted = Vec::new();
        while let (lines, Some(block)) = next.await.map_err(|_| Fault::bug("a file was given up"))?.map_err(fault)? {
            // The next block is read while this one goes its way.
            next = spawn_blocking(read(lines));
            for line in split(&block) {
                trim.push(line, |line| wanted.push(line));
                for line in wanted.drain(..) {
                    match &mut csv {
                        None if is_blank(&line) => {}
                        None => self.add(Payload::Bytes(line)),
                        Some(csv) => match csv.push(line) {
                            None => {}
                            Some(Ok(row)) => self.add(Payload::Row(row)),
                            Some(Err(fault)) => self.add(at_file(fault, path)),
                        },
                    }
                    if self.chunk.len() >= full && self.send().await.is_err() {
                        return Ok(Err(Closed));
                    }
                }
            }
        }
        if let Some(fault) = csv.and_then(|mut csv| csv.finish()) {
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
        self.inlet.send(chunk).await?;
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
mod tests {
    use std::io::Write;

    use serde_json::{Value as Json, json};

    use crate::clock::{Clock, Time};
    use crate::io::tests::spec;

    use super::*;

    fn open(root: &Path, props: Json) -> Box<dyn Source> {
        let spec = SourceSpec { wants_meta: true, wants_acks: true, ..spec(props, root) };
        (plan(spec).map_err(|error| error.to_string()).unwrap().open)().unwrap()
    }

    fn show(message: Message) -> String {
        if let Some(ack) = message.ack {
            ack.settle();
        }
        match message.payload {
            Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Payload::Row(row) => format!("{:?}", row.values().map(|value| value.as_str().unwrap()).collect::<Vec<_>>()),
            Payload::Error(fault) => format!("error: {fault}"),
        }
    }

    /// All messages of a source that ends.
    async fn all(mut source: Box<dyn Source>) -> Result<Vec<String>> {
        let (inlet, mut from) = Inlet::bounded(2);
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(chunk) = from.recv().await {
                seen.extend(chunk.into_iter().map(show));
            }
            seen
        });
        assert_eq!(source.run(inlet, Report::new().0).await?, End::Finished);
        Ok(reader.await.unwrap())
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_blank_ones_do_not() {
        let temp = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..2000).map(|n| format!("{{\"n\":{n}}}")).collect();
        fs::write(temp.path().join("a"), format!("head\n\n{}\r\n", lines.join("\n"))).unwrap();
        let source = open(temp.path(), json!({"datasource": "/a", "fileType": "lines", "ignoreStartLines": 1}));
        assert_eq!(all(source).await.unwrap(), lines);
    }

    #[tokio::test]
    async fn a_whole_file_is_one_message_also_compressed() {
        let temp = tempfile::tempdir().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(b"[{\"a\":1}]\n").unwrap();
        fs::write(temp.path().join("a.gz"), packed.finish().unwrap()).unwrap();
        fs::write(temp.path().join("b.gz"), "not packed").unwrap();
        let props = |name: &str| json!({"datasource": name, "path": ".", "decompression": "gzip"});
        assert_eq!(all(open(temp.path(), props("a.gz"))).await.unwrap(), ["[{\"a\":1}]\n"]);
        assert!(all(open(temp.path(), props("b.gz"))).await.unwrap()[0].starts_with("error: file `"));
    }

    #[tokio::test]
    async fn csv_records_are_rows_and_bad_ones_errors() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.csv"), "a;b\n1;\"x;\ny\"\n2\n3;z\nend;1\n").unwrap();
        let props =
            json!({"datasource": "a.csv", "fileType": "csv", "hasHeader": true, "delimiter": ";", "ignoreEndLines": 1});
        let found = all(open(temp.path(), props)).await.unwrap();
        assert_eq!(found[0], "[\"1\", \"x;\\ny\"]");
        assert!(found[1].ends_with("a.csv`: record 2 has 1 values, expected 2"), "{}", found[1]);
        assert_eq!(found[2..], ["[\"3\", \"z\"]"]);
    }

    #[tokio::test]
    async fn a_file_is_moved_when_all_of_it_is_acknowledged() {
        let temp = tempfile::tempdir().unwrap();
        let (file, moved) = (temp.path().join("a"), temp.path().join("done/a"));
        fs::write(&file, "1\n2\n").unwrap();
        let props = json!({"datasource": "a", "fileType": "lines", "actionAfterRead": 2, "moveTo": "done"});
        let mut source = open(temp.path(), props.clone());
        let (inlet, mut from) = Inlet::bounded(2);
        let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
        let mut chunk = from.recv().await.unwrap();
        chunk.pop().unwrap().ack.unwrap().settle();
        tokio::task::yield_now().await;
        assert!(file.exists() && !task.is_finished());
        chunk.pop().unwrap().ack.unwrap().settle();
        assert_eq!(task.await.unwrap(), Ok(End::Finished));
        assert!(!file.exists() && moved.exists());

        fs::write(&file, "3\n").unwrap();
        let mut source = open(temp.path(), props);
        let (inlet, mut from) = Inlet::bounded(2);
        let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
        drop(from.recv().await.unwrap());
        assert_eq!(task.await.unwrap(), Ok(End::Finished));
        assert!(file.exists(), "a file that was not delivered must stay");
    }

    #[tokio::test]
    async fn a_folder_gives_old_files_by_age_and_new_ones_later() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a"), "1\n").unwrap();
        let clock = Clock::stopped_at(Clock::real().now() + Duration::from_secs(10));
        let props = json!({"datasource": ".", "path": "", "fileType": "lines"});
        let mut spec = SourceSpec { wants_meta: true, ..spec(props, temp.path()) };
        spec.env.clock = clock.clone();
        let mut source = (plan(spec).unwrap().open)().unwrap();
        let (inlet, mut from) = Inlet::bounded(2);
        let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
        let message = from.recv().await.unwrap().remove(0);
        let name = message.meta.clone().unwrap().get("file").unwrap().as_str().unwrap().to_owned();
        assert!(name.ends_with("/a"), "{name}");
        fs::write(temp.path().join("b"), "2\n").unwrap();
        let found = loop {
            clock.set(clock.now() + Duration::from_secs(1));
            tokio::select! {
                chunk = from.recv() => break chunk.unwrap(),
                _ = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        };
        assert_eq!(show(found.into_iter().next().unwrap()), "2");
        drop(from);
        clock.set(Time::MAX);
        assert_eq!(task.await.unwrap(), Ok(End::Closed));
    }

    #[tokio::test]
    async fn a_file_is_read_again_after_each_interval() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a"), "1\n2\n").unwrap();
        let props = json!({"datasource": "a", "fileType": "lines", "interval": 5, "sendInterval": 1});
        let mut source = open(temp.path(), props);
        let (inlet, mut from) = Inlet::bounded(2);
        let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
        let mut seen = Vec::new();
        while seen.len() < 4 {
            seen.extend(from.recv().await.unwrap().into_iter().map(show));
        }
        assert_eq!(seen, ["1", "2", "1", "2"]);
        drop(from);
        assert_eq!(task.await.unwrap(), Ok(End::Closed));
    }

    #[tokio::test]
    async fn a_missing_file_is_worth_another_try() {
        let temp = tempfile::tempdir().unwrap();
        let fault = all(open(temp.path(), json!({"datasource": "none"}))).await.unwrap_err();
        assert_eq!(fault.retry(), crate::diag::Retry::Later);
        assert!(fault.to_string().ends_with("/none`: it does not exist"), "{fault}");
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (props, text) in [
            (json!({"fileType": "line"}), "must be `json`, `lines` or `csv`, found `line` (did you mean `lines`?)"),
            (json!({"fileType": "csv", "decompression": "gzip"}), "cannot decompress files of type `csv`"),
            (json!({"decompression": "zstd"}), "must be `gzip`, `zlib` or `flate`, found `zstd`"),
            (json!({"actionAfterRead": 3}), "must be 0 (keep), 1 (delete) or 2 (move), found 3"),
            (json!({"actionAfterRead": 2}), "needs the property `moveTo`"),
            (json!({"datasource": ""}), "needs the property `datasource`"),
        ] {
            let mut full = json!({"datasource": "a"});
            full.as_object_mut().unwrap().extend(props.as_object().unwrap().clone());
            let error = plan(spec(full, ".")).err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
