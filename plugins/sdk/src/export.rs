//! The table of what a plugin offers, and the macro that exports it.

#[doc(hidden)]
pub mod fits;

use std::ops::RangeInclusive;
use std::os::raw::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::Once;

use crate::abi;
use crate::abi::kind;
use crate::error::{catch, Result};
use crate::function::{Aggregate, Function, ListAggregate, Listed, PerRow};
use crate::lookup::Lookup;
use crate::props::{Properties, Property};
use crate::rows::Row;
use crate::sink::{BytesSink, Sink};
use crate::source::{Emits, PullSource, Source};
use crate::value::Owned;
use crate::{function as functions, lookup as lookups, sink as sinks, source as sources};

/// What makes instances.
pub(crate) type Maker<T> = Box<dyn Fn() -> T + Send + Sync>;

/// How instances are made: what stands behind `=>` in [`export!`](crate::export!).
pub struct Make<T> {
    export: u32,
    maker: Maker<T>,
}

/// Each use has an instance of its own, made by this function.
pub fn constructor<T>(make: impl Fn() -> T + Send + Sync + 'static) -> Make<T> {
    Make { export: kind::CONSTRUCTOR, maker: Box::new(make) }
}

/// One instance, made by this function, serves all rules, one call at a time.
pub fn singleton<T>(make: impl Fn() -> T + Send + Sync + 'static) -> Make<T> {
    Make { export: kind::SINGLETON, maker: Box::new(make) }
}

