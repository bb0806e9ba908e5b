//! The accounts: what became of every row, and how each node of a rule is doing.
//!
//! A [`Ledger`] counts input rows of a rule. Each term is counted where it happens and none is computed from the others,
//! so a forgotten count shows: at rest `in = out + filtered + held + late + dropped + dead`. A [`SinkAccount`] counts
//! results in the same way. [`Accounts`] are both, as they are kept from one run of a rule to the next. [`NodeMeter`]
//! holds what the status shows of a source, an operator or a sink.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Time;

/// All reasons under which rows and results are counted, for accounts that are read back from the disk.
const REASONS: &[&str] = &[
    "overflow",
    "stop",
    "crash",
    "duplicate",
    "decode",
    "eval",
    "encode",
    "refused",
    "setup",
    "unreachable",
    "bug",
    "lost",
    "expired",
    "full",
    "cleared",
    "changed",
    "retries",
    "queue full",
    "queue age",
    "queue damaged",
    "queue drop",
    "retention",
    "damaged",
];

/// The reason of that name; `other` for one that this version does not know.
pub fn reason(name: &str) -> &'static str {
    REASONS.iter().find(|known| **known == name).copied().unwrap_or("other")
}

/// Where a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    Out,
    Filtered,
    Late,
    Dropped,
    Dead,
}

/// The account of a rule's input rows.
#[derive(Debug, Default)]
pub struct Ledger {
    came: AtomicU64,
    out: AtomicU64,
    filtered: AtomicU64,
    held: AtomicI64,
    late: AtomicU64,
    dropped: Reasons,
    dead: Reasons,
}

/// Counts by reason.
pub type ByReason = BTreeMap<&'static str, u64>;

/// Reads counts whose reasons are no longer words of the program.
fn reasons<'de, D: Deserializer<'de>>(from: D) -> Result<ByReason, D::Error> {
    let mut counts = ByReason::new();
    for (name, rows) in BTreeMap::<String, u64>::deserialize(from)? {
        *counts.entry(reason(&name)).or_default() += rows;
    }
    Ok(counts)
}

/// The ledger at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerView {
    #[serde(rename = "in")]
    pub came: u64,
    pub out: u64,
    pub filtered: u64,
    pub held: i64,
    pub late: u64,
    #[serde(deserialize_with = "reasons")]
    pub dropped: ByReason,
    #[serde(deserialize_with = "reasons")]
    pub dead: ByReason,
}

impl LedgerView {
    /// Whether every row that came is in exactly one term.
    pub fn balances(&self) -> bool {
        i128::from(self.came) == i128::from(self.ended()) + i128::from(self.held)
    }

    /// What two ledgers have counted together.
    pub fn and(mut self, other: &LedgerView) -> LedgerView {
        self.came += other.came;
        self.out += other.out;
        self.filtered += other.filtered;
        self.held += other.held;
        self.late += other.late;
        for (of, others) in [(&mut self.dropped, &other.dropped), (&mut self.dead, &other.dead)] {
            others.iter().for_each(|(reason, rows)| *of.entry(reason).or_default() += rows);
        }
        self
    }

    /// The rows that no operator holds, and whose end the sinks have not told yet.
    pub fn under_way(&self) -> u64 {
        let settled = u64::try_from(self.held).unwrap_or_default().saturating_add(self.ended());
        self.came.saturating_sub(settled)
    }

    /// The rows that have met their end.
    pub fn ended(&self) -> u64 {
        self.out + self.filtered + self.late + self.dropped.values().sum::<u64>() + self.dead.values().sum::<u64>()
    }
}

impl Ledger {
    /// A ledger that goes on from there.
    pub fn of(view: &LedgerView) -> Ledger {
        Ledger {
            came: view.came.into(),
            out: view.out.into(),
            filtered: view.filtered.into(),
            held: view.held.into(),
            late: view.late.into(),
            dropped: Reasons(view.dropped.clone().into()),
            dead: Reasons(view.dead.clone().into()),
        }
    }

