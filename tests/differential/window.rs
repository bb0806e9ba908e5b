//! Which rows a window gives out, and when, by definition: chapter 9 of the reference, processing time.

use std::collections::BTreeMap;

use kuiper::data::Value;
use kuiper::sql::{Expr, ExprNode, Literal, Unit, Window, WindowKind};

use super::analytic::printed;
use super::case::Case;
use super::expr::eval;
use super::query::{Got, Query, Scope, Stop, Tuple};

/// One window that is given out. All times in milliseconds since the start of the rule.
pub struct Firing {
    pub at: i64,
    /// The arrival that caused it; `None` for the clock.
    pub cause: Option<usize>,
    /// Where it stands among the rows that the cause lets the rule see; behind them where it waits for the watermark.
    pub place: usize,
    pub rows: Vec<Tuple>,
    pub start: i64,
    pub end: i64,
}

impl Firing {
    /// A row of a rule without a window.
    pub fn alone(tuple: Tuple) -> Firing {
        let (at, cause, place) = (tuple[0].at, Some(tuple[0].by), tuple[0].place);
        Firing { at, cause, place, rows: vec![tuple], start: at, end: at }
    }
}

/// The unit and the numbers that a window is written with.
pub fn reads(window: &Window) -> (Unit, Vec<i64>) {
    let number = |arg: &Expr| match arg.bare().node {
        ExprNode::Literal(Literal::Int(n)) => Some(n),
        _ => None,
    };
    let unit = match window.args.first().map(|arg| &arg.node) {
        Some(ExprNode::Unit(unit)) => *unit,
        _ => Unit::Millisecond,
    };
    (unit, window.args.iter().filter_map(number).collect())
}

/// Everything a window in processing time gives out until the run ends.
///
/// # Errors
/// Two things fall on the same millisecond, so that the order is not defined.
pub fn firings(query: &Query, window: &Window, rows: &[Tuple], case: &Case) -> Got<Vec<Firing>> {
    let length = case.length;
    let open = case.option("planOptimizeStrategy").is_some_and(|text| text.contains("v2"));
    let (unit, numbers) = reads(window);
    let millis = |count: i64| count * size(unit);
    let fired = match (window.kind, numbers.as_slice()) {
        (WindowKind::Tumbling, [n]) => tumbling(rows, &boundaries(query, unit, *n, length)),
        (WindowKind::Hopping, [n, every]) => hopping(rows, &boundaries(query, unit, *every, length), millis(*n)),
        (WindowKind::Sliding, [n, delay @ ..]) => {
            let delay = delay.first().map_or(0, |delay| millis(*delay));
            sliding(query, window, rows, millis(*n), delay, open, length)
        }
        (WindowKind::Session, [longest, timeout]) => {
            let cuts = boundaries(query, unit, *longest, length);
            session(rows, &cuts, millis(*longest), millis(*timeout), length)?
        }
        (WindowKind::Count, [n, every @ ..]) => {
            counted(rows, *n as usize, every.first().map_or(*n as usize, |n| *n as usize))
        }
        (WindowKind::State, _) => state(query, window, rows),
        _ => return Err(Stop::Open("a window that is not evaluated".into())),
    };
    let ties = |firing: &Firing| firing.cause.is_none() && case.rows.iter().any(|row| row.at == firing.at);
    if fired.iter().any(ties) {
        return Err(Stop::Open("a row falls on a boundary".into()));
    }
    Ok(fired)
}

fn time(tuple: &Tuple) -> i64 {
    tuple[0].time
}

pub fn size(unit: Unit) -> i64 {
    match unit {
        Unit::Day => 86_400_000,
        Unit::Hour => 3_600_000,
        Unit::Minute => 60_000,
        Unit::Second => 1_000,
        Unit::Millisecond => 1,
    }
}

/// The natural boundary of a time (section 9.3): aligned within the next larger unit; not always behind it.
pub fn natural(query: &Query, unit: Unit, count: i64, time: i64) -> i64 {
    let larger = match unit {
        Unit::Day | Unit::Hour => 86_400_000,
        Unit::Minute => 3_600_000,
        Unit::Second => 60_000,
        Unit::Millisecond => 1_000,
    };
    let (now, step) = (query.start + time, count * size(unit));
    let base = now - now.rem_euclid(larger);
    let passed = (now - base) / size(unit);
    base + step * if passed > count { passed / count + 1 } else { 1 } - query.start
}

/// The boundaries up to the end of the run, the first behind its start.
fn boundaries(query: &Query, unit: Unit, count: i64, until: i64) -> Vec<i64> {
    let step = count * size(unit);
    let first = natural(query, unit, count, 0);
    let first = if first > 0 { first } else { first + step };
    (0..).map(|n| first + n * step).take_while(|end| *end <= until).collect()
}

/// The rows from one time on and before another.
pub fn content(rows: &[Tuple], low: i64, high: i64) -> Vec<Tuple> {
    rows.iter().filter(|row| low <= time(row) && time(row) < high).cloned().collect()
}

