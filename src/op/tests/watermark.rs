//! The watermark over several streams, as rows come and streams fall silent.

use std::time::Duration;

use super::*;

/// A row is its stream, its time and a value.
const WIDTH: usize = 3;

struct Sea {
    bench: Bench,
    op: Watermark,
    gauge: Arc<Gauge>,
}

fn made(streams: &[&str], patience: Option<u64>, now: i64, gauge: &Arc<Gauge>) -> Watermark {
    let stamp = |(n, name): (usize, &&str)| Stamp {
        // Between them stands a table, whose rows do not come here.
        source: 2 * n,
        stream: Text::new(*name),
        column: "ts".into(),
        slot: 1,
        format: None,
    };
    let stamps = Stamps::new(streams.iter().enumerate().map(stamp).collect(), Some(0));
    let patience = patience.map(Duration::from_millis);
    let pace = Pace { tolerance: Duration::from_millis(10), patience, marks: true };
    Watermark::new(stamps, pace, WIDTH, Time(now), gauge.clone())
}

impl Sea {
    fn new(streams: &[&str], patience: Option<u64>) -> Sea {
        let gauge = Arc::<Gauge>::default();
        Sea { bench: Bench::new(), op: made(streams, patience, 0, &gauge), gauge }
    }

    /// Values that leave, and `|` with the watermark where it moves.
    fn shown(&self, batches: Vec<Batch>) -> String {
        let mut all = Vec::new();
        for mut batch in batches {
            all.extend(batch.take_faults().into_iter().map(|(_, fault)| format!("!{fault}")));
            let mut marks = batch.take_marks().into_iter().peekable();
            for row in 0..=batch.rows() {
                while let Some((_, at)) = marks.next_if(|(before, _)| *before as usize == row) {
                    all.push(format!("|{}", at.0));
                }
                if row < batch.rows() {
                    all.push(batch.row(row)[2].print().to_string());
                }
            }
            settle(vec![batch], Fate::Out);
        }
        all.join(" ")
    }

    /// Rows that come at an instant: stream, time, value.
    fn push(&mut self, now: i64, rows: &[(i64, i64, i64)]) -> String {
        let rows: Vec<[Value; 3]> = rows.iter().map(|(of, ts, v)| [int(2 * of), int(*ts), int(*v)]).collect();
        let rows: Vec<&[Value]> = rows.iter().map(|row| row.as_slice()).collect();
        let batch = self.bench.batch(now, &rows);
        let out = self.bench.push(&mut self.op, batch);
        self.shown(out)
    }

    fn tick(&mut self, now: i64) -> String {
        let out = self.bench.tick(&mut self.op, now);
        self.shown(out)
    }

    fn ended(&mut self, stream: usize) -> String {
        let mut out = Out::default();
        self.op.ended(2 * stream, &Cx { now: Time(0), rule: &self.bench.rule }, &mut out).unwrap();
        self.shown(out.take())
    }

    /// The watermark, what waits, and for whom.
    fn tide(&self) -> String {
        let Tide { watermark, waiting, held_by } = self.gauge.read();
        let at = watermark.map_or("-".into(), |at| at.0.to_string());
        format!("{at} {waiting} {}", held_by.join(","))
    }
}

#[test]
fn the_slowest_stream_holds_the_watermark() {
    let mut sea = Sea::new(&["a", "b"], None);
    assert_eq!(sea.push(1, &[(0, 100, 1), (0, 200, 2)]), "");
    assert_eq!(sea.tide(), "- 2 b");
    // The least of 200 and 150, less 10.
    assert_eq!(sea.push(2, &[(1, 150, 3)]), "1 |140");
    assert_eq!(sea.tide(), "140 2 b");
    assert_eq!(sea.push(3, &[(1, 139, 4), (1, 140, 5)]), "");
    assert_eq!(sea.push(4, &[(1, 400, 6)]), "5 3 |190");
    assert_eq!(sea.tide(), "190 2 a");
    assert_eq!(sea.op.due(), None);
    assert_eq!(sea.bench.fates(), ("Late=1 Out=3".into(), 2));
    let rest = sea.bench.finish(&mut sea.op, 5);
    assert_eq!(sea.shown(rest), "2 6 |400");
    assert_eq!(sea.bench.fates(), ("Late=1 Out=5".into(), 0));
}