    /// So many rows came in.
    pub fn came(&self, rows: u64) {
        self.came.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many rows met their end; `held` when they were counted as held before.
    pub fn settle(&self, term: Term, reason: &'static str, rows: u64, held: bool) {
        match term {
            Term::Out => drop(self.out.fetch_add(rows, Ordering::Relaxed)),
            Term::Filtered => drop(self.filtered.fetch_add(rows, Ordering::Relaxed)),
            Term::Late => drop(self.late.fetch_add(rows, Ordering::Relaxed)),
            Term::Dropped => self.dropped.add(reason, rows),
            Term::Dead => self.dead.add(reason, rows),
        }
        if held {
            self.unhold(rows);
        }
    }

    /// So many rows are kept by an operator.
    pub fn hold(&self, rows: u64) {
        self.held.fetch_add(rows as i64, Ordering::Relaxed);
    }

    pub fn unhold(&self, rows: u64) {
        self.held.fetch_sub(rows as i64, Ordering::Relaxed);
    }

    /// Goes on from what was counted before a restart, but for the rows that are held: who takes those up says so.
    pub fn restore(&self, before: &LedgerView) {
        let ended = before.came.saturating_sub(u64::try_from(before.held).unwrap_or_default());
        self.came.fetch_add(ended, Ordering::Relaxed);
        self.out.fetch_add(before.out, Ordering::Relaxed);
        self.filtered.fetch_add(before.filtered, Ordering::Relaxed);
        self.late.fetch_add(before.late, Ordering::Relaxed);
        before.dropped.iter().for_each(|(reason, rows)| self.dropped.add(reason, *rows));
        before.dead.iter().for_each(|(reason, rows)| self.dead.add(reason, *rows));
    }

    /// Takes over all that another one has counted, which begins anew.
    pub fn take_in(&self, other: &Ledger) {
        let take = |from: &AtomicU64, to: &AtomicU64| to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        take(&other.came, &self.came);
        take(&other.out, &self.out);
        take(&other.filtered, &self.filtered);
        take(&other.late, &self.late);
        self.held.fetch_add(other.held.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        other.dropped.take().into_iter().for_each(|(reason, rows)| self.dropped.add(reason, rows));
        other.dead.take().into_iter().for_each(|(reason, rows)| self.dead.add(reason, rows));
    }

    pub fn view(&self) -> LedgerView {
        LedgerView {
            came: self.came.load(Ordering::Relaxed),
            out: self.out.load(Ordering::Relaxed),
            filtered: self.filtered.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            dropped: self.dropped.view(),
            dead: self.dead.view(),
        }
    }
}

/// Counts by reason. Reasons are rare, so a lock costs nothing.
#[derive(Debug, Default)]
struct Reasons(Mutex<ByReason>);

impl Reasons {
    fn add(&self, reason: &'static str, count: u64) {
        if count == 0 {
            return;
        }
        let mut counts = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        *counts.entry(reason).or_default() += count;
    }

    /// Gives what it was before.
    fn set(&self, reason: &'static str, count: u64) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let before = if count == 0 { counts.remove(reason) } else { counts.insert(reason, count) };
        before.unwrap_or_default()
    }

    fn view(&self) -> ByReason {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).clone()
    }

    fn take(&self) -> ByReason {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|broken| broken.into_inner()))
    }
}

/// The account of a sink's results, in rows: `results = delivered + queued + dropped + dead` at rest.
#[derive(Debug, Default)]
pub struct SinkAccount {
    results: AtomicU64,
    delivered: AtomicU64,
    queued: AtomicU64,
    dropped: Reasons,
    dead: Reasons,
}

/// The account of a sink at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkView {
    pub results: u64,
    pub delivered: u64,
    /// On disk, to be delivered later.
    pub queued: u64,
    #[serde(deserialize_with = "reasons")]
    pub dropped: ByReason,
    #[serde(deserialize_with = "reasons")]
    pub dead: ByReason,
}

impl SinkView {
    /// What has come to its end. What was given up at a stop is to be given again, and not counted.
    pub fn settled(&self) -> SinkView {
        let SinkView { delivered, mut dropped, dead, .. } = self.clone();
        dropped.remove("stop");
        let results = delivered + dropped.values().sum::<u64>() + dead.values().sum::<u64>();
        SinkView { results, delivered, queued: 0, dropped, dead }
    }

    pub fn balances(&self) -> bool {
        self.results
            == self.delivered + self.queued + self.dropped.values().sum::<u64>() + self.dead.values().sum::<u64>()
    }
}

impl SinkAccount {
    /// An account that goes on from there, but for what was on the disk: who finds it there says that it came.
    pub fn of(view: &SinkView) -> SinkAccount {
        SinkAccount {
            results: view.results.saturating_sub(view.queued).into(),
            delivered: view.delivered.into(),
            queued: 0.into(),
            dropped: Reasons(view.dropped.clone().into()),
            dead: Reasons(view.dead.clone().into()),
        }
    }

