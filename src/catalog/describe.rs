use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::{Definition, TableKind};
use crate::data::Kind;
use crate::sql::{ColumnDef, Literal, What};

impl Definition {
    /// The description that REST gives.
    pub fn to_json(&self) -> Json {
        let fields: Json = match self.columns.as_slice() {
            [] => Json::Null,
            columns => columns.iter().map(|column| field(column, true)).collect(),
        };
        let options: Map<String, Json> = self.options().map(|(_, name, value)| (name.to_owned(), value)).collect();
        json!({
            "Name": self.name.as_str(),
            "StreamFields": fields,
            "Options": options,
            "StreamType": if self.what == What::Stream { 0 } else { 1 },
            "Statement": null,
        })
    }

    /// The description that the DESCRIBE statement gives.
    pub fn describe(&self) -> String {
        let mut text = format!("Fields\n{}\n", "-".repeat(80));
        for column in &self.columns {
            let _ = write!(text, "{}\t{}", column.name.name, type_text(&column.kind));
            if let Some(default) = &column.default {
                let _ = write!(text, "\tDEFAULT\t{}", literal(default));
            }
            text.push('\n');
        }
        text.push('\n');
        const ORDER: [&str; 13] = [
            "CONF_KEY",
            "DATASOURCE",
            "FORMAT",
            "SCHEMAID",
            "KEY",
            "RETAIN_SIZE",
            "SHARED",
            "STRICT_VALIDATION",
            "TIMESTAMP",
            "TIMESTAMP_FORMAT",
            "TYPE",
            "EXTRA",
            "VERSION",
        ];
        for name in ORDER {
            if let Some((_, _, value)) = self.options().find(|(key, _, _)| *key == name) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        text
    }

    /// The columns as `…/schema` gives them, or null for a schemaless stream.
    pub fn schema(&self) -> Json {
        match self.columns.as_slice() {
            [] => Json::Null,
            columns => properties(columns.iter().map(|column| (column.name.name.as_str(), &column.kind))),
        }
    }

    /// The options that were written: keyword, name in JSON, value.
    fn options(&self) -> impl Iterator<Item = (&'static str, &'static str, Json)> {
        let o = &self.options;
        let text = |text: &str| (!text.is_empty()).then(|| Json::from(text));
        let truth = |yes: bool| yes.then_some(Json::Bool(true));
        let kind = o.kind.map(|kind| Json::from(if kind == TableKind::Lookup { "lookup" } else { "scan" }));
        [
            ("DATASOURCE", "datasource", text(&o.datasource)),
            ("KEY", "key", text(&o.key)),
            ("FORMAT", "format", text(&o.format_written)),
            ("CONF_KEY", "confKey", text(&o.conf_key)),
            ("TYPE", "type", text(&o.connector)),
            ("STRICT_VALIDATION", "strictValidation", truth(o.strict_validation)),
            ("TIMESTAMP", "timestamp", text(&o.timestamp)),
            ("TIMESTAMP_FORMAT", "timestampFormat", text(&o.timestamp_format)),
            ("SHARED", "shared", truth(o.shared)),
            ("SCHEMAID", "schemaid", text(&o.schema_id)),
            ("VERSION", "version", text(&o.version)),
            ("EXTRA", "extra", text(&o.extra_text)),
            ("TEMP", "temp", truth(o.temp)),
            ("RETAIN_SIZE", "retainSize", o.retain_size.filter(|rows| *rows > 0).map(Json::from)),
            ("KIND", "kind", kind),
            ("DELIMITER", "delimiter", text(&o.delimiter)),
        ]
        .into_iter()
        .filter_map(|(key, name, value)| Some((key, name, value?)))
    }
}

fn field(column: &ColumnDef, with_default: bool) -> Json {
    let mut field = json!({"FieldType": field_type(&column.kind), "Name": column.name.name.as_str()});
    if let (Some(default), true) = (&column.default, with_default) {
        field["DefaultClause"] = literal(default).into();
    }
    field
}

fn field_type(kind: &Kind) -> Json {
    match kind {
        Kind::Array(of) => json!({"Type": "array", "ElementType": field_type(of)}),
        Kind::Struct(members) => {
            let fields: Json = members
                .iter()
                .map(|(name, kind)| json!({"FieldType": field_type(kind), "Name": name.as_str()}))
                .collect();
            json!({"Type": "struct", "Fields": fields})
        }
        basic => basic.name().into(),
    }
}

fn type_text(kind: &Kind) -> String {
    match kind {
        Kind::Array(of) => format!("array({})", type_text(of)),
        Kind::Struct(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, kind)| format!("{name} {}", type_text(kind))).collect();
            format!("struct({})", members.join(", "))
        }
        basic => basic.name().to_owned(),
    }
}

