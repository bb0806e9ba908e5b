//! A library that was built against an older contract goes on working. `sdk-1.0` holds the SDK and its example as they
//! were first published; not a line of it may change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kuiper::data::{Layout, Value};
use kuiper::diag::Fault;
use kuiper::io::{Content, End, Inlet, Parcel, Payload, Report, RowSet};
use kuiper::plugin::Kind;
use serde_json::json;

use super::made::{Home, call, sink_spec, source_spec};

/// Builds the example of the old SDK far from this workspace, as its user did.
fn built(folder: &Path) -> PathBuf {
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/sdk-1.0"), folder);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--example", "count"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success());
    folder.join("target/debug/examples/libcount.so")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_library_of_the_first_sdk_does_all_that_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let library = built(folder.path());
    let marker = fs::read(&library).unwrap();
    let marker = marker.windows(12).find(|bytes| bytes.starts_with(b"KUIPER.P") && bytes[8] == 1).expect("its marker");
    assert_eq!(marker[8..12], [1, 0, 0, 0], "it was built against 1.0");

    let home = Home::new();
    for (kind, name) in [(Kind::Sinks, "count"), (Kind::Sources, "count"), (Kind::Sources, "pulled")] {
        home.install(kind, name, "1.0.0", &library);
    }
    home.install(Kind::Functions, "count", "1.0.0", &library);

    let path = folder.path().join("log");
    let plan = home.plugins.sink("count", sink_spec("r", json!({ "path": path }))).unwrap().unwrap();
    let mut sink = (plan.open)().unwrap();
    sink.connect(Report::new().0).await.unwrap();
    let layout: std::sync::Arc<Layout> = std::sync::Arc::new(["a"].into_iter().collect());
    let parcel = |single, value: i64| {
        let rows = vec![vec![Value::Int(value)]];
        Parcel { content: Content::Rows(RowSet { layout: layout.clone(), rows, single }), props: Vec::new() }
    };
    sink.deliver(&[parcel(true, 1), parcel(false, 2)]).await.unwrap();
    assert_eq!(sink.position().await, Ok(None), "it knows nothing of positions");
    sink.close().await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(" r row {\"a\":1}\n") && text.contains(" r list [{\"a\":2}]\n"), "{text}");
    assert!(text.ends_with(" r close\n"), "{text}");

    let plan = home.plugins.source("count", source_spec(json!({"count": 250}))).unwrap().unwrap();
    assert!(plan.gives_rows && !plan.seeks);
    let mut source = (plan.open)().unwrap();
    let (inlet, mut chunks) = Inlet::bounded(8);
    assert_eq!(source.run(inlet, Report::new().0).await, Ok(End::Finished));
    let mut rows = 0;
    while let Some(chunk) = chunks.recv().await {
        assert_eq!(chunk.position, None);
        rows += chunk.len();
    }
    assert_eq!(rows, 250);

    let plan = home.plugins.source("pulled", source_spec(json!({}))).unwrap().unwrap();
    let mut source = (plan.open)().unwrap();
    let (inlet, mut chunks) = Inlet::bounded(8);
    let running = tokio::spawn(async move { source.run(inlet, Report::new().0).await });
    assert_eq!(chunks.recv().await.unwrap()[0].payload, Payload::Bytes("{\"n\":1}".into()));
    drop(chunks);
    assert_eq!(running.await.unwrap(), Ok(End::Closed));

    let (same, calls) = (call(&home, "same", "r"), call(&home, "calls", "r"));
    assert_eq!(same(&[&[Value::text("over")]]), [Ok(Value::text("over"))]);
    assert_eq!(calls(&[&[Value::text("x")], &[Value::text("x")]]), [Ok(Value::Int(1)), Ok(Value::Int(2))]);
    let panicked = calls(&[&[Value::text("panic")]]).remove(0).unwrap_err();
    assert!(matches!(&panicked, Fault::Eval(text) if text.ends_with("this is a bug of the plugin")), "{panicked}");
}
