//! On the engine's side: functions that live in a process, behind the table of the contract. They outlive their process:
//! a call that has ended it is made again, row by row, and a row that ends it a second time has an error for its result.
//! Groups of aggregates are made again from what was saved of them and the rows that came since. What a call that died has
//! stored is undone, so that each row is counted once.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kuiper_plugin::abi;
use kuiper_plugin::abi::code;
use kuiper_plugin::has;

use super::super::desk::{Desk, Savepoint};
use super::lane::Lane;
use super::manifest::entry;
use super::process::{Death, Process};
use super::protocol::{Answer, ask, say};
use super::remote::{Failure, Made, Remote, asked, nonsense, read};
use super::wire::{Broken, Message, Writer};

/// How long a call waits for a process that does not run; longer than the longest pause between two.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a call is made that others have ended the process of.
const TRIES: u32 = 10;
/// Rows that a group keeps to be given again, before it is saved.
const KEPT: usize = 128;

pub fn table(entries: u64) -> abi::Function {
    let has = |entry: u64| entries & entry != 0;
    abi::Function {
        size: size_of::<abi::Function>() as u32,
        reserved: 0,
        create: has(entry::CREATE).then_some(create as _),
        validate: has(entry::VALIDATE).then_some(validate as _),
        call: has(entry::CALL).then_some(call as _),
        start: has(entry::START).then_some(start as _),
        add: has(entry::ADD).then_some(add as _),
        result: has(entry::RESULT).then_some(result as _),
        save: has(entry::SAVE).then_some(save as _),
        load: has(entry::LOAD).then_some(load as _),
        discard: Some(discard),
        destroy: Some(destroy),
    }
}

/// An instance of a function, made in a process when it is first called there.
struct Function {
    remote: &'static Remote,
    made: Option<Made>,
}

/// A group of an aggregate.
struct Group {
    /// Where it is, in that process.
    there: Option<(Arc<Process>, u64)>,
    /// What it can be made of again.
    saved: Option<Vec<u8>>,
    /// What was stored by then; from the first row on.
    stored: Option<Savepoint>,
    /// Arguments that came since, each as a message has them.
    since: Vec<Vec<u8>>,
    /// Rows of its whole life.
    rows: usize,
    /// How many are kept before it is saved.
    most: usize,
}

/// The desk of a call, where there is a context.
///
/// # Safety
/// The context is null, or one of the engine's that lives as long as is said.
unsafe fn desk<'d>(context: *const abi::Context) -> Option<&'d Desk> {
    // SAFETY: see above: every context of the engine is the head of a desk.
    unsafe { context.cast::<Desk>().as_ref() }
}

/// How a call went.
enum Went {
    Answered(Arc<Process>, Message),
    /// The process has ended; whether by this call, as far as is known.
    Died(Death, bool),
    Failed(Failure),
}

impl Function {
    /// One try, on a lane that is free.
    unsafe fn attempt(
        &mut self,
        what: u64,
        context: *const abi::Context,
        write: impl FnOnce(&mut Made, &mut Lane, &mut Writer) -> Result<(), Failure>,
    ) -> Went {
        let process = match self.remote.keeper.process(PATIENCE) {
            Ok(process) => process,
            Err(text) => return Went::Failed(Failure::Said(code::LATER, text)),
        };
        let mut lane = match process.borrow_lane() {
            Ok(lane) => lane,
            Err(death) => return Went::Died(death, false),
        };
        let number = lane.number;
        // SAFETY: the context is of the contract.
        let desk = unsafe { desk(context) };
        let before = desk.map(Desk::savepoint);
        let called = || -> Result<Message, Failure> {
            if self.made.as_ref().is_none_or(|made| !Arc::ptr_eq(&made.process, &process)) {
                self.made = Some(Made::new(self.remote, process.clone(), &mut lane)?);
            }
            let Some(made) = &mut self.made else { return Err(Failure::Said(code::BUG, "it was not made".into())) };
            // SAFETY: the context is of the contract.
            unsafe {
                let mut writer = made.request(&mut lane, what, context)?;
                write(made, &mut lane, &mut writer)?;
                asked(&process, &mut lane, what, &mut writer, context)
            }
        };
        match called() {
            Ok(message) => {
                process.return_lane(lane);
                Went::Answered(process, message)
            }
            Err(Failure::Dead(death)) => {
                if let Some(before) = before {
                    before.put_back();
                }
                let blamed = death.blames(number);
                Went::Died(death, blamed)
            }
            Err(failure) => {
                process.return_lane(lane);
                Went::Failed(failure)
            }
        }
    }

