//! The line between engine and plugin: C structs, and nothing else.
//!
//! Rules that hold for every struct here:
//! * it starts with its own `size` (those that are elements of arrays do not grow and have none), and fields are only appended: who reads a
//!   field checks first that `size` reaches it (`has!`); a missing tail means "older", and is no error;
//! * entries are `Option<unsafe extern "C" fn>`: null where a side does not offer it;
//! * text is pointer and length, UTF-8, never ended by NUL; everything that a pointer leads to is borrowed for the call, unless said otherwise;
//! * whoever allocates frees: results are handed to an object of the receiver ([`Output`], [`Context`]), which copies;
//! * no unwinding crosses; a failure is a code, and its text goes to the [`Fault`] of the call;
//! * an instance is called by one thread at a time; the functions of a [`Context`] may be called by any thread.
//!
//! `kuiper.h` says the same for C; a test compares both.

use std::os::raw::c_void;

/// Grows when something is changed that a plugin built before could not survive.
pub const MAJOR: u16 = 1;
/// Grows when something is appended.
pub const MINOR: u16 = 0;
/// Both, as they stand in [`Plugin::abi`] and [`Context::abi`].
pub const VERSION: u32 = (MAJOR as u32) << 16 | MINOR as u32;

/// The one function that a plugin exports, of type [`Entry`].
pub const ENTRY_SYMBOL: &str = "kuiper_plugin_v1";
/// The one variable that a plugin exports: sixteen bytes, [`MARKER`].
pub const MARKER_SYMBOL: &str = "KUIPER_PLUGIN_ABI";
/// Read from the file before anything of it is executed: eight letters, then major and minor, little end first.
pub const MARKER: [u8; 16] = marker();

const fn marker() -> [u8; 16] {
    let mut marker = *b"KUIPER.P\0\0\0\0\0\0\0\0";
    let (major, minor) = (MAJOR.to_le_bytes(), MINOR.to_le_bytes());
    (marker[8], marker[9], marker[10], marker[11]) = (major[0], major[1], minor[0], minor[1]);
    marker
}

/// Type of [`ENTRY_SYMBOL`]. What it returns lives as long as the process.
pub type Entry = unsafe extern "C" fn() -> *const Plugin;

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

/// What a [`Value`] is.
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
    /// `data.pointer` to `len` [`Value`](super::Value)s.
    pub const ARRAY: u32 = 7;
    /// `data.pointer` to `len` [`Member`](super::Member)s.
    pub const OBJECT: u32 = 8;
    /// Only as a cell of a [`Batch`](super::Batch): this row has no such column (which is not NULL).
    pub const MISSING: u32 = 9;
}

/// What a [`Symbol`] is, and how its instances are made.
pub mod kind {
    /// `table` is a [`Source`](super::Source).
    pub const SOURCE: u32 = 1;
    /// `table` is a [`Sink`](super::Sink).
    pub const SINK: u32 = 2;
    /// Reserved for lookup sources (`MysqlLookup`).
    pub const LOOKUP: u32 = 3;
    /// `table` is a [`Function`](super::Function).
    pub const FUNCTION: u32 = 4;

    /// Each use (a rule's source or sink, a call in a statement) has an instance of its own.
    pub const CONSTRUCTOR: u32 = 0;
    /// One instance serves all rules; the engine sees to it that one thread at a time is in it.
    pub const SINGLETON: u32 = 1;

    /// Flag of a source: it emits messages that the stream's format decodes, not rows.
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
}

/// Levels of [`Context::log`].
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

/// States of [`Context::status`].
pub mod status {
    /// The peer cannot be reached.
    pub const DISCONNECTED: u32 = 0;
    /// An attempt is under way.
    pub const CONNECTING: u32 = 1;
    /// The peer answers.
    pub const CONNECTED: u32 = 2;
}

/// In [`Batch::times`] and [`Messages::times`]: the time of this row is that of its arrival.
pub const NO_TIME: i64 = i64::MIN;

