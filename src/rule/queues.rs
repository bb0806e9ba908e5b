//! The disk queues of rules, for those who look into them: REST, and the command line while no server runs.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::Refused;
use crate::clock::Time;
use crate::codec::json;
use crate::data::Value;
use crate::diag::Fault;
use crate::flow::{Place, Removed, Seen, Standing};
use crate::io::{Content, Parcel};
use crate::store::Store;

pub use crate::flow::Queues;

/// Messages that one look gives at most.
pub const MOST: usize = 10_000;

/// The queues in the data folder of a server that does not run.
pub fn in_folder(folder: &Path) -> Result<Queues, Fault> {
    Ok(Queues::new(Arc::new(Store::open(folder)?)))
}

fn moment(time: Time) -> Json {
    if time == Time(0) { Json::Null } else { time.0.into() }
}

/// A queue as REST shows it.
fn shown(one: &Standing) -> Json {
    json!({
        "rule": one.place.rule,
        "sink": one.place.sink,
        "messages": one.sum.messages,
        "rows": one.sum.rows,
        "bytes": one.sum.bytes,
        "oldest": moment(one.sum.oldest),
        "newest": moment(one.sum.newest),
        "inUse": one.in_use,
    })
}

/// All queues, or those of one rule. Blocks.
pub fn list(queues: &Queues, rule: Option<&str>) -> Result<Json, Refused> {
    let all = queues.list(rule).map_err(Refused::Storage)?;
    Ok(all.iter().map(shown).collect())
}

/// The messages of a queue from that sequence on, at most so many. Blocks.
pub fn show(queues: &Queues, rule: &str, sink: &str, from: u64, most: usize) -> Result<Json, Refused> {
    let place = Place { rule: rule.into(), sink: sink.into() };
    let seen = queues.look(&place, from, most.min(MOST)).map_err(Refused::Storage)?;
    Ok(seen.ok_or_else(|| missing(queues, &place))?.iter().map(message).collect())
}

/// Throws away what waits in a queue, and says how much it was. Blocks.
pub fn clear(queues: &Queues, rule: &str, sink: &str) -> Result<String, Refused> {
    let place = Place { rule: rule.into(), sink: sink.into() };
    let removed = queues.clear(&place).map_err(Refused::Storage)?.ok_or_else(|| missing(queues, &place))?;
    let sum = removed.sum;
    let (messages, rows) = (counted(sum.messages, "message"), counted(sum.rows, "row"));
    Ok(format!("Queue {sink} of rule {rule} is dropped: {messages}, {rows}."))
}

/// `1 row`, `2 rows`.
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What went with a rule that was dropped, as the end of the answer.
pub(super) fn gone(removed: &[Removed]) -> String {
    let line =
        |one: &Removed| format!(" {} of sink {} went undelivered.", counted(one.sum.rows, "row"), one.place.sink);
    removed.iter().map(line).collect()
}

/// What lies in queues that no sink of the rule sends any more.
pub(super) fn left(queues: &Queues, rule: &str, sinks: &[String]) -> Result<Vec<String>, Fault> {
    let all = queues.list(Some(rule))?;
    let left = all.iter().filter(|one| one.sum.messages > 0 && !sinks.contains(&one.place.sink));
    let line = |one: &Standing| {
        let (rows, sink) = (counted(one.sum.rows, "row"), &one.place.sink);
        format!(
            "{rows} in the queue of sink `{sink}` of rule `{rule}` are not sent: no sink of that name has a queue any more"
        )
    };
    Ok(left.map(line).collect())
}

fn missing(queues: &Queues, place: &Place) -> Refused {
    let Place { rule, sink } = place;
    let known = queues.list(Some(rule)).unwrap_or_default();
    let known: Vec<String> = known.iter().map(|one| format!("`{}`", one.place.sink)).collect();
    let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
    Refused::NotFound(format!("rule `{rule}` has no queue `{sink}`; {known}"))
}

fn message(seen: &Seen) -> Json {
    let Parcel { content, props } = &seen.parcel;
    let size = match content {
        Content::Bytes(bytes) => bytes.len(),
        Content::Rows(set) => set.rows.len(),
    };
    let mut all = Map::new();
    all.insert("sequence".into(), seen.sequence.into());
    all.insert("time".into(), seen.time.0.into());
    all.insert("rows".into(), seen.rows.into());
    if let Content::Bytes(_) = content {
        all.insert("size".into(), size.into());
    }
    if !props.is_empty() {
        let props = props.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        all.insert("properties".into(), props.collect::<Map<_, _>>().into());
    }
    match content {
        Content::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => all.insert("text".into(), text.into()),
            // What is no text is written as two hexadecimal digits a byte.
            Err(_) => {
                all.insert("hex".into(), bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
            }
        },
        Content::Rows(set) => {
            let objects = set.objects().into_iter().map(Value::object).collect();
            let mut text = Vec::new();
            json::print(&mut text, &Value::array(objects));
            all.insert("content".into(), serde_json::from_slice(&text).unwrap_or_default())
        }
    };
    all.into()
}
