//! What can go wrong, in two kinds that never mix.
//!
//! A [`Diagnostic`] is about text that a user wrote: SQL, a rule, a stream, a setting. Parsing and planning collect
//! them and go on, so that one look shows all. A [`Fault`] is about what happened while running; it says whose fault
//! it is and whether trying again can help, and nothing reads its text to decide.

mod lines;

use std::fmt::{self, Write as _};

pub use lines::LineIndex;

/// A range of bytes in a text, end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Span { start: start as u32, end: end as u32 }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// How bad a finding is. A warning never stops anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// A finding about text that the user wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Stable, for example `K0214`.
    pub code: &'static str,
    pub severity: Severity,
    /// Lower case, no full stop, things in backticks.
    pub message: String,
    pub span: Option<Span>,
    /// How to mend it.
    pub help: Option<String>,
    /// The words by which clients of eKuiper know it; see [`render_known`].
    pub words: Option<Box<str>>,
}

impl Diagnostic {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { code, severity: Severity::Error, message: message.into(), span: None, help: None, words: None }
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the words by which clients of eKuiper know it.
    pub fn known_as(mut self, words: impl Into<Box<str>>) -> Self {
        self.words = Some(words.into());
        self
    }

    /// Adds "did you mean" when one of the candidates is near enough to `name`.
    pub fn suggest<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, candidates) {
            Some(found) => self.help(format!("did you mean `{found}`?")),
            None => self,
        }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding with the line that it is about, and carets under the place.
    pub fn render(&self, origin: &str, text: &str) -> String {
        self.render_in(origin, &LineIndex::new(text))
    }

    /// The same, for many findings in one text.
    pub fn render_in(&self, origin: &str, text: &LineIndex<'_>) -> String {
        let word = if self.is_error() { "error" } else { "warning" };
        self.below(format!("{word}[{}]: {}", self.code, self.message), origin, text)
    }

    /// The finding as programs read it; without a place it has no line and no column.
    pub fn to_json(&self, text: &LineIndex<'_>) -> serde_json::Map<String, serde_json::Value> {
        let place = self.span.map(|span| text.position(span.start as usize));
        let made = serde_json::json!({
            "line": place.map(|(line, _)| line),
            "column": place.map(|(_, column)| column),
            "code": self.code,
            "severity": if self.is_error() { "error" } else { "warning" },
            "message": self.message,
            "help": self.help,
        });
        if let serde_json::Value::Object(made) = made { made } else { serde_json::Map::new() }
    }

    /// The place and the remedy under a first line.
    fn below(&self, mut out: String, origin: &str, text: &LineIndex<'_>) -> String {
        let Some(span) = self.span else {
            if let Some(help) = &self.help {
                let _ = write!(out, "\n  {help}");
            }
            return out;
        };
        let (number, column) = text.position(span.start as usize);
        let gutter = " ".repeat(number.to_string().len());
        let _ = write!(out, "\n{gutter}--> {origin}:{number}:{column}");
        let (line, column, width) = part(text, span);
        let _ = write!(out, "\n{gutter} |\n{number} | {line}");
        let _ = write!(out, "\n{gutter} | {}{}", " ".repeat(column), "^".repeat(width));
        if let Some(help) = &self.help {
            let _ = write!(out, " {help}");
        }
        out
    }
}

