//! Many values as one, each of them bytes as soon as it comes: whoever keeps a million has no tree of them to build.
//!
//! A [`Packer`] writes a value part by part, and a [`Pack`] is what writes itself with one. A bundle is bytes, in memory
//! perhaps in pieces of whole values; [`pieces_of`] joins them. What is nested too deeply stays a list of values. The
//! rule waits while its state is bundled, and most of that time would go to waiting for memory: so a few values are
//! looked at together before they are written one by one, and a piece is copied while it is near.
//!
//! Invariant: the bytes of a piece are those that [`put_state`](super::put_state) gives for each of its values, one
//! behind the other.

use std::sync::Arc;

use crate::diag::{Fault, Result};

use super::super::{Object, Value};
use super::{ARRAY, BYTES, DEEPEST, INT, NULL, OBJECT, TEXT, WRAPS};
use super::{put_bytes, put_number, put_signed, put_within, take_state, take_within, too_deep};

/// The only member of a bundle.
const BUNDLE: &str = "bundle";

/// The same where it is in pieces.
const PIECES: &str = "bundle in pieces";

/// A piece ends when it has got this long; a processor keeps so much near.
const PIECE: usize = 256 << 10;

/// So many values are looked at together.
const GROUP: usize = 16;

/// Bytes that are longer are a piece of their own, and not copied.
const SHARED: usize = 4 << 10;

/// What can write itself as one value.
pub trait Pack {
    /// Adds the value. Fails with `Encode` where it is nested too deeply; then a part of it was added.
    fn pack(&self, to: &mut Packer<'_>) -> Result<()>;

    /// Reads a little of each part of the memory that `pack` will read, so that it is on its way when `pack` comes. What
    /// is given back has no meaning.
    fn touch(&self) -> usize {
        0
    }
}

impl Pack for Value {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        to.value(self)
    }

    fn touch(&self) -> usize {
        match self {
            Value::Text(text) => text.as_bytes().first().map_or(0, |byte| (*byte).into()),
            Value::Bytes(bytes) => bytes.first().map_or(0, |byte| (*byte).into()),
            Value::Array(items) => items.len(),
            Value::Object(object) => object.len(),
            _ => 0,
        }
    }
}

impl<T: Pack + ?Sized> Pack for &T {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        (**self).pack(to)
    }

    fn touch(&self) -> usize {
        (**self).touch()
    }
}

/// Where a value is written. Whoever begins a list or an object adds as many items as were said.
pub struct Packer<'a> {
    out: &'a mut Vec<u8>,
    /// Lists and objects that there may be within one another yet.
    depth: usize,
}

impl<'a> Packer<'a> {
    pub fn value(&mut self, value: &Value) -> Result<()> {
        put_within(self.out, value, self.depth)
    }

    /// The value, and null for one that is absent.
    pub fn value_or_null(&mut self, value: &Value) -> Result<()> {
        self.value(if value.is_null() { &Value::Null } else { value })
    }

    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    pub fn int(&mut self, number: i64) {
        self.out.push(INT);
        put_signed(self.out, number);
    }

    pub fn text(&mut self, text: &str) {
        self.out.push(TEXT);
        put_bytes(self.out, text.as_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.push(BYTES);
        put_bytes(self.out, bytes);
    }

    /// Begins a list.
    pub fn array(&mut self, items: usize) -> Result<Packer<'_>> {
        self.within(ARRAY, items)
    }

    /// Begins an object; before each value comes its [`Packer::name`], and none comes twice.
    pub fn object(&mut self, members: usize) -> Result<Packer<'_>> {
        self.within(OBJECT, members)
    }

    pub fn name(&mut self, name: &str) -> &mut Packer<'a> {
        put_bytes(self.out, name.as_bytes());
        self
    }

    fn within(&mut self, kind: u8, items: usize) -> Result<Packer<'_>> {
        let depth = self.depth.checked_sub(1).ok_or_else(too_deep)?;
        self.out.push(kind);
        put_number(self.out, items as u64);
        Ok(Packer { out: self.out, depth })
    }
}

