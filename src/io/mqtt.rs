//! `mqtt`: a source that subscribes to a broker and a sink that publishes on one; MQTT 3.1, 3.1.1 and 5, TCP and TLS.
//!
//! A [`wire::Wire`] is one connection: it frames packets over a socket and knows nothing of time or retries. A
//! [`dial::Dialer`] makes one, and says in a sentence why it could not. The source and the sink each own one wire and
//! drive it from their own task: they read and write in bursts, keep it alive, and make a new one when it breaks.
//!
//! CONNECT, SUBSCRIBE and their answers are put together and taken apart by rumqttc. What comes by the thousand is done
//! here: messages are slices of the bytes read, and all acknowledgements or messages of a burst leave in one write.
//!
//! An incoming message of QoS 1 or 2 is acknowledged when its [`SourceAck`](crate::data::SourceAck) comes home: at
//! QoS 1 by PUBACK, at QoS 2 by PUBREC, so a message may come twice after a lost connection, and is never lost.

mod dial;
mod hello;
mod options;
mod sink;
mod source;
mod wire;

use super::{Connector, props};

pub(super) const CONNECTOR: Connector = Connector {
    name: "mqtt",
    about: "Subscribe to topics of an MQTT broker, and publish on them.",
    defaults: include_str!("../../config/sources/mqtt.yaml"),
    source: Some(source::plan),
    sink: Some(sink::plan),
    lookup: None,
    source_schema: Some(props::schema::<options::SourceOptions>),
    sink_schema: Some(props::schema::<options::SinkOptions>),
};
