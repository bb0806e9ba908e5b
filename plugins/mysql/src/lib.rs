//! Sink, source and lookup `mysql`: rows into, and out of, tables of MySQL or MariaDB.
//!
//! Of the sink, which stands here: columns come from the row's keys and are checked against the table's own; values are bound, so that no
//! message can alter a statement. The rows of a window go into one transaction. Where `keyField` names a key, a row that is sent again
//! replaces itself.

mod address;
mod cell;
mod failure;
mod lookup;
mod moment;
mod query;
mod reader;
mod session;
mod source;
mod statement;
mod table;

use std::time::{Duration, Instant};

use kuiper_plugin::{Context, Error, Refused, Result, Row, Rows, Sink, Value};

use address::Address;
use session::{Outcome, Session};
use statement::{Verb, Write};
use table::Table;

pub use lookup::MysqlLookup;
pub use source::MysqlSource;

kuiper_plugin::properties! {
    /// Properties of the sink `mysql`.
    #[derive(Debug)]
    pub struct Options {
        /// The server and its database: `user:password@tcp(host:3306)/database`, `user:password@unix(/path)/database`, or
        /// `mysql://user:password@host:3306/database`.
        #[secret]
        url: String as "url" | "dburl",
        /// The table, which must be there.
        table: String,
        /// Columns to write, NULL where a row has none; all keys of a row where no column is named.
        fields: Vec<String> = Vec::new(),
        /// Column of the row that says what to do with it: `insert`, `update`, `delete` or `upsert`; `insert` where it has none.
        row_kind_field: Option<String> = None,
        /// Column that names a row. Needed by `rowKindField`; where it is a key of the table, rows sent again replace themselves.
        key_field: Option<String> = None,
    }
}

/// How often the table's columns are asked for again because of columns that it does not have.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The sink.
#[derive(Default)]
pub struct Mysql {
    fields: Vec<String>,
    row_kind_field: Option<String>,
    key_field: Option<String>,
    session: Option<Session>,
    looked: Option<Instant>,
    /// It has been connected before.
    ran: bool,
}

impl Sink for Mysql {
    type Config = Options;

    const ONE_AS_ROW: bool = true;

    fn provision(&mut self, _: &Context, options: Options) -> Result<()> {
        let address = Address::read(&options.url)?;
        if options.table.trim().is_empty() {
            return Err(Error::never("property `table` is empty"));
        }
        // Forms send empty texts for what is not filled in.
        let row_kind_field = options.row_kind_field.filter(|name| !name.is_empty());
        let key_field = options.key_field.filter(|name| !name.is_empty());
        if row_kind_field.is_some() && key_field.is_none() {
            return Err(Error::never("property `keyField` is missing: `rowKindField` needs it to find the row"));
        }
        self.fields = options.fields;
        self.row_kind_field = row_kind_field;
        self.key_field = key_field;
        self.session = Some(Session::new(address, options.table)?);
        Ok(())
    }

