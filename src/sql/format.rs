//! A text with any number of statements in the style of the house. Comments between statements stay where they are; a
//! statement that holds one is left as it was written, and so is one that prints less than it says.

use std::fmt::Write as _;
use std::ops::Range;

use super::ast::Statement;
use super::layout::print_statement;
use super::lexer::lex_all;
use super::parser::Parser;
use super::token::{Tok, Token};
use crate::diag::{Diagnostic, Span};

/// Where a statement may be broken into lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Where it is too long for one.
    Many,
    /// Nowhere.
    One,
}

/// What came of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Formatted {
    pub text: String,
    /// Statements that were left as they are, and why.
    pub left: Vec<Diagnostic>,
}

/// The statements of a text in the style of the house, with semicolons and comments where they were.
///
/// # Errors
/// What is wrong with the statements, each finding with its place in the text.
pub fn format(text: &str, lines: Lines) -> Result<Formatted, Vec<Diagnostic>> {
    let (tokens, comments) = lex_all(text)?;
    let (mut found, mut left) = (vec![], vec![]);
    let mut out = Out { source: text, lines, text: String::with_capacity(text.len()), done: 0, ends_line: false };
    let mut pending = comments.iter().copied().peekable();
    for Piece { span, ended, .. } in pieces(&tokens) {
        while let Some(comment) = pending.next_if(|comment| comment.start < span.start) {
            out.add(comment, slice(text, comment).trim_end());
        }
        let mut inside = 0;
        while pending.next_if(|comment| comment.start < span.end).is_some() {
            inside += 1;
        }
        let source = slice(text, span);
        let new = match one(source, lines) {
            Ok(new) if inside == 0 => new,
            Ok(_) => Err("a comment stands in it".to_string()),
            Err(wrong) => {
                found.extend(wrong.into_iter().map(|one| shifted(one, span.start)));
                continue;
            }
        };
        let new = new.unwrap_or_else(|why| {
            left.push(Diagnostic::warning("K0130", format!("this statement is left as it is: {why}")).at(span));
            source.to_string()
        });
        out.add(span, &new);
        if let Some(ended) = ended {
            out.text.push(';');
            out.done = ended as usize;
        }
    }
    for comment in pending {
        out.add(comment, slice(text, comment).trim_end());
    }
    let mut text = out.text;
    if lines == Lines::Many && !text.is_empty() {
        text.push('\n');
    }
    if found.is_empty() { Ok(Formatted { text, left }) } else { Err(found) }
}

/// All statements of a text, which are divided by semicolons, with places in that text.
///
/// # Errors
/// Outside: what makes the text unreadable as a whole, such as a quote without its end. Inside: what is wrong with one.
pub fn parse_all(text: &str) -> Result<Vec<Result<Statement, Vec<Diagnostic>>>, Vec<Diagnostic>> {
    let (tokens, _) = lex_all(text)?;
    let one = |piece: Piece| {
        let end = Span { start: piece.span.end, end: piece.span.end };
        let mut own = tokens[piece.tokens].to_vec();
        own.push(Token { tok: Tok::End, span: end });
        Parser::run_over(text, own, |parser| parser.statement())
    };
    Ok(pieces(&tokens).into_iter().map(one).collect())
}

/// What is written, and how far it has come in the source.
struct Out<'a> {
    source: &'a str,
    lines: Lines,
    text: String,
    done: usize,
    /// The last line ends with a comment that goes to its end.
    ends_line: bool,
}

impl Out<'_> {
    /// Adds what stands at `span` in the source behind what is there, as far from it as it was: at most one blank line.
    fn add(&mut self, span: Span, new: &str) {
        let gap = self.source.get(self.done..span.start as usize).unwrap_or_default().matches('\n').count();
        // A comment to the end of its line needs that end, whoever follows.
        let gap = if self.done > 0 && self.source[..self.done].ends_with('\n') { gap + 1 } else { gap };
        if !self.text.is_empty() {
            self.text.push_str(match (gap, self.lines) {
                (0, Lines::Many) if self.text.ends_with(';') && !is_comment(new) => "\n",
                (0, _) if !self.ends_line => " ",
                (0 | 1, _) => "\n",
                _ => "\n\n",
            });
        }
        self.text.push_str(new);
        self.done = span.end as usize;
        self.ends_line = new.starts_with("--");
    }
}

fn is_comment(text: &str) -> bool {
    text.starts_with("--") || text.starts_with("/*")
}

fn slice(text: &str, span: Span) -> &str {
    text.get(span.start as usize..span.end as usize).unwrap_or_default()
}

fn shifted(mut found: Diagnostic, by: u32) -> Diagnostic {
    found.span = found.span.map(|span| Span { start: span.start + by, end: span.end + by });
    found
}

/// A statement in a text.
struct Piece {
    span: Span,
    /// Where the semicolon behind it ends.
    ended: Option<u32>,
    tokens: Range<usize>,
}

