//! Properties of the lexer, the parser, the printer and the planner, over every statement of the cases, over changed ones,
//! over any text and over generated trees. Each is seeded, so a failure comes again; `SQL_ROUNDS` sets how many rounds each
//! is tried.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "sql/tree.rs"]
mod tree;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use kuiper::func::Catalogue;
use kuiper::plan::{self, SourceKind, Stream};
use kuiper::sql::{self, Lines, Select, Statement, What};
use regex::Regex;

use tree::{same, tree};

/// No statement of the length that is tried here may take longer to be read and planned.
const PATIENCE: Duration = Duration::from_secs(30);

fn rounds(default: usize) -> usize {
    std::env::var("SQL_ROUNDS").map_or(default, |text| text.parse().expect("SQL_ROUNDS is a number"))
}

/// Numbers that look like chance and are the same every time.
pub struct Chance(u64);

impl Chance {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn word(&mut self, of: &'static [&'static str]) -> &'static str {
        of[self.below(of.len())]
    }

    pub fn maybe(&mut self) -> bool {
        self.below(2) == 0
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Every statement that stands in a case, refused ones too.
fn statements() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![];
    for folder in ["tests/cases", "rules"] {
        files(&root.join(folder), &mut paths);
    }
    paths.sort();
    let mut found = vec![];
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        match path.extension().and_then(|end| end.to_str()) {
            Some("txt") => found.extend(text.lines().map(|line| {
                match serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
                    serde_json::Value::Array(parts) => parts[0].as_str().unwrap().to_string(),
                    whole => whole.as_str().unwrap().to_string(),
                }
            })),
            Some("yaml") => {
                for document in serde_yaml::Deserializer::from_str(&text) {
                    let tree: serde_json::Value = serde::Deserialize::deserialize(document).unwrap();
                    collect(&tree, &mut found);
                }
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

fn collect(tree: &serde_json::Value, found: &mut Vec<String>) {
    match tree {
        serde_json::Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("sql" | "statement", serde_json::Value::String(text)) => found.push(text.clone()),
                    ("streams", serde_json::Value::Array(texts)) => {
                        found.extend(texts.iter().filter_map(|text| Some(text.as_str()?.to_string())));
                    }
                    _ => collect(value, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// A tree without its places.
fn shape(statement: &Statement) -> String {
    static PLACES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"Span \{ start: \d+, end: \d+ \}").unwrap());
    PLACES.replace_all(&format!("{statement:?}"), "_").into_owned()
}

/// What is printed must read as the same tree, on one line and on several, and be printed alike again.
fn prints_the_same(text: &str, tree: &Statement) {
    let expected = shape(tree);
    for printed in [sql::print_statement(tree), tree.to_string()] {
        let again = sql::parse(&printed).unwrap_or_else(|found| panic!("{text}\nprinted as\n{printed}\n{found:?}"));
        assert_eq!(shape(&again), expected, "{text}\nprinted as\n{printed}");
        assert_eq!(sql::print_statement(&again), sql::print_statement(tree), "{text}");
    }
}

fn formats_the_same(text: &str) {
    for lines in [Lines::Many, Lines::One] {
        let Ok(made) = sql::format(text, lines) else { continue };
        let again = sql::format(&made.text, lines).unwrap_or_else(|found| panic!("{text}\n{}\n{found:?}", made.text));
        assert_eq!(again.text, made.text, "formatted twice: {text}");
        let comments = |text: &str| text.matches("/*").count() + text.matches("--").count();
        assert_eq!(comments(&made.text), comments(text), "a comment was lost: {text}");
    }
}

/// Over a stream that declares nothing, and over one that declares some columns.
fn plans(select: &Select) {
    let declared = "CREATE STREAM s (a BIGINT, b FLOAT, c STRING, d STRUCT(e BIGINT, f ARRAY(STRING)), ts BIGINT) \
                    WITH (TIMESTAMP=\"ts\")";
    let Ok(Statement::Create(create)) = sql::parse(declared) else { panic!("no stream") };
    let named = |name: &str| Stream { name: name.into(), ..Stream::of(&create) };
    let open = |name: &str| Some(Stream::schemaless(name));
    let closed = |name: &str| Some(named(name));
    let from = select.from.name.name.clone();
    let table = |name: &str, kind: SourceKind| match name == from {
        true => Some(Stream::schemaless(name)),
        false => Some(Stream { what: What::Table, kind, ..named(name) }),
    };
    let looked_up = |name: &str| table(name, SourceKind::Lookup);
    let kept = |name: &str| table(name, SourceKind::Scan { retain: 3 });
    let event_time = Some(plan::EventTime::default());
    for options in [plan::Options::default(), plan::Options { event_time, ..plan::Options::default() }] {
        for find in [&open as &dyn Fn(&str) -> Option<Stream>, &closed, &looked_up, &kept] {
            if let Err(found) = plan::plan(select, find, &Catalogue::default(), &options) {
                assert!(!found.is_empty(), "refused without a word");
            }
        }
    }
}

/// Reads, prints and plans a text. Panics with the text if anything does, or takes too long.
fn answer(text: &str) -> bool {
    let begun = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| match sql::parse(text) {
        Ok(tree) => {
            prints_the_same(text, &tree);
            if let Statement::Select(select) = &tree {
                plans(select);
            }
            true
        }
        Err(found) => {
            assert!(!found.is_empty(), "refused without a word: {text}");
            for one in found {
                let span = one.span.expect("a place");
                assert!(span.start <= span.end && span.end as usize <= text.len(), "{one:?} in {text}");
                let _ = one.render("sql", text);
            }
            false
        }
    }));
    let taken = begun.elapsed();
    assert!(taken < PATIENCE, "{taken:?} for {text}");
    done.unwrap_or_else(|_| panic!("panicked on: {text:?}"))
}

#[test]
fn no_statement_of_the_cases_is_changed_by_formatting() {
    let all = statements();
    let read = all.iter().filter(|text| {
        let read = answer(text);
        if read && !["\"/*", "'--", "--1", "- -"].iter().any(|mark| text.contains(mark)) {
            formats_the_same(text);
        }
        read
    });
    let read = read.count();
    assert!(read >= 700, "only {read} of {} statements can be read", all.len());
}

/// Letters, marks, words and odd things, in any order.
const PIECES: &[&str] = &[
    "a",
    "s",
    "x1",
    "`",
    "``",
    "\"",
    "'",
    "\\",
    "\\x4",
    "\\u00e9",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "->",
    "-",
    "--",
    "/*",
    "*/",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "=",
    "!=",
    "<>",
    "!",
    "<",
    ">",
    "<=",
    ":",
    ";",
    ",",
    ".",
    "..",
    "#",
    "+",
    "?",
    "$",
    "0",
    "1",
    "12",
    "1.5",
    ".5",
    "5.",
    "1e3",
    "1e999",
    "0x1F",
    "99999999999999999999",
    "\0",
    "\n",
    "\t",
    "\r\n",
    " ",
    "\u{a0}",
    "ü",
    "😀",
    "\u{202e}",
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "ORDER",
    "LIMIT",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "BETWEEN",
    "LIKE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "OVER",
    "PARTITION",
    "FILTER",
    "EXCEPT",
    "REPLACE",
    "INVISIBLE",
    "JOIN",
    "LEFT",
    "INNER",
    "ON",
    "DISTINCT",
    "TRUE",
    "ss",
    "CREATE",
    "STREAM",
    "WITH",
    "BIGINT",
    "STRUCT",
    "ARRAY",
    "DEFAULT",
    "DATASOURCE",
    "SHOW",
    "DROP",
    "count",
    "lag",
    "upper",
    "unnest",
    "row_number",
    "TUMBLINGWINDOW",
    "STATEWINDOW",
    "meta",
    "changed_cols",
    "collect",
    "dedup_trigger",
];

#[test]
fn any_text_is_answered() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds(2_000) {
        let mut text = String::from(if chance.maybe() { "SELECT " } else { "" });
        for _ in 0..chance.below(40) {
            text.push_str(chance.word(PIECES));
            if chance.below(3) > 0 {
                text.push(' ');
            }
        }
        answer(&text);
        let _ = sql::parse_expr(&text);
        let _ = sql::format(&text, Lines::Many);
    }
}

