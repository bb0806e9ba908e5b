//! Acknowledgements: what the broker hears, and when, shown with the real server and a mosquitto with its default limits.
//! By default it drops what it cannot queue beyond 1000 messages; so whoever publishes here waits for the server before
//! that many are behind. What was not acknowledged comes again on the next connection of the session.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "connectors/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;
#[path = "faults/mqtt.rs"]
#[allow(dead_code)]
mod mqtt;
#[path = "faults/window.rs"]
mod window;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use broker::Broker;
use kuiper::{Kuiper, Publisher, wait_for};
use window::Window;

/// Messages that the mqtt sink has on their way at once, of which some come twice after a cut.
const ON_THE_WAY: usize = 1_000;
/// Messages that may be behind before the publisher waits.
const BEHIND: i64 = 700;

fn stream(broker: &Broker, more: &str) -> String {
    format!(
        r#"CREATE STREAM demo () WITH (TYPE="mqtt", DATASOURCE="numbers", FORMAT="json"{more},
           EXTRA="{{\"server\":\"{}\",\"qos\":1}}")"#,
        broker.url()
    )
}

/// Waits until the rule is subscribed.
fn connected(kuiper: &Kuiper, id: &str) -> Json {
    kuiper.until(id, "the connection", |status| status["source_demo_0_connection_status"] == 1)
}

/// Publishes up to so many messages, and never more ahead of the rule than the broker keeps.
fn publish(kuiper: &Kuiper, id: &str, publisher: &mut Publisher, total: i64) {
    while publisher.count() < total {
        let goal = publisher.count() - (BEHIND - 100);
        kuiper.until(id, "the rule to take messages", |status| status["ledger"]["in"].as_i64().unwrap() >= goal);
        publisher.publish(100.min(total - publisher.count()));
    }
}

/// How many numbers are in all windows together, and their sum.
fn sums(path: &std::path::Path) -> (i64, i64) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let windows: Vec<Json> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // A window that ended before the first message has nothing in it.
    let all = |name: &str| windows.iter().map(|window| window[name].as_f64().map_or(0, |n| n as i64)).sum();
    (all("c"), all("total"))
}

/// A broker may have 20 of them on their way to a client of 3.1.1, and what a client of version 5 says, 1,000; a wire sees to
/// it, for not every broker does. Ten times as many and more are in one window: no window, and no snapshot, is waited for.
#[test]
fn twelve_thousand_messages_enter_a_window_and_are_acknowledged_while_it_holds_them() {
    for (version, limit) in [("3.1.1", 20), ("5", 1_000)] {
        let broker = Broker::start("max_queued_bytes 0");
        let wire = Window::before(broker.port, 20);
        let kuiper = Kuiper::start(|_| {});
        kuiper.stream(&format!(
            r#"CREATE STREAM demo () WITH (TYPE="mqtt", DATASOURCE="numbers", FORMAT="json",
               EXTRA="{{\"server\":\"{}\",\"qos\":1,\"protocolVersion\":\"{version}\"}}")"#,
            wire.url()
        ));
        let rule = json!({
            "id": "held",
            "sql": "SELECT count(*) AS c, sum(n) AS total FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)",
            "actions": [{"file": {"path": "windows", "fileType": "lines", "sendSingle": true}}],
            "options": {"qos": 1, "checkpointInterval": "1h"},
        });
        kuiper.ask("POST", "/rules", &rule.to_string());
        connected(&kuiper, "held");
        let (mut publisher, mut most) = (Publisher::new(broker.port, "numbers"), 0);
        publisher.publish(12_000);
        kuiper.until("held", "all messages", |status| {
            most = most.max(status["ledger"]["held"].as_i64().unwrap());
            status["ledger"]["in"] == 12_000
        });
        assert!(most > 2_000, "{version}: no more than {most} rows were held at once");
        let done = kuiper.until("held", "the end of the window", |status| status["ledger"]["out"] == 12_000);
        assert_eq!(done["ledger"]["held"], 0);
        let (sum, total) = sums(&kuiper.folder.path().join("windows"));
        assert_eq!((sum, total), (12_000, 12_000 * 11_999 / 2), "{version}");
        let (used, most) = wire.seen();
        assert!(used == limit && most <= limit, "{version}: {most} messages were on their way, {used} might be");
    }
}

