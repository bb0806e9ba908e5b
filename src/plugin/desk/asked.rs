//! What guests may ask for since version 1.2 of the contract: emissions with a position or a token, acknowledgements,
//! templates, paths, counters, secrets, a folder.

use std::time::Duration;

use kuiper_plugin::abi;
use kuiper_plugin::abi::code;
use kuiper_plugin::has;

use crate::data::{Text, Value};
use crate::diag::Fault;
use crate::func;
use crate::io::Payload;

use super::super::cross::{Arena, messages, rows, taken};
use super::{Beside, Desk, at, lock};

// What follows is called by guests: `this` is the head of a desk in an `Arc`, all other pointers are valid for the call.

pub unsafe extern "C" fn emit_rows_with(
    this: *const abi::Context,
    batch: *const abi::Batch,
    emission: *const abi::Emission,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let (all, beside) = (rows(batch), Beside::read(emission));
            desk.emit(beside, |out| {
                all.into_iter().map(|row| out.message(Payload::Row(row.object), row.time, row.meta)).collect()
            })
        })
    }
}

pub unsafe extern "C" fn emit_bytes_with(
    this: *const abi::Context,
    all: *const abi::Messages,
    emission: *const abi::Emission,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let (all, beside) = (messages(all), Beside::read(emission));
            desk.emit(beside, |out| {
                all.into_iter().map(|(bytes, time, meta)| out.message(Payload::Bytes(bytes), time, meta)).collect()
            })
        })
    }
}

pub unsafe extern "C" fn acknowledged(this: *const abi::Context, nanos: u64, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let Some(tokens) = desk.tokens.take(Duration::from_nanos(nanos)) else { return code::STOPPED };
            let values: Vec<abi::Value> = tokens.iter().map(|token| abi::Value::int(token.cast_signed())).collect();
            if let Some(put) = has!(into, put) {
                put(into, values.as_ptr(), values.len());
            }
            code::OK
        })
    }
}

pub unsafe extern "C" fn template(
    this: *const abi::Context,
    text: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let Some(services) = desk.home.services() else { return code::NEVER };
            let made = services.template(&text.to_text(), &taken(&*data));
            answer(made.map(|text| Value::text(&text)), into, fault)
        })
    }
}

pub unsafe extern "C" fn json_path(
    this: *const abi::Context,
    path: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    // SAFETY: see above.
    unsafe { at(this, code::BUG, |_| answer(func::json_path(&taken(&*data), &path.to_text()), into, fault)) }
}

pub unsafe extern "C" fn count(this: *const abi::Context, key: abi::Str, by: i64) -> i64 {
    // SAFETY: see above.
    unsafe {
        at(this, 0, |desk| {
            let key = key.to_text();
            if by != 0 {
                match &*lock(&desk.report) {
                    // What a source or sink counts is for users to see, whether it is kept or not.
                    Some(report) => report.count(&key, by),
                    None => desk.stored(),
                }
            }
            desk.states.count(key, by)
        })
    }
}

pub unsafe extern "C" fn secret(this: *const abi::Context, name: abi::Str, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let found = desk.home.services().and_then(|services| services.secret(&name.to_text()));
            let found = found.map(|text| Value::text(&text)).ok_or_else(|| Fault::setup("there is no such secret"));
            answer(found, into, std::ptr::null())
        })
    }
}

pub unsafe extern "C" fn folder(this: *const abi::Context, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let Some(folder) = desk.home.folder() else { return code::NEVER };
            if let Err(error) = std::fs::create_dir_all(folder) {
                tracing::error!(plugin = %desk.operator, "cannot make the folder `{}`: {error}", folder.display());
                return code::LATER;
            }
            // Whoever gets it may have another working directory in mind.
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            answer(Ok(Value::Text(Text::from(folder.to_string_lossy().as_ref()))), into, std::ptr::null())
        })
    }
}

/// Puts a value, or says why there is none.
///
/// # Safety
/// The pointers are valid for the call; `fault` may be null.
unsafe fn answer(value: crate::diag::Result<Value>, into: *const abi::Output, fault: *const abi::Fault) -> u32 {
    // SAFETY: see above.
    unsafe {
        match value {
            Ok(value) => {
                let mut arena = Arena::default();
                if let Some(put) = has!(into, put) {
                    put(into, &arena.lend(&value), 1);
                }
                code::OK
            }
            Err(wrong) => {
                if !fault.is_null()
                    && let Some(set) = has!(fault, set)
                {
                    set(fault, code::NEVER, abi::Str::new(&wrong.to_string()));
                }
                code::NEVER
            }
        }
    }
}

impl Beside {
    /// # Safety
    /// The pointer is null, or valid for the call.
    unsafe fn read(emission: *const abi::Emission) -> Beside {
        if emission.is_null() {
            return Beside::default();
        }
        // SAFETY: see above.
        unsafe {
            let position = kuiper_plugin::since!(emission, position, std::ptr::null());
            let position = position.as_ref().map(|value| taken(value)).filter(|value| !matches!(value, Value::Absent));
            Beside { position, token: kuiper_plugin::since!(emission, token, 0) }
        }
    }
}

impl Desk {
    /// All that is offered since 1.2 to one use.
    pub(super) fn offer(raw: &mut abi::Context, emits: bool, run: u64) {
        raw.emit_rows_with = emits.then_some(emit_rows_with as _);
        raw.emit_bytes_with = emits.then_some(emit_bytes_with as _);
        raw.acknowledged = emits.then_some(acknowledged as _);
        raw.template = Some(template);
        raw.json_path = Some(json_path);
        raw.count = Some(count);
        raw.secret = Some(secret);
        raw.folder = Some(folder);
        raw.run = run;
    }
}
