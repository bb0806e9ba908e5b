//! The project of a plugin: a crate, or a Makefile, found and asked for what it makes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::Value as Json;

use super::super::client::Failure;
use super::{Which, cannot, make};
use crate::plugin::{Kind, check_name, compare_versions, read_library_name};

/// A crate, or what a Makefile is for, that makes a plugin.
pub(super) struct Project {
    pub folder: PathBuf,
    pub kind: Kind,
    /// Name of the plugin.
    pub name: String,
    /// Name of the crate.
    pub package: String,
    /// Version of the crate.
    pub version: String,
    /// Whether `make` builds it, and not cargo.
    pub makes: bool,
}

impl Project {
    /// The project in this folder, else the one that is named, below it.
    pub fn find(which: &Which) -> Result<Project, Failure> {
        let here = env::current_dir().map_err(|error| cannot("use", Path::new("."), &error))?;
        let named = which.named();
        if let Some((_, name)) = named {
            check_name(name).map_err(|refused| Failure::Usage(refused.to_string()))?;
        }
        let mut asked = Vec::new();
        if is_project(&here)
            && let Some(project) = Project::read(&here, named)?
        {
            return Ok(project);
        }
        if let Some((kind, name)) = named {
            for place in [kind.many(), "plugins"] {
                let folder = here.join(place).join(name);
                asked.push(format!("{place}/{name}"));
                if is_project(&folder) {
                    let project = Project::read(&folder, named)?;
                    let other = || Failure::Usage(format!("`{place}/{name}` is no project of a {}", kind.one()));
                    return project.ok_or_else(other);
                }
            }
            return Err(Failure::Usage(format!(
                "there is no project of the {} `{name}` in this folder, and none in {}; make one with `kuiper plugin new {} {name}`",
                kind.one(),
                asked.join(" or "),
                kind.many()
            )));
        }
        let below = below(&here);
        let hint = if below.is_empty() {
            "make one with `kuiper plugin new`".to_owned()
        } else {
            format!("name one of those below it: {}", below.join(", "))
        };
        Err(Failure::Usage(format!("this folder is no project of a plugin; {hint}")))
    }

    /// Asks cargo; `None` where the crate is another plugin than the one named, or none at all.
    fn read(folder: &Path, named: Option<(Kind, &str)>) -> Result<Option<Project>, Failure> {
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            let fits = |one: &Project| named.is_none_or(|wanted| wanted == (one.kind, one.name.as_str()));
            return Ok(make::read(folder)?.filter(fits));
        }
        let told = metadata(&manifest, &["--no-deps", "--offline"])?;
        let wanted = fs::canonicalize(&manifest).map_err(|error| cannot("read", &manifest, &error))?;
        let is_it = |package: &&Json| {
            let path = package["manifest_path"].as_str().unwrap_or_default();
            fs::canonicalize(path).is_ok_and(|path| path == wanted)
        };
        let Some(package) = told["packages"].as_array().into_iter().flatten().find(is_it) else { return Ok(None) };
        let makes_library = package["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|target| target["crate_types"].as_array().into_iter().flatten().any(|kind| kind == "cdylib"));
        if !makes_library {
            return Ok(None);
        }
        let said = &package["metadata"]["kuiper"];
        // One library can be of several kinds; the first is meant where none is named.
        let said_kinds: Vec<Kind> = match &said["kind"] {
            Json::Array(all) => all.iter().filter_map(Json::as_str).filter_map(Kind::read).collect(),
            one => one.as_str().and_then(Kind::read).into_iter().collect(),
        };
        let asked = named.map(|(kind, _)| kind);
        let said_kind = asked.filter(|kind| said_kinds.contains(kind)).or(said_kinds.first().copied());
        let Some(kind) = said_kind.or(asked) else { return Ok(None) };
        let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
        let package_name = text(&package["name"]);
        let name = match (said["name"].as_str(), named) {
            (Some(name), _) => name.to_owned(),
            (None, Some((_, name))) => name.to_owned(),
            (None, None) => package_name.clone(),
        };
        check_name(&name).map_err(|refused| Failure::Refused(refused.to_string()))?;
        if named.is_some_and(|wanted| wanted != (kind, name.as_str())) {
            return Ok(None);
        }
        let version = text(&package["version"]);
        Ok(Some(Project { folder: folder.to_path_buf(), kind, name, package: package_name, version, makes: false }))
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.join("Cargo.toml")
    }

