//! The properties that every sink has, taken out of an action before the connector sees it.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::codec::{self, FormatOptions};
use crate::data::Text;
use crate::diag::Diagnostic;
use crate::func;
use crate::io::props::Period;

use crate::flow::outlet::Retrying;
use crate::flow::template::Template;

use super::keeping::{self, Keeping};

/// Properties of an action that are common to all sinks. Connectors get the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// One message a row instead of one an emission.
    pub send_single: bool,
    pub omit_if_empty: bool,
    pub data_template: Option<String>,
    /// Only the content of this column is sent.
    pub data_field: Option<Text>,
    /// Exactly these columns, in this order.
    pub fields: Vec<Text>,
    pub exclude_fields: Vec<Text>,
    /// How the sink's messages are written. Its `fields` are those above.
    pub format: FormatOptions,
    /// Emissions that may wait for the sink.
    pub buffer_length: usize,
    pub overflow: Overflow,
    /// Emissions that are sent together; 0: no number is.
    pub batch_size: usize,
    /// How often what has come is sent together; zero: never.
    pub linger: Duration,
    /// Messages are compressed by this method.
    pub compression: Option<Text>,
    /// The disk queue, where there is one.
    pub keeping: Option<Keeping>,
    pub retrying: Retrying,
    /// Properties of the connector that hold a template, with it; those inside of an object as `object.name`.
    pub dynamic: Vec<(String, String)>,
    /// What was taken, by name.
    pub taken: Map<String, Json>,
    pub warnings: Vec<Diagnostic>,
}

/// What happens to an emission when as many wait for the sink as may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The rule waits, and so does its source.
    #[default]
    Wait,
    /// It is dropped, and counted.
    Drop,
}

/// Properties that switch on what does not exist, and what that is.
const MISSING: &[(&str, &str)] = &[("encryption", "encrypted messages")];

/// Settings of what can only be off, and the values that clients write by default.
const SETTINGS: &[(&str, &str)] = &[("compressionProps", "{}"), ("encProps", "{}")];

/// Properties without effect, here as there, and the value that clients write by default.
const IDLE: &[(&str, &str)] = &[("concurrency", "1"), ("resourceId", "\"\""), ("runAsync", "false")];

impl Default for Common {
    fn default() -> Self {
        Common {
            send_single: false,
            omit_if_empty: false,
            data_template: None,
            data_field: None,
            fields: Vec::new(),
            exclude_fields: Vec::new(),
            format: FormatOptions { format: "json".into(), ..FormatOptions::default() },
            buffer_length: 1024,
            overflow: Overflow::Wait,
            batch_size: 0,
            linger: Duration::ZERO,
            compression: None,
            keeping: None,
            retrying: Retrying::default(),
            dynamic: Vec::new(),
            taken: Map::new(),
            warnings: Vec::new(),
        }
    }
}

/// Takes properties out of a map and remembers them.
pub(super) struct Taker<'a> {
    props: &'a mut Map<String, Json>,
    taken: Map<String, Json>,
}

impl Taker<'_> {
    /// The value of a property: of that name, or else of one that differs by case only. Null is none.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        let key = match self.props.contains_key(name) {
            true => name.to_owned(),
            false => self.props.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone(),
        };
        let value = self.props.shift_remove(&key)?;
        self.taken.insert(name.to_owned(), value.clone());
        (!value.is_null()).then_some(value)
    }

    fn boolean(&mut self, name: &str) -> Result<bool, Diagnostic> {
        match self.take(name) {
            None => Ok(false),
            Some(Json::Bool(yes)) => Ok(yes),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// A text, unless it is empty.
    fn text(&mut self, name: &str) -> Result<Option<String>, Diagnostic> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    fn names(&mut self, name: &str) -> Result<Vec<Text>, Diagnostic> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let names = value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(Text::from)).collect());
        names.ok_or_else(|| wrong(name, "a list of column names", &value))
    }
}

