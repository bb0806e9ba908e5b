use std::fs;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::clock::Clock;
use crate::io::tests::sink_spec;

use super::*;

struct Fixture {
    temp: tempfile::TempDir,
    clock: Clock,
    props: Json,
}

impl Fixture {
    fn new(props: Json) -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        Fixture { temp, clock: Clock::stopped_at(Time(1_000)), props }
    }

    fn sink(&self) -> Box<dyn Sink> {
        let mut spec = sink_spec(self.props.clone(), self.temp.path());
        spec.env.clock = self.clock.clone();
        (plan(spec).map_err(|error| error.to_string()).unwrap().open)().unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.temp.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn parcels(texts: &[&str]) -> Vec<Parcel> {
    let parcel =
        |text: &&str| Parcel { content: Content::Bytes(Bytes::copy_from_slice(text.as_bytes())), props: vec![] };
    texts.iter().map(parcel).collect()
}

#[test]
fn sinks_of_one_path_are_told_before_one_waits_for_the_other() {
    let fixture = Fixture::new(json!({}));
    let of = |path: &str| plan(sink_spec(json!({"path": path}), fixture.temp.path())).ok().unwrap().identity;
    let whole = fixture.temp.path().join("out");
    assert_eq!(of("out").unwrap().key, of(whole.to_str().unwrap()).unwrap().key);
    assert_ne!(of("out").unwrap().key, of("other").unwrap().key);
    assert_eq!(of("{{.a}}"), None);
}

#[tokio::test]
async fn one_sink_alone_writes_to_a_path() {
    for path in ["out", "{{.a}}"] {
        let fixture = Fixture::new(json!({"path": path}));
        let (mut first, mut second) = (fixture.sink(), fixture.sink());
        let some = |text: &str| {
            let mut all = parcels(&[text]);
            all[0].props.extend((path != "out").then(|| ("path".into(), "out".into())));
            all
        };
        first.deliver(&some("1")).await.unwrap();
        let stopped = second.deliver(&some("2")).await.unwrap_err();
        assert_eq!(stopped.delivered, 0);
        assert_eq!(stopped.fault.retry(), crate::diag::Retry::Later);
        assert!(stopped.fault.to_string().contains("another sink of this server writes to `out`"), "{}", stopped.fault);
        first.deliver(&some("3")).await.unwrap();
        // As a new version of a rule begins while the one before ends.
        let ends = async {
            first.close().await.unwrap();
            drop(first);
        };
        let (connected, ()) = tokio::join!(second.connect(Report::timed(fixture.clock.clone()).0), ends);
        connected.unwrap();
        second.deliver(&some("2")).await.unwrap();
        assert_eq!(fixture.text("out"), "1\n3\n2\n");
    }
}

#[tokio::test]
async fn lines_are_on_disk_when_deliver_returns_and_a_restart_appends() {
    let fixture = Fixture::new(json!({"path": "sub/out"}));
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["1", "2"])).await.unwrap();
    assert_eq!(fixture.text("sub/out"), "1\n2\n");
    drop(sink);
    fs::write(fixture.temp.path().join("sub/out"), "1\n2\n3 cut o").unwrap();
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["3"])).await.unwrap();
    sink.close().await.unwrap();
    assert_eq!(fixture.text("sub/out"), "1\n2\n3 cut o\n3\n");
}

#[tokio::test]
async fn an_array_is_whole_after_each_delivery() {
    let fixture = Fixture::new(json!({"path": "out.json", "fileType": "json"}));
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["1", "[2]"])).await.unwrap();
    assert_eq!(fixture.text("out.json"), "[1,[2]]\n");
    sink.deliver(&parcels(&["3"])).await.unwrap();
    drop(sink);
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["4"])).await.unwrap();
    assert_eq!(fixture.text("out.json"), "[1,[2],3,4]\n");
    drop(sink);
    fs::write(fixture.temp.path().join("out.json"), "[1,{\"a").unwrap();
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["5"])).await.unwrap();
    assert_eq!(fixture.names(), ["out-1000.json", "out.json"]);
    assert_eq!(fixture.text("out.json"), "[5]\n");
}

#[tokio::test]
async fn rolling_by_count_keeps_all_messages() {
    for (pattern, names) in [
        ("", ["out-1000.txt", "out-1001.txt", "out.txt"]),
        ("suffix", ["out-1000.txt", "out-2000.txt", "out-3000.txt"]),
        ("prefix", ["1000-out.txt", "2000-out.txt", "3000-out.txt"]),
    ] {
        let fixture = Fixture::new(json!({"path": "out.txt", "rollingCount": 2, "rollingNamePattern": pattern}));
        let mut sink = fixture.sink();
        if pattern.is_empty() {
            sink.deliver(&parcels(&["1", "2", "3", "4", "5"])).await.unwrap();
        } else {
            for (at, texts) in [(1_000, vec!["1", "2"]), (2_000, vec!["3", "4"]), (3_000, vec!["5"])] {
                fixture.clock.set(Time(at));
                sink.deliver(&parcels(&texts)).await.unwrap();
            }
        }
        assert_eq!(fixture.names(), names);
        let all: String = fixture.names().iter().map(|name| fixture.text(name)).collect();
        assert_eq!(all, "1\n2\n3\n4\n5\n");
    }
}

