//! Calls of scalar functions: name, arguments as a JSON array, result as JSON or `error`.

use super::*;

fn check(table: &[(&str, &str, &str)]) {
    for (name, args, wanted) in table {
        assert_eq!(shown(call(name, &values(args))), *wanted, "{name}({args})");
    }
}

#[test]
fn math() {
    check(&[
        ("abs", "[-9007199254740993]", "9007199254740993"),
        ("abs", "[-9223372036854775808]", "error"),
        ("abs", r#"["3"]"#, "error"),
        ("acos", "[2]", "null"),
        ("bitand", "[7.0, 5]", "5"),
        ("bitand", "[7.5, 5]", "error"),
        ("bitnot", "[9223372036854775807]", "-9223372036854775808"),
        ("ceil", "[-2.9]", "-2"),
        ("ceil", "[9007199254740993]", "9007199254740993"),
        ("cot", "[0]", "error"),
        ("conv", r#"["12", 2, 10]"#, r#""1""#),
        ("conv", r#"["zz", 10, 2]"#, r#""0""#),
        ("conv", r#"["-5", 10, 16]"#, r#""FFFFFFFFFFFFFFFB""#),
        ("conv", r#"["-5", -10, -16]"#, r#""-5""#),
        ("conv", r#"["99999999999999999999", -10, 10]"#, "error"),
        ("conv", r#"["18446744073709551615", -10, 10]"#, r#""9223372036854775807""#),
        ("conv", r#"[255.0, 10, 16]"#, r#""FF""#),
        ("conv", r#"["1", 37, 10]"#, "null"),
        ("ln", "[0]", "null"),
        ("ln", "[-1]", "error"),
        ("log", "[1, 5]", "null"),
        ("log", "[-1]", "error"),
        ("log", "[3, 81]", "4"),
        ("mod", "[-7.5, 2]", "-1.5"),
        ("mod", "[9007199254740993, 10]", "3"),
        ("mod", "[5, 0]", "null"),
        ("mod", "[-9223372036854775808, -1]", "0"),
        ("power", "[0, -1]", "null"),
        ("round", "[2.675, 2]", "2.68"),
        ("round", "[-2.5]", "-3"),
        ("round", "[15, -1]", "20"),
        ("round", "[1e300, 300]", "1e+300"),
        ("round", "[123.456, 400]", "123.456"),
        ("round", "[1.5, 1.9]", "1.5"),
        ("sign", "[-0.0]", "0"),
        ("sqrt", "[-4]", "error"),
        ("sqrt", "[null]", "null"),
        ("sin", "[[]]", "null"),
        ("sin", "[{}]", "null"),
    ]);
}

#[test]
fn text() {
    check(&[
        ("concat", r#"["a", null, 12.5]"#, r#""a12.5""#),
        ("concat", r#"["n=", 1000000.0]"#, r#""n=1000000""#),
        ("concat", r#"[[1, "x"], "|"]"#, r#""[1,\"x\"]|""#),
        ("endswith", r#"["abc", null]"#, "false"),
        ("startswith", r#"[1205, 12]"#, "true"),
        ("indexof", r#"["é漢😀", "😀"]"#, "2"),
        ("indexof", r#"["a", null]"#, "-1"),
        ("length", r#"["é漢😀"]"#, "3"),
        ("length", r#"[[1, null, 3]]"#, "3"),
        ("length", r#"[null]"#, "0"),
        ("numbytes", r#"["é漢😀"]"#, "9"),
        ("upper", r#"["straße ñ"]"#, r#""STRAßE Ñ""#),
        ("lpad", r#"["a", 2.0]"#, r#""  a""#),
        ("lpad", r#"["a", -1]"#, "error"),
        ("lpad", r#"["a", 9000000000]"#, "error"),
        ("trim", r#"["\u0085mid dle\u2028"]"#, r#""mid dle""#),
        ("ltrim", r#"["\u200Bz"]"#, "\"\u{200b}z\""),
        ("reverse", r#"["é漢😀"]"#, r#""😀漢é""#),
        ("regexp_matches", r#"["a\nb", "a.b"]"#, "false"),
        ("regexp_matches", r#"["abc", "["]"#, "error"),
        ("regexp_matches", r#"["abc", null]"#, "false"),
        ("regexp_replace", r#"["john smith", "(\\w+) (\\w+)", "${2}_$1"]"#, r#""smith_john""#),
        ("regexp_replace", r#"["aaa", "a", "$0x"]"#, r#""""#),
        ("regexp_substr", r#"["none", "[0-9]+"]"#, r#""""#),
        ("substring", r#"["é漢😀", 1, 2]"#, r#""漢😀""#),
        ("substring", r#"["abc", -1]"#, "error"),
        ("substring", r#"["abc", 0, -1]"#, "error"),
        ("split_value", r#"["a/b/c", "/", -1]"#, r#""c""#),
        ("split_value", r#"["a/b/c", "/", 3]"#, "error"),
        ("split_value", r#"["a/b/c", "/", -4]"#, "error"),
        ("split_value", r#"["abc", "", 1]"#, r#""b""#),
        ("format", r#"[2.5, 0]"#, r#""2""#),
        ("format", r#"[9007199254740993, 1]"#, r#""9007199254740993.0""#),
        ("format", r#"[98765.4321, 2, "fr_FR"]"#, "\"98\u{a0}765,43\""),
        ("format", r#"[1.5, 1, "en"]"#, "error"),
        ("format", r#"[1.5, -1]"#, "error"),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("cast", r#"["0x10", "bigint"]"#, "16"),
        ("cast", r#"["1.5", "bigint"]"#, "error"),
        ("cast", r#"[1e19, "bigint"]"#, "error"),
        ("cast", r#"["010", "bigint"]"#, "10"),
        ("cast", r#"["2.5", "float"]"#, "2.5"),
        ("cast", r#"["yes", "boolean"]"#, "error"),
        ("cast", r#"[0.0000001, "string"]"#, r#""0.0000001""#),
        ("cast", r#"[-1, "datetime"]"#, r#""1969-12-31T23:59:59.999Z""#),
        ("cast", r#"["hello!", "bytea"]"#, r#""aGVsbG8h""#),
        ("cast", r#"[1, "BIGINT"]"#, "error"),
        ("cast", r#"[null, "string"]"#, "null"),
        ("encode", r#"["é", "BASE64"]"#, r#""w6k=""#),
        ("encode", r#"[1, "base64"]"#, "error"),
        ("decode", r#"["YQ", "base64"]"#, "error"),
        ("trunc", "[0.29, 2]", "0.29"),
        ("trunc", "[-1.99, 1]", "-1.9"),
        ("trunc", "[1234.5, -2]", "1234"),
        ("chr", r#"["é"]"#, "233"),
        ("chr", r#"["ab"]"#, "error"),
        ("chr", "[128512]", r#""😀""#),
        ("chr", "[65.9]", "65"),
        ("hex2dec", r#"["0xff"]"#, "255"),
        ("hex2dec", r#"["ffffffffffffffff"]"#, "error"),
        ("hex2dec", "[10]", "error"),
        ("dec2hex", "[9223372036854775807]", r#""0x7fffffffffffffff""#),
        ("dec2hex", "[16.5]", "error"),
        ("convert_tz", r#"[1700000000000, "Asia/Tokyo"]"#, r#""2023-11-15T07:13:20+09:00""#),
        ("convert_tz", r#"[1700000000000, "asia/tokyo"]"#, "error"),
        ("compress", r#"["x", "zstd"]"#, "error"),
        ("compress", r#"[null, "zlib"]"#, "null"),
        ("decompress", r#"["not zlib", "zlib"]"#, "error"),
    ]);
}

#[test]
fn digests() {
    check(&[
        ("md5", r#"["kuiper"]"#, r#""a997d4e39a8639c9d95abc3746474428""#),
        ("md5", "[42]", r#""a1d0c6e83f027327d8461063f4ac58a6""#),
        ("sha1", r#"["kuiper"]"#, r#""b0f43190b334cebb0faeb920a28e5b41c12592f8""#),
        ("crc32", r#"[""]"#, r#""00000000""#),
        ("crc32", "[null]", "null"),
    ]);
    assert_eq!(shown(call("md5", &[Value::bytes(&[255])])), r#""00594fd4f42ba43fc1ca0427a0576295""#);
}

#[test]
fn arrays() {
    check(&[
        ("array_create", "[null]", "null"),
        ("array_position", "[[1, 2], 2.0]", "1"),
        ("array_position", "[[[1], [2]], [2]]", "1"),
        ("array_position", "[null, 1]", "-1"),
        ("array_position", r#"["abc", "a"]"#, "error"),
        ("array_last_position", "[[null, null], null]", "1"),
        ("array_contains", r#"[["1"], 1]"#, "false"),
        ("array_contains_any", "[[1], null]", "error"),
        ("element_at", "[[7, 8, 9], -3]", "7"),
        ("element_at", "[[7], 1]", "error"),
        ("element_at", r#"[{"k": 1}, "x"]"#, "null"),
        ("array_remove", "[[null, 1, null], null]", "[1]"),
        ("array_intersect", "[[4, 5, 6], [6, 4, 4]]", "[6,4]"),
        ("array_union", r#"[null, ["b", "b"]]"#, r#"["b"]"#),
        ("array_except", "[[1, 1, 2], [2.0]]", "[1]"),
        ("array_max", "[[1, 2.9, null]]", "2.9"),
        ("array_max", r#"[["a", 1]]"#, "error"),
        ("array_min", "[[null]]", "null"),
        ("array_cardinality", r#"[[7, null, "x"]]"#, "2"),
        ("cardinality", r#"["abc"]"#, "0"),
        ("array_flatten", "[[[], []]]", "[]"),
        ("array_distinct", "[[[1], [1], 2, 2.0, null, null]]", "[[1],[1],2,null]"),
        ("array_map", r#"["UPPER", ["a", null]]"#, r#"["A",null]"#),
        ("array_map", r#"["power", [1]]"#, "error"),
        ("array_map", r#"["ln", [-1, 1]]"#, "error"),
        ("array_map", r#"["sum", [1]]"#, "error"),
        ("array_join", r#"[[null, "a", 1000000.0], "+", "?"]"#, r#""?+a+1000000""#),
        ("array_join", r#"[["a"], ",", 5]"#, "error"),
        ("array_sort", "[[10, 9, 1, null, 2.5]]", "[1,2.5,9,10,null]"),
        ("array_sort", r#"[["b", 10, 9]]"#, r#"[10,9,"b"]"#),
        ("array_concat", "[null]", "[]"),
        ("repeat", r#"["x", -1]"#, "error"),
        ("repeat", r#"["x", 9000000000]"#, "error"),
        ("sequence", "[5, 1]", "[5,4,3,2,1]"),
        ("sequence", "[5, 4, 3]", "[]"),
        ("sequence", "[9223372036854775806, 9223372036854775807]", "[9223372036854775806,9223372036854775807]"),
        ("sequence", "[1, 5, 0]", "error"),
        ("sequence", "[-9223372036854775808, 9223372036854775807]", "error"),
        ("kvpair_array_to_obj", r#"[[{"key": "p"}]]"#, "error"),
    ]);
}

#[test]
fn an_array_in_an_argument_stays_as_it_is() {
    let args = values("[[2, 1, 2], 2]");
    let before = args.clone();
    for name in ["array_remove", "array_sort", "array_shuffle"] {
        let func = find(name);
        call(name, &args[..arity(func).counts[0]]).unwrap();
        assert_eq!(args, before, "{name}");
    }
}

#[test]
fn objects() {
    check(&[
        ("keys", r#"[{"b": 1, "a": 2}]"#, r#"["b","a"]"#),
        ("keys", "[{}]", "null"),
        ("values", r#"["a"]"#, "error"),
        ("object", r#"[["a"], [1, 2]]"#, "error"),
        ("zip", r#"[[null, ["a", 2]]]"#, r#"{"a":2}"#),
        ("zip", r#"[[["a"]]]"#, "error"),
        ("items", r#"[{"p": null}]"#, r#"[["p",null]]"#),
        ("object_concat", r#"[{"a": 1}, null, {"a": null}]"#, r#"{"a":null}"#),
        ("object_concat", r#"[{"a": 1}, 5]"#, "error"),
        ("object_construct", r#"["k", null, null, 1, "l", 2]"#, r#"{"k":null,"l":2}"#),
        ("object_construct", "[true, 1]", "error"),
        ("object_pick", r#"[{"a": {"b": {"c": 1, "d": 2}}}, ["a.b.c", "a.b.d"]]"#, r#"{"a":{"b":{"c":1,"d":2}}}"#),
        ("object_pick", r#"[{"a": 1}, "a.q", 5, "zz"]"#, "{}"),
        ("object_pick", r#"[null, "a"]"#, "null"),
        ("object_size", "[null]", "0"),
        ("erase", r#"[{"1": "x", "2": "y"}, [1]]"#, r#"{"2":"y"}"#),
        ("erase", r#"[{"a": 1}, 1]"#, "error"),
        ("obj_to_kvpair_array", r#"[{"a": 1}]"#, r#"[{"key":"a","value":1}]"#),
    ]);
}

#[test]
fn json_functions() {
    check(&[
        ("json_path_query", r#"[{"a": [1, 2]}, "$.a[*]"]"#, "[1,2]"),
        ("json_path_query", r#"[null, "$"]"#, "error"),
        ("json_path_query_first", r#"[{"a": []}, "$.a"]"#, "error"),
        ("json_path_exists", r#"["{\"a\":null}", "$.a"]"#, "true"),
        ("json_path_exists", r#"["x", "$.a"]"#, "false"),
        ("to_json", r#"[{"b": [], "a": "<"}]"#, r#""{\"a\":\"\\u003c\",\"b\":[]}""#),
        ("to_json", "[[]]", r#""[]""#),
        ("parse_json", r#"["{\"a\":9007199254740993}"]"#, r#"{"a":9007199254740993}"#),
        ("parse_json", r#"[" null"]"#, "null"),
        ("parse_json", r#"["1 2"]"#, "error"),
    ]);
}

#[test]
fn others() {
    check(&[
        ("isnull", "[[]]", "false"),
        ("coalesce", "[null, null]", "null"),
        ("coalesce", "[null, false]", "false"),
        ("tstamp", "[]", "1700000000000"),
        ("rule_id", "[]", r#""r1""#),
        ("rule_start", "[]", "1699999999000"),
        ("delay", "[1, []]", "[]"),
        ("delay", "[null, 1]", "null"),
        ("props", r#"["PLANT"]"#, r#""north""#),
        ("props", r#"["et"]"#, r#""1700000000000""#),
        ("props", r#"["none"]"#, "error"),
        ("get_keyed_state", r#"["k", "bytea", 1]"#, "error"),
        ("get_keyed_state", r#"["k", "bigint", 1]"#, "1"),
    ]);
    let ids: BTreeSet<String> = (0..50).map(|_| shown(call("newuuid", &[]))).collect();
    assert_eq!(ids.len(), 50);
    let id = uuid::Uuid::parse_str(value(ids.first().unwrap()).as_str().unwrap()).unwrap();
    let (seconds, _) = id.get_timestamp().unwrap().to_unix();
    assert_eq!((id.get_version_num(), seconds), (1, 1_700_000_000));
}

#[test]
fn rows_come_from_arrays_and_objects() {
    let expand = |name: &str, of: &str| shown(rows::expand(name, &value(of)).map(Value::array));
    assert_eq!(expand("unnest", r#"[4, "x", null]"#), r#"[4,"x",null]"#);
    assert_eq!(expand("extract", r#"{"a": {"b": 1}}"#), r#"[{"a":{"b":1}}]"#);
    for (name, of) in [("unnest", "[]"), ("unnest", "null"), ("extract", "{}"), ("extract", "[1]"), ("unnest", "{}")] {
        assert_eq!(expand(name, of), "error", "{name}({of})");
    }
}
