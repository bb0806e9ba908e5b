//! Where the rows of a rule say when they happened (`isEventTime`).

use crate::diag::Diagnostic;
use crate::expr::Bound;
use crate::sql;

use super::Stream;
use super::node::{SourceKind, Stamp, Stamps};
use super::scope::Names;

/// The timestamp columns of all streams, which are decoded whatever else is asked for. Tables need one too, but their
/// rows wait for nobody.
pub(super) fn stamps<'a>(
    names: &mut Names<'_>,
    written: impl Iterator<Item = &'a sql::Source>,
    found: &mut Vec<Diagnostic>,
) -> Option<Stamps> {
    let mut of = Vec::new();
    for (source, written) in written.enumerate() {
        let Stream { name, timestamp, timestamp_format, kind, .. } = names.sources[source].stream;
        let span = written.name.span;
        if *kind == SourceKind::Lookup {
            continue;
        }
        if timestamp.is_empty() {
            let text = format!("`isEventTime` needs the time of each row, but `{name}` declares no TIMESTAMP");
            found.push(Diagnostic::error("K0233", text).at(span).help("add `TIMESTAMP=\"column\"` to its WITH clause"));
            continue;
        }
        match names.column_of(source, timestamp, span) {
            Ok(Bound::Slot(slot, _)) if *kind == SourceKind::Stream => {
                let format = Some(timestamp_format.clone()).filter(|format| !format.is_empty());
                let stream = names.sources[source].name().clone();
                of.push(Stamp { source, stream, column: timestamp.clone(), slot, format });
            }
            Ok(_) => {}
            Err(problem) => found.push(problem),
        }
    }
    (!of.is_empty()).then_some(Stamps { of, source: names.source_slot })
}
