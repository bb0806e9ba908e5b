//! The sources of a rule that is made of a graph: those that it defines by itself, and those that it only names.

use std::sync::Arc;

use super::{Def, Host};
use crate::catalog::Definition;
use crate::diag::Diagnostic;
use crate::plan::{Graph, GraphSource};

/// The streams that the graph of a rule defines by itself. Those that it only names must be of the types that it says.
pub(super) fn own_streams(def: &Def, host: &Host) -> Result<Vec<Arc<Definition>>, Vec<Diagnostic>> {
    let one = |found: Diagnostic| vec![found];
    let mut own = Vec::new();
    for source in def.graph.iter().map(Graph::sources).collect::<Result<Vec<_>, _>>().map_err(one)?.concat() {
        match source {
            GraphSource::Own { stream, statement } => {
                let in_node = |why: String| one(Diagnostic::error("K0922", format!("source `{stream}`: {why}")));
                let definition = Definition::parse(&statement).map_err(|why| in_node(why.to_string()))?;
                own.push(Arc::new(definition));
            }
            GraphSource::Existing { stream, connector } => {
                if let Some(found) = host.catalog.find(&stream).filter(|found| found.connector() != connector) {
                    let text = format!(
                        "source `{stream}` is of type `{}`, and the graph says `{connector}`",
                        found.connector()
                    );
                    return Err(one(Diagnostic::error("K0922", text)));
                }
            }
        }
    }
    Ok(own)
}
