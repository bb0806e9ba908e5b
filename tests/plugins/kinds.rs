//! Sources, lookups, sinks and functions of plugins by themselves, in this process and in others.

use std::fs;
use std::time::Duration;

use kuiper::clock::Time;
use kuiper::data::{Object, Value};
use kuiper::diag::{Fault, Retry};
use kuiper::func::{Body, Ctx, Guest, RuleInfo};
use kuiper::io::{Chunk, Content, End, Inlet, Parcel, Payload, Report, Source, Takes};
use kuiper::plugin::Kind;
use serde_json::{Value as Json, json};

use super::kuiper_served::wait_for;
use super::made::{Home, kinds, lookup_spec, sink_spec, source_spec};

/// Where these plugins run in this process, and where each runs in one of its own.
fn homes(installed: &[(Kind, &str)]) -> [Home; 2] {
    let homes = [Home::new(), Home::isolated()];
    for (home, (kind, name)) in homes.iter().flat_map(|home| installed.iter().map(move |one| (home, one))) {
        home.install(*kind, name, "1.0.0", kinds());
    }
    homes
}

fn opened(home: &Home, name: &str, props: Json) -> Box<dyn Source> {
    let mut spec = source_spec(props);
    spec.wants_acks = true;
    (home.plugins.source(name, spec).unwrap().unwrap().open)().unwrap()
}

fn number(row: &Payload) -> i64 {
    match row {
        Payload::Row(row) => row.get("n").unwrap().as_i64().unwrap(),
        other => panic!("no row: {other:?}"),
    }
}

/// What a source gives until it has given that number.
async fn until(mut source: Box<dyn Source>, last: i64) -> Vec<Chunk> {
    let (inlet, mut from) = Inlet::bounded(4);
    let running = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    let mut chunks: Vec<Chunk> = Vec::new();
    while chunks.last().is_none_or(|chunk| number(&chunk.last().unwrap().payload) < last) {
        let chunk = tokio::time::timeout(Duration::from_secs(30), from.recv()).await.unwrap();
        chunks.push(chunk.expect("the source goes on"));
    }
    drop(from);
    assert_eq!(running.await.unwrap(), Ok(End::Closed));
    chunks
}

#[tokio::test]
async fn a_source_goes_on_from_any_position_that_it_told() {
    for home in homes(&[(Kind::Sources, "steps")]) {
        let props = json!({"count": 1000, "batch": 7});
        assert!(home.plugins.source("steps", source_spec(props.clone())).unwrap().unwrap().seeks);
        let chunks = until(opened(&home, "steps", props.clone()), 99).await;
        assert_eq!(chunks[0].len(), 7);
        let at = chunks[5].position.clone().expect("a position");
        let mut again = opened(&home, "steps", props.clone());
        again.seek(&at).await.unwrap();
        let chunks = until(again, 99).await;
        assert_eq!(number(&chunks[0][0].payload), 42);

        let mut wrong = opened(&home, "steps", props.clone());
        let foreign = Value::object(Object::from_iter([("at", Value::text("here"))]));
        wrong.seek(&foreign).await.unwrap();
        let refused = wrong.run(Inlet::bounded(1).0, Report::new().0).await.unwrap_err();
        assert_eq!(refused, Fault::setup("a position is an object, found \"here\""));
        let wrong = opened(&home, "steps", props).seek(&Value::Int(1)).await.unwrap_err();
        assert_eq!(wrong.retry(), Retry::Never);
    }
}

#[tokio::test]
async fn a_source_hears_what_all_rules_are_done_with() {
    for home in homes(&[(Kind::Sources, "steps")]) {
        let path = home.folder.path().join("tokens");
        let mut source = opened(&home, "steps", json!({"count": 30, "batch": 10, "tokens": path}));
        let (inlet, mut from) = Inlet::bounded(4);
        let running = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
        let mut chunks = Vec::new();
        for _ in 0..3 {
            chunks.push(tokio::time::timeout(Duration::from_secs(30), from.recv()).await.unwrap().unwrap());
        }
        // Ten rows share a promise: the last one keeps it. The second emission is refused by one of its rows.
        for (n, chunk) in chunks.into_iter().enumerate() {
            for (row, message) in chunk.messages.into_iter().enumerate() {
                let ack = message.ack.expect("a promise");
                if (n, row) == (1, 3) {
                    ack.refuse();
                }
                ack.settle();
            }
        }
        let told = || fs::read_to_string(&path).unwrap_or_default();
        wait_for("the tokens", || told().matches('\n').count() == 2);
        assert_eq!(told(), "10\n30\n");
        drop(from);
        assert_eq!(running.await.unwrap(), Ok(End::Closed));
    }
}