    /// Tries until it is answered, or has ended the process twice.
    unsafe fn insist(
        &mut self,
        what: u64,
        context: *const abi::Context,
        mut write: impl FnMut(&mut Made, &mut Lane, &mut Writer) -> Result<(), Failure>,
        mut deaths: u32,
    ) -> Result<(Arc<Process>, Message), Failure> {
        for tried in 1.. {
            // SAFETY: the context is of the contract.
            match unsafe { self.attempt(what, context, &mut write) } {
                Went::Answered(process, message) => return Ok((process, message)),
                Went::Failed(failure) => return Err(failure),
                Went::Died(death, blamed) => {
                    deaths += u32::from(blamed);
                    if deaths >= 2 || tried >= TRIES {
                        return Err(Failure::Dead(death));
                    }
                }
            }
        }
        Err(Failure::Said(code::BUG, "nothing was tried".into()))
    }

    /// All rows at once, and where that ends the process, one by one.
    unsafe fn call(
        &mut self,
        context: *const abi::Context,
        rows: *const abi::Batch,
        output: *const abi::Output,
        fault: *const abi::Fault,
    ) -> u32 {
        // SAFETY: the pointers are of the contract.
        unsafe {
            let mut tried = 0;
            let deaths = loop {
                let went = self.attempt(ask::CALL, context, |_, _, to| {
                    to.batch(rows);
                    Ok(())
                });
                match went {
                    Went::Answered(process, mut message) => {
                        let given = read(&process, &mut message).and_then(|mut answer| {
                            answer.tell(fault);
                            let put = answer.put(output);
                            put.map(|_| answer.code).map_err(|broken| nonsense(&process, broken))
                        });
                        return given.unwrap_or_else(|failure| failure.tell(fault));
                    }
                    Went::Failed(failure) => return failure.tell(fault),
                    Went::Died(_, false) if tried < TRIES => tried += 1,
                    Went::Died(_, blamed) => break u32::from(blamed),
                }
            };
            let (Some(put), Some(fail)) = (has!(output, put), has!(output, fail)) else { return code::BUG };
            for row in 0..(*rows).height {
                let write = |_: &mut Made, _: &mut Lane, to: &mut Writer| {
                    to.argument_row(rows, row);
                    Ok(())
                };
                match self.insist(ask::CALL, context, write, deaths) {
                    Ok((process, mut message)) => match one(&process, &mut message) {
                        Ok(value) => put(output, &value, 1),
                        Err(text) => fail(output, abi::Str::new(&text)),
                    },
                    Err(failure) => fail(output, abi::Str::new(&words(&failure))),
                }
            }
            code::OK
        }
    }
}

impl Group {
    fn new() -> Group {
        Group { there: None, saved: None, stored: None, since: Vec::new(), rows: 0, most: KEPT }
    }

