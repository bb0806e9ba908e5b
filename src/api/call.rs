use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use serde_json::{Map, Value as Json};

use super::{Refusal, Server};
use crate::diag::nearest;
use crate::rule::check_id;

/// The largest body that is read into memory.
const LIMIT: usize = 256 << 20;

/// One request on its way through a handler.
pub(super) struct Call {
    pub server: Arc<Server>,
    /// The parts of the path that the route leaves open, in order.
    pub params: Vec<String>,
    pub request: Request,
}

impl Call {
    /// The open part of the path at that place.
    pub fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// The same, checked to be an id.
    pub fn id(&self, index: usize) -> Result<String, Refusal> {
        let id = self.param(index);
        check_id(id).map_err(Refusal::bad)?;
        Ok(id.to_owned())
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        let pairs = self.request.uri().query()?.split('&');
        let mut found =
            pairs.filter_map(|pair| pair.split_once('=').or(Some((pair, "")))).filter(|(key, _)| *key == name);
        found.next().map(|(_, value)| decoded(&value.replace('+', " ")))
    }

    /// A parameter of the query that Go would read as true.
    pub fn query_is(&self, name: &str) -> bool {
        matches!(self.query(name).as_deref(), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// A parameter of the query that says yes or no, and nothing else; where it is not given it says no.
    pub fn query_flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.query(name).as_deref() {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) if self.query_is(name) => Ok(true),
            Some(other) => Err(Refusal::bad(format!("`{name}` is `{other}`, expected `true` or `false`"))),
        }
    }

    /// The body as text.
    pub async fn text(self) -> Result<String, Refusal> {
        let bytes = to_bytes(self.request.into_body(), LIMIT)
            .await
            .map_err(|error| Refusal::bad(format!("the body of the request cannot be read: {error}")))?;
        String::from_utf8(bytes.into()).map_err(|_| Refusal::bad("the body of the request is no UTF-8 text"))
    }

    /// The body as a JSON object. What follows its first value is not looked at.
    pub async fn members(self) -> Result<Members, Refusal> {
        let text = self.text().await?;
        match serde_json::Deserializer::from_str(&text).into_iter::<Json>().next() {
            Some(Ok(Json::Object(members))) => Ok(Members(members)),
            Some(Ok(_)) => Err(Refusal::bad("expected a JSON object")),
            Some(Err(error)) => Err(Refusal::bad(format!("the body is no JSON: {error}"))),
            None => Err(Refusal::bad("the body is empty, expected a JSON object")),
        }
    }
}

/// A JSON object of a request; names heed no case.
pub(super) struct Members(pub Map<String, Json>);

impl Members {
    fn get(&self, name: &str) -> Option<&Json> {
        let exact = self.0.get(name);
        let found =
            exact.or_else(|| self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
        found.filter(|value| !value.is_null())
    }

    /// Refuses members with other names than these.
    pub fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let Some(other) = self.0.keys().find(|key| !known.iter().any(|name| key.eq_ignore_ascii_case(name))) else {
            return Ok(());
        };
        let shown: String = other.chars().take(100).collect();
        let help = match nearest(other, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected `{}`", known.join("`, `")),
        };
        Err(Refusal::bad(format!("there is no member `{}`; {help}", shown.escape_debug())))
    }

    /// A text; empty where it is not given.
    pub fn text(&self, name: &str) -> Result<String, Refusal> {
        self.given(name).map(Option::unwrap_or_default)
    }

    /// A text that may be left out, which is not the same as an empty one.
    pub fn given(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(Refusal::bad(format!("`{name}` must be text, found `{other}`"))),
        }
    }

    /// A list of texts; empty where it is not given.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let wrong = || Refusal::bad(format!("`{name}` must be a list of texts"));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Json::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }
}

/// A part of a path or query with its `%20` and their like resolved.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
