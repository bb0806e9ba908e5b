use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::diag::{Diagnostic, words};

/// Configuration of one connector: section to properties.
pub type Sections = BTreeMap<String, Map<String, Json>>;

/// What files and environment say about connectors.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    files: BTreeMap<String, Sections>,
    /// All variables with `__` in their name; which connector one belongs to is known when the connector is.
    env: BTreeMap<String, String>,
}

impl Layers {
    /// Reads `sources/*.yaml` in the folder of the settings, and `mqtt_source.yaml` beside it.
    pub(super) fn read(folder: &Path, env: &BTreeMap<String, String>) -> (Layers, Vec<Diagnostic>) {
        let env = env.iter().filter(|(name, _)| name.contains("__")).map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut layers = Layers { files: BTreeMap::new(), env };
        let mut found = Vec::new();
        let mut paths = vec![folder.join("mqtt_source.yaml")];
        if let Ok(entries) = std::fs::read_dir(folder.join("sources")) {
            paths.extend(entries.flatten().map(|entry| entry.path()));
            paths[1..].sort();
        }
        for path in paths {
            let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
            let Some(stem) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { continue };
            if !is_yaml || !path.is_file() {
                continue;
            }
            let read = std::fs::read_to_string(&path).map_err(|error| words(&error));
            match read.and_then(|text| sections(&text)) {
                Ok(sections) => {
                    let kind = if stem == "mqtt_source" { "mqtt".to_owned() } else { stem };
                    overlay(layers.files.entry(kind).or_default(), sections);
                }
                Err(error) => {
                    found.push(Diagnostic::error("K0705", format!("cannot read `{}`: {error}", path.display())));
                }
            }
        }
        (layers, found)
    }

    /// The names of all connectors that have a file.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All sections of a connector: its built-in defaults (YAML), then files, then environment.
    ///
    /// `schema` is the JSON Schema of its properties. It gives back the case of names that files and variables write as
    /// they like, and says which values are text though they look like numbers.
    pub fn sections(&self, kind: &str, defaults: &str, schema: &Json) -> Result<Sections, Diagnostic> {
        let mut all = sections(defaults)
            .map_err(|error| Diagnostic::error("K0705", format!("the defaults of `{kind}` cannot be read: {error}")))?;
        if let Some(file) = self.files.get(kind) {
            overlay(&mut all, file.clone());
        }
        let stem = if kind == "mqtt" { "MQTT_SOURCE".to_owned() } else { kind.to_uppercase() };
        for (name, text) in &self.env {
            let Some(path) = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix("__")) else { continue };
            let path = path.to_lowercase();
            let Some((section, property)) = path.split_once("__") else { continue };
            let name = spelled(property.split("__").next().unwrap_or(property), schema);
            let value = if is_text(&name, schema) { Json::from(text.trim()) } else { from_env(text) };
            let value = property
                .split("__")
                .skip(1)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .fold(value, |value, part| Json::Object(Map::from_iter([(part.to_owned(), value)])));
            let section = all.keys().find(|key| key.to_lowercase() == section).cloned().unwrap_or(section.to_owned());
            overlay(&mut all, Sections::from([(section, Map::from_iter([(name, value)]))]));
        }
        for properties in all.values_mut() {
            *properties = std::mem::take(properties).into_iter().map(|(k, v)| (spelled(&k, schema), v)).collect();
        }
        Ok(all)
    }
}

/// Lays properties over others, section by section; names heed no case.
pub(super) fn overlay(under: &mut Sections, over: Sections) {
    for (name, properties) in over {
        let section = under.entry(name).or_default();
        for (key, value) in properties {
            match section.keys().find(|old| old.eq_ignore_ascii_case(&key)).cloned() {
                Some(old) => section.insert(old, value),
                None => section.insert(key, value),
            };
        }
    }
}

