//! The numbers of the contract: codes, tags, kinds and flags, levels and states.

/// What a call returns.
pub mod code {
    /// Done.
    pub const OK: u32 = 0;
    /// Something outside failed (a server is away): the same call may succeed later.
    pub const LATER: u32 = 1;
    /// The same call can never succeed: the input, or the properties, are to blame.
    pub const NEVER: u32 = 2;
    /// The plugin is to blame: a panic, or a broken promise.
    pub const BUG: u32 = 3;
    /// The rule is being stopped: return soon.
    pub const STOPPED: u32 = 4;
}

/// What a [`Value`](super::Value) is.
pub mod tag {
    /// SQL's NULL.
    pub const NULL: u32 = 0;
    /// `data.int` is 0 or 1.
    pub const BOOL: u32 = 1;
    /// `data.int`.
    pub const INT: u32 = 2;
    /// `data.float`.
    pub const FLOAT: u32 = 3;
    /// `data.pointer` to `len` bytes of UTF-8.
    pub const TEXT: u32 = 4;
    /// `data.pointer` to `len` bytes.
    pub const BYTES: u32 = 5;
    /// `data.int` nanoseconds since 1970-01-01T00:00:00Z; `extra` is the offset of the zone it is shown in, in seconds east.
    pub const TIME: u32 = 6;
    /// `data.pointer` to `len` [`Value`](super::super::Value)s.
    pub const ARRAY: u32 = 7;
    /// `data.pointer` to `len` [`Member`](super::super::Member)s.
    pub const OBJECT: u32 = 8;
    /// Only as a cell of a [`Batch`](super::super::Batch): this row has no such column (which is not NULL).
    pub const MISSING: u32 = 9;
}

/// What a [`Symbol`](super::Symbol) is, and how its instances are made.
pub mod kind {
    /// `table` is a [`Source`](super::super::Source).
    pub const SOURCE: u32 = 1;
    /// `table` is a [`Sink`](super::super::Sink).
    pub const SINK: u32 = 2;
    /// `table` is a [`Lookup`](super::super::Lookup).
    pub const LOOKUP: u32 = 3;
    /// `table` is a [`Function`](super::super::Function).
    pub const FUNCTION: u32 = 4;

    /// Each use (a rule's source or sink, a call in a statement) has an instance of its own.
    pub const CONSTRUCTOR: u32 = 0;
    /// One instance serves all rules; the engine sees to it that one thread at a time is in it.
    pub const SINGLETON: u32 = 1;

    /// Flag of a source or lookup: it gives messages that the format decodes, not rows.
    pub const EMITS_BYTES: u32 = 1;
    /// Flag of a source: the engine calls `pull` on each interval, and never `subscribe`.
    pub const PULLED: u32 = 2;
    /// Flag of a function: it takes the rows of a group (`start`, `add`, `result`), not one row.
    pub const AGGREGATE: u32 = 4;
    /// Flag of a sink: a list of one row may come as a row.
    pub const ONE_AS_ROW: u32 = 32;
    /// Flag of a property: it must be given.
    pub const REQUIRED: u32 = 8;
    /// Flag of a property: its value is never shown.
    pub const SECRET: u32 = 16;
    /// Flag of a sink's property: it may hold a template; see [`Batch::properties`](super::super::Batch::properties). Since 1.1.
    pub const DYNAMIC: u32 = 64;
    /// Flag of a sink: it takes messages that the engine has encoded (`collect_bytes`), not rows. Since 1.2.
    pub const TAKES_BYTES: u32 = 128;
}

/// Levels of [`Context::log`](super::Context::log).
pub mod level {
    /// Something failed.
    pub const ERROR: u32 = 1;
    /// Something is odd.
    pub const WARN: u32 = 2;
    /// Something that an operator wants to know.
    pub const INFO: u32 = 3;
    /// Something that the author of the plugin wants to know.
    pub const DEBUG: u32 = 4;
}

/// States of [`Context::status`](super::Context::status).
pub mod status {
    /// The peer cannot be reached.
    pub const DISCONNECTED: u32 = 0;
    /// An attempt is under way.
    pub const CONNECTING: u32 = 1;
    /// The peer answers.
    pub const CONNECTED: u32 = 2;
}
