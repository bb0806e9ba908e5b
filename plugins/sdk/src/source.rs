//! Sources: where rows come from. A [`Source`] pushes, a [`PullSource`] is asked on each interval.

use std::os::raw::c_void;

use crate::abi;
use crate::context::Context;
use crate::emitter::Emitter;
use crate::entries::create;
use crate::error::{entry, freed, Error, Result};
use crate::props::Properties;
use crate::value::{Owned, Time};

/// What a source hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emits {
    /// Rows, as they are.
    Rows,
    /// Messages, which the stream's format decodes.
    Bytes,
}

/// A source that emits by itself.
pub trait Source: Send + 'static {
    /// The properties, decoded. `()` where there are none.
    type Config: Properties;

    /// What it hands on.
    const EMITS: Emits = Emits::Rows;

    /// Whether it goes back to a position that it told with an [`Emission`](crate::Emission); then `rewind` is needed. A rule with
    /// `qos` 1 or 2 keeps the position, and goes on behind it after a crash.
    const REWINDS: bool = false;

    /// Takes the properties. No input or output here: it is also called to validate a rule that never runs.
    fn provision(&mut self, context: &Context, config: Self::Config) -> Result<()>;

    /// Reaches the outside; may wait. An error that is `later` is tried again.
    fn connect(&mut self, context: &Context) -> Result<()> {
        context.connected();
        Ok(())
    }

    /// Emits, on a thread that the engine keeps for it, until there is no more or the emitter says that the rule is being stopped.
    /// It may also hand the emitter to a thread of its own and return; that thread ends soon after the rule is stopped.
    fn subscribe(&mut self, context: &Context, out: Emitter) -> Result<()>;

    /// Goes back to where an earlier instance stood: what was emitted up to this position is not emitted again, all that came after it
    /// is. Called after `connect` and before anything is emitted.
    fn rewind(&mut self, context: &Context, position: Owned) -> Result<()> {
        let _ = (context, position);
        Err(Error::never("this source cannot go back to a position"))
    }

    /// The same with a position that a user wrote.
    fn reset(&mut self, context: &Context, position: Owned) -> Result<()> {
        self.rewind(context, position)
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

/// A source that is asked: when the rule starts, and then on each `interval`.
pub trait PullSource: Send + 'static {
    /// The properties, decoded; `interval` is the engine's. `()` where there are none.
    type Config: Properties;

    /// What it hands on.
    const EMITS: Emits = Emits::Rows;

    /// Whether it goes back to a position that it told with an [`Emission`](crate::Emission); then `rewind` is needed. A rule with
    /// `qos` 1 or 2 keeps the position, and goes on behind it after a crash.
    const REWINDS: bool = false;

    /// Takes the properties. No input or output here: it is also called to validate a rule that never runs.
    fn provision(&mut self, context: &Context, config: Self::Config) -> Result<()>;

    /// Reaches the outside; may wait. An error that is `later` is tried again.
    fn connect(&mut self, context: &Context) -> Result<()> {
        context.connected();
        Ok(())
    }

    /// Emits what there is; `at` is the time of the interval.
    fn pull(&mut self, context: &Context, at: Time, out: &Emitter) -> Result<()>;

    /// Goes back to where an earlier instance stood: what was emitted up to this position is not emitted again, all that came after it
    /// is. Called after `connect` and before anything is emitted.
    fn rewind(&mut self, context: &Context, position: Owned) -> Result<()> {
        let _ = (context, position);
        Err(Error::never("this source cannot go back to a position"))
    }

    /// The same with a position that a user wrote.
    fn reset(&mut self, context: &Context, position: Owned) -> Result<()> {
        self.rewind(context, position)
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

pub(crate) fn flags(emits: Emits, pulled: bool) -> u32 {
    let bytes = if emits == Emits::Bytes { abi::kind::EMITS_BYTES } else { 0 };
    bytes | if pulled { abi::kind::PULLED } else { 0 }
}

pub(crate) fn pushing<S: Source>() -> abi::Source {
    abi::Source {
        size: std::mem::size_of::<abi::Source>() as u32,
        reserved: 0,
        create: Some(create::<S>),
        provision: Some(push::provision::<S>),
        connect: Some(push::connect::<S>),
        subscribe: Some(push::subscribe::<S>),
        pull: None,
        close: Some(push::close::<S>),
        destroy: Some(freed::<S>),
        rewind: if S::REWINDS { Some(push::rewind::<S>) } else { None },
        reset: if S::REWINDS { Some(push::reset::<S>) } else { None },
        ping: Some(push::ping::<S>),
    }
}

pub(crate) fn pulled<S: PullSource>() -> abi::Source {
    abi::Source {
        size: std::mem::size_of::<abi::Source>() as u32,
        reserved: 0,
        create: Some(create::<S>),
        provision: Some(pull::provision::<S>),
        connect: Some(pull::connect::<S>),
        subscribe: None,
        pull: Some(pull::pull::<S>),
        close: Some(pull::close::<S>),
        destroy: Some(freed::<S>),
        rewind: if S::REWINDS { Some(pull::rewind::<S>) } else { None },
        reset: if S::REWINDS { Some(pull::reset::<S>) } else { None },
        ping: Some(pull::ping::<S>),
    }
}

// In all entries below: `this` came from `create`, all other pointers are valid for the call, as the contract says.

mod push {
    use super::*;

    entries!(Source: provision; step connect close ping; position rewind reset);

    pub(super) unsafe extern "C" fn subscribe<S: Source>(
        this: *mut c_void,
        context: *const abi::Context,
        fault: *const abi::Fault,
    ) -> u32 {
        entry(fault, || {
            let context = Context::lent(context);
            (*(this as *mut S)).subscribe(&context, Emitter::new(&context))
        })
    }
}

mod pull {
    use super::*;

    entries!(PullSource: provision; step connect close ping; position rewind reset);

    pub(super) unsafe extern "C" fn pull<S: PullSource>(
        this: *mut c_void,
        context: *const abi::Context,
        at: i64,
        fault: *const abi::Fault,
    ) -> u32 {
        entry(fault, || {
            let context = Context::lent(context);
            (*(this as *mut S)).pull(&context, Time::utc(at), &Emitter::new(&context))
        })
    }
}
