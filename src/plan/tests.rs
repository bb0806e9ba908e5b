//! Plans of statements: what is decoded, in which order things are done, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::func::{Body, Ctx, Func, Guest};
use crate::sql;

fn stream(name: &str) -> Option<Stream> {
    match name {
        "s" => Some(Stream::schemaless("s")),
        "d" | "strict" => {
            let strict = if name == "strict" { "STRICT_VALIDATION=\"true\", TIMESTAMP_FORMAT=\"yyyy\"" } else { "" };
            let text = format!("CREATE STREAM {name} (a BIGINT DEFAULT 3, b STRING, at DATETIME) WITH ({strict})");
            match sql::parse(&text).unwrap() {
                sql::Statement::Create(create) => Some(Stream::of(&create)),
                other => panic!("{other:?}"),
            }
        }
        "t" => Some(Stream { what: What::Table, kind: SourceKind::Scan { retain: 2 }, ..Stream::schemaless("t") }),
        _ => None,
    }
}

fn catalogue() -> Catalogue {
    struct Nothing;
    impl Guest for Nothing {
        fn call(&self, _: &[&Value], _: usize, _: &Ctx<'_>) -> Vec<crate::diag::Result<Value>> {
            Vec::new()
        }
    }
    static GUEST: Func = Func {
        body: Body::Guest(&(|| Box::new(Nothing) as Box<dyn Guest>)),
        ..Func::scalar("geohash", "(any) -> any", |_, _| Ok(Value::Null))
    };
    let mut catalogue = Catalogue::default();
    catalogue.add(&GUEST);
    catalogue
}

fn planned(text: &str, options: &Options) -> Result<Plan, Vec<Diagnostic>> {
    plan(&sql::parse_select(text).unwrap(), &stream, &catalogue(), options)
}

fn good(text: &str) -> Plan {
    planned(text, &Options::default()).unwrap_or_else(|found| panic!("{text}: {found:?}"))
}

/// The nodes from the source on, as explain names them.
fn nodes(plan: &Plan) -> String {
    let text = explain(plan);
    let mut lines: Vec<&str> = text.lines().map(|line| line.trim_start().split("Plan_").next().unwrap()).collect();
    lines.reverse();
    lines.join(" ").replace("{\"op\":\"", "")
}

#[test]
fn only_what_is_asked_for_is_decoded() {
    for (text, columns, rest) in [
        ("SELECT a FROM s WHERE b > 1", "a b", false),
        ("SELECT a AS x, x + 1 AS y FROM s", "a", false),
        ("SELECT a + 1 AS a FROM s WHERE a > 1", "a", false),
        ("SELECT o.k, o->l[0], s.a FROM s", "o a", false),
        ("SELECT meta(topic), meta(s.k) AS k FROM s", "", false),
        ("SELECT count(*) AS n, window_end() FROM s GROUP BY TUMBLINGWINDOW(ss, 1)", "", false),
        (
            "SELECT count(*) AS n FROM s GROUP BY k, TUMBLINGWINDOW(ss, 1) FILTER(WHERE f > 1) ORDER BY sum(v)",
            "k f v",
            false,
        ),
        ("SELECT * FROM s", "", true),
        ("SELECT *, a FROM s WHERE b > 1", "a b", true),
        ("SELECT collect(*) AS l FROM s GROUP BY TUMBLINGWINDOW(ss, 1)", "", true),
        ("SELECT deduplicate(k, true) AS l FROM s GROUP BY TUMBLINGWINDOW(ss, 1)", "k", true),
        ("SELECT a FROM d", "a", false),
        ("SELECT count(*) AS n FROM d GROUP BY TUMBLINGWINDOW(ss, 1)", "", false),
        ("SELECT * FROM d", "a b at", false),
        ("SELECT d.* FROM d", "a b at", false),
    ] {
        let plan = good(text);
        let mut names: Vec<&str> = plan.sources[0].wanted.columns.iter().map(|column| column.name.as_str()).collect();
        let mut wanted: Vec<&str> = columns.split_whitespace().collect();
        names.sort_unstable();
        wanted.sort_unstable();
        assert_eq!((names, plan.sources[0].wanted.rest.is_some()), (wanted, rest), "{text}");
        assert!(plan.sources[0].wanted.columns.iter().all(|column| column.slot < plan.width), "{text}");
    }
    assert!(good("SELECT a FROM s WHERE meta(topic) = \"x\"").reads_meta());
    assert!(!good("SELECT a FROM s").reads_meta());
}

