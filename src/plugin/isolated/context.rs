//! In the process of a plugin: the context that it is handed. Each of its functions is a message to the engine, on the
//! lane of the call that the thread is in; a thread of the plugin's own gets a lane of its own when it first asks.

use std::cell::{Cell, RefCell};
use std::mem::size_of;
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kuiper_plugin::abi;
use kuiper_plugin::abi::code;
use kuiper_plugin::since;

use super::lane::{Control, Lane};
use super::protocol::{Answer, LOST, packet, say, upward};
use super::wire::{Broken, Message, Reader, Writer};

/// Lanes that this side makes have numbers from here.
const OWN_LANES: u64 = 1 << 32;

/// The line to the engine; packets may be sent by any thread, also by one that is about to end the process.
pub static CONTROL: OnceLock<Control> = OnceLock::new();

thread_local! {
    /// The lane of the call that this thread is in.
    static LANE: Cell<*mut Lane> = const { Cell::new(null_mut()) };
    /// The number of that lane, for whoever looks while the thread is falling.
    pub static NUMBER: Cell<u64> = const { Cell::new(0) };
    /// The lane of a thread that is in no call.
    static OWN: RefCell<Option<Lane>> = const { RefCell::new(None) };
}

/// Has the thread ask on this lane from now on.
pub fn speak_on(lane: *mut Lane, number: u64) {
    LANE.set(lane);
    NUMBER.set(number);
}

/// Without the engine there is nothing left to do, and nobody to tell.
pub fn end() -> ! {
    // SAFETY: it ends the process, and runs nothing of it.
    unsafe { libc::_exit(LOST) }
}

/// One use of the plugin. The C struct stands first, so that a pointer to it is a pointer to the whole.
#[repr(C)]
pub struct Desk {
    raw: abi::Context,
    /// By which the engine knows it.
    id: u64,
    held: AtomicUsize,
    _texts: [Box<str>; 2],
}

/// Which entries the engine's own context has; a source has more than a sink.
pub mod offers {
    pub const EMITS: u64 = 1;
    pub const EMITS_WITH: u64 = 2;
    pub const ASKS: u64 = 4;
}

impl Desk {
    /// Makes what the engine introduces; it is held until the engine forgets it and the plugin has released it.
    pub fn introduced(from: &mut Reader<'_>) -> Result<*mut Desk, Broken> {
        let (id, site, offered) = (from.word()?, from.word()?, from.word()?);
        let (instance, run) = (from.word()?, from.word()?);
        let (rule, operator) = (from.text()?.into_boxed_str(), from.text()?.into_boxed_str());
        let has = |what: u64| offered & what != 0;
        let (emits, with, asks) = (has(offers::EMITS), has(offers::EMITS_WITH), has(offers::ASKS));
        let raw = abi::Context {
            size: size_of::<abi::Context>() as u32,
            abi: abi::VERSION,
            host: null_mut(),
            rule: abi::Str::new(&rule),
            operator: abi::Str::new(&operator),
            site,
            retain: Some(retain),
            release: Some(release),
            log: Some(log),
            status: Some(status),
            state_get: Some(state_get),
            state_put: Some(state_put),
            emit_rows: emits.then_some(emit_rows as _),
            emit_bytes: emits.then_some(emit_bytes as _),
            emit_error: emits.then_some(emit_error as _),
            emit_end: emits.then_some(emit_end as _),
            stopped: Some(stopped),
            wait: Some(wait),
            emit_rows_with: with.then_some(emit_rows_with as _),
            emit_bytes_with: with.then_some(emit_bytes_with as _),
            acknowledged: with.then_some(acknowledged as _),
            template: asks.then_some(template as _),
            json_path: asks.then_some(json_path as _),
            count: asks.then_some(count as _),
            secret: asks.then_some(secret as _),
            folder: asks.then_some(folder as _),
            instance,
            run,
        };
        let desk = Desk { raw, id, held: AtomicUsize::new(1), _texts: [rule, operator] };
        Ok(Box::into_raw(Box::new(desk)))
    }

    /// Gives back what was introduced.
    ///
    /// # Safety
    /// It came from `introduced`, and is not used any more.
    pub unsafe fn forgotten(desk: *mut Desk) {
        // SAFETY: see above.
        unsafe { release(desk.cast()) };
    }
}

