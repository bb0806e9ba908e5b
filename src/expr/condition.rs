//! Conditions, compiled: what can be true, false or null, without a value in between.

use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::sql::{BinaryOp, UnaryOp};

use super::bound::Bound;
use super::compile::{Env, Eval, Frame, Making, Operand, value};
use super::ops::{self, LikePattern};

pub(super) type Test = Box<dyn Fn(&Frame<'_>, &Env) -> Result<Truth> + Send>;

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Null,
}

impl Truth {
    pub fn of(yes: bool) -> Truth {
        if yes { Truth::True } else { Truth::False }
    }

    fn read(value: &Value) -> Option<Truth> {
        match value {
            Value::Bool(yes) => Some(Truth::of(*yes)),
            other => other.is_null().then_some(Truth::Null),
        }
    }
}

/// Whether the expression can give nothing but true, false and null.
pub(super) fn is_condition(bound: &Bound) -> bool {
    use BinaryOp::{And, Eq, Greater, GreaterEq, Less, LessEq, NotEq, Or};
    matches!(
        bound,
        Bound::Binary(And | Or | Eq | NotEq | Less | LessEq | Greater | GreaterEq, ..)
            | Bound::Unary(UnaryOp::Not, _)
            | Bound::Between { .. }
            | Bound::InList { .. }
            | Bound::InArray { .. }
            | Bound::Like { .. }
            | Bound::IsNull { .. }
    )
}

/// Compiles to a condition.
pub(super) fn test(bound: &Bound, making: &mut Making) -> Test {
    match bound {
        Bound::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => logic(*op, test(a, making), test(b, making)),
        Bound::Binary(op, a, b) if is_condition(bound) => comparison(*op, a, b, making),
        Bound::Unary(UnaryOp::Not, of) => {
            let of = test(of, making);
            Box::new(move |frame, env| {
                Ok(match of(frame, env)? {
                    Truth::True => Truth::False,
                    Truth::False => Truth::True,
                    Truth::Null => Truth::Null,
                })
            })
        }
        Bound::Between { of, low, high, negated } => {
            let (of, low, high) = (Operand::new(of, making), Operand::new(low, making), Operand::new(high, making));
            let negated = *negated;
            Box::new(move |frame, env| {
                of.with(frame, env, |of| {
                    low.with(frame, env, |low| {
                        high.with(frame, env, |high| ops::between(of, low, high, negated, frame).map(Truth::of))
                    })
                })
            })
        }
        Bound::InList { of, list, negated } => {
            let (of, negated) = (Operand::new(of, making), *negated);
            let list: Vec<Operand> = list.iter().map(|item| Operand::new(item, making)).collect();
            Box::new(move |frame, env| {
                of.with(frame, env, |of| {
                    if of.is_null() {
                        return Ok(Truth::False);
                    }
                    for item in &list {
                        if item.with(frame, env, |item| ops::equal(of, item, frame))? {
                            return Ok(Truth::of(!negated));
                        }
                    }
                    Ok(Truth::of(negated))
                })
            })
        }
        Bound::InArray { of, array, negated } => {
            let (of, array, negated) = (Operand::new(of, making), Operand::new(array, making), *negated);
            Box::new(move |frame, env| {
                of.with(frame, env, |of| {
                    if of.is_null() {
                        return Ok(Truth::False);
                    }
                    array.with(frame, env, |array| in_array(of, array, negated, frame))
                })
            })
        }
        Bound::Like { of, pattern, negated } => like(of, pattern, *negated, making),
        Bound::IsNull { of, negated } => {
            let (of, negated) = (Operand::new(of, making), *negated);
            Box::new(move |frame, env| of.with(frame, env, |of| Ok(Truth::of(of.is_null() != negated))))
        }
        other => {
            let eval = Operand::new(other, making);
            Box::new(move |frame, env| {
                eval.with(frame, env, |value| {
                    Truth::read(value).ok_or_else(|| {
                        let shown = format!("{}({})", value.type_name(), value.print());
                        Fault::eval(format!("a condition must be true or false, but it is {shown}"))
                    })
                })
            })
        }
    }
}

/// The condition of a branch of CASE: what is neither true nor false is passed over, not an error.
fn branch(bound: &Bound, making: &mut Making) -> Test {
    if is_condition(bound) {
        return test(bound, making);
    }
    let eval = Operand::new(bound, making);
    Box::new(move |frame, env| eval.with(frame, env, |value| Ok(Truth::read(value).unwrap_or(Truth::Null))))
}

