//! The encoder, and how a single value is written.
//!
//! Names are sorted and escaped once, when the layout is known; a row is then a walk over slots. Only a layout with a
//! spread column (`*`) has names that are not known before the row is there; they are remembered from row to row, since
//! most rows of a stream have the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::codec::{Encoder, Rows};
use crate::data::{Layout, Object, Shape, Text, Value, push_json_float};
use crate::diag::{Fault, Result};

/// Writes JSON messages of one sink.
pub(super) struct Json {
    /// Named columns in the order of their names: `,"name":` and slot.
    named: Vec<Entry>,
    /// Slots of the spread columns; a later one wins.
    spreads: Vec<usize>,
    /// Names of the last row whose only open part was one spread object.
    known: Known,
}

struct Entry {
    name: Text,
    /// With the comma in front.
    raw: Box<[u8]>,
    slot: usize,
}

/// How a row with one spread object was written.
struct Known {
    /// Names in the object, as they came.
    shape: Shape,
    /// What to write, in order.
    parts: Vec<Part>,
}

struct Part {
    raw: Box<[u8]>,
    /// Number of the entry in the object, if it has one of that name.
    spread: Option<usize>,
    /// Slot of the named column, if there is one; it wins unless it is absent.
    slot: Option<usize>,
}

fn raw_name(name: &str) -> Box<[u8]> {
    let mut raw = Vec::with_capacity(name.len() + 4);
    raw.push(b',');
    push_text(&mut raw, name);
    raw.push(b':');
    raw.into()
}

impl Json {
    pub fn new(layout: &Layout) -> Self {
        let mut named: Vec<Entry> = Vec::new();
        let mut spreads = Vec::new();
        for (slot, column) in layout.columns().iter().enumerate() {
            if column.spread {
                spreads.push(slot);
            } else {
                named.push(Entry { name: column.name.clone(), raw: raw_name(&column.name), slot });
            }
        }
        // Of two columns of one name the later one counts.
        named.reverse();
        named.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        named.dedup_by(|later, first| later.name == first.name);
        let known = Known { shape: Object::new().shape().clone(), parts: Vec::new() };
        let mut json = Json { named, spreads, known };
        json.known = json.learn(&Object::new());
        json
    }

    fn push_row(&mut self, out: &mut Vec<u8>, row: &[Value]) {
        let start = out.len();
        match self.spreads[..] {
            [] => {
                for entry in &self.named {
                    push_entry(out, &entry.raw, &row[entry.slot]);
                }
            }
            [slot] => match &row[slot] {
                Value::Object(object) => self.push_spread(out, row, object),
                _ => self.push_spread(out, row, &Object::new()),
            },
            _ => {
                let mut all = Object::new();
                for &slot in &self.spreads {
                    if let Value::Object(object) = &row[slot] {
                        for (name, value) in object.iter() {
                            all.insert(name.clone(), value.clone());
                        }
                    }
                }
                self.push_spread(out, row, &all);
            }
        }
        close(out, start);
    }

    fn push_spread(&mut self, out: &mut Vec<u8>, row: &[Value], object: &Object) {
        if !self.known.shape.is(object.shape()) {
            match object.keys().eq(self.known.shape.names()) {
                true => self.known.shape = object.shape().clone(),
                false => self.known = self.learn(object),
            }
        }
        for part in &self.known.parts {
            let named = part.slot.map_or(&Value::Absent, |slot| &row[slot]);
            let value = match (named, part.spread) {
                (Value::Absent, Some(number)) => object.value_at(number),
                _ => named,
            };
            push_entry(out, &part.raw, value);
        }
    }

    fn learn(&self, object: &Object) -> Known {
        let mut parts: Vec<(Text, Part)> = self
            .named
            .iter()
            .map(|entry| (entry.name.clone(), Part { raw: entry.raw.clone(), spread: None, slot: Some(entry.slot) }))
            .collect();
        for (number, name) in object.keys().enumerate() {
            match self.named.binary_search_by(|entry| entry.name.as_str().cmp(name)) {
                Ok(place) => parts[place].1.spread = Some(number),
                Err(_) => parts.push((name.clone(), Part { raw: raw_name(name), spread: Some(number), slot: None })),
            }
        }
        parts.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        Known { shape: object.shape().clone(), parts: parts.into_iter().map(|(_, part)| part).collect() }
    }
}

