use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::{Clock, Time};
use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::func::RuleInfo;
use crate::meter::{Accounts, LedgerView, SinkView, Term};
use crate::plan::{self, Plan};
use crate::store::{Log, LogOptions, Snapshots};

use super::super::book::Book;
use super::super::carry;
use super::super::chain::{Chain, is_blank};
use super::known::Known;
use super::record::{self, Glance, SinkCount};
use super::state::State;
use super::{Anchor, Glass, Journal, JournalView, Port};

/// Where the journal of a rule is, and how it is kept.
pub struct JournalSpec {
    pub folder: PathBuf,
    /// `checkpointInterval`; zero: snapshots only when the log is long, and at the stop.
    pub interval: Duration,
    /// Given back when the journal is closed.
    pub lease: Arc<dyn Any + Send + Sync>,
}

/// A journal as it was found.
pub struct Opened {
    spec: JournalSpec,
    log: Log,
    found: Found,
}

#[derive(Default)]
struct Found {
    /// Its sequence, its length in bytes, and what it says.
    snapshot: Option<(u64, u64, State)>,
    /// When the chain was made, and the plan, where there is no snapshot.
    begin: Option<(Time, String)>,
    /// What the sinks had confirmed, and where the log says so.
    counts: Option<(u64, Vec<SinkCount>)>,
    /// Pushes that are not to be done again.
    skip: HashSet<u64>,
    /// Calls that broke the rule: how often, and the last time in which step.
    broke: HashMap<u64, (u32, usize)>,
    known: Vec<Known>,
    /// For each source where it stands, if it can seek.
    positions: Vec<Option<Value>>,
    /// Rows in the log since the snapshot.
    rows: u64,
    /// Calls of the chain in it.
    calls: u64,
    /// Bytes of it.
    bytes: u64,
    warnings: Vec<String>,
}

impl Opened {
    /// Opens what there is, or begins anew. Blocks.
    pub fn open(spec: JournalSpec) -> Result<Opened> {
        let (mut log, recovered) = Log::open(&spec.folder, LogOptions::default())?;
        let mut found = Found::default();
        if let Some(torn) = &recovered.torn {
            tracing::info!("a crash left the input log half-written: {torn}");
        }
        found.warnings.extend(recovered.damaged.iter().map(|damage| format!("the input log is damaged: {damage}")));
        let loaded = Snapshots::load(&spec.folder)?;
        found.warnings.extend(
            loaded
                .unreadable
                .iter()
                .map(|one| format!("{one}; the state goes on from the one before, and from the input log")),
        );
        if let Some((sequence, bytes)) = loaded.newest {
            match State::read(&bytes) {
                Ok(state) => {
                    log.advance(sequence)?;
                    if log.first() > sequence {
                        let gone = log.first() - sequence;
                        found.warnings.push(format!("{gone} records of the input log behind the snapshot are gone"));
                    }
                    for (n, known) in state.known.iter().enumerate() {
                        found.known(n).add(known);
                    }
                    found.positions.clone_from(&state.positions);
                    found.snapshot = Some((sequence, bytes.len() as u64, state));
                }
                Err(fault) => found.warnings.push(fault.to_string()),
            }
        }
        let from = found.snapshot.as_ref().map_or(log.first(), |(sequence, ..)| *sequence);
        let mut reader = log.read(from)?;
        // What went back to its source is known a little later.
        let mut pushes = Vec::new();
        while let Some((sequence, body)) = reader.next()? {
            found.bytes += body.len() as u64;
            match record::glance(&body) {
                Ok(Glance::Begin { now, plan }) => {
                    found.begin = Some((now, plan)).filter(|_| found.snapshot.is_none());
                }
                Ok(Glance::Push { source, rows, deliveries, position }) => {
                    found.calls += 1;
                    pushes.push((sequence, source, rows, deliveries, position));
                }
                Ok(Glance::Counts(counts)) => found.counts = Some((sequence, counts)),
                Ok(Glance::Skip(sequence)) => drop(found.skip.insert(sequence)),
                Ok(Glance::Broke { sequence, step }) => {
                    let (times, last) = found.broke.entry(sequence).or_default();
                    (*times, *last) = (*times + 1, step);
                }
                Ok(Glance::Other) => found.calls += 1,
                Err(fault) => {
                    found.warnings.push(format!("record {sequence}: {fault}"));
                    found.skip.insert(sequence);
                }
            }
        }
        for (sequence, source, rows, deliveries, position) in pushes {
            if found.skip.contains(&sequence) {
                continue;
            }
            found.rows += rows;
            found.known(source).add(&deliveries);
            if position.is_some() && source < found.known.len() {
                let count = found.positions.len().max(source + 1);
                found.positions.resize(count, None);
                found.positions[source] = position;
            }
        }
        Ok(Opened { spec, log, found })
    }

