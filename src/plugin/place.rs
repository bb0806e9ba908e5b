//! Where a source or a sink of a guest stands: the position that it told, together with what it has stored. The rule's
//! journal keeps both as one value, so that after a crash they fit together.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::data::{Object, Value};
use crate::diag::{Fault, Result};

use super::cross::property;
use super::desk::States;
use super::library::Symbol;

/// Marks a position of a user's.
const SET: &str = "\0set";

/// The value that is kept. Nothing for a symbol that neither told a position nor says that it stores anything.
pub fn kept(symbol: Symbol, at: Option<Value>, states: &States) -> Option<Value> {
    let stored = if symbol.keeps() { stored(states) } else { Value::Absent };
    if at.is_none() && matches!(stored, Value::Absent) {
        return None;
    }
    let mut place = Object::with_capacity(3);
    place.insert("version", Value::Int(symbol.state_version.into()));
    for (name, value) in [("at", at.unwrap_or(Value::Absent)), ("stored", stored)] {
        if !matches!(value, Value::Absent) {
            place.insert(name, value);
        }
    }
    Some(Value::object(place))
}

/// The place that stands for a position of a user's, in the words of the guest; what was stored stays as it was.
pub fn place_at(before: Option<&Value>, position: &Json) -> Value {
    let mut place = match before {
        Some(Value::Object(before)) => (**before).clone(),
        _ => Object::with_capacity(2),
    };
    place.insert("at", Value::object(Object::from_iter([(SET, property(position))])));
    Value::object(place)
}

/// The position that a user has set, which is told from one of the guest's own by its mark.
pub fn set_by_user(position: &Value) -> Option<&Value> {
    match position {
        Value::Object(members) => members.get(SET),
        _ => None,
    }
}

/// What a guest has stored, as an object.
pub fn stored(states: &States) -> Value {
    states.read(|all| {
        let mut all: Vec<(&str, &Value)> = all.collect();
        all.sort_unstable_by_key(|one| one.0);
        Value::object(all.into_iter().map(|(name, value)| (name, value.clone())).collect())
    })
}

/// Puts back what a guest had stored.
pub fn restore(states: &States, stored: Option<&Value>) {
    let members: HashMap<String, Value> = match stored {
        Some(Value::Object(all)) => all.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        _ => HashMap::new(),
    };
    states.replace(members);
}

/// The position that was told, after what was stored with it is put back.
///
/// # Errors
/// `Setup` for a place that this version of the guest cannot read.
pub fn taken_up(symbol: Symbol, place: &Value, states: &States) -> Result<Option<Value>> {
    let Value::Object(members) = place else {
        return Err(Fault::setup(format!("where `{}` stood before cannot be read", symbol.name)));
    };
    let version = members.get("version").and_then(Value::as_i64).unwrap_or(0);
    if !symbol.reads(version) {
        return Err(Fault::setup(format!(
            "the plugin of `{}` reads state of the versions {} to {}, and version {version} was kept; install a plugin that \
             reads it, or delete the rule and create it again to begin anew",
            symbol.name, symbol.state_oldest, symbol.state_version
        )));
    }
    // What else is stored lives as long as the rule runs, whatever becomes of an instance.
    if symbol.keeps() {
        restore(states, members.get("stored"));
    }
    Ok(members.get("at").cloned())
}
