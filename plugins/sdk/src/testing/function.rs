//! An instance of a function under test.
//!
//! The table lives as long as the process, `this` until `drop`, the rest until a call returns: that is why what is `unsafe` here holds.

use std::cell::Cell;
use std::os::raw::c_void;

use super::Host;
use crate::abi;
use crate::abi::code;
use crate::context::Taken;
use crate::error::{Error, Result, Texts};
use crate::value::{Arena, Owned};

/// An instance of a function: a call in a statement.
pub struct FunctionTest<'h> {
    pub(super) host: &'h Host,
    pub(super) table: *const abi::Function,
    pub(super) this: *mut c_void,
    pub(super) group: Cell<*mut c_void>,
}

impl FunctionTest<'_> {
    /// Asks whether these arguments will do; one that is no constant is `None`.
    pub fn validate(&self, arguments: &[Option<Owned>]) -> Result<()> {
        let mut arena = Arena::default();
        let lent: Vec<abi::Value> = arguments
            .iter()
            .map(|argument| argument.as_ref().map_or(abi::Value::MISSING, |value| arena.lend(value)))
            .collect();
        self.host.entry(unsafe { has!(self.table, validate) }, |call, fault| unsafe {
            call(self.this, lent.as_ptr(), lent.len(), fault)
        })
    }

    /// The value for one row of arguments.
    pub fn call(&self, arguments: &[Owned]) -> Result<Owned> {
        let crossing = Arguments::new(arguments);
        let mut taken = Taken::default();
        let output = taken.output();
        self.host.entry(unsafe { has!(self.table, call) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &crossing.batch(), &output, fault)
        })?;
        one(taken)
    }

    /// Takes a row of arguments into the group of an aggregate function; the first starts it.
    pub fn add(&self, arguments: &[Owned]) -> Result<()> {
        if self.group.get().is_null() {
            let mut text = Texts::default();
            let start = unsafe { has!(self.table, start) };
            let start = start.ok_or_else(|| Error::bug("the plugin does not have this entry"))?;
            self.group.set(unsafe { start(self.this, &text.fault()) });
            if self.group.get().is_null() {
                return Err(text.error(code::BUG));
            }
        }
        let crossing = Arguments::new(arguments);
        self.host.entry(unsafe { has!(self.table, add) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), self.group.get(), &crossing.batch(), fault)
        })
    }

    /// The result of the group.
    pub fn result(&self) -> Result<Owned> {
        self.asked(unsafe { has!(self.table, result) })
    }

    /// What of the group is kept over a restart.
    pub fn save(&self) -> Result<Owned> {
        self.asked(unsafe { has!(self.table, save) })
    }

    fn asked(&self, entry: Option<abi::Group>) -> Result<Owned> {
        let mut taken = Taken::default();
        let output = taken.output();
        self.host.entry(entry, |call, fault| unsafe {
            call(self.this, self.host.raw(), self.group.get(), &output, fault)
        })?;
        one(taken)
    }

    /// A group as it was saved, in the place of the one that was there.
    pub fn load(&self, saved: &Owned) -> Result<()> {
        let mut arena = Arena::default();
        let (lent, mut text) = (arena.lend(saved), Texts::default());
        let load = unsafe { has!(self.table, load) };
        let load = load.ok_or_else(|| Error::bug("the plugin does not have this entry"))?;
        let group = unsafe { load(self.this, &lent, &text.fault()) };
        if group.is_null() {
            return Err(text.error(code::BUG));
        }
        self.discard();
        self.group.set(group);
        Ok(())
    }

    fn discard(&self) {
        unsafe {
            if let (Some(discard), false) = (has!(self.table, discard), self.group.get().is_null()) {
                discard(self.this, self.group.get());
            }
        }
    }
}

impl Drop for FunctionTest<'_> {
    fn drop(&mut self) {
        self.discard();
        unsafe {
            if let Some(destroy) = has!(self.table, destroy) {
                destroy(self.this);
            }
        }
    }
}

fn one(mut taken: Taken) -> Result<Owned> {
    match (taken.values.pop(), taken.values.len()) {
        (Some(Ok(value)), 0) => Ok(value),
        (Some(Err(text)), 0) => Err(Error::never(text)),
        (_, _) => Err(Error::bug("the function did not put exactly one value")),
    }
}

/// One row of arguments.
struct Arguments {
    values: Vec<abi::Value>,
    _arena: Arena,
}

impl Arguments {
    fn new(arguments: &[Owned]) -> Arguments {
        let mut arena = Arena::default();
        Arguments { values: arguments.iter().map(|argument| arena.lend(argument)).collect(), _arena: arena }
    }

    fn batch(&self) -> abi::Batch {
        abi::Batch {
            size: std::mem::size_of::<abi::Batch>() as u32,
            flags: 0,
            columns: std::ptr::null(),
            width: self.values.len(),
            height: 1,
            values: self.values.as_ptr(),
            times: std::ptr::null(),
            metas: std::ptr::null(),
            properties: std::ptr::null(),
        }
    }
}
