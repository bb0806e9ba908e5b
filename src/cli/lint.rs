//! `kuiper lint`: what is wrong with statements, and what is most likely not meant, without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::fmt::read;
use super::known::{add_inputs, add_sample, case_beside, documents};
use super::print::{FAILED, USAGE, fail, say};
use crate::catalog;
use crate::diag::{Diagnostic, LineIndex};
use crate::func::Catalogue;
use crate::lint::{Known, lint};
use crate::plan::{self, Graph, GraphSource, Options, Stream};
use crate::sql::{self, Select, Statement};

/// Find what is wrong with SQL, and what is most likely not meant: in statements, rules and case files.
///
/// Streams are known from the CREATE statements in the file, from `--stream`, from the case file beside a rule
/// (`NAME.case.yaml` beside `NAME.json`) and from a `streams.sql` beside the file; a stream that none of these knows may have
/// any column. Rows are known from case files and from `--sample`. The exit status is 1 when there are errors and, with
/// `--check`, when there is any finding. What a server knows, as the functions of plugins, `kuiper rule validate` asks it.
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

/// A text with statements in it, which places are of.
struct Page {
    /// The file, and the case in it.
    origin: String,
    text: String,
}

/// A statement to look at.
struct Target {
    page: Arc<Page>,
    select: Select,
    known: Arc<Known>,
    /// A stream that is not known is not there; else it may have any column.
    strict: bool,
    options: Options,
}

/// A finding with the text that it is about.
struct Found {
    page: Arc<Page>,
    finding: Diagnostic,
}

/// All that is found, in the order in which it is looked for.
#[derive(Default)]
struct Report(Vec<Found>);

impl Report {
    fn add(&mut self, page: &Arc<Page>, findings: Vec<Diagnostic>) {
        self.0.extend(findings.into_iter().map(|finding| Found { page: page.clone(), finding }));
    }

