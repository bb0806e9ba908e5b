//! Event time over the real tasks: who holds the watermark is told, and what has ended or fallen silent holds nothing.

use std::sync::Arc;
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::flow::{Ended, Tide};
use crate::io::End;
use crate::plan::{EventTime, Options};

const JOIN: &str = "SELECT a.v AS av, b.v AS bv FROM a FULL JOIN b ON a.v = b.v GROUP BY TUMBLINGWINDOW(ss, 10)";

fn in_event_time(patience: Option<u64>) -> Rule {
    let patience = patience.map(Duration::from_millis);
    let event_time = Some(EventTime { tolerance: Duration::ZERO, patience });
    let stream = Some(r#"CREATE STREAM s (v BIGINT, ts BIGINT) WITH (TIMESTAMP="ts")"#);
    let mut rule = rule(JOIN);
    (rule.options, rule.stream) = (Options { event_time, ..Options::default() }, stream);
    rule
}

/// What the status says: the watermark, the rows that wait, and for whom.
fn tide(running: &Running) -> (Option<Time>, usize, String) {
    let Tide { watermark, waiting, held_by } = running.flow.tide().unwrap();
    (watermark, waiting, held_by.join(","))
}

#[tokio::test]
async fn a_silent_stream_is_named_and_left_behind_when_it_was_silent_for_so_long() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let ((mut one, first), (_other, second)) = (tap(), tap());
    let feeds = vec![feed(first, &clock), feed(second, &clock)];
    let running = in_event_time(Some(5_000)).to(&sink).at(&clock).start_over(&feeds, Vec::new()).await.unwrap();
    one.give(vec![
        acks.message(1, r#"{"v": 1, "ts": 3000}"#),
        acks.message(2, r#"{"v": 2, "ts": 12000}"#),
        acks.message(3, r#"{"v": 3, "ts": 11000}"#),
    ])
    .await;
    until("the rows", || running.ledger().held == 3).await;
    until("the status", || tide(&running) == (None, 3, "b".into())).await;
    clock.set(Time(6_000));
    until("the window", || !sink.took().is_empty()).await;
    assert_eq!(sink.took(), [r#"{"av":1}"#]);
    until("the status", || tide(&running) == (Some(Time(12_000)), 0, String::new())).await;
    one.give(vec![acks.message(4, r#"{"v": 4, "ts": 11999}"#)]).await;
    until("the late row", || running.ledger().late == 1).await;
    assert_eq!(running.stop().await.ledger.dropped["stop"], 2);
}

#[tokio::test]
async fn a_stream_that_has_ended_is_waited_for_no_longer() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)));
    let sink = sink();
    let ended = gives(vec![vec![acks.message(1, r#"{"v": 1, "ts": 1000}"#)]], Ok(End::Finished));
    let (mut one, first) = tap();
    let feeds = vec![feed(first, &clock), feed(lives(vec![Ok(ended)]), &clock)];
    let running = in_event_time(None).to(&sink).at(&clock).start_over(&feeds, Vec::new()).await.unwrap();
    one.give(vec![acks.message(2, r#"{"v": 1, "ts": 3000}"#), acks.message(3, r#"{"v": 2, "ts": 12000}"#)]).await;
    until("the window", || !sink.took().is_empty()).await;
    assert_eq!(sink.took(), [r#"{"av":1,"bv":1}"#]);
    assert!(!matches!(*running.flow.ended().borrow(), Some(Ended::Finished)));
    running.stop().await;
}
