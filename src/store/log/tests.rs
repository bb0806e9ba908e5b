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

type Files = Vec<(PathBuf, Vec<u8>)>;

/// The files of the log with what stands in them, in order.
fn files(folder: &Path) -> Files {
    let paths = segments(folder).unwrap().into_iter().map(|one| folder.join(format!("{:020}.log", one.first)));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// For each frame of the files in order: its file, and where it begins and ends.
fn frames(files: &[(PathBuf, Vec<u8>)]) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::new();
    for (file, (_, bytes)) in files.iter().enumerate() {
        let mut at = 0;
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            found.push((file, at..at + 16 + length));
            at += 16 + length;
        }
    }
    found
}

fn look(folder: &Path) -> (Vec<u64>, Recovered) {
    let (view, recovered) = View::open(folder).unwrap();
    (read(view.read(0).unwrap()), recovered)
}

/// A log of 25 bodies in several segments.
fn sample() -> (tempfile::TempDir, Files, Vec<u64>) {
    let home = tempfile::tempdir().unwrap();
    fill(&mut open(home.path()).0, 25);
    let files = files(home.path());
    assert!(files.len() > 4 && frames(&files).len() == 25);
    (home, files, (1..=25).collect())
}

#[test]
fn a_log_cut_at_any_byte_keeps_all_before_it_and_goes_on() {
    let (home, files, all) = sample();
    let frames = frames(&files);
    let (path, whole) = files.last().unwrap();
    for length in 0..=whole.len() {
        fs::write(path, &whole[..length]).unwrap();
        let kept = frames.iter().filter(|(file, at)| *file < files.len() - 1 || at.end <= length).count();
        let end = frames[kept - 1].1.end * usize::from(frames[kept - 1].0 == files.len() - 1);
        let (found, recovered) = look(home.path());
        assert_eq!(found, all[..kept], "cut at {length}");
        assert_eq!((recovered.cut(), recovered.damaged.len()), ((length - end) as u64, 0), "cut at {length}");
        assert_eq!(fs::read(path).unwrap().len(), length, "a view changes nothing");
        let (mut log, cut) = open(home.path());
        assert_eq!((cut, log.next()), (recovered, kept as u64 + 1));
        assert_eq!(fs::read(path).unwrap().len(), end);
        fill(&mut log, 3);
        drop(log);
        let again = look(home.path());
        assert_eq!(again, ((1..=kept as u64 + 3).collect(), Recovered::default()));
        // The frames that were added may have begun a segment.
        for one in segments(home.path()).unwrap().iter().skip(files.len()) {
            fs::remove_file(home.path().join(format!("{:020}.log", one.first))).unwrap();
        }
    }
}

#[test]
fn a_segment_cut_before_others_loses_its_end_only_and_says_so() {
    let (home, files, all) = sample();
    let frames = frames(&files);
    for (number, (path, whole)) in files.iter().enumerate().take(files.len() - 1) {
        for length in 0..whole.len() {
            fs::write(path, &whole[..length]).unwrap();
            let lost = |(file, at): &(usize, Range<usize>)| *file == number && at.end > length;
            let kept: Vec<u64> = all.iter().zip(&frames).filter(|(_, one)| !lost(one)).map(|(n, _)| *n).collect();
            let (found, recovered) = look(home.path());
            assert_eq!(found, kept, "file {number} cut at {length}");
            assert_eq!((recovered.lost(), recovered.cut()), (25 - kept.len() as u64, 0));
            let [damage] = &recovered.damaged[..] else { unreachable!("{recovered:?}") };
            assert_eq!((&damage.file, damage.offset + damage.bytes), (path, length as u64));
            assert_eq!(open(home.path()).1, recovered, "what is in the middle is not cut off");
        }
        fs::remove_file(path).unwrap();
        let (found, recovered) = look(home.path());
        let gone = frames.iter().filter(|(file, _)| *file == number).count();
        assert_eq!(found.len(), 25 - gone);
        // What stood at the beginning may have been dropped by the writer.
        assert_eq!(recovered.lost(), if number == 0 { 0 } else { gone as u64 });
        fs::write(path, whole).unwrap();
    }
    assert_eq!(look(home.path()), (all, Recovered::default()));
}

