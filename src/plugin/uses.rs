//! Who uses a plugin, and which version of it.
//!
//! A [`Place`] is a plugin by its name, whatever stands there; what stands there is an [`Edition`]: a library, with a
//! number of its own. Whoever may open something of it (the plan of a source, sink or lookup table, a call in a
//! statement) is a [`Use`] of the place as long as it lives, and can be moved from one edition to the next: `swap` does.
//! An edition that was replaced stays mapped, and is listed as long as the process lives; of one in a process of its own
//! nothing is left when that has ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use crate::clock::Stopwatch;

use super::desk::States;
use super::isolated::Standing;
use super::library::{Library, Symbol};
use super::name::Kind;
use super::tap::Tap;

/// One version of a plugin that was loaded; of two with the same version each is an edition.
pub struct Edition {
    pub number: u64,
    pub version: String,
    pub library: Arc<Library>,
}

impl Edition {
    pub fn new(version: &str, library: Arc<Library>) -> Arc<Edition> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Edition { number, version: version.to_owned(), library })
    }

    /// It ran in a process of its own, which has ended.
    fn is_gone(&self) -> bool {
        self.library.isolated.as_ref().is_some_and(|kept| kept.0.is_over())
    }

    /// It is the same file, mapped once.
    fn is(&self, other: &Edition) -> bool {
        let table = |edition: &Edition| edition.library.symbols.first().map(|symbol| symbol.table);
        table(self) == table(other)
    }
}

/// A plugin by its name.
pub struct Place {
    pub name: String,
    now: RwLock<Option<Arc<Edition>>>,
    /// Of the one that stands there; 0: none.
    number: AtomicU64,
    past: Mutex<Vec<Arc<Edition>>>,
    uses: Mutex<Vec<Weak<dyn Use>>>,
    /// Counts the moves of uses.
    moves: Mutex<u64>,
    moved: Condvar,
    pub tap: Tap,
}

/// What the new edition needs for a use to move.
#[derive(Debug, PartialEq)]
pub enum Ready {
    /// It stands beside the old one.
    Beside,
    /// It cannot, for this reason; the old one may be in its way.
    InTurn(String),
}

/// Something that holds, or may open, a piece of a plugin.
#[async_trait::async_trait]
pub trait Use: Send + Sync {
    /// The rule, or the stream or table where rules share it; empty where it is not known, or several.
    fn owner(&self) -> String;

    /// What is open: for whom, and the number of the edition.
    fn open(&self) -> Vec<(String, u64)>;

    /// Makes instances of the next edition ready, which wait. The error is the answer to the user.
    async fn prepare(&self, next: &Arc<Edition>) -> Result<Ready, String>;

    /// The same, with the old ones closed before; where that fails they are taken up again.
    async fn prepare_in_turn(&self, _: &Arc<Edition>) -> Result<(), String> {
        Ok(())
    }

    /// What was made ready is taken as soon as what the old one does is done.
    fn commit(&self, next: &Arc<Edition>);

    /// What was made ready is not wanted.
    fn abandon(&self);

    /// Whether it moves as soon as it can, so that an answer may wait for it.
    fn is_awaited(&self) -> bool {
        true
    }

    /// State was left behind since it was asked the last time.
    fn forgot(&self) -> bool;
}

/// A version that is mapped, though another stands in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    pub version: String,
    /// Who still runs on it: rules, and streams and tables that rules share.
    pub users: Vec<String>,
    /// Its process, where it has one of its own; else it is mapped into the server.
    pub process: Option<Standing>,
}

impl Place {
    fn new(name: &str) -> Place {
        Place {
            name: name.to_owned(),
            now: RwLock::default(),
            number: AtomicU64::new(0),
            past: Mutex::default(),
            uses: Mutex::default(),
            moves: Mutex::default(),
            moved: Condvar::new(),
            tap: Tap::default(),
        }
    }

    /// One that nobody names, so that nothing ever stands there: for what is tried without a server.
    pub fn nowhere() -> Arc<Place> {
        Arc::new(Place::new(""))
    }

