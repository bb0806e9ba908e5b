//! Calls: arguments, FILTER, OVER, and the shape of windows, which are the only functions that the grammar knows.

use super::ast::{Call, Expr, ExprNode, Ident, Literal, Over, Sort, Window, WindowKind};
use super::forms;
use super::parser::{Parsed, Parser};
use super::token::{Key, Tok};
use crate::diag::{Diagnostic, Span};

impl WindowKind {
    /// The window of that name, in any case.
    pub fn find(name: &str) -> Option<WindowKind> {
        WindowKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// The arguments as a message shows them.
    fn form(self) -> String {
        let signature = forms::find(self.name()).map_or("", |form| form.signature);
        format!("{}{signature}", self.name().to_uppercase())
    }
}

/// The window that a GROUP BY item is, or the item itself.
pub(super) fn as_window(expr: Expr) -> Result<Window, Expr> {
    let kind = match &expr.node {
        ExprNode::Call(call) => WindowKind::find(&call.name.name),
        _ => None,
    };
    match (kind, expr.node) {
        (Some(kind), ExprNode::Call(call)) => {
            let over = call.over.unwrap_or_default();
            Ok(Window {
                kind,
                args: call.args,
                filter: call.filter,
                when: over.when,
                partition: over.partition,
                span: expr.span,
            })
        }
        (_, node) => Err(Expr { node, span: expr.span }),
    }
}

impl Parser<'_> {
    /// The call of `name`, from its parenthesis on.
    pub fn call(&mut self, name: Ident) -> Parsed<Expr> {
        self.advance();
        let window = WindowKind::find(&name.name);
        let meta = ["meta", "mqtt"].iter().any(|meta| name.name.eq_ignore_ascii_case(meta));
        let outer = std::mem::replace(&mut self.in_meta, meta);
        let distinct = window.is_none() && self.at_distinct();
        if distinct {
            self.advance();
        }
        let mut args = vec![];
        let mut tall = 0;
        // A comma behind the last argument is allowed.
        while *self.peek() != Tok::RParen {
            args.push(self.item()?);
            tall = tall.max(self.height);
            if !self.eat(&Tok::Comma) {
                break;
            }
        }
        self.in_meta = outer;
        self.expect(&Tok::RParen, &format!("or `,` in the call of `{}`", name.name))?;
        if let Some(kind) = window {
            self.check_window(kind, &args, self.since(name.span));
        }
        let filter = self.filter(window.is_some())?;
        if filter.is_some() {
            tall = tall.max(self.height);
        }
        let over = self.over(window.is_some())?;
        if over.is_some() {
            tall = tall.max(self.height);
        }
        self.tower(tall)?;
        let span = self.since(name.span);
        Ok(Expr::new(ExprNode::Call(Box::new(Call { name, args, distinct, filter, over })), span))
    }

    /// Whether DISTINCT stands before an argument. Before anything else it is a column of that name.
    fn at_distinct(&self) -> bool {
        self.at_word("distinct")
            && match self.peek_at(1) {
                Tok::Word(word) => {
                    let next = self.peek_at(2);
                    !(word.eq_ignore_ascii_case("is") && (*next == Tok::Key(Key::Not) || self.word_at(2, "null")))
                }
                Tok::Quoted(_) | Tok::Text { .. } | Tok::Int(_) | Tok::Float(_) | Tok::LParen => true,
                Tok::Key(key) => matches!(key, Key::Case | Key::True | Key::False),
                _ => false,
            }
    }

    fn filter(&mut self, window: bool) -> Parsed<Option<Expr>> {
        let span = self.span();
        if !self.eat_key(Key::Filter) {
            return Ok(None);
        }
        if !window {
            let found = Diagnostic::error("K0115", "`FILTER` belongs to windows only").at(span);
            self.report(found.help("give the function a `CASE WHEN … THEN … END` that is null for other rows"));
        }
        self.expect(&Tok::LParen, "after `FILTER`")?;
        self.expect_key(Key::Where, "after `FILTER (`")?;
        let filter = self.nested(Parser::expr)?;
        self.expect(&Tok::RParen, "to close `FILTER`")?;
        Ok(Some(filter))
    }

    fn over(&mut self, window: bool) -> Parsed<Option<Over>> {
        let span = self.span();
        if !self.eat_key(Key::Over) {
            return Ok(None);
        }
        self.expect(&Tok::LParen, "after `OVER`")?;
        let over = self.nested(|parser| parser.over_parts(window))?;
        if *self.peek() == Tok::Key(Key::Filter) {
            let found = Diagnostic::error("K0115", "`FILTER` stands before `OVER`").at(self.span());
            return Err(self.stop(found));
        }
        let span = self.since(span);
        if !window && over == Over::default() {
            let found = Diagnostic::error("K0115", "`OVER ()` says nothing").at(span);
            self.report(found.help("write `OVER (PARTITION BY …)`, `OVER (WHEN …)`, or leave it out"));
        }
        Ok(Some(Over { span, ..over }))
    }

