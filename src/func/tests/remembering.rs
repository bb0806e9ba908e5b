//! Functions that remember: the steps of one instance, with a save and load between any two.

use crate::data::pack::{self, Pack, Packer};

use super::*;

struct Packed<'a>(&'a dyn analytic::Analytic);

impl Pack for Packed<'_> {
    fn pack(&self, to: &mut Packer<'_>) -> Result<()> {
        self.0.pack(to)
    }
}

/// Steps of an analytic function in one partition: arguments, whether WHEN is met, result.
fn steps(name: &str, table: &[(&str, bool, &str)]) {
    let mut state = analytic::start_analytic(name, &[]).unwrap();
    for (n, (args, when, wanted)) in table.iter().enumerate() {
        let result = with_ctx(|ctx| state.step(&values(args), *when, ctx));
        assert_eq!(shown(result), *wanted, "{name}, step {n}");
        let saved = state.save();
        let packed = pack::bundle(std::iter::once(Packed(state.as_ref())));
        let packed: Vec<Value> = pack::unbundle(&packed).map(Result::unwrap).collect();
        assert_eq!(format!("{packed:?}"), format!("[{saved:?}]"), "{name}, step {n}");
        state = analytic::start_analytic(name, &[]).unwrap();
        state.load(saved).unwrap();
    }
}

