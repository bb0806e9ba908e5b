//! What everything else speaks: values, rows in batches, and the receipts that travel with them.
//!
//! - [`Value`] is one cell, 24 bytes, text of up to 24 bytes inline. [`Object`] is a nested map.
//! - [`Batch`] is a run of rows with a common width: values, times, receipts, and a selection. A filter edits the
//!   selection; nothing moves.
//! - [`Layout`] says which name stands in which slot of what leaves a rule.
//! - [`Receipt`] is the promise to account for one input row; dropping one by mistake counts as lost, never as fine.
//!
//! Nothing here knows about SQL, connectors or tasks, takes a lock, or reads the time.

mod batch;
pub mod cast;
mod datetime;
mod dead;
pub mod key;
mod layout;
mod object;
pub mod pack;
mod parse_time;
mod print;
mod receipt;
mod time_pattern;
mod value;

pub use crate::clock::Time;
pub use batch::{Batch, Delivery, Emissions, Meta, Undecoded};
pub use datetime::{Civil, DateTime};
pub use dead::DeadRow;
pub use layout::{Column, Layout};
pub use object::{Object, Shape};
pub use parse_time::parse_datetime;
pub use print::{push_general_float, push_json_float};
pub use receipt::{Account, Acknowledge, Fate, Held, Receipt, SourceAck};
pub use time_pattern::{day_name, format_datetime, month_name};
pub use value::{Kind, Text, Value};
