//! Sources that end, break, hang, panic or give nonsense.

use std::sync::Arc;
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::diag::Fault;
use crate::flow::Ended;
use crate::io::{End, Link, Message, Payload};

#[tokio::test]
async fn a_source_that_ends_while_the_rule_makes_it_wait_loses_nothing() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink().shut();
    let chunks = (0..12).map(|n| acks.rows(n..n + 1)).collect();
    let (end, ended) = switch();
    let source = lives(vec![Ok(life(|inlet, report| async move {
        let given = gives(chunks, Ok(End::Finished))(inlet, report).await;
        let _ = end.send(());
        given
    }))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    soon("the end of the source", ended).await.unwrap();
    settle().await;
    sink.open();
    assert_eq!(running.ended().await, Ended::Finished);
    assert_eq!(running.stop().await.terms(), [12, 0, 0, 0]);
    assert_eq!(sink.took(), texts(0..12));
    assert_eq!(acks.good().len(), 12);
}

#[tokio::test]
async fn a_source_that_breaks_is_opened_again() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let sink = sink();
    let source = lives(vec![
        Ok(gives(vec![acks.rows(0..2)], Err(Fault::unreachable("the wire was cut")))),
        Err(Fault::unreachable("the door does not open")),
        Ok(gives(vec![acks.rows(2..4)], Err(Fault::unreachable("cut again")))),
        Ok(gives(vec![acks.rows(4..6)], Ok(End::Finished))),
    ]);
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    let link = || running.flow.nodes()[0].link.clone().unwrap().link;
    until("the break", || link() == Link::Disconnected("the wire was cut".into())).await;
    until_by(&clock, "the end", || running.flow.ended().borrow().is_some()).await;
    assert_eq!(running.ended().await, Ended::Finished);
    let left = running.stop().await;
    assert_eq!(sink.took(), texts(0..6));
    assert_eq!(left.nodes[0].view.exceptions, 3);
    assert_eq!(left.nodes[0].view.last_exception, "cut again");
}

#[tokio::test]
async fn a_source_that_closes_though_it_is_wanted_is_opened_again() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(0)));
    let sink = sink();
    let source = lives(vec![
        Ok(gives(vec![acks.rows(0..2)], Ok(End::Closed))),
        Ok(gives(vec![acks.rows(2..4)], Ok(End::Finished))),
    ]);
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    until_by(&clock, "the end", || running.flow.ended().borrow().is_some()).await;
    assert_eq!(running.stop().await.terms(), [4, 0, 0, 0]);
}

