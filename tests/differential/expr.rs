//! Expressions, by walking the tree for each row: chapters 3 to 5 of the reference.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::tz::TimeZone;
use kuiper::data::{Object, Text, Time, Value};
use kuiper::func::{Body, Ctx, RuleInfo, Special, guarded};
use kuiper::sql::{BinaryOp, Call, Expr, ExprNode, Literal, UnaryOp, Wildcard};

use super::aggregate::aggregate;
use super::query::{Got, Query, Scope, Stop, Tuple, fails};

/// The value of the expression. A column that is not there is NULL.
pub fn eval(expr: &Expr, scope: &Scope<'_>) -> Got<Value> {
    match &expr.node {
        ExprNode::Literal(literal) => Ok(match literal {
            Literal::Int(n) => Value::Int(*n),
            Literal::Float(x) => Value::Float(*x),
            Literal::Text(text) => Value::Text(text.clone()),
            Literal::Bool(yes) => Value::Bool(*yes),
            Literal::Null => Value::Null,
        }),
        ExprNode::Unit(_) => Ok(Value::Null),
        ExprNode::Paren(inner) => eval(inner, scope),
        ExprNode::Name(name) => named(name, scope),
        ExprNode::Dotted(first, second) => match scope.query.source(first) {
            Some(stream) => Ok(qualified(stream, second, scope.tuple).unwrap_or_default().or_null()),
            None => member(&named(first, scope)?, second),
        },
        ExprNode::Wildcard(wildcard) => all_columns(wildcard, scope).map(Value::object),
        ExprNode::Member(of, name) => member(&eval(of, scope)?, &name.name),
        ExprNode::Index(of, at) => index(&eval(of, scope)?, &eval(at, scope)?),
        ExprNode::Slice(of, from, to) => {
            let of = eval(of, scope)?;
            let bound = |bound: &Option<Box<Expr>>| bound.as_ref().map(|bound| eval(bound, scope)).transpose();
            slice(&of, bound(from)?, bound(to)?)
        }
        ExprNode::Unary(UnaryOp::Neg, of) => match eval(of, scope)? {
            Value::Int(n) => Ok(Value::Int(n.wrapping_neg())),
            Value::Float(x) => Ok(Value::Float(-x)),
            Value::Null => Ok(Value::Null),
            other => fails(format!("minus a {}", other.type_name())),
        },
        ExprNode::Unary(UnaryOp::Not, of) => Ok(match condition(&eval(of, scope)?)? {
            Some(yes) => Value::Bool(!yes),
            None => Value::Null,
        }),
        ExprNode::Binary(op, a, b) => binary(*op, a, b, scope),
        ExprNode::Between { expr, low, high, negated } => {
            let (of, low, high) = (eval(expr, scope)?, eval(low, scope)?, eval(high, scope)?);
            if of.is_null() || low.is_null() || high.is_null() {
                return Ok(Value::Bool(false));
            }
            let inside = compared(BinaryOp::GreaterEq, &of, &low)? && compared(BinaryOp::LessEq, &of, &high)?;
            Ok(Value::Bool(inside != *negated))
        }
        ExprNode::InList { expr, list, negated } => {
            let of = eval(expr, scope)?;
            if of.is_null() {
                return Ok(Value::Bool(false));
            }
            for item in list {
                if compared(BinaryOp::Eq, &of, &eval(item, scope)?)? {
                    return Ok(Value::Bool(!negated));
                }
            }
            Ok(Value::Bool(*negated))
        }
        ExprNode::InArray { expr, array, negated } => {
            let of = eval(expr, scope)?;
            if of.is_null() {
                return Ok(Value::Bool(false));
            }
            let items = match eval(array, scope)? {
                Value::Array(items) => items,
                Value::Null => return Ok(Value::Bool(*negated)),
                other => return fails(format!("IN a {}", other.type_name())),
            };
            for item in items.iter() {
                if compared(BinaryOp::Eq, &of, item)? {
                    return Ok(Value::Bool(!negated));
                }
            }
            Ok(Value::Bool(*negated))
        }
        ExprNode::Like { expr, pattern, negated } => {
            let (of, pattern) = (eval(expr, scope)?, eval(pattern, scope)?);
            match (&of, &pattern) {
                (Value::Null, _) | (_, Value::Null) => Ok(Value::Bool(false)),
                (Value::Text(of), Value::Text(pattern)) => {
                    let (of, pattern): (Vec<char>, Vec<char>) = (of.chars().collect(), pattern.chars().collect());
                    Ok(Value::Bool(like(&of, &pattern) != *negated))
                }
                _ => fails(format!("a {} LIKE a {}", of.type_name(), pattern.type_name())),
            }
        }
        ExprNode::IsNull { expr, negated } => Ok(Value::Bool(eval(expr, scope)?.is_null() != *negated)),
        ExprNode::Case { subject, branches, otherwise } => {
            let subject = subject.as_ref().map(|subject| eval(subject, scope)).transpose()?;
            for (when, then) in branches {
                let when = eval(when, scope)?;
                let chosen = match &subject {
                    Some(subject) => compared(BinaryOp::Eq, subject, &when)?,
                    None => when == Value::Bool(true),
                };
                if chosen {
                    return eval(then, scope);
                }
            }
            otherwise.as_ref().map_or(Ok(Value::Null), |otherwise| eval(otherwise, scope))
        }
        ExprNode::Call(of) => call(of, expr, scope),
    }
}

