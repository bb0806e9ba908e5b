//! Faults survived: numbered messages go through real brokers and the real server into every kind of sink while things
//! break, and every number is accounted for.
//!
//! Each scenario prints a table: published, delivered, lost, doubled, dead for each rule. Lost must be 0, and no more may be
//! doubled than was unacknowledged when something broke. `tests/README.md` tells how to run it longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "faults/book.rs"]
mod book;
#[path = "faults/broker.rs"]
mod broker;
#[path = "faults/hit_around.rs"]
mod hit_around;
#[path = "faults/hit_disk.rs"]
mod hit_disk;
#[path = "faults/hit_files.rs"]
mod hit_files;
#[path = "faults/hit_rules.rs"]
mod hit_rules;
#[path = "faults/hit_server.rs"]
mod hit_server;
#[path = "faults/hit_sources.rs"]
mod hit_sources;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "served/mariadb.rs"]
#[allow(dead_code)]
mod mariadb;
#[path = "faults/mqtt.rs"]
mod mqtt;
#[path = "faults/publisher.rs"]
mod publisher;
#[path = "faults/receiver.rs"]
mod receiver;
#[path = "faults/rules.rs"]
mod rules;
#[path = "faults/scene.rs"]
mod scene;
#[path = "faults/seed.rs"]
mod seed;
#[path = "faults/server.rs"]
mod server;
#[path = "faults/table.rs"]
mod table;
#[path = "faults/wire.rs"]
mod wire;

/// What `rules/README.md` promises names scenarios, and their rules, that are here.
#[test]
fn the_guide_names_scenarios_that_are_there() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let guide = read("rules/README.md");
    let promised = guide.split("## What is promised").nth(1).unwrap().split("\n## ").next().unwrap();
    let scenarios: String = ["server", "around", "disk", "files", "rules", "sources"]
        .map(|what| read(&format!("tests/faults/hit_{what}.rs")))
        .concat();
    let (rules, mut named) = (read("tests/faults/rules.rs") + &scenarios, 0);
    for name in promised.split('`').skip(1).step_by(2).filter(|name| name.contains('_') || name.contains('/')) {
        let (fault, rule) = name.split_once('/').unwrap_or((name, ""));
        if fault == "tests" {
            continue;
        }
        assert!(scenarios.contains(&format!("\"{fault}\"")), "there is no scenario `{fault}`");
        assert!(rule.is_empty() || rules.contains(&format!("\"{rule}\"")), "there is no rule `{rule}`");
        named += 1;
    }
    assert!(named > 5, "the guide names only {named}");
}
