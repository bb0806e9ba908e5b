//! `kuiper lint`: what is wrong with statements, and what is most likely not meant, without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::fmt::read;
use super::print::{FAILED, USAGE, fail, say};
use crate::diag::Diagnostic;
use crate::func::Catalogue;
use crate::lint::{Samples, lint};
use crate::plan::{self, Options, Stream};
use crate::sql::{self, Select, Statement};

/// Find what is wrong with SQL, and what is most likely not meant: in statements, rules and case files.
///
/// Streams are known from the CREATE statements in the file, from `--stream`, from the case file beside a rule
/// (`NAME.case.yaml` beside `NAME.json`) and from a `streams.sql` beside the file; a stream that none of these knows may have
/// any column. Rows are known from case files and from `--sample`. The exit status is 1 when there are errors and, with
/// `--check`, when there is any finding. Functions of plugins are known to a server only: `kuiper rule validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files that end with `.sql`, `.json` or `.yaml`; `-` is standard input.
    #[arg(required = true, value_name = "FILE|-")]
    files: Vec<PathBuf>,
    /// A stream or table that the statements read; may be given several times.
    #[arg(long = "stream", value_name = "CREATE …")]
    streams: Vec<String>,
    /// A file of JSON lines: rows that the streams are known to have.
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Exit with status 1 on any finding.
    #[arg(long)]
    check: bool,
    /// Print the findings as JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// A statement to look at.
struct Target {
    /// The file, and the case in it.
    origin: String,
    /// The text that spans are of.
    text: String,
    select: Select,
    streams: Vec<Stream>,
    samples: Samples,
    /// `None`: any stream may be there.
    strict: bool,
    options: Options,
}

/// A finding with the text that it is about.
struct Found {
    origin: String,
    text: String,
    finding: Diagnostic,
}

/// What is known from the command line.
struct Known {
    streams: Vec<Stream>,
    samples: Samples,
}

pub(super) fn run(args: Args) -> ExitCode {
    let known = match known(&args) {
        Ok(known) => known,
        Err((status, why)) => return fail(status, why),
    };
    let mut found = Vec::new();
    for file in &args.files {
        match targets(file, &known, &mut found) {
            Ok(targets) => targets.into_iter().for_each(|target| look(target, &mut found)),
            Err(why) => return fail(USAGE, why),
        }
    }
    if args.json {
        let all: Vec<Json> = found.iter().map(Found::json).collect();
        say(format!("{:#}", Json::Array(all)));
    } else {
        found.iter().for_each(|one| say(one.finding.render(&one.origin, &one.text)));
    }
    let errors = found.iter().any(|one| one.finding.is_error());
    if errors || (args.check && !found.is_empty()) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

fn look(target: Target, found: &mut Vec<Found>) {
    let Target { origin, text, select, streams, samples, strict, options } = target;
    let find = |name: &str| {
        let known = streams.iter().find(|stream| stream.name == name).cloned();
        known.or_else(|| (!strict).then(|| Stream::schemaless(name)))
    };
    let mut all = plan::plan(&select, &find, &Catalogue::default(), &options).err().unwrap_or_default();
    all.extend(lint(&select, &streams, &samples));
    all.sort_by_key(|one| one.span.map_or(0, |span| span.start));
    found.extend(all.into_iter().map(|finding| Found { origin: origin.clone(), text: text.clone(), finding }));
}

impl Found {
    fn json(&self) -> Json {
        let one = &self.finding;
        let start = one.span.map_or(0, |span| span.start as usize).min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        json!({
            "file": self.origin,
            "line": before.matches('\n').count() + 1,
            "column": before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            "code": one.code,
            "severity": if one.is_error() { "error" } else { "warning" },
            "message": one.message,
            "help": one.help,
        })
    }
}

fn known(args: &Args) -> Result<Known, (u8, String)> {
    let mut streams = Vec::new();
    for text in &args.streams {
        streams.push(stream(text).map_err(|found| (USAGE, crate::diag::render_all(&found, "--stream", text)))?);
    }
    let mut samples = Samples::default();
    if let Some(path) = &args.sample {
        let (name, text) = read(path).map_err(|why| (USAGE, why))?;
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let rows =
                serde_json::from_str(line).map_err(|error| (USAGE, format!("`{name}`, line {}: {error}", n + 1)))?;
            add_rows(&mut samples, None, &rows);
        }
    }
    Ok(Known { streams, samples })
}

