//! Tables of short tests as they are written: functions, plans, statements.

use serde_json::{Map, Value as Json};
use serde_yaml::Value as Yaml;

use crate::data::{Object, Time, Value};

use super::fields::{Fields, Read, kind};
use super::value::{json, object, value, values};

/// A document of `kind: functions`.
#[derive(Debug)]
pub(super) struct Functions {
    pub group: String,
    pub tags: Vec<String>,
    pub entries: Vec<Entry>,
}

/// One entry of such a table.
#[derive(Debug)]
pub(super) struct Entry {
    /// The list that it stands in, and its place there from 1.
    pub list: &'static str,
    pub number: usize,
    /// The function, or the statement that is validated.
    pub subject: String,
    pub test: Test,
    pub defect: Option<String>,
}

#[derive(Debug)]
pub(super) enum Test {
    Call {
        args: Vec<Value>,
        zone: Option<String>,
        result: Outcome,
    },
    Aggregate {
        rows: Vec<Vec<Value>>,
        zone: Option<String>,
        result: Outcome,
    },
    /// With `roundtrip` the results are compressed, and what decompressing gives is compared.
    Sequence {
        steps: Vec<Step>,
        roundtrip: bool,
    },
    Validate {
        ok: bool,
        message: Option<String>,
    },
}

/// One evaluation of a function that remembers.
#[derive(Debug)]
pub(super) struct Step {
    pub args: Vec<Value>,
    /// The outcome of `OVER (WHEN …)`; a null is not met.
    pub when: Value,
    /// The partition; `None` where the step names none.
    pub key: Option<Value>,
    /// Named columns of a function that looks at several, in order.
    pub columns: Option<Object>,
    /// The outcome of the condition whose hits are counted.
    pub hit: Option<bool>,
    pub at: Option<Time>,
    pub result: Outcome,
}

/// What a call must come to.
#[derive(Debug)]
pub(super) enum Outcome {
    Value {
        value: Value,
        unordered: bool,
    },
    OneOf(Vec<Value>),
    Error(String),
    /// A text that parses by this time format.
    TimeFormat(String),
}

/// A document of `kind: plan`.
#[derive(Debug)]
pub(super) struct Plans {
    pub group: String,
    pub tags: Vec<String>,
    pub cases: Vec<PlanCase>,
}

#[derive(Debug)]
pub(super) struct PlanCase {
    pub streams: Vec<String>,
    pub sql: String,
    pub options: Map<String, Json>,
    pub ok: bool,
    pub message: Option<String>,
    pub defect: Option<String>,
}

/// A document of `kind: statements`.
#[derive(Debug)]
pub(super) struct Statements {
    pub group: String,
    pub tags: Vec<String>,
    pub steps: Vec<Statement>,
}

#[derive(Debug)]
pub(super) struct Statement {
    pub text: String,
    /// The stream that the statement replaces.
    pub replace: Option<String>,
    /// The lines of the answer, or the text of the error.
    pub answer: Result<Vec<String>, String>,
    pub defect: Option<String>,
}

impl Functions {
    pub fn read(mut fields: Fields) -> Read<Functions> {
        let group = group(&mut fields, "functions")?;
        let tags = fields.texts("tags")?;
        let mut entries = Vec::new();
        for list in ["call", "aggregate", "sequence", "null_argument", "validate"] {
            for (n, item) in fields.list(list)?.into_iter().enumerate() {
                entries.push(read_entry(list, n, Fields::of(format!("{list}[{n}]"), item)?)?);
            }
        }
        finish(fields)?;
        Ok(Functions { group, tags, entries })
    }
}

fn read_entry(list: &'static str, n: usize, mut fields: Fields) -> Read<Entry> {
    let subject = fields.need_text(if list == "validate" { "sql" } else { "fn" })?;
    let defect = fields.text("defect")?;
    fields.take("origin");
    let test = match list {
        "validate" => {
            let Some(ok) = fields.flag("ok")? else { return fields.wrong("ok", "is missing") };
            Test::Validate { ok, message: fields.text("message")? }
        }
        "sequence" => {
            let mut steps = Vec::new();
            let place = fields.place("steps");
            for (n, item) in fields.list("steps")?.into_iter().enumerate() {
                steps.push(read_step(Fields::of(format!("{place}[{n}]"), item)?)?);
            }
            Test::Sequence { steps, roundtrip: fields.flag("roundtrip")?.unwrap_or(false) }
        }
        "aggregate" => {
            let columns = read_args(&mut fields)?;
            let rows = transpose(&columns).or_else(|why| fields.wrong("args", why))?;
            Test::Aggregate { rows, zone: fields.text("timezone")?, result: read_outcome(&mut fields)? }
        }
        "null_argument" => {
            Test::Call { args: vec![Value::Null], zone: fields.text("timezone")?, result: read_outcome(&mut fields)? }
        }
        _ => Test::Call {
            args: read_args(&mut fields)?,
            zone: fields.text("timezone")?,
            result: read_outcome(&mut fields)?,
        },
    };
    fields.take("unit");
    fields.end()?;
    Ok(Entry { list, number: n + 1, subject, test, defect })
}

fn read_args(fields: &mut Fields) -> Read<Vec<Value>> {
    let place = fields.place("args");
    values(&place, &fields.list("args")?)
}

