//! The contract's structs, flattened into bytes and back.
//!
//! A message is a run of words of eight bytes: its length in bytes, what it is, and what belongs to it. A list of values
//! is the very array of the contract, and behind it, value by value, what its pointers lead to; so reading is one pass
//! that checks lengths and sets pointers into the message, and copies nothing. Nothing in a message is believed: whoever
//! reads gets an error for bytes that no writer made, never a pointer out of the message, and never more work than the
//! message is long.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::size_of;

use kuiper_plugin::abi;
use kuiper_plugin::abi::tag;
use kuiper_plugin::since;

/// Bytes of a word, to which everything is aligned.
const WORD: usize = 8;
/// Length, and what it is.
pub const HEAD: usize = 2 * WORD;
/// Values within one another.
const DEEPEST: u32 = 512;
/// Rows that a batch without columns may have.
const BARE: u64 = 1 << 24;

/// In place of a value of an output: the text is why there is none.
pub const FAILED: u32 = 100;

/// Bytes that no writer made.
#[derive(Debug, PartialEq)]
pub struct Broken;

/// A message that is being made.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new(what: u64) -> Writer {
        let mut writer = Writer { bytes: Vec::with_capacity(512) };
        writer.word(0).word(what);
        writer
    }

    /// What has no head, and will be a part of a message.
    pub fn part() -> Writer {
        Writer { bytes: Vec::new() }
    }

    /// The whole message.
    pub fn finish(&mut self) -> &[u8] {
        let length = (self.bytes.len() - HEAD) as u64;
        self.bytes[..WORD].copy_from_slice(&length.to_ne_bytes());
        &self.bytes
    }

    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    pub fn word(&mut self, word: u64) -> &mut Writer {
        self.bytes.extend_from_slice(&word.to_ne_bytes());
        self
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.word(bytes.len() as u64);
        self.padded(bytes);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Writer {
        self.bytes(text.as_bytes())
    }

    /// What another writer made.
    pub fn append(&mut self, part: &[u8]) -> &mut Writer {
        self.bytes.extend_from_slice(part);
        self
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let odd = bytes.len() % WORD;
        if odd != 0 {
            self.bytes.extend_from_slice(&[0; WORD][odd..]);
        }
    }

    /// # Safety
    /// The text is valid for the call.
    pub unsafe fn str(&mut self, text: abi::Str) -> &mut Writer {
        // SAFETY: see above.
        self.bytes(unsafe { text.as_bytes() })
    }

    /// Values with their number.
    ///
    /// # Safety
    /// The values keep the contract.
    pub unsafe fn values(&mut self, values: &[abi::Value]) -> &mut Writer {
        self.word(values.len() as u64);
        // SAFETY: see above.
        unsafe { self.flattened(values) };
        self
    }

    /// Values whose number the reader knows.
    ///
    /// # Safety
    /// The values keep the contract.
    pub unsafe fn flattened(&mut self, values: &[abi::Value]) {
        // SAFETY: see above.
        unsafe { self.flat(values, 0) };
    }

    /// A failure in the place of a value.
    pub fn failed(&mut self, text: &[u8]) {
        let value =
            abi::Value { tag: FAILED, extra: 0, len: text.len() as u64, data: abi::Data { pointer: std::ptr::null() } };
        // SAFETY: a value has no padding.
        self.bytes.extend_from_slice(unsafe { plain(std::slice::from_ref(&value)) });
        self.padded(text);
    }

    unsafe fn flat(&mut self, values: &[abi::Value], depth: u32) {
        let at = self.bytes.len();
        // SAFETY: values and members have no padding; pointers keep the contract.
        unsafe {
            self.bytes.extend_from_slice(plain(values));
            for (number, value) in values.iter().enumerate() {
                self.payload(value, at + number * size_of::<abi::Value>(), depth);
            }
        }
    }

    /// What a value leads to; the value itself stands at that place.
    unsafe fn payload(&mut self, value: &abi::Value, at: usize, depth: u32) {
        // SAFETY: the contract: the tag says what the pointer leads to.
        unsafe {
            let (pointer, len) = (value.data.pointer, value.len as usize);
            match value.tag {
                tag::TEXT | tag::BYTES | tag::ARRAY | tag::OBJECT if pointer.is_null() => self.patch(at, 8, 0),
                tag::TEXT | tag::BYTES => self.padded(listed(pointer.cast(), len)),
                tag::ARRAY | tag::OBJECT if depth >= DEEPEST => self.patch(at, 0, u64::from(tag::NULL)),
                tag::ARRAY => self.flat(listed(pointer.cast(), len), depth + 1),
                tag::OBJECT => {
                    let members: &[abi::Member] = listed(pointer.cast(), len);
                    let at = self.bytes.len();
                    self.bytes.extend_from_slice(plain(members));
                    for (number, member) in members.iter().enumerate() {
                        let at = at + number * size_of::<abi::Member>();
                        let key = member.key.as_bytes();
                        if key.is_empty() {
                            // A null pointer may come with any length.
                            self.bytes[at..at + size_of::<abi::Str>()].fill(0);
                        }
                        self.padded(key);
                        self.payload(&member.value, at + size_of::<abi::Str>(), depth + 1);
                    }
                }
                _ => {}
            }
        }
    }

    fn patch(&mut self, at: usize, offset: usize, word: u64) {
        self.bytes[at + offset..at + offset + WORD].copy_from_slice(&word.to_ne_bytes());
    }

    /// # Safety
    /// The batch keeps the contract.
    pub unsafe fn batch(&mut self, batch: *const abi::Batch) -> &mut Writer {
        // SAFETY: see above. An older guest's batch is shorter, so that no reference to the whole may be made.
        unsafe {
            let (width, height) = ((*batch).width, (*batch).height);
            let (columns, times, metas) = ((*batch).columns, (*batch).times, (*batch).metas);
            let properties = since!(batch, properties, std::ptr::null());
            self.word(width as u64).word(height as u64);
            self.word(present(columns) | present(times) << 1 | present(metas) << 2 | present(properties) << 3);
            listed(columns, width).iter().for_each(|name| {
                self.str(*name);
            });
            self.flattened(listed((*batch).values, width.saturating_mul(height)));
            self.bytes.extend_from_slice(plain(listed(times, height)));
            self.flattened(listed(metas, height));
            self.flattened(listed(properties, 1));
        }
        self
    }

    /// Some rows of a batch of arguments.
    ///
    /// # Safety
    /// The batch keeps the contract, and has that row.
    pub unsafe fn argument_row(&mut self, batch: *const abi::Batch, row: usize) -> &mut Writer {
        // SAFETY: see above.
        unsafe {
            let width = (*batch).width;
            self.word(width as u64).word(1).word(0);
            let values = listed((*batch).values, width.saturating_mul((*batch).height));
            self.flattened(&values[row * width..(row + 1) * width]);
        }
        self
    }

    /// # Safety
    /// The messages keep the contract.
    pub unsafe fn messages(&mut self, all: *const abi::Messages) -> &mut Writer {
        // SAFETY: see above; those of an older guest are shorter.
        unsafe {
            let count = (*all).count;
            let (times, metas) = ((*all).times, (*all).metas);
            let properties = since!(all, properties, std::ptr::null());
            self.word(count as u64).word(present(times) << 1 | present(metas) << 2 | present(properties) << 3);
            listed((*all).payloads, count).iter().for_each(|payload| {
                self.str(*payload);
            });
            self.bytes.extend_from_slice(plain(listed(times, count)));
            self.flattened(listed(metas, count));
            self.flattened(listed(properties, count));
        }
        self
    }
}

