//! In the process of a plugin: a request of the engine, as a call of the real table.

use std::ffi::c_void;

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;

use super::super::library::Symbol;
use super::context::Desk;
use super::protocol::{Collected, Puts, answer, ask};
use super::wire::{Broken, Reader, Writer};

/// What a request names.
pub struct Call {
    pub symbol: Symbol,
    pub this: *mut c_void,
    pub context: *const abi::Context,
}

/// Does it, and makes the answer.
///
/// # Safety
/// Instance, context and group came from earlier answers, and were not destroyed since.
pub unsafe fn served(what: u64, call: &Call, from: &mut Reader<'_>) -> Result<Writer, Broken> {
    let mut texts = Collected::default();
    let fault = texts.fault();
    let (this, context) = (call.this, call.context);
    // SAFETY: see above; the symbol's kind says what its table is, and an ask what its entry is; the pointers live until
    // the call returns.
    unsafe {
        let (done, word) = match what {
            ask::CREATE => match create(&call.symbol) {
                Some(create) => {
                    let this = create(call.symbol.data, &fault);
                    (if this.is_null() { code::NEVER } else { code::OK }, this as u64)
                }
                None => return Ok(missing(&call.symbol, texts)),
            },
            ask::INTRODUCE => (code::OK, Desk::introduced(from)? as u64),
            ask::FORGET => {
                Desk::forgotten(context.cast::<Desk>().cast_mut());
                (code::OK, 0)
            }
            ask::DESTROY => {
                if let Some(destroy) = destroy(&call.symbol) {
                    destroy(this);
                }
                (code::OK, 0)
            }
            ask::PROVISION => {
                let value = from.value()?;
                (provision(&call.symbol).map_or(code::OK, |provision| provision(this, context, &value, &fault)), 0)
            }
            ask::REWIND | ask::RESET | ask::RESUME => {
                let value = from.value()?;
                (moved(what, &call.symbol).map_or(code::OK, |moved| moved(this, context, &value, &fault)), 0)
            }
            ask::PULL => {
                let at = from.word()? as i64;
                let pull = has!(call.symbol.table.cast::<abi::Source>(), pull);
                (pull.map_or(code::OK, |pull| pull(this, context, at, &fault)), 0)
            }
            ask::COLLECT | ask::COLLECT_LIST => {
                let rows = from.batch()?;
                let table = call.symbol.table.cast::<abi::Sink>();
                let mut taken = 0;
                let done = match what {
                    ask::COLLECT => has!(table, collect)
                        .map_or(code::OK, |collect| collect(this, context, &rows.raw, &mut taken, &fault)),
                    _ => {
                        has!(table, collect_list).map_or(code::OK, |collect| collect(this, context, &rows.raw, &fault))
                    }
                };
                (done, taken as u64)
            }
            ask::COLLECT_BYTES => {
                let messages = from.messages()?;
                let mut taken = 0;
                let collect = has!(call.symbol.table.cast::<abi::Sink>(), collect_bytes);
                let done =
                    collect.map_or(code::OK, |collect| collect(this, context, &messages.raw, &mut taken, &fault));
                (done, taken as u64)
            }
            ask::POSITION => {
                let position = has!(call.symbol.table.cast::<abi::Sink>(), position);
                return Ok(put(texts, |output, fault| {
                    position.map_or(code::OK, |position| position(this, context, output, fault))
                }));
            }
            ask::FIND => return find(call, from),
            ask::VALIDATE..=ask::DISCARD => return function(what, call, from),
            _ => (step(what, &call.symbol).ok_or(Broken)?.map_or(code::OK, |step| step(this, context, &fault)), 0),
        };
        Ok(answer(done, word, &texts))
    }
}

fn missing(symbol: &Symbol, mut texts: Collected) -> Writer {
    texts.say(&format!("the plugin cannot make a `{}`", symbol.name));
    answer(code::NEVER, 0, &texts)
}

