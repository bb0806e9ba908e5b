//! What snapshots of a large state cost: `cargo bench --bench state [-- MILLION_DEVICES SECONDS]`. A rule at `qos` 1 keeps
//! the last text of each device, 100 MB of them for the default of a million, and reads a file over and over: rows a second
//! and CPU a million rows while it does, with the snapshots that were taken meanwhile, at least one for each 100 MB of the
//! input log. Beside it the same rule over a thousand devices, whose snapshots are next to nothing, and the ratio.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "served.rs"]
mod served;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use served::Server;

struct Found {
    rows_s: f64,
    /// CPU seconds for a million rows.
    cpu: f64,
    snapshots: usize,
    snapshot_bytes: u64,
}

/// CPU seconds that a process has used.
fn used(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn run(input: &Path, rows: u64, seconds: u64) -> Found {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let server = Server::start(folder.path());
    let (place, name) = (input.parent().unwrap().display(), input.file_name().unwrap().to_string_lossy());
    let props = json!({"path": place.to_string(), "fileType": "lines", "interval": "1ms"});
    server.ask("PUT", "/metadata/sources/file/confKeys/big", &props);
    let sql = format!(r#"CREATE STREAM f () WITH (DATASOURCE="{name}", TYPE="file", CONF_KEY="big", FORMAT="json")"#);
    server.ask("POST", "/streams", &json!({ "sql": sql }));
    let rule = json!({
        "id": "r",
        "sql": "SELECT device, lag(text) OVER (PARTITION BY device) AS before FROM f",
        "actions": [{"nop": {}}],
        "options": {"qos": 1, "checkpointInterval": "10s"},
    });
    server.ask("POST", "/rules", &rule);
    let status = || -> Json { serde_json::from_str(&server.ask("GET", "/rules/r/status", &Json::Null)).unwrap() };
    let came = |status: &Json| status["ledger"]["in"].as_u64().unwrap();
    // All devices are known, and what that has left in the log is behind a snapshot.
    while came(&status()) < 2 * rows {
        assert_eq!(status()["status"], "running", "{:#}", status());
        sleep(Duration::from_millis(50));
    }
    let (watch, before, cpu) = (Instant::now(), came(&status()), used(server.child.id()));
    let (mut seen, mut bytes) = (BTreeSet::new(), 0);
    let first = status()["journal"]["snapshotTimestamp"].as_i64().unwrap();
    while watch.elapsed() < Duration::from_secs(seconds) {
        let journal = status()["journal"].clone();
        seen.insert(journal["snapshotTimestamp"].as_i64().unwrap());
        bytes = journal["snapshotBytes"].as_u64().unwrap();
        sleep(Duration::from_millis(100));
    }
    seen.remove(&first);
    let count = (came(&status()) - before) as f64;
    let found = Found {
        rows_s: count / watch.elapsed().as_secs_f64(),
        cpu: (used(server.child.id()) - cpu) / count * 1e6,
        snapshots: seen.len(),
        snapshot_bytes: bytes,
    };
    server.end();
    found
}

fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<f64>().ok());
    let rows = (words.next().unwrap_or(1.0) * 1e6) as u64;
    let seconds = words.next().unwrap_or(40.0) as u64;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let write = |name: &str, devices: u64| {
        let input = folder.path().join(name);
        let mut file = BufWriter::new(fs::File::create(&input).unwrap());
        for n in 0..rows {
            // In an order that no memory likes.
            let device = n.wrapping_mul(0x9E37_79B9) % devices;
            writeln!(file, r#"{{"device":"device-{device:08}","text":"{n:064}"}}"#).unwrap();
        }
        file.flush().unwrap();
        input
    };
    let (large, small) = (write("large.jsonl", rows), write("small.jsonl", 1_000));
    for round in 0..3 {
        let (small, large) = (run(&small, rows, seconds), run(&large, rows, seconds));
        let of = |number: f64| (number * 1000.0).round() / 1000.0;
        let found = json!({
            "round": round, "devices": rows, "seconds": seconds,
            "rows_s_small": small.rows_s.round(), "rows_s": large.rows_s.round(), "ratio": of(large.rows_s / small.rows_s),
            "cpu_s_million_small": of(small.cpu), "cpu_s_million": of(large.cpu), "cpu_ratio": of(small.cpu / large.cpu),
            "snapshots_small": small.snapshots, "snapshots": large.snapshots, "snapshot_bytes": large.snapshot_bytes,
        });
        println!("{found}");
    }
}
