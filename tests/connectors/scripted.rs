//! The mqtt connector against a broker that says what the test wants, connection by connection: what a real one does too
//! seldom to wait for.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use kuiper::io::{Link, Message, Report};

use super::broker::PATIENCE;
use super::contract::{Running, env, numbers, sink, source, text};

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;

/// A broker in the hands of a test.
struct Script {
    listener: TcpListener,
}

/// One connection that it took.
struct Line {
    stream: TcpStream,
}

impl Script {
    async fn new() -> Script {
        Script { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn url(&self) -> String {
        format!("tcp://{}", self.listener.local_addr().unwrap())
    }

    /// Takes the next connection, and says whether it knows the session.
    async fn greet(&self, session: bool) -> Line {
        self.greet_with(&[0x20, 2, u8::from(session), 0]).await
    }

    async fn greet_with(&self, answer: &[u8]) -> Line {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("no one comes").unwrap();
        let mut line = Line { stream };
        assert_eq!(line.next().await.0, 1, "it begins with CONNECT");
        line.say(answer).await;
        line
    }
}

impl Line {
    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A message of QoS 1.
    async fn publish(&mut self, id: u8, again: bool, text: &str) {
        let mut packet = vec![0x32 | u8::from(again) << 3, 5 + text.len() as u8, 0, 1, b't', 0, id];
        packet.extend(text.bytes());
        self.say(&packet).await;
    }

    async fn subscribed(&mut self) {
        let (kind, body) = self.next().await;
        assert_eq!(kind, SUBSCRIBE);
        self.say(&[0x90, 3, body[0], body[1], 1]).await;
    }

    /// The kind of the next packet that is no ping, and what it says.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        timeout(PATIENCE, self.read()).await.expect("nothing is said")
    }

    async fn read(&mut self) -> (u8, Vec<u8>) {
        loop {
            let kind = self.stream.read_u8().await.unwrap() >> 4;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.unwrap();
            if kind != 12 {
                return (kind, body);
            }
        }
    }

    /// The packet id of the next packet, which is an acknowledgement.
    async fn acknowledged(&mut self) -> u8 {
        let (kind, body) = self.next().await;
        assert_eq!(kind, PUBACK);
        body[1]
    }
}

async fn next(reader: &mut Running, expected: &str) -> Message {
    let message = reader.next().await;
    assert_eq!(text(&message), expected);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_an_old_connection_is_not_sent_on_a_new_one() {
    let broker = Script::new().await;
    let props = json!({"server": broker.url(), "datasource": "t", "qos": 1});
    let mut reader = Running::start(source("mqtt", props, &env("stale", "."), true));
    let mut line = broker.greet(false).await;
    line.subscribed().await;
    line.publish(1, false, "a").await;
    let old = next(&mut reader, "a").await;
    drop(line);
    // The broker has given the number to another message.
    let mut line = broker.greet(true).await;
    line.publish(1, true, "b").await;
    let new = next(&mut reader, "b").await;
    let delivery = |message: &Message| message.delivery.unwrap();
    assert!(delivery(&new).again && !delivery(&old).again && delivery(&new).line != delivery(&old).line);
    old.ack.unwrap().settle();
    line.publish(2, false, "c").await;
    next(&mut reader, "c").await.ack.unwrap().settle();
    new.ack.unwrap().settle();
    // In the order in which they came, and once.
    assert_eq!([line.acknowledged().await, line.acknowledged().await], [1, 2]);
    line.publish(3, false, "d").await;
    next(&mut reader, "d").await.ack.unwrap().settle();
    assert_eq!(line.acknowledged().await, 3);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_proves_a_subscription_only_to_who_has_seen_it_confirmed() {
    let broker = Script::new().await;
    let props = json!({"server": broker.url(), "datasource": "t", "qos": 1});
    let mut reader = Running::start(source("mqtt", props, &env("suback", "."), true));
    // The connection ends between CONNACK and SUBACK: the session is there, and the subscription may not be.
    let mut line = broker.greet(false).await;
    assert_eq!(line.next().await.0, SUBSCRIBE);
    drop(line);
    let mut line = broker.greet(true).await;
    line.subscribed().await;
    reader.link(|link| *link == Link::Connected).await;
    line.publish(1, false, "a").await;
    next(&mut reader, "a").await.ack.unwrap().settle();
    assert_eq!(line.acknowledged().await, 1);
    drop(line);
    // From then on the session is enough, and the first thing that is said is an acknowledgement.
    let mut line = broker.greet(true).await;
    line.publish(2, true, "b").await;
    let message = next(&mut reader, "b").await;
    assert!(message.delivery.unwrap().again);
    message.ack.unwrap().settle();
    assert_eq!(line.acknowledged().await, 2);
    drop(line);
    // A broker that has lost the session has lost the subscription, and its numbers say nothing.
    let mut line = broker.greet(false).await;
    line.subscribed().await;
    line.publish(2, true, "c").await;
    let message = next(&mut reader, "c").await;
    assert!(!message.delivery.unwrap().again);
    message.ack.unwrap().settle();
    assert_eq!(line.acknowledged().await, 2);
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_keeps_to_the_receive_maximum_of_the_broker() {
    let broker = Script::new().await;
    let props = json!({"server": broker.url(), "topic": "t", "qos": 1, "protocolVersion": "5"});
    let mut writer = sink("mqtt", props, &env("maximum", "."));
    let writing = tokio::spawn(async move {
        writer.connect(Report::new().0).await.unwrap();
        let delivered = writer.deliver(&numbers(0..5)).await;
        (writer, delivered)
    });
    // A receive maximum of two.
    let mut line = broker.greet_with(&[0x20, 6, 0, 0, 3, 0x21, 0, 2]).await;
    let mut ids = Vec::new();
    for taken in 0..5 {
        let (kind, body) = line.next().await;
        assert_eq!((kind, *body.last().unwrap()), (PUBLISH, b'0' + taken));
        ids.push([body[3], body[4]]);
        if taken % 2 == 1 {
            // It has two of them in its hands; only then is there room for more.
            assert!(timeout(Duration::from_millis(150), line.read()).await.is_err());
            for [high, low] in ids.drain(..) {
                line.say(&[0x40, 2, high, low]).await;
            }
        }
    }
    for [high, low] in ids {
        line.say(&[0x40, 2, high, low]).await;
    }
    let (_writer, delivered) = timeout(PATIENCE, writing).await.expect("it ends").unwrap();
    assert_eq!(delivered, Ok(()));
}
