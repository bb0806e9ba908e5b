//! Messages: what a source or lookup makes for a format to decode, and what a sink takes encoded.

use std::marker::PhantomData;

use crate::abi;
use crate::value::{lent_text, Arena, Owned, Record, Time, Value};

/// A message that a plugin makes; the format of the stream or table decodes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// When it happened; else it is the time of its arrival.
    pub time: Option<Time>,
    /// What else is known of it.
    pub meta: Record,
}

impl<P: Into<Vec<u8>>> From<P> for Message {
    fn from(payload: P) -> Message {
        Message { payload: payload.into(), time: None, meta: Record::new() }
    }
}

/// [`Message`]s as they cross the line.
pub(crate) struct LentMessages<'a> {
    payloads: Vec<abi::Str>,
    times: Vec<i64>,
    metas: Vec<abi::Value>,
    // What `metas` lead to.
    _owned: Vec<Owned>,
    _arena: Arena,
    _of: PhantomData<&'a [Message]>,
}

impl<'a> LentMessages<'a> {
    pub(crate) fn new(messages: &'a [Message]) -> LentMessages<'a> {
        let owned: Vec<Owned> = messages.iter().map(|one| Owned::Object(one.meta.clone())).collect();
        let mut arena = Arena::default();
        LentMessages {
            payloads: messages.iter().map(|one| abi::Str::bytes(&one.payload)).collect(),
            times: messages.iter().map(|one| one.time.map_or(abi::NO_TIME, |time| time.nanos)).collect(),
            metas: owned.iter().map(|meta| arena.lend(meta)).collect(),
            _owned: owned,
            _arena: arena,
            _of: PhantomData,
        }
    }

    /// Valid as long as `self` and what it was made of.
    pub(crate) fn messages(&self) -> abi::Messages {
        abi::Messages {
            size: std::mem::size_of::<abi::Messages>() as u32,
            flags: 0,
            count: self.payloads.len(),
            payloads: self.payloads.as_ptr(),
            times: self.times.as_ptr(),
            metas: self.metas.as_ptr(),
            properties: std::ptr::null(),
        }
    }
}

/// Encoded messages lent to a sink for the call.
#[derive(Clone, Copy)]
pub struct Messages<'a> {
    payloads: &'a [abi::Str],
    properties: &'a [abi::Value],
}

impl<'a> Messages<'a> {
    /// # Safety
    /// `messages` keep the contract, and all that they lead to lives for `'a`.
    pub(crate) unsafe fn lent(messages: *const abi::Messages) -> Messages<'a> {
        let count = (*messages).count;
        let properties: *const abi::Value = since!(messages, properties, std::ptr::null());
        Messages { payloads: array((*messages).payloads, count), properties: array(properties, count) }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Encoded<'a>> {
        let properties = self.properties;
        self.payloads.iter().enumerate().map(move |(n, payload)| Encoded {
            // SAFETY: the contract, see `lent`.
            payload: unsafe { payload.as_bytes() },
            properties: properties.get(n),
        })
    }
}

/// One encoded message.
#[derive(Clone, Copy)]
pub struct Encoded<'a> {
    payload: &'a [u8],
    properties: Option<&'a abi::Value>,
}

impl<'a> Encoded<'a> {
    /// Its bytes.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// What the template in a property of the sink comes to for this message; `None` where the property holds no template.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        match Value::lent(self.properties?) {
            Value::Object(members) => match members.get(name) {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }
}

unsafe fn array<'a, T>(pointer: *const T, len: usize) -> &'a [T] {
    if pointer.is_null() {
        return &[];
    }
    std::slice::from_raw_parts(pointer, len)
}

/// Texts lent for the call.
///
/// # Safety
/// `names` leads to `count` texts that live for `'a`.
pub(crate) unsafe fn names<'a>(names: *const abi::Str, count: usize) -> Vec<&'a str> {
    array(names, count).iter().map(|name| lent_text(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cross_with_time_and_metadata_and_an_older_side_has_no_properties() {
        let given = [Message { time: Some(Time::utc(7)), ..Message::from("a") }, Message::from(vec![0, 255])];
        let lent = LentMessages::new(&given);
        let mut crossing = lent.messages();
        let all: Vec<Encoded<'_>> = unsafe { Messages::lent(&crossing) }.iter().collect();
        assert_eq!((all[0].payload(), all[1].payload(), all.len()), (&b"a"[..], &[0, 255][..], 2));
        assert_eq!(unsafe { [*crossing.times, *crossing.times.add(1)] }, [7, abi::NO_TIME]);
        let value = Owned::Object(Record::new().with("topic", "t/1"));
        let mut arena = Arena::default();
        let properties = [arena.lend(&value), abi::Value::NULL];
        crossing.properties = properties.as_ptr();
        let all: Vec<Encoded<'_>> = unsafe { Messages::lent(&crossing) }.iter().collect();
        assert_eq!(
            (all[0].property("topic"), all[0].property("x"), all[1].property("topic")),
            (Some("t/1"), None, None)
        );
        crossing.size -= std::mem::size_of::<*const abi::Value>() as u32;
        assert_eq!(unsafe { Messages::lent(&crossing) }.iter().next().unwrap().property("topic"), None);
    }
}
