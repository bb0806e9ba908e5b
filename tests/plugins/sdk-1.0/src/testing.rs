//! Tests of a plugin without an engine: this module plays the engine's part, over the same C ABI.
//!
//! ```
//! # use kuiper_plugin::{Context, Result, Row, Sink};
//! # #[derive(Default)]
//! # struct Count;
//! # impl Sink for Count {
//! #     type Config = ();
//! #     fn provision(&mut self, _: &Context, _: ()) -> Result<()> { Ok(()) }
//! #     fn collect(&mut self, context: &Context, _: Row<'_>) -> Result<()> { context.info("a row"); Ok(()) }
//! # }
//! # kuiper_plugin::export! { sink "Count" => constructor(Count::default) }
//! # fn main() -> Result<()> {
//! use kuiper_plugin::testing::{json, Host};
//!
//! let host = Host::load(kuiper_plugin_v1);
//! let sink = host.sink("Count")?;
//! sink.provision(json("{}"))?;
//! sink.connect()?;
//! sink.collect(&[json(r#"{"id": 1}"#)])?;
//! assert_eq!(host.log(), ["a row"]);
//! # Ok(())
//! # }
//! ```

mod engine;
mod example;
mod text;

use std::cell::Cell;
use std::os::raw::c_void;
use std::sync::Arc;
use std::time::Duration;

use crate::abi;
use crate::abi::{code, kind};
use crate::context::Taken;
use crate::error::{Error, Result};
use crate::rows::{Batch, Lent};
use crate::value::{Arena, Owned, Record};

use engine::Engine;

pub use text::json;

/// The engine's part: it holds a plugin, and keeps what the plugin says.
pub struct Host {
    plugin: *const abi::Plugin,
    context: Arc<Engine>,
}

impl Host {
    /// Takes the plugin that [`export!`](crate::export!) made: `Host::load(kuiper_plugin_v1)`.
    pub fn load(entry: extern "C" fn() -> *const abi::Plugin) -> Host {
        Host { plugin: entry(), context: Arc::new(Engine::new()) }
    }

    /// Lines of the log.
    pub fn log(&self) -> Vec<String> {
        self.context.said().log.clone()
    }

    /// Reports of the connection: 2 connected, 1 connecting, 0 disconnected; with the reason.
    pub fn statuses(&self) -> Vec<(u32, String)> {
        self.context.said().statuses.clone()
    }

    /// A stored state.
    pub fn state(&self, key: &str) -> Option<Owned> {
        self.context.said().state.get(key).cloned()
    }

    /// Names of all that the plugin offers.
    pub fn names(&self) -> Vec<String> {
        // SAFETY: the table lives as long as the process.
        self.symbols().map(|symbol| unsafe { (*symbol).name.to_text() }).collect()
    }

