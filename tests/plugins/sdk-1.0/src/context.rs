//! What the engine offers to a plugin: the log, the status of its connection, state, and, for sources, the way out.

use std::mem::ManuallyDrop;
use std::time::Duration;

use crate::abi;
use crate::abi::{code, level, status};
use crate::error::{Error, Result};
use crate::rows::{Batch, Lent};
use crate::value::{lent_text, Arena, Owned, Record, Time, Value};

/// One use of a plugin, seen from the inside. A clone may be kept, and used by any thread.
pub struct Context {
    raw: *const abi::Context,
}

// SAFETY: the contract: the functions of a context may be called by any thread, and a retained one stays valid.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Clone for Context {
    fn clone(&self) -> Context {
        // SAFETY: `raw` is valid: it is either lent for the call that runs, or retained.
        unsafe {
            if let Some(retain) = has!(self.raw, retain) {
                retain(self.raw);
            }
        }
        Context { raw: self.raw }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: each `Context` that is dropped was retained once.
        unsafe {
            if let Some(release) = has!(self.raw, release) {
                release(self.raw);
            }
        }
    }
}

impl Context {
    /// Wraps a context for the length of a call: it is not released at the end.
    ///
    /// # Safety
    /// `raw` is valid for the call.
    pub(crate) unsafe fn lent(raw: *const abi::Context) -> ManuallyDrop<Context> {
        ManuallyDrop::new(Context { raw })
    }

    /// Id of the rule.
    pub fn rule(&self) -> &str {
        // SAFETY: as in `clone`; the text lives as long as the context.
        lent_text(unsafe { (*self.raw).rule })
    }

    /// Name of this source, sink or function in the rule.
    pub fn operator(&self) -> &str {
        // SAFETY: as in `rule`.
        lent_text(unsafe { (*self.raw).operator })
    }

    /// Number of the call in the statement.
    pub fn site(&self) -> u64 {
        // SAFETY: as in `rule`.
        unsafe { (*self.raw).site }
    }

    /// Something failed.
    pub fn error(&self, text: impl AsRef<str>) {
        self.log(level::ERROR, text.as_ref());
    }

    /// Something is odd.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.log(level::WARN, text.as_ref());
    }

    /// Something that an operator wants to know.
    pub fn info(&self, text: impl AsRef<str>) {
        self.log(level::INFO, text.as_ref());
    }

    /// Something that the author of the plugin wants to know.
    pub fn debug(&self, text: impl AsRef<str>) {
        self.log(level::DEBUG, text.as_ref());
    }

    fn log(&self, level: u32, text: &str) {
        // SAFETY: as in `clone`.
        unsafe {
            if let Some(log) = has!(self.raw, log) {
                log(self.raw, level, abi::Str::new(text));
            }
        }
    }

    /// Reports an attempt to connect.
    pub fn connecting(&self) {
        self.status(status::CONNECTING, "");
    }

    /// Reports that the peer answers.
    pub fn connected(&self) {
        self.status(status::CONNECTED, "");
    }

    /// Reports that the peer cannot be reached, and why.
    pub fn disconnected(&self, why: impl AsRef<str>) {
        self.status(status::DISCONNECTED, why.as_ref());
    }

    fn status(&self, status: u32, text: &str) {
        // SAFETY: as in `clone`.
        unsafe {
            if let Some(report) = has!(self.raw, status) {
                report(self.raw, status, abi::Str::new(text));
            }
        }
    }

    /// The state stored under a key by this use of the plugin.
    pub fn state(&self, key: &str) -> Option<Owned> {
        let mut got = Taken::default();
        let output = got.output();
        // SAFETY: as in `clone`; `output` lives until the call returns.
        let code = unsafe { has!(self.raw, state_get).map(|get| get(self.raw, abi::Str::new(key), &output)) };
        match code {
            Some(code::OK) => got.values.pop().and_then(std::result::Result::ok),
            _ => None,
        }
    }

    /// Stores a state; it is saved with the rule.
    pub fn set_state(&self, key: &str, value: impl Into<Owned>) {
        let value = value.into();
        let mut arena = Arena::default();
        let lent = arena.lend(&value);
        // SAFETY: as in `state`.
        unsafe {
            if let Some(put) = has!(self.raw, state_put) {
                put(self.raw, abi::Str::new(key), &lent);
            }
        }
    }

    /// Forgets a state.
    pub fn delete_state(&self, key: &str) {
        self.set_state(key, Owned::Null);
    }
}