/// Whether a row passes: NULL and false do not, and what is no boolean fails.
pub fn passes(expr: &Expr, scope: &Scope<'_>) -> Got<bool> {
    Ok(condition(&eval(expr, scope)?)?.unwrap_or(false))
}

pub fn condition(value: &Value) -> Got<Option<bool>> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(yes) => Ok(Some(*yes)),
        other => fails(format!("a condition is a {}", other.type_name())),
    }
}

/// A bare name: the alias, except inside its own expression; else the column.
fn named(name: &Text, scope: &Scope<'_>) -> Got<Value> {
    match scope.query.alias(name) {
        Some(of) if scope.within != Some(name) => eval(of, &Scope { within: Some(name), ..*scope }),
        _ => Ok(column(name, scope.tuple).unwrap_or_default().or_null()),
    }
}

/// A column of the first row of the tuple that has it.
pub fn column(name: &str, tuple: &Tuple) -> Option<Value> {
    tuple.iter().find_map(|row| row.data.get(name).cloned())
}

pub fn qualified(stream: &str, name: &str, tuple: &Tuple) -> Option<Value> {
    let mut rows = tuple.iter().filter(|row| row.stream == stream);
    rows.find_map(|row| row.data.get(name).cloned())
}

/// `*`: the columns of all rows of the tuple; of a name that several have, that of the first.
pub fn all_columns(wildcard: &Wildcard, scope: &Scope<'_>) -> Got<Object> {
    let of = wildcard.of.as_ref().and_then(|qualifier| scope.query.source(qualifier));
    let mut all = Object::new();
    for row in scope.tuple.iter().filter(|row| of.is_none_or(|stream| row.stream == *stream)) {
        for (name, value) in row.data.iter().filter(|(name, _)| !wildcard.except.iter().any(|gone| gone.name == **name))
        {
            if !all.contains(name) {
                all.insert(name.clone(), value.clone());
            }
        }
    }
    for field in &wildcard.replace {
        let name = &field.alias.as_ref().ok_or(Stop::Open("a nameless REPLACE".into()))?.name;
        let value = eval(&field.expr, &Scope { within: Some(name), ..*scope })?;
        if !value.is_null() || scope.query.send_nil {
            all.insert(name.clone(), value);
        }
    }
    Ok(all)
}

fn member(of: &Value, name: &str) -> Got<Value> {
    match of {
        Value::Object(object) => Ok(object.get(name).cloned().unwrap_or_default().or_null()),
        Value::Array(_) => fails("a member of an array"),
        _ => Ok(Value::Null),
    }
}

