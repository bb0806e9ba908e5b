//! A server with its rules between two brokers, what is published, and the judgement of what came out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::book::Book;
use super::broker::Broker;
use super::made;
use super::mariadb::Mariadb;
use super::mqtt::Collector;
use super::publisher::{Numbers, Publisher};
use super::receiver::Receiver;
use super::rules::{Kind, OTHER, Place, Rule};
use super::seed::Chance;
use super::server::{Server, wait_for};
use super::table::{self, Verdict};
use super::wire::Wire;

/// Messages a second, to each topic.
pub const RATE: u32 = 200;
/// How long nothing may move before what is missing is lost.
const STILL: Duration = Duration::from_secs(45);
/// How long the account may take to balance when all has come out: a window must end.
const BALANCE: Duration = Duration::from_secs(30);
/// Rows of one transaction, whose answer the kill of a database may have cut off.
const TRANSACTION: u64 = 1_000;

/// Messages that a queue may have sent on since it last noted how far it is.
const QUEUED: u64 = 1_000;

/// What the server must not lose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// All that the broker has taken.
    Taken,
    /// What the server has acknowledged to the broker, for the broker itself may forget.
    Acknowledged,
}

/// What is in it ends in the order in which it stands.
pub struct Scene {
    pub name: &'static str,
    pub chance: Chance,
    pub duty: Duty,
    pub publishers: Vec<Publisher>,
    pub server: Server,
    /// Where the server writes its files, as the test sees it.
    pub results: PathBuf,
    rules: Vec<Rule>,
    collectors: BTreeMap<&'static str, Collector>,
    pub http: Option<Receiver>,
    pub database: Option<Mariadb>,
    /// By stream.
    pub ins: BTreeMap<String, Wire>,
    /// By rule, for those that publish.
    pub outs: BTreeMap<&'static str, Wire>,
    pub from: Broker,
    pub to: Broker,
    books: BTreeMap<&'static str, Book>,
    /// How often the server was killed, or its files or its clock were touched.
    pub strikes: u64,
    /// Rows that may have been confirmed without the server hearing of it, by rule.
    pub in_doubt: BTreeMap<&'static str, u64>,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Everything but the server, the streams and the rules; the source's broker remembers what it has when it is stopped.
    pub fn new(name: &'static str, rules: &[Rule]) -> Scene {
        Scene::with(name, rules, Broker::start(true))
    }

    pub fn with(name: &'static str, rules: &[Rule], from: Broker) -> Scene {
        let (to, folder) = (Broker::start(true), tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let has = |place| rules.iter().any(|rule| rule.place == place);
        let database = has(Place::Sql).then(Mariadb::start);
        let streams: BTreeSet<String> = rules.iter().flat_map(Rule::inputs).map(|input| input.stream).collect();
        let publishing = || rules.iter().filter(|rule| rule.place == Place::Mqtt);
        let scene = Scene {
            name,
            chance: Chance::of(name),
            duty: Duty::Taken,
            publishers: Vec::new(),
            server: Server::new(folder.path()),
            results: folder.path().into(),
            rules: rules.into(),
            collectors: publishing()
                .map(|rule| {
                    (rule.id, Collector::start(to.port, &format!("c-{}", rule.id), &format!("out/{}", rule.id)))
                })
                .collect(),
            http: (has(Place::Http) || has(Place::Queue)).then(Receiver::start),
            database,
            ins: streams.into_iter().map(|stream| (stream, Wire::before(from.port))).collect(),
            outs: publishing().map(|rule| (rule.id, Wire::before(to.port))).collect(),
            from,
            to,
            books: rules.iter().map(|rule| (rule.id, Book::default())).collect(),
            strikes: 0,
            in_doubt: BTreeMap::new(),
            folder,
        };
        wait_for("the collectors", || scene.collectors.values().all(Collector::subscribed));
        scene
    }

    /// Starts the server, makes the streams and the rules, and begins to publish.
    pub fn begin(&mut self) {
        self.prepare();
        self.publish();
    }

    /// Starts the server, and makes the streams and the rules.
    pub fn prepare(&mut self) {
        let install = |kind: &str, name: &str, library: PathBuf| {
            let folder = self.folder.path().join("data/plugins").join(kind);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy(library, folder.join(name)).unwrap();
        };
        if self.database.is_some() {
            install("sinks", "Mysql@v1.0.0.so", made::ours("mysql"));
        }
        if self.rules.iter().any(|rule| rule.kind == Kind::Guest) {
            install("functions", "crash@v1.0.0.so", made::crash());
        }
        self.server.again();
        let mut made = BTreeSet::new();
        for rule in self.rules.clone() {
            for input in rule.inputs().into_iter().filter(|input| made.insert(input.stream.clone())) {
                let shared = if rule.shared { ", SHARED=\"true\"" } else { "" };
                let (stream, topic, url) = (&input.stream, input.topic, self.ins[&input.stream].url());
                let statement = format!(
                    r#"CREATE STREAM {stream} (id BIGINT) WITH (TYPE="mqtt", DATASOURCE="{topic}", FORMAT="json"{shared},
                       EXTRA="{{\"server\":\"{url}\",\"qos\":1}}")"#
                );
                self.server.ask("POST", "/streams", &json!({ "sql": statement }).to_string());
            }
            if let (Place::Sql, Some(database)) = (rule.place, &self.database) {
                database.sql(&format!("CREATE TABLE test.{} (id BIGINT)", rule.id));
            }
            self.server.ask("POST", "/rules", &self.definition(&rule, &rule.sql()).to_string());
        }
        wait_for("the subscriptions", || self.ins.values().all(|wire| wire.subscriptions() > 0));
    }

