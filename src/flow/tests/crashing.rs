//! Rules with a journal: killed at any step of a script and started again, they give what they would have given.

mod accounts;
mod again;
mod breaking;
mod changing;
mod retaining;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::data::{Delivery, Value};
use crate::flow::{Ended, Feed, JournalSpec, JournalView, Opened};
use crate::func::{Catalogue, Ctx, Func};
use crate::io::{End, Message};
use crate::plan::{self, EventTime};
use crate::store::{Snapshots, View};

const HOUR: Duration = Duration::from_secs(3600);

/// What happens, in order.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many messages come, of the stream of that place.
    Give(usize, u64),
    /// The clock is set to this many milliseconds.
    At(i64),
}

use Step::{At, Give};

/// A rule that remembers something.
struct Kind {
    sql: &'static str,
    /// Its streams are `one` and `two`.
    joins: bool,
    event: bool,
}

const fn of(sql: &'static str) -> Kind {
    Kind { sql, joins: false, event: false }
}

const fn event(sql: &'static str) -> Kind {
    Kind { sql, joins: false, event: true }
}

const KINDS: &[Kind] = &[
    of("SELECT count(*) AS n, sum(a) AS s FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
    of("SELECT a, window_end() AS e FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
    of("SELECT b, avg(a) AS m, collect(a) AS c FROM demo GROUP BY b, TUMBLINGWINDOW(ss, 10)"),
    of("SELECT a FROM demo GROUP BY HOPPINGWINDOW(ss, 10, 4)"),
    of("SELECT count(*) AS n, max(a) AS m FROM demo GROUP BY HOPPINGWINDOW(ss, 10, 4)"),
    of("SELECT count(*) AS n FROM demo GROUP BY SLIDINGWINDOW(ss, 7)"),
    of("SELECT count(*) AS n FROM demo GROUP BY SLIDINGWINDOW(ss, 7, 2)"),
    of("SELECT count(*) AS n, max(a) AS m FROM demo GROUP BY SESSIONWINDOW(ss, 30, 3)"),
    of("SELECT a FROM demo GROUP BY COUNTWINDOW(4, 3)"),
    of("SELECT a FROM demo GROUP BY STATEWINDOW(b = 1, b = 2)"),
    of("SELECT a, lag(a) AS l, acc_sum(a) AS s, latest(b) AS b FROM demo"),
    of("SELECT a, had_changed(true, b) AS c FROM demo WHERE last_hit_count() < 9"),
    of("SELECT CHANGED_COLS(\"t_\", true, b) FROM demo"),
    of("SELECT row_number() AS r, a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10) ORDER BY b, a DESC LIMIT 3"),
    event("SELECT count(*) AS n, sum(a) AS s FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
    event("SELECT a FROM demo GROUP BY HOPPINGWINDOW(ss, 10, 4)"),
    event("SELECT count(*) AS n FROM demo GROUP BY SLIDINGWINDOW(ss, 7, 2)"),
    event("SELECT count(*) AS n FROM demo GROUP BY SESSIONWINDOW(ss, 30, 3)"),
    event("SELECT a, lag(a) AS l FROM demo"),
    Kind {
        sql: "SELECT one.a AS a, two.b AS b FROM one LEFT JOIN two ON one.b = two.b GROUP BY TUMBLINGWINDOW(ss, 10)",
        joins: true,
        event: false,
    },
    Kind {
        sql: "SELECT one.a AS a, kept.b AS b FROM one INNER JOIN kept ON one.b = kept.b",
        joins: true,
        event: false,
    },
];

/// Windows that close with rows and without, rows between, pauses, and a burst.
const SCRIPT: &[Step] = &[
    Give(0, 3),
    Give(1, 2),
    At(2_000),
    Give(0, 2),
    At(6_500),
    Give(0, 1),
    At(11_000),
    Give(1, 3),
    Give(0, 4),
    At(20_500),
    At(40_500),
    Give(0, 2),
    At(43_000),
    Give(0, 9),
    At(52_000),
    At(90_000),
];

/// A rule, its sources that give again what they were not relieved of, and its sink, over several lives.
struct World {
    kind: &'static Kind,
    clock: Clock,
    home: tempfile::TempDir,
    interval: Duration,
    sink: Fake,
    /// Of each life.
    acks: Vec<Arc<Acks>>,
    taps: Vec<Tap>,
    feeds: Vec<Arc<Feed>>,
    running: Option<Running>,
    /// What was given, by place: number and text.
    given: Vec<(usize, u64, String)>,
}

impl World {
    fn new(kind: &'static Kind, interval: Duration) -> World {
        World {
            kind,
            clock: Clock::stopped_at(Time(1_000)),
            home: tempfile::tempdir().unwrap(),
            interval,
            sink: sink(),
            acks: Vec::new(),
            taps: Vec::new(),
            feeds: Vec::new(),
            running: None,
            given: Vec::new(),
        }
    }

    fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Starts it, and gives again what no life before was relieved of.
    async fn start(&mut self) {
        (self.taps, self.feeds) = (Vec::new(), Vec::new());
        for _ in 0..if self.kind.joins { 2 } else { 1 } {
            let (tap, source) = tap();
            let statement = r#"CREATE STREAM demo () WITH (FORMAT="json", TIMESTAMP="ts")"#;
            let feed = match self.kind.event {
                true => typed_feed(statement, source, &self.clock),
                false => feed(source, &self.clock),
            };
            self.taps.push(tap);
            self.feeds.push(feed);
        }
        let mut rule = rule(self.kind.sql).to(&self.sink).at(&self.clock);
        if self.kind.event {
            rule.stream = Some(r#"CREATE STREAM demo () WITH (FORMAT="json", TIMESTAMP="ts")"#);
            let event_time = EventTime { tolerance: Duration::from_secs(1), patience: None };
            rule.options = plan::Options { event_time: Some(event_time), ..plan::Options::default() };
        }
        rule.journal = Some((self.folder().to_owned(), self.interval));
        self.running = Some(rule.start_over(&self.feeds, Vec::new()).await.unwrap());
        let relieved: Vec<u64> = self.acks.iter().flat_map(|acks| acks.good()).collect();
        self.acks.push(Arc::default());
        let again: Vec<_> = self.given.iter().filter(|(_, id, _)| !relieved.contains(id)).cloned().collect();
        for (place, id, text) in again {
            let message = self.message(id, &text, true);
            self.taps[place].give(vec![message]).await;
        }
    }

    fn message(&self, id: u64, text: &str, again: bool) -> Message {
        let delivery = Some(Delivery { id: id as u16, again, digest: 0, line: 0 });
        Message { delivery, time: self.clock.now(), ..self.acks.last().unwrap().message(id, text) }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Give(place, _) if place >= self.taps.len() => {}
            Give(place, rows) => {
                let now = self.clock.now().0;
                let mut chunk = Vec::new();
                for _ in 0..rows {
                    let id = self.given.len() as u64 + 1;
                    // In event time some come late, and some too late.
                    let text = format!(r#"{{"a":{id},"b":{},"ts":{}}}"#, id % 3, now - (id as i64 % 4) * 600);
                    chunk.push(self.message(id, &text, false));
                    self.given.push((place, id, text));
                }
                self.taps[place].give(chunk).await;
            }
            At(at) => {
                // All timers on the way go off at their times, as they do where nothing holds the rule up.
                self.at_rest().await;
                while self.clock.now().0 < at {
                    let due = self.running.as_ref().and_then(|running| running.flow.rests());
                    self.clock.set(Time(due.unwrap_or(i64::MAX).min(at)));
                    self.at_rest().await;
                }
            }
        }
    }

    /// Waits until the task waits, with no timer due.
    async fn at_rest(&self) {
        let Some(running) = &self.running else { return };
        until("the task to rest", || running.flow.rests().is_some_and(|due| due > self.clock.now().0)).await;
    }

    fn relieved(&self) -> bool {
        let good: usize = self.acks.iter().map(|acks| acks.good().len()).sum();
        good >= self.given.len()
    }

    /// Waits until all that was given is on the disk, and the sink has so many results.
    async fn rest(&self, results: usize) {
        until("the acknowledgements", || self.relieved()).await;
        self.at_rest().await;
        until(&format!("result {results}"), || self.sink.took().len() >= results).await;
        settle().await;
    }

    /// Waits until the journal knows what the sink has.
    async fn noted(&self) {
        let given = self.sink.took().len() as u64;
        until("the note of what was confirmed", || confirmed(self.folder()) >= given).await;
    }
}

/// What the log says last of the results that the sink has confirmed.
fn confirmed(folder: &Path) -> u64 {
    let (view, _) = View::open(folder).unwrap();
    let mut reader = view.read(view.first()).unwrap();
    let mut last = 0;
    while let Some((_, body)) = reader.next().unwrap() {
        if let Ok(crate::flow::journal::record::Glance::Counts(counts)) = crate::flow::journal::record::glance(&body) {
            last = counts[0].confirmed;
        }
    }
    last
}

/// The results of an undisturbed run, and how many of them there are after each step.
async fn undisturbed(kind: &'static Kind) -> (Vec<String>, Vec<usize>) {
    let mut world = World::new(kind, HOUR);
    world.start().await;
    let mut counts = Vec::new();
    for step in SCRIPT {
        world.step(*step).await;
        world.rest(0).await;
        // All has left the chain.
        let running = world.running.as_ref().unwrap();
        until("the sink", || running.sink_results() == world.sink.took().len() as u64).await;
        counts.push(world.sink.took().len());
    }
    (world.sink.took(), counts)
}

/// Plays the script with a kill behind one step; `noted`: the journal knows by then what the sink has.
async fn killed(
    kind: &'static Kind,
    behind: usize,
    interval: Duration,
    noted: bool,
    counts: &[usize],
) -> (Vec<String>, usize) {
    let mut world = World::new(kind, interval);
    world.start().await;
    let mut had = 0;
    for (n, step) in SCRIPT.iter().enumerate() {
        world.step(*step).await;
        let wanted = if n > behind { counts[n] } else { 0 };
        if n != behind || noted {
            world.rest(wanted.max(if n <= behind { counts[n] } else { 0 })).await;
        }
        if n == behind {
            if noted {
                world.noted().await;
            }
            world.running.take().unwrap().kill().await;
            had = world.sink.took().len();
            world.start().await;
            world.rest(counts[n]).await;
        }
    }
    let ledger = world.running.as_ref().unwrap().ledger();
    assert!(ledger.balances() && ledger.dead.is_empty(), "{}: {ledger:?}", kind.sql);
    (world.sink.took(), had)
}

/// What came is what was to come, but that some of what the sink had at the kill may have come again behind it.
fn check(what: &str, expected: &[String], came: &[String], had: usize) -> usize {
    assert_eq!(came[..had], expected[..had], "{what}: before the kill");
    let behind = &came[had..];
    let again = behind.len() as i64 - (expected.len() - had) as i64;
    assert!(again >= 0, "{what}: {} results are lost: {behind:?} after {had} of {expected:?}", -again);
    assert!(again as usize <= had, "{what}: {again} results too many");
    assert_eq!(behind, &expected[had - again as usize..], "{what}: behind the kill");
    again as usize
}

#[tokio::test]
async fn a_kill_behind_any_step_loses_nothing_and_doubles_only_what_was_not_noted() {
    // One waits for the disk while others go on.
    let all = KINDS.iter().map(|kind| async move {
        let (expected, counts) = undisturbed(kind).await;
        assert!(expected.len() > 2, "{}: {expected:?}", kind.sql);
        for (behind, step) in SCRIPT.iter().enumerate() {
            let what = format!("{} killed behind step {behind}, {step:?}", kind.sql);
            let (came, had) = killed(kind, behind, HOUR, false, &counts).await;
            // A timer that the log does not know of goes off late: windows that passed without rows are left out then.
            let with_rows = |all: &[String]| all.iter().filter(|row| *row != "{}").cloned().collect::<Vec<_>>();
            let had = with_rows(&came[..had]).len();
            check(&what, &with_rows(&expected), &with_rows(&came), had);
        }
        for behind in [3, 8, 11] {
            for interval in [HOUR, Duration::from_secs(5)] {
                let what = format!("{} killed at rest behind step {behind}", kind.sql);
                let (came, had) = killed(kind, behind, interval, true, &counts).await;
                assert_eq!(check(&what, &expected, &came, had), 0, "{what}: doubled");
            }
        }
    });
    futures_util::future::join_all(all).await;
}

const SUM: Kind = of("SELECT count(*) AS n, sum(a) AS s FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)");
static SUMS: Kind = SUM;

fn view(world: &World) -> JournalView {
    world.running.as_ref().unwrap().flow.journal().unwrap()
}

#[tokio::test]
async fn what_a_window_holds_at_a_stop_stays_held_and_goes_on_with_the_next_start() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    world.step(Give(0, 3)).await;
    world.rest(0).await;
    assert_eq!(world.running.take().unwrap().lay_down().await, 3);
    world.start().await;
    let ledger = world.running.as_ref().unwrap().ledger();
    assert_eq!((ledger.came, ledger.held), (3, 3));
    world.step(Give(0, 2)).await;
    world.rest(0).await;
    world.step(At(10_000)).await;
    world.rest(1).await;
    assert_eq!(world.sink.took(), [r#"{"n":5,"s":15}"#]);
    until("the confirmation", || world.running.as_ref().unwrap().ledger().out == 5).await;
    // A window that was due while the rule did not run goes off at the start.
    world.step(Give(0, 1)).await;
    world.rest(1).await;
    assert_eq!(world.running.take().unwrap().lay_down().await, 1);
    world.clock.set(Time(33_000));
    world.start().await;
    world.rest(2).await;
    assert_eq!(world.sink.took()[1], r#"{"n":1,"s":6}"#);
    world.running.take().unwrap().lay_down().await;
}

#[tokio::test]
async fn results_that_a_sink_did_not_take_before_the_stop_are_given_after_the_next_start() {
    let mut world = World::new(&SUMS, HOUR);
    world.sink = sink().shut();
    world.start().await;
    world.step(Give(0, 3)).await;
    world.rest(0).await;
    world.step(At(10_000)).await;
    world.step(Give(0, 1)).await;
    world.rest(0).await;
    assert_eq!(world.running.take().unwrap().lay_down().await, 4);
    world.sink = sink();
    world.start().await;
    world.rest(1).await;
    assert_eq!(world.sink.took(), [r#"{"n":3,"s":6}"#]);
    let running = world.running.as_ref().unwrap();
    until("the confirmation", || (running.ledger().out, running.ledger().held) == (3, 1)).await;
    assert_eq!(world.running.take().unwrap().lay_down().await, 1);
}

#[tokio::test]
async fn what_the_source_gives_again_after_a_crash_is_known_by_number_mark_and_content() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    world.step(Give(0, 4)).await;
    world.rest(0).await;
    world.running.take().unwrap().kill().await;
    // The acknowledgements did not reach the source.
    let texts: Vec<String> = world.given.iter().map(|(.., text)| text.clone()).collect();
    world.start().await;
    let mut chunk: Vec<Message> = (1..5).map(|id| world.message(id, &texts[id as usize - 1], true)).collect();
    // The same number with another content, and the same content under another number, are new.
    let under = |number: u16, message: Message| {
        let delivery = message.delivery.map(|delivery| Delivery { id: number, ..delivery });
        Message { delivery, ..message }
    };
    chunk.push(under(3, world.message(103, r#"{"a":100,"b":0}"#, true)));
    chunk.push(world.message(9, &texts[0], true));
    world.taps[0].give(chunk).await;
    let running = world.running.as_ref().unwrap();
    until("the rows", || running.ledger().held == 6).await;
    let ledger = running.ledger();
    assert_eq!((ledger.dropped["duplicate"], ledger.came), (4, 10));
    until("the acknowledgements", || world.acks[1].good() == [1, 2, 3, 4, 9, 103]).await;
    // From the first message on that is not marked, numbers mean something else.
    let new = under(2, world.message(102, r#"{"a":1000,"b":0}"#, false));
    let chunk = vec![new, under(1, world.message(101, &texts[0], true))];
    world.taps[0].give(chunk).await;
    until("the rows", || running.ledger().held == 8).await;
    world.step(At(10_000)).await;
    world.rest(1).await;
    assert_eq!(world.sink.took(), [r#"{"n":8,"s":1112}"#]);
    world.running.take().unwrap().kill().await;
}

#[tokio::test]
async fn an_unreadable_snapshot_falls_back_to_the_one_before_and_says_so() {
    let mut world = World::new(&SUMS, Duration::from_secs(2));
    world.start().await;
    for n in 0..3 {
        world.step(Give(0, 2)).await;
        world.step(At(3_000 + n * 2_000)).await;
        world.rest(0).await;
        until("a snapshot", || Snapshots::sequences(world.folder()).unwrap().len() > n as usize).await;
        world.at_rest().await;
    }
    world.running.take().unwrap().kill().await;
    let sequences = Snapshots::sequences(world.folder()).unwrap();
    let newest = world.folder().join(format!("{:020}.snapshot", sequences.last().unwrap()));
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    world.start().await;
    world.rest(0).await;
    let warnings = view(&world).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("cannot be used"), "{warnings:?}");
    world.step(At(10_000)).await;
    world.rest(1).await;
    assert_eq!(world.sink.took(), [r#"{"n":6,"s":21}"#]);
    world.running.take().unwrap().lay_down().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_holds_the_source_up_until_it_can() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    let folder = world.folder().to_owned();
    until("the task to rest", || world.running.as_ref().unwrap().flow.rests().is_some()).await;
    std::fs::remove_dir_all(&folder).unwrap();
    world.step(Give(0, 3)).await;
    until("the trouble", || !view(&world).trouble.is_empty()).await;
    assert!(world.acks[0].good().is_empty());
    let trouble = view(&world).trouble;
    assert!(trouble.starts_with("the input log cannot be written: "), "{trouble}");
    std::fs::create_dir(&folder).unwrap();
    world.rest(0).await;
    assert_eq!(view(&world).trouble, "");
    world.running.take().unwrap().kill().await;
    world.start().await;
    world.step(At(10_000)).await;
    world.rest(1).await;
    assert_eq!(world.sink.took(), [r#"{"n":3,"s":6}"#]);
    world.running.take().unwrap().lay_down().await;
}

#[tokio::test]
async fn the_end_of_the_input_ends_the_journal() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let home = tempfile::tempdir().unwrap();
    for life in 0..2 {
        let sink = sink();
        let rows = acks.rows(life * 10..life * 10 + 3);
        let feed = feed(lives(vec![Ok(gives(vec![rows], Ok(End::Finished)))]), &clock);
        let mut rule = rule("SELECT count(*) AS n FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)").to(&sink).at(&clock);
        rule.journal = Some((home.path().to_owned(), HOUR));
        let running = rule.start(&feed).await.unwrap();
        assert_eq!(running.ended().await, Ended::Finished);
        assert_eq!(sink.took(), [r#"{"n":3}"#]);
        assert_eq!(running.stop().await.terms(), [3, 0, 0, 0]);
    }
}

/// Where the only source of a rule stood, by its journal.
fn position(folder: &Path, sql: &str) -> Option<Value> {
    let opened = Opened::open(JournalSpec { folder: folder.to_owned(), interval: HOUR, lease: Arc::new(()) }).unwrap();
    let select = crate::sql::parse_select(sql).unwrap();
    let stream = |name: &str| Some(plan::Stream { name: name.into(), ..plan::Stream::schemaless(name) });
    let plan = plan::plan(&select, &stream, &Catalogue::default(), &plan::Options::default()).unwrap();
    opened.positions(&plan).first().cloned().flatten()
}

#[tokio::test]
async fn a_source_that_can_seek_and_a_sink_that_takes_back_give_each_result_once() {
    for sql in ["SELECT a, acc_sum(a) AS s FROM demo", "SELECT a FROM demo"] {
        let (clock, home, sink) = (Clock::real(), tempfile::tempdir().unwrap(), sink_that_takes_back());
        let allowed = tokio::sync::watch::Sender::new(0);
        let mut goal = 0;
        for life in 0..12 {
            let seek = position(home.path(), sql);
            let feed = feed_from(numbers(&allowed), seek, &clock);
            let mut rule = rule(sql).to(&sink).at(&clock);
            rule.journal = Some((home.path().to_owned(), Duration::from_millis(150)));
            let running = rule.start(&feed).await.unwrap();
            goal += 40;
            allowed.send_replace(goal);
            // Killed in the middle, or when the sink has all.
            let enough = goal - if life % 3 == 0 { 0 } else { 7 * (life % 3) };
            until("some results", || sink.took().len() as u64 >= enough).await;
            running.kill().await;
        }
        let feed = feed_from(numbers(&allowed), position(home.path(), sql), &clock);
        let mut last = rule(sql).to(&sink).at(&clock);
        last.journal = Some((home.path().to_owned(), HOUR));
        let running = last.start(&feed).await.unwrap();
        // What it had may be taken back first.
        until("all results", || confirmed(home.path()) >= goal && sink.took().len() as u64 >= goal).await;
        let took: Vec<u64> = sink
            .took()
            .iter()
            .map(|text| {
                let row: serde_json::Value = serde_json::from_str(text).unwrap();
                let a = row["a"].as_u64().unwrap();
                assert!(row["s"].is_null() || row["s"].as_u64() == Some(a * (a + 1) / 2), "{text}");
                a
            })
            .collect();
        assert_eq!(took, (1..=goal).collect::<Vec<_>>());
        running.lay_down().await;
    }
}
