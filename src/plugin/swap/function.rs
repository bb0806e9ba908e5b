//! Functions move between two batches. A group of an aggregate that is under way is taken over where the new version can
//! read it, and else ends with the old one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};

use kuiper_plugin::abi::kind;

use crate::data::{Text, Value};
use crate::diag::Result;
use crate::func::{Ctx, Guest};
use crate::plugin::desk::{Desk, States};
use crate::plugin::function::{Site, locked, site};
use crate::plugin::library::{Library, Symbol};
use crate::plugin::place;
use crate::plugin::tap::shown;
use crate::plugin::uses::{Carry, Edition, Place, Ready, Use, lock};

/// A call in a statement.
pub struct Call(Arc<Seat>);

struct Seat {
    place: Arc<Place>,
    name: &'static str,
    /// The number of the call in the statement.
    number: u64,
    /// Known from the first call on.
    rule: OnceLock<Text>,
    /// Locked while it is called.
    held: Mutex<Held>,
    ready: Mutex<Option<Held>>,
    /// What is ready is to be taken.
    goes: AtomicBool,
    forgot: AtomicBool,
}

/// One edition, and what was stored in its contexts.
struct Held {
    number: u64,
    version: Arc<str>,
    symbol: Symbol,
    site: Arc<Mutex<Site>>,
    states: States,
    /// From the first call on.
    desk: Option<Arc<Desk>>,
}

impl Call {
    /// With what stands in the place, or the version that it was planned with where nothing does; `number` is that of the
    /// call in the statement.
    pub fn enter(place: &Arc<Place>, library: &Arc<Library>, symbol: Symbol, number: u64) -> Call {
        let now = place.now().and_then(|now| Held::of(&now, symbol.name));
        let held = now.unwrap_or_else(|| Held::new(0, "", library, symbol));
        let seat = Arc::new(Seat {
            place: place.clone(),
            name: symbol.name,
            number,
            rule: OnceLock::new(),
            held: Mutex::new(held),
            ready: Mutex::default(),
            goes: AtomicBool::new(false),
            forgot: AtomicBool::new(false),
        });
        place.enter(Arc::downgrade(&seat) as Weak<dyn Use>);
        Call(seat)
    }
}

impl Held {
    fn new(number: u64, version: &str, library: &Library, symbol: Symbol) -> Held {
        let site = site(library, symbol);
        Held { number, version: version.into(), symbol, site, states: States::default(), desk: None }
    }

    fn of(edition: &Edition, name: &str) -> Option<Held> {
        let symbol = edition.library.symbol(kind::FUNCTION, name).filter(|one| one.flags & kind::AGGREGATE == 0)?;
        Some(Held::new(edition.number, &edition.version, &edition.library, symbol))
    }

    fn call(&mut self, args: &[&Value], rows: usize, rule: &str, number: u64) -> Vec<Result<Value>> {
        let (symbol, states) = (&self.symbol, &self.states);
        let new = || Desk::new(symbol, rule, symbol.name, number, states.clone(), None);
        let desk = self.desk.get_or_insert_with(new);
        locked(&self.site).call(args, rows, desk)
    }
}

impl Guest for Call {
    fn call(&self, args: &[&Value], rows: usize, ctx: &Ctx<'_>) -> Vec<Result<Value>> {
        let seat = &self.0;
        seat.rule.get_or_init(|| ctx.rule.id.clone());
        let mut held = lock(&seat.held);
        if seat.goes.load(Ordering::Acquire) {
            seat.go(&mut held);
        }
        let results = held.call(args, rows, &ctx.rule.id, seat.number);
        if seat.place.tap.is_on() {
            let text = |(row, result): (usize, &Result<Value>)| {
                let width = args.len() / rows;
                let args: Vec<String> = args[row * width..][..width].iter().map(|arg| shown(arg)).collect();
                let result = result
                    .as_ref()
                    .map_or_else(|fault| format!("failed: {fault}"), |value| format!("= {}", shown(value)));
                format!("{}({}) {result}", seat.name, args.join(", "))
            };
            seat.place.tap.note(&ctx.rule.id, &held.version, results.iter().enumerate().map(text));
        }
        results
    }

    fn save(&self) -> Value {
        let held = lock(&self.0.held);
        place::kept(held.symbol, None, &held.states).unwrap_or_else(|| Value::array(Vec::new()))
    }

