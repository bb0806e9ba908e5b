//! Bound trees and what they are compiled to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use super::*;
use crate::data::{Object, Text, Time, Value};
use crate::diag::{Diagnostic, Result, Span};
use crate::func::{Catalogue, Func, RuleInfo};
use crate::sql::{Call, Wildcard};

/// Single letters are slots, `a` the first; everything else is not known.
struct Letters;

impl Scope for Letters {
    fn name(&mut self, name: &Text, span: Span) -> Result<Bound, Diagnostic> {
        match name.as_bytes() {
            [letter @ b'a'..=b'h'] => Ok(Bound::Slot(usize::from(letter - b'a'), name.clone())),
            _ => Err(Diagnostic::error("K0214", format!("no `{name}`")).at(span)),
        }
    }
    fn dotted(&mut self, first: &Text, second: &Text, span: Span) -> Result<Bound, Diagnostic> {
        Ok(Bound::Member(Box::new(self.name(first, span)?), Key { name: second.clone(), any_case: false }))
    }
    fn is_source(&self, _: &Text) -> bool {
        false
    }
    fn any_case(&self) -> bool {
        false
    }
    fn wildcard(&mut self, _: &Wildcard, _: Span) -> Result<RowShape, Diagnostic> {
        Ok(RowShape { columns: vec![("a".into(), 0), ("b".into(), 1)], rest: vec![2], except: vec!["x".into()] })
    }
    fn planned(&mut self, call: &Call, _: &'static Func, span: Span) -> Result<Bound, Vec<Diagnostic>> {
        Err(vec![Diagnostic::error("K0223", format!("no `{}`", call.name.name)).at(span)])
    }
}

fn bound(text: &str) -> Bound {
    let select = crate::sql::parse_select(&format!("SELECT {text} FROM s")).unwrap();
    bind(&select.fields[0].expr, &mut Letters, &Catalogue::default()).unwrap_or_else(|found| panic!("{found:?}"))
}

