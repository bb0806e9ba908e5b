//! What the engine offers to a plugin: the log, the status of its connection, state, counters, templates, secrets, a folder.

use std::mem::ManuallyDrop;
use std::path::PathBuf;

use crate::abi;
use crate::abi::{code, level, status};
use crate::error::{Error, Result, Texts};
use crate::value::{lent_text, Arena, Owned, Value};

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

    pub(crate) fn raw(&self) -> *const abi::Context {
        self.raw
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

    /// Number of the call among those of plugins' functions in the statement, from 0; 0 for sources and sinks.
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

    /// Adds to a counter in the state, and returns what it then is.
    pub fn count(&self, key: &str, by: i64) -> i64 {
        // SAFETY: as in `clone`.
        unsafe { has!(self.raw, count).map_or(0, |count| count(self.raw, abi::Str::new(key), by)) }
    }

    /// A counter in the state.
    pub fn counter(&self, key: &str) -> i64 {
        self.count(key, 0)
    }

    /// What a template (`{{.room}}/{{.n}}`) comes to for a row (an object) or for several (an array).
    pub fn template(&self, text: &str, data: &Owned) -> Result<String> {
        // SAFETY: as in `clone`.
        let entry = unsafe { has!(self.raw, template) };
        match self.asked(entry.map(|ask| (ask, text)), data)? {
            Owned::Text(text) => Ok(text),
            other => Ok(other.to_string()),
        }
    }

    /// What a JSON path (`$.rooms[0].name`) finds in a value.
    pub fn json_path(&self, path: &str, data: &Owned) -> Result<Owned> {
        // SAFETY: as in `clone`.
        let entry = unsafe { has!(self.raw, json_path) };
        self.asked(entry.map(|ask| (ask, path)), data)
    }

    fn asked(&self, entry: Option<(Asked, &str)>, data: &Owned) -> Result<Owned> {
        let (ask, text) = entry.ok_or_else(|| Error::never("this engine does not offer it"))?;
        let (mut got, mut wrong) = (Taken::default(), Texts::default());
        let mut arena = Arena::default();
        let lent = arena.lend(data);
        // SAFETY: as in `clone`; all pointers live until the call returns.
        match unsafe { ask(self.raw, abi::Str::new(text), &lent, &got.output(), &wrong.fault()) } {
            code::OK => got.one().ok_or_else(|| Error::bug("the engine gave no value")),
            failed => Err(wrong.error(failed)),
        }
    }

    /// The secret of that name from the configuration of the server. It is never to be logged.
    pub fn secret(&self, name: &str) -> Result<String> {
        let mut got = Taken::default();
        let output = got.output();
        // SAFETY: as in `state`.
        unsafe { has!(self.raw, secret).map(|ask| ask(self.raw, abi::Str::new(name), &output)) };
        match got.one() {
            Some(Owned::Text(text)) => Ok(text),
            _ => Err(Error::never(format!("there is no secret `{}`; add it to `secrets` of the configuration", name))),
        }
    }

    /// A folder of the plugin's own, where also the files of its `etc` are. It goes when the plugin is removed.
    pub fn folder(&self) -> Result<PathBuf> {
        let mut got = Taken::default();
        let output = got.output();
        // SAFETY: as in `state`.
        unsafe { has!(self.raw, folder).map(|ask| ask(self.raw, &output)) };
        match got.one() {
            Some(Owned::Text(text)) => Ok(PathBuf::from(text)),
            _ => Err(Error::later("there is no folder for the plugin")),
        }
    }

    /// Which of several instances of the operator this is.
    pub fn instance(&self) -> u64 {
        // SAFETY: as in `clone`.
        unsafe { since!(self.raw, instance, 0) }
    }

    /// How often the rule was started since the server was, this time included.
    pub fn run(&self) -> u64 {
        // SAFETY: as in `clone`.
        unsafe { since!(self.raw, run, 0) }
    }
}

/// What is asked with a text and a value.
type Asked = unsafe extern "C" fn(
    this: *const abi::Context,
    text: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32;

/// Collects what the other side puts.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) values: Vec<std::result::Result<Owned, String>>,
}

impl Taken {
    /// The last value that was put.
    pub(crate) fn one(mut self) -> Option<Owned> {
        self.values.pop().and_then(std::result::Result::ok)
    }

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