/// Says something on the lane of this thread, and waits for the answer where there will be one.
fn speak(what: u64, message: &[u8]) -> Option<Message> {
    let on = |lane: &mut Lane| {
        if lane.send(message).is_err() {
            end();
        }
        // The engine answers when it can, and not before.
        (what > upward::LAST_TOLD).then(|| lane.receive(|| true).unwrap_or_else(|_| end()))
    };
    match LANE.get() {
        lane if lane.is_null() => OWN.with_borrow_mut(|own| on(own.get_or_insert_with(own_lane))),
        // SAFETY: it is the lane of the call that this very thread is in, which does not touch it meanwhile.
        lane => on(unsafe { &mut *lane }),
    }
}

fn own_lane() -> Lane {
    static NEXT: AtomicU64 = AtomicU64::new(OWN_LANES);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (ours, theirs) = UnixStream::pair().unwrap_or_else(|error| {
        // The plugin has used up all descriptors that it may have.
        says(&format!("no way to the engine is left: {error}"));
        std::process::abort()
    });
    let sent = CONTROL.get().map(|control| control.send([packet::LANE, number, 0, 0], Some(&theirs.into())));
    match sent {
        Some(Ok(())) => Lane::new(number, ours),
        _ => end(),
    }
}

/// Writes to what the engine logs of this process.
pub fn says(text: &str) {
    let line = format!("{text}\n");
    // SAFETY: the bytes are there. Nothing can be done where nobody reads.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

/// # Safety
/// `this` is the head of a desk that lives for the call.
unsafe fn ask(this: *const abi::Context, what: u64, write: impl FnOnce(&mut Writer)) -> Option<Message> {
    let mut writer = Writer::new(what);
    // SAFETY: see above.
    writer.word(unsafe { (*this.cast::<Desk>()).id });
    write(&mut writer);
    speak(what, writer.finish())
}

/// # Safety
/// As `ask`; the output and the fault are null, or of the contract.
unsafe fn asked(
    this: *const abi::Context,
    what: u64,
    into: *const abi::Output,
    fault: *const abi::Fault,
    write: impl FnOnce(&mut Writer),
) -> u32 {
    // SAFETY: see above.
    unsafe {
        let Some(mut message) = ask(this, what, write) else { return code::BUG };
        let Ok(mut answer) = Answer::read(&mut message) else { end() };
        answer.tell(fault);
        if answer.put(into).is_err() {
            end();
        }
        answer.code
    }
}

// What follows is called by the plugin: `this` is the head of a desk, all other pointers are valid for the call.

unsafe extern "C" fn retain(this: *const abi::Context) {
    // SAFETY: see above.
    unsafe { (*this.cast::<Desk>()).held.fetch_add(1, Ordering::Relaxed) };
}

unsafe extern "C" fn release(this: *const abi::Context) {
    // SAFETY: see above; each release belongs to a retain, or to the introduction.
    unsafe {
        if (*this.cast::<Desk>()).held.fetch_sub(1, Ordering::AcqRel) == 1 {
            ask(this, upward::GONE, |_| {});
            drop(Box::from_raw(this.cast::<Desk>().cast_mut()));
        }
    }
}

unsafe extern "C" fn log(this: *const abi::Context, level: u32, text: abi::Str) {
    // SAFETY: see above.
    unsafe {
        ask(this, upward::LOG, |to| {
            to.word(u64::from(level)).str(text);
        })
    };
}

unsafe extern "C" fn status(this: *const abi::Context, status: u32, text: abi::Str) {
    // SAFETY: see above.
    unsafe {
        ask(this, upward::STATUS, |to| {
            to.word(u64::from(status)).str(text);
        })
    };
}

unsafe extern "C" fn state_get(this: *const abi::Context, key: abi::Str, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::STATE_GET, into, std::ptr::null(), |to| {
            to.str(key);
        })
    }
}

unsafe extern "C" fn state_put(this: *const abi::Context, key: abi::Str, value: *const abi::Value) -> u32 {
    // SAFETY: see above.
    unsafe {
        let write = |to: &mut Writer| {
            to.str(key).flattened(std::slice::from_ref(&*value));
        };
        asked(this, upward::STATE_PUT, std::ptr::null(), std::ptr::null(), write)
    }
}

