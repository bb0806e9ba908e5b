use std::io::Write;

use serde_json::{Value as Json, json};

use crate::clock::{Clock, Time};
use crate::io::tests::spec;

use super::*;

fn open(root: &Path, props: Json) -> Box<dyn Source> {
    let spec = SourceSpec { wants_meta: true, wants_acks: true, ..spec(props, root) };
    (plan(spec).map_err(|error| error.to_string()).unwrap().open)().unwrap()
}

fn show(message: Message) -> String {
    if let Some(ack) = message.ack {
        ack.settle();
    }
    match message.payload {
        Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Payload::Row(row) => format!("{:?}", row.values().map(|value| value.as_str().unwrap()).collect::<Vec<_>>()),
        Payload::Error(fault) => format!("error: {fault}"),
    }
}

/// All messages of a source that ends.
async fn all(mut source: Box<dyn Source>) -> Result<Vec<String>> {
    let (inlet, mut from) = Inlet::bounded(2);
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(chunk) = from.recv().await {
            seen.extend(chunk.into_iter().map(show));
        }
        seen
    });
    assert_eq!(source.run(inlet, Report::new().0).await?, End::Finished);
    Ok(reader.await.unwrap())
}

#[tokio::test]
async fn lines_come_one_by_one_and_blank_ones_do_not() {
    let temp = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..2000).map(|n| format!("{{\"n\":{n}}}")).collect();
    fs::write(temp.path().join("a"), format!("head\n\n{}\r\n", lines.join("\n"))).unwrap();
    let source = open(temp.path(), json!({"datasource": "/a", "fileType": "lines", "ignoreStartLines": 1}));
    assert_eq!(all(source).await.unwrap(), lines);
}

#[tokio::test]
async fn a_whole_file_is_one_message_also_compressed() {
    let temp = tempfile::tempdir().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    packed.write_all(b"[{\"a\":1}]\n").unwrap();
    fs::write(temp.path().join("a.gz"), packed.finish().unwrap()).unwrap();
    fs::write(temp.path().join("b.gz"), "not packed").unwrap();
    let props = |name: &str| json!({"datasource": name, "path": ".", "decompression": "gzip"});
    assert_eq!(all(open(temp.path(), props("a.gz"))).await.unwrap(), ["[{\"a\":1}]\n"]);
    assert!(all(open(temp.path(), props("b.gz"))).await.unwrap()[0].starts_with("error: file `"));
}

#[tokio::test]
async fn csv_records_are_rows_and_bad_ones_errors() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a.csv"), "a;b\n1;\"x;\ny\"\n2\n3;z\nend;1\n").unwrap();
    let props =
        json!({"datasource": "a.csv", "fileType": "csv", "hasHeader": true, "delimiter": ";", "ignoreEndLines": 1});
    let found = all(open(temp.path(), props)).await.unwrap();
    assert_eq!(found[0], "[\"1\", \"x;\\ny\"]");
    assert!(found[1].ends_with("a.csv`: record 2 has 1 values, expected 2"), "{}", found[1]);
    assert_eq!(found[2..], ["[\"3\", \"z\"]"]);
}

#[tokio::test]
async fn a_file_is_moved_when_all_of_it_is_acknowledged() {
    let temp = tempfile::tempdir().unwrap();
    let (file, moved) = (temp.path().join("a"), temp.path().join("done/a"));
    fs::write(&file, "1\n2\n").unwrap();
    let props = json!({"datasource": "a", "fileType": "lines", "actionAfterRead": 2, "moveTo": "done"});
    let mut source = open(temp.path(), props.clone());
    let (inlet, mut from) = Inlet::bounded(2);
    let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    let mut chunk = from.recv().await.unwrap();
    chunk.pop().unwrap().ack.unwrap().settle();
    tokio::task::yield_now().await;
    assert!(file.exists() && !task.is_finished());
    chunk.pop().unwrap().ack.unwrap().settle();
    assert_eq!(task.await.unwrap(), Ok(End::Finished));
    assert!(!file.exists() && moved.exists());

    fs::write(&file, "3\n").unwrap();
    let mut source = open(temp.path(), props);
    let (inlet, mut from) = Inlet::bounded(2);
    let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    drop(from.recv().await.unwrap());
    assert_eq!(task.await.unwrap(), Ok(End::Finished));
    assert!(file.exists(), "a file that was not delivered must stay");
}

