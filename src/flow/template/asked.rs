//! Templates that come at run time, with values that are no rows of a rule.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Facts, Item, Template};
use crate::data::{Column, Layout, Value};
use crate::diag::{Fault, Result};

/// Templates that one thread keeps compiled; when there are more, all are compiled anew.
const KEPT: usize = 64;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Rc<Template>>> = RefCell::default();
}

/// What a template comes to for a row (an object) or several (an array of objects). A text that is none comes to itself.
///
/// # Errors
/// `Eval` for a template that cannot be compiled or evaluated, and for data that are no rows.
pub fn render(text: &str, data: &Value, facts: &Facts) -> Result<String> {
    if !Template::is_one(text) {
        return Ok(text.to_owned());
    }
    let template = compiled(text)?;
    let rows: Vec<[Value; 1]> = match data {
        Value::Object(_) => vec![[data.clone()]],
        Value::Array(all) if all.iter().all(|one| matches!(one, Value::Object(_))) => {
            all.iter().map(|one| [one.clone()]).collect()
        }
        _ => return Err(Fault::eval("a template needs a row, or a list of rows")),
    };
    let layout = Layout::new(vec![Column { name: "*".into(), spread: true }]);
    let lent: Vec<&[Value]> = rows.iter().map(|row| row.as_slice()).collect();
    template.render(&Item::new(&layout, &lent, matches!(data, Value::Object(_))), facts)
}

fn compiled(text: &str) -> Result<Rc<Template>> {
    COMPILED.with_borrow_mut(|kept| {
        if let Some(template) = kept.get(text) {
            return Ok(template.clone());
        }
        let template = Template::compile(text).map_err(|wrong| Fault::eval(format!("template: {wrong}")))?;
        if kept.len() >= KEPT {
            kept.clear();
        }
        Ok(kept.entry(text.to_owned()).or_insert_with(|| Rc::new(template)).clone())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::clock::Clock;
    use crate::data::{Object, Time};

    #[test]
    fn rows_and_lists_of_rows() {
        let facts = Facts::new(Clock::stopped_at(Time(0)), TimeZone::UTC, Default::default());
        let row = |n| Value::object(Object::from_iter([("n", Value::Int(n)), ("room", Value::text("hall"))]));
        let rendered = |text, data: &Value| render(text, data, &facts);
        assert_eq!(rendered("{{.room}}/{{.n}}", &row(7)).unwrap(), "hall/7");
        assert_eq!(rendered("plain", &Value::Null).unwrap(), "plain");
        let list = Value::array(vec![row(1), row(2)]);
        assert_eq!(rendered("{{range .}}{{.n}};{{end}}", &list).unwrap(), "1;2;");
        assert_eq!(rendered("{{add 1 .n}}", &row(2)).unwrap(), "3");
        assert!(rendered("{{.n", &row(2)).is_ok(), "this is no template");
        assert!(rendered("{{nope .n}}", &row(2)).is_err());
        assert!(rendered("{{.n}}", &Value::Int(1)).is_err());
    }
}
