//! `kill -9` while messages flow at QoS 1 through a window: no number is missing from any sum and none is in it twice,
//! whatever the moment. The server keeps what it has acknowledged in its journal, and knows what comes again. Behind a
//! rule that writes to a stream that retains, another one counts each row of that stream once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "connectors/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use ::kuiper::data::pack;
use ::kuiper::store::View;
use broker::Broker;
use kuiper::{Kuiper, Publisher, wait_for};

/// How long it runs between two kills.
const LIVES: [u64; 6] = [900, 350, 1_700, 50, 2_600, 1_100];

/// `mosquitto_sub` at QoS 1, which writes what it is given into a file.
struct Subscriber(Child);

impl Subscriber {
    fn new(broker: &Broker, topic: &str, into: &std::path::Path) -> Subscriber {
        let file = fs::File::create(into).unwrap();
        let port = broker.port.to_string();
        let child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-q", "1", "-c", "-i", "witness", "-t", topic, "-p", &port])
            .stdout(file)
            .stdin(Stdio::null())
            .spawn()
            .expect("mosquitto-clients must be installed");
        Subscriber(child)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The windows by their starts, and how often one came again.
fn windows(path: &std::path::Path) -> (BTreeMap<i64, (i64, i64)>, usize) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (mut all, mut again) = (BTreeMap::new(), 0);
    for window in text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok()) {
        let Some(count) = window["c"].as_i64() else { continue };
        let found = (count, window["s"].as_f64().unwrap() as i64);
        let start = window["w"].as_i64().unwrap();
        if let Some(before) = all.insert(start, found) {
            assert_eq!(before, found, "the window at {start} came again with other numbers");
            again += 1;
        }
    }
    (all, again)
}

#[test]
fn no_kill_takes_a_number_out_of_a_window_or_counts_one_twice() {
    let broker = Broker::start("max_inflight_messages 1000");
    let mut kuiper = Kuiper::start(|_| {});
    kuiper.stream(&format!(
        r#"CREATE STREAM demo () WITH (TYPE="mqtt", DATASOURCE="numbers", FORMAT="json",
           EXTRA="{{\"server\":\"{}\",\"qos\":1}}")"#,
        broker.url()
    ));
    let came = kuiper.folder.path().join("came");
    let _subscriber = Subscriber::new(&broker, "sums", &came);
    let rule = json!({
        "id": "sums",
        "sql": "SELECT window_start() AS w, count(*) AS c, sum(n) AS s FROM demo GROUP BY TUMBLINGWINDOW(ss, 2)",
        "actions": [{"mqtt": {"server": broker.url(), "topic": "sums", "qos": 1, "sendSingle": true}}],
        "options": {"qos": 1, "checkpointInterval": "1s"},
    });
    kuiper.ask("POST", "/rules", &rule.to_string());
    let connected = |status: &Json| status["source_demo_0_connection_status"] == 1;
    kuiper.until("sums", "the connection", connected);
    let mut publisher = Publisher::new(broker.port, "numbers");
    for life in LIVES {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(life) {
            publisher.publish(20);
            std::thread::sleep(Duration::from_millis(10));
        }
        kuiper.kill();
        publisher.publish(100);
        kuiper.again();
        kuiper.until("sums", "the connection", connected);
    }
    publisher.publish(100);
    let total = publisher.count();
    let (mut sum, mut again) = ((0, 0), 0);
    wait_for("all numbers", || {
        let (all, repeated) = windows(&came);
        sum = all.values().fold((0, 0), |sum, window| (sum.0 + window.0, sum.1 + window.1));
        again = repeated;
        sum.0 >= total
    });
    println!("{total} numbers, {} kills: all there, {again} windows came twice", LIVES.len());
    assert_eq!(sum, (total, total * (total - 1) / 2), "{}", kuiper.log());
    // What was on its way to the broker at a kill comes again, and no more than that.
    assert!(again <= LIVES.len(), "{again} windows came twice");
    let ledger = kuiper.until("sums", "the account", |status| status["ledger"]["held"] == 0)["ledger"].clone();
    assert_eq!(
        ledger["in"].as_i64().unwrap() - ledger["dropped"]["duplicate"].as_i64().unwrap_or(0),
        total,
        "{ledger}"
    );

    // A stop by hand keeps what the window holds.
    kuiper.until("sums", "a window to begin", |status| status["ledger"]["held"] == 0);
    publisher.publish(7);
    kuiper.until("sums", "the rows", |status| status["ledger"]["held"] != 0 || status["ledger"]["out"] == total + 7);
    kuiper.ask("POST", "/rules/sums/stop", "");
    let stopped = kuiper.status("sums");
    assert_eq!(stopped["ledger"]["dropped"].get("stop"), None, "{stopped:#}");
    kuiper.ask("POST", "/rules/sums/start", "");
    wait_for("the last window", || windows(&came).0.values().map(|window| window.0).sum::<i64>() == total + 7);
    kuiper.ask("DELETE", "/rules/sums", "");
    let left = fs::read_dir(kuiper.folder.path().join("data/state")).unwrap().count();
    assert_eq!(left, 0, "the state of a rule goes with it");
}

