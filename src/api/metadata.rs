//! What there is to choose from: connectors, their properties, functions; and the keys that hold properties.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::answer::{code, empty, logged, object, warned};
use super::{Answer, Call, Refusal};
use crate::diag::{Fault, nearest};
use crate::plugin::{Kind, Part};
use crate::rule::{Host, check_id};

pub(super) async fn sources(call: Call) -> Answer {
    let host = call.server.host();
    let mut all = list(host, Kind::Sources);
    let lookups = asks_for_lookups(&call);
    all.retain(|one| {
        let name = one["name"].as_str().unwrap_or_default();
        if lookups { host.has_lookup(name) } else { host.has_source(name) }
    });
    Ok(object(&all))
}

fn asks_for_lookups(call: &Call) -> bool {
    call.query("kind").as_deref() == Some("lookup")
}

pub(super) async fn sinks(call: Call) -> Answer {
    Ok(object(&list(call.server.host(), Kind::Sinks)))
}

fn list(host: &Host, kind: Kind) -> Vec<Json> {
    let names = host.connector_names(kind);
    let line = |(name, guest): (String, bool)| {
        let about = form(host, kind, &name, false)["about"].take();
        json!({"name": name, "about": about, "type": origin(guest)})
    };
    names.into_iter().map(line).collect()
}

fn origin(guest: bool) -> &'static str {
    if guest { "native" } else { "internal" }
}

pub(super) async fn source(call: Call) -> Answer {
    detail(&call, Kind::Sources)
}

pub(super) async fn sink(call: Call) -> Answer {
    detail(&call, Kind::Sinks)
}

/// What a form needs to know of a connector.
fn detail(call: &Call, kind: Kind) -> Answer {
    let (host, name) = (call.server.host(), call.param(0));
    let names = host.connector_names(kind);
    let Some((_, guest)) = names.iter().find(|(one, _)| one == name) else {
        return Err(Refusal::new(code::CONFIG_KEY, format!("This plugin was not found:{name}")));
    };
    let mut form = form(host, kind, name, kind == Kind::Sources && asks_for_lookups(call));
    form["type"] = origin(*guest).into();
    Ok(object(&form))
}

/// The form of a connector: the file that came with a plugin, else what is known of the properties. The file is that of the
/// source, where a plugin has a lookup besides.
fn form(host: &Host, kind: Kind, name: &str, lookup: bool) -> Json {
    let own = host.connectors().any(|one| one.name == name);
    let source = host.plugins.has_source(name);
    let lookup = !own && kind == Kind::Sources && host.plugins.has_lookup(name) && (lookup || !source);
    let written = host.plugins.metadata(kind, name).filter(|_| !(own || lookup && source));
    if let Some(Json::Object(mut form)) = written.and_then(|text| serde_json::from_str(&text).ok()) {
        form.values_mut().for_each(short_languages);
        if let Some(Json::Object(about)) = form.get_mut("about") {
            about.insert("installed".into(), true.into());
        }
        return Json::Object(form);
    }
    let part = match kind {
        Kind::Sinks => Part::Sink,
        _ if lookup => Part::Lookup,
        _ => Part::Source,
    };
    let own = host.connectors().find(|one| one.name == name);
    let description = own.map(|one| one.about).or_else(|| host.plugins.about(part, name)).unwrap_or_default();
    let mut form = json!({
        "about": {
            "trial": false,
            "installed": true,
            "author": {"name": "", "email": "", "company": "", "website": ""},
            "helpUrl": both(""),
            "description": both(description),
        },
        "libs": [],
        "node": {"category": kind.one(), "icon": "", "label": both(name)},
    });
    let schema = if lookup { host.plugins.schema(part, name).map(Arc::new) } else { None };
    let mut fields = fields(host, kind, name, &schema.unwrap_or_else(|| host.schema(kind, name)));
    if kind == Kind::Sources {
        let datasource = fields.iter().position(|field| field["name"] == "datasource").map(|at| fields.remove(at));
        form["dataSource"] = datasource.unwrap_or_default();
        form["properties"] = json!({"default": fields});
    } else {
        form["properties"] = fields.into();
    }
    form
}

/// A text in both languages that forms have; there is one only.
fn both(text: &str) -> Json {
    json!({"en": text, "zh": text})
}

/// `en_US` in the files of plugins is `en` in answers, and `zh_CN` is `zh`.
fn short_languages(value: &mut Json) {
    match value {
        Json::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(name, mut value)| {
                    short_languages(&mut value);
                    let short = match name.as_str() {
                        "en_US" => "en",
                        "zh_CN" => "zh",
                        other => other,
                    };
                    (short.to_owned(), value)
                })
                .collect();
        }
        Json::Array(items) => items.iter_mut().for_each(short_languages),
        _ => {}
    }
}

/// The properties of a connector as fields of a form.
fn fields(host: &Host, kind: Kind, name: &str, schema: &Json) -> Vec<Json> {
    let defaults = match kind {
        Kind::Sources => host.source_sections(name).ok().and_then(|mut all| all.remove("default")).unwrap_or_default(),
        _ => Map::new(),
    };
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    known
        .iter()
        .map(|(name, property)| {
            let (kind, control) = control(property);
            let written = defaults.get(name);
            let default = written.or_else(|| property.get("default")).cloned().unwrap_or_default();
            json!({
                "exist": written.is_some(),
                "name": name,
                "default": default,
                "type": kind,
                "control": control,
                "connection_related": false,
                "optional": !required.iter().any(|one| one == name),
                "values": null,
                "hint": both(property["description"].as_str().unwrap_or_default()),
                "label": both(name),
            })
        })
        .collect()
}

