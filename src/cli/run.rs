//! `kuiper run`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::client::unreadable;
use super::print::{FAILED, USAGE, account, fail, findings, logs, note};
use super::serve::{end, runtime};
use crate::config::{Flags, Settings};
use crate::rule::{Foreground, reader_gone};

/// Run one rule in the foreground, without a server.
///
/// The rows of `SELECT … FROM stdin` are JSON objects, one a line, on standard input. Results are JSON objects, one a
/// line, on standard output; a rule file's own actions are executed instead. At the end of the input the windows that
/// are open are emitted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file with a rule as JSON, or a SELECT.
    #[arg(value_name = "RULE.json|SELECT")]
    rule: String,
    /// A stream or table that the rule reads; may be given several times.
    #[arg(long = "stream", value_name = "CREATE STREAM")]
    streams: Vec<String>,
    /// Settings; without it, config/kuiper.yaml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder whose plugins the rule may use [default: ./data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

pub(super) fn run(args: Args) -> ExitCode {
    let flags = Flags { config: args.config, data: args.data, listen: None, log_level: Some(args.log_level) };
    let (settings, warnings) = match Settings::load(&flags, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(errors) => return findings(&errors),
    };
    // The `log` sink is a result here, so it is heard at any level.
    logs(&settings.log_level, "kuiper::sink=info");
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let text = match text(&args.rule) {
        Ok(text) => text,
        Err(status) => return status,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format!("cannot begin: {error}")),
    };
    let status = runtime.block_on(foreground(&settings, &args.streams, &text));
    // A thread may be waiting for a line that never comes.
    runtime.shutdown_timeout(Duration::from_millis(100));
    status
}

/// The rule that was meant: the content of a file, or the statement itself.
fn text(rule: &str) -> Result<String, ExitCode> {
    if rule.trim().is_empty() {
        return Err(fail(USAGE, "there is nothing to run; give a SELECT, or a file with a rule as JSON"));
    }
    // No statement is a single word.
    let is_file = !rule.contains(char::is_whitespace) || Path::new(rule).exists();
    if !is_file {
        return Ok(rule.to_owned());
    }
    let why = |error| {
        fail(
            USAGE,
            format!("cannot read `{rule}`: {}; give a SELECT, or a file with a rule as JSON", unreadable(&error)),
        )
    };
    std::fs::read_to_string(rule).map_err(why)
}

async fn foreground(settings: &Settings, streams: &[String], text: &str) -> ExitCode {
    let foreground = match Foreground::open(settings, streams, text) {
        Ok(foreground) => foreground,
        Err(why) => return fail(FAILED, why),
    };
    let interrupted = match end() {
        Ok(end) => end,
        Err(error) => return fail(FAILED, format!("cannot wait for signals: {error}")),
    };
    // Who has read enough does not ask what became of the rest.
    let enough_read = AtomicBool::new(false);
    let enough = async {
        tokio::select! {
            _ = interrupted => {}
            () = reader_gone() => enough_read.store(true, Ordering::Relaxed),
        }
    };
    let (ledger, result) = foreground.run(enough).await;
    let lost = ["dropped", "dead"].iter().any(|term| ledger[*term].as_object().is_some_and(|why| !why.is_empty()));
    if (lost || ledger["late"].as_u64() > Some(0)) && !enough_read.into_inner() {
        note(format!("rows: {}", account(&ledger)));
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(FAILED, why),
    }
}
