//! What the lexer hands to the parser: a token with its place, and the reserved words.

use crate::data::Text;
use crate::diag::Span;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub tok: Tok,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tok {
    /// A bare word that is not reserved. Words like NULL, IS, CREATE and the options are such words.
    Word(Text),
    /// A name in backticks, without them.
    Quoted(Text),
    Key(Key),
    /// Out of range: the largest. The sign is a token of its own.
    Int(u64),
    Float(f64),
    /// Escapes resolved. `double`: written in double quotes.
    Text {
        text: Text,
        double: bool,
    },
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Amp,
    Pipe,
    Caret,
    Arrow,
    Dot,
    Comma,
    Colon,
    Semicolon,
    Hash,
    Bang,
    LParen,
    RParen,
    LBracket,
    RBracket,
    End,
}

impl Tok {
    /// The text of a mark; words and literals have none.
    pub fn symbol(&self) -> &'static str {
        match self {
            Tok::Word(_) | Tok::Quoted(_) | Tok::Int(_) | Tok::Float(_) | Tok::Text { .. } | Tok::End => "",
            Tok::Key(key) => key.text(),
            Tok::Eq => "=",
            Tok::NotEq => "!=",
            Tok::Less => "<",
            Tok::LessEq => "<=",
            Tok::Greater => ">",
            Tok::GreaterEq => ">=",
            Tok::Plus => "+",
            Tok::Minus => "-",
            Tok::Star => "*",
            Tok::Slash => "/",
            Tok::Percent => "%",
            Tok::Amp => "&",
            Tok::Pipe => "|",
            Tok::Caret => "^",
            Tok::Arrow => "->",
            Tok::Dot => ".",
            Tok::Comma => ",",
            Tok::Colon => ":",
            Tok::Semicolon => ";",
            Tok::Hash => "#",
            Tok::Bang => "!",
            Tok::LParen => "(",
            Tok::RParen => ")",
            Tok::LBracket => "[",
            Tok::RBracket => "]",
        }
    }
}

macro_rules! keys {
    ($($key:ident = $text:literal,)*) => {
        /// A word that needs backticks to be a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Key { $($key,)* }

        impl Key {
            pub fn text(self) -> &'static str {
                match self { $(Key::$key => $text,)* }
            }

            pub fn find(word: &str) -> Option<Key> {
                $(if word.eq_ignore_ascii_case($text) { return Some(Key::$key); })*
                None
            }
        }
    };
}

keys! {
    Select = "SELECT",
    As = "AS",
    From = "FROM",
    Where = "WHERE",
    And = "AND",
    Or = "OR",
    Group = "GROUP",
    Having = "HAVING",
    Order = "ORDER",
    By = "BY",
    Desc = "DESC",
    Asc = "ASC",
    Filter = "FILTER",
    Inner = "INNER",
    Left = "LEFT",
    Right = "RIGHT",
    Full = "FULL",
    Cross = "CROSS",
    Join = "JOIN",
    On = "ON",
    Case = "CASE",
    When = "WHEN",
    Then = "THEN",
    Default = "DEFAULT",
    Else = "ELSE",
    End = "END",
    In = "IN",
    Not = "NOT",
    Between = "BETWEEN",
    Like = "LIKE",
    Over = "OVER",
    Partition = "PARTITION",
    Replace = "REPLACE",
    Except = "EXCEPT",
    Invisible = "INVISIBLE",
    True = "TRUE",
    False = "FALSE",
    Limit = "LIMIT",
    Dd = "DD",
    Hh = "HH",
    Mi = "MI",
    Ss = "SS",
    Ms = "MS",
}

/// Whether the name can stand in SQL without backticks wherever a name can stand.
pub(super) fn is_plain(name: &str) -> bool {
    name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && Key::find(name).is_none()
        && !["NULL", "DISTINCT", "OUTER"].iter().any(|word| name.eq_ignore_ascii_case(word))
}
