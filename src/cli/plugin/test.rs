//! `kuiper plugin test`: what the contract asks of every plugin, tried on a library, without a server.
//!
//! The library is loaded in a process of its own, this binary once more, which tells on standard output how each check
//! went. A check that ends the process, or does not end, has failed; the next process goes on behind it.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::super::client::Failure;
use super::super::print::say;
use super::Which;
use super::project::Project;
use crate::plugin::{Trial, TrialSettings, Verdict};

#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct Test {
    /// The library; the last build of the project where none is given.
    file: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Properties of a source, sink or lookup, as JSON: `{"path": "/tmp/rows"}`.
    #[arg(long, value_name = "JSON", value_parser = object, default_value = "{}")]
    props: Map<String, Json>,
    /// A row that the sink can take, or keys that the lookup can be asked for, as JSON.
    #[arg(long, value_name = "JSON", value_parser = object, default_value = "{}")]
    row: Map<String, Json>,
    /// Only this source, sink, lookup or function of the library.
    #[arg(long, value_name = "NAME")]
    symbol: Option<String>,
    /// Only checks whose name has this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Seconds that a check may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,
    /// Run the checks from this one on, for the process that started this one.
    #[arg(long, hide = true)]
    from: Option<usize>,
}

fn object(text: &str) -> Result<Map<String, Json>, String> {
    match serde_json::from_str(text) {
        Ok(Json::Object(members)) => Ok(members),
        Ok(_) => Err("expected an object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// In front of what a process of checks tells; what the plugin itself prints does not have it.
const MARK: &str = "\u{1}kuiper\u{1}";

pub(super) fn run(args: &Test) -> Result<(), Failure> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => Project::find(&args.which)?.last_build().map(|(file, _)| file).ok_or_else(|| {
            Failure::Usage(
                "there is no build to test; make one with `kuiper plugin build`, or name a library".to_owned(),
            )
        })?,
    };
    match args.from {
        Some(from) => {
            tell(&file, args, from);
            Ok(())
        }
        None => judge(&file, args),
    }
}

/// Runs checks, and tells how they went.
fn tell(file: &Path, args: &Test, from: usize) {
    let settings = TrialSettings { symbol: args.symbol.clone(), props: args.props.clone(), row: args.row.clone() };
    let mark = |parts: &[&str]| {
        let mut out = std::io::stdout().lock();
        // Where nobody reads any more, nobody has to be told.
        let _ = writeln!(out, "\n{MARK}{}", parts.join("\u{1}").replace('\n', " "));
        let _ = out.flush();
    };
    let trial = match Trial::open(file, &settings) {
        Ok(trial) => trial,
        Err(wrong) => return mark(&["refused", &wrong]),
    };
    let names: Vec<&str> = trial.names().collect();
    mark(&["all", &names.join("\u{2}")]);
    let wanted = |place: &usize| args.only.as_deref().is_none_or(|text| names[*place].contains(text));
    for place in (from..names.len()).filter(wanted) {
        mark(&["begin", &place.to_string()]);
        let (word, text) = match trial.run(place) {
            Verdict::Passed(note) => ("passed", note),
            Verdict::Failed(why) => ("failed", why),
            Verdict::Skipped(why) => ("skipped", why),
        };
        mark(&["end", word, &text]);
    }
    mark(&["done"]);
}

/// What a process of checks told.
enum Told {
    All(Vec<String>),
    Refused(String),
    Begin(usize),
    End(String, String),
    Done,
}

fn read(line: &str) -> Option<Told> {
    let parts: Vec<&str> = line.strip_prefix(MARK)?.split('\u{1}').collect();
    Some(match parts[..] {
        ["all", names] => Told::All(names.split('\u{2}').map(str::to_owned).collect()),
        ["refused", why] => Told::Refused(why.to_owned()),
        ["begin", place] => Told::Begin(place.parse().ok()?),
        ["end", word, text] => Told::End(word.to_owned(), text.to_owned()),
        ["done"] => Told::Done,
        _ => return None,
    })
}

#[derive(Default)]
struct Score {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Score {
    fn note(&mut self, word: &str, name: &str, text: &str) {
        let count = match word {
            "passed" => &mut self.passed,
            "skipped" => &mut self.skipped,
            _ => &mut self.failed,
        };
        *count += 1;
        let word = if word == "passed" { "ok" } else { word };
        let text = if text.is_empty() { String::new() } else { format!(" ({text})") };
        say(format!("{word:7} {name}{text}"));
    }
}

/// Starts processes of checks until all are through, and adds up.
fn judge(file: &Path, args: &Test) -> Result<(), Failure> {
    let mut score = Score::default();
    let mut from = 0;
    let mut names: Vec<String> = Vec::new();
    loop {
        let mut process = Process::start(file, args, from)?;
        let mut running = None;
        let ended = loop {
            match process.told.recv_timeout(Duration::from_secs(args.limit)) {
                Ok(Told::All(all)) => names = all,
                Ok(Told::Refused(why)) => {
                    return Err(Failure::Refused(format!("`{}` cannot be tested: {why}", file.display())));
                }
                Ok(Told::Begin(place)) => running = Some(place),
                Ok(Told::End(word, text)) => {
                    let place = running.take().unwrap_or(from);
                    score.note(&word, names.get(place).map_or("", String::as_str), &text);
                    from = place + 1;
                }
                Ok(Told::Done) => break None,
                Err(RecvTimeoutError::Timeout) => break Some(format!("it has not ended after {} s", args.limit)),
                Err(RecvTimeoutError::Disconnected) => break Some(process.ended()),
            }
        };
        let Some(how) = ended else { break };
        match running {
            Some(place) => {
                score.note("failed", names.get(place).map_or("", String::as_str), &how);
                from = place + 1;
            }
            None if names.is_empty() => {
                score.note("failed", "is loaded", &how);
                break;
            }
            None => {
                score.note("failed", "goes on after its checks", &how);
                break;
            }
        }
        if from >= names.len() {
            break;
        }
    }
    if let (Some(text), 0) = (&args.only, score.passed + score.failed + score.skipped) {
        return Err(Failure::Usage(format!("no check has `{text}` in its name")));
    }
    say(format!("{} passed, {} failed, {} skipped", score.passed, score.failed, score.skipped));
    if score.failed == 0 {
        Ok(())
    } else {
        Err(Failure::Refused("not all that the contract asks for holds".to_owned()))
    }
}

/// A process of checks; it is ended with the value.
struct Process {
    child: Child,
    told: Receiver<Told>,
}

impl Process {
    fn start(file: &Path, args: &Test, from: usize) -> Result<Process, Failure> {
        let cannot = |error: &std::io::Error| {
            Failure::Refused(format!("cannot start a process for the checks: {}", crate::diag::words(error)))
        };
        let mut command = Command::new(env::current_exe().map_err(|error| cannot(&error))?);
        command.args([
            "plugin",
            "test",
            "--from",
            &from.to_string(),
            "--props",
            &Json::Object(args.props.clone()).to_string(),
        ]);
        command.args(["--row", &Json::Object(args.row.clone()).to_string()]);
        for (option, given) in [("--symbol", &args.symbol), ("--only", &args.only)] {
            command.args(given.iter().flat_map(|given| [option, given]));
        }
        let mut child = command
            .arg("--")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| cannot(&error))?;
        let (tell, told) = channel();
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    match read(&line) {
                        // Whoever listened has seen enough.
                        Some(one) => drop(tell.send(one)),
                        None if line.is_empty() => {}
                        // The plugin's own words.
                        None => drop(writeln!(std::io::stderr().lock(), "{line}")),
                    }
                }
            });
        }
        Ok(Process { child, told })
    }

    fn ended(&mut self) -> String {
        self.child.wait().map_or_else(|error| crate::diag::words(&error).to_string(), words)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended.
fn words(status: ExitStatus) -> String {
    match status.signal() {
        Some(libc::SIGSEGV) => "it ended the process: segmentation fault".to_owned(),
        Some(libc::SIGABRT) => "it ended the process: abort".to_owned(),
        Some(libc::SIGFPE) => "it ended the process: division by zero, or its like".to_owned(),
        Some(signal) => format!("it ended the process: signal {signal}"),
        None => format!("it ended the process: exit {}", status.code().unwrap_or_default()),
    }
}
