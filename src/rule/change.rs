//! What becomes of the state of a rule that is changed: operators that do the same in both plans go on with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::engine::Step;
use super::{Def, Planned, Refused, Rules};
use crate::diag::Diagnostic;
use crate::flow::{carried, missing};

/// What a change keeps and what it does not, by the names that the operators have in the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// Operators of the new plan that go on with the state that there is.
    pub carried: Vec<String>,
    /// Operators of the new plan that begin anew.
    pub anew: Vec<String>,
    /// Operators of the old plan whose state has no place in the new one.
    pub lost: Vec<String>,
    /// Of these the rows that they hold, where they hold any. While the rule runs there may be more when it is changed.
    #[serde(rename = "lostRows")]
    pub rows: BTreeMap<String, u64>,
    /// Columns that rows which the old plan kept do not have, so that operators of the new plan begin anew.
    pub missing: Vec<String>,
    /// Rows in the input log whose results the sinks have not confirmed yet. As long as there are any, the rule can only
    /// be changed with `force`, which drops them.
    pub unconfirmed: u64,
}

impl Change {
    fn between(old: &[Step], new: &[Step], keeps: bool) -> Change {
        let does = |steps: &[Step]| steps.iter().map(|step| step.does.clone()).collect::<Vec<_>>();
        let pairs = if keeps { carried(&does(new), &does(old)) } else { Vec::new() };
        let names = |steps: &[Step], stays: &dyn Fn(usize) -> bool| -> Vec<String> {
            let kept = steps.iter().enumerate().filter(|(at, step)| step.keeps && stays(*at));
            kept.map(|(_, step)| step.name.clone()).collect()
        };
        let anew = new.iter().enumerate().filter(|(at, _)| keeps && !pairs.iter().any(|pair| pair.to == *at));
        let mut lacks: Vec<String> = anew.flat_map(|(_, step)| missing(&step.does, &does(old))).collect();
        lacks.sort();
        lacks.dedup();
        Change {
            carried: names(new, &|at| pairs.iter().any(|pair| pair.to == at)),
            anew: names(new, &|at| !pairs.iter().any(|pair| pair.to == at)),
            lost: names(old, &|at| !pairs.iter().any(|pair| pair.from == at)),
            missing: lacks,
            rows: BTreeMap::new(),
            unconfirmed: 0,
        }
    }

    /// `held` are the rows that each operator of the old plan holds.
    fn count(&mut self, old: &[Step], held: &[u64]) {
        let each = old.iter().zip(held).filter(|(step, rows)| **rows > 0 && self.lost.contains(&step.name));
        self.rows = each.map(|(step, rows)| (step.name.clone(), *rows)).collect();
    }

    /// What the author is told after the change.
    pub(super) fn warnings(&self) -> Vec<Diagnostic> {
        if self.lost.is_empty() {
            return Vec::new();
        }
        let why = match self.missing.as_slice() {
            [] => String::new(),
            columns => format!(": the rows in it do not have {}", listed(columns)),
        };
        let text = format!("the state of {} has no place in the changed rule, and is dropped{why}", listed(&self.lost));
        let help = "a dry run tells it before: `kuiper rule update --dry-run`";
        vec![Diagnostic::warning("K0915", text).help(help)]
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Rules {
    /// What a change of the rule would keep. Nothing is changed.
    pub async fn preview(&self, id: String, text: String) -> Result<Change, Refused> {
        let parsed = self.read_rule(&text, Some(&id));
        let (def, _) = parsed.map_err(|why| Refused::Invalid(format!("Invalid rule json: {why}")))?;
        let mut planned = self.plan(&def).map_err(Refused::Invalid)?;
        let rule = self.registered(&id)?;
        let old = rule.def();
        let mut change = self.change(&old, &def, planned.as_ref());
        let control = rule.control.lock().await;
        if !change.lost.is_empty()
            && let Ok(mut before) = self.plan(&old)
        {
            let held = match control.is_running() {
                true => control.held().await.unwrap_or_default(),
                false => before.held().await.map_err(Refused::Storage)?,
            };
            change.count(&before.steps(), &held);
        }
        // The log of a rule that runs is in use; what its sinks have not confirmed is known when it stops.
        if !control.is_running() && !change.is_nothing() {
            change.unconfirmed = planned.stranded().await.map_err(Refused::Storage)?.unwrap_or_default();
        }
        Ok(change)
    }

    /// What the state of a rule comes to. Without a journal on both sides nothing is carried.
    pub(super) fn change(&self, old: &Def, new: &Def, planned: &dyn Planned) -> Change {
        let Ok(before) = self.plan(old) else { return Change::default() };
        Change::between(&before.steps(), &planned.steps(), old.options.qos > 0 && new.options.qos > 0)
    }
}

impl Change {
    fn is_nothing(&self) -> bool {
        self.carried.is_empty() && self.anew.is_empty() && self.lost.is_empty()
    }
}

/// Why a rule is not changed now.
pub(super) fn stranded(id: &str, rows: u64) -> Refused {
    Refused::Invalid(format!(
        "rule {id} holds {rows} rows whose results its sinks have not confirmed, and the changed statement cannot give \
         them; wait until the sinks take them, or drop them with `force=true`"
    ))
}

/// Why a rule is not changed now whose shared stream would not give these rows again.
pub(super) fn under_way(id: &str, rows: u64) -> Refused {
    Refused::Invalid(format!(
        "rule {id} has {rows} rows on their way which its sinks have not confirmed, and its shared stream would not give \
         them again; wait until the sinks take them, or drop them with `force=true`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_that_do_the_same_keep_what_they_know() {
        let step = |name: &str, does: &str, keeps| Step { name: name.into(), does: does.into(), keeps };
        let old = [step("op_2_filter", "a > 1", false), step("op_3_window", "10 s", true), step("op_4_lag", "x", true)];
        let new = [step("op_2_window", "10 s", true), step("op_3_lag", "y", true), step("op_4_filter", "b", false)];
        let change = Change::between(&old, &new, true);
        assert_eq!(change.carried, ["op_2_window"]);
        assert_eq!((change.anew, change.lost), (vec!["op_3_lag".to_owned()], vec!["op_4_lag".to_owned()]));
        let change = Change::between(&old, &new, false);
        assert!(change.carried.is_empty() && change.lost.len() == 2);
        assert!(Change::between(&old, &old, true).warnings().is_empty());
    }
}
