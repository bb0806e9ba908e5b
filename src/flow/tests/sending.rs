//! Sinks that are slow, away, picky or broken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::diag::Fault;
use crate::io::{End, Link};

#[tokio::test]
async fn a_slow_sink_makes_the_source_wait_and_nothing_is_lost() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let given = Arc::<AtomicUsize>::default();
    let (messages, count) = (acks.rows(0..300), given.clone());
    let source = lives(vec![Ok(life(|inlet, _| async move {
        for message in messages {
            inlet.send(vec![message]).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(End::Finished)
    }))]);
    let sink = sink().shut();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    settle().await;
    let waiting = given.load(Ordering::SeqCst);
    assert!((1..40).contains(&waiting), "{waiting} messages were taken");
    settle().await;
    assert_eq!(given.load(Ordering::SeqCst), waiting);
    assert!(acks.good().is_empty() && acks.bad().is_empty());
    sink.open();
    running.ended().await;
    assert_eq!(sink.took(), texts(0..300));
    assert_eq!(running.stop().await.terms(), [300, 0, 0, 0]);
    assert_eq!(acks.good().len(), 300);
}

#[tokio::test]
async fn an_outage_is_waited_out_with_growing_pauses() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let tries = Arc::<Mutex<Vec<i64>>>::default();
    let (times, time) = (tries.clone(), clock.clone());
    let sink = sink_that(move |text| {
        let mut times = times.lock().unwrap();
        if text == "{\"a\":3}" && times.len() < 8 {
            times.push(time.now().0);
            return Does::Fail(Fault::unreachable("the line is dead"));
        }
        Does::Take
    });
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    tap.give(acks.rows(0..6)).await;
    until_by(&clock, "all rows", || sink.took().len() == 6).await;
    assert_eq!(sink.took(), texts(0..6));
    let tries = tries.lock().unwrap().clone();
    let pauses: Vec<i64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]) && pauses[0] >= 100, "{pauses:?}");
    let left = running.stop().await;
    assert_eq!(left.terms(), [6, 0, 0, 0]);
    assert_eq!(acks.good(), [0, 1, 2, 3, 4, 5]);
    assert!(sink.connects() > 8, "after an outage it connects anew");
}

#[tokio::test]
async fn a_sink_that_is_away_at_the_start_is_waited_for() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let mut tries = 0;
    let sink = sink_connecting(move || {
        tries += 1;
        if tries < 5 { Err(Fault::unreachable("no one is there")) } else { Ok(()) }
    });
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the first failure", || running.flow.nodes()[2].view.exceptions > 0).await;
    until("the rows", || running.ledger().came == 3).await;
    until_by(&clock, "all rows", || sink.took().len() == 3).await;
    running.stop().await;
    assert_eq!(acks.good(), [0, 1, 2]);
}

#[tokio::test]
async fn a_row_that_the_sink_never_takes_is_dead_and_the_rule_goes_on() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that(|text| match text {
        "{\"a\":1}" | "{\"a\":4}" => Does::Fail(Fault::refused("not this one")),
        _ => Does::Take,
    });
    let source = lives(vec![Ok(gives(vec![acks.rows(0..5)], Ok(End::Finished)))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    assert_eq!(sink.took(), texts([0, 2, 3]));
    assert_eq!(left.ledger.dead["refused"], 2);
    assert_eq!((left.sink(0).delivered, left.sink(0).dead["refused"]), (3, 2));
    assert_eq!(acks.good(), [0, 1, 2, 3, 4], "a dead row is not given again");
}

#[tokio::test]
async fn a_message_is_acknowledged_when_the_last_of_two_sinks_has_it() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (fast, slow) = (sink(), sink().shut());
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&fast).to(&slow).start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the fast sink", || fast.took().len() == 3).await;
    settle().await;
    assert!(acks.good().is_empty() && running.ledger().out == 0);
    slow.open();
    until("the acknowledgements", || acks.good().len() == 3).await;
    assert_eq!(running.stop().await.terms(), [3, 0, 0, 0]);
}

#[tokio::test]
async fn a_row_that_one_of_two_sinks_refuses_is_dead() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (good, bad) = (sink(), sink_that(|_| Does::Fail(Fault::refused("never"))));
    let source = lives(vec![Ok(gives(vec![acks.rows(0..3)], Ok(End::Finished)))]);
    let running = rule("SELECT a FROM demo").to(&bad).to(&good).start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    assert_eq!(left.terms(), [0, 0, 0, 3]);
    assert_eq!((left.sink(0).delivered, left.sink(1).delivered), (0, 3));
    assert_eq!(acks.good(), [0, 1, 2]);
}