/// A place in an array of so many items, negative ones counted from the end.
fn place(at: &Value, items: usize) -> Got<i64> {
    let at = match at {
        Value::Int(n) => *n,
        Value::Float(x) => x.trunc() as i64,
        other => return fails(format!("an index is a {}", other.type_name())),
    };
    Ok(if at < 0 { at + items as i64 } else { at })
}

fn index(of: &Value, at: &Value) -> Got<Value> {
    match of {
        Value::Null => Ok(Value::Null),
        Value::Array(items) => {
            let at = place(at, items.len())?;
            let item = usize::try_from(at).ok().and_then(|at| items.get(at));
            item.map_or_else(|| fails("an index out of range"), |item| Ok(item.or_null()))
        }
        other => fails(format!("an item of a {}", other.type_name())),
    }
}

fn slice(of: &Value, from: Option<Value>, to: Option<Value>) -> Got<Value> {
    let items = match of {
        Value::Null => return Ok(Value::Null),
        Value::Array(items) => items,
        other => return fails(format!("a slice of a {}", other.type_name())),
    };
    let length = items.len();
    let from = from.map_or(Ok(0), |from| place(&from, length))?;
    let to = to.map_or(Ok(length as i64), |to| place(&to, length))?;
    if from < 0 || from >= length as i64 || to > length as i64 || from > to {
        return fails("a slice out of range");
    }
    Ok(Value::array(items[from as usize..to as usize].to_vec()))
}

fn binary(op: BinaryOp, a: &Expr, b: &Expr, scope: &Scope<'_>) -> Got<Value> {
    use BinaryOp::{Add, And, BitAnd, BitOr, BitXor, Div, Mul, Or, Rem, Sub};
    let left = eval(a, scope)?;
    if matches!(op, And | Or) {
        let left = condition(&left)?;
        if left == Some(op == Or) {
            return Ok(Value::Bool(op == Or));
        }
        let right = condition(&eval(b, scope)?)?;
        return Ok(Value::Bool(match (left, right) {
            (Some(_), Some(right)) => right,
            _ => false,
        }));
    }
    let right = eval(b, scope)?;
    match op {
        Add | Sub | Mul | Div | Rem => arithmetic(op, &left, &right),
        BitAnd | BitOr | BitXor => match (&left, &right) {
            (Value::Int(x), Value::Int(y)) => Ok(Value::Int(match op {
                BitAnd => x & y,
                BitOr => x | y,
                _ => x ^ y,
            })),
            (Value::Bool(x), Value::Bool(y)) => Ok(Value::Bool(match op {
                BitAnd => *x && *y,
                BitOr => *x || *y,
                _ => x != y,
            })),
            _ if left.is_null() || right.is_null() => Ok(Value::Bool(false)),
            _ => fails("bits of what has none"),
        },
        _ => compared(op, &left, &right).map(Value::Bool),
    }
}

fn arithmetic(op: BinaryOp, a: &Value, b: &Value) -> Got<Value> {
    if let (Value::Int(x), Value::Int(y)) = (a, b) {
        // Wide enough for every result, which is then cut to 64 bits.
        let (x, y) = (i128::from(*x), i128::from(*y));
        return match op {
            BinaryOp::Add => Ok(Value::Int((x + y) as i64)),
            BinaryOp::Sub => Ok(Value::Int((x - y) as i64)),
            BinaryOp::Mul => Ok(Value::Int((x * y) as i64)),
            _ if y == 0 => fails("division by zero"),
            BinaryOp::Div => Ok(Value::Int((x / y) as i64)),
            _ => Ok(Value::Int((x % y) as i64)),
        };
    }
    if a.is_null() || b.is_null() {
        return Ok(Value::Null);
    }
    let (Some(x), Some(y)) = (a.as_f64(), b.as_f64()) else {
        return fails(format!("{} {} {}", a.type_name(), op.symbol(), b.type_name()));
    };
    match op {
        BinaryOp::Add => Ok(Value::Float(x + y)),
        BinaryOp::Sub => Ok(Value::Float(x - y)),
        BinaryOp::Mul => Ok(Value::Float(x * y)),
        _ if y == 0.0 => fails("division by zero"),
        BinaryOp::Div => Ok(Value::Float(x / y)),
        _ => Ok(Value::Float(x % y)),
    }
}

