//! Functions of plugins, as the engine sees them. `tests/plugins/made.rs` makes the plugins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;

use std::fs;
use std::path::Path;

use kuiper::clock::Time;
use kuiper::data::{Object, Value};
use kuiper::diag::Fault;
use kuiper::func::{Body, Ctx, RuleInfo};
use kuiper::plugin::{Kind, Refusal};

use made::{Home, call, count, wish};

#[test]
fn functions_take_batches_and_remember() {
    let home = Home::new();
    home.install(Kind::Functions, "count", "1.0.0", count());
    assert_eq!(home.plugins.udfs(), ["allCalls", "calls", "longest", "same"]);
    assert_eq!(home.plugins.plugin_of("same").as_deref(), Some("count"));
    let deep = Value::object(Object::from_iter([("k", Value::array(vec![Value::Null, Value::text("ü")]))]));
    let rows = [Value::Null, Value::Int(i64::MIN), Value::Float(1.5), Value::bytes(b"\x00"), deep];
    let asked: Vec<&[Value]> = rows.iter().map(std::slice::from_ref).collect();
    let expected: Vec<Result<Value, Fault>> = rows.iter().cloned().map(Ok).collect();
    assert_eq!(call(&home, "same", "r")(&asked), expected);

    let ints = |range: std::ops::RangeInclusive<i64>| range.map(|n| Ok(Value::Int(n))).collect::<Vec<_>>();
    let (one, two) = (call(&home, "calls", "r"), call(&home, "calls", "r"));
    assert_eq!((one(&[&[], &[]]), two(&[&[]]), one(&[&[]])), (ints(1..=2), ints(1..=1), ints(3..=3)));
    let (one, two) = (call(&home, "allCalls", "r"), call(&home, "allCalls", "s"));
    assert_eq!((one(&[&[]]), two(&[&[]]), one(&[&[]])), (ints(1..=1), ints(2..=2), ints(3..=3)));

    let panics = call(&home, "calls", "the rule");
    let text = panics(&[&[Value::text("panic")]])[0].clone().unwrap_err().to_string();
    assert!(text.ends_with("as asked in the rule; this is a bug of the plugin"), "{text}");
    assert_eq!(panics(&[&[]]), ints(1..=1));
    // Of a batch only the row that it panics at.
    let of = |text: &str| [Value::text(text)];
    let rows = panics(&[&of("a"), &of("b"), &of("panic"), &of("c")]);
    assert_eq!((&rows[..2], &rows[3..]), (&ints(1..=2)[..], &ints(1..=1)[..]));
    assert!(rows[2].as_ref().unwrap_err().to_string().contains("as asked"), "{rows:?}");
}

#[test]
fn a_function_is_asked_about_its_arguments_when_a_rule_is_made() {
    let home = Home::new();
    home.install(Kind::Functions, "count", "1.0.0", count());
    let catalogue = home.plugins.catalogue();
    let planned = |sql: &str| {
        let select = kuiper::sql::parse_select(sql).unwrap();
        let stream = |name: &str| Some(kuiper::plan::Stream::schemaless(name));
        let planned = kuiper::plan::plan(&select, &stream, &catalogue, &kuiper::plan::Options::default());
        planned.map(drop).map_err(|found| found[0].message.clone())
    };
    for sql in [
        "SELECT calls('fine') AS n FROM demo",
        "SELECT calls(a) AS n FROM demo",
        "SELECT allCalls() AS n FROM demo",
        "SELECT longest('text') AS l FROM demo GROUP BY TUMBLINGWINDOW(ss, 1)",
        "SELECT same('refuse') AS s FROM demo",
    ] {
        assert_eq!(planned(sql), Ok(()), "{sql}");
    }
    assert_eq!(planned("SELECT calls('refuse') AS n FROM demo"), Err("`calls`: this text is not for me".to_owned()),);
    assert_eq!(
        planned("SELECT a FROM demo WHERE allCalls('refuse') > 1"),
        Err("`allCalls`: this text is not for me".to_owned()),
    );
    assert_eq!(
        planned("SELECT longest(5) AS l FROM demo GROUP BY TUMBLINGWINDOW(ss, 1)"),
        Err("`longest`: a number has no length".to_owned()),
    );
    let panics = planned("SELECT calls('panic at once') AS n FROM demo").unwrap_err();
    assert!(
        panics.starts_with("`calls`: the plugin panicked at ") && panics.ends_with("a bug of the plugin"),
        "{panics}"
    );
}

