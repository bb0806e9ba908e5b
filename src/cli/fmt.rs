//! `kuiper fmt`: SQL in the style of the house, in files of statements and in rules.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::print::{FAILED, USAGE, cause_of, fail, say};
use crate::diag::render_all;
use crate::sql::{Lines, format};

/// Print SQL in the style of the house: files of statements, and the `sql` of rules in JSON.
///
/// Nothing but the layout is changed: what is printed reads as the same statement. Comments between statements are kept;
/// a statement with a comment in it is left as it is, and said so. In JSON a `sql` of one line stays on one line. The exit
/// status is 1 when a statement cannot be read or, with `--check`, when a file is not formatted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files that end with `.sql` or `.json`; `-` is standard input.
    #[arg(required = true, value_name = "FILE|-")]
    files: Vec<PathBuf>,
    /// Write into the files in place of printing.
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Change and print nothing; name the files that are not formatted.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for file in &args.files {
        let done = one(file, &args);
        if done != ExitCode::SUCCESS && status != ExitCode::from(USAGE) {
            status = done;
        }
    }
    status
}

fn one(file: &Path, args: &Args) -> ExitCode {
    let stdin = file == Path::new("-");
    if stdin && args.write {
        return fail(USAGE, "standard input cannot be written back; leave `--write` out");
    }
    let (name, text) = match read(file) {
        Ok(read) => read,
        Err(why) => return fail(USAGE, why),
    };
    let made = match is_json(file, &text) {
        Ok(true) => in_json(&name, &text),
        Ok(false) => statements(&name, &text),
        Err(why) => return fail(USAGE, why),
    };
    let made = match made {
        Ok(made) => made,
        Err(why) => return fail(FAILED, why),
    };
    if args.check {
        if made == text {
            return ExitCode::SUCCESS;
        }
        say(format!("{name}: not formatted"));
        return ExitCode::from(FAILED);
    }
    if !args.write {
        // A reader that went away is no error.
        let _ = std::io::stdout().lock().write_all(made.as_bytes());
    } else if made != text
        && let Err(error) = std::fs::write(file, made)
    {
        return fail(USAGE, format!("cannot write `{name}`: {}", cause_of(&error)));
    }
    ExitCode::SUCCESS
}

/// The text of a file, and its name for messages.
///
/// # Errors
/// A sentence that says what cannot be read.
pub(super) fn read(file: &Path) -> Result<(String, String), String> {
    if file == Path::new("-") {
        let mut text = String::new();
        if std::io::stdin().is_terminal() {
            let _ = writeln!(std::io::stderr().lock(), "kuiper: reading from standard input");
        }
        std::io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read standard input: {error}"))?;
        return Ok(("standard input".into(), text));
    }
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(format!("cannot read `{name}`: {}", cause_of(&error))),
    }
}

fn is_json(file: &Path, text: &str) -> Result<bool, String> {
    match file.extension().and_then(|end| end.to_str()) {
        Some("json") => Ok(true),
        Some("yaml" | "yml") => {
            Err(format!("`{}` is YAML; only files of SQL and rules in JSON are formatted", file.display()))
        }
        Some(_) => Ok(false),
        None => Ok(text.trim_start().starts_with(['{', '['])),
    }
}

fn statements(name: &str, text: &str) -> Result<String, String> {
    let made = format(text, Lines::Many).map_err(|found| render_all(&found, name, text))?;
    if !made.left.is_empty() {
        let _ = writeln!(std::io::stderr().lock(), "{}", render_all(&made.left, name, text));
    }
    Ok(made.text)
}

/// A rule, or a list of rules, with nothing changed but the text of each `sql`.
fn in_json(name: &str, text: &str) -> Result<String, String> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(format!("`{name}` is no JSON: {error}"));
    }
    let places = places_of_sql(text);
    if places.is_empty() {
        return Err(format!("`{name}` holds no `sql`; a rule is an object with one"));
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for place in places {
        let sql: String = serde_json::from_str(&text[place.clone()]).map_err(|error| format!("`{name}`: {error}"))?;
        let lines = if sql.trim_end().contains('\n') { Lines::Many } else { Lines::One };
        let origin = format!("{name} (sql)");
        let made = format(&sql, lines).map_err(|found| render_all(&found, &origin, &sql))?;
        if !made.left.is_empty() {
            let _ = writeln!(std::io::stderr().lock(), "{}", render_all(&made.left, &origin, &sql));
        }
        out.push_str(&text[done..place.start]);
        out.push_str(&serde_json::Value::from(made.text.trim_end()).to_string());
        done = place.end;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Where the texts of `sql` stand in a rule or in a list of rules; the JSON is known to be sound.
fn places_of_sql(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = vec![];
    let mut open: Vec<u8> = vec![];
    let (mut key, mut is_key, mut at) = (String::new(), false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let start = at;
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                let place = start..(at + 1).min(bytes.len());
                if is_key {
                    key = serde_json::from_str(&text[place]).unwrap_or_default();
                } else if matches!(open.as_slice(), [b'{'] | [b'[', b'{']) && key.eq_ignore_ascii_case("sql") {
                    found.push(place);
                }
            }
            bracket @ (b'{' | b'[') => {
                open.push(bracket);
                is_key = bracket == b'{';
            }
            b'}' | b']' => {
                open.pop();
                is_key = false;
            }
            b':' => is_key = false,
            b',' => is_key = open.last() == Some(&b'{'),
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sql_of_a_rule_changes() {
        let rule = "{\"id\": \"r\",\t\"sql\" : \"select a,\\\"x\\\" from s;\", \"actions\": [{\"log\": {\"sql\": \"select\"}}]}\n";
        let made = in_json("r.json", rule).unwrap();
        assert_eq!(made, rule.replace("select a,\\\"x\\\" from s", "SELECT a, \\\"x\\\" FROM s"));
        assert_eq!(in_json("r.json", &made).unwrap(), made);
        let rules = r#"[{"sql": "select a from s"}, {"SQL": "select b\nfrom s"}]"#;
        assert_eq!(in_json("r", rules).unwrap(), r#"[{"sql": "SELECT a FROM s"}, {"SQL": "SELECT b FROM s"}]"#);
        assert!(in_json("r", r#"{"a": {"sql": "select a from s"}}"#).unwrap_err().contains("holds no `sql`"));
        assert!(in_json("r", r#"{"sql": "select from s"}"#).unwrap_err().contains("K0105"));
    }
}
