//! What a case says of its rule and its server, and what of it can be run here.

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use crate::diag::Diagnostic;
use crate::flow::shape::Common;
use crate::options;
use crate::plan;

use super::engine::Refusal;

/// The options of a rule and the settings of its server.
///
/// What makes rows wait for each other (`bufferLength`, `concurrency`, `overflow`), what a connector outside does
/// (`stallTimeout`, `deadLetter`) and what becomes of a rule that ended with an error (`restartStrategy`) changes nothing
/// on a virtual clock, with one rule and sinks that always take what they are given: such options are checked, no more.
#[derive(Debug)]
pub(super) struct Options {
    pub rule: options::Options,
    pub plan: plan::Options,
    /// `basic.timezone`; UTC where the case says nothing.
    pub zone: TimeZone,
    /// JSON numbers without a point become integers.
    pub whole_numbers_as_int: bool,
}

impl Options {
    /// # Errors
    /// What a server refuses, in its words; a setting that this runner does not know.
    pub fn read(written: &Map<String, Json>, config: &Map<String, Json>) -> Result<Options, Refusal> {
        let mut found = Vec::new();
        let rule = options::Options::read(&Map::new(), written, &mut found);
        let errors: Vec<String> = found.iter().filter(|one| one.is_error()).map(Diagnostic::to_string).collect();
        if !errors.is_empty() {
            return Err(Refusal::Refused(errors.join("; ")));
        }
        if let Some(action) = &rule.dead_letter {
            let refused = |found| Refusal::Refused(format!("in `deadLetter`: {found}"));
            Common::take(&mut action.props.clone()).map_err(refused)?;
        }
        let mut read = Options { plan: rule.for_plan(), rule, zone: TimeZone::UTC, whole_numbers_as_int: false };
        for (section, values) in config {
            for (name, value) in values.as_object().into_iter().flatten() {
                read.set(section, name, value).map_err(Refusal::Unknown)?;
            }
        }
        Ok(read)
    }

    fn set(&mut self, section: &str, name: &str, value: &Json) -> Result<(), String> {
        let flag = || value.as_bool().ok_or_else(|| format!("`{section}.{name}` must be true or false, found {value}"));
        match (section, name) {
            ("basic", "timezone") => {
                let text = value.as_str().unwrap_or_default();
                self.zone = TimeZone::get(text).map_err(|_| format!("there is no time zone `{text}`"))?;
            }
            ("basic", "ignoreCase") => self.plan.ignore_case = flag()?,
            ("source", "useInt64ForWholeNumber") => self.whole_numbers_as_int = flag()?,
            _ => return Err(format!("the setting `{section}.{name}` is not supported")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(options: Json, config: Json) -> String {
        let (Json::Object(options), Json::Object(config)) = (options, config) else { return String::new() };
        match Options::read(&options, &config) {
            Err(Refusal::Refused(why)) => format!("refused: {why}"),
            Err(Refusal::Unknown(why)) => format!("unknown: {why}"),
            Ok(_) => "fine".to_string(),
        }
    }

    #[test]
    fn options_are_refused_as_a_server_refuses_them_and_settings_are_not_known() {
        let refused = |options| refusal(options, json!({}));
        let text = "refused: there is no option `sendEror` (did you mean `sendError`?)";
        assert_eq!(refused(json!({"sendEror": true})), text);
        assert_eq!(refused(json!({"qos": 3})), "refused: option `qos` is `3`, expected 0, 1 or 2");
        assert!(refused(json!({"deadLetter": {"file": {"batchSize": -1}}})).starts_with("refused: in `deadLetter`: "));
        assert_eq!(refused(json!({"deadLetter": {"file": {"path": "a"}}, "stallTimeout": "5s"})), "fine");
        let text = "unknown: the setting `basic.colour` is not supported";
        assert_eq!(refusal(json!({}), json!({"basic": {"colour": 1}})), text);
    }
}
