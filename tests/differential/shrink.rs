//! Makes a rule that differs smaller, as long as it still differs in the same way.

use kuiper::data::Object;
use kuiper::sql::{Expr, Select, Statement, parse_select, print_statement};

use super::analytic::expressions;
use super::case::{Case, Expected, product};
use super::evaluate::evaluate;

/// A rule that differs: what was expected, and what the runner says.
pub struct Found {
    pub case: Case,
    pub expected: Expected,
    pub why: String,
}

/// Runs a case on both sides; nothing where they agree or where the case is no test.
pub fn differs(case: &Case) -> Option<Found> {
    parse_select(&case.sql).ok()?;
    let expected = evaluate(case).ok()?;
    let why = product(&[(case, &expected)]).pop().flatten()?;
    Some(Found { case: case.clone(), expected, why })
}

/// A rule that is refused must not become one that differs otherwise.
fn kind(why: &str) -> &'static str {
    match why {
        _ if why.contains("the rule was refused") => "refused",
        _ if why.contains("ledger") && !why.contains("differs:") => "ledger",
        _ => "differs",
    }
}

/// The smallest that is found in so many steps.
pub fn shrink(found: Found, mut steps: usize) -> Found {
    let mut best = found;
    'again: loop {
        for smaller in candidates(&best.case) {
            if steps == 0 {
                return best;
            }
            steps -= 1;
            if let Some(found) = differs(&smaller)
                && kind(&found.why) == kind(&best.why)
            {
                best = found;
                continue 'again;
            }
        }
        return best;
    }
}

fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let rows = case.rows.len();
    // Many rows at once first.
    for size in [rows / 2, rows / 4, 2, 1] {
        if size == 0 {
            continue;
        }
        for from in (0..rows).step_by(size) {
            let mut fewer = case.clone();
            fewer.rows.drain(from..(from + size).min(rows));
            all.push(fewer);
        }
    }
    for sql in statements(&case.sql) {
        all.push(Case { sql, ..case.clone() });
    }
    for n in 0..case.options.len() {
        // Without errors in the output less would be seen.
        if case.options[n].0 != "sendError" {
            let mut fewer = case.clone();
            fewer.options.remove(n);
            all.push(fewer);
        }
    }
    for n in 0..rows {
        let columns: Vec<_> = case.rows[n].data.keys().cloned().collect();
        for column in columns {
            let mut fewer = case.clone();
            fewer.rows[n].data = Object::from_iter(
                case.rows[n]
                    .data
                    .iter()
                    .filter(|(name, _)| **name != column)
                    .map(|(name, v)| (name.clone(), v.clone())),
            );
            all.push(fewer);
        }
    }
    all
}

/// The statement with something less in it.
fn statements(sql: &str) -> Vec<String> {
    let Ok(select) = parse_select(sql) else { return Vec::new() };
    let mut all = Vec::new();
    let mut less = |cut: &dyn Fn(&mut Select)| {
        let mut fewer = select.clone();
        cut(&mut fewer);
        if fewer != select && !fewer.fields.is_empty() {
            all.push(print_statement(&Statement::Select(Box::new(fewer))).replace('\n', " "));
        }
    };
    for n in 0..select.fields.len() {
        less(&|select| drop(select.fields.remove(n)));
        less(&|select| select.fields[n].invisible = false);
    }
    less(&|select| select.filter = None);
    less(&|select| select.having = None);
    less(&|select| select.limit = None);
    less(&|select| select.joins.clear());
    for n in 0..select.order.len() {
        less(&|select| drop(select.order.remove(n)));
        less(&|select| select.order[n].descending = false);
    }
    for n in 0..select.group.len() {
        less(&|select| drop(select.group.remove(n)));
    }
    for n in 0..select.windows.len() {
        less(&|select| select.windows[n].filter = None);
        less(&|select| select.windows[n].when = None);
        less(&|select| select.windows[n].partition.clear());
        less(&|select| drop(select.windows.remove(n)));
    }
    for (expr, _) in expressions(&select) {
        replaced(sql, expr, &mut all);
    }
    all
}

/// The text with a part of an expression in place of the whole of it.
fn replaced(sql: &str, expr: &Expr, all: &mut Vec<String>) {
    let text = |of: &Expr| &sql[of.span.start as usize..of.span.end as usize];
    let mut parts = Vec::new();
    expr.parts(&mut |part| parts.push(part));
    let mut put = |other: &str| {
        let with = format!("{}{other}{}", &sql[..expr.span.start as usize], &sql[expr.span.end as usize..]);
        if with.len() < sql.len() {
            all.push(with);
        }
    };
    for part in &parts {
        put(text(part));
    }
    if !parts.is_empty() {
        ["1", "true", "a"].into_iter().for_each(put);
    }
    for part in parts {
        replaced(sql, part, all);
    }
}
