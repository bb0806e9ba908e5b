//! What the author of a stream is told though it can be created: options without an effect, a source that no rule could
//! read as it is. What is missing may come later, so none of it refuses the stream. And what the author of a rule is told
//! who asks for more than a source can give.

use serde_json::Value as Json;

use super::{Def, Host};
use crate::catalog::{Definition, Properties, TableKind, What, word};
use crate::diag::Diagnostic;
use crate::io::{Identity, SourcePlan, SourceSpec};
use crate::options::Action;
use crate::plugin::Kind;

pub(super) fn of_definition(host: &Host, definition: &Definition) -> Vec<Diagnostic> {
    let options = &definition.options;
    let schema = host.schema(Kind::Sources, definition.connector());
    let reads = |property: &str| {
        let known = schema["properties"].as_object();
        known.is_some_and(|known| known.keys().any(|name| name.eq_ignore_ascii_case(property)))
    };
    let stream = definition.what == What::Stream;
    let lookup = definition.is_lookup();
    let idle = [
        ("SCHEMAID", !options.schema_id.is_empty(), "no format here reads a schema"),
        ("KEY", stream && !options.key.is_empty() && !reads("key"), "only a table has a key"),
        ("RETAIN_SIZE", stream && options.retain_size.is_some() && !reads("retainSize"), "only a table retains rows"),
        ("RETAIN_SIZE", lookup && options.retain_size.is_some(), "a lookup table retains no rows"),
        ("KIND", stream && options.kind.is_some(), "only a table has a kind"),
        (
            "DELIMITER",
            !options.delimiter.is_empty() && definition.format() != "delimited" && !reads("delimiter"),
            "it belongs to FORMAT=\"delimited\"",
        ),
        ("STRICT_VALIDATION", options.strict_validation && definition.columns.is_empty(), "no columns are declared"),
        (
            "TIMESTAMP_FORMAT",
            !options.timestamp_format.is_empty() && options.timestamp.is_empty() && !options.strict_validation,
            "it belongs to TIMESTAMP and to STRICT_VALIDATION",
        ),
    ];
    let one = |(name, _, why): (&str, bool, &str)| {
        let text = format!("option `{name}` of {} `{}` has no effect: {why}", word(definition.what), definition.name);
        Diagnostic::warning("K0806", text).help("leave it out")
    };
    let mut found: Vec<Diagnostic> = idle.into_iter().filter(|(_, idle, _)| *idle).map(one).collect();
    if options.kind != Some(TableKind::Lookup) {
        found.extend(of_source(host, definition));
    }
    found
}

/// What a rule with `qos` above 0 cannot promise, since a source gives nothing again: `props` are those of the source.
pub(super) fn of_promise(
    def: &Def,
    stream: &Definition,
    source: &SourcePlan,
    props: &Properties,
) -> Option<Diagnostic> {
    if def.options.qos == 0 || (source.seeks && !stream.options.shared) {
        return None;
    }
    let qos = props.iter().find(|(name, _)| name.eq_ignore_ascii_case("qos")).and_then(|(_, qos)| qos.as_u64());
    let (why, help) = match stream.connector() {
        "mqtt" if qos.unwrap_or_default() == 0 => (
            "its subscription has QoS 0, at which a broker gives nothing again",
            "set `qos` of the source to 1, by a configuration key or `EXTRA=\"{\\\"qos\\\":1}\"`",
        ),
        "memory" if !source.seeks => (
            "memory keeps nothing for who is not there",
            "set `retention` of the source to the rows that it is to keep, by a configuration key or \
             `EXTRA=\"{\\\"retention\\\":100000}\"`",
        ),
        "simulator" => ("the simulator makes its rows up as it goes", "read a file to have each row once"),
        _ if source.seeks => (
            "a shared stream has one position for all its rules",
            "make a stream that is not shared for this rule, with the same source",
        ),
        _ => return None,
    };
    let what = word(stream.what);
    let text = format!(
        "`qos: {}` promises nothing for {what} `{}`: {why}, and what is on its way is lost at a crash",
        def.options.qos, stream.name
    );
    Some(Diagnostic::warning("K0916", text).help(help))
}

/// What `qos: 2` cannot promise at a sink that could take back what it wrote.
pub(super) fn of_sink(def: &Def, action: &Action) -> Option<Diagnostic> {
    let path = action.props.iter().find(|(name, _)| name.eq_ignore_ascii_case("path"))?.1.as_str()?;
    let found = def.options.qos == 2 && action.sink == "file" && path.contains("{{");
    let text = format!("`qos: 2` gives messages at least once, not exactly once, to the files of `{path}`");
    let help = "a `file` sink whose `path` is no template has each message once";
    found.then(|| Diagnostic::warning("K0916", text).help(help))
}

/// The source of a stream of which no rule is known.
fn planned(host: &Host, definition: &Definition, props: Properties) -> Result<SourcePlan, Diagnostic> {
    let (stream, env) = (definition.name.to_string(), host.env(&definition.name));
    host.source(definition.connector(), SourceSpec { props, wants_meta: false, wants_acks: false, stream, env })
}

