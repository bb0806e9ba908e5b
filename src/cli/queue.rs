//! `kuiper queue …`: asks the server, or with `--data` looks into the data folder of one that does not run.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value as Json;

use super::client::{Client, Failure, Remote, talk};
use super::print::{say, table};
use crate::rule::Refused;
use crate::rule::queues::{self, Queues};

/// Messages that are fetched at once.
const PAGE: usize = 500;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the queues: how much waits in each, and since when.
    List {
        /// Only those of this rule.
        rule: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Show messages of a queue: sequence, time, size and content.
    Show {
        #[command(flatten)]
        queue: Queue,
        /// The first sequence to show.
        #[arg(long, default_value_t = 0, value_name = "SEQUENCE")]
        from: u64,
        /// How many to show.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        place: Place,
    },
    /// Throw away what waits in a queue.
    Drop {
        #[command(flatten)]
        queue: Queue,
        #[command(flatten)]
        place: Place,
    },
    /// Write all messages of a queue, one JSON object a line; the queue keeps them.
    Export {
        #[command(flatten)]
        queue: Queue,
        /// Where to; standard output without it.
        #[arg(short, long)]
        output: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

/// Which queue.
#[derive(Debug, clap::Args)]
pub(super) struct Queue {
    rule: String,
    /// The sink: its type and its place among the actions, as `mqtt_0`.
    sink: String,
}

/// Where the queues are.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The data folder of a server that does not run, in place of a server.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// The queues of a server, or those in a folder.
enum Reach {
    Server(Client),
    Folder(Queues, bool),
}

impl Reach {
    fn to(place: &Place) -> Result<Reach, Failure> {
        let client = Client::new(&place.remote)?;
        let Some(folder) = &place.data else { return Ok(Reach::Server(client)) };
        if !folder.is_dir() {
            return Err(Failure::Usage(format!("there is no data folder `{}`", folder.display())));
        }
        let opened = queues::in_folder(folder);
        let hint = |fault| Failure::Usage(format!("{fault}; or ask its server, without `--data`"));
        Ok(Reach::Folder(opened.map_err(hint)?, client.json))
    }

    fn json(&self) -> bool {
        match self {
            Reach::Server(client) => client.json,
            Reach::Folder(_, json) => *json,
        }
    }

    async fn list(&self, rule: Option<&str>) -> Result<Json, Failure> {
        match (self, rule) {
            (Reach::Server(client), None) => client.get(&["queues"]).await,
            (Reach::Server(client), Some(rule)) => client.get(&["rules", rule, "queues"]).await,
            (Reach::Folder(all, _), rule) => queues::list(all, rule).map_err(refused),
        }
    }

    async fn show(&self, queue: &Queue, from: u64, most: usize) -> Result<Vec<Json>, Failure> {
        let Queue { rule, sink } = queue;
        let messages = match self {
            Reach::Server(client) => {
                let query = [("from", from.to_string()), ("limit", most.to_string())];
                client.get_with(&["rules", rule, "queues", sink], &query).await?
            }
            Reach::Folder(all, _) => queues::show(all, rule, sink, from, most).map_err(refused)?,
        };
        match messages {
            Json::Array(messages) => Ok(messages),
            _ => Err(Failure::Refused("the server does not answer with messages; is it kuiper?".to_owned())),
        }
    }
}

fn refused(refused: Refused) -> Failure {
    Failure::Refused(refused.to_string())
}

pub(super) fn run(command: Command) -> ExitCode {
    talk(async move {
        match command {
            Command::List { rule, place } => list(&Reach::to(&place)?, rule.as_deref()).await,
            Command::Show { queue, from, limit, place } => {
                let reach = Reach::to(&place)?;
                let messages = reach.show(&queue, from, limit).await?;
                show(&messages, reach.json());
                Ok(())
            }
            Command::Drop { queue, place } => match Reach::to(&place)? {
                Reach::Server(client) => {
                    client.act(Method::DELETE, &["rules", &queue.rule, "queues", &queue.sink], None).await
                }
                Reach::Folder(all, json) => {
                    let answer = queues::clear(&all, &queue.rule, &queue.sink).map_err(refused)?;
                    match json {
                        true => say(serde_json::json!({"message": answer})),
                        false => say(answer),
                    }
                    Ok(())
                }
            },
            Command::Export { queue, output, place } => export(&Reach::to(&place)?, &queue, output.as_deref()).await,
        }
    })
}

async fn list(reach: &Reach, rule: Option<&str>) -> Result<(), Failure> {
    let all = reach.list(rule).await?;
    if reach.json() {
        say(all);
        return Ok(());
    }
    let cell = |one: &Json, name: &str| match &one[name] {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |one: &Json| {
        let mut row: Vec<String> = ["rule", "sink", "messages", "rows", "bytes"].map(|name| cell(one, name)).into();
        row.extend(["oldest", "newest"].map(|name| moment(&one[name])));
        row
    };
    let rows: Vec<Vec<String>> = all.as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => say("No queues are found."),
        false => table(&["RULE", "SINK", "MESSAGES", "ROWS", "BYTES", "OLDEST", "NEWEST"], &rows),
    }
    Ok(())
}

fn show(messages: &[Json], json: bool) {
    if json {
        say(Json::Array(messages.to_vec()));
        return;
    }
    let row = |one: &Json| {
        let size = match &one["size"] {
            Json::Null => format!("{} rows", one["rows"]),
            size => format!("{size} bytes"),
        };
        let content = match (&one["text"], &one["hex"]) {
            (Json::String(text), _) | (_, Json::String(text)) => text.clone(),
            _ => one["content"].to_string(),
        };
        let props = match &one["properties"] {
            Json::Null => String::new(),
            props => format!("{props} "),
        };
        vec![one["sequence"].to_string(), moment(&one["time"]), size, format!("{props}{content}")]
    };
    let rows: Vec<Vec<String>> = messages.iter().map(row).collect();
    match rows.is_empty() {
        true => say("The queue is empty."),
        false => table(&["SEQUENCE", "TIME", "SIZE", "CONTENT"], &rows),
    }
}

async fn export(reach: &Reach, queue: &Queue, output: Option<&Path>) -> Result<(), Failure> {
    let failed = |error: std::io::Error, path: &Path| {
        Failure::Refused(format!("cannot write `{}`: {}", path.display(), super::print::cause_of(&error)))
    };
    let mut file = match output {
        Some(path) => Some((BufWriter::new(File::create(path).map_err(|error| failed(error, path))?), path)),
        None => None,
    };
    let (mut from, mut count) = (0, 0);
    loop {
        let messages = reach.show(queue, from, PAGE).await?;
        for message in &messages {
            match &mut file {
                Some((file, path)) => writeln!(file, "{message}").map_err(|error| failed(error, path))?,
                None => say(message),
            }
        }
        count += messages.len();
        match messages.last().and_then(|last| last["sequence"].as_u64()) {
            Some(last) => from = last + 1,
            None => break,
        }
    }
    if let Some((mut file, path)) = file {
        file.flush().map_err(|error| failed(error, path))?;
        say(format!("{count} messages are in `{}`.", path.display()));
    }
    Ok(())
}

/// Milliseconds since 1970 as a time.
fn moment(time: &Json) -> String {
    let time = time.as_i64().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"))
}
