//! The source `mysql`: on each interval the rows of a table, or of a statement, that have not been seen yet.

use kuiper_plugin::{Batch, Context, Emission, Emitter, Error, Owned, PullSource, Record, Result, Time};
use mysql_async::Value as Cell;

use crate::address::Address;
use crate::lookup::table;
use crate::query::{behind, written, Query};
use crate::reader::{record, Reader};

kuiper_plugin::properties! {
    /// Properties of the source `mysql`; `interval` is taken by the engine.
    #[derive(Debug)]
    pub struct SourceOptions {
        /// The server and its database, as the sink's.
        #[secret]
        url: String as "url" | "dburl",
        /// Rows of a table: `table`, `limit` (rows an interval), and tracking columns, in `indexFields` or side by side: `indexField`,
        /// `indexValue` (where to begin), `indexFieldType` (`DATETIME`), `dateTimeFormat`.
        internal_sql_query_cfg: Record = Record::new(),
        /// A statement of your own: `templateSql`, in which `{{.column}}` is the last value of a tracking column, and these as above.
        template_sql_query_cfg: Record = Record::new(),
    }
}

/// The source.
#[derive(Default)]
pub struct MysqlSource {
    query: Option<Query>,
    reader: Option<Reader>,
    /// Columns by which rows are ordered; known once it is connected.
    order: Vec<String>,
    /// Of these columns the values of the last row.
    position: Vec<(String, Owned)>,
}

impl PullSource for MysqlSource {
    type Config = SourceOptions;

    const REWINDS: bool = true;

    fn provision(&mut self, _: &Context, options: SourceOptions) -> Result<()> {
        let query = Query::read(&options.internal_sql_query_cfg, &options.template_sql_query_cfg)?;
        self.position = query.indexes().iter().map(|index| (index.field.clone(), index.value.clone())).collect();
        self.order = self.position.iter().map(|(name, _)| name.clone()).collect();
        self.query = Some(query);
        self.reader = Some(Reader::new(Address::read(&options.url)?)?);
        Ok(())
    }

    fn connect(&mut self, context: &Context) -> Result<()> {
        let reader = self.reader.as_mut().ok_or_else(unprovisioned)?;
        reader.connect(context)?;
        let Some(Query::Table { table: name, indexes, .. }) = &self.query else { return Ok(()) };
        if indexes.is_empty() {
            return Ok(());
        }
        let key = primary_key(reader, context, name)?;
        self.order = indexes.iter().map(|index| index.field.clone()).collect();
        if key.is_empty() {
            context.warn(format!(
                "table `{name}` has no primary key: of rows that share the value of `{}` those that come later are not seen",
                self.order.join("`, `")
            ));
        }
        for column in key {
            if !self.order.iter().any(|known| known.eq_ignore_ascii_case(&column)) {
                self.order.push(column);
            }
        }
        Ok(())
    }

    fn pull(&mut self, context: &Context, _: Time, out: &Emitter) -> Result<()> {
        let (text, values) = self.statement(context)?;
        let reader = self.reader.as_mut().ok_or_else(unprovisioned)?;
        let rows = reader.rows(context, &text, values)?;
        let mut batch = Batch::new();
        for row in &rows {
            batch.push(record(row, 0));
        }
        let Some(last) = rows.last().map(|row| record(row, 0)) else { return Ok(()) };
        if self.order.is_empty() {
            return out.rows(&batch);
        }
        let named = |name: &String| {
            let found = last.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let missing = || Error::never(format!("the rows have no column `{name}`, which is to be tracked"));
            found.map(|(_, value)| (name.clone(), value.clone())).ok_or_else(missing)
        };
        let position: Vec<(String, Owned)> = self.order.iter().map(named).collect::<Result<_>>()?;
        let told: Record = position.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        out.rows_with(&batch, &Emission::at(told))?;
        self.position = position;
        Ok(())
    }

    fn rewind(&mut self, _: &Context, position: Owned) -> Result<()> {
        let Owned::Object(record) = &position else {
            return Err(Error::never(format!("a position is an object of columns and values, found {position}")));
        };
        let place = |name: &String| {
            let found = record.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| (name.clone(), value.clone()))
        };
        // A user may name the first columns alone.
        self.position = self.order.iter().map_while(place).collect();
        match self.position.len() {
            0 => Err(Error::never(format!("the position names no `{}`: {position}", self.order.join("`, `")))),
            _ => Ok(()),
        }
    }

    fn close(&mut self, _: &Context) -> Result<()> {
        if let Some(reader) = self.reader.as_mut() {
            reader.close();
        }
        Ok(())
    }
}

impl MysqlSource {
    fn statement(&self, context: &Context) -> Result<(String, Vec<Cell>)> {
        match self.query.as_ref().ok_or_else(unprovisioned)? {
            Query::Table { table: name, limit, .. } => Ok(behind(&table(name)?, *limit, &self.order, &self.position)),
            Query::Template { text, indexes } => {
                let format = |name: &str| indexes.iter().find(|index| index.field == name)?.format.as_deref();
                let values = self.position.iter().map(|(name, value)| (name.as_str(), written(value, format(name))));
                let data = Owned::Object(values.collect());
                Ok((context.template(text, &data)?, Vec::new()))
            }
        }
    }
}

fn unprovisioned() -> Error {
    Error::bug("it was not provisioned")
}

/// Columns of the primary key, in order.
fn primary_key(reader: &mut Reader, context: &Context, name: &str) -> Result<Vec<String>> {
    let (database, table) = match name.split_once('.') {
        Some((database, table)) => (Cell::from(database), table),
        None => (Cell::NULL, name),
    };
    let statement =
        "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) \
                     AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX";
    let rows = reader.rows(context, statement, vec![database, Cell::from(table)])?;
    Ok(rows.iter().filter_map(|row| row.get(0)).collect())
}