#[test]
fn what_a_window_holds_does_not_come_again() {
    let broker = Broker::by_default();
    let kuiper = Kuiper::start(|_| {});
    kuiper.stream(&stream(&broker, ""));
    let sql = "SELECT count(*) AS n FROM demo GROUP BY COUNTWINDOW(100000)";
    kuiper.rule("kept", sql, json!({"nop": {}}));
    connected(&kuiper, "kept");
    let mut publisher = Publisher::new(broker.port, "numbers");
    publish(&kuiper, "kept", &mut publisher, 2_000);
    kuiper.until("kept", "all messages", |status| status["ledger"]["held"] == 2_000);
    kuiper.ask("POST", "/rules/kept/stop", "");
    assert_eq!(kuiper.status("kept")["ledger"]["dropped"], json!({"stop": 2_000}));
    publisher.publish(1);
    kuiper.ask("POST", "/rules/kept/start", "");
    let again = kuiper.until("kept", "the next message", |status| status["ledger"]["in"] != 2_000);
    assert_eq!(again["ledger"]["in"], 2_001, "{again:#}");
}

#[test]
fn what_was_on_its_way_at_a_stop_comes_again() {
    let broker = Broker::by_default();
    let kuiper = Kuiper::start(|_| {});
    kuiper.stream(&stream(&broker, ""));
    kuiper.rule("back", "SELECT n FROM demo", nowhere());
    connected(&kuiper, "back");
    let mut publisher = Publisher::new(broker.port, "numbers");
    publisher.publish(500);
    kuiper.until("back", "messages", |status| status["ledger"]["in"].as_i64().unwrap() > 0);
    kuiper.ask("POST", "/rules/back/stop", "");
    let status = kuiper.status("back");
    assert_eq!(status["ledger"]["dropped"]["stop"], status["ledger"]["in"], "{status:#}");
    let rule = json!({"id": "back", "sql": "SELECT n FROM demo", "actions": [into_file("back")]});
    kuiper.ask("PUT", "/rules/back", &rule.to_string());
    kuiper.until("back", "all messages", |status| status["ledger"]["out"] == 500);
    assert_eq!(written(&kuiper, "back").into_iter().collect::<BTreeSet<_>>().len(), 500);
}

/// A sink that no one listens at.
fn nowhere() -> Json {
    json!({"mqtt": {"server": "tcp://127.0.0.1:1", "topic": "out", "qos": 1}})
}

fn into_file(path: &str) -> Json {
    json!({"file": {"path": path, "fileType": "lines", "sendSingle": true}})
}

/// The numbers that a file sink has written, in order.
fn written(kuiper: &Kuiper, path: &str) -> Vec<i64> {
    let text = fs::read_to_string(kuiper.folder.path().join(path)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["n"].as_i64().unwrap()).collect()
}

#[test]
fn the_stop_of_one_rule_of_a_shared_stream_neither_holds_the_others_up_nor_doubles_their_rows() {
    let broker = Broker::by_default();
    let kuiper = Kuiper::start(|_| {});
    kuiper.stream(&stream(&broker, ", SHARED=\"true\""));
    kuiper.rule("stuck", "SELECT n FROM demo", nowhere());
    kuiper.rule("fine", "SELECT n FROM demo", into_file("fine"));
    let connection = connected(&kuiper, "fine")["source_demo_0_connection_last_connected_time"].clone();
    let mut publisher = Publisher::new(broker.port, "numbers");
    publisher.publish(300);
    kuiper.until("stuck", "messages that it cannot deliver", |status| status["ledger"]["in"].as_i64() > Some(0));
    kuiper.ask("POST", "/rules/stuck/stop", "");
    let status = kuiper.status("stuck");
    assert_eq!(status["ledger"]["dropped"]["stop"], status["ledger"]["in"], "{status:#}");
    publisher.publish(300);
    let status = kuiper.until("fine", "all messages", |status| status["ledger"]["out"].as_i64() >= Some(600));
    assert_eq!(status["ledger"]["in"], 600, "{status:#}");
    assert_eq!(written(&kuiper, "fine"), (0..600).collect::<Vec<_>>());
    assert_eq!(status["source_demo_0_connection_last_connected_time"], connection, "{status:#}");
    // All of them were acknowledged: none comes again.
    kuiper.ask("POST", "/rules/fine/stop", "");
    kuiper.ask("POST", "/rules/fine/start", "");
    connected(&kuiper, "fine");
    publisher.publish(1);
    let status = kuiper.until("fine", "the next message", |status| status["ledger"]["out"].as_i64() >= Some(601));
    assert_eq!(status["ledger"]["in"], 601, "{status:#}");
}

