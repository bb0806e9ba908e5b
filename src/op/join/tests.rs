//! Rows that are found by their keys, and rows that are compared one by one, come to the same.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::data::key;
use crate::expr::Bound;
use crate::func::RuleInfo;
use crate::sql::BinaryOp;

const KINDS: [JoinKind; 5] = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Cross];

/// Slots: the source, the key and the value of the left side, those of the right one.
const WIDTH: usize = 5;

fn slot(slot: usize) -> Bound {
    Bound::Slot(slot, format!("c{slot}").into())
}

fn binary(op: BinaryOp, a: Bound, b: Bound) -> Bound {
    Bound::Binary(op, Box::new(a), Box::new(b))
}

/// `left.key = right.key AND left.value < right.value`, found by its equality or not.
fn join(kind: JoinKind, by_key: bool, table: bool) -> Join {
    let on = binary(BinaryOp::And, binary(BinaryOp::Eq, slot(1), slot(3)), binary(BinaryOp::Less, slot(2), slot(4)));
    let cross = kind == JoinKind::Cross;
    let programs = |n: usize| if by_key && !cross { vec![Program::new(&slot(n))] } else { Vec::new() };
    let step = JoinStep {
        kind,
        source: 1,
        on: (!cross).then(|| Predicate::new(&on)),
        reads: on.slots(),
        meta: false,
        left: programs(1),
        right: programs(3),
    };
    let tables: &[(usize, usize)] = if table { &[(1, 7)] } else { &[] };
    Join::new(vec![step], tables, vec![0, 1], 0, Bounds::default(), WIDTH)
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn key(&mut self, wild: bool) -> Value {
        match self.roll(if wild { 12 } else { 8 }) {
            n @ 0..4 => Value::Int(n as i64),
            n @ 4..6 => Value::Float(n as f64 - 4.0),
            6 => Value::Null,
            7 => Value::Absent,
            8 => Value::text("1"),
            9 => Value::Int((1 << 53) + 1),
            10 => Value::Float((1u64 << 53) as f64),
            _ => Value::Bool(true),
        }
    }

    fn row(&mut self, source: usize, wild: bool) -> Vec<Value> {
        let mut row = vec![Value::Absent; WIDTH];
        row[0] = Value::Int(source as i64);
        row[1 + 2 * source] = self.key(wild);
        row[2 + 2 * source] = Value::Int(self.roll(5) as i64);
        row
    }
}

fn batch(rows: &[Vec<Value>], emissions: Emissions) -> Batch {
    let mut batch = Batch::new(WIDTH);
    rows.iter().for_each(|row| batch.push(Time(1), Receipt::none()).clone_from_slice(row));
    batch.emissions = emissions;
    batch
}

/// What the join gives for these batches: rows, and texts of errors.
fn run(join: &mut Join, batches: &[(Vec<Vec<Value>>, Emissions)]) -> Vec<String> {
    let rule = RuleInfo::nowhere();
    let mut shown = Vec::new();
    for (rows, emissions) in batches {
        let mut out = Out::default();
        join.push(batch(rows, emissions.clone()), &Cx { now: Time(2), rule: &rule }, &mut out).unwrap();
        for given in out.take() {
            shown.extend(given.faults().iter().map(|(_, fault)| fault.to_string()));
            shown.extend(given.selected().iter().map(|row| format!("{:?}", &given.row(*row as usize)[1..])));
            shown.push("end".into());
        }
    }
    shown
}

#[test]
fn keys_find_what_comparing_finds() {
    let (mut found, mut failed) = (0, 0);
    for seed in 0..400 {
        for kind in KINDS {
            let mut dice = Dice(seed * 7 + 1);
            let wild = dice.roll(2) == 0;
            let mut row = |_| {
                let source = dice.roll(2) as usize;
                dice.row(source, wild)
            };
            let rows: Vec<Vec<Value>> = (0..20).map(&mut row).collect();
            let window = [(rows.clone(), Emissions::Whole)];
            let wanted = run(&mut join(kind, false, false), &window);
            assert_eq!(run(&mut join(kind, true, false), &window), wanted, "seed {seed} {kind:?} {rows:?}");
            failed += wanted.iter().filter(|line| line.contains("error")).count();
            // The right side as a table: its rows come one by one, and the oldest give way.
            let stream = |row: &Vec<Value>| vec![row.clone()];
            let batches: Vec<_> = rows.iter().map(|row| (stream(row), Emissions::Single)).collect();
            let wanted = run(&mut join(kind, false, true), &batches);
            assert_eq!(run(&mut join(kind, true, true), &batches), wanted, "seed {seed} {kind:?} table {rows:?}");
            found += wanted.len();
        }
    }
    assert!(found > 1000 && failed > 10, "{found} {failed}");
}

#[test]
fn a_table_goes_on_where_its_state_was_saved() {
    let mut dice = Dice(5);
    let table: Vec<Vec<Value>> = (0..9).map(|_| dice.row(1, false)).collect();
    let stream: Vec<_> = (0..40).map(|_| (vec![dice.row(0, false)], Emissions::Single)).collect();
    let mut first = join(JoinKind::Left, true, true);
    run(&mut first, &[(table, Emissions::Single)]);
    let account: Arc<dyn Account> = Arc::new(Nobody);
    let mut second = join(JoinKind::Left, true, true);
    second.load(first.save(), &account).unwrap();
    assert_eq!(run(&mut second, &stream), run(&mut first, &stream));
}

struct Nobody;

impl Account for Nobody {
    fn settle(&self, _: Fate, _: u64, _: bool) {}
    fn hold(&self, _: u64) {}
    fn unhold(&self, _: u64) {}
}

/// A key is the same for values that `=` sees as the same.
#[test]
fn keys_are_those_of_the_operator() {
    let mut one = Vec::new();
    let mut other = Vec::new();
    key::add(&mut one, &Value::Int(1));
    key::add(&mut other, &Value::Float(1.0));
    assert_eq!(one, other);
}
