//! What the source asks for on each interval: the rows behind the last one.
//!
//! Rows are ordered by the tracking columns and then by the primary key, and those behind the last row's are asked for, so that
//! a limit that falls among rows with the same value loses none of them.

use kuiper_plugin::{Error, Owned, Record, Result};
use mysql_async::Value as Cell;

use crate::moment;
use crate::reader::bound;
use crate::table::quoted;

/// A column that says which rows are new.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    pub field: String,
    /// Where to begin; everything where there is none.
    pub value: Owned,
    /// How a time is written in a template.
    pub format: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// Rows of a table.
    Table { table: String, limit: Option<u64>, indexes: Vec<Index> },
    /// What a template comes to.
    Template { text: String, indexes: Vec<Index> },
}

impl Query {
    /// Reads `internalSqlQueryCfg` and `templateSqlQueryCfg`; the second wins where both are given.
    pub fn read(internal: &Record, template: &Record) -> Result<Query> {
        if !template.is_empty() {
            let fields = Fields::new(TEMPLATE, template, &["templateSql"])?;
            return Ok(Query::Template { text: fields.statement()?, indexes: fields.indexes()? });
        }
        if internal.is_empty() {
            return Err(Error::never(
                "property `internalSqlQueryCfg` or `templateSqlQueryCfg` is needed: what is to be asked for",
            ));
        }
        let fields = Fields::new("internalSqlQueryCfg", internal, &["table", "limit"])?;
        let table = fields.text("table")?.filter(|table| !table.trim().is_empty());
        let table = table.ok_or_else(|| fields.wrong("`table` is missing: it must be the name of a table"))?;
        let limit = match fields.get("limit") {
            None | Some(Owned::Null | Owned::Int(0)) => None,
            Some(Owned::Int(limit)) if *limit > 0 => Some(*limit as u64),
            Some(other) => return Err(fields.wrong(&format!("`limit` must be a number of rows, found {other}"))),
        };
        Ok(Query::Table { table, limit, indexes: fields.indexes()? })
    }

    pub fn indexes(&self) -> &[Index] {
        match self {
            Query::Table { indexes, .. } | Query::Template { indexes, .. } => indexes,
        }
    }
}

/// The statement of a `templateSqlQueryCfg` without tracking columns; nothing where it was not given.
pub fn template(given: &Record) -> Result<Option<String>> {
    if given.is_empty() {
        return Ok(None);
    }
    let fields = Fields { property: TEMPLATE, record: given };
    fields.only(given, &["templateSql"])?;
    fields.statement().map(Some)
}

/// The statement for the rows behind a position, which names columns in the order in which they count.
pub fn behind(table: &str, limit: Option<u64>, order: &[String], position: &[(String, Owned)]) -> (String, Vec<Cell>) {
    let mut text = format!("SELECT * FROM {table}");
    let known: Vec<&(String, Owned)> = position.iter().filter(|(_, value)| *value != Owned::Null).collect();
    if !known.is_empty() {
        // A row of values compares from the left to the right, and uses an index where each column is compared by itself.
        let parts = (0..known.len()).map(|n| {
            let same = known[..n].iter().map(|(name, _)| format!("{} = ?", quoted(name)));
            let all: Vec<String> = same.chain([format!("{} > ?", quoted(&known[n].0))]).collect();
            format!("({})", all.join(" AND "))
        });
        text += &format!(" WHERE {}", parts.collect::<Vec<_>>().join(" OR "));
    }
    if !order.is_empty() {
        let order: Vec<String> = order.iter().map(|name| quoted(name)).collect();
        text += &format!(" ORDER BY {}", order.join(", "));
    }
    if let Some(limit) = limit {
        text += &format!(" LIMIT {limit}");
    }
    let values = (0..known.len()).flat_map(|n| known[..=n].iter().map(|(_, value)| bound(value))).collect();
    (text, values)
}

