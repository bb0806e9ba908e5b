//! Calls of the chain that break the rule: they do so once, and not at every start.

use super::*;

/// A function with a mistake in it.
const BRITTLE: Func = Func::scalar("brittle", "(any) -> any", brittle).impure();

fn brittle(args: &[Value], _: &Ctx<'_>) -> crate::diag::Result<Value> {
    match &args[0] {
        Value::Float(n) if *n == 3.0 => panic!("three is too much"),
        other => Ok(other.clone()),
    }
}

/// A rule that calls it, with its journal, over several lives.
struct Brittle {
    sql: &'static str,
    clock: Clock,
    home: tempfile::TempDir,
    sink: Fake,
    acks: Arc<Acks>,
    tap: Tap,
    feed: Arc<Feed>,
}

impl Brittle {
    fn new(sql: &'static str) -> Brittle {
        let clock = Clock::stopped_at(Time(1_000));
        let (tap, source) = tap();
        let feed = feed(source, &clock);
        Brittle { sql, clock, home: tempfile::tempdir().unwrap(), sink: sink(), acks: Arc::default(), tap, feed }
    }

    async fn start(&self) -> Running {
        let mut brittle = rule(self.sql).to(&self.sink).at(&self.clock);
        brittle.funcs.add(&BRITTLE);
        brittle.journal = Some((self.home.path().to_owned(), HOUR));
        brittle.start(&self.feed).await.unwrap()
    }

    async fn give(&mut self, ids: std::ops::Range<u64>) {
        self.tap.give(self.acks.rows(ids)).await;
    }

    async fn broken(&mut self, running: Running) {
        running.failed().await;
        running.lay_down_broken().await;
        self.tap.release();
    }
}

fn told(running: &Running, rows: u64) {
    let warnings = running.flow.journal().unwrap().warnings;
    assert!(warnings.iter().any(|one| one.ends_with(&format!(": {rows} rows are dead"))), "{warnings:?}");
}

#[tokio::test]
async fn rows_that_broke_the_rule_do_not_break_it_at_every_start() {
    let mut world =
        Brittle::new("SELECT count(*) AS n FROM demo WHERE brittle(a) < 10 GROUP BY TUMBLINGWINDOW(ss, 10)");
    let running = world.start().await;
    world.give(0..2).await;
    until("the window", || running.ledger().held == 2).await;
    world.give(3..4).await;
    world.broken(running).await;
    let running = world.start().await;
    until("the window", || running.ledger().held == 2).await;
    until("the dead", || running.ledger().dead.get("eval") == Some(&1)).await;
    told(&running, 1);
    world.give(4..5).await;
    until("the next row", || running.ledger().held == 3).await;
    world.clock.set(Time(10_000));
    until("the result", || world.sink.took() == [r#"{"n":3}"#]).await;
    assert_eq!(running.ledger().came, 4);
    assert_eq!(running.lay_down().await, 0);
}

#[tokio::test]
async fn a_window_that_broke_the_rule_does_not_break_it_at_every_start() {
    for sql in [
        "SELECT brittle(sum(a)) AS n FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)",
        "SELECT count(*) AS n FROM demo GROUP BY TUMBLINGWINDOW(ss, 10) HAVING brittle(sum(a)) < 100",
        "SELECT a, brittle(sum(a)) AS n FROM demo GROUP BY a, HOPPINGWINDOW(ss, 10, 10)",
    ] {
        let mut world = Brittle::new(sql);
        let running = world.start().await;
        let rows = if sql.contains("BY a") { 3..4 } else { 1..3 };
        let count = rows.end - rows.start;
        world.give(rows).await;
        until("the window", || running.ledger().held == count as i64).await;
        world.clock.set(Time(10_000));
        world.broken(running).await;
        // It was due, and is due again; but what broke over it is not tried again.
        for life in 0..2 {
            let running = world.start().await;
            until("the dead", || running.ledger().dead.get("eval") == Some(&count)).await;
            told(&running, count);
            assert_eq!((running.ledger().came, running.ledger().held), (count, 0), "{sql}");
            if life == 1 {
                world.give(5..6).await;
                until("the next row", || running.ledger().held == 1).await;
                world.clock.set(Time(20_000));
                until("the next window", || world.sink.took().len() == 1).await;
                until("its end", || running.ledger().out == 1).await;
            }
            running.kill().await;
            world.tap.release();
        }
    }
}

#[tokio::test]
async fn the_end_of_the_input_that_broke_the_rule_does_not_break_it_at_every_start() {
    let (acks, clock, home, sink) =
        (Arc::<Acks>::default(), Clock::stopped_at(Time(1_000)), tempfile::tempdir().unwrap(), sink());
    for life in 0..2 {
        let chunks = if life == 0 { vec![acks.rows(1..3)] } else { Vec::new() };
        let feed = feed(lives(vec![Ok(gives(chunks, Ok(End::Finished)))]), &clock);
        let mut brittle = rule("SELECT brittle(sum(a)) AS n FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)").to(&sink);
        brittle.clock = clock.clone();
        brittle.funcs.add(&BRITTLE);
        brittle.journal = Some((home.path().to_owned(), HOUR));
        let running = brittle.start(&feed).await.unwrap();
        match life {
            0 => {
                running.failed().await;
                running.lay_down_broken().await;
            }
            _ => {
                assert_eq!(running.ended().await, Ended::Finished);
                let ledger = running.ledger();
                assert_eq!((ledger.came, ledger.dead["eval"]), (2, 2));
            }
        }
    }
}