unsafe extern "C" fn emit_rows(this: *const abi::Context, batch: *const abi::Batch) -> u32 {
    // SAFETY: see above.
    unsafe { emit_rows_with(this, batch, std::ptr::null()) }
}

unsafe extern "C" fn emit_bytes(this: *const abi::Context, messages: *const abi::Messages) -> u32 {
    // SAFETY: see above.
    unsafe { emit_bytes_with(this, messages, std::ptr::null()) }
}

unsafe extern "C" fn emit_rows_with(
    this: *const abi::Context,
    batch: *const abi::Batch,
    emission: *const abi::Emission,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::EMIT_ROWS, std::ptr::null(), std::ptr::null(), |to| {
            put_emission(to, emission);
            to.batch(batch);
        })
    }
}

unsafe extern "C" fn emit_bytes_with(
    this: *const abi::Context,
    messages: *const abi::Messages,
    emission: *const abi::Emission,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::EMIT_BYTES, std::ptr::null(), std::ptr::null(), |to| {
            put_emission(to, emission);
            to.messages(messages);
        })
    }
}

/// # Safety
/// The emission is null, or of the contract.
unsafe fn put_emission(to: &mut Writer, emission: *const abi::Emission) {
    // SAFETY: see above.
    unsafe {
        if emission.is_null() {
            to.word(0);
            return;
        }
        let position = since!(emission, position, std::ptr::null());
        to.word(if position.is_null() { 1 } else { 3 }).word(since!(emission, token, 0));
        if !position.is_null() {
            to.flattened(std::slice::from_ref(&*position));
        }
    }
}

unsafe extern "C" fn emit_error(this: *const abi::Context, text: abi::Str) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::EMIT_ERROR, std::ptr::null(), std::ptr::null(), |to| {
            to.str(text);
        })
    }
}

unsafe extern "C" fn emit_end(this: *const abi::Context) -> u32 {
    // SAFETY: see above.
    unsafe { asked(this, upward::EMIT_END, std::ptr::null(), std::ptr::null(), |_| {}) }
}

unsafe extern "C" fn stopped(this: *const abi::Context) -> u32 {
    // SAFETY: see above.
    unsafe { asked(this, upward::STOPPED, std::ptr::null(), std::ptr::null(), |_| {}) }
}

unsafe extern "C" fn wait(this: *const abi::Context, nanos: u64) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::WAIT, std::ptr::null(), std::ptr::null(), |to| {
            to.word(nanos);
        })
    }
}

unsafe extern "C" fn acknowledged(this: *const abi::Context, nanos: u64, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::ACKNOWLEDGED, into, std::ptr::null(), |to| {
            to.word(nanos);
        })
    }
}

unsafe extern "C" fn template(
    this: *const abi::Context,
    text: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    // SAFETY: see above.
    unsafe { made(this, upward::TEMPLATE, text, data, into, fault) }
}

unsafe extern "C" fn json_path(
    this: *const abi::Context,
    path: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    // SAFETY: see above.
    unsafe { made(this, upward::JSON_PATH, path, data, into, fault) }
}

/// # Safety
/// As `asked`.
unsafe fn made(
    this: *const abi::Context,
    what: u64,
    text: abi::Str,
    data: *const abi::Value,
    into: *const abi::Output,
    fault: *const abi::Fault,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        if data.is_null() {
            return say(fault, code::BUG, "there is no data");
        }
        asked(this, what, into, fault, |to| to.str(text).flattened(std::slice::from_ref(&*data)))
    }
}

unsafe extern "C" fn count(this: *const abi::Context, key: abi::Str, by: i64) -> i64 {
    // SAFETY: see above.
    unsafe {
        let Some(mut message) = ask(this, upward::COUNT, |to| {
            to.str(key).word(by as u64);
        }) else {
            return 0;
        };
        Answer::read(&mut message).map_or_else(|_| end(), |answer| answer.word as i64)
    }
}

unsafe extern "C" fn secret(this: *const abi::Context, name: abi::Str, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        asked(this, upward::SECRET, into, std::ptr::null(), |to| {
            to.str(name);
        })
    }
}

unsafe extern "C" fn folder(this: *const abi::Context, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe { asked(this, upward::FOLDER, into, std::ptr::null(), |_| {}) }
}