#[tokio::test]
async fn what_a_source_stores_comes_back_with_its_place() {
    for home in homes(&[(Kind::Sources, "counted")]) {
        let read = |chunk: &Chunk| match &chunk[0].payload {
            Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("no message: {other:?}"),
        };
        let run = |mut source: Box<dyn Source>| async move {
            let (inlet, mut from) = Inlet::bounded(4);
            let end = source.run(inlet, Report::new().0).await;
            let mut chunks = Vec::new();
            while let Some(chunk) = from.recv().await {
                chunks.push(chunk);
            }
            (chunks, end)
        };
        let (chunks, end) = run(opened(&home, "counted", json!({"last": 1}))).await;
        assert_eq!((read(&chunks[0]).as_str(), end), ("{\"n\":1,\"run\":0}", Ok(End::Finished)));
        assert_eq!(chunks[0][0].meta.as_ref().unwrap().get("number"), Some(&Value::Int(1)));
        let at = chunks[0].position.clone().unwrap();
        let mut again = opened(&home, "counted", json!({"last": 2}));
        again.seek(&at).await.unwrap();
        let (chunks, end) = run(again).await;
        assert_eq!((read(&chunks[0]).as_str(), end), ("{\"n\":2,\"run\":0}", Ok(End::Finished)));

        // The plugin writes version 3 of its state, and reads 2 and 3.
        let Value::Object(place) = at else { panic!("a place is an object") };
        for (version, readable) in [(0, true), (1, false), (2, true), (3, true), (4, false)] {
            let mut place = (*place).clone();
            place.insert("version", Value::Int(version));
            let sought = opened(&home, "counted", json!({})).seek(&Value::object(place)).await;
            assert_eq!(sought.is_ok(), readable, "{version}: {sought:?}");
            if let Err(fault) = sought {
                let text = fault.to_string();
                assert!(text.contains("reads state of the versions 2 to 3, and version"), "{text}");
            }
        }
    }
}

fn rows(found: &[Vec<Object>]) -> Vec<Vec<String>> {
    let one = |row: &Object| Value::object(row.clone()).print().to_string();
    found.iter().map(|rows| rows.iter().map(one).collect()).collect()
}

#[tokio::test]
async fn a_lookup_answers_many_questions_in_one_call() {
    for home in homes(&[(Kind::Sources, "rooms")]) {
        let log = home.folder.path().join("log");
        let spec = lookup_spec(json!({"word": "R", "log": log, "datasource": "x", "key": "id", "format": "json"}));
        let table = home.plugins.lookup("rooms", spec).unwrap().unwrap().table;
        let mut open = table.open_for(&["id".into()], &["id".into(), "name".into()]).unwrap();
        let questions: Vec<Vec<Value>> = [2, 3, 4].map(|id| vec![Value::Int(id)]).into();
        let found = open.find(&questions).await.unwrap();
        assert_eq!(
            rows(&found),
            [
                vec!["map[floor:0 id:2 name:R 2]"],
                vec![],
                vec!["map[floor:0 id:4 name:R 4]", "map[floor:0 id:4 name:R 5]"],
            ]
        );
        assert_eq!(fs::read_to_string(&log).unwrap(), "id,name of id: 3\n");

        let refused = |id: Value| vec![vec![id]];
        let never = open.find(&refused(Value::text("two"))).await.unwrap_err();
        assert!(matches!(&never, Fault::Eval(text) if text.starts_with("rooms have numbers")), "{never}");
        let later = open.find(&refused(Value::Int(13))).await.unwrap_err();
        assert_eq!((later.retry(), later), (Retry::Later, Fault::unreachable("the house is closed")));
        let bug = open.find(&refused(Value::Int(14))).await.unwrap_err().to_string();
        assert!(bug.ends_with(": no such room; this is a bug of the plugin"), "{bug}");
        assert_eq!(rows(&open.find(&refused(Value::Int(6))).await.unwrap()), [vec!["map[floor:0 id:6 name:R 6]"]]);
        open.close().await;
    }
}

