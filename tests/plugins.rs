//! Plugins as the engine sees them: built, installed, loaded, used. `tests/plugins/made.rs` makes them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/keys.rs"]
mod keys;
#[path = "plugins/made.rs"]
mod made;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kuiper::clock::Time;
use kuiper::data::{Column, Layout, Object, Value};
use kuiper::diag::{Fault, Retry};
use kuiper::io::{Content, End, Inlet, Link, Message, Parcel, Payload, Report, RowSet, Sink};
use kuiper::plugin::{Kind, Plugins, Refusal, Settings};
use serde_json::json;

use made::{Home, call, count, ours, sink_spec, source_spec, wish};

/// A parcel of rows, each a list of names and values.
fn parcel(single: bool, rows: &[&[(&str, Value)]]) -> Parcel {
    let layout: Arc<Layout> = Arc::new(rows[0].iter().map(|(name, _)| *name).collect());
    let rows = rows.iter().map(|row| row.iter().map(|(_, value)| value.clone()).collect()).collect();
    Parcel { content: Content::Rows(RowSet { layout, rows, single }), props: Vec::new() }
}

fn opened(home: &Home, name: &str, rule: &str, path: &Path) -> Box<dyn Sink> {
    let plan = home.plugins.sink(name, sink_spec(rule, json!({ "path": path }))).unwrap().unwrap();
    (plan.open)().unwrap()
}

/// Lines that the sink has written, without the instance.
fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

#[tokio::test]
async fn a_sink_lives_through_its_steps_in_order() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    let path = home.folder.path().join("log");
    let mut sink = opened(&home, "count", "r", &path);
    let (report, link) = Report::new();
    sink.connect(report).await.unwrap();
    assert_eq!(link.borrow().link, Link::Connected);
    let nested = Value::object(Object::from_iter([("list", Value::array(vec![Value::Null, Value::bytes(b"\x01")]))]));
    let parcels = [
        parcel(true, &[&[("a", Value::Int(1)), ("gone", Value::Absent), ("n", nested)]]),
        parcel(true, &[&[("a", Value::Float(0.5))]]),
        parcel(false, &[&[("a", Value::text("x"))], &[("a", Value::Bool(true))]]),
        parcel(false, &[&[("a", Value::Null)]]),
    ];
    sink.deliver(&parcels).await.unwrap();
    sink.close().await.unwrap();
    assert_eq!(
        lines(&path),
        [
            "r provision",
            "r provision",
            "r connect",
            "r row {\"a\":1,\"n\":{\"list\":[null,\"AQ==\"]}}",
            "r row {\"a\":0.5}",
            "r list [{\"a\":\"x\"},{\"a\":true}]",
            "r list [{\"a\":null}]",
            "r close",
        ]
    );
}

#[tokio::test]
async fn spread_columns_are_the_columns_of_each_row() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    let path = home.folder.path().join("log");
    let mut sink = opened(&home, "count", "r", &path);
    sink.connect(Report::new().0).await.unwrap();
    let spread = |members: &[(&str, i64)]| {
        vec![Value::object(members.iter().map(|(name, value)| (*name, Value::Int(*value))).collect()), Value::Int(9)]
    };
    let column = |name: &str, spread| Column { name: name.into(), spread };
    let set = RowSet {
        layout: Arc::new(Layout::new(vec![column("*", true), column("z", false)])),
        rows: vec![spread(&[("a", 1), ("b", 2)]), spread(&[("b", 3)]), spread(&[("b", 4)])],
        single: false,
    };
    sink.deliver(&[Parcel { content: Content::Rows(set), props: Vec::new() }]).await.unwrap();
    assert_eq!(lines(&path).last().unwrap(), "r list [{\"a\":1,\"b\":2,\"z\":9},{\"b\":3,\"z\":9},{\"b\":4,\"z\":9}]");
}

