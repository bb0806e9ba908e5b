#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::sql::{self, Statement};

/// The codes of what is found, each with the text that it points at.
fn found(streams: &[&str], rows: &[Json], text: &str) -> Vec<(&'static str, String)> {
    let mut known = Known::default();
    for text in streams {
        match sql::parse(text).unwrap() {
            Statement::Create(create) => known.add_stream(Stream::of(&create)),
            other => panic!("{other}"),
        }
    }
    rows.iter().for_each(|row| known.add_rows(None, row.clone()));
    let select = sql::parse_select(text).unwrap();
    let found = lint(&select, &known);
    assert!(found.iter().all(|one| !one.is_error() && one.span.is_some()));
    let at = |one: &Diagnostic| one.span.map(|span| text[span.start as usize..span.end as usize].to_string());
    found.iter().map(|one| (one.code, at(one).unwrap())).collect()
}

fn finds(text: &str, expected: &[(&'static str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(code, at)| (*code, (*at).to_string())).collect();
    assert_eq!(found(&[], &[], text), expected, "{text}");
}

#[test]
fn a_sound_statement_has_no_findings() {
    for text in [
        "SELECT a, b AS c FROM s WHERE a > 1 AND c IS NULL",
        "SELECT a / 2, a % b, a / (1 + 1), mod(a, 3) FROM s",
        "SELECT id, count(*) AS n FROM s GROUP BY id, TUMBLINGWINDOW(ss, 10) HAVING n > 1 ORDER BY id LIMIT 3",
        "SELECT lag(a) OVER (PARTITION BY id) FROM s WHERE a NOT IN (1, NULL)",
        "SELECT a AS a, s.b AS b FROM s WHERE a > 1",
        "SELECT meta(topic) AS topic, a FROM s",
        "SELECT *, a + 1 AS a FROM s",
        "SELECT unnest(a) FROM s LIMIT 2",
        "SELECT a FROM s GROUP BY SLIDINGWINDOW(ss, 1) OVER (WHEN a > 1)",
        "SELECT a FROM s GROUP BY hour(now()), STATEWINDOW(a > 1) OVER (PARTITION BY id)",
    ] {
        finds(text, &[]);
    }
}

#[test]
fn groups_without_a_bound() {
    finds("SELECT count(*) FROM s GROUP BY newuuid(), TUMBLINGWINDOW(ss, 1)", &[("K0301", "newuuid()")]);
    finds("SELECT now() AS t FROM s GROUP BY a, t, TUMBLINGWINDOW(ss, 1)", &[("K0301", "t")]);
    finds("SELECT lag(a) OVER (PARTITION BY event_time()) FROM s", &[("K0301", "event_time()")]);
    finds("SELECT a FROM s GROUP BY STATEWINDOW(a) OVER (PARTITION BY rand())", &[("K0301", "rand()")]);
    let streams = ["CREATE STREAM s (at DATETIME, id STRING) WITH ()"];
    let text = "SELECT count(*) FROM s GROUP BY id, s.at, TUMBLINGWINDOW(ss, 1)";
    assert_eq!(found(&streams, &[], text), [("K0301", "s.at".to_string())]);
    let rows: Vec<Json> = (0..20).map(|n| json!({"id": n % 3, "message": n, "at": 1})).collect();
    let text = "SELECT count(*) FROM s GROUP BY id, message, TUMBLINGWINDOW(ss, 1)";
    assert_eq!(found(&[], &rows, text), [("K0301", "message".to_string())]);
    assert_eq!(found(&[], &rows[..19], text), []);
}

#[test]
fn columns_that_no_row_has() {
    let rows = [json!({"celsius": 1, "dev": {"name": "a"}}), json!({"celsius": null, "more": 1})];
    let cases: [(&str, &[(&'static str, &str)]); 8] = [
        ("SELECT celsius, more, dev->name, dev.name, s.celsius FROM s", &[]),
        ("SELECT celcius FROM s WHERE celcius > 1", &[("K0302", "celcius")]),
        ("SELECT s.more + s.less AS x FROM s WHERE x > 1", &[("K0302", "s.less")]),
        ("SELECT dev->nam AS n, dev.name.first FROM s", &[("K0302", "dev->nam")]),
        ("SELECT * EXCEPT(celsius, humidity) FROM s", &[("K0302", "humidity")]),
        ("SELECT humid AS humid FROM s", &[("K0302", "humid")]),
        ("SELECT meta(topic) FROM s", &[]),
        ("SELECT count(*) FROM s GROUP BY hall, COUNTWINDOW(2)", &[("K0302", "hall")]),
    ];
    for (text, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(code, at)| (*code, (*at).to_string())).collect();
        assert_eq!(found(&[], &rows, text), expected, "{text}");
    }
    let select = sql::parse_select("SELECT celcius FROM s").unwrap();
    let mut known = Known::default();
    known.add_rows(Some("other"), json!({"a": 1}));
    assert_eq!(lint(&select, &known), [], "nothing is known of `s`");
    known.add_rows(Some("s"), json!({"celsius": 1}));
    let found = lint(&select, &known);
    assert_eq!(found[0].help.as_deref(), Some("did you mean `celsius`?"));
}

#[test]
fn divisions_by_zero() {
    finds(
        "SELECT a / 0, a % 0.0, a / (1 - 1), mod(a, -0) FROM s",
        &[("K0303", "0"), ("K0303", "0.0"), ("K0303", "(1 - 1)"), ("K0303", "-0")],
    );
    finds("SELECT 0 AS z, a / z AS q FROM s", &[("K0303", "z")]);
}

#[test]
fn comparisons_with_null() {
    finds("SELECT a FROM s WHERE a = NULL", &[("K0304", "a = NULL")]);
    finds("SELECT a FROM s WHERE NOT (NULL != a) OR b < (NULL)", &[("K0304", "NULL != a"), ("K0304", "b < (NULL)")]);
    finds(
        "SELECT a BETWEEN 1 AND NULL, b IN (NULL), c LIKE NULL FROM s",
        &[("K0304", "a BETWEEN 1 AND NULL"), ("K0304", "b IN (NULL)"), ("K0304", "c LIKE NULL")],
    );
    finds("SELECT a + NULL, CASE b WHEN NULL THEN 1 END FROM s", &[("K0304", "a + NULL"), ("K0304", "NULL")]);
    finds("SELECT NULL AS n FROM s WHERE a = n", &[("K0304", "a = n")]);
    finds("SELECT ss FROM s", &[("K0306", "ss")]);
    finds("SELECT count(*) AS n FROM s GROUP BY TUMBLINWINDOW(ss, 10)", &[]);
    finds("SELECT a FROM s GROUP BY abs(a, ss), TUMBLINGWINDOW(ss, 10)", &[("K0306", "ss")]);
    let select = sql::parse_select("SELECT a FROM s WHERE a != NULL").unwrap();
    let found = lint(&select, &Known::default());
    assert_eq!(found[0].help.as_deref(), Some("write `a IS NOT NULL`"));
}

#[test]
fn aliases_that_hide_columns() {
    finds("SELECT a + 1 AS a FROM s WHERE a > 2", &[("K0305", "a")]);
    finds("SELECT a + 1 AS a FROM s", &[("K0305", "a")]);
    finds("SELECT *, a + 1 AS a FROM s WHERE a > 2", &[("K0305", "a")]);
    finds("SELECT b AS a FROM s", &[]);
    let text = "SELECT b AS a FROM s";
    let streams = ["CREATE STREAM s (a BIGINT, b BIGINT) WITH ()"];
    assert_eq!(found(&streams, &[], text), [("K0305", "a".to_string())]);
    assert_eq!(found(&[], &[json!({"a": 1, "b": 2})], text), [("K0305", "a".to_string())]);
}

#[test]
fn streams_that_are_nearly_known() {
    let streams = ["CREATE STREAM pump () WITH ()", "CREATE STREAM door () WITH ()"];
    assert_eq!(
        found(&streams, &[], "SELECT a FROM pumps CROSS JOIN dooor"),
        [("K0308", "pumps".to_string()), ("K0308", "dooor".to_string()),]
    );
    assert_eq!(found(&streams, &[], "SELECT a FROM pump CROSS JOIN window"), []);
}

#[test]
fn clauses_without_effect() {
    finds("SELECT a FROM s ORDER BY a DESC LIMIT 5", &[("K0307", "a"), ("K0307", "LIMIT 5")]);
    finds("SELECT a FROM s GROUP BY COUNTWINDOW(5) OVER (WHEN a PARTITION BY b)", &[("K0307", "a"), ("K0307", "b")]);
}