/// Another stream or table that appears at the other side as this one does.
fn namesake(host: &Host, definition: &Definition, identity: &Identity) -> Option<Diagnostic> {
    let all = [What::Stream, What::Table].into_iter().flat_map(|what| host.catalog.all(what));
    let others = all.filter(|other| other.name != definition.name && other.connector() == definition.connector());
    let is_it = |other: &Definition| {
        let source = host.source_props(other).and_then(|(props, _)| planned(host, other, props));
        source.is_ok_and(|source| source.identity.is_some_and(|theirs| theirs.key == identity.key))
    };
    let other = others.filter(|other| !other.is_lookup()).find(|other| is_it(other))?;
    let text = format!(
        "{} `{}` has the {}, and so has {} `{}`: rules that read them at the same time take the connection from one \
         another",
        word(definition.what),
        definition.name,
        identity.name,
        word(other.what),
        other.name
    );
    Some(Diagnostic::warning("K0918", text).help(format!("give each its own `{}`", identity.property)))
}

/// Plans the source as a rule would.
fn of_source(host: &Host, definition: &Definition) -> Vec<Diagnostic> {
    let planned = host.source_props(definition).and_then(|(props, mut warnings)| {
        let rows = props.get("format").cloned().unwrap_or(Json::Null);
        let source = planned(host, definition, props)?;
        warnings.extend(source.warnings);
        warnings.extend(source.identity.and_then(|identity| namesake(host, definition, &identity)));
        if source.gives_rows && rows != "json" {
            let text = format!(
                "option `FORMAT` of {} `{}` has no effect: its source gives rows that need no decoding",
                word(definition.what),
                definition.name
            );
            warnings.push(Diagnostic::warning("K0806", text).help("leave it out"));
        }
        Ok(warnings)
    });
    planned.unwrap_or_else(|error| {
        let text =
            format!("no rule can read {} `{}` as it is: {}", word(definition.what), definition.name, error.message);
        vec![Diagnostic { help: error.help, ..Diagnostic::warning("K0807", text) }]
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::host::tests::host;
    use super::*;

    fn told(statement: &str) -> Vec<String> {
        let (_home, host) = host();
        of_definition(&host, &Definition::parse(statement).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_without_an_effect_are_named() {
        for (options, name) in [
            (r#"SCHEMAID="a.B""#, "SCHEMAID"),
            (r#"KEY="id""#, "KEY"),
            (r#"RETAIN_SIZE="3""#, "RETAIN_SIZE"),
            (r#"KIND="scan""#, "KIND"),
            (r#"DELIMITER=";""#, "DELIMITER"),
            (r#"STRICT_VALIDATION="true""#, "STRICT_VALIDATION"),
            (r#"TIMESTAMP_FORMAT="YYYY""#, "TIMESTAMP_FORMAT"),
        ] {
            let found = told(&format!(r#"CREATE STREAM s () WITH (TYPE="memory", DATASOURCE="a", {options})"#));
            assert_eq!(found.len(), 1, "{options}: {found:?}");
            assert!(found[0].starts_with(&format!("option `{name}` of stream `s` has no effect: ")), "{found:?}");
        }
        let rows = told(r#"CREATE STREAM s () WITH (TYPE="memory", DATASOURCE="a", FORMAT="delimited")"#);
        assert!(rows[0].starts_with("option `FORMAT` of stream `s` has no effect: "), "{rows:?}");
        let lookup =
            told(r#"CREATE TABLE t () WITH (TYPE="memory", DATASOURCE="a", KIND="lookup", KEY="k", RETAIN_SIZE="3")"#);
        assert_eq!(
            lookup,
            ["option `RETAIN_SIZE` of table `t` has no effect: a lookup table retains no rows (leave it out)"]
        );
    }

    #[test]
    fn a_stream_that_a_broker_would_take_for_another_is_named() {
        let (_home, host) = host();
        let make = |name: &str, extra: &str| {
            let text = format!(r#"CREATE STREAM {name} () WITH (DATASOURCE="{name}", EXTRA="{extra}")"#);
            let definition = Definition::parse(&text).unwrap();
            let told = of_definition(&host, &definition).iter().map(ToString::to_string).collect::<Vec<_>>();
            host.run(crate::catalog::Command::Create(Box::new(definition))).unwrap();
            told
        };
        let extra = |server: &str, id: &str| format!(r#"{{\"server\":\"{server}\",\"clientid\":\"{id}\"}}"#);
        assert!(make("a", &extra("tcp://localhost:1883", "x")).is_empty());
        assert!(make("b", &extra("tcp://127.0.0.1:1884", "x")).is_empty());
        assert!(make("c", &extra("tcp://127.0.0.1:1883", "y")).is_empty());
        assert!(make("d", "{}").is_empty() && make("e", "{}").is_empty());
        assert_eq!(
            make("f", &extra("tcp://127.0.0.1", "x")),
            [
                "stream `f` has the client id `x` at `tcp://127.0.0.1:1883`, and so has stream `a`: rules that read them at \
              the same time take the connection from one another (give each its own `clientid`)"
            ]
        );
    }

    #[test]
    fn what_has_an_effect_is_not_named() {
        for statement in [
            r#"CREATE STREAM s () WITH (DATASOURCE="a")"#,
            r#"CREATE STREAM s () WITH (DATASOURCE="a", FORMAT="delimited", DELIMITER=";")"#,
            r#"CREATE STREAM s () WITH (TYPE="file", DATASOURCE="a.csv", DELIMITER=";", EXTRA="{\"fileType\":\"csv\"}")"#,
            r#"CREATE STREAM s (t DATETIME) WITH (DATASOURCE="a", STRICT_VALIDATION="true", TIMESTAMP_FORMAT="YYYY")"#,
            r#"CREATE STREAM s (t BIGINT) WITH (DATASOURCE="a", TIMESTAMP="t", TIMESTAMP_FORMAT="YYYY")"#,
            r#"CREATE TABLE t () WITH (DATASOURCE="a.json", RETAIN_SIZE="3", KIND="scan")"#,
        ] {
            assert_eq!(told(statement), Vec::<String>::new(), "{statement}");
        }
    }

    #[test]
    fn a_rule_is_told_what_its_source_cannot_promise() {
        let (_home, host) = host();
        let told = |qos: u8, with: &str| {
            let stream = Definition::parse(&format!("CREATE STREAM s () WITH ({with})")).unwrap();
            let rule =
                format!(r#"{{"id":"r","sql":"SELECT * FROM s","actions":[{{"nop":{{}}}}],"options":{{"qos":{qos}}}}}"#);
            let (def, _) = Def::parse(&rule, None, &serde_json::Map::new()).unwrap();
            let (props, _) = host.source_props(&stream).unwrap();
            let (name, env) = (stream.name.to_string(), host.env("r"));
            let spec = SourceSpec { props: props.clone(), wants_meta: false, wants_acks: true, stream: name, env };
            let source = host.source(stream.connector(), spec).unwrap();
            of_promise(&def, &stream, &source, &props).map(|found| found.to_string())
        };
        let mqtt = |qos: u8| format!(r#"DATASOURCE="a", EXTRA="{{\"qos\":{qos}}}""#);
        let found = told(1, &mqtt(0)).unwrap();
        assert!(found.starts_with("`qos: 1` promises nothing for stream `s`: its subscription has QoS 0"), "{found}");
        assert!(found.contains("set `qos` of the source to 1"), "{found}");
        let found = told(2, r#"TYPE="memory", DATASOURCE="a""#).unwrap();
        assert!(found.contains("memory keeps nothing") && found.contains("set `retention` of the source"), "{found}");
        let retains = r#"TYPE="memory", DATASOURCE="a", EXTRA="{\"retention\":10}""#.to_owned();
        assert!(told(2, &format!("{retains}, SHARED=\"true\"")).unwrap().contains("a shared stream"));
        assert!(told(1, r#"TYPE="simulator", DATASOURCE="a""#).unwrap().contains("the simulator makes"));
        assert!(told(1, r#"TYPE="file", DATASOURCE="a", SHARED="true""#).unwrap().contains("a shared stream"));
        for (qos, with) in [
            (0, mqtt(0)),
            (1, mqtt(1)),
            (2, mqtt(2)),
            (2, r#"TYPE="file", DATASOURCE="a""#.to_owned()),
            (2, retains),
            (0, r#"TYPE="memory", DATASOURCE="a""#.to_owned()),
        ] {
            assert_eq!(told(qos, &with), None, "{with}");
        }
    }

    #[test]
    fn a_rule_is_told_what_its_files_cannot_promise() {
        let told = |qos: u8, path: &str| {
            let rule = format!(
                r#"{{"id":"r","sql":"SELECT 1","actions":[{{"file":{{"path":"{path}"}}}}],"options":{{"qos":{qos}}}}}"#
            );
            let (def, _) = Def::parse(&rule, None, &serde_json::Map::new()).unwrap();
            of_sink(&def, &def.actions[0]).is_some()
        };
        assert!(told(2, "{{.a}}.txt"));
        assert!(!told(1, "{{.a}}.txt") && !told(2, "a.txt"));
    }

    #[test]
    fn a_source_that_no_rule_could_read_is_named() {
        assert_eq!(
            told(r#"CREATE STREAM s () WITH (DATASOURCE="a", TYPE="mqqt")"#),
            ["no rule can read stream `s` as it is: there is no source of type `mqqt` (did you mean `mqtt`?)"]
        );
        let found = told(r#"CREATE STREAM s () WITH (DATASOURCE="a", EXTRA="{\"qso\": 1}")"#);
        assert!(found[0].contains("`qso`") && found[0].ends_with("(did you mean `qos`?)"), "{found:?}");
        let found = told(r#"CREATE STREAM s () WITH (DATASOURCE="a", EXTRA="{\"format\": \"binary\"}")"#);
        assert_eq!(found, ["property `format` of stream `s` has no effect (write FORMAT into its WITH clause)"]);
    }
}
