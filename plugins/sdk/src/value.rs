//! Values as a plugin sees them: [`Value`] borrows what the engine lent for the call, [`Owned`] is made by the plugin.
//!
//! Integers have 64 bits and stay integers; a time is nanoseconds since 1970 with the offset of its zone. An object keeps its order.

use std::fmt;
use std::os::raw::c_void;

use crate::abi;
use crate::abi::tag;

/// A value lent for the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL's NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An instant.
    Time(Time),
    /// A list.
    Array(Array<'a>),
    /// A nested object.
    Object(Object<'a>),
}

/// A value of the plugin's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Owned {
    /// SQL's NULL.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An instant.
    Time(Time),
    /// A list.
    Array(Vec<Owned>),
    /// A nested object.
    Object(Record),
}

/// An instant, and the zone in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub nanos: i64,
    /// Seconds east of Greenwich.
    pub offset: i32,
}

/// A [`Time`] on the clock of its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i32,
    /// Month, from 1.
    pub month: u8,
    /// Day, from 1.
    pub day: u8,
    /// Hour.
    pub hour: u8,
    /// Minute.
    pub minute: u8,
    /// Second.
    pub second: u8,
    /// Nanoseconds of the second.
    pub nano: u32,
}

impl Time {
    /// In UTC.
    pub const fn utc(nanos: i64) -> Time {
        Time { nanos, offset: 0 }
    }

    /// Year to nanosecond on the clock of its zone.
    pub fn civil(self) -> Civil {
        const DAY: i64 = 86_400;
        let seconds = self.nanos.div_euclid(1_000_000_000) + i64::from(self.offset);
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Days since 0000-03-01, in eras of 400 years: leap days stand at the end of each.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let of_year_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * of_year_era + of_year_era / 4 - of_year_era / 100);
        let march = (5 * of_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        Civil {
            year: (of_year_era + era * 400 + i64::from(month <= 2)) as i32,
            month: month as u8,
            day: (of_year - (153 * march + 2) / 5 + 1) as u8,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            nano: self.nanos.rem_euclid(1_000_000_000) as u32,
        }
    }
}

/// RFC 3339, with as many digits of the second as it has.
impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.civil();
        write!(out, "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", at.year, at.month, at.day, at.hour, at.minute, at.second)?;
        match at.nano {
            0 => {}
            nano if nano % 1_000_000 == 0 => write!(out, ".{:03}", nano / 1_000_000)?,
            nano if nano % 1_000 == 0 => write!(out, ".{:06}", nano / 1_000)?,
            nano => write!(out, ".{:09}", nano)?,
        }
        if self.offset == 0 {
            return out.write_str("Z");
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.unsigned_abs() / 60;
        write!(out, "{}{:02}:{:02}", sign, minutes / 60, minutes % 60)
    }
}

/// A list lent for the call.
#[derive(Clone, Copy)]
pub struct Array<'a>(&'a [abi::Value]);

impl<'a> Array<'a> {
    /// Number of elements.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The elements.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        self.0.iter().map(Value::lent)
    }
}

impl PartialEq for Array<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(one, two)| one == two)
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

/// An object lent for the call.
#[derive(Clone, Copy)]
pub struct Object<'a>(&'a [abi::Member]);

impl<'a> Object<'a> {
    /// Number of members.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.0.iter().map(|member| (lent_text(member.key), Value::lent(&member.value)))
    }

    /// The value of a key.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(one, two)| one == two)
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

/// Hands one value to the other side.
///
/// # Safety
/// `output` is valid for the call.
#[inline]
pub(crate) unsafe fn put(output: *const abi::Output, value: &Owned) {
    let mut arena = Arena::default();
    let lent = arena.lend(value);
    if let Some(put) = has!(output, put) {
        put(output, &lent, 1);
    }
}

pub(crate) fn lent_text<'a>(text: abi::Str) -> &'a str {
    // SAFETY: the contract: what the other side lends is valid for the call; what is not UTF-8 is no text.
    std::str::from_utf8(unsafe { text.as_bytes() }).unwrap_or("")
}

