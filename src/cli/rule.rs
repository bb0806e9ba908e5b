//! `kuiper rule …`.

use std::path::PathBuf;
use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::client::{Client, Failure, Remote, read, talk, unescaped};
use super::known::{add_inputs, add_sample, case_beside};
use super::print::{account, find, say, table};
use super::test;
use crate::lint::Known;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a rule and start it.
    Create(Written),
    /// Replace a rule; if it runs, it goes on with what is new.
    Update {
        #[command(flatten)]
        written: Written,
        /// Only tell which operators would go on with what they know, and which would begin anew.
        #[arg(long)]
        dry_run: bool,
        /// Change it even if sinks have not confirmed all results; the rows of which these come are dropped.
        #[arg(long)]
        force: bool,
    },
    /// List all rules.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a rule as it was written.
    Describe(Named),
    /// Show whether a rule runs, what its parts did, and what became of its rows.
    Status(Shown),
    /// Start a rule.
    Start(Named),
    /// Stop a rule; it stays stopped when the server starts again.
    Stop(Named),
    /// Stop a rule and start it again.
    Restart(Named),
    /// Stop a rule and remove it.
    Drop(Named),
    /// Show the plan of a rule.
    Explain(Named),
    Validate(Checked),
    Test(test::Args),
}

/// A rule that is given in a file.
#[derive(Debug, clap::Args)]
pub(super) struct Written {
    /// Id of the rule, where the file has none.
    name: Option<String>,
    /// The rule as JSON; `-` is standard input.
    #[arg(short, long)]
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// Check a rule without creating it, with all that the server knows, and find what is most likely not meant.
///
/// As `kuiper lint` does, it knows rows from the case file beside the rule (`NAME.case.yaml` beside `NAME.json`) and from
/// `--sample`. The exit status is 1 when the rule is refused and, with `--check`, when there is any finding.
#[derive(Debug, clap::Args)]
pub(super) struct Checked {
    #[command(flatten)]
    written: Written,
    /// A file of JSON lines: rows that the streams are known to have.
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Exit with status 1 on any finding.
    #[arg(long)]
    check: bool,
}

/// The status of a rule.
#[derive(Debug, clap::Args)]
pub(super) struct Shown {
    #[command(flatten)]
    named: Named,
    /// Show the account alone, term by term: where each row went, and whether the sums are right.
    #[arg(long)]
    ledger: bool,
}

/// A rule that the server has.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Written {
    /// The rule's text with its id in it, and the id.
    fn rule(&self) -> Result<(String, String), Failure> {
        let text = read(&self.file)?;
        let place = self.file.display();
        let rule: Json = serde_json::from_str(&text)
            .map_err(|error| Failure::Refused(format!("`{place}` is no JSON: {error}; a rule is one JSON object")))?;
        let Json::Object(members) = rule else {
            return Err(Failure::Refused(format!("`{place}` is no rule, which is one JSON object")));
        };
        let id = members.iter().find(|(key, _)| key.eq_ignore_ascii_case("id"));
        let id = id.and_then(|(_, id)| id.as_str()).filter(|id| !id.is_empty()).map(str::to_owned);
        match (id, &self.name) {
            (Some(id), Some(name)) if id != *name => {
                Err(Failure::Refused(format!("`{place}` holds the rule `{id}`, the command line says `{name}`")))
            }
            (Some(id), _) => Ok((text, id)),
            (None, Some(name)) => {
                let mut whole = Map::from_iter([("id".to_owned(), json!(name))]);
                whole.extend(members.into_iter().filter(|(key, _)| !key.eq_ignore_ascii_case("id")));
                Ok((Json::Object(whole).to_string(), name.clone()))
            }
            (None, None) => Err(Failure::Usage(format!(
                "the rule in `{place}` has no `id`; write one, or name the rule on the command line"
            ))),
        }
    }
}

