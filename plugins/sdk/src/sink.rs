//! Sinks: where rows go. A [`Sink`] takes rows, a [`BytesSink`] messages that the engine has encoded.

use std::os::raw::c_void;

use crate::abi;
use crate::context::Context;
use crate::entries::create;
use crate::error::{entry, freed, Error, Result};
use crate::messages::{Encoded, Messages};
use crate::props::Properties;
use crate::rows::{Row, Rows};
use crate::value::{put, Owned};

/// A sink. The engine calls `provision`, `connect`, then the collects, then `close`; one thread at a time, not always the same.
pub trait Sink: Send + 'static {
    /// The properties, decoded. `()` where there are none.
    type Config: Properties;

    /// Whether a list of one row may come as a row, for it is all the same to this sink: many of them then come in one go.
    const ONE_AS_ROW: bool = false;

    /// Whether it can take back what was taken after a position (`position`, `resume`); then nothing is there twice after a crash.
    const TAKES_BACK: bool = false;

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

    /// What was taken so far is to be where it belongs when this returns; called after each run of collects. For writers that keep a file
    /// or a transaction open.
    fn flush(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Where what was taken so far ends, for a sink that declares [`TAKES_BACK`](Sink::TAKES_BACK).
    fn position(&mut self, context: &Context) -> Result<Option<Owned>> {
        let _ = context;
        Ok(None)
    }

    /// Takes back all that was taken after this position, also by an earlier instance. Called after `connect` and before the first collect.
    fn resume(&mut self, context: &Context, position: Owned) -> Result<()> {
        let _ = (context, position);
        Err(Error::never("this sink cannot take anything back"))
    }

    /// Says whether the outside can be reached with these properties. Called after `provision`, on an instance that does nothing else.
    fn ping(&mut self, context: &Context) -> Result<()> {
        let reached = self.connect(context);
        self.close(context).and(reached)
    }

    /// Ends it. Called once, also where `connect` failed.
    fn close(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }
}

/// A sink that takes messages which the engine has encoded, and compressed where the user wants it, as `format` and its like say.
pub trait BytesSink: Send + 'static {
    /// The properties, decoded. `()` where there are none.
    type Config: Properties;

    /// Whether it can take back what was taken after a position (`position`, `resume`); then nothing is there twice after a crash.
    const TAKES_BACK: bool = false;

    /// Takes the properties. No input or output here: it is also called to validate a rule that never runs.
    fn provision(&mut self, context: &Context, config: Self::Config) -> Result<()>;

    /// Reaches the outside; may wait. An error that is `later` is tried again.
    fn connect(&mut self, context: &Context) -> Result<()> {
        context.connected();
        Ok(())
    }

    /// Takes one message.
    fn collect(&mut self, context: &Context, message: Encoded<'_>) -> Result<()>;

    /// Takes messages in order; `done` counts those that were taken, also where it then fails.
    fn collect_all(&mut self, context: &Context, messages: Messages<'_>, done: &mut usize) -> Result<()> {
        for message in messages.iter() {
            self.collect(context, message)?;
            *done += 1;
        }
        Ok(())
    }

    /// What was taken so far is to be where it belongs when this returns; called after each run of collects. For writers that keep a file
    /// or a transaction open.
    fn flush(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Where what was taken so far ends, for a sink that declares [`TAKES_BACK`](BytesSink::TAKES_BACK).
    fn position(&mut self, context: &Context) -> Result<Option<Owned>> {
        let _ = context;
        Ok(None)
    }

    /// Takes back all that was taken after this position, also by an earlier instance. Called after `connect` and before the first collect.
    fn resume(&mut self, context: &Context, position: Owned) -> Result<()> {
        let _ = (context, position);
        Err(Error::never("this sink cannot take anything back"))
    }

    /// Says whether the outside can be reached with these properties. Called after `provision`, on an instance that does nothing else.
    fn ping(&mut self, context: &Context) -> Result<()> {
        let reached = self.connect(context);
        self.close(context).and(reached)
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
        provision: Some(rows::provision::<S>),
        connect: Some(rows::connect::<S>),
        collect: Some(rows::collect::<S>),
        collect_list: Some(rows::collect_list::<S>),
        close: Some(rows::close::<S>),
        destroy: Some(freed::<S>),
        collect_bytes: None,
        flush: Some(rows::flush::<S>),
        position: if S::TAKES_BACK { Some(rows::position::<S>) } else { None },
        resume: if S::TAKES_BACK { Some(rows::resume::<S>) } else { None },
        ping: Some(rows::ping::<S>),
    }
}

pub(crate) fn bytes_table<S: BytesSink>() -> abi::Sink {
    abi::Sink {
        size: std::mem::size_of::<abi::Sink>() as u32,
        reserved: 0,
        create: Some(create::<S>),
        provision: Some(bytes::provision::<S>),
        connect: Some(bytes::connect::<S>),
        collect: None,
        collect_list: None,
        close: Some(bytes::close::<S>),
        destroy: Some(freed::<S>),
        collect_bytes: Some(bytes::collect::<S>),
        flush: Some(bytes::flush::<S>),
        position: if S::TAKES_BACK { Some(bytes::position::<S>) } else { None },
        resume: if S::TAKES_BACK { Some(bytes::resume::<S>) } else { None },
        ping: Some(bytes::ping::<S>),
    }
}

// In all entries below: `this` came from `create`, all other pointers are valid for the call, as the contract says.

/// What [`Sink`] and [`BytesSink`] have alike.
macro_rules! entries_of_both {
    ($kind:ident) => {
        entries!($kind: provision; step connect flush close ping; position resume);

        pub(super) unsafe extern "C" fn position<S: $kind>(
            this: *mut c_void,
            context: *const abi::Context,
            into: *const abi::Output,
            fault: *const abi::Fault,
        ) -> u32 {
            entry(fault, || {
                if let Some(position) = (*(this as *mut S)).position(&Context::lent(context))? {
                    put(into, &position);
                }
                Ok(())
            })
        }
    };
}

mod rows {
    use super::*;

    entries_of_both!(Sink);

    pub(super) unsafe extern "C" fn collect<S: Sink>(
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

    pub(super) unsafe extern "C" fn collect_list<S: Sink>(
        this: *mut c_void,
        context: *const abi::Context,
        rows: *const abi::Batch,
        fault: *const abi::Fault,
    ) -> u32 {
        entry(fault, || (*(this as *mut S)).collect_list(&Context::lent(context), Rows::lent(rows), &Refused { fault }))
    }
}

mod bytes {
    use super::*;

    entries_of_both!(BytesSink);

    pub(super) unsafe extern "C" fn collect<S: BytesSink>(
        this: *mut c_void,
        context: *const abi::Context,
        messages: *const abi::Messages,
        done: *mut usize,
        fault: *const abi::Fault,
    ) -> u32 {
        entry(fault, || {
            *done = 0;
            (*(this as *mut S)).collect_all(&Context::lent(context), Messages::lent(messages), &mut *done)
        })
    }
}
