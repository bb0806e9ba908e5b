//! Lookup tables move between two questions, and while none is asked.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use kuiper_plugin::abi::kind;

use crate::data::{Object, Text, Value};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::{Lookup, LookupPlan, LookupSpec, LookupTable};
use crate::plugin::desk::States;
use crate::plugin::library::Symbol;
use crate::plugin::lookup;
use crate::plugin::name::{lookup_symbol, symbol};
use crate::plugin::tap::shown;
use crate::plugin::uses::{Carry, Edition, Place, Ready, Use, lock};

/// Checks the properties against what stands in the place, and makes the table.
pub fn plan(
    name: &str,
    place: &Arc<Place>,
    edition: &Arc<Edition>,
    spec: LookupSpec,
) -> Result<LookupPlan, Diagnostic> {
    let fit = fitted(name, place, edition, &spec)?;
    let plan = Arc::new(Plan {
        name: name.to_owned(),
        place: place.clone(),
        spec,
        fit: Mutex::new(fit),
        seats: Mutex::default(),
        next: Mutex::default(),
        forgot: AtomicBool::new(false),
    });
    place.enter(Arc::downgrade(&plan) as Weak<dyn Use>);
    Ok(LookupPlan { table: Arc::new(Table(plan)), warnings: Vec::new() })
}

/// The table, as one edition makes it.
#[derive(Clone)]
struct Fit {
    number: u64,
    version: Arc<str>,
    symbol: Symbol,
    states: States,
    table: Arc<dyn LookupTable>,
}

fn fitted(name: &str, place: &Place, edition: &Edition, spec: &LookupSpec) -> Result<Fit, Diagnostic> {
    let wanted = lookup_symbol(&symbol(&place.name));
    let found = edition.library.symbol(kind::LOOKUP, &wanted);
    let none = || Diagnostic::error("K1002", format!("the plugin `{name}` has no lookup table"));
    let found = found.ok_or_else(none)?;
    let states = States::default();
    let spec = LookupSpec { props: spec.props.clone(), format: spec.format.clone(), env: spec.env.clone() };
    let made = lookup::plan(name, &edition.library, found, spec, states.clone())?;
    let version = edition.version.as_str().into();
    Ok(Fit { number: edition.number, version, symbol: found, states, table: made.table })
}

struct Plan {
    name: String,
    place: Arc<Place>,
    spec: LookupSpec,
    fit: Mutex<Fit>,
    /// Lookups that are open.
    seats: Mutex<Vec<Weak<Seat>>>,
    next: Mutex<Option<Fit>>,
    forgot: AtomicBool,
}

struct Seat {
    place: Arc<Place>,
    columns: Vec<Text>,
    fields: Vec<Text>,
    /// Locked while it is asked.
    held: tokio::sync::Mutex<Held>,
    /// The edition of what is held.
    number: AtomicU64,
    ready: Mutex<Option<Held>>,
    /// What is ready is to be taken.
    goes: AtomicBool,
}

struct Held {
    number: u64,
    version: Arc<str>,
    lookup: Box<dyn Lookup>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Who waits for it to move need not any more.
        self.place.tell();
    }
}

impl Seat {
    fn go(&self, held: &mut Held) {
        self.goes.store(false, Ordering::Release);
        if let Some(next) = lock(&self.ready).take() {
            self.number.store(next.number, Ordering::Release);
            // One that is dropped is closed.
            *held = next;
            self.place.tell();
        }
    }
}

impl Plan {
    fn seats(&self) -> Vec<Arc<Seat>> {
        lock(&self.seats).iter().filter_map(Weak::upgrade).collect()
    }
}

struct Table(Arc<Plan>);

impl LookupTable for Table {
    fn open(&self, columns: &[Text]) -> Result<Box<dyn Lookup>> {
        self.open_for(columns, &[])
    }

