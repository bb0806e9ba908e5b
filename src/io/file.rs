//! `file`: a source that reads files or a folder of files, and a sink that writes files and rolls them.
//!
//! The source gives a file whole, line by line, or as the records of a CSV file; the sink appends results as lines, as
//! one JSON array, or as CSV. Neither looks into the messages. Disk work runs on threads where waiting is allowed.

mod claim;
mod csv;
mod folder;
mod lines;
mod mend;
mod place;
mod position;
mod roll;
mod sink;
mod source;

use crate::diag::{Fault, Result};

use super::{Connector, props};

pub(super) use source::words;

pub(super) const CONNECTOR: Connector = Connector {
    name: "file",
    about: "Read and write files.",
    defaults: include_str!("../../config/sources/file.yaml"),
    source: Some(source::plan),
    sink: Some(sink::plan),
    lookup: None,
    source_schema: Some(props::schema::<source::Options>),
    sink_schema: Some(props::schema::<sink::Options>),
};

/// Runs disk work where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::bug("disk work was given up"))
}
