//! Conditions, compiled: what can be true, false or null, without a value in between.

use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::func::Stateful;
use crate::sql::{BinaryOp, UnaryOp};

use super::bound::Bound;
use super::compile::{Eval, Frame, Operand, States, value};
use super::ops::{self, LikePattern};

pub(super) type Test = Box<dyn Fn(&Frame<'_>, &States) -> Result<Truth> + Send>;

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
pub(super) fn test(bound: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Test {
    match bound {
        Bound::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => logic(*op, test(a, states), test(b, states)),
        Bound::Binary(op, a, b) if is_condition(bound) => comparison(*op, a, b, states),
        Bound::Unary(UnaryOp::Not, of) => {
            let of = test(of, states);
            Box::new(move |frame, states| {
                Ok(match of(frame, states)? {
                    Truth::True => Truth::False,
                    Truth::False => Truth::True,
                    Truth::Null => Truth::Null,
                })
            })
        }
        Bound::Between { of, low, high, negated } => {
            let (of, low, high) = (Operand::new(of, states), Operand::new(low, states), Operand::new(high, states));
            let negated = *negated;
            Box::new(move |frame, states| {
                of.with(frame, states, |of| {
                    low.with(frame, states, |low| {
                        high.with(frame, states, |high| ops::between(of, low, high, negated, frame).map(Truth::of))
                    })
                })
            })
        }
        Bound::InList { of, list, negated } => {
            let (of, negated) = (Operand::new(of, states), *negated);
            let list: Vec<Operand> = list.iter().map(|item| Operand::new(item, states)).collect();
            Box::new(move |frame, states| {
                of.with(frame, states, |of| {
                    if of.is_null() {
                        return Ok(Truth::False);
                    }
                    for item in &list {
                        if item.with(frame, states, |item| ops::equal(of, item, frame))? {
                            return Ok(Truth::of(!negated));
                        }
                    }
                    Ok(Truth::of(negated))
                })
            })
        }
        Bound::InArray { of, array, negated } => {
            let (of, array, negated) = (Operand::new(of, states), Operand::new(array, states), *negated);
            Box::new(move |frame, states| {
                of.with(frame, states, |of| {
                    if of.is_null() {
                        return Ok(Truth::False);
                    }
                    array.with(frame, states, |array| in_array(of, array, negated, frame))
                })
            })
        }
        Bound::Like { of, pattern, negated } => like(of, pattern, *negated, states),
        Bound::IsNull { of, negated } => {
            let (of, negated) = (Operand::new(of, states), *negated);
            Box::new(move |frame, states| of.with(frame, states, |of| Ok(Truth::of(of.is_null() != negated))))
        }
        other => {
            let eval = Operand::new(other, states);
            Box::new(move |frame, states| {
                eval.with(frame, states, |value| {
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
fn branch(bound: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Test {
    if is_condition(bound) {
        return test(bound, states);
    }
    let eval = Operand::new(bound, states);
    Box::new(move |frame, states| eval.with(frame, states, |value| Ok(Truth::read(value).unwrap_or(Truth::Null))))
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
    Box::new(move |frame, states| {
        let left = a(frame, states)?;
        if left == decides {
            return Ok(left);
        }
        let right = b(frame, states)?;
        Ok(match (left, right) {
            (Truth::Null, _) | (_, Truth::Null) => Truth::False,
            (_, right) => right,
        })
    })
}

fn comparison(op: BinaryOp, a: &Bound, b: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Test {
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
    let (a, b) = (Operand::new(a, states), Operand::new(b, states));
    Box::new(move |frame, states| {
        a.with(frame, states, |a| b.with(frame, states, |b| ops::comparison(op, a, b, frame).map(Truth::of)))
    })
}

fn like(of: &Bound, pattern: &Bound, negated: bool, states: &mut Vec<Box<dyn Stateful>>) -> Test {
    let matched = move |of: &Value, pattern: &LikePattern| match of {
        Value::Text(text) => Ok(Truth::of(pattern.matches(text) != negated)),
        other if other.is_null() => Ok(Truth::False),
        other => Err(no_text("left", other)),
    };
    let of = Operand::new(of, states);
    if let Bound::Const(Value::Text(text)) = pattern {
        let pattern = LikePattern::new(text);
        return Box::new(move |frame, states| of.with(frame, states, |of| matched(of, &pattern)));
    }
    let pattern = Operand::new(pattern, states);
    Box::new(move |frame, states| {
        of.with(frame, states, |of| {
            pattern.with(frame, states, |pattern| match pattern {
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
    states: &mut Vec<Box<dyn Stateful>>,
) -> Eval {
    let otherwise = otherwise.map(|otherwise| value(otherwise, states));
    let last = move |frame: &Frame<'_>, states: &States| match &otherwise {
        Some(eval) => eval(frame, states),
        None => Ok(Value::Null),
    };
    let Some(subject) = subject else {
        let branches: Vec<(Test, Eval)> =
            branches.iter().map(|(when, then)| (branch(when, states), value(then, states))).collect();
        return Box::new(move |frame, states| {
            for (when, then) in &branches {
                if when(frame, states)? == Truth::True {
                    return then(frame, states);
                }
            }
            last(frame, states)
        });
    };
    let subject = Operand::new(subject, states);
    let branches: Vec<(Operand, Eval)> =
        branches.iter().map(|(when, then)| (Operand::new(when, states), value(then, states))).collect();
    Box::new(move |frame, states| {
        subject.with(frame, states, |subject| {
            for (when, then) in &branches {
                if when.with(frame, states, |when| ops::equal(subject, when, frame))? {
                    return then(frame, states);
                }
            }
            last(frame, states)
        })
    })
}
