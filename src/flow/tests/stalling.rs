//! Sinks that make no progress, accounts that go on, and what the status tells of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::flow::NodeStatus;
use crate::meter::{Accounts, LedgerView, SinkView};

const LIMIT: Duration = Duration::from_secs(60);

fn sink_node(running: &Running) -> NodeStatus {
    running.flow.nodes().pop().unwrap()
}

#[tokio::test]
async fn a_sink_that_is_stuck_is_opened_again_and_given_all_that_it_has_not_confirmed() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let hung = Arc::<AtomicUsize>::default();
    let count = hung.clone();
    let sink = sink_that(move |text| match text {
        r#"{"a":3}"# if count.fetch_add(1, Ordering::SeqCst) == 0 => Does::Hang,
        _ => Does::Take,
    });
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let mut spec = rule("SELECT a FROM demo").to(&sink).at(&clock);
    spec.stall = Some(LIMIT);
    let running = spec.start(&feed).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the delivery", || hung.load(Ordering::SeqCst) == 1).await;
    assert_eq!((sink_node(&running).view.owed, sink_node(&running).view.confirmed), (1_000, 0));
    clock.set(Time(60_999));
    settle().await;
    assert_eq!((sink.connects(), sink.closes()), (1, 0), "its time is not up");
    clock.set(Time(61_000));
    until("the sink is given up", || sink.closes() == 1).await;
    until("the status", || sink_node(&running).view.exceptions == 1).await;
    let told = sink_node(&running).view.last_exception;
    assert_eq!(told, "a delivery has made no progress for 60s; the sink is opened again");
    assert!(acks.good().is_empty());
    until_by(&clock, "the acknowledgements", || acks.good().len() == 5).await;
    assert_eq!(sink.connects(), 2);
    // What came before the one that it hung on has come twice.
    let mut took = sink.took();
    assert_eq!(took.drain(..3).collect::<Vec<_>>(), texts(0..3));
    assert_eq!(took, texts(0..5));
    let view = sink_node(&running).view;
    assert!(view.owed == 0 && view.confirmed >= 61_000, "{view:?}");
    assert_eq!(running.stop().await.terms(), [5, 0, 0, 0]);
}

#[tokio::test]
async fn a_sink_that_never_answers_costs_no_row_and_is_tried_again_and_again() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink_that(|_| Does::Hang);
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let mut spec = rule("SELECT a FROM demo").to(&sink).at(&clock);
    spec.stall = Some(LIMIT);
    let running = spec.start(&feed).await.unwrap();
    tap.give(acks.rows(0..4)).await;
    // Four, two, one, and then one for longer.
    let mut last = 0;
    for opened in 2..6 {
        until(&format!("opening {opened}"), || {
            clock.set(clock.now() + Duration::from_secs(1));
            sink.connects() == opened
        })
        .await;
        assert!(clock.now().0 - last > 59_000);
        last = clock.now().0;
    }
    assert!(acks.good().is_empty() && acks.bad().is_empty());
    let left = running.give_up().await;
    assert_eq!((left.ledger.came, left.ledger.dropped["stop"]), (4, 4));
    assert_eq!(acks.bad().len(), 4, "the source has them back");
}

#[tokio::test]
async fn a_connection_that_is_never_made_is_given_up_and_tried_anew() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink_that_connects_only_after(2);
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let mut spec = rule("SELECT a FROM demo").to(&sink).at(&clock);
    spec.stall = Some(LIMIT);
    let running = spec.start(&feed).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    settle().await;
    assert_eq!(sink.connects(), 1);
    until_by(&clock, "the acknowledgements", || acks.good().len() == 3).await;
    assert_eq!((sink.connects(), sink.closes()), (3, 2));
    assert!(clock.now().0 > 121_000, "each of the two had its time");
    let told = sink_node(&running).view.last_exception;
    assert_eq!(told, "the connection has made no progress for 60s; the sink is opened again");
    assert_eq!(running.stop().await.terms(), [3, 0, 0, 0]);
}

#[tokio::test]
async fn a_rule_that_waits_for_its_sink_says_since_when() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink().shut();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let running = rule("SELECT a FROM demo").to(&sink).at(&clock).start(&feed).await.unwrap();
    assert_eq!(running.flow.busy(), None);
    for n in 0..8 {
        clock.set(Time(2_000 + n as i64));
        tap.give(acks.rows(n..n + 1)).await;
        settle().await;
    }
    until("a rule that waits", || running.flow.busy().is_some()).await;
    assert!(running.flow.busy() > Some(Time(2_000)), "it has given away the first batches");
    assert_eq!(sink_node(&running).view.owed, 2_000);
    sink.open();
    until("the end of the waiting", || running.flow.busy().is_none()).await;
    assert_eq!(running.stop().await.terms(), [8, 0, 0, 0]);
}

#[tokio::test]
async fn the_accounts_of_a_rule_go_on_where_the_last_run_ended() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let (mut tap, source) = tap();
    let feed = feed(source, &clock);
    let mut spec = rule("SELECT a FROM demo WHERE a > 1").to(&sink).at(&clock);
    let ledger = LedgerView { came: 10, out: 7, dropped: [("stop", 3)].into(), ..LedgerView::default() };
    let account = SinkView { results: 7, delivered: 6, dead: [("refused", 1)].into(), ..SinkView::default() };
    spec.carried = Accounts { ledger, sinks: [("fake_0".to_owned(), account)].into() };
    let running = spec.start(&feed).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the acknowledgements", || acks.good().len() == 5).await;
    let left = running.stop().await;
    assert_eq!((left.ledger.came, left.ledger.out, left.ledger.filtered), (15, 10, 2));
    assert_eq!(left.ledger.dropped["stop"], 3);
    let sink = left.sink(0);
    assert_eq!((sink.results, sink.delivered, sink.dead["refused"]), (10, 9, 1));
}
