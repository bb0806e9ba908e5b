//! What a plugin under test talks to: it keeps what the plugin says.

mod asked;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::abi;
use crate::abi::code;
use crate::rows::Rows;
use crate::value::{Arena, Owned, Record, Value};

/// What a plugin talks to. The C struct stands first, so that a pointer to it is a pointer to the whole.
#[repr(C)]
pub(super) struct Engine {
    raw: abi::Context,
    said: Mutex<Said>,
    news: Condvar,
    stopped: AtomicBool,
}

// SAFETY: the pointers in `raw` lead to static text, or to the engine itself.
unsafe impl Send for Engine {}
// SAFETY: as above; the rest is behind a lock.
unsafe impl Sync for Engine {}

#[derive(Default)]
pub(super) struct Said {
    pub(super) log: Vec<String>,
    pub(super) statuses: Vec<(u32, String)>,
    pub(super) rows: Vec<Record>,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) errors: Vec<String>,
    pub(super) ended: bool,
    pub(super) state: HashMap<String, Owned>,
    pub(super) positions: Vec<Owned>,
    pub(super) tokens: Vec<u64>,
    pub(super) acknowledged: Vec<u64>,
    pub(super) secrets: HashMap<String, String>,
}

impl Engine {
    pub(super) fn new() -> Engine {
        Engine {
            raw: abi::Context {
                size: std::mem::size_of::<abi::Context>() as u32,
                abi: abi::VERSION,
                host: std::ptr::null_mut(),
                rule: abi::Str::new("test"),
                operator: abi::Str::new("test"),
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
                emit_rows_with: Some(asked::emit_rows_with),
                emit_bytes_with: Some(asked::emit_bytes_with),
                acknowledged: Some(asked::acknowledged),
                template: Some(asked::template),
                json_path: Some(asked::json_path),
                count: Some(asked::count),
                secret: Some(asked::secret),
                folder: Some(asked::folder),
                instance: 0,
                run: 1,
            },
            said: Mutex::new(Said::default()),
            news: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        let _said = self.said();
        self.stopped.store(true, Ordering::SeqCst);
        self.news.notify_all();
    }

    pub(super) fn wait_for(&self, count: usize, time: Duration) -> bool {
        let waited = self
            .news
            .wait_timeout_while(self.said(), time, |said| !said.ended && said.rows.len() + said.messages.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    /// All rules are done with an emission.
    pub(super) fn acknowledge(&self, token: u64) {
        self.said().acknowledged.push(token);
        self.news.notify_all();
    }

    /// The code for an emission, after `tell` has noted it.
    fn emitted(&self, tell: impl FnOnce(&mut Said)) -> u32 {
        if self.stopped.load(Ordering::SeqCst) {
            return code::STOPPED;
        }
        tell(&mut self.said());
        self.news.notify_all();
        code::OK
    }
}

// What a plugin calls: `this` is the struct at the head of an `Engine` that an `Arc` holds.

unsafe fn engine<'a>(this: *const abi::Context) -> &'a Engine {
    &*(this as *const Engine)
}

unsafe extern "C" fn retain(this: *const abi::Context) {
    Arc::increment_strong_count(this as *const Engine);
}

unsafe extern "C" fn release(this: *const abi::Context) {
    Arc::decrement_strong_count(this as *const Engine);
}

unsafe extern "C" fn log(this: *const abi::Context, _: u32, text: abi::Str) {
    engine(this).said().log.push(text.to_text());
}

unsafe extern "C" fn status(this: *const abi::Context, status: u32, text: abi::Str) {
    engine(this).said().statuses.push((status, text.to_text()));
}

unsafe extern "C" fn state_get(this: *const abi::Context, key: abi::Str, into: *const abi::Output) -> u32 {
    let state = engine(this).said().state.get(&key.to_text()).cloned();
    match (state, has!(into, put)) {
        (Some(state), Some(put)) => {
            let mut arena = Arena::default();
            put(into, &arena.lend(&state), 1);
            code::OK
        }
        _ => code::NEVER,
    }
}

unsafe extern "C" fn state_put(this: *const abi::Context, key: abi::Str, value: *const abi::Value) -> u32 {
    let value = Value::lent(&*value).to_owned();
    let state = &mut engine(this).said().state;
    match value {
        Owned::Null => state.remove(&key.to_text()),
        value => state.insert(key.to_text(), value),
    };
    code::OK
}

unsafe extern "C" fn emit_rows(this: *const abi::Context, batch: *const abi::Batch) -> u32 {
    engine(this).emitted(|said| said.rows.extend(Rows::lent(batch).iter().map(|row| row.to_record())))
}

unsafe extern "C" fn emit_bytes(this: *const abi::Context, messages: *const abi::Messages) -> u32 {
    engine(this).emitted(|said| {
        for n in 0..(*messages).count {
            said.messages.push((*(*messages).payloads.add(n)).as_bytes().to_vec());
        }
    })
}

unsafe extern "C" fn emit_error(this: *const abi::Context, text: abi::Str) -> u32 {
    engine(this).emitted(|said| said.errors.push(text.to_text()))
}

unsafe extern "C" fn emit_end(this: *const abi::Context) -> u32 {
    engine(this).emitted(|said| said.ended = true)
}

unsafe extern "C" fn stopped(this: *const abi::Context) -> u32 {
    u32::from(engine(this).stopped.load(Ordering::SeqCst))
}

unsafe extern "C" fn wait(this: *const abi::Context, nanos: u64) -> u32 {
    let engine = engine(this);
    let running = |_: &mut Said| !engine.stopped.load(Ordering::SeqCst);
    drop(engine.news.wait_timeout_while(engine.said(), Duration::from_nanos(nanos), running));
    u32::from(engine.stopped.load(Ordering::SeqCst))
}