#[test]
fn changed_statements_are_answered() {
    let all = statements();
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let boundary = |text: &str, mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let mut read = 0;
    let wanted = rounds(2_000);
    for _ in 0..wanted {
        let mut text = chance.one(&all).clone();
        for _ in 0..=chance.below(3) {
            let at = boundary(&text, chance.below(text.len() + 1));
            let end = boundary(&text, (at + chance.below(16)).min(text.len()));
            let new = match chance.below(4) {
                // Left out.
                0 => String::new(),
                1 => format!(" {} ", chance.word(PIECES)),
                // A part of another one.
                2 => {
                    let other = chance.one(&all);
                    let start = boundary(other, chance.below(other.len() + 1));
                    let stop = boundary(other, (start + chance.below(24)).min(other.len()));
                    other[start..stop].to_string()
                }
                // Twice.
                _ => text[at..end].repeat(2),
            };
            text.replace_range(at..end.max(at), &new);
        }
        read += usize::from(answer(&text));
    }
    assert!(read * 20 > wanted, "only {read} of {wanted} changed statements can be read");
}

#[test]
fn generated_trees_print_to_themselves() {
    let mut chance = Chance(0xd6e8_feb8_6659_fd93);
    for round in 0..rounds(3_000) {
        let made = tree(&mut chance, 1 + round % 4);
        let printed = sql::print_expr(&made);
        let read = sql::parse_expr(&printed).unwrap_or_else(|found| panic!("{printed}\n{found:?}\n{made:?}"));
        assert!(same(&read, &made), "{printed}\nread as\n{}", sql::print_expr(&read));
        assert_eq!(sql::print_expr(&read), printed);
    }
}

