//! Publishes `{"id":0}`, `{"id":1}`, … at QoS 1 and at a steady pace, and keeps account of what the broker has taken.
//!
//! A number is **taken** when its PUBACK has come: from then on it must not be lost. One whose PUBACK was still out when the
//! connection ended is **doubtful**: it may be delivered or not. None is ever published twice.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mqtt;

/// Messages whose PUBACK may be out at once.
const ON_THE_WAY: usize = 500;
/// How long the last PUBACKs are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Default)]
pub struct Numbers {
    pub next: i64,
    pub taken: BTreeSet<i64>,
    pub doubtful: BTreeSet<i64>,
}

#[derive(Default)]
struct Shared {
    numbers: Mutex<Numbers>,
    /// What is on its way on this connection, by packet id.
    out: Mutex<HashMap<u16, i64>>,
    broken: AtomicBool,
    paused: AtomicBool,
    ended: AtomicBool,
}

impl Publisher {
    /// Starts to publish so many messages a second.
    pub fn start(port: u16, topic: &str, rate: u32) -> Publisher {
        let shared = Arc::<Shared>::default();
        let (topic, own) = (topic.to_owned(), shared.clone());
        let thread = std::thread::spawn(move || {
            while !own.ended.load(Ordering::Acquire) {
                own.broken.store(false, Ordering::Release);
                // The broker may be away.
                let _ = own.session(port, &topic, rate);
                let left: Vec<i64> = own.out.lock().unwrap().drain().map(|(_, n)| n).collect();
                own.numbers.lock().unwrap().doubtful.extend(left);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Publisher { shared, thread: Some(thread) }
    }

    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Release);
    }

    /// How many were taken so far.
    pub fn taken(&self) -> usize {
        self.shared.numbers.lock().unwrap().taken.len()
    }

    /// The number that comes next.
    pub fn next(&self) -> i64 {
        self.shared.numbers.lock().unwrap().next
    }

    /// Ends, and says what became of the numbers.
    pub fn stop(&mut self) -> Numbers {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.shared.numbers.lock().unwrap().clone()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn session(self: &Arc<Shared>, port: u16, topic: &str, rate: u32) -> io::Result<()> {
        let (mut stream, mut reader) = mqtt::connect(port, "", true)?;
        let own = self.clone();
        let listener = std::thread::spawn(move || {
            while let Ok(frame) = mqtt::read(&mut reader) {
                let number = frame.acknowledged().and_then(|id| own.out.lock().unwrap().remove(&id));
                if let Some(number) = number {
                    own.numbers.lock().unwrap().taken.insert(number);
                }
            }
            own.broken.store(true, Ordering::Release);
        });
        let result = self.write(&mut stream, topic, rate);
        let begun = Instant::now();
        while result.is_ok() && !self.broken() && !self.out.lock().unwrap().is_empty() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
        listener.join().unwrap();
        result
    }

    fn broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Publishes until it is told to end, or the connection ends.
    fn write(&self, stream: &mut TcpStream, topic: &str, rate: u32) -> io::Result<()> {
        let step = Duration::from_secs(1) / rate;
        let mut due = Instant::now();
        while !self.ended.load(Ordering::Acquire) && !self.broken() {
            let now = Instant::now();
            let wait = self.paused.load(Ordering::Acquire) || self.out.lock().unwrap().len() >= ON_THE_WAY;
            if now < due || wait {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            // What could not be published in time is left out, not hurried after.
            due = due.max(now - step * 20) + step;
            let number = {
                let mut numbers = self.numbers.lock().unwrap();
                numbers.next += 1;
                numbers.next - 1
            };
            let id = (number % 60_000) as u16 + 1;
            self.out.lock().unwrap().insert(id, number);
            stream.write_all(&mqtt::publish(topic, id, format!("{{\"id\":{number}}}").as_bytes()))?;
        }
        Ok(())
    }
}
