//! A feed that several rules share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::kit::*;
use crate::clock::Clock;
use crate::diag::Fault;
use crate::flow::Ended;
use crate::io::End;

#[tokio::test]
async fn each_rule_gets_the_columns_that_it_asks_for() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (all, one, other) = (sink(), sink(), sink());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let rules = [
        rule("SELECT * FROM demo").to(&all).start(&feed).await.unwrap(),
        rule("SELECT a, b FROM demo").to(&one).start(&feed).await.unwrap(),
        rule("SELECT b, c FROM demo WHERE a > 1").to(&other).start(&feed).await.unwrap(),
    ];
    let messages = vec![
        acks.message(0, r#"{"a":1,"b":2,"c":3,"d":4}"#),
        acks.message(1, r#"{"a":2,"d":4}"#),
        acks.message(2, r#"{"a":3,"b":[1]}"#),
        acks.message(3, r#"{"b""#),
        acks.message(4, "[]"),
        acks.message(5, "{}"),
    ];
    tap.give(messages).await;
    until("all of it", || all.took().len() == 4 && one.took().len() == 4 && acks.good().len() == 6).await;
    assert_eq!(all.took(), [r#"{"a":1,"b":2,"c":3,"d":4}"#, r#"{"a":2,"d":4}"#, r#"{"a":3,"b":[1]}"#, "{}"]);
    assert_eq!(one.took(), [r#"{"a":1,"b":2}"#, r#"{"a":2}"#, r#"{"a":3,"b":[1]}"#, "{}"]);
    assert_eq!(other.took(), ["{}", r#"{"b":[1]}"#]);
    for (rule, terms) in rules.into_iter().zip([[4, 0, 0, 1], [4, 0, 0, 1], [2, 2, 0, 1]]) {
        assert_eq!(rule.stop().await.terms(), terms);
    }
    assert_eq!(tap.opened.load(Ordering::SeqCst), 1);
}

/// A declared column that only some rules ask for is a fault for those and no others, as in a stream of their own.
#[tokio::test]
async fn a_typed_column_can_fail_only_the_rules_that_ask_for_it() {
    const STREAM: &str = r#"CREATE STREAM demo (a BIGINT, b BIGINT, c BIGINT) WITH (DATASOURCE="demo")"#;
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sinks = [sink(), sink(), sink()];
    let (mut tap, source) = tap();
    let feed = typed_feed(STREAM, source, &clock);
    let mut rules = Vec::new();
    for (sql, sink) in ["SELECT a FROM demo", "SELECT a, b FROM demo", "SELECT * FROM demo"].into_iter().zip(&sinks) {
        let mut rule = rule(sql).to(sink);
        (rule.stream, rule.send_error) = (Some(STREAM), true);
        rules.push(rule.start(&feed).await.unwrap());
    }
    let messages = vec![
        acks.message(0, r#"{"a":1,"b":2,"c":3}"#),
        acks.message(1, r#"[{"a":2,"b":"x"},{"a":3}]"#),
        acks.message(2, r#"{"a":4,"c":"y"}"#),
        acks.message(3, r#"{"a":"z"}"#),
        acks.message(4, r#"{"a""#),
        acks.message(5, r#"{"a":5}"#),
    ];
    tap.give(messages).await;
    until("all of it", || acks.good().len() == 6).await;
    let took = |sink: &Fake| -> Vec<String> {
        let texts = sink.took().into_iter();
        texts.map(|text| if text.starts_with('{') { text } else { "error".to_owned() }).collect()
    };
    assert_eq!(
        took(&sinks[0]),
        [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, r#"{"a":4}"#, "error", "error", r#"{"a":5}"#]
    );
    assert_eq!(took(&sinks[1]), [r#"{"a":1,"b":2}"#, "error", r#"{"a":4}"#, "error", "error", r#"{"a":5}"#]);
    assert_eq!(took(&sinks[2]), [r#"{"a":1,"b":2,"c":3}"#, "error", "error", "error", "error", r#"{"a":5}"#]);
    for (rule, [came, out, dead]) in rules.into_iter().zip([[7, 5, 2], [6, 3, 3], [6, 2, 4]]) {
        let left = rule.stop().await;
        assert_eq!((left.ledger.came, left.ledger.out, left.ledger.dead["decode"]), (came, out, dead));
        assert_eq!(left.nodes[0].view.exceptions, dead);
    }
}

/// Messages whose columns all have names in some rule leave nothing over for `*`.
#[tokio::test]
async fn a_star_has_the_columns_that_only_others_name() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (all, one) = (sink(), sink());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let first = rule("SELECT * FROM demo").to(&all).start(&feed).await.unwrap();
    let second = rule("SELECT b FROM demo WHERE a > 0").to(&one).start(&feed).await.unwrap();
    tap.give(vec![acks.message(0, r#"{"a":1,"b":2}"#)]).await;
    until("both", || all.took().len() == 1 && one.took().len() == 1).await;
    assert_eq!((all.took(), one.took()), (vec![r#"{"a":1,"b":2}"#.to_owned()], vec![r#"{"b":2}"#.to_owned()]));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn rules_come_and_go_while_messages_flow() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let stays = sink();
    let staying = rule("SELECT a FROM demo").to(&stays).start(&feed).await.unwrap();
    let messages: Vec<_> = (0..400).map(|n| acks.rows(n * 5..n * 5 + 5)).collect();
    let giver = tokio::spawn(async move {
        for chunk in messages {
            tap.give(chunk).await;
            tokio::task::yield_now().await;
        }
        tap
    });
    let mut came = 0;
    while !giver.is_finished() {
        let sink = sink();
        let running = rule("SELECT *, a + 1 as b FROM demo").to(&sink).start(&feed).await.unwrap();
        until("some rows", || !sink.took().is_empty() || giver.is_finished()).await;
        let left = running.stop().await;
        assert_eq!(left.terms()[0], left.ledger.came, "{:?}", left.ledger);
        assert_eq!(left.ledger.came, sink.took().len() as u64);
        came += left.ledger.came;
    }
    let _tap = giver.await.unwrap();
    until("all rows", || stays.took().len() == 2000).await;
    assert!(came > 0);
    assert_eq!(stays.took(), texts(0..2000));
    assert_eq!(staying.stop().await.terms(), [2000, 0, 0, 0]);
    assert_eq!(acks.good().len(), 2000);
}

#[tokio::test]
async fn a_rule_can_leave_while_another_holds_the_feed_up() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (stuck, fine) = (sink().shut(), sink());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let slow = rule("SELECT a FROM demo").to(&stuck).start(&feed).await.unwrap();
    let quick = rule("SELECT a FROM demo").to(&fine).start(&feed).await.unwrap();
    let given = tokio::spawn({
        let acks = acks.clone();
        async move {
            for n in 0..60 {
                tap.give(acks.rows(n..n + 1)).await;
            }
            tap
        }
    });
    settle().await;
    assert!(!given.is_finished(), "the slow rule holds the source back");
    let left = quick.stop().await;
    assert_eq!(left.terms()[0], left.ledger.came);
    stuck.open();
    until("all rows", || stuck.took().len() == 60).await;
    assert_eq!(slow.stop().await.terms(), [60, 0, 0, 0]);
    assert_eq!(acks.good().len(), 60);
    given.await.unwrap();
}

#[tokio::test]
async fn a_slow_rule_gives_up_at_its_stop_and_the_others_go_on() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (stuck, fine) = (sink().shut(), sink());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let slow = rule("SELECT a FROM demo").to(&stuck).start(&feed).await.unwrap();
    let quick = rule("SELECT a FROM demo").to(&fine).start(&feed).await.unwrap();
    let given = tokio::spawn({
        let acks = acks.clone();
        async move {
            for n in 0..60 {
                tap.give(acks.rows(n..n + 1)).await;
            }
            tap
        }
    });
    settle().await;
    let left = slow.give_up().await;
    assert_eq!(left.ledger.dropped["stop"], left.ledger.came);
    until("the other rule", || fine.took().len() == 60).await;
    let _tap = given.await.unwrap();
    assert_eq!(quick.stop().await.terms(), [60, 0, 0, 0]);
    // What the slow one had is its own loss: the others would have it twice.
    assert_eq!((acks.good().len(), acks.bad().len()), (60, 0));
}

/// What is late for both is late for each by itself: the one that leaves does not wait for the other one's sink.
#[tokio::test]
async fn a_rule_that_leaves_has_an_end_for_each_row_while_another_one_is_stuck_for_longer() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let stuck = [sink().shut(), sink().shut()];
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let stays = rule("SELECT a FROM demo").to(&stuck[0]).start(&feed).await.unwrap();
    let leaves = rule("SELECT a FROM demo").to(&stuck[1]).start(&feed).await.unwrap();
    let given = tokio::spawn(async move {
        for n in 0..60 {
            tap.give(acks.rows(n..n + 1)).await;
        }
        (tap, acks)
    });
    settle().await;
    assert!(!given.is_finished(), "both hold the source back");
    let left = leaves.give_up().await;
    assert_eq!(left.ledger.dropped["stop"], left.ledger.came);
    stuck[0].open();
    until("all rows", || stuck[0].took().len() == 60).await;
    assert_eq!(stays.stop().await.terms(), [60, 0, 0, 0]);
    let (_tap, acks) = given.await.unwrap();
    assert_eq!((acks.good().len(), acks.bad().len()), (60, 0));
}

#[tokio::test]
async fn the_last_rule_to_go_gives_back_what_it_had() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sinks = [sink().shut(), sink().shut(), sink()];
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let first = rule("SELECT a FROM demo").to(&sinks[0]).start(&feed).await.unwrap();
    let second = rule("SELECT a FROM demo").to(&sinks[1]).start(&feed).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the rows", || first.ledger().came == 3 && second.ledger().came == 3).await;
    assert_eq!(first.give_up().await.ledger.dropped["stop"], 3);
    settle().await;
    assert_eq!((acks.good().len(), acks.bad().len()), (0, 0), "the other still has them");
    assert_eq!(second.give_up().await.ledger.dropped["stop"], 3);
    assert_eq!((acks.good().len(), acks.bad().len()), (0, 3));
}

/// As at the end of the program.
#[tokio::test]
async fn rules_that_go_together_give_back_what_they_had() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sinks = [sink().shut(), sink().shut()];
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let first = rule("SELECT a FROM demo").to(&sinks[0]).start(&feed).await.unwrap();
    let second = rule("SELECT a FROM demo").to(&sinks[1]).start(&feed).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the rows", || first.ledger().came == 3 && second.ledger().came == 3).await;
    tokio::join!(first.give_up(), second.give_up());
    assert_eq!((acks.good().len(), acks.bad().len()), (0, 3));
}

/// One that comes while the source says goodbye reads its next life, and the rows of this one come again there.
#[tokio::test]
async fn a_rule_that_reads_the_next_life_of_the_source_keeps_none_of_the_last_from_going_back() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (stuck, fine) = (sink().shut(), sink());
    let (go, gone) = switch();
    let chunk = acks.rows(0..3);
    let source = lives(vec![Ok(life(|inlet, _| async move {
        inlet.send(chunk).await.unwrap();
        inlet.closed().await;
        let _ = gone.await;
        Ok(End::Closed)
    }))]);
    let feed = feed(source, &clock);
    let first = rule("SELECT a FROM demo").to(&stuck).start(&feed).await.unwrap();
    until("the rows", || first.ledger().came == 3).await;
    let stopping = tokio::spawn(first.give_up());
    settle().await;
    let second = rule("SELECT a FROM demo").to(&fine).start(&feed).await.unwrap();
    until("the rows that go back", || acks.bad().len() == 3).await;
    let _ = go.send(());
    assert_eq!(stopping.await.unwrap().ledger.dropped["stop"], 3);
    assert_eq!(second.stop().await.ledger.came, 0);
}

#[tokio::test]
async fn a_rule_that_fails_costs_the_others_nothing() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let breaks = sink_that(|text| match text {
        r#"{"a":2}"# => Does::Fail(Fault::setup("the folder is gone")),
        _ => Does::Take,
    });
    let fine = sink();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let failing = rule("SELECT a FROM demo").to(&breaks).start(&feed).await.unwrap();
    let solid = rule("SELECT a FROM demo").to(&fine).start(&feed).await.unwrap();
    for n in 0..9 {
        tap.give(acks.rows(n..n + 1)).await;
    }
    failing.failed().await;
    until("the other rule", || fine.took().len() == 9).await;
    let left = failing.stop().await;
    assert_eq!(left.ledger.out, 2, "{:?}", left.ledger);
    assert_eq!(solid.stop().await.terms(), [9, 0, 0, 0]);
    assert_eq!((acks.good().len(), acks.bad().len()), (9, 0));
}

#[tokio::test]
async fn the_last_rule_that_leaves_closes_the_source_and_the_next_opens_it() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (mut tap, source) = tap();
    let (sink, feed) = (sink(), feed(source, &clock));
    let first = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    let second = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    let inlet = tap.next().await;
    first.stop().await;
    assert_eq!(inlet.send(acks.rows(0..1)).await, Ok(()));
    second.stop().await;
    soon("the end of the inlet", inlet.closed()).await;
    let third = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    tap.give(acks.rows(1..2)).await;
    assert_eq!(third.stop().await.terms(), [1, 0, 0, 0]);
    assert_eq!(tap.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_rule_that_comes_while_the_source_says_goodbye_is_fed_by_its_next_life() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (begun, beginning) = switch();
    let (go, gone) = switch();
    let source = lives(vec![
        Ok(life(|inlet, _| async move {
            inlet.closed().await;
            let _ = begun.send(());
            let _ = gone.await;
            Ok(End::Closed)
        })),
        Ok(gives(vec![acks.rows(0..3)], Ok(End::Finished))),
    ]);
    let (sink, feed) = (sink(), feed(source, &clock));
    let first = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    settle().await;
    let stopping = tokio::spawn(first.stop());
    soon("the goodbye", beginning).await.unwrap();
    let second = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    settle().await;
    let _ = go.send(());
    assert_eq!(second.ended().await, Ended::Finished);
    assert_eq!(second.stop().await.terms(), [3, 0, 0, 0]);
    assert_eq!(stopping.await.unwrap().ledger.came, 0);
}

#[tokio::test]
async fn the_end_of_the_input_reaches_each_rule_without_waiting_for_the_others() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (stuck, fine) = (sink().shut(), sink());
    let (begin, begins) = switch();
    let chunks = (0..8).map(|n| acks.rows(n..n + 1)).collect();
    let source = lives(vec![Ok(life(|inlet, report| async move {
        let _ = begins.await;
        gives(chunks, Ok(End::Finished))(inlet, report).await
    }))]);
    let feed = feed(source, &clock);
    let slow = rule("SELECT a FROM demo").to(&stuck).start(&feed).await.unwrap();
    let quick = rule("SELECT a FROM demo").to(&fine).start(&feed).await.unwrap();
    begin.send(()).unwrap();
    assert_eq!(quick.ended().await, Ended::Finished);
    assert_eq!(quick.stop().await.terms(), [8, 0, 0, 0]);
    assert!(slow.flow.ended().borrow().is_none(), "its sink has not confirmed");
    stuck.open();
    assert_eq!(slow.ended().await, Ended::Finished);
    assert_eq!(slow.stop().await.terms(), [8, 0, 0, 0]);
}

#[tokio::test]
async fn a_rule_that_is_dropped_without_a_stop_leaves_nothing_behind() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink().shut();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    settle().await;
    drop(running);
    drop(feed);
    let inlet = tap.next_or_last().await;
    soon("the end of the source", inlet.closed()).await;
    until("the end of the sink", || sink.closes() == 1).await;
    until("the rows", || acks.bad().len() == 3).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// As a rule does that is changed while another reads on, again and again.
#[tokio::test]
async fn a_rule_that_leaves_and_comes_back_while_the_feed_is_held_misses_nothing() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let stays = sink();
    let staying = rule("SELECT a FROM demo").to(&stays).start(&feed).await.unwrap();
    let mut took = Vec::new();
    let mut changed = sink();
    let mut changing = rule("SELECT a FROM demo").to(&changed).start(&feed).await.unwrap();
    let messages: Vec<_> = (0..400).map(|n| acks.rows(n * 5..n * 5 + 5)).collect();
    let giver = tokio::spawn(async move {
        for chunk in messages {
            tap.give(chunk).await;
            tokio::task::yield_now().await;
        }
        tap
    });
    let mut changes = 0;
    while !giver.is_finished() {
        // The second time the feed may not have seen that it goes on.
        for _ in 0..2 {
            let held = feed.clone().hold("demo".into(), false).await;
            until("what was on its way", || changing.ledger().under_way() == 0).await;
            assert_eq!(changing.stop().await.ledger.dropped.len(), 0);
            took.extend(changed.took());
            changed = sink();
            changing = rule("SELECT a FROM demo").to(&changed).start(&feed).await.unwrap();
            drop(held);
        }
        until("some rows", || changing.ledger().came > 0 || giver.is_finished()).await;
        changes += 1;
    }
    let _tap = giver.await.unwrap();
    until("all rows", || stays.took().len() == 2000 && changing.ledger().under_way() == 0).await;
    changing.stop().await;
    took.extend(changed.took());
    assert!(changes > 1);
    assert_eq!(took, texts(0..2000));
    assert_eq!(staying.stop().await.terms(), [2000, 0, 0, 0]);
}

/// As a rule does that is changed while the only other one stops: what comes meanwhile is for the first.
#[tokio::test]
async fn what_a_held_feed_is_given_waits_for_who_comes_back_though_all_others_leave() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let (other, before, after) = (sink(), sink(), sink());
    let stops = rule("SELECT a FROM demo").to(&other).start(&feed).await.unwrap();
    let changes = rule("SELECT a FROM demo").to(&before).start(&feed).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("rows", || before.took().len() == 5 && other.took().len() == 5).await;
    let held = feed.clone().hold("demo".into(), true).await;
    changes.stop().await;
    tap.give(acks.rows(5..10)).await;
    stops.stop().await;
    tap.give(acks.rows(10..15)).await;
    let changed = rule("SELECT a FROM demo").to(&after).start(&feed).await.unwrap();
    drop(feed);
    held.release().await;
    until("the rows", || after.took().len() == 10).await;
    assert_eq!((other.took(), after.took()), (texts(0..5), texts(5..15)));
    assert_eq!(tap.opened.load(Ordering::SeqCst), 1);
    changed.stop().await;
    assert_eq!(acks.good().len(), 15);
}

/// As a rule does that is changed to read something else while the only other one stops.
#[tokio::test]
async fn a_held_feed_to_which_no_one_comes_back_closes_its_source_and_loses_nothing() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let took = sink();
    let leaves = rule("SELECT a FROM demo").to(&took).start(&feed).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("rows", || took.took().len() == 5).await;
    let held = feed.clone().hold("demo".into(), true).await;
    leaves.stop().await;
    tap.give(acks.rows(5..10)).await;
    drop(feed);
    soon("the end of the feed", held.release()).await;
    assert_eq!((acks.good(), acks.bad()), ((0..5).collect(), (5..10).collect()));
}
