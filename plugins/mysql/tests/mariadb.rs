//! The sink against a real MariaDB, which the tests start: `mariadbd` and `mariadb-install-db` must be installed.

#[path = "served/mariadb.rs"]
mod served;

use std::time::{Duration, Instant};

use kuiper_plugin::testing::{json, Host, SinkTest};
use kuiper_plugin::{Owned, Record, Time};

use served::{shared, Server};

fn sink<'h>(host: &'h Host, server: &Server, database: &str, more: &str) -> SinkTest<'h> {
    let sink = host.sink("Mysql").unwrap();
    let url = format!("root@tcp(127.0.0.1:{})/{database}", server.port);
    sink.provision(json(&format!("{{'url': '{url}', 'table': 't'{more}}}"))).unwrap();
    sink.connect().unwrap();
    sink
}

fn row(text: &str) -> Owned {
    json(text)
}

#[test]
fn every_kind_of_value() {
    let server = shared();
    server.database(
        "kinds",
        &["CREATE TABLE t (id BIGINT, b BOOLEAN, f DOUBLE, s VARCHAR(100), x VARBINARY(10), at DATETIME(6), ts TIMESTAMP(3) NULL, d DATE, j JSON)"],
    );
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, server, "kinds", "");
    let at = Time { nanos: 1_709_975_472_123_456_000, offset: 3_600 };
    let all = Record::new()
        .with("ID", i64::MIN)
        .with("b", true)
        .with("f", 0.1)
        .with("s", "naïve 温度 😀 'quoted\" \\ `; DROP TABLE t; --")
        .with("x", vec![0u8, 255, 39])
        .with("at", at)
        .with("ts", "2024-03-09T10:11:12.5+01:00")
        .with("d", at)
        .with("j", Record::new().with("k", vec![Owned::Int(1), Owned::Null]));
    sink.collect(&[Owned::Object(all), row("{'id': 9223372036854775807, 'b': null, 's': ''}")]).unwrap();
    assert_eq!(
        server.sql("kinds", &["SET time_zone = '+00:00'", "SELECT * FROM t ORDER BY id"]),
        [
            "'-9223372036854775808' '1' '0.1' 'naïve 温度 😀 ''quoted\" \\ `; DROP TABLE t; --' 0x00FF27 \
             '2024-03-09 09:11:12.123456' '2024-03-09 09:11:12.500' '2024-03-09' '{\"k\":[1,null]}'",
            "'9223372036854775807' NULL NULL '' NULL NULL NULL NULL NULL",
        ]
    );
}

#[test]
fn keys_of_a_message_cannot_alter_a_statement() {
    let server = shared();
    server.database("names", &["CREATE TABLE t (id INT, `odd ``name``, x` INT)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, server, "names", "");
    sink.collect(&[row("{'id': 1, 'odd `name`, x': 2}")]).unwrap();
    let refused = sink.collect(&[row("{'id': 1, 'id`) VALUES (7); -- ': 2}")]).unwrap_err();
    assert_eq!(refused.to_string(), "table `t` has no column `id`) VALUES (7); -- `");
    assert!(!refused.is_later());
    let refused = sink.collect(&[row("{'ids': 1}")]).unwrap_err();
    assert_eq!(refused.to_string(), "table `t` has no column `ids`; did you mean `id`?");
    assert_eq!(server.sql("names", &["SELECT * FROM t"]), ["'1' '2'"]);
}

#[test]
fn a_window_is_one_transaction_and_no_row_loses_a_column() {
    let server = shared();
    server.database(
        "window",
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT CHECK (b < 100))",
            "CREATE TABLE seen (within INT)",
            "CREATE TRIGGER seen BEFORE INSERT ON t FOR EACH ROW INSERT INTO seen SELECT @@in_transaction",
        ],
    );
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, server, "window", "");
    let rows = ["{'id': 1, 'a': 1}", "{'id': 2, 'b': 2}", "{'a': 3, 'id': 3}", "{'id': 4, 'a': 4, 'b': 4}"].map(row);
    assert_eq!(sink.collect_list(&rows).unwrap(), []);
    assert_eq!(
        server.sql("window", &["SELECT * FROM t ORDER BY id"]),
        ["'1' '1' NULL", "'2' NULL '2'", "'3' '3' NULL", "'4' '4' '4'"]
    );
    // Three statements, none of which was committed by itself.
    assert_eq!(server.sql("window", &["SELECT MIN(within), COUNT(*) FROM seen"]), ["'1' '4'"]);

    // The rows that the table refuses are told one by one, the others are written.
    let rows =
        ["{'id': 5}", "{'id': 1}", "{'id': 6, 'b': 100}", "{'id': 'x'}", "{'id': 7, 'nope': 1}", "{'id': 8}"].map(row);
    let refused = sink.collect_list(&rows).unwrap();
    assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [4, 1, 2, 3]);
    assert!(refused[1].1.contains("Duplicate entry '1'"), "{refused:?}");
    assert_eq!(server.sql("window", &["SELECT id FROM t WHERE id > 4 ORDER BY id"]), ["'5'", "'8'"]);
}