#[test]
fn aggregates_give_and_go_on_from_what_they_saved() {
    let home = Home::new();
    home.install(Kind::Functions, "count", "1.0.0", count());
    let func = home.plugins.function("longest").unwrap();
    let Body::GuestAggregate(start) = func.body else { panic!("it is an aggregate") };
    let info = RuleInfo::nowhere();
    let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
    let mut group = start(&"r".into(), 0);
    assert_eq!(group.give(), Ok(Value::text("")));
    for text in ["a", "ccc", "bb"] {
        group.add(&[Value::text(text)], &ctx).unwrap();
    }
    assert_eq!(group.add(&[Value::Int(1)], &ctx), Err(Fault::eval("a text is needed, found an integer")));
    let mut later = start(&"r".into(), 0);
    later.load(group.save()).unwrap();
    later.add(&[Value::text("dd")], &ctx).unwrap();
    assert_eq!((group.give(), later.give()), (Ok(Value::text("ccc")), Ok(Value::text("ccc"))));
}

#[test]
fn functions_are_declared_and_belong_to_one_plugin() {
    let home = Home::new();
    let library = fs::read(count()).unwrap();
    let zip = home.zip(&[("Count@v1.0.0.so", &library)]);
    let declared = |functions: &[&str]| {
        let functions = functions.iter().map(|name| name.to_string()).collect();
        kuiper::plugin::Install { functions, ..wish("count") }
    };
    let refused = home.plugins.install(Kind::Functions, &declared(&["same", "nope"]), &zip).unwrap_err();
    assert_eq!(
        refused,
        Refusal::Invalid(
            "`Count@v1.0.0.so`: it has no function `nope`; it has `same`, `calls`, `allCalls`, `longest`".into()
        )
    );
    home.plugins.install(Kind::Functions, &declared(&["Same"]), &zip).unwrap();
    assert_eq!(home.plugins.udfs(), ["same"]);
    let second = home.zip(&[("Second@v1.0.0.so", &library)]);
    let second = home.plugins.install(
        Kind::Functions,
        &kuiper::plugin::Install { name: "second".into(), ..declared(&["same"]) },
        &second,
    );
    assert_eq!(second.unwrap_err().to_string(), "`same` is a function of the plugin `count` already");
    let taken = kuiper::plugin::Install { name: "third".into(), ..declared(&["abs"]) };
    let nowhere = Path::new("no.zip");
    let third = home.plugins.install(Kind::Functions, &taken, nowhere).unwrap_err();
    assert_eq!(third.to_string(), "`abs` is a function of kuiper itself");
    for (kind, name) in [(Kind::Sinks, "mqtt"), (Kind::Sinks, "Nop"), (Kind::Sources, "simulator")] {
        let refused = home.plugins.install(kind, &wish(name), nowhere).unwrap_err().to_string();
        let text =
            format!("`{}` is a {} of kuiper itself; give the plugin another name", name.to_lowercase(), kind.one());
        assert_eq!(refused, text);
    }
    assert!(home.plugins.admit(Kind::Sources, &wish("nop")).is_ok(), "there is no such source");
    home.plugins.register("count", &["calls".into(), "same".into()]).unwrap();
    let (home, told) = home.reopened();
    assert_eq!((home.plugins.udfs(), told), (vec!["calls".to_owned(), "same".to_owned()], vec![]));
    assert!(home.plugins.catalogue().find("Calls").is_none(), "names of plugins heed case");
}
