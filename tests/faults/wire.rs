//! A way to a broker that reads along: it knows what is on its way in both directions, and can be cut, also in the middle
//! of a packet, be closed to whoever comes, or be slow.
//!
//! For a source of the product, `down` says what the broker sent and what was acknowledged; for a sink, `up` says what was
//! published and what the broker has confirmed. What was unacknowledged when a connection ended may come twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mqtt::{self, Frame};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the broker.
    Down,
    /// To the broker.
    Up,
}

pub struct Wire {
    pub port: u16,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    closed: AtomicBool,
    /// Milliseconds that each message to the broker takes.
    pace: AtomicU64,
    /// Where the next message is broken off, in thousandths of its length.
    knife: Mutex<Option<(Way, usize)>>,
    lines: Mutex<Vec<TcpStream>>,
    account: Mutex<Account>,
}

/// What has been seen since the beginning.
#[derive(Clone, Default)]
pub struct Account {
    pub connections: u64,
    pub subscriptions: u64,
    pub down: Side,
    pub up: Side,
}

/// Messages of one direction, at QoS 1.
#[derive(Clone, Default)]
pub struct Side {
    /// How often each number was passed on.
    pub passed: BTreeMap<i64, u32>,
    /// Numbers that were acknowledged.
    pub acknowledged: BTreeSet<i64>,
    /// Messages that were not acknowledged when their connection ended.
    pub unacknowledged: u64,
    /// Messages that are on their way now.
    pub under_way: u64,
}

/// What was confirmed so shortly before its connection broke may lie in the socket still, unread.
const UNREAD: Duration = Duration::from_millis(50);

/// The number in a payload, if it has one.
fn number(payload: &[u8]) -> Option<i64> {
    serde_json::from_slice::<serde_json::Value>(payload).ok()?["id"].as_i64()
}

/// What is on its way on one connection.
struct Line {
    shared: Arc<Shared>,
    /// The client speaks version 5.
    five: AtomicBool,
    down: Mutex<HashMap<u16, Option<i64>>>,
    up: Mutex<HashMap<u16, Option<i64>>>,
    /// The client has said good-bye, and so has read everything.
    parted: AtomicBool,
    /// When the broker's last confirmations were passed on.
    confirmed: Mutex<VecDeque<Instant>>,
}

impl Line {
    /// Confirmations that a connection which has just ended may have taken with it.
    fn unread(&self) -> u64 {
        if self.parted.load(Ordering::Acquire) {
            return 0;
        }
        self.confirmed.lock().unwrap().iter().filter(|passed| passed.elapsed() < UNREAD).count() as u64
    }

    fn out(&self, way: Way) -> &Mutex<HashMap<u16, Option<i64>>> {
        if way == Way::Down { &self.down } else { &self.up }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut account = self.shared.account.lock().unwrap();
        for way in [Way::Down, Way::Up] {
            let left = self.out(way).lock().unwrap().len() as u64;
            let side = account.side(way);
            side.unacknowledged += left;
            side.under_way -= left;
        }
        account.up.unacknowledged += self.unread();
    }
}

impl Account {
    fn side(&mut self, way: Way) -> &mut Side {
        if way == Way::Down { &mut self.down } else { &mut self.up }
    }
}

impl Wire {
    /// Before the broker at a port.
    pub fn before(port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let accept = std::thread::spawn({
            let shared = shared.clone();
            move || {
                while let Ok((near, _)) = listener.accept() {
                    if shared.ended.load(Ordering::Acquire) {
                        return;
                    }
                    if !shared.closed.load(Ordering::Acquire) {
                        shared.join(near, port);
                    }
                }
            }
        });
        Wire { port: own, shared, accept: Some(accept) }
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    pub fn account(&self) -> Account {
        self.shared.account.lock().unwrap().clone()
    }

    pub fn subscriptions(&self) -> u64 {
        self.shared.account.lock().unwrap().subscriptions
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for line in self.shared.lines.lock().unwrap().drain(..) {
            // It may be gone already.
            let _ = line.shutdown(Shutdown::Both);
        }
    }

    /// Ends the connection within the next message of a direction, behind so many thousandths of it.
    pub fn cut_within(&self, way: Way, thousandths: usize) {
        *self.shared.knife.lock().unwrap() = Some((way, thousandths));
    }

    /// Whether the message that was to be cut has come.
    pub fn was_cut(&self) -> bool {
        self.shared.knife.lock().unwrap().is_none()
    }

    /// While it is closed, whoever is connected loses the connection, and whoever comes is sent off.
    pub fn close(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::Release);
        if closed {
            self.cut();
        }
    }

