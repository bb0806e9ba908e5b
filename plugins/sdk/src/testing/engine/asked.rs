//! What a plugin may ask for since 1.2, as a test can have it: templates of plain fields, paths of names and numbers, a folder for
//! temporary files.

use std::sync::PoisonError;
use std::time::Duration;

use super::{engine, Said};
use crate::abi;
use crate::abi::code;
use crate::rows::Rows;
use crate::value::{put, Owned, Value};

// What a plugin calls: `this` is the struct at the head of an `Engine` that an `Arc` holds.

unsafe fn note(said: &mut Said, emission: *const abi::Emission) {
    if let Some(position) = (*emission).position.as_ref() {
        said.positions.push(Value::lent(position).to_owned());
    }
    if (*emission).token != 0 {
        said.tokens.push((*emission).token);
    }
}

pub(super) unsafe extern "C" fn emit_rows_with(
    this: *const abi::Context,
    batch: *const abi::Batch,
    emission: *const abi::Emission,
) -> u32 {
    engine(this).emitted(|said| {
        said.rows.extend(Rows::lent(batch).iter().map(|row| row.to_record()));
        note(said, emission);
    })
}

pub(super) unsafe extern "C" fn emit_bytes_with(
    this: *const abi::Context,
    messages: *const abi::Messages,
    emission: *const abi::Emission,
) -> u32 {
    engine(this).emitted(|said| {
        said.messages.extend((0..(*messages).count).map(|n| (*(*messages).payloads.add(n)).as_bytes().to_vec()));
        note(said, emission);
    })
}

pub(super) unsafe extern "C" fn acknowledged(this: *const abi::Context, nanos: u64, into: *const abi::Output) -> u32 {
    let engine = engine(this);
    let idle = |said: &mut Said| said.acknowledged.is_empty() && !engine.is_stopped();
    let waited = engine.news.wait_timeout_while(engine.said(), Duration::from_nanos(nanos), idle);
    let tokens = std::mem::take(&mut waited.unwrap_or_else(PoisonError::into_inner).0.acknowledged);
    if tokens.is_empty() && engine.is_stopped() {
        return code::STOPPED;
    }
    tokens.into_iter().for_each(|token| put(into, &Owned::Int(token as i64)));
    code::OK
}

pub(super) unsafe extern "C" fn template(
    _: *const abi::Context,
    text: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    let (text, data) = (text.to_text(), Value::lent(&*data).to_owned());
    let mut made = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("{{") {
        let end = rest[at..].find("}}").map_or(rest.len(), |end| at + end);
        made.push_str(&rest[..at]);
        let path = rest[at + 2..end].trim();
        match found(&data, path.strip_prefix('.').unwrap_or(path)) {
            Some(Owned::Text(text)) => made.push_str(&text),
            Some(value) => made.push_str(&value.to_string()),
            None => return refused(fault, &format!("the tests' template has only fields, found `{}`", path)),
        }
        rest = rest.get(end + 2..).unwrap_or("");
    }
    made.push_str(rest);
    put(into, &Owned::Text(made));
    code::OK
}

pub(super) unsafe extern "C" fn json_path(
    _: *const abi::Context,
    path: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    let path = path.to_text().replace('[', ".").replace(']', "");
    let below = path.trim_start_matches('$').trim_start_matches('.');
    match found(&Value::lent(&*data).to_owned(), below) {
        Some(value) => {
            put(into, &value);
            code::OK
        }
        None => refused(fault, "the path leads nowhere"),
    }
}

/// What a path of names and numbers leads to.
fn found(data: &Owned, path: &str) -> Option<Owned> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(data.clone(), |value, name| match value {
        Owned::Object(members) => members.get(name).cloned(),
        Owned::Array(items) => items.get(name.parse::<usize>().ok()?).cloned(),
        _ => None,
    })
}

unsafe fn refused(fault: *const abi::Fault, text: &str) -> u32 {
    if let Some(set) = has!(fault, set) {
        set(fault, code::NEVER, abi::Str::new(text));
    }
    code::NEVER
}

pub(super) unsafe extern "C" fn count(this: *const abi::Context, key: abi::Str, by: i64) -> i64 {
    let mut said = engine(this).said();
    let now = match said.state.get(&key.to_text()) {
        Some(Owned::Int(before)) => before + by,
        _ => by,
    };
    said.state.insert(key.to_text(), Owned::Int(now));
    now
}

pub(super) unsafe extern "C" fn secret(this: *const abi::Context, name: abi::Str, into: *const abi::Output) -> u32 {
    let secret = engine(this).said().secrets.get(&name.to_text()).cloned();
    secret.map_or(code::NEVER, |secret| {
        put(into, &Owned::Text(secret));
        code::OK
    })
}

pub(super) unsafe extern "C" fn folder(_: *const abi::Context, into: *const abi::Output) -> u32 {
    let folder = std::env::temp_dir().join(format!("kuiper-plugin-{}", std::process::id()));
    if std::fs::create_dir_all(&folder).is_err() {
        return code::LATER;
    }
    put(into, &Owned::Text(folder.to_string_lossy().into_owned()));
    code::OK
}
