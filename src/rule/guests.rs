//! What the rules of a server use of plugins, by what their authors wrote.

use std::mem::discriminant;
use std::sync::Arc;

use super::life::Rule;
use super::{Def, Rules, State};
use crate::diag;
use crate::func::Catalogue;
use crate::options::Action;
use crate::plugin::{Kind, is_named};
use crate::sql::{self, ExprNode};

impl Rules {
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
