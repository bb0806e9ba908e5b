//! The clock is set back by an hour while windows hold rows: nothing waits until it has caught up.

use std::time::Duration;

use super::*;

const HOUR: i64 = 3_600_000;

fn row(n: i64) -> [Value; 4] {
    [int(n), Value::Absent, Value::Absent, Value::Absent]
}

fn seconds(count: i64) -> Alignment {
    Alignment { unit: Unit::Second, count, zone: TimeZone::UTC }
}

fn bounds() -> Bounds {
    Bounds { start: Some(1), end: Some(2), trigger: None }
}

/// Pushes a row two seconds after the hour, sets the clock to three seconds after zero, and gives what comes then.
fn set_back(op: &mut dyn Operator, until: i64) -> String {
    let bench = Bench::new();
    assert_eq!(shown(&bench.push(op, bench.batch(HOUR + 2_000, &[&row(1)]))), "");
    let mut out = bench.tick(op, 3_000);
    while let Some(due) = op.due().filter(|due| due.0 <= until) {
        out.extend(bench.tick(op, due.0));
    }
    let text = shown(&out);
    settle(out, Fate::Out);
    assert!(bench.fates().1 >= 0);
    text
}

#[test]
fn a_tumbling_window_ends_at_its_next_boundary() {
    let mut window = ten_seconds(HOUR + 1_000, None);
    assert_eq!(set_back(&mut window, 15_000), "[1,1000,10000,-]");
    assert_eq!(window.due(), Some(Time(20_000)));
}

#[test]
fn a_hopping_window_goes_on_with_the_rows_that_it_has() {
    let grid = Grid { alignment: seconds(5), event: None };
    let length = Duration::from_secs(10);
    let mut window = Hopping::new(grid, length, Time(HOUR + 1_000), bounds(), 4, None, false);
    assert_eq!(set_back(&mut window, 16_000), "[1,-5000,5000,-][1,0,10000,-][]");
    assert_eq!(window.due(), Some(Time(20_000)));
}

#[test]
fn a_session_ends_when_its_timeout_has_passed() {
    let mut window = Session::new(&seconds(60), Duration::from_secs(5), Time(HOUR + 1_000), bounds(), 4);
    assert_eq!(set_back(&mut window, 9_000), "[1,3000,8000,-]");
}

#[test]
fn a_sliding_window_that_waits_for_its_delay_comes_after_it() {
    let second = Duration::from_secs(1);
    let times = SlidingTimes { length: 10 * second, delay: 4 * second, open: false, twice: false, event: false };
    let mut window = Sliding::new(times, None, bounds(), 4);
    assert_eq!(set_back(&mut window, 8_000), "[1,-7000,7000,-]");
    assert_eq!(window.due(), Some(Time(13_001)));
}
