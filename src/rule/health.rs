//! How a rule is doing, told by its progress.
//!
//! A rule that runs is healthy, or degraded with the cause: a journal that cannot be written, a
//! connection that is not there, a sink that confirms nothing of what it has, rows that an operator does not let go. Silence of a source is no illness, for nobody knows whether
//! it has anything to say.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{NodeKind, NodeStatus, RunStatus, State};
use crate::clock::Time;
use crate::diag::Diagnostic;
use crate::io::Link;

/// How long something may take before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(10);

/// How a rule is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    pub state: &'static str,
    /// Why it is not healthy.
    pub reason: String,
    /// When rows came the last time; `Time(0)`: never.
    pub last_input: Time,
    /// When a sink confirmed something the last time; `Time(0)`: never.
    pub last_confirmation: Time,
    /// How old the oldest message is that a sink has and did not confirm.
    pub oldest: Option<Duration>,
}

impl Health {
    /// `message` is what the rule says of its state, `started` when its run began.
    pub fn of(state: State, message: &str, run: &RunStatus, started: Time, now: Time) -> Health {
        let of = |kind| run.nodes.iter().filter(move |node: &&NodeStatus| node.kind == kind);
        let last_input = of(NodeKind::Source).map(|node| Time(node.view.last_invocation)).max().unwrap_or_default();
        let last_confirmation = of(NodeKind::Sink).map(|node| Time(node.view.confirmed)).max().unwrap_or_default();
        let mut health = Health { last_input, last_confirmation, ..Health::default() };
        (health.state, health.reason) = match state {
            State::Running => {
                health.oldest = of(NodeKind::Sink).filter_map(owed).min().map(|since| now.since(since));
                match illness(run, started, now) {
                    Some(reason) => ("degraded", reason),
                    None => ("healthy", String::new()),
                }
            }
            State::StoppedByError => ("failed", message.to_owned()),
            _ => ("stopped", String::new()),
        };
        health
    }

    /// Connections of a rule that runs which others take from it. Nothing else tells of it while both are connected; a
    /// journal that cannot be written is told first.
    pub fn rivals(&mut self, run: &RunStatus, found: &[Diagnostic]) {
        let runs = self.state == "healthy" || self.state == "degraded";
        let is_held_up = run.journal.as_ref().is_some_and(|journal| !journal.trouble.is_empty());
        if let Some(first) = found.first().filter(|_| runs && !is_held_up) {
            (self.state, self.reason) = ("degraded", first.to_string());
        }
    }

    pub fn to_json(&self) -> Json {
        json!({
            "state": self.state,
            "reason": self.reason,
            "lastInputTimestamp": self.last_input.0,
            "lastConfirmationTimestamp": self.last_confirmation.0,
            "oldestUnconfirmedMs": self.oldest.unwrap_or_default().as_millis() as u64,
        })
    }
}

/// Since when a sink has something that it did not confirm.
fn owed(node: &NodeStatus) -> Option<Time> {
    Some(Time(node.view.owed)).filter(|since| since.0 != 0)
}

fn illness(run: &RunStatus, started: Time, now: Time) -> Option<String> {
    let name = |node: &NodeStatus| match node.kind {
        NodeKind::Source => format!("the source `{}`", node.name),
        NodeKind::Op => format!("the operator `{}`", node.name),
        NodeKind::Sink => format!("the sink `{}`", node.name),
    };
    // What cannot be written to the disk holds up everything else, and is said by nothing else.
    if let Some(journal) = &run.journal
        && !journal.trouble.is_empty()
    {
        return Some(journal.trouble.clone());
    }
    // A connection that is away explains all that follows from it.
    for node in &run.nodes {
        let Some(link) = &node.link else { continue };
        let (since, why) = match &link.link {
            Link::Connected => continue,
            Link::Disconnected(why) => (link.disconnected, why.as_str()),
            Link::Connecting if now.since(started) > LIMIT => (started, "there is no answer yet"),
            Link::Connecting => continue,
        };
        return Some(format!("{} has had no connection for {}: {why}", name(node), span(since, now)));
    }
    for node in &run.nodes {
        let Some(since) = owed(node).map(|since| since.max(Time(node.view.confirmed))) else { continue };
        if now.since(since) > LIMIT {
            return Some(format!("{} has confirmed nothing for {}", name(node), span(since, now)));
        }
    }
    let busy = run.busy.filter(|since| now.since(*since) > LIMIT)?;
    Some(format!("the operators have been at one batch of rows for {}", span(busy, now)))
}

