//! Sinks: where rows go.

use std::os::raw::c_void;

use crate::abi;
use crate::context::Context;
use crate::error::{entry, freed, made, Result};
use crate::export::Maker;
use crate::props::{Properties, Props};
use crate::rows::{Row, Rows};
use crate::value::Value;

/// A sink. The engine calls `provision`, `connect`, then the collects, then `close`; one thread at a time, not always the same.
pub trait Sink: Send + 'static {
    /// The properties, decoded. `()` where there are none.
    type Config: Properties;

    /// Whether a list of one row may come as a row, for it is all the same to this sink: many of them then come in one go.
    const ONE_AS_ROW: bool = false;

    /// Takes the properties. No input or output here: it is also called to validate a rule that never runs.
    fn provision(&mut self, context: &Context, config: Self::Config) -> Result<()>;

    /// Reaches the outside; may wait. An error that is `later` is tried again.
    fn connect(&mut self, context: &Context) -> Result<()> {
        context.connected();
        Ok(())
    }

    /// Takes one row.
    fn collect(&mut self, context: &Context, row: Row<'_>) -> Result<()>;

    /// Takes rows that have nothing to do with each other, in order; `done` counts those that were taken, also where it then fails.
    fn collect_all(&mut self, context: &Context, rows: Rows<'_>, done: &mut usize) -> Result<()> {
        for row in rows {
            self.collect(context, row)?;
            *done += 1;
        }
        Ok(())
    }

    /// Takes rows that belong together, a window's: all of them or none, save those that are refused one by one.
    fn collect_list(&mut self, context: &Context, rows: Rows<'_>, refused: &Refused) -> Result<()> {
        let _ = refused;
        rows.iter().try_for_each(|row| self.collect(context, row))
    }

    /// Ends it. Called once, also where `connect` failed.
    fn close(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }
}

/// Where `collect_list` says which rows can never be taken; the others count as taken.
pub struct Refused {
    fault: *const abi::Fault,
}

impl Refused {
    /// Row number `row` of the list can never be taken.
    pub fn row(&self, row: usize, why: impl AsRef<str>) {
        if self.fault.is_null() {
            return;
        }
        // SAFETY: the fault is valid for the call that runs.
        unsafe {
            if let Some(refuse) = has!(self.fault, row) {
                refuse(self.fault, row, abi::code::NEVER, abi::Str::new(why.as_ref()));
            }
        }
    }
}

pub(crate) fn table<S: Sink>() -> abi::Sink {
    abi::Sink {
        size: std::mem::size_of::<abi::Sink>() as u32,
        reserved: 0,
        create: Some(create::<S>),
        provision: Some(provision::<S>),
        connect: Some(connect::<S>),
        collect: Some(collect::<S>),
        collect_list: Some(collect_list::<S>),
        close: Some(close::<S>),
        destroy: Some(freed::<S>),
    }
}

// In all entries below: `this` came from `create`, all other pointers are valid for the call, as the contract says.

unsafe extern "C" fn create<S: Sink>(data: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    made(fault, || Ok((*(data as *const Maker<S>))()))
}

unsafe extern "C" fn provision<S: Sink>(
    this: *mut c_void,
    context: *const abi::Context,
    properties: *const abi::Value,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || {
        let mut props = Props::new(Value::lent(&*properties));
        let config = S::Config::decode(&mut props)?;
        props.finish()?;
        (*(this as *mut S)).provision(&Context::lent(context), config)
    })
}

unsafe extern "C" fn connect<S: Sink>(
    this: *mut c_void,
    context: *const abi::Context,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || (*(this as *mut S)).connect(&Context::lent(context)))
}

unsafe extern "C" fn collect<S: Sink>(
    this: *mut c_void,
    context: *const abi::Context,
    rows: *const abi::Batch,
    done: *mut usize,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || {
        *done = 0;
        (*(this as *mut S)).collect_all(&Context::lent(context), Rows::lent(rows), &mut *done)
    })
}

unsafe extern "C" fn collect_list<S: Sink>(
    this: *mut c_void,
    context: *const abi::Context,
    rows: *const abi::Batch,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || (*(this as *mut S)).collect_list(&Context::lent(context), Rows::lent(rows), &Refused { fault }))
}

unsafe extern "C" fn close<S: Sink>(this: *mut c_void, context: *const abi::Context, fault: *const abi::Fault) -> u32 {
    entry(fault, || (*(this as *mut S)).close(&Context::lent(context)))
}
