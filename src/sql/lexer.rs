//! Text to tokens. sqlparser splits the text; what the pieces mean is decided here: reserved words, escapes, numbers,
//! and which marks are operators at all. Every token knows its bytes in the text that the user wrote.

use std::borrow::Cow;

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Location, Token as Raw, Tokenizer, TokenizerError, Whitespace};

use super::quote::unquote;
use super::token::{Key, Tok, Token};
use crate::data::Text;
use crate::diag::{Diagnostic, Span};

#[derive(Debug)]
struct Kuiper;

impl Dialect for Kuiper {
    fn is_identifier_start(&self, letter: char) -> bool {
        letter.is_ascii_alphabetic()
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        letter.is_ascii_alphanumeric() || letter == '_'
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        letter == '`'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
}

/// All tokens, with one `End` behind them.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, Vec<Diagnostic>> {
    lex_all(text).map(|(tokens, _)| tokens)
}

/// All tokens, with one `End` behind them, and the places of all comments.
pub(super) fn lex_all(text: &str) -> Result<(Vec<Token>, Vec<Span>), Vec<Diagnostic>> {
    // A NUL ends the text.
    let text = &text[..text.find('\0').unwrap_or(text.len())];
    let marked = mark_signs(text);
    let mut raw = Vec::new();
    let end = Tokenizer::new(&Kuiper, &marked).with_unescape(false).tokenize_with_location_into_buf(&mut raw);
    let mut lexer = Lexer { text, tokens: Vec::with_capacity(raw.len() + 1), comments: vec![], findings: vec![] };
    let mut place = Place { text, line: 1, column: 1, byte: 0 };
    for token in raw {
        let start = place.advance(token.span.start);
        let end = place.advance(token.span.end);
        lexer.take(token.token, Span::new(start, end));
    }
    if let Err(error) = end {
        lexer.broken(&error, place);
    }
    lexer.tokens.push(Token { tok: Tok::End, span: Span::new(text.len(), text.len()) });
    if lexer.findings.is_empty() { Ok((lexer.tokens, lexer.comments)) } else { Err(lexer.findings) }
}

struct Lexer<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    comments: Vec<Span>,
    findings: Vec<Diagnostic>,
}

