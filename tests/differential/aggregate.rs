//! Aggregates over a list of rows, by definition.

use std::cmp::Ordering;

use kuiper::data::{Time, Value};
use kuiper::func::{Body, Ctx};
use kuiper::sql::{BinaryOp, Call, Expr, ExprNode, Literal};

use super::expr::{compared, eval, order, rule};
use super::query::{Got, Scope, Stop, Tuple, fails};

pub fn aggregate(call: &Call, scope: &Scope<'_>) -> Got<Value> {
    let alone = [scope.tuple.clone()];
    let rows: &[Tuple] = scope.group.unwrap_or(&alone);
    let mut values = Vec::new();
    for tuple in rows {
        let scope = Scope { tuple, group: None, aggregated: false, ..*scope };
        let args: Vec<Value> = call.args.iter().map(|arg| eval(arg, &scope)).collect::<Got<_>>()?;
        values.push(args);
    }
    if call.distinct {
        let mut different: Vec<Vec<Value>> = Vec::new();
        for args in values {
            let known = |other: &Vec<Value>| {
                (args[0].is_null() && other[0].is_null())
                    || compared(BinaryOp::Eq, &args[0], &other[0]).unwrap_or(false)
            };
            if !different.iter().any(known) {
                different.push(args);
            }
        }
        values = different;
    }
    let firsts = || values.iter().map(|args| &args[0]).filter(|value| !value.is_null());
    match scope.query.func(call).name {
        _ if values.is_empty() => Ok(Value::Null),
        "count" => Ok(Value::Int(firsts().count() as i64)),
        "collect" => Ok(Value::array(values.iter().map(|args| args[0].clone()).collect())),
        "sum" => Ok(total(firsts())?.unwrap_or(Value::Null)),
        "avg" => Ok(match (total(firsts())?, firsts().count() as i64) {
            (Some(Value::Int(sum)), count) if sum % count == 0 => Value::Int(sum / count),
            (Some(sum), count) => Value::Float(sum.as_f64().unwrap_or_default() / count as f64),
            (None, _) => Value::Null,
        }),
        "min" => extreme(firsts(), Ordering::Less),
        "max" => extreme(firsts(), Ordering::Greater),
        "last_value" => {
            let skip = matches!(&call.args[1].bare().node, ExprNode::Literal(Literal::Bool(true)));
            let mut kept = values.iter().map(|args| &args[0]).filter(|value| !(skip && value.is_null()));
            Ok(kept.next_back().cloned().unwrap_or(Value::Null))
        }
        _ => shared(call, &values, scope),
    }
}

/// Of integers an integer as long as it fits.
fn total<'a>(values: impl Iterator<Item = &'a Value>) -> Got<Option<Value>> {
    let (mut whole, mut broken, mut any, mut float) = (0i128, 0.0, false, false);
    for value in values {
        any = true;
        match value {
            Value::Int(n) => whole += i128::from(*n),
            Value::Float(x) => {
                float = true;
                broken += x;
            }
            other => return fails(format!("the sum of a {}", other.type_name())),
        }
    }
    if float {
        return Ok(Some(Value::Float(whole as f64 + broken)));
    }
    let total = i64::try_from(whole).map_or(Value::Float(whole as f64), Value::Int);
    Ok(any.then_some(total))
}

/// The first of those that no other is beyond.
fn extreme<'a>(values: impl Iterator<Item = &'a Value>, wanted: Ordering) -> Got<Value> {
    let mut best: Option<&Value> = None;
    for value in values {
        if !matches!(value, Value::Int(_) | Value::Float(_) | Value::Text(_)) {
            return fails(format!("the order of a {}", value.type_name()));
        }
        let beyond = match best {
            None => true,
            Some(best) => order(value, best)? == wanted,
        };
        if beyond {
            best = Some(value);
        }
    }
    Ok(best.cloned().unwrap_or(Value::Null))
}

/// The rest is as the function table says; what is tested is which rows it gets.
fn shared(call: &Call, values: &[Vec<Value>], scope: &Scope<'_>) -> Got<Value> {
    let func = scope.query.func(call);
    let Body::Aggregate(start) = func.body else { return Err(Stop::Open(format!("`{}`", func.name))) };
    let (mut all, rule) = (start(), rule(scope.query));
    let ctx = Ctx { now: Time(scope.query.start), row_time: None, rule: &rule };
    for args in values {
        all.add(args, &ctx).map_err(|fault| Stop::Fails(fault.to_string()))?;
    }
    all.give().map_err(|fault| Stop::Fails(fault.to_string()))
}

/// All aggregates of a group are computed, also where no one comes to read them: in a branch of CASE that is not taken,
/// in a row that HAVING or LIMIT takes out. One that fails fails the window.
pub fn try_all(expr: &Expr, scope: &Scope<'_>) -> Got<()> {
    if let ExprNode::Call(call) = &expr.node
        && scope.query.is_aggregate(call)
    {
        return aggregate(call, scope).map(drop);
    }
    let mut parts = Vec::new();
    expr.parts(&mut |part| parts.push(part));
    parts.into_iter().try_for_each(|part| try_all(part, scope))
}
