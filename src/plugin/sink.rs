//! Sinks of guests, as the engine's own.

mod encoded;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kuiper_plugin::abi;
use kuiper_plugin::abi::kind;
use kuiper_plugin::has;
use serde_json::{Map, Value as Json};

use crate::data::{Layout, Object, Value};
use crate::diag::{Diagnostic, Fault, Result, Whose};
use crate::io::{Content, Parcel, RefusedRow, Report, RowSet, Sink, SinkSpec, Stopped, Takes, props};

use super::cross::{Arena, Taken, Texts, properties};
use super::desk::{Desk, States};
use super::library::{Library, Symbol};
use super::place;
use super::worker::{Slot, Worker};

use encoded::Letter;

/// A sink whose properties were checked against one version of the plugin: it can be opened again and again.
#[derive(Clone)]
pub struct Fitted {
    name: String,
    owner: String,
    library: Arc<Library>,
    pub symbol: Symbol,
    props: Arc<Value>,
}

/// Checks the properties; does no I/O.
pub fn fit(name: &str, library: &Arc<Library>, symbol: Symbol, spec: &SinkSpec) -> Result<Fitted, Diagnostic> {
    let props = Arc::new(properties(&spec.props));
    let owner = spec.env.owner.clone();
    check_templates(name, symbol, &spec.props)?;
    check(name, symbol, &props, &owner).map_err(|found| {
        // The plugin knows its own names only.
        let unknown = spec.props.keys().find(|name| found.message.contains(&format!("`{name}` is not known")));
        match unknown {
            Some(name) => found.suggest(name, props::OF_EVERY_SINK.iter().copied()),
            None => found,
        }
    })?;
    Ok(Fitted { name: name.to_owned(), owner, library: library.clone(), symbol, props })
}

impl Fitted {
    /// What it wants to be given.
    pub fn takes(&self) -> Takes {
        if self.symbol.flags & kind::TAKES_BYTES != 0 { Takes::Bytes } else { Takes::Rows }
    }

    pub fn open(&self, states: States) -> Guest {
        Guest {
            worker: worker(&self.library, self.symbol),
            user: next_user(),
            symbol: self.symbol,
            props: self.props.clone(),
            desk: Desk::new(&self.symbol, &self.owner, &self.name, 0, states.clone(), None),
            states,
            stood: None,
            lost: false,
            closed: false,
            refused: Vec::new(),
        }
    }
}

/// Whether it has something to say of where it stands: a position, or what it stores.
pub fn keeps(symbol: Symbol) -> bool {
    tells(symbol) || symbol.keeps()
}

/// Whether it tells a position. One instance for all rules stands where all of them have brought it.
fn tells(symbol: Symbol) -> bool {
    // SAFETY: the symbol is a sink.
    unsafe { has!(symbol.table.cast::<abi::Sink>(), position) }.is_some() && !symbol.singleton
}

/// Provisions a throw-away instance. A singleton is not disturbed for a rule that may never run; of it only the names of
/// properties are checked here.
pub fn check(name: &str, symbol: Symbol, props: &Value, owner: &str) -> Result<(), Diagnostic> {
    let refused = |text: String| Diagnostic::error("K1001", format!("`{name}`: {text}"));
    if !symbol.singleton {
        let desk = Desk::new(&symbol, owner, name, 0, States::default(), None);
        let mut slot = Slot::new(symbol);
        let provisioned = slot.provisioned(0, props, &desk).map(|_| ());
        return provisioned.map_err(|fault| refused(fault.to_string()));
    }
    let given = |wanted: &str| matches!(props, Value::Object(all) if all.get_ignoring_case(wanted).is_some());
    match symbol.properties.iter().find(|property| property.required && !given(property.name)) {
        Some(missing) => {
            Err(refused(format!("property `{}` is missing: it must be {}", missing.name, missing.expects)))
        }
        None => Ok(()),
    }
}