/// This function is called for each row of arguments.
pub fn row<F, V>(function: F) -> Make<PerRow<F, V>>
where
    F: Fn(Row<'_>) -> Result<V> + Copy + Send + Sync + 'static,
    V: Into<Owned> + 'static,
{
    constructor(move || PerRow::new(function))
}

/// One line of [`export!`](crate::export!).
pub struct Entry {
    kind: u32,
    export: u32,
    flags: u32,
    name: String,
    about: String,
    signature: String,
    examples: Vec<(String, String)>,
    properties: Vec<Property>,
    state: (u32, u32),
    data: *mut c_void,
    table: *const c_void,
}

/// A [`Source`].
pub fn source<S: Source>(name: &str, make: Make<S>) -> Entry {
    let flags = sources::flags(S::EMITS, false);
    Entry::new(kind::SOURCE, name, make, flags, sources::pushing::<S>(), S::Config::schema())
}

/// A [`PullSource`].
pub fn pull_source<S: PullSource>(name: &str, make: Make<S>) -> Entry {
    let flags = sources::flags(S::EMITS, true);
    Entry::new(kind::SOURCE, name, make, flags, sources::pulled::<S>(), S::Config::schema())
}

/// A [`Sink`].
pub fn sink<S: Sink>(name: &str, make: Make<S>) -> Entry {
    let flags = if S::ONE_AS_ROW { kind::ONE_AS_ROW } else { 0 };
    Entry::new(kind::SINK, name, make, flags, sinks::table::<S>(), S::Config::schema())
}

/// A [`BytesSink`].
pub fn bytes_sink<S: BytesSink>(name: &str, make: Make<S>) -> Entry {
    Entry::new(kind::SINK, name, make, kind::TAKES_BYTES, sinks::bytes_table::<S>(), S::Config::schema())
}

/// A [`Lookup`]. Its symbol has the name with `Lookup` behind it.
pub fn lookup<L: Lookup>(name: &str, make: Make<L>) -> Entry {
    let flags = if L::ANSWERS == Emits::Bytes { kind::EMITS_BYTES } else { 0 };
    let symbol = format!("{}Lookup", name.strip_suffix("Lookup").unwrap_or(name));
    Entry::new(kind::LOOKUP, &symbol, make, flags, lookups::table::<L>(), L::Config::schema())
}

/// A [`Function`].
pub fn function<F: Function>(name: &str, make: Make<F>) -> Entry {
    Entry::new(kind::FUNCTION, name, make, 0, functions::scalar::<F>(), Vec::new())
}

/// An [`Aggregate`].
pub fn aggregate<A: Aggregate>(name: &str, make: Make<A>) -> Entry {
    Entry::new(kind::FUNCTION, name, make, kind::AGGREGATE, functions::aggregate::<A>(), Vec::new())
}

/// A [`ListAggregate`].
pub fn list_aggregate<L: ListAggregate>(name: &str, make: Make<L>) -> Entry {
    let Make { export, maker } = make;
    aggregate(name, Make { export, maker: Box::new(move || Listed::new(maker())) })
}

impl Entry {
    fn new<T, V>(kind: u32, name: &str, make: Make<T>, flags: u32, table: V, properties: Vec<Property>) -> Entry {
        Entry {
            kind,
            export: make.export,
            flags,
            name: name.to_owned(),
            about: String::new(),
            signature: String::new(),
            examples: Vec::new(),
            properties,
            state: (0, 0),
            data: Box::into_raw(Box::new(make.maker)) as *mut c_void,
            table: Box::into_raw(Box::new(table)) as *const c_void,
        }
    }

    /// One sentence that says what it does.
    pub fn about(mut self, text: &str) -> Entry {
        self.about = text.to_owned();
        self
    }

    /// Arguments and result of a function: `(float, float) -> text`.
    pub fn signature(mut self, text: &str) -> Entry {
        self.signature = text.to_owned();
        self
    }

    /// Calls of a function as they are written in SQL, and their results as JSON. They are executed as tests.
    pub fn examples<'a>(mut self, examples: impl IntoIterator<Item = (&'a str, &'a str)>) -> Entry {
        self.examples = examples.into_iter().map(|(call, result)| (call.to_owned(), result.to_owned())).collect();
        self
    }

    /// What it stores is to outlive a restart of the rule, and can be read by this version where one of `versions` has written it: the last
    /// is that of what it writes itself. Without it, what it stores is gone when the rule stops.
    pub fn state(mut self, versions: RangeInclusive<u32>) -> Entry {
        self.state = versions.into_inner();
        self
    }

    fn leak(self) -> *const abi::Symbol {
        let properties: Vec<*const abi::Property> = self.properties.into_iter().map(leak_property).collect();
        let examples: Vec<abi::Example> = self
            .examples
            .into_iter()
            .map(|(call, result)| abi::Example { call: leak_text(call), result: leak_text(result) })
            .collect();
        let (properties, examples) = (properties.leak(), examples.leak());
        Box::into_raw(Box::new(abi::Symbol {
            size: std::mem::size_of::<abi::Symbol>() as u32,
            kind: self.kind,
            export: self.export,
            flags: self.flags,
            name: leak_text(self.name),
            about: leak_text(self.about),
            data: self.data,
            table: self.table,
            properties: properties.as_ptr(),
            properties_count: properties.len(),
            signature: leak_text(self.signature),
            examples: examples.as_ptr(),
            examples_count: examples.len(),
            state_version: self.state.1,
            state_oldest: self.state.0,
        }))
    }
}

fn leak_property(property: Property) -> *const abi::Property {
    let required = if property.default.is_none() { kind::REQUIRED } else { 0 };
    let secret = if property.secret { kind::SECRET } else { 0 };
    Box::into_raw(Box::new(abi::Property {
        size: std::mem::size_of::<abi::Property>() as u32,
        flags: required | secret | if property.dynamic { kind::DYNAMIC } else { 0 },
        name: leak_text(property.name),
        about: leak_text(property.about),
        expects: leak_text(property.expects),
        default: leak_text(property.default.map_or_else(String::new, |default| default.to_string())),
    }))
}

fn leak_text(text: String) -> abi::Str {
    abi::Str::new(Box::leak(text.into_boxed_str()))
}

/// A text as an array, for a static that can be read from the file.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let (text, mut array, mut at) = (text.as_bytes(), [0; N], 0);
    while at < N {
        array[at] = text[at];
        at += 1;
    }
    array
}

