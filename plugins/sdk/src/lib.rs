//! What a plugin of kuiper is written against.
//!
//! A plugin is a library (`crate-type = ["cdylib", "rlib"]`) that depends on this crate alone, plus whatever its work needs. It implements
//! [`Sink`], [`BytesSink`], [`Source`], [`PullSource`], [`Lookup`], [`Function`], [`Aggregate`] or [`ListAggregate`], declares its properties with [`properties!`], names everything in
//! [`export!`], and is tested with [`testing`]. Between it and the engine stands a C ABI ([`abi`], `kuiper.h`), so that it may be built with
//! another compiler and other versions of anything than the engine.
//!
//! The crate has no dependency and builds with Rust 1.63.

#![warn(missing_docs)]
#![allow(clippy::missing_safety_doc)]

#[macro_use]
pub mod abi;
mod context;
mod emitter;
#[macro_use]
mod entries;
mod error;
pub mod export;
mod function;
mod lookup;
mod messages;
pub mod props;
mod rows;
mod sink;
mod source;
pub mod testing;
mod value;

pub use context::Context;
pub use emitter::{Emission, Emitter};
pub use error::{Error, Result};
pub use function::{Aggregate, Function, ListAggregate, PerRow};
pub use lookup::{Answers, Lookup};
pub use messages::{Encoded, Message, Messages};
pub use props::{Properties, Property, PropertyType, Props};
pub use rows::{Batch, Row, Rows, RowsIter};
pub use sink::{BytesSink, Refused, Sink};
pub use source::{Emits, PullSource, Source};
pub use value::{base64, Array, Civil, Object, Owned, Record, Time, Value};
