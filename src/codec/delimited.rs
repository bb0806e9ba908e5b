//! The `delimited` format: a line a row, fields between delimiters, no types.
//!
//! Reading, each field is text. Names are those of the property `fields`, else those of the first line when `hasHeader`
//! is set, else `col0`, `col1` and so on; surplus fields are dropped, missing ones are absent. Writing, the columns are
//! `fields`, else all names in order; with `hasHeader` each message begins with a line of names.
//!
//! A field that holds the delimiter or a line end, or begins with a quote, is written in quotes, its own quotes doubled.
//! A quoted field is read back as such only if it had to be quoted; any other quotes belong to the field.

use std::borrow::Cow;

use crate::data::{Batch, Layout, Object, Receipt, Text, Time, Value};
use crate::diag::{Diagnostic, Fault, Result};

use super::plain::{Place, Places, push_plain};
use super::{Decoder, Encoder, Format, FormatOptions, Rows, Wanted};

pub(super) const FORMAT: Format = Format {
    name: "delimited",
    about: "Lines of text fields (CSV); properties `delimiter`, `fields`, `hasHeader`.",
    decoder,
    encoder,
};

fn decoder(options: &FormatOptions, wanted: &Wanted) -> Result<Box<dyn Decoder>, Diagnostic> {
    let places = Places::new(wanted);
    Ok(Box::new(Reader {
        delimiter: delimiter(options),
        lines: !options.delimiter.contains('\n'),
        has_header: options.has_header,
        named: !options.fields.is_empty(),
        header: Vec::new(),
        fields: options.fields.iter().map(|name| places.of(name)).collect(),
        places,
    }))
}

fn encoder(options: &FormatOptions, _: &Layout) -> Result<Box<dyn Encoder>, Diagnostic> {
    Ok(Box::new(Writer {
        delimiter: delimiter(options),
        has_header: options.has_header,
        columns: options.fields.clone(),
        fixed: !options.fields.is_empty(),
    }))
}

fn delimiter(options: &FormatOptions) -> Text {
    if options.delimiter.is_empty() { ",".into() } else { options.delimiter.clone() }
}

struct Reader {
    delimiter: Text,
    /// Line ends separate rows; false when the delimiter itself holds one.
    lines: bool,
    has_header: bool,
    /// The names are given by `fields`.
    named: bool,
    /// The last first line.
    header: Vec<u8>,
    /// What is done with the fields, in order.
    fields: Vec<Place>,
    places: Places,
}

impl Reader {
    fn rows(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize> {
        let mut left = if self.lines { without_line_end(payload) } else { payload };
        let whole = left;
        if self.has_header {
            left = self.first_line(left)?;
            if left.is_empty() {
                return Ok(0);
            }
        }
        let mut rows = 0;
        loop {
            // A blank line is no row; a message that is blank as a whole is one with an empty field.
            let blank = left.first() == Some(&b'\n') || left.starts_with(b"\r\n") || left.is_empty();
            if self.lines && blank && !whole.is_empty() {
                left = &left[left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| at + 1)..];
            } else {
                left = self.row(left, payload.len(), out)?;
                rows += 1;
            }
            if left.is_empty() {
                return Ok(rows);
            }
        }
    }

