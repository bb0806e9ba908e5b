//! What the rules of a server use of plugins, by what their authors wrote, and what came of it: a rule for which a plugin
//! in this process was called when the server died is named, and held back when that has happened too often.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use super::life::Rule;
use super::{Def, Host, Rules, State};
use crate::clock::Time;
use crate::diag;
use crate::func::Catalogue;
use crate::options::Action;
use crate::plugin::{Died, Kind, is_named};
use crate::sql::{self, ExprNode};

/// A rule that has run for so long has overcome what the server died of.
const LASTING: Duration = Duration::from_secs(600);

/// How often the server died while a plugin was called for a rule, or for a stream or table that it shares with others.
pub(super) fn died(host: &Host, def: &Def) -> Option<Died> {
    let deaths = host.plugins.deaths();
    if deaths.is_empty() { None } else { deaths.of(|died| concerns(host, def, died)) }
}

/// Nothing that the server died of is held against the rule any more.
pub(super) fn forgive(host: &Host, def: &Def) {
    let deaths = host.plugins.deaths();
    if !deaths.is_empty() {
        deaths.forgive(|died| concerns(host, def, died));
    }
}

fn concerns(host: &Host, def: &Def, died: &Died) -> bool {
    let shares = |name: &String| {
        let found = host.catalog.find(name).filter(|one| one.options.shared || one.is_lookup());
        *name == died.owner
            && died.kind == Some(Kind::Sources)
            && found.is_some_and(|one| is_named(&died.plugin, one.connector()))
    };
    died.owner == def.id || super::rules::reads(def).iter().any(shares)
}

impl Rules {
    /// Has a rule that is to run stay as it is, where the server died of it too often.
    pub(super) fn holds_back(&self, rule: &Rule) -> bool {
        let Some(died) = died(self.host(), &rule.def()).filter(Died::holds) else { return false };
        let message = format!(
            "{}; `kuiper rule start {}` tries once more, and with `isolation: process` the plugin ends its own process only",
            died.told(),
            rule.id
        );
        tracing::error!(rule = rule.id, "the rule is not started: {message}");
        rule.set_state(State::Stopped, message);
        true
    }

    /// Forgives rules that run, and have done so for long.
    pub(super) fn forgive_lasting(&self, now: Time) {
        if self.host().plugins.deaths().is_empty() {
            return;
        }
        for rule in self.all().iter().filter(|rule| rule.runs_since().is_some_and(|since| now.since(since) >= LASTING))
        {
            forgive(self.host(), &rule.def());
        }
    }

    /// The rules that run and use a plugin, by id.
    pub fn users(&self, kind: Kind, plugin: &str) -> Vec<String> {
        let host = self.host();
        let is_it = |name: &str| is_named(plugin, name);
        let uses = |def: &Def| match kind {
            Kind::Sinks => sinks(def).iter().any(|action| is_it(&action.sink)),
            Kind::Sources => {
                let connector = |stream: &String| host.catalog.find(stream).is_some_and(|one| is_it(one.connector()));
                super::rules::reads(def).iter().any(connector)
            }
            Kind::Functions => {
                let offered = host.plugins.describe(kind, plugin).map_or_else(|_| Vec::new(), |found| found.functions);
                calls(def).iter().any(|name| offered.contains(name))
            }
        };
        self.running().iter().filter(|rule| uses(&rule.def())).map(|rule| rule.id.clone()).collect()
    }

    /// What rules that run have against functions that are to take the place of those of a plugin.
    ///
    /// # Errors
    /// A sentence that names the rule.
    pub fn judge(&self, plugin: &str, functions: &Catalogue) -> Result<(), String> {
        let (host, before) = (self.host(), self.host().functions());
        let offered =
            host.plugins.describe(Kind::Functions, plugin).map_or_else(|_| Vec::new(), |found| found.functions);
        for rule in self.running() {
            let def = rule.def();
            let called: Vec<String> = calls(&def).into_iter().filter(|name| offered.contains(name)).collect();
            if called.is_empty() {
                continue;
            }
            let wrong = |text: &str| format!("the rule `{}` cannot go on with it: {text}", rule.id);
            for name in &called {
                if let (Some(old), Some(new)) = (before.find(name), functions.find(name))
                    && discriminant(&old.body) != discriminant(&new.body)
                {
                    return Err(wrong(&format!(
                        "`{name}` takes rows one by one in one version, and a group in the other"
                    )));
                }
            }
            let fits = self.engine().fits(&def, host, functions);
            fits.map_err(|found| wrong(&diag::render_known(&found, "sql", &def.sql)))?;
        }
        Ok(())
    }

    fn running(&self) -> Vec<Arc<Rule>> {
        let runs = |rule: &Arc<Rule>| matches!(rule.state(), State::Running | State::Starting | State::Stopping);
        self.all().into_iter().filter(runs).collect()
    }
}

/// All sinks of a rule, those of dead letters too.
fn sinks(def: &Def) -> Vec<&Action> {
    let dead = def.actions.iter().filter_map(|action| action.dead.as_deref());
    def.actions.iter().chain(dead).chain(&def.options.dead_letter).collect()
}

/// The functions that a rule calls, as written.
fn calls(def: &Def) -> Vec<String> {
    let Ok(select) = sql::parse_select(&def.sql) else { return Vec::new() };
    let mut names = Vec::new();
    select.each(&mut |expr| {
        if let ExprNode::Call(call) = &expr.node {
            names.push(call.name.name.to_string());
        }
    });
    names
}
