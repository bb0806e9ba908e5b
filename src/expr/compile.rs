use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::data::{Meta, Text, Time, Value};
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

pub(super) type Eval = Box<dyn Fn(&Frame<'_>, &Env) -> Result<Value> + Send>;

/// What a program has beside its closures.
pub(super) struct Env {
    /// Instances of functions that remember, one a call in the statement.
    pub states: RefCell<Vec<Box<dyn Stateful>>>,
    /// The expressions of the aliases that it reads, for rows where their slots are empty.
    aliases: Vec<Eval>,
}

/// An [`Env`] in the making.
#[derive(Default)]
pub(super) struct Making {
    states: Vec<Box<dyn Stateful>>,
    /// The expressions of aliases; each is compiled once, however many read it, and by itself, however long a chain of
    /// them is.
    aliases: Vec<Arc<Bound>>,
    /// Their numbers by slot.
    numbers: HashMap<usize, usize>,
}

impl Making {
    /// Takes up an instance, and gives its number.
    pub fn remember(&mut self, state: Box<dyn Stateful>) -> usize {
        self.states.push(state);
        self.states.len() - 1
    }

    /// The number of the expression of an alias.
    fn alias(&mut self, slot: usize, of: &Arc<Bound>) -> usize {
        *self.numbers.entry(slot).or_insert_with(|| {
            self.aliases.push(of.clone());
            self.aliases.len() - 1
        })
    }

    fn finish(mut self) -> Env {
        let mut aliases = Vec::new();
        // An alias may read others, which come behind it.
        while let Some(of) = self.aliases.get(aliases.len()).cloned() {
            aliases.push(value(&of, &mut self));
        }
        Env { states: RefCell::new(self.states), aliases }
    }
}

impl Env {
    fn alias(&self, number: usize, frame: &Frame<'_>) -> Result<Value> {
        match self.aliases.get(number) {
            Some(eval) => eval(frame, self),
            None => Err(Fault::bug("an alias without its expression")),
        }
    }

    fn save(&self) -> Value {
        Value::array(self.states.borrow().iter().map(|state| state.save()).collect())
    }

    fn load(&self, saved: Value) -> Result<()> {
        let Value::Array(saved) = saved else { return Err(Fault::bug("saved state of an expression is no list")) };
        let mut states = self.states.borrow_mut();
        if states.len() != saved.len() {
            return Err(Fault::bug("saved state of an expression is of another expression"));
        }
        states.iter_mut().zip(saved.iter()).try_for_each(|(state, saved)| state.load(saved.clone()))
    }
}

/// A compiled expression.
pub struct Program {
    eval: Eval,
    env: Env,
    /// Set when the expression is a plain slot, so that callers can move the value instead of copying it.
    slot: Option<usize>,
    /// What an error begins with.
    label: Box<str>,
}

/// A compiled condition.
pub struct Predicate {
    test: Test,
    env: Env,
    /// What an error begins with.
    label: Box<str>,
}

/// The expression as errors show it: not more than two lines of it, and none where nothing can fail.
fn label(bound: &Bound, name: Option<&str>) -> Box<str> {
    const WIDTH: usize = 160;
    if matches!(bound, Bound::Slot(..) | Bound::Const(_)) {
        return "".into();
    }
    let mut text = bound.to_string();
    let name = name.filter(|name| *name != text).map(|name| format!("alias: {name} ")).unwrap_or_default();
    if let Some((end, _)) = text.char_indices().nth(WIDTH) {
        text.truncate(end);
        text.push('…');
    }
    format!("{name}expr: {text}: ").into()
}

impl Program {
    pub fn new(bound: &Bound) -> Self {
        Program::labelled(bound, label(bound, None))
    }

    /// The same for an output column or alias, which errors name too.
    pub fn named(bound: &Bound, name: &str) -> Self {
        Program::labelled(bound, label(bound, Some(name)))
    }

    fn labelled(bound: &Bound, label: Box<str>) -> Self {
        let mut making = Making::default();
        let eval = value(bound, &mut making);
        let slot = if let Bound::Slot(slot, _) = bound { Some(*slot) } else { None };
        Program { eval, env: making.finish(), slot, label }
    }

    /// # Errors
    /// What failed, behind the expression.
    pub fn eval(&self, frame: &Frame<'_>) -> Result<Value> {
        (self.eval)(frame, &self.env).map_err(|fault| fault.context(&self.label))
    }

    /// The slot, when the expression is nothing but a column.
    pub fn slot(&self) -> Option<usize> {
        self.slot
    }

    /// What its functions remember.
    pub fn save(&self) -> Value {
        self.env.save()
    }

    pub fn load(&mut self, saved: Value) -> Result<()> {
        self.env.load(saved)
    }
}

impl Predicate {
    pub fn new(bound: &Bound) -> Self {
        let mut making = Making::default();
        let test = test(bound, &mut making);
        Predicate { test, env: making.finish(), label: label(bound, None) }
    }

    fn test(&self, frame: &Frame<'_>) -> Result<Truth> {
        (self.test)(frame, &self.env).map_err(|fault| fault.context(&self.label))
    }

    /// Whether the condition holds; null does not hold, and another type is an error.
    pub fn holds(&self, frame: &Frame<'_>) -> Result<bool> {
        Ok(self.test(frame)? == Truth::True)
    }

    /// Whether the condition holds, where it must be one or the other: null is an error too.
    pub fn decides(&self, frame: &Frame<'_>) -> Result<bool> {
        match self.test(frame)? {
            Truth::Null => Err(Fault::eval("the condition is null, and must be true or false").context(&self.label)),
            truth => Ok(truth == Truth::True),
        }
    }

    pub fn save(&self) -> Value {
        self.env.save()
    }

    pub fn load(&mut self, saved: Value) -> Result<()> {
        self.env.load(saved)
    }
}

/// A part of an expression whose value is only looked at, so that columns and constants need not be copied.
pub(super) enum Operand {
    Slot(usize),
    /// A slot, and the number of the expression that stands in for it where it is empty.
    Alias(usize, usize),
    Const(Value),
    Eval(Eval),
}

impl Operand {
    pub fn new(bound: &Bound, making: &mut Making) -> Self {
        match bound {
            Bound::Slot(slot, _) => Operand::Slot(*slot),
            Bound::Alias(slot, _, of) => Operand::Alias(*slot, making.alias(*slot, of)),
            Bound::Const(constant) => Operand::Const(constant.or_null()),
            other => Operand::Eval(value(other, making)),
        }
    }

    /// Shows the value to `look`; a column that is not there is shown as absent.
    #[inline(always)]
    pub fn with<T>(&self, frame: &Frame<'_>, env: &Env, look: impl FnOnce(&Value) -> Result<T>) -> Result<T> {
        match self {
            Operand::Slot(slot) => look(&frame.row[*slot]),
            Operand::Const(constant) => look(constant),
            Operand::Eval(eval) => look(&eval(frame, env)?),
            Operand::Alias(slot, of) => match &frame.row[*slot] {
                Value::Absent => look(&env.alias(*of, frame)?),
                value => look(value),
            },
        }
    }
}

/// Compiles to a value.
pub(super) fn value(bound: &Bound, making: &mut Making) -> Eval {
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
            let (slot, of) = (*slot, making.alias(*slot, of));
            Box::new(move |frame, env| match &frame.row[slot] {
                Value::Absent => env.alias(of, frame),
                value => Ok(value.clone()),
            })
        }
        Bound::Row(shape) if shape.columns.is_empty() && shape.rest.is_empty() => {
            let row = row_object(shape, &[]);
            Box::new(move |_, _| Ok(row.clone()))
        }
        Bound::Row(shape) => {
            let shape = shape.clone();
            Box::new(move |frame, _| Ok(row_object(&shape, frame.row)))
        }
        Bound::Replaced(row, values) => replaced(row, values, making),
        Bound::Meta(path) => {
            let path = path.clone();
            Box::new(move |frame, _| meta(frame, &path))
        }
        Bound::RowTime => Box::new(|frame, _| Ok(Value::Int(frame.time.0))),
        Bound::Member(of, key) => {
            let (of, key) = (Operand::new(of, making), key.clone());
            Box::new(move |frame, env| of.with(frame, env, |of| access::member(of, &key.name, key.any_case)))
        }
        Bound::Index(of, index) => {
            let (of, index) = (Operand::new(of, making), Operand::new(index, making));
            Box::new(move |frame, env| {
                of.with(frame, env, |of| index.with(frame, env, |index| access::index(of, index)))
            })
        }
        Bound::Slice(of, from, to) => {
            let of = Operand::new(of, making);
            let from = from.as_ref().map(|bound| value(bound, making));
            let to = to.as_ref().map(|bound| value(bound, making));
            Box::new(move |frame, env| {
                let bound = |bound: &Option<Eval>| bound.as_ref().map(|eval| eval(frame, env)).transpose();
                let (from, to) = (bound(&from)?, bound(&to)?);
                of.with(frame, env, |of| access::slice(of, from.as_ref(), to.as_ref()))
            })
        }
        Bound::Unary(UnaryOp::Neg, of) => {
            let of = Operand::new(of, making);
            Box::new(move |frame, env| of.with(frame, env, ops::negative))
        }
        Bound::Binary(op @ (BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem), a, b) => {
            arithmetic(*op, a, b, making)
        }
        Bound::Binary(op @ (BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor), a, b) => {
            let (op, a, b) = (*op, Operand::new(a, making), Operand::new(b, making));
            Box::new(move |frame, env| a.with(frame, env, |a| b.with(frame, env, |b| ops::bits(op, a, b))))
        }
        Bound::Case { subject, branches, otherwise } => {
            case(subject.as_deref(), branches, otherwise.as_deref(), making)
        }
        Bound::Call(func, args, number) => call(func, args, *number, making),
        Bound::Binary(..)
        | Bound::Unary(UnaryOp::Not, _)
        | Bound::Between { .. }
        | Bound::InList { .. }
        | Bound::InArray { .. }
        | Bound::Like { .. }
        | Bound::IsNull { .. } => {
            let test = test(bound, making);
            Box::new(move |frame, env| {
                Ok(match test(frame, env)? {
                    Truth::True => Value::Bool(true),
                    Truth::False => Value::Bool(false),
                    Truth::Null => Value::Null,
                })
            })
        }
    }
}

/// The row as an object, with values put into it under their names; also a null is put there.
fn replaced(row: &Bound, values: &[(Text, Bound)], making: &mut Making) -> Eval {
    let row = value(row, making);
    let values: Vec<(Text, Eval)> = values.iter().map(|(name, of)| (name.clone(), value(of, making))).collect();
    Box::new(move |frame, env| {
        let Value::Object(object) = row(frame, env)? else { return Err(Fault::bug("a row is no object")) };
        let mut object = Arc::unwrap_or_clone(object);
        for (name, of) in &values {
            object.insert(name.clone(), of(frame, env)?.or_null());
        }
        Ok(Value::object(object))
    })
}

fn arithmetic(op: BinaryOp, a: &Bound, b: &Bound, making: &mut Making) -> Eval {
    if let (Bound::Slot(slot, _), Bound::Const(constant)) = (a, b) {
        let (slot, constant) = (*slot, constant.or_null());
        return Box::new(move |frame, _| ops::arithmetic(op, &frame.row[slot], &constant));
    }
    let (a, b) = (Operand::new(a, making), Operand::new(b, making));
    Box::new(move |frame, env| a.with(frame, env, |a| b.with(frame, env, |b| ops::arithmetic(op, a, b))))
}
