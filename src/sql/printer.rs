//! Tree to text, on one line. What is printed gives the same tree when it is parsed again; keywords and windows are upper
//! case, texts stand in double quotes, names have backticks only where they must. Comments are no part of the tree.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{
    Call, ColumnDef, Create, Expr, ExprNode, Field, Ident, JoinKind, Literal, OptionDef, Over, Select, Sort, Source,
    Statement, UnaryOp, Unit, What, Wildcard, Window, WindowKind,
};
use super::expr::{NEGATION, OPERAND, POSTFIX, PREDICATE, SUM, grip, level};
use super::quote::quote;
use super::token::is_plain;
use crate::data::Kind;

/// An expression as text.
pub fn print_expr(expr: &Expr) -> String {
    expr.to_string()
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Select(select) => select.fmt(f),
            Statement::Create(create) => create.fmt(f),
            Statement::Show(What::Stream) => f.write_str("SHOW STREAMS"),
            Statement::Show(What::Table) => f.write_str("SHOW TABLES"),
            Statement::Describe(what, name) => write!(f, "DESCRIBE {what} {name}"),
            Statement::Explain(what, name) => write!(f, "EXPLAIN {what} {name}"),
            Statement::Drop(what, name) => write!(f, "DROP {what} {name}"),
        }
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            What::Stream => "STREAM",
            What::Table => "TABLE",
        })
    }
}

impl Display for Create {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE {} {} (", self.what, self.name)?;
        commas(f, &self.columns)?;
        f.write_str(") WITH (")?;
        commas(f, &self.options)?;
        f.write_char(')')
    }
}

impl Display for OptionDef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, quote(&self.value))
    }
}

impl Display for ColumnDef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name)?;
        kind(f, &self.kind)?;
        match &self.default {
            Some(default) => write!(f, " DEFAULT {default}"),
            None => Ok(()),
        }
    }
}

fn kind(f: &mut Formatter<'_>, of: &Kind) -> fmt::Result {
    match of {
        Kind::Array(element) => {
            f.write_str("ARRAY(")?;
            kind(f, element)?;
            f.write_char(')')
        }
        Kind::Struct(members) => {
            for (at, (name, of)) in members.iter().enumerate() {
                f.write_str(if at > 0 { ", " } else { "STRUCT(" })?;
                ident(f, name)?;
                f.write_char(' ')?;
                kind(f, of)?;
            }
            f.write_char(')')
        }
        other => f.write_str(&other.name().to_uppercase()),
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SELECT {} FROM {}", Commas(&self.fields), self.from)?;
        for join in &self.joins {
            write!(f, " {} {}", join.kind, join.source)?;
            if let Some(on) = &join.on {
                write!(f, " ON {on}")?;
            }
        }
        if let Some(filter) = &self.filter {
            write!(f, " WHERE {filter}")?;
        }
        let keys = self.keys();
        if !keys.is_empty() {
            write!(f, " GROUP BY {}", keys.join(", "))?;
        }
        if let Some(having) = &self.having {
            write!(f, " HAVING {having}")?;
        }
        if !self.order.is_empty() {
            write!(f, " ORDER BY {}", Commas(&self.order))?;
        }
        match &self.limit {
            Some(limit) => write!(f, " LIMIT {}", limit.rows),
            None => Ok(()),
        }
    }
}

impl Select {
    /// What stands in GROUP BY, windows last.
    pub(super) fn keys(&self) -> Vec<String> {
        self.group.iter().map(ToString::to_string).chain(self.windows.iter().map(ToString::to_string)).collect()
    }
}

impl Display for JoinKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinKind::Inner => "INNER JOIN",
            JoinKind::Left => "LEFT JOIN",
            JoinKind::Right => "RIGHT JOIN",
            JoinKind::Full => "FULL JOIN",
            JoinKind::Cross => "CROSS JOIN",
        })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)?;
        if let Some(alias) = &self.alias {
            write!(f, " AS {alias}")?;
        }
        f.write_str(if self.invisible { " INVISIBLE" } else { "" })
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name.name;
        let topic = !name.is_empty()
            && !name.contains("/*")
            && name.split('/').all(|part| part.is_empty() || part == "+" || part == "#" || is_plain(part));
        if topic {
            f.write_str(name)?
        } else {
            ident(f, name)?
        }
        match &self.alias {
            Some(alias) => write!(f, " AS {alias}"),
            None => Ok(()),
        }
    }
}

impl Display for Sort {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, if self.descending { " DESC" } else { "" })
    }
}

impl Display for WindowKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_uppercase())
    }
}

impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.kind, Commas(&self.args))?;
        filter(f, self.filter.as_ref())?;
        if self.when.is_none() && self.partition.is_empty() {
            return Ok(());
        }
        over(f, true, self.when.as_ref(), &self.partition, &[])
    }
}

fn filter(f: &mut Formatter<'_>, filter: Option<&Expr>) -> fmt::Result {
    match filter {
        Some(filter) => write!(f, " FILTER (WHERE {filter})"),
        None => Ok(()),
    }
}

/// A window has WHEN first, a function last.
fn over(f: &mut Formatter<'_>, window: bool, when: Option<&Expr>, partition: &[Expr], order: &[Sort]) -> fmt::Result {
    let mut parts = vec![];
    if !partition.is_empty() {
        parts.push(format!("PARTITION BY {}", Commas(partition)));
    }
    if !order.is_empty() {
        parts.push(format!("ORDER BY {}", Commas(order)));
    }
    if let Some(when) = when {
        parts.insert(if window { 0 } else { parts.len() }, format!("WHEN {when}"));
    }
    write!(f, " OVER ({})", parts.join(" "))
}

