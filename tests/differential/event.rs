//! Event time, by definition: which rows are late, what the watermark releases when, and the windows that close with it
//! (chapter 10 of the reference).

use kuiper::data::Value;
use kuiper::sql::{Unit, Window, WindowKind};

use super::case::Case;
use super::query::{Got, Query, Row, Stop, Tuple};
use super::window::{Firing, content, holds, natural, reads, size, state};

/// What arrives, as far as the watermark is concerned.
pub struct Order {
    /// The watermark behind each arrival; none before every stream has been heard of.
    marks: Vec<Option<i64>>,
}

/// The time of a row: milliseconds since the start.
pub fn stamp(case: &Case, row: &kuiper::data::Object) -> Result<i64, String> {
    match row.get("ts") {
        Some(Value::Int(n)) => Ok(n - case.start),
        Some(other) => Err(format!("`ts` is a {}", other.type_name())),
        None => Err("`ts` is not there".to_string()),
    }
}

impl Order {
    pub fn new(case: &Case, streams: &[&str]) -> Order {
        let tolerance = case.option("lateTolerance").map_or(1000, |text| text.trim_end_matches("ms").parse().unwrap());
        let marks = (0..case.rows.len()).map(|n| {
            let newest = |stream: &&str| {
                let heard = case.rows[..=n].iter().filter(|row| row.stream == *stream);
                heard.filter_map(|row| stamp(case, &row.data).ok()).max()
            };
            let all: Option<Vec<i64>> = streams.iter().map(newest).collect();
            all.and_then(|all| all.into_iter().min()).map(|slowest| slowest - tolerance)
        });
        Order { marks: marks.collect() }
    }

    pub fn is_late(&self, number: usize, time: i64) -> bool {
        number > 0 && self.marks[number - 1].is_some_and(|mark| time < mark)
    }

    /// The arrival that releases a row: the first, from its own on, that moves the watermark to its time or beyond.
    pub fn release(&self, number: usize, time: i64) -> Option<usize> {
        self.reaches(number, time)
    }

    /// The first arrival, from one on, that moves the watermark and has it at a time or beyond.
    fn reaches(&self, from: usize, time: i64) -> Option<usize> {
        let moves = |n: &usize| *n == 0 || self.marks[*n] > self.marks[n - 1];
        (from..self.marks.len()).filter(moves).find(|n| self.marks[*n].is_some_and(|mark| mark >= time))
    }
}

/// Everything an event-time window gives out. `rows` are in order of release, and so of time.
pub fn firings(query: &Query, window: &Window, rows: &[Tuple], case: &Case, order: &Order) -> Got<Vec<Firing>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let (unit, numbers) = reads(window);
    let millis = |count: i64| count * size(unit);
    let fired = match (window.kind, numbers.as_slice()) {
        (WindowKind::Tumbling, [n]) => {
            let ends = boundaries(query, order, first, unit, *n);
            let starts = std::iter::once(first[0].time).chain(ends.iter().map(|(end, _)| *end));
            let low = std::iter::once(i64::MIN).chain(ends.iter().map(|(end, _)| *end));
            let windows = ends.iter().zip(starts.zip(low));
            windows.map(|((end, by), (start, low))| at(case, *by, content(rows, low, *end), start, *end)).collect()
        }
        (WindowKind::Hopping, [n, every]) => {
            let ends = boundaries(query, order, first, unit, *every);
            let window = |(end, by): &(i64, usize)| {
                let start = end - millis(*n);
                at(case, *by, content(rows, start, *end), start, *end)
            };
            ends.iter().map(window).collect()
        }
        (WindowKind::Sliding, [n, delay @ ..]) => {
            let delay = delay.first().map_or(0, |delay| millis(*delay));
            sliding(query, window, rows, case, order, (millis(*n), delay))
        }
        (WindowKind::Session, [longest, timeout]) => {
            let tick = |time: i64| natural(query, unit, *longest, time);
            session(rows, case, order, &tick, (millis(*longest), millis(*timeout)))
        }
        (WindowKind::State, _) => state(query, window, rows),
        _ => return Err(Stop::Open("a window that is not evaluated".into())),
    };
    Ok(fired)
}

