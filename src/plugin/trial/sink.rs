//! What a sink does with rows, or with messages that the engine has encoded.

use kuiper_plugin::abi;
use kuiper_plugin::abi::{code, kind};
use kuiper_plugin::has;

use crate::data::Value;

use super::sample::{MANY, Rows, kinds};
use super::subject::{Subject, called};
use super::{Bench, Check, Checked, Stop, failed, skipped};

pub const CHECKS: &[(&str, Check)] = &[
    ("takes rows", takes),
    ("rows that belong together", lists),
    ("nulls", nulls),
    ("values of every kind", every_kind),
    ("columns that rows lack", lacking),
    ("big batches", big),
];

/// How rows fared.
#[derive(Default)]
struct Fared {
    taken: usize,
    refused: usize,
    /// Why the last one was.
    why: String,
}

impl Fared {
    fn note(&self) -> String {
        if self.refused == 0 {
            String::new()
        } else {
            format!("{} of {} refused: {}", self.refused, self.taken + self.refused, self.why)
        }
    }
}

fn with(bench: &Bench, each: impl FnOnce(&Subject<'_>) -> Checked) -> Checked {
    let subject = Subject::create(bench)?.connected()?;
    let note = each(&subject)?;
    subject.close()?.ok("close")?;
    subject.done()?;
    Ok(note)
}

/// Hands over rows in one call, in whichever form the sink takes.
pub fn offered(subject: &Subject<'_>, rows: &Rows) -> Result<(), Stop> {
    one_call(subject, rows, 0).map(drop)
}

/// One call: its code, how many were taken before the one that failed, and why.
fn one_call(subject: &Subject<'_>, rows: &Rows, from: usize) -> Result<(u32, usize, String), Stop> {
    let table = subject.bench.symbol.table.cast::<abi::Sink>();
    let left = rows.height() - from;
    let mut done = 0;
    let said = if subject.bench.symbol.flags & kind::TAKES_BYTES != 0 {
        // SAFETY: the symbol is a sink.
        let Some(collect) = (unsafe { has!(table, collect_bytes) }) else { return failed("it has no `collect_bytes`") };
        let texts: Vec<Vec<u8>> = rows.cells[from..].iter().map(|row| payload(row)).collect();
        let payloads: Vec<abi::Str> = texts.iter().map(|text| abi::Str::bytes(text)).collect();
        let messages = abi::Messages {
            size: std::mem::size_of::<abi::Messages>() as u32,
            flags: 0,
            count: payloads.len(),
            payloads: payloads.as_ptr(),
            times: std::ptr::null(),
            metas: std::ptr::null(),
            properties: std::ptr::null(),
        };
        // SAFETY: the instance is of this table; the pointers live until the call returns.
        called("collect_bytes", &subject.desk, |fault| unsafe {
            collect(subject.this, subject.desk.raw(), &messages, &mut done, fault)
        })?
    } else {
        // SAFETY: the symbol is a sink.
        let Some(collect) = (unsafe { has!(table, collect) }) else { return failed("it has no `collect`") };
        rows.lend(from, |batch| {
            // SAFETY: as above.
            called("collect", &subject.desk, |fault| unsafe {
                collect(subject.this, subject.desk.raw(), batch, &mut done, fault)
            })
        })?
    };
    if done > left {
        return failed(format!("it says that it took {done} of {left} rows"));
    }
    if !said.is_ok() && done == left {
        return failed(format!("it fails with `{}`, and says that it took all {left} rows", said.text));
    }
    Ok((said.code, if said.is_ok() { left } else { done }, said.text))
}

/// A row as the engine might encode it.
fn payload(row: &[Value]) -> Vec<u8> {
    let longest = row.iter().find_map(|value| match value {
        Value::Text(text) => Some(text.to_string()),
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    longest.unwrap_or_else(|| "{}".to_owned()).into_bytes()
}

/// Hands over rows as the engine does: what is refused is left out, and the rest comes again.
fn delivered(subject: &Subject<'_>, rows: &Rows) -> Result<Fared, Stop> {
    let mut fared = Fared::default();
    let mut from = 0;
    while from < rows.height() {
        let (code, taken, why) = one_call(subject, rows, from)?;
        fared.taken += taken;
        from += taken;
        match code {
            code::OK => {}
            code::NEVER => {
                from += 1;
                fared.refused += 1;
                fared.why = why;
            }
            _ => return skipped(format!("its outside is away: {why}")),
        }
    }
    Ok(fared)
}

fn needs_a_row<T>(why: &str) -> Result<T, Stop> {
    skipped(format!("it takes no row like those made up here, give one with --row: {why}"))
}

fn takes(bench: &Bench) -> Checked {
    with(bench, |subject| {
        for height in [1, 3] {
            let fared = delivered(subject, &Rows::new(&bench.row, height, |_, _, value| value))?;
            if fared.taken == 0 {
                return needs_a_row(&fared.why);
            }
        }
        Ok(String::new())
    })
}

fn lists(bench: &Bench) -> Checked {
    if bench.symbol.flags & kind::TAKES_BYTES != 0 {
        return skipped("it takes messages, in which rows are together already");
    }
    with(bench, |subject| {
        let rows = Rows::new(&bench.row, 3, |_, _, value| value);
        let table = bench.symbol.table.cast::<abi::Sink>();
        // SAFETY: the symbol is a sink.
        let Some(collect) = (unsafe { has!(table, collect_list) }) else { return failed("it has no `collect_list`") };
        let said = rows.lend(0, |batch| {
            // SAFETY: the instance is of this table; the pointers live until the call returns.
            called("collect_list", &subject.desk, |fault| unsafe {
                collect(subject.this, subject.desk.raw(), batch, fault)
            })
        })?;
        if let Some(row) = said.refused.iter().find(|row| **row >= rows.height()) {
            return failed(format!("it refuses row {row} of {}", rows.height()));
        }
        match said.code {
            code::OK if said.refused.len() < rows.height() => Ok(String::new()),
            code::OK | code::NEVER => needs_a_row(&said.text),
            _ => skipped(format!("its outside is away: {}", said.text)),
        }
    })
}

fn nulls(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let rows = Rows::new(&bench.row, 2, |_, _, _| Value::Null);
        delivered(subject, &rows).map(|fared| fared.note())
    })
}

fn every_kind(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let all = kinds();
        let rows = Rows::new(&bench.row, all.len(), |n, _, _| all[n].1.clone());
        delivered(subject, &rows).map(|fared| fared.note())
    })
}

fn lacking(bench: &Bench) -> Checked {
    with(bench, |subject| {
        // Each row lacks another column, and the last one all.
        let rows = Rows::new(&bench.row, 5, |n, name, value| match (n + name.len()) % 3 == 0 || n == 4 {
            true => Value::Absent,
            false => value,
        });
        delivered(subject, &rows).map(|fared| fared.note())
    })
}

fn big(bench: &Bench) -> Checked {
    with(bench, |subject| {
        let rows = Rows::new(&bench.row, MANY, |_, _, value| value);
        let fared = delivered(subject, &rows)?;
        Ok(if fared.refused == 0 { format!("{MANY} rows") } else { fared.note() })
    })
}
