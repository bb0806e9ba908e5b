//! Operators over rows and times, without a plan: what the case files cannot say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod back;
mod watermark;

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::tz::TimeZone;

use super::*;
use crate::data::{Emissions, Fate, Kind, Object, Receipt, Text};
use crate::diag::Fault;
use crate::expr::{Bound, Bounds, Predicate, Program};
use crate::func::{Body, Catalogue, Ctx, Func, Guest};
use crate::sql::{BinaryOp, Unit};

/// Counts fates, and what is held.
#[derive(Default)]
struct Book(Mutex<(BTreeMap<String, u64>, i64)>);

impl Account for Book {
    fn settle(&self, fate: Fate, rows: u64, held: bool) {
        let mut book = self.0.lock().unwrap();
        *book.0.entry(format!("{fate:?}")).or_default() += rows;
        book.1 -= if held { rows as i64 } else { 0 };
    }
    fn hold(&self, rows: u64) {
        self.0.lock().unwrap().1 += rows as i64;
    }
    fn unhold(&self, rows: u64) {
        self.0.lock().unwrap().1 -= rows as i64;
    }
}

/// One operator under test.
struct Bench {
    book: Arc<Book>,
    rule: RuleInfo,
}

impl Bench {
    fn new() -> Self {
        Bench { book: Arc::default(), rule: RuleInfo::nowhere() }
    }

    fn account(&self) -> Arc<dyn Account> {
        self.book.clone()
    }

    /// Rows of one batch, all at one time.
    fn batch(&self, time: i64, rows: &[&[Value]]) -> Batch {
        let mut batch = Batch::new(rows.first().map_or(0, |row| row.len()));
        for row in rows {
            batch.push(Time(time), Receipt::new(self.account(), None)).clone_from_slice(row);
        }
        batch
    }

    fn push(&self, op: &mut dyn Operator, batch: Batch) -> Vec<Batch> {
        let now = if batch.rows() > 0 { batch.time(0) } else { Time(0) };
        let mut out = Out::default();
        op.push(batch, &Cx { now, rule: &self.rule }, &mut out).unwrap();
        out.take()
    }

    fn tick(&self, op: &mut dyn Operator, now: i64) -> Vec<Batch> {
        let mut out = Out::default();
        op.tick(&Cx { now: Time(now), rule: &self.rule }, &mut out).unwrap();
        out.take()
    }

    fn finish(&self, op: &mut dyn Operator, now: i64) -> Vec<Batch> {
        let mut out = Out::default();
        op.finish(&Cx { now: Time(now), rule: &self.rule }, &mut out).unwrap();
        out.take()
    }

    /// `Filtered=1 Out=2`, and what is held.
    fn fates(&self) -> (String, i64) {
        let book = self.book.0.lock().unwrap();
        (book.0.iter().map(|(fate, rows)| format!("{fate}={rows}")).collect::<Vec<_>>().join(" "), book.1)
    }
}

fn slot(slot: usize) -> Bound {
    Bound::Slot(slot, "x".into())
}

fn int(n: i64) -> Value {
    Value::Int(n)
}

/// Values of the selected rows, and the texts of the faults.
fn shown(batches: &[Batch]) -> String {
    let one = |batch: &Batch| {
        let rows = batch.selected().iter().map(|row| {
            let row = batch.row(*row as usize).iter().map(|value| match value {
                Value::Absent => Text::const_new("-"),
                value => value.print(),
            });
            row.collect::<Vec<_>>().join(",")
        });
        let faults = batch.faults().iter().map(|(at, fault)| format!("{at}!{fault}"));
        rows.chain(faults).collect::<Vec<_>>().join(" ")
    };
    batches.iter().map(|batch| format!("[{}]", one(batch))).collect::<Vec<_>>().join("")
}

fn settle(batches: Vec<Batch>, fate: Fate) {
    for mut batch in batches {
        for row in batch.selected().to_vec() {
            batch.take_receipt(row as usize).settle(fate);
        }
    }
}

