//! The command line: one file a command, and the only place that prints.
//!
//! `serve`, `run`, `fmt`, `lint`, `doc`, `rule test`, and `queue` with `--data`, work in this process; all others are clients of a server's REST interface. The exit status
//! is 0 when what was asked is done, 1 when it was refused or failed, 2 when the command line is wrong, the server out
//! of reach, or the server cannot begin. Results go to standard output, all else to standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod demo;
mod doc;
mod fmt;
mod known;
mod lint;
mod plugin;
mod print;
mod queue;
mod rule;
mod run;
mod serve;
mod stream;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::plugin::abi_version;

/// A SQL stream processor for the edge in one binary.
#[derive(Debug, Parser)]
#[command(name = "kuiper", version = version(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Run(run::Args),
    /// Streams: what rules read from.
    #[command(subcommand)]
    Stream(stream::Command),
    /// Tables: what rules look things up in.
    #[command(subcommand)]
    Table(stream::Command),
    /// Rules: what is computed, and where the results go.
    #[command(subcommand)]
    Rule(rule::Command),
    /// Disk queues: what sinks could not take yet.
    #[command(subcommand)]
    Queue(queue::Command),
    Fmt(fmt::Args),
    Lint(lint::Args),
    /// What there is to use, as it stands in the program.
    #[command(subcommand)]
    Doc(doc::Command),
    /// Plugins: sources, sinks and functions of your own.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// The process of a plugin; the server starts it.
    #[command(hide = true)]
    PluginHost {
        /// Of the plugin, for lists of processes.
        name: String,
    },
}

/// `0.1.0 (plugin ABI 1.0)`. Leaked, for the parser wants it to live as long as the program.
fn version() -> &'static str {
    Box::leak(format!("{} (plugin ABI {})", env!("CARGO_PKG_VERSION"), abi_version()).into_boxed_str())
}

/// Follows the command line.
pub fn main() -> ExitCode {
    // One provider for all that speaks TLS. It can only be there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Run(args) => run::run(args),
        Command::Stream(command) => stream::run("stream", command),
        Command::Table(command) => stream::run("table", command),
        Command::Rule(command) => rule::run(command),
        Command::Queue(command) => queue::run(command),
        Command::Fmt(args) => fmt::run(args),
        Command::Lint(args) => lint::run(args),
        Command::Doc(command) => doc::run(command),
        Command::Plugin(command) => plugin::run(command),
        Command::PluginHost { .. } => match crate::plugin::host() {
            Ok(()) => ExitCode::SUCCESS,
            Err(wrong) => print::fail(print::USAGE, wrong),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
