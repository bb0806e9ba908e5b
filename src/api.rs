//! REST: the routes of eKuiper's management interface over rules, catalog and plugins.
//!
//! - A [`Server`] is what the handlers share. [`serve`] answers on a socket until it is told to end.
//! - The routes are rows of one table in `routes`; a row names method, path and handler, and the first that fits wins.
//! - A handler takes a `Call` and gives an `Answer`; what was refused knows its status and code.
//! - Prometheus scrapes what `metrics` tells, on a port of its own ([`serve_metrics`]) or on that of REST.
//!
//! Bodies and codes are those that clients of eKuiper read. Each answer closes its connection.

mod answer;
mod call;
mod fetch;
mod json;
mod keyed;
mod metadata;
mod metrics;
mod plugins;
mod process;
mod queues;
mod routes;
mod rules;
mod streams;
mod system;
mod uploads;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::serve::ListenerExt as _;
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::cors::{Any, CorsLayer};

use crate::catalog::Command;
use crate::config::Settings;
use crate::diag::{Fault, Result};
use crate::plugin::{Policy, PublicKey};
use crate::rule::{Host, Rules, STDOUT, Setup, engine, isolation};

use answer::{Answer, Refusal};
use call::Call;

/// How long the answer may take that says that the process will end.
const ANSWERED: Duration = Duration::from_secs(1);

/// What the handlers share.
pub struct Server {
    pub rules: Arc<Rules>,
    /// Whether `file://` may name a file outside of the folder of uploads.
    external_files: bool,
    /// Bytes that a file may have that is fetched, and how long that may take.
    download: (u64, Duration),
    /// Whether the REST interface tells the metrics too.
    metrics: bool,
    /// The status that the process is to end with, once it is to end.
    ending: watch::Sender<Option<u8>>,
}

impl Server {
    /// Opens the data folder and loads what it holds; a `demo` has a temporary one and rows on standard output. What
    /// could not be loaded is told beside.
    pub fn open(settings: &Settings, demo: bool) -> Result<(Arc<Server>, Vec<String>)> {
        let keys = settings.install.trusted.iter().map(|key| PublicKey::read(key)).collect::<Result<_, String>>();
        let policy = Policy {
            scripts: settings.install.scripts.unwrap_or_else(|| settings.listen.ip().is_loopback()),
            script_limit: settings.install.script_limit,
            trusted: keys.map_err(|wrong| Fault::setup(format!("`plugins.trustedKeys`: {wrong}")))?,
            deaths: true,
        };
        let setup = Setup {
            data: (!demo).then(|| settings.data.clone()),
            plugins: None,
            policy,
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
            connectors: if demo { vec![STDOUT] } else { Vec::new() },
        };
        let (host, told) = Host::open(setup)?;
        let rules = Rules::open(Arc::new(host), engine())?;
        let (external_files, download) = (settings.external_files, settings.download);
        let (metrics, ending) = (settings.metrics == Some(settings.listen.port()), watch::Sender::new(None));
        Ok((Arc::new(Server { rules, external_files, download, metrics, ending }), told))
    }

    /// Has the process end with that status, after its answer has gone out.
    fn end(&self, status: u8) {
        let ending = self.ending.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ANSWERED).await;
            ending.send_replace(Some(status));
        });
    }

    /// Becomes the status that the process is to end with, when a client asks for its end.
    pub async fn asked_to_end(&self) -> u8 {
        let mut ending = self.ending.subscribe();
        match ending.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // The sender is in here.
            _ => std::future::pending().await,
        }
    }

    /// Defines a stream and the configuration key that its source reads, for a server that sets itself up.
    pub fn define(&self, statement: &str, connector: &str, key: &str, properties: Json) -> Result<(), String> {
        let catalog = &self.host().catalog;
        if let Json::Object(properties) = properties {
            let keys = catalog.conf_keys();
            keys.put("sources", connector, key, properties).map_err(|fault| fault.to_string())?;
        }
        let command = Command::parse(statement).map_err(|refused| refused.to_string())?;
        self.host().run(command).map(drop).map_err(|refused| refused.to_string())
    }

    fn host(&self) -> &Arc<Host> {
        self.rules.host()
    }
}

/// The router, for a socket or for a test.
pub fn router(server: Arc<Server>) -> Router {
    const HEADERS: [HeaderName; 6] = [
        header::ACCEPT,
        header::ACCEPT_LANGUAGE,
        header::CONTENT_TYPE,
        header::CONTENT_LANGUAGE,
        header::ORIGIN,
        header::AUTHORIZATION,
    ];
    const METHODS: [Method; 6] = [Method::POST, Method::GET, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    let cors = CorsLayer::new().allow_origin(Any).allow_headers(HEADERS).allow_methods(METHODS);
    Router::new()
        .fallback(dispatch)
        // Uploads are as large as they are; the handlers have their own limits.
        .layer(DefaultBodyLimit::disable())
        .layer(cors)
        .layer(map_response(close))
        .with_state(server)
}

async fn dispatch(State(server): State<Arc<Server>>, request: Request) -> Response {
    routes::answer(server, request).await
}

async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers on the socket until `end`, then lets the open requests finish.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    answer_on(listener, router(server), end).await
}

/// Tells the metrics, and nothing else, on the socket until `end`.
pub async fn serve_metrics(
    listener: TcpListener,
    server: Arc<Server>,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    answer_on(listener, metrics::router(server), end).await
}

async fn answer_on(
    listener: TcpListener,
    router: Router,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // An answer is one write; waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await
        .map_err(|error| Fault::unreachable(format!("answering requests failed: {error}")))
}