fn ten_seconds(now: i64, groups: Option<Groups>) -> Tumbling {
    let alignment = Alignment { unit: Unit::Second, count: 10, zone: TimeZone::UTC };
    let bounds = Bounds { start: Some(1), end: Some(2), trigger: None };
    Tumbling::new(Grid { alignment, event: None }, Time(now), bounds, 4, groups)
}

fn summed() -> Groups {
    let Body::Aggregate(start) = Catalogue::default().find("sum").unwrap().body else { panic!("sum") };
    let call = AggregateCall {
        label: "".into(),
        slot: 3,
        start: Arc::new(start),
        args: vec![Program::new(&slot(0))],
        distinct: false,
        filter: None,
    };
    Groups::new(
        4,
        vec![Program::new(&Bound::Binary(BinaryOp::Rem, Box::new(slot(0)), Box::new(Bound::Const(int(2)))))],
        vec![call],
    )
}

#[test]
fn a_window_holds_rows_until_its_time_comes() {
    let bench = Bench::new();
    let mut window = ten_seconds(1_000, None);
    assert_eq!(window.due(), Some(Time(10_000)));
    let row = |n| [int(n), Value::Absent, Value::Absent, Value::Absent];
    assert_eq!(shown(&bench.push(&mut window, bench.batch(2_000, &[&row(1), &row(2)]))), "");
    assert_eq!(bench.fates(), (String::new(), 2));
    assert_eq!(shown(&bench.tick(&mut window, 9_999)), "");
    let out = bench.tick(&mut window, 10_000);
    assert_eq!(shown(&out), "[1,1000,10000,- 2,1000,10000,-]");
    assert_eq!(out[0].emissions, Emissions::Whole);
    assert_eq!(bench.fates(), (String::new(), 2));
    settle(out, Fate::Out);
    assert_eq!(bench.fates(), ("Out=2".into(), 0));
}

#[test]
fn after_a_pause_the_grid_goes_on() {
    let bench = Bench::new();
    let mut window = ten_seconds(1_000, None);
    let row = |n| [int(n), Value::Absent, Value::Absent, Value::Absent];
    bench.push(&mut window, bench.batch(2_000, &[&row(1)]));
    // The machine slept through three boundaries: what was kept leaves once.
    let out = bench.tick(&mut window, 47_000);
    assert_eq!(shown(&out), "[1,1000,10000,-]");
    assert_eq!(window.due(), Some(Time(50_000)));
    // A row that was stamped before and comes late stands in the window that is open.
    bench.push(&mut window, bench.batch(9_000, &[&row(2)]));
    let late = bench.tick(&mut window, 50_000);
    assert_eq!(shown(&late), "[2,40000,50000,-]");
    settle(out, Fate::Out);
    settle(late, Fate::Out);
    assert_eq!(bench.fates(), ("Out=2".into(), 0));
}

#[test]
fn an_open_window_ends_with_its_input_or_is_thrown_away() {
    let bench = Bench::new();
    let row = |n| [int(n), Value::Absent, Value::Absent, Value::Absent];
    for groups in [false, true] {
        let mut window = ten_seconds(1_000, groups.then(summed));
        assert_eq!(shown(&bench.finish(&mut window, 1_500)), "");
        bench.push(&mut window, bench.batch(2_000, &[&row(5)]));
        let out = bench.finish(&mut window, 3_000);
        assert!(shown(&out).starts_with("[5,1000,"), "{}", shown(&out));
        assert_eq!(shown(&bench.finish(&mut window, 3_500)), "");
        settle(out, Fate::Out);
        bench.push(&mut window, bench.batch(4_000, &[&row(6), &row(7)]));
        window.discard();
        assert_eq!(shown(&bench.finish(&mut window, 5_000)), "");
    }
    assert_eq!(bench.fates(), ("DroppedStop=4 Out=2".into(), 0));
}