    /// A new instance of a sink.
    pub fn sink(&self, name: &str) -> Result<SinkTest<'_>> {
        let (table, this) = self.create::<abi::Sink>(name, kind::SINK, |table| {
            // SAFETY: the table lives as long as the process.
            unsafe { has!(table, create) }
        })?;
        Ok(SinkTest { host: self, table, this })
    }

    /// A new instance of a source.
    pub fn source(&self, name: &str) -> Result<SourceTest<'_>> {
        let (table, this) = self.create::<abi::Source>(name, kind::SOURCE, |table| {
            // SAFETY: as in `sink`.
            unsafe { has!(table, create) }
        })?;
        Ok(SourceTest { host: self, table, this })
    }

    /// A new instance of a function.
    pub fn function(&self, name: &str) -> Result<FunctionTest<'_>> {
        let (table, this) = self.create::<abi::Function>(name, kind::FUNCTION, |table| {
            // SAFETY: as in `sink`.
            unsafe { has!(table, create) }
        })?;
        Ok(FunctionTest { host: self, table, this, group: Cell::new(std::ptr::null_mut()) })
    }

    /// Executes the examples of all scalar functions; the first that does not hold is the error. Returns how many hold.
    pub fn examples(&self) -> Result<usize> {
        let mut count = 0;
        for symbol in self.symbols() {
            // SAFETY: as in `names`.
            let symbol = unsafe { &*symbol };
            if symbol.kind != kind::FUNCTION || symbol.flags & kind::AGGREGATE != 0 {
                continue;
            }
            for n in 0..symbol.examples_count {
                // SAFETY: as in `names`.
                let example = unsafe { *symbol.examples.add(n) };
                // SAFETY: as in `names`.
                let (call, result) = unsafe { (example.call.to_text(), example.result.to_text()) };
                example::holds(self, &call, &result)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn symbols(&self) -> impl Iterator<Item = *const abi::Symbol> + '_ {
        let count = if self.plugin.is_null() {
            0
        } else {
            // SAFETY: as in `names`.
            unsafe { (*self.plugin).count }
        };
        // SAFETY: as in `names`.
        (0..count).map(move |n| unsafe { *(*self.plugin).symbols.add(n) })
    }

    fn create<T>(
        &self,
        name: &str,
        kind: u32,
        create: impl Fn(*const T) -> Option<unsafe extern "C" fn(*mut c_void, *const abi::Fault) -> *mut c_void>,
    ) -> Result<(*const T, *mut c_void)> {
        let symbol = self
            .symbols()
            // SAFETY: as in `names`.
            .find(|symbol| unsafe { (**symbol).kind == kind && (**symbol).name.to_text() == name })
            .ok_or_else(|| {
                Error::never(format!("no `{}` of that kind; there is `{}`", name, self.names().join("`, `")))
            })?;
        // SAFETY: as in `names`; the kind says what the table is.
        let (table, data) = unsafe { ((*symbol).table as *const T, (*symbol).data) };
        let make = create(table).ok_or_else(|| Error::bug(format!("`{}` has no `create`", name)))?;
        let mut text = Texts::default();
        // SAFETY: the pointers live until the call returns.
        let this = unsafe { make(data, &text.fault()) };
        if this.is_null() {
            return Err(text.error(code::BUG));
        }
        Ok((table, this))
    }

    fn raw(&self) -> *const abi::Context {
        Arc::as_ptr(&self.context) as *const abi::Context
    }

    fn provision(&self, provision: Option<abi::Provision>, this: *mut c_void, properties: Owned) -> Result<()> {
        let mut arena = Arena::default();
        let lent = arena.lend(&properties);
        // SAFETY: the pointers live until the call returns.
        self.entry(provision, |call, fault| unsafe { call(this, self.raw(), &lent, fault) })
    }

    fn step(&self, step: Option<abi::Step>, this: *mut c_void) -> Result<()> {
        // SAFETY: as in `provision`.
        self.entry(step, |call, fault| unsafe { call(this, self.raw(), fault) })
    }

    fn entry<F>(&self, function: Option<F>, call: impl FnOnce(F, *const abi::Fault) -> u32) -> Result<()> {
        self.entry_refusing(function, call).map(|_| ())
    }

    fn entry_refusing<F>(
        &self,
        function: Option<F>,
        call: impl FnOnce(F, *const abi::Fault) -> u32,
    ) -> Result<Vec<(usize, String)>> {
        let function = function.ok_or_else(|| Error::bug("the plugin does not have this entry"))?;
        let mut text = Texts::default();
        match call(function, &text.fault()) {
            code::OK => Ok(text.rows),
            failed => Err(text.error(failed)),
        }
    }
}

/// Collects the texts of a call.
#[derive(Default)]
struct Texts {
    text: String,
    rows: Vec<(usize, String)>,
}

impl Texts {
    fn fault(&mut self) -> abi::Fault {
        unsafe extern "C" fn set(this: *const abi::Fault, _: u32, text: abi::Str) {
            (*((*this).host as *mut Texts)).text = text.to_text();
        }
        unsafe extern "C" fn row(this: *const abi::Fault, row: usize, _: u32, text: abi::Str) {
            (*((*this).host as *mut Texts)).rows.push((row, text.to_text()));
        }
        abi::Fault {
            size: std::mem::size_of::<abi::Fault>() as u32,
            reserved: 0,
            host: self as *mut Texts as *mut c_void,
            set: Some(set),
            row: Some(row),
        }
    }

    fn error(self, code: u32) -> Error {
        Error::of(code, self.text)
    }
}

/// An instance of a sink.
pub struct SinkTest<'h> {
    host: &'h Host,
    table: *const abi::Sink,
    this: *mut c_void,
}

// In the tests of sinks, sources and functions: the table lives as long as the process, `this` until `drop`, the rest until a call returns.

