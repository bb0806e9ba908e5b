//! What a guest may ask of the engine: the C struct that it is handed, and what stands behind it.
//!
//! A desk is shared: a guest may keep it (`retain`) and use it from any thread. No unwinding leaves its functions.

mod asked;
mod states;
mod tokens;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, level, status};
use kuiper_plugin::has;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::data::{SourceAck, Time, Value};
use crate::diag::Fault;
use crate::io::{End, Env, Inlet, Link, Message, Payload, Report};

use super::cross::{Arena, messages, rows, taken};
use super::deaths::Mark;
use super::home::Home;
use super::library::Symbol;
use super::place;

pub use states::{Savepoint, States};
pub use tokens::Tokens;

/// The way out of a source.
pub struct Out {
    pub inlet: Inlet,
    pub runtime: Handle,
    pub env: Env,
    pub wants_meta: bool,
    /// Acknowledgements are held until all rules are done with a message.
    pub wants_acks: bool,
    pub symbol: Symbol,
    /// The last position that it told.
    pub stood: Mutex<Option<Value>>,
    pub tokens: Arc<Tokens>,
}

/// What else is said of an emission.
#[derive(Default)]
struct Beside {
    position: Option<Value>,
    /// 0: nobody wants to know when it is done with.
    token: u64,
}

/// One use of a guest. The C struct stands first, so that a pointer to it is a pointer to the whole.
#[repr(C)]
pub struct Desk {
    raw: abi::Context,
    rule: Box<str>,
    operator: Box<str>,
    report: Mutex<Option<Report>>,
    states: States,
    /// What is stored goes when the rule stops, though its `qos` is above 0, and nobody was told of it yet.
    unkept: AtomicBool,
    home: &'static Home,
    /// What a thread is at that calls the guest with it.
    pub mark: Mark,
    out: Option<Out>,
    tokens: Arc<Tokens>,
    stopped: Mutex<bool>,
    /// It is stopped, and what it still gives is taken.
    leaving: AtomicBool,
    /// Something that it gave was not taken.
    cut: AtomicBool,
    wake: Condvar,
    ended: watch::Sender<bool>,
    /// Why the guest is gone.
    broken: Mutex<Option<Fault>>,
}

// SAFETY: the pointers in `raw` lead to static functions and to texts that the desk owns.
unsafe impl Send for Desk {}
// SAFETY: as above; everything that changes is behind a lock.
unsafe impl Sync for Desk {}

impl Desk {
    /// For one use of a guest.
    pub fn new(symbol: &Symbol, rule: &str, operator: &str, site: u64, states: States, out: Option<Out>) -> Arc<Desk> {
        let (rule, operator): (Box<str>, Box<str>) = (rule.into(), operator.into());
        let emits = out.is_some();
        let mut raw = abi::Context {
            size: std::mem::size_of::<abi::Context>() as u32,
            abi: abi::VERSION,
            host: std::ptr::null_mut(),
            rule: abi::Str::new(&rule),
            operator: abi::Str::new(&operator),
            site,
            retain: Some(retain),
            release: Some(release),
            log: Some(log),
            status: Some(report),
            state_get: Some(state_get),
            state_put: Some(state_put),
            emit_rows: emits.then_some(emit_rows as _),
            emit_bytes: emits.then_some(emit_bytes as _),
            emit_error: emits.then_some(emit_error as _),
            emit_end: emits.then_some(emit_end as _),
            stopped: Some(stopped),
            wait: Some(wait),
            emit_rows_with: None,
            emit_bytes_with: None,
            acknowledged: None,
            template: None,
            json_path: None,
            count: None,
            secret: None,
            folder: None,
            instance: 0,
            run: 0,
        };
        let home = symbol.home;
        let mark = home.mark(&rule);
        let run = home.services().map_or(0, |services| services.run(&rule));
        let unkept = !symbol.keeps() && home.services().is_some_and(|services| services.keeps(&rule));
        Desk::offer(&mut raw, emits, run);
        let (ended, _) = watch::channel(false);
        let tokens = out.as_ref().map_or_else(Arc::default, |out| out.tokens.clone());
        Arc::new(Desk {
            raw,
            rule,
            operator,
            report: Mutex::default(),
            states,
            unkept: AtomicBool::new(unkept),
            home,
            mark,
            out,
            tokens,
            stopped: Mutex::default(),
            leaving: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            wake: Condvar::new(),
            ended,
            broken: Mutex::default(),
        })
    }

