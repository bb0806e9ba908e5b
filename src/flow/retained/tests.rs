use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::*;

fn store(home: &tempfile::TempDir) -> Arc<Store> {
    Arc::new(Store::open(home.path()).unwrap())
}

fn open(store: &Arc<Store>, rows: u64) -> Arc<RetainedLog> {
    RetainedLog::open(store, "s", "t/#", rows).unwrap()
}

fn texts(numbers: Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|n| format!("{n:0100}").into_bytes()).collect()
}

async fn keep(log: &Arc<RetainedLog>, numbers: Range<u64>) {
    log.clone().keep(texts(numbers)).await.unwrap();
}

/// Reads so many, and lets go of them; gives the numbers in the records, and what is gone.
async fn take(reader: &mut Box<dyn RetainedReader>, most: usize) -> (Vec<u64>, BTreeMap<&'static str, u64>) {
    let stretch = tokio::time::timeout(Duration::from_secs(20), reader.next(most)).await.unwrap().unwrap();
    stretch.ack.into_iter().for_each(SourceAck::settle);
    let number = |record: &Vec<u8>| std::str::from_utf8(record).unwrap().parse().unwrap();
    (stretch.records.iter().map(number).collect(), stretch.missed)
}

fn from_the_oldest(log: &Arc<RetainedLog>) -> Box<dyn RetainedReader> {
    let mut reader = log.clone().reader();
    reader.go_to(reader.bounds().start);
    reader
}

fn all(numbers: Range<u64>) -> (Vec<u64>, BTreeMap<&'static str, u64>) {
    (numbers.collect(), BTreeMap::new())
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn each_reader_is_given_all_in_order_and_a_new_one_what_comes() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&store(&home), 1000);
    let mut first = log.clone().reader();
    keep(&log, 0..5).await;
    let mut second = log.clone().reader();
    assert_eq!((first.at(), second.at(), second.bounds()), (1, 6, 1..6));
    // Those that come together are all there, and each one's are in order.
    join_all((0..20).map(|n| keep(&log, 5 + n * 10..15 + n * 10))).await;
    assert_eq!(take(&mut first, 5).await, all(0..5));
    let (mut rest, _) = take(&mut first, 1000).await;
    assert_eq!(take(&mut second, 1000).await.0, rest);
    assert!(rest.chunks(10).all(|ten| ten.is_sorted()));
    rest.sort_unstable();
    assert_eq!(rest, all(5..205).0);
    assert_eq!((first.at(), second.at()), (206, 206));
    // Who is at the end waits.
    assert!(first.next(10).now_or_never().is_none());
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_crash_and_a_torn_tail_is_not() {
    let home = tempfile::tempdir().unwrap();
    let id = {
        let log = open(&store(&home), 1000);
        keep(&log, 0..30).await;
        let last = segments(&log.store.retained("s", &log.id)).pop().unwrap();
        fs::File::options().append(true).open(last).unwrap().write_all(&[7; 50]).unwrap();
        log.id.clone()
    };
    let log = open(&store(&home), 1000);
    assert_eq!((log.id.as_str(), log.clone().reader().bounds()), (id.as_str(), 1..31));
    keep(&log, 30..40).await;
    assert_eq!(take(&mut from_the_oldest(&log), 1000).await, all(0..40));
}

#[tokio::test]
async fn the_newest_are_kept_and_who_was_away_is_told_how_many_are_gone() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&store(&home), 500);
    let folder = log.store.retained("s", &log.id);
    for n in 0..100 {
        keep(&log, n * 50..n * 50 + 50).await;
    }
    let mut reader = log.clone().reader();
    let there = reader.bounds();
    // A segment of 32,000 bytes more, at most.
    assert!((500..=800).contains(&(there.end - there.start)), "{there:?}");
    assert!(segments(&folder).len() <= 4, "{:?}", segments(&folder));
    reader.go_to(11);
    let (rows, missed) = take(&mut reader, 10_000).await;
    assert_eq!((rows, missed), (all(there.start - 1..5000).0, [("retention", there.start - 11)].into()));
    drop(reader);
    // Fewer are kept when fewer are wanted.
    log.limit(100);
    keep(&log, 5000..5400).await;
    keep(&log, 5400..5401).await;
    let there = log.clone().reader().bounds();
    assert!(there.end - there.start < 600, "{there:?}");
}

