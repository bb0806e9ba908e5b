use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::json;
use crate::catalog;
use crate::diag::{Diagnostic, Fault};
use crate::plugin;
use crate::rule;

/// The header that holds a warning.
pub const WARNING: &str = "kuiper-warning";

/// What a handler gives.
pub(super) type Answer = Result<Response, Refusal>;

/// A request that was not followed.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: u16,
    message: String,
}

/// The `error` member of refusals.
pub(super) mod code {
    pub const UNDEFINED: u16 = 1000;
    pub const GENERAL: u16 = 1001;
    pub const NOT_FOUND: u16 = 1002;
    pub const STREAM: u16 = 3000;
    pub const CONFIG_KEY: u16 = 5000;
}

impl Refusal {
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        let status = if code == code::NOT_FOUND { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
        Refusal { status, code, message: message.into() }
    }

    /// A request that says what cannot be.
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal::new(code::UNDEFINED, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Refusal::new(code::NOT_FOUND, message)
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same with words in front.
    pub fn prefix(mut self, before: &str) -> Self {
        self.message = format!("{before}: {}", self.message);
        self
    }

    /// The same with another code, where it has none of its own.
    pub fn or_code(mut self, code: u16) -> Self {
        if self.code == code::UNDEFINED {
            self.code = code;
        }
        self
    }

    pub fn into_response(self) -> Response {
        let body = json::compact(&serde_json::json!({"error": self.code, "message": self.message})) + "\n";
        let mut response = body_of(self.status, "text/plain; charset=utf-8", body);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::bad(fault.to_string())
    }
}

impl From<catalog::Refused> for Refusal {
    fn from(refused: catalog::Refused) -> Self {
        let code = match refused {
            catalog::Refused::NotFound { .. } => code::NOT_FOUND,
            _ => code::STREAM,
        };
        Refusal::new(code, refused.to_string())
    }
}

impl From<rule::Refused> for Refusal {
    fn from(refused: rule::Refused) -> Self {
        let code = match refused {
            rule::Refused::NotFound(_) => code::NOT_FOUND,
            rule::Refused::NeverRan(_) => code::GENERAL,
            rule::Refused::Invalid(_) | rule::Refused::Storage(_) => code::UNDEFINED,
        };
        Refusal::new(code, refused.to_string())
    }
}

impl From<plugin::Refusal> for Refusal {
    fn from(refused: plugin::Refusal) -> Self {
        let code = match refused {
            plugin::Refusal::NotFound(_) => code::NOT_FOUND,
            plugin::Refusal::Invalid(_) => code::UNDEFINED,
        };
        Refusal::new(code, refused.to_string())
    }
}

/// An answer with a body.
pub(super) fn body_of(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// 200 and nothing more.
pub(super) fn empty() -> Response {
    Response::new(Body::empty())
}

/// Warnings that nobody else logs.
pub(super) fn logged(warnings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings
}

/// The same answer with warnings in its head, one line each, for bodies are those that clients of eKuiper read.
pub(super) fn warned(mut response: Response, warnings: &[Diagnostic]) -> Response {
    for warning in warnings {
        if let Ok(line) = HeaderValue::from_str(&encoded(&warning.to_string())) {
            response.headers_mut().append(WARNING, line);
        }
    }
    response
}

/// What cannot stand in a header, and `%`, as `%20` and the like.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A sentence.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    body_of(status, "text/plain; charset=utf-8", text.into())
}

/// A sentence with what a browser would take for markup written as entities.
pub(super) fn escaped(status: StatusCode, raw: &str) -> Response {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            other => out.push(other),
        }
    }
    text(status, out)
}

/// JSON, with one newline at its end as Go's encoder writes it.
pub(super) fn object(value: &impl Serialize) -> Response {
    body_of(StatusCode::OK, "application/json", json::compact(value) + "\n")
}

/// JSON that eKuiper labels as text.
pub(super) fn labelled_text(value: &impl Serialize) -> Response {
    text(StatusCode::OK, json::compact(value) + "\n")
}
