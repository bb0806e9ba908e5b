//! The sink: one request a message, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::net::TcpStream;

use crate::clock::{Clock, Time, within};
use crate::diag::{Diagnostic, Fault, Result, words};
use crate::io::reach::{Resolver, refusal};
use crate::io::{Content, Link, Parcel, Report, Sink, SinkPlan, SinkSpec, Stopped, Takes, props};

use super::answer;
use super::login::{Token, header};
use super::options::{Body, Options, SINK, Settings, parsed};

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const READ: usize = 64 << 10;
/// How often an answer may point elsewhere.
const HOPS: usize = 5;

pub(super) fn plan(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (options, mut warnings) = props::read::<Options>(&spec.props, &SINK)?;
    let settings = options.check(&spec, &mut warnings)?;
    let open = move || {
        Ok(Box::new(Rest {
            settings: settings.clone(),
            clock: spec.env.clock.clone(),
            owner: spec.env.owner.clone(),
            client: None,
            token: None,
            quiet: None,
            report: None,
        }) as Box<dyn Sink>)
    };
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings, identity: None })
}

/// How often a sink that waits by request says that it is alive.
const BREATH: Duration = Duration::from_secs(1);

struct Rest {
    settings: Settings,
    clock: Clock,
    /// The rule, for the log.
    owner: String,
    /// Made anew after a connection could not be made, so that certificates are read again.
    client: Option<Client>,
    token: Option<Token>,
    /// The server asked to be left alone until then.
    quiet: Option<Time>,
    /// Told that a delivery goes on, which is one request after the other.
    report: Option<Report>,
}

#[async_trait::async_trait]
impl Sink for Rest {
    async fn connect(&mut self, report: Report) -> Result<()> {
        if !self.settings.url.contains("{{") {
            let url = parsed(&self.settings.url, self.settings.private).map_err(Fault::setup)?;
            knock(&url, self.settings.private)
                .await
                .map_err(|why| Fault::unreachable(format!("`{}`: {why}", shown(&url))))?;
        }
        self.logged_in(false).await?;
        report.set(Link::Connected);
        self.report = Some(report);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        for (delivered, parcel) in parcels.iter().enumerate() {
            self.send(parcel).await.map_err(|fault| Stopped { delivered, fault })?;
            self.progress();
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.client = None;
        Ok(())
    }
}

/// What came back: the status, where it points, how long to wait, and the text.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    retry_after: Option<String>,
    text: String,
}

impl Rest {
    fn progress(&self) {
        if let Some(report) = &self.report {
            report.progress();
        }
    }

