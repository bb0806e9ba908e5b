//! Functions that give more than a value, by definition: `changed_cols`, which says what differs from what the same call
//! gave before (section 13.2), and those that make rows (13.1).

use std::cell::RefCell;
use std::collections::HashMap;

use kuiper::data::{Object, Text, Value};
use kuiper::sql::{Call, ExprNode};

use super::expr::{all_columns, eval};
use super::query::{Got, Scope, Stop, fails};

/// Whether a call remembers a row that fails elsewhere is not defined.
pub fn changes_open() -> Stop {
    Stop::Open("a failure beside `changed_cols`".into())
}

/// What each call gave last, by its place in the statement.
#[derive(Default)]
pub struct Changes(RefCell<HashMap<u32, Object>>);

impl Changes {
    /// The columns that a row that is projected has otherwise than the rows before.
    pub fn show(&self, call: &Call, within: Option<&str>, scope: &Scope<'_>) -> Got<Object> {
        let mut all = self.0.borrow_mut();
        let last = all.entry(call.name.span.start).or_default();
        let ignore_null = matches!(eval(&call.args[1], scope)?, Value::Bool(true));
        let scope = Scope { within, ..*scope };
        let mut columns: Vec<(Text, Value)> = Vec::new();
        for arg in &call.args[2..] {
            match &arg.node {
                ExprNode::Wildcard(wildcard) => columns.extend(all_columns(wildcard, &scope)?),
                ExprNode::Name(name) | ExprNode::Dotted(_, name) => columns.push((name.clone(), eval(arg, &scope)?)),
                ExprNode::Call(inner) => columns.push((scope.query.func(inner).name.into(), eval(arg, &scope)?)),
                _ => columns.push(("".into(), eval(arg, &scope)?)),
            }
        }
        let mut given = Object::new();
        for (name, value) in columns {
            let before = last.get(&name).cloned().unwrap_or(Value::Null);
            if (value.is_null() && (ignore_null || before.is_null())) || before == value {
                continue;
            }
            let value = if value.is_null() { Value::Null } else { value };
            last.insert(name.clone(), value.clone());
            given.insert(Text::from(format!("c_{name}")), value);
        }
        Ok(given)
    }
}

/// What rows are made of: the items of a list, or an object; neither may be empty.
pub fn parts(func: &str, of: &Value) -> Got<Vec<Value>> {
    match (func, of) {
        ("unnest", Value::Array(items)) if !items.is_empty() => Ok(items.iter().cloned().collect()),
        ("extract", Value::Object(members)) if !members.is_empty() => Ok(vec![of.clone()]),
        _ => fails(format!("`{func}` of a {}", of.type_name())),
    }
}
