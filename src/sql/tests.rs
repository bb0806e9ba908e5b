#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lists;

use std::fmt::Debug;
use std::sync::LazyLock;

use regex::Regex;

use self::lists::{ACCEPT, REFUSE};
use super::*;
use crate::diag::Span;

/// A tree without its places.
fn shape(tree: &impl Debug) -> String {
    static PLACES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"Span \{ start: \d+, end: \d+ \}").unwrap());
    PLACES.replace_all(&format!("{tree:?}"), "_").into_owned()
}

fn accepts(text: &str) -> Statement {
    parse(text).unwrap_or_else(|found| panic!("{}", crate::diag::render_all(&found, "test", text)))
}

/// Lines of the list; the one statement with a line break in it starts with a comment mark at its first line's end.
fn accepted() -> Vec<String> {
    let mut found: Vec<String> = vec![];
    for line in ACCEPT.lines().filter(|line| !line.is_empty()) {
        match found.last_mut() {
            Some(last) if line.starts_with("FROM") => {
                last.push('\n');
                last.push_str(line);
            }
            _ => found.push(line.to_string()),
        }
    }
    found
}

#[test]
fn accepted_statements_print_to_the_same_tree() {
    let statements = accepted();
    assert!(statements.len() >= 150, "{}", statements.len());
    for text in statements {
        let text = text.replace("x/1x", "x/x");
        let tree = accepts(&text);
        for printed in [print_statement(&tree), tree.to_string()] {
            let again = accepts(&printed);
            assert_eq!(shape(&again), shape(&tree), "{text}\n{printed}");
            assert_eq!(print_statement(&again), print_statement(&tree));
        }
    }
}

#[test]
fn refused_statements_say_why_and_where() {
    for (text, code, place) in REFUSE {
        let found = parse(text).expect_err(text);
        let span = found[0].span.expect(text);
        assert_eq!(
            (found[0].code, &text[span.start as usize..span.end as usize]),
            (*code, *place),
            "{text}: {}",
            found[0]
        );
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let text = "SELECT a +, b c, lag(a) OVER () FROM demo LEFT OUTER JOIN y WHERE a = \
                GROUP BY TUMBLINGWINDOW(\"ss\", x) LIMIT z";
    let codes: Vec<_> = parse(text).unwrap_err().into_iter().map(|found| found.code).collect();
    assert_eq!(codes, ["K0105", "K0105", "K0115", "K0117", "K0105", "K0113", "K0113", "K0112"]);
    let text = "CREATE STREAM s (a INT, b BIGINT DEFAULT \"x\") WITH (DATASORCE='x', SHARED=\"1\")";
    let found = parse(text).unwrap_err();
    let codes: Vec<_> = found.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["K0121", "K0122", "K0123", "K0124", "K0124"]);
    assert_eq!(found[2].help.as_deref(), Some("did you mean `DATASOURCE`?"));
}

