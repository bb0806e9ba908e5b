//! Store and forward, end to end: the way to the sink is cut, kuiper is killed with -9 again and again, and nothing that
//! the broker was told of is lost. A real mosquitto gives numbered messages at QoS 1; the sink publishes to it through a
//! wire that the test cuts; a subscriber that is always there writes down what arrives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "connectors/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use broker::{Broker, Cut};
use kuiper::{Kuiper, Publisher, wait_for};

/// Messages of a round, and how often kuiper is killed.
const ROUND: i64 = 2_000;
const KILLS: u64 = 4;

/// `mosquitto_sub` that writes what arrives into a file.
struct Subscriber {
    child: Child,
    file: PathBuf,
}

impl Subscriber {
    fn new(broker: &Broker, topic: &str) -> Subscriber {
        let file = broker.file("arrived");
        let out = fs::File::create(&file).unwrap();
        let child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-q", "1", "-t", topic, "-p", &broker.port.to_string()])
            .args(["-i", "watcher", "-c"])
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .expect("mosquitto-clients must be installed");
        Subscriber { child, file }
    }

    /// The numbers that have arrived, in order.
    fn numbers(&self) -> Vec<i64> {
        let text = fs::read_to_string(&self.file).unwrap();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        whole.map(|line| serde_json::from_str::<Json>(line).unwrap()["n"].as_i64().unwrap()).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows on the disk; none while the rule is being resumed.
fn queued(status: &Json) -> Option<u64> {
    status["sinks"]["mqtt_0"]["queued"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_was_told_of_survives_kill_9_and_arrives_in_order() {
    let broker = Broker::start("");
    let cut = Cut::before(broker.port).await;
    let subscriber = Subscriber::new(&broker, "out");
    let mut kuiper = Kuiper::start(|_| {});
    kuiper.stream(&format!(
        r#"CREATE STREAM demo () WITH (DATASOURCE="in", FORMAT="json", EXTRA="{{\"server\":\"{}\",\"qos\":1}}")"#,
        broker.url()
    ));
    let action =
        json!({"mqtt": {"server": cut.url(), "topic": "out", "qos": 1, "sendSingle": true, "enableCache": true}});
    let rule = json!({
        "id": "numbers", "sql": "SELECT n FROM demo", "actions": [action], "options": {"qos": 1},
    });
    kuiper.ask("POST", "/rules", &rule.to_string());
    let connected = |status: &Json| {
        status["source_demo_0_connection_status"] == 1 && status["sink_mqtt_0_0_connection_status"] == 1
    };
    kuiper.until("numbers", "its connections", connected);
    let mut publisher = Publisher::new(broker.port, "in");
    publisher.publish(100);
    wait_for("the first messages", || subscriber.numbers().len() == 100);

    cut.away(true);
    for kill in 0..KILLS {
        publisher.publish(ROUND / 2);
        if kill % 2 == 0 {
            kuiper.until("numbers", "the queue", |status| queued(status) > Some(0));
        }
        publisher.publish(ROUND / 2);
        // At some moment, and not at the end of something.
        std::thread::sleep(Duration::from_millis(20 + 37 * kill));
        kuiper.kill();
        kuiper.again();
    }
    let sent = publisher.count();
    // All that is on the disk by now or comes to it: the broker keeps the rest.
    let status = kuiper.until("numbers", "all of it", |status| queued(status) >= Some((sent - 100) as u64));
    println!("queued after {KILLS} kills: {:?} of {sent}", queued(&status));
    // What the broker gave again after a kill may still come.
    wait_for("the list and the account to agree", || {
        let list: Json = serde_json::from_str(&kuiper.ask("GET", "/rules/numbers/queues", "")).unwrap();
        queued(&kuiper.status("numbers")) == list[0]["rows"].as_u64()
    });

    cut.away(false);
    wait_for("the queue to be sent", || subscriber.numbers().len() > 3_000);
    kuiper.kill();
    kuiper.again();
    publisher.publish(100);
    let total = publisher.count();
    wait_for("everything", || subscriber.numbers().iter().collect::<BTreeSet<_>>().len() as i64 == total);
    kuiper.until("numbers", "an empty queue", |status| queued(status) == Some(0));
    let numbers = subscriber.numbers();
    println!("published {total}, delivered {total}, lost 0, doubled {}", numbers.len() as i64 - total);
    // Each comes for the first time in its order; what comes again comes with all that was behind it.
    let mut seen = -1;
    for number in &numbers {
        assert!(*number <= seen + 1, "{number} came after {seen}");
        seen = seen.max(*number);
    }
    // Twice may come what was on its way at a kill: not what was noted to have left.
    assert!(numbers.len() as i64 - total < 3_000 + 1_000 * KILLS as i64, "{} came twice", numbers.len() as i64 - total);
    let answer = kuiper.ask("DELETE", "/rules/numbers", "");
    assert_eq!(answer, "Rule numbers is dropped.");
    assert!(!kuiper.folder.path().join("data/queues/numbers").exists());
}