impl<'a> Value<'a> {
    /// Wraps a value of the other side. A tag of a later ABI, and MISSING, are NULL.
    #[inline]
    pub(crate) fn lent(value: &'a abi::Value) -> Value<'a> {
        // SAFETY: the contract: the tag says which member of the union is set, and pointers lead to `len` things for the call.
        unsafe {
            match value.tag {
                tag::BOOL => Value::Bool(value.data.int != 0),
                tag::INT => Value::Int(value.data.int),
                tag::FLOAT => Value::Float(value.data.float),
                tag::TEXT => Value::Text(std::str::from_utf8(slice(value)).unwrap_or("")),
                tag::BYTES => Value::Bytes(slice(value)),
                tag::TIME => Value::Time(Time { nanos: value.data.int, offset: value.extra }),
                tag::ARRAY => Value::Array(Array(slice(value))),
                tag::OBJECT => Value::Object(Object(slice(value))),
                _ => Value::Null,
            }
        }
    }

    /// Whether this is NULL.
    pub fn is_null(self) -> bool {
        matches!(self, Value::Null)
    }

    /// The text.
    pub fn as_text(self) -> Option<&'a str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number as an integer; a float only where nothing is lost.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(int),
            Value::Float(float) if float.fract() == 0.0 && float.abs() < 9.2e18 => Some(float as i64),
            _ => None,
        }
    }

    /// The number as a float.
    pub fn as_float(self) -> Option<f64> {
        match self {
            Value::Int(int) => Some(int as f64),
            Value::Float(float) => Some(float),
            _ => None,
        }
    }

    /// What it is, for messages: `a text`, `null`.
    pub fn kind(self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "a text",
            Value::Bytes(_) => "bytes",
            Value::Time(_) => "a datetime",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    /// A copy that outlives the call.
    #[inline]
    pub fn to_owned(self) -> Owned {
        match self {
            Value::Null => Owned::Null,
            Value::Bool(value) => Owned::Bool(value),
            Value::Int(value) => Owned::Int(value),
            Value::Float(value) => Owned::Float(value),
            Value::Text(value) => Owned::Text(value.to_owned()),
            Value::Bytes(value) => Owned::Bytes(value.to_vec()),
            Value::Time(value) => Owned::Time(value),
            Value::Array(value) => Owned::Array(value.iter().map(Value::to_owned).collect()),
            Value::Object(value) => {
                Owned::Object(value.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
            }
        }
    }
}

unsafe fn slice<T>(value: &abi::Value) -> &[T] {
    let pointer: *const c_void = value.data.pointer;
    if pointer.is_null() || value.len == 0 {
        return &[];
    }
    std::slice::from_raw_parts(pointer as *const T, value.len as usize)
}

/// Names and values in order: a row, an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(Vec<(String, Owned)>);

impl Record {
    /// An empty one.
    pub fn new() -> Record {
        Record::default()
    }

    /// Sets a value, and returns itself: `Record::new().with("id", 7)`.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Owned>) -> Record {
        self.set(name, value);
        self
    }

    /// Sets a value; one of that name is replaced.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Owned>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Owned> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Owned)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<Owned>> FromIterator<(N, V)> for Record {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(members: I) -> Record {
        Record(members.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

macro_rules! owned_from {
    ($($from:ty => |$value:ident| $made:expr;)*) => {$(
        impl From<$from> for Owned {
            fn from($value: $from) -> Owned {
                $made
            }
        }
    )*};
}

owned_from! {
    bool => |value| Owned::Bool(value);
    i64 => |value| Owned::Int(value);
    i32 => |value| Owned::Int(i64::from(value));
    u32 => |value| Owned::Int(i64::from(value));
    u16 => |value| Owned::Int(i64::from(value));
    u8 => |value| Owned::Int(i64::from(value));
    f64 => |value| Owned::Float(value);
    &str => |value| Owned::Text(value.to_owned());
    String => |value| Owned::Text(value);
    Vec<u8> => |value| Owned::Bytes(value);
    Time => |value| Owned::Time(value);
    Vec<Owned> => |value| Owned::Array(value);
    Record => |value| Owned::Object(value);
    Value<'_> => |value| value.to_owned();
}

impl<T: Into<Owned>> From<Option<T>> for Owned {
    fn from(value: Option<T>) -> Owned {
        value.map_or(Owned::Null, Into::into)
    }
}

/// Keeps alive what the values that it made lead to.
#[derive(Default)]
pub(crate) struct Arena {
    arrays: Vec<Box<[abi::Value]>>,
    objects: Vec<Box<[abi::Member]>>,
}

impl Arena {
    /// A view of the value for the other side. It lives as long as both the arena and the value.
    #[inline]
    pub(crate) fn lend(&mut self, value: &Owned) -> abi::Value {
        match value {
            Owned::Null => abi::Value::NULL,
            Owned::Bool(value) => abi::Value::bool(*value),
            Owned::Int(value) => abi::Value::int(*value),
            Owned::Float(value) => abi::Value::float(*value),
            Owned::Text(value) => abi::Value::text(value),
            Owned::Bytes(value) => abi::Value::bytes(value),
            Owned::Time(value) => abi::Value::time(value.nanos, value.offset),
            Owned::Array(elements) => {
                let lent: Box<[_]> = elements.iter().map(|element| self.lend(element)).collect();
                let view = abi::Value::array(&lent);
                self.arrays.push(lent);
                view
            }
            Owned::Object(record) => {
                let lent: Box<[_]> = record
                    .iter()
                    .map(|(key, value)| abi::Member { key: abi::Str::new(key), value: self.lend(value) })
                    .collect();
                let view = abi::Value::object(&lent);
                self.objects.push(lent);
                view
            }
        }
    }
}

/// JSON: bytes as base64, times as RFC 3339, floats that JSON cannot say as null.
impl fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Null => out.write_str("null"),
            Value::Bool(value) => write!(out, "{}", value),
            Value::Int(value) => write!(out, "{}", value),
            Value::Float(value) if value.is_finite() => write!(out, "{}", value),
            Value::Float(_) => out.write_str("null"),
            Value::Text(value) => quoted(value, out),
            Value::Bytes(value) => write!(out, "\"{}\"", base64(value)),
            Value::Time(value) => write!(out, "\"{}\"", value),
            Value::Array(elements) => {
                out.write_str("[")?;
                for (n, element) in elements.iter().enumerate() {
                    write!(out, "{}{}", if n == 0 { "" } else { "," }, element)?;
                }
                out.write_str("]")
            }
            Value::Object(members) => {
                out.write_str("{")?;
                for (n, (key, value)) in members.iter().enumerate() {
                    out.write_str(if n == 0 { "" } else { "," })?;
                    quoted(key, out)?;
                    write!(out, ":{}", value)?;
                }
                out.write_str("}")
            }
        }
    }
}

