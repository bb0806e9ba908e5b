//! What a plugin under trial talks to. It looks at everything that it is handed, and notes the first thing that is wrong.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, tag};
use kuiper_plugin::has;

use crate::data::Value;
use crate::plugin::cross::{Arena, taken};

use super::{Stop, failed};

/// Emissions that a plugin may still try after it was told to stop; threads of its own may not have heard yet.
const LATE: usize = 1_000;

/// One use of a plugin. The C struct stands first, so that a pointer to it is a pointer to the whole.
#[repr(C)]
pub struct Desk {
    raw: abi::Context,
    seen: Mutex<Seen>,
    news: Condvar,
    stopped: AtomicBool,
    /// How often it is retained.
    retained: AtomicI64,
    /// Calls into the plugin that are running.
    inside: AtomicUsize,
    bytes: bool,
}

// SAFETY: the pointers in `raw` lead to static functions and texts.
unsafe impl Send for Desk {}
// SAFETY: as above; what changes is atomic or behind a lock.
unsafe impl Sync for Desk {}

/// What the plugin did.
#[derive(Default)]
pub struct Seen {
    pub rows: usize,
    pub messages: usize,
    pub errors: usize,
    pub ended: bool,
    /// The last position of a rewindable source.
    pub position: Option<Value>,
    tokens: Vec<u64>,
    states: HashMap<String, Value>,
    counts: HashMap<String, i64>,
    late: usize,
    wrong: Option<String>,
}

impl Desk {
    /// For a source `bytes` says whether it is to emit messages and not rows.
    pub fn new(bytes: bool) -> Arc<Desk> {
        Arc::new(Desk {
            raw: abi::Context {
                size: std::mem::size_of::<abi::Context>() as u32,
                abi: abi::VERSION,
                host: std::ptr::null_mut(),
                rule: abi::Str::new("trial"),
                operator: abi::Str::new("trial_0"),
                site: 0,
                retain: Some(retain),
                release: Some(release),
                log: Some(log),
                status: Some(status),
                state_get: Some(state_get),
                state_put: Some(state_put),
                emit_rows: Some(emit_rows),
                emit_bytes: Some(emit_bytes),
                emit_error: Some(emit_error),
                emit_end: Some(emit_end),
                stopped: Some(stopped),
                wait: Some(wait),
                emit_rows_with: Some(emit_rows_with),
                emit_bytes_with: Some(emit_bytes_with),
                acknowledged: Some(acknowledged),
                template: Some(template),
                json_path: None,
                count: Some(count),
                secret: None,
                folder: None,
                instance: 1,
                run: 1,
            },
            seen: Mutex::default(),
            news: Condvar::new(),
            stopped: AtomicBool::new(false),
            retained: AtomicI64::new(0),
            inside: AtomicUsize::new(0),
            bytes,
        })
    }

