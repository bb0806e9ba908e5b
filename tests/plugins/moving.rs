//! Swaps of plugins that run in processes of their own, also into one and out of it, and of sources that hear what the
//! rules are done with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::kuiper::wait_for;
use super::{Scene, changes, library, tally};

/// Installs a version, to run as is said.
fn put(scene: &Scene, kind: &str, name: &str, version: &str, defined: &[&str], isolation: Option<&str>) -> String {
    let content = fs::read(library(scene.libraries.path(), defined)).unwrap();
    let mut body: Json = serde_json::from_str(&scene.body(name, version, &content)).unwrap();
    if let Some(isolation) = isolation {
        body["isolation"] = isolation.into();
    }
    scene.kuiper.ask("PUT", &format!("/plugins/{kind}/{name}"), &body.to_string())
}

/// The old process is gone, and of old versions only what is mapped into the server is listed.
fn is_gone(scene: &Scene, kind: &str, name: &str, process: Option<u64>) {
    let Some(process) = process else { return };
    wait_for("the end of the old process", || !Path::new(&format!("/proc/{process}")).exists());
    let first = json!([{"version": "1.0.0", "users": []}]);
    wait_for("the list of what is mapped", || scene.describe(kind, name)["mapped"] == first);
    // Of the copies that of the first, which stays mapped, and that of the one that runs.
    let copies = fs::read_dir(scene.kuiper.folder.path().join("data/plugins/mapped").join(kind)).unwrap();
    let names = copies.map(|copy| copy.unwrap().file_name().into_string().unwrap().to_lowercase());
    let left: Vec<String> = names.filter(|copy| copy.starts_with(&format!("{name}@"))).collect();
    assert!(left.len() <= 2 && left.iter().any(|copy| copy.starts_with(&format!("{name}@v1.0.0+"))), "{left:?}");
}

#[test]
fn versions_in_processes_are_swapped_and_nothing_of_the_old_ones_is_left() {
    const ROUNDS: usize = 8;
    let all: [(&str, &str, &[&str], &str); 4] = [
        ("sources", "ticks", &["POSITIONS"], "`into` runs"),
        ("sources", "pulls", &["COUNTS"], "`asks` runs"),
        ("sinks", "tally", &[], "`asks`, `into` run"),
        ("functions", "edition", &[], "`into` runs"),
    ];
    let variants = ["VARIANT=1", "VARIANT=2"];
    let defined = |defined: &'static [&str], round: usize| [defined, &variants[round % 2..][..1]].concat();
    let first: Vec<(&str, &str, Vec<&str>)> =
        all.iter().map(|(kind, name, more, _)| (*kind, *name, defined(more, 0))).collect();
    let installed: Vec<(&str, &str, &[&str])> =
        first.iter().map(|(kind, name, defined)| (*kind, *name, defined.as_slice())).collect();
    let scene = Scene::new(&installed);
    scene.stream("ticks", 5_000, &json!({}));
    scene.kuiper.stream(r#"CREATE STREAM asked () WITH (TYPE="pulls", FORMAT="json", EXTRA="{\"interval\": 10}")"#);
    let file = json!({"file": {"path": "rows", "fileType": "lines", "sendSingle": true}});
    let rule = json!({
        "id": "into", "sql": "SELECT n, edition(n) AS e, calls() AS c FROM demo",
        "actions": [{"tally": {"path": scene.path("numbers")}}, file],
    });
    scene.kuiper.ask("POST", "/rules", &rule.to_string());
    scene.kuiper.rule("asks", "SELECT n FROM asked", json!({"tally": {"path": scene.path("asked")}}));
    let (mut into, mut asks) = (scene.more("into", 0), scene.more("asks", 0));
    for round in 1..=ROUNDS {
        // Into a process, from one to the next, and out of it.
        let isolation = [(1, "process"), (ROUNDS, "none")].into_iter().find(|(of, _)| *of == round).map(|(_, how)| how);
        for (kind, name, more, who) in all {
            let process = scene.describe(kind, name)["process"]["id"].as_u64();
            assert_eq!(process.is_some(), round > 1, "{name}");
            let told = put(&scene, kind, name, &format!("1.0.{round}"), &defined(more, round), isolation);
            assert_eq!(told, format!("plugin {name} is updated; {who} on it"), "{}", scene.kuiper.log());
            (into, asks) = (scene.more("into", into), scene.more("asks", asks));
            is_gone(&scene, kind, name, process);
        }
    }
    // One that cannot read what the others wrote begins anew, here as there.
    let unread = ["STATE_VERSION=7", "STATE_OLDEST=7"];
    let told = put(&scene, "functions", "edition", "2.0.0", &unread, Some("process"));
    assert!(told.contains("; the state of `into` was left behind"), "{told}");
    scene.more("into", into);
    let (into, asks) = (scene.stop("into"), scene.stop("asks"));
    let versions = tally(&scene.path("numbers"));
    assert_eq!((versions.len(), changes(&versions)), (into as usize, ROUNDS));
    assert_eq!(tally(&scene.path("asked")).len(), asks as usize);
    let text = fs::read_to_string(scene.path("rows")).unwrap();
    let mut begun = 0;
    for (n, line) in text.lines().enumerate() {
        let row: Json = serde_json::from_str(line).unwrap();
        // Its state counts the calls of all versions, but for that of the last one.
        if begun == 0 && row["c"] == 1 && n > 0 {
            begun = n;
        }
        assert_eq!((&row["n"], &row["c"]), (&json!(n), &json!(n - begun + 1)), "{line}");
    }
    assert!(begun > 0, "the last version counted on");
}

#[test]
fn a_sink_whose_port_is_taken_by_the_version_before_waits_its_turn() {
    let scene = Scene::new(&[("sources", "ticks", &["VARIANT=1"]), ("sinks", "tally", &["VARIANT=1"])]);
    scene.stream("ticks", 5_000, &json!({}));
    let sink = json!({"tally": {"path": scene.path("numbers"), "lock": scene.path("lock")}});
    scene.kuiper.rule("into", "SELECT * FROM demo", sink);
    let mut out = scene.more("into", 0);
    for swap in 1..=5 {
        let variant = format!("VARIANT={}", swap % 2 + 1);
        let answer = scene.swap("sinks", "tally", &format!("1.0.{swap}"), &[&variant]);
        assert_eq!(answer, "plugin tally is updated; `into` runs on it");
        out = scene.more("into", out);
        // One that can never connect: the old one is closed for it, and taken up again.
        let told = scene.refused("sinks", "tally", &["NO_CONNECTION"]);
        assert!(told.contains("`into`: the new version cannot connect: nobody answers"), "{told}");
        out = scene.more("into", out);
    }
    let out = scene.stop("into");
    let versions = tally(&scene.path("numbers"));
    assert_eq!((versions.len(), changes(&versions)), (out as usize, 5), "{}", scene.kuiper.log());
    assert_eq!(scene.describe("sinks", "tally")["version"], "1.0.5");
}

/// What a source was told that the rules are done with.
fn heard(path: &Path) -> BTreeSet<usize> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may not be whole yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let numbers: Vec<usize> = whole.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{line}"))).collect();
    let each: BTreeSet<usize> = numbers.iter().copied().collect();
    assert_eq!(each.len(), numbers.len(), "something was told twice");
    each
}

