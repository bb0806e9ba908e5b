//! Analytic functions, from the list of all rows that a call saw before: chapter 12 of the reference.

use std::collections::HashMap;
use std::rc::Rc;

use kuiper::data::{Text, Value};
use kuiper::sql::{Call, Expr, ExprNode, Select};

use super::expr::{eval, passes};
use super::query::{Got, Query, Row, Scope, Stop, Tuple, fails};

/// One row, as a call saw it.
struct Seen {
    part: Vec<Value>,
    args: Vec<Value>,
    /// The outcome of OVER (WHEN …).
    when: bool,
}

/// What all calls of the statement have seen, by their place.
#[derive(Default)]
pub struct History(HashMap<u32, Vec<Seen>>);

/// The analytic calls of the statement in the order in which they are made: fields first, inner calls before outer.
pub fn calls(query: &Query) -> Vec<(u32, &Call, Option<&str>)> {
    let mut found = Vec::new();
    for (expr, within) in expressions(&query.select) {
        find(query, expr, within, &mut found);
    }
    found
}

/// All expressions of the statement, each with the alias that it is the expression of.
pub fn expressions(select: &Select) -> Vec<(&Expr, Option<&str>)> {
    let mut all: Vec<(&Expr, Option<&str>)> = Vec::new();
    for field in &select.fields {
        all.push((&field.expr, field.alias.as_ref().map(|alias| alias.name.as_str())));
    }
    let windows = select.windows.iter();
    let window = windows.flat_map(|of| of.args.iter().chain(&of.filter).chain(&of.when).chain(&of.partition));
    let joins = select.joins.iter().filter_map(|join| join.on.as_ref());
    let rest = joins.chain(&select.filter).chain(window).chain(&select.group).chain(&select.having);
    all.extend(rest.chain(select.order.iter().map(|sort| &sort.expr)).map(|expr| (expr, None)));
    all
}

fn find<'a>(query: &Query, expr: &'a Expr, within: Option<&'a str>, found: &mut Vec<(u32, &'a Call, Option<&'a str>)>) {
    expr.parts(&mut |part| find(query, part, within, found));
    if let ExprNode::Call(call) = &expr.node
        && query.is_analytic(call)
    {
        found.push((expr.span.start, call, within));
    }
}

impl History {
    /// Shows a row to all calls; their values are written into it. Aliases may read calls that stand later, so a call
    /// is made when all that it reads is there.
    ///
    /// # Errors
    /// A call fails. Which of several calls were made before is not defined, and so is not what they remember.
    pub fn show(&mut self, query: &Query, row: &Rc<Row>) -> Got<()> {
        let tuple: Tuple = vec![row.clone()];
        let mut waiting = calls(query);
        let alone = waiting.len() == 1;
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|(place, call, within)| {
                let mut needs = Vec::new();
                let over = call.over.iter().flat_map(|over| over.partition.iter().chain(&over.when));
                call.args.iter().chain(over).for_each(|arg| reads(query, arg, *within, &mut needs));
                !waiting.iter().any(|(other, ..)| other != place && needs.contains(other))
            });
            let (place, call, within) = waiting.remove(ready.unwrap_or(0));
            let value = self.look(query, place, call, within, &tuple);
            let value = value.map_err(|stop| match stop {
                Stop::Fails(why) if !alone => Stop::Open(why),
                stop => stop,
            })?;
            row.looked.borrow_mut().insert(place, value);
        }
        Ok(())
    }

    fn look(&mut self, query: &Query, place: u32, call: &Call, within: Option<&str>, tuple: &Tuple) -> Got<Value> {
        let scope = Scope { query, tuple, group: None, bounds: None, numbers: None, within, aggregated: false };
        let args: Vec<Value> = call.args.iter().map(|arg| eval(arg, &scope)).collect::<Got<_>>()?;
        let (mut part, mut when) = (Vec::new(), true);
        if let Some(over) = &call.over {
            for key in &over.partition {
                part.push(eval(key, &scope)?);
            }
            if let Some(condition) = &over.when {
                when = passes(condition, &scope)?;
            }
        }
        let seen = self.0.entry(place).or_default();
        let before: Vec<&Seen> = seen.iter().filter(|seen| same_part(&seen.part, &part)).collect();
        let value = value(query.func(call).name, &before, &args, when)?;
        seen.push(Seen { part, args, when });
        Ok(value)
    }
}