impl Display for Ident {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        ident(f, &self.name)
    }
}

fn ident(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_plain(name) { f.write_str(name) } else { write!(f, "`{name}`") }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Int(number) => write!(f, "{number}"),
            Literal::Float(number) => write!(f, "{number:?}"),
            Literal::Text(text) => f.write_str(&quote(text)),
            Literal::Bool(true) => f.write_str("TRUE"),
            Literal::Bool(false) => f.write_str("FALSE"),
            Literal::Null => f.write_str("NULL"),
        }
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Day => "dd",
            Unit::Hour => "hh",
            Unit::Minute => "mi",
            Unit::Second => "ss",
            Unit::Millisecond => "ms",
        })
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match &self.node {
            ExprNode::Literal(literal) => literal.fmt(f),
            ExprNode::Unit(unit) => unit.fmt(f),
            ExprNode::Name(name) => ident(f, name),
            ExprNode::Dotted(first, second) => {
                ident(f, first)?;
                f.write_char('.')?;
                ident(f, second)
            }
            ExprNode::Wildcard(wildcard) => wildcard.fmt(f),
            ExprNode::Member(of, name) => write!(f, "{}->{name}", At(of, POSTFIX)),
            ExprNode::Index(of, index) => write!(f, "{}[{}]", At(of, POSTFIX), Bound(index)),
            ExprNode::Slice(of, from, to) => {
                write!(f, "{}[", At(of, POSTFIX))?;
                from.iter().try_for_each(|from| Bound(from).fmt(f))?;
                f.write_char(':')?;
                to.iter().try_for_each(|to| Bound(to).fmt(f))?;
                f.write_char(']')
            }
            ExprNode::Unary(UnaryOp::Not, of) => write!(f, "NOT {}", At(of, NEGATION)),
            ExprNode::Unary(UnaryOp::Neg, of) => {
                // A minus right before a number is a part of the number, and two minus signs start a comment.
                let of = At(of, OPERAND).to_string();
                match of.as_bytes().first() {
                    Some(b'0'..=b'9') => write!(f, "-({of})"),
                    Some(b'-') => write!(f, "- {of}"),
                    _ => write!(f, "-{of}"),
                }
            }
            ExprNode::Binary(op, left, right) => {
                write!(f, "{} {} {}", At(left, level(*op)), op.symbol(), At(right, level(*op) + 1))
            }
            ExprNode::Between { expr, low, high, negated } => {
                let (expr, low, high) = (At(expr, PREDICATE), At(low, SUM), At(high, SUM));
                write!(f, "{expr} {}BETWEEN {low} AND {high}", not(negated))
            }
            ExprNode::InList { expr, list, negated } => {
                write!(f, "{} {}IN ({})", At(expr, PREDICATE), not(negated), Commas(list))
            }
            ExprNode::InArray { expr, array, negated } => {
                write!(f, "{} {}IN {}", At(expr, PREDICATE), not(negated), At(array, SUM))
            }
            ExprNode::Like { expr, pattern, negated } => {
                write!(f, "{} {}LIKE {}", At(expr, PREDICATE), not(negated), At(pattern, SUM))
            }
            ExprNode::IsNull { expr, negated } => write!(f, "{} IS {}NULL", At(expr, PREDICATE), not(negated)),
            ExprNode::Case { subject, branches, otherwise } => {
                f.write_str("CASE")?;
                subject.iter().try_for_each(|subject| write!(f, " {subject}"))?;
                branches.iter().try_for_each(|(when, then)| write!(f, " WHEN {when} THEN {then}"))?;
                otherwise.iter().try_for_each(|otherwise| write!(f, " ELSE {otherwise}"))?;
                f.write_str(" END")
            }
            ExprNode::Call(call) => call.fmt(f),
            ExprNode::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for Wildcard {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(of) = &self.of {
            ident(f, of)?;
            f.write_char('.')?;
        }
        f.write_char('*')?;
        if !self.except.is_empty() {
            write!(f, " EXCEPT ({})", Commas(&self.except))?;
        }
        if !self.replace.is_empty() {
            write!(f, " REPLACE ({})", Commas(&self.replace))?;
        }
        Ok(())
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let window = WindowKind::find(&self.name.name).is_some();
        write!(f, "{}({}{})", self.name, if self.distinct { "DISTINCT " } else { "" }, Commas(&self.args))?;
        filter(f, self.filter.as_ref())?;
        match &self.over {
            Some(Over { partition, when, order, .. }) => over(f, window, when.as_ref(), partition, order),
            None => Ok(()),
        }
    }
}

/// An operand, with parentheses if it holds together less tightly than its place asks.
pub(super) struct At<'a>(pub &'a Expr, pub u8);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if grip(&self.0.node) < self.1 { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

/// An index. One that starts with a negative integer must be nothing but that, so a computed one stands in parentheses.
struct Bound<'a>(&'a Expr);

impl Display for Bound<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let negative =
            text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
        match self.0.node {
            ExprNode::Literal(_) => f.write_str(&text),
            _ if negative => write!(f, "({text})"),
            _ => f.write_str(&text),
        }
    }
}

/// Items with a comma and a space between.
struct Commas<'a, T>(&'a [T]);

impl<T: Display> Display for Commas<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        commas(f, self.0)
    }
}

fn commas<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(at, item)| {
        f.write_str(if at > 0 { ", " } else { "" })?;
        item.fmt(f)
    })
}
