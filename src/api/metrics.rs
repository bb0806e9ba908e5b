//! What Prometheus scrapes: the counters of the status of every rule, the accounts, and what the process takes.
//!
//! Names and labels of the nodes' series are eKuiper's, the values those of `GET /rules/{id}/status` at that moment. The
//! accounts are ours, and outlive restarts as they do there. A rule that is deleted takes its series with it, for
//! nothing is remembered here.

mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;

use super::answer::{Answer, body_of, text};
use super::{Call, Refusal, Server, close, process, routes};
use crate::diag::Fault;
use crate::meter::{ByReason, NodeView};
use crate::rule::{NodeKind, Rules, State, Status};

use text::Kind::{Counter, Gauge};
use text::{CONTENT_TYPE, Family, Kind, Page};

/// The status of each rule, by its id.
type All = [(String, Status)];

/// What there is of each node.
struct Metric {
    /// Behind the kind of the node.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&NodeView) -> u64,
}

const NODE: &[Metric] = &[
    Metric { name: "records_in_total", kind: Counter, help: "Rows that came in.", value: |view| view.records_in },
    Metric { name: "records_out_total", kind: Counter, help: "Rows that went out.", value: |view| view.records_out },
    Metric { name: "messages_processed_total", kind: Counter, help: "Rows processed.", value: |view| view.messages },
    Metric { name: "exceptions_total", kind: Counter, help: "Errors.", value: |view| view.exceptions },
    Metric {
        name: "process_latency_us",
        kind: Gauge,
        help: "Microseconds that the last call took.",
        value: |view| view.latency_us,
    },
    Metric { name: "buffer_length", kind: Gauge, help: "How much waits before the node.", value: |view| view.buffered },
];

/// The same for a server that answers this alone.
pub(super) fn router(server: Arc<Server>) -> Router {
    let answer = |Shared(server): Shared<Arc<Server>>| async move {
        scraped(server).await.unwrap_or_else(Refusal::into_response)
    };
    let all = Router::new().route("/metrics", get(answer)).fallback(async || routes::nowhere());
    all.layer(map_response(close)).with_state(server)
}

/// `GET /metrics` of the REST interface.
pub(super) async fn scrape(call: Call) -> Answer {
    scraped(call.server).await
}

/// Metrics are not written to files here.
pub(super) async fn dump(_: Call) -> Answer {
    Err(Refusal::bad("metrics dump not enabled"))
}

pub(super) async fn dumps(_: Call) -> Answer {
    Ok(text(StatusCode::OK, "disabled"))
}

/// With many rules it takes a while, which must not hold up those.
async fn scraped(server: Arc<Server>) -> Result<Response, Refusal> {
    let told = tokio::task::spawn_blocking(move || page(&server.rules)).await;
    let told = told.map_err(|_| Refusal::from(Fault::bug("telling the metrics panicked")))?;
    Ok(body_of(StatusCode::OK, CONTENT_TYPE, told))
}

fn page(rules: &Rules) -> String {
    let (all, mut page) = (rules.statuses(), Page::default());
    nodes(&mut page, &all);
    states(&mut page, &all);
    ledgers(&mut page, &all);
    sinks(&mut page, &all);
    machine(&mut page);
    page.into_text()
}

fn nodes(page: &mut Page, all: &All) {
    for (kind, of) in [(NodeKind::Source, "source"), (NodeKind::Op, "op"), (NodeKind::Sink, "sink")] {
        let nodes = || {
            let nodes =
                all.iter().flat_map(|(rule, status)| status.run.nodes.iter().map(move |node| (rule.as_str(), node)));
            nodes.filter(move |(_, node)| node.kind == kind)
        };
        let labels = |rule, op| [("rule", rule), ("type", of), ("op", op), ("op_instance", "0")];
        for metric in NODE {
            let name = format!("kuiper_{of}_{}", metric.name);
            let mut family = page.family(&name, metric.kind, metric.help);
            nodes().for_each(|(rule, node)| family.sample(&labels(rule, &node.name), (metric.value)(&node.view)));
        }
        if kind != NodeKind::Op {
            let (name, help) =
                (format!("kuiper_{of}_connection_status"), "1 connected, 0 connecting, -1 disconnected.");
            let mut family = page.family(&name, Gauge, help);
            nodes().for_each(|(rule, node)| family.sample(&labels(rule, &node.name), node.connection()));
        }
    }
}

