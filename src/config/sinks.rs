use serde_json::{Map, Value as Json};

use super::File;
use crate::diag::Diagnostic;

/// The properties that sinks have when they do not write them: those of the section `sink`. Numbers that cannot be are
/// corrected with a warning, as eKuiper does; what is no number, span or text of its kind is reported.
pub(super) fn defaults(file: &mut File) -> Map<String, Json> {
    let mut all = file.below("sink");
    for name in ["enableCache", "resendAlterQueue", "cleanCacheAtStop"] {
        let path = format!("sink.{name}");
        let _ = file.boolean(&path);
    }
    for name in ["resendInterval", "queueMaxAge", "retryInterval"] {
        let path = format!("sink.{name}");
        let least = if name == "retryInterval" { 1 } else { 0 };
        match all.get(name).cloned() {
            Some(Json::Number(number)) if number.as_f64().is_some_and(|number| number < 0.0) => {
                all.remove(name);
                corrected(file, &path, number.to_string(), "its default");
            }
            Some(value) => {
                let found = file.span(&path);
                if found.is_some_and(|span| span.as_millis() < least) {
                    file.wrong::<()>(&path, &value.to_string(), "a span above zero, for example 100ms");
                }
            }
            None => {}
        }
    }
    let mut whole = |name: &str, least: i64, default: i64| -> i64 {
        let path = format!("sink.{name}");
        let Some(number) = file.whole(&path) else { return default };
        if number >= least {
            return number;
        }
        corrected(file, &path, number.to_string(), &default.to_string());
        all.insert(name.to_owned(), default.into());
        default
    };
    let page = whole("bufferPageSize", 1, 256);
    let counts = [("memoryCacheThreshold", 1024), ("maxDiskCache", 1_024_000)];
    let counts = counts.map(|(name, default)| (name, whole(name, 0, default)));
    let (_, retries) = (whole("queueMaxBytes", 0, 0), whole("retryCount", 0, 0));
    let priority = whole("resendPriority", -1, 0);
    for (name, count) in counts {
        let fits = (count.max(page) as u64).next_multiple_of(page as u64);
        if count as u64 != fits {
            corrected(file, &format!("sink.{name}"), count.to_string(), &fits.to_string());
            all.insert(name.to_owned(), fits.into());
        }
    }
    if retries > i64::from(u32::MAX) {
        corrected(file, "sink.retryCount", retries.to_string(), "0");
        all.insert("retryCount".to_owned(), 0.into());
    }
    if priority > 1 {
        corrected(file, "sink.resendPriority", priority.to_string(), "0");
        all.insert("resendPriority".to_owned(), 0.into());
    }
    let sync = file.text("sink.queueSync").unwrap_or_default();
    if !["always", "interval", "never"].contains(&sync.as_str()) {
        file.wrong::<()>("sink.queueSync", &sync, "one of always, interval, never");
    }
    all
}

fn corrected(file: &mut File, path: &str, found: String, used: &str) {
    let text = format!("`{path}` cannot be {found}; {used} is used");
    file.tell(Diagnostic::warning("K0706", text));
}