#[test]
fn clauses_become_nodes_in_their_order() {
    for (text, wanted) in [
        ("SELECT a FROM s", "DataSource Project"),
        ("SELECT a * 2 AS x FROM s WHERE x > 1", "DataSource Alias Filter Project"),
        ("SELECT a AS x FROM s WHERE x > 1", "DataSource Filter Project"),
        (
            "SELECT a * 2 AS x, count(*) AS n FROM s GROUP BY x, TUMBLINGWINDOW(ss, 1)",
            "DataSource Alias Window Project",
        ),
        (
            "SELECT k, sum(v) / 2 AS h FROM s WHERE v > 0 GROUP BY k, TUMBLINGWINDOW(ss, 1) FILTER(WHERE v < 9) \
             HAVING h > 1 ORDER BY h LIMIT 3",
            "DataSource Filter Filter Window Alias Having Order Limit Project",
        ),
        (
            "SELECT v FROM s GROUP BY TUMBLINGWINDOW(ss, 1) HAVING max(v) > 1",
            "DataSource Window Aggregate Having Project",
        ),
        ("SELECT sum(v) AS t FROM s", "DataSource Aggregate Project"),
        (
            "SELECT v FROM s WHERE v > avg(v) GROUP BY TUMBLINGWINDOW(ss, 1) FILTER(WHERE v > 0)",
            "DataSource Filter Window Aggregate Filter Project",
        ),
        (
            "SELECT k, avg(v) * 2 AS m FROM s WHERE v > m GROUP BY k, TUMBLINGWINDOW(ss, 1)",
            "DataSource Window Aggregate Alias Filter Aggregate Project",
        ),
        ("SELECT v FROM s WHERE count(v) > 0 AND v + 1 > 0", "DataSource Aggregate Filter Project"),
        ("SELECT v FROM s ORDER BY v LIMIT 5", "DataSource Project"),
        ("SELECT v FROM s LIMIT 0", "DataSource Limit Project"),
        ("SELECT a FROM strict WHERE b = \"x\"", "DataSource Validate Filter Project"),
        ("SELECT count(*) AS n FROM strict GROUP BY TUMBLINGWINDOW(ss, 1)", "DataSource Window Project"),
    ] {
        assert_eq!(nodes(&good(text)), wanted, "{text}");
    }
}

#[test]
fn in_event_time_the_watermark_comes_first_and_where_behind_the_window() {
    let timed = |name: &str| Some(Stream { timestamp: "ts".into(), ..stream(name)? });
    let options = Options { event_time: Some(EventTime::default()), ..Options::default() };
    let planned = |text: &str| plan(&sql::parse_select(text).unwrap(), &timed, &catalogue(), &options).unwrap();
    for (text, wanted, marks) in [
        ("SELECT a FROM s WHERE a > 1", "DataSource Watermark Filter Project", false),
        ("SELECT lag(a) AS b FROM s WHERE b > 1", "DataSource Watermark AnalyticFuncs Filter Project", false),
        (
            "SELECT a FROM s WHERE a > 1 GROUP BY TUMBLINGWINDOW(ss, 1)",
            "DataSource Watermark Window Filter Project",
            true,
        ),
        // Here each row can be asked as it comes, so that no rows are kept.
        (
            "SELECT max(a) AS m FROM s WHERE a > 1 GROUP BY HOPPINGWINDOW(ss, 2, 1) FILTER(WHERE a < 9)",
            "DataSource Watermark Filter Window Project",
            true,
        ),
        (
            "SELECT max(a) AS m FROM s WHERE a > window_end() GROUP BY TUMBLINGWINDOW(ss, 1)",
            "DataSource Watermark Window Filter Aggregate Project",
            true,
        ),
        (
            "SELECT max(a) AS m FROM s WHERE newuuid() != a GROUP BY TUMBLINGWINDOW(ss, 1)",
            "DataSource Watermark Window Filter Aggregate Project",
            true,
        ),
    ] {
        let plan = planned(text);
        assert_eq!(nodes(&plan), wanted, "{text}");
        assert!(plan.sources[0].wanted.columns.iter().any(|column| column.name == "ts"), "{text}");
        assert!(matches!(plan.nodes[0], Node::Watermark { marks: told, .. } if told == marks), "{text}");
    }
    let found = plan(&sql::parse_select("SELECT a FROM s").unwrap(), &stream, &catalogue(), &options).unwrap_err();
    assert_eq!(found.iter().map(|found| found.code).collect::<Vec<_>>(), ["K0233"]);
}

