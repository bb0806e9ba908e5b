//! Messages for a sink that takes them encoded: the engine has shaped, encoded and compressed them.

use bytes::Bytes;
use kuiper_plugin::abi;
use kuiper_plugin::has;

use super::{Done, evaluated, row_fault};
use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::io::{Content, Parcel};
use crate::plugin::cross::Arena;
use crate::plugin::desk::Desk;
use crate::plugin::worker::Slot;

/// One message.
pub struct Letter {
    bytes: Bytes,
    /// What the templates in properties come to for it; null where none is one.
    properties: Value,
}

pub fn letters(parcels: &[Parcel]) -> Result<Vec<Letter>> {
    parcels
        .iter()
        .map(|parcel| match &parcel.content {
            Content::Bytes(bytes) => Ok(Letter { bytes: bytes.clone(), properties: evaluated(&parcel.props) }),
            Content::Rows(_) => Err(Fault::bug("a sink of a plugin that takes messages was given rows")),
        })
        .collect()
}

/// Hands them over in one call.
pub fn deliver(
    slot: &mut Slot,
    this: *mut std::ffi::c_void,
    desk: &std::sync::Arc<Desk>,
    letters: &[Letter],
    done: &mut Done,
) -> Result<()> {
    let mut arena = Arena::default();
    let payloads: Vec<abi::Str> = letters.iter().map(|letter| abi::Str::bytes(&letter.bytes)).collect();
    let any = letters.iter().any(|letter| !letter.properties.is_null());
    let properties: Vec<abi::Value> = match any {
        true => letters.iter().map(|letter| arena.lend(&letter.properties)).collect(),
        false => Vec::new(),
    };
    let messages = abi::Messages {
        size: std::mem::size_of::<abi::Messages>() as u32,
        flags: 0,
        count: letters.len(),
        payloads: payloads.as_ptr(),
        times: std::ptr::null(),
        metas: std::ptr::null(),
        properties: if any { properties.as_ptr() } else { std::ptr::null() },
    };
    // SAFETY: the symbol is a sink.
    let collect = unsafe { has!(slot.symbol.table.cast::<abi::Sink>(), collect_bytes) };
    let collect = collect.ok_or_else(|| Fault::setup("the plugin has no code that takes messages"))?;
    let mut taken = 0;
    // SAFETY: the instance is of this table; the pointers live until the call returns.
    let called =
        slot.call(Some(collect), |call, fault| unsafe { call(this, desk.raw(), &messages, &mut taken, fault) });
    match called {
        Ok(_) => {
            done.delivered += letters.len();
            desk.progress();
            Ok(())
        }
        Err((failed, mut texts)) => {
            done.delivered += taken.min(letters.len() - 1);
            Err(row_fault(failed, &mut texts))
        }
    }
}