    /// Where it is in the process of the instance; made again there where it was in another one.
    unsafe fn found(&mut self, made: &mut Made, lane: &mut Lane, context: *const abi::Context) -> Result<u64, Failure> {
        if let Some((process, there)) = &self.there
            && Arc::ptr_eq(process, &made.process)
        {
            return Ok(*there);
        }
        let what = if self.saved.is_some() { ask::RESTORE } else { ask::START };
        // SAFETY: the context is of the contract.
        unsafe {
            let mut writer = made.request(lane, what, std::ptr::null())?;
            writer.append(self.saved.as_deref().unwrap_or_default());
            let mut message = asked(&made.process, lane, what, &mut writer, std::ptr::null())?;
            let answer = read(&made.process, &mut message)?;
            if answer.code != code::OK {
                return Err(Failure::Said(answer.code, String::from_utf8_lossy(answer.text).into_owned()));
            }
            let there = answer.word;
            // What the rows stored is stored already, and not seen by those before them.
            let now = desk(context).filter(|_| !self.since.is_empty()).map(Desk::savepoint);
            if let (Some(_), Some(stored)) = (&now, &self.stored) {
                stored.put_back();
            }
            let again = self.since.iter().try_for_each(|rows| {
                let mut writer = made.request(lane, ask::ADD, context)?;
                writer.word(there).append(rows);
                asked(&made.process, lane, ask::ADD, &mut writer, context).map(drop)
            });
            if let Some(now) = now {
                now.put_back();
            }
            again?;
            self.there = Some((made.process.clone(), there));
            Ok(there)
        }
    }
}

/// What the engine holds for a group call: an instance, and a group of it.
struct Pair<'g> {
    function: &'g mut Function,
    group: &'g mut Group,
}

impl Pair<'_> {
    /// A call about the group.
    unsafe fn ask(
        &mut self,
        what: u64,
        context: *const abi::Context,
        arguments: &[u8],
    ) -> Result<(Arc<Process>, Message), Failure> {
        let group = &mut *self.group;
        // SAFETY: the context is of the contract, here and below.
        if let (None, Some(desk)) = (&group.stored, unsafe { desk(context) }) {
            group.stored = Some(desk.savepoint());
        }
        let write = |made: &mut Made, lane: &mut Lane, to: &mut Writer| {
            // SAFETY: as above.
            let there = unsafe { group.found(made, lane, context)? };
            to.word(there).append(arguments);
            Ok(())
        };
        // SAFETY: as above.
        unsafe { self.function.insist(what, context, write, 0) }
    }

    unsafe fn add(
        &mut self,
        context: *const abi::Context,
        rows: *const abi::Batch,
        fault: *const abi::Fault,
    ) -> Result<u32, Failure> {
        let mut part = Writer::part();
        // SAFETY: the pointers are of the contract.
        unsafe {
            part.batch(rows);
            let (process, mut message) = self.ask(ask::ADD, context, part.raw())?;
            let answer = read(&process, &mut message)?;
            answer.tell(fault);
            if answer.code == code::OK {
                self.group.since.push(part.raw().to_vec());
                self.group.rows += (*rows).height;
                self.keep(context)?;
            }
            Ok(answer.code)
        }
    }

    /// Saves the group when many rows have come since, so that they need not be kept.
    unsafe fn keep(&mut self, context: *const abi::Context) -> Result<(), Failure> {
        let saves = entry::SAVE | entry::LOAD;
        if self.group.since.len() < self.group.most || self.function.remote.entries & saves != saves {
            return Ok(());
        }
        // SAFETY: the context is of the contract.
        let (process, mut message) = unsafe { self.ask(ask::SAVE, context, &[])? };
        // What saving costs grows with the group, so that it is done ever more seldom.
        self.group.most = KEPT.max(self.group.rows / 2);
        if let Ok(value) = one(&process, &mut message) {
            let mut part = Writer::part();
            // SAFETY: the value lies in the message.
            unsafe { part.flattened(std::slice::from_ref(&value)) };
            self.group.saved = Some(part.raw().to_vec());
            // SAFETY: the context is of the contract.
            self.group.stored = unsafe { desk(context) }.map(Desk::savepoint);
            self.group.since.clear();
        }
        Ok(())
    }

    /// A call that puts something.
    unsafe fn put(
        &mut self,
        what: u64,
        context: *const abi::Context,
        output: *const abi::Output,
        fault: *const abi::Fault,
    ) -> Result<u32, Failure> {
        // SAFETY: the pointers are of the contract.
        unsafe {
            let (process, mut message) = self.ask(what, context, &[])?;
            let mut answer = read(&process, &mut message)?;
            answer.tell(fault);
            answer.put(output).map_err(|broken| nonsense(&process, broken))?;
            Ok(answer.code)
        }
    }
}