fn span(since: Time, now: Time) -> String {
    format!("{} s", now.since(since).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::JournalView;
    use crate::io::LinkStatus;
    use crate::meter::NodeView;

    const NOW: Time = Time(100_000);

    fn node(kind: NodeKind, link: Link, view: NodeView) -> NodeStatus {
        let link = LinkStatus { link, disconnected: Time(60_000), ..LinkStatus::default() };
        NodeStatus { kind, name: "n".into(), view, link: Some(link) }
    }

    fn of(nodes: Vec<NodeStatus>, busy: Option<Time>) -> Health {
        let run = RunStatus { nodes, busy, ..RunStatus::default() };
        Health::of(State::Running, "", &run, Time(80_000), NOW)
    }

    fn sink(owed: i64, confirmed: i64) -> NodeStatus {
        node(NodeKind::Sink, Link::Connected, NodeView { owed, confirmed, ..NodeView::default() })
    }

    #[test]
    fn a_rule_is_ill_with_its_cause() {
        let plain = NodeView::default;
        let away = || Link::Disconnected("refused".into());
        for (nodes, busy, expected) in [
            (vec![node(NodeKind::Source, Link::Connected, plain()), sink(0, 0)], None, ""),
            (vec![sink(95_000, 0)], Some(Time(95_000)), ""),
            (vec![sink(20_000, 95_000)], None, ""),
            (vec![sink(20_000, 70_000)], None, "the sink `n` has confirmed nothing for 30 s"),
            (vec![sink(20_000, 0)], Some(Time(20_000)), "the sink `n` has confirmed nothing for 80 s"),
            (vec![sink(0, 0)], Some(Time(20_000)), "the operators have been at one batch of rows for 80 s"),
            (
                vec![node(NodeKind::Source, away(), plain()), sink(20_000, 0)],
                None,
                "the source `n` has had no connection for 40 s: refused",
            ),
            (
                vec![node(NodeKind::Sink, Link::Connecting, plain())],
                None,
                "the sink `n` has had no connection for 20 s: there is no answer yet",
            ),
        ] {
            let health = of(nodes, busy);
            assert_eq!(health.reason, expected);
            assert_eq!(health.state, if expected.is_empty() { "healthy" } else { "degraded" });
        }
    }

    #[test]
    fn a_journal_that_cannot_be_written_is_the_cause() {
        let trouble = "the input log cannot be written: cannot write `x.log`: the disk is full";
        let journal = JournalView { trouble: trouble.into(), ..JournalView::default() };
        let nodes = vec![sink(20_000, 0)];
        let run = RunStatus { nodes, busy: Some(Time(99_000)), journal: Some(journal), ..RunStatus::default() };
        let health = Health::of(State::Running, "", &run, Time(80_000), NOW);
        assert_eq!((health.state, health.reason.as_str()), ("degraded", trouble));
        let mended = RunStatus { nodes: vec![], journal: Some(JournalView::default()), ..run };
        assert_eq!(Health::of(State::Running, "", &mended, Time(80_000), NOW).state, "healthy");
    }

    #[test]
    fn what_was_last_and_what_is_oldest_is_told() {
        let view = |at| NodeView { last_invocation: at, ..NodeView::default() };
        let nodes = vec![
            node(NodeKind::Source, Link::Connected, view(5)),
            node(NodeKind::Source, Link::Connected, view(7)),
            sink(99_000, 3),
            sink(98_000, 9),
            sink(0, 0),
        ];
        assert_eq!(
            of(nodes.clone(), None).to_json().to_string(),
            r#"{"state":"healthy","reason":"","lastInputTimestamp":7,"lastConfirmationTimestamp":9,"oldestUnconfirmedMs":2000}"#
        );
        let run = RunStatus { nodes, ..RunStatus::default() };
        let failed = Health::of(State::StoppedByError, "gone", &run, Time(0), NOW);
        assert_eq!((failed.state, failed.reason.as_str(), failed.oldest), ("failed", "gone", None));
        assert_eq!(Health::of(State::ScheduledStop, "x", &run, Time(0), NOW).state, "stopped");
    }
}
