//! The account after a crash: each row in it once, where it truly ended.

use crate::meter::LedgerView;

use super::*;

/// Messages on their way to a sink when a snapshot is taken, and one behind it; the sink refuses the second. Gives the
/// ledger before a crash and after it.
async fn around(sql: &'static str, at: i64) -> (LedgerView, LedgerView) {
    let clock = Clock::stopped_at(Time(1_000));
    let home = tempfile::tempdir().unwrap();
    let refuses = |text: &str| match text.contains(r#""a":2"#) {
        true => Does::Fail(crate::diag::Fault::refused("not that one")),
        false => Does::Take,
    };
    let sink = sink_that(refuses).shut();
    let start = async || {
        let (tap, source) = tap();
        let feed = feed(source, &clock);
        let mut rule = rule(sql).to(&sink).at(&clock);
        rule.journal = Some((home.path().to_owned(), Duration::from_secs(2)));
        (tap, rule.start(&feed).await.unwrap())
    };
    let acks = Arc::<Acks>::default();
    let (mut tap, running) = start().await;
    tap.give(acks.rows(1..4)).await;
    until("the log", || acks.good().len() == 3).await;
    clock.set(Time(at));
    // What comes behind the snapshot is done again.
    until("the results", || running.sink_results() == 3).await;
    settle().await;
    tap.give(acks.rows(4..5)).await;
    until("the log", || acks.good().len() == 4).await;
    assert!(Snapshots::sequences(home.path()).unwrap().is_empty());
    sink.open();
    until("the snapshot", || !Snapshots::sequences(home.path()).unwrap().is_empty()).await;
    until("the end", || running.ledger().balances() && running.ledger().came == 4).await;
    let before = running.ledger();
    running.kill().await;
    let (_tap, running) = start().await;
    until("the rows", || running.ledger().balances() && running.ledger().came == before.came).await;
    let after = running.ledger();
    running.kill().await;
    (before, after)
}

#[tokio::test]
async fn rows_on_their_way_at_a_snapshot_are_counted_where_they_end() {
    let (before, after) = around("SELECT a, lag(a) AS l FROM demo", 4_000).await;
    assert_eq!((before.out, before.dead["refused"]), (3, 1));
    assert_eq!(after, before);
}

#[tokio::test]
async fn rows_of_a_window_on_their_way_at_a_snapshot_are_counted_where_they_end() {
    for sql in [
        "SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)",
        "SELECT a FROM demo GROUP BY COUNTWINDOW(1)",
        "SELECT a FROM demo GROUP BY HOPPINGWINDOW(ss, 10, 10)",
    ] {
        let (before, after) = around(sql, 10_000).await;
        assert_eq!(after, before, "{sql}");
        assert_eq!(before.dead["refused"], 1, "{sql}");
    }
}

#[tokio::test]
async fn a_message_that_is_no_record_is_counted_after_a_crash_too() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    let broken = world.message(1, "{", false);
    world.given.push((0, 1, "{".into()));
    world.taps[0].give(vec![broken]).await;
    let running = world.running.as_ref().unwrap();
    until("the dead", || running.ledger().dead.get("decode") == Some(&1)).await;
    world.step(Give(0, 1)).await;
    world.rest(0).await;
    world.running.take().unwrap().kill().await;
    world.start().await;
    let running = world.running.as_ref().unwrap();
    until("the row", || running.ledger().held == 1).await;
    assert_eq!((running.ledger().came, running.ledger().dead["decode"]), (2, 1));
    world.running.take().unwrap().kill().await;
}
