//! One MQTT connection: bytes to packets and back. No clock, no retry, no state of the protocol.
//!
//! [`Wire::fill`] reads once, [`Wire::next`] takes one packet of what was read, [`Wire::put`] and its like add to what
//! [`Wire::flush`] writes. All waits may be cancelled without harm.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttc::tokio_rustls::client::TlsStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::data::{Object, Text, Value};

use super::hello::{self, Greeting, Hello};

/// Bytes that there is room for at a read: at first, and at most. It grows while reads fill it, for a thousand idle
/// connections should not cost a thousand large buffers.
const ROOM: (usize, usize) = (4 << 10, 64 << 10);

/// The largest packet that the protocol knows, without its first bytes.
pub(super) const LARGEST: usize = 268_435_455;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V31,
    V4,
    V5,
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A message that came in.
#[derive(Debug, PartialEq)]
pub(super) struct Publish {
    pub(super) qos: u8,
    /// The broker has given it before; whether it came is another question.
    pub(super) again: bool,
    /// 0 at QoS 0.
    pub(super) id: u16,
    /// Only when the wire was told to keep topics.
    pub(super) topic: Option<Text>,
    /// MQTT 5: user properties, only when the wire was told to keep topics.
    pub(super) properties: Option<Object>,
    pub(super) payload: Bytes,
}

/// What a message that goes out says beside its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) topic: &'a str,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) again: bool,
    pub(super) id: u16,
    /// MQTT 5 only.
    pub(super) properties: &'a [(&'a str, &'a str)],
}

/// The four packets that settle a message; their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ack {
    Puback = 0x40,
    Pubrec = 0x50,
    Pubrel = 0x62,
    Pubcomp = 0x70,
}

#[derive(Debug, PartialEq)]
pub(super) enum Packet {
    /// Or a sentence why not.
    Connected(Result<Greeting, String>),
    /// For each filter the QoS, or why not.
    Subscribed(Vec<Result<u8, String>>),
    Publish(Publish),
    /// Packet id, and the reason code of MQTT 5, 0 where there is none.
    Ack(Ack, u16, u8),
    Pong,
    /// The broker closes the connection; with its reason code, 0 before MQTT 5.
    Closed(u8),
}

/// Bytes that are no MQTT packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

impl From<Garbage> for String {
    fn from(_: Garbage) -> String {
        "the broker sent something that is not MQTT; check the port in `server`".into()
    }
}

