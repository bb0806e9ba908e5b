//! Rules whose statement changes while they do not run.

use super::*;

/// The statement changes while the rule does not run; what does the same goes on with what it knows.
#[tokio::test]
async fn a_rule_that_was_changed_goes_on_with_the_operators_that_are_the_same() {
    const SUM: &str = "SELECT count(*) AS n, sum(a) AS s FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)";
    static CHANGES: &[(Kind, Kind, &[&str])] = &[
        (
            of(SUM),
            of("SELECT count(*) AS n, sum(a) AS s FROM demo GROUP BY TUMBLINGWINDOW(ss, 10) HAVING count(*) > 1"),
            &[r#"{"n":5,"s":15}"#],
        ),
        (
            of("SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
            of("SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10) ORDER BY a DESC LIMIT 4"),
            &[r#"{"a":5}"#, r#"{"a":4}"#, r#"{"a":3}"#, r#"{"a":2}"#],
        ),
        // Fewer columns, and in another order.
        (
            of("SELECT a, b FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
            of("SELECT b FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
            &[r#"{"b":1}"#, r#"{"b":2}"#, r#"{"b":0}"#, r#"{"b":1}"#, r#"{"b":2}"#],
        ),
        (
            of("SELECT a, b, ts FROM demo GROUP BY HOPPINGWINDOW(ss, 10, 10)"),
            of("SELECT b, a FROM demo GROUP BY HOPPINGWINDOW(ss, 10, 10) ORDER BY b, a"),
            &[r#"{"a":3,"b":0}"#, r#"{"a":1,"b":1}"#, r#"{"a":4,"b":1}"#, r#"{"a":2,"b":2}"#, r#"{"a":5,"b":2}"#],
        ),
        // Another column stands in the rows of the window.
        (
            of("SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
            of("SELECT b, a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)"),
            &[r#"{"a":4,"b":1}"#, r#"{"a":5,"b":2}"#],
        ),
    ];
    for (old, new, expected) in CHANGES {
        let mut world = World::new(old, HOUR);
        world.start().await;
        world.step(Give(0, 3)).await;
        world.rest(0).await;
        world.running.take().unwrap().lay_down().await;
        world.kind = new;
        world.start().await;
        world.step(Give(0, 2)).await;
        world.rest(0).await;
        world.step(At(10_000)).await;
        world.rest(expected.len()).await;
        assert_eq!(world.sink.took(), *expected, "{}", new.sql);
        let running = world.running.as_ref().unwrap();
        until("the confirmation", || running.ledger().held == 0).await;
        let ledger = running.ledger();
        assert!(ledger.balances() && ledger.came == 5, "{}: {ledger:?}", new.sql);
        let dropped = ledger.dropped.get("changed").copied().unwrap_or_default();
        assert_eq!(
            (dropped, view(&world).warnings.len()),
            if new.sql.starts_with("SELECT b, a FROM demo GROUP BY TUMBLING") { (3, 1) } else { (0, 0) }
        );
        world.running.take().unwrap().kill().await;
    }
}

#[tokio::test]
async fn a_rule_that_was_changed_begins_anew_and_says_what_it_drops() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    world.step(Give(0, 3)).await;
    world.rest(0).await;
    world.running.take().unwrap().kill().await;
    world.kind = &KINDS[3];
    world.start().await;
    let warnings = view(&world).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("was changed") && warnings[1].contains("3 rows"), "{warnings:?}");
    let ledger = world.running.as_ref().unwrap().ledger();
    assert_eq!((ledger.came, ledger.dropped["changed"], ledger.held), (3, 3, 0));
    world.running.take().unwrap().kill().await;
}
