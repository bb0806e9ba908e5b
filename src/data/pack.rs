//! Values as bytes, and back: exact and compact, for what is kept on the disk.
//!
//! Every value comes back as it was: absent and null apart, floats to the bit, datetimes with their zone, names in their
//! order. Whoever reads gets an error for bytes that no value has, never a panic and never more memory than the bytes
//! call for. The bytes of a value end by themselves, so that values can stand one behind the other.

mod bundle;

use std::sync::Arc;

use jiff::tz::{Offset, TimeZone};

use crate::diag::{Fault, Result};

use super::{DateTime, Object, Text, Value};

pub use bundle::{Pack, Packer, bundle, is_bundle, pieces_of, unbundle};

const SECOND: i128 = 1_000_000_000;

/// Lists and objects within one another; deeper ones are refused, written and read. JSON goes to 128.
pub const DEEPEST: usize = 400;

/// What keeps such values, as the state of a rule does, may wrap them in so many more.
const WRAPS: usize = 40;

/// So much is reserved for a list before its items are seen.
const RESERVED: usize = 64;

const ABSENT: u8 = 0;
const NULL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;
const BYTES: u8 = 7;
const TIME: u8 = 8;
const ARRAY: u8 = 9;
const OBJECT: u8 = 10;

// A datetime is written as seconds and the nanoseconds behind them, and then its zone.
const UTC: u8 = 0;
const FIXED: u8 = 1;
const NAMED: u8 = 2;
const LOCAL: u8 = 3;

/// Adds a value.
///
/// # Errors
/// `Encode` where it is nested more than [`DEEPEST`] times; then a part of it was added.
pub fn put(out: &mut Vec<u8>, value: &Value) -> Result<()> {
    put_within(out, value, DEEPEST)
}

/// The same for what keeps values.
pub fn put_state(out: &mut Vec<u8>, state: &Value) -> Result<()> {
    put_within(out, state, DEEPEST + WRAPS)
}

/// Whether [`put`] takes it.
pub fn fits(value: &Value) -> bool {
    fits_within(value, DEEPEST)
}

fn fits_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| fits_within(item, depth - 1)),
        Value::Object(object) => depth > 0 && object.iter().all(|(_, value)| fits_within(value, depth - 1)),
        _ => true,
    }
}

/// What is said of a value that is nested too deeply.
pub fn too_deep() -> Fault {
    Fault::encode(format!("a value is nested more than {DEEPEST} times, and cannot be kept on the disk"))
}

fn put_within(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
    match value {
        Value::Absent => out.push(ABSENT),
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Int(n) => {
            out.push(INT);
            put_signed(out, *n);
        }
        Value::Float(x) => {
            out.push(FLOAT);
            out.extend_from_slice(&x.to_bits().to_le_bytes());
        }
        Value::Text(text) => {
            out.push(TEXT);
            put_bytes(out, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(BYTES);
            put_bytes(out, bytes);
        }
        Value::Time(time) => {
            out.push(TIME);
            put_signed(out, time.seconds());
            put_number(out, time.nanos().rem_euclid(SECOND) as u64);
            put_zone(out, time);
        }
        Value::Array(items) => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            out.push(ARRAY);
            put_number(out, items.len() as u64);
            items.iter().try_for_each(|item| put_within(out, item, depth))?;
        }
        Value::Object(object) => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            out.push(OBJECT);
            put_number(out, object.len() as u64);
            for (name, value) in object.iter() {
                put_bytes(out, name.as_bytes());
                put_within(out, value, depth)?;
            }
        }
    }
    Ok(())
}

/// Takes the value that the bytes begin with. Fails with `Decode`.
pub fn take(from: &mut &[u8]) -> Result<Value> {
    take_within(from, DEEPEST)
}

/// Takes what [`put_state`] added.
pub fn take_state(from: &mut &[u8]) -> Result<Value> {
    take_within(from, DEEPEST + WRAPS)
}

/// Adds a number: one byte below 128, at most ten.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes what [`put_number`] added.
pub fn take_number(from: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(from)?;
        let bits = u64::from(byte & 0x7f);
        // One form for each number: no bits that fall off, no zeros in front.
        if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
            return Err(Fault::decode("a packed number is not well-formed"));
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Fault::decode("a packed number has no end"))
}

/// Adds a number that may be below zero; small ones are short.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Takes what [`put_signed`] added.
pub fn take_signed(from: &mut &[u8]) -> Result<i64> {
    let number = take_number(from)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Adds bytes with their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes what [`put_bytes`] added.
pub fn take_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_number(from)?;
    let split = usize::try_from(length).ok().and_then(|length| from.split_at_checked(length));
    let (bytes, rest) = split.ok_or_else(|| ends(length))?;
    *from = rest;
    Ok(bytes)
}

