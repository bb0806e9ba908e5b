//! Plugins in C and C++ (`plugins/examples/c`), built by `make` and the system's compilers, in the real server.

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

use std::fs;

use ::kuiper::data::Value;
use ::kuiper::diag::Fault;
use ::kuiper::plugin::Kind;
use serde_json::json;

use compiled::examples;
use kuiper::{Kuiper, wait_for};
use made::{Home, call};

#[test]
fn a_source_two_functions_and_a_sink_make_a_rule() {
    let libraries = examples();
    let kuiper = Kuiper::start(|data| fs::create_dir(data.join("uploads")).unwrap());
    let uploads = kuiper.folder.path().join("data/uploads");
    for (kind, name) in [("sources", "ticks"), ("functions", "vowels"), ("functions", "mad"), ("sinks", "lines")] {
        let library = libraries.join(::kuiper::plugin::library_name(name, "1.0.0"));
        let entry = library.file_name().unwrap().to_str().unwrap().to_owned();
        let zip = made::zipped(&uploads, &[(&entry, &fs::read(&library).unwrap())]);
        let body = json!({"name": name, "file": format!("file://{}", zip.display())}).to_string();
        kuiper.ask("POST", &format!("/plugins/{kind}"), &body);
    }
    let path = kuiper.folder.path().join("seen");
    let refused = json!({"id": "r", "sql": "SELECT number FROM demo", "actions": [{"lines": {"file": "x"}}]});
    kuiper.stream(r#"CREATE STREAM demo () WITH (TYPE="ticks", FORMAT="json", EXTRA="{\"start\": 1, \"count\": 9, \"every\": 1}")"#);
    let told = kuiper.refused("POST", "/rules", &refused.to_string());
    assert!(told.contains("`lines`: property `path` is missing: it must be a text"), "{told}");
    let sql = "SELECT sum(number) AS sum, mad(number * number) AS off, vowels(concat('rows ', 'of the window')) AS n FROM demo GROUP BY COUNTWINDOW(3)";
    let action = json!({"lines": {"path": path, "prefix": "> ", "sendSingle": true}});
    kuiper.rule("r", sql, action);
    let seen = || fs::read_to_string(&path).unwrap_or_default();
    wait_for("three windows", || seen().lines().count() == 3);
    assert_eq!(
        seen(),
        "> {\"sum\":6,\"off\":3,\"n\":5}\n> {\"sum\":15,\"off\":9,\"n\":5}\n> {\"sum\":24,\"off\":15,\"n\":5}\n",
        "{}",
        kuiper.log()
    );
}

#[test]
fn what_an_example_offers_is_read_before_anything_of_it_is_executed() {
    let home = Home::new();
    let folder = home.folder.path();
    let crash = folder.join("crash.h");
    fs::write(&crash, "#include <stdlib.h>\n__attribute__((constructor)) static void begin(void) { abort(); }\n")
        .unwrap();
    compiled::make(folder, &[&format!("CFLAGS=-include {}", crash.display())]);
    for (symbol, kind, sentence) in [
        ("Lines", Kind::Sources, "it exports no source `Lines`; it exports sink `Lines`"),
        ("Ticks", Kind::Sinks, "it exports no sink `Ticks`; it exports source `Ticks`"),
        ("Vowels", Kind::Sinks, "it exports no sink `Vowels`; it exports function `vowels`"),
        ("Mad", Kind::Sources, "it exports no source `Mad`; it exports function `mad`"),
    ] {
        let library = format!("{symbol}@v1.0.0.so");
        let zip = home.zip(&[(&library, &fs::read(folder.join(&library)).unwrap())]);
        let told = home.plugins.install(kind, &made::wish(&symbol.to_lowercase()), &zip).unwrap_err().to_string();
        assert_eq!(told, format!("`{library}`: {sentence}"));
    }
}

#[test]
fn a_function_in_c_answers_row_by_row() {
    let home = Home::new();
    home.install(Kind::Functions, "vowels", "1.0.0", &examples().join("Vowels@v1.0.0.so"));
    let rows = [Value::text("aeiou\0x"), Value::Null, Value::Int(7), Value::text("")];
    let asked: Vec<&[Value]> = rows.iter().map(std::slice::from_ref).collect();
    let wrong = Err(Fault::eval("a text is needed, found an integer"));
    assert_eq!(call(&home, "vowels", "r")(&asked), [Ok(Value::Int(5)), Ok(Value::Null), wrong, Ok(Value::Int(0))]);
    let schema = &home.plugins.describe(Kind::Functions, "vowels").unwrap().symbols[0];
    assert_eq!((schema.about.as_str(), schema.signature.as_str()), ("How many vowels a text has.", "(text) -> int"));
}

#[test]
fn every_value_becomes_the_json_that_rust_makes_of_it() {
    use ::kuiper::io::{Content, Parcel, Report, RowSet};
    let home = Home::new();
    home.install(Kind::Sinks, "lines", "1.0.0", &examples().join("Lines@v1.0.0.so"));
    home.install(Kind::Sinks, "count", "1.0.0", made::count());
    let zone = |hours: i8| jiff::tz::TimeZone::fixed(jiff::tz::offset(hours));
    let time = |nanos: i64, hours: i8| Value::Time(::kuiper::data::DateTime::new(nanos, zone(hours)));
    let object = |members: &[(&str, Value)]| Value::object(members.iter().cloned().collect());
    let cells = [
        ("null", Value::Null),
        ("gone", Value::Absent),
        ("yes", Value::Bool(true)),
        ("least", Value::Int(i64::MIN)),
        ("tenth", Value::Float(0.1)),
        ("third", Value::Float(1.0 / 3.0)),
        ("nan", Value::Float(f64::NAN)),
        ("text", Value::text("\"naïve\" 温度 😀 \\ \n\t\r\u{1} end")),
        ("bytes", Value::bytes(b"\x00\xff!?")),
        ("none", Value::bytes(b"")),
        ("at", time(1_709_975_472_500_000_000, 5)),
        ("before", time(-1, -3)),
        ("micro", time(1_000, 0)),
        ("list", Value::array(vec![Value::Null, Value::array(vec![]), object(&[("k", Value::Int(1))])])),
        ("object", object(&[])),
    ];
    let layout: std::sync::Arc<::kuiper::data::Layout> =
        std::sync::Arc::new(cells.iter().map(|(name, _)| *name).collect());
    let rows = vec![cells.iter().map(|(_, value)| value.clone()).collect()];
    let parcels = [Parcel { content: Content::Rows(RowSet { layout, rows, single: true }), props: Vec::new() }];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let written = |name: &str| {
        let path = home.folder.path().join(name);
        let plan = home.plugins.sink(name, made::sink_spec("r", json!({ "path": path }))).unwrap().unwrap();
        let mut sink = (plan.open)().unwrap();
        runtime.block_on(async {
            sink.connect(Report::new().0).await.unwrap();
            sink.deliver(&parcels).await.unwrap_or_else(|stopped| panic!("{}", stopped.fault));
            sink.close().await.unwrap();
        });
        fs::read_to_string(path).unwrap()
    };
    let text = written("count");
    let by_rust = text.lines().find_map(|line| line.split_once(" row ")).unwrap().1;
    assert_eq!(written("lines").trim_end(), by_rust);
}
