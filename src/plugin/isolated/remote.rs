//! On the engine's side: instances of sources, sinks and lookups that live in a process, behind the tables of the
//! contract. An instance is bound to the process that it was made in; when that has ended, every call of it fails with
//! why, to be tried again later with an instance that is made anew.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::{has, since};

use super::calls;
use super::context::offers;
use super::keeper::Keeper;
use super::lane::{LARGEST, Lane};
use super::manifest::{Offered, entry};
use super::process::{Death, Process};
use super::protocol::{Answer, ask, say};
use super::served::{BYTES, ROWS};
use super::wire::{Broken, Message, Writer};

/// How long making an instance waits for a process that does not run.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a lookup, which is not tried again: longer than the longest pause between two processes.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(15);

/// What stands behind a symbol.
pub struct Remote {
    pub keeper: Arc<Keeper>,
    /// Its place in the list of the library.
    pub index: u64,
    pub entries: u64,
}

/// Gives a symbol its table, and what `create` is handed. Neither is ever freed, as with a library that is mapped.
pub fn attach(offered: Offered, index: usize, keeper: &Arc<Keeper>) -> super::super::library::Symbol {
    let Offered { mut symbol, entries } = offered;
    let remote = Remote { keeper: keeper.clone(), index: index as u64, entries };
    symbol.data = std::ptr::from_mut(Box::leak(Box::new(remote))).cast();
    symbol.table = table(symbol.kind, entries);
    symbol
}

fn table(kind: u32, entries: u64) -> *const c_void {
    fn leaked<T>(table: T) -> *const c_void {
        std::ptr::from_mut(Box::leak(Box::new(table))).cast_const().cast()
    }
    let has = |entry: u64| entries & entry != 0;
    match kind {
        kind::SOURCE => leaked(abi::Source {
            size: size_of::<abi::Source>() as u32,
            reserved: 0,
            create: has(entry::CREATE).then_some(create as _),
            provision: has(entry::PROVISION).then_some(provision as _),
            connect: has(entry::CONNECT).then_some(connect as _),
            subscribe: has(entry::SUBSCRIBE).then_some(subscribe as _),
            pull: has(entry::PULL).then_some(pull as _),
            close: Some(close),
            destroy: Some(destroy),
            rewind: has(entry::REWIND).then_some(rewind as _),
            reset: has(entry::RESET).then_some(reset as _),
            ping: has(entry::PING).then_some(ping as _),
        }),
        kind::SINK => leaked(abi::Sink {
            size: size_of::<abi::Sink>() as u32,
            reserved: 0,
            create: has(entry::CREATE).then_some(create as _),
            provision: has(entry::PROVISION).then_some(provision as _),
            connect: has(entry::CONNECT).then_some(connect as _),
            collect: has(entry::COLLECT).then_some(collect as _),
            collect_list: has(entry::COLLECT_LIST).then_some(collect_list as _),
            close: Some(close),
            destroy: Some(destroy),
            collect_bytes: has(entry::COLLECT_BYTES).then_some(collect_bytes as _),
            flush: has(entry::FLUSH).then_some(flush as _),
            position: has(entry::POSITION).then_some(position as _),
            resume: has(entry::RESUME).then_some(resume as _),
            ping: has(entry::PING).then_some(ping as _),
        }),
        kind::LOOKUP => leaked(abi::Lookup {
            size: size_of::<abi::Lookup>() as u32,
            reserved: 0,
            create: has(entry::CREATE).then_some(create_lookup as _),
            provision: has(entry::PROVISION).then_some(provision as _),
            connect: has(entry::CONNECT).then_some(connect as _),
            find: has(entry::FIND).then_some(find as _),
            close: Some(close),
            destroy: Some(destroy),
            ping: has(entry::PING).then_some(ping as _),
        }),
        _ => leaked(calls::table(entries)),
    }
}

/// An instance, in its process.
pub struct Made {
    pub remote: &'static Remote,
    pub process: Arc<Process>,
    this: u64,
    /// Contexts that the process knows: where each is, its number, and where it is there.
    known: Vec<(*const abi::Context, u64, u64)>,
}

/// Why a call came to nothing.
pub enum Failure {
    Dead(Death),
    /// The plugin's code and text; or one of ours.
    Said(u32, String),
}

impl From<Death> for Failure {
    fn from(death: Death) -> Failure {
        Failure::Dead(death)
    }
}

