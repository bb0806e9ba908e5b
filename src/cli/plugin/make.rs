//! Projects in C: a Makefile that says what it makes, and `make`.
//!
//! Kind, name and version stand in the variables `KIND`, `NAME` and `VERSION` of the Makefile; `make OUT=folder VERSION=1.1.0` puts
//! the library into the folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::HumanBytes;

use super::super::client::Failure;
use super::super::print::say;
use super::build::{checked_version, shown};
use super::project::Project;
use super::{Build, cannot};
use crate::plugin::{Kind, check_name, library_name};

/// The project in this folder; `None` where its Makefile is none of a plugin.
pub(super) fn read(folder: &Path) -> Result<Option<Project>, Failure> {
    let makefile = folder.join("Makefile");
    let Ok(text) = fs::read_to_string(&makefile) else { return Ok(None) };
    let variable = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let mut found = lines.filter(|(before, _)| before.trim_end_matches([':', '?']).trim() == name);
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let (Some(kind), Some(name)) = (variable("KIND").and_then(|kind| Kind::read(&kind)), variable("NAME")) else {
        return Ok(None);
    };
    check_name(&name).map_err(|refused| Failure::Refused(refused.to_string()))?;
    let version = variable("VERSION").ok_or_else(|| {
        Failure::Refused(format!("`{}` has no `VERSION`; write it as `VERSION = 1.0.0`", makefile.display()))
    })?;
    Ok(Some(Project { folder: folder.to_path_buf(), kind, package: name.clone(), name, version, makes: true }))
}

/// Builds, and returns where the library is.
pub(super) fn run(project: &Project, args: &Build) -> Result<PathBuf, Failure> {
    let version = checked_version(args.version.as_deref().unwrap_or(&project.version))?;
    let folder = match (&args.out, &args.target) {
        (Some(out), _) => env::current_dir().map_err(|error| cannot("use", Path::new("."), &error))?.join(out),
        (None, Some(target)) => project.folder.join("bin").join(target),
        (None, None) => project.folder.clone(),
    };
    fs::create_dir_all(&folder).map_err(|error| cannot("make", &folder, &error))?;
    let library = folder.join(library_name(&project.name, &version));
    // An engine may have the old file mapped, so it is replaced, not written to.
    let parts = folder.join(".part");
    fs::create_dir_all(&parts).map_err(|error| cannot("make", &parts, &error))?;
    let built = parts.join(library_name(&project.name, &version));
    let mut make = Command::new("make");
    make.arg("--silent").arg("--always-make").arg("-C").arg(&project.folder);
    make.arg(format!("VERSION={version}")).arg(format!("OUT={}", parts.display()));
    if let Some(target) = &args.target {
        make.arg(format!("CC={}", compiler(target)?));
    }
    if args.debug {
        make.arg("CFLAGS=-O0 -g -Wall -Wextra");
    }
    let ended = make.stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(|error| {
        Failure::Usage(format!(
            "cannot run make: {}; install it, on Debian `apt-get install make gcc`",
            crate::diag::words(&error)
        ))
    })?;
    let done = match ended.success() && built.is_file() {
        true => fs::rename(&built, &library).map_err(|error| cannot("write", &library, &error)),
        false if ended.success() => Err(Failure::Refused(format!(
            "make has made no `{}`; its first rule is to make `$(OUT)/{}`",
            shown(&library),
            library_name(&project.name, "$(VERSION)")
        ))),
        false => Err(Failure::Refused(format!("make could not build `{}`", project.name))),
    };
    // What is left there is of no use to anybody.
    let _ = fs::remove_dir_all(&parts);
    done?;
    let bytes = fs::read(&library).map_err(|error| cannot("read", &library, &error))?;
    super::build::judged(&bytes, &library, args.target.as_deref())?;
    say(format!("built {} ({})", shown(&library), HumanBytes(bytes.len() as u64)));
    Ok(library)
}

/// The C compiler for another machine, as Debian names it; `CC` goes before.
fn compiler(target: &str) -> Result<String, Failure> {
    if let Ok(given) = env::var("CC") {
        return Ok(given);
    }
    let parts: Vec<&str> = target.split('-').collect();
    let (compiler, package) = match (parts.first(), parts.last()) {
        (Some(&"x86_64"), Some(&"musl")) => ("musl-gcc".to_owned(), "musl-tools".to_owned()),
        (Some(machine), Some(libc)) if libc.starts_with("gnu") => {
            let machine = if machine.starts_with("arm") { "arm" } else { machine };
            (format!("{machine}-linux-{libc}-gcc"), format!("gcc-{}-linux-{libc}", machine.replace('_', "-")))
        }
        _ => {
            let text =
                format!("no compiler is known for `{target}`; name one, as `CC=my-gcc kuiper plugin build --target …`");
            return Err(Failure::Usage(text));
        }
    };
    let found = env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|path| path.join(&compiler).is_file());
    if !found {
        return Err(Failure::Usage(format!(
            "`{compiler}` is missing, which compiles for `{target}`; on Debian `apt-get install {package}`"
        )));
    }
    Ok(compiler)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_makefile_says_what_it_makes() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            fs::write(folder.path().join("Makefile"), text).unwrap();
            read(folder.path())
        };
        let project = of("# a\nKIND := sinks\nNAME = lines\nVERSION ?= 1.2.0\nall:\n").ok().unwrap().unwrap();
        assert_eq!((project.kind, project.name.as_str(), project.version.as_str()), (Kind::Sinks, "lines", "1.2.0"));
        assert!(of("all:\n\techo KIND = sinks\n").ok().unwrap().is_none());
        assert!(of("KIND = sinks\nNAME = ../x\nVERSION = 1\n").is_err());
        assert!(of("KIND = sinks\nNAME = x\n").is_err());
    }
}