fn states(page: &mut Page, all: &All) {
    let mut family = page.family("kuiper_rule_status", Gauge, "1 running, 0 stopped, -1 stopped by an error.");
    for (rule, status) in all {
        let state = match status.state {
            State::Running => 1,
            State::StoppedByError => -1,
            State::Stopped | State::Starting | State::Stopping | State::ScheduledStop => 0,
        };
        family.sample(&[("rule", rule)], state);
    }
    let running = all.iter().filter(|(_, status)| status.state == State::Running).count();
    let mut family = page.family("kuiper_rule_count", Gauge, "Rules that run, and those that do not.");
    family.sample(&[("status", "running")], running);
    family.sample(&[("status", "stop")], all.len() - running);
}

fn ledgers(page: &mut Page, all: &All) {
    let mut family = page.family("kuiper_rule_rows_in_total", Counter, "Rows that came to the rule, by its ledger.");
    all.iter().for_each(|(rule, status)| family.sample(&[("rule", rule)], status.run.ledger.came));
    let help = "Rows that have met their end, by the ledger of the rule; with those that are held, all that came.";
    let mut family = page.family("kuiper_rule_rows_total", Counter, help);
    for (rule, status) in all {
        let ledger = &status.run.ledger;
        for (fate, rows) in [("out", ledger.out), ("filtered", ledger.filtered), ("late", ledger.late)] {
            family.sample(&[("rule", rule), ("fate", fate), ("reason", "")], rows);
        }
        reasons(&mut family, &[("rule", rule), ("fate", "dropped")], &ledger.dropped);
        reasons(&mut family, &[("rule", rule), ("fate", "dead")], &ledger.dead);
    }
    let mut family =
        page.family("kuiper_rule_rows_held", Gauge, "Rows that operators keep, by the ledger of the rule.");
    all.iter().for_each(|(rule, status)| family.sample(&[("rule", rule)], status.run.ledger.held));
}

fn sinks(page: &mut Page, all: &All) {
    let sinks = || {
        all.iter().flat_map(|(rule, status)| {
            status.run.sinks.iter().map(move |(name, view)| ([("rule", rule.as_str()), ("op", name.as_str())], view))
        })
    };
    let help = "Rows that came to the sink, by its account.";
    let mut family = page.family("kuiper_sink_rows_in_total", Counter, help);
    sinks().for_each(|(labels, view)| family.sample(&labels, view.results));
    let help = "Rows that have met their end, by the account of the sink; with those in its queue, all that came.";
    let mut family = page.family("kuiper_sink_rows_total", Counter, help);
    for ([rule, op], view) in sinks() {
        family.sample(&[rule, op, ("fate", "delivered"), ("reason", "")], view.delivered);
        reasons(&mut family, &[rule, op, ("fate", "dropped")], &view.dropped);
        reasons(&mut family, &[rule, op, ("fate", "dead")], &view.dead);
    }
    let help = "Rows in the disk queue of the sink, by its account.";
    let mut family = page.family("kuiper_sink_rows_queued", Gauge, help);
    sinks().for_each(|(labels, view)| family.sample(&labels, view.queued));
}

fn reasons(family: &mut Family<'_>, labels: &[(&str, &str)], counts: &ByReason) {
    for (reason, rows) in counts {
        let all: Vec<(&str, &str)> = labels.iter().copied().chain([("reason", *reason)]).collect();
        family.sample(&all, rows);
    }
}

fn machine(page: &mut Page) {
    let cpu = "Processor time of the process, user and system, in seconds.";
    page.alone("process_cpu_seconds_total", Counter, cpu, process::cpu_seconds());
    page.alone("process_resident_memory_bytes", Gauge, "Memory in use.", process::memory_used());
    page.alone("process_virtual_memory_bytes", Gauge, "Addresses in use.", process::memory_mapped());
    page.alone("process_open_fds", Gauge, "Files, sockets and the like that are open.", process::open_files());
    page.alone("process_max_fds", Gauge, "How many of them may be.", process::most_files());
    let began = "When the process began, in seconds since 1970.";
    page.alone("process_start_time_seconds", Gauge, began, process::start_seconds());
}
