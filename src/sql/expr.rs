//! Expressions, by precedence climbing. From loose to tight: OR; AND; NOT; comparisons, IN, BETWEEN, LIKE, IS;
//! `+ - | ^`; `* / % &`; minus; `[ ]`, `->`, `.`. All operators group to the left.

use super::ast::{BinaryOp, Expr, ExprNode, Ident, Literal, UnaryOp, Unit, Wildcard};
use super::parser::{Parsed, Parser};
use super::token::{Key, Tok};
use crate::data::Text;
use crate::diag::{Diagnostic, Span};

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const ADD: u8 = 5;
const MUL: u8 = 6;

/// How tightly an operator binds its operands.
pub(super) fn level(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => OR,
        BinaryOp::And => AND,
        BinaryOp::Eq
        | BinaryOp::NotEq
        | BinaryOp::Less
        | BinaryOp::LessEq
        | BinaryOp::Greater
        | BinaryOp::GreaterEq => COMPARE,
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::BitOr | BinaryOp::BitXor => ADD,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem | BinaryOp::BitAnd => MUL,
    }
}

/// How tightly a node holds together when it stands as an operand.
pub(super) fn grip(node: &ExprNode) -> u8 {
    match node {
        ExprNode::Binary(op, ..) => level(*op),
        ExprNode::Unary(UnaryOp::Not, _) => NOT,
        ExprNode::Unary(UnaryOp::Neg, _) => MUL + 1,
        ExprNode::Between { .. }
        | ExprNode::InList { .. }
        | ExprNode::InArray { .. }
        | ExprNode::Like { .. }
        | ExprNode::IsNull { .. } => COMPARE,
        _ => MUL + 2,
    }
}

pub(super) const PREDICATE: u8 = COMPARE;
pub(super) const SUM: u8 = ADD;
pub(super) const NEGATION: u8 = NOT;
pub(super) const OPERAND: u8 = MUL + 1;
pub(super) const POSTFIX: u8 = MUL + 2;

fn operator(tok: &Tok) -> Option<BinaryOp> {
    Some(match tok {
        Tok::Key(Key::Or) => BinaryOp::Or,
        Tok::Key(Key::And) => BinaryOp::And,
        Tok::Eq => BinaryOp::Eq,
        Tok::NotEq => BinaryOp::NotEq,
        Tok::Less => BinaryOp::Less,
        Tok::LessEq => BinaryOp::LessEq,
        Tok::Greater => BinaryOp::Greater,
        Tok::GreaterEq => BinaryOp::GreaterEq,
        Tok::Plus => BinaryOp::Add,
        Tok::Minus => BinaryOp::Sub,
        Tok::Star => BinaryOp::Mul,
        Tok::Slash => BinaryOp::Div,
        Tok::Percent => BinaryOp::Rem,
        Tok::Amp => BinaryOp::BitAnd,
        Tok::Pipe => BinaryOp::BitOr,
        Tok::Caret => BinaryOp::BitXor,
        _ => return None,
    })
}

fn boxed(expr: Expr) -> Box<Expr> {
    Box::new(expr)
}

