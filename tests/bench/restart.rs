//! How long 10,000 rules take to run again after a start: `cargo bench --bench restart [-- RULES]`. Seconds from the start
//! of the process until the last of the rules runs, and the memory that it has then, once for rules that filter one shared
//! stream, and once for rules of which each keeps a window of it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "served.rs"]
mod served;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use served::Server;

/// MiB
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn running(server: &Server) -> usize {
    let rules: Json = serde_json::from_str(&server.ask("GET", "/rules", &Json::Null)).unwrap();
    rules.as_array().unwrap().iter().filter(|rule| rule["status"] == "running").count()
}

fn main() {
    let rules: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10_000);
    let kinds = [
        ("filter", "SELECT * FROM s WHERE a > 5", 0),
        ("window", "SELECT count(*) AS n FROM s GROUP BY TUMBLINGWINDOW(ss, 10)", 1),
    ];
    for (kind, sql, qos) in kinds {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let server = Server::start(folder.path());
        let stream = r#"CREATE STREAM s () WITH (DATASOURCE="in", TYPE="memory", SHARED="true")"#;
        server.ask("POST", "/streams", &json!({ "sql": stream }));
        for n in 0..rules {
            let options = json!({ "qos": qos });
            let rule = json!({"id": format!("r{n}"), "sql": sql, "actions": [{"nop": {}}], "options": options});
            server.ask("POST", "/rules", &rule);
        }
        server.end();
        let watch = Instant::now();
        let server = Server::start(folder.path());
        while running(&server) < rules {
            // The list of so many rules is work for the server too.
            sleep(Duration::from_millis(25));
        }
        let seconds = (watch.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        println!(
            "{}",
            json!({"rules": rules, "kind": kind, "qos": qos, "seconds": seconds, "rss_mib": memory(&server)})
        );
        server.end();
    }
}