    /// Takes the names from the first line, and gives what follows it.
    fn first_line<'a>(&mut self, payload: &'a [u8]) -> Result<&'a [u8]> {
        let mut left = payload;
        let mut names = Vec::new();
        loop {
            let (field, more, after) = self.field(left);
            names.push(field);
            left = after;
            if !more {
                break;
            }
        }
        let header = &payload[..payload.len() - left.len()];
        if !self.named && self.header != header {
            self.fields.clear();
            for name in names {
                let name = std::str::from_utf8(&name)
                    .map_err(|_| Fault::decode("malformed header: the names in the first line are not utf-8"))?;
                self.fields.push(self.places.of(name));
            }
            self.header = header.to_vec();
        }
        Ok(left)
    }

    /// Reads one row and gives what follows it.
    fn row<'a>(&mut self, payload: &'a [u8], length: usize, out: &mut Batch) -> Result<&'a [u8]> {
        let row = out.push(Time(0), Receipt::none());
        let mut others = Object::new();
        let mut left = payload;
        let mut number = 0;
        loop {
            let start = length - left.len();
            let (field, more, after) = self.field(left);
            if number >= self.fields.len() && !self.named && !self.has_header {
                self.fields.push(self.places.of(&format!("col{number}")));
            }
            let place = self.fields.get(number).unwrap_or(&Place::Skip);
            if *place != Place::Skip {
                let text = std::str::from_utf8(&field).map_err(|_| {
                    Fault::decode(format!("malformed text: field {} (at byte {start}) is not utf-8", number + 1))
                })?;
                match place {
                    Place::Slot(slot) => row[*slot] = Value::text(text),
                    Place::Rest(name) => {
                        others.insert(name.clone(), Value::text(text));
                    }
                    Place::Skip => {}
                }
            }
            left = after;
            number += 1;
            if !more {
                break;
            }
        }
        self.places.finish(row, others);
        Ok(left)
    }

    /// Takes the first field of what is left; also says whether another one follows in the same row, and where.
    fn field<'a>(&self, left: &'a [u8]) -> (Cow<'a, [u8]>, bool, &'a [u8]) {
        if self.lines
            && let Some((text, end)) = self.quoted(left)
        {
            let (more, after) = self.separator(&left[end..]);
            return (Cow::Owned(text), more, after);
        }
        let at = find(left, self.delimiter.as_bytes());
        let line_end = if self.lines { memchr::memchr(b'\n', left) } else { None };
        match (at, line_end) {
            (Some(at), end) if end.is_none_or(|end| at < end) => {
                (Cow::Borrowed(&left[..at]), true, &left[at + self.delimiter.len()..])
            }
            (_, Some(end)) => {
                (Cow::Borrowed(left[..end].strip_suffix(b"\r").unwrap_or(&left[..end])), false, &left[end + 1..])
            }
            (_, None) => (Cow::Borrowed(left), false, &[]),
        }
    }

    /// A field in quotes that needs them, without them, and where it ends.
    fn quoted(&self, left: &[u8]) -> Option<(Vec<u8>, usize)> {
        let mut at = 1;
        let mut text = Vec::new();
        let mut needed = false;
        let mut body = left.strip_prefix(b"\"")?;
        loop {
            let quote = memchr::memchr(b'"', body)?;
            text.extend_from_slice(&body[..quote]);
            at += quote + 1;
            body = &body[quote + 1..];
            if body.first() != Some(&b'"') {
                break;
            }
            needed = true;
            text.push(b'"');
            at += 1;
            body = &body[1..];
        }
        let ends = body.is_empty()
            || body.starts_with(self.delimiter.as_bytes())
            || body.starts_with(b"\n")
            || body.starts_with(b"\r\n");
        needed |= text.contains(&b'\n') || text.contains(&b'\r') || find(&text, self.delimiter.as_bytes()).is_some();
        (ends && needed).then_some((text, at))
    }

    fn separator<'a>(&self, left: &'a [u8]) -> (bool, &'a [u8]) {
        match left.strip_prefix(self.delimiter.as_bytes()) {
            Some(after) => (true, after),
            None => (false, left.strip_prefix(b"\r").unwrap_or(left).strip_prefix(b"\n").unwrap_or_default()),
        }
    }
}

