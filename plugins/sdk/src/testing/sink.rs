//! An instance of a sink under test.
//!
//! The table lives as long as the process, `this` until `drop`, the rest until a call returns: that is why what is `unsafe` here holds.

use std::os::raw::c_void;

use super::{batch, Host};
use crate::abi;
use crate::context::Taken;
use crate::error::Result;
use crate::rows::Lent;
use crate::value::{Arena, Owned, Record};

/// An instance of a sink.
pub struct SinkTest<'h> {
    pub(super) host: &'h Host,
    pub(super) table: *const abi::Sink,
    pub(super) this: *mut c_void,
}

impl SinkTest<'_> {
    /// Hands over the properties, an object.
    pub fn provision(&self, properties: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, provision) }, self.this, properties)
    }

    /// Connects.
    pub fn connect(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, connect) }, self.this)
    }

    /// Hands over rows that have nothing to do with each other, each an object.
    pub fn collect(&self, rows: &[Owned]) -> Result<()> {
        self.collect_with(rows, Record::new())
    }

    /// The same, with what the templates in properties come to for these rows.
    pub fn collect_with(&self, rows: &[Owned], properties: Record) -> Result<()> {
        let (batch, properties) = (batch(rows), Owned::Object(properties));
        let mut arena = Arena::default();
        let (lent, properties) = (Lent::new(&batch), arena.lend(&properties));
        let crossing = abi::Batch { properties: &properties, ..lent.batch() };
        let mut done = 0;
        self.host.entry(unsafe { has!(self.table, collect) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &crossing, &mut done, fault)
        })
    }

    /// Hands over rows that belong together, each an object. Returns those that were refused, with the reason.
    pub fn collect_list(&self, rows: &[Owned]) -> Result<Vec<(usize, String)>> {
        let batch = batch(rows);
        let lent = Lent::new(&batch);
        self.host.entry_refusing(unsafe { has!(self.table, collect_list) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &lent.batch(), fault)
        })
    }

    /// Hands over encoded messages.
    pub fn collect_bytes(&self, messages: &[&[u8]]) -> Result<()> {
        self.collect_bytes_with(messages, &[])
    }

    /// The same, with what the templates in properties come to for each of them.
    pub fn collect_bytes_with(&self, messages: &[&[u8]], properties: &[Record]) -> Result<()> {
        let payloads: Vec<abi::Str> = messages.iter().map(|message| abi::Str::bytes(message)).collect();
        let owned: Vec<Owned> = properties.iter().map(|one| Owned::Object(one.clone())).collect();
        let mut arena = Arena::default();
        let lent: Vec<abi::Value> = owned.iter().map(|one| arena.lend(one)).collect();
        let crossing = abi::Messages {
            size: std::mem::size_of::<abi::Messages>() as u32,
            flags: 0,
            count: payloads.len(),
            payloads: payloads.as_ptr(),
            times: std::ptr::null(),
            metas: std::ptr::null(),
            properties: if lent.len() == payloads.len() { lent.as_ptr() } else { std::ptr::null() },
        };
        let mut done = 0;
        self.host.entry(unsafe { has!(self.table, collect_bytes) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &crossing, &mut done, fault)
        })
    }

    /// Has what was taken put where it belongs, as after each run of collects.
    pub fn flush(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, flush) }, self.this)
    }

    /// Where it stands; `None` where it cannot take back what it takes from here on.
    pub fn position(&self) -> Result<Option<Owned>> {
        let mut taken = Taken::default();
        let output = taken.output();
        self.host.entry(unsafe { has!(self.table, position) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &output, fault)
        })?;
        Ok(taken.one())
    }

    /// Has it take back all that came after a position.
    pub fn resume(&self, position: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, resume) }, self.this, position)
    }

    /// Asks whether the outside can be reached.
    pub fn ping(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, ping) }, self.this)
    }

    /// Closes.
    pub fn close(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, close) }, self.this)
    }
}

impl Drop for SinkTest<'_> {
    fn drop(&mut self) {
        unsafe {
            if let Some(destroy) = has!(self.table, destroy) {
                destroy(self.this);
            }
        }
    }
}