/// Whatever the instant at which the state is saved and taken up, what comes out is the same.
#[test]
fn state_survives_at_any_instant() {
    let row = |value: Value| [value, Value::Absent, Value::Absent, Value::Absent];
    let steps: Vec<(i64, Vec<Value>)> = vec![
        (1_000, vec![int(1), int(2)]),
        (2_000, vec![int(3)]),
        (11_000, vec![]),
        (12_000, vec![int(4), Value::text("no number")]),
        (13_000, vec![int(6)]),
        (21_000, vec![int(8)]),
        (31_000, vec![]),
    ];
    for groups in [false, true] {
        let make = |now| ten_seconds(now, groups.then(summed));
        let run = |at: Option<usize>| {
            let bench = Bench::new();
            let (mut window, mut out) = (make(500), Vec::new());
            for (n, (now, values)) in steps.iter().enumerate() {
                out.extend(bench.tick(&mut window, *now));
                let rows: Vec<[Value; 4]> = values.iter().cloned().map(row).collect();
                let rows: Vec<&[Value]> = rows.iter().map(|row| row.as_slice()).collect();
                if !rows.is_empty() {
                    out.extend(bench.push(&mut window, bench.batch(*now, &rows)));
                }
                if at == Some(n) {
                    let (saved, before) = (window.save(), bench.fates());
                    let mut fresh = make(*now);
                    window.forget();
                    fresh.load(saved, &bench.account()).unwrap();
                    window = fresh;
                    assert_eq!(bench.fates(), before);
                }
            }
            let text = shown(&out);
            settle(out, Fate::Out);
            (text, bench.fates())
        };
        let (text, fates) = run(None);
        assert_eq!(fates.1, 0);
        match groups {
            true => {
                assert!(text.contains("[1,500,10000,4 2,500,10000,2]") && text.contains("[8,20000,30000,8]"), "{text}")
            }
            false => assert!(text.contains("6,10000,20000,-]") && text.ends_with("[8,20000,30000,-]"), "{text}"),
        }
        for at in 0..steps.len() {
            assert_eq!(run(Some(at)), (text.clone(), fates.clone()), "saved after step {at}");
        }
    }
}

#[test]
fn a_foreign_state_is_refused() {
    let bench = Bench::new();
    for saved in [Value::Int(1), Value::object(Object::new()), ten_seconds(0, None).save()] {
        assert!(ten_seconds(0, Some(summed())).load(saved, &bench.account()).is_err());
    }
    assert!(ten_seconds(0, None).load(ten_seconds(0, Some(summed())).save(), &bench.account()).is_err());
}

#[test]
fn one_group_that_fails_fails_all() {
    let bench = Bench::new();
    let mut window = ten_seconds(1_000, Some(summed()));
    let row = |value: Value| [value, Value::Absent, Value::Absent, Value::Absent];
    let rows = [row(int(1)), row(Value::text("x")), row(int(2))];
    let rows: Vec<&[Value]> = rows.iter().map(|row| row.as_slice()).collect();
    bench.push(&mut window, bench.batch(2_000, &rows));
    let out = bench.tick(&mut window, 10_000);
    assert_eq!(out.len(), 1);
    assert!(shown(&out).starts_with("[0!run Group By error: "), "{}", shown(&out));
    assert_eq!(bench.fates(), ("DeadEval=3".into(), 0));
}

#[test]
fn errors_do_not_wait_in_a_window() {
    let bench = Bench::new();
    let mut window = ten_seconds(1_000, None);
    let row = [int(1), Value::Absent, Value::Absent, Value::Absent];
    let mut batch = bench.batch(2_000, &[&row, &row]);
    batch.select(vec![1]);
    batch.fail(0, Fault::eval("broken"));
    assert_eq!(shown(&bench.push(&mut window, batch)), "[0!broken]");
    assert_eq!(bench.fates(), ("DeadEval=1".into(), 1));
    window.discard();
}

fn order(rows: &[Value], descending: bool) -> (String, String) {
    let bench = Bench::new();
    let mut op = Order::new(vec![OrderKey { program: Program::new(&slot(0)), descending }]);
    let rows: Vec<Vec<Value>> = rows.iter().enumerate().map(|(n, value)| vec![value.clone(), int(n as i64)]).collect();
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let mut batch = bench.batch(0, &rows);
    batch.emissions = Emissions::Whole;
    let out = bench.push(&mut op, batch);
    let text = shown(&out);
    settle(out, Fate::Out);
    (text, bench.fates().0)
}