/// A value as a template writes it: it may stand between quotes, and cannot end them.
pub fn written(value: &Owned, format: Option<&str>) -> Owned {
    match value {
        Owned::Text(text) => {
            let mut safe = String::with_capacity(text.len());
            for letter in text.chars() {
                match letter {
                    '\'' | '"' | '\\' | '`' => safe.extend(['\\', letter]),
                    '\0' => safe.push_str("\\0"),
                    other => safe.push(other),
                }
            }
            Owned::Text(safe)
        }
        Owned::Time(time) => Owned::Text(moment::print(*time, format.unwrap_or(moment::FORMAT))),
        Owned::Bytes(bytes) => Owned::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        other => other.clone(),
    }
}

/// The property that holds a statement of the user's own.
const TEMPLATE: &str = "templateSqlQueryCfg";

/// Members of an object among the properties.
struct Fields<'r> {
    property: &'static str,
    record: &'r Record,
}

/// Where the tracking columns stand, as a list, or, for one, side by side with the rest.
const INDEXES: [&str; 5] = ["indexFields", "indexField", "indexValue", "indexFieldType", "dateTimeFormat"];

impl<'r> Fields<'r> {
    fn new(property: &'static str, record: &'r Record, known: &[&str]) -> Result<Fields<'r>> {
        let fields = Fields { property, record };
        fields.only(record, &[known, &INDEXES].concat())?;
        Ok(fields)
    }

    fn only(&self, record: &Record, known: &[&str]) -> Result<()> {
        match record.iter().find(|(name, _)| !known.iter().any(|one| one.eq_ignore_ascii_case(name))) {
            Some((name, _)) => Err(self.wrong(&format!("`{name}` is not known; known are `{}`", known.join("`, `")))),
            None => Ok(()),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::never(format!("property `{}`: {what}", self.property))
    }

    fn get(&self, name: &str) -> Option<&Owned> {
        get(self.record, name)
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        match self.get(name) {
            None | Some(Owned::Null) => Ok(None),
            Some(Owned::Text(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(&format!("`{name}` must be a text, found {other}"))),
        }
    }

    fn statement(&self) -> Result<String> {
        let text = self.text("templateSql")?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| self.wrong("`templateSql` is missing: it must be a text"))
    }

    fn indexes(&self) -> Result<Vec<Index>> {
        let listed = match self.get("indexFields") {
            None | Some(Owned::Null) => Vec::new(),
            Some(Owned::Array(all)) => all.clone(),
            Some(other) => return Err(self.wrong(&format!("`indexFields` must be a list, found {other}"))),
        };
        let mut indexes = Vec::new();
        for one in &listed {
            match one {
                Owned::Object(record) => {
                    self.only(record, &INDEXES[1..])?;
                    indexes.push(self.index(record)?);
                }
                other => {
                    return Err(self.wrong(&format!("an element of `indexFields` must be an object, found {other}")))
                }
            }
        }
        if self.get("indexField").is_some_and(|field| *field != Owned::Text(String::new())) {
            indexes.push(self.index(self.record)?);
        }
        Ok(indexes)
    }

    fn index(&self, record: &Record) -> Result<Index> {
        let text = |name: &str| match get(record, name) {
            None | Some(Owned::Null) => Ok(None),
            Some(Owned::Text(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(&format!("`{name}` must be a text, found {other}"))),
        };
        let field = text("indexField")?.ok_or_else(|| self.wrong("`indexField` is missing: it must name a column"))?;
        let kind = text("indexFieldType")?;
        let format = text("dateTimeFormat")?;
        let is_time = match kind.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None => false,
            Some("DATETIME") => true,
            Some(other) => {
                return Err(self.wrong(&format!("`indexFieldType` must be `DATETIME` or empty, found `{other}`")))
            }
        };
        let value = match get(record, "indexValue") {
            None => Owned::Null,
            Some(Owned::Text(text)) if text.is_empty() => Owned::Null,
            Some(Owned::Text(text)) if is_time => {
                let format = format.as_deref().unwrap_or(moment::FORMAT);
                let wrong = || self.wrong(&format!("`indexValue` must be written as `{format}`, found `{text}`"));
                Owned::Time(moment::read(text, format).ok_or_else(wrong)?)
            }
            Some(value @ (Owned::Array(_) | Owned::Object(_))) => {
                return Err(self.wrong(&format!("`indexValue` must be the value of a column, found {value}")))
            }
            Some(value) => value.clone(),
        };
        Ok(Index { field, value, format })
    }
}