#[tokio::test]
async fn templates_in_properties_come_evaluated_where_the_plugin_wants_them() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    let path = home.folder.path().join("log");
    let planned = |props| home.plugins.sink("count", sink_spec("r", props)).unwrap();
    let mut sink = (planned(json!({"path": path, "greeting": "hello {{.a}}"})).unwrap().open)().unwrap();
    sink.connect(Report::new().0).await.unwrap();
    let with = |single, n, text: &str| {
        let props = vec![("greeting".to_owned(), text.to_owned())];
        Parcel { props, ..parcel(single, &[&[("a", Value::Int(n))]]) }
    };
    let parcels = [with(true, 1, "hi"), with(true, 2, "hi"), with(true, 3, "ho"), with(false, 4, "ha")];
    sink.deliver(&parcels).await.unwrap();
    assert_eq!(
        lines(&path)[3..],
        ["r row hi {\"a\":1}", "r row hi {\"a\":2}", "r row ho {\"a\":3}", "r list ha [{\"a\":4}]"]
    );
    let refused = planned(json!({"path": "{{.a}}.log"})).err().unwrap();
    assert_eq!(
        refused.message,
        "`count`: property `path` takes no template, for it cannot change from row to row; found `{{.a}}.log`"
    );
    home.install(Kind::Sinks, "mysql", "1.0.0", &ours("mysql"));
    let table = json!({"url": "root@tcp(localhost:3306)/test", "table": "{{.id}}"});
    let refused = home.plugins.sink("mysql", sink_spec("r", table)).unwrap().err().unwrap();
    assert!(refused.message.starts_with("`mysql`: property `table` takes no template"), "{refused}");
    let schema = home.plugins.describe(Kind::Sinks, "count").unwrap();
    let schema = &schema.symbols.iter().find(|one| one.what == "sink").unwrap().schema;
    assert_eq!(
        (&schema["properties"]["greeting"]["dynamic"], &schema["properties"]["path"]["dynamic"]),
        (&json!(true), &json!(null))
    );
}

#[tokio::test]
async fn a_constructor_makes_an_instance_a_rule_and_a_singleton_one_for_all() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    home.install(Kind::Sinks, "counts", "1.0.0", count());
    for (name, expected) in [("count", 2), ("counts", 1)] {
        let path = home.folder.path().join(name);
        let mut sinks = [opened(&home, name, "one", &path), opened(&home, name, "two", &path)];
        for sink in &mut sinks {
            sink.connect(Report::new().0).await.unwrap();
            sink.deliver(&[parcel(true, &[&[("a", Value::Int(1))]])]).await.unwrap();
        }
        for sink in &mut sinks {
            sink.close().await.unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let of_rows: Vec<&str> = text.lines().filter(|line| line.contains(" row ")).collect();
        assert_eq!(of_rows.len(), 2, "{text}");
        let mut instances: Vec<&str> = of_rows.iter().map(|line| line.split(' ').next().unwrap()).collect();
        instances.dedup();
        assert_eq!(instances.len(), expected, "{text}");
        assert!(text.contains(" one ") && text.contains(" two "), "{text}");
    }
}