fn acknowledged(isolation: &str) {
    let scene = Scene::new(&[("sources", "acks", &["VARIANT=1"]), ("sinks", "tally", &["VARIANT=1"])]);
    let (told, hold, numbers) = (scene.path("told"), scene.path("hold"), scene.path("numbers"));
    scene.stream("acks", 1_000, &json!({ "told": told }));
    let rule = json!({
        "id": "kept", "sql": "SELECT n FROM demo", "actions": [{"tally": {"path": numbers, "hold": hold}}],
        "options": {"qos": 1},
    });
    scene.kuiper.ask("POST", "/rules", &rule.to_string());
    let (mut out, mut quickest) = (scene.more("kept", 0), Duration::MAX);
    let swap = |version: usize| {
        let variant = format!("VARIANT={}", version % 2 + 1);
        let answer = put(&scene, "sources", "acks", &format!("1.0.{version}"), &[&variant], Some(isolation));
        assert_eq!(answer, "plugin acks is updated; `kept` runs on it", "{}", scene.kuiper.log());
    };
    for version in 1..=8 {
        let begun = Instant::now();
        swap(version);
        quickest = quickest.min(begun.elapsed());
        out = scene.more("kept", out);
    }
    // Rows that the rules are done with soon are waited for, and not longer than they take.
    assert!(quickest < Duration::from_secs(5), "{quickest:?}");
    wait_for("numbers that were heard of", || heard(&told).len() > 100);
    let settled = {
        // The sink stands still for longer than a swap waits.
        fs::write(&hold, "").unwrap();
        scene.kuiper.until("kept", "rows that wait", |status| {
            status["ledger"]["in"].as_i64().unwrap() > status["ledger"]["out"].as_i64().unwrap() + 10
        });
        let settled = heard(&told);
        swap(9);
        fs::remove_file(&hold).unwrap();
        settled
    };
    let last = settled.last().copied().unwrap();
    wait_for("numbers behind those that waited", || heard(&told).contains(&(last + 500)));
    scene.stop("kept");
    let text = fs::read_to_string(&numbers).unwrap();
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for line in text.lines() {
        *times.entry(line.split(' ').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    let whole = *times.keys().last().unwrap() + 1;
    assert_eq!(times.len(), whole, "a number is missing");
    // What was not acknowledged when the source moved was the next instance's to give again, and nothing else came twice.
    let twice: Vec<usize> = times.iter().filter(|(_, times)| **times > 1).map(|(number, _)| *number).collect();
    assert!(!twice.is_empty() && twice.iter().all(|number| !settled.contains(number)), "{twice:?}");
    assert!(times.values().all(|times| *times <= 2));
    assert!(heard(&told).iter().all(|number| times.contains_key(number)), "something was told that no sink has");
}

#[test]
fn tokens_of_a_source_are_told_to_the_instance_that_gave_them_and_no_other() {
    acknowledged("none");
}

#[test]
fn so_they_are_in_processes_of_their_own() {
    acknowledged("process");
}
