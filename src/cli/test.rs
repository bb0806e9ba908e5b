//! `kuiper rule test`: runs case files, without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use super::print::{FAILED, USAGE, fail, say};
use crate::case;

/// Run case files: rules on a virtual clock, with what must come out of them.
///
/// Folders are walked for `*.yaml`, `accept.txt` and `reject.txt`. The exit status is 0 when all passed, 1 when some
/// failed, 2 when they could not be run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files and folders.
    #[arg(required = true, value_name = "FILE|FOLDER")]
    paths: Vec<PathBuf>,
    /// Only cases with this tag; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only cases whose name fits this pattern (`*` and `?`); may be given several times.
    #[arg(long = "name", value_name = "GLOB")]
    names: Vec<String>,
    /// Compare the counters of the rule's status too.
    #[arg(long)]
    metrics: bool,
    /// Compare the rule's topology too.
    #[arg(long)]
    topo: bool,
    /// Compare the texts of errors.
    #[arg(long)]
    error_text: bool,
    /// `typed`: an integer and a float differ.
    #[arg(long, value_enum, value_name = "HOW")]
    numbers: Option<Numbers>,
    /// Run the cases that are marked as a defect, too.
    #[arg(long)]
    defects: bool,
    /// Write a report as JSON.
    #[arg(long, value_name = "REPORT")]
    json: Option<PathBuf>,
    /// Write the output that was got into the files, for review.
    #[arg(long)]
    update: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Numbers {
    Value,
    Typed,
}

/// Runs the cases and prints the report.
pub(super) fn run(args: Args) -> ExitCode {
    let settings = case::Settings {
        crashes: false,
        tags: args.tags,
        names: args.names,
        metrics: args.metrics,
        topo: args.topo,
        error_text: args.error_text,
        typed_numbers: args.numbers == Some(Numbers::Typed),
        defects: args.defects,
        update: args.update,
    };
    let report = match case::run(&args.paths, &settings) {
        Ok(report) => report,
        Err(why) => return fail(USAGE, why),
    };
    if let Some(path) = args.json
        && let Err(error) = std::fs::write(&path, format!("{:#}\n", report.json()))
    {
        return fail(USAGE, format!("cannot write `{}`: {}", path.display(), crate::diag::words(&error)));
    }
    say(&report);
    if report.failed() > 0 { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}
