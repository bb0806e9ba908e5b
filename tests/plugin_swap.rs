//! A new version of a plugin while rules use it: every row once and in order, and what cannot be taken changes nothing.
//! `tests/plugins/swap.c` is the plugin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/compiled.rs"]
#[allow(dead_code)]
mod compiled;
#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "served/mariadb.rs"]
#[allow(dead_code)]
mod mariadb;
#[path = "plugins/moving.rs"]
mod moving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::kuiper::clock::Time;
use ::kuiper::data::{Object, Value};
use ::kuiper::func::{Accumulator, Body, Ctx, RuleInfo};
use ::kuiper::plugin::Kind;
use serde_json::{Value as Json, json};

use kuiper::{Kuiper, wait_for};
use made::Home;

const SWAPS: i64 = 50;

/// The plugin, compiled with these definitions.
fn library(folder: &Path, defined: &[&str]) -> PathBuf {
    let name: String = defined.iter().flat_map(|text| text.chars()).filter(char::is_ascii_alphanumeric).collect();
    let library = folder.join(format!("{name}.so"));
    if !library.exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/swap.c");
        let options: Vec<String> = defined.iter().map(|one| format!("-D{one}")).collect();
        let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
        options.push("-D_GNU_SOURCE");
        compiled::library(&source, &options, &library);
    }
    library
}

/// A server with plugins, and the libraries of other versions.
struct Scene {
    kuiper: Kuiper,
    libraries: tempfile::TempDir,
}

impl Scene {
    /// With these plugins, by kind and name, as they are compiled.
    fn new(installed: &[(&str, &str, &[&str])]) -> Scene {
        let libraries = tempfile::tempdir().unwrap();
        let kuiper = Kuiper::start(|data| {
            for (kind, name, defined) in installed {
                let folder = data.join("plugins").join(kind);
                fs::create_dir_all(&folder).unwrap();
                let file = ::kuiper::plugin::library_name(name, "1.0.0");
                fs::copy(library(libraries.path(), defined), folder.join(file)).unwrap();
            }
        });
        Scene { kuiper, libraries }
    }

    /// The body of a request that installs a library.
    fn body(&self, name: &str, version: &str, content: &[u8]) -> String {
        let uploads = self.kuiper.folder.path().join("data/uploads");
        fs::create_dir_all(&uploads).unwrap();
        let zip = made::zipped(&uploads, &[(&::kuiper::plugin::library_name(name, version), content)]);
        json!({"name": name, "file": format!("file://{}", zip.display())}).to_string()
    }

    fn swap(&self, kind: &str, name: &str, version: &str, defined: &[&str]) -> String {
        let content = fs::read(library(self.libraries.path(), defined)).unwrap();
        self.kuiper.ask("PUT", &format!("/plugins/{kind}/{name}"), &self.body(name, version, &content))
    }

    fn refused(&self, kind: &str, name: &str, defined: &[&str]) -> String {
        let content = fs::read(library(self.libraries.path(), defined)).unwrap();
        self.kuiper.refused("PUT", &format!("/plugins/{kind}/{name}"), &self.body(name, "9.0.0", &content))
    }

    fn describe(&self, kind: &str, name: &str) -> Json {
        serde_json::from_str(&self.kuiper.ask("GET", &format!("/plugins/{kind}/{name}"), "")).unwrap()
    }

    /// The numbers from 0 on, so many a second; 0: as fast as they are taken.
    fn stream(&self, connector: &str, pace: i64, more: &Json) {
        let mut extra = json!({"pace": pace});
        extra.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let extra = extra.to_string().replace('"', "\\\"");
        self.kuiper
            .stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="{connector}", FORMAT="json", EXTRA="{extra}")"#));
    }

    /// Waits until more rows have left a rule.
    fn more(&self, rule: &str, than: i64) -> i64 {
        self.kuiper.until(rule, "more rows", |status| status["ledger"]["out"].as_i64().unwrap() > than);
        self.kuiper.count(rule, "out")
    }

    /// Stops a rule, and gives how many rows have left it.
    fn stop(&self, rule: &str) -> i64 {
        self.kuiper.ask("POST", &format!("/rules/{rule}/stop"), "");
        let status = self.kuiper.status(rule);
        assert_eq!(status["ledger"]["dead"], json!({}), "{status:#}");
        status["ledger"]["out"].as_i64().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.kuiper.folder.path().join(name)
    }
}

