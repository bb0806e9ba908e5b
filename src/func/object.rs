//! Objects: their members, and objects from other things. Members keep the order in which they came.

use crate::data::cast::printed;
use crate::data::{Object, Text, Value};
use crate::diag::{Fault, Result};

use super::args::{arg, array, check_text, wrong};
use super::{Arg, Ctx, Func, NullGuard};

const fn row(name: &'static str, signature: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>) -> Func {
    Func::scalar(name, signature, call).family("object")
}

pub const FUNCS: &[Func] = &[
    row("keys", "(object) -> array", keys).about("The names of the members.").examples(&[
        ("keys(object_construct(\"p\", 1))", "[\"p\"]"),
        ("keys(object_construct(\"p\", 1, \"q\", 2))", "[\"p\",\"q\"]"),
    ]),
    row("values", "(object) -> array", values).about("The values of the members.").examples(&[
        ("values(object_construct(\"p\", 1))", "[1]"),
        ("values(object_construct(\"p\", 1, \"q\", \"x\"))", "[1,\"x\"]"),
    ]),
    row("object", "(array, array) -> object", object)
        .about("An object of names and, in a second array of the same length, values.")
        .examples(&[
            ("object(array_create(\"a\", \"b\"), array_create(1, 2))", "{\"a\":1,\"b\":2}"),
            ("object(array_create(\"a\"), array_create(\"x\"))", "{\"a\":\"x\"}"),
        ]),
    row("zip", "(array) -> object", zip)
        .about("An object of an array of pairs of name and value; nulls among them are passed over.")
        .examples(&[
            ("zip(array_create(array_create(\"a\", 1)))", "{\"a\":1}"),
            ("zip(array_create(array_create(\"a\", 1), array_create(\"a\", 2)))", "{\"a\":2}"),
        ]),
    row("items", "(object) -> array", items).about("The members as an array of pairs of name and value.").examples(&[
        ("items(object_construct(\"p\", 1))", "[[\"p\",1]]"),
        ("items(object_construct(\"p\", 1, \"q\", 2))", "[[\"p\",1],[\"q\",2]]"),
    ]),
    row("object_concat", "(object, object, ...) -> object", concat)
        .null(NullGuard::Off)
        .about("All members in one object; of a repeated name the last value counts. Nulls are passed over.")
        .examples(&[
            ("object_concat(object_construct(\"a\", 1), object_construct(\"b\", 2))", "{\"a\":1,\"b\":2}"),
            ("object_concat(object_construct(\"a\", 1), no_such_column)", "{\"a\":1}"),
        ]),
    row("object_construct", "([text, any, ...]) -> object", construct)
        .null(NullGuard::Off)
        .check(check_construct)
        .about("An object of names and values in turn; a pair whose name is null is left out.")
        .examples(&[
            ("object_construct(\"k\", 1, \"l\", 2.5)", "{\"k\":1,\"l\":2.5}"),
            ("object_construct(\"k\", no_such_column)", "{\"k\":null}"),
        ]),
    row("object_pick", "(object, text|array, ...) -> object", pick)
        .null(NullGuard::Off)
        .about("The members of these names; a name with dots picks inside and keeps the nesting.")
        .examples(&[
            ("object_pick(object_construct(\"a\", 1, \"b\", 2), \"b\")", "{\"b\":2}"),
            ("object_pick(parse_json('{\"a\":{\"b\":1,\"c\":2}}'), \"a.b\")", "{\"a\":{\"b\":1}}"),
        ]),
    row("object_size", "(object) -> bigint", size)
        .null(NullGuard::Off)
        .about("The number of members; 0 for null.")
        .examples(&[("object_size(object_construct(\"a\", 1))", "1"), ("object_size(object_construct())", "0")]),
    row("erase", "(object, text|array) -> object", erase)
        .about("The object without the members of this name or these names.")
        .examples(&[
            ("erase(object_construct(\"a\", 1, \"b\", 2), \"a\")", "{\"b\":2}"),
            ("erase(object_construct(\"a\", 1, \"b\", 2), array_create(\"a\", \"b\"))", "{}"),
        ]),
    row("obj_to_kvpair_array", "(object) -> array", to_kvpairs)
        .about("The members as an array of objects with the members `key` and `value`.")
        .examples(&[
            ("obj_to_kvpair_array(object_construct(\"a\", 1))", "[{\"key\":\"a\",\"value\":1}]"),
            ("cardinality(obj_to_kvpair_array(object_construct(\"a\", 1, \"b\", 2)))", "2"),
        ]),
];

fn members(args: &[Value], at: usize) -> Result<&Object> {
    match arg(args, at) {
        Value::Object(object) => Ok(object),
        _ => Err(wrong(args, at, "an object")),
    }
}

fn name(name: &Text) -> Value {
    Value::Text(name.clone())
}

fn keys(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::array(members(args, 0)?.keys().map(name).collect()))
}

