//! The test host, on the example that has everything: what a plugin author's own tests can do.

#[path = "../examples/kinds.rs"]
#[allow(dead_code)]
mod kinds;

use std::time::Duration;

use kuiper_plugin::testing::{json, Host};
use kuiper_plugin::{Error, Owned, Record};

fn host() -> Host {
    Host::load(kinds::kuiper_plugin_v1)
}

fn file(name: &str) -> (std::path::PathBuf, Owned) {
    let path = std::env::temp_dir().join(format!("kuiper-sdk-{}-{}", std::process::id(), name));
    let _ = std::fs::remove_file(&path);
    let properties = Record::new().with("path", path.to_string_lossy().into_owned());
    (path, Owned::Object(properties))
}

#[test]
fn all_kinds_are_offered_under_their_names() {
    assert_eq!(
        host().names(),
        [
            "Steps",
            "Counted",
            "RoomsLookup",
            "PapersLookup",
            "Lines",
            "AllLines",
            "Told",
            "visits",
            "allVisits",
            "forgottenVisits",
            "called",
            "calledForAll",
            "middle"
        ]
    );
}

#[test]
fn a_source_tells_positions_and_tokens_and_goes_back() {
    let host = host();
    let source = host.source("Steps").unwrap();
    source.provision(json(r#"{"count": 25, "batch": 10}"#)).unwrap();
    source.connect().unwrap();
    source.rewind(json(r#"{"next": 5}"#)).unwrap();
    source.acknowledge(15);
    assert!(source.subscribe(20, Duration::from_secs(10)).unwrap());
    assert_eq!((source.rows()[0].get("n"), source.rows().len()), (Some(&Owned::Int(5)), 20));
    assert_eq!(source.positions(), [json(r#"{"next": 15}"#), json(r#"{"next": 25}"#)]);
    assert_eq!(source.tokens(), [15, 25]);
    source.close().unwrap();
    let wrong = host.source("Steps").unwrap().rewind(json("7")).unwrap_err();
    assert_eq!(wrong, Error::never("a position is an object, found 7"));
    assert!(host.source("Counted").unwrap().rewind(json("7")).is_err(), "it does not take positions");
    host.source("Counted").unwrap().ping().unwrap();
}

#[test]
fn a_pull_source_counts_in_its_state() {
    let host = host();
    host.set_state("n", 4);
    let source = host.source("Counted").unwrap();
    source.provision(json(r#"{"last": 5}"#)).unwrap();
    source.connect().unwrap();
    source.pull(7).unwrap();
    assert_eq!((source.messages(), source.ended()), (vec![br#"{"n":5,"run":1}"#.to_vec()], true));
    assert_eq!(host.state("n"), Some(Owned::Int(5)));
}

#[test]
fn lookups_answer_with_rows_or_messages() {
    let host = host();
    let rooms = host.lookup("Rooms").unwrap();
    rooms.provision(json(r#"{"word": "hall"}"#)).unwrap();
    rooms.connect().unwrap();
    let found = rooms.find(&[json(r#"{"id": 3}"#), json(r#"{"id": 4}"#)], &["name"]).unwrap();
    assert_eq!((found.rows[0].len(), found.rows[1].len()), (0, 2));
    assert_eq!(found.rows[1][1].get("name"), Some(&Owned::from("hall 5")));
    assert!(rooms.find(&[json(r#"{"id": 13}"#)], &[]).unwrap_err().is_later());
    let papers = host.lookup("Papers").unwrap();
    let found = papers.find(&[json(r#"{"id": 3}"#)], &[]).unwrap();
    assert_eq!(found.messages, [[br#"{"id":3,"page":6}"#.to_vec()]]);
    rooms.close().unwrap();
    assert!(host.lookup("Steps").is_err());
}

#[test]
fn a_sink_of_messages_has_a_position_to_resume_from() {
    let host = host();
    let (path, properties) = file("lines");
    let sink = host.sink("Lines").unwrap();
    sink.provision(properties).unwrap();
    sink.connect().unwrap();
    sink.collect_bytes(&[b"one"]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "it waits for the flush");
    sink.flush().unwrap();
    let at = sink.position().unwrap().expect("a position");
    sink.collect_bytes_with(&[b"two"], &[Record::new().with("prefix", "p:")]).unwrap();
    sink.flush().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\np:two\n");
    sink.resume(at).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    assert_eq!(host.state("messages"), Some(Owned::Int(2)));
    assert!(sink.collect(&[json("{}")]).is_err(), "it takes no rows");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_context_has_secrets_templates_and_paths() {
    let host = host();
    let (path, properties) = file("told");
    let sink = host.sink("Told").unwrap();
    let told = sink.provision(properties.clone()).unwrap_err().to_string();
    assert_eq!(told, "there is no secret `door`; add it to `secrets` of the configuration");
    host.set_secret("door", "sesame");
    sink.provision(properties).unwrap();
    sink.collect(&[json(r#"{"room": "hall", "list": [1, 2]}"#)]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""template":"hall: [1,2]","path":2,"#), "{}", text);
    assert!(!text.contains("sesame"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn functions_count_in_their_state_and_lists_are_saved() {
    let host = host();
    let visits = host.function("visits").unwrap();
    assert_eq!(visits.call(&["a".into()]).unwrap(), Owned::Int(1));
    assert_eq!(visits.call(&["a".into()]).unwrap(), Owned::Int(2));
    let middle = host.function("middle").unwrap();
    for n in [9, 1] {
        middle.add(&[n.into()]).unwrap();
    }
    let saved = middle.save().unwrap();
    assert_eq!(saved, json("[[9,1]]"));
    let again = host.function("middle").unwrap();
    again.load(&saved).unwrap();
    again.add(&[5.into()]).unwrap();
    assert_eq!((again.result().unwrap(), middle.result().unwrap()), (Owned::Int(5), Owned::Int(9)));
    assert!(again.load(&json("7")).is_err());
}
