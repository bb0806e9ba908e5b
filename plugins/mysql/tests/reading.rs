//! Source and lookup against a real MariaDB.

#[path = "served/mariadb.rs"]
#[allow(dead_code)]
mod served;

use std::net::TcpListener;

use kuiper_plugin::testing::{json, Host, LookupTest, SourceTest};
use kuiper_plugin::{Owned, Record};

use served::{shared, Server};

fn url(server: &Server, database: &str) -> String {
    format!("root@tcp(127.0.0.1:{})/{database}", server.port)
}

fn source<'h>(host: &'h Host, server: &Server, database: &str, query: &str) -> SourceTest<'h> {
    let source = host.source("Mysql").unwrap();
    source.provision(json(&format!("{{'url': '{}', {query}}}", url(server, database)))).unwrap();
    source.connect().unwrap();
    source
}

fn lookup<'h>(host: &'h Host, server: &Server, database: &str) -> LookupTest<'h> {
    let lookup = host.lookup("Mysql").unwrap();
    lookup.provision(json(&format!("{{'dburl': '{}', 'datasource': 't'}}", url(server, database)))).unwrap();
    lookup.connect().unwrap();
    lookup
}

/// A column of what was emitted since so many rows.
fn column(source: &SourceTest<'_>, name: &str, from: usize) -> Vec<String> {
    source.rows()[from..].iter().map(|row| row.get(name).unwrap().to_string()).collect()
}

#[test]
fn values_of_every_type_are_read() {
    let server = shared();
    server.database(
        "types",
        &[
            "CREATE TABLE t (i BIGINT, u BIGINT UNSIGNED, b BOOLEAN, f FLOAT, d DOUBLE, n DECIMAL(10,2), s VARCHAR(50), x VARBINARY(5), \
             at DATETIME(6), ts TIMESTAMP(3) NULL, day DATE, hour TIME(3), j JSON, nil INT, none DATE)",
            "SET sql_mode = ''",
            "SET time_zone = '+00:00'",
            "INSERT INTO t VALUES (-9223372036854775808, 18446744073709551615, 1, 0.5, 0.1, 12.30, 'naïve 温度', 0x00FF, \
             '2024-03-09 10:11:12.123456', '2024-03-09 10:11:12.5', '2024-03-09', '-27:00:01.5', '{\"k\":1}', NULL, '0000-00-00')",
        ],
    );
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let source = source(&host, server, "types", "'internalSqlQueryCfg': {'table': 't'}");
    source.pull(0).unwrap();
    let expected = "{\"i\":-9223372036854775808,\"u\":18446744073709552000,\"b\":1,\"f\":0.5,\"d\":0.1,\"n\":12.3,\"s\":\"naïve 温度\",\
                    \"x\":\"AP8=\",\"at\":\"2024-03-09T10:11:12.123456Z\",\"ts\":\"2024-03-09T10:11:12.500Z\",\
                    \"day\":\"2024-03-09T00:00:00Z\",\"hour\":\"-27:00:01.500000\",\"j\":\"{\\\"k\\\":1}\",\"nil\":null,\"none\":null}";
    assert_eq!(Owned::Object(source.rows()[0].clone()).to_string(), expected);
    // What is not tracked comes each time.
    source.pull(0).unwrap();
    assert_eq!((source.rows().len(), source.positions()), (2, Vec::new()));
}

#[test]
fn new_rows_come_once_also_where_a_limit_falls_among_equal_ones() {
    let server = shared();
    server.database(
        "tracked",
        &[
            "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, at DATETIME)",
            "INSERT INTO t (at) VALUES ('2024-01-01'), ('2024-01-02'), ('2024-01-02'), ('2024-01-02'), ('2024-01-03')",
        ],
    );
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let query = "'internalSqlQueryCfg': {'table': 'tracked.t', 'limit': 2, 'indexField': 'at', 'indexFieldType': 'DATETIME', 'indexValue': '2024-01-01 12:00:00'}";
    let first = source(&host, server, "tracked", query);
    (0..3).for_each(|_| first.pull(0).unwrap());
    assert_eq!(column(&first, "id", 0), ["2", "3", "4", "5"]);
    server.sql("tracked", &["INSERT INTO t (at) VALUES ('2024-01-03'), ('2024-01-01')"]);
    first.pull(0).unwrap();
    assert_eq!(column(&first, "id", 4), ["6"]);
    let positions = first.positions();
    assert_eq!(positions.last().unwrap().to_string(), "{\"at\":\"2024-01-03T00:00:00Z\",\"id\":6}");
    first.close().unwrap();

    // Another instance goes on behind a position, also one that a user wrote.
    for (position, expected) in
        [(positions[0].clone(), ["4", "5"]), (json("{'at': '2024-01-02 00:00:00'}"), ["5", "6"])]
    {
        let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
        let again = source(&host, server, "tracked", query);
        again.rewind(position).unwrap();
        again.pull(0).unwrap();
        assert_eq!(column(&again, "id", 0), expected);
    }
    let other = source(&host, server, "tracked", query);
    let refused = other.rewind(json("{'number': 1}")).unwrap_err().to_string();
    assert_eq!(refused, "the position names no `at`, `id`: {\"number\":1}");
}