fn words(failure: &Failure) -> String {
    match failure {
        Failure::Dead(death) => format!("{}, by this row", death.text),
        Failure::Said(code::BUG, text) => format!("{text}; this is a bug of the plugin"),
        Failure::Said(_, text) => text.clone(),
    }
}

/// The one value of an answer; an error is the row's.
fn one(process: &Process, message: &mut Message) -> Result<abi::Value, String> {
    let mut answer = read(process, message).map_err(|failure| words(&failure))?;
    if answer.code != code::OK {
        return Err(words(&Failure::Said(answer.code, String::from_utf8_lossy(answer.text).into_owned())));
    }
    match only(&mut answer) {
        Ok(value) => value,
        Err(broken) => Err(words(&nonsense(process, broken))),
    }
}

fn only(answer: &mut Answer<'_>) -> Result<Result<abi::Value, String>, Broken> {
    let count = answer.rest.word()?;
    if count != 1 {
        return Ok(Err(format!("the plugin gave {count} results for one row; this is a bug of the plugin")));
    }
    let value = answer.rest.value()?;
    Ok(match value.tag {
        super::wire::FAILED => {
            // SAFETY: it lies in the message.
            Err(unsafe { abi::Str { pointer: value.data.pointer.cast(), len: value.len as usize }.to_text() })
        }
        _ => Ok(value),
    })
}

// What follows is called by the engine as a plugin's entries are; pointers keep the contract, and an instance and its
// groups are used by one thread at a time.

/// Runs a call; a bug of ours does not unwind into who called.
unsafe fn guarded(fault: *const abi::Fault, call: impl FnOnce() -> Result<u32, Failure>) -> u32 {
    let done = catch_unwind(AssertUnwindSafe(call));
    // SAFETY: see above, here and below.
    done.map_or(code::BUG, |done| done.unwrap_or_else(|failure| unsafe { failure.tell(fault) }))
}

unsafe extern "C" fn create(data: *mut c_void, _: *const abi::Fault) -> *mut c_void {
    // `data` is what the symbol was given, which is never freed.
    let remote: &'static Remote = unsafe { &*data.cast::<Remote>() };
    Box::into_raw(Box::new(Function { remote, made: None })).cast()
}

unsafe extern "C" fn destroy(this: *mut c_void) {
    let function = unsafe { Box::from_raw(this.cast::<Function>()) };
    let destroyed = || {
        if let Some(made) = function.made {
            let process = made.process.clone();
            // One that has died has destroyed it.
            if process.is_alive()
                && let Ok(mut lane) = process.borrow_lane()
            {
                made.destroyed(&mut lane);
                process.return_lane(lane);
            }
        }
    };
    // A bug of ours leaves the instance to the process.
    let _ = catch_unwind(AssertUnwindSafe(destroyed));
}

unsafe extern "C" fn validate(
    this: *mut c_void,
    arguments: *const abi::Value,
    count: usize,
    fault: *const abi::Fault,
) -> u32 {
    unsafe {
        let function = &mut *this.cast::<Function>();
        guarded(fault, || {
            let values = if count == 0 { &[] } else { std::slice::from_raw_parts(arguments, count) };
            let write = |_: &mut Made, _: &mut Lane, to: &mut Writer| {
                to.values(values);
                Ok(())
            };
            let (process, mut message) = function.insist(ask::VALIDATE, std::ptr::null(), write, 0)?;
            let answer = read(&process, &mut message)?;
            answer.tell(fault);
            Ok(answer.code)
        })
    }
}