#[test]
fn rows_are_put_in_order_and_nulls_come_last() {
    let values = [Value::Null, int(2), Value::Float(f64::NAN), Value::Float(1.5), int(2), Value::Absent];
    assert_eq!(order(&values, false).0, "[1.5,3 2,1 2,4 <nil>,0 NaN,2 -,5]".replace("<nil>", &Value::Null.print()));
    assert_eq!(order(&values, true).0, "[2,1 2,4 1.5,3 <nil>,0 NaN,2 -,5]".replace("<nil>", &Value::Null.print()));
    let big = 1_i64 << 53;
    let close = [
        int(big + 1),
        Value::Float(big as f64),
        int(big - 1),
        int(i64::MAX),
        Value::Float(9.3e18),
        Value::Float(-9.3e18),
    ];
    let sorted = order(&close, false).0;
    let numbers: Vec<&str> =
        sorted.trim_matches(['[', ']']).split(' ').filter_map(|row| row.split(',').nth(1)).collect();
    assert_eq!(numbers, ["5", "2", "1", "0", "3", "4"]);
}

#[test]
fn what_cannot_be_put_in_order_fails_as_a_whole() {
    let (text, fates) = order(&[int(1), Value::text("a"), int(2)], false);
    assert!(text.starts_with("[0!run Order By error: "), "{text}");
    assert_eq!(fates, "DeadEval=3");
    assert!(order(&[Value::array(vec![])], false).0.contains('!'));
    assert!(order(&[Value::Bool(true), Value::Bool(false)], false).0.starts_with("[false,1 true,0"));
    // Many values without an order among them must not confuse the sort.
    let mixed: Vec<Value> = (0..200).map(|n| if n % 3 == 0 { Value::Float(f64::NAN) } else { int(n % 7) }).collect();
    assert_eq!(order(&mixed, true).1, "Out=200");
}

#[test]
fn conditions_take_rows_out_and_errors_stay_at_their_place() {
    let bench = Bench::new();
    let greater = Bound::Binary(BinaryOp::Greater, Box::new(slot(0)), Box::new(Bound::Const(int(1))));
    let mut filter = Filter::new(Predicate::new(&greater), "run Where error: ");
    let rows: [&[Value]; 4] = [&[int(1)], &[Value::text("x")], &[int(2)], &[Value::Null]];
    let out = bench.push(&mut filter, bench.batch(0, &rows));
    assert!(shown(&out).starts_with("[2 1!run Where error: "), "{}", shown(&out));
    settle(out, Fate::Out);
    assert_eq!(bench.fates().0, "DeadEval=1 Filtered=2 Out=1");
    assert_eq!(shown(&bench.push(&mut filter, bench.batch(0, &[&[int(0)]]))), "");
}

#[test]
fn having_is_all_or_nothing() {
    let run = |values: &[Value], whole: bool| {
        let bench = Bench::new();
        let mut having = Having::new(Predicate::new(&slot(0)));
        let rows: Vec<&[Value]> = values.iter().map(std::slice::from_ref).collect();
        let mut batch = bench.batch(0, &rows);
        batch.emissions = if whole { Emissions::Whole } else { Emissions::Single };
        let out = bench.push(&mut having, batch);
        let text = shown(&out);
        settle(out, Fate::Out);
        (text, bench.fates().0)
    };
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    assert_eq!(run(&[yes.clone(), no.clone()], true), ("[true]".into(), "Filtered=1 Out=1".into()));
    assert_eq!(run(std::slice::from_ref(&no), true), (String::new(), "Filtered=1".into()));
    assert_eq!(run(&[], true).0, "");
    let (text, fates) = run(&[yes.clone(), Value::Null], true);
    assert!(text.starts_with("[0!run Having error: "), "{text}");
    assert_eq!(fates, "DeadEval=2");
    assert_eq!(run(&[yes, no], false).1, "DeadEval=2");
}

