//! What snapshots of a large state cost: `cargo bench --bench state [-- MILLION_DEVICES SECONDS]`. A rule at `qos` 1 keeps
//! the last text of each device, 100 MB of them for the default of a million, and reads a file over and over, as fast as it
//! can. A row says how many rows it took in a second, and how many between two snapshots (the median of tenths of a
//! second); so how long each snapshot held it up, and what part of the throughput that is with one every ten seconds. At
//! this pace they come sooner: whenever the log has grown by as much as the last one has.
//!
//! On a machine that others use these times are rough. `saving_s` is what the rule itself says of its longest saving of the
//! state; `cpu_s_million` is the processor time that all threads of the server took for a million rows, and
//! `cpu_s_million_between` the median of the tenths of a second; the difference, for a snapshot, is `cpu_s_snapshot`.

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

/// Processor time of all threads of a process so far, in seconds.
fn cpu(process: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default()
    };
    tasks.filter_map(Result::ok).map(of).sum::<f64>() / 1e9
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn run(input: &Path, rows: u64, seconds: u64) -> Json {
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
    let (mut seen, mut bytes, mut rates) = (BTreeSet::new(), 0, Vec::new());
    let first = status()["journal"]["snapshotTimestamp"].as_i64().unwrap();
    let (watch, before, cpu_before) = (Instant::now(), came(&status()), cpu(server.child.id()));
    let (mut last, mut last_cpu, mut prices, mut saving) = ((watch, before), cpu_before, Vec::new(), None);
    while watch.elapsed() < Duration::from_secs(seconds) {
        sleep(Duration::from_millis(100));
        let status = status();
        let now = (Instant::now(), came(&status));
        let now_cpu = cpu(server.child.id());
        rates.push((now.1 - last.1) as f64 / (now.0 - last.0).as_secs_f64());
        // In seconds for a million rows.
        prices.push((now_cpu - last_cpu) * 1e6 / (now.1 - last.1).max(1) as f64);
        (last, last_cpu) = (now, now_cpu);
        saving = saving.max(status["journal"]["snapshotPause"].as_u64());
        seen.insert(status["journal"]["snapshotTimestamp"].as_i64().unwrap());
        bytes = status["journal"]["snapshotBytes"].as_u64().unwrap();
    }
    seen.remove(&first);
    let (mean, span) = ((last.1 - before) as f64 / (last.0 - watch).as_secs_f64(), (last.0 - watch).as_secs_f64());
    // While it is held up, next to nothing comes.
    rates.retain(|rate| *rate > mean / 2.0);
    let between = middle(rates);
    let million = (last.1 - before) as f64 / 1e6;
    let (price, price_between) = ((last_cpu - cpu_before) / million, middle(prices));
    let pause = (1.0 - mean / between).max(0.0) * span / seen.len().max(1) as f64;
    server.end();
    let of = |number: f64| (number * 1000.0).round() / 1000.0;
    json!({
        "devices": rows, "seconds": of(span), "rows_s": mean.round(), "rows_s_between": between.round(),
        "snapshots": seen.len(), "snapshot_bytes": bytes, "pause_s": of(pause), "cost_every_10_s": of(pause / 10.0),
        "saving_s": saving.map(|millis| millis as f64 / 1000.0), "cpu_s_million": of(price),
        "cpu_s_million_between": of(price_between),
        "cpu_s_snapshot": of((price - price_between) * million / seen.len().max(1) as f64),
    })
}

fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<f64>().ok());
    let rows = (words.next().unwrap_or(1.0) * 1e6) as u64;
    let seconds = words.next().unwrap_or(40.0) as u64;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let input = folder.path().join("input.jsonl");
    let mut file = BufWriter::new(fs::File::create(&input).unwrap());
    for n in 0..rows {
        // In an order that no memory likes.
        let device = n.wrapping_mul(0x9E37_79B9) % rows;
        writeln!(file, r#"{{"device":"device-{device:08}","text":"{n:064}"}}"#).unwrap();
    }
    file.flush().unwrap();
    drop(file);
    for _ in 0..3 {
        println!("{}", run(&input, rows, seconds));
    }
}
