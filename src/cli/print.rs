//! What is written to the terminal, and how. A reader that went away is no error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde_json::Value as Json;
use tracing_subscriber::EnvFilter;

use crate::diag::Diagnostic;

pub(super) use crate::diag::words as cause_of;

/// Refused, or failed.
pub(super) const FAILED: u8 = 1;
/// Wrong usage, a server out of reach, a server that cannot begin.
pub(super) const USAGE: u8 = 2;

/// A line on standard output.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A line on standard error, and the exit status that goes with it.
pub(super) fn fail(status: u8, line: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "kuiper: {line}");
    ExitCode::from(status)
}

/// A remark on standard error.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "kuiper: {line}");
}

/// A warning on standard error.
pub(super) fn warn(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "kuiper: warning: {line}");
}

/// A finding with its lines, on standard error.
pub(super) fn find(rendered: &str) {
    let _ = writeln!(io::stderr().lock(), "{rendered}");
}

/// All findings on standard error, one a line.
pub(super) fn findings(found: &[Diagnostic]) -> ExitCode {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    fail(USAGE, lines.join("\nkuiper: "))
}

/// An account on one line: the first term, then all others that are not zero, reasons in brackets.
pub(super) fn account(sums: &Json) -> String {
    let mut parts = Vec::new();
    for (index, (term, value)) in sums.as_object().into_iter().flatten().enumerate() {
        match value {
            Json::Object(reasons) => {
                let total: u64 = reasons.values().filter_map(Json::as_u64).sum();
                if total > 0 {
                    let reasons: Vec<String> = reasons.iter().map(|(why, rows)| format!("{rows} {why}")).collect();
                    parts.push(format!("{total} {term} ({})", reasons.join(", ")));
                }
            }
            value if index == 0 || value.as_i64() != Some(0) => parts.push(format!("{value} {term}")),
            _ => {}
        }
    }
    match parts.split_first() {
        Some((first, [])) => first.clone(),
        Some((first, rest)) => format!("{first} = {}", rest.join(" + ")),
        None => String::new(),
    }
}

/// Columns side by side, the head in capitals, as wide as the widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        say(out.trim_end());
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Sends logs to standard error. `extra` is a filter beside the level, as `kuiper::sink=info`.
pub(super) fn logs(level: &str, extra: &str) {
    // Other crates speak up when something is wrong, and otherwise when asked to trace.
    let others = if level == "trace" { "debug" } else { "warn" };
    let filter = format!("{others},kuiper={level},{extra}");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // Set once in a process; a second wish changes nothing.
    let _ = subscriber.try_init();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_reads_as_a_sum() {
        let ledger =
            json!({"in": 9, "out": 4, "filtered": 3, "held": 0, "late": 0, "dropped": {}, "dead": {"decode": 2}});
        assert_eq!(account(&ledger), "9 in = 4 out + 3 filtered + 2 dead (2 decode)");
        assert_eq!(account(&json!({"in": 0, "out": 0, "dropped": {}})), "0 in");
    }
}