    fn connect(&mut self, context: &Context) -> Result<()> {
        let session = provisioned(&mut self.session)?;
        // What was right at the start is not the user's fault now: the rows wait until it is mended.
        let ran = self.ran;
        session.connect(context).map_err(|error| if ran { Error::later(error.to_string()) } else { error })?;
        let table = session.table()?;
        for name in self.fields.iter().chain(&self.key_field) {
            table.column(name).ok_or_else(|| Error::never(table.unknown(name)))?;
        }
        if let Some(key) = &self.key_field {
            if !table.keys.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                context.warn(format!(
                    "`{key}` is no primary or unique key of table `{}`: a row that is sent again is doubled",
                    table.name
                ));
            }
        }
        self.ran = true;
        Ok(())
    }

    fn collect(&mut self, context: &Context, row: Row<'_>) -> Result<()> {
        self.reach(context)?;
        let write = self.write_of(row)?;
        match provisioned(&mut self.session)?.write(context, &[write])? {
            Outcome::Written => Ok(()),
            Outcome::Refused(error) => Err(error),
        }
    }

    fn collect_all(&mut self, context: &Context, rows: Rows<'_>, done: &mut usize) -> Result<()> {
        self.reach(context)?;
        let (writes, wrong) = self.writes_until_wrong(rows)?;
        if writes.len() > 1 {
            if let Outcome::Written = provisioned(&mut self.session)?.write(context, &writes)? {
                *done = writes.len();
                return wrong.map_or(Ok(()), Err);
            }
        }
        // One of them is refused: find it, with those in front of it written.
        for write in &writes {
            match provisioned(&mut self.session)?.write(context, std::slice::from_ref(write))? {
                Outcome::Written => *done += 1,
                Outcome::Refused(error) => return Err(error),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    fn collect_list(&mut self, context: &Context, rows: Rows<'_>, refused: &Refused) -> Result<()> {
        self.reach(context)?;
        let mut numbers = Vec::with_capacity(rows.len());
        let mut writes = Vec::with_capacity(rows.len());
        for (number, row) in rows.iter().enumerate() {
            match self.write_of(row) {
                Ok(write) => {
                    numbers.push(number);
                    writes.push(write);
                }
                Err(error) if error.is_later() => return Err(error),
                Err(error) => refused.row(number, error.to_string()),
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        let session = provisioned(&mut self.session)?;
        if let Outcome::Refused(error) = session.write(context, &writes)? {
            if writes.len() == 1 {
                refused.row(numbers[0], error.to_string());
                return Ok(());
            }
            // Its answer may have cost the connection.
            session.connect(context)?;
            for (place, error) in session.write_each(context, &writes)? {
                refused.row(numbers[place], error.to_string());
            }
        }
        Ok(())
    }

    fn close(&mut self, _: &Context) -> Result<()> {
        if let Some(mut session) = self.session.take() {
            session.close();
        }
        Ok(())
    }
}

impl Mysql {
    /// Connects where that is needed.
    fn reach(&mut self, context: &Context) -> Result<()> {
        provisioned(&mut self.session)?.connect(context).map_err(|error| Error::later(error.to_string()))
    }

    /// The writes for these rows up to the first that cannot be one, and why it cannot.
    fn writes_until_wrong(&mut self, rows: Rows<'_>) -> Result<(Vec<Write>, Option<Error>)> {
        let mut writes = Vec::with_capacity(rows.len());
        for row in rows {
            match self.write_of(row) {
                Ok(write) => writes.push(write),
                Err(error) if error.is_later() && writes.is_empty() => return Err(error),
                Err(error) => return Ok((writes, Some(error))),
            }
        }
        Ok((writes, None))
    }

    /// What to write for a row. A column that is not known may have been added since: the table is asked, but not for each row.
    fn write_of(&mut self, row: Row<'_>) -> Result<Write> {
        let session = provisioned(&mut self.session)?;
        let shape = Shape {
            fields: &self.fields,
            row_kind_field: self.row_kind_field.as_deref(),
            key_field: self.key_field.as_deref(),
        };
        let wrong = match shape.write(session.table()?, row) {
            Ok(write) => return Ok(write),
            Err(wrong) => wrong,
        };
        if !wrong.of_the_table || self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Err(Error::never(wrong.text));
        }
        self.looked = Some(Instant::now());
        session.look_again()?;
        shape.write(session.table()?, row).map_err(|wrong| Error::never(wrong.text))
    }
}

fn provisioned(session: &mut Option<Session>) -> Result<&mut Session> {
    session.as_mut().ok_or_else(|| Error::bug("it was not provisioned"))
}

/// How a row becomes a write.
struct Shape<'a> {
    fields: &'a [String],
    row_kind_field: Option<&'a str>,
    key_field: Option<&'a str>,
}

/// Why a row is none.
struct Wrong {
    text: String,
    /// The table has no such column.
    of_the_table: bool,
}

impl From<String> for Wrong {
    fn from(text: String) -> Wrong {
        Wrong { text, of_the_table: false }
    }
}

impl Shape<'_> {
    fn write(&self, table: &Table, row: Row<'_>) -> std::result::Result<Write, Wrong> {
        let verb = self.verb(row)?;
        let mut cells = Vec::with_capacity(row.len());
        if self.fields.is_empty() {
            for (name, value) in row.iter().filter(|(name, _)| Some(*name) != self.row_kind_field) {
                let column = place(table, name)?;
                if cells.iter().any(|(known, _)| *known == column) {
                    return Err(format!(
                        "two keys of the row are column `{}` of table `{}`",
                        table.columns[column].name, table.name
                    )
                    .into());
                }
                cells.push((column, cell::bound(value, &table.columns[column])?));
            }
        } else {
            for name in self.fields {
                let column = place(table, name)?;
                cells.push((column, cell::bound(row.get(name).unwrap_or(Value::Null), &table.columns[column])?));
            }
        }
        let key = match self.key_field {
            Some(name) => {
                let column = place(table, name)?;
                let value = match cells.iter().find(|(known, _)| *known == column) {
                    Some((_, value)) => Some(value.clone()),
                    None => row.get(name).map(|value| cell::bound(value, &table.columns[column])).transpose()?,
                };
                if value.is_none() && verb != Verb::Insert {
                    return Err(format!("the row has no `{name}`, which `keyField` names").into());
                }
                value.map(|value| (column, value))
            }
            None => None,
        };
        if cells.is_empty() && verb == Verb::Insert {
            return Err(format!("the row has no column for table `{}`", table.name).into());
        }
        // Rows with the same columns in another order share a statement.
        cells.sort_by_key(|(column, _)| *column);
        // An upsert is by a key that the row writes.
        let upsert = |key: &(usize, _)| verb != Verb::Insert || cells.iter().any(|(column, _)| *column == key.0);
        let key = key.filter(upsert);
        Ok(Write { verb, cells, key })
    }

    fn verb(&self, row: Row<'_>) -> std::result::Result<Verb, Wrong> {
        let (field, kind) = match self.row_kind_field.and_then(|field| row.get(field).map(|kind| (field, kind))) {
            Some(given) => given,
            None => return Ok(Verb::Insert),
        };
        match kind {
            Value::Null | Value::Text("insert" | "upsert") => Ok(Verb::Insert),
            Value::Text("update") => Ok(Verb::Update),
            Value::Text("delete") => Ok(Verb::Delete),
            other => Err(format!("`{field}` must be `insert`, `update`, `delete` or `upsert`, found {other}").into()),
        }
    }
}

fn place(table: &Table, name: &str) -> std::result::Result<usize, Wrong> {
    table.column(name).ok_or_else(|| Wrong { text: table.unknown(name), of_the_table: true })
}

kuiper_plugin::export! {
    sink "Mysql" => constructor(Mysql::default) {
        about: "Writes rows into a table of MySQL or MariaDB.",
    },
    pull_source "Mysql" => constructor(MysqlSource::default) {
        about: "Reads new rows of a table of MySQL or MariaDB on each interval.",
    },
    lookup "Mysql" => constructor(MysqlLookup::default) {
        about: "Finds rows of a table of MySQL or MariaDB by the values of its columns.",
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuiper_plugin::testing::{json, Host};

    #[test]
    fn wrong_properties_are_named() {
        let host = Host::load(kuiper_plugin_v1);
        for (properties, text) in [
            ("{'table': 't'}", "property `url` (or `dburl`) is missing: it must be a text"),
            ("{'url': 'u@tcp(h)/d'}", "property `table` is missing: it must be a text"),
            (
                "{'url': 'u@tcp(h)/d', 'table': 't', 'rowKindField': 'k'}",
                "property `keyField` is missing: `rowKindField` needs it to find the row",
            ),
            (
                "{'url': 'u@tcp(h)/d', 'table': 't', 'feilds': []}",
                "property `feilds` is not known; did you mean `fields`?",
            ),
        ] {
            assert_eq!(host.sink("Mysql").unwrap().provision(json(properties)).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_server_that_is_away_is_worth_another_try() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = Host::load(kuiper_plugin_v1);
        let sink = host.sink("Mysql").unwrap();
        sink.provision(json(&format!("{{'url': 'u@tcp(127.0.0.1:{free})/d', 'table': 't'}}"))).unwrap();
        let error = sink.connect().unwrap_err();
        assert!(error.is_later(), "{error}");
        assert!(error.to_string().starts_with(&format!("127.0.0.1:{free}/d: ")), "{error}");
        assert_eq!(host.statuses().last().map(|status| status.0), Some(0));
    }
}