pub(super) fn wrong(name: &str, expected: &str, found: &Json) -> Diagnostic {
    Diagnostic::error("K0630", format!("property `{name}` of a sink must be {expected}, found {found}"))
}

impl Common {
    /// Takes the common properties out of an action; what is left is for the connector.
    pub fn take(props: &mut Map<String, Json>) -> Result<Common, Diagnostic> {
        Common::take_over(props, &Map::new())
    }

    /// The same; `defaults` are the server's, for properties of the queue that the action does not have.
    pub fn take_over(props: &mut Map<String, Json>, defaults: &Map<String, Json>) -> Result<Common, Diagnostic> {
        let mut from = Taker { props, taken: Map::new() };
        refuse_missing(&mut from)?;
        let mut warnings = Vec::new();
        for (name, usual) in IDLE.iter().chain(SETTINGS) {
            let usual: Option<Json> = serde_json::from_str(usual).ok();
            if from.take(name).is_some_and(|value| is_on(&value) && Some(value) != usual) {
                let text = format!("property `{name}` of a sink has no effect");
                warnings.push(Diagnostic::warning("K0632", text).help("leave it out"));
            }
        }
        let fields = from.names("fields")?;
        let exclude_fields = from.names("excludeFields")?;
        if !fields.is_empty() && !exclude_fields.is_empty() {
            let text = "a sink cannot have both `fields` and `excludeFields`";
            return Err(Diagnostic::error("K0634", text).help("leave one of them out"));
        }
        let alias = from.text("tableDataField")?;
        let (written, compression) = (format(&mut from, &fields)?, compression(&mut from)?);
        let (keeping, retrying) = keeping::take(&mut from, defaults, (&written.format, &compression), &mut warnings)?;
        let mut common = Common {
            send_single: from.boolean("sendSingle")?,
            omit_if_empty: from.boolean("omitIfEmpty")?,
            data_template: from.text("dataTemplate")?,
            data_field: from.text("dataField")?.or(alias).map(Text::from),
            format: written,
            fields,
            exclude_fields,
            buffer_length: buffer_length(&mut from)?,
            overflow: overflow(&mut from)?,
            batch_size: batch_size(&mut from)?,
            linger: linger(&mut from)?,
            compression,
            keeping,
            retrying,
            dynamic: Vec::new(),
            taken: from.taken,
            warnings,
        };
        if let Some(template) = &common.data_template {
            check_template("dataTemplate", template)?;
        }
        find_templates(props, "", &mut common.dynamic);
        for (name, template) in &common.dynamic {
            check_template(name, template)?;
        }
        Ok(common)
    }
}

/// What a later version brings must not be asked for in vain.
fn refuse_missing(from: &mut Taker<'_>) -> Result<(), Diagnostic> {
    for (name, what) in MISSING {
        if from.take(name).is_some_and(|value| is_on(&value)) {
            let text = format!("property `{name}` asks for {what}, which sinks cannot do");
            return Err(Diagnostic::error("K0631", text).help("leave it out"));
        }
    }
    Ok(())
}

/// Neither empty, nor false, nor a number or span of nothing.
fn is_on(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(yes) => *yes,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => {
            !text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_matches('0').is_empty()
                || text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        }
        Json::Array(items) => !items.is_empty(),
        Json::Object(entries) => !entries.is_empty(),
    }
}

fn format(from: &mut Taker<'_>, fields: &[Text]) -> Result<FormatOptions, Diagnostic> {
    let name = from.text("format")?.map_or_else(|| "json".to_owned(), |name| name.to_lowercase());
    codec::format(&name)?;
    Ok(FormatOptions {
        format: name.into(),
        delimiter: from.text("delimiter")?.unwrap_or_default().into(),
        fields: fields.to_vec(),
        has_header: from.boolean("hasHeader")?,
        whole_numbers_as_int: false,
        schema_id: from.text("schemaId")?.unwrap_or_default().into(),
    })
}

