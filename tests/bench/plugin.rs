//! What a plugin's function costs: `cargo bench --bench plugin [-- NAME]`. The rows of a batch of 100 go through a rule's whole chain,
//! `SELECT f(n) AS n FROM s`, with a function of our own, with one as small of a plugin in this process, and of a plugin in
//! a process of its own; and with one that counts each of 100 numbers under a key, where so many keys are stored already.
//! Nanoseconds a row and rows a second, the best of nine runs. The plugins are `tests/plugins/unruly.c`, built with `cc -O2`,
//! and `plugins/echo` in Rust, built with `--release` as the projects of `kuiper plugin new` are.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use kuiper::clock::Time;
use kuiper::data::{Account, Batch, Fate, Receipt, Value};
use kuiper::flow::Chain;
use kuiper::func::{Catalogue, RuleInfo};
use kuiper::plan::{self, Options, Stream};
use kuiper::plugin::{Isolation, Plugins, Settings};
use kuiper::sql;

const ROWS: usize = 100;
const RUNS: usize = 9;
/// Batches of a run.
const BATCHES: usize = 1000;

struct Nobody;

impl Account for Nobody {
    fn settle(&self, _: Fate, _: u64, _: bool) {}
    fn hold(&self, _: u64) {}
    fn unhold(&self, _: u64) {}
}

/// The functions of the plugin, in this process or in its own.
fn functions(folder: &Path, isolated: bool) -> (Plugins, Catalogue) {
    let data = folder.join(if isolated { "isolated" } else { "inside" });
    let libraries = data.join("plugins/functions");
    fs::create_dir_all(&libraries).unwrap();
    let library = libraries.join("Unruly@v1.0.0.so");
    let root = env!("CARGO_MANIFEST_DIR");
    let built = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-I", "plugins/sdk", "-o"])
        .arg(&library)
        .args(["tests/plugins/unruly.c", "-lpthread"])
        .current_dir(root)
        .status();
    assert!(built.unwrap().success());
    // `target/tmp` stands beside `target/release`.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "-q", "-p", "kuiper-echo", "--target-dir"])
        .arg(target)
        // As in the projects of `kuiper plugin new`.
        .envs([("CARGO_PROFILE_RELEASE_LTO", "true"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")])
        .current_dir(root)
        .status();
    assert!(built.unwrap().success());
    fs::copy(target.join("release/libkuiper_echo.so"), libraries.join("Echo@v1.0.0.so")).unwrap();
    let program = env!("CARGO_BIN_EXE_kuiper").into();
    let isolation = Isolation { all: isolated, program, ..Isolation::default() };
    let (plugins, told) = Plugins::open(Settings { isolation, ..Settings::new(data) });
    assert_eq!(told, Vec::<String>::new());
    let all = plugins.catalogue();
    (plugins, all)
}

/// Nanoseconds a row, after rows of so many numbers.
fn measured(call: &str, funcs: &Catalogue, before: usize) -> f64 {
    let select = sql::parse_select(&format!("SELECT {call} AS n FROM s")).unwrap();
    let stream = match sql::parse("CREATE STREAM s (n BIGINT) WITH (DATASOURCE=\"s\")").unwrap() {
        sql::Statement::Create(create) => Stream::of(&create),
        other => unreachable!("{other:?}"),
    };
    let plan = plan::plan(&select, &|_: &str| Some(stream.clone()), funcs, &Options::default()).unwrap();
    let (rule, account) = (Arc::new(RuleInfo::nowhere()), Arc::new(Nobody));
    let mut chain = Chain::build(&plan, rule, &TimeZone::UTC, Time(0), account).unwrap();
    let width = plan.sources[0].wanted.width;
    let batch = |numbers: Range<usize>| {
        let mut batch = Batch::with_capacity(width, ROWS);
        numbers.for_each(|n| batch.push(Time(0), Receipt::none())[0] = Value::Int(n as i64));
        batch
    };
    for first in (0..before).step_by(ROWS) {
        chain.push(0, batch(first..first + ROWS), Time(0), &mut Vec::new()).unwrap();
    }
    let run = |chain: &mut Chain| {
        let mut spent = Duration::ZERO;
        for _ in 0..BATCHES {
            let (batch, mut out) = (batch(0..ROWS), Vec::new());
            let watch = Instant::now();
            chain.push(0, batch, Time(0), &mut out).unwrap();
            spent += watch.elapsed();
            assert_eq!(out.iter().map(|batch| batch.selected().len()).sum::<usize>(), ROWS);
            black_box(out);
        }
        spent.as_nanos() as f64 / (BATCHES * ROWS) as f64
    };
    (0..RUNS).map(|_| run(&mut chain)).fold(f64::MAX, f64::min)
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (_inside, inside) = functions(folder.path(), false);
    let (_isolated, isolated) = functions(folder.path(), true);
    println!("{:<34} {:>10} {:>14}", "SELECT f(n) AS n FROM s", "ns a row", "rows a second");
    let ways = [
        ("n", "n, no function", &Catalogue::default(), 0),
        ("abs(n)", "abs, our own", &Catalogue::default(), 0),
        ("plusOne(n)", "plusOne, in C, in this process", &inside, 0),
        ("echo(n)", "echo, in Rust, in this process", &inside, 0),
        ("plusOne(n)", "plusOne, in C, in its own", &isolated, 0),
        ("echo(n)", "echo, in Rust, in its own", &isolated, 0),
        ("unrulyKept(n)", "100 keys, in this process", &inside, 100),
        ("unrulyKept(n)", "1,000 keys, in this process", &inside, 1000),
        ("unrulyKept(n)", "10,000 keys, in this process", &inside, 10_000),
        ("unrulyKept(n)", "100 keys, in its own", &isolated, 100),
        ("unrulyKept(n)", "1,000 keys, in its own", &isolated, 1000),
        ("unrulyKept(n)", "10,000 keys, in its own", &isolated, 10_000),
    ];
    let wanted = std::env::args().nth(1).filter(|word| !word.starts_with("--"));
    for (call, name, funcs, before) in ways {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        let nanos = measured(call, funcs, before);
        println!("{name:<34} {nanos:>10.1} {:>14.0}", 1e9 / nanos);
    }
}