/// The line around a place, the column in it (from 0) and the width of what it is about; the part of a long line around it,
/// so that line and carets stay below each other on a terminal.
fn part(text: &LineIndex<'_>, span: Span) -> (String, usize, usize) {
    const WIDTH: usize = 100;
    let line = text.line(span.start as usize);
    let at = text.place(span.start as usize).min(line.end);
    let end = text.place(span.end as usize).clamp(at, line.end);
    let (letters, column, width) = (text.count(line.clone()), text.count(line.start..at), text.count(at..end).max(1));
    let plain = |shown: &str| shown.replace('\t', " ");
    if letters <= WIDTH {
        return (plain(text.slice(line)), column, width);
    }
    // The place stands in the middle, or begins the part where it is itself too long.
    let start = column.saturating_sub(WIDTH.saturating_sub(width) / 2).min(letters - WIDTH);
    let back = text.slice(line.start..at).char_indices().rev().take(column - start).last();
    let from = back.map_or(at, |(byte, _)| line.start + byte);
    let mut shown = plain(&text.slice(from..line.end).chars().take(WIDTH).collect::<String>());
    let end = start + WIDTH;
    let width = width.min(end - column.min(end)).max(1);
    if end < letters {
        shown.push_str(" …");
    }
    match start {
        0 => (shown, column, width),
        _ => (format!("… {shown}"), column - start + 2, width),
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// All findings, one paragraph each.
pub fn render_all(findings: &[Diagnostic], origin: &str, text: &str) -> String {
    let text = LineIndex::new(text);
    findings.iter().map(|finding| finding.render_in(origin, &text)).collect::<Vec<_>>().join("\n")
}

/// The same for clients of eKuiper: what they know by its words stands first and begins with them.
pub fn render_known(findings: &[Diagnostic], origin: &str, text: &str) -> String {
    let text = LineIndex::new(text);
    let mut sorted: Vec<&Diagnostic> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.words.is_none());
    let one = |finding: &&Diagnostic| match &finding.words {
        Some(words) => finding.below(format!("{words} [{}]", finding.code), origin, &text),
        None => finding.render_in(origin, &text),
    };
    sorted.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// The candidate that a person most likely meant, case apart. The shorter of the two names, the fewer letters may differ,
/// so that of names that have little in common none is offered.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let near = |candidate: &'a str| {
        let letters: Vec<char> = candidate.to_lowercase().chars().collect();
        let limit = match wanted.len().min(letters.len()) {
            0 | 1 => 0,
            // One letter too many or too few.
            2 => usize::from(wanted.starts_with(&letters) || letters.starts_with(&wanted)),
            3..=5 => 1,
            6..=8 => 2,
            _ => 3,
        };
        if wanted.len().abs_diff(letters.len()) > limit {
            return None;
        }
        let distance = distance(&wanted, &letters);
        (distance <= limit).then_some((distance, candidate))
    };
    candidates.into_iter().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Edits between two texts: insert, delete, replace, swap of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// What the system says of a failure, as the end of a sentence: without numbers, and its first letter small.
pub fn words(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    match letters.clone().next() {
        // An abbreviation stays as it is.
        Some(second) if second.is_uppercase() => text.to_owned(),
        _ => first + letters.as_str(),
    }
}

/// Who has to act on a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The row: it goes to the error route, the rule goes on.
    Row,
    /// The world outside: a broker, a database, a disk.
    Outside,
    /// We: a bug.
    Ours,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    Later,
}

/// What happened while running.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are not what the format says.
    #[error("{0}")]
    Decode(Box<str>),
    /// An expression that this row cannot be put through.
    #[error("{0}")]
    Eval(Box<str>),
    /// A result that the format cannot carry.
    #[error("{0}")]
    Encode(Box<str>),
    /// The other side is there and will never take this: a constraint, a type, a size.
    #[error("{0}")]
    Refused(Box<str>),
    /// The other side is away, busy or unreachable.
    #[error("{0}")]
    Unreachable(Box<str>),
    /// A setting that cannot work: a missing property, a wrong password.
    #[error("{0}")]
    Setup(Box<str>),
    /// Something that must not happen.
    #[error("{0}; this is a bug, please report it")]
    Bug(Box<str>),
}

impl Fault {
    pub fn decode(text: impl Into<String>) -> Self {
        Fault::Decode(text.into().into())
    }
    pub fn eval(text: impl Into<String>) -> Self {
        Fault::Eval(text.into().into())
    }
    pub fn encode(text: impl Into<String>) -> Self {
        Fault::Encode(text.into().into())
    }
    pub fn refused(text: impl Into<String>) -> Self {
        Fault::Refused(text.into().into())
    }
    pub fn unreachable(text: impl Into<String>) -> Self {
        Fault::Unreachable(text.into().into())
    }
    pub fn setup(text: impl Into<String>) -> Self {
        Fault::Setup(text.into().into())
    }
    pub fn bug(text: impl Into<String>) -> Self {
        Fault::Bug(text.into().into())
    }

    pub fn whose(&self) -> Whose {
        match self {
            Fault::Decode(_) | Fault::Eval(_) | Fault::Encode(_) | Fault::Refused(_) => Whose::Row,
            Fault::Unreachable(_) | Fault::Setup(_) => Whose::Outside,
            Fault::Bug(_) => Whose::Ours,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Fault::Unreachable(_) => Retry::Later,
            _ => Retry::Never,
        }
    }

