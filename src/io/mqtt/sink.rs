//! The mqtt sink: publishes in bursts and, at QoS 1 and 2, waits until the broker has confirmed them.
//!
//! A burst of messages is one write. At QoS 0 a message is delivered when the socket has taken it. At QoS 1 and 2 up to a
//! window of messages is on its way; when the connection breaks, those that were not confirmed are published again on the
//! next, so that some may come twice and none is lost. A broker that is away for more than a few seconds is a fault.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

use crate::clock::{Patience, Stopwatch, within};
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::props;
use crate::io::{Content, Link, Parcel, Report, Sink, SinkPlan, SinkSpec, Stopped, Takes};

use super::dial::{Backoff, Dialer, KEEP_ALIVE, closed, lost, unless_silent};
use super::options::{SINK, SinkOptions};
use super::wire::{Ack, Garbage, Head, LARGEST, Packet, Version, Wire};

/// Messages of QoS 1 and 2 on their way at once.
const WINDOW: usize = 1000;

/// The same at QoS 2 before MQTT 5, where a broker cannot say how many it takes: mosquitto takes 20 and, beyond that,
/// confirms messages of a resumed session that it has thrown away.
const SMALL_WINDOW: usize = 16;

/// Bytes after which a burst is written.
const BURST: usize = 64 << 10;

/// Pause between two reads of confirmations, where the window is not so small that the broker would wait.
const SMALL: usize = 64;
const PACE: Duration = Duration::from_millis(1);

/// How long a delivery goes on trying by itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// A message beyond this size on which the connection breaks so many times in a row is taken to be too large for the
/// broker, which before MQTT 5 has no other way to say so.
const SUSPECT: usize = 8 << 10;
const STRIKES: u32 = 4;

pub(super) fn plan(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (options, mut warnings) = props::read::<SinkOptions>(&spec.props, &SINK)?;
    let dialer = options.check(&spec.env, &mut warnings)?;
    let identity = dialer.identity();
    let open = move || {
        Ok(Box::new(MqttSink {
            topic: options.topic.clone(),
            qos: options.qos,
            retained: options.retained,
            properties: options
                .properties
                .iter()
                .map(|(name, value)| (name.clone(), format!("properties.{name}"), value.clone()))
                .collect(),
            dialer: dialer.clone(),
            report: None,
            line: None,
            next: 0,
            careful: false,
            strikes: 0,
            backoff: Backoff::default(),
        }) as Box<dyn Sink>)
    };
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings, identity })
}

struct MqttSink {
    topic: String,
    qos: u8,
    retained: bool,
    /// Name, name as a dynamic property, and value of each user property.
    properties: Vec<(String, String, String)>,
    dialer: Dialer,
    report: Option<Report>,
    line: Option<Line>,
    /// Packet id of the next message, less one.
    next: usize,
    /// The last connection broke without a confirmation: one message at a time shows which one it breaks on.
    careful: bool,
    /// Connections in a row that broke on the same large message.
    strikes: u32,
    backoff: Backoff,
}

struct Line {
    wire: Wire,
    window: usize,
    largest: usize,
    /// The broker knows what was on its way before.
    session: bool,
}

/// How far a message of QoS 1 or 2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// To be sent again under the same packet id, in a session that the broker has kept.
    Again,
    Sent,
    /// QoS 2: the broker has it and was told to let it go.
    Released,
    Confirmed,
}

/// Why a delivery does not go on: the connection is gone, or the broker does not take a message.
enum Halt {
    Broken(String),
    At(usize, Fault),
}

impl From<Garbage> for Halt {
    fn from(garbage: Garbage) -> Halt {
        Halt::Broken(garbage.into())
    }
}