impl SinkTest<'_> {
    /// Hands over the properties, an object.
    pub fn provision(&self, properties: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, provision) }, self.this, properties)
    }

    /// Connects.
    pub fn connect(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, connect) }, self.this)
    }

    /// Hands over rows that have nothing to do with each other, each an object.
    pub fn collect(&self, rows: &[Owned]) -> Result<()> {
        let batch = batch(rows);
        let lent = Lent::new(&batch);
        let mut done = 0;
        self.host.entry(unsafe { has!(self.table, collect) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &lent.batch(), &mut done, fault)
        })
    }

    /// Hands over rows that belong together, each an object. Returns those that were refused, with the reason.
    pub fn collect_list(&self, rows: &[Owned]) -> Result<Vec<(usize, String)>> {
        let batch = batch(rows);
        let lent = Lent::new(&batch);
        self.host.entry_refusing(unsafe { has!(self.table, collect_list) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &lent.batch(), fault)
        })
    }

    /// Closes.
    pub fn close(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, close) }, self.this)
    }
}

impl Drop for SinkTest<'_> {
    fn drop(&mut self) {
        unsafe {
            if let Some(destroy) = has!(self.table, destroy) {
                destroy(self.this);
            }
        }
    }
}

fn batch(rows: &[Owned]) -> Batch {
    rows.iter()
        .map(|row| match row {
            Owned::Object(record) => record.clone(),
            other => Record::new().with("value", other.clone()),
        })
        .collect()
}

/// An instance of a source.
pub struct SourceTest<'h> {
    host: &'h Host,
    table: *const abi::Source,
    this: *mut c_void,
}

impl SourceTest<'_> {
    /// Hands over the properties, an object.
    pub fn provision(&self, properties: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, provision) }, self.this, properties)
    }

    /// Connects.
    pub fn connect(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, connect) }, self.this)
    }

    /// Lets a pull source emit once; what it emitted is in [`rows`](SourceTest::rows) or [`messages`](SourceTest::messages).
    pub fn pull(&self, at_nanos: i64) -> Result<()> {
        self.host.entry(unsafe { has!(self.table, pull) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), at_nanos, fault)
        })
    }

    /// Lets a source emit until it has emitted that many rows or messages; then it is told to stop. False if it did not in time.
    pub fn subscribe(&self, count: usize, time: Duration) -> Result<bool> {
        let instance = Instance(self.this, self.host.raw());
        let subscribe = unsafe { has!(self.table, subscribe) };
        let subscribe = subscribe.ok_or_else(|| Error::bug("the plugin does not have this entry"))?;
        let mut outcome = (code::OK, Texts::default());
        let mut enough = false;
        std::thread::scope(|scope| {
            let outcome = &mut outcome;
            scope.spawn(move || {
                let instance = instance;
                outcome.0 = unsafe { subscribe(instance.0, instance.1, &outcome.1.fault()) };
            });
            enough = self.host.context.wait_for(count, time);
            self.host.context.stop();
        });
        match outcome {
            (code::OK, _) | (code::STOPPED, _) => Ok(enough),
            (failed, text) => Err(text.error(failed)),
        }
    }

    /// Rows emitted so far.
    pub fn rows(&self) -> Vec<Record> {
        self.host.context.said().rows.clone()
    }

    /// Messages emitted so far.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.host.context.said().messages.clone()
    }

    /// Errors reported so far.
    pub fn errors(&self) -> Vec<String> {
        self.host.context.said().errors.clone()
    }

    /// Whether it said that there will be no more.
    pub fn ended(&self) -> bool {
        self.host.context.said().ended
    }

    /// Closes.
    pub fn close(&self) -> Result<()> {
        self.host.context.stop();
        self.host.step(unsafe { has!(self.table, close) }, self.this)
    }
}

impl Drop for SourceTest<'_> {
    fn drop(&mut self) {
        unsafe {
            if let Some(destroy) = has!(self.table, destroy) {
                destroy(self.this);
            }
        }
    }
}

/// What the thread of a source needs.
struct Instance(*mut c_void, *const abi::Context);

// SAFETY: an instance may be called by any thread, one at a time.
unsafe impl Send for Instance {}

/// An instance of a function: a call in a statement.
pub struct FunctionTest<'h> {
    host: &'h Host,
    table: *const abi::Function,
    this: *mut c_void,
    group: Cell<*mut c_void>,
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
        let mut taken = Taken::default();
        let output = taken.output();
        self.host.entry(unsafe { has!(self.table, result) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), self.group.get(), &output, fault)
        })?;
        one(taken)
    }
}

impl Drop for FunctionTest<'_> {
    fn drop(&mut self) {
        unsafe {
            if let (Some(discard), false) = (has!(self.table, discard), self.group.get().is_null()) {
                discard(self.this, self.group.get());
            }
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
        }
    }
}