fn buffer_length(from: &mut Taker<'_>) -> Result<usize, Diagnostic> {
    let Some(value) = from.take("bufferLength") else { return Ok(1024) };
    let length = value.as_f64().filter(|length| length.fract() == 0.0 && (1.0..=1e9).contains(length));
    length.map(|length| length as usize).ok_or_else(|| wrong("bufferLength", "a whole number from 1 on", &value))
}

fn batch_size(from: &mut Taker<'_>) -> Result<usize, Diagnostic> {
    let Some(value) = from.take("batchSize") else { return Ok(0) };
    let size = value.as_f64().filter(|size| size.fract() == 0.0 && (0.0..=1e6).contains(size));
    size.map(|size| size as usize).ok_or_else(|| wrong("batchSize", "a whole number from 0 to 1000000", &value))
}

fn linger(from: &mut Taker<'_>) -> Result<Duration, Diagnostic> {
    let Some(value) = from.take("lingerInterval") else { return Ok(Duration::ZERO) };
    let period = serde_json::from_value::<Period>(value.clone());
    period
        .map(|period| period.0)
        .map_err(|_| wrong("lingerInterval", "a span such as `500ms`, or milliseconds", &value))
}

fn compression(from: &mut Taker<'_>) -> Result<Option<Text>, Diagnostic> {
    let Some(method) = from.text("compression")? else { return Ok(None) };
    match func::compressed(&[], &method) {
        Ok(_) => Ok(Some(method.into())),
        Err(_) => Err(wrong("compression", "`gzip`, `zlib` or `flate`", &method.into())),
    }
}

fn overflow(from: &mut Taker<'_>) -> Result<Overflow, Diagnostic> {
    match from.text("overflow")?.as_deref() {
        None | Some("wait") => Ok(Overflow::Wait),
        Some("drop") => Ok(Overflow::Drop),
        Some(other) => Err(wrong("overflow", "`wait` or `drop`", &other.into()).suggest(other, ["wait", "drop"])),
    }
}

/// All texts with a template, also those in objects.
fn find_templates(props: &Map<String, Json>, above: &str, found: &mut Vec<(String, String)>) {
    for (name, value) in props {
        match value {
            Json::String(text) if Template::is_one(text) => found.push((format!("{above}{name}"), text.clone())),
            Json::Object(inner) => find_templates(inner, &format!("{above}{name}."), found),
            _ => {}
        }
    }
}