#[test]
fn what_the_last_rule_of_a_shared_stream_had_on_its_way_comes_again() {
    let broker = Broker::by_default();
    let kuiper = Kuiper::start(|_| {});
    kuiper.stream(&stream(&broker, ", SHARED=\"true\""));
    for id in ["first", "last"] {
        kuiper.rule(id, "SELECT n FROM demo", nowhere());
    }
    connected(&kuiper, "last");
    let mut publisher = Publisher::new(broker.port, "numbers");
    publisher.publish(300);
    for id in ["first", "last"] {
        kuiper.until(id, "messages", |status| status["ledger"]["in"].as_i64() > Some(0));
    }
    for id in ["first", "last"] {
        kuiper.ask("POST", &format!("/rules/{id}/stop"), "");
        let status = kuiper.status(id);
        assert_eq!(status["ledger"]["dropped"]["stop"], status["ledger"]["in"], "{status:#}");
    }
    let rule = json!({"id": "last", "sql": "SELECT n FROM demo", "actions": [into_file("last")]});
    kuiper.ask("PUT", "/rules/last", &rule.to_string());
    kuiper.until("last", "all messages", |status| status["ledger"]["out"].as_i64() >= Some(300));
    assert_eq!(written(&kuiper, "last").into_iter().collect::<BTreeSet<_>>().len(), 300);
}

#[test]
fn the_strictest_rule_of_a_shared_stream_decides_when_a_message_is_acknowledged() {
    let (broker, mut away) = (Broker::by_default(), Broker::by_default());
    away.kill();
    let mut kuiper = Kuiper::start(|_| {});
    kuiper.stream(&stream(&broker, ", SHARED=\"true\""));
    kuiper.rule("easy", "SELECT n FROM demo", into_file("easy"));
    let action = json!({"mqtt": {"server": away.url(), "topic": "out", "qos": 1, "sendSingle": true}});
    let strict = json!({"id": "strict", "sql": "SELECT n FROM demo", "actions": [action], "options": {"qos": 1}});
    kuiper.ask("POST", "/rules", &strict.to_string());
    connected(&kuiper, "strict");
    let mut publisher = Publisher::new(broker.port, "numbers");
    publisher.publish(300);
    // The one is done with them; the other has none of them.
    kuiper.until("easy", "the first messages", |status| status["ledger"]["out"].as_i64() > Some(0));
    kuiper.until("strict", "messages", |status| status["ledger"]["in"].as_i64() > Some(0));
    kuiper.kill();
    away.again();
    let reader = Reader::new(&away, "out");
    wait_for("the reader", || {
        let port = away.port.to_string();
        let sent = Command::new("mosquitto_pub").args(["-t", "out", "-m", "{\"n\":-1}", "-p", &port]).status();
        assert!(sent.unwrap().success());
        !reader.numbers().is_empty()
    });
    kuiper.again();
    wait_for("all messages", || (0..300).collect::<BTreeSet<_>>().is_subset(&reader.numbers().into_iter().collect()));
}

/// `mosquitto_sub` at QoS 1 that writes what comes into a file, and the numbers in it.
struct Reader {
    child: Child,
    folder: tempfile::TempDir,
}

