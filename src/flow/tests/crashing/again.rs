//! What a source gives again without a crash, and what it is to give again after one.

use crate::data::{Batch, Receipt};
use crate::flow::journal::record;
use crate::io::Payload;
use crate::store::{Log, LogOptions};

use super::*;

#[tokio::test]
async fn what_comes_again_over_a_new_connection_of_a_process_that_lives_is_known() {
    let mut world = World::new(&SUMS, HOUR);
    world.start().await;
    world.step(Give(0, 4)).await;
    world.rest(0).await;
    // The acknowledgements of the last two were lost with the connection; the fifth never came.
    let fifth = r#"{"a":100,"b":0}"#;
    let again = |world: &World, id: u64| {
        let text = world.given.get(id as usize - 1).map_or(fifth, |(.., text)| text);
        let message = world.message(1000 + id, text, true);
        let delivery = message.delivery.map(|delivery| Delivery { id: id as u16, line: 1, ..delivery });
        Message { delivery, ..message }
    };
    let chunk = (3..6).map(|id| again(&world, id)).collect();
    world.taps[0].give(chunk).await;
    let running = world.running.as_ref().unwrap();
    until("the rows", || running.ledger().held == 5).await;
    let ledger = running.ledger();
    assert_eq!((ledger.dropped["duplicate"], ledger.came), (2, 7));
    until("the acknowledgements", || world.acks[0].good() == [1, 2, 3, 4, 1003, 1004, 1005]).await;
    world.step(At(10_000)).await;
    until("the window", || world.sink.took() == [r#"{"n":5,"s":110}"#]).await;
    world.running.take().unwrap().kill().await;
}

#[tokio::test]
async fn what_went_back_to_its_source_is_neither_known_nor_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let sql = "SELECT a FROM demo";
    let delivered = |id: u16| {
        let mut batch = Batch::new(1);
        batch.push(Time(5), Receipt::none());
        batch.set_delivery(0, Delivery { id, again: false, digest: 7, line: 1 });
        batch
    };
    {
        let (mut log, _) = Log::open(home.path(), LogOptions::default()).unwrap();
        log.append(&record::begin(Time(1), "StreamName: demo,")).unwrap();
        log.append(&record::push(0, Time(5), &delivered(1), Some(&Value::Int(10))).unwrap()).unwrap();
        let second = log.append(&record::push(0, Time(6), &delivered(2), Some(&Value::Int(20))).unwrap()).unwrap();
        log.append(&record::skip(second)).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(position(home.path(), sql), Some(Value::Int(10)));
    let spec = JournalSpec { folder: home.path().to_owned(), interval: HOUR, lease: Arc::new(()) };
    assert_eq!(Opened::open(spec).unwrap().messages(0), [(1, 7)]);
}

#[tokio::test]
async fn a_row_that_is_nested_too_deeply_for_the_log_is_dead_and_breaks_nothing() {
    let mut world = World::new(&KINDS[1], HOUR);
    world.start().await;
    let nested = |levels: usize| {
        let mut value = Value::Int(1);
        (0..levels).for_each(|_| value = Value::array(vec![std::mem::take(&mut value)]));
        value
    };
    let row = |id: u64, levels: usize| {
        let row = crate::data::Object::from_iter([("a", nested(levels))]);
        Message { payload: Payload::Row(row), ..world.message(id, "", false) }
    };
    let chunk = vec![row(1, 1), row(2, crate::data::pack::DEEPEST + 1), row(3, crate::data::pack::DEEPEST)];
    world.taps[0].give(chunk).await;
    let running = world.running.as_ref().unwrap();
    until("the rows", || running.ledger().held == 2).await;
    assert_eq!(running.ledger().dead["encode"], 1);
    until("the acknowledgements", || world.acks[0].good() == [1, 2, 3]).await;
    // A snapshot wraps what it keeps.
    assert_eq!(world.running.take().unwrap().lay_down().await, 2);
    world.start().await;
    assert_eq!(view(&world).warnings, Vec::<String>::new());
    assert_eq!(world.running.as_ref().unwrap().ledger().held, 2);
    world.running.take().unwrap().kill().await;
}