/// A comparison: false where either side is NULL, a failure where the kinds do not fit.
pub fn compared(op: BinaryOp, a: &Value, b: &Value) -> Got<bool> {
    if a.is_null() || b.is_null() {
        return Ok(false);
    }
    if let (Value::Bool(x), Value::Bool(y)) = (a, b) {
        return match op {
            BinaryOp::Eq => Ok(x == y),
            BinaryOp::NotEq => Ok(x != y),
            _ => fails("the order of booleans"),
        };
    }
    let order = order(a, b)?;
    Ok(match op {
        BinaryOp::Eq => order == Ordering::Equal,
        BinaryOp::NotEq => order != Ordering::Equal,
        BinaryOp::Less => order == Ordering::Less,
        BinaryOp::LessEq => order != Ordering::Greater,
        BinaryOp::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// Numbers by value, texts by their bytes.
pub fn order(a: &Value, b: &Value) -> Got<Ordering> {
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => Ok(x.cmp(y)),
        (Value::Text(x), Value::Text(y)) => Ok(x.as_bytes().cmp(y.as_bytes())),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) => x.partial_cmp(&y).ok_or(Stop::Open("a NaN is compared".into())),
            _ => fails(format!("a {} beside a {}", a.type_name(), b.type_name())),
        },
    }
}

/// `%` is any run, `_` one character, a backslash takes the next one as it is.
fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|n| like(&text[n..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        ['\\', wanted, rest @ ..] | [wanted, rest @ ..] => text.first() == Some(wanted) && like(&text[1..], rest),
    }
}

fn call(call: &Call, expr: &Expr, scope: &Scope<'_>) -> Got<Value> {
    let query = scope.query;
    let func = query.func(call);
    match func.body {
        Body::Scalar(body) => {
            let args: Vec<Value> = call.args.iter().map(|arg| eval(arg, scope)).collect::<Got<_>>()?;
            if let Some(answer) = guarded(func, &args) {
                return Ok(answer);
            }
            let rule = rule(query);
            let now = Time(query.start);
            let ctx = Ctx { now, row_time: None, rule: &rule };
            body(&args, &ctx).map_err(|fault| Stop::Fails(fault.to_string()))
        }
        Body::Aggregate(_) => aggregate(call, scope),
        Body::Special(Special::Analytic) => {
            match scope.tuple.iter().find_map(|row| row.looked.borrow().get(&expr.span.start).cloned()) {
                Some(value) => Ok(value),
                // The row of an empty window never arrived.
                None if scope.tuple.is_empty() => Ok(Value::Null),
                None => Err(Stop::Open(format!("`{}` is read before it is known", func.name))),
            }
        }
        Body::Special(Special::WindowBound) => {
            let bound = |(start, end): (i64, i64)| if func.name == "window_start" { start } else { end };
            Ok(scope.bounds.map_or(Value::Null, |bounds| Value::Int(bound(bounds))))
        }
        Body::Special(Special::EventTime) => Ok(match (scope.tuple.as_slice(), scope.bounds) {
            ([row], _) if !scope.aggregated => Value::Int(query.start + row.time),
            (_, Some((_, end))) => Value::Int(end),
            ([row], None) => Value::Int(query.start + row.time),
            _ => return Err(Stop::Open("the time of a joined row without a window".into())),
        }),
        Body::Special(Special::RowNumber) => {
            Ok(Value::Int(scope.numbers.and_then(|numbers| numbers.get(&expr.span.start).copied()).unwrap_or(1)))
        }
        _ => Err(Stop::Open(format!("`{}` is not evaluated here", func.name))),
    }
}

pub fn rule(query: &Query) -> RuleInfo {
    let props = Arc::new(Object::new());
    RuleInfo { id: "case".into(), started: Time(query.start), zone: TimeZone::UTC, props, ..RuleInfo::nowhere() }
}
