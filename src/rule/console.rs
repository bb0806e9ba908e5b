//! Standard input as a source and standard output as a sink, for a rule in the foreground.

use std::io::{ErrorKind, Write as _};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::diag::{Diagnostic, Fault, Result};
use crate::io::{
    Closed, Connector, Content, End, Inlet, Link, Message, Parcel, Payload, Report, Sink, SinkPlan, SinkSpec, Source,
    SourcePlan, SourceSpec, Stopped, Takes, props,
};

/// Lines that are read, or results that are written, in one go.
const CHUNK: usize = 256;

/// Each line of standard input is a message.
pub const STDIN: Connector = Connector {
    name: "stdin",
    about: "Read lines from standard input.",
    defaults: "",
    source: Some(stdin),
    sink: None,
    lookup: None,
    source_schema: None,
    sink_schema: None,
};

/// Each result is a line on standard output.
pub const STDOUT: Connector = Connector {
    name: "stdout",
    about: "Write results to standard output.",
    defaults: "",
    source: None,
    sink: Some(stdout),
    lookup: None,
    source_schema: None,
    sink_schema: Some(props::schema::<Options>),
};

/// The process has one standard output, so there is one of this.
static READER_GONE: Notify = Notify::const_new();

/// Returns when nobody reads standard output any more.
pub async fn reader_gone() {
    READER_GONE.notified().await;
}

fn stdin(spec: SourceSpec) -> Result<SourcePlan, Diagnostic> {
    let clock = spec.env.clock;
    let open = move || Ok(Box::new(Stdin { clock: clock.clone() }) as Box<dyn Source>);
    Ok(SourcePlan { open: Box::new(open), gives_rows: false, seeks: false, warnings: Vec::new(), identity: None })
}

struct Stdin {
    clock: Clock,
}

#[async_trait::async_trait]
impl Source for Stdin {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        report.set(Link::Connected);
        let failed = |error: std::io::Error| Fault::setup(format!("cannot read standard input: {error}"));
        let mut input = BufReader::with_capacity(1 << 16, tokio::io::stdin());
        let mut chunk = Vec::new();
        loop {
            let mut line = Vec::new();
            let size = tokio::select! {
                size = input.read_until(b'\n', &mut line) => size.map_err(failed)?,
                () = inlet.closed() => return Ok(End::Closed),
            };
            while matches!(line.last(), Some(b'\n' | b'\r')) {
                line.pop();
            }
            if !line.is_empty() {
                let payload = Payload::Bytes(Bytes::from(line));
                chunk.push(Message { payload, time: self.clock.now(), meta: None, ack: None, delivery: None });
            }
            // What is there goes on at once; more only joins it when it is there already.
            let more = input.buffer().contains(&b'\n');
            let full = size == 0 || !more || chunk.len() >= CHUNK;
            if full && inlet.send(std::mem::take(&mut chunk)).await == Err(Closed) {
                return Ok(End::Closed);
            }
            if size == 0 {
                return Ok(End::Finished);
            }
        }
    }
}

/// Options of the `stdout` sink.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    /// What each line begins with.
    label: String,
}

fn stdout(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (options, warnings) = props::read::<Options>(&spec.props, &props::Names::sink("the `stdout` sink", &[]))?;
    let open = move || Ok(Box::new(Stdout { label: options.label.clone() }) as Box<dyn Sink>);
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings, identity: None })
}

struct Stdout {
    label: String,
}

#[async_trait::async_trait]
impl Sink for Stdout {
    async fn connect(&mut self, report: Report) -> Result<()> {
        report.set(Link::Connected);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        let mut lines = Vec::new();
        for parcel in parcels {
            let Content::Bytes(bytes) = &parcel.content else { continue };
            lines.extend_from_slice(self.label.as_bytes());
            lines.extend_from_slice(bytes);
            lines.push(b'\n');
        }
        // A reader that is slow makes the rule wait; the thread is lent out meanwhile.
        let write = move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&lines).and_then(|()| out.flush())
        };
        let written = tokio::task::spawn_blocking(write).await;
        match written.unwrap_or_else(|_| Err(std::io::Error::other("the writing broke off"))) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                // As `head` does when it has seen enough: no error, and no reason to go on.
                READER_GONE.notify_one();
                Ok(())
            }
            Err(error) => {
                Err(Stopped { delivered: 0, fault: Fault::setup(format!("cannot write to standard output: {error}")) })
            }
        }
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
