//! Values and rows on their way over the line: lent to a guest for a call, copied when they come from one.

use std::ffi::c_void;

use bytes::Bytes;
use jiff::tz::{Offset, TimeZone};
use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, tag};
use serde_json::{Map, Value as Json};

use crate::data::{DateTime, Object, Text, Value};
use crate::diag::Fault;

/// Keeps what lent values lead to, besides the values that they were made of.
#[derive(Default)]
pub struct Arena {
    arrays: Vec<Box<[abi::Value]>>,
    objects: Vec<Box<[abi::Member]>>,
}

impl Arena {
    /// A view of the value. It is good as long as both the value and the arena live.
    pub fn lend(&mut self, value: &Value) -> abi::Value {
        match value {
            Value::Absent => abi::Value::MISSING,
            Value::Null => abi::Value::NULL,
            Value::Bool(value) => abi::Value::bool(*value),
            Value::Int(value) => abi::Value::int(*value),
            Value::Float(value) => abi::Value::float(*value),
            Value::Text(value) => abi::Value::text(value),
            Value::Bytes(value) => abi::Value::bytes(value),
            Value::Time(value) => abi::Value::time(nanos(value), value.offset().seconds()),
            Value::Array(items) => {
                let lent: Box<[_]> = items.iter().map(|item| self.nested(item)).collect();
                let view = abi::Value::array(&lent);
                self.arrays.push(lent);
                view
            }
            Value::Object(object) => {
                let member =
                    |(key, value): (&Text, &Value)| abi::Member { key: abi::Str::new(key), value: self.nested(value) };
                let lent: Box<[_]> = object.iter().map(member).collect();
                let view = abi::Value::object(&lent);
                self.objects.push(lent);
                view
            }
        }
    }

    /// Only cells of rows can be missing.
    fn nested(&mut self, value: &Value) -> abi::Value {
        if matches!(value, Value::Absent) { abi::Value::NULL } else { self.lend(value) }
    }
}

/// A copy of a guest's value. Nesting beyond what JSON may have is cut off as null.
///
/// # Safety
/// The value keeps the contract: its tag tells the truth, and pointers lead to what they say for the call.
pub unsafe fn taken(value: &abi::Value) -> Value {
    // SAFETY: see above.
    unsafe { taken_at(value, 128) }
}

unsafe fn taken_at(value: &abi::Value, depth: u32) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    // SAFETY: the contract, see `taken`.
    unsafe {
        match value.tag {
            tag::BOOL => Value::Bool(value.data.int != 0),
            tag::INT => Value::Int(value.data.int),
            tag::FLOAT => Value::Float(value.data.float),
            tag::TEXT => Value::Text(Text::from_utf8_lossy(slice(value))),
            tag::BYTES => Value::bytes(slice(value)),
            tag::TIME => Value::Time(DateTime::new(value.data.int, zone(value.extra))),
            tag::ARRAY => Value::array(slice(value).iter().map(|item| taken_at(item, depth - 1)).collect()),
            tag::OBJECT => {
                let members: &[abi::Member] = slice(value);
                Value::object(members.iter().map(|one| (name(one.key), taken_at(&one.value, depth - 1))).collect())
            }
            tag::MISSING => Value::Absent,
            _ => Value::Null,
        }
    }
}

/// The contract counts nanoseconds in 64 bits; what lies outside of 1677 to 2262 is at the end that is nearer.
fn nanos(time: &DateTime) -> i64 {
    i64::try_from(time.nanos()).unwrap_or(if time.nanos() < 0 { i64::MIN } else { i64::MAX })
}

fn zone(offset: i32) -> TimeZone {
    match Offset::from_seconds(offset) {
        Ok(offset) if offset != Offset::UTC => TimeZone::fixed(offset),
        _ => TimeZone::UTC,
    }
}

/// # Safety
/// The text is valid for the call.
pub unsafe fn name(text: abi::Str) -> Text {
    // SAFETY: see above.
    Text::from_utf8_lossy(unsafe { text.as_bytes() })
}

