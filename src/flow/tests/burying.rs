//! Dead letters: where a row can die, what its letter says, and when its message is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::diag::Fault;
use crate::io::{End, Payload};
use crate::meter::SinkView;

fn single() -> Json {
    json!({"sendSingle": true})
}

/// The letters that a sink took.
fn letters(sink: &Fake) -> Vec<Json> {
    sink.took().iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// The account of the sink for the dead.
fn dead_of(left: &Left) -> SinkView {
    left.nodes.iter().find(|node| node.name == "sink_dead").unwrap().account.clone().unwrap()
}

#[tokio::test]
async fn every_death_has_its_letter() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(5000)));
    let (dead, refusing) = (
        sink(),
        sink_that(|text| match text {
            "{\"b\":3}" => Does::Fail(Fault::refused("not this one")),
            _ => Does::Take,
        }),
    );
    let mut bytes = acks.row(3);
    bytes.payload = Payload::Bytes(b"\xff\x00a".as_slice().into());
    let messages =
        vec![acks.row(0), acks.message(1, "{\"a\":"), acks.row(2), bytes, acks.message(4, "{\"a\":\"x\",\"c\":1}")];
    let source = lives(vec![Ok(gives(vec![messages], Ok(End::Finished)))]);
    let mut rule = rule("SELECT a + 1 as b FROM demo").to(&refusing).at(&clock);
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    assert_eq!(refusing.took(), ["{\"b\":1}"]);
    let letters = letters(&dead);
    let of = |sink: &Json, payload: Json| {
        let found = letters.iter().find(|letter| letter["payload"] == payload && letter["sink"] == *sink);
        found.unwrap_or_else(|| panic!("no letter of {payload}: {letters:#?}")).clone()
    };
    let broken = of(&Json::Null, json!("{\"a\":"));
    assert_eq!((&broken["time"], &broken["position"]), (&json!(5000), &json!({"stream": "demo", "arrived": 0})));
    assert!(broken["error"].as_str().is_some_and(|error| !error.is_empty()));
    of(&Json::Null, json!({"base64": "/wBh"}));
    let failed = of(&Json::Null, json!({"a": "x"}));
    assert!(failed["error"].as_str().unwrap().starts_with("run Select error: "), "{failed}");
    assert_eq!(failed["position"], json!({"stream": "demo"}));
    let refused = of(&json!("fake_0"), json!("{\"b\":3}"));
    assert_eq!((&refused["error"], &refused["position"]), (&json!("not this one"), &Json::Null));
    assert_eq!(letters.len(), 4, "{letters:#?}");
    assert_eq!((left.ledger.dead["decode"], left.ledger.dead["eval"], left.ledger.dead["refused"]), (2, 1, 1));
    assert_eq!((left.sink(0).dead["refused"], dead_of(&left).delivered), (1, 4));
    assert_eq!(acks.good(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_message_is_acknowledged_when_its_letter_is_confirmed() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (good, dead) = (sink(), sink().shut());
    let (mut tap, source) = tap();
    let mut rule = rule("SELECT a + 1 as b FROM demo").to(&good);
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(vec![acks.row(0), acks.message(1, "nonsense"), acks.message(2, "{\"a\":\"x\"}"), acks.row(3)]).await;
    until("the good rows", || acks.good() == [0, 3]).await;
    settle().await;
    assert_eq!(acks.good(), [0, 3]);
    assert!(running.ledger().dead.is_empty(), "not told, not counted");
    dead.open();
    until("the letters", || acks.good() == [0, 1, 2, 3]).await;
    assert_eq!(running.stop().await.terms(), [2, 0, 0, 2]);
}

#[tokio::test]
async fn letters_that_were_given_up_go_back_with_their_messages() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (good, dead) = (sink(), sink().shut());
    let (mut tap, source) = tap();
    let mut rule = rule("SELECT a FROM demo").to(&good);
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(vec![acks.row(0), acks.message(1, "nonsense")]).await;
    until("the good row", || acks.good() == [0]).await;
    let left = running.give_up().await;
    assert_eq!((acks.good(), acks.bad()), (vec![0], vec![1]));
    assert_eq!((left.ledger.out, left.ledger.dropped["stop"]), (1, 1));
}