    pub fn raw(self: &Arc<Desk>) -> *const abi::Context {
        Arc::as_ptr(self).cast()
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stop(&self) {
        let _seen = self.seen();
        self.stopped.store(true, Ordering::SeqCst);
        self.news.notify_all();
    }

    /// Waits until that much was emitted, or the end was.
    pub fn wait_for(&self, count: usize, time: Duration) -> bool {
        let missing =
            |seen: &mut Seen| !seen.ended && seen.wrong.is_none() && seen.rows + seen.messages + seen.errors < count;
        let waited = self.news.wait_timeout_while(self.seen(), time, missing);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Runs a call into the plugin.
    pub fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let done = call();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        done
    }

    /// What the plugin did wrong up to now.
    pub fn judged(&self) -> Result<(), Stop> {
        self.seen().wrong.clone().map_or(Ok(()), failed)
    }

    /// Whether everything that was retained is released, soon.
    pub fn released(&self) -> Result<(), Stop> {
        let begun = Instant::now();
        while self.retained.load(Ordering::SeqCst) > 0 {
            if begun.elapsed() > Duration::from_secs(5) {
                return failed("it has retained a context, and not released it 5 s after the instance was destroyed");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.judged()
    }

    fn wrong(&self, what: impl Into<String>) {
        self.seen().wrong.get_or_insert_with(|| what.into());
        self.news.notify_all();
    }

    /// Whoever uses a context is in a call that was handed it, or has retained it.
    fn used(&self, entry: &str) {
        if self.inside.load(Ordering::SeqCst) == 0 && self.retained.load(Ordering::SeqCst) <= 0 {
            self.wrong(format!("it calls `{entry}` of a context when no call is running, and has not retained it"));
        }
    }

    fn emitted(&self, entry: &str, tell: impl FnOnce(&mut Seen) -> Result<(), String>) -> u32 {
        self.used(entry);
        if self.stopped.load(Ordering::SeqCst) {
            let mut seen = self.seen();
            seen.late += 1;
            if seen.late > LATE {
                let told = format!("it goes on emitting after {LATE} answers that the rule is being stopped");
                seen.wrong.get_or_insert(told);
            }
            return code::STOPPED;
        }
        let mut seen = self.seen();
        if let Err(wrong) = tell(&mut seen) {
            seen.wrong.get_or_insert(format!("`{entry}`: {wrong}"));
        }
        self.news.notify_all();
        code::OK
    }
}

/// Looks at a value as a plugin handed it over.
///
/// # Safety
/// Pointers lead to what the value says, or are null.
pub unsafe fn look(value: *const abi::Value, depth: u32) -> Result<(), String> {
    if value.is_null() {
        return Err("a value is a null pointer".to_owned());
    }
    // SAFETY: see above.
    unsafe {
        let value = &*value;
        let pointer = value.data.pointer;
        let pointed = (tag::TEXT..=tag::BYTES).contains(&value.tag) || (tag::ARRAY..=tag::OBJECT).contains(&value.tag);
        if pointed && pointer.is_null() && value.len > 0 {
            return Err(format!("a value of {} things is a null pointer", value.len));
        }
        match value.tag {
            tag::BOOL if !(0..=1).contains(&value.data.int) => Err(format!("a boolean is {}", value.data.int)),
            tag::TEXT => text(abi::Str { pointer: pointer.cast(), len: value.len as usize }, "a text"),
            tag::ARRAY | tag::OBJECT if depth == 0 => Err("values are nested more than 128 deep".to_owned()),
            tag::ARRAY => {
                (0..value.len as usize).try_for_each(|n| look(pointer.cast::<abi::Value>().add(n), depth - 1))
            }
            tag::OBJECT => (0..value.len as usize).try_for_each(|n| {
                let member = pointer.cast::<abi::Member>().add(n);
                text((*member).key, "a key")?;
                look(&raw const (*member).value, depth - 1)
            }),
            known if known <= tag::MISSING => Ok(()),
            other => Err(format!("a value has the tag {other}, which is none")),
        }
    }
}

/// # Safety
/// As [`look`].
unsafe fn text(text: abi::Str, what: &str) -> Result<(), String> {
    if text.pointer.is_null() && text.len > 0 {
        return Err(format!("{what} of {} bytes is a null pointer", text.len));
    }
    // SAFETY: see above.
    match std::str::from_utf8(unsafe { text.as_bytes() }) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{what} is not UTF-8")),
    }
}

/// # Safety
/// The batch keeps the contract, but for what is looked at here.
unsafe fn look_at_rows(batch: *const abi::Batch) -> Result<usize, String> {
    // SAFETY: see above.
    unsafe {
        if batch.is_null() {
            return Err("the batch is a null pointer".to_owned());
        }
        if ((*batch).size as usize) < std::mem::offset_of!(abi::Batch, properties) {
            return Err(format!("the batch says that it has {} bytes, fewer than it has", (*batch).size));
        }
        let (width, height) = ((*batch).width, (*batch).height);
        if width > 0 && (*batch).columns.is_null() {
            return Err("the batch has no names of columns".to_owned());
        }
        (0..width).try_for_each(|n| text(*(*batch).columns.add(n), "a column"))?;
        if width * height > 0 && (*batch).values.is_null() {
            return Err("the batch has no values".to_owned());
        }
        (0..width * height).try_for_each(|n| look((*batch).values.add(n), 128))?;
        if !(*batch).metas.is_null() {
            (0..height).try_for_each(|n| look((*batch).metas.add(n), 128))?;
        }
        Ok(height)
    }
}

/// # Safety
/// As [`look_at_rows`].
unsafe fn look_at_messages(all: *const abi::Messages) -> Result<usize, String> {
    // SAFETY: see above.
    unsafe {
        if all.is_null() {
            return Err("the messages are a null pointer".to_owned());
        }
        let count = (*all).count;
        if count > 0 && (*all).payloads.is_null() {
            return Err("the messages have no payloads".to_owned());
        }
        for n in 0..count {
            let payload = *(*all).payloads.add(n);
            if payload.pointer.is_null() && payload.len > 0 {
                return Err(format!("a payload of {} bytes is a null pointer", payload.len));
            }
        }
        if !(*all).metas.is_null() {
            (0..count).try_for_each(|n| look((*all).metas.add(n), 128))?;
        }
        Ok(count)
    }
}

/// # Safety
/// `this` is a context that a `Desk` stands behind, which lives: it is in a call, or retained.
unsafe fn desk<'d>(this: *const abi::Context) -> &'d Desk {
    // SAFETY: see above.
    unsafe { &*this.cast::<Desk>() }
}

unsafe extern "C" fn retain(this: *const abi::Context) {
    // SAFETY: see `desk`.
    unsafe {
        desk(this).retained.fetch_add(1, Ordering::SeqCst);
        Arc::increment_strong_count(this.cast::<Desk>());
    }
}

unsafe extern "C" fn release(this: *const abi::Context) {
    // SAFETY: see `desk`. What was not retained is not given back.
    unsafe {
        if desk(this).retained.fetch_sub(1, Ordering::SeqCst) <= 0 {
            desk(this).retained.fetch_add(1, Ordering::SeqCst);
            desk(this).wrong("it releases a context that it has not retained");
            return;
        }
        Arc::decrement_strong_count(this.cast::<Desk>());
    }
}

unsafe extern "C" fn log(this: *const abi::Context, level: u32, line: abi::Str) {
    // SAFETY: see `desk`; the text is valid for the call.
    unsafe {
        desk(this).used("log");
        if let Err(wrong) = text(line, "a line of the log") {
            desk(this).wrong(wrong);
        }
        if !(1..=4).contains(&level) {
            desk(this).wrong(format!("`log` with level {level}, which is none"));
        }
    }
}

unsafe extern "C" fn status(this: *const abi::Context, status: u32, why: abi::Str) {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("status");
        if let Err(wrong) = text(why, "the text of a status") {
            desk(this).wrong(wrong);
        }
        if status > 2 {
            desk(this).wrong(format!("`status` {status}, which is none"));
        }
    }
}

unsafe extern "C" fn state_get(this: *const abi::Context, key: abi::Str, into: *const abi::Output) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("state_get");
        let state = desk(this).seen().states.get(&key.to_text()).cloned();
        match (state, has!(into, put)) {
            (Some(state), Some(put)) => {
                let mut arena = Arena::default();
                put(into, &arena.lend(&state), 1);
                code::OK
            }
            _ => code::NEVER,
        }
    }
}

