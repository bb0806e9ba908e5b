//! Rules of several sources: streams that are joined, tables that are kept, and tables that are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::data::{Object, Text, Value};
use crate::diag::{Fault, Result};
use crate::flow::{CacheOptions, Desk, Ended};
use crate::io::{End, Lookup, LookupTable};

const JOINED: &str = "SELECT one.a AS a FROM one INNER JOIN two ON one.a = two.a GROUP BY TUMBLINGWINDOW(ss, 10)";
const KEPT: &str = "SELECT demo.a AS a FROM demo INNER JOIN kept ON demo.a = kept.a";
const ASKED: &str = "SELECT demo.a AS a FROM demo INNER JOIN asked ON demo.a = asked.id";

#[tokio::test]
async fn streams_meet_in_a_window_and_the_rule_ends_with_the_last_of_them() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let (mut tap, source) = tap();
    let first = feed(lives(vec![Ok(gives(vec![acks.rows(0..4)], Ok(End::Finished)))]), &clock);
    let second = feed(source, &clock);
    let running = rule(JOINED).to(&sink).at(&clock).start_over(&[first, second], Vec::new()).await.unwrap();
    tap.give(acks.rows(100..101)).await;
    until("the first rows", || running.ledger().held == 5).await;
    // One stream has ended, and the rule goes on with the other.
    tap.give((0..3).map(|id| acks.message(200 + id, &format!("{{\"a\":{}}}", id + 1))).collect()).await;
    until("all rows", || running.ledger().held == 8).await;
    clock.set(Time(10_000));
    until("the window", || sink.took().len() == 3).await;
    assert_eq!(sink.took(), texts(1..4));
    until("the confirmation", || running.ledger().out == 6).await;
    assert_eq!((running.ledger().filtered, running.ledger().held), (2, 0));
    assert_eq!(running.stop().await.terms(), [6, 2, 0, 0]);
}

#[tokio::test]
async fn a_stream_that_fails_for_good_ends_the_rule() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let broken = Fault::setup("no such thing");
    let (mut tap, source) = tap();
    let (release, wait) = switch();
    let fails = life(|inlet, _| async move {
        wait.await.unwrap();
        drop(inlet);
        Err(Fault::setup("no such thing"))
    });
    let feeds = [feed(source, &clock), feed(lives(vec![Ok(fails)]), &clock)];
    let running = rule(JOINED).to(&sink).at(&clock).start_over(&feeds, Vec::new()).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the rows", || running.ledger().held == 3).await;
    release.send(()).unwrap();
    assert_eq!(running.failed().await, broken);
    let left = running.stop().await;
    assert_eq!(left.ledger.dropped["stop"], 3);
}

#[tokio::test]
async fn a_table_neither_ends_a_rule_nor_keeps_it_from_its_end() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    for endless in [false, true] {
        let sink = sink();
        let (mut table, source) = tap();
        let finite = lives(vec![Ok(gives(vec![acks.rows(0..3)], Ok(End::Finished)))]);
        let (mut stream, driving) = tap();
        let (release, wait) = switch();
        let last = acks.rows(2..4);
        let ending = life(|inlet, _| async move {
            wait.await.unwrap();
            inlet.send(last).await.unwrap();
            Ok(End::Finished)
        });
        let driving = if endless { lives(vec![Ok(ending)]) } else { driving };
        let feeds = [feed(driving, &clock), feed(if endless { source } else { finite }, &clock)];
        let running = rule(KEPT).to(&sink).start_over(&feeds, Vec::new()).await.unwrap();
        if endless {
            table.give(acks.rows(0..3)).await;
            until("the table", || running.ledger().held == 3).await;
            release.send(()).unwrap();
            assert_eq!(running.ended().await, Ended::Finished);
        } else {
            until("the table", || running.ledger().held == 3).await;
            stream.give(acks.rows(2..4)).await;
            until("the row", || running.ledger().filtered == 1 && sink.took().len() == 1).await;
        }
        assert_eq!(sink.took(), texts(2..3));
        let left = running.stop().await;
        // The row of the table that had a part in the result, and the one of the stream.
        assert_eq!((left.ledger.came, left.ledger.out), (5, 2), "{:?}", left.ledger);
    }
}

