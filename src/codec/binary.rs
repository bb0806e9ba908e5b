//! The `binary` format: the message is one value, taken and given as it is.
//!
//! It is the column that is declared BYTEA, or else `self`. Writing, it is `self`, or else the only column of the row.

use crate::data::{Batch, Kind, Layout, Object, Receipt, Time, Value};
use crate::diag::{Diagnostic, Fault, Result};

use super::{Decoder, Encoder, Format, FormatOptions, Rows, Wanted};

pub(super) const FORMAT: Format = Format {
    name: "binary",
    about: "The bytes of the message as they are, in the column `self` or the one declared BYTEA.",
    decoder,
    encoder,
};

const SELF: &str = "self";

fn decoder(_: &FormatOptions, wanted: &Wanted) -> Result<Box<dyn Decoder>, Diagnostic> {
    let declared = wanted.columns.iter().find(|column| column.kind == Some(Kind::Bytea));
    let column = declared.or_else(|| wanted.columns.iter().find(|column| column.name == SELF));
    Ok(Box::new(Reader { slot: column.map(|column| column.slot), rest: wanted.rest }))
}

fn encoder(_: &FormatOptions, _: &Layout) -> Result<Box<dyn Encoder>, Diagnostic> {
    Ok(Box::new(Writer))
}

struct Reader {
    slot: Option<usize>,
    rest: Option<usize>,
}

impl Decoder for Reader {
    fn decode(&mut self, payload: &[u8], out: &mut Batch) -> Result<usize> {
        let row = out.push(Time(0), Receipt::none());
        if let Some(slot) = self.slot {
            row[slot] = Value::bytes(payload);
        }
        if let Some(rest) = self.rest {
            let mut others = Object::new();
            if self.slot.is_none() {
                others.insert(SELF, Value::bytes(payload));
            }
            row[rest] = Value::object(others);
        }
        Ok(1)
    }
}

struct Writer;

impl Encoder for Writer {
    fn encode(&mut self, rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        let ([row], true) = (rows.rows, rows.single) else {
            return Err(Fault::encode(
                "the format `binary` writes one row a message: set `sendSingle` to true for this sink",
            ));
        };
        let found = rows.layout.object(row);
        let value = match (found.get(SELF), found.at(0)) {
            (Some(value), _) => value,
            (None, Some((_, value))) if found.len() == 1 => value,
            _ => {
                return Err(Fault::encode(format!(
                    "the format `binary` writes the column `self` or an only one, and the row has {} others",
                    found.len()
                )));
            }
        };
        match value {
            Value::Bytes(bytes) => out.extend_from_slice(bytes),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            other => {
                return Err(Fault::encode(format!(
                    "the format `binary` writes bytea or string, and the column is {}",
                    other.type_name()
                )));
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

    fn read(columns: Vec<WantedColumn>, rest: Option<usize>) -> Vec<Value> {
        let wanted = Wanted { columns, rest, width: 2 };
        let mut batch = Batch::new(2);
        let mut reader = decoder(&FormatOptions::default(), &wanted).unwrap();
        assert_eq!(reader.decode(b"\xff\x00", &mut batch), Ok(1));
        batch.row(0).to_vec()
    }

    #[test]
    fn the_message_is_one_value() {
        let bytes = Value::bytes(b"\xff\x00");
        let column = |name: &str, kind| WantedColumn { name: name.into(), slot: 0, kind };
        let empty = Value::object(Object::new());
        assert_eq!(read(vec![column("image", Some(Kind::Bytea))], Some(1)), [bytes.clone(), empty]);
        assert_eq!(read(vec![column("self", None)], None)[0], bytes);
        assert_eq!(read(vec![column("other", None)], None)[0], Value::Absent);
        assert_eq!(read(vec![], Some(1))[1], Value::object(Object::from_iter([("self", bytes)])));
    }

    #[test]
    fn one_row_is_written_as_it_is() {
        let write = |names: &[&str], rows: &[&[Value]], single| {
            let layout = Layout::from_iter(names.iter().copied());
            let mut out = Vec::new();
            encoder(&FormatOptions::default(), &layout)
                .unwrap()
                .encode(&Rows { layout: &layout, rows, single }, &mut out)
                .map(|()| out)
                .map_err(|fault| fault.to_string())
        };
        let row = [Value::bytes(b"\xff"), Value::Int(1)];
        assert_eq!(write(&["self", "n"], &[&row], true), Ok(b"\xff".to_vec()));
        assert_eq!(write(&["image", "n"], &[&[Value::bytes(b"\xff"), Value::Absent]], true), Ok(b"\xff".to_vec()));
        assert_eq!(
            write(&["image", "n"], &[&row], true),
            Err("the format `binary` writes the column `self` or an only one, and the row has 2 others".into())
        );
        assert_eq!(
            write(&["n"], &[&[Value::Int(1)]], true),
            Err("the format `binary` writes bytea or string, and the column is bigint".into())
        );
        assert!(write(&["self"], &[&[Value::bytes(b"")]], false).unwrap_err().contains("`sendSingle`"));
    }
}