/// A window that the watermark closes with the arrival of a row.
fn at(case: &Case, by: usize, rows: Vec<Tuple>, start: i64, end: i64) -> Firing {
    Firing { at: case.rows[by].at, cause: Some(by), place: usize::MAX, rows, start, end }
}

/// The boundaries that the watermark reaches, from the natural one of the first row on, and by which arrival.
fn boundaries(query: &Query, order: &Order, first: &Tuple, unit: Unit, count: i64) -> Vec<(i64, usize)> {
    let mut end = natural(query, unit, count, first[0].time);
    let mut all = Vec::new();
    while let Some(by) = order.reaches(first[0].by, end) {
        all.push((end, by));
        end += count * size(unit);
    }
    all
}

fn sliding(
    query: &Query,
    window: &Window,
    rows: &[Tuple],
    case: &Case,
    order: &Order,
    (length, delay): (i64, i64),
) -> Vec<Firing> {
    let open = case.option("planOptimizeStrategy").is_some_and(|text| text.contains("v2"));
    let mut fired = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let Row { by: released, time, place, .. } = *row[0];
        if window.when.as_ref().is_some_and(|when| !holds(query, when, row)) {
            continue;
        }
        let (start, end) = (time - length, time + delay);
        let Some(by) = order.reaches(released, end) else { continue };
        // `v2` does not wait for rows of the same time.
        let came = if open && delay == 0 { &rows[..=n] } else { rows };
        let inside = |row: &&Tuple| {
            let time = row[0].time;
            let after = if open { time > start } else { time >= start };
            let before = if open || delay == 0 { time <= end } else { time < end };
            // What has the time of the watermark may come behind the window.
            after && before && row[0].by <= by
        };
        let rows = came.iter().filter(inside).cloned().collect();
        let mut firing = at(case, by, rows, start, end);
        if open && delay == 0 {
            firing.place = place;
        }
        fired.push(firing);
    }
    // Those of one arrival in the order of their ends.
    fired.sort_by_key(|firing| (firing.cause, firing.place));
    fired
}

fn session(
    rows: &[Tuple],
    case: &Case,
    order: &Order,
    tick: &dyn Fn(i64) -> i64,
    (longest, timeout): (i64, i64),
) -> Vec<Firing> {
    let time = |n: usize| rows[n][0].time;
    let released = |n: usize| rows[n][0].by;
    let (mut fired, mut from, mut cut_at) = (Vec::new(), 0, None);
    while from < rows.len() {
        // The row that is too late for this session, and the arrival whose watermark finds it silent.
        let next = (from + 1..rows.len()).find(|n| time(*n) - time(n - 1) > timeout);
        let last = next.unwrap_or(rows.len()) - 1;
        let quiet = time(last) + timeout;
        let silent = order.reaches(released(last), quiet + 1);
        let found_by_row = next.is_some_and(|next| silent.is_none_or(|silent| released(next) <= silent));
        let beyond = |tick: i64| {
            let row = (from..=last).find(|n| time(*n) > tick);
            row.or(next.filter(|next| found_by_row && tick < quiet && time(*next) > tick))
        };
        let ticks = (0..).map(|n| tick(time(from)) + n * longest).skip_while(|tick| tick - longest <= time(from));
        let cut = ticks.take_while(|tick| *tick < quiet).find_map(|tick| beyond(tick).map(|row| (tick, row)));
        let (end, by) = match (cut, found_by_row) {
            (Some((tick, row)), _) => (tick, Some(released(row))),
            (None, true) => (quiet, next.map(released)),
            (None, false) => (quiet, silent),
        };
        let Some(by) = by else { break };
        let until = (from..=last).find(|n| time(*n) >= end).unwrap_or(last + 1);
        let start = cut_at.unwrap_or(time(from));
        fired.push(at(case, by, rows[from..until].to_vec(), start, end));
        cut_at = cut.map(|(tick, _)| tick);
        from = until;
    }
    fired
}