#[test]
fn equal_aggregates_are_computed_once() {
    let calls = |text: &str| {
        let plan = good(text);
        let groups = plan.nodes.iter().find_map(|node| match node {
            Node::Window(windowed) => windowed.grouping.as_ref().map(|grouping| grouping.calls.len()),
            _ => None,
        });
        groups.unwrap()
    };
    let window = "FROM s GROUP BY TUMBLINGWINDOW(ss, 1)";
    assert_eq!(calls(&format!("SELECT sum(a) AS x, sum(a) + 1 AS y {window} HAVING sum(a) > 1 ORDER BY sum(s.a)")), 1);
    assert_eq!(calls(&format!("SELECT a * 2 AS a INVISIBLE, sum(a) AS x, sum(s.a) AS y {window}")), 2);
    assert_eq!(calls(&format!("SELECT collect(*) AS x, collect(* EXCEPT (a)) AS y {window}")), 2);
    assert_eq!(calls(&format!("SELECT count(DISTINCT a) AS x, count(a) AS y {window}")), 2);
    assert_eq!(calls(&format!("SELECT sum(rand()) AS x, sum(rand()) AS y {window}")), 2);
}

#[test]
fn calls_of_plugins_are_made_for_a_batch_at_once() {
    let guests = |text: &str| {
        let plan = good(text);
        let shown = plan.nodes.iter().filter_map(|node| match node {
            Node::Guests { calls, .. } => Some(format!("{calls:?}")),
            _ => None,
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(guests("SELECT geohash(a) AS g FROM s WHERE geohash(b) = 1"), "[geohash(b)] [geohash(a)]");
    assert_eq!(guests("SELECT geohash(a) AS g, g + 1 AS h FROM s"), "[geohash(a)]");
    assert_eq!(guests("SELECT geohash(a) AS g FROM s WHERE g > 1"), "[geohash(a)]");
    assert_eq!(guests("SELECT geohash(geohash(a)) AS g FROM s"), "[geohash(a), geohash(geohash(a))]");
    // What may not be called is not called ahead, and what needs an alias waits for it.
    assert_eq!(guests("SELECT CASE WHEN a > 1 THEN geohash(a) END AS g FROM s"), "");
    assert_eq!(guests("SELECT a FROM s WHERE a > 1 AND geohash(a) = 1"), "");
    assert_eq!(guests("SELECT a + 1 AS x, geohash(x) AS g FROM s"), "");
}

/// Each alias reads the one before it twice, so whoever looked into it again and again would never end.
#[test]
fn long_chains_of_aliases_are_planned_and_compiled_at_once() {
    let fields: Vec<String> = (1..60).map(|n| format!("a{0} + a{0} AS a{n}", n - 1)).collect();
    let text = format!("SELECT {} FROM s WHERE a59 > 1", fields.join(", "));
    let plan = good(&text);
    let Some(Node::Filter { predicate, .. }) = plan.nodes.get(1) else { panic!("{:?}", plan.nodes) };
    assert!(predicate.slots().len() < 70);
    crate::expr::Predicate::new(predicate);
}

/// Aliases that read one another may be as deep as one expression may, whatever their order, and no deeper.
#[test]
fn the_depth_of_aliases_is_limited() {
    let chain = |count: usize, backwards: bool| {
        let mut fields: Vec<String> = (1..=count).map(|n| format!("a{} + 1 AS a{n}", n - 1)).collect();
        if backwards {
            fields.reverse();
        }
        planned(&format!("SELECT {} FROM s WHERE a{count} > 1", fields.join(", ")), &Options::default())
    };
    for backwards in [false, true] {
        let plan = chain(255, backwards).unwrap();
        plan.nodes.iter().for_each(|node| {
            if let Node::Filter { predicate, .. } = node {
                crate::expr::Predicate::new(predicate);
            }
        });
        for count in [300, 5_000] {
            let found = chain(count, backwards).unwrap_err();
            assert!(found.iter().any(|one| one.code == "K0260"), "{count} {backwards}: {:?}", found.first());
        }
    }
}

/// However long a chain of aliases is, and in whatever order it stands, it is planned and compiled on a small stack.
#[test]
fn chains_of_aliases_need_no_deep_stack() {
    let run = || {
        let both = |mut fields: Vec<String>, end: &str| {
            let one = planned(&format!("SELECT {} FROM s {end}", fields.join(", ")), &Options::default());
            fields.reverse();
            [one, planned(&format!("SELECT {} FROM s {end}", fields.join(", ")), &Options::default())]
        };
        let chain = |count: usize, plus: &str| (1..=count).map(|n| format!("a{}{plus} AS a{n}", n - 1)).collect();
        let compiled = |plan: Result<Plan, Vec<Diagnostic>>| {
            for node in plan.unwrap_or_else(|found| panic!("{found:?}")).nodes {
                match node {
                    Node::Filter { predicate, .. } => drop(crate::expr::Predicate::new(&predicate)),
                    Node::Compute { aliases, .. } => {
                        aliases.iter().for_each(|(_, _, bound)| drop(crate::expr::Program::new(bound)));
                    }
                    _ => {}
                }
            }
        };
        both(chain(255, " + 1"), "WHERE a255 > 1").into_iter().for_each(compiled);
        both(chain(500, ""), "WHERE a500 > 1").into_iter().for_each(compiled);
        let sums = |count: usize| chain(count, " + 1").into_iter().chain(["sum(v) AS a0".to_string()]).collect();
        both(sums(200), "WHERE a200 > 1 GROUP BY TUMBLINGWINDOW(ss, 1)").into_iter().for_each(compiled);
        for count in [20, 5_000] {
            let circle = chain(count, " + 1").into_iter().chain([format!("a{count} AS a0")]).collect();
            for found in both(circle, "").map(Result::unwrap_err) {
                assert!(found.iter().any(|one| one.code == "K0205"), "{count}: {:?}", found.first());
            }
        }
    };
    let small = std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap();
    assert!(small.join().is_ok());
}

/// What a statement names is looked up, not looked for: with thousands of everything this would not end otherwise.
#[test]
fn wide_statements_are_planned_at_once() {
    let wide = 10_000;
    let list = |field: &dyn Fn(usize) -> String| (0..wide).map(field).collect::<Vec<_>>().join(", ");
    let declared = Stream {
        columns: (0..wide)
            .map(|n| StreamColumn { name: Text::new(format!("c{n}")), kind: Kind::Float, default: None })
            .collect(),
        strict: true,
        ..Stream::schemaless("s")
    };
    let open = Stream::schemaless("s");
    let window = "GROUP BY TUMBLINGWINDOW(ss, 1)";
    for (text, columns) in [
        (format!("SELECT {} FROM s", list(&|n| format!("c{n}"))), wide),
        (format!("SELECT {} FROM s WHERE a0 > 1", list(&|n| format!("c{n} * 2 AS a{n}"))), wide),
        (
            format!(
                "SELECT {}, {} FROM s",
                list(&|n| format!("c{n} * 2 AS a{n}")),
                list(&|n| format!("a{n} + 1 AS b{n}"))
            ),
            2 * wide,
        ),
        (format!("SELECT {} FROM s {window}", list(&|n| format!("avg(c{n}) AS a{n}"))), wide),
        (format!("SELECT {} FROM s", list(&|n| format!("lag(c{n}) AS a{n}"))), wide),
    ] {
        for stream in [&declared, &open] {
            let select = sql::parse_select(&text).unwrap();
            let plan = plan(&select, &|_| Some(stream.clone()), &catalogue(), &Options::default());
            assert_eq!(plan.unwrap().layout.width(), columns);
        }
    }
    let select = sql::parse_select("SELECT *, c7 + 1 AS c7 FROM s").unwrap();
    let star = plan(&select, &|_| Some(declared.clone()), &catalogue(), &Options::default()).unwrap();
    assert_eq!(star.layout.width(), wide);
    let select = sql::parse_select(&format!("SELECT {} FROM s", list(&|n| format!("d{n}")))).unwrap();
    let found = plan(&select, &|_| Some(declared.clone()), &catalogue(), &Options::default()).unwrap_err();
    assert_eq!(found.len(), wide);
}

#[test]
fn every_finding_is_told_at_its_place() {
    for (text, code, place) in [
        ("SELECT a FROM nowhere", "K0201", "nowhere"),
        ("SELECT a FROM t", "K0202", "t"),
        ("SELECT c FROM d", "K0214", "c"),
        ("SELECT x.a FROM d", "K0220", "x.a"),
        ("SELECT x.* FROM d", "K0218", "x.*"),
        ("SELECT a AS x, b AS X FROM s", "K0206", "X"),
        ("SELECT b + 1 AS a, a + 1 AS b FROM s", "K0205", "a"),
        ("SELECT a, s.a FROM s", "K0221", "s.a"),
        ("SELECT a FROM s GROUP BY a", "K0208", "a"),
        ("SELECT a FROM s GROUP BY count(*), TUMBLINGWINDOW(ss, 1)", "K0216", "count(*)"),
        ("SELECT a FROM s WHERE sum(count(*)) > 1 GROUP BY TUMBLINGWINDOW(ss, 1)", "K0219", "count(*)"),
        ("SELECT a FROM s GROUP BY TUMBLINGWINDOW(ss, 1) FILTER(WHERE count(*) > 1)", "K0216", "count(*)"),
        ("SELECT sum(count(*)) FROM s", "K0219", "count(*)"),
        ("SELECT upper(unnest(a)) FROM s", "K0242", "unnest(a)"),
        ("SELECT hoppingwindow(ss, 1, 1) FROM s", "K0228", "hoppingwindow"),
        ("SELECT a[2:1] FROM s", "K0207", "a[2:1]"),
        ("SELECT uper(a) FROM s", "K0210", "uper"),
        ("SELECT count(*) FROM s GROUP BY a, TUMBLINWINDOW(ss, 10)", "K0210", "TUMBLINWINDOW"),
        ("SELECT a FROM s GROUP BY HOPPINGWINDOW(ss, 9, 0)", "K0209", "0"),
        ("SELECT a FROM s GROUP BY SLIDINGWINDOW(ss, 9, -1)", "K0209", "-1"),
        ("SELECT s.a FROM s INNER JOIN d ON s.a = d.a", "K0252", "INNER JOIN d ON s.a = d.a"),
        ("SELECT count(*) FROM s GROUP BY TUMBLINGWINDOW(ss, 1) HAVING (v > 1)", "K0217", "(v > 1)"),
        ("SELECT * REPLACE (a + 1) FROM s", "K0226", "a + 1"),
        ("SELECT collect(* REPLACE (a + 1)) FROM s GROUP BY COUNTWINDOW(2)", "K0226", "a + 1"),
        ("SELECT collect(* REPLACE (c AS a)) FROM d GROUP BY COUNTWINDOW(2)", "K0214", "c"),
        ("SELECT collect(* REPLACE (sum(a) AS a)) FROM d GROUP BY COUNTWINDOW(2)", "K0219", "sum(a)"),
    ] {
        let found = planned(text, &Options::default()).expect_err(text);
        let [found] = found.as_slice() else { panic!("{text}: {found:?}") };
        let span = found.span.unwrap();
        assert_eq!((found.code, &text[span.start as usize..span.end as usize]), (code, place), "{text}");
    }
    let several = planned("SELECT x, uper(y) FROM d WHERE z > 1", &Options::default()).unwrap_err();
    assert_eq!(several.iter().map(|found| found.code).collect::<Vec<_>>(), ["K0214", "K0210", "K0214", "K0214"]);
}

#[test]
fn of_an_alias_that_hides_a_column_the_column_is_named() {
    let window = "TUMBLINGWINDOW(ss, 1)";
    for (text, code, help) in [
        (format!("SELECT max(a) AS a FROM s GROUP BY a, {window}"), "K0216", "write `s.a` for the column"),
        (format!("SELECT count(*) AS b FROM d AS o GROUP BY b, {window}"), "K0216", "write `o.b` for the column"),
        (
            format!("SELECT max(a) AS a, sum(a + 1) AS t FROM s GROUP BY {window}"),
            "K0219",
            "write `s.a` for the column",
        ),
        (
            format!("SELECT count(*) AS n FROM s GROUP BY n, {window}"),
            "K0216",
            "conditions on aggregates stand in HAVING",
        ),
    ] {
        let found = planned(&text, &Options::default()).expect_err(&text);
        let told = found.iter().find(|one| one.code == code).and_then(|one| one.help.as_deref());
        assert!(told.is_some_and(|told| told.contains(help)), "{text}: {found:?}");
    }
}

#[test]
fn strict_streams_check_what_is_read() {
    let plan = good("SELECT at, a + 1 AS x FROM strict");
    let Some(Node::Validate { columns, format }) = plan.sources[0].nodes.first() else { panic!("{plan:?}") };
    let shown: Vec<_> = columns.iter().map(|(_, column)| (column.name.as_str(), column.default.clone())).collect();
    assert_eq!(shown, [("a", Some(Value::Int(3))), ("at", None)]);
    assert_eq!(format.as_deref(), Some("yyyy"));
}

#[test]
fn names_that_heed_no_case_are_looked_for_in_all_columns() {
    let options = Options { ignore_case: true, ..Options::default() };
    let plan = planned("SELECT Temp, o.K AS k FROM s", &options).unwrap();
    assert_eq!(nodes(&plan), "DataSource Resolve Project");
    assert!(plan.sources[0].wanted.rest.is_some());
    assert_eq!(nodes(&planned("SELECT a FROM d", &options).unwrap()), "DataSource Project");
}

#[test]
fn explain_shows_the_plan_from_its_end() {
    let plan = good("SELECT k, avg(v) AS m FROM s WHERE v > 0 GROUP BY k, TUMBLINGWINDOW(ss, 10) ORDER BY m DESC");
    let wanted = [
        r#"{"op":"ProjectPlan_0","info":"Fields:[ k, m: avg(v) ]"}"#,
        r#"{"op":"OrderPlan_1","info":"SortFields:[ avg(v) DESC ]"}"#,
        r#"{"op":"WindowPlan_2","info":"{ length:10, windowType:TUMBLING_WINDOW, timeUnit: SS, Groups:[ k ], Aggregates:[avg(v)] }, Keeps:accumulators"}"#,
        r#"{"op":"FilterPlan_3","info":"Condition:{ (v > 0) }"}"#,
        r#"{"op":"DataSourcePlan_4","info":"StreamName: s, StreamFields:[ k, v ], Slots:[ 0: k, 1: v ], PushedDown:[ (v > 0) ]"}"#,
    ];
    let text = explain(&plan);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().map(|line| line.trim_start_matches('\t')).collect::<Vec<_>>(), wanted);
    let depth = |line: &&str| line.len() - line.trim_start_matches('\t').len();
    assert_eq!(lines.iter().map(depth).collect::<Vec<_>>(), [0, 1, 3, 5, 7]);
}

#[test]
fn explain_says_what_windows_keep_and_what_is_pushed_down() {
    let keeps = |text: &str, options: &Options| {
        let text = explain(&planned(text, options).unwrap());
        let line = text.lines().find(|line| line.contains("WindowPlan")).unwrap();
        line.split_once("Keeps:").unwrap().1.trim_end_matches("\"}").to_string()
    };
    let usual = Options::default();
    let tumbling = "GROUP BY TUMBLINGWINDOW(ss, 9)";
    for (text, wanted) in [
        (format!("SELECT count(*) AS n FROM s {tumbling}"), "accumulators"),
        (format!("SELECT v FROM s {tumbling}"), "rows, since they are given out"),
        (
            format!("SELECT count(*) AS n FROM s WHERE v > avg(v) {tumbling}"),
            "rows, since WHERE looks at those of the finished window",
        ),
        ("SELECT sum(v) AS n FROM s GROUP BY COUNTWINDOW(3)".into(), "rows, since windows of this kind share them"),
        (
            "SELECT sum(v) AS n FROM s GROUP BY HOPPINGWINDOW(ss, 9, 3)".into(),
            "accumulators, one for each part that its windows share",
        ),
        (
            "SELECT count(DISTINCT v) AS n FROM s GROUP BY HOPPINGWINDOW(ss, 9, 3)".into(),
            "rows, since `count(DISTINCT v)` of two parts of a window cannot be put together",
        ),
        (
            "SELECT max(v - window_start()) AS n FROM s GROUP BY HOPPINGWINDOW(ss, 9, 3)".into(),
            "rows, since what is computed reads the bounds of the window",
        ),
    ] {
        assert_eq!(keeps(&text, &usual), wanted, "{text}");
    }
    let disabled = Disabled { incremental: true, ..Disabled::default() };
    let options = Options { disabled, ..Options::default() };
    let text = format!("SELECT count(*) AS n FROM s {tumbling}");
    assert_eq!(keeps(&text, &options), "rows, since `incrementalWindow` is switched off");
    let source = |text: &str| explain(&good(text)).lines().last().unwrap().trim().to_string();
    let one = source("SELECT *, b FROM d WHERE a > 1 GROUP BY TUMBLINGWINDOW(ss, 1) FILTER(WHERE b = \"x\")");
    let wanted = r#"Slots:[ 0: a bigint, 1: b string, 2: at datetime ], PushedDown:[ (a > 1), (b = \"x\") ]"#;
    assert!(one.contains(wanted), "{one}");
    let one = source("SELECT * FROM s WHERE lag(v) > 1");
    assert!(one.contains("Slots:[ 0: v, 1: all others ]") && !one.contains("PushedDown"), "{one}");
    let one = source("SELECT v FROM s WHERE v > 1 GROUP BY COUNTWINDOW(2)");
    assert!(!one.contains("PushedDown"), "{one}");
}

/// `*` is the columns that have slots, and the one object of the others, if there can be others.
#[test]
fn a_star_is_the_columns_that_it_stands_for() {
    for (text, columns, shown) in [
        ("SELECT * FROM d", "a b at", "*"),
        ("SELECT * FROM s", "*", "*"),
        ("SELECT * FROM s WHERE v > 1", "v *", "*"),
        ("SELECT x, *, v + 1 AS v FROM s", "x v *", "x, *, v: (v + 1)"),
        ("SELECT * EXCEPT (a, n) FROM d", "b at", "* EXCEPT (a, n)"),
        ("SELECT * EXCEPT (v) FROM s WHERE v > w", "w *", "* EXCEPT (v)"),
        ("SELECT a, *, * FROM d", "a b at", "a, *"),
        ("SELECT * REPLACE (a + 1 AS a) FROM d", "a b at", "*, a: (a + 1)"),
        ("SELECT *, changed_cols(\"\", true, v) FROM s", "* changed_cols", "*, changed_cols(\"\", true, v)"),
        (
            "SELECT changed_cols(\"\", true, * EXCEPT (b) REPLACE (a + 1 AS a, 2 AS b)) FROM d",
            "changed_cols",
            "changed_cols(\"\", true, * EXCEPT (b) REPLACE ((a + 1) AS a, 2 AS b))",
        ),
        ("SELECT *, unnest(v) FROM s", "* * unnest", "*, unnest: v, NULL"),
    ] {
        let plan = good(text);
        let mut names: Vec<&str> = plan.layout.columns().iter().map(|column| column.name.as_str()).collect();
        names.sort_by_key(|name| (*name == "*", *name));
        let mut wanted: Vec<&str> = columns.split_whitespace().collect();
        wanted.sort_by_key(|name| (*name == "*", *name));
        assert_eq!(names, wanted, "{text}");
        assert!(explain(&plan).contains(&format!("Fields:[ {} ]", shown.replace('"', "\\\""))), "{}", explain(&plan));
    }
}

#[test]
fn special_calls_have_steps_of_their_own() {
    for (text, wanted) in [
        ("SELECT lag(a) AS p FROM s WHERE p > 1", "DataSource AnalyticFuncs Filter Project"),
        ("SELECT a + 1 AS b, lag(b) OVER (PARTITION BY k WHEN b > 0) AS p FROM s", "DataSource AnalyticFuncs Project"),
        (
            "SELECT a, row_number() AS n FROM s GROUP BY TUMBLINGWINDOW(ss, 1) HAVING last_agg_hit_count() < 3 ORDER BY n + 1",
            "DataSource Window Having WindowFunc Order Project",
        ),
        ("SELECT a FROM s WHERE last_hit_count() < 3", "DataSource Filter Project"),
        ("SELECT changed_cols(\"\", true, *), unnest(a) FROM s LIMIT 2", "DataSource Columns Project ProjectSet"),
        ("SELECT unnest(a) FROM s GROUP BY TUMBLINGWINDOW(ss, 1) LIMIT 2", "DataSource Window Project ProjectSet"),
        ("SELECT dedup_trigger(a, b, k, 9) AS x FROM s", "DataSource DedupTrigger Project"),
    ] {
        assert_eq!(nodes(&good(text)), wanted, "{text}");
    }
    let text = explain(&good("SELECT a + 1 AS b, lag(b) OVER (PARTITION BY k WHEN b > 0) AS p FROM s"));
    assert!(text.contains(r"Funcs:[ b: (a + 1), lag(b) OVER (PARTITION BY k WHEN (b > 0)) ]"), "{text}");
}

#[test]
fn joins_are_planned_in_branches() {
    let find = |name: &str| {
        let text = match name {
            "a" => "CREATE STREAM a (id BIGINT, v BIGINT) WITH ()",
            "b" => "CREATE STREAM b (id BIGINT, w BIGINT) WITH ()",
            "t" => "CREATE TABLE t (id BIGINT, hall STRING) WITH (RETAIN_SIZE=\"5\")",
            "l" => "CREATE TABLE l (id BIGINT, boss STRING) WITH (KIND=\"lookup\")",
            _ => return None,
        };
        match sql::parse(text).unwrap() {
            sql::Statement::Create(create) => Some(Stream::of(&create)),
            other => panic!("{other:?}"),
        }
    };
    let explained = |text: &str| {
        let select = sql::parse_select(text).unwrap();
        let plan = plan(&select, &find, &catalogue(), &Options::default());
        explain(&plan.unwrap_or_else(|found| panic!("{text}: {found:?}")))
    };
    let text = "SELECT v, w, hall, boss FROM a INNER JOIN b ON a.id = b.id AND v < w LEFT JOIN t ON t.id = a.id \
        INNER JOIN l ON a.id + 1 = l.id AND boss != hall WHERE v > 1 AND w > 2 AND hall = \"x\" AND boss = \"y\" \
        GROUP BY TUMBLINGWINDOW(ss, 10)";
    let wanted = [
        r#"{"op":"ProjectPlan_0","info":"Fields:[ v: a.v, w: b.w, hall: t.hall, boss: l.boss ]"}"#,
        r#"{"op":"FilterPlan_1","info":"Condition:{ ((t.hall = \"x\") AND (l.boss = \"y\")) }"}"#,
        r#"{"op":"LookupPlan_2","info":"joinType:INNER_JOIN, Keys:[ id: (a.id + 1) ], expr:(l.boss != t.hall)"}"#,
        r#"{"op":"LookupSourcePlan_3","info":"StreamName: l, StreamFields:[ boss, id ], Slots:[ 4: boss string, 8: id bigint ]"}"#,
        r#"{"op":"JoinPlan_3","info":"Joins:[ { joinType:INNER_JOIN, expr:((a.id = b.id) AND (a.v < b.w)), by:[ a.id = b.id ] }, { joinType:LEFT_JOIN, expr:(t.id = a.id), by:[ a.id = t.id ] } ]"}"#,
        r#"{"op":"DataSourcePlan_4","info":"StreamName: t, StreamFields:[ hall, id ], Slots:[ 3: hall string, 7: id bigint ]"}"#,
        r#"{"op":"WindowPlan_4","info":"{ length:10, windowType:TUMBLING_WINDOW, timeUnit: SS }, Keeps:rows, since they are joined"}"#,
        r#"{"op":"FilterPlan_5","info":"Condition:{ (a.v > 1) }"}"#,
        r#"{"op":"DataSourcePlan_6","info":"StreamName: a, StreamFields:[ v, id ], Slots:[ 1: v bigint, 5: id bigint ], PushedDown:[ (a.v > 1) ]"}"#,
        r#"{"op":"FilterPlan_5","info":"Condition:{ (b.w > 2) }"}"#,
        r#"{"op":"DataSourcePlan_6","info":"StreamName: b, StreamFields:[ w, id ], Slots:[ 2: w bigint, 6: id bigint ], PushedDown:[ (b.w > 2) ]"}"#,
    ];
    let text = explained(text);
    assert_eq!(text.lines().map(str::trim_start).collect::<Vec<_>>(), wanted);
    for (text, pushed) in [
        ("SELECT v FROM a LEFT JOIN b ON a.id = b.id WHERE v > 1 AND w > 1 GROUP BY TUMBLINGWINDOW(ss, 1)", "a.v"),
        ("SELECT v FROM a RIGHT JOIN b ON a.id = b.id WHERE v > 1 AND w > 1 GROUP BY TUMBLINGWINDOW(ss, 1)", "b.w"),
        ("SELECT v FROM a FULL JOIN b ON a.id = b.id WHERE v > 1 AND w > 1 GROUP BY TUMBLINGWINDOW(ss, 1)", ""),
        ("SELECT v FROM a INNER JOIN b ON a.id = b.id WHERE v > 1 AND w > 1 GROUP BY COUNTWINDOW(3)", ""),
        ("SELECT lag(v) FROM a INNER JOIN b ON a.id = b.id WHERE v > 1 GROUP BY TUMBLINGWINDOW(ss, 1)", ""),
        ("SELECT v FROM a INNER JOIN t ON a.id = t.id WHERE v > 1 AND hall > \"\"", "a.v"),
    ] {
        let below = explained(text);
        let filters: Vec<&str> = below.lines().filter(|line| line.contains("FilterPlan")).collect();
        let last = filters.last().map_or("", |line| *line);
        let is_pushed = below.find("JoinPlan") < below.rfind("FilterPlan");
        assert_eq!(is_pushed, !pushed.is_empty(), "{below}");
        assert!(last.contains(pushed), "{below}");
    }
}
