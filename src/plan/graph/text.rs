//! Expressions of a graph as text: read, and said again so that a later statement means the same by them.

use serde_json::Value as Json;

use super::super::{Options, Stream};
use super::{GraphNode, HIDDEN};
use crate::diag::Diagnostic;
use crate::sql::{Expr, ExprNode, Select, parse_expr, parse_select};

/// Functions of a window whose values go along behind it.
pub(super) const BOUNDS: [&str; 3] = ["window_start", "window_end", "window_trigger"];

/// What a name means behind a join and behind a window.
#[derive(Clone, Default)]
pub(super) struct Past {
    /// The sides of joins.
    pub sides: Vec<String>,
    /// Rows came of a window.
    pub windowed: bool,
}

impl Past {
    /// The text with what is gone replaced by the columns that it left.
    pub fn say(&self, expr: &Expr, text: &str) -> String {
        let mut places: Vec<(usize, usize, String)> = Vec::new();
        self.find(expr, &mut places);
        places.sort();
        let mut said = text.to_owned();
        for (from, to, name) in places.into_iter().rev() {
            said.replace_range(from..to, &format!("`{name}`"));
        }
        said
    }

    fn find(&self, expr: &Expr, places: &mut Vec<(usize, usize, String)>) {
        match self.column(expr) {
            Some(name) => places.push((expr.span.start as usize, expr.span.end as usize, name)),
            None => expr.parts(&mut |part| self.find(part, places)),
        }
    }

    /// The column that stands for an expression.
    fn column(&self, expr: &Expr) -> Option<String> {
        match &expr.node {
            ExprNode::Dotted(side, column) if self.sides.iter().any(|known| known == side.as_str()) => {
                Some(side_column(side, column))
            }
            ExprNode::Call(call) if self.windowed && call.args.is_empty() => {
                let bound = BOUNDS.iter().find(|name| call.name.name.eq_ignore_ascii_case(name))?;
                Some(format!("{HIDDEN}{bound}"))
            }
            _ => None,
        }
    }

    /// What a field is called that has no name of its own and is replaced.
    fn name(&self, expr: &Expr) -> Option<String> {
        self.column(expr)?;
        match &expr.node {
            ExprNode::Dotted(_, column) => Some(column.to_string()),
            ExprNode::Call(call) => Some(call.name.name.to_lowercase().to_string()),
            _ => None,
        }
    }
}

/// The column in which that of a side of a join goes along.
pub(super) fn side_column(side: &str, column: &str) -> String {
    format!("{HIDDEN}{side}.{column}")
}

