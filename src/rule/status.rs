use serde_json::{Map, Value as Json, json};

use super::{Health, NodeKind, NodeStatus, Retries, RunStatus, State};
use crate::clock::Time;
use crate::flow::{JournalView, Tide};
use crate::io::{Link, LinkStatus};
use crate::meter::LedgerView;

/// A rule at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub state: State,
    /// Why it is in that state.
    pub message: String,
    /// `Time(0)`: never.
    pub started: Time,
    pub stopped: Time,
    /// When its schedule starts it the next time.
    pub next_start: Time,
    pub health: Health,
    pub retries: Retries,
    /// Of the run that is, or else of the last one.
    pub run: RunStatus,
}

impl Status {
    /// The status as REST gives it, keys in eKuiper's order, our accounts at the end.
    pub fn to_json(&self) -> Map<String, Json> {
        let mut all = Map::new();
        let mut put = |name: String, value: Json| {
            all.insert(name, value);
        };
        put("status".into(), self.state.name().into());
        put("message".into(), self.message.as_str().into());
        put("lastStartTimestamp".into(), self.started.0.into());
        put("lastStopTimestamp".into(), self.stopped.0.into());
        put("nextStartTimestamp".into(), self.next_start.0.into());
        for node in &self.run.nodes {
            node.print(&mut put);
        }
        put("ledger".into(), ledger(&self.run.ledger));
        let account = |sink: &crate::meter::SinkView| {
            json!({
                "results": sink.results,
                "delivered": sink.delivered,
                "queued": sink.queued,
                "dropped": sink.dropped,
                "dead": sink.dead,
            })
        };
        let sinks: Map<String, Json> =
            self.run.sinks.iter().map(|(name, sink)| (name.clone(), account(sink))).collect();
        put("sinks".into(), sinks.into());
        put("health".into(), self.health.to_json());
        let Retries { restarts, panics, next, .. } = self.retries;
        let next = next.unwrap_or_default().0;
        put("restarts".into(), json!({"total": restarts, "panics": panics, "nextTimestamp": next}));
        if let Some(Tide { watermark, waiting, held_by }) = &self.run.tide {
            let held_by: Vec<&str> = held_by.iter().map(|name| name.as_str()).collect();
            let at = watermark.map(|at| at.0);
            put("watermark".into(), json!({"at": at, "waiting": waiting, "heldBy": held_by}));
        }
        if let Some(journal) = &self.run.journal {
            put("journal".into(), journal_of(journal));
        }
        all
    }

    /// The error that happened last, of all nodes, and how many there were.
    pub fn exceptions(&self) -> (String, u64) {
        if self.state != State::Running {
            return (String::new(), 0);
        }
        let views = self.run.nodes.iter().map(|node| &node.view);
        views
            .filter(|view| view.exceptions > 0)
            .max_by_key(|view| view.last_exception_time)
            .map_or((String::new(), 0), |view| (view.last_exception.clone(), view.exceptions))
    }
}

fn journal_of(of: &JournalView) -> Json {
    json!({
        "logBytes": of.log_bytes,
        "snapshotTimestamp": of.snapshot.0,
        "snapshotBytes": of.snapshot_bytes,
        "snapshotPause": u64::try_from(of.snapshot_pause.as_millis()).unwrap_or(u64::MAX),
        "trouble": of.trouble,
        "warnings": of.warnings,
    })
}

/// The account of a rule's input rows, as REST gives it.
pub(super) fn ledger(of: &LedgerView) -> Json {
    json!({
        "in": of.came,
        "out": of.out,
        "filtered": of.filtered,
        "held": of.held,
        "late": of.late,
        "dropped": of.dropped,
        "dead": of.dead,
    })
}

impl NodeStatus {
    /// Its connection as eKuiper tells it: 1, or 0 while it is being made, or -1.
    pub fn connection(&self) -> i64 {
        match self.link.as_ref().map(|link| &link.link) {
            Some(Link::Connected) => 1,
            Some(Link::Disconnected(_)) => -1,
            Some(Link::Connecting) | None => 0,
        }
    }