    async fn client(&mut self) -> Result<Client> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let (tls, private) = (self.settings.tls.clone(), self.settings.private);
        let config = tokio::task::spawn_blocking(move || tls.config()).await;
        let config =
            config.map_err(|_| Fault::bug("the certificates could not be read"))?.map_err(Fault::unreachable)?;
        let builder = Client::builder()
            .tls_backend_preconfigured(config)
            .dns_resolver(Arc::new(Resolver { private }))
            .redirect(Policy::custom(move |attempt| follow(attempt, private)))
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true)
            .no_proxy();
        let client = builder.build().map_err(|error| Fault::setup(words(&error)))?;
        Ok(self.client.insert(client).clone())
    }

    /// Sees to it that there is a token, and one that holds; `anew` where the server does not take the one that is there.
    async fn logged_in(&mut self, anew: bool) -> Result<()> {
        let client = self.client().await?;
        let Some(login) = &self.settings.login else { return Ok(()) };
        let now = self.clock.now();
        if anew || self.token.as_ref().is_none_or(|token| token.is_old(now)) {
            let last = self.token.take().filter(|_| !anew);
            self.token = Some(login.get(&client, self.settings.timeout, last, now).await?);
        }
        Ok(())
    }

    async fn send(&mut self, parcel: &Parcel) -> Result<()> {
        let Content::Bytes(message) = &parcel.content else {
            return Err(Fault::bug("the rest sink was given rows"));
        };
        if let Some(until) = self.quiet {
            // It is waited for because it was asked for, which is no standstill.
            while self.clock.now() < until {
                self.progress();
                self.clock.sleep_until(until.min(self.clock.now() + BREATH)).await;
            }
            self.quiet = None;
        }
        let had = self.token.is_some();
        self.logged_in(false).await?;
        let url = parsed(parcel.prop("url", &self.settings.url), self.settings.private).map_err(Fault::refused)?;
        let what = format!("`{} {}`", self.settings.method, shown(&url));
        let mut answer = self.ask(&url, message, parcel, &what).await?;
        if answer.status == StatusCode::UNAUTHORIZED && had && self.settings.login.is_some() {
            // The token ended before its time.
            self.logged_in(true).await?;
            answer = self.ask(&url, message, parcel, &what).await?;
        }
        let Answer { status, location, retry_after, text } = answer;
        if self.settings.debug {
            tracing::info!(rule = self.owner, "{what} is answered {status}: {text}");
        }
        let mut fault = answer::judge(&what, status, location.as_deref(), &text);
        if fault.is_none() && self.settings.reads_code {
            fault = answer::judge_code(&what, &text);
        }
        let Some(fault) = fault else { return Ok(()) };
        let now = self.clock.now();
        let pause = retry_after.and_then(|asked| answer::pause(&asked, now));
        self.quiet = pause.map(|pause| Time(now.0.saturating_add(pause.as_millis() as i64)));
        Err(fault)
    }

    /// Sends one request and reads the answer.
    async fn ask(&mut self, url: &Url, message: &Bytes, parcel: &Parcel, what: &str) -> Result<Answer> {
        let client = self.client().await?;
        let request = self.request(&client, url, message, parcel)?;
        let answer = answer::in_time(self.settings.timeout, async { read(request.send().await?).await }).await;
        let answer = answer.ok_or_else(|| Fault::unreachable(format!("{what}: {}", answer::LATE)))?;
        answer.map_err(|error| {
            if error.is_connect() {
                self.client = None;
            }
            let why = answer::no_answer(&error, url.host_str().unwrap_or_default());
            match error.is_builder() {
                true => Fault::refused(format!("{what}: {why}")),
                false => Fault::unreachable(format!("{what}: {why}")),
            }
        })
    }

    fn request(&self, client: &Client, url: &Url, message: &Bytes, parcel: &Parcel) -> Result<RequestBuilder> {
        let settings = &self.settings;
        let mut request = client.request(settings.method.clone(), url.clone());
        let mut headers = HeaderMap::new();
        match settings.body {
            Body::None => {}
            Body::Whole(kind) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                if settings.gzip {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                request = request.body(message.clone());
            }
            Body::Form => {
                let name = self.clock.now().0.to_string();
                let file = Part::bytes(message.to_vec()).file_name(name);
                let mut form = Form::new().part(settings.file_field.clone(), file);
                for (name, path, value) in &settings.form {
                    form = form.text(name.clone(), parcel.prop(path, value).to_owned());
                }
                request = request.multipart(form);
            }
        }
        for (name, path, value) in &settings.headers {
            let value = match &self.token {
                Some(token) => header(&token.fill(value)?)?,
                None => header(parcel.prop(path, value))?,
            };
            headers.insert(name.clone(), value);
        }
        Ok(request.headers(headers))
    }
}

/// Reads an answer, so that its connection can be used again.
async fn read(mut response: Response) -> std::result::Result<Answer, reqwest::Error> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, location, retry_after) = (response.status(), text(LOCATION), text(RETRY_AFTER));
    let mut body = Vec::new();
    while body.len() < READ
        && let Some(piece) = response.chunk().await?
    {
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, location, retry_after, text: String::from_utf8_lossy(&body).into_owned() })
}

/// An answer that points elsewhere is followed only where the same request, with its message, is to be sent there.
fn follow(attempt: Attempt<'_>, private: bool) -> reqwest::redirect::Action {
    let same = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&attempt.status());
    if same && attempt.previous().len() <= HOPS && parsed(attempt.url().as_str(), private).is_ok() {
        return attempt.follow();
    }
    attempt.stop()
}

/// Whether someone listens there; the error says why not.
async fn knock(url: &Url, private: bool) -> std::result::Result<(), String> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let connected = within(PATIENCE, async {
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        let found: Vec<SocketAddr> = found.map_err(|_| format!("nobody knows the host `{host}`"))?.collect();
        if let Some(why) = found.iter().find_map(|address| refusal(address.ip(), private)) {
            return Err(why);
        }
        TcpStream::connect(&found[..]).await.map(drop).map_err(|error| words(&error))
    });
    connected.await.unwrap_or_else(|| Err("the server does not answer; check `url` and the network".into()))
}

/// An address as errors show it: without a password and without a query.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}
