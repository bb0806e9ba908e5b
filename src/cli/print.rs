//! What is written to the terminal, and how. A reader that went away is no error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::diag::Diagnostic;

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

/// A warning on standard error.
pub(super) fn warn(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "kuiper: warning: {line}");
}

/// All findings on standard error, one a line.
pub(super) fn findings(found: &[Diagnostic]) -> ExitCode {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    fail(USAGE, lines.join("\nkuiper: "))
}

/// What the system says of a failure, as the end of a sentence.
pub(super) fn cause_of(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
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