    /// The library of the last build for this machine, and its version.
    pub fn last_build(&self) -> Option<(PathBuf, String)> {
        self.last_build_in(&self.folder)
    }

    /// The library of the last build for this machine, else that for any other.
    pub fn any_build(&self) -> Option<(PathBuf, String)> {
        self.last_build().or_else(|| self.folders_of_targets().iter().find_map(|folder| self.last_build_in(folder)))
    }

    /// Folders of builds for other machines, `bin/aarch64-unknown-linux-gnu`.
    pub fn folders_of_targets(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.join("bin")).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    }

    fn last_build_in(&self, folder: &Path) -> Option<(PathBuf, String)> {
        let mut builds: Vec<(SystemTime, String, PathBuf)> = fs::read_dir(folder)
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let (plugin, version) = read_library_name(entry.file_name().to_str()?)?;
                let own = plugin.eq_ignore_ascii_case(&self.name) && !version.is_empty();
                own.then(|| Some((entry.metadata().ok()?.modified().ok()?, version, entry.path()))).flatten()
            })
            .collect();
        builds.sort_by(|one, two| one.0.cmp(&two.0).then_with(|| compare_versions(&one.1, &two.1)));
        builds.pop().map(|(_, version, path)| (path, version))
    }

    /// Where the zip goes: `mysqlSink.zip`.
    pub fn zip(&self) -> PathBuf {
        let kind = self.kind.one();
        self.folder.join(format!("{}{}{}.zip", self.name, kind[..1].to_uppercase(), &kind[1..]))
    }
}

fn is_project(folder: &Path) -> bool {
    folder.join("Cargo.toml").is_file() || folder.join("Makefile").is_file()
}

/// Projects below a folder, as options that name them.
fn below(here: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let Ok(entries) = fs::read_dir(here.join(kind.many())) else { continue };
        for entry in entries.flatten().filter(|entry| is_project(&entry.path())) {
            found.push(format!("`--{} {}`", kind.one(), entry.file_name().to_string_lossy()));
        }
    }
    found.sort();
    found
}

/// Cargo as it is to be called: quiet about itself, with a panic that unwinds whatever the project says.
pub(super) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("CARGO_PROFILE_RELEASE_PANIC", "unwind").env("CARGO_PROFILE_DEV_PANIC", "unwind");
    command
}

/// What cargo knows of a project.
pub(super) fn metadata(manifest: &Path, options: &[&str]) -> Result<Json, Failure> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(manifest).args(options);
    let done = command.stdin(Stdio::null()).output().map_err(|error| no_cargo(&error))?;
    if !done.status.success() {
        let told = String::from_utf8_lossy(&done.stderr);
        if let Some((_, rest)) = told.split_once("could not find specification for target \"") {
            let target = rest.split('"').next().unwrap_or_default();
            return Err(Failure::Usage(format!(
                "there is no target `{target}`; `rustc --print target-list` shows those that there are"
            )));
        }
        return Err(Failure::Refused(format!("cargo cannot read `{}`: {}", manifest.display(), told.trim())));
    }
    serde_json::from_slice(&done.stdout)
        .map_err(|error| Failure::Refused(format!("cargo answers in a form that is not known here: {error}")))
}

pub(super) fn no_cargo(error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot run cargo: {}; install Rust, or put cargo on the path", crate::diag::words(error)))
}