/// The rows of a group from the columns of its arguments.
fn transpose(columns: &[Value]) -> Result<Vec<Vec<Value>>, String> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for (n, column) in columns.iter().enumerate() {
        let Value::Array(items) = column else {
            return Err("must hold a list of values for each argument".to_string());
        };
        if n == 0 {
            rows = vec![Vec::new(); items.len()];
        }
        if rows.len() != items.len() {
            return Err("must hold lists of one length".to_string());
        }
        for (row, item) in rows.iter_mut().zip(items.iter()) {
            row.push(item.clone());
        }
    }
    Ok(rows)
}

fn read_step(mut fields: Fields) -> Read<Step> {
    let args = read_args(&mut fields)?;
    let place = fields.place("when");
    let when = match fields.take("when") {
        None => Value::Bool(true),
        Some(yaml) => value(&place, &yaml)?,
    };
    let place = fields.place("key");
    let key = fields.take("key").map(|yaml| value(&place, &yaml)).transpose()?;
    let place = fields.place("columns");
    let columns = fields.take("columns").map(|yaml| object(&place, &yaml)).transpose()?;
    let step = Step {
        args,
        when,
        key,
        columns,
        hit: fields.flag("hit")?,
        at: fields.instant("at", None)?,
        result: read_outcome(&mut fields)?,
    };
    fields.take("unit");
    fields.end()?;
    Ok(step)
}

fn read_outcome(fields: &mut Fields) -> Read<Outcome> {
    let unordered = fields.flag("unordered")?.unwrap_or(false);
    let place = fields.place("result");
    let result = fields.take("result").map(|yaml| value(&place, &yaml)).transpose()?;
    let place = fields.place("one_of");
    let one_of = match fields.take("one_of") {
        None => None,
        Some(Yaml::Sequence(items)) => Some(values(&place, &items)?),
        Some(other) => return fields.wrong("one_of", format!("must be a list, found {}", kind(&other))),
    };
    let error = fields.text("error")?;
    let format = fields.text("matches_time_format")?;
    match (result, one_of, error, format) {
        (Some(value), None, None, None) => Ok(Outcome::Value { value, unordered }),
        (None, Some(values), None, None) => Ok(Outcome::OneOf(values)),
        (None, None, Some(error), None) => Ok(Outcome::Error(error)),
        (None, None, None, Some(format)) => Ok(Outcome::TimeFormat(format)),
        _ => {
            let others = "`one_of`, `error`, `matches_time_format`";
            fields.wrong("result", format!("or one of {others} must be given, and only one"))
        }
    }
}

impl Plans {
    pub fn read(mut fields: Fields) -> Read<Plans> {
        let group = group(&mut fields, "plan")?;
        let tags = fields.texts("tags")?;
        let mut cases = Vec::new();
        for (n, item) in fields.list("cases")?.into_iter().enumerate() {
            let mut fields = Fields::of(format!("cases[{n}]"), item)?;
            let options = match fields.take("options") {
                None | Some(Yaml::Null) => Map::new(),
                Some(yaml) => match json(&fields.place("options"), &yaml)? {
                    Json::Object(map) => map,
                    _ => return fields.wrong("options", "must be a map"),
                },
            };
            let case = PlanCase {
                streams: fields.texts("streams")?,
                sql: fields.need_text("sql")?,
                options,
                ok: match fields.flag("ok")? {
                    Some(ok) => ok,
                    None => return fields.wrong("ok", "is missing"),
                },
                message: fields.text("message")?,
                defect: fields.text("defect")?,
            };
            finish(fields)?;
            cases.push(case);
        }
        finish(fields)?;
        Ok(Plans { group, tags, cases })
    }
}

impl Statements {
    pub fn read(mut fields: Fields) -> Read<Statements> {
        let group = group(&mut fields, "statements")?;
        let tags = fields.texts("tags")?;
        let mut steps = Vec::new();
        for (n, item) in fields.list("steps")?.into_iter().enumerate() {
            let mut fields = Fields::of(format!("steps[{n}]"), item)?;
            let text = fields.need_text("statement")?;
            let replace = fields.text("replace")?;
            let error = fields.text("error")?;
            let answer = match (fields.take("answer"), error) {
                (None, Some(error)) => Err(error),
                (Some(Yaml::Null), None) => Ok(Vec::new()),
                (Some(Yaml::String(line)), None) => Ok(line.lines().map(str::to_string).collect()),
                (Some(Yaml::Sequence(lines)), None) => Ok(lines
                    .into_iter()
                    .map(|line| match line {
                        Yaml::String(line) => Ok(line),
                        other => Err(format!("`steps[{n}].answer` must hold texts, found {}", kind(&other))),
                    })
                    .collect::<Read<_>>()?),
                _ => return fields.wrong("answer", "or `error` must be given, and only one"),
            };
            let defect = fields.text("defect")?;
            finish(fields)?;
            steps.push(Statement { text, replace, answer, defect });
        }
        finish(fields)?;
        Ok(Statements { group, tags, steps })
    }
}

/// The name under which a table is reported.
fn group(fields: &mut Fields, kind: &str) -> Read<String> {
    let group = fields.text("group")?;
    let name = fields.text("name")?;
    Ok(name.unwrap_or_else(|| group.map_or(kind.to_string(), |group| format!("{kind}/{group}"))))
}

/// Takes what is for people only, and refuses what is left.
fn finish(mut fields: Fields) -> Read<()> {
    fields.take("name");
    fields.take("origin");
    fields.take("derived");
    fields.end()
}
