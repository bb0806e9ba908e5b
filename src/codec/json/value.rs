//! JSON values to cells, as they come or as a declared type wants them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data::{Kind, Object, Text, Value, push_general_float};
use crate::diag::{Fault, Result};

use super::scan::Scan;

/// Takes the value that is next. Numbers are floats, unless whole ones that fit are to be integers.
#[inline(always)]
pub(super) fn value(scan: &mut Scan<'_>, whole_as_int: bool, depth: usize) -> Result<Value> {
    match scan.peek() {
        b'"' => text(scan),
        b'-' | b'0'..=b'9' => {
            let number = scan.number()?;
            if whole_as_int && let Some(n) = number.int() {
                return Ok(Value::Int(n));
            }
            number.float().map(Value::Float)
        }
        b't' => scan.word("true").map(|()| Value::Bool(true)),
        b'f' => scan.word("false").map(|()| Value::Bool(false)),
        b'n' => scan.word("null").map(|()| Value::Null),
        b'{' => object(scan, whole_as_int, depth),
        b'[' => array(scan, depth, |scan, depth| value(scan, whole_as_int, depth)),
        _ => Err(scan.unexpected("a value")),
    }
}

#[inline(always)]
fn text(scan: &mut Scan<'_>) -> Result<Value> {
    Ok(Value::Text(match scan.text()? {
        Cow::Borrowed(text) => Text::new(text),
        Cow::Owned(text) => Text::from(text),
    }))
}

fn object(scan: &mut Scan<'_>, whole_as_int: bool, depth: usize) -> Result<Value> {
    let depth = scan.deeper(depth)?;
    let mut object = Object::new();
    scan.open();
    if scan.eat(b'}') {
        return Ok(Value::object(object));
    }
    loop {
        scan.key_is_next()?;
        let name = scan.text()?;
        scan.colon()?;
        let value = value(scan, whole_as_int, depth)?;
        object.insert(name, value);
        if !scan.more(b'}')? {
            return Ok(Value::object(object));
        }
    }
}

fn array(
    scan: &mut Scan<'_>,
    depth: usize,
    mut item: impl FnMut(&mut Scan<'_>, usize) -> Result<Value>,
) -> Result<Value> {
    let depth = scan.deeper(depth)?;
    let mut items = Vec::new();
    scan.open();
    if scan.eat(b']') {
        return Ok(Value::array(items));
    }
    loop {
        items.push(item(scan, depth)?);
        if !scan.more(b']')? {
            return Ok(Value::array(items));
        }
    }
}

/// Takes the value that is next as a declared type. Null is null in every type. What a type accepts:
///
/// - bigint: a number written without point and exponent that fits 64 bits;
/// - float, datetime: a number; datetime also text, which stays text;
/// - string: text, or a number in its printed form (`1e+06`);
/// - boolean: a boolean, a number (true unless zero), or one of `1 t T TRUE true True 0 f F FALSE false False`;
/// - bytea: text, decoded from base64 where it is that;
/// - struct: an object, of which the declared members are kept; array: an array of its type.
pub(super) fn typed(scan: &mut Scan<'_>, kind: &Kind, depth: usize) -> Result<Value> {
    match (scan.peek(), kind) {
        (b'n', _) => value(scan, false, depth),
        (b'-' | b'0'..=b'9', Kind::Bigint) => {
            let start = scan.at();
            let number = scan.number()?;
            match number.int() {
                Some(n) => Ok(Value::Int(n)),
                None => Err(mismatch(start, kind, &format!("the number `{}`", number.shown()))),
            }
        }
        (b'-' | b'0'..=b'9', Kind::Float | Kind::Datetime) => value(scan, false, depth),
        (b'-' | b'0'..=b'9', Kind::String) => {
            let mut printed = Vec::with_capacity(24);
            push_general_float(&mut printed, scan.number()?.float()?);
            Ok(Value::text(String::from_utf8_lossy(&printed)))
        }
        (b'-' | b'0'..=b'9', Kind::Boolean) => Ok(Value::Bool(scan.number()?.float()? != 0.0)),
        (b'"', Kind::String | Kind::Datetime) => text(scan),
        (b'"', Kind::Boolean) => {
            let start = scan.at();
            let text = scan.text()?;
            match &*text {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
                other => Err(mismatch(start, kind, &format!("the text `{}`", cut(other)))),
            }
        }
        (b'"', Kind::Bytea) => {
            let text = scan.text()?;
            Ok(Value::bytes(&STANDARD.decode(text.as_bytes()).unwrap_or_else(|_| text.as_bytes().to_vec())))
        }
        (b't' | b'f', Kind::Boolean) => value(scan, false, depth),
        (b'[', Kind::Array(item)) => array(scan, depth, |scan, depth| typed(scan, item, depth)),
        (b'{', Kind::Struct(members)) => record(scan, members, depth),
        _ => Err(not_of(scan, kind, depth)),
    }
}

fn record(scan: &mut Scan<'_>, members: &[(Text, Kind)], depth: usize) -> Result<Value> {
    let depth = scan.deeper(depth)?;
    let mut object = Object::with_capacity(members.len());
    let mut next = 0;
    scan.open();
    if scan.eat(b'}') {
        return Ok(Value::object(object));
    }
    loop {
        scan.key_is_next()?;
        let name = scan.text()?;
        scan.colon()?;
        // Devices send members in one order for ever, and most in that of the declaration.
        let is = |at: &usize| members.get(*at).is_some_and(|(member, _)| member == &*name);
        let found = Some(next).filter(is).or_else(|| (0..members.len()).find(is));
        match found.map(|at| (at, &members[at])) {
            Some((at, (member, kind))) => {
                next = at + 1;
                let value =
                    typed(scan, kind, depth).map_err(|fault| fault.context(format_args!("member `{member}`: ")))?;
                object.insert(member.clone(), value);
            }
            None => scan.skip(depth)?,
        }
        if !scan.more(b'}')? {
            return Ok(Value::object(object));
        }
    }
}

/// The fault for a value of another type; or for broken text, when that is what stands here.
#[cold]
fn not_of(scan: &mut Scan<'_>, kind: &Kind, depth: usize) -> Fault {
    let start = scan.at();
    let found = match scan.peek() {
        b'"' => "text",
        b'-' | b'0'..=b'9' => "a number",
        b't' | b'f' => "a boolean",
        b'{' => "an object",
        b'[' => "an array",
        _ => return scan.unexpected("a value"),
    };
    match scan.skip(depth) {
        Err(fault) => fault,
        Ok(()) => mismatch(start, kind, found),
    }
}

#[cold]
fn mismatch(at: usize, kind: &Kind, found: &str) -> Fault {
    let wanted = match kind {
        Kind::Bigint => "a bigint (an integer of 64 bits without point and exponent)",
        Kind::Float => "a float",
        Kind::String => "a string",
        Kind::Boolean => "a boolean",
        Kind::Datetime => "a datetime (text or a number)",
        Kind::Bytea => "a bytea (text)",
        Kind::Array(_) => "an array",
        Kind::Struct(_) => "a struct (an object)",
    };
    Fault::decode(format!("expected {wanted}, found {found} at byte {at}"))
}

/// Text for a message, cut when it is long.
fn cut(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(at, _)| &text[..at])
}
