use std::cell::RefCell;

use crate::data::{Meta, Time, Value};
use crate::diag::{Fault, Result};
use crate::func::{RuleInfo, Stateful};
use crate::sql::{BinaryOp, UnaryOp};

use super::access;
use super::bound::Bound;
use super::call::{call, meta, row_object};
use super::condition::{Test, Truth, case, test};
use super::ops;

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
pub(super) type States = RefCell<Vec<Box<dyn Stateful>>>;
pub(super) type Eval = Box<dyn Fn(&Frame<'_>, &States) -> Result<Value> + Send>;

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

    /// Whether the condition holds, where it must be one or the other: null is an error too.
    pub fn decides(&self, frame: &Frame<'_>) -> Result<bool> {
        match (self.test)(frame, &self.states)? {
            Truth::Null => Err(Fault::eval("the condition is null, and must be true or false")),
            truth => Ok(truth == Truth::True),
        }
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

/// A part of an expression whose value is only looked at, so that columns and constants need not be copied.
pub(super) enum Operand {
    Slot(usize),
    Alias(usize, Eval),
    Const(Value),
    Eval(Eval),
}

impl Operand {
    pub fn new(bound: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Self {
        match bound {
            Bound::Slot(slot, _) => Operand::Slot(*slot),
            Bound::Alias(slot, _, of) => Operand::Alias(*slot, value(of, states)),
            Bound::Const(constant) => Operand::Const(constant.or_null()),
            other => Operand::Eval(value(other, states)),
        }
    }

    /// Shows the value to `look`; a column that is not there is shown as absent.
    #[inline(always)]
    pub fn with<T>(&self, frame: &Frame<'_>, states: &States, look: impl FnOnce(&Value) -> Result<T>) -> Result<T> {
        match self {
            Operand::Slot(slot) => look(&frame.row[*slot]),
            Operand::Const(constant) => look(constant),
            Operand::Eval(eval) => look(&eval(frame, states)?),
            Operand::Alias(slot, of) => match &frame.row[*slot] {
                Value::Absent => look(&of(frame, states)?),
                value => look(value),
            },
        }
    }
}

/// Compiles to a value.
pub(super) fn value(bound: &Bound, states: &mut Vec<Box<dyn Stateful>>) -> Eval {
    match bound {
        Bound::Const(constant) => {
            let constant = constant.or_null();
            Box::new(move |_, _| Ok(constant.clone()))
        }
        Bound::Slot(slot, _) => {
            let slot = *slot;
            Box::new(move |frame, _| Ok(frame.row[slot].or_null()))
        }
        Bound::Alias(slot, _, of) => {
            let (slot, of) = (*slot, value(of, states));
            Box::new(move |frame, states| match &frame.row[slot] {
                Value::Absent => of(frame, states),
                value => Ok(value.clone()),
            })
        }
        Bound::Row(shape) if shape.columns.is_empty() && shape.rest.is_none() => {
            let row = row_object(shape, &[]);
            Box::new(move |_, _| Ok(row.clone()))
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
        Bound::Member(of, key) => {
            let (of, key) = (Operand::new(of, states), key.clone());
            Box::new(move |frame, states| of.with(frame, states, |of| access::member(of, &key.name, key.any_case)))
        }
        Bound::Index(of, index) => {
            let (of, index) = (Operand::new(of, states), Operand::new(index, states));
            Box::new(move |frame, states| {
                of.with(frame, states, |of| index.with(frame, states, |index| access::index(of, index)))
            })
        }
        Bound::Slice(of, from, to) => {
            let of = Operand::new(of, states);
            let from = from.as_ref().map(|bound| value(bound, states));
            let to = to.as_ref().map(|bound| value(bound, states));
            Box::new(move |frame, states| {
                let bound = |bound: &Option<Eval>| bound.as_ref().map(|eval| eval(frame, states)).transpose();
                let (from, to) = (bound(&from)?, bound(&to)?);
                of.with(frame, states, |of| access::slice(of, from.as_ref(), to.as_ref()))
            })
        }
        Bound::Unary(UnaryOp::Neg, of) => {
            let of = Operand::new(of, states);
            Box::new(move |frame, states| of.with(frame, states, ops::negative))
        }
        Bound::Binary(op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem), a, b) => {
            arithmetic(*op, a, b, states)
        }
        Bound::Binary(op @ (BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor), a, b) => {
            let (op, a, b) = (*op, Operand::new(a, states), Operand::new(b, states));
            Box::new(move |frame, states| a.with(frame, states, |a| b.with(frame, states, |b| ops::bits(op, a, b))))
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
    if let (Bound::Slot(slot, _), Bound::Const(constant)) = (a, b) {
        let (slot, constant) = (*slot, constant.or_null());
        return Box::new(move |frame, _| ops::arithmetic(op, &frame.row[slot], &constant));
    }
    let (a, b) = (Operand::new(a, states), Operand::new(b, states));
    Box::new(move |frame, states| a.with(frame, states, |a| b.with(frame, states, |b| ops::arithmetic(op, a, b))))
}