#[tokio::test]
async fn a_sink_that_can_never_connect_ends_the_rule() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_connecting(|| Err(Fault::setup("wrong password")));
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    assert_eq!(running.failed().await, Fault::setup("wrong password"));
    let left = running.stop().await;
    assert_eq!(left.ledger.dropped["stop"], 3);
    assert_eq!(acks.bad(), [0, 1, 2], "what was not delivered is given again");
    assert_eq!(sink.closes(), 1);
}

#[tokio::test]
async fn a_setting_that_turns_out_wrong_at_a_delivery_ends_the_rule_and_kills_no_row() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that(|text| match text {
        "{\"a\":0}" => Does::Take,
        _ => Does::Fail(Fault::setup("the table is gone")),
    });
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    assert_eq!(running.failed().await, Fault::setup("the table is gone"));
    assert_eq!(running.stop().await.terms(), [1, 0, 2, 0]);
    assert_eq!((acks.good(), acks.bad()), (vec![0], vec![1, 2]));
}

#[tokio::test]
async fn a_sink_that_panics_ends_its_rule_with_the_text() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that(|text| if text == "{\"a\":2}" { Does::Panic } else { Does::Take });
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..2)).await;
    until("the first rows", || acks.good().len() == 2).await;
    tap.give(acks.rows(2..5)).await;
    let fault = running.failed().await;
    assert!(fault.to_string().contains("`fake_0` panicked: no more room for {\"a\":2}"), "{fault}");
    let left = running.stop().await;
    assert_eq!(left.terms(), [2, 0, 3, 0]);
    assert_eq!(left.nodes.last().unwrap().view.exceptions, 1);
    assert_eq!((acks.good(), acks.bad()), (vec![0, 1], vec![2, 3, 4]));
}

#[tokio::test]
async fn a_rule_whose_sink_never_comes_can_be_stopped() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_connecting(|| Err(Fault::unreachable("no one is there")));
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    for n in 0..8 {
        tap.give(acks.rows(n * 10..n * 10 + 10)).await;
    }
    until("a try", || sink.connects() > 1).await;
    let left = running.give_up().await;
    assert_eq!(left.ledger.dropped["stop"], left.ledger.came);
    assert_eq!(acks.bad().len(), 80, "all of them are given again");
    assert_eq!(sink.closes(), 1, "closed also after a failed connect");
}

#[tokio::test]
async fn a_rule_whose_sink_hangs_can_be_stopped() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that(|text| if text == "{\"a\":1}" { Does::Hang } else { Does::Take });
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the first row", || sink.took().len() == 1).await;
    let left = running.give_up().await;
    // It took the first row, but did not come to say so.
    assert_eq!(left.terms(), [0, 0, 3, 0]);
    assert_eq!(acks.bad(), [0, 1, 2]);
    assert_eq!(sink.closes(), 1);
}

#[tokio::test]
async fn a_sink_that_does_not_close_holds_no_one_up() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that_never_closes();
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the rows", || acks.good().len() == 3).await;
    let left = running.give_up().await;
    assert_eq!(left.terms(), [3, 0, 0, 0]);
    assert_eq!(acks.good(), [0, 1, 2]);
}

#[tokio::test]
async fn a_sink_that_returns_from_its_idling_goes_on() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that_returns_from_idle();
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    settle().await;
    tap.give(acks.rows(0..3)).await;
    until("the rows", || sink.took().len() == 3).await;
    assert_eq!(running.stop().await.terms(), [3, 0, 0, 0]);
}

#[tokio::test]
async fn a_stop_lets_a_slow_sink_deliver_what_is_on_its_way() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink().shut();
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    for n in 0..6 {
        tap.give(acks.rows(n..n + 1)).await;
    }
    let opens = tokio::spawn({
        let sink = sink.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            sink.open();
        }
    });
    let left = running.stop().await;
    opens.await.unwrap();
    assert_eq!(left.terms(), [6, 0, 0, 0]);
    assert_eq!(sink.took(), texts(0..6));
}

#[tokio::test]
async fn the_link_of_a_sink_tells_of_an_outage_and_of_its_end() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let away = Arc::new(Mutex::new(false));
    let state = away.clone();
    let sink = sink_that(move |_| match *state.lock().unwrap() {
        true => Does::Fail(Fault::unreachable("the line is dead")),
        false => Does::Take,
    });
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    let link = || running.flow.nodes().last().unwrap().link.clone().unwrap().link;
    tap.give(acks.rows(0..1)).await;
    until("the first row", || sink.took().len() == 1).await;
    assert_eq!(link(), Link::Connected);
    *away.lock().unwrap() = true;
    tap.give(acks.rows(1..2)).await;
    until("the outage", || link() == Link::Disconnected("the line is dead".into())).await;
    *away.lock().unwrap() = false;
    until_by(&clock, "the end of it", || link() == Link::Connected).await;
    running.stop().await;
}