fn without_line_end(text: &[u8]) -> &[u8] {
    match text.strip_suffix(b"\n") {
        Some(text) => text.strip_suffix(b"\r").unwrap_or(text),
        None => text,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    match what {
        [byte] => memchr::memchr(*byte, text),
        _ => memchr::memmem::find(text, what),
    }
}

impl Decoder for Reader {
    fn decode(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize> {
        let before = out.rows();
        let decoded = self.rows(payload, out);
        if decoded.is_err() {
            out.truncate(before);
        }
        decoded
    }
}

struct Writer {
    delimiter: Text,
    has_header: bool,
    /// The columns, as soon as they are known.
    columns: Vec<Text>,
    /// They are those of `fields`, or of the first row: a message without a header has no other way to say which.
    fixed: bool,
}

impl Writer {
    fn push_line(&self, out: &mut Vec<u8>, layout: &Layout, row: &[Value]) {
        for (number, name) in self.columns.iter().enumerate() {
            self.push_field(out, number, layout.value(row, name).unwrap_or(&Value::Null));
        }
    }

    fn push_field(&self, out: &mut Vec<u8>, number: usize, value: &Value) {
        if number > 0 {
            out.extend_from_slice(self.delimiter.as_bytes());
        }
        let start = out.len();
        push_plain(out, value);
        let field = &out[start..];
        let special = |byte: &u8| matches!(byte, b'\n' | b'\r');
        if field.first() == Some(&b'"') || field.iter().any(special) || find(field, self.delimiter.as_bytes()).is_some()
        {
            let mut quoted = Vec::with_capacity(field.len() + 8);
            quoted.push(b'"');
            for byte in field {
                if *byte == b'"' {
                    quoted.push(b'"');
                }
                quoted.push(*byte);
            }
            quoted.push(b'"');
            out.truncate(start);
            out.extend_from_slice(&quoted);
        }
    }
}

impl Encoder for Writer {
    fn encode(&mut self, rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        if !self.fixed {
            let mut names: Vec<Text> = Vec::new();
            for (slot, column) in rows.layout.columns().iter().enumerate() {
                match column.spread {
                    false => names.push(column.name.clone()),
                    true => rows.rows.iter().for_each(|row| {
                        if let Value::Object(object) = &row[slot] {
                            names.extend(object.keys().cloned());
                        }
                    }),
                }
            }
            names.sort_unstable();
            names.dedup();
            self.columns = names;
            self.fixed = rows.single && !self.has_header;
        }
        let mut first = true;
        if self.has_header && !rows.rows.is_empty() {
            for (number, name) in self.columns.iter().enumerate() {
                self.push_field(out, number, &Value::Text(name.clone()));
            }
            first = false;
        }
        for row in rows.rows {
            if !first {
                out.push(b'\n');
            }
            first = false;
            self.push_line(out, rows.layout, row);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::codec::WantedColumn;
    use crate::data::Column;

    fn options(fields: &[&str], delimiter: &str, has_header: bool) -> FormatOptions {
        FormatOptions {
            delimiter: delimiter.into(),
            fields: fields.iter().map(|name| Text::from(*name)).collect(),
            has_header,
            ..FormatOptions::default()
        }
    }

    fn all() -> Wanted {
        Wanted { columns: vec![], rest: Some(0), width: 1 }
    }

    /// The rows of one message as `name=text` lists.
    fn read(options: &FormatOptions, text: &str) -> Vec<String> {
        let mut batch = Batch::new(1);
        let count = decoder(options, &all()).unwrap().decode(text.as_bytes(), &mut batch).unwrap();
        (0..count)
            .map(|row| match &batch.row(row)[0] {
                Value::Object(object) => {
                    let shown: Vec<_> =
                        object.iter().map(|(name, value)| format!("{name}={}", value.print())).collect();
                    shown.join(" ")
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn write(options: &FormatOptions, layout: &Layout, rows: &[&[Value]], single: bool) -> String {
        let mut out = Vec::new();
        encoder(options, layout).unwrap().encode(&Rows { layout, rows, single }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_text_under_their_names() {
        assert_eq!(read(&options(&[], "", false), "1,a b,"), ["col0=1 col1=a b col2="]);
        assert_eq!(read(&options(&["x", "y"], "::", false), "1::2::3"), ["x=1 y=2"]);
        assert_eq!(read(&options(&["x", "y", "z"], ";", false), "1;2\n"), ["x=1 y=2"]);
        assert_eq!(read(&options(&[], "", false), ""), ["col0="]);
    }

    #[test]
    fn only_wanted_fields_are_taken() {
        let column = WantedColumn { name: "b".into(), slot: 1, kind: None };
        let wanted = Wanted { columns: vec![column], rest: None, width: 2 };
        let mut batch = Batch::new(2);
        let mut reader = decoder(&options(&["a", "b"], "", false), &wanted).unwrap();
        assert_eq!(reader.decode(b"\xff,2", &mut batch), Ok(1));
        assert!(matches!(batch.row(0)[0], Value::Absent));
        assert_eq!(batch.row(0)[1], Value::text("2"));
        let fault = reader.decode(b"1,\xff", &mut batch).unwrap_err();
        assert_eq!(fault.to_string(), "malformed text: field 2 (at byte 2) is not utf-8");
        assert_eq!(batch.rows(), 1);
    }

    #[test]
    fn a_line_is_a_row_and_the_first_may_hold_the_names() {
        assert_eq!(read(&options(&[], "", true), "a,b\r\n1,2\r\n\r\n3,4\r\n"), ["a=1 b=2", "a=3 b=4"]);
        assert_eq!(read(&options(&[], "", true), "a,b"), Vec::<String>::new());
        assert_eq!(read(&options(&["x"], "", true), "a,b\n1,2"), ["x=1"]);
        let mut reader = decoder(&options(&[], "", true), &all()).unwrap();
        let mut batch = Batch::new(1);
        reader.decode(b"a,b\n1,2", &mut batch).unwrap();
        reader.decode(b"b,c\n1,2", &mut batch).unwrap();
        let names = ["b", "c"].into_iter().zip([Value::text("1"), Value::text("2")]);
        assert_eq!(batch.row(1)[0], Value::object(names.collect()));
    }

    #[test]
    fn quotes_count_only_where_they_are_needed() {
        assert_eq!(read(&options(&[], "", false), r#""a,b",2"#), ["col0=a,b col1=2"]);
        assert_eq!(read(&options(&[], "", false), "\"a\nb\",2\n3"), ["col0=a\nb col1=2", "col0=3"]);
        assert_eq!(read(&options(&[], "", false), r#""abc",5",""#), [r#"col0="abc" col1=5" col2=""#]);
        assert_eq!(read(&options(&[], "", false), r#""a,b"c,2"#), [r#"col0="a col1=b"c col2=2"#]);
    }

    #[test]
    fn columns_are_sorted_unless_given() {
        let layout = Layout::from_iter(["b", "a", "c"]);
        let row = [Value::Float(2.5), Value::Int(1), Value::Absent];
        let other = [Value::Bool(true), Value::Absent, Value::Float(1e21)];
        let none = options(&[], "", false);
        assert_eq!(write(&none, &layout, &[&row], true), "1,2.5,");
        assert_eq!(write(&none, &layout, &[&row, &other], false), "1,2.5,\n,true,1000000000000000000000");
        assert_eq!(write(&none, &layout, &[], false), "");
        assert_eq!(write(&options(&["b", "x", "a"], ";", false), &layout, &[&row, &row], false), "2.5;;1\n2.5;;1");
        assert_eq!(write(&options(&[], "", true), &layout, &[&row], true), "a,b,c\n1,2.5,");
        assert_eq!(write(&options(&[], "", true), &layout, &[], false), "");
    }

    #[test]
    fn columns_of_single_rows_stay_those_of_the_first() {
        let layout = Layout::new(vec![Column { name: "*".into(), spread: true }]);
        let row = |names: &[&str]| [Value::object(names.iter().map(|name| (*name, Value::text(name))).collect())];
        let mut writer = encoder(&options(&[], "", false), &layout).unwrap();
        let mut out = Vec::new();
        for names in [&["b", "a"][..], &["c", "b"]] {
            writer.encode(&Rows { layout: &layout, rows: &[&row(names)], single: true }, &mut out).unwrap();
            out.push(b'|');
        }
        for names in [&["b", "a"][..], &["c", "b"]] {
            writer = encoder(&options(&[], "", true), &layout).unwrap();
            writer.encode(&Rows { layout: &layout, rows: &[&row(names)], single: true }, &mut out).unwrap();
            out.push(b'|');
        }
        assert_eq!(String::from_utf8(out).unwrap(), "a,b|,b|a,b\na,b|b,c\nb,c|");
    }

    #[test]
    fn whatever_is_written_is_read_back() {
        let texts = ["", "a", "a,b", "\"", "\"\"", "\"x\"", "5\"", "a\nb", "a\r", "\r\n", ",", "\",\"", "é;"];
        let layout = Layout::from_iter(["col0", "col1"]);
        for first in texts {
            for second in texts {
                let row = [Value::text(first), Value::text(second)];
                let text = write(&options(&[], "", false), &layout, &[&row, &row], false);
                // Two empty fields are not a blank line: the delimiter is there.
                let shown = format!("col0={first} col1={second}");
                assert_eq!(read(&options(&[], "", false), &text), [shown.clone(), shown], "{text:?}");
            }
        }
    }
}
