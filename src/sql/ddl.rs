//! All statements but SELECT, and which statement a text is.

use super::ast::{ColumnDef, Create, Ident, Literal, OptionDef, Statement, What};
use super::parser::{Parsed, Parser};
use super::token::{Key, Tok};
use crate::data::{Kind, Text};
use crate::diag::{Diagnostic, nearest};

/// All options of WITH.
const OPTIONS: [&str; 16] = [
    "DATASOURCE",
    "TYPE",
    "FORMAT",
    "SCHEMAID",
    "DELIMITER",
    "KEY",
    "CONF_KEY",
    "EXTRA",
    "SHARED",
    "STRICT_VALIDATION",
    "TIMESTAMP",
    "TIMESTAMP_FORMAT",
    "RETAIN_SIZE",
    "KIND",
    "VERSION",
    "TEMP",
];

const STATEMENTS: [&str; 6] = ["SELECT", "CREATE", "SHOW", "DESCRIBE", "EXPLAIN", "DROP"];
const TYPES: [&str; 8] = ["BIGINT", "FLOAT", "STRING", "BOOLEAN", "DATETIME", "BYTEA", "ARRAY", "STRUCT"];

impl Parser<'_> {
    pub fn statement(&mut self) -> Parsed<Statement> {
        if *self.peek() == Tok::Key(Key::Select) {
            return Ok(Statement::Select(Box::new(self.select()?)));
        }
        if self.at_word("create") {
            return Ok(Statement::Create(Box::new(self.create()?)));
        }
        if self.eat_word("show") {
            let what = self.what("STREAMS", "TABLES", "SHOW")?;
            self.finish("of the statement")?;
            return Ok(Statement::Show(what));
        }
        // As in eKuiper, what follows the name in these is not looked at.
        for (word, make) in [
            ("DESCRIBE", Statement::Describe as fn(What, Ident) -> Statement),
            ("EXPLAIN", Statement::Explain),
            ("DROP", Statement::Drop),
        ] {
            if self.eat_word(word) {
                let what = self.what("STREAM", "TABLE", word)?;
                return Ok(make(what, self.ident("a name")?));
            }
        }
        let found = Diagnostic::error("K0109", format!("expected a statement, found {}", self.found())).at(self.span());
        let word = match self.peek() {
            Tok::Word(word) => word.clone(),
            _ => Text::default(),
        };
        let found = match nearest(&word, STATEMENTS) {
            Some(near) if !word.is_empty() => found.help(format!("did you mean `{near}`?")),
            _ => found.help(format!("a statement starts with one of {}", STATEMENTS.join(", "))),
        };
        Err(self.stop(found))
    }

    fn what(&mut self, stream: &str, table: &str, after: &str) -> Parsed<What> {
        if self.eat_word(stream) {
            return Ok(What::Stream);
        }
        if self.eat_word(table) {
            return Ok(What::Table);
        }
        Err(self.unexpected(&format!("`{stream}` or `{table}` after `{after}`")))
    }

    fn create(&mut self) -> Parsed<Create> {
        let start = self.span();
        self.advance();
        let what = self.what("STREAM", "TABLE", "CREATE")?;
        let name = self.ident("a name")?;
        self.expect(&Tok::LParen, "after the name; columns stand in parentheses, which are empty if there are none")?;
        let columns = self.columns(true)?;
        if !self.eat_word("with") {
            return Err(self.unexpected("`WITH` after the columns"));
        }
        self.expect(&Tok::LParen, "after `WITH`")?;
        let options = self.options()?;
        let create = Create { what, name, columns, options, span: self.since(start) };
        self.check_create(&create);
        self.finish("of the statement")?;
        Ok(create)
    }

    /// Columns up to the closing parenthesis; a comma behind the last is allowed.
    fn columns(&mut self, defaults: bool) -> Parsed<Vec<ColumnDef>> {
        let mut columns = vec![];
        while !self.eat(&Tok::RParen) {
            let name = self.ident("a column, or `)`")?;
            let kind = self.nested(Parser::kind)?;
            let place = self.span();
            let mut default = None;
            if self.eat_key(Key::Default) {
                if !defaults {
                    let found = Diagnostic::error("K0122", "a member of a STRUCT cannot have a DEFAULT").at(place);
                    self.report(found.help("give the column a DEFAULT, or use `coalesce` where the member is read"));
                }
                default = Some(self.default(&kind)?);
            }
            columns.push(ColumnDef { name, kind, default });
            if *self.peek() != Tok::RParen && !self.eat(&Tok::Comma) {
                return Err(self.unexpected("`,` or `)` after a column"));
            }
        }
        Ok(columns)
    }

    fn kind(&mut self) -> Parsed<Kind> {
        let span = self.span();
        let word = match self.peek() {
            Tok::Word(word) => word.to_uppercase(),
            _ => return Err(self.unexpected("a type")),
        };
        self.advance();
        Ok(match word.as_str() {
            "BIGINT" => Kind::Bigint,
            "FLOAT" => Kind::Float,
            "STRING" => Kind::String,
            "BOOLEAN" => Kind::Boolean,
            "DATETIME" => Kind::Datetime,
            "BYTEA" => Kind::Bytea,
            "ARRAY" => {
                self.expect(&Tok::LParen, "after `ARRAY`, then the type of its elements")?;
                let of = self.nested(Parser::kind)?;
                self.expect(&Tok::RParen, "after the type of the elements")?;
                Kind::Array(Box::new(of))
            }
            "STRUCT" => {
                self.expect(&Tok::LParen, "after `STRUCT`, then its members")?;
                if *self.peek() == Tok::RParen {
                    return Err(self.unexpected("a member of the STRUCT"));
                }
                let members = self.columns(false)?;
                Kind::Struct(members.into_iter().map(|member| (member.name.name, member.kind)).collect())
            }
            _ => {
                let found = Diagnostic::error("K0121", format!("there is no type `{}`", self.slice(span))).at(span);
                let alias = match word.as_str() {
                    "INT" | "INTEGER" | "LONG" | "SMALLINT" => Some("BIGINT"),
                    "DOUBLE" | "REAL" | "NUMERIC" | "DECIMAL" | "NUMBER" => Some("FLOAT"),
                    "TEXT" | "VARCHAR" | "CHAR" => Some("STRING"),
                    "TIMESTAMP" | "DATE" | "TIME" => Some("DATETIME"),
                    "BYTES" | "BLOB" | "BINARY" => Some("BYTEA"),
                    "OBJECT" | "MAP" | "JSON" | "RECORD" => Some("STRUCT"),
                    other => nearest(other, TYPES),
                };
                let found = match alias {
                    Some(near) => found.help(format!("did you mean `{near}`?")),
                    None => found.help(format!("the types are {}", TYPES.join(", "))),
                };
                self.report(found);
                if *self.peek() == Tok::LParen {
                    self.advance();
                    self.recover(|tok| *tok == Tok::RParen);
                    self.advance();
                }
                Kind::String
            }
        })
    }

    /// The literal behind DEFAULT, as the type wants it.
    fn default(&mut self, kind: &Kind) -> Parsed<Literal> {
        let span = self.span();
        let negative = self.eat(&Tok::Minus);
        let written = match self.number(negative) {
            Some(number) => number,
            None if negative => return Err(self.unexpected("a number after the minus sign")),
            None => {
                let literal = match self.peek() {
                    Tok::Text { text, .. } => Literal::Text(text.clone()),
                    Tok::Key(Key::True) => Literal::Bool(true),
                    Tok::Key(Key::False) => Literal::Bool(false),
                    _ => return Err(self.unexpected("a number, a text, TRUE or FALSE after `DEFAULT`")),
                };
                self.advance();
                literal
            }
        };
        let fitting = convert(&written, kind);
        if fitting.is_none() {
            let message = match kind {
                Kind::Bigint | Kind::Float | Kind::String | Kind::Boolean => {
                    format!("`{}` is no {}", self.slice(self.since(span)), kind.name())
                }
                _ => format!("a column of type {} cannot have a DEFAULT", kind.name()),
            };
            self.report(Diagnostic::error("K0122", message).at(self.since(span)));
        }
        Ok(fitting.unwrap_or(written))
    }

    /// Options up to the closing parenthesis; commas between them may be missing.
    fn options(&mut self) -> Parsed<Vec<OptionDef>> {
        let mut options = vec![];
        loop {
            while self.eat(&Tok::Comma) {}
            if self.eat(&Tok::RParen) {
                return Ok(options);
            }
            let key_span = self.span();
            let key = match self.peek() {
                Tok::Word(word) | Tok::Quoted(word) => Text::from(word.to_uppercase()),
                _ => return Err(self.unexpected("an option, or `)` after the last one")),
            };
            self.advance();
            let known = OPTIONS.contains(&key.as_str());
            if !known {
                let written = self.slice(key_span);
                let found = Diagnostic::error("K0123", format!("there is no option `{written}`")).at(key_span);
                self.report(match nearest(&key, OPTIONS) {
                    Some(near) => found.help(format!("did you mean `{near}`?")),
                    None => found.help(format!("the options are {}", OPTIONS.join(", "))),
                });
            }
            self.expect(&Tok::Eq, "after the name of an option")?;
            let value_span = self.span();
            let value = match self.peek() {
                Tok::Text { text, double } => {
                    let (text, double) = (text.clone(), *double);
                    if !double {
                        let help = "write it in double quotes";
                        self.report(
                            Diagnostic::error("K0124", "the value of an option stands in double quotes")
                                .at(value_span)
                                .help(help),
                        );
                    }
                    text
                }
                Tok::Key(Key::True) => Text::const_new("TRUE"),
                Tok::Key(Key::False) => Text::const_new("FALSE"),
                Tok::Word(_) | Tok::Quoted(_) | Tok::Int(_) | Tok::Float(_) => {
                    let written = self.slice(value_span);
                    let found = Diagnostic::error("K0124", "the value of an option stands in double quotes");
                    self.report(found.at(value_span).help(format!("write `\"{written}\"`")));
                    Text::from(written)
                }
                _ => return Err(self.unexpected("the value of the option in double quotes, TRUE or FALSE")),
            };
            self.advance();
            let option = OptionDef { key, value, key_span, value_span };
            options.push(self.check_option(option));
        }
    }

    fn check_option(&mut self, mut option: OptionDef) -> OptionDef {
        let expected = match option.key.as_str() {
            "SHARED" | "STRICT_VALIDATION" | "TEMP" => {
                option.value = option.value.to_uppercase();
                ["TRUE", "FALSE"].contains(&option.value.as_str()).then_some(()).ok_or("TRUE or FALSE")
            }
            "RETAIN_SIZE" => option.value.parse::<i64>().map(drop).map_err(|_| "an integer"),
            "EXTRA" => serde_json::from_str::<serde::de::IgnoredAny>(&option.value).map(drop).map_err(|_| "JSON text"),
            "KIND" | "VERSION" => {
                option.value = option.value.to_lowercase();
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(expected) = expected {
            let message = format!("option `{}` takes {expected}, found `{}`", option.key, option.value);
            self.report(Diagnostic::error("K0124", message).at(option.value_span));
        }
        option
    }

    /// What options and columns ask of each other.
    fn check_create(&mut self, create: &Create) {
        let last = |key: &str| create.options.iter().rev().find(|option| option.key == key);
        let is = |key: &str, value: &str| last(key).filter(|option| option.value.eq_ignore_ascii_case(value));
        let mut findings = vec![];
        if let Some(format) = is("FORMAT", "binary") {
            let mut refuse = |message: &str| findings.push(Diagnostic::error("K0125", message).at(format.value_span));
            match (create.what, create.columns.as_slice()) {
                (What::Table, _) => refuse("a table cannot have the format `binary`"),
                (_, []) => {}
                (_, [column]) if column.kind == Kind::Bytea => {}
                (_, [_]) => refuse("the column of a stream with format `binary` is of type BYTEA"),
                _ => refuse("a stream with format `binary` has at most one column"),
            }
        }
        if let (Some(kind), Some(_), None) = (is("KIND", "lookup"), is("TYPE", "memory"), last("KEY")) {
            let found = Diagnostic::error("K0125", "a lookup table of type `memory` needs the option `KEY`");
            findings
                .push(found.at(kind.key_span.to(kind.value_span)).help("name the column to look up by: `KEY=\"id\"`"));
        }
        findings.into_iter().for_each(|found| self.report(found));
    }
}

/// The literal as a value of the type, if it can be one.
fn convert(literal: &Literal, kind: &Kind) -> Option<Literal> {
    Some(match (kind, literal) {
        (Kind::Bigint, Literal::Int(_))
        | (Kind::Float, Literal::Float(_))
        | (Kind::String, Literal::Text(_))
        | (Kind::Boolean, Literal::Bool(_)) => literal.clone(),
        (Kind::Bigint, Literal::Float(number)) if number.fract() == 0.0 && number.abs() < 9e18 => {
            Literal::Int(*number as i64)
        }
        (Kind::Bigint, Literal::Text(text)) => Literal::Int(text.parse().ok()?),
        (Kind::Float, Literal::Int(number)) => Literal::Float(*number as f64),
        (Kind::Float, Literal::Text(text)) => {
            Literal::Float(text.parse().ok().filter(|number: &f64| number.is_finite())?)
        }
        (Kind::String, Literal::Int(number)) => Literal::Text(number.to_string().into()),
        (Kind::String, Literal::Float(number)) => Literal::Text(number.to_string().into()),
        (Kind::String, Literal::Bool(yes)) => Literal::Text(yes.to_string().into()),
        (Kind::Boolean, Literal::Text(text)) => Literal::Bool(text.to_lowercase().parse().ok()?),
        (Kind::Boolean, Literal::Int(number @ (0 | 1))) => Literal::Bool(*number == 1),
        _ => return None,
    })
}
