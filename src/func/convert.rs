//! From one kind of value to another: casts, base64, hexadecimal digits, compression, time zones.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use jiff::tz::TimeZone;

use crate::data::cast::{self, Reading, Strictness};
use crate::data::{DateTime, Text, Value};
use crate::diag::{Fault, Result};

use super::args::{
    MAX_TEXT, arg, as_text, check_int, check_number, check_text, converted, float, float_of_int, int, is_text, literal,
    no_literal, only_literal, text, texts, wrong,
};
use super::{Arg, Check, Ctx, Func, Stateful};

const fn row(
    name: &'static str,
    signature: &'static str,
    call: fn(&[Value], &Ctx<'_>) -> Result<Value>,
    check: Check,
) -> Func {
    Func::scalar(name, signature, call).family("convert").check(check)
}

pub const FUNCS: &[Func] = &[
    row("cast", "(any, text) -> any", cast, check_cast)
        .about("The value as `bigint`, `float`, `string`, `boolean`, `datetime` or `bytea`; what has no such form is an error.")
        .examples(&[
            ("cast(\"0x1f\", \"bigint\")", "31"),
            ("cast(3.99, \"bigint\")", "3"),
            ("cast(1000000.0, \"string\")", "\"1000000\""),
        ]),
    row("encode", "(text, text) -> text", encode, check_base64)
        .about("The text in base64; the second argument is always \"base64\".")
        .examples(&[("encode(\"kuiper\", \"base64\")", "\"a3VpcGVy\""), ("encode(\"\", \"base64\")", "\"\"")]),
    row("decode", "(text, text) -> bytea", decode, check_base64)
        .about("The bytes of a text in base64; the second argument is always \"base64\".")
        .examples(&[
            ("length(decode(\"a3VpcGVy\", \"base64\"))", "6"),
            ("cast(decode(\"aGk=\", \"base64\"), \"string\")", "\"hi\""),
        ]),
    Func::stateful("compress", "(text|bytea, text) -> bytea", || Box::new(Packer::new(false)))
        .family("convert")
        .check(texts)
        .about("The bytes compressed with `zlib`, `gzip` or `flate`; the first call decides which.")
        .examples(&[
            ("cast(decompress(compress(\"pump\", \"zlib\"), \"zlib\"), \"string\")", "\"pump\""),
            ("length(compress(\"\", \"zlib\"))", "8"),
        ]),
    Func::stateful("decompress", "(text|bytea, text) -> bytea", || Box::new(Packer::new(true)))
        .family("convert")
        .check(texts)
        .about("The bytes that were compressed with `zlib`, `gzip` or `flate`; the first call decides which.")
        .examples(&[
            ("cast(decompress(decode(\"eJwrKM0tUChOLUvNAwAWLAQE\", \"base64\"), \"zlib\"), \"string\")", "\"pump seven\""),
            ("cast(decompress(compress(\"x\", \"gzip\"), \"gzip\"), \"string\")", "\"x\""),
        ]),
    row("trunc", "(number, int) -> float", trunc, check_trunc)
        .about("The number cut, not rounded, to so many decimals; fewer than none counts as none.")
        .examples(&[("trunc(7.89, 1)", "7.8"), ("trunc(-2.5, 0)", "-2")]),
    row("chr", "(int|text) -> text|bigint", chr, check_chr)
        .about("The character with this code point; of a text of one character its code point.")
        .examples(&[("chr(65)", "\"A\""), ("chr(\"A\")", "65")]),
    row("hex2dec", "(text) -> bigint", hex2dec, texts)
        .about("The integer that hexadecimal digits stand for, with or without `0x`.")
        .examples(&[("hex2dec(\"0xff\")", "255"), ("hex2dec(\"10\")", "16")]),
    row("dec2hex", "(int) -> text", dec2hex, check_dec2hex)
        .about("The integer in hexadecimal digits, with `0x` in front.")
        .examples(&[("dec2hex(255)", "\"0xff\""), ("dec2hex(0)", "\"0x0\"")]),
    row("convert_tz", "(datetime, text) -> datetime", convert_tz, check_zone)
        .about("The same instant, shown in the time zone of this IANA name.")
        .examples(&[
            (
                "cast(convert_tz(cast(\"2024-03-09T10:11:12Z\", \"datetime\"), \"Asia/Tokyo\"), \"string\")",
                "\"2024-03-09T19:11:12+09:00\"",
            ),
            ("hour(convert_tz(cast(0, \"datetime\"), \"Asia/Tokyo\"))", "9"),
        ]),
];

const KINDS: &str = "one of `bigint`, `float`, `string`, `boolean`, `datetime` and `bytea`";

fn check_cast(args: &[Arg]) -> std::result::Result<(), String> {
    literal(args, 1, KINDS, |value| value.as_str().is_some_and(|name| cast::kind_of_name(name).is_some()))
}

fn reading<'a>(ctx: &Ctx<'a>) -> Reading<'a> {
    Reading { format: None, zone: &ctx.rule.zone, now: ctx.now }
}

