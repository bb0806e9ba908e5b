//! What a broker's in-flight limit costs a window that is longer than it: `cargo bench --bench inflight [-- RATE SECONDS]`.
//! Messages are published at QoS 1 at a steady pace (20,000 a second for 30 s) to a mosquitto with its default in-flight
//! limit of 20, and with 1,000; a rule at `qos` 1 sums them in windows of ten seconds. With version 5 the client says its
//! own limit, 1,000. Once directly, and once through a wire that keeps to the limit, which mosquitto 2.0.11 does not. A
//! row says how many were taken in a second while they came, how many the window held at most, when the last was in, and
//! that no number is missing from the sums.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../connectors/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "../faults/mqtt.rs"]
#[allow(dead_code)]
mod mqtt;
#[path = "served.rs"]
mod served;
#[path = "../faults/window.rs"]
mod window;

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use broker::Broker;
use served::Server;
use window::Window;

/// Messages whose PUBACK may be out at once.
const ON_THE_WAY: u64 = 10_000;
/// How long the last may take.
const PATIENCE: Duration = Duration::from_secs(600);

struct Case {
    version: &'static str,
    /// Of the broker.
    inflight: usize,
    /// Something keeps to it.
    kept: bool,
    checkpoint: &'static str,
}

const fn case(version: &'static str, inflight: usize, kept: bool, checkpoint: &'static str) -> Case {
    Case { version, inflight, kept, checkpoint }
}

const CASES: [Case; 7] = [
    case("5", 20, false, "5m"),
    case("5", 20, true, "5m"),
    case("5", 20, true, "1s"),
    case("3.1.1", 20, false, "5m"),
    case("3.1.1", 20, true, "5m"),
    case("3.1.1", 1000, true, "5m"),
    case("3.1.1", 1000, true, "1s"),
];

/// Publishes `{"n":0}`, `{"n":1}`, … so many a second, and gives how long it took until the broker had the last.
fn publish(port: u16, rate: u64, total: u64) -> f64 {
    let (mut stream, mut reader) = mqtt::connect(port, "", true).unwrap();
    let taken = Arc::<AtomicU64>::default();
    let count = taken.clone();
    let listener = std::thread::spawn(move || {
        while count.load(Ordering::Acquire) < total {
            let frame = mqtt::read(&mut reader).unwrap();
            count.fetch_add(u64::from(frame.acknowledged().is_some()), Ordering::AcqRel);
        }
    });
    let (begun, mut sent) = (Instant::now(), 0);
    while sent < total {
        let due = ((begun.elapsed().as_secs_f64() * rate as f64) as u64).min(total);
        let may = due.min(taken.load(Ordering::Acquire) + ON_THE_WAY);
        let mut bytes = Vec::new();
        for n in sent..may {
            let id = (n % 60_000) as u16 + 1;
            bytes.extend_from_slice(&mqtt::publish("numbers", id, format!("{{\"n\":{n}}}").as_bytes()));
        }
        sent = sent.max(may);
        stream.write_all(&bytes).unwrap();
        sleep(Duration::from_millis(1));
    }
    listener.join().unwrap();
    begun.elapsed().as_secs_f64()
}

fn run(case: &Case, rate: u64, seconds: u64) -> Json {
    let total = rate * seconds;
    let broker = Broker::start(&format!("max_queued_bytes 0\nmax_inflight_messages {}", case.inflight));
    let window = case.kept.then(|| Window::before(broker.port, case.inflight));
    let url = window.as_ref().map_or_else(|| broker.url(), Window::url);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let server = Server::start(folder.path());
    let extra = json!({"server": url, "qos": 1, "protocolVersion": case.version}).to_string().replace('"', "\\\"");
    let sql = format!(r#"CREATE STREAM s (n BIGINT) WITH (DATASOURCE="numbers", FORMAT="json", EXTRA="{extra}")"#);
    server.ask("POST", "/streams", &json!({ "sql": sql }));
    let rule = json!({
        "id": "r",
        "sql": "SELECT count(*) AS c, sum(n) AS s FROM s GROUP BY TUMBLINGWINDOW(ss, 10)",
        "actions": [{"file": {"path": "sums", "fileType": "lines", "sendSingle": true}}],
        "options": {"qos": 1, "checkpointInterval": case.checkpoint},
    });
    server.ask("POST", "/rules", &rule);
    let status = || -> Json { serde_json::from_str(&server.ask("GET", "/rules/r/status", &Json::Null)).unwrap() };
    let begun = Instant::now();
    while status()["source_s_0_connection_status"] != 1 {
        assert!(begun.elapsed() < PATIENCE, "no connection");
        sleep(Duration::from_millis(10));
    }
    let port = broker.port;
    let begun = Instant::now();
    let publisher = std::thread::spawn(move || publish(port, rate, total));
    let (mut most, mut behind, mut there) = (0, None, None);
    let sums = || -> (u64, u64) {
        let text = fs::read_to_string(folder.path().join("sums")).unwrap_or_default();
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        rows.fold((0, 0), |sum, row| (sum.0 + row["c"].as_u64().unwrap_or(0), sum.1 + row["s"].as_u64().unwrap_or(0)))
    };
    loop {
        let ledger = status()["ledger"].clone();
        let came = ledger["in"].as_u64().unwrap();
        most = most.max(ledger["held"].as_u64().unwrap());
        if behind.is_none() && publisher.is_finished() {
            behind = Some((total - came, begun.elapsed().as_secs_f64()));
        }
        if there.is_none() && came >= total {
            there = Some(begun.elapsed().as_secs_f64());
        }
        if sums().0 >= total || begun.elapsed() > PATIENCE {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    let published = publisher.join().unwrap();
    let (count, sum) = sums();
    server.end();
    let (behind, at) = behind.unwrap_or((0, published));
    json!({
        "version": case.version, "broker_inflight": case.inflight, "limit_kept": case.kept, "checkpoint": case.checkpoint,
        "published": total, "published_s": (total as f64 / published).round(),
        "taken_s_meanwhile": ((total - behind) as f64 / at).round(), "behind_at_the_end": behind,
        "last_in_after_s": there.map(|there: f64| (there * 10.0).round() / 10.0),
        "most_held": most, "most_in_flight": window.map(|window| window.seen().1),
        "missing": total.saturating_sub(count), "sums_hold": (count, sum) == (total, total * (total - 1) / 2),
    })
}

fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (rate, seconds) = (words.next().unwrap_or(20_000), words.next().unwrap_or(30));
    for case in &CASES {
        println!("{}", run(case, rate, seconds));
    }
}
