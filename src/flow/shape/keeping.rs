//! The properties that say what becomes of a message which a sink cannot take now: the disk queue, and the tries.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::codec::json;
use crate::data::{Column, Layout, Text, Value};
use crate::diag::Diagnostic;
use crate::flow::outlet::Retrying;
use crate::flow::queue::Limits;
use crate::func;
use crate::io::props::Period;
use crate::io::{Content, Parcel};
use crate::store::Sync;

use super::common::{Taker, wrong};

/// What `queueSync: interval` means.
const INTERVAL: Duration = Duration::from_secs(1);

/// The properties of the queue, and the values that clients write without meaning anything by it.
pub(super) const OF_QUEUE: &[(&str, &str)] = &[
    ("memoryCacheThreshold", "1024"),
    ("maxDiskCache", "1024000"),
    ("bufferPageSize", "256"),
    ("resendInterval", "0"),
    ("resendPriority", "0"),
    ("resendIndicatorField", "\"\""),
    ("resendAlterQueue", "false"),
    ("resendDestination", "\"\""),
    ("cleanCacheAtStop", "false"),
    ("queueMaxBytes", "0"),
    ("queueMaxAge", "0"),
    ("queueSync", "\"always\""),
];

/// Which messages go first where those of the queue have a sink of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Those of the queue wait until no live one does.
    Live,
    #[default]
    Equal,
    /// Live ones wait until the queue is empty.
    Stored,
}

/// How the disk queue of a sink works.
#[derive(Clone, Debug, PartialEq)]
pub struct Keeping {
    /// Messages that may wait in memory.
    pub memory: usize,
    pub limits: Limits,
    /// Between two messages of the queue.
    pub resend_interval: Duration,
    pub priority: Priority,
    /// Set to true in each message of the queue.
    pub indicator: Option<Text>,
    /// The queue has a sink of its own.
    pub aside: bool,
    /// The `topic` of that.
    pub destination: Option<String>,
    /// The queue does not outlive a run of the rule.
    pub clear_at_stop: bool,
    /// By which method its messages are compressed.
    pub(super) compression: Option<Text>,
}

/// A whole number, or what was expected.
fn whole(value: &Json, least: f64) -> Option<u64> {
    value.as_f64().filter(|number| number.fract() == 0.0 && (least..=9e15).contains(number)).map(|number| number as u64)
}

fn period(value: &Json) -> Option<Duration> {
    serde_json::from_value::<Period>(value.clone()).ok().map(|period| period.0)
}

/// Values of an action, and those of the settings where it has none.
struct Layers<'a, 'b, 'c> {
    from: &'a mut Taker<'b>,
    defaults: &'c Map<String, Json>,
    /// Written in the action with a value that nobody writes by default.
    written: Vec<&'static str>,
}

impl Layers<'_, '_, '_> {
    /// The value, and whether the action has it.
    fn value(&mut self, name: &'static str) -> Option<(Json, bool)> {
        match self.from.take(name) {
            Some(value) => {
                let usual = OF_QUEUE.iter().find(|(known, _)| *known == name).map(|(_, usual)| *usual);
                let usual: Option<Json> = usual.and_then(|usual| serde_json::from_str(usual).ok());
                if usual.as_ref() != Some(&value)
                    && !(usual == Some(Json::from(0)) && period(&value).is_some_and(|p| p.is_zero()))
                {
                    self.written.push(name);
                }
                Some((value, true))
            }
            None => self.defaults.get(name).cloned().map(|value| (value, false)),
        }
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        default: T,
        expected: &str,
        read: impl FnOnce(&Json) -> Option<T>,
    ) -> Result<(T, bool), Diagnostic> {
        match self.value(name) {
            None => Ok((default, false)),
            Some((value, written)) => Ok((read(&value).ok_or_else(|| wrong(name, expected, &value))?, written)),
        }
    }

    fn boolean(&mut self, name: &'static str) -> Result<bool, Diagnostic> {
        Ok(self.read(name, false, "true or false", Json::as_bool)?.0)
    }

    /// A text, unless it is empty.
    fn text(&mut self, name: &'static str) -> Result<Option<String>, Diagnostic> {
        let text = self.read(name, String::new(), "a text", |value| value.as_str().map(str::to_owned))?.0;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn span(&mut self, name: &'static str) -> Result<Duration, Diagnostic> {
        Ok(self.read(name, Duration::ZERO, "a span such as `500ms`, or milliseconds", period)?.0)
    }

    /// A number of messages that must be a multiple of those of a page. One that the action does not have is made one.
    fn messages(&mut self, name: &'static str, default: u64, page: u64) -> Result<u64, Diagnostic> {
        let (messages, written) = self.read(name, default, "a whole number from 1 on", |value| whole(value, 1.0))?;
        if !written || messages % page == 0 {
            return Ok(messages.next_multiple_of(page));
        }
        let expected = format!("a multiple of `bufferPageSize`, which is {page}");
        Err(wrong(name, &expected, &messages.into()).help(format!("write {}", messages.next_multiple_of(page))))
    }
}

