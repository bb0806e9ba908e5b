//! The source: a SUB socket that connects, as often as it must.

use std::io;
use std::time::{Duration, Instant};

use kuiper_plugin::{Context, Emits, Emitter, Error, Message, Record, Result, Source};

use crate::endpoint::Endpoint;
use crate::wire::{Frame, Peer, Role};

kuiper_plugin::properties! {
    /// Properties of the source `zmq`.
    #[derive(Debug)]
    pub struct SourceOptions {
        /// The publisher: `tcp://host:5563` or `ipc:///run/rows`.
        server: String,
        /// What the first frame of a message must begin with; it is left out of the message. Without it all frames are the message.
        datasource: String = String::new(),
    }
}

/// How soon it hears that the rule is being stopped.
const BEAT: Duration = Duration::from_millis(200);
/// For connecting and greeting.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Messages that are handed on at once.
const MOST: usize = 1_000;

/// The source.
#[derive(Default)]
pub struct ZmqSource {
    endpoint: Option<Endpoint>,
    topic: String,
}

impl Source for ZmqSource {
    type Config = SourceOptions;

    const EMITS: Emits = Emits::Bytes;

    fn provision(&mut self, _: &Context, options: SourceOptions) -> Result<()> {
        self.endpoint = Some(Endpoint::read(&options.server)?);
        self.topic = options.datasource;
        Ok(())
    }

    /// A publisher may come later than its subscriber: the connection is made, and made again, while it runs.
    fn connect(&mut self, context: &Context) -> Result<()> {
        context.connecting();
        Ok(())
    }

    fn subscribe(&mut self, context: &Context, out: Emitter) -> Result<()> {
        let endpoint = self.endpoint.as_ref().ok_or_else(|| Error::bug("it was not provisioned"))?;
        let mut pause = FIRST_PAUSE;
        while !out.stopped() {
            context.connecting();
            let begun = Instant::now();
            let lost = match reach(endpoint, &self.topic) {
                Ok(mut peer) => {
                    context.connected();
                    listen(&mut peer, &self.topic, &out)?
                }
                Err(error) => error,
            };
            if out.stopped() {
                break;
            }
            context.disconnected(format!("{}: {}", endpoint.shown(), words(&lost)));
            // One that stood for a while is made again at once.
            pause = if begun.elapsed() > LAST_PAUSE { FIRST_PAUSE } else { pause };
            if out.wait(pause) {
                break;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        Ok(())
    }

    /// Reaches the publisher once.
    fn ping(&mut self, _: &Context) -> Result<()> {
        let endpoint = self.endpoint.as_ref().ok_or_else(|| Error::bug("it was not provisioned"))?;
        let reached = reach(endpoint, &self.topic);
        reached.map(drop).map_err(|error| Error::later(format!("{}: {}", endpoint.shown(), words(&error))))
    }
}

fn reach(endpoint: &Endpoint, topic: &str) -> io::Result<Peer> {
    let stream = endpoint.connect(LIMIT)?;
    stream.limit(Some(LIMIT), Some(LIMIT))?;
    let mut peer = Peer::greet(stream, Role::Subscriber)?;
    let mut wish = vec![1];
    wish.extend(topic.as_bytes());
    peer.send(&[&wish])?;
    peer.stream().limit(Some(BEAT), Some(LIMIT))?;
    Ok(peer)
}

/// Hands on messages until the connection is lost, which is what it returns. What is there is handed on together.
fn listen(peer: &mut Peer, topic: &str, out: &Emitter) -> Result<io::Error> {
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let mut next = peer.frame().map(Some);
        let mut messages = Vec::new();
        while let Ok(Some(frame)) = next {
            let more = frame.more;
            if !frame.command {
                frames.push(frame);
                if !more {
                    messages.extend(message(std::mem::take(&mut frames), topic));
                }
            }
            next = if messages.len() < MOST { peer.buffered() } else { Ok(None) };
        }
        if !messages.is_empty() {
            match out.messages(&messages) {
                Err(error) if error.is_stopped() => return Ok(io::ErrorKind::Interrupted.into()),
                sent => sent?,
            }
        }
        match next {
            Err(error) if is_pause(&error) && !out.stopped() => {}
            Err(error) => return Ok(error),
            Ok(_) if out.stopped() => return Ok(io::ErrorKind::Interrupted.into()),
            Ok(_) => {}
        }
    }
}

/// The message of frames; none where it is not for us.
fn message(frames: Vec<Frame>, topic: &str) -> Option<Message> {
    let (first, rest) = frames.split_first()?;
    if !first.body.starts_with(topic.as_bytes()) {
        return None;
    }
    if topic.is_empty() {
        return Some(Message::from(frames.into_iter().flat_map(|frame| frame.body).collect::<Vec<u8>>()));
    }
    let payload = rest.iter().flat_map(|frame| frame.body.iter().copied()).collect();
    let topic = String::from_utf8_lossy(&first.body).into_owned();
    Some(Message { payload, time: None, meta: Record::new().with("topic", topic) })
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Without the number that the system gives an error.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no answer within {} s", LIMIT.as_secs()),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
    }
}
