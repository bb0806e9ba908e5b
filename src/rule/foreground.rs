use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::console::{STDIN, STDOUT};
use super::status::ledger;
use super::{Def, Ended, Host, Planned, Setup, engine, isolation};
use crate::catalog::{Command, Definition};
use crate::clock::within;
use crate::config::Settings;
use crate::diag::{self, Diagnostic};

/// How long the end may wait for what the rule has left outside to be taken back.
const FORGETTING: Duration = Duration::from_secs(1);

/// One rule without a server: its streams are defined for it alone, and nothing is kept.
pub struct Foreground {
    planned: Box<dyn Planned>,
    def: Def,
    /// Holds the temporary folder for as long as the rule runs.
    host: Arc<Host>,
}

impl Foreground {
    /// Defines the streams and plans the rule: JSON, or a SELECT whose results go to standard output. The error is what
    /// to tell the user.
    pub fn open(settings: &Settings, streams: &[String], rule: &str) -> Result<Foreground, String> {
        let setup = Setup {
            data: None,
            // Where no server ever ran there are no plugins, and nothing is to be made.
            plugins: Some(settings.data.clone()).filter(|folder| folder.is_dir()),
            policy: Default::default(),
            isolation: isolation(settings),
            rule: settings.rule.clone(),
            sink: settings.sink.clone(),
            timezone: settings.timezone.clone(),
            ignore_case: settings.ignore_case,
            props: settings.props.clone(),
            secrets: settings.secrets.clone(),
            layers: settings.connectors.clone(),
            patrol: settings.patrol,
            root: PathBuf::from("."),
            private_net: settings.private_net,
            connectors: vec![STDIN, STDOUT],
        };
        let (host, told) = Host::open(setup).map_err(|fault| fault.to_string())?;
        for text in told {
            tracing::warn!("{text}");
        }
        for statement in streams {
            let mut definition = Definition::parse(statement).map_err(|refused| refused.to_string())?;
            if definition.name == STDIN.name && definition.options.connector.is_empty() {
                definition.options.connector = STDIN.name.to_owned();
            }
            for warning in host.advice(&definition) {
                tracing::warn!("{warning}");
            }
            host.run(Command::Create(Box::new(definition))).map_err(|refused| refused.to_string())?;
        }
        if host.catalog.find(STDIN.name).is_none() {
            let lines = Command::parse(r#"CREATE STREAM stdin () WITH (TYPE="stdin", FORMAT="json")"#);
            lines.and_then(|command| host.catalog.run(command)).map_err(|refused| refused.to_string())?;
        }
        let text = match rule.trim_start().starts_with('{') {
            true => rule.to_owned(),
            false => json!({"id": "run", "sql": rule, "actions": [{"stdout": {"sendSingle": true}}]}).to_string(),
        };
        // A file that names no id holds one rule all the same.
        let id = serde_json::from_str::<serde_json::Value>(&text).ok().filter(|rule| rule.get("id").is_none());
        let (def, warnings) = Def::parse(&text, id.map(|_| "run"), &host.defaults)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let host = Arc::new(host);
        let planned = engine().plan(&def, &host).map_err(|mut found| {
            // Here no statement came first, and none of them is kept.
            let generic = |one: &&mut Diagnostic| {
                one.code == "K0201" && !one.help.as_deref().is_some_and(|help| help.starts_with("did you mean"))
            };
            for missing in found.iter_mut().filter(generic) {
                missing.help = Some("define it with `--stream 'CREATE STREAM …'`; standard input is `stdin`".into());
            }
            diag::render_all(&found, "sql", &def.sql)
        })?;
        for warning in planned.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(Foreground { planned, def, host })
    }

    /// Runs to the end of the input, or until it is `enough`. Gives the ledger; the error is what to tell the user.
    pub async fn run(self, enough: impl Future<Output = ()>) -> (Json, Result<(), String>) {
        let running = match self.planned.start().await {
            Ok(running) => running,
            Err(fault) => return (Json::Null, Err(fault.to_string())),
        };
        let ended = tokio::select! {
            ended = running.ended() => ended,
            () = enough => Ended::Finished,
        };
        running.stop().await;
        // Nobody will ever ask for what a broker would keep for this rule.
        if let Ok(planned) = engine().plan(&self.def, &self.host)
            && within(FORGETTING, planned.forget()).await.is_none()
        {
            tracing::warn!("what the rule left outside could not be taken back in time");
        }
        drop(self.host);
        let result = match ended {
            Ended::Finished => Ok(()),
            Ended::Failed(fault) => Err(fault.to_string()),
        };
        (ledger(&running.status().ledger), result)
    }
}