/// A table that has the ids below a number, or answers never, or fails the first time.
struct Numbers {
    below: i64,
    asked: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
    fails_once: bool,
    hangs: bool,
}

struct Open(Arc<Numbers>);

struct Shelf(Arc<Numbers>);

impl LookupTable for Shelf {
    fn open(&self, columns: &[Text]) -> Result<Box<dyn Lookup>> {
        assert_eq!(columns, ["id"]);
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Open(self.0.clone())))
    }
}

#[async_trait::async_trait]
impl Lookup for Open {
    async fn find(&mut self, questions: &[Vec<Value>]) -> Result<Vec<Vec<Object>>> {
        let table = &self.0;
        let before = table.asked.fetch_add(1, Ordering::SeqCst);
        if table.hangs {
            std::future::pending::<()>().await;
        }
        if table.fails_once && before == 0 {
            return Err(Fault::unreachable("the table is away"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let rows = |values: &Vec<Value>| match values[0].as_i64() {
            Some(id) if id < table.below => vec![Object::from_iter([("id", Value::Int(id))])],
            _ => Vec::new(),
        };
        Ok(questions.iter().map(rows).collect())
    }
}

fn numbers(below: i64, fails_once: bool, hangs: bool) -> Arc<Numbers> {
    Arc::new(Numbers { below, asked: Arc::default(), opened: Arc::default(), fails_once, hangs })
}

fn desk(table: &Arc<Numbers>, clock: &Clock) -> Vec<Desk> {
    let shelf = Arc::new(Shelf(table.clone()));
    vec![Desk::new(shelf, vec!["id".into()], CacheOptions::default(), clock.clone())]
}

#[tokio::test]
async fn a_table_is_asked_once_for_all_rows_of_a_batch() {
    let (acks, clock, sink, table) = (Arc::<Acks>::default(), Clock::real(), sink(), numbers(7, false, false));
    let (mut tap, source) = tap();
    let feeds = [feed(source, &clock)];
    let running = rule(ASKED).to(&sink).start_over(&feeds, desk(&table, &clock)).await.unwrap();
    tap.give(acks.rows(0..10)).await;
    until("all answers", || sink.took().len() == 7 && acks.good().len() == 10).await;
    assert_eq!(sink.took(), texts(0..7));
    assert_eq!((table.asked.load(Ordering::SeqCst), table.opened.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(running.stop().await.terms(), [7, 3, 0, 0]);
}

#[tokio::test]
async fn a_table_that_is_away_fails_the_rows_that_ask_and_is_opened_again() {
    let (acks, clock, sink, table) = (Arc::<Acks>::default(), Clock::real(), sink(), numbers(100, true, false));
    let (mut tap, source) = tap();
    let feeds = [feed(source, &clock)];
    let running = rule(ASKED).to(&sink).start_over(&feeds, desk(&table, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the failure", || running.ledger().dead.values().sum::<u64>() == 3).await;
    tap.give(acks.rows(3..6)).await;
    until("the answers", || sink.took().len() == 3).await;
    assert_eq!(sink.took(), texts(3..6));
    assert_eq!(table.opened.load(Ordering::SeqCst), 2);
    assert_eq!(running.stop().await.terms(), [3, 0, 0, 3]);
}

#[tokio::test]
async fn a_table_that_never_answers_does_not_keep_a_rule_from_its_stop() {
    let (acks, clock, sink, table) = (Arc::<Acks>::default(), Clock::real(), sink(), numbers(7, false, true));
    let (mut tap, source) = tap();
    let feeds = [feed(source, &clock)];
    let running = rule(ASKED).to(&sink).start_over(&feeds, desk(&table, &clock)).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("the question", || table.asked.load(Ordering::SeqCst) == 1).await;
    let left = running.stop().await;
    assert_eq!(left.ledger.dropped["stop"], 3, "{:?}", left.ledger);
    assert_eq!(acks.bad(), [0, 1, 2], "the source may give them again");
}