/// # Safety
/// The tag of the value says that it leads to `len` of `T`.
unsafe fn slice<T>(value: &abi::Value) -> &[T] {
    // SAFETY: see above.
    unsafe { pointed(value.data.pointer.cast(), value.len as usize) }
}

/// # Safety
/// `pointer` is null, or leads to `len` items for the call.
unsafe fn pointed<'a, T>(pointer: *const T, len: usize) -> &'a [T] {
    if pointer.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts(pointer, len) }
}

/// A row that a guest emits.
pub struct Row {
    pub object: Object,
    /// Nanoseconds since 1970.
    pub time: Option<i64>,
    pub meta: Object,
}

/// Copies the rows of a batch.
///
/// # Safety
/// The batch keeps the contract.
pub unsafe fn rows(batch: *const abi::Batch) -> Vec<Row> {
    // SAFETY: the contract. An older guest's batch is shorter, so that no reference to the whole may be made.
    unsafe {
        let (width, height) = ((*batch).width, (*batch).height);
        let (times, metas) = (pointed((*batch).times, height), pointed((*batch).metas, height));
        let names: Vec<Text> = pointed((*batch).columns, width).iter().map(|text| name(*text)).collect();
        let values = pointed((*batch).values, width.saturating_mul(height));
        let row = |n: usize| {
            let cells = &values[n * width..(n + 1) * width];
            let present = names.iter().zip(cells).filter(|(_, cell)| cell.tag != tag::MISSING);
            Row {
                object: present.map(|(name, cell)| (name.clone(), taken(cell))).collect(),
                time: time(times, n),
                meta: meta(metas, n),
            }
        };
        (0..height).map(row).collect()
    }
}

/// Copies messages: payload, time, metadata.
///
/// # Safety
/// The messages keep the contract.
pub unsafe fn messages(all: *const abi::Messages) -> Vec<(Bytes, Option<i64>, Object)> {
    // SAFETY: the contract. An older guest's are shorter, so that no reference to the whole may be made.
    unsafe {
        let count = (*all).count;
        let payloads = pointed((*all).payloads, count);
        let (times, metas) = (pointed((*all).times, count), pointed((*all).metas, count));
        let one = |(n, payload): (usize, &abi::Str)| {
            (Bytes::copy_from_slice(payload.as_bytes()), time(times, n), meta(metas, n))
        };
        payloads.iter().enumerate().map(one).collect()
    }
}

fn time(times: &[i64], n: usize) -> Option<i64> {
    times.get(n).copied().filter(|time| *time != abi::NO_TIME)
}

/// # Safety
/// The values keep the contract.
unsafe fn meta(metas: &[abi::Value], n: usize) -> Object {
    // SAFETY: see above.
    match metas.get(n).map(|value| unsafe { taken(value) }) {
        Some(Value::Object(object)) => (*object).clone(),
        _ => Object::new(),
    }
}

/// Properties as a guest sees them.
pub fn properties(props: &Map<String, Json>) -> Value {
    Value::object(props.iter().map(|(name, value)| (name.as_str(), property(value))).collect())
}

pub fn property(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::array(items.iter().map(property).collect()),
        Json::Object(members) => properties(members),
    }
}

/// Collects the texts of a call's failure.
#[derive(Default)]
pub struct Texts {
    text: String,
    /// With which it was said.
    code: u32,
    /// Rows that were refused while the call went on.
    pub rows: Vec<(usize, Fault)>,
}

impl Texts {
    /// What is handed to the call; good as long as `self` is not moved.
    pub fn fault(&mut self) -> abi::Fault {
        abi::Fault {
            size: std::mem::size_of::<abi::Fault>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast(),
            set: Some(set),
            row: Some(row),
        }
    }

    /// The fault for the code of a call that failed while rows were handed over.
    pub fn refused(&mut self, failed: u32) -> Fault {
        match failed {
            code::NEVER => Fault::refused(self.text()),
            _ => self.setup(failed),
        }
    }

