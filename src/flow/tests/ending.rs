//! Windows, the end of the input, the stop by hand, and operators that break.

use std::sync::Arc;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::flow::Ended;
use crate::func::{Ctx, Func};
use crate::io::End;

const WINDOW: &str = "SELECT count(*) as n FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)";

#[tokio::test]
async fn a_window_acknowledges_what_has_entered_it_and_counts_it_as_held() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule(WINDOW).to(&sink).at(&clock).start(&feed).await.unwrap();
    tap.give(acks.rows(0..7)).await;
    until("the acknowledgements", || acks.good().len() == 7).await;
    let ledger = running.ledger();
    assert_eq!((ledger.came, ledger.held, ledger.out), (7, 7, 0));
    assert!(sink.took().is_empty());
    clock.set(Time(10_000));
    until("the window", || !sink.took().is_empty()).await;
    assert_eq!(sink.took(), ["{\"n\":7}"]);
    until("the confirmation", || running.ledger().out == 7).await;
    assert_eq!(running.ledger().held, 0);
    tap.give(acks.rows(7..9)).await;
    until("the next rows", || acks.good().len() == 9).await;
    clock.set(Time(20_000));
    until("the next window", || sink.took().len() == 2).await;
    assert_eq!(running.stop().await.terms(), [9, 0, 0, 0]);
}

#[tokio::test]
async fn what_a_window_holds_at_a_stop_by_hand_is_dropped_and_counted() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    for sql in [WINDOW, "SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"] {
        let first = acks.good().len() as u64;
        let running = rule(sql).to(&sink).at(&clock).start(&feed).await.unwrap();
        tap.give(acks.rows(first..first + 7)).await;
        until("the acknowledgements", || acks.good().len() as u64 == first + 7).await;
        let left = running.stop().await;
        assert_eq!(left.ledger.dropped["stop"], 7);
        tap.release();
    }
    assert!(sink.took().is_empty());
}

#[tokio::test]
async fn the_end_of_the_input_gives_out_open_windows_and_waits_for_the_sinks() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink().shut();
    let source = lives(vec![Ok(gives(vec![acks.rows(0..3), acks.rows(3..5)], Ok(End::Finished)))]);
    let feed = feed(source, &clock);
    let running = rule(WINDOW).to(&sink).at(&clock).start(&feed).await.unwrap();
    until("the acknowledgements", || acks.good().len() == 5).await;
    settle().await;
    assert!(running.flow.ended().borrow().is_none(), "the sink has not confirmed");
    sink.open();
    assert_eq!(running.ended().await, Ended::Finished);
    assert_eq!(sink.took(), ["{\"n\":5}"]);
    assert_eq!(running.stop().await.terms(), [5, 0, 0, 0]);
}

#[tokio::test]
async fn a_window_whose_sink_is_away_holds_on_to_its_result() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink().shut();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule(WINDOW).to(&sink).at(&clock).start(&feed).await.unwrap();
    for n in 0..5 {
        tap.give(acks.rows(n * 3..n * 3 + 3)).await;
        until("the rows", || acks.good().len() as u64 == n * 3 + 3).await;
        clock.set(Time(10_000 * (n as i64 + 1)));
        settle().await;
    }
    let ledger = running.ledger();
    assert_eq!((ledger.held, ledger.out), (15, 0), "held until the sink has the result");
    sink.open();
    until("the windows", || sink.took().len() == 5).await;
    assert_eq!(running.stop().await.terms(), [15, 0, 0, 0]);
}