unsafe extern "C" fn state_put(this: *const abi::Context, key: abi::Str, value: *const abi::Value) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("state_put");
        if let Err(wrong) = look(value, 128) {
            desk(this).wrong(format!("`state_put`: {wrong}"));
            return code::NEVER;
        }
        let value = taken(&*value);
        let states = &mut desk(this).seen().states;
        if value.is_null() {
            states.remove(&key.to_text())
        } else {
            states.insert(key.to_text(), value)
        };
        code::OK
    }
}

unsafe extern "C" fn emit_rows(this: *const abi::Context, batch: *const abi::Batch) -> u32 {
    // SAFETY: as in `log`.
    unsafe { emit_rows_with(this, batch, std::ptr::null()) }
}

unsafe extern "C" fn emit_bytes(this: *const abi::Context, all: *const abi::Messages) -> u32 {
    // SAFETY: as in `log`.
    unsafe { emit_bytes_with(this, all, std::ptr::null()) }
}

unsafe extern "C" fn emit_rows_with(
    this: *const abi::Context,
    batch: *const abi::Batch,
    more: *const abi::Emission,
) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).emitted("emit_rows", |seen| {
            if desk(this).bytes {
                return Err("its symbol says that it emits bytes, and these are rows".to_owned());
            }
            seen.rows += look_at_rows(batch)?;
            note(seen, more)
        })
    }
}

unsafe extern "C" fn emit_bytes_with(
    this: *const abi::Context,
    all: *const abi::Messages,
    more: *const abi::Emission,
) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).emitted("emit_bytes", |seen| {
            if !desk(this).bytes {
                return Err("its symbol does not say that it emits bytes".to_owned());
            }
            seen.messages += look_at_messages(all)?;
            note(seen, more)
        })
    }
}

/// # Safety
/// `more` is null or valid for the call.
unsafe fn note(seen: &mut Seen, more: *const abi::Emission) -> Result<(), String> {
    // SAFETY: see above.
    unsafe {
        if more.is_null() {
            return Ok(());
        }
        if !(*more).position.is_null() {
            look((*more).position, 128)?;
            seen.position = Some(taken(&*(*more).position));
        }
        if (*more).token != 0 {
            seen.tokens.push((*more).token);
        }
    }
    Ok(())
}

/// Rules are done at once with what a source emits here.
unsafe extern "C" fn acknowledged(this: *const abi::Context, nanos: u64, into: *const abi::Output) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("acknowledged");
        let tokens = std::mem::take(&mut desk(this).seen().tokens);
        let put = has!(into, put);
        let values: Vec<abi::Value> = tokens.into_iter().map(|token| abi::Value::int(token as i64)).collect();
        if let (Some(put), false) = (put, values.is_empty()) {
            put(into, values.as_ptr(), values.len());
            return code::OK;
        }
        if wait(this, nanos) != 0 { code::STOPPED } else { code::OK }
    }
}