/// Collects what the other side puts.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) values: Vec<std::result::Result<Owned, String>>,
}

impl Taken {
    /// Valid as long as `self` is not moved.
    pub(crate) fn output(&mut self) -> abi::Output {
        unsafe extern "C" fn put(this: *const abi::Output, values: *const abi::Value, count: usize) {
            let taken = &mut *((*this).host as *mut Taken);
            for n in 0..count {
                taken.values.push(Ok(Value::lent(&*values.add(n)).to_owned()));
            }
        }
        unsafe extern "C" fn fail(this: *const abi::Output, text: abi::Str) {
            let taken = &mut *((*this).host as *mut Taken);
            taken.values.push(Err(text.to_text()));
        }
        abi::Output {
            size: std::mem::size_of::<abi::Output>() as u32,
            reserved: 0,
            host: self as *mut Taken as *mut _,
            put: Some(put),
            fail: Some(fail),
        }
    }
}

/// The way out of a source. A clone may be kept, and used by any thread.
#[derive(Clone)]
pub struct Emitter {
    context: Context,
}

impl Emitter {
    pub(crate) fn new(context: &Context) -> Emitter {
        Emitter { context: context.clone() }
    }

    /// Hands on rows; waits while the rules are busy. An error means that the rule is being stopped.
    pub fn rows(&self, batch: &Batch) -> Result<()> {
        let lent = Lent::new(batch);
        let crossing = lent.batch();
        // SAFETY: the context is retained; the batch lives until the call returns.
        self.sent(unsafe { has!(self.context.raw, emit_rows).map(|emit| emit(self.context.raw, &crossing)) })
    }

    /// Hands on one row, as [`rows`](Emitter::rows).
    pub fn row(&self, row: Record) -> Result<()> {
        self.rows(&row.into())
    }

    /// Hands on one message, which the stream's format decodes.
    pub fn bytes(&self, message: &[u8]) -> Result<()> {
        self.bytes_with(message, None, Record::new())
    }

    /// The same with the time at which it happened, and with metadata.
    pub fn bytes_with(&self, message: &[u8], time: Option<Time>, meta: Record) -> Result<()> {
        let payload = abi::Str::bytes(message);
        let time = time.map_or(abi::NO_TIME, |time| time.nanos);
        let meta = Owned::Object(meta);
        let mut arena = Arena::default();
        let lent = arena.lend(&meta);
        let messages = abi::Messages {
            size: std::mem::size_of::<abi::Messages>() as u32,
            flags: 0,
            count: 1,
            payloads: &payload,
            times: &time,
            metas: &lent,
        };
        // SAFETY: as in `rows`.
        self.sent(unsafe { has!(self.context.raw, emit_bytes).map(|emit| emit(self.context.raw, &messages)) })
    }

    /// Reports something that could not be read; the source goes on.
    pub fn error(&self, text: impl AsRef<str>) -> Result<()> {
        let text = abi::Str::new(text.as_ref());
        // SAFETY: as in `rows`.
        self.sent(unsafe { has!(self.context.raw, emit_error).map(|emit| emit(self.context.raw, text)) })
    }

    /// Says that there will be no more.
    pub fn end(&self) -> Result<()> {
        // SAFETY: as in `rows`.
        self.sent(unsafe { has!(self.context.raw, emit_end).map(|emit| emit(self.context.raw)) })
    }

    /// Whether the rule is being stopped.
    pub fn stopped(&self) -> bool {
        // SAFETY: as in `rows`.
        unsafe { has!(self.context.raw, stopped).map_or(false, |stopped| stopped(self.context.raw) != 0) }
    }

    /// Waits; true as soon as the rule is being stopped.
    pub fn wait(&self, time: Duration) -> bool {
        // SAFETY: as in `rows`.
        match unsafe { has!(self.context.raw, wait) } {
            Some(wait) => {
                let nanos = time.as_nanos().min(u128::from(u64::MAX)) as u64;
                // SAFETY: as in `rows`.
                unsafe { wait(self.context.raw, nanos) != 0 }
            }
            None => {
                std::thread::sleep(time);
                self.stopped()
            }
        }
    }

    fn sent(&self, code: Option<u32>) -> Result<()> {
        match code {
            Some(code::OK) => Ok(()),
            Some(code::STOPPED) => Err(Error::stopped()),
            Some(code) => Err(Error::of(code, "the engine refused what the source emits".to_owned())),
            None => Err(Error::never("this engine takes no such emissions")),
        }
    }
}