impl Failure {
    /// Says it, and is the code of the call.
    ///
    /// # Safety
    /// The fault is of the contract, or null.
    pub unsafe fn tell(&self, fault: *const abi::Fault) -> u32 {
        // SAFETY: see above.
        unsafe {
            match self {
                Failure::Dead(death) => say(fault, code::LATER, &death.text),
                Failure::Said(code, text) => say(fault, *code, text),
            }
        }
    }
}

/// Asks, and reads the answer.
///
/// # Safety
/// The context is null, or of the contract.
pub unsafe fn asked(
    process: &Process,
    lane: &mut Lane,
    what: u64,
    writer: &mut Writer,
    context: *const abi::Context,
) -> Result<Message, Failure> {
    let request = writer.finish();
    if request.len() as u64 > LARGEST {
        return Err(Failure::Said(code::NEVER, format!("{} bytes are too many for one call", request.len())));
    }
    // SAFETY: see above.
    Ok(unsafe { process.exchange(lane, request, what, context)? })
}

/// Reads an answer; a process that makes no sense is ended.
pub fn read<'m>(process: &Process, message: &'m mut Message) -> Result<Answer<'m>, Failure> {
    Answer::read(message).map_err(|broken| nonsense(process, broken))
}

pub fn nonsense(process: &Process, _: Broken) -> Failure {
    process.kill("its process was killed: what it said made no sense; memory of the plugin may be damaged");
    Failure::Dead(process.autopsy())
}

impl Made {
    /// Makes it.
    pub fn new(remote: &'static Remote, process: Arc<Process>, lane: &mut Lane) -> Result<Made, Failure> {
        let mut writer = Writer::new(ask::CREATE);
        writer.word(remote.index).word(0).word(0);
        // SAFETY: there is no context.
        let mut message = unsafe { asked(&process, lane, ask::CREATE, &mut writer, std::ptr::null())? };
        let answer = read(&process, &mut message)?;
        if answer.code != code::OK {
            return Err(Failure::Said(answer.code, String::from_utf8_lossy(answer.text).into_owned()));
        }
        let this = answer.word;
        remote.keeper.begin_use();
        Ok(Made { remote, process, this, known: Vec::new() })
    }

    /// The beginning of a request.
    ///
    /// # Safety
    /// The context is null, or of the contract.
    pub unsafe fn request(
        &mut self,
        lane: &mut Lane,
        what: u64,
        context: *const abi::Context,
    ) -> Result<Writer, Failure> {
        // SAFETY: see above.
        let context = unsafe { self.introduced(lane, context)? };
        let mut writer = Writer::new(what);
        writer.word(self.remote.index).word(self.this).word(context);
        Ok(writer)
    }

    /// Where the context is in the process.
    unsafe fn introduced(&mut self, lane: &mut Lane, context: *const abi::Context) -> Result<u64, Failure> {
        if context.is_null() {
            return Ok(0);
        }
        if let Some((.., there)) = self.known.iter().find(|(here, ..)| *here == context) {
            return Ok(*there);
        }
        // SAFETY: the context is of the contract; held, it stays where it is.
        unsafe {
            let id = self.process.hold(context);
            let bit = |there: bool, what: u64| if there { what } else { 0 };
            let offered = bit(has!(context, emit_rows).is_some(), offers::EMITS)
                | bit(has!(context, emit_rows_with).is_some(), offers::EMITS_WITH)
                | bit(has!(context, template).is_some(), offers::ASKS);
            let mut writer = Writer::new(ask::INTRODUCE);
            writer.word(self.remote.index).word(0).word(0);
            writer.word(id).word((*context).site).word(offered);
            writer.word(since!(context, instance, 0)).word(since!(context, run, 0));
            writer.str((*context).rule).str((*context).operator);
            let mut message = asked(&self.process, lane, ask::INTRODUCE, &mut writer, std::ptr::null())?;
            let there = read(&self.process, &mut message)?.word;
            self.known.push((context, id, there));
            Ok(there)
        }
    }

    /// The process need not know that context any more, or any.
    pub fn forget(&mut self, lane: &mut Lane, context: Option<*const abi::Context>) {
        let (forgotten, known): (Vec<_>, Vec<_>) =
            self.known.drain(..).partition(|(here, ..)| context.is_none_or(|context| *here == context));
        self.known = known;
        for (_, _, there) in forgotten {
            let mut writer = Writer::new(ask::FORGET);
            writer.word(self.remote.index).word(0).word(there);
            // SAFETY: there is no context. A process that has died has forgotten it.
            if unsafe { asked(&self.process, lane, ask::FORGET, &mut writer, std::ptr::null()) }.is_err() {
                return;
            }
        }
    }

