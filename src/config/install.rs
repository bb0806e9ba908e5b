use std::time::Duration;

use serde_json::Value as Json;

use super::File;

/// What plugins may be installed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Install {
    /// Whether `install.sh` runs; `None`: only while the server listens on loopback alone.
    pub scripts: Option<bool>,
    pub script_limit: Duration,
    /// Public keys; where there are any, only what one of them has signed is installed.
    pub trusted: Vec<String>,
}

/// The part of the section `plugins` that is about installing.
pub(super) fn install(file: &mut File) -> Option<Install> {
    const SCRIPTS: &str = "plugins.allowInstallScript";
    const KEYS: &str = "plugins.trustedKeys";
    let scripts = match file.text(SCRIPTS)?.to_lowercase().as_str() {
        "true" => Some(Some(true)),
        "false" => Some(Some(false)),
        "loopback" => Some(None),
        other => file.wrong(SCRIPTS, other, "true, false, or loopback"),
    };
    let script_limit = file.span("plugins.installScriptTimeout");
    let script_limit = match script_limit {
        Some(Duration::ZERO) => {
            file.wrong("plugins.installScriptTimeout", "0", "a duration above zero, for example 5m")
        }
        other => other,
    };
    let keys = match file.below("plugins").remove("trustedKeys") {
        Some(Json::Array(keys)) => keys.iter().map(|key| key.as_str().map(str::to_owned)).collect(),
        // As it comes from the environment where there is one only.
        Some(Json::String(key)) if key.is_empty() => Some(Vec::new()),
        Some(Json::String(key)) => Some(vec![key]),
        Some(Json::Null) | None => Some(Vec::new()),
        Some(_) => None,
    };
    let keys = keys.or_else(|| file.wrong(KEYS, "something else", "a list of public keys, as [RWQ…]"));
    Some(Install { scripts: scripts?, script_limit: script_limit?, trusted: keys? })
}
