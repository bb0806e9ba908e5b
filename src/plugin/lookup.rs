//! Lookup tables of guests, as the engine's own. Each rule that asks a table has an instance of its own, on a thread of
//! its own, unless the guest is a singleton; it is connected by the first question, and again after a failure.

use std::ffi::c_void;
use std::sync::Arc;

use bytes::Bytes;
use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;
use serde_json::{Map, Value as Json};

use crate::codec::{self, Decoder, FormatOptions, Wanted};
use crate::data::{Batch, Object, Text, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::{Lookup, LookupPlan, LookupSpec, LookupTable, props};

use super::cross::{Arena, Texts, messages, properties, rows};
use super::desk::{Desk, States};
use super::library::{Library, Symbol};
use super::sink::{check, next_user, worker};
use super::source::is_common;
use super::worker::{Slot, Worker};

/// Checks the properties, and makes the table, which stores what it stores in there.
pub fn plan(
    name: &str,
    library: &Arc<Library>,
    symbol: Symbol,
    spec: LookupSpec,
    states: States,
) -> Result<LookupPlan, Diagnostic> {
    let LookupSpec { props, format, env } = spec;
    let declared = |name: &str| symbol.declares(name);
    props::refuse_steps(&format!("a lookup table of type `{name}`"), &props, declared)?;
    let own: Map<String, Json> =
        props.into_iter().filter(|(name, _)| symbol.declares(name) || !is_common(name)).collect();
    let props = Arc::new(properties(&own));
    check(name, symbol, &props, &env.owner)?;
    let format = (symbol.flags & kind::EMITS_BYTES != 0).then_some(format);
    if let Some(format) = &format {
        decoder(format)?;
    }
    let (name, library) = (name.to_owned(), library.clone());
    let table = Arc::new(Table { name, library, symbol, props, owner: env.owner, format, states });
    Ok(LookupPlan { table, warnings: Vec::new() })
}

fn decoder(format: &FormatOptions) -> Result<Box<dyn Decoder>, Diagnostic> {
    let wanted = Wanted { columns: Vec::new(), rest: Some(0), width: 1 };
    (codec::format(&format.format)?.decoder)(format, &wanted)
}

struct Table {
    name: String,
    library: Arc<Library>,
    symbol: Symbol,
    props: Arc<Value>,
    owner: String,
    /// For one whose answers are messages.
    format: Option<FormatOptions>,
    states: States,
}

impl LookupTable for Table {
    fn open(&self, columns: &[Text]) -> Result<Box<dyn Lookup>> {
        self.open_for(columns, &[])
    }

    fn open_for(&self, columns: &[Text], fields: &[Text]) -> Result<Box<dyn Lookup>> {
        let symbol = self.symbol;
        let decoder = self.format.as_ref().map(decoder).transpose();
        let decoder = decoder.map_err(|found| Fault::setup(found.to_string()))?;
        Ok(Box::new(Guest {
            worker: worker(&self.library, symbol),
            user: next_user(),
            symbol,
            props: self.props.clone(),
            desk: Desk::new(symbol.home, &self.owner, &self.name, 0, self.states.clone(), None),
            columns: columns.into(),
            fields: fields.into(),
            decoder,
            closed: false,
        }))
    }
}

struct Guest {
    worker: Arc<Worker>,
    user: u64,
    symbol: Symbol,
    props: Arc<Value>,
    desk: Arc<Desk>,
    columns: Arc<[Text]>,
    /// Columns that are read of what is found; none: all.
    fields: Arc<[Text]>,
    decoder: Option<Box<dyn Decoder>>,
    closed: bool,
}

#[async_trait::async_trait]
impl Lookup for Guest {
    async fn find(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>> {
        let (user, props, desk) = (self.user, self.props.clone(), self.desk.clone());
        let asked = Asked { columns: self.columns.clone(), fields: self.fields.clone(), questions: questions.to_vec() };
        let Found { mut rows, bytes } =
            self.worker.call(move |slot| find(slot, user, &props, &desk, &asked)).await.map_err(theirs)?;
        for (question, message) in bytes {
            let Some(decoder) = &mut self.decoder else {
                let text = format!("the plugin of `{}` answers with messages, which it does not say", self.symbol.name);
                return Err(theirs(Fault::bug(text)));
            };
            let mut batch = Batch::new(1);
            let count = decoder.decode(&message, &mut batch)?;
            rows[question].extend((0..count).filter_map(|row| match std::mem::take(&mut batch.row_mut(row)[0]) {
                Value::Object(object) => Some((*object).clone()),
                _ => None,
            }));
        }
        Ok(rows)
    }

    async fn close(&mut self) {
        self.closed = true;
        if let Err(fault) = self.worker.close(self.user, &self.desk).await {
            tracing::warn!(plugin = %self.symbol.name, "closing failed: {fault}");
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.closed {
            self.worker.leave(self.user, &self.desk);
        }
    }
}

/// A bug of the plugin is no bug of ours: it is the rows' bad luck.
fn theirs(fault: Fault) -> Fault {
    match fault {
        Fault::Bug(text) => Fault::eval(format!("{text}; this is a bug of the plugin")),
        other => other,
    }
}

/// What is asked in one call.
struct Asked {
    columns: Arc<[Text]>,
    fields: Arc<[Text]>,
    questions: Vec<Vec<Value>>,
}

/// Questions that have ended the plugin's process, or were asked when it ended, are asked once more.
fn find(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>, asked: &Asked) -> Result<Found> {
    match find_once(slot, user, props, desk, asked) {
        Err(_) if slot.fell => find_once(slot, user, props, desk, asked),
        found => found,
    }
}

fn find_once(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>, asked: &Asked) -> Result<Found> {
    let table = slot.symbol.table.cast::<abi::Lookup>();
    let this = slot.provisioned(user, props, desk)?;
    if !slot.connected.contains(&user) {
        slot.connect(user, props, desk)?;
    }
    if asked.questions.is_empty() {
        return Ok(Found { rows: Vec::new(), bytes: Vec::new() });
    }
    let names = |names: &[Text]| names.iter().map(|name| abi::Str::new(name)).collect::<Vec<_>>();
    let (columns, fields) = (names(&asked.columns), names(&asked.fields));
    let mut arena = Arena::default();
    let values: Vec<abi::Value> = asked.questions.iter().flatten().map(|value| arena.lend(value)).collect();
    let keys = abi::Batch {
        size: std::mem::size_of::<abi::Batch>() as u32,
        flags: 0,
        columns: columns.as_ptr(),
        width: columns.len(),
        height: asked.questions.len(),
        values: values.as_ptr(),
        times: std::ptr::null(),
        metas: std::ptr::null(),
        properties: std::ptr::null(),
    };
    let mut found = Found { rows: vec![Vec::new(); asked.questions.len()], bytes: Vec::new() };
    let into = found.answers();
    // SAFETY: the symbol is a lookup.
    let entry = unsafe { has!(table, find) };
    let entry = entry.ok_or_else(|| Fault::setup(format!("the plugin cannot find rows for `{}`", slot.symbol.name)))?;
    // SAFETY: the instance is of this table; the pointers live until the call returns.
    let called = slot.call(Some(entry), |call, fault| unsafe {
        call(this, desk.raw(), &keys, fields.as_ptr(), fields.len(), &into, fault)
    });
    called.map(|_| found).map_err(|(failed, mut texts)| failure(failed, &mut texts))
}

fn failure(failed: u32, texts: &mut Texts) -> Fault {
    match failed {
        code::NEVER => Fault::eval(texts.text()),
        _ => texts.setup(failed),
    }
}

/// What the guest has put, by the numbers of the questions. Messages are decoded on our side.
struct Found {
    rows: Vec<Vec<Object>>,
    bytes: Vec<(usize, Bytes)>,
}

impl Found {
    /// What is handed to the call; good as long as `self` is not moved.
    fn answers(&mut self) -> abi::Answers {
        abi::Answers {
            size: std::mem::size_of::<abi::Answers>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast::<c_void>(),
            rows: Some(put_rows),
            bytes: Some(put_bytes),
        }
    }
}

// A number that is no question's has no one to go to.

unsafe extern "C" fn put_rows(this: *const abi::Answers, question: usize, batch: *const abi::Batch) {
    // SAFETY: `host` leads to the `Found` that made the answers, and only the call that runs uses it; the batch keeps the
    // contract.
    unsafe {
        let found = &mut *(*this).host.cast::<Found>();
        if let Some(all) = found.rows.get_mut(question) {
            all.extend(rows(batch).into_iter().map(|row| row.object));
        }
    }
}

unsafe extern "C" fn put_bytes(this: *const abi::Answers, question: usize, all: *const abi::Messages) {
    // SAFETY: as in `put_rows`.
    unsafe {
        let found = &mut *(*this).host.cast::<Found>();
        if question < found.rows.len() {
            found.bytes.extend(messages(all).into_iter().map(|(bytes, ..)| (question, bytes)));
        }
    }
}