    /// Also after calls: then they are as if they had not been.
    fn load(&self, saved: &Value) -> Result<()> {
        if matches!(saved, Value::Array(nothing) if nothing.is_empty()) {
            return Ok(());
        }
        let held = lock(&self.0.held);
        place::taken_up(held.symbol, saved, &held.states).map(drop)
    }
}

impl Seat {
    /// Takes what is ready.
    fn go(&self, held: &mut Held) {
        self.goes.store(false, Ordering::Release);
        let Some(next) = lock(&self.ready).take() else { return };
        if !Carry::between(&held.symbol, &next.symbol).carry(&held.states, &next.states) {
            let (rule, function) = (self.owner(), self.name);
            tracing::warn!(
                rule,
                function,
                "the new version does not say that it can read the state of the old one, and begins without"
            );
            self.forgot.store(true, Ordering::Release);
        }
        *held = next;
        self.place.tell();
    }
}

#[async_trait::async_trait]
impl Use for Seat {
    fn owner(&self) -> String {
        self.rule.get().map(Text::to_string).unwrap_or_default()
    }

    fn open(&self) -> Vec<(String, u64)> {
        let Some(rule) = self.rule.get() else { return Vec::new() };
        let number = match self.held.try_lock() {
            Ok(held) => held.number,
            Err(TryLockError::Poisoned(held)) => held.into_inner().number,
            // One that is being called takes what is ready before the next batch.
            Err(TryLockError::WouldBlock) if self.goes.load(Ordering::Acquire) => 0,
            Err(TryLockError::WouldBlock) => self.place.number(),
        };
        vec![(rule.to_string(), number)]
    }

    async fn prepare(&self, next: &Arc<Edition>) -> Result<Ready, String> {
        let held =
            Held::of(next, self.name).ok_or_else(|| format!("the new version has no function `{}`", self.name))?;
        if self.rule.get().is_some() {
            lock(&held.site)
                .this(&held.symbol.home.mark(&self.owner()))
                .map_err(|fault| format!("the new version cannot make a `{}`: {fault}", self.name))?;
        }
        *lock(&self.ready) = Some(held);
        Ok(Ready::Beside)
    }

    fn commit(&self, _: &Arc<Edition>) {
        self.goes.store(true, Ordering::Release);
        // One that is being called now takes it before the next batch.
        let held = match self.held.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut held) = held {
            self.go(&mut held);
        }
    }

    fn abandon(&self) {
        drop(lock(&self.ready).take());
    }

    fn forgot(&self) -> bool {
        self.forgot.swap(false, Ordering::AcqRel)
    }
}

/// The groups of an aggregate function, in all rules.
pub struct Groups {
    place: Arc<Place>,
    /// What they are of where nothing stands in the place.
    symbol: Symbol,
    /// How many are under way, by rule and edition.
    live: Mutex<BTreeMap<(Text, u64), usize>>,
}

impl Groups {
    pub fn enter(place: &Arc<Place>, symbol: Symbol) -> Arc<Groups> {
        let groups = Arc::new(Groups { place: place.clone(), symbol, live: Mutex::default() });
        place.enter(Arc::downgrade(&groups) as Weak<dyn Use>);
        groups
    }

    /// What new ones are of.
    pub fn now(&self) -> (u64, Symbol) {
        let now = self.place.now();
        let found = now.as_ref().and_then(|now| now.library.symbol(kind::FUNCTION, self.symbol.name));
        let found = found.filter(|one| one.flags & kind::AGGREGATE != 0);
        (now.map_or(0, |now| now.number), found.unwrap_or(self.symbol))
    }

    pub fn number(&self) -> u64 {
        self.place.number()
    }

    /// So many more, or fewer, are under way.
    pub fn count(&self, rule: &Text, number: u64, by: isize) {
        let mut live = lock(&self.live);
        let key = (rule.clone(), number);
        let count = live.get(&key).copied().unwrap_or(0).saturating_add_signed(by);
        match count {
            0 => live.remove(&key),
            count => live.insert(key, count),
        };
    }
}

#[async_trait::async_trait]
impl Use for Groups {
    fn owner(&self) -> String {
        String::new()
    }

    fn open(&self) -> Vec<(String, u64)> {
        lock(&self.live).keys().map(|(rule, number)| (rule.to_string(), *number)).collect()
    }

    fn is_awaited(&self) -> bool {
        false
    }

    async fn prepare(&self, _: &Arc<Edition>) -> Result<Ready, String> {
        Ok(Ready::Beside)
    }

    fn commit(&self, _: &Arc<Edition>) {}

    fn abandon(&self) {}

    fn forgot(&self) -> bool {
        false
    }
}