    /// What is handed to a guest. One that retains it keeps the desk alive.
    pub fn raw(self: &Arc<Desk>) -> *const abi::Context {
        Arc::as_ptr(self).cast()
    }

    /// Something was stored. Where that goes though the rule would keep it, its author is told once.
    fn stored(&self) {
        if self.unkept.load(Ordering::Relaxed) && self.unkept.swap(false, Ordering::AcqRel) {
            tracing::warn!(
                rule = %self.rule,
                plugin = %self.operator,
                "what it stores goes when the rule stops, whatever `qos` is: it does not say which versions of its state can be \
                 read (`state` in `export!`, `state_version` in C)"
            );
        }
    }

    /// Where the source stands that this one takes over from.
    pub fn stands_at(&self, position: Option<Value>) {
        if let Some(out) = &self.out {
            *lock(&out.stood) = position;
        }
    }

    /// A part of a delivery is done.
    pub fn progress(&self) {
        if let Some(report) = &*lock(&self.report) {
            report.progress();
        }
    }

    /// Where reports of the connection go from now on.
    pub fn report_to(&self, report: Report) {
        *lock(&self.report) = Some(report);
    }

    /// Tells the guest that the rule is being stopped.
    pub fn stop(&self) {
        self.leaving.store(false, Ordering::Release);
        *lock(&self.stopped) = true;
        self.wake.notify_all();
        self.tokens.stop();
    }

    /// Tells it the same, and still takes what it gives.
    pub fn wind_down(&self) {
        self.leaving.store(true, Ordering::Release);
        *lock(&self.stopped) = true;
        self.wake.notify_all();
    }

    /// Whether something that it gave at its end was not taken.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    pub fn is_stopped(&self) -> bool {
        *lock(&self.stopped)
    }

    /// What is stored now, to be put back should a call come to nothing.
    pub fn savepoint(&self) -> Savepoint {
        self.states.savepoint()
    }

    /// The guest is gone, with the process that it ran in: a source has ended, and any connection with it.
    pub fn broke(&self, why: &str) {
        *lock(&self.broken) = Some(Fault::unreachable(why));
        if let Some(report) = &*lock(&self.report) {
            report.set(Link::Disconnected(why.to_owned()));
        }
        self.ended.send_replace(true);
    }

    /// How a source that has ended did so.
    pub fn end(&self) -> crate::diag::Result<End> {
        lock(&self.broken).clone().map_or(Ok(End::Finished), Err)
    }

    /// True once the guest has said that there will be no more.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Hands messages on, and waits while the pipeline is full.
    fn emit(&self, beside: Beside, make: impl FnOnce(&Out) -> Vec<Message>) -> u32 {
        let Some(out) = &self.out else { return code::NEVER };
        if self.is_stopped() && !self.leaving.load(Ordering::Acquire) {
            self.cut.store(true, Ordering::Release);
            return code::STOPPED;
        }
        let mut messages = make(out);
        let token = beside.token;
        let held = token != 0 && out.wants_acks && !messages.is_empty();
        if held {
            let ack = SourceAck::new(self.tokens.clone(), token);
            messages.iter_mut().for_each(|message| message.ack = Some(ack.clone()));
        }
        let position = out.place(beside.position, &self.states);
        match out.runtime.block_on(out.inlet.send_at(messages, position)) {
            Ok(()) => {
                if token != 0 && !held {
                    self.tokens.push(token);
                }
                code::OK
            }
            Err(_) => {
                self.cut.store(true, Ordering::Release);
                self.stop();
                code::STOPPED
            }
        }
    }
}

impl Out {
    /// Where the guest stands after an emission; one that says nothing of its position has not moved.
    fn place(&self, position: Option<Value>, states: &States) -> Option<Value> {
        let mut stood = lock(&self.stood);
        if position.is_some() {
            *stood = position;
        }
        place::kept(self.symbol, stood.clone(), states)
    }

