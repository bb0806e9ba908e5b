//! Everything at once, on several threads: a source that breaks off, sinks that are away or refuse, rules that come and
//! go. Whatever happens, each row has one fate and each message one answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::diag::Fault;
use crate::io::End;

const MESSAGES: u64 = 6_000;

/// Numbers that look random and are the same in each run.
#[derive(Clone)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(Arc::new(AtomicU64::new(seed)))
    }

    fn roll(&self, sides: u64) -> u64 {
        let step = |x: u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        (self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).unwrap() >> 33) % sides
    }
}

fn moody(dice: &Dice, refuses: &'static str) -> Fake {
    let dice = dice.clone();
    sink_that(move |text| match dice.roll(40) {
        _ if text.ends_with(refuses) => Does::Fail(Fault::refused("not this one")),
        0 => Does::Fail(Fault::unreachable("away")),
        _ => Does::Take,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_row_has_one_fate_in_a_storm() {
    for seed in 1..4 {
        storm(seed).await;
    }
}

async fn storm(seed: u64) {
    let (acks, dice, clock) = (Arc::<Acks>::default(), Dice::new(seed), Clock::stopped_at(Time(0)));
    let hands = tokio::spawn({
        let clock = clock.clone();
        async move {
            loop {
                clock.set(clock.now() + Duration::from_millis(100));
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    });
    // A source that breaks off goes on where it stopped, as a broker does that keeps what was not given.
    let mut chunks = Vec::new();
    let mut next = 0;
    while next < MESSAGES {
        let end = (next + 1 + dice.roll(40)).min(MESSAGES);
        chunks.push(acks.rows(next..end));
        next = end;
    }
    let mut openings: Vec<Vec<_>> = vec![Vec::new()];
    for chunk in chunks {
        openings.last_mut().unwrap().push(chunk);
        if dice.roll(20) == 0 {
            openings.push(Vec::new());
        }
    }
    let last = openings.pop().unwrap();
    let breaks = openings.into_iter().map(|chunks| Ok(gives(chunks, Err(Fault::unreachable("cut")))));
    let source = lives(breaks.chain([Ok(gives(last, Ok(End::Finished)))]).collect());
    let feed = feed(source, &clock);

    let (one, two) = (moody(&dice, "7}"), moody(&dice, "3}"));
    let staying = rule("SELECT a FROM demo").to(&one).to(&two).at(&clock).start(&feed).await.unwrap();
    let mut came = 0;
    while staying.flow.ended().borrow().is_none() {
        let guest = moody(&dice, "5}");
        let sql = ["SELECT * FROM demo", "SELECT a FROM demo WHERE a % 2 = 0"][dice.roll(2) as usize];
        let running = rule(sql).to(&guest).at(&clock).start(&feed).await.unwrap();
        tokio::time::sleep(Duration::from_millis(dice.roll(8))).await;
        let left = running.stop().await;
        assert!(!left.ledger.dead.contains_key("lost"), "{:?}", left.ledger);
        came += left.ledger.came;
    }
    let left = staying.stop().await;
    assert_eq!(left.ledger.came, MESSAGES, "{:?}", left.ledger);
    assert_eq!((left.ledger.out, left.ledger.dead["refused"]), (MESSAGES / 10 * 8, MESSAGES / 10 * 2));
    for (sink, refused) in [(&one, 7), (&two, 3)] {
        assert_eq!(sink.took(), texts((0..MESSAGES).filter(|n| n % 10 != refused)));
    }
    drop(feed);
    until("all answers", || acks.good().len() + acks.bad().len() == MESSAGES as usize).await;
    assert!(came > 0);
    // Only a guest that left in the middle gives messages back.
    let bad: BTreeSet<u64> = acks.bad().into_iter().collect();
    assert!(bad.len() as u64 <= came, "{} given back of {came}", bad.len());
    hands.abort();
}
