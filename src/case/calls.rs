//! Runs the entries of function tables: single calls, groups, and functions that remember.
//!
//! What remembers is run twice, the second time with a save and load between any two steps.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::data::{Object, Text, Time, Value};
use crate::diag::Fault;
use crate::func::analytic::{Analytic, ChangedCols, start_analytic};
use crate::func::hit::Hits;
use crate::func::rows::expand;
use crate::func::{Accumulator, Body, Catalogue, Ctx, Func, RuleInfo, Special, Stateful, guarded};

use super::compare::Compare;
use super::statements;
use super::suite::Settings;
use super::table::{Outcome, Step, Test};
use super::value::show;

/// What the rule's clock shows in function tables.
const NOW: Time = Time(1_700_000_000_000);

/// Runs one entry.
pub(super) fn run(subject: &str, test: &Test, settings: &Settings) -> Result<(), String> {
    let check = Check { settings, rules: Compare { typed: settings.typed_numbers, ..Compare::default() } };
    match test {
        Test::Validate { ok: true, .. } => statements::accepted(subject),
        Test::Validate { ok: false, message } => {
            statements::refused(subject, message.as_deref().unwrap_or_default(), settings)
        }
        Test::Call { args, zone, result } => {
            let rule = rule(zone.as_deref())?;
            check.outcome(result, call(find(subject)?, args, &context(&rule, NOW))?)
        }
        Test::Aggregate { rows, zone, result } => {
            let rule = rule(zone.as_deref())?;
            let func = find(subject)?;
            for saved in [false, true] {
                check.outcome(result, aggregate(func, rows, &context(&rule, NOW), saved)?)?;
            }
            Ok(())
        }
        Test::Sequence { steps, roundtrip } => {
            let func = find(subject)?;
            sequence(&check, func, steps, *roundtrip, false)?;
            sequence(&check, func, steps, *roundtrip, true).map_err(|why| format!("with save and load, {why}"))
        }
    }
}

fn find(name: &str) -> Result<&'static Func, String> {
    Catalogue::default().find(name).ok_or_else(|| format!("there is no function `{name}`"))
}

fn rule(zone: Option<&str>) -> Result<RuleInfo, String> {
    let zone = match zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| format!("there is no time zone `{name}`"))?,
    };
    Ok(RuleInfo { id: "case".into(), started: NOW, zone, ..RuleInfo::nowhere() })
}

fn context(rule: &RuleInfo, now: Time) -> Ctx<'_> {
    Ctx { now, row_time: Some(now), rule }
}

/// What a call came to: a value, or the error that it must or must not be.
type Came = Result<Value, Fault>;

fn call(func: &Func, args: &[Value], ctx: &Ctx<'_>) -> Result<Came, String> {
    if let Some(answer) = guarded(func, args) {
        return Ok(Ok(answer));
    }
    match func.body {
        Body::Scalar(body) => Ok(body(args, ctx)),
        Body::Stateful(start) => Ok(start().call(args, ctx)),
        // An aggregate is called with the lists of a group; null is none.
        Body::Aggregate(start) if args.iter().all(Value::is_null) => Ok(start().give()),
        // Known inside of a window only.
        Body::Special(Special::WindowBound) => Ok(Ok(Value::Null)),
        Body::Special(Special::Meta) if args.iter().all(Value::is_null) => Ok(Ok(Value::Null)),
        Body::Special(Special::Rows) => Ok(expand(func.name, args.first().unwrap_or(&Value::Null)).map(Value::array)),
        _ => Err(format!("`{}` cannot be called without a rule around it", func.name)),
    }
}

fn accumulator(func: &Func) -> Result<Box<dyn Accumulator>, String> {
    match func.body {
        Body::Aggregate(start) => Ok(start()),
        Body::GuestAggregate(start) => Ok(start(&Text::default(), 0)),
        _ => Err(format!("`{}` is no aggregate function", func.name)),
    }
}