#[tokio::test]
async fn failures_keep_their_kind_and_a_panic_harms_nobody() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    let path = home.folder.path().join("log");
    let mut sink = opened(&home, "count", "r", &path);
    sink.connect(Report::new().0).await.unwrap();
    let asked = |what: &str| parcel(true, &[&[("do", Value::text(what))]]);

    let stopped = sink.deliver(&[asked(""), asked("never"), asked("")]).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault), (1, Fault::refused("not ever")));
    let stopped = sink.deliver(&[asked(""), asked(""), asked("later")]).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault), (2, Fault::unreachable("not now")));

    let list = parcel(false, &[&[("do", Value::text("never"))], &[("do", Value::text(""))]]);
    sink.deliver(&[asked(""), list]).await.unwrap();
    let refused = sink.refused();
    assert_eq!((refused.len(), refused[0].parcel, refused[0].row), (1, 1, 0));
    assert_eq!(refused[0].fault, Fault::refused("not ever"));
    assert!(sink.refused().is_empty());

    let stopped = sink.deliver(&[asked("panic")]).await.unwrap_err();
    let text = stopped.fault.to_string();
    assert!(matches!(stopped.fault, Fault::Refused(_)), "{text}");
    assert!(text.contains("the plugin panicked at ") && text.contains("count.rs:"), "{text}");
    assert!(text.ends_with(": as asked; this is a bug of the plugin"), "{text}");
    // The instance is not to be trusted any more: the next one is connected first.
    let stopped = sink.deliver(&[asked("")]).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault.retry()), (0, Retry::Later));
    sink.connect(Report::new().0).await.unwrap();
    sink.deliver(&[asked("")]).await.unwrap();

    // Rows that were not flushed went with the instance: they are given again, and then it is known at which it panicked.
    let rows = [asked(""), asked(""), asked("panic"), asked("")];
    let stopped = sink.deliver(&rows).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault.retry()), (0, Retry::Later), "{}", stopped.fault);
    assert!(stopped.fault.to_string().contains("as asked"), "{}", stopped.fault);
    sink.connect(Report::new().0).await.unwrap();
    let stopped = sink.deliver(&rows).await.unwrap_err();
    assert_eq!(stopped.delivered, 2, "{}", stopped.fault);
    assert!(matches!(stopped.fault, Fault::Refused(_)), "{}", stopped.fault);
    sink.connect(Report::new().0).await.unwrap();
    sink.deliver(&rows[3..]).await.unwrap();
}

#[test]
fn properties_are_checked_when_a_rule_is_made() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    home.install(Kind::Sinks, "counts", "1.0.0", count());
    let told = |name: &str, props| home.plugins.sink(name, sink_spec("r", props)).unwrap().err().unwrap().message;
    assert_eq!(told("count", json!({})), "`count`: property `path` is missing: it must be a text");
    assert_eq!(told("counts", json!({})), "`counts`: property `path` is missing: it must be a text");
    assert_eq!(
        told("count", json!({"path": "x", "greetign": "y"})),
        "`count`: property `greetign` is not known; did you mean `greeting`?"
    );
    assert!(home.plugins.sink("nope", sink_spec("r", json!({}))).is_none());
    let described = home.plugins.describe(Kind::Sinks, "count").unwrap();
    let sink = described.symbols.iter().find(|one| one.what == "sink" && one.name == "Count").unwrap();
    assert_eq!(sink.schema["properties"]["greeting"]["default"], "hello");
    assert_eq!(sink.schema["required"], json!(["path"]));
    assert_eq!(sink.schema["properties"]["password"]["writeOnly"], true);
}

/// Everything that a source gives until it ends, or until there is enough.
async fn given(home: &Home, name: &str, props: serde_json::Value, enough: usize) -> (Vec<Message>, Result<End, Fault>) {
    let plan = home.plugins.source(name, source_spec(props)).unwrap().unwrap();
    let mut source = (plan.open)().unwrap();
    let (inlet, mut chunks) = Inlet::bounded(2);
    let (report, _link) = Report::new();
    let mut all = Vec::new();
    let taking = async {
        while let Some(chunk) = chunks.recv().await {
            all.extend(chunk);
            if all.len() >= enough {
                break;
            }
        }
        drop(chunks);
    };
    let both = async { tokio::join!(source.run(inlet, report), taking).0 };
    let ended = tokio::time::timeout(Duration::from_secs(30), both).await.expect("the source ends");
    (all, ended)
}

#[tokio::test]
async fn a_source_pushes_rows_with_time_and_metadata() {
    let home = Home::new();
    home.install(Kind::Sources, "count", "1.0.0", count());
    for thread in [false, true] {
        let (all, ended) =
            given(&home, "count", json!({"count": 1234, "thread": thread, "format": "json"}), 5_000).await;
        assert_eq!((all.len(), ended), (1234, Ok(End::Finished)));
        let row = Object::from_iter([("n", Value::Int(1233))]);
        assert_eq!((&all[1233].payload, all[1233].time), (&Payload::Row(row), Time(1233)));
        assert_eq!(all[0].meta.as_ref().unwrap().get("source"), Some(&Value::text("numbers")));
    }
}

