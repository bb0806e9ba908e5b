//! The `json` format, both ways, and JSON text of single values.
//!
//! Decoding is a pass over the bytes that fills the wanted slots (`decode`, `scan`, `value`); encoding a walk over slots
//! (`encode`). Both are ours because they are what a rule spends most of its time on; everything else in the house that
//! reads or writes JSON takes `serde_json`, and the tests here hold the two against each other.
//!
//! Accepted is what RFC 8259 says, and nothing else, also in columns that no one asked for. Half a surrogate pair
//! becomes U+FFFD; of two entries of one name the last counts; more than 128 levels are refused.

mod decode;
mod encode;
mod scan;
#[cfg(test)]
mod tests;
mod value;

use crate::data::{Layout, Value};
use crate::diag::{Diagnostic, Result};

use super::{Decoder, Encoder, Format, FormatOptions, Wanted};

pub(super) const FORMAT: Format = Format {
    name: "json",
    about: "An object, or an array of objects (a row each). Written with sorted names, as a list unless `sendSingle`.",
    decoder,
    encoder,
};

fn decoder(options: &FormatOptions, wanted: &Wanted) -> Result<Box<dyn Decoder>, Diagnostic> {
    Ok(Box::new(decode::Json::new(options, wanted)))
}

fn encoder(_: &FormatOptions, layout: &Layout) -> Result<Box<dyn Encoder>, Diagnostic> {
    Ok(Box::new(encode::Json::new(layout)))
}

/// Reads one JSON value of any type; numbers are floats.
pub fn parse(text: &[u8]) -> Result<Value> {
    let mut scan = scan::Scan::new(text);
    scan.space();
    let value = value::value(&mut scan, false, 0)?;
    scan.end()?;
    Ok(value)
}

/// Appends a value as the encoder writes it.
pub fn print(out: &mut Vec<u8>, value: &Value) {
    encode::push_value(out, value);
}