fn present<T>(pointer: *const T) -> u64 {
    u64::from(!pointer.is_null())
}

/// # Safety
/// `pointer` is null, or leads to `count` items.
unsafe fn listed<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if pointer.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

/// # Safety
/// `T` has no padding.
unsafe fn plain<T>(items: &[T]) -> &[u8] {
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts(items.as_ptr().cast(), std::mem::size_of_val(items)) }
}

/// A message that has come.
pub struct Message {
    pub what: u64,
    words: Vec<u64>,
}

impl Message {
    /// One of so many words, to be filled.
    pub fn of(what: u64, words: Vec<u64>) -> Message {
        Message { what, words }
    }

    /// Reads it from its beginning. What was read before must not be used any more, for pointers are set anew.
    pub fn read(&mut self) -> Reader<'_> {
        let len = self.words.len() * WORD;
        Reader { base: self.words.as_mut_ptr().cast(), at: 0, len, lives: PhantomData }
    }
}

/// The rest of a message.
pub struct Reader<'m> {
    base: *mut u8,
    at: usize,
    len: usize,
    lives: PhantomData<&'m mut [u64]>,
}

/// A batch that lies in a message; the struct leads to it as long as both live.
pub struct ReadBatch {
    pub raw: abi::Batch,
    /// What the struct leads to.
    _columns: Vec<abi::Str>,
}