/// The text as it is: there is no row to fill it in from.
unsafe extern "C" fn template(
    this: *const abi::Context,
    text: abi::Str,
    _: *const abi::Value,
    into: *const abi::Output,
    _: *const abi::Fault,
) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("template");
        if let Some(put) = has!(into, put) {
            put(into, &abi::Value::text(&text.to_text()), 1);
        }
    }
    code::OK
}

unsafe extern "C" fn count(this: *const abi::Context, key: abi::Str, by: i64) -> i64 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("count");
        let mut seen = desk(this).seen();
        let count = seen.counts.entry(key.to_text()).or_default();
        *count = count.wrapping_add(by);
        *count
    }
}

unsafe extern "C" fn emit_error(this: *const abi::Context, why: abi::Str) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).emitted("emit_error", |seen| {
            seen.errors += 1;
            text(why, "the text of an error")
        })
    }
}

unsafe extern "C" fn emit_end(this: *const abi::Context) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).emitted("emit_end", |seen| {
            seen.ended = true;
            Ok(())
        })
    }
}

unsafe extern "C" fn stopped(this: *const abi::Context) -> u32 {
    // SAFETY: as in `log`.
    unsafe {
        desk(this).used("stopped");
        u32::from(desk(this).stopped.load(Ordering::SeqCst))
    }
}

unsafe extern "C" fn wait(this: *const abi::Context, nanos: u64) -> u32 {
    // SAFETY: as in `log`.
    let desk = unsafe { desk(this) };
    desk.used("wait");
    let running = |_: &mut Seen| !desk.stopped.load(Ordering::SeqCst);
    drop(desk.news.wait_timeout_while(desk.seen(), Duration::from_nanos(nanos), running));
    u32::from(desk.stopped.load(Ordering::SeqCst))
}

/// Takes what a call puts.
#[derive(Default)]
pub struct Taken {
    pub values: Vec<Result<Value, String>>,
    pub wrong: Option<String>,
}

impl Taken {
    /// What is handed to the call; good as long as `self` is not moved.
    pub fn output(&mut self) -> abi::Output {
        unsafe extern "C" fn put(this: *const abi::Output, values: *const abi::Value, count: usize) {
            // SAFETY: `host` leads to the `Taken` that made the output.
            let all = unsafe { &mut *(*this).host.cast::<Taken>() };
            for n in 0..count {
                // SAFETY: what the plugin says it puts is there.
                match unsafe { look(values.wrapping_add(n), 128) } {
                    // SAFETY: it has been looked at.
                    Ok(()) => all.values.push(Ok(unsafe { taken(&*values.add(n)) })),
                    Err(wrong) => {
                        all.wrong.get_or_insert(format!("`put`: {wrong}"));
                        return;
                    }
                }
            }
        }
        unsafe extern "C" fn fail(this: *const abi::Output, why: abi::Str) {
            // SAFETY: as in `put`.
            let all = unsafe { &mut *(*this).host.cast::<Taken>() };
            // SAFETY: the text is valid for the call.
            if let Err(wrong) = unsafe { text(why, "the text of a failure") } {
                all.wrong.get_or_insert(wrong);
            }
            // SAFETY: as above.
            all.values.push(Err(unsafe { why.to_text() }));
        }
        abi::Output {
            size: std::mem::size_of::<abi::Output>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast::<c_void>(),
            put: Some(put),
            fail: Some(fail),
        }
    }
}

/// Takes the texts of a call that fails.
#[derive(Default)]
pub struct Texts {
    pub text: Option<String>,
    /// Rows that were refused one by one.
    pub rows: Vec<usize>,
    pub wrong: Option<String>,
}

impl Texts {
    /// As [`Taken::output`].
    pub fn fault(&mut self) -> abi::Fault {
        unsafe extern "C" fn set(this: *const abi::Fault, _: u32, why: abi::Str) {
            // SAFETY: `host` leads to the `Texts` that made the fault.
            let all = unsafe { &mut *(*this).host.cast::<Texts>() };
            // SAFETY: the text is valid for the call.
            all.wrong = unsafe { text(why, "the text of a failure") }.err();
            // SAFETY: as above.
            all.text = Some(unsafe { why.to_text() });
        }
        unsafe extern "C" fn row(this: *const abi::Fault, row: usize, _: u32, why: abi::Str) {
            // SAFETY: as in `set`.
            let all = unsafe { &mut *(*this).host.cast::<Texts>() };
            all.rows.push(row);
            // SAFETY: as in `set`.
            if let Err(wrong) = unsafe { text(why, "the text of a refused row") } {
                all.wrong = Some(wrong);
            }
        }
        abi::Fault {
            size: std::mem::size_of::<abi::Fault>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast::<c_void>(),
            set: Some(set),
            row: Some(row),
        }
    }
}
