//! The database is away for ten seconds while messages flow at QoS 1: nothing is lost, the status says so as long as it
//! lasts, and it heals by itself. Two rules read one shared stream of a real mosquitto into a real MariaDB through the
//! plugin `mysql`; their tables have no unique key, so that what comes twice is there twice, and is counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "connectors/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "served/mariadb.rs"]
#[allow(dead_code)]
mod mariadb;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use broker::Broker;
use kuiper::{Kuiper, Publisher};
use mariadb::Mariadb;

const AWAY: Duration = Duration::from_secs(10);
/// Rows of one transaction, whose answer the kill may have cut off: so many may come twice.
const IN_DOUBT: i64 = 1_000;
/// How long the whole may take to heal, on a machine that has much else to do.
const HEALING: Duration = Duration::from_secs(180);

const RULES: [(&str, &str); 2] =
    [("plain", "SELECT n FROM demo"), ("windowed", "SELECT n FROM demo GROUP BY TUMBLINGWINDOW(ss, 1)")];

#[test]
fn ten_seconds_without_the_database_lose_nothing_and_heal_by_themselves() {
    let mut database = Mariadb::start();
    // By default mosquitto itself throws away what more than a thousand messages wait for.
    let broker = Broker::start("max_inflight_messages 1000");
    let kuiper = Kuiper::start(|data| {
        let sinks = data.join("plugins/sinks");
        fs::create_dir_all(&sinks).unwrap();
        fs::copy(made::ours("mysql"), sinks.join("Mysql@v1.0.0.so")).unwrap();
    });
    kuiper.stream(&format!(
        r#"CREATE STREAM demo () WITH (TYPE="mqtt", DATASOURCE="numbers", FORMAT="json", SHARED="true",
           EXTRA="{{\"server\":\"{}\",\"qos\":1}}")"#,
        broker.url()
    ));
    for (id, sql) in RULES {
        database.sql(&format!("CREATE TABLE test.{id} (n INT)"));
        kuiper.rule(id, sql, json!({"mysql": {"url": database.url(), "table": id}}));
        kuiper
            .until(id, "its connections", |status| link(status) == 1 && status["source_demo_0_connection_status"] == 1);
    }
    let mut publisher = Publisher::new(broker.port, "numbers");
    publisher.publish(1_000);
    for (id, _) in RULES {
        let count = format!("SELECT COUNT(*) FROM test.{id}");
        kuiper.until(id, "the first rows", |_| database.number(&count) > Some(0));
    }

    database.kill();
    let begun = Instant::now();
    let mut seen = [false; 2];
    while begun.elapsed() < AWAY {
        publisher.publish(20);
        for ((id, _), seen) in RULES.iter().zip(&mut seen) {
            let status = kuiper.status(id);
            assert_eq!(status["status"], "running", "{status:#}");
            assert_eq!(
                (&status["ledger"]["dropped"], &status["ledger"]["dead"]),
                (&json!({}), &json!({})),
                "{status:#}"
            );
            // Nobody has come back yet; how soon the outage shows is a matter of what there is to write.
            assert!(!*seen || link(&status) != 1, "{status:#}");
            *seen |= link(&status) == -1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for (id, _) in RULES {
        let status = kuiper.until(id, "the outage", |status| link(status) == -1);
        let told = status["sink_mysql_0_0_connection_last_disconnected_message"].as_str().unwrap();
        assert!(told.contains(&database.address()), "{told}");
        println!("while it lasts, rule `{id}` says: {told}");
    }

    database.again();
    publisher.publish(500);
    let (healing, total) = (Instant::now(), publisher.count());
    for (id, _) in RULES {
        let rows = || database.number(&format!("SELECT COUNT(DISTINCT n) FROM test.{id}"));
        loop {
            let (status, rows) = (kuiper.status(id), rows());
            if rows == Some(total) && status["ledger"]["out"] == status["ledger"]["in"] {
                break;
            }
            assert!(healing.elapsed() < HEALING, "{rows:?} of {total} are there: {status:#}\n{}", kuiper.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        let status = kuiper.status(id);
        assert_eq!(link(&status), 1, "{status:#}");
        let ledger = &status["ledger"];
        assert_eq!(
            (&ledger["held"], &ledger["dropped"], &ledger["dead"]),
            (&json!(0), &json!({}), &json!({})),
            "{ledger}"
        );
        let doubled = database.number(&format!("SELECT COUNT(*) FROM test.{id}")).unwrap() - total;
        println!("rule `{id}`: {total} messages, all there, {doubled} of them twice");
        assert!((0..=IN_DOUBT).contains(&doubled), "{doubled} came twice");
    }
}

/// 1: connected, 0: trying for the first time, -1: away.
fn link(status: &Json) -> i64 {
    status["sink_mysql_0_0_connection_status"].as_i64().unwrap()
}
