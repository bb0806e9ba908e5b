//! The table as the server describes it: its columns, and which of them name a row.

use mysql_async::prelude::Queryable;
use mysql_async::Conn;

/// What a value is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A whole number.
    Integer,
    /// DATETIME and TIMESTAMP.
    Instant,
    /// DATE.
    Date,
    /// JSON, where the server has such a type.
    Json,
    /// Anything else.
    Other,
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// As the table spells it.
    pub name: String,
    pub kind: Type,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name, and where it was given its database, in backticks.
    pub quoted: String,
    /// As the user wrote it.
    pub name: String,
    pub columns: Vec<Column>,
    /// Columns each of which alone is a primary or unique key.
    pub keys: Vec<String>,
}

impl Table {
    /// Asks the server; `None` where there is no such table, or this user may not see it.
    pub async fn read(connection: &mut Conn, name: &str) -> mysql_async::Result<Option<Table>> {
        let mut found = Table::named(connection, None, name).await?;
        if let (None, Some((database, table))) = (&found, name.split_once('.')) {
            found = Table::named(connection, Some(database), table).await?;
        }
        Ok(found.map(|table| Table { name: name.to_owned(), ..table }))
    }

    async fn named(connection: &mut Conn, database: Option<&str>, table: &str) -> mysql_async::Result<Option<Table>> {
        let columns: Vec<(String, String)> = connection
            .exec(
                "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
                (database, table),
            )
            .await?;
        if columns.is_empty() {
            return Ok(None);
        }
        let keys: Vec<String> = connection
            .exec(
                "SELECT MIN(COLUMN_NAME) FROM information_schema.STATISTICS \
                 WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND NON_UNIQUE = 0 \
                 GROUP BY INDEX_NAME HAVING COUNT(*) = 1",
                (database, table),
            )
            .await?;
        let quoted = match database {
            Some(database) => format!("{}.{}", quoted(database), quoted(table)),
            None => quoted(table),
        };
        let columns = columns.into_iter().map(|(name, kind)| Column { name, kind: Type::of(&kind) }).collect();
        Ok(Some(Table { quoted, name: table.to_owned(), columns, keys }))
    }

    /// The place of a column; upper and lower case are the same, as they are to the server.
    pub fn column(&self, name: &str) -> Option<usize> {
        let exact = self.columns.iter().position(|column| column.name == name);
        exact.or_else(|| self.columns.iter().position(|column| column.name.to_lowercase() == name.to_lowercase()))
    }

    /// The sentence about a column that is not there.
    pub fn unknown(&self, name: &str) -> String {
        let nearest = self.columns.iter().min_by_key(|column| distance(&column.name, name));
        let hint = match nearest {
            Some(column) if distance(&column.name, name) <= 1 + name.chars().count() / 4 => {
                format!("; did you mean `{}`?", column.name)
            }
            _ => String::new(),
        };
        format!("table `{}` has no column `{name}`{hint}", self.name)
    }
}

impl Type {
    fn of(data_type: &str) -> Type {
        match data_type.to_ascii_lowercase().as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => Type::Integer,
            "datetime" | "timestamp" => Type::Instant,
            "date" => Type::Date,
            "json" => Type::Json,
            _ => Type::Other,
        }
    }
}

/// An identifier in backticks: whatever it holds, it ends where it ends.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Letters to change, add or remove.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, letter) in one.to_lowercase().chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for j in 0..two.len() {
            let changed = corner + usize::from(letter != two[j]);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_cannot_end_a_name() {
        assert_eq!(quoted("a`; DROP TABLE t; --"), "`a``; DROP TABLE t; --`");
    }

    #[test]
    fn unknown_columns_are_told_with_the_nearest() {
        let column = |name: &str| Column { name: name.to_owned(), kind: Type::Other };
        let table = Table {
            quoted: "`t`".to_owned(),
            name: "t".to_owned(),
            columns: vec![column("id"), column("temperature")],
            keys: Vec::new(),
        };
        assert_eq!(table.unknown("temprature"), "table `t` has no column `temprature`; did you mean `temperature`?");
        assert_eq!(table.unknown("xyz"), "table `t` has no column `xyz`");
        assert_eq!(table.column("ID"), Some(0));
    }
}
