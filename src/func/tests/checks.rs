//! What is refused when a rule is made, with the sentence that says why.

use super::*;

fn int(n: i64) -> Arg {
    Arg::Literal(Value::Int(n))
}

fn float(x: f64) -> Arg {
    Arg::Literal(Value::Float(x))
}

fn text(text: &str) -> Arg {
    Arg::Literal(Value::text(text))
}

fn yes() -> Arg {
    Arg::Literal(Value::Bool(true))
}

fn column() -> Arg {
    Arg::Column("a".into())
}

fn check(name: &str, args: &[Arg]) -> std::result::Result<(), String> {
    check_call(find(name), args)
}

#[test]
fn a_wrong_call_says_what_is_expected_and_found() {
    let sentence = |name: &str, args: &[Arg]| check(name, args).unwrap_err();
    assert_eq!(sentence("abs", &[int(1), int(2)]), "`abs` takes 1 argument, but 2 are given");
    assert_eq!(sentence("cot", &[]), "`cot` takes 1 argument, but none is given");
    assert_eq!(sentence("round", &[]), "`round` takes 1 or 2 arguments, but none is given");
    assert_eq!(sentence("tstamp", &[int(1)]), "`tstamp` takes no argument, but 1 is given");
    assert_eq!(sentence("had_changed", &[yes()]), "`had_changed` takes at least 2 arguments, but 1 is given");
    assert_eq!(sentence("acc_sum", &[column(), yes()]), "`acc_sum` takes 1 or 3 arguments, but 2 are given");
    assert_eq!(sentence("abs", &[text("3")]), "`abs`: argument 1 must be a number, found string `3`");
    assert_eq!(
        sentence("conv", &[text("1"), column(), int(10)]),
        "`conv`: argument 2 must be an integer literal, found column `a`"
    );
    assert_eq!(sentence("sum", &[Arg::Wildcard]), "`sum`: argument 1 must be a number, found `*`");
    assert_eq!(sentence("upper", &[Arg::Unit]), "`upper`: argument 1 must be a string, found a time unit");
}

#[test]
fn literals_are_checked() {
    let refused: &[(&str, &[Arg])] = &[
        ("bitand", &[float(1.5), int(2)]),
        ("round", &[float(1.5), text("a")]),
        ("conv", &[text("1"), int(2), float(10.0)]),
        ("concat", &[text("a"), int(1)]),
        ("lpad", &[text("a"), text("2")]),
        ("substring", &[text("a"), float(1.5)]),
        ("substring", &[text("a"), int(-1)]),
        ("split_value", &[text("a"), text("b"), int(-1)]),
        ("format", &[column(), int(2), column()]),
        ("format", &[column(), column()]),
        ("endswith", &[text("a"), yes()]),
        ("cast", &[column(), text("text")]),
        ("encode", &[text("a"), text("hex")]),
        ("encode", &[text("a"), text("BASE64")]),
        ("encode", &[text("a"), column()]),
        ("trunc", &[text("1.5"), int(1)]),
        ("chr", &[float(65.0)]),
        ("convert_tz", &[int(1), text("UTC")]),
        ("md5", &[int(1)]),
        ("avg", &[text("a")]),
        ("sum", &[yes()]),
        ("percentile_cont", &[column(), text("0.5")]),
        ("last_value", &[column(), int(1)]),
        ("last_value", &[column(), column()]),
        ("lag", &[column(), float(1.5)]),
        ("lag", &[column(), int(-1)]),
        ("lag", &[column(), column()]),
        ("lag", &[column(), int(1), int(2), int(3)]),
        ("changed_col", &[text("true"), column()]),
        ("had_changed", &[int(1), column()]),
        ("changed_cols", &[text("c_"), int(1), column()]),
        ("object_construct", &[text("a")]),
        ("object_construct", &[int(1), int(2)]),
        ("erase", &[column(), text("b"), text("c")]),
        ("delay", &[text("1s"), column()]),
        ("json_path_query", &[column(), column()]),
        ("meta", &[text("topic")]),
        ("mqtt", &[Arg::Column("qos".into())]),
        ("props", &[int(1)]),
        ("get_keyed_state", &[text("k"), text("bytea"), int(1)]),
    ];
    for (name, args) in refused {
        assert!(check(name, args).is_err(), "{name}({args:?})");
    }
    let accepted: &[(&str, &[Arg])] = &[
        ("bitnot", &[int(-4)]),
        ("length", &[column()]),
        ("length", &[int(5)]),
        ("cast", &[column(), column()]),
        ("array_create", &[]),
        ("object_construct", &[]),
        ("repeat", &[text("a"), int(3)]),
        ("last_value", &[column(), Arg::Other]),
        ("deduplicate", &[column(), yes()]),
        ("collect", &[Arg::Wildcard]),
        ("lag", &[column(), int(1), int(2), yes()]),
        ("changed_cols", &[text("c_"), yes(), Arg::Wildcard]),
        ("json_path_query", &[column(), text("$[")]),
        ("mqtt", &[Arg::Column("messageId".into())]),
        ("meta", &[Arg::Wildcard]),
        ("bypass", &[column(), column()]),
        ("abs", &[Arg::Literal(Value::Null)]),
    ];
    for (name, args) in accepted {
        assert_eq!(check(name, args), Ok(()), "{name}({args:?})");
    }
}