/// The places of the analytic calls that an expression reads, through aliases too.
fn reads(query: &Query, expr: &Expr, within: Option<&str>, found: &mut Vec<u32>) {
    match &expr.node {
        ExprNode::Call(call) if query.is_analytic(call) => found.push(expr.span.start),
        ExprNode::Name(name) | ExprNode::Dotted(name, _) if within != Some(name) => {
            if let Some((name, of)) = query.aliases.iter().find(|(alias, _)| alias == name) {
                reads(query, of, Some(name), found);
            }
        }
        _ => {}
    }
    expr.parts(&mut |part| reads(query, part, within, found));
}

/// Parts are the same when their keys are equal, and NULL is a part of its own.
fn same_part(a: &[Value], b: &[Value]) -> bool {
    let number = |value: &Value| value.as_f64();
    a.iter().zip(b).all(|(a, b)| a == b || (number(a).is_some() && number(a) == number(b)))
}

/// A value as a key: its printed form; NULL is a key of its own.
pub fn printed(value: &Value) -> Text {
    if value.is_null() { "<nil>".into() } else { value.print() }
}

/// The result for a row, from those before it in its part.
fn value(name: &str, before: &[&Seen], args: &[Value], when: bool) -> Got<Value> {
    let counted = || before.iter().filter(|seen| seen.when);
    match name {
        "lag" => {
            let back = match args.get(1) {
                None => 1,
                Some(Value::Int(n)) if *n > 0 => *n as usize,
                Some(other) => return Err(Stop::Open(format!("lag by {other:?}"))),
            };
            let skip = args.get(3) != Some(&Value::Bool(false));
            // The default is the one of the first row.
            let first = before.first().map_or(args, |seen| &seen.args);
            let default = first.get(2).cloned().unwrap_or(Value::Null);
            let values: Vec<&Value> =
                counted().map(|seen| &seen.args[0]).filter(|value| !(skip && value.is_null())).collect();
            Ok(values.len().checked_sub(back).map_or(default, |at| values[at].clone()))
        }
        "latest" => {
            let now = Some(&args[0]).filter(|_| when);
            let mut all = counted().map(|seen| &seen.args[0]).chain(now).filter(|value| !value.is_null());
            Ok(all.next_back().or(args.get(1)).cloned().unwrap_or(Value::Null))
        }
        "changed_col" => {
            let changed = when && changed(before, args, 1)?;
            Ok(if changed { args[1].clone() } else { Value::Null })
        }
        "had_changed" => {
            let mut any = false;
            for n in 1..args.len() {
                any |= changed(before, args, n)?;
            }
            Ok(Value::Bool(when && any))
        }
        "acc_count" => {
            let now = Some(&args[0]).filter(|_| when);
            let all = counted().map(|seen| &seen.args[0]).chain(now).filter(|value| !value.is_null());
            Ok(Value::Int(all.count() as i64))
        }
        "acc_sum" | "acc_avg" | "acc_max" | "acc_min" => {
            let mut all = Vec::new();
            for value in counted().map(|seen| &seen.args[0]).chain(Some(&args[0]).filter(|_| when)) {
                match value {
                    Value::Null => {}
                    Value::Int(_) | Value::Float(_) => all.push(value.as_f64().unwrap_or_default()),
                    other => return fails(format!("{name} of a {}", other.type_name())),
                }
            }
            let sum: f64 = all.iter().sum();
            Ok(Value::Float(match name {
                _ if all.is_empty() => 0.0,
                "acc_sum" => sum,
                "acc_avg" => sum / all.len() as f64,
                "acc_max" => all.iter().copied().fold(f64::MIN, f64::max),
                _ => all.iter().copied().fold(f64::MAX, f64::min),
            }))
        }
        other => Err(Stop::Open(format!("`{other}` is not evaluated here"))),
    }
}

/// Whether an argument differs, in type or value, from the last one that counted; NULL before any.
fn changed(before: &[&Seen], args: &[Value], n: usize) -> Got<bool> {
    let Value::Bool(skip) = args[0] else { return fails("the first argument must be true or false") };
    let counts = |value: &&Value| !(skip && value.is_null());
    let mut seen = before.iter().filter(|seen| seen.when).map(|seen| &seen.args[n]);
    let last = seen.rfind(counts).cloned().unwrap_or(Value::Null);
    Ok(counts(&&args[n]) && args[n] != last)
}