fn cast(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let kind = arg(args, 1).as_str().and_then(cast::kind_of_name).ok_or_else(|| wrong(args, 1, KINDS))?;
    cast::cast(arg(args, 0), &kind, &reading(ctx))
}

fn check_base64(args: &[Arg]) -> std::result::Result<(), String> {
    check_text(args, 0)?;
    only_literal(args, 1, "the literal \"base64\"", |value| value.as_str() == Some("base64"))
}

fn is_base64(args: &[Value]) -> Result<()> {
    if text(args, 1)?.eq_ignore_ascii_case("base64") { Ok(()) } else { Err(wrong(args, 1, "\"base64\"")) }
}

fn encode(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    is_base64(args)?;
    Ok(Value::from(cast::base64(text(args, 0)?.as_bytes())))
}

fn decode(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    is_base64(args)?;
    let bytes = cast::from_base64(text(args, 0)?).ok_or_else(|| wrong(args, 0, "base64 with its padding"))?;
    Ok(Value::bytes(&bytes))
}

fn check_trunc(args: &[Arg]) -> std::result::Result<(), String> {
    check_number(args, 0)?;
    check_int(args, 1)
}

fn trunc(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let places = usize::try_from(int(args, 1)?.max(0)).unwrap_or(usize::MAX);
    if let Value::Int(n) = arg(args, 0) {
        return Ok(float_of_int(*n));
    }
    let x = float(args, 0)?;
    if !x.is_finite() {
        return Ok(Value::Null);
    }
    // On the decimal digits, as a person would: 0.29 times 100 is less than 29 in floats.
    let digits = cast::plain_float(x);
    let cut = match digits.find('.') {
        Some(point) => digits.len().min(point.saturating_add(1).saturating_add(places)),
        None => digits.len(),
    };
    Ok(Value::Float(digits[..cut].parse().unwrap_or(x)))
}

fn check_chr(args: &[Arg]) -> std::result::Result<(), String> {
    literal(args, 0, "an integer or a string", |value| matches!(value, Value::Int(_) | Value::Text(_)))
}

/// Whole numbers are the code points that the function is for; other numbers and text give a number back.
fn chr(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match arg(args, 0) {
        Value::Text(text) => {
            let mut letters = text.chars();
            match (letters.next(), letters.next()) {
                (Some(letter), None) => Ok(Value::Int(letter as i64)),
                _ => Err(wrong(args, 0, "a string of one character")),
            }
        }
        value => match value.as_i64() {
            Some(code) => Ok(u32::try_from(code)
                .ok()
                .and_then(char::from_u32)
                .map_or(Value::Int(code), |letter| Value::text(letter.encode_utf8(&mut [0; 4])))),
            None => cast::to_bigint(value, Strictness::SameKind)
                .map(Value::Int)
                .map_err(|_| wrong(args, 0, "an integer or a string of one character")),
        },
    }
}

fn hex2dec(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let digits = text(args, 0)?;
    let (minus, size) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits.as_str()),
    };
    let size = size.strip_prefix("0x").unwrap_or(size);
    let plain = size.bytes().all(|digit| digit.is_ascii_hexdigit());
    i64::from_str_radix(&format!("{minus}{size}"), 16)
        .ok()
        .filter(|_| plain)
        .map(Value::Int)
        .ok_or_else(|| wrong(args, 0, "hexadecimal digits of a 64-bit integer"))
}

fn check_dec2hex(args: &[Arg]) -> std::result::Result<(), String> {
    literal(args, 0, "an integer", |value| matches!(value, Value::Int(_) | Value::Text(_)))
}

fn dec2hex(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let n = int(args, 0)?;
    Ok(Value::from(format!("{}0x{:x}", if n < 0 { "-" } else { "" }, n.unsigned_abs())))
}

fn check_zone(args: &[Arg]) -> std::result::Result<(), String> {
    no_literal(args, 0, "a datetime")?;
    literal(args, 1, "the name of a time zone", is_text)
}

