//! Functions of guests, as rows of the catalogue.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;

use crate::data::{Text, Value};
use crate::diag::{Fault, Result};
use crate::func::{Accumulator, Arg, Body, Ctx, Func, Guest, NullGuard};

use super::cross::{Arena, Taken, Texts};
use super::deaths::Mark;
use super::desk::{Desk, States};
use super::isolated::patiently;
use super::library::{Library, Symbol};
use super::swap::{Call, Groups};
use super::uses::{Carry, Place};
use super::worker::Instance;

/// The row of a guest's function; it is never freed, as the library is never unmapped. Rules that were planned with it
/// call the version that stands in the place when they do.
pub fn row(place: &Arc<Place>, library: &Arc<Library>, symbol: Symbol) -> &'static Func {
    let body = if symbol.flags & kind::AGGREGATE != 0 {
        let groups = Groups::enter(place, symbol);
        let start = move |rule: &Text, call| Box::new(Group::start(&groups, rule, call)) as Box<dyn Accumulator>;
        Body::GuestAggregate(Box::leak(Box::new(start)))
    } else {
        let (place, library) = (place.clone(), library.clone());
        let start = move |call| Box::new(Call::enter(&place, &library, symbol, call)) as Box<dyn Guest>;
        Body::Guest(Box::leak(Box::new(start)))
    };
    // SAFETY: the symbol is a function.
    let validates = unsafe { has!(symbol.table.cast::<abi::Function>(), validate) }.is_some();
    let library = library.clone();
    let validate =
        move |args: &[Arg]| site(&library, symbol).lock().unwrap_or_else(PoisonError::into_inner).validate(args);
    Box::leak(Box::new(Func {
        name: symbol.name,
        // A guest that does not say takes what it is given.
        signature: if symbol.signature.is_empty() { "([any, ...]) -> any" } else { symbol.signature },
        about: symbol.about,
        examples: symbol.examples,
        family: "plugin",
        body,
        null: NullGuard::Off,
        check: None,
        validate: if validates { Some(Box::leak(Box::new(validate))) } else { None },
        pure: false,
    }))
}

/// The one behind all calls of a singleton, or one of its own.
pub fn site(library: &Library, symbol: Symbol) -> Arc<Mutex<Site>> {
    let new = || Arc::new(Mutex::new(Site::new(symbol)));
    if symbol.singleton && symbol.flags & kind::AGGREGATE == 0 { library.site(symbol.name, new) } else { new() }
}

/// The instance behind a call, or behind all calls of a singleton. What is stored belongs to the call in either case.
pub struct Site {
    symbol: Symbol,
    instance: Option<Instance>,
}

/// A call of a singleton may take long: whoever waits for its turn gives the runtime's other tasks away first.
pub fn locked(site: &Mutex<Site>) -> MutexGuard<'_, Site> {
    match site.try_lock() {
        Ok(site) => site,
        Err(TryLockError::Poisoned(site)) => site.into_inner(),
        Err(TryLockError::WouldBlock) => patiently(|| site.lock().unwrap_or_else(PoisonError::into_inner)),
    }
}

impl Site {
    fn new(symbol: Symbol) -> Site {
        Site { symbol, instance: None }
    }

    /// The instance; one that panicked was dropped, and is made anew here.
    pub fn this(&mut self, mark: &Mark) -> Result<*mut c_void> {
        Ok(match &self.instance {
            Some(instance) => instance.this,
            None => self.instance.insert(Instance::new(self.symbol, mark)?).this,
        })
    }

    /// Whether these arguments will do; the error is the plugin's own sentence.
    fn validate(&mut self, args: &[Arg]) -> std::result::Result<(), String> {
        let mark = self.symbol.home.mark("");
        let this = self.this(&mark).map_err(|fault| fault.to_string())?;
        // SAFETY: the symbol is a function.
        let entry = unsafe { has!(self.symbol.table.cast::<abi::Function>(), validate) };
        let Some(validate) = entry else { return Ok(()) };
        let mut arena = Arena::default();
        let known = |arg: &Arg| match arg {
            Arg::Literal(value) => arena.lend(value),
            _ => abi::Value::MISSING,
        };
        let values: Vec<abi::Value> = args.iter().map(known).collect();
        let mut texts = Texts::default();
        let within = mark.enter();
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        let failed = unsafe { validate(this, values.as_ptr(), values.len(), &texts.fault()) };
        drop(within);
        match failed {
            code::OK => Ok(()),
            code::BUG => {
                self.instance = None;
                Err(theirs(Fault::bug(texts.text())).to_string())
            }
            _ => Err(texts.text()),
        }
    }

