//! Lookups: tables that are asked for the rows with given values in some columns.

use std::os::raw::c_void;

use crate::abi;
use crate::context::Context;
use crate::entries::create;
use crate::error::{entry, freed, Result};
use crate::messages::{names, LentMessages, Message};
use crate::props::Properties;
use crate::rows::{Batch, Lent, Rows};
use crate::source::Emits;
use crate::value::Record;

/// A lookup. The engine calls `provision`, `connect`, then the finds, then `close`; one thread at a time, not always the same.
pub trait Lookup: Send + 'static {
    /// The properties, decoded. `()` where there are none.
    type Config: Properties;

    /// Whether answers are rows, or messages that the table's format decodes.
    const ANSWERS: Emits = Emits::Rows;

    /// Takes the properties. No input or output here: it is also called to validate a table that is never asked.
    fn provision(&mut self, context: &Context, config: Self::Config) -> Result<()>;

    /// Reaches the outside; may wait. Called before the first question, and again after an error that was `later`.
    fn connect(&mut self, context: &Context) -> Result<()> {
        context.connected();
        Ok(())
    }

    /// Answers questions, each a row of the columns that are asked for and their values, which are never NULL. `fields` are the columns
    /// that are wanted of what is found; all where there is none. A question that gets no answer has no row.
    fn find(&mut self, context: &Context, questions: Rows<'_>, fields: &[&str], answers: &Answers<'_>) -> Result<()>;

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

/// Where answers go, by the numbers of the questions; several to one question add up.
pub struct Answers<'a> {
    raw: &'a abi::Answers,
}

impl Answers<'_> {
    /// A row answers a question.
    pub fn row(&self, question: usize, row: Record) {
        self.rows(question, &row.into());
    }

    /// Rows answer a question.
    pub fn rows(&self, question: usize, rows: &Batch) {
        let lent = Lent::new(rows);
        // SAFETY: the answers are valid for the call that runs, the batch until this one returns.
        unsafe {
            if let Some(put) = has!(self.raw as *const abi::Answers, rows) {
                put(self.raw, question, &lent.batch());
            }
        }
    }

    /// A message answers a question; the table's format decodes it, to one row or several.
    pub fn bytes(&self, question: usize, message: &[u8]) {
        let messages = [Message::from(message)];
        let lent = LentMessages::new(&messages);
        // SAFETY: as in `rows`.
        unsafe {
            if let Some(put) = has!(self.raw as *const abi::Answers, bytes) {
                put(self.raw, question, &lent.messages());
            }
        }
    }
}

pub(crate) fn table<L: Lookup>() -> abi::Lookup {
    abi::Lookup {
        size: std::mem::size_of::<abi::Lookup>() as u32,
        reserved: 0,
        create: Some(create::<L>),
        provision: Some(provision::<L>),
        connect: Some(connect::<L>),
        find: Some(find::<L>),
        close: Some(close::<L>),
        destroy: Some(freed::<L>),
        ping: Some(ping::<L>),
    }
}

// In all entries below: `this` came from `create`, all other pointers are valid for the call, as the contract says.

entries!(Lookup: provision; step connect close ping; position);

unsafe extern "C" fn find<L: Lookup>(
    this: *mut c_void,
    context: *const abi::Context,
    keys: *const abi::Batch,
    fields: *const abi::Str,
    fields_count: usize,
    into: *const abi::Answers,
    fault: *const abi::Fault,
) -> u32 {
    entry(fault, || {
        let (fields, answers) = (names(fields, fields_count), Answers { raw: &*into });
        (*(this as *mut L)).find(&Context::lent(context), Rows::lent(keys), &fields, &answers)
    })
}
