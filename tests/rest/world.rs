//! A server in this process, on a port and in a folder of its own, and requests to it that are written by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuiper::api::{self, Server};
use kuiper::config::Settings;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long a test waits for what must come, on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub home: tempfile::TempDir,
    pub server: Arc<Server>,
    pub address: String,
    pub task: JoinHandle<()>,
}

pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or("")
    }

    /// Every line of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

impl World {
    pub async fn new() -> World {
        World::over(tempfile::tempdir().unwrap()).await
    }

    pub async fn over(home: tempfile::TempDir) -> World {
        World::with(home, |_| {}).await
    }

    /// With other settings than the built-in ones.
    #[allow(dead_code)]
    pub async fn with(home: tempfile::TempDir, change: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings::built_in().unwrap();
        settings.data = home.path().join("data");
        change(&mut settings);
        let (server, told) = Server::open(&settings, false).unwrap();
        assert!(told.is_empty(), "{told:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = api::serve(listener, server.clone(), std::future::pending());
        let task = tokio::spawn(async move { answering.await.unwrap() });
        server.rules.resume().await;
        World { home, server, address, task }
    }

    /// The same data folder, after the end of the process.
    pub async fn restarted(self) -> World {
        self.restarted_with(|_| {}).await
    }

    /// The same, with other settings than the built-in ones.
    pub async fn restarted_with(self, change: impl FnOnce(&mut Settings)) -> World {
        self.server.rules.shutdown(Duration::from_secs(5)).await;
        self.task.abort();
        let _ = self.task.await;
        let home = self.home;
        let server = Arc::downgrade(&self.server);
        drop(self.server);
        eventually("the old server is gone", || server.strong_count() == 0).await;
        let limit = Instant::now() + PATIENCE;
        // Tasks of the old server that are on their way out may hold the folder for a moment.
        while kuiper::store::Store::open(&home.path().join("data")).is_err() {
            assert!(Instant::now() < limit, "the data folder is still in use");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        World::with(home, change).await
    }

    pub async fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // The server closes each connection; without that this would wait for ever.
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.expect("the connection is closed").unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, headers: headers.to_owned(), body: body.to_owned() }
    }

    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: kuiper\r\ncontent-length: {length}\r\n\r\n{body}");
        self.raw(request.as_bytes()).await
    }

    pub async fn json(&self, path: &str) -> Json {
        let reply = self.ask("GET", path, "").await;
        serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{path}: {}", reply.body))
    }

    /// Asks row by row: method and path, body, status, answer. An answer that ends in `…` need only begin so.
    pub async fn follow(&self, rows: &[(&str, &str, u16, &str)]) {
        for (request, body, status, expected) in rows {
            let (method, path) = request.split_once(' ').unwrap();
            let reply = self.ask(method, path, body).await;
            let place = format!("{request} {body}\n  gave {} {}", reply.status, reply.body);
            assert_eq!(reply.status, *status, "{place}");
            match expected.strip_suffix('…') {
                Some(start) => assert!(reply.body.starts_with(start), "{place}\n  not   {expected}"),
                None => assert_eq!(reply.body, *expected, "{place}"),
            }
        }
    }
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < limit, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub const SOURCE: &str = r#"{"data": [{"a": 1}, {"a": 2}, {"a": 3}], "interval": 0, "loop": false}"#;
pub const STREAM: &str =
    r#"{"sql": "CREATE STREAM sim (a BIGINT) WITH (TYPE=\"simulator\", CONF_KEY=\"three\", FORMAT=\"json\")"}"#;