pub(super) fn run(command: Command) -> ExitCode {
    if let Command::Test(args) = command {
        return test::run(args);
    }
    talk(async move {
        let action = match &command {
            Command::Start(_) => "start",
            Command::Stop(_) => "stop",
            _ => "restart",
        };
        match command {
            Command::Create(written) => {
                let (text, _) = written.rule()?;
                Client::new(&written.remote)?.act(Method::POST, &["rules"], Some(text)).await
            }
            Command::Update { written, dry_run, force } => {
                let (text, id) = written.rule()?;
                let client = Client::new(&written.remote)?;
                let flags: Vec<&str> = [(dry_run, "dryRun"), (force, "force")]
                    .iter()
                    .filter(|(is, _)| *is)
                    .map(|(_, flag)| *flag)
                    .collect();
                let answer = client.ask_with(Method::PUT, &["rules", &id], &flags, Some(text)).await?;
                match (client.json, dry_run) {
                    (true, true) => say(answer.trim_end()),
                    (true, false) => say(json!({"message": unescaped(answer.trim_end())})),
                    (false, true) => preview(&serde_json::from_str(&answer).unwrap_or_default()),
                    (false, false) => say(unescaped(answer.trim_end())),
                }
                Ok(())
            }
            Command::Validate(checked) => validate(&checked).await,
            Command::List { remote } => list(&Client::new(&remote)?).await,
            Command::Describe(named) => {
                let client = Client::new(&named.remote)?;
                let rule = client.get(&["rules", &named.name]).await?;
                match client.json {
                    true => say(rule),
                    false => say(format!("{rule:#}")),
                }
                Ok(())
            }
            Command::Status(Shown { named, ledger }) => {
                let client = Client::new(&named.remote)?;
                let found = client.get(&["rules", &named.name, "status"]).await?;
                match (client.json, ledger) {
                    (true, true) => say(json!({"ledger": found["ledger"], "sinks": found["sinks"]})),
                    (true, false) => say(found),
                    (false, true) => accounts(&found),
                    (false, false) => status(&found),
                }
                Ok(())
            }
            Command::Explain(named) => {
                let client = Client::new(&named.remote)?;
                say(client.ask(Method::GET, &["rules", &named.name, "explain"], None).await?);
                Ok(())
            }
            Command::Start(named) | Command::Stop(named) | Command::Restart(named) => {
                Client::new(&named.remote)?.act(Method::POST, &["rules", &named.name, action], None).await
            }
            Command::Drop(named) => {
                Client::new(&named.remote)?.act(Method::DELETE, &["rules", &named.name], None).await
            }
            // Handled before there was a client.
            Command::Test(_) => Ok(()),
        }
    })
}

async fn validate(checked: &Checked) -> Result<(), Failure> {
    let (mut text, id) = checked.written.rule()?;
    let mut known = Known::default();
    if let Some(sample) = &checked.sample {
        add_sample(sample, &mut known).map_err(Failure::Usage)?;
    }
    let cases = case_beside(&checked.written.file).map_or_else(Vec::new, |(_, cases)| cases);
    cases.iter().for_each(|case| add_inputs(case, &mut known));
    let samples = known.to_json();
    if samples.as_object().is_some_and(|streams| !streams.is_empty())
        && let Ok(Json::Object(mut rule)) = serde_json::from_str(&text)
    {
        rule.insert("samples".to_owned(), samples);
        text = Json::Object(rule).to_string();
    }
    let client = Client::new(&checked.written.remote)?;
    let answer = client.ask(Method::POST, &["rules", "validate"], Some(text)).await?;
    let told: Json = serde_json::from_str(&answer).unwrap_or_default();
    let findings = told["findings"].as_array().map_or(&[][..], Vec::as_slice);
    if client.json {
        say(answer.trim_end());
    } else {
        findings.iter().filter_map(|finding| finding["text"].as_str()).for_each(find);
    }
    match findings.len() {
        0 => {}
        _ if !checked.check => {}
        1 => return Err(Failure::Refused(format!("rule `{id}` has a finding"))),
        several => return Err(Failure::Refused(format!("rule `{id}` has {several} findings"))),
    }
    if !client.json {
        say("The rule has been successfully validated and is confirmed to be correct.");
    }
    Ok(())
}

async fn list(client: &Client) -> Result<(), Failure> {
    let rules = client.get(&["rules"]).await?;
    if client.json {
        say(rules);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rules
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| ["id", "status"].iter().map(|name| rule[*name].as_str().unwrap_or_default().to_owned()).collect())
        .collect();
    match rows.is_empty() {
        true => say("No rule definitions are found."),
        false => table(&["RULE", "STATUS"], &rows),
    }
    Ok(())
}

