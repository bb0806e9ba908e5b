use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{Command, Refused};
use crate::codec;
use crate::data::Text;
use crate::diag::Diagnostic;
use crate::sql::{ColumnDef, Create, OptionDef, What};

/// How a table is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Its rows come like those of a stream and are kept.
    #[default]
    Scan,
    /// It is asked for each row that needs it.
    Lookup,
}

/// A stream or table.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub what: What,
    pub name: Text,
    /// As it was written.
    pub statement: String,
    /// Empty: schemaless.
    pub columns: Vec<ColumnDef>,
    pub options: Options,
}

/// The WITH clause. Text that was not written is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub datasource: String,
    pub key: String,
    /// Lower case. Empty: [`Definition::format`] says which.
    pub format: String,
    /// As it was written, for DESCRIBE.
    pub format_written: String,
    pub conf_key: String,
    /// Empty: [`Definition::connector`] says which.
    pub connector: String,
    pub strict_validation: bool,
    pub timestamp: String,
    pub timestamp_format: String,
    pub shared: bool,
    pub schema_id: String,
    /// Lower case.
    pub version: String,
    /// Further properties of the connector.
    pub extra: Map<String, Json>,
    /// `extra` as it was written.
    pub extra_text: String,
    pub temp: bool,
    /// Rows that a scan table keeps.
    pub retain_size: Option<usize>,
    /// `None`: not written, which is the same as scan.
    pub kind: Option<TableKind>,
    pub delimiter: String,
}

/// What is wrong with a definition beyond its grammar: its name, and values that its options cannot have.
pub fn check(create: &Create) -> Vec<Diagnostic> {
    Definition::new(create.clone(), "").err().unwrap_or_default()
}

impl Definition {
    /// Reads a `CREATE STREAM` or `CREATE TABLE`.
    pub fn parse(text: &str) -> Result<Definition, Refused> {
        match Command::parse(text)? {
            Command::Create(definition) => Ok(*definition),
            _ => {
                let found = Diagnostic::error("K0802", "expected CREATE STREAM or CREATE TABLE")
                    .help("write `CREATE STREAM name () WITH (…)`");
                Err(Refused::Text { findings: vec![found], text: text.to_owned() })
            }
        }
    }

    pub(super) fn new(create: Create, text: &str) -> Result<Definition, Vec<Diagnostic>> {
        let mut found = Vec::new();
        let options = Options::read(&create.options, &mut found);
        let definition = Definition {
            what: create.what,
            name: create.name.name.clone(),
            statement: text.to_owned(),
            columns: create.columns,
            options,
        };
        if !is_id(&definition.name) {
            let error = Diagnostic::error("K0803", format!("`{}` cannot be a name", definition.name));
            found.push(error.at(create.name.span).help("use letters, digits, `_` and `-`"));
        }
        if found.is_empty() { Ok(definition) } else { Err(found) }
    }

    /// The type of connector: `mqtt` for a stream and `file` for a table where none was written.
    pub fn connector(&self) -> &str {
        match (self.options.connector.as_str(), self.what) {
            ("", What::Stream) => "mqtt",
            ("", What::Table) => "file",
            (written, _) => written,
        }
    }

    /// The format of its messages, `json` where none was written.
    pub fn format(&self) -> &str {
        if self.options.format.is_empty() { "json" } else { &self.options.format }
    }

    /// Whether rows are asked for one by one.
    pub fn is_lookup(&self) -> bool {
        self.what == What::Table && self.options.kind == Some(TableKind::Lookup)
    }
}

/// Letters, digits, `_` and `-`, and at least one of them.
fn is_id(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl Options {
    fn read(written: &[OptionDef], found: &mut Vec<Diagnostic>) -> Options {
        let mut options = Options::default();
        for option in written {
            let text = option.value.to_string();
            let mut wrong = |expected: &str| {
                let error = format!("`{}` is `{text}`, expected {expected}", option.key);
                found.push(Diagnostic::error("K0805", error).at(option.value_span));
            };
            let truth = text == "TRUE";
            match option.key.as_str() {
                "DATASOURCE" => options.datasource = text,
                "KEY" => options.key = text,
                "FORMAT" => {
                    options.format = text.to_lowercase();
                    options.format_written = text;
                    if let Err(error) = codec::format(&options.format) {
                        found.push(error.at(option.value_span));
                    }
                }
                "CONF_KEY" => options.conf_key = text,
                "TYPE" => options.connector = text,
                "TIMESTAMP" => options.timestamp = text,
                "TIMESTAMP_FORMAT" => options.timestamp_format = text,
                "SCHEMAID" => options.schema_id = text,
                "VERSION" => options.version = text.to_lowercase(),
                "DELIMITER" => options.delimiter = text,
                "STRICT_VALIDATION" => options.strict_validation = truth,
                "SHARED" => options.shared = truth,
                "TEMP" => options.temp = truth,
                "EXTRA" => match serde_json::from_str(&text) {
                    Ok(Json::Object(extra)) => (options.extra, options.extra_text) = (extra, text),
                    _ => wrong("a JSON object with properties of the connector"),
                },
                "RETAIN_SIZE" => match text.parse() {
                    Ok(rows) => options.retain_size = Some(rows),
                    Err(_) => wrong("a number of rows"),
                },
                "KIND" => match text.to_lowercase().as_str() {
                    "scan" => options.kind = Some(TableKind::Scan),
                    "lookup" => options.kind = Some(TableKind::Lookup),
                    _ => wrong("`scan` or `lookup`"),
                },
                // The parser has refused all others, and values of the wrong type.
                _ => {}
            }
        }
        options
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        Definition::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn options_are_typed() {
        let text = r#"CREATE STREAM s () WITH (TYPE="memory", DATASOURCE="a/b", SHARED="TRUE", VERSION="V2",
            EXTRA="{\"qos\": 1}", RETAIN_SIZE="7", STRICT_VALIDATION=true)"#;
        let definition = Definition::parse(text).unwrap();
        let options = &definition.options;
        assert_eq!((definition.connector(), definition.format()), ("memory", "json"));
        assert_eq!((options.shared, options.strict_validation, options.temp), (true, true, false));
        assert_eq!((options.version.as_str(), options.retain_size), ("v2", Some(7)));
        assert_eq!(options.extra["qos"], 1);
        assert_eq!(definition.statement, text);
        let table = Definition::parse(r#"CREATE TABLE t () WITH (KIND="LOOKUP", TYPE="memory", KEY="id")"#).unwrap();
        assert!(table.is_lookup());
        assert_eq!(Definition::parse("CREATE TABLE t () WITH ()").unwrap().connector(), "file");
    }

    #[test]
    fn a_wrong_value_is_shown_at_its_place() {
        let text = errors(r#"CREATE STREAM s () WITH (RETAIN_SIZE="-1", EXTRA="[]", KIND="look")"#);
        assert!(text.contains("`RETAIN_SIZE` is `-1`, expected a number of rows"), "{text}");
        assert!(text.contains("`EXTRA` is `[]`, expected a JSON object"), "{text}");
        assert!(text.contains("`KIND` is `look`, expected `scan` or `lookup`"), "{text}");
        assert_eq!(text.matches("-->").count(), 3, "{text}");
        let text = errors(r#"CREATE STREAM s () WITH (FORMAT="jsn")"#);
        assert!(text.contains("there is no format `jsn`"), "{text}");
        assert!(errors(r#"CREATE STREAM `a b` () WITH ()"#).contains("`a b` cannot be a name"));
        assert!(errors("DROP STREAM s").contains("expected CREATE STREAM"));
    }
}