fn aggregate(func: &Func, rows: &[Vec<Value>], ctx: &Ctx<'_>, saved: bool) -> Result<Came, String> {
    let mut group = accumulator(func)?;
    for row in rows {
        if let Err(fault) = group.add(row, ctx) {
            return Ok(Err(fault));
        }
        if saved {
            let state = group.save();
            group = accumulator(func)?;
            group.load(state).map_err(|fault| format!("its state cannot be loaded: {fault}"))?;
        }
    }
    Ok(group.give())
}

/// One instance of a function that remembers.
enum Instance {
    Scalar(Box<dyn Stateful>),
    Group(Box<dyn Accumulator>),
    Analytic(Box<dyn Analytic>),
    Columns(ChangedCols),
    Hits(Hits),
}

impl Instance {
    fn start(func: &Func) -> Result<Instance, String> {
        let without = || format!("`{}` cannot be called without a rule around it", func.name);
        match func.body {
            Body::Stateful(start) => Ok(Instance::Scalar(start())),
            Body::Aggregate(_) | Body::GuestAggregate(_) => accumulator(func).map(Instance::Group),
            Body::Special(Special::Analytic) => {
                start_analytic(func.name, &[]).map(Instance::Analytic).ok_or_else(without)
            }
            Body::Special(Special::Columns) => Ok(Instance::Columns(ChangedCols::default())),
            Body::Special(Special::Hit) => Ok(Instance::Hits(Hits::default())),
            _ => Err(without()),
        }
    }

    fn step(&mut self, func: &Func, step: &Step, ctx: &Ctx<'_>) -> Came {
        let args = step.args.as_slice();
        match self {
            Instance::Scalar(scalar) => match guarded(func, args) {
                Some(answer) => Ok(answer),
                None => scalar.call(args, ctx),
            },
            Instance::Group(group) => {
                group.add(args, ctx)?;
                group.give()
            }
            Instance::Analytic(state) => state.step(args, step.when == Value::Bool(true), ctx),
            Instance::Columns(state) => {
                let columns = step.columns.iter().flat_map(Object::iter);
                let columns: Vec<(Text, Value)> = columns.map(|(name, value)| (name.clone(), value.clone())).collect();
                let [prefix, ignore_null] = args else {
                    return Err(Fault::eval("a step has a prefix and whether nulls are ignored"));
                };
                state.step(prefix, ignore_null, &columns).map(Value::object)
            }
            Instance::Hits(hits) => {
                let before = hits.read(func.name);
                if step.hit == Some(true) {
                    hits.hit(ctx.now);
                }
                Ok(before)
            }
        }
    }

    fn reload(&mut self, func: &Func) -> Result<(), String> {
        let mut fresh = Instance::start(func)?;
        let loaded = match (&*self, &mut fresh) {
            (Instance::Scalar(old), Instance::Scalar(new)) => new.load(old.save()),
            (Instance::Group(old), Instance::Group(new)) => new.load(old.save()),
            (Instance::Analytic(old), Instance::Analytic(new)) => new.load(old.save()),
            (Instance::Columns(old), Instance::Columns(new)) => new.load(old.save()),
            (Instance::Hits(old), Instance::Hits(new)) => Hits::load(&old.save()).map(|loaded| *new = loaded),
            _ => Ok(()),
        };
        *self = fresh;
        loaded.map_err(|fault| format!("its state cannot be loaded: {fault}"))
    }

    /// What a step may say beside its arguments.
    fn takes(&self, step: &Step) -> Result<(), String> {
        let when = step.when == Value::Bool(true) || matches!(self, Instance::Analytic(_));
        let columns = step.columns.is_some() == matches!(self, Instance::Columns(_));
        let hit = step.hit.is_some() == matches!(self, Instance::Hits(_));
        match (when, columns, hit) {
            (true, true, true) => Ok(()),
            (false, ..) => Err("`when` is for analytic functions".to_string()),
            (_, false, _) => Err("`columns` is for functions that look at several, and those need it".to_string()),
            (.., false) => Err("`hit` is for functions that count hits, and those need it".to_string()),
        }
    }
}