#[tokio::test]
async fn many_letters_that_wait_hold_the_rule_up_and_none_is_given_up() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (good, dead) = (sink(), sink().shut());
    let chunks = (0..50).map(|chunk| (0..100).map(|n| acks.message(chunk * 100 + n, "nonsense")).collect()).collect();
    let source = lives(vec![Ok(gives(chunks, Ok(End::Finished)))]);
    let mut rule = rule("SELECT a FROM demo").to(&good);
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    until("the first letters", || running.ledger().came > 1000).await;
    settle().await;
    let came = running.ledger().came;
    assert!(came < 4000, "{came} messages were taken");
    settle().await;
    assert_eq!(running.ledger().came, came);
    dead.open();
    running.ended().await;
    assert_eq!(dead.took().len(), 5000);
    assert_eq!(running.stop().await.terms(), [0, 0, 0, 5000]);
    assert_eq!(acks.good().len(), 5000);
}

#[tokio::test]
async fn a_letter_that_a_crash_cut_off_comes_again_out_of_the_journal() {
    let (home, clock) = (tempfile::tempdir().unwrap(), Clock::stopped_at(Time(0)));
    let acks = Arc::<Acks>::default();
    let out = sink();
    let start = async |dead: &Fake, source| {
        let mut rule = rule("SELECT a + 1 AS b, lag(a) AS before FROM demo").to(&out).at(&clock);
        rule.journal = Some((home.path().to_owned(), Duration::from_secs(1)));
        rule.dead = Some((dead.clone(), single()));
        rule.start(&feed(source, &clock)).await.unwrap()
    };
    let dead = sink().shut();
    let (mut tap, source) = tap();
    let running = start(&dead, source).await;
    tap.give(vec![acks.row(1), acks.message(2, "{\"a\":\"x\"}"), acks.row(3)]).await;
    until("the log has them", || acks.good() == [1, 2, 3]).await;
    until("the results", || out.took().len() == 2).await;
    // A snapshot that let go of the log would let go of the row that no letter tells of.
    for second in 1..20 {
        clock.set(Time(second * 1000));
        settle().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.kill().await;
    let (dead, (_tap, source)) = (sink(), super::kit::tap());
    let running = start(&dead, source).await;
    until("the letter", || letters(&dead).iter().any(|letter| letter["payload"] == json!({"a": "x"}))).await;
    running.stop().await;
}

#[tokio::test]
async fn letters_that_are_sent_together_hold_no_end_up() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let dead = sink();
    let messages = (0..3).map(|n| acks.message(n, "nonsense")).collect();
    let source = lives(vec![Ok(gives(vec![messages], Ok(End::Finished)))]);
    let mut rule = rule("SELECT a FROM demo").to(&sink());
    rule.dead = Some((dead.clone(), json!({"sendSingle": true, "batchSize": 100})));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    running.stop().await;
    assert_eq!((dead.took().len(), acks.good()), (1, vec![0, 1, 2]));
}

#[tokio::test]
async fn a_sink_for_the_dead_that_is_away_is_waited_for_and_one_that_refuses_is_counted() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let away = Arc::new(AtomicBool::new(true));
    let state = away.clone();
    let dead = sink_that(move |text| match text {
        _ if state.load(Ordering::SeqCst) => Does::Fail(Fault::unreachable("no one is there")),
        text if text.contains("nonsense 1") => Does::Fail(Fault::refused("not even here")),
        _ => Does::Take,
    });
    let (mut tap, source) = tap();
    let mut rule = rule("SELECT a FROM demo").to(&sink());
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give((0..3).map(|n| acks.message(n, &format!("nonsense {n}"))).collect()).await;
    until("a try", || running.flow.nodes().last().unwrap().view.exceptions > 0).await;
    assert!(acks.good().is_empty());
    away.store(false, Ordering::SeqCst);
    until("the acknowledgements", || acks.good() == [0, 1, 2]).await;
    let left = running.stop().await;
    assert_eq!((dead_of(&left).delivered, dead_of(&left).dead["refused"]), (2, 1));
    assert_eq!(left.ledger.dead["decode"], 3, "why the row died stays what it was");
}

