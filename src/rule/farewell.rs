//! The end of the answer to the deletion of a rule: what went undelivered with it, and where its dead letters are.
//!
//! What this program keeps in its data folder goes with the rule: state, input log, queues. What a sink has written, dead
//! letters too, is the user's, like all that it was given before.

use super::{Def, Host, RunStatus};
use crate::options::Action;

/// Rows that went with the rule: those that it held, and those that were thrown away when it was stopped for this;
/// `before` is how it was then.
pub(super) fn undelivered(before: &RunStatus, after: &RunStatus) -> String {
    let stopped = |run: &RunStatus| run.ledger.dropped.get("stop").copied().unwrap_or_default();
    let held = u64::try_from(after.ledger.held).unwrap_or_default();
    match held + stopped(after).saturating_sub(stopped(before)) {
        0 => String::new(),
        1 => " 1 row that it held went undelivered.".to_owned(),
        rows => format!(" {rows} rows that it held went undelivered."),
    }
}

/// What an error says, as one more sentence of the answer.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    format!(" {}{}.", first.collect::<String>(), letters.as_str())
}

/// Where its dead letters are, for each sink that has any.
pub(super) fn dead_letters(host: &Host, def: &Def, run: &RunStatus) -> String {
    let of_actions = def.actions.iter().filter_map(|action| {
        let name = format!("dead_{}_{}", action.sink, action.index);
        action.dead.as_deref().map(|dead| (name, dead))
    });
    let all = def.options.dead_letter.as_ref().map(|dead| ("dead".to_owned(), dead)).into_iter().chain(of_actions);
    let line = |(name, dead): (String, &Action)| {
        let has = run.sinks.iter().any(|(sink, account)| *sink == name && account.delivered > 0);
        let path = dead.props.iter().find(|(name, _)| name.eq_ignore_ascii_case("path"));
        match path.and_then(|(_, path)| path.as_str()).filter(|_| dead.sink == "file") {
            Some(path) if has || host.root().join(path).exists() => format!(" Its dead letters stay in `{path}`."),
            None if has => format!(" Its dead letters are where its `{}` sink has sent them.", dead.sink),
            _ => String::new(),
        }
    };
    all.map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::host::tests::host;
    use super::*;
    use crate::meter::{LedgerView, SinkView};

    #[test]
    fn the_answer_says_what_went_and_what_stays() {
        let run = |held, stopped: u64, dead: u64| {
            let ledger = LedgerView { held, dropped: [("stop", stopped)].into(), ..LedgerView::default() };
            let view = SinkView { delivered: dead, ..SinkView::default() };
            let sinks = [("dead".to_owned(), view.clone()), ("dead_nop_0".to_owned(), view)];
            RunStatus { ledger, sinks: sinks.into(), ..RunStatus::default() }
        };
        assert_eq!(undelivered(&run(7, 2, 0), &run(0, 2, 0)), "");
        assert_eq!(undelivered(&run(7, 2, 0), &run(0, 3, 0)), " 1 row that it held went undelivered.");
        assert_eq!(undelivered(&run(7, 2, 0), &run(4, 3, 0)), " 5 rows that it held went undelivered.");
        assert_eq!(sentence("the session is there"), " The session is there.");
        let (home, host) = host();
        let rule = r#"{"id":"r","sql":"SELECT * FROM s","options":{"deadLetter":{"file":{"path":"d.jsonl"}}},
            "actions":[{"nop":{"deadLetter":{"mqtt":{"server":"tcp://h","topic":"t"}}}},{"log":{}}]}"#;
        let (def, _) = Def::parse(rule, None, &serde_json::Map::new()).unwrap();
        assert_eq!(dead_letters(&host, &def, &run(0, 0, 0)), "");
        assert_eq!(
            dead_letters(&host, &def, &run(0, 0, 1)),
            " Its dead letters stay in `d.jsonl`. Its dead letters are where its `mqtt` sink has sent them."
        );
        drop(home);
    }
}
