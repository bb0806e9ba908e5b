//! Go templates in the properties of sinks: `dataTemplate`, and any property that is evaluated for each message.
//!
//! A [`Template`] is compiled once and rendered for an [`Item`]: one row, or the list of rows of one emission. Templates
//! of nothing but `{{.a.b}}` and `{{json .}}`, which are nearly all there are, read the row as it stands; the others go
//! through `gtmpl_ng` with the functions of this folder, those of Sprig that people use and our `json`, `base64` and
//! `prop`. What the functions may know of the world is in [`Facts`].

mod asked;
mod codes;
mod convert;
mod funcs;
mod lists;
mod numbers;
mod texts;
mod times;

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::codec::json;
use crate::data::{Layout, Object, Text, Value};
use crate::diag::{Fault, Result};

pub use asked::render;

/// What templates may know beside their item: the time, and the properties of the process. Cheap to clone; one a server.
#[derive(Clone)]
pub struct Facts {
    pub clock: Clock,
    pub zone: TimeZone,
    /// `KUIPER_PROPS_*`, names in lower case.
    pub props: Arc<Object>,
    /// The last snowflake id.
    last_id: Arc<AtomicI64>,
}

impl Facts {
    pub fn new(clock: Clock, zone: TimeZone, props: Arc<Object>) -> Self {
        Facts { clock, zone, props, last_id: Arc::default() }
    }

    /// A system property, as the function `prop` gives it.
    fn prop(&self, name: &str) -> Option<String> {
        match name {
            "et" => Some(self.clock.now().0.to_string()),
            "snowflake" => Some(self.next_id().to_string()),
            _ => self.props.get(name).map(|value| value.print().into()),
        }
    }

    /// An id that no other one of this process equals, and that grows with time: milliseconds since November 2010,
    /// node 1, and a number within the millisecond.
    fn next_id(&self) -> i64 {
        let first = ((self.clock.now().0 - 1_288_834_974_657) << 22) | (1 << 12);
        let next = |last: i64| Some(first.max(last + 1));
        self.last_id.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).map_or(first, |last| first.max(last + 1))
    }
}

/// What a template is rendered for.
pub struct Item<'a> {
    layout: &'a Layout,
    rows: &'a [&'a [Value]],
    single: bool,
    /// The same for `gtmpl_ng`, made when the first template asks for it.
    context: OnceCell<gtmpl_ng::Context>,
}

impl<'a> Item<'a> {
    /// The rows as a list; or the only one of them as an object.
    pub fn new(layout: &'a Layout, rows: &'a [&'a [Value]], single: bool) -> Self {
        Item { layout, rows, single: single && rows.len() == 1, context: OnceCell::new() }
    }

    /// The value at a path of names, where the item is a row that has it.
    fn value(&self, path: &[Text]) -> Option<&Value> {
        let (first, more) = path.split_first()?;
        let [row] = self.rows else { return None };
        let mut value = self.layout.value(row, first).filter(|_| self.single)?;
        for name in more {
            match value {
                Value::Object(object) => value = object.get(name)?,
                _ => return None,
            }
        }
        Some(value)
    }

    fn context(&self) -> &gtmpl_ng::Context {
        self.context.get_or_init(|| gtmpl_ng::Context::from(convert::into(&self.to_value())))
    }

    /// The item as an object, or a list of objects.
    pub fn to_value(&self) -> Value {
        let mut rows = self.rows.iter().map(|row| Value::object(self.layout.object(row)));
        match rows.next() {
            Some(row) if self.single => row,
            first => Value::array(first.into_iter().chain(rows).collect()),
        }
    }
}

/// A compiled template.
pub struct Template {
    /// The whole template, where it is that simple.
    parts: Option<Vec<Part>>,
    full: gtmpl_ng::Template,
}

#[derive(Debug, PartialEq)]
enum Part {
    Literal(String),
    /// `{{.a.b}}`
    Field(Vec<Text>),
    /// `{{json .a}}`; without names the whole item.
    Json(Vec<Text>),
}

impl Template {
    /// Compiles a template, or says what is wrong with it.
    pub fn compile(text: &str) -> std::result::Result<Template, String> {
        let mut full = gtmpl_ng::Template::default();
        full.add_funcs(funcs::FUNCS);
        full.parse(text).map_err(|error| one_line(&error.to_string()))?;
        Ok(Template { parts: parts(text), full })
    }

    /// Whether a text is a template at all.
    pub fn is_one(text: &str) -> bool {
        text.find("{{").is_some_and(|at| text[at..].contains("}}"))
    }

    pub fn render(&self, item: &Item<'_>, facts: &Facts) -> Result<String> {
        if let Some(text) = self.parts.as_ref().and_then(|parts| simple(parts, item)) {
            return Ok(text);
        }
        let rendered = funcs::with_facts(facts, || self.full.render(item.context()));
        rendered.map_err(|error| Fault::encode(format!("template: {}", one_line(&error.to_string()))))
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The parts of a template that has no others than the simple ones.
fn parts(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut left = text;
    while let Some(at) = left.find("{{") {
        if at > 0 {
            parts.push(Part::Literal(left[..at].into()));
        }
        let end = at + left[at..].find("}}")?;
        let action = left[at + 2..end].trim_matches(' ');
        parts.push(match action.strip_prefix("json ").or_else(|| action.strip_prefix("toJson ")) {
            Some(argument) => Part::Json(path(argument.trim_start_matches(' '))?),
            None => Part::Field(path(action).filter(|path| !path.is_empty())?),
        });
        left = &left[end + 2..];
    }
    if !left.is_empty() {
        parts.push(Part::Literal(left.into()));
    }
    Some(parts)
}

/// `.`, `.a`, `.a.b`
fn path(text: &str) -> Option<Vec<Text>> {
    let names = text.strip_prefix('.')?;
    if names.is_empty() {
        return Some(Vec::new());
    }
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    names.split('.').map(|name| is_name(name).then(|| name.into())).collect()
}

/// The text, unless a value is not there or is none that can be printed directly.
fn simple(parts: &[Part], item: &Item<'_>) -> Option<String> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Field(path) => match item.value(path)? {
                Value::Text(text) => out.extend_from_slice(text.as_bytes()),
                value @ (Value::Bool(_) | Value::Int(_)) => json::print(&mut out, value),
                value @ Value::Float(_) => out.extend_from_slice(convert::into(value).to_string().as_bytes()),
                _ => return None,
            },
            Part::Json(path) if path.is_empty() => json::print(&mut out, &item.to_value()),
            Part::Json(path) => json::print(&mut out, item.value(path)?),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