/// Type and control of a field, in the words of eKuiper's forms.
fn control(property: &Json) -> (&'static str, &'static str) {
    let kind = match &property["type"] {
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null").unwrap_or("string"),
        kind => kind.as_str().unwrap_or("string"),
    };
    match kind {
        "integer" => ("int", "text"),
        "number" => ("float", "text"),
        "boolean" => ("bool", "radio"),
        "array" => ("list_string", "list"),
        "object" => ("object", "list"),
        _ => ("string", "text"),
    }
}

/// All functions, by family.
pub(super) async fn functions(call: Call) -> Answer {
    let catalogue = call.server.host().functions();
    let mut families: BTreeMap<&str, Vec<Json>> = BTreeMap::new();
    let mut names: Vec<String> = catalogue.names().map(str::to_owned).collect();
    names.sort();
    for name in &names {
        let Some(func) = catalogue.find(name) else { continue };
        families.entry(func.family).or_default().push(json!({
            "name": name,
            "example": func.examples.first().map_or("", |(example, _)| example),
            "signature": func.signature,
            "hint": both(func.about),
        }));
    }
    let all: Vec<Json> = families
        .into_iter()
        .map(|(family, functions)| {
            let name = if family.is_empty() { "plugins" } else { family };
            json!({"name": name, "fds": functions})
        })
        .collect();
    Ok(object(&all))
}

/// One function.
pub(super) async fn function(call: Call) -> Answer {
    let (catalogue, name) = (call.server.host().functions(), call.param(0));
    let func = catalogue.find(name).ok_or_else(|| {
        let hint =
            nearest(name, catalogue.names()).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        Refusal::not_found(format!("there is no function `{name}`{hint}"))
    })?;
    let examples: Vec<Json> =
        func.examples.iter().map(|(call, result)| json!({"example": call, "result": result})).collect();
    Ok(object(&json!({
        "name": func.name,
        "signature": func.signature,
        "hint": both(func.about),
        "aggregate": func.is_aggregate(),
        "examples": examples,
        "plugin": call.server.host().plugins.plugin_of(name),
    })))
}

/// Tests whether the outside of a connector can be reached with the properties of the body.
pub(super) async fn reach(call: Call, part: Part) -> Answer {
    let (server, name) = (call.server.clone(), call.param(0).to_owned());
    let props = call.members().await?.0;
    server.host().reach(part, &name, props).await.map_err(Refusal::bad)?;
    Ok(empty())
}

/// All sections of a source's configuration.
pub(super) async fn source_yaml(call: Call) -> Answer {
    let name = call.param(0);
    let sections = call.server.host().source_sections(name);
    let sections = sections.map_err(|error| Refusal::new(code::CONFIG_KEY, error.to_string()))?;
    if sections.is_empty() {
        known_source(call.server.host(), name)?;
    }
    Ok(object(&sections))
}

fn conf_key(call: &Call) -> Result<(String, String), Refusal> {
    let key = call.param(1);
    check_id(key).map_err(|why| Refusal::bad(why).prefix("Invalid confKey"))?;
    Ok((call.id(0)?, key.to_owned()))
}

pub(super) async fn put_conf_key(call: Call) -> Answer {
    let (connector, key) = conf_key(&call)?;
    let server = call.server.clone();
    let host = server.host();
    known_source(host, &connector)?;
    let refuse = |text: String| Refusal::new(code::CONFIG_KEY, text);
    let conversion = |refusal: Refusal| refuse(format!("Type conversion failed:{connector}.{}", refusal.message()));
    let properties = call.members().await.map_err(conversion)?.0;
    let warnings = host.check_conf_key(&connector, &key, &properties).map_err(|found| refuse(found.to_string()))?;
    let failed = |fault: Fault| refuse(format!("Failed to write data to file:sources.{connector}.{fault}"));
    host.catalog.conf_keys().put("sources", &connector, &key, properties).map_err(failed)?;
    Ok(warned(empty(), &logged(warnings)))
}

/// Refuses a source that there is not, with the nearest name.
fn known_source(host: &Host, name: &str) -> Result<(), Refusal> {
    let names = host.connector_names(Kind::Sources);
    if names.iter().any(|(one, _)| one == name) {
        return Ok(());
    }
    let near = nearest(name, names.iter().map(|(one, _)| one.as_str()));
    let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    Err(Refusal::new(code::CONFIG_KEY, format!("This plugin was not found:sources.{name}{hint}")))
}

pub(super) async fn drop_conf_key(call: Call) -> Answer {
    let (connector, key) = conf_key(&call)?;
    let host = call.server.host();
    let refuse = |text: String| Refusal::new(code::CONFIG_KEY, text);
    if host.catalog.conf_keys().remove("sources", &connector, &key).map_err(|fault| refuse(fault.to_string()))? {
        return Ok(empty());
    }
    known_source(host, &connector)?;
    let in_file = host.source_sections(&connector).is_ok_and(|sections| sections.contains_key(&key));
    Err(refuse(match in_file {
        true => {
            format!("the configuration key `{key}` of `{connector}` stands in a file or variable; take it out there")
        }
        false => format!("`{connector}` has no configuration key `{key}`"),
    }))
}
