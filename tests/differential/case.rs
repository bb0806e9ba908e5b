//! One generated rule with what arrives, how it is written as a case file, and how the product is run on it.

use std::fmt::Write as _;
use std::fs;

use kuiper::case::{Outcome, Settings, run};
use kuiper::data::{Object, Value};

use super::rows::DECLARED;

/// A rule, its streams, and its rows.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub streams: Vec<String>,
    pub sql: String,
    pub options: Vec<(&'static str, String)>,
    /// Milliseconds since 1970.
    pub start: i64,
    pub rows: Vec<Arriving>,
    /// How long the run lasts, in milliseconds.
    pub length: i64,
}

#[derive(Clone, Debug)]
pub struct Arriving {
    pub stream: &'static str,
    /// Milliseconds since the start.
    pub at: i64,
    pub data: Object,
    /// The row of a lookup table with this key goes.
    pub delete: bool,
}

/// What must come out.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub emissions: Vec<Emission>,
    /// Terms of the ledger, as far as they are predicted.
    pub ledger: Vec<(&'static str, usize)>,
}

#[derive(Clone, Debug)]
pub struct Emission {
    /// Milliseconds since the start.
    pub at: i64,
    pub body: Result<Vec<Object>, String>,
}

impl Case {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, value)| *name == option && value == "true")
    }

    /// Whether its stream declares its columns.
    pub fn is_declared(&self) -> bool {
        self.streams[0].contains(DECLARED)
    }

    pub fn option(&self, option: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }

    /// The case as a document of a case file.
    pub fn yaml(&self, expected: &Expected) -> String {
        let mut out = format!("---\nname: {}\nstreams:\n", self.name);
        for stream in &self.streams {
            let _ = writeln!(out, "  - {}", text(stream));
        }
        let _ = writeln!(out, "sql: {}", text(&self.sql));
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let _ = writeln!(out, "options: {{{}}}\nstart: {}\ninput:", options.join(", "), self.start);
        for row in &self.rows {
            // Of a stream with a schema the text of the message, so that it is decoded.
            let data = match self.is_declared() {
                true => format!("raw: {}", text(&object(&row.data))),
                false => format!("data: {}", object(&row.data)),
            };
            let delete = if row.delete { ", delete: true" } else { "" };
            let _ = writeln!(out, "  - {{stream: {}, at: \"+{}\", {data}{delete}}}", row.stream, row.at);
        }
        if self.rows.is_empty() {
            out.truncate(out.len() - 1);
            out.push_str(" []\n");
        }
        let _ = writeln!(out, "advance: \"+{}\"", self.length);
        if !expected.ledger.is_empty() {
            let terms: Vec<String> = expected.ledger.iter().map(|(term, count)| format!("{term}: {count}")).collect();
            let _ = writeln!(out, "ledger: {{{}}}", terms.join(", "));
        }
        out.push_str("compare: {numbers: typed, trailing_empty: keep}\noutput:");
        if expected.emissions.is_empty() {
            out.push_str(" []");
        }
        out.push('\n');
        for emission in &expected.emissions {
            let _ = match &emission.body {
                Err(why) => writeln!(out, "  - {{at: \"+{}\", error: {}}}", emission.at, text(why)),
                Ok(rows) => {
                    let rows: Vec<String> = rows.iter().map(object).collect();
                    writeln!(out, "  - {{at: \"+{}\", rows: [{}]}}", emission.at, rows.join(", "))
                }
            };
        }
        out
    }
}

/// Runs the cases as `kuiper rule test` does, three ways each. One answer a case: nothing, or what was wrong.
pub fn product(cases: &[(&Case, &Expected)]) -> Vec<Option<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("generated.yaml");
    let text: String = cases.iter().map(|(case, expected)| case.yaml(expected)).collect();
    fs::write(&file, text).unwrap();
    let report = run(&[file], &Settings::default()).unwrap();
    assert_eq!(report.findings.len(), cases.len(), "\n{report}");
    report
        .findings
        .into_iter()
        .map(|finding| match finding.outcome {
            Outcome::Passed => None,
            Outcome::Failed(why) => Some(why.join("\n")),
            Outcome::Skipped(why) => Some(format!("skipped: {why}")),
        })
        .collect()
}

/// A text in double quotes; JSON's are YAML's.
fn text(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn object(object: &Object) -> String {
    let entries: Vec<String> = object.iter().map(|(name, item)| format!("{}: {}", text(name), value(item))).collect();
    format!("{{{}}}", entries.join(", "))
}

pub fn value(of: &Value) -> String {
    match of {
        Value::Absent | Value::Null => "null".to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) if x.is_nan() => ".nan".to_string(),
        Value::Float(x) if x.is_infinite() => if *x > 0.0 { ".inf" } else { "-.inf" }.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::Text(it) => text(it),
        Value::Array(items) => format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(", ")),
        Value::Object(it) => object(it),
        Value::Bytes(_) | Value::Time(_) => panic!("no generated rule has a {}", of.type_name()),
    }
}