/// Text (UTF-8) or bytes. `pointer` may be null where `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Str {
    /// First byte.
    pub pointer: *const u8,
    /// Number of bytes.
    pub len: usize,
}

/// A tagged value of 24 bytes, on every machine.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    /// One of [`tag`].
    pub tag: u32,
    /// Offset of a time; else 0.
    pub extra: i32,
    /// Number of bytes, elements or members; else 0.
    pub len: u64,
    /// The value, or where it is.
    pub data: Data,
}

/// The payload of a [`Value`], as its tag says.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Data {
    /// Booleans, integers, times.
    pub int: i64,
    /// Floats.
    pub float: f64,
    /// Text, bytes, arrays, objects.
    pub pointer: *const c_void,
}

/// A member of an object.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Member {
    /// Its key.
    pub key: Str,
    /// Its value.
    pub value: Value,
}

/// Rows by columns. What crosses the line is always a batch, never a row.
#[repr(C)]
pub struct Batch {
    /// Bytes of this struct.
    pub size: u32,
    /// No flag is known yet.
    pub flags: u32,
    /// `width` names; null for the arguments of a function.
    pub columns: *const Str,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// `height * width` values, row after row.
    pub values: *const Value,
    /// `height` times of the rows, in nanoseconds since 1970, or [`NO_TIME`]; or null.
    pub times: *const i64,
    /// `height` objects of metadata; or null.
    pub metas: *const Value,
}

/// Messages that the stream's format decodes.
#[repr(C)]
pub struct Messages {
    /// Bytes of this struct.
    pub size: u32,
    /// No flag is known yet.
    pub flags: u32,
    /// Number of messages.
    pub count: usize,
    /// `count` payloads.
    pub payloads: *const Str,
    /// `count` times, in nanoseconds since 1970, or [`NO_TIME`]; or null.
    pub times: *const i64,
    /// `count` objects of metadata; or null.
    pub metas: *const Value,
}

/// Where the text of a failure goes; it belongs to the caller, for the call.
#[repr(C)]
pub struct Fault {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The caller's own.
    pub host: *mut c_void,
    /// Says why the call fails; the last text wins.
    pub set: Option<unsafe extern "C" fn(this: *const Fault, code: u32, text: Str)>,
    /// Says that row number `row` of the batch was refused, while the call goes on with the others.
    pub row: Option<unsafe extern "C" fn(this: *const Fault, row: usize, code: u32, text: Str)>,
}

/// Where values go; it belongs to the receiver, for the call, and copies what it is handed.
#[repr(C)]
pub struct Output {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The receiver's own.
    pub host: *mut c_void,
    /// Takes the next `count` values.
    pub put: Option<unsafe extern "C" fn(this: *const Output, values: *const Value, count: usize)>,
    /// Takes an error in the place of the next value.
    pub fail: Option<unsafe extern "C" fn(this: *const Output, text: Str)>,
}

