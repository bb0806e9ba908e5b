//! Properties of connectors: from a map of JSON values, as users write them, to a struct of options.
//!
//! [`read`] knows the names of an options struct from its schema. A name is matched exactly, else ignoring case. A
//! name that belongs to the pipeline passes, one that eKuiper knows and we ignore is a warning, one that asks for what
//! is not there is an error, and so is any other, with the nearest name. A value of the wrong type is an error that
//! names the property.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json};

use crate::diag::Diagnostic;

/// The schemas that were asked for: making one costs as much as planning a rule.
static KNOWN: Mutex<BTreeMap<TypeId, Arc<Json>>> = Mutex::new(BTreeMap::new());

/// Names that the WITH clause gives to every source, and settings of the steps after the source.
const OF_THE_STREAM: &[&str] = &[
    "type",
    "datasource",
    "format",
    "key",
    "kind",
    "lookup",
    "schemaId",
    "delimiter",
    "retainSize",
    "shared",
    "strictValidation",
    "timestamp",
    "timestampFormat",
    "confKey",
    "useInt64ForWholeNumber",
];

/// Common properties of sinks, which are taken out before a connector sees the others.
pub const OF_EVERY_SINK: &[&str] = &[
    "batchSize",
    "bufferLength",
    "bufferPageSize",
    "cleanCacheAtStop",
    "dataField",
    "dataTemplate",
    "delimiter",
    "enableCache",
    "excludeFields",
    "fields",
    "format",
    "hasHeader",
    "lingerInterval",
    "maxDiskCache",
    "memoryCacheThreshold",
    "omitIfEmpty",
    "overflow",
    "queueMaxAge",
    "queueMaxBytes",
    "queueSync",
    "resendAlterQueue",
    "resendDestination",
    "resendIndicatorField",
    "resendInterval",
    "resendPriority",
    "retryCount",
    "retryInterval",
    "schemaId",
    "sendSingle",
];

/// Common properties of sources that ask for a step which does not exist.
const STEPS: &[&str] = &[
    "connectionSelector",
    "decompression",
    "decrypt",
    "interval",
    "mergeField",
    "merger",
    "payloadBatchField",
    "payloadDelimiter",
    "payloadField",
    "payloadFormat",
    "payloadSchemaId",
    "sendInterval",
    "tls",
];

/// How [`read`] treats the names that are not in the options.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Whose properties these are, for messages: "the `mqtt` source".
    pub of: &'static str,
    /// Belong to others; not looked at.
    pub passed: &'static [&'static str],
    /// Known to eKuiper, without effect here: a warning.
    pub ignored: &'static [&'static str],
    /// Would need something that does not exist: an error, unless the value is empty, zero or false.
    pub refused: &'static [&'static str],
    /// Read by others, and never here; a misspelt one may have been meant.
    pub elsewhere: &'static [&'static str],
}

impl Names {
    /// Of a source: the names of the stream pass, steps that do not exist are refused.
    pub const fn source(of: &'static str, ignored: &'static [&'static str]) -> Names {
        Names { of, passed: OF_THE_STREAM, ignored, refused: STEPS, elsewhere: OF_THE_STREAM }
    }

    /// Of a sink, whose common properties were taken out before.
    pub const fn sink(of: &'static str, ignored: &'static [&'static str]) -> Names {
        let refused = &["connectionSelector", "decrypt", "tls"];
        Names { of, passed: &[], ignored, refused, elsewhere: OF_EVERY_SINK }
    }
}

/// Refuses common properties of a source that ask for a step which does not exist; `declared` are the source's own.
pub fn refuse_steps(of: &str, props: &Map<String, Json>, declared: impl Fn(&str) -> bool) -> Result<(), Diagnostic> {
    match props.iter().find(|(name, value)| has(STEPS, name) && !declared(name) && !is_blank(value)) {
        Some((name, _)) => Err(cannot(of, name)),
        None => Ok(()),
    }
}

fn cannot(of: &str, name: &str) -> Diagnostic {
    Diagnostic::error("K0624", format!("{of} cannot do what property `{name}` asks for")).help("leave the property out")
}

/// The type of a property that belongs to others, as JSON Schema names it.
fn kind_of_passed(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "hasheader" | "shared" | "strictvalidation" | "useint64forwholenumber" => "boolean",
        "retainsize" => "integer",
        "fields" => "array",
        "lookup" => "object",
        _ => "string",
    }
}

/// Reads properties into options. The struct is `#[serde(default, rename_all = "camelCase")]`, so that what is not given
/// has its default. Also returns warnings.
pub fn read<T>(props: &Map<String, Json>, names: &Names) -> Result<(T, Vec<Diagnostic>), Diagnostic>
where
    T: DeserializeOwned + JsonSchema + Default + 'static,
{
    let schema = schema::<T>();
    let none = Map::new();
    let fields = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
    let mut chosen = Map::new();
    let mut warnings = Vec::new();
    for (name, value) in props {
        let field = fields
            .keys()
            .find(|field| *field == name)
            .or_else(|| fields.keys().find(|field| field.eq_ignore_ascii_case(name)));
        if let Some(field) = field {
            // An exact name is stronger than one that differs by case.
            if value.is_null() || (field != name && props.contains_key(field)) {
                continue;
            }
            let value = whole(value, &fields[field]);
            check::<T>(names, field, &value, &fields[field])?;
            chosen.insert(field.clone(), value);
        } else if has(names.passed, name) {
            let kind = kind_of_passed(name);
            let fits = match kind {
                "boolean" => value.is_boolean(),
                "integer" => value.is_number(),
                "array" => value.is_array(),
                _ => value.is_string(),
            };
            if !fits && !value.is_null() {
                return Err(wrong(names, name, show(value), words(kind)));
            }
        } else if has(names.ignored, name) {
            let text = format!("property `{name}` of {} has no effect", names.of);
            warnings.push(Diagnostic::warning("K0621", text).help("leave it out"));
        } else if has(names.refused, name) {
            if !is_blank(value) {
                return Err(cannot(names.of, name));
            }
        } else {
            let text = format!("{} has no property `{name}`", names.of);
            let known = fields.keys().map(String::as_str).chain(names.ignored.iter().chain(names.elsewhere).copied());
            return Err(Diagnostic::error("K0620", text).suggest(name, known));
        }
    }
    let options = serde_json::from_value(Json::Object(chosen))
        .map_err(|error| Diagnostic::error("K0622", format!("properties of {}: {error}", names.of)))?;
    Ok((options, warnings))
}

/// The JSON Schema of options.
pub fn schema<T: JsonSchema + 'static>() -> Arc<Json> {
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let of = TypeId::of::<T>();
    if let Some(schema) = known().get(&of) {
        return schema.clone();
    }
    let schema = Arc::new(schemars::schema_for!(T).to_value());
    known().insert(of, schema.clone());
    schema
}

