//! The account after a crash: each row in it once, where it truly ended.

use crate::flow::journal::record;
use crate::meter::{Accounts, LedgerView};

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
    let (mut tap, running) = start().await;
    // What comes new comes behind what is done again.
    tap.give(acks.rows(5..6)).await;
    until("the log", || acks.good().len() == 5).await;
    until("the rows", || running.ledger().balances()).await;
    let mut after = running.ledger();
    after.came -= 1;
    match after.held > before.held {
        true => after.held -= 1,
        false => after.out -= 1,
    }
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

/// Where the last rows stand in the log.
fn last_push(folder: &Path) -> u64 {
    let (view, _) = View::open(folder).unwrap();
    let mut reader = view.read(view.first()).unwrap();
    let mut last = 0;
    while let Some((sequence, body)) = reader.next().unwrap() {
        if matches!(record::glance(&body), Ok(record::Glance::Push { .. })) {
            last = sequence;
        }
    }
    last
}

/// A snapshot waits for results that a sink has not confirmed; what ends meanwhile is no part of it, and is done again.
#[tokio::test]
async fn what_ends_while_a_snapshot_waits_for_a_sink_is_counted_once() {
    let clock = Clock::stopped_at(Time(1_000));
    let home = tempfile::tempdir().unwrap();
    let sink = sink().shut();
    let start = async || {
        let (tap, source) = tap();
        let mut rule = rule("SELECT a, lag(a) AS l FROM demo WHERE a < 4").to(&sink).at(&clock);
        rule.journal = Some((home.path().to_owned(), Duration::from_secs(2)));
        (tap, rule.start(&feed(source, &clock)).await.unwrap())
    };
    let acks = Arc::<Acks>::default();
    let (mut tap, running) = start().await;
    tap.give(vec![acks.message(0, "{"), acks.row(1), acks.row(2), acks.row(3)]).await;
    until("the results", || running.sink_results() == 3).await;
    clock.set(Time(4_000));
    settle().await;
    tap.give(vec![acks.message(4, "{"), acks.row(5), acks.row(6)]).await;
    until("the log", || acks.good().len() == 7).await;
    until("their ends", || running.ledger().filtered == 2 && running.ledger().dead.get("decode") == Some(&2)).await;
    assert!(Snapshots::sequences(home.path()).unwrap().is_empty());
    sink.open();
    until("the snapshot", || !Snapshots::sequences(home.path()).unwrap().is_empty()).await;
    until("the end", || running.ledger().out == 3).await;
    let taken = Snapshots::sequences(home.path()).unwrap()[0];
    assert!(taken <= last_push(home.path()), "the snapshot has it all");
    let before = running.ledger();
    assert!(before.came == 7 && before.balances(), "{before:?}");
    running.kill().await;
    let (mut tap, running) = start().await;
    // What comes new comes behind what is done again.
    tap.give(acks.rows(7..8)).await;
    until("the log", || acks.good().len() == 8).await;
    until("the rows", || running.ledger().balances()).await;
    assert_eq!(running.ledger(), LedgerView { came: 8, filtered: 3, ..before });
    running.kill().await;
}

