use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::Host;
use crate::catalog::{Definition, Properties};
use crate::diag::Diagnostic;
use crate::plugin::Kind;

/// All sections of a source's configuration: its defaults, then files, environment and stored keys.
pub(super) fn sections(host: &Host, connector: &str) -> Result<BTreeMap<String, Properties>, Diagnostic> {
    let own = host.connectors().find(|one| one.name == connector);
    let guest = if own.is_none() { host.plugins.source_yaml(connector) } else { None };
    let defaults = own.map_or(guest.as_deref().unwrap_or(""), |one| one.defaults);
    let mut all = host.layers.sections(connector, defaults, &host.schema(Kind::Sources, connector))?;
    for (key, properties) in host.catalog.conf_keys().of("sources", connector) {
        lay(all.entry(key).or_default(), properties);
    }
    Ok(all)
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
