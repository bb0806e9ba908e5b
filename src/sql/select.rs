//! SELECT: its clauses in their order, and where a mistake in one of them ends.

use super::ast::{Expr, ExprNode, Field, Ident, Join, JoinKind, Limit, Literal, Select, Sort, Source, Window};
use super::call::as_window;
use super::parser::{Parsed, Parser, Stop};
use super::token::{Key, Tok};
use crate::data::Text;
use crate::diag::{Diagnostic, Span};

/// Whether the token starts a clause, or ends the statement.
fn is_clause(tok: &Tok) -> bool {
    use Key::*;
    matches!(
        tok,
        Tok::Key(From | Where | Group | Having | Order | Limit | Inner | Left | Right | Full | Cross | Join)
            | Tok::Semicolon
    )
}

impl Parser<'_> {
    /// A SELECT, up to its end.
    pub fn select(&mut self) -> Parsed<Select> {
        let start = self.span();
        self.expect_key(Key::Select, "at the start")?;
        if self.at_word("distinct") && matches!(self.peek_at(1), Tok::Word(_) | Tok::Quoted(_) | Tok::Star) {
            let found = Diagnostic::error("K0105", "`SELECT DISTINCT` is not supported").at(self.span());
            self.report(found.help("group by the columns, or use `deduplicate`"));
            self.advance();
        }
        let fields = self.fields();
        if *self.peek() == Tok::End && !self.findings.is_empty() {
            return Err(Stop);
        }
        self.expect_key(Key::From, "after the select list")?;
        let from = self.clause(Parser::source);
        let mut joins = vec![];
        while let Some(kind) = self.clause(Parser::join_kind).flatten() {
            joins.extend(self.clause(|parser| parser.join(kind)));
        }
        let filter = self.condition(Key::Where);
        let (group, windows) = self.clause(Parser::group).unwrap_or_default();
        let having = self.condition(Key::Having);
        let order = self.clause(Parser::order).unwrap_or_default();
        let limit = self.clause(Parser::limit).flatten();
        let span = self.since(start);
        self.end_of_select()?;
        let from = from.ok_or(Stop)?;
        Ok(Select { fields, from, joins, filter, group, windows, having, order, limit, span })
    }

    /// Reads a clause; after a mistake in it goes on to the next one.
    fn clause<T>(&mut self, clause: impl FnOnce(&mut Self) -> Parsed<T>) -> Option<T> {
        match clause(self) {
            Ok(found) => Some(found),
            Err(Stop) => {
                self.recover(is_clause);
                None
            }
        }
    }

    fn fields(&mut self) -> Vec<Field> {
        let mut fields = vec![];
        loop {
            match self.field() {
                Ok(field) => fields.push(field),
                Err(Stop) => self.recover(|tok| is_clause(tok) || *tok == Tok::Comma),
            }
            if self.eat(&Tok::Comma) {
                continue;
            }
            if !is_clause(self.peek()) && *self.peek() != Tok::End {
                let message = format!("expected `,` or `FROM` after a field, found {}", self.found());
                let found = Diagnostic::error("K0105", message).at(self.span());
                let name = matches!(self.peek(), Tok::Word(_) | Tok::Quoted(_));
                self.report(if name { found.help("an alias needs `AS`") } else { found });
                self.recover(|tok| is_clause(tok) || *tok == Tok::Comma);
                if self.eat(&Tok::Comma) {
                    continue;
                }
            }
            return fields;
        }
    }

    /// `expr [AS alias] [INVISIBLE]`
    pub fn field(&mut self) -> Parsed<Field> {
        let start = self.span();
        let expr = self.item()?;
        let mut alias = None;
        if self.eat_key(Key::As) {
            let name = self.ident("an alias after `AS`")?;
            if let ExprNode::Wildcard(wildcard) = &expr.node {
                let star = Parser::wildcard_text(wildcard.of.as_ref());
                let message = format!("`{star}` cannot have an alias");
                let found = Diagnostic::error("K0110", message).at(start.to(name.span));
                self.report(found.help("its columns keep their names; `* REPLACE (… AS name)` changes one"));
            }
            alias = Some(name);
        }
        let invisible = self.eat_key(Key::Invisible);
        Ok(Field { expr, alias, invisible, span: self.since(start) })
    }

    /// A stream or table, or a topic with `/`, `+` and `#`, and its alias.
    fn source(&mut self) -> Parsed<Source> {
        let mut name = Text::default();
        let mut place: Option<Span> = None;
        let mut after_slash = true;
        loop {
            let part = match self.peek() {
                Tok::Word(part) | Tok::Quoted(part) if after_slash || self.touches() => part.clone(),
                mark @ (Tok::Slash | Tok::Plus | Tok::Hash) => Text::from(mark.symbol()),
                _ => break,
            };
            after_slash = *self.peek() == Tok::Slash;
            name.push_str(&part);
            place = Some(place.map_or(self.span(), |place| place.to(self.span())));
            self.advance();
        }
        let name = match place {
            Some(span) => Ident { name, span },
            None => self.ident("the name of a stream or table")?,
        };
        let implicit = matches!(self.peek(), Tok::Word(_) | Tok::Quoted(_)) && !self.at_word("outer");
        let alias = match self.eat_key(Key::As) || implicit {
            true => Some(self.ident("an alias")?),
            false => None,
        };
        if *self.peek() == Tok::Comma {
            let found = Diagnostic::error("K0117", "expected one source in `FROM`, found `,`").at(self.span());
            return Err(self.stop(found.help("join another one: `INNER JOIN b ON a.id = b.id`, or `CROSS JOIN b`")));
        }
        Ok(Source { name, alias })
    }

    /// The kind of the join that is next, with the words taken.
    fn join_kind(&mut self) -> Parsed<Option<(JoinKind, Span)>> {
        let start = self.span();
        let kind = match self.peek() {
            Tok::Key(Key::Inner) => JoinKind::Inner,
            Tok::Key(Key::Left) => JoinKind::Left,
            Tok::Key(Key::Right) => JoinKind::Right,
            Tok::Key(Key::Full) => JoinKind::Full,
            Tok::Key(Key::Cross) => JoinKind::Cross,
            Tok::Key(Key::Join) => {
                let found = Diagnostic::error("K0117", "a join needs its kind").at(start);
                let stop =
                    self.stop(found.help("write `INNER JOIN`, `LEFT JOIN`, `RIGHT JOIN`, `FULL JOIN` or `CROSS JOIN`"));
                self.advance();
                return Err(stop);
            }
            _ if self.at_word("outer") => return Err(self.outer()),
            _ => return Ok(None),
        };
        self.advance();
        if self.at_word("outer") {
            return Err(self.outer());
        }
        if !self.eat_key(Key::Join) {
            let message = format!("expected `JOIN` after the kind of the join, found {}", self.found());
            return Err(self.stop(Diagnostic::error("K0117", message).at(self.span())));
        }
        Ok(Some((kind, start)))
    }

    fn outer(&mut self) -> Stop {
        let found = Diagnostic::error("K0117", "`OUTER` is not written in a join").at(self.span());
        let stop = self.stop(found.help("write `LEFT JOIN`, `RIGHT JOIN` or `FULL JOIN`; each is an outer join"));
        self.advance();
        self.eat_key(Key::Join);
        stop
    }

    fn join(&mut self, (kind, start): (JoinKind, Span)) -> Parsed<Join> {
        let source = self.source()?;
        let place = self.span();
        let mut on = None;
        if self.eat_key(Key::On) {
            if kind == JoinKind::Cross {
                let found = Diagnostic::error("K0117", "a `CROSS JOIN` has no `ON`").at(place);
                self.report(found.help("write `INNER JOIN`, or move the condition to `WHERE`"));
            }
            on = Some(self.expr()?);
        }
        Ok(Join { kind, source, on, span: self.since(start) })
    }

    fn condition(&mut self, key: Key) -> Option<Expr> {
        if self.eat_key(key) { self.clause(Parser::expr) } else { None }
    }

    fn group(&mut self) -> Parsed<(Vec<Expr>, Vec<Window>)> {
        let mut group = vec![];
        let mut windows = vec![];
        if self.eat_key(Key::Group) {
            self.expect_key(Key::By, "after `GROUP`")?;
            for expr in self.list(Parser::expr)? {
                match as_window(expr) {
                    Ok(window) => windows.push(window),
                    Err(key) => group.push(key),
                }
            }
        }
        Ok((group, windows))
    }

    fn order(&mut self) -> Parsed<Vec<Sort>> {
        if *self.peek() == Tok::Key(Key::Order) { self.sorts() } else { Ok(vec![]) }
    }

    fn limit(&mut self) -> Parsed<Option<Limit>> {
        let start = self.span();
        if !self.eat_key(Key::Limit) {
            return Ok(None);
        }
        let place = self.span();
        let negative = self.eat(&Tok::Minus);
        match self.number(negative) {
            Some(Literal::Int(rows)) if is_clause(self.peek()) || *self.peek() == Tok::End => {
                Ok(Some(Limit { rows, span: self.since(start) }))
            }
            _ => {
                self.recover(is_clause);
                let found = Diagnostic::error("K0112", "`LIMIT` takes one integer that is written out");
                Err(self.stop(found.at(self.since(place))))
            }
        }
    }

    fn end_of_select(&mut self) -> Parsed<()> {
        if matches!(self.peek(), Tok::Semicolon | Tok::End) || !is_clause(self.peek()) {
            return self.finish("of the statement");
        }
        let message = format!("{} stands at the wrong place, or twice", self.found().to_uppercase());
        let found = Diagnostic::error("K0105", message).at(self.span());
        Err(self.stop(found.help("the order is SELECT, FROM, JOIN, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT")))
    }
}