impl Lexer<'_> {
    fn take(&mut self, raw: Raw, span: Span) {
        let tok = match raw {
            Raw::Whitespace(Whitespace::Space) if self.slice(span) != " " => return self.illegal(span),
            Raw::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                return self.comments.push(span);
            }
            Raw::Whitespace(_) => return,
            Raw::Word(word) if word.quote_style.is_some() => {
                if word.value.contains('`') {
                    return self.find("K0102", "a name in backticks cannot hold a backtick", span);
                }
                Tok::Quoted(word.value.into())
            }
            Raw::Word(word) => {
                if self.touches(span) {
                    return self.number(span);
                }
                match Key::find(&word.value) {
                    Some(key) => Tok::Key(key),
                    None => Tok::Word(word.value.into()),
                }
            }
            Raw::Number(digits, suffix) => {
                if suffix || self.touches(span) {
                    return self.number(span);
                }
                match number(&digits) {
                    Some(tok) => tok,
                    None => return self.number(span),
                }
            }
            Raw::SingleQuotedString(_) | Raw::DoubleQuotedString(_) => return self.string(span),
            Raw::Eq => match self.tokens.last_mut() {
                // White space is allowed inside these.
                Some(token) if matches!(token.tok, Tok::Less | Tok::Greater | Tok::Bang) => {
                    token.tok = match token.tok {
                        Tok::Less => Tok::LessEq,
                        Tok::Greater => Tok::GreaterEq,
                        _ => Tok::NotEq,
                    };
                    token.span = token.span.to(span);
                    return;
                }
                _ => Tok::Eq,
            },
            Raw::Neq => Tok::NotEq,
            Raw::Lt => Tok::Less,
            Raw::LtEq => Tok::LessEq,
            Raw::Gt => Tok::Greater,
            Raw::GtEq => Tok::GreaterEq,
            Raw::Plus => Tok::Plus,
            Raw::Minus => Tok::Minus,
            Raw::Tilde if self.slice(span) == "-" => Tok::Minus,
            Raw::Mul => Tok::Star,
            Raw::Div => Tok::Slash,
            Raw::Mod => Tok::Percent,
            Raw::Ampersand => Tok::Amp,
            Raw::Pipe => Tok::Pipe,
            Raw::Caret => Tok::Caret,
            Raw::Arrow => Tok::Arrow,
            Raw::Period => Tok::Dot,
            Raw::Comma => Tok::Comma,
            Raw::Colon => Tok::Colon,
            Raw::SemiColon => Tok::Semicolon,
            Raw::Sharp => Tok::Hash,
            Raw::ExclamationMark => Tok::Bang,
            Raw::LParen => Tok::LParen,
            Raw::RParen => Tok::RParen,
            Raw::LBracket => Tok::LBracket,
            Raw::RBracket => Tok::RBracket,
            Raw::HexStringLiteral(_) if self.slice(span).starts_with('0') => return self.number(span),
            Raw::NationalStringLiteral(_) | Raw::HexStringLiteral(_) => {
                return self.find("K0102", "a letter stands right before the quote", span);
            }
            Raw::DoubleEq => return self.operator(span, "write `=`"),
            Raw::Overlap => return self.operator(span, "write `AND`"),
            Raw::StringConcat => return self.operator(span, "`concat(a, b)` joins texts, `OR` joins conditions"),
            Raw::Spaceship | Raw::ShiftLeft | Raw::ShiftRight | Raw::LongArrow | Raw::RArrow | Raw::DoubleColon => {
                return self.operator(span, "the operators are + - * / % & | ^ = != <> < <= > >= -> and .");
            }
            _ => return self.illegal(span),
        };
        self.tokens.push(Token { tok, span });
    }

    fn slice(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// Whether a number stands directly before, as in `1.2.3` or `12ab`. Reserved words may follow: `1AND`.
    fn touches(&self, span: Span) -> bool {
        self.tokens.last().is_some_and(|token| {
            token.span.end == span.start
                && matches!(token.tok, Tok::Int(_) | Tok::Float(_))
                && Key::find(self.slice(span)).is_none()
        })
    }

    fn string(&mut self, span: Span) {
        match unquote(self.slice(span)) {
            Ok(text) => {
                let double = self.slice(span).starts_with('"');
                self.tokens.push(Token { tok: Tok::Text { text: Text::from(text), double }, span });
            }
            Err((at, message)) => {
                let start = span.start as usize + at;
                self.find("K0102", message, Span::new(start, (start + 2).min(span.end as usize)));
            }
        }
    }

    fn number(&mut self, span: Span) {
        let span = match self.tokens.last() {
            Some(token) if token.span.end == span.start => token.span.to(span),
            _ => span,
        };
        let message = format!("`{}` is not a number", self.slice(span));
        self.find("K0104", message, span);
    }

    fn operator(&mut self, span: Span, help: &str) {
        let message = format!("`{}` is not an operator", self.slice(span));
        self.findings.push(Diagnostic::error("K0126", message).at(span).help(help));
    }

    fn illegal(&mut self, span: Span) {
        let text = self.slice(span);
        let found = Diagnostic::error("K0101", format!("`{text}` cannot stand here")).at(span);
        let letter = text.chars().next().unwrap_or(' ');
        self.findings.push(if letter == '_' || letter.is_alphanumeric() {
            found.help("a name that does not start with a letter from A to Z, or has others in it, needs backticks")
        } else {
            found
        });
    }

    fn find(&mut self, code: &'static str, message: impl Into<String>, span: Span) {
        self.findings.push(Diagnostic::error(code, message).at(span));
    }

    /// The tokenizer gave up; the token that it stopped in starts at `place`.
    fn broken(&mut self, error: &TokenizerError, mut place: Place<'_>) {
        let start = place.byte;
        let span = Span::new(start, self.text.len());
        match self.text[start..].chars().next() {
            // As in eKuiper, the end of the text closes a backtick.
            Some('`') => {
                let name = Text::from(&self.text[start + 1..]);
                if name.contains('`') {
                    return self.find("K0102", "a name in backticks cannot hold a backtick", span);
                }
                self.tokens.push(Token { tok: Tok::Quoted(name), span });
            }
            Some('"' | '\'') => self.find("K0102", "this text has no closing quote", span),
            Some('/') => self.find("K0103", "this comment has no closing `*/`", span),
            _ => {
                let at = place.advance(error.location).min(self.text.len());
                let width = self.text[at..].chars().next().map_or(0, char::len_utf8);
                self.illegal(Span::new(at, at + width));
            }
        }
    }
}

fn number(digits: &str) -> Option<Tok> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Tok::Int(digits.parse().unwrap_or(u64::MAX)));
    }
    digits.parse().ok().filter(|number: &f64| number.is_finite()).map(Tok::Float)
}

/// A place in the text that moves forward, line and column on one side, bytes on the other.
#[derive(Clone, Copy)]
struct Place<'a> {
    text: &'a str,
    line: u64,
    column: u64,
    byte: usize,
}

impl Place<'_> {
    /// Goes to the location and gives its byte.
    fn advance(&mut self, to: Location) -> usize {
        let mut letters = self.text[self.byte..].chars();
        while (self.line, self.column) < (to.line, to.column) {
            let Some(letter) = letters.next() else { break };
            self.byte += letter.len_utf8();
            if letter == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.byte
    }
}