fn check_template(name: &str, text: &str) -> Result<(), Diagnostic> {
    match Template::compile(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Diagnostic::error("K0633", format!("the template in property `{name}`: {error}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn take(text: &str) -> (Result<Common, String>, Map<String, Json>) {
        let mut props: Map<String, Json> = serde_json::from_str(text).unwrap();
        let common = Common::take(&mut props).map_err(|found| format!("{} {found}", found.code));
        (common, props)
    }

    #[test]
    fn common_properties_are_taken_and_the_others_left() {
        let (common, left) = take(
            r#"{"topic":"t/{{.id}}","sendSingle":true,"OMITIFEMPTY":true,"dataTemplate":"{{json .}}","tableDataField":"d",
            "fields":["a","b"],"format":"DELIMITED","delimiter":";","hasHeader":true,"bufferLength":8,"overflow":"drop",
            "qos":1,"headers":{"x":"{{.a}}","y":"z"},"list":["{{.b}}"],"concurrency":1,"runAsync":true,
            "batchSize":0,"lingerInterval":"0s","compression":"","enableCache":false,"maxDiskCache":1024000}"#,
        );
        let common = common.unwrap();
        assert!(common.send_single && common.omit_if_empty);
        assert_eq!(common.data_template.as_deref(), Some("{{json .}}"));
        assert_eq!(common.data_field.as_deref(), Some("d"));
        assert_eq!(common.fields, ["a", "b"]);
        assert_eq!((common.format.format.as_str(), common.format.delimiter.as_str()), ("delimited", ";"));
        assert!(common.format.has_header);
        assert_eq!(common.format.fields, ["a", "b"]);
        assert_eq!((common.buffer_length, common.overflow), (8, Overflow::Drop));
        let dynamic = [("topic", "t/{{.id}}"), ("headers.x", "{{.a}}")];
        assert_eq!(common.dynamic, dynamic.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(common.warnings.len(), 1);
        assert_eq!(common.warnings[0].message, "property `runAsync` of a sink has no effect");
        assert_eq!(left.keys().collect::<Vec<_>>(), ["topic", "qos", "headers", "list"]);
        assert_eq!(common.taken["fields"], serde_json::json!(["a", "b"]));
    }

    #[test]
    fn what_is_proposed_for_a_misspelt_name_is_taken() {
        for name in crate::io::props::OF_EVERY_SINK {
            let (_, left) = take(&format!(r#"{{"{name}": null}}"#));
            assert!(left.is_empty(), "{name} is left to the connector");
        }
    }

    #[test]
    fn settings_of_what_is_off_are_warned_of() {
        let (common, left) = take(
            r#"{"bufferPageSize":256,"cleanCacheAtStop":false,"maxDiskCache":1024000,"memoryCacheThreshold":1024,"encProps":{},
            "resendInterval":"0s","resendPriority":0,"concurrency":1,"runAsync":false,"resendDestination":""}"#,
        );
        assert!(left.is_empty() && common.unwrap().warnings.is_empty());
        for props in
            [r#"{"resendInterval":"1s"}"#, r#"{"maxDiskCache":512}"#, r#"{"compressionProps":{"windowSize":1}}"#]
        {
            let warnings = take(props).0.unwrap().warnings;
            assert!(warnings.len() == 1 && warnings[0].message.contains("of a sink has no effect"), "{warnings:?}");
        }
    }

    #[test]
    fn nothing_given_is_the_default() {
        let (common, left) = take(r#"{"fields":null,"dataTemplate":""}"#);
        assert_eq!(Common { taken: Map::new(), ..common.unwrap() }, Common::default());
        assert!(left.is_empty());
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (props, told) in [
            (
                r#"{"sendSingle":"true"}"#,
                r#"K0630 property `sendSingle` of a sink must be true or false, found "true""#,
            ),
            (r#"{"fields":"a"}"#, r#"K0630 property `fields` of a sink must be a list of column names, found "a""#),
            (
                r#"{"bufferLength":0}"#,
                "K0630 property `bufferLength` of a sink must be a whole number from 1 on, found 0",
            ),
            (
                r#"{"overflow":"dorp"}"#,
                r#"K0630 property `overflow` of a sink must be `wait` or `drop`, found "dorp" (did you mean `drop`?)"#,
            ),
            (
                r#"{"fields":["a"],"excludeFields":["b"]}"#,
                "K0634 a sink cannot have both `fields` and `excludeFields` (leave one of them out)",
            ),
            (r#"{"format":"jsn"}"#, "K0601 there is no format `jsn` (did you mean `json`?)"),
        ] {
            assert_eq!(take(props).0.unwrap_err(), told);
        }
        for props in [
            r#"{"batchSize":-1}"#,
            r#"{"batchSize":"10"}"#,
            r#"{"lingerInterval":"soon"}"#,
            r#"{"lingerInterval":-100}"#,
            r#"{"compression":"zstd"}"#,
            r#"{"compression":"GZIP"}"#,
        ] {
            assert!(take(props).0.unwrap_err().starts_with("K0630 "), "{props}");
        }
        assert!(take(r#"{"encryption":"aes"}"#).0.unwrap_err().starts_with("K0631 "));
        for props in [r#"{"dataTemplate":"{{.a"}"#, r#"{"topic":"{{nofunc}}"}"#] {
            assert!(take(props).0.unwrap_err().starts_with("K0633 the template in property `"), "{props}");
        }
    }
}
