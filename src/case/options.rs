//! What a case says of its rule and its server, and what of it can be run here.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use crate::plan;

/// The options of a rule and the settings of its server, as far as they change what comes out.
#[derive(Debug)]
pub(super) struct Options {
    pub send_error: bool,
    pub plan: plan::Options,
    /// `basic.timezone`; UTC where the case says nothing.
    pub zone: TimeZone,
    /// From 1 on, what a rule knows survives a crash.
    pub qos: u64,
    /// `checkpointInterval`
    pub checkpoint: Duration,
    /// JSON numbers without a point become integers.
    pub whole_numbers_as_int: bool,
}

/// Options that change nothing on a virtual clock, with one rule and sinks that always take what they are given.
const WITHOUT_EFFECT: &[&str] = &[
    "bufferLength",
    "disableBufferFullDiscard",
    "concurrency",
    "debug",
    "logFilename",
    "restartStrategy",
    "notifySub",
    "experiment",
    "enableRuleTracer",
    "enableSaveStateBeforeStop",
    "forceExitTimeout",
    "overflow",
];

impl Options {
    /// # Errors
    /// An option or setting that this runner does not know.
    pub fn read(options: &Map<String, Json>, config: &Map<String, Json>) -> Result<Options, String> {
        let mut read = Options {
            send_error: false,
            plan: plan::Options::default(),
            zone: TimeZone::UTC,
            whole_numbers_as_int: false,
            qos: 0,
            checkpoint: Duration::from_secs(300),
        };
        let (mut is_event_time, mut event_time) = (false, plan::EventTime::default());
        for (name, value) in options {
            match name.as_str() {
                "sendError" => read.send_error = flag(name, value)?,
                "sendMetaToSink" => read.plan.send_meta = flag(name, value)?,
                "sendNilField" => read.plan.send_nil = flag(name, value)?,
                "planOptimizeStrategy" => {
                    let version = value.pointer("/windowOption/windowVersion");
                    read.plan.windows_v2 = version == Some(&Json::from("v2"));
                    let twice = value.pointer("/windowOption/enableSendSlidingWindowTwice");
                    read.plan.sliding_twice = twice.map_or(Ok(false), |twice| flag(name, twice))?;
                    let in_order = value.get("disableAliasRefCal");
                    read.plan.aliases_in_order = in_order.map_or(Ok(false), |in_order| flag(name, in_order))?;
                    let disabled = value.pointer("/optimizeControl/disableOptimizeRules").and_then(Json::as_array);
                    for name in disabled.into_iter().flatten() {
                        if !read.plan.disabled.add(name.as_str().unwrap_or_default()) {
                            return Err(format!("`disableOptimizeRules` knows no {name}"));
                        }
                    }
                }
                "isEventTime" => is_event_time = flag(name, value)?,
                "lateTolerance" => event_time.tolerance = span(name, value)?,
                "idleTimeout" => event_time.patience = Some(span(name, value)?).filter(|span| !span.is_zero()),
                "checkpointInterval" => read.checkpoint = span(name, value)?,
                "qos" => {
                    let known = value.as_u64().filter(|qos| *qos <= 2);
                    read.qos = known.ok_or_else(|| format!("the option `qos` must be 0, 1 or 2, found {value}"))?;
                }
                name if WITHOUT_EFFECT.contains(&name) => {}
                name => return Err(format!("the option `{name}` is not known")),
            }
        }
        read.plan.event_time = is_event_time.then_some(event_time);
        for (section, values) in config {
            for (name, value) in values.as_object().into_iter().flatten() {
                match (section.as_str(), name.as_str()) {
                    ("basic", "timezone") => {
                        let text = value.as_str().unwrap_or_default();
                        read.zone = TimeZone::get(text).map_err(|_| format!("there is no time zone `{text}`"))?;
                    }
                    ("basic", "ignoreCase") => read.plan.ignore_case = flag(name, value)?,
                    ("source", "useInt64ForWholeNumber") => read.whole_numbers_as_int = flag(name, value)?,
                    _ => return Err(format!("the setting `{section}.{name}` is not supported")),
                }
            }
        }
        Ok(read)
    }
}

/// Why a server would refuse the options, whatever the rule: numbers that cannot be negative.
pub(super) fn refused(options: &Map<String, Json>) -> Option<String> {
    const NEVER_NEGATIVE: &[&str] = &["lateTolerance", "idleTimeout", "bufferLength", "concurrency"];
    let negative = |(name, value): &(&String, &Json)| {
        let text = value.as_str().is_some_and(|text| text.starts_with('-'));
        NEVER_NEGATIVE.contains(&name.as_str()) && (text || value.as_f64().is_some_and(|number| number < 0.0))
    };
    options.iter().find(negative).map(|(name, value)| format!("option `{name}` cannot be negative, but it is {value}"))
}

fn flag(name: &str, value: &Json) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("the option `{name}` must be true or false, found {value}"))
}

/// Milliseconds, or text such as `5s`, `1m30s`.
fn span(name: &str, value: &Json) -> Result<Duration, String> {
    let wrong = || format!("the option `{name}` must be a time span such as `5s`, found {value}");
    if let Some(millis) = value.as_u64() {
        return Ok(Duration::from_millis(millis));
    }
    let mut rest = value.as_str().filter(|text| !text.is_empty()).ok_or_else(wrong)?;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let units = [("ms", 0.001), ("us", 0.000_001), ("ns", 0.000_000_001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) = units.iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        total += number * seconds;
        rest = &after[unit.len()..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans() {
        assert_eq!(span("x", &json!("1m30s")).unwrap(), Duration::from_secs(90));
        assert_eq!(span("x", &json!("250ms")).unwrap(), Duration::from_millis(250));
        assert_eq!(span("x", &json!(1500)).unwrap(), Duration::from_millis(1500));
        assert!(span("x", &json!("5 parsecs")).is_err());
        assert!(span("x", &json!("")).is_err());
    }

    #[test]
    fn an_unknown_option_is_an_error() {
        let Json::Object(options) = json!({"sendEror": true}) else { return };
        assert_eq!(Options::read(&options, &Map::new()).unwrap_err(), "the option `sendEror` is not known");
    }
}
