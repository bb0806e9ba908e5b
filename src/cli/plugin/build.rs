//! `kuiper plugin build`: cargo, with a bar.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::Value as Json;

use super::super::client::Failure;
use super::super::print::say;
use super::cross::Cross;
use super::project::{Project, cargo, metadata, no_cargo};
use super::{Build, cannot, make};
use crate::plugin::{check_library, check_version, library_name};

/// Builds, and returns where the library is.
pub(super) fn run(project: &Project, args: &Build) -> Result<PathBuf, Failure> {
    if project.makes {
        return make::run(project, args);
    }
    let version = match &args.version {
        Some(version) => checked_version(version)?,
        None => project.version.clone(),
    };
    let bar = ProgressBar::new_spinner().with_message(format!("{}: looking at its dependencies", project.package));
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let total = units(project, args.target.as_deref())?;
    bar.finish_and_clear();
    let cross = match args.target.as_deref().filter(|target| *target != host()) {
        Some(target) => Some(Cross::new(target)?),
        None => None,
    };
    let built = compile(project, args, total, cross.as_ref())?;

    let place = match &args.target {
        Some(target) if *target != host() => project.folder.join("bin").join(target),
        _ => project.folder.clone(),
    };
    let folder = args.out.clone().unwrap_or(place);
    let library = folder.join(library_name(&project.name, &version));
    let bytes = fs::read(&built).map_err(|error| cannot("read", &built, &error))?;
    judged(&bytes, &built, args.target.as_deref())?;
    // An engine may have the old file mapped, so it is replaced, not written to.
    let beside = library.with_extension("part");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&beside, &bytes));
    written.and_then(|()| fs::rename(&beside, &library)).map_err(|error| cannot("write", &library, &error))?;
    say(format!("built {} ({})", shown(&library), HumanBytes(bytes.len() as u64)));
    Ok(library)
}

/// Whether what was built is a plugin, for this machine or for the target.
pub(super) fn judged(bytes: &[u8], path: &std::path::Path, target: Option<&str>) -> Result<(), Failure> {
    check_library(bytes, path, target).map_err(|wrong| Failure::Refused(format!("the library was built, but {wrong}")))
}

/// A path as the user would write it.
pub(super) fn shown(path: &std::path::Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

pub(super) fn checked_version(version: &str) -> Result<String, Failure> {
    let checked = check_version(version).map_err(Failure::Usage)?;
    match checked.starts_with(|first: char| first.is_ascii_digit()) {
        true => Ok(checked.to_owned()),
        false => Err(Failure::Usage(format!("`{version}` is no version; write it as `1.0.0`"))),
    }
}

/// How many things cargo will report as compiled: libraries and build scripts of all crates that take part.
fn units(project: &Project, target: Option<&str>) -> Result<u64, Failure> {
    let platform = match target {
        Some(target) => target.to_owned(),
        None => host(),
    };
    let options: &[&str] = if platform.is_empty() { &[] } else { &["--filter-platform", &platform] };
    let told = metadata(&project.manifest(), options)?;
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let packages = list(&told["packages"]);
    let nodes = list(&told["resolve"]["nodes"]);
    let own = packages.iter().find(|package| package["name"] == project.package.as_str());
    let mut open: Vec<Json> = own.map(|package| package["id"].clone()).into_iter().collect();
    let mut seen: HashSet<String> = HashSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id.to_string()) {
            continue;
        }
        for dependency in nodes.iter().filter(|node| node["id"] == id).flat_map(|node| list(&node["deps"])) {
            // What only tests need takes no part.
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                open.push(dependency["pkg"].clone());
            }
        }
    }
    let counted = |target: &Json| {
        let kinds = list(&target["kind"]);
        kinds
            .iter()
            .any(|kind| ["lib", "rlib", "cdylib", "proc-macro", "custom-build"].iter().any(|known| kind == known))
    };
    let of = |package: &Json| list(&package["targets"]).iter().filter(|target| counted(target)).count();
    Ok(packages.iter().filter(|package| seen.contains(&package["id"].to_string())).map(of).sum::<usize>() as u64)
}