#[test]
fn a_flipped_bit_costs_one_frame_and_nothing_wrong_is_read() {
    let (home, files, all) = sample();
    for (n, (number, place)) in frames(&files).into_iter().enumerate() {
        let (path, whole) = &files[number];
        for bit in place.start * 8..place.end * 8 {
            if bit % 8 == 1 || bit % 8 == 4 || bit % 8 == 7 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                fs::write(path, &flipped).unwrap();
                let (found, recovered) = look(home.path());
                let kept: Vec<u64> = all.iter().copied().filter(|sequence| *sequence != n as u64 + 1).collect();
                assert_eq!(found, kept, "bit {bit} of file {number}");
                if n == 24 {
                    assert_eq!((recovered.cut(), recovered.lost()), (place.len() as u64, 0));
                } else {
                    let damage = Damage {
                        file: path.clone(),
                        offset: place.start as u64,
                        bytes: place.len() as u64,
                        lost: n as u64 + 1..n as u64 + 2,
                    };
                    assert_eq!(recovered, Recovered { torn: None, damaged: vec![damage] });
                }
            }
        }
        fs::write(path, whole).unwrap();
    }
    let (path, whole) = &files[1];
    fs::write(path, [&[0xff; 20], &whole[20..]].concat()).unwrap();
    let (_, recovered) = open(home.path());
    let text = recovered.to_string();
    assert!(text.contains(" bytes at byte 0 of `") && text.ends_with(" is lost"), "{text}");
}

#[test]
fn any_bytes_at_all_are_read_without_a_wrong_body() {
    let (home, files, _) = sample();
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..250 {
        let mut all = files.clone();
        for _ in 0..1 + random() % 4 {
            let number = random() % all.len();
            let (_, bytes) = &mut all[number];
            let (from, to) = (random() % (bytes.len() + 1), random() % (bytes.len() + 1));
            match random() % 5 {
                0 => bytes.truncate(from),
                1 => bytes.extend_from_slice(&vec![0; to]),
                2 if from < to => bytes[from..to].fill(random() as u8),
                3 if from < to => drop(bytes.drain(from..to)),
                _ => {
                    let part = bytes[..to].to_vec();
                    bytes.splice(from..from, part).for_each(drop);
                }
            }
        }
        for (path, bytes) in &all {
            fs::write(path, bytes).unwrap();
        }
        // `look` compares every body.
        let (found, recovered) = look(home.path());
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        // A tail that is missing from the end of a frame on leaves no trace.
        assert!(found == (1..=found.len() as u64).collect::<Vec<_>>() || !recovered.is_clean());
        let (mut log, _) = open(home.path());
        let (before, next) = (read(log.read(0).unwrap()), log.next());
        assert_eq!(before, found);
        fill(&mut log, 3);
        assert_eq!(read(log.read(next).unwrap()), [next, next + 1, next + 2]);
        for (path, _) in &self::files(home.path()) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_body_that_holds_a_log_is_never_taken_for_frames() {
    let (_other, files, _) = sample();
    let copy: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let home = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 1 << 20, sync: Sync::Never };
    let (mut log, _) = Log::open(home.path(), options).unwrap();
    // Also one whose head was lost, so that copies stand where frames are looked for.
    for shift in 0..40 {
        log.append(&copy[shift..]).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let path = home.path().join(format!("{:020}.log", 1));
    let whole = fs::read(&path).unwrap();
    for frame in frames(&[(path.clone(), whole.clone())]) {
        let mut damaged = whole.clone();
        damaged[frame.1.start..frame.1.start + 16].fill(0);
        fs::write(&path, damaged).unwrap();
        let mut reader = View::open(home.path()).unwrap().0.read(0).unwrap();
        let mut count = 0;
        while let Some((sequence, body)) = reader.next().unwrap() {
            assert_eq!(body, copy[sequence as usize - 1..]);
            count += 1;
        }
        assert_eq!(count, 39);
    }
}

#[test]
fn what_is_dropped_gives_space_back_and_numbers_go_on() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, _) = open(home.path());
    assert_eq!(log.drop_before(1).unwrap(), 0);
    fill(&mut log, 25);
    let (bytes, first) = (log.bytes(), files(home.path())[2].0.clone());
    let disk = || files(home.path()).iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    assert_eq!(disk(), bytes);
    let third: u64 = first.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    // One before it the segment is still needed.
    let freed = log.drop_before(third - 1).unwrap();
    assert!(freed > 0 && log.first() < third);
    let freed = freed + log.drop_before(third).unwrap();
    assert_eq!((log.first(), disk(), log.bytes()), (third, bytes - freed, bytes - freed));
    assert_eq!(read(log.read(0).unwrap()), (third..=25).collect::<Vec<_>>());
    // What is not written yet stays, whoever says what.
    log.append(&body(26)).unwrap();
    log.drop_before(99).unwrap();
    log.sync().unwrap();
    assert_eq!(read(log.read(26).unwrap()), [26]);
    log.drop_before(27).unwrap();
    assert_eq!((log.is_empty(), log.first(), log.next(), log.bytes(), disk()), (true, 27, 27, 0, 0));
    drop(log);
    let (mut log, recovered) = open(home.path());
    assert!(recovered.is_clean() && log.is_empty() && log.next() == 27);
    fill(&mut log, 4);
    assert_eq!(read(log.read(0).unwrap()), [27, 28, 29, 30]);
    log.advance(20).unwrap();
    assert_eq!(log.next(), 31);
    log.advance(40).unwrap();
    drop(log);
    let (mut log, recovered) = open(home.path());
    assert_eq!((log.next(), recovered.lost()), (40, 9), "numbers that were left out are told");
    fill(&mut log, 1);
    assert_eq!(read(log.read(28).unwrap()), [28, 29, 30, 40]);
}

