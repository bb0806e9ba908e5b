//! An instance of a source under test.
//!
//! The table lives as long as the process, `this` until `drop`, the rest until a call returns: that is why what is `unsafe` here holds.

use std::os::raw::c_void;
use std::time::Duration;

use super::Host;
use crate::abi;
use crate::abi::code;
use crate::error::{Error, Result, Texts};
use crate::value::{Owned, Record};

/// An instance of a source.
pub struct SourceTest<'h> {
    pub(super) host: &'h Host,
    pub(super) table: *const abi::Source,
    pub(super) this: *mut c_void,
}

impl SourceTest<'_> {
    /// Hands over the properties, an object.
    pub fn provision(&self, properties: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, provision) }, self.this, properties)
    }

    /// Connects.
    pub fn connect(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, connect) }, self.this)
    }

    /// Lets a pull source emit once; what it emitted is in [`rows`](SourceTest::rows) or [`messages`](SourceTest::messages).
    pub fn pull(&self, at_nanos: i64) -> Result<()> {
        self.host.entry(unsafe { has!(self.table, pull) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), at_nanos, fault)
        })
    }

    /// Lets a source emit until it has emitted that many rows or messages; then it is told to stop. False if it did not in time.
    pub fn subscribe(&self, count: usize, time: Duration) -> Result<bool> {
        let instance = Instance(self.this, self.host.raw());
        let subscribe = unsafe { has!(self.table, subscribe) };
        let subscribe = subscribe.ok_or_else(|| Error::bug("the plugin does not have this entry"))?;
        let mut outcome = (code::OK, Texts::default());
        let mut enough = false;
        std::thread::scope(|scope| {
            let outcome = &mut outcome;
            scope.spawn(move || {
                let instance = instance;
                outcome.0 = unsafe { subscribe(instance.0, instance.1, &outcome.1.fault()) };
            });
            enough = self.host.context.wait_for(count, time);
            self.host.context.stop();
        });
        match outcome {
            (code::OK, _) | (code::STOPPED, _) => Ok(enough),
            (failed, text) => Err(text.error(failed)),
        }
    }

    /// Has it go back to a position, as after a crash.
    pub fn rewind(&self, position: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, rewind) }, self.this, position)
    }

    /// The same with a position that a user wrote.
    pub fn reset(&self, position: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, reset) }, self.this, position)
    }

    /// Asks whether the outside can be reached.
    pub fn ping(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, ping) }, self.this)
    }

    /// Positions of the emissions so far that had one, in order.
    pub fn positions(&self) -> Vec<Owned> {
        self.host.context.said().positions.clone()
    }

    /// Tokens of the emissions so far that had one, in order.
    pub fn tokens(&self) -> Vec<u64> {
        self.host.context.said().tokens.clone()
    }

    /// Tells the source that all rules are done with an emission.
    pub fn acknowledge(&self, token: u64) {
        self.host.context.acknowledge(token);
    }

    /// Rows emitted so far.
    pub fn rows(&self) -> Vec<Record> {
        self.host.context.said().rows.clone()
    }

    /// Messages emitted so far.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.host.context.said().messages.clone()
    }

    /// Errors reported so far.
    pub fn errors(&self) -> Vec<String> {
        self.host.context.said().errors.clone()
    }

    /// Whether it said that there will be no more.
    pub fn ended(&self) -> bool {
        self.host.context.said().ended
    }

    /// Closes.
    pub fn close(&self) -> Result<()> {
        self.host.context.stop();
        self.host.step(unsafe { has!(self.table, close) }, self.this)
    }
}

impl Drop for SourceTest<'_> {
    fn drop(&mut self) {
        unsafe {
            if let Some(destroy) = has!(self.table, destroy) {
                destroy(self.this);
            }
        }
    }
}

/// What the thread of a source needs.
struct Instance(*mut c_void, *const abi::Context);

// SAFETY: an instance may be called by any thread, one at a time.
unsafe impl Send for Instance {}