#[test]
fn a_limit_counts_what_it_cuts() {
    let bench = Bench::new();
    let rows: [&[Value]; 3] = [&[int(1)], &[int(2)], &[int(3)]];
    let out = bench.push(&mut Limit::new(2), bench.batch(0, &rows));
    assert_eq!(shown(&out), "[1 2]");
    settle(out, Fate::Out);
    assert_eq!(shown(&bench.push(&mut Limit::new(0), bench.batch(0, &rows))), "");
    assert_eq!(bench.fates().0, "Filtered=4 Out=2");
}

#[test]
fn a_value_that_fails_is_met_by_its_reader_or_at_once() {
    let failing = || Program::new(&Bound::Binary(BinaryOp::Div, Box::new(slot(0)), Box::new(slot(1))));
    let rows: [&[Value]; 3] =
        [&[int(4), int(2), Value::Absent], &[int(4), int(0), Value::Absent], &[int(4), Value::Null, Value::Absent]];
    for (lazy, whole, wanted, fates) in [
        (true, false, "[4,2,2 4,0,- 4,,]", "Out=3"),
        (false, false, "[4,2,2 4,, 1!x: expr: (x / x): divided by zero]", "DeadEval=1 Out=2"),
        (false, true, "[0!x: expr: (x / x): divided by zero]", "DeadEval=3"),
    ] {
        let bench = Bench::new();
        let mut compute = Compute::new(vec![Computed { slot: 2, program: failing(), lazy }], "x: ");
        let mut batch = bench.batch(0, &rows);
        batch.emissions = if whole { Emissions::Whole } else { Emissions::Single };
        let out = bench.push(&mut compute, batch);
        assert_eq!(
            shown(&out),
            wanted
                .replace(",,]", &format!(",{0},{0}]", Value::Null.print()))
                .replace("4,, ", &format!("4,{0},{0} ", Value::Null.print()))
        );
        settle(out, Fate::Out);
        assert_eq!(bench.fates().0, fates);
    }
}

#[test]
fn a_projection_takes_columns_and_expressions() {
    let bench = Bench::new();
    let column = |slot, keep_null| OutColumn { take: Take::Column { slot, last: false }, keep_null, or: None };
    let sum = Bound::Binary(BinaryOp::Add, Box::new(slot(0)), Box::new(slot(1)));
    let expression = |keep_null| OutColumn { take: Take::Program(Program::new(&sum)), keep_null, or: None };
    let mut project =
        Project::new(Vec::new(), vec![column(0, false), column(0, true), expression(false), expression(true)]);
    let rows: [&[Value]; 4] =
        [&[int(1), int(2)], &[Value::Absent, int(2)], &[Value::text("x"), int(2)], &[Value::Null, int(2)]];
    let out = bench.push(&mut project, bench.batch(0, &rows));
    let rows: Vec<&[Value]> = out[0].selected().iter().map(|row| out[0].row(*row as usize)).collect();
    let is_absent = |value: &Value| matches!(value, Value::Absent);
    assert_eq!(rows[0], [int(1), int(1), int(3), int(3)]);
    assert_eq!(rows[1].iter().map(is_absent).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(rows[2].iter().map(is_absent).collect::<Vec<_>>(), [false, false, true, false]);
    // The fault stands in front of the row that followed the one that failed.
    assert_eq!(out[0].faults().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2]);
    settle(out, Fate::Out);
    assert_eq!(bench.fates().0, "DeadEval=1 Out=3");
}