    /// How long each message to the broker takes.
    pub fn slow(&self, pace: Duration) {
        self.shared.pace.store(pace.as_millis() as u64, Ordering::Release);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.pace.store(0, Ordering::Release);
        self.cut();
        // Wakes whoever accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
    }
}

impl Shared {
    fn join(self: &Arc<Shared>, near: TcpStream, port: u16) {
        // Without a broker, whoever comes is sent off.
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let line = Arc::new(Line {
            shared: self.clone(),
            five: AtomicBool::new(false),
            down: Mutex::default(),
            up: Mutex::default(),
            parted: AtomicBool::new(false),
            confirmed: Mutex::default(),
        });
        let ends = || -> std::io::Result<_> {
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            Ok((near.try_clone()?, far.try_clone()?, near.try_clone()?, far.try_clone()?))
        };
        let Ok((near_in, far_in, near_own, far_own)) = ends() else { return };
        {
            let mut lines = self.lines.lock().unwrap();
            lines.retain(|line| line.peer_addr().is_ok());
            lines.extend([near_own, far_own]);
        }
        self.account.lock().unwrap().connections += 1;
        let other = line.clone();
        std::thread::spawn(move || pump(far_in, near, Way::Down, &line));
        std::thread::spawn(move || pump(near_in, far, Way::Up, &other));
    }
}

/// Passes packets on. An end that says no more may still hear the rest of what the other says; when one breaks off, the
/// other does too.
fn pump(from: TcpStream, mut to: TcpStream, way: Way, line: &Line) {
    let mut reader = BufReader::new(from);
    let said_goodbye = loop {
        match mqtt::read(&mut reader) {
            Ok(frame) if pass(&frame, &mut to, way, line) => {}
            Ok(_) => break false,
            Err(error) => break error.kind() == ErrorKind::UnexpectedEof,
        }
    };
    // A socket that is closed with something left to read takes back what was written to it last.
    if said_goodbye {
        let _ = to.shutdown(Shutdown::Write);
        return;
    }
    for end in [reader.get_ref(), &to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Whether it could be passed on as a whole.
fn pass(frame: &Frame, to: &mut TcpStream, way: Way, line: &Line) -> bool {
    let shared = &line.shared;
    if let Some(hello) = frame.hello() {
        line.five.store(hello.five, Ordering::Release);
    }
    if way == Way::Up && frame.kind() == mqtt::DISCONNECT {
        line.parted.store(true, Ordering::Release);
    }
    if let Some((id, payload)) = frame.message(line.five.load(Ordering::Acquire)) {
        let number = number(payload);
        if line.out(way).lock().unwrap().insert(id, number).is_none() {
            shared.account.lock().unwrap().side(way).under_way += 1;
        }
        if way == Way::Up {
            std::thread::sleep(Duration::from_millis(shared.pace.load(Ordering::Acquire)));
        }
        let cut = {
            let mut knife = shared.knife.lock().unwrap();
            knife.take_if(|(cut, _)| *cut == way)
        };
        if let Some((_, thousandths)) = cut {
            let length = (frame.bytes.len() * thousandths / 1000).clamp(1, frame.bytes.len() - 1);
            let _ = to.write_all(&frame.bytes[..length]);
            return false;
        }
        if to.write_all(&frame.bytes).is_err() {
            return false;
        }
        if let Some(number) = number {
            *shared.account.lock().unwrap().side(way).passed.entry(number).or_default() += 1;
        }
        return true;
    }
    // Taken out before the other side hears of it, for it may use the id again at once.
    let back = if way == Way::Down { Way::Up } else { Way::Down };
    let confirmed = frame.acknowledged().and_then(|id| Some((id, line.out(back).lock().unwrap().remove(&id)?)));
    if to.write_all(&frame.bytes).is_err() {
        line.out(back).lock().unwrap().extend(confirmed);
        return false;
    }
    if back == Way::Up && confirmed.is_some() {
        let mut last = line.confirmed.lock().unwrap();
        while last.front().is_some_and(|passed| passed.elapsed() > 2 * UNREAD) {
            last.pop_front();
        }
        last.push_back(Instant::now());
    }
    let mut account = shared.account.lock().unwrap();
    if let Some((_, number)) = confirmed {
        account.side(back).under_way -= 1;
        account.side(back).acknowledged.extend(number);
    }
    account.subscriptions += u64::from(frame.kind() == mqtt::SUBACK);
    true
}