/// Takes bytes that are text.
pub fn take_text<'a>(from: &mut &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(take_bytes(from)?).map_err(|_| Fault::decode("a packed text is not UTF-8"))
}

fn take_byte(from: &mut &[u8]) -> Result<u8> {
    let (first, rest) = from.split_first().ok_or_else(|| ends(1))?;
    *from = rest;
    Ok(*first)
}

fn take_within(from: &mut &[u8], depth: usize) -> Result<Value> {
    Ok(match take_byte(from)? {
        ABSENT => Value::Absent,
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INT => Value::Int(take_signed(from)?),
        FLOAT => {
            let (bits, rest) = from.split_first_chunk::<8>().ok_or_else(|| ends(8))?;
            *from = rest;
            Value::Float(f64::from_bits(u64::from_le_bytes(*bits)))
        }
        TEXT => Value::Text(Text::new(take_text(from)?)),
        BYTES => Value::bytes(take_bytes(from)?),
        TIME => {
            let (seconds, nanos) = (i128::from(take_signed(from)?), i128::from(take_number(from)?));
            if nanos >= SECOND {
                return Err(Fault::decode("a packed datetime is not well-formed"));
            }
            Value::Time(DateTime::new(seconds * SECOND + nanos, take_zone(from)?))
        }
        tag @ (ARRAY | OBJECT) => {
            let depth = depth.checked_sub(1).ok_or_else(|| Fault::decode("a packed value is nested too deeply"))?;
            let count = take_number(from)?;
            // Each item takes a byte at least.
            let count = usize::try_from(count).ok().filter(|count| *count <= from.len()).ok_or_else(|| ends(count))?;
            if tag == ARRAY {
                let mut items = Vec::with_capacity(count.min(RESERVED));
                for _ in 0..count {
                    items.push(take_within(from, depth)?);
                }
                Value::Array(Arc::new(items))
            } else {
                let mut object = Object::with_capacity(count.min(RESERVED));
                for _ in 0..count {
                    let name = Text::new(take_text(from)?);
                    let value = take_within(from, depth)?;
                    if object.insert(name, value).is_some() {
                        return Err(Fault::decode("a packed object has a name twice"));
                    }
                }
                Value::object(object)
            }
        }
        other => return Err(Fault::decode(format!("a packed value has the unknown kind {other}"))),
    })
}

fn put_zone(out: &mut Vec<u8>, time: &DateTime) {
    let zone = time.zone();
    if *zone == TimeZone::UTC {
        return out.push(UTC);
    }
    if let Some(name) = zone.iana_name() {
        out.push(NAMED);
        return put_bytes(out, name.as_bytes());
    }
    if zone.to_fixed_offset().is_err() && *zone == TimeZone::system() {
        // A zone of the system that has no name.
        return out.push(LOCAL);
    }
    // One that has neither looks the same at that instant.
    out.push(FIXED);
    put_signed(out, time.offset().seconds().into());
}

fn take_zone(from: &mut &[u8]) -> Result<TimeZone> {
    match take_byte(from)? {
        UTC => Ok(TimeZone::UTC),
        FIXED => {
            let seconds = i32::try_from(take_signed(from)?).ok();
            let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
            offset.map(TimeZone::fixed).ok_or_else(|| Fault::decode("a packed datetime has an impossible offset"))
        }
        NAMED => {
            let name = take_text(from)?;
            TimeZone::get(name).map_err(|_| {
                let shown: String = name.chars().take(40).collect();
                Fault::decode(format!("a packed datetime has the unknown time zone `{shown}`"))
            })
        }
        LOCAL => Ok(TimeZone::system()),
        other => Err(Fault::decode(format!("a packed datetime has the unknown kind of zone {other}"))),
    }
}

