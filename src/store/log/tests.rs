use super::*;

const SMALL: LogOptions = LogOptions { segment_bytes: 100, sync: Sync::Always };

fn open(folder: &Path) -> (Log, Recovered) {
    Log::open(folder, SMALL).unwrap()
}

fn body(sequence: u64) -> Vec<u8> {
    vec![sequence as u8; (sequence % 7) as usize * 5]
}

/// Appends that many bodies, in batches of three.
fn fill(log: &mut Log, count: u64) {
    for n in 0..count {
        let next = log.next();
        assert_eq!(log.append(&body(next)).unwrap(), next);
        if n % 3 == 2 {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
}

/// The sequences that can be read. Each must have its own body.
fn read(mut reader: Reader) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some((sequence, read)) = reader.next().unwrap() {
        assert_eq!(read, body(sequence), "the body of {sequence}");
        found.push(sequence);
    }
    found
}

#[test]
fn what_was_synced_is_read_again_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("a/b");
    let (mut log, recovered) = open(&folder);
    assert!(recovered.is_clean() && log.is_empty() && log.bytes() == 0);
    assert_eq!((log.first(), log.next()), (1, 1));
    fill(&mut log, 50);
    assert!(fs::read_dir(&folder).unwrap().count() > 5);
    let all: Vec<u64> = (1..=50).collect();
    assert_eq!(read(log.read(0).unwrap()), all);
    assert_eq!(read(log.read(31).unwrap()), all[30..]);
    assert_eq!(read(log.read(99).unwrap()), [0; 0]);
    drop(log);
    let (mut log, recovered) = open(&folder);
    assert!(recovered.is_clean());
    assert_eq!((log.first(), log.next()), (1, 51));
    fill(&mut log, 3);
    assert_eq!(read(log.read(50).unwrap()), [50, 51, 52, 53]);
}