/// What the engine offers to one use of a plugin. Valid during the call that hands it over, and as long as it is retained.
#[repr(C)]
pub struct Context {
    /// Bytes of this struct.
    pub size: u32,
    /// [`VERSION`] of the engine.
    pub abi: u32,
    /// The engine's own.
    pub host: *mut c_void,
    /// Id of the rule; empty where the use belongs to no rule.
    pub rule: Str,
    /// Name of the source, sink or function in the rule.
    pub operator: Str,
    /// Number of the call in the statement; 0 for sources and sinks.
    pub site: u64,
    /// Keeps the context beyond the call; each needs its `release`.
    pub retain: Option<unsafe extern "C" fn(this: *const Context)>,
    /// Gives back what was retained.
    pub release: Option<unsafe extern "C" fn(this: *const Context)>,
    /// Writes a line to the log; see [`level`].
    pub log: Option<unsafe extern "C" fn(this: *const Context, level: u32, text: Str)>,
    /// Reports a connection; see [`status`].
    pub status: Option<unsafe extern "C" fn(this: *const Context, status: u32, text: Str)>,
    /// Puts the state stored under the key, if any; `NEVER` if there is none.
    pub state_get: Option<unsafe extern "C" fn(this: *const Context, key: Str, into: *const Output) -> u32>,
    /// Stores a state; NULL deletes it.
    pub state_put: Option<unsafe extern "C" fn(this: *const Context, key: Str, value: *const Value) -> u32>,
    /// Sources: hands on rows. Waits while the rules are busy; `STOPPED` ends the source.
    pub emit_rows: Option<unsafe extern "C" fn(this: *const Context, batch: *const Batch) -> u32>,
    /// Sources: hands on messages, as `emit_rows`.
    pub emit_bytes: Option<unsafe extern "C" fn(this: *const Context, messages: *const Messages) -> u32>,
    /// Sources: reports a message that could not be read; the source goes on.
    pub emit_error: Option<unsafe extern "C" fn(this: *const Context, text: Str) -> u32>,
    /// Sources: there will be no more.
    pub emit_end: Option<unsafe extern "C" fn(this: *const Context) -> u32>,
    /// 1 when the rule is being stopped.
    pub stopped: Option<unsafe extern "C" fn(this: *const Context) -> u32>,
    /// Waits for so many nanoseconds; returns 1 at once when the rule is being stopped.
    pub wait: Option<unsafe extern "C" fn(this: *const Context, nanos: u64) -> u32>,
}

/// Functions of a source. Order: `create`, `provision`, `connect`, then `subscribe` once or `pull` often, `close`, `destroy`.
#[repr(C)]
pub struct Source {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`]; null where that failed.
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
}

/// `provision` of sources and sinks.
pub type Provision = unsafe extern "C" fn(
    this: *mut c_void,
    context: *const Context,
    properties: *const Value,
    fault: *const Fault,
) -> u32;

/// A step in the life of a source or sink.
pub type Step = unsafe extern "C" fn(this: *mut c_void, context: *const Context, fault: *const Fault) -> u32;

/// Functions of a sink. Order: `create`, `provision`, `connect`, the collects, `close`, `destroy`.
#[repr(C)]
pub struct Sink {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`]; null where that failed.
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
}

/// Functions of a function: `call` of a scalar one; `start` to `discard` of an aggregate.
#[repr(C)]
pub struct Function {
    /// Bytes of this struct.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Makes an instance out of [`Symbol::data`]; null where that failed.
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

/// A property that a source or sink knows.
#[repr(C)]
pub struct Property {
    /// Bytes of this struct.
    pub size: u32,
    /// [`kind::REQUIRED`], [`kind::SECRET`].
    pub flags: u32,
    /// Its name.
    pub name: Str,
    /// What it means.
    pub about: Str,
    /// What is expected, in words: `an integer`, `a list of texts`.
    pub expects: Str,
    /// Its default as JSON; empty where there is none.
    pub default: Str,
}

/// A call, as it is written in SQL, and its result as JSON.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Example {
    /// `geohashEncode(51.5, 0.1)`.
    pub call: Str,
    /// `"u10hb5403uy9"`.
    pub result: Str,
}

/// One thing that a plugin offers.
#[repr(C)]
pub struct Symbol {
    /// Bytes of this struct.
    pub size: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// [`kind::CONSTRUCTOR`] or [`kind::SINGLETON`].
    pub export: u32,
    /// Flags of [`kind`].
    pub flags: u32,
    /// Sources and sinks: the plugin's name, first letter upper case. Functions: the name in SQL.
    pub name: Str,
    /// One sentence.
    pub about: Str,
    /// The plugin's own, handed to `create`.
    pub data: *mut c_void,
    /// A [`Source`], [`Sink`] or [`Function`].
    pub table: *const c_void,
    /// `properties_count` pointers.
    pub properties: *const *const Property,
    /// Number of properties.
    pub properties_count: usize,
    /// Functions: `(float, float) -> text`.
    pub signature: Str,
    /// Functions: `examples_count` examples.
    pub examples: *const Example,
    /// Number of examples.
    pub examples_count: usize,
}

