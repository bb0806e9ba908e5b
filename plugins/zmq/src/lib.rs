//! Source and sink `zmq`: messages from a ZeroMQ publisher, and to ZeroMQ's subscribers.
//!
//! The source is a SUB socket that connects, and connects again; the sink a PUB socket that binds. What ZeroMQ promises of the two
//! holds here: a subscriber gets what is published while it is connected and keeps up. What nobody got who wished it is refused; what
//! one of several subscribers did not get, and what nobody had subscribed to, is counted: `missed` and `unsubscribed`.

mod endpoint;
mod publisher;
mod source;
mod wire;

use kuiper_plugin::{BytesSink, Context, Encoded, Error, Messages, Result};

use endpoint::Endpoint;
use publisher::Publisher;

pub use source::ZmqSource;

kuiper_plugin::properties! {
    /// Properties of the sink `zmq`.
    #[derive(Debug)]
    pub struct SinkOptions {
        /// Where subscribers find it: `tcp://*:5563`, `tcp://127.0.0.1:5563`, or `ipc:///run/rows`.
        server: String,
        /// First frame of each message, by which subscribers choose; without it a message is one frame.
        #[dynamic]
        topic: String = String::new(),
    }
}

/// The sink.
#[derive(Default)]
pub struct ZmqSink {
    endpoint: Option<Endpoint>,
    topic: String,
    publisher: Option<Publisher>,
    /// Messages that a subscriber did not get, as far as they were told.
    told: u64,
    /// Messages that nobody had subscribed to, not told yet.
    unsubscribed: u64,
}

impl BytesSink for ZmqSink {
    type Config = SinkOptions;

    fn provision(&mut self, _: &Context, options: SinkOptions) -> Result<()> {
        self.endpoint = Some(Endpoint::read(&options.server)?);
        self.topic = options.topic;
        Ok(())
    }

    fn connect(&mut self, context: &Context) -> Result<()> {
        if self.publisher.is_none() {
            let endpoint = self.endpoint.as_ref().ok_or_else(|| Error::bug("it was not provisioned"))?;
            self.publisher = Some(Publisher::bind(endpoint)?);
        }
        context.connected();
        Ok(())
    }

    fn collect(&mut self, _: &Context, message: Encoded<'_>) -> Result<()> {
        let publisher = self.publisher.as_ref().ok_or_else(|| Error::later("it is not bound"))?;
        let topic = message.property("topic").unwrap_or(&self.topic);
        let given = publisher.publish(topic.as_bytes(), message.payload());
        if given.wished == 0 {
            self.unsubscribed += 1;
        } else if given.taken == 0 {
            return Err(Error::never(match given.wished {
                1 => "the one subscriber that wishes it does not keep up".to_owned(),
                wished => format!("none of the {wished} subscribers that wish it keeps up"),
            }));
        }
        Ok(())
    }

    fn collect_all(&mut self, context: &Context, messages: Messages<'_>, done: &mut usize) -> Result<()> {
        let published = messages.iter().try_for_each(|message| {
            self.collect(context, message)?;
            *done += 1;
            Ok(())
        });
        let missed = self.publisher.as_ref().map_or(0, Publisher::missed);
        self.tell(context, missed);
        published
    }

    fn close(&mut self, context: &Context) -> Result<()> {
        if let Some(publisher) = self.publisher.take() {
            let missed = publisher.close();
            self.tell(context, missed);
        }
        self.told = 0;
        Ok(())
    }
}

impl ZmqSink {
    /// Counts what was not told yet.
    fn tell(&mut self, context: &Context, missed: u64) {
        if missed > self.told {
            context.warn(format!("{} messages were left out for subscribers that do not keep up", missed - self.told));
            self.told = missed;
        }
        if self.unsubscribed > 0 {
            context.count("unsubscribed", self.unsubscribed as i64);
            self.unsubscribed = 0;
        }
    }
}

kuiper_plugin::export! {
    source "Zmq" => constructor(ZmqSource::default) { about: "Subscribes to a ZeroMQ publisher." },
    bytes_sink "Zmq" => constructor(ZmqSink::default) { about: "Publishes to ZeroMQ's subscribers." },
}