    /// What stands there; nothing where it was removed.
    pub fn now(&self) -> Option<Arc<Edition>> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of what stands there, at the price of a read of memory.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Puts another edition there, or none.
    pub fn put(&self, edition: Option<Arc<Edition>>) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        self.number.store(edition.as_ref().map_or(0, |edition| edition.number), Ordering::Release);
        let before = std::mem::replace(&mut *now, edition);
        drop(now);
        if let Some(before) = before {
            // What serves all rules is destroyed when the last of them lets go.
            before.library.retire();
            let mut past = lock(&self.past);
            past.retain(|edition| !edition.is_gone());
            past.push(before);
        }
    }

    /// Takes a use in; it leaves by ending.
    pub fn enter(&self, one: Weak<dyn Use>) {
        let mut uses = lock(&self.uses);
        uses.retain(|one| one.strong_count() > 0);
        uses.push(one);
    }

    pub fn uses(&self) -> Vec<Arc<dyn Use>> {
        lock(&self.uses).iter().filter_map(Weak::upgrade).collect()
    }

    /// Who has something open of any edition.
    pub fn users(&self) -> Vec<String> {
        names(self.uses().iter().flat_map(|one| one.open()).map(|(owner, _)| owner))
    }

    /// Editions that are mapped and do not stand there, the latest first.
    pub fn mapped(&self) -> Vec<Mapped> {
        let open: Vec<(String, u64)> = self.uses().iter().flat_map(|one| one.open()).collect();
        let now = self.now();
        let mut all: Vec<(Arc<Edition>, Vec<String>)> = Vec::new();
        let mut past = lock(&self.past);
        past.retain(|edition| !edition.is_gone());
        for edition in past.iter().rev() {
            let of = open.iter().filter(|(_, number)| *number == edition.number);
            let mut users = names(of.map(|(owner, _)| owner.clone()));
            match all.iter_mut().find(|(known, _)| known.is(edition)) {
                Some((_, known)) => known.append(&mut users),
                None if now.as_ref().is_some_and(|now| now.is(edition)) && users.is_empty() => {}
                None => all.push((edition.clone(), users)),
            }
        }
        let mapped = |(edition, users): (Arc<Edition>, _)| {
            let process = edition.library.isolated.as_ref().map(|kept| kept.0.standing());
            Mapped { version: edition.version.clone(), users, process }
        };
        all.into_iter().map(mapped).collect()
    }

    /// The files that processes of its editions are started from, where one may still be.
    pub fn files(&self) -> Vec<PathBuf> {
        let now = self.now();
        let mut past = lock(&self.past);
        past.retain(|edition| !edition.is_gone());
        let isolated = past.iter().chain(&now).filter_map(|edition| edition.library.isolated.as_ref());
        isolated.map(|kept| kept.0.path().to_owned()).collect()
    }

    /// A use has moved, or has been made ready.
    pub fn tell(&self) {
        *lock(&self.moves) += 1;
        self.moved.notify_all();
    }

    /// Waits until it holds, at most so long; it is asked whenever a use has moved.
    pub fn wait(&self, limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let watch = Stopwatch::start();
        let mut moves = lock(&self.moves);
        loop {
            let seen = *moves;
            drop(moves);
            if holds() {
                return true;
            }
            moves = lock(&self.moves);
            while *moves == seen {
                let left = limit.saturating_sub(watch.elapsed());
                if left.is_zero() {
                    return false;
                }
                moves = self.moved.wait_timeout(moves, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// Names, once each, in order; what has none is left out.
pub fn names(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = all.filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    names
}

/// All places, whether something stands there or not.
#[derive(Default)]
pub struct Places(Mutex<BTreeMap<(Kind, String), Arc<Place>>>);

impl Places {
    pub fn of(&self, key: &(Kind, String)) -> Arc<Place> {
        let mut all = lock(&self.0);
        all.entry(key.clone()).or_insert_with(|| Arc::new(Place::new(&key.1))).clone()
    }
}

/// How the state of one version comes to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// The new one can read what the old one wrote.
    Whole,
    /// It does not say that it can.
    Nothing,
}

impl Carry {
    pub fn between(old: &Symbol, new: &Symbol) -> Carry {
        let known = old.state_version > 0 && new.state_version > 0 && new.state_oldest > 0;
        match known && (new.state_oldest..=new.state_version).contains(&old.state_version) {
            true => Carry::Whole,
            false => Carry::Nothing,
        }
    }

    /// Puts the state of the old one into that of the new one, in the place of what is there. False where there was some
    /// and it was left behind.
    pub fn carry(self, old: &States, new: &States) -> bool {
        if old.is_same(new) {
            return true;
        }
        match self {
            Carry::Whole => {
                new.replace(old.read(|all| all.map(|(name, value)| (name.to_owned(), value.clone())).collect()));
                true
            }
            Carry::Nothing => old.is_empty(),
        }
    }
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
