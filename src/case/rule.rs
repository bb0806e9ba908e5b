//! One rule case as it is written: statements, rule, what arrives when, and what must come out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value as Json};
use serde_yaml::Value as Yaml;

use crate::data::{Object, Time};

use super::compare::Compare;
use super::fields::{Fields, Read, kind};
use super::value::{json, object};

/// A rule case.
#[derive(Debug)]
pub(super) struct RuleCase {
    pub name: String,
    pub streams: Vec<String>,
    pub body: Body,
    /// Complete option maps; the case must come out the same with each.
    pub variants: Vec<Map<String, Json>>,
    pub config: Map<String, Json>,
    pub start: Time,
    pub input: Vec<Input>,
    pub advance: Time,
    pub events: Vec<Event>,
    pub ledger: Vec<(String, Counts)>,
    /// `None`: one sink that hands over each emission whole.
    pub sinks: Option<Vec<(String, Map<String, Json>)>>,
    pub expected: Expected,
    pub compare: Compare,
    pub metrics: Map<String, Json>,
    pub topo: Option<Json>,
    pub tags: Vec<String>,
    pub defect: Option<String>,
}

/// What the rule is made of.
#[derive(Debug)]
pub(super) enum Body {
    Sql(String),
    /// As the REST interface takes it.
    Graph(Json),
}

/// One thing that arrives.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub stream: String,
    pub at: Time,
    pub what: Arrival,
    pub meta: Option<Object>,
}

#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Row(Object),
    /// A row of a lookup table goes away.
    Delete(Object),
    Bytes(Vec<u8>),
    Error(String),
    End,
}

/// Something that happens to the engine on the way.
#[derive(Debug)]
pub(super) struct Event {
    pub at: Time,
    pub what: Happening,
    /// The sink that it is about; `None`: the only one.
    pub sink: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    SaveLoad,
    Restart,
    Crash,
    FailSink,
    HealSink,
}

impl Happening {
    const WORDS: &'static [(&'static str, Happening)] = &[
        ("save_load", Happening::SaveLoad),
        ("restart", Happening::Restart),
        ("crash", Happening::Crash),
        ("fail_sink", Happening::FailSink),
        ("heal_sink", Happening::HealSink),
    ];
}

/// What the ledger must say of one term: a total, or a count for each reason.
#[derive(Debug, PartialEq)]
pub(super) enum Counts {
    Total(u64),
    Reasons(Vec<(String, u64)>),
}

#[derive(Debug)]
pub(super) enum Expected {
    /// The rule, or one of the statements before it, is refused; with this in the text, if it is compared.
    Refused(Option<String>),
    /// For each sink what it is given, in order. The sink of a case without `sinks` has no name.
    Output(Vec<(String, Vec<Want>)>),
}

/// One emission that is expected.
#[derive(Debug)]
pub(super) struct Want {
    pub at: Option<Time>,
    pub body: WantBody,
}

#[derive(Debug)]
pub(super) enum WantBody {
    Rows(Vec<Object>),
    Error(String),
    Text(String),
    Bytes(Vec<u8>),
}

const LEDGER_TERMS: &[&str] = &["in", "out", "filtered", "late", "dropped", "dead", "held"];

impl RuleCase {
    pub fn read(mut fields: Fields) -> Read<RuleCase> {
        let name = fields.need_text("name")?;
        let streams = fields.texts("streams")?;
        let body = match (fields.text("sql")?, fields.take("graph")) {
            (Some(sql), None) => Body::Sql(sql),
            (None, Some(yaml)) => Body::Graph(json("graph", &yaml)?),
            (None, None) => Body::Sql(fields.need_text("sql")?),
            (Some(_), Some(_)) => return Err("give `sql` or `graph`, not both".to_string()),
        };
        let mut variants = vec![map(&mut fields, "options")?];
        for (n, variant) in fields.list("variants")?.into_iter().enumerate() {
            variants.push(json_map(&format!("variants[{n}]"), &variant)?);
        }
        let config = map(&mut fields, "config")?;
        let start = fields.need_instant("start", None)?;
        let advance = fields.need_instant("advance", Some(start))?;
        let input = read_inputs(&mut fields, start, advance)?;
        let events = read_events(&mut fields, start, advance)?;
        let ledger = read_ledger(&mut fields)?;
        let sinks = match fields.take("sinks") {
            None | Some(Yaml::Null) => None,
            Some(yaml) => Some(read_sinks(yaml)?),
        };
        let refused = match fields.take("create_error") {
            None | Some(Yaml::Null | Yaml::Bool(false)) => None,
            Some(Yaml::Bool(true)) => Some(None),
            Some(Yaml::String(text)) => Some(Some(text)),
            Some(other) => return fields.wrong("create_error", format!("must be a text, found {}", kind(&other))),
        };
        let expected = match (refused, fields.take("output")) {
            (Some(text), None) => Expected::Refused(text),
            (Some(_), Some(_)) => return Err("`create_error` excludes `output`".to_string()),
            (None, Some(yaml)) => Expected::Output(read_output(yaml, sinks.as_deref(), start)?),
            (None, None) => Expected::Output(read_output(fields.need("output")?, sinks.as_deref(), start)?),
        };
        let compare = match fields.take("compare") {
            None | Some(Yaml::Null) => Compare::default(),
            Some(yaml) => Compare::read(yaml)?,
        };
        let case = RuleCase {
            name,
            streams,
            body,
            variants,
            config,
            start,
            input,
            advance,
            events,
            ledger,
            sinks,
            expected,
            compare,
            metrics: map(&mut fields, "metrics")?,
            topo: fields.take("topo").map(|yaml| json("topo", &yaml)).transpose()?,
            tags: fields.texts("tags")?,
            defect: fields.text("defect")?,
        };
        fields.take("origin");
        fields.take("derived");
        fields.end()?;
        Ok(case)
    }
}

