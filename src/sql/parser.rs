//! The cursor over the tokens that all parts of the grammar share, and how they report what is wrong.
//!
//! A finding is recorded where it is met. If the text can still be understood, parsing goes on as if nothing had been;
//! if not, [`Stop`] ends the clause, and the next clause is looked for, so that one look finds more than one mistake.

use super::ast::{Expr, Ident};
use super::lexer::lex;
use super::token::{Key, Tok, Token};
use crate::diag::{Diagnostic, Span};

/// How deep parentheses, calls, CASE and their like may be nested.
const NESTING: u32 = 128;
/// How high a tree may get; a chain of operators grows one level with each.
const HEIGHT: u32 = 512;

/// The finding has been recorded; what was being read is given up.
pub(super) struct Stop;

pub(super) type Parsed<T> = Result<T, Stop>;

pub(super) struct Parser<'a> {
    pub text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    pub findings: Vec<Diagnostic>,
    nesting: u32,
    /// Of the expression that was read last.
    pub height: u32,
    /// Inside the parentheses of `meta` or `mqtt`.
    pub in_meta: bool,
}

impl<'a> Parser<'a> {
    pub fn run<T>(text: &'a str, grammar: impl FnOnce(&mut Parser<'a>) -> Parsed<T>) -> Result<T, Vec<Diagnostic>> {
        Parser::run_over(text, lex(text)?, grammar)
    }

    /// Reads what these tokens of the text say; the last is `End`.
    pub fn run_over<T>(
        text: &'a str,
        tokens: Vec<Token>,
        grammar: impl FnOnce(&mut Parser<'a>) -> Parsed<T>,
    ) -> Result<T, Vec<Diagnostic>> {
        let mut parser = Parser { text, tokens, at: 0, findings: vec![], nesting: 0, height: 0, in_meta: false };
        match grammar(&mut parser) {
            Ok(found) if parser.findings.is_empty() => Ok(found),
            _ => Err(parser.findings),
        }
    }

    pub fn peek(&self) -> &Tok {
        self.peek_at(0)
    }

    pub fn peek_at(&self, ahead: usize) -> &Tok {
        self.tokens.get(self.at + ahead).map_or(&Tok::End, |token| &token.tok)
    }

    /// The place of the next token.
    pub fn span(&self) -> Span {
        self.tokens.get(self.at).map_or(Span::new(self.text.len(), self.text.len()), |token| token.span)
    }

    /// From `start` to the end of the token that was taken last.
    pub fn since(&self, start: Span) -> Span {
        match self.at.checked_sub(1).and_then(|last| self.tokens.get(last)) {
            Some(token) if token.span.end > start.start => start.to(token.span),
            _ => start,
        }
    }

    /// Whether nothing stands between the last token and the next.
    pub fn touches(&self) -> bool {
        self.at
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
            .is_some_and(|last| last.span.end == self.span().start)
    }

    pub fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    pub fn eat(&mut self, tok: &Tok) -> bool {
        let found = self.peek() == tok;
        if found {
            self.advance();
        }
        found
    }

    pub fn eat_key(&mut self, key: Key) -> bool {
        self.eat(&Tok::Key(key))
    }

    /// Whether the next token is this word, which is not reserved, in any case.
    pub fn at_word(&self, word: &str) -> bool {
        self.word_at(0, word)
    }

    pub fn word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Tok::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    /// Takes the token, or stops. `after` says where it is missing, for example ``after `OVER` ``.
    pub fn expect(&mut self, tok: &Tok, after: &str) -> Parsed<()> {
        if self.eat(tok) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{}` {after}", tok.symbol())))
    }

    pub fn expect_key(&mut self, key: Key, after: &str) -> Parsed<()> {
        self.expect(&Tok::Key(key), after)
    }

    /// A name; `what` says of what.
    pub fn ident(&mut self, what: &str) -> Parsed<Ident> {
        let span = self.span();
        let name = match self.peek() {
            Tok::Word(name) | Tok::Quoted(name) => name.clone(),
            Tok::Key(_) => {
                let word = self.slice(span);
                let message = format!("expected {what}, but `{word}` is a reserved word");
                let help = format!("write it in backticks: `{word}`");
                return Err(self.stop(Diagnostic::error("K0107", message).at(span).help(help)));
            }
            _ => return Err(self.unexpected(what)),
        };
        self.advance();
        Ok(Ident { name, span })
    }

    pub fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The next token as a message names it.
    pub fn found(&self) -> String {
        if *self.peek() == Tok::End {
            return "the end of the text".into();
        }
        let text = self.slice(self.span());
        match text.char_indices().nth(40) {
            Some((cut, _)) => format!("`{}…`", &text[..cut]),
            None => format!("`{text}`"),
        }
    }

    pub fn report(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    pub fn stop(&mut self, finding: Diagnostic) -> Stop {
        self.findings.push(finding);
        Stop
    }

    pub fn unexpected(&mut self, expected: &str) -> Stop {
        let finding = Diagnostic::error("K0105", format!("expected {expected}, found {}", self.found()));
        self.stop(finding.at(self.span()))
    }

    /// Runs `inner` one level deeper.
    pub fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting == NESTING {
            return Err(self.too_deep());
        }
        self.nesting += 1;
        let found = inner(self);
        self.nesting -= 1;
        found
    }

    fn too_deep(&mut self) -> Stop {
        let message = format!("nested too deeply: at most {NESTING} levels, and {HEIGHT} operators in a row");
        let finding = Diagnostic::error("K0106", message).at(self.span());
        self.stop(finding.help("put a part of it into an alias, or write `x IN (…)` for many comparisons"))
    }

    /// Notes that a node was put on top of parts of which the highest has this height.
    pub fn tower(&mut self, parts: u32) -> Parsed<()> {
        if parts >= HEIGHT {
            return Err(self.too_deep());
        }
        self.height = parts + 1;
        Ok(())
    }

    /// Reads a list with commas between; at least one.
    pub fn list(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<Expr>) -> Parsed<Vec<Expr>> {
        let mut found = vec![item(self)?];
        let mut tall = self.height;
        while self.eat(&Tok::Comma) {
            found.push(item(self)?);
            tall = tall.max(self.height);
        }
        self.height = tall;
        Ok(found)
    }

    /// After a mistake: goes forward to a token that `stops` knows, outside of parentheses that open on the way.
    pub fn recover(&mut self, stops: impl Fn(&Tok) -> bool) {
        let mut open = 0u32;
        self.in_meta = false;
        while *self.peek() != Tok::End && !(open == 0 && stops(self.peek())) {
            match self.peek() {
                Tok::LParen | Tok::LBracket => open += 1,
                Tok::RParen | Tok::RBracket => open = open.saturating_sub(1),
                _ => {}
            }
            self.advance();
        }
    }

    /// Semicolons, then nothing.
    pub fn finish(&mut self, after: &str) -> Parsed<()> {
        while self.eat(&Tok::Semicolon) {}
        if *self.peek() == Tok::End {
            return Ok(());
        }
        let finding = Diagnostic::error("K0108", format!("expected the end {after}, found {}", self.found()));
        Err(self.stop(finding.at(self.span())))
    }
}