#[async_trait::async_trait]
impl Sink for MqttSink {
    async fn connect(&mut self, report: Report) -> Result<()> {
        self.report = Some(report);
        self.dial().await.map_err(Fault::unreachable)
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        let mut patience = Patience::new(PATIENCE);
        let mut stages = vec![Stage::Waiting; parcels.len()];
        let mut done = 0;
        let mut pauses = Backoff::default();
        let stopped = loop {
            let trouble = match patience.spend(self.attempt(parcels, &mut stages, &mut done)).await {
                Ok(()) => break None,
                Err(Halt::At(at, fault)) => break Some(Stopped { delivered: at, fault }),
                Err(Halt::Broken(trouble)) => trouble,
            };
            let trouble = self.broken(trouble);
            if self.strikes >= STRIKES {
                self.strikes = 0;
                let size = size_of(&parcels[done]);
                let text =
                    format!("the broker closes the connection at a message of {size} bytes; it may take none so large");
                break Some(Stopped { delivered: done, fault: Fault::refused(text) });
            }
            if patience.left().is_zero() {
                break Some(Stopped { delivered: done, fault: Fault::unreachable(trouble) });
            }
            patience.spend(sleep(pauses.next())).await;
        };
        if self.qos > 0 {
            self.next = (self.next + parcels.len()) % usize::from(u16::MAX);
        }
        stopped.map_or(Ok(()), Err)
    }

