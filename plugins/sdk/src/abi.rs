//! The line between engine and plugin: C structs, and nothing else.
//!
//! Rules that hold for every struct here:
//! * it starts with its own `size` (those that are elements of arrays do not grow and have none), and fields are only appended: who reads a
//!   field checks first that `size` reaches it (`has!`, `since!`); a missing tail means "older", and is no error;
//! * entries are `Option<unsafe extern "C" fn>`: null where a side does not offer it;
//! * text is pointer and length, UTF-8, never ended by NUL; everything that a pointer leads to is borrowed for the call, unless said otherwise;
//! * whoever allocates frees: results are handed to an object of the receiver ([`Output`], [`Context`]), which copies;
//! * no unwinding crosses; a failure is a code, and its text goes to the [`Fault`] of the call;
//! * an instance is called by one thread at a time; the functions of a [`Context`] may be called by any thread.
//!
//! `kuiper.h` says the same for C; a test compares both.

mod constants;
mod tables;
mod values;

use std::os::raw::c_void;

pub use constants::{code, kind, level, status, tag};
pub use tables::{Answers, Function, Group, Lookup, Provision, Rewind, Sink, Source, Step};

/// Grows when something is changed that a plugin built before could not survive.
pub const MAJOR: u16 = 1;
/// Grows when something is appended.
pub const MINOR: u16 = 2;
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
    /// For a sink: an object of the properties that are templates, evaluated for these rows; or null. Names are paths, `headers.token`. Since 1.1.
    pub properties: *const Value,
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
    /// For a sink: `count` objects of the properties that are templates, evaluated for each message; or null. Since 1.2.
    pub properties: *const Value,
}

/// What else there is to say of what a source emits. Since 1.2.
#[repr(C)]
pub struct Emission {
    /// Bytes of this struct.
    pub size: u32,
    /// No flag is known yet.
    pub flags: u32,
    /// Where the source stands after it, for [`Source::rewind`]; or null.
    pub position: *const Value,
    /// By what [`Context::acknowledged`] names it when all rules are done with it; 0 where nobody wants to know.
    pub token: u64,
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
    /// Number of the call among those of plugins' functions in the statement, from 0; 0 for sources and sinks.
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
    /// Sources: `emit_rows`, and what else there is to say of them. This and all below: since 1.2.
    pub emit_rows_with:
        Option<unsafe extern "C" fn(this: *const Context, batch: *const Batch, emission: *const Emission) -> u32>,
    /// Sources: `emit_bytes`, and what else there is to say of them.
    pub emit_bytes_with:
        Option<unsafe extern "C" fn(this: *const Context, messages: *const Messages, emission: *const Emission) -> u32>,
    /// Sources: puts, as integers, the tokens of emissions that all rules are done with; waits at most so long for the first.
    /// `STOPPED` when the rule is being stopped. Only one thread at a time should ask.
    pub acknowledged: Option<unsafe extern "C" fn(this: *const Context, nanos: u64, into: *const Output) -> u32>,
    /// Puts what a template (`{{.room}}`) comes to for the data, a row or a list of rows.
    pub template: Option<
        unsafe extern "C" fn(
            this: *const Context,
            text: Str,
            data: *const Value,
            into: *const Output,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Puts what a JSON path (`$.a[0].b`) finds in the data.
    pub json_path: Option<
        unsafe extern "C" fn(
            this: *const Context,
            path: Str,
            data: *const Value,
            into: *const Output,
            fault: *const Fault,
        ) -> u32,
    >,
    /// Adds to a counter in the state, and returns what it then is; 0 reads it.
    pub count: Option<unsafe extern "C" fn(this: *const Context, key: Str, by: i64) -> i64>,
    /// Puts the secret of that name from the configuration of the server; `NEVER` if there is none.
    pub secret: Option<unsafe extern "C" fn(this: *const Context, name: Str, into: *const Output) -> u32>,
    /// Puts the path of a folder that is the plugin's own, and is made where it is missing; `NEVER` where there is no data folder.
    pub folder: Option<unsafe extern "C" fn(this: *const Context, into: *const Output) -> u32>,
    /// Which of several instances of the operator this is; 0 where there is one.
    pub instance: u64,
    /// How often the rule was started since the server was, this time included; 0 where the use belongs to no rule.
    pub run: u64,
}

/// A property that a source, sink or lookup knows.
#[repr(C)]
pub struct Property {
    /// Bytes of this struct.
    pub size: u32,
    /// [`kind::REQUIRED`], [`kind::SECRET`], [`kind::DYNAMIC`].
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
    /// Sources and sinks: the plugin's name, first letter upper case. Lookups: the same and `Lookup`. Functions: the name in SQL.
    pub name: Str,
    /// One sentence.
    pub about: Str,
    /// The plugin's own, handed to `create`.
    pub data: *mut c_void,
    /// A [`Source`], [`Sink`], [`Lookup`] or [`Function`].
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
    /// Version of the state that it writes (`state_put`, `save`, positions); 0: nothing is said of it. Since 1.2.
    pub state_version: u32,
    /// The oldest version of state that it can still read; it can read all up to its own. Since 1.2.
    pub state_oldest: u32,
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

/// Reads a field, which is no function, of a sized struct behind a pointer; the default where the other side is too old to have it.
///
/// # Safety
/// As [`has!`](crate::has!).
#[macro_export]
macro_rules! since {
    ($pointer:expr, $field:ident, $default:expr) => {{
        let pointer = $pointer;
        let field = std::ptr::addr_of!((*pointer).$field);
        if (*pointer).size as usize >= field as usize - pointer as usize + $crate::abi::size_behind(field) {
            field.read()
        } else {
            $default
        }
    }};
}

/// Size of what a pointer leads to.
#[doc(hidden)]
pub const fn size_behind<T>(_: *const T) -> usize {
    std::mem::size_of::<T>()
}