/// The machine that cargo compiles for by itself; empty where rustc does not say.
pub(super) fn host() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = std::process::Command::new(rustc).arg("-vV").output().map(|done| done.stdout).unwrap_or_default();
    let told = String::from_utf8_lossy(&told).into_owned();
    told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned()
}

/// Runs cargo, and returns the library that it made.
fn compile(project: &Project, args: &Build, total: u64, cross: Option<&Cross>) -> Result<PathBuf, Failure> {
    let mut command = cargo();
    command.args(["build", "--lib", "--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(project.manifest());
    if !args.debug {
        command.arg("--release");
    }
    if let Some(target) = &args.target {
        command.args(["--target", target]);
    }
    if let Some(cross) = cross {
        command.envs(cross.variables.iter().cloned());
    }
    let colour = if std::io::stderr().is_terminal() { "always" } else { "never" };
    command.env("CARGO_TERM_COLOR", colour).env("CARGO_TERM_PROGRESS_WHEN", "never");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| no_cargo(&error))?;
    let bar = ProgressBar::new(total).with_style(style("{bar:30} {pos}/{len} {wide_msg}"));
    let words = child.stderr.take().map(|stderr| {
        let bar = bar.clone();
        thread::spawn(move || pass_on(stderr, &bar))
    });
    let mut library = None;
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok)
    {
        let Ok(message) = serde_json::from_str::<Json>(&line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        bar.set_length(bar.length().unwrap_or(0).max(bar.position() + 1));
        bar.inc(1);
        let own = message["manifest_path"].as_str().is_some_and(|path| same(path, &project.manifest()));
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Json::as_str);
        if let (true, Some(file)) = (own, files.map(PathBuf::from).find(|file| is_library(file))) {
            library = Some(file);
        }
    }
    if let Some(words) = words {
        // It ends with cargo's standard error.
        let _ = words.join();
    }
    let ended = child.wait().map_err(|error| no_cargo(&error))?;
    bar.finish_and_clear();
    if !ended.success() {
        let hint = cross.map(Cross::hint).unwrap_or_default();
        return Err(Failure::Refused(format!("cargo could not build `{}`{hint}", project.package)));
    }
    let missing = || {
        let text = format!(
            "`{}` makes no shared library; its Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]`",
            project.package
        );
        Failure::Refused(text)
    };
    library.ok_or_else(missing)
}

pub(super) fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read would be a slip of ours, and a plain bar is still one.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn same(one: &str, two: &std::path::Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(two)), (Ok(one), Ok(two)) if one == two)
}

fn is_library(file: &std::path::Path) -> bool {
    file.extension().is_some_and(|extension| extension == "so" || extension == "dylib")
}

/// What cargo does becomes the text of the bar; what the compiler says goes on to the user.
fn pass_on(stderr: impl Read, bar: &ProgressBar) {
    const STEPS: &[&str] =
        &["Adding", "Blocking", "Compiling", "Downloaded", "Downloading", "Finished", "Fresh", "Locking", "Updating"];
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let plain = plain(&line);
        let mut words = plain.split_whitespace();
        match words.next() {
            Some(step) if STEPS.contains(&step) => bar.set_message(words.next().unwrap_or_default().to_owned()),
            _ => bar.suspend(|| {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }),
        }
    }
}

/// The text without its colours.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => drop(letters.find(char::is_ascii_alphabetic)),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (given, version) in [("1.0.0", "1.0.0"), ("v2.1.0-rc1", "2.1.0-rc1")] {
            assert_eq!(checked_version(given).ok().unwrap(), version);
        }
        for wrong in ["", "v", "../1", "one", "1 0", "1..0", "1\n"] {
            assert!(checked_version(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(plain("\u{1b}[1m\u{1b}[92m   Compiling\u{1b}[0m serde v1"), "   Compiling serde v1");
    }
}