    /// Whether there is anything in it that a rule could go on with: rows, or what an operator remembers.
    pub fn has_anything(&self) -> bool {
        let Found { snapshot, calls, .. } = &self.found;
        let remembers = |(_, _, state): &(u64, u64, State)| state.ops.iter().any(|op| !is_blank(&op.state));
        *calls > 0 || snapshot.as_ref().is_some_and(remembers)
    }

    /// How many rows each operator of the plan held at the last snapshot; nothing where that is of another plan.
    pub fn held(&self, plan: &Plan, rule: &Arc<RuleInfo>) -> Result<Vec<u64>> {
        let Some((_, _, state)) = self.found.snapshot.as_ref().filter(|(_, _, state)| is_of(&state.plan, plan)) else {
            return Ok(Vec::new());
        };
        let mut chain =
            Chain::build(plan, rule.clone(), &TimeZone::system(), rule.started, Arc::<Book>::default().account())?;
        chain.load(Value::array(state.ops.iter().map(|op| op.state.clone()).collect()))?;
        let held = chain.held();
        chain.forget();
        Ok(held)
    }

    /// For each source of the plan where it stands, if it can seek and the plan before read it too.
    pub fn positions(&self, plan: &Plan) -> Vec<Option<Value>> {
        let Some(before) = self.before() else { return Vec::new() };
        let place = |origin: Option<usize>| self.found.positions.get(origin?).cloned().flatten();
        origins(plan, before).into_iter().map(place).collect()
    }

    /// The last messages of a source that the log has: number and digest.
    #[cfg(test)]
    pub fn messages(&self, source: usize) -> Vec<(u16, u64)> {
        self.found.known.get(source).map(Known::all).unwrap_or_default()
    }

    /// The plan that what is here is of.
    fn before(&self) -> Option<&String> {
        let of_snapshot = self.found.snapshot.as_ref().map(|(_, _, state)| &state.plan);
        of_snapshot.or(self.found.begin.as_ref().map(|(_, plan)| plan))
    }

    /// How many rows the log has that only the plan before can go on with: their results are not all confirmed, or the
    /// program was killed behind the last snapshot. None where the plan is the same, or a snapshot has all.
    pub fn stranded(&self, plan: &Plan) -> Option<u64> {
        let before = self.before()?;
        (self.found.calls > 0 && !is_of(before, plan)).then_some(self.found.rows)
    }

