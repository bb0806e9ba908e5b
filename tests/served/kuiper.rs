//! The real server in a folder of its own on a free port, the commands that test it, and what its status says.

#[path = "port.rs"]
// Each helper that gives ports to servers has it.
#[allow(clippy::duplicate_mod)]
mod port;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

pub use port::free_port;

/// How long a test waits for what must come, on a machine whose disk and processors have much else to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct Kuiper {
    pub folder: tempfile::TempDir,
    address: String,
    child: Child,
}

impl Kuiper {
    /// Starts it with what `prepare` puts into its data folder before.
    pub fn start(prepare: impl FnOnce(&Path)) -> Kuiper {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        prepare(&data);
        let address = format!("127.0.0.1:{}", free_port());
        let child = serve(folder.path(), &address);
        Kuiper { folder, address, child }
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as a loss of power does, but for what the system has in its caches.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again in its folder.
    pub fn again(&mut self) {
        self.child = serve(self.folder.path(), &self.address);
    }

    /// Waits until it ends by itself, and gives its status.
    pub fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the end of the server", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Asks over HTTP, and gives the body of the answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let (status, body) = self.answer(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {body}\n{}", self.log());
        body
    }

    /// Asks for what cannot be done, and gives the body of the answer.
    pub fn refused(&self, method: &str, path: &str, body: &str) -> String {
        let (status, body) = self.answer(method, path, body);
        assert!((400..500).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    fn answer(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: kuiper\r\nconnection: close\r\n");
        // In one piece: a server that refuses by the head alone may be gone before the rest.
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub fn stream(&self, statement: &str) {
        self.ask("POST", "/streams", &serde_json::json!({ "sql": statement }).to_string());
    }

    pub fn rule(&self, id: &str, sql: &str, action: Json) {
        let rule = serde_json::json!({"id": id, "sql": sql, "actions": [action]});
        self.ask("POST", "/rules", &rule.to_string());
    }

    pub fn status(&self, id: &str) -> Json {
        serde_json::from_str(&self.ask("GET", &format!("/rules/{id}/status"), "")).unwrap()
    }

    /// A term of the ledger of a rule.
    pub fn count(&self, id: &str, term: &str) -> i64 {
        self.status(id)["ledger"][term].as_i64().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the status of a rule is so.
    pub fn until(&self, id: &str, what: &str, mut holds: impl FnMut(&Json) -> bool) -> Json {
        let begun = Instant::now();
        loop {
            let status = self.status(id);
            if holds(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}: {status:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn serve(folder: &Path, address: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
    // Untouched by the settings of whoever runs the tests.
    for (name, _) in std::env::vars().filter(|(name, _)| name.contains("KUIPER") || name.contains("__")) {
        command.env_remove(name);
    }
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command.args(["serve", "--listen", address]).current_dir(folder).stdin(Stdio::null()).stderr(log);
    let mut child = command.spawn().unwrap();
    wait_for("the server", || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(folder.join("log")).unwrap());
        TcpStream::connect(address).is_ok()
    });
    child
}

impl Drop for Kuiper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `mosquitto_pub` that publishes `{"n":0}`, `{"n":1}`, … at QoS 1.
pub struct Publisher {
    child: Child,
    input: Option<ChildStdin>,
    next: i64,
}

impl Publisher {
    pub fn new(port: u16, topic: &str) -> Publisher {
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-l", "-q", "1", "-t", topic, "-p", &port.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto-clients must be installed");
        let input = child.stdin.take();
        Publisher { child, input, next: 0 }
    }

    /// How many were published.
    pub fn count(&self) -> i64 {
        self.next
    }

    pub fn publish(&mut self, count: i64) {
        let lines: String = (self.next..self.next + count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        self.input.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
        self.next += count;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