    fn over_parts(&mut self, window: bool) -> Parsed<Over> {
        let mut over = Over::default();
        let mut tall = 0;
        if window && self.eat_key(Key::When) {
            over.when = Some(self.expr()?);
            tall = self.height;
        }
        if self.eat_key(Key::Partition) {
            self.expect_key(Key::By, "after `PARTITION`")?;
            over.partition = self.list(Parser::expr)?;
            tall = tall.max(self.height);
        }
        if !window && *self.peek() == Tok::Key(Key::Order) {
            over.order = self.sorts()?;
            tall = tall.max(self.height);
        }
        if !window && self.eat_key(Key::When) {
            over.when = Some(self.expr()?);
            tall = tall.max(self.height);
        }
        self.height = tall;
        if self.eat(&Tok::RParen) {
            return Ok(over);
        }
        let order = if window { "WHEN, PARTITION BY" } else { "PARTITION BY, ORDER BY, WHEN" };
        let found = match self.peek() {
            Tok::Key(Key::When | Key::Partition | Key::Order) => {
                Diagnostic::error("K0115", format!("{} cannot stand here in `OVER`", self.found()))
                    .help(format!("the order is {order}, each at most once"))
            }
            _ => Diagnostic::error("K0115", format!("expected `)` to close `OVER`, found {}", self.found()))
                .help(format!("it holds {order}")),
        };
        Err(self.stop(found.at(self.span())))
    }

    /// `ORDER BY` and its items. Commas between them may be missing, and so may the items.
    pub fn sorts(&mut self) -> Parsed<Vec<Sort>> {
        self.advance();
        self.expect_key(Key::By, "after `ORDER`")?;
        let mut sorts = vec![];
        let mut tall = 0;
        loop {
            while self.eat(&Tok::Comma) {}
            if !matches!(self.peek(), Tok::Word(_) | Tok::Quoted(_)) {
                break;
            }
            let expr = self.expr()?;
            tall = tall.max(self.height);
            let descending = self.eat_key(Key::Desc);
            if !descending {
                self.eat_key(Key::Asc);
            }
            sorts.push(Sort { expr, descending });
        }
        self.height = tall;
        if matches!(
            self.peek(),
            Tok::Int(_) | Tok::Float(_) | Tok::Text { .. } | Tok::LParen | Tok::Minus | Tok::Key(Key::Case | Key::Not)
        ) {
            let message = format!("expected a column, an alias or a call to order by, found {}", self.found());
            let found = Diagnostic::error("K0118", message).at(self.span());
            return Err(self.stop(found.help("give the expression an alias in the select list, and order by that")));
        }
        Ok(sorts)
    }

    fn check_window(&mut self, kind: WindowKind, args: &[Expr], span: Span) {
        let counts = match kind {
            WindowKind::Tumbling => 2..=2,
            WindowKind::Hopping | WindowKind::Session => 3..=3,
            WindowKind::Sliding => 2..=3,
            WindowKind::Count | WindowKind::State => 1..=2,
        };
        if !counts.contains(&args.len()) {
            let (low, high) = (counts.start(), counts.end());
            let wanted = if low == high { low.to_string() } else { format!("{low} or {high}") };
            let message = format!("`{}` takes {wanted} arguments, found {}", kind.name(), args.len());
            return self.report(Diagnostic::error("K0113", message).at(span).help(kind.form()));
        }
        if kind == WindowKind::State {
            return;
        }
        let mut numbers = args;
        if kind != WindowKind::Count {
            numbers = &args[1..];
            if !matches!(args[0].node, ExprNode::Unit(_)) {
                let message = format!("the first argument of `{}` is a unit of time", kind.name());
                let found = Diagnostic::error("K0113", message).at(args[0].span);
                self.report(found.help("one of DD, HH, MI, SS, MS, without quotes"));
            }
        }
        let mut values = vec![];
        for number in numbers {
            match number.node {
                ExprNode::Literal(Literal::Int(value)) => values.push(value),
                _ => {
                    let message = format!("`{}` takes integers that are written out here", kind.name());
                    self.report(Diagnostic::error("K0113", message).at(number.span).help(kind.form()));
                }
            }
        }
        if kind == WindowKind::Count {
            match values[..] {
                [length] if args.len() == 1 && length <= 0 => {
                    let message = format!("the length of a count window is at least 1, found {length}");
                    self.report(Diagnostic::error("K0114", message).at(args[0].span));
                }
                [length, interval] if interval > length => {
                    let message =
                        format!("the interval of a count window is at most its length {length}, found {interval}");
                    self.report(Diagnostic::error("K0114", message).at(args[1].span));
                }
                _ => {}
            }
        }
    }
}