/// What the sink wrote: each number and the version that wrote it. Every number is there once, in order.
fn tally(path: &Path) -> Vec<i64> {
    let text = fs::read_to_string(path).unwrap();
    let mut versions = Vec::new();
    for (expected, line) in text.lines().enumerate() {
        let (number, version) = line.split_once(' ').unwrap_or((line, ""));
        assert_eq!(number, expected.to_string(), "line {expected} of {}", text.lines().count());
        versions.push(version.parse().unwrap());
    }
    versions
}

fn changes(versions: &[i64]) -> usize {
    versions.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn a_sink_is_swapped_fifty_times_at_full_speed_and_every_number_is_there_once_and_in_order() {
    let scene = Scene::new(&[("sources", "ticks", &["VARIANT=1"]), ("sinks", "tally", &["VARIANT=1"])]);
    scene.stream("ticks", 20_000, &json!({}));
    scene.kuiper.rule("into", "SELECT * FROM demo", json!({"tally": {"path": scene.path("numbers")}}));
    scene.more("into", 0);
    for swap in 1..=SWAPS {
        let variant = format!("VARIANT={}", swap % 2 + 1);
        let answer = scene.swap("sinks", "tally", &format!("1.0.{swap}"), &[&variant]);
        assert_eq!(answer, "plugin tally is updated; `into` runs on it");
        // It has moved, so that what is delivered from now on is delivered by it.
        scene.more("into", scene.kuiper.count("into", "out"));
    }
    let described = scene.describe("sinks", "tally");
    assert_eq!((&described["version"], &described["rules"]), (&json!("1.0.50"), &json!(["into"])));
    let mapped = described["mapped"].as_array().unwrap();
    assert_eq!((mapped.len(), &mapped[0]), (50, &json!({"version": "1.0.49", "users": []})));
    let out = scene.stop("into");
    let versions = tally(&scene.path("numbers"));
    assert_eq!((versions.len(), changes(&versions)), (out as usize, SWAPS as usize));
}

#[test]
fn a_sink_that_is_given_nothing_moves_too() {
    let scene = Scene::new(&[("sources", "ticks", &["VARIANT=1"]), ("sinks", "tally", &["VARIANT=1"])]);
    scene.stream("ticks", 1_000, &json!({"count": 10}));
    scene.kuiper.rule("quiet", "SELECT * FROM demo", json!({"tally": {"path": scene.path("numbers")}}));
    scene.more("quiet", 9);
    let answer = scene.swap("sinks", "tally", "2.0.0", &["VARIANT=2"]);
    assert_eq!(answer, "plugin tally is updated; `quiet` runs on it");
    let log = scene.kuiper.log();
    let mut lines =
        log.lines().filter(|line| line.contains("plugin replaced: 2.0.0 in the place of 1.0.0 from file://"));
    assert!(lines.next().is_some_and(|line| line.contains("; `quiet` runs on it") && line.contains("INFO")), "{log}");
    // The old one was closed, so that what it held is there.
    assert_eq!(tally(&scene.path("numbers")), [1; 10]);
    // Its state was counted on: one that cannot read it says so.
    let answer = scene.swap("sinks", "tally", "3.0.0", &["STATE_VERSION=7", "STATE_OLDEST=7"]);
    assert_eq!(
        answer,
        "plugin tally is updated; `quiet` runs on it; the state of `quiet` was left behind, for the new version does not \
         say that it can read it"
    );
}

/// A source that is swapped again and again.
fn source(connector: &str, pace: i64, swaps: i64, defined: &[&str]) {
    let with = |variant: &'static str| -> Vec<&str> { defined.iter().copied().chain([variant]).collect() };
    let scene = Scene::new(&[("sources", connector, &with("VARIANT=1")), ("sinks", "tally", &["VARIANT=1"])]);
    scene.stream(connector, pace, &json!({"interval": 20}));
    scene.kuiper.rule("from", "SELECT n FROM demo", json!({"tally": {"path": scene.path("numbers")}}));
    let mut out = scene.more("from", 0);
    for swap in 1..=swaps {
        let variant = if swap % 2 == 0 { "VARIANT=1" } else { "VARIANT=2" };
        let answer = scene.swap("sources", connector, &format!("1.0.{swap}"), &with(variant));
        assert_eq!(answer, format!("plugin {connector} is updated; `from` runs on it"), "{}", scene.kuiper.log());
        out = scene.more("from", out);
    }
    let out = scene.stop("from");
    assert_eq!(tally(&scene.path("numbers")).len(), out as usize, "{}", scene.kuiper.log());
}

#[test]
fn a_source_with_positions_goes_on_where_the_version_before_stood() {
    source("ticks", 20_000, SWAPS, &["POSITIONS"]);
}

#[test]
fn a_source_that_counts_in_its_state_goes_on_where_the_version_before_stood() {
    source("ticks", 20_000, SWAPS, &["COUNTS"]);
}

#[test]
fn a_source_that_heeds_nothing_but_the_answer_to_what_it_gives_is_not_given_up() {
    source("ticks", 0, 10, &["STATE_FIRST"]);
}

#[test]
fn a_source_that_is_asked_moves_between_two_questions() {
    source("pulls", 0, SWAPS / 2, &["COUNTS"]);
}

#[test]
fn a_source_whose_port_is_taken_by_the_version_before_waits_its_turn() {
    let scene = Scene::new(&[("sources", "ticks", &["VARIANT=1"]), ("sinks", "tally", &["VARIANT=1"])]);
    scene.stream("ticks", 5_000, &json!({"lock": scene.path("lock")}));
    scene.kuiper.rule("from", "SELECT n, v FROM demo", json!({"tally": {"path": scene.path("numbers")}}));
    let mut out = scene.more("from", 0);
    for swap in 1..=5 {
        let variant = format!("VARIANT={}", swap % 2 + 1);
        let answer = scene.swap("sources", "ticks", &format!("1.0.{swap}"), &[&variant]);
        assert_eq!(answer, "plugin ticks is updated; `from` runs on it");
        out = scene.more("from", out);
        // One that can never connect: the old one is closed for it, and taken up again.
        let told = scene.refused("sources", "ticks", &["NO_CONNECTION"]);
        assert!(told.contains("`from`: the new version cannot connect: nobody answers"), "{told}");
        out = scene.more("from", out);
    }
    let out = scene.stop("from");
    assert_eq!(tally(&scene.path("numbers")).len(), out as usize, "{}", scene.kuiper.log());
    assert_eq!(scene.describe("sources", "ticks")["version"], "1.0.5");
}

#[test]
fn functions_are_swapped_fifty_times_and_each_row_has_its_result() {
    let scene = Scene::new(&[("sources", "ticks", &["VARIANT=1"]), ("functions", "edition", &["VARIANT=1"])]);
    scene.stream("ticks", 20_000, &json!({}));
    let file = json!({"file": {"path": "rows", "fileType": "lines", "sendSingle": true}});
    scene.kuiper.rule("calls", "SELECT n, edition(n) AS e, calls() AS c FROM demo", file);
    let mut out = scene.more("calls", 0);
    for swap in 1..=SWAPS {
        let variant = format!("VARIANT={}", swap % 2 + 1);
        let answer = scene.swap("functions", "edition", &format!("1.0.{swap}"), &[&variant]);
        assert_eq!(answer, "plugin edition is updated; `calls` runs on it");
        out = scene.more("calls", out);
    }
    scene.stop("calls");
    let text = fs::read_to_string(scene.path("rows")).unwrap();
    let mut versions = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let row: Json = serde_json::from_str(line).unwrap();
        // Its state counts the calls, of all versions.
        assert_eq!((&row["n"], &row["c"]), (&json!(n), &json!(n + 1)), "{line}");
        versions.push(row["e"].as_i64().unwrap());
    }
    // What was on its way to the sink may have been more than one version had the time for.
    assert!((1..=SWAPS as usize).contains(&changes(&versions)), "{}", changes(&versions));
}

