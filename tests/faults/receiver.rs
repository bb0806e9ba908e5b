//! An HTTP server that keeps what is posted to it, and can refuse, be slow, or be away.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::server::free_port;

pub struct Receiver {
    pub port: u16,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// By path.
    rows: Mutex<HashMap<String, Vec<(Instant, String)>>>,
    /// What it answers; nothing is kept but with 200.
    status: AtomicU16,
    refused: AtomicU64,
    /// Milliseconds that each request takes.
    pace: AtomicU64,
    away: AtomicBool,
    lines: Mutex<Vec<TcpStream>>,
}

impl Receiver {
    pub fn start() -> Receiver {
        let shared = Arc::new(Shared { status: AtomicU16::new(200), ..Shared::default() });
        let mut receiver = Receiver { port: free_port(), shared, accept: None };
        receiver.here();
        receiver
    }

    /// Listens; before, and while it is away, connections are refused.
    pub fn here(&mut self) {
        self.shared.away.store(false, Ordering::Release);
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let shared = self.shared.clone();
        self.accept = Some(std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.away.load(Ordering::Acquire) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || {
                    // Whoever asked may be gone.
                    let _ = shared.serve(stream);
                });
            }
        }));
    }

    /// Ends all connections, and listens no more.
    pub fn away(&mut self) {
        self.shared.away.store(true, Ordering::Release);
        // Wakes whoever accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accept) = self.accept.take() {
            accept.join().unwrap();
        }
        for line in self.shared.lines.lock().unwrap().drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }

    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Release);
    }

    /// How often it has answered otherwise than with 200.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Acquire)
    }

    pub fn slow(&self, pace: Duration) {
        self.shared.pace.store(pace.as_millis() as u64, Ordering::Release);
    }

    /// Where a rule posts to.
    pub fn url(&self, rule: &str) -> String {
        format!("http://127.0.0.1:{}/{rule}", self.port)
    }

    /// What a rule has posted and when, without the first so many.
    pub fn rows_from(&self, rule: &str, first: usize) -> Vec<(Instant, String)> {
        let rows = self.shared.rows.lock().unwrap();
        rows.get(&format!("/{rule}")).map_or_else(Vec::new, |rows| rows[first..].to_vec())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.pace.store(0, Ordering::Release);
        if self.accept.is_some() {
            self.away();
        }
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        {
            let mut lines = self.lines.lock().unwrap();
            lines.retain(|line| line.peer_addr().is_ok());
            lines.push(stream.try_clone()?);
        }
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let (mut length, mut path) = (0, String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if path.is_empty() {
                    path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            std::thread::sleep(Duration::from_millis(self.pace.load(Ordering::Acquire)));
            let status = self.status.load(Ordering::Acquire);
            if status == 200 {
                let row = String::from_utf8_lossy(&body).into_owned();
                self.rows.lock().unwrap().entry(path).or_default().push((Instant::now(), row));
            } else {
                self.refused.fetch_add(1, Ordering::AcqRel);
            }
            write!(stream, "HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n")?;
        }
    }
}
