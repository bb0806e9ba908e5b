//! A snapshot as bytes: the state of each operator by itself, with what it is the state of, and all counts that go with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::data::{Object, Value, pack};
use crate::diag::{Fault, Result};
use crate::meter::{LedgerView, SinkView, reason};

use super::record::SinkCount;

/// The form of these bytes.
const VERSION: i64 = 1;

/// The state of one operator.
#[derive(Clone, Debug)]
pub struct Kept {
    /// As in the status of the rule: `op_3_window`.
    pub name: String,
    /// What it does; equal texts mean that one can go on with the state of the other.
    pub does: String,
    pub state: Value,
}

/// Everything that a rule knows at one moment.
#[derive(Clone, Debug)]
pub struct State {
    /// The plan as text.
    pub plan: String,
    pub ops: Vec<Kept>,
    /// What each sink has confirmed, and how much of that it had been given at this moment.
    pub sinks: Vec<(SinkCount, u64)>,
    /// For each source where it stood, if it can seek.
    pub positions: Vec<Option<Value>>,
    /// `held` is what the operators hold.
    pub ledger: LedgerView,
    /// For each source the messages that it may give again: number and digest.
    pub known: Vec<Vec<(u16, u64)>>,
}

fn broken() -> Fault {
    Fault::bug("the snapshot cannot be read")
}

fn number(n: u64) -> Value {
    Value::Int(n.cast_signed())
}

fn reasons(all: &BTreeMap<&'static str, u64>) -> Value {
    Value::object(all.iter().map(|(reason, rows)| (*reason, number(*rows))).collect())
}

impl State {
    /// The bytes in pieces. Fails with `Encode` where a value is nested too deeply.
    pub fn pieces(&self) -> Result<Vec<Arc<[u8]>>> {
        let op = |op: &Kept| Value::array(vec![Value::text(&op.name), Value::text(&op.does), op.state.clone()]);
        let place = |position: &Option<Value>| position.clone().unwrap_or(Value::Absent);
        let sink = |(sink, given): &(SinkCount, u64)| {
            let view = &sink.view;
            let counts = [number(sink.confirmed), number(*given), place(&sink.position)];
            let account = [number(view.delivered), reasons(&view.dropped), reasons(&view.dead)];
            Value::array([Value::text(&sink.name)].into_iter().chain(counts).chain(account).collect())
        };
        let ledger = &self.ledger;
        let counts = vec![
            number(ledger.came),
            number(ledger.out),
            number(ledger.filtered),
            Value::Int(ledger.held),
            number(ledger.late),
            reasons(&ledger.dropped),
            reasons(&ledger.dead),
        ];
        let known = |all: &Vec<(u16, u64)>| {
            let pair = |(id, digest): &(u16, u64)| [Value::Int((*id).into()), number(*digest)];
            Value::array(all.iter().flat_map(pair).collect())
        };
        let all = Value::object(Object::from_iter([
            ("version", Value::Int(VERSION)),
            ("plan", Value::text(&self.plan)),
            ("ops", Value::array(self.ops.iter().map(op).collect())),
            ("sinks", Value::array(self.sinks.iter().map(sink).collect())),
            ("positions", Value::array(self.positions.iter().map(place).collect())),
            ("ledger", Value::array(counts)),
            ("known", Value::array(self.known.iter().map(known).collect())),
        ]));
        pack::pieces_of(&all)
    }

    pub fn read(mut bytes: &[u8]) -> Result<State> {
        let all = pack::take_state(&mut bytes).map_err(|_| broken())?;
        let Value::Object(all) = all else { return Err(broken()) };
        let part = |name: &str| all.get(name).ok_or_else(broken);
        if !matches!(part("version")?, Value::Int(VERSION)) || !bytes.is_empty() {
            return Err(broken());
        }
        let op = |value: &Value| {
            let [Value::Text(name), Value::Text(does), state] = list(value)? else { return Err(broken()) };
            Ok(Kept { name: name.to_string(), does: does.to_string(), state: state.clone() })
        };
        let sink = |value: &Value| {
            let [Value::Text(name), confirmed, given, position, delivered, dropped, dead] = list(value)? else {
                return Err(broken());
            };
            let (delivered, dropped, dead) = (count(delivered)?, causes(dropped)?, causes(dead)?);
            let view = SinkView { delivered, dropped, dead, ..SinkView::default() };
            let (name, confirmed, position) = (name.to_string(), count(confirmed)?, place(position));
            Ok((SinkCount { name, confirmed, position, view }, count(given)?))
        };
        let [came, out, filtered, Value::Int(held), late, dropped, dead] = list(part("ledger")?)? else {
            return Err(broken());
        };
        let ledger = LedgerView {
            came: count(came)?,
            out: count(out)?,
            filtered: count(filtered)?,
            held: *held,
            late: count(late)?,
            dropped: causes(dropped)?,
            dead: causes(dead)?,
        };
        let known = |value: &Value| {
            let pair = |pair: &[Value]| match pair {
                [Value::Int(id), digest] => Ok((u16::try_from(*id).map_err(|_| broken())?, count(digest)?)),
                _ => Err(broken()),
            };
            list(value)?.chunks(2).map(pair).collect::<Result<Vec<_>>>()
        };
        let Value::Text(plan) = part("plan")? else { return Err(broken()) };
        Ok(State {
            plan: plan.to_string(),
            ops: list(part("ops")?)?.iter().map(op).collect::<Result<_>>()?,
            sinks: list(part("sinks")?)?.iter().map(sink).collect::<Result<_>>()?,
            positions: list(part("positions")?)?.iter().map(place).collect(),
            ledger,
            known: list(part("known")?)?.iter().map(known).collect::<Result<_>>()?,
        })
    }
}

fn place(value: &Value) -> Option<Value> {
    Some(value.clone()).filter(|position| !matches!(position, Value::Absent))
}

fn list(value: &Value) -> Result<&[Value]> {
    if let Value::Array(list) = value { Ok(list) } else { Err(broken()) }
}

fn count(value: &Value) -> Result<u64> {
    if let Value::Int(n) = value { Ok(n.cast_unsigned()) } else { Err(broken()) }
}

fn causes(value: &Value) -> Result<BTreeMap<&'static str, u64>> {
    let Value::Object(all) = value else { return Err(broken()) };
    all.iter().map(|(name, rows)| Ok((reason(name), count(rows)?))).collect()
}