/// Expressions and their grouping, shown by parentheses around every operator.
#[test]
fn operators_bind_as_the_reference_says() {
    fn grouped(expr: &Expr) -> String {
        let of = grouped;
        let not = |negated: &bool| if *negated { "not " } else { "" };
        match &expr.node {
            ExprNode::Binary(op, a, b) => format!("({} {} {})", of(a), op.symbol(), of(b)),
            ExprNode::Unary(UnaryOp::Neg, a) => format!("(- {})", of(a)),
            ExprNode::Unary(UnaryOp::Not, a) => format!("(not {})", of(a)),
            ExprNode::Between { expr, low, high, negated } => {
                format!("({} {}between {} {})", of(expr), not(negated), of(low), of(high))
            }
            ExprNode::InArray { expr, array, negated } => format!("({} {}in {})", of(expr), not(negated), of(array)),
            ExprNode::Like { expr, pattern, .. } => format!("({} like {})", of(expr), of(pattern)),
            ExprNode::IsNull { expr, negated } => format!("({} is {}null)", of(expr), not(negated)),
            ExprNode::Index(a, b) => format!("({} [] {})", of(a), of(b)),
            ExprNode::Member(a, name) => format!("({} -> {})", of(a), name.name),
            _ => print_expr(expr),
        }
    }
    for (text, expected) in [
        ("a OR b AND c", "(a OR (b AND c))"),
        ("a AND b OR c", "((a AND b) OR c)"),
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a | b & c", "(a | (b & c))"),
        ("a ^ b + c", "((a ^ b) + c)"),
        ("a = b < c", "((a = b) < c)"),
        ("a = b + c", "(a = (b + c))"),
        ("2 * a[0]", "(2 * (a [] 0))"),
        ("2 * s->x", "(2 * (s -> x))"),
        ("2 * s.y.z", "(2 * (s.y -> z))"),
        ("a[0]->b", "((a [] 0) -> b)"),
        ("NOT a = b AND c", "((not (a = b)) AND c)"),
        ("NOT a OR b", "((not a) OR b)"),
        ("-a * b", "((- a) * b)"),
        ("-a[0]", "(- (a [] 0))"),
        ("a -1", "(a - 1)"),
        ("a - -1", "(a - -1)"),
        ("a--1", "(a - -1)"),
        ("a BETWEEN 1 AND 2 AND b", "((a between 1 2) AND b)"),
        ("a BETWEEN b + 1 AND c * 2 = d", "((a between (b + 1) (c * 2)) = d)"),
        ("a OR b NOT BETWEEN 1 AND 2", "(a OR (b not between 1 2))"),
        ("a + 1 IN b->c AND d", "(((a + 1) in (b -> c)) AND d)"),
        ("a NOT IN b", "(a not in b)"),
        ("a LIKE \"x\" AND b", "((a like \"x\") AND b)"),
        ("a = 1 AND b IS NOT NULL", "((a = 1) AND (b is not null))"),
        ("a + b IS NULL", "((a + b) is null)"),
    ] {
        assert_eq!(grouped(&parse_expr(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn windows_stand_apart_from_keys() {
    let text =
        "SELECT a FROM demo GROUP BY a, SLIDINGWINDOW(ss, 10, 2) FILTER (WHERE b) OVER (WHEN c PARTITION BY d), e";
    let select = parse_select(text).unwrap();
    assert_eq!(select.group.iter().map(print_expr).collect::<Vec<_>>(), ["a", "e"]);
    let window = &select.windows[0];
    assert_eq!(window.kind, WindowKind::Sliding);
    assert_eq!(window.args.len(), 3);
    assert_eq!(window.filter.as_ref().map(print_expr).as_deref(), Some("b"));
    assert_eq!(window.when.as_ref().map(print_expr).as_deref(), Some("c"));
    assert_eq!(window.partition.iter().map(print_expr).collect::<Vec<_>>(), ["d"]);
    let span = window.span;
    assert!(text[span.start as usize..span.end as usize].starts_with("SLIDING"));
    assert!(text[span.start as usize..span.end as usize].ends_with("BY d)"));
}

#[test]
fn every_node_knows_its_place() {
    let text = "  a.b + f( x,1 )[ 2 ]->k * -3";
    let expr = parse_expr(text).unwrap();
    let mut places = vec![];
    let mut open = vec![&expr];
    while let Some(expr) = open.pop() {
        places.push(&text[expr.span.start as usize..expr.span.end as usize]);
        expr.parts(&mut |part| open.push(part));
    }
    places.sort_unstable();
    let expected = [
        "-3",
        "1",
        "2",
        "a.b",
        "a.b + f( x,1 )[ 2 ]->k * -3",
        "f( x,1 )",
        "f( x,1 )[ 2 ]",
        "f( x,1 )[ 2 ]->k",
        "f( x,1 )[ 2 ]->k * -3",
        "x",
    ];
    assert_eq!(places, expected);
}

#[test]
fn sources_options_and_defaults_are_held_as_meant() {
    let select = parse_select("SELECT a FROM /a/+/#, b").unwrap_err();
    assert_eq!(select[0].span, Some(Span::new(20, 21)));
    let source = |text: &str| {
        let from = parse_select(&format!("SELECT a FROM {text}")).unwrap().from;
        (from.name.name.to_string(), from.alias.map(|alias| alias.name.to_string()))
    };
    assert_eq!(source("/a/+/# AS x"), ("/a/+/#".into(), Some("x".into())));
    assert_eq!(source("a / b"), ("a/b".into(), None));
    assert_eq!(source("a b"), ("a".into(), Some("b".into())));
    assert_eq!(source("`a`b"), ("ab".into(), None));
    let Statement::Create(create) = accepts(
        "CREATE TABLE t (a BIGINT DEFAULT \"-7\", b FLOAT DEFAULT 2) WITH (kind=\"LookUp\", shared=true, KEY=\"Id\")",
    ) else {
        panic!("no CREATE")
    };
    let defaults: Vec<_> = create.columns.iter().map(|column| column.default.clone().unwrap()).collect();
    assert_eq!(defaults, [Literal::Int(-7), Literal::Float(2.0)]);
    let options: Vec<_> = create.options.iter().map(|option| (option.key.as_str(), option.value.as_str())).collect();
    assert_eq!(options, [("KIND", "lookup"), ("SHARED", "TRUE"), ("KEY", "Id")]);
}

#[test]
fn long_statements_are_broken_before_each_clause() {
    let text = "select temperature as celsius, upper(device) as device from `plant` where temperature > 30 and \
                not (device like 'x%') group by device, tumblingwindow(ss, 10) limit 5";
    let expected = "SELECT temperature AS celsius, upper(device) AS device\nFROM plant\n\
                    WHERE temperature > 30 AND NOT (device LIKE \"x%\")\n\
                    GROUP BY device, TUMBLINGWINDOW(ss, 10)\nLIMIT 5";
    assert_eq!(print_statement(&accepts(text)), expected);
}

#[test]
fn long_clauses_have_their_items_on_lines_of_their_own() {
    let text = "select deviceIdentifier as device, case when temperature > 100 then 'much too hot' when temperature > 80 \
                then 'rather hot' else 'as it should be' end as state, round(temperature * 1.8 + 32, 1) as fahrenheit \
                from plant left join machines on plant.deviceIdentifier = machines.identifier and machines.hall != \
                'test' and (machines.retired is null or machines.retired > plant.stamp) where temperature > 30 and \
                humidity between 20 and 80";
    let expected = r#"SELECT
    deviceIdentifier AS device,
    CASE
        WHEN temperature > 100 THEN "much too hot"
        WHEN temperature > 80 THEN "rather hot"
        ELSE "as it should be"
    END AS state,
    round(temperature * 1.8 + 32, 1) AS fahrenheit
FROM plant
LEFT JOIN machines ON plant.deviceIdentifier = machines.identifier
    AND machines.hall != "test"
    AND (machines.retired IS NULL OR machines.retired > plant.stamp)
WHERE temperature > 30 AND humidity BETWEEN 20 AND 80"#;
    assert_eq!(print_statement(&accepts(text)), expected);
    let text = "create stream plant (deviceIdentifier string, temperature float, humidity float, stamp bigint) \
                with (datasource=\"plant/+\", format=\"json\")";
    let expected = r#"CREATE STREAM plant (
    deviceIdentifier STRING,
    temperature FLOAT,
    humidity FLOAT,
    stamp BIGINT
) WITH (DATASOURCE="plant/+", FORMAT="json")"#;
    assert_eq!(print_statement(&accepts(text)), expected);
}

/// A tree that nobody wrote is printed with the parentheses that it needs.
#[test]
fn made_trees_are_printed_with_parentheses() {
    let e = |text: &str| Box::new(parse_expr(text).unwrap());
    let x = |node: ExprNode| Expr::new(node, Span::default());
    let sum = || Box::new(x(ExprNode::Binary(BinaryOp::Add, e("a"), e("b"))));
    for (node, text) in [
        (ExprNode::Binary(BinaryOp::Mul, sum(), sum()), "(a + b) * (a + b)"),
        (ExprNode::Binary(BinaryOp::Sub, e("a"), sum()), "a - (a + b)"),
        (ExprNode::Binary(BinaryOp::Eq, e("a"), e("NOT b")), "a = (NOT b)"),
        (ExprNode::Unary(UnaryOp::Neg, sum()), "-(a + b)"),
        (ExprNode::Unary(UnaryOp::Neg, e("5")), "-(5)"),
        (ExprNode::Unary(UnaryOp::Neg, e("-5")), "- -5"),
        (ExprNode::Index(sum(), e("0")), "(a + b)[0]"),
        (ExprNode::Unary(UnaryOp::Not, e("a OR b")), "NOT (a OR b)"),
    ] {
        assert_eq!(print_expr(&x(node)), text);
    }
}

#[test]
fn depth_is_limited_with_a_finding() {
    let code = |text: &str| parse_expr(text).map(|_| "").unwrap_or_else(|found| found[0].code);
    let wrap = |open: &str, close: &str, times: usize| format!("{}a{}", open.repeat(times), close.repeat(times));
    for (open, close) in [
        ("(", ")"),
        ("f(", ")"),
        ("a[", "]"),
        ("NOT ", ""),
        ("- ", ""),
        ("CASE a WHEN 1 THEN ", " END"),
        ("a IN (", ")"),
        ("a OR a AND a = a + a * (", ")"),
        ("f(1) OVER (PARTITION BY a OR a AND a = a + a * ", ")"),
    ] {
        assert_eq!(code(&wrap(open, close, 60)), "", "{open}");
        assert_eq!(code(&wrap(open, close, 200)), "K0106", "{open}");
        assert_eq!(code(&wrap(open, close, 50_000)), "K0106", "{open}");
    }
    for more in [" OR a", " + a", "->a", "[0]", " IS NULL", " = a"] {
        let tall = parse_expr(&format!("a{}", more.repeat(500))).unwrap();
        assert_eq!(shape(&parse_expr(&print_expr(&tall)).unwrap()), shape(&tall), "{more}");
        assert_eq!(code(&format!("a{}", more.repeat(50_000))), "K0106", "{more}");
    }
    let deep = format!("CREATE STREAM s (a {}BIGINT{}) WITH ()", "ARRAY(".repeat(9_000), ")".repeat(9_000));
    assert_eq!(parse(&deep).unwrap_err()[0].code, "K0106");
    let wide = format!("SELECT {} FROM demo", vec!["a + 1 AS b"; 5_000].join(", "));
    assert_eq!(parse_select(&wide).unwrap().fields.len(), 5_000);
}

/// No text makes the parser panic or hang: pieces of statements in any order.
#[test]
fn any_text_is_answered() {
    let statements = accepted();
    let pieces: Vec<&str> = statements.iter().flat_map(|text| text.split(' ')).collect();
    let mut seed = 7u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for _ in 0..20_000 {
        let mut text = statements[next(statements.len())].clone();
        for _ in 0..=next(3) {
            let at = (0..=next(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = (at..=text.len().min(at + next(12))).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.replace_range(at..end, pieces[next(pieces.len())]);
        }
        match parse(&text) {
            Ok(tree) => {
                for printed in [print_statement(&tree), tree.to_string()] {
                    assert_eq!(shape(&accepts(&printed)), shape(&tree), "{text}\n{printed}");
                }
            }
            Err(found) => assert!(!found.is_empty(), "{text}"),
        }
    }
}