#[tokio::test]
async fn a_source_ends_when_nobody_listens_any_more() {
    let home = Home::new();
    home.install(Kind::Sources, "count", "1.0.0", count());
    for props in [json!({"count": 1_000_000}), json!({"count": 100, "end": false})] {
        let (all, ended) = given(&home, "count", props, 100).await;
        assert_eq!((all.len(), ended), (100, Ok(End::Closed)));
    }
}

#[tokio::test]
async fn a_source_is_asked_on_each_interval() {
    let home = Home::new();
    home.install(Kind::Sources, "pulled", "1.0.0", count());
    let mut spec = source_spec(json!({"interval": "1s"}));
    let clock = spec.env.clock.clone();
    spec.wants_meta = false;
    let plan = home.plugins.source("pulled", spec).unwrap().unwrap();
    assert!(!plan.gives_rows);
    let mut source = (plan.open)().unwrap();
    let (inlet, mut chunks) = Inlet::bounded(2);
    let running = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    let mut next = async |at: i64| {
        clock.set(Time(at));
        let chunk = tokio::time::timeout(Duration::from_secs(30), chunks.recv()).await.unwrap().unwrap();
        (chunk[0].payload.clone(), chunk[0].time)
    };
    assert_eq!(next(1_000).await, (Payload::Bytes("{\"n\":1}".into()), Time(1_000)));
    assert_eq!(next(2_000).await, (Payload::Error(Fault::refused("the second time never works")), Time(2_000)));
    assert_eq!(next(3_000).await, (Payload::Bytes("{\"n\":3}".into()), Time(3_000)));
    drop(chunks);
    assert_eq!(running.await.unwrap(), Ok(End::Closed));
}

#[tokio::test]
async fn the_source_random_gives_rows() {
    let home = Home::new();
    home.install(Kind::Sources, "random", "1.0.0", &ours("random"));
    let props = json!({"pattern": {"count": 50}, "seed": 10, "interval": 1000, "datasource": "", "FORMAT": "json"});
    let (all, ended) = given(&home, "random", props, 1).await;
    assert_eq!(ended, Ok(End::Closed));
    let Payload::Row(row) = &all[0].payload else { panic!("random gives rows") };
    assert!(matches!(row.get("count"), Some(Value::Int(50..=59))), "{row:?}");
}

#[test]
fn versions_replace_one_another_and_the_highest_is_loaded_at_start() {
    let home = Home::new();
    let library = fs::read(count()).unwrap();
    let version = |home: &Home| home.plugins.describe(Kind::Sinks, "count").unwrap().version;
    home.install(Kind::Sinks, "count", "1.0.0", count());
    let again = home.plugins.install(Kind::Sinks, &wish("Count"), &home.zip(&[("Count@v1.0.1.so", &library)]));
    assert_eq!(again.unwrap_err().to_string(), "sink plugin `Count` is installed already; replace it with PUT");
    let zip = home.zip(&[("Count@v1.0.1.so", &library), ("count.json", b"{}")]);
    assert_eq!(home.plugins.update(Kind::Sinks, &wish("count"), &zip).unwrap().version, "1.0.1");
    assert_eq!(home.plugins.metadata(Kind::Sinks, "count").as_deref(), Some("{}"));

    // By hand, as one does while looking for an error.
    let folder = home.data().join("plugins/sinks");
    fs::copy(count(), folder.join("Count@v1.0.9.so")).unwrap();
    fs::copy(count(), folder.join("Count@v1.0.10.so")).unwrap();
    fs::write(folder.join("Count@v2.0.0.so"), "not a library").unwrap();
    fs::write(folder.join("Broken@v1.0.0.so"), "not a library").unwrap();
    let (home, told) = home.reopened();
    assert_eq!((version(&home).as_str(), told.len()), ("1.0.10", 2), "{told:?}");
    assert!(told.iter().all(|text| text.ends_with("it is no shared library (ELF): it is a text")), "{told:?}");
    assert_eq!(home.plugins.list(Kind::Sinks), ["broken", "count"]);
    let wrong = home.plugins.sink("broken", sink_spec("r", json!({}))).unwrap().err().unwrap().message;
    assert_eq!(wrong, "the sink plugin `broken` cannot be loaded: it is no shared library (ELF): it is a text");

    // What is installed is what there is, also where it is older.
    let zip = home.zip(&[("Count@v1.0.2.so", &library)]);
    home.plugins.update(Kind::Sinks, &wish("count"), &zip).unwrap();
    home.plugins.remove(Kind::Sinks, "broken").unwrap();
    let (home, told) = home.reopened();
    assert_eq!((version(&home).as_str(), told), ("1.0.2", vec![]));
    home.plugins.remove(Kind::Sinks, "count").unwrap();
    assert_eq!(home.files(), []);
    assert_eq!(
        home.plugins.remove(Kind::Sinks, "count"),
        Err(Refusal::NotFound("sink plugin `count` is not installed".into()))
    );
}