#[tokio::test]
async fn a_sink_for_the_dead_that_can_never_work_ends_the_rule() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let dead = sink_connecting(|| Err(Fault::setup("wrong password")));
    let (mut tap, source) = tap();
    let mut rule = rule("SELECT a FROM demo").to(&sink());
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(vec![acks.message(0, "nonsense")]).await;
    assert_eq!(running.failed().await, Fault::setup("wrong password"));
    running.stop().await;
    assert_eq!(acks.bad(), [0]);
}

#[tokio::test]
async fn a_window_that_fails_tells_of_its_rows() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let dead = sink();
    let messages = vec![acks.row(1), acks.message(2, "{\"a\":\"x\"}")];
    let source = lives(vec![Ok(gives(vec![messages], Ok(End::Finished)))]);
    let mut rule = rule("SELECT a + 1 AS b FROM demo GROUP BY COUNTWINDOW(2)").to(&sink());
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    let payloads: Vec<Json> = letters(&dead).iter().map(|letter| letter["payload"].clone()).collect();
    assert!(payloads.contains(&json!({"a": "x"})) && payloads.len() == 2, "{payloads:?}");
    assert_eq!(left.ledger.dead["eval"], 2);
}

#[tokio::test]
async fn an_emission_that_cannot_be_shaped_is_told_whole() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (out, dead) = (sink(), sink());
    let source = lives(vec![Ok(gives(vec![acks.rows(1..3)], Ok(End::Finished)))]);
    let mut rule = rule("SELECT a FROM demo").with(&out, json!({"sendSingle": true, "dataField": "a"}), false);
    rule.dead = Some((dead.clone(), json!({"sendSingle": true, "fields": ["payload", "sink"]})));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    assert_eq!(
        dead.took(),
        ["{\"payload\":{\"a\":1},\"sink\":\"fake_0\"}", "{\"payload\":{\"a\":2},\"sink\":\"fake_0\"}"]
    );
    assert_eq!(left.ledger.dead["encode"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_refuses_out_of_its_queue_has_a_letter_before_the_disk_lets_go() {
    let (home, acks) = (tempfile::tempdir().unwrap(), Arc::<Acks>::default());
    let queues = queues(&home);
    let away = Arc::new(AtomicBool::new(true));
    let state = away.clone();
    let out = sink_that(move |text| match text {
        _ if state.load(Ordering::SeqCst) => Does::Fail(Fault::unreachable("no one is there")),
        "{\"a\":1}" => Does::Fail(Fault::refused("not this one")),
        _ => Does::Take,
    });
    let (mut tap, source) = tap();
    let dead = sink().shut();
    let props = json!({"sendSingle": true, "enableCache": true});
    let mut rule = rule("SELECT a FROM demo").with(&out, props, false).keeping(&queues, None);
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the disk has them", || acks.good() == [0, 1, 2]).await;
    away.store(false, Ordering::SeqCst);
    until("the first one", || out.took().len() == 1).await;
    settle().await;
    assert_eq!(out.took(), texts(0..1), "the letter is not told yet");
    dead.open();
    until("the others", || out.took() == texts([0, 2])).await;
    let left = running.stop().await;
    assert_eq!((&letters(&dead)[0]["payload"], dead_of(&left).delivered), (&json!("{\"a\":1}"), 1));
    assert_eq!((left.sink(0).delivered, left.sink(0).dead["refused"]), (2, 1));
}

#[tokio::test]
async fn what_was_tried_too_often_has_its_letter() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let out = sink_that(|text| match text {
        "{\"a\":0}" => Does::Fail(Fault::unreachable("no one is there")),
        _ => Does::Take,
    });
    let (dead, (mut tap, source)) = (sink(), tap());
    let props = json!({"sendSingle": true, "retryCount": 2, "retryInterval": "1ms"});
    let mut rule = rule("SELECT a FROM demo").with(&out, props, false);
    rule.dead = Some((dead.clone(), single()));
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..2)).await;
    until("both", || acks.good() == [0, 1]).await;
    let left = running.stop().await;
    let letter = &letters(&dead)[0];
    assert_eq!((&letter["payload"], &letter["error"]), (&json!("{\"a\":0}"), &json!("no one is there")));
    assert_eq!((left.ledger.dead["retries"], left.ledger.out), (1, 1));
}
