use serde_json::json;
use tokio::task::yield_now;

use crate::codec::FormatOptions;
use crate::data::Layout;
use crate::io::tests::{env, sink_spec, spec};
use crate::io::{Env, RowSet};

use super::*;

fn source(env: &Env, filter: &str, wants_meta: bool) -> Box<dyn Source> {
    let props = json!({"datasource": filter, "bufferLength": 1});
    let spec = SourceSpec { env: env.clone(), wants_meta, ..spec(props, ".") };
    (plan_source(spec).unwrap().open)().unwrap()
}

fn sink(env: &Env, topic: &str) -> Box<dyn Sink> {
    let spec = SinkSpec { env: env.clone(), ..sink_spec(json!({"topic": topic}), ".") };
    (plan_sink(spec).unwrap().open)().unwrap()
}

fn parcel(topic: Option<&str>, n: i64) -> Parcel {
    let layout = Arc::new(Layout::from_iter(["a"]));
    let rows = RowSet { layout, rows: vec![vec![Value::Int(n)]], single: false };
    let props = topic.map(|topic| ("topic".to_owned(), topic.to_owned())).into_iter().collect();
    Parcel { content: Content::Rows(rows), props }
}

#[test]
fn wildcards_are_anchored() {
    for (filter, topic, yes) in [
        ("a/+", "a/b", true),
        ("a/+", "x/a/b/c", false),
        ("a/+", "a/b/c", false),
        ("a/#", "a/b/c", true),
        ("a/#", "a", true),
        ("#", "a/b", true),
        ("+/b", "a/b", true),
        ("a.c", "abc", false),
        ("a", "a/b", false),
        ("a/b", "a", false),
    ] {
        assert_eq!(matches(filter, topic), yes, "{filter} {topic}");
    }
    assert!(valid_filter("a/+/b/#") && !valid_filter("a/#/b") && !valid_filter("a+") && !valid_filter(""));
}

#[tokio::test]
async fn rows_go_to_all_who_match_with_the_actual_topic() {
    let env = env(".");
    let (mut one, mut all) = (source(&env, "a/b", true), source(&env, "a/+", false));
    let mut sink = sink(&env, "a/{{.x}}");
    sink.deliver(&[parcel(Some("a/b"), 1)]).await.unwrap();
    let (inlet, mut from) = Inlet::bounded(4);
    let (other, mut others) = Inlet::bounded(4);
    tokio::spawn(async move { one.run(inlet, Report::new().0).await });
    tokio::spawn(async move { all.run(other, Report::new().0).await });
    let message = from.recv().await.unwrap().remove(0);
    assert_eq!(message.payload, Payload::Row([("a", Value::Int(1))].into_iter().collect()));
    assert_eq!(message.meta.unwrap().get("topic"), Some(&Value::text("a/b")));
    assert!(others.recv().await.unwrap()[0].meta.is_none());
    let stopped = sink.deliver(&[parcel(Some("a/b"), 2), parcel(Some("a/#"), 3)]).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault.reason()), (1, "refused"));
}

#[tokio::test]
async fn a_full_subscriber_makes_the_publisher_wait_and_loses_nothing() {
    let env = env(".");
    let mut slow = source(&env, "t", false);
    let mut sink = sink(&env, "t");
    let publisher = tokio::spawn(async move {
        for n in 0..100 {
            sink.deliver(&[parcel(None, n)]).await.unwrap();
        }
    });
    for _ in 0..1_000 {
        yield_now().await;
    }
    assert!(!publisher.is_finished());
    let (inlet, mut from) = Inlet::bounded(1);
    tokio::spawn(async move { slow.run(inlet, Report::new().0).await });
    let mut seen = Vec::new();
    while seen.len() < 100 {
        seen.extend(from.recv().await.unwrap().into_iter().map(|message| message.payload));
    }
    let row = |n| Payload::Row([("a", Value::Int(n))].into_iter().collect());
    assert_eq!(seen, (0..100).map(row).collect::<Vec<_>>());
    publisher.await.unwrap();
}

#[tokio::test]
async fn a_subscriber_that_leaves_frees_the_publisher() {
    let env = env(".");
    let gone = source(&env, "t", false);
    let mut sink = sink(&env, "t");
    sink.deliver(&[parcel(None, 1)]).await.unwrap();
    let waiting = tokio::spawn(async move { sink.deliver(&[parcel(None, 2)]).await });
    yield_now().await;
    drop(gone);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert!(env.bus.lock().exact.is_empty());
}

#[tokio::test]
async fn a_lookup_table_says_that_it_retains_nothing() {
    let env = env(".");
    let plan = |props| {
        let Json::Object(props) = props else { unreachable!() };
        plan_lookup(LookupSpec { props, format: FormatOptions::default(), env: env.clone() }).unwrap().warnings
    };
    assert!(plan(json!({"datasource": "a", "key": "k", "retention": 0})).is_empty());
    let told = plan(json!({"datasource": "a", "key": "k", "retention": 5}));
    assert!(told[0].to_string().starts_with("property `retention` of a lookup table"), "{told:?}");
}