#[tokio::test]
async fn an_outage_lasts_from_its_first_failure_however_often_the_sink_connects() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let tries = Arc::new(AtomicUsize::new(0));
    let counts = tries.clone();
    // It connects each time, as one does that has no connection of its own.
    let sink = sink_that(move |_| match counts.fetch_add(1, Ordering::SeqCst) {
        0..6 => Does::Fail(Fault::unreachable("no")),
        _ => Does::Take,
    });
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    let link = || running.flow.nodes().last().unwrap().link.clone().unwrap();
    clock.set(Time(1_000));
    tap.give(acks.rows(0..1)).await;
    until("the first failure", || matches!(link().link, Link::Disconnected(_))).await;
    let began = link().disconnected;
    until_by(&clock, "more failures", || {
        let link = link();
        let lasts = matches!(link.link, Link::Disconnected(_)) && link.disconnected == began;
        tries.load(Ordering::SeqCst) >= 6 || !lasts
    })
    .await;
    assert!(tries.load(Ordering::SeqCst) >= 6 && sink.connects() >= 6);
    assert_eq!(link().disconnected, began);
    until_by(&clock, "the end of it", || link().link == Link::Connected).await;
    assert_eq!((sink.took().len(), link().disconnected), (1, began));
    running.stop().await;
}

#[tokio::test]
async fn a_sink_that_was_never_connected_owes_what_came() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(5_000)));
    let away = Arc::new(AtomicUsize::new(1));
    let state = away.clone();
    let sink = sink_connecting(move || match state.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ => Err(Fault::unreachable("nobody listens")),
    });
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    let owed = || running.flow.nodes().last().unwrap().view.owed;
    until("a try", || sink.connects() > 0).await;
    assert_eq!(owed(), 0);
    let before = clock.now().0;
    tap.give(acks.rows(0..3)).await;
    until("the debt", || owed() != 0).await;
    assert!((before..=clock.now().0).contains(&owed()), "{}", owed());
    let since = owed();
    clock.set(Time(clock.now().0 + 60_000));
    tap.give(acks.rows(3..5)).await;
    assert_eq!(owed(), since);
    away.store(0, Ordering::SeqCst);
    until_by(&clock, "the delivery", || sink.took().len() == 5).await;
    until("no debt", || owed() == 0).await;
    assert_eq!(sink.took(), texts(0..5));
    running.stop().await;
}

#[tokio::test]
async fn errors_go_to_the_sinks_in_their_order() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let messages = vec![
        acks.row(0),
        acks.message(1, "{\"a\":"),
        acks.row(2),
        acks.message(3, "nonsense"),
        acks.message(4, "{\"a\":\"text\"}"),
        acks.row(5),
    ];
    let source = lives(vec![Ok(gives(vec![messages], Ok(End::Finished)))]);
    let mut rule = rule("SELECT a + 1 as b FROM demo").to(&sink);
    rule.send_error = true;
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    let took = sink.took();
    assert_eq!([&took[0], &took[2], &took[5]], ["{\"b\":1}", "{\"b\":3}", "{\"b\":6}"], "{took:?}");
    assert!(took[4].contains("run Select error"), "{took:?}");
    assert_eq!((took.len(), left.ledger.dead["decode"], left.ledger.dead["eval"]), (6, 2, 1));
    assert_eq!(acks.good(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(left.sink(0).results, 3, "an error is no result");
}

#[tokio::test]
async fn what_is_sent_together_is_acknowledged_together() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let sink = sink();
    let (mut tap, source) = tap();
    let props = serde_json::json!({"sendSingle": true, "batchSize": 3, "lingerInterval": "1s"});
    let rule = rule("SELECT a FROM demo").with(&sink, props, false).at(&clock);
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..4)).await;
    until("the full batch", || sink.took() == ["[{\"a\":0},{\"a\":1},{\"a\":2}]"]).await;
    until("its acknowledgements", || acks.good() == [0, 1, 2]).await;
    settle().await;
    assert_eq!(sink.took().len(), 1);
    clock.set(Time(1000));
    until("the tick", || sink.took().len() == 2).await;
    tap.give(acks.rows(4..5)).await;
    settle().await;
    assert_eq!(sink.took()[1..], ["[{\"a\":3}]"]);
    // What waits at a stop is sent.
    assert_eq!(running.stop().await.terms(), [5, 0, 0, 0]);
    assert_eq!(sink.took()[2..], ["[{\"a\":4}]"]);
    assert_eq!(acks.good(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn what_waits_to_be_sent_together_is_given_back_by_a_stop_that_cannot_wait() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let sink = sink().shut();
    let (mut tap, source) = tap();
    let props = serde_json::json!({"batchSize": 2});
    let rule = rule("SELECT a FROM demo").with(&sink, props, false).at(&clock);
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    settle().await;
    running.give_up().await;
    assert!(acks.good().is_empty());
    assert_eq!(acks.bad(), [0, 1, 2, 3, 4]);
}
