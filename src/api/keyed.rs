//! The keyed state: texts under keys, which the function `get_keyed_state` reads and other programs write here.

use std::collections::BTreeMap;

use axum::http::StatusCode;

use super::answer::{object, text};
use super::{Answer, Call, Refusal};
use crate::store::Bucket;

/// The longest key and the longest value, in bytes.
const KEY: usize = 1 << 10;
const VALUE: usize = 1 << 20;

fn key(call: &Call) -> Result<String, Refusal> {
    let key = call.param(0);
    if key.len() > KEY {
        return Err(Refusal::bad(format!("the key has {} bytes, and {KEY} are the most", key.len())));
    }
    Ok(key.to_owned())
}

fn missing(key: &str) -> Refusal {
    Refusal::not_found(format!("there is no keyed state `{key}`"))
}

pub(super) async fn list(call: Call) -> Answer {
    let all: BTreeMap<String, String> = call.server.host().store.all(Bucket::KEYED_STATE)?.into_iter().collect();
    Ok(object(&all))
}

/// The body is the value, as it stands.
pub(super) async fn put(call: Call) -> Answer {
    let (server, key) = (call.server.clone(), key(&call)?);
    let value = call.text().await?;
    if value.len() > VALUE {
        return Err(Refusal::bad(format!("the value has {} bytes, and {VALUE} are the most", value.len())));
    }
    server.host().store.put(Bucket::KEYED_STATE, &key, &value)?;
    Ok(text(StatusCode::OK, format!("keyed state {key} is set")))
}

pub(super) async fn get(call: Call) -> Answer {
    let key = key(&call)?;
    let value = call.server.host().store.get(Bucket::KEYED_STATE, &key)?.ok_or_else(|| missing(&key))?;
    Ok(text(StatusCode::OK, value))
}

pub(super) async fn drop(call: Call) -> Answer {
    let key = key(&call)?;
    match call.server.host().store.remove(Bucket::KEYED_STATE, &key)? {
        true => Ok(text(StatusCode::OK, format!("keyed state {key} is deleted"))),
        false => Err(missing(&key)),
    }
}