    /// Destroys it, where its process still runs.
    pub fn destroyed(mut self, lane: &mut Lane) {
        if self.process.is_alive() {
            let mut writer = Writer::new(ask::DESTROY);
            writer.word(self.remote.index).word(self.this).word(0);
            // SAFETY: there is no context. One that dies of it has destroyed it.
            if unsafe { asked(&self.process, lane, ask::DESTROY, &mut writer, std::ptr::null()) }.is_ok() {
                self.forget(lane, None);
            }
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.remote.keeper.end_use();
    }
}

/// What the engine holds for an instance of a source, sink or lookup: it has a lane, and so a thread, of its own.
struct Instance {
    made: Made,
    lane: Lane,
}

/// Whether the process of an instance has ended.
///
/// # Safety
/// The instance came from `create` of a table made here, and is not one of a function.
pub unsafe fn is_gone(this: *mut c_void) -> bool {
    // SAFETY: see above.
    !unsafe { &*this.cast::<Instance>() }.made.process.is_alive()
}

impl Instance {
    /// One call: what is written is its arguments, and what is read of the answer is up to the caller.
    unsafe fn call(
        &mut self,
        what: u64,
        context: *const abi::Context,
        fault: *const abi::Fault,
        write: impl FnOnce(&mut Writer),
        read_on: impl FnOnce(&mut Answer<'_>) -> Result<(), Broken>,
    ) -> u32 {
        // SAFETY: the pointers are of the contract.
        unsafe {
            let called = || -> Result<u32, Failure> {
                if !self.made.process.is_alive() {
                    return Err(self.made.process.autopsy().into());
                }
                let mut writer = self.made.request(&mut self.lane, what, context)?;
                write(&mut writer);
                let mut message = asked(&self.made.process, &mut self.lane, what, &mut writer, context)?;
                let mut answer = read(&self.made.process, &mut message)?;
                answer.tell(fault);
                read_on(&mut answer).map_err(|broken| nonsense(&self.made.process, broken))?;
                Ok(answer.code)
            };
            catch_unwind(AssertUnwindSafe(called))
                .map_or(code::BUG, |called| called.unwrap_or_else(|failure| failure.tell(fault)))
        }
    }
}

// What follows is called by the engine as a plugin's entries are; pointers keep the contract.

unsafe extern "C" fn create(data: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    // SAFETY: the contract.
    unsafe { created(data, fault, PATIENCE) }
}

unsafe extern "C" fn create_lookup(data: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    // SAFETY: the contract.
    unsafe { created(data, fault, LOOKUP_PATIENCE) }
}

unsafe fn created(data: *mut c_void, fault: *const abi::Fault, patience: Duration) -> *mut c_void {
    // SAFETY: `data` is what the symbol was given, which is never freed.
    let remote: &'static Remote = unsafe { &*data.cast::<Remote>() };
    let made = || -> Result<*mut c_void, Failure> {
        let process = remote.keeper.process(patience).map_err(|text| Failure::Said(code::LATER, text))?;
        let mut lane = process.open_lane()?;
        let made = Made::new(remote, process, &mut lane)?;
        Ok(Box::into_raw(Box::new(Instance { made, lane })).cast())
    };
    let made = catch_unwind(made).unwrap_or_else(|_| Err(Failure::Said(code::BUG, "making an instance failed".into())));
    made.unwrap_or_else(|failure| {
        // SAFETY: the contract.
        unsafe { failure.tell(fault) };
        std::ptr::null_mut()
    })
}

unsafe extern "C" fn destroy(this: *mut c_void) {
    // SAFETY: it came from `create`, and is not used again.
    let instance = unsafe { Box::from_raw(this.cast::<Instance>()) };
    let destroyed = || {
        let Instance { made, mut lane } = *instance;
        made.destroyed(&mut lane);
    };
    // A bug of ours leaves the instance to the process.
    let _ = catch_unwind(AssertUnwindSafe(destroyed));
}

/// # Safety
/// The pointers keep the contract.
unsafe fn at<'a>(this: *mut c_void) -> &'a mut Instance {
    // SAFETY: an instance is called by one thread at a time.
    unsafe { &mut *this.cast::<Instance>() }
}

/// Entries that take nothing, and entries that take one value, by what is asked.
macro_rules! entries {
    ($($step:ident = $asked:ident)*; $($of_value:ident = $asked_of:ident)*) => {
        $(
            unsafe extern "C" fn $step(
                this: *mut c_void,
                context: *const abi::Context,
                fault: *const abi::Fault,
            ) -> u32 {
                // SAFETY: see above, here and below.
                unsafe { at(this).call(ask::$asked, context, fault, |_| {}, |_| Ok(())) }
            }
        )*
        $(
            unsafe extern "C" fn $of_value(
                this: *mut c_void,
                context: *const abi::Context,
                value: *const abi::Value,
                fault: *const abi::Fault,
            ) -> u32 {
                unsafe {
                    let write = |to: &mut Writer| to.flattened(std::slice::from_ref(&*value));
                    at(this).call(ask::$asked_of, context, fault, write, |_| Ok(()))
                }
            }
        )*
    };
}

entries! {
    connect = CONNECT subscribe = SUBSCRIBE ping = PING flush = FLUSH closed = CLOSE;
    provision = PROVISION rewind = REWIND reset = RESET resume = RESUME
}

/// After it the context is gone, also where the plugin has no such entry.
unsafe extern "C" fn close(this: *mut c_void, context: *const abi::Context, fault: *const abi::Fault) -> u32 {
    unsafe {
        let instance = at(this);
        if !instance.made.process.is_alive() {
            // What it would have closed is gone.
            return code::OK;
        }
        let has_close = instance.made.remote.entries & entry::CLOSE != 0;
        let went = if has_close { closed(this, context, fault) } else { code::OK };
        let forgotten = || {
            let instance = at(this);
            instance.made.forget(&mut instance.lane, Some(context));
        };
        // A bug of ours leaves the context to the process.
        let _ = catch_unwind(AssertUnwindSafe(forgotten));
        went
    }
}

unsafe extern "C" fn pull(this: *mut c_void, context: *const abi::Context, when: i64, fault: *const abi::Fault) -> u32 {
    unsafe {
        at(this).call(
            ask::PULL,
            context,
            fault,
            |to| {
                to.word(when as u64);
            },
            |_| Ok(()),
        )
    }
}

unsafe extern "C" fn collect(
    this: *mut c_void,
    context: *const abi::Context,
    rows: *const abi::Batch,
    done: *mut usize,
    fault: *const abi::Fault,
) -> u32 {
    unsafe {
        let taken = |answer: &mut Answer<'_>| {
            *done = answer.word as usize;
            Ok(())
        };
        at(this).call(
            ask::COLLECT,
            context,
            fault,
            |to| {
                to.batch(rows);
            },
            taken,
        )
    }
}

unsafe extern "C" fn collect_list(
    this: *mut c_void,
    context: *const abi::Context,
    rows: *const abi::Batch,
    fault: *const abi::Fault,
) -> u32 {
    unsafe {
        at(this).call(
            ask::COLLECT_LIST,
            context,
            fault,
            |to| {
                to.batch(rows);
            },
            |_| Ok(()),
        )
    }
}

unsafe extern "C" fn collect_bytes(
    this: *mut c_void,
    context: *const abi::Context,
    messages: *const abi::Messages,
    done: *mut usize,
    fault: *const abi::Fault,
) -> u32 {
    unsafe {
        let taken = |answer: &mut Answer<'_>| {
            *done = answer.word as usize;
            Ok(())
        };
        at(this).call(
            ask::COLLECT_BYTES,
            context,
            fault,
            |to| {
                to.messages(messages);
            },
            taken,
        )
    }
}

