//! What the plugin `mysql` reads, in rules of the real server, from a real MariaDB.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "served/kuiper.rs"]
#[allow(dead_code)]
mod kuiper;
#[path = "plugins/made.rs"]
#[allow(dead_code)]
mod made;
#[path = "served/mariadb.rs"]
#[allow(dead_code)]
mod mariadb;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use kuiper::{Kuiper, wait_for};
use mariadb::Mariadb;

/// Built once: where two do so at a time, one would take what the other has just begun to write.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| made::ours("mysql"));

fn with_mysql(data: &Path) {
    let folder = data.join("plugins/sources");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&*LIBRARY, folder.join("Mysql@v1.0.0.so")).unwrap();
}

fn extra(members: Json) -> String {
    members.to_string().replace('\\', "\\\\").replace('"', "\\\"")
}

fn lines(server: &Kuiper, name: &str) -> Vec<Json> {
    let text = fs::read_to_string(server.folder.path().join(name)).unwrap_or_default();
    // The last one may not be whole yet.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn rows_of_a_stream_find_theirs_in_a_table() {
    let database = Mariadb::start();
    database.sql("CREATE TABLE test.rooms (id INT PRIMARY KEY, name VARCHAR(20), floor INT)");
    database.sql("INSERT INTO test.rooms VALUES (1, 'cellar', -1), (2, 'attic', 3)");
    let server = Kuiper::start(with_mysql);
    let url = database.url();
    let table = extra(json!({ "url": url }));
    server.ask(
        "POST",
        "/tables",
        &json!({"sql": format!(
            r#"CREATE TABLE rooms () WITH (TYPE="mysql", DATASOURCE="rooms", KIND="lookup", FORMAT="json", EXTRA="{table}")"#
        )})
        .to_string(),
    );
    let rows =
        extra(json!({"data": [{"id": 1}, {"id": 2}, {"id": 9}, {"id": null}], "interval": "10ms", "loop": false}));
    server.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{rows}")"#));
    let sql = "SELECT demo.id, rooms.name FROM demo LEFT JOIN rooms ON demo.id = rooms.id";
    server.rule("joined", sql, json!({"file": {"path": "seen", "fileType": "lines", "sendSingle": true}}));
    wait_for("four rows", || lines(&server, "seen").len() == 4);
    let names: Vec<Json> = lines(&server, "seen").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, [json!("cellar"), json!("attic"), Json::Null, Json::Null], "{}", server.log());
}

#[test]
fn a_restart_goes_on_behind_the_last_row() {
    let database = Mariadb::start();
    database.sql("CREATE TABLE test.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)");
    let insert =
        |count: usize| database.sql(&format!("INSERT INTO test.t (v) VALUES {}", vec!["(7)"; count].join(", ")));
    let mut server = Kuiper::start(with_mysql);
    let table = extra(json!({
        "url": database.url(), "interval": "20ms", "internalSqlQueryCfg": {"table": "t", "limit": 10, "indexField": "v"},
    }));
    server.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="mysql", FORMAT="json", EXTRA="{table}")"#));
    let rule = json!({
        "id": "copy", "sql": "SELECT id FROM demo",
        "actions": [{"file": {"path": "seen", "fileType": "lines", "sendSingle": true}}],
        "options": {"qos": 1, "checkpointInterval": "100ms"},
    });
    server.ask("POST", "/rules", &rule.to_string());
    let ids = |server: &Kuiper| -> BTreeSet<i64> {
        lines(server, "seen").iter().filter_map(|row| row["id"].as_i64()).collect()
    };
    let upto = |count: i64| (1..=count).collect::<BTreeSet<i64>>();
    insert(55);
    wait_for("the first rows", || ids(&server) == upto(55));
    server.kill();
    insert(45);
    server.again();
    wait_for("the others", || ids(&server) == upto(100));
    // What comes twice after a crash is what came after the last snapshot, and not everything.
    let count = lines(&server, "seen").len();
    assert!((100..155).contains(&count), "{count} rows");
}
