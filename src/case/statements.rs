//! Statements without a rule that runs: lists of what parses, plans that can or cannot be made, definitions.

use std::sync::Arc;

use serde_json::Map;

use crate::catalog::{Catalog, Command};
use crate::diag::{self, Diagnostic, Span};
use crate::expr::argument;
use crate::func::{Body, Catalogue, check_call};
use crate::plan::{self, Stream};
use crate::sql::{self, Expr, ExprNode, Select, Statement as Tree};
use crate::store::Store;

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

/// Codes of findings about calls: windows, unknown functions, arguments, clauses behind a call. The other findings of
/// the planner are about streams, or about what this version does not have, and lists of statements do not ask for them.
const CALLS: &[&str] =
    &["K0209", "K0210", "K0211", "K0212", "K0213", "K0215", "K0224", "K0241", "K0242", "K0243", "K0244"];

/// Parses, and checks what does not need the streams.
fn check(text: &str) -> Result<(), Vec<Diagnostic>> {
    let Tree::Select(select) = sql::parse(text)? else { return Ok(()) };
    let mut found = plan_over_anything(&select).err().unwrap_or_default();
    found.retain(|one| CALLS.contains(&one.code));
    // The planner gives up early where it meets a clause that it does not know, so calls are looked at here too.
    for expr in expressions(&select) {
        check_calls(expr, &mut found);
    }
    found.extend(
        select
            .group
            .iter()
            .filter_map(aggregate_in)
            .map(|span| Diagnostic::error("K0216", "an aggregate cannot stand in GROUP BY").at(span)),
    );
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// All expressions of a statement that stand on their own.
fn expressions(select: &Select) -> impl Iterator<Item = &Expr> {
    let windows = select
        .windows
        .iter()
        .flat_map(|window| window.args.iter().chain(&window.filter).chain(&window.when).chain(&window.partition));
    select
        .fields
        .iter()
        .map(|field| &field.expr)
        .chain(select.joins.iter().filter_map(|join| join.on.as_ref()))
        .chain(&select.filter)
        .chain(&select.group)
        .chain(windows)
        .chain(&select.having)
        .chain(select.order.iter().map(|sort| &sort.expr))
}

/// Adds what is wrong with the calls in an expression.
fn check_calls(expr: &Expr, found: &mut Vec<Diagnostic>) {
    if let ExprNode::Call(call) = &expr.node
        && let Some(func) = Catalogue::default().find(&call.name.name)
    {
        let args: Vec<_> = call.args.iter().map(argument).collect();
        if let Err(message) = check_call(func, &args) {
            found.push(Diagnostic::error("K0211", message).at(expr.span));
        }
    }
    expr.parts(&mut |part| check_calls(part, found));
}

/// Where an aggregate is called in the expression.
fn aggregate_in(expr: &Expr) -> Option<Span> {
    if let ExprNode::Call(call) = &expr.node
        && Catalogue::default().find(&call.name.name).is_some_and(|func| matches!(func.body, Body::Aggregate(_)))
    {
        return Some(expr.span);
    }
    let mut found = None;
    expr.parts(&mut |part| found = found.or_else(|| aggregate_in(part)));
    found
}

/// Plans a statement over streams of that name, whose columns are not known.
fn plan_over_anything(select: &Select) -> Result<(), Vec<Diagnostic>> {
    let find = |name: &str| Some(Stream::schemaless(name));
    plan::plan(select, &find, &Catalogue::default(), &plan::Options::default()).map(drop)
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
    let options = Options::read(&case.options, &Map::new())?;
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
            let wanted: Vec<String> = lines.iter().map(|line| line.trim_end().to_string()).collect();
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