/// A call that puts values.
fn put(mut texts: Collected, call: impl FnOnce(*const abi::Output, *const abi::Fault) -> u32) -> Writer {
    let mut puts = Puts::new();
    let done = call(&puts.output(), &texts.fault());
    let mut writer = answer(done, 0, &texts);
    puts.end(&mut writer);
    writer
}

type Create = unsafe extern "C" fn(*mut c_void, *const abi::Fault) -> *mut c_void;

/// # Safety
/// The symbol is one of the contract, as in what follows.
unsafe fn create(symbol: &Symbol) -> Option<Create> {
    // SAFETY: the kind says what the table is, here and below.
    unsafe {
        match symbol.kind {
            kind::SOURCE => has!(symbol.table.cast::<abi::Source>(), create),
            kind::SINK => has!(symbol.table.cast::<abi::Sink>(), create),
            kind::LOOKUP => has!(symbol.table.cast::<abi::Lookup>(), create),
            _ => has!(symbol.table.cast::<abi::Function>(), create),
        }
    }
}

unsafe fn destroy(symbol: &Symbol) -> Option<unsafe extern "C" fn(*mut c_void)> {
    // SAFETY: see above.
    unsafe {
        match symbol.kind {
            kind::SOURCE => has!(symbol.table.cast::<abi::Source>(), destroy),
            kind::SINK => has!(symbol.table.cast::<abi::Sink>(), destroy),
            kind::LOOKUP => has!(symbol.table.cast::<abi::Lookup>(), destroy),
            _ => has!(symbol.table.cast::<abi::Function>(), destroy),
        }
    }
}

unsafe fn provision(symbol: &Symbol) -> Option<abi::Provision> {
    // SAFETY: see above.
    unsafe {
        match symbol.kind {
            kind::SOURCE => has!(symbol.table.cast::<abi::Source>(), provision),
            kind::SINK => has!(symbol.table.cast::<abi::Sink>(), provision),
            kind::LOOKUP => has!(symbol.table.cast::<abi::Lookup>(), provision),
            _ => None,
        }
    }
}

unsafe fn moved(what: u64, symbol: &Symbol) -> Option<abi::Rewind> {
    // SAFETY: see above.
    unsafe {
        match (what, symbol.kind) {
            (ask::REWIND, kind::SOURCE) => has!(symbol.table.cast::<abi::Source>(), rewind),
            (ask::RESET, kind::SOURCE) => has!(symbol.table.cast::<abi::Source>(), reset),
            (ask::RESUME, kind::SINK) => has!(symbol.table.cast::<abi::Sink>(), resume),
            _ => None,
        }
    }
}

/// A step's entry, which the table may not have; `None` where there is no such step.
unsafe fn step(what: u64, symbol: &Symbol) -> Option<Option<abi::Step>> {
    // SAFETY: see above.
    unsafe {
        let (source, sink) = (symbol.table.cast::<abi::Source>(), symbol.table.cast::<abi::Sink>());
        let lookup = symbol.table.cast::<abi::Lookup>();
        Some(match (what, symbol.kind) {
            (ask::CONNECT, kind::SOURCE) => has!(source, connect),
            (ask::CONNECT, kind::SINK) => has!(sink, connect),
            (ask::CONNECT, kind::LOOKUP) => has!(lookup, connect),
            (ask::SUBSCRIBE, kind::SOURCE) => has!(source, subscribe),
            (ask::CLOSE, kind::SOURCE) => has!(source, close),
            (ask::CLOSE, kind::SINK) => has!(sink, close),
            (ask::CLOSE, kind::LOOKUP) => has!(lookup, close),
            (ask::PING, kind::SOURCE) => has!(source, ping),
            (ask::PING, kind::SINK) => has!(sink, ping),
            (ask::PING, kind::LOOKUP) => has!(lookup, ping),
            (ask::FLUSH, kind::SINK) => has!(sink, flush),
            _ => return None,
        })
    }
}

