use bytes::Bytes;

use super::*;
use crate::io::Content;

fn body(n: u64, time: i64) -> Vec<u8> {
    let parcel = Parcel { content: Content::Bytes(Bytes::from(format!("{n:04}"))), props: Vec::new() };
    let mut body = Vec::new();
    frame_of(&mut body, &parcel, 2, Time(time)).unwrap();
    body
}

fn text(parcel: &Parcel) -> u64 {
    match &parcel.content {
        Content::Bytes(bytes) => std::str::from_utf8(bytes).unwrap().parse().unwrap(),
        Content::Rows(_) => panic!("rows"),
    }
}

fn limits() -> Limits {
    Limits { page: 10, messages: 1000, ..Limits::default() }
}

fn open(home: &tempfile::TempDir, limits: Limits) -> Queue {
    Queue::open(home.path(), limits).unwrap().0
}

fn put(queue: &mut Queue, from: u64, to: u64, time: i64) {
    for n in from..to {
        queue.append(&body(n, time), false).unwrap();
    }
    queue.commit(Time(time)).unwrap();
}

fn take(queue: &mut Queue, most: usize, now: i64) -> Vec<u64> {
    queue.take(most, Time(now)).unwrap().iter().map(|(parcel, _)| text(parcel)).collect()
}

fn waiting(queue: &Queue) -> Vec<u64> {
    queue.look(0, usize::MAX).unwrap().iter().map(|seen| text(&seen.parcel)).collect()
}

fn all(from: u64, to: u64) -> Vec<u64> {
    (from..to).collect()
}

#[test]
fn what_is_put_is_given_in_order_and_what_is_finished_does_not_come_again() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, limits());
    assert!(queue.is_empty() && !queue.waits());
    put(&mut queue, 0, 25, 1);
    assert_eq!((queue.sum().messages, queue.sum().rows), (25, 50));
    assert_eq!(take(&mut queue, 7, 1), all(0, 7));
    queue.finish(3);
    assert_eq!(queue.sum().messages, 22);
    put(&mut queue, 25, 30, 2);
    queue.rewind();
    assert_eq!(take(&mut queue, 4, 1), all(3, 7));
    assert_eq!(take(&mut queue, 100, 1), all(7, 30));
    assert_eq!(waiting(&queue), all(3, 30));
    assert!(!queue.waits() && !queue.is_empty());
    queue.note();
    drop(queue);
    let mut queue = open(&home, limits());
    assert_eq!((queue.sum().messages, waiting(&queue)), (27, all(3, 30)));
    assert_eq!((queue.sum().oldest, queue.sum().newest), (Time(1), Time(2)));
    assert_eq!(take(&mut queue, 100, 1), all(3, 30));
    queue.finish(27);
    assert!(queue.is_empty() && queue.sum() == Sum::default());
    put(&mut queue, 30, 31, 3);
    drop(queue);
    assert_eq!(waiting(&open(&home, limits())), [30]);
}

#[test]
fn what_flies_stands_in_front_and_waits_again_when_it_did_not_arrive() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, limits());
    for n in 0..6 {
        queue.append(&body(n, 1), n < 4).unwrap();
    }
    queue.commit(Time(1)).unwrap();
    assert_eq!(take(&mut queue, 100, 1), [4, 5]);
    queue.finish(1);
    queue.rewind();
    assert_eq!(take(&mut queue, 2, 1), [1, 2]);
    queue.rewind();
    assert_eq!(take(&mut queue, 100, 1), all(1, 6));
    queue.finish(5);
    assert!(queue.is_empty());
    assert_eq!(queue.thrown, Thrown::default());
}

#[test]
fn beyond_the_bounds_the_oldest_pages_go_and_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, Limits { messages: 30, ..limits() });
    put(&mut queue, 0, 45, 1);
    assert_eq!((waiting(&queue), queue.thrown.full), (all(20, 45), 40));
    // What flies is not touched.
    assert_eq!(take(&mut queue, 5, 1), all(20, 25));
    put(&mut queue, 45, 60, 1);
    assert_eq!(waiting(&queue), [all(20, 25), all(40, 60)].concat());
    queue.finish(5);
    assert_eq!(take(&mut queue, 100, 1), all(40, 60));

    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, Limits { bytes: 4000, ..limits() });
    put(&mut queue, 0, 500, 1);
    let sum = queue.sum();
    assert!(sum.bytes <= 4000 && sum.bytes > 3000, "{sum:?}");
    assert_eq!(queue.thrown.full + sum.rows, 1000);
    assert_eq!(waiting(&queue).last(), Some(&499));
}

#[test]
fn what_has_waited_too_long_is_thrown_away_message_by_message() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, Limits { age: Duration::from_millis(100), ..limits() });
    put(&mut queue, 0, 5, 1000);
    put(&mut queue, 5, 8, 1050);
    assert_eq!(take(&mut queue, 1, 1100), [0]);
    assert_eq!(take(&mut queue, 100, 1101), [5, 6, 7]);
    assert_eq!(queue.thrown.old, 8);
    queue.rewind();
    queue.bound(Time(1200));
    assert_eq!((queue.thrown.old, queue.is_empty()), (16, true));
}