    fn message(&self, payload: Payload, time: Option<i64>, meta: crate::data::Object) -> Message {
        let arrived = || self.env.clock.now();
        let time = time.map_or_else(arrived, |nanos| Time(nanos.div_euclid(1_000_000)));
        Message { payload, time, meta: self.wants_meta.then(|| Arc::new(meta)), ack: None, delivery: None }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what a guest asked for; a bug of ours does not unwind into it.
///
/// # Safety
/// `this` is the head of a desk that lives for the call.
unsafe fn at<T>(this: *const abi::Context, failed: T, work: impl FnOnce(&Desk) -> T) -> T {
    // SAFETY: see above.
    let desk = unsafe { &*this.cast::<Desk>() };
    catch_unwind(AssertUnwindSafe(|| work(desk))).unwrap_or(failed)
}

// What follows is called by guests: `this` is the head of a desk in an `Arc`, all other pointers are valid for the call.

unsafe extern "C" fn retain(this: *const abi::Context) {
    // SAFETY: see above.
    unsafe { Arc::increment_strong_count(this.cast::<Desk>()) };
}

unsafe extern "C" fn release(this: *const abi::Context) {
    // SAFETY: see above; each release belongs to a retain.
    unsafe { Arc::decrement_strong_count(this.cast::<Desk>()) };
}

unsafe extern "C" fn log(this: *const abi::Context, weight: u32, text: abi::Str) {
    // SAFETY: see above.
    unsafe {
        at(this, (), |desk| {
            let (rule, plugin, text) = (&*desk.rule, &*desk.operator, text.to_text());
            match weight {
                level::ERROR => tracing::error!(rule, plugin, "{text}"),
                level::WARN => tracing::warn!(rule, plugin, "{text}"),
                level::INFO => tracing::info!(rule, plugin, "{text}"),
                _ => tracing::debug!(rule, plugin, "{text}"),
            }
        });
    }
}

unsafe extern "C" fn report(this: *const abi::Context, state: u32, text: abi::Str) {
    // SAFETY: see above.
    unsafe {
        at(this, (), |desk| {
            if let Some(report) = &*lock(&desk.report) {
                report.set(match state {
                    status::CONNECTED => Link::Connected,
                    status::CONNECTING => Link::Connecting,
                    _ => Link::Disconnected(text.to_text()),
                });
            }
        });
    }
}

unsafe extern "C" fn state_get(this: *const abi::Context, key: abi::Str, into: *const abi::Output) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let state = desk.states.get(&key.to_text());
            match (state, has!(into, put)) {
                (Some(state), Some(put)) => {
                    let mut arena = Arena::default();
                    put(into, &arena.lend(&state), 1);
                    code::OK
                }
                _ => code::NEVER,
            }
        })
    }
}

unsafe extern "C" fn state_put(this: *const abi::Context, key: abi::Str, value: *const abi::Value) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let value = Some(taken(&*value)).filter(|value| !value.is_null());
            if value.is_some() {
                desk.stored();
            }
            desk.states.put(key.to_text(), value);
            code::OK
        })
    }
}

unsafe extern "C" fn emit_rows(this: *const abi::Context, batch: *const abi::Batch) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let all = rows(batch);
            desk.emit(Beside::default(), |out| {
                all.into_iter().map(|row| out.message(Payload::Row(row.object), row.time, row.meta)).collect()
            })
        })
    }
}

unsafe extern "C" fn emit_bytes(this: *const abi::Context, all: *const abi::Messages) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let all = messages(all);
            desk.emit(Beside::default(), |out| {
                all.into_iter().map(|(bytes, time, meta)| out.message(Payload::Bytes(bytes), time, meta)).collect()
            })
        })
    }
}

unsafe extern "C" fn emit_error(this: *const abi::Context, text: abi::Str) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            let fault = Fault::decode(text.to_text());
            desk.emit(Beside::default(), |out| {
                vec![out.message(Payload::Error(fault), None, crate::data::Object::new())]
            })
        })
    }
}

unsafe extern "C" fn emit_end(this: *const abi::Context) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, code::BUG, |desk| {
            desk.ended.send_replace(true);
            code::OK
        })
    }
}

unsafe extern "C" fn stopped(this: *const abi::Context) -> u32 {
    // SAFETY: see above.
    unsafe { at(this, 1, |desk| u32::from(desk.is_stopped())) }
}

unsafe extern "C" fn wait(this: *const abi::Context, nanos: u64) -> u32 {
    // SAFETY: see above.
    unsafe {
        at(this, 1, |desk| {
            let running = |stopped: &mut bool| !*stopped;
            let time = Duration::from_nanos(nanos);
            let waited = desk.wake.wait_timeout_while(lock(&desk.stopped), time, running);
            u32::from(*waited.unwrap_or_else(PoisonError::into_inner).0)
        })
    }
}