#[tokio::test]
async fn messages_that_a_lookup_finds_are_decoded_by_the_format_of_the_table() {
    for home in homes(&[(Kind::Sources, "papers"), (Kind::Sources, "rooms"), (Kind::Sources, "steps")]) {
        let table = home.plugins.lookup("papers", lookup_spec(json!({}))).unwrap().unwrap().table;
        let mut open = table.open(&["id".into()]).unwrap();
        let questions: Vec<Vec<Value>> = [2, 3].map(|id| vec![Value::Int(id)]).into();
        let found = open.find(&questions).await.unwrap();
        let page = |row: &Object| row.get("page").unwrap().as_f64().unwrap();
        assert_eq!((page(&found[0][0]), page(&found[1][0]), found.len()), (4.0, 6.0, 2));
        let told = home.plugins.lookup("rooms", lookup_spec(json!({"wrod": "x"}))).unwrap().err().unwrap();
        assert_eq!(told.message, "`rooms`: property `wrod` is not known; did you mean `word`?");
        assert!(home.plugins.lookup("steps", lookup_spec(json!({}))).is_none());
        assert!(home.plugins.has_lookup("rooms") && !home.plugins.has_source("rooms"));
    }
}

fn letter(text: &str, prefix: Option<&str>) -> Parcel {
    let props = prefix.map(|prefix| ("prefix".to_owned(), prefix.to_owned())).into_iter().collect();
    Parcel { content: Content::Bytes(text.as_bytes().to_vec().into()), props }
}