#[test]
fn space_is_given_back() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, Limits { messages: 1_000_000, bytes: 8 << 20, ..Limits::default() });
    let parcel = Parcel { content: Content::Bytes(Bytes::from(vec![7; 10_000])), props: Vec::new() };
    let mut body = Vec::new();
    frame_of(&mut body, &parcel, 1, Time(1)).unwrap();
    let used =
        || -> u64 { std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum() };
    for _ in 0..600 {
        queue.append(&body, false).unwrap();
    }
    queue.commit(Time(1)).unwrap();
    assert!(used() > 6_000_000);
    let taken = queue.take(400, Time(1)).unwrap().len();
    queue.finish(taken);
    queue.note();
    let left = 600 - taken as u64;
    assert!(used() < left * 10_100 + (1 << 20) + 20_000, "{} for {left}", used());
    while !queue.is_empty() {
        let taken = queue.take(400, Time(1)).unwrap().len();
        queue.finish(taken);
    }
    assert!(used() < 100, "{}", used());
}

#[test]
fn a_log_cut_at_any_byte_gives_the_first_messages_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, limits());
    put(&mut queue, 0, 6, 1);
    take(&mut queue, 2, 1);
    queue.finish(2);
    queue.note();
    drop(queue);
    let file = std::fs::read_dir(home.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for end in 0..=whole.len() {
        std::fs::write(&file, &whole[..end]).unwrap();
        let queue = open(&home, limits());
        let there = waiting(&queue);
        assert_eq!(queue.sum().messages, there.len() as u64);
        // The note of what is done is the last frame.
        let (first, last) = if end == whole.len() { (2, 6) } else { (0, there.len() as u64) };
        assert_eq!(there, all(first, last), "at {end}");
        seen.insert(there);
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn what_a_user_removes_is_gone_but_for_what_flies() {
    let home = tempfile::tempdir().unwrap();
    let mut queue = open(&home, limits());
    put(&mut queue, 0, 12, 1);
    take(&mut queue, 2, 1);
    assert_eq!(queue.clear().messages, 10);
    assert_eq!(waiting(&queue), [0, 1]);
    queue.finish(2);
    assert!(queue.is_empty());
    drop(queue);
    assert!(open(&home, limits()).is_empty());
}

/// The queue as it would be found if the process were killed now.
fn killed(home: &tempfile::TempDir, limits: Limits) -> (Queue, tempfile::TempDir) {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap()) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    (open(&copy, limits), copy)
}

#[test]
fn what_is_thrown_away_behind_what_flies_does_not_come_back_with_it() {
    let home = tempfile::tempdir().unwrap();
    let few = Limits { messages: 30, ..limits() };
    let mut queue = open(&home, few);
    put(&mut queue, 0, 30, 1);
    assert_eq!(take(&mut queue, 5, 1), all(0, 5));
    put(&mut queue, 30, 50, 1);
    let there = [all(0, 5), all(30, 50)].concat();
    assert_eq!((waiting(&queue), queue.thrown.full), (there.clone(), 50));
    assert!(queue.owes_note());
    queue.note();
    assert!(!queue.owes_note());
    let (mut found, _copy) = killed(&home, few);
    assert_eq!((waiting(&found), found.sum().messages), (there.clone(), 25));
    assert_eq!(take(&mut found, 3, 1), all(0, 3));
    found.rewind();
    // What is left of it goes too.
    assert_eq!(take(&mut found, 3, 1), all(0, 3));
    found.remove();
    found.rewind();
    assert_eq!((take(&mut found, 100, 1), found.thrown.removed), (all(0, 3), 44));
    queue.rewind();
    assert_eq!((waiting(&queue), queue.sum().messages), (there.clone(), 25));
    assert_eq!(take(&mut queue, 100, 1), there);
    queue.finish(25);
    assert!(queue.is_empty() && queue.thrown.damaged == 0);
    put(&mut queue, 50, 60, 1);
    let (found, _copy) = killed(&home, few);
    assert_eq!(waiting(&found), all(50, 60));
}

#[test]
fn what_was_thrown_away_is_counted_once_whatever_the_account_says() {
    let home = tempfile::tempdir().unwrap();
    let few = Limits { messages: 30, ..limits() };
    let mut queue = open(&home, few);
    let full = |rows| Thrown { full: rows, ..Thrown::default() };
    assert_eq!(queue.settle(full(6)), full(6), "a queue that knows nothing believes the account");
    put(&mut queue, 0, 45, 1);
    assert_eq!(queue.tell(), full(40));
    queue.note();
    // Of accounts that were stored before and after.
    for account in [6, 46, 60] {
        let (mut found, _copy) = killed(&home, few);
        assert_eq!((found.settle(full(account)), found.sum().rows), (full(46), 50));
        assert_eq!(found.tell(), Thrown::default());
    }
    // What is delivered takes the note with it, but for what it counts.
    take(&mut queue, 100, 1);
    queue.finish(25);
    assert!(queue.is_empty() && !queue.owes_note());
    let (mut found, _copy) = killed(&home, few);
    assert!(found.is_empty() && !found.owes_note());
    assert_eq!(found.settle(Thrown::default()), full(46));
    put(&mut found, 0, 3, 1);
    found.remove();
    assert_eq!(found.settle(full(46)), Thrown { removed: 6, ..full(46) });
}

#[test]
fn what_a_queue_throws_away_before_its_first_note_is_counted_once() {
    let (home, home_of_emptied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let few = Limits { messages: 30, ..limits() };
    let full = |rows| Thrown { full: rows, ..Thrown::default() };
    let mut queue = open(&home, few);
    assert_eq!(queue.settle(full(6)), full(6), "a queue that knows nothing believes the account");
    let mut emptied = open(&home_of_emptied, few);
    assert_eq!(emptied.settle(Thrown::default()), Thrown::default());
    put(&mut emptied, 0, 5, 1);
    take(&mut emptied, 5, 1);
    emptied.finish(5);
    assert!(emptied.is_empty() && !emptied.owes_note());
    for (home, queue, first, before) in [(&home, &mut queue, 0, 6), (&home_of_emptied, &mut emptied, 5, 0)] {
        put(queue, first, first + 45, 1);
        assert_eq!(queue.tell(), full(40));
        // The account was stored after that, or before, and the process killed before the queue noted it.
        for account in [before + 40, before] {
            let (mut found, _copy) = killed(home, few);
            assert_eq!((found.settle(full(account)), found.sum().rows), (full(before), 90));
            found.bound(Time(1));
            assert_eq!((found.tell(), found.sum().rows), (full(40), 50));
        }
        take(queue, 100, 1);
        queue.finish(25);
        assert!(queue.is_empty() && !queue.owes_note());
    }
}

#[test]
fn queues_of_a_folder_are_shared_listed_and_removed() {
    use crate::store::Store;
    use std::sync::Arc;

    let home = tempfile::tempdir().unwrap();
    let queues = Queues::new(Arc::new(Store::open(home.path()).unwrap()));
    let place = |rule: &str, sink: &str| Place { rule: rule.into(), sink: sink.into() };
    let kept = queues.open(&place("a", "mqtt_0"), Some(limits())).unwrap();
    kept.with(|queue| put(queue, 0, 3, 1));
    assert!(Arc::ptr_eq(&kept, &queues.open(&place("a", "mqtt_0"), None).unwrap()));
    let seat = kept.seat.clone().try_lock_owned().unwrap();
    drop(queues.open(&place("b", "file_1"), None).unwrap());
    let list = queues.list(None).unwrap();
    let shown: Vec<_> = list.iter().map(|one| (one.place.sink.as_str(), one.sum.messages, one.in_use)).collect();
    assert_eq!(shown, [("mqtt_0", 3, true), ("file_1", 0, false)]);
    assert_eq!(queues.list(Some("b")).unwrap().len(), 1);
    assert_eq!(queues.look(&place("a", "mqtt_0"), 2, 9).unwrap().unwrap().len(), 2);
    assert!(queues.look(&place("a", "nop_0"), 0, 9).unwrap().is_none());
    // One that is in use is emptied and stays, and its outlet hears of it.
    assert_eq!(queues.clear(&place("a", "mqtt_0")).unwrap().unwrap().sum.messages, 3);
    assert_eq!((kept.thrown().removed, kept.thrown().removed, kept.is_empty()), (6, 0, true));
    assert_eq!(queues.list(Some("a")).unwrap().len(), 1);
    kept.with(|queue| put(queue, 0, 3, 1));
    drop((seat, kept));
    let removed = queues.remove("a").unwrap();
    assert_eq!((removed.len(), removed[0].sum.rows), (1, 6));
    assert!(queues.remove("b").unwrap().is_empty(), "there was nothing in it");
    assert!(queues.list(None).unwrap().is_empty());
    assert!(queues.clear(&place("a", "mqtt_0")).unwrap().is_none());
}

#[test]
fn what_is_removed_from_a_queue_that_no_one_has_is_found_by_who_has_it_next() {
    use crate::store::Store;
    use std::sync::Arc;

    let home = tempfile::tempdir().unwrap();
    let queues = || Queues::new(Arc::new(Store::open(home.path()).unwrap()));
    let place = Place { rule: "a".into(), sink: "mqtt_0".into() };
    queues().open(&place, Some(limits())).unwrap().with(|queue| put(queue, 0, 3, 1));
    assert_eq!(queues().clear(&place).unwrap().unwrap().sum.rows, 6);
    let kept = queues().open(&place, Some(limits())).unwrap();
    let account = Thrown { full: 8, ..Thrown::default() };
    assert_eq!(kept.with(|queue| queue.settle(account)), Thrown { removed: 6, ..account });
    assert!(kept.is_empty());
}
