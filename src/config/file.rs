use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::keys::{self, Standing};
use super::layers::from_env;
use super::{DEFAULTS, span};
use crate::diag::Diagnostic;

/// Settings as they were written, the last layer on top, with what was found on the way.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// By the name as we write it.
    values: BTreeMap<&'static str, Written>,
    /// By the name in lower case, with file or variable.
    pub(super) secrets: BTreeMap<String, (Json, String)>,
    found: Vec<Diagnostic>,
    ignored: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Written {
    value: Json,
    /// File or variable.
    place: String,
}

impl File {
    /// The file that is built into the program.
    pub fn built_in() -> Result<File, Vec<Diagnostic>> {
        let mut file = File::default();
        file.add_yaml(DEFAULTS, "config/kuiper.yaml");
        if file.found.is_empty() { Ok(file) } else { Err(file.found) }
    }

    /// Lays a file over what is there.
    pub fn add_yaml(&mut self, text: &str, origin: &str) {
        match serde_yaml::from_str::<Json>(text) {
            Ok(Json::Null) => {}
            Ok(Json::Object(tree)) => self.add_tree("", tree, origin),
            Ok(_) => {
                self.report(format!("`{origin}` is no list of settings"), Some("write them as `basic:` and below"))
            }
            Err(error) => self.report(format!("cannot read `{origin}`: {error}"), None),
        }
    }

    /// Lays the variables `KUIPER__SECTION__NAME` over what is there.
    pub fn add_env(&mut self, env: &BTreeMap<String, String>) {
        for (name, text) in env {
            if let Some(secret) = name.strip_prefix("KUIPER__SECRETS__") {
                self.secrets.insert(secret.to_lowercase(), (text.as_str().into(), name.clone()));
            } else if let Some(path) = name.strip_prefix("KUIPER__") {
                self.add(&path.replace("__", "."), from_env(text), name);
            }
        }
    }

    fn add_tree(&mut self, above: &str, tree: Map<String, Json>, origin: &str) {
        for (name, value) in tree {
            let path = if above.is_empty() { name } else { format!("{above}.{name}") };
            match value {
                Json::Object(below) if path.eq_ignore_ascii_case("secrets") => {
                    below.into_iter().for_each(|(name, value)| {
                        self.secrets.insert(name.to_lowercase(), (value, origin.to_owned()));
                    })
                }
                Json::Object(below) => self.add_tree(&path, below, origin),
                // A heading with nothing under it.
                Json::Null => {}
                value => self.add(&path, value, origin),
            }
        }
    }

    fn add(&mut self, path: &str, value: Json, place: &str) {
        match keys::standing(path) {
            Some(Standing::Honoured(name)) => {
                self.values.insert(name, Written { value, place: place.to_owned() });
            }
            Some(Standing::Refused(name)) => {
                if !matches!(&value, Json::Bool(false) | Json::Null) && value != "" {
                    self.report(
                        format!("`{name}` in `{place}` is switched on, and this version does not have it"),
                        Some("take it out to run without it"),
                    );
                }
            }
            Some(Standing::Ignored(name)) => {
                if !self.ignored.contains(&name) {
                    self.ignored.push(name);
                }
            }
            None => {
                let unknown = Diagnostic::error("K0702", format!("there is no setting `{path}`, as `{place}` has it"));
                self.found.push(unknown.suggest(path, keys::all()));
            }
        }
    }

    fn report(&mut self, message: String, help: Option<&str>) {
        let error = Diagnostic::error("K0703", message);
        self.found.push(match help {
            Some(help) => error.help(help),
            None => error,
        });
    }

    /// Reports what else was found.
    pub(super) fn tell(&mut self, found: Diagnostic) {
        self.found.push(found);
    }

    /// Reports and gives nothing, for use at the end of an `or_else`.
    pub(super) fn fail<T>(&mut self, message: String, help: Option<&str>) -> Option<T> {
        self.report(message, help);
        None
    }

    /// Reports a value that cannot be.
    pub(super) fn wrong<T>(&mut self, name: &str, value: &str, expected: &str) -> Option<T> {
        let place = self.values.get(name).map_or("the settings", |written| &written.place);
        let message = format!("`{name}` in `{place}` is `{value}`, expected {expected}");
        self.fail(message, None)
    }

    pub(super) fn typed<T>(&mut self, name: &str, expected: &str, read: impl Fn(&Json) -> Option<T>) -> Option<T> {
        let value = self.values.get(name).map(|written| written.value.clone())?;
        read(&value).or_else(|| self.wrong(name, &plain(&value), expected))
    }

    /// Text, also where it looks like a number.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.typed(name, "text", |value| match value {
            Json::String(text) => Some(text.clone()),
            Json::Number(_) | Json::Bool(_) => Some(plain(value)),
            _ => None,
        })
    }

    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.typed(name, "true or false", Json::as_bool)
    }

    pub(super) fn whole(&mut self, name: &str) -> Option<i64> {
        self.typed(name, "a whole number", Json::as_i64)
    }

    pub(super) fn span(&mut self, name: &str) -> Option<Duration> {
        self.typed(name, "a duration, for example 5s", span)
    }

    /// All values below a name, as a tree.
    pub(super) fn below(&self, section: &str) -> Map<String, Json> {
        let mut tree = Map::new();
        for (name, written) in &self.values {
            let Some(path) = name.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) else { continue };
            match path.split_once('.') {
                None => {
                    tree.insert(path.to_owned(), written.value.clone());
                }
                Some((group, name)) => {
                    let group = tree.entry(group).or_insert_with(|| Json::Object(Map::new()));
                    if let Json::Object(group) = group {
                        group.insert(name.to_owned(), written.value.clone());
                    }
                }
            }
        }
        tree
    }

    #[cfg(test)]
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// All that was found: errors, and one warning for the settings without an effect.
    pub(super) fn finish(&mut self) -> Vec<Diagnostic> {
        let mut found = std::mem::take(&mut self.found);
        if !self.ignored.is_empty() {
            let names = std::mem::take(&mut self.ignored).join("`, `");
            found.push(Diagnostic::warning(
                "K0704",
                format!("these settings of eKuiper have no effect here: `{names}`"),
            ));
        }
        found
    }
}

/// A value as a user would write it.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