    /// Calls `show` with each finding; the lines of a text are counted once for all that is found in it.
    fn each(&self, mut show: impl FnMut(&Diagnostic, &str, &LineIndex<'_>)) {
        for of_page in self.0.chunk_by(|one, next| Arc::ptr_eq(&one.page, &next.page)) {
            let Page { origin, text } = &*of_page[0].page;
            let text = LineIndex::new(text);
            of_page.iter().for_each(|one| show(&one.finding, origin, &text));
        }
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let known = match known(&args) {
        Ok(known) => known,
        Err(why) => return fail(USAGE, why),
    };
    let (mut report, funcs) = (Report::default(), Catalogue::default());
    for file in &args.files {
        match targets(file, &known, &mut report) {
            Ok(targets) => targets.iter().for_each(|target| look(target, &funcs, &mut report)),
            Err(why) => return fail(USAGE, why),
        }
    }
    if args.json {
        let mut all = Vec::with_capacity(report.0.len());
        report.each(|finding, origin, text| {
            let mut one = finding.to_json(text);
            one.insert("file".into(), json!(origin));
            all.push(Json::Object(one));
        });
        say(format!("{:#}", Json::Array(all)));
    } else {
        report.each(|finding, origin, text| say(finding.render_in(origin, text)));
    }
    let errors = report.0.iter().any(|one| one.finding.is_error());
    if errors || (args.check && !report.0.is_empty()) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

fn look(target: &Target, funcs: &Catalogue, report: &mut Report) {
    let Target { page, select, known, strict, options } = target;
    let find = |name: &str| {
        let stream = known.stream(name).cloned();
        stream.or_else(|| (!strict).then(|| Stream::schemaless(name)))
    };
    let mut all = plan::plan(select, &find, funcs, options).err().unwrap_or_default();
    all.extend(lint(select, known));
    all.sort_by_key(|one| one.span.map_or(0, |span| span.start));
    report.add(page, all);
}

fn known(args: &Args) -> Result<Known, String> {
    let mut known = Known::default();
    for text in &args.streams {
        known.add_stream(stream(text).map_err(|found| crate::diag::render_all(&found, "--stream", text))?);
    }
    if let Some(path) = &args.sample {
        add_sample(path, &mut known)?;
    }
    Ok(known)
}

fn stream(text: &str) -> Result<Stream, Vec<Diagnostic>> {
    match sql::parse(text)? {
        Statement::Create(create) => match catalog::check(&create) {
            wrong if wrong.is_empty() => Ok(Stream::of(&create)),
            wrong => Err(wrong),
        },
        _ => Err(vec![Diagnostic::error("K0109", "expected CREATE STREAM or CREATE TABLE")]),
    }
}

/// The statements of a file; what cannot be read is found.
fn targets(file: &Path, known: &Known, report: &mut Report) -> Result<Vec<Target>, String> {
    let (name, text) = read(file)?;
    let end = file.extension().and_then(|end| end.to_str());
    match end {
        Some("yaml" | "yml") => cases(&name, &text, known, report),
        Some("json") => rules(file, &name, &text, known, report),
        None if text.trim_start().starts_with('{') => rules(file, &name, &text, known, report),
        _ => Ok(statements(file, name, text, known, report)),
    }
}

/// Adds what the files that stand beside one tell.
fn beside(file: &Path, known: &mut Known, report: &mut Report) {
    if let Some((path, cases)) = case_beside(file) {
        let name = path.display().to_string();
        for case in cases {
            add_streams(&name, &case, known, report);
            add_inputs(&case, known);
        }
    }
    let others = file.with_file_name("streams.sql");
    if let (Ok(text), false) = (std::fs::read_to_string(&others), others == file) {
        split(&Arc::new(Page { origin: others.display().to_string(), text }), known, report);
    }
}

/// Adds the streams that a text creates, and gives its queries with their places in it.
fn split(page: &Arc<Page>, known: &mut Known, report: &mut Report) -> Vec<Select> {
    let mut selects = Vec::new();
    match sql::parse_all(&page.text) {
        Ok(all) => {
            for statement in all {
                match statement {
                    Ok(Statement::Create(create)) => {
                        report.add(page, catalog::check(&create));
                        known.add_stream(Stream::of(&create));
                    }
                    Ok(Statement::Select(select)) => selects.push(*select),
                    Ok(_) => {}
                    Err(wrong) => report.add(page, wrong),
                }
            }
        }
        Err(wrong) => report.add(page, wrong),
    }
    selects
}

fn statements(file: &Path, origin: String, text: String, known: &Known, report: &mut Report) -> Vec<Target> {
    let page = Arc::new(Page { origin, text });
    // Of two definitions of one stream that of the text itself counts.
    let mut own = Known::default();
    let selects = split(&page, &mut own, report);
    own.extend(known);
    beside(file, &mut own, report);
    let known = Arc::new(own);
    // Whether the rule that they are of is a temporary one, they do not say.
    let target = |select| Target {
        page: page.clone(),
        select,
        known: known.clone(),
        strict: false,
        options: Options { temporary: true, ..Options::default() },
    };
    selects.into_iter().map(target).collect()
}

fn rules(file: &Path, name: &str, text: &str, known: &Known, report: &mut Report) -> Result<Vec<Target>, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| format!("`{name}` is no JSON: {error}"))?;
    let mut known = known.clone();
    beside(file, &mut known, report);
    let known = Arc::new(known);
    let rules = match json {
        Json::Array(rules) => rules,
        one => vec![one],
    };
    let mut targets = Vec::new();
    for rule in rules {
        if rule["sql"].as_str().is_none_or(str::is_empty) && rule["graph"].is_object() {
            let page = Arc::new(Page { origin: format!("{name} (graph)"), text: String::new() });
            report.add(&page, graph(&rule, &known));
            continue;
        }
        let Some(sql) = rule["sql"].as_str() else {
            return Err(format!("`{name}` holds no `sql`; a rule is an object with one"));
        };
        let page = Page { origin: format!("{name} (sql)"), text: sql.into() };
        let Some((page, select)) = query(page, report) else { continue };
        let options = Options { temporary: rule["temp"] == true, ..options(&rule["options"]) };
        targets.push(Target { page, select, known: known.clone(), strict: false, options });
    }
    Ok(targets)
}

/// What is wrong with a rule made of a graph; a stream that is not known may have any column.
fn graph(rule: &Json, known: &Known) -> Vec<Diagnostic> {
    let read = |graph: &Json| -> Result<(), Vec<Diagnostic>> {
        let graph = Graph::read(graph)?;
        let mut own = Vec::new();
        for source in graph.sources().map_err(|found| vec![found])? {
            if let GraphSource::Own { statement, .. } = source {
                own.push(stream(&statement)?);
            }
        }
        let find = |name: &str| {
            let stream = own.iter().find(|stream| stream.name == name).or_else(|| known.stream(name));
            Some(stream.cloned().unwrap_or_else(|| Stream::schemaless(name)))
        };
        let options = Options { temporary: true, ..options(&rule["options"]) };
        plan::plan_graph(&graph, &find, &Catalogue::default(), &options).map(drop)
    };
    let mut found = read(&rule["graph"]).err().unwrap_or_default();
    found.iter_mut().for_each(|one| one.span = None);
    found
}

/// The query that a text is.
fn query(page: Page, report: &mut Report) -> Option<(Arc<Page>, Select)> {
    let page = Arc::new(page);
    match sql::parse_select(&page.text) {
        Ok(select) => Some((page, select)),
        Err(wrong) => {
            report.add(&page, wrong);
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
fn cases(name: &str, text: &str, known: &Known, report: &mut Report) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for case in documents(text) {
        let case = case.map_err(|error| format!("`{name}` is no YAML: {error}"))?;
        let (Some(sql), None) = (case["sql"].as_str(), case.get("create_error")) else { continue };
        let mut own = Known::default();
        add_streams(name, &case, &mut own, report);
        add_inputs(&case, &mut own);
        own.extend(known);
        let origin = match case["name"].as_str() {
            Some(case) => format!("{name} ({case})"),
            None => name.to_owned(),
        };
        let Some((page, select)) = query(Page { origin, text: sql.into() }, report) else { continue };
        let options = options(&case["options"]);
        targets.push(Target { page, select, known: Arc::new(own), strict: true, options });
    }
    Ok(targets)
}

/// Adds the streams of a case.
fn add_streams(name: &str, case: &Json, known: &mut Known, report: &mut Report) {
    for text in case["streams"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        match stream(text) {
            Ok(stream) => known.add_stream(stream),
            Err(wrong) => report.add(&Arc::new(Page { origin: name.into(), text: text.into() }), wrong),
        }
    }
}