/// The numbers in the log of a stream that retains, in order.
fn retained(data: &std::path::Path) -> Vec<i64> {
    let stream = data.join("retained/middle");
    let log = fs::read_dir(&stream).unwrap().next().unwrap().unwrap().path();
    let (view, _) = View::open(&log).unwrap();
    let mut reader = view.read(view.first()).unwrap();
    let mut numbers = Vec::new();
    while let Some((_, record)) = reader.next().unwrap() {
        let from = &mut record.as_slice();
        assert_eq!((pack::take_text(from).unwrap(), pack::take_number(from).unwrap()), ("middle", 1));
        assert_eq!(pack::take_text(from).unwrap(), "n");
        numbers.push(pack::take(from).unwrap().as_i64().unwrap());
    }
    numbers
}

/// What stands in the lines of a file: the sum of all counts, and of all sums. A window that closed before the first row
/// came is an object with nothing in it.
fn counted(path: &std::path::Path) -> (i64, i64) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let windows = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    windows.fold((0, 0), |sum, window| {
        if window == json!({}) {
            return sum;
        }
        (sum.0 + window["c"].as_i64().unwrap(), sum.1 + window["s"].as_f64().unwrap() as i64)
    })
}

#[test]
fn a_stream_that_retains_loses_no_number_to_a_kill_and_the_rule_behind_it_counts_each_row_once() {
    let broker = Broker::start("max_inflight_messages 1000");
    let mut kuiper = Kuiper::start(|_| {});
    kuiper.stream(&format!(
        r#"CREATE STREAM demo () WITH (TYPE="mqtt", DATASOURCE="numbers", FORMAT="json",
           EXTRA="{{\"server\":\"{}\",\"qos\":1}}")"#,
        broker.url()
    ));
    kuiper.stream(
        r#"CREATE STREAM middle () WITH (TYPE="memory", DATASOURCE="middle", EXTRA="{\"retention\":1000000}")"#,
    );
    let came = kuiper.folder.path().join("came");
    let rule = json!({
        "id": "behind",
        "sql": "SELECT count(*) AS c, sum(n) AS s FROM middle GROUP BY TUMBLINGWINDOW(ss, 1)",
        "actions": [{"file": {"path": came, "fileType": "lines", "sendSingle": true}}],
        "options": {"qos": 2, "checkpointInterval": "1s"},
    });
    kuiper.ask("POST", "/rules", &rule.to_string());
    kuiper.until("behind", "the beginning", |status| status["source_middle_0_connection_status"] == 1);
    let rule = json!({
        "id": "before",
        "sql": "SELECT n FROM demo",
        "actions": [{"memory": {"topic": "middle", "sendSingle": true}}],
        "options": {"qos": 1},
    });
    kuiper.ask("POST", "/rules", &rule.to_string());
    let connected = |status: &Json| status["source_demo_0_connection_status"] == 1;
    kuiper.until("before", "the connection", connected);
    let mut publisher = Publisher::new(broker.port, "numbers");
    for life in LIVES {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(life) {
            publisher.publish(20);
            std::thread::sleep(Duration::from_millis(10));
        }
        kuiper.kill();
        publisher.publish(100);
        kuiper.again();
        kuiper.until("before", "the connection", connected);
    }
    publisher.publish(100);
    let total = publisher.count();
    let data = kuiper.folder.path().join("data");
    let mut rows = Vec::new();
    wait_for("all numbers", || {
        rows = retained(&data);
        rows.iter().collect::<BTreeSet<_>>().len() as i64 == total
    });
    // What the first rule gave again is in the log twice; nothing comes any more.
    kuiper.until("before", "what is on its way", |status| {
        let ledger = &status["ledger"];
        let dropped: i64 = ledger["dropped"].as_object().unwrap().values().filter_map(Json::as_i64).sum();
        ledger["in"].as_i64().unwrap() == ledger["out"].as_i64().unwrap() + dropped
    });
    rows = retained(&data);
    let expected = (rows.len() as i64, rows.iter().sum::<i64>());
    wait_for("all windows", || counted(&came).0 >= expected.0);
    let again = expected.0 - total;
    println!("{total} numbers, {} kills: all there, {again} came twice, each row counted once", LIVES.len());
    assert_eq!(counted(&came), expected, "{}", kuiper.log());
    let ledger = kuiper.until("behind", "the account", |status| status["ledger"]["held"] == 0)["ledger"].clone();
    assert_eq!((ledger["in"].as_i64(), &ledger["dropped"]), (Some(expected.0), &json!({})), "{ledger}");
    for rule in ["before", "behind"] {
        kuiper.ask("DELETE", &format!("/rules/{rule}"), "");
    }
    kuiper.ask("DELETE", "/streams/middle", "");
    assert_eq!(fs::read_dir(data.join("retained")).unwrap().count(), 0, "what a stream retained goes with it");
}