    fn open_for(&self, columns: &[Text], fields: &[Text]) -> Result<Box<dyn Lookup>> {
        let plan = &self.0;
        let fit = {
            let mut fit = lock(&plan.fit);
            if fit.number != plan.place.number() {
                let gone = || Fault::setup(format!("the source plugin `{}` was removed", plan.name));
                let now = plan.place.now().ok_or_else(gone)?;
                *fit = fitted(&plan.name, &plan.place, &now, &plan.spec)
                    .map_err(|found| Fault::setup(found.to_string()))?;
            }
            fit.clone()
        };
        let lookup = fit.table.open_for(columns, fields)?;
        let seat = Arc::new(Seat {
            place: plan.place.clone(),
            columns: columns.to_vec(),
            fields: fields.to_vec(),
            held: tokio::sync::Mutex::new(Held { number: fit.number, version: fit.version, lookup }),
            number: AtomicU64::new(fit.number),
            ready: Mutex::default(),
            goes: AtomicBool::new(false),
        });
        let mut seats = lock(&plan.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        Ok(Box::new(Seated { owner: plan.spec.env.owner.clone(), seat }))
    }
}

struct Seated {
    owner: String,
    seat: Arc<Seat>,
}

#[async_trait::async_trait]
impl Lookup for Seated {
    async fn find(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>> {
        let seat = &self.seat;
        let mut held = seat.held.lock().await;
        if seat.goes.load(Ordering::Acquire) {
            seat.go(&mut held);
        }
        let found = held.lookup.find(questions).await;
        if seat.place.tap.is_on() {
            let asked = |keys: &[Value]| keys.iter().map(shown).collect::<Vec<_>>().join(", ");
            let rows = |rows: &[Object]| shown(&Value::array(rows.iter().cloned().map(Value::object).collect()));
            let lines: Vec<String> = match &found {
                Ok(found) => questions
                    .iter()
                    .zip(found)
                    .map(|(keys, all)| format!("found {} for {}", rows(all), asked(keys)))
                    .collect(),
                Err(fault) => vec![format!("found nothing: {fault}")],
            };
            seat.place.tap.note(&self.owner, &held.version, lines.into_iter());
        }
        found
    }

    async fn close(&mut self) {
        self.seat.held.lock().await.lookup.close().await;
    }
}

#[async_trait::async_trait]
impl Use for Plan {
    fn owner(&self) -> String {
        self.spec.env.owner.clone()
    }

    fn open(&self) -> Vec<(String, u64)> {
        let seats = self.seats();
        seats.iter().map(|seat| (self.spec.env.owner.clone(), seat.number.load(Ordering::Acquire))).collect()
    }

    async fn prepare(&self, next: &Arc<Edition>) -> Result<Ready, String> {
        let fit = fitted(&self.name, &self.place, next, &self.spec).map_err(|found| found.to_string())?;
        let before = lock(&self.fit).clone();
        let carried = Carry::between(&before.symbol, &fit.symbol).carry(&before.states, &fit.states);
        self.forgot.store(!carried, Ordering::Release);
        for seat in self.seats() {
            let wrong = |fault: Fault| format!("the new version cannot connect: {fault}");
            let mut lookup = fit.table.open_for(&seat.columns, &seat.fields).map_err(wrong)?;
            // No question, so that it connects.
            lookup.find(&[]).await.map_err(wrong)?;
            *lock(&seat.ready) = Some(Held { number: fit.number, version: fit.version.clone(), lookup });
        }
        *lock(&self.next) = Some(fit);
        Ok(Ready::Beside)
    }

    fn commit(&self, _: &Arc<Edition>) {
        if let Some(fit) = lock(&self.next).take() {
            let mut now = lock(&self.fit);
            Carry::between(&now.symbol, &fit.symbol).carry(&now.states, &fit.states);
            *now = fit;
        }
        for seat in self.seats() {
            seat.goes.store(true, Ordering::Release);
            // One that is being asked takes it before the next question.
            if let Ok(mut held) = seat.held.try_lock() {
                seat.go(&mut held);
            }
        }
    }

    fn abandon(&self) {
        drop(mem::take(&mut *lock(&self.next)));
        self.forgot.store(false, Ordering::Release);
        self.seats().iter().for_each(|seat| drop(lock(&seat.ready).take()));
    }

    fn forgot(&self) -> bool {
        self.forgot.swap(false, Ordering::AcqRel)
    }
}
