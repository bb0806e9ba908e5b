//! Rows made up at random: nulls, columns that are not there, gaps, several rows an instant, mixed kinds.

use kuiper::data::{Object, Value};

use super::case::Arriving;
use super::join::is_lookup;
use super::random::Random;

/// 2023-11-14T22:13:20Z and a bit, so that no window begins when the rule does.
pub const START: i64 = 1_700_000_000_000 + 10_150;

/// How many rows come together where some are to be found by hash.
const CROWD: &[usize] = &[2, 4, 9];

/// The rows of a run and its length. No row comes at a whole tenth of a second, where windows begin and end, and the
/// instants of most runs differ in their last two digits, so that no delay of tenths ends where another row comes; in
/// the others rows lie exactly the length of a window apart.
pub fn stream(random: &mut Random, crowd: bool) -> (Vec<Arriving>, i64) {
    let gaps: &[i64] = match random.below(3) {
        0 => &[100, 200, 300],
        1 => &[100, 700, 1300, 2100],
        _ => &[200, 1000, 4000, 9000],
    };
    let (mut rows, mut at) = (Vec::new(), 0);
    let instants = random.range(1, 10);
    let shift = if random.chance(70) { 7 } else { 0 };
    for instant in 0..instants {
        at += *random.pick(gaps);
        let here = at - at % 100 + 3 + instant * shift;
        let together = *random.pick(if crowd { CROWD } else { &[1, 1, 1, 2, 3, 5] });
        for _ in 0..together {
            rows.push(Arriving { stream: "s", at: here, data: row(random), delete: false });
        }
    }
    if random.chance(2) {
        rows.clear();
    }
    (rows, at + 101 + random.range(0, 30) * 100)
}

/// Makes some of the rows those of other sources, which share some names of columns with the first.
pub fn divide(random: &mut Random, rows: &mut [Arriving], others: &[&'static str]) {
    for row in rows {
        if random.chance(55) {
            row.stream = *random.pick(others);
            let mut data = Object::new();
            for column in ["id", "a", "d", "ok"] {
                if !random.chance(12) {
                    data.insert(column, cell(random, column));
                }
            }
            row.data = data;
            row.delete = is_lookup(row.stream) && random.chance(15);
        }
    }
}

/// All columns that statements name.
pub const DECLARED: &str = "a FLOAT, b FLOAT, c FLOAT, d FLOAT, ts BIGINT, gone STRING, t STRING, id STRING, ok BOOLEAN, \
    o STRUCT(k FLOAT, s STRING), l ARRAY(FLOAT)";

/// Leaves out what is not what its column is declared to be.
pub fn fit(row: &mut Object) {
    let fits = |name: &str, value: &Value| match name {
        _ if value.is_null() => true,
        "a" | "b" | "c" => matches!(value, Value::Int(_) | Value::Float(_)),
        "ok" => matches!(value, Value::Bool(_)),
        "o" => matches!(value, Value::Object(_)),
        "l" => matches!(value, Value::Array(_)),
        _ => matches!(value, Value::Text(_)),
    };
    *row = Object::from_iter(
        row.iter().filter(|(name, value)| fits(name, value)).map(|(name, value)| (name.clone(), value.clone())),
    );
}

/// The row as a stream decodes it that declares its numbers as FLOAT.
pub fn decoded(value: &Value) -> Value {
    match value {
        Value::Int(n) => Value::Float(*n as f64),
        Value::Array(items) => Value::array(items.iter().map(decoded).collect()),
        Value::Object(members) => {
            Value::object(Object::from_iter(members.iter().map(|(name, value)| (name.clone(), decoded(value)))))
        }
        other => other.clone(),
    }
}

pub fn row(random: &mut Random) -> Object {
    let mut row = Object::new();
    for column in ["a", "b", "c", "t", "id", "ok", "o", "l"] {
        if !random.chance(15) {
            row.insert(column, cell(random, column));
        }
    }
    row
}

fn cell(random: &mut Random, column: &str) -> Value {
    if random.chance(9) {
        return Value::Null;
    }
    if random.below(150) == 0 {
        // Of another kind than the rest of the column.
        return random.pick(&[Value::text("odd"), Value::Int(5), Value::Bool(true), Value::array(vec![])]).clone();
    }
    match column {
        "t" => Value::text(random.pick(&["p1", "p2", "ax", "P1", "", "x%", "wärme"])),
        "id" => Value::text(random.pick(&["u", "v", "w"])),
        "ok" => Value::Bool(random.chance(60)),
        "o" => {
            let k = if random.chance(80) { number(random) } else { Value::Null };
            let mut object = Object::from_iter([("k", k)]);
            if random.chance(30) {
                object.insert("s", Value::text("in"));
            }
            Value::object(object)
        }
        "l" => {
            let items = *random.pick(&[2, 2, 2, 3, 3, 1, 0]);
            Value::array((0..items).map(|_| number(random)).collect())
        }
        _ => number(random),
    }
}

fn number(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::Float(2.5),
        1 => Value::Float(random.range(-20, 20) as f64 / 4.0),
        2 => Value::Float(random.range(-3, 5) as f64),
        _ => Value::Int(random.range(-3, 9)),
    }
}

/// Gives the rows times of their own: early, late, equal ones, at boundaries too, and now and then none.
pub fn stamp(random: &mut Random, rows: &mut [Arriving]) {
    let spread = *random.pick(&[0, 400, 3000, 10_000]);
    for row in rows {
        let time = START + row.at - random.range(0, spread);
        let stamp = match random.below(40) {
            0 => Value::Null,
            1 => Value::Bool(true),
            2 => continue,
            3..=8 => Value::Int(time),
            _ => Value::Int(time - time.rem_euclid(250)),
        };
        row.data.insert("ts", stamp);
    }
}
