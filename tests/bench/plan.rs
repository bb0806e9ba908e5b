//! What planning costs: `cargo bench --bench plan`. Milliseconds, the best of five runs, of each step from the text of a
//! statement to the operators, and of the whole, for statements as wide as a gateway sends them; of looking for what is most
//! likely not meant; and of texts with many statements. Twice the columns or statements should take twice the time.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;
use kuiper::clock::Time;
use kuiper::codec::{self, FormatOptions};
use kuiper::data::{Account, Fate};
use kuiper::diag::render_all;
use kuiper::flow::Chain;
use kuiper::func::{Catalogue, RuleInfo};
use kuiper::lint::{Known, lint};
use kuiper::plan::{self, Options, Plan, Stream};
use kuiper::sql;

struct Nobody;

impl Account for Nobody {
    fn settle(&self, _: Fate, _: u64, _: bool) {}
    fn hold(&self, _: u64) {}
    fn unhold(&self, _: u64) {}
}

fn stream(columns: usize) -> Stream {
    if columns == 0 {
        return Stream::schemaless("s");
    }
    let declared = (0..columns).map(|n| format!("column_{n} FLOAT")).collect::<Vec<_>>().join(", ");
    match sql::parse(&format!("CREATE STREAM s ({declared}) WITH (DATASOURCE=\"s\")")).unwrap() {
        sql::Statement::Create(create) => Stream::of(&create),
        other => unreachable!("{other:?}"),
    }
}

fn list(count: usize, field: impl Fn(usize) -> String) -> String {
    (0..count).map(field).collect::<Vec<_>>().join(", ")
}

/// Milliseconds of the best of five runs.
fn best<T>(mut run: impl FnMut() -> T) -> f64 {
    let runs = (0..5).map(|_| {
        let watch = Instant::now();
        black_box(run());
        watch.elapsed().as_secs_f64() * 1e3
    });
    runs.fold(f64::MAX, f64::min)
}

fn build(plan: &Plan) {
    let rule = Arc::new(RuleInfo::nowhere());
    black_box(Chain::build(plan, rule, &TimeZone::UTC, Time(0), Arc::new(Nobody)).unwrap());
    let (format, options) = (codec::format("json").unwrap(), FormatOptions::default());
    black_box((format.decoder)(&options, &plan.sources[0].wanted).unwrap());
    black_box((format.encoder)(&options, &plan.layout).unwrap());
}

/// Texts with many statements: parsed, formatted, and all that is found in them shown with its place.
fn texts() {
    println!("\n{:<30} {:>10} {:>9} {:>9} {:>9}", "text", "statements", "parse ms", "format ms", "lint ms");
    for count in [5_000, 10_000] {
        for (name, between) in [("statements on lines", "\n"), ("statements on one line", " ")] {
            let text = vec!["SELECT a / 0 AS b FROM s;"; count].join(between);
            let parse = best(|| sql::parse_all(&text).unwrap());
            let format = best(|| sql::format(&text, sql::Lines::Many).unwrap());
            let selects = sql::parse_all(&text).unwrap();
            let known = Known::default();
            let look = best(|| {
                let of = |one: &Result<_, _>| match one {
                    Ok(sql::Statement::Select(select)) => lint(select, &known),
                    other => unreachable!("{other:?}"),
                };
                let found: Vec<_> = selects.iter().flat_map(of).collect();
                assert_eq!(found.len(), count);
                render_all(&found, "text", &text)
            });
            println!("{name:<30} {count:>10} {parse:>9.1} {format:>9.1} {look:>9.1}");
        }
    }
}

fn main() {
    let window = "GROUP BY TUMBLINGWINDOW(ss, 10)";
    let column = |n: usize| format!("column_{}", n * 3);
    let statements = |n: usize| {
        [
            ("columns, declared", 3 * n, format!("SELECT {} FROM s WHERE column_1 > 0", list(n, column))),
            ("columns, schemaless", 0, format!("SELECT {} FROM s WHERE column_1 > 0", list(n, column))),
            ("star, declared", 3 * n, "SELECT * FROM s".to_string()),
            ("columns and star, schemaless", 0, format!("SELECT {}, * FROM s", list(n, column))),
            (
                "aliases that are read",
                3 * n,
                format!(
                    "SELECT {} FROM s WHERE a0 > 1",
                    list(n, |n| match n % 2 {
                        0 => format!("column_{n} * 2 AS a{n}"),
                        _ => format!("a{} + 1 AS a{n}", n - 1),
                    })
                ),
            ),
            (
                "aggregates",
                3 * n,
                format!("SELECT {} FROM s {window}", list(n, |n| format!("avg(column_{n}) AS a{n}"))),
            ),
            ("analytic", 3 * n, format!("SELECT {} FROM s", list(n, |n| format!("lag(column_{n}) AS a{n}")))),
            (
                "joins",
                3,
                format!(
                    "SELECT {} FROM s {} {window}",
                    list(n, |n| format!("s{n}.column_1 AS a{n}")),
                    (0..n)
                        .map(|n| format!("INNER JOIN s AS s{n} ON s.column_0 = s{n}.column_0"))
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
            ),
            ("unknown columns", 3 * n, format!("SELECT {} FROM s", list(n, |n| format!("colum_{n}")))),
        ]
    };
    println!(
        "{:<30} {:>7} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "statement", "fields", "declared", "parse ms", "plan ms", "build ms", "whole ms", "lint ms"
    );
    for n in [2_500, 5_000] {
        for (name, declared, text) in statements(n) {
            let (stream, funcs, options) = (stream(declared), Catalogue::default(), Options::default());
            let find = |_: &str| Some(stream.clone());
            let select = sql::parse_select(&text).unwrap();
            let planned = || plan::plan(&select, &find, &funcs, &options);
            let parse = best(|| sql::parse_select(&text).unwrap());
            let plan = best(planned);
            let build = planned().map_or(0.0, |plan| best(|| build(&plan)));
            let whole = parse + plan + build;
            let mut known = Known::default();
            known.add_stream(stream.clone());
            let look = best(|| lint(&select, &known));
            println!("{name:<30} {n:>7} {declared:>8} {parse:>9.1} {plan:>8.1} {build:>8.1} {whole:>8.1} {look:>8.1}");
        }
    }
    texts();
}
