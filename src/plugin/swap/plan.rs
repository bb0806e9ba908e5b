//! What the plans of sources and of sinks have in common: the properties as the edition takes them that stands in the
//! place, what is open of it, and what was made ready to move to. A plan lives as long as the rule (or the stream) that was
//! made with it, and opens again and again; each time it fits the edition that stands there then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::diag::{Diagnostic, Fault, Result};
use crate::plugin::library::{Library, Symbol};
use crate::plugin::name::symbol;
use crate::plugin::uses::{Edition, Place, Use, lock};

/// What a plan is of.
pub trait Planned: Sized + 'static {
    /// What the user wants.
    type Spec;
    /// The same, fitted to one edition.
    type Fitted: Clone;
    /// What something open shares with those who move it.
    type Seat;
    /// What else lives as long as the plan.
    type Own: Default;

    /// The kind of its symbol.
    const KIND: u32;
    /// As in sentences: `sink`.
    const WHAT: &'static str;

    /// The rule, or the stream that rules share.
    fn owner(spec: &Self::Spec) -> &str;

    /// Checks the properties; does no I/O.
    fn fit(name: &str, library: &Arc<Library>, symbol: Symbol, spec: &Self::Spec) -> Result<Self::Fitted, Diagnostic>;
}

/// The properties, as one edition takes them.
#[derive(Clone)]
pub struct Fit<F> {
    pub number: u64,
    pub version: Arc<str>,
    pub fitted: F,
}

impl<F> Fit<F> {
    fn new(edition: &Edition, fitted: F) -> Fit<F> {
        Fit { number: edition.number, version: edition.version.as_str().into(), fitted }
    }
}

/// The source of a rule or stream, or the sink of a rule, open or not.
pub struct Plan<P: Planned> {
    pub name: String,
    pub place: Arc<Place>,
    pub spec: P::Spec,
    pub own: P::Own,
    pub fit: Mutex<Fit<P::Fitted>>,
    /// What is open.
    seats: Mutex<Vec<Weak<P::Seat>>>,
    /// What was made ready.
    pub next: Mutex<Option<Fit<P::Fitted>>>,
    /// State was left behind.
    forgot: AtomicBool,
}

impl<P: Planned> Plan<P> {
    /// Checks the properties against what stands in the place, which hears of the plan.
    pub fn new(
        name: &str,
        place: &Arc<Place>,
        edition: &Edition,
        symbol: Symbol,
        spec: P::Spec,
    ) -> Result<Arc<Plan<P>>, Diagnostic>
    where
        Plan<P>: Use,
    {
        let fitted = P::fit(name, &edition.library, symbol, &spec)?;
        let plan = Arc::new(Plan {
            name: name.to_owned(),
            place: place.clone(),
            spec,
            own: P::Own::default(),
            fit: Mutex::new(Fit::new(edition, fitted)),
            seats: Mutex::default(),
            next: Mutex::default(),
            forgot: AtomicBool::new(false),
        });
        place.enter(Arc::downgrade(&plan) as Weak<dyn Use>);
        Ok(plan)
    }

    pub fn owner(&self) -> &str {
        P::owner(&self.spec)
    }

    pub fn seats(&self) -> Vec<Arc<P::Seat>> {
        lock(&self.seats).iter().filter_map(Weak::upgrade).collect()
    }

    /// Something was opened, which leaves by ending.
    pub fn sit(&self, seat: &Arc<P::Seat>) {
        let mut seats = lock(&self.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(seat));
    }

    /// The properties as the edition takes them that stands there now.
    pub fn fit(&self) -> Result<Fit<P::Fitted>> {
        let mut fit = lock(&self.fit);
        if fit.number != self.place.number() {
            let gone = || Fault::setup(format!("the {} plugin `{}` was removed", P::WHAT, self.name));
            let now = self.place.now().ok_or_else(gone)?;
            *fit = self.fitted(&now).map_err(Fault::setup)?;
        }
        Ok(fit.clone())
    }

    /// The same, as another edition takes them; the error is a sentence.
    pub fn fitted(&self, edition: &Edition) -> Result<Fit<P::Fitted>, String> {
        let found = edition.library.symbol(P::KIND, &symbol(&self.place.name));
        let found = found.ok_or_else(|| format!("it exports no {} `{}`", P::WHAT, self.name))?;
        let fitted = P::fit(&self.name, &edition.library, found, &self.spec).map_err(|found| found.to_string())?;
        Ok(Fit::new(edition, fitted))
    }

    /// What was made ready is what is opened from now on.
    pub fn take_next(&self) {
        if let Some(fit) = lock(&self.next).take() {
            *lock(&self.fit) = fit;
        }
    }

    /// State was left behind.
    pub fn forget(&self) {
        self.forgot.store(true, Ordering::Release);
    }

    /// Whether it was since it was asked the last time.
    pub fn forgot(&self) -> bool {
        self.forgot.swap(false, Ordering::AcqRel)
    }
}
