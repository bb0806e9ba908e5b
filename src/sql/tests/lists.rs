/// Statements that must parse; what is printed must give the same tree, and print the same again.
pub const ACCEPT: &str = r##"
SELECT a FROM demo
select A from Demo
SELECT a FROM demo;
SELECT a FROM demo ; ;
SELECT * FROM demo
SELECT *, a + 1 AS b FROM demo
SELECT a, * FROM demo
SELECT demo.* FROM demo
SELECT a AS b, c AS d INVISIBLE, e INVISIBLE FROM demo
SELECT * EXCEPT(a, b) FROM demo
SELECT * EXCEPT(a b) FROM demo
SELECT * EXCEPT() FROM demo
SELECT * REPLACE(a + 1 AS a, b AS c) FROM demo
SELECT * EXCEPT(a) REPLACE(b * 2 AS b) EXCEPT(c) FROM demo
SELECT count(*), collect(* EXCEPT(a)) FROM demo GROUP BY COUNTWINDOW(3)
SELECT a FROM topic/sensor1
SELECT a FROM /a/+/#
SELECT a FROM a/+
SELECT a FROM a / b
SELECT a FROM `a.b-c`
SELECT a FROM demo AS d
SELECT a FROM demo d
SELECT d.a FROM topic/x AS d WHERE d.a > 1
SELECT a FROM `demo
SELECT a FROM demo -- the end
SELECT a -- a comment, it's one
FROM demo
SELECT /* one ' */ a /* two */ FROM/**/demo
SELECT `a.b`, `on`, `ü`, `` FROM demo
SELECT null, NULL, `null` FROM demo
SELECT is, distinct, outer, stream, create, with, type FROM demo
SELECT a AS null, b AS is, c AS distinct FROM demo
SELECT "double", 'single', "it's", 'say "x"' FROM demo
SELECT "a\tb\n\"\\", 'it\'s', "\x41\u00e9\101" FROM demo
SELECT 1, 12.5, .5, 5., 1e3, 1.5E-7, 99999999999999999999 FROM demo
SELECT -1, - 1, -1.5, -.5, -99999999999999999999 FROM demo
SELECT TRUE, false, True FROM demo
SELECT ss, DD, hh, mi, ms FROM demo
SELECT a -1, a - -1, a--1, a - - 1 FROM demo
SELECT 2 - -1 FROM demo
SELECT -a, - -a, -(1), -a * b, -a.b, -f(x), a - -b FROM demo
SELECT a + b - c * d / e % f & g | h ^ i FROM demo
SELECT a FROM demo WHERE a = 1
SELECT a FROM demo WHERE a != 1 AND b <> 2 OR c < 3 AND d <= 4
SELECT a FROM demo WHERE a < = 1 OR b > = 2 OR c ! = 3
SELECT a FROM demo WHERE (a > 1 AND b < 2) OR NOT c
SELECT a FROM demo WHERE NOT NOT a AND NOT a = b
SELECT a FROM demo WHERE NOT (a AND b)
SELECT a FROM demo WHERE a < b = c
SELECT a FROM demo WHERE a IS NULL AND b IS NOT NULL
SELECT a FROM demo WHERE a + 1 IS NULL = TRUE
SELECT a IS NULL AS x FROM demo
SELECT a FROM demo WHERE is IS NULL
SELECT a FROM demo WHERE a BETWEEN 1 AND 3
SELECT a FROM demo WHERE a NOT BETWEEN 1 AND 3 AND b = 2
SELECT a FROM demo WHERE a BETWEEN b + 1 AND c * 2 OR d
SELECT a FROM demo WHERE a BETWEEN s->x AND t[0]
SELECT a FROM demo WHERE a + 1 BETWEEN -1 AND f(b)
SELECT a FROM demo WHERE a BETWEEN 1 AND 2 = TRUE
SELECT a FROM demo WHERE a IN (1, 2, 3)
SELECT a FROM demo WHERE a NOT IN ("x", b, c + 1)
SELECT a FROM demo WHERE a IN b
SELECT a FROM demo WHERE a NOT IN s->list AND c
SELECT a FROM demo WHERE a IN (b)
SELECT a IN array_create(1, 2) FROM demo
SELECT a FROM demo WHERE a LIKE "x%"
SELECT a FROM demo WHERE a NOT LIKE '_(' AND b LIKE c
SELECT a FROM demo WHERE a LIKE concat(b, "%")
SELECT CASE a WHEN 1 THEN "x" WHEN 2 THEN "y" ELSE "z" END FROM demo
SELECT CASE WHEN a > 1 THEN "x" END AS c FROM demo
SELECT CASE WHEN a THEN 1 WHEN (b > 2) THEN 2 WHEN isnull(c) THEN 3 WHEN NOT d THEN 4 END FROM demo
SELECT CASE WHEN TRUE THEN 1 ELSE 2 WHEN FALSE THEN 3 END FROM demo
SELECT CASE CASE WHEN a > 1 THEN 1 END WHEN 1 THEN CASE b WHEN 1 THEN 2 END END FROM demo
SELECT CASE a + 1 WHEN 2 THEN 3 END + 1 FROM demo
SELECT CASE WHEN a IN (1) THEN 1 WHEN a LIKE "x" THEN 2 WHEN a BETWEEN 1 AND 2 THEN 3 END FROM demo
SELECT a.b, a.b.c, a->b, a->b->c, a.b->c.d FROM demo
SELECT a . b, a -> b FROM demo
SELECT `a`.`b c`->`d` FROM demo
SELECT a[0], a[-1], a[b + 1], a[(1 + b)], a[1][2] FROM demo
SELECT a[], a[:], a[1:], a[:2], a[1:2], a[-2:-1], a[b:c], a[b:] FROM demo
SELECT a->b[0].c, a[0]->b[1:2]->c, f(a)[0], f(a).b, (a).b FROM demo
SELECT 2 * a[0], 2 * s->x, 2 * s.y.z, -a[0] FROM demo
SELECT dev.axes[0].n AS a0, dev->axes[-1]->v AS last, dev->axes[0]->v[1:3] AS mid FROM pump
SELECT meta(topic), meta(a.b), meta(h->q), meta(*), mqtt(topic) FROM demo
SELECT upper(a), lower(upper(b)), now(), f(a, b,), `abs`(c) FROM demo
SELECT count(DISTINCT a), sum(distinct a + 1), count(distinct (a)), count(DISTINCT f(a)) FROM demo
SELECT count(distinct), count(distinct + 1), count(distinct.a), count(distinct, a), count(distinct IS NULL) FROM demo
SELECT count(DISTINCT is), count(DISTINCT CASE a WHEN 1 THEN 2 END) FROM demo
SELECT lag(a) OVER (PARTITION BY b), lag(a, 1, 0) OVER (WHEN c > 1) FROM demo
SELECT lag(a) OVER (PARTITION BY b, c WHEN d) AS x FROM demo
SELECT row_number() OVER (PARTITION BY a ORDER BY b DESC, c) FROM demo GROUP BY COUNTWINDOW(2)
SELECT row_number() OVER (ORDER BY a) + 1 AS n FROM demo
SELECT had_changed(true, *) FROM demo
SELECT changed_cols("c_", true, *) FROM demo
SELECT unnest(a) FROM demo
SELECT dedup_trigger(a, b, now, 100) FROM demo
SELECT TUMBLINGWINDOW(ss, 1) FROM demo
SELECT a FROM demo WHERE COUNTWINDOW(2) FILTER (WHERE a) OVER ()
SELECT avg(a) FROM demo GROUP BY TUMBLINGWINDOW(ss, 10)
SELECT avg(a) FROM demo GROUP BY b, tumblingwindow(DD, 1), c
SELECT a FROM demo GROUP BY HOPPINGWINDOW(mi, 2, 5)
SELECT a FROM demo GROUP BY SLIDINGWINDOW(hh, 1)
SELECT a FROM demo GROUP BY SLIDINGWINDOW(ms, 100, 50) OVER (WHEN a > 1)
SELECT a FROM demo GROUP BY SLIDINGWINDOW(ss, 1) FILTER (WHERE b) OVER (WHEN a > 1 PARTITION BY c, d)
SELECT a FROM demo GROUP BY SESSIONWINDOW(ss, 10, 3)
SELECT a FROM demo GROUP BY COUNTWINDOW(5)
SELECT a FROM demo GROUP BY COUNTWINDOW(5, 2) FILTER (WHERE a > 1 AND b IS NULL)
SELECT a FROM demo GROUP BY COUNTWINDOW(5, 0)
SELECT a FROM demo GROUP BY COUNTWINDOW(-1, -2)
SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 0)
SELECT a FROM demo GROUP BY STATEWINDOW(a > 1)
SELECT a FROM demo GROUP BY STATEWINDOW(a > 1, b < 2) OVER (PARTITION BY c)
SELECT a FROM demo GROUP BY STATEWINDOW(had_changed(true, a)) OVER ()
SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, 10), COUNTWINDOW(2)
SELECT a FROM demo GROUP BY (TUMBLINGWINDOW(ss, 10))
SELECT a > 1 AS hot, count(*) FROM demo GROUP BY hot, a % 2, f(b), TUMBLINGWINDOW(ss, 10)
SELECT a FROM demo GROUP BY COUNTWINDOW(2) HAVING count(*) > 1
SELECT a FROM demo HAVING a > 1
SELECT a FROM demo ORDER BY a
SELECT a FROM demo ORDER BY a DESC, b ASC, c
SELECT a FROM demo ORDER BY a b DESC c
SELECT a FROM demo ORDER BY
SELECT a FROM demo ORDER BY , a,, b,
SELECT a FROM demo ORDER BY abs(a) + 1, b->c DESC, d.e, count(*)
SELECT a FROM demo LIMIT 10
SELECT a FROM demo LIMIT 0
SELECT a FROM demo LIMIT -1;
SELECT a FROM demo WHERE b GROUP BY c, COUNTWINDOW(2) HAVING d ORDER BY e LIMIT 3
SELECT a FROM x INNER JOIN y ON x.id = y.id
SELECT a FROM x LEFT JOIN y ON x.id = y.id RIGHT JOIN z ON y.id = z.id AND z.v > 1 GROUP BY COUNTWINDOW(2)
SELECT a FROM x FULL JOIN y WHERE a > 1
SELECT a FROM x CROSS JOIN y
SELECT a FROM x AS l INNER JOIN x AS r ON l.id = r.prev
SELECT a FROM x/1x INNER JOIN /b/# ON x.id = y.id
SELECT a FROM x l INNER JOIN y r ON l.id = r.id
SELECT temperature AS celsius, temperature * 1.8 + 32 AS fahrenheit, upper(device) AS device_name, ts FROM plant WHERE temperature > 30
SHOW STREAMS
show tables;
DESCRIBE STREAM demo
describe table `a-b`;
EXPLAIN STREAM demo
EXPLAIN TABLE demo
DROP STREAM demo
DROP TABLE demo;
DROP STREAM demo and more
CREATE STREAM demo () WITH (DATASOURCE="demo")
CREATE STREAM demo () WITH ()
create stream demo (a bigint) with (datasource="demo", format="json");
CREATE STREAM `de-mo` (a BIGINT, b FLOAT, c STRING, d BOOLEAN, e DATETIME, f BYTEA,) WITH (FORMAT="JSON" DATASOURCE="x" TYPE="mqtt",)
CREATE STREAM demo (a ARRAY(BIGINT), b ARRAY(ARRAY(STRING)), c ARRAY(STRUCT(x FLOAT))) WITH (DATASOURCE="x")
CREATE STREAM demo (a STRUCT(b STRING, c STRUCT(d BIGINT, e ARRAY(FLOAT),))) WITH (DATASOURCE="x")
CREATE STREAM demo (a BIGINT DEFAULT 1, b BIGINT DEFAULT -1, c FLOAT DEFAULT 1.5, d FLOAT DEFAULT 2, e STRING DEFAULT "x", f BOOLEAN DEFAULT true) WITH (STRICT_VALIDATION="true")
CREATE STREAM demo (a BIGINT DEFAULT "12", b STRING DEFAULT 5, c BOOLEAN DEFAULT "False", d STRING DEFAULT 'x"y') WITH (DATASOURCE="x")
CREATE STREAM demo (`from` STRING, `a b` BIGINT, type STRING, key STRING) WITH (SHARED=TRUE, TEMP=false)
CREATE STREAM demo () WITH (datasource="a/b/#", Type="mqtt", CONF_KEY="c", KEY="id", TIMESTAMP="ts", TIMESTAMP_FORMAT="yyyy", DELIMITER=";", SCHEMAID="s.m", VERSION="V1")
CREATE STREAM demo () WITH (DATASOURCE="x", DATASOURCE="y", EXTRA="{\"a\": 1}")
CREATE STREAM demo (self BYTEA) WITH (FORMAT="binary")
CREATE STREAM demo () WITH (FORMAT="BINARY")
CREATE TABLE t (id STRING) WITH (DATASOURCE="x", RETAIN_SIZE="10", KIND="scan")
CREATE TABLE t () WITH (DATASOURCE="x", TYPE="memory", KIND="LOOKUP", KEY="id")
CREATE TABLE t () WITH (DATASOURCE="x", TYPE="sql", KIND="lookup")
"##;

/// Statements that must be refused, with the code and the text that is pointed at.
pub const REFUSE: &[(&str, &str, &str)] = &[
    ("", "K0109", ""),
    ("  -- nothing", "K0109", ""),
    ("SELCT a FROM demo", "K0109", "SELCT"),
    ("INSERT INTO demo", "K0109", "INSERT"),
    ("SELECT FROM demo", "K0105", "FROM"),
    ("SELECT a", "K0105", ""),
    ("SELECT a FROM", "K0105", ""),
    ("SELECT a FROM WHERE b", "K0107", "WHERE"),
    ("SELECT a, FROM demo", "K0105", "FROM"),
    ("SELECT a b FROM demo", "K0105", "b"),
    ("SELECT a FROM demo; SELECT b FROM demo", "K0108", "SELECT"),
    ("SELECT a FROM demo WHERE a = 1 b", "K0108", "b"),
    ("SELECT a FROM demo WHERE", "K0105", ""),
    ("SELECT a FROM demo WHERE a = 1 WHERE b = 2", "K0105", "WHERE"),
    ("SELECT a FROM demo LIMIT 1 ORDER BY a", "K0105", "ORDER"),
    ("SELECT a FROM demo, other", "K0117", ","),
    ("SELECT a FROM demo AS WHERE a", "K0107", "WHERE"),
    ("SELECT a AS FROM demo", "K0107", "FROM"),
    ("SELECT a AS 1 FROM demo", "K0105", "1"),
    ("SELECT a AS on FROM demo", "K0107", "on"),
    ("SELECT on FROM demo", "K0107", "on"),
    ("SELECT a.ss FROM demo", "K0107", "ss"),
    ("SELECT * AS x FROM demo", "K0110", "* AS x"),
    ("SELECT demo.* AS x FROM demo", "K0110", "demo.* AS x"),
    ("SELECT 1 + * FROM demo", "K0111", "*"),
    ("SELECT 1 + demo.* FROM demo", "K0111", "demo.*"),
    ("SELECT meta(demo.* EXCEPT(a)) FROM demo", "K0119", "EXCEPT"),
    ("SELECT meta(* EXCEPT(a)) FROM demo", "K0119", "EXCEPT"),
    ("SELECT meta(* REPLACE(a AS b)) FROM demo", "K0119", "REPLACE"),
    ("SELECT * EXCEPT a FROM demo", "K0105", "a"),
    ("SELECT * EXCEPT(a + 1) FROM demo", "K0105", "+"),
    ("SELECT * REPLACE() FROM demo", "K0105", ")"),
    ("SELECT * REPLACE(a AS b FROM demo", "K0105", "FROM"),
    ("SELECT _a FROM demo", "K0101", "_"),
    ("SELECT größe FROM demo", "K0101", "ö"),
    ("SELECT a ? b FROM demo", "K0101", "?"),
    ("SELECT {a} FROM demo", "K0101", "{"),
    ("SELECT \"a FROM demo", "K0102", "\"a FROM demo"),
    ("SELECT 'it''s' FROM demo", "K0102", "''"),
    ("SELECT \"a\\qb\" FROM demo", "K0102", "\\q"),
    ("SELECT x'41' FROM demo", "K0102", "x'41'"),
    ("SELECT a /* b FROM demo", "K0103", "/* b FROM demo"),
    ("SELECT 1.2.3 FROM demo", "K0104", "1.2.3"),
    ("SELECT 0x1F FROM demo", "K0104", "0x1F"),
    ("SELECT 1_000 FROM demo", "K0101", "_"),
    ("SELECT a FROM demo WHERE a == 1", "K0126", "=="),
    ("SELECT a FROM demo WHERE a && b", "K0126", "&&"),
    ("SELECT a || b FROM demo", "K0126", "||"),
    ("SELECT a FROM demo WHERE !a", "K0126", "!"),
    ("SELECT a FROM demo WHERE a ! 1", "K0108", "!"),
    ("SELECT +a FROM demo", "K0105", "+"),
    ("SELECT a + FROM demo", "K0105", "FROM"),
    ("SELECT (a + 1 FROM demo", "K0105", "FROM"),
    ("SELECT a + 1) FROM demo", "K0105", ")"),
    ("SELECT f(a b) FROM demo", "K0105", "b"),
    ("SELECT f(, a) FROM demo", "K0105", ","),
    ("SELECT f(a FROM demo", "K0105", "FROM"),
    ("SELECT a = NOT b FROM demo", "K0105", "NOT"),
    ("SELECT a FROM demo WHERE a NOT 1", "K0105", "1"),
    ("SELECT a FROM demo WHERE a IS 1", "K0105", "1"),
    ("SELECT a FROM demo WHERE a IS NOT b", "K0105", "b"),
    ("SELECT a FROM demo WHERE a BETWEEN 1", "K0105", ""),
    ("SELECT a FROM demo WHERE a BETWEEN 1 OR 2", "K0105", "OR"),
    ("SELECT a FROM demo WHERE a IN ()", "K0105", ")"),
    ("SELECT a FROM demo WHERE a IN (1, )", "K0105", ")"),
    ("SELECT a FROM demo WHERE a IN (1 2)", "K0105", "2"),
    ("SELECT a FROM demo WHERE a IN", "K0105", ""),
    ("SELECT a FROM demo WHERE a IN (1) + 1", "K0105", "+"),
    ("SELECT a FROM demo WHERE a IS NULL * 2", "K0105", "*"),
    ("SELECT a FROM demo WHERE a LIKE", "K0105", ""),
    ("SELECT CASE END FROM demo", "K0107", "END"),
    ("SELECT CASE a END FROM demo", "K0116", "END"),
    ("SELECT CASE a ELSE 1 END FROM demo", "K0116", "ELSE"),
    ("SELECT CASE WHEN a THEN 1 FROM demo", "K0116", "FROM"),
    ("SELECT CASE WHEN a 1 END FROM demo", "K0105", "1"),
    ("SELECT CASE WHEN 1 THEN 2 END FROM demo", "K0116", "1"),
    ("SELECT CASE WHEN a + 1 THEN 2 END FROM demo", "K0116", "a + 1"),
    ("SELECT [1] FROM demo", "K0120", "["),
    ("SELECT a[1 FROM demo", "K0120", "FROM"),
    ("SELECT a[-1 + 1] FROM demo", "K0120", "+"),
    ("SELECT a[1:2:3] FROM demo", "K0105", ":"),
    ("SELECT a[*] FROM demo", "K0111", "*"),
    ("SELECT a->* FROM demo", "K0105", "*"),
    ("SELECT a->1 FROM demo", "K0105", "1"),
    ("SELECT lag(a) OVER () FROM demo", "K0115", "OVER ()"),
    ("SELECT lag(a) OVER PARTITION BY b FROM demo", "K0105", "PARTITION"),
    ("SELECT lag(a) OVER (PARTITION b) FROM demo", "K0105", "b"),
    ("SELECT lag(a) OVER (WHEN a PARTITION BY b) FROM demo", "K0115", "PARTITION"),
    ("SELECT count(*) FILTER (WHERE a > 1) FROM demo", "K0115", "FILTER"),
    ("SELECT a FROM demo GROUP COUNTWINDOW(1)", "K0105", "COUNTWINDOW"),
    ("SELECT a FROM demo GROUP BY", "K0105", ""),
    ("SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss)", "K0113", "TUMBLINGWINDOW(ss)"),
    ("SELECT a FROM demo GROUP BY TUMBLINGWINDOW(\"ss\", 1)", "K0113", "\"ss\""),
    ("SELECT a FROM demo GROUP BY TUMBLINGWINDOW(ss, a)", "K0113", "a"),
    ("SELECT a FROM demo GROUP BY HOPPINGWINDOW(ss, 1)", "K0113", "HOPPINGWINDOW(ss, 1)"),
    ("SELECT a FROM demo GROUP BY SLIDINGWINDOW(ss, 1, 2, 3)", "K0113", "SLIDINGWINDOW(ss, 1, 2, 3)"),
    ("SELECT a FROM demo GROUP BY SESSIONWINDOW(ss, 1.5, 1)", "K0113", "1.5"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW(0)", "K0114", "0"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW(2, 3)", "K0114", "3"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW()", "K0113", "COUNTWINDOW()"),
    ("SELECT a FROM demo GROUP BY STATEWINDOW(a, b, c)", "K0113", "STATEWINDOW(a, b, c)"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW(1) FILTER a", "K0105", "a"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW(1) FILTER (a)", "K0105", "a"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW(1) OVER (PARTITION BY a WHEN b)", "K0115", "WHEN"),
    ("SELECT a FROM demo GROUP BY COUNTWINDOW(1) OVER (WHEN a) FILTER (WHERE b)", "K0115", "FILTER"),
    ("SELECT a FROM demo ORDER a", "K0105", "a"),
    ("SELECT a FROM demo ORDER BY 1", "K0118", "1"),
    ("SELECT a FROM demo ORDER BY (a)", "K0118", "("),
    ("SELECT a FROM demo ORDER BY a, CASE WHEN b THEN 1 END", "K0118", "CASE"),
    ("SELECT a FROM demo LIMIT a", "K0112", "a"),
    ("SELECT a FROM demo LIMIT 1.5", "K0112", "1.5"),
    ("SELECT a FROM demo LIMIT 1 + 1", "K0112", "1 + 1"),
    ("SELECT a FROM demo LIMIT", "K0112", ""),
    ("SELECT a FROM x JOIN y ON x.id = y.id", "K0117", "JOIN"),
    ("SELECT a FROM x LEFT OUTER JOIN y ON x.id = y.id", "K0117", "OUTER"),
    ("SELECT a FROM x LEFT y ON x.id = y.id", "K0117", "y"),
    ("SELECT a FROM x CROSS JOIN y ON x.id = y.id", "K0117", "ON"),
    ("SELECT a FROM x INNER JOIN y ON", "K0105", ""),
    ("SELECT DISTINCT a FROM demo", "K0105", "DISTINCT"),
    ("SHOW", "K0105", ""),
    ("SHOW STREAM", "K0105", "STREAM"),
    ("SHOW STREAMS demo", "K0108", "demo"),
    ("DESCRIBE demo", "K0105", "demo"),
    ("DROP STREAM", "K0105", ""),
    ("DROP STREAM on", "K0107", "on"),
    ("EXPLAIN SELECT a FROM demo", "K0105", "SELECT"),
    ("CREATE demo () WITH ()", "K0105", "demo"),
    ("CREATE STREAM demo WITH (DATASOURCE=\"x\")", "K0105", "WITH"),
    ("CREATE STREAM demo ()", "K0105", ""),
    ("CREATE STREAM demo () WITH", "K0105", ""),
    ("CREATE STREAM demo () WITH (DATASOURCE=\"x\"", "K0105", ""),
    ("CREATE STREAM demo () WITH (DATASOURCE=\"x\") more", "K0108", "more"),
    ("CREATE STREAM demo () WITH (DATASOURCE='x')", "K0124", "'x'"),
    ("CREATE STREAM demo () WITH (RETAIN_SIZE=1)", "K0124", "1"),
    ("CREATE STREAM demo () WITH (FORMAT=json)", "K0124", "json"),
    ("CREATE STREAM demo () WITH (FORMAT \"json\")", "K0105", "\"json\""),
    ("CREATE STREAM demo () WITH (StrictValidation=\"true\")", "K0123", "StrictValidation"),
    ("CREATE STREAM demo () WITH (SHARED=\"yes\")", "K0124", "\"yes\""),
    ("CREATE STREAM demo () WITH (RETAIN_SIZE=\"many\")", "K0124", "\"many\""),
    ("CREATE STREAM demo () WITH (EXTRA=\"{a}\")", "K0124", "\"{a}\""),
    ("CREATE STREAM demo (a) WITH (DATASOURCE=\"x\")", "K0105", ")"),
    ("CREATE STREAM demo (a INT) WITH (DATASOURCE=\"x\")", "K0121", "INT"),
    ("CREATE STREAM demo (a BIGINT b FLOAT) WITH (DATASOURCE=\"x\")", "K0105", "b"),
    ("CREATE STREAM demo (on STRING) WITH (DATASOURCE=\"x\")", "K0107", "on"),
    ("CREATE STREAM demo (a ARRAY) WITH (DATASOURCE=\"x\")", "K0105", ")"),
    ("CREATE STREAM demo (a STRUCT()) WITH (DATASOURCE=\"x\")", "K0105", ")"),
    ("CREATE STREAM demo (a BIGINT DEFAULT \"x\") WITH (DATASOURCE=\"x\")", "K0122", "\"x\""),
    ("CREATE STREAM demo (a BIGINT DEFAULT b) WITH (DATASOURCE=\"x\")", "K0105", "b"),
    ("CREATE STREAM demo (a DATETIME DEFAULT \"2024\") WITH (DATASOURCE=\"x\")", "K0122", "\"2024\""),
    ("CREATE STREAM demo (a STRUCT(b BIGINT DEFAULT 1)) WITH (DATASOURCE=\"x\")", "K0122", "DEFAULT"),
    ("CREATE TABLE demo () WITH (FORMAT=\"binary\")", "K0125", "\"binary\""),
    ("CREATE STREAM demo (a STRING) WITH (FORMAT=\"binary\")", "K0125", "\"binary\""),
    ("CREATE STREAM demo (a BYTEA, b BYTEA) WITH (FORMAT=\"binary\")", "K0125", "\"binary\""),
    ("CREATE TABLE t () WITH (TYPE=\"memory\", KIND=\"lookup\")", "K0125", "KIND=\"lookup\""),
];
