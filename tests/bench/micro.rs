//! What a message costs in the codec: `cargo bench --bench micro`. Nanoseconds a message, the best of nine runs, over
//! three payloads: small (4 columns), wide (20) and nested. Decoding is measured for two wanted columns, for all of
//! them, and for `*`; encoding for a list of one row.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use kuiper::codec::{self, FormatOptions, Rows, Wanted, WantedColumn};
use kuiper::data::{Batch, Column, Layout, Object, Value};

/// Rows of a batch, as a feed makes them.
const ROWS: usize = 512;

fn small(n: usize) -> String {
    let (temperature, humidity) = (20.15 + n as f64 * 0.37, 55.1 + n as f64 * 0.1);
    format!(
        r#"{{"deviceId":"d{n:04}","ts":{},"temperature":{temperature:.2},"humidity":{humidity:.1}}}"#,
        1_700_000_000_001 + n * 977
    )
}

fn wide(n: usize) -> String {
    let columns = (0..20).map(|column| match column % 4 {
        0 => format!("\"field{column}\":{:.2}", 20.15 + (column * n) as f64 * 0.37),
        1 => format!("\"field{column}\":{}", column * 1000 + n),
        2 => format!("\"field{column}\":\"value {column} {n}\""),
        _ => format!("\"field{column}\":{}", n < 32),
    });
    format!("{{{}}}", columns.collect::<Vec<_>>().join(","))
}

fn nested(n: usize) -> String {
    format!(
        r#"{{"device":{{"id":"d{n:04}","site":{{"name":"hall {n}","floor":{}}}}},"values":[{n},{}.5,3],"tags":["a","b\n"]}}"#,
        n % 5,
        n + 1
    )
}

fn names(message: &str) -> Vec<String> {
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(message).unwrap();
    all.keys().cloned().collect()
}

fn wanted(names: &[String], rest: bool) -> Wanted {
    let column = |(slot, name): (usize, &String)| WantedColumn { name: name.into(), slot, kind: None };
    let columns: Vec<_> = names.iter().enumerate().map(column).collect();
    Wanted { rest: rest.then_some(columns.len()), width: columns.len() + usize::from(rest), columns }
}

/// Nanoseconds of one of `count` steps, in the best of nine runs.
fn best(count: usize, mut run: impl FnMut()) -> f64 {
    let runs = (0..9).map(|_| {
        let watch = Instant::now();
        (0..20).for_each(|_| run());
        watch.elapsed().as_nanos() as f64 / (20 * count) as f64
    });
    runs.fold(f64::MAX, f64::min)
}

fn decode(messages: &[String], wanted: &Wanted) -> f64 {
    let mut decoder = (codec::format("json").unwrap().decoder)(&FormatOptions::default(), wanted).unwrap();
    best(ROWS, || {
        let mut batch = Batch::with_capacity(wanted.width, ROWS);
        for message in messages.iter().cycle().take(ROWS) {
            decoder.decode(message.as_bytes(), &mut batch).unwrap();
        }
        black_box(batch);
    })
}

fn encode(layout: &Layout, row: &[Value]) -> f64 {
    let mut encoder = (codec::format("json").unwrap().encoder)(&FormatOptions::default(), layout).unwrap();
    let mut out = Vec::new();
    best(ROWS, || {
        for _ in 0..ROWS {
            out.clear();
            encoder.encode(&Rows { layout, rows: &[row], single: false }, &mut out).unwrap();
            black_box(&out);
        }
    })
}

fn main() {
    println!(
        "{:<8} {:>5} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "payload", "bytes", "in: 2", "in: all", "in: *", "out", "out: *"
    );
    for (name, message) in [("small", small as fn(usize) -> String), ("wide", wide), ("nested", nested)] {
        let messages: Vec<String> = (0..64).map(message).collect();
        let names = names(&messages[0]);
        let object = match codec::json::parse(messages[0].as_bytes()).unwrap() {
            Value::Object(object) => object,
            other => unreachable!("{other:?}"),
        };
        let slots: Vec<Value> = names.iter().map(|name| object.get(name).cloned().unwrap()).collect();
        let spread = Layout::new(vec![Column { name: "*".into(), spread: true }]);
        println!(
            "{name:<8} {:>5} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>8.0}",
            messages[0].len(),
            decode(&messages, &wanted(&names[names.len() - 2..], false)),
            decode(&messages, &wanted(&names, false)),
            decode(&messages, &wanted(&[], true)),
            encode(&Layout::from_iter(names.iter()), &slots),
            encode(&spread, &[Value::object(Object::clone(&object))]),
        );
    }
}
