//! What a file holds is read once by rules at `qos` 2, whatever is killed, and goes to each kind of sink. So is what a stream
//! retains; what the rule that writes to it gives it twice, it has twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kuiper::data::pack;
use kuiper::store::View;
use serde_json::json;

use super::book::Book;
use super::broker::Broker;
use super::made;
use super::mariadb::Mariadb;
use super::mqtt::Collector;
use super::receiver::Receiver;
use super::rules::{FAR, Kind, LINES, Place, Rule, Version, WINDOWS};
use super::scene::{JOURNAL_NOTED, PARCELS, QUEUE_NOTED};
use super::seed::{Chance, either};
use super::server::{PATIENCE, Server, wait_for};
use super::table::{self, Verdict};
use super::wire::Wire;

/// Rows of a window.
const WINDOW: usize = 100;

/// A server with a file of numbers.
struct Reading {
    server: Server,
    folder: tempfile::TempDir,
    lines: i64,
    kills: Vec<Instant>,
    /// The rules read a stream that retains, to which another rule writes the numbers.
    retains: bool,
}

impl Reading {
    fn new(lines: i64, interval: &str, retains: bool) -> Reading {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..lines).map(|n| format!("{{\"id\":{n}}}\n")).collect();
        fs::write(folder.path().join("numbers.jsonl"), text).unwrap();
        let plugins = folder.path().join("data/plugins/sinks");
        fs::create_dir_all(&plugins).unwrap();
        fs::copy(made::ours("mysql"), plugins.join("Mysql@v1.0.0.so")).unwrap();
        let mut server = Server::new(folder.path());
        server.again();
        let stream = if retains { "lines" } else { "numbers" };
        let statement = format!(
            r#"CREATE STREAM {stream} (id BIGINT) WITH (TYPE="file", DATASOURCE="numbers.jsonl", FORMAT="json",
               EXTRA="{{\"path\":\"\",\"fileType\":\"lines\",\"sendInterval\":\"{interval}\"}}")"#
        );
        server.ask("POST", "/streams", &json!({ "sql": statement }).to_string());
        if retains {
            let statement = r#"CREATE STREAM numbers () WITH (TYPE="memory", DATASOURCE="numbers",
                EXTRA="{\"retention\":10000000}")"#;
            server.ask("POST", "/streams", &json!({ "sql": statement }).to_string());
        }
        Reading { server, folder, lines, kills: Vec::new(), retains }
    }

    /// Has the numbers written to the stream that retains them, once all rules read it.
    fn feed(&self, rules: &[Rule]) {
        if !self.retains {
            return;
        }
        for rule in rules {
            let reads = |status: serde_json::Value| status["source_numbers_0_connection_status"] == 1;
            wait_for("the rules to read", || self.server.status(rule.id).is_some_and(reads));
        }
        let feeds = json!({
            "id": "feeds",
            "sql": "SELECT id FROM lines",
            "actions": [{"memory": {"topic": "numbers", "sendSingle": true}}],
            "options": {"qos": 2},
        });
        self.server.ask("POST", "/rules", &feeds.to_string());
    }

    /// What the rules were given, in order.
    fn given(&self) -> Vec<i64> {
        if !self.retains {
            return (0..self.lines).collect();
        }
        let log = fs::read_dir(self.folder.path().join("data/retained/numbers")).unwrap().next().unwrap().unwrap();
        let (view, _) = View::open(&log.path()).unwrap();
        let mut reader = view.read(view.first()).unwrap();
        let mut given = Vec::new();
        while let Some((_, record)) = reader.next().unwrap() {
            let from = &mut record.as_slice();
            assert_eq!((pack::take_text(from), pack::take_number(from)), (Ok("numbers"), Ok(1)));
            assert_eq!(pack::take_text(from), Ok("id"));
            given.push(pack::take(from).unwrap().as_i64().unwrap());
        }
        given
    }

    fn holds_all(&self, given: &[i64]) -> bool {
        given.iter().collect::<BTreeSet<_>>().len() as i64 == self.lines
    }

    /// How often each number is to come out of a rule that was given these.
    fn times(rule: &Rule, given: &[i64]) -> BTreeMap<i64, u32> {
        // The last window waits for more.
        let given = if rule.kind == Kind::Window { &given[..given.len() / WINDOW * WINDOW] } else { given };
        let mut times = BTreeMap::new();
        given.iter().for_each(|number| *times.entry(*number).or_default() += 1);
        if rule.place == Place::Sql {
            // A row with the same key replaces itself.
            times.values_mut().for_each(|times| *times = 1);
        }
        times
    }

    fn begin(&self, rule: &Rule, target: &str) {
        let sql = match rule.kind {
            Kind::Window => {
                "SELECT collect(id) AS ids, count(*) AS n, sum(id) AS total FROM numbers GROUP BY COUNTWINDOW(100)"
            }
            _ => "SELECT id FROM numbers",
        };
        let definition = rule.json(target, sql, Version::Five);
        self.server.ask("POST", "/rules", &definition.to_string());
    }

    fn kill(&mut self, chance: &mut Chance, times: u64) {
        for _ in 0..times {
            std::thread::sleep(Duration::from_millis(chance.between(300, 1_200)));
            self.server.kill();
            self.kills.push(Instant::now());
            self.server.again();
        }
    }

    /// Waits until all has come out of these rules, or nothing moves any more; then gives what came, by rule.
    fn end(&self, rules: &[Rule], look: impl Fn(&Rule, &Path) -> Book) -> Vec<Book> {
        let (mut seen, mut moved) = (0, Instant::now());
        loop {
            let books: Vec<Book> = rules.iter().map(|rule| look(rule, self.folder.path())).collect();
            let count: u32 = books.iter().flat_map(|book| book.counts.values()).sum();
            std::thread::sleep(Duration::from_millis(200));
            if count > seen {
                (seen, moved) = (count, Instant::now());
                continue;
            }
            // What follows takes a while in the long run.
            let still = moved.elapsed() > PATIENCE;
            let given = self.given();
            let has_all = |(rule, book): (&Rule, &Book)| {
                Reading::times(rule, &given).iter().all(|(number, times)| book.counts.get(number) >= Some(times))
            };
            let all = self.holds_all(&given) && rules.iter().zip(&books).all(has_all);
            if all || still {
                return books;
            }
        }
    }

    /// Prints what came of the rules, and fails where that is not what is promised; `bound` is how often a row may come
    /// again.
    fn judge(&self, name: &str, all: &[(Rule, Book)], bound: impl Fn(&Rule, &Book) -> u64) {
        let given = self.given();
        assert!(self.holds_all(&given), "{name}: not all numbers are there\n{}", self.server.log());
        let twice = given.len() as i64 - self.lines;
        let verdict = |(rule, book): &(Rule, Book)| {
            let mut wrong = book.wrong.clone();
            if book.counts.keys().any(|key| !(0..self.lines).contains(key)) {
                wrong.push(format!("{}: numbers that were never there", rule.id));
            }
            let times = Reading::times(rule, &given);
            let may = |number: &i64| times.get(number).copied().unwrap_or(0);
            let again: u64 = book.counts.iter().map(|(id, count)| u64::from(count.saturating_sub(may(id)))).sum();
            let has = |id: &i64| book.counts.get(id).copied().unwrap_or(0);
            let lacks = times.iter().filter(|(id, times)| has(id) < **times).map(|(id, _)| *id);
            let mut verdict = Verdict {
                rule: rule.id,
                published: times.len(),
                delivered: book.counts.len(),
                lost: lacks.collect(),
                doubled: again + book.windows_again,
                bound: bound(rule, book),
                wrong,
                ..Verdict::default()
            };
            // A window comes again as it was, or not at all.
            if rule.kind == Kind::Window && again > 0 {
                verdict.wrong.push(format!("{}: {again} numbers are in more than one window", rule.id));
            }
            if book.windows_again > 0 {
                verdict.remark = format!("{} windows sent again", book.windows_again);
            }
            verdict
        };
        let verdicts: Vec<Verdict> = all.iter().map(verdict).collect();
        let what = match self.retains {
            true => format!("qos 2, {} kills, {twice} numbers were given twice", self.kills.len()),
            false => format!("qos 2, {} kills", self.kills.len()),
        };
        table::print(name, &what, &verdicts);
        let broken: Vec<String> = verdicts.iter().flat_map(Verdict::broken).collect();
        assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), self.server.log());
    }
}