/// The account of a rule, term by term, and that of each sink.
fn accounts(found: &Json) {
    let reasons = |value: &Json| -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(why, rows)| format!("{rows} {why}")).collect()
    };
    let total = |value: &Json| match value {
        Json::Object(all) => all.values().filter_map(Json::as_i64).sum(),
        value => value.as_i64().unwrap_or_default(),
    };
    // The first term is the sum of the others, but for what is on its way.
    let left = |account: &Json| {
        let mut terms = account.as_object().into_iter().flatten().map(|(_, value)| total(value));
        terms.next().unwrap_or_default() - terms.sum::<i64>()
    };
    let runs = found["status"] == "running";
    let verdict = |left: i64| match left {
        0 => "yes".to_owned(),
        rows if rows > 0 && runs => format!("{rows} on their way"),
        rows => format!("no, off by {rows}"),
    };
    let ledger = &found["ledger"];
    let mut rows: Vec<Vec<String>> = ledger
        .as_object()
        .into_iter()
        .flatten()
        .map(|(term, value)| vec![term.clone(), total(value).to_string(), reasons(value).join(", ")])
        .collect();
    rows.push(vec!["balances".to_owned(), verdict(left(ledger)), String::new()]);
    table(&["TERM", "ROWS", "REASONS"], &rows);
    let sink = |(name, account): (&String, &Json)| {
        let mut row = vec![name.clone()];
        for term in ["results", "delivered", "queued", "dropped", "dead"] {
            let (sum, why) = (total(&account[term]), reasons(&account[term]));
            row.push(if why.is_empty() { sum.to_string() } else { format!("{sum} ({})", why.join(", ")) });
        }
        row.push(verdict(left(account)));
        row
    };
    let rows: Vec<Vec<String>> = found["sinks"].as_object().into_iter().flatten().map(sink).collect();
    if !rows.is_empty() {
        say("");
        table(&["SINK", "RESULTS", "DELIVERED", "QUEUED", "DROPPED", "DEAD", "BALANCES"], &rows);
    }
}

/// What a change of a rule would keep.
fn preview(change: &Json) {
    let names =
        |key: &str| -> Vec<&str> { change[key].as_array().into_iter().flatten().filter_map(Json::as_str).collect() };
    // An operator of the one may have the name that another has in the other.
    let lines = [
        ("carried", "of the new rule goes on with what the old one knows"),
        ("anew", "of the new rule begins anew"),
        ("lost", "of the old rule is dropped with what it knows"),
    ];
    let mut said = false;
    for (key, what) in lines {
        for name in names(key) {
            match change["lostRows"][name].as_u64().filter(|_| key == "lost") {
                None => say(format!("{name} {what}")),
                Some(1) => say(format!("{name} {what}: 1 row held is lost")),
                Some(rows) => say(format!("{name} {what}: {rows} rows held are lost")),
            }
            said = true;
        }
    }
    for column in names("missing") {
        say(format!("the rows that it holds do not have {column}"));
    }
    match change["unconfirmed"].as_u64() {
        Some(rows) if rows > 0 => say(format!("{rows} rows wait for sinks to confirm their results")),
        _ if !said => say("The rule keeps nothing that a change could drop."),
        _ => {}
    }
}

/// Counters that each line of the status shows, and their heads.
const COUNTERS: [(&str, &str); 4] = [
    ("records_in_total", "IN"),
    ("records_out_total", "OUT"),
    ("buffer_length", "WAITING"),
    ("exceptions_total", "ERRORS"),
];

fn status(found: &Json) {
    let text = |name: &str| found[name].as_str().unwrap_or_default();
    match text("message") {
        "" => say(text("status")),
        message => say(format!("{}: {message}", text("status"))),
    }
    if found["health"]["state"] == "degraded" {
        say(format!("degraded: {}", found["health"]["reason"].as_str().unwrap_or_default()));
    }
    let members = found.as_object();
    let nodes: Vec<&str> =
        members.into_iter().flatten().filter_map(|(key, _)| key.strip_suffix("_0_records_in_total")).collect();
    let number = |key: String| found[key].to_string();
    if !nodes.is_empty() {
        say("");
        let mut head = vec!["NODE"];
        head.extend(COUNTERS.map(|(_, head)| head));
        head.push("CONNECTION");
        let rows: Vec<Vec<String>> = nodes
            .iter()
            .map(|node| {
                let mut row = vec![(*node).to_owned()];
                row.extend(COUNTERS.map(|(counter, _)| number(format!("{node}_0_{counter}"))));
                // Of a rule that does not run only the counters are left.
                row.push(if text("status") == "running" { connection(found, node) } else { String::new() });
                row
            })
            .collect();
        table(&head, &rows);
        for node in nodes {
            let last = text(&format!("{node}_0_last_exception"));
            if !last.is_empty() {
                say(format!("last error of {node}: {last}"));
            }
        }
    }
    say("");
    say(format!("rows     {}", account(&found["ledger"])));
    for (sink, sums) in found["sinks"].as_object().into_iter().flatten() {
        say(format!("{sink:<8} {}", account(sums)));
    }
}

fn connection(found: &Json, node: &str) -> String {
    let state = match found[format!("{node}_0_connection_status")].as_i64() {
        Some(1) => "connected",
        Some(0) => "connecting",
        Some(_) => "disconnected",
        None => return String::new(),
    };
    match found[format!("{node}_0_connection_last_disconnected_message")].as_str() {
        Some(why) if state != "connected" && !why.is_empty() => format!("{state}: {why}"),
        _ => state.to_owned(),
    }
}
