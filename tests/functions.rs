//! Executes every example of every function, as a rule does: parsed, planned, and run by a chain over one row.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::Arc;

use jiff::tz::TimeZone;
use kuiper::clock::Time;
use kuiper::data::cast::json;
use kuiper::data::{Batch, Object, Receipt, Value};
use kuiper::flow::{Book, Chain};
use kuiper::func::{self, Catalogue, RuleInfo};
use kuiper::plan::{self, Stream};
use kuiper::sql;

const NOW: Time = Time(1_700_000_000_000);

/// What an example came to: the value of its column, or, where the parts of it became columns, all of them.
fn run(call: &str) -> Result<Value, String> {
    // A function that gives several columns brings its own alias.
    let (text, name) = match call.rsplit_once(" AS ") {
        Some((_, alias)) => (format!("SELECT {call} FROM s"), alias),
        None => (format!("SELECT {call} AS r FROM s"), "r"),
    };
    let select = sql::parse_select(&text).map_err(|found| format!("{found:?}"))?;
    let find = |name: &str| (name == "s").then(|| Stream::schemaless(name));
    let plan = plan::plan(&select, &find, &Catalogue::default(), &plan::Options::default())
        .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let rule = RuleInfo {
        id: "r1".into(),
        started: Time(NOW.0 - 1000),
        props: Arc::new(Object::from_iter([("plant", Value::text("north"))])),
        ..RuleInfo::nowhere()
    };
    let account = Arc::new(Book::default()).account();
    let mut chain = Chain::build(&plan, Arc::new(rule), &TimeZone::UTC, NOW, account).unwrap();
    let mut batch = Batch::new(plan.width);
    plan.sources[0].wanted.fill(Object::new(), batch.push(NOW, Receipt::none()));
    let mut out = Vec::new();
    chain.push(0, batch, NOW, &mut out).unwrap();
    let batch = out.pop().expect("something comes out");
    let [row] = batch.selected() else {
        return Err(batch.faults().iter().map(|(_, fault)| fault.to_string()).collect());
    };
    let columns = plan.layout.object(batch.row(*row as usize));
    Ok(match columns.get(name) {
        Some(value) => value.clone(),
        None if columns.is_empty() => Value::Null,
        None => Value::object(columns),
    })
}

/// As JSON shows them, so that 5 and 5.0 are the same; the last digit of a float is the machine's.
fn same(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(x), Some(y)) => (x - y).abs() <= 1e-9 * y.abs(),
        _ => json::text(found).unwrap() == json::text(expected).unwrap(),
    }
}

#[test]
fn every_example_is_true() {
    let (mut wrong, mut executed) = (Vec::new(), 0);
    for func in func::all() {
        for (call, expected) in func.examples {
            match run(call) {
                Ok(found) if same(&found, &json::parse(expected.as_bytes()).unwrap()) => {}
                found => {
                    let found = found.map(|value| json::text(&value).unwrap());
                    wrong.push(format!("{call} = {expected}, found {found:?}"));
                }
            }
            executed += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {executed} are wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(executed >= 2 * func::all().count(), "only {executed} examples were executed");
}