#[test]
fn a_reader_follows_the_writer() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, _) = open(home.path());
    let mut reader = log.read(1).unwrap();
    let mut late = log.read(30).unwrap();
    let mut seen = Vec::new();
    for round in 0..12 {
        log.append(&body(log.next())).unwrap();
        assert_eq!(reader.next().unwrap(), None, "what was not written is not read");
        fill(&mut log, 4);
        while let Some((sequence, read)) = reader.next().unwrap() {
            assert_eq!(read, body(sequence));
            seen.push(sequence);
        }
        // Behind the reader, or all there is.
        log.drop_before(if round % 3 == 0 { log.next() } else { log.next() - 3 }).unwrap();
    }
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
    assert!(late.next().unwrap().unwrap().0 > 30);
    let mut old = log.read(1).unwrap();
    assert!(old.next().unwrap().unwrap().0 > 40, "a reader that is too late begins with what is there");
}

#[test]
fn an_error_of_the_disk_loses_and_doubles_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, _) = open(home.path());
    fill(&mut log, 2);
    // No segment can be begun where a folder stands; the frames before it were written.
    let block = |log: &Log| home.path().join(format!("{:020}.log", log.next()));
    for _ in 0..4 {
        log.append(&[1; 30]).unwrap();
    }
    let blocked = home.path().join(format!("{:020}.log", 5));
    fs::create_dir(&blocked).unwrap();
    for _ in 0..2 {
        let fault = log.sync().unwrap_err();
        assert_eq!(fault.retry(), crate::diag::Retry::Later);
        assert!(fault.to_string().contains("5.log`"), "{fault}");
        assert_eq!(read(log.read(0).unwrap()), [1, 2]);
    }
    // What half a write left behind is cut off first.
    let first = home.path().join(format!("{:020}.log", 1));
    let mut half = File::options().append(true).open(&first).unwrap();
    half.write_all(&[9; 50]).unwrap();
    log.append(&[2; 30]).unwrap();
    fs::remove_dir(&blocked).unwrap();
    log.sync().unwrap();
    drop(log);
    let (view, recovered) = View::open(home.path()).unwrap();
    assert!(recovered.is_clean(), "{recovered}");
    let mut reader = view.read(3).unwrap();
    let bodies: Vec<u8> = std::iter::from_fn(|| reader.next().unwrap()).map(|(_, body)| body[29]).collect();
    assert_eq!(bodies, [1, 1, 1, 1, 2]);
    let (log, _) = open(home.path());
    assert!(!block(&log).exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_waited_out() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, _) = open(home.path());
    let path = home.path().join(format!("{:020}.log", 1));
    // The system refuses all that is written there as it does on a full disk.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    for n in 1..=3 {
        log.append(&body(n)).unwrap();
    }
    for _ in 0..3 {
        let fault = log.sync().unwrap_err();
        assert_eq!(fault.retry(), crate::diag::Retry::Later);
        assert!(fault.to_string().ends_with("1.log`: the disk is full"), "{fault}");
    }
    log.append(&body(4)).unwrap();
    assert!((log.first(), log.next()) == (1, 5) && !log.is_empty());
    fs::remove_file(&path).unwrap();
    log.sync().unwrap();
    assert_eq!(read(log.read(0).unwrap()), [1, 2, 3, 4]);
    assert_eq!(look(home.path()), (vec![1, 2, 3, 4], Recovered::default()));
}

#[test]
fn without_syncing_all_is_written_all_the_same() {
    for sync in [Sync::Never, Sync::Interval(Duration::from_secs(3600)), Sync::Interval(Duration::ZERO)] {
        let home = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(home.path(), LogOptions { segment_bytes: 100, sync }).unwrap();
        fill(&mut log, 20);
        assert_eq!(look(home.path()), ((1..=20).collect(), Recovered::default()), "{sync:?}");
        log.sync_now().unwrap();
        log.drop_before(21).unwrap();
        fill(&mut log, 2);
        assert_eq!(look(home.path()).0, [21, 22]);
    }
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (mut log, _) = open(home.path());
    let fault = log.append(&vec![0; LONGEST + 1]).unwrap_err();
    assert_eq!(fault.reason(), "refused");
    // One above the length of a segment has a segment to itself.
    log.append(&[7; 1000]).unwrap();
    log.append(&body(2)).unwrap();
    log.sync().unwrap();
    assert_eq!(segments(home.path()).unwrap().len(), 2);
    assert_eq!(log.read(0).unwrap().next().unwrap().unwrap().1, [7; 1000]);
}