/// A template in a property that does not change from row to row would be taken for its text.
fn check_templates(name: &str, symbol: Symbol, props: &Map<String, Json>) -> Result<(), Diagnostic> {
    fn template(value: &Json) -> Option<&str> {
        match value {
            Json::String(text) => text.find("{{").filter(|at| text[*at..].contains("}}")).map(|_| text.as_str()),
            Json::Object(members) => members.values().find_map(template),
            _ => None,
        }
    }
    let fixed = |key: &String| symbol.property(key).is_some_and(|property| !property.dynamic);
    let found = props.iter().filter(|(key, _)| fixed(key)).find_map(|(key, value)| Some((key, template(value)?)));
    found.map_or(Ok(()), |(key, text)| {
        Err(Diagnostic::error(
            "K1003",
            format!(
                "`{name}`: property `{key}` takes no template, for it cannot change from row to row; found `{text}`"
            ),
        )
        .help("write one action for each value, with a rule that selects its rows"))
    })
}

/// The thread of the singleton, or one of its own.
pub fn worker(library: &Library, symbol: Symbol) -> Arc<Worker> {
    if symbol.singleton {
        library.singleton(symbol.name, || Worker::start(symbol))
    } else {
        Arc::new(Worker::start(symbol))
    }
}

/// A number for each use, by which a singleton tells them apart.
pub fn next_user() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One that is open.
pub struct Guest {
    worker: Arc<Worker>,
    user: u64,
    symbol: Symbol,
    props: Arc<Value>,
    desk: Arc<Desk>,
    states: States,
    /// Where it said that it stands, with nothing taken since. An instance that is made anew is taken back there.
    stood: Option<Value>,
    /// An instance was lost in a delivery. Until one has gone well, parcels are given one by one, so that the one which it
    /// was lost at is known.
    lost: bool,
    closed: bool,
    refused: Vec<RefusedRow>,
}

impl Guest {
    /// What it says of its connection goes there from now on.
    pub fn report_to(&self, report: Report) {
        self.desk.report_to(report);
    }

