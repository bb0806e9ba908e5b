//! `nop`: a sink that takes everything and keeps nothing, for measuring and for rules that are not done yet.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diag::{Diagnostic, Result};

use super::{Connector, Content, Link, Parcel, Report, Sink, SinkPlan, SinkSpec, Stopped, Takes, props};

pub(super) const CONNECTOR: Connector = Connector {
    name: "nop",
    about: "Take results and throw them away.",
    defaults: "",
    source: None,
    sink: Some(plan),
    lookup: None,
    source_schema: None,
    sink_schema: Some(props::schema::<Options>),
};

const NAMES: props::Names = props::Names::sink("the `nop` sink", &[]);

/// Options of the `nop` sink.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    /// Write each result to the log before it is thrown away.
    log: bool,
}

fn plan(spec: SinkSpec) -> Result<SinkPlan, Diagnostic> {
    let (options, warnings) = props::read::<Options>(&spec.props, &NAMES)?;
    let owner = spec.env.owner;
    let open = move || Ok(Box::new(Nop { log: options.log, owner: owner.clone() }) as Box<dyn Sink>);
    Ok(SinkPlan { open: Box::new(open), takes: Takes::Bytes, warnings, identity: None })
}

struct Nop {
    log: bool,
    owner: String,
}

#[async_trait::async_trait]
impl Sink for Nop {
    async fn connect(&mut self, report: Report) -> Result<()> {
        report.set(Link::Connected);
        Ok(())
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        if self.log {
            for parcel in parcels {
                if let Content::Bytes(bytes) = &parcel.content {
                    super::log::write(&self.owner, bytes);
                }
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
