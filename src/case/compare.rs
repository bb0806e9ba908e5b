//! Whether what came out is what was expected.
//!
//! [`Compare`] holds the rules of a case; [`Compare::emissions`] and [`Compare::values`] apply them and say in a few
//! words where the two sides differ.

use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

use crate::data::{Object, Time, Value};

use super::fields::{Fields, Read, kind};
use super::rule::{Want, WantBody};
use super::value::{of_json, show, show_object};

/// What a sink was given in one hand-over. A sink that writes messages has `sent` and, where the message was made of
/// rows, those too.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Emission {
    pub at: Time,
    pub rows: Option<Vec<Object>>,
    pub sent: Option<Vec<u8>>,
    pub error: Option<String>,
}

/// Which order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Exact,
    /// Rows of an emission in any order.
    Rows,
    /// Emissions in any order too.
    Any,
}

/// The rules of comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compare {
    pub order: Order,
    /// An integer and a float differ.
    pub typed: bool,
    /// Relative tolerance where at least one side is a float.
    pub float: f64,
    pub error_text: bool,
    /// Rows without a column do not count.
    pub ignore_empty_rows: bool,
    /// Emissions of no rows after the last one listed count.
    pub keep_trailing_empty: bool,
    /// A row may have more columns than listed.
    pub allow_extra_columns: bool,
}

impl Default for Compare {
    fn default() -> Self {
        Compare {
            order: Order::Exact,
            typed: false,
            float: 1e-9,
            error_text: false,
            ignore_empty_rows: false,
            keep_trailing_empty: false,
            allow_extra_columns: false,
        }
    }
}

/// The first place where the two sides differ.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    /// Which of the expected and which of the emissions; either is `None` where that side has no more.
    pub want: Option<usize>,
    pub got: Option<usize>,
    pub why: String,
}

type Same = Result<(), String>;

impl Compare {
    pub fn read(yaml: Yaml) -> Read<Compare> {
        let mut fields = Fields::of("compare", yaml)?;
        let mut rules = Compare::default();
        if let Some(order) =
            fields.word("order", &[("exact", Order::Exact), ("rows", Order::Rows), ("any", Order::Any)])?
        {
            rules.order = order;
        }
        if let Some(typed) = fields.word("numbers", &[("value", false), ("typed", true)])? {
            rules.typed = typed;
        }
        match fields.take("float") {
            None | Some(Yaml::Null) => {}
            Some(Yaml::Number(number)) if number.as_f64().is_some_and(|float| float >= 0.0) => {
                rules.float = number.as_f64().unwrap_or_default();
            }
            Some(other) => return fields.wrong("float", format!("must be a tolerance, found {}", kind(&other))),
        }
        rules.error_text = fields.flag("error_text")?.unwrap_or(false);
        if let Some(ignore) = fields.word("empty_rows", &[("keep", false), ("ignore", true)])? {
            rules.ignore_empty_rows = ignore;
        }
        if let Some(keep) = fields.word("trailing_empty", &[("ignore", false), ("keep", true)])? {
            rules.keep_trailing_empty = keep;
        }
        if let Some(allow) = fields.word("extra_columns", &[("refuse", false), ("ignore", true)])? {
            rules.allow_extra_columns = allow;
        }
        fields.end()?;
        Ok(rules)
    }

    /// Compares all that a sink was given with what was expected of it.
    pub fn emissions(&self, wants: &[Want], got: &[Emission]) -> Result<(), Difference> {
        let mut wanted: Vec<usize> = (0..wants.len()).collect();
        let mut given: Vec<usize> = (0..got.len()).collect();
        if self.ignore_empty_rows {
            wanted.retain(|n| !matches!(&wants[*n].body, WantBody::Rows(rows) if only_empty(rows)));
            given.retain(|n| !got[*n].rows.as_ref().is_some_and(|rows| only_empty(rows)));
        }
        if !self.keep_trailing_empty {
            while given.len() > wanted.len() && given.last().is_some_and(|n| is_no_rows(&got[*n])) {
                given.pop();
            }
        }
        if self.order == Order::Any {
            return self.any_order(wants, &wanted, got, &given);
        }
        for n in 0..wanted.len().max(given.len()) {
            let (want, emission) = (wanted.get(n).copied(), given.get(n).copied());
            let why = match (want, emission) {
                (Some(want), Some(emission)) => match self.emission(&wants[want], &got[emission]) {
                    Ok(()) => continue,
                    Err(why) => why,
                },
                (Some(_), None) => "nothing more came out".to_string(),
                (None, _) => "nothing more was expected".to_string(),
            };
            return Err(Difference { want, got: emission, why });
        }
        Ok(())
    }

