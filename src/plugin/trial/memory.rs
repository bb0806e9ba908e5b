//! Whether memory is flat: what a life takes it gives back.

use std::time::{Duration, Instant};

use kuiper_plugin::abi::kind;

use super::sample::Rows;
use super::subject::Subject;
use super::{Bench, Checked, Stop, failed, function, sink, source};

/// Lives that are compared; before them come a tenth as many, in which what is kept for good is made.
pub const LIVES: usize = 10_000;
/// Bytes that the process may grow by meanwhile, for pages of the allocator come and go; fewer than the smallest block a life.
const LIMIT: u64 = 160 << 10;
/// A connection that takes longer is left out.
const SLOW: Duration = Duration::from_millis(2);

/// Lives of a source, sink or lookup, with what it does in between where that is quick.
pub fn lives(bench: &Bench) -> Checked {
    let begun = Instant::now();
    for _ in 0..20 {
        Subject::create(bench)?.provisioned()?;
    }
    let begun_to_connect = Instant::now();
    let mut connects = true;
    for _ in 0..20 {
        connects &= whole(bench)?;
    }
    let slow = begun_to_connect.elapsed().saturating_sub(begun.elapsed() / 2) > SLOW * 20;
    let note = match (connects, slow) {
        (true, false) => String::new(),
        (true, true) => ", without connecting, which takes long".to_owned(),
        (false, _) => ", without connecting, which fails".to_owned(),
    };
    let grown = flat(|| {
        if connects && !slow {
            return whole(bench).map(drop);
        }
        Subject::create(bench)?.provisioned().map(drop)
    })?;
    Ok(grown + &note)
}

/// A life with a row in it; false where it cannot connect.
fn whole(bench: &Bench) -> Result<bool, Stop> {
    let subject = Subject::create(bench)?.provisioned()?;
    let connected = subject.connect()?.is_ok();
    if connected && bench.symbol.kind == kind::SINK {
        sink::offered(&subject, &Rows::new(&bench.row, 1, |_, _, value| value))?;
    }
    if connected && bench.symbol.kind == kind::SOURCE {
        source::once(&subject)?;
    }
    subject.close()?;
    Ok(connected)
}

/// Calls of a function, each by an instance of its own.
pub fn calls(bench: &Bench) -> Checked {
    flat(|| function::one_life(bench))
}

/// Lives 10,000 times; growth must come to an end.
fn flat(live: impl Fn() -> Result<(), Stop>) -> Checked {
    let repeat = |times: usize| (0..times).try_for_each(|_| live());
    repeat(LIVES / 10)?;
    let mut grown = 0;
    // What was kept once is not kept again.
    for _ in 0..3 {
        let before = resident()?;
        repeat(LIVES)?;
        grown = resident()?.saturating_sub(before);
        if grown <= LIMIT {
            return Ok(format!("{LIVES} lives, {} KiB more", grown >> 10));
        }
    }
    failed(format!(
        "{LIVES} lives take {} KiB that are not given back, {} bytes each",
        grown >> 10,
        grown / LIVES as u64
    ))
}

/// Bytes of memory that the process has.
fn resident() -> Result<u64, Stop> {
    let read = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = read.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    // SAFETY: it only asks.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    match pages {
        Some(pages) => Ok(pages * u64::try_from(page).unwrap_or(4096)),
        None => super::skipped("this system does not say how much memory a process has"),
    }
}