    /// The reason under which the ledger counts a row that met this fault as dead.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Decode(_) => "decode",
            Fault::Eval(_) => "eval",
            Fault::Encode(_) => "encode",
            Fault::Refused(_) => "refused",
            Fault::Unreachable(_) => "unreachable",
            Fault::Setup(_) => "setup",
            Fault::Bug(_) => "bug",
        }
    }

    /// The same fault with words in front of its text.
    pub fn context(self, before: impl fmt::Display) -> Self {
        let add = |text: Box<str>| -> Box<str> { format!("{before}{text}").into() };
        match self {
            Fault::Decode(text) => Fault::Decode(add(text)),
            Fault::Eval(text) => Fault::Eval(add(text)),
            Fault::Encode(text) => Fault::Encode(add(text)),
            Fault::Refused(text) => Fault::Refused(add(text)),
            Fault::Unreachable(text) => Fault::Unreachable(add(text)),
            Fault::Setup(text) => Fault::Setup(add(text)),
            Fault::Bug(text) => Fault::Bug(add(text)),
        }
    }
}

/// What running code returns.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_line_with_carets() {
        let sql = "SELECT a\nFROM demo\nWHERE temprature > 30";
        let found = Diagnostic::error("K0214", "stream `demo` has no column `temprature`")
            .at(Span::new(25, 35))
            .suggest("temprature", ["humidity", "temperature"]);
        assert_eq!(
            found.render("rule.sql", sql),
            "error[K0214]: stream `demo` has no column `temprature`\n --> rule.sql:3:7\n  |\n3 | WHERE temprature > 30\n  |       ^^^^^^^^^^ did you mean `temperature`?"
        );
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let line = format!("{}{}", "0123456789".repeat(30), "x");
        for (at, width) in [(0, 3), (5, 1), (150, 4), (297, 3), (301, 0), (10, 280), (40, 60)] {
            let (shown, column, carets) = part(&LineIndex::new(&line), Span::new(at, at + width));
            assert!(shown.chars().count() <= 104, "{shown}");
            let marked: String = shown.chars().skip(column).take(carets).collect();
            let meant: String = line.chars().skip(at).take(carets).collect();
            assert_eq!(marked, meant, "{at} {width}: {shown}");
            assert!(carets == width.max(1) || width > 100, "{at} {width}: {carets}");
        }
        let short = |text: &str| part(&LineIndex::new(text), Span::new(2, 3));
        assert_eq!(short("short"), ("short".to_owned(), 2, 1));
        assert_eq!(short("a\t\r\n"), ("a ".to_owned(), 2, 1));
    }

    #[test]
    fn what_clients_know_begins_with_its_words() {
        let sql = "SELECT a FROM b";
        let own = Diagnostic::error("K0001", "this is ours").help("mend it");
        let known = Diagnostic::error("K0002", "there is no `b`").at(Span::new(14, 15)).known_as("b is gone");
        assert_eq!(
            render_known(&[own, known], "sql", sql),
            "b is gone [K0002]\n --> sql:1:15\n  |\n1 | SELECT a FROM b\n  |               ^\nerror[K0001]: this is ours\n  mend it"
        );
    }

    #[test]
    fn the_words_of_the_system_end_a_sentence() {
        let say = |text: &str| words(&std::io::Error::other(text.to_owned()));
        assert_eq!(say("No such file (os error 2)"), "no such file");
        assert_eq!(say("URL scheme is not allowed"), "URL scheme is not allowed");
        assert_eq!(say(""), "");
    }

    #[test]
    fn nearest_refuses_what_is_far() {
        assert_eq!(nearest("lenght", ["length", "lower"]), Some("length"));
        assert_eq!(nearest("xyzzy", ["length", "lower"]), None);
        assert_eq!(nearest("a", ["b", "c"]), None);
        assert_eq!(nearest("ts", ["id", "tx", "v"]), None);
        assert_eq!(nearest("ids", ["v", "id"]), Some("id"));
        assert_eq!(nearest("ID", ["id"]), Some("id"));
        assert_eq!(nearest("basic.foo", ["basic.ip", "basic.logLevel"]), None);
        assert_eq!(nearest("basic.logLevl", ["basic.ip", "basic.logLevel"]), Some("basic.logLevel"));
        assert_eq!(nearest("mqqt", ["mqtt", "memory"]), Some("mqtt"));
    }
}
