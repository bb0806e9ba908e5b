//! `kuiper plugin …`: the projects of plugins on this machine, and the plugins of a server.
//!
//! `new`, `build`, `test` and `pack` need no server, and `cargo` only; `deploy` takes a package to a server; the rest asks one.

mod build;
mod check;
mod cross;
mod deploy;
mod dev;
mod keys;
mod make;
mod new;
mod pack;
mod project;
mod sources;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value as Json;

use super::client::{Client, Failure, Remote, talk};
use super::print::{say, table};
use crate::plugin::Kind;
use project::Project;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a project that compiles and passes its tests, in a folder below this one: sinks/NAME.
    New {
        /// sources, sinks or functions.
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Name of the plugin, as rules will use it.
        name: String,
        /// Begin with a copy of this one of ours.
        #[arg(long, value_name = "PLUGIN", value_parser = ["mysql", "random", "geohash", "echo", "image", "zmq"])]
        from: Option<String>,
        /// The language to write it in.
        #[arg(long, value_name = "LANG", value_parser = ["rust", "c"], default_value = "rust", conflicts_with = "from")]
        lang: String,
    },
    /// Compile a project, that of this folder where none is named, into a library: `Mysql@v1.0.0.so`.
    Build(Build),
    /// Try a library against the contract: life cycle, errors, values of every kind, threads, memory. No server is needed.
    Test(test::Test),
    /// Say what a server would say to a library or zip, without one, and run the plugin's own examples.
    Check(check::Check),
    /// Pack the last build into a zip, with those for other machines: `mysqlSink.zip`.
    Pack {
        #[command(flatten)]
        which: Which,
        /// Sign it with this secret key.
        #[arg(long, value_name = "KEY")]
        sign: Option<PathBuf>,
    },
    /// Make a key pair to sign zips with, as minisign does.
    Keys {
        /// The file of the secret key; that of the public one ends in `.pub`.
        #[arg(default_value = "kuiper.key")]
        file: PathBuf,
    },
    /// Pack the last build and bring it to a server, where rules that use the plugin move to it; build it first where there is none.
    Deploy {
        #[command(flatten)]
        which: Which,
        /// process: run it in a process of its own. none: in the server's. Else as the server has it.
        #[arg(long, value_name = "HOW", value_parser = ["process", "none"])]
        isolation: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Build, deploy and show rows, again whenever the project changes.
    Dev(dev::Args),
    /// List the plugins of a server.
    List {
        /// Only sources, sinks or functions.
        #[arg(value_parser = kind)]
        kind: Option<Kind>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show version, properties and functions of a plugin, the rules that use it, and old versions that are still mapped.
    Describe {
        /// sources, sinks or functions.
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Name of the plugin.
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove a plugin from a server.
    Drop {
        /// sources, sinks or functions.
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Name of the plugin.
        name: String,
        /// Stop the rules that use it; without this a plugin in use stays.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Which project: the one in this folder, or one below it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Which {
    /// The project in sources/NAME or plugins/NAME, not that of this folder.
    #[arg(long, value_name = "NAME", group = "which")]
    source: Option<String>,
    /// The project in sinks/NAME or plugins/NAME, not that of this folder.
    #[arg(long, value_name = "NAME", group = "which")]
    sink: Option<String>,
    /// The project in functions/NAME or plugins/NAME, not that of this folder.
    #[arg(long, value_name = "NAME", group = "which")]
    function: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
pub(super) struct Build {
    #[command(flatten)]
    which: Which,
    /// Version of the library; that of Cargo.toml or the Makefile where it is not given.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Compile fast, for looking for errors.
    #[arg(long)]
    debug: bool,
    /// Compile for another machine, as `aarch64-unknown-linux-gnu`.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Folder for the library; the project's own where it is not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::read(text).ok_or_else(|| "choose `sources`, `sinks` or `functions`".to_owned())
}

impl Which {
    /// Kind and name, where they are given.
    fn named(&self) -> Option<(Kind, &str)> {
        let all = [(Kind::Sources, &self.source), (Kind::Sinks, &self.sink), (Kind::Functions, &self.function)];
        all.into_iter().find_map(|(kind, name)| Some((kind, name.as_deref()?)))
    }
}

pub(super) fn run(command: Command) -> ExitCode {
    talk(async move {
        match command {
            Command::New { kind, name, from, lang } => new::run(kind, &name, from.as_deref(), lang == "c"),
            Command::Build(args) => build::run(&Project::find(&args.which)?, &args).map(|_| ()),
            Command::Check(args) => check::run(&args),
            Command::Pack { which, sign } => pack::run(&Project::find(&which)?, sign.as_deref()).map(|_| ()),
            Command::Keys { file } => keys::run(&file),
            Command::Test(args) => test::run(&args),
            Command::Deploy { which, isolation, remote } => {
                deploy::run(&Project::find(&which)?, isolation.as_deref(), &remote).await
            }
            Command::Dev(args) => dev::run(args).await,
            Command::List { kind, remote } => list(kind, &remote).await,
            Command::Describe { kind, name, remote } => describe(kind, &name, &remote).await,
            Command::Drop { kind, name, force, remote } => {
                let (client, flags) = (Client::new(&remote)?, if force { ["force"].as_slice() } else { &[] });
                client.act_with(Method::DELETE, &["plugins", kind.many(), &name], flags, None).await
            }
        }
    })
}

async fn list(kind: Option<Kind>, remote: &Remote) -> Result<(), Failure> {
    let client = Client::new(remote)?;
    let kinds = kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
    let mut all = serde_json::Map::new();
    let mut rows = Vec::new();
    for kind in kinds {
        let names = client.get(&["plugins", kind.many()]).await?;
        for name in names.as_array().into_iter().flatten().filter_map(Json::as_str) {
            // One that cannot be loaded has no version, and says why when it is described.
            let found = client.get(&["plugins", kind.many(), name]).await.unwrap_or_default();
            let version = found["version"].as_str().unwrap_or("?").to_owned();
            rows.push(vec![kind.one().to_owned(), name.to_owned(), version]);
        }
        all.insert(kind.many().to_owned(), names);
    }
    match (client.json, rows.is_empty()) {
        (true, _) => say(Json::Object(all)),
        (false, true) => say("No plugin is found."),
        (false, false) => table(&["KIND", "NAME", "VERSION"], &rows),
    }
    Ok(())
}

async fn describe(kind: Kind, name: &str, remote: &Remote) -> Result<(), Failure> {
    let client = Client::new(remote)?;
    let found = client.get(&["plugins", kind.many(), name]).await?;
    if client.json {
        say(found);
        return Ok(());
    }
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    say(format!("{} plugin {} {}", kind.one(), text(&found["name"]), text(&found["version"])));
    if let Some(output) = found["installOutput"].as_str() {
        say(format!("its install.sh has printed:\n{output}"));
    }
    if found["isolation"] == "process" {
        let process = &found["process"];
        match process["id"].as_u64() {
            Some(id) => say(format!("runs in process {id}")),
            None => say("its process does not run"),
        }
        if let Some(last) = process["lastDeath"].as_str() {
            say(format!("{} processes died; the last one: {last}", process["deaths"]));
        }
    }
    let names =
        |json: &Json| json.as_array().into_iter().flatten().filter_map(Json::as_str).collect::<Vec<_>>().join(", ");
    match names(&found["rules"]).as_str() {
        "" => {}
        rules => say(format!("used by the rules {rules}")),
    }
    for old in found["mapped"].as_array().into_iter().flatten() {
        let place = match old.get("process") {
            None => "mapped into the server".to_owned(),
            Some(Json::Null) => "to be run in a process".to_owned(),
            Some(id) => format!("mapped into process {id}"),
        };
        match names(&old["users"]).as_str() {
            "" => say(format!("version {} is still {place}, and nobody uses it", text(&old["version"]))),
            users => say(format!("version {} is still {place}; {users} end with it", text(&old["version"]))),
        }
    }
    for symbol in found["symbols"].as_array().into_iter().flatten() {
        say("");
        say(format!("{} {}{}", text(&symbol["what"]), text(&symbol["name"]), text(&symbol["signature"])));
        if let Some(about) = symbol["about"].as_str().filter(|about| !about.is_empty()) {
            say(format!("  {about}"));
        }
        let required: Vec<&str> =
            symbol["schema"]["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let properties = symbol["schema"]["properties"].as_object();
        let rows: Vec<Vec<String>> = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| {
                let default = match property.get("default") {
                    _ if required.contains(&name.as_str()) => "required".to_owned(),
                    Some(default) => default.to_string(),
                    None => String::new(),
                };
                vec![name.clone(), default, text(&property["expects"]), text(&property["description"])]
            })
            .collect();
        if !rows.is_empty() {
            table(&["PROPERTY", "DEFAULT", "EXPECTS", "ABOUT"], &rows);
        }
    }
    Ok(())
}

/// A failure that names a file.
fn cannot(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::Refused(format!("cannot {what} `{}`: {}", path.display(), crate::diag::words(error)))
}
