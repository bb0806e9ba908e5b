use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::Env;
use crate::codec::FormatOptions;
use crate::data::{Object, Text, Value};
use crate::diag::{Diagnostic, Result};

/// A table that is asked for rows by the values of some of its columns. All calls come from one task, one at a time.
#[async_trait::async_trait]
pub trait Lookup: Send {
    /// The rows for each list of values, in the order of the lists. Values stand in the order of the columns that the
    /// lookup was opened for, and none of them is null. With `Retry::Later` it is opened again for the next question.
    async fn find(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>>;

    /// Closes what it holds; called once.
    async fn close(&mut self) {}
}

/// A lookup table from its definition to its end: what it takes up while no rule asks for it is in here.
pub trait LookupTable: Send + Sync {
    /// Opens it for one rule, which will ask for rows by these columns. Connections are made by the first question.
    fn open(&self, columns: &[Text]) -> Result<Box<dyn Lookup>>;

    /// The same, for a rule that reads only these columns of what is found; all where there is none.
    fn open_for(&self, columns: &[Text], _fields: &[Text]) -> Result<Box<dyn Lookup>> {
        self.open(columns)
    }
}

/// How to make a lookup table.
pub struct LookupSpec {
    /// All properties, merged as those of a source; those of its cache are taken out before.
    pub props: Map<String, Json>,
    /// How messages are decoded, for a table that gives such.
    pub format: FormatOptions,
    pub env: Env,
}

/// A lookup table that was checked and is there.
pub struct LookupPlan {
    pub table: Arc<dyn LookupTable>,
    /// What to tell the user.
    pub warnings: Vec<Diagnostic>,
}
