//! `simulator`: a source that gives rows written in its options, one after the other, for demos and trials.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::data::{Object, Value};
use crate::diag::{Diagnostic, Result};

use super::props::{self, Period};
use super::{Closed, Connector, End, Env, Inlet, Link, Message, Payload, Report, Source, SourcePlan, SourceSpec};

pub(super) const CONNECTOR: Connector = Connector {
    name: "simulator",
    about: "Give rows that are written in the options.",
    defaults: include_str!("../../config/sources/simulator.yaml"),
    source: Some(plan),
    sink: None,
    lookup: None,
    source_schema: Some(props::schema::<Options>),
    sink_schema: None,
};

const NAMES: props::Names = props::Names::source("the `simulator` source", &["bufferLength"]);

/// Options of the `simulator` source.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    /// The rows, each an object.
    data: Vec<Map<String, Json>>,
    /// Begin again after the last row; without it the stream ends there.
    #[serde(rename = "loop")]
    again: bool,
    /// Pause between two rows; 0 gives all at once.
    interval: Period,
}

fn plan(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let (options, warnings) = props::read::<Options>(&spec.props, &NAMES)?;
    if options.again && options.interval.some().is_none() {
        let text = "the `simulator` source cannot `loop` with an `interval` of 0";
        return Err(Diagnostic::error("K0624", text).help("set `interval`, or `loop` to false"));
    }
    let is_set = |(name, value): (&String, &Json)| {
        name.eq_ignore_ascii_case("useInt64ForWholeNumber") && *value == Json::Bool(true)
    };
    let ints = spec.props.iter().any(is_set);
    let rows: Arc<[Object]> = options.data.iter().map(|row| object(row, ints)).collect();
    let env = spec.env;
    let open = move || {
        let (again, interval) = (options.again, options.interval);
        Ok(Box::new(Simulator { rows: rows.clone(), again, interval, env: env.clone() }) as Box<dyn Source>)
    };
    Ok(SourcePlan { open: Box::new(open), gives_rows: true, seeks: false, warnings, identity: None })
}

fn object(row: &Map<String, Json>, ints: bool) -> Object {
    row.iter().map(|(name, value)| (name.as_str(), convert(value, ints))).collect()
}

/// A JSON value as the `json` format reads it: numbers are floats, unless whole numbers are wanted as integers.
fn convert(value: &Json, ints: bool) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => match number.as_i64() {
            Some(n) if ints => Value::Int(n),
            _ => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::array(items.iter().map(|item| convert(item, ints)).collect()),
        Json::Object(fields) => Value::object(object(fields, ints)),
    }
}

struct Simulator {
    rows: Arc<[Object]>,
    again: bool,
    interval: Period,
    env: Env,
}

impl Simulator {
    async fn give(&self, inlet: &Inlet, rows: &[Object]) -> Result<(), Closed> {
        let time = self.env.clock.now();
        let message =
            |row: &Object| Message { payload: Payload::Row(row.clone()), time, meta: None, ack: None, delivery: None };
        inlet.send(rows.iter().map(message).collect()).await
    }
}

#[async_trait::async_trait]
impl Source for Simulator {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        report.set(Link::Connected);
        let Some(interval) = self.interval.some() else {
            return Ok(if self.give(&inlet, &self.rows).await.is_ok() { End::Finished } else { End::Closed });
        };
        let mut next = self.env.clock.now();
        loop {
            for row in self.rows.chunks(1) {
                tokio::select! {
                    _ = self.env.clock.sleep_until(next) => {}
                    _ = inlet.closed() => return Ok(End::Closed),
                }
                if self.give(&inlet, row).await.is_err() {
                    return Ok(End::Closed);
                }
                // A late row does not make the ones after it hurry.
                next = (next + interval).max(self.env.clock.now());
            }
            if !self.again || self.rows.is_empty() {
                return Ok(End::Finished);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use crate::clock::{Clock, Time};
    use crate::io::tests::{env, spec};

    use super::*;

    #[tokio::test]
    async fn rows_come_by_the_clock_and_begin_again() {
        let clock = Clock::stopped_at(Time(1_000));
        let props = json!({"data": [{"a": 1}, {"a": "b"}], "loop": true, "interval": "1s"});
        let mut spec = spec(props, ".");
        spec.env.clock = clock.clone();
        let mut source = (plan(spec).unwrap().open)().unwrap();
        let (inlet, mut from) = Inlet::bounded(8);
        let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
        for (at, value) in [(1_000, Value::Float(1.0)), (2_000, "b".into()), (3_000, Value::Float(1.0))] {
            clock.set(Time(at));
            let chunk = from.recv().await.unwrap();
            assert_eq!(chunk[0].payload, Payload::Row([("a", value)].into_iter().collect()));
            assert_eq!(chunk[0].time, Time(at));
        }
        drop(from);
        assert_eq!(task.await.unwrap(), Ok(End::Closed));
    }

    #[tokio::test]
    async fn without_an_interval_all_rows_come_at_once() {
        let props = json!({"data": [{"a": 1}, {"a": 2.5}], "useInt64ForWholeNumber": true});
        let mut source = (plan(spec(props, ".")).unwrap().open)().unwrap();
        let (inlet, mut from) = Inlet::bounded(8);
        assert_eq!(source.run(inlet, Report::new().0).await, Ok(End::Finished));
        let rows: Vec<_> = from.recv().await.unwrap().into_iter().map(|message| message.payload).collect();
        let row = |value| Payload::Row([("a", value)].into_iter().collect());
        assert_eq!(rows, [row(Value::Int(1)), row(Value::Float(2.5))]);
        assert!(from.recv().await.is_none());
    }

    #[test]
    fn a_loop_without_a_pause_is_refused() {
        let error = plan(SourceSpec { env: env("."), ..spec(json!({"data": [], "loop": true}), ".") }).err().unwrap();
        assert_eq!(error.code, "K0624");
    }
}
