use crate::data::{Object, Text, Value};
use crate::diag::{Fault, Result};
use crate::func::hit::Each;
use crate::func::{Body, Ctx, Func, Guest, Special, Stateful, guarded};

use super::access;
use super::bound::{Bound, Path, RowShape};
use super::compile::{Env, Eval, Frame, Making, Operand, value};

fn context<'a>(frame: &'a Frame<'_>) -> Ctx<'a> {
    Ctx { now: frame.now, row_time: Some(frame.time), rule: frame.rule }
}

/// Compiles the call of a function that gives one value a row.
pub(super) fn call(func: &'static Func, args: &[Bound], making: &mut Making) -> Eval {
    let failed = move |fault: Fault| match fault {
        Fault::Eval(text) => Fault::eval(format!("call func {} error: {text}", func.name)),
        other => other,
    };
    match func.body {
        Body::Scalar(body) => {
            let run = move |args: &[Value], frame: &Frame<'_>| match guarded(func, args) {
                Some(answer) => Ok(answer),
                None => body(args, &context(frame)).map_err(failed),
            };
            // Calls of one and two arguments are the common ones; they need no list, and of one not even a copy.
            match args {
                [arg] => {
                    let arg = Operand::new(arg, making);
                    Box::new(move |frame, env| {
                        arg.with(frame, env, |arg| match arg {
                            Value::Absent => run(&[Value::Null], frame),
                            arg => run(std::slice::from_ref(arg), frame),
                        })
                    })
                }
                [a, b] => {
                    let (a, b) = (value(a, making), value(b, making));
                    Box::new(move |frame, env| run(&[a(frame, env)?, b(frame, env)?], frame))
                }
                args => {
                    let args = compiled(args, making);
                    Box::new(move |frame, env| run(&all(&args, frame, env)?, frame))
                }
            }
        }
        Body::Stateful(_) | Body::Special(Special::Hit) => {
            let args = compiled(args, making);
            let id = making.remember(match func.body {
                Body::Stateful(start) => start(),
                _ => Box::new(Each::new(func.name)),
            });
            Box::new(move |frame, env| {
                let args = all(&args, frame, env)?;
                if let Some(answer) = guarded(func, &args) {
                    return Ok(answer);
                }
                match env.states.borrow_mut().get_mut(id) {
                    Some(state) => state.call(&args, &context(frame)).map_err(failed),
                    None => Err(Fault::bug("a function without its state")),
                }
            })
        }
        Body::Guest(start) => {
            let args = compiled(args, making);
            let guest = start();
            // What it stores is saved like that of our own functions.
            if !matches!(guest.save(), Value::Array(nothing) if nothing.is_empty()) {
                let id = making.remember(Box::new(Storing(guest)));
                return Box::new(move |frame, env| {
                    let args = all(&args, frame, env)?;
                    match env.states.borrow_mut().get_mut(id) {
                        Some(state) => state.call(&args, &context(frame)).map_err(failed),
                        None => Err(Fault::bug("a function without its state")),
                    }
                });
            }
            Box::new(move |frame, env| one(&*guest, &all(&args, frame, env)?, &context(frame)).map_err(failed))
        }
        Body::Aggregate(_) | Body::GuestAggregate(_) | Body::Special(_) => {
            Box::new(move |_, _| Err(Fault::bug(format!("`{}` was compiled as a scalar", func.name))))
        }
    }
}

/// A function of a plugin that stores something.
struct Storing(Box<dyn Guest>);

impl Stateful for Storing {
    fn call(&mut self, args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
        one(&*self.0, args, ctx)
    }

    fn save(&self) -> Value {
        self.0.save()
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.0.load(&saved)
    }
}

/// The result for one row.
fn one(guest: &dyn Guest, args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let args: Vec<&Value> = args.iter().collect();
    guest.call(&args, 1, ctx).pop().unwrap_or_else(|| Err(Fault::bug("the plugin gave no result")))
}

fn compiled(args: &[Bound], making: &mut Making) -> Vec<Eval> {
    args.iter().map(|arg| value(arg, making)).collect()
}

fn all(args: &[Eval], frame: &Frame<'_>, env: &Env) -> Result<Vec<Value>> {
    args.iter().map(|arg| arg(frame, env)).collect()
}

/// The row as an object.
pub(super) fn row_object(shape: &RowShape, row: &[Value]) -> Value {
    let wanted = |name: &Text| !shape.except.contains(name);
    let mut rests = shape.rest.iter().filter_map(|slot| match &row[*slot] {
        Value::Object(rest) => Some(rest),
        _ => None,
    });
    let mut object = match rests.next() {
        // Nothing is added and nothing taken away, so the object is shared.
        Some(rest) if shape.except.is_empty() && shape.rest.len() == 1 && is_alone(shape, row) => {
            return Value::Object(rest.clone());
        }
        Some(rest) if shape.except.is_empty() => (**rest).clone(),
        Some(rest) => Object::from_iter(
            rest.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())),
        ),
        None => Object::with_capacity(shape.columns.len()),
    };
    for rest in rests {
        for (name, value) in rest.iter().filter(|(name, _)| wanted(name)) {
            if object.get(name).is_none() {
                object.insert(name.clone(), value.clone());
            }
        }
    }
    for (name, slot) in &shape.columns {
        if !matches!(row[*slot], Value::Absent) && wanted(name) {
            object.insert(name.clone(), row[*slot].clone());
        }
    }
    Value::object(object)
}

fn is_alone(shape: &RowShape, row: &[Value]) -> bool {
    shape.columns.iter().all(|(_, slot)| matches!(row[*slot], Value::Absent))
}

/// A metadata value.
pub(super) fn meta(frame: &Frame<'_>, path: &Path) -> Result<Value> {
    let Some(meta) = frame.meta else { return Ok(Value::Null) };
    let Some((first, rest)) = path.names.split_first() else { return Ok(Value::Object(meta.clone())) };
    let mut value = access::entry(meta, first, path.any_case);
    for name in rest {
        value = access::member(&value, name, path.any_case)?;
    }
    Ok(value)
}
