//! The log of the data folder in a process that is killed: whatever was confirmed is there, and nothing else but what
//! was appended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use kuiper::store::{Log, LogOptions, Sync, View};

/// Names the folder for the process that writes.
const FOLDER: &str = "KUIPER_TEST_LOG";

fn body(sequence: u64) -> Vec<u8> {
    (0..sequence * 37 % 900).map(|n| (n + sequence) as u8).collect()
}

/// Not a test by itself: what the killed process does. It tells each sequence that is confirmed.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let options = LogOptions { segment_bytes: 20_000, sync: Sync::Always };
    let (mut log, recovered) = Log::open(Path::new(&folder), options).unwrap();
    assert!(recovered.damaged.is_empty(), "{recovered}");
    let mut out = std::io::stdout();
    loop {
        for _ in 0..1 + log.next() % 5 {
            log.append(&body(log.next())).unwrap();
        }
        log.sync().unwrap();
        writeln!(out, "confirmed {}", log.next() - 1).unwrap();
        out.flush().unwrap();
        if log.next() % 7 == 0 {
            log.drop_before(log.next().saturating_sub(200)).unwrap();
        }
    }
}

#[test]
fn what_was_confirmed_survives_a_kill_at_any_moment() {
    let home = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
            .env(FOLDER, home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        let mut confirmed = last;
        let mut count = 0;
        for line in told.lines() {
            let line = line.unwrap();
            // The frame of a test stands before the first.
            let Some((_, number)) = line.split_once("confirmed ") else { continue };
            confirmed = number.parse().unwrap();
            count += 1;
            if count == 20 + 13 * round {
                // What is in the pipe still was confirmed, too, and comes until it is empty.
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(count >= 20 + 13 * round, "it ended by itself after {count}");
        let (view, recovered) = View::open(home.path()).unwrap();
        assert!(recovered.damaged.is_empty(), "{recovered}");
        assert!(view.next() > confirmed, "{confirmed} was confirmed, and the log ends before {}", view.next());
        let mut reader = view.read(0).unwrap();
        let mut expected = view.first();
        assert!(expected <= confirmed.saturating_sub(200).max(1));
        while let Some((sequence, read)) = reader.next().unwrap() {
            assert_eq!((sequence, read), (expected, body(expected)));
            expected += 1;
        }
        assert_eq!(expected, view.next());
        last = view.next() - 1;
    }
}