/// The acknowledgement of a message that is no record was lost with the process: it comes again, and is known as rows are.
#[tokio::test]
async fn a_message_that_is_no_record_and_is_given_again_after_a_crash_is_known() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    let chunk = vec![world.message(1, "{", false), world.message(2, r#"{"a":2}"#, false), world.message(3, "[", false)];
    world.taps[0].give(chunk).await;
    until("the acknowledgements", || world.acks[0].good() == [1, 2, 3]).await;
    world.running.take().unwrap().kill().await;
    world.start().await;
    let chunk = vec![
        world.message(1, "{", true),
        world.message(2, r#"{"a":2}"#, true),
        world.message(3, "[", true),
        world.message(4, "(", false),
    ];
    world.taps[0].give(chunk).await;
    let running = world.running.as_ref().unwrap();
    until("the acknowledgements", || world.acks[1].good() == [1, 2, 3, 4]).await;
    until("the dead", || running.ledger().dead.get("decode") == Some(&3)).await;
    let ledger = running.ledger();
    assert_eq!((ledger.came, ledger.held, ledger.dropped["duplicate"]), (7, 1, 3), "{ledger:?}");
    world.running.take().unwrap().kill().await;
}

/// What the log does not have is not acknowledged, and not counted either.
#[tokio::test]
async fn a_message_that_is_no_record_counts_when_the_log_has_it_and_its_letter_comes_after_a_crash() {
    let (home, clock) = (tempfile::tempdir().unwrap(), Clock::stopped_at(Time(0)));
    let (acks, out) = (Arc::<Acks>::default(), sink());
    let start = async |dead: &Fake| {
        let (tap, source) = tap();
        let mut rule = rule("SELECT a, lag(a) AS l FROM demo").to(&out).at(&clock);
        rule.journal = Some((home.path().to_owned(), HOUR));
        rule.dead = Some((dead.clone(), serde_json::json!({"sendSingle": true})));
        (tap, rule.start(&feed(source, &clock)).await.unwrap())
    };
    let dead = sink().shut();
    let (mut tap, running) = start(&dead).await;
    tap.give(vec![acks.row(1), acks.message(2, "{\"a\":"), acks.row(3)]).await;
    // The letter is as good as written: the log has what it says.
    until("the log", || acks.good() == [1, 2, 3]).await;
    until("the results", || out.took().len() == 2).await;
    running.kill().await;
    let dead = sink();
    let (_tap, running) = start(&dead).await;
    until("the letter", || dead.took().len() == 1).await;
    until("the dead", || running.ledger().dead.get("decode") == Some(&1) && running.ledger().came == 3).await;
    let letter: serde_json::Value = serde_json::from_str(&dead.took()[0]).unwrap();
    assert_eq!((&letter["payload"], &letter["position"]["stream"]), (&"{\"a\":".into(), &"demo".into()), "{letter}");
    running.kill().await;
}

/// A row that the log cannot keep counts with the record that says so.
#[tokio::test]
async fn a_row_that_is_nested_too_deeply_is_counted_after_a_crash_too() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    let mut value = Value::Int(1);
    (0..=crate::data::pack::DEEPEST).for_each(|_| value = Value::array(vec![std::mem::take(&mut value)]));
    let row = crate::data::Object::from_iter([("a", value)]);
    let deep = Message { payload: crate::io::Payload::Row(row), ..world.message(1, "", false) };
    let chunk = vec![deep, world.message(2, r#"{"a":2}"#, false)];
    world.taps[0].give(chunk).await;
    let running = world.running.as_ref().unwrap();
    until("the rows", || running.ledger().held == 1 && running.ledger().dead.get("encode") == Some(&1)).await;
    world.running.take().unwrap().kill().await;
    world.start().await;
    let running = world.running.as_ref().unwrap();
    until("the row", || running.ledger().held == 1).await;
    assert_eq!((running.ledger().came, running.ledger().dead.get("encode")), (2, Some(&1)));
    world.running.take().unwrap().kill().await;
}

/// What a sink had taken since it said last where it stands is taken back after a crash, and is delivered once.
#[tokio::test]
async fn what_a_sink_takes_back_after_a_crash_is_delivered_once() {
    let (clock, home, sink) = (Clock::real(), tempfile::tempdir().unwrap(), sink_that_takes_back());
    let start = async || {
        let (tap, source) = tap();
        let mut rule = rule("SELECT a, lag(a) AS l FROM demo").to(&sink).at(&clock);
        rule.journal = Some((home.path().to_owned(), HOUR));
        (tap, rule.start(&feed(source, &clock)).await.unwrap())
    };
    let acks = Arc::<Acks>::default();
    let account = |running: &Running| running.flow.accounts().sinks["fake_0"].clone();
    let (mut tap, running) = start().await;
    tap.give(acks.rows(1..3)).await;
    until("the notes", || confirmed(home.path()) == 2).await;
    sink.set_says(false);
    tap.give(acks.rows(3..6)).await;
    until("the results", || account(&running).delivered == 5).await;
    // With this row goes to the disk what is known of the sink by now.
    tap.give(acks.rows(6..7)).await;
    until("the log", || acks.good().len() == 6).await;
    running.kill().await;
    sink.set_says(true);
    let (_tap, running) = start().await;
    until("all results", || confirmed(home.path()) == 6).await;
    let view = account(&running);
    assert_eq!((sink.took().len(), view.delivered, view.results), (6, 6, 6));
    running.kill().await;
}

/// Of a journal that cannot be read any more the account stands, but for what was held.
#[tokio::test]
async fn where_no_snapshot_can_be_read_what_was_held_is_dropped_as_damaged_and_no_more() {
    for (sql, held) in
        [("SELECT count(*) AS n FROM demo GROUP BY COUNTWINDOW(4)", 2), ("SELECT a, lag(a) AS l FROM demo", 0)]
    {
        let (clock, home, sink) = (Clock::stopped_at(Time(1_000)), tempfile::tempdir().unwrap(), sink());
        let start = async |carried: Accounts| {
            let (tap, source) = tap();
            let mut rule = rule(sql).to(&sink).at(&clock);
            rule.journal = Some((home.path().to_owned(), Duration::from_secs(2)));
            rule.carried = carried;
            (tap, rule.start(&feed(source, &clock)).await.unwrap())
        };
        let acks = Arc::<Acks>::default();
        let (mut tap, running) = start(Accounts::default()).await;
        for n in 0..5 {
            tap.give(acks.rows(n * 2..n * 2 + 2)).await;
            until("the log", || acks.good().len() as u64 == n * 2 + 2).await;
            until("the ends", || running.ledger().balances()).await;
            if n == 0 {
                // A snapshot that has all lets the beginning of the log go.
                until("the notes", || confirmed(home.path()) == sink.took().len() as u64).await;
            }
            let before = Snapshots::sequences(home.path()).unwrap();
            clock.set(Time(4_000 + n as i64 * 3_000));
            until("a snapshot", || Snapshots::sequences(home.path()).unwrap() != before).await;
            until("the end of the beginning", || View::open(home.path()).unwrap().0.first() > 1).await;
        }
        let before = running.flow.accounts();
        assert_eq!((before.ledger.came, before.ledger.held), (10, held));
        running.kill().await;
        for sequence in Snapshots::sequences(home.path()).unwrap() {
            let path = home.path().join(format!("{sequence:020}.snapshot"));
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        let (_tap, running) = start(before.clone()).await;
        let mut expected = LedgerView { held: 0, ..before.ledger };
        if held > 0 {
            expected.dropped.insert("damaged", held as u64);
        }
        assert_eq!(running.ledger(), expected, "{sql}");
        assert_eq!(running.flow.accounts().sinks, before.sinks, "{sql}");
        let warnings = running.flow.journal().unwrap().warnings;
        let said = format!("{held} rows that the rule held are dropped");
        assert_eq!(warnings.last().is_some_and(|last| *last == said), held > 0, "{warnings:?}");
        assert!(warnings.iter().any(|text| text.contains("beginning of the input log is gone")), "{warnings:?}");
        running.kill().await;
    }
}

/// A log that does not fit the plan any more cannot be done again, but what had ended before has ended.
#[tokio::test]
async fn of_a_log_that_does_not_fit_any_more_only_what_was_held_is_dropped() {
    let (clock, home, sink) = (Clock::stopped_at(Time(1_000)), tempfile::tempdir().unwrap(), sink());
    let start = async |sql: &'static str, carried: Accounts| {
        let (tap, source) = tap();
        let mut rule = rule(sql).to(&sink).at(&clock);
        rule.journal = Some((home.path().to_owned(), HOUR));
        rule.carried = carried;
        (tap, rule.start(&feed(source, &clock)).await.unwrap())
    };
    let acks = Arc::<Acks>::default();
    let first = "SELECT count(*) AS n FROM demo GROUP BY COUNTWINDOW(4)";
    let (mut tap, running) = start(first, Accounts::default()).await;
    tap.give(acks.rows(0..10)).await;
    until("the ends", || running.ledger().out == 8 && running.ledger().balances()).await;
    let written = running.flow.accounts();
    tap.give(acks.rows(10..11)).await;
    until("the log", || acks.good().len() == 11).await;
    running.kill().await;
    let (_tap, running) = start("SELECT count(*) AS n FROM demo GROUP BY COUNTWINDOW(5)", written).await;
    let ledger = running.ledger();
    assert_eq!((ledger.came, ledger.out, ledger.dropped["changed"]), (11, 8, 3));
    assert!(ledger.balances(), "{ledger:?}");
    running.kill().await;
}