unsafe fn function(what: u64, call: &Call, from: &mut Reader<'_>) -> Result<Writer, Broken> {
    let table = call.symbol.table.cast::<abi::Function>();
    let (this, context) = (call.this, call.context);
    let mut texts = Collected::default();
    let fault = texts.fault();
    // SAFETY: see `served`.
    unsafe {
        let (done, word) = match what {
            ask::VALIDATE => {
                let values = from.values()?;
                let validate = has!(table, validate);
                let done = validate.map_or(code::OK, |validate| validate(this, values.as_ptr(), values.len(), &fault));
                (done, 0)
            }
            ask::CALL => {
                let rows = from.batch()?;
                let Some(called) = has!(table, call) else { return Ok(missing(&call.symbol, texts)) };
                return Ok(put(texts, |output, fault| called(this, context, &rows.raw, output, fault)));
            }
            ask::START => {
                let Some(start) = has!(table, start) else { return Ok(missing(&call.symbol, texts)) };
                let group = start(this, &fault);
                (if group.is_null() { code::NEVER } else { code::OK }, group as u64)
            }
            ask::RESTORE => {
                let Some(load) = has!(table, load) else { return Ok(missing(&call.symbol, texts)) };
                let group = load(this, &from.value()?, &fault);
                (if group.is_null() { code::NEVER } else { code::OK }, group as u64)
            }
            _ => {
                let group = from.word()? as usize as *mut c_void;
                match what {
                    ask::ADD => {
                        let rows = from.batch()?;
                        let Some(add) = has!(table, add) else { return Ok(missing(&call.symbol, texts)) };
                        (add(this, context, group, &rows.raw, &fault), 0)
                    }
                    ask::RESULT | ask::SAVE => {
                        let entry = if what == ask::RESULT { has!(table, result) } else { has!(table, save) };
                        let Some(entry) = entry else { return Ok(missing(&call.symbol, texts)) };
                        return Ok(put(texts, |output, fault| entry(this, context, group, output, fault)));
                    }
                    ask::DISCARD => {
                        if let Some(discard) = has!(table, discard) {
                            discard(this, group);
                        }
                        (code::OK, 0)
                    }
                    _ => return Err(Broken),
                }
            }
        };
        Ok(answer(done, word, &texts))
    }
}

/// What a lookup has found, on its way.
struct Found {
    count: u64,
    part: Writer,
}

/// In front of what was found for a question.
pub const ROWS: u64 = 1;
pub const BYTES: u64 = 2;

unsafe fn find(call: &Call, from: &mut Reader<'_>) -> Result<Writer, Broken> {
    let mut fields = Vec::new();
    for _ in 0..from.word()? {
        fields.push(from.str()?);
    }
    let keys = from.batch()?;
    let mut texts = Collected::default();
    let mut found = Found { count: 0, part: Writer::part() };
    let answers = abi::Answers {
        size: size_of::<abi::Answers>() as u32,
        reserved: 0,
        host: std::ptr::from_mut(&mut found).cast(),
        rows: Some(rows),
        bytes: Some(bytes),
    };
    // SAFETY: see `served`; fields and answers live until the call returns.
    let done = unsafe {
        let find = has!(call.symbol.table.cast::<abi::Lookup>(), find);
        find.map_or(code::OK, |find| {
            let fault = texts.fault();
            find(call.this, call.context, &keys.raw, fields.as_ptr(), fields.len(), &answers, &fault)
        })
    };
    let mut writer = answer(done, 0, &texts);
    writer.word(found.count).append(found.part.raw());
    Ok(writer)
}

unsafe extern "C" fn rows(this: *const abi::Answers, question: usize, rows: *const abi::Batch) {
    // SAFETY: `host` leads to what made the answers, and only the call that runs uses it; the rows keep the contract.
    unsafe {
        let found = &mut *(*this).host.cast::<Found>();
        found.part.word(ROWS).word(question as u64).batch(rows);
        found.count += 1;
    }
}

unsafe extern "C" fn bytes(this: *const abi::Answers, question: usize, messages: *const abi::Messages) {
    // SAFETY: as above.
    unsafe {
        let found = &mut *(*this).host.cast::<Found>();
        found.part.word(BYTES).word(question as u64).messages(messages);
        found.count += 1;
    }
}