#[test]
fn lag_looks_back() {
    steps("lag", &[("[1]", true, "null"), ("[2]", true, "1"), ("[null]", true, "2"), ("[3]", true, "2")]);
    steps(
        "lag",
        &[("[1, 2, 0]", true, "0"), ("[2, 2, 0]", false, "0"), ("[3, 2, 0]", true, "0"), ("[4, 2, 0]", true, "1")],
    );
    steps(
        "lag",
        &[("[1, 1, 0, false]", true, "0"), ("[null, 1, 0, false]", true, "1"), ("[2, 1, 0, false]", true, "null")],
    );
    steps("lag", &[("[1, 0]", true, "1"), ("[2, 0]", true, "2"), ("[3, 0]", false, "2")]);
    steps("lag", &[("[1, -1]", true, "error"), (r#"[1, "x"]"#, true, "error")]);
}

#[test]
fn latest_and_changes() {
    steps(
        "latest",
        &[("[null, 0]", true, "0"), ("[5, 0]", false, "0"), ("[6, 0]", true, "6"), ("[null, 0]", true, "6")],
    );
    steps(
        "changed_col",
        &[
            ("[true, 1]", true, "1"),
            ("[true, 1.0]", true, "1"),
            ("[true, 1.0]", true, "null"),
            ("[true, null]", true, "null"),
        ],
    );
    steps("changed_col", &[("[false, 1]", true, "1"), ("[false, null]", true, "null"), ("[false, 1]", true, "1")]);
    steps("changed_col", &[("[true, 1]", false, "null"), ("[true, 1]", true, "1"), ("[1, 1]", true, "error")]);
    steps(
        "had_changed",
        &[
            ("[true, 1, 2]", true, "true"),
            ("[true, 1, 3]", false, "false"),
            ("[true, 1, 3]", true, "true"),
            ("[true, null, 3]", true, "false"),
            ("[false, null, 3]", true, "true"),
        ],
    );
}

#[test]
fn running_aggregates() {
    steps(
        "acc_sum",
        &[
            ("[3]", true, "3"),
            ("[null]", true, "3"),
            ("[100]", false, "3"),
            (r#"["7"]"#, true, "error"),
            ("[2.5]", true, "5.5"),
        ],
    );
    steps("acc_sum", &[("[9007199254740993]", true, "9007199254740993"), ("[1]", true, "9007199254740994")]);
    steps("acc_count", &[(r#"["x"]"#, true, "1"), ("[null]", true, "1"), ("[[]]", true, "2")]);
    steps("acc_avg", &[("[null]", true, "0"), ("[3]", true, "3"), ("[4]", true, "3.5")]);
    steps("acc_max", &[("[-5]", true, "-5"), ("[-9]", true, "-5")]);
    // From the row that begins it to the one that ends it, though that one does not count.
    steps(
        "acc_min",
        &[
            ("[1, false, false]", true, "0"),
            ("[6, true, false]", true, "6"),
            ("[2, false, false]", true, "2"),
            ("[1, false, true]", false, "2"),
            ("[7, false, false]", true, "0"),
            ("[4, true, true]", true, "4"),
            ("[3, false, false]", true, "0"),
            ("[3, 1, false]", true, "error"),
        ],
    );
}

#[test]
fn changed_columns() {
    let mut state = analytic::ChangedCols::default();
    let mut step = |ignore_null: bool, columns: &str| {
        let Value::Object(columns) = value(columns) else { panic!() };
        let columns: Vec<(Text, Value)> = columns.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        shown(state.step(&Value::text("c_"), &Value::Bool(ignore_null), &columns).map(Value::object))
    };
    assert_eq!(step(false, r#"{"t": 20, "h": 0.5}"#), r#"{"c_h":0.5,"c_t":20}"#);
    assert_eq!(step(false, r#"{"t": null, "h": 0.5}"#), r#"{"c_t":null}"#);
    assert_eq!(step(true, r#"{"t": null, "h": null}"#), "{}");
    assert_eq!(step(false, r#"{"t": 20, "h": 0.5}"#), r#"{"c_t":20}"#);
}

#[test]
fn incremental_functions_leave_nulls_out() {
    for (name, rows, wanted) in [
        ("inc_avg", r#"[[4], ["6"], [null], [true]]"#, "4 5 5 3.6666666666666665"),
        ("inc_sum", r#"[[4], [0.5], [{}], ["q"]]"#, "4 4.5 4.5 error"),
        ("inc_max", "[[3], [7.9], [null], [5]]", "3 7.9 7.9 7.9"),
        ("inc_min", r#"[[3.5], ["a"], [0.25]]"#, "3.5 error 0.25"),
        ("inc_count", "[[1], [null], [[]]]", "1 1 2"),
        ("inc_collect", "[[1], [[]]]", "[1] [1,[]]"),
        ("inc_last_value", "[[1, true], [null, true], [null, false]]", "1 1 null"),
    ] {
        let Body::Stateful(start) = find(name).body else { panic!() };
        let mut state = start();
        let results: Vec<String> = values(rows)
            .iter()
            .map(|args| {
                let Value::Array(args) = args else { panic!() };
                let result = with_ctx(|ctx| state.call(args, ctx));
                let saved = state.save();
                state = start();
                state.load(saved).unwrap();
                shown(result)
            })
            .collect();
        assert_eq!(results.join(" "), wanted, "{name}");
    }
}

#[test]
fn a_compressor_keeps_to_its_first_method() {
    let Body::Stateful(start) = find("compress").body else { panic!() };
    let Body::Stateful(start_back) = find("decompress").body else { panic!() };
    with_ctx(|ctx| {
        for method in ["zlib", "gzip", "flate"] {
            let (mut there, mut back) = (start(), start_back());
            let packed = there.call(&[Value::text("roundabout"), Value::text(method)], ctx).unwrap();
            let unpacked = back.call(&[packed, Value::text(method)], ctx).unwrap();
            assert_eq!(unpacked, Value::bytes(b"roundabout"), "{method}");
            assert!(there.call(&[Value::text("x"), Value::text("other")], ctx).is_err());
        }
        // A small input must not become a huge one.
        let huge = start().call(&[Value::bytes(&vec![0; args::MAX_TEXT + 1]), Value::text("zlib")], ctx).unwrap();
        assert!(start_back().call(&[huge, Value::text("zlib")], ctx).is_err());
    });
}

#[test]
fn had_changed_compares_the_columns_of_a_whole_row() {
    let run = |ignore_null: bool, table: &[(&str, &str)]| {
        let mut state = analytic::start_analytic("had_changed", &[1]).unwrap();
        for (row, wanted) in table {
            let args = [Value::Bool(ignore_null), value(row)];
            assert_eq!(shown(with_ctx(|ctx| state.step(&args, true, ctx))), *wanted, "{row}");
            let saved = state.save();
            state = analytic::start_analytic("had_changed", &[1]).unwrap();
            state.load(saved).unwrap();
        }
    };
    // A column that is null or gone does not count where nulls are passed over, and is remembered meanwhile.
    run(
        true,
        &[
            (r#"{"a":1,"b":2}"#, "true"),
            (r#"{"b":2,"a":1}"#, "false"),
            (r#"{"a":1}"#, "false"),
            (r#"{"a":null,"b":2}"#, "false"),
            (r#"{"a":1,"b":3}"#, "true"),
            (r#"{"a":1.0,"b":3}"#, "true"),
            (r#"{}"#, "false"),
        ],
    );
    run(
        false,
        &[
            (r#"{"a":1,"b":null}"#, "true"),
            (r#"{"a":1}"#, "false"),
            (r#"{"b":5}"#, "true"),
            (r#"{"b":5,"a":null}"#, "false"),
            (r#"{"b":5,"a":1}"#, "true"),
            (r#"{}"#, "true"),
        ],
    );
}