#[tokio::test]
async fn a_sink_of_messages_flushes_and_takes_back() {
    for home in homes(&[(Kind::Sinks, "lines")]) {
        let path = home.folder.path().join("lines");
        let plan =
            home.plugins.sink("lines", sink_spec("r", json!({"path": path, "prefix": "{{.a}}"}))).unwrap().unwrap();
        assert_eq!(plan.takes, Takes::Bytes);
        let lines = || fs::read_to_string(&path).unwrap();
        let mut sink = (plan.open)().unwrap();
        sink.connect(Report::new().0).await.unwrap();
        sink.deliver(&[letter("one", None), letter("two", Some("p:")), letter("", None)]).await.unwrap();
        assert_eq!(lines(), "one\np:two\n\n");
        let at = sink.position().await.unwrap().expect("a position");
        let stopped = sink.deliver(&[letter("three", None), letter(r#"{"do":"never"}"#, None)]).await.unwrap_err();
        assert_eq!((stopped.delivered, stopped.fault), (1, Fault::refused("not this")));
        assert_eq!(lines(), "one\np:two\n\nthree\n");
        let stopped = sink.deliver(&[letter(r#"{"do":"panic"}"#, None)]).await.unwrap_err();
        assert!(stopped.fault.to_string().ends_with("this is a bug of the plugin"), "{}", stopped.fault);
        sink.close().await.unwrap();

        let mut sink = (plan.open)().unwrap();
        sink.connect(Report::new().0).await.unwrap();
        sink.resume(&at).await.unwrap();
        sink.deliver(&[letter("four", None)]).await.unwrap();
        assert_eq!(lines(), "one\np:two\n\nfour\n");
        let Some(Value::Object(place)) = sink.position().await.unwrap() else { panic!("a place is an object") };
        let stored = place.get("stored").unwrap().clone();
        assert_eq!(
            stored,
            Value::object(Object::from_iter([("messages", Value::Int(4))])),
            "it began with what was stored"
        );
        sink.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_sink_for_all_rules_keeps_what_each_has_stored_and_no_position() {
    for home in homes(&[(Kind::Sinks, "allLines")]) {
        let path = home.folder.path().join("lines");
        let plan = |rule: &str| home.plugins.sink("allLines", sink_spec(rule, json!({"path": path}))).unwrap().unwrap();
        let (one, two) = (plan("one"), plan("two"));
        let kept = |messages: i64| {
            let stored = Value::object(Object::from_iter([("messages", Value::Int(messages))]));
            Value::object(Object::from_iter([("version", Value::Int(1)), ("stored", stored)]))
        };
        let (mut first, mut other) = ((one.open)().unwrap(), (two.open)().unwrap());
        for sink in [&mut first, &mut other] {
            sink.connect(Report::new().0).await.unwrap();
            sink.deliver(&[letter("a", None)]).await.unwrap();
        }
        first.deliver(&[letter("b", None)]).await.unwrap();
        let place = first.position().await.unwrap().unwrap();
        assert_eq!((&place, other.position().await.unwrap()), (&kept(2), Some(kept(1))));
        let mut again = (one.open)().unwrap();
        again.connect(Report::new().0).await.unwrap();
        again.resume(&place).await.unwrap();
        again.deliver(&[letter("c", None)]).await.unwrap();
        assert_eq!(again.position().await.unwrap(), Some(kept(3)));
    }
}

#[test]
fn schemas_of_all_kinds_come_from_the_plugin() {
    for home in homes(&[(Kind::Sources, "rooms"), (Kind::Sources, "counted")]) {
        let described = home.plugins.describe(Kind::Sources, "rooms").unwrap();
        let lookup = described.symbols.iter().find(|one| one.what == "lookup" && one.name == "RoomsLookup").unwrap();
        assert_eq!((lookup.about.as_str(), lookup.state), ("Rooms by their number.", (0, 0)));
        assert_eq!(lookup.schema["properties"]["word"]["default"], "room");
        assert_eq!(lookup.schema["properties"]["word"]["description"], "What is said of each room.");
        let counted = described.symbols.iter().find(|one| one.name == "Counted").unwrap();
        assert_eq!((counted.what, counted.state), ("source", (2, 3)));
        let kinds: Vec<&str> = described.symbols.iter().map(|one| one.what).collect();
        assert_eq!(kinds[..7], ["source", "source", "lookup", "lookup", "sink", "sink", "sink"]);
        assert!(kinds[7..].iter().all(|kind| *kind == "function"), "{kinds:?}");
    }
}

#[test]
fn what_functions_store_is_saved_and_loaded() {
    for home in homes(&[(Kind::Functions, "kinds")]) {
        let catalogue = home.plugins.catalogue();
        let Body::Guest(visits) = catalogue.find("visits").unwrap().body else { panic!("`visits` is a scalar") };
        let info = RuleInfo { id: "r".into(), ..RuleInfo::nowhere() };
        let ctx = Ctx { now: Time(0), row_time: None, rule: &info };
        let call = |guest: &dyn Guest, key: &str| guest.call(&[&Value::text(key)], 1, &ctx).remove(0).unwrap();
        let (one, two) = (visits(0), visits(1));
        assert_eq!(
            (call(&*one, "a"), call(&*one, "a"), call(&*one, "b")),
            (Value::Int(1), Value::Int(2), Value::Int(1))
        );
        let saved = one.save();
        call(&*one, "a");
        // Loaded before its first call, and after.
        two.load(&saved).unwrap();
        one.load(&saved).unwrap();
        assert_eq!(
            (call(&*one, "a"), call(&*two, "a"), call(&*two, "b")),
            (Value::Int(3), Value::Int(3), Value::Int(2))
        );
        assert!(two.load(&Value::Int(1)).is_err());

        // Of one instance for all rules each call has what it stored itself.
        let Body::Guest(visits) = catalogue.find("allVisits").unwrap().body else { panic!("`allVisits` is a scalar") };
        let (one, two) = (visits(0), visits(1));
        assert_eq!(
            (call(&*one, "a"), call(&*one, "a"), call(&*two, "a")),
            (Value::Int(1), Value::Int(2), Value::Int(1))
        );
        let three = visits(0);
        three.load(&one.save()).unwrap();
        assert_eq!(
            (call(&*three, "a"), call(&*one, "a"), call(&*two, "a")),
            (Value::Int(3), Value::Int(3), Value::Int(2))
        );

        let Body::GuestAggregate(middle) = catalogue.find("middle").unwrap().body else {
            panic!("`middle` is an aggregate")
        };
        let mut one = middle(&"r".into(), 0);
        for n in [9, 1] {
            one.add(&[Value::Int(n)], &ctx).unwrap();
        }
        let mut two = middle(&"r".into(), 0);
        two.load(one.save()).unwrap();
        two.add(&[Value::Int(5)], &ctx).unwrap();
        assert_eq!((one.give().unwrap(), two.give().unwrap()), (Value::Int(9), Value::Int(5)));
    }
}
