//! What a rule reads and computes: its statement, or its graph, planned over the streams that are there and those that a
//! graph brings with it.

use std::sync::Arc;

use super::plan_stream;
use crate::catalog::Definition;
use crate::diag::Diagnostic;
use crate::func::Catalogue;
use crate::plan::{self, GraphSink, Plan};
use crate::rule::{Def, Host};
use crate::sql;

/// The stream or table of that name: a graph's own first.
pub fn defined(name: &str, own: &[Arc<Definition>], host: &Host) -> Option<Arc<Definition>> {
    own.iter().find(|stream| stream.name == name).cloned().or_else(|| host.catalog.find(name))
}

/// Plans the statement of a rule, or its graph, whose sinks stand beside the plan.
pub fn read(
    def: &Def,
    host: &Host,
    own: &[Arc<Definition>],
    functions: &Catalogue,
) -> Result<(Plan, Vec<GraphSink>), Vec<Diagnostic>> {
    let find = |name: &str| defined(name, own, host).map(|definition| plan_stream(&definition));
    let options = plan::Options { ignore_case: host.ignore_case, temporary: def.temp, ..def.options.for_plan() };
    if let Some(graph) = &def.graph {
        return plan::plan_graph(graph, &find, functions, &options);
    }
    let select = sql::parse_select(&def.sql)?;
    let planned = plan::plan(&select, &find, functions, &options);
    let near =
        |found: Vec<Diagnostic>| found.into_iter().map(|one| with_nearest(one, host, &def.sql)).collect::<Vec<_>>();
    Ok((planned.map_err(near)?, Vec::new()))
}

/// Proposes the stream or table that was meant.
fn with_nearest(found: Diagnostic, host: &Host, sql: &str) -> Diagnostic {
    let name = found.span.and_then(|span| sql.get(span.start as usize..span.end as usize));
    match name {
        Some(name) if found.code == "K0201" => {
            let names = host.catalog.names();
            found.suggest(name.trim_matches('`'), names.iter().map(String::as_str))
        }
        _ => found,
    }
}