impl Parser<'_> {
    /// An expression.
    pub fn expr(&mut self) -> Parsed<Expr> {
        self.climb(OR)
    }

    /// An expression, `*` or `source.*`: what stands in a select list or as an argument.
    pub fn item(&mut self) -> Parsed<Expr> {
        let span = self.span();
        let of = match (self.peek(), self.peek_at(1), self.peek_at(2)) {
            (Tok::Star, ..) => None,
            (Tok::Word(name) | Tok::Quoted(name), Tok::Dot, Tok::Star) => Some(name.clone()),
            _ => return self.expr(),
        };
        if of.is_some() {
            self.advance();
            self.advance();
        }
        self.advance();
        let mut wildcard = Wildcard { of, ..Wildcard::default() };
        let mut tall = 0;
        while matches!(self.peek(), Tok::Key(Key::Except | Key::Replace)) {
            let word = self.slice(self.span()).to_uppercase();
            if self.in_meta {
                let found = Diagnostic::error("K0119", format!("`{word}` cannot be used in `meta`"));
                return Err(self.stop(found.at(self.span())));
            }
            let except = self.eat_key(Key::Except);
            if !except {
                self.advance();
            }
            self.expect(&Tok::LParen, &format!("after `{word}`"))?;
            if except {
                wildcard.except.clear();
                while !self.eat(&Tok::RParen) {
                    if !self.eat(&Tok::Comma) {
                        wildcard.except.push(self.ident("a column, or `)` after `EXCEPT (`")?);
                    }
                }
            } else {
                wildcard.replace = self.nested(|parser| {
                    let mut fields = vec![parser.field()?];
                    tall = tall.max(parser.height);
                    while parser.eat(&Tok::Comma) {
                        fields.push(parser.field()?);
                        tall = tall.max(parser.height);
                    }
                    Ok(fields)
                })?;
                self.expect(&Tok::RParen, "or `,` in `REPLACE (`")?;
            }
        }
        self.tower(tall)?;
        Ok(Expr::new(ExprNode::Wildcard(Box::new(wildcard)), self.since(span)))
    }

    /// An expression of operators that bind at least as tightly as `floor`.
    fn climb(&mut self, floor: u8) -> Parsed<Expr> {
        let mut left = self.prefix(floor)?;
        let mut ceiling = u8::MAX;
        loop {
            let tall = self.height;
            if let Some(op) = operator(self.peek()) {
                if level(op) < floor {
                    return Ok(left);
                }
                if level(op) > ceiling {
                    let message = format!("`{}` cannot stand right behind a comparison", op.symbol());
                    let found = Diagnostic::error("K0105", message).at(self.span());
                    return Err(self.stop(found.help("put the comparison into parentheses")));
                }
                self.advance();
                let right = self.climb(level(op) + 1)?;
                self.tower(tall.max(self.height))?;
                let span = left.span.to(right.span);
                left = Expr::new(ExprNode::Binary(op, boxed(left), boxed(right)), span);
            } else if floor <= COMPARE && self.at_predicate() {
                left = self.predicate(left)?;
                // It ends without an operand that a tighter operator could take.
                ceiling = COMPARE;
            } else {
                return Ok(left);
            }
        }
    }

    fn at_predicate(&self) -> bool {
        matches!(self.peek(), Tok::Key(Key::Not | Key::In | Key::Between | Key::Like)) || self.at_word("is")
    }

    /// `[NOT] IN`, `[NOT] BETWEEN`, `[NOT] LIKE`, `IS [NOT] NULL` behind `left`.
    fn predicate(&mut self, left: Expr) -> Parsed<Expr> {
        let tall = self.height;
        let start = left.span;
        let expr = boxed(left);
        if self.eat_word("is") {
            let negated = self.eat_key(Key::Not);
            if !self.eat_word("null") {
                return Err(self.unexpected("`NULL` or `NOT NULL` after `IS`"));
            }
            self.tower(tall)?;
            return Ok(Expr::new(ExprNode::IsNull { expr, negated }, self.since(start)));
        }
        let negated = self.eat_key(Key::Not);
        if self.eat_key(Key::Between) {
            let low = boxed(self.climb(ADD)?);
            let low_tall = self.height;
            self.expect_key(Key::And, "between the bounds of `BETWEEN`")?;
            let high = boxed(self.climb(ADD)?);
            self.tower(tall.max(low_tall).max(self.height))?;
            return Ok(Expr::new(ExprNode::Between { expr, low, high, negated }, self.since(start)));
        }
        if self.eat_key(Key::Like) {
            let pattern = boxed(self.climb(ADD)?);
            self.tower(tall.max(self.height))?;
            return Ok(Expr::new(ExprNode::Like { expr, pattern, negated }, self.since(start)));
        }
        if !self.eat_key(Key::In) {
            return Err(self.unexpected("`IN`, `BETWEEN` or `LIKE` after `NOT`"));
        }
        if self.eat(&Tok::LParen) {
            let list = self.nested(|parser| parser.list(Parser::expr))?;
            self.expect(&Tok::RParen, "or `,` in the list of `IN`")?;
            self.tower(tall.max(self.height))?;
            return Ok(Expr::new(ExprNode::InList { expr, list, negated }, self.since(start)));
        }
        let array = boxed(self.climb(ADD)?);
        self.tower(tall.max(self.height))?;
        Ok(Expr::new(ExprNode::InArray { expr, array, negated }, self.since(start)))
    }

    fn prefix(&mut self, floor: u8) -> Parsed<Expr> {
        let span = self.span();
        match self.peek() {
            Tok::Key(Key::Not) if floor <= NOT => {
                self.advance();
                let of = self.nested(|parser| parser.climb(NOT))?;
                self.tower(self.height)?;
                Ok(Expr::new(ExprNode::Unary(UnaryOp::Not, boxed(of)), self.since(span)))
            }
            Tok::Key(Key::Not) => {
                let found =
                    Diagnostic::error("K0105", "`NOT` cannot stand right behind an operator that binds tighter");
                Err(self.stop(found.at(span).help("put it into parentheses: `(NOT …)`")))
            }
            Tok::Minus => {
                self.advance();
                if let Some(literal) = self.number(true).or_else(|| self.spaced_fraction()) {
                    self.height = 1;
                    let span = self.since(span);
                    return self.postfix(Expr::new(ExprNode::Literal(literal), span));
                }
                let of = self.nested(|parser| parser.prefix(MUL + 1))?;
                self.tower(self.height)?;
                Ok(Expr::new(ExprNode::Unary(UnaryOp::Neg, boxed(of)), self.since(span)))
            }
            Tok::Bang => {
                let found = Diagnostic::error("K0126", "`!` is not an operator").at(span);
                Err(self.stop(found.help("write `NOT`, or `!=` to compare")))
            }
            _ => {
                let operand = self.operand()?;
                self.postfix(operand)
            }
        }
    }

    /// Takes a number if one is next. An integer that is out of range becomes the nearest one that is not.
    pub fn number(&mut self, negative: bool) -> Option<Literal> {
        let literal = match *self.peek() {
            Tok::Int(number) if negative => Literal::Int(0i64.checked_sub_unsigned(number).unwrap_or(i64::MIN)),
            Tok::Int(number) => Literal::Int(i64::try_from(number).unwrap_or(i64::MAX)),
            Tok::Float(number) => Literal::Float(if negative { -number } else { number }),
            _ => return None,
        };
        self.advance();
        Some(literal)
    }

    /// `. 5` behind a minus sign, where eKuiper allows a space behind the point too.
    fn spaced_fraction(&mut self) -> Option<Literal> {
        let (Tok::Dot, Tok::Int(_)) = (self.peek(), self.peek_at(1)) else { return None };
        self.advance();
        let number: f64 = format!(".{}", self.slice(self.span())).parse().ok()?;
        self.advance();
        Some(Literal::Float(-number))
    }

    fn operand(&mut self) -> Parsed<Expr> {
        let span = self.span();
        self.height = 1;
        if let Some(literal) = self.number(false) {
            return Ok(Expr::new(ExprNode::Literal(literal), span));
        }
        let node = match self.peek() {
            Tok::LParen => {
                self.advance();
                let inner = self.nested(Parser::expr)?;
                self.expect(&Tok::RParen, "to close the parenthesis")?;
                self.tower(self.height)?;
                return Ok(Expr::new(ExprNode::Paren(boxed(inner)), self.since(span)));
            }
            Tok::Key(Key::Case) => return self.nested(Parser::case),
            Tok::Word(_) | Tok::Quoted(_) => return self.name(),
            Tok::Text { text, .. } => ExprNode::Literal(Literal::Text(text.clone())),
            Tok::Key(Key::True) => ExprNode::Literal(Literal::Bool(true)),
            Tok::Key(Key::False) => ExprNode::Literal(Literal::Bool(false)),
            Tok::Key(Key::Dd) => ExprNode::Unit(Unit::Day),
            Tok::Key(Key::Hh) => ExprNode::Unit(Unit::Hour),
            Tok::Key(Key::Mi) => ExprNode::Unit(Unit::Minute),
            Tok::Key(Key::Ss) => ExprNode::Unit(Unit::Second),
            Tok::Key(Key::Ms) => ExprNode::Unit(Unit::Millisecond),
            Tok::Star => {
                let found = Diagnostic::error("K0111", "`*` cannot be a part of an expression").at(span);
                return Err(self.stop(found.help("it stands alone in the select list or as an argument")));
            }
            Tok::LBracket => {
                let found = Diagnostic::error("K0120", "expected an expression, found `[`").at(span);
                return Err(self.stop(found.help("an array is made with `array_create(…)`")));
            }
            Tok::Plus => {
                let found = Diagnostic::error("K0105", "a plus sign cannot stand before an operand").at(span);
                return Err(self.stop(found.help("leave it out")));
            }
            Tok::Key(key) if self.is_name_position() => {
                let word = self.slice(span);
                let message = format!("expected an expression, but `{}` is a reserved word", key.text());
                let help = format!("a column of that name needs backticks: `{word}`");
                return Err(self.stop(Diagnostic::error("K0107", message).at(span).help(help)));
            }
            _ => return Err(self.unexpected("an expression")),
        };
        self.advance();
        Ok(Expr::new(node, span))
    }

    /// Whether a reserved word is followed by something that follows a column, so that a column may have been meant.
    fn is_name_position(&self) -> bool {
        let next = self.peek_at(1);
        operator(next).is_some()
            || matches!(
                next,
                Tok::Comma
                    | Tok::Dot
                    | Tok::Arrow
                    | Tok::LBracket
                    | Tok::RParen
                    | Tok::LParen
                    | Tok::End
                    | Tok::Key(Key::From | Key::As)
            )
    }

    /// What starts with a name: a call, NULL, `a`, `a.b`.
    fn name(&mut self) -> Parsed<Expr> {
        let null = self.at_word("null");
        let ident = self.ident("a name")?;
        if *self.peek() == Tok::LParen {
            return self.nested(|parser| parser.call(ident));
        }
        if *self.peek() != Tok::Dot {
            let node = if null { ExprNode::Literal(Literal::Null) } else { ExprNode::Name(ident.name) };
            return Ok(Expr::new(node, ident.span));
        }
        self.advance();
        if *self.peek() == Tok::Star {
            let found = Diagnostic::error("K0111", format!("`{}.*` cannot be a part of an expression", ident.name));
            let span = ident.span.to(self.span());
            return Err(self.stop(found.at(span).help("it stands alone in the select list or as an argument")));
        }
        let member = self.member()?;
        Ok(Expr::new(ExprNode::Dotted(ident.name, member.name), ident.span.to(member.span)))
    }

    fn member(&mut self) -> Parsed<Ident> {
        self.ident("the name of a member")
    }

    fn postfix(&mut self, mut left: Expr) -> Parsed<Expr> {
        loop {
            let tall = self.height;
            let start = left.span;
            let node = match self.peek() {
                Tok::Arrow | Tok::Dot => {
                    self.advance();
                    let member = self.member()?;
                    self.tower(tall)?;
                    ExprNode::Member(boxed(left), member)
                }
                Tok::LBracket => {
                    self.advance();
                    let bracket = self.nested(|parser| parser.bracket(boxed(left)))?;
                    self.tower(tall.max(self.height))?;
                    bracket
                }
                _ => return Ok(left),
            };
            left = Expr::new(node, self.since(start));
        }
    }

    /// What stands behind `[`, and the closing bracket.
    fn bracket(&mut self, of: Box<Expr>) -> Parsed<ExprNode> {
        self.height = 0;
        if self.eat(&Tok::RBracket) {
            return Ok(ExprNode::Slice(of, None, None));
        }
        let from = if *self.peek() == Tok::Colon { None } else { Some(boxed(self.bound()?)) };
        let tall = self.height;
        if let Some(index) = from.clone().filter(|_| self.eat(&Tok::RBracket)) {
            return Ok(ExprNode::Index(of, index));
        }
        if !self.eat(&Tok::Colon) {
            let message = format!("expected `]` or `:` after the index, found {}", self.found());
            return Err(self.stop(Diagnostic::error("K0120", message).at(self.span())));
        }
        let to = if *self.peek() == Tok::RBracket { None } else { Some(boxed(self.bound()?)) };
        self.height = self.height.max(tall);
        self.expect(&Tok::RBracket, "to close the bracket")?;
        Ok(ExprNode::Slice(of, from, to))
    }

    /// An index. One that starts with a negative integer is nothing but that integer.
    fn bound(&mut self) -> Parsed<Expr> {
        let span = self.span();
        if !matches!((self.peek(), self.peek_at(1)), (Tok::Minus, Tok::Int(_))) {
            return self.expr();
        }
        self.advance();
        self.height = 1;
        let Some(literal) = self.number(true) else {
            return Err(self.unexpected("an index"));
        };
        if !matches!(self.peek(), Tok::Colon | Tok::RBracket) {
            let message = format!("expected `]` or `:` after the index, found {}", self.found());
            let found = Diagnostic::error("K0120", message).at(self.span());
            return Err(
                self.stop(found.help("put a computed index that starts with a negative number into parentheses"))
            );
        }
        Ok(Expr::new(ExprNode::Literal(literal), self.since(span)))
    }

    fn case(&mut self) -> Parsed<Expr> {
        let start = self.span();
        self.advance();
        let mut tall = 0;
        let subject = if *self.peek() == Tok::Key(Key::When) { None } else { Some(boxed(self.expr()?)) };
        if subject.is_some() {
            tall = self.height;
        }
        let mut branches = vec![];
        let mut otherwise = None;
        loop {
            let span = self.span();
            if self.eat_key(Key::When) {
                let when = self.expr()?;
                tall = tall.max(self.height);
                if subject.is_none() && is_never_boolean(&when) {
                    let found = Diagnostic::error("K0116", "`WHEN` needs a condition here").at(when.span);
                    self.report(found.help("compare it with something, or write `CASE value WHEN …`"));
                }
                self.expect_key(Key::Then, "after the condition of `WHEN`")?;
                branches.push((when, self.expr()?));
            } else if self.eat_key(Key::Else) {
                if branches.is_empty() {
                    return Err(self.bad_case(span, "expected `WHEN` before `ELSE`"));
                }
                // As in eKuiper the last one counts, and more branches may follow.
                otherwise = Some(boxed(self.expr()?));
            } else if self.eat_key(Key::End) {
                if branches.is_empty() {
                    return Err(self.bad_case(span, "expected `WHEN` before `END`"));
                }
                self.tower(tall)?;
                return Ok(Expr::new(ExprNode::Case { subject, branches, otherwise }, self.since(start)));
            } else {
                let expected = if branches.is_empty() { "`WHEN`" } else { "`WHEN`, `ELSE` or `END`" };
                let message = format!("expected {expected} in `CASE`, found {}", self.found());
                return Err(self.bad_case(span, &message));
            }
            tall = tall.max(self.height);
        }
    }

    fn bad_case(&mut self, span: Span, message: &str) -> super::parser::Stop {
        self.stop(Diagnostic::error("K0116", message).at(span))
    }

    /// The name of the source, column or alias that a wildcard is of, for messages.
    pub fn wildcard_text(of: Option<&Text>) -> String {
        of.map_or_else(|| "*".to_string(), |of| format!("{of}.*"))
    }
}

/// Whether the expression can give no boolean, whatever the row.
fn is_never_boolean(expr: &Expr) -> bool {
    match &expr.bare().node {
        ExprNode::Literal(Literal::Int(_) | Literal::Float(_) | Literal::Text(_)) | ExprNode::Unit(_) => true,
        ExprNode::Unary(UnaryOp::Neg, _) => true,
        ExprNode::Binary(op, ..) => {
            matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem)
        }
        _ => false,
    }
}
