//! `kuiper serve`.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::demo;
use super::print::{FAILED, USAGE, fail, findings, logs};
use crate::api::{self, Server};
use crate::config::{Flags, Settings};

/// Run the server: rules, and the REST interface that manages them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Settings; without it, config/kuiper.yaml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of definitions, uploads and plugins [default: ./data].
    #[arg(long, value_name = "DIR", conflicts_with = "demo")]
    data: Option<PathBuf>,
    /// Address of the REST interface [default: 127.0.0.1:9081].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// error, warn, info, debug or trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Show what this is: a simulated stream and two rules, rows on the terminal, nothing kept.
    #[arg(long)]
    demo: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    let flags = Flags { config: args.config, data: args.data, listen: args.listen, log_level: args.log_level };
    // The demo speaks on standard output; its log tells what goes wrong.
    let quiet = args.demo && flags.log_level.is_none();
    let (settings, warnings) = match Settings::load(&flags, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(errors) => return findings(&errors),
    };
    logs(if quiet { "warn" } else { &settings.log_level }, "");
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format!("cannot begin: {error}")),
    };
    let status = runtime.block_on(serve(settings, args.demo));
    // Whoever still waits for a file or a library waits for nothing.
    runtime.shutdown_timeout(Duration::from_millis(100));
    status
}

/// Two threads carry all rules: more would cost memory, and no machine at the edge is waiting for them.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("kuiper").enable_all().build()
}

async fn serve(settings: Settings, with_demo: bool) -> ExitCode {
    let listener = match listen(settings.listen, "--listen").await {
        Ok(listener) => listener,
        Err(text) => return fail(USAGE, text),
    };
    let mut scraped = None;
    if let Some(port) = settings.metrics.filter(|port| *port != settings.listen.port()) {
        match listen((Ipv4Addr::UNSPECIFIED, port).into(), "basic.prometheusPort").await {
            Ok(listener) => scraped = Some(listener),
            Err(text) => return fail(USAGE, text),
        }
    }
    let (server, told) = match Server::open(&settings, with_demo) {
        Ok(opened) => opened,
        Err(fault) => return fail(USAGE, fault),
    };
    for text in told {
        tracing::error!("{text}");
    }
    let mut ended = match end() {
        Ok(end) => std::pin::pin!(end),
        Err(error) => return fail(FAILED, format!("cannot wait for signals: {error}")),
    };
    let address = listener.local_addr().unwrap_or(settings.listen);
    tracing::info!("kuiper {} answers on http://{address}", env!("CARGO_PKG_VERSION"));
    if let Some(port) = settings.metrics {
        tracing::info!("Serving prometheus metrics on port http://localhost:{port}/metrics");
    }
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let closed = closed.map(drop).shared();
    let scraped = scraped.map(|listener| tokio::spawn(api::serve_metrics(listener, server.clone(), closed.clone())));
    let answering = tokio::spawn(api::serve(listener, server.clone(), closed));
    let rules = server.rules.clone();
    let resuming = tokio::spawn(async move { rules.resume().await });
    if with_demo && let Err(text) = demo::begin(&server, address).await {
        return fail(FAILED, text);
    }
    let (why, status) = tokio::select! {
        signal = ended.as_mut() => (format!("{signal} received"), ExitCode::SUCCESS),
        status = server.asked_to_end() => ("a client asked for the end".to_owned(), ExitCode::from(status)),
    };
    tracing::info!("{why}, stopping");
    // Nobody waits twice for an impatient user.
    tokio::spawn(async {
        if let Ok(again) = end() {
            again.await;
            std::process::exit(i32::from(FAILED));
        }
    });
    resuming.abort();
    // Before the rules are stopped nobody lets sources be read any more.
    let _ = resuming.await;
    let _ = close.send(());
    // Requests that are open may end; those that wait for the end of a rule will.
    let mut answering = answering;
    let (_, answered) = tokio::join!(
        server.rules.shutdown(settings.shutdown),
        tokio::time::timeout(settings.shutdown, &mut answering),
    );
    if answered.is_err() {
        answering.abort();
    }
    // Whoever is at it reads of rules that have stopped.
    scraped.iter().for_each(|scraped| scraped.abort());
    tracing::info!("stopped");
    status
}

/// `by`: what chooses the address.
async fn listen(address: SocketAddr, by: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            format!("{address} is in use; stop the program that listens there, or choose another with `{by}`")
        }
        ErrorKind::AddrNotAvailable => {
            format!("{address} is no address of this machine; choose another with `{by}`")
        }
        ErrorKind::PermissionDenied => {
            format!("listening on {address} is not allowed; choose a port above 1023 with `{by}`")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

/// Becomes the name of the signal that ends the process.
pub(super) fn end() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}
