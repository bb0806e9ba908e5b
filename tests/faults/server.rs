//! The real server in a folder of its own, which is killed, frozen and started again in that folder and at that address.

#[path = "../served/port.rs"]
// Each helper that gives ports to servers has it.
#[allow(clippy::duplicate_mod)]
mod port;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

pub use port::free_port;

/// How long what must come is waited for, on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub folder: PathBuf,
    pub address: String,
    settings: Vec<(String, String)>,
    /// In front of the program, for whom the folder may be another one than it is for us.
    wrapper: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// One that does not run yet.
    pub fn new(folder: &Path) -> Server {
        let address = format!("127.0.0.1:{}", free_port());
        Server { folder: folder.into(), address, settings: Vec::new(), wrapper: Vec::new(), child: None }
    }

    pub fn setting(&mut self, name: &str, value: &str) {
        self.settings.push((name.into(), value.into()));
    }

    /// Has another program start it; that one must become the server itself, not its parent.
    pub fn wrapped(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|word| (*word).into()).collect();
    }

    pub fn again(&mut self) {
        self.spawn();
        wait_for("the server", || {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "the server does not start: {}", self.log());
            TcpStream::connect(&self.address).is_ok()
        });
    }

    /// Starts it, and does not wait until it answers.
    pub fn spawn(&mut self) {
        let program = std::env::var("FAULTS_SERVER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_kuiper").into());
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&program),
            Some((wrapper, words)) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(&program);
                command
            }
        };
        // Untouched by the settings of whoever runs the tests.
        for (name, _) in std::env::vars().filter(|(name, _)| name.contains("KUIPER") || name.contains("__")) {
            command.env_remove(name);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        command
            .args(["serve", "--listen", &self.address])
            .current_dir(&self.folder)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Tells it to end, and waits until it has.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "TERM");
            child.wait().unwrap();
        }
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap(), name);
    }

    pub fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    /// Asks over HTTP, and gives status and body of the answer; `None` while it cannot answer.
    pub fn answer(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: kuiper\r\nconnection: close\r\n");
        // In one piece: a server that refuses by the head alone may be gone before the rest.
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let (status, body) = self.answer(method, path, body).unwrap_or_default();
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}\n{}", self.log());
        body
    }

    pub fn status(&self, id: &str) -> Option<Json> {
        let (_, body) = self.answer("GET", &format!("/rules/{id}/status"), "")?;
        serde_json::from_str(&body).ok()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(sent.success(), "{name} could not be sent");
}

pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
