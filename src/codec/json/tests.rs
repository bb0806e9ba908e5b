#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value as Json;

use crate::codec::{Decoder, Encoder, FormatOptions, Rows, Wanted, WantedColumn};
use crate::data::{Batch, Column, DateTime, Kind, Layout, Object, Receipt, Time, Value};

use super::{decode, encode, parse};

fn wanted(names: &[&str], rest: bool) -> Wanted {
    let columns = names
        .iter()
        .enumerate()
        .map(|(slot, name)| WantedColumn { name: (*name).into(), slot, kind: None })
        .collect::<Vec<_>>();
    let width = columns.len() + usize::from(rest);
    Wanted { columns, rest: rest.then(|| width - 1), width }
}

fn declared(kind: Kind) -> Wanted {
    Wanted { columns: vec![WantedColumn { name: "x".into(), slot: 0, kind: Some(kind) }], rest: None, width: 1 }
}

fn decoder(wanted: &Wanted, whole_numbers_as_int: bool) -> decode::Json {
    decode::Json::new(&FormatOptions { whole_numbers_as_int, ..FormatOptions::default() }, wanted)
}

/// The rows of one message.
fn rows(wanted: &Wanted, whole_as_int: bool, text: &str) -> Result<Vec<Vec<Value>>, String> {
    let mut batch = Batch::new(wanted.width);
    let count = decoder(wanted, whole_as_int).decode(text.as_bytes(), &mut batch).map_err(|fault| fault.to_string())?;
    assert_eq!(count, batch.rows());
    Ok((0..count).map(|row| batch.row(row).to_vec()).collect())
}

