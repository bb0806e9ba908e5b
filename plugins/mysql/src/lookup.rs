//! The lookup `mysql`: rows of a table by the values of some of its columns.
//!
//! Questions that come together are one statement, a part of it for each question: so it is the server that compares, by the
//! collation and the index of each column, and each row says which question it answers. Values are bound. A statement of the
//! user's own, a template, is made for each question; a value in it cannot end the quotes that it stands between.

use kuiper_plugin::{Answers, Batch, Context, Error, Lookup, Owned, Record, Result, Row, Rows};
use mysql_async::Value as Cell;

use crate::address::Address;
use crate::query::{template, written};
use crate::reader::{bound, record, Reader};
use crate::table::quoted;

kuiper_plugin::properties! {
    /// Properties of the lookup `mysql`.
    #[derive(Debug)]
    pub struct LookupOptions {
        /// The server and its database, as the sink's.
        #[secret]
        url: String as "url" | "dburl",
        /// The table; needed where there is no template.
        datasource: String = String::new(),
        /// A statement of your own: `templateSql`, in which `{{.column}}` is what the column is compared with.
        template_sql_query_cfg: Record = Record::new(),
    }
}

/// Questions of one statement: the server keeps few forms of it prepared.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// The lookup.
#[derive(Default)]
pub struct MysqlLookup {
    table: String,
    /// What is asked instead of the table.
    template: Option<String>,
    reader: Option<Reader>,
}

impl Lookup for MysqlLookup {
    type Config = LookupOptions;

    fn provision(&mut self, _: &Context, options: LookupOptions) -> Result<()> {
        self.template = template(&options.template_sql_query_cfg)?;
        self.table = match &self.template {
            Some(_) => String::new(),
            None => table(&options.datasource)?,
        };
        self.reader = Some(Reader::new(Address::read(&options.url)?)?);
        Ok(())
    }

    /// Reaches the server, and asks whether the table is there.
    fn connect(&mut self, context: &Context) -> Result<()> {
        if self.template.is_some() {
            return self.reader()?.connect(context);
        }
        let statement = format!("SELECT 1 FROM {} LIMIT 0", self.table);
        self.reader()?.rows(context, &statement, Vec::new()).map(drop)
    }

    fn find(&mut self, context: &Context, questions: Rows<'_>, fields: &[&str], answers: &Answers<'_>) -> Result<()> {
        if let Some(template) = self.template.clone() {
            return self.find_by(&template, context, questions, answers);
        }
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
    /// Asks by a template, once for each question. NULL is equal to nothing.
    fn find_by(&mut self, template: &str, context: &Context, questions: Rows<'_>, answers: &Answers<'_>) -> Result<()> {
        let is_null = |row: &Row<'_>| row.iter().any(|(_, value)| value.is_null());
        for (number, question) in questions.iter().enumerate().filter(|(_, question)| !is_null(question)) {
            let values: Record =
                question.iter().map(|(name, value)| (name, written(&value.to_owned(), None))).collect();
            let statement = context.template(template, &Owned::Object(values))?;
            let mut found = Batch::new();
            for row in self.reader()?.rows(context, &statement, Vec::new())? {
                found.push(record(&row, 0));
            }
            if !found.is_empty() {
                answers.rows(number, &found);
            }
        }
        Ok(())
    }

    fn reader(&mut self) -> Result<&mut Reader> {
        self.reader.as_mut().ok_or_else(|| Error::bug("it was not provisioned"))
    }
}

/// The name of a table in backticks, and where it is given its database.
pub fn table(name: &str) -> Result<String> {
    match name.trim() {
        "" => Err(Error::never(
            "property `datasource` is empty: it must be the name of a table, or `templateSqlQueryCfg` a statement",
        )),
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
