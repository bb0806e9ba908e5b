use std::cell::RefCell;

use crate::data::{Meta, Object, Text, Time, Value};
use crate::diag::{Fault, Result};
use crate::func::hit::Each;
use crate::func::{Body, Ctx, Func, RuleInfo, Special, Stateful, guarded};
use crate::sql::{BinaryOp, UnaryOp};

use super::access;
use super::bound::{Bound, RowShape};
use super::ops::{self, LikePattern};

/// What an expression is evaluated over: one row, and what surrounds it.
pub struct Frame<'a> {
    pub row: &'a [Value],
    pub meta: Option<&'a Meta>,
    /// The time of the row.
    pub time: Time,
    /// The clock.
    pub now: Time,
    pub rule: &'a RuleInfo,
}

/// Instances of functions that remember, one a call in the statement.
type States = RefCell<Vec<Box<dyn Stateful>>>;
type Eval = Box<dyn Fn(&Frame<'_>, &States) -> Result<Value> + Send>;
type Test = Box<dyn Fn(&Frame<'_>, &States) -> Result<Truth> + Send>;

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Null,
}

impl Truth {
    fn of(yes: bool) -> Truth {
        if yes { Truth::True } else { Truth::False }
    }
}

/// A compiled expression.
pub struct Program {
    eval: Eval,
    states: States,
    /// Set when the expression is a plain slot, so that callers can move the value instead of copying it.
    slot: Option<usize>,
}

/// A compiled condition.
pub struct Predicate {
    test: Test,
    states: States,
}

impl Program {
    pub fn new(bound: &Bound) -> Self {
        let mut states = Vec::new();
        let eval = value(bound, &mut states);
        let slot = if let Bound::Slot(slot, _) = bound { Some(*slot) } else { None };
        Program { eval, states: RefCell::new(states), slot }
    }

    pub fn eval(&self, frame: &Frame<'_>) -> Result<Value> {
        (self.eval)(frame, &self.states)
    }

    /// The slot, when the expression is nothing but a column.
    pub fn slot(&self) -> Option<usize> {
        self.slot
    }

    /// What its functions remember.
    pub fn save(&self) -> Value {
        save(&self.states)
    }

    pub fn load(&mut self, saved: Value) -> Result<()> {
        load(&self.states, saved)
    }
}

impl Predicate {
    pub fn new(bound: &Bound) -> Self {
        let mut states = Vec::new();
        let test = test(bound, &mut states);
        Predicate { test, states: RefCell::new(states) }
    }

    /// Whether the condition holds; null does not hold, and another type is an error.
    pub fn holds(&self, frame: &Frame<'_>) -> Result<bool> {
        Ok((self.test)(frame, &self.states)? == Truth::True)
    }

    pub fn save(&self) -> Value {
        save(&self.states)
    }

    pub fn load(&mut self, saved: Value) -> Result<()> {
        load(&self.states, saved)
    }
}

fn save(states: &States) -> Value {
    Value::array(states.borrow().iter().map(|state| state.save()).collect())
}

fn load(states: &States, saved: Value) -> Result<()> {
    let Value::Array(saved) = saved else { return Err(Fault::bug("saved state of an expression is no list")) };
    let mut states = states.borrow_mut();
    if states.len() != saved.len() {
        return Err(Fault::bug("saved state of an expression is of another expression"));
    }
    states.iter_mut().zip(saved.iter()).try_for_each(|(state, saved)| state.load(saved.clone()))
}

/// Compiles to a value.
fn value(bound: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Eval {
    match bound {
        Bound::Const(constant) => {
            let constant = constant.or_null();
            Box::new(move |_, _| Ok(constant.clone()))
        }
        Bound::Slot(slot, _) => {
            let slot = *slot;
            Box::new(move |frame, _| Ok(frame.row[slot].or_null()))
        }
        Bound::Row(shape) => {
            let shape = shape.clone();
            Box::new(move |frame, _| Ok(row_object(&shape, frame.row)))
        }
        Bound::Meta(path) => {
            let path = path.clone();
            Box::new(move |frame, _| meta(frame, &path))
        }
        Bound::RowTime => Box::new(|frame, _| Ok(Value::Int(frame.time.0))),
        Bound::Member(of, name) => {
            let (name, ignore_case) = (name.clone(), false);
            if let Bound::Slot(slot, _) = **of {
                return Box::new(move |frame, _| access::member(&frame.row[slot], &name, ignore_case));
            }
            let of = value(of, states);
            Box::new(move |frame, states| access::member(&of(frame, states)?, &name, ignore_case))
        }
        Bound::Index(of, index) => {
            let (of, index) = (value(of, states), value(index, states));
            Box::new(move |frame, states| access::index(&of(frame, states)?, &index(frame, states)?))
        }
        Bound::Slice(of, from, to) => {
            let of = value(of, states);
            let from = from.as_ref().map(|bound| value(bound, states));
            let to = to.as_ref().map(|bound| value(bound, states));
            Box::new(move |frame, states| {
                let bound = |bound: &Option<Eval>| bound.as_ref().map(|eval| eval(frame, states)).transpose();
                access::slice(&of(frame, states)?, bound(&from)?.as_ref(), bound(&to)?.as_ref())
            })
        }
        Bound::Unary(UnaryOp::Neg, of) => {
            let of = value(of, states);
            Box::new(move |frame, states| match of(frame, states)? {
                Value::Int(n) => Ok(Value::Int(n.wrapping_neg())),
                Value::Float(x) => Ok(Value::Float(-x)),
                other if other.is_null() => Ok(Value::Null),
                other => Err(Fault::eval(format!(
                    "`-` needs a number, but the value is {}({})",
                    other.type_name(),
                    other.print()
                ))),
            })
        }
        Bound::Binary(op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem), a, b) => {
            arithmetic(*op, a, b, states)
        }
        Bound::Binary(op @ (BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor), a, b) => {
            let (op, a, b) = (*op, value(a, states), value(b, states));
            Box::new(move |frame, states| ops::binary(op, &a(frame, states)?, &b(frame, states)?))
        }
        Bound::Case { subject, branches, otherwise } => {
            case(subject.as_deref(), branches, otherwise.as_deref(), states)
        }
        Bound::Call(func, args) => call(func, args, states),
        Bound::Binary(..)
        | Bound::Unary(UnaryOp::Not, _)
        | Bound::Between { .. }
        | Bound::InList { .. }
        | Bound::InArray { .. }
        | Bound::Like { .. }
        | Bound::IsNull { .. } => {
            let test = test(bound, states);
            Box::new(move |frame, states| {
                Ok(match test(frame, states)? {
                    Truth::True => Value::Bool(true),
                    Truth::False => Value::Bool(false),
                    Truth::Null => Value::Null,
                })
            })
        }
    }
}

fn arithmetic(op: BinaryOp, a: &Bound, b: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Eval {
    match (a, b) {
        (Bound::Slot(slot, _), Bound::Const(constant)) => {
            let (slot, constant) = (*slot, constant.clone());
            Box::new(move |frame, _| ops::arithmetic(op, &frame.row[slot], &constant))
        }
        (_, Bound::Const(constant)) => {
            let (a, constant) = (value(a, states), constant.clone());
            Box::new(move |frame, states| ops::arithmetic(op, &a(frame, states)?, &constant))
        }
        (Bound::Slot(x, _), Bound::Slot(y, _)) => {
            let (x, y) = (*x, *y);
            Box::new(move |frame, _| ops::arithmetic(op, &frame.row[x], &frame.row[y]))
        }
        _ => {
            let (a, b) = (value(a, states), value(b, states));
            Box::new(move |frame, states| ops::arithmetic(op, &a(frame, states)?, &b(frame, states)?))
        }
    }
}

/// Compiles to a condition.
fn test(bound: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Test {
    match bound {
        Bound::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => logic(*op, test(a, states), test(b, states)),
        Bound::Binary(
            op @ (BinaryOp::Eq
            | BinaryOp::NotEq
            | BinaryOp::Less
            | BinaryOp::LessEq
            | BinaryOp::Greater
            | BinaryOp::GreaterEq),
            a,
            b,
        ) => comparison(*op, a, b, states),
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
            let (of, low, high, negated) = (value(of, states), value(low, states), value(high, states), *negated);
            Box::new(move |frame, states| {
                let (of, low, high) = (of(frame, states)?, low(frame, states)?, high(frame, states)?);
                ops::between(&of, &low, &high, negated).map(Truth::of)
            })
        }
        Bound::InList { of, list, negated } => {
            let (of, negated) = (value(of, states), *negated);
            let list: Vec<Eval> = list.iter().map(|item| value(item, states)).collect();
            Box::new(move |frame, states| {
                let of = of(frame, states)?;
                if of.is_null() {
                    return Ok(Truth::False);
                }
                for item in &list {
                    if ops::equal(&of, &item(frame, states)?)? {
                        return Ok(Truth::of(!negated));
                    }
                }
                Ok(Truth::of(negated))
            })
        }
        Bound::InArray { of, array, negated } => {
            let (of, array, negated) = (value(of, states), value(array, states), *negated);
            Box::new(move |frame, states| {
                let of = of(frame, states)?;
                if of.is_null() {
                    return Ok(Truth::False);
                }
                match array(frame, states)? {
                    Value::Array(items) => {
                        for item in items.iter() {
                            if ops::equal(&of, item)? {
                                return Ok(Truth::of(!negated));
                            }
                        }
                        Ok(Truth::of(negated))
                    }
                    other if other.is_null() => Ok(Truth::of(negated)),
                    other => Err(Fault::eval(format!(
                        "IN needs an array, but the value is {}({})",
                        other.type_name(),
                        other.print()
                    ))),
                }
            })
        }
        Bound::Like { of, pattern, negated } => like(of, pattern, *negated, states),
        Bound::IsNull { of, negated } => {
            let (of, negated) = (value(of, states), *negated);
            Box::new(move |frame, states| Ok(Truth::of(of(frame, states)?.is_null() != negated)))
        }
        other => {
            let eval = value(other, states);
            Box::new(move |frame, states| match eval(frame, states)? {
                Value::Bool(yes) => Ok(Truth::of(yes)),
                other if other.is_null() => Ok(Truth::Null),
                other => Err(Fault::eval(format!(
                    "a condition must be true or false, but it is {}({})",
                    other.type_name(),
                    other.print()
                ))),
            })
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
    match (a, b) {
        (Bound::Slot(slot, _), Bound::Const(constant)) => {
            let slot = *slot;
            if let Some(limit) = constant.as_f64()
                && (matches!(constant, Value::Float(_)) || limit.abs() < 9e15)
            {
                // The shape of most filters: a float column against a number.
                let constant = constant.clone();
                return Box::new(move |frame, _| match &frame.row[slot] {
                    Value::Float(x) => Ok(Truth::of(ops::holds(op, x.partial_cmp(&limit)))),
                    other => ops::comparison(op, other, &constant).map(Truth::of),
                });
            }
            let constant = constant.clone();
            Box::new(move |frame, _| ops::comparison(op, &frame.row[slot], &constant).map(Truth::of))
        }
        (Bound::Slot(x, _), Bound::Slot(y, _)) => {
            let (x, y) = (*x, *y);
            Box::new(move |frame, _| ops::comparison(op, &frame.row[x], &frame.row[y]).map(Truth::of))
        }
        (_, Bound::Const(constant)) => {
            let (a, constant) = (value(a, states), constant.clone());
            Box::new(move |frame, states| ops::comparison(op, &a(frame, states)?, &constant).map(Truth::of))
        }
        _ => {
            let (a, b) = (value(a, states), value(b, states));
            Box::new(move |frame, states| ops::comparison(op, &a(frame, states)?, &b(frame, states)?).map(Truth::of))
        }
    }
}

fn like(of: &Bound, pattern: &Bound, negated: bool, states: &mut Vec<Box<dyn Stateful>>) -> Test {
    let wrong = |side: &str, value: &Value| {
        Fault::eval(format!("LIKE needs text on its {side}, but the value is {}({})", value.type_name(), value.print()))
    };
    let of = value(of, states);
    if let Bound::Const(Value::Text(text)) = pattern {
        let pattern = LikePattern::new(text);
        return Box::new(move |frame, states| match of(frame, states)? {
            Value::Text(text) => Ok(Truth::of(pattern.matches(&text.chars().collect::<Vec<_>>()) != negated)),
            other if other.is_null() => Ok(Truth::False),
            other => Err(wrong("left", &other)),
        });
    }
    let pattern = value(pattern, states);
    Box::new(move |frame, states| match (of(frame, states)?, pattern(frame, states)?) {
        (Value::Text(text), Value::Text(pattern)) => Ok(Truth::of(ops::like(&text, &pattern) != negated)),
        (of, pattern) if of.is_null() || pattern.is_null() => Ok(Truth::False),
        (Value::Text(_), pattern) => Err(wrong("right", &pattern)),
        (of, _) => Err(wrong("left", &of)),
    })
}

fn case(
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
            branches.iter().map(|(when, then)| (test(when, states), value(then, states))).collect();
        return Box::new(move |frame, states| {
            for (when, then) in &branches {
                if when(frame, states)? == Truth::True {
                    return then(frame, states);
                }
            }
            last(frame, states)
        });
    };
    let subject = value(subject, states);
    let branches: Vec<(Eval, Eval)> =
        branches.iter().map(|(when, then)| (value(when, states), value(then, states))).collect();
    Box::new(move |frame, states| {
        let subject = subject(frame, states)?;
        for (when, then) in &branches {
            if ops::equal(&subject, &when(frame, states)?)? {
                return then(frame, states);
            }
        }
        last(frame, states)
    })
}

fn context<'a>(frame: &'a Frame<'_>) -> Ctx<'a> {
    Ctx { now: frame.now, row_time: Some(frame.time), rule: frame.rule }
}

fn call(func: &'static Func, args: &[Bound], states: &mut Vec<Box<dyn Stateful>>) -> Eval {
    let args: Vec<Eval> = args.iter().map(|arg| value(arg, states)).collect();
    let failed = move |fault: Fault| match fault {
        Fault::Eval(text) => Fault::eval(format!("call func {} error: {text}", func.name)),
        other => other,
    };
    match func.body {
        Body::Scalar(body) => match args.len() {
            // Calls of one argument are the common ones; they need no list.
            1 => {
                let mut args = args;
                let Some(arg) = args.pop() else { return Box::new(|_, _| Ok(Value::Null)) };
                Box::new(move |frame, states| {
                    let args = [arg(frame, states)?];
                    match guarded(func, &args) {
                        Some(answer) => Ok(answer),
                        None => body(&args, &context(frame)).map_err(failed),
                    }
                })
            }
            _ => Box::new(move |frame, states| {
                let args = all(&args, frame, states)?;
                match guarded(func, &args) {
                    Some(answer) => Ok(answer),
                    None => body(&args, &context(frame)).map_err(failed),
                }
            }),
        },
        Body::Stateful(_) | Body::Special(Special::Hit) => {
            let id = states.len();
            states.push(match func.body {
                Body::Stateful(start) => start(),
                _ => Box::new(Each::new(func.name)),
            });
            Box::new(move |frame, states| {
                let args = all(&args, frame, states)?;
                if let Some(answer) = guarded(func, &args) {
                    return Ok(answer);
                }
                match states.borrow_mut().get_mut(id) {
                    Some(state) => state.call(&args, &context(frame)).map_err(failed),
                    None => Err(Fault::bug("a function without its state")),
                }
            })
        }
        Body::Guest(start) => {
            let guest = start();
            Box::new(move |frame, states| {
                let args = all(&args, frame, states)?;
                let columns: Vec<Vec<Value>> = args.into_iter().map(|arg| vec![arg]).collect();
                let mut results = guest.call(&columns, 1, &context(frame));
                match results.pop() {
                    Some(result) => result.map_err(failed),
                    None => Err(Fault::bug(format!("the plugin of `{}` gave no result", func.name))),
                }
            })
        }
        Body::Aggregate(_) | Body::GuestAggregate(_) | Body::Special(_) => {
            Box::new(move |_, _| Err(Fault::bug(format!("`{}` was compiled as a scalar", func.name))))
        }
    }
}

fn all(args: &[Eval], frame: &Frame<'_>, states: &States) -> Result<Vec<Value>> {
    args.iter().map(|arg| arg(frame, states)).collect()
}

fn row_object(shape: &RowShape, row: &[Value]) -> Value {
    let mut object = match shape.rest.map(|slot| &row[slot]) {
        Some(Value::Object(rest)) if shape.except.is_empty() => (**rest).clone(),
        Some(Value::Object(rest)) => Object::from_iter(
            rest.iter()
                .filter(|(name, _)| !shape.except.contains(name))
                .map(|(name, value)| (name.clone(), value.clone())),
        ),
        _ => Object::with_capacity(shape.columns.len()),
    };
    for (name, slot) in &shape.columns {
        if !matches!(row[*slot], Value::Absent) && !shape.except.contains(name) {
            object.insert(name.clone(), row[*slot].clone());
        }
    }
    Value::object(object)
}

fn meta(frame: &Frame<'_>, path: &[Text]) -> Result<Value> {
    let Some(meta) = frame.meta else { return Ok(Value::Null) };
    let Some((first, rest)) = path.split_first() else { return Ok(Value::Object(meta.clone())) };
    let mut value = meta.get(first).map_or(Value::Null, Value::or_null);
    for name in rest {
        value = access::member(&value, name, false)?;
    }
    Ok(value)
}