fn with_frame<T>(row: &[Value], run: impl FnOnce(&Frame<'_>) -> T) -> T {
    let rule = RuleInfo::nowhere();
    run(&Frame { row, meta: None, time: Time(5), now: Time(7), rule: &rule })
}

/// The value over a row, or `None` where it fails.
fn eval(bound: &Bound, row: &[Value]) -> Option<Value> {
    let mut padded = row.to_vec();
    padded.resize(8, Value::Absent);
    with_frame(&padded, |frame| Program::new(bound).eval(frame).ok())
}

#[test]
fn constants_are_computed_ahead_where_they_cannot_fail() {
    for (text, wanted) in [
        ("1 + 2 * 3", "7"),
        ("-5", "-5"),
        ("-(2.5)", "-2.5"),
        ("1 < 2", "true"),
        ("NULL + 1", "NULL"),
        ("\"a\" = \"a\"", "true"),
        ("a + (1 + 2)", "(a + 3)"),
        // It fails for every row, and is told for every row.
        ("1 / 0", "(1 / 0)"),
        ("\"a\" + 1", "(\"a\" + 1)"),
        // What the left side decides is decided when it is run.
        ("false AND a", "(false AND a)"),
    ] {
        assert_eq!(bound(text).to_string(), wanted, "{text}");
    }
}

#[test]
fn an_expression_reads_as_it_was_written() {
    for text in [
        "(a + b)",
        "a->k->l[0]",
        "a[1:]",
        "(a NOT BETWEEN 1 AND 2)",
        "(a IN (1, \"x\", NULL))",
        "(a NOT IN b)",
        "(a LIKE \"x%\")",
        "(a IS NOT NULL)",
        "CASE a WHEN 1 THEN b ELSE c END",
        "CASE WHEN (a > 1) THEN b END",
        "concat(a, \"!\")",
        "meta(x->y)",
        "meta(*)",
    ] {
        assert_eq!(bound(text).to_string(), text);
        assert_eq!(bound(text), bound(text));
    }
}

#[test]
fn equal_trees_do_the_same_and_names_do_not_count() {
    let renamed = |name: &str| Bound::Slot(0, name.into());
    assert_eq!(renamed("x"), renamed("y"));
    assert_ne!(Bound::Slot(0, "x".into()), Bound::Slot(1, "x".into()));
    for (a, b) in [
        ("a + b", "b + a"),
        ("a = 1", "a = 1.0"),
        ("a BETWEEN 1 AND 2", "a NOT BETWEEN 1 AND 2"),
        ("a IN (1)", "a IN (1, 2)"),
        ("upper(a)", "lower(a)"),
        ("a->k", "a->l"),
        ("a[0]", "a[0:]"),
        ("CASE WHEN a > 1 THEN 1 END", "CASE WHEN a > 1 THEN 1 ELSE 2 END"),
    ] {
        assert_ne!(bound(a), bound(b), "{a} and {b}");
    }
    assert!(bound("upper(a) = b").is_pure());
    assert!(!bound("1 + rand()").is_pure());
    assert!(!bound("compress(a, \"zlib\")").is_pure());
}

#[test]
fn an_alias_is_asked_again_only_where_its_slot_is_empty() {
    let alias = Bound::Alias(7, "q".into(), Arc::new(bound("a / b")));
    let with_slot = |a: i64, b: i64, slot: Value| {
        let mut row = vec![Value::Int(a), Value::Int(b)];
        row.resize(7, Value::Absent);
        row.push(slot);
        row
    };
    let over = |bound: &Bound, row: &[Value]| with_frame(row, |frame| Program::new(bound).eval(frame));
    assert_eq!(over(&alias, &with_slot(6, 2, Value::Int(9))), Ok(Value::Int(9)));
    assert_eq!(over(&alias, &with_slot(6, 2, Value::Null)), Ok(Value::Null));
    assert_eq!(over(&alias, &with_slot(6, 2, Value::Absent)), Ok(Value::Int(3)));
    assert!(over(&alias, &with_slot(6, 0, Value::Absent)).is_err());
    let compared = Bound::Binary(crate::sql::BinaryOp::Less, Box::new(alias.clone()), Box::new(bound("5")));
    assert_eq!(over(&compared, &with_slot(6, 2, Value::Int(9))), Ok(Value::Bool(false)));
    assert_eq!(over(&compared, &with_slot(6, 2, Value::Absent)), Ok(Value::Bool(true)));
    assert_eq!(alias.slots(), [7, 0, 1]);
}

#[test]
fn a_condition_is_true_false_or_null() {
    let decided = |text: &str, row: &[Value]| {
        let mut padded = row.to_vec();
        padded.resize(8, Value::Absent);
        let predicate = Predicate::new(&bound(text));
        with_frame(&padded, |frame| (predicate.holds(frame).ok(), predicate.decides(frame).ok()))
    };
    assert_eq!(decided("a", &[Value::Bool(true)]), (Some(true), Some(true)));
    assert_eq!(decided("a", &[Value::Null]), (Some(false), None));
    assert_eq!(decided("a", &[]), (Some(false), None));
    assert_eq!(decided("a", &[Value::Int(1)]), (None, None));
    assert_eq!(decided("a > 1", &[]), (Some(false), Some(false)));
    assert_eq!(decided("NOT a", &[]), (Some(false), None));
    assert_eq!(decided("NOT (a > 1)", &[]), (Some(true), Some(true)));
}

#[test]
fn only_what_is_needed_is_looked_at() {
    let row = [Value::Int(1), Value::text("x")];
    for (text, wanted) in [
        ("a = 1 OR b + 1 > 0", Some(Value::Bool(true))),
        ("a = 2 AND b + 1 > 0", Some(Value::Bool(false))),
        ("a = 2 OR b + 1 > 0", None),
        ("a IN (1, b)", Some(Value::Bool(true))),
        ("a IN (b, 1)", None),
        ("a BETWEEN 2 AND b", Some(Value::Bool(false))),
        ("CASE WHEN a = 1 THEN a ELSE b + 1 END", Some(Value::Int(1))),
        ("CASE a WHEN 1 THEN a WHEN b THEN 2 END", Some(Value::Int(1))),
        ("CASE WHEN b THEN 1 WHEN a THEN 2 ELSE 3 END", Some(Value::Int(3))),
        ("CASE b WHEN c THEN 1 END", Some(Value::Null)),
        ("coalesce(c, a)", Some(Value::Int(1))),
        ("concat(b, a, c)", Some(Value::text("x1"))),
    ] {
        assert_eq!(eval(&bound(text), &row), wanted, "{text}");
    }
}

#[test]
fn a_row_as_an_object_has_what_is_there() {
    let rest = Value::object(Object::from_iter([("c", Value::Int(3)), ("x", Value::Int(9))]));
    let shown = |a: Value, rest: &Value| match eval(&bound("coalesce(*, 0)"), &[a, Value::Null, rest.clone()]) {
        Some(Value::Object(object)) => {
            object.iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(Value::Int(1), &rest), ["c=Int(3)", "a=Int(1)", "b=Null"]);
    assert_eq!(shown(Value::Absent, &Value::Absent), ["b=Null"]);
}

#[test]
fn what_functions_remember_is_saved_and_read_back() {
    let bound = bound("compress(a, \"zlib\")");
    let mut one = Program::new(&bound);
    let row = vec![Value::text("hello"); 8];
    with_frame(&row, |frame| one.eval(frame).unwrap());
    let saved = one.save();
    assert!(matches!(&saved, Value::Array(states) if states.len() == 1));
    one.load(saved.clone()).unwrap();
    assert!(Program::new(&bound).load(saved).is_ok());
    assert!(Program::new(&super::tests::bound("a")).load(Value::array(vec![Value::Null])).is_err());
    assert!(Program::new(&bound).load(Value::Null).is_err());
}
