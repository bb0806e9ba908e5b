//! An instance of a lookup under test.
//!
//! The table lives as long as the process, `this` until `drop`, the rest until a call returns: that is why what is `unsafe` here holds.

use std::os::raw::c_void;

use super::{batch, Host};
use crate::abi;
use crate::error::Result;
use crate::rows::{Lent, Rows};
use crate::value::{Owned, Record};

/// An instance of a lookup.
pub struct LookupTest<'h> {
    pub(super) host: &'h Host,
    pub(super) table: *const abi::Lookup,
    pub(super) this: *mut c_void,
}

/// What was found, by the numbers of the questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Rows, for each question.
    pub rows: Vec<Vec<Record>>,
    /// Messages, for each question.
    pub messages: Vec<Vec<Vec<u8>>>,
}

impl LookupTest<'_> {
    /// Hands over the properties, an object.
    pub fn provision(&self, properties: Owned) -> Result<()> {
        self.host.provision(unsafe { has!(self.table, provision) }, self.this, properties)
    }

    /// Connects.
    pub fn connect(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, connect) }, self.this)
    }

    /// Asks questions, each an object of columns and their values; `fields` are the columns that are wanted, all where there is none.
    pub fn find(&self, questions: &[Owned], fields: &[&str]) -> Result<Found> {
        let batch = batch(questions);
        let lent = Lent::new(&batch);
        let fields: Vec<abi::Str> = fields.iter().map(|field| abi::Str::new(field)).collect();
        let mut found = Found { rows: vec![Vec::new(); questions.len()], messages: vec![Vec::new(); questions.len()] };
        let answers = found.answers();
        self.host.entry(unsafe { has!(self.table, find) }, |call, fault| unsafe {
            call(self.this, self.host.raw(), &lent.batch(), fields.as_ptr(), fields.len(), &answers, fault)
        })?;
        Ok(found)
    }

    /// Asks whether the outside can be reached.
    pub fn ping(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, ping) }, self.this)
    }

    /// Closes.
    pub fn close(&self) -> Result<()> {
        self.host.step(unsafe { has!(self.table, close) }, self.this)
    }
}

impl Drop for LookupTest<'_> {
    fn drop(&mut self) {
        unsafe {
            if let Some(destroy) = has!(self.table, destroy) {
                destroy(self.this);
            }
        }
    }
}

impl Found {
    fn answers(&mut self) -> abi::Answers {
        unsafe extern "C" fn rows(this: *const abi::Answers, question: usize, batch: *const abi::Batch) {
            let found = &mut *((*this).host as *mut Found);
            if let Some(all) = found.rows.get_mut(question) {
                all.extend(Rows::lent(batch).iter().map(|row| row.to_record()));
            }
        }
        unsafe extern "C" fn bytes(this: *const abi::Answers, question: usize, messages: *const abi::Messages) {
            let found = &mut *((*this).host as *mut Found);
            if let Some(all) = found.messages.get_mut(question) {
                all.extend((0..(*messages).count).map(|n| (*(*messages).payloads.add(n)).as_bytes().to_vec()));
            }
        }
        abi::Answers {
            size: std::mem::size_of::<abi::Answers>() as u32,
            reserved: 0,
            host: self as *mut Found as *mut c_void,
            rows: Some(rows),
            bytes: Some(bytes),
        }
    }
}