fn convert_tz(args: &[Value], ctx: &Ctx<'_>) -> Result<Value> {
    let time = cast::to_datetime(arg(args, 0), &reading(ctx));
    let time = converted(args, 0, time, "datetime")?;
    Ok(Value::Time(DateTime::new(time.nanos(), zone(args, 1)?)))
}

/// The zone of an IANA name in its right spelling; the empty name is UTC.
fn zone(args: &[Value], at: usize) -> Result<TimeZone> {
    let name = as_text(args, at);
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let found = TimeZone::get(&name).ok().filter(|zone| zone.iana_name() == Some(&*name));
    found.ok_or_else(|| wrong(args, at, "the IANA name of a time zone such as `Europe/Berlin`"))
}

#[derive(Clone, Copy)]
enum Packing {
    Zlib,
    Gzip,
    Flate,
}

/// A compressor or decompressor of one call in a rule: the first call decides the method.
struct Packer {
    unpack: bool,
    method: Option<Text>,
}

impl Packer {
    fn new(unpack: bool) -> Self {
        Packer { unpack, method: None }
    }
}

/// The bytes compressed by `zlib`, `gzip` or `flate`; an error for any other name.
pub fn compressed(bytes: &[u8], method: &str) -> Result<Vec<u8>> {
    pack(bytes, packing(method)?).map_err(|error| Fault::encode(format!("a message cannot be compressed: {error}")))
}

/// What [`compressed`] gave, as it was before.
pub fn decompressed(bytes: &[u8], method: &str) -> Result<Vec<u8>> {
    unpack(bytes, packing(method)?)
}

fn packing(name: &str) -> Result<Packing> {
    match name {
        "zlib" => Ok(Packing::Zlib),
        "gzip" => Ok(Packing::Gzip),
        "flate" => Ok(Packing::Flate),
        "zstd" => Err(Fault::eval("`zstd` is not built in, use `zlib`, `gzip` or `flate`")),
        _ => Err(Fault::eval(format!("argument 2 must be `zlib`, `gzip` or `flate`, found `{name}`"))),
    }
}

fn pack(bytes: &[u8], packing: Packing) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match packing {
        Packing::Zlib => ZlibEncoder::new(bytes, Compression::default()).read_to_end(&mut out),
        Packing::Gzip => GzEncoder::new(bytes, Compression::default()).read_to_end(&mut out),
        Packing::Flate => DeflateEncoder::new(bytes, Compression::default()).read_to_end(&mut out),
    }?;
    Ok(out)
}

fn unpack(bytes: &[u8], packing: Packing) -> Result<Vec<u8>> {
    let limit = MAX_TEXT as u64 + 1;
    let mut out = Vec::new();
    let done = match packing {
        Packing::Zlib => ZlibDecoder::new(bytes).take(limit).read_to_end(&mut out),
        Packing::Gzip => GzDecoder::new(bytes).take(limit).read_to_end(&mut out),
        Packing::Flate => DeflateDecoder::new(bytes).take(limit).read_to_end(&mut out),
    };
    done.map_err(|error| Fault::eval(format!("argument 1 cannot be decompressed: {error}")))?;
    super::args::within(out.len() as i128, MAX_TEXT, "bytes")?;
    Ok(out)
}

impl Stateful for Packer {
    fn call(&mut self, args: &[Value], _: &Ctx<'_>) -> Result<Value> {
        let bytes = match arg(args, 0) {
            Value::Absent | Value::Null => return Ok(Value::Null),
            Value::Text(text) => text.as_bytes(),
            Value::Bytes(bytes) => bytes,
            _ => return Err(wrong(args, 0, "a string or a bytea")),
        };
        let name = as_text(args, 1);
        if let Some(first) = self.method.as_ref().filter(|first| **first != *name) {
            return Err(Fault::eval(format!("the method must stay the same, it was `{first}` and now is `{name}`")));
        }
        let packing = packing(&name)?;
        self.method = Some(Text::new(&*name));
        let out = if self.unpack {
            unpack(bytes, packing)?
        } else {
            pack(bytes, packing).map_err(|error| Fault::eval(format!("argument 1 cannot be compressed: {error}")))?
        };
        Ok(Value::bytes(&out))
    }

    fn save(&self) -> Value {
        self.method.clone().map_or(Value::Null, Value::Text)
    }

    fn load(&mut self, saved: Value) -> Result<()> {
        self.method = saved.as_str().map(Text::new);
        Ok(())
    }
}