    pub fn came(&self, rows: u64) {
        self.results.fetch_add(rows, Ordering::Relaxed);
    }

    pub fn delivered(&self, rows: u64) {
        self.delivered.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many rows are on the disk now.
    pub fn queued(&self, rows: u64) {
        self.queued.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many rows leave the disk, to be counted elsewhere.
    pub fn unqueued(&self, rows: u64) {
        self.queued.fetch_sub(rows, Ordering::Relaxed);
    }

    pub fn dropped(&self, reason: &'static str, rows: u64) {
        self.dropped.add(reason, rows);
    }

    pub fn dead(&self, reason: &'static str, rows: u64) {
        self.dead.add(reason, rows);
    }

    /// So many rows were dropped for that reason in all, whatever was counted.
    pub fn recount(&self, reason: &'static str, rows: u64) {
        self.results.fetch_add(rows, Ordering::Relaxed);
        let before = self.dropped.set(reason, rows);
        self.results.fetch_sub(before, Ordering::Relaxed);
    }

    pub fn view(&self) -> SinkView {
        SinkView {
            results: self.results.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            dropped: self.dropped.view(),
            dead: self.dead.view(),
        }
    }
}

/// The accounts of a rule, as they are kept from one run to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounts {
    pub ledger: LedgerView,
    /// By the name of the sink, as `mqtt_0`.
    pub sinks: BTreeMap<String, SinkView>,
}

impl Accounts {
    /// The run is gone, and with it all that was on its way or held: it counts as dropped for that reason. What is on
    /// disk is still there, and with `keeps_state` what was held is too.
    pub fn close(&mut self, reason: &'static str, keeps_state: bool) {
        let ledger = &mut self.ledger;
        // Counted one after the other, so that a row may have been seen at its end and not yet at its beginning.
        if !keeps_state {
            ledger.held = 0;
        }
        let there = ledger.ended() + u64::try_from(ledger.held).unwrap_or_default();
        ledger.came = ledger.came.max(there);
        let gone = ledger.came - there;
        let drop = |dropped: &mut ByReason, rows| {
            if rows > 0 {
                *dropped.entry(reason).or_default() += rows;
            }
        };
        drop(&mut ledger.dropped, gone);
        for sink in self.sinks.values_mut() {
            let ended =
                sink.delivered + sink.queued + sink.dropped.values().sum::<u64>() + sink.dead.values().sum::<u64>();
            sink.results = sink.results.max(ended);
            drop(&mut sink.dropped, sink.results - ended);
        }
    }
}

/// What the status of a rule shows of one node. Counts are of rows, however they were batched.
#[derive(Debug, Default)]
pub struct NodeMeter {
    records_in: AtomicU64,
    records_out: AtomicU64,
    messages: AtomicU64,
    latency_us: AtomicU64,
    buffered: AtomicU64,
    last_invocation: AtomicI64,
    confirmed: AtomicI64,
    owed: AtomicI64,
    exceptions: AtomicU64,
    last_exception: Mutex<(String, i64)>,
}

/// A node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    pub records_in: u64,
    pub records_out: u64,
    pub messages: u64,
    pub latency_us: u64,
    pub buffered: u64,
    /// Milliseconds since 1970; 0: never.
    pub last_invocation: i64,
    /// Of a sink: when it confirmed something the last time; 0: never.
    pub confirmed: i64,
    /// Of a sink: since when the oldest message waits that it has and did not confirm; 0: there is none.
    pub owed: i64,
    pub exceptions: u64,
    pub last_exception: String,
    pub last_exception_time: i64,
}

impl NodeMeter {
    /// Rows came in.
    pub fn took(&self, rows: u64, now: Time) {
        self.records_in.fetch_add(rows, Ordering::Relaxed);
        self.messages.fetch_add(rows, Ordering::Relaxed);
        self.last_invocation.store(now.0, Ordering::Relaxed);
    }

    /// Rows went out.
    pub fn gave(&self, rows: u64) {
        self.records_out.fetch_add(rows, Ordering::Relaxed);
    }

    /// A sink has confirmed something.
    pub fn confirmed(&self, now: Time) {
        self.confirmed.store(now.0, Ordering::Relaxed);
    }