fn values(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::array(members(args, 0)?.values().cloned().collect()))
}

fn items(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::array(
        members(args, 0)?.iter().map(|(key, value)| Value::array(vec![name(key), value.clone()])).collect(),
    ))
}

fn to_kvpairs(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let pair = |(key, value): (&Text, &Value)| {
        Value::object(Object::from_iter([("key", name(key)), ("value", value.clone())]))
    };
    Ok(Value::array(members(args, 0)?.iter().map(pair).collect()))
}

fn object(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let (names, values) = (array(args, 0)?, array(args, 1)?);
    if names.len() != values.len() {
        return Err(Fault::eval(format!(
            "the arrays must have the same length, found {} names and {} values",
            names.len(),
            values.len()
        )));
    }
    let mut out = Object::with_capacity(names.len());
    for (name, value) in names.iter().zip(values) {
        out.insert(name.as_str().ok_or_else(|| wrong(args, 0, "an array of strings"))?, value.clone());
    }
    Ok(Value::object(out))
}

fn zip(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let pairs = || wrong(args, 0, "an array of pairs of a string and a value");
    let Value::Array(entries) = arg(args, 0) else { return Err(pairs()) };
    let mut out = Object::with_capacity(entries.len());
    for entry in entries.iter().filter(|entry| !entry.is_null()) {
        let Value::Array(pair) = entry else { return Err(pairs()) };
        let [Value::Text(name), value] = pair.as_slice() else { return Err(pairs()) };
        out.insert(name.clone(), value.clone());
    }
    Ok(Value::object(out))
}

fn concat(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = Object::new();
    for at in (0..args.len()).filter(|at| !arg(args, *at).is_null()) {
        for (name, value) in members(args, at)?.iter() {
            out.insert(name.clone(), value.clone());
        }
    }
    Ok(Value::object(out))
}

fn check_construct(args: &[Arg]) -> std::result::Result<(), String> {
    if args.len() % 2 == 1 {
        return Err(format!("takes names and values in turn, but {} arguments are given", args.len()));
    }
    (0..args.len()).step_by(2).try_for_each(|at| check_text(args, at))
}

fn construct(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = Object::with_capacity(args.len() / 2);
    for at in (0..args.len()).step_by(2) {
        let name = match arg(args, at) {
            Value::Absent | Value::Null => continue,
            Value::Text(name) => name.clone(),
            Value::Bytes(bytes) => Text::from_utf8_lossy(bytes),
            _ => return Err(wrong(args, at, "a string")),
        };
        out.insert(name, arg(args, at + 1).or_null());
    }
    Ok(Value::object(out))
}

/// The names in the arguments from the second on, one by one or in arrays; what is no text is passed over.
fn names(args: &[Value]) -> impl Iterator<Item = &str> {
    args.iter()
        .skip(1)
        .flat_map(|arg| match arg {
            Value::Array(items) => items.as_slice(),
            other => std::slice::from_ref(other),
        })
        .filter_map(Value::as_str)
}

fn pick(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Null);
    }
    let from = members(args, 0)?;
    let mut out = Object::new();
    for name in names(args) {
        if let Some(value) = from.get(name) {
            out.insert(name, value.clone());
            continue;
        }
        let path: Vec<&str> = name.split('.').collect();
        if let Some(value) = at_path(from, &path) {
            put_path(&mut out, &path, value);
        }
    }
    Ok(Value::object(out))
}

fn at_path<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = object.get(first)?;
    match (rest, value) {
        ([], _) => Some(value),
        (_, Value::Object(inner)) => at_path(inner, rest),
        _ => None,
    }
}

/// Sets a value below the path, beside what stands there already.
fn put_path(object: &mut Object, path: &[&str], value: &Value) {
    match path {
        [] => {}
        [last] => {
            object.insert(*last, value.clone());
        }
        [first, rest @ ..] => {
            let mut inner = match object.get(first) {
                Some(Value::Object(inner)) => Object::clone(inner),
                _ => Object::new(),
            };
            put_path(&mut inner, rest, value);
            object.insert(*first, Value::object(inner));
        }
    }
}

fn size(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Int(0));
    }
    members(args, 0).map(|object| Value::Int(object.len() as i64))
}

fn erase(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let mut out = members(args, 0)?.clone();
    if args.len() > 2 {
        return Err(Fault::eval(format!(
            "takes an object and a name or an array of names, found {} arguments",
            args.len()
        )));
    }
    match arg(args, 1) {
        Value::Text(name) => {
            out.remove(name);
        }
        Value::Array(names) => {
            for name in names.iter() {
                out.remove(&printed(name));
            }
        }
        // Bytes are an array of numbers here, as they are for `cardinality`.
        Value::Bytes(bytes) => {
            for byte in bytes.iter() {
                out.remove(&byte.to_string());
            }
        }
        _ => return Err(wrong(args, 1, "a string or an array")),
    }
    Ok(Value::object(out))
}
