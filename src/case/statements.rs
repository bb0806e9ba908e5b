//! Statements without a rule that runs: lists of what parses, plans that can or cannot be made, definitions.

use std::sync::Arc;

use serde_json::Map;

use crate::catalog::{Catalog, Command};
use crate::diag::{self, Diagnostic};
use crate::func::Catalogue;
use crate::plan::{self, Stream};
use crate::sql::{self, Statement as Tree};
use crate::store::Store;

use super::engine::Refusal;
use super::options::Options;
use super::report::diff;
use super::suite::Settings;
use super::table::{PlanCase, Statement};

/// The statement must parse, and its function calls must be right.
pub(super) fn accepted(text: &str) -> Result<(), String> {
    check(text).map_err(|found| format!("the statement is refused:\n{}", diag::render_all(&found, "sql", text)))
}

/// The statement must be refused.
pub(super) fn refused(text: &str, message: &str, settings: &Settings) -> Result<(), String> {
    match check(text) {
        Ok(()) => Err("the statement is accepted, and must be refused".to_string()),
        Err(found) if settings.error_text && !found.iter().any(|one| one.message == message) => {
            let all: Vec<_> = found.iter().map(|one| one.message.as_str()).collect();
            Err(format!("the message `{message}` expected, found `{}`", all.join("`, `")))
        }
        Err(_) => Ok(()),
    }
}

/// Parses, and checks what does not need the streams.
fn check(text: &str) -> Result<(), Vec<Diagnostic>> {
    let Tree::Select(select) = sql::parse(text)? else { return Ok(()) };
    let found = plan::check_calls(&select, &Catalogue::default());
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Whether a rule with that statement can be created.
pub(super) fn plan(case: &PlanCase, settings: &Settings) -> Result<(), String> {
    let outcome = try_plan(case)?;
    match (case.ok, outcome) {
        (true, Ok(())) => Ok(()),
        (true, Err(why)) => Err(format!("the statement is refused:\n{why}")),
        (false, Ok(())) => Err("the statement is accepted, and must be refused".to_string()),
        (false, Err(why)) => match &case.message {
            Some(message) if settings.error_text && !why.contains(message.as_str()) => {
                Err(format!("the message `{message}` expected, found\n{why}"))
            }
            _ => Ok(()),
        },
    }
}

fn try_plan(case: &PlanCase) -> Result<Result<(), String>, String> {
    let options = match Options::read(&case.options, &Map::new()) {
        Ok(options) => options,
        Err(Refusal::Refused(why)) => return Ok(Err(why)),
        Err(Refusal::Unknown(why)) => return Err(why),
    };
    let mut streams = Vec::new();
    for text in &case.streams {
        match sql::parse(text) {
            Ok(Tree::Create(create)) => streams.push(Stream::of(&create)),
            Ok(_) => return Err(format!("`{text}` is no CREATE statement")),
            Err(found) => return Ok(Err(diag::render_all(&found, "sql", text))),
        }
    }
    let find = |name: &str| streams.iter().find(|stream| stream.name == name).cloned();
    let planned = sql::parse_select(&case.sql)
        .and_then(|select| plan::plan(&select, &find, &Catalogue::default(), &options.plan));
    Ok(planned.map(drop).map_err(|found| diag::render_all(&found, "sql", &case.sql)))
}

/// Runs statements about definitions in order, against an empty server.
pub(super) fn steps(steps: &[Statement], settings: &Settings) -> Vec<Result<(), String>> {
    let opened = Store::temporary().and_then(|store| Catalog::open(Arc::new(store)));
    let catalog = match opened {
        Ok((catalog, _)) => catalog,
        Err(fault) => return steps.iter().map(|_| Err(fault.to_string())).collect(),
    };
    steps.iter().map(|step| one_step(&catalog, step, settings)).collect()
}

fn one_step(catalog: &Catalog, step: &Statement, settings: &Settings) -> Result<(), String> {
    let came = Command::parse(&step.text).and_then(|command| match (&step.replace, command) {
        (Some(name), Command::Create(definition)) => catalog.replace(definition.what, name, *definition),
        (_, command) => catalog.run(command),
    });
    match (&step.answer, came) {
        (Ok(lines), Ok(answer)) => {
            let found: Vec<String> = answer.lines().map(|line| line.trim_end().to_string()).collect();
            let wanted: Vec<String> =
                lines.iter().flat_map(|line| line.lines()).map(|line| line.trim_end().to_string()).collect();
            let blank = |line: &&String| !line.is_empty();
            if found.iter().filter(blank).eq(wanted.iter().filter(blank)) {
                Ok(())
            } else {
                Err(format!("the answer differs\n{}", diff(&wanted, &found)))
            }
        }
        (Ok(_), Err(why)) => Err(format!("the statement is refused:\n{why}")),
        (Err(_), Ok(answer)) => Err(format!("the statement must be refused, and was answered `{answer}`")),
        (Err(text), Err(why)) if settings.error_text && why.to_string() != *text => {
            Err(format!("the error `{text}` expected, found `{why}`"))
        }
        (Err(_), Err(_)) => Ok(()),
    }
}
