//! Records of a CSV file: values are texts, named by the header, by the options, or `cols0`, `cols1`, ….

use bytes::Bytes;

use crate::data::{Object, Text, Value};
use crate::diag::{Fault, Result};

use super::lines::is_blank;

/// Turns lines into rows. A quoted value may go on over several lines.
pub(super) struct Csv {
    delimiter: String,
    names: Vec<Text>,
    /// The first record holds the names.
    header: bool,
    /// A record whose last value is not closed yet.
    open: Vec<u8>,
    record: u64,
}

impl Csv {
    /// The delimiter is the first character of the text, `,` if it is empty.
    pub(super) fn new(delimiter: &str, header: bool, columns: &[String]) -> Csv {
        Csv {
            delimiter: delimiter.chars().next().unwrap_or(',').to_string(),
            names: columns.iter().map(Text::new).collect(),
            header,
            open: Vec::new(),
            record: 0,
        }
    }

    /// Goes on after so many records, whose columns had these names.
    pub(super) fn go_on(&mut self, names: Vec<Text>, record: u64) {
        (self.names, self.record, self.header) = (names, record, false);
    }

    /// The names of the columns, and how many records there were.
    pub(super) fn state(&self) -> (&[Text], u64) {
        (&self.names, self.record)
    }

    /// Takes a line; `None` when it makes no row by itself.
    pub(super) fn push(&mut self, line: Bytes) -> Option<Result<Object>> {
        let values = if self.open.is_empty() {
            if is_blank(&line) {
                return None;
            }
            match values(&line, self.delimiter.as_bytes()) {
                None => self.open = line.to_vec(),
                some => return self.row(some?),
            }
            None
        } else {
            self.open.push(b'\n');
            self.open.extend_from_slice(&line);
            values(&self.open, self.delimiter.as_bytes())
        };
        let values = values?;
        self.open.clear();
        self.row(values)
    }

    /// At the end of the file: the fault of a value that was never closed.
    pub(super) fn finish(&mut self) -> Option<Fault> {
        let text = format!("record {} has a quoted value that does not end", self.record + 1);
        (!self.open.is_empty()).then(|| Fault::decode(text))
    }

    fn row(&mut self, values: Vec<Text>) -> Option<Result<Object>> {
        if std::mem::take(&mut self.header) {
            self.names = values;
            return None;
        }
        self.record += 1;
        if self.names.is_empty() {
            self.names = (0..values.len()).map(|n| Text::from(format!("cols{n}"))).collect();
        }
        if values.len() != self.names.len() {
            let (found, expected) = (values.len(), self.names.len());
            let text = format!("record {} has {found} values, expected {expected}", self.record);
            return Some(Err(Fault::decode(text)));
        }
        let mut row = Object::with_capacity(values.len());
        for (name, value) in self.names.iter().zip(values) {
            row.insert(name.clone(), Value::Text(value));
        }
        Some(Ok(row))
    }
}

/// The values of a record, `None` if its last one is quoted and not closed. Spaces before a value do not count.
fn values(record: &[u8], delimiter: &[u8]) -> Option<Vec<Text>> {
    let mut values = Vec::new();
    let mut rest = record;
    loop {
        while let [b' ' | b'\t', after @ ..] = rest
            && !rest.starts_with(delimiter)
        {
            rest = after;
        }
        if let [b'"', quoted @ ..] = rest {
            let mut value = Vec::new();
            let mut quoted = quoted;
            loop {
                let end = memchr::memchr(b'"', quoted)?;
                value.extend_from_slice(&quoted[..end]);
                quoted = &quoted[end + 1..];
                if quoted.first() != Some(&b'"') {
                    break;
                }
                value.push(b'"');
                quoted = &quoted[1..];
            }
            let end = memchr::memmem::find(quoted, delimiter);
            value.extend_from_slice(&quoted[..end.unwrap_or(quoted.len())]);
            values.push(text(&value));
            match end {
                Some(end) => rest = &quoted[end + delimiter.len()..],
                None => return Some(values),
            }
        } else {
            match memchr::memmem::find(rest, delimiter) {
                Some(end) => {
                    values.push(text(&rest[..end]));
                    rest = &rest[end + delimiter.len()..];
                }
                None => {
                    values.push(text(rest));
                    return Some(values);
                }
            }
        }
    }
}

fn text(bytes: &[u8]) -> Text {
    Text::from(String::from_utf8_lossy(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rows(csv: &mut Csv, text: &'static str) -> Vec<std::result::Result<String, String>> {
        let lines = text.split('\n').map(|line| Bytes::from_static(line.as_bytes()));
        let show = |row: Object| {
            let cells: Vec<_> = row.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
            cells.join("|")
        };
        lines.filter_map(|line| csv.push(line)).map(|row| row.map(show).map_err(|fault| fault.to_string())).collect()
    }

    #[test]
    fn names_come_from_the_header_the_options_or_numbers() {
        let ok = |text: &str| vec![Ok(text.to_owned())];
        assert_eq!(rows(&mut Csv::new(",", true, &["x".into()]), "a,b\n\n1, 2\n"), ok("a=1|b=2"));
        assert_eq!(
            rows(&mut Csv::new(";", false, &["x".into(), "y".into()]), "1; 2;"),
            [Err("record 1 has 3 values, expected 2".to_owned())]
        );
        assert_eq!(rows(&mut Csv::new("\t", false, &[]), "1\t\t3"), ok("cols0=1|cols1=|cols2=3"));
    }

    #[test]
    fn quoted_values_hold_delimiters_quotes_and_line_ends() {
        let mut csv = Csv::new(",", false, &["a".into(), "b".into()]);
        let found = rows(&mut csv, "\"x, \"\"y\"\"\",1\n\"two\n\nlines\", 2\n 3,a\"b");
        assert_eq!(found, [Ok("a=x, \"y\"|b=1".into()), Ok("a=two\n\nlines|b=2".into()), Ok("a=3|b=a\"b".into())]);
        assert!(csv.finish().is_none());
        assert!(rows(&mut csv, "\"open").is_empty());
        assert_eq!(csv.finish().unwrap().to_string(), "record 4 has a quoted value that does not end");
    }

    #[test]
    fn a_record_of_another_length_is_an_error_and_the_next_is_read() {
        let mut csv = Csv::new(",", true, &[]);
        let found = rows(&mut csv, "a,b\n1\n2,3");
        assert_eq!(found, [Err("record 1 has 1 values, expected 2".into()), Ok("a=2|b=3".into())]);
    }
}
