//! The log of the data folder in a process that is killed, and on a disk that is full: whatever was confirmed is there,
//! once, and nothing else but what was appended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use kuiper::diag::Retry;
use kuiper::store::{Log, LogOptions, Snapshots, Sync, View};

/// Names the folder for the process that writes until it is killed.
const FOLDER: &str = "KUIPER_TEST_LOG";
/// Names the folder for the one whose disk is small.
const SMALL: &str = "KUIPER_TEST_SMALL_DISK";

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
        // Dropped was what stands 200 before the next, which is one behind the last that was told.
        assert!(expected <= (confirmed + 1).saturating_sub(200).max(1), "{expected} {confirmed}");
        while let Some((sequence, read)) = reader.next().unwrap() {
            assert_eq!((sequence, read), (expected, body(expected)));
            expected += 1;
        }
        assert_eq!(expected, view.next());
        last = view.next() - 1;
    }
}

/// Not a test by itself: what a process does whose folder lies on a disk of 400 KiB.
#[test]
fn fills_a_small_disk() {
    let Some(disk) = std::env::var_os(SMALL) else { return };
    let disk = Path::new(&disk);
    std::fs::write(disk.join("other"), vec![1; 150_000]).unwrap();
    let snapshots = disk.join("snapshots");
    Snapshots::write(&snapshots, 1, &[b"first"]).unwrap();
    let options = LogOptions { segment_bytes: 20_000, sync: Sync::Always };
    let (mut log, _) = Log::open(&disk.join("log"), options).unwrap();
    let (mut full, mut confirmed) = (0, 0);
    // Full, with space given back by others, and full again.
    while full < 40 {
        for _ in 0..7 {
            log.append(&body(log.next())).unwrap();
        }
        let Err(fault) = log.sync() else {
            confirmed = log.next() - 1;
            continue;
        };
        assert_eq!(fault.retry(), Retry::Later);
        assert!(fault.to_string().ends_with("the disk is full"), "{fault}");
        full += 1;
        let told = Snapshots::write(&snapshots, 2, &[[0; 100_000]]).unwrap_err();
        assert!(told.to_string().ends_with("the disk is full"), "{told}");
        assert_eq!(Snapshots::load(&snapshots).unwrap().newest, Some((1, b"first".to_vec())));
        // What was confirmed is there all the while.
        let (view, recovered) = View::open(&disk.join("log")).unwrap();
        assert!(recovered.damaged.is_empty(), "{recovered}");
        assert!(view.next() > confirmed);
        if full == 20 {
            std::fs::remove_file(disk.join("other")).unwrap();
            log.sync().unwrap();
        }
    }
    // Its own old segments are space, too.
    let keep = log.first() + 300;
    assert!(log.drop_before(keep).unwrap() > 0);
    log.sync().unwrap();
    let (first, next) = (log.first(), log.next());
    drop(log);
    let (log, recovered) = Log::open(&disk.join("log"), options).unwrap();
    assert!(recovered.is_clean(), "{recovered}");
    assert_eq!((log.first(), log.next()), (first, next));
    let mut reader = log.read(0).unwrap();
    for sequence in first..next {
        assert_eq!(reader.next().unwrap(), Some((sequence, body(sequence))));
    }
    writeln!(std::io::stdout(), "filled {full} times").unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_waited_out() {
    let home = tempfile::tempdir().unwrap();
    // A disk of its own, in a namespace of its own, which goes with the process.
    let script = "mount -t tmpfs -o size=400k none \"$1\" && exec \"$2\" --exact fills_a_small_disk --nocapture";
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(home.path())
        .arg(std::env::current_exe().unwrap())
        .env(SMALL, home.path())
        .output()
        .expect("this test needs `unshare` of util-linux");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("filled 40 times"), "{told}");
}
