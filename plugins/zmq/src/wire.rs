//! ZMTP 3.0, the protocol of ZeroMQ, as far as PUB and SUB without encryption need it: a greeting, one command, frames.

use std::io::{self, Read, Write};

use crate::endpoint::Stream;

/// A peer that announces more than this is no peer.
const LARGEST: u64 = 1 << 30;
const GREETING: usize = 64;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    Publisher,
    Subscriber,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Publisher => "PUB",
            Role::Subscriber => "SUB",
        }
    }

    /// Sockets that this one talks to; XPUB and XSUB are what proxies are made of.
    fn peers(self) -> [&'static str; 2] {
        match self {
            Role::Publisher => ["SUB", "XSUB"],
            Role::Subscriber => ["PUB", "XPUB"],
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub more: bool,
    pub command: bool,
    pub body: Vec<u8>,
}

/// Bytes of frames that are a message.
pub fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 9).sum());
    for (n, frame) in frames.iter().enumerate() {
        add(&mut bytes, if n + 1 < frames.len() { MORE } else { 0 }, frame);
    }
    bytes
}

fn add(bytes: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(len) => bytes.extend([flags, len]),
        Err(_) => {
            bytes.push(flags | LONG);
            bytes.extend((body.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(body);
}

fn greeting() -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

fn ready(role: Role) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend((role.name().len() as u32).to_be_bytes());
    body.extend(role.name().as_bytes());
    let mut bytes = Vec::new();
    add(&mut bytes, COMMAND, &body);
    bytes
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A connection after the greeting, and what of it has been read.
pub struct Peer {
    stream: Stream,
    buffer: Vec<u8>,
    read: usize,
}

impl Peer {
    /// Greets, and sees who the other is. The stream has limits for reading and writing.
    pub fn greet(mut stream: Stream, role: Role) -> io::Result<Peer> {
        stream.write_all(&greeting())?;
        let mut theirs = [0; GREETING];
        stream.read_exact(&mut theirs)?;
        if theirs[0] != 0xff || theirs[9] & 1 != 1 {
            return Err(wrong("the peer does not speak ZeroMQ"));
        }
        if theirs[10] < 3 {
            return Err(wrong(format!("the peer speaks version {} of ZeroMQ's protocol, and 3 is needed", theirs[10])));
        }
        let mechanism = String::from_utf8_lossy(&theirs[12..32]).trim_end_matches('\0').to_owned();
        if mechanism != "NULL" {
            return Err(wrong(format!("the peer asks for the security `{mechanism}`, and there is only `NULL` here")));
        }
        let mut peer = Peer { stream, buffer: Vec::new(), read: 0 };
        peer.stream.write_all(&ready(role))?;
        let answer = peer.frame()?;
        match (answer.command, answer.body.get(..6)) {
            (true, Some(b"\x05READY")) => {}
            (true, Some(b"\x05ERROR")) => return Err(wrong("the peer refuses the connection")),
            _ => return Err(wrong("the peer does not say what it is")),
        }
        let kind = property(&answer.body[6..], "socket-type").unwrap_or_default();
        if !role.peers().contains(&kind.as_str()) {
            return Err(wrong(format!("the peer is a `{kind}` socket, and {} is needed", role.peers()[0])));
        }
        Ok(peer)
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        self.stream.write_all(&message(frames))
    }

    /// The next frame. Where the limit of the stream ends it early (`WouldBlock`), it can be asked again.
    pub fn frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill()?;
        }
    }

    /// The next frame, if it has been read already.
    pub fn buffered(&mut self) -> io::Result<Option<Frame>> {
        let bytes = &self.buffer[self.read..];
        let Some(flags) = bytes.first().copied() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(wrong("the peer sends what is no frame"));
        }
        let head = if flags & LONG == 0 { 2 } else { 9 };
        let len = match bytes.get(1..head) {
            Some(len) => len.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
            None => return Ok(None),
        };
        if len > LARGEST {
            return Err(wrong(format!("the peer sends a frame of {len} bytes")));
        }
        let Some(body) = bytes.get(head..head + len as usize) else { return Ok(None) };
        let frame = Frame { more: flags & MORE != 0, command: flags & COMMAND != 0, body: body.to_vec() };
        self.read += head + len as usize;
        Ok(Some(frame))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        let had = self.buffer.len();
        self.buffer.resize(had + (64 << 10), 0);
        let got = self.stream.read(&mut self.buffer[had..]);
        self.buffer.truncate(had + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A property of a READY command.
fn property(mut bytes: &[u8], wanted: &str) -> Option<String> {
    loop {
        let (name_len, rest) = bytes.split_first()?;
        let name = rest.get(..usize::from(*name_len))?;
        let rest = &rest[name.len()..];
        let len = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let value = rest.get(4..4usize.checked_add(len)?)?;
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        bytes = &rest[4 + len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_frames() {
        assert_eq!(message(&[b"a", b"bc"]), b"\x01\x01a\x00\x02bc");
        let long = message(&[&[7; 256]]);
        assert_eq!((&long[..9], long.len()), (&b"\x02\0\0\0\0\0\0\x01\0"[..], 265));
        assert_eq!(message(&[&[7; 255]])[..2], [0, 255]);
    }

    #[test]
    fn properties_of_a_peer() {
        let body = b"\x08Identity\0\0\0\0\x0bsocket-type\0\0\0\x03PUB";
        assert_eq!(property(body, "socket-type").as_deref(), Some("PUB"));
        assert_eq!(property(body, "other"), None);
        assert_eq!(property(b"\x0bsocket-type\xff\xff\xff\xffPUB", "socket-type"), None);
    }
}
