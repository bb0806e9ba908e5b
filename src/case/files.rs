//! Finds case files and splits them into documents.
//!
//! A document that cannot be read is a finding of its own, so that the others of its file still run.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_yaml::Value as Yaml;

use super::fields::{Fields, Read, kind};
use super::rule::RuleCase;
use super::table::{Functions, Plans, Statements};

/// One document of a case file, or a list of statements.
#[derive(Debug)]
pub(super) struct Document {
    pub file: PathBuf,
    /// The line at which it begins, from 1.
    pub line: usize,
    /// Its bytes in the file.
    pub span: Range<usize>,
    pub content: Read<Content>,
}

#[derive(Debug)]
pub(super) enum Content {
    Rule(Box<RuleCase>),
    Functions(Functions),
    Plans(Plans),
    Statements(Statements),
    /// `accept.txt`: statements that must parse, each with its line.
    Accept(Vec<(usize, Read<String>)>),
    /// `reject.txt`: statements that must be refused, and the message that they draw.
    Reject(Vec<(usize, Read<(String, String)>)>),
    /// A kind that other programs run.
    Foreign {
        kind: String,
        name: String,
    },
}

/// All documents of the files, and of the case files in the folders, in the order of their names.
///
/// # Errors
/// A path that is not there or cannot be read.
pub(super) fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, String> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    let mut documents = Vec::new();
    for file in files {
        let bytes = fs::read(&file).map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
        documents.extend(match String::from_utf8(bytes) {
            Ok(text) => read_text(&file, &text),
            Err(_) => vec![whole(&file, 0..0, Err("the file is not UTF-8".to_string()))],
        });
    }
    Ok(documents)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", folder.display());
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect::<Result<_, String>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            walk(&path, files)?;
        } else if name.ends_with(".yaml") || name == "accept.txt" || name == "reject.txt" {
            files.push(path);
        }
    }
    Ok(())
}

fn whole(file: &Path, span: Range<usize>, content: Read<Content>) -> Document {
    Document { file: file.to_path_buf(), line: 1, span, content }
}

/// The documents of one file.
pub(super) fn read_text(file: &Path, text: &str) -> Vec<Document> {
    match file.file_name().and_then(|name| name.to_str()) {
        Some("accept.txt") => {
            let lines = lists(text).map(|(n, line)| (n, serde_json::from_str(line).map_err(not_json("a JSON string"))));
            vec![whole(file, 0..text.len(), Ok(Content::Accept(lines.collect())))]
        }
        Some("reject.txt") => {
            let what = "a JSON array of a statement and a message";
            let lines = lists(text).map(|(n, line)| (n, serde_json::from_str(line).map_err(not_json(what))));
            vec![whole(file, 0..text.len(), Ok(Content::Reject(lines.collect())))]
        }
        _ => split(text)
            .into_iter()
            .filter_map(|(line, span)| {
                let content = match serde_yaml::from_str::<Yaml>(&text[span.clone()]) {
                    Ok(Yaml::Null) => return None,
                    Ok(yaml) => read_document(yaml),
                    Err(error) => Err(not_yaml(&error, line)),
                };
                Some(Document { file: file.to_path_buf(), line, span, content })
            })
            .collect(),
    }
}

fn lists(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())).filter(|(_, line)| !line.is_empty())
}

fn not_json(what: &'static str) -> impl Fn(serde_json::Error) -> String {
    move |error| format!("the line must be {what}: {error}")
}

/// The parser counts lines from where the document begins.
fn not_yaml(error: &serde_yaml::Error, line: usize) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match error.location() {
        Some(at) => format!("not YAML: {text}, at line {}, column {}", line + at.line() - 1, at.column()),
        None => format!("not YAML: {text}"),
    }
}

/// Line and bytes of each document: what stands between lines that begin with `---`.
fn split(text: &str) -> Vec<(usize, Range<usize>)> {
    let mut documents = Vec::new();
    let (mut line, mut start, mut at, mut number) = (1, 0, 0, 1);
    for raw in text.split_inclusive('\n') {
        let rest = raw.trim_end_matches(['\n', '\r']).strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) && at > start {
            documents.push((line, start..at));
            (line, start) = (number, at);
        }
        at += raw.len();
        number += 1;
    }
    documents.push((line, start..at));
    documents
}

fn read_document(yaml: Yaml) -> Read<Content> {
    let mut fields = Fields::of("", yaml)?;
    let kind = match fields.take("kind") {
        None => return Ok(Content::Rule(Box::new(RuleCase::read(fields)?))),
        Some(Yaml::String(kind)) => kind,
        Some(other) => return fields.wrong("kind", format!("must be a text, found {}", self::kind(&other))),
    };
    match kind.as_str() {
        "functions" => Functions::read(fields).map(Content::Functions),
        "plan" => Plans::read(fields).map(Content::Plans),
        "statements" => Statements::read(fields).map(Content::Statements),
        _ => {
            let name = fields.text("name").ok().flatten().unwrap_or_default();
            Ok(Content::Foreign { kind, name })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const TWO: &str = "# head\n---\nname: a/one\nstreams: []\nsql: SELECT\nstart: 1\ninput: []\nadvance: 2\noutput: []\n---\nname: a/two\nsqll: x\n--- # third\nkind: session\nname: s\n";

    #[test]
    fn documents_keep_their_lines_and_a_bad_one_spoils_only_itself() {
        let documents = read_text(Path::new("x.yaml"), TWO);
        assert_eq!(documents.iter().map(|found| found.line).collect::<Vec<_>>(), [2, 10, 13]);
        assert!(matches!(&documents[0].content, Ok(Content::Rule(case)) if case.name == "a/one"));
        assert_eq!(documents[1].content.as_ref().unwrap_err(), "field `sql` is missing, found `sqll`");
        assert!(matches!(&documents[2].content, Ok(Content::Foreign { kind, .. }) if kind == "session"));
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let text = TWO.replace("output: []", "output: []\nadvanc: 3");
        let documents = read_text(Path::new("x.yaml"), &text);
        assert_eq!(documents[0].content.as_ref().unwrap_err(), "unknown field `advanc`, did you mean `advance`?");
    }

    #[test]
    fn yaml_errors_name_the_line_of_the_file() {
        let documents = read_text(Path::new("x.yaml"), "name: a\n---\nname: [\nb: }\n");
        let why = documents[1].content.as_ref().unwrap_err();
        assert!(why.contains("at line 4") || why.contains("at line 5"), "{why}");
    }

    #[test]
    fn lists_are_read_line_by_line() {
        let documents = read_text(Path::new("p/accept.txt"), "\"SELECT a FROM b\"\n\nSELECT\n");
        let Ok(Content::Accept(lines)) = &documents[0].content else { panic!() };
        assert_eq!(lines[0], (1, Ok("SELECT a FROM b".to_string())));
        assert!(lines[1].0 == 3 && lines[1].1.is_err());
        let documents = read_text(Path::new("p/reject.txt"), "[\"SELECT\", \"why\"]\n");
        let Ok(Content::Reject(lines)) = &documents[0].content else { panic!() };
        assert_eq!(lines[0].1, Ok(("SELECT".to_string(), "why".to_string())));
    }
}
