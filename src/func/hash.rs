//! Digests, of text as it prints and of bytes as they are, in lower-case hexadecimal digits.

use std::fmt::Write as _;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::data::Value;
use crate::diag::Result;

use super::args::{as_bytes, texts};
use super::{Ctx, Func};

const fn row(name: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>, about: &'static str) -> Func {
    Func::scalar(name, "(text) -> text", call).family("hash").check(texts).about(about)
}

pub const FUNCS: &[Func] = &[
    row("md5", digest::<Md5>, "The MD5 digest.")
        .examples(&[("md5(\"kuiper\")", "\"a997d4e39a8639c9d95abc3746474428\""), ("length(md5(\"\"))", "32")]),
    row("sha1", digest::<Sha1>, "The SHA-1 digest.").examples(&[
        ("sha1(\"kuiper\")", "\"b0f43190b334cebb0faeb920a28e5b41c12592f8\""),
        ("length(sha1(\"\"))", "40"),
    ]),
    row("sha256", digest::<Sha256>, "The SHA-256 digest.").examples(&[
        ("sha256(\"kuiper\")", "\"6b4ebfaef1571905ad9bb7ca00e53230cd22de7b7c3040fb126da9acece62bf8\""),
        ("length(sha256(\"\"))", "64"),
    ]),
    row("sha384", digest::<Sha384>, "The SHA-384 digest.").examples(&[
        (
            "sha384(\"\")",
            "\"38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b\"",
        ),
        ("length(sha384(\"kuiper\"))", "96"),
    ]),
    row("sha512", digest::<Sha512>, "The SHA-512 digest.")
        .examples(&[("substring(sha512(\"kuiper\"), 0, 16)", "\"eb35426c97023aad\""), ("length(sha512(\"\"))", "128")]),
    row("crc32", crc32, "The CRC-32 checksum (IEEE), eight digits.")
        .examples(&[("crc32(\"kuiper\")", "\"569d6eae\""), ("crc32(\"temp\")", "\"0b5385ca\"")]),
];

fn digest<D: Digest>(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = String::with_capacity(128);
    for byte in D::digest(as_bytes(args, 0)).iter() {
        let _ = write!(out, "{byte:02x}");
    }
    Ok(Value::from(out))
}

fn crc32(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::from(format!("{:08x}", crc32fast::hash(&as_bytes(args, 0)))))
}