/// Messages that lie in a message.
pub struct ReadMessages {
    pub raw: abi::Messages,
    _payloads: Vec<abi::Str>,
}

impl<'m> Reader<'m> {
    /// The next bytes, and what is needed to align the next ones.
    fn take(&mut self, bytes: usize) -> Result<*mut u8, Broken> {
        let padded =
            bytes.checked_next_multiple_of(WORD).filter(|padded| *padded <= self.len - self.at).ok_or(Broken)?;
        // SAFETY: it lies within the message.
        let pointer = unsafe { self.base.add(self.at) };
        self.at += padded;
        Ok(pointer)
    }

    fn take_items<T>(&mut self, count: u64) -> Result<*mut T, Broken> {
        let count = usize::try_from(count).map_err(|_| Broken)?;
        self.take(count.checked_mul(size_of::<T>()).ok_or(Broken)?).map(|pointer| pointer.cast())
    }

    pub fn word(&mut self) -> Result<u64, Broken> {
        // SAFETY: a word was taken, and words are aligned.
        self.take(WORD).map(|pointer| unsafe { pointer.cast::<u64>().read() })
    }

    pub fn bytes(&mut self) -> Result<&'m [u8], Broken> {
        let len = self.word()?;
        let pointer = self.take_items::<u8>(len)?;
        // SAFETY: so many bytes were taken; they live as long as the message.
        Ok(unsafe { std::slice::from_raw_parts(pointer, len as usize) })
    }

    /// Text; what is not UTF-8 is replaced.
    pub fn text(&mut self) -> Result<String, Broken> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub fn str(&mut self) -> Result<abi::Str, Broken> {
        self.bytes().map(abi::Str::bytes)
    }

    /// The rest, unread.
    #[cfg(test)]
    pub fn rest(&mut self) -> &'m [u8] {
        let rest = self.len - self.at;
        // SAFETY: the rest lies within the message.
        let bytes = unsafe { std::slice::from_raw_parts(self.base.add(self.at), rest) };
        self.at = self.len;
        bytes
    }

    /// What is `n` items at least could not be in what is left.
    fn fits(&self, items: u64, each: usize) -> Result<usize, Broken> {
        usize::try_from(items).ok().filter(|items| *items <= (self.len - self.at) / each).ok_or(Broken)
    }

    pub fn values(&mut self) -> Result<&'m [abi::Value], Broken> {
        let count = self.word()?;
        self.counted(count)
    }

    fn counted(&mut self, count: u64) -> Result<&'m [abi::Value], Broken> {
        let values = self.restored(count, 0)?;
        // SAFETY: so many values were taken.
        Ok(unsafe { std::slice::from_raw_parts(values, count as usize) })
    }

    /// One value, as [`Writer::flattened`] writes it.
    pub fn value(&mut self) -> Result<abi::Value, Broken> {
        // SAFETY: one was taken.
        self.restored(1, 0).map(|value| unsafe { value.read() })
    }

    fn restored(&mut self, count: u64, depth: u32) -> Result<*mut abi::Value, Broken> {
        if depth > DEEPEST + 1 {
            return Err(Broken);
        }
        let values = self.take_items::<abi::Value>(count)?;
        for number in 0..count as usize {
            // SAFETY: so many values were taken, and are aligned.
            unsafe { self.restore(&mut *values.add(number), depth)? };
        }
        Ok(values)
    }

    fn restore(&mut self, value: &mut abi::Value, depth: u32) -> Result<(), Broken> {
        let pointer: *mut c_void = match value.tag {
            tag::TEXT | tag::BYTES | FAILED => self.take_items::<u8>(value.len)?.cast(),
            tag::ARRAY => self.restored(value.len, depth + 1)?.cast(),
            tag::OBJECT => {
                if depth > DEEPEST {
                    return Err(Broken);
                }
                let members = self.take_items::<abi::Member>(value.len)?;
                for number in 0..value.len as usize {
                    // SAFETY: so many members were taken, and are aligned.
                    let member = unsafe { &mut *members.add(number) };
                    member.key.pointer = self.take_items::<u8>(member.key.len as u64)?;
                    self.restore(&mut member.value, depth + 1)?;
                }
                members.cast()
            }
            tag::NULL | tag::BOOL | tag::INT | tag::FLOAT | tag::TIME | tag::MISSING => return Ok(()),
            _ => {
                *value = abi::Value::NULL;
                return Ok(());
            }
        };
        value.data.pointer = pointer;
        Ok(())
    }

    fn strs(&mut self, count: u64) -> Result<Vec<abi::Str>, Broken> {
        let count = self.fits(count, WORD)?;
        (0..count).map(|_| self.str()).collect()
    }

    fn optional<T>(&mut self, there: bool, count: u64) -> Result<*const T, Broken> {
        if there { self.take_items::<T>(count).map(|pointer| pointer.cast_const()) } else { Ok(std::ptr::null()) }
    }

    fn optional_values(&mut self, there: bool, count: u64) -> Result<*const abi::Value, Broken> {
        if there { self.counted(count).map(<[_]>::as_ptr) } else { Ok(std::ptr::null()) }
    }

    pub fn batch(&mut self) -> Result<ReadBatch, Broken> {
        let (width, height, there) = (self.word()?, self.word()?, self.word()?);
        if width == 0 && height > BARE {
            return Err(Broken);
        }
        let columns = self.strs(if there & 1 != 0 { width } else { 0 })?;
        let values = self.counted(width.checked_mul(height).ok_or(Broken)?)?;
        let times = self.optional(there & 2 != 0, height)?;
        let metas = self.optional_values(there & 4 != 0, height)?;
        let properties = self.optional_values(there & 8 != 0, 1)?;
        let raw = abi::Batch {
            size: size_of::<abi::Batch>() as u32,
            flags: 0,
            columns: if there & 1 != 0 { columns.as_ptr() } else { std::ptr::null() },
            width: width as usize,
            height: height as usize,
            values: values.as_ptr(),
            times,
            metas,
            properties,
        };
        Ok(ReadBatch { raw, _columns: columns })
    }

    pub fn messages(&mut self) -> Result<ReadMessages, Broken> {
        let (count, there) = (self.word()?, self.word()?);
        let payloads = self.strs(count)?;
        let times = self.optional(there & 2 != 0, count)?;
        let metas = self.optional_values(there & 4 != 0, count)?;
        let properties = self.optional_values(there & 8 != 0, count)?;
        let raw = abi::Messages {
            size: size_of::<abi::Messages>() as u32,
            flags: 0,
            count: payloads.len(),
            payloads: payloads.as_ptr(),
            times,
            metas,
            properties,
        };
        Ok(ReadMessages { raw, _payloads: payloads })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::super::cross::{Arena, messages, rows, taken};
    use super::*;
    use crate::data::{Object, Value};

    fn arrived(bytes: &[u8]) -> Message {
        let words = bytes[HEAD..].chunks(WORD).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
        Message::of(u64::from_ne_bytes(bytes[WORD..HEAD].try_into().unwrap()), words)
    }

    fn all() -> Vec<Value> {
        let object = Object::from_iter([("k", Value::Null), ("", Value::text("of an empty name"))]);
        let deep = (0..300).fold(Value::Int(1), |value, _| Value::array(vec![value]));
        vec![
            Value::Absent,
            Value::Null,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Float(0.5),
            Value::text(""),
            Value::text("a text of more than twenty-four bytes"),
            Value::bytes(b"\x00\xff"),
            Value::array(vec![Value::object(object), Value::array(vec![])]),
            deep,
        ]
    }

    #[test]
    fn values_come_back_as_they_went() {
        let all = all();
        let mut arena = Arena::default();
        let lent: Vec<abi::Value> = all.iter().map(|value| arena.lend(value)).collect();
        let mut writer = Writer::new(7);
        unsafe { writer.values(&lent).word(42) };
        let mut message = arrived(writer.finish());
        assert_eq!(message.what, 7);
        let mut reader = message.read();
        let back: Vec<Value> = reader.values().unwrap().iter().map(|value| unsafe { taken(value) }).collect();
        assert_eq!(back[..9], all[..9]);
        assert_eq!(reader.word(), Ok(42));
        assert_eq!(reader.word(), Err(Broken));
    }

    #[test]
    fn batches_and_messages_come_back_as_they_went() {
        let mut arena = Arena::default();
        let meta = Value::object(Object::from_iter([("topic", Value::text("a/b"))]));
        let (columns, times) = ([abi::Str::new("a"), abi::Str::new("b")], [1, abi::NO_TIME]);
        let values = [abi::Value::int(1), abi::Value::text("x"), abi::Value::MISSING, abi::Value::NULL];
        let metas = [arena.lend(&meta), arena.lend(&meta)];
        let batch = abi::Batch {
            size: size_of::<abi::Batch>() as u32,
            flags: 0,
            columns: columns.as_ptr(),
            width: 2,
            height: 2,
            values: values.as_ptr(),
            times: times.as_ptr(),
            metas: metas.as_ptr(),
            properties: std::ptr::null(),
        };
        let payloads = [abi::Str::new("one"), abi::Str::new("")];
        let sent = abi::Messages {
            size: size_of::<abi::Messages>() as u32,
            flags: 0,
            count: 2,
            payloads: payloads.as_ptr(),
            times: std::ptr::null(),
            metas: metas.as_ptr(),
            properties: std::ptr::null(),
        };
        let mut writer = Writer::new(1);
        unsafe { writer.batch(&batch).messages(&sent) };
        let mut message = arrived(writer.finish());
        let mut reader = message.read();
        let batch = reader.batch().unwrap();
        assert_eq!((batch.raw.width, batch.raw.properties.is_null()), (2, true));
        let back = unsafe { rows(&batch.raw) };
        assert_eq!(back[0].object, Object::from_iter([("a", Value::Int(1)), ("b", Value::text("x"))]));
        assert_eq!((back[1].object.len(), back[0].time, back[1].time), (1, Some(1), None));
        let read = reader.messages().unwrap();
        assert_eq!(read.raw.count, 2);
        let back = unsafe { messages(&read.raw) };
        assert_eq!((&back[0].0[..], &back[1].0[..], back[0].2.len()), (&b"one"[..], &b""[..], 1));
    }

    #[test]
    fn whatever_the_bytes_they_are_values_or_an_error() {
        let all = all();
        let mut arena = Arena::default();
        let lent: Vec<abi::Value> = all.iter().map(|value| arena.lend(value)).collect();
        let mut writer = Writer::new(7);
        unsafe { writer.values(&lent) };
        let good = writer.finish()[..2000].to_vec();
        let (mut read, mut refused) = (0, 0);
        for bit in HEAD * 8..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut message = arrived(&flipped);
            match message.read().values() {
                Ok(values) => {
                    values.iter().for_each(|value| drop(unsafe { taken(value) }));
                    read += 1;
                }
                Err(Broken) => refused += 1,
            }
        }
        assert!(read + refused > 10_000 && refused > 1000, "{read} {refused}");
        let mut huge = Writer::new(1);
        huge.word(u64::MAX).word(u64::MAX).word(15);
        assert!(arrived(huge.finish()).read().batch().is_err());
        assert!(arrived(huge.finish()).read().values().is_err());
        assert!(arrived(huge.finish()).read().messages().is_err());
    }
}