#[tokio::test]
async fn a_filtered_group_counts_its_rows_as_filtered() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let messages = vec![acks.rows([1, 2]), vec![acks.message(3, r#"{"a":2}"#)]];
    let source = lives(vec![Ok(gives(messages, Ok(End::Finished)))]);
    let feed = feed(source, &clock);
    let sql = "SELECT a, count(*) as n FROM demo GROUP BY TUMBLINGWINDOW(ss, 10), a HAVING count(*) > 1";
    let running = rule(sql).to(&sink).at(&clock).start(&feed).await.unwrap();
    running.ended().await;
    assert_eq!(sink.took(), [r#"{"a":2,"n":2}"#]);
    assert_eq!(running.stop().await.terms(), [2, 1, 0, 0]);
}

/// A function with a mistake in it.
const FRAGILE: Func = Func::scalar("fragile", "(any) -> any", fragile).impure();

fn fragile(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match &args[0] {
        Value::Float(n) if *n == 3.0 => panic!("three is too much"),
        other => Ok(other.clone()),
    }
}

#[tokio::test]
async fn an_operator_that_panics_stops_its_rule_and_no_other() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (sink, other) = (sink(), sink());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let mut fragile = rule("SELECT fragile(a) as a FROM demo").to(&sink);
    fragile.funcs.add(&FRAGILE);
    let fragile = fragile.start(&feed).await.unwrap();
    let solid = rule("SELECT a FROM demo").to(&other).start(&feed).await.unwrap();
    tap.give(acks.rows(0..2)).await;
    until("the first rows", || acks.good().len() == 2).await;
    tap.give(acks.rows(2..5)).await;
    let fault = fragile.failed().await;
    assert!(fault.to_string().contains("the rule panicked: three is too much"), "{fault}");
    tap.give(acks.rows(5..8)).await;
    until("the other rule", || other.took().len() == 8).await;
    let left = fragile.stop().await;
    assert_eq!((left.ledger.out, left.ledger.dead["lost"]), (2, 3), "{:?}", left.ledger);
    assert_eq!(solid.stop().await.terms(), [8, 0, 0, 0]);
    assert_eq!((acks.good().len(), acks.bad().len()), (8, 0), "the other rule has had them");
    assert_eq!(sink.took(), texts(0..2));
}

#[tokio::test]
async fn a_panic_with_rows_held_throws_them_away_and_counts_them() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let sql = "SELECT count(*) as n FROM demo WHERE fragile(a) < 10 GROUP BY TUMBLINGWINDOW(ss, 10)";
    let mut fragile = rule(sql).to(&sink).at(&clock);
    fragile.funcs.add(&FRAGILE);
    let running = fragile.start(&feed).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the window", || running.ledger().held == 3).await;
    tap.give(acks.rows(3..4)).await;
    running.failed().await;
    let left = running.stop().await;
    assert_eq!((left.ledger.dropped["stop"], left.ledger.dead["lost"]), (3, 1));
    assert_eq!((acks.good(), acks.bad()), (vec![0, 1, 2], vec![3]));
}

/// `delay` blocks its own rule: the others have the thread that it sleeps on, also where there is no second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rule_that_is_held_up_holds_up_no_other_and_can_be_stopped() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (stuck, fine) = (sink(), sink());
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let held_up = rule("SELECT delay(3600000, a) as a FROM demo").to(&stuck).start(&feed).await.unwrap();
    let free = rule("SELECT a FROM demo").to(&fine).start(&feed).await.unwrap();
    for n in 0..3 {
        tap.give(acks.rows(n..n + 1)).await;
        until("the other rule", || fine.took().len() as u64 == n + 1).await;
    }
    assert!(stuck.took().is_empty(), "it waits for the first row");
    // What it waited for goes on at once when it is stopped; how much of it the sink takes yet is as it comes.
    let left = held_up.give_up().await;
    assert_eq!(left.ledger.came, 3);
    assert_eq!(free.stop().await.terms(), [3, 0, 0, 0]);
}

#[tokio::test]
async fn on_a_virtual_clock_a_delay_takes_no_time() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let source = lives(vec![Ok(gives(vec![acks.rows(0..3)], Ok(End::Finished)))]);
    let feed = feed(source, &clock);
    let running = rule("SELECT delay(3600000, a) as a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    assert_eq!(running.ended().await, Ended::Finished);
    assert_eq!(sink.took(), texts(0..3));
    assert_eq!(running.stop().await.terms(), [3, 0, 0, 0]);
}

#[tokio::test]
async fn rows_on_their_way_at_a_stop_are_given_back() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink_that(|_| Does::Fail(Fault::unreachable("away")));
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).start(&feed).await.unwrap();
    tap.give(acks.rows(0..20)).await;
    until("a try", || sink.connects() > 1).await;
    let left = running.give_up().await;
    assert_eq!(left.ledger.dropped["stop"], 20);
    assert_eq!((acks.good().len(), acks.bad().len()), (0, 20));
}