#[test]
fn generated_statements_print_to_themselves() {
    let mut chance = Chance(0xa076_1d64_78bd_642f);
    for round in 0..rounds(500) {
        let mut e = || sql::print_expr(&tree(&mut chance, round % 4));
        let text = format!(
            "SELECT {} AS x, {}, * EXCEPT(a) FROM s AS t LEFT JOIN u ON {} WHERE {} AND {} GROUP BY {}, {}, COUNTWINDOW(3) \
             FILTER (WHERE {}) OVER (WHEN {}) HAVING {} OR {} ORDER BY a + ({}) DESC LIMIT 3",
            e(),
            e(),
            e(),
            e(),
            e(),
            e(),
            e(),
            e(),
            e(),
            e(),
            e(),
            e()
        );
        let read = sql::parse(&text).unwrap_or_else(|found| panic!("{text}\n{found:?}"));
        prints_the_same(&text, &read);
        assert!(answer(&text));
    }
}

/// Whatever is nested or chained without end is answered with a finding; up to there it is planned.
#[test]
fn depth_has_a_limit_that_is_told() {
    let nest = |open: &str, close: &str, times: usize| format!("{}a{}", open.repeat(times), close.repeat(times));
    let shapes = [
        ("(", ")"),
        ("abs(", ")"),
        ("a[", "]"),
        ("NOT ", ""),
        ("- ", ""),
        ("CASE a WHEN 1 THEN ", " END"),
        ("a IN (", ")"),
        ("coalesce(a, ", ")"),
        ("lag(", ")"),
        ("a OR a AND a = a + a * (", ")"),
        ("collect(", ")[0]"),
    ];
    for (open, close) in shapes {
        for times in [50, 100] {
            let text = format!("SELECT {} AS x FROM s", nest(open, close, times));
            answer(&text);
        }
        for times in [200, 20_000] {
            let text = format!("SELECT {} AS x FROM s WHERE {}", nest(open, close, times), nest(open, close, times));
            let found = sql::parse(&text).unwrap_err();
            assert!(found.iter().any(|one| one.code == "K0106"), "{open}: {:?}", found[0]);
        }
    }
    for more in [" OR a", " AND a", " + a", "->a", "[0]", " IS NULL", " = a", " LIKE a"] {
        assert!(answer(&format!("SELECT a{} AS x FROM s", more.repeat(500))), "{more}");
        let found = sql::parse(&format!("SELECT a{} AS x FROM s", more.repeat(20_000))).unwrap_err();
        assert_eq!(found[0].code, "K0106", "{more}");
    }
    for length in [100, 2_000] {
        let mut chain: Vec<String> = (0..length).map(|n| format!("a{n} + 1 AS a{}", n + 1)).collect();
        for _ in 0..2 {
            let text = format!("SELECT {} FROM s", chain.join(", "));
            answer(&text);
            let select = sql::parse_select(&text).unwrap();
            let open = |name: &str| Some(Stream::schemaless(name));
            let made = plan::plan(&select, &open, &Catalogue::default(), &plan::Options::default());
            let codes: Vec<&str> = made.err().into_iter().flatten().map(|one| one.code).collect();
            assert_eq!(codes.contains(&"K0260"), length > 128, "{length}: {codes:?}");
            chain.reverse();
        }
    }
    let wide: Vec<String> = (0..5_000).map(|n| format!("c{n}")).collect();
    assert!(answer(&format!("SELECT {} FROM s", wide.join(", "))));
}