pub(super) struct Wire {
    stream: Stream,
    version: Version,
    /// Keep topics and properties of incoming messages.
    topics: bool,
    input: BytesMut,
    room: usize,
    output: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: Stream, version: Version, topics: bool) -> Wire {
        Wire { stream, version, topics, input: BytesMut::new(), room: ROOM.0, output: BytesMut::new() }
    }

    /// Reads what is there, or waits until something is. The end of the stream is an error.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        let missing = match frame(&self.input) {
            Ok(Frame::Partial { missing }) => missing,
            _ => 0,
        };
        self.input.reserve(missing.clamp(self.room, 1 << 20));
        let before = self.input.len();
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                if read >= self.room || self.input.capacity() == before + read {
                    self.room = ROOM.1.min(2 * self.room);
                }
                Ok(())
            }
        }
    }

    /// The next packet of what was read.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, Garbage> {
        loop {
            let Frame::Whole { head, length } = frame(&self.input)? else { return Ok(None) };
            let kind = self.input[0];
            if kind >> 4 == 3 {
                let packet = self.input.split_to(length).freeze();
                return self.publish(kind, packet, head).map(|publish| Some(Packet::Publish(publish)));
            }
            if let Some(packet) = self.control(kind, head, length)? {
                return Ok(Some(packet));
            }
        }
    }

    fn publish(&self, kind: u8, mut packet: Bytes, head: usize) -> Result<Publish, Garbage> {
        let qos = kind >> 1 & 3;
        let topic = head + 2..head + 2 + number(&packet, head)?;
        let id = if qos > 0 { number(&packet, topic.end)? as u16 } else { 0 };
        let mut start = topic.end + if qos > 0 { 2 } else { 0 };
        let mut properties = None;
        if self.version == Version::V5 {
            let (length, digits) = varint(packet.get(start..).ok_or(Garbage)?).ok_or(Garbage)?;
            let block = packet.get(start + digits..start + digits + length).ok_or(Garbage)?;
            properties = if self.topics { user_properties(block) } else { None };
            start += digits + length;
        }
        if start > packet.len() || qos == 3 || (qos > 0 && id == 0) {
            return Err(Garbage);
        }
        let topic = match self.topics {
            true => Some(Text::from(String::from_utf8_lossy(&packet[topic]))),
            false => None,
        };
        packet.advance(start);
        Ok(Publish { qos, again: kind & 8 != 0, id, topic, properties, payload: packet })
    }

    fn control(&mut self, kind: u8, head: usize, length: usize) -> Result<Option<Packet>, Garbage> {
        let mut packet = self.input.split_to(length);
        let ack = match kind >> 4 {
            4 => Ack::Puback,
            5 => Ack::Pubrec,
            6 => Ack::Pubrel,
            7 => Ack::Pubcomp,
            13 => return Ok(Some(Packet::Pong)),
            14 => return Ok(Some(Packet::Closed(packet.get(head).copied().unwrap_or(0)))),
            2 | 9 if self.version == Version::V5 => return hello::answer_v5(&mut packet),
            2 | 9 => return hello::answer_v4(&mut packet),
            _ => return Ok(None),
        };
        let id = number(&packet, head)? as u16;
        Ok(Some(Packet::Ack(ack, id, packet.get(head + 2).copied().unwrap_or(0))))
    }

    pub(super) fn put_connect(&mut self, hello: &Hello<'_>) {
        hello::put_connect(&mut self.output, self.version, hello);
    }

    pub(super) fn put_subscribe(&mut self, filters: &[String], qos: u8) {
        hello::put_subscribe(&mut self.output, self.version, filters, qos);
    }

    /// The bytes of a message on the wire, its first one and the length aside.
    pub(super) fn size(&self, head: &Head<'_>, payload: &[u8]) -> usize {
        let properties = match self.version {
            Version::V5 => {
                let length = properties_size(head.properties);
                length + varint_size(length)
            }
            _ => 0,
        };
        2 + head.topic.len() + if head.qos > 0 { 2 } else { 0 } + properties + payload.len()
    }

    /// The caller has checked that it is not too large.
    pub(super) fn put_publish(&mut self, head: &Head<'_>, payload: &[u8]) {
        let size = self.size(head, payload);
        let out = &mut self.output;
        out.reserve(size + 5);
        out.put_u8(0x30 | u8::from(head.again) << 3 | head.qos << 1 | u8::from(head.retain));
        put_varint(out, size);
        put_text(out, head.topic);
        if head.qos > 0 {
            out.put_u16(head.id);
        }
        if self.version == Version::V5 {
            put_varint(out, properties_size(head.properties));
            for (name, value) in head.properties {
                out.put_u8(USER_PROPERTY);
                put_text(out, name);
                put_text(out, value);
            }
        }
        out.extend_from_slice(payload);
    }

    pub(super) fn put_ack(&mut self, ack: Ack, id: u16) {
        self.output.extend_from_slice(&[ack as u8, 2, (id >> 8) as u8, id as u8]);
    }

    pub(super) fn put_ping(&mut self) {
        self.output.extend_from_slice(&[0xC0, 0]);
    }

    pub(super) fn put_disconnect(&mut self) {
        self.output.extend_from_slice(&[0xE0, 0]);
    }

    /// Bytes that wait for [`Wire::flush`].
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let written = self.stream.write(&self.output).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.output.advance(written);
        }
        self.stream.flush().await
    }

    /// Says that nothing more is sent, and reads until the broker says so too: closing a socket while there is
    /// something to read would also take back what was just written.
    pub(super) async fn shutdown(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        loop {
            self.input.clear();
            self.input.reserve(ROOM.0);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }
}