#[test]
fn declared_columns_are_converted_or_fail_their_row() {
    let bench = Bench::new();
    let checked = |slot, name: &str, kind, default| Checked { slot, name: name.into(), kind, default };
    let mut validate = Validate::new(
        vec![checked(0, "n", Kind::Bigint, Some(int(7))), checked(1, "at", Kind::Datetime, None)],
        Some("dd.MM.yyyy".into()),
    );
    let rows: [&[Value]; 5] = [
        &[Value::Float(2.9), Value::text("02.01.1970")],
        &[Value::Absent, int(0)],
        &[Value::Null, int(0)],
        &[int(1), Value::Absent],
        &[int(1), Value::text("never")],
    ];
    let out = bench.push(&mut validate, bench.batch(0, &rows));
    let text = shown(&out);
    for part in [
        "[2,1970-01-02T00:00:00Z 7,1970-01-01T00:00:00Z ",
        "2!error in preprocessor: column `n` does not fit its declaration: cannot convert null to bigint",
        "3!error in preprocessor: column `at` is not there",
        "4!error in preprocessor: column `at` does not fit",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    settle(out, Fate::Out);
    assert_eq!(bench.fates().0, "DeadEval=3 Out=2");
}

#[test]
fn a_column_is_found_whatever_its_case_where_none_fits_exactly() {
    let bench = Bench::new();
    let named =
        |name: &str, exact, twins: &[usize], slot| Named { name: name.into(), exact, twins: twins.into(), slot };
    let mut resolve = Resolve::new(vec![named("Temp", 0, &[1], 3), named("temp", 1, &[0], 4)], 2);
    let rest = |name: &str| Value::object(Object::from_iter([(name, int(9))]));
    let rows: [&[Value]; 4] = [
        &[int(1), int(2), rest("x"), Value::Absent, Value::Absent],
        &[Value::Absent, int(2), rest("TEMP"), Value::Absent, Value::Absent],
        &[Value::Absent, Value::Absent, rest("TEMP"), Value::Absent, Value::Absent],
        &[Value::Null, Value::Absent, Value::Absent, Value::Absent, Value::Absent],
    ];
    let out = bench.push(&mut resolve, bench.batch(0, &rows));
    let found: Vec<&[Value]> = out[0].selected().iter().map(|row| &out[0].row(*row as usize)[3..]).collect();
    assert_eq!(found, [[int(1), int(2)], [int(2), int(2)], [int(9), int(9)], [Value::Null, Value::Null]]);
    settle(out, Fate::Out);
}

/// Gives the double of a number, and fails for everything else; it notes how many rows came at once.
struct Double(Arc<Mutex<Vec<usize>>>);

impl Guest for Double {
    fn call(&self, args: &[&Value], rows: usize, _: &Ctx<'_>) -> Vec<crate::diag::Result<Value>> {
        self.0.lock().unwrap().push(rows);
        let double = |value: &Value| match value {
            Value::Int(n) => Ok(int(n * 2)),
            _ => Err(Fault::eval("no number")),
        };
        args.iter().copied().map(double).collect()
    }
}

#[test]
fn a_plugin_is_called_once_for_a_batch() {
    static DOUBLE: Func = Func::scalar("double", "(number) -> number", |_, _| Ok(Value::Null));
    for (whole, wanted, fates) in [
        (
            false,
            "[1,2 3,6 1!s: call func double error: no number 2!s: call func double error: no number]",
            "DeadEval=2 Out=2",
        ),
        (true, "[0!s: call func double error: no number]", "DeadEval=4"),
    ] {
        let (bench, seen) = (Bench::new(), Arc::new(Mutex::new(Vec::new())));
        let args = vec![Program::new(&slot(0))];
        let call = GuestCall { slot: 1, func: &DOUBLE, guest: Box::new(Double(seen.clone())), args };
        let mut guests = Guests::new(vec![call], "s: ");
        let rows: [&[Value]; 4] = [
            &[int(1), Value::Absent],
            &[Value::Null, Value::Absent],
            &[Value::text("x"), Value::Absent],
            &[int(3), Value::Absent],
        ];
        let mut batch = bench.batch(0, &rows);
        batch.emissions = if whole { Emissions::Whole } else { Emissions::Single };
        let out = bench.push(&mut guests, batch);
        assert_eq!(shown(&out), wanted);
        assert_eq!(*seen.lock().unwrap(), [4]);
        settle(out, Fate::Out);
        assert_eq!(bench.fates().0, fates);
    }
}