    /// One result a row. A panic costs the one row that it happened at: the others are called without it, on an instance
    /// that is made anew. What it stored in a call that panicked is undone.
    pub fn call(&mut self, args: &[&Value], height: usize, desk: &Arc<Desk>) -> Vec<Result<Value>> {
        let before = desk.savepoint();
        let called = self.try_call(args, height, desk);
        if let Err(Fault::Bug(_)) = called {
            before.put_back();
        }
        drop(before);
        match called {
            Ok(results) => results,
            Err(Fault::Bug(_)) if height > 1 => {
                let width = args.len() / height;
                (0..height).flat_map(|row| self.call(&args[row * width..][..width], 1, desk)).collect()
            }
            Err(fault) => vec![Err(theirs(fault)); height],
        }
    }

    fn try_call(&mut self, args: &[&Value], height: usize, desk: &Arc<Desk>) -> Result<Vec<Result<Value>>> {
        let this = self.this(&desk.mark)?;
        // SAFETY: the symbol is a function.
        let call = unsafe { has!(self.symbol.table.cast::<abi::Function>(), call) };
        let call = call.ok_or_else(|| Fault::setup("the plugin has no code for this function"))?;
        let mut arena = Arena::default();
        let values: Vec<abi::Value> = args.iter().map(|value| arena.lend(value)).collect();
        let batch = arguments(&values, args.len() / height, height);
        let (mut taken, mut texts) = (Taken(Vec::with_capacity(height)), Texts::default());
        let within = desk.mark.enter();
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        let failed = unsafe { call(this, desk.raw(), &batch, &taken.output(), &texts.fault()) };
        drop(within);
        if failed != code::OK {
            if failed == code::BUG {
                self.instance = None;
            }
            return Err(evaluated(failed, &mut texts));
        }
        if taken.0.len() != height {
            let text = format!("the plugin gave {} results for {height} rows of `{}`", taken.0.len(), self.symbol.name);
            return Err(Fault::bug(text));
        }
        Ok(taken.0)
    }
}

fn arguments(values: &[abi::Value], width: usize, height: usize) -> abi::Batch {
    abi::Batch {
        size: std::mem::size_of::<abi::Batch>() as u32,
        flags: 0,
        columns: std::ptr::null(),
        width,
        height,
        values: values.as_ptr(),
        times: std::ptr::null(),
        metas: std::ptr::null(),
        properties: std::ptr::null(),
    }
}

/// A bug of the plugin is no bug of ours: it is the row's bad luck.
fn theirs(fault: Fault) -> Fault {
    match fault {
        Fault::Bug(text) => Fault::eval(format!("{text}; this is a bug of the plugin")),
        other => other,
    }
}

/// A function has no outside that could come back: what fails, fails for this row.
fn evaluated(failed: u32, texts: &mut Texts) -> Fault {
    if failed == code::BUG { Fault::bug(texts.text()) } else { Fault::eval(texts.text()) }
}

/// A group of an aggregate function, with an instance of its own: groups of different rules run at the same time.
struct Group {
    groups: Arc<Groups>,
    /// The edition that it is of.
    number: u64,
    /// The edition that it was asked to follow last.
    seen: u64,
    rule: Text,
    /// The number of the call in the statement.
    call: u64,
    /// It has rows, so that the rule uses the plugin.
    counted: bool,
    symbol: Symbol,
    /// Why there is none, where making it failed.
    made: Result<Made>,
}

struct Made {
    instance: Instance,
    group: *mut c_void,
    discard: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
    desk: Arc<Desk>,
}

// SAFETY: the contract: a group may be used by any thread, one at a time, and this handle is not cloned.
unsafe impl Send for Made {}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(discard) = self.discard {
            let _within = self.desk.mark.enter();
            // SAFETY: the group is of this instance, and is not used again.
            unsafe { discard(self.instance.this, self.group) };
        }
    }
}

impl Group {
    fn start(groups: &Arc<Groups>, rule: &Text, call: u64) -> Group {
        let (number, symbol) = groups.now();
        // SAFETY: the symbol is a function.
        let start = unsafe { has!(symbol.table.cast::<abi::Function>(), start) };
        // SAFETY: the instance is of this table; the fault lives until the call returns.
        let made = Made::new(symbol, rule, call, |this, fault| start.map(|start| unsafe { start(this, fault) }));
        let (groups, rule) = (groups.clone(), rule.clone());
        Group { groups, number, seen: number, rule, call, counted: false, symbol, made }
    }