/// Reads a connector's file. Sections that hold nothing are empty.
fn sections(text: &str) -> Result<Sections, String> {
    let tree: Json = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut all = Sections::new();
    match tree {
        Json::Null => {}
        Json::Object(tree) => {
            for (name, value) in tree {
                match value {
                    Json::Object(properties) => all.insert(name, properties),
                    Json::Null => all.insert(name, Map::new()),
                    _ => return Err(format!("`{name}` must be a section with properties below it")),
                };
            }
        }
        _ => return Err("expected sections, for example `default:` with properties below it".to_owned()),
    }
    Ok(all)
}

/// The property's name as its connector writes it.
fn spelled(name: &str, schema: &Json) -> String {
    let known = schema["properties"].as_object();
    let known = known.and_then(|known| known.keys().find(|known| known.eq_ignore_ascii_case(name)));
    known.cloned().unwrap_or_else(|| name.to_owned())
}

/// Whether the property takes text and nothing else.
fn is_text(name: &str, schema: &Json) -> bool {
    match &schema["properties"][name]["type"] {
        Json::String(kind) => kind == "string",
        Json::Array(kinds) => kinds.iter().all(|kind| kind == "string" || kind == "null"),
        _ => false,
    }
}

/// The value of a variable: `[a,b]` is a list, then whole numbers, true and false, floats, else text.
pub(super) fn from_env(text: &str) -> Json {
    let text = text.trim();
    if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return list.split(',').filter(|item| !item.trim().is_empty()).map(from_env).collect();
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    match text {
        "true" | "TRUE" | "True" => true.into(),
        "false" | "FALSE" | "False" => false.into(),
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() && !text.contains(char::is_alphabetic) => number.into(),
            _ => text.into(),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layers(files: &[(&str, &str)], env: &[(&str, &str)]) -> (Layers, Vec<Diagnostic>) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("sources")).unwrap();
        for (name, text) in files {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Layers::read(home.path(), &env)
    }

    fn schema() -> Json {
        json!({"properties": {
            "server": {"type": "string"}, "qos": {"type": "integer"},
            "username": {"type": ["string", "null"]}, "protocolVersion": {"type": "string"},
        }})
    }

    #[test]
    fn environment_over_file_over_defaults() {
        let (layers, found) = layers(
            &[
                ("mqtt_source.yaml", "default:\n  qos: 0\ndemo_conf:\n  server: tcp://file:1883\n"),
                ("sources/random.yaml", "default:\n  seed: 1\n"),
            ],
            &[
                ("MQTT_SOURCE__DEFAULT__SERVER", " tcp://env:1883/?a=b "),
                ("MQTT_SOURCE__DEMO_CONF__PROTOCOLVERSION", "5"),
                ("MQTT_SOURCE__NEW__USERNAME", "007"),
                ("MQTT__DEFAULT__QOS", "2"),
                ("RANDOM__DEFAULT__LIST", "[1, a]"),
            ],
        );
        assert!(found.is_empty());
        let defaults = "default:\n  server: tcp://127.0.0.1:1883\n  qos: 1\n";
        let all = layers.sections("mqtt", defaults, &schema()).unwrap();
        assert_eq!(json!(all["default"]), json!({"server": "tcp://env:1883/?a=b", "qos": 0}));
        assert_eq!(json!(all["demo_conf"]), json!({"server": "tcp://file:1883", "protocolVersion": "5"}));
        assert_eq!(json!(all["new"]), json!({"username": "007"}));
        let random = layers.sections("random", "", &Json::Null).unwrap();
        assert_eq!(json!(random["default"]), json!({"seed": 1, "list": [1, "a"]}));
    }

    #[test]
    fn a_file_that_is_no_section_file_is_named() {
        let (_, found) = layers(&[("sources/file.yaml", "default: 3\n"), ("sources/notes.txt", "::")], &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("file.yaml") && found[0].message.contains("`default`"), "{}", found[0]);
    }

    #[test]
    fn variables_have_the_type_that_they_look_like() {
        for (text, value) in [
            ("1", json!(1)),
            ("1.5", json!(1.5)),
            ("true", json!(true)),
            ("10s", json!("10s")),
            ("1e3", json!("1e3")),
            ("nan", json!("nan")),
            ("[]", json!([])),
        ] {
            assert_eq!(from_env(text), value, "{text}");
        }
    }
}