/// The table, made when it is first asked for. It lives as long as the process, as the contract says.
pub struct Table {
    once: Once,
    plugin: AtomicPtr<abi::Plugin>,
}

impl Table {
    /// One that is not yet made.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Table {
        Table { once: Once::new(), plugin: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The table; null if making it panicked.
    pub fn get(&'static self, name: &str, version: &str, entries: fn() -> Vec<Entry>) -> *const abi::Plugin {
        self.once.call_once(|| {
            let made = catch(|| {
                let symbols: Vec<*const abi::Symbol> = entries().into_iter().map(Entry::leak).collect();
                let symbols = symbols.leak();
                Ok(Box::into_raw(Box::new(abi::Plugin {
                    size: std::mem::size_of::<abi::Plugin>() as u32,
                    abi: abi::VERSION,
                    name: leak_text(name.to_owned()),
                    version: leak_text(version.to_owned()),
                    sdk: leak_text(format!("rust {}", env!("CARGO_PKG_VERSION"))),
                    symbols: symbols.as_ptr(),
                    count: symbols.len(),
                })))
            });
            self.plugin.store(made.unwrap_or(ptr::null_mut()), Ordering::Release);
        });
        self.plugin.load(Ordering::Acquire)
    }
}

/// Exports what a plugin offers: one line for each, `kind "Name" => how(make)`, with more about it in braces.
///
/// Kinds: `source`, `pull_source`, `lookup`, `sink`, `bytes_sink`, `function`, `aggregate`, `list_aggregate`. How: `constructor` (an instance for each use), `singleton` (one
/// for all rules), and for functions `row` (a plain function of one row of arguments).
///
/// ```
/// use kuiper_plugin::{Context, Result, Row, Sink};
///
/// #[derive(Default)]
/// struct Count(u64);
///
/// impl Sink for Count {
///     type Config = ();
///
///     fn provision(&mut self, _: &Context, _: ()) -> Result<()> {
///         Ok(())
///     }
///
///     fn collect(&mut self, context: &Context, _: Row<'_>) -> Result<()> {
///         self.0 += 1;
///         context.info(format!("{} rows", self.0));
///         Ok(())
///     }
/// }
///
/// fn twice(arguments: Row<'_>) -> Result<Option<f64>> {
///     Ok(arguments.arg(0).as_float().map(|number| number * 2.0))
/// }
///
/// kuiper_plugin::export! {
///     sink "Count" => constructor(Count::default),
///     function "twice" => row(twice) {
///         signature: "(float) -> float",
///         about: "The number, doubled.",
///         examples: [("twice(21)", "42")],
///     },
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($(
        $kind:ident $name:literal => $how:ident ( $make:expr ) $({ $($key:ident : $value:expr),* $(,)? })?
    ),* $(,)?) => {
        /// What this library offers to the engine.
        #[no_mangle]
        pub extern "C" fn kuiper_plugin_v1() -> *const $crate::abi::Plugin {
            static TABLE: $crate::export::Table = $crate::export::Table::new();
            fn entries() -> Vec<$crate::export::Entry> {
                $( $crate::export::fits::$kind::$how($make); )*
                vec![$( $crate::export::$kind($name, $crate::export::$how($make)) $( $(.$key($value))* )? ),*]
            }
            TABLE.get(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), entries)
        }

        /// The version of the contract, readable without loading the library.
        #[no_mangle]
        pub static KUIPER_PLUGIN_ABI: [u8; 16] = $crate::abi::MARKER;

        /// What this library offers, a line each, readable without loading it.
        #[no_mangle]
        pub static KUIPER_PLUGIN_SYMBOLS: [u8; concat!($(stringify!($kind), " ", $name, "\n"),*).len()] =
            $crate::export::bytes(concat!($(stringify!($kind), " ", $name, "\n"),*));
    };
}