#[test]
fn a_stream_that_has_ended_holds_nothing_up() {
    let mut sea = Sea::new(&["a", "b"], None);
    sea.push(1, &[(0, 100, 1), (0, 200, 2)]);
    assert_eq!(sea.ended(1), "1 |190");
    assert_eq!(sea.tide(), "190 1 ");
}

#[test]
fn an_idle_stream_holds_nothing_up_until_it_comes_back() {
    let mut sea = Sea::new(&["a", "b"], Some(1000));
    assert_eq!(sea.op.due(), Some(Time(1000)));
    assert_eq!(sea.push(500, &[(0, 100, 1), (0, 200, 2)]), "");
    assert_eq!(sea.op.due(), Some(Time(1000)));
    assert_eq!(sea.tick(1000), "1 |190");
    assert_eq!(sea.tide(), "190 1 ");
    // The other one falls silent too: there is nothing newer, and no timer is left.
    assert_eq!((sea.op.due(), sea.tick(1500), sea.op.due()), (Some(Time(1500)), String::new(), None));
    // It comes back behind the watermark: late, but it counts again.
    assert_eq!(sea.push(1600, &[(1, 150, 3)]), "");
    assert_eq!(sea.bench.fates().0, "Late=1 Out=1");
    assert_eq!(sea.push(1700, &[(0, 900, 4)]), "");
    assert_eq!(sea.tide(), "190 2 b");
    assert_eq!(sea.push(1800, &[(1, 500, 5)]), "2 |490");
}

#[test]
fn when_all_are_idle_the_newest_counts() {
    let mut sea = Sea::new(&["a", "b"], Some(1000));
    sea.push(500, &[(0, 100, 1), (1, 200, 2), (1, 150, 3)]);
    assert_eq!(sea.tide(), "90 3 a");
    assert_eq!(sea.tick(1500), "1 3 |190");
    assert_eq!((sea.tide(), sea.op.due()), ("190 1 ".into(), None));
}

#[test]
fn errors_stay_between_what_came_before_and_behind_them() {
    let mut sea = Sea::new(&["a"], None);
    let rows: [&[Value]; 3] =
        [&[int(0), int(100), int(1)], &[int(0), Value::text("x"), int(2)], &[int(0), int(200), int(3)]];
    let mut batch = sea.bench.batch(1, &rows);
    batch.note(0, Fault::eval("first"));
    batch.note(3, Fault::eval("last"));
    let out = sea.bench.push(&mut sea.op, batch);
    let wrong =
        "!error in preprocessor: the timestamp column `ts` holds no time: cannot convert string `x` to datetime";
    assert_eq!(sea.shown(out), format!("!first |90 {wrong} 1 |190 !last"));
    assert_eq!(sea.bench.fates(), ("DeadEval=1 Out=1".into(), 1));
}

#[test]
fn state_survives_with_its_rows() {
    let mut sea = Sea::new(&["a", "b"], Some(1000));
    sea.push(500, &[(0, 100, 1), (0, 100, 2), (1, 50, 3)]);
    let saved = sea.op.save();
    sea.op.forget();
    assert_eq!(sea.bench.fates().1, 0);
    sea.op = made(&["a", "b"], Some(1000), 700, &sea.gauge);
    sea.op.load(saved, &sea.bench.account()).unwrap();
    assert_eq!((sea.bench.fates().1, sea.op.due(), sea.tide()), (3, Some(Time(1500)), "40 3 b".into()));
    assert_eq!(sea.push(800, &[(1, 120, 4)]), "3 |90");
    sea.op.discard();
    assert_eq!(sea.bench.fates(), ("DroppedStop=3 Out=1".into(), 0));
}