unsafe extern "C" fn position(
    this: *mut c_void,
    context: *const abi::Context,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    unsafe { at(this).call(ask::POSITION, context, fault, |_| {}, |answer| answer.put(into).map(drop)) }
}

unsafe extern "C" fn find(
    this: *mut c_void,
    context: *const abi::Context,
    keys: *const abi::Batch,
    fields: *const abi::Str,
    fields_count: usize,
    into: *const abi::Answers,
    fault: *const abi::Fault,
) -> u32 {
    unsafe {
        let write = |to: &mut Writer| {
            let fields = if fields_count == 0 { &[] } else { std::slice::from_raw_parts(fields, fields_count) };
            to.word(fields.len() as u64);
            fields.iter().for_each(|field| {
                to.str(*field);
            });
            to.batch(keys);
        };
        let read = |answer: &mut Answer<'_>| {
            let from = &mut answer.rest;
            for _ in 0..from.word()? {
                let (what, question) = (from.word()?, from.word()? as usize);
                match what {
                    ROWS => {
                        let batch = from.batch()?;
                        if let Some(put) = has!(into, rows) {
                            put(into, question, &batch.raw);
                        }
                    }
                    BYTES => {
                        let messages = from.messages()?;
                        if let Some(put) = has!(into, bytes) {
                            put(into, question, &messages.raw);
                        }
                    }
                    _ => return Err(Broken),
                }
            }
            Ok(())
        };
        at(this).call(ask::FIND, context, fault, write, read)
    }
}
