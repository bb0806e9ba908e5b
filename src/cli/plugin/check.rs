//! `kuiper plugin check`: what a server would say to a library or zip, and the plugin's own examples.
//!
//! The file is read first; only what a server would load is loaded, in a process of its own, this binary once more: what
//! ends that process is told, and ends nothing else.

use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::super::client::Failure;
use super::super::print::say;
use super::build::shown;
use super::cannot;
use crate::case::example;
use crate::func::Catalogue;
use crate::plugin::{Probe, PublicKey, Signed, Tried, check_library, is_zip, read_regular, unpack_zip, whole_path};

/// How often it is looked whether the process has ended.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Check {
    /// A library, or a zip.
    file: PathBuf,
    /// Judge it for another machine, as `aarch64-unknown-linux-gnu`; then nothing of it is loaded.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// A public key that must have signed the zip: the line, or its file.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Seconds that loading and the examples may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    limit: u64,
    /// Load it here, for the process that started this one.
    #[arg(long, hide = true)]
    inside: bool,
}

pub(super) fn run(args: &Check) -> Result<(), Failure> {
    if args.inside {
        return inside(&args.file);
    }
    let unread = |wrong| Failure::Usage(format!("cannot read `{}`: {wrong}", args.file.display()));
    let file = whole_path(&args.file).map_err(unread)?;
    let bytes = read_regular(&file).map_err(unread)?;
    let keys = args.key.iter().map(|key| public(key)).collect::<Result<Vec<_>, _>>()?;
    if !is_zip(&bytes) {
        if !keys.is_empty() {
            return Err(Failure::Usage("only a zip is signed; leave `--key` out".to_owned()));
        }
        return library(&file, &bytes, args, |wrong| format!("`{}`: {wrong}", name_of(&file)));
    }
    let folder = env::temp_dir().join(format!("kuiper-check-{}", std::process::id()));
    let checked = unpack_zip(&file, args.target.as_deref(), &keys, &folder)
        .map_err(|wrong| refused(&args.file, wrong))
        .and_then(|unpacked| {
            let zip = shown(&args.file);
            say(match &unpacked.signed {
                Signed::By(key) => format!("{zip} is signed by the key {key}, and the signature was verified"),
                Signed::Unverified(key) => {
                    format!("{zip} says that it is signed by the key {key}; not verified, for no `--key` was given")
                }
                Signed::Not => format!("{zip} is not signed"),
            });
            let path = &unpacked.library;
            let bytes = fs::read(path).map_err(|error| cannot("read", path, &error))?;
            library(path, &bytes, args, |wrong| unpacked.refused(wrong))
        });
    // What is left of it harms nobody.
    let _ = fs::remove_dir_all(&folder);
    checked
}

/// A key as it is written, or the file that holds it.
fn public(key: &str) -> Result<PublicKey, Failure> {
    let text = match Path::new(key).is_file() {
        true => fs::read_to_string(key).map_err(|error| cannot("read", Path::new(key), &error))?,
        false => key.to_owned(),
    };
    PublicKey::read(&text).map_err(Failure::Usage)
}

fn refused(file: &Path, wrong: String) -> Failure {
    Failure::Refused(format!("{}: {wrong}", shown(file)))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Judges a library; `told` says of which file a sentence is, where it cannot be loaded.
fn library(path: &Path, bytes: &[u8], args: &Check, told: impl Fn(String) -> String) -> Result<(), Failure> {
    let name = name_of(path);
    let wrong = |wrong: String| Failure::Refused(format!("`{name}`: {wrong}"));
    check_library(bytes, path, args.target.as_deref()).map_err(|wrong| Failure::Refused(told(wrong)))?;
    if let Some(target) = &args.target {
        say(format!("`{name}` can be loaded on {target}"));
        return Ok(());
    }
    let own = env::current_exe().map_err(|error| cannot("find", Path::new("kuiper"), &error))?;
    let mut child = Command::new(own)
        .args(["plugin", "check", "--inside"])
        .arg(path)
        .spawn()
        .map_err(|error| cannot("load", path, &error))?;
    let mut looks = args.limit.saturating_mul(1000 / LOOK.as_millis() as u64);
    let ended = loop {
        match child.try_wait().map_err(|error| cannot("load", path, &error))? {
            Some(ended) => break ended,
            None if looks == 0 => {
                // It ended by itself just now, or is waited for below.
                let _ = child.kill();
                let _ = child.wait();
                return Err(wrong(format!("loading it and its examples did not end within {} s", args.limit)));
            }
            None => {
                looks -= 1;
                std::thread::sleep(LOOK);
            }
        }
    };
    match ended.code() {
        Some(0) => {
            say(format!("`{name}` can be loaded here"));
            Ok(())
        }
        // What is wrong was said.
        Some(1) => Err(wrong("not all of it holds".to_owned())),
        _ => Err(wrong(format!("loading it, or one of its examples, {}", how(ended)))),
    }
}

/// How a process ended that did not end by itself.
fn how(ended: ExitStatus) -> String {
    const SIGNALS: &[(i32, &str)] = &[
        (4, "an illegal instruction (SIGILL)"),
        (6, "an abort (SIGABRT)"),
        (7, "a bad access to memory (SIGBUS)"),
        (8, "a wrong calculation (SIGFPE)"),
        (9, "a kill (SIGKILL)"),
        (11, "a bad access to memory (SIGSEGV)"),
    ];
    match (ended.signal(), ended.code()) {
        (Some(signal), _) => {
            let known = SIGNALS.iter().find(|(number, _)| *number == signal);
            let what = known.map_or_else(|| format!("signal {signal}"), |(_, what)| (*what).to_owned());
            format!("ended the process by {what}")
        }
        (None, code) => format!("ended the process with status {}", code.unwrap_or_default()),
    }
}

/// Loads the library and tries what it offers; each finding is a line.
fn inside(path: &Path) -> Result<(), Failure> {
    let probe = Probe::open(path).map_err(|wrong| refused(path, wrong))?;
    let bytes = read_regular(path).map_err(|wrong| refused(path, wrong))?;
    let mut wrong = Vec::new();
    wrong.extend(probe.named(path).err());
    wrong.extend(probe.listed(&bytes).err());
    for symbol in probe.symbols() {
        let name = format!("{} {}{}", symbol.what, symbol.name, symbol.signature);
        match symbol.what {
            "function" => {}
            what => match probe.provision(&symbol.name, what) {
                Tried::Provisioned => say(format!("{name}: takes its default properties")),
                Tried::Needs(names) => say(format!("{name}: needs {}", names.join(", "))),
                Tried::Failed(why) => wrong.push(format!("{name} does not take its default properties: {why}")),
            },
        }
    }
    let mut all = Catalogue::default();
    probe.functions().into_iter().for_each(|func| all.add(func));
    for func in probe.functions() {
        let failed: Vec<String> =
            func.examples.iter().filter_map(|(call, result)| example(call, result, &all).err()).collect();
        let name = format!("function {}{}", func.name, func.signature);
        match (func.examples.len(), failed.is_empty()) {
            (0, _) => say(format!("{name}: has no examples")),
            (1, true) => say(format!("{name}: its example holds")),
            (count, true) => say(format!("{name}: its {count} examples hold")),
            _ => wrong.extend(failed.into_iter().map(|why| format!("{name}: {why}"))),
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Refused(wrong.join("\n"))),
    }
}
