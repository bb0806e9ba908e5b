//! A way to a broker that sends a client no more messages than may be on their way to it at once, as a broker should:
//! mosquitto 2.0.11 does not keep to its own limit, later ones do.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::mqtt;

pub struct Window {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// What a client of 3.1.1 is given; one of version 5 says it itself.
    limit: usize,
    /// The last client's.
    used: AtomicUsize,
    /// The most that were on their way at once.
    most: AtomicUsize,
}

/// One connection.
#[derive(Default)]
struct Line {
    limit: AtomicUsize,
    out: Mutex<usize>,
    freed: Condvar,
    broken: AtomicBool,
}

impl Window {
    /// Before the broker at a port; so many messages may be on their way to a client of 3.1.1.
    pub fn before(port: u16, limit: usize) -> Window {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { limit, ..Shared::default() });
        let kept = shared.clone();
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if shared.ended.load(Ordering::Acquire) {
                    return;
                }
                // Without a broker, whoever comes is sent off.
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let line = Arc::new(Line { limit: AtomicUsize::new(limit), ..Line::default() });
                let (Ok(near_in), Ok(far_in)) = (near.try_clone(), far.try_clone()) else { continue };
                let (other, up, down) = (line.clone(), shared.clone(), shared.clone());
                std::thread::spawn(move || ends(near_in, far, &other, |from, to| to_broker(from, to, &other, &up)));
                std::thread::spawn(move || ends(far_in, near, &line, |from, to| to_client(from, to, &line, &down)));
            }
        });
        Window { port: own, shared: kept }
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The limit of the client that came last, and the most messages that were on their way to one at once.
    pub fn seen(&self) -> (usize, usize) {
        (self.shared.used.load(Ordering::Acquire), self.shared.most.load(Ordering::Acquire))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes whoever accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Passes packets on until one end is gone; then the other goes too.
fn ends(
    from: TcpStream,
    mut to: TcpStream,
    line: &Line,
    pass: impl FnOnce(&mut BufReader<TcpStream>, &mut TcpStream) -> io::Result<()>,
) {
    let _ = to.set_nodelay(true);
    let mut reader = BufReader::with_capacity(64 << 10, from);
    // Whatever ended it, both are gone.
    let _ = pass(&mut reader, &mut to);
    line.broken.store(true, Ordering::Release);
    line.freed.notify_all();
    for end in [reader.get_ref(), &to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

fn to_broker(from: &mut BufReader<TcpStream>, to: &mut TcpStream, line: &Line, shared: &Shared) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut freed = 0;
    loop {
        let frame = mqtt::read(from)?;
        if let Some(hello) = frame.hello() {
            let limit = if hello.five { hello.receive_maximum.unwrap_or(u16::MAX).into() } else { shared.limit };
            line.limit.store(limit, Ordering::Release);
            shared.used.store(limit, Ordering::Release);
        }
        freed += usize::from(frame.acknowledged().is_some());
        bytes.extend_from_slice(&frame.bytes);
        if from.buffer().is_empty() {
            to.write_all(&bytes)?;
            bytes.clear();
            if freed > 0 {
                let mut out = line.out.lock().unwrap();
                *out = out.saturating_sub(std::mem::take(&mut freed));
                line.freed.notify_all();
            }
        }
    }
}

fn to_client(from: &mut BufReader<TcpStream>, to: &mut TcpStream, line: &Line, shared: &Shared) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let frame = mqtt::read(from)?;
        if frame.message(false).is_some() {
            let mut out = line.out.lock().unwrap();
            while *out >= line.limit.load(Ordering::Acquire) {
                if !bytes.is_empty() {
                    drop(out);
                    to.write_all(&bytes)?;
                    bytes.clear();
                    out = line.out.lock().unwrap();
                    continue;
                }
                if line.broken.load(Ordering::Acquire) {
                    return Ok(());
                }
                out = line.freed.wait_timeout(out, Duration::from_millis(100)).unwrap().0;
            }
            *out += 1;
            shared.most.fetch_max(*out, Ordering::AcqRel);
        }
        bytes.extend_from_slice(&frame.bytes);
        if from.buffer().is_empty() || bytes.len() > 32 << 10 {
            to.write_all(&bytes)?;
            bytes.clear();
        }
    }
}