    /// Gives parcels to the instance, together.
    async fn hand(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped> {
        let stopped = |delivered, fault| Stopped { delivered, fault };
        let load = match Load::new(parcels, self.symbol) {
            Ok(load) => load,
            Err(fault) => return Err(stopped(0, fault)),
        };
        let (user, props, desk, takes_back) = (self.user, self.props.clone(), self.desk.clone(), self.stood.is_some());
        let delivery = self.worker.call(move |slot| Ok(handed(slot, user, &props, &desk, &load, takes_back)));
        match delivery.await {
            Ok((done, lost)) => {
                self.lost |= lost;
                if done.delivered > 0 {
                    self.stood = None;
                }
                self.refused = done.refused;
                done.fault.map_or(Ok(()), |fault| Err(stopped(done.delivered, fault)))
            }
            Err(fault) => Err(stopped(0, fault)),
        }
    }

    /// Gives them one by one.
    async fn hand_each(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped> {
        let mut refused = Vec::new();
        let mut told = self.stood.is_some();
        for (number, parcel) in parcels.iter().enumerate() {
            let handed = self.hand(std::slice::from_ref(parcel)).await;
            refused.extend(self.refused.drain(..).map(|row| RefusedRow { parcel: number, ..row }));
            if let Err(Stopped { delivered, fault }) = handed {
                self.refused = refused;
                return Err(Stopped { delivered: number + delivered, fault });
            }
            // What it does not say counts as taken: nothing is taken back that is not given again.
            told = told && matches!(self.position().await, Ok(Some(_)));
        }
        self.refused = refused;
        self.lost = false;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Sink for Guest {
    async fn connect(&mut self, report: Report) -> Result<()> {
        self.desk.report_to(report);
        let (user, props, desk) = (self.user, self.props.clone(), self.desk.clone());
        self.worker.call(move |slot| slot.connect(user, &props, &desk)).await?;
        match self.stood.clone().filter(|_| self.lost && tells(self.symbol)) {
            // What the lost one did with parcels that are given again.
            Some(stood) => self.resume(&stood).await,
            None => Ok(()),
        }
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> std::result::Result<(), Stopped> {
        if self.lost { self.hand_each(parcels).await } else { self.hand(parcels).await }
    }

    fn refused(&mut self) -> Vec<RefusedRow> {
        std::mem::take(&mut self.refused)
    }

    async fn position(&mut self) -> Result<Option<Value>> {
        if !keeps(self.symbol) {
            return Ok(None);
        }
        let (user, props, desk) = (self.user, self.props.clone(), self.desk.clone());
        let told = match tells(self.symbol) {
            true => match self.worker.call(move |slot| position(slot, user, &props, &desk)).await? {
                Some(told) => told,
                // The instance is lost, and the next one stands nowhere yet.
                None => return Ok(None),
            },
            false => None,
        };
        self.stood = place::kept(self.symbol, told, &self.states);
        Ok(self.stood.clone())
    }

    async fn resume(&mut self, position: &Value) -> Result<()> {
        let told = place::taken_up(self.symbol, position, &self.states)?;
        self.stood = Some(position.clone());
        let Some(told) = told else { return Ok(()) };
        let (user, props, desk) = (self.user, self.props.clone(), self.desk.clone());
        let resumed = self.worker.call(move |slot| {
            let this = slot.provisioned(user, &props, &desk)?;
            // SAFETY: the symbol is a sink.
            let resume = unsafe { has!(slot.symbol.table.cast::<abi::Sink>(), resume) };
            slot.rewind(resume, this, &told, &desk)
        });
        resumed.await
    }

    async fn close(&mut self) -> Result<()> {
        self.closed = true;
        self.worker.close(self.user, &self.desk).await
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.closed {
            self.worker.leave(self.user, &self.desk);
        }
    }
}

/// Where the guest itself says that it stands; nothing where it is not connected.
fn position(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>) -> Result<Option<Option<Value>>> {
    if !slot.connected.contains(&user) {
        return Ok(None);
    }
    let this = slot.provisioned(user, props, desk)?;
    // SAFETY: the symbol is a sink.
    let position = unsafe { has!(slot.symbol.table.cast::<abi::Sink>(), position) };
    let mut taken = Taken::default();
    let output = taken.output();
    // SAFETY: the instance is of this table; the pointers live until the call returns.
    let done = slot.call(position, |call, fault| unsafe { call(this, desk.raw(), &output, fault) });
    done.map_err(|(failed, mut texts)| texts.setup(failed))?;
    taken.0.pop().transpose().map(Some)
}

/// What is delivered together.
enum Load {
    Rows(Vec<Run>),
    Bytes(Vec<Letter>),
}

impl Load {
    fn new(parcels: &[Parcel], symbol: Symbol) -> Result<Load> {
        Ok(match symbol.flags & kind::TAKES_BYTES != 0 {
            true => Load::Bytes(encoded::letters(parcels)?),
            false => Load::Rows(runs(parcels, symbol.flags & kind::ONE_AS_ROW != 0)?),
        })
    }
}

/// Parcels that go over the line in one call.
struct Run {
    lines: Vec<Line>,
    /// One parcel, whose rows belong together; else parcels of one row each.
    list: bool,
    /// What the templates in properties come to, the same for all of them.
    props: Vec<(String, String)>,
    /// The same as an object.
    properties: Value,
}

/// A row with the layout that names its slots.
struct Line {
    layout: Arc<Layout>,
    cells: Vec<Value>,
}

fn runs(parcels: &[Parcel], one_as_row: bool) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for parcel in parcels {
        let Content::Rows(set) = &parcel.content else {
            return Err(Fault::bug("a sink of a plugin was given bytes"));
        };
        let lines = lines(set);
        let alone = lines.len() == 1 && (set.single || one_as_row);
        match runs.last_mut() {
            Some(run) if alone && !run.list && run.props == parcel.props => run.lines.extend(lines),
            _ => {
                let props = parcel.props.clone();
                let properties = evaluated(&props);
                runs.push(Run { lines, list: !alone, props, properties });
            }
        }
    }
    Ok(runs)
}

/// What templates come to, as an object; null where there is none.
fn evaluated(props: &[(String, String)]) -> Value {
    let members = props.iter().map(|(name, text)| (name.as_str(), Value::text(text)));
    if props.is_empty() { Value::Null } else { Value::object(members.collect::<Object>()) }
}

/// The rows of a parcel; those of an open layout have the columns of their own keys.
fn lines(set: &RowSet) -> Vec<Line> {
    if !set.layout.is_open() {
        return set.rows.iter().map(|cells| Line { layout: set.layout.clone(), cells: cells.clone() }).collect();
    }
    let mut last: Option<Arc<Layout>> = None;
    let mut line = |object: crate::data::Object| {
        let same = last.take().filter(|layout| {
            let names = layout.columns().iter().map(|column| &column.name);
            layout.width() == object.len() && names.eq(object.keys())
        });
        let layout = same.unwrap_or_else(|| Arc::new(object.keys().cloned().collect()));
        last = Some(layout.clone());
        Line { layout, cells: object.into_iter().map(|(_, value)| value).collect() }
    };
    set.objects().into_iter().map(&mut line).collect()
}

/// How a delivery went.
#[derive(Default)]
struct Done {
    delivered: usize,
    refused: Vec<RefusedRow>,
    fault: Option<Fault>,
}

/// Delivers, and says whether the instance was lost. What it was given then leaves nothing behind in what is stored, where
/// it is given again; and all of it is where the sink takes it back.
fn handed(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>, load: &Load, takes_back: bool) -> (Done, bool) {
    let before = desk.savepoint();
    let mut done = deliver(slot, user, props, desk, load);
    let lost = !slot.connected.contains(&user);
    if lost && takes_back && done.delivered > 0 {
        done = Done { fault: done.fault.map(given_again), ..Done::default() };
    }
    if lost && done.delivered == 0 {
        before.put_back();
    }
    (done, lost)
}

/// Why parcels are given again with the row that the instance was lost at.
fn given_again(fault: Fault) -> Fault {
    match fault.whose() {
        Whose::Row => Fault::unreachable(format!("{fault}; the rows before it are given again")),
        _ => fault,
    }
}

fn deliver(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>, load: &Load) -> Done {
    let mut done = Done::default();
    match load {
        Load::Rows(runs) => {
            for run in runs {
                let (before, earlier) = (desk.savepoint(), done.delivered);
                if let Err(fault) = one_run(slot, user, props, desk, run, &mut done) {
                    // What earlier calls have stored stays with what they took.
                    if done.delivered == earlier && !slot.connected.contains(&user) {
                        before.put_back();
                    }
                    done.fault = Some(fault);
                    break;
                }
                desk.progress();
            }
        }
        Load::Bytes(letters) => {
            let this = ready(slot, user, props, desk);
            done.fault = this.and_then(|this| encoded::deliver(slot, this, desk, letters, &mut done)).err();
        }
    }
    // What it cannot put where it belongs was not delivered at all.
    if done.delivered > 0
        && let Err(fault) = flush(slot, user, props, desk)
    {
        let lost = done.fault.filter(|_| !slot.connected.contains(&user));
        return Done { fault: Some(lost.map_or(fault, given_again)), ..Done::default() };
    }
    done
}

fn flush(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>) -> Result<()> {
    // SAFETY: the symbol is a sink.
    let Some(flush) = (unsafe { has!(slot.symbol.table.cast::<abi::Sink>(), flush) }) else { return Ok(()) };
    let this = ready(slot, user, props, desk)?;
    // SAFETY: the instance is of this table; the pointers live until the call returns.
    let called = slot.call(Some(flush), |call, fault| unsafe { call(this, desk.raw(), fault) });
    called.map(|_| ()).map_err(|(failed, mut texts)| row_fault(failed, &mut texts))
}

/// The instance, connected.
fn ready(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>) -> Result<*mut c_void> {
    if !slot.connected.contains(&user) {
        return Err(Fault::unreachable("the plugin was made anew after a failure, and is not connected yet"));
    }
    slot.provisioned(user, props, desk)
}

fn one_run(slot: &mut Slot, user: u64, props: &Value, desk: &Arc<Desk>, run: &Run, done: &mut Done) -> Result<()> {
    let this = ready(slot, user, props, desk)?;
    let table = slot.symbol.table.cast::<abi::Sink>();
    let lines = &run.lines;
    let crossing = Crossing::new(run);
    let batch = crossing.batch();
    match run.list {
        false => {
            let mut taken = 0;
            // SAFETY: the symbol is a sink.
            let collect = unsafe { has!(table, collect) };
            // SAFETY: the instance is of this table; the pointers live until the call returns.
            let called = slot.call(collect, |call, fault| unsafe { call(this, desk.raw(), &batch, &mut taken, fault) });
            match called {
                Ok(_) => done.delivered += lines.len(),
                Err((failed, mut texts)) => {
                    done.delivered += taken.min(lines.len() - 1);
                    return Err(row_fault(failed, &mut texts));
                }
            }
        }
        true => {
            // SAFETY: as above.
            let collect = unsafe { has!(table, collect_list) };
            // SAFETY: as above.
            let called = slot.call(collect, |call, fault| unsafe { call(this, desk.raw(), &batch, fault) });
            let mut texts = called.map_err(|(failed, mut texts)| row_fault(failed, &mut texts))?;
            let mut refused = std::mem::take(&mut texts.rows);
            refused.retain(|(row, _)| *row < lines.len());
            refused.sort_by_key(|(row, _)| *row);
            refused.dedup_by_key(|(row, _)| *row);
            if refused.len() == lines.len()
                && let Some((_, fault)) = refused.pop()
            {
                // All of it: then it is the parcel that is refused.
                return Err(fault);
            }
            let parcel = done.delivered;
            done.refused.extend(refused.into_iter().map(|(row, fault)| RefusedRow { parcel, row, fault }));
            done.delivered += 1;
        }
    }
    Ok(())
}

/// A plugin that panics at a row can never take it; the next instance may take the others.
fn row_fault(failed: u32, texts: &mut Texts) -> Fault {
    match texts.refused(failed) {
        Fault::Bug(text) => Fault::refused(format!("{text}; this is a bug of the plugin")),
        other => other,
    }
}

/// Rows as they go over the line.
struct Crossing<'l> {
    columns: Vec<abi::Str>,
    values: Vec<abi::Value>,
    properties: Option<abi::Value>,
    height: usize,
    _arena: Arena,
    _run: &'l Run,
}

impl<'l> Crossing<'l> {
    fn new(run: &'l Run) -> Crossing<'l> {
        let (lines, mut arena) = (&run.lines, Arena::default());
        let mut columns: Vec<&str> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut seen: Option<&Arc<Layout>> = None;
        for line in lines {
            if seen.is_some_and(|layout| Arc::ptr_eq(layout, &line.layout)) {
                continue;
            }
            seen = Some(&line.layout);
            for column in line.layout.columns() {
                places.entry(&column.name).or_insert_with(|| {
                    columns.push(&column.name);
                    columns.len() - 1
                });
            }
        }
        let mut values = vec![abi::Value::MISSING; columns.len() * lines.len()];
        for (row, line) in lines.iter().enumerate() {
            let cells = &mut values[row * columns.len()..(row + 1) * columns.len()];
            for (slot, (column, cell)) in line.layout.columns().iter().zip(&line.cells).enumerate() {
                // Most rows have the columns of the first, in its order.
                let place = match columns.get(slot) {
                    Some(same) if *same == column.name => slot,
                    _ => places[column.name.as_str()],
                };
                cells[place] = arena.lend(cell);
            }
        }
        Crossing {
            columns: columns.into_iter().map(abi::Str::new).collect(),
            values,
            properties: (!run.props.is_empty()).then(|| arena.lend(&run.properties)),
            height: lines.len(),
            _arena: arena,
            _run: run,
        }
    }

    /// Good as long as `self` lives.
    fn batch(&self) -> abi::Batch {
        abi::Batch {
            size: std::mem::size_of::<abi::Batch>() as u32,
            flags: 0,
            columns: self.columns.as_ptr(),
            width: self.columns.len(),
            height: self.height,
            values: self.values.as_ptr(),
            times: std::ptr::null(),
            metas: std::ptr::null(),
            properties: self.properties.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
        }
    }
}