    fn any_order(&self, wants: &[Want], wanted: &[usize], got: &[Emission], given: &[usize]) -> Result<(), Difference> {
        let matched = pair(wanted.len(), given.len(), |w, g| self.emission(&wants[wanted[w]], &got[given[g]]).is_ok());
        if let Some(w) = matched.iter().position(Option::is_none) {
            return Err(Difference { want: Some(wanted[w]), got: None, why: "no emission is like this".to_string() });
        }
        match (0..given.len()).find(|g| !matched.contains(&Some(*g))) {
            Some(g) => {
                Err(Difference { want: None, got: Some(given[g]), why: "no such emission was expected".to_string() })
            }
            None => Ok(()),
        }
    }

    fn emission(&self, want: &Want, got: &Emission) -> Same {
        if let Some(at) = want.at
            && at != got.at
        {
            return Err(format!("it was expected at {}, and came at {}", at.0, got.at.0));
        }
        match &want.body {
            WantBody::Error(text) => match &got.error {
                Some(error) if self.error_text && error != text => Err("the texts of the error differ".to_string()),
                Some(_) => Ok(()),
                None => Err("an error was expected".to_string()),
            },
            _ if got.error.is_some() => Err("an error came out".to_string()),
            WantBody::Rows(rows) => match &got.rows {
                Some(found) => self.rows(rows, found),
                None => Err("rows were expected, and a message came out".to_string()),
            },
            WantBody::Bytes(bytes) => match &got.sent {
                Some(sent) if sent == bytes => Ok(()),
                Some(_) => Err("the bytes differ".to_string()),
                None => Err("a message was expected, and rows came out".to_string()),
            },
            WantBody::Text(text) => match &got.sent {
                Some(sent) => self.text(text, sent),
                None => Err("a message was expected, and rows came out".to_string()),
            },
        }
    }

    fn text(&self, want: &str, sent: &[u8]) -> Same {
        if want.as_bytes() == sent {
            return Ok(());
        }
        match (serde_json::from_str::<Json>(want), serde_json::from_slice::<Json>(sent)) {
            (Ok(want), Ok(sent)) => self.values(&of_json(&want), &of_json(&sent)),
            (Ok(_), Err(_)) => Err("JSON was expected".to_string()),
            (Err(_), _) => Err("the texts differ".to_string()),
        }
    }

    fn rows(&self, want: &[Object], got: &[Object]) -> Same {
        let kept = |rows: &[Object]| -> Vec<usize> {
            (0..rows.len()).filter(|n| !(self.ignore_empty_rows && rows[*n].is_empty())).collect()
        };
        let (wanted, given) = (kept(want), kept(got));
        if wanted.len() != given.len() {
            return Err(format!("{} expected, and {} came out", count(wanted.len(), "row"), count(given.len(), "row")));
        }
        if self.order == Order::Exact {
            for (n, (w, g)) in wanted.iter().zip(&given).enumerate() {
                self.row(&want[*w], &got[*g]).map_err(|why| format!("row {}: {why}", n + 1))?;
            }
            return Ok(());
        }
        let matched = pair(wanted.len(), given.len(), |w, g| self.row(&want[wanted[w]], &got[given[g]]).is_ok());
        match matched.iter().position(Option::is_none) {
            Some(w) => Err(format!("no row is like {}", show_object(&want[wanted[w]]))),
            None => Ok(()),
        }
    }

    fn row(&self, want: &Object, got: &Object) -> Same {
        self.objects(want, got, self.allow_extra_columns)
    }

    fn objects(&self, want: &Object, got: &Object, allow_extra: bool) -> Same {
        for (name, value) in want.iter() {
            match got.get(name) {
                Some(found) => self.values(value, found).map_err(|why| format!("`{name}`: {why}"))?,
                None => return Err(format!("`{name}` is not there")),
            }
        }
        match got.keys().find(|name| !want.contains(name)) {
            Some(name) if !allow_extra => Err(format!("`{name}` was not expected")),
            _ => Ok(()),
        }
    }

