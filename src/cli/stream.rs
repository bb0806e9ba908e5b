//! `kuiper stream …` and `kuiper table …`.

use std::path::PathBuf;
use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{Client, Failure, Remote, read, talk};
use super::print::{say, table};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Define one.
    Create {
        /// The statement, as `CREATE STREAM demo () WITH (DATASOURCE="demo", FORMAT="json")`.
        #[arg(required_unless_present = "file", conflicts_with = "file", value_name = "SQL")]
        sql: Option<String>,
        /// Read the statement from a file; `-` is standard input.
        #[arg(short, long)]
        file: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
    /// List all.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show columns and options of one.
    Describe {
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove one.
    Drop {
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// `what` is `stream` or `table`.
pub(super) fn run(what: &'static str, command: Command) -> ExitCode {
    talk(async move {
        let all = format!("{what}s");
        match command {
            Command::Create { sql, file, remote } => {
                let sql = match (sql, file) {
                    (Some(sql), _) => sql,
                    (None, Some(file)) => read(&file)?,
                    (None, None) => return Err(Failure::Usage("give the statement, or a file with `-f`".to_owned())),
                };
                let body = json!({"sql": sql}).to_string();
                Client::new(&remote)?.act(Method::POST, &[&all], Some(body)).await
            }
            Command::List { remote } => {
                let client = Client::new(&remote)?;
                let details = client.get(&[&format!("{what}details")]).await?;
                if client.json {
                    say(details);
                    return Ok(());
                }
                let text = |line: &Json, name: &str| line[name].as_str().unwrap_or_default().to_owned();
                let rows: Vec<Vec<String>> = details
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|line| ["name", "type", "format"].iter().map(|name| text(line, name)).collect())
                    .collect();
                match rows.is_empty() {
                    true => say(format!("No {what} definitions are found.")),
                    false => table(&["NAME", "TYPE", "FORMAT"], &rows),
                }
                Ok(())
            }
            Command::Describe { name, remote } => {
                let client = Client::new(&remote)?;
                let found = client.get(&[&all, &name]).await?;
                match client.json {
                    true => say(found),
                    false => describe(&found),
                }
                Ok(())
            }
            Command::Drop { name, remote } => Client::new(&remote)?.act(Method::DELETE, &[&all, &name], None).await,
        }
    })
}

fn describe(found: &Json) {
    let columns: Vec<Vec<String>> = found["StreamFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|field| {
            let name = field["Name"].as_str().unwrap_or_default().to_owned();
            let default = field["DefaultClause"].as_str().unwrap_or_default().to_owned();
            vec![name, kind(&field["FieldType"]), default]
        })
        .collect();
    match columns.is_empty() {
        true => say("no columns are declared: all that comes is taken as it is"),
        false => table(&["COLUMN", "TYPE", "DEFAULT"], &columns),
    }
    say("");
    let options: Vec<Vec<String>> = found["Options"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| vec![name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)])
        .collect();
    table(&["OPTION", "VALUE"], &options);
}

fn kind(of: &Json) -> String {
    match of["Type"].as_str() {
        Some("array") => format!("array({})", kind(&of["ElementType"])),
        Some("struct") => {
            let members = of["Fields"].as_array().into_iter().flatten();
            let members: Vec<String> = members
                .map(|field| format!("{} {}", field["Name"].as_str().unwrap_or_default(), kind(&field["FieldType"])))
                .collect();
            format!("struct({})", members.join(", "))
        }
        _ => of.as_str().unwrap_or_default().to_owned(),
    }
}
