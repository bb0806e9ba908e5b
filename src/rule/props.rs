use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::Host;
use crate::catalog::{Definition, Properties};
use crate::diag::Diagnostic;
use crate::io::SourceSpec;
use crate::plugin::Kind;

/// Sections of a source's configuration, by name.
pub(super) type Sections = BTreeMap<String, Properties>;

/// All sections of a source's configuration: its defaults, then files, environment and stored keys.
pub(super) fn sections(host: &Host, connector: &str) -> Result<Sections, Diagnostic> {
    with_keys(host, connector, host.catalog.conf_keys().of("sources", connector))
}

fn with_keys(host: &Host, connector: &str, keys: Sections) -> Result<Sections, Diagnostic> {
    let mut all = host.configured(connector)?;
    for (key, properties) in keys {
        lay(all.entry(key).or_default(), properties);
    }
    Ok(all)
}

/// Checks what is to be stored as a configuration key: the connector plans with it, over what holds without it. What
/// the key leaves to the stream is not missed, and what is wrong without the key is not its fault. Gives warnings.
pub(super) fn check_key(
    host: &Host,
    connector: &str,
    key: &str,
    given: &Properties,
) -> Result<Vec<Diagnostic>, Diagnostic> {
    let schema = host.schema(Kind::Sources, connector);
    let plan = |mut props: Properties| {
        for (name, value) in stand_ins(&schema) {
            if !props.keys().any(|given| given.eq_ignore_ascii_case(&name)) {
                props.insert(name, value);
            }
        }
        let spec =
            SourceSpec { props, wants_meta: false, wants_acks: false, stream: key.to_owned(), env: host.env(key) };
        host.source(connector, spec).map(|planned| planned.warnings)
    };
    let mut keys = host.catalog.conf_keys().of("sources", connector);
    keys.remove(key);
    let mut sections = with_keys(host, connector, keys)?;
    let mut without = sections.remove("default").unwrap_or_default();
    lay(&mut without, sections.remove(key).unwrap_or_default());
    let mut with = without.clone();
    lay(&mut with, given.clone());
    let before = plan(without);
    match (plan(with), before) {
        (Ok(warnings), Ok(before)) => Ok(warnings.into_iter().filter(|one| !before.contains(one)).collect()),
        (Ok(warnings), Err(_)) => Ok(warnings),
        (Err(found), Err(before)) if found == before => Ok(Vec::new()),
        // A property that must be given may stand in the stream.
        (Err(found), _) if found.code == "K0623" => Ok(Vec::new()),
        (Err(found), _) => Err(found),
    }
}

/// Values for what a source must be given, which a key need not hold: of the right type, and of no meaning.
fn stand_ins(schema: &Json) -> Vec<(String, Json)> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let of = |name: &str| match schema["properties"][name]["type"].as_str() {
        Some("boolean") => Json::from(false),
        Some("integer" | "number") => Json::from(1),
        Some("array") => Json::Array(Vec::new()),
        Some("object") => Json::Object(Map::new()),
        _ => Json::from("any"),
    };
    required.chain(["datasource"]).map(|name| (name.to_owned(), of(name))).collect()
}