/// Takes the properties; there is a queue where they ask for one.
pub(super) fn take(
    from: &mut Taker<'_>,
    defaults: &Map<String, Json>,
    (format, compression): (&str, &Option<Text>),
    warnings: &mut Vec<Diagnostic>,
) -> Result<(Option<Keeping>, Retrying), Diagnostic> {
    let mut of = Layers { from, defaults, written: Vec::new() };
    let count = of.read("retryCount", 0, "a whole number, 0 for ever", |value| {
        whole(value, 0.0).and_then(|count| u32::try_from(count).ok())
    })?;
    let is_span = |value: &Json| period(value).filter(|period| !period.is_zero());
    let usual = Retrying::default().interval;
    let interval = of.read("retryInterval", usual, "a span above zero such as `100ms`, or milliseconds", is_span)?;
    let has_interval = interval.1 || interval.0 != usual;
    of.written.clear();
    let enabled = of.boolean("enableCache")?;
    of.written.clear();
    let page = of.read("bufferPageSize", 256, "a whole number from 1 to 100000", |value| {
        whole(value, 1.0).filter(|page| *page <= 100_000)
    })?;
    let sync =
        of.read("queueSync", Sync::Always, "`always`, `interval` or `never`", |value| match value.as_str()? {
            "always" => Some(Sync::Always),
            "interval" => Some(Sync::Interval(INTERVAL)),
            "never" => Some(Sync::Never),
            _ => None,
        })?;
    let priority =
        of.read("resendPriority", Priority::Equal, "-1 (live messages first), 0 or 1 (the queue first)", |value| {
            match value.as_f64()? {
                -1.0 => Some(Priority::Live),
                0.0 => Some(Priority::Equal),
                1.0 => Some(Priority::Stored),
                _ => None,
            }
        })?;
    let bytes = of.read("queueMaxBytes", 0, "a number of bytes, 0 without a bound", |value| whole(value, 0.0))?.0;
    let keeping = Keeping {
        memory: of.messages("memoryCacheThreshold", 1024, page.0)? as usize,
        limits: Limits {
            messages: of.messages("maxDiskCache", 1_024_000, page.0)?,
            bytes,
            age: of.span("queueMaxAge")?,
            page: page.0 as usize,
            sync: sync.0,
        },
        resend_interval: of.span("resendInterval")?,
        priority: priority.0,
        indicator: of.text("resendIndicatorField")?.map(Text::from),
        aside: of.boolean("resendAlterQueue")?,
        destination: of.text("resendDestination")?,
        clear_at_stop: of.boolean("cleanCacheAtStop")?,
        compression: compression.clone(),
    };
    let written = std::mem::take(&mut of.written);
    let idle =
        |name: &&&'static str| !enabled || !keeping.aside && ["resendPriority", "resendDestination"].contains(*name);
    for name in written.iter().filter(idle) {
        let without = if enabled { "resendAlterQueue" } else { "enableCache" };
        let text = format!("property `{name}` of a sink has no effect without `{without}`");
        warnings.push(Diagnostic::warning("K0632", text).help("leave it out"));
    }
    let mut retrying = Retrying { count: count.0, interval: interval.0, steady: false };
    if !enabled {
        return Ok((None, retrying));
    }
    if keeping.indicator.is_some() && format != "json" {
        let text = format!("property `resendIndicatorField` needs the format `json`, found `{format}`");
        return Err(Diagnostic::error("K0630", text).help("leave it out"));
    }
    if !has_interval && !keeping.resend_interval.is_zero() {
        (retrying.interval, retrying.steady) = (keeping.resend_interval, true);
    }
    Ok((Some(keeping), retrying))
}

impl Keeping {
    /// The parcel as it is sent out of the queue.
    pub fn marked<'a>(&self, parcel: &'a Parcel) -> Cow<'a, Parcel> {
        let Some(field) = &self.indicator else { return Cow::Borrowed(parcel) };
        let mut marked = parcel.clone();
        match &mut marked.content {
            Content::Rows(set) => {
                let columns = set.layout.columns();
                let slot = set.layout.slot(field).filter(|slot| !columns[*slot].spread);
                if slot.is_none() {
                    let new = Column { name: field.clone(), spread: false };
                    set.layout = Layout::new(columns.iter().cloned().chain([new]).collect()).into();
                }
                for row in &mut set.rows {
                    match slot {
                        Some(slot) => row[slot] = Value::Bool(true),
                        None => row.push(Value::Bool(true)),
                    }
                }
            }
            Content::Bytes(bytes) => match self.marked_text(bytes, field) {
                Some(text) => *bytes = text.into(),
                // The text of a template that is no object has no field.
                None => return Cow::Borrowed(parcel),
            },
        }
        Cow::Owned(marked)
    }

    fn marked_text(&self, bytes: &[u8], field: &Text) -> Option<Vec<u8>> {
        let plain = self.compression.as_ref().map(|method| func::decompressed(bytes, method)).transpose().ok()?;
        let mut value = json::parse(plain.as_deref().unwrap_or(bytes)).ok()?;
        if !set(&mut value, field) {
            return None;
        }
        let mut text = Vec::new();
        json::print(&mut text, &value);
        match &self.compression {
            Some(method) => func::compressed(&text, method).ok(),
            None => Some(text),
        }
    }
}

