use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::clock::Time;
use crate::data::{Acknowledge, SourceAck};
use crate::io::{Message, Payload};

/// What a source was told of its messages.
#[derive(Default)]
pub struct Acks(Mutex<BTreeMap<u64, Vec<bool>>>);

impl Acknowledge for Acks {
    fn done(&self, id: u64, good: bool) {
        self.0.lock().unwrap().entry(id).or_default().push(good);
    }
}

impl Acks {
    /// The messages that the source may forget.
    pub fn good(&self) -> Vec<u64> {
        self.told(true)
    }

    /// The messages that it is to give again.
    pub fn bad(&self) -> Vec<u64> {
        self.told(false)
    }

    fn told(&self, good: bool) -> Vec<u64> {
        let all = self.0.lock().unwrap();
        for (id, told) in &*all {
            assert_eq!(told.len(), 1, "message {id} was acknowledged more than once: {told:?}");
        }
        all.iter().filter(|(_, told)| told[0] == good).map(|(id, _)| *id).collect()
    }

    pub fn message(self: &Arc<Self>, id: u64, text: &str) -> Message {
        let payload = Payload::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        Message { payload, time: Time(0), meta: None, ack: Some(SourceAck::new(self.clone(), id)), delivery: None }
    }

    /// `{"a":id}`
    pub fn row(self: &Arc<Self>, id: u64) -> Message {
        self.message(id, &format!("{{\"a\":{id}}}"))
    }

    pub fn rows(self: &Arc<Self>, ids: impl IntoIterator<Item = u64>) -> Vec<Message> {
        ids.into_iter().map(|id| self.row(id)).collect()
    }
}

/// `{"a":n}` for each.
pub fn texts(ids: impl IntoIterator<Item = u64>) -> Vec<String> {
    ids.into_iter().map(|id| format!("{{\"a\":{id}}}")).collect()
}
