//! `overflow: drop`: what is lost is counted, and everything else arrives.

use std::sync::Arc;

use serde_json::json;

use super::kit::*;
use crate::clock::Clock;
use crate::io::End;

#[tokio::test]
async fn a_full_rule_drops_and_counts() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink().shut();
    let chunks = (0..400).map(|n| acks.rows(n * 10..n * 10 + 10)).collect();
    let source = lives(vec![Ok(gives(chunks, Ok(End::Finished)))]);
    let mut rule = rule("SELECT a FROM demo").to(&sink);
    rule.drop_on_overflow = true;
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    until("the end of the source", || running.ledger().came == 4000).await;
    settle().await;
    sink.open();
    running.ended().await;
    let left = running.stop().await;
    let dropped = left.ledger.dropped["overflow"];
    assert!(dropped > 1000, "{:?}", left.ledger);
    assert_eq!(left.ledger.out, 4000 - dropped);
    assert_eq!(sink.took().len() as u64, left.ledger.out);
    assert_eq!(acks.good().len(), 4000, "who wants rows dropped does not want them again");
}

#[tokio::test]
async fn a_full_sink_drops_and_counts_and_leaves_the_other_alone() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let (slow, fast) = (sink().shut(), sink());
    let chunks = (0..400).map(|n| acks.rows(n * 10..n * 10 + 10)).collect();
    let source = lives(vec![Ok(gives(chunks, Ok(End::Finished)))]);
    let rule = rule("SELECT a FROM demo").with(&slow, json!({"sendSingle": true}), true).to(&fast);
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    until("the fast sink", || fast.took().len() == 4000).await;
    slow.open();
    running.ended().await;
    let left = running.stop().await;
    let dropped = left.sink(0).dropped["overflow"];
    assert!(dropped > 1000, "{:?}", left.sink(0));
    assert_eq!(left.sink(0).delivered, 4000 - dropped);
    assert_eq!(left.sink(1).delivered, 4000);
    assert_eq!(left.ledger.dropped["overflow"], dropped);
    assert_eq!(acks.good().len(), 4000);
}

/// Most messages come alone; then each is a batch, and the length of a buffer is still counted in rows.
#[tokio::test]
async fn as_many_rows_wait_as_the_buffer_holds_before_any_is_dropped() {
    let (acks, clock) = (Arc::<Acks>::default(), Clock::real());
    let sink = sink().shut();
    let (mut tap, source) = tap();
    let mut rule = rule("SELECT a FROM demo").with(&sink, json!({"sendSingle": true}), true);
    rule.drop_on_overflow = true;
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    for n in 0..1000 {
        tap.give(acks.rows(n..n + 1)).await;
    }
    until("all rows", || running.ledger().came == 1000).await;
    sink.open();
    until("the sink", || sink.took().len() == 1000).await;
    assert_eq!(running.stop().await.terms(), [1000, 0, 0, 0]);
}