/// A row, or a list of rows.
fn add_rows(samples: &mut Samples, stream: Option<&str>, rows: &Json) {
    match rows {
        Json::Object(row) => samples.add(stream, row.clone()),
        Json::Array(rows) => rows.iter().for_each(|row| add_rows(samples, stream, row)),
        _ => {}
    }
}

fn stream(text: &str) -> Result<Stream, Vec<Diagnostic>> {
    match sql::parse(text)? {
        Statement::Create(create) => Ok(Stream::of(&create)),
        _ => Err(vec![Diagnostic::error("K0109", "expected CREATE STREAM or CREATE TABLE")]),
    }
}

/// The statements of a file; what cannot be read is found.
fn targets(file: &Path, known: &Known, found: &mut Vec<Found>) -> Result<Vec<Target>, String> {
    let (name, text) = read(file)?;
    let end = file.extension().and_then(|end| end.to_str());
    match end {
        Some("yaml" | "yml") => cases(&name, &text, known, found),
        Some("json") => rule(file, &name, &text, known, found),
        None if text.trim_start().starts_with('{') => rule(file, &name, &text, known, found),
        _ => Ok(statements(file, &name, &text, known, found)),
    }
}

/// Definitions in the files that stand beside one.
fn beside(file: &Path, known: &Known, found: &mut Vec<Found>) -> (Vec<Stream>, Samples) {
    let (mut streams, mut samples) = (known.streams.clone(), known.samples.clone());
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let case = file.with_file_name(format!("{stem}.case.yaml"));
    if let Ok(text) = std::fs::read_to_string(&case) {
        let name = case.display().to_string();
        for document in documents(&text).into_iter().flatten() {
            streams.extend(streams_of(&name, &document, found));
            inputs(&document, &mut samples);
        }
    }
    let others = file.with_file_name("streams.sql");
    if let (Ok(text), false) = (std::fs::read_to_string(&others), others == file) {
        let name = others.display().to_string();
        let (more, _) = split(&name, &text, found);
        streams.extend(more);
    }
    (streams, samples)
}

/// The streams that a text creates, and its other statements with their places in it.
fn split(name: &str, text: &str, found: &mut Vec<Found>) -> (Vec<Stream>, Vec<Select>) {
    let add = |all: Vec<Diagnostic>, found: &mut Vec<Found>| {
        let made = all.into_iter().map(|finding| Found { origin: name.into(), text: text.into(), finding });
        found.extend(made);
    };
    let (mut streams, mut selects) = (Vec::new(), Vec::new());
    match sql::parse_all(text) {
        Ok(all) => {
            for statement in all {
                match statement {
                    Ok(Statement::Create(create)) => streams.push(Stream::of(&create)),
                    Ok(Statement::Select(select)) => selects.push(*select),
                    Ok(_) => {}
                    Err(wrong) => add(wrong, found),
                }
            }
        }
        Err(wrong) => add(wrong, found),
    }
    (streams, selects)
}

fn statements(file: &Path, name: &str, text: &str, known: &Known, found: &mut Vec<Found>) -> Vec<Target> {
    let (mut streams, selects) = split(name, text, found);
    let (more, samples) = beside(file, known, found);
    streams.extend(more);
    let target = |select| Target {
        origin: name.into(),
        text: text.into(),
        select,
        streams: streams.clone(),
        samples: samples.clone(),
        strict: false,
        options: Options::default(),
    };
    selects.into_iter().map(target).collect()
}