#[test]
fn from_a_file_to_a_file_each_line_counts_once() {
    to_files("file_to_file", false, either(20_000, 400_000));
}

#[test]
fn from_a_stream_that_retains_to_a_file_each_row_counts_once() {
    // Each number is written to the disk by itself here, twice.
    to_files("retained_to_file", true, either(3_000, 60_000));
}

fn to_files(name: &'static str, retains: bool, lines: u64) {
    let mut reading = Reading::new(lines as i64, "1ms", retains);
    let rules = [LINES, WINDOWS];
    rules.iter().for_each(|rule| reading.begin(rule, ""));
    reading.feed(&rules);
    reading.kill(&mut Chance::of(name), either(20, 300));
    let books = reading.end(&rules, |rule, folder| {
        let mut book = Book::default();
        book.follow(rule, &folder.join(rule.id));
        book
    });
    let all: Vec<(Rule, Book)> = rules.into_iter().zip(books).collect();
    reading.judge(name, &all, |_, _| 0);
}

#[test]
fn from_a_file_to_what_is_far_away_each_line_counts_once_and_comes_at_least_once() {
    to_far("file_to_far", false, either(6_000, 100_000));
}

#[test]
fn from_a_stream_that_retains_to_what_is_far_away_each_row_counts_once_and_comes_at_least_once() {
    to_far("retained_to_far", true, either(2_000, 40_000));
}

