//! What a library offers, on its way from the process that has loaded it: the table's texts, and which entries each
//! symbol has.

use std::ffi::c_void;

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use kuiper_plugin::has;

use super::super::home::Home;
use super::super::library::{Property, Symbol};
use super::wire::{Broken, Reader, Writer};

/// Entries of a table, as bits.
pub mod entry {
    pub const PROVISION: u64 = 1;
    pub const CONNECT: u64 = 1 << 1;
    pub const SUBSCRIBE: u64 = 1 << 2;
    pub const PULL: u64 = 1 << 3;
    pub const CLOSE: u64 = 1 << 4;
    pub const REWIND: u64 = 1 << 5;
    pub const RESET: u64 = 1 << 6;
    pub const PING: u64 = 1 << 7;
    pub const COLLECT: u64 = 1 << 8;
    pub const COLLECT_LIST: u64 = 1 << 9;
    pub const COLLECT_BYTES: u64 = 1 << 10;
    pub const FLUSH: u64 = 1 << 11;
    pub const POSITION: u64 = 1 << 12;
    pub const RESUME: u64 = 1 << 13;
    pub const FIND: u64 = 1 << 14;
    pub const VALIDATE: u64 = 1 << 15;
    pub const CALL: u64 = 1 << 16;
    pub const START: u64 = 1 << 17;
    pub const ADD: u64 = 1 << 18;
    pub const RESULT: u64 = 1 << 19;
    pub const SAVE: u64 = 1 << 20;
    pub const LOAD: u64 = 1 << 21;
    pub const CREATE: u64 = 1 << 22;
}

/// A symbol without a table yet.
pub struct Offered {
    pub symbol: Symbol,
    pub entries: u64,
}

fn bit<F>(there: Option<F>, entry: u64) -> u64 {
    if there.is_some() { entry } else { 0 }
}

/// The entries that a symbol's table has.
fn entries(symbol: &Symbol) -> u64 {
    // SAFETY: the kind says what the table is.
    unsafe {
        match symbol.kind {
            kind::SOURCE => {
                let table = symbol.table.cast::<abi::Source>();
                bit(has!(table, create), entry::CREATE)
                    | bit(has!(table, provision), entry::PROVISION)
                    | bit(has!(table, connect), entry::CONNECT)
                    | bit(has!(table, subscribe), entry::SUBSCRIBE)
                    | bit(has!(table, pull), entry::PULL)
                    | bit(has!(table, close), entry::CLOSE)
                    | bit(has!(table, rewind), entry::REWIND)
                    | bit(has!(table, reset), entry::RESET)
                    | bit(has!(table, ping), entry::PING)
            }
            kind::SINK => {
                let table = symbol.table.cast::<abi::Sink>();
                bit(has!(table, create), entry::CREATE)
                    | bit(has!(table, provision), entry::PROVISION)
                    | bit(has!(table, connect), entry::CONNECT)
                    | bit(has!(table, collect), entry::COLLECT)
                    | bit(has!(table, collect_list), entry::COLLECT_LIST)
                    | bit(has!(table, collect_bytes), entry::COLLECT_BYTES)
                    | bit(has!(table, close), entry::CLOSE)
                    | bit(has!(table, flush), entry::FLUSH)
                    | bit(has!(table, position), entry::POSITION)
                    | bit(has!(table, resume), entry::RESUME)
                    | bit(has!(table, ping), entry::PING)
            }
            kind::LOOKUP => {
                let table = symbol.table.cast::<abi::Lookup>();
                bit(has!(table, create), entry::CREATE)
                    | bit(has!(table, provision), entry::PROVISION)
                    | bit(has!(table, connect), entry::CONNECT)
                    | bit(has!(table, find), entry::FIND)
                    | bit(has!(table, close), entry::CLOSE)
                    | bit(has!(table, ping), entry::PING)
            }
            kind::FUNCTION => {
                let table = symbol.table.cast::<abi::Function>();
                bit(has!(table, create), entry::CREATE)
                    | bit(has!(table, validate), entry::VALIDATE)
                    | bit(has!(table, call), entry::CALL)
                    | bit(has!(table, start), entry::START)
                    | bit(has!(table, add), entry::ADD)
                    | bit(has!(table, result), entry::RESULT)
                    | bit(has!(table, save), entry::SAVE)
                    | bit(has!(table, load), entry::LOAD)
            }
            _ => 0,
        }
    }
}

pub fn write(symbols: &[Symbol], to: &mut Writer) {
    to.word(symbols.len() as u64);
    for symbol in symbols {
        to.text(symbol.name).text(symbol.about).text(symbol.signature);
        to.word(u64::from(symbol.kind)).word(u64::from(symbol.flags)).word(u64::from(symbol.singleton));
        to.word(u64::from(symbol.state_version)).word(u64::from(symbol.state_oldest)).word(entries(symbol));
        to.word(symbol.properties.len() as u64);
        for property in symbol.properties {
            to.text(property.name).text(property.about).text(property.expects).text(property.default);
            to.word(u64::from(property.required) | u64::from(property.secret) << 1 | u64::from(property.dynamic) << 2);
        }
        to.word(symbol.examples.len() as u64);
        for (call, result) in symbol.examples {
            to.text(call).text(result);
        }
    }
}

/// Texts are never freed, as those of a library that is mapped.
pub fn read(from: &mut Reader<'_>, home: &'static Home) -> Result<Vec<Offered>, Broken> {
    let text = |from: &mut Reader<'_>| from.text().map(|text| -> &'static str { text.leak() });
    let mut all = Vec::new();
    for _ in 0..from.word()? {
        let (name, about, signature) = (text(from)?, text(from)?, text(from)?);
        let (kind, flags, singleton) = (from.word()? as u32, from.word()? as u32, from.word()? != 0);
        let (state_version, state_oldest, entries) = (from.word()? as u32, from.word()? as u32, from.word()?);
        let mut properties = Vec::new();
        for _ in 0..from.word()? {
            let (name, about, expects, default) = (text(from)?, text(from)?, text(from)?, text(from)?);
            let flags = from.word()?;
            let (required, secret, dynamic) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            properties.push(Property { name, about, expects, required, secret, dynamic, default });
        }
        let mut examples = Vec::new();
        for _ in 0..from.word()? {
            examples.push((text(from)?, text(from)?));
        }
        let symbol = Symbol {
            name,
            about,
            signature,
            kind,
            flags,
            singleton,
            isolated: true,
            data: std::ptr::null_mut::<c_void>(),
            table: std::ptr::null(),
            properties: properties.leak(),
            examples: examples.leak(),
            state_version,
            state_oldest,
            home,
        };
        all.push(Offered { symbol, entries });
    }
    Ok(all)
}
