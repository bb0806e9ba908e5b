//! `kuiper plugin test`: what keeps the contract passes, and each check finds a plugin that breaks it
//! (`tests/plugins/broken.c`, built once for each way).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/compiled.rs"]
mod compiled;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use compiled::{examples, library};

fn tested(library: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
    command.args(["plugin", "test"]).arg(library).args(options).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

/// What it says of a library that keeps the contract.
fn passes(library: &Path, options: &[&str]) -> String {
    let output = tested(library, options);
    let told = text(&output);
    assert!(output.status.success() && told.contains(" passed, 0 failed, "), "{}: {told}", library.display());
    told
}

#[test]
fn what_keeps_the_contract_passes() {
    let of = |name: &str| examples().join(::kuiper::plugin::library_name(name, "1.0.0"));
    let told = passes(&of("lines"), &["--props", r#"{"path": "/dev/null"}"#]);
    assert!(told.ends_with("\n15 passed, 0 failed, 0 skipped\n"), "{told}");
    let told = passes(&of("ticks"), &["--props", r#"{"every": 1}"#]);
    assert!(told.contains("skipped source Ticks: names a missing property (none is required)\n"), "{told}");
    assert!(passes(&of("vowels"), &[]).contains("ok      function vowels: its examples (2 hold)\n"));
    assert!(passes(&of("mad"), &[]).contains("ok      function mad: is saved and loaded\n"));
    passes(&made::ours("geohash"), &[]);
    passes(&made::ours("random"), &["--props", r#"{"pattern": {"a": 1}, "seed": 5}"#]);
    let folder = tempfile::tempdir().unwrap();
    let broken = built(folder.path(), "NOTHING");
    passes(&broken, &["--props", r#"{"path": "x"}"#]);
}

#[test]
fn what_cannot_be_tried_is_skipped_with_what_is_missing() {
    let told = passes(&examples().join("Lines@v1.0.0.so"), &[]);
    let line = "skipped sink Lines: takes its properties (it needs other properties, give them with --props: property `path` is missing: it must be a text)\n";
    assert!(told.contains(line), "{told}");
    let told = passes(&examples().join("Lines@v1.0.0.so"), &["--props", r#"{"path": "/no/such/folder/file"}"#]);
    assert!(
        told.contains("skipped sink Lines: nulls (it cannot connect: cannot open `/no/such/folder/file`"),
        "{told}"
    );

    let output = tested(Path::new("/etc/hostname"), &[]);
    let told = text(&output);
    assert!(!output.status.success() && told.contains("`/etc/hostname` cannot be tested: "), "{told}");
    let told = text(&tested(&examples().join("Lines@v1.0.0.so"), &["--symbol", "Line"]));
    assert!(told.contains("it has no `Line`; it has `Lines`"), "{told}");
    let output = tested(&examples().join("Lines@v1.0.0.so"), &["--props", "[1]"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let told = text(&tested(&examples().join("Lines@v1.0.0.so"), &["--only", "nil"]));
    assert!(told.contains("no check has `nil` in its name"), "{told}");
}

#[test]
fn a_check_that_does_not_end_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let library = built(folder.path(), "SLOW_TO_STOP");
    let told = text(&tested(&library, &["--symbol", "Pulled", "--only", "10,000", "--limit", "2"]));
    assert!(told.contains("failed  source Pulled: memory over 10,000 lives (it has not ended after 2 s)"), "{told}");
    assert!(told.contains("\n0 passed, 1 failed, 0 skipped\n"), "{told}");
}

fn built(folder: &Path, way: &str) -> PathBuf {
    let into = folder.join(format!("{way}.so"));
    library(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/broken.c"), &[&format!("-D{way}")], &into);
    into
}

/// What is defined, the symbol, the check that finds it, and what it says.
const WAYS: &[(&str, &str, &str, &str)] = &[
    ("NO_DESTROY", "Sink", "sink Sink: its table", "it has no `destroy`"),
    ("DEFAULT_NO_JSON", "Sink", "sink Sink: its table", "the default of `size` is no JSON: ten"),
    ("BUG_AT_ONCE", "Sink", "sink Sink: takes its properties", "`provision` says that the plugin has a bug: of course"),
    ("MISSING_TAKEN", "Sink", "sink Sink: names a missing property", "that `path` is missing is taken without a word"),
    ("TRIES_AGAIN", "Sink", "sink Sink: names a missing property", "is answered with LATER, and can never succeed"),
    ("REFUSES_VAGUELY", "Sink", "sink Sink: names a missing property", "does not name it: something is wrong"),
    ("TEXT_NOT_UTF8", "Sink", "sink Sink: names a missing property", "the text of a failure is not UTF-8"),
    ("UNKNOWN_TAKEN", "Sink", "sink Sink: names an unknown property", "`noSuchProperty` is taken without a word"),
    (
        "TYPE_TAKEN",
        "Sink",
        "sink Sink: names a property of a wrong type",
        "a wrong type of `path` is taken without a word",
    ),
    ("REFUSES_SILENTLY", "Sink", "sink Sink: names a property of a wrong type", "returned NEVER and did not say why"),
    ("FREES_TWICE", "Sink", "sink Sink: every order of life", "it ended the process: abort"),
    ("CLOSE_FAILS", "Sink", "sink Sink: every order of life", "`close` failed: no end"),
    ("NO_CODE", "Sink", "sink Sink: connects", "`connect` returned 77, which is no code"),
    ("BAD_STATUS", "Sink", "sink Sink: connects", "`status` 9, which is none"),
    ("TOOK_TOO_MANY", "Sink", "sink Sink: takes rows", "it says that it took 2 of 1 rows"),
    (
        "TOOK_ALL_AND_FAILED",
        "Sink",
        "sink Sink: takes rows",
        "fails with `not this one`, and says that it took all 1 rows",
    ),
    ("REFUSES_BEYOND", "Sink", "sink Sink: rows that belong together", "it refuses row 9 of 3"),
    ("CRASH_AT_NULL", "Sink", "sink Sink: nulls", "it ended the process: segmentation fault"),
    ("CRASH_AT_BYTES", "Sink", "sink Sink: values of every kind", "it ended the process: segmentation fault"),
    ("CRASH_AT_MISSING", "Sink", "sink Sink: columns that rows lack", "it ended the process: segmentation fault"),
    ("CRASH_AT_MANY", "Sink", "sink Sink: big batches", "it ended the process: segmentation fault"),
    ("NOT_ALONE", "Sink", "sink Sink: many threads", "the plugin has a bug: there is another"),
    ("LEAKS", "Sink", "sink Sink: memory over 10,000 lives", "that are not given back"),
    ("NO_SUBSCRIBE", "Source", "source Source: its table", "it has no `subscribe`"),
    ("ROWS_FOR_BYTES", "Source", "source Source: emits", "its symbol says that it emits bytes, and these are rows"),
    ("EMITS_NO_TEXT", "Source", "source Source: emits", "`emit_rows`: a text is not UTF-8"),
    ("EMITS_NO_TAG", "Source", "source Source: emits", "a value has the tag 12, which is none"),
    ("KEEPS_THE_CONTEXT", "Source", "source Source: emits", "it has retained a context, and not released it"),
    (
        "USES_WHAT_IT_DID_NOT_KEEP",
        "Source",
        "source Source: emits",
        "it calls `log` of a context when no call is running",
    ),
    ("DEAF", "Source", "source Source: stops when it is told to", "`subscribe` has not returned 5 s after"),
    (
        "SLOW_TO_STOP",
        "Pulled",
        "source Pulled: stops when it is told to",
        "`pull` takes 6 s after the rule was stopped",
    ),
    ("CANNOT_GO_BACK", "Pulled", "source Pulled: goes back to a position", "`rewind` failed: there is no way back"),
    ("SIGNATURE_IS_WRONG", "scalar", "function scalar: its table", "the signature `any, any` must read as"),
    ("CRASH_AT_UNKNOWN", "scalar", "function scalar: is asked about constants", "segmentation fault"),
    ("EXAMPLE_IS_WRONG", "scalar", "function scalar: its examples", "example `scalar(7)`: expected 8, found 7"),
    ("CRASH_AT_NULL", "scalar", "function scalar: nulls", "segmentation fault"),
    ("CRASH_AT_BYTES", "scalar", "function scalar: arguments of every kind", "segmentation fault"),
    ("PUTS_NO_TEXT", "scalar", "function scalar: big batches", "`put`: a text is not UTF-8"),
    ("ONE_TOO_FEW", "scalar", "function scalar: big batches", "it puts 9999 results for 10000 rows"),
    ("FAILS_AT_MANY", "scalar", "function scalar: big batches", "10000 rows fails as a whole: these are too many"),
    ("NOT_ALONE", "scalar", "function scalar: many threads", "the plugin has a bug: there is another"),
    ("LEAKS", "scalar", "function scalar: memory over 10,000 lives", "that are not given back"),
    ("NO_LOAD", "group_of", "function group_of: its table", "it has no `save` and `load` together"),
    ("CRASH_AT_NOTHING", "group_of", "function group_of: a group of nothing", "segmentation fault"),
    ("TWO_RESULTS", "group_of", "function group_of: a group of nothing", "`result` puts 2 values, and not one"),
    ("GROUPS_ARE_ONE", "group_of", "function group_of: groups side by side", "change the result of another"),
    ("RESULT_ENDS", "group_of", "function group_of: groups side by side", "to another result than all at once"),
    ("CRASH_AT_NULL", "group_of", "function group_of: nulls", "segmentation fault"),
    ("CRASH_AT_BYTES", "group_of", "function group_of: arguments of every kind", "segmentation fault"),
    ("FAILS_AT_MANY", "group_of", "function group_of: big batches", "fails as a whole: these are too many"),
    ("SAVES_ANOTHER", "group_of", "function group_of: is saved and loaded", "comes to another result"),
    ("NOT_ALONE", "group_of", "function group_of: many threads", "the plugin has a bug: there is another"),
    ("LEAKS", "group_of", "function group_of: memory over 10,000 lives", "that are not given back"),
];

#[test]
fn every_check_can_fail() {
    let folder = tempfile::tempdir().unwrap();
    let find = |(way, symbol, check, why): (&str, &str, &str, &str)| {
        let library = built(folder.path(), &format!("{way}={}", symbol.len()));
        let only = check.rsplit(": ").next().unwrap();
        let output = tested(&library, &["--props", r#"{"path": "x"}"#, "--symbol", symbol, "--only", only]);
        let told = text(&output);
        let line = told.lines().find(|line| line.starts_with(&format!("failed  {check} (")));
        let found = line.is_some_and(|line| line.contains(why));
        if found && output.status.code() == Some(1) { None } else { Some(format!("{way} in {symbol}:\n{told}")) }
    };
    // Most of the time they wait.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong: Vec<String> = thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some(way) = WAYS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                wrong.extend(find(*way));
            }
            wrong
        };
        let running: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), WAYS.len(), wrong.join("\n"));
}

#[test]
fn every_check_is_among_those_that_fail() {
    let broken = tempfile::tempdir().unwrap();
    let library = built(broken.path(), "NOTHING");
    let told = text(&tested(&library, &["--props", r#"{"path": "x"}"#]));
    let names = told.lines().filter_map(|line| Some(line.strip_prefix("ok      ")?.split(" (").next()?.trim()));
    // What all kinds with a life share is shown to fail with one of them.
    let shared = |name: &str| name.rsplit(": ").next().unwrap().to_owned();
    let known: Vec<String> = WAYS.iter().map(|(_, _, check, _)| shared(check)).collect();
    let missing: Vec<&str> = names.filter(|name| !known.contains(&shared(name))).collect();
    assert!(missing.is_empty(), "nothing shows that these can fail: {missing:?}\n{told}");
}