fn tumbling(rows: &[Tuple], ticks: &[i64]) -> Vec<Firing> {
    let starts = std::iter::once(&0).chain(ticks);
    let window = |(start, end): (&i64, &i64)| Firing {
        at: *end,
        cause: None,
        place: usize::MAX,
        rows: content(rows, *start, *end),
        start: *start,
        end: *end,
    };
    starts.zip(ticks).map(window).collect()
}

fn hopping(rows: &[Tuple], ticks: &[i64], length: i64) -> Vec<Firing> {
    let window = |end: &i64| {
        let start = end - length;
        Firing { at: *end, cause: None, place: usize::MAX, rows: content(rows, start, *end), start, end: *end }
    };
    ticks.iter().map(window).collect()
}

fn sliding(
    query: &Query,
    window: &Window,
    rows: &[Tuple],
    length: i64,
    delay: i64,
    open: bool,
    until: i64,
) -> Vec<Firing> {
    let mut fired = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let trigger = time(row);
        if window.when.as_ref().is_some_and(|when| !holds(query, when, row)) || trigger + delay > until {
            continue;
        }
        let (start, end) = (trigger - length, trigger + delay);
        // Without delay it is given out before the rows that come later at the same instant.
        let came = if delay == 0 { &rows[..=n] } else { rows };
        let inside = |row: &&Tuple| {
            let after = if open { time(row) > start } else { time(row) >= start };
            let before = if open || delay == 0 { time(row) <= end } else { time(row) < end };
            after && before
        };
        let content: Vec<Tuple> = came.iter().filter(inside).cloned().collect();
        let cause = (delay == 0).then_some(row[0].by);
        fired.push(Firing { at: end, cause, place: row[0].place, rows: content, start, end });
    }
    fired
}

/// A condition of a window: what fails does not hold.
pub fn holds(query: &Query, condition: &Expr, row: &Tuple) -> bool {
    eval(condition, &scope(query, row)).is_ok_and(|value| value == Value::Bool(true))
}

fn scope<'a>(query: &'a Query, tuple: &'a Tuple) -> Scope<'a> {
    Scope { query, tuple, group: None, bounds: None, numbers: None, within: None, aggregated: false }
}

fn session(rows: &[Tuple], cuts: &[i64], longest: i64, timeout: i64, until: i64) -> Got<Vec<Firing>> {
    let mut fired = Vec::new();
    let mut rest = rows;
    let mut cut_at = None;
    while let Some(first) = rest.first() {
        let gap = rest.windows(2).position(|pair| time(&pair[1]) - time(&pair[0]) >= timeout);
        let quiet = gap.map_or(rest.len(), |n| n + 1);
        let silence = time(&rest[quiet - 1]) + timeout;
        let cut = cuts.iter().copied().find(|cut| cut - time(first) >= longest && *cut <= silence);
        if cuts.contains(&silence) || rest.get(quiet).is_some_and(|row| time(row) == silence) {
            return Err(Stop::Open("a session falls silent on a boundary".into()));
        }
        let end = cut.unwrap_or(silence);
        let count = rest.iter().take_while(|row| time(row) < end).count();
        if end > until {
            break;
        }
        let start = cut_at.unwrap_or(time(first));
        fired.push(Firing { at: end, cause: None, place: usize::MAX, rows: rest[..count].to_vec(), start, end });
        cut_at = cut;
        rest = &rest[count..];
    }
    Ok(fired)
}

fn counted(rows: &[Tuple], length: usize, every: usize) -> Vec<Firing> {
    (1..=rows.len())
        .filter(|came| came % every == 0 && *came >= length)
        .map(|came| {
            let last = &rows[came - 1];
            let (at, cause, place) = (last[0].at, Some(last[0].by), last[0].place);
            Firing { at, cause, place, rows: rows[came - length..came].to_vec(), start: at, end: at }
        })
        .collect()
}

pub fn state(query: &Query, window: &Window, rows: &[Tuple]) -> Vec<Firing> {
    let mut parts: BTreeMap<Vec<String>, Vec<Tuple>> = BTreeMap::new();
    for row in rows {
        let key =
            |key: &Expr| eval(key, &scope(query, row)).map_or("failed".to_string(), |key| printed(&key).to_string());
        parts.entry(window.partition.iter().map(key).collect()).or_default().push(row.clone());
    }
    let mut fired = Vec::new();
    for part in parts.values() {
        let mut opened: Option<usize> = None;
        for (n, row) in part.iter().enumerate() {
            let begins = holds(query, &window.args[0], row);
            let (closes, through) = match (opened, window.args.get(1)) {
                (None, _) => (false, n),
                (Some(_), None) => (begins, n),
                (Some(_), Some(emit)) => (holds(query, emit, row), n + 1),
            };
            if let (Some(first), true) = (opened, closes) {
                fired.push(Firing {
                    at: row[0].at,
                    cause: Some(row[0].by),
                    place: row[0].place,
                    rows: part[first..through].to_vec(),
                    start: time(&part[first]),
                    end: time(row),
                });
                opened = None;
            } else if opened.is_some() {
                continue;
            }
            // With one condition the row that closes a window opens the next; with two it belongs to the old one.
            if begins && !(closes && window.args.len() > 1) {
                opened = Some(n);
            }
        }
    }
    fired
}