#[tokio::test]
async fn a_folder_gives_old_files_by_age_and_new_ones_later() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a"), "1\n").unwrap();
    let clock = Clock::stopped_at(Clock::real().now() + Duration::from_secs(10));
    let props = json!({"datasource": ".", "path": "", "fileType": "lines"});
    let mut spec = SourceSpec { wants_meta: true, ..spec(props, temp.path()) };
    spec.env.clock = clock.clone();
    let mut source = (plan(spec).unwrap().open)().unwrap();
    let (inlet, mut from) = Inlet::bounded(2);
    let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    let message = from.recv().await.unwrap().remove(0);
    let name = message.meta.clone().unwrap().get("file").unwrap().as_str().unwrap().to_owned();
    assert!(name.ends_with("/a"), "{name}");
    fs::write(temp.path().join("b"), "2\n").unwrap();
    let found = loop {
        clock.set(clock.now() + Duration::from_secs(1));
        tokio::select! {
            chunk = from.recv() => break chunk.unwrap(),
            _ = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    };
    assert_eq!(show(found.into_iter().next().unwrap()), "2");
    drop(from);
    clock.set(Time::MAX);
    assert_eq!(task.await.unwrap(), Ok(End::Closed));
}

#[tokio::test]
async fn a_file_is_read_again_after_each_interval() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("a"), "1\n2\n").unwrap();
    let props = json!({"datasource": "a", "fileType": "lines", "interval": 5, "sendInterval": 1});
    let mut source = open(temp.path(), props);
    let (inlet, mut from) = Inlet::bounded(2);
    let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(from.recv().await.unwrap().into_iter().map(show));
    }
    assert_eq!(seen, ["1", "2", "1", "2"]);
    drop(from);
    assert_eq!(task.await.unwrap(), Ok(End::Closed));
}

#[tokio::test]
async fn a_missing_file_is_worth_another_try() {
    let temp = tempfile::tempdir().unwrap();
    let fault = all(open(temp.path(), json!({"datasource": "none"}))).await.unwrap_err();
    assert_eq!(fault.retry(), crate::diag::Retry::Later);
    assert!(fault.to_string().ends_with("/none`: it does not exist"), "{fault}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (props, text) in [
        (json!({"fileType": "line"}), "must be `json`, `lines` or `csv`, found `line` (did you mean `lines`?)"),
        (json!({"fileType": "csv", "decompression": "gzip"}), "cannot decompress files of type `csv`"),
        (json!({"decompression": "zstd"}), "must be `gzip`, `zlib` or `flate`, found `zstd`"),
        (json!({"actionAfterRead": 3}), "must be 0 (keep), 1 (delete) or 2 (move), found 3"),
        (json!({"actionAfterRead": 2}), "needs the property `moveTo`"),
        (json!({"datasource": ""}), "needs the property `datasource`"),
    ] {
        let mut full = json!({"datasource": "a"});
        full.as_object_mut().unwrap().extend(props.as_object().unwrap().clone());
        let error = plan(spec(full, ".")).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// Runs a source from a position, and takes so many chunks; gives the texts of each, with the position after it.
async fn chunks(
    root: &Path,
    props: &Json,
    clock: &Clock,
    from: Option<&Value>,
    count: usize,
) -> Vec<(Vec<String>, Value)> {
    let mut spec = SourceSpec { wants_acks: true, ..spec(props.clone(), root) };
    spec.env.clock = clock.clone();
    let plan = plan(spec).unwrap();
    assert!(plan.seeks);
    let mut source = (plan.open)().unwrap();
    if let Some(from) = from {
        source.seek(from).await.unwrap();
    }
    let (inlet, mut chunks) = Inlet::bounded(1);
    let task = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    let mut found = Vec::new();
    while found.len() < count {
        let deadline = tokio::time::sleep(Duration::from_millis(200));
        tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => {
                    let position = chunk.position.clone().unwrap();
                    found.push((chunk.into_iter().map(show).collect(), position));
                }
                None => break,
            },
            // A folder is watched for ever, by the clock.
            _ = deadline => if clock.now() < Time::MAX { clock.set(clock.now() + Duration::from_secs(1)) },
        }
        if found.last().is_some_and(|(texts, _): &(Vec<String>, Value)| texts == &["end"]) {
            break;
        }
    }
    task.abort();
    found
}

