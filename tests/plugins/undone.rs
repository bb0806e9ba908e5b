//! What a call stores that comes to nothing is undone, and nothing else is: `tests/plugins/notes.c` stores as it is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kuiper::clock::Time;
use kuiper::data::{Layout, Value};
use kuiper::diag::{Fault, Result};
use kuiper::func::{Accumulator, Body, Ctx, Guest, RuleInfo};
use kuiper::io::{Content, Parcel, Report, RowSet, Sink};
use kuiper::plugin::{Isolation, Kind};
use serde_json::json;

use super::compiled;
use super::made::{Home, sink_spec};

/// The library `tests/plugins/notes.c`, built once.
fn notes() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("notes-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/notes.c");
        compiled::library(&source, &["-std=gnu17", "-Wall", "-Wextra", "-Werror"], &library);
        library
    })
}

/// Where the plugin runs in a process of its own, in which a call may take two seconds.
fn isolated(kind: Kind) -> Home {
    let program = env!("CARGO_BIN_EXE_kuiper").into();
    let home = Home::with(Isolation { all: true, program, call: Duration::from_secs(2), ..Isolation::default() });
    home.install(kind, "notes", "1.0.0", notes());
    home
}

/// Where it runs in this process.
fn inside(kind: Kind) -> Home {
    let home = Home::new();
    home.install(kind, "notes", "1.0.0", notes());
    home
}

/// A word that is heeded once.
fn once(home: &Home, word: &str) -> String {
    let path = home.folder.path().join(word);
    fs::write(&path, "").unwrap();
    format!("{word}@{}", path.display())
}

/// What is stored, of what is kept of a call or a sink.
fn stored(kept: &Value) -> BTreeMap<String, i64> {
    let Value::Object(place) = kept else { return BTreeMap::new() };
    let Some(Value::Object(stored)) = place.get("stored") else { return BTreeMap::new() };
    stored.iter().map(|(name, value)| (name.to_string(), value.as_i64().unwrap())).collect()
}

