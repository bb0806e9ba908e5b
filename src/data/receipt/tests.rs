use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Book(Mutex<Vec<(Fate, u64, bool)>>, Mutex<u64>);

impl Account for Book {
    fn settle(&self, fate: Fate, rows: u64, held: bool) {
        self.0.lock().unwrap().push((fate, rows, held));
    }
    fn hold(&self, rows: u64) {
        *self.1.lock().unwrap() += rows;
    }
    fn unhold(&self, rows: u64) {
        *self.1.lock().unwrap() -= rows;
    }
}

#[derive(Default)]
struct Acks(Mutex<Vec<(u64, bool)>>);

impl Acknowledge for Acks {
    fn done(&self, id: u64, good: bool) {
        self.0.lock().unwrap().push((id, good));
    }
}

#[test]
fn the_greatest_fate_of_all_clones_counts_once() {
    let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
    let first = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 7)));
    let second = first.clone();
    first.settle(Fate::Out);
    assert!(book.0.lock().unwrap().is_empty() && acks.0.lock().unwrap().is_empty());
    second.settle(Fate::Filtered);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, false)]);
    assert_eq!(*acks.0.lock().unwrap(), [(7, true)]);
}

#[test]
fn a_receipt_dropped_by_mistake_is_lost_and_not_acknowledged() {
    let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
    let receipt = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 1)));
    receipt.clone().settle(Fate::Out);
    drop(receipt);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Lost, 1, false)]);
    assert_eq!(*acks.0.lock().unwrap(), [(1, false)]);
}

#[test]
fn a_message_that_made_no_row_is_acknowledged_only_when_someone_says_so() {
    let acks = Arc::new(Acks::default());
    SourceAck::new(acks.clone(), 1).settle();
    drop(SourceAck::new(acks.clone(), 2));
    assert_eq!(*acks.0.lock().unwrap(), [(1, true), (2, false)]);
}

#[test]
fn held_rows_are_acknowledged_at_once_and_settled_later() {
    let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
    let mut held = Held::default();
    for id in 0..3 {
        held.merge(Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), id))).hold());
    }
    assert_eq!((held.rows(), *book.1.lock().unwrap()), (3, 3));
    assert_eq!(*acks.0.lock().unwrap(), [(0, true), (1, true), (2, true)]);
    held.release().settle(Fate::Out);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 3, true)]);
}

#[test]
fn rows_in_several_results_meet_the_greatest_fate_when_the_last_is_done() {
    let book = Arc::new(Book::default());
    let mut held = Receipt::new(book.clone(), None).hold();
    held.merge(Receipt::new(book.clone(), None).hold());
    let (first, second) = (held.part(), held.part());
    first.settle(Fate::Out);
    second.settle(Fate::Filtered);
    assert!(book.0.lock().unwrap().is_empty());
    held.discard(Fate::DroppedStop);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 2, true)]);
}

#[test]
fn the_rows_of_a_joined_result_share_its_fate() {
    let book = Arc::new(Book::default());
    let (left, right) = (Receipt::new(book.clone(), None), Receipt::new(book.clone(), None));
    let alone = Receipt::new(book.clone(), None);
    let first = Receipt::together(vec![left.clone(), right.clone(), Receipt::none()]);
    let second = Receipt::together(vec![left.clone(), alone.clone()]);
    [left, right, alone].into_iter().for_each(|receipt| receipt.settle(Fate::Filtered));
    assert!(book.0.lock().unwrap().is_empty());
    first.settle(Fate::Out);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, false)]);
    second.settle(Fate::Filtered);
    let mut fates = book.0.lock().unwrap().clone();
    fates.sort();
    assert_eq!(fates, [(Fate::Filtered, 1, false), (Fate::Out, 1, false), (Fate::Out, 1, false)]);
}

#[test]
fn rows_that_no_result_had_a_part_in_meet_the_fate_of_the_keeper() {
    let book = Arc::new(Book::default());
    Receipt::new(book.clone(), None).hold().discard(Fate::DroppedStop);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::DroppedStop, 1, true)]);
}

#[test]
fn a_row_that_was_logged_is_acknowledged_and_held_when_it_is_given_up() {
    let (book, acks) = (Arc::new(Book::default()), Arc::new(Acks::default()));
    let mut receipt = Receipt::new(book.clone(), Some(SourceAck::new(acks.clone(), 3)));
    receipt.log();
    assert_eq!(*acks.0.lock().unwrap(), [(3, true)]);
    receipt.settle(Fate::Abandoned);
    assert_eq!((book.0.lock().unwrap().len(), *book.1.lock().unwrap()), (0, 1));
    let mut other = Receipt::new(book.clone(), None);
    other.log();
    other.settle(Fate::Out);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, false)]);
}

#[test]
fn what_is_known_of_rows_survives_a_save() {
    let book = Arc::new(Book::default());
    let account: Arc<dyn Account> = book.clone();
    let mut held = Receipt::new(account.clone(), None).hold();
    held.part().settle(Fate::Out);
    let late = held.part();
    held.merge(Receipt::new(account.clone(), None).hold());
    let saved = held.save();
    held.forget();
    assert_eq!(*book.1.lock().unwrap(), 0);
    // It is on its way still, but the rows are accounted for by whoever took them up.
    late.settle(Fate::DeadEval);
    assert!(book.0.lock().unwrap().is_empty());
    let held = Held::load(&saved, &account).unwrap();
    assert_eq!((held.rows(), *book.1.lock().unwrap()), (2, 2));
    held.discard(Fate::DroppedStop);
    let mut fates = book.0.lock().unwrap().clone();
    fates.sort();
    assert_eq!(fates, [(Fate::Out, 1, true), (Fate::DroppedStop, 1, true)]);
}

#[test]
fn a_result_that_is_on_its_way_when_rows_are_saved_counts() {
    let book = Arc::new(Book::default());
    let account: Arc<dyn Account> = book.clone();
    let mut held = Receipt::new(account.clone(), None).hold();
    let result = held.part();
    let saved = held.save();
    held.forget();
    result.settle(Fate::Out);
    Held::load(&saved, &account).unwrap().settle(Fate::Filtered);
    assert_eq!(*book.0.lock().unwrap(), [(Fate::Out, 1, true)]);
}