#[test]
fn single_rows_stop_at_the_one_that_is_refused() {
    let server = shared();
    server.database("single", &["CREATE TABLE t (id INT PRIMARY KEY)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, server, "single", "");
    sink.collect(&["{'id': 1}", "{'id': 2}"].map(row)).unwrap();
    let refused = sink.collect(&["{'id': 3}", "{'id': 2}", "{'id': 4}"].map(row)).unwrap_err();
    assert!(!refused.is_later(), "{refused}");
    assert_eq!(server.sql("single", &["SELECT id FROM t ORDER BY id"]), ["'1'", "'2'", "'3'"]);
}

#[test]
fn large_windows_are_split_by_the_limits_of_the_server() {
    let server = shared();
    server.database("large", &["CREATE TABLE t (id INT PRIMARY KEY, a INT, s TEXT)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, server, "large", "");
    let rows: Vec<Owned> = (0..50_000).map(|id| Owned::Object(Record::new().with("id", id).with("a", 1))).collect();
    assert_eq!(sink.collect_list(&rows).unwrap(), []);
    let text = "x".repeat(10_000);
    let rows: Vec<Owned> =
        (50_000..50_300).map(|id| Owned::Object(Record::new().with("id", id).with("s", text.as_str()))).collect();
    assert_eq!(sink.collect_list(&rows).unwrap(), []);
    assert_eq!(server.sql("large", &["SELECT COUNT(*), SUM(a), SUM(LENGTH(s)) FROM t"]), ["'50300' '50000' '3000000'"]);
}

#[test]
fn kinds_of_rows_and_keys() {
    let server = shared();
    server.database("rowkind", &["CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, server, "rowkind", ", 'rowKindField': 'do', 'keyField': 'id'");
    let rows = [
        "{'id': 1, 'a': 1}",
        "{'id': 2, 'a': 1, 'do': 'insert'}",
        "{'id': 3, 'a': 1, 'do': 'insert'}",
        "{'id': 1, 'b': 2, 'do': 'update'}",
        "{'id': 2, 'do': 'delete'}",
        "{'id': 3, 'a': 9, 'do': 'upsert'}",
        "{'id': 4, 'a': 9, 'do': 'merge'}",
        "{'a': 9, 'do': 'delete'}",
    ]
    .map(row);
    for _ in 0..2 {
        let refused = sink.collect_list(&rows).unwrap();
        assert_eq!(
            refused,
            [
                (6, "`do` must be `insert`, `update`, `delete` or `upsert`, found \"merge\"".to_owned()),
                (7, "the row has no `id`, which `keyField` names".to_owned()),
            ]
        );
        assert_eq!(server.sql("rowkind", &["SELECT * FROM t ORDER BY id"]), ["'1' '1' '2'", "'3' '9' NULL"]);
    }
}

#[test]
fn fields_choose_columns_and_a_new_column_is_found() {
    let server = shared();
    server.database("fields", &["CREATE TABLE t (id INT, a INT)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let chosen = sink(&host, server, "fields", ", 'fields': ['a', 'id']");
    chosen.collect(&[row("{'id': 1, 'zzz': 5}")]).unwrap();
    let all = sink(&host, server, "fields", "");
    assert!(all.collect(&[row("{'id': 2, 'late': 5}")]).is_err());
    server.sql("fields", &["ALTER TABLE t ADD late INT"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while all.collect(&[row("{'id': 2, 'late': 5}")]).is_err() {
        assert!(Instant::now() < deadline, "the new column is not found");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.sql("fields", &["SELECT * FROM t ORDER BY id"]), ["'1' NULL NULL", "'2' NULL '5'"]);
}

#[test]
fn what_is_wrong_from_the_start_is_final() {
    let server = shared();
    server.database("wrong", &["CREATE TABLE t (id INT)", "CREATE USER someone IDENTIFIED BY 'secret'"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let told = |login: &str, more: &str| {
        let sink = host.sink("Mysql").unwrap();
        let url = format!("{login}@tcp(127.0.0.1:{})/wrong", server.port);
        sink.provision(json(&format!("{{'url': '{url}'{more}}}"))).unwrap();
        let error = sink.connect().unwrap_err();
        assert!(!error.is_later(), "{error}");
        error.to_string()
    };
    assert!(told("someone:other", ", 'table': 't'").contains("Access denied for user 'someone'"));
    assert!(told("root", ", 'table': 'nope'").ends_with("there is no table `nope` that this user may see"));
    assert_eq!(told("root", ", 'table': 't', 'fields': ['idd']"), "table `t` has no column `idd`; did you mean `id`?");
}

#[test]
fn over_the_socket_and_with_another_database() {
    let server = shared();
    server.database("socket", &["CREATE TABLE t (id INT)"]);
    server.database("elsewhere", &[]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    for (id, url) in [
        (1, format!("root@unix({})/elsewhere", server.socket())),
        (2, format!("mysql://root@localhost/elsewhere?socket={}", server.socket())),
    ] {
        let sink = host.sink("Mysql").unwrap();
        sink.provision(json(&format!("{{'url': '{url}', 'table': 'socket.t'}}"))).unwrap();
        sink.connect().unwrap();
        sink.collect(&[row(&format!("{{'id': {id}}}"))]).unwrap();
    }
    assert_eq!(server.sql("socket", &["SELECT id FROM t ORDER BY id"]), ["'1'", "'2'"]);
}

#[test]
fn an_outage_loses_nothing() {
    let mut server = Server::start();
    server.database("outage", &["CREATE TABLE t (id INT PRIMARY KEY)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let sink = sink(&host, &server, "outage", ", 'keyField': 'id'");
    sink.collect(&[row("{'id': 1}")]).unwrap();
    server.kill();
    for collected in [sink.collect(&[row("{'id': 2}")]), sink.collect_list(&[row("{'id': 3}")]).map(|_| ())] {
        let error = collected.unwrap_err();
        assert!(error.is_later(), "{error}");
    }
    assert_eq!(host.statuses().last().map(|status| status.0), Some(0));
    server.up();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = sink.collect(&[row("{'id': 2}")]) {
        assert!(error.is_later() && Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(sink.collect_list(&[row("{'id': 3}")]).unwrap(), []);
    assert_eq!(host.statuses().last().map(|status| status.0), Some(2));
    sink.close().unwrap();
    assert_eq!(server.sql("outage", &["SELECT id FROM t ORDER BY id"]), ["'1'", "'2'", "'3'"]);
}