/// Many values as one. Where one is nested too deeply for [`put_state`](super::put_state), they stay as they are.
pub fn bundle<T: Pack>(values: impl Iterator<Item = T>) -> Value {
    let mut values = values.fuse();
    let (mut pieces, mut last): (Vec<Value>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut group: Vec<T> = Vec::with_capacity(values.size_hint().0.min(GROUP));
    loop {
        group.extend(values.by_ref().take(GROUP));
        if group.is_empty() {
            break;
        }
        // One look after the other waits for no answer, so that all of them are under way at once.
        std::hint::black_box(group.iter().fold(0_usize, |sum, value| sum.wrapping_add(value.touch())));
        for (n, value) in group.iter().enumerate() {
            let before = last.len();
            if value.pack(&mut Packer { out: &mut last, depth: DEEPEST + WRAPS }).is_err() {
                last.truncate(before);
                pieces.push(Value::bytes(&last));
                let mut all: Vec<Value> = pieces.iter().flat_map(unpacked).filter_map(Result::ok).collect();
                all.extend(group[n..].iter().filter_map(unbound));
                all.extend(values.filter_map(|value| unbound(&value)));
                return Value::array(all);
            }
        }
        group.clear();
        if last.len() >= PIECE {
            pieces.push(Value::bytes(&last));
            last.clear();
        }
    }
    let rest = Value::Bytes(last.into());
    Value::object(if pieces.is_empty() {
        Object::from_iter([(BUNDLE, rest)])
    } else {
        pieces.push(rest);
        Object::from_iter([(PIECES, Value::array(pieces))])
    })
}

/// The value of what is nested however deeply.
fn unbound(value: &impl Pack) -> Option<Value> {
    let mut bytes = Vec::new();
    value.pack(&mut Packer { out: &mut bytes, depth: usize::MAX }).ok()?;
    take_within(&mut bytes.as_slice(), usize::MAX).ok()
}

/// The values of a bundle, one after the other. Fails with `Decode` where they cannot be read, as if one came that cannot.
pub fn unbundle(bundle: &Value) -> Box<dyn Iterator<Item = Result<Value>> + '_> {
    match (bundle, pieces(bundle)) {
        (Value::Array(values), _) => Box::new(values.iter().cloned().map(Ok)),
        (_, Some(pieces)) => {
            let mut fails = false;
            let all = pieces.iter().flat_map(unpacked);
            // Nothing comes behind what cannot be read.
            Box::new(all.take_while(move |value| !std::mem::replace(&mut fails, value.is_err())))
        }
        _ => Box::new(std::iter::once(Err(Fault::decode("no list of values")))),
    }
}

/// Whether the value was made by [`bundle`], and is not nested too deeply.
pub fn is_bundle(value: &Value) -> bool {
    pieces(value).is_some()
}

fn pieces(value: &Value) -> Option<&[Value]> {
    let Value::Object(object) = value else { return None };
    let (name, value) = object.iter().next().filter(|_| object.len() == 1)?;
    match (name.as_str(), value) {
        (BUNDLE, bytes @ Value::Bytes(_)) => Some(std::slice::from_ref(bytes)),
        (PIECES, Value::Array(all)) if all.iter().all(|piece| matches!(piece, Value::Bytes(_))) => Some(all),
        _ => None,
    }
}

fn unpacked(piece: &Value) -> impl Iterator<Item = Result<Value>> {
    let mut bytes: &[u8] = if let Value::Bytes(bytes) = piece { bytes } else { &[] };
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let taken = take_state(&mut bytes);
        if taken.is_err() {
            bytes = &[];
        }
        Some(taken)
    })
}

/// What [`put_state`](super::put_state) adds, in pieces: long bytes that the value has are not copied. Those of a bundle
/// are one behind the other, as if it had none.
///
/// # Errors
/// As `put_state`.
pub fn pieces_of(state: &Value) -> Result<Vec<Arc<[u8]>>> {
    let (mut pieces, mut last) = (Vec::new(), Vec::new());
    add_pieces(&mut pieces, &mut last, state, DEEPEST + WRAPS)?;
    pieces.push(last.into());
    Ok(pieces)
}

