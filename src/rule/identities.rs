//! As whom the rules that run appear at the other side.
//!
//! A broker knows a client by its id, and gives the connection to the one that came last: two parts of rules with one
//! client id would throw each other off for ever. A file is written by one sink alone. Here stands who runs under which
//! [`Identity`]. Rules that read one shared stream have one connection together, and are no two.
//!
//! What was found is told, to who starts the second rule and in the health of both; it stops neither.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::diag::Diagnostic;
use crate::io::Identity;

/// A part of a rule that has a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Appearance {
    pub identity: Identity,
    pub part: Part,
}

/// What has the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A stream or table that the rule alone reads.
    Source(String),
    /// One that it shares with all rules that read it.
    Shared(String),
    /// A sink, by the name of its node; also one of dead letters, or of a queue.
    Sink(String),
}

impl Part {
    fn name(&self) -> String {
        match self {
            Part::Source(name) => format!("the source `{name}`"),
            Part::Shared(name) => format!("the shared stream `{name}`"),
            Part::Sink(name) => format!("the sink `{name}`"),
        }
    }
}

/// All that run.
#[derive(Default)]
pub struct Identities {
    /// By key: rule and part.
    all: Mutex<HashMap<String, Vec<(String, Part)>>>,
}

impl Identities {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Vec<(String, Part)>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule runs from now on.
    pub fn enter(&self, rule: &str, of: &[Appearance]) {
        let mut all = self.all();
        for Appearance { identity, part } in of {
            all.entry(identity.key.clone()).or_default().push((rule.to_owned(), part.clone()));
        }
    }

    /// It runs no more.
    pub fn leave(&self, rule: &str, of: &[Appearance]) {
        let mut all = self.all();
        for Appearance { identity, .. } in of {
            if let Some(who) = all.get_mut(&identity.key) {
                who.retain(|(other, _)| other != rule);
                if who.is_empty() {
                    all.remove(&identity.key);
                }
            }
        }
    }

    /// Whether a rule that runs has it.
    pub fn has(&self, key: &str) -> bool {
        self.all().contains_key(key)
    }

    /// Who else has an identity of this rule, as what its author is told, once for each identity.
    pub fn clashes(&self, rule: &str, of: &[Appearance]) -> Vec<Diagnostic> {
        if of.is_empty() {
            return Vec::new();
        }
        let all = self.all();
        let mut found = Vec::new();
        for (place, Appearance { identity, part }) in of.iter().enumerate() {
            if of.iter().take(place).any(|before| before.identity.key == identity.key) {
                continue;
            }
            // The rule may run or not: its own parts are taken from what is asked about.
            let own = of.iter().skip(place + 1).filter(|other| other.identity.key == identity.key);
            let own = own.map(|other| (rule, &other.part));
            let others = all.get(&identity.key).into_iter().flatten();
            let others = others.filter(|(other, _)| other != rule).map(|(other, part)| (other.as_str(), part));
            let rivals: Vec<_> = own.chain(others).filter(|(_, other)| !is_one(part, other)).collect();
            if let Some((first, rest)) = rivals.split_first() {
                found.push(told(rule, identity, part, *first, rest.len()));
            }
        }
        found
    }
}

/// Whether two parts have one connection.
fn is_one(one: &Part, other: &Part) -> bool {
    matches!((one, other), (Part::Shared(_), Part::Shared(_))) && one == other
}

fn told(rule: &str, identity: &Identity, part: &Part, (other, theirs): (&str, &Part), more: usize) -> Diagnostic {
    let whose = if other == rule { "of the same rule".to_owned() } else { format!("of rule `{other}`") };
    let more = match more {
        0 => String::new(),
        1 => " and one more".to_owned(),
        more => format!(" and {more} more"),
    };
    let (part, Identity { name, property, rivalry, .. }) = (part.name(), identity);
    let theirs_name = theirs.name();
    let text = format!("{part} has the {name}, and so has {theirs_name} {whose}{more}: {rivalry}");
    let help = match theirs {
        // One stream for two rules, each with a connection.
        Part::Source(name) if theirs_name == part => {
            format!("make the stream `{name}` with `SHARED=\"true\"`, or leave its `{property}` out")
        }
        _ => format!("give each its own `{property}`"),
    };
    Diagnostic::warning("K0918", text).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(part: Part, key: &str) -> Appearance {
        let name = format!("client id `{key}` at `tcp://h:1883`");
        let rivalry = "there is room for one";
        Appearance { identity: Identity { key: key.into(), name, property: "clientid", rivalry, lasts: false }, part }
    }

    #[test]
    fn whoever_has_the_same_identity_is_named() {
        let (all, source) = (Identities::default(), |name: &str| Part::Source(name.into()));
        let sink = Part::Sink("mqtt_0".into());
        let one = [of(source("s"), "x"), of(sink.clone(), "y")];
        assert!(all.clashes("one", &one).is_empty());
        all.enter("one", &one);
        assert!(all.clashes("one", &one).is_empty(), "a rule that is started again is no other");
        let told = |rule: &str, of: &[Appearance]| -> Vec<String> {
            all.clashes(rule, of).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            told("two", &[of(source("s"), "x")]),
            [
                "the source `s` has the client id `x` at `tcp://h:1883`, and so has the source `s` of rule `one`: there is \
              room for one (make the stream `s` with `SHARED=\"true\"`, or leave its `clientid` out)"
            ]
        );
        let found = told("two", &[of(source("t"), "y")]);
        assert!(found[0].contains("so has the sink `mqtt_0` of rule `one`: "), "{found:?}");
        assert!(found[0].ends_with("(give each its own `clientid`)"), "{found:?}");
        let found = told("two", &[of(source("t"), "z"), of(sink, "z")]);
        assert!(found.len() == 1 && found[0].contains("so has the sink `mqtt_0` of the same rule: "), "{found:?}");
        all.enter("two", &[of(source("t"), "x")]);
        assert!(told("three", &[of(source("u"), "x")])[0].contains(" of rule `one` and one more: "));
        all.leave("one", &one);
        all.leave("two", &[of(source("t"), "x")]);
        assert!(told("three", &one).is_empty() && all.all().is_empty());
    }

    #[test]
    fn rules_of_one_shared_stream_have_one_connection() {
        let (all, shared) = (Identities::default(), [of(Part::Shared("s".into()), "x")]);
        all.enter("one", &shared);
        assert!(all.clashes("two", &shared).is_empty());
        assert_eq!(all.clashes("two", &[of(Part::Shared("t".into()), "x")]).len(), 1);
        assert_eq!(all.clashes("two", &[of(Part::Source("s".into()), "x")]).len(), 1);
    }
}