fn pieces(tokens: &[Token]) -> Vec<Piece> {
    let mut all = vec![];
    let mut open: Option<Piece> = None;
    for (at, token) in tokens.iter().enumerate() {
        match token.tok {
            Tok::Semicolon => {
                // Several in a row are as good as one.
                all.extend(open.take().map(|piece| Piece { ended: Some(token.span.end), ..piece }));
            }
            Tok::End => all.extend(open.take()),
            _ => {
                let piece = open.get_or_insert(Piece { span: token.span, ended: None, tokens: at..at });
                piece.span = piece.span.to(token.span);
                piece.tokens.end = at + 1;
            }
        }
    }
    all
}

/// One statement without its semicolon; or, within, why it must not be touched.
fn one(source: &str, lines: Lines) -> Result<Result<String, String>, Vec<Diagnostic>> {
    let statement = super::parse(source)?;
    if let Statement::Drop(..) | Statement::Describe(..) | Statement::Explain(..) = statement {
        // Word, kind, name, end.
        let (tokens, _) = lex_all(source)?;
        if tokens.len() > 4 {
            return Ok(Err("something stands behind the name".into()));
        }
    }
    let printed = match lines {
        Lines::Many => print_statement(&statement),
        Lines::One => statement.to_string(),
    };
    // A printer that lost something would change what a rule does.
    match super::parse(&printed) {
        Ok(again) if again.to_string() == statement.to_string() => Ok(Ok(printed)),
        _ => {
            let mut why = String::from("it would not read the same");
            let _ = write!(why, " as `{}`", printed.replace('\n', " "));
            Ok(Err(why))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn many(text: &str) -> String {
        let made = format(text, Lines::Many).unwrap();
        let again = format(&made.text, Lines::Many).unwrap();
        assert_eq!(again.text, made.text, "formatting twice changes what formatting once made");
        made.text
    }

    #[test]
    fn comments_between_statements_stay() {
        let text = "-- streams\ncreate stream s() with ( datasource='x' )";
        assert_eq!(format(text, Lines::Many).unwrap_err()[0].span, Some(Span::new(47, 50)));
        assert_eq!(
            many("-- one\n/* two */ select a from s ;-- three\n\n\n\n  -- four\nselect b from s;;\nshow streams"),
            "-- one\n/* two */ SELECT a FROM s; -- three\n\n-- four\nSELECT b FROM s;\nSHOW STREAMS\n"
        );
        assert_eq!(many(" -- nothing else "), "-- nothing else\n");
        assert_eq!(many(""), "");
    }

    #[test]
    fn a_statement_with_a_comment_in_it_is_left() {
        let made = format("select a -- why\nfrom s; select  b from s", Lines::Many).unwrap();
        assert_eq!(made.text, "select a -- why\nfrom s;\nSELECT b FROM s\n");
        assert_eq!(made.left.len(), 1);
        assert_eq!(made.left[0].span, Some(Span::new(0, 22)));
        let made = format("drop stream s and more", Lines::Many).unwrap();
        assert_eq!((made.text.as_str(), made.left.len()), ("drop stream s and more\n", 1));
    }

    #[test]
    fn all_mistakes_are_told_with_their_places() {
        let found = format("select a from s;\nselect from s;\nselect b from s where", Lines::Many).unwrap_err();
        let places: Vec<u32> = found.iter().map(|one| one.span.unwrap().start).collect();
        assert_eq!(places, [24, 53]);
    }

    /// Each statement is read from its own tokens, wherever it stands, and knows its place in the whole.
    #[test]
    fn statements_are_read_where_they_stand() {
        let text = "; select 'ü;' AS a from s;;\n/* ; */ select from s; -- ;\ndrop stream s; select b\nfrom s;";
        let all = parse_all(text).unwrap();
        let shown: Vec<String> =
            all.iter().map(|one| one.as_ref().map_or_else(|_| "?".into(), ToString::to_string)).collect();
        assert_eq!(shown, ["SELECT \"ü;\" AS a FROM s", "?", "DROP STREAM s", "SELECT b FROM s"]);
        let wrong = all[1].as_ref().unwrap_err()[0].span.unwrap();
        assert_eq!(&text[wrong.start as usize..], "from s; -- ;\ndrop stream s; select b\nfrom s;");
        let Ok(Statement::Select(last)) = &all[3] else { unreachable!() };
        assert_eq!(slice(text, last.span), "select b\nfrom s");
        assert_eq!(slice(text, last.from.name.span), "s");
        let found = parse_all("select a from s; select b from").unwrap()[1].clone().unwrap_err();
        assert_eq!(found[0].span, Some(Span::new(30, 30)), "what is missing is missing at the end of its statement");
        assert!(parse_all("select a from s; select 'b").is_err());
    }

    #[test]
    fn one_line_stays_one() {
        let long = format!("select {} from s", vec!["temperature"; 20].join(", "));
        assert!(!format(&long, Lines::One).unwrap().text.contains('\n'));
        assert!(format(&long, Lines::Many).unwrap().text.contains("SELECT\n    temperature,\n"));
    }
}