impl GraphNode {
    /// A text among its properties.
    pub(super) fn text(&self, name: &str) -> Result<String, Diagnostic> {
        match self.prop(name) {
            Some(Json::String(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            None => Err(self.wrong(format!("the property `{name}` is missing"))),
            Some(other) => Err(self.wrong(format!("`{name}` must be a text, found `{other}`"))),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Diagnostic> {
        let list = self.prop(name).and_then(Json::as_array);
        let texts: Option<Vec<String>> =
            list.and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        let texts = texts.filter(|texts| !texts.is_empty());
        texts.ok_or_else(|| self.wrong(format!("`{name}` must be a list of texts, with one at least")))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Diagnostic> {
        match self.prop(name) {
            None => Ok(false),
            Some(Json::Bool(yes)) => Ok(*yes),
            Some(other) => Err(self.wrong(format!("`{name}` must be true or false, found `{other}`"))),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Diagnostic> {
        match self.prop(name) {
            None => Ok(None),
            Some(value) => {
                let whole = value.as_i64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64));
                let wrong = || self.wrong(format!("`{name}` must be a whole number, found `{value}`"));
                whole.map(Some).ok_or_else(wrong)
            }
        }
    }

    /// An expression, as the statement behind `past` says it.
    pub(super) fn expression(&self, text: &str, past: &Past) -> Result<String, Diagnostic> {
        let expr = parse_expr(text).map_err(|found| self.unread(text, &found))?;
        Ok(past.say(&expr, text))
    }

    /// One field of a SELECT list, with a name where it has none and should.
    pub(super) fn field(&self, text: &str, past: &Past, named: bool) -> Result<Field, Diagnostic> {
        let before = "SELECT ";
        let whole = format!("{before}{text} FROM x");
        let select = parse_select(&whole).map_err(|found| self.unread(text, &found))?;
        let field = match select.fields.as_slice() {
            [one] if one.span.end as usize == whole.len() - " FROM x".len() => one,
            _ => return Err(self.wrong(format!("expected one expression, found `{text}`"))),
        };
        let (from, to) = (field.expr.span.start as usize, field.expr.span.end as usize);
        let said = match parse_expr(&whole[from..to]) {
            Ok(expr) => past.say(&expr, &whole[from..to]),
            // A `*`.
            Err(_) => whole[from..to].to_owned(),
        };
        let call = match &field.expr.node {
            ExprNode::Call(call) => Some(call.name.name.to_lowercase().to_string()),
            _ => None,
        };
        let alias = field.alias.as_ref().map(|alias| alias.name.to_string());
        let alias = alias.or_else(|| past.name(&field.expr)).or_else(|| call.filter(|_| named));
        Ok(Field { expr: said, alias, invisible: field.invisible })
    }

    fn unread(&self, text: &str, found: &[Diagnostic]) -> Diagnostic {
        let why = found.first().map_or_else(String::new, |found| found.message.clone());
        self.wrong(format!("`{text}` cannot be read: {why}"))
    }
}

/// A field of a statement.
#[derive(Clone)]
pub(super) struct Field {
    expr: String,
    pub alias: Option<String>,
    pub invisible: bool,
}

impl Field {
    pub fn of(expr: impl Into<String>, alias: Option<String>) -> Field {
        Field { expr: expr.into(), alias, invisible: false }
    }

    fn sql(&self) -> String {
        let alias = self.alias.as_ref().map_or(String::new(), |alias| format!(" AS `{alias}`"));
        format!("{}{alias}{}", self.expr, if self.invisible { " INVISIBLE" } else { "" })
    }
}

/// A statement that is being put together.
#[derive(Clone, Default)]
pub(super) struct Words {
    pub fields: Vec<Field>,
    pub joins: String,
    pub filter: Option<String>,
    pub group: Vec<String>,
    pub having: Vec<String>,
    pub order: Vec<String>,
}

impl Words {
    pub fn all() -> Words {
        Words { fields: vec![Field::of("*", None)], ..Words::default() }
    }

    pub fn sql(&self, from: &str) -> String {
        let fields: Vec<String> = self.fields.iter().map(Field::sql).collect();
        let mut sql = format!("SELECT {} FROM `{from}`{}", fields.join(", "), self.joins);
        let mut clause = |word: &str, text: String| {
            if !text.is_empty() {
                sql += &format!(" {word} {text}");
            }
        };
        clause("WHERE", self.filter.clone().unwrap_or_default());
        clause("GROUP BY", self.group.join(", "));
        let having: Vec<String> = self.having.iter().map(|one| format!("({one})")).collect();
        clause("HAVING", having.join(" AND "));
        clause("ORDER BY", self.order.join(", "));
        sql
    }
}

/// The columns of the sides of joins that the texts of nodes name: side and column.
pub(super) fn sides_named(texts: &[String], sides: &[String]) -> Vec<(String, String)> {
    fn find(expr: &Expr, sides: &[String], out: &mut Vec<(String, String)>) {
        if let ExprNode::Dotted(side, column) = &expr.node
            && sides.iter().any(|known| known == side.as_str())
            && !out.iter().any(|(s, c)| s == side.as_str() && c == column.as_str())
        {
            out.push((side.to_string(), column.to_string()));
        }
        expr.parts(&mut |part| find(part, sides, out));
    }
    let mut out = Vec::new();
    for text in texts {
        let read: Result<Select, _> = parse_select(&format!("SELECT {text} FROM x"));
        read.iter().flat_map(|select| &select.fields).for_each(|field| find(&field.expr, sides, &mut out));
    }
    out
}

/// What statements call the rows of a stage: as the rows that it takes, but any columns.
pub(super) fn behind(stream: &Stream, options: &Options) -> Stream {
    let timestamp = if options.event_time.is_some() { stream.timestamp.clone() } else { Default::default() };
    let timestamp_format = stream.timestamp_format.clone();
    Stream { timestamp, timestamp_format, ..Stream::schemaless(&stream.name) }
}