/// An error for a property that must be given.
pub fn missing(names: &Names, name: &str, example: &str) -> Diagnostic {
    Diagnostic::error("K0623", format!("{} needs the property `{name}`", names.of))
        .help(format!("for example {example}"))
}

/// An error for a property whose value cannot be.
pub fn wrong(names: &Names, name: &str, found: impl fmt::Display, expected: &str) -> Diagnostic {
    Diagnostic::error("K0622", format!("property `{name}` of {} must be {expected}, found {found}", names.of))
}

fn has(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn is_blank(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        Json::Bool(true) => false,
    }
}

/// A float without a fraction, as an integer where the schema wants one: clients that know only floats send `1.0`.
fn whole(value: &Json, schema: &Json) -> Json {
    let integer = |kind: &Json| kind == "integer";
    let wanted = match schema.get("type") {
        Some(Json::Array(kinds)) => kinds.iter().any(integer),
        Some(kind) => integer(kind),
        None => false,
    };
    match value.as_f64() {
        Some(x) if wanted && value.is_f64() && x.fract() == 0.0 && x.abs() < 9e15 => Json::from(x as i64),
        _ => value.clone(),
    }
}

fn check<T: DeserializeOwned>(names: &Names, name: &str, value: &Json, schema: &Json) -> Result<(), Diagnostic> {
    let alone = Map::from_iter([(name.to_owned(), value.clone())]);
    let Err(error) = serde_json::from_value::<T>(Json::Object(alone)) else { return Ok(()) };
    let expected = match schema.get("type") {
        Some(Json::String(kind)) => words(kind),
        Some(Json::Array(kinds)) => {
            let words: Vec<_> =
                kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null").map(words).collect();
            return Err(mismatch(names, name, value, &words.join(" or "), &error));
        }
        _ => return Err(wrong(names, name, show(value), "something else").help(error.to_string())),
    };
    Err(mismatch(names, name, value, expected, &error))
}

fn mismatch(names: &Names, name: &str, value: &Json, expected: &str, error: &serde_json::Error) -> Diagnostic {
    let found = wrong(names, name, show(value), expected);
    // The kind is right and the value is not: only the error knows why.
    if expected.contains(kind(value)) { found.help(error.to_string()) } else { found }
}

fn words(kind: &str) -> &'static str {
    match kind {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "an object",
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::String(_) => "text",
        Json::Number(_) => "number",
        Json::Bool(_) => "true or false",
        Json::Array(_) => "list",
        _ => "object",
    }
}

fn show(value: &Json) -> String {
    match value {
        Json::String(text) => format!("the text `{text}`"),
        Json::Number(number) => format!("the number {number}"),
        Json::Bool(yes) => yes.to_string(),
        Json::Array(_) => "a list".into(),
        _ => "an object".into(),
    }
}