impl Encoder for Json {
    fn encode(&mut self, rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        if rows.single {
            let [row] = rows.rows else {
                return Err(Fault::bug(format!("a single row was to be written, and {} came", rows.rows.len())));
            };
            self.push_row(out, row);
            return Ok(());
        }
        out.push(b'[');
        for (number, row) in rows.rows.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            self.push_row(out, row);
        }
        out.push(b']');
        Ok(())
    }
}

#[inline(always)]
fn push_entry(out: &mut Vec<u8>, raw: &[u8], value: &Value) {
    if !matches!(value, Value::Absent) {
        out.extend_from_slice(raw);
        push_value(out, value);
    }
}

/// Makes an object of what was written since `start`, each entry with a comma in front: the first comma becomes the
/// brace.
fn close(out: &mut Vec<u8>, start: usize) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Appends a value as JSON: names sorted, bytes as base64, datetimes as RFC 3339 text; a float that JSON does not have
/// (NaN, infinite) is null.
pub(super) fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Absent | Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Value::Float(x) if x.is_finite() => push_json_float(out, *x),
        Value::Float(_) => out.extend_from_slice(b"null"),
        Value::Text(text) => push_text(out, text),
        Value::Bytes(bytes) => push_text(out, &STANDARD.encode(bytes)),
        Value::Time(time) => push_text(out, &time.rfc3339()),
        Value::Array(items) => {
            out.push(b'[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                push_value(out, item);
            }
            out.push(b']');
        }
        Value::Object(object) => push_object(out, object),
    }
}

fn push_object(out: &mut Vec<u8>, object: &Object) {
    let start = out.len();
    let mut push = |name: &Text, value: &Value| {
        out.push(b',');
        push_text(out, name);
        out.push(b':');
        push_value(out, value);
    };
    if object.keys().is_sorted_by(|a, b| a.as_str() <= b.as_str()) {
        object.iter().for_each(|(name, value)| push(name, value));
    } else {
        object.sorted().into_iter().for_each(|(name, value)| push(name, value));
    }
    close(out, start);
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Not zero when one of eight bytes has to be looked at: a control character, one of `"&\<>`, or the first byte of
/// U+2028. Two pairs of them differ in one bit, which saves a test each.
const fn special(x: u64) -> u64 {
    const fn zeros(x: u64) -> u64 {
        x.wrapping_sub(ONES) & !x & HIGHS
    }
    zeros((x & !(ONES * 0x04)) ^ (ONES * b'"' as u64))
        | zeros((x | (ONES * 0x02)) ^ (ONES * b'>' as u64))
        | zeros(x ^ (ONES * b'\\' as u64))
        | zeros(x ^ (ONES * 0xe2))
        | (x.wrapping_sub(ONES * 0x20) & !x & HIGHS)
}

const fn is_special(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

/// Appends text in quotes, escaped as Go does it: also `<`, `>`, `&`, and the two line ends that JavaScript minds.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut left = text.as_bytes();
    loop {
        let plain = plain_length(left);
        out.extend_from_slice(&left[..plain]);
        left = &left[plain..];
        let Some(&byte) = left.first() else { break };
        let mut taken = 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0xe2 => {
                taken = 3;
                match left {
                    [_, 0x80, 0xa8, ..] => out.extend_from_slice(b"\\u2028"),
                    [_, 0x80, 0xa9, ..] => out.extend_from_slice(b"\\u2029"),
                    _ => out.extend_from_slice(&left[..taken]),
                }
            }
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        left = &left[taken..];
    }
    out.push(b'"');
}

fn plain_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|left| left.first_chunk::<8>()) {
        let found = special(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| is_special(*byte)).map_or(bytes.len(), |found| at + found)
}