unsafe extern "C" fn call(
    this: *mut c_void,
    context: *const abi::Context,
    rows: *const abi::Batch,
    output: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    unsafe {
        let function = &mut *this.cast::<Function>();
        guarded(fault, || Ok(function.call(context, rows, output, fault)))
    }
}

/// Makes a group, from what was saved or from nothing.
unsafe fn begun(this: *mut c_void, saved: Option<Vec<u8>>, fault: *const abi::Fault) -> *mut c_void {
    unsafe {
        let function = &mut *this.cast::<Function>();
        let mut group = Group { saved, ..Group::new() };
        let begin = || -> Result<Group, Failure> {
            let what = if group.saved.is_some() { ask::RESTORE } else { ask::START };
            let saved = group.saved.clone().unwrap_or_default();
            let write = |_: &mut Made, _: &mut Lane, to: &mut Writer| {
                to.append(&saved);
                Ok(())
            };
            let (process, mut message) = function.insist(what, std::ptr::null(), write, 0)?;
            let answer = read(&process, &mut message)?;
            if answer.code != code::OK {
                return Err(Failure::Said(answer.code, String::from_utf8_lossy(answer.text).into_owned()));
            }
            group.there = Some((process, answer.word));
            Ok(group)
        };
        match catch_unwind(AssertUnwindSafe(begin)) {
            Ok(Ok(group)) => Box::into_raw(Box::new(group)).cast(),
            Ok(Err(failure)) => {
                failure.tell(fault);
                std::ptr::null_mut()
            }
            Err(_) => {
                say(fault, code::BUG, "making a group failed");
                std::ptr::null_mut()
            }
        }
    }
}

unsafe extern "C" fn start(this: *mut c_void, fault: *const abi::Fault) -> *mut c_void {
    unsafe { begun(this, None, fault) }
}

unsafe extern "C" fn load(this: *mut c_void, saved: *const abi::Value, fault: *const abi::Fault) -> *mut c_void {
    unsafe {
        let mut part = Writer::part();
        part.flattened(std::slice::from_ref(&*saved));
        begun(this, Some(part.raw().to_vec()), fault)
    }
}

unsafe fn pair<'g>(this: *mut c_void, group: *mut c_void) -> Pair<'g> {
    unsafe { Pair { function: &mut *this.cast::<Function>(), group: &mut *group.cast::<Group>() } }
}

unsafe extern "C" fn add(
    this: *mut c_void,
    context: *const abi::Context,
    group: *mut c_void,
    rows: *const abi::Batch,
    fault: *const abi::Fault,
) -> u32 {
    unsafe { guarded(fault, || pair(this, group).add(context, rows, fault)) }
}

unsafe extern "C" fn result(
    this: *mut c_void,
    context: *const abi::Context,
    group: *mut c_void,
    output: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    unsafe { guarded(fault, || pair(this, group).put(ask::RESULT, context, output, fault)) }
}

unsafe extern "C" fn save(
    this: *mut c_void,
    context: *const abi::Context,
    group: *mut c_void,
    output: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    unsafe { guarded(fault, || pair(this, group).put(ask::SAVE, context, output, fault)) }
}

unsafe extern "C" fn discard(this: *mut c_void, group: *mut c_void) {
    unsafe {
        let function = &mut *this.cast::<Function>();
        let group = Box::from_raw(group.cast::<Group>());
        let discarded = || {
            let (Some((process, there)), Some(made)) = (&group.there, &mut function.made) else { return };
            if !process.is_alive() || !Arc::ptr_eq(process, &made.process) {
                return;
            }
            let Ok(mut lane) = process.borrow_lane() else { return };
            let asked = made.request(&mut lane, ask::DISCARD, std::ptr::null()).and_then(|mut writer| {
                writer.word(*there);
                asked(process, &mut lane, ask::DISCARD, &mut writer, std::ptr::null())
            });
            if asked.is_ok() {
                process.return_lane(lane);
            }
        };
        // A bug of ours leaves the group to the process.
        let _ = catch_unwind(AssertUnwindSafe(discarded));
    }
}
