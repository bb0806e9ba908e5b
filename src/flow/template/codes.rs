//! JSON, base64, digests, and what the process knows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gtmpl_ng::{FuncError, Value};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use crate::codec::json;

use super::convert;
use super::funcs::{Outcome, exactly, facts, fail, text};

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn printed(value: &Value) -> Result<String, FuncError> {
    let mut out = Vec::new();
    json::print(&mut out, &convert::from(value));
    String::from_utf8(out).map_err(|_| fail("the json is not text"))
}

pub(super) fn to_json(args: &[Value]) -> Outcome {
    let [value] = exactly("json", args)?;
    printed(value).map(Value::String)
}

/// JSON on many lines, two spaces a level.
pub(super) fn to_pretty_json(args: &[Value]) -> Outcome {
    let [value] = exactly("toPrettyJson", args)?;
    let parsed: serde_json::Value = serde_json::from_str(&printed(value)?).map_err(|error| fail(error.to_string()))?;
    Ok(Value::String(format!("{parsed:#}")))
}

pub(super) fn from_json(args: &[Value]) -> Outcome {
    let [value] = exactly("fromJson", args)?;
    Ok(json::parse(text(value).as_bytes()).map_or(Value::Nil, |value| convert::into(&value)))
}

pub(super) fn b64enc(args: &[Value]) -> Outcome {
    let [value] = exactly("b64enc", args)?;
    Ok(Value::String(base64(text(value).as_bytes())))
}

pub(super) fn b64dec(args: &[Value]) -> Outcome {
    let [value] = exactly("b64dec", args)?;
    let decoded = STANDARD.decode(text(value)).map_err(|_| fail("`b64dec` was given no base64"))?;
    Ok(Value::String(String::from_utf8_lossy(&decoded).into_owned()))
}

/// base64 of a boolean, number or text as it prints, or of a map as JSON.
pub(super) fn base64_of(args: &[Value]) -> Outcome {
    let [value] = exactly("base64", args)?;
    match value {
        Value::Bool(_) | Value::String(_) | Value::Number(_) => Ok(Value::String(base64(text(value).as_bytes()))),
        Value::Map(_) | Value::Object(_) => Ok(Value::String(base64(printed(value)?.as_bytes()))),
        other => Err(fail(format!("`base64` takes a boolean, number, text or map, found `{other}`"))),
    }
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn md5sum(args: &[Value]) -> Outcome {
    let [value] = exactly("md5sum", args)?;
    Ok(hex(&Md5::digest(text(value))))
}

pub(super) fn sha1sum(args: &[Value]) -> Outcome {
    let [value] = exactly("sha1sum", args)?;
    Ok(hex(&Sha1::digest(text(value))))
}

pub(super) fn sha256sum(args: &[Value]) -> Outcome {
    let [value] = exactly("sha256sum", args)?;
    Ok(hex(&Sha256::digest(text(value))))
}

pub(super) fn uuidv4(args: &[Value]) -> Outcome {
    let [] = exactly("uuidv4", args)?;
    Ok(Value::String(uuid::Uuid::new_v4().to_string()))
}

/// A system property; a name that none has is given back.
pub(super) fn prop(args: &[Value]) -> Outcome {
    let [name] = exactly("prop", args)?;
    let name = text(name);
    Ok(Value::String(facts()?.prop(&name).unwrap_or(name)))
}
