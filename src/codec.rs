//! Bytes to slots and back: json, delimited, binary and their like.
//!
//! A [`Decoder`] fills only what a [`Wanted`] asks for, straight into a batch; an [`Encoder`] turns an emission into one
//! message. Each format is a row of [`FORMATS`] and a file here. A record that cannot be decoded leaves the batch as it
//! was and is a `Fault::Decode`. No clock, no I/O, no counting: that is the caller's.

mod binary;
mod delimited;
pub mod json;
mod plain;
mod urlencoded;

use std::collections::HashMap;

use crate::data::{Batch, Kind, Layout, Object, Text, Value};
use crate::diag::{Diagnostic, Result};

/// What a decoder fills: names to slots, as the plans of the rules ask.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub columns: Vec<WantedColumn>,
    /// Slot for an object of all columns that are not in `columns`, as `SELECT *` asks for.
    pub rest: Option<usize>,
    /// Slots of a row; those that no column names are left absent, for values computed later.
    pub width: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WantedColumn {
    pub name: Text,
    pub slot: usize,
    /// The declared type, which decoding enforces; `None` in a schemaless stream.
    pub kind: Option<Kind>,
}

impl Wanted {
    /// Fills a row from a message that is an object already, as row sources give them. Declared types are not enforced.
    pub fn fill(&self, object: Object, row: &mut [Value]) {
        if let Some(rest) = self.rest {
            if !self.columns.iter().any(|column| object.contains(&column.name)) {
                row[rest] = Value::object(object);
                return;
            }
            let names: HashMap<&str, usize> =
                self.columns.iter().map(|column| (column.name.as_str(), column.slot)).collect();
            let mut others = Object::with_capacity(object.len());
            for (name, value) in object {
                match names.get(name.as_str()) {
                    Some(&slot) => row[slot] = value,
                    None => {
                        others.insert(name, value);
                    }
                }
            }
            row[rest] = Value::object(others);
        } else {
            for column in &self.columns {
                if let Some(value) = object.get(&column.name) {
                    row[column.slot] = value.clone();
                }
            }
        }
    }
}

/// Settings of a format, from the stream's WITH clause and configuration, or from a sink's properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FormatOptions {
    /// Lower case: `json`, `delimited`, `binary`, `urlencoded`.
    pub format: Text,
    /// `delimited`: separator, `,` when empty.
    pub delimiter: Text,
    /// `delimited`: names of the columns, in order.
    pub fields: Vec<Text>,
    /// `delimited`: the first line holds the names.
    pub has_header: bool,
    /// `json`: numbers without a point become integers.
    pub whole_numbers_as_int: bool,
    pub schema_id: Text,
}

/// Reads messages of one stream. It may remember what the last message looked like, to be faster at the next.
pub trait Decoder: Send {
    /// Appends the rows of one message (an array of objects gives several) with `Batch::push(Time(0), Receipt::none())`
    /// and returns how many. After an error the batch is as before.
    fn decode(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize>;
}

/// One emission as a sink sees it: rows of values, named by a layout.
pub struct Rows<'a> {
    pub layout: &'a Layout,
    /// Each of `layout.width()` values; `Absent` is no column.
    pub rows: &'a [&'a [Value]],
    /// False: a list of rows, even of one. True: `rows` holds one row, written as an object.
    pub single: bool,
}

/// Writes messages of one sink.
pub trait Encoder: Send {
    /// Appends one message to `out`.
    fn encode(&mut self, rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()>;
}

/// Makes the decoder of a stream.
pub type OpenDecoder = fn(&FormatOptions, &Wanted) -> Result<Box<dyn Decoder>, Diagnostic>;
/// Makes the encoder of a sink.
pub type OpenEncoder = fn(&FormatOptions, &Layout) -> Result<Box<dyn Encoder>, Diagnostic>;

/// One format.
pub struct Format {
    pub name: &'static str,
    pub about: &'static str,
    pub decoder: OpenDecoder,
    pub encoder: OpenEncoder,
}

/// All formats.
pub const FORMATS: &[Format] = &[json::FORMAT, delimited::FORMAT, binary::FORMAT, urlencoded::FORMAT];

/// The format of that name.
pub fn format(name: &str) -> Result<&'static Format, Diagnostic> {
    FORMATS.iter().find(|format| format.name == name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        let error = Diagnostic::error("K0601", format!("there is no format `{name}`"));
        match error.suggest(name, names.iter().copied()) {
            Diagnostic { help: None, code, .. } => {
                let text = format!("this kuiper has no format `{name}`; it has `{}`", names.join("`, `"));
                let error = Diagnostic::error(code, text);
                // What eKuiper has beside these.
                match name {
                    "protobuf" | "custom" => {
                        error.help("a source or sink from a plugin can decode and encode by itself")
                    }
                    _ => error,
                }
            }
            near => near,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_found_by_its_name() {
        assert_eq!(format("delimited").unwrap().name, "delimited");
        let told = format("jsn").err().unwrap();
        assert_eq!(told.to_string(), "there is no format `jsn` (did you mean `json`?)");
        let told = format("protobuf").err().unwrap();
        let all = "it has `json`, `delimited`, `binary`, `urlencoded`";
        let help = "a source or sink from a plugin can decode and encode by itself";
        assert_eq!(told.to_string(), format!("this kuiper has no format `protobuf`; {all} ({help})"));
        assert_eq!(format("xml").err().unwrap().to_string(), format!("this kuiper has no format `xml`; {all}"));
    }

    /// What every format says of its own row, written and read again.
    #[test]
    fn every_format_reads_what_it_writes() {
        for format in FORMATS {
            let name = if format.name == "delimited" { "col0" } else { "self" };
            let layout = Layout::from_iter([name]);
            let options = FormatOptions { format: format.name.into(), ..FormatOptions::default() };
            let mut text = Vec::new();
            let rows = Rows { layout: &layout, rows: &[&[Value::text("a & \"b\"")]], single: true };
            (format.encoder)(&options, &layout).unwrap().encode(&rows, &mut text).unwrap();
            let column = WantedColumn { name: name.into(), slot: 0, kind: None };
            let wanted = Wanted { columns: vec![column], rest: None, width: 1 };
            let mut batch = Batch::new(1);
            assert_eq!((format.decoder)(&options, &wanted).unwrap().decode(&text, &mut batch), Ok(1));
            let expected = if format.name == "binary" { Value::bytes(b"a & \"b\"") } else { Value::text("a & \"b\"") };
            assert_eq!(batch.row(0), [expected], "{}", format.name);
        }
    }
}
