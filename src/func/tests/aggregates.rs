//! Groups: name, each argument as the list of its values in the group, result as JSON or `error`.

use super::*;

/// The result over the rows, with a save and load in the middle.
fn over(name: &str, columns: &str) -> Result<Value> {
    let Body::Aggregate(start) = find(name).body else { panic!("`{name}` is no aggregate") };
    let columns: Vec<Vec<Value>> = values(columns)
        .into_iter()
        .map(|column| match column {
            Value::Array(items) => items.to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    with_ctx(|ctx| {
        let mut group = start();
        let rows = columns.first().map_or(0, Vec::len);
        for row in 0..rows {
            if row == rows / 2 {
                let saved = group.save();
                group = start();
                group.load(saved)?;
            }
            let args: Vec<Value> = columns.iter().map(|column| column[row].clone()).collect();
            group.add(&args, ctx)?;
        }
        let twice = (group.give(), group.give());
        assert_eq!(shown(twice.0.clone()), shown(twice.1), "{name} gives the same twice");
        twice.0
    })
}

#[test]
fn groups() {
    for (name, columns, wanted) in [
        ("count", "[[]]", "null"),
        ("count", "[[null, null]]", "0"),
        ("count", r#"[["", false, null]]"#, "2"),
        ("sum", "[[4, 7, null]]", "11"),
        ("sum", "[[9223372036854775807, -1, 1]]", "9223372036854775807"),
        ("sum", "[[9223372036854775807, 1]]", "9223372036854776000"),
        ("sum", "[[1, 2.5]]", "3.5"),
        ("sum", "[[null]]", "null"),
        ("sum", "[[]]", "null"),
        ("sum", "[[1e308, 1e308]]", "null"),
        ("sum", r#"[["x"]]"#, "error"),
        ("avg", "[[4, 7]]", "5.5"),
        ("avg", "[[4, 7, 1]]", "4"),
        ("avg", "[[9007199254740993, 9007199254740993]]", "9007199254740993"),
        ("avg", "[[1e308, 1e308]]", "1e+308"),
        ("avg", "[[2.5, 1]]", "1.75"),
        ("avg", "[[true]]", "error"),
        ("min", "[[2.5, 1, null]]", "1"),
        ("min", "[[9007199254740993, 9007199254740992.0]]", "9007199254740992"),
        ("max", "[[9007199254740993, 9007199254740992.0]]", "9007199254740993"),
        ("max", r#"[["pear", null, "Zoo"]]"#, r#""pear""#),
        ("max", r#"[["a", 1]]"#, "error"),
        ("max", "[[true]]", "error"),
        ("median", "[[3, 1.5, 2]]", "2"),
        ("median", "[[null, 3.5, 1.5]]", "2.5"),
        ("median", "[[]]", "null"),
        ("median", r#"[["b"]]"#, "error"),
        ("stddev", "[[4, 7]]", "1.5"),
        ("stddev", "[[1e308, 1e308]]", "0"),
        ("stddevs", "[[-5]]", "null"),
        ("stddevs", "[[4, 7, 1]]", "3"),
        ("var", "[[-5]]", "0"),
        ("vars", "[[2, null, 5]]", "4.5"),
        ("percentile_cont", "[[15, 20, 35, 40, 50], [0.1, 0.1, 0.1, 0.1, 0.1]]", "17"),
        ("percentile_cont", "[[1, 2], [1.5, 1.5]]", "error"),
        ("percentile_cont", "[[null], [0.5]]", "null"),
        ("percentile_disc", "[[15, 20, 35, 40, 50], [0, 0, 0, 0, 0]]", "15"),
        ("percentile_disc", "[[15, 20, 35, 40, 50], [0.9, 0.9, 0.9, 0.9, 0.9]]", "50"),
        ("collect", "[[]]", "null"),
        ("collect", r#"[[1, null, "x"]]"#, r#"[1,null,"x"]"#),
        ("merge_agg", r#"[[{"a": 1}, null, 5, {"a": 3, "b": 2}]]"#, r#"{"a":3,"b":2}"#),
        ("merge_agg", "[[{}]]", "{}"),
        ("merge_agg", r#"[[1, "x"]]"#, "null"),
        ("last_value", "[[1, 2, null], [true, true, true]]", "2"),
        ("last_value", "[[1, 2, null], [false, false, false]]", "null"),
        ("last_value", "[[1], [7]]", "error"),
        (
            "deduplicate",
            r#"[[{"a": 1}, {"a": 2}, {"a": 1, "b": 0}], [1, 2, 1], [true, true, true]]"#,
            r#"[{"a":1},{"a":2}]"#,
        ),
        ("deduplicate", r#"[[{"a": 1}, {"a": 2}], [1, 2], [false, false]]"#, r#"{"a":2}"#),
        ("deduplicate", r#"[[{"a": 1}, {"a": 1}], [1, 1], [false, false]]"#, "null"),
    ] {
        assert_eq!(shown(over(name, columns)), wanted, "{name} over {columns}");
    }
    assert!(aggregate::wants_row(find("deduplicate")) && !aggregate::wants_row(find("collect")));
}
