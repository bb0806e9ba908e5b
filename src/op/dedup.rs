use std::sync::Arc;
use std::time::Duration;

use crate::data::{Account, Batch, Fate, Held, Meta, Object, Receipt, Time, Value};
use crate::diag::{Fault, Result};
use crate::expr::Program;

use super::compute::{load_all, save_all};
use super::tally::{load_row, save_row};
use super::{Cx, Operator, Out, Saved};

/// `dedup_trigger`: a row asks for a span of time, and waits for its end; what it is given is the parts of the span that
/// no row before it was given.
pub struct Dedup {
    slot: usize,
    /// Start, end, and the time of the request, in milliseconds.
    columns: [Program; 3],
    /// How far back of the time of its request a span may reach.
    expire: i64,
    /// By end, the first to come first.
    waiting: Vec<Request>,
    /// What was given, in order; the spans do not overlap.
    given: Vec<(i64, i64)>,
    due: Option<Time>,
}

struct Request {
    start: i64,
    end: i64,
    now: i64,
    values: Vec<Value>,
    time: Time,
    meta: Option<Meta>,
    promise: Promise,
}

/// A row that leaves at once keeps its receipt; one that waits is held.
enum Promise {
    Receipt(Receipt),
    Held(Held),
}

impl Promise {
    /// How many rows are held.
    fn rows(&self) -> u64 {
        if let Promise::Held(held) = self { held.rows() } else { 0 }
    }

    fn held(self) -> Held {
        match self {
            Promise::Receipt(receipt) => receipt.hold(),
            Promise::Held(held) => held,
        }
    }
}

impl Dedup {
    pub fn new(slot: usize, columns: [Program; 3], expire: i64) -> Self {
        Dedup { slot, columns, expire, waiting: Vec::new(), given: Vec::new(), due: None }
    }

    fn span(&self, batch: &Batch, row: usize, cx: &Cx<'_>) -> Result<[i64; 3]> {
        let mut span = [0; 3];
        for ((into, program), name) in span.iter_mut().zip(&self.columns).zip(["start", "end", "time"]) {
            *into = match program.eval(&cx.frame(batch, row))? {
                Value::Int(n) => n,
                Value::Float(x) if x.is_finite() => x as i64,
                other => {
                    let found = if other.is_null() { "nothing" } else { other.type_name() };
                    return Err(Fault::eval(format!("dedup_trigger needs a number as {name}, found {found}")));
                }
            };
        }
        let [start, end, _] = span;
        if start >= end {
            return Err(Fault::eval(format!("dedup_trigger: the start {start} is not before the end {end}")));
        }
        Ok(span)
    }

    /// Gives out what has come to its end by `now`; without a time, what comes first and all that ends with it.
    fn fire(&mut self, now: Option<i64>, at: Time, result: &mut Batch) {
        let Some(now) = now.or(self.waiting.first().map(|first| first.end)) else { return };
        let ready = self.waiting.partition_point(|request| request.end <= now);
        for request in self.waiting.drain(..ready).collect::<Vec<_>>() {
            let parts = self.parts(&request);
            let receipt = match request.promise {
                Promise::Receipt(receipt) => receipt,
                Promise::Held(held) => held.release(),
            };
            let row = result.rows();
            let slots = result.push(request.time, receipt);
            slots.iter_mut().zip(request.values).for_each(|(slot, value)| *slot = value);
            slots[self.slot] = parts;
            if let Some(meta) = &request.meta {
                result.set_meta(row, meta);
            }
        }
        let pause = |first: &Request| Duration::from_millis(first.end.saturating_sub(now).max(0) as u64);
        self.due = self.waiting.first().map(|first| at + pause(first));
    }

    /// The parts of a span that were not given yet; they are from now on.
    fn parts(&mut self, request: &Request) -> Value {
        let oldest = request.now.saturating_sub(self.expire);
        let (start, end) = (request.start.max(oldest), request.end);
        self.given.retain(|(_, end)| *end >= oldest);
        let mut parts = Vec::new();
        let mut open = start;
        for (from, to) in self.given.iter().filter(|(from, to)| *from < end && *to > start) {
            if open < *from {
                parts.push((open, *from));
            }
            open = open.max(*to);
        }
        if open < end {
            parts.push((open, end));
        }
        self.given.extend(&parts);
        self.given.sort_unstable();
        let text = |n: i64| Value::text(n.to_string());
        let object =
            |(start, end)| Value::object(Object::from_iter([("start_key", text(start)), ("end_key", text(end))]));
        Value::array(parts.into_iter().map(object).collect())
    }
}