    pub fn publish(&mut self) {
        let twins = self.rules.iter().any(|rule| rule.kind == Kind::Join);
        let topics = if twins { vec!["numbers", "twins"] } else { vec!["numbers"] };
        self.publishers.extend(topics.into_iter().map(|topic| Publisher::start(self.from.port, topic, RATE)));
    }

    /// A rule with this statement, as REST takes it.
    pub fn definition(&self, rule: &Rule, sql: &str) -> Json {
        let target = match rule.place {
            Place::Mqtt => self.outs[rule.id].url(),
            Place::File => String::new(),
            Place::Sql => self.database.as_ref().unwrap().url(),
            Place::Http | Place::Queue => self.http.as_ref().unwrap().url(rule.id),
        };
        rule.json(&target, sql)
    }

    /// Lets the time pass in which messages flow.
    pub fn pass(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Waits until this many messages were published since now.
    pub fn flow(&self, messages: usize) {
        let goal = self.publishers[0].taken() + messages;
        wait_for("messages to be published", || self.publishers[0].taken() >= goal);
    }

    /// Kills the server, and starts it again after a while.
    pub fn kill(&mut self, down: u64) {
        self.server.kill();
        self.strikes += 1;
        self.pass(down);
        self.server.again();
    }

    pub fn doubt(&mut self, rule: &Rule, rows: u64) {
        *self.in_doubt.entry(rule.id).or_default() += rows;
    }

    pub fn database_killed(&mut self, rule: &Rule) {
        self.doubt(rule, TRANSACTION);
    }

    /// Looks at what has come out meanwhile.
    fn look(&mut self) {
        for rule in &self.rules {
            let book = self.books.get_mut(rule.id).unwrap();
            match rule.place {
                Place::Mqtt => book.take(rule, &self.collectors[rule.id].rows_from(book.read())),
                Place::Http | Place::Queue => {
                    book.take(rule, &self.http.as_ref().unwrap().rows_from(rule.id, book.read()));
                }
                Place::File => book.follow(rule, &self.results.join(rule.id)),
                Place::Sql => {
                    let database = self.database.as_ref().unwrap();
                    let count = database.number(&format!("SELECT COUNT(*) FROM test.{}", rule.id)).unwrap_or(0);
                    if count as usize > book.read() {
                        let ids = database.sql(&format!("SELECT id FROM test.{}", rule.id));
                        let rows: Vec<String> = ids.lines().map(|id| format!("{{\"id\":{id}}}")).collect();
                        book.anew();
                        book.take(rule, &rows);
                    }
                }
            }
        }
    }

    fn delivered(&self) -> usize {
        self.books.values().map(|book| book.counts.len()).sum()
    }

    fn judge(&self, rule: &Rule, numbers: &[Numbers]) -> Verdict {
        let book = &self.books[rule.id];
        let mut verdict = Verdict { rule: rule.id, wrong: book.wrong.clone(), ..Verdict::default() };
        let (mut known, mut forgotten) = (BTreeSet::new(), 0);
        // How often each number came from the broker.
        let mut came: BTreeMap<i64, u64> = BTreeMap::new();
        for input in rule.inputs() {
            let numbers = &numbers[if input.offset == OTHER { 1 } else { 0 }];
            let down = self.ins[&input.stream].account().down;
            for number in numbers.taken.iter().copied().filter(|number| rule.wants(*number)) {
                known.insert(number + input.offset);
                if self.duty == Duty::Acknowledged && !down.acknowledged.contains(&number) {
                    forgotten += u64::from(!book.counts.contains_key(&(number + input.offset)));
                    continue;
                }
                verdict.published += 1;
                if !book.counts.contains_key(&(number + input.offset)) {
                    verdict.lost.push(number + input.offset);
                }
            }
            known.extend(numbers.doubtful.iter().map(|number| number + input.offset));
            for (number, count) in down.passed.into_iter().filter(|(number, _)| rule.wants(*number)) {
                *came.entry(number).or_insert(1) *= u64::from(count);
            }
        }
        // What came twice on one side of the join meets its other side twice, and both come out.
        let each = if rule.kind == Kind::Join { 2 } else { 1 };
        verdict.bound = came.values().map(|count| each * (count - 1)).sum();
        verdict.delivered = book.counts.keys().filter(|key| known.contains(*key)).count();
        verdict.doubled = book.counts.values().map(|count| u64::from(count - 1)).sum();
        verdict.bound += self.in_doubt.get(rule.id).copied().unwrap_or(0);
        if let Some(wire) = self.outs.get(rule.id)
            && rule.kind != Kind::Window
        {
            verdict.bound += wire.account().up.unacknowledged;
        }
        if rule.place == Place::Queue {
            // What was sent on from the queue at the kill, and not noted yet, is sent again.
            verdict.bound += self.strikes * QUEUED;
        }
        if rule.kind == Kind::Join {
            // A window that was being written at the kill is written again.
            verdict.bound += self.strikes * u64::from(RATE) * 2 * 5;
        }
        let strange: Vec<&i64> = book.counts.keys().filter(|key| !known.contains(key)).take(5).collect();
        if !strange.is_empty() {
            verdict.wrong.push(format!("{}: {strange:?} were never published", rule.id));
        }
        if forgotten > 0 {
            verdict.remark += &format!("{forgotten} forgotten by the broker; ");
        }
        if book.windows_again > 0 {
            verdict.remark += &format!("{} windows sent again; ", book.windows_again);
            if book.windows_again > self.strikes + self.outs.get(rule.id).map_or(0, Wire::connections) {
                verdict.wrong.push(format!("{}: {} windows came twice", rule.id, book.windows_again));
            }
        }
        verdict
    }

    /// Ends the publishing, waits until all has come out or nothing moves any more, prints the table, and fails if a promise
    /// is broken.
    pub fn finish(mut self, what: &str) {
        let numbers: Vec<Numbers> = self.publishers.iter_mut().map(Publisher::stop).collect();
        let (mut moved, mut delivered) = (Instant::now(), 0);
        let name = self.name;
        let due = |verdict: &Verdict| !verdict.lost.is_empty();
        loop {
            self.look();
            let missing = self.rules.iter().any(|rule| due(&self.judge(rule, &numbers)));
            if self.delivered() > delivered {
                (moved, delivered) = (Instant::now(), self.delivered());
            }
            if !missing || moved.elapsed() > STILL {
                break;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let balanced = Instant::now();
        let statuses: Vec<Option<Json>> = loop {
            let statuses: Vec<_> = self.rules.iter().map(|rule| self.server.status(rule.id)).collect();
            if statuses.iter().all(|status| unbalanced(status.as_ref()).is_none()) || balanced.elapsed() > BALANCE {
                break statuses;
            }
            std::thread::sleep(Duration::from_millis(300));
        };
        self.look();
        let mut verdicts: Vec<Verdict> = self.rules.iter().map(|rule| self.judge(rule, &numbers)).collect();
        for (verdict, status) in verdicts.iter_mut().zip(&statuses) {
            if let Some(what) = unbalanced(status.as_ref()) {
                verdict.wrong.push(format!("{}: {what}", verdict.rule));
            }
            let Some(status) = status else { continue };
            verdict.dead = sum(&status["ledger"]["dead"]);
            if sum(&status["ledger"]["dropped"]) > 0 {
                verdict.remark += &format!("dropped {}; ", status["ledger"]["dropped"]);
            }
        }
        let log = self.server.log();
        let mut broken: Vec<String> = Vec::new();
        // What a guest does is its own affair.
        let panicked = |line: &&str| line.contains("panicked at") && !line.contains("examples/crash.rs");
        if let Some(panic) = log.lines().find(panicked) {
            broken.push(format!("the server panicked: {panic}"));
        }
        if self.server.has_ended() {
            broken.push("the server has ended".into());
        }
        broken.extend(verdicts.iter().flat_map(Verdict::broken));
        table::print(name, what, &verdicts);
        if !broken.is_empty() {
            let kept = self.keep();
            panic!("{name}:\n{}\nwhat is left of it is in {}", broken.join("\n"), kept.display());
        }
    }

    /// Ends all and keeps the folder, to look into.
    fn keep(self) -> PathBuf {
        let Scene { folder, server, .. } = self;
        drop(server);
        folder.keep()
    }
}

/// Why the account of a rule does not balance at rest.
pub fn unbalanced(status: Option<&Json>) -> Option<String> {
    let Some(status) = status else { return Some("no status".into()) };
    if status["status"] != "running" {
        return Some(format!("it does not run: {}", status["message"]));
    }
    let ledger = &status["ledger"];
    let count = |term: &str| ledger[term].as_i64().unwrap_or(i64::MIN / 2);
    let ended = count("out") + count("filtered") + count("held") + count("late");
    if count("in") != ended + (sum(&ledger["dropped"]) + sum(&ledger["dead"])) as i64 || count("held") != 0 {
        return Some(format!("its ledger does not balance: {ledger}"));
    }
    status["sinks"].as_object()?.iter().find_map(|(name, sink)| {
        let count = |term: &str| sink[term].as_u64().unwrap_or(0);
        let ended = count("delivered") + sum(&sink["dropped"]) + sum(&sink["dead"]);
        let whole = count("results") == ended && count("queued") == 0;
        (!whole).then(|| format!("the account of its sink {name} does not balance: {sink}"))
    })
}

fn sum(reasons: &Json) -> u64 {
    reasons.as_object().map_or(0, |reasons| reasons.values().filter_map(Json::as_u64).sum())
}
