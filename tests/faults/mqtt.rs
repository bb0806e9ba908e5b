//! The little of MQTT 3.1.1 that the tests speak themselves: packets as they stand on the wire, and a client that
//! subscribes at QoS 1 with a session of its own and acknowledges what it has kept. What others say in version 5 is read.
//!
//! It is not the library that the product uses, so that a mistake of that library cannot hide itself.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const CONNECT: u8 = 1;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const SUBACK: u8 = 9;
pub const DISCONNECT: u8 = 14;

/// How long a client waits before it tries again to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// One packet, with all its bytes.
pub struct Frame {
    pub bytes: Vec<u8>,
    body: usize,
}

impl Frame {
    pub fn kind(&self) -> u8 {
        self.bytes[0] >> 4
    }

    fn qos(&self) -> u8 {
        (self.bytes[0] >> 1) & 3
    }

    fn body(&self) -> &[u8] {
        &self.bytes[self.body..]
    }

    /// The packet id of an acknowledgement.
    pub fn acknowledged(&self) -> Option<u16> {
        (self.kind() == PUBACK).then(|| number(self.body()))
    }

    /// The packet id and the payload of a message at QoS 1. Version 5 has properties between them.
    pub fn message(&self, five: bool) -> Option<(u16, &[u8])> {
        if self.kind() != PUBLISH || self.qos() != 1 {
            return None;
        }
        let topic = 2 + usize::from(number(self.body()));
        let rest = self.body().get(topic..)?;
        let mut payload = rest.get(2..)?;
        if five {
            let (length, head) = span(payload)?;
            payload = payload.get(head + length..)?;
        }
        Some((number(rest), payload))
    }

    /// What a CONNECT says.
    pub fn hello(&self) -> Option<Hello> {
        if self.kind() != CONNECT {
            return None;
        }
        let name = 2 + usize::from(number(self.body()));
        let version = *self.body().get(name)?;
        let mut hello = Hello { five: version == 5, receive_maximum: None };
        if hello.five {
            let (length, head) = span(self.body().get(name + 4..)?)?;
            let mut rest = self.body().get(name + 4 + head..name + 4 + head + length)?;
            while let Some(property) = rest.first() {
                let length = match property {
                    0x17 | 0x19 => 2,
                    0x21 | 0x22 => 3,
                    0x11 | 0x27 => 5,
                    // Texts and bytes have their length before them, a user's property two of them.
                    0x26 => {
                        let name = 3 + usize::from(number(rest.get(1..3)?));
                        name + 2 + usize::from(number(rest.get(name..name + 2)?))
                    }
                    _ => 3 + usize::from(number(rest.get(1..3)?)),
                };
                if *property == 0x21 {
                    hello.receive_maximum = Some(number(rest.get(1..3)?));
                }
                rest = rest.get(length..)?;
            }
        }
        Some(hello)
    }
}

/// What a client says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// It speaks version 5.
    pub five: bool,
    /// So many messages may be on their way to it.
    pub receive_maximum: Option<u16>,
}

/// A number of one to four bytes, seven bits in each, and how many bytes those were.
fn span(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub fn read(from: &mut impl Read) -> io::Result<Frame> {
    let mut bytes = vec![0];
    from.read_exact(&mut bytes)?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a length of more than four bytes"));
        }
    }
    let body = bytes.len();
    bytes.resize(body + length, 0);
    from.read_exact(&mut bytes[body..])?;
    Ok(Frame { bytes, body })
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&(text.len() as u16).to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

pub fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(payload);
    packet(PUBLISH << 4 | 1 << 1, &body)
}

fn puback(id: u16) -> Vec<u8> {
    packet(PUBACK << 4, &id.to_be_bytes())
}

fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = 1_u16.to_be_bytes().to_vec();
    text(&mut body, filter);
    body.push(1);
    packet(0x82, &body)
}

/// Connects without keep-alive, and waits until the broker has answered.
pub fn connect(port: u16, id: &str, clean: bool) -> io::Result<(TcpStream, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend_from_slice(&[4, if clean { 2 } else { 0 }, 0, 0]);
    text(&mut body, id);
    stream.write_all(&packet(0x10, &body))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let answer = read(&mut reader)?;
    if answer.body().get(1) != Some(&0) {
        return Err(io::Error::other(format!("the broker refuses: {:?}", answer.bytes)));
    }
    Ok((stream, reader))
}

/// Keeps all payloads that come to a topic, in order. It comes back by itself whenever the connection is lost.
pub struct Collector {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    rows: Mutex<Vec<(Instant, String)>>,
    ended: AtomicBool,
    subscribed: AtomicBool,
    line: Mutex<Option<TcpStream>>,
}

impl Collector {
    pub fn start(port: u16, id: &str, topic: &str) -> Collector {
        let shared = Arc::<Shared>::default();
        let (id, topic, own) = (id.to_owned(), topic.to_owned(), shared.clone());
        let thread = std::thread::spawn(move || {
            while !own.ended.load(Ordering::Acquire) {
                // Whatever ended the connection, it comes back.
                let _ = own.session(port, &id, &topic);
                own.subscribed.store(false, Ordering::Release);
                std::thread::sleep(PAUSE);
            }
        });
        Collector { shared, thread: Some(thread) }
    }

    /// What has come and when, without the first so many.
    pub fn rows_from(&self, first: usize) -> Vec<(Instant, String)> {
        self.shared.rows.lock().unwrap()[first..].to_vec()
    }

    pub fn subscribed(&self) -> bool {
        self.shared.subscribed.load(Ordering::Acquire)
    }
}

impl Shared {
    fn session(&self, port: u16, id: &str, topic: &str) -> io::Result<()> {
        let (mut stream, mut reader) = connect(port, id, false)?;
        *self.line.lock().unwrap() = Some(stream.try_clone()?);
        if self.ended.load(Ordering::Acquire) {
            return Ok(());
        }
        stream.write_all(&subscribe(topic))?;
        loop {
            let frame = read(&mut reader)?;
            if frame.kind() == SUBACK {
                self.subscribed.store(true, Ordering::Release);
            }
            if let Some((id, payload)) = frame.message(false) {
                let row = String::from_utf8_lossy(payload).into_owned();
                self.rows.lock().unwrap().push((Instant::now(), row));
                stream.write_all(&puback(id))?;
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(line) = &*self.shared.line.lock().unwrap() {
            // It may be gone already.
            let _ = line.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
