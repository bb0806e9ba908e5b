//! Store and forward: what a sink cannot take lies on the disk, is acknowledged, and comes in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::kit::*;
use crate::clock::{Clock, Time};
use crate::diag::Fault;
use crate::flow::Place;
use crate::io::Link;
use crate::meter::SinkView;

/// A sink that is away while the switch says so.
fn sink_away(away: &Arc<AtomicBool>) -> Fake {
    let away = away.clone();
    sink_that(move |_| match away.load(Ordering::SeqCst) {
        true => Does::Fail(Fault::unreachable("the line is dead")),
        false => Does::Take,
    })
}

fn switched(on: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(on))
}

/// Single objects, with a queue, and what else is given.
fn props(more: Json) -> Json {
    let mut all = json!({"sendSingle": true, "enableCache": true, "retryInterval": "20ms"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn account(running: &Running) -> SinkView {
    running.flow.nodes().last().unwrap().account.clone().unwrap()
}

fn place() -> Place {
    Place { rule: "r".into(), sink: "fake_0".into() }
}

const SQL: &str = "SELECT a FROM demo";

#[tokio::test(flavor = "multi_thread")]
async fn while_the_sink_keeps_up_nothing_touches_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, sink) = (queues(&home), Arc::<Acks>::default(), sink());
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    for n in 0..20 {
        tap.give(acks.rows(n * 10..n * 10 + 10)).await;
    }
    until("all acknowledgements", || acks.good().len() == 200).await;
    assert_eq!(sink.took(), texts(0..200));
    let left = running.stop().await;
    assert_eq!((left.sink(0).delivered, left.sink(0).queued), (200, 0));
    assert_eq!(queues.list(None).unwrap()[0].sum.messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_a_queue_owes_what_it_has_not_confirmed_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    for side in [false, true] {
        let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(false));
        let sink = sink_away(&away);
        let (mut tap, source) = tap();
        let rule = rule(SQL).with(&sink, props(json!({"resendAlterQueue": side})), false);
        let rule = rule.keeping(&queues, side.then_some(&sink));
        let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
        let owed = || running.flow.nodes().last().unwrap().view.owed;
        tap.give(acks.rows(0..10)).await;
        until("the delivery", || sink.took().len() == 10).await;
        until("no debt", || owed() == 0).await;
        away.store(true, Ordering::SeqCst);
        tap.give(acks.rows(10..20)).await;
        until("the acknowledgements", || acks.good().len() == 20).await;
        assert_ne!(owed(), 0, "what lies on the disk is not confirmed");
        away.store(false, Ordering::SeqCst);
        until("the rest", || sink.took().len() == 20).await;
        until("no debt again", || owed() == 0).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_all_is_acknowledged_and_comes_in_order_when_it_ends() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(false));
    let sink = sink_away(&away);
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..10)).await;
    until("the first rows", || sink.took().len() == 10).await;
    away.store(true, Ordering::SeqCst);
    for n in 1..100 {
        tap.give(acks.rows(n * 10..n * 10 + 10)).await;
    }
    until("the acknowledgements", || acks.good().len() == 1000).await;
    let view = account(&running);
    assert_eq!((view.results, view.delivered, view.queued), (1000, 10, 990));
    assert!(matches!(running.flow.nodes().last().unwrap().link.clone().unwrap().link, Link::Disconnected(_)));
    assert_eq!(running.ledger().out, 1000, "for the rule it is done with");
    away.store(false, Ordering::SeqCst);
    until("the rest", || sink.took().len() == 1000).await;
    tap.give(acks.rows(1000..1001)).await;
    until("live data", || sink.took().len() == 1001).await;
    assert_eq!(sink.took(), texts(0..1001));
    let left = running.stop().await;
    assert_eq!((left.sink(0).delivered, left.sink(0).queued), (1001, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_the_disk_survives_the_rule_and_is_sent_by_the_next() {
    let home = tempfile::tempdir().unwrap();
    let acks = Arc::<Acks>::default();
    for round in 0..3 {
        let queues = queues(&home);
        let sink = sink_connecting(|| Err(Fault::unreachable("no one is there")));
        let (mut tap, source) = tap();
        let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
        let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
        tap.give(acks.rows(round * 10..round * 10 + 10)).await;
        until("the rows", || account(&running).queued == (round + 1) * 10).await;
        let left = running.give_up().await;
        assert_eq!((left.sink(0).results, left.sink(0).queued), ((round + 1) * 10, (round + 1) * 10));
    }
    assert_eq!(acks.good().len(), 30);
    let queues = queues(&home);
    let sink = sink();
    let (_tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    until("what was left", || sink.took().len() == 30).await;
    assert_eq!(sink.took(), texts(0..30));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_finds_in_memory_goes_to_the_disk_and_not_back() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, sink) = (queues(&home), Arc::<Acks>::default(), sink().shut());
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the rows", || running.ledger().came == 5).await;
    let left = running.stop().await;
    assert_eq!((left.sink(0).queued, left.terms()), (5, [5, 0, 0, 0]));
    assert_eq!(acks.good().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_does_not_hold_the_source_up() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, sink) = (queues(&home), Arc::<Acks>::default(), sink().shut());
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..3)).await;
    until("what is in the hands of the sink", || acks.good().len() == 3).await;
    tap.give(acks.rows(3..6)).await;
    until("what came meanwhile", || acks.good().len() == 6).await;
    assert_eq!(account(&running).queued, 6);
    sink.open();
    until("all rows", || sink.took().len() == 6).await;
    assert_eq!(sink.took(), texts(0..6), "each once");
    until("the account", || account(&running).queued == 0).await;
    assert_eq!(account(&running).delivered, 6);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_the_oldest_is_dropped_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let sink = sink_away(&away);
    let (mut tap, source) = tap();
    let bounds = json!({"bufferPageSize": 10, "maxDiskCache": 50, "memoryCacheThreshold": 10});
    let rule = rule(SQL).with(&sink, props(bounds), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    for n in 0..20 {
        tap.give(acks.rows(n * 10..n * 10 + 10)).await;
    }
    until("all rows", || acks.good().len() == 200).await;
    until("the bound", || account(&running).dropped.get("queue full").is_some_and(|rows| *rows >= 140)).await;
    away.store(false, Ordering::SeqCst);
    until("the rest", || account(&running).queued == 0).await;
    let left = running.stop().await;
    let took = sink.took();
    assert_eq!(took.last(), texts(199..200).last());
    assert_eq!(took.len() as u64 + left.sink(0).dropped["queue full"], 200);
    assert!(took.len() <= 60, "{}", took.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sink_refuses_is_dead_also_from_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let state = away.clone();
    let sink = sink_that(move |text| match (state.load(Ordering::SeqCst), text) {
        (true, _) => Does::Fail(Fault::unreachable("the line is dead")),
        (false, "{\"a\":3}") => Does::Fail(Fault::refused("not this one")),
        _ => Does::Take,
    });
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..6)).await;
    until("the disk", || account(&running).queued == 6).await;
    away.store(false, Ordering::SeqCst);
    until("the end of it", || account(&running).queued == 0).await;
    let left = running.stop().await;
    assert_eq!(sink.took(), texts([0, 1, 2, 4, 5]));
    assert_eq!((left.sink(0).delivered, left.sink(0).dead["refused"]), (5, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_given_up_after_as_many_tries_as_the_user_allows() {
    for cache in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let (queues, acks) = (queues(&home), Arc::<Acks>::default());
        let tries = Arc::new(Mutex::new(0));
        let count = tries.clone();
        let sink = sink_that(move |text| match text {
            "{\"a\":1}" => {
                *count.lock().unwrap() += 1;
                Does::Fail(Fault::unreachable("busy"))
            }
            _ => Does::Take,
        });
        let (mut tap, source) = tap();
        let given = props(json!({"enableCache": cache, "retryCount": 3}));
        let rule = rule(SQL).with(&sink, given, false).keeping(&queues, None);
        let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
        tap.give(acks.rows(0..4)).await;
        until("the rest", || sink.took().len() == 3).await;
        until("the account", || account(&running).delivered == 3).await;
        let left = running.stop().await;
        assert_eq!(sink.took(), texts([0, 2, 3]));
        assert_eq!((*tries.lock().unwrap(), left.sink(0).dead["retries"]), (4, 1), "{cache}");
        assert_eq!(acks.good().len(), 4);
        assert_eq!(left.ledger.dead.get("retries").copied(), (!cache).then_some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_never_comes_kills_each_message_after_its_tries() {
    for cache in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let (queues, acks) = (queues(&home), Arc::<Acks>::default());
        let sink = sink_connecting(|| Err(Fault::unreachable("no one is there")));
        let (mut tap, source) = tap();
        let given = props(json!({"enableCache": cache, "retryCount": 2, "retryInterval": "1ms"}));
        let rule = rule(SQL).with(&sink, given, false).keeping(&queues, None);
        let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
        for n in 0..3 {
            tap.give(acks.rows(n * 3..n * 3 + 3)).await;
            until("the end of the rows", || acks.good().len() as u64 == n * 3 + 3).await;
        }
        until("the account", || account(&running).dead.get("retries") == Some(&9)).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_paced() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let clock = Clock::stopped_at(Time(0));
    let times = Arc::<Mutex<Vec<i64>>>::default();
    let (state, at, noted) = (away.clone(), clock.clone(), times.clone());
    let sink = sink_that(move |_| {
        if state.load(Ordering::SeqCst) {
            return Does::Fail(Fault::unreachable("the line is dead"));
        }
        noted.lock().unwrap().push(at.now().0);
        Does::Take
    });
    let (mut tap, source) = tap();
    let given = props(json!({"resendInterval": "200ms"}));
    let rule = rule(SQL).with(&sink, given, false).keeping(&queues, None).at(&clock);
    let running = rule.start(&feed(source, &clock)).await.unwrap();
    tap.give(acks.rows(0..6)).await;
    until("the disk", || account(&running).queued == 6).await;
    away.store(false, Ordering::SeqCst);
    until_by(&clock, "the end of it", || sink.took().len() == 6).await;
    let times = times.lock().unwrap().clone();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 200), "{times:?}");
    assert_eq!(sink.took(), texts(0..6));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_queue_lets_live_data_pass_and_marks_what_is_late() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away, second_away) = (queues(&home), Arc::<Acks>::default(), switched(true), switched(true));
    let (sink, second) = (sink_away(&away), sink_away(&second_away));
    let (mut tap, source) = tap();
    let given = props(json!({"resendAlterQueue": true, "resendDestination": "late", "resendIndicatorField": "late"}));
    let rule = rule(SQL).with(&sink, given, false).keeping(&queues, Some(&second));
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the disk", || account(&running).queued == 5).await;
    away.store(false, Ordering::SeqCst);
    let mut next = 5;
    while sink.took().is_empty() {
        tap.give(acks.rows(next..next + 1)).await;
        next += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("live data", || acks.good().len() as u64 == next).await;
    assert!(second.took().is_empty() && account(&running).queued > 0, "live data goes past the queue");
    second_away.store(false, Ordering::SeqCst);
    until("the queue", || account(&running).queued == 0).await;
    let left = running.stop().await;
    let late = second.took();
    assert_eq!(late[..5], (0..5).map(|n| format!("{{\"a\":{n},\"late\":true}}")).collect::<Vec<_>>());
    assert_eq!(late.len() + sink.took().len(), next as usize);
    assert!(sink.took().iter().all(|text| !text.contains("late")));
    assert_eq!(left.sink(0).delivered, next);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_priority_the_queue_goes_first() {
    let home = tempfile::tempdir().unwrap();
    let (acks, second) = (Arc::<Acks>::default(), sink().shut());
    {
        let queues = queues(&home);
        let away = sink_connecting(|| Err(Fault::unreachable("no one is there")));
        let (mut tap, source) = tap();
        let rule = rule(SQL).with(&away, props(json!({})), false).keeping(&queues, None);
        let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
        tap.give(acks.rows(0..300)).await;
        until("the disk", || account(&running).queued == 300).await;
        running.give_up().await;
    }
    let (queues, sink) = (queues(&home), sink());
    let (mut tap, source) = tap();
    let given = props(json!({"resendAlterQueue": true, "resendPriority": 1}));
    let rule = rule(SQL).with(&sink, given, false).keeping(&queues, Some(&second));
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(300..303)).await;
    until("the rows", || running.ledger().came == 3).await;
    settle().await;
    assert!(sink.took().is_empty(), "live data waits");
    second.open();
    until("the queue", || second.took().len() == 300).await;
    until("live data", || sink.took().len() == 3).await;
    assert_eq!(sink.took(), texts(300..303));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_can_be_told_not_to_outlive_its_run() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks) = (queues(&home), Arc::<Acks>::default());
    let sink = sink_connecting(|| Err(Fault::unreachable("no one is there")));
    let (mut tap, source) = tap();
    let given = props(json!({"cleanCacheAtStop": true}));
    let rule = rule(SQL).with(&sink, given, false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the disk", || account(&running).queued == 5).await;
    let left = running.stop().await;
    assert_eq!((left.sink(0).queued, left.sink(0).dropped["stop"]), (0, 5));
    assert_eq!(queues.list(None).unwrap()[0].sum.messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_removes_from_a_running_queue_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let sink = sink_away(&away);
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the disk", || account(&running).queued == 5).await;
    assert_eq!(queues.look(&place(), 0, 100).unwrap().unwrap().len(), 5);
    assert_eq!(queues.clear(&place()).unwrap().unwrap().sum.rows, 5);
    until("the account", || account(&running).dropped.get("queue drop") == Some(&5)).await;
    assert_eq!(account(&running).queued, 0);
    away.store(false, Ordering::SeqCst);
    tap.give(acks.rows(5..8)).await;
    until("live data", || sink.took().len() == 3).await;
    assert_eq!(sink.took(), texts(5..8));
    running.stop().await;
}

/// The data folder with the queue as it would be found if the process were killed now.
fn killed(home: &tempfile::TempDir) -> tempfile::TempDir {
    let (copy, folder) = (tempfile::tempdir().unwrap(), "queues/r/fake_0");
    std::fs::create_dir_all(copy.path().join(folder)).unwrap();
    for file in std::fs::read_dir(home.path().join(folder)).unwrap().map(|file| file.unwrap()) {
        // One that is deleted meanwhile is not needed.
        let _ = std::fs::copy(file.path(), copy.path().join(folder).join(file.file_name()));
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_the_queue_does_not_come_again_after_a_pause() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    // One at each attempt, so that the last is not noted with the others.
    let left = Arc::new(Mutex::new((30, false)));
    let (given, away_too) = (left.clone(), away.clone());
    let sink = sink_that(move |_| {
        let (left, open) = &mut *given.lock().unwrap();
        *open = !*open && *left > 0 && !away_too.load(Ordering::SeqCst);
        *left -= i32::from(*open);
        if *open { Does::Take } else { Does::Fail(Fault::unreachable("the line is dead")) }
    });
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..100)).await;
    until("the disk", || account(&running).queued == 100).await;
    away.store(false, Ordering::SeqCst);
    until("the first", || account(&running).queued == 70).await;
    // Nothing more leaves, and what has left is noted all the same.
    let found = || super::kit::queues(&killed(&home)).list(None).unwrap()[0].sum.messages;
    until("the note", || found() == 70).await;
    running.give_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_queue_dropped_counts_once_after_a_crash_and_when_a_user_drops_the_rest() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let sink = sink_away(&away);
    let (mut tap, source) = tap();
    let given = props(json!({"bufferPageSize": 4, "memoryCacheThreshold": 8, "maxDiskCache": 20}));
    let first = rule(SQL).with(&sink, given.clone(), false).keeping(&queues, None);
    let running = first.start(&feed(source, &Clock::real())).await.unwrap();
    let stale = running.flow.accounts();
    tap.give(acks.rows(0..100)).await;
    until("the bound", || {
        let view = account(&running);
        view.balances() && view.results == 100 && view.dropped.contains_key("queue full")
    })
    .await;
    let full = account(&running).dropped["queue full"];
    until("the note", || super::kit::queues(&killed(&home)).list(None).unwrap()[0].sum.rows == 100 - full).await;
    let copy = killed(&home);
    let accounts = running.flow.accounts();
    running.give_up().await;
    for carried in [accounts.clone(), stale] {
        let (copy, (_tap, source)) = (killed(&copy), super::kit::tap());
        let queues = super::kit::queues(&copy);
        let mut again = rule(SQL).with(&sink, given.clone(), false).keeping(&queues, None);
        again.carried = carried;
        let running = again.start(&feed(source, &Clock::real())).await.unwrap();
        until("the account", || account(&running).queued == 100 - full).await;
        let view = account(&running);
        assert_eq!((view.results, view.dropped.get("queue full")), (100, Some(&full)));
        running.give_up().await;
    }
    // As the command line does it while no server runs.
    assert_eq!(super::kit::queues(&copy).clear(&place()).unwrap().unwrap().sum.rows, 100 - full);
    let ((_tap, source), queues) = (super::kit::tap(), super::kit::queues(&copy));
    let mut again = rule(SQL).with(&sink, given, false).keeping(&queues, None);
    again.carried = accounts;
    let running = again.start(&feed(source, &Clock::real())).await.unwrap();
    until("the account", || account(&running).dropped.contains_key("queue drop")).await;
    let view = account(&running);
    assert_eq!((view.results, view.queued, view.dropped["queue drop"]), (100, 0, 100 - full));
    assert!(view.balances(), "{view:?}");
    running.give_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_input_waits_for_the_queue() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let sink = sink_away(&away);
    let source = lives(vec![Ok(gives(vec![acks.rows(0..300)], Ok(crate::io::End::Finished)))]);
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    until("the disk", || account(&running).queued == 300).await;
    assert!(running.flow.ended().borrow().is_none());
    away.store(false, Ordering::SeqCst);
    running.ended().await;
    assert_eq!(sink.took(), texts(0..300));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_written_holds_the_source_up_until_it_can() {
    let home = tempfile::tempdir().unwrap();
    let (queues, acks) = (queues(&home), Arc::<Acks>::default());
    let sink = sink_connecting(|| Err(Fault::unreachable("no one is there")));
    let (mut tap, source) = tap();
    let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    // A file where the folder of the queue is to be.
    let folder = home.path().join("queues");
    std::fs::write(&folder, b"in the way").unwrap();
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    tap.give(acks.rows(0..5)).await;
    until("the trouble", || {
        running.flow.nodes().last().unwrap().view.last_exception.contains("the queue of the sink `fake_0` cannot be")
    })
    .await;
    assert!(acks.good().is_empty() && acks.bad().is_empty());
    std::fs::remove_file(&folder).unwrap();
    until("the acknowledgements", || acks.good().len() == 5).await;
    assert_eq!(account(&running).queued, 5);
    running.give_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_loses_nothing_whichever_of_disk_and_sink_comes_back_first() {
    for sink_first in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(false));
        let sink = sink_away(&away);
        let (mut tap, source) = tap();
        let rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
        let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
        // A file where the folder of the queue was.
        let folder = home.path().join("queues/r/fake_0");
        until("the queue", || folder.is_dir() && queues.in_use(&place())).await;
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, b"in the way").unwrap();
        away.store(true, Ordering::SeqCst);
        for n in 0..5 {
            tap.give(acks.rows(n * 2..n * 2 + 2)).await;
        }
        until("the trouble", || {
            running.flow.nodes().last().unwrap().view.last_exception.contains("cannot be written, and the rule waits")
        })
        .await;
        settle().await;
        assert!(acks.good().is_empty() && acks.bad().is_empty());
        if !sink_first {
            std::fs::remove_file(&folder).unwrap();
            std::fs::create_dir(&folder).unwrap();
            until("the acknowledgements", || acks.good().len() == 10).await;
            assert_eq!(account(&running).queued, 10);
        }
        away.store(false, Ordering::SeqCst);
        until("all rows", || sink.took().len() == 10).await;
        assert_eq!(sink.took(), texts(0..10));
        until("the account", || account(&running).delivered == 10).await;
        assert_eq!(acks.good().len(), 10);
        let left = running.stop().await;
        assert_eq!((left.sink(0).queued, left.terms()), (0, [10, 0, 0, 0]));
    }
}

/// JSON goes to 128; a plugin's rows may go deeper, and a sink that takes rows as they are has no text of them to keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_nested_too_deeply_for_the_queue_is_dead_and_holds_nothing_up() {
    use crate::data::{Object, Value, pack};
    use crate::io::{Message, Payload, Takes};

    let home = tempfile::tempdir().unwrap();
    let (queues, acks, away) = (queues(&home), Arc::<Acks>::default(), switched(true));
    let (sink, (mut tap, source)) = (sink_away(&away), tap());
    let mut rule = rule(SQL).with(&sink, props(json!({})), false).keeping(&queues, None);
    rule.takes = Takes::Rows;
    let running = rule.start(&feed(source, &Clock::real())).await.unwrap();
    let row = |id: u64, levels: usize| {
        let mut value = Value::Int(id as i64);
        (0..levels).for_each(|_| value = Value::array(vec![std::mem::take(&mut value)]));
        Message { payload: Payload::Row(Object::from_iter([("a", value)])), ..acks.row(id) }
    };
    tap.give(vec![row(1, pack::DEEPEST), row(2, pack::DEEPEST + 1), row(3, 1)]).await;
    until("the acknowledgements", || acks.good() == [1, 2, 3]).await;
    until("the queue", || account(&running).queued == 2).await;
    assert_eq!(account(&running).dead, [("encode", 1)].into());
    away.store(false, Ordering::SeqCst);
    until("those that could be kept", || sink.took().len() == 2).await;
    // What was kept is what was given, to the last level.
    let levels: Vec<usize> = sink.took().iter().map(|text| text.matches("Array").count()).collect();
    assert_eq!(levels, [pack::DEEPEST, 1]);
    let left = running.stop().await;
    assert_eq!((left.sink(0).delivered, left.ledger.dead["encode"], left.ledger.out), (2, 1, 2));
}