#[test]
fn a_table_without_a_primary_key_is_warned_of() {
    let server = shared();
    server.database("keyless", &["CREATE TABLE t (n INT)", "INSERT INTO t VALUES (3), (1), (2)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let source =
        source(&host, server, "keyless", "'internalSqlQueryCfg': {'table': 't', 'indexFields': [{'indexField': 'n'}]}");
    source.pull(0).unwrap();
    source.pull(0).unwrap();
    assert_eq!(column(&source, "n", 0), ["1", "2", "3"]);
    let told = "table `t` has no primary key: of rows that share the value of `n` those that come later are not seen";
    assert_eq!(host.log(), [told]);
}

#[test]
fn what_cannot_be_asked_is_final_and_a_server_that_is_away_is_not() {
    let server = shared();
    server.database("wrongs", &["CREATE TABLE t (n INT)"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    for (query, told) in [
        ("'templateSqlQueryCfg': {'templateSql': 'SELEC 1'}", "You have an error in your SQL syntax"),
        ("'internalSqlQueryCfg': {'table': 'nowhere'}", "doesn't exist"),
        ("'internalSqlQueryCfg': {'table': 't', 'indexField': 'm'}", "Unknown column 'm'"),
    ] {
        let refused = source(&host, server, "wrongs", query).pull(0).unwrap_err();
        assert!(!refused.is_later() && refused.to_string().contains(told), "{refused}");
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = host.source("Mysql").unwrap();
    let url = format!("{{'url': 'u@tcp(127.0.0.1:{free})/d', 'internalSqlQueryCfg': {{'table': 't'}}}}");
    away.provision(json(&url)).unwrap();
    let error = away.connect().unwrap_err();
    assert!(error.is_later() && error.to_string().ends_with("Connection refused"), "{error}");
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let mut server = Server::start();
    server
        .database("broken", &["CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(9))", "INSERT INTO t VALUES (1, 'a')"]);
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let source = source(&host, &server, "broken", "'internalSqlQueryCfg': {'table': 't', 'indexField': 'id'}");
    let lookup = lookup(&host, &server, "broken");
    source.pull(0).unwrap();
    server.kill();
    let (lost, unfound) = (source.pull(0).unwrap_err(), lookup.find(&[json("{'id': 1}")], &[]).unwrap_err());
    assert!(lost.is_later() && unfound.is_later(), "{lost}, {unfound}");
    server.up();
    server.sql("broken", &["INSERT INTO t VALUES (2, 'b')"]);
    source.pull(0).unwrap();
    assert_eq!(column(&source, "id", 0), ["1", "2"]);
    assert_eq!(lookup.find(&[json("{'id': 2}")], &["name"]).unwrap().rows[0], [Record::new().with("name", "b")]);
}

#[test]
fn questions_are_answered_as_the_server_compares() {
    let server = shared();
    let rows: Vec<String> = (0..200).map(|n| format!("({n}, 'name {}', {})", n % 7, n % 2)).collect();
    server.database(
        "asked",
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20), odd INT, KEY (name))",
            &format!("INSERT INTO t VALUES {}", rows.join(", ")),
            "INSERT INTO t VALUES (1000, 'UPPER', NULL)",
        ],
    );
    let host = Host::load(kuiper_mysql::kuiper_plugin_v1);
    let lookup = lookup(&host, server, "asked");
    // More questions than one statement has parts, some of them twice, some without an answer.
    let questions: Vec<Owned> = (0..171).map(|n| json(&format!("{{'id': {}}}", n * 2 % 300))).collect();
    let found = lookup.find(&questions, &["id", "odd"]).unwrap();
    for (question, rows) in questions.iter().zip(&found.rows) {
        let Owned::Object(asked) = question else { panic!("{question}") };
        let Some(Owned::Int(id)) = asked.get("id") else { panic!("{question}") };
        let expected: Vec<Record> =
            (*id < 200).then(|| Record::new().with("id", *id).with("odd", *id % 2)).into_iter().collect();
        assert_eq!(rows, &expected, "{question}");
    }
    // Upper and lower case are one to this column: a row may answer two questions of a statement.
    let questions =
        ["{'name': 'upper'}", "{'name': 'UPPER'}", "{'name': 'x\\'; DROP TABLE t; --'}", "{'name': 'Name 3'}"]
            .map(json);
    let found = lookup.find(&questions, &[]).unwrap().rows;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0, 29]);
    assert_eq!(Owned::Object(found[0][0].clone()).to_string(), "{\"id\":1000,\"name\":\"UPPER\",\"odd\":null}");
    let found = lookup.find(&[json("{'name': 'name 3', 'odd': 1}")], &["id"]).unwrap().rows;
    assert_eq!(found[0].len(), 15);
    let refused = lookup.find(&[json("{'nam': 1}")], &[]).unwrap_err();
    assert!(!refused.is_later() && refused.to_string().contains("Unknown column 't.nam'"), "{refused}");
    lookup.close().unwrap();
}