fn map(fields: &mut Fields, name: &'static str) -> Read<Map<String, Json>> {
    match fields.take(name) {
        None | Some(Yaml::Null) => Ok(Map::new()),
        Some(yaml) => json_map(name, &yaml),
    }
}

fn json_map(place: &str, yaml: &Yaml) -> Read<Map<String, Json>> {
    match json(place, yaml)? {
        Json::Object(map) => Ok(map),
        _ => Err(format!("`{place}` must be a map, found {}", kind(yaml))),
    }
}

fn read_inputs(fields: &mut Fields, start: Time, advance: Time) -> Read<Vec<Input>> {
    let items = match fields.need("input")? {
        Yaml::Sequence(items) => items,
        Yaml::Null => Vec::new(),
        other => return fields.wrong("input", format!("must be a list, found {}", kind(&other))),
    };
    let mut inputs: Vec<Input> = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        let input = read_input(Fields::of(format!("input[{n}]"), item)?, start)?;
        let before = inputs.last().map_or(start, |last| last.at);
        if input.at < before {
            return Err(format!("`input[{n}].at` lies before what comes ahead of it"));
        }
        if input.at > advance {
            return Err(format!("`input[{n}].at` lies after `advance`"));
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn read_input(mut fields: Fields, start: Time) -> Read<Input> {
    let stream = fields.need_text("stream")?;
    let at = fields.need_instant("at", Some(start))?;
    let place = fields.place("data");
    let data = fields.take("data").map(|yaml| object(&place, &yaml)).transpose()?;
    let raw = fields.text("raw")?;
    let raw_base64 = fields.text("raw_base64")?;
    let error = fields.text("error")?;
    let eof = fields.flag("eof")?.filter(|eof| *eof);
    let delete = fields.flag("delete")?.unwrap_or(false);
    let place = fields.place("meta");
    let meta = fields.take("meta").map(|yaml| object(&place, &yaml)).transpose()?;
    let what = match (data, raw, raw_base64, error, eof) {
        (Some(row), None, None, None, None) if delete => Arrival::Delete(row),
        (Some(row), None, None, None, None) => Arrival::Row(row),
        (None, Some(text), None, None, None) => Arrival::Bytes(text.into_bytes()),
        (None, None, Some(text), None, None) => match BASE64.decode(&text) {
            Ok(bytes) => Arrival::Bytes(bytes),
            Err(_) => return fields.wrong("raw_base64", "must be base64"),
        },
        (None, None, None, Some(text), None) => Arrival::Error(text),
        (None, None, None, None, Some(_)) => Arrival::End,
        _ => {
            return fields
                .wrong("data", "or one of `raw`, `raw_base64`, `error`, `eof: true` must be given, and only one");
        }
    };
    if delete && !matches!(what, Arrival::Delete(_)) {
        return fields.wrong("delete", "stands beside `data` only");
    }
    fields.end()?;
    Ok(Input { stream, at, what, meta })
}

fn read_events(fields: &mut Fields, start: Time, advance: Time) -> Read<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    for (n, item) in fields.list("events")?.into_iter().enumerate() {
        let mut fields = Fields::of(format!("events[{n}]"), item)?;
        let at = fields.need_instant("at", Some(start))?;
        let Some(what) = fields.word("do", Happening::WORDS)? else {
            return fields.wrong("do", "is missing");
        };
        let sink = fields.text("sink")?;
        fields.end()?;
        if at < events.last().map_or(start, |last| last.at) || at > advance {
            return Err(format!("`events[{n}].at` is out of order"));
        }
        events.push(Event { at, what, sink });
    }
    Ok(events)
}

fn read_ledger(fields: &mut Fields) -> Read<Vec<(String, Counts)>> {
    let mut terms = Vec::new();
    for (name, value) in map(fields, "ledger")? {
        if !LEDGER_TERMS.contains(&name.as_str()) {
            return Err(format!("unknown field `ledger.{name}`"));
        }
        let counts = match &value {
            Json::Object(reasons) => Counts::Reasons(
                reasons
                    .iter()
                    .map(|(reason, count)| match count.as_u64() {
                        Some(count) => Ok((reason.clone(), count)),
                        None => Err(format!("`ledger.{name}.{reason}` must be a count")),
                    })
                    .collect::<Read<_>>()?,
            ),
            other => match other.as_u64() {
                Some(total) => Counts::Total(total),
                None => return Err(format!("`ledger.{name}` must be a count")),
            },
        };
        terms.push((name, counts));
    }
    Ok(terms)
}

fn read_sinks(yaml: Yaml) -> Read<Vec<(String, Map<String, Json>)>> {
    let Yaml::Mapping(sinks) = yaml else { return Err("`sinks` must be a map".to_string()) };
    sinks
        .into_iter()
        .map(|(name, props)| match name {
            Yaml::String(name) => {
                let props = match &props {
                    Yaml::Null => Map::new(),
                    props => json_map(&format!("sinks.{name}"), props)?,
                };
                Ok((name, props))
            }
            other => Err(format!("`sinks`: a name must be a text, found {}", kind(&other))),
        })
        .collect()
}

fn read_output(
    yaml: Yaml,
    sinks: Option<&[(String, Map<String, Json>)]>,
    start: Time,
) -> Read<Vec<(String, Vec<Want>)>> {
    let Some(sinks) = sinks else { return Ok(vec![(String::new(), read_wants("output", yaml, start)?)]) };
    let mut fields = match yaml {
        Yaml::Mapping(map) => map,
        other => return Err(format!("`output` must be a map from sink to list, found {}", kind(&other))),
    };
    let mut output = Vec::new();
    for (name, _) in sinks {
        let place = format!("output.{name}");
        match fields.shift_remove(name.as_str()) {
            Some(list) => output.push((name.clone(), read_wants(&place, list, start)?)),
            None => return Err(format!("`{place}` is missing")),
        }
    }
    match fields.keys().next() {
        Some(Yaml::String(name)) => Err(format!("`output.{name}` names no sink of the case")),
        Some(_) => Err("`output` names no sink of the case".to_string()),
        None => Ok(output),
    }
}

fn read_wants(place: &str, yaml: Yaml, start: Time) -> Read<Vec<Want>> {
    let items = match yaml {
        Yaml::Sequence(items) => items,
        Yaml::Null => Vec::new(),
        other => return Err(format!("`{place}` must be a list, found {}", kind(&other))),
    };
    items
        .into_iter()
        .enumerate()
        .map(|(n, item)| read_want(Fields::of(format!("{place}[{n}]"), item)?, start))
        .collect()
}

fn read_want(mut fields: Fields, start: Time) -> Read<Want> {
    let at = fields.instant("at", Some(start))?;
    let place = fields.place("rows");
    let rows = match fields.take("rows") {
        None => None,
        Some(Yaml::Null) => Some(Vec::new()),
        Some(Yaml::Sequence(items)) => Some(
            items
                .iter()
                .enumerate()
                .map(|(n, item)| object(&format!("{place}[{n}]"), item))
                .collect::<Read<Vec<_>>>()?,
        ),
        Some(other) => return fields.wrong("rows", format!("must be a list, found {}", kind(&other))),
    };
    let error = fields.text("error")?;
    let text = fields.text("text")?;
    let bytes = fields.text("bytes")?;
    let body = match (rows, error, text, bytes) {
        (Some(rows), None, None, None) => WantBody::Rows(rows),
        (None, Some(error), None, None) => WantBody::Error(error),
        (None, None, Some(text), None) => WantBody::Text(text),
        (None, None, None, Some(bytes)) => match BASE64.decode(&bytes) {
            Ok(bytes) => WantBody::Bytes(bytes),
            Err(_) => return fields.wrong("bytes", "must be base64"),
        },
        _ => return fields.wrong("rows", "or one of `error`, `text`, `bytes` must be given, and only one"),
    };
    fields.end()?;
    Ok(Want { at, body })
}