fn properties<'a>(columns: impl Iterator<Item = (&'a str, &'a Kind)>) -> Json {
    let mut sorted: Vec<(&str, &Kind)> = columns.collect();
    sorted.sort_by_key(|(name, _)| *name);
    sorted.into_iter().map(|(name, kind)| (name.to_owned(), column_schema(kind))).collect::<Map<_, _>>().into()
}

fn column_schema(kind: &Kind) -> Json {
    let mut schema = json!({"type": kind.name()});
    match kind {
        Kind::Array(of) => schema["items"] = column_schema(of),
        Kind::Struct(members) => {
            schema["properties"] = properties(members.iter().map(|(name, kind)| (name.as_str(), kind)));
        }
        _ => {}
    }
    schema["index"] = 0.into();
    schema
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::Int(n) => n.to_string(),
        Literal::Float(x) => x.to_string(),
        Literal::Text(text) => text.to_string(),
        Literal::Bool(yes) => yes.to_string(),
        Literal::Null => "null".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_descriptions_have_the_known_shape() {
        let text = r#"CREATE STREAM demo (id BIGINT DEFAULT "10", a ARRAY(STRING), s STRUCT(b STRING, c ARRAY(FLOAT)))
            WITH (DATASOURCE="topic1", FORMAT="JSON", CONF_KEY="c1", TYPE="mqtt", SHARED="true")"#;
        let demo = Definition::parse(&text.replace("\"10\"", "10")).unwrap();
        assert_eq!(
            demo.to_json().to_string(),
            concat!(
                r#"{"Name":"demo","StreamFields":[{"FieldType":"bigint","Name":"id","DefaultClause":"10"},"#,
                r#"{"FieldType":{"Type":"array","ElementType":"string"},"Name":"a"},"#,
                r#"{"FieldType":{"Type":"struct","Fields":[{"FieldType":"string","Name":"b"},"#,
                r#"{"FieldType":{"Type":"array","ElementType":"float"},"Name":"c"}]},"Name":"s"}],"#,
                r#""Options":{"datasource":"topic1","format":"JSON","confKey":"c1","type":"mqtt","shared":true},"#,
                r#""StreamType":0,"Statement":null}"#
            )
        );
        assert_eq!(
            demo.describe(),
            format!(
                "Fields\n{}\nid\tbigint\tDEFAULT\t10\na\tarray(string)\ns\tstruct(b string, c array(float))\n\n\
                 CONF_KEY: c1\nDATASOURCE: topic1\nFORMAT: JSON\nSHARED: true\nTYPE: mqtt\n",
                "-".repeat(80)
            )
        );
        assert_eq!(
            demo.schema().to_string(),
            concat!(
                r#"{"a":{"type":"array","items":{"type":"string","index":0},"index":0},"#,
                r#""id":{"type":"bigint","index":0},"s":{"type":"struct","properties":{"b":{"type":"string","index":0},"#,
                r#""c":{"type":"array","items":{"type":"float","index":0},"index":0}},"index":0}}"#
            )
        );
        let bare = Definition::parse("CREATE TABLE t () WITH ()").unwrap();
        assert_eq!(
            bare.to_json().to_string(),
            r#"{"Name":"t","StreamFields":null,"Options":{},"StreamType":1,"Statement":null}"#
        );
        assert_eq!(bare.schema(), Json::Null);
    }
}
