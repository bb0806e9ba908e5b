//! Writes the output that was got into case files, in place of what was expected, for a person to review.
//!
//! Only the lines of the `output` field change; comments and layout of all else stay as they are.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use serde_yaml::Value as Yaml;

use crate::data::Time;

use super::compare::Emission;
use super::files::{Content, Document, read_text};
use super::rule::{Expected, RuleCase};
use super::value::{quoted, show_object};

/// What each sink was given; the sink of a case without `sinks` has no name.
pub(super) type Got = Vec<(String, Vec<Emission>)>;

/// Changes to be written at the end of a run.
#[derive(Default)]
pub(super) struct Updates {
    changes: Vec<(PathBuf, Range<usize>, String)>,
}

impl Updates {
    /// Notes the new output of a case.
    ///
    /// # Errors
    /// A case that is expected to be refused, or whose output cannot be found in the text.
    pub fn add(&mut self, document: &Document, case: &RuleCase, got: Got) -> Result<(), String> {
        let Expected::Output(wants) = &case.expected else {
            return Err("the case is expected to be refused; write its output by hand".to_string());
        };
        let text = fs::read_to_string(&document.file).map_err(|error| error.to_string())?;
        let part = text.get(document.span.clone()).ok_or("the file has changed meanwhile")?;
        let lines = output_lines(part).ok_or("the field `output` does not begin a line of its own")?;
        let mut wants = wants.iter().flat_map(|(_, wants)| wants).peekable();
        let style = Style {
            timed: wants.peek().is_none() || wants.any(|want| want.at.is_some()),
            start: part.contains("\"+").then_some(case.start),
        };
        let new = print(&got, case.sinks.is_some(), style);
        let changed = format!("{}{new}{}", &part[..lines.start], &part[lines.end..]);
        check(part, &changed)?;
        let span = document.span.start + lines.start..document.span.start + lines.end;
        self.changes.push((document.file.clone(), span, new));
        Ok(())
    }

    /// Rewrites the files and returns which.
    pub fn write(mut self) -> Result<Vec<PathBuf>, String> {
        // From the end of each file, so that the places before stay where they are.
        self.changes.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.start.cmp(&a.1.start)));
        let mut files: Vec<PathBuf> = Vec::new();
        for part in self.changes.chunk_by(|a, b| a.0 == b.0) {
            let Some((file, ..)) = part.first() else { continue };
            let failed = |error: std::io::Error| format!("cannot rewrite `{}`: {error}", file.display());
            let mut text = fs::read_to_string(file).map_err(failed)?;
            for (_, span, new) in part {
                text.replace_range(span.clone(), new);
            }
            fs::write(file, text).map_err(failed)?;
            files.push(file.clone());
        }
        Ok(files)
    }
}

/// The bytes of the field `output`, from its name to the end of its last line.
fn output_lines(part: &str) -> Option<Range<usize>> {
    let (mut at, mut found, mut end) = (0, None, 0);
    for line in part.split_inclusive('\n') {
        let inside = line.starts_with([' ', '\t']) || line.starts_with("- ");
        if found.is_none() && line.starts_with("output:") {
            (found, end) = (Some(at), at + line.len());
        } else if found.is_some() && inside && !line.trim().is_empty() {
            end = at + line.len();
        } else if found.is_some() && !line.trim().is_empty() && !line.starts_with('#') {
            break;
        }
        at += line.len();
    }
    found.map(|start| start..end)
}

/// Nothing but the output may have changed.
fn check(before: &str, after: &str) -> Result<(), String> {
    let strip = |text: &str| -> Result<Yaml, String> {
        let mut yaml: Yaml = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        if let Yaml::Mapping(map) = &mut yaml {
            map.remove("output");
        }
        Ok(yaml)
    };
    let readable = read_text("x.yaml".as_ref(), after)
        .into_iter()
        .all(|document| matches!(document.content, Ok(Content::Rule(_))));
    if readable && strip(before)? == strip(after)? {
        Ok(())
    } else {
        Err("the output cannot be replaced without touching other fields; write it by hand".to_string())
    }
}

#[derive(Clone, Copy)]
struct Style {
    /// Emissions say when.
    timed: bool,
    /// Times are written relative to it.
    start: Option<Time>,
}

fn print(got: &Got, named: bool, style: Style) -> String {
    let mut out = String::from("output:");
    if !named {
        let emissions = got.first().map_or(&[][..], |(_, emissions)| emissions);
        push_list(&mut out, emissions, "  ", style);
        return out;
    }
    if got.is_empty() {
        out.push_str(" {}");
    }
    out.push('\n');
    for (name, emissions) in got {
        let _ = write!(out, "  {}:", quoted(name));
        push_list(&mut out, emissions, "    ", style);
    }
    out
}

fn push_list(out: &mut String, emissions: &[Emission], indent: &str, style: Style) {
    if emissions.is_empty() {
        out.push_str(" []\n");
        return;
    }
    out.push('\n');
    for emission in emissions {
        let mut lead = format!("{indent}- ");
        if style.timed {
            match style.start {
                Some(start) => {
                    let _ = writeln!(out, "{lead}at: \"+{}\"", emission.at.0 - start.0);
                }
                None => {
                    let _ = writeln!(out, "{lead}at: {}", emission.at.0);
                }
            }
            lead = format!("{indent}  ");
        }
        push_body(out, emission, &lead, indent);
    }
}

fn push_body(out: &mut String, emission: &Emission, lead: &str, indent: &str) {
    match emission {
        Emission { error: Some(error), .. } => {
            let _ = writeln!(out, "{lead}error: {}", quoted(error));
        }
        Emission { sent: Some(sent), .. } => {
            let _ = match std::str::from_utf8(sent) {
                Ok(text) => writeln!(out, "{lead}text: {}", quoted(text)),
                Err(_) => {
                    use base64::Engine as _;
                    let text = base64::engine::general_purpose::STANDARD.encode(sent);
                    writeln!(out, "{lead}bytes: \"{text}\"")
                }
            };
        }
        Emission { rows: Some(rows), .. } if !rows.is_empty() => {
            let _ = writeln!(out, "{lead}rows:");
            for row in rows {
                let _ = writeln!(out, "{indent}    - {}", show_object(row));
            }
        }
        _ => {
            let _ = writeln!(out, "{lead}rows: []");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::value::object;
    use super::*;

    const TEXT: &str = "# first\n---\nname: a\nsql: x # why\nstart: 1000\ninput: []\noutput:\n  - at: 1\n    rows: []\n\nadvance: 9000\n# next\n---\nname: b\nsql: y\nstart: 1\ninput: []\nadvance: 2\noutput: []\n";

    #[test]
    fn only_the_output_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, TEXT).unwrap();
        let mut updates = Updates::default();
        let row = object("r", &serde_yaml::from_str("{b: 2.0, a: x}").unwrap()).unwrap();
        for document in read_text(&file, TEXT) {
            let Ok(Content::Rule(case)) = &document.content else { continue };
            let got = Emission { at: Time(2500), rows: Some(vec![row.clone()]), ..Emission::default() };
            updates.add(&document, case, vec![(String::new(), vec![got])]).unwrap();
        }
        assert_eq!(updates.write().unwrap(), std::slice::from_ref(&file));
        let list = "output:\n  - at: 2500\n    rows:\n      - {a: \"x\", b: 2.0}\n";
        let wanted = TEXT.replace("output:\n  - at: 1\n    rows: []\n", list).replace("output: []\n", list);
        assert_eq!(fs::read_to_string(&file).unwrap(), wanted);
    }
}