#[tokio::test]
async fn a_source_that_can_never_run_ends_the_rule_behind_its_rows() {
    for broken in
        [vec![Err(Fault::setup("no such file"))], vec![Ok(life(|_, _| async { Err(Fault::setup("no such file")) }))]]
    {
        let clock = Clock::real();
        let (sink, source) = (sink(), lives(broken));
        let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
        assert_eq!(running.failed().await, Fault::setup("no such file"));
        running.stop().await;
    }
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let source = lives(vec![Ok(gives(vec![acks.rows(0..5)], Err(Fault::setup("the file is torn"))))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    assert_eq!(running.failed().await, Fault::setup("the file is torn"));
    assert_eq!(running.stop().await.terms(), [5, 0, 0, 0]);
    assert_eq!(sink.took(), texts(0..5));
}

#[tokio::test]
async fn a_source_that_panics_ends_the_rule_with_the_text() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let chunk = acks.rows(0..3);
    let source = lives(vec![Ok(life(|inlet, _| async move {
        inlet.send(chunk).await.unwrap();
        tokio::task::yield_now().await;
        panic!("the wire bit me")
    }))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    let fault = running.failed().await;
    assert!(fault.to_string().contains("`demo` panicked: the wire bit me"), "{fault}");
    let left = running.stop().await;
    assert_eq!(left.terms(), [3, 0, 0, 0]);
    assert_eq!(left.nodes[0].view.exceptions, 1);
    assert_eq!(acks.good(), [0, 1, 2]);
}

#[tokio::test]
async fn a_source_that_does_not_end_holds_no_one_up() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let chunk = acks.rows(0..3);
    let source = lives(vec![Ok(life(|inlet, _| async move {
        inlet.send(chunk).await.unwrap();
        std::future::pending().await
    }))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    until("the rows", || sink.took().len() == 3).await;
    let left = running.give_up().await;
    assert_eq!(left.terms(), [3, 0, 0, 0]);
}

/// As the mqtt source does at its farewell.
#[tokio::test]
async fn what_a_source_gives_before_it_notices_the_stop_still_arrives() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let (go, going) = switch();
    let chunks = vec![acks.rows(0..2), acks.rows(2..4), acks.rows(4..6)];
    let all = acks.clone();
    let source = lives(vec![Ok(life(|inlet, _| async move {
        for chunk in chunks {
            inlet.send(chunk).await.unwrap();
        }
        let _ = go.send(());
        inlet.closed().await;
        while all.good().len() < 6 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(End::Closed)
    }))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    soon("the source", going).await.unwrap();
    let left = running.stop().await;
    assert_eq!(left.terms(), [6, 0, 0, 0]);
}

#[tokio::test]
async fn an_empty_list_is_acknowledged_and_is_no_row() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let messages = vec![acks.message(0, "[]"), acks.message(1, "[{\"a\":1},{\"a\":2}]"), acks.message(2, "[]")];
    let source = lives(vec![Ok(gives(vec![messages, vec![acks.message(3, "[]")]], Ok(End::Finished)))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    assert_eq!((left.ledger.came, left.terms()), (2, [2, 0, 0, 0]));
    assert_eq!(acks.good(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_message_of_several_rows_is_acknowledged_with_the_last_of_them() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that(|text| if text == "{\"a\":2}" { Does::Hang } else { Does::Take });
    let (mut tap, source) = tap();
    let running = rule("SELECT a FROM demo WHERE a > 0").to(&sink).start(&feed(source, &clock)).await.unwrap();
    tap.give(vec![acks.message(7, "[{\"a\":0},{\"a\":1},{\"a\":2}]"), acks.row(0)]).await;
    until("the filtered message", || acks.good() == [0]).await;
    let left = running.give_up().await;
    assert_eq!(left.terms(), [0, 2, 2, 0]);
    assert_eq!(acks.bad(), [7]);
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_one_dead_row() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink();
    let messages = vec![acks.message(0, "{"), acks.row(1), acks.message(2, "[{\"a\":1},"), acks.row(3)];
    let source = lives(vec![Ok(gives(vec![messages], Ok(End::Finished)))]);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed(source, &clock)).await.unwrap();
    running.ended().await;
    let left = running.stop().await;
    assert_eq!((left.ledger.came, left.ledger.out, left.ledger.dead["decode"]), (4, 2, 2));
    assert_eq!((left.nodes[0].view.exceptions, left.nodes[0].view.records_in), (2, 4));
    assert_eq!(acks.good(), [0, 1, 2, 3]);
}

/// As a line of a CSV file that has too few values, and as the loss of a connection.
#[tokio::test]
async fn a_record_that_the_source_cannot_read_is_one_dead_row_and_its_own_error_is_none() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let error =
        |fault| Message { payload: Payload::Error(fault), time: Time(0), meta: None, ack: None, delivery: None };
    for (shared, told) in [(false, true), (true, true), (true, false)] {
        let (first, second) = (sink(), sink());
        let (torn, gone) = (error(Fault::decode("record 2 is torn")), error(Fault::unreachable("the disk is gone")));
        let (begin, begins) = switch();
        let chunk = vec![acks.row(1), torn, gone, acks.row(4)];
        let source = lives(vec![Ok(life(|inlet, report| async move {
            let _ = begins.await;
            gives(vec![chunk], Ok(End::Finished))(inlet, report).await
        }))]);
        let feed = feed(source, &clock);
        let mut rules = Vec::new();
        for sink in [&first, &second].into_iter().take(if shared { 2 } else { 1 }) {
            let mut rule = rule("SELECT a FROM demo").to(sink);
            rule.send_error = told;
            rules.push(rule.start(&feed).await.unwrap());
        }
        begin.send(()).unwrap();
        let mut seen = vec![r#"{"a":1}"#, "record 2 is torn", "the disk is gone", r#"{"a":4}"#];
        seen.retain(|text| told || text.starts_with('{'));
        for rule in rules {
            rule.ended().await;
            let left = rule.stop().await;
            assert_eq!((left.ledger.came, left.ledger.out, left.ledger.dead["decode"]), (3, 2, 1));
            assert_eq!((left.nodes[0].view.exceptions, left.nodes[0].view.records_in), (2, 3));
        }
        assert_eq!(first.took(), seen);
        assert!(!shared || second.took() == seen);
    }
}

#[tokio::test]
async fn a_rule_can_be_stopped_and_started_again_and_again() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (mut tap, source) = tap();
    let (sink, feed) = (sink(), feed(source, &clock));
    for n in 0..5 {
        let running = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
        tap.give(acks.rows(n * 2..n * 2 + 2)).await;
        let left = running.stop().await;
        assert_eq!(left.terms(), [2, 0, 0, 0]);
        tap.release();
    }
    assert_eq!(sink.took(), texts(0..10));
    assert_eq!(sink.closes(), 5);
    assert_eq!(tap.opened.load(std::sync::atomic::Ordering::SeqCst), 5, "without a rule nothing is read");
}