/// Two dashes start a comment, except where the first follows an operand and the second a digit, without a space on
/// either side: `a--1` subtracts. The second dash is replaced by a tilde there, which no SQL has outside quotes.
fn mark_signs(text: &str) -> Cow<'_, str> {
    if !text.contains("--") {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut signs: Vec<usize> = vec![];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        at += match rest {
            [quote @ (b'"' | b'\'' | b'`'), inside @ ..] => {
                let mut length = 1;
                while let Some(byte) = inside.get(length - 1) {
                    length += 1;
                    if byte == quote {
                        break;
                    }
                    if *byte == b'\\' && *quote != b'`' {
                        length += 1;
                    }
                }
                length
            }
            [b'/', b'*', inside @ ..] => inside.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |n| n + 4),
            [b'-', b'-', after @ ..] => {
                let operand = at.checked_sub(1).map(|before| bytes[before]).is_some_and(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b')' | b']' | b'"' | b'\'' | b'`' | b'.')
                });
                if operand && matches!(after, [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..]) {
                    signs.push(at + 1);
                    2
                } else {
                    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
                }
            }
            _ => 1,
        };
    }
    if signs.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut marked = String::with_capacity(text.len());
    let mut done = 0;
    for sign in signs {
        marked.push_str(&text[done..sign]);
        marked.push('~');
        done = sign + 1;
    }
    marked.push_str(&text[done..]);
    Cow::Owned(marked)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn toks(text: &str) -> Vec<Tok> {
        let mut toks: Vec<Tok> = lex(text).unwrap().into_iter().map(|token| token.tok).collect();
        assert_eq!(toks.pop(), Some(Tok::End));
        toks
    }

    fn code(text: &str) -> (&'static str, Span) {
        let found = lex(text).unwrap_err();
        (found[0].code, found[0].span.unwrap())
    }

    #[test]
    fn words_and_names() {
        let word = |text: &str| Tok::Word(text.into());
        assert_eq!(toks("select Temp t_1"), [Tok::Key(Key::Select), word("Temp"), word("t_1")]);
        assert_eq!(toks("`a.b-ü` ``"), [Tok::Quoted("a.b-ü".into()), Tok::Quoted("".into())]);
        assert_eq!(toks("`open to the end"), [Tok::Quoted("open to the end".into())]);
        assert_eq!(toks("null is distinct"), [word("null"), word("is"), word("distinct")]);
        assert_eq!(toks("a\0 'junk"), [word("a")]);
    }

    #[test]
    fn numbers() {
        assert_eq!(
            toks("12 .5 5. 1e3 2.5E-1"),
            [Tok::Int(12), Tok::Float(0.5), Tok::Float(5.0), Tok::Float(1000.0), Tok::Float(0.25)]
        );
        assert_eq!(toks("99999999999999999999"), [Tok::Int(u64::MAX)]);
        assert_eq!(toks("1AND 2"), [Tok::Int(1), Tok::Key(Key::And), Tok::Int(2)]);
        for (text, end) in [("1.2.3", 5), ("12ab", 4), ("1..2", 4), ("5L", 2), ("1e999", 5)] {
            assert_eq!(code(text), ("K0104", Span::new(0, end)), "{text}");
        }
    }

    #[test]
    fn marks_with_space_inside() {
        assert_eq!(toks("<> != ! = < = > ="), [Tok::NotEq, Tok::NotEq, Tok::NotEq, Tok::LessEq, Tok::GreaterEq]);
        assert_eq!(toks("a->b"), [Tok::Word("a".into()), Tok::Arrow, Tok::Word("b".into())]);
        for text in ["a == b", "a && b", "a || b", "a << b", "a :: b"] {
            assert_eq!(code(text).0, "K0126", "{text}");
        }
    }

    #[test]
    fn comments_and_signs() {
        let (one, two, minus) = (Tok::Int(1), Tok::Int(2), Tok::Minus);
        assert_eq!(toks("2 - -1"), [two.clone(), minus.clone(), minus.clone(), one.clone()]);
        assert_eq!(toks("2--1"), [two.clone(), minus.clone(), minus.clone(), one.clone()]);
        assert_eq!(toks("2 --1\n1"), [two.clone(), one.clone()]);
        assert_eq!(toks("2--it's\n1"), [two.clone(), one.clone()]);
        assert_eq!(toks("2/* -- '*/1 --"), [two.clone(), one.clone()]);
        assert_eq!(toks("'a--1' `b--1`").len(), 2);
        assert_eq!(toks(r#""\"--1" --1"#).len(), 1);
        assert_eq!(code("1 /* open"), ("K0103", Span::new(2, 9)));
    }

    #[test]
    fn places_are_bytes() {
        let tokens = lex("'ü'\n  äb".get(..6).unwrap()).unwrap();
        assert_eq!(tokens[0].span, Span::new(0, 4));
        assert_eq!(code("'ü'\n é"), ("K0101", Span::new(6, 8)));
        assert_eq!(code("a _b"), ("K0101", Span::new(2, 3)));
        assert_eq!(code("a 'b"), ("K0102", Span::new(2, 4)));
        assert_eq!(code("a `b``"), ("K0102", Span::new(2, 6)));
        assert_eq!(code(r#"a "b\q""#), ("K0102", Span::new(4, 6)));
        assert_eq!(code("a\u{a0}b").0, "K0101");
        assert_eq!(lex("é ? $").unwrap_err().len(), 3);
    }
}
