//! Files of the data folder are damaged after a kill: cut off anywhere, or with a bit turned.
//!
//! Whatever is damaged, the server starts, its rules run, nothing comes out that was never there, and what is lost is told
//! in the log with the folder that it was lost in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::book::Book;
use super::rules::{DAMAGED, Place, Rule};
use super::scene::{Scene, unbalanced};
use super::seed::{Chance, either};
use super::server::{PATIENCE, Server};
use super::table::{self, Verdict};

#[test]
fn damaged_files_are_told_and_never_believed() {
    let name = "damaged";
    let mut scene = Scene::new(name);
    // What goes there waits on the disk.
    scene.http.as_mut().unwrap().away();
    scene.begin();
    // Into the middle of a window, with others behind it.
    scene.flow(1_500);
    let more = scene.chance.between(200, 800) as usize;
    scene.flow(more);
    scene.server.kill();
    scene.ins.values().for_each(|wire| wire.close(true));
    let numbers: Vec<_> = scene.publishers.iter_mut().map(super::publisher::Publisher::stop).collect();
    scene.http.as_mut().unwrap().here();
    let whole = run(&scene, |_| Damages::new());
    for (rule, book) in DAMAGED.iter().zip(&whole.books) {
        assert!(!book.counts.is_empty(), "{}: nothing came out\n{}", rule.id, whole.log);
        assert_eq!(book.wrong, Vec::<String>::new());
    }
    let mut verdicts: Vec<Verdict> = DAMAGED
        .iter()
        .zip(&whole.books)
        .map(|(rule, book)| Verdict { rule: rule.id, published: book.counts.len(), ..Verdict::default() })
        .collect();
    let mut broken = Vec::new();
    let (times, mut silent, mut files) = (either(50, 1_000), 0, 0);
    for _ in 0..times {
        let mut chance = Chance::of(&format!("{name}{}", scene.chance.below(u64::MAX >> 33)));
        let damaged = run(&scene, |folder| damage(folder, &mut chance));
        files += damaged.what.len();
        let all = damaged.what.values().map(|(what, _)| what.as_str()).collect::<Vec<_>>().join("; ");
        broken.extend(damaged.trouble.iter().map(|trouble| format!("{all}: {trouble}")));
        for ((rule, verdict), (book, sound)) in
            DAMAGED.iter().zip(&mut verdicts).zip(damaged.books.iter().zip(&whole.books))
        {
            let (what, clean) = damaged.what.get(rule.id).cloned().unwrap_or_default();
            let published = |key: &i64| {
                let numbers = &numbers[usize::from(*key >= super::rules::OTHER)];
                let number = key % super::rules::OTHER;
                numbers.taken.contains(&number) || numbers.doubtful.contains(&number)
            };
            broken.extend(book.wrong.iter().map(|wrong| format!("{what}: {wrong}")));
            let strange: Vec<_> = book.counts.keys().filter(|key| !published(key)).collect();
            if !strange.is_empty() {
                broken.push(format!("{what}: {}: {strange:?} were never published", rule.id));
            }
            let lost: Vec<i64> = sound.counts.keys().filter(|key| !book.counts.contains_key(key)).copied().collect();
            verdict.delivered += book.counts.len();
            verdict.doubled += book.counts.values().map(|count| u64::from(count - 1)).sum::<u64>();
            if !lost.is_empty() && !damaged.tells(rule) {
                // A log that is cut off between two of its records looks like one that was never longer.
                silent += u64::from(clean);
                if !clean {
                    broken.push(format!("{what}: {}: {} are lost without a word", rule.id, lost.len()));
                }
            }
            if !lost.is_empty() && what.is_empty() {
                broken.push(format!("{all}: {}: {} are lost, and its files were sound", rule.id, lost.len()));
            }
            verdict.lost.extend(lost);
        }
    }
    for verdict in &mut verdicts {
        verdict.published *= times as usize;
        verdict.bound = verdict.doubled;
        verdict.remark = "lost with what was damaged, and told".into();
    }
    table::print(
        name,
        &format!("{files} files were cut, or had a bit turned, in {times} starts; {silent} cuts left no trace"),
        &verdicts,
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// By rule, what was done to a file of it, and whether the file was cut exactly between two records.
type Damages = BTreeMap<&'static str, (String, bool)>;

/// What came of one start.
struct Outcome {
    what: Damages,
    books: Vec<Book>,
    trouble: Vec<String>,
    log: String,
}

impl Outcome {
    /// Whether the log says that something of a rule could not be read.
    fn tells(&self, rule: &Rule) -> bool {
        let places = ["state", "queues"].map(|folder| format!("{folder}/{}", rule.id));
        self.log.lines().any(|line| places.iter().any(|place| line.contains(place)))
    }
}

/// Starts a server in a copy of what the kill has left, without its brokers, and waits until its rules are at rest.
fn run(scene: &Scene, damage: impl FnOnce(&Path) -> Damages) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    copy(&scene.server.folder, folder.path());
    fs::remove_file(folder.path().join("log")).unwrap();
    let receiver = scene.http.as_ref().unwrap();
    let queued = DAMAGED.iter().find(|rule| rule.place == Place::Queue).unwrap().id;
    let before = receiver.rows_from(queued, 0).len();
    let what = damage(&folder.path().join("data"));
    let mut server = Server::new(folder.path());
    server.again();
    let (mut rest, mut trouble) = (None, Vec::new());
    let (mut last, mut moved) = (String::new(), Instant::now());
    loop {
        let found = DAMAGED
            .iter()
            .find_map(|rule| Some(format!("{}: {}", rule.id, unbalanced(server.status(rule.id).as_ref())?)));
        match found {
            None if rest.is_some_and(|rest: Instant| rest.elapsed() > Duration::from_millis(700)) => break,
            None => rest = rest.or(Some(Instant::now())),
            Some(found) if (found == last && moved.elapsed() > PATIENCE) || server.has_ended() => {
                trouble.push(found);
                break;
            }
            Some(found) => {
                if found != last {
                    (last, moved) = (found, Instant::now());
                }
                rest = None;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = server.log();
    trouble.extend(log.lines().find(|line| line.contains("panicked at")).map(str::to_owned));
    let books = DAMAGED.iter().map(|rule| {
        let mut book = Book::default();
        match rule.place {
            Place::Queue => book.take(rule, &receiver.rows_from(rule.id, before)),
            _ => book.follow(rule, &folder.path().join(rule.id)),
        }
        book
    });
    Outcome { what, books: books.collect(), trouble, log }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Damages a file of each rule, in its journal or its queue.
fn damage(data: &Path, chance: &mut Chance) -> Damages {
    let mut all = Damages::new();
    for rule in DAMAGED {
        let folders = ["state", "queues"].map(|folder| data.join(folder).join(rule.id));
        let files: Vec<PathBuf> = folders.iter().flat_map(|folder| below(folder)).collect();
        let files: Vec<&PathBuf> = files.iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
        // Now and then the files of a rule are left as they are.
        if files.is_empty() || chance.below(8) == 0 {
            continue;
        }
        let file = files[chance.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        let at = chance.below(bytes.len() as u64) as usize;
        let name = file.strip_prefix(data).unwrap().display().to_string();
        let damage = if chance.below(2) == 0 {
            let clean = frames(&bytes).contains(&at);
            bytes.truncate(at);
            (format!("{name}, cut at {at}"), clean)
        } else {
            let bit = chance.below(8);
            bytes[at] ^= 1 << bit;
            (format!("{name}, bit {bit} of byte {at} turned"), false)
        };
        fs::write(file, bytes).unwrap();
        all.insert(rule.id, damage);
    }
    all
}

/// Where records of a log begin: `[length u32][check u32][sequence u64][body]`.
fn frames(bytes: &[u8]) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at..at + 4) {
        all.insert(at);
        at += 16 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
    }
    all
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { all.extend(below(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}