fn add_pieces(pieces: &mut Vec<Arc<[u8]>>, last: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
    match value {
        Value::Bytes(bytes) if bytes.len() > SHARED => {
            last.push(BYTES);
            put_number(last, bytes.len() as u64);
            pieces.push(std::mem::take(last).into());
            pieces.push(bytes.clone());
            Ok(())
        }
        Value::Array(items) => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            last.push(ARRAY);
            put_number(last, items.len() as u64);
            items.iter().try_for_each(|item| add_pieces(pieces, last, item, depth))
        }
        Value::Object(object) => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            last.push(OBJECT);
            put_number(last, object.len() as u64);
            if let (true, Some(all)) = (object.contains(PIECES), self::pieces(value)) {
                let all =
                    || all.iter().filter_map(|piece| if let Value::Bytes(bytes) = piece { Some(bytes) } else { None });
                put_bytes(last, BUNDLE.as_bytes());
                last.push(BYTES);
                put_number(last, all().map(|bytes| bytes.len() as u64).sum());
                pieces.push(std::mem::take(last).into());
                pieces.extend(all().cloned());
                return Ok(());
            }
            object.iter().try_for_each(|(name, value)| {
                put_bytes(last, name.as_bytes());
                add_pieces(pieces, last, value, depth)
            })
        }
        other => put_within(last, other, depth),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::put_state;
    use super::*;

    #[test]
    fn a_bundle_gives_back_what_was_put_in() {
        let mut deep = Value::Null;
        (0..=DEEPEST + WRAPS).for_each(|_| deep = Value::array(vec![std::mem::take(&mut deep)]));
        let few = vec![Value::Absent, Value::text("a"), Value::array(vec![Value::Null])];
        // Several pieces.
        let many: Vec<Value> = (0..3 * PIECE as i64 / 9).map(|n| Value::Int(n + i64::MAX / 2)).collect();
        let odd: Vec<Value> = many.iter().cloned().chain([deep.clone(), Value::Null]).chain(few.clone()).collect();
        for (values, pieces_made) in [(vec![], 1), (few, 1), (many, 4), (vec![deep], 0), (odd, 0)] {
            let made = bundle(values.iter());
            assert_eq!(is_bundle(&made), pieces_made > 0);
            assert_eq!(pieces(&made).map_or(0, <[Value]>::len), pieces_made);
            assert!(unbundle(&made).map(Result::unwrap).eq(values.iter().cloned()));
            // In a snapshot it has no pieces.
            let mut whole = Vec::new();
            if values.iter().try_for_each(|value| put_state(&mut whole, value)).is_ok() {
                let whole = Value::object(Object::from_iter([(BUNDLE, Value::Bytes(whole.into()))]));
                let state = |bundle| Value::object(Object::from_iter([("a", bundle), ("b", Value::Int(1))]));
                let mut expected = Vec::new();
                put_state(&mut expected, &state(whole.clone())).unwrap();
                assert_eq!(pieces_of(&state(made)).unwrap().concat(), expected);
                assert!(unbundle(&whole).map(Result::unwrap).eq(values.iter().cloned()));
            }
            // As they were kept before.
            assert!(unbundle(&Value::array(values.clone())).map(Result::unwrap).eq(values));
        }
    }

    #[test]
    fn a_bundle_that_cannot_be_read_says_so_once() {
        let torn = |pieces: &[&[u8]]| match pieces {
            [bytes] => Value::object(Object::from_iter([(BUNDLE, Value::bytes(bytes))])),
            pieces => {
                let pieces = pieces.iter().map(|piece| Value::bytes(piece)).collect();
                Value::object(Object::from_iter([(PIECES, Value::array(pieces))]))
            }
        };
        let cases = [
            (torn(&[&[NULL, 99, NULL]]), 1),
            (torn(&[&[TEXT, 9]]), 0),
            (torn(&[&[NULL, NULL], &[NULL, TEXT, 9], &[NULL]]), 3),
            (Value::Null, 0),
            (Value::object(Object::from_iter([(PIECES, Value::array(vec![Value::Null]))])), 0),
            (Value::object(Object::from_iter([(BUNDLE, Value::Null)])), 0),
        ];
        for (value, good) in cases {
            let all: Vec<_> = unbundle(&value).collect();
            assert_eq!(all.len(), good + 1);
            assert!(matches!(all.last(), Some(Err(Fault::Decode(_)))), "{all:?}");
        }
    }

    #[test]
    fn a_packer_writes_what_put_state_does() {
        let inner = Value::object(Object::from_iter([("x", Value::Float(0.5)), ("y", Value::text("z"))]));
        let value = Value::object(Object::from_iter([
            ("a", Value::array(vec![Value::Int(-300), Value::Null, Value::text("t"), Value::bytes(&b"\0\xff"[..])])),
            ("b", inner.clone()),
        ]));
        let mut expected = Vec::new();
        put_state(&mut expected, &value).unwrap();
        let mut out = Vec::new();
        let mut to = Packer { out: &mut out, depth: 2 };
        let mut object = to.object(2).unwrap();
        let mut list = object.name("a").array(4).unwrap();
        list.int(-300);
        list.null();
        list.text("t");
        list.bytes(b"\0\xff");
        assert_eq!(list.array(0).err(), Some(too_deep()));
        object.name("b").value(&inner).unwrap();
        assert_eq!(out, expected);
    }

    #[test]
    fn pieces_are_the_same_bytes() {
        let long = Value::bytes(vec![7; SHARED + 1].as_slice());
        let list = Value::array(vec![long.clone(), Value::Int(1), Value::bytes(&b"short"[..]), long.clone()]);
        let value = Value::object(Object::from_iter([("a", list), ("b", Value::text("c")), ("d", long.clone())]));
        let mut expected = Vec::new();
        put_state(&mut expected, &value).unwrap();
        let pieces = pieces_of(&value).unwrap();
        assert_eq!(pieces.concat(), expected);
        let Value::Bytes(long) = long else { unreachable!() };
        assert_eq!(pieces.iter().filter(|piece| Arc::ptr_eq(piece, &long)).count(), 3, "they are not copied");
        let mut deep = value;
        (0..DEEPEST + WRAPS).for_each(|_| deep = Value::array(vec![std::mem::take(&mut deep)]));
        assert_eq!(pieces_of(&deep).err(), Some(too_deep()));
    }
}
