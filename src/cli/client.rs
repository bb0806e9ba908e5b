use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::Value as Json;

use super::print::{FAILED, USAGE, fail, say, warn};
use crate::diag::words;

/// Which server to ask, and how to show what it says.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The server to ask.
    #[arg(long, env = "KUIPER_SERVER", default_value = "http://127.0.0.1:9081", value_name = "URL")]
    server: String,
    /// Print what the server answers, for programs.
    #[arg(long)]
    json: bool,
}

/// Why a command came to nothing.
pub(super) enum Failure {
    /// The server said no.
    Refused(String),
    /// The command line is wrong, or there is no server.
    Usage(String),
}

impl Failure {
    /// Tells the user, and gives the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Failure::Refused(text) => fail(FAILED, text),
            Failure::Usage(text) => fail(USAGE, text),
        }
    }
}

/// Runs a command that talks to a server, and turns its end into an exit status.
pub(super) fn talk(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format!("cannot begin: {error}")),
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// A connection to a server.
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
    /// Answers are to be printed as they come.
    pub json: bool,
}

impl Client {
    pub fn new(remote: &Remote) -> Result<Client, Failure> {
        let text = match remote.server.contains("://") {
            true => remote.server.clone(),
            false => format!("http://{}", remote.server),
        };
        let fits = |url: &Url| url.has_host() && ["http", "https"].contains(&url.scheme());
        let base = Url::parse(&text).ok().filter(fits);
        let base = base.ok_or_else(|| {
            Failure::Usage(format!("`{}` is no address of a server; write it as http://127.0.0.1:9081", remote.server))
        })?;
        let http = reqwest::Client::builder()
            // A server on this machine is not behind a proxy.
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| Failure::Usage(format!("cannot make requests: {error}")))?;
        Ok(Client { base, http, json: remote.json })
    }

    /// Asks, and gives the text of the answer.
    pub async fn ask(&self, method: Method, path: &[&str], body: Option<String>) -> Result<String, Failure> {
        self.ask_with(method, path, &[], body).await
    }

    /// The same, with flags in the query.
    pub async fn ask_with(
        &self,
        method: Method,
        path: &[&str],
        flags: &[&str],
        body: Option<String>,
    ) -> Result<String, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        if !flags.is_empty() {
            url.query_pairs_mut().extend_pairs(flags.iter().map(|flag| (flag, "true")));
        }
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        self.answer(request).await
    }

    /// Sends a form, and gives the text of the answer.
    pub async fn send_form(&self, path: &[&str], form: reqwest::multipart::Form) -> Result<String, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        let answer = self.answer(self.http.post(url).multipart(form)).await?;
        Ok(unescaped(&answer))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<String, Failure> {
        let answer = request.send().await.map_err(|error| self.away(&error))?;
        let status = answer.status();
        for warning in answer.headers().get_all("kuiper-warning") {
            warn(unpercented(warning.as_bytes()));
        }
        let text = answer.text().await.map_err(|error| self.away(&error))?;
        if status.is_success() {
            return Ok(text);
        }
        let refused = serde_json::from_str::<Json>(&text).ok();
        let message = refused.as_ref().and_then(|body| body["message"].as_str()).unwrap_or(text.trim());
        match message {
            "" => Err(Failure::Refused(format!("the server at {} answers {status}", self.base))),
            message => Err(Failure::Refused(message.to_owned())),
        }
    }

    /// Asks for JSON.
    pub async fn get(&self, path: &[&str]) -> Result<Json, Failure> {
        self.get_with(path, &[]).await
    }

    /// The same, with a query.
    pub async fn get_with(&self, path: &[&str], query: &[(&str, String)]) -> Result<Json, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let text = self.answer(self.http.get(url)).await?;
        serde_json::from_str(&text).map_err(|_| {
            Failure::Refused(format!("the server at {} does not answer in JSON; is it kuiper?", self.base))
        })
    }

    /// Asks for something to be done, and prints the server's word on it.
    pub async fn act(&self, method: Method, path: &[&str], body: Option<String>) -> Result<(), Failure> {
        self.act_with(method, path, &[], body).await
    }

    /// The same, with flags in the query.
    pub async fn act_with(
        &self,
        method: Method,
        path: &[&str],
        flags: &[&str],
        body: Option<String>,
    ) -> Result<(), Failure> {
        let answer = self.ask_with(method, path, flags, body).await?;
        let answer = unescaped(answer.trim_end());
        match self.json {
            true => say(serde_json::json!({"message": answer})),
            false => say(answer),
        }
        Ok(())
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let why = match words(cause) {
            why if why.starts_with("failed to lookup address") => "nobody knows its name".to_owned(),
            why => why,
        };
        Failure::Usage(format!(
            "cannot reach the server at {}: {}; start one with `kuiper serve`, or name it with `--server`",
            self.base.as_str().trim_end_matches('/'),
            why,
        ))
    }
}

/// A header with its `%20` and their like resolved.
fn unpercented(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The server escapes what a browser would take for markup; a terminal does not.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&#34;", "\"").replace("&amp;", "&")
}

/// Why a file gives no text.
pub(super) fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => words(error),
    }
}

/// The content of a file; `-` is standard input.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    text.map_err(|error| Failure::Usage(format!("cannot read `{}`: {}", file.display(), unreadable(&error))))
}