    /// The fault for the code of a call that failed while connecting or provisioning.
    pub fn setup(&mut self, failed: u32) -> Fault {
        match failed {
            code::LATER => Fault::unreachable(self.text()),
            code::NEVER => Fault::setup(self.text()),
            _ => Fault::bug(self.text()),
        }
    }

    /// The fault where making an instance failed, of which there is no code but what was said.
    pub fn unmade(&mut self) -> Fault {
        match self.code {
            code::LATER => Fault::unreachable(self.text()),
            _ => Fault::setup(self.text()),
        }
    }

    pub fn text(&mut self) -> String {
        if self.text.is_empty() {
            "the plugin did not say why it failed".into()
        } else {
            std::mem::take(&mut self.text)
        }
    }
}

unsafe extern "C" fn set(this: *const abi::Fault, code: u32, text: abi::Str) {
    // SAFETY: `host` leads to the `Texts` that made the fault, and only the call that runs uses it.
    let texts = unsafe { &mut *(*this).host.cast::<Texts>() };
    texts.code = code;
    // SAFETY: the text is valid for the call.
    texts.text = unsafe { text.to_text() };
}

unsafe extern "C" fn row(this: *const abi::Fault, row: usize, failed: u32, text: abi::Str) {
    // SAFETY: as in `set`.
    let texts = unsafe { &mut *(*this).host.cast::<Texts>() };
    // SAFETY: the text is valid for the call.
    let text = unsafe { text.to_text() };
    texts.rows.push((row, if failed == code::BUG { Fault::bug(text) } else { Fault::refused(text) }));
}

/// Collects the values that a call puts.
#[derive(Default)]
pub struct Taken(pub Vec<Result<Value, Fault>>);

impl Taken {
    /// What is handed to the call; good as long as `self` is not moved.
    pub fn output(&mut self) -> abi::Output {
        abi::Output {
            size: std::mem::size_of::<abi::Output>() as u32,
            reserved: 0,
            host: std::ptr::from_mut(self).cast::<c_void>(),
            put: Some(put),
            fail: Some(fail),
        }
    }
}

unsafe extern "C" fn put(this: *const abi::Output, values: *const abi::Value, count: usize) {
    // SAFETY: `host` leads to the `Taken` that made the output; the values keep the contract.
    unsafe {
        let all = &mut (*(*this).host.cast::<Taken>()).0;
        all.extend(pointed(values, count).iter().map(|value| {
            Ok(match value.tag {
                // What most functions give.
                tag::INT => Value::Int(value.data.int),
                tag::FLOAT => Value::Float(value.data.float),
                tag::MISSING => Value::Null,
                _ => taken(value),
            })
        }));
    }
}

unsafe extern "C" fn fail(this: *const abi::Output, text: abi::Str) {
    // SAFETY: as in `put`.
    unsafe { (*(*this).host.cast::<Taken>()).0.push(Err(Fault::eval(text.to_text()))) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went() {
        let inner = Object::from_iter([("k", Value::Null), ("at", Value::Time(DateTime::new(-5, TimeZone::UTC)))]);
        let all = Value::array(vec![
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Float(0.5),
            Value::text("a text of more than twenty-four bytes"),
            Value::bytes(b"\x00\xff"),
            Value::object(inner),
            Value::array(vec![]),
        ]);
        let mut arena = Arena::default();
        let lent = arena.lend(&all);
        assert_eq!(unsafe { taken(&lent) }, all);
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = (0..1000).fold(Value::Int(1), |value, _| Value::array(vec![value]));
        let mut arena = Arena::default();
        let lent = arena.lend(&deep);
        let mut depth = 0;
        let mut value = unsafe { taken(&lent) };
        while let Value::Array(items) = value {
            value = items[0].clone();
            depth += 1;
        }
        assert_eq!((value, depth), (Value::Null, 128));
    }
}