    async fn idle(&mut self) {
        let mut quiet = 0;
        loop {
            let Some(line) = &mut self.line else {
                let pause = self.backoff.next();
                sleep(pause).await;
                if self.dial().await.is_ok() {
                    self.backoff.reset();
                    quiet = 0;
                }
                continue;
            };
            let heard = tokio::select! {
                heard = line.hear(&self.dialer.client_id) => heard.map(|()| quiet = 0),
                _ = sleep(Duration::from_secs(KEEP_ALIVE.into()) / 2) => {
                    quiet += 1;
                    line.wire.put_ping();
                    match quiet {
                        0..=3 => line.wire.flush().await.map_err(|error| lost(&error)),
                        _ => Err("the broker is silent".into()),
                    }
                }
            };
            if let Err(trouble) = heard {
                self.broken(trouble);
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(mut line) = self.line.take() {
            line.wire.put_disconnect();
            let goodbye = async { line.wire.flush().await.is_ok() && line.wire.shutdown().await.is_ok() };
            let _ = within(Duration::from_secs(1), goodbye).await;
        }
        Ok(())
    }
}

impl MqttSink {
    async fn dial(&mut self) -> Result<(), String> {
        match self.dialer.dial(false).await {
            Ok((wire, greeting)) => {
                let most = if self.qos == 2 && self.dialer.version != Version::V5 { SMALL_WINDOW } else { WINDOW };
                let window = most.min(greeting.receive_maximum.max(1).into());
                let largest = greeting.largest.min(LARGEST);
                self.line = Some(Line { wire, window, largest, session: greeting.session });
                self.say(Link::Connected);
                Ok(())
            }
            Err(trouble) => {
                self.say(Link::Disconnected(trouble.clone()));
                Err(trouble)
            }
        }
    }

    fn broken(&mut self, trouble: String) -> String {
        self.line = None;
        self.say(Link::Disconnected(trouble.clone()));
        trouble
    }

    /// Something was confirmed.
    fn progress(&self) {
        if let Some(report) = &self.report {
            report.progress();
        }
    }

    fn say(&self, link: Link) {
        if let Some(report) = &self.report {
            report.set(link);
        }
    }

    /// Delivers what is not done yet over one connection, a new one if need be.
    async fn attempt(&mut self, parcels: &[Parcel], stages: &mut [Stage], done: &mut usize) -> Result<(), Halt> {
        if let Some(line) = &mut self.line
            // What has come in meanwhile tells whether the connection still stands.
            && let Some(Err(trouble)) = line.hear(&self.dialer.client_id).now_or_never()
        {
            self.broken(trouble);
        }
        let known = self.line.is_some();
        if !known {
            self.dial().await.map_err(Halt::Broken)?;
        }
        let Some(mut line) = self.line.take() else { return Err(Halt::Broken("not connected".into())) };
        let before = *done;
        let result = match self.qos {
            0 => self.fire(&mut line, parcels, done).await,
            _ => {
                if !known {
                    self.resume_handshakes(&mut line, stages, *done);
                }
                self.confirm(&mut line, parcels, stages, done).await
            }
        };
        match &result {
            Err(Halt::Broken(_)) => {
                let suspect = parcels.get(*done).is_some_and(|parcel| size_of(parcel) > SUSPECT);
                self.strikes = if suspect && *done == before { self.strikes + 1 } else { 0 };
                self.careful = *done == before;
            }
            _ => {
                (self.careful, self.strikes) = (false, 0);
                self.line = Some(line);
            }
        }
        result
    }

    /// QoS 0: done when it is written.
    async fn fire(&self, line: &mut Line, parcels: &[Parcel], done: &mut usize) -> Result<(), Halt> {
        let mut put = *done;
        while *done < parcels.len() {
            let mut refused = Ok(());
            while put < parcels.len() && line.wire.waiting() < BURST {
                refused = self.put(line, &parcels[put], put, 0, false);
                if refused.is_err() {
                    break;
                }
                put += 1;
            }
            unless_silent(line.wire.flush()).await.map_err(Halt::Broken)?;
            *done = put;
            self.progress();
            refused?;
        }
        Ok(())
    }

    /// What to do on a new connection with what was on its way on the last.
    fn resume_handshakes(&self, line: &mut Line, stages: &mut [Stage], done: usize) {
        for (at, stage) in stages.iter_mut().enumerate().skip(done) {
            match stage {
                // A session that is kept needs the rest of the exchange, not the message again.
                Stage::Released if line.session => line.wire.put_ack(Ack::Pubrel, self.id(at)),
                Stage::Sent if line.session => *stage = Stage::Again,
                Stage::Sent | Stage::Released | Stage::Again => *stage = Stage::Waiting,
                Stage::Waiting | Stage::Confirmed => {}
            }
        }
    }

    /// QoS 1 and 2: done when it is confirmed.
    async fn confirm(
        &self,
        line: &mut Line,
        parcels: &[Parcel],
        stages: &mut [Stage],
        done: &mut usize,
    ) -> Result<(), Halt> {
        let window = if self.careful { 1 } else { line.window };
        let mut put = *done;
        let mut flying = stages.iter().filter(|stage| **stage == Stage::Released).count();
        let mut heard: Option<Stopwatch> = None;
        // The first that is not taken; those before it are still waited for.
        let mut refused: Option<(usize, Fault)> = None;
        loop {
            while put < parcels.len() && flying < window && refused.is_none() && line.wire.waiting() < BURST {
                if matches!(stages[put], Stage::Waiting | Stage::Again) {
                    match self.put(line, &parcels[put], put, self.id(put), stages[put] == Stage::Again) {
                        Ok(()) => {
                            stages[put] = Stage::Sent;
                            flying += 1;
                        }
                        Err(Halt::At(at, fault)) => refused = Some((at, fault)),
                        Err(broken) => return Err(broken),
                    }
                }
                put += 1;
            }
            unless_silent(line.wire.flush()).await.map_err(Halt::Broken)?;
            while stages.get(*done) == Some(&Stage::Confirmed) {
                *done += 1;
            }
            match refused {
                Some((at, fault)) if at == *done => return Err(Halt::At(at, fault)),
                _ if *done == parcels.len() => return Ok(()),
                _ => {}
            }
            let mut packet = line.wire.next()?;
            if packet.is_none() && flying > 0 {
                // Confirmations come one by one; after the first a pause gathers many for one read.
                if flying > 1 && window > SMALL && heard.is_some_and(|heard: Stopwatch| heard.elapsed() < PACE) {
                    sleep(PACE).await;
                }
                heard = Some(Stopwatch::start());
                unless_silent(line.wire.fill()).await.map_err(Halt::Broken)?;
                packet = line.wire.next()?;
            }
            while let Some(found) = packet.take() {
                packet = line.wire.next()?;
                let Packet::Ack(ack, id, reason) = found else {
                    if let Packet::Closed(reason) = found {
                        return Err(Halt::Broken(closed(reason, &self.dialer.client_id)));
                    }
                    continue;
                };
                let Some(at) = self.place(id, *done).filter(|at| *at < stages.len()) else { continue };
                match (ack, stages[at]) {
                    (Ack::Puback, Stage::Sent) | (Ack::Pubrec, Stage::Sent) if reason >= 0x80 => {
                        flying -= 1;
                        stages[at] = Stage::Waiting;
                        if refused.as_ref().is_none_or(|(other, _)| at < *other) {
                            refused = Some((at, refusal(reason, parcels[at].prop("topic", &self.topic))));
                        }
                    }
                    (Ack::Pubrec, Stage::Sent | Stage::Released) => {
                        stages[at] = Stage::Released;
                        line.wire.put_ack(Ack::Pubrel, id);
                    }
                    (Ack::Puback, Stage::Sent) | (Ack::Pubcomp, Stage::Released) => {
                        flying -= 1;
                        stages[at] = Stage::Confirmed;
                    }
                    _ => {}
                }
            }
            self.progress();
        }
    }

    /// Packet id of a parcel of this delivery.
    fn id(&self, at: usize) -> u16 {
        ((self.next + at) % usize::from(u16::MAX)) as u16 + 1
    }

    /// The parcel with this packet id, of those from `done` on.
    fn place(&self, id: u16, done: usize) -> Option<usize> {
        let all = usize::from(u16::MAX);
        let first = (self.next + done) % all;
        Some(done + (usize::from(id.checked_sub(1)?) + all - first) % all)
    }

    fn put(&self, line: &mut Line, parcel: &Parcel, at: usize, id: u16, again: bool) -> Result<(), Halt> {
        let refuse = |text: String| Err(Halt::At(at, Fault::refused(text)));
        let Content::Bytes(payload) = &parcel.content else {
            return Err(Halt::At(at, Fault::bug("the mqtt sink was given rows")));
        };
        let topic = parcel.prop("topic", &self.topic);
        if topic.is_empty() || topic.contains(['+', '#', '\0']) || topic.len() > u16::MAX.into() {
            return refuse(format!("cannot publish on the topic `{topic}`: a topic has no wildcards and is not empty"));
        }
        let properties: Vec<(&str, &str)> = match self.dialer.version {
            Version::V5 => {
                self.properties.iter().map(|(name, path, value)| (name.as_str(), parcel.prop(path, value))).collect()
            }
            _ => Vec::new(),
        };
        if properties.iter().any(|(name, value)| name.len().max(value.len()) > u16::MAX.into()) {
            return refuse(format!("cannot publish on `{topic}`: a user property is longer than 65535 bytes"));
        }
        let head = Head { topic, qos: self.qos, retain: self.retained, again, id, properties: &properties };
        let size = line.wire.size(&head, payload);
        if size > LARGEST || size + 5 > line.largest {
            let most = line.largest;
            return refuse(format!(
                "cannot publish a message of {size} bytes on `{topic}`: the broker takes {most} at most"
            ));
        }
        line.wire.put_publish(&head, payload);
        Ok(())
    }
}

impl Line {
    /// Reads what comes while nothing is on its way; returns when something came.
    async fn hear(&mut self, client_id: &str) -> Result<(), String> {
        self.wire.fill().await.map_err(|error| lost(&error))?;
        while let Some(packet) = self.wire.next()? {
            if let Packet::Closed(reason) = packet {
                return Err(closed(reason, client_id));
            }
        }
        Ok(())
    }
}

fn size_of(parcel: &Parcel) -> usize {
    match &parcel.content {
        Content::Bytes(payload) => payload.len(),
        Content::Rows(_) => 0,
    }
}

/// What it means that a broker confirms a message with a failure.
fn refusal(reason: u8, topic: &str) -> Fault {
    match reason {
        0x87 => Fault::refused(format!(
            "the broker refuses the message on `{topic}`: not authorized; check the rights of the user"
        )),
        0x90 => Fault::refused(format!("the broker refuses the topic `{topic}`")),
        0x99 => Fault::refused(format!("the broker refuses the format of the message on `{topic}`")),
        // Of no PUBACK in the standard, but mosquitto says it beyond its `message_size_limit`.
        0x95 => Fault::refused(format!("the broker refuses the message on `{topic}`: it is too large")),
        0x97 => Fault::unreachable("the broker's quota is used up"),
        code => Fault::unreachable(format!("the broker did not take a message on `{topic}`, reason {code:#04x}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::diag::Whose;

    use super::*;

    #[test]
    fn what_a_broker_never_takes_is_refused_and_the_rest_is_tried_again() {
        for reason in [0x87, 0x90, 0x95, 0x99] {
            assert_eq!(refusal(reason, "t").whose(), Whose::Row, "{reason:#04x}");
        }
        for reason in [0x80, 0x83, 0x97] {
            assert_ne!(refusal(reason, "t").whose(), Whose::Row, "{reason:#04x}");
        }
    }
}