#[tokio::test]
async fn rolling_by_size_and_by_age() {
    let fixture = Fixture::new(json!({"path": "out", "rollingSize": 6, "rollingCount": 0}));
    fixture.sink().deliver(&parcels(&["11", "22", "33"])).await.unwrap();
    assert_eq!((fixture.text("out-1000"), fixture.text("out")), ("11\n22\n".into(), "33\n".into()));

    let fixture = Fixture::new(json!({"path": "out", "rollingInterval": "10s", "rollingCount": 0}));
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["1"])).await.unwrap();
    let aside = async {
        while fixture.names() == ["out"] {
            fixture.clock.set(fixture.clock.now() + Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = sink.idle() => unreachable!(),
        _ = aside => {}
    }
    let [aside] = &fixture.names()[..] else { unreachable!() };
    sink.deliver(&parcels(&["2"])).await.unwrap();
    assert_eq!((fixture.text(aside), fixture.text("out")), ("1\n".into(), "2\n".into()));
}

#[tokio::test]
async fn each_path_has_its_file_and_rows_cannot_climb_out() {
    let fixture = Fixture::new(json!({"path": "{{.dir}}/out"}));
    let mut sink = fixture.sink();
    let mut all = parcels(&["1", "2", "3", "4"]);
    for (parcel, path) in all.iter_mut().zip(["a/out", "b/out", "a/out", "../out"]) {
        parcel.props = vec![("path".into(), path.into())];
    }
    let stopped = sink.deliver(&all).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault.reason()), (3, "refused"));
    assert_eq!((fixture.text("a/out"), fixture.text("b/out")), ("1\n3\n".into(), "2\n".into()));
}

#[tokio::test]
async fn a_file_that_was_taken_away_is_made_anew() {
    let fixture = Fixture::new(json!({"path": "out"}));
    let mut sink = fixture.sink();
    sink.deliver(&parcels(&["1"])).await.unwrap();
    fs::remove_file(fixture.temp.path().join("out")).unwrap();
    sink.deliver(&parcels(&["2"])).await.unwrap();
    assert_eq!(fixture.text("out"), "2\n");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_worth_another_try() {
    let fixture = Fixture::new(json!({"path": "out"}));
    fs::create_dir(fixture.temp.path().join("out")).unwrap();
    let stopped = fixture.sink().deliver(&parcels(&["1"])).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault.retry()), (0, crate::diag::Retry::Later));
}

#[tokio::test]
async fn csv_has_a_header_in_each_file() {
    let fixture = Fixture::new(json!({"path": "out.csv", "fileType": "csv", "rollingCount": 2}));
    let mut spec = sink_spec(fixture.props.clone(), fixture.temp.path());
    spec.format = FormatOptions { format: "delimited".into(), has_header: true, ..Default::default() };
    let mut sink = (plan(spec).unwrap().open)().unwrap();
    let layout = Arc::new(Columns::from_iter(["a", "b"]));
    let row = |n: i64| vec![Value::Int(n), Value::text("x,y")];
    let rows = RowSet { layout, rows: vec![row(1), row(2), row(3)], single: false };
    sink.deliver(&[Parcel { content: Content::Rows(rows), props: vec![] }]).await.unwrap();
    let files: Vec<_> = fixture.names().iter().map(|name| fixture.text(name).lines().count()).collect();
    assert_eq!(files, [3, 2]);
    assert!(fixture.text("out.csv").starts_with("a,b\n3,"));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (props, text) in [
        (json!({"fileType": "csv"}), "csv in the format `delimited` only"),
        (json!({"rollingCount": 0}), "needs `rollingInterval`, `rollingCount` or `rollingSize` above 0"),
        (json!({"rollingNamePattern": "date"}), "must be `none`, `prefix` or `suffix`, found `date`"),
        (json!({"compression": "gzip"}), "cannot do what property `compression` asks for"),
    ] {
        let error = plan(sink_spec(props, ".")).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_durable_sink_cuts_off_a_torn_line() {
    let fixture = Fixture::new(json!({"path": "out"}));
    let mut spec = sink_spec(fixture.props.clone(), fixture.temp.path());
    spec.durable = true;
    let plan = plan(spec).unwrap();
    fs::write(fixture.temp.path().join("out"), "1\n2\n3 cut o").unwrap();
    let mut sink = (plan.open)().unwrap();
    sink.deliver(&parcels(&["3"])).await.unwrap();
    assert_eq!(fixture.text("out"), "1\n2\n3\n");
    // Also after many files and deliveries to more than one.
    let mut all = parcels(&["4", "5", "6"]);
    for (parcel, path) in all.iter_mut().zip(["out", "b/out", "out"]) {
        parcel.props = vec![("path".into(), path.into())];
    }
    sink.deliver(&all).await.unwrap();
    assert_eq!((fixture.text("out"), fixture.text("b/out")), ("1\n2\n3\n4\n6\n".into(), "5\n".into()));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_confirms_nothing() {
    let fixture = Fixture::new(json!({"path": "full"}));
    std::os::unix::fs::symlink("/dev/full", fixture.temp.path().join("full")).unwrap();
    let mut spec = sink_spec(fixture.props.clone(), fixture.temp.path());
    spec.durable = true;
    let mut sink = (plan(spec).unwrap().open)().unwrap();
    let stopped = sink.deliver(&parcels(&["1"])).await.unwrap_err();
    assert_eq!((stopped.delivered, stopped.fault.retry()), (0, crate::diag::Retry::Later));
    assert!(stopped.fault.to_string().ends_with("full`: the disk is full"), "{}", stopped.fault);
}
