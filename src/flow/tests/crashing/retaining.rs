//! A stream that retains: a rule is given each row once, over kills, and is told what is gone.

use serde_json::json;

use super::*;
use crate::data::Layout;
use crate::flow::RetainedLog;
use crate::flow::journal::record::{self, Glance};
use crate::io::{self, Bus, Content, Env, Parcel, Retained, RowSet, Sink, SinkSpec, SourceSpec};
use crate::store::Store;

const SQL: &str = "SELECT count(*) AS n, sum(a) AS s FROM demo GROUP BY COUNTWINDOW(5)";

/// A publisher, and a stream that retains, in a data folder of their own.
struct Topic {
    home: tempfile::TempDir,
    /// None between two lives.
    life: Option<(Bus, Arc<RetainedLog>, Box<dyn Sink>)>,
    store: Option<Arc<Store>>,
    rows: u64,
    next: i64,
}

impl Topic {
    async fn new(rows: u64) -> Topic {
        let mut topic = Topic { home: tempfile::tempdir().unwrap(), life: None, store: None, rows, next: 0 };
        topic.begin("t").await;
        topic
    }

    async fn begin(&mut self, datasource: &str) {
        (self.life, self.store) = (None, None);
        // A source that is on its way out holds the folder for a moment.
        until("the end of the life before", || {
            self.store = Store::open(self.home.path()).ok().map(Arc::new);
            self.store.is_some()
        })
        .await;
        let store = self.store.take().unwrap();
        let (bus, log) = (Bus::default(), RetainedLog::open(&store, "demo", datasource, self.rows).unwrap());
        let shared: Arc<dyn Retained> = log.clone();
        bus.retain("demo", datasource, &shared);
        let props = json!({"topic": "t"}).as_object().unwrap().clone();
        let format = crate::codec::FormatOptions::default();
        let spec = SinkSpec { props, format, durable: true, env: env(&bus) };
        let sink = (io::connector("memory").unwrap().sink.unwrap()(spec).unwrap().open)().unwrap();
        self.life = Some((bus, log, sink));
    }

    /// Publishes so many rows: as many numbers, from 0 on.
    async fn publish(&mut self, rows: i64) {
        let layout = Arc::new(Layout::from_iter(["a"]));
        let set = (self.next..self.next + rows).map(|n| vec![Value::Int(n)]).collect();
        let content = Content::Rows(RowSet { layout, rows: set, single: false });
        let (.., sink) = self.life.as_mut().unwrap();
        sink.deliver(&[Parcel { content, props: Vec::new() }]).await.unwrap();
        self.next += rows;
    }

    fn source(&self, datasource: &str) -> io::SourcePlan {
        let props = json!({"datasource": datasource, "retention": self.rows}).as_object().unwrap().clone();
        let (bus, ..) = self.life.as_ref().unwrap();
        let spec = SourceSpec { props, wants_meta: false, wants_acks: true, stream: "demo".into(), env: env(bus) };
        io::connector("memory").unwrap().source.unwrap()(spec).unwrap()
    }
}

fn env(bus: &Bus) -> Env {
    let (owner, instance, root) = ("r".into(), "here".into(), ".".into());
    Env { clock: Clock::real(), root, owner, instance, bus: bus.clone(), private_net: true }
}

/// Whether the journal knows where the source stands.
fn has_begun(folder: &Path) -> bool {
    let (view, _) = View::open(folder).unwrap();
    let mut reader = view.read(view.first()).unwrap();
    let mut begun = false;
    while let Some((_, body)) = reader.next().unwrap() {
        begun |= matches!(record::glance(&body), Ok(Glance::Push { position: Some(_), .. }));
    }
    begun
}

async fn start(topic: &Topic, datasource: &str, folder: &Path, sink: &Fake) -> Running {
    let clock = Clock::real();
    let feed = feed_from(topic.source(datasource), position(folder, SQL), &clock);
    let mut rule = rule(SQL).to(sink).at(&clock);
    rule.journal = Some((folder.to_owned(), Duration::from_millis(100)));
    rule.start(&feed).await.unwrap()
}

#[tokio::test]
async fn each_row_is_counted_once_over_kills_and_none_is_lost_while_the_rule_is_away() {
    let (mut topic, home, sink) = (Topic::new(100_000).await, tempfile::tempdir().unwrap(), sink_that_takes_back());
    // What came before the rule is not for it.
    topic.publish(3).await;
    topic.next = 0;
    for life in 0..10 {
        let running = start(&topic, "t", home.path(), &sink).await;
        if life == 0 {
            // It knows where it began before the first row comes, and begins there though it is killed at once.
            until("the beginning", || has_begun(home.path())).await;
        } else {
            topic.publish(7 + life).await;
            let some = (topic.next - life) as u64;
            until("some rows", || running.ledger().came >= some).await;
        }
        running.kill().await;
        topic.begin("t").await;
        topic.publish(4 * life).await;
    }
    topic.publish(5 - topic.next % 5).await;
    let running = start(&topic, "t", home.path(), &sink).await;
    let windows = topic.next as usize / 5;
    until("all windows", || sink.took().len() >= windows && confirmed(home.path()) >= windows as u64).await;
    let expected: Vec<String> = (0..windows as i64).map(|n| format!(r#"{{"n":5,"s":{}}}"#, 25 * n + 10)).collect();
    assert_eq!(sink.took(), expected);
    let ledger = running.ledger();
    assert_eq!((ledger.came, ledger.dropped.len()), (topic.next as u64, 0));
    running.lay_down().await;
}

#[tokio::test]
async fn rows_that_are_gone_are_counted_once_over_kills() {
    let (mut topic, home, sink) = (Topic::new(50).await, tempfile::tempdir().unwrap(), sink_that_takes_back());
    let running = start(&topic, "t", home.path(), &sink).await;
    until("the beginning", || has_begun(home.path())).await;
    topic.publish(5).await;
    until("the first window", || sink.took().len() == 1).await;
    running.kill().await;
    for _ in 0..100 {
        topic.publish(20).await;
    }
    let mut gone = 0;
    for life in 0..3 {
        let running = start(&topic, "t", home.path(), &sink).await;
        until("all rows", || running.ledger().came >= 2_005).await;
        let ledger = running.ledger();
        let dropped = ledger.dropped["retention"];
        assert!(life == 0 || dropped == gone, "{dropped} instead of {gone}");
        gone = dropped;
        assert!((1_000..=1_955).contains(&gone), "{ledger:?}");
        assert_eq!((ledger.came, ledger.balances()), (2_005, true));
        running.kill().await;
    }
}

#[tokio::test]
async fn a_log_of_other_topics_is_read_from_its_oldest_row_on_with_a_word() {
    let (mut topic, home, sink) = (Topic::new(50).await, tempfile::tempdir().unwrap(), sink_that_takes_back());
    let running = start(&topic, "t", home.path(), &sink).await;
    until("the beginning", || has_begun(home.path())).await;
    topic.publish(9).await;
    until("the rows", || running.ledger().came == 9).await;
    running.kill().await;
    topic.begin("+").await;
    topic.publish(6).await;
    let running = start(&topic, "+", home.path(), &sink).await;
    until("the rows", || running.ledger().came == 15).await;
    let told =
        running.flow.nodes().into_iter().find_map(|node| Some(node.view.last_exception).filter(|t| !t.is_empty()));
    assert!(told.as_ref().is_some_and(|text| text.contains("is another log now")), "{told:?}");
    running.kill().await;
}
