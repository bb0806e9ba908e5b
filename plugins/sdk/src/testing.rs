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
mod function;
mod lookup;
mod sink;
mod source;
mod text;

use std::cell::Cell;
use std::os::raw::c_void;
use std::sync::Arc;

use crate::abi;
use crate::abi::{code, kind};
use crate::error::{Error, Result, Texts};
use crate::rows::Batch;
use crate::value::{Arena, Owned, Record};

use engine::Engine;

pub use function::FunctionTest;
pub use lookup::{Found, LookupTest};
pub use sink::SinkTest;
pub use source::SourceTest;
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

    /// Puts a secret into the configuration.
    pub fn set_secret(&self, name: &str, text: &str) {
        self.context.said().secrets.insert(name.to_owned(), text.to_owned());
    }

    /// Puts a state there, as an earlier run has left it.
    pub fn set_state(&self, key: &str, value: impl Into<Owned>) {
        self.context.said().state.insert(key.to_owned(), value.into());
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

    /// A new instance of a lookup, by the name of its source.
    pub fn lookup(&self, name: &str) -> Result<LookupTest<'_>> {
        let (table, this) = self.create::<abi::Lookup>(&format!("{}Lookup", name), kind::LOOKUP, |table| {
            // SAFETY: as in `sink`.
            unsafe { has!(table, create) }
        })?;
        Ok(LookupTest { host: self, table, this })
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

fn batch(rows: &[Owned]) -> Batch {
    rows.iter()
        .map(|row| match row {
            Owned::Object(record) => record.clone(),
            other => Record::new().with("value", other.clone()),
        })
        .collect()
}