/// All properties of a stream's source.
pub(super) fn of_source(host: &Host, stream: &Definition) -> Result<(Properties, Vec<Diagnostic>), Diagnostic> {
    let mut sections = sections(host, stream.connector())?;
    let mut warnings = Vec::new();
    let mut props = sections.get("default").cloned().unwrap_or_default();
    let options = &stream.options;
    if !options.conf_key.is_empty() {
        // Sections of files were lower case for eKuiper, so that one comes first.
        let lower = options.conf_key.to_lowercase();
        match sections.remove(&lower).or_else(|| sections.remove(&options.conf_key)) {
            Some(section) => lay(&mut props, section),
            None => {
                let text = format!(
                    "stream `{}` asks for the configuration key `{}`, which `{}` does not have",
                    stream.name,
                    options.conf_key,
                    stream.connector()
                );
                let names: Vec<&str> = sections.keys().map(String::as_str).collect();
                warnings.push(Diagnostic::warning("K0907", text).suggest(&options.conf_key, names));
            }
        }
    }
    lay(&mut props, options.extra.clone());
    warnings.extend(outvoted(stream, &props));
    let text = |text: &str| (!text.is_empty()).then(|| Json::from(text));
    let fixed = [
        ("format", Some(Json::from(stream.format()))),
        ("key", text(&options.key)),
        ("datasource", text(&options.datasource)),
        ("schemaId", text(&options.schema_id)),
        ("delimiter", text(&options.delimiter)),
        ("retainSize", options.retain_size.map(Json::from)),
        ("strictValidation", options.strict_validation.then_some(Json::Bool(true))),
        ("timestamp", text(&options.timestamp)),
        ("timestampFormat", text(&options.timestamp_format)),
    ];
    lay(&mut props, fixed.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect());
    Ok((props, warnings))
}

/// Properties that only the statement can set, where others set them to something else.
fn outvoted(stream: &Definition, props: &Properties) -> Vec<Diagnostic> {
    let options = &stream.options;
    let said = [
        ("format", "FORMAT", Json::from(stream.format())),
        ("schemaId", "SCHEMAID", Json::from(options.schema_id.as_str())),
        ("timestamp", "TIMESTAMP", Json::from(options.timestamp.as_str())),
        ("timestampFormat", "TIMESTAMP_FORMAT", Json::from(options.timestamp_format.as_str())),
        ("strictValidation", "STRICT_VALIDATION", Json::from(options.strict_validation)),
        ("shared", "SHARED", Json::from(options.shared)),
        ("type", "TYPE", Json::from(stream.connector())),
        ("confKey", "CONF_KEY", Json::from(options.conf_key.as_str())),
    ];
    let differs = |value: &Json, said: &Json| match (value.as_str(), said.as_str()) {
        (Some(value), Some(said)) => !value.is_empty() && !value.eq_ignore_ascii_case(said),
        _ => !value.is_null() && value != said,
    };
    let mut found = Vec::new();
    for (name, option, said) in said {
        let given = props.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        if given.is_some_and(|(_, value)| differs(value, &said)) {
            let text = format!("property `{name}` of stream `{}` has no effect", stream.name);
            found.push(Diagnostic::warning("K0909", text).help(format!("write {option} into its WITH clause")));
        }
    }
    found
}

/// Lays properties over others; names heed no case.
fn lay(under: &mut Properties, over: Map<String, Json>) {
    for (name, value) in over {
        match under.keys().find(|old| old.eq_ignore_ascii_case(&name)).cloned() {
            Some(old) => under.insert(old, value),
            None => under.insert(name, value),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::host::tests::host;
    use super::*;

    #[test]
    fn default_then_conf_key_then_extra_then_with() {
        let (_home, host) = host();
        let keys = host.catalog.conf_keys();
        let props = |value: Json| value.as_object().unwrap().clone();
        keys.put("sources", "thing", "default", props(json!({"a": 1, "b": 1, "datasource": "no"}))).unwrap();
        keys.put("sources", "thing", "North", props(json!({"B": 2, "c": 2}))).unwrap();
        let text = r#"CREATE STREAM s () WITH (TYPE="thing", CONF_KEY="North", EXTRA="{\"c\": 3, \"datasource\": \"x\"}",
            DATASOURCE="t", FORMAT="JSON")"#;
        let (merged, warnings) = host.source_props(&Definition::parse(text).unwrap()).unwrap();
        assert_eq!(json!(merged), json!({"a": 1, "b": 2, "datasource": "t", "c": 3, "format": "json"}));
        assert!(warnings.is_empty());
        let text = text.replace("North", "Nroth");
        let (merged, warnings) = host.source_props(&Definition::parse(&text).unwrap()).unwrap();
        assert_eq!(merged["b"], 1);
        assert!(warnings[0].to_string().ends_with("(did you mean `North`?)"), "{}", warnings[0]);
    }
}
