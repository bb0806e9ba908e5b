//! The disk is full, files are damaged, and what a file holds is read exactly once.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::book::Book;
use super::rules::{FILTER, Kind, PLAIN, Place, Rule};
use super::scene::Scene;
use super::seed::{Chance, either};
use super::server::{PATIENCE, Server};
use super::table::{self, Verdict};

#[test]
fn the_disk_is_full() {
    let mut scene = Scene::new("disk_full", PLAIN);
    let folder = scene.server.folder.to_str().unwrap().to_owned();
    // A small disk that only the server sees, and that goes with it.
    let script = format!("mount -t tmpfs -o size=24m tmpfs '{folder}' && cd '{folder}' && exec \"$@\"");
    let mut wrapper = own_mounts();
    wrapper.extend(["sh", "-c", &script, "sh"]);
    scene.server.wrapped(&wrapper);
    scene.prepare();
    scene.results = PathBuf::from(format!("/proc/{}/root{folder}", scene.server.process()));
    scene.publish();
    let (times, full) = (either(2, 10), either(10, 60));
    for _ in 0..times {
        scene.flow(400);
        let ballast = scene.results.join("ballast");
        fill(&ballast);
        let full_since = Instant::now();
        loop {
            let status = scene.server.status(FILTER.id).unwrap_or_default();
            if status.to_string().contains("the disk is full") {
                break;
            }
            assert!(
                full_since.elapsed() < PATIENCE / 2,
                "no word of the full disk: {status:#}\n{}",
                scene.server.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        scene.pass(1_000 * full);
        fs::remove_file(ballast).unwrap();
        scene.strikes += 1;
    }
    scene.flow(400);
    scene.finish(&format!("full {times} times for {full} s"));
}

/// The command that gives a program mounts of its own: as root, or as one who looks like root to itself.
fn own_mounts() -> Vec<&'static str> {
    let works = |command: &[&str]| {
        let probe =
            Command::new(command[0]).args(&command[1..]).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
        probe.is_ok_and(|output| output.status.success())
    };
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--mount", "--map-root-user"]];
    let way = ways.into_iter().find(|way| works(way));
    way.expect("this test needs `unshare`, and a system that lets it mount").to_vec()
}

/// Takes all the space that there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![b'x'; size]).is_err() {
            size /= 2;
        }
    }
}

#[test]
fn from_a_file_to_a_file_each_line_counts_once() {
    let name = "file_to_file";
    let (lines, kills) = (either(20_000, 400_000) as i64, either(20, 300));
    let folder = tempfile::tempdir().unwrap();
    let mut chance = Chance::of(name);
    let text: String = (0..lines).map(|n| format!("{{\"id\":{n}}}\n")).collect();
    fs::write(folder.path().join("numbers.jsonl"), text).unwrap();
    let mut server = Server::new(folder.path());
    server.again();
    let statement = r#"CREATE STREAM numbers (id BIGINT) WITH (TYPE="file", DATASOURCE="numbers.jsonl", FORMAT="json",
        EXTRA="{\"path\":\"\",\"fileType\":\"lines\",\"sendInterval\":\"1ms\"}")"#;
    server.ask("POST", "/streams", &json!({ "sql": statement }).to_string());
    let rules = [
        (Rule { id: "lines", kind: Kind::Each, place: Place::File, shared: false }, "SELECT id FROM numbers"),
        (
            Rule { id: "windows", kind: Kind::Window, place: Place::File, shared: false },
            "SELECT collect(id) AS ids, count(*) AS n, sum(id) AS total FROM numbers GROUP BY COUNTWINDOW(100)",
        ),
    ];
    for (rule, sql) in &rules {
        let definition = json!({"id": rule.id, "sql": sql, "actions": [rule.action("")], "options": {"qos": 2}});
        server.ask("POST", "/rules", &definition.to_string());
    }
    let look = |rule: &Rule| {
        let mut book = Book::default();
        book.follow(rule, &folder.path().join(rule.id));
        book
    };
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(chance.between(300, 1_200)));
        server.kill();
        server.again();
    }
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        let count: usize = rules.iter().map(|(rule, _)| look(rule).counts.len()).sum();
        if count > seen {
            (seen, moved) = (count, Instant::now());
        }
        if count == 2 * lines as usize || moved.elapsed() > PATIENCE / 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let verdicts: Vec<Verdict> = rules.iter().map(|(rule, _)| exact(rule, &look(rule), lines)).collect();
    table::print(name, &format!("qos 2, {kills} kills"), &verdicts);
    let broken: Vec<String> = verdicts.iter().flat_map(Verdict::broken).collect();
    assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), server.log());
}

/// Every number once.
fn exact(rule: &Rule, book: &Book, lines: i64) -> Verdict {
    let mut wrong = book.wrong.clone();
    if book.counts.keys().any(|key| !(0..lines).contains(key)) {
        wrong.push(format!("{}: numbers that were never there", rule.id));
    }
    Verdict {
        rule: rule.id,
        published: lines as usize,
        delivered: book.counts.len(),
        lost: (0..lines).filter(|number| !book.counts.contains_key(number)).collect(),
        doubled: book.counts.values().map(|count| u64::from(count - 1)).sum::<u64>() + book.windows_again,
        bound: 0,
        wrong,
        ..Verdict::default()
    }
}