fn rule(file: &Path, name: &str, text: &str, known: &Known, found: &mut Vec<Found>) -> Result<Vec<Target>, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| format!("`{name}` is no JSON: {error}"))?;
    let (streams, samples) = beside(file, known, found);
    let rules = match json {
        Json::Array(rules) => rules,
        one => vec![one],
    };
    let mut targets = Vec::new();
    for rule in rules {
        let Some(sql) = rule["sql"].as_str() else {
            return Err(format!("`{name}` holds no `sql`; a rule is an object with one"));
        };
        let origin = format!("{name} (sql)");
        let options = options(&rule["options"]);
        let samples = samples.clone();
        targets.extend(one(origin, sql, streams.clone(), samples, false, options, found));
    }
    Ok(targets)
}

fn one(
    origin: String,
    text: &str,
    streams: Vec<Stream>,
    samples: Samples,
    strict: bool,
    options: Options,
    found: &mut Vec<Found>,
) -> Option<Target> {
    match sql::parse_select(text) {
        Ok(select) => Some(Target { origin, text: text.into(), select, streams, samples, strict, options }),
        Err(wrong) => {
            let made = wrong.into_iter().map(|finding| Found { origin: origin.clone(), text: text.into(), finding });
            found.extend(made);
            None
        }
    }
}

/// The options of a rule that change what its statement means.
fn options(of: &Json) -> Options {
    let version = &of["planOptimizeStrategy"]["windowOption"]["windowVersion"];
    Options {
        send_nil: of["sendNilField"] == true,
        send_meta: of["sendMetaToSink"] == true,
        windows_v2: version == "v2",
        ..Options::default()
    }
}

/// The rule cases of a file that are not there to be refused.
fn cases(name: &str, text: &str, known: &Known, found: &mut Vec<Found>) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for document in documents(text) {
        let document = document.map_err(|error| format!("`{name}` is no YAML: {error}"))?;
        let (Some(sql), None) = (document["sql"].as_str(), document.get("create_error")) else { continue };
        let mut streams = streams_of(name, &document, found);
        streams.extend(known.streams.clone());
        let mut samples = known.samples.clone();
        inputs(&document, &mut samples);
        let origin = match document["name"].as_str() {
            Some(case) => format!("{name} ({case})"),
            None => name.to_owned(),
        };
        targets.extend(one(origin, sql, streams, samples, true, options(&document["options"]), found));
    }
    Ok(targets)
}

fn documents(text: &str) -> Vec<Result<Json, serde_yaml::Error>> {
    use serde::Deserialize as _;
    serde_yaml::Deserializer::from_str(text).map(Json::deserialize).collect()
}

fn streams_of(name: &str, document: &Json, found: &mut Vec<Found>) -> Vec<Stream> {
    let mut streams = Vec::new();
    for text in document["streams"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        match stream(text) {
            Ok(stream) => streams.push(stream),
            Err(wrong) => {
                let of = |finding| Found { origin: name.into(), text: text.into(), finding };
                found.extend(wrong.into_iter().map(of));
            }
        }
    }
    streams
}

/// The rows that arrive in a case.
fn inputs(document: &Json, samples: &mut Samples) {
    for input in document["input"].as_array().into_iter().flatten() {
        let stream = input["stream"].as_str();
        if let Some(data) = input.get("data") {
            add_rows(samples, stream, data);
        } else if let Some(Ok(rows)) = input["raw"].as_str().map(serde_json::from_str::<Json>) {
            add_rows(samples, stream, &rows);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_case_are_known() {
        let mut samples = Samples::default();
        let case = json!({"input": [
            {"stream": "s", "data": {"a": 1}},
            {"stream": "s", "raw": "[{\"b\": 1}, {\"c\": 2}]"},
            {"stream": "s", "raw": "no json"},
            {"stream": "s", "eof": true},
        ]});
        inputs(&case, &mut samples);
        let select = sql::parse_select("SELECT a, b, c, d FROM s").unwrap();
        let found = lint(&select, &[], &samples);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("none of the 3 known rows has a column `d`"), "{}", found[0]);
    }
}