#[tokio::test]
async fn a_publisher_waits_for_a_reader_that_is_behind_and_nothing_goes_that_is_not_done_with() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&store(&home), 100);
    let mut reader = log.clone().reader();
    for n in 0..2 {
        keep(&log, n * 50..n * 50 + 50).await;
    }
    let mut waiting = Box::pin(log.clone().keep(texts(100..101)));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    let held = reader.next(1000).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(held.records.len(), 100);
    for n in 1..100 {
        keep(&log, n * 100 + 1..n * 100 + 101).await;
        take(&mut reader, 1000).await;
    }
    assert_eq!(reader.bounds().start, 1, "the first are given out, and in the hands of a rule");
    held.ack.unwrap().settle();
    keep(&log, 0..1).await;
    assert!(reader.bounds().start > 9_000);
    // One that is gone holds no one up.
    let left = log.clone().reader();
    take(&mut reader, 1000).await;
    keep(&log, 0..100).await;
    take(&mut reader, 1000).await;
    let mut waiting = Box::pin(log.clone().keep(texts(0..1)));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    drop(left);
    waiting.await.unwrap();
}

#[tokio::test]
async fn what_is_given_back_stays_for_the_next_reader() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&store(&home), 10);
    let mut reader = log.clone().reader();
    keep(&log, 0..5).await;
    let given = reader.next(1000).await.unwrap().ack.unwrap();
    given.refuse();
    given.settle();
    for n in 0..200 {
        keep(&log, n..n + 1).await;
        take(&mut reader, 1000).await;
    }
    assert_eq!(reader.bounds().start, 1);
}

#[tokio::test]
async fn damaged_records_are_told_and_those_around_them_are_read() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&store(&home), 10_000);
    keep(&log, 0..100).await;
    keep(&log, 100..200).await;
    let file = segments(&log.store.retained("s", &log.id)).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[116 * 50 + 60] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (rows, missed) = take(&mut from_the_oldest(&log), 1000).await;
    assert_eq!((rows.len(), rows[49], rows[50]), (199, 49, 51));
    assert_eq!(missed, [("damaged", 1)].into());
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_told_and_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&store(&home), 1000);
    let mut reader = log.clone().reader();
    let folder = log.store.retained("s", &log.id);
    fs::remove_dir(&folder).unwrap();
    let fault = log.clone().keep(texts(0..3)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unreachable(_)), "{fault}");
    fs::create_dir(&folder).unwrap();
    keep(&log, 0..3).await;
    assert_eq!(take(&mut reader, 10).await, all(0..3));
    // A disk that fails in the middle of a segment, after the reader has looked at it.
    let file = segments(&folder).remove(0);
    let before = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    log.log.lock().await.append(b"x").unwrap();
    log.log.lock().await.discard();
    assert!(log.clone().keep(texts(7..8)).await.is_err());
    fs::remove_dir(&file).unwrap();
    fs::write(&file, before).unwrap();
    keep(&log, 3..6).await;
    assert_eq!(take(&mut reader, 10).await, all(3..6));
}

#[tokio::test]
async fn other_topics_have_another_log_and_one_that_has_ended_goes_with_its_last_reader() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let log = open(&store, 1000);
    keep(&log, 0..3).await;
    let mut reader = from_the_oldest(&log);
    let other = RetainedLog::open(&store, "s", "u", 1000).unwrap();
    assert_ne!(log.id, other.id);
    assert_eq!(other.clone().reader().bounds(), 1..1);
    let (old, new) = (store.retained("s", &log.id), store.retained("s", &other.id));
    log.end();
    drop(log);
    assert_eq!(take(&mut reader, 10).await, all(0..3));
    assert!(old.is_dir());
    drop(reader);
    assert!(!old.exists() && new.is_dir());
    assert_eq!(RetainedLog::of(&store, "s").unwrap().as_deref(), Some(other.id.as_str()));
    // A log whose folder is gone is another one.
    let id = other.id.clone();
    drop(other);
    fs::remove_dir_all(&new).unwrap();
    let third = RetainedLog::open(&store, "s", "u", 1000).unwrap();
    assert_ne!(third.id, id);
    third.end();
    drop(third);
    assert_eq!(store.all_retained().unwrap(), []);
    assert_eq!(fs::read_dir(home.path().join("retained")).unwrap().count(), 0);
}