    /// Makes the chain as it was, as far as its plan is the same, and the journal that goes on. `build` makes a chain
    /// that begins at a time; `sinks` are their names; `carried` is what the accounts go on from where there was no journal,
    /// or nothing of it can be read.
    pub async fn begin(
        self,
        plan: &Plan,
        sinks: &[String],
        book: &Arc<Book>,
        clock: &Clock,
        build: impl Fn(Time) -> Result<Chain>,
        carried: &Accounts,
    ) -> Result<(Chain, Journal)> {
        let Opened { spec, mut log, mut found } = self;
        let text = plan_text(plan);
        book.set_logs();
        let now = clock.now();
        let (mut taken, mut changed, mut before) = (None, None, None);
        let mut why = "changed";
        match (&found.snapshot, &found.begin) {
            (Some((_, _, state)), _) if is_of(&state.plan, plan) => {
                book.ledger.restore(&state.ledger);
                let mut chain = build(now)?;
                let states = state.ops.iter().map(|op| op.state.clone()).collect();
                match chain.load(Value::array(states)) {
                    Ok(()) => {
                        book.ledger.came(u64::try_from(book.view().held).unwrap_or_default());
                        taken = Some(chain);
                    }
                    Err(fault) => {
                        chain.forget();
                        why = "damaged";
                        found.warnings.push(format!("the state of the rule cannot be loaded, and is lost: {fault}"));
                    }
                }
            }
            (None, Some((began, before))) if is_of(before, plan) => taken = Some(build(*began)?),
            (None, None) => {
                // Otherwise it is the first: the rule had none before.
                if !log.is_empty() {
                    found.warnings.push("the beginning of the input log is gone, and there is no snapshot".into());
                }
                why = "damaged";
                before = found.go_on(book, carried, why);
            }
            (Some((_, _, state)), _) if found.calls == 0 => {
                book.ledger.restore(&state.ledger);
                let mut chain = build(now)?;
                let theirs: Vec<String> = state.ops.iter().map(|op| op.does.clone()).collect();
                let states: Vec<Value> = state.ops.iter().map(|op| op.state.clone()).collect();
                match chain.take_up(&carry::carried(&plan::steps(plan), &theirs), &states) {
                    Ok(()) => {
                        let held = book.view().held;
                        book.ledger.came(u64::try_from(held).unwrap_or_default());
                        let gone = u64::try_from(state.ledger.held - held).unwrap_or_default();
                        found.drop_held(book, gone, why);
                        changed = Some(chain);
                    }
                    Err(fault) => {
                        chain.forget();
                        why = "damaged";
                        found.warnings.push(format!("the state of the rule cannot be loaded, and is lost: {fault}"));
                    }
                }
            }
            (snapshot, _) => {
                let then = snapshot.as_ref().map(|(_, _, state)| state.ledger.clone()).unwrap_or_default();
                // Where nothing has come yet nothing is lost.
                if found.calls > 0 {
                    found.warnings.push("the rule was changed, and the input log does not fit any more".into());
                }
                let logged = then.came + found.rows;
                before = found.go_on(book, carried, why);
                match &before {
                    // What came behind the last writing is in the log alone.
                    Some(all) => found.drop_held(book, logged.saturating_sub(all.ledger.came), why),
                    None => book.ledger.restore(&then),
                }
            }
        }
        let is_fresh = taken.is_none() && changed.is_none();
        if is_fresh {
            if before.is_none() {
                found.give_up(book, why);
            }
            let folder = spec.folder.clone();
            let cleared = tokio::task::spawn_blocking(move || clear(&mut log, &folder).map(|()| log));
            log = cleared.await.map_err(|_| Fault::bug("clearing the journal panicked"))??;
        }
        for warning in &found.warnings {
            tracing::warn!("{}: {warning}", spec.folder.display());
        }
        let is_changed = changed.is_some();
        found.turn_to(plan);
        let chain = taken.or(changed).map_or_else(|| build(now), Ok)?;
        let mut journal = found.journal(spec, log, sinks, is_fresh || is_changed, clock)?;
        for port in &mut journal.ports {
            // What the log says of a sink is newer.
            if let Some(account) = before.as_ref().and_then(|all: &Accounts| all.sinks.get(&port.name))
                && port.restored == SinkView::default()
            {
                port.restored = account.clone();
            }
        }
        (journal.plan, journal.does) = (text, plan::steps(plan));
        journal.book = book.clone();
        if is_changed {
            journal.anew(chain.states()).await?;
        }
        if is_fresh {
            journal.note(&record::begin(now, &journal.plan.clone()))?;
            journal.calls = 0;
            // What was counted before would be forgotten by a crash.
            if book.view() != LedgerView::default() {
                journal.anew(chain.states()).await?;
            }
        }
        Ok((chain, journal))
    }
}

impl Found {
    fn known(&mut self, source: usize) -> &mut Known {
        // A number that no plan has is a damaged one.
        let source = source.min(1 << 10);
        if source >= self.known.len() {
            self.known.resize_with(source + 1, Known::default);
        }
        &mut self.known[source]
    }

    /// What is known of sources stands at their places in this plan.
    fn turn_to(&mut self, plan: &Plan) {
        let of_snapshot = self.snapshot.as_ref().map(|(_, _, state)| &state.plan);
        let Some(before) = of_snapshot.or(self.begin.as_ref().map(|(_, plan)| plan)) else { return };
        let origins = origins(plan, before);
        let mut known: Vec<Option<Known>> = self.known.drain(..).map(Some).collect();
        self.known =
            origins.iter().map(|origin| origin.and_then(|at| known.get_mut(at)?.take()).unwrap_or_default()).collect();
        let positions = std::mem::take(&mut self.positions);
        self.positions = origins.iter().map(|origin| positions.get((*origin)?).cloned().flatten()).collect();
    }

    /// The accounts go on from those that are kept beside the journal, and what was held then is lost: the log alone does
    /// not say which of its rows have ended. `None` where rows are in the log and there are no such accounts.
    fn go_on(&mut self, book: &Book, carried: &Accounts, why: &'static str) -> Option<Accounts> {
        let mut accounts = carried.clone();
        if accounts.ledger == LedgerView::default() && self.rows > 0 {
            return None;
        }
        let held = u64::try_from(accounts.ledger.held).unwrap_or_default();
        accounts.close(why, false);
        book.ledger.restore(&accounts.ledger);
        self.warn_held(held);
        Some(accounts)
    }

    /// What was held cannot be gone on with.
    fn give_up(&mut self, book: &Book, why: &'static str) {
        let held =
            self.snapshot.as_ref().map_or(0, |(_, _, state)| u64::try_from(state.ledger.held).unwrap_or_default());
        self.drop_held(book, held + self.rows, why);
    }

    fn drop_held(&mut self, book: &Book, rows: u64, why: &'static str) {
        book.ledger.came(rows);
        book.ledger.settle(Term::Dropped, why, rows, false);
        self.warn_held(rows);
    }

    fn warn_held(&mut self, rows: u64) {
        if rows > 0 {
            self.warnings.push(format!("{rows} rows that the rule held are dropped"));
        }
    }

