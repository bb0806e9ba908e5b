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

/// What `rules/README.md` promises names scenarios, and rules that run in them; each cell of its table names one, and each
/// scenario is there.
#[test]
fn the_guide_names_scenarios_and_rules_that_are_there() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let guide = read("rules/README.md");
    let promised = guide.split("## What is promised").nth(1).unwrap().split("\n## ").next().unwrap();
    let scenarios: String = ["server", "around", "disk", "files", "rules", "sources"]
        .map(|what| read(&format!("tests/faults/hit_{what}.rs")))
        .concat();
    let check = |name: &str| {
        let (fault, id) = name.split_once('/').unwrap_or((name, ""));
        let (_, rules) = rules::scene(fault).unwrap_or_else(|| panic!("there is no scenario `{fault}`"));
        assert!(scenarios.contains(&format!("\"{fault}\"")), "the scenario `{fault}` is never run");
        assert!(id.is_empty() || rules.iter().any(|rule| rule.id == id), "there is no rule `{id}` in `{fault}`");
    };
    let code = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut cells = 0;
    let table = promised.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    for line in table.skip(2) {
        for cell in line.trim_matches('|').split('|').skip(2) {
            let named: Vec<String> = code(cell).into_iter().filter(|name| name.contains('/')).collect();
            assert!(!named.is_empty(), "the cell `{cell}` names no test");
            named.iter().for_each(|name| check(name));
            cells += 1;
        }
    }
    assert!(cells >= 15, "the guide has only {cells} cells");
    // Outside of the table, what is not a scenario is a test by its name.
    let tests =
        ["tests/acks.rs", "tests/connectors/mqtt.rs", "tests/crash.rs", "src/io/file/sink/tests.rs"].map(read).concat();
    let others = code(promised).into_iter().filter(|name| name.contains('_') && !name.contains(['/', ' ']));
    for name in others.filter(|name| !name.starts_with("max_")) {
        if !tests.contains(&format!("fn {name}()")) {
            check(&name);
        }
    }
}