fn ends(wanted: u64) -> Fault {
    Fault::decode(format!("packed values end where {wanted} more bytes were expected"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn packed(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, value).unwrap();
        out
    }

    /// All kinds of values, with their edges.
    fn values() -> Vec<Value> {
        let zones = [
            TimeZone::UTC,
            TimeZone::fixed(jiff::tz::offset(-7)),
            TimeZone::fixed(Offset::from_seconds(5 * 3600 + 1800 + 1).unwrap()),
            TimeZone::get("Europe/Berlin").unwrap(),
        ];
        let mut all = vec![Value::Absent, Value::Null, Value::Bool(false), Value::Bool(true)];
        all.extend([0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN].map(Value::Int));
        all.extend([0.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY].map(Value::Float));
        all.extend([f64::NAN, f64::from_bits(0xfff0_0000_0000_0001)].map(Value::Float));
        all.extend(["", "a", "\u{e4}\u{1f600}\0", &"long ".repeat(100)].map(Value::text));
        all.extend([&b""[..], b"\0\xff", &[7; 300]].map(Value::bytes));
        for nanos in [0, 1, -1, i64::MAX, i64::MIN, 1_700_000_000_123_456_789] {
            all.extend(zones.iter().map(|zone| Value::Time(DateTime::new(nanos, zone.clone()))));
            // Nanoseconds taken for milliseconds lie far away.
            all.extend(zones.iter().map(|zone| Value::Time(DateTime::from_millis(nanos, zone.clone()))));
        }
        let object: Object = [("z", Value::Int(1)), ("", Value::Absent), ("A", Value::array(all.clone()))]
            .into_iter()
            .map(|(name, value)| (Text::new(name), value))
            .collect();
        all.push(Value::array(vec![]));
        all.push(Value::object(Object::new()));
        all.push(Value::array(vec![Value::object(object.clone()), Value::Null]));
        all.push(Value::object(object));
        all
    }

    #[test]
    fn every_value_comes_back_exactly() {
        let mut together = Vec::new();
        let all = values();
        for value in &all {
            put(&mut together, value).unwrap();
            let bytes = packed(value);
            let mut from = &bytes[..];
            let back = take(&mut from).unwrap();
            assert!(from.is_empty());
            // Zones, signs of zero, names in order: what Debug shows and `==` may not heed.
            assert_eq!(format!("{back:?}"), format!("{value:?}"));
            assert_eq!(packed(&back), bytes, "{value:?}");
        }
        let mut from = &together[..];
        for value in &all {
            assert_eq!(format!("{:?}", take(&mut from).unwrap()), format!("{value:?}"));
        }
        assert!(from.is_empty());
        assert_eq!(packed(&Value::Int(-3)).len(), 2);
    }

    #[test]
    fn a_value_that_is_cut_is_an_error() {
        for value in values() {
            let bytes = packed(&value);
            for length in 0..bytes.len() {
                let fault = take(&mut &bytes[..length]).unwrap_err();
                assert_eq!(fault.reason(), "decode", "{value:?} cut to {length}");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error() {
        // The last ones hold all the others.
        let all = packed(&values().pop().unwrap_or_default());
        for bit in 0..all.len() * 8 {
            let mut flipped = all.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut from = &flipped[..];
            if let Ok(value) = take(&mut from) {
                // Zones can be written in more ways than one; what was read comes back all the same.
                let again = packed(&value);
                let same = take(&mut &again[..]).is_ok_and(|back| packed(&back) == again);
                assert!(same, "bit {bit}");
            }
        }
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        let mut read = 0;
        for length in (0..200).cycle().take(20_000) {
            // Small numbers, so that kinds and lengths come often.
            let bytes: Vec<u8> = (0..length).map(|_| if random() < 128 { random() % 12 } else { random() }).collect();
            read += usize::from(take(&mut &bytes[..]).is_ok());
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn bytes_that_promise_much_cost_little_and_deep_ones_are_refused() {
        let fault = |bytes: &[u8]| take(&mut &bytes[..]).unwrap_err().to_string();
        let mut huge = vec![ARRAY];
        put_number(&mut huge, u64::MAX);
        assert!(fault(&huge).starts_with("packed values end where 18446744073709551615 more bytes"));
        huge[0] = TEXT;
        assert!(fault(&huge).starts_with("packed values end"));
        // Each list says that all the rest are its items.
        let lists: Vec<u8> = (0..100_000).flat_map(|_| [ARRAY, 100]).collect();
        assert_eq!(fault(&lists), "a packed value is nested too deeply");
        let mut deep = Value::Null;
        (0..DEEPEST).for_each(|_| deep = Value::array(vec![std::mem::take(&mut deep)]));
        assert!(fits(&deep));
        assert_eq!(take(&mut &packed(&deep)[..]).unwrap(), deep);
        let deeper = Value::object(Object::from_iter([("a", deep.clone())]));
        assert!(!fits(&deeper));
        assert_eq!(put(&mut Vec::new(), &deeper), Err(too_deep()));
        // What keeps it may go on.
        let mut state = Vec::new();
        put_state(&mut state, &deeper).unwrap();
        assert_eq!(take_state(&mut &state[..]).unwrap(), deeper);
        let twice = [OBJECT, 2, 1, b'a', NULL, 1, b'a', NULL];
        assert_eq!(fault(&twice), "a packed object has a name twice");
        assert_eq!(fault(&[11]), "a packed value has the unknown kind 11");
        assert_eq!(fault(&[TEXT, 1, 0xff]), "a packed text is not UTF-8");
        assert_eq!(fault(&[INT, 0x80, 0]), "a packed number is not well-formed");
    }
}
