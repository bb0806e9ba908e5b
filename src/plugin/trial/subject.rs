//! An instance under trial, and what its calls return.

use std::ffi::c_void;
use std::sync::Arc;

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;

use crate::data::Value;
use crate::plugin::cross::Arena;
use crate::plugin::library::Symbol;

use super::desk::{Desk, Texts};
use super::{Bench, Stop, failed, skipped};

/// What a call that kept the contract came to.
pub struct Said {
    pub code: u32,
    /// Why it failed; empty where it did not.
    pub text: String,
    /// Rows that were refused one by one.
    pub refused: Vec<usize>,
}

impl Said {
    pub fn is_ok(&self) -> bool {
        self.code == code::OK
    }

    /// The same, or a failed check.
    pub fn ok(self, what: &str) -> Result<Said, Stop> {
        if self.is_ok() { Ok(self) } else { failed(format!("`{what}` failed: {}", self.text)) }
    }

    /// Refused for good: the input or the properties are to blame.
    pub fn refused(self, what: &str) -> Result<String, Stop> {
        match self.code {
            code::NEVER => Ok(self.text),
            code::OK => failed(format!("{what} is taken without a word")),
            other => failed(format!("{what} is answered with {}, and can never succeed: {}", name(other), self.text)),
        }
    }
}

fn name(code: u32) -> &'static str {
    ["OK", "LATER", "NEVER", "BUG", "STOPPED"].get(code as usize).copied().unwrap_or("no code")
}

/// Calls an entry, and looks at what it returns.
pub fn called(what: &str, desk: &Desk, call: impl FnOnce(*const abi::Fault) -> u32) -> Result<Said, Stop> {
    let mut texts = Texts::default();
    let code = desk.within(|| call(&texts.fault()));
    desk.judged()?;
    if let Some(wrong) = texts.wrong {
        return failed(format!("`{what}`: {wrong}"));
    }
    let text = texts.text.unwrap_or_default();
    match code {
        code::OK | code::STOPPED => Ok(Said { code, text, refused: texts.rows }),
        code::BUG => failed(format!("`{what}` says that the plugin has a bug: {text}")),
        code::LATER | code::NEVER if text.trim().is_empty() => {
            failed(format!("`{what}` returned {} and did not say why", name(code)))
        }
        code::LATER | code::NEVER => Ok(Said { code, text, refused: texts.rows }),
        other => failed(format!("`{what}` returned {other}, which is no code")),
    }
}

type Create = unsafe extern "C" fn(*mut c_void, *const abi::Fault) -> *mut c_void;
type Destroy = unsafe extern "C" fn(*mut c_void);

/// The entries that all kinds with a life have.
#[derive(Clone, Copy)]
pub struct Entries {
    pub create: Option<Create>,
    pub provision: Option<abi::Provision>,
    pub connect: Option<abi::Step>,
    pub close: Option<abi::Step>,
    pub destroy: Option<Destroy>,
    pub ping: Option<abi::Step>,
}

macro_rules! read {
    ($table:expr) => {{
        let table = $table;
        Entries {
            create: has!(table, create),
            provision: has!(table, provision),
            connect: has!(table, connect),
            close: has!(table, close),
            destroy: has!(table, destroy),
            ping: has!(table, ping),
        }
    }};
}

pub fn entries(symbol: &Symbol) -> Entries {
    // SAFETY: the kind says what the table is.
    unsafe {
        match symbol.kind {
            kind::SOURCE => read!(symbol.table.cast::<abi::Source>()),
            kind::SINK => read!(symbol.table.cast::<abi::Sink>()),
            kind::LOOKUP => read!(symbol.table.cast::<abi::Lookup>()),
            _ => {
                let table = symbol.table.cast::<abi::Function>();
                let (create, destroy) = (has!(table, create), has!(table, destroy));
                Entries { create, provision: None, connect: None, close: None, destroy, ping: None }
            }
        }
    }
}

/// An instance; it is destroyed with the value.
pub struct Subject<'b> {
    pub bench: &'b Bench,
    pub this: *mut c_void,
    pub desk: Arc<Desk>,
    entries: Entries,
}

// SAFETY: the contract: an instance may be called by any thread, one at a time, and this is not cloned.
unsafe impl Send for Subject<'_> {}

impl<'b> Subject<'b> {
    pub fn create(bench: &'b Bench) -> Result<Subject<'b>, Stop> {
        Subject::at(bench, Desk::new(bench.symbol.flags & kind::EMITS_BYTES != 0))
    }

    /// One that talks to this desk.
    pub fn at(bench: &'b Bench, desk: Arc<Desk>) -> Result<Subject<'b>, Stop> {
        let entries = entries(&bench.symbol);
        let Some(create) = entries.create else { return failed("its table has no `create`") };
        let mut texts = Texts::default();
        // SAFETY: the contract: `create` takes the symbol's own data.
        let this = desk.within(|| unsafe { create(bench.symbol.data, &texts.fault()) });
        if this.is_null() {
            let told = texts.text.unwrap_or_else(|| "and it did not say why".to_owned());
            return failed(format!("`create` made nothing: {told}"));
        }
        Ok(Subject { bench, this, desk, entries })
    }

    pub fn provision(&self, props: &Value) -> Result<Said, Stop> {
        let Some(provision) = self.entries.provision else { return failed("its table has no `provision`") };
        let mut arena = Arena::default();
        let lent = arena.lend(props);
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        called("provision", &self.desk, |fault| unsafe { provision(self.this, self.desk.raw(), &lent, fault) })
    }

    /// Provisions it with what the trial was given.
    pub fn provisioned(self) -> Result<Subject<'b>, Stop> {
        let said = self.provision(&self.bench.props)?;
        if said.is_ok() {
            return Ok(self);
        }
        skipped(format!("it needs other properties, give them with --props: {}", said.text))
    }

    pub fn connect(&self) -> Result<Said, Stop> {
        self.step("connect", self.entries.connect)
    }

    /// Connects; where that cannot be, what was to come is skipped.
    pub fn connected(self) -> Result<Subject<'b>, Stop> {
        let subject = self.provisioned()?;
        let said = subject.connect()?;
        if said.is_ok() {
            return Ok(subject);
        }
        subject.close()?;
        skipped(format!("it cannot connect: {}", said.text))
    }

    pub fn close(&self) -> Result<Said, Stop> {
        self.desk.stop();
        self.step("close", self.entries.close)
    }

    pub fn ping(&self) -> Option<Result<Said, Stop>> {
        self.entries.ping.map(|ping| self.step("ping", Some(ping)))
    }

    /// A step; an entry that is not there has nothing to do.
    fn step(&self, what: &str, step: Option<abi::Step>) -> Result<Said, Stop> {
        let Some(step) = step else {
            return Ok(Said { code: code::OK, text: String::new(), refused: Vec::new() });
        };
        // SAFETY: as in `provision`.
        called(what, &self.desk, |fault| unsafe { step(self.this, self.desk.raw(), fault) })
    }

    /// Destroys it, and sees that it gives back what it kept.
    pub fn done(self) -> Result<(), Stop> {
        let desk = self.desk.clone();
        drop(self);
        desk.released()
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        if let Some(destroy) = self.entries.destroy {
            // SAFETY: `this` came from `create` of the same table, and is not used again.
            self.desk.within(|| unsafe { destroy(self.this) });
        }
    }
}
