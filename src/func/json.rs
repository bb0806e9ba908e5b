//! JSON: text from values, values from text, and paths into either.

use crate::data::Value;
use crate::data::cast::{Strictness, json, to_text};
use crate::diag::{Fault, Result};

use super::args::{arg, converted, is_text, only_literal, text, texts, wrong};
use super::jsonpath::{Found, query};
use super::{Arg, Ctx, Func, NullGuard};

const fn row(name: &'static str, signature: &'static str, call: fn(&[Value], &Ctx<'_>) -> Result<Value>) -> Func {
    Func::scalar(name, signature, call).family("json").null(NullGuard::Off)
}

pub const FUNCS: &[Func] = &[
    row("json_path_query", "(any, text) -> any", path_query)
        .check(check_path)
        .about("What a JSON path leads to in an object, an array or a JSON text: a value, or an array for a path that can match several.")
        .examples(&[
            ("json_path_query(object_construct(\"a\", 7), \"$.a\")", "7"),
            ("json_path_query('{\"v\":[3,5,8]}', \"$.v[0:2]\")", "[3,5]"),
        ]),
    row("json_path_query_first", "(any, text) -> any", path_first)
        .check(check_path)
        .about("The first element of the array that a JSON path leads to.")
        .examples(&[
            ("json_path_query_first('{\"v\":[3,5,8]}', \"$.v\")", "3"),
            ("json_path_query_first('{\"v\":[3,5,8]}', \"$.v[?(@ > 3)]\")", "5"),
        ]),
    row("json_path_exists", "(any, text) -> boolean", path_exists)
        .check(check_path)
        .about("Whether a JSON path leads to anything.")
        .examples(&[
            ("json_path_exists(object_construct(\"a\", 7), \"$.a\")", "true"),
            ("json_path_exists('{\"v\":[3]}', \"$.v[1]\")", "false"),
        ]),
    row("to_json", "(any) -> text", to_json)
        .about("The value as JSON text with sorted keys.")
        .examples(&[
            ("to_json(object_construct(\"b\", 1, \"a\", 2.5))", "\"{\\\"a\\\":2.5,\\\"b\\\":1}\""),
            ("to_json(array_create(1, \"x\"))", "\"[1,\\\"x\\\"]\""),
        ]),
    row("parse_json", "(text) -> any", parse_json)
        .check(texts)
        .about("The value of a JSON text.")
        .examples(&[("parse_json('{\"a\":1,\"b\":[1.5,null]}')", "{\"a\":1,\"b\":[1.5,null]}"), ("parse_json(\"12\")", "12")]),
];

fn check_path(args: &[Arg]) -> std::result::Result<(), String> {
    only_literal(args, 1, "a string literal", is_text)
}

fn found(args: &[Value]) -> Result<Found> {
    let path = text(args, 1)?;
    match arg(args, 0) {
        data @ (Value::Object(_) | Value::Array(_)) => query(data, path),
        Value::Text(data) => query(&json::parse(data.as_bytes())?, path),
        _ => Err(wrong(args, 0, "an object, an array or a JSON text")),
    }
}

fn path_query(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(match found(args)? {
        Found::One(value) => value,
        Found::Many(values) => Value::array(values),
    })
}

fn path_first(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    let first = match found(args)? {
        Found::One(Value::Array(items)) => items.first().cloned(),
        Found::Many(values) => values.into_iter().next(),
        Found::One(_) => return Err(Fault::eval("the path leads to a value that is no array")),
    };
    first.ok_or_else(|| Fault::eval("the path leads to an empty array"))
}

fn path_exists(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    Ok(Value::Bool(match found(args) {
        Ok(Found::One(_)) => true,
        Ok(Found::Many(values)) => !values.is_empty(),
        Err(_) => false,
    }))
}

fn to_json(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    match arg(args, 0) {
        Value::Absent | Value::Null => Ok(Value::Null),
        value => json::text(value).map(Value::from),
    }
}

fn parse_json(args: &[Value], _: &Ctx<'_>) -> Result<Value> {
    if arg(args, 0).is_null() {
        return Ok(Value::Null);
    }
    let text = converted(args, 0, to_text(arg(args, 0), Strictness::SameKind), "string")?;
    json::parse(text.as_bytes())
}