    /// Goes on with the version that stands there now, where that can read what this one saves; else it ends with this one.
    fn follow(&mut self) {
        let (number, symbol) = self.groups.now();
        self.seen = number;
        if Carry::between(&self.symbol, &symbol) == Carry::Nothing {
            return;
        }
        // SAFETY: the symbols are functions.
        let save = unsafe { has!(self.symbol.table.cast::<abi::Function>(), save) };
        // What it saved is of no use to anyone else, so that nothing is lost where this fails.
        let loaded = self.asked(save).and_then(|saved| Made::load(symbol, &self.rule, self.call, &saved));
        match loaded {
            Ok(made) => {
                self.made = Ok(made);
                self.symbol = symbol;
                if self.counted {
                    self.groups.count(&self.rule, self.number, -1);
                    self.groups.count(&self.rule, number, 1);
                }
                self.number = number;
            }
            Err(fault) => {
                let (function, rule) = (self.symbol.name, self.rule.as_str());
                tracing::warn!(
                    rule,
                    function,
                    "a group ends with the old version, for the new one cannot take it over: {fault}"
                );
            }
        }
    }

    fn made(&self) -> Result<&Made> {
        self.made.as_ref().map_err(Clone::clone)
    }

    /// Asks for one value.
    fn asked(&self, entry: Option<abi::Group>) -> Result<Value> {
        let made = self.made()?;
        let entry = entry.ok_or_else(|| Fault::setup("the plugin has no code for this function"))?;
        let (mut taken, mut texts) = (Taken::default(), Texts::default());
        let within = made.desk.mark.enter();
        // SAFETY: instance and group belong together; the pointers live until the call returns.
        let failed = unsafe { entry(made.instance.this, made.desk.raw(), made.group, &taken.output(), &texts.fault()) };
        drop(within);
        match (failed, taken.0.pop()) {
            (code::OK, Some(value)) => value,
            (code::OK, None) => Err(Fault::bug(format!("the plugin gave no result of `{}`", self.symbol.name))),
            _ => Err(theirs(evaluated(failed, &mut texts))),
        }
    }
}

impl Made {
    fn new(
        symbol: Symbol,
        rule: &str,
        call: u64,
        start: impl FnOnce(*mut c_void, *const abi::Fault) -> Option<*mut c_void>,
    ) -> Result<Made> {
        let desk = Desk::new(&symbol, rule, symbol.name, call, States::default(), None);
        let instance = Instance::new(symbol, &desk.mark)?;
        let mut texts = Texts::default();
        let within = desk.mark.enter();
        let group = start(instance.this, &texts.fault());
        drop(within);
        let group = group.ok_or_else(|| Fault::setup("the plugin has no code for this function"))?;
        if group.is_null() {
            return Err(Fault::eval(texts.text()));
        }
        // SAFETY: the symbol is a function.
        let discard = unsafe { has!(symbol.table.cast::<abi::Function>(), discard) };
        Ok(Made { instance, group, discard, desk })
    }
}

impl Made {
    /// A group made of what another one saved.
    fn load(symbol: Symbol, rule: &str, call: u64, saved: &Value) -> Result<Made> {
        // SAFETY: the symbol is a function.
        let load = unsafe { has!(symbol.table.cast::<abi::Function>(), load) };
        let mut arena = Arena::default();
        let lent = arena.lend(saved);
        // SAFETY: as in `start`; the value lives until the call returns.
        Made::new(symbol, rule, call, |this, fault| load.map(|load| unsafe { load(this, &lent, fault) }))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.counted {
            self.groups.count(&self.rule, self.number, -1);
        }
    }
}

impl Accumulator for Group {
    fn add(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<()> {
        if !self.counted {
            self.groups.count(&self.rule, self.number, 1);
            self.counted = true;
        }
        if self.groups.number() != self.seen {
            self.follow();
        }
        let made = self.made()?;
        // SAFETY: the symbol is a function.
        let add = unsafe { has!(self.symbol.table.cast::<abi::Function>(), add) };
        let add = add.ok_or_else(|| Fault::setup("the plugin has no code for this function"))?;
        let mut arena = Arena::default();
        let values: Vec<abi::Value> = args.iter().map(|value| arena.lend(value)).collect();
        let batch = arguments(&values, values.len(), 1);
        let mut texts = Texts::default();
        let _within = made.desk.mark.enter();
        // SAFETY: instance and group belong together; the pointers live until the call returns.
        let failed = unsafe { add(made.instance.this, made.desk.raw(), made.group, &batch, &texts.fault()) };
        if failed == code::OK { Ok(()) } else { Err(theirs(evaluated(failed, &mut texts))) }
    }

    fn give(&self) -> Result<Value> {
        // SAFETY: the symbol is a function.
        self.asked(unsafe { has!(self.symbol.table.cast::<abi::Function>(), result) })
    }

    fn save(&self) -> Value {
        // SAFETY: the symbol is a function.
        let save = unsafe { has!(self.symbol.table.cast::<abi::Function>(), save) };
        self.asked(save).unwrap_or_else(|fault| {
            tracing::warn!(function = self.symbol.name, "its state cannot be saved: {fault}");
            Value::Null
        })
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.made = Ok(Made::load(self.symbol, &self.rule, self.call, &saved)?);
        Ok(())
    }
}