const USER_PROPERTY: u8 = 0x26;

pub(super) enum Frame {
    Partial {
        missing: usize,
    },
    /// The length of the first bytes, and of all.
    Whole {
        head: usize,
        length: usize,
    },
}

pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Garbage> {
    let Some(rest) = bytes.get(1..) else { return Ok(Frame::Partial { missing: 2 }) };
    match varint(rest) {
        None if rest.len() >= 4 => Err(Garbage),
        None => Ok(Frame::Partial { missing: 1 }),
        Some((length, digits)) => {
            let (head, length) = (1 + digits, 1 + digits + length);
            Ok(match length.checked_sub(bytes.len()) {
                None | Some(0) => Frame::Whole { head, length },
                Some(missing) => Frame::Partial { missing },
            })
        }
    }
}

/// A number of variable length, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}

pub(super) fn put_varint(out: &mut BytesMut, mut number: usize) {
    while number > 0x7F {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn varint_size(number: usize) -> usize {
    match number {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(text.len() as u16);
    out.extend_from_slice(text.as_bytes());
}

fn properties_size(properties: &[(&str, &str)]) -> usize {
    properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum()
}

fn number(bytes: &[u8], at: usize) -> Result<usize, Garbage> {
    let two = bytes.get(at..at + 2).ok_or(Garbage)?;
    Ok(usize::from(two[0]) << 8 | usize::from(two[1]))
}

/// The user properties of a message; `None` if there are none, or none that can be read.
fn user_properties(mut block: &[u8]) -> Option<Object> {
    let mut found = Object::new();
    while let Some(kind) = block.first() {
        let text = |at: usize| {
            let length = number(block, at).ok()?;
            Some((String::from_utf8_lossy(block.get(at + 2..at + 2 + length)?), at + 2 + length))
        };
        let end = match *kind {
            USER_PROPERTY => {
                let (name, end) = text(1)?;
                let (value, end) = text(end)?;
                found.insert(name.as_ref(), Value::text(&value));
                end
            }
            0x01 => 2,
            0x02 => 5,
            0x23 => 3,
            0x0B => 1 + varint(&block[1..])?.1,
            0x03 | 0x08 | 0x09 => text(1)?.1,
            _ => return None,
        };
        block = block.get(end..)?;
    }
    (!found.is_empty()).then_some(found)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(version: Version) -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(Stream::Tcp(ours), version, true), listener.accept().await.unwrap().0)
    }

    fn head<'a>(topic: &'a str, qos: u8, properties: &'a [(&'a str, &'a str)]) -> Head<'a> {
        Head { topic, qos, retain: false, again: false, id: if qos > 0 { 7 } else { 0 }, properties }
    }

    /// What is put on one wire, read on another.
    async fn echo(version: Version, put: impl FnOnce(&mut Wire)) -> Vec<Packet> {
        let (mut wire, mut peer) = pair(version).await;
        put(&mut wire);
        let bytes = wire.output.clone();
        let (mut packets, mut reader) = (Vec::new(), wire);
        for byte in bytes.chunks(1) {
            peer.write_all(byte).await.unwrap();
            reader.fill().await.unwrap();
            packets.extend(reader.next().unwrap());
        }
        packets
    }

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_byte_by_byte() {
        for (version, qos) in [(Version::V4, 0), (Version::V4, 1), (Version::V5, 0), (Version::V5, 2)] {
            let long = vec![b'x'; 200];
            let properties = [("unit", "°C"), ("n", "")];
            let found = echo(version, |wire| {
                wire.put_publish(&head("a/b", qos, &properties), &long);
                wire.put_publish(&head("ü", qos, &[]), b"");
                wire.put_ack(Ack::Pubrel, 0x1234);
            })
            .await;
            let v5 = version == Version::V5;
            let id = if qos > 0 { 7 } else { 0 };
            let user = [("unit", Value::text("°C")), ("n", Value::text(""))].into_iter().collect();
            let publish = |topic: &str, properties, payload: &[u8]| {
                let payload = Bytes::copy_from_slice(payload);
                Packet::Publish(Publish { qos, again: false, id, topic: Some(topic.into()), properties, payload })
            };
            let expected = [
                publish("a/b", v5.then_some(user), &long),
                publish("ü", None, b""),
                Packet::Ack(Ack::Pubrel, 0x1234, 0),
            ];
            assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn sizes_are_those_on_the_wire() {
        for version in [Version::V4, Version::V5] {
            for length in [0, 100, 20_000, 3_000_000] {
                let (mut wire, _peer) = pair(version).await;
                let (payload, properties) = (vec![0; length], [("a", "b")]);
                let head = head("topic", 1, &properties);
                wire.put_publish(&head, &payload);
                let size = wire.size(&head, &payload);
                assert_eq!(wire.output.len(), 1 + varint_size(size) + size);
            }
        }
    }

    #[tokio::test]
    async fn answers_of_brokers_become_sentences() {
        for (version, bytes, text) in [
            (Version::V4, &b"\x20\x02\x00\x05"[..], "not authorized; check `username` and `password`"),
            (Version::V4, b"\x20\x02\x00\x02", "check `clientid`"),
            (Version::V5, b"\x20\x03\x00\x87\x00", "not authorized; check `username` and `password`"),
            (Version::V5, b"\x20\x08\x00\x84\x05\x1f\x00\x02no", "check `protocolVersion` (no)"),
        ] {
            let (mut wire, _peer) = pair(version).await;
            wire.input.extend_from_slice(bytes);
            let Some(Packet::Connected(Err(why))) = wire.next().unwrap() else { panic!("refused") };
            assert!(why.ends_with(text), "{why}");
        }
        let (mut wire, _peer) = pair(Version::V5).await;
        wire.input.extend_from_slice(
            b"\x20\x06\x01\x00\x03\x21\x00\x14\xE0\x01\x8E\x90\x04\x00\x01\x00\x02\x50\x03\x00\x09\x97",
        );
        let greeting = Greeting { session: true, receive_maximum: 20, largest: LARGEST, keep_alive: None };
        assert_eq!(wire.next(), Ok(Some(Packet::Connected(Ok(greeting)))));
        assert_eq!(wire.next(), Ok(Some(Packet::Closed(0x8E))));
        assert_eq!(wire.next(), Ok(Some(Packet::Subscribed(vec![Ok(2)]))));
        assert_eq!(wire.next(), Ok(Some(Packet::Ack(Ack::Pubrec, 9, 0x97))));
        assert_eq!(wire.next(), Ok(None));
    }

    #[tokio::test]
    async fn broken_packets_are_garbage_and_not_a_panic() {
        for bytes in [
            &b"\x30\xFF\xFF\xFF\xFF\x01"[..],
            b"\x32\x03\x00\x01a",
            b"\x30\x02\x00\x09",
            b"\x40\x01\x00",
            b"\x36\x04\x00\x00\x00\x01",
            b"\x30\x00",
        ] {
            let (mut wire, _peer) = pair(Version::V4).await;
            wire.input.extend_from_slice(bytes);
            assert_eq!(wire.next(), Err(Garbage), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn mqtt_31_has_its_own_name() {
        let (mut wire, _peer) = pair(Version::V31).await;
        let hello = Hello {
            client_id: "me",
            clean: true,
            keep_alive: 30,
            login: Some(("u", "p")),
            session_expiry: 0,
            receive_maximum: 9,
        };
        wire.put_connect(&hello);
        assert_eq!(&wire.output[..], b"\x10\x16\x00\x06MQIsdp\x03\xC2\x00\x1E\x00\x02me\x00\x01u\x00\x01p");
    }
}
