//! How long 10,000 rules take to run again after a start: `cargo bench --bench restart [-- RULES]`. Seconds from the start
//! of the process until the last of the rules runs, and the memory that it has then, once for rules that filter one shared
//! stream, and once for rules of which each keeps a window of it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        command.args(["serve", "--listen", &address]).current_dir(folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(&address).is_err() {
            sleep(Duration::from_millis(1));
        }
        Server { child, address }
    }

    fn ask(&self, method: &str, path: &str, body: &Json) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: kuiper\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.split(' ').nth(1).unwrap().starts_with('2'), "{method} {path}: {answer}");
        body.to_owned()
    }

    fn running(&self) -> usize {
        let rules: Json = serde_json::from_str(&self.ask("GET", "/rules", &Json::Null)).unwrap();
        rules.as_array().unwrap().iter().filter(|rule| rule["status"] == "running").count()
    }

    /// MiB
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }

    fn end(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
    }
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
        while server.running() < rules {
            sleep(Duration::from_millis(5));
        }
        let seconds = (watch.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        println!(
            "{}",
            json!({"rules": rules, "kind": kind, "qos": qos, "seconds": seconds, "rss_mib": server.memory()})
        );
        server.end();
    }
}