#[test]
fn a_failed_installation_leaves_everything_as_it_was() {
    let home = Home::new();
    home.install(Kind::Sinks, "count", "1.0.0", count());
    let library = fs::read(count()).unwrap();
    let before = home.files();
    let outside = home.folder.path().join("evil");
    let touch = format!("echo working; touch {}; exit 1", home.folder.path().join("ran").display());
    let touches = format!("touch {}", outside.display());
    type Entries<'a> = &'a [(&'a str, &'a [u8])];
    let cases: &[(&str, Entries<'_>, &str)] = &[
        ("count", &[("Count@v2.0.0.so", b"text")], "`Count@v2.0.0.so`: it is no shared library (ELF): it is a text"),
        (
            "count",
            &[("Count@v2.0.0.so", &library), ("../../evil", b"")],
            "entry `../../evil` leads out of the plugin's folder",
        ),
        (
            "count",
            &[("Count@v2.0.0.so", b"\x7fELF"), ("install.sh", touches.as_bytes())],
            "`Count@v2.0.0.so`: it is truncated: it ends within its head",
        ),
        ("count", &[("readme.md", b"")], "the zip holds no library `Count@v1.0.0.so` or `count.so` at its top"),
        ("other", &[("Other@v1.0.0.so", &library)], "`Other@v1.0.0.so`: it exports no sink `Other`; it exports"),
        ("../up", &[("Count@v2.0.0.so", &library)], "`../up` is no name of a plugin"),
        ("", &[("Count@v2.0.0.so", &library)], "the name of the plugin is empty"),
        (
            "count",
            &[("Count@v2.0.0.so", &library), ("count.json", b"{}"), ("install.sh", touch.as_bytes())],
            "install.sh failed (exit status: 1): working",
        ),
    ];
    for (name, entries, text) in cases {
        let zip = home.zip(entries);
        let refused = match home.plugins.list(Kind::Sinks).contains(&name.to_string()) {
            true => home.plugins.update(Kind::Sinks, &wish(name), &zip),
            false => home.plugins.install(Kind::Sinks, &wish(name), &zip),
        };
        let told = refused.unwrap_err().to_string();
        assert!(told.starts_with(text), "{told}");
        assert!(!told.contains('\n') || text.contains("install.sh"), "{told}");
        assert_eq!(home.files(), before, "{name}");
        assert!(!home.data().join("plugins/staged").exists(), "{name}");
        assert_eq!(home.plugins.describe(Kind::Sinks, "count").unwrap().version, "1.0.0");
    }
    // The script of the last one did run, that of the damaged library did not.
    assert!(home.folder.path().join("ran").exists() && !outside.exists());
    let parameters = kuiper::plugin::Install { shell_params: vec!["x".into()], ..wish("count") };
    let refused = home.plugins.update(Kind::Sinks, &parameters, &home.zip(&[("Count@v2.0.0.so", &library)]));
    assert_eq!(refused.unwrap_err().to_string(), "there are shell parameters, and the zip holds no install.sh");
}

#[test]
fn what_comes_along_finds_its_place() {
    let home = Home::new();
    let library = fs::read(ours("random")).unwrap();
    let zip = home.zip(&[
        ("random@v1.0.0.so", &library),
        ("random.yaml", b"default:\n  seed: 7\n"),
        ("random.json", b"{}"),
        ("etc/deep/list.txt", b"one"),
        ("notes.txt", b"anything else"),
        ("install.sh", b"echo \"$1\" > etc/deep/list.txt"),
    ]);
    let installed = kuiper::plugin::Install { shell_params: vec!["two words".into()], ..wish("random") };
    home.plugins.install(Kind::Sources, &installed, &zip).unwrap();
    assert_eq!(home.plugins.source_yaml("random").as_deref(), Some("default:\n  seed: 7\n"));
    let of = |path: &str| fs::read_to_string(home.data().join(path)).ok();
    assert_eq!(of("sources/random.json").as_deref(), Some("{}"));
    assert_eq!(of("sources/random/deep/list.txt").as_deref(), Some("two words\n"));
    assert!(home.files().iter().all(|(path, _)| !path.ends_with("notes.txt")));
}

#[test]
fn a_plugin_built_with_an_old_compiler_works() {
    let (rustc, cargo) = (Path::new("/usr/bin/rustc"), Path::new("/usr/bin/cargo"));
    assert!(rustc.exists() && cargo.exists(), "this test needs Debian's packages `rustc` and `cargo`");
    let version = Command::new(rustc).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let own = Command::new("rustc").arg("--version").output().unwrap().stdout;
    assert_ne!(version.as_bytes(), own, "the other compiler is the same one");

    // A project of its own, far from this one, with the SDK beside it.
    let folder = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&repository.join("plugins/sdk/src"), &folder.path().join("sdk/src"));
    let manifest = "[package]\nname = \"kuiper-plugin\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    fs::write(folder.path().join("sdk/Cargo.toml"), manifest).unwrap();
    let project = folder.path().join("count");
    fs::create_dir_all(project.join("src")).unwrap();
    fs::copy(repository.join("plugins/sdk/examples/count.rs"), project.join("src/lib.rs")).unwrap();
    let manifest = "[package]\nname = \"count\"\nversion = \"9.0.0\"\nedition = \"2021\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n\
                    [dependencies]\nkuiper-plugin = { path = \"../sdk\" }\n\n[profile.release]\nopt-level = 3\n";
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    let built = Command::new(cargo)
        .args(["build", "--release", "--offline", "--quiet"])
        .current_dir(&project)
        .env("RUSTC", rustc)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .unwrap();
    assert!(built.success());

    let home = Home::new();
    let library: PathBuf = project.join("target/release/libcount.so");
    home.install(Kind::Functions, "count", "9.0.0", &library);
    home.install(Kind::Sinks, "count", "9.0.0", &library);
    assert_eq!(
        call(&home, "same", "r")(&[&[Value::text("over")], &[Value::Int(1)]]),
        [Ok(Value::text("over")), Ok(Value::Int(1))]
    );
    let path = home.folder.path().join("log");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sink = opened(&home, "count", "r", &path);
        sink.connect(Report::new().0).await.unwrap();
        sink.deliver(&[parcel(true, &[&[("a", Value::Int(1))]])]).await.unwrap();
        let stopped = sink.deliver(&[parcel(true, &[&[("do", Value::text("panic"))]])]).await.unwrap_err();
        assert!(stopped.fault.to_string().ends_with("this is a bug of the plugin"), "{}", stopped.fault);
    });
    assert_eq!(lines(&path).last().unwrap(), "r row {\"a\":1}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn without_a_data_folder_there_are_no_plugins() {
    let refused = Plugins::none().install(Kind::Sinks, &wish("count"), Path::new("x.zip")).unwrap_err();
    assert_eq!(refused.to_string(), "there is no data folder to install plugins in");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), "a file").unwrap();
    let (_, told) = Plugins::open(Settings::new(folder.path().join("data")));
    assert!(told[0].starts_with("cannot use the folder of plugins below `"), "{told:?}");
}