/// What tells partitions apart: an integer and a float of the same number are one, as they are for `PARTITION BY`.
fn partition(key: &Value) -> String {
    show(&key.as_i64().map_or_else(|| key.clone(), Value::Int))
}

fn sequence(check: &Check<'_>, func: &Func, steps: &[Step], roundtrip: bool, reload: bool) -> Result<(), String> {
    let rule = rule(None)?;
    let mut parts: HashMap<String, Instance> = HashMap::new();
    for (n, step) in steps.iter().enumerate() {
        let part = match parts.entry(step.key.as_ref().map(partition).unwrap_or_default()) {
            std::collections::hash_map::Entry::Occupied(part) => part.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => free.insert(Instance::start(func)?),
        };
        part.takes(step).map_err(|why| format!("step {}: {why}", n + 1))?;
        let came = part.step(func, step, &context(&rule, step.at.unwrap_or(NOW)));
        let verdict = if roundtrip {
            check.unpacked(&step.result, came, step.args.get(1), &rule)
        } else {
            check.outcome(&step.result, came)
        };
        verdict.map_err(|why| format!("step {}: {why}", n + 1))?;
        if reload {
            part.reload(func)?;
        }
    }
    Ok(())
}

struct Check<'a> {
    settings: &'a Settings,
    rules: Compare,
}

impl Check<'_> {
    fn outcome(&self, wanted: &Outcome, came: Came) -> Result<(), String> {
        let got = match (wanted, came) {
            (Outcome::Error(text), Err(fault)) => {
                let same = !self.settings.error_text || fault.to_string() == *text;
                return if same { Ok(()) } else { Err(format!("the error `{text}` expected, `{fault}` came out")) };
            }
            (Outcome::Error(text), Ok(got)) => {
                return Err(format!("an error ({text}) expected, {} came out", show(&got)));
            }
            (_, Err(fault)) => return Err(format!("a value expected, the error `{fault}` came out")),
            (_, Ok(got)) => got,
        };
        match wanted {
            Outcome::Value { value, unordered: true } => self.rules.unordered(value, &got),
            Outcome::Value { value, unordered: false } => self.rules.values(value, &got),
            Outcome::OneOf(values) if values.iter().any(|value| self.rules.values(value, &got).is_ok()) => Ok(()),
            Outcome::OneOf(values) => {
                let all: Vec<_> = values.iter().map(show).collect();
                Err(format!("one of {} expected, {} came out", all.join(", "), show(&got)))
            }
            Outcome::TimeFormat(format) if got.as_str().is_some_and(|text| has_format(text, format)) => Ok(()),
            Outcome::TimeFormat(format) => Err(format!("a time as `{format}` expected, {} came out", show(&got))),
            Outcome::Error(_) => Ok(()),
        }
    }

    /// Compares what decompressing both sides gives.
    fn unpacked(&self, wanted: &Outcome, came: Came, method: Option<&Value>, rule: &RuleInfo) -> Result<(), String> {
        let (Outcome::Value { value: Value::Bytes(packed), .. }, Ok(Value::Bytes(got)), Some(method)) =
            (wanted, &came, method)
        else {
            return self.outcome(wanted, came);
        };
        let unpack = |bytes: &Arc<[u8]>| -> Result<Value, String> {
            let args = [Value::Bytes(bytes.clone()), method.clone()];
            call(find("decompress")?, &args, &context(rule, NOW))?.map_err(|fault| fault.to_string())
        };
        self.rules.values(&unpack(packed)?, &unpack(got)?)
    }
}

/// Whether the text has digits where the format has letters, and the same characters everywhere else.
fn has_format(text: &str, format: &str) -> bool {
    text.chars().count() == format.chars().count()
        && text
            .chars()
            .zip(format.chars())
            .all(|(c, f)| if f.is_ascii_alphabetic() { c.is_ascii_digit() } else { c == f })
}