fn in_array(of: &Value, array: &Value, negated: bool, frame: &Frame<'_>) -> Result<Truth> {
    match array {
        Value::Array(items) => {
            for item in items.iter() {
                if ops::equal(of, item, frame)? {
                    return Ok(Truth::of(!negated));
                }
            }
            Ok(Truth::of(negated))
        }
        other if other.is_null() => Ok(Truth::of(negated)),
        other => {
            let shown = format!("{}({})", other.type_name(), other.print());
            Err(Fault::eval(format!("IN needs an array, but the value is {shown}")))
        }
    }
}

/// The left side decides alone when it can: `false AND x`, `true OR x`.
fn logic(op: BinaryOp, a: Test, b: Test) -> Test {
    let decides = if op == BinaryOp::And { Truth::False } else { Truth::True };
    Box::new(move |frame, env| {
        let left = a(frame, env)?;
        if left == decides {
            return Ok(left);
        }
        let right = b(frame, env)?;
        Ok(match (left, right) {
            (Truth::Null, _) | (_, Truth::Null) => Truth::False,
            (_, right) => right,
        })
    })
}

fn comparison(op: BinaryOp, a: &Bound, b: &Bound, making: &mut Making) -> Test {
    if let (Bound::Slot(slot, _), Bound::Const(constant)) = (a, b)
        && let Some(limit) = constant.as_f64()
        && (matches!(constant, Value::Float(_)) || limit.abs() < 9e15)
    {
        // The shape of most filters: a float column against a number.
        let (slot, constant) = (*slot, constant.clone());
        return Box::new(move |frame, _| match &frame.row[slot] {
            Value::Float(x) => Ok(Truth::of(ops::holds(op, x.partial_cmp(&limit)))),
            other => ops::comparison(op, other, &constant, frame).map(Truth::of),
        });
    }
    let (a, b) = (Operand::new(a, making), Operand::new(b, making));
    Box::new(move |frame, env| {
        a.with(frame, env, |a| b.with(frame, env, |b| ops::comparison(op, a, b, frame).map(Truth::of)))
    })
}

fn like(of: &Bound, pattern: &Bound, negated: bool, making: &mut Making) -> Test {
    let matched = move |of: &Value, pattern: &LikePattern| match of {
        Value::Text(text) => Ok(Truth::of(pattern.matches(text) != negated)),
        other if other.is_null() => Ok(Truth::False),
        other => Err(no_text("left", other)),
    };
    let of = Operand::new(of, making);
    if let Bound::Const(Value::Text(text)) = pattern {
        let pattern = LikePattern::new(text);
        return Box::new(move |frame, env| of.with(frame, env, |of| matched(of, &pattern)));
    }
    let pattern = Operand::new(pattern, making);
    Box::new(move |frame, env| {
        of.with(frame, env, |of| {
            pattern.with(frame, env, |pattern| match pattern {
                Value::Text(text) => matched(of, &LikePattern::new(text)),
                other if of.is_null() || other.is_null() => Ok(Truth::False),
                other => Err(no_text("right", other)),
            })
        })
    })
}

fn no_text(side: &str, value: &Value) -> Fault {
    Fault::eval(format!("LIKE needs text on its {side}, but the value is {}({})", value.type_name(), value.print()))
}

/// Compiles CASE, whose branches are conditions or, with a subject, values that it is compared with.
pub(super) fn case(
    subject: Option<&Bound>,
    branches: &[(Bound, Bound)],
    otherwise: Option<&Bound>,
    making: &mut Making,
) -> Eval {
    let otherwise = otherwise.map(|otherwise| value(otherwise, making));
    let last = move |frame: &Frame<'_>, env: &Env| match &otherwise {
        Some(eval) => eval(frame, env),
        None => Ok(Value::Null),
    };
    let Some(subject) = subject else {
        let branches: Vec<(Test, Eval)> =
            branches.iter().map(|(when, then)| (branch(when, making), value(then, making))).collect();
        return Box::new(move |frame, env| {
            for (when, then) in &branches {
                if when(frame, env)? == Truth::True {
                    return then(frame, env);
                }
            }
            last(frame, env)
        });
    };
    let subject = Operand::new(subject, making);
    let branches: Vec<(Operand, Eval)> =
        branches.iter().map(|(when, then)| (Operand::new(when, making), value(then, making))).collect();
    Box::new(move |frame, env| {
        subject.with(frame, env, |subject| {
            for (when, then) in &branches {
                if when.with(frame, env, |when| ops::equal(subject, when, frame))? {
                    return then(frame, env);
                }
            }
            last(frame, env)
        })
    })
}