/// JSON, as of [`Value`].
impl fmt::Display for Owned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arena = Arena::default();
        let lent = arena.lend(self);
        Value::lent(&lent).fmt(out)
    }
}

fn quoted(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_str("\"")?;
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.write_str(&text[plain..at])?;
        plain = at + 1;
        match byte {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            _ => write!(out, "\\u{:04x}", byte)?,
        }
    }
    out.write_str(&text[plain..])?;
    out.write_str("\"")
}

/// Bytes in base64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity((bytes.len() + 2) / 3 * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * n) & 63) as usize];
            text.push(if n > three.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_everything() {
        let value = Owned::Object(
            Record::new()
                .with("n", Owned::Null)
                .with("b", true)
                .with("i", i64::MIN)
                .with("f", 0.1)
                .with("nan", f64::NAN)
                .with("t", "a\"\\\n\u{1}ü")
                .with("x", vec![1u8, 2, 255])
                .with("at", Time { nanos: 1_500_000_000, offset: 3600 })
                .with("l", vec![Owned::Int(1), Owned::Object(Record::new())]),
        );
        assert_eq!(
            value.to_string(),
            "{\"n\":null,\"b\":true,\"i\":-9223372036854775808,\"f\":0.1,\"nan\":null,\"t\":\"a\\\"\\\\\\n\\u0001ü\",\
             \"x\":\"AQL/\",\"at\":\"1970-01-01T01:00:01.500+01:00\",\"l\":[1,{}]}"
        );
    }

    #[test]
    fn a_copy_equals_what_was_lent() {
        let value =
            Owned::Array(vec![Owned::from("a"), Owned::from(vec![9u8]), Owned::Object(Record::new().with("k", 1))]);
        let mut arena = Arena::default();
        let lent = arena.lend(&value);
        assert_eq!(Value::lent(&lent).to_owned(), value);
    }

    #[test]
    fn base64_pads() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn civil_days() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Time::utc(seconds * 1_000_000_000).to_string(), text);
        }
    }

    #[test]
    fn a_value_has_the_same_size_everywhere() {
        assert_eq!(std::mem::size_of::<abi::Value>(), 24);
    }
}