fn one(wanted: &Wanted, text: &str) -> Vec<Value> {
    let mut all = rows(wanted, false, text).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn absent(value: &Value) -> bool {
    matches!(value, Value::Absent)
}

#[test]
fn only_wanted_columns_are_filled() {
    let text = r#" { "deviceId" : "d0001", "ts":1700000000001,"temperature":20.15,"a":{"b":[1,null]},"gone":null} "#;
    let row = one(&wanted(&["temperature", "gone", "missing", "a"], false), text);
    assert_eq!(row[0], Value::Float(20.15));
    assert!(matches!(row[1], Value::Null));
    assert!(absent(&row[2]));
    let inner = Object::from_iter([("b", Value::array(vec![Value::Float(1.0), Value::Null]))]);
    assert_eq!(row[3], Value::object(inner));
}

#[test]
fn the_rest_holds_what_no_column_names() {
    let row = one(&wanted(&["b"], true), r#"{"c":1,"b":2,"a":"x","c":3}"#);
    assert_eq!(row[0], Value::Float(2.0));
    assert_eq!(row[1], Value::object(Object::from_iter([("c", Value::Float(3.0)), ("a", Value::text("x"))])));
    let row = one(&wanted(&[], true), "{}");
    assert_eq!(row[0], Value::object(Object::new()));
}

#[test]
fn of_two_entries_of_one_name_the_last_counts() {
    let row = one(&wanted(&["a"], false), r#"{"a":1,"b":2,"a":"three"}"#);
    assert_eq!(row[0], Value::text("three"));
}

#[test]
fn an_array_gives_a_row_an_item() {
    let all = rows(&wanted(&["a"], false), false, r#"[{"a":1}, {"b":2}, {"a":3}]"#).unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0][0], Value::Float(1.0));
    assert!(absent(&all[1][0]));
    assert_eq!(all[2][0], Value::Float(3.0));
    assert_eq!(rows(&wanted(&["a"], false), false, " [ ] ").unwrap().len(), 0);
}

#[test]
fn a_fault_leaves_the_batch_as_it_was() {
    let wanted = wanted(&["a"], false);
    let mut batch = Batch::new(1);
    let mut decoder = decoder(&wanted, false);
    batch.push(Time(7), Receipt::none())[0] = Value::Int(7);
    assert!(decoder.decode(br#"[{"a":1},{"a":2},{"a":}]"#, &mut batch).is_err());
    assert_eq!((batch.rows(), batch.selected(), batch.time(0)), (1, &[0][..], Time(7)));
    assert_eq!(decoder.decode(br#"{"a":3}"#, &mut batch), Ok(1));
    assert_eq!(batch.row(1), [Value::Float(3.0)]);
}

#[test]
fn faults_say_where_and_what() {
    let told = |text: &str| rows(&wanted(&["a"], false), false, text).unwrap_err();
    assert_eq!(told(""), "malformed json: the message is empty");
    assert_eq!(told("  "), "malformed json: the message is empty");
    assert_eq!(told("5"), "malformed json at byte 0: expected an object or an array of objects, found `5`");
    assert_eq!(
        told("[1]"),
        "malformed json at byte 1: expected `{`, as each item of the array is to be a row, found `1`"
    );
    assert_eq!(told(r#"{"a":1} x"#), "malformed json at byte 8: expected the end, found `x`");
    assert_eq!(told(r#"{"a":1"#), "malformed json at byte 6: expected `,` or `}`, found the end");
    assert_eq!(told(r#"{"a""#), "malformed json at byte 4: expected `:`, found the end");
    assert_eq!(told(r#"{"a":1,}"#), "malformed json at byte 7: expected `\"` and a name, found `}`");
    assert_eq!(told(r#"{"b":[1 2]}"#), "malformed json at byte 8: expected `,` or `]`, found `2`");
    assert_eq!(told(r#"{"b":tru}"#), "malformed json at byte 5: expected `true`, found `t`");
    assert_eq!(
        told(r#"{"b":01}"#),
        "malformed json at byte 5: a number must not start with a zero that another digit follows"
    );
    assert_eq!(told(r#"{"b":1.}"#), "malformed json at byte 7: expected a digit after the point, found `}`");
    assert_eq!(told(r#"{"b":"\x"}"#), "malformed json at byte 7: expected one of `\"\\/bfnrtu` after `\\`, found `x`");
    assert_eq!(
        told(r#"{"b":"\u12g4"}"#),
        "malformed json at byte 6: `\\u` must be followed by four hexadecimal digits"
    );
    assert_eq!(told(r#"{"a":1e999}"#), "malformed json at byte 5: the number `1e999` is too large for a float");
    assert_eq!(told("{\"a\":é}"), "malformed json at byte 5: expected a value, found `é`");
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_is_taken() {
    let mut batch = Batch::new(1);
    let bytes = b"{\"a\":\"x\xff\"}";
    let fault = decoder(&wanted(&["a"], false), false).decode(bytes, &mut batch).unwrap_err();
    assert_eq!(fault.to_string(), "malformed json at byte 7: the text is not utf-8");
    assert_eq!(decoder(&wanted(&["b"], false), false).decode(bytes, &mut batch), Ok(1));
}

#[test]
fn escapes_are_resolved() {
    let text = r#"{"\u0061":"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00 \ud83d \ude00x"}"#;
    let row = one(&wanted(&["a"], false), text);
    assert_eq!(row[0], Value::text("\"\\/\u{8}\u{c}\n\r\té😀 \u{fffd} \u{fffd}x"));
}

#[test]
fn depth_is_limited() {
    let nested = |levels: usize| format!("{}{}", r#"{"a":"#.repeat(levels) + "1", "}".repeat(levels));
    for names in [&["a"][..], &[]] {
        assert_eq!(rows(&wanted(names, false), false, &nested(128)).map(|rows| rows.len()), Ok(1));
        let told = rows(&wanted(names, false), false, &nested(129)).unwrap_err();
        assert_eq!(told, "malformed json at byte 640: more than 128 levels of arrays and objects");
    }
    assert!(rows(&wanted(&[], false), false, &format!("{{\"a\":{}", "[".repeat(100_000))).is_err());
}

#[test]
fn whole_numbers_become_integers_on_demand() {
    let text = r#"{"a":[3,-4,9223372036854775807,9223372036854775808,1.0,1e2]}"#;
    let wanted = wanted(&["a"], false);
    let found = rows(&wanted, true, text).unwrap().remove(0).remove(0);
    let items = [
        Value::Int(3),
        Value::Int(-4),
        Value::Int(i64::MAX),
        Value::Float(9223372036854775808.0),
        Value::Float(1.0),
        Value::Float(100.0),
    ];
    assert_eq!(found, Value::array(items.to_vec()));
    assert_eq!(one(&wanted, r#"{"a":3}"#)[0], Value::Float(3.0));
}

#[test]
fn declared_types_are_enforced() {
    let pair = Kind::Struct(vec![("n".into(), Kind::Bigint), ("s".into(), Kind::String)]);
    let pair_value = Value::object(Object::from_iter([("n", Value::Int(1)), ("s", Value::Null)]));
    let accepted: Vec<(Kind, &str, Value)> = vec![
        (Kind::Bigint, "9007199254740993", Value::Int(9007199254740993)),
        (Kind::Float, "1", Value::Float(1.0)),
        (Kind::Datetime, "1700000000001", Value::Float(1700000000001.0)),
        (Kind::Datetime, r#""2024-03-09""#, Value::text("2024-03-09")),
        (Kind::String, r#""x""#, Value::text("x")),
        (Kind::String, "1000000", Value::text("1e+06")),
        (Kind::String, "20.50", Value::text("20.5")),
        (Kind::Boolean, "true", Value::Bool(true)),
        (Kind::Boolean, "0", Value::Bool(false)),
        (Kind::Boolean, "-0.5", Value::Bool(true)),
        (Kind::Boolean, r#""T""#, Value::Bool(true)),
        (Kind::Boolean, r#""False""#, Value::Bool(false)),
        (Kind::Bytea, r#""aGk=""#, Value::bytes(b"hi")),
        (Kind::Bytea, r#""h i""#, Value::bytes(b"h i")),
        (pair.clone(), r#"{"extra":[{}],"s":null,"n":1,"gone":null}"#, pair_value.clone()),
        (
            Kind::Array(Box::new(pair.clone())),
            r#"[{"n":1,"s":null},null]"#,
            Value::array(vec![pair_value, Value::Null]),
        ),
        (Kind::Array(Box::new(Kind::Bigint)), "[]", Value::array(vec![])),
        (Kind::Bigint, "null", Value::Null),
    ];
    for (kind, text, value) in accepted {
        assert_eq!(one(&declared(kind.clone()), &format!("{{\"x\":{text}}}")), [value], "{} {text}", kind.name());
    }
    let refused: Vec<(Kind, &[&str])> = vec![
        (Kind::Bigint, &["1.0", "1e3", "9223372036854775808", r#""1""#, "true", "{}", "[]"]),
        (Kind::Float, &[r#""1""#, "true", "{}", "[]"]),
        (Kind::Datetime, &["true", "{}", "[]"]),
        (Kind::String, &["true", "{}", "[]"]),
        (Kind::Boolean, &[r#""yes""#, r#""tRUE""#, "{}", "[]"]),
        (Kind::Bytea, &["1", "true", "{}", "[]"]),
        (pair, &["1", r#""{}""#, "true", "[]", r#"{"n":"x"}"#]),
        (Kind::Array(Box::new(Kind::Bigint)), &["1", r#""[]""#, "true", "{}", "[1,2.5]"]),
    ];
    for (kind, texts) in refused {
        for text in texts {
            let told = rows(&declared(kind.clone()), false, &format!("{{\"x\":{text}}}")).unwrap_err();
            assert!(told.starts_with("column `x`: "), "{} {text}: {told}", kind.name());
        }
    }
    let told = rows(&declared(Kind::Bigint), false, r#"{"x":"abc"}"#).unwrap_err();
    assert_eq!(
        told,
        "column `x`: expected a bigint (an integer of 64 bits without point and exponent), found text at byte 5"
    );
}

/// The guesses are only guesses: whatever came before, a message decodes as with a new decoder.
#[test]
fn a_decoder_that_remembers_gives_what_a_new_one_gives() {
    let texts = [
        r#"{"a":1,"b":2,"c":3}"#,
        r#"{"a":1,"c":3}"#,
        r#"{"c":3,"b":2,"a":1}"#,
        r#"{"a" : 1, "b": 2 ,"ab":5}"#,
        r#"{"ab":1,"a":2}"#,
        r#"{}"#,
        r#"{"a":1,"a":2,"a":3}"#,
        r#"[{"a":1},{"b":2,"a":1},{"a":1}]"#,
        r#"{"a":{"a":1,"b":2},"b":{"c":1}}"#,
        "{\"a\":1,\u{0}\"b\":2}",
    ];
    let wanted = wanted(&["a", "b"], true);
    let mut old = decoder(&wanted, false);
    let mut random = Random(7);
    for _ in 0..500 {
        let text = texts[random.below(texts.len())];
        let mut batch = Batch::new(wanted.width);
        let found = old.decode(text.as_bytes(), &mut batch).map_err(|fault| fault.to_string());
        let found = found.map(|count| (0..count).map(|row| batch.row(row).to_vec()).collect::<Vec<_>>());
        assert_eq!(found, rows(&wanted, false, text), "{text}");
    }
}

#[test]
fn names_without_end_are_forgotten() {
    let wanted = wanted(&["a"], true);
    let mut decoder = decoder(&wanted, false);
    for n in 0..20_000 {
        let mut batch = Batch::new(2);
        decoder.decode(format!(r#"{{"a":{n},"k{n}":1}}"#).as_bytes(), &mut batch).unwrap();
        assert_eq!(batch.row(0)[0], Value::Float(n.into()));
        assert_eq!(batch.row(0)[1], Value::object(Object::from_iter([(format!("k{n}"), Value::Float(1.0))])));
    }
    assert!(decoder.remembered() <= 4097);
}

/// Rows whose names come and go, in any order and repeated, are what the same rows are one by one.
#[test]
fn rows_of_many_shapes_are_read_as_one_by_one() {
    let wanted = wanted(&["a"], true);
    let mut decoder = decoder(&wanted, false);
    for n in 0..200usize {
        let mut names: Vec<String> = (0..n % 13).map(|k| format!("k{}", (k * (n % 5 + 1)) % 11)).collect();
        names.insert(n % (names.len() + 1), "a".into());
        let text: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("\"{name}\":{at}")).collect();
        let mut batch = Batch::new(2);
        decoder.decode(format!("{{{}}}", text.join(",")).as_bytes(), &mut batch).unwrap();
        let others = names.iter().enumerate().filter(|(_, name)| *name != "a");
        let others: Object = others.map(|(at, name)| (name.as_str(), Value::Float(at as f64))).collect();
        let names = |value: &Value| match value {
            Value::Object(object) => object.keys().cloned().collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!(names(&batch.row(0)[1]), others.keys().cloned().collect::<Vec<_>>());
        assert_eq!(batch.row(0)[1], Value::object(others));
    }
}

/// A message with more names than are kept for others is not read anew each time.
#[test]
fn the_names_of_wide_messages_are_kept() {
    let mut decoder = decoder(&wanted(&["k7"], true), false);
    let text: Vec<String> = (0..15_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let text = format!("{{{}}}", text.join(","));
    for _ in 0..3 {
        decoder.decode(text.as_bytes(), &mut Batch::new(2)).unwrap();
        assert_eq!(decoder.remembered(), 15_001);
    }
}

fn encoded(layout: &Layout, rows: &[&[Value]], single: bool) -> String {
    let mut out = Vec::new();
    encode::Json::new(layout).encode(&Rows { layout, rows, single }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn rows_are_written_with_sorted_names() {
    let layout = Layout::from_iter(["b", "a", "c\"<"]);
    let row = [Value::Int(1), Value::Null, Value::text("x")];
    let other = [Value::Absent, Value::Absent, Value::Absent];
    assert_eq!(encoded(&layout, &[&row, &other], false), r#"[{"a":null,"b":1,"c\"\u003c":"x"},{}]"#);
    assert_eq!(encoded(&layout, &[&row], true), r#"{"a":null,"b":1,"c\"\u003c":"x"}"#);
    assert_eq!(encoded(&layout, &[], false), "[]");
}

#[test]
fn spread_columns_are_merged_and_named_ones_win() {
    let column = |name: &str, spread| Column { name: name.into(), spread };
    let layout = Layout::new(vec![column("*", true), column("b", false), column("a", false)]);
    let spread =
        |names: &[(&str, i64)]| Value::object(Object::from_iter(names.iter().map(|(name, n)| (*name, Value::Int(*n)))));
    let rows: [&[Value]; 5] = [
        &[spread(&[("c", 3), ("b", 2), ("a", 1)]), Value::Int(20), Value::Absent],
        &[spread(&[("c", 4), ("b", 5), ("a", 6)]), Value::Absent, Value::Int(60)],
        &[spread(&[("a", 1)]), Value::Absent, Value::Absent],
        &[Value::Absent, Value::Int(1), Value::Absent],
        &[spread(&[]), Value::Int(1), Value::Absent],
    ];
    assert_eq!(
        encoded(&layout, &rows, false),
        r#"[{"a":1,"b":20,"c":3},{"a":60,"b":5,"c":4},{"a":1},{"b":1},{"b":1}]"#
    );
    let layout = Layout::new(vec![column("l", true), column("r", true), column("z", false)]);
    let row = [spread(&[("a", 1), ("b", 2)]), spread(&[("b", 3)]), Value::Int(9)];
    assert_eq!(encoded(&layout, &[&row], true), r#"{"a":1,"b":3,"z":9}"#);
}

#[test]
fn every_value_has_its_json() {
    let layout = Layout::from_iter(["v"]);
    let written = |value: Value| encoded(&layout, &[&[value]], true);
    let nested = Object::from_iter([("z", Value::Bool(true)), ("a", Value::array(vec![Value::Absent, Value::Int(2)]))]);
    let time = DateTime::new(1_709_979_072_500_000_001_i64, jiff::tz::TimeZone::UTC);
    for (value, text) in [
        (Value::Int(i64::MIN), "-9223372036854775808"),
        (Value::Float(5.0), "5"),
        (Value::Float(20.15), "20.15"),
        (Value::Float(1e21), "1e+21"),
        (Value::Float(1e-7), "1e-7"),
        (Value::Float(0.00000123), "0.00000123"),
        (Value::Float(f64::NAN), "null"),
        (Value::Float(f64::NEG_INFINITY), "null"),
        (Value::bytes(b"hi!!"), r#""aGkhIQ==""#),
        (Value::Time(time), r#""2024-03-09T10:11:12.500000001Z""#),
        (Value::object(nested), r#"{"a":[null,2],"z":true}"#),
        (Value::object(Object::new()), "{}"),
        (Value::text("<a> & \"b\"\\\u{2028}\u{2029}€\n\u{1}\u{7f}é"), {
            "\"\\u003ca\\u003e \\u0026 \\\"b\\\"\\\\\\u2028\\u2029€\\n\\u0001\u{7f}é\""
        }),
    ] {
        assert_eq!(written(value), format!("{{\"v\":{text}}}"));
    }
}

/// A small generator (xorshift); the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn text(&mut self) -> String {
        let pieces = ["a", "key", " ", "é", "€", "😀", "\"", "\\", "/", "\n", "\u{1}", "<&>", "\u{2028}", "0123456789"];
        (0..self.below(6)).map(|_| pieces[self.below(pieces.len())]).collect()
    }

    fn number(&mut self) -> Json {
        match self.below(6) {
            0 => Json::from(self.below(1000)),
            1 => Json::from(self.next() as i64),
            2 => Json::from(self.below(100_000) as f64 / 100.0),
            3 => Json::from(f64::from_bits(self.next())),
            4 => Json::from((self.next() as f64) * 1e-25),
            _ => Json::from(-(self.below(10) as f64)),
        }
    }

    fn value(&mut self, depth: usize) -> Json {
        match self.below(if depth > 3 { 5 } else { 7 }) {
            0 => Json::Null,
            1 => Json::Bool(self.below(2) == 0),
            2 | 3 => self.number(),
            4 => Json::String(self.text()),
            5 => (0..self.below(4)).map(|_| self.value(depth + 1)).collect(),
            _ => self.object(depth),
        }
    }

    fn object(&mut self, depth: usize) -> Json {
        let names = ["a", "b", "temperature", "é\"", ""];
        let mut object = serde_json::Map::new();
        for _ in 0..self.below(6) {
            let name = if self.below(3) == 0 { self.text() } else { names[self.below(names.len())].to_string() };
            let value = self.value(depth + 1);
            object.insert(name, value);
        }
        Json::Object(object)
    }

    /// Valid text in one of its many spellings.
    fn spelled(&mut self, json: &Json) -> String {
        let mut text = if self.below(2) == 0 { json.to_string() } else { format!("{json:#}") };
        if self.below(3) == 0 {
            text = text.replace('/', "\\/").replace('é', "\\u00E9").replace('😀', "\\ud83d\\uDE00");
        }
        text
    }

    /// Text with one to three small wounds.
    fn mutated(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            let dirt = b"{}[]\",:\\0123456789eE+-. \ntfnu\x01\x7f/abc";
            let byte = dirt[self.below(dirt.len())];
            match self.below(4) {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

/// What serde_json gives for the same bytes, in our terms; `None` where it refuses, or rules as we on purpose do not.
fn reference(bytes: &[u8]) -> Result<Vec<Object>, String> {
    let json: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match &json {
        Json::Object(_) => Ok(vec![object_of(&json)]),
        Json::Array(items) if items.iter().all(Json::is_object) => Ok(items.iter().map(object_of).collect()),
        _ => Err("not rows".into()),
    }
}

fn object_of(json: &Json) -> Object {
    json.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value_of(value))).collect()
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => Value::Float(number.as_f64().unwrap()),
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::array(items.iter().map(value_of).collect()),
        Json::Object(_) => Value::object(object_of(json)),
    }
}

/// Bit for bit, for `0` and `-0` are equal otherwise.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// One decoder for all messages, as in a stream, against serde_json: the same rows, or both refuse.
fn agrees(decoder: &mut decode::Json, wanted: &Wanted, bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    let mut batch = Batch::new(wanted.width);
    let found = decoder.decode(bytes, &mut batch);
    match (reference(bytes), found) {
        (Ok(objects), Ok(count)) => {
            assert_eq!(objects.len(), count, "{shown}");
            for (number, object) in objects.into_iter().enumerate() {
                let mut row = vec![Value::Absent; wanted.width];
                wanted.fill(object, &mut row);
                for (a, b) in row.iter().zip(batch.row(number)) {
                    assert!(same(a, b) && absent(a) == absent(b), "{shown}: wanted {a:?}, found {b:?}");
                }
            }
        }
        (Err(_), Err(_)) => assert_eq!(batch.rows(), 0, "{shown}"),
        // Half a pair of surrogates is U+FFFD here and refused there. Text that is not UTF-8 and numbers that are too
        // large are refused here only where they are taken.
        (Err(told), Ok(_)) if told.contains("surrogate") || told.contains("end of hex escape") => {}
        (Err(told), Ok(_)) if told.contains("number out of range") && wanted.rest.is_none() => {}
        (Err(told), Ok(_)) if told.contains("invalid unicode code point") && wanted.rest.is_none() => {}
        (reference, found) => panic!("{shown}: serde_json says {reference:?}, we say {found:?}"),
    }
}

#[test]
fn generated_and_broken_messages_decode_as_serde_json_does() {
    for (wanted, seed) in [(wanted(&["a", "temperature"], false), 11), (wanted(&["b"], true), 12)] {
        let mut random = Random(seed);
        let mut decoder = decoder(&wanted, false);
        for _ in 0..4_000 {
            let json = if random.below(5) == 0 {
                (0..random.below(4)).map(|_| random.object(0)).collect()
            } else {
                random.object(0)
            };
            let text = random.spelled(&json);
            agrees(&mut decoder, &wanted, text.as_bytes());
            let broken = random.mutated(&text);
            agrees(&mut decoder, &wanted, &broken);
        }
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut random = Random(13);
    let layout = Layout::new(vec![Column { name: "*".into(), spread: true }]);
    let mut encoder = encode::Json::new(&layout);
    for _ in 0..4_000 {
        let object = object_of(&random.object(0));
        let mut out = Vec::new();
        let row = [Value::object(object.clone())];
        encoder.encode(&Rows { layout: &layout, rows: &[&row], single: true }, &mut out).unwrap();
        let shown = String::from_utf8_lossy(&out);
        assert!(same(&Value::object(object_of(&serde_json::from_slice(&out).unwrap())), &row[0]), "{shown}");
        assert!(same(&parse(&out).unwrap(), &row[0]), "{shown}");
        assert!(!shown.contains(['<', '>', '&', '\u{2028}', '\u{2029}', '\n']), "{shown}");
    }
}