#[test]
fn a_version_that_cannot_be_taken_leaves_the_old_one_running_and_says_why() {
    let all = [("sources", "ticks"), ("sinks", "tally"), ("functions", "edition")];
    let installed = all.map(|(kind, name)| (kind, name, ["VARIANT=1"].as_slice()));
    let scene = Scene::new(&installed);
    scene.stream("ticks", 2_000, &json!({}));
    scene.kuiper.rule("goes", "SELECT n, edition(n) AS e FROM demo", json!({"tally": {"path": scene.path("numbers")}}));
    let mut out = scene.more("goes", 0);
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("sinks", "tally", &["NO_PROVISION"], "`goes`: `tally`: property `tone` is missing: it must be a text"),
        ("sinks", "tally", &["NO_CONNECTION"], "`goes`: the new version cannot connect: nobody answers"),
        ("sinks", "tally", &["NO_INSTANCE"], "`goes`: `tally`: there is no instance today"),
        ("sources", "ticks", &["NO_CONNECTION"], "`goes`: the new version cannot connect: nobody answers"),
        ("functions", "edition", &["NO_INSTANCE"], "`edition`: there is no instance today"),
        ("functions", "edition", &["NO_EDITION"], "the rule `goes` cannot go on with it: "),
        ("functions", "edition", &["TWO_ARGUMENTS"], "`edition` takes 2 arguments, but 1 is given"),
        ("functions", "edition", &["REFUSES"], "`edition`: it takes nothing any more"),
    ];
    for (kind, name, defined, why) in cases {
        let told = scene.refused(kind, name, defined);
        assert!(told.contains(why), "{told}");
        assert_eq!(scene.describe(kind, name)["version"], "1.0.0", "{told}");
        out = scene.more("goes", out);
    }
    for (kind, name) in all {
        let body = scene.body(name, "9.0.0", b"not a library");
        let told = scene.kuiper.refused("PUT", &format!("/plugins/{kind}/{name}"), &body);
        assert!(told.contains("it is no shared library (ELF): it is a text"), "{told}");
        out = scene.more("goes", out);
    }
    let out = scene.stop("goes");
    assert_eq!(tally(&scene.path("numbers")), vec![1; out as usize]);
}