    fn print(&self, put: &mut impl FnMut(String, Json)) {
        let kind = match self.kind {
            NodeKind::Source => "source",
            NodeKind::Op => "op",
            NodeKind::Sink => "sink",
        };
        let mut put = |metric: &str, value: Json| put(format!("{kind}_{}_0_{metric}", self.name), value);
        let view = &self.view;
        put("records_in_total", view.records_in.into());
        put("records_out_total", view.records_out.into());
        put("messages_processed_total", view.messages.into());
        put("process_latency_us", view.latency_us.into());
        put("buffer_length", view.buffered.into());
        put("last_invocation", view.last_invocation.into());
        put("exceptions_total", view.exceptions.into());
        put("last_exception", view.last_exception.as_str().into());
        put("last_exception_time", view.last_exception_time.into());
        if self.kind == NodeKind::Op {
            return;
        }
        let unknown = LinkStatus::default();
        let link = self.link.as_ref().unwrap_or(&unknown);
        put("connection_status", self.connection().into());
        put("connection_last_connected_time", link.connected.0.into());
        put("connection_last_disconnected_time", link.disconnected.0.into());
        put("connection_last_disconnected_message", link.reason.as_str().into());
        put("connection_last_try_time", link.tried.0.into());
        if !link.counts.is_empty() {
            put("counters", json!(link.counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::meter::{NodeView, SinkView};

    #[test]
    fn keys_stand_in_the_known_order() {
        let node = |kind, name: &str, exceptions, at| NodeStatus {
            kind,
            name: name.into(),
            view: NodeView {
                records_in: 3,
                exceptions,
                last_exception: format!("at {at}"),
                last_exception_time: at,
                ..NodeView::default()
            },
            link: (kind != NodeKind::Op).then(LinkStatus::default),
        };
        let status = Status {
            state: State::Running,
            message: String::new(),
            started: Time(5),
            stopped: Time(0),
            next_start: Time(6),
            health: Health { state: "healthy", ..Health::default() },
            retries: Retries { restarts: 2, panics: 1, next: Some(Time(9)), ..Retries::default() },
            run: RunStatus {
                nodes: vec![
                    node(NodeKind::Source, "demo", 1, 7),
                    node(NodeKind::Op, "2_decoder", 2, 9),
                    node(NodeKind::Sink, "log_0", 0, 0),
                ],
                ledger: LedgerView { came: 3, dead: BTreeMap::from([("decode", 3)]), ..LedgerView::default() },
                sinks: vec![("log_0".into(), SinkView::default())],
                tide: None,
                busy: None,
                journal: None,
            },
        };
        let json = status.to_json();
        let keys: Vec<&str> = json.keys().map(String::as_str).collect();
        let metrics = [
            "records_in_total",
            "records_out_total",
            "messages_processed_total",
            "process_latency_us",
            "buffer_length",
            "last_invocation",
            "exceptions_total",
            "last_exception",
            "last_exception_time",
            "connection_status",
            "connection_last_connected_time",
            "connection_last_disconnected_time",
            "connection_last_disconnected_message",
            "connection_last_try_time",
        ];
        let mut expected: Vec<String> =
            ["status", "message", "lastStartTimestamp", "lastStopTimestamp", "nextStartTimestamp"]
                .map(str::to_owned)
                .into();
        expected.extend(metrics.iter().map(|name| format!("source_demo_0_{name}")));
        expected.extend(metrics[..9].iter().map(|name| format!("op_2_decoder_0_{name}")));
        expected.extend(metrics.iter().map(|name| format!("sink_log_0_0_{name}")));
        expected.extend(["ledger", "sinks", "health", "restarts"].map(str::to_owned));
        assert_eq!(keys, expected);
        assert_eq!(json["nextStartTimestamp"], 6);
        assert_eq!(json["restarts"].to_string(), r#"{"total":2,"panics":1,"nextTimestamp":9}"#);
        assert_eq!(
            json["ledger"].to_string(),
            r#"{"in":3,"out":0,"filtered":0,"held":0,"late":0,"dropped":{},"dead":{"decode":3}}"#
        );
        assert_eq!(
            json["sinks"].to_string(),
            r#"{"log_0":{"results":0,"delivered":0,"queued":0,"dropped":{},"dead":{}}}"#
        );
        let tide = Tide { watermark: Some(Time(8)), waiting: 2, held_by: vec!["demo".into()] };
        let event = Status { run: RunStatus { tide: Some(tide), ..status.run.clone() }, ..status.clone() };
        assert_eq!(event.to_json()["watermark"].to_string(), r#"{"at":8,"waiting":2,"heldBy":["demo"]}"#);
        assert_eq!(status.exceptions(), ("at 9".to_owned(), 2));
        assert_eq!(Status { state: State::Stopped, ..status }.exceptions(), (String::new(), 0));
    }
}