    /// Compares two values deeply.
    pub fn values(&self, want: &Value, got: &Value) -> Same {
        let same = match (want, got) {
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => self.near(*a, *b),
            (Value::Int(a), Value::Float(b)) if !self.typed => self.near(*a as f64, *b),
            (Value::Float(a), Value::Int(b)) if !self.typed => self.near(*a, *b as f64),
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    return Err(format!(
                        "{} expected, and {} came out",
                        count(a.len(), "item"),
                        count(b.len(), "item")
                    ));
                }
                for (n, (a, b)) in a.iter().zip(b.iter()).enumerate() {
                    self.values(a, b).map_err(|why| format!("[{n}]: {why}"))?;
                }
                true
            }
            (Value::Object(a), Value::Object(b)) => return self.objects(a, b, false),
            (a, b) => a == b,
        };
        if same { Ok(()) } else { Err(format!("{} expected, {} came out", show(want), show(got))) }
    }

    /// Compares two lists whose order does not count.
    pub fn unordered(&self, want: &Value, got: &Value) -> Same {
        let (Value::Array(a), Value::Array(b)) = (want, got) else { return self.values(want, got) };
        let matched = pair(a.len(), b.len(), |w, g| self.values(&a[w], &b[g]).is_ok());
        if a.len() == b.len() && matched.iter().all(Option::is_some) {
            Ok(())
        } else {
            Err(format!("{} expected in any order, {} came out", show(want), show(got)))
        }
    }

    fn near(&self, a: f64, b: f64) -> bool {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= self.float * a.abs().max(b.abs()) && (a - b).is_finite()
    }
}

fn only_empty(rows: &[Object]) -> bool {
    !rows.is_empty() && rows.iter().all(Object::is_empty)
}