impl Reader {
    fn new(broker: &Broker, topic: &str) -> Reader {
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("seen")).unwrap();
        let port = broker.port.to_string();
        let child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-q", "1", "-t", topic, "-p", &port, "-F", "%p"])
            .stdin(Stdio::null())
            .stdout(file)
            .spawn()
            .expect("mosquitto-clients must be installed");
        Reader { child, folder }
    }

    fn numbers(&self) -> Vec<i64> {
        let text = fs::read_to_string(self.folder.path().join("seen")).unwrap();
        let line = |line: &str| serde_json::from_str::<Json>(line).ok()?["n"].as_i64();
        text.lines().filter_map(line).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_away_for_seconds_loses_nothing_and_holds_the_broker_back() {
    // Mosquitto 2.0.11 miscounts its queue when acknowledgements are late, and drops long before its limit.
    let (from, to) = (Broker::start(""), Broker::start("sys_interval 1"));
    let way = broker::Cut::before(to.port).await;
    let kuiper = Kuiper::start(|_| {});
    kuiper.stream(&stream(&from, ""));
    let action = json!({"mqtt": {"server": way.url(), "topic": "out", "qos": 1, "sendSingle": true}});
    kuiper.rule("through", "SELECT n FROM demo", action);
    connected(&kuiper, "through");
    let reader = Reader::new(&to, "out");
    wait_for("the reader", || clients(&to, "connected") >= 2);
    let mut publisher = Publisher::new(from.port, "numbers");
    publish(&kuiper, "through", &mut publisher, 2_000);
    way.away(true);
    kuiper.until("through", "the outage", |status| status["sink_mqtt_0_0_connection_status"] == -1);
    let (begun, out) = (Instant::now(), kuiper.count("through", "out"));
    publisher.publish(500);
    let mut unconfirmed = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let status = kuiper.status("through");
        let ledger = |term: &str| status["ledger"][term].as_i64().unwrap();
        unconfirmed = unconfirmed.max(ledger("in") - ledger("out"));
        assert_eq!((&status["ledger"]["dropped"], &status["ledger"]["dead"]), (&json!({}), &json!({})));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let away = kuiper.status("through");
    // What was confirmed in the moment of the cut may have been counted after it; what came later cannot be out.
    assert!(away["ledger"]["out"].as_i64().is_some_and(|now| (out..=2_000).contains(&now)), "{away:#}");
    assert_eq!(away["sink_mqtt_0_0_connection_status"], -1, "{away:#}");
    assert!(
        away["sink_mqtt_0_0_connection_last_try_time"].as_i64()
            > away["sink_mqtt_0_0_connection_last_connected_time"].as_i64()
    );
    assert!(unconfirmed > 0, "{away:#}");
    way.away(false);
    publish(&kuiper, "through", &mut publisher, 4_000);
    let done = kuiper.until("through", "all rows", |status| status["ledger"]["out"] == 4_000);
    assert_eq!(done["sink_mqtt_0_0_connection_status"], 1, "{done:#}");
    wait_for("all numbers", || reader.numbers().into_iter().collect::<BTreeSet<_>>().len() == 4_000);
    let doubled = reader.numbers().len() - 4_000;
    assert!(doubled <= ON_THE_WAY, "{doubled} came twice");
    assert_eq!(done["sinks"]["mqtt_0"]["delivered"], 4_000, "{done:#}");
}

/// What the broker counts: `connected`, or sessions that it keeps for clients that are `disconnected`.
fn clients(broker: &Broker, which: &str) -> i64 {
    let topic = format!("$SYS/broker/clients/{which}");
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-C", "1", "-W", "5", "-t", &topic, "-p", &broker.port.to_string()])
        .output()
        .expect("mosquitto-clients must be installed");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap_or(-1)
}

#[test]
fn a_session_outlives_the_stop_of_a_rule_and_ends_with_its_deletion() {
    for (id, shared) in [("own", ""), ("common", ", SHARED=\"true\"")] {
        let broker = Broker::by_default();
        let kuiper = Kuiper::start(|_| {});
        kuiper.stream(&stream(&broker, shared));
        let action = json!({"nop": {}});
        kuiper.rule(id, "SELECT n FROM demo", action.clone());
        connected(&kuiper, id);
        let mut publisher = Publisher::new(broker.port, "numbers");
        publish(&kuiper, id, &mut publisher, 50);
        kuiper.until(id, "the rows", |status| status["ledger"]["out"] == 50);
        kuiper.ask("POST", &format!("/rules/{id}/stop"), "");
        wait_for("the session without a client", || clients(&broker, "disconnected") == 1);
        publisher.publish(50);
        kuiper.ask("POST", &format!("/rules/{id}/start"), "");
        kuiper.until(id, "what came meanwhile", |status| status["ledger"]["out"] == 100);
        kuiper.ask("DELETE", &format!("/rules/{id}"), "");
        wait_for("the end of the session", || clients(&broker, "disconnected") == 0);
    }
}