fn all(all: &[(&str, i64)]) -> BTreeMap<String, i64> {
    all.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

/// A call of `notes` in a statement.
fn function(home: &Home) -> Box<dyn Guest> {
    let Body::Guest(start) = home.plugins.catalogue().find("notes").unwrap().body else { panic!("it is a scalar") };
    start(0)
}

fn called(guest: &dyn Guest, rows: &[&str]) -> Vec<Result<i64>> {
    let info = RuleInfo { id: "r".into(), ..RuleInfo::nowhere() };
    let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
    let rows: Vec<Value> = rows.iter().copied().map(Value::text).collect();
    let results = guest.call(&rows.iter().collect::<Vec<_>>(), rows.len(), &ctx);
    results.into_iter().map(|result| result.map(|value| value.as_i64().unwrap())).collect()
}

/// A function that was told to end so in each call is as if it had not been called, and goes on.
fn undoes(home: &Home, end: &str) {
    let guest = function(home);
    assert_eq!(called(&*guest, &["a=1 b=2 c+3"]), [Ok(1)]);
    let before = all(&[("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!(stored(&guest.save()), before);

    // Put twice, dropped, dropped and put, put and dropped, new and dropped, new, counted twice.
    let much = "a=5 a=6 -b -c c+9 d=1 -d e=1 e=2 f+1 f+1 a+1";
    let failed = called(&*guest, &[&format!("{much} {end}")]).remove(0);
    assert!(failed.is_err(), "{end}: {failed:?}");
    assert_eq!(stored(&guest.save()), before, "{end}");

    assert_eq!(called(&*guest, &["a+1 -b e+5"]), [Ok(2)], "{end}: a call after it");
    let before = all(&[("a", 2), ("c", 3), ("e", 5)]);
    assert_eq!(stored(&guest.save()), before, "{end}");

    // Of a batch the one row, while the others are counted once.
    let results = called(&*guest, &["a+1", "c+1", &format!("a=9 -c e+1 x=1 {end}"), "a+1"]);
    assert_eq!((&results[0], &results[1], &results[3]), (&Ok(3), &Ok(3), &Ok(4)), "{end}: {results:?}");
    assert!(results[2].is_err(), "{end}: {results:?}");
    assert_eq!(stored(&guest.save()), all(&[("a", 4), ("c", 4), ("e", 5)]), "{end}");

    // An answer, if a bad one.
    assert_eq!(called(&*guest, &["a+1 y=1 refuse"]), [Err(Fault::eval("as it was told"))]);
    assert_eq!(stored(&guest.save()), all(&[("a", 5), ("c", 4), ("e", 5), ("y", 1)]), "{end}");
}

#[test]
fn what_a_function_stores_in_a_call_that_is_a_bug_is_undone() {
    undoes(&inside(Kind::Functions), "bug");
    undoes(&isolated(Kind::Functions), "bug");
}

#[test]
fn what_a_function_stores_in_a_call_that_ends_its_process_is_undone() {
    undoes(&isolated(Kind::Functions), "abort");
}

#[test]
fn a_call_that_is_made_again_in_another_process_stores_once() {
    let home = isolated(Kind::Functions);
    let guest = function(&home);
    for (word, so_far) in [("abort", 0), ("hang", 3)] {
        let fails = format!("a+1 b={so_far} -b {}", once(&home, word));
        assert_eq!(called(&*guest, &["a+1", &fails, "a+1"]), [Ok(so_far + 1), Ok(so_far + 2), Ok(so_far + 3)]);
        assert_eq!(stored(&guest.save()), all(&[("a", so_far + 3)]), "{word}");
    }
}

/// A group of an aggregate.
fn group(home: &Home, name: &str) -> Box<dyn Accumulator> {
    let Body::GuestAggregate(start) = home.plugins.catalogue().find(name).unwrap().body else {
        panic!("`{name}` is an aggregate")
    };
    start(&"r".into(), 0)
}

#[test]
fn rows_of_a_group_that_are_given_again_see_what_was_stored_before_them() {
    let home = isolated(Kind::Functions);
    let info = RuleInfo { id: "r".into(), ..RuleInfo::nowhere() };
    let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
    // Within the rows that a group keeps, when it was saved with some of them, and once more after that.
    for (name, deaths) in [("notesSum", &[20, 200, 210][..]), ("notesUnsaved", &[20, 150][..])] {
        let mut group = group(&home, name);
        let (mut counted, mut sum) = (0, 0);
        for row in 1..=300 {
            let death = if deaths.contains(&row) { once(&home, "abort") } else { String::new() };
            let told = format!("a+1 -b b=1 row{row}=1 {death}");
            group.add(&[Value::text(&told)], &ctx).unwrap();
            (counted, sum) = (counted + 1, sum + counted + 1);
        }
        assert_eq!(group.give(), Ok(Value::Int(sum * 1000 + counted)), "{name}");
        // A row that always ends the process is not there.
        assert!(group.add(&[Value::text("a=7 -b abort")], &ctx).is_err());
        assert_eq!(group.give(), Ok(Value::Int(sum * 1000 + counted)), "{name}");
    }
}

fn parcel(rows: &[&str], single: bool) -> Parcel {
    let layout = Arc::new(Layout::from_iter(["do"]));
    let rows = rows.iter().map(|row| vec![Value::text(row)]).collect();
    Parcel { content: Content::Rows(RowSet { layout, rows, single }), props: Vec::new() }
}

async fn sink(home: &Home) -> Box<dyn Sink> {
    let plan = home.plugins.sink("notes", sink_spec("r", json!({}))).unwrap().unwrap();
    let mut sink = (plan.open)().unwrap();
    sink.connect(Report::new().0).await.unwrap();
    sink
}

/// Delivers, and says how much of it was, and what is stored then. A sink that was lost is connected again.
async fn delivered(sink: &mut dyn Sink, parcels: &[Parcel]) -> (usize, BTreeMap<String, i64>) {
    let result = sink.deliver(parcels).await;
    let stored = stored(&sink.position().await.unwrap().unwrap());
    match result {
        Ok(()) => (parcels.len(), stored),
        Err(stopped) => {
            sink.connect(Report::new().0).await.unwrap();
            (stopped.delivered, stored)
        }
    }
}

#[tokio::test]
async fn what_a_sink_stores_in_a_delivery_that_comes_to_nothing_is_undone() {
    for (home, end) in [(inside(Kind::Sinks), "bug"), (isolated(Kind::Sinks), "bug"), (isolated(Kind::Sinks), "abort")]
    {
        let mut open = sink(&home).await;
        let first = delivered(&mut *open, &[parcel(&["a=1 b=2 c+3"], true)]).await;
        assert_eq!(first, (1, all(&[("a", 1), ("b", 2), ("c", 3)])));
        let much = format!("a=5 a=6 -b -c c+9 d=1 -d e=1 e=2 f+1 f+1 a+1 {end}");
        for single in [true, false] {
            let failed = delivered(&mut *open, &[parcel(&[&much], single)]).await;
            assert_eq!(failed, (0, first.1.clone()), "{end}");
        }
        let after = delivered(&mut *open, &[parcel(&["a+1 -b"], true)]).await;
        assert_eq!(after, (1, all(&[("a", 2), ("c", 3)])), "{end}: a delivery after it");

        // Two calls, of which the second comes to nothing: what the first one stored stays with the row that is delivered.
        open.deliver(&[parcel(&["a+1"], true)]).await.unwrap();
        let two = [parcel(&["a+1"], true), parcel(&["c+1", &format!("a=9 {end}")], false)];
        let both = delivered(&mut *open, &two).await;
        assert_eq!(both, (1, all(&[("a", 4), ("c", 3)])), "{end}");
    }
}
