//! Examples of functions, executed as a rule would: parsed, planned, and run by a chain over one row.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::data::cast::json;
use crate::data::{Batch, Object, Receipt, Time, Value};
use crate::diag::Diagnostic;
use crate::flow::{Book, Chain};
use crate::func::{Catalogue, RuleInfo};
use crate::plan::{self, Stream};
use crate::sql;

/// What the rule's clock shows.
const NOW: Time = Time(1_700_000_000_000);

/// Runs one example, `call` and its result as JSON; the error says what came out instead.
pub fn example(call: &str, expected: &str, catalogue: &Catalogue) -> Result<(), String> {
    let wanted = json::parse(expected.as_bytes()).map_err(|_| format!("its result `{expected}` is no JSON"))?;
    let found = result(call, catalogue).map_err(|why| format!("`{call}` fails: {why}"))?;
    let text = |value: &Value| json::text(value).unwrap_or_default();
    let same = match (found.as_f64(), wanted.as_f64()) {
        // The last digit of a float is the machine's.
        (Some(found), Some(wanted)) => (found - wanted).abs() <= 1e-9 * wanted.abs(),
        _ => text(&found) == text(&wanted),
    };
    if same { Ok(()) } else { Err(format!("`{call}` is {}, not {expected}", text(&found))) }
}

fn result(call: &str, catalogue: &Catalogue) -> Result<Value, String> {
    let told = |found: Vec<Diagnostic>| found.into_iter().map(|one| one.message).collect::<Vec<_>>().join("; ");
    let select = sql::parse_select(&format!("SELECT {call} AS r FROM s")).map_err(told)?;
    let find = |name: &str| (name == "s").then(|| Stream::schemaless(name));
    let plan = plan::plan(&select, &find, catalogue, &plan::Options::default()).map_err(told)?;
    let rule = RuleInfo { id: "example".into(), started: NOW, ..RuleInfo::nowhere() };
    let account = Arc::new(Book::default()).account();
    let mut chain =
        Chain::build(&plan, Arc::new(rule), &TimeZone::UTC, NOW, account).map_err(|fault| fault.to_string())?;
    let mut batch = Batch::new(plan.width);
    plan.sources[0].wanted.fill(Object::new(), batch.push(NOW, Receipt::none()));
    let mut out = Vec::new();
    chain.push(0, batch, NOW, &mut out).map_err(|fault| fault.to_string())?;
    let batch = out.pop().ok_or("no row comes out")?;
    let [row] = batch.selected() else {
        return Err(batch.faults().iter().map(|(_, fault)| fault.to_string()).collect());
    };
    Ok(plan.layout.object(batch.row(*row as usize)).get("r").cloned().unwrap_or(Value::Null))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn examples_hold_or_say_what_came_out() {
        let all = Catalogue::default();
        assert_eq!(example("upper('a')", "\"A\"", &all), Ok(()));
        assert_eq!(example("upper('a')", "\"B\"", &all), Err("`upper('a')` is \"A\", not \"B\"".into()));
        assert!(example("nope()", "1", &all).unwrap_err().starts_with("`nope()` fails: "));
        assert!(example("upper('a'", "1", &all).unwrap_err().starts_with("`upper('a'` fails: "));
        assert_eq!(example("upper('a')", "A", &all), Err("its result `A` is no JSON".into()));
    }
}
