//! What a file holds is read once by rules at `qos` 2, whatever is killed, and goes to each kind of sink.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

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

/// A server with a file of numbers.
struct Reading {
    server: Server,
    folder: tempfile::TempDir,
    lines: i64,
    kills: Vec<Instant>,
}

impl Reading {
    fn new(lines: i64, interval: &str) -> Reading {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..lines).map(|n| format!("{{\"id\":{n}}}\n")).collect();
        fs::write(folder.path().join("numbers.jsonl"), text).unwrap();
        let plugins = folder.path().join("data/plugins/sinks");
        fs::create_dir_all(&plugins).unwrap();
        fs::copy(made::ours("mysql"), plugins.join("Mysql@v1.0.0.so")).unwrap();
        let mut server = Server::new(folder.path());
        server.again();
        let statement = format!(
            r#"CREATE STREAM numbers (id BIGINT) WITH (TYPE="file", DATASOURCE="numbers.jsonl", FORMAT="json",
               EXTRA="{{\"path\":\"\",\"fileType\":\"lines\",\"sendInterval\":\"{interval}\"}}")"#
        );
        server.ask("POST", "/streams", &json!({ "sql": statement }).to_string());
        Reading { server, folder, lines, kills: Vec::new() }
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
            let count: usize = books.iter().map(|book| book.counts.len()).sum();
            if count > seen {
                (seen, moved) = (count, Instant::now());
            }
            if count == rules.len() * self.lines as usize || moved.elapsed() > PATIENCE / 3 {
                return books;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Prints what came of the rules, and fails where that is not what is promised; `bound` is how often a row may come
    /// again.
    fn judge(&self, name: &str, all: &[(Rule, Book)], bound: impl Fn(&Rule, &Book) -> u64) {
        let verdict = |(rule, book): &(Rule, Book)| {
            let mut wrong = book.wrong.clone();
            if book.counts.keys().any(|key| !(0..self.lines).contains(key)) {
                wrong.push(format!("{}: numbers that were never there", rule.id));
            }
            let again: u64 = book.counts.values().map(|count| u64::from(count - 1)).sum();
            let mut verdict = Verdict {
                rule: rule.id,
                published: self.lines as usize,
                delivered: book.counts.len(),
                lost: (0..self.lines).filter(|number| !book.counts.contains_key(number)).collect(),
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
        table::print(name, &format!("qos 2, {} kills", self.kills.len()), &verdicts);
        let broken: Vec<String> = verdicts.iter().flat_map(Verdict::broken).collect();
        assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), self.server.log());
    }
}

#[test]
fn from_a_file_to_a_file_each_line_counts_once() {
    let name = "file_to_file";
    let mut reading = Reading::new(either(20_000, 400_000) as i64, "1ms");
    let rules = [LINES, WINDOWS];
    rules.iter().for_each(|rule| reading.begin(rule, ""));
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
    let name = "file_to_far";
    let mut reading = Reading::new(either(6_000, 100_000) as i64, "2ms");
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