    fn journal(self, spec: JournalSpec, log: Log, sinks: &[String], is_fresh: bool, clock: &Clock) -> Result<Journal> {
        let Found { snapshot, counts, skip, broke, known, positions, bytes, warnings, .. } = self;
        let (quiet, counts) = counts.unwrap_or_default();
        let at_snapshot = snapshot.as_ref().map_or(&[][..], |(_, _, state)| &state.sinks);
        let port = |name: &String| {
            let saved = at_snapshot.iter().find(|(count, _)| count.name == *name).cloned();
            let (saved, given) = saved.unwrap_or_default();
            let noted = counts.iter().find(|count| count.name == *name).cloned();
            let SinkCount { confirmed, position, view, .. } = noted.unwrap_or(saved);
            // A new journal counts anew.
            let (given, before) = if is_fresh { (0, 0) } else { (given, given.max(confirmed)) };
            Port {
                name: name.clone(),
                anchor: Arc::new(Anchor::new(position.filter(|_| !is_fresh))),
                account: None,
                restored: view,
                before,
                given,
                skip: before - given,
            }
        };
        let ports = sinks.iter().map(port).collect();
        let last = snapshot.as_ref().filter(|_| !is_fresh).map_or((0, 0), |(sequence, bytes, _)| (*sequence, *bytes));
        let from = if last.0 > 0 { last.0 } else { log.first() };
        let replay = if !is_fresh && log.next() > from { Some((log.read(from)?, skip)) } else { None };
        let view = JournalView { log_bytes: log.bytes(), snapshot_bytes: last.1, warnings, ..JournalView::default() };
        let glass: Glass = Arc::new(Mutex::new(view));
        Ok(Journal {
            folder: spec.folder,
            log: Some(log),
            clock: clock.clone(),
            interval: spec.interval,
            plan: String::new(),
            does: Vec::new(),
            book: Arc::default(),
            ports,
            noted: Vec::new(),
            known,
            positions,
            ahead: Vec::new(),
            dirty: false,
            pending: None,
            writing: None,
            last,
            since: if is_fresh { 0 } else { bytes },
            calls: u64::from(replay.is_some()),
            cut: 0,
            due: clock.now() + spec.interval,
            replay,
            quiet,
            at: 0,
            broke,
            doing: None,
            is_partial: false,
            glass,
            lease: spec.lease,
        })
    }
}

impl Journal {
    /// Writes a snapshot now: what is on the disk is of another plan.
    async fn anew(&mut self, states: Vec<(String, Value)>) -> Result<()> {
        self.sync().await?;
        self.set_state(states);
        self.begin_writing();
        self.end_writing(true).await
    }
}

/// Equal texts mean that the state of one plan is that of the other. The last line names the sources by their places.
fn plan_text(plan: &Plan) -> String {
    let streams: Vec<&str> = plan.sources.iter().map(|source| source.stream.as_str()).collect();
    format!("{}\n{}", plan_of_old(plan), serde_json::json!({ "sources": streams }))
}

/// The same, as it was written before it named the sources.
fn plan_of_old(plan: &Plan) -> String {
    format!("{}\n{} slots", plan::explain(plan), plan.width)
}

/// Whether what is on the disk is of this plan.
fn is_of(before: &str, plan: &Plan) -> bool {
    before == plan_text(plan) || before == plan_of_old(plan)
}

/// For each source of a plan its place in the plan before, where that read it too. A stream that is there twice is told
/// apart by its order.
fn origins(plan: &Plan, before: &str) -> Vec<Option<usize>> {
    if is_of(before, plan) {
        return (0..plan.sources.len()).map(Some).collect();
    }
    let last = before.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let named = last.as_ref().and_then(|last| last.get("sources")?.as_array());
    let mut streams: Vec<Option<&str>> = match named {
        Some(named) => named.iter().map(serde_json::Value::as_str).collect(),
        // A single one has no other place.
        None => Some(sources(before).map(Some).collect::<Vec<_>>()).filter(|all| all.len() == 1).unwrap_or_default(),
    };
    let origin = |source: &plan::Source| {
        let at = streams.iter().position(|stream| *stream == Some(source.stream.as_str()))?;
        streams[at] = None;
        Some(at)
    };
    plan.sources.iter().map(origin).collect()
}

/// The streams that a plan as text reads.
fn sources(plan: &str) -> impl Iterator<Item = &str> {
    plan.split("StreamName: ").skip(1).filter_map(|rest| rest.split(',').next())
}

/// Empties the log and removes the snapshots; sequences go on. Blocks.
pub fn clear(log: &mut Log, folder: &Path) -> Result<()> {
    log.sync()?;
    log.drop_before(log.next())?;
    Snapshots::clear(folder)
}
