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

#[test]
fn a_template_says_what_a_stream_reads_and_where_it_goes_on() {
    let database = Mariadb::start();
    database.sql("CREATE TABLE test.t (id INT AUTO_INCREMENT PRIMARY KEY, at DATETIME(3), name VARCHAR(20))");
    let insert = |from: usize, to: usize| {
        let row = |n: usize| {
            format!("('2024-03-09 10:00:{:02}.{:03}', '{}''s')", n / 10, n % 10 * 100, (b'a' + n as u8 / 2) as char)
        };
        database.sql(&format!(
            "INSERT INTO test.t (at, name) VALUES {}",
            (from..to).map(row).collect::<Vec<_>>().join(", ")
        ));
    };
    insert(0, 23);
    let server = Kuiper::start(with_mysql);
    let read = |name: &str, template: &str, column: Json| {
        let table = extra(json!({
            "url": database.url(), "interval": "20ms",
            "templateSqlQueryCfg": {"templateSql": template, "indexFields": [column]},
        }));
        server.stream(&format!(r#"CREATE STREAM {name} () WITH (TYPE="mysql", FORMAT="json", EXTRA="{table}")"#));
        let file = json!({"file": {"path": name, "fileType": "lines", "sendSingle": true}});
        server.rule(name, &format!("SELECT id FROM {name}"), file);
    };
    let number = json!({"indexField": "id", "indexValue": 3});
    read("numbers", "SELECT * FROM t WHERE id > {{.id}} ORDER BY id LIMIT 4", number);
    let time = json!({
        "indexField": "at", "indexValue": "2024-03-09 10:00:00.900", "indexFieldType": "DATETIME",
        "dateTimeFormat": "YYYY-MM-dd HH:mm:ss.SSS",
    });
    read("times", "SELECT * FROM t WHERE at > '{{.at}}' ORDER BY at LIMIT 4", time);
    // What a text holds stays within its quotes.
    let text = json!({"indexField": "name", "indexValue": "0"});
    read(
        "texts",
        "SELECT MAX(id) AS id, name FROM t WHERE name > '{{.name}}' GROUP BY name ORDER BY name LIMIT 2",
        text,
    );
    let ids = |name: &str| -> Vec<i64> { lines(&server, name).iter().map(|row| row["id"].as_i64().unwrap()).collect() };
    let come = |name: &str, expected: Vec<i64>| {
        let told = || format!("{name}: {:?}\n{}", ids(name), server.log());
        wait_for(&format!("rows of {name}: {:?}", expected.len()), || ids(name).len() >= expected.len());
        assert_eq!(ids(name), expected, "{}", told());
    };
    come("numbers", (4..=23).collect());
    come("times", (11..=23).collect());
    come("texts", (1..=11).map(|pair| pair * 2).chain([23]).collect());
    insert(24, 30);
    come("numbers", (4..=29).collect());
    come("times", (11..=29).collect());
    come("texts", (1..=11).map(|pair| pair * 2).chain([23, 25, 27, 29]).collect());
}

#[test]
fn a_template_says_what_rows_of_a_stream_find() {
    let database = Mariadb::start();
    database.sql("CREATE TABLE test.rooms (id INT PRIMARY KEY, name VARCHAR(20), floor INT)");
    database.sql("INSERT INTO test.rooms VALUES (1, 'cellar', -1), (2, 'attic', 3), (3, 'maid\\'s', 3)");
    let server = Kuiper::start(with_mysql);
    let table = |name: &str, template: &str| {
        let properties = extra(json!({"url": database.url(), "templateSqlQueryCfg": {"templateSql": template}}));
        let sql = format!(
            r#"CREATE TABLE {name} () WITH (TYPE="mysql", KIND="lookup", FORMAT="json", EXTRA="{properties}")"#
        );
        json!({ "sql": sql }).to_string()
    };
    server.ask(
        "POST",
        "/tables",
        &table("byid", "SELECT id, CONCAT(name, '!') AS loud FROM rooms WHERE id = {{.id}} AND floor > 0"),
    );
    server.ask("POST", "/tables", &table("byname", "SELECT name, floor FROM rooms WHERE name = '{{.name}}'"));
    let told = server.refused("POST", "/tables", &table("wrong", ""));
    assert!(told.contains("property `templateSqlQueryCfg`: `templateSql` is missing"), "{told}");
    let rows = json!([
        {"id": 1, "name": "cellar"}, {"id": 2, "name": "maid's"}, {"id": 3, "name": "x' OR '1'='1"}, {"id": null, "name": null},
    ]);
    let rows = extra(json!({"data": rows, "interval": "10ms", "loop": false}));
    server.stream(&format!(r#"CREATE STREAM demo () WITH (TYPE="simulator", FORMAT="json", EXTRA="{rows}")"#));
    for (rule, sql) in [
        ("ids", "SELECT demo.id, byid.loud AS found FROM demo LEFT JOIN byid ON demo.id = byid.id"),
        ("names", "SELECT demo.id, byname.floor AS found FROM demo LEFT JOIN byname ON demo.name = byname.name"),
    ] {
        server.rule(rule, sql, json!({"file": {"path": rule, "fileType": "lines", "sendSingle": true}}));
    }
    let found = |rule: &str| -> Vec<Json> {
        wait_for("four rows", || lines(&server, rule).len() == 4);
        lines(&server, rule).iter().map(|row| row["found"].clone()).collect()
    };
    assert_eq!(found("ids"), [Json::Null, json!("attic!"), json!("maid's!"), Json::Null], "{}", server.log());
    assert_eq!(found("names"), [json!(-1), json!(3), Json::Null, Json::Null], "{}", server.log());
}