/// All that a library offers.
#[repr(C)]
pub struct Plugin {
    /// Bytes of this struct.
    pub size: u32,
    /// [`VERSION`] that it was built with.
    pub abi: u32,
    /// Name of the project.
    pub name: Str,
    /// Version of the project.
    pub version: Str,
    /// What it was built with: `rust 1.0.0`.
    pub sdk: Str,
    /// `count` pointers.
    pub symbols: *const *const Symbol,
    /// Number of symbols.
    pub count: usize,
}

/// Reads a field of a sized struct behind a pointer: its value, or `None` where the other side is too old to have it.
///
/// # Safety
/// Used in an `unsafe` block: the pointer leads to a struct of this contract that is at least as long as its `size` says.
#[macro_export]
macro_rules! has {
    ($pointer:expr, $field:ident) => {{
        let pointer = $pointer;
        let end = std::ptr::addr_of!((*pointer).$field) as usize - pointer as usize
            + $crate::abi::size_behind(std::ptr::addr_of!((*pointer).$field));
        if (*pointer).size as usize >= end {
            (*pointer).$field
        } else {
            None
        }
    }};
}

/// Size of what a pointer leads to.
#[doc(hidden)]
pub const fn size_behind<T>(_: *const T) -> usize {
    std::mem::size_of::<T>()
}

impl Str {
    /// Borrows text.
    pub const fn new(text: &str) -> Str {
        Str { pointer: text.as_ptr(), len: text.len() }
    }

    /// Borrows bytes.
    pub const fn bytes(bytes: &[u8]) -> Str {
        Str { pointer: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// `pointer` leads to `len` bytes that live and stay as they are for `'a`.
    pub unsafe fn as_bytes<'a>(self) -> &'a [u8] {
        if self.pointer.is_null() {
            return &[];
        }
        std::slice::from_raw_parts(self.pointer, self.len)
    }

    /// The text; what is not UTF-8 is replaced.
    ///
    /// # Safety
    /// As [`Str::as_bytes`].
    pub unsafe fn to_text(self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

impl Value {
    /// NULL.
    pub const NULL: Value = Value { tag: tag::NULL, extra: 0, len: 0, data: Data { int: 0 } };
    /// A cell that the row does not have.
    pub const MISSING: Value = Value { tag: tag::MISSING, extra: 0, len: 0, data: Data { int: 0 } };

    /// A boolean.
    pub const fn bool(value: bool) -> Value {
        Value { tag: tag::BOOL, extra: 0, len: 0, data: Data { int: value as i64 } }
    }

    /// An integer.
    pub const fn int(value: i64) -> Value {
        Value { tag: tag::INT, extra: 0, len: 0, data: Data { int: value } }
    }

    /// A float.
    pub const fn float(value: f64) -> Value {
        Value { tag: tag::FLOAT, extra: 0, len: 0, data: Data { float: value } }
    }

    /// Text, borrowed.
    pub const fn text(value: &str) -> Value {
        Value::pointed(tag::TEXT, value.as_ptr() as *const c_void, value.len())
    }

    /// Bytes, borrowed.
    pub const fn bytes(value: &[u8]) -> Value {
        Value::pointed(tag::BYTES, value.as_ptr() as *const c_void, value.len())
    }

    /// Nanoseconds since 1970, and the offset of the zone in seconds east.
    pub const fn time(nanos: i64, offset: i32) -> Value {
        Value { tag: tag::TIME, extra: offset, len: 0, data: Data { int: nanos } }
    }

    /// Elements, borrowed.
    pub const fn array(elements: &[Value]) -> Value {
        Value::pointed(tag::ARRAY, elements.as_ptr() as *const c_void, elements.len())
    }

    /// Members, borrowed.
    pub const fn object(members: &[Member]) -> Value {
        Value::pointed(tag::OBJECT, members.as_ptr() as *const c_void, members.len())
    }

    const fn pointed(tag: u32, pointer: *const c_void, len: usize) -> Value {
        Value { tag, extra: 0, len: len as u64, data: Data { pointer } }
    }
}
