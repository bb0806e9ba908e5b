//! Examples of functions: `name(argument, …)` against the JSON of the result.

use super::text::Reader;
use super::Host;
use crate::error::{Error, Result};
use crate::value::Owned;

/// Calls what the example says, and compares.
pub(super) fn holds(host: &Host, call: &str, result: &str) -> Result<()> {
    let wrong = |text: &str| Error::never(format!("example `{}`: {}", call, text));
    let value = value(host, call).ok_or_else(|| wrong("it is not of the form `name(argument, …)`"))?;
    let found = value.map_err(|error| wrong(&error.to_string()))?.to_string();
    if found != result {
        return Err(wrong(&format!("expected {}, found {}", result, found)));
    }
    Ok(())
}

fn value(host: &Host, call: &str) -> Option<Result<Owned>> {
    let mut reader = Reader::new(call);
    let value = nested(host, &mut reader);
    if reader.rest().is_empty() {
        value
    } else {
        None
    }
}

/// An argument may be a call itself.
fn nested(host: &Host, reader: &mut Reader<'_>) -> Option<Result<Owned>> {
    let name_then_bracket = reader.rest().find('(').map(|at| &reader.rest()[..at]);
    let is_call = name_then_bracket
        .map_or(false, |name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    if !is_call {
        return reader.value().map(Ok);
    }
    let name = reader.word();
    let mut arguments = Vec::new();
    if !reader.take("(") {
        return None;
    }
    while !reader.take(")") {
        if !arguments.is_empty() && !reader.take(",") {
            return None;
        }
        match nested(host, reader)? {
            Ok(argument) => arguments.push(argument),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(host.function(name).and_then(|function| function.call(&arguments)))
}
