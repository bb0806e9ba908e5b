//! The tables of functions that stand behind a [`Symbol`](super::Symbol): one struct for each kind.

use std::os::raw::c_void;

use super::{Batch, Context, Fault, Messages, Output, Str, Value};

/// Functions of a source. Order: `create`, `provision`, `connect`, where there is a position `rewind`, then `subscribe` once or `pull` often,
/// `close`, `destroy`.
#[repr(C)]
pub struct Source {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`](super::Symbol::data); null where that failed.
    pub create: Option<unsafe extern "C" fn(data: *mut c_void, fault: *const Fault) -> *mut c_void>,
    /// Takes the properties, an object; no input or output here, for it is also called to validate a rule.
    pub provision: Option<Provision>,
    /// Reaches the outside; may wait.
    pub connect: Option<Step>,
    /// Emits until there is no more or `stopped`; may also return at once and emit from a thread of its own.
    pub subscribe: Option<Step>,
    /// Emits what is there at that time (nanoseconds since 1970).
    pub pull:
        Option<unsafe extern "C" fn(this: *mut c_void, context: *const Context, at: i64, fault: *const Fault) -> u32>,
    /// Ends it; called once also when `connect` failed.
    pub close: Option<Step>,
    /// Frees the instance.
    pub destroy: Option<unsafe extern "C" fn(this: *mut c_void)>,
    /// Goes back to where an earlier instance stood after an emission with this position. Since 1.2, as all below.
    pub rewind: Option<Rewind>,
    /// The same with a position that a user gave.
    pub reset: Option<Rewind>,
    /// Says whether the outside can be reached with these properties; called after `provision`, without `connect`.
    pub ping: Option<Step>,
}

/// `provision` of sources, sinks and lookups.
pub type Provision = unsafe extern "C" fn(
    this: *mut c_void,
    context: *const Context,
    properties: *const Value,
    fault: *const Fault,
) -> u32;

/// A step in the life of a source, sink or lookup.
pub type Step = unsafe extern "C" fn(this: *mut c_void, context: *const Context, fault: *const Fault) -> u32;

/// Takes a position.
pub type Rewind = unsafe extern "C" fn(
    this: *mut c_void,
    context: *const Context,
    position: *const Value,
    fault: *const Fault,
) -> u32;

/// Functions of a sink. Order: `create`, `provision`, `connect`, the collects, `close`, `destroy`.
#[repr(C)]
pub struct Sink {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`](super::Symbol::data); null where that failed.
    pub create: Option<unsafe extern "C" fn(data: *mut c_void, fault: *const Fault) -> *mut c_void>,
    /// Takes the properties, an object; no input or output here, for it is also called to validate a rule.
    pub provision: Option<Provision>,
    /// Reaches the outside; may wait.
    pub connect: Option<Step>,
    /// Takes rows that have nothing to do with each other. `done` says how many were taken before the one that failed the call.
    pub collect: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            rows: *const Batch,
            done: *mut usize,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Takes rows that belong together (a window's): all or none, save those refused by [`Fault::row`].
    pub collect_list: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            rows: *const Batch,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Ends it; called once also when `connect` failed.
    pub close: Option<Step>,
    /// Frees the instance.
    pub destroy: Option<unsafe extern "C" fn(this: *mut c_void)>,
    /// Takes encoded messages, in order, where the symbol has [`kind::TAKES_BYTES`](super::kind::TAKES_BYTES). `done` as in `collect`.
    /// Since 1.2, as all below.
    pub collect_bytes: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            messages: *const Messages,
            done: *mut usize,
            fault: *const Fault,
        ) -> u32,
    >,
    /// What was taken so far is to be where it belongs when this returns. Called after each run of collects.
    pub flush: Option<Step>,
    /// Puts where what was taken so far ends; nothing where what comes after it cannot be taken back.
    pub position: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            into: *const Output,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Takes back all that was taken after this position, also by an earlier instance. Called between `connect` and the first collect.
    pub resume: Option<Rewind>,
    /// Says whether the outside can be reached with these properties; called after `provision`, without `connect`.
    pub ping: Option<Step>,
}

/// Where a lookup puts what it has found; it belongs to the engine, for the call, and copies what it is handed. Since 1.2.
#[repr(C)]
pub struct Answers {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The engine's own.
    pub host: *mut c_void,
    /// Takes rows that answer question number `question`; several calls add up.
    pub rows: Option<unsafe extern "C" fn(this: *const Answers, question: usize, rows: *const Batch)>,
    /// Takes messages that answer question number `question`, each decoded by the table's format.
    pub bytes: Option<unsafe extern "C" fn(this: *const Answers, question: usize, messages: *const Messages)>,
}

/// Functions of a lookup. Order: `create`, `provision`, `connect`, the finds, `close`, `destroy`. Since 1.2.
#[repr(C)]
pub struct Lookup {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`](super::Symbol::data); null where that failed.
    pub create: Option<unsafe extern "C" fn(data: *mut c_void, fault: *const Fault) -> *mut c_void>,
    /// Takes the properties, an object; no input or output here, for it is also called to validate a table.
    pub provision: Option<Provision>,
    /// Reaches the outside; may wait.
    pub connect: Option<Step>,
    /// Answers questions. The columns of `keys` are the columns asked for, its rows the questions; no value is NULL. `fields` are the
    /// columns that are wanted of what is found; all where there is none.
    pub find: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            keys: *const Batch,
            fields: *const Str,
            fields_count: usize,
            into: *const Answers,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Ends it; called once also when `connect` failed.
    pub close: Option<Step>,
    /// Frees the instance.
    pub destroy: Option<unsafe extern "C" fn(this: *mut c_void)>,
    /// Says whether the outside can be reached with these properties; called after `provision`, without `connect`.
    pub ping: Option<Step>,
}

/// Functions of a function: `call` of a scalar one; `start` to `discard` of an aggregate.
#[repr(C)]
pub struct Function {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`](super::Symbol::data); null where that failed.
    pub create: Option<unsafe extern "C" fn(data: *mut c_void, fault: *const Fault) -> *mut c_void>,
    /// Says at planning whether these arguments will do; one that is no constant is MISSING.
    pub validate: Option<
        unsafe extern "C" fn(this: *mut c_void, arguments: *const Value, count: usize, fault: *const Fault) -> u32,
    >,
    /// Puts one value (or error) for each row of arguments.
    pub call: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            arguments: *const Batch,
            output: *const Output,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Makes the state of a group; null where that failed.
    pub start: Option<unsafe extern "C" fn(this: *mut c_void, fault: *const Fault) -> *mut c_void>,
    /// Takes rows of arguments into the group.
    pub add: Option<
        unsafe extern "C" fn(
            this: *mut c_void,
            context: *const Context,
            group: *mut c_void,
            arguments: *const Batch,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Puts the result of the group; more rows may follow.
    pub result: Option<Group>,
    /// Puts what `load` needs to make the group again.
    pub save: Option<Group>,
    /// Makes a group from what `save` put.
    pub load: Option<unsafe extern "C" fn(this: *mut c_void, saved: *const Value, fault: *const Fault) -> *mut c_void>,
    /// Frees the group.
    pub discard: Option<unsafe extern "C" fn(this: *mut c_void, group: *mut c_void)>,
    /// Frees the instance.
    pub destroy: Option<unsafe extern "C" fn(this: *mut c_void)>,
}

/// What puts something of a group.
pub type Group = unsafe extern "C" fn(
    this: *mut c_void,
    context: *const Context,
    group: *mut c_void,
    output: *const Output,
    fault: *const Fault,
) -> u32;
