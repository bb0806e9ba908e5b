//! A mosquitto that can be stopped as a broker is stopped, killed, and started again on the same port.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::server::{PATIENCE, free_port, signal};

pub struct Broker {
    folder: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Broker {
    /// Starts one that queues without a limit. With `keeps` it writes down what it has when it is stopped.
    pub fn start(keeps: bool) -> Broker {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        // Started by root it becomes another user, who may not write here, but for this.
        let settings = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nlog_type none\nset_tcp_nodelay true\n\
             max_queued_messages 0\nmax_queued_bytes 0\npersistence {keeps}\npersistence_location {}/\n",
            folder.path().display()
        );
        fs::write(folder.path().join("mosquitto.conf"), settings).unwrap();
        let mut broker = Broker { folder, port, child: None };
        broker.again();
        broker
    }

    pub fn again(&mut self) {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs `mosquitto`");
        self.child = Some(child);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended && since.elapsed() < PATIENCE, "mosquitto does not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Tells it to end, and waits until it has written down what it keeps.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "TERM");
            child.wait().unwrap();
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