    /// A sink owes confirmations since then, if it owed none before.
    pub fn owes(&self, since: Time) {
        // Who comes second knows of nothing older.
        let _ = self.owed.compare_exchange(0, since.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A sink has confirmed all that it has, or it was taken back.
    pub fn owes_nothing(&self) {
        self.owed.store(0, Ordering::Relaxed);
    }

    /// How long the last call took.
    pub fn spent(&self, time: Duration) {
        self.latency_us.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// How much waits in front of it.
    pub fn waiting(&self, buffered: u64) {
        self.buffered.store(buffered, Ordering::Relaxed);
    }

    pub fn failed(&self, text: impl Into<String>, now: Time) {
        self.exceptions.fetch_add(1, Ordering::Relaxed);
        *self.last_exception.lock().unwrap_or_else(|broken| broken.into_inner()) = (text.into(), now.0);
    }

    pub fn view(&self) -> NodeView {
        let (last_exception, last_exception_time) =
            self.last_exception.lock().unwrap_or_else(|broken| broken.into_inner()).clone();
        NodeView {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            latency_us: self.latency_us.load(Ordering::Relaxed),
            buffered: self.buffered.load(Ordering::Relaxed),
            last_invocation: self.last_invocation.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            owed: self.owed.load(Ordering::Relaxed),
            exceptions: self.exceptions.load(Ordering::Relaxed),
            last_exception,
            last_exception_time,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every way in which a row can end, each once.
    fn all_ways(ledger: &Ledger) {
        ledger.came(7);
        ledger.settle(Term::Out, "", 1, false);
        ledger.settle(Term::Filtered, "", 1, false);
        ledger.settle(Term::Late, "", 1, false);
        ledger.settle(Term::Dropped, "overflow", 1, false);
        ledger.settle(Term::Dead, "decode", 1, false);
        ledger.hold(2);
        ledger.settle(Term::Out, "", 1, true);
    }

    #[test]
    fn the_ledger_balances_when_every_row_is_counted() {
        let ledger = Ledger::default();
        all_ways(&ledger);
        let view = ledger.view();
        assert!(view.balances(), "{view:?}");
        assert_eq!((view.out, view.held, view.dead.get("decode")), (2, 1, Some(&1)));
    }

    #[test]
    fn one_count_taken_away_shows() {
        let whole = {
            let ledger = Ledger::default();
            all_ways(&ledger);
            ledger.view()
        };
        let mut broken = vec![whole.clone(); 7];
        broken[0].came -= 1;
        broken[1].out -= 1;
        broken[2].filtered -= 1;
        broken[3].held -= 1;
        broken[4].late -= 1;
        broken[5].dropped.clear();
        broken[6].dead.clear();
        assert!(broken.iter().all(|view| !view.balances()), "{broken:?}");
    }

    #[test]
    fn accounts_that_are_kept_go_on_and_what_is_gone_is_counted() {
        let (ledger, sink) = (Ledger::default(), SinkAccount::default());
        all_ways(&ledger);
        ledger.came(3);
        sink.came(9);
        sink.delivered(4);
        sink.dead("refused", 2);
        let mut kept = Accounts { ledger: ledger.view(), sinks: [("s".to_owned(), sink.view())].into() };
        let text = serde_json::to_string(&kept).unwrap();
        assert!(text.starts_with(r#"{"ledger":{"in":10,"out":2,"filtered":1,"held":1"#), "{text}");
        kept = serde_json::from_str(&text).unwrap();
        kept.close("crash", false);
        assert!(kept.ledger.balances() && kept.sinks["s"].balances(), "{kept:?}");
        assert_eq!((kept.ledger.dropped["crash"], kept.sinks["s"].dropped["crash"]), (4, 3));
        let (ledger, sink) = (Ledger::of(&kept.ledger), SinkAccount::of(&kept.sinks["s"]));
        assert_eq!((ledger.view(), sink.view()), (kept.ledger.clone(), kept.sinks["s"].clone()));
        ledger.came(1);
        ledger.settle(Term::Dropped, "crash", 1, false);
        assert_eq!((ledger.view().dropped["crash"], ledger.view().balances()), (5, true));
        // A row that was seen at its end alone.
        let mut early = Accounts { ledger: LedgerView { out: 1, ..LedgerView::default() }, ..Accounts::default() };
        early.close("crash", false);
        let mut saved =
            Accounts { ledger: LedgerView { came: 9, held: 4, ..LedgerView::default() }, ..Accounts::default() };
        saved.close("crash", true);
        assert!(saved.ledger.balances() && saved.ledger.held == 4 && saved.ledger.dropped["crash"] == 5, "{saved:?}");
        assert!(early.ledger.balances() && early.ledger.dropped.is_empty(), "{early:?}");
    }
}