/// Sets the field in an object, or in all of a list; false where there is none.
fn set(value: &mut Value, field: &Text) -> bool {
    match value {
        Value::Object(object) => {
            std::sync::Arc::make_mut(object).insert(field.clone(), Value::Bool(true));
            true
        }
        Value::Array(items) => {
            let mut some = false;
            let items = std::sync::Arc::make_mut(items);
            items.iter_mut().for_each(|item| some |= set(item, field));
            some
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::flow::shape::Common;
    use crate::io::RowSet;

    fn take(props: &str, defaults: &str) -> Result<Common, String> {
        let mut props = serde_json::from_str(props).unwrap();
        Common::take_over(&mut props, &serde_json::from_str(defaults).unwrap()).map_err(|found| found.to_string())
    }

    #[test]
    fn what_an_action_does_not_say_the_settings_do() {
        let defaults = r#"{"enableCache": true, "bufferPageSize": 100, "maxDiskCache": 1000, "retryCount": 3,
            "resendInterval": "10ms", "retryInterval": "100ms", "queueSync": "interval"}"#;
        let common =
            take(r#"{"BUFFERPAGESIZE": 300, "queueMaxAge": "1h", "cleanCacheAtStop": true}"#, defaults).unwrap();
        let keeping = common.keeping.unwrap();
        assert_eq!((keeping.limits.page, keeping.limits.messages, keeping.memory), (300, 1200, 1200));
        assert_eq!(keeping.limits.age, Duration::from_secs(3600));
        assert_eq!(keeping.limits.sync, Sync::Interval(INTERVAL));
        assert!(keeping.clear_at_stop && !keeping.aside && common.warnings.is_empty());
        let retrying = Retrying { count: 3, interval: Duration::from_millis(10), steady: true };
        assert_eq!(common.retrying, retrying, "without a pause of its own it is that of the queue");
        let own = take(r#"{"retryInterval": "100ms"}"#, defaults).unwrap();
        assert_eq!(own.retrying, Retrying { count: 3, ..Retrying::default() });
        assert!(take(r#"{"enableCache": false}"#, defaults).unwrap().keeping.is_none());
        assert!(take("{}", "{}").unwrap().keeping.is_none());
    }

    #[test]
    fn messages_of_the_queue_are_marked_whatever_they_are() {
        let props = r#"{"enableCache": true, "resendIndicatorField": "late", "compression": "METHOD"}"#;
        let bytes = |text: &str| Content::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        let text = |content: &Content| match content {
            Content::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Content::Rows(_) => panic!("rows"),
        };
        let keeping = take(&props.replace("METHOD", ""), "{}").unwrap().keeping.unwrap();
        for (before, after) in [
            (r#"{"a":1}"#, r#"{"a":1,"late":true}"#),
            (r#"[{"a":1},{"late":false}]"#, r#"[{"a":1,"late":true},{"late":true}]"#),
            (r#"[[{"a":1}],[]]"#, r#"[[{"a":1,"late":true}],[]]"#),
            ("[]", "[]"),
            ("some words", "some words"),
            ("7", "7"),
        ] {
            let parcel = Parcel { content: bytes(before), props: Vec::new() };
            assert_eq!(text(&keeping.marked(&parcel).content), after);
        }
        let keeping = take(&props.replace("METHOD", "gzip"), "{}").unwrap().keeping.unwrap();
        let packed = func::compressed(br#"{"a":1}"#, "gzip").unwrap();
        let parcel = Parcel { content: Content::Bytes(packed.into()), props: Vec::new() };
        let Content::Bytes(marked) = &keeping.marked(&parcel).content else { panic!("rows") };
        assert_eq!(func::decompressed(marked, "gzip").unwrap(), br#"{"a":1,"late":true}"#);
        let layout = std::sync::Arc::new(Layout::from_iter(["a"]));
        let rows = Content::Rows(RowSet { layout, rows: vec![vec![Value::Int(1)]], single: false });
        let marked = keeping.marked(&Parcel { content: rows, props: Vec::new() }).into_owned();
        let Content::Rows(set) = &marked.content else { panic!("bytes") };
        assert_eq!(set.objects()[0].get("late"), Some(&Value::Bool(true)));
        let again = keeping.marked(&marked).into_owned();
        assert_eq!(format!("{again:?}"), format!("{marked:?}"));
        let error = take(r#"{"enableCache": true, "resendIndicatorField": "late", "format": "urlencoded"}"#, "{}");
        assert!(error.unwrap_err().contains("needs the format `json`"));
    }
}
