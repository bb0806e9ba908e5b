//! `kuiper plugin dev`: whenever the project changes it is built and takes the place of what runs on the server, and the
//! rows that go through it are printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::{Value as Json, json};

use super::super::client::{Client, Failure, Remote, read};
use super::super::print::{say, warn};
use super::project::Project;
use super::{Build, Which, build, deploy};

/// How often the project and the rows are looked at.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    which: Which,
    /// Make this rule for the time, so that there are rows to see.
    #[arg(long, value_name = "FILE")]
    rule: Option<PathBuf>,
    /// Make this stream for the time: `CREATE STREAM …`; may be given several times.
    #[arg(long, value_name = "SQL")]
    stream: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let project = Project::find(&args.which)?;
    let client = Client::new(&args.remote)?;
    let rule = args.rule.as_deref().map(read).transpose()?;
    client.ask(Method::GET, &["ping"], None).await?;
    let mut made = Made { client: &client, streams: Vec::new(), rule: None };
    let ended = tokio::select! {
        ended = watch(&project, &args, &client, rule, &mut made) => ended,
        // Where signals cannot be waited for, it ends by one.
        Ok(()) = tokio::signal::ctrl_c() => Ok(()),
    };
    made.undo().await;
    ended
}

async fn watch(
    project: &Project,
    args: &Args,
    client: &Client,
    mut rule: Option<String>,
    made: &mut Made<'_>,
) -> Result<(), Failure> {
    let mut built: Option<Vec<Stamp>> = None;
    let (mut seen, mut works, mut told) = (0, false, false);
    loop {
        let now = stamps(&project.folder);
        if built.as_ref() != Some(&now) {
            let done = match build::run(project, &Build { debug: true, ..Build::default() }) {
                Ok(_) => deploy::run(project, None, &args.remote).await,
                Err(failure) => Err(failure),
            };
            // What is wrong in the project is mended by its author, while this goes on.
            match done {
                Ok(()) => works = true,
                Err(Failure::Refused(text)) => warn(format!("{text}; waiting for a change")),
                Err(failure) => return Err(failure),
            }
            built = Some(now);
            if works {
                made.make(&args.stream, rule.take()).await?;
            }
        }
        if works {
            seen = rows(project, client, seen).await?;
            if seen == 0 && !told {
                told = true;
                alone(project, client).await?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says how to get rows where nobody uses the plugin.
async fn alone(project: &Project, client: &Client) -> Result<(), Failure> {
    let (one, kind, name) = (project.kind.one(), project.kind.many(), project.name.as_str());
    let found = client.get(&["plugins", kind, name]).await?;
    if found["rules"].as_array().is_none_or(Vec::is_empty) {
        warn(format!("no rule uses the {one} `{name}`; create one, or give one with `--rule FILE`"));
    }
    Ok(())
}

/// Prints the rows after that number, and gives the number of the last.
async fn rows(project: &Project, client: &Client, seen: u64) -> Result<u64, Failure> {
    let path = ["plugins", project.kind.many(), &project.name, "rows"];
    let found = client.get_with(&path, &[("after", seen.to_string())]).await?;
    for row in found["rows"].as_array().into_iter().flatten() {
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        match client.json {
            true => say(row),
            false => say(format!("{} {}: {}", text("user"), text("version"), text("text"))),
        }
    }
    Ok(found["last"].as_u64().unwrap_or(0))
}

/// What is there for the time.
struct Made<'c> {
    client: &'c Client,
    streams: Vec<String>,
    rule: Option<String>,
}

impl Made<'_> {
    async fn make(&mut self, streams: &[String], rule: Option<String>) -> Result<(), Failure> {
        let Some(rule) = rule else { return Ok(()) };
        for statement in streams {
            self.client.ask(Method::POST, &["streams"], Some(json!({ "sql": statement }).to_string())).await?;
            // CREATE STREAM name
            self.streams
                .extend(statement.split([' ', '(', '\n']).filter(|word| !word.is_empty()).nth(2).map(str::to_owned));
        }
        let id = serde_json::from_str::<Json>(&rule).ok().and_then(|rule| rule["id"].as_str().map(str::to_owned));
        self.client.ask(Method::POST, &["rules"], Some(rule)).await?;
        self.rule = id;
        Ok(())
    }

    /// Takes it away; what cannot be is told.
    async fn undo(self) {
        let rule = self.rule.iter().map(|id| ["rules", id]);
        for path in rule.chain(self.streams.iter().map(|name| ["streams", name])) {
            if let Err(Failure::Refused(text) | Failure::Usage(text)) =
                self.client.ask(Method::DELETE, &path, None).await
            {
                warn(text);
            }
        }
    }
}

/// A file of the project, when it was written, and how long it is.
type Stamp = (PathBuf, Option<SystemTime>, u64);

/// All that a build is made of.
fn stamps(folder: &Path) -> Vec<Stamp> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(&below).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let made = name.ends_with(".so") || name.ends_with(".zip") || name == "Cargo.lock" || name.starts_with('.');
            let Some(about) = entry.metadata().ok().filter(|_| !made && name != "target") else { continue };
            match about.is_dir() {
                true => folders.push(path),
                false => found.push((path, about.modified().ok(), about.len())),
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_what_a_build_makes_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("src")).unwrap();
        fs::create_dir_all(folder.path().join("target/debug")).unwrap();
        let put = |path: &str, text: &str| fs::write(folder.path().join(path), text).unwrap();
        put("src/lib.rs", "one");
        let before = stamps(folder.path());
        for made in ["target/debug/x", "Lines@v1.0.0.so", "linesSink.zip", "Cargo.lock", ".git"] {
            put(made, "made");
        }
        assert_eq!(stamps(folder.path()), before);
        put("src/lib.rs", "two of them");
        assert_ne!(stamps(folder.path()), before);
    }
}
