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
use super::rules::{self, Kind, OTHER, Place, Rule, Version};
use super::seed::Chance;
use super::server::{Server, wait_for};
use super::table::{self, Verdict};
use super::wire::Wire;

/// Messages a second, to each topic.
pub const RATE: u32 = 200;
/// How long nothing may move before what is missing is lost.
const STILL: Duration = Duration::from_secs(45);
/// How long the account may take to balance when all has come out: a window must end.
const BALANCE: Duration = Duration::from_secs(90);
/// How long before a kill a queue, or a journal, may have noted last what has been confirmed: half a second and a tenth of
/// it by the guide, and what the disk takes.
pub const QUEUE_NOTED: Duration = Duration::from_millis(700);
pub const JOURNAL_NOTED: Duration = Duration::from_millis(400);
/// Messages that are given to a sink together, and are confirmed together.
pub const PARCELS: u64 = 512;

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
    version: Version,
    pub rules: Vec<Rule>,
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
    /// How often the server was started again, or a rule.
    pub strikes: u64,
    /// All that the server had taken was acknowledged whenever it ended, so that nothing may come twice.
    pub settled: bool,
    /// When the server was killed, or ended itself.
    kills: Vec<Instant>,
    /// Rows that may have been confirmed without the server hearing of it, by rule.
    pub in_doubt: BTreeMap<&'static str, u64>,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Everything but the server, the streams and the rules; the source's broker remembers what it has when it is stopped.
    pub fn new(name: &'static str) -> Scene {
        Scene::with(name, Broker::start(true))
    }

    pub fn with(name: &'static str, from: Broker) -> Scene {
        let (version, rules) = rules::scene(name).expect("no such scenario");
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
            version,
            rules: rules.clone(),
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
            settled: false,
            kills: Vec::new(),
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
                let version = self.version.name();
                let statement = format!(
                    r#"CREATE STREAM {stream} (id BIGINT) WITH (TYPE="mqtt", DATASOURCE="{topic}", FORMAT="json"{shared},
                       EXTRA="{{\"server\":\"{url}\",\"qos\":1,\"protocolVersion\":\"{version}\"}}")"#
                );
                self.server.ask("POST", "/streams", &json!({ "sql": statement }).to_string());
            }
            if let (Place::Sql, Some(database)) = (rule.place, &self.database) {
                database.sql(&rule.table());
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
        rule.json(&target, sql, self.version)
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
        self.killed();
        self.pass(down);
        self.server.again();
    }

    /// The server was killed just now, or has ended itself.
    pub fn killed(&mut self) {
        self.strikes += 1;
        self.kills.push(Instant::now());
    }

    pub fn doubt(&mut self, rule: &Rule, rows: u64) {
        *self.in_doubt.entry(rule.id).or_default() += rows;
    }

    /// The messages of a rule that are not acknowledged now: no more can be in the hands of its sink.
    pub fn under_way(&self, rule: &Rule) -> u64 {
        rule.inputs().iter().map(|input| self.ins[&input.stream].account().down.under_way).sum()
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
                        let now = Instant::now();
                        let rows: Vec<_> = ids.lines().map(|id| (now, format!("{{\"id\":{id}}}"))).collect();
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
        let again = self.again(rule, book);
        // What a rule with a journal is given again is known to it by its number, its mark and its content, as long as the
        // broker keeps the session.
        if self.settled || (rule.is_logged() && self.duty == Duty::Taken) {
            came.clear();
        }
        // What came twice on one side of the join meets its other side twice, and both come out.
        let each = if rule.kind == Kind::Join { 2 } else { 1 };
        let allowed = |key: i64| each * (came.get(&(key % OTHER)).copied().unwrap_or(1) - 1);
        verdict.bound = came.keys().map(|number| allowed(*number)).sum::<u64>() + again;
        verdict.delivered = book.counts.keys().filter(|key| known.contains(*key)).count();
        verdict.doubled = book.counts.values().map(|count| u64::from(count - 1)).sum();
        // Each number by itself: it comes out once more than it came in only when a sink had it and had not confirmed it.
        let beyond = |(key, count): (&i64, &u32)| u64::from(count - 1).saturating_sub(allowed(*key));
        let beyond: u64 = book.counts.iter().map(beyond).sum();
        if beyond > again {
            verdict.wrong.push(format!(
                "{}: {beyond} came out again that had not come in again, and no more than {again} may",
                rule.id
            ));
        }
        let strange: Vec<&i64> = book.counts.keys().filter(|key| !known.contains(key)).take(5).collect();
        if !strange.is_empty() {
            verdict.wrong.push(format!("{}: {strange:?} were never published", rule.id));
        }
        if forgotten > 0 {
            verdict.remark += &format!("{forgotten} forgotten by the broker; ");
        }
        if book.windows_again > 0 {
            verdict.remark += &format!("{} windows sent again, {again} might be; ", book.windows_again);
            if book.windows_again > again {
                verdict.wrong.push(format!(
                    "{}: {} windows came twice, and no more than {again} may",
                    rule.id, book.windows_again
                ));
            }
        }
        verdict
    }

    /// How many rows, or windows, a sink may have had that were not known to be confirmed when something broke.
    fn again(&self, rule: &Rule, book: &Book) -> u64 {
        let doubt = self.in_doubt.get(rule.id).copied().unwrap_or(0);
        let unconfirmed = self.outs.get(rule.id).map_or(0, |wire| wire.account().up.unacknowledged);
        let queued = match rule.place {
            Place::Queue => book.recent(&self.kills, QUEUE_NOTED, PARCELS),
            _ => 0,
        };
        let noted = match (rule.is_logged(), rule.place) {
            (false, _) => 0,
            // It takes back what is not noted, or the row replaces itself.
            (true, Place::File | Place::Sql) => 0,
            // What the disk has, and the journal does not know that.
            (true, Place::Queue) if rule.kind == Kind::Window => self.kills.len() as u64,
            (true, Place::Queue) => {
                self.kills.len() as u64 * u64::from(RATE) * JOURNAL_NOTED.as_millis() as u64 / 1_000
            }
            (true, Place::Mqtt | Place::Http) => book.recent(&self.kills, JOURNAL_NOTED, PARCELS),
        };
        doubt + unconfirmed + queued + noted
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
        table::print(name, &format!("MQTT {}, {what}", self.version.name()), &verdicts);
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