fn to_far(name: &'static str, retains: bool, lines: u64) {
    let mut reading = Reading::new(lines as i64, "2ms", retains);
    let (to, database, http) = (Broker::start(true), Mariadb::start(), Receiver::start());
    FAR.iter().filter(|rule| rule.place == Place::Sql).for_each(|rule| drop(database.sql(&rule.table())));
    let outs: BTreeMap<&str, (Wire, Collector)> = FAR
        .iter()
        .filter(|rule| rule.place == Place::Mqtt)
        .map(|rule| {
            let collector = Collector::start(to.port, &format!("c-{}", rule.id), &format!("out/{}", rule.id));
            wait_for("the collector", || collector.subscribed());
            (rule.id, (Wire::before(to.port), collector))
        })
        .collect();
    for rule in FAR {
        let target = match rule.place {
            Place::Mqtt => outs[rule.id].0.url(),
            Place::Sql => database.url(),
            _ => http.url(rule.id),
        };
        reading.begin(rule, &target);
    }
    reading.feed(FAR);
    reading.kill(&mut Chance::of(name), either(12, 200));
    let books = reading.end(FAR, |rule, _| {
        let mut book = Book::default();
        match rule.place {
            Place::Mqtt => book.take(rule, &outs[rule.id].1.rows_from(0)),
            Place::Sql => {
                let (ids, now) = (database.sql(&format!("SELECT id FROM test.{}", rule.id)), Instant::now());
                let rows: Vec<_> = ids.lines().map(|id| (now, format!("{{\"id\":{id}}}"))).collect();
                book.take(rule, &rows);
            }
            _ => book.take(rule, &http.rows_from(rule.id, 0)),
        }
        book
    });
    let all: Vec<(Rule, Book)> = FAR.iter().copied().zip(books).collect();
    reading.judge(name, &all, |rule, book| match rule.place {
        // The row replaces itself.
        Place::Sql => 0,
        // What the sink had confirmed and the journal, or the queue, had not noted.
        Place::Queue => {
            // What the disk has, and the journal does not know that, goes there again.
            let stored = JOURNAL_NOTED.as_millis() as u64 / 2 * reading.kills.len() as u64;
            book.recent(&reading.kills, QUEUE_NOTED, PARCELS) + stored
        }
        _ => {
            let out = outs.get(rule.id).map_or(0, |(wire, _)| wire.account().up.unacknowledged);
            book.recent(&reading.kills, JOURNAL_NOTED, PARCELS) + out
        }
    });
}
