//! What snapshots of a large state cost: `cargo bench --bench state [-- MILLION_ROWS]`. A window of an hour keeps all rows
//! of a file (about 100 MB for the default of a million) in a rule at `qos` 1, once with a snapshot every ten seconds and
//! once with none before the stop: rows a second, what is on the disk, and the ratio.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "served.rs"]
mod served;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use served::Server;

/// Rows a second, and what the status says of the journal then.
fn run(input: &Path, rows: u64, interval: &str) -> (f64, Json) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let server = Server::start(folder.path());
    let (place, name) = (input.parent().unwrap().display(), input.file_name().unwrap().to_string_lossy());
    let props = json!({"path": place.to_string(), "fileType": "lines", "interval": "1h"});
    server.ask("PUT", "/metadata/sources/file/confKeys/big", &props);
    let sql = format!(r#"CREATE STREAM f () WITH (DATASOURCE="{name}", TYPE="file", CONF_KEY="big", FORMAT="json")"#);
    server.ask("POST", "/streams", &json!({ "sql": sql }));
    let watch = Instant::now();
    let rule = json!({
        "id": "r",
        "sql": "SELECT id, device, text FROM f GROUP BY TUMBLINGWINDOW(hh, 1)",
        "actions": [{"nop": {}}],
        "options": {"qos": 1, "checkpointInterval": interval},
    });
    server.ask("POST", "/rules", &rule);
    loop {
        let status: Json = serde_json::from_str(&server.ask("GET", "/rules/r/status", &Json::Null)).unwrap();
        let held = status["ledger"]["held"].as_u64().unwrap();
        if held >= rows {
            let speed = rows as f64 / watch.elapsed().as_secs_f64();
            server.end();
            return (speed, status["journal"].clone());
        }
        assert_eq!(status["status"], "running", "{status:#}");
        sleep(Duration::from_millis(50));
    }
}

fn main() {
    let million: f64 = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1.0);
    let rows = (million * 1e6) as u64;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.jsonl");
    let mut file = BufWriter::new(fs::File::create(&input).unwrap());
    for n in 0..rows {
        writeln!(file, r#"{{"id":{n},"device":"device-{}","text":"{:060}"}}"#, n % 1000, n).unwrap();
    }
    file.flush().unwrap();
    drop(file);
    for round in 0..3 {
        let (without, _) = run(&input, rows, "1h");
        let (with, journal) = run(&input, rows, "10s");
        let ratio = (with / without * 1000.0).round() / 1000.0;
        let found = json!({
            "round": round, "rows": rows, "rows_s_without": without.round(), "rows_s_with": with.round(), "ratio": ratio,
            "journal": journal,
        });
        println!("{found}");
    }
}