fn is_no_rows(emission: &Emission) -> bool {
    emission.error.is_none() && emission.rows.as_ref().is_some_and(Vec::is_empty)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Pairs as many of the left with one of the right each as can be, by augmenting paths: where a left one likes several
/// right ones, none of them is taken from another left one that likes only that. In order is tried first.
fn pair(left: usize, right: usize, like: impl Fn(usize, usize) -> bool) -> Vec<Option<usize>> {
    let mut of_right: Vec<Option<usize>> = vec![None; right];
    for start in 0..left {
        // The path is walked with a stack of its own, since thousands of rows would be too deep for calls.
        let mut tried = vec![false; right];
        let mut path: Vec<(usize, usize, Option<usize>)> = vec![(start, 0, None)];
        while let Some((l, step, _)) = path.last().copied() {
            if step > right {
                path.pop();
                continue;
            }
            // Step 0 asks for the same place, the rest go through all.
            let r = if step == 0 { l } else { step - 1 };
            if let Some(top) = path.last_mut() {
                top.1 += 1;
            }
            if r >= right || tried[r] || !like(l, r) {
                continue;
            }
            tried[r] = true;
            if let Some(top) = path.last_mut() {
                top.2 = Some(r);
            }
            match of_right[r] {
                Some(other) => path.push((other, 0, None)),
                None => {
                    for (l, _, r) in path.drain(..) {
                        if let Some(r) = r {
                            of_right[r] = Some(l);
                        }
                    }
                }
            }
        }
    }
    let mut of_left = vec![None; left];
    for (r, l) in of_right.iter().enumerate() {
        if let Some(l) = l {
            of_left[*l] = Some(r);
        }
    }
    of_left
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::value::object;
    use super::*;

    fn row(text: &str) -> Object {
        object("row", &serde_yaml::from_str(text).unwrap()).unwrap()
    }

    fn want(rows: &[&str]) -> Want {
        Want { at: None, body: WantBody::Rows(rows.iter().map(|text| row(text)).collect()) }
    }

    fn got(at: i64, rows: &[&str]) -> Emission {
        Emission { at: Time(at), rows: Some(rows.iter().map(|text| row(text)).collect()), ..Emission::default() }
    }

    fn why(rules: Compare, wants: &[Want], got: &[Emission]) -> String {
        rules.emissions(wants, got).err().map_or(String::new(), |found| found.why)
    }

    #[test]
    fn numbers_are_compared_by_value_or_by_type() {
        let rules = Compare::default();
        assert_eq!(why(rules, &[want(&["{a: 3}"])], &[got(1, &["{a: 3.0}"])]), "");
        assert_eq!(why(rules, &[want(&["{a: 3.0}"])], &[got(1, &["{a: 3.0000000001}"])]), "");
        assert_eq!(why(rules, &[want(&["{a: 3}"])], &[got(1, &["{a: 4}"])]), "row 1: `a`: 3 expected, 4 came out");
        let typed = Compare { typed: true, ..rules };
        assert_eq!(why(typed, &[want(&["{a: 3}"])], &[got(1, &["{a: 3.0}"])]), "row 1: `a`: 3 expected, 3.0 came out");
        assert_eq!(why(typed, &[want(&["{a: .nan, b: .inf}"])], &[got(1, &["{a: .nan, b: .inf}"])]), "");
        assert!(!why(rules, &[want(&["{b: .inf}"])], &[got(1, &["{b: 1e308}"])]).is_empty());
    }

    #[test]
    fn null_and_absent_differ() {
        let rules = Compare::default();
        assert_eq!(why(rules, &[want(&["{a: null}"])], &[got(1, &["{}"])]), "row 1: `a` is not there");
        assert_eq!(why(rules, &[want(&["{}"])], &[got(1, &["{a: null}"])]), "row 1: `a` was not expected");
        let open = Compare { allow_extra_columns: true, ..rules };
        assert_eq!(why(open, &[want(&["{}"])], &[got(1, &["{a: null}"])]), "");
        assert!(!why(open, &[want(&["{o: {}}"])], &[got(1, &["{o: {a: 1}}"])]).is_empty(), "extra columns, not keys");
    }

    #[test]
    fn order_may_be_left_open() {
        let (wants, given) = (vec![want(&["{a: 1}", "{a: 2}"])], vec![got(1, &["{a: 2}", "{a: 1}"])]);
        assert!(!why(Compare::default(), &wants, &given).is_empty());
        let rows = Compare { order: Order::Rows, ..Compare::default() };
        assert_eq!(why(rows, &wants, &given), "");
        let two = vec![want(&["{a: 1}"]), want(&["{a: 2}"])];
        let swapped = vec![got(1, &["{a: 2}"]), got(2, &["{a: 1}"])];
        assert!(!why(rows, &two, &swapped).is_empty());
        let any = Compare { order: Order::Any, ..Compare::default() };
        assert_eq!(why(any, &two, &swapped), "");
        assert_eq!(why(any, &two, &swapped[..1]), "no emission is like this");
        assert_eq!(why(any, &two[..1], &swapped), "no such emission was expected");
    }

    #[test]
    fn a_choosy_row_gets_its_only_match() {
        // The first expected row takes either; the second only what the first would take first.
        let rules = Compare { order: Order::Rows, allow_extra_columns: true, ..Compare::default() };
        assert_eq!(why(rules, &[want(&["{}", "{a: 1}"])], &[got(1, &["{a: 1}", "{b: 2}"])]), "");
        assert_eq!(pair(2, 2, |l, r| l == 0 || r == 0), [Some(1), Some(0)]);
        assert_eq!(pair(3, 3, |l, r| (l, r) != (2, 2) && (l, r) != (1, 1)).iter().flatten().count(), 3);
    }

    #[test]
    fn empty_emissions_count_in_the_middle_only() {
        let rules = Compare::default();
        let full = || want(&["{a: 1}"]);
        assert_eq!(why(rules, &[full()], &[got(1, &["{a: 1}"]), got(2, &[]), got(3, &[])]), "");
        assert!(!why(rules, &[full(), full()], &[got(1, &["{a: 1}"]), got(2, &[]), got(3, &["{a: 1}"])]).is_empty());
        assert_eq!(why(rules, &[full(), want(&[])], &[got(1, &["{a: 1}"]), got(2, &[]), got(3, &[])]), "");
        let keep = Compare { keep_trailing_empty: true, ..rules };
        assert_eq!(why(keep, &[full()], &[got(1, &["{a: 1}"]), got(2, &[])]), "nothing more was expected");
        let ignore = Compare { ignore_empty_rows: true, ..rules };
        assert_eq!(why(ignore, &[full()], &[got(1, &["{}"]), got(2, &["{}", "{a: 1}"])]), "");
        assert!(!why(rules, &[full()], &[got(1, &["{}"]), got(2, &["{a: 1}"])]).is_empty());
    }

    #[test]
    fn text_that_is_json_is_compared_as_json() {
        let rules = Compare::default();
        let sent = |text: &str| Emission { sent: Some(text.into()), ..Emission::default() };
        let text = |text: &str| Want { at: None, body: WantBody::Text(text.to_string()) };
        assert_eq!(why(rules, &[text(r#"{"a":1,"b":2}"#)], &[sent(r#"{ "b": 2, "a": 1.0 }"#)]), "");
        assert_eq!(why(rules, &[text("a,b")], &[sent("a,c")]), "the texts differ");
        assert_eq!(why(rules, &[text("[1]")], &[sent("[1")]), "JSON was expected");
    }

    #[test]
    fn errors_and_times_are_compared() {
        let error = |text: &str| Emission { error: Some(text.to_string()), ..Emission::default() };
        let wanted = || vec![Want { at: None, body: WantBody::Error("x".to_string()) }];
        assert_eq!(why(Compare::default(), &wanted(), &[error("y")]), "");
        let strict = Compare { error_text: true, ..Compare::default() };
        assert_eq!(why(strict, &wanted(), &[error("y")]), "the texts of the error differ");
        assert_eq!(why(strict, &[want(&[])], &[error("y")]), "an error came out");
        let at = Want { at: Some(Time(5)), ..want(&["{a: 1}"]) };
        assert_eq!(why(strict, &[at], &[got(6, &["{a: 1}"])]), "it was expected at 5, and came at 6");
    }
}