#[tokio::test]
async fn a_run_from_any_position_gives_the_rest() {
    let temp = tempfile::tempdir().unwrap();
    let line = |n: usize| format!("{n}, \"x\ny\"");
    let lines: Vec<String> = (0..1300).map(line).collect();
    fs::write(temp.path().join("a"), format!("left out\na,b\n{}\nlast\nfoot", lines.join("\n\n"))).unwrap();
    let clock = Clock::real();
    for (kind, count) in [("csv", 1301), ("lines", 2602)] {
        let props = json!({
            "datasource": "a", "fileType": kind, "hasHeader": true, "ignoreStartLines": 1, "ignoreEndLines": 1
        });
        let all = chunks(temp.path(), &props, &clock, None, 100).await;
        let texts: Vec<&String> = all.iter().flat_map(|(texts, _)| texts).collect();
        assert_eq!(texts.len(), count);
        assert!(all.len() > 2);
        for (n, (_, position)) in all.iter().enumerate() {
            // Kept by another, who packs it.
            let mut packed = Vec::new();
            crate::data::pack::put(&mut packed, position).unwrap();
            let position = crate::data::pack::take(&mut &packed[..]).unwrap();
            let rest = chunks(temp.path(), &props, &clock, Some(&position), 100).await;
            let expected: Vec<_> = all[n + 1..].iter().flat_map(|(texts, _)| texts).collect();
            assert_eq!(rest.iter().flat_map(|(texts, _)| texts).collect::<Vec<_>>(), expected, "{kind} from {n}");
        }
    }
}

#[tokio::test]
async fn a_file_that_took_the_place_of_another_is_read_from_its_start() {
    let temp = tempfile::tempdir().unwrap();
    let (path, clock) = (temp.path().join("a"), Clock::real());
    fs::write(&path, "1\n2\n").unwrap();
    for kind in ["lines", "json"] {
        let props = json!({"datasource": "a", "fileType": kind});
        let all = chunks(temp.path(), &props, &clock, None, 9).await;
        let rest = async |from: &Value| chunks(temp.path(), &props, &clock, Some(from), 9).await;
        assert!(rest(&all[0].1).await.is_empty());
        fs::write(temp.path().join("b"), "3\n4\n").unwrap();
        fs::rename(&path, temp.path().join("old")).unwrap();
        fs::rename(temp.path().join("b"), &path).unwrap();
        assert!(rest(&all[0].1).await[0].0[0].starts_with('3'));
        fs::remove_file(&path).unwrap();
        fs::rename(temp.path().join("old"), &path).unwrap();
    }
    let fault = open(temp.path(), json!({"datasource": "a"})).seek(&Value::Null).await.unwrap_err();
    assert_eq!(fault.reason(), "setup");
}

#[tokio::test]
async fn a_folder_goes_on_with_the_files_that_were_not_given() {
    for kind in ["lines", "json"] {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, at: u64| {
            fs::write(temp.path().join(name), text).unwrap();
            let file = fs::File::options().append(true).open(temp.path().join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(at)).unwrap();
        };
        (0..5).for_each(|n| write(&format!("f{n}"), &format!("{n}1\n{n}2"), 1_000_000 + n));
        let clock = Clock::stopped_at(Time(2_000_000_000));
        let props = json!({"datasource": ".", "path": "", "fileType": kind, "sendInterval": 0});
        let count = 5;
        let all = chunks(temp.path(), &props, &clock, None, count).await;
        assert_eq!(all.len(), count);
        for (n, (_, position)) in all.iter().enumerate().take(count - 1) {
            let rest = chunks(temp.path(), &props, &clock, Some(position), count - 1 - n).await;
            let texts =
                |all: &[(Vec<String>, Value)]| all.iter().flat_map(|(texts, _)| texts.clone()).collect::<Vec<_>>();
            assert_eq!(texts(&rest), texts(&all[n + 1..]), "{kind} from {n}");
        }
        // Only what is new, or has changed, comes after the last.
        write("f1", "new", 1_000_009);
        write("f9", "end", 1_000_010);
        let rest = chunks(temp.path(), &props, &clock, Some(&all[count - 1].1), 9).await;
        assert_eq!(rest.into_iter().map(|(texts, _)| texts.concat()).collect::<Vec<_>>(), ["new", "end"]);
    }
}

#[tokio::test]
async fn a_file_is_moved_also_when_the_rest_of_it_came_later() {
    let temp = tempfile::tempdir().unwrap();
    let lines: String = (0..1000).map(|n| format!("{n}\n")).collect();
    fs::write(temp.path().join("a"), lines).unwrap();
    let props = json!({"datasource": "a", "fileType": "lines", "actionAfterRead": 1});
    let first = chunks(temp.path(), &props, &Clock::real(), None, 1).await;
    assert!(temp.path().join("a").exists());
    let rest = chunks(temp.path(), &props, &Clock::real(), Some(&first[0].1), 9).await;
    assert_eq!(rest.iter().map(|(texts, _)| texts.len()).sum::<usize>(), 1000 - first[0].0.len());
    assert!(!temp.path().join("a").exists());
}
