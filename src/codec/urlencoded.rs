//! The `urlencoded` format: `name=value` pairs as a web form sends them, one row a message.
//!
//! Values are text; a name that comes more than once gives an array, and an array is written as a name more than once.

use crate::data::{Batch, Layout, Object, Receipt, Text, Time, Value};
use crate::diag::{Diagnostic, Fault, Result};

use super::plain::{Place, Places, push_plain};
use super::{Decoder, Encoder, Format, FormatOptions, Rows, Wanted};

pub(super) const FORMAT: Format = Format {
    name: "urlencoded",
    about: "Pairs as a web form sends them, `a=1&b=x+y`; one row a message.",
    decoder,
    encoder,
};

fn decoder(_: &FormatOptions, wanted: &Wanted) -> Result<Box<dyn Decoder>, Diagnostic> {
    Ok(Box::new(Reader { places: Places::new(wanted) }))
}

fn encoder(_: &FormatOptions, _: &Layout) -> Result<Box<dyn Encoder>, Diagnostic> {
    Ok(Box::new(Writer))
}

struct Reader {
    places: Places,
}

impl Decoder for Reader {
    fn decode(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize> {
        // All names first: one that comes again needs the value that came before.
        let mut pairs = Object::new();
        for pair in payload.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let name = unescape(&pair[..at])?;
            let value = Value::Text(unescape(pair.get(at + 1..).unwrap_or_default())?);
            let value = match pairs.get(&name) {
                None => value,
                Some(Value::Array(items)) => Value::array([&items[..], &[value]].concat()),
                Some(first) => Value::array(vec![first.clone(), value]),
            };
            pairs.insert(name, value);
        }
        let row = out.push(Time(0), Receipt::none());
        let mut others = Object::new();
        for (name, value) in pairs {
            match self.places.of(&name) {
                Place::Slot(slot) => row[slot] = value,
                Place::Rest(name) => {
                    others.insert(name, value);
                }
                Place::Skip => {}
            }
        }
        self.places.finish(row, others);
        Ok(1)
    }
}

fn unescape(bytes: &[u8]) -> Result<Text> {
    let broken = |what: &str| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        Fault::decode(format!("malformed url encoding in `{shown}`: {what}"))
    };
    let mut text = Vec::with_capacity(bytes.len());
    let mut left = bytes;
    while let Some((&byte, after)) = left.split_first() {
        left = after;
        match byte {
            b'+' => text.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
                match u8::from_str_radix(digits, 16) {
                    Ok(byte) if !digits.starts_with('+') => text.push(byte),
                    _ => return Err(broken("`%` must be followed by two hexadecimal digits")),
                }
                left = &after[2..];
            }
            b';' => return Err(broken("`;` must be written `%3B`, and pairs be separated by `&`")),
            byte => text.push(byte),
        }
    }
    Text::from_utf8(text).map_err(|_| broken("it is not utf-8"))
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

struct Writer;

impl Encoder for Writer {
    fn encode(&mut self, rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        let ([row], true) = (rows.rows, rows.single) else {
            return Err(Fault::encode(
                "the format `urlencoded` writes one row a message: set `sendSingle` to true for this sink",
            ));
        };
        let found = rows.layout.object(row);
        let mut first = true;
        let mut plain = Vec::new();
        let mut push = |name: &str, value: &Value| {
            if !std::mem::take(&mut first) {
                out.push(b'&');
            }
            push_escaped(out, name.as_bytes());
            out.push(b'=');
            plain.clear();
            push_plain(&mut plain, value);
            push_escaped(out, &plain);
        };
        for (name, value) in found.sorted() {
            match value {
                Value::Array(items) => items.iter().for_each(|item| push(name, item)),
                value => push(name, value),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::codec::WantedColumn;

    fn read(text: &[u8]) -> Result<Vec<Value>, String> {
        let columns = vec![WantedColumn { name: "a".into(), slot: 0, kind: None }];
        let mut batch = Batch::new(2);
        let mut reader = decoder(&FormatOptions::default(), &Wanted { columns, rest: Some(1), width: 2 }).unwrap();
        reader.decode(text, &mut batch).map_err(|fault| {
            assert_eq!(batch.rows(), 0);
            fault.to_string()
        })?;
        Ok(batch.row(0).to_vec())
    }

    #[test]
    fn pairs_are_text_and_repeated_ones_arrays() {
        let row = read("a=x+y%C3%A9&b=1&b=2&&c&b=3&d=1=2".as_bytes()).unwrap();
        assert_eq!(row[0], Value::text("x yé"));
        let several = Value::array(["1", "2", "3"].map(Value::text).to_vec());
        let rest = [("b", several), ("c", Value::text("")), ("d", Value::text("1=2"))];
        assert_eq!(row[1], Value::object(Object::from_iter(rest)));
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(
            read(b"a=%4"),
            Err("malformed url encoding in `%4`: `%` must be followed by two hexadecimal digits".into())
        );
        assert!(read(b"a=%+1").is_err());
        assert!(read(b"a=1;b=2").unwrap_err().ends_with("pairs be separated by `&`"));
        assert_eq!(read(b"a=%FF"), Err("malformed url encoding in `%FF`: it is not utf-8".into()));
    }

    #[test]
    fn a_row_is_written_with_sorted_names() {
        let layout = Layout::from_iter(["b", "a b", "c"]);
        let row = [Value::array(vec![Value::Int(1), Value::text("é&")]), Value::Float(1.5), Value::Null];
        let mut out = Vec::new();
        let mut writer = encoder(&FormatOptions::default(), &layout).unwrap();
        writer.encode(&Rows { layout: &layout, rows: &[&row], single: true }, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a+b=1.5&b=1&b=%C3%A9%26&c=");
        let fault = writer.encode(&Rows { layout: &layout, rows: &[&row], single: false }, &mut Vec::new());
        assert!(fault.unwrap_err().to_string().contains("`sendSingle`"));
    }
}
