//! `log`: a sink that writes each result to the log at level info, under the target `kuiper::sink::log`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diag::{Diagnostic, Result};

use super::{Connector, Content, Link, Parcel, Report, Sink, SinkPlan, SinkSpec, Stopped, Takes, props};

pub(super) const CONNECTOR: Connector = Connector {
    name: "log",
    about: "Write results to the log.",
    defaults: "",
    source: None,
    sink: Some(plan),
    lookup: None,
    source_schema: None,
    sink_schema: Some(props::schema::<Options>),
};

const NAMES: props::Names = props::Names::sink("the `log` sink", &[]);

/// Options of the `log` sink: none of its own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct Options {}

fn plan(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (_, warnings) = props::read::<Options>(&spec.props, &NAMES)?;
    let owner = spec.env.owner;
    let open = move || Ok(Box::new(Log { owner: owner.clone() }) as Box<dyn Sink>);
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings, identity: None })
}

struct Log {
    owner: String,
}

/// Writes one result of a rule to the log; bytes that are no text are shown with replacement characters.
pub(super) fn write(rule: &str, result: &[u8]) {
    tracing::info!(target: "kuiper::sink::log", rule, "{}", String::from_utf8_lossy(result));
}

#[async_trait::async_trait]
impl Sink for Log {
    async fn connect(&mut self, report: Report) -> Result<()> {
        report.set(Link::Connected);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        for parcel in parcels {
            if let Content::Bytes(bytes) = &parcel.content {
                write(&self.owner, bytes);
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use serde_json::Map;
    use tracing_subscriber::fmt::MakeWriter;

    use crate::io::tests::env;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Paper {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Paper {
        type Writer = Paper;
        fn make_writer(&'a self) -> Paper {
            self.clone()
        }
    }

    #[test]
    fn results_are_written_at_info_with_the_rule() {
        let paper = Paper::default();
        let subscriber = tracing_subscriber::fmt().with_writer(paper.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            let spec = SinkSpec { props: Map::new(), format: Default::default(), durable: false, env: env(".") };
            let mut sink = (plan(spec).unwrap().open)().unwrap();
            let parcel = Parcel { content: Content::Bytes(Bytes::from_static(b"{\"a\":1}")), props: vec![] };
            futures_util::FutureExt::now_or_never(sink.deliver(&[parcel])).unwrap().unwrap();
        });
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("INFO kuiper::sink::log: {\"a\":1} rule=\"me\""), "{text}");
    }
}
