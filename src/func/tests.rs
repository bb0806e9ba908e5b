//! What holds for all functions, and tables of calls taken from the sentences of the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregates;
mod calls;
mod checks;
mod remembering;

use std::collections::BTreeSet;

use crate::data::cast::json;

use super::*;

/// Runs something with a context of a rule at 2023-11-14 22:13:20 UTC.
fn with_ctx<T>(run: impl FnOnce(&Ctx<'_>) -> T) -> T {
    let props = Object::from_iter([("plant", Value::text("north"))]);
    let started = Time(1_699_999_999_000);
    let rule = RuleInfo { id: "r1".into(), started, props: Arc::new(props), ..RuleInfo::nowhere() };
    let now = Time(1_700_000_000_000);
    run(&Ctx { now, row_time: Some(now), rule: &rule })
}

fn find(name: &str) -> &'static Func {
    Catalogue::default().find(name).unwrap_or_else(|| panic!("no function `{name}`"))
}

/// A scalar call behind its null guard.
fn call(name: &str, args: &[Value]) -> Result<Value> {
    let func = find(name);
    if let Some(answer) = guarded(func, args) {
        return Ok(answer);
    }
    with_ctx(|ctx| match func.body {
        Body::Scalar(call) => call(args, ctx),
        Body::Stateful(start) => start().call(args, ctx),
        _ => panic!("`{name}` is no scalar"),
    })
}

/// The value of a JSON text.
fn value(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|_| panic!("`{text}` is no JSON"))
}

/// The elements of a JSON array.
fn values(text: &str) -> Vec<Value> {
    match value(text) {
        Value::Array(items) => items.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A result as it stands in the tables: JSON text, or `error`.
fn shown(result: Result<Value>) -> String {
    match result {
        Ok(value) => json::text(&value).unwrap(),
        Err(_) => "error".into(),
    }
}

#[test]
fn arities_are_read_off_the_signature() {
    let of = |signature| arity(&Func::special("x", signature, Special::Meta));
    let exact = |counts: &[usize]| Arity { counts: counts.to_vec(), more: false };
    let open = |counts: &[usize]| Arity { counts: counts.to_vec(), more: true };
    assert_eq!(of("() -> float"), exact(&[0]));
    assert_eq!(of("(text, int [, int]) -> text"), exact(&[2, 3]));
    assert_eq!(of("(any [, int [, any [, boolean]]]) -> any"), exact(&[1, 2, 3, 4]));
    assert_eq!(of("(number [, boolean, boolean]) -> float"), exact(&[1, 3]));
    assert_eq!(of("(text, ...) -> text"), open(&[1]));
    assert_eq!(of("([text, any, ...]) -> object"), open(&[0, 2]));
    assert_eq!(of("(object, text|array, ...) -> object"), open(&[2]));
}

#[test]
fn every_row_is_complete() {
    let mut names = BTreeSet::new();
    for func in all() {
        assert!(names.insert(func.name), "`{}` stands twice", func.name);
        assert_eq!(func.name, func.name.to_ascii_lowercase());
        assert!(func.about.ends_with('.') && !func.family.is_empty(), "`{}`", func.name);
        assert!(func.examples.len() >= 2, "`{}` needs two examples", func.name);
        assert!(func.signature.starts_with('(') && func.signature.contains(") -> "), "`{}`", func.name);
        for (call, result) in func.examples {
            assert!(call.contains(&format!("{}(", func.name)), "`{call}` does not call `{}`", func.name);
            value(result);
        }
    }
    assert_eq!(names.len(), 192);
}

/// Values that functions stumble over.
fn odd_values() -> Vec<Value> {
    let nested =
        Value::array(vec![Value::Null, Value::Int(1), Value::array(vec![Value::text("a")]), Value::Bool(true)]);
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Int(0),
        Value::Int(-1),
        Value::Int(i64::MIN),
        Value::Int(i64::MAX),
        Value::Float(2.5),
        Value::Float(-0.0),
        Value::Float(1e308),
        Value::Float(f64::NAN),
        Value::Float(f64::NEG_INFINITY),
        Value::text(""),
        Value::text("é😀["),
        Value::text("$..a"),
        Value::text("upper"),
        Value::bytes(&[0xff, 0]),
        Value::Time(crate::data::DateTime::from_millis(i64::MIN, TimeZone::UTC)),
        nested.clone(),
        Value::array(vec![Value::Float(f64::INFINITY), Value::text("x")]),
        Value::object(Object::from_iter([("key", Value::text("k")), ("value", nested)])),
    ]
}

/// No float in it that JSON could not carry.
fn is_sendable(value: &Value) -> bool {
    match value {
        Value::Float(x) => x.is_finite(),
        Value::Array(items) => items.iter().all(is_sendable),
        Value::Object(object) => object.values().all(is_sendable),
        _ => true,
    }
}

fn for_all_odd_arguments(func: &Func, mut run: impl FnMut(&[Value])) {
    let odd = odd_values();
    let arity = arity(func);
    // One argument too few and one too many must not panic either.
    let most = arity.counts.last().map_or(0, |last| last + usize::from(arity.more)).min(3);
    for count in arity.counts.first().map_or(0, |first| first.saturating_sub(1))..=most {
        for mut number in 0..odd.len().pow(count as u32) {
            let args: Vec<Value> = (0..count)
                .map(|_| {
                    let value = odd[number % odd.len()].clone();
                    number /= odd.len();
                    value
                })
                .collect();
            run(&args);
        }
    }
}

#[test]
fn no_argument_panics_and_no_result_is_lost_in_json() {
    // These hand on what they are given; `delay` would sleep for as long as it is told.
    let hands_on = ["cast", "coalesce", "bypass", "delay", "get_keyed_state", "kvpair_array_to_obj", "repeat"];
    with_ctx(|ctx| {
        for func in all() {
            let Body::Scalar(call) = func.body else { continue };
            if func.name == "delay" {
                continue;
            }
            for_all_odd_arguments(func, |args| {
                let Ok(result) = call(args, ctx) else { return };
                if args.iter().all(is_sendable) && !hands_on.contains(&func.name) {
                    assert!(is_sendable(&result), "{}({args:?}) = {result:?}", func.name);
                }
            });
        }
    });
}

#[test]
fn what_remembers_survives_odd_arguments_and_a_save() {
    with_ctx(|ctx| {
        for func in all() {
            if let Body::Aggregate(start) = func.body {
                let mut group = start();
                for_all_odd_arguments(func, |args| {
                    let _ = group.add(args, ctx);
                });
                let mut again = start();
                again.load(group.save()).unwrap();
                assert_eq!(again.give(), group.give(), "{}", func.name);
            }
            if let Body::Stateful(start) = func.body {
                for_all_odd_arguments(func, |args| {
                    let mut instance = start();
                    let _ = instance.call(args, ctx);
                    let saved = instance.save();
                    start().load(saved).unwrap();
                });
            }
            if let Some(mut state) = analytic::start_analytic(func.name, &[]) {
                for_all_odd_arguments(func, |args| {
                    let _ = state.step(args, true, ctx);
                });
                let mut again = analytic::start_analytic(func.name, &[]).unwrap();
                again.load(state.save()).unwrap();
                let next = values("[true, false, true]");
                let next = &next[..arity(func).counts[0]];
                let results = (again.step(next, true, ctx), state.step(next, true, ctx));
                assert_eq!(results.0, results.1, "{}", func.name);
            }
        }
    });
}