/// A duration as text with units (`1h30m`, `1.5s`, `500ms`, also `ns`, `us`, `µs`), not negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "a duration such as `10s`, `1h30m` or `500ms`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
        let number: f64 = rest[..digits].parse().map_err(|_| format!("`{text}` is not {EXPECTED}"))?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |end| digits + end);
        total += number
            * match &rest[digits..unit] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(format!("`{text}` is not {EXPECTED}")),
            };
        rest = &rest[unit..];
    }
    match Duration::try_from_secs_f64(total) {
        Ok(span) if !text.is_empty() => Ok(span),
        _ => Err(format!("`{text}` is not {EXPECTED}")),
    }
}

/// A span of time in options: text with units, or a number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    pub const fn secs(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }

    /// `None` for zero, which means "never" or "at once".
    pub fn some(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Json::deserialize(from)? {
            Json::String(text) => duration(&text).map(Period).map_err(D::Error::custom),
            Json::Number(millis) => millis
                .as_f64()
                .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok())
                .map(Period)
                .ok_or_else(|| D::Error::custom("a duration cannot be negative")),
            _ => Err(D::Error::custom("a duration is text such as `10s`, or a number of milliseconds")),
        }
    }
}

impl serde::Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0.as_millis() as u64)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "description": "Text with units such as `10s` or `1h30m`, or a number of milliseconds."})
    }
}

/// Text that is never shown: a password.
#[derive(Clone, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(pub String);

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if self.0.is_empty() { "" } else { "******" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, serde::Serialize, JsonSchema)]
    #[serde(default, rename_all = "camelCase")]
    struct Options {
        server: String,
        clientid: String,
        qos: u8,
        retained: bool,
        interval: Period,
        columns: Vec<String>,
    }

    const NAMES: Names = Names::source("the `mqtt` source", &["kubeedgeVersion"]);

    fn options(props: Json) -> Result<(Options, Vec<Diagnostic>), String> {
        read(props.as_object().unwrap(), &NAMES).map_err(|found| found.to_string())
    }

    #[test]
    fn names_match_exactly_and_then_ignoring_case() {
        let (options, _) = options(json!({"clientId": "a", "clientid": "b", "QOS": 1.0, "interval": "1m30s"})).unwrap();
        assert_eq!((options.clientid.as_str(), options.qos), ("b", 1));
        assert_eq!(options.interval.0, Duration::from_secs(90));
    }

    #[test]
    fn unknown_names_are_errors_with_the_nearest_name() {
        let error = options(json!({"sever": "tcp://a"})).unwrap_err();
        assert_eq!(error, "the `mqtt` source has no property `sever` (did you mean `server`?)");
        let error = options(json!({"mergeField": "a"})).unwrap_err();
        assert_eq!(error, "the `mqtt` source cannot do what property `mergeField` asks for (leave the property out)");
        assert!(options(json!({"mergeField": "", "datasource": "a", "FORMAT": "json"})).is_ok());
        let error = options(json!({"useInt64ForWholeNumbers": true})).unwrap_err();
        assert!(error.ends_with("(did you mean `useInt64ForWholeNumber`?)"), "{error}");
        let sink = read::<Options>(json!({"sendSingel": true}).as_object().unwrap(), &Names::sink("the `x` sink", &[]));
        assert!(sink.unwrap_err().to_string().ends_with("(did you mean `sendSingle`?)"));
    }

    #[test]
    fn ignored_names_are_warnings() {
        let (_, warnings) = options(json!({"kubeedgeVersion": "1"})).unwrap();
        assert_eq!(warnings[0].message, "property `kubeedgeVersion` of the `mqtt` source has no effect");
        assert!(!warnings[0].is_error());
    }

    #[test]
    fn wrong_types_name_the_property() {
        for (props, text) in [
            (json!({"server": 5}), "property `server` of the `mqtt` source must be text, found the number 5"),
            (json!({"qos": "1"}), "property `qos` of the `mqtt` source must be a whole number, found the text `1`"),
            (
                json!({"retained": 1}),
                "property `retained` of the `mqtt` source must be true or false, found the number 1",
            ),
            (json!({"columns": "a"}), "property `columns` of the `mqtt` source must be a list, found the text `a`"),
            (
                json!({"interval": "5"}),
                "property `interval` of the `mqtt` source must be text or a whole number, found the text `5` (`5` is not a \
                 duration such as `10s`, `1h30m` or `500ms`)",
            ),
        ] {
            assert_eq!(options(props).unwrap_err(), text);
        }
    }

    #[test]
    fn durations_are_text_or_milliseconds() {
        for (text, millis) in [("10s", 10_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("500ms", 500), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1x", "1..5s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        let (options, _) = options(json!({"interval": 250})).unwrap();
        assert_eq!(options.interval.0, Duration::from_millis(250));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "******");
        assert_eq!(serde_json::to_string(&Secret("hunter2".into())).unwrap(), "\"******\"");
    }
}