fn get<'r>(record: &'r Record, name: &str) -> Option<&'r Owned> {
    record.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuiper_plugin::testing::json;

    fn read(internal: &str, template: &str) -> Result<Query> {
        let record = |text: &str| match json(text) {
            Owned::Object(record) => record,
            other => panic!("{other}"),
        };
        Query::read(&record(internal), &record(template))
    }

    #[test]
    fn both_forms_of_tracking_columns() {
        let flat = "{'table': 't', 'limit': 2, 'indexField': 'id', 'indexValue': 5, 'indexFieldType': '', 'dateTimeFormat': ''}";
        let listed = "{'table': 't', 'limit': 2, 'indexFields': [{'indexField': 'id', 'indexValue': 5}]}";
        assert_eq!(read(flat, "{}").unwrap(), read(listed, "{}").unwrap());
        let timed = "{'table': 't', 'indexField': 'at', 'indexValue': '01.02.2024', 'indexFieldType': 'DATETIME', 'dateTimeFormat': 'dd.MM.yyyy'}";
        let Query::Table { indexes, limit, .. } = read(timed, "{}").unwrap() else { panic!("a table") };
        assert_eq!((limit, indexes[0].value.to_string()), (None, "\"2024-02-01T00:00:00Z\"".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (internal, template, told) in [
            ("{}", "{}", "property `internalSqlQueryCfg` or `templateSqlQueryCfg` is needed"),
            ("{'limit': 1}", "{}", "property `internalSqlQueryCfg`: `table` is missing"),
            ("{'table': 't', 'limit': -1}", "{}", "`limit` must be a number of rows, found -1"),
            ("{'table': 't', 'index': 1}", "{}", "`index` is not known; known are `table`, `limit`, `indexFields`"),
            ("{'table': 't', 'indexFields': [{'indexValue': 1}]}", "{}", "`indexField` is missing"),
            ("{'table': 't', 'indexField': 'a', 'indexFieldType': 'INT'}", "{}", "`indexFieldType` must be `DATETIME`"),
            (
                "{'table': 't', 'indexField': 'a', 'indexValue': 'x', 'indexFieldType': 'DATETIME'}",
                "{}",
                "`indexValue` must be written as `YYYY-MM-dd HH:mm:ss`, found `x`",
            ),
            ("{}", "{'templateSql': ''}", "property `templateSqlQueryCfg`: `templateSql` is missing"),
        ] {
            let found = read(internal, template).unwrap_err().to_string();
            assert!(found.contains(told), "{found}");
        }
    }

    #[test]
    fn a_position_is_compared_from_the_left_to_the_right() {
        let order = ["a".to_owned(), "id".to_owned()];
        let position = [("a".to_owned(), Owned::Int(1)), ("id".to_owned(), Owned::Int(2))];
        let (text, values) = behind("`t`", Some(3), &order, &position);
        assert_eq!(text, "SELECT * FROM `t` WHERE (`a` > ?) OR (`a` = ? AND `id` > ?) ORDER BY `a`, `id` LIMIT 3");
        assert_eq!(values, [1, 1, 2].map(Cell::Int));
        assert_eq!(
            behind("`t`", None, &order[..1], &[("a".to_owned(), Owned::Null)]).0,
            "SELECT * FROM `t` ORDER BY `a`"
        );
    }

    #[test]
    fn what_a_template_writes_cannot_end_its_quotes() {
        assert_eq!(written(&Owned::Text("a'; DROP \\".into()), None), Owned::Text("a\\'; DROP \\\\".into()));
        assert_eq!(written(&Owned::Int(1), None), Owned::Int(1));
    }
}