/// A group of an aggregate function, fed with numbers.
fn group(home: &Home) -> (Box<dyn Accumulator>, impl Fn(&mut dyn Accumulator, i64)) {
    let Body::GuestAggregate(start) = home.plugins.function("total").unwrap().body else {
        panic!("it is an aggregate")
    };
    let info = RuleInfo { id: "r".into(), ..RuleInfo::nowhere() };
    let add = move |group: &mut dyn Accumulator, number: i64| {
        let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
        group.add(&[Value::Int(number)], &ctx).unwrap();
    };
    (start(&"r".into(), 0), add)
}

#[test]
fn a_group_goes_on_with_the_new_version_where_that_can_read_it_and_else_ends_with_the_old_one() {
    let libraries = tempfile::tempdir().unwrap();
    for (states, version) in [("STATE_OLDEST=1", 2), ("STATE_OLDEST=2", 1)] {
        let home = Home::new();
        home.install(Kind::Functions, "total", "1.0.0", &library(libraries.path(), &["VARIANT=1"]));
        let (mut under_way, add) = group(&home);
        add(&mut *under_way, 3);
        let next = library(libraries.path(), &["VARIANT=2", "STATE_VERSION=2", states]);
        let zip = home.zip(&[("Total@v2.0.0.so", &fs::read(next).unwrap())]);
        let (found, moved) = home.plugins.swap(Kind::Functions, &made::wish("total"), &zip, &|_| Ok(())).unwrap();
        // It moves with its next row.
        assert_eq!((found.version.as_str(), moved.late), ("2.0.0", vec!["r".to_owned()]));
        add(&mut *under_way, 4);
        assert_eq!(under_way.give(), Ok(Value::Int(700 + version)));
        let users = |home: &Home| home.plugins.describe(Kind::Functions, "total").unwrap().mapped[0].users.clone();
        assert_eq!(users(&home).is_empty(), version == 2);
        let (mut later, add) = group(&home);
        add(&mut *later, 1);
        assert_eq!(later.give(), Ok(Value::Int(102)));
        drop(under_way);
        assert_eq!(users(&home), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_lookup_moves_between_two_questions() {
    let libraries = tempfile::tempdir().unwrap();
    let home = Home::new();
    home.install(Kind::Sources, "ticks", "1.0.0", &library(libraries.path(), &["VARIANT=1"]));
    let table = home.plugins.lookup("ticks", made::lookup_spec(json!({}))).unwrap().unwrap().table;
    let mut lookup = table.open(&["id".into()]).unwrap();
    let questions = [vec![Value::Int(7)], vec![Value::Int(8)]];
    let answers = |version: i64| vec![vec![Object::from_iter([("v", Value::Int(version))])]; 2];
    assert_eq!(lookup.find(&questions).await, Ok(answers(1)));
    let zip = |version: &str, defined: &[&str]| {
        let content = fs::read(library(libraries.path(), defined)).unwrap();
        home.zip(&[(&::kuiper::plugin::library_name("ticks", version), &content)])
    };
    let swap = |zip: &Path| home.plugins.swap(Kind::Sources, &made::wish("ticks"), zip, &|_| Ok(()));
    let told = swap(&zip("2.0.0", &["NO_CONNECTION"])).unwrap_err().to_string();
    assert!(told.ends_with("the new version cannot connect: nobody answers"), "{told}");
    assert_eq!(lookup.find(&questions).await, Ok(answers(1)));
    let (found, moved) = swap(&zip("3.0.0", &["VARIANT=3"])).unwrap();
    assert_eq!((found.version.as_str(), moved.moved.len(), moved.late.len()), ("3.0.0", 1, 0));
    assert_eq!(lookup.find(&questions).await, Ok(answers(3)));
    assert_eq!(table.open(&["id".into()]).unwrap().find(&questions).await, Ok(answers(3)));
}

/// `kuiper plugin dev`, which is told to end by the test.
struct Dev(std::process::Child);

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_project_is_swapped_whenever_it_changes_and_its_rows_are_printed() {
    let scene = Scene::new(&[]);
    let here = scene.kuiper.folder.path();
    let kuiper = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuiper"));
        command.args(arguments).current_dir(here).env("KUIPER_SERVER", scene.kuiper.url());
        command
            .env("CARGO", env!("CARGO"))
            .env("CARGO_TARGET_DIR", here.join("target"))
            .env("CARGO_NET_OFFLINE", "true");
        command
    };
    assert!(kuiper(&["plugin", "new", "functions", "turn"]).status().unwrap().success());
    let rule = json!({"id": "dev", "sql": "SELECT turn(t) AS u FROM words", "actions": [{"nop": {}}]});
    fs::write(here.join("rule.json"), rule.to_string()).unwrap();
    let extra = json!({"data": [{"t": "abc"}], "interval": "50ms", "loop": true}).to_string().replace('"', "\\\"");
    let stream = format!(r#"CREATE STREAM words () WITH (TYPE="simulator", FORMAT="json", EXTRA="{extra}")"#);
    let printed = fs::File::create(here.join("printed")).unwrap();
    let mut dev = kuiper(&["plugin", "dev", "--function", "turn", "--rule", "rule.json", "--stream", &stream]);
    let mut dev = Dev(dev.stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap());
    let prints = |text: &str| {
        let begun = std::time::Instant::now();
        while !fs::read_to_string(here.join("printed")).unwrap().contains(text) {
            let printed = || fs::read_to_string(here.join("printed")).unwrap();
            assert!(begun.elapsed() < std::time::Duration::from_secs(300), "no `{text}` in {}", printed());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    prints("dev 1.0.0: turn(\"abc\") = \"cba\"");
    let source = here.join("functions/turn/src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("text.chars().rev().collect()", "text. to_uppercase(")).unwrap();
    prints("cargo could not build `turn`; waiting for a change");
    fs::write(&source, text.replace("text.chars().rev().collect()", "text.to_uppercase()")).unwrap();
    prints("plugin turn is updated; `dev` runs on it");
    prints("dev 1.0.0: turn(\"abc\") = \"ABC\"");
    assert!(Command::new("kill").args(["-INT", &dev.0.id().to_string()]).status().unwrap().success());
    assert!(dev.0.wait().unwrap().success());
    // What was there for the time is gone.
    assert_eq!(scene.kuiper.ask("GET", "/rules", "").trim(), "[]");
    assert_eq!(scene.kuiper.ask("GET", "/streams", "").trim(), "[]");
}

#[test]
fn a_plugin_in_use_is_deleted_with_force_only() {
    let scene = Scene::new(&[
        ("sources", "ticks", &["VARIANT=1"]),
        ("sinks", "tally", &["VARIANT=1"]),
        ("functions", "edition", &["VARIANT=1"]),
    ]);
    scene.stream("ticks", 1_000, &json!({}));
    for rule in ["one", "two"] {
        let path = scene.path(rule);
        scene.kuiper.rule(rule, "SELECT n, edition(n) AS e FROM demo", json!({"tally": {"path": path}}));
        scene.more(rule, 0);
    }
    scene.stop("two");
    for (kind, name) in [("sources", "ticks"), ("sinks", "tally"), ("functions", "edition")] {
        let told = scene.kuiper.refused("DELETE", &format!("/plugins/{kind}/{name}"), "");
        let text = format!(
            "delete {kind} plugin {name} error: the rule `one` uses it; stop it, or delete with `force=true`, which stops it"
        );
        assert!(told.contains(&text), "{told}");
        assert_eq!(scene.describe(kind, name)["rules"], json!(["one"]));
    }
    let told = scene.kuiper.ask("DELETE", "/plugins/sinks/tally?force=true", "");
    assert_eq!(told, "sinks plugin tally is deleted; stopped: `one`");
    assert_eq!(scene.kuiper.status("one")["status"], "stopped");
    assert_eq!(tally(&scene.path("one")), vec![1; scene.kuiper.count("one", "out") as usize]);
    let told = scene.kuiper.ask("DELETE", "/plugins/sources/ticks", "");
    assert_eq!(told, "sources plugin ticks is deleted");
}

#[test]
fn a_delete_with_stop_ends_the_process_with_the_code_of_ekuiper() {
    let mut scene = Scene::new(&[("sinks", "tally", &["VARIANT=1"])]);
    let told = scene.kuiper.ask("DELETE", "/plugins/sinks/tally?stop=1", "");
    assert_eq!(told, "sinks plugin tally is deleted, and kuiper will be stopped");
    assert_eq!(scene.kuiper.ended(), Some(100), "{}", scene.kuiper.log());
}

#[test]
fn rows_that_go_through_a_plugin_can_be_seen() {
    let scene = Scene::new(&[
        ("sources", "ticks", &["VARIANT=1"]),
        ("sinks", "tally", &["VARIANT=1"]),
        ("functions", "edition", &["VARIANT=1"]),
    ]);
    scene.stream("ticks", 200, &json!({}));
    scene.kuiper.rule("seen", "SELECT n, edition(n) AS e FROM demo", json!({"tally": {"path": scene.path("numbers")}}));
    for (kind, name, text) in [
        ("sources", "ticks", "gave {\"n\":"),
        ("sinks", "tally", "took [{\"e\":1,\"n\":"),
        ("functions", "edition", "edition("),
    ] {
        let look = |after: i64| -> Json {
            serde_json::from_str(&scene.kuiper.ask("GET", &format!("/plugins/{kind}/{name}/rows?after={after}"), ""))
                .unwrap()
        };
        look(0);
        wait_for("rows", || look(0)["last"].as_i64().unwrap() > 2);
        let first = &look(0)["rows"][0];
        assert_eq!((&first["number"], &first["user"], &first["version"]), (&json!(1), &json!("seen"), &json!("1.0.0")));
        assert!(first["text"].as_str().unwrap().starts_with(text), "{first}");
        assert_eq!(look(2)["rows"][0]["number"], 3);
    }
}

#[test]
fn a_thousand_rows_a_second_go_into_a_database_while_the_sink_is_swapped() {
    let database = mariadb::Mariadb::start();
    database.sql("CREATE TABLE test.t (n INT)");
    let library = fs::read(made::ours("mysql")).unwrap();
    let scene = Scene::new(&[("sources", "ticks", &["VARIANT=1"])]);
    let install = |method: &str, path: &str, version: &str| {
        let answer = scene.kuiper.ask(method, path, &scene.body("mysql", version, &library));
        // The library is large, and what is mapped takes its place until the server ends.
        fs::remove_dir_all(scene.path("data/uploads")).unwrap();
        answer
    };
    install("POST", "/plugins/sinks", "1.0.0");
    scene.stream("ticks", 1_000, &json!({}));
    let sink = json!({"mysql": {"url": database.url(), "table": "t", "fields": ["n"]}});
    scene.kuiper.rule("into", "SELECT n FROM demo", sink);
    let mut out = scene.more("into", 0);
    for swap in 1..=SWAPS {
        let answer = install("PUT", "/plugins/sinks/mysql", &format!("1.0.{swap}"));
        assert_eq!(answer, "plugin mysql is updated; `into` runs on it");
        out = scene.more("into", out);
    }
    let out = scene.stop("into");
    let found = database.sql("SELECT COUNT(*), COUNT(DISTINCT n), MAX(n) FROM test.t");
    assert_eq!(found, format!("{out}\t{out}\t{}\n", out - 1));
}
