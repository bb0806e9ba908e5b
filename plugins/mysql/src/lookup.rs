//! The lookup `mysql`: rows of a table by the values of some of its columns.
//!
//! Questions that come together are one statement, a part of it for each question: so it is the server that compares, by the
//! collation and the index of each column, and each row says which question it answers. Values are bound.

use kuiper_plugin::{Answers, Batch, Context, Error, Lookup, Result, Rows};
use mysql_async::Value as Cell;

use crate::address::Address;
use crate::reader::{bound, record, Reader};
use crate::table::quoted;

kuiper_plugin::properties! {
    /// Properties of the lookup `mysql`.
    #[derive(Debug)]
    pub struct LookupOptions {
        /// The server and its database, as the sink's.
        #[secret]
        url: String as "url" | "dburl",
        /// The table.
        datasource: String,
    }
}

/// Questions of one statement: the server keeps few forms of it prepared.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// The lookup.
#[derive(Default)]
pub struct MysqlLookup {
    table: String,
    reader: Option<Reader>,
}

impl Lookup for MysqlLookup {
    type Config = LookupOptions;

    fn provision(&mut self, _: &Context, options: LookupOptions) -> Result<()> {
        self.table = table(&options.datasource)?;
        self.reader = Some(Reader::new(Address::read(&options.url)?)?);
        Ok(())
    }

    /// Reaches the server, and asks whether the table is there.
    fn connect(&mut self, context: &Context) -> Result<()> {
        let statement = format!("SELECT 1 FROM {} LIMIT 0", self.table);
        self.reader()?.rows(context, &statement, Vec::new()).map(drop)
    }

    fn find(&mut self, context: &Context, questions: Rows<'_>, fields: &[&str], answers: &Answers<'_>) -> Result<()> {
        let columns: Vec<&str> = match questions.iter().next() {
            Some(first) => first.iter().map(|(name, _)| name).collect(),
            None => return Ok(()),
        };
        let keys: Vec<Vec<Cell>> =
            questions.iter().map(|row| row.iter().map(|(_, value)| bound(&value.to_owned())).collect()).collect();
        let mut from = 0;
        while from < keys.len() {
            let size = SIZES.into_iter().find(|size| *size <= keys.len() - from).unwrap_or(1);
            let statement = statement(&self.table, &columns, fields, size);
            let values = keys[from..from + size].concat();
            let mut found: Vec<Batch> = (0..size).map(|_| Batch::new()).collect();
            for row in self.reader()?.rows(context, &statement, values)? {
                let number: usize = row.get(0).ok_or_else(|| Error::bug("the answer names no question"))?;
                let place = found.get_mut(number).ok_or_else(|| Error::bug("the answer is to no question"))?;
                place.push(record(&row, 1));
            }
            for (number, rows) in found.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
                answers.rows(from + number, rows);
            }
            from += size;
        }
        Ok(())
    }

    fn close(&mut self, _: &Context) -> Result<()> {
        if let Some(reader) = self.reader.as_mut() {
            reader.close();
        }
        Ok(())
    }
}

impl MysqlLookup {
    fn reader(&mut self) -> Result<&mut Reader> {
        self.reader.as_mut().ok_or_else(|| Error::bug("it was not provisioned"))
    }
}

/// The name of a table in backticks, and where it is given its database.
pub fn table(name: &str) -> Result<String> {
    match name.trim() {
        "" => Err(Error::never("property `datasource` is empty: it must be the name of a table")),
        name => Ok(name.split('.').map(quoted).collect::<Vec<_>>().join(".")),
    }
}

/// One statement for so many questions.
fn statement(table: &str, columns: &[&str], fields: &[&str], size: usize) -> String {
    let wanted = match fields {
        [] => "t.*".to_owned(),
        some => some.iter().map(|field| format!("t.{}", quoted(field))).collect::<Vec<_>>().join(", "),
    };
    let same: Vec<String> = columns.iter().map(|column| format!("t.{} = ?", quoted(column))).collect();
    let part = |number| format!("(SELECT {number} AS ` `, {wanted} FROM {table} t WHERE {})", same.join(" AND "));
    (0..size).map(part).collect::<Vec<_>>().join(" UNION ALL ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_a_part_of_the_statement() {
        assert_eq!(
            statement("`t`", &["a", "b`"], &["c"], 2),
            "(SELECT 0 AS ` `, t.`c` FROM `t` t WHERE t.`a` = ? AND t.`b``` = ?) UNION ALL \
             (SELECT 1 AS ` `, t.`c` FROM `t` t WHERE t.`a` = ? AND t.`b``` = ?)"
        );
        assert_eq!(table("d.t`").unwrap(), "`d`.`t```");
        assert!(table(" ").is_err());
    }
}