impl Operator for Dedup {
    fn push(&mut self, mut batch: Batch, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        let mut result = Batch::new(batch.width());
        let mut faults = batch.take_faults().into_iter().peekable();
        for row in batch.selected().to_vec() {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= row) {
                result.note(result.rows(), fault);
            }
            let row = row as usize;
            match self.span(&batch, row, cx) {
                Ok([start, end, now]) => {
                    let promise = Promise::Receipt(batch.take_receipt(row));
                    let (time, meta) = (batch.time(row), batch.meta(row).cloned());
                    let request = Request { start, end, now, values: batch.take_row(row), time, meta, promise };
                    let place = self.waiting.partition_point(|other| other.end <= end);
                    self.waiting.insert(place, request);
                    self.fire(Some(now), cx.now, &mut result);
                }
                Err(fault) => {
                    let fault = fault.context("run Select error: ");
                    batch.bury(row, &fault);
                    result.note(result.rows(), fault);
                }
            }
        }
        faults.for_each(|(_, fault)| result.note(result.rows(), fault));
        for request in &mut self.waiting {
            let promise = std::mem::replace(&mut request.promise, Promise::Held(Held::default()));
            request.promise = Promise::Held(promise.held());
        }
        if !result.is_empty() {
            out.send(result);
        }
        Ok(())
    }

    fn tick(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        while let Some(due) = self.due.filter(|due| *due <= cx.now) {
            let Some(first) = self.waiting.first() else { break };
            let mut result = Batch::new(first.values.len());
            self.fire(None, due, &mut result);
            out.send(result);
        }
        Ok(())
    }

    fn due(&self) -> Option<Time> {
        self.due
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out) -> Result<()> {
        if let Some(first) = self.waiting.first() {
            let mut result = Batch::new(first.values.len());
            self.fire(Some(i64::MAX), cx.now, &mut result);
            out.send(result);
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.due = None;
        self.waiting.drain(..).for_each(|request| request.promise.held().settle(Fate::DroppedStop));
    }

    fn forget(&mut self) {
        self.due = None;
        self.waiting.drain(..).for_each(|request| request.promise.held().forget());
    }

    fn held(&self) -> u64 {
        self.waiting.iter().map(|request| request.promise.rows()).sum()
    }

    fn save(&self) -> Saved {
        let pair = |(start, end): &(i64, i64)| Value::array(vec![Value::Int(*start), Value::Int(*end)]);
        Value::object(Object::from_iter([
            ("programs", save_all(self.columns.iter())),
            ("waiting", Value::array(self.waiting.iter().map(save_request).collect())),
            ("given", Value::array(self.given.iter().map(pair).collect())),
            ("due", self.due.map_or(Value::Null, |due| Value::Int(due.0))),
        ]))
    }

    fn load(&mut self, saved: Saved, account: &Arc<dyn Account>) -> Result<()> {
        let broken = || Fault::bug("the saved state of dedup_trigger cannot be read");
        let Value::Object(saved) = saved else { return Err(broken()) };
        let part = |name: &str| saved.get(name).cloned().ok_or_else(broken);
        load_all(self.columns.iter_mut(), part("programs")?)?;
        let (Value::Array(waiting), Value::Array(given)) = (part("waiting")?, part("given")?) else {
            return Err(broken());
        };
        let waiting = waiting.iter().map(|saved| load_request(saved, account)).collect::<Option<_>>();
        let pair = |saved: &Value| match saved {
            Value::Array(pair) => Some((pair.first()?.as_i64()?, pair.get(1)?.as_i64()?)),
            _ => None,
        };
        self.waiting = waiting.ok_or_else(broken)?;
        self.given = given.iter().map(pair).collect::<Option<_>>().ok_or_else(broken)?;
        self.due = part("due")?.as_i64().map(Time);
        Ok(())
    }
}

fn save_request(request: &Request) -> Value {
    let held = match &request.promise {
        Promise::Held(held) => held.rows() as i64,
        Promise::Receipt(_) => 1,
    };
    Value::object(Object::from_iter([
        ("start", Value::Int(request.start)),
        ("end", Value::Int(request.end)),
        ("now", Value::Int(request.now)),
        ("row", save_row(&request.values)),
        ("time", Value::Int(request.time.0)),
        ("meta", request.meta.clone().map_or(Value::Null, Value::Object)),
        ("held", Value::Int(held)),
    ]))
}

fn load_request(saved: &Value, account: &Arc<dyn Account>) -> Option<Request> {
    let Value::Object(saved) = saved else { return None };
    let int = |name: &str| saved.get(name)?.as_i64();
    Some(Request {
        start: int("start")?,
        end: int("end")?,
        now: int("now")?,
        values: load_row(saved.get("row")?)?,
        time: Time(int("time")?),
        meta: if let Value::Object(meta) = saved.get("meta")? { Some(meta.clone()) } else { None },
        promise: Promise::Held(Held::restored(account.clone(), int("held")? as u64)),
    })
}
